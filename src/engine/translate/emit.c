/* The translation of a block: instruction by instruction, then what is behind it. */
#include "base/timeline.h"
#include "engine/interpret/exec.h"
#include "engine/translate/builder.h"
#include "engine/translate/report.h"
#include "engine/translate/verify.h"

#include <stdio.h>
#include <stdlib.h>

/* --- records --- */

void emit_add_cold(struct block_builder *b, struct cold cold)
{
    b->cold[b->cold_count++] = cold;
}

struct tinsn *emit_record(struct block_builder *b)
{
    if (b->record)
        return b->record;
    b->record = translate_new_insn(b->t, b->code + b->p->offset, b->p->d.in.len, (unsigned)here(b));
    if (!b->record) {
        b->failed = true;
        return NULL;
    }
    b->record->rest = (uint8_t)(b->plan->count - b->at);
    b->record->holds = b->p->holds;
    return b->record;
}

static void add_fault(struct block_builder *b, bool poll)
{
    const struct tinsn *record = emit_record(b);

    if (record)
        translate_add_fault_site(b->t, record, b->a.p, poll);
}

void emit_fault_site(struct block_builder *b)
{
    add_fault(b, false);
}

void emit_poll(struct block_builder *b)
{
    asm_load(&b->a, RCX, NATIVE(poll));
    add_fault(b, true);
    asm_bytes(&b->a, "\x8b\x09", 2); /* mov ecx, [rcx] */
}

/* The end of the instruction: interpreted ones go on here. */
static void set_resume(struct block_builder *b)
{
    if (b->record)
        b->record->resume = (uint32_t)(b->a.p - b->t->writable);
    for (unsigned i = b->first_cold; i < b->cold_count; i++)
        if (b->cold[i].kind == COLD_INTERPRET)
            b->cold[i].resume = b->a.p;
}

/* --- cold parts --- */

/* RCX = record, R15 = where to go on: the rel32 of that is returned, to be filled in. */
static uint8_t *emit_interpret_call(struct block_builder *b, const struct tinsn *record)
{
    uint8_t *resume;

    asm_const(&b->a, RCX, (uint64_t)((const uint8_t *)record - b->t->meta));
    resume = asm_address(&b->a, R15);
    asm_jump_to(&b->a, b->t->stub_interpret);
    return resume;
}

/* Leaves so that the jump at `from` can be made to lead to its target. */
static void emit_link(struct block_builder *b, uint8_t *from, int64_t target, uint32_t extra)
{
    struct tlink *link = translate_new_link(b->t);

    if (!link) {
        b->failed = true;
        return;
    }
    link->site = from;
    link->stub = b->a.p;
    link->target = b->code - b->page_offset + target;
    link->mode = b->cpu->mode | extra;
    asm_patch(from, b->a.p);
    asm_const(&b->a, RCX, (uint64_t)(uintptr_t)link);
    asm_jump_to(&b->a, b->t->stub_link);
}

static uint32_t counting_bit(const struct block_builder *b)
{
    return b->counting ? MODE_COUNTING : 0;
}

/* Instructions that were counted and will not be executed. */
static void refund(struct block_builder *b, unsigned count)
{
    if (!b->counting)
        return;
    asm_load(&b->a, RCX, NATIVE(budget));
    asm_lea(&b->a, true, RCX, RCX, REG_NONE, 0, (int32_t)count);
    asm_store(&b->a, RCX, NATIVE(budget));
}

static void emit_careful_exit(struct block_builder *b, const struct cold *cold)
{
    int64_t target = (int64_t)b->page_offset + b->plan->insns[cold->at].offset;

    asm_patch(cold->from, b->a.p);
    refund(b, b->plan->count - cold->at);
    emit_link(b, asm_jump(&b->a), target, MODE_CAREFUL | counting_bit(b));
}

static void emit_lookup_exit(struct block_builder *b, const struct cold *cold)
{
    asm_patch(cold->from, b->a.p);
    asm_load(&b->a, R14, NATIVE(page_base));
    /* A displacement of 2 GiB and the place in the page need more than 32 bits. */
    asm_const(&b->a, R15, (uint64_t)cold->target);
    asm_lea(&b->a, cpu_is_64bit(b->cpu), R14, R14, R15, 0, 0);
    translate_emit_lookup(b->t, &b->a);
}

