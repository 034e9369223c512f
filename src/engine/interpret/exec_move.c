/* MOV, MOVZX, MOVSX, LEA, PUSH and POP: the most frequent instructions, in C.
 *
 * Each form is written once, as an expression; macros make a function of it for every addressing.
 * Moves to and from segment, control and debug registers, and the stack operations of 16- and
 * 32-bit code, are helpers. */
#include "engine/interpret/exec.h"

#include "cpu/access.h"
#include "cpu/cr.h"
#include "cpu/descriptor.h"
#include "cpu/stack.h"

#include <string.h>

/* --- loads: X(name, type in memory, statement that stores v into register r) --- */

#define LOADS(X)                                                                                   \
    X(load8, uint8_t, r[0] = (r[0] & ~UINT64_C(0xff)) | v)                                         \
    X(load8h, uint8_t, r[0] = (r[0] & ~UINT64_C(0xff00)) | (uint64_t)v << 8)                       \
    X(load16, uint16_t, r[0] = (r[0] & ~UINT64_C(0xffff)) | v)                                     \
    X(load32, uint32_t, r[0] = v)                                                                  \
    X(load64, uint64_t, r[0] = v)                                                                  \
    X(zx8_16, uint8_t, r[0] = (r[0] & ~UINT64_C(0xffff)) | v)                                      \
    X(zx8, uint8_t, r[0] = v)                                                                      \
    X(zx16, uint16_t, r[0] = v)                                                                    \
    X(sx8_16, int8_t, r[0] = (r[0] & ~UINT64_C(0xffff)) | (uint16_t)v)                             \
    X(sx8_32, int8_t, r[0] = (uint32_t)v)                                                          \
    X(sx8_64, int8_t, r[0] = (uint64_t)v)                                                          \
    X(sx16_32, int16_t, r[0] = (uint32_t)v)                                                        \
    X(sx16_64, int16_t, r[0] = (uint64_t)v)                                                        \
    X(sx32_64, int32_t, r[0] = (uint64_t)v)

#define LOAD_FORM(name, type, store, addressing)                                                   \
    static void name##_##addressing(struct cpu *cpu, const struct insn *in)                        \
    {                                                                                              \
        const void *host = exec_operand(cpu, in, addressing, sizeof(type), false);                 \
        uint64_t *r = &cpu->gpr[in->reg];                                                          \
        type v;                                                                                    \
                                                                                                   \
        if (unlikely(!host)) {                                                                     \
            if (!exec_slow_read(cpu, in, exec_ea(cpu, in), &v, sizeof v))                          \
                return;                                                                            \
            store;                                                                                 \
            if (unlikely(exec_must_leave(cpu))) {                                                  \
                exec_leave_after(cpu, in);                                                         \
                return;                                                                            \
            }                                                                                      \
            EXEC_NEXT(cpu, in);                                                                    \
        }                                                                                          \
        memcpy(&v, host, sizeof v);                                                                \
        store;                                                                                     \
        EXEC_NEXT(cpu, in);                                                                        \
    }
#define LOAD_FORMS(name, type, store)                                                              \
    LOAD_FORM(name, type, store, ADDR_64)                                                          \
    LOAD_FORM(name, type, store, ADDR_32)                                                          \
    LOAD_FORM(name, type, store, ADDR_ANY)                                                         \
    static void name##_reg(struct cpu *cpu, const struct insn *in)                                 \
    {                                                                                              \
        uint64_t *r = &cpu->gpr[in->reg];                                                          \
        type v = (type)(cpu->gpr[in->rm] >> (in->flags & INSN_HIGH_RM ? 8 : 0));                   \
                                                                                                   \
        store;                                                                                     \
        EXEC_NEXT(cpu, in);                                                                        \
    }
LOADS(LOAD_FORMS)

/* --- stores: X(name, type in memory, value) --- */

