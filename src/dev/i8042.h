/* i8042.h - the keyboard controller of the PC/AT (Intel 8042 with IBM's program), with a keyboard
 * and a PS/2 mouse behind it.
 *
 *   port 60h   read: output buffer        write: byte for the keyboard, or a command's argument
 *   port 64h   read: status               write: command
 *
 * Documents: IBM PC/AT and PS/2 technical references (keyboard and auxiliary device controller).
 * A device's bytes reach the output buffer one at a time, paced by a timer as on the serial wire;
 * answers of the controller itself are there at once. The keyboard answers every command of a
 * 101-key keyboard and takes scan codes from i8042_key(); the mouse answers a standard three-byte
 * mouse's commands and stays still. Reset leaves the command byte as a PC's firmware leaves it,
 * because the firmware may be skipped. The output port drives A20 and the processor's reset.
 *
 * All functions are called with the bus lock held. */
#ifndef DOBLE_DEV_I8042_H
#define DOBLE_DEV_I8042_H

#include "base/state.h"
#include "bus/bus.h"
#include "bus/clock.h"
#include "bus/irq.h"

#define PS2_QUEUE_SIZE 32

/* Bytes on their way from a device to the controller. */
struct ps2_queue {
    uint8_t bytes[PS2_QUEUE_SIZE];
    uint8_t head, count;
    uint8_t last_sent; /* for the resend command */
};

struct ps2_keyboard {
    struct ps2_queue queue;
    uint8_t command; /* command that waits for its argument, or 0 */
    uint8_t scan_set;
    uint8_t leds, typematic;
    bool scanning;
};

struct ps2_mouse {
    struct ps2_queue queue;
    uint8_t command;
    uint8_t status; /* as the status request reports it */
    uint8_t resolution, rate;
    bool wrap; /* echo every byte */
};

struct i8042 {
    /* how it is connected */
    struct clock *clock;
    struct irq irq_keyboard, irq_mouse;
    struct irq a20;              /* level: A20 is not masked */
    void (*reset)(void *opaque); /* the processor's reset line was pulsed; may be NULL */
    void *opaque;
    struct timer pace;

    uint8_t command_byte;
    uint8_t status;
    uint8_t output_port;
    uint8_t data;    /* the output buffer */
    uint8_t pending; /* controller command that waits for its argument, or 0 */
    uint8_t ram[32];
    uint8_t reply, reply_status;
    bool has_reply;    /* the controller's answer waits for the buffer */
    bool break_prefix; /* translation swallowed an F0h */
    struct ps2_keyboard keyboard;
    struct ps2_mouse mouse;
    uint64_t pace_at; /* guest ns; for save and restore */
};

/* Connects and resets. Set reset and opaque afterwards. */
void i8042_init(struct i8042 *kbc, struct clock *clock, struct irq irq_keyboard,
                struct irq irq_mouse, struct irq a20);
void i8042_reset(struct i8042 *kbc);
void i8042_attach(struct i8042 *kbc, struct bus *bus);

/* Scan codes (of scan set 2) of a key that was pressed or released. False: the keyboard is switched
 * off or its buffer is full, and they are lost. */
bool i8042_key(struct i8042 *kbc, const uint8_t *codes, unsigned count);

extern const struct state_desc i8042_state_desc;

#endif
