/* misc.h - instructions that fit nowhere else: flag bits, bit strings in memory, CMPXCHG8B, BOUND.
 *
 * Helpers (see cpu.h) of the vCPU thread. op_bt, op_bts, op_btr and op_btc are the forms with a
 * memory operand and the bit index in a register; the others are copied natively. */
#ifndef DOBLE_CPU_MISC_H
#define DOBLE_CPU_MISC_H

#include "cpu/insn.h"

bool op_ud(struct cpu *cpu, const struct insn *in) MUST_USE;
bool op_nop(struct cpu *cpu, const struct insn *in) MUST_USE;
bool op_prefetch(struct cpu *cpu, const struct insn *in) MUST_USE;
bool op_clflush(struct cpu *cpu, const struct insn *in) MUST_USE; /* and CLFLUSHOPT, CLWB */
bool op_clzero(struct cpu *cpu, const struct insn *in) MUST_USE;
bool op_wait(struct cpu *cpu, const struct insn *in) MUST_USE;

bool op_lahf(struct cpu *cpu, const struct insn *in) MUST_USE;
bool op_sahf(struct cpu *cpu, const struct insn *in) MUST_USE;
bool op_cmc(struct cpu *cpu, const struct insn *in) MUST_USE;
bool op_clc(struct cpu *cpu, const struct insn *in) MUST_USE;
bool op_stc(struct cpu *cpu, const struct insn *in) MUST_USE;
bool op_cld(struct cpu *cpu, const struct insn *in) MUST_USE;
bool op_std(struct cpu *cpu, const struct insn *in) MUST_USE;

bool op_bound(struct cpu *cpu, const struct insn *in) MUST_USE;
bool op_xlat(struct cpu *cpu, const struct insn *in) MUST_USE;

bool op_bt(struct cpu *cpu, const struct insn *in) MUST_USE;
bool op_bts(struct cpu *cpu, const struct insn *in) MUST_USE;
bool op_btr(struct cpu *cpu, const struct insn *in) MUST_USE;
bool op_btc(struct cpu *cpu, const struct insn *in) MUST_USE;

bool op_cmpxchg8b(struct cpu *cpu, const struct insn *in) MUST_USE;
bool op_cmpxchg16b(struct cpu *cpu, const struct insn *in) MUST_USE;

#endif
