/* test_ioapic.c - the I/O APIC through the bus, with a local APIC behind it. */
#include "rig.h"

#include "dev/ioapic.h"
#include "dev/lapic.h"

#include <string.h>

#define REGSEL IOAPIC_BASE
#define WINDOW (IOAPIC_BASE + 0x10)
#define EOI_REGISTER (IOAPIC_BASE + 0x40)
#define LAPIC_EOI 0xb0
#define LAPIC_SVR 0xf0
#define LEVEL (1u << 15)
#define MASKED (1u << 16)
#define REMOTE_IRR (1u << 14)

struct system {
    struct rig *rig;
    struct apic_bus bus;
    struct lapic lapic;
    struct ioapic dev;
    unsigned acknowledged; /* ExtINT cycles */
};

static int pic_acknowledge(void *opaque)
{
    struct system *s = opaque;

    s->acknowledged++;
    return 0x20;
}

static void system_init(struct system *s)
{
    struct lapic_wiring wiring;

    memset(s, 0, sizeof(*s));
    s->rig = rig_new();
    apic_bus_init(&s->bus);
    wiring = (struct lapic_wiring){
        .clock = &s->rig->clock,
        .bus = &s->bus,
        .phys_bits = 40,
        .intr = rig_line(s->rig, 0),
        .nmi = rig_line(s->rig, 1),
        .pic_acknowledge = pic_acknowledge,
        .pic_opaque = s,
    };
    lapic_init(&s->lapic, 0, &wiring);
    lapic_mmio_write(&s->lapic, LAPIC_SVR, 0x1ff);
    apic_bus_add(&s->bus, &s->lapic);
    ioapic_init(&s->dev, &s->bus);
    ioapic_attach(&s->dev, &s->rig->bus);
}

static uint32_t rd(struct system *s, unsigned reg)
{
    bus_mmio_write(&s->rig->bus, REGSEL, reg, 4);
    return (uint32_t)bus_mmio_read(&s->rig->bus, WINDOW, 4);
}

static void wr(struct system *s, unsigned reg, uint32_t value)
{
    bus_mmio_write(&s->rig->bus, REGSEL, reg, 1);
    bus_mmio_write(&s->rig->bus, WINDOW, value, 4);
}

static void route(struct system *s, unsigned pin, uint32_t low)
{
    wr(s, 0x11 + 2 * pin, 0);
    wr(s, 0x10 + 2 * pin, low);
}

static int take(struct system *s)
{
    return lapic_acknowledge(&s->lapic);
}

static void eoi(struct system *s)
{
    lapic_mmio_write(&s->lapic, LAPIC_EOI, 0);
}

static void test_registers(void **state)
{
    struct system s;

    (void)state;
    system_init(&s);
    assert_int_equal(rd(&s, 1), 0x00170020);
    wr(&s, 0, 0xffffffff);
    assert_int_equal(rd(&s, 0), 0x0f000000);
    assert_int_equal(rd(&s, 0x10), MASKED);
    wr(&s, 0x3e, 0xffffffff);
    wr(&s, 0x3f, 0xffffffff);
    assert_int_equal(rd(&s, 0x3e), 0x1afff);
    assert_int_equal(rd(&s, 0x3f), 0xff000000);
    assert_int_equal(rd(&s, 0x40), 0);
    rig_free(s.rig);
}

static void test_edge(void **state)
{
    struct system s;

    (void)state;
    system_init(&s);
    ioapic_set_irq(&s.dev, 4, true); /* masked: lost */
    route(&s, 4, 0x34);
    assert_int_equal(take(&s), -1);
    ioapic_set_irq(&s.dev, 4, false);
    ioapic_set_irq(&s.dev, 4, true);
    ioapic_set_irq(&s.dev, 4, true);
    assert_int_equal(take(&s), 0x34);
    eoi(&s);
    assert_int_equal(take(&s), -1);
    rig_free(s.rig);
}

