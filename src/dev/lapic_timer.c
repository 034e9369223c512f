/* lapic_timer.c - the local APIC's timer (SDM vol. 3, 11.5.4), computed from the time.
 *
 * The current count follows from the time at which the initial count was loaded; only the end of a
 * count needs a timer of the clock. Periods that pass while the host is late become one interrupt,
 * and a periodic timer fires at most every 20 us whatever the guest asks for. */
#include "dev/lapic_timer.h"

#define MIN_PERIOD_NS 20000u

static bool is_deadline_mode(uint32_t lvt)
{
    return (lvt & LVT_TIMER_MODE) == LVT_TIMER_TSC_DEADLINE;
}

static bool is_periodic(const struct lapic *lapic)
{
    return (lapic->lvt[LVT_TIMER] & LVT_TIMER_MODE) == LVT_TIMER_PERIODIC;
}

/* Divide configuration: 000 is 2, 001 is 4, ... 110 is 128, and 111 is 1. */
static unsigned divide_shift(const struct lapic *lapic)
{
    unsigned code = (lapic->divide & 3) | (lapic->divide >> 1 & 4);

    return (code + 1) & 7;
}

static uint64_t period_ns(const struct lapic *lapic)
{
    return (uint64_t)lapic->initial_count << divide_shift(lapic);
}

static uint64_t guest_tsc(const struct lapic *lapic)
{
    const uint64_t *offset = lapic->wire.tsc_offset;

    return clock_tsc(lapic->wire.clock) + (offset ? *offset : 0);
}

/* When the TSC deadline is reached; compared in the guest's TSC, which may have been set anyhow. */
static uint64_t tsc_deadline_ns(const struct lapic *lapic)
{
    struct clock *clock = lapic->wire.clock;
    uint64_t now = guest_tsc(lapic), clock_ticks = clock_tsc(clock);
    uint64_t target;

    if (lapic->tsc_deadline == 0)
        return CLOCK_NEVER;
    if (lapic->tsc_deadline <= now)
        return clock_now(clock);
    if (__builtin_add_overflow(clock_ticks, lapic->tsc_deadline - now, &target))
        return CLOCK_NEVER;
    return clock_tsc_to_ns(clock, target);
}

static uint64_t count_end_ns(const struct lapic *lapic)
{
    uint64_t now = clock_now(lapic->wire.clock), period = period_ns(lapic);
    uint64_t end;

    if (!lapic->timer_running || period == 0)
        return CLOCK_NEVER;
    if (!is_periodic(lapic))
        return lapic->timer_start + period;
    if (lapic->lvt[LVT_TIMER] & LVT_MASKED)
        return CLOCK_NEVER; /* nobody could see it fire; the count goes on by itself */
    end = lapic->timer_start + ((now - lapic->timer_start) / period + 1) * period;
    return end < now + MIN_PERIOD_NS ? now + MIN_PERIOD_NS : end;
}

void lapic_timer_arm(struct lapic *lapic)
{
    uint64_t deadline =
        is_deadline_mode(lapic->lvt[LVT_TIMER]) ? tsc_deadline_ns(lapic) : count_end_ns(lapic);

    timer_set(lapic->wire.clock, &lapic->timer, deadline);
}

static void fire(void *opaque)
{
    struct lapic *lapic = opaque;

    if (is_deadline_mode(lapic->lvt[LVT_TIMER])) {
        if (lapic->tsc_deadline > guest_tsc(lapic)) {
            /* The host's clock is corrected against its TSC, so that the two drift apart. */
            lapic_timer_arm(lapic);
            return;
        }
        lapic->tsc_deadline = 0;
    } else if (!is_periodic(lapic)) {
        lapic->timer_running = 0;
    }
    lapic_timer_arm(lapic);
    lapic_deliver_lvt(lapic, LVT_TIMER);
}

void lapic_timer_init(struct lapic *lapic)
{
    timer_init(&lapic->timer, fire, lapic);
}

void lapic_timer_reset(struct lapic *lapic)
{
    lapic->initial_count = 0;
    lapic->divide = 0;
    lapic->timer_running = 0;
    lapic->timer_start = 0;
    lapic->tsc_deadline = 0;
    timer_cancel(lapic->wire.clock, &lapic->timer);
}

uint32_t lapic_timer_current_count(const struct lapic *lapic)
{
    uint64_t elapsed = clock_now(lapic->wire.clock) - lapic->timer_start;

    if (!lapic->timer_running || lapic->initial_count == 0)
        return 0;
    elapsed >>= divide_shift(lapic);
    if (is_periodic(lapic))
        return lapic->initial_count - (uint32_t)(elapsed % lapic->initial_count);
    return elapsed < lapic->initial_count ? lapic->initial_count - (uint32_t)elapsed : 0;
}

void lapic_timer_set_initial_count(struct lapic *lapic, uint32_t count)
{
    if (is_deadline_mode(lapic->lvt[LVT_TIMER]))
        return;
    lapic->initial_count = count;
    lapic->timer_running = count != 0;
    lapic->timer_start = clock_now(lapic->wire.clock);
    lapic_timer_arm(lapic);
}

/* The count goes on from where it is, at the new rate. */
void lapic_timer_set_divide(struct lapic *lapic, uint32_t divide)
{
    uint32_t done = lapic->initial_count - lapic_timer_current_count(lapic);

    lapic->divide = divide & 0xb;
    if (!lapic->timer_running)
        return;
    lapic->timer_start = clock_now(lapic->wire.clock) - ((uint64_t)done << divide_shift(lapic));
    lapic_timer_arm(lapic);
}

void lapic_timer_lvt_changed(struct lapic *lapic, uint32_t old)
{
    if (is_deadline_mode(old) != is_deadline_mode(lapic->lvt[LVT_TIMER])) {
        /* Going into or out of TSC-deadline mode disarms the timer. */
        lapic->timer_running = 0;
        lapic->tsc_deadline = 0;
    } else if (lapic->timer_running && period_ns(lapic) && !is_periodic(lapic)) {
        /* Periodic until now, perhaps: what is left is the rest of the current period. */
        uint64_t now = clock_now(lapic->wire.clock);

        lapic->timer_start = now - (now - lapic->timer_start) % period_ns(lapic);
    }
    lapic_timer_arm(lapic);
}

void lapic_timer_load(struct lapic *lapic, uint32_t initial, uint32_t divide, uint32_t current)
{
    uint32_t done = current <= initial ? initial - current : 0;

    lapic->initial_count = initial;
    lapic->divide = divide & 0xb;
    lapic->timer_running = current != 0;
    lapic->timer_start = clock_now(lapic->wire.clock) - ((uint64_t)done << divide_shift(lapic));
    lapic_timer_arm(lapic);
}

uint64_t lapic_timer_deadline(const struct lapic *lapic)
{
    return lapic->tsc_deadline;
}

void lapic_timer_set_deadline(struct lapic *lapic, uint64_t tsc)
{
    if (!is_deadline_mode(lapic->lvt[LVT_TIMER]))
        return;
    lapic->tsc_deadline = tsc;
    lapic_timer_arm(lapic);
}
