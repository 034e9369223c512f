/* cpu_timeline.h - a vCPU's part of the timeline: the mode of the guest, traps, interrupts, and
 * what the monitor does for it. For the thread of the vCPU; free when no timeline is written. */
#ifndef DOBLE_CPU_CPU_TIMELINE_H
#define DOBLE_CPU_CPU_TIMELINE_H

#include "base/timeline.h"
#include "cpu/cpu.h"

void cpu_timeline_change(const struct cpu *cpu);
void cpu_timeline_record_trap(const struct cpu *cpu, const struct exception *e);
/* Names of the slices of delivering an exception and of emulating an instruction. */
const char *cpu_timeline_vector_name(unsigned vector);

/* The guest executes: at CPL 3 or in its kernel. Called where the CPL may have changed. */
static inline void cpu_timeline_mode(const struct cpu *cpu)
{
    if (unlikely(timeline_here != NULL))
        cpu_timeline_change(cpu);
}

/* An exception, before it is delivered: RIP and CR2 are those of the trap. */
static inline void cpu_timeline_trap(const struct cpu *cpu, const struct exception *e)
{
    if (unlikely(timeline_here != NULL))
        cpu_timeline_record_trap(cpu, e);
}

#endif
