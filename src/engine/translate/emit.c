/* Translation of one block.
 *
 * Each instruction becomes the same instruction with its registers renamed; around it come loads of
 * the guest registers that live in memory, the TLB check of its memory operand, and stores. What is
 * rare is behind the block ("cold"): the call of the interpreter after a failed check, and exits.
 */
#include "engine/translate/translator.h"

#include "base/timeline.h"
#include "engine/encode.h"
#include "engine/interpret/exec.h"

#define NATIVE(field) (offsetof(struct cpu, native) + offsetof(struct cpu_native, field))

/* What happens behind the block. */
enum cold_kind { COLD_INTERPRET, COLD_STACK, COLD_LINK, COLD_LINK_POLL, COLD_LOOKUP };

struct cold {
    enum cold_kind kind;
    uint8_t *site;   /* rel32 that leads here */
    uint8_t *resume; /* COLD_INTERPRET: where to go on */
    struct tinsn *in;
    int64_t target; /* exits: offset from the start of the page */
    uint8_t size;   /* COLD_STACK: of the access */
    bool write;
    uint8_t *checked; /* COLD_STACK: where to go on with the addend in R15 */
};

struct block_builder {
    struct assembler a;
    struct cpu *cpu;
    struct translator *t;
    const uint8_t *code; /* host address of the guest's bytes */
    struct decoded d;
    unsigned page_offset; /* of the block's first byte */
    unsigned len;         /* bytes of guest code so far */
    unsigned count;
    struct cold cold[4 * TBLOCK_MAX_INSNS];
    unsigned cold_count;
    bool ended, failed;
};

/* --- cold parts --- */

static void add_cold(struct block_builder *b, struct cold cold)
{
    b->cold[b->cold_count++] = cold;
}

/* Ends the block: on to an offset from the start of this page, at `site` (rel32). */
static void add_exit(struct block_builder *b, uint8_t *site, int64_t target, bool poll)
{
    bool inside = target >= 0 && target < (int64_t)PAGE_SIZE;

    add_cold(b, (struct cold){
                    .kind = !inside ? COLD_LOOKUP
                            : poll  ? COLD_LINK_POLL
                                    : COLD_LINK,
                    .site = site,
                    .target = target,
                });
}

/* The instruction's record, for the interpreter; NULL: no room. */
static struct tinsn *keep_insn(struct block_builder *b)
{
    struct tinsn *in =
        translate_new_insn(b->t, b->code + b->len, b->d.in.len, b->page_offset + b->len);

    b->failed |= !in;
    return in;
}

static void emit_interpret_call(struct block_builder *b, const struct tinsn *in)
{
    asm_const(&b->a, RCX, (uint64_t)((const uint8_t *)in - b->t->meta));
    asm_call_to(&b->a, b->t->stub_interpret);
}

/* Link: `to` is not known yet. The jump at `site` goes to a stub that leaves with the link. */
static void emit_link(struct block_builder *b, uint8_t *site, int64_t target)
{
    struct tlink *link = translate_new_link(b->t);

    if (!link) {
        b->failed = true;
        return;
    }
    link->site = site;
    link->stub = b->a.p;
    link->target = b->code - b->page_offset + target;
    link->mode = b->cpu->mode;
    asm_patch(site, b->a.p);
    asm_const(&b->a, RCX, (uint64_t)(uintptr_t)link);
    asm_jump_to(&b->a, b->t->stub_link);
}

/* A backward jump looks whether something waits. */
static void emit_link_poll(struct block_builder *b, const struct cold *cold)
{
    uint8_t *waiting, *on;

    asm_patch(cold->site, b->a.p);
    asm_load32(&b->a, RCX, offsetof(struct cpu, attention));
    waiting = asm_unless_rcx_zero(&b->a);
    on = asm_jump(&b->a);
    asm_patch(waiting, b->a.p); /* the stub that comes now leaves */
    emit_link(b, on, cold->target);
}

