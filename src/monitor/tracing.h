/* tracing.h - the command that lists trace events and switches them. For the table in commands.c;
 * main thread, with the vCPU parked. */
#ifndef DOBLE_MONITOR_TRACING_H
#define DOBLE_MONITOR_TRACING_H

#include "monitor/commands.h"

int tracing_trace(struct call *call, struct err *err);

#endif
