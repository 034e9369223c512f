/* decoder.c - see decoder.h. */
#include "decoder.h"

#include <ctype.h>
#include <stdarg.h>
#include <string.h>

void decoder_init(ZydisDecoder *decoder, const struct cpu_model *model, unsigned mode)
{
    static const ZydisMachineMode machine[] = {
        ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_MACHINE_MODE_LONG_64};
    static const ZydisStackWidth width[] = {ZYDIS_STACK_WIDTH_16, ZYDIS_STACK_WIDTH_32,
                                            ZYDIS_STACK_WIDTH_64};
    unsigned index = mode == 64 ? 2 : mode == 32;

    ZydisDecoderInit(decoder, machine[index], width[index]);
    ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_AMD_BRANCHES, cpu_model_is_amd(model));
    ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
    ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
    ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
    ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_LZCNT, cpu_model_has(model, FEAT_ABM));
    ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_TZCNT, cpu_model_has(model, FEAT_BMI1));
    ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_WBNOINVD,
                           cpu_model_has(model, FEAT_WBNOINVD));
}

/* SIB with base 101b and mod 00b has no base, whatever REX.B says; Zydis 4.0 forgets that when the
 * address size is 32 bits. */
static void correct_sib_base(struct decoded *d)
{
    if (!(d->insn.attributes & ZYDIS_ATTRIB_HAS_SIB) || d->insn.raw.modrm.mod != 0 ||
        d->insn.raw.sib.base != 5)
        return;
    for (unsigned i = 0; i < d->insn.operand_count; i++) {
        ZydisDecodedOperand *op = &d->ops[i];

        if (op->type != ZYDIS_OPERAND_TYPE_MEMORY ||
            op->encoding != ZYDIS_OPERAND_ENCODING_MODRM_RM)
            continue;
        op->mem.base = ZYDIS_REGISTER_NONE;
        op->mem.disp.has_displacement = ZYAN_TRUE;
        op->mem.disp.value = d->insn.raw.disp.value;
    }
}

bool decoder_decode(const ZydisDecoder *decoder, const uint8_t *bytes, unsigned len,
                    struct decoded *out)
{
    if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(decoder, bytes, len, &out->insn, out->ops)))
        return false;
    correct_sib_base(out);
    return true;
}

/* Which feature of the model an instruction set of Zydis needs; sets that aren't here are never
 * advertised. */
