/* The task-state segment (SDM vol. 3, ch. 7).
 *
 * Offsets       16-bit TSS   32-bit TSS    64-bit TSS
 * back link     0            0
 * stacks        2, 4, ...    4, 8, ...     4 (RSP0..2), 36 (IST1..7)
 * CR3                        28
 * IP, FLAGS     14, 16       32, 36
 * registers     18..32       40..68
 * ES CS SS DS   34..40       72..84
 * FS GS                      88, 92
 * LDT           42           96
 * T flag                     100
 *
 * A switch has two parts. Up to the commit point everything that the old task could be blamed for
 * is checked, including that all the memory can be written. From there on the new task is in force,
 * its segment registers hold selectors only, and are loaded one after the other; a fault is its. */
#include "cpu/task.h"

#include "cpu/access.h"
#include "cpu/cr.h"
#include "cpu/frame.h"
#include "cpu/interrupt.h"
#include "cpu/segment.h"

#include <string.h>

#define DR6_BT UINT64_C(0x8000)
#define DR7_LOCAL UINT64_C(0x155) /* L0..L3 and LE */
#define TSS_T 1u

struct tss16 {
    uint16_t link, stack[6], ip, flags, gpr[8], sreg[4], ldt;
};
struct tss32 {
    uint32_t link, stack[6], cr3, eip, eflags, gpr[8], sreg[6], ldt;
    uint16_t trap, io_map;
};
_Static_assert(sizeof(struct tss16) == 44, "16-bit TSS");
_Static_assert(sizeof(struct tss32) == 104, "32-bit TSS");
_Static_assert(offsetof(struct tss32, ldt) == 96, "32-bit TSS");

struct switching {
    struct cpu *cpu;
    enum task_reason reason;
    unsigned ext;
    uint16_t sel;               /* of the new TSS */
    struct descriptor old, new; /* of the TSSs */
    struct segment tr;          /* the new TR */
    struct tss32 image;         /* the new TSS; a 16-bit one in the form of a 32-bit one */
};

static bool is_tss32(uint16_t attr)
{
    return attr & 8;
}

/* --- stacks of inner levels --- */

static bool tss_read(struct cpu *cpu, unsigned offset, void *buf, unsigned len, unsigned ext)
{
    if (offset + len - 1 > cpu->tr.limit)
        return segment_fault(cpu, EXC_TS, cpu->tr.sel, ext);
    return lin_read(cpu, cpu->tr.base + offset, buf, len, ACCESS_READ | ACCESS_SYSTEM);
}

bool task_read_stack(struct cpu *cpu, unsigned cpl, unsigned ext, uint16_t *ss, uint64_t *sp)
{
    uint16_t words[2];
    uint32_t dwords[2] = {0, 0};

    if (is_tss32(cpu->tr.attr)) {
        if (!tss_read(cpu, 4 + cpl * 8, dwords, 6, ext))
            return false;
        *sp = dwords[0];
        *ss = (uint16_t)dwords[1];
        return true;
    }
    if (!tss_read(cpu, 2 + cpl * 4, words, 4, ext))
        return false;
    *sp = words[0];
    *ss = words[1];
    return true;
}

bool task_read_stack64(struct cpu *cpu, unsigned slot, unsigned ext, uint64_t *rsp)
{
    uint64_t v;

    if (!tss_read(cpu, 4 + slot * 8, &v, 8, ext))
        return false;
    if (!cpu_canonical(cpu, v))
        return cpu_raise_error(cpu, EXC_SS, ext);
    *rsp = v;
    return true;
}

bool task_back_link(struct cpu *cpu, uint16_t *sel)
{
    return tss_read(cpu, 0, sel, 2, 0);
}

/* --- before the commit point --- */

static bool read_new_descriptor(struct switching *s)
{
    struct cpu *cpu = s->cpu;
    enum vector vector = s->reason == TASK_IRET ? EXC_TS : EXC_GP;
    unsigned type, wanted = s->reason == TASK_IRET ? SYS_BUSY : 0;

    if (selector_is_null(s->sel) || (s->sel & SEL_TI))
        return segment_fault(cpu, vector, s->sel, s->ext);
    if (!descriptor_read(cpu, s->sel, vector, s->ext, &s->new))
        return false;
    type = descriptor_system_type(&s->new);
    if (type != (SYS_TSS16 | wanted) && type != (SYS_TSS32 | wanted))
        return segment_fault(cpu, vector, s->sel, s->ext);
    if (!(descriptor_attr(&s->new) & SEG_P))
        return segment_fault(cpu, EXC_NP, s->sel, s->ext);
    s->tr = segment_from(&s->new, s->sel);
    if (s->tr.limit < (is_tss32(s->tr.attr) ? sizeof(struct tss32) : sizeof(struct tss16)) - 1)
        return segment_fault(cpu, EXC_TS, s->sel, s->ext);
    return true;
}

