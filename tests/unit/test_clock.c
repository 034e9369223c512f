/* test_clock.c - guest time, TSC and timers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <time.h>

#include "bus/clock.h"

struct log {
    struct clock clock;
    struct timer timer[4];
    unsigned order[16], fired, changed;
    bool again; /* timer 3 sets itself to a time in the past */
};

static void fire(struct log *log, unsigned i)
{
    assert_true(log->fired < 16);
    log->order[log->fired++] = i;
    if (i == 3 && log->again)
        timer_set(&log->clock, &log->timer[3], 0);
}
static void fire0(void *opaque)
{
    fire(opaque, 0);
}
static void fire1(void *opaque)
{
    fire(opaque, 1);
}
static void fire2(void *opaque)
{
    fire(opaque, 2);
}
static void fire3(void *opaque)
{
    fire(opaque, 3);
}

static void changed(void *opaque)
{
    struct log *log = opaque;

    log->changed++;
}

static void log_init(struct log *log)
{
    *log = (struct log){0};
    clock_init(&log->clock, CLOCK_VIRTUAL);
    clock_start(&log->clock);
    log->clock.changed = changed;
    log->clock.changed_opaque = log;
    timer_init(&log->timer[0], fire0, log);
    timer_init(&log->timer[1], fire1, log);
    timer_init(&log->timer[2], fire2, log);
    timer_init(&log->timer[3], fire3, log);
}

static void test_order(void **state)
{
    struct log log;

    (void)state;
    log_init(&log);
    assert_true(clock_next_deadline(&log.clock) == CLOCK_NEVER);
    timer_set(&log.clock, &log.timer[0], 300);
    timer_set(&log.clock, &log.timer[1], 100);
    timer_set(&log.clock, &log.timer[2], 100);
    assert_int_equal(log.changed, 2); /* the third is not earlier */
    timer_set(&log.clock, &log.timer[3], 50);
    timer_cancel(&log.clock, &log.timer[3]);
    assert_false(timer_pending(&log.timer[3]));
    assert_int_equal(clock_next_deadline(&log.clock), 100);
    clock_set(&log.clock, 99, 99);
    clock_run_timers(&log.clock);
    assert_int_equal(log.fired, 0);
    clock_set(&log.clock, 1000, 1000);
    clock_run_timers(&log.clock);
    assert_int_equal(log.fired, 3);
    assert_int_equal(log.order[0], 1);
    assert_int_equal(log.order[1], 2);
    assert_int_equal(log.order[2], 0);
    assert_true(clock_next_deadline(&log.clock) == CLOCK_NEVER);
}

/* A guest that halts with such a timer would otherwise bring virtual time to its end. */
static void test_timer_beyond_the_last_never_fires(void **state)
{
    struct log log;

    (void)state;
    log_init(&log);
    timer_set(&log.clock, &log.timer[0], CLOCK_LAST + 1);
    assert_false(timer_pending(&log.timer[0]));
    timer_set(&log.clock, &log.timer[0], CLOCK_LAST);
    assert_int_equal(clock_next_deadline(&log.clock), CLOCK_LAST);
    timer_set(&log.clock, &log.timer[0], CLOCK_NEVER - 1);
    assert_true(clock_next_deadline(&log.clock) == CLOCK_NEVER);
    assert_int_equal(log.changed, 1);
}

static void test_timer_in_the_past_ends(void **state)
{
    struct log log;

    (void)state;
    log_init(&log);
    log.again = true;
    clock_set(&log.clock, 10, 10);
    timer_set(&log.clock, &log.timer[3], 1);
    timer_set(&log.clock, &log.timer[0], 2);
    clock_run_timers(&log.clock);
    assert_int_equal(log.fired, 2);
    assert_true(timer_pending(&log.timer[3]));
}

static void test_virtual_tsc(void **state)
{
    struct log log;

    (void)state;
    log_init(&log);
    clock_set(&log.clock, 500, 10500);
    assert_int_equal(clock_tsc(&log.clock), 10500);
    assert_int_equal(clock_tsc_to_ns(&log.clock, 10600), 600);
    assert_int_equal(clock_tsc_to_ns(&log.clock, 3), 500); /* past */
    assert_true(clock_tsc_to_ns(&log.clock, UINT64_MAX) == UINT64_MAX - 10000);
    log.clock.tsc_khz = 1;
    assert_true(clock_tsc_to_ns(&log.clock, UINT64_MAX) == CLOCK_NEVER);
}

static void test_host_clock(void **state)
{
    struct timespec nap = {.tv_nsec = 2000000};
    struct clock clock;
    uint64_t ns, tsc, tsc_ns;

    (void)state;
    clock_init(&clock, CLOCK_HOST);
    assert_true(clock.tsc_khz > 100000 && clock.tsc_khz < 100000000);
    nanosleep(&nap, NULL);
    assert_int_equal(clock_now(&clock), 0); /* stopped */
    assert_int_equal(clock_tsc(&clock), 0);
    clock_start(&clock);
    nanosleep(&nap, NULL);
    clock_stop(&clock);
    ns = clock_now(&clock);
    tsc = clock_tsc(&clock);
    assert_true(ns >= 2000000);
    /* They stand for the same moment, even if the processor was lost in between. The frequency is
     * measured to 1 %, and reading takes a while. */
    tsc_ns = muldiv64(tsc, 1000000, clock.tsc_khz);
    assert_in_range(tsc_ns, ns - ns / 100 - 20000, ns + ns / 100 + 20000);
    nanosleep(&nap, NULL);
    assert_true(clock_now(&clock) == ns);
    assert_true(clock_tsc(&clock) == tsc);
    clock_set(&clock, 5, 7);
    clock_start(&clock);
    assert_true(clock_now(&clock) >= 5);
    assert_true(clock_tsc(&clock) >= 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_timer_beyond_the_last_never_fires),
        cmocka_unit_test(test_timer_in_the_past_ends),
        cmocka_unit_test(test_virtual_tsc),
        cmocka_unit_test(test_host_clock),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
