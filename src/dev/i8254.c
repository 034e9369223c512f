/* i8254.c - the 8254 interval timer: nothing counts, everything follows from the time.
 *
 * A counter remembers the tick at which its count was loaded; its value and its OUT are computed
 * when somebody looks. A tick is 1/1193182 s since the machine was switched on. Only counter 0 has
 * a timer, for the rising edges of OUT, which is all that IRQ 0 sees.
 *
 * When the host (or an absurd count) lets rising edges pass by, they become one: IRQ 0 comes at
 * most every 20 us, and not in bursts.
 *
 * Simplified: in mode 3 a new count takes effect at the end of the whole period, not of the half.
 */
#include "dev/i8254.h"

#include "base/trace.h"

#include <errno.h>
#include <string.h>

#define NS_PER_SECOND UINT64_C(1000000000)
#define MIN_IRQ_NS 20000u
#define CATCH_UP 4        /* missed ticks come at this many times the rate */
#define MAX_OWED 20       /* more missed ticks than that are forgotten */
#define REFRESH_NS 15085u /* bit 4 of port 61h toggles at this rate: 18 ticks */

#define CONTROL 3 /* offset of the control word */
#define READ_BACK 3
#define READ_BACK_NO_COUNT 0x20
#define READ_BACK_NO_STATUS 0x10

#define PORT61_GATE2 0x01
#define PORT61_WRITABLE 0x0f
#define PORT61_REFRESH 0x10
#define PORT61_OUT2 0x20

static uint64_t now_tick(const struct i8254 *pit)
{
    return muldiv64(clock_now(pit->clock), I8254_HZ, NS_PER_SECOND);
}

/* The first nanosecond that belongs to a tick. */
static uint64_t tick_to_ns(uint64_t tick)
{
    unsigned __int128 ns = ((unsigned __int128)tick * NS_PER_SECOND + I8254_HZ - 1) / I8254_HZ;

    return ns < CLOCK_NEVER ? (uint64_t)ns : CLOCK_NEVER;
}

/* --- counting --- */

static bool is_periodic(const struct i8254_counter *c)
{
    return c->mode == 2 || c->mode == 3;
}

static bool is_triggered(const struct i8254_counter *c)
{
    return c->mode == 1 || c->mode == 5;
}

/* Lets a new count of a periodic mode come into force once its time has come. */
static void counter_sync(struct i8254_counter *c, uint64_t tick)
{
    if (c->switch_at && tick >= c->switch_at) {
        c->start = c->switch_at;
        c->count = c->reload;
        c->switch_at = 0;
    }
}

static uint64_t counter_elapsed(const struct i8254_counter *c, uint64_t tick)
{
    if (c->paused)
        return c->elapsed;
    return tick > c->start ? tick - c->start : 0;
}

/* Loads the count at the next tick and begins to count, if the gate lets it. */
static void counter_begin(struct i8254_counter *c, uint64_t tick)
{
    c->count = c->reload;
    c->start = tick + 1;
    c->elapsed = 0;
    c->paused = !c->gate;
    c->fresh = 0;
    c->switch_at = 0;
}

static bool counter_out(const struct i8254_counter *c, uint64_t tick)
{
    uint64_t d = counter_elapsed(c, tick);

    if (!c->loaded)
        return c->mode != 0;
    switch (c->mode) {
    case 0: return d >= c->count;
    case 1: return c->paused || d >= c->count;
    case 2: return c->paused || d % c->count != c->count - 1;
    case 3: return c->paused || d % c->count < (c->count + 1) / 2;
    default: return c->paused || d != c->count; /* 4, 5: a strobe of one tick */
    }
}

/* The value of the counting element, 1 to 65536 or (after the end) 0 and below, as binary. */
static uint32_t counter_value(const struct i8254_counter *c, uint64_t tick)
{
    uint64_t d = counter_elapsed(c, tick);
    uint32_t wrap = c->bcd ? 10000 : 65536;
    uint32_t half;

    switch (c->mode) {
    case 2: return c->count - (uint32_t)(d % c->count);
    case 3:
        d %= c->count;
        half = (c->count + 1) / 2;
        return (c->count & ~1u) - 2 * (uint32_t)(d < half ? d : d - half);
    default: return (c->count % wrap + wrap - (uint32_t)(d % wrap)) % wrap;
    }
}

