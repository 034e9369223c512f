/* Far control transfers (SDM vol. 3, 5.8, and vol. 2: JMP, CALL, RET, INT n).
 *
 * A selector leads to a code segment, a call gate (to the same or, for CALL, to an inner level with
 * a stack from the TSS), a task gate or a TSS. Everything is checked and pushed first; the
 * registers change last. */
#include "cpu/far.h"

#include "cpu/access.h"
#include "cpu/cpuid.h"
#include "cpu/frame.h"
#include "cpu/interrupt.h"
#include "cpu/task.h"

#include <string.h>

#define GATE_PARAMETERS 31u

/* Where the transfer goes. */
struct far_target {
    uint16_t sel;
    uint64_t offset;
    unsigned size; /* of the pushed items, and of the offset */
    bool call;
};

static uint64_t truncated(uint64_t v, unsigned size)
{
    return size == 8 ? v : size == 4 ? (uint32_t)v : (uint16_t)v;
}

/* --- real and virtual-8086 mode --- */

static bool push_return(struct cpu *cpu, unsigned size, struct frame *f)
{
    frame_init_current(f, cpu, size, 0);
    frame_push(f, cpu->seg[CS].sel);
    frame_push(f, cpu->rip);
    return frame_write(cpu, f);
}

static bool far_real(struct cpu *cpu, const struct far_target *t)
{
    struct frame f;

    if (!segment_check_rip(cpu, &cpu->seg[CS], t->offset, 0))
        return false;
    if (t->call) {
        if (!push_return(cpu, t->size, &f))
            return false;
        stack_set_pointer(cpu, f.sp);
    }
    segment_load_real(cpu, CS, t->sel);
    cpu->rip = t->offset;
    cpu_update_mode(cpu);
    return true;
}

/* --- to a code segment, on the same level --- */

/* L and D together mean nothing in long mode. */
static bool bad_code_size(const struct cpu *cpu, const struct descriptor *d)
{
    const uint16_t both = SEG_L | SEG_DB;

    return (cpu->efer & EFER_LMA) && (descriptor_attr(d) & both) == both;
}

/* The return address of a call to `cs`. On AMD's processors a call out of 64-bit mode into a
 * compatibility segment pushes as that mode does, with a stack pointer of 32 bits. */
static bool push_return_to(struct cpu *cpu, const struct segment *cs, unsigned size,
                           struct frame *f)
{
    frame_init_current(f, cpu, size, 0);
    if (cpu_is_64bit(cpu) && !(cs->attr & SEG_L) && cpu_model_is_amd(cpu->model))
        f->mask = UINT32_MAX;
    frame_push(f, cpu->seg[CS].sel);
    frame_push(f, cpu->rip);
    return frame_write(cpu, f);
}

/* Pushes the return address, checks rip and goes there with the present CPL. */
static bool enter_same_level(struct cpu *cpu, const struct segment *cs, const struct far_target *t)
{
    struct frame f;

    /* The order is that of AMD's processors: what was pushed stays if rip is beyond the limit. */
    if (t->call && !push_return_to(cpu, cs, t->size, &f))
        return false;
    if (!segment_check_rip(cpu, cs, t->offset, 0))
        return false;
    if (t->call)
        stack_set_pointer(cpu, f.sp); /* by the width that the pushes had */
    cpu->seg[CS] = *cs;
    cpu->rip = t->offset;
    cpu_update_mode(cpu);
    return true;
}

static bool far_to_code(struct cpu *cpu, const struct far_target *t, struct descriptor *d)
{
    unsigned dpl = descriptor_dpl(d);
    struct segment cs;
    bool allowed;

    if (descriptor_is_conforming(d))
        allowed = dpl <= cpu->cpl;
    else
        allowed = selector_rpl(t->sel) <= cpu->cpl && dpl == cpu->cpl;
    if (!allowed || bad_code_size(cpu, d))
        return segment_fault(cpu, EXC_GP, t->sel, 0);
    if (!(descriptor_attr(d) & SEG_P))
        return segment_fault(cpu, EXC_NP, t->sel, 0);
    return segment_take_code(cpu, d, t->sel, cpu->cpl, &cs) && enter_same_level(cpu, &cs, t);
}

