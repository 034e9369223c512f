/* fuzz_devices.c - ports and memory-mapped registers of a whole board in any order at any time,
 * without a CPU that executes. From a point on, a second board that was made from the first one's
 * saved state gets the same: it must answer the same and end in the same state. */
#include "input.h"
#include "machine.h"

#include "cpu/msr.h"
#include "cpu/tlb.h"

#include <stdlib.h>

#define MAX_OPERATIONS 400u
#define LINES (ATTN_INTR | ATTN_NMI | ATTN_SMI | ATTN_INIT) /* to the CPU */

static const uint16_t ports[] = {
    0x20,  0x21,  0xa0,  0xa1,  0x4d0, 0x4d1, 0x40,  0x41,  0x42,  0x43,  0x61,  0x60,  0x64,
    0x70,  0x71,  0x72,  0x73,  0x80,  0x92,  0xcf9, 0x3f8, 0x3f9, 0x3fa, 0x3fb, 0x3fc, 0x3fd,
    0x3fe, 0x3ff, 0x510, 0x511, 0x514, 0x518, 0x600, 0x602, 0x604, 0x608, 0x620, 0xe9,  0xf4,
};
static const uint32_t pages[] = {0xfec00000, 0xfed00000, 0xfee00000, 0xfed00400};

static struct machine first, second;
static bool twin; /* the second follows the first */

/* --- one operation, on one board; what it answers --- */

struct operation {
    uint8_t kind, size;
    uint64_t address, value;
};

static uint64_t apic_access(struct pc *pc, const struct operation *o)
{
    uint32_t offset = o->address & 0xff0, msr = 0x800 | (o->address & 0xff);
    uint64_t answer = 0;

    bus_lock(&pc->bus);
    switch (o->kind & 7) {
    case 0: answer = lapic_mmio_read(&pc->lapic, offset); break;
    case 1: lapic_mmio_write(&pc->lapic, offset, (uint32_t)o->value); break;
    case 2:
        if (!lapic_rdmsr(&pc->lapic, o->address & 0x100 ? 0x1b : msr, &answer))
            answer = 0x6b;
        break;
    case 3: answer = lapic_wrmsr(&pc->lapic, o->address & 0x100 ? 0x1b : msr, o->value); break;
    case 4: answer = lapic_wrmsr(&pc->lapic, 0x6e0, o->value); break;
    case 5: answer = (uint64_t)lapic_acknowledge(&pc->lapic); break;
    case 6: lapic_set_cr8(&pc->lapic, o->value & 15); break;
    default: answer = lapic_get_cr8(&pc->lapic); break;
    }
    bus_unlock(&pc->bus);
    return answer;
}

static uint64_t press_keys(struct pc *pc, const struct operation *o)
{
    uint64_t taken;

    bus_lock(&pc->bus);
    taken = i8042_key(&pc->kbc, (const uint8_t *)&o->value, o->size);
    bus_unlock(&pc->bus);
    return taken;
}

static uint64_t outside(struct machine *m, const struct operation *o)
{
    struct pc *pc = &m->pc;

    switch (o->kind & 7) {
    case 0: return pc_serial_receive(pc, (const uint8_t *)&o->value, o->size);
    case 4: return press_keys(pc, o);
    case 1: pc_power_button(pc); return 0;
    case 2: machine_pass(pc, o->value >> (o->address & 63), 200); return 0;
    default:
        if (o->value & 1)
            pc_reset(pc);
        return atomic_load(&pc->cpu->attention) & LINES;
    }
}

static uint64_t apply(struct machine *m, const struct operation *o)
{
    struct bus *bus = &m->pc.bus;
    unsigned pio_size = o->size == 8 ? 4 : o->size;

    switch (o->kind >> 5) {
    case 0:
    case 1: return bus_pio_read(bus, (uint16_t)o->address, pio_size);
    case 2:
    case 3: bus_pio_write(bus, (uint16_t)o->address, o->value, pio_size); return 0;
    case 4: return bus_mmio_read(bus, o->address, o->size);
    case 5: bus_mmio_write(bus, o->address, o->value, o->size); return 0;
    case 6: return apic_access(&m->pc, o);
    default: return outside(m, o);
    }
}

/* Anywhere in any range of the bus, so that a device needs no mention here. */
static uint64_t any_place(const struct io_range *ranges, unsigned count, unsigned place,
                          struct input *in)
{
    const struct io_range *range = &ranges[place % count];
    uint64_t offset = input_u16(in);

    return range->base + offset % range->size;
}

static uint64_t take_port(struct input *in, uint8_t place)
{
    const struct bus *bus = &first.pc.bus;

    if (place & 0x80)
        return any_place(bus->pio, bus->pio_count, place, in);
    return ports[place % ARRAY_SIZE(ports)] + (place >= ARRAY_SIZE(ports));
}

static uint64_t take_register(struct input *in, uint8_t place)
{
    const struct bus *bus = &first.pc.bus;

    if (place & 0x80)
        return any_place(bus->mmio, bus->mmio_count, place, in);
    return pages[place & 3] + (uint64_t)input_u8(in) * 4 + (place >> 2 & 3);
}

static struct operation take_operation(struct input *in)
{
    struct operation o = {.kind = input_u8(in)};
    unsigned group = o.kind >> 5;
    uint8_t place = input_u8(in);

