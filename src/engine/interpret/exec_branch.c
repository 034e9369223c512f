/* Near branches: Jcc, JMP, CALL, RET, LOOP, JCXZ (SDM vol. 2). They end a block.
 *
 * 64-bit code has quick forms; all others go through finish(), which checks the target against the
 * code segment's limit, or that it is canonical, before anything has changed. */
#include "engine/interpret/exec.h"

#include "cpu/access.h"
#include "cpu/far.h"

#include <string.h>

/* --- conditions on the LAHF/SETO image: SF 15, ZF 14, PF 10, CF 8, OF 0 --- */

#define CONDITIONS(X)                                                                              \
    X(jo, s & 1)                                                                                   \
    X(jno, !(s & 1))                                                                               \
    X(jb, s & 0x100)                                                                               \
    X(jnb, !(s & 0x100))                                                                           \
    X(jz, s & 0x4000)                                                                              \
    X(jnz, !(s & 0x4000))                                                                          \
    X(jbe, s & 0x4100)                                                                             \
    X(jnbe, !(s & 0x4100))                                                                         \
    X(js, s & 0x8000)                                                                              \
    X(jns, !(s & 0x8000))                                                                          \
    X(jp, s & 0x400)                                                                               \
    X(jnp, !(s & 0x400))                                                                           \
    X(jl, (s >> 15 ^ s) & 1)                                                                       \
    X(jnl, !((s >> 15 ^ s) & 1))                                                                   \
    X(jle, (s & 0x4000) || ((s >> 15 ^ s) & 1))                                                    \
    X(jnle, !((s & 0x4000) || ((s >> 15 ^ s) & 1)))

/* The target as wide as the operand. False: #GP(0), code cannot be there. */
static bool check_target(struct cpu *cpu, const struct insn *in, uint64_t *target)
{
    if (in->osize == 2)
        *target &= 0xffff;
    else if (in->osize == 4)
        *target &= UINT32_MAX;
    if (cpu_is_64bit(cpu) ? cpu_canonical(cpu, *target) : *target <= cpu->seg[CS].limit)
        return true;
    return cpu_raise_gp(cpu, 0);
}

/* Ends the block at `target`, or raises #GP(0) if code cannot be there. */
static void finish(struct cpu *cpu, const struct insn *in, uint64_t target)
{
    if (!check_target(cpu, in, &target)) {
        exec_leave_fault(cpu, in);
        return;
    }
    cpu->rip = target;
    cpu->icount += in->index_in_block + 1u;
}

static uint64_t next_rip(const struct cpu *cpu, const struct insn *in)
{
    return rip_plus(cpu, in->end);
}

#define CONDITION_FORMS(name, condition)                                                           \
    static void name##_64(struct cpu *cpu, const struct insn *in)                                  \
    {                                                                                              \
        uint32_t s = cpu->status;                                                                  \
                                                                                                   \
        cpu->icount += in->index_in_block + 1u;                                                    \
        cpu->rip += (condition) ? (uint64_t)in->imm : in->end;                                     \
    }                                                                                              \
    static void name##_any(struct cpu *cpu, const struct insn *in)                                 \
    {                                                                                              \
        uint32_t s = cpu->status;                                                                  \
                                                                                                   \
        if (condition)                                                                             \
            finish(cpu, in, next_rip(cpu, in) + (uint64_t)in->imm);                                \
        else                                                                                       \
            exec_leave_after(cpu, in);                                                             \
    }
CONDITIONS(CONDITION_FORMS)

static exec_fn *const conditions_64[16] = {jo_64,  jno_64,  jb_64,  jnb_64, jz_64, jnz_64,
                                           jbe_64, jnbe_64, js_64,  jns_64, jp_64, jnp_64,
                                           jl_64,  jnl_64,  jle_64, jnle_64};
static exec_fn *const conditions_any[16] = {jo_any,  jno_any,  jb_any,  jnb_any, jz_any, jnz_any,
                                            jbe_any, jnbe_any, js_any,  jns_any, jp_any, jnp_any,
                                            jl_any,  jnl_any,  jle_any, jnle_any};

