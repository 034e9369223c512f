/* string.h - the string instructions, without and with REP, REPE and REPNE.
 *
 * Helpers (see cpu.h) of the vCPU thread. A repeated instruction does at most a page of bytes in
 * one call: when it is not complete it puts cpu->rip back on itself and returns true, so that the
 * engine executes it again and can take an interrupt in between. On a fault the registers show the
 * iterations that were completed: the one case in which a helper returns false with changes made.
 */
#ifndef DOBLE_CPU_STRING_H
#define DOBLE_CPU_STRING_H

#include "cpu/insn.h"

bool op_movs(struct cpu *cpu, const struct insn *in) MUST_USE;
bool op_cmps(struct cpu *cpu, const struct insn *in) MUST_USE;
bool op_stos(struct cpu *cpu, const struct insn *in) MUST_USE;
bool op_lods(struct cpu *cpu, const struct insn *in) MUST_USE;
bool op_scas(struct cpu *cpu, const struct insn *in) MUST_USE;

/* Puts cpu->rip back on a repeated instruction that is not complete. Outside 64-bit mode the
 * address may have wrapped. */
void string_again(struct cpu *cpu, const struct insn *in);

#endif