static void emit_lookup_exit(struct block_builder *b, const struct cold *cold)
{
    asm_patch(cold->site, b->a.p);
    asm_load(&b->a, R14, NATIVE(page_base));
    /* A displacement of 2 GiB and the place in the page need more than 32 bits. */
    asm_const(&b->a, R15, (uint64_t)cold->target);
    asm_lea(&b->a, cpu_is_64bit(b->cpu), R14, R14, R15, 0, 0);
    translate_emit_lookup(b->t, &b->a);
}

/* The one place where accesses are checked: R14 = linear address. Afterwards R15 is what makes it a
 * host address; RCX is scratch. Returns the rel32 of the jump for a miss. */
static uint8_t *emit_tlb_check(struct assembler *a, unsigned size, bool write)
{
    unsigned tag =
        write ? offsetof(struct tlb_entry, write_tag) : offsetof(struct tlb_entry, read_tag);
    uint8_t *miss;

    asm_pext(a, false, R15, R14, NATIVE(index_mask));
    asm_load(a, RCX, NATIVE(table));
    asm_lea(a, true, R15, REG_NONE, R15, 2, 0); /* entries are 32 bytes */
    asm_lea(a, true, R15, RCX, R15, 3, 0);
    asm_load_at(a, RCX, R15, tag);
    asm_lea(a, true, RCX, RCX, R14, 0, (int32_t)size - 1);
    asm_pext(a, false, RCX, RCX, NATIVE(page_mask));
    miss = asm_unless_rcx_zero(a);
    asm_load_at(a, R15, R15, offsetof(struct tlb_entry, addend));
    return miss;
}

static void emit_cold_stack(struct block_builder *b, const struct cold *cold)
{
    uint8_t *miss;

    asm_patch(cold->site, b->a.p);
    asm_call_to(&b->a, b->t->stub_stack);
    miss = emit_tlb_check(&b->a, cold->size, cold->write);
    asm_jump_to(&b->a, cold->checked);
    asm_patch(miss, b->a.p);
    emit_interpret_call(b, cold->in);
    asm_jump_to(&b->a, cold->resume);
}

static void emit_cold(struct block_builder *b)
{
    for (unsigned i = 0; i < b->cold_count && !b->failed; i++) {
        const struct cold *cold = &b->cold[i];

        switch (cold->kind) {
        case COLD_INTERPRET:
            asm_patch(cold->site, b->a.p);
            emit_interpret_call(b, cold->in);
            asm_jump_to(&b->a, cold->resume);
            break;
        case COLD_STACK: emit_cold_stack(b, cold); break;
        case COLD_LINK: emit_link(b, cold->site, cold->target); break;
        case COLD_LINK_POLL: emit_link_poll(b, cold); break;
        case COLD_LOOKUP: emit_lookup_exit(b, cold); break;
        }
    }
}

/* --- addresses and checks --- */

/* The host register with a guest register's value; one in memory is loaded into `scratch`. */
static unsigned use_register(struct block_builder *b, unsigned guest, unsigned scratch)
{
    if (guest == REG_NONE)
        return REG_NONE;
    if (host_register(guest) != REG_NONE)
        return host_register(guest);
    asm_load(&b->a, scratch, gpr_at(guest));
    return scratch;
}

static bool fits32(int64_t v)
{
    return v == (int32_t)v;
}

/* R14 = linear address of the memory operand; uses R15 and RCX. False: cannot be done here. */
static bool emit_address(struct block_builder *b)
{
    const struct insn *in = &b->d.in;
    bool wide = in->asize == 8;
    int64_t disp = in->disp;
    unsigned base, index;

    if (in->base == REG_IP) {
        disp += b->page_offset + b->len + in->len;
        asm_load(&b->a, R14, NATIVE(page_base));
        base = R14;
    } else {
        base = use_register(b, in->base, R14);
    }
    if (!fits32(disp)) {
        if (base != REG_NONE || in->index != REG_NONE)
            return false;
        asm_const(&b->a, R14, (uint64_t)disp);
    } else {
        index = use_register(b, in->index, R15);
        asm_lea(&b->a, wide, R14, base, index, in->scale, (int32_t)disp);
    }
    if (in->seg >= FS) {
        asm_load(&b->a, RCX,
                 offsetof(struct cpu, seg) + in->seg * sizeof(struct segment) +
                     offsetof(struct segment, base));
        asm_lea(&b->a, true, R14, R14, RCX, 0, 0);
    }
    return true;
}

