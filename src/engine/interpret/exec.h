/* exec.h - how the functions that execute instructions run into each other.
 *
 * Each instruction of a block has an exec function; it ends by calling the next one's (a jump,
 * after the compiler's sibling-call optimisation, and at most a block deep without it). Within a
 * block cpu->rip stays at the start of the block; in->end tells how far the instruction is from
 * there. A function leaves the block by setting cpu->rip and cpu->icount and returning. */
#ifndef DOBLE_ENGINE_INTERPRET_EXEC_H
#define DOBLE_ENGINE_INTERPRET_EXEC_H

#include "cpu/decode.h"
#include "cpu/tlb.h"

#define EXEC_NEXT(cpu, in) return (in)[1].exec((cpu), (in) + 1)

/* rip + offset, as wide as the mode's instruction pointer. */
static inline uint64_t rip_plus(const struct cpu *cpu, int64_t offset)
{
    uint64_t rip = cpu->rip + (uint64_t)offset;

    return cpu_is_64bit(cpu) ? rip : (uint32_t)rip;
}

/* Leaves after `in` has completed. */
static inline void exec_leave_after(struct cpu *cpu, const struct insn *in)
{
    cpu->rip = rip_plus(cpu, in->end);
    cpu->icount += in->index_in_block + 1u;
}

/* Leaves before `in`: it raised an exception. */
static inline void exec_leave_fault(struct cpu *cpu, const struct insn *in)
{
    cpu->rip = rip_plus(cpu, in->end - in->len);
    cpu->icount += in->index_in_block;
}

/* After whatever may have reached a device or changed code: does anything want attention? Then the
 * block is left at once, so that interrupts are taken behind the instruction that caused them,
 * whatever the blocks of an engine are. */
static inline bool exec_must_leave(const struct cpu *cpu)
{
    return atomic_load_explicit(&cpu->attention, memory_order_relaxed) != 0;
}

/* How a memory operand's address is made; a constant in each copy of a function. */
enum addressing {
    ADDR_64,  /* 64-bit mode, 64-bit address, segment without base */
    ADDR_32,  /* flat 32-bit segments, 32-bit address */
    ADDR_ANY, /* any other */
};

/* The host address of a memory operand if the TLB knows it, else NULL. */
static inline __attribute__((always_inline)) void *exec_operand(struct cpu *cpu,
                                                                const struct insn *in,
                                                                enum addressing addressing,
                                                                unsigned size, bool write)
{
    gva_t gva = cpu->gpr[in->base] + (cpu->gpr[in->index] << in->scale) + (uint64_t)in->disp;

    if (addressing == ADDR_ANY)
        return NULL;
    if (addressing == ADDR_32)
        gva = (uint32_t)gva;
    return write ? tlb_lookup_write(cpu, gva, size) : tlb_lookup_read(cpu, gva, size);
}

/* The effective address inside a block (insn_ea() is for helpers, whose rip is further on). */
static inline uint64_t exec_ea(const struct cpu *cpu, const struct insn *in)
{
    uint64_t ea = cpu->gpr[in->base] + (cpu->gpr[in->index] << in->scale) + (uint64_t)in->disp;

    if (in->asize == 8)
        return ea;
    return in->asize == 4 ? (uint32_t)ea : (uint16_t)ea;
}

/* The slow ways: by segment and effective address, with the time made known to devices. On false
 * the block has been left. */
bool exec_slow_read(struct cpu *cpu, const struct insn *in, uint64_t ea, void *buf,
                    unsigned size) MUST_USE;
bool exec_slow_write(struct cpu *cpu, const struct insn *in, uint64_t ea, const void *buf,
                     unsigned size) MUST_USE;
bool exec_push(struct cpu *cpu, const struct insn *in, uint64_t v) MUST_USE; /* 64-bit stack */

/* Chooses the exec function, helper or thunk for a decoded instruction of a block. False: the thunk
 * cache is full. */
struct interpreter;
bool exec_select(struct cpu *cpu, struct interpreter *interp, struct decoded *d) MUST_USE;

/* Selection by class; NULL: no special form, use the helper. */
exec_fn *exec_select_move(const struct cpu *cpu, struct decoded *d);
exec_fn *exec_select_branch(const struct cpu *cpu, struct decoded *d);
exec_fn *exec_select_copy(const struct cpu *cpu, struct decoded *d);

/* The fault of an instruction of this unit in the present mode, or NULL. */
exec_fn *exec_unit_fault(const struct cpu *cpu, enum insn_unit unit);

enum addressing exec_addressing(const struct cpu *cpu, const struct insn *in);

/* The last instruction of a block that doesn't end with a branch: a place, not an instruction. */
exec_fn exec_end;
/* Ends a chain of one: returns to whoever called the instruction before it. */
exec_fn exec_return;
/* Helpers, in the middle and at the end of a block. */
exec_fn exec_helper, exec_helper_end;
/* Instructions that only raise an exception. */
exec_fn exec_raise_ud, exec_raise_nm, exec_raise_gp;

/* Where a native exception in a thunk continues; cpu->exc has been set by the signal handler. */
void exec_native_fault(struct cpu *cpu, const struct insn *in);

#endif