static bool counter_null(const struct i8254_counter *c, uint64_t tick)
{
    return !c->loaded || c->fresh || c->switch_at || (!c->paused && tick < c->start);
}

/* The next tick at which OUT rises, after `tick`; UINT64_MAX: it does not. */
static uint64_t counter_next_rise(const struct i8254_counter *c, uint64_t tick)
{
    uint64_t d = counter_elapsed(c, tick);
    uint64_t end;

    if (!c->loaded || c->paused)
        return UINT64_MAX;
    if (is_periodic(c))
        return c->start + (d / c->count + 1) * c->count;
    end = c->mode == 4 || c->mode == 5 ? (uint64_t)c->count + 1 : c->count;
    return d < end ? c->start + end : UINT64_MAX;
}

/* --- counter 0 and its interrupt --- */

/* Ticks that were missed because the host was late come in between the next ones, so that a guest
 * that counts them, or waits for them while it watches another clock, is not misled. */
static void arm(struct i8254 *pit)
{
    struct i8254_counter *c = &pit->counter[0];
    uint64_t rise = counter_next_rise(c, now_tick(pit)), now = clock_now(pit->clock);
    uint64_t deadline = rise == UINT64_MAX ? CLOCK_NEVER : tick_to_ns(rise);

    pit->between = false;
    if (is_periodic(c)) {
        uint64_t between = now + tick_to_ns(c->count) / CATCH_UP;

        if (pit->owed > 0 && between < deadline) {
            deadline = between;
            pit->between = true;
        }
        if (deadline < now + MIN_IRQ_NS)
            deadline = now + MIN_IRQ_NS;
    }
    pit->next_rise = deadline;
    timer_set(pit->clock, &pit->timer, deadline);
}

/* Counts the ticks that a late timer stands for. */
static void count_owed(struct i8254 *pit)
{
    const struct i8254_counter *c = &pit->counter[0];
    uint64_t period = is_periodic(c) ? tick_to_ns(c->count) : 0, now = clock_now(pit->clock);
    uint64_t late = now > pit->next_rise ? now - pit->next_rise : 0;

    if (pit->between && pit->owed > 0)
        pit->owed--;
    if (period == 0)
        pit->owed = 0;
    else if (!pit->between)
        pit->owed += (uint32_t)(late / period < MAX_OWED ? late / period : MAX_OWED);
    if (pit->owed > MAX_OWED)
        pit->owed = MAX_OWED;
}

static void fire(void *opaque)
{
    struct i8254 *pit = opaque;

    count_owed(pit);
    counter_sync(&pit->counter[0], now_tick(pit));
    irq_set(&pit->irq, false);
    irq_set(&pit->irq, true);
    arm(pit);
}

/* After a write to counter 0: OUT may have fallen or risen at once. */
static void counter0_changed(struct i8254 *pit)
{
    pit->owed = 0;
    irq_set(&pit->irq, counter_out(&pit->counter[0], now_tick(pit)));
    arm(pit);
}

/* --- writes --- */

static uint32_t from_bcd(uint32_t v)
{
    return (v & 15) + (v >> 4 & 15) * 10 + (v >> 8 & 15) * 100 + (v >> 12 & 15) * 1000;
}

static uint16_t to_bcd(uint32_t v)
{
    return (uint16_t)(v % 10 | v / 10 % 10 << 4 | v / 100 % 10 << 8 | v / 1000 % 10 << 12);
}

static void write_count(struct i8254_counter *c, uint16_t value, uint64_t tick)
{
    c->reload = c->bcd ? from_bcd(value) : value;
    if (c->reload == 0)
        c->reload = c->bcd ? 10000 : 65536;
    if (is_triggered(c)) {
        if (!c->loaded)
            c->count = c->reload;
        c->fresh = 1;
    } else if (is_periodic(c) && c->loaded && c->paused) {
        c->fresh = 1;
    } else if (is_periodic(c) && c->loaded) {
        c->switch_at = counter_next_rise(c, tick);
    } else {
        counter_begin(c, tick);
    }
    c->loaded = 1;
}

static void counter_write(struct i8254_counter *c, uint8_t value, uint64_t tick)
{
    switch (c->access) {
    case 1: write_count(c, value, tick); return;
    case 2: write_count(c, (uint16_t)(value << 8), tick); return;
    default: break;
    }
    if (c->write_high) {
        c->write_high = 0;
        write_count(c, (uint16_t)(value << 8 | c->write_low), tick);
        return;
    }
    c->write_low = value;
    c->write_high = 1;
    if (c->mode == 0)
        c->loaded = 0; /* the first byte stops counting, and OUT is low */
}