/* --- LOOP and JCXZ: the counter has the address size --- */

static uint64_t counter(const struct cpu *cpu, const struct insn *in)
{
    return gpr_read(cpu, RCX, in->asize, false);
}

static void jcxz(struct cpu *cpu, const struct insn *in)
{
    if (counter(cpu, in) == 0)
        finish(cpu, in, next_rip(cpu, in) + (uint64_t)in->imm);
    else
        exec_leave_after(cpu, in);
}

static void loop(struct cpu *cpu, const struct insn *in)
{
    uint64_t old = cpu->gpr[RCX], count = counter(cpu, in) - 1;
    bool zf = cpu->status & 0x4000, taken;

    gpr_write(cpu, RCX, in->asize, false, count);
    taken = counter(cpu, in) != 0;
    if (in->mnemonic == ZYDIS_MNEMONIC_LOOPE)
        taken = taken && zf;
    else if (in->mnemonic == ZYDIS_MNEMONIC_LOOPNE)
        taken = taken && !zf;
    if (!taken) {
        exec_leave_after(cpu, in);
        return;
    }
    finish(cpu, in, next_rip(cpu, in) + (uint64_t)in->imm);
    if (cpu->exc.pending)
        cpu->gpr[RCX] = old;
}

/* --- JMP --- */

static void jmp_64(struct cpu *cpu, const struct insn *in)
{
    cpu->rip += (uint64_t)in->imm;
    cpu->icount += in->index_in_block + 1u;
}

static void jmp_any(struct cpu *cpu, const struct insn *in)
{
    finish(cpu, in, next_rip(cpu, in) + (uint64_t)in->imm);
}

/* The target of an indirect branch. False: fault; the block has been left. */
static bool read_target(struct cpu *cpu, const struct insn *in, uint64_t *target)
{
    const void *host;

    *target = 0;
    if (!(in->flags & INSN_MEM)) {
        *target = gpr_read(cpu, in->rm, in->osize, false);
        return true;
    }
    host = exec_addressing(cpu, in) == ADDR_64 ? exec_operand(cpu, in, ADDR_64, in->osize, false)
                                               : NULL;
    if (likely(host)) {
        memcpy(target, host, in->osize);
        return true;
    }
    return exec_slow_read(cpu, in, exec_ea(cpu, in), target, in->osize);
}

static void jmp_indirect(struct cpu *cpu, const struct insn *in)
{
    uint64_t target;

    if (read_target(cpu, in, &target))
        finish(cpu, in, target);
}

/* --- CALL and RET --- */

/* Could the return address be pushed? Its faults come before that of the target. */
static bool probe_push(struct cpu *cpu, unsigned size)
{
    gva_t gva;

    return seg_to_linear(cpu, SS, (cpu->gpr[RSP] - size) & stack_mask(cpu), size, ACCESS_WRITE,
                         &gva) &&
           lin_probe(cpu, gva, size, ACCESS_WRITE);
}

/* Pushes the return address and goes on at `target`. */
static void call(struct cpu *cpu, const struct insn *in, uint64_t target)
{
    if (!probe_push(cpu, in->osize) || !check_target(cpu, in, &target) ||
        !stack_push(cpu, next_rip(cpu, in), in->osize)) {
        exec_leave_fault(cpu, in);
        return;
    }
    finish(cpu, in, target);
}

static void call_any(struct cpu *cpu, const struct insn *in)
{
    call(cpu, in, next_rip(cpu, in) + (uint64_t)in->imm);
}

static void call_indirect(struct cpu *cpu, const struct insn *in)
{
    uint64_t target;

    if (read_target(cpu, in, &target))
        call(cpu, in, target);
}

