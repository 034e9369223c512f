/* test_mc146818.c - the real-time clock, through the bus: calendar, formats, update in progress,
 * the three interrupts, and the memory that describes the machine. */
#include "rig.h"

#include "dev/mc146818.h"

#define SECOND UINT64_C(1000000000)

enum { IRQ, NMI_MASK };

struct fixture {
    struct rig *rig;
    struct mc146818 rtc;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    f->rig = rig_new();
    mc146818_init(&f->rtc, &f->rig->clock, rig_line(f->rig, IRQ), rig_line(f->rig, NMI_MASK),
                  mc146818_start_time(&f->rig->clock));
    mc146818_attach(&f->rtc, &f->rig->bus);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    rig_free(f->rig);
    free(f);
    return 0;
}

static uint8_t get(struct fixture *f, uint8_t reg)
{
    rig_out(f->rig, 0x70, reg);
    return rig_in(f->rig, 0x71);
}

static void set(struct fixture *f, uint8_t reg, uint8_t value)
{
    rig_out(f->rig, 0x70, reg);
    rig_out(f->rig, 0x71, value);
}

static void expect_date(struct fixture *f, unsigned year, unsigned month, unsigned day,
                        unsigned week_day)
{
    assert_int_equal(get(f, 0x32), year >> 8);
    assert_int_equal(get(f, 9), year & 0xff);
    assert_int_equal(get(f, 8), month);
    assert_int_equal(get(f, 7), day);
    assert_int_equal(get(f, 6), week_day);
}

static void expect_time(struct fixture *f, unsigned hours, unsigned minutes, unsigned seconds)
{
    assert_int_equal(get(f, 4), hours);
    assert_int_equal(get(f, 2), minutes);
    assert_int_equal(get(f, 0), seconds);
}

static void starts_and_ticks(void **state)
{
    struct fixture *f = *state;

    expect_date(f, 0x2000, 0x01, 0x01, 7); /* a Saturday */
    expect_time(f, 0, 0, 0);
    rig_pass(f->rig, 86399 * SECOND);
    expect_time(f, 0x23, 0x59, 0x59);
    rig_pass(f->rig, SECOND);
    expect_date(f, 0x2000, 0x01, 0x02, 1);
    rig_pass(f->rig, 58 * 86400 * SECOND);
    expect_date(f, 0x2000, 0x02, 0x29, 3);
    rig_pass(f->rig, 307 * 86400 * SECOND);
    expect_date(f, 0x2001, 0x01, 0x01, 2);
    rig_pass(f->rig, UINT64_C(36159) * 86400 * SECOND);
    expect_date(f, 0x2100, 0x01, 0x01, 6);
    rig_pass(f->rig, 59 * 86400 * SECOND);
    expect_date(f, 0x2100, 0x03, 0x01, 2); /* no leap year */
}

static void formats(void **state)
{
    struct fixture *f = *state;

    set(f, 0x0b, 0x86); /* SET, binary, 24 hours */
    set(f, 4, 23);
    set(f, 2, 59);
    set(f, 0, 59);
    set(f, 7, 31);
    set(f, 8, 12);
    set(f, 9, 99);
    set(f, 0x32, 19);
    rig_pass(f->rig, 10 * SECOND);
    assert_int_equal(get(f, 0), 59); /* it stands while SET */
    set(f, 0x0b, 0x06);
    rig_pass(f->rig, SECOND);
    assert_int_equal(get(f, 0x32), 20);
    assert_int_equal(get(f, 9), 0);
    expect_time(f, 0, 0, 0);
    set(f, 0x0b, 0x80); /* BCD, 12 hours */
    set(f, 4, 0x91);    /* 11 p.m. */
    set(f, 2, 0x59);
    set(f, 0, 0x59);
    set(f, 0x0b, 0x00);
    rig_pass(f->rig, SECOND);
    expect_time(f, 0x12, 0, 0); /* midnight */
    rig_pass(f->rig, 12 * 3600 * SECOND);
    expect_time(f, 0x92, 0, 0); /* noon */
    rig_pass(f->rig, 3600 * SECOND);
    expect_time(f, 0x81, 0, 0);
}

