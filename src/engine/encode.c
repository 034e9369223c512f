#include "engine/encode.h"

#include <string.h>

struct code {
    uint8_t *p;
    const struct decoded *d;
    const struct encoding *e;
};

static void byte(struct code *c, unsigned b)
{
    *c->p++ = (uint8_t)b;
}

static void bytes(struct code *c, const void *data, unsigned n)
{
    memcpy(c->p, data, n);
    c->p += n;
}

int encode_guest_gpr(const ZydisDecodedOperand *op)
{
    bool high;

    return op->type == ZYDIS_OPERAND_TYPE_REGISTER ? insn_gpr_number(op->reg.value, &high) : -1;
}

/* The host's number for the register in one field of the instruction; `number` is the field's. */
static unsigned field_register(const struct code *c, ZydisOperandEncoding encoding, unsigned number)
{
    for (unsigned i = 0; i < c->d->zi.operand_count; i++) {
        const ZydisDecodedOperand *op = &c->d->ops[i];
        int guest = encode_guest_gpr(op);

        if (op->encoding != encoding || op->type != ZYDIS_OPERAND_TYPE_REGISTER)
            continue;
        if (guest < 0)
            return number;
        if (op->reg.value >= ZYDIS_REGISTER_AH && op->reg.value <= ZYDIS_REGISTER_BH)
            return c->e->gpr[guest] + 4; /* AH..BH */
        return c->e->gpr[guest];
    }
    return number;
}

/* Has the instruction an operand in a vector, MMX or x87 register? Then 66 is part of its opcode.
 */
static bool has_vector_operand(const struct decoded *d)
{
    for (unsigned i = 0; i < d->zi.operand_count; i++) {
        if (d->ops[i].type != ZYDIS_OPERAND_TYPE_REGISTER)
            continue;
        switch (ZydisRegisterGetClass(d->ops[i].reg.value)) {
        case ZYDIS_REGCLASS_MMX:
        case ZYDIS_REGCLASS_X87:
        case ZYDIS_REGCLASS_XMM:
        case ZYDIS_REGCLASS_YMM: return true;
        default: break;
        }
    }
    return d->unit != UNIT_INTEGER;
}

static bool has_mandatory(const struct decoded *d, uint8_t value)
{
    for (unsigned i = 0; i < d->zi.raw.prefix_count; i++)
        if (d->zi.raw.prefixes[i].value == value &&
            d->zi.raw.prefixes[i].type == ZYDIS_PREFIX_TYPE_MANDATORY)
            return true;
    return false;
}

/* MOVNTI and the fences: 66 would make another instruction of them. */
static bool is_sse(const struct decoded *d)
{
    return d->zi.meta.isa_set == ZYDIS_ISA_SET_SSE || d->zi.meta.isa_set == ZYDIS_ISA_SET_SSE2;
}

struct fields {
    unsigned reg, rm, vvvv;
    bool w;
};

/* ModRM, SIB and displacement for [mem + index + disp]. */
static void emit_memory(struct code *c, unsigned reg)
{
    const struct encoding *e = c->e;
    bool sib = e->index != REG_NONE || (e->mem & 7) == RSP;
    bool small = e->disp >= -128 && e->disp < 128;
    unsigned mod = e->disp == 0 && (e->mem & 7) != RBP ? 0 : small ? 1 : 2;

    byte(c, mod << 6 | (reg & 7) << 3 | (sib ? 4u : e->mem & 7u));
    if (sib)
        byte(c, (e->index == REG_NONE ? 4u : e->index & 7u) << 3 | (e->mem & 7));
    if (mod == 1)
        byte(c, (uint8_t)e->disp);
    else if (mod == 2)
        bytes(c, &e->disp, 4);
}

/* REX.X or its place in VEX. */
static unsigned index_high(const struct code *c)
{
    return (c->d->in.flags & INSN_MEM) && c->e->index != REG_NONE && c->e->index & 8;
}

static void emit_modrm(struct code *c, const struct fields *f)
{
    const struct decoded *d = c->d;

    if (!(d->zi.attributes & ZYDIS_ATTRIB_HAS_MODRM))
        return;
    if (d->in.flags & INSN_MEM)
        emit_memory(c, f->reg);
    else
        byte(c, 0xc0 | (f->reg & 7) << 3 | (f->rm & 7));
}

/* VBLENDV: the immediate's upper half is the number of a register. */
static bool is_register_immediate(const struct decoded *d)
{
    return d->zi.operand_count > 3 && d->ops[3].encoding == ZYDIS_OPERAND_ENCODING_IS4;
}

static void emit_immediates(struct code *c)
{
    const ZydisDecodedInstruction *zi = &c->d->zi;

    if (is_register_immediate(c->d) && zi->machine_mode != ZYDIS_MACHINE_MODE_LONG_64) {
        byte(c, zi->raw.imm[0].value.u & 0x7f); /* bit 7 counts in 64-bit mode only */
        return;
    }
    for (unsigned i = 0; i < 2; i++)
        bytes(c, &zi->raw.imm[i].value.u, zi->raw.imm[i].size / 8);
}