/* Taken in the middle of a block that counts its instructions. */
static void emit_side_exit(struct block_builder *b, const struct cold *cold)
{
    asm_patch(cold->from, b->a.p);
    refund(b, b->plan->count - cold->at - 1);
    emit_exit_to(b, asm_jump(&b->a), cold->target);
}

static void emit_budget_exit(struct block_builder *b, const struct cold *cold)
{
    asm_patch(cold->from, b->a.p);
    asm_const(&b->a, R14, b->page_offset);
    asm_jump_to(&b->a, b->t->stub_leave);
}

static void emit_cold_part(struct block_builder *b, const struct cold *cold)
{
    switch (cold->kind) {
    case COLD_INTERPRET:
        asm_patch(cold->from, b->a.p);
        asm_patch(emit_interpret_call(b, cold->record), cold->resume);
        break;
    case COLD_WINDOW: emit_cold_window(b, cold); break;
    case COLD_CAREFUL: emit_careful_exit(b, cold); break;
    case COLD_LINK: emit_link(b, cold->from, cold->target, counting_bit(b)); break;
    case COLD_SIDE: emit_side_exit(b, cold); break;
    case COLD_LOOKUP: emit_lookup_exit(b, cold); break;
    case COLD_BUDGET: emit_budget_exit(b, cold); break;
    }
}

/* A part may add another one. */
static void emit_cold(struct block_builder *b)
{
    for (unsigned i = 0; i < b->cold_count && !b->failed; i++) {
        struct cold cold = b->cold[i];

        emit_cold_part(b, &cold);
    }
}

void emit_exit_to(struct block_builder *b, uint8_t *from, int64_t target)
{
    bool inside = target >= 0 && target < (int64_t)PAGE_SIZE;

    emit_add_cold(
        b, (struct cold){.kind = inside ? COLD_LINK : COLD_LOOKUP, .from = from, .target = target});
}

/* --- copies --- */

void emit_interpreted(struct block_builder *b)
{
    const struct tinsn *record = emit_record(b);
    uint8_t *resume;

    if (!record)
        return;
    resume = emit_interpret_call(b, record);
    asm_patch(resume, b->a.p); /* behind the call */
}

static bool may_fault_natively(const struct decoded *d)
{
    switch (d->zi.mnemonic) {
    case ZYDIS_MNEMONIC_CMPXCHG16B:
    case ZYDIS_MNEMONIC_DIV:
    case ZYDIS_MNEMONIC_IDIV: return true;
    default: return d->uses_mxcsr || (d->vec_used && (d->in.flags & INSN_MEM));
    }
}

/* Does it use CL, ECX.. without naming it in a field? */
static bool needs_rcx(const struct decoded *d)
{
    for (unsigned i = 0; i < d->zi.operand_count; i++) {
        const ZydisDecodedOperand *op = &d->ops[i];

        if (encode_guest_gpr(op) == RCX && op->encoding != ZYDIS_OPERAND_ENCODING_MODRM_REG &&
            op->encoding != ZYDIS_OPERAND_ENCODING_MODRM_RM &&
            op->encoding != ZYDIS_OPERAND_ENCODING_OPCODE &&
            op->encoding != ZYDIS_OPERAND_ENCODING_NDSNDD)
            return true;
    }
    return false;
}

static bool is_high(const struct decoded *d)
{
    return d->in.flags & (INSN_HIGH_REG | INSN_HIGH_RM);
}

/* Finds host registers for the guest registers of an instruction. `free_regs`: scratch registers.
 * False: not enough, or AH..DH beside a register that needs REX. */
static bool place_registers(const struct decoded *d, struct encoding *e, uint32_t free_regs)
{
    static const uint8_t order[] = {RCX, R15, R14};

    if ((d->gpr_used & 1u << RCX) && (needs_rcx(d) || is_high(d))) {
        if (!(free_regs & 1u << RCX))
            return false;
        e->gpr[RCX] = RCX;
        free_regs &= ~(1u << RCX);
    } else {
        e->gpr[RCX] = (uint8_t)host_register(RCX);
    }
    for (unsigned g = 0; g < 16; g++) {
        if (!(d->gpr_used & 1u << g) || g == RCX)
            continue;
        e->gpr[g] = (uint8_t)host_register(g);
        for (unsigned i = 0; e->gpr[g] == REG_NONE && i < ARRAY_SIZE(order); i++)
            if (free_regs & 1u << order[i]) {
                e->gpr[g] = order[i];
                free_regs &= ~(1u << order[i]);
            }
        if (e->gpr[g] == REG_NONE || (is_high(d) && e->gpr[g] > 7))
            return false;
    }
    return true;
}