static void test_level(void **state)
{
    struct system s;

    (void)state;
    system_init(&s);
    ioapic_set_irq(&s.dev, 9, true);
    route(&s, 9, LEVEL | 0x39);
    assert_int_equal(rd(&s, 0x22) & REMOTE_IRR, REMOTE_IRR);
    assert_int_equal(take(&s), 0x39);
    eoi(&s);
    assert_int_equal(take(&s), 0x39); /* still high */
    ioapic_set_irq(&s.dev, 9, false);
    eoi(&s);
    assert_int_equal(take(&s), -1);
    assert_int_equal(rd(&s, 0x22) & REMOTE_IRR, 0);
    rig_free(s.rig);
}

static void test_eoi_register_and_edge_trick(void **state)
{
    struct system s;

    (void)state;
    system_init(&s);
    lapic_mmio_write(&s.lapic, LAPIC_SVR, 0x11ff); /* no broadcasts */
    route(&s, 9, LEVEL | 0x39);
    ioapic_set_irq(&s.dev, 9, true);
    assert_int_equal(take(&s), 0x39);
    eoi(&s);
    ioapic_set_irq(&s.dev, 9, false);
    assert_int_equal(rd(&s, 0x22) & REMOTE_IRR, REMOTE_IRR);
    bus_mmio_write(&s.rig->bus, EOI_REGISTER, 0x39, 4);
    assert_int_equal(rd(&s, 0x22) & REMOTE_IRR, 0);
    ioapic_set_irq(&s.dev, 9, true);
    assert_int_equal(take(&s), 0x39);
    eoi(&s);
    route(&s, 9, MASKED | 0x39); /* edge: clears Remote IRR */
    assert_int_equal(rd(&s, 0x22) & REMOTE_IRR, 0);
    rig_free(s.rig);
}

static void test_other_modes(void **state)
{
    struct system s;

    (void)state;
    system_init(&s);
    route(&s, 1, 0x400);
    ioapic_set_irq(&s.dev, 1, true);
    assert_true(s.rig->level[1]);
    route(&s, 0, 0x700);
    ioapic_set_irq(&s.dev, 0, true);
    assert_int_equal(take(&s), 0x20);
    assert_int_equal(s.acknowledged, 1);
    assert_int_equal(take(&s), -1);
    rig_free(s.rig);
}

/* A level that nobody accepts must not stay blocked behind Remote IRR. */
static void test_nobody_accepts(void **state)
{
    struct system s;

    (void)state;
    system_init(&s);
    lapic_mmio_write(&s.lapic, LAPIC_SVR, 0xff);
    route(&s, 5, LEVEL | 0x35);
    ioapic_set_irq(&s.dev, 5, true);
    assert_int_equal(rd(&s, 0x1a) & REMOTE_IRR, 0);
    lapic_mmio_write(&s.lapic, LAPIC_SVR, 0x1ff);
    route(&s, 5, LEVEL | 0x35);
    assert_int_equal(take(&s), 0x35);
    rig_free(s.rig);
}

static void poke(struct system *s)
{
    uint64_t r = rig_random(s->rig), value = rig_random(s->rig);
    gpa_t gpa = IOAPIC_BASE + (r >> 8 & 0x4f);
    unsigned size = 1u << (r >> 16 & 3);

    switch (r & 7) {
    case 0: bus_mmio_read(&s->rig->bus, gpa, size); break;
    case 1: bus_mmio_write(&s->rig->bus, gpa, value, size); break;
    case 2: wr(s, value & 0x3f, (uint32_t)(value >> 32) & ~MASKED); break;
    case 3: take(s); break;
    case 4: eoi(s); break;
    default: ioapic_set_irq(&s->dev, r >> 20 & 31, r >> 28 & 1); break;
    }
}

static void test_hammer(void **state)
{
    struct system s;

    (void)state;
    system_init(&s);
    for (unsigned i = 0; i < 100000; i++)
        poke(&s);
    rig_save_and_load(&ioapic_state_desc, &s.dev);
    rig_load_damaged(s.rig, &ioapic_state_desc, &s.dev, 0, 1);
    for (unsigned i = 0; i < 1000; i++)
        poke(&s);
    rig_free(s.rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_registers),   cmocka_unit_test(test_edge),
        cmocka_unit_test(test_level),       cmocka_unit_test(test_eoi_register_and_edge_trick),
        cmocka_unit_test(test_other_modes), cmocka_unit_test(test_nobody_accepts),
        cmocka_unit_test(test_hammer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
