/* IRET (SDM vol. 2, IRET/IRETD/IRETQ; vol. 3, 6.12, 20.2 and 20.3).
 *
 *   real mode       IP, CS, FLAGS
 *   virtual-8086    the same with IOPL 3, or with VME on the virtual IF; else #GP
 *   NT set          back to the task that the TSS links to
 *   protected       same level; outer level with SS:ESP; virtual-8086 with all segments
 *   64-bit          SS:RSP always
 *
 * IRET ends the blocking of NMIs even when it faults (SDM vol. 3, 6.7.1), which makes that the one
 * thing changed before the checks. */
#include "cpu/iret.h"

#include "cpu/access.h"
#include "cpu/far.h"
#include "cpu/frame.h"
#include "cpu/task.h"

/* Flags that IRET changes whatever the privilege. */
#define FLAGS_IRET (FLAGS_STATUS | FLAG_TF | FLAG_DF | FLAG_NT | FLAG_RF | FLAG_AC | FLAG_ID)
#define FLAGS_LOW UINT64_C(0xffff)

static void unblock_nmi(struct cpu *cpu)
{
    if (!cpu->nmi_blocked)
        return;
    cpu->nmi_blocked = false;
    atomic_fetch_or(&cpu->attention, ATTN_SHADOW);
}

/* The three items that every form pops. */
static bool pop_frame(struct cpu *cpu, unsigned size, uint64_t v[3])
{
    for (unsigned i = 0; i < 3; i++)
        if (!frame_peek(cpu, i, size, 0, &v[i]))
            return false;
    return true;
}

/* The flags of `mask` that an operand of `size` bytes reaches. */
static uint64_t mask_of_size(uint64_t mask, unsigned size)
{
    return size == 2 ? mask & FLAGS_LOW : mask;
}

static void load_flags(struct cpu *cpu, uint64_t flags, uint64_t mask)
{
    cpu_set_rflags(cpu, (cpu_get_rflags(cpu) & ~mask) | (flags & mask));
}

/* --- real and virtual-8086 mode --- */

static bool iret_real(struct cpu *cpu, const uint64_t v[3], unsigned size, uint64_t mask)
{
    if (!segment_check_rip(cpu, &cpu->seg[CS], v[0], 0))
        return false;
    stack_set_pointer(cpu, cpu->gpr[RSP] + 3 * size);
    segment_load_real(cpu, CS, (uint16_t)v[1]);
    cpu->rip = v[0];
    load_flags(cpu, v[2], mask);
    cpu_update_mode(cpu);
    return true;
}

/* With IOPL below 3 and VME, IF on the stack means VIF, and IF and IOPL stay. */
static bool iret_vme(struct cpu *cpu, const uint64_t v[3])
{
    uint64_t image = v[2] & ~(uint64_t)FLAG_VIF;

    if ((v[2] & FLAG_TF) || ((v[2] & FLAG_IF) && (cpu->rflags & FLAG_VIP)))
        return cpu_raise_gp(cpu, 0);
    if (v[2] & FLAG_IF)
        image |= FLAG_VIF;
    return iret_real(cpu, (const uint64_t[3]){v[0], v[1], image}, 2,
                     (FLAGS_IRET & FLAGS_LOW) | FLAG_VIF);
}

static bool iret_vm86(struct cpu *cpu, const uint64_t v[3], unsigned size)
{
    if (cpu_iopl(cpu) == 3)
        return iret_real(cpu, v, size, mask_of_size(FLAGS_IRET | FLAG_IF, size));
    return iret_vme(cpu, v);
}

/* --- protected mode --- */

static bool iret_task(struct cpu *cpu)
{
    uint16_t sel;

    if (cpu->efer & EFER_LMA)
        return cpu_raise_gp(cpu, 0);
    return task_back_link(cpu, &sel) && task_switch_insn(cpu, sel, TASK_IRET);
}

/* To virtual-8086 mode: ESP, SS, ES, DS, FS and GS follow on the stack. */
static bool iret_to_vm86(struct cpu *cpu, const uint64_t v[3])
{
    static const uint8_t order[] = {SS, ES, DS, FS, GS};
    uint64_t esp, sel[ARRAY_SIZE(order)];
    struct segment cs = segment_vm86((uint16_t)v[1]);

    if (!frame_peek(cpu, 3, 4, 0, &esp))
        return false;
    for (unsigned i = 0; i < ARRAY_SIZE(order); i++)
        if (!frame_peek(cpu, 4 + i, 4, 0, &sel[i]))
            return false;
    if (!segment_check_rip(cpu, &cs, v[0], 0))
        return false;
    cpu->seg[CS] = cs;
    for (unsigned i = 0; i < ARRAY_SIZE(order); i++)
        cpu->seg[order[i]] = segment_vm86((uint16_t)sel[i]);
    cpu->rip = v[0];
    cpu->gpr[RSP] = esp;
    cpu_set_rflags(cpu, v[2]);
    cpu_set_cpl(cpu, 3);
    return true;
}

/* Flags that a program of the present privilege may load. */
static uint64_t flags_mask(const struct cpu *cpu)
{
    uint64_t mask = FLAGS_IRET;

    if (cpu->cpl <= cpu_iopl(cpu))
        mask |= FLAG_IF;
    if (cpu->cpl == 0)
        mask |= FLAG_IOPL | FLAG_VIF | FLAG_VIP;
    return mask;
}

static bool iret_protected(struct cpu *cpu, const uint64_t v[3], unsigned size)
{
    uint64_t sp, ss, mask = flags_mask(cpu);
    bool wide = cpu_is_64bit(cpu); /* 64-bit code always pops the stack pointer, too */
    struct far_return r;

    if (size == 4 && (v[2] & FLAG_VM) && cpu->cpl == 0 && !(cpu->efer & EFER_LMA))
        return iret_to_vm86(cpu, v);
    if (wide && (!frame_peek(cpu, 3, size, 0, &sp) || !frame_peek(cpu, 4, size, 0, &ss)))
        return false;
    if (!far_return_code(cpu, (uint16_t)v[1], v[0], &r))
        return false;
    if ((r.cpl != cpu->cpl || wide) &&
        (!frame_peek(cpu, 3, size, 0, &sp) || !frame_peek(cpu, 4, size, 0, &ss) ||
         !far_return_stack(cpu, (uint16_t)ss, sp, &r)))
        return false;
    load_flags(cpu, v[2], mask_of_size(mask, size));
    far_return_commit(cpu, &r, 3 * size, 0);
    return true;
}

bool op_iret(struct cpu *cpu, const struct insn *in)
{
    bool vm86 = cpu->mode & MODE_VM86, protected = cpu->mode & MODE_PROTECTED;
    bool vme = (cpu->cr4 & CR4_VME) && in->osize == 2;
    uint64_t v[3];

    unblock_nmi(cpu);
    if (vm86 && cpu_iopl(cpu) < 3 && !vme)
        return cpu_raise_gp(cpu, 0);
    if (protected && (cpu->rflags & FLAG_NT))
        return iret_task(cpu);
    if (!pop_frame(cpu, in->osize, v))
        return false;
    if (protected)
        return iret_protected(cpu, v, in->osize);
    if (vm86)
        return iret_vm86(cpu, v, in->osize);
    return iret_real(cpu, v, in->osize, mask_of_size(FLAGS_IRET | FLAG_IF | FLAG_IOPL, in->osize));
}
