/* inspect.h - the commands that look into the machine. For the table in commands.c; main thread,
 * with the vCPU parked. */
#ifndef DOBLE_MONITOR_INSPECT_H
#define DOBLE_MONITOR_INSPECT_H

#include "monitor/commands.h"

int inspect_registers(struct call *call, struct err *err);
int inspect_memory(struct call *call, struct err *err);
int inspect_translate(struct call *call, struct err *err);
int inspect_devices(struct call *call, struct err *err);
int inspect_stats(struct call *call, struct err *err);

#endif
