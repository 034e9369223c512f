/* test_hpet.c - the HPET through the bus. */
#include "rig.h"

#include "dev/hpet.h"

#define IRQ0 30
#define IRQ8 31

#define CAPABILITIES 0x00
#define CONFIG 0x10
#define STATUS 0x20
#define COUNTER 0xf0
#define TN_CONFIG(n) (0x100 + 0x20 * (n))
#define TN_COMPARATOR(n) (0x108 + 0x20 * (n))

#define LEVEL 0x002
#define ENABLE 0x004
#define PERIODIC 0x008
#define SET_VALUE 0x040
#define BITS32 0x100
#define ROUTE(n) ((n) << 9)

struct system {
    struct rig *rig;
    struct hpet dev;
};

static void system_init(struct system *s)
{
    s->rig = rig_new();
    hpet_init(&s->dev, &s->rig->clock, rig_line(s->rig, 0), HPET_ROUTES_DEFAULT,
              rig_line(s->rig, IRQ0), rig_line(s->rig, IRQ8));
    hpet_attach(&s->dev, &s->rig->bus);
}

static uint64_t rd(struct system *s, unsigned reg)
{
    return bus_mmio_read(&s->rig->bus, HPET_BASE + reg, 8);
}

static void wr(struct system *s, unsigned reg, uint64_t value)
{
    bus_mmio_write(&s->rig->bus, HPET_BASE + reg, value, 8);
}

static void wr32(struct system *s, unsigned reg, uint32_t value)
{
    bus_mmio_write(&s->rig->bus, HPET_BASE + reg, value, 4);
}

static void test_counter(void **state)
{
    struct system s;

    (void)state;
    system_init(&s);
    assert_true(rd(&s, CAPABILITIES) == ((uint64_t)HPET_PERIOD_FS << 32 | HPET_ID));
    assert_int_equal(bus_mmio_read(&s.rig->bus, HPET_BASE + 4, 4), HPET_PERIOD_FS);
    rig_pass(s.rig, 1000);
    assert_int_equal(rd(&s, COUNTER), 0);
    wr(&s, COUNTER, 0xfffffff0);
    wr(&s, CONFIG, 1);
    rig_pass(s.rig, 1000);
    assert_true(rd(&s, COUNTER) == 0x100000054);
    assert_int_equal(bus_mmio_read(&s.rig->bus, HPET_BASE + COUNTER + 4, 4), 1);
    wr(&s, COUNTER, 5); /* running: not writable */
    assert_true(rd(&s, COUNTER) == 0x100000054);
    wr32(&s, CONFIG, 0);
    rig_pass(s.rig, 1000);
    assert_true(rd(&s, COUNTER) == 0x100000054);
    rig_free(s.rig);
}

static void test_one_shot_edge(void **state)
{
    struct system s;

    (void)state;
    system_init(&s);
    wr(&s, CONFIG, 1);
    wr(&s, TN_CONFIG(0), ENABLE | ROUTE(21));
    wr(&s, TN_COMPARATOR(0), 1000);
    rig_pass(s.rig, 9999);
    assert_int_equal(s.rig->rises[21], 0);
    rig_pass(s.rig, 1);
    assert_int_equal(s.rig->rises[21], 1);
    rig_pass(s.rig, 1000000000);
    assert_int_equal(s.rig->rises[21], 1);
    wr(&s, TN_COMPARATOR(0), 5); /* passed: not before the counter wraps */
    rig_pass(s.rig, 1000000000);
    assert_int_equal(s.rig->rises[21], 1);
    rig_free(s.rig);
}

static void test_32_bits_wrap(void **state)
{
    struct system s;

    (void)state;
    system_init(&s);
    wr(&s, CONFIG, 1);
    wr(&s, TN_CONFIG(1), ENABLE | BITS32 | ROUTE(20));
    wr(&s, TN_COMPARATOR(1), 0xffffffff00000064);
    assert_int_equal(rd(&s, TN_COMPARATOR(1)), 0x64);
    rig_pass(s.rig, 42949672960 + 2000);
    assert_int_equal(s.rig->rises[20], 2);
    rig_free(s.rig);
}

