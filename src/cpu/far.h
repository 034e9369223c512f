/* far.h - far jumps, calls and returns, and software interrupts (SDM vol. 2: JMP, CALL, RET, INT
 * n).
 *
 * Helpers (see cpu.h) of the vCPU thread. Far pointers are in->imm2:in->imm, or in memory
 * (INSN_MEM): offset of in->osize bytes, then the selector. RETF: in->imm is the number of bytes to
 * drop. INT n: in->imm is the vector. IRET is in iret.h. */
#ifndef DOBLE_CPU_FAR_H
#define DOBLE_CPU_FAR_H

#include "cpu/insn.h"
#include "cpu/iret.h"
#include "cpu/segment.h"

helper_fn op_jmp_far, op_call_far, op_retf;
helper_fn op_int, op_int3, op_into, op_int1;

/* Reads the far pointer that is the memory operand of `in`: an offset of in->osize bytes, and the
 * selector. AMD's processors have no 64-bit offsets and read 32 bits there. */
bool far_pointer_read(struct cpu *cpu, const struct insn *in, uint64_t *offset,
                      uint16_t *sel) MUST_USE;

/* What RETF and IRET in protected mode go back to: CS:RIP at the privilege of the selector's RPL.
 */
struct far_return {
    struct segment cs, ss;
    uint64_t rip, rsp;
    unsigned cpl;
    bool loads_stack; /* ss and rsp are valid */
};

/* Checks the return address popped from the stack and fills in cs, rip and cpl. */
bool far_return_code(struct cpu *cpu, uint16_t sel, uint64_t rip, struct far_return *r) MUST_USE;
/* Checks the stack popped for the new privilege and fills in ss and rsp. */
bool far_return_stack(struct cpu *cpu, uint16_t sel, uint64_t rsp, struct far_return *r) MUST_USE;
/* Loads the registers; cannot fail. Without a stack, `pops` bytes are dropped from the current one;
 * with one, RETF's immediate `drop` from the new one. */
void far_return_commit(struct cpu *cpu, const struct far_return *r, unsigned pops, unsigned drop);

#endif
