/* i8259.c - the pair of 8259A interrupt controllers with PIIX3's edge/level registers.
 *
 * A chip's INT is a pure function of its registers, recomputed after every change; the slave's INT
 * is the master's input 2. A rising edge is latched in IRR until it is acknowledged, also when the
 * line falls again before that (as in the chip sets that integrate the 8259). Level inputs show in
 * IRR as they are. As in PIIX3, ELCR and not ICW1.LTIM decides which inputs are level-triggered.
 *
 * Left out: 8085 mode, buffered mode (no effect without external drivers), wiring other than a PC's
 * (ICW3 is accepted and ignored). */
#include "dev/i8259.h"

#include "base/trace.h"

#include <errno.h>
#include <string.h>

#define MASTER 0
#define SLAVE 1
#define CASCADE 2  /* the master's input for the slave */
#define SPURIOUS 7 /* the input reported when none requests any more */

#define ICW1_IC4 0x01
#define ICW1_SNGL 0x02
#define ICW1 0x10 /* tells ICW1 from OCW2 and OCW3 */
#define ICW4_AEOI 0x02
#define ICW4_SFNM 0x10
#define OCW3 0x08
#define OCW3_RIS 0x01
#define OCW3_RR 0x02
#define OCW3_POLL 0x04
#define OCW3_SMM 0x20
#define OCW3_ESMM 0x40

/* Inputs that are always edge-triggered on a PC: 0, 1, 2 and 8, 13. */
static const uint8_t elcr_mask[2] = {0xf8, 0xde};

/* --- one chip --- */

/* The input of highest priority among `set`, as a rank (0 is the most important); 8: none. */
static unsigned best_rank(const struct i8259_chip *c, uint8_t set)
{
    for (unsigned rank = 0; rank < 8; rank++)
        if (set >> ((c->lowest + 1 + rank) & 7) & 1)
            return rank;
    return 8;
}

static unsigned rank_input(const struct i8259_chip *c, unsigned rank)
{
    return (c->lowest + 1 + rank) & 7;
}

/* The input that INT is asserted for, or -1. */
static int chip_request(const struct i8259_chip *c, bool is_master)
{
    uint8_t pending = c->irr & (uint8_t)~c->imr;
    uint8_t in_service = c->isr;
    unsigned rank;

    if (c->special_mask) {
        pending &= (uint8_t)~c->isr; /* an input in service inhibits only itself */
        in_service = 0;
    }
    if (is_master && c->icw4 & ICW4_SFNM)
        /* Special fully nested mode: the slave may interrupt its own service. */
        in_service &= (uint8_t) ~(pending & 1u << CASCADE);
    rank = best_rank(c, pending);
    if (rank == 8 || rank >= best_rank(c, in_service))
        return -1;
    return (int)rank_input(c, rank);
}

/* IRR of level inputs follows the lines. */
static void chip_follow_levels(struct i8259_chip *c)
{
    c->irr = (uint8_t)((c->irr & ~c->elcr) | (c->lines & c->elcr));
}

static void chip_set_line(struct i8259_chip *c, unsigned input, bool level)
{
    uint8_t bit = (uint8_t)(1u << input);

    if (level && !(c->lines & bit) && !(c->elcr & bit))
        c->irr |= bit;
    c->lines = (uint8_t)(level ? c->lines | bit : c->lines & ~bit);
    chip_follow_levels(c);
}

static void chip_take(struct i8259_chip *c, unsigned input)
{
    uint8_t bit = (uint8_t)(1u << input);

    if (!(c->icw4 & ICW4_AEOI))
        c->isr |= bit;
    else if (c->rotate_aeoi)
        c->lowest = (uint8_t)input;
    if (!(c->elcr & bit))
        c->irr &= (uint8_t)~bit;
}

static void chip_icw1(struct i8259_chip *c, uint8_t value)
{
    c->icw1 = value;
    c->icw4 = 0;
    c->icw_expected = 2;
    c->irr = 0; /* an edge input must fall and rise again to be seen */
    c->isr = 0;
    c->imr = 0;
    c->lowest = 7;
    c->rotate_aeoi = 0;
    c->special_mask = 0;
    c->read_isr = 0;
    c->poll = 0;
    chip_follow_levels(c);
}

static void chip_end_of_interrupt(struct i8259_chip *c, bool specific, unsigned input, bool rotate)
{
    uint8_t candidates = c->isr;
    unsigned rank;

    if (!specific) {
        if (c->special_mask)
            candidates &= (uint8_t)~c->imr;
        rank = best_rank(c, candidates);
        if (rank == 8)
            return;
        input = rank_input(c, rank);
    }
    c->isr &= (uint8_t) ~(1u << input);
    if (rotate)
        c->lowest = (uint8_t)input;
}

