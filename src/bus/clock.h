/* clock.h - guest time, and the timers that devices set on it.
 *
 * Guest time is nanoseconds since the machine was switched on. With --time host it follows the
 * host's CLOCK_MONOTONIC, and stands still while the VM is paused; the TSC is the host's TSC plus
 * an offset. With --time virtual it follows the number of instructions executed: one instruction is
 * one nanosecond and one TSC tick, so timers fire at exact instruction counts.
 *
 * All functions are called with the bus lock held, except clock_now() and clock_tsc(), which any
 * thread may call. In host mode the main thread runs the timers (it sleeps until
 * clock_next_deadline()); in virtual mode the vCPU thread does, at the exact count. */
#ifndef DOBLE_BUS_CLOCK_H
#define DOBLE_BUS_CLOCK_H

#include "base/types.h"

#include <stdatomic.h>

enum clock_mode { CLOCK_HOST, CLOCK_VIRTUAL };

#define CLOCK_NEVER UINT64_MAX
/* 146 years: no timer is set for later, so that a machine that skips its halts never comes to the
 * end of time. */
#define CLOCK_LAST (UINT64_C(1) << 62)
#define CLOCK_VIRTUAL_TSC_KHZ 1000000u

struct timer {
    uint64_t deadline; /* guest ns; CLOCK_NEVER: not set */
    void (*fire)(void *opaque);
    void *opaque;
    struct timer *next; /* in the clock's list, sorted by deadline */
};

struct clock {
    enum clock_mode mode;
    uint64_t offset_ns;   /* host mode: guest ns = monotonic - offset */
    uint64_t stopped_at;  /* host mode: guest ns at which the clock was stopped */
    uint64_t stopped_tsc; /* host mode: guest TSC at which the clock was stopped */
    bool stopped;
    uint64_t tsc_khz;            /* frequency of the guest's TSC */
    uint64_t tsc_offset;         /* guest TSC = host TSC (virtual mode: virtual_ns) + offset */
    _Atomic uint64_t virtual_ns; /* virtual mode: written by the vCPU thread */
    struct timer *timers;
    void (*changed)(void *opaque); /* the first deadline is earlier now: wake whoever sleeps */
    void *changed_opaque;
};

/* Starts at guest time 0, stopped. Measures the host's TSC frequency (a few milliseconds). */
void clock_init(struct clock *clock, enum clock_mode mode);
void clock_start(struct clock *clock);
void clock_stop(struct clock *clock);

uint64_t clock_now(const struct clock *clock); /* guest ns */
uint64_t clock_tsc(const struct clock *clock); /* guest TSC ticks, before any per-CPU adjustment */

/* Guest time at which the TSC (see clock_tsc) reaches `tsc`; a time in the past gives now. */
uint64_t clock_tsc_to_ns(const struct clock *clock, uint64_t tsc);

/* Puts time at `ns` (restore; virtual mode also idles forward with it). TSC follows. */
void clock_set(struct clock *clock, uint64_t ns, uint64_t tsc);

void timer_init(struct timer *timer, void (*fire)(void *opaque), void *opaque);
/* Sets the timer, or moves it; CLOCK_NEVER cancels it. A deadline that is past fires as soon as
 * timers run, and one after CLOCK_LAST is never. */
void timer_set(struct clock *clock, struct timer *timer, uint64_t deadline);
static inline void timer_cancel(struct clock *clock, struct timer *timer)
{
    timer_set(clock, timer, CLOCK_NEVER);
}
static inline bool timer_pending(const struct timer *timer)
{
    return timer->deadline != CLOCK_NEVER;
}

/* Guest ns of the earliest timer, or CLOCK_NEVER. */
uint64_t clock_next_deadline(const struct clock *clock);
/* Fires every timer whose deadline is not after now, earliest first. */
void clock_run_timers(struct clock *clock);

/* a * b / c in 128 bits: for conversions between frequencies. c != 0. */
static inline uint64_t muldiv64(uint64_t a, uint64_t b, uint64_t c)
{
    return (uint64_t)((unsigned __int128)a * b / c);
}

#endif