#define STORES(X)                                                                                  \
    X(store8, uint8_t, cpu->gpr[in->reg])                                                          \
    X(store8h, uint8_t, cpu->gpr[in->reg] >> 8)                                                    \
    X(store16, uint16_t, cpu->gpr[in->reg])                                                        \
    X(store32, uint32_t, cpu->gpr[in->reg])                                                        \
    X(store64, uint64_t, cpu->gpr[in->reg])                                                        \
    X(store8i, uint8_t, in->imm)                                                                   \
    X(store16i, uint16_t, in->imm)                                                                 \
    X(store32i, uint32_t, in->imm)                                                                 \
    X(store64i, uint64_t, in->imm)

#define STORE_FORM(name, type, value, addressing)                                                  \
    static void name##_##addressing(struct cpu *cpu, const struct insn *in)                        \
    {                                                                                              \
        void *host = exec_operand(cpu, in, addressing, sizeof(type), true);                        \
        type v = (type)(value);                                                                    \
                                                                                                   \
        if (unlikely(!host)) {                                                                     \
            if (!exec_slow_write(cpu, in, exec_ea(cpu, in), &v, sizeof v))                         \
                return;                                                                            \
            if (unlikely(exec_must_leave(cpu))) {                                                  \
                exec_leave_after(cpu, in);                                                         \
                return;                                                                            \
            }                                                                                      \
            EXEC_NEXT(cpu, in);                                                                    \
        }                                                                                          \
        memcpy(host, &v, sizeof v);                                                                \
        EXEC_NEXT(cpu, in);                                                                        \
    }
#define STORE_FORMS(name, type, value)                                                             \
    STORE_FORM(name, type, value, ADDR_64)                                                         \
    STORE_FORM(name, type, value, ADDR_32)                                                         \
    STORE_FORM(name, type, value, ADDR_ANY)
STORES(STORE_FORMS)

