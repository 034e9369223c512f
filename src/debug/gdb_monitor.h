/* gdb_monitor.h - the commands of GDB's `monitor`: how an address is translated, page tables,
 * descriptor tables, interrupt controllers, devices.
 *
 * They look at a machine whose vCPU is parked, and change nothing of it. Main thread. */
#ifndef DOBLE_DEBUG_GDB_MONITOR_H
#define DOBLE_DEBUG_GDB_MONITOR_H

#include "base/state.h"
#include "cpu/cpu.h"
#include "dev/ioapic.h"
#include "dev/lapic.h"

#include <stdio.h>

/* What there is to look at. */
struct gdb_machine {
    struct cpu *cpu;
    struct state_list *states;
    const struct lapic *lapic;
    const struct ioapic *ioapic;
};

/* Executes a command line; what it has to say, mistakes included, goes to `out`. */
void gdb_monitor(const struct gdb_machine *machine, const char *line, FILE *out);

#endif