static void call_64(struct cpu *cpu, const struct insn *in)
{
    gva_t sp = cpu->gpr[RSP] - 8;
    uint64_t next = cpu->rip + in->end;
    void *host = tlb_lookup_write(cpu, sp, 8);

    if (unlikely(!host)) {
        call(cpu, in, cpu->rip + (uint64_t)in->imm);
        return;
    }
    memcpy(host, &next, 8);
    cpu->gpr[RSP] = sp;
    cpu->rip += (uint64_t)in->imm;
    cpu->icount += in->index_in_block + 1u;
}

static void ret_any(struct cpu *cpu, const struct insn *in)
{
    uint64_t rsp = cpu->gpr[RSP], target = 0;

    if (!stack_pop(cpu, &target, in->osize)) {
        exec_leave_fault(cpu, in);
        return;
    }
    stack_set_pointer(cpu, cpu->gpr[RSP] + (uint16_t)in->imm);
    finish(cpu, in, target);
    if (unlikely(cpu->exc.pending))
        cpu->gpr[RSP] = rsp;
}

static void ret_64(struct cpu *cpu, const struct insn *in)
{
    gva_t sp = cpu->gpr[RSP];
    const void *host = tlb_lookup_read(cpu, sp, 8);
    uint64_t target;

    if (unlikely(!host)) {
        ret_any(cpu, in);
        return;
    }
    memcpy(&target, host, 8);
    if (unlikely(!cpu_canonical(cpu, target))) {
        ret_any(cpu, in);
        return;
    }
    cpu->gpr[RSP] = sp + 8 + (uint16_t)in->imm;
    cpu->rip = target;
    cpu->icount += in->index_in_block + 1u;
}

/* --- selection --- */

static bool relative(const struct decoded *d)
{
    return d->zi.raw.imm[0].is_relative;
}

/* Far forms share mnemonics with near ones. */
static bool is_far(const struct decoded *d)
{
    return d->zi.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR;
}

static exec_fn *select_far(struct decoded *d)
{
    switch (d->zi.mnemonic) {
    case ZYDIS_MNEMONIC_JMP: d->in.helper = op_jmp_far; break;
    case ZYDIS_MNEMONIC_CALL: d->in.helper = op_call_far; break;
    default: d->in.helper = op_retf; break;
    }
    return exec_helper_end;
}

static exec_fn *select_condition(const struct decoded *d, bool quick)
{
    unsigned cc = d->zi.opcode & 15;

    return quick ? conditions_64[cc] : conditions_any[cc];
}

/* A quick form adds in->imm to the start of the block; a target of another width, or one that may
 * not be canonical, takes the other way. */
static bool is_quick(const struct cpu *cpu, const struct decoded *d)
{
    return cpu_is_64bit(cpu) && d->in.osize == 8;
}

static exec_fn *select_relative(const struct decoded *d, bool quick)
{
    if (d->zi.mnemonic == ZYDIS_MNEMONIC_JMP)
        return quick ? jmp_64 : jmp_any;
    return quick ? call_64 : call_any;
}

exec_fn *exec_select_branch(const struct cpu *cpu, struct decoded *d)
{
    bool quick = is_quick(cpu, d);

    if (is_far(d))
        return select_far(d);
    switch (d->zi.mnemonic) {
    case ZYDIS_MNEMONIC_JCXZ:
    case ZYDIS_MNEMONIC_JECXZ:
    case ZYDIS_MNEMONIC_JRCXZ: return jcxz;
    case ZYDIS_MNEMONIC_LOOP:
    case ZYDIS_MNEMONIC_LOOPE:
    case ZYDIS_MNEMONIC_LOOPNE: return loop;
    case ZYDIS_MNEMONIC_RET: return quick ? ret_64 : ret_any;
    case ZYDIS_MNEMONIC_JMP:
    case ZYDIS_MNEMONIC_CALL:
        if (!relative(d))
            return d->zi.mnemonic == ZYDIS_MNEMONIC_JMP ? jmp_indirect : call_indirect;
        if (quick)
            d->in.flags |= INSN_FROM_BLOCK;
        return select_relative(d, quick);
    default:
        if (quick)
            d->in.flags |= INSN_FROM_BLOCK;
        return select_condition(d, quick);
    }
}
