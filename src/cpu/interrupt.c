/* Delivery of exceptions and interrupts (SDM vol. 3, ch. 6 and 20; vol. 2, INT n).
 *
 *   real mode      IVT entry: FLAGS, CS, IP are pushed
 *   protected      16/32-bit interrupt and trap gates, same or inner level; task gates (task.c)
 *   virtual-8086   to level 0 through the IDT, or, with VME, INT n straight to the 8086 program's
 * IVT long mode      64-bit gates, IST; SS and RSP are always pushed
 *
 * Every form works in the same three steps: read gate, code segment and stack; write the frame;
 * load the registers. Only the last changes the CPU, and it cannot fail. */
#include "cpu/interrupt.h"

#include "base/trace.h"
#include "cpu/access.h"
#include "cpu/cpu_timeline.h"
#include "cpu/frame.h"
#include "cpu/segment.h"
#include "cpu/task.h"

#define IDT_ERROR 2u /* error code: the index is one of the IDT */
#define EXT_ERROR 1u

#define DR6_BREAKPOINTS UINT64_C(0xf)
#define DR6_BD UINT64_C(0x2000)
#define DR7_GD UINT64_C(0x2000)
#define DEBUGCTL_LBR_BTF UINT64_C(3)

#define TSS_IO_MAP_BASE 0x66
#define REDIRECTION_MAP_SIZE 32 /* bytes, just below the I/O map */

/* Benign exceptions that follow each other without end (#AC on a stack that is never aligned) are
 * left for the next turn of the engine after so many, so that it can still be stopped. */
#define DELIVERY_ATTEMPTS 8

struct event {
    uint8_t vector;
    enum interrupt_kind kind;
    unsigned ext; /* EXT bit of error codes of faults on the way */
    bool has_error;
    uint32_t error;
};

/* Where a gate leads to. */
struct target {
    struct segment cs;
    uint64_t rip;
    unsigned cpl;
    bool interrupt_gate; /* IF is cleared */
    unsigned size;       /* of pushed items */
};

/* --- real mode, and VME redirection --- */

static bool enter_ivt(struct cpu *cpu, gva_t table, const struct event *e, uint64_t image,
                      uint64_t cleared)
{
    uint16_t entry[2];
    struct frame f;

    if (!lin_read(cpu, table + e->vector * 4u, entry, 4, ACCESS_READ | ACCESS_SYSTEM))
        return false;
    if (!segment_check_rip(cpu, &cpu->seg[CS], entry[0], e->ext))
        return false;
    frame_init_current(&f, cpu, 2, e->ext);
    frame_push(&f, image);
    frame_push(&f, cpu->seg[CS].sel);
    frame_push(&f, cpu->rip);
    if (!frame_write(cpu, &f))
        return false;
    stack_set_pointer(cpu, f.sp);
    cpu_set_rflags(cpu, cpu_get_rflags(cpu) & ~cleared);
    segment_load_real(cpu, CS, entry[1]);
    cpu->rip = entry[0];
    cpu_update_mode(cpu);
    return true;
}

static bool deliver_real(struct cpu *cpu, const struct event *e)
{
    if (e->vector * 4u + 3 > cpu->idtr.limit)
        return cpu_raise_gp(cpu, e->ext);
    return enter_ivt(cpu, cpu->idtr.base, e, cpu_get_rflags(cpu),
                     FLAG_IF | FLAG_TF | FLAG_AC | FLAG_RF);
}

/* The bit of `vector` in the TSS's software interrupt redirection map: set means "through the IDT".
 * #GP(0) when the map is not within the TSS. */
static bool redirection_bit(struct cpu *cpu, uint8_t vector, bool *set)
{
    uint16_t io_map;
    uint32_t offset;
    uint8_t byte;

    if (cpu->tr.limit < TSS_IO_MAP_BASE + 1)
        return cpu_raise_gp(cpu, 0);
    if (!lin_read(cpu, cpu->tr.base + TSS_IO_MAP_BASE, &io_map, 2, ACCESS_READ | ACCESS_SYSTEM))
        return false;
    offset = (uint32_t)io_map - REDIRECTION_MAP_SIZE + vector / 8;
    if (offset > cpu->tr.limit)
        return cpu_raise_gp(cpu, 0);
    if (!lin_read(cpu, cpu->tr.base + offset, &byte, 1, ACCESS_READ | ACCESS_SYSTEM))
        return false;
    *set = byte >> (vector & 7) & 1;
    return true;
}

