/* i8042.c - see i8042.h.
 *
 *   keyboard --queue--> [translate] --\
 *                                      +--> output buffer (60h), status (64h), IRQ1 / IRQ12
 *   mouse -----queue------------------/
 *   controller's own answers ---------/
 *
 * One timer moves the next byte into the output buffer when the buffer is free and its device's
 * clock line is not held. A full queue drops bytes, as a device does whose host doesn't listen. */
#include "dev/i8042.h"

#include "base/trace.h"

#include <errno.h>
#include <string.h>

#define STATUS_OBF 0x01u
#define STATUS_SYSTEM 0x04u
#define STATUS_COMMAND 0x08u
#define STATUS_UNLOCKED 0x10u
#define STATUS_AUX 0x20u

#define MODE_KEYBOARD_INT 0x01u
#define MODE_AUX_INT 0x02u
#define MODE_SYSTEM 0x04u
#define MODE_KEYBOARD_OFF 0x10u
#define MODE_AUX_OFF 0x20u
#define MODE_TRANSLATE 0x40u

#define OUTPUT_NO_RESET 0x01u
#define OUTPUT_A20 0x02u

#define ACK 0xfau
#define RESEND 0xfeu
#define SELF_TEST_PASSED 0xaau

#define MOUSE_REPORTING 0x20u
#define MOUSE_SCALING 0x10u
#define MOUSE_REMOTE 0x40u

/* Between two bytes. The wire takes 0.7 to 1.1 ms; nobody needs it to be that slow. */
#define PACE_NS 300000u

/* Scan set 2 to scan set 1, as the 8042's program translates; codes above pass unchanged. */
static const uint8_t set2_to_set1[] = {
    0xff, 0x43, 0x41, 0x3f, 0x3d, 0x3b, 0x3c, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3e, 0x0f, 0x29,
    0x59, 0x65, 0x38, 0x2a, 0x70, 0x1d, 0x10, 0x02, 0x5a, 0x66, 0x71, 0x2c, 0x1f, 0x1e, 0x11,
    0x03, 0x5b, 0x67, 0x2e, 0x2d, 0x20, 0x12, 0x05, 0x04, 0x5c, 0x68, 0x39, 0x2f, 0x21, 0x14,
    0x13, 0x06, 0x5d, 0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5e, 0x6a, 0x72, 0x32, 0x24,
    0x16, 0x08, 0x09, 0x5f, 0x6b, 0x33, 0x25, 0x17, 0x18, 0x0b, 0x0a, 0x60, 0x6c, 0x34, 0x35,
    0x26, 0x27, 0x19, 0x0c, 0x61, 0x6d, 0x73, 0x28, 0x74, 0x1a, 0x0d, 0x62, 0x6e, 0x3a, 0x36,
    0x1c, 0x1b, 0x75, 0x2b, 0x63, 0x76, 0x55, 0x56, 0x77, 0x78, 0x79, 0x7a, 0x0e, 0x7b, 0x7c,
    0x4f, 0x7d, 0x4b, 0x47, 0x7e, 0x7f, 0x6f, 0x52, 0x53, 0x50, 0x4c, 0x4d, 0x48, 0x01, 0x45,
    0x57, 0x4e, 0x51, 0x4a, 0x37, 0x49, 0x46, 0x54, 0x80, 0x81, 0x82, 0x41, 0x54,
};

/* --- queues of the devices --- */

static void queue_put(struct ps2_queue *queue, uint8_t byte)
{
    if (queue->count == PS2_QUEUE_SIZE)
        return;
    queue->bytes[(queue->head + queue->count) % PS2_QUEUE_SIZE] = byte;
    queue->count++;
}

static uint8_t queue_get(struct ps2_queue *queue)
{
    queue->last_sent = queue->bytes[queue->head];
    queue->head = (queue->head + 1) % PS2_QUEUE_SIZE;
    queue->count--;
    return queue->last_sent;
}

/* --- output buffer --- */

