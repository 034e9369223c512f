/* system.c - HLT, MONITOR, MWAIT; CLI, STI, PUSHF, POPF with all rules of IOPL, VME and PVI;
 * RDRAND.
 *
 * SDM vol. 2, each instruction; vol. 3, ch. 20 (virtual-8086 mode and its extensions), ch. 21.3.
 * There is no system-management mode, so RSM is always #UD. There are no caches of ours to write
 * back or to forget. */
#include "base/random.h"
#include "cpu/system.h"
#include "cpu/access.h"
#include "cpu/paging.h"

#include <sys/random.h>

/* --- waiting --- */

bool op_hlt(struct cpu *cpu, const struct insn *in)
{
    (void)in;
    if (cpu->cpl != 0)
        return cpu_raise_gp(cpu, 0);
    cpu->activity = CPU_HALTED;
    cpu->stats.halts++;
    return true;
}

/* A guest that spins waits for something, often for time: timers that are due fire here, should the
 * main thread not have got round to them. */
bool op_pause(struct cpu *cpu, const struct insn *in)
{
    (void)in;
    if (cpu->clock->mode == CLOCK_HOST) {
        bus_lock(cpu->bus);
        if (clock_next_deadline(cpu->clock) <= clock_now(cpu->clock))
            clock_run_timers(cpu->clock);
        bus_unlock(cpu->bus);
    }
    return true;
}

/* The address is RAX, in DS or the segment of a prefix; it is checked like a load. */
bool op_monitor(struct cpu *cpu, const struct insn *in)
{
    const uint64_t ea = gpr_read(cpu, RAX, in->asize, false);
    struct translation t;
    gva_t gva;

    if (cpu->cpl != 0)
        return cpu_raise_ud(cpu);
    if ((uint32_t)cpu->gpr[RCX] != 0)
        return cpu_raise_gp(cpu, 0);
    if (!seg_to_linear(cpu, in->seg, ea, 1, ACCESS_READ, &gva) ||
        !paging_translate(cpu, gva, ACCESS_READ, &t))
        return false;
    cpu->monitor_gpa = t.gpa;
    return true;
}

/* MWAIT may end for any reason. It ends at once: stores to the monitored line are not watched, and
 * whoever waits in this way looks at the line again. */
bool op_mwait(struct cpu *cpu, const struct insn *in)
{
    const uint32_t break_on_masked_interrupt = 1;

    (void)in;
    if (cpu->cpl != 0)
        return cpu_raise_ud(cpu);
    if ((uint32_t)cpu->gpr[RCX] & ~break_on_masked_interrupt)
        return cpu_raise_gp(cpu, 0);
    cpu->monitor_gpa = UINT64_MAX;
    return true;
}

bool op_invd(struct cpu *cpu, const struct insn *in)
{
    (void)in;
    return cpu->cpl == 0 || cpu_raise_gp(cpu, 0);
}

bool op_wbinvd(struct cpu *cpu, const struct insn *in)
{
    return op_invd(cpu, in);
}

/* --- the interrupt flag --- */

enum if_access {
    IF_REAL,    /* CLI and STI change IF */
    IF_VIRTUAL, /* ...change VIF instead */
    IF_FAULT,   /* ...give #GP(0) */
};

static enum if_access if_access(const struct cpu *cpu)
{
    if (cpu->cpl <= cpu_iopl(cpu))
        return IF_REAL;
    if (cpu->mode & MODE_VM86)
        return cpu->cr4 & CR4_VME ? IF_VIRTUAL : IF_FAULT;
    return cpu->cpl == 3 && (cpu->cr4 & CR4_PVI) ? IF_VIRTUAL : IF_FAULT;
}

bool op_cli(struct cpu *cpu, const struct insn *in)
{
    (void)in;
    switch (if_access(cpu)) {
    case IF_REAL: cpu->rflags &= ~(uint64_t)FLAG_IF; return true;
    case IF_VIRTUAL: cpu->rflags &= ~(uint64_t)FLAG_VIF; return true;
    default: return cpu_raise_gp(cpu, 0);
    }
}

