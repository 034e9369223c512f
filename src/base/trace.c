#include "base/trace.h"

#include <fnmatch.h>
#include <stdarg.h>

bool trace_on[TRACE_COUNT];

static const char *const names[TRACE_COUNT] = {
#define TRACE_EVENT(name, ...) #name,
#include "base/trace_events.h"
#undef TRACE_EVENT
};

static FILE *trace_file;

unsigned trace_enable(const char *pattern, bool on)
{
    unsigned matched = 0;

    for (unsigned id = 0; id < TRACE_COUNT; id++)
        if (fnmatch(pattern, names[id], 0) == 0) {
            trace_on[id] = on;
            matched++;
        }
    return matched;
}

void trace_set_file(FILE *file)
{
    trace_file = file;
}

const char *trace_name(enum trace_id id)
{
    return names[id];
}

void trace_print(enum trace_id id, const char *fmt, ...)
{
    FILE *out = trace_file ? trace_file : stderr;
    va_list args;

    flockfile(out);
    fprintf(out, "%s: ", names[id]);
    va_start(args, fmt);
    vfprintf(out, fmt, args);
    va_end(args);
    putc_unlocked('\n', out);
    funlockfile(out);
}