/* A 286 task has no upper halves: the general registers get ones there, FS and GS are null. */
static void widen(struct tss32 *to, const struct tss16 *from)
{
    memset(to, 0, sizeof *to);
    to->eip = from->ip;
    to->eflags = from->flags;
    for (unsigned i = 0; i < 8; i++)
        to->gpr[i] = 0xffff0000 | from->gpr[i];
    for (unsigned i = 0; i < 4; i++)
        to->sreg[i] = from->sreg[i];
    to->ldt = from->ldt;
}

static bool read_new_image(struct switching *s)
{
    const unsigned access = ACCESS_READ | ACCESS_SYSTEM;
    struct tss16 small;

    if (is_tss32(s->tr.attr))
        return lin_read(s->cpu, s->tr.base, &s->image, sizeof s->image, access);
    if (!lin_read(s->cpu, s->tr.base, &small, sizeof small, access))
        return false;
    widen(&s->image, &small);
    return true;
}

/* The descriptor of the running task, and that its TSS can take the state. */
static bool check_old_task(struct switching *s)
{
    struct cpu *cpu = s->cpu;
    unsigned size = is_tss32(cpu->tr.attr) ? sizeof(struct tss32) : sizeof(struct tss16);

    if (cpu->tr.limit < size - 1)
        return segment_fault(cpu, EXC_TS, cpu->tr.sel, s->ext);
    return descriptor_read(cpu, cpu->tr.sel, EXC_TS, s->ext, &s->old) &&
           lin_probe(cpu, cpu->tr.base, size, ACCESS_WRITE | ACCESS_SYSTEM);
}

/* Everything that will be written on the way besides the old TSS. */
static bool check_writes(struct switching *s)
{
    const unsigned access = ACCESS_WRITE | ACCESS_SYSTEM;
    struct cpu *cpu = s->cpu;

    return lin_probe(cpu, s->old.address, 8, access) && lin_probe(cpu, s->new.address, 8, access) &&
           lin_probe(cpu, s->tr.base, 2, access);
}

/* --- the commit: writes that were checked before --- */

static bool save_old16(struct cpu *cpu, uint64_t flags)
{
    struct tss16 t;

    t.ip = (uint16_t)cpu->rip;
    t.flags = (uint16_t)flags;
    for (unsigned i = 0; i < 8; i++)
        t.gpr[i] = (uint16_t)cpu->gpr[i];
    for (unsigned i = 0; i < 4; i++)
        t.sreg[i] = cpu->seg[i].sel;
    return lin_write(cpu, cpu->tr.base + offsetof(struct tss16, ip), &t.ip,
                     offsetof(struct tss16, ldt) - offsetof(struct tss16, ip),
                     ACCESS_WRITE | ACCESS_SYSTEM);
}

static bool save_old32(struct cpu *cpu, uint64_t flags)
{
    struct tss32 t;

    t.eip = (uint32_t)cpu->rip;
    t.eflags = (uint32_t)flags;
    for (unsigned i = 0; i < 8; i++)
        t.gpr[i] = (uint32_t)cpu->gpr[i];
    for (unsigned i = 0; i < 6; i++)
        t.sreg[i] = cpu->seg[i].sel;
    return lin_write(cpu, cpu->tr.base + offsetof(struct tss32, eip), &t.eip,
                     offsetof(struct tss32, ldt) - offsetof(struct tss32, eip),
                     ACCESS_WRITE | ACCESS_SYSTEM);
}

static bool save_old(struct switching *s)
{
    struct cpu *cpu = s->cpu;
    uint64_t flags = cpu_get_rflags(cpu);
    bool leaves = s->reason == TASK_JMP || s->reason == TASK_IRET;

    if (s->reason == TASK_IRET)
        flags &= ~(uint64_t)FLAG_NT;
    if (leaves && !descriptor_retype(cpu, &s->old, 0, SYS_BUSY))
        return false;
    return is_tss32(cpu->tr.attr) ? save_old32(cpu, flags) : save_old16(cpu, flags);
}

static bool mark_new(struct switching *s)
{
    struct cpu *cpu = s->cpu;
    bool nested = s->reason == TASK_CALL || s->reason == TASK_EVENT;

    if (nested) {
        uint16_t link = cpu->tr.sel;

        s->image.eflags |= FLAG_NT;
        if (!lin_write(cpu, s->tr.base, &link, 2, ACCESS_WRITE | ACCESS_SYSTEM))
            return false;
    }
    return s->reason == TASK_IRET || descriptor_retype(cpu, &s->new, SYS_BUSY, 0);
}