static void latch_count(struct i8254_counter *c, uint64_t tick)
{
    uint32_t value;

    if (c->count_latched)
        return;
    value = counter_value(c, tick);
    c->latch = c->bcd ? to_bcd(value) : (uint16_t)value;
    c->count_latched = c->access;
    c->read_high = 0;
}

static void latch_status(struct i8254_counter *c, uint64_t tick)
{
    if (c->status_latched)
        return;
    c->status = (uint8_t)(counter_out(c, tick) << 7 | counter_null(c, tick) << 6 | c->access << 4 |
                          c->mode << 1 | c->bcd);
    c->status_latched = 1;
}

static void control_word(struct i8254_counter *c, uint8_t value)
{
    c->access = value >> 4 & 3;
    c->mode = value >> 1 & 7;
    if (c->mode > 5)
        c->mode -= 4; /* bit 2 does not count for modes 2 and 3 */
    c->bcd = value & 1;
    c->write_high = c->read_high = 0;
    c->count_latched = c->status_latched = 0;
    c->loaded = 0;
    c->fresh = 0;
    c->switch_at = 0;
    c->paused = 1;
    c->elapsed = 0;
}

static void read_back(struct i8254 *pit, uint8_t value)
{
    uint64_t tick = now_tick(pit);

    for (unsigned i = 0; i < 3; i++) {
        if (!(value & 2u << i))
            continue;
        counter_sync(&pit->counter[i], tick);
        if (!(value & READ_BACK_NO_COUNT))
            latch_count(&pit->counter[i], tick);
        if (!(value & READ_BACK_NO_STATUS))
            latch_status(&pit->counter[i], tick);
    }
}

static void control_write(struct i8254 *pit, uint8_t value)
{
    unsigned which = value >> 6;
    struct i8254_counter *c;

    if (which == READ_BACK) {
        read_back(pit, value);
        return;
    }
    c = &pit->counter[which];
    if (!(value >> 4 & 3)) {
        counter_sync(c, now_tick(pit));
        latch_count(c, now_tick(pit));
        return;
    }
    control_word(c, value);
    if (which == 0)
        counter0_changed(pit);
}

static void pit_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct i8254 *pit = opaque;

    (void)size;
    trace_i8254_write((unsigned)offset, (unsigned)value);
    if (offset == CONTROL) {
        control_write(pit, (uint8_t)value);
        return;
    }
    counter_sync(&pit->counter[offset], now_tick(pit));
    counter_write(&pit->counter[offset], (uint8_t)value, now_tick(pit));
    if (offset == 0)
        counter0_changed(pit);
}

/* --- reads --- */

static uint8_t counter_read(struct i8254_counter *c, uint64_t tick)
{
    uint32_t live = counter_value(c, tick);
    uint16_t value = c->bcd ? to_bcd(live) : (uint16_t)live;
    bool high = c->access == 2 || c->read_high;

    if (c->status_latched) {
        c->status_latched = 0;
        return c->status;
    }
    if (c->count_latched)
        value = c->latch;
    if (c->access == 3)
        c->read_high = !c->read_high;
    if (c->access != 3 || high)
        c->count_latched = 0;
    return (uint8_t)(high ? value >> 8 : value);
}

static uint64_t pit_read(void *opaque, uint64_t offset, unsigned size)
{
    struct i8254 *pit = opaque;
    uint64_t tick = now_tick(pit);

    (void)size;
    if (offset == CONTROL)
        return 0xff; /* the control word cannot be read */
    counter_sync(&pit->counter[offset], tick);
    return counter_read(&pit->counter[offset], tick);
}

/* --- port 61h --- */

static void set_gate(struct i8254_counter *c, bool gate, uint64_t tick)
{
    if (c->gate == gate)
        return;
    counter_sync(c, tick);
    c->gate = gate;
    if (!c->loaded)
        return;
    if (is_triggered(c)) {
        if (gate)
            counter_begin(c, tick);
    } else if (!gate) {
        c->elapsed = counter_elapsed(c, tick);
        c->paused = 1;
    } else if (is_periodic(c)) {
        counter_begin(c, tick);
    } else {
        c->start = tick - c->elapsed;
        c->paused = 0;
    }
}