/* As Linux does it: value, then period. */
static void test_periodic_legacy(void **state)
{
    struct system s;

    (void)state;
    system_init(&s);
    hpet_legacy_input(&s.dev, 0, true);
    assert_true(s.rig->level[IRQ0]);
    wr(&s, CONFIG, 3);
    assert_false(s.rig->level[IRQ0]); /* the 8254 is cut off */
    s.rig->rises[IRQ0] = 0;
    wr32(&s, TN_CONFIG(0), ENABLE | PERIODIC | SET_VALUE | BITS32);
    wr32(&s, TN_COMPARATOR(0), 100000);
    wr32(&s, TN_COMPARATOR(0), 400000); /* 4 ms */
    rig_pass(s.rig, 1000000000);
    assert_int_equal(s.rig->rises[IRQ0], 250);
    assert_int_equal(rd(&s, TN_COMPARATOR(0)), 100100000);
    hpet_legacy_input(&s.dev, 0, false);
    hpet_legacy_input(&s.dev, 0, true);
    assert_int_equal(s.rig->rises[IRQ0], 250);
    wr(&s, CONFIG, 1);
    assert_true(s.rig->level[IRQ0]);
    rig_free(s.rig);
}

static void test_level(void **state)
{
    struct system s;

    (void)state;
    system_init(&s);
    wr(&s, CONFIG, 1);
    wr(&s, TN_CONFIG(2), ENABLE | LEVEL | ROUTE(22));
    wr(&s, TN_COMPARATOR(2), 100);
    rig_pass(s.rig, 1000);
    assert_true(s.rig->level[22]);
    assert_int_equal(rd(&s, STATUS), 4);
    wr(&s, TN_CONFIG(2), ENABLE | LEVEL | ROUTE(23)); /* moves along */
    assert_false(s.rig->level[22]);
    assert_true(s.rig->level[23]);
    wr(&s, TN_CONFIG(2), ENABLE | LEVEL | ROUTE(3)); /* no such route */
    assert_true(s.rig->level[23]);
    assert_int_equal(rd(&s, TN_CONFIG(2)) >> 9 & 31, 23);
    wr(&s, STATUS, 3);
    assert_true(s.rig->level[23]);
    wr(&s, STATUS, 4);
    assert_false(s.rig->level[23]);
    rig_free(s.rig);
}

/* A period of one tick must not make us spin, and lost time must not come back as a burst. */
static void test_rate_is_limited(void **state)
{
    struct system s;

    (void)state;
    system_init(&s);
    wr(&s, CONFIG, 1);
    wr(&s, TN_CONFIG(0), ENABLE | PERIODIC | SET_VALUE | ROUTE(20));
    wr(&s, TN_COMPARATOR(0), 1);
    rig_pass(s.rig, 100000000);
    assert_in_range(s.rig->rises[20], 4900, 5001);
    wr(&s, TN_COMPARATOR(0), 100000);
    rig_pass(s.rig, 1000000);
    s.rig->rises[20] = 0;
    clock_set(&s.rig->clock, 3600000000000, 0);
    for (unsigned i = 0; i < 10; i++)
        clock_run_timers(&s.rig->clock);
    assert_int_equal(s.rig->rises[20], 1);
    wr(&s, TN_COMPARATOR(0), 0); /* no period: the match that is on its way is the last */
    s.rig->rises[20] = 0;
    rig_pass(s.rig, 1000000000);
    assert_int_equal(s.rig->rises[20], 1);
    rig_free(s.rig);
}

static void poke(struct system *s)
{
    uint64_t r = rig_random(s->rig), value = rig_random(s->rig);
    gpa_t gpa = HPET_BASE + (r >> 8) % 0x180;
    unsigned size = 1u << (r >> 20 & 3);

    if (r & 0x10000)
        gpa &= ~UINT64_C(7);
    switch (r & 3) {
    case 0: bus_mmio_read(&s->rig->bus, gpa, size); break;
    case 1: rig_pass(s->rig, value >> (40 + (r >> 32) % 24)); break;
    case 2: hpet_legacy_input(&s->dev, r >> 4 & 1, r >> 5 & 1); break;
    default: bus_mmio_write(&s->rig->bus, gpa, value >> (r >> 24 & 63), size); break;
    }
}

static void poke_often(void *opaque)
{
    for (unsigned i = 0; i < 20; i++)
        poke(opaque);
}

static void test_hammer(void **state)
{
    struct system s;

    (void)state;
    system_init(&s);
    for (unsigned i = 0; i < 50000; i++)
        poke(&s);
    rig_save_and_load(&hpet_state_desc, &s.dev);
    rig_load_damaged_and(s.rig, &hpet_state_desc, &s.dev, 1000, poke_often, &s);
    rig_free(s.rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counter),      cmocka_unit_test(test_one_shot_edge),
        cmocka_unit_test(test_32_bits_wrap), cmocka_unit_test(test_periodic_legacy),
        cmocka_unit_test(test_level),        cmocka_unit_test(test_rate_is_limited),
        cmocka_unit_test(test_hammer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
