/* hpet.c - the high precision event timer (IA-PC HPET specification 1.0a).
 *
 * The main counter follows from the guest's time; a comparator sets a timer of the clock for the
 * moment at which the counter will be equal to it. "Equal" is taken literally: a comparator that
 * was passed when it was written matches after the counter has wrapped, as on hardware. A periodic
 * comparator that the host served late catches up in one go, and fires at most every 20 us.
 *
 * Reading a halted counter, 32-bit comparators and accesses to halves of registers work. FSB (MSI)
 * delivery is not offered. */
#include "dev/hpet.h"

#include "base/trace.h"

#include <errno.h>
#include <string.h>

#define NS_PER_TICK 10u
#define MIN_PERIOD_NS 20000u
#define SIZE 0x400

#define REG_CAPABILITIES 0x00
#define REG_CONFIG 0x10
#define REG_STATUS 0x20
#define REG_COUNTER 0xf0
#define REG_TIMER 0x100 /* 20h bytes for each: configuration, comparator, FSB route */

#define CONFIG_ENABLE 1u
#define CONFIG_LEGACY 2u

#define TN_LEVEL (1u << 1)
#define TN_ENABLE (1u << 2)
#define TN_PERIODIC (1u << 3)
#define TN_PERIODIC_CAP (1u << 4)
#define TN_64BIT_CAP (1u << 5)
#define TN_SET_VALUE (1u << 6)
#define TN_32BIT (1u << 8)
#define TN_ROUTE_SHIFT 9
#define TN_ROUTE (31u << TN_ROUTE_SHIFT)
#define TN_WRITABLE (TN_LEVEL | TN_ENABLE | TN_PERIODIC | TN_SET_VALUE | TN_32BIT | TN_ROUTE)

/* --- the main counter --- */

static uint64_t clock_ticks(const struct hpet *hpet)
{
    return clock_now(hpet->clock) / NS_PER_TICK;
}

static bool is_running(const struct hpet *hpet)
{
    return hpet->config & CONFIG_ENABLE;
}

static uint64_t counter_now(const struct hpet *hpet)
{
    return is_running(hpet) ? hpet->counter + clock_ticks(hpet) : hpet->counter;
}

/* --- interrupts --- */

static unsigned timer_index(const struct hpet_timer *t)
{
    return (unsigned)(t - t->hpet->timer);
}

static uint64_t timer_mask(const struct hpet_timer *t)
{
    return t->config & TN_32BIT ? UINT32_MAX : UINT64_MAX;
}

static bool is_legacy(const struct hpet_timer *t)
{
    return t->hpet->config & CONFIG_LEGACY && timer_index(t) < 2;
}

static void set_line(struct hpet_timer *t, bool level)
{
    struct hpet *hpet = t->hpet;
    unsigned route = (unsigned)(t->config & TN_ROUTE) >> TN_ROUTE_SHIFT;

    if (is_legacy(t))
        irq_set(&hpet->legacy[timer_index(t)], level);
    else if (hpet->gsi.set && hpet->routes >> route & 1)
        hpet->gsi.set(hpet->gsi.opaque, route, level);
}

static bool is_active(const struct hpet_timer *t)
{
    return t->hpet->status >> timer_index(t) & 1;
}

/* Lines of level-triggered timers; before a change of configuration they are let go, after it they
 * are driven again. */
static void drive(struct hpet_timer *t, bool on)
{
    if (is_active(t) && t->config & TN_LEVEL && t->config & TN_ENABLE)
        set_line(t, on);
}

static void interrupt(struct hpet_timer *t)
{
    if (!(t->config & TN_ENABLE))
        return;
    trace_hpet_fire(timer_index(t));
    if (t->config & TN_LEVEL) {
        t->hpet->status |= UINT64_C(1) << timer_index(t);
        drive(t, true);
    } else {
        set_line(t, true);
        set_line(t, false);
    }
}

/* --- comparators --- */

/* Moves a periodic comparator past the counter, by as many periods as have gone by. */
static void catch_up(struct hpet_timer *t, uint64_t now)
{
    uint64_t mask = timer_mask(t), period = t->period & mask;
    uint64_t behind = (now - t->comparator) & mask;

    /* The upper half of the circle of differences is the future. */
    if (!(t->config & TN_PERIODIC) || period == 0 || behind > mask / 2)
        return;
    t->comparator = (t->comparator + (behind / period + 1) * period) & mask;
}

/* Ticks from `now` until the counter is equal to the comparator, 1 to 2^32 or 2^64 - 1. */
static uint64_t ticks_to_match(const struct hpet_timer *t, uint64_t now)
{
    uint64_t mask = timer_mask(t), ticks = (t->comparator - now) & mask;

    if (ticks == 0)
        return mask == UINT64_MAX ? mask : mask + 1;
    return ticks;
}

