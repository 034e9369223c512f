/* The stack: windows, PUSH and POP, and RSP itself. */
#include "engine/translate/builder.h"

/* Bytes [low, high) of the window, from RSP: both ends must be in the page that is kept. While none
 * is kept the masks are all ones, and then the sum is 2x + (an odd number): never zero. */
void emit_window_check(struct block_builder *b)
{
    struct assembler *a = &b->a;
    const struct span *s;
    unsigned size;
    uint8_t *elsewhere;

    if (!b->p->opens_window)
        return;
    s = &b->plan->window[b->p->window];
    size = (unsigned)(s->high - s->low + 1) & ~1u;
    asm_load(a, RCX, NATIVE(window_base));
    asm_lea(a, true, RCX, RSP, RCX, 0, s->low);
    asm_lea(a, true, R14, RCX, REG_NONE, 0, (int32_t)size - 1);
    asm_pext(a, false, RCX, RCX, NATIVE(window_mask));
    asm_pext(a, false, R14, R14, NATIVE(window_mask));
    asm_lea(a, true, RCX, RCX, R14, 0, 0);
    elsewhere = asm_unless_rcx_zero(a);
    emit_add_cold(
        b, (struct cold){.kind = COLD_WINDOW, .from = elsewhere, .at = b->at, .resume = a->p});
}

/* Looks for the page in the TLB, and keeps it if it may be written and has all of the window. */
void emit_cold_window(struct block_builder *b, const struct cold *cold)
{
    struct assembler *a = &b->a;
    const struct span *s = &b->plan->window[b->plan->insns[cold->at].window];

    asm_patch(cold->from, a->p);
    asm_load(a, R15, NATIVE(negated_addend));
    asm_lea(a, true, R14, RSP, R15, 0, s->low);
    emit_add_cold(b, (struct cold){
                         .kind = COLD_CAREFUL,
                         .from = emit_tlb_check(a, (unsigned)(s->high - s->low + 1) & ~1u, true),
                         .at = cold->at,
                     });
    asm_patch(asm_address(a, RCX), cold->resume);
    asm_jump_to(a, b->t->stub_window);
}

void emit_set_rsp(struct block_builder *b, unsigned reg, unsigned scratch)
{
    asm_load(&b->a, scratch, NATIVE(stack_addend));
    asm_lea(&b->a, true, RSP, reg, scratch, 0, 0);
}

/* SUB and ADD set flags by the guest's value. */
void emit_move_stack(struct block_builder *b, int32_t by)
{
    struct encoding e = {.index = REG_NONE};

    if (b->p->d.zi.mnemonic != ZYDIS_MNEMONIC_LEA) {
        e.gpr[RSP] = (uint8_t)emit_use_register(b, RSP, R14);
        b->a.p += encode_insn(b->a.p, &b->p->d, &e);
    }
    asm_lea(&b->a, true, RSP, RSP, REG_NONE, 0, by);
}

/* --- careful forms: each access is checked by itself --- */

/* R14 = RSP + by, as the guest has it. */
static void stack_address(struct block_builder *b, int32_t by)
{
    asm_load(&b->a, R15, NATIVE(negated_addend));
    asm_lea(&b->a, cpu_is_64bit(b->cpu), R14, RSP, R15, 0, by);
}

static void careful_push(struct block_builder *b)
{
    const struct operand top = {R14, R15, 0};
    unsigned slot = plan_slot(b->cpu), reg = RCX;

    if (b->p->d.in.flags & INSN_MEM) {
        emit_interpreted(b);
        return;
    }
    stack_address(b, -(int32_t)slot);
    emit_check(b, slot, true);
    if (b->p->d.ops[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
        asm_const(&b->a, RCX, (uint64_t)b->p->d.in.imm);
    else
        reg = emit_use_register(b, b->p->d.in.reg, RCX);
    emit_move_operand(b, reg, &top, true, slot);
    emit_set_rsp(b, R14, RCX);
}

static void careful_pop(struct block_builder *b)
{
    const struct operand top = {R14, R15, 0};
    unsigned slot = plan_slot(b->cpu);

    stack_address(b, 0);
    emit_check(b, slot, false);
    emit_move_operand(b, RCX, &top, false, slot);
    emit_write_register(b, b->p->d.in.reg, RCX);
    asm_lea(&b->a, cpu_is_64bit(b->cpu), R14, R14, REG_NONE, 0, (int32_t)slot);
    emit_set_rsp(b, R14, RCX);
}

/* --- forms in a window --- */

/* PUSH of a host register, or of 4 bytes of it. */
static void push_register(struct block_builder *b, unsigned reg)
{
    const struct operand top = {RSP, REG_NONE, 0};

    if (cpu_is_64bit(b->cpu)) {
        if (reg > 7)
            asm_byte(&b->a, 0x41);
        asm_byte(&b->a, 0x50 | (reg & 7));
        return;
    }
    asm_lea(&b->a, true, RSP, RSP, REG_NONE, 0, -4);
    emit_move_operand(b, reg, &top, true, 4);
}

static void pop_register(struct block_builder *b, unsigned reg)
{
    const struct operand top = {RSP, REG_NONE, 0};

    if (cpu_is_64bit(b->cpu)) {
        if (reg > 7)
            asm_byte(&b->a, 0x41);
        asm_byte(&b->a, 0x58 | (reg & 7));
        return;
    }
    emit_move_operand(b, reg, &top, false, 4);
    asm_lea(&b->a, true, RSP, RSP, REG_NONE, 0, 4);
}

void emit_push(struct block_builder *b)
{
    const struct decoded *d = &b->p->d;
    struct operand operand;

    if (b->p->window < 0) {
        careful_push(b);
        return;
    }
    emit_window_check(b);
    if (d->in.flags & INSN_MEM) {
        if (!emit_operand(b, plan_slot(b->cpu), false, &operand)) {
            emit_interpreted(b);
            return;
        }
        emit_move_operand(b, RCX, &operand, false, plan_slot(b->cpu));
        push_register(b, RCX);
    } else if (d->ops[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
        asm_const(&b->a, RCX, (uint64_t)d->in.imm);
        push_register(b, RCX);
    } else {
        push_register(b, emit_use_register(b, d->in.reg, RCX));
    }
}

void emit_pop(struct block_builder *b)
{
    unsigned to = host_register(b->p->d.in.reg);

    if (b->p->window < 0) {
        careful_pop(b);
        return;
    }
    emit_window_check(b);
    pop_register(b, to == REG_NONE ? RCX : to);
    if (to == REG_NONE)
        asm_store(&b->a, RCX, gpr_at(b->p->d.in.reg));
}

void emit_push_return(struct block_builder *b)
{
    asm_load(&b->a, RCX, NATIVE(page_base));
    asm_lea(&b->a, cpu_is_64bit(b->cpu), RCX, RCX, REG_NONE, 0, (int32_t)behind(b));
    push_register(b, RCX);
}

void emit_leave(struct block_builder *b)
{
    const struct operand top = {R14, R15, 0};

    asm_move(&b->a, R14, RBP);
    emit_check(b, 8, false);
    emit_move_operand(b, RBP, &top, false, 8);
    asm_lea(&b->a, true, R14, R14, REG_NONE, 0, 8);
    emit_set_rsp(b, R14, R15);
}