static void note_fault_site(struct block_builder *b, const struct tinsn *in, const uint8_t *at)
{
    translate_add_fault_site(b->t, in, at);
}

/* Misses are interpreted, and go on at the place set by set_resume(). */
static void emit_check(struct block_builder *b, unsigned size, bool write, struct tinsn *in)
{
    uint8_t *miss = emit_tlb_check(&b->a, size, write);

    add_cold(b, (struct cold){.kind = COLD_INTERPRET, .site = miss, .in = in});
}

/* The same for an access at RSP + disp: R14 = its address. The page of the stack is kept, so that
 * neither its index nor its entry has to be looked up; an access that is not aligned, or elsewhere,
 * is checked like any other, behind the block. Where no page is kept, the access may raise a native
 * fault (see tlb_forget_stack()), and has to be a fault site. */
static void emit_stack_check(struct block_builder *b, unsigned size, bool write, struct tinsn *in)
{
    struct assembler *a = &b->a;
    uint8_t *elsewhere;

    asm_load(a, RCX, NATIVE(stack_tag));
    asm_lea(a, true, RCX, RCX, R14, 0, 0);
    asm_pext(a, false, RCX, RCX, NATIVE(aligned_mask) + 8 * (size_t)__builtin_ctz(size));
    elsewhere = asm_unless_rcx_zero(a);
    asm_load(a, R15, NATIVE(stack_addend));
    add_cold(b, (struct cold){.kind = COLD_STACK,
                              .site = elsewhere,
                              .in = in,
                              .size = (uint8_t)size,
                              .write = write,
                              .checked = a->p});
}

static bool on_stack(const struct block_builder *b, const struct insn *in)
{
    return in->base == RSP && in->index == REG_NONE && in->seg < FS && in->asize == 8 &&
           in->mem_size <= 32 && (in->mem_size & (in->mem_size - 1)) == 0 && cpu_is_64bit(b->cpu);
}

/* The end of the instruction: interpreted ones go on here. */
static void set_resume(struct block_builder *b, struct tinsn *in)
{
    in->resume = (uint32_t)(b->a.p - b->t->writable);
    for (unsigned i = b->cold_count; i > 0 && b->cold[i - 1].in == in; i--)
        b->cold[i - 1].resume = b->a.p;
}

/* --- whole instructions --- */

static void emit_interpreted(struct block_builder *b)
{
    struct tinsn *in = keep_insn(b);

    if (!in)
        return;
    emit_interpret_call(b, in);
}

static bool may_fault_natively(const struct decoded *d)
{
    switch (d->zi.mnemonic) {
    case ZYDIS_MNEMONIC_DIV:
    case ZYDIS_MNEMONIC_IDIV: return true;
    default: return d->uses_mxcsr || (d->vec_used && (d->in.flags & INSN_MEM));
    }
}

/* Finds host registers for the guest registers of an instruction. `free_regs`: scratch registers in
 * order of use. False: not enough, or AH..DH beside a register that needs REX. */
static bool place_registers(const struct decoded *d, struct encoding *e, uint32_t free_regs)
{
    bool high = d->in.flags & (INSN_HIGH_REG | INSN_HIGH_RM);
    static const uint8_t order[] = {RCX, R15, R14};

    if (d->gpr_used & 1u << RCX) { /* CL and other implicit uses need the register itself */
        if (!(free_regs & 1u << RCX))
            return false;
        e->gpr[RCX] = RCX;
        free_regs &= ~(1u << RCX);
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
        if (e->gpr[g] == REG_NONE || (high && e->gpr[g] > 7))
            return false;
    }
    return true;
}

static void move_spilled(struct block_builder *b, const struct encoding *e, uint16_t mask,
                         bool store)
{
    for (unsigned g = 0; g < 16; g++)
        if ((mask & 1u << g) && host_register(g) == REG_NONE)
            asm_gs(&b->a, true, store ? 0x89 : 0x8b, e->gpr[g], gpr_at(g));
}

static uint16_t spilled_registers(void)
{
    uint16_t mask = 0;

    for (unsigned g = 0; g < 16; g++)
        if (host_register(g) == REG_NONE)
            mask |= (uint16_t)(1u << g);
    return mask;
}

