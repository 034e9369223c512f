/* The general part of executing instructions: helpers, faults, slow memory accesses, selection. */
#include "engine/interpret/exec.h"

#include "cpu/access.h"
#include "cpu/cpu_timeline.h"
#include "engine/interpret/block.h"

void exec_end(struct cpu *cpu, const struct insn *in)
{
    cpu->rip = rip_plus(cpu, in->end);
    cpu->icount += in->index_in_block;
}

void exec_return(struct cpu *cpu, const struct insn *in)
{
    (void)cpu;
    (void)in;
}

/* While the engine runs, the guest's MXCSR is in the processor. */
static bool call_with_mxcsr(struct cpu *cpu, const struct insn *in)
{
    bool ok;

    cpu->mxcsr = __builtin_ia32_stmxcsr();
    ok = in->helper(cpu, in);
    __builtin_ia32_ldmxcsr(cpu->mxcsr);
    return ok;
}

static bool run_helper(struct cpu *cpu, const struct insn *in)
{
    return in->flags & INSN_MXCSR ? call_with_mxcsr(cpu, in) : in->helper(cpu, in);
}

/* For the timeline: an instruction that is emulated, and the mode that it leads to. */
static bool run_helper_recorded(struct cpu *cpu, const struct insn *in)
{
    uint64_t start = timeline_start(), rip = cpu->rip - in->len;
    bool ok = run_helper(cpu, in);

    timeline_slice(TIMELINE_HELPER, ZydisMnemonicGetString(in->mnemonic), start, rip, 0, 0);
    if (ok)
        cpu_timeline_mode(cpu);
    return ok;
}

/* Calls the helper with rip and icount as helpers expect them; on false the block has been left. */
static bool call_helper(struct cpu *cpu, const struct insn *in)
{
    uint64_t start = cpu->rip;

    cpu->rip = rip_plus(cpu, in->end);
    cpu->icount += in->index_in_block;
    cpu->stats.helpers++;
    cpu_publish_time(cpu);
    if (likely(unlikely(timeline_here != NULL) ? run_helper_recorded(cpu, in)
                                               : run_helper(cpu, in)))
        return true;
    cpu->rip = start;
    cpu->rip = rip_plus(cpu, in->end - in->len);
    return false;
}

void exec_helper(struct cpu *cpu, const struct insn *in)
{
    uint64_t start = cpu->rip;

    if (!call_helper(cpu, in))
        return;
    if (unlikely(exec_must_leave(cpu))) {
        cpu->icount++;
        return;
    }
    cpu->rip = start;
    cpu->icount -= in->index_in_block;
    EXEC_NEXT(cpu, in);
}

void exec_helper_end(struct cpu *cpu, const struct insn *in)
{
    if (call_helper(cpu, in))
        cpu->icount++;
}

void exec_raise_ud(struct cpu *cpu, const struct insn *in)
{
    cpu_raise_ud(cpu);
    exec_leave_fault(cpu, in);
}

void exec_raise_nm(struct cpu *cpu, const struct insn *in)
{
    cpu_raise(cpu, EXC_NM);
    exec_leave_fault(cpu, in);
}

void exec_raise_gp(struct cpu *cpu, const struct insn *in)
{
    cpu_raise_gp(cpu, 0);
    exec_leave_fault(cpu, in);
}

void exec_native_fault(struct cpu *cpu, const struct insn *in)
{
    exec_leave_fault(cpu, in);
}

/* --- slow memory accesses --- */

static void begin_slow(struct cpu *cpu, const struct insn *in)
{
    cpu->icount += in->index_in_block;
    cpu_publish_time(cpu);
}

static bool end_slow(struct cpu *cpu, const struct insn *in, bool ok)
{
    cpu->icount -= in->index_in_block;
    if (!ok)
        exec_leave_fault(cpu, in);
    return ok;
}

bool exec_slow_read(struct cpu *cpu, const struct insn *in, uint64_t ea, void *buf, unsigned size)
{
    begin_slow(cpu, in);
    return end_slow(cpu, in, virt_read(cpu, in->seg, ea, buf, size));
}

bool exec_slow_write(struct cpu *cpu, const struct insn *in, uint64_t ea, const void *buf,
                     unsigned size)
{
    begin_slow(cpu, in);
    return end_slow(cpu, in, virt_write(cpu, in->seg, ea, buf, size));
}

bool exec_push(struct cpu *cpu, const struct insn *in, uint64_t v)
{
    begin_slow(cpu, in);
    return end_slow(cpu, in, stack_push(cpu, v, 8));
}

/* --- selection --- */

enum addressing exec_addressing(const struct cpu *cpu, const struct insn *in)
{
    if (in->seg >= FS)
        return ADDR_ANY;
    if (cpu_is_64bit(cpu))
        return in->asize == 8 ? ADDR_64 : in->asize == 4 ? ADDR_32 : ADDR_ANY;
    /* A flat code segment isn't writable; its accesses are checked. */
    return (cpu->mode & MODE_FLAT) && in->asize == 4 && in->seg != CS ? ADDR_32 : ADDR_ANY;
}

/* What the processor checks before the operation (SDM vol. 3, tables 2-2 and 13-1); NULL: it may go
 * on. */
exec_fn *exec_unit_fault(const struct cpu *cpu, enum insn_unit unit)
{
    uint32_t mode = cpu->mode;

    switch (unit) {
    case UNIT_X87: return mode & MODE_NO_FPU ? exec_raise_nm : NULL;
    case UNIT_MMX:
        if (mode & MODE_FPU_EM)
            return exec_raise_ud;
        break;
    case UNIT_SSE:
        if (mode & MODE_NO_SSE)
            return exec_raise_ud;
        break;
    case UNIT_AVX:
        if (!(mode & MODE_AVX))
            return exec_raise_ud;
        break;
    default: return NULL;
    }
    return mode & MODE_SSE_NM ? exec_raise_nm : NULL;
}

static exec_fn *select_by_class(struct cpu *cpu, struct decoded *d)
{
    exec_fn *fn = NULL;

    switch (d->row->class) {
    case CLASS_COPY: fn = exec_select_copy(cpu, d); break;
    case CLASS_MOV: fn = exec_select_move(cpu, d); break;
    case CLASS_BRANCH: fn = exec_select_branch(cpu, d); break;
    case CLASS_HELPER:
        d->in.helper = d->row->helper;
        fn = d->row->flags & ROW_ENDS_BLOCK ? exec_helper_end : exec_helper;
        break;
    default: break;
    }
    return fn ? fn : exec_raise_ud;
}

bool exec_select(struct cpu *cpu, struct interpreter *interp, struct decoded *d)
{
    exec_fn *fault = d->row->class == CLASS_ILLEGAL ? exec_raise_ud : exec_unit_fault(cpu, d->unit);

    if (fault) {
        d->in.exec = fault;
        return true;
    }
    d->in.exec = select_by_class(cpu, d);
    if (d->row->class == CLASS_COPY) {
        if (!thunk_get(interp->thunks, d, &d->in.thunk))
            return false;
        if (!d->in.thunk)
            d->in.exec = exec_raise_ud;
        else if (!d->in.exec || d->in.exec == exec_raise_ud)
            d->in.exec = (exec_fn *)d->in.thunk; /* threaded: the thunk is the exec function */
    }
    return true;
}