static void update_irq(struct i8042 *kbc)
{
    bool full = kbc->status & STATUS_OBF;
    bool aux = kbc->status & STATUS_AUX;

    irq_set(&kbc->irq_keyboard, full && !aux && (kbc->command_byte & MODE_KEYBOARD_INT));
    irq_set(&kbc->irq_mouse, full && aux && (kbc->command_byte & MODE_AUX_INT));
}

/* `source` is 0 or STATUS_AUX. */
static void fill_buffer(struct i8042 *kbc, uint8_t byte, uint8_t source)
{
    kbc->data = byte;
    kbc->status = (uint8_t)((kbc->status & ~STATUS_AUX) | STATUS_OBF | source);
    update_irq(kbc);
}

static bool keyboard_ready(const struct i8042 *kbc)
{
    return kbc->keyboard.queue.count > 0 && !(kbc->command_byte & MODE_KEYBOARD_OFF);
}

static bool mouse_ready(const struct i8042 *kbc)
{
    return kbc->mouse.queue.count > 0 && !(kbc->command_byte & MODE_AUX_OFF);
}

static void schedule(struct i8042 *kbc)
{
    if (timer_pending(&kbc->pace) || (kbc->status & STATUS_OBF))
        return;
    if (keyboard_ready(kbc) || mouse_ready(kbc))
        timer_set(kbc->clock, &kbc->pace, clock_now(kbc->clock) + PACE_NS);
}

/* An answer of the controller: at once, or as soon as the guest has read what is in the buffer. */
static void reply(struct i8042 *kbc, uint8_t byte, uint8_t source)
{
    if (!(kbc->status & STATUS_OBF)) {
        fill_buffer(kbc, byte, source);
        return;
    }
    kbc->reply = byte;
    kbc->reply_status = source;
    kbc->has_reply = true;
}

/* The next keyboard byte for the guest; false if translation swallowed it. */
static bool translate(struct i8042 *kbc, uint8_t *byte)
{
    if (!(kbc->command_byte & MODE_TRANSLATE)) {
        kbc->break_prefix = false;
        return true;
    }
    if (*byte == 0xf0) {
        kbc->break_prefix = true;
        return false;
    }
    if (*byte < ARRAY_SIZE(set2_to_set1))
        *byte = set2_to_set1[*byte];
    if (kbc->break_prefix)
        *byte |= 0x80;
    kbc->break_prefix = false;
    return true;
}

static void pace_fire(void *opaque)
{
    struct i8042 *kbc = opaque;
    uint8_t byte;

    if (kbc->status & STATUS_OBF)
        return; /* reading it schedules the next */
    if (keyboard_ready(kbc)) {
        byte = queue_get(&kbc->keyboard.queue);
        if (translate(kbc, &byte))
            fill_buffer(kbc, byte, 0);
    } else if (mouse_ready(kbc)) {
        fill_buffer(kbc, queue_get(&kbc->mouse.queue), STATUS_AUX);
    }
    schedule(kbc);
}

static uint8_t read_data(struct i8042 *kbc)
{
    uint8_t byte = kbc->data;

    kbc->status &= (uint8_t)~STATUS_OBF;
    update_irq(kbc);
    if (kbc->has_reply) {
        kbc->has_reply = false;
        fill_buffer(kbc, kbc->reply, kbc->reply_status);
    }
    schedule(kbc);
    return byte;
}

/* --- the keyboard --- */

static void keyboard_defaults(struct ps2_keyboard *keyboard)
{
    keyboard->command = 0;
    keyboard->scan_set = 2;
    keyboard->leds = 0;
    keyboard->typematic = 0x2b;
}