/* To the 8086 program's own handler: with IOPL 3 on the real IF, else on the virtual one. */
static bool redirect_vm86(struct cpu *cpu, const struct event *e)
{
    uint64_t flags = cpu_get_rflags(cpu), image = flags;

    if (cpu_iopl(cpu) == 3)
        return enter_ivt(cpu, 0, e, image, FLAG_IF | FLAG_TF | FLAG_RF);
    image = (flags & ~(uint64_t)FLAG_IF) | FLAG_IOPL | (flags & FLAG_VIF ? FLAG_IF : 0);
    return enter_ivt(cpu, 0, e, image, FLAG_VIF | FLAG_TF | FLAG_RF);
}

/* INT n in virtual-8086 mode (SDM vol. 3, table 20-2). *handled: nothing is left to do. */
static bool vm86_software(struct cpu *cpu, const struct event *e, bool *handled)
{
    bool through_idt = true;

    *handled = false;
    if ((cpu->cr4 & CR4_VME) && !redirection_bit(cpu, e->vector, &through_idt))
        return false;
    if (!through_idt) {
        *handled = true;
        return redirect_vm86(cpu, e);
    }
    return cpu_iopl(cpu) == 3 || cpu_raise_gp(cpu, 0);
}

/* --- gates --- */

static bool idt_fault(struct cpu *cpu, enum vector vector, const struct event *e)
{
    return cpu_raise_error(cpu, vector, e->vector * 8u | IDT_ERROR | e->ext);
}

static bool is_interrupt_gate(const struct cpu *cpu, unsigned type)
{
    if (type == SYS_INT_GATE32 || type == SYS_TRAP_GATE32)
        return true;
    return !(cpu->efer & EFER_LMA) &&
           (type == SYS_INT_GATE16 || type == SYS_TRAP_GATE16 || type == SYS_TASK_GATE);
}

static bool read_gate(struct cpu *cpu, const struct event *e, struct descriptor *gate)
{
    bool wide = cpu->efer & EFER_LMA;
    unsigned size = wide ? 16 : 8, offset = e->vector * size;
    bool checked = e->kind == INTERRUPT_SOFTWARE || e->kind == INTERRUPT_SOFT_EXCEPTION;

    if (offset + size - 1 > cpu->idtr.limit)
        return idt_fault(cpu, EXC_GP, e);
    if (!descriptor_fetch(cpu, cpu->idtr.base + offset, wide, gate))
        return false;
    if (!is_interrupt_gate(cpu, descriptor_system_type(gate)))
        return idt_fault(cpu, EXC_GP, e);
    if (checked && descriptor_dpl(gate) < cpu->cpl)
        return idt_fault(cpu, EXC_GP, e);
    if (!(descriptor_attr(gate) & SEG_P))
        return idt_fault(cpu, EXC_NP, e);
    return true;
}

/* The code segment that a gate names, with its checks. */
static bool read_target_code(struct cpu *cpu, const struct event *e, uint16_t sel, struct target *t)
{
    struct descriptor d;
    bool bad_size = false;

    if (selector_is_null(sel))
        return cpu_raise_gp(cpu, e->ext);
    if (!descriptor_read(cpu, sel, EXC_GP, e->ext, &d))
        return false;
    if (cpu->efer & EFER_LMA)
        bad_size = (descriptor_attr(&d) & (SEG_L | SEG_DB)) != SEG_L;
    if (!descriptor_is_code(&d) || descriptor_dpl(&d) > cpu->cpl || bad_size)
        return segment_fault(cpu, EXC_GP, sel, e->ext);
    if (!(descriptor_attr(&d) & SEG_P))
        return segment_fault(cpu, EXC_NP, sel, e->ext);
    t->cpl = descriptor_is_conforming(&d) ? cpu->cpl : descriptor_dpl(&d);
    if ((cpu->rflags & FLAG_VM) && t->cpl != 0)
        return segment_fault(cpu, EXC_GP, sel, e->ext);
    return segment_take_code(cpu, &d, sel, t->cpl, &t->cs);
}

