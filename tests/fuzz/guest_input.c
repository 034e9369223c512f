#include "guest_input.h"

#include "guest.h"

static void poke(struct cpu *cpu, struct input *in)
{
    static const uint32_t places[] = {GUEST_GDT, GUEST_IDT, GUEST_TSS, GUEST_TABLES};
    uint16_t at = input_u16(in);
    uint64_t value = input_u64(in);
    uint32_t place = places[at >> 14];
    uint32_t size = place == GUEST_TABLES ? GUEST_TABLES_SIZE : 0x1000;

    memcpy(memory_ram(cpu->mem, place + (at & 0x3fffu) * 8 % size, 8), &value, 8);
}

static void make_guest(struct cpu *cpu, struct input *in)
{
    struct guest_choice choice = {
        .mode = (enum guest_mode)(input_u8(in) % GUEST_MODES),
        .cpl = input_u8(in) & 3,
        .cr0 = input_u16(in),
        .cr4 = input_u16(in),
        .rflags = input_u16(in),
        .seed = input_u64(in),
    };

    guest_make(cpu, &choice);
}

/* The PIC passes its interrupts on, as after a BIOS. */
static void set_up_interrupts(struct pc *pc)
{
    static const uint8_t out[][2] = {{0x20, 0x11}, {0x21, 0x20}, {0x21, 4}, {0x21, 3}, {0x21, 0},
                                     {0xa0, 0x11}, {0xa1, 0x28}, {0xa1, 2}, {0xa1, 3}, {0xa1, 0}};

    bus_lock(&pc->bus);
    lapic_set_virtual_wire(&pc->lapic);
    bus_unlock(&pc->bus);
    for (unsigned i = 0; i < ARRAY_SIZE(out); i++)
        bus_pio_write(&pc->bus, out[i][0], out[i][1], 1);
}

void guest_event(struct pc *pc, unsigned which)
{
    static const uint32_t events[] = {0, ATTN_NMI, ATTN_SMI, ATTN_INIT};

    if (which & 4) {
        bus_lock(&pc->bus);
        i8259_set_irq(&pc->pic, which, true);
        i8259_set_irq(&pc->pic, which, false);
        bus_unlock(&pc->bus);
    } else if (events[which & 3] && (which & 3) != 3) {
        cpu_signal(pc->cpu, events[which & 3]);
    }
}

/* What follows the code halts, or faults byte by byte. */
static void put_code(struct pc *pc, struct input *in)
{
    size_t size = in->left < 0x2000 ? in->left : 0x2000;

    memset(memory_ram(&pc->mem, GUEST_CODE, GUEST_CODE_MAX), 0xf4, GUEST_CODE_MAX);
    input_take(in, memory_ram(&pc->mem, pc->cpu->rip, 0x2000), size);
}

unsigned guest_from_input(struct pc *pc, struct input *in)
{
    unsigned entry, schedule;

    make_guest(pc->cpu, in);
    entry = input_u8(in);
    schedule = input_u8(in);
    for (unsigned pokes = input_u8(in) & 7; pokes; pokes--)
        poke(pc->cpu, in);
    /* near the end of a page, so that instructions cross it, or at its start */
    pc->cpu->rip = GUEST_CODE + (entry & 0x80 ? 0x1000 - (entry & 0x3f) : 0);
    put_code(pc, in);
    set_up_interrupts(pc);
    return schedule;
}
