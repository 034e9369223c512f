/* Addresses, and the checks of memory operands. */
#include "engine/translate/builder.h"

static void load_rsp(struct block_builder *b, unsigned to)
{
    asm_load(&b->a, to, NATIVE(negated_addend));
    asm_lea(&b->a, true, to, RSP, to, 0, 0);
}

unsigned emit_use_register(struct block_builder *b, unsigned guest, unsigned scratch)
{
    if (guest == REG_NONE)
        return REG_NONE;
    if (host_register(guest) != REG_NONE)
        return host_register(guest);
    if (guest == RSP)
        load_rsp(b, scratch);
    else
        asm_load(&b->a, scratch, gpr_at(guest));
    return scratch;
}

void emit_write_register(struct block_builder *b, unsigned guest, unsigned from)
{
    if (guest == RSP)
        emit_set_rsp(b, from, from == RCX ? R14 : RCX);
    else if (host_register(guest) == REG_NONE)
        asm_store(&b->a, from, gpr_at(guest));
    else
        asm_move(&b->a, host_register(guest), from);
}

static bool fits32(int64_t v)
{
    return v == (int32_t)v;
}

/* In 32-bit code: is FS or GS a plain writable segment of 4 GiB, whatever its base? Otherwise the
 * interpreter checks the access. */
static void emit_segment_check(struct block_builder *b, unsigned seg)
{
    struct assembler *a = &b->a;
    uint8_t *other;

    asm_load(a, RCX,
             segment_base(seg) + offsetof(struct segment, limit) - offsetof(struct segment, base));
    asm_pext(a, false, R15, RCX, NATIVE(segment_zeros));
    asm_not(a, RCX);
    asm_pext(a, false, RCX, RCX, NATIVE(segment_ones));
    asm_lea(a, true, RCX, RCX, R15, 0, 0);
    other = asm_unless_rcx_zero(a);
    emit_add_cold(b,
                  (struct cold){.kind = COLD_INTERPRET, .from = other, .record = emit_record(b)});
}

bool emit_address(struct block_builder *b)
{
    const struct insn *in = &b->p->d.in;
    int64_t disp = in->disp;
    unsigned base, index;

    if (in->base == REG_IP) {
        disp += behind(b);
        asm_load(&b->a, R14, NATIVE(page_base));
        base = R14;
    } else {
        base = emit_use_register(b, in->base, R14);
    }
    if (!fits32(disp)) {
        if (base != REG_NONE || in->index != REG_NONE)
            return false;
        asm_const(&b->a, R14, (uint64_t)disp);
    } else {
        index = emit_use_register(b, in->index, R15);
        asm_lea(&b->a, in->asize == 8, R14, base, index, in->scale, (int32_t)disp);
    }
    if (in->seg >= FS) {
        if (!cpu_is_64bit(b->cpu))
            emit_segment_check(b, in->seg);
        asm_load(&b->a, RCX, segment_base(in->seg));
        asm_lea(&b->a, cpu_is_64bit(b->cpu), R14, R14, RCX, 0, 0);
    }
    return true;
}

/* The one place where accesses are checked. The entry is chosen by the first byte and compared with
 * the last, so an access that crosses pages misses. */
uint8_t *emit_tlb_check(struct assembler *a, unsigned size, bool write)
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

void emit_check(struct block_builder *b, unsigned size, bool write)
{
    uint8_t *miss = emit_tlb_check(&b->a, size, write);

    emit_add_cold(b, (struct cold){.kind = COLD_INTERPRET, .from = miss, .record = emit_record(b)});
}

/* --- groups --- */

/* The base of a group: a register and what is to be added to the displacement. */
static unsigned group_base(struct block_builder *b, int32_t *disp)
{
    const struct insn *in = &b->p->d.in;
    unsigned base;

    *disp = plan_displacement(b->p);
    if (in->base == REG_IP) {
        *disp += (int32_t)b->page_offset;
        asm_load(&b->a, R14, NATIVE(page_base));
        base = R14;
    } else if (in->base == REG_NONE) {
        asm_const(&b->a, R14, 0);
        base = R14;
    } else {
        base = emit_use_register(b, in->base, R14);
    }
    if (in->seg >= FS) {
        asm_load(&b->a, RCX, segment_base(in->seg));
        asm_lea(&b->a, true, R14, base, RCX, 0, 0);
        base = R14;
    }
    return base;
}

static size_t group_addend(const struct block_builder *b)
{
    return NATIVE(group) + 8 * (size_t)b->p->group;
}

/* Checks all that the group touches. What has to be added to its addresses is kept for the others.
 */
static void open_group(struct block_builder *b, unsigned base, int32_t disp)
{
    const struct span *s = &b->plan->group[b->p->group];
    int32_t low = s->low - plan_displacement(b->p); /* from this operand */
    uint8_t *miss;

    asm_lea(&b->a, true, R14, base, REG_NONE, 0, disp + low);
    miss = emit_tlb_check(&b->a, (unsigned)(s->high - s->low), s->write);
    emit_add_cold(b, (struct cold){.kind = COLD_CAREFUL, .from = miss, .at = b->at});
    asm_store(&b->a, R15, group_addend(b));
    if (base == R14) /* it was moved to the lowest byte */
        asm_lea(&b->a, true, R14, R14, REG_NONE, 0, -(disp + low));
}

static void group_operand(struct block_builder *b, struct operand *operand)
{
    int32_t disp;
    unsigned base = group_base(b, &disp);

    if (b->p->opens_group)
        open_group(b, base, disp);
    else
        asm_load(&b->a, R15, group_addend(b));
    *operand = (struct operand){.base = (uint8_t)base, .index = R15, .disp = disp};
}

bool emit_operand(struct block_builder *b, unsigned size, bool write, struct operand *operand)
{
    if (b->p->window >= 0 && plan_is_on_stack(b->cpu, &b->p->d)) {
        *operand = (struct operand){RSP, REG_NONE, (int32_t)b->p->d.in.disp};
        return true;
    }
    if (b->p->group >= 0) {
        group_operand(b, operand);
        return true;
    }
    if (!emit_address(b))
        return false;
    emit_check(b, size, write);
    *operand = (struct operand){R14, R15, 0};
    return true;
}

void emit_move_operand(struct block_builder *b, unsigned reg, const struct operand *operand,
                       bool store, unsigned size)
{
    struct assembler *a = &b->a;
    bool sib = operand->index != REG_NONE || (operand->base & 7) == RSP;

    asm_byte(a, 0x40 | (size == 8) << 3 | (reg >> 3) << 2 |
                    (operand->index != REG_NONE && operand->index > 7) << 1 | operand->base >> 3);
    asm_byte(a, store ? 0x89 : 0x8b);
    asm_byte(a, 0x80 | (reg & 7) << 3 | (sib ? 4u : operand->base & 7u));
    if (sib)
        asm_byte(a, (operand->index == REG_NONE ? 4u : operand->index & 7u) << 3 |
                        (operand->base & 7u));
    asm_imm32(a, (uint64_t)(int64_t)operand->disp);
}
