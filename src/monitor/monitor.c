/* monitor.c - puts the sockets together with the machine, and passes its events on. */
#include "monitor/monitor.h"

#include "monitor/commands.h"
#include "monitor/socket.h"
#include "vm/vm.h"

#include <errno.h>
#include <stdlib.h>

#define MAX_SERVERS 2

struct monitor {
    struct vm *vm;
    struct vm_watcher watcher;
    struct server servers[MAX_SERVERS];
    unsigned server_count;
};

/* NULL: programs are not told. */
static const char *event_name(const struct vm *vm, enum vm_event event)
{
    switch (event) {
    case VM_EVENT_PAUSED: return "paused";
    case VM_EVENT_RESUMED: return "resumed";
    case VM_EVENT_RESET: return "reset";
    case VM_EVENT_ENDED: return command_state_name(vm, false);
    default: return NULL;
    }
}

/* {"event": "paused"}; for an end that has a number (a signal, a debug exit) also "value". */
static void happened(void *opaque, enum vm_event event)
{
    struct monitor *m = opaque;
    const char *name = event_name(m->vm, event);
    json_t *object;

    if (!name)
        return;
    object = json_pack("{s:s}", "event", name);
    if (event == VM_EVENT_ENDED && (m->vm->end == VM_DEBUG_EXIT || m->vm->end == VM_KILLED))
        json_object_set_new(object, "value", json_integer(m->vm->end_value));
    for (unsigned i = 0; i < m->server_count; i++)
        server_tell(&m->servers[i], object);
    json_decref(object);
}

static int add_server(struct monitor *m, const char *path, bool json, struct err *err)
{
    int rc = path ? server_open(&m->servers[m->server_count], m->vm, path, json, err) : 0;

    if (path && rc == 0)
        m->server_count++;
    return rc;
}

struct monitor *monitor_new(struct vm *vm, const char *text, const char *json, struct err *err)
{
    struct monitor *m = calloc(1, sizeof *m);

    if (!m) {
        err_set(err, -ENOMEM, "out of memory");
        return NULL;
    }
    m->vm = vm;
    if (add_server(m, text, false, err) < 0 || add_server(m, json, true, err) < 0) {
        monitor_free(m);
        return NULL;
    }
    m->watcher = (struct vm_watcher){.happened = happened, .opaque = m};
    vm_watch(vm, &m->watcher);
    return m;
}

void monitor_free(struct monitor *m)
{
    if (!m)
        return;
    for (unsigned i = 0; i < m->server_count; i++)
        server_close(&m->servers[i]);
    free(m);
}
