/* control.h - the commands that change what the machine does. For the table in commands.c; main
 * thread. */
#ifndef DOBLE_MONITOR_CONTROL_H
#define DOBLE_MONITOR_CONTROL_H

#include "monitor/commands.h"

int control_status(struct call *call, struct err *err);
int control_pause(struct call *call, struct err *err);
int control_resume(struct call *call, struct err *err);
int control_reset(struct call *call, struct err *err);
int control_power(struct call *call, struct err *err);
int control_quit(struct call *call, struct err *err);
int control_save(struct call *call, struct err *err);
int control_restore(struct call *call, struct err *err);
int control_engine(struct call *call, struct err *err);
int control_leave(struct call *call, struct err *err);

#endif
