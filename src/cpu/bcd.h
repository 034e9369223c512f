/* bcd.h - decimal arithmetic: DAA, DAS, AAA, AAS, AAM, AAD, and the undocumented SALC.
 *
 * Helpers (see cpu.h) of the vCPU thread; none of them exists in 64-bit mode. */
#ifndef DOBLE_CPU_BCD_H
#define DOBLE_CPU_BCD_H

#include "cpu/insn.h"

bool op_daa(struct cpu *cpu, const struct insn *in) MUST_USE;
bool op_das(struct cpu *cpu, const struct insn *in) MUST_USE;
bool op_aaa(struct cpu *cpu, const struct insn *in) MUST_USE;
bool op_aas(struct cpu *cpu, const struct insn *in) MUST_USE;
bool op_aam(struct cpu *cpu, const struct insn *in) MUST_USE;
bool op_aad(struct cpu *cpu, const struct insn *in) MUST_USE;
bool op_salc(struct cpu *cpu, const struct insn *in) MUST_USE;

#endif