/* --- through a call gate --- */

/* Reads the `count` parameters on the caller's stack; the last pushed is index 0. */
static bool read_parameters(struct cpu *cpu, unsigned count, unsigned size, uint64_t *v)
{
    for (unsigned i = 0; i < count; i++)
        if (!frame_peek(cpu, i, size, 0, &v[i]))
            return false;
    return true;
}

static bool open_inner_stack(struct cpu *cpu, unsigned cpl, unsigned size, struct frame *f)
{
    struct segment ss = segment_null((uint16_t)cpl);
    uint64_t sp;
    uint16_t sel;

    if (cpu->efer & EFER_LMA) {
        if (!task_read_stack64(cpu, cpl, 0, &sp))
            return false;
        frame_init_stack(f, &ss, sp, true, cpl, size, 0);
        f->error = 0;
        return true;
    }
    if (!task_read_stack(cpu, cpl, 0, &sel, &sp) ||
        !segment_check_stack(cpu, sel, cpl, EXC_TS, 0, &ss))
        return false;
    frame_init_stack(f, &ss, sp, false, cpl, size, 0);
    return true;
}

static bool call_inner_level(struct cpu *cpu, const struct segment *cs, unsigned cpl,
                             const struct far_target *t, unsigned count)
{
    uint64_t parameter[GATE_PARAMETERS];
    struct frame f;

    if (!open_inner_stack(cpu, cpl, t->size, &f) ||
        !read_parameters(cpu, count, t->size, parameter) ||
        !segment_check_rip(cpu, cs, t->offset, 0))
        return false;
    frame_push(&f, cpu->seg[SS].sel);
    frame_push(&f, cpu->gpr[RSP]);
    for (unsigned i = count; i-- > 0;)
        frame_push(&f, parameter[i]);
    frame_push(&f, cpu->seg[CS].sel);
    frame_push(&f, cpu->rip);
    if (!frame_write(cpu, &f))
        return false;
    cpu->seg[CS] = *cs;
    cpu->seg[SS] = f.ss;
    cpu->rip = t->offset;
    cpu_set_cpl(cpu, cpl);
    stack_set_pointer(cpu, f.sp);
    return true;
}

/* The code segment behind a call gate. */
static bool read_gate_target(struct cpu *cpu, uint16_t sel, bool call, struct descriptor *d)
{
    bool allowed, wrong_size = false;

    if (selector_is_null(sel))
        return cpu_raise_gp(cpu, 0);
    if (!descriptor_read(cpu, sel, EXC_GP, 0, d))
        return false;
    if (cpu->efer & EFER_LMA)
        wrong_size = (descriptor_attr(d) & (SEG_L | SEG_DB)) != SEG_L;
    if (call || descriptor_is_conforming(d))
        allowed = descriptor_dpl(d) <= cpu->cpl;
    else
        allowed = descriptor_dpl(d) == cpu->cpl;
    if (!descriptor_is_code(d) || !allowed || wrong_size)
        return segment_fault(cpu, EXC_GP, sel, 0);
    if (!(descriptor_attr(d) & SEG_P))
        return segment_fault(cpu, EXC_NP, sel, 0);
    return true;
}

static bool through_call_gate(struct cpu *cpu, const struct far_target *from,
                              const struct descriptor *gate)
{
    bool small = descriptor_system_type(gate) == SYS_CALL_GATE16;
    unsigned count = cpu->efer & EFER_LMA ? 0 : gate->low >> 32 & GATE_PARAMETERS, cpl;
    struct far_target t = {.sel = gate_selector(gate),
                           .offset = gate_offset(gate),
                           .size = small ? 2 : 4,
                           .call = from->call};
    struct descriptor d;
    struct segment cs;

    if (cpu->efer & EFER_LMA)
        t.size = 8;
    t.offset = truncated(t.offset, t.size);
    if (!read_gate_target(cpu, t.sel, t.call, &d))
        return false;
    cpl = descriptor_is_conforming(&d) ? cpu->cpl : descriptor_dpl(&d);
    if (!segment_take_code(cpu, &d, t.sel, cpl, &cs))
        return false;
    return cpl == cpu->cpl ? enter_same_level(cpu, &cs, &t)
                           : call_inner_level(cpu, &cs, cpl, &t, count);
}

