/* test_i8254.c - the interval timer and port 61h through their ports. */
#include "rig.h"

#include "dev/i8254.h"

#define IRQ0 0

struct pit {
    struct rig *rig;
    struct i8254 dev;
};

static void pit_init(struct pit *p)
{
    p->rig = rig_new();
    i8254_init(&p->dev, &p->rig->clock, rig_line(p->rig, IRQ0));
    i8254_attach(&p->dev, &p->rig->bus);
}

static void load(struct pit *p, unsigned counter, unsigned control, unsigned count)
{
    rig_out(p->rig, 0x43, counter << 6 | control);
    rig_out(p->rig, (uint16_t)(0x40 + counter), count & 0xff);
    rig_out(p->rig, (uint16_t)(0x40 + counter), count >> 8);
}

static unsigned read16(struct pit *p, unsigned counter)
{
    unsigned low = rig_in(p->rig, (uint16_t)(0x40 + counter));

    return low | (unsigned)rig_in(p->rig, (uint16_t)(0x40 + counter)) << 8;
}

static unsigned status(struct pit *p, unsigned counter)
{
    rig_out(p->rig, 0x43, 0xe0 | 2u << counter);
    return rig_in(p->rig, (uint16_t)(0x40 + counter));
}

static void pass_ticks(struct pit *p, uint64_t ticks)
{
    rig_pass(p->rig, (ticks * 1000000000 + I8254_HZ - 1) / I8254_HZ);
}

static void test_rate_generator(void **state)
{
    struct pit p;

    (void)state;
    pit_init(&p);
    load(&p, 0, 0x34, 1193); /* about 1 ms */
    rig_pass(p.rig, 1000000000);
    assert_in_range(p.rig->rises[IRQ0], 999, 1001);
    rig_free(p.rig);
}

static void test_square_wave(void **state)
{
    struct pit p;

    (void)state;
    pit_init(&p);
    load(&p, 0, 0x36, 0); /* 65536: 18.2 Hz */
    rig_pass(p.rig, 10000000000);
    assert_in_range(p.rig->rises[IRQ0], 182, 183);
    load(&p, 1, 0x36, 100);
    pass_ticks(&p, 11);
    assert_int_equal(status(&p, 1), 0x36 | 0x80);
    assert_int_equal(read16(&p, 1), 80); /* counts by two */
    pass_ticks(&p, 50);
    assert_int_equal(status(&p, 1) & 0x80, 0);
    rig_free(p.rig);
}

static void test_terminal_count(void **state)
{
    struct pit p;

    (void)state;
    pit_init(&p);
    load(&p, 0, 0x30, 1000);
    assert_int_equal(status(&p, 0), 0x30 | 0x40); /* OUT low, null count */
    pass_ticks(&p, 500);
    assert_false(p.rig->level[IRQ0]);
    assert_in_range(read16(&p, 0), 499, 502);
    pass_ticks(&p, 502);
    assert_int_equal(p.rig->rises[IRQ0], 1);
    assert_int_equal(status(&p, 0), 0x30 | 0x80);
    assert_in_range(read16(&p, 0), 0xfff0, 0xffff); /* goes on below 0 */
    rig_pass(p.rig, 1000000000);
    assert_int_equal(p.rig->rises[IRQ0], 1);
    rig_free(p.rig);
}

static void test_software_strobe(void **state)
{
    struct pit p;

    (void)state;
    pit_init(&p);
    load(&p, 0, 0x38, 100);
    pass_ticks(&p, 99);
    assert_int_equal(status(&p, 0) & 0x80, 0x80);
    pass_ticks(&p, 2);
    assert_int_equal(status(&p, 0) & 0x80, 0); /* for one tick */
    pass_ticks(&p, 2);
    assert_int_equal(status(&p, 0) & 0x80, 0x80);
    rig_free(p.rig);
}

/* What Linux and boot loaders calibrate with: counter 2, mode 0, OUT at port 61h. */
static void test_counter2_and_port61(void **state)
{
    uint64_t start;
    struct pit p;

    (void)state;
    pit_init(&p);
    rig_out(p.rig, 0x61, 0x01);
    load(&p, 2, 0x30, 11932); /* 10 ms */
    start = clock_now(&p.rig->clock);
    while (!(rig_in(p.rig, 0x61) & 0x20))
        rig_pass(p.rig, 100);
    assert_in_range(clock_now(&p.rig->clock) - start, 9999000, 10003000);
    assert_int_equal(rig_in(p.rig, 0x61) & 0xcf, 0x01);
    rig_free(p.rig);
}

static void test_gate_pauses(void **state)
{
    struct pit p;

    (void)state;
    pit_init(&p);
    rig_out(p.rig, 0x61, 0x01);
    load(&p, 2, 0x30, 1000);
    pass_ticks(&p, 401);
    rig_out(p.rig, 0x61, 0x00);
    pass_ticks(&p, 5000);
    assert_in_range(read16(&p, 2), 599, 601);
    rig_out(p.rig, 0x61, 0x01);
    pass_ticks(&p, 590);
    assert_int_equal(rig_in(p.rig, 0x61) & 0x20, 0);
    pass_ticks(&p, 12);
    assert_int_equal(rig_in(p.rig, 0x61) & 0x20, 0x20);
    rig_free(p.rig);
}