/* A copied instruction: spilled registers in, the instruction, spilled registers out. */
static void emit_copy(struct block_builder *b)
{
    const struct decoded *d = &b->d;
    bool mem = d->in.flags & INSN_MEM, high = d->in.flags & (INSN_HIGH_REG | INSN_HIGH_RM);
    bool faults = may_fault_natively(d);
    struct encoding e = {.mem = R14, .index = mem ? R15 : REG_NONE};
    uint32_t free_regs = 1u << RCX | (mem ? 0 : 1u << R14 | 1u << R15);
    uint16_t spilled = d->gpr_used & spilled_registers();
    struct tinsn *in = NULL;

    if (mem && (high || __builtin_popcount(spilled) > 1)) {
        e.index = REG_NONE; /* the address in one register */
        e.mem = high ? RCX : R14;
        free_regs = high ? 1u << R15 : 1u << RCX | 1u << R15;
    }
    if (!place_registers(d, &e, free_regs) ||
        (mem && (d->in.mem_size == 0 || d->in.mem_size > 64))) {
        emit_interpreted(b);
        return;
    }
    if (mem || faults) {
        in = keep_insn(b);
        if (!in)
            return;
    }
    if (mem) {
        if (!emit_address(b)) {
            emit_interpret_call(b, in);
            return;
        }
        if (on_stack(b, &d->in)) {
            emit_stack_check(b, d->in.mem_size, d->writes_mem, in);
            faults = true;
        } else {
            emit_check(b, d->in.mem_size, d->writes_mem, in);
        }
        if (e.index == REG_NONE)
            asm_lea(&b->a, true, e.mem, R14, R15, 0, 0);
    }
    move_spilled(b, &e, d->gpr_used, false);
    if (faults)
        note_fault_site(b, in, b->a.p);
    b->a.p += encode_insn(b->a.p, d, &e);
    move_spilled(b, &e, d->gpr_written, true);
    if (in)
        set_resume(b, in);
}

/* LEA only computes: R14 holds the address, which is then moved. */
static void emit_lea(struct block_builder *b)
{
    struct insn *in = &b->d.in;
    unsigned to = host_register(in->reg);

    in->seg = DS;
    if (in->osize == 2 || !emit_address(b)) {
        emit_interpreted(b);
        return;
    }
    if (in->osize == 4)
        asm_lea(&b->a, false, R14, R14, REG_NONE, 0, 0);
    if (to == REG_NONE)
        asm_store(&b->a, R14, gpr_at(in->reg));
    else
        asm_move(&b->a, to, R14);
}

/* MOV [R14 + R15], reg (64 bits) */
static void store_operand(struct block_builder *b, unsigned reg, struct tinsn *in)
{
    note_fault_site(b, in, b->a.p);
    asm_byte(&b->a, 0x4b | (reg >> 3) << 2);
    asm_byte(&b->a, 0x89);
    asm_byte(&b->a, (reg & 7) << 3 | 4);
    asm_byte(&b->a, 7 << 3 | 6);
}

static void load_operand(struct block_builder *b, unsigned reg, struct tinsn *in)
{
    note_fault_site(b, in, b->a.p);
    asm_byte(&b->a, 0x4b | (reg >> 3) << 2);
    asm_byte(&b->a, 0x8b);
    asm_byte(&b->a, (reg & 7) << 3 | 4);
    asm_byte(&b->a, 7 << 3 | 6);
}

static void emit_push(struct block_builder *b)
{
    struct tinsn *in = keep_insn(b);
    unsigned reg;

    if (!in)
        return;
    asm_lea(&b->a, true, R14, R13, REG_NONE, 0, -8);
    emit_stack_check(b, 8, true, in);
    reg = use_register(b, b->d.in.reg, RCX);
    store_operand(b, reg, in);
    asm_move(&b->a, R13, R14);
    set_resume(b, in);
}

