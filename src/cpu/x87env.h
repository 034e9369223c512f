/* x87env.h - the x87 environment and state as FNSTENV, FLDENV, FNSAVE and FRSTOR store them.
 *
 * Helpers (see cpu.h) of the vCPU thread. The registers are brought to cpu->fx first, so that the
 * host's FPU is not involved. Also what other helpers need of the x87 registers in cpu->fx. */
#ifndef DOBLE_CPU_X87ENV_H
#define DOBLE_CPU_X87ENV_H

#include "cpu/insn.h"

bool op_fnstenv(struct cpu *cpu, const struct insn *in) MUST_USE;
bool op_fldenv(struct cpu *cpu, const struct insn *in) MUST_USE;
bool op_fnsave(struct cpu *cpu, const struct insn *in) MUST_USE;
bool op_frstor(struct cpu *cpu, const struct insn *in) MUST_USE;
bool op_fninit(struct cpu *cpu, const struct insn *in) MUST_USE;

/* An x87 exception waits to be reported by the next waiting x87 or MMX instruction. */
bool x87_exception_pending(const struct cpu *cpu);

/* Control, status and tag word in cpu->fx (not live): the values that the processor makes of these
 * (the registers follow TOP, the summary follows flags and masks). */
void x87_set_control_status(struct cpu *cpu, uint16_t cw, uint16_t sw);
uint16_t x87_get_tags(struct cpu *cpu);
void x87_set_tags(struct cpu *cpu, uint16_t tags);

/* Changes TOP in cpu->fx (not live), in which the registers are stored in the order of the stack:
 * moves them so that each stays the same physical register. MMX instructions set it to 0. */
void x87_set_top(struct cpu *cpu, unsigned top);

/* Where register MMn (physical register n) is in cpu->fx (not live): 8 bytes. */
uint8_t *x87_mmx(struct cpu *cpu, unsigned n);

#endif