/* Guest registers that are not where the instruction will have them. */
static void load_registers(struct block_builder *b, const struct encoding *e)
{
    uint16_t used = b->p->d.gpr_used;

    for (unsigned g = 0; g < 16; g++) {
        if (!(used & 1u << g) || e->gpr[g] == host_register(g))
            continue;
        if (host_register(g) != REG_NONE)
            asm_move(&b->a, e->gpr[g], host_register(g));
        else
            emit_use_register(b, g, e->gpr[g]);
    }
}

/* RSP goes last, since another scratch register is needed for it. */
static void store_registers(struct block_builder *b, const struct encoding *e)
{
    uint16_t written = b->p->d.gpr_written;

    for (unsigned g = 0; g < 16; g++)
        if ((written & 1u << g) && e->gpr[g] != host_register(g) && g != RSP)
            emit_write_register(b, g, e->gpr[g]);
    if (written & 1u << RSP)
        emit_write_register(b, RSP, e->gpr[RSP]);
}

/* Scratch registers that an instruction needs for guest registers. */
static unsigned count_scratch(const struct decoded *d)
{
    unsigned count = (d->gpr_used & 1u << RCX) && (needs_rcx(d) || is_high(d));

    for (unsigned g = 0; g < 16; g++)
        count += (d->gpr_used & 1u << g) && host_register(g) == REG_NONE;
    return count;
}

/* The operand, and which scratch registers are left beside it. */
static uint32_t place_operand(struct block_builder *b, struct encoding *e, unsigned needed)
{
    const struct decoded *d = &b->p->d;
    struct operand o;
    uint32_t free_regs = 1u << RCX | 1u << R14 | 1u << R15;

    emit_window_check(b);
    if (!emit_operand(b, d->in.mem_size, d->writes_mem, &o))
        return 0;
    if (o.index != REG_NONE && (is_high(d) || needed > 1 + (o.base != R14))) {
        uint8_t to = is_high(d) ? RCX : R14;

        asm_lea(&b->a, true, to, o.base, o.index, 0, o.disp);
        o = (struct operand){to, REG_NONE, 0};
    }
    e->mem = o.base;
    e->index = o.index;
    e->disp = o.disp;
    free_regs &= ~(1u << o.base);
    if (o.index != REG_NONE)
        free_regs &= ~(1u << o.index);
    return free_regs;
}

/* A copied instruction: guest registers in, the instruction, guest registers out. */
void emit_copy(struct block_builder *b)
{
    const struct decoded *d = &b->p->d;
    bool mem = d->in.flags & INSN_MEM;
    struct encoding e = {.index = REG_NONE};
    uint32_t free_regs = 1u << RCX | 1u << R14 | 1u << R15;
    unsigned needed = count_scratch(d);

    /* with a memory operand two are left at least, or one legacy register less */
    if (needed > (mem ? 2u : 3u) || (mem && is_high(d) && (d->gpr_used & 1u << RCX))) {
        if (mem)
            place_operand(b, &e, 0); /* others may rely on the checks that are made here */
        emit_interpreted(b);
        return;
    }
    if (mem) {
        free_regs = place_operand(b, &e, needed);
        if (!free_regs) {
            emit_interpreted(b);
            return;
        }
    }
    if (!place_registers(d, &e, free_regs)) {
        emit_interpreted(b);
        return;
    }
    load_registers(b, &e);
    if (may_fault_natively(d))
        emit_fault_site(b);
    b->a.p += encode_insn(b->a.p, d, &e);
    store_registers(b, &e);
}

/* --- moves that are not copies --- */

/* LEA only computes. */
static void emit_lea(struct block_builder *b)
{
    const struct insn *in = &b->p->d.in;
    unsigned to = host_register(in->reg), base, index;

    if (to != REG_NONE && in->asize == 8 && in->osize >= 4 && in->base != REG_IP &&
        in->disp == (int32_t)in->disp) {
        base = emit_use_register(b, in->base, R14);
        index = emit_use_register(b, in->index, R15);
        asm_lea(&b->a, in->osize == 8, to, base, index, in->scale, (int32_t)in->disp);
        return;
    }
    if (in->osize == 2 || in->seg >= FS || !emit_address(b)) { /* the segment doesn't count */
        emit_interpreted(b);
        return;
    }
    if (in->osize == 4)
        asm_lea(&b->a, false, R14, R14, REG_NONE, 0, 0);
    emit_write_register(b, in->reg, R14);
}