static bool read_target(struct cpu *cpu, const struct event *e, const struct descriptor *gate,
                        struct target *t)
{
    unsigned type = descriptor_system_type(gate);

    t->interrupt_gate = type == SYS_INT_GATE16 || type == SYS_INT_GATE32;
    t->size = cpu->efer & EFER_LMA ? 8 : type >= SYS_INT_GATE32 ? 4 : 2;
    t->rip = t->size == 2 ? (uint16_t)gate_offset(gate) : gate_offset(gate);
    return read_target_code(cpu, e, gate_selector(gate), t) &&
           segment_check_rip(cpu, &t->cs, t->rip, e->ext);
}

/* The stack for the handler (and nothing pushed yet). */
static bool open_stack(struct cpu *cpu, const struct event *e, const struct target *t,
                       struct frame *f)
{
    struct segment ss;
    uint16_t sel;
    uint64_t sp;

    if (t->cpl == cpu->cpl) {
        frame_init_current(f, cpu, t->size, e->ext);
        return true;
    }
    if (!task_read_stack(cpu, t->cpl, e->ext, &sel, &sp) ||
        !segment_check_stack(cpu, sel, t->cpl, EXC_TS, e->ext, &ss))
        return false;
    frame_init_stack(f, &ss, sp, false, t->cpl, t->size, e->ext);
    return true;
}

/* 64-bit: the stack pointer comes from the IST, from the TSS or stays, and is aligned to 16. */
static bool open_stack64(struct cpu *cpu, const struct event *e, const struct descriptor *gate,
                         const struct target *t, struct frame *f)
{
    unsigned ist = gate->low >> 32 & 7;
    bool inner = t->cpl != cpu->cpl;
    struct segment ss = inner ? segment_null((uint16_t)t->cpl) : cpu->seg[SS];
    uint64_t rsp = cpu->gpr[RSP];

    if (ist && !task_read_stack64(cpu, 3 + ist, e->ext, &rsp))
        return false;
    if (!ist && inner && !task_read_stack64(cpu, t->cpl, e->ext, &rsp))
        return false;
    frame_init_stack(f, &ss, rsp & ~UINT64_C(15), true, t->cpl, 8, e->ext);
    f->error = e->ext;
    return true;
}

static void push_event(const struct cpu *cpu, const struct event *e, bool with_stack,
                       struct frame *f)
{
    if (cpu->rflags & FLAG_VM) {
        frame_push(f, cpu->seg[GS].sel);
        frame_push(f, cpu->seg[FS].sel);
        frame_push(f, cpu->seg[DS].sel);
        frame_push(f, cpu->seg[ES].sel);
    }
    if (with_stack) {
        frame_push(f, cpu->seg[SS].sel);
        frame_push(f, cpu->gpr[RSP]);
    }
    frame_push(f, cpu_get_rflags(cpu));
    frame_push(f, cpu->seg[CS].sel);
    frame_push(f, cpu->rip);
    if (e->has_error)
        frame_push(f, e->error);
}

/* The last step: loads the registers. */
static void enter_handler(struct cpu *cpu, const struct target *t, const struct frame *f)
{
    static const uint8_t data[] = {ES, DS, FS, GS};
    uint64_t cleared = FLAG_TF | FLAG_NT | FLAG_RF | FLAG_VM;
    bool from_vm86 = cpu->rflags & FLAG_VM;

    if (t->interrupt_gate)
        cleared |= FLAG_IF;
    for (unsigned i = 0; from_vm86 && i < ARRAY_SIZE(data); i++)
        cpu->seg[data[i]] = segment_null(0);
    cpu->seg[CS] = t->cs;
    cpu->seg[SS] = f->ss;
    cpu->rip = t->rip;
    cpu_set_rflags(cpu, cpu_get_rflags(cpu) & ~cleared);
    cpu_set_cpl(cpu, t->cpl);
    stack_set_pointer(cpu, f->sp);
}

