/* fuzz_state.c - saved machines that somebody has changed, and what happens when they go on.
 *
 *   choice  (field:2 how number)...  or  (offset:2 length bytes)...  or  a whole file
 *
 * Bit 7 of `choice`: fields are changed. `how` has the element in bits 3:0, and in bits 5:4 whether
 * the number replaces its value, flips bits of it, replaces it inverted, or is added to it.
 * Otherwise bytes are written over a good file of a machine in the mode that `choice` says (bits
 * 3:0); then the checksum is made right again, because that keeps out accidents and not enemies.
 * Bit 4: the input is the file itself. Bit 5: the checksum stays wrong. Bit 6: loaded as by
 * --restore instead of by the monitor. If the file is accepted, the machine runs, its devices are
 * used, and it must be possible to save it and load that again. */
#define _GNU_SOURCE
#include "base/checksum.h"
#include "guest.h"
#include "input.h"
#include "machine.h"
#include "vm/snapshot.h"
#include "vm_fixture.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define FILE_MAX (256 * KIB)
#define FEATURES_AT 48 /* in the header */
#define STATE_AT 320   /* behind the header */
#define MAX_FIELDS 1024u
#define INSTRUCTIONS 500u

struct file {
    uint8_t bytes[FILE_MAX];
    size_t size;
};

static int new_file(void)
{
    int fd = memfd_create("machine", MFD_CLOEXEC);

    if (fd < 0)
        fuzz_fail("no file in memory");
    return fd;
}

static void save(struct vm *vm, struct file *f)
{
    struct err err = {0};
    int fd = new_file();
    ssize_t n;

    if (vm_save(vm, fd, &err) < 0)
        fuzz_fail("the machine cannot be saved: %s", err.text);
    n = pread(fd, f->bytes, sizeof f->bytes, 0);
    f->size = n > 0 && (size_t)n < sizeof f->bytes ? (size_t)n : 0;
    close(fd);
}

/* A machine of every mode, which has run for a moment. */
static const struct file *good_file(struct vm *vm, unsigned mode)
{
    static struct file *good[16];
    /* store to data, add, loop for ever */
    static const uint8_t code[] = {0x01, 0xc3, 0x40, 0x50, 0x58, 0xe4, 0x61, 0xeb, 0xf7};
    struct guest_choice choice = {.mode = (enum guest_mode)(mode % GUEST_MODES),
                                  .cpl = mode >= GUEST_MODES ? 3 : 0,
                                  .rflags = FLAG_IF,
                                  .seed = mode};

    if (good[mode])
        return good[mode];
    good[mode] = calloc(1, sizeof *good[mode]);
    if (!good[mode])
        fuzz_fail("out of memory");
    vm_fixture_reset(vm);
    guest_make(vm->pc.cpu, &choice);
    memcpy(memory_ram(&vm->pc.mem, GUEST_CODE, sizeof code), code, sizeof code);
    bus_pio_write(&vm->pc.bus, 0x43, 0x34, 1);
    bus_pio_write(&vm->pc.bus, 0x40, 0x10, 1);
    bus_pio_write(&vm->pc.bus, 0x40, 0, 1);
    (void)machine_run(&vm->pc, vm->config.engine, 100);
    save(vm, good[mode]);
    return good[mode];
}

/* Where the values of a field are in the file. */
struct place {
    size_t at;
    uint32_t size, count;
};

/* The state has the format of base/state.c; this is a good one. */
static unsigned find_fields(const struct file *f, struct place places[MAX_FIELDS])
{
    const uint8_t *b = f->bytes;
    size_t at = STATE_AT;
    unsigned found = 0;
    uint32_t fields, count;

    while (b[at]) {
        at += 1u + b[at] + 8;
        memcpy(&fields, b + at, 4);
        for (at += 4; fields && found < MAX_FIELDS; fields--) {
            at += 1u + b[at];
            memcpy(&count, b + at + 1, 4);
            places[found++] = (struct place){at + 5, b[at], count};
            at += 5 + (size_t)b[at] * count;
        }
    }
    return found;
}

static void change_field(uint8_t *at, uint32_t size, unsigned how, uint64_t number)
{
    uint64_t v = 0;

    memcpy(&v, at, size);
    switch (how >> 4 & 3) {
    case 0: v = number; break;
    case 1: v ^= number; break;
    case 2: v = ~number; break;
    default: v += number; break;
    }
    memcpy(at, &v, size);
}

