/* See decode.h. The machine mode for Zydis follows cpu->mode; prefixes whose meaning depends on the
 * CPU model (LZCNT or BSR, for instance) follow the model. */
#include "cpu/decode.h"

#include "cpu/cpuid.h"
#include "cpu/decode_cache.h"

#include <string.h>

static const struct insn_row illegal_row;

static ZydisMachineMode machine_mode(const struct cpu *cpu)
{
    unsigned code = cpu->mode & MODE_CODE_MASK;

    if (code == MODE_CODE64)
        return ZYDIS_MACHINE_MODE_LONG_64;
    if (cpu->mode & MODE_LONG)
        return code == MODE_CODE32 ? ZYDIS_MACHINE_MODE_LONG_COMPAT_32
                                   : ZYDIS_MACHINE_MODE_LONG_COMPAT_16;
    if (cpu->mode & MODE_PROTECTED)
        return code == MODE_CODE32 ? ZYDIS_MACHINE_MODE_LEGACY_32 : ZYDIS_MACHINE_MODE_LEGACY_16;
    return code == MODE_CODE32 ? ZYDIS_MACHINE_MODE_LEGACY_32 : ZYDIS_MACHINE_MODE_REAL_16;
}

static void init_decoder(const struct cpu *cpu, ZydisDecoder *decoder)
{
    ZydisMachineMode mode = machine_mode(cpu);
    ZydisStackWidth stack = ZYDIS_STACK_WIDTH_32;

    if (mode == ZYDIS_MACHINE_MODE_LONG_64)
        stack = ZYDIS_STACK_WIDTH_64;
    else if (!(cpu->mode & MODE_SS32))
        stack = ZYDIS_STACK_WIDTH_16;
    ZydisDecoderInit(decoder, mode, stack);
    ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
    ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
    ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
    ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_WBNOINVD, ZYAN_FALSE);
    ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_AMD_BRANCHES, cpu_model_is_amd(cpu->model));
    ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_LZCNT, cpu_model_has(cpu->model, FEAT_ABM));
    ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_TZCNT, cpu_model_has(cpu->model, FEAT_BMI1));
}

/* --- registers --- */

static int vec_number(ZydisRegister reg)
{
    ZydisRegisterClass class = ZydisRegisterGetClass(reg);

    return class == ZYDIS_REGCLASS_XMM || class == ZYDIS_REGCLASS_YMM ? ZydisRegisterGetId(reg)
                                                                      : -1;
}

int insn_gpr_number(ZydisRegister reg, bool *high)
{
    *high = false;
    switch (ZydisRegisterGetClass(reg)) {
    case ZYDIS_REGCLASS_GPR8:
        if (reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH) {
            *high = true;
            return reg - ZYDIS_REGISTER_AH;
        }
        if (reg <= ZYDIS_REGISTER_BL)
            return reg - ZYDIS_REGISTER_AL;
        return reg - ZYDIS_REGISTER_SPL + 4;
    case ZYDIS_REGCLASS_GPR16: return reg - ZYDIS_REGISTER_AX;
    case ZYDIS_REGCLASS_GPR32: return reg - ZYDIS_REGISTER_EAX;
    case ZYDIS_REGCLASS_GPR64: return reg - ZYDIS_REGISTER_RAX;
    default: return -1;
    }
}

static uint8_t address_register(ZydisRegister reg)
{
    bool high;
    int n;

    if (reg == ZYDIS_REGISTER_RIP || reg == ZYDIS_REGISTER_EIP)
        return REG_IP;
    n = insn_gpr_number(reg, &high);
    if (n < 0)
        n = vec_number(reg); /* the index of a gather */
    return n < 0 ? REG_NONE : (uint8_t)n;
}

static enum seg segment_number(ZydisRegister reg)
{
    return reg >= ZYDIS_REGISTER_ES && reg <= ZYDIS_REGISTER_GS
               ? (enum seg)(reg - ZYDIS_REGISTER_ES)
               : DS;
}

/* --- operands --- */