static bool enter_task(struct cpu *cpu, const struct event *e, uint16_t sel)
{
    bool committed;

    if (task_switch(cpu, sel, TASK_EVENT, e->ext, e->has_error, e->error, &committed))
        return true;
    if (!committed || e->kind == INTERRUPT_EXCEPTION || e->kind == INTERRUPT_HARDWARE)
        return false;
    /* The instruction that asked for it is over; the fault is the new task's first event. */
    cpu_deliver_exception(cpu);
    return true;
}

static bool deliver_gate(struct cpu *cpu, const struct event *e)
{
    bool long_mode = cpu->efer & EFER_LMA, opened;
    struct descriptor gate;
    struct target t;
    struct frame f;

    if (!read_gate(cpu, e, &gate))
        return false;
    if (descriptor_system_type(&gate) == SYS_TASK_GATE)
        return enter_task(cpu, e, gate_selector(&gate));
    if (!read_target(cpu, e, &gate, &t))
        return false;
    opened = long_mode ? open_stack64(cpu, e, &gate, &t, &f) : open_stack(cpu, e, &t, &f);
    if (!opened)
        return false;
    push_event(cpu, e, long_mode || t.cpl != cpu->cpl, &f);
    if (!frame_write(cpu, &f))
        return false;
    enter_handler(cpu, &t, &f);
    return true;
}

static bool deliver(struct cpu *cpu, const struct event *e)
{
    bool handled;

    if (!(cpu->cr0 & CR0_PE))
        return deliver_real(cpu, e);
    if ((cpu->rflags & FLAG_VM) && e->kind == INTERRUPT_SOFTWARE) {
        if (!vm86_software(cpu, e, &handled))
            return false;
        if (handled)
            return true;
    }
    return deliver_gate(cpu, e);
}

bool cpu_interrupt(struct cpu *cpu, uint8_t vector, enum interrupt_kind kind, bool has_error,
                   uint32_t error)
{
    bool asked = kind == INTERRUPT_SOFTWARE || kind == INTERRUPT_SOFT_EXCEPTION;
    struct event e = {vector, kind, asked ? 0 : EXT_ERROR, has_error, error};

    /* The trap of a data breakpoint that MOV SS held back waits for the handler's first instruction
     * only if a program called the handler (SDM vol. 3, 6.8.3); a fault and INT1 drop it. */
    if (!asked)
        cpu->pending_db = 0;
    if (!deliver(cpu, &e))
        return false;
    cpu->interrupt_shadow = false;
    cpu->shadow_ss = false;
    return true;
}

/* --- exceptions --- */

static bool is_contributory(unsigned vector)
{
    return vector == EXC_DE || (vector >= EXC_TS && vector <= EXC_GP);
}

/* Does `second`, raised while `first` was being delivered, make a double fault (SDM table 6-5)? */
static bool makes_double_fault(unsigned first, unsigned second)
{
    if (first == EXC_PF)
        return second == EXC_PF || is_contributory(second);
    return is_contributory(first) && is_contributory(second);
}

/* Is RF set in the pushed image? For faults, of which #DB is one only when a debug register was
 * touched (SDM vol. 3, 17.3.1.1; instruction breakpoints are excepted). */
static bool pushes_rf(const struct exception *e)
{
    if (e->vector == EXC_DB)
        return e->dr6 & DR6_BD;
    return e->vector != EXC_BP && e->vector != EXC_OF && e->vector != EXC_DF && e->vector != EXC_MC;
}

/* What an exception changes besides the stack. */
static void note_exception(struct cpu *cpu, const struct exception *e)
{
    if (pushes_rf(e))
        cpu->rflags |= FLAG_RF;
    if (e->vector == EXC_PF)
        cpu->cr2 = e->cr2;
    if (e->vector == EXC_DB) {
        cpu->dr[6] = (cpu->dr[6] & ~DR6_BREAKPOINTS) | e->dr6;
        cpu->dr[7] &= ~DR7_GD;
        cpu->debugctl &= ~DEBUGCTL_LBR_BTF;
    }
    cpu->stats.exceptions[e->vector & 31]++;
    trace_cpu_exception(e->vector, e->error, cpu->rip, cpu->cr2);
    cpu_timeline_trap(cpu, e);
}