struct forms {
    exec_fn *mem[3]; /* by enum addressing */
    exec_fn *reg;
};
#define LOAD_ROW(name, type, store)                                                                \
    [FORM_##name] = {{name##_ADDR_64, name##_ADDR_32, name##_ADDR_ANY}, name##_reg},
#define STORE_ROW(name, type, value)                                                               \
    [FORM_##name] = {{name##_ADDR_64, name##_ADDR_32, name##_ADDR_ANY}, NULL},
#define FORM_NAME(name, type, what) FORM_##name,
enum form { LOADS(FORM_NAME) STORES(FORM_NAME) FORM_NONE };
static const struct forms forms[] = {LOADS(LOAD_ROW) STORES(STORE_ROW)};

/* --- register forms of their own --- */

static void mov_rr64(struct cpu *cpu, const struct insn *in)
{
    cpu->gpr[in->reg] = cpu->gpr[in->rm];
    EXEC_NEXT(cpu, in);
}

static void mov_rr32(struct cpu *cpu, const struct insn *in)
{
    cpu->gpr[in->reg] = (uint32_t)cpu->gpr[in->rm];
    EXEC_NEXT(cpu, in);
}

static void mov_rr(struct cpu *cpu, const struct insn *in)
{
    uint64_t v = gpr_read(cpu, in->rm, in->osize, in->flags & INSN_HIGH_RM);

    gpr_write(cpu, in->reg, in->osize, in->flags & INSN_HIGH_REG, v);
    EXEC_NEXT(cpu, in);
}

static void mov_ri64(struct cpu *cpu, const struct insn *in)
{
    cpu->gpr[in->reg] = (uint64_t)in->imm;
    EXEC_NEXT(cpu, in);
}

static void mov_ri(struct cpu *cpu, const struct insn *in)
{
    gpr_write(cpu, in->reg, in->osize, in->flags & INSN_HIGH_REG, (uint64_t)in->imm);
    EXEC_NEXT(cpu, in);
}

static void lea64(struct cpu *cpu, const struct insn *in)
{
    cpu->gpr[in->reg] =
        cpu->gpr[in->base] + (cpu->gpr[in->index] << in->scale) + (uint64_t)in->disp;
    EXEC_NEXT(cpu, in);
}

static void lea(struct cpu *cpu, const struct insn *in)
{
    gpr_write(cpu, in->reg, in->osize, false, exec_ea(cpu, in));
    EXEC_NEXT(cpu, in);
}

/* --- stack operations of 64-bit code --- */

static void push64(struct cpu *cpu, const struct insn *in)
{
    gva_t sp = cpu->gpr[RSP] - 8;
    void *host = tlb_lookup_write(cpu, sp, 8);

    if (unlikely(!host)) {
        if (!exec_push(cpu, in, cpu->gpr[in->reg]))
            return;
        if (unlikely(exec_must_leave(cpu))) {
            exec_leave_after(cpu, in);
            return;
        }
        EXEC_NEXT(cpu, in);
    }
    memcpy(host, &cpu->gpr[in->reg], 8);
    cpu->gpr[RSP] = sp;
    EXEC_NEXT(cpu, in);
}

static void pop64(struct cpu *cpu, const struct insn *in)
{
    gva_t sp = cpu->gpr[RSP];
    const void *host = tlb_lookup_read(cpu, sp, 8);
    uint64_t v;

    if (likely(host))
        memcpy(&v, host, 8);
    else if (!exec_slow_read(cpu, in, sp, &v, 8)) /* in->seg is SS */
        return;
    cpu->gpr[RSP] = sp + 8;
    cpu->gpr[in->reg] = v;
    if (unlikely(!host && exec_must_leave(cpu))) {
        exec_leave_after(cpu, in);
        return;
    }
    EXEC_NEXT(cpu, in);
}

/* --- selection --- */

static exec_fn *use_helper(struct decoded *d, helper_fn *helper, bool ends_block)
{
    d->in.helper = helper;
    return ends_block ? exec_helper_end : exec_helper;
}

static bool is_class(const ZydisDecodedOperand *op, ZydisRegisterClass class)
{
    return op->type == ZYDIS_OPERAND_TYPE_REGISTER && ZydisRegisterGetClass(op->reg.value) == class;
}

static exec_fn *select_push_pop(const struct cpu *cpu, struct decoded *d)
{
    const ZydisDecodedOperand *op = &d->ops[0];
    bool push = d->zi.mnemonic == ZYDIS_MNEMONIC_PUSH;

    if (op->type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
        return use_helper(d, op_push_imm, false);
    if (is_class(op, ZYDIS_REGCLASS_SEGMENT))
        return use_helper(d, push ? op_push_sreg : op_pop_sreg, !push);
    if (op->type == ZYDIS_OPERAND_TYPE_MEMORY || op->encoding != ZYDIS_OPERAND_ENCODING_OPCODE)
        return use_helper(d, push ? op_push_rm : op_pop_rm, false);
    if (cpu_is_64bit(cpu) && d->in.osize == 8) {
        d->in.seg = SS;
        return push ? push64 : pop64;
    }
    return use_helper(d, push ? op_push_reg : op_pop_reg, false);
}

static exec_fn *select_lea(const struct decoded *d)
{
    return d->in.osize == 8 && d->in.asize == 8 ? lea64 : lea;
}

/* Which load a destination of `to` bytes and a source of `from` bytes is. */
static enum form extend_form(const struct decoded *d, unsigned to, unsigned from)
{
    bool sign = d->zi.mnemonic != ZYDIS_MNEMONIC_MOVZX;

    if (from == 1)
        return !sign ? (to == 2 ? FORM_zx8_16 : FORM_zx8)
                     : (to == 2   ? FORM_sx8_16
                        : to == 4 ? FORM_sx8_32
                                  : FORM_sx8_64);
    if (from == 2) {
        if (to == 2)
            return FORM_load16;
        return !sign ? FORM_zx16 : to == 4 ? FORM_sx16_32 : FORM_sx16_64;
    }
    return to == 8 ? FORM_sx32_64 : to == 4 ? FORM_load32 : FORM_load16;
}

static exec_fn *form_function(const struct cpu *cpu, const struct decoded *d, enum form form)
{
    if (d->in.flags & INSN_MEM)
        return forms[form].mem[exec_addressing(cpu, &d->in)];
    return forms[form].reg;
}

static exec_fn *select_extend(const struct cpu *cpu, const struct decoded *d)
{
    unsigned to = d->ops[0].size / 8, from = d->ops[1].size / 8;

    return form_function(cpu, d, extend_form(d, to, from));
}

static exec_fn *select_special_mov(struct decoded *d)
{
    const ZydisDecodedOperand *to = &d->ops[0], *from = &d->ops[1];

    if (is_class(to, ZYDIS_REGCLASS_SEGMENT))
        return use_helper(d, op_mov_to_sreg, true);
    if (is_class(from, ZYDIS_REGCLASS_SEGMENT))
        return use_helper(d, op_mov_from_sreg, false);
    if (is_class(to, ZYDIS_REGCLASS_CONTROL))
        return use_helper(d, op_mov_to_cr, true);
    if (is_class(from, ZYDIS_REGCLASS_CONTROL))
        return use_helper(d, op_mov_from_cr, true);
    if (is_class(to, ZYDIS_REGCLASS_DEBUG))
        return use_helper(d, op_mov_to_dr, true);
    if (is_class(from, ZYDIS_REGCLASS_DEBUG))
        return use_helper(d, op_mov_from_dr, false);
    return NULL;
}

/* Both registers of a register form into in->reg (destination) and in->rm (source). */
static void order_registers(struct decoded *d)
{
    struct insn *in = &d->in;

    if (d->ops[0].encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM) {
        uint16_t high = in->flags & (INSN_HIGH_REG | INSN_HIGH_RM);
        uint8_t reg = in->reg;

        in->reg = in->rm;
        in->rm = reg;
        in->flags &= (uint16_t) ~(INSN_HIGH_REG | INSN_HIGH_RM);
        in->flags |= high & INSN_HIGH_REG ? INSN_HIGH_RM : 0;
        in->flags |= high & INSN_HIGH_RM ? INSN_HIGH_REG : 0;
    }
}

static exec_fn *select_mov(const struct cpu *cpu, struct decoded *d)
{
    static const uint8_t loads[9] = {
        [1] = FORM_load8, [2] = FORM_load16, [4] = FORM_load32, [8] = FORM_load64};
    static const uint8_t stores[9] = {
        [1] = FORM_store8, [2] = FORM_store16, [4] = FORM_store32, [8] = FORM_store64};
    static const uint8_t immediates[9] = {
        [1] = FORM_store8i, [2] = FORM_store16i, [4] = FORM_store32i, [8] = FORM_store64i};
    const ZydisDecodedOperand *to = &d->ops[0], *from = &d->ops[1];
    exec_fn *special = select_special_mov(d);
    unsigned size = d->in.osize;
    bool high = d->in.flags & INSN_HIGH_REG;

    if (special)
        return special;
    if (to->type == ZYDIS_OPERAND_TYPE_MEMORY && from->type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
        return form_function(cpu, d, (enum form)immediates[size]);
    if (to->type == ZYDIS_OPERAND_TYPE_MEMORY)
        return form_function(cpu, d, high ? FORM_store8h : (enum form)stores[size]);
    if (from->type == ZYDIS_OPERAND_TYPE_MEMORY)
        return form_function(cpu, d, high ? FORM_load8h : (enum form)loads[size]);
    order_registers(d);
    if (from->type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
        return size == 8 ? mov_ri64 : mov_ri;
    return size == 8 ? mov_rr64 : size == 4 ? mov_rr32 : mov_rr;
}

exec_fn *exec_select_move(const struct cpu *cpu, struct decoded *d)
{
    switch (d->zi.mnemonic) {
    case ZYDIS_MNEMONIC_PUSH:
    case ZYDIS_MNEMONIC_POP: return select_push_pop(cpu, d);
    case ZYDIS_MNEMONIC_LEA: return select_lea(d);
    case ZYDIS_MNEMONIC_MOVZX:
    case ZYDIS_MNEMONIC_MOVSX:
    case ZYDIS_MNEMONIC_MOVSXD: return select_extend(cpu, d);
    default: return select_mov(cpu, d);
    }
}