static void update_in_progress(void **state)
{
    struct fixture *f = *state;

    rig_pass(f->rig, SECOND - 245000);
    assert_int_equal(get(f, 0x0a), 0x26);
    rig_pass(f->rig, 2000);
    assert_int_equal(get(f, 0x0a), 0xa6);
    rig_pass(f->rig, 243000);
    assert_int_equal(get(f, 0x0a), 0x26);
    assert_int_equal(get(f, 0), 1);
}

static void divider_reset(void **state)
{
    struct fixture *f = *state;

    rig_pass(f->rig, SECOND / 10);
    set(f, 0x0a, 0x76);
    rig_pass(f->rig, 10 * SECOND);
    set(f, 0x0a, 0x26);
    assert_int_equal(get(f, 0), 0);
    rig_pass(f->rig, SECOND / 2 - 1);
    assert_int_equal(get(f, 0), 0);
    rig_pass(f->rig, 1);
    assert_int_equal(get(f, 0), 1);
}

static void periodic_interrupt(void **state)
{
    struct fixture *f = *state;
    unsigned ticks = 0;

    set(f, 0x0b, 0x42);
    for (unsigned i = 0; i < 10000; i++) { /* a second */
        rig_pass(f->rig, SECOND / 10000);
        if (f->rig->level[IRQ]) {
            assert_int_equal(get(f, 0x0c) & 0xc0, 0xc0);
            ticks++;
        }
        assert_false(f->rig->level[IRQ]);
    }
    assert_in_range(ticks, 1023, 1024);
    rig_pass(f->rig, SECOND);
    assert_int_equal(f->rig->rises[IRQ], ticks + 1); /* not read: it stays up */
    set(f, 0x0b, 0x02);
    assert_false(f->rig->level[IRQ]);
    (void)get(f, 0x0c);
    rig_pass(f->rig, SECOND / 1000 * 2);
    assert_int_equal(get(f, 0x0c), 0x40); /* PF comes without PIE too */
}

static void update_interrupt(void **state)
{
    struct fixture *f = *state;

    set(f, 0x0b, 0x12);
    rig_pass(f->rig, SECOND - 1);
    assert_false(f->rig->level[IRQ]);
    rig_pass(f->rig, 1);
    assert_true(f->rig->level[IRQ]);
    assert_int_equal(get(f, 0x0c) & 0xb0, 0x90);
    rig_pass(f->rig, SECOND);
    assert_int_equal(f->rig->rises[IRQ], 2);
    set(f, 0x0b, 0x92);
    assert_int_equal(get(f, 0x0b), 0x82); /* SET clears UIE */
}

static void alarm_interrupt(void **state)
{
    struct fixture *f = *state;

    set(f, 1, 0x30);
    set(f, 3, 0x02);
    set(f, 5, 0xff); /* any hour */
    set(f, 0x0b, 0x22);
    rig_pass(f->rig, 149 * SECOND);
    assert_false(f->rig->level[IRQ]);
    rig_pass(f->rig, SECOND);
    assert_true(f->rig->level[IRQ]);
    assert_int_equal(get(f, 0x0c) & 0xa0, 0xa0);
    rig_pass(f->rig, 3600 * SECOND);
    assert_int_equal(f->rig->rises[IRQ], 2);
    set(f, 0x0b, 0x02);
    (void)get(f, 0x0c);
    rig_pass(f->rig, 3600 * SECOND);
    assert_int_equal(get(f, 0x0c) & 0xa0, 0x20); /* AF without AIE */
}

static void nonsense_in_the_registers(void **state)
{
    struct fixture *f = *state;

    for (unsigned reg = 0; reg < 10; reg++)
        set(f, (uint8_t)reg, 0xff);
    set(f, 0x32, 0xff);
    assert_int_equal(get(f, 0), 0xff);
    rig_pass(f->rig, SECOND);
    expect_date(f, 0x0000, 0x01, 0x01, 7); /* after the end of 9999, which is as far as it goes */
    expect_time(f, 0, 0, 0);
}