static void shut_down(struct cpu *cpu)
{
    trace_cpu_triple_fault(cpu->rip);
    cpu->exc.pending = false;
    cpu->activity = CPU_SHUTDOWN;
}

static void deliver_exception(struct cpu *cpu)
{
    struct exception e = cpu->exc;

    for (unsigned i = 0; i < DELIVERY_ATTEMPTS; i++) {
        cpu->exc.pending = false;
        note_exception(cpu, &e);
        if (cpu_interrupt(cpu, e.vector, INTERRUPT_EXCEPTION, e.has_error, e.error))
            return;
        if (e.vector == EXC_DF && (cpu->exc.vector == EXC_PF || is_contributory(cpu->exc.vector))) {
            shut_down(cpu);
            return;
        }
        if (makes_double_fault(e.vector, cpu->exc.vector))
            cpu_raise_error(cpu, EXC_DF, 0);
        e = cpu->exc;
    }
    cpu->exc.pending = false;
}

void cpu_deliver_exception(struct cpu *cpu)
{
    uint64_t start = timeline_start();
    unsigned vector = cpu->exc.vector;

    /* The instruction that faulted counts, although it did nothing: virtual time goes on even in a
     * handler whose first instruction faults. */
    cpu->icount++;
    deliver_exception(cpu);
    timeline_slice(TIMELINE_DELIVER, "deliver exception", start, vector, 0, 0);
    cpu_timeline_mode(cpu);
}

/* --- events between instructions --- */

/* Delivers what hardware asked for; a fault on the way is delivered instead. */
static void take(struct cpu *cpu, uint8_t vector)
{
    uint64_t start = timeline_start();

    cpu->activity = CPU_ACTIVE;
    trace_cpu_interrupt(vector, cpu->rip);
    timeline_instant(TIMELINE_INTERRUPT, cpu_timeline_vector_name(vector), vector, cpu->rip, 0, 0);
    if (!cpu_interrupt(cpu, vector, INTERRUPT_HARDWARE, false, 0))
        cpu_deliver_exception(cpu);
    timeline_slice(TIMELINE_DELIVER, "deliver interrupt", start, vector, 0, 0);
    cpu_timeline_mode(cpu);
}

static bool take_external(struct cpu *cpu)
{
    int vector;

    if (!cpu->apic.acknowledge)
        return false;
    bus_lock(cpu->bus);
    vector = cpu->apic.acknowledge(cpu->apic.opaque);
    bus_unlock(cpu->bus);
    if (vector < 0)
        return false;
    cpu->stats.interrupts[vector & 255]++;
    take(cpu, (uint8_t)vector);
    return true;
}

static void take_nmi(struct cpu *cpu)
{
    cpu_unsignal(cpu, ATTN_NMI);
    cpu->nmi_blocked = true;
    cpu->stats.interrupts[EXC_NMI]++;
    take(cpu, EXC_NMI);
}

/* There is no system management mode: an SMI is dropped. */
bool cpu_take_event(struct cpu *cpu)
{
    uint32_t attention = atomic_load(&cpu->attention);

    if (attention & ATTN_SMI)
        cpu_unsignal(cpu, ATTN_SMI);
    if (attention & ATTN_INIT) {
        cpu_unsignal(cpu, ATTN_INIT);
        cpu_reset(cpu, true);
        return true;
    }
    if (cpu->activity == CPU_SHUTDOWN || cpu->activity == CPU_WAIT_SIPI)
        return false;
    if ((attention & ATTN_NMI) && !cpu->nmi_blocked && !cpu->shadow_ss) {
        take_nmi(cpu);
        return true;
    }
    if ((attention & ATTN_INTR) && (cpu->rflags & FLAG_IF) && !cpu->interrupt_shadow)
        return take_external(cpu);
    return false;
}

bool cpu_event_ready(struct cpu *cpu)
{
    uint32_t attention = atomic_load(&cpu->attention);

    if (attention & ATTN_INIT)
        return true;
    if (cpu->activity == CPU_SHUTDOWN || cpu->activity == CPU_WAIT_SIPI)
        return false;
    if ((attention & ATTN_NMI) && !cpu->nmi_blocked)
        return true;
    return (attention & ATTN_INTR) && (cpu->rflags & FLAG_IF);
}
