/* gdb_memory.h - guest memory as a debugger sees it: by linear address, through the guest's page
 * tables as they are now, without rights, faults, accessed bits or side effects.
 *
 * Only RAM can be reached: reading a device's registers would change it. The vCPU must be parked.
 * Main thread. */
#ifndef DOBLE_DEBUG_GDB_MEMORY_H
#define DOBLE_DEBUG_GDB_MEMORY_H

#include "cpu/cpu.h"

/* Reads up to `len` bytes; returns how many from the start could be read. */
size_t gdb_memory_read(struct cpu *cpu, gva_t gva, void *buf, size_t len);
/* False: not all of it is RAM, and nothing was written. */
bool gdb_memory_write(struct cpu *cpu, gva_t gva, const void *buf, size_t len) MUST_USE;

#endif