static bool op_written(const ZydisDecodedOperand *op)
{
    return op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
}

static void note_register(struct decoded *d, const ZydisDecodedOperand *op)
{
    bool high;
    int n = insn_gpr_number(op->reg.value, &high);

    if (n >= 0) {
        d->gpr_used |= (uint16_t)(1u << n);
        d->gpr_written |= (uint16_t)(op_written(op) << n);
        if (op->encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG ||
            op->encoding == ZYDIS_OPERAND_ENCODING_OPCODE) {
            d->in.reg = (uint8_t)n;
            d->in.flags |= high ? INSN_HIGH_REG : 0;
        } else if (op->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM) {
            d->in.rm = (uint8_t)n;
            d->in.flags |= high ? INSN_HIGH_RM : 0;
        }
        return;
    }
    n = vec_number(op->reg.value);
    if (n >= 0) {
        d->vec_used |= (uint16_t)(1u << (n & 15));
        d->vec_written |= (uint16_t)(op_written(op) << (n & 15));
    }
    if (ZydisRegisterGetClass(op->reg.value) == ZYDIS_REGCLASS_SEGMENT &&
        op->visibility != ZYDIS_OPERAND_VISIBILITY_HIDDEN)
        d->in.reg = (uint8_t)segment_number(op->reg.value);
}

/* Strings, XLAT, MONITOR and masked moves: only the segment, which a prefix can change, has to be
 * known. The other hidden operands are ES:rDI of strings and the stack. */
static void note_hidden_memory(struct decoded *d, const ZydisDecodedOperand *op)
{
    uint8_t base = address_register(op->mem.base);
    bool masked = d->zi.meta.category != ZYDIS_CATEGORY_STRINGOP &&
                  d->zi.meta.category != ZYDIS_CATEGORY_IOSTRINGOP;

    if (base == RSI || base == RBX || base == RAX || (base == RDI && masked))
        d->in.seg = (uint8_t)segment_number(op->mem.segment);
}

static void note_memory(struct decoded *d, const ZydisDecodedOperand *op)
{
    struct insn *in = &d->in;

    if (op->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN) {
        note_hidden_memory(d, op);
        return;
    }
    if (in->flags & INSN_MEM)
        return; /* strings: the first one counts; helpers know the other */
    in->flags |= INSN_MEM;
    in->base = address_register(op->mem.base);
    in->index = address_register(op->mem.index);
    in->scale = (uint8_t)(op->mem.scale ? __builtin_ctz(op->mem.scale) : 0);
    in->disp = op->mem.disp.has_displacement ? op->mem.disp.value : 0;
    in->seg = (uint8_t)segment_number(op->mem.segment);
    in->mem_size = (uint8_t)(op->size / 8 < 256 ? op->size / 8 : 0);
    d->reads_mem = op->actions & ZYDIS_OPERAND_ACTION_MASK_READ;
    d->writes_mem = op_written(op);
}

/* MMX, segment, control and debug registers that the instruction names. */
static bool is_other(const ZydisDecodedOperand *op)
{
    if (op->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN)
        return false;
    switch (ZydisRegisterGetClass(op->reg.value)) {
    case ZYDIS_REGCLASS_MMX:
    case ZYDIS_REGCLASS_SEGMENT:
    case ZYDIS_REGCLASS_CONTROL:
    case ZYDIS_REGCLASS_DEBUG: return true;
    default: return false;
    }
}

static void note_operands(struct decoded *d)
{
    for (unsigned i = 0; i < d->zi.operand_count; i++) {
        const ZydisDecodedOperand *op = &d->ops[i];

        if (op->type == ZYDIS_OPERAND_TYPE_REGISTER) {
            note_register(d, op);
            d->names_other |= is_other(op);
        } else if (op->type == ZYDIS_OPERAND_TYPE_MEMORY) {
            note_memory(d, op);
        }
    }
}

