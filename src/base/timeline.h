/* timeline.h - what happened when, as a file for Perfetto or Chrome's tracing page.
 *
 * The file is JSON in the "Trace Event Format": an object whose traceEvents array has one object an
 * event. Doble's events are slices with a start and a duration, and instants. Each thread attaches
 * itself and then records into a buffer of its own, without a lock; a full buffer, or one that is a
 * second old, is written out as text. After every write the file is complete JSON, so that it can
 * be read while the machine runs and after it was killed.
 *
 * A vCPU's thread has two rows: the guest's (which mode the guest is in: states that follow each
 * other without a gap) and the monitor's (when the monitor works for the guest: slices that nest).
 *
 * While no timeline is asked for, recording costs one predictable branch. Names must be valid for
 * the life of the program; they may contain any byte. Recording uses no floating point, because it
 * happens while the guest's MXCSR is in the processor. */
#ifndef DOBLE_BASE_TIMELINE_H
#define DOBLE_BASE_TIMELINE_H

#include "base/err.h"
#include "base/types.h"

enum timeline_kind {
    /* states of the guest */
    TIMELINE_NONE,
    TIMELINE_USER,    /* rip, cr3: where it begins */
    TIMELINE_KERNEL,  /* rip, cr3 */
    TIMELINE_VIRTUAL, /* under hardware virtualization, where modes and halts aren't seen */
    TIMELINE_HALTED,
    TIMELINE_PARKED, /* paused, reset, or waiting for a slow reader of its output */
    /* instants of the guest */
    TIMELINE_TRAP,      /* vector, error, rip, cr2 */
    TIMELINE_INTERRUPT, /* vector, rip */
    /* slices of the monitor */
    TIMELINE_HELPER,    /* rip: an instruction that is emulated */
    TIMELINE_DELIVER,   /* vector: an exception or interrupt */
    TIMELINE_DECODE,    /* rip: code seen for the first time */
    TIMELINE_EXIT,      /* the engine was left; the name says why */
    TIMELINE_PORT_READ, /* address, size, value */
    TIMELINE_PORT_WRITE,
    TIMELINE_MMIO_READ,
    TIMELINE_MMIO_WRITE,
    TIMELINE_WRITE_OUT, /* events: the timeline itself is written */
    /* slices of the main thread */
    TIMELINE_TIMERS, /* late: ns after the deadline */
    TIMELINE_INPUT,  /* bytes */
    TIMELINE_SIGNAL, /* number */
    TIMELINE_KINDS
};

#define TIMELINE_PATH_SIZE 4096
#define TIMELINE_DEFAULT_LIMIT (256 * MIB)
#define TIMELINE_MIN_LIMIT (64 * KIB)

struct timeline_config {
    char path[TIMELINE_PATH_SIZE];
    uint64_t from, to; /* ns since the timeline was opened; what lies outside is left out */
    uint64_t limit;    /* bytes of the file */
    uint64_t shortest; /* ns; emulated instructions and decoding that took less are left out */
};

struct timeline;
struct timeline_track;

/* The track of this thread; NULL: nothing is recorded. It is a global because events come from
 * every module, and of the thread because its buffer is. */
extern _Thread_local struct timeline_track *timeline_here;

/* Creates the file. `name` is shown for the whole machine. */
int timeline_open(struct timeline **timeline, const struct timeline_config *config,
                  const char *name, struct err *err) MUST_USE;

/* Writes what is left and closes the file; when all other threads that were attached have ended.
 * An error says that events are missing. NULL is allowed. */
int timeline_close(struct timeline *timeline, struct err *err) MUST_USE;

/* Gives the calling thread a track with these rows; for a vCPU the guest's and the monitor's.
 * Without a timeline (NULL) nothing happens. */
void timeline_attach(struct timeline *timeline, const char *row, const char *second_row);

/* Host time in ns. */
uint64_t timeline_now(void);

/* What the inline functions below do while a timeline is written. */
void timeline_record(enum timeline_kind kind, const char *name, uint64_t start, uint64_t end,
                     const uint64_t args[4]);
void timeline_change(enum timeline_kind kind, uint64_t a, uint64_t b);
void timeline_flush_old(void);

/* A slice: begin with timeline_start(), and end it with timeline_slice(), which may be given a name
 * (NULL: the kind's) and what the kind says above. */
static inline uint64_t timeline_start(void)
{
    return unlikely(timeline_here != NULL) ? timeline_now() : 0;
}
static inline void timeline_slice(enum timeline_kind kind, const char *name, uint64_t start,
                                  uint64_t a, uint64_t b, uint64_t c)
{
    if (unlikely(timeline_here != NULL))
        timeline_record(kind, name, start, timeline_now(), (const uint64_t[4]){a, b, c, 0});
}

static inline void timeline_instant(enum timeline_kind kind, const char *name, uint64_t a,
                                    uint64_t b, uint64_t c, uint64_t d)
{
    if (unlikely(timeline_here != NULL))
        timeline_record(kind, name, timeline_now(), 0, (const uint64_t[4]){a, b, c, d});
}

/* Ends the state of the guest and begins another; nothing if it is in that state already. */
static inline void timeline_state(enum timeline_kind kind, uint64_t a, uint64_t b)
{
    if (unlikely(timeline_here != NULL))
        timeline_change(kind, a, b);
}

/* The thread is about to sleep: a good moment to write, if the last time is a while ago. */
static inline void timeline_rest(void)
{
    if (unlikely(timeline_here != NULL))
        timeline_flush_old();
}

#endif
