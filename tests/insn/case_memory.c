/* case_memory.c - see case_memory.h, and case_place() in cases.h. */
#include "case_memory.h"
#include "segments.h"

#include <string.h>

static unsigned register_width(ZydisRegister reg)
{
    switch (ZydisRegisterGetClass(reg)) {
    case ZYDIS_REGCLASS_GPR8: return 8;
    case ZYDIS_REGCLASS_GPR16: return 16;
    case ZYDIS_REGCLASS_GPR32: return 32;
    case ZYDIS_REGCLASS_GPR64: return 64;
    default: return 0;
    }
}

static uint64_t width_mask(unsigned width)
{
    return width >= 64 ? UINT64_MAX : (UINT64_C(1) << width) - 1;
}

static bool is_gpr(ZydisRegister reg)
{
    return register_width(reg) >= 16;
}

static uint64_t get_register(const struct test_case *c, ZydisRegister reg)
{
    unsigned width = register_width(reg);

    return width ? c->init.gpr[ZydisRegisterGetId(reg) & 15] & width_mask(width) : 0;
}

void case_set_register(struct test_case *c, ZydisRegister reg, uint64_t value)
{
    unsigned width = register_width(reg);
    uint64_t mask = width_mask(c->mode != 64 && width > 32 ? 32 : width);
    uint64_t *gpr = &c->init.gpr[ZydisRegisterGetId(reg) & 15];

    if (width < 16)
        return;
    *gpr = (*gpr & ~mask) | (value & mask);
}

uint16_t case_pick_selector(unsigned mode, struct rng *rng)
{
    static const uint16_t others[] = {0,           1,    2,    3,     SEL_USER_CS32, SEL_USER_DS,
                                      SEL_USER_CS, 0x10, 0x18, 0x5ff, 0xfff8,        0x4007};
    unsigned pick = rng_below(rng, 2 * LDT_COUNT);

    if (pick < LDT_COUNT)
        return rng_one_in(rng, 8) ? LDT_SEL(pick) & 0xfffc : LDT_SEL(pick);
    pick = rng_one_in(rng, 2) ? LDT_SEL(LDT_DATA32) : others[rng_below(rng, ARRAY_SIZE(others))];
    /* Not from 16- and 32-bit code to 64-bit code: with a 16-bit stack the upper half of RSP, which
     * shows then, points into the host's kernel, and the run never ends. */
    return pick == SEL_USER_CS && mode != 64 ? SEL_USER_CS32 : (uint16_t)pick;
}