/* An STI that sets IF holds off interrupts until the next instruction is done. */
bool op_sti(struct cpu *cpu, const struct insn *in)
{
    (void)in;
    switch (if_access(cpu)) {
    case IF_REAL:
        if (!(cpu->rflags & FLAG_IF)) {
            cpu->rflags |= FLAG_IF;
            cpu->interrupt_shadow = true;
            atomic_fetch_or(&cpu->attention, ATTN_SHADOW);
        }
        return true;
    case IF_VIRTUAL:
        if (cpu->rflags & FLAG_VIP)
            return cpu_raise_gp(cpu, 0);
        cpu->rflags |= FLAG_VIF;
        return true;
    default: return cpu_raise_gp(cpu, 0);
    }
}

/* --- PUSHF and POPF --- */

/* Virtual-8086 code without I/O privilege: only with VME, and then only with 16-bit operands. */
static bool is_restricted_vm86(const struct cpu *cpu)
{
    return (cpu->mode & MODE_VM86) && cpu_iopl(cpu) < 3;
}

static bool has_virtual_flags(const struct cpu *cpu, const struct insn *in)
{
    return (cpu->cr4 & CR4_VME) && in->osize == 2;
}

bool op_pushf(struct cpu *cpu, const struct insn *in)
{
    uint64_t v = cpu_get_rflags(cpu) & ~(uint64_t)(FLAG_VM | FLAG_RF);

    if (is_restricted_vm86(cpu)) {
        if (!has_virtual_flags(cpu, in))
            return cpu_raise_gp(cpu, 0);
        v = (v & ~(uint64_t)FLAG_IF) | FLAG_IOPL | (v & FLAG_VIF ? FLAG_IF : 0u);
    }
    return stack_push(cpu, v, in->osize);
}

/* Flags that POPF takes from the stack; VM, VIF and VIP never. */
static uint64_t popf_mask(const struct cpu *cpu, unsigned osize)
{
    uint64_t mask = FLAGS_STATUS | FLAG_TF | FLAG_DF | FLAG_NT;

    if (osize > 2)
        mask |= FLAG_AC | FLAG_ID;
    if (cpu->cpl == 0)
        mask |= FLAG_IOPL;
    if (cpu->cpl <= cpu_iopl(cpu))
        mask |= FLAG_IF;
    return mask;
}

/* VME: VIF takes the place of IF. False: #GP(0) is due. */
static bool popf_virtual(struct cpu *cpu, uint64_t v)
{
    const uint64_t mask = FLAGS_STATUS | FLAG_DF | FLAG_NT;
    uint64_t flags = cpu_get_rflags(cpu);

    if ((v & FLAG_TF) || ((v & FLAG_IF) && (flags & FLAG_VIP)))
        return false;
    flags = (flags & ~(mask | FLAG_VIF | FLAG_TF | FLAG_RF)) | (v & mask);
    cpu_set_rflags(cpu, flags | (v & FLAG_IF ? FLAG_VIF : 0u));
    return true;
}

bool op_popf(struct cpu *cpu, const struct insn *in)
{
    const uint64_t rsp = cpu->gpr[RSP], mask = popf_mask(cpu, in->osize);
    uint64_t v;

    if (is_restricted_vm86(cpu) && !has_virtual_flags(cpu, in))
        return cpu_raise_gp(cpu, 0);
    if (!stack_pop(cpu, &v, in->osize))
        return false;
    if (!is_restricted_vm86(cpu)) {
        cpu_set_rflags(cpu, (cpu_get_rflags(cpu) & ~(mask | FLAG_RF)) | (v & mask));
        return true;
    }
    if (popf_virtual(cpu, v))
        return true;
    cpu->gpr[RSP] = rsp;
    return cpu_raise_gp(cpu, 0);
}

bool op_rsm(struct cpu *cpu, const struct insn *in)
{
    (void)in;
    return cpu_raise_ud(cpu);
}

/* --- random numbers --- */

/* False: the host has no entropy right now, which the guest is told in CF. */
static bool random_number(struct cpu *cpu, uint64_t *v)
{
    if (cpu->clock->mode == CLOCK_VIRTUAL) {
        *v = random_repeatable(&cpu->rng_state);
        return true;
    }
    return getrandom(v, sizeof(*v), GRND_NONBLOCK) == (ssize_t)sizeof(*v);
}

bool op_rdrand(struct cpu *cpu, const struct insn *in)
{
    uint64_t v = 0;
    const bool ok = random_number(cpu, &v);

    gpr_write(cpu, in->rm, in->osize, false, ok ? v : 0);
    cpu_set_status_flags(cpu, ok ? FLAG_CF : 0);
    return true;
}

bool op_rdseed(struct cpu *cpu, const struct insn *in)
{
    return op_rdrand(cpu, in);
}
