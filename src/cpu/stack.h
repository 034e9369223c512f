/* stack.h - PUSH, POP, PUSHA, POPA, ENTER and LEAVE in every operand and stack size.
 *
 * Helpers (see cpu.h) of the vCPU thread. PUSHF, POPF and segment registers are elsewhere. */
#ifndef DOBLE_CPU_STACK_H
#define DOBLE_CPU_STACK_H

#include "cpu/insn.h"

bool op_push_reg(struct cpu *cpu, const struct insn *in) MUST_USE;
bool op_push_imm(struct cpu *cpu, const struct insn *in) MUST_USE;
bool op_push_rm(struct cpu *cpu, const struct insn *in) MUST_USE;
bool op_pop_reg(struct cpu *cpu, const struct insn *in) MUST_USE;
bool op_pop_rm(struct cpu *cpu, const struct insn *in) MUST_USE;
bool op_pusha(struct cpu *cpu, const struct insn *in) MUST_USE;
bool op_popa(struct cpu *cpu, const struct insn *in) MUST_USE;
bool op_enter(struct cpu *cpu, const struct insn *in) MUST_USE;
bool op_leave(struct cpu *cpu, const struct insn *in) MUST_USE;

#endif
