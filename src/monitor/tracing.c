/* tracing.c - lists trace events, and switches those that match a pattern. */
#include "monitor/tracing.h"

#include "base/trace.h"

#include <errno.h>
#include <fnmatch.h>

static int no_match(const char *pattern, struct err *err)
{
    return err_set(err, -EINVAL, "no trace event matches '%.60s'; 'trace' lists them", pattern);
}

static int list_events(struct call *call, const char *pattern, struct err *err)
{
    unsigned matched = 0;

    call->result = json_object();
    for (int id = 0; id < TRACE_COUNT; id++) {
        const char *name = trace_name((enum trace_id)id);

        if (fnmatch(pattern, name, 0) != 0)
            continue;
        fprintf(call->out, "%-3s %s\n", trace_on[id] ? "on" : "off", name);
        json_object_set_new(call->result, name, json_boolean(trace_on[id]));
        matched++;
    }
    return matched ? 0 : no_match(pattern, err);
}

int tracing_trace(struct call *call, struct err *err)
{
    const struct argument_value *pattern = &call->arguments[0], *on = &call->arguments[1];
    unsigned matched;

    if (!pattern->given && on->given)
        return err_set(err, -EINVAL, "trace: on or off needs a pattern of events");
    if (!on->given)
        return list_events(call, pattern->given ? pattern->string : "*", err);
    matched = trace_enable(pattern->string, on->on);
    if (!matched)
        return no_match(pattern->string, err);
    fprintf(call->out, "%u event%s %s\n", matched, matched == 1 ? "" : "s", on->on ? "on" : "off");
    call->result = json_pack("{s:I}", "matched", (json_int_t)matched);
    return 0;
}