/* Registers and selectors; every segment is unusable until its descriptor is loaded. */
static void load_registers(struct switching *s)
{
    const struct tss32 *t = &s->image;
    struct cpu *cpu = s->cpu;

    cpu->tr = s->tr;
    cpu->tr.attr |= SYS_BUSY;
    cpu->cr0 |= CR0_TS;
    cpu->dr[7] &= ~DR7_LOCAL;
    cpu->rip = t->eip;
    for (unsigned i = 0; i < 8; i++)
        cpu->gpr[i] = t->gpr[i];
    for (unsigned i = 0; i < SEG_COUNT; i++)
        cpu->seg[i] = segment_null((uint16_t)t->sreg[i]);
    cpu->ldtr = segment_null((uint16_t)t->ldt);
    cpu_set_rflags(cpu, t->eflags);
    cpu_set_cpl(cpu, t->eflags & FLAG_VM ? 3 : selector_rpl((uint16_t)t->sreg[CS]));
}

/* --- after the commit point --- */

static bool load_cr3(struct switching *s)
{
    struct cpu *cpu = s->cpu;

    if (!(cpu->cr0 & CR0_PG) || !is_tss32(s->tr.attr))
        return true;
    return cpu_write_cr3(cpu, s->image.cr3);
}

static bool load_code(struct cpu *cpu, uint16_t sel)
{
    struct descriptor d;
    unsigned dpl;

    if (selector_is_null(sel))
        return segment_fault(cpu, EXC_TS, 0, 0);
    if (!descriptor_read(cpu, sel, EXC_TS, 0, &d))
        return false;
    dpl = descriptor_dpl(&d);
    if (!descriptor_is_code(&d) || dpl > cpu->cpl ||
        (dpl < cpu->cpl && !descriptor_is_conforming(&d)))
        return segment_fault(cpu, EXC_TS, sel, 0);
    if (!(descriptor_attr(&d) & SEG_P))
        return segment_fault(cpu, EXC_NP, sel, 0);
    return segment_take_code(cpu, &d, sel, cpu->cpl, &cpu->seg[CS]);
}

static bool load_segments(struct switching *s)
{
    static const uint8_t data[] = {ES, DS, FS, GS};
    struct cpu *cpu = s->cpu;

    if (cpu->rflags & FLAG_VM) {
        for (unsigned i = 0; i < SEG_COUNT; i++)
            cpu->seg[i] = segment_vm86((uint16_t)s->image.sreg[i]);
        return true;
    }
    if (!load_code(cpu, (uint16_t)s->image.sreg[CS]) ||
        !segment_check_stack(cpu, (uint16_t)s->image.sreg[SS], cpu->cpl, EXC_TS, 0, &cpu->seg[SS]))
        return false;
    for (unsigned i = 0; i < ARRAY_SIZE(data); i++)
        if (!segment_check_data(cpu, (uint16_t)s->image.sreg[data[i]], cpu->cpl, EXC_TS,
                                &cpu->seg[data[i]]))
            return false;
    return true;
}

static bool load_new(struct switching *s)
{
    struct cpu *cpu = s->cpu;
    bool loaded = load_cr3(s) &&
                  segment_check_ldt(cpu, (uint16_t)s->image.ldt, EXC_TS, &cpu->ldtr) &&
                  load_segments(s);

    cpu_update_mode(cpu);
    if (s->image.trap & TSS_T) {
        cpu->pending_db |= DR6_BT;
        atomic_fetch_or(&cpu->attention, ATTN_SHADOW);
    }
    return loaded && segment_check_rip(cpu, &cpu->seg[CS], cpu->rip, 0);
}

static bool push_error(struct switching *s, uint32_t error)
{
    struct cpu *cpu = s->cpu;
    struct frame f;

    frame_init_current(&f, cpu, is_tss32(s->tr.attr) ? 4 : 2, s->ext);
    frame_push(&f, error);
    if (!frame_write(cpu, &f))
        return false;
    stack_set_pointer(cpu, f.sp);
    return true;
}

bool task_switch(struct cpu *cpu, uint16_t sel, enum task_reason reason, unsigned ext,
                 bool has_error, uint32_t error, bool *committed)
{
    struct switching s = {.cpu = cpu, .reason = reason, .ext = ext, .sel = sel};

    *committed = false;
    if (!read_new_descriptor(&s) || !read_new_image(&s) || !check_old_task(&s) || !check_writes(&s))
        return false;
    if (!save_old(&s) || !mark_new(&s))
        return false;
    *committed = true;
    load_registers(&s);
    return load_new(&s) && (!has_error || push_error(&s, error));
}

bool task_switch_insn(struct cpu *cpu, uint16_t sel, enum task_reason reason)
{
    bool committed;

    if (task_switch(cpu, sel, reason, 0, false, 0, &committed))
        return true;
    if (!committed)
        return false;
    cpu_deliver_exception(cpu);
    return true;
}