static void arm(struct hpet_timer *t)
{
    struct hpet *hpet = t->hpet;
    uint64_t ns = clock_now(hpet->clock), deadline = CLOCK_NEVER, now, ticks;

    if (is_running(hpet) && t->config & TN_ENABLE) {
        now = counter_now(hpet);
        catch_up(t, now);
        ticks = ticks_to_match(t, now);
        if (ticks < (CLOCK_NEVER - ns) / NS_PER_TICK)
            deadline = (ns / NS_PER_TICK + ticks) * NS_PER_TICK;
        if (t->config & TN_PERIODIC && deadline < ns + MIN_PERIOD_NS)
            deadline = ns + MIN_PERIOD_NS;
    }
    timer_set(hpet->clock, &t->timer, deadline);
}

static void fire(void *opaque)
{
    struct hpet_timer *t = opaque;

    arm(t);
    interrupt(t);
}

static void arm_all(struct hpet *hpet)
{
    for (unsigned i = 0; i < HPET_TIMERS; i++)
        arm(&hpet->timer[i]);
}

/* --- registers --- */

static void drive_legacy_inputs(struct hpet *hpet)
{
    for (unsigned i = 0; i < 2; i++)
        if (!(hpet->config & CONFIG_LEGACY))
            irq_set(&hpet->legacy[i], hpet->legacy_in[i]);
}

static void write_config(struct hpet *hpet, uint64_t value)
{
    uint64_t old = hpet->config;

    value &= CONFIG_ENABLE | CONFIG_LEGACY;
    for (unsigned i = 0; i < HPET_TIMERS; i++)
        drive(&hpet->timer[i], false);
    if (value & ~old & CONFIG_LEGACY)
        for (unsigned i = 0; i < 2; i++)
            irq_set(&hpet->legacy[i], false);
    /* Going on from where it was halted, or halting where it is. */
    if (value & ~old & CONFIG_ENABLE)
        hpet->counter -= clock_ticks(hpet);
    else if (old & ~value & CONFIG_ENABLE)
        hpet->counter += clock_ticks(hpet);
    hpet->config = value;
    if (old & ~value & CONFIG_LEGACY)
        drive_legacy_inputs(hpet);
    for (unsigned i = 0; i < HPET_TIMERS; i++)
        drive(&hpet->timer[i], true);
    arm_all(hpet);
}

static void write_status(struct hpet *hpet, uint64_t value)
{
    for (unsigned i = 0; i < HPET_TIMERS; i++) {
        if (!(value >> i & 1))
            continue;
        drive(&hpet->timer[i], false);
        hpet->status &= ~(UINT64_C(1) << i);
    }
}

static void write_counter(struct hpet *hpet, uint64_t value)
{
    if (is_running(hpet))
        return; /* only a halted counter can be written */
    hpet->counter = value;
}

/* A route that the timer does not have is not taken. */
static void write_timer_config(struct hpet_timer *t, uint64_t value)
{
    unsigned route = (unsigned)(value & TN_ROUTE) >> TN_ROUTE_SHIFT;

    value &= TN_WRITABLE;
    if (!(t->hpet->routes >> route & 1))
        value = (value & ~(uint64_t)TN_ROUTE) | (t->config & TN_ROUTE);
    drive(t, false);
    t->config = value;
    t->comparator &= timer_mask(t);
    t->period &= timer_mask(t);
    drive(t, true);
    arm(t);
}

/* A periodic timer's comparator register writes the period; with TN_SET_VALUE, the comparator too
 * (specification, 2.3.9.2.2). `written` are the bits that the access covers. */
static void write_comparator(struct hpet_timer *t, uint64_t value, uint64_t written)
{
    uint64_t mask = timer_mask(t);

    if (!(t->config & TN_PERIODIC) || t->config & TN_SET_VALUE)
        t->comparator = ((t->comparator & ~written) | (value & written)) & mask;
    if (t->config & TN_PERIODIC)
        t->period = ((t->period & ~written) | (value & written)) & mask;
    t->config &= ~(uint64_t)TN_SET_VALUE;
    arm(t);
}

static struct hpet_timer *timer_at(struct hpet *hpet, uint64_t reg)
{
    uint64_t index = (reg - REG_TIMER) / 0x20;

    return reg >= REG_TIMER && index < HPET_TIMERS ? &hpet->timer[index] : NULL;
}

static uint64_t read_timer(struct hpet_timer *t, uint64_t reg)
{
    switch (reg & 0x1f) {
    case 0x00: return t->config | TN_PERIODIC_CAP | TN_64BIT_CAP | (uint64_t)t->hpet->routes << 32;
    case 0x08:
        if (is_running(t->hpet))
            catch_up(t, counter_now(t->hpet));
        return t->comparator;
    default: return 0;
    }
}

/* A whole register; `reg` is a multiple of 8. */
static uint64_t read_register(struct hpet *hpet, uint64_t reg)
{
    struct hpet_timer *t = timer_at(hpet, reg);

    if (t)
        return read_timer(t, reg);
    switch (reg) {
    case REG_CAPABILITIES: return HPET_ID | (uint64_t)HPET_PERIOD_FS << 32;
    case REG_CONFIG: return hpet->config;
    case REG_STATUS: return hpet->status;
    case REG_COUNTER: return counter_now(hpet);
    default: return 0;
    }
}