static void emit_vex(struct code *c, const struct fields *f)
{
    const ZydisDecodedInstruction *zi = &c->d->zi;

    byte(c, 0xc4);
    byte(c, (f->reg & 8 ? 0 : 0x80) | (index_high(c) ? 0 : 0x40) | (f->rm & 8 ? 0 : 0x20) |
                zi->raw.vex.m_mmmm);
    byte(c, f->w << 7 | (~f->vvvv & 15) << 3 | zi->raw.vex.L << 2 | zi->raw.vex.pp);
    byte(c, zi->opcode);
    emit_modrm(c, f);
    emit_immediates(c);
}

static void emit_prefixes(struct code *c)
{
    const struct decoded *d = c->d;

    if (d->in.flags & INSN_LOCK)
        byte(c, 0xf0);
    if (has_mandatory(d, 0x66) ||
        (d->zi.operand_width == 16 && !has_vector_operand(d) && !is_sse(d)))
        byte(c, 0x66);
    if (has_mandatory(d, 0xf3))
        byte(c, 0xf3);
    if (has_mandatory(d, 0xf2))
        byte(c, 0xf2);
}

static bool is_moffs(const struct decoded *d)
{
    return d->zi.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && (d->zi.opcode & 0xfc) == 0xa0 &&
           d->zi.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY;
}

static void emit_legacy(struct code *c, struct fields *f)
{
    const ZydisDecodedInstruction *zi = &c->d->zi;
    bool high = c->d->in.flags & (INSN_HIGH_REG | INSN_HIGH_RM);
    unsigned opcode = zi->opcode;

    emit_prefixes(c);
    if (is_moffs(c->d)) {
        /* A0..A3 name a 64-bit address; 88..8B are the same with ModRM */
        byte(c,
             0x40 | f->w << 3 | (c->e->gpr[RAX] & 8u) >> 1 | index_high(c) << 1 | (f->rm & 8) >> 3);
        byte(c, (opcode & 2 ? 0x88 : 0x8a) | (opcode & 1));
        emit_memory(c, c->e->gpr[RAX]);
        return;
    }
    if (!(zi->attributes & ZYDIS_ATTRIB_HAS_MODRM)) {
        if (zi->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && opcode >= 0x40 && opcode <= 0x4f) {
            /* INC and DEC of 32-bit code, whose opcodes are REX prefixes in 64-bit mode */
            byte(c, 0x40 | (f->rm & 8) >> 3);
            byte(c, 0xff);
            byte(c, 0xc0 | (opcode & 8) | (f->rm & 7));
            return;
        }
        if (c->d->ops[0].encoding == ZYDIS_OPERAND_ENCODING_OPCODE ||
            c->d->ops[1].encoding == ZYDIS_OPERAND_ENCODING_OPCODE)
            opcode = (opcode & 0xf8u) | (f->rm & 7);
    }
    if (opcode == 0x82 && zi->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT)
        opcode = 0x80; /* the alias that 64-bit mode lacks */
    if (!high)
        byte(c, 0x40 | f->w << 3 | (f->reg & 8) >> 1 | index_high(c) << 1 | (f->rm & 8) >> 3);
    if (zi->opcode_map != ZYDIS_OPCODE_MAP_DEFAULT)
        byte(c, 0x0f);
    if (zi->opcode_map == ZYDIS_OPCODE_MAP_0F38)
        byte(c, 0x38);
    if (zi->opcode_map == ZYDIS_OPCODE_MAP_0F3A)
        byte(c, 0x3a);
    byte(c, opcode);
    emit_modrm(c, f);
    emit_immediates(c);
}

/* Outside 64-bit mode W is ignored where it would choose a 64-bit general register or operand. */
static bool wide(const struct decoded *d)
{
    if (!(d->in.flags & INSN_REX_W))
        return false;
    if (d->zi.machine_mode == ZYDIS_MACHINE_MODE_LONG_64)
        return true;
    switch (d->zi.mnemonic) {
    case ZYDIS_MNEMONIC_VMOVD:
    case ZYDIS_MNEMONIC_VPINSRD:
    case ZYDIS_MNEMONIC_VPEXTRD:
    case ZYDIS_MNEMONIC_VCVTSI2SD:
    case ZYDIS_MNEMONIC_VCVTSI2SS: return false;
    default: return !d->gpr_used;
    }
}

unsigned encode_insn(uint8_t *out, const struct decoded *d, const struct encoding *e)
{
    const ZydisDecodedInstruction *zi = &d->zi;
    bool vex = zi->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;
    bool has_modrm = zi->attributes & ZYDIS_ATTRIB_HAS_MODRM;
    struct code c = {out, d, e};
    struct fields f = {.w = wide(d)};

    f.reg = field_register(&c, ZYDIS_OPERAND_ENCODING_MODRM_REG,
                           has_modrm ? zi->raw.modrm.reg | (d->in.reg & 8u) : 0);
    if (d->in.flags & INSN_MEM)
        f.rm = e->mem;
    else
        f.rm = field_register(
            &c, has_modrm ? ZYDIS_OPERAND_ENCODING_MODRM_RM : ZYDIS_OPERAND_ENCODING_OPCODE,
            has_modrm ? zi->raw.modrm.rm | (d->in.rm & 8u) : 0);
    f.vvvv = vex ? field_register(&c, ZYDIS_OPERAND_ENCODING_NDSNDD, d->in.vvvv) : 0;
    if (vex)
        emit_vex(&c, &f);
    else
        emit_legacy(&c, &f);
    return (unsigned)(c.p - out);
}
