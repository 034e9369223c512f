/* cases.c - see cases.h: the registers, and what is special to some instructions. */
#include "cases.h"
#include "case_memory.h"
#include "segments.h"

#include <string.h>

static bool is_repeated(const struct decoded *d)
{
    return d->insn.attributes &
           (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE);
}

static void fill_gprs(struct test_case *c, struct rng *rng)
{
    for (unsigned i = 0; i < 16; i++)
        c->init.gpr[i] = rng_integer(rng, 64);
    if (c->mode == 64)
        return;
    for (unsigned i = 0; i < 8; i++)
        c->init.gpr[i] &= UINT32_MAX;
    memset(&c->init.gpr[8], 0, 8 * sizeof(c->init.gpr[0]));
}

static void fill_flags(struct test_case *c, struct rng *rng)
{
    uint64_t any = rng_u64(rng);

    c->init.rflags = (any & FLAGS_STATUS) | FLAG_IF | 2;
    if ((any >> 32 & 3) == 0)
        c->init.rflags |= FLAG_DF;
    if ((any >> 40 & 63) == 0)
        c->init.rflags |= FLAG_AC;
}

static void fill_vectors(struct test_case *c, const struct cpu_model *model, struct rng *rng)
{
    for (unsigned i = 0; i < 16; i++)
        rng_fill(rng, c->init.ymm[i].b, 32);
    if (c->mode != 64)
        memset(&c->init.ymm[8], 0, 8 * sizeof(c->init.ymm[0]));
    c->init.mxcsr = 0x1f80;
    if (rng_one_in(rng, 2)) /* rounding, FTZ, DAZ and flags */
        c->init.mxcsr |= rng_u64(rng) & 0xe07f;
    if (rng_one_in(rng, 12)) /* unmasked exceptions, whose flags are clear */
        c->init.mxcsr &= ~(uint32_t)(rng_u64(rng) & 0x1fbf);
    if (rng_one_in(rng, 16))
        c->init.mxcsr |= 0x20000; /* MM: misaligned operands are allowed (AMD) */
    c->init.mxcsr &= cpu_model_mxcsr_mask(model);
}

static void fill_x87(struct test_case *c, struct rng *rng)
{
    uint64_t any = rng_u64(rng);
    uint16_t fcw = 0x037f;
    uint16_t fsw = (uint16_t)(any & 0x7f7f);
    uint8_t ftw = (uint8_t)(any >> 16);

    if (any >> 32 & 1) /* precision and rounding control */
        fcw = (uint16_t)(0x7f | (any >> 24 & 0x0f00));
    if ((any >> 34 & 7) == 0) /* some exceptions unmasked */
        fcw &= (uint16_t) ~(any >> 40 & 0x3f);
    if ((any >> 37 & 3) == 0)
        ftw = 0xff;
    if ((any >> 39 & 7) == 0)
        ftw = 0;
    if (rng_one_in(rng, 8) && (fsw & ~fcw & 0x3f))
        fsw |= 0x8080; /* ES and B: an exception is pending */
    else
        fsw &= (uint16_t)(fcw | 0xffc0);
    memset(c->init.fx, 0, sizeof(c->init.fx));
    memcpy(c->init.fx, &fcw, 2);
    memcpy(c->init.fx + 2, &fsw, 2);
    c->init.fx[4] = ftw;
    for (unsigned i = 0; i < 8; i++)
        rng_extended(rng, c->init.fx + 32 + 16 * i);
    if (rng_one_in(rng, 3)) /* MMX values */
        for (unsigned i = 0; i < 8; i++)
            rng_fill(rng, c->init.fx + 32 + 16 * i, 8);
}

static uint16_t pick_data_selector(struct rng *rng)
{
    static const uint8_t indexes[] = {LDT_DATA32,    LDT_SHORT,         LDT_EXPAND_DOWN,
                                      LDT_READ_ONLY, LDT_EXECUTE_ONLY,  LDT_DATA16,
                                      LDT_CODE32,    LDT_DATA16_SHIFTED};
    unsigned at = rng_below(rng, 12);

    if (at < ARRAY_SIZE(indexes) && indexes[at] != LDT_EXECUTE_ONLY)
        return LDT_SEL(indexes[at]);
    return at == 8 ? 0 : LDT_SEL(LDT_DATA32);
}

