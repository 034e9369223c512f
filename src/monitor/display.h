/* display.h - the monitor's commands about what the machine shows: screenshot. */
#ifndef DOBLE_MONITOR_DISPLAY_H
#define DOBLE_MONITOR_DISPLAY_H

#include "monitor/commands.h"

int display_screenshot(struct call *call, struct err *err);

#endif