static void note_flags(struct decoded *d)
{
    const ZydisAccessedFlags *f = d->zi.cpu_flags;
    uint32_t written;

    if (!f)
        return;
    written = f->modified | f->set_0 | f->set_1 | f->undefined;
    d->flags_read = (f->tested & FLAGS_STATUS) != 0;
    d->flags_written = (written & FLAGS_STATUS) != 0;
    d->flags_defined = ((f->modified | f->set_0 | f->set_1) & FLAGS_STATUS) == FLAGS_STATUS;
}

/* --- the rest --- */

/* Opcodes D8 to DF; Zydis puts some of them into other instruction sets. WAIT has a rule of its own
 * for #NM, which op_wait() knows. */
static bool is_x87(const ZydisDecodedInstruction *zi)
{
    return zi->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY &&
           zi->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && (zi->opcode & 0xf8) == 0xd8;
}

static enum insn_unit unit_of(const struct decoded *d)
{
    bool mmx = d->row->flags & ROW_MMX, vec = d->vec_used;

    if (is_x87(&d->zi))
        return UNIT_X87;
    for (unsigned i = 0; i < d->zi.operand_count; i++)
        if (d->ops[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
            ZydisRegisterGetClass(d->ops[i].reg.value) == ZYDIS_REGCLASS_MMX)
            mmx = true;
    if (d->zi.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX && (vec || d->row->flags & ROW_AVX))
        return UNIT_AVX;
    if (vec)
        return UNIT_SSE;
    return mmx ? UNIT_MMX : UNIT_INTEGER;
}

/* SDM vol. 2, 2.7: types 2 and 3 are floating point and can raise #XM; so can conversions. */
static bool uses_mxcsr(const ZydisDecodedInstruction *zi)
{
    switch (zi->meta.exception_class) {
    case ZYDIS_EXCEPTION_CLASS_SSE2:
    case ZYDIS_EXCEPTION_CLASS_SSE3:
    case ZYDIS_EXCEPTION_CLASS_AVX2:
    case ZYDIS_EXCEPTION_CLASS_AVX3:
    case ZYDIS_EXCEPTION_CLASS_AVX11: return true;
    default: break;
    }
    switch (zi->mnemonic) { /* MMX conversions have no class of their own */
    case ZYDIS_MNEMONIC_CVTPI2PS:
    case ZYDIS_MNEMONIC_CVTPI2PD:
    case ZYDIS_MNEMONIC_CVTPS2PI:
    case ZYDIS_MNEMONIC_CVTTPS2PI:
    case ZYDIS_MNEMONIC_CVTPD2PI:
    case ZYDIS_MNEMONIC_CVTTPD2PI: return true;
    default: return false;
    }
}

/* Legacy SSE instructions that take memory operands at any address all the same. */
static bool takes_unaligned(ZydisMnemonic mnemonic)
{
    switch (mnemonic) {
    case ZYDIS_MNEMONIC_MOVUPS:
    case ZYDIS_MNEMONIC_MOVUPD:
    case ZYDIS_MNEMONIC_MOVDQU:
    case ZYDIS_MNEMONIC_LDDQU:
    case ZYDIS_MNEMONIC_PCMPESTRI:
    case ZYDIS_MNEMONIC_PCMPESTRM:
    case ZYDIS_MNEMONIC_PCMPISTRI:
    case ZYDIS_MNEMONIC_PCMPISTRM: return true;
    default: return false;
    }
}

/* SDM vol. 2, table 2-14: types 1, 2 and 4. */
static uint16_t alignment_flag(const struct decoded *d, bool amd)
{
    if (!(d->in.flags & INSN_MEM) || d->in.mem_size < 16)
        return 0;
    switch (d->zi.meta.exception_class) {
    case ZYDIS_EXCEPTION_CLASS_SSE1:
    case ZYDIS_EXCEPTION_CLASS_AVX1: return INSN_ALIGNED;
    case ZYDIS_EXCEPTION_CLASS_SSE2:
    case ZYDIS_EXCEPTION_CLASS_SSE4:
        if (d->zi.meta.isa_set == ZYDIS_ISA_SET_SHA && amd)
            return 0; /* AMD's processors take any address there */
        return takes_unaligned(d->zi.mnemonic) ? 0 : INSN_ALIGNED_SSE;
    default: break;
    }
    return d->zi.mnemonic == ZYDIS_MNEMONIC_CVTPD2PI || d->zi.mnemonic == ZYDIS_MNEMONIC_CVTTPD2PI
               ? INSN_ALIGNED_SSE
               : 0;
}

static void note_immediates(struct decoded *d)
{
    const ZydisDecodedInstruction *zi = &d->zi;
    struct insn *in = &d->in;

    in->imm = zi->raw.imm[0].is_signed ? zi->raw.imm[0].value.s : (int64_t)zi->raw.imm[0].value.u;
    in->imm2 = (uint16_t)zi->raw.imm[1].value.u;
    if (zi->operand_count && d->ops[0].type == ZYDIS_OPERAND_TYPE_POINTER) {
        in->imm = d->ops[0].ptr.offset;
        in->imm2 = d->ops[0].ptr.segment;
    }
}

static void note_sizes(struct decoded *d)
{
    const ZydisDecodedInstruction *zi = &d->zi;
    unsigned size = zi->operand_width / 8;

    if ((d->row->flags & ROW_SIZE_OP0) && zi->operand_count)
        size = d->ops[0].size / 8;
    else if ((d->row->flags & ROW_SIZE_OP1) && zi->operand_count > 1)
        size = d->ops[1].size / 8;
    d->in.osize = (uint8_t)(size > 8 ? 0 : size);
    d->in.asize = zi->address_width / 8;
}

static void note_prefixes(struct decoded *d)
{
    const ZydisDecodedInstruction *zi = &d->zi;
    struct insn *in = &d->in;

    if (zi->attributes & ZYDIS_ATTRIB_HAS_LOCK)
        in->flags |= INSN_LOCK;
    if (zi->attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE))
        in->flags |= INSN_REP;
    if (zi->attributes & ZYDIS_ATTRIB_HAS_REPNE)
        in->flags |= INSN_REPNE;
    if (zi->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX) {
        in->flags |= zi->raw.vex.W ? INSN_REX_W : 0;
        in->flags |= zi->raw.vex.L ? INSN_VEX_L : 0;
    } else if ((zi->attributes & ZYDIS_ATTRIB_HAS_REX) && zi->raw.rex.W) {
        in->flags |= INSN_REX_W;
    }
}