static void test_one_shot(void **state)
{
    struct pit p;

    (void)state;
    pit_init(&p);
    load(&p, 2, 0x32, 100);
    pass_ticks(&p, 1000);
    assert_int_equal(rig_in(p.rig, 0x61) & 0x20, 0x20); /* waits for the gate */
    rig_out(p.rig, 0x61, 0x01);
    pass_ticks(&p, 50);
    assert_int_equal(rig_in(p.rig, 0x61) & 0x20, 0);
    rig_out(p.rig, 0x61, 0x00); /* does not matter */
    rig_out(p.rig, 0x61, 0x01); /* begins again */
    pass_ticks(&p, 90);
    assert_int_equal(rig_in(p.rig, 0x61) & 0x20, 0);
    pass_ticks(&p, 20);
    assert_int_equal(rig_in(p.rig, 0x61) & 0x20, 0x20);
    rig_free(p.rig);
}

static void test_refresh_toggles(void **state)
{
    unsigned toggles = 0, last = 0;
    struct pit p;

    (void)state;
    pit_init(&p);
    for (unsigned i = 0; i < 1000; i++) {
        unsigned now = rig_in(p.rig, 0x61) & 0x10;

        toggles += now != last;
        last = now;
        rig_pass(p.rig, 1000);
    }
    assert_in_range(toggles, 65, 67); /* every 15.085 us in 1 ms */
    rig_free(p.rig);
}

static void test_latch_and_access(void **state)
{
    struct pit p;

    (void)state;
    pit_init(&p);
    load(&p, 1, 0x34, 0x1234);
    pass_ticks(&p, 5);
    rig_out(p.rig, 0x43, 0x40); /* latch */
    pass_ticks(&p, 700);
    rig_out(p.rig, 0x43, 0x40); /* a second latch has no effect */
    assert_in_range(read16(&p, 1), 0x122f, 0x1231);
    rig_out(p.rig, 0x43, 0xc4); /* read back: status, then count */
    assert_int_equal(rig_in(p.rig, 0x41), 0x80 | 0x34);
    assert_in_range(read16(&p, 1), 0xf60, 0xf80);
    rig_out(p.rig, 0x43, 0x64); /* high byte only */
    rig_out(p.rig, 0x41, 0x02);
    pass_ticks(&p, 2);
    assert_int_equal(rig_in(p.rig, 0x41), 0x01);
    assert_int_equal(rig_in(p.rig, 0x41), 0x01);
    rig_free(p.rig);
}

static void test_bcd(void **state)
{
    struct pit p;

    (void)state;
    pit_init(&p);
    load(&p, 1, 0x31, 0x1000);
    pass_ticks(&p, 2);
    assert_int_equal(read16(&p, 1), 0x0999);
    load(&p, 1, 0x31, 0x0000); /* 10000 */
    pass_ticks(&p, 11);
    assert_int_equal(read16(&p, 1), 0x9990);
    rig_free(p.rig);
}

static void test_new_count_waits(void **state)
{
    struct pit p;

    (void)state;
    pit_init(&p);
    load(&p, 1, 0x34, 1000);
    pass_ticks(&p, 11);
    rig_out(p.rig, 0x41, 50);
    rig_out(p.rig, 0x41, 0);
    assert_int_equal(status(&p, 1) & 0x40, 0x40);
    assert_int_equal(read16(&p, 1), 990);
    pass_ticks(&p, 1000);
    assert_int_equal(status(&p, 1) & 0x40, 0);
    assert_in_range(read16(&p, 1), 39, 41);
    rig_free(p.rig);
}

/* A count of 1 must not make us spin, and lost time must not come back as a burst. */
static void test_rate_is_limited(void **state)
{
    struct pit p;

    (void)state;
    pit_init(&p);
    load(&p, 0, 0x34, 1);
    rig_pass(p.rig, 100000000);
    assert_in_range(p.rig->rises[IRQ0], 4900, 5001);
    load(&p, 0, 0x34, 1193);
    p.rig->rises[IRQ0] = 0;
    clock_set(&p.rig->clock, 3600000000000, 0);
    for (unsigned i = 0; i < 10; i++)
        clock_run_timers(&p.rig->clock);
    assert_in_range(p.rig->rises[IRQ0], 1, 1);
    rig_free(p.rig);
}

static void test_hammer(void **state)
{
    struct pit p;

    (void)state;
    pit_init(&p);
    for (unsigned i = 0; i < 200; i++) {
        rig_hammer(p.rig, 0x40, 4, 50);
        rig_hammer(p.rig, 0x60, 2, 10);
    }
    rig_save_and_load(&i8254_state_desc, &p.dev);
    rig_load_damaged(p.rig, &i8254_state_desc, &p.dev, 0x40, 4);
    clock_set(&p.rig->clock, UINT64_MAX - 1000, 0);
    rig_hammer(p.rig, 0x40, 4, 4);
    rig_free(p.rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rate_generator),
        cmocka_unit_test(test_square_wave),
        cmocka_unit_test(test_terminal_count),
        cmocka_unit_test(test_software_strobe),
        cmocka_unit_test(test_counter2_and_port61),
        cmocka_unit_test(test_gate_pauses),
        cmocka_unit_test(test_one_shot),
        cmocka_unit_test(test_refresh_toggles),
        cmocka_unit_test(test_latch_and_access),
        cmocka_unit_test(test_bcd),
        cmocka_unit_test(test_new_count_waits),
        cmocka_unit_test(test_rate_is_limited),
        cmocka_unit_test(test_hammer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