static void chip_ocw2(struct i8259_chip *c, uint8_t value)
{
    unsigned input = value & 7;

    switch (value >> 5) {
    case 0: c->rotate_aeoi = 0; break;
    case 4: c->rotate_aeoi = 1; break;
    case 1: chip_end_of_interrupt(c, false, 0, false); break;
    case 5: chip_end_of_interrupt(c, false, 0, true); break;
    case 3: chip_end_of_interrupt(c, true, input, false); break;
    case 7: chip_end_of_interrupt(c, true, input, true); break;
    case 6: c->lowest = (uint8_t)input; break;
    default: break; /* 2: no operation */
    }
}

static void chip_ocw3(struct i8259_chip *c, uint8_t value)
{
    if (value & OCW3_ESMM)
        c->special_mask = (value & OCW3_SMM) != 0;
    if (value & OCW3_POLL)
        c->poll = 1;
    else if (value & OCW3_RR)
        c->read_isr = value & OCW3_RIS;
}

static void chip_write_command(struct i8259_chip *c, uint8_t value)
{
    if (value & ICW1)
        chip_icw1(c, value);
    else if (value & OCW3)
        chip_ocw3(c, value);
    else
        chip_ocw2(c, value);
}

static void chip_write_data(struct i8259_chip *c, uint8_t value)
{
    switch (c->icw_expected) {
    case 0: c->imr = value; break;
    case 2:
        c->vector_base = value & 0xf8;
        if (!(c->icw1 & ICW1_SNGL))
            c->icw_expected = 3;
        else
            c->icw_expected = c->icw1 & ICW1_IC4 ? 4 : 0;
        break;
    case 3: c->icw_expected = c->icw1 & ICW1_IC4 ? 4 : 0; break;
    default:
        c->icw4 = value;
        c->icw_expected = 0;
        break;
    }
}

/* --- the pair --- */

static void update(struct i8259 *pic)
{
    struct i8259_chip *master = &pic->chip[MASTER];
    bool slave_int = chip_request(&pic->chip[SLAVE], false) >= 0;
    bool out;

    master->irr = (uint8_t)((master->irr & ~(1u << CASCADE)) | (unsigned)slave_int << CASCADE);
    out = chip_request(master, true) >= 0;
    if (out != pic->out) {
        pic->out = out;
        irq_set(&pic->intr, out);
    }
}

void i8259_set_irq(void *opaque, unsigned number, bool level)
{
    struct i8259 *pic = opaque;

    if (number >= 16 || number == CASCADE)
        return;
    trace_i8259_irq(number, level);
    chip_set_line(&pic->chip[number >> 3], number & 7, level);
    update(pic);
}

/* The second chip's part of an acknowledge: its input, 7 when the request has gone. */
static unsigned acknowledge_slave(struct i8259 *pic)
{
    int input = chip_request(&pic->chip[SLAVE], false);

    if (input < 0)
        return SPURIOUS;
    chip_take(&pic->chip[SLAVE], (unsigned)input);
    return (unsigned)input;
}

int i8259_acknowledge(void *opaque)
{
    struct i8259 *pic = opaque;
    int input = chip_request(&pic->chip[MASTER], true);
    int vector;

    if (input < 0) {
        vector = pic->chip[MASTER].vector_base + SPURIOUS;
    } else {
        chip_take(&pic->chip[MASTER], (unsigned)input);
        if (input == CASCADE)
            vector = pic->chip[SLAVE].vector_base + (int)acknowledge_slave(pic);
        else
            vector = pic->chip[MASTER].vector_base + input;
    }
    trace_i8259_acknowledge((unsigned)vector);
    update(pic);
    return vector;
}

/* A poll acknowledges like INTA, and tells the input instead of the vector. */
static uint8_t poll(struct i8259 *pic, unsigned which)
{
    struct i8259_chip *c = &pic->chip[which];
    int input = chip_request(c, which == MASTER);

    c->poll = 0;
    if (input < 0)
        return SPURIOUS;
    chip_take(c, (unsigned)input);
    update(pic);
    return (uint8_t)(0x80 | input);
}

static uint64_t chip_read(struct i8259 *pic, unsigned which, uint64_t offset)
{
    struct i8259_chip *c = &pic->chip[which];

    if (c->poll)
        return poll(pic, which);
    if (offset == 1)
        return c->imr;
    return c->read_isr ? c->isr : c->irr;
}