/* --- system descriptors --- */

static bool far_to_task(struct cpu *cpu, const struct far_target *t, const struct descriptor *d)
{
    bool gate = descriptor_system_type(d) == SYS_TASK_GATE;

    return task_switch_insn(cpu, gate ? gate_selector(d) : t->sel, t->call ? TASK_CALL : TASK_JMP);
}

static bool far_to_system(struct cpu *cpu, const struct far_target *t, const struct descriptor *d)
{
    unsigned type = descriptor_system_type(d), dpl = descriptor_dpl(d);
    bool gate = type == SYS_CALL_GATE32 || type == SYS_CALL_GATE16 || type == SYS_TASK_GATE;
    bool task = type == SYS_TASK_GATE || type == SYS_TSS16 || type == SYS_TSS32;

    if ((cpu->efer & EFER_LMA) && type != SYS_CALL_GATE32)
        gate = task = false;
    if (!(gate || task) || dpl < cpu->cpl || dpl < selector_rpl(t->sel))
        return segment_fault(cpu, EXC_GP, t->sel, 0);
    if (!(descriptor_attr(d) & SEG_P))
        return segment_fault(cpu, EXC_NP, t->sel, 0);
    return task ? far_to_task(cpu, t, d) : through_call_gate(cpu, t, d);
}

static bool far_transfer(struct cpu *cpu, const struct far_target *t)
{
    struct descriptor d;

    if (!(cpu->mode & MODE_PROTECTED))
        return far_real(cpu, t);
    if (selector_is_null(t->sel))
        return cpu_raise_gp(cpu, 0);
    if (!descriptor_read(cpu, t->sel, EXC_GP, 0, &d))
        return false;
    if (descriptor_is_code(&d))
        return far_to_code(cpu, t, &d);
    return far_to_system(cpu, t, &d);
}

bool far_pointer_read(struct cpu *cpu, const struct insn *in, uint64_t *offset, uint16_t *sel)
{
    unsigned size = in->osize == 8 && cpu_model_is_amd(cpu->model) ? 4 : in->osize;
    uint64_t ea = insn_ea(cpu, in), sel_ea = ea + size, v;

    if (in->asize < 8)
        sel_ea &= (UINT64_C(1) << 8 * in->asize) - 1;
    if (!virt_read_int(cpu, in->seg, ea, size, offset) ||
        !virt_read_int(cpu, in->seg, sel_ea, 2, &v))
        return false;
    *sel = (uint16_t)v;
    return true;
}

/* The operand of JMP and CALL: a far pointer in the instruction or in memory. */
static bool read_target(struct cpu *cpu, const struct insn *in, bool call, struct far_target *t)
{
    t->call = call;
    t->size = in->osize;
    t->sel = in->imm2;
    t->offset = truncated((uint64_t)in->imm, t->size);
    return !(in->flags & INSN_MEM) || far_pointer_read(cpu, in, &t->offset, &t->sel);
}

bool op_jmp_far(struct cpu *cpu, const struct insn *in)
{
    struct far_target t;

    return read_target(cpu, in, false, &t) && far_transfer(cpu, &t);
}

bool op_call_far(struct cpu *cpu, const struct insn *in)
{
    struct far_target t;

    return read_target(cpu, in, true, &t) && far_transfer(cpu, &t);
}

/* --- returns --- */

bool far_return_code(struct cpu *cpu, uint16_t sel, uint64_t rip, struct far_return *r)
{
    struct descriptor d;
    unsigned dpl;
    bool allowed;

    if (selector_is_null(sel))
        return cpu_raise_gp(cpu, 0);
    r->cpl = selector_rpl(sel);
    r->rip = rip;
    r->loads_stack = false;
    if (!descriptor_read(cpu, sel, EXC_GP, 0, &d))
        return false;
    dpl = descriptor_dpl(&d);
    allowed = descriptor_is_conforming(&d) ? dpl <= r->cpl : dpl == r->cpl;
    if (!descriptor_is_code(&d) || r->cpl < cpu->cpl || !allowed || bad_code_size(cpu, &d))
        return segment_fault(cpu, EXC_GP, sel, 0);
    if (!(descriptor_attr(&d) & SEG_P))
        return segment_fault(cpu, EXC_NP, sel, 0);
    return segment_take_code(cpu, &d, sel, r->cpl, &r->cs) &&
           segment_check_rip(cpu, &r->cs, rip, 0);
}