static void keyboard_argument(struct ps2_keyboard *keyboard, uint8_t byte)
{
    struct ps2_queue *queue = &keyboard->queue;
    uint8_t command = keyboard->command;

    keyboard->command = 0;
    if (command == 0xf0 && byte > 3) {
        queue_put(queue, RESEND);
        return;
    }
    queue_put(queue, ACK);
    if (command == 0xed)
        keyboard->leds = byte & 7;
    else if (command == 0xf3)
        keyboard->typematic = byte & 0x7f;
    else if (command == 0xf0 && byte == 0)
        queue_put(queue, keyboard->scan_set);
    else if (command == 0xf0)
        keyboard->scan_set = byte;
    /* FBh-FDh set one key's type of scan set 3: acknowledged, all keys stay make and break */
}

static void keyboard_command(struct ps2_keyboard *keyboard, uint8_t byte)
{
    struct ps2_queue *queue = &keyboard->queue;

    switch (byte) {
    case 0xed: /* LEDs */
    case 0xf0: /* scan set */
    case 0xf3: /* typematic */
    case 0xfb:
    case 0xfc:
    case 0xfd: /* types of one key */
        keyboard->command = byte;
        queue_put(queue, ACK);
        break;
    case 0xee: queue_put(queue, 0xee); break; /* echo */
    case 0xf2:                                /* identify */
        queue_put(queue, ACK);
        queue_put(queue, 0xab);
        queue_put(queue, 0x83);
        break;
    case 0xf4: /* enable */
        keyboard->scanning = true;
        queue_put(queue, ACK);
        break;
    case 0xf5: /* defaults, and disable */
    case 0xf6: /* defaults */
        keyboard_defaults(keyboard);
        keyboard->scanning = byte == 0xf6;
        queue_put(queue, ACK);
        break;
    case 0xf7:
    case 0xf8:
    case 0xf9:
    case 0xfa: queue_put(queue, ACK); break; /* types of all keys */
    case 0xfe: queue_put(queue, queue->last_sent); break;
    case 0xff: /* reset */
        keyboard_defaults(keyboard);
        keyboard->scanning = true;
        queue->count = 0;
        queue_put(queue, ACK);
        queue_put(queue, SELF_TEST_PASSED);
        break;
    default: queue_put(queue, RESEND);
    }
}

/* A command byte cancels an argument that is still awaited; arguments are below EDh. */
static void keyboard_write(struct i8042 *kbc, uint8_t byte)
{
    struct ps2_keyboard *keyboard = &kbc->keyboard;

    kbc->command_byte &= (uint8_t)~MODE_KEYBOARD_OFF; /* sending releases the clock line */
    if (keyboard->command && byte < 0xed) {
        keyboard_argument(keyboard, byte);
    } else {
        keyboard->command = 0;
        keyboard_command(keyboard, byte);
    }
    schedule(kbc);
}

bool i8042_key(struct i8042 *kbc, const uint8_t *codes, unsigned count)
{
    struct ps2_queue *queue = &kbc->keyboard.queue;

    if (!kbc->keyboard.scanning || count > PS2_QUEUE_SIZE - (unsigned)queue->count)
        return false;
    for (unsigned i = 0; i < count; i++)
        queue_put(queue, codes[i]);
    schedule(kbc);
    return true;
}

/* --- the mouse --- */

static void mouse_defaults(struct ps2_mouse *mouse)
{
    mouse->command = 0;
    mouse->status = 0;
    mouse->resolution = 2;
    mouse->rate = 100;
    mouse->wrap = false;
}

static void mouse_argument(struct ps2_mouse *mouse, uint8_t byte)
{
    if (mouse->command == 0xe8)
        mouse->resolution = byte & 3;
    else
        mouse->rate = byte;
    mouse->command = 0;
    queue_put(&mouse->queue, ACK);
}

static void mouse_set_status(struct ps2_mouse *mouse, uint8_t bit, bool on)
{
    mouse->status = on ? mouse->status | bit : mouse->status & (uint8_t)~bit;
    queue_put(&mouse->queue, ACK);
}

static void mouse_answer(struct ps2_mouse *mouse, const uint8_t *bytes, unsigned count)
{
    queue_put(&mouse->queue, ACK);
    for (unsigned i = 0; i < count; i++)
        queue_put(&mouse->queue, bytes[i]);
}

