/* interrupt.h - exceptions and interrupts: delivery through IVT, IDT gates and task gates.
 *
 * SDM vol. 3, ch. 6 (and vol. 2, INT n, for the pseudo-code). vCPU thread only. */
#ifndef DOBLE_CPU_INTERRUPT_H
#define DOBLE_CPU_INTERRUPT_H

#include "cpu/cpu.h"

enum interrupt_kind {
    INTERRUPT_HARDWARE,       /* external, NMI */
    INTERRUPT_EXCEPTION,      /* #xx raised by an instruction */
    INTERRUPT_SOFTWARE,       /* INT n: gate DPL is checked, VM86 IOPL and VME rules apply */
    INTERRUPT_SOFT_EXCEPTION, /* INT3, INTO: gate DPL is checked */
    INTERRUPT_PRIV_SOFT,      /* INT1: no DPL check */
};

/* Delivers one vector: pushes the frame and loads CS:RIP from the gate. The return address pushed
 * is cpu->rip. False: a fault was raised on the way (recorded in cpu->exc), nothing else changed.
 */
bool cpu_interrupt(struct cpu *cpu, uint8_t vector, enum interrupt_kind kind, bool has_error,
                   uint32_t error) MUST_USE;

/* Delivers the exception recorded in cpu->exc (cpu->rip is at the faulting instruction for faults).
 * Faults on the way become #DF, and then shutdown (cpu->activity = CPU_SHUTDOWN). Sets CR2, DR6, RF
 * in the pushed image, and counts it. */
void cpu_deliver_exception(struct cpu *cpu);

/* Between two instructions: takes the most important event that can be taken now (INIT, SMI, NMI,
 * external interrupt) and ends a halt. Respects the interrupt shadow and clears nothing of it (the
 * engine does after the next instruction). True if an event was taken. */
bool cpu_take_event(struct cpu *cpu);

/* Would cpu_take_event() take something? Decides whether a halted vCPU wakes. Any thread. */
bool cpu_event_ready(struct cpu *cpu);

#endif