static void chip_write(struct i8259 *pic, unsigned which, uint64_t offset, uint64_t value)
{
    trace_i8259_write(which, (unsigned)offset, (unsigned)value);
    if (offset == 1)
        chip_write_data(&pic->chip[which], (uint8_t)value);
    else
        chip_write_command(&pic->chip[which], (uint8_t)value);
    update(pic);
}

static uint64_t master_read(void *opaque, uint64_t offset, unsigned size)
{
    (void)size;
    return chip_read(opaque, MASTER, offset);
}

static void master_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    (void)size;
    chip_write(opaque, MASTER, offset, value);
}

static uint64_t slave_read(void *opaque, uint64_t offset, unsigned size)
{
    (void)size;
    return chip_read(opaque, SLAVE, offset);
}

static void slave_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    (void)size;
    chip_write(opaque, SLAVE, offset, value);
}

static uint64_t elcr_read(void *opaque, uint64_t offset, unsigned size)
{
    struct i8259 *pic = opaque;

    (void)size;
    return pic->chip[offset & 1].elcr;
}

static void elcr_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct i8259 *pic = opaque;
    struct i8259_chip *c = &pic->chip[offset & 1];

    (void)size;
    c->elcr = (uint8_t)value & elcr_mask[offset & 1];
    chip_follow_levels(c);
    update(pic);
}

static const struct io_ops master_ops = {.read = master_read, .write = master_write};
static const struct io_ops slave_ops = {.read = slave_read, .write = slave_write};
static const struct io_ops elcr_ops = {.read = elcr_read, .write = elcr_write};

int i8259_init(struct i8259 *pic, struct irq intr)
{
    memset(pic, 0, sizeof(*pic));
    pic->intr = intr;
    i8259_reset(pic);
    return 0;
}

/* The lines are the other devices', so a reset keeps them. Everything is masked until the guest
 * initializes the chips; the hardware leaves that open. */
void i8259_reset(struct i8259 *pic)
{
    for (unsigned i = 0; i < 2; i++) {
        uint8_t lines = pic->chip[i].lines;

        pic->chip[i] = (struct i8259_chip){.lines = lines, .imr = 0xff, .lowest = 7};
    }
    update(pic);
}

void i8259_attach(struct i8259 *pic, struct bus *bus)
{
    bus_add_pio(bus, "i8259-master", 0x20, 2, &master_ops, pic);
    bus_add_pio(bus, "i8259-slave", 0xa0, 2, &slave_ops, pic);
    bus_add_pio(bus, "i8259-elcr", 0x4d0, 2, &elcr_ops, pic);
}

static int loaded(void *object, struct err *err)
{
    struct i8259 *pic = object;

    for (unsigned i = 0; i < 2; i++) {
        struct i8259_chip *c = &pic->chip[i];

        if (c->lowest > 7 || c->icw_expected > 4 || c->icw_expected == 1)
            return err_set(err, -EINVAL,
                           "i8259: priority %u or initialization step %u is out of range",
                           c->lowest, c->icw_expected);
        c->elcr &= elcr_mask[i];
        c->vector_base &= 0xf8;
    }
    irq_set(&pic->intr, pic->out);
    update(pic);
    return 0;
}

#define CHIP_FIELDS(n)                                                                             \
    FIELD(struct i8259, chip[n].lines), FIELD(struct i8259, chip[n].irr),                          \
        FIELD(struct i8259, chip[n].isr), FIELD(struct i8259, chip[n].imr),                        \
        FIELD(struct i8259, chip[n].elcr), FIELD(struct i8259, chip[n].vector_base),               \
        FIELD(struct i8259, chip[n].icw1), FIELD(struct i8259, chip[n].icw4),                      \
        FIELD(struct i8259, chip[n].icw_expected), FIELD(struct i8259, chip[n].lowest),            \
        FIELD(struct i8259, chip[n].rotate_aeoi), FIELD(struct i8259, chip[n].special_mask),       \
        FIELD(struct i8259, chip[n].read_isr), FIELD(struct i8259, chip[n].poll)

static const struct field fields[] = {CHIP_FIELDS(0), CHIP_FIELDS(1), FIELD(struct i8259, out)};

const struct state_desc i8259_state_desc = {
    .name = "i8259",
    .version = 1,
    .fields = fields,
    .field_count = ARRAY_SIZE(fields),
    .loaded = loaded,
};