static void emit_move(struct block_builder *b)
{
    switch (b->p->d.zi.mnemonic) {
    case ZYDIS_MNEMONIC_LEA: emit_lea(b); break;
    case ZYDIS_MNEMONIC_PUSH: emit_push(b); break;
    case ZYDIS_MNEMONIC_POP: emit_pop(b); break;
    default: emit_copy(b);
    }
}

/* --- one instruction --- */

static void emit_native(struct block_builder *b)
{
    int32_t by;

    if (cpu_is_64bit(b->cpu) && plan_moves_stack(b->cpu, &b->p->d, &by))
        emit_move_stack(b, by);
    else if (b->p->d.row->class == CLASS_BRANCH)
        emit_branch(b);
    else if (b->p->d.row->class == CLASS_MOV)
        emit_move(b);
    else
        emit_copy(b);
}

static void emit_insn(struct block_builder *b, unsigned at)
{
    b->at = at;
    b->p = &b->plan->insns[at];
    b->record = NULL;
    b->first_cold = b->cold_count;
    if (b->p->native)
        emit_native(b);
    else if (!emit_system(b))
        emit_interpreted(b);
    set_resume(b);
    b->ended = b->p->ends;
}

/* Counts the block's instructions before the first of them, if that many may be executed. */
static void emit_count(struct block_builder *b)
{
    if (!b->counting)
        return;
    asm_load(&b->a, RCX, NATIVE(budget));
    asm_lea(&b->a, true, R14, RCX, REG_NONE, 0, -(int32_t)b->plan->count);
    asm_pext(&b->a, false, RCX, R14, NATIVE(sign_mask));
    emit_add_cold(b, (struct cold){.kind = COLD_BUDGET, .from = asm_unless_rcx_zero(&b->a)});
    asm_store(&b->a, R14, NATIVE(budget));
}

/* The block ends without a branch: on to what is behind it. */
static void emit_fall_through(struct block_builder *b)
{
    emit_exit_to(b, asm_jump(&b->a), behind(b));
}

static void emit_insns(struct block_builder *b)
{
    emit_count(b);
    for (unsigned i = 0; i < b->plan->count && !b->failed; i++) {
        b->plan->insns[i].host = (uint32_t)(b->a.p - b->t->next);
        emit_insn(b, i);
    }
    if (!b->ended && !b->failed)
        emit_fall_through(b);
    b->plan->host_cold = (uint32_t)(b->a.p - b->t->next);
    emit_cold(b);
    b->cpu->stats.translate.insns += b->plan->count;
}

/* Tests: the monitor does not go on with code that does what it may not. */
static void verify(struct block_builder *b)
{
    struct verifier *v = b->t->verifier;

    if (!v || verifier_accepts(v, b->cpu, b->a.p))
        return;
    fprintf(stderr, "doble: the translation of the code at %#llx cannot be proved: %s\n",
            (unsigned long long)b->cpu->rip, verifier_complaint(v));
    abort();
}

struct tblock *translate_block(struct cpu *cpu, const uint8_t *code, unsigned avail, uint32_t extra)
{
    struct translator *t = translator_of(cpu);
    struct block_builder b;
    uint64_t start = timeline_start();
    struct tblock *block;

    plan_make(t->plan, cpu, code, avail, extra & MODE_CAREFUL);
    if (t->plan->count == 0)
        return NULL;
    block = translate_begin_block(t);
    if (!block)
        return NULL;
    b.a = (struct assembler){t->next, t->executable - t->writable};
    b.cpu = cpu;
    b.t = t;
    b.plan = t->plan;
    b.code = code;
    b.page_offset = (unsigned)((uintptr_t)code & ~(uintptr_t)PAGE_MASK);
    b.counting = extra & MODE_COUNTING;
    b.ended = b.failed = false;
    b.cold_count = 0;
    emit_insns(&b);
    if (b.failed) {
        translate_drop_block(t, block);
        return NULL;
    }
    verify(&b);
    block->code = code;
    block->mode = cpu->mode | extra;
    block->len = (uint16_t)t->plan->len;
    block->count = (uint8_t)t->plan->count;
    translate_end_block(cpu, block, b.a.p);
    report_block(cpu, block, t->plan, (size_t)(b.a.p - t->next));
    timeline_slice(TIMELINE_DECODE, "translate", start, cpu->rip, 0, 0);
    return block;
}