bool case_takes_selector(const struct decoded *d)
{
    switch (d->insn.mnemonic) {
    case ZYDIS_MNEMONIC_LAR:
    case ZYDIS_MNEMONIC_LSL:
    case ZYDIS_MNEMONIC_VERR:
    case ZYDIS_MNEMONIC_VERW:
    case ZYDIS_MNEMONIC_LDS:
    case ZYDIS_MNEMONIC_LES:
    case ZYDIS_MNEMONIC_LFS:
    case ZYDIS_MNEMONIC_LGS:
    case ZYDIS_MNEMONIC_LSS:
    case ZYDIS_MNEMONIC_IRET:
    case ZYDIS_MNEMONIC_IRETD:
    case ZYDIS_MNEMONIC_IRETQ: return true;
    case ZYDIS_MNEMONIC_RET:
    case ZYDIS_MNEMONIC_CALL:
    case ZYDIS_MNEMONIC_JMP: return d->insn.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR;
    case ZYDIS_MNEMONIC_MOV:
    case ZYDIS_MNEMONIC_POP:
        return d->ops[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
               ZydisRegisterGetClass(d->ops[0].reg.value) == ZYDIS_REGCLASS_SEGMENT;
    default: return false;
    }
}

uint64_t case_pick_target(const struct test_case *c, unsigned size, struct rng *rng)
{
    unsigned align = size >= 64 ? 64 : size >= 32 ? 32 : size >= 16 ? 16 : size ? size : 1;
    uint64_t span = DATA_WRITABLE * PAGE_SIZE - size;
    uint64_t at = DATA_BASE + rng_below(rng, (uint32_t)span);

    switch (rng_below(rng, 40)) {
    case 0:
    case 1: return at; /* any alignment */
    case 2:            /* across the boundary of two writable pages */
        return DATA_BASE + PAGE_SIZE - rng_below(rng, size + 1);
    case 3: return DATA_WRITABLE_END - rng_below(rng, size + 1); /* ... of writable, read-only */
    case 4: return DATA_WRITABLE_END + rng_below(rng, PAGE_SIZE) / align * align; /* read-only */
    case 5: return DATA_END - rng_below(rng, size + 8);      /* the end of what is mapped */
    case 6: return DATA_BASE - rng_below(rng, 2 * size + 1); /* the begin */
    case 7:
        if (c->mode == 64 && rng_one_in(rng, 3)) /* a page that an engine may take for "none" */
            return (UINT64_C(1) << 63) + rng_below(rng, PAGE_SIZE) / align * align;
        if (c->mode == 64 && rng_one_in(rng, 2))
            /* the end of what is canonical */
            return (UINT64_C(1) << 47) - (size > 8 ? 4 * size : rng_below(rng, 64));
        return c->mode == 64 && rng_one_in(rng, 2) ? rng_u64(rng) | UINT64_C(1) << 62
                                                   : rng_below(rng, 0x8000);
    default: return DATA_BASE + (at - DATA_BASE) / align * align;
    }
}

static enum seg operand_segment(const ZydisDecodedOperand *op)
{
    switch (op->mem.segment) {
    case ZYDIS_REGISTER_ES: return ES;
    case ZYDIS_REGISTER_CS: return CS;
    case ZYDIS_REGISTER_SS: return SS;
    case ZYDIS_REGISTER_FS: return FS;
    case ZYDIS_REGISTER_GS: return GS;
    default: return DS;
    }
}

static uint64_t segment_base(const struct test_case *c, enum seg seg)
{
    if (seg == FS)
        return c->init.fs_base;
    if (seg == GS)
        return c->init.gs_base;
    return c->mode == 64 ? 0 : segment_of_selector(c->init.sel[seg]).base;
}

/* The stack, which is as wide as SS says whatever the address size of the instruction is. */
static bool is_stack(const ZydisDecodedOperand *op)
{
    return op->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN && is_gpr(op->mem.base) &&
           ZydisRegisterGetId(op->mem.base) == RSP;
}

static uint64_t reach_stack(struct test_case *c, uint64_t target)
{
    bool wide = segment_of_selector(c->init.sel[SS]).attr & SEG_DB;
    ZydisRegister sp = c->mode == 64 ? ZYDIS_REGISTER_RSP
                       : wide        ? ZYDIS_REGISTER_ESP
                                     : ZYDIS_REGISTER_SP;
    uint64_t base = segment_base(c, SS);

    case_set_register(c, sp, target - base);
    return base + get_register(c, sp);
}

/* Sets what the address is made of so that it is `target`; gives what it really is then. */
static uint64_t reach(struct test_case *c, const struct decoded *d, const ZydisDecodedOperand *op,
                      uint64_t target)
{
    enum seg seg = operand_segment(op);
    uint64_t base = segment_base(c, seg);
    uint64_t disp = op->mem.disp.has_displacement ? (uint64_t)op->mem.disp.value : 0;
    uint64_t scale = op->mem.scale ? op->mem.scale : 1;
    uint64_t index =
        op->mem.type == ZYDIS_MEMOP_TYPE_VSIB ? 0 : get_register(c, op->mem.index) * scale;

    if (is_stack(op))
        return reach_stack(c, target);
    if (op->mem.base == ZYDIS_REGISTER_RIP || op->mem.base == ZYDIS_REGISTER_EIP)
        return CODE_BASE + c->offset + d->insn.length + disp + (seg >= FS ? base : 0);
    if (is_gpr(op->mem.base) && op->mem.base != op->mem.index)
        case_set_register(c, op->mem.base, target - base - disp - index);
    else if (is_gpr(op->mem.base))
        case_set_register(c, op->mem.base, (target - base - disp) / (scale + 1));
    else if (is_gpr(op->mem.index))
        case_set_register(c, op->mem.index, (target - base - disp) / scale);
    else if (c->mode == 64 && seg == FS)
        c->init.fs_base = (uint64_t)((int64_t)((target - disp) << 16) >> 16);
    if (op->mem.type != ZYDIS_MEMOP_TYPE_VSIB)
        index = get_register(c, op->mem.index) * scale;
    return segment_base(c, seg) +
           ((get_register(c, op->mem.base) + index + disp) & width_mask(d->insn.address_width));
}

static void add_patch(struct test_case *c, uint64_t address, const uint8_t *bytes, unsigned len)
{
    struct patch *p = &c->patches[c->patch_count];

    if (address < DATA_BASE || address >= DATA_END || c->patch_count == MAX_PATCHES)
        return;
    if (len > DATA_END - address)
        len = (unsigned)(DATA_END - address);
    if (len > PATCH_POOL - c->pool_used)
        return;
    *p = (struct patch){(uint32_t)(address - DATA_BASE), len, c->pool_used};
    memcpy(c->pool + c->pool_used, bytes, len);
    c->pool_used += len;
    c->patch_count++;
}

/* An XSAVE or FXSAVE image that is mostly valid. */
static void make_fx_image(struct rng *rng, uint8_t *out, unsigned len)
{
    uint32_t mxcsr = rng_one_in(rng, 16) ? (uint32_t)rng_u64(rng) : rng_u64(rng) & 0xffff;

    for (unsigned i = 0; i < len; i += 64)
        rng_fill(rng, out + i, 64);
    memcpy(out + 24, &mxcsr, 4);
    if (len <= 512)
        return;
    memset(out + 512, 0, 64);
    out[512] = (uint8_t)rng_below(rng, 8);
    if (rng_one_in(rng, 4)) {
        out[520] = (uint8_t)rng_below(rng, 8) | out[512]; /* XCOMP_BV: compacted */
        out[527] = 0x80;
    }
    if (rng_one_in(rng, 12))
        out[512 + rng_below(rng, 64)] = (uint8_t)rng_u64(rng);
    out[512] &= 0x1f; /* AVX-512's components, which the host may have and the guest has not */
    out[520] &= 0x1f;
}

static bool is_fx_load(ZydisMnemonic mnemonic)
{
    return mnemonic == ZYDIS_MNEMONIC_FXRSTOR || mnemonic == ZYDIS_MNEMONIC_FXRSTOR64 ||
           mnemonic == ZYDIS_MNEMONIC_XRSTOR || mnemonic == ZYDIS_MNEMONIC_XRSTOR64;
}

/* Far pointers have the selector behind the offset, IRET's frame and POP sreg in an element. */
static void put_selectors(const struct test_case *c, const struct decoded *d, struct rng *rng,
                          uint8_t *out)
{
    unsigned element = d->insn.operand_width / 8;
    uint16_t sel = case_pick_selector(c->mode, rng);
    uint32_t flags = (uint32_t)rng_u64(rng) & ~FLAG_VM;

    /* With another RPL, AMD's processors read the outer stack's frame before they check it. */
    if (d->insn.mnemonic == ZYDIS_MNEMONIC_RET)
        sel |= 3;

    memcpy(out + (d->insn.mnemonic == ZYDIS_MNEMONIC_POP ? 0 : element), &sel, 2);
    if (d->insn.mnemonic == ZYDIS_MNEMONIC_IRET || d->insn.mnemonic == ZYDIS_MNEMONIC_IRETD ||
        d->insn.mnemonic == ZYDIS_MNEMONIC_IRETQ) {
        flags |= FLAG_TF; /* else nothing would stop the native run */
        sel = case_pick_selector(c->mode, rng) | 3;
        memcpy(out + element, &sel, 2);
        memcpy(out + 2 * element, &flags, element < 4 ? 2 : 4);
        sel = case_pick_selector(c->mode, rng);
        memcpy(out + 4 * element, &sel, 2);
    }
    if (d->insn.mnemonic == ZYDIS_MNEMONIC_VERR || d->insn.mnemonic == ZYDIS_MNEMONIC_VERW ||
        d->insn.mnemonic == ZYDIS_MNEMONIC_LAR || d->insn.mnemonic == ZYDIS_MNEMONIC_LSL ||
        d->insn.mnemonic == ZYDIS_MNEMONIC_MOV)
        memcpy(out, &sel, 2);
}

/* Makes the comparison of CMPXCHG succeed every other time. */
static void put_accumulator(const struct test_case *c, const struct decoded *d, struct rng *rng,
                            uint8_t *out)
{
    unsigned half = d->ops[0].size / 16;

    if (rng_one_in(rng, 2))
        return;
    if (d->insn.mnemonic == ZYDIS_MNEMONIC_CMPXCHG)
        memcpy(out, &c->init.gpr[RAX], 8);
    if (d->insn.mnemonic == ZYDIS_MNEMONIC_CMPXCHG8B ||
        d->insn.mnemonic == ZYDIS_MNEMONIC_CMPXCHG16B) {
        memcpy(out, &c->init.gpr[RAX], half);
        memcpy(out + half, &c->init.gpr[RDX], half);
    }
}

static void fill_target(struct test_case *c, const struct decoded *d, uint64_t address,
                        unsigned size, struct rng *rng)
{
    uint8_t bytes[1024];
    unsigned len = size > 64 ? 128 : 64;

    if (is_fx_load(d->insn.mnemonic)) {
        len = d->insn.mnemonic == ZYDIS_MNEMONIC_FXRSTOR ||
                      d->insn.mnemonic == ZYDIS_MNEMONIC_FXRSTOR64
                  ? 512
                  : 896;
        make_fx_image(rng, bytes, len);
    } else {
        rng_fill(rng, bytes, len);
        if (case_takes_selector(d))
            put_selectors(c, d, rng, bytes);
        put_accumulator(c, d, rng, bytes);
    }
    add_patch(c, address, bytes, len);
}

void case_fill_memory(struct test_case *c, const struct decoded *d, struct rng *rng)
{
    c->operand = 0;
    for (unsigned i = 0; i < d->insn.operand_count; i++) {
        const ZydisDecodedOperand *op = &d->ops[i];
        unsigned size = op->size / 8;
        uint64_t address;

        if (op->type != ZYDIS_OPERAND_TYPE_MEMORY)
            continue;
        if (is_fx_load(d->insn.mnemonic) || size > 512)
            size = 1024;
        address = reach(c, d, op, case_pick_target(c, size, rng));
        if (op->visibility != ZYDIS_OPERAND_VISIBILITY_HIDDEN)
            c->operand = address;
        fill_target(c, d, address, size, rng);
    }
}

/* Puts a displacement of `size` bytes into the instruction. */
static void set_disp(struct test_case *c, const struct decoded *d, uint64_t value)
{
    if (d->insn.raw.disp.size >= 16)
        memcpy(c->bytes + d->insn.raw.disp.offset, &value, d->insn.raw.disp.size / 8);
}

static void set_far_pointer(struct test_case *c, const struct decoded *d, struct rng *rng)
{
    uint16_t sel = case_pick_selector(c->mode, rng);

    memcpy(c->bytes + d->insn.length - 2, &sel, 2);
}

static void repair_disp(struct test_case *c, const struct decoded *d, struct rng *rng)
{
    for (unsigned i = 0; i < d->insn.operand_count; i++) {
        const ZydisDecodedOperand *op = &d->ops[i];
        uint64_t target = DATA_BASE + rng_below(rng, DATA_SIZE) / 16 * 16;

        if (op->type != ZYDIS_OPERAND_TYPE_MEMORY || op->mem.type == ZYDIS_MEMOP_TYPE_VSIB)
            continue;
        if (op->mem.base == ZYDIS_REGISTER_RIP || op->mem.base == ZYDIS_REGISTER_EIP)
            set_disp(c, d, target - (CODE_BASE + c->offset + d->insn.length));
        else if (op->mem.base == ZYDIS_REGISTER_NONE && op->mem.index == ZYDIS_REGISTER_NONE)
            set_disp(c, d,
                     d->insn.address_width == 16 || c->mode == 16 ? target - (DATA_BASE - 0x8000)
                                                                  : target);
    }
}

void case_place(struct test_case *c, const struct decoded *d, struct rng *rng)
{
    c->offset = (uint16_t)(0x100 + rng_below(rng, 0x100));
    if (rng_one_in(rng, 32) && !case_takes_selector(d)) /* up to, or over the end of the page */
        c->offset = (uint16_t)(PAGE_SIZE - 1 - rng_below(rng, d->insn.length));
    repair_disp(c, d, rng);
    if (d->insn.operand_count && d->ops[0].type == ZYDIS_OPERAND_TYPE_POINTER)
        set_far_pointer(c, d, rng);
}
