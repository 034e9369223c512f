/* clock.c - guest time from the host's clocks or from the count of instructions; timers.
 *
 * Host mode:     now = CLOCK_MONOTONIC - offset_ns      tsc = RDTSC + tsc_offset
 * Virtual mode:  now = virtual_ns                       tsc = virtual_ns + tsc_offset
 *
 * While the clock is stopped, host mode gives stopped_at and stopped_tsc. clock_start(),
 * clock_stop() and clock_set() are called while no vCPU runs (in virtual mode clock_set() is also
 * called by the vCPU thread itself), so that clock_now() needs no lock.
 *
 * The frequency of the host's TSC is measured against CLOCK_MONOTONIC_RAW, because CPUID leaves 15h
 * and 16h are often absent or rounded, and under another monitor simply wrong. */
#include "bus/clock.h"

#include <string.h>
#include <time.h>
#include <x86intrin.h>

#define NS_PER_SECOND UINT64_C(1000000000)
#define MEASURE_NS 6000000    /* between the two readings that give the frequency */
#define READING_TRIES 16      /* the one least disturbed counts */
#define FALLBACK_KHZ 1000000u /* when the host's clocks make no sense */

static uint64_t host_ns(clockid_t id)
{
    struct timespec ts;

    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_SECOND + (uint64_t)ts.tv_nsec;
}

/* Reads TSC and clock "at the same time": the reading whose two RDTSCs are closest together has the
 * least error (an interrupt or a lost processor shows as a wide bracket). */
static void read_both(clockid_t id, uint64_t *tsc, uint64_t *ns)
{
    uint64_t best = UINT64_MAX;

    for (unsigned i = 0; i < READING_TRIES; i++) {
        uint64_t before = __rdtsc();
        uint64_t now = host_ns(id);
        uint64_t width = __rdtsc() - before;

        if (width < best) {
            best = width;
            *tsc = before + width / 2;
            *ns = now;
        }
    }
}

static uint64_t measure_tsc_khz(void)
{
    struct timespec pause = {.tv_nsec = MEASURE_NS};
    uint64_t tsc0 = 0, tsc1 = 0, ns0 = 0, ns1 = 0, khz;

    read_both(CLOCK_MONOTONIC_RAW, &tsc0, &ns0);
    nanosleep(&pause, NULL);
    read_both(CLOCK_MONOTONIC_RAW, &tsc1, &ns1);
    if (ns1 <= ns0 || tsc1 <= tsc0)
        return FALLBACK_KHZ;
    khz = muldiv64(tsc1 - tsc0, 1000000, ns1 - ns0);
    return khz ? khz : FALLBACK_KHZ;
}

void clock_init(struct clock *clock, enum clock_mode mode)
{
    memset(clock, 0, sizeof(*clock));
    clock->mode = mode;
    clock->stopped = true;
    clock->tsc_khz = mode == CLOCK_HOST ? measure_tsc_khz() : CLOCK_VIRTUAL_TSC_KHZ;
}

/* From now on time is `ns` and the TSC is `tsc`. */
static void set_offsets(struct clock *clock, uint64_t ns, uint64_t tsc)
{
    uint64_t host_tsc = 0, host = 0;

    read_both(CLOCK_MONOTONIC, &host_tsc, &host);
    clock->offset_ns = host - ns;
    clock->tsc_offset = tsc - host_tsc;
}

void clock_start(struct clock *clock)
{
    if (!clock->stopped)
        return;
    clock->stopped = false;
    if (clock->mode == CLOCK_HOST)
        set_offsets(clock, clock->stopped_at, clock->stopped_tsc);
}

void clock_stop(struct clock *clock)
{
    uint64_t host_tsc = 0, host = 0;

    if (clock->stopped)
        return;
    if (clock->mode == CLOCK_HOST) {
        read_both(CLOCK_MONOTONIC, &host_tsc, &host);
        clock->stopped_at = host - clock->offset_ns;
        clock->stopped_tsc = host_tsc + clock->tsc_offset;
    }
    clock->stopped = true;
}