static void mouse_command(struct ps2_mouse *mouse, uint8_t byte)
{
    static const uint8_t still[3] = {0x08, 0, 0};
    static const uint8_t reset_answer[2] = {SELF_TEST_PASSED, 0};
    const uint8_t info[3] = {mouse->status, mouse->resolution, mouse->rate};

    switch (byte) {
    case 0xe6: mouse_set_status(mouse, MOUSE_SCALING, false); break;
    case 0xe7: mouse_set_status(mouse, MOUSE_SCALING, true); break;
    case 0xe8:
    case 0xf3: /* resolution, sample rate: an argument follows */
        mouse->command = byte;
        mouse_answer(mouse, NULL, 0);
        break;
    case 0xe9: mouse_answer(mouse, info, 3); break;
    case 0xea: mouse_set_status(mouse, MOUSE_REMOTE, false); break;
    case 0xeb: mouse_answer(mouse, still, 3); break; /* read data: no motion, no button */
    case 0xec: mouse_answer(mouse, NULL, 0); break;
    case 0xee:
        mouse->wrap = true;
        mouse_answer(mouse, NULL, 0);
        break;
    case 0xf0: mouse_set_status(mouse, MOUSE_REMOTE, true); break;
    case 0xf2: mouse_answer(mouse, still + 1, 1); break; /* identify: 0, a standard mouse */
    case 0xf4: mouse_set_status(mouse, MOUSE_REPORTING, true); break;
    case 0xf5: mouse_set_status(mouse, MOUSE_REPORTING, false); break;
    case 0xf6:
        mouse_defaults(mouse);
        mouse_answer(mouse, NULL, 0);
        break;
    case 0xfe: queue_put(&mouse->queue, mouse->queue.last_sent); break;
    case 0xff:
        mouse_defaults(mouse);
        mouse->queue.count = 0;
        mouse_answer(mouse, reset_answer, 2);
        break;
    default: queue_put(&mouse->queue, RESEND);
    }
}

static void mouse_write(struct i8042 *kbc, uint8_t byte)
{
    struct ps2_mouse *mouse = &kbc->mouse;

    kbc->command_byte &= (uint8_t)~MODE_AUX_OFF;
    if (mouse->command) {
        mouse_argument(mouse, byte);
    } else if (mouse->wrap && byte != 0xec && byte != 0xff) {
        queue_put(&mouse->queue, byte);
    } else {
        mouse->wrap = false;
        mouse_command(mouse, byte);
    }
    schedule(kbc);
}

/* --- the controller --- */

static void set_command_byte(struct i8042 *kbc, uint8_t value)
{
    kbc->command_byte = value;
    kbc->status &= (uint8_t)~STATUS_SYSTEM;
    if (value & MODE_SYSTEM)
        kbc->status |= STATUS_SYSTEM;
    update_irq(kbc);
    schedule(kbc);
}

static void pulse_reset(struct i8042 *kbc)
{
    if (kbc->reset)
        kbc->reset(kbc->opaque);
}

static void write_output_port(struct i8042 *kbc, uint8_t value)
{
    kbc->output_port = value | OUTPUT_NO_RESET;
    irq_set(&kbc->a20, value & OUTPUT_A20);
    if (!(value & OUTPUT_NO_RESET))
        pulse_reset(kbc);
}

/* The output port with its upper bits, which show the interrupts. */
static uint8_t read_output_port(const struct i8042 *kbc)
{
    uint8_t value = kbc->output_port & 0xcf;

    if (kbc->status & STATUS_OBF)
        value |= kbc->status & STATUS_AUX ? 0x20 : 0x10;
    return value;
}

static void self_test(struct i8042 *kbc)
{
    kbc->status &= (uint8_t) ~(STATUS_OBF | STATUS_AUX);
    kbc->has_reply = false;
    set_command_byte(kbc, kbc->command_byte | MODE_SYSTEM);
    reply(kbc, 0x55, 0);
}

