/* stack.c - instructions whose work is on the stack (SDM vol. 1, 6.2 and 6.6; vol. 2).
 *
 * The operand size says how much is moved; the width of the stack pointer (64-bit mode: 64 bits,
 * else the B bit of SS: 32 or 16) says how far RSP and RBP count. Both come together only here and
 * in stack_push() and stack_pop(). A fault in the middle puts RSP back; words that were already
 * stored below it stay, as they do on a processor. */
#include "cpu/stack.h"

#include "cpu/access.h"

bool op_push_reg(struct cpu *cpu, const struct insn *in)
{
    /* PUSH RSP pushes the value from before. */
    return stack_push(cpu, gpr_read(cpu, in->reg, in->osize, false), in->osize);
}

bool op_push_imm(struct cpu *cpu, const struct insn *in)
{
    return stack_push(cpu, (uint64_t)in->imm, in->osize);
}

bool op_push_rm(struct cpu *cpu, const struct insn *in)
{
    uint64_t v;

    return insn_read_rm(cpu, in, &v) && stack_push(cpu, v, in->osize);
}

bool op_pop_reg(struct cpu *cpu, const struct insn *in)
{
    uint64_t v;

    if (!stack_pop(cpu, &v, in->osize))
        return false;
    gpr_write(cpu, in->reg, in->osize, false, v); /* POP RSP: the value popped stays */
    return true;
}

bool op_pop_rm(struct cpu *cpu, const struct insn *in)
{
    uint64_t old = cpu->gpr[RSP];
    uint64_t v;

    /* The address of a memory operand is computed after RSP was incremented. */
    if (!stack_pop(cpu, &v, in->osize))
        return false;
    if (!insn_write_rm(cpu, in, v)) {
        cpu->gpr[RSP] = old;
        return false;
    }
    return true;
}

bool op_pusha(struct cpu *cpu, const struct insn *in)
{
    uint64_t old = cpu->gpr[RSP];

    for (unsigned reg = RAX; reg <= RDI; reg++) {
        uint64_t v = reg == RSP ? old : cpu->gpr[reg];

        if (!stack_push(cpu, v, in->osize)) {
            cpu->gpr[RSP] = old;
            return false;
        }
    }
    return true;
}

bool op_popa(struct cpu *cpu, const struct insn *in)
{
    uint64_t old = cpu->gpr[RSP], v;

    /* Like the processor's, registers popped before a fault have their new value. */
    for (unsigned reg = RDI + 1; reg-- > RAX;) {
        if (!stack_pop(cpu, &v, in->osize)) {
            cpu->gpr[RSP] = old;
            return false;
        }
        if (reg != RSP)
            gpr_write(cpu, reg, in->osize, false, v);
    }
    return true;
}

/* --- ENTER and LEAVE --- */

/* Pushes the frame pointers of the enclosing procedures: level - 1 of them, found below RBP. */
static bool enter_copy_display(struct cpu *cpu, const struct insn *in, unsigned level)
{
    uint64_t frame = cpu->gpr[RBP];
    uint64_t v;

    for (unsigned i = 1; i < level; i++) {
        frame -= in->osize;
        if (!virt_read_int(cpu, SS, frame & stack_mask(cpu), in->osize, &v) ||
            !stack_push(cpu, v, in->osize))
            return false;
    }
    return true;
}

/* Everything up to RBP's new value: RSP is at its final place, which must be writable. */
static bool enter_build_frame(struct cpu *cpu, const struct insn *in, uint64_t *frame)
{
    unsigned level = in->imm2 & 31;
    uint64_t top;
    gva_t gva;

    if (!stack_push(cpu, cpu->gpr[RBP], in->osize))
        return false;
    *frame = cpu->gpr[RSP];
    if (level && (!enter_copy_display(cpu, in, level) || !stack_push(cpu, *frame, in->osize)))
        return false;
    stack_set_pointer(cpu, cpu->gpr[RSP] - (uint16_t)in->imm);
    top = cpu->gpr[RSP] & stack_mask(cpu);
    return seg_to_linear(cpu, SS, top, in->osize, ACCESS_WRITE, &gva) &&
           lin_probe(cpu, gva, in->osize, ACCESS_WRITE);
}

bool op_enter(struct cpu *cpu, const struct insn *in)
{
    uint64_t old = cpu->gpr[RSP];
    uint64_t frame;

    if (!enter_build_frame(cpu, in, &frame)) {
        cpu->gpr[RSP] = old;
        return false;
    }
    gpr_write(cpu, RBP, in->osize, false, frame);
    return true;
}

bool op_leave(struct cpu *cpu, const struct insn *in)
{
    uint64_t old = cpu->gpr[RSP];
    uint64_t v;

    stack_set_pointer(cpu, cpu->gpr[RBP]);
    if (!stack_pop(cpu, &v, in->osize)) {
        cpu->gpr[RSP] = old;
        return false;
    }
    gpr_write(cpu, RBP, in->osize, false, v);
    return true;
}
