/* monitor.h - the monitor of one machine: its sockets, and the events that it sends to programs.
 *
 * Main thread. Between vm_init() and vm_free(); the machine's main loop serves the clients. */
#ifndef DOBLE_MONITOR_MONITOR_H
#define DOBLE_MONITOR_MONITOR_H

#include "base/err.h"
#include "base/types.h"

struct vm;
struct monitor;

/* Listens on Unix sockets: at `text` for people, at `json` for programs. Either may be NULL. */
struct monitor *monitor_new(struct vm *vm, const char *text, const char *json, struct err *err);
/* NULL is allowed. */
void monitor_free(struct monitor *monitor);

#endif