static void controller_command(struct i8042 *kbc, uint8_t command)
{
    kbc->pending = 0;
    switch (command) {
    case 0x20: reply(kbc, kbc->command_byte, 0); break;
    case 0x60: /* write the command byte */
    case 0xd1: /* write the output port */
    case 0xd2: /* write the output buffer as the keyboard */
    case 0xd3: /* write the output buffer as the mouse */
    case 0xd4: /* write to the mouse */ kbc->pending = command; break;
    case 0xa4: reply(kbc, 0xf1, 0); break; /* no password installed */
    case 0xa7: set_command_byte(kbc, kbc->command_byte | MODE_AUX_OFF); break;
    case 0xa8: set_command_byte(kbc, kbc->command_byte & (uint8_t)~MODE_AUX_OFF); break;
    case 0xa9: reply(kbc, 0, 0); break; /* mouse line test: passed */
    case 0xaa: self_test(kbc); break;
    case 0xab: reply(kbc, 0, 0); break; /* keyboard line test: passed */
    case 0xad: set_command_byte(kbc, kbc->command_byte | MODE_KEYBOARD_OFF); break;
    case 0xae: set_command_byte(kbc, kbc->command_byte & (uint8_t)~MODE_KEYBOARD_OFF); break;
    case 0xc0: reply(kbc, 0x80, 0); break; /* input port: keyboard not locked */
    case 0xd0: reply(kbc, read_output_port(kbc), 0); break;
    case 0xe0: reply(kbc, 0, 0); break; /* test inputs: both lines low */
    default:
        if (command > 0x20 && command < 0x40)
            reply(kbc, kbc->ram[command & 0x1f], 0);
        else if (command > 0x60 && command < 0x80)
            kbc->pending = command;
        else if (command >= 0xf0 && !(command & OUTPUT_NO_RESET))
            pulse_reset(kbc);
        break; /* others do nothing */
    }
}

static void controller_argument(struct i8042 *kbc, uint8_t byte)
{
    uint8_t command = kbc->pending;

    kbc->pending = 0;
    switch (command) {
    case 0x60: set_command_byte(kbc, byte); break;
    case 0xd1: write_output_port(kbc, byte); break;
    case 0xd2: reply(kbc, byte, 0); break;
    case 0xd3: reply(kbc, byte, STATUS_AUX); break;
    case 0xd4: mouse_write(kbc, byte); break;
    default: kbc->ram[command & 0x1f] = byte;
    }
}

static uint64_t data_read(void *opaque, uint64_t offset, unsigned size)
{
    uint8_t value = read_data(opaque);

    (void)offset, (void)size;
    trace_i8042_read(0x60, value);
    return value;
}

static void data_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct i8042 *kbc = opaque;

    (void)offset, (void)size;
    trace_i8042_write(0x60, (uint8_t)value);
    kbc->status &= (uint8_t)~STATUS_COMMAND;
    if (kbc->pending)
        controller_argument(kbc, (uint8_t)value);
    else
        keyboard_write(kbc, (uint8_t)value);
}

static uint64_t status_read(void *opaque, uint64_t offset, unsigned size)
{
    const struct i8042 *kbc = opaque;

    (void)offset, (void)size;
    return kbc->status;
}

static void command_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct i8042 *kbc = opaque;

    (void)offset, (void)size;
    trace_i8042_write(0x64, (uint8_t)value);
    kbc->status |= STATUS_COMMAND;
    controller_command(kbc, (uint8_t)value);
}

void i8042_init(struct i8042 *kbc, struct clock *clock, struct irq irq_keyboard,
                struct irq irq_mouse, struct irq a20)
{
    memset(kbc, 0, sizeof *kbc);
    kbc->clock = clock;
    kbc->irq_keyboard = irq_keyboard;
    kbc->irq_mouse = irq_mouse;
    kbc->a20 = a20;
    timer_init(&kbc->pace, pace_fire, kbc);
    i8042_reset(kbc);
}