static void nmi_mask_and_index(void **state)
{
    struct fixture *f = *state;

    rig_out(f->rig, 0x70, 0x8f);
    assert_true(f->rig->level[NMI_MASK]);
    rig_out(f->rig, 0x71, 0x0a);
    rig_out(f->rig, 0x70, 0x0d);
    assert_false(f->rig->level[NMI_MASK]);
    assert_int_equal(rig_in(f->rig, 0x71), 0x80);
    assert_int_equal(get(f, MC146818_SHUTDOWN), 0x0a);
    mc146818_reset(&f->rtc);
    assert_int_equal(get(f, MC146818_SHUTDOWN), 0x0a);
}

static void describes_the_machine(void **state)
{
    struct fixture *f = *state;
    unsigned sum = 0;

    mc146818_describe_machine(&f->rtc, 3 * GIB, 5 * GIB, 4);
    assert_int_equal(get(f, 0x15) | get(f, 0x16) << 8, 640);
    assert_int_equal(get(f, 0x17) | get(f, 0x18) << 8, 0xffff);
    assert_int_equal(get(f, 0x30) | get(f, 0x31) << 8, 0xffff);
    assert_int_equal(get(f, 0x34) | get(f, 0x35) << 8, (3 * 1024 - 16) * 16);
    assert_int_equal(get(f, 0x5b) | get(f, 0x5c) << 8 | get(f, 0x5d) << 16, 5 * 16384);
    assert_int_equal(get(f, 0x5f), 3);
    for (uint8_t i = 0x10; i <= 0x2d; i++)
        sum += get(f, i);
    assert_int_equal(get(f, 0x2e) << 8 | get(f, 0x2f), sum);
    mc146818_describe_machine(&f->rtc, MIB, 0, 1);
    assert_int_equal(get(f, 0x30) | get(f, 0x31) << 8, 0);
    assert_int_equal(get(f, 0x34) | get(f, 0x35) << 8, 0);
}

/* The state of a new clock after ten seconds and a half. */
static void save_later(bool look, uint8_t **data, size_t *size)
{
    struct state_list *list = state_list_new();
    struct fixture *f;
    void *state;
    struct err err;

    setup(&state);
    f = state;
    for (unsigned i = 0; i < 7; i++) {
        rig_pass(f->rig, SECOND * 3 / 2);
        if (look)
            (void)get(f, 0);
    }
    rig_out(f->rig, 0x70, 0);
    state_add(list, &mc146818_state_desc, 0, &f->rtc);
    *data = NULL;
    *size = 0;
    assert_int_equal(state_save(list, data, size, &err), 0);
    state_list_free(list);
    teardown(&state);
}

static void state_does_not_say_who_looked(void **state)
{
    uint8_t *seen, *unseen;
    size_t size, unseen_size;

    (void)state;
    save_later(true, &seen, &size);
    save_later(false, &unseen, &unseen_size);
    assert_int_equal(size, unseen_size);
    assert_memory_equal(seen, unseen, size);
    free(seen);
    free(unseen);
}

static void survives_hostility(void **state)
{
    struct fixture *f = *state;

    rig_hammer(f->rig, 0x6f, 4, 20000);
    for (unsigned i = 0; i < 20000; i++) { /* most accesses to a register that matters */
        set(f, (uint8_t)(rig_random(f->rig) % 14), (uint8_t)rig_random(f->rig));
        (void)get(f, (uint8_t)(rig_random(f->rig) % 14));
        rig_pass(f->rig, rig_random(f->rig) >> 40);
    }
    rig_save_and_load(&mc146818_state_desc, &f->rtc);
    rig_load_damaged(f->rig, &mc146818_state_desc, &f->rtc, 0x70, 2);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(starts_and_ticks),   TEST(formats),
        TEST(update_in_progress), TEST(divider_reset),
        TEST(periodic_interrupt), TEST(update_interrupt),
        TEST(alarm_interrupt),    TEST(nonsense_in_the_registers),
        TEST(nmi_mask_and_index), TEST(describes_the_machine),
        TEST(survives_hostility), cmocka_unit_test(state_does_not_say_who_looked),
    };

    return cmocka_run_group_tests_name("mc146818", tests, NULL, NULL);
}