uint64_t clock_now(const struct clock *clock)
{
    if (clock->mode == CLOCK_VIRTUAL)
        return atomic_load_explicit(&clock->virtual_ns, memory_order_relaxed);
    if (clock->stopped)
        return clock->stopped_at;
    return host_ns(CLOCK_MONOTONIC) - clock->offset_ns;
}

uint64_t clock_tsc(const struct clock *clock)
{
    if (clock->mode == CLOCK_VIRTUAL)
        return clock_now(clock) + clock->tsc_offset;
    if (clock->stopped)
        return clock->stopped_tsc;
    return __rdtsc() + clock->tsc_offset;
}

uint64_t clock_tsc_to_ns(const struct clock *clock, uint64_t tsc)
{
    /* The TSC first: if the processor is lost in between, the answer is late and not early. */
    uint64_t now_tsc = clock_tsc(clock), now = clock_now(clock);
    unsigned __int128 ns;

    if (tsc <= now_tsc)
        return now;
    /* Rounded up, so that the TSC has got there when the time has come. */
    ns = ((unsigned __int128)(tsc - now_tsc) * 1000000 + clock->tsc_khz - 1) / clock->tsc_khz;
    if (ns >= CLOCK_NEVER - now)
        return CLOCK_NEVER;
    return now + (uint64_t)ns;
}

void clock_set(struct clock *clock, uint64_t ns, uint64_t tsc)
{
    if (clock->mode == CLOCK_VIRTUAL) {
        atomic_store_explicit(&clock->virtual_ns, ns, memory_order_relaxed);
        clock->tsc_offset = tsc - ns;
    } else if (clock->stopped) {
        clock->stopped_at = ns;
        clock->stopped_tsc = tsc;
    } else {
        set_offsets(clock, ns, tsc);
    }
}

void timer_init(struct timer *timer, void (*fire)(void *opaque), void *opaque)
{
    *timer = (struct timer){.deadline = CLOCK_NEVER, .fire = fire, .opaque = opaque};
}

static void timer_remove(struct clock *clock, struct timer *timer)
{
    for (struct timer **p = &clock->timers; *p; p = &(*p)->next)
        if (*p == timer) {
            *p = timer->next;
            break;
        }
    timer->deadline = CLOCK_NEVER;
    timer->next = NULL;
}

/* Timers of the same deadline fire in the order in which they were set. */
static void timer_insert(struct clock *clock, struct timer *timer, uint64_t deadline)
{
    struct timer **p = &clock->timers;

    while (*p && (*p)->deadline <= deadline)
        p = &(*p)->next;
    timer->deadline = deadline;
    timer->next = *p;
    *p = timer;
}

void timer_set(struct clock *clock, struct timer *timer, uint64_t deadline)
{
    uint64_t first = clock_next_deadline(clock);

    if (timer_pending(timer))
        timer_remove(clock, timer);
    if (deadline <= CLOCK_LAST)
        timer_insert(clock, timer, deadline);
    if (clock_next_deadline(clock) < first && clock->changed)
        clock->changed(clock->changed_opaque);
}

uint64_t clock_next_deadline(const struct clock *clock)
{
    return clock->timers ? clock->timers->deadline : CLOCK_NEVER;
}

/* Not more firings than timers were due at the start: one that sets itself to a time in the past
 * waits for the next round instead of holding this one up for ever. */
void clock_run_timers(struct clock *clock)
{
    uint64_t now = clock_now(clock);
    unsigned due = 0;

    for (struct timer *t = clock->timers; t && t->deadline <= now; t = t->next)
        due++;
    while (due-- > 0 && clock->timers && clock->timers->deadline <= now) {
        struct timer *timer = clock->timers;

        timer_remove(clock, timer);
        timer->fire(timer->opaque);
    }
}