static void fill_segments_legacy(struct test_case *c, struct rng *rng)
{
    unsigned usual = c->mode == 16 ? LDT_DATA16 : LDT_DATA32;
    uint16_t *sel = c->init.sel;

    sel[CS] = LDT_SEL(c->mode == 16 ? LDT_CODE16 : LDT_CODE32);
    sel[SS] = sel[DS] = sel[ES] = LDT_SEL(usual);
    if (rng_one_in(rng, 6))
        sel[DS] = pick_data_selector(rng);
    if (rng_one_in(rng, 6))
        sel[ES] = pick_data_selector(rng);
    if (rng_one_in(rng, 6))
        sel[SS] = LDT_SEL(rng_one_in(rng, 2)   ? LDT_SHORT
                          : rng_one_in(rng, 2) ? LDT_DATA16
                                               : LDT_DATA32);
    sel[FS] = pick_data_selector(rng);
    sel[GS] = pick_data_selector(rng);
    c->init.fs_base = segment_of_selector(sel[FS]).base;
    c->init.gs_base = segment_of_selector(sel[GS]).base;
}

static void fill_segments_64(struct test_case *c, struct rng *rng)
{
    uint16_t *sel = c->init.sel;

    sel[CS] = SEL_USER_CS;
    sel[SS] = SEL_USER_DS;
    sel[DS] = sel[ES] = sel[FS] = sel[GS] = 0;
    c->init.fs_base = (uint64_t)((int64_t)(rng_u64(rng) << 20) >> 20);
    c->init.gs_base = DATA_BASE - rng_below(rng, 0x10000);
    if (rng_one_in(rng, 4))
        c->init.fs_base = 0;
}

/* Values with which a division mostly has a quotient that fits. */
static void prepare_division(struct test_case *c, const struct decoded *d, struct rng *rng)
{
    uint64_t *gpr = c->init.gpr;

    if (rng_one_in(rng, 4))
        return;
    if (d->ops[0].size == 8) {
        gpr[RAX] = (gpr[RAX] & ~UINT64_C(0xffff)) | (rng_u64(rng) & 0x0fff);
        return;
    }
    gpr[RDX] = rng_one_in(rng, 2) ? rng_below(rng, 64) : 0;
    if (d->insn.mnemonic == ZYDIS_MNEMONIC_IDIV && rng_one_in(rng, 2)) {
        gpr[RAX] |= UINT64_C(0x8000000080008000);
        gpr[RDX] = c->mode == 64 ? UINT64_MAX : UINT32_MAX;
    }
}

/* A bit offset in a register reaches memory far away: keep it near. */
static void prepare_bit_test(struct test_case *c, const struct decoded *d, struct rng *rng)
{
    const ZydisDecodedOperand *op = &d->ops[1];

    if (op->type != ZYDIS_OPERAND_TYPE_REGISTER || rng_one_in(rng, 16))
        return;
    case_set_register(c, op->reg.value, (uint64_t)(int64_t)((int)rng_below(rng, 16384) - 8192));
}

/* The elements of a gather's index register. */
static void prepare_gather(struct test_case *c, const struct decoded *d, struct rng *rng)
{
    const char *name = ZydisMnemonicGetString(d->insn.mnemonic);
    union vec *index = &c->init.ymm[ZydisRegisterGetId(d->ops[1].mem.index) & 15];
    bool quad = strstr(name, "gatherq") || strstr(name, "GATHERQ");

    for (unsigned i = 0; i < 8; i++) {
        int64_t v = (int64_t)rng_below(rng, 512) - 256;

        if (quad && i < 4)
            index->q[i] = (uint64_t)v;
        else if (!quad)
            index->d[i] = (uint32_t)v;
    }
}