void i8042_reset(struct i8042 *kbc)
{
    timer_cancel(kbc->clock, &kbc->pace);
    kbc->command_byte = MODE_KEYBOARD_INT | MODE_SYSTEM | MODE_AUX_OFF | MODE_TRANSLATE;
    kbc->status = STATUS_SYSTEM | STATUS_UNLOCKED;
    kbc->output_port = OUTPUT_NO_RESET | OUTPUT_A20 | 0xcc;
    kbc->data = 0;
    kbc->pending = 0;
    kbc->has_reply = false;
    kbc->break_prefix = false;
    memset(kbc->ram, 0, sizeof kbc->ram);
    memset(&kbc->keyboard, 0, sizeof kbc->keyboard);
    memset(&kbc->mouse, 0, sizeof kbc->mouse);
    keyboard_defaults(&kbc->keyboard);
    kbc->keyboard.scanning = true;
    mouse_defaults(&kbc->mouse);
    update_irq(kbc);
    irq_set(&kbc->a20, true);
}

void i8042_attach(struct i8042 *kbc, struct bus *bus)
{
    static const struct io_ops data = {.read = data_read, .write = data_write};
    static const struct io_ops command = {.read = status_read, .write = command_write};

    bus_add_pio(bus, "i8042", 0x60, 1, &data, kbc);
    bus_add_pio(bus, "i8042", 0x64, 1, &command, kbc);
}

static void before_save(void *object)
{
    struct i8042 *kbc = object;

    kbc->pace_at = kbc->pace.deadline;
}

static bool queue_valid(const struct ps2_queue *queue)
{
    return queue->head < PS2_QUEUE_SIZE && queue->count <= PS2_QUEUE_SIZE;
}

static int loaded(void *object, struct err *err)
{
    struct i8042 *kbc = object;

    if (!queue_valid(&kbc->keyboard.queue) || !queue_valid(&kbc->mouse.queue))
        return err_set(err, -EINVAL, "i8042: a queue's head or count is out of range");
    kbc->reply_status &= STATUS_AUX;
    timer_set(kbc->clock, &kbc->pace, kbc->pace_at);
    irq_set(&kbc->a20, kbc->output_port & OUTPUT_A20);
    update_irq(kbc);
    schedule(kbc);
    return 0;
}

static const struct field fields[] = {
    FIELD(struct i8042, command_byte),
    FIELD(struct i8042, status),
    FIELD(struct i8042, output_port),
    FIELD(struct i8042, data),
    FIELD(struct i8042, pending),
    FIELD_ARRAY(struct i8042, ram),
    FIELD(struct i8042, reply),
    FIELD(struct i8042, reply_status),
    FIELD(struct i8042, has_reply),
    FIELD(struct i8042, break_prefix),
    FIELD_ARRAY(struct i8042, keyboard.queue.bytes),
    FIELD(struct i8042, keyboard.queue.head),
    FIELD(struct i8042, keyboard.queue.count),
    FIELD(struct i8042, keyboard.queue.last_sent),
    FIELD(struct i8042, keyboard.command),
    FIELD(struct i8042, keyboard.scan_set),
    FIELD(struct i8042, keyboard.leds),
    FIELD(struct i8042, keyboard.typematic),
    FIELD(struct i8042, keyboard.scanning),
    FIELD_ARRAY(struct i8042, mouse.queue.bytes),
    FIELD(struct i8042, mouse.queue.head),
    FIELD(struct i8042, mouse.queue.count),
    FIELD(struct i8042, mouse.queue.last_sent),
    FIELD(struct i8042, mouse.command),
    FIELD(struct i8042, mouse.status),
    FIELD(struct i8042, mouse.resolution),
    FIELD(struct i8042, mouse.rate),
    FIELD(struct i8042, mouse.wrap),
    FIELD(struct i8042, pace_at),
};

const struct state_desc i8042_state_desc = {
    .name = "i8042",
    .version = 1,
    .fields = fields,
    .field_count = ARRAY_SIZE(fields),
    .before_save = before_save,
    .loaded = loaded,
};
