/* cr.h - control and debug registers: which values they can have, and the instructions that move
 * them (SDM vol. 3, 2.5, 2.6 and ch. 17; vol. 2, MOV to and from control and debug registers).
 *
 * The helpers are called by engines on the vCPU thread. The predicates have no side effects and
 * serve the check of saved states too. */
#ifndef DOBLE_CPU_CR_H
#define DOBLE_CPU_CR_H

#include "cpu/insn.h"

/* Is the combination of bits possible? (Reserved bits of CR0 are ignored on writes, so they must be
 * clear here.) */
bool cr0_is_valid(uint64_t cr0);
/* Bits of CR4 that the CPU's model can set. */
uint64_t cr4_allowed(const struct cpu *cpu);
bool xcr0_is_valid(const struct cpu *cpu, uint64_t xcr0);

/* The value as the register holds it: fixed bits are 1 or 0 whatever was written. */
uint64_t dr6_fixed(uint64_t v);
uint64_t dr7_fixed(uint64_t v);

/* Write CR0 or CR4 with all checks and consequences (paging, long mode, PDPTEs, TLB). False:
 * #GP(0), and nothing changed. */
bool cpu_write_cr0(struct cpu *cpu, uint64_t v) MUST_USE;
bool cpu_write_cr3(struct cpu *cpu, uint64_t v) MUST_USE;
bool cpu_write_cr4(struct cpu *cpu, uint64_t v) MUST_USE;

helper_fn op_mov_from_cr, op_mov_to_cr, op_mov_from_dr, op_mov_to_dr;
helper_fn op_lmsw, op_smsw, op_clts, op_invlpg, op_invpcid, op_xsetbv, op_xgetbv;

#endif