static const struct {
    uint16_t set;
    uint16_t feature;
} set_features[] = {
    {ZYDIS_ISA_SET_ADOX_ADCX, FEAT_ADX},
    {ZYDIS_ISA_SET_AES, FEAT_AES},
    {ZYDIS_ISA_SET_AMD, FEAT_SYSCALL},
    {ZYDIS_ISA_SET_AVX, FEAT_AVX},
    {ZYDIS_ISA_SET_AVX2, FEAT_AVX2},
    {ZYDIS_ISA_SET_AVX2GATHER, FEAT_AVX2},
    {ZYDIS_ISA_SET_AVXAES, FEAT_AVX},
    {ZYDIS_ISA_SET_AVX_GFNI, FEAT_GFNI},
    {ZYDIS_ISA_SET_AVX_VNNI, FEAT_AVX_VNNI},
    {ZYDIS_ISA_SET_BMI1, FEAT_BMI1},
    {ZYDIS_ISA_SET_BMI2, FEAT_BMI2},
    {ZYDIS_ISA_SET_CLFLUSHOPT, FEAT_CLFLUSHOPT},
    {ZYDIS_ISA_SET_CLFSH, FEAT_CLFLUSH},
    {ZYDIS_ISA_SET_CLWB, FEAT_CLWB},
    {ZYDIS_ISA_SET_CLZERO, FEAT_CLZERO},
    {ZYDIS_ISA_SET_CMOV, FEAT_CMOV},
    {ZYDIS_ISA_SET_CMPXCHG16B, FEAT_CX16},
    {ZYDIS_ISA_SET_F16C, FEAT_F16C},
    {ZYDIS_ISA_SET_FAT_NOP, FEAT_NONE},
    {ZYDIS_ISA_SET_FCMOV, FEAT_CMOV},
    {ZYDIS_ISA_SET_FMA, FEAT_FMA},
    {ZYDIS_ISA_SET_FXSAVE, FEAT_FXSR},
    {ZYDIS_ISA_SET_FXSAVE64, FEAT_FXSR},
    {ZYDIS_ISA_SET_GFNI, FEAT_GFNI},
    {ZYDIS_ISA_SET_I186, FEAT_NONE},
    {ZYDIS_ISA_SET_I286PROTECTED, FEAT_NONE},
    {ZYDIS_ISA_SET_I286REAL, FEAT_NONE},
    {ZYDIS_ISA_SET_I386, FEAT_NONE},
    {ZYDIS_ISA_SET_I486, FEAT_NONE},
    {ZYDIS_ISA_SET_I486REAL, FEAT_NONE},
    {ZYDIS_ISA_SET_I86, FEAT_NONE},
    {ZYDIS_ISA_SET_INVPCID, FEAT_INVPCID},
    {ZYDIS_ISA_SET_LAHF, FEAT_LAHF_LM},
    {ZYDIS_ISA_SET_LONGMODE, FEAT_NONE},
    {ZYDIS_ISA_SET_LZCNT, FEAT_ABM},
    {ZYDIS_ISA_SET_MONITOR, FEAT_MONITOR},
    {ZYDIS_ISA_SET_MOVBE, FEAT_MOVBE},
    {ZYDIS_ISA_SET_PAUSE, FEAT_NONE},
    {ZYDIS_ISA_SET_PCLMULQDQ, FEAT_PCLMULQDQ},
    {ZYDIS_ISA_SET_PENTIUMMMX, FEAT_MMX},
    {ZYDIS_ISA_SET_PENTIUMREAL, FEAT_NONE},
    {ZYDIS_ISA_SET_POPCNT, FEAT_POPCNT},
    {ZYDIS_ISA_SET_PPRO, FEAT_NONE},
    {ZYDIS_ISA_SET_PREFETCH_NOP, FEAT_PREFETCHW},
    {ZYDIS_ISA_SET_PREFETCHWT1, FEAT_PREFETCHW},
    {ZYDIS_ISA_SET_RDPID, FEAT_RDPID},
    {ZYDIS_ISA_SET_RDPMC, FEAT_NONE},
    {ZYDIS_ISA_SET_RDRAND, FEAT_RDRAND},
    {ZYDIS_ISA_SET_RDSEED, FEAT_RDSEED},
    {ZYDIS_ISA_SET_RDTSCP, FEAT_RDTSCP},
    {ZYDIS_ISA_SET_RDWRFSGS, FEAT_FSGSBASE},
    {ZYDIS_ISA_SET_SHA, FEAT_SHA_NI},
    {ZYDIS_ISA_SET_SMAP, FEAT_SMAP},
    {ZYDIS_ISA_SET_SSE, FEAT_SSE},
    {ZYDIS_ISA_SET_SSE2, FEAT_SSE2},
    {ZYDIS_ISA_SET_SSE2MMX, FEAT_SSE2},
    {ZYDIS_ISA_SET_SSE3, FEAT_SSE3},
    {ZYDIS_ISA_SET_SSE3X87, FEAT_SSE3},
    {ZYDIS_ISA_SET_SSE4, FEAT_SSE4_1},
    {ZYDIS_ISA_SET_SSE42, FEAT_SSE4_2},
    {ZYDIS_ISA_SET_SSE4A, FEAT_SSE4A},
    {ZYDIS_ISA_SET_SSEMXCSR, FEAT_SSE},
    {ZYDIS_ISA_SET_SSE_PREFETCH, FEAT_SSE},
    {ZYDIS_ISA_SET_SSSE3, FEAT_SSSE3},
    {ZYDIS_ISA_SET_SSSE3MMX, FEAT_SSSE3},
    {ZYDIS_ISA_SET_VAES, FEAT_VAES},
    {ZYDIS_ISA_SET_VPCLMULQDQ, FEAT_VPCLMULQDQ},
    {ZYDIS_ISA_SET_X87, FEAT_FPU},
    {ZYDIS_ISA_SET_XSAVE, FEAT_XSAVE},
    {ZYDIS_ISA_SET_XSAVEC, FEAT_XSAVEC},
    {ZYDIS_ISA_SET_XSAVEOPT, FEAT_XSAVEOPT},
    {ZYDIS_ISA_SET_XSAVES, FEAT_XSAVES},
};

static bool has_set(const struct cpu_model *model, ZydisISASet set)
{
    for (unsigned i = 0; i < ARRAY_SIZE(set_features); i++)
        if (set_features[i].set == set)
            return set_features[i].feature == FEAT_NONE ||
                   cpu_model_has(model, (enum cpu_feature)set_features[i].feature);
    return false;
}

enum tested decoder_tested(const struct cpu_model *model, const struct decoded *d)
{
    switch (d->insn.mnemonic) {
    case ZYDIS_MNEMONIC_SYSCALL:
    case ZYDIS_MNEMONIC_SYSENTER:
    case ZYDIS_MNEMONIC_VMCALL:
    case ZYDIS_MNEMONIC_VMMCALL:
    case ZYDIS_MNEMONIC_XBEGIN: return TESTED_NOT;
    case ZYDIS_MNEMONIC_INT: return d->ops[0].imm.value.u == 0x80 ? TESTED_NOT : TESTED_YES;
    case ZYDIS_MNEMONIC_VAESENC:
    case ZYDIS_MNEMONIC_VAESENCLAST:
    case ZYDIS_MNEMONIC_VAESDEC:
    case ZYDIS_MNEMONIC_VAESDECLAST:
    case ZYDIS_MNEMONIC_VAESIMC:
    case ZYDIS_MNEMONIC_VAESKEYGENASSIST:
        if (!cpu_model_has(model, FEAT_AES))
            return TESTED_ABSENT;
        break;
    default: break;
    }
    if (d->insn.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX ||
        d->insn.encoding == ZYDIS_INSTRUCTION_ENCODING_MVEX)
        return TESTED_ABSENT;
    return has_set(model, d->insn.meta.isa_set) ? TESTED_YES : TESTED_ABSENT;
}