bool far_return_stack(struct cpu *cpu, uint16_t sel, uint64_t rsp, struct far_return *r)
{
    r->loads_stack = true;
    r->rsp = rsp;
    if (selector_is_null(sel) && segment_is_64bit_code(cpu, &r->cs) && r->cpl != 3) {
        r->ss = segment_null(sel);
        return true;
    }
    return segment_check_stack(cpu, sel, r->cpl, EXC_GP, 0, &r->ss);
}

void far_return_commit(struct cpu *cpu, const struct far_return *r, unsigned pops, unsigned drop)
{
    bool outer = r->cpl != cpu->cpl;

    if (!r->loads_stack)
        stack_set_pointer(cpu, cpu->gpr[RSP] + pops + drop);
    cpu->seg[CS] = r->cs;
    cpu->rip = r->rip;
    if (r->loads_stack)
        cpu->seg[SS] = r->ss;
    if (outer)
        segment_drop_inner(cpu, r->cpl);
    cpu_set_cpl(cpu, r->cpl);
    if (r->loads_stack)
        stack_set_pointer(cpu, r->rsp + drop);
}

static bool retf_real(struct cpu *cpu, uint64_t rip, uint16_t sel, unsigned pops)
{
    if (!segment_check_rip(cpu, &cpu->seg[CS], rip, 0))
        return false;
    stack_set_pointer(cpu, cpu->gpr[RSP] + pops);
    segment_load_real(cpu, CS, sel);
    cpu->rip = rip;
    cpu_update_mode(cpu);
    return true;
}

bool op_retf(struct cpu *cpu, const struct insn *in)
{
    unsigned size = in->osize, drop = (uint16_t)in->imm;
    uint64_t rip, sel, sp, ss;
    struct far_return r;

    if (!frame_peek(cpu, 0, size, 0, &rip) || !frame_peek(cpu, 1, size, 0, &sel))
        return false;
    if (!(cpu->mode & MODE_PROTECTED))
        return retf_real(cpu, rip, (uint16_t)sel, 2 * size + drop);
    if (!far_return_code(cpu, (uint16_t)sel, rip, &r))
        return false;
    if (r.cpl != cpu->cpl &&
        (!frame_peek(cpu, 2, size, drop, &sp) || !frame_peek(cpu, 3, size, drop, &ss) ||
         !far_return_stack(cpu, (uint16_t)ss, sp, &r)))
        return false;
    far_return_commit(cpu, &r, 2 * size, drop);
    return true;
}

/* --- software interrupts --- */

bool op_int(struct cpu *cpu, const struct insn *in)
{
    if (!cpu_interrupt(cpu, (uint8_t)in->imm, INTERRUPT_SOFTWARE, false, 0))
        return false;
    cpu->stats.soft_interrupts++;
    return true;
}

bool op_int3(struct cpu *cpu, const struct insn *in)
{
    (void)in;
    if (!cpu_interrupt(cpu, EXC_BP, INTERRUPT_SOFT_EXCEPTION, false, 0))
        return false;
    cpu->stats.exceptions[EXC_BP]++;
    return true;
}

bool op_into(struct cpu *cpu, const struct insn *in)
{
    (void)in;
    if (cpu_is_64bit(cpu))
        return cpu_raise_ud(cpu);
    if (!(cpu_status_flags(cpu) & FLAG_OF))
        return true;
    if (!cpu_interrupt(cpu, EXC_OF, INTERRUPT_SOFT_EXCEPTION, false, 0))
        return false;
    cpu->stats.exceptions[EXC_OF]++;
    return true;
}

bool op_int1(struct cpu *cpu, const struct insn *in)
{
    (void)in;
    if (!cpu_interrupt(cpu, EXC_DB, INTERRUPT_PRIV_SOFT, false, 0))
        return false;
    cpu->stats.exceptions[EXC_DB]++;
    return true;
}