static uint64_t port61_read(void *opaque, uint64_t offset, unsigned size)
{
    struct i8254 *pit = opaque;
    uint64_t tick = now_tick(pit);
    uint8_t value = pit->port61;

    (void)offset;
    (void)size;
    counter_sync(&pit->counter[2], tick);
    if (clock_now(pit->clock) / REFRESH_NS & 1)
        value |= PORT61_REFRESH;
    if (counter_out(&pit->counter[2], tick))
        value |= PORT61_OUT2;
    return value;
}

static void port61_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct i8254 *pit = opaque;

    (void)offset;
    (void)size;
    pit->port61 = value & PORT61_WRITABLE;
    set_gate(&pit->counter[2], value & PORT61_GATE2, now_tick(pit));
}

/* --- the device --- */

static const struct io_ops pit_ops = {.read = pit_read, .write = pit_write};
static const struct io_ops port61_ops = {.read = port61_read, .write = port61_write};

int i8254_init(struct i8254 *pit, struct clock *clock, struct irq irq0)
{
    memset(pit, 0, sizeof(*pit));
    pit->clock = clock;
    pit->irq = irq0;
    timer_init(&pit->timer, fire, pit);
    i8254_reset(pit);
    return 0;
}

/* The counters wait for their control words, as they do after power-on. */
void i8254_reset(struct i8254 *pit)
{
    for (unsigned i = 0; i < 3; i++)
        pit->counter[i] = (struct i8254_counter){
            .mode = 3, .access = 3, .gate = i != 2, .reload = 65536, .count = 65536, .paused = 1};
    pit->port61 = 0;
    pit->next_rise = CLOCK_NEVER;
    timer_cancel(pit->clock, &pit->timer);
    irq_set(&pit->irq, false);
}

void i8254_attach(struct i8254 *pit, struct bus *bus)
{
    bus_add_pio(bus, "i8254", 0x40, 4, &pit_ops, pit);
    bus_add_pio(bus, "port61", 0x61, 1, &port61_ops, pit);
}

static bool counter_makes_sense(const struct i8254_counter *c)
{
    return c->mode <= 5 && c->bcd <= 1 && c->access >= 1 && c->access <= 3 && c->gate <= 1 &&
           c->count >= 1 && c->count <= 65536 && c->reload >= 1 && c->reload <= 65536;
}

/* The level of the line is the state of who is at its other end, and must not change: it would be
 * an edge that never was. */
static int loaded(void *object, struct err *err)
{
    struct i8254 *pit = object;

    for (unsigned i = 0; i < 3; i++)
        if (!counter_makes_sense(&pit->counter[i]))
            return err_set(err, -EINVAL, "i8254: counter %u has a mode or count out of range", i);
    pit->port61 &= PORT61_WRITABLE;
    timer_set(pit->clock, &pit->timer, pit->next_rise);
    return 0;
}

#define COUNTER_FIELDS(n)                                                                          \
    FIELD(struct i8254, counter[n].mode), FIELD(struct i8254, counter[n].bcd),                     \
        FIELD(struct i8254, counter[n].access), FIELD(struct i8254, counter[n].write_high),        \
        FIELD(struct i8254, counter[n].write_low), FIELD(struct i8254, counter[n].read_high),      \
        FIELD(struct i8254, counter[n].count_latched),                                             \
        FIELD(struct i8254, counter[n].status_latched), FIELD(struct i8254, counter[n].latch),     \
        FIELD(struct i8254, counter[n].status), FIELD(struct i8254, counter[n].gate),              \
        FIELD(struct i8254, counter[n].loaded), FIELD(struct i8254, counter[n].paused),            \
        FIELD(struct i8254, counter[n].fresh), FIELD(struct i8254, counter[n].reload),             \
        FIELD(struct i8254, counter[n].count), FIELD(struct i8254, counter[n].start),              \
        FIELD(struct i8254, counter[n].elapsed), FIELD(struct i8254, counter[n].switch_at)

static const struct field fields[] = {
    COUNTER_FIELDS(0),
    COUNTER_FIELDS(1),
    COUNTER_FIELDS(2),
    FIELD(struct i8254, port61),
    FIELD(struct i8254, next_rise),
    FIELD(struct i8254, owed),
    FIELD(struct i8254, between),
};

const struct state_desc i8254_state_desc = {
    .name = "i8254",
    .version = 1,
    .fields = fields,
    .field_count = ARRAY_SIZE(fields),
    .loaded = loaded,
};
