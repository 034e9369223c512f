/* trace.h - trace events: one line each in trace_events.h, off at the price of one branch.
 *
 * TRACE_EVENT(name, (params), "format", args...) in trace_events.h makes an inline function
 * trace_name(params). `--trace PATTERN` switches events on by shell pattern. A line goes to the
 * trace file (standard error by default) as "name: text".
 * Any thread may trace; switching events on and off is for the main thread. */
#ifndef DOBLE_BASE_TRACE_H
#define DOBLE_BASE_TRACE_H

#include "base/types.h"

#include <stdio.h>

enum trace_id {
#define TRACE_EVENT(name, ...) TRACE_##name,
#include "base/trace_events.h"
#undef TRACE_EVENT
    TRACE_COUNT
};

/* One byte an event: is it on? The only mutable global of the program, because the events are
 * compiled into every module. */
extern bool trace_on[TRACE_COUNT];

/* Switches every event that matches the shell pattern (fnmatch) on or off.
 * Returns the number of events that matched. */
unsigned trace_enable(const char *pattern, bool on);

/* Where lines go; NULL means standard error. The stream stays the caller's. */
void trace_set_file(FILE *file);

/* The name of an event; for listing them (`--trace help`). */
const char *trace_name(enum trace_id id);

void trace_print(enum trace_id id, const char *fmt, ...) PRINTF_LIKE(2, 3);

#define TRACE_UNPACK(...) __VA_ARGS__
#define TRACE_EVENT(name, params, ...)                                                             \
    static inline void trace_##name params                                                         \
    {                                                                                              \
        if (unlikely(trace_on[TRACE_##name]))                                                      \
            trace_print(TRACE_##name, __VA_ARGS__);                                                \
    }
#include "base/trace_events.h"
#undef TRACE_EVENT

#endif