static void emit_pop(struct block_builder *b)
{
    struct tinsn *in = keep_insn(b);
    unsigned to = host_register(b->d.in.reg);

    if (!in)
        return;
    asm_move(&b->a, R14, R13);
    emit_stack_check(b, 8, false, in);
    load_operand(b, RCX, in);
    asm_lea(&b->a, true, R13, R13, REG_NONE, 0, 8);
    if (to == REG_NONE)
        asm_store(&b->a, RCX, gpr_at(b->d.in.reg));
    else
        asm_move(&b->a, to, RCX);
    set_resume(b, in);
}

/* PUSH of an immediate or a memory operand, which waits in GS:target meanwhile. */
static void emit_push_other(struct block_builder *b)
{
    struct tinsn *in = keep_insn(b);
    bool mem = b->d.in.flags & INSN_MEM;

    if (!in)
        return;
    if (mem) {
        if (!emit_address(b)) {
            emit_interpret_call(b, in);
            return;
        }
        emit_check(b, 8, false, in);
        load_operand(b, RCX, in);
        asm_store(&b->a, RCX, NATIVE(target));
    }
    asm_lea(&b->a, true, R14, R13, REG_NONE, 0, -8);
    emit_stack_check(b, 8, true, in);
    if (mem)
        asm_load(&b->a, RCX, NATIVE(target));
    else
        asm_const(&b->a, RCX, (uint64_t)b->d.in.imm);
    store_operand(b, RCX, in);
    asm_move(&b->a, R13, R14);
    set_resume(b, in);
}

static void emit_leave(struct block_builder *b)
{
    struct tinsn *in = keep_insn(b);

    if (!in)
        return;
    asm_move(&b->a, R14, RBP);
    emit_stack_check(b, 8, false, in);
    load_operand(b, RCX, in);
    asm_lea(&b->a, true, R13, R14, REG_NONE, 0, 8);
    asm_move(&b->a, RBP, RCX);
    set_resume(b, in);
}