/* RCX of a repeated string instruction: few iterations where the engine doesn't stop after each. */
static void prepare_repeat(struct test_case *c, const struct decoded *d, struct rng *rng)
{
    static const ZydisRegister counters[] = {ZYDIS_REGISTER_CX, ZYDIS_REGISTER_ECX,
                                             ZYDIS_REGISTER_RCX};
    unsigned width = d->insn.address_width;

    c->max_steps = 64;
    if (c->trap && rng_one_in(rng, 3)) {
        c->max_steps = (uint16_t)(1 + rng_below(rng, 40));
        return;
    }
    case_set_register(c, counters[width == 64 ? 2 : width == 32], rng_below(rng, 40));
}

static bool is_xsave(const struct decoded *d)
{
    switch (d->insn.meta.isa_set) {
    case ZYDIS_ISA_SET_XSAVE:
    case ZYDIS_ISA_SET_XSAVEC:
    case ZYDIS_ISA_SET_XSAVEOPT: return d->insn.operand_count_visible == 1;
    default: return false;
    }
}

/* The components that both this host and the guest have: their areas have the same layout. */
static void prepare_xsave(struct test_case *c, struct rng *rng)
{
    c->init.gpr[RAX] =
        rng_one_in(rng, 8) ? c->init.gpr[RAX] & UINT64_C(0xffffffffffffff1f) : rng_below(rng, 8);
    c->init.gpr[RDX] = 0;
}