    o.size = (uint8_t)(1u << (o.kind >> 3 & 3));
    if (group < 4)
        o.address = take_port(in, place);
    else if (group < 6)
        o.address = take_register(in, place);
    else
        o.address = place | (o.kind & 8u) << 5;
    if (group == 2 || group == 3)
        input_take(in, &o.value, o.size == 8 ? 4 : o.size);
    else if (group > 4)
        o.value = input_number(in);
    return o;
}

/* --- two boards --- */

/* The parts of a board as words, from the first chip on. */
#define FIRST_WORD (offsetof(struct pc, apic_bus) / 8)
#define WORDS (sizeof(struct pc) / 8)

static const uint64_t *words(const struct machine *m)
{
    return (const uint64_t *)&m->pc;
}

/* Bits that are a board's own: those in which two new boards are not the same (their addresses, and
 * what lies between fields), and what no guest can see. */
static uint64_t own[WORDS];

static void note_own_field(const void *field, size_t size)
{
    memset((uint8_t *)own + ((const uint8_t *)field - (const uint8_t *)&first.pc), 0xff, size);
}

static void note_own_bits(void)
{
    struct debug_ports *debug = &first.pc.debug_ports;
    struct virtio_device *rng = &first.pc.rng.virtio;

    for (size_t i = FIRST_WORD; i < WORDS; i++)
        for (unsigned shift = 0; shift < 64; shift += 8)
            if ((words(&first)[i] ^ words(&second)[i]) >> shift & 0xff)
                own[i] |= UINT64_C(0xff) << shift;
    note_own_field(debug->line, sizeof debug->line); /* for a trace */
    note_own_field(&debug->length, sizeof debug->length);
    for (unsigned i = 0; i < ARRAY_SIZE(rng->queues); i++) /* it only has to change */
        note_own_field(&rng->queues[i].generation, sizeof rng->queues[i].generation);
}

/* Are these pointers to the same place of their boards? */
static bool same_place(uint64_t a, uint64_t b)
{
    uint64_t offset = a - (uintptr_t)&first;

    return offset < sizeof first && b - (uintptr_t)&second == offset;
}

/* Not only what is saved, but all that the chips are, down to their timers. So a field that is
 * missing in a state is noticed although nobody asks its chip for it. */
static void compare_parts(const char *when)
{
    const uint64_t *a = words(&first), *b = words(&second);

    for (size_t i = FIRST_WORD; i < WORDS; i++)
        if ((a[i] ^ b[i]) & ~own[i] && !same_place(a[i], b[i]))
            fuzz_fail("%s, bytes %zu of struct pc are not the same: %#llx, %#llx", when, i * 8,
                      (unsigned long long)a[i], (unsigned long long)b[i]);
}

static void make_twin(void)
{
    struct pc *a = &first.pc, *b = &second.pc;
    struct err err = {0};
    uint8_t *state;
    size_t size;

    machine_save(a, &state, &size);
    pc_reset(b);
    bus_lock(&b->bus);
    clock_set(&b->clock, clock_now(&a->clock), clock_tsc(&a->clock));
    if (state_load(b->states, state, size, &err) < 0)
        fuzz_fail("a saved state cannot be loaded: %s", err.text);
    b->cpu->idle_ns = clock_now(&a->clock) - b->cpu->icount;
    bus_unlock(&b->bus);
    memcpy(b->mem.first_mib, a->mem.first_mib, MIB);
    second.reset = first.reset;
    second.power_off = first.power_off;
    second.sent = first.sent;
    second.sent_sum = first.sent_sum;
    free(state);
    twin = true;
    compare_parts("loaded");
}

static void compare_states(void)
{
    uint8_t *a, *b;
    size_t a_size, b_size;

    machine_save(&first.pc, &a, &a_size);
    machine_save(&second.pc, &b, &b_size);
    machine_compare_states(a, b, a_size == b_size ? a_size : 0);
    free(a);
    free(b);
}

static void compare(void)
{
    uint32_t a = atomic_load(&first.pc.cpu->attention), b = atomic_load(&second.pc.cpu->attention);

    if ((a ^ b) & LINES)
        fuzz_fail("a machine that was loaded has other lines to its CPU: %#x, %#x", a, b);
    if (first.sent != second.sent || first.sent_sum != second.sent_sum)
        fuzz_fail("a machine that was loaded sends other bytes");
    if (first.reset != second.reset || first.power_off != second.power_off)
        fuzz_fail("a machine that was loaded ends otherwise");
    if (memcmp(first.pc.mem.first_mib, second.pc.mem.first_mib, MIB) != 0)
        fuzz_fail("a machine that was loaded has other memory");
    compare_states();
    compare_parts("at the end");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    unsigned save_at;

    if (!first.pc.cpu) {
        machine_init(&first, MIB, &engine_interpret);
        machine_init(&second, MIB, &engine_interpret);
        note_own_bits();
    }
    machine_reset(&first);
    machine_reset(&second);
    twin = false;
    save_at = input_u8(&in);
    for (unsigned i = 0; i < MAX_OPERATIONS && in.left; i++) {
        struct operation o;
        uint64_t answer;

        if (i == save_at)
            make_twin();
        o = take_operation(&in);
        answer = apply(&first, &o);
        if (twin && apply(&second, &o) != answer)
            fuzz_fail("operation %u (%#x at %#llx) answers otherwise after loading", i, o.kind,
                      (unsigned long long)o.address);
    }
    if (twin)
        compare();
    make_twin(); /* here, too, it can be saved */
    compare();
    return 0;
}