static void change_fields(struct file *f, struct input *in)
{
    static struct place places[MAX_FIELDS];
    static unsigned count;

    if (!count)
        count = find_fields(f, places);
    while (in->left > 2) {
        const struct place *p = &places[input_u16(in) % count];
        unsigned how = input_u8(in);

        change_field(f->bytes + p->at + (how & 15) % p->count * p->size, p->size, how,
                     input_number(in));
    }
}

static void change_bytes(struct file *f, struct input *in)
{
    while (in->left > 2) {
        uint16_t at = input_u16(in);
        uint8_t count = input_u8(in) & 15;

        if (at + count <= f->size)
            input_take(in, f->bytes + at, count);
    }
}

/* Over a good file, or all of it. */
static void make_file(struct file *f, const struct file *good, unsigned choice, struct input *in)
{
    if (choice & 0x10) {
        f->size = in->left < FILE_MAX ? in->left : FILE_MAX;
        memcpy(f->bytes, in->bytes, f->size);
        return;
    }
    memcpy(f->bytes, good->bytes, good->size);
    f->size = good->size;
    if (choice & 0x80)
        change_fields(f, in);
    else
        change_bytes(f, in);
}

static void correct(struct file *f, const struct file *good)
{
    struct checksum sum = {0};
    uint64_t value;

    if (f->size < FEATURES_AT + 16)
        return;
    memcpy(f->bytes + FEATURES_AT - 8, good->bytes + FEATURES_AT - 8, 16); /* and the TSC's kHz */
    checksum_add(&sum, f->bytes, f->size - 8);
    value = checksum_value(&sum);
    memcpy(f->bytes + f->size - 8, &value, 8);
}

static int load(struct vm *vm, const struct file *f, bool fresh, struct err *err)
{
    int fd = new_file(), rc;

    if (write(fd, f->bytes, f->size) != (ssize_t)f->size)
        fuzz_fail("no file in memory");
    rc = fresh ? vm_restore(vm, fd, err) : vm_replace(vm, fd, err);
    close(fd);
    return rc;
}

static void use_devices(struct pc *pc)
{
    static const uint16_t ports[] = {0x20,  0x21,  0x40,  0x42,  0x43,  0x60,  0x61,  0x64,
                                     0x70,  0x71,  0x92,  0xa0,  0xcf9, 0x3f8, 0x3f9, 0x3fa,
                                     0x3fd, 0x3fe, 0x510, 0x511, 0x514, 0x600, 0x604, 0x608};
    static const uint32_t pages[] = {0xfec00000, 0xfec00010, 0xfed000f0, 0xfed00108, 0xfed00000};

    for (unsigned i = 0; i < ARRAY_SIZE(ports); i++)
        (void)bus_pio_read(&pc->bus, ports[i], 1);
    for (unsigned i = 0; i < ARRAY_SIZE(pages); i++)
        (void)bus_mmio_read(&pc->bus, pages[i], 4);
    for (unsigned i = 0; i < 0x400; i += 0x10) {
        bus_lock(&pc->bus);
        (void)lapic_mmio_read(&pc->lapic, i);
        bus_unlock(&pc->bus);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(ports); i++)
        bus_pio_write(&pc->bus, ports[i], i * 7, 1);
}

static void go_on(struct vm *vm)
{
    struct pc *pc = &vm->pc;

    machine_check_cpu(pc->cpu);
    machine_check_saving(pc);
    (void)machine_run(pc, vm->config.engine, INSTRUCTIONS);
    machine_check_cpu(pc->cpu);
    machine_pass(pc, 100000000, 100);
    use_devices(pc);
    machine_pass(pc, 100000000, 100);
    (void)machine_run(pc, vm->config.engine, INSTRUCTIONS);
    machine_check_cpu(pc->cpu);
    machine_check_saving(pc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct file file;
    struct vm *vm = vm_fixture();
    struct input in = {data, size};
    unsigned choice = input_u8(&in);
    const struct file *good = good_file(vm, choice & 15);
    struct err err = {0};
    int rc;

    vm_fixture_reset(vm);
    make_file(&file, good, choice, &in);
    if (!(choice & 0x20))
        correct(&file, good);
    rc = load(vm, &file, choice & 0x40, &err);
    if (rc < 0 && !err.text[0])
        fuzz_fail("error %d without a sentence", rc);
    if (rc >= 0 || !(choice & 0x40))
        go_on(vm); /* with the machine of the file, or with its own if that was refused */
    return 0;
}