static bool loads_segment(const struct decoded *d)
{
    return (d->insn.mnemonic == ZYDIS_MNEMONIC_MOV || d->insn.mnemonic == ZYDIS_MNEMONIC_POP) &&
           d->ops[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
           ZydisRegisterGetClass(d->ops[0].reg.value) == ZYDIS_REGCLASS_SEGMENT;
}

/* Instructions that see TF, or delay the trap that TF causes. */
bool case_needs_trap(const struct decoded *d)
{
    switch (d->insn.mnemonic) {
    case ZYDIS_MNEMONIC_PUSHF:
    case ZYDIS_MNEMONIC_PUSHFD:
    case ZYDIS_MNEMONIC_PUSHFQ:
    case ZYDIS_MNEMONIC_INT1:
    case ZYDIS_MNEMONIC_INT3:
    case ZYDIS_MNEMONIC_INT:
    case ZYDIS_MNEMONIC_INTO: return true;
    default: return loads_segment(d);
    }
}

static void prepare_special(struct test_case *c, const struct decoded *d, struct rng *rng)
{
    switch (d->insn.mnemonic) {
    case ZYDIS_MNEMONIC_DIV:
    case ZYDIS_MNEMONIC_IDIV: prepare_division(c, d, rng); break;
    case ZYDIS_MNEMONIC_BT:
    case ZYDIS_MNEMONIC_BTS:
    case ZYDIS_MNEMONIC_BTR:
    case ZYDIS_MNEMONIC_BTC: prepare_bit_test(c, d, rng); break;
    case ZYDIS_MNEMONIC_XSAVE:
    case ZYDIS_MNEMONIC_XSAVE64:
    case ZYDIS_MNEMONIC_XSAVEC:
    case ZYDIS_MNEMONIC_XSAVEC64:
    case ZYDIS_MNEMONIC_XSAVEOPT:
    case ZYDIS_MNEMONIC_XSAVEOPT64:
    case ZYDIS_MNEMONIC_XRSTOR:
    case ZYDIS_MNEMONIC_XRSTOR64: prepare_xsave(c, rng); break;
    case ZYDIS_MNEMONIC_PUNPCKLBW:
    case ZYDIS_MNEMONIC_PUNPCKLWD:
    case ZYDIS_MNEMONIC_PUNPCKLDQ:
    case ZYDIS_MNEMONIC_PUNPCKLQDQ:
    case ZYDIS_MNEMONIC_UNPCKLPS:
    case ZYDIS_MNEMONIC_UNPCKLPD:
    case ZYDIS_MNEMONIC_PSLLW:
    case ZYDIS_MNEMONIC_PSLLD:
    case ZYDIS_MNEMONIC_PSLLQ:
    case ZYDIS_MNEMONIC_PSRLW:
    case ZYDIS_MNEMONIC_PSRLD:
    case ZYDIS_MNEMONIC_PSRLQ:
    case ZYDIS_MNEMONIC_PSRAW:
    case ZYDIS_MNEMONIC_PSRAD:
        /* How much of the operand is read beyond the low half depends on the implementation (SDM
         * vol. 2): with MXCSR.MM that shows at the end of a page. */
        c->init.mxcsr &= ~0x20000u;
        break;
    case ZYDIS_MNEMONIC_FXSAVE:
    case ZYDIS_MNEMONIC_FXSAVE64:
    case ZYDIS_MNEMONIC_FXRSTOR:
    case ZYDIS_MNEMONIC_FXRSTOR64:
    case ZYDIS_MNEMONIC_MASKMOVQ:
    case ZYDIS_MNEMONIC_MASKMOVDQU:
    case ZYDIS_MNEMONIC_VMASKMOVDQU:
        /* Whether a misaligned operand gives #AC or #GP is up to the implementation (SDM vol. 2).
         */
        c->init.rflags &= ~(uint64_t)FLAG_AC;
        break;
    case ZYDIS_MNEMONIC_CLZERO:
        c->init.gpr[RAX] = DATA_BASE + rng_below(rng, DATA_SIZE + 0x1000);
        break;
    case ZYDIS_MNEMONIC_ENTER:
    case ZYDIS_MNEMONIC_LEAVE:
        case_set_register(c, ZYDIS_REGISTER_RBP,
                          DATA_BASE + 0x800 + rng_below(rng, 0x1000) -
                              segment_of_selector(c->init.sel[SS]).base);
        break;
    default: break;
    }
    if (d->insn.operand_count > 1 && d->ops[1].type == ZYDIS_OPERAND_TYPE_MEMORY &&
        d->ops[1].mem.type == ZYDIS_MEMOP_TYPE_VSIB)
        prepare_gather(c, d, rng);
    c->max_steps = 1;
    if (is_repeated(d))
        prepare_repeat(c, d, rng);
}

/* A selector in a register, for instructions that look at descriptors. */
static void prepare_selectors(struct test_case *c, const struct decoded *d, struct rng *rng)
{
    const ZydisDecodedOperand *op;

    if (!case_takes_selector(d))
        return;
    for (unsigned i = 0; i < d->insn.operand_count_visible; i++) {
        op = &d->ops[i];
        if (op->type == ZYDIS_OPERAND_TYPE_REGISTER &&
            op->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM)
            case_set_register(c, op->reg.value,
                              case_pick_selector(c->mode, rng) |
                                  (rng_u64(rng) & ~UINT64_C(0xffff)));
    }
}

void case_randomize(struct test_case *c, const struct decoded *d, const struct cpu_model *model,
                    struct rng *rng)
{
    c->trap = !c->whole && (case_needs_trap(d) || rng_one_in(rng, 4));
    c->patch_count = c->pool_used = 0;
    fill_gprs(c, rng);
    fill_flags(c, rng);
    fill_vectors(c, model, rng);
    fill_x87(c, rng);
    if (c->mode == 64)
        fill_segments_64(c, rng);
    else
        fill_segments_legacy(c, rng);
    c->init.rip = CODE_BASE + c->offset - case_code_base(c);
    prepare_special(c, d, rng);
    prepare_selectors(c, d, rng);
    case_fill_memory(c, d, rng);
    /* AMD's processors push the return address of a far CALL as the target's mode would: from
     * 64-bit to compatibility mode at ESP. */
    if (d->insn.mnemonic == ZYDIS_MNEMONIC_CALL &&
        d->insn.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
        c->init.gpr[RSP] &= UINT32_MAX;
    if (is_xsave(d)) /* also if RAX addresses the operand */
        c->init.gpr[RAX] &= ~(uint64_t)0xe0;
}
