/* Branches. Every chain of blocks without end has one that polls: a backward branch, an
 * indirect jump or a return. */
#include "engine/translate/builder.h"

/* Polls if the branch goes back, or may do so because 32-bit addresses wrap. */
static void poll_before(struct block_builder *b, int64_t target)
{
    if (target <= here(b) || (!cpu_is_64bit(b->cpu) && target >= (int64_t)PAGE_SIZE))
        emit_poll(b);
}

static void emit_jump(struct block_builder *b, int64_t target)
{
    emit_exit_to(b, asm_jump(&b->a), target);
}

static void emit_condition(struct block_builder *b)
{
    int64_t target = behind(b) + b->p->d.in.imm;

    poll_before(b, target);
    asm_byte(&b->a, 0x0f);
    asm_byte(&b->a, 0x80 | (b->p->d.zi.opcode & 15));
    b->a.p += 4;
    if (b->counting && !b->p->ends)
        emit_add_cold(
            b, (struct cold){.kind = COLD_SIDE, .from = b->a.p - 4, .target = target, .at = b->at});
    else
        emit_exit_to(b, b->a.p - 4, target);
    if (b->p->ends)
        emit_jump(b, behind(b));
}

static void emit_call(struct block_builder *b)
{
    int64_t target = behind(b) + b->p->d.in.imm;

    if (b->p->window < 0) {
        emit_interpreted(b);
        return;
    }
    poll_before(b, target);
    emit_window_check(b);
    emit_push_return(b);
    emit_jump(b, target);
}

/* The target of an indirect branch into R14. False: it is interpreted. */
static bool emit_target(struct block_builder *b)
{
    const struct decoded *d = &b->p->d;
    struct operand o;
    unsigned reg;

    if (d->in.flags & INSN_MEM) {
        if (!emit_operand(b, plan_slot(b->cpu), false, &o))
            return false;
        emit_move_operand(b, R14, &o, false, plan_slot(b->cpu));
        return true;
    }
    reg = emit_use_register(b, d->in.rm, R14);
    if (reg != R14 || !cpu_is_64bit(b->cpu))
        asm_lea(&b->a, cpu_is_64bit(b->cpu), R14, reg, REG_NONE, 0, 0);
    return true;
}

/* R14 = where an indirect branch leads; R15 = its slot of the jump cache. If the cache doesn't know
 * the target, the interpreter does the branch, of which nothing has happened yet: a target that is
 * no canonical address makes the branch itself raise #GP. */
static void emit_find_target(struct block_builder *b)
{
    uint8_t *unknown = translate_emit_find(&b->a);

    emit_add_cold(b,
                  (struct cold){.kind = COLD_INTERPRET, .from = unknown, .record = emit_record(b)});
}

static void emit_indirect(struct block_builder *b)
{
    bool call = b->p->d.zi.mnemonic == ZYDIS_MNEMONIC_CALL;

    if (call && b->p->window < 0) {
        emit_interpreted(b);
        return;
    }
    emit_poll(b);
    emit_window_check(b);
    if (!emit_target(b)) {
        emit_interpreted(b);
        return;
    }
    emit_find_target(b);
    if (call)
        emit_push_return(b);
    translate_emit_follow(&b->a);
}

static void emit_return(struct block_builder *b)
{
    const struct operand top = {RSP, REG_NONE, 0};
    unsigned slot = plan_slot(b->cpu);

    if (b->p->window < 0) {
        emit_interpreted(b);
        return;
    }
    emit_poll(b);
    emit_window_check(b);
    emit_move_operand(b, R14, &top, false, slot);
    emit_find_target(b);
    asm_lea(&b->a, true, RSP, RSP, REG_NONE, 0, (int32_t)slot + (uint16_t)b->p->d.in.imm);
    translate_emit_follow(&b->a);
}

void emit_branch(struct block_builder *b)
{
    const struct decoded *d = &b->p->d;
    bool relative = d->zi.raw.imm[0].is_relative;

    if (plan_is_condition(d)) {
        emit_condition(b);
    } else if (d->zi.mnemonic == ZYDIS_MNEMONIC_JMP && relative) {
        poll_before(b, behind(b) + d->in.imm);
        emit_jump(b, behind(b) + d->in.imm);
    } else if (d->zi.mnemonic == ZYDIS_MNEMONIC_CALL && relative) {
        emit_call(b);
    } else if (d->zi.mnemonic == ZYDIS_MNEMONIC_CALL || d->zi.mnemonic == ZYDIS_MNEMONIC_JMP) {
        emit_indirect(b);
    } else if (d->zi.mnemonic == ZYDIS_MNEMONIC_RET) {
        emit_return(b);
    } else {
        emit_interpreted(b);
    }
}