/* Numbers of the registers in ModRM and VEX.vvvv, when they aren't general ones. */
static void note_numbers(struct decoded *d)
{
    const ZydisDecodedInstruction *zi = &d->zi;
    struct insn *in = &d->in;

    in->modrm = (uint8_t)(zi->raw.modrm.mod << 6 | zi->raw.modrm.reg << 3 | zi->raw.modrm.rm);
    in->opcode = zi->opcode;
    for (unsigned i = 0; i < zi->operand_count; i++) {
        const ZydisDecodedOperand *op = &d->ops[i];
        unsigned id;

        if (op->type != ZYDIS_OPERAND_TYPE_REGISTER)
            continue;
        id = (unsigned)ZydisRegisterGetId(op->reg.value) & 15;
        switch (ZydisRegisterGetClass(op->reg.value)) {
        case ZYDIS_REGCLASS_GPR8:
        case ZYDIS_REGCLASS_SEGMENT: continue;
        default: break;
        }
        if (op->encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG)
            in->reg = (uint8_t)id;
        else if (op->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM)
            in->rm = (uint8_t)id;
        else if (op->encoding == ZYDIS_OPERAND_ENCODING_NDSNDD)
            in->vvvv = (uint8_t)id;
    }
}

/* Bit instructions on a bit string in memory (register index) need C; all others are copies. */
static void refine_row(struct decoded *d)
{
    static const struct insn_row copy = {CLASS_COPY, ROW_SIZE_OP0, NULL};

    switch (d->zi.mnemonic) {
    case ZYDIS_MNEMONIC_BT:
    case ZYDIS_MNEMONIC_BTC:
    case ZYDIS_MNEMONIC_BTR:
    case ZYDIS_MNEMONIC_BTS:
        if (d->ops[0].type == ZYDIS_OPERAND_TYPE_REGISTER ||
            d->ops[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
            d->row = &copy;
        break;
    case ZYDIS_MNEMONIC_MOVSXD: /* reads 32 bits even if it writes 16 */
        if (d->ops[0].size == 16)
            d->row = &copy;
        break;
    default: break;
    }
}

static bool row_fits_mode(const struct cpu *cpu, const struct decoded *d)
{
    bool needs_protected =
        (d->row->flags & ROW_PROTECTED) || d->zi.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;

    return (cpu->mode & MODE_PROTECTED) || !needs_protected;
}

static bool has_prefix(const ZydisDecodedInstruction *zi, uint8_t value)
{
    for (unsigned i = 0; i < zi->raw.prefix_count; i++)
        if (zi->raw.prefixes[i].value == value)
            return true;
    return false;
}

/* On AMD processors 66 gives near branches of 64-bit code a 16-bit operand (APM vol. 3, 1.2.2), on
 * Intel's it does nothing. Zydis knows that of some branches only. */
static void correct_branch_width(const struct cpu *cpu, ZydisDecodedInstruction *zi)
{
    if (!cpu_is_64bit(cpu) || !cpu_model_is_amd(cpu->model))
        return;
    if (zi->meta.branch_type != ZYDIS_BRANCH_TYPE_SHORT &&
        zi->meta.branch_type != ZYDIS_BRANCH_TYPE_NEAR)
        return;
    if (has_prefix(zi, 0x66) && !((zi->attributes & ZYDIS_ATTRIB_HAS_REX) && zi->raw.rex.W))
        zi->operand_width = 16;
}

/* SIB with base 101b and mod 00b has no base, whatever REX.B says; Zydis 4.0 forgets that when the
 * address size is 32 bits. */
static void correct_sib_base(struct decoded *d)
{
    if (!(d->zi.attributes & ZYDIS_ATTRIB_HAS_SIB) || d->zi.raw.modrm.mod != 0 ||
        d->zi.raw.sib.base != 5)
        return;
    for (unsigned i = 0; i < d->zi.operand_count; i++) {
        ZydisDecodedOperand *op = &d->ops[i];

        if (op->type != ZYDIS_OPERAND_TYPE_MEMORY ||
            op->encoding != ZYDIS_OPERAND_ENCODING_MODRM_RM)
            continue;
        op->mem.base = ZYDIS_REGISTER_NONE;
        op->mem.disp.has_displacement = ZYAN_TRUE;
        op->mem.disp.value = d->zi.raw.disp.value;
    }
}

/* On AMD processors a REP prefix decides which ZF a LOOPcc wants. */
static void correct_loop(const struct cpu *cpu, ZydisDecodedInstruction *zi)
{
    if (!cpu_model_is_amd(cpu->model) ||
        (zi->mnemonic != ZYDIS_MNEMONIC_LOOPE && zi->mnemonic != ZYDIS_MNEMONIC_LOOPNE))
        return;
    for (unsigned i = 0; i < zi->raw.prefix_count; i++) {
        if (zi->raw.prefixes[i].value == 0xf3)
            zi->mnemonic = ZYDIS_MNEMONIC_LOOPE;
        else if (zi->raw.prefixes[i].value == 0xf2)
            zi->mnemonic = ZYDIS_MNEMONIC_LOOPNE;
    }
}

/* 0F 0D is a prefetch; with a register operand it is a NOP on Intel's processors only. */
static bool is_illegal_prefetch(const struct cpu *cpu, const ZydisDecodedInstruction *zi)
{
    return cpu_model_is_amd(cpu->model) && zi->opcode_map == ZYDIS_OPCODE_MAP_0F &&
           zi->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY && zi->opcode == 0x0d &&
           zi->raw.modrm.mod == 3;
}

/* Forms that Zydis knows and the processor does not. */
static bool is_illegal_form(const struct cpu *cpu, const ZydisDecodedInstruction *zi)
{
    switch (zi->mnemonic) {
    case ZYDIS_MNEMONIC_VPEXTRD: /* W = 1 means VPEXTRQ and VPINSRQ, of 64-bit mode */
    case ZYDIS_MNEMONIC_VPINSRD: return !cpu_is_64bit(cpu) && zi->raw.vex.W;
    case ZYDIS_MNEMONIC_CLZERO: return has_prefix(zi, 0xf2) || has_prefix(zi, 0xf3);
    default: return is_illegal_prefetch(cpu, zi);
    }
}

/* The segment of CLZERO, whose operand is RAX for Zydis. */
static void note_clzero_segment(const struct cpu *cpu, struct decoded *d)
{
    static const uint8_t prefixes[] = {
        [ES] = 0x26, [CS] = 0x2e, [SS] = 0x36, [DS] = 0x3e, [FS] = 0x64, [GS] = 0x65};

    if (d->zi.mnemonic != ZYDIS_MNEMONIC_CLZERO)
        return;
    for (unsigned i = 0; i < d->zi.raw.prefix_count; i++)
        for (unsigned seg = cpu_is_64bit(cpu) ? FS : ES; seg < SEG_COUNT; seg++)
            if (d->zi.raw.prefixes[i].value == prefixes[seg])
                d->in.seg = (uint8_t)seg; /* the last one counts */
}

static void describe(const struct cpu *cpu, struct decoded *d)
{
    correct_loop(cpu, &d->zi);
    correct_branch_width(cpu, &d->zi);
    correct_sib_base(d);
    d->row = insn_row_find(cpu, &d->zi);
    if (!row_fits_mode(cpu, d) || is_illegal_form(cpu, &d->zi))
        d->row = &illegal_row;
    if (d->row->class == CLASS_HELPER || d->row->class == CLASS_MOV)
        refine_row(d);
    d->in.len = d->zi.length;
    d->in.mnemonic = (uint16_t)d->zi.mnemonic;
    d->in.seg = DS;
    note_operands(d);
    note_flags(d);
    note_immediates(d);
    note_sizes(d);
    note_prefixes(d);
    note_numbers(d);
    note_clzero_segment(cpu, d);
    d->in.flags |= d->row->flags & ROW_MXCSR ? INSN_MXCSR : 0;
    d->in.flags |= alignment_flag(d, cpu_model_is_amd(cpu->model));
    d->unit = unit_of(d);
    d->uses_mxcsr = uses_mxcsr(&d->zi);
}

/* AMD: LOCK MOV to or from CR0 means CR8 (APM vol. 3, MOV CRn). Zydis refuses the prefix. */
static ZyanStatus decode_alternate_cr8(const struct cpu *cpu, const ZydisDecoder *decoder,
                                       const uint8_t *code, unsigned avail, struct decoded *d)
{
    uint8_t without[INSN_MAX_LEN];
    unsigned n = 0, removed;
    ZyanStatus status;

    if (!cpu_model_has(cpu->model, FEAT_CR8_LEGACY))
        return ZYDIS_STATUS_ILLEGAL_LOCK;
    for (unsigned i = 0; i < avail && i < INSN_MAX_LEN; i++)
        if (code[i] != 0xf0 || (n && without[n - 1] == 0x0f))
            without[n++] = code[i];
    removed = (avail < INSN_MAX_LEN ? avail : INSN_MAX_LEN) - n;
    status = ZydisDecoderDecodeFull(decoder, without, n, &d->zi, d->ops);
    if (!ZYAN_SUCCESS(status) || d->zi.mnemonic != ZYDIS_MNEMONIC_MOV)
        return ZYDIS_STATUS_ILLEGAL_LOCK;
    d->zi.length = (uint8_t)(d->zi.length + removed);
    for (unsigned i = 0; i < d->zi.operand_count; i++) {
        if (d->ops[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
            d->ops[i].reg.value == ZYDIS_REGISTER_CR0) {
            d->ops[i].reg.value = ZYDIS_REGISTER_CR8;
            return ZYAN_STATUS_SUCCESS;
        }
    }
    return ZYDIS_STATUS_ILLEGAL_LOCK;
}

/* UD0 and UD1 end with their opcode on AMD's processors: no ModRM byte is fetched. */
static bool is_short_ud(const struct cpu *cpu, const uint8_t *code, unsigned avail)
{
    static const uint8_t prefixes[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65,
                                       0x66, 0x67, 0xf0, 0xf2, 0xf3};
    unsigned i = 0;

    while (i < avail && (memchr(prefixes, code[i], sizeof prefixes) ||
                         (cpu_is_64bit(cpu) && (code[i] & 0xf0) == 0x40)))
        i++;
    return cpu_model_is_amd(cpu->model) && i + 1 < avail && code[i] == 0x0f &&
           (code[i + 1] == 0xff || code[i + 1] == 0xb9);
}

/* F3 90 with REX.B is XCHG R8, RAX, which Zydis 4.0 takes for PAUSE: decode it without F3. */
static ZyanStatus correct_pause(const ZydisDecoder *decoder, const uint8_t *code, struct decoded *d)
{
    uint8_t without[INSN_MAX_LEN], length = d->zi.length;
    unsigned n = 0;
    ZyanStatus status;

    if (d->zi.mnemonic != ZYDIS_MNEMONIC_PAUSE ||
        !((d->zi.attributes & ZYDIS_ATTRIB_HAS_REX) && d->zi.raw.rex.B))
        return ZYAN_STATUS_SUCCESS;
    for (unsigned i = 0; i < length; i++)
        if (code[i] != 0xf3)
            without[n++] = code[i];
    status = ZydisDecoderDecodeFull(decoder, without, n, &d->zi, d->ops);
    d->zi.length = length;
    return status;
}

static enum decode_result decode(const struct cpu *cpu, const uint8_t *code, unsigned avail,
                                 struct decoded *d)
{
    ZydisDecoder decoder;
    ZyanStatus status;

    init_decoder(cpu, &decoder);
    memset(&d->in, 0, sizeof(*d) - sizeof d->ops - sizeof d->zi);
    d->in.base = d->in.index = REG_NONE;
    status = ZydisDecoderDecodeFull(&decoder, code, avail, &d->zi, d->ops);
    if (ZYAN_SUCCESS(status))
        status = correct_pause(&decoder, code, d);
    if (status == ZYDIS_STATUS_ILLEGAL_LOCK)
        status = decode_alternate_cr8(cpu, &decoder, code, avail, d);
    if (status == ZYDIS_STATUS_NO_MORE_DATA && !is_short_ud(cpu, code, avail))
        return avail < INSN_MAX_LEN ? DECODE_MORE : DECODE_TOO_LONG;
    if (status == ZYDIS_STATUS_INSTRUCTION_TOO_LONG)
        return DECODE_TOO_LONG;
    if (!ZYAN_SUCCESS(status)) {
        d->row = &illegal_row;
        return DECODE_OK;
    }
    describe(cpu, d);
    return DECODE_OK;
}

enum decode_result insn_decode(const struct cpu *cpu, const uint8_t *code, unsigned avail,
                               struct decoded *d)
{
    struct decode_cache *cache = cpu->decode_cache;
    enum decode_result result;
    struct insn_form form;

    if (!cache)
        return decode(cpu, code, avail, d);
    form = decode_form(cpu, code, avail);
    if (decode_cache_get(cache, &form, code, avail, d))
        return DECODE_OK;
    result = decode(cpu, code, avail, d);
    if (result == DECODE_OK && d->row->class != CLASS_ILLEGAL)
        decode_cache_put(cache, &form, d);
    return result;
}