struct text {
    char *p;
    size_t left;
};

static void PRINTF_LIKE(2, 3) append(struct text *t, const char *fmt, ...)
{
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(t->p, t->left, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= t->left)
        n = t->left ? (int)t->left - 1 : 0;
    t->p += n;
    t->left -= (size_t)n;
}

static void append_register(struct text *t, const ZydisDecodedOperand *op)
{
    bool rm = op->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM;

    if (op->encoding == ZYDIS_OPERAND_ENCODING_NONE) {
        append(t, "%s", ZydisRegisterGetString(op->reg.value));
        return;
    }
    switch (ZydisRegisterGetClass(op->reg.value)) {
    case ZYDIS_REGCLASS_GPR8:
    case ZYDIS_REGCLASS_GPR16:
    case ZYDIS_REGCLASS_GPR32:
    case ZYDIS_REGCLASS_GPR64: append(t, rm ? "r/m%u" : "r%u", op->size); break;
    case ZYDIS_REGCLASS_X87: append(t, "st(i)"); break;
    case ZYDIS_REGCLASS_MMX: append(t, rm ? "mm/m" : "mm"); break;
    case ZYDIS_REGCLASS_XMM: append(t, rm ? "xmm/m" : "xmm"); break;
    case ZYDIS_REGCLASS_YMM: append(t, rm ? "ymm/m" : "ymm"); break;
    case ZYDIS_REGCLASS_SEGMENT: append(t, "sreg"); break;
    case ZYDIS_REGCLASS_CONTROL: append(t, "cr"); break;
    case ZYDIS_REGCLASS_DEBUG: append(t, "dr"); break;
    default: append(t, "reg"); break;
    }
}

static void append_memory(struct text *t, const ZydisDecodedOperand *op)
{
    if (op->mem.type == ZYDIS_MEMOP_TYPE_VSIB)
        append(t, "vm%s", ZydisRegisterGetClass(op->mem.index) == ZYDIS_REGCLASS_YMM ? "y" : "x");
    else if (op->encoding == ZYDIS_OPERAND_ENCODING_NONE)
        append(t, "[%s]%u", ZydisRegisterGetString(op->mem.base), op->size);
    else if (op->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM)
        append(t, "m%u", op->size);
    else
        append(t, "moffs%u", op->size);
}

static void append_operand(struct text *t, const ZydisDecodedOperand *op,
                           const ZydisDecodedInstruction *insn)
{
    switch (op->type) {
    case ZYDIS_OPERAND_TYPE_REGISTER: append_register(t, op); break;
    case ZYDIS_OPERAND_TYPE_MEMORY: append_memory(t, op); break;
    case ZYDIS_OPERAND_TYPE_POINTER: append(t, "ptr16:%u", insn->operand_width); break;
    default:
        if (op->encoding == ZYDIS_OPERAND_ENCODING_NONE)
            append(t, "%u", (unsigned)op->imm.value.u);
        else
            append(t, op->imm.is_relative ? "rel%u" : "imm%u",
                   op->encoding == ZYDIS_OPERAND_ENCODING_IS4 ? 8 : insn->raw.imm[0].size);
    }
}

static bool has_rm_operand(const struct decoded *d)
{
    for (unsigned i = 0; i < d->insn.operand_count; i++)
        if (d->ops[i].encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM)
            return true;
    return false;
}

void decoder_form_name(const struct decoded *d, char *out, size_t size)
{
    struct text t = {out, size};
    const char *name = ZydisMnemonicGetString(d->insn.mnemonic);

    if (d->insn.attributes & ZYDIS_ATTRIB_HAS_LOCK)
        append(&t, "LOCK ");
    if (d->insn.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE))
        append(&t, "REP ");
    if (d->insn.attributes & ZYDIS_ATTRIB_HAS_REPNE)
        append(&t, "REPNE ");
    for (; name && *name; name++)
        append(&t, "%c", toupper((unsigned char)*name));
    for (unsigned i = 0; i < d->insn.operand_count_visible; i++) {
        append(&t, i ? ", " : " ");
        append_operand(&t, &d->ops[i], &d->insn);
    }
    /* operand size where no operand shows it: PUSHF, LODSW, CBW */
    if (d->insn.operand_count_visible == 0 && d->insn.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY)
        append(&t, " /%u", d->insn.operand_width);
    if (has_rm_operand(d))
        append(&t, d->insn.raw.modrm.mod == 3 ? " [reg]" : " [mem]");
}

void decoder_text(const struct decoded *d, char *out, size_t size)
{
    ZydisFormatter formatter;

    ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
    if (!ZYAN_SUCCESS(ZydisFormatterFormatInstruction(&formatter, &d->insn, d->ops,
                                                      d->insn.operand_count_visible, out, size,
                                                      ZYDIS_RUNTIME_ADDRESS_NONE, NULL)))
        snprintf(out, size, "?");
}