static bool is_plain_register(const struct decoded *d)
{
    return d->ops[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
           d->ops[0].encoding == ZYDIS_OPERAND_ENCODING_OPCODE && encode_guest_gpr(&d->ops[0]) >= 0;
}

static void emit_move(struct block_builder *b)
{
    const struct decoded *d = &b->d;

    switch (d->zi.mnemonic) {
    case ZYDIS_MNEMONIC_LEA: emit_lea(b); return;
    case ZYDIS_MNEMONIC_PUSH:
    case ZYDIS_MNEMONIC_POP:
        if (cpu_is_64bit(b->cpu) && d->in.osize == 8 && d->zi.mnemonic == ZYDIS_MNEMONIC_PUSH &&
            (d->ops[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE || (d->in.flags & INSN_MEM)))
            emit_push_other(b);
        else if (!cpu_is_64bit(b->cpu) || d->in.osize != 8 || !is_plain_register(d) ||
                 d->in.reg == RSP)
            emit_interpreted(b);
        else if (d->zi.mnemonic == ZYDIS_MNEMONIC_PUSH)
            emit_push(b);
        else
            emit_pop(b);
        return;
    default: emit_copy(b);
    }
}

/* --- branches --- */

/* Offset from the start of the page of the instruction behind the present one. */
static int64_t next_offset(const struct block_builder *b)
{
    return (int64_t)b->page_offset + b->len + b->d.in.len;
}

static void emit_jump(struct block_builder *b, int64_t target)
{
    add_exit(b, asm_jump(&b->a), target, target <= b->page_offset + (int64_t)b->len);
}

static void emit_condition(struct block_builder *b)
{
    int64_t target = next_offset(b) + b->d.in.imm;

    asm_byte(&b->a, 0x0f);
    asm_byte(&b->a, 0x80 | (b->d.zi.opcode & 15));
    b->a.p += 4;
    add_exit(b, b->a.p - 4, target, target <= b->page_offset + (int64_t)b->len);
    emit_jump(b, next_offset(b));
}

/* Pushes the return address; R14, R15 and RCX are scratch. */
static void emit_push_return(struct block_builder *b, struct tinsn *in)
{
    asm_lea(&b->a, true, R14, R13, REG_NONE, 0, -8);
    emit_stack_check(b, 8, true, in);
    asm_load(&b->a, RCX, NATIVE(page_base));
    asm_lea(&b->a, true, RCX, RCX, REG_NONE, 0, (int32_t)next_offset(b));
    store_operand(b, RCX, in);
    asm_move(&b->a, R13, R14);
}

static void emit_call(struct block_builder *b)
{
    struct tinsn *in = keep_insn(b);
    int64_t target = next_offset(b) + b->d.in.imm;

    if (!in)
        return;
    /* keep_insn() has made `imm` relative to the block in its copy only */
    emit_push_return(b, in);
    set_resume(b, in);
    emit_jump(b, target);
}

/* The target of an indirect branch into R14. False: it is interpreted. */
static bool emit_target(struct block_builder *b, struct tinsn *in)
{
    const struct decoded *d = &b->d;
    unsigned reg;

    if (d->in.flags & INSN_MEM) {
        if (!emit_address(b))
            return false;
        emit_check(b, 8, false, in);
        load_operand(b, R14, in);
        return true;
    }
    reg = use_register(b, d->in.rm, R14);
    if (reg != R14)
        asm_move(&b->a, R14, reg);
    return true;
}

/* R14 = where an indirect branch leads; R15 = its slot of the jump cache. If something waits, or
 * the cache doesn't know the target, the interpreter does the branch, of which nothing has happened
 * yet: a target that is no canonical address makes the branch itself raise #GP. */
static void emit_find_target(struct block_builder *b, struct tinsn *in)
{
    uint8_t *waiting, *unknown;

    asm_load32(&b->a, RCX, offsetof(struct cpu, attention));
    waiting = asm_unless_rcx_zero(&b->a);
    add_cold(b, (struct cold){.kind = COLD_INTERPRET, .site = waiting, .in = in});
    unknown = translate_emit_find(&b->a);
    add_cold(b, (struct cold){.kind = COLD_INTERPRET, .site = unknown, .in = in});
}

static void emit_indirect(struct block_builder *b)
{
    struct tinsn *in = keep_insn(b);

    if (!in)
        return;
    if (!emit_target(b, in)) {
        emit_interpret_call(b, in);
        return;
    }
    emit_find_target(b, in);
    if (b->d.zi.mnemonic == ZYDIS_MNEMONIC_CALL) {
        asm_store(&b->a, R14, NATIVE(target));
        emit_push_return(b, in);
        asm_load(&b->a, R14, NATIVE(target));
        asm_patch(translate_emit_find(&b->a), b->t->stub_exit); /* it is there still */
    }
    set_resume(b, in);
    translate_emit_follow(&b->a);
}

static void emit_return(struct block_builder *b)
{
    struct tinsn *in = keep_insn(b);

    if (!in)
        return;
    asm_move(&b->a, R14, R13);
    emit_stack_check(b, 8, false, in);
    load_operand(b, R14, in);
    emit_find_target(b, in);
    asm_lea(&b->a, true, R13, R13, REG_NONE, 0, 8 + (uint16_t)b->d.in.imm);
    set_resume(b, in);
    translate_emit_follow(&b->a);
}

static bool is_condition(const struct decoded *d)
{
    return d->zi.meta.category == ZYDIS_CATEGORY_COND_BR && d->zi.mnemonic != ZYDIS_MNEMONIC_JCXZ &&
           d->zi.mnemonic != ZYDIS_MNEMONIC_JECXZ && d->zi.mnemonic != ZYDIS_MNEMONIC_JRCXZ &&
           d->zi.mnemonic != ZYDIS_MNEMONIC_LOOP && d->zi.mnemonic != ZYDIS_MNEMONIC_LOOPE &&
           d->zi.mnemonic != ZYDIS_MNEMONIC_LOOPNE;
}

static void emit_branch(struct block_builder *b)
{
    const struct decoded *d = &b->d;
    bool near64 = cpu_is_64bit(b->cpu) && d->in.osize == 8;
    bool near32 = !cpu_is_64bit(b->cpu) && d->in.osize == 4;
    bool far = d->zi.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR;

    b->ended = true;
    if (is_condition(d) && (near64 || near32))
        emit_condition(b);
    else if (d->zi.mnemonic == ZYDIS_MNEMONIC_JMP && d->zi.raw.imm[0].is_relative &&
             (near64 || near32))
        emit_jump(b, next_offset(b) + d->in.imm);
    else if (far || !near64)
        emit_interpreted(b);
    else if (d->zi.mnemonic == ZYDIS_MNEMONIC_CALL && d->zi.raw.imm[0].is_relative)
        emit_call(b);
    else if (d->zi.mnemonic == ZYDIS_MNEMONIC_CALL || d->zi.mnemonic == ZYDIS_MNEMONIC_JMP)
        emit_indirect(b);
    else if (d->zi.mnemonic == ZYDIS_MNEMONIC_RET)
        emit_return(b);
    else
        emit_interpreted(b);
}

/* --- system instructions that kernels use all the time --- */

/* RFLAGS.IF to 0, and then perhaps to 1; RCX is scratch. */
static void emit_set_if(struct block_builder *b, bool on)
{
    asm_load(&b->a, RCX, offsetof(struct cpu, rflags));
    asm_pext(&b->a, false, RCX, RCX, NATIVE(if_mask));
    asm_pext(&b->a, true, RCX, RCX, NATIVE(if_mask));
    if (on)
        asm_lea(&b->a, true, RCX, RCX, REG_NONE, 0, FLAG_IF);
    asm_store(&b->a, RCX, offsetof(struct cpu, rflags));
}

/* With nothing waiting, the shadow of STI need not be noted: what comes up later is seen after the
 * next instruction at the earliest. */
static void emit_sti(struct block_builder *b)
{
    struct tinsn *in = keep_insn(b);
    uint8_t *waiting;

    if (!in)
        return;
    asm_load32(&b->a, RCX, offsetof(struct cpu, attention));
    waiting = asm_unless_rcx_zero(&b->a);
    add_cold(b, (struct cold){.kind = COLD_INTERPRET, .site = waiting, .in = in});
    emit_set_if(b, true);
    set_resume(b, in);
}

static void emit_swapgs(struct block_builder *b)
{
    size_t base =
        offsetof(struct cpu, seg) + GS * sizeof(struct segment) + offsetof(struct segment, base);

    asm_load(&b->a, RCX, base);
    asm_load(&b->a, R14, offsetof(struct cpu, kernel_gs_base));
    asm_store(&b->a, RCX, offsetof(struct cpu, kernel_gs_base));
    asm_store(&b->a, R14, base);
}

static void emit_rdtsc(struct block_builder *b)
{
    struct assembler *a = &b->a;

    asm_bytes(a, "\x0f\x31", 2); /* rdtsc */
    asm_const(a, RCX, 32);
    asm_bytes(a, "\xc4\xe2\xf1\xf7\xd2", 5); /* shlx rdx, rdx, rcx */
    asm_load(a, RCX, NATIVE(tsc_offset));
    asm_lea(a, true, RAX, RAX, RDX, 0, 0);
    asm_lea(a, true, RAX, RAX, RCX, 0, 0);
    asm_bytes(a, "\xc4\xe3\xfb\xf0\xd0\x20", 6); /* rorx rdx, rax, 32 */
    asm_bytes(a, "\x89\xd2\x89\xc0", 4);         /* mov edx, edx; mov eax, eax */
}

/* Hints, which touch nothing. */
static bool is_prefetch(const struct decoded *d)
{
    return d->zi.meta.category == ZYDIS_CATEGORY_PREFETCH;
}

/* False: not one of them, or not allowed in this mode without more ado. */
static bool emit_system(struct block_builder *b)
{
    const struct decoded *d = &b->d;
    bool kernel = b->cpu->mode & MODE_CPL0;

    if (d->zi.mnemonic == ZYDIS_MNEMONIC_CLI && kernel)
        emit_set_if(b, false);
    else if (d->zi.mnemonic == ZYDIS_MNEMONIC_STI && kernel)
        emit_sti(b);
    else if (d->zi.mnemonic == ZYDIS_MNEMONIC_SWAPGS && kernel && cpu_is_64bit(b->cpu))
        emit_swapgs(b);
    else if (d->zi.mnemonic == ZYDIS_MNEMONIC_RDTSC && (b->cpu->mode & MODE_TSC))
        emit_rdtsc(b);
    else if (d->zi.mnemonic == ZYDIS_MNEMONIC_LEAVE && cpu_is_64bit(b->cpu) && d->in.osize == 8)
        emit_leave(b);
    else
        return d->zi.mnemonic == ZYDIS_MNEMONIC_NOP || is_prefetch(d);
    return true;
}

/* --- one instruction --- */

/* Copies whose native form needs more than registers and memory. */
static bool needs_interpreter(const struct block_builder *b)
{
    const struct decoded *d = &b->d;

    if (d->unit == UNIT_X87 || d->unit == UNIT_MMX || (d->row->flags & ROW_X87_CONTROL))
        return true;
    for (unsigned i = 0; i < d->zi.operand_count; i++)
        if (d->ops[i].type == ZYDIS_OPERAND_TYPE_REGISTER)
            switch (ZydisRegisterGetClass(d->ops[i].reg.value)) {
            case ZYDIS_REGCLASS_MMX:
            case ZYDIS_REGCLASS_SEGMENT:
            case ZYDIS_REGCLASS_CONTROL:
            case ZYDIS_REGCLASS_DEBUG:
                if (d->ops[i].visibility != ZYDIS_OPERAND_VISIBILITY_HIDDEN)
                    return true;
                break;
            default: break;
            }
    return (d->in.flags & INSN_MEM) && exec_addressing(b->cpu, &d->in) == ADDR_ANY &&
           !(cpu_is_64bit(b->cpu) && d->in.asize >= 4);
}

static void emit_insn(struct block_builder *b)
{
    const struct decoded *d = &b->d;

    if (d->row->class == CLASS_ILLEGAL || exec_unit_fault(b->cpu, d->unit)) {
        emit_interpreted(b);
        b->ended = true;
        return;
    }
    switch (d->row->class) {
    case CLASS_COPY:
        if (needs_interpreter(b))
            emit_interpreted(b);
        else
            emit_copy(b);
        break;
    case CLASS_MOV:
        if (needs_interpreter(b)) {
            emit_interpreted(b);
            b->ended = exec_select_move(b->cpu, &b->d) == exec_helper_end;
        } else {
            emit_move(b);
        }
        break;
    case CLASS_BRANCH: emit_branch(b); break;
    default:
        if (emit_system(b))
            break;
        emit_interpreted(b);
        b->ended = d->row->flags & ROW_ENDS_BLOCK;
    }
}

static void emit_insns(struct block_builder *b, const uint8_t *code, unsigned avail)
{
    while (!b->ended && !b->failed && b->count < TBLOCK_MAX_INSNS && b->len < avail) {
        unsigned left = avail - b->len;

        if (insn_decode(b->cpu, code + b->len, left > INSN_MAX_LEN ? INSN_MAX_LEN : left, &b->d) !=
            DECODE_OK)
            break;
        emit_insn(b);
        b->len += b->d.in.len;
        b->count++;
        b->cpu->stats.translate.insns++;
    }
    if (!b->ended && !b->failed && b->count > 0) {
        b->d.in.len = 0;
        emit_jump(b, next_offset(b));
    }
}

struct tblock *translate_block(struct cpu *cpu, const uint8_t *code, unsigned avail)
{
    struct translator *t = translator_of(cpu);
    struct block_builder b; /* most of it stays unused, and is not cleared */
    uint64_t start = timeline_start();
    struct tblock *block;

    block = translate_begin_block(t);
    if (!block)
        return NULL;
    b.cpu = cpu;
    b.t = t;
    b.code = code;
    b.a = (struct assembler){t->next, t->executable - t->writable};
    b.page_offset = (unsigned)((uintptr_t)code & ~(uintptr_t)PAGE_MASK);
    b.len = b.count = b.cold_count = 0;
    b.ended = b.failed = false;
    emit_insns(&b, code, avail);
    emit_cold(&b);
    if (b.count == 0 || b.failed) {
        translate_drop_block(t, block);
        return NULL;
    }
    block->code = code;
    block->mode = cpu->mode;
    block->len = (uint16_t)b.len;
    translate_end_block(cpu, block, b.a.p);
    timeline_slice(TIMELINE_DECODE, "translate", start, cpu->rip, 0, 0);
    return block;
}