/* `value` in its place in the register, and `written` the bits that the access covers. */
static void write_register(struct hpet *hpet, uint64_t reg, uint64_t value, uint64_t written)
{
    struct hpet_timer *t = timer_at(hpet, reg);

    trace_hpet_write((unsigned)reg, value);
    if (t && (reg & 0x1f) == 0x08) {
        write_comparator(t, value, written);
        return;
    }
    if (reg == REG_STATUS) {
        write_status(hpet, value); /* writing 0 has no effect */
        return;
    }
    value |= read_register(hpet, reg) & ~written;
    if (t && (reg & 0x1f) == 0x00)
        write_timer_config(t, value);
    else if (reg == REG_CONFIG)
        write_config(hpet, value);
    else if (reg == REG_COUNTER)
        write_counter(hpet, value);
}

/* Accesses are of 4 or 8 bytes; one that is not aligned sees the register that it begins in. */
static uint64_t mmio_read(void *opaque, uint64_t offset, unsigned size)
{
    unsigned shift = 8 * (unsigned)(offset & 7);

    (void)size;
    return read_register(opaque, offset & ~UINT64_C(7)) >> shift;
}

static void mmio_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    unsigned shift = 8 * (unsigned)(offset & 7);
    uint64_t written = size == 8 ? UINT64_MAX : UINT32_MAX;

    write_register(opaque, offset & ~UINT64_C(7), value << shift, written << shift);
}

/* --- the device --- */

void hpet_legacy_input(void *opaque, unsigned number, bool level)
{
    struct hpet *hpet = opaque;

    number &= 1;
    hpet->legacy_in[number] = level;
    if (!(hpet->config & CONFIG_LEGACY))
        irq_set(&hpet->legacy[number], level);
}

static const struct io_ops ops = {
    .read = mmio_read, .write = mmio_write, .min_size = 4, .max_size = 8};

int hpet_init(struct hpet *hpet, struct clock *clock, struct irq gsi, uint32_t routes,
              struct irq irq0, struct irq irq8)
{
    memset(hpet, 0, sizeof(*hpet));
    hpet->clock = clock;
    hpet->gsi = gsi;
    hpet->routes = routes;
    hpet->legacy[0] = irq0;
    hpet->legacy[1] = irq8;
    for (unsigned i = 0; i < HPET_TIMERS; i++) {
        hpet->timer[i].hpet = hpet;
        timer_init(&hpet->timer[i].timer, fire, &hpet->timer[i]);
    }
    hpet_reset(hpet);
    return 0;
}

void hpet_reset(struct hpet *hpet)
{
    write_status(hpet, UINT64_MAX);
    write_config(hpet, 0);
    hpet->counter = 0;
    for (unsigned i = 0; i < HPET_TIMERS; i++) {
        hpet->timer[i].config = 0;
        hpet->timer[i].comparator = UINT64_MAX;
        hpet->timer[i].period = 0;
    }
}

void hpet_attach(struct hpet *hpet, struct bus *bus)
{
    bus_add_mmio(bus, "hpet", HPET_BASE, SIZE, &ops, hpet);
}

static void before_save(void *object)
{
    struct hpet *hpet = object;

    for (unsigned i = 0; i < HPET_TIMERS; i++)
        hpet->timer[i].due = hpet->timer[i].timer.deadline;
}

/* The deadlines do not follow from the registers: a short period fires late, and catches up then.
 */
static int loaded(void *object, struct err *err)
{
    struct hpet *hpet = object;

    (void)err;
    hpet->config &= CONFIG_ENABLE | CONFIG_LEGACY;
    hpet->status &= (1u << HPET_TIMERS) - 1;
    for (unsigned i = 0; i < HPET_TIMERS; i++) {
        struct hpet_timer *t = &hpet->timer[i];

        t->config &= TN_WRITABLE;
        t->comparator &= timer_mask(t);
        t->period &= timer_mask(t);
        drive(t, true);
        timer_set(hpet->clock, &t->timer, t->due);
    }
    return 0;
}

#define TIMER_FIELDS(n)                                                                            \
    FIELD(struct hpet, timer[n].config), FIELD(struct hpet, timer[n].comparator),                  \
        FIELD(struct hpet, timer[n].period), FIELD(struct hpet, timer[n].due)

static const struct field fields[] = {
    FIELD(struct hpet, config),
    FIELD(struct hpet, status),
    FIELD(struct hpet, counter),
    TIMER_FIELDS(0),
    TIMER_FIELDS(1),
    TIMER_FIELDS(2),
    FIELD_ARRAY(struct hpet, legacy_in),
};

const struct state_desc hpet_state_desc = {
    .name = "hpet",
    .version = 1,
    .fields = fields,
    .field_count = ARRAY_SIZE(fields),
    .before_save = before_save,
    .loaded = loaded,
};
