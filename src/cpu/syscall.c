/* SYSCALL, SYSRET, SYSENTER, SYSEXIT, SWAPGS and RDFSBASE to WRGSBASE.
 *
 *                Intel                          AMD
 *   SYSCALL      64-bit mode only               protected modes; CSTAR, or STAR[31:0] in legacy
 *   SYSRET       64-bit mode only; checks RCX   protected modes; no check, SS keeps its attributes
 *   SYSENTER     protected modes                not in long mode
 *   SYSEXIT      protected modes                not in long mode
 *
 * The segments are loaded with fixed contents, the descriptor tables are not read (SDM vol. 2,
 * AMD APM vol. 3). */
#include "cpu/syscall.h"

#include "cpu/cpuid.h"
#include "cpu/segment.h"

#define ATTR_CODE (SEG_G | SEG_P | SEG_S | SEG_CODE | SEG_WRITABLE | SEG_ACCESSED)
#define ATTR_DATA (SEG_G | SEG_DB | SEG_P | SEG_S | SEG_WRITABLE | SEG_ACCESSED)

/* Flags that SYSRET takes from R11: all but RF and VM. */
#define FLAGS_SYSRET (FLAGS_ALL & ~(FLAG_RF | FLAG_VM))

#define DR6_BS (UINT64_C(1) << 14)

#define STAR_SYSCALL_SHIFT 32
#define STAR_SYSRET_SHIFT 48

static struct segment flat(uint16_t sel, unsigned attr, unsigned cpl)
{
    return (struct segment){
        .limit = UINT32_MAX, .sel = sel, .attr = (uint16_t)(attr | cpl << SEG_DPL_SHIFT)};
}

static struct segment flat_code(uint16_t sel, bool wide, unsigned cpl)
{
    return flat(sel, ATTR_CODE | (wide ? SEG_L : SEG_DB), cpl);
}

/* --- SYSCALL and SYSRET --- */

static bool syscall_exists(const struct cpu *cpu)
{
    if (!(cpu->efer & EFER_SCE) || !(cpu->mode & MODE_PROTECTED))
        return false;
    return cpu_is_64bit(cpu) || cpu_model_is_amd(cpu->model);
}

static void enter_kernel(struct cpu *cpu, uint16_t sel, bool wide)
{
    cpu->seg[CS] = flat_code((uint16_t)(sel & ~SEL_RPL), wide, 0);
    cpu->seg[SS] = flat((uint16_t)((sel & ~SEL_RPL) + 8), ATTR_DATA, 0);
    cpu_set_cpl(cpu, 0);
}

bool op_syscall(struct cpu *cpu, const struct insn *in)
{
    uint16_t sel = (uint16_t)(cpu->star >> STAR_SYSCALL_SHIFT);
    uint64_t flags = cpu_get_rflags(cpu) & ~(uint64_t)FLAG_RF;
    bool long_mode = cpu->efer & EFER_LMA;

    (void)in;
    if (!syscall_exists(cpu))
        return cpu_raise_ud(cpu);
    cpu->gpr[RCX] = cpu->rip;
    if (long_mode) {
        cpu->gpr[R11] = flags;
        cpu->rip = cpu_is_64bit(cpu) ? cpu->lstar : cpu->cstar;
        cpu_set_rflags(cpu, flags & ~cpu->fmask);
    } else {
        cpu->rip = (uint32_t)cpu->star;
        cpu_set_rflags(cpu, flags & ~(uint64_t)(FLAG_IF | FLAG_VM));
    }
    enter_kernel(cpu, sel, long_mode);
    return true;
}

/* TF counts after SYSRET: the user program goes on as if its SYSCALL had just been stepped over. */
static void return_flags(struct cpu *cpu, uint64_t flags)
{
    cpu_set_rflags(cpu, flags);
    if (flags & FLAG_TF)
        cpu->pending_db |= DR6_BS;
}

bool op_sysret(struct cpu *cpu, const struct insn *in)
{
    uint16_t sel = (uint16_t)(cpu->star >> STAR_SYSRET_SHIFT) | 3;
    bool amd = cpu_model_is_amd(cpu->model);
    bool from64 = cpu_is_64bit(cpu), wide = from64 && in->osize == 8;
    uint64_t rip = wide ? cpu->gpr[RCX] : (uint32_t)cpu->gpr[RCX];

    if (!syscall_exists(cpu))
        return cpu_raise_ud(cpu);
    if (cpu->cpl != 0 || (wide && !amd && !cpu_canonical(cpu, rip)))
        return cpu_raise_gp(cpu, 0);
    if (from64)
        return_flags(cpu, cpu->gpr[R11] & FLAGS_SYSRET);
    else
        cpu_set_rflags(cpu, cpu_get_rflags(cpu) | FLAG_IF);
    cpu->rip = rip;
    cpu->seg[CS] = flat_code(wide ? sel + 16 : sel, wide, 3);
    if (amd)
        cpu->seg[SS].sel = (uint16_t)(sel + 8);
    else
        cpu->seg[SS] = flat((uint16_t)(sel + 8), ATTR_DATA, 3);
    cpu_set_cpl(cpu, 3);
    return true;
}

/* --- SYSENTER and SYSEXIT --- */

static bool sysenter_exists(const struct cpu *cpu)
{
    return !(cpu->efer & EFER_LMA) || !cpu_model_is_amd(cpu->model);
}

static bool sysenter_usable(const struct cpu *cpu)
{
    return (cpu->cr0 & CR0_PE) && (cpu->sysenter_cs & 0xfffc);
}

bool op_sysenter(struct cpu *cpu, const struct insn *in)
{
    bool wide = cpu->efer & EFER_LMA;

    (void)in;
    if (!sysenter_exists(cpu))
        return cpu_raise_ud(cpu);
    if (!sysenter_usable(cpu))
        return cpu_raise_gp(cpu, 0);
    cpu_set_rflags(cpu, cpu_get_rflags(cpu) & ~(uint64_t)(FLAG_VM | FLAG_IF | FLAG_RF));
    enter_kernel(cpu, (uint16_t)cpu->sysenter_cs, wide);
    cpu->gpr[RSP] = wide ? cpu->sysenter_esp : (uint32_t)cpu->sysenter_esp;
    cpu->rip = wide ? cpu->sysenter_eip : (uint32_t)cpu->sysenter_eip;
    return true;
}

bool op_sysexit(struct cpu *cpu, const struct insn *in)
{
    bool wide = cpu_is_64bit(cpu) && in->osize == 8;
    uint64_t rip = wide ? cpu->gpr[RDX] : (uint32_t)cpu->gpr[RDX];
    uint64_t rsp = wide ? cpu->gpr[RCX] : (uint32_t)cpu->gpr[RCX];
    uint16_t sel = (uint16_t)(cpu->sysenter_cs | 3);

    if (cpu->cpl != 0) /* comes first on AMD processors, where long mode has no SYSEXIT */
        return cpu_raise_gp(cpu, 0);
    if (!sysenter_exists(cpu))
        return cpu_raise_ud(cpu);
    if (!sysenter_usable(cpu) || !cpu_canonical(cpu, rip) || !cpu_canonical(cpu, rsp))
        return cpu_raise_gp(cpu, 0);
    cpu->rip = rip;
    cpu->gpr[RSP] = rsp;
    sel = (uint16_t)(sel + (wide ? 32 : 16));
    cpu->seg[CS] = flat_code(sel, wide, 3);
    cpu->seg[SS] = flat((uint16_t)(sel + 8), ATTR_DATA, 3);
    cpu_set_cpl(cpu, 3);
    return true;
}

/* --- bases of FS and GS --- */

bool op_swapgs(struct cpu *cpu, const struct insn *in)
{
    uint64_t base = cpu->seg[GS].base;

    (void)in;
    if (!cpu_is_64bit(cpu))
        return cpu_raise_ud(cpu);
    if (cpu->cpl != 0)
        return cpu_raise_gp(cpu, 0);
    cpu->seg[GS].base = cpu->kernel_gs_base;
    cpu->kernel_gs_base = base;
    return true;
}

static bool base_readable(const struct cpu *cpu)
{
    return cpu_is_64bit(cpu) && (cpu->cr4 & CR4_FSGSBASE);
}

/* 66 has no effect on these. */
static unsigned base_size(const struct insn *in)
{
    return in->flags & INSN_REX_W ? 8 : 4;
}

static bool read_base(struct cpu *cpu, const struct insn *in, enum seg seg)
{
    if (!base_readable(cpu))
        return cpu_raise_ud(cpu);
    gpr_write(cpu, in->rm, base_size(in), false, cpu->seg[seg].base);
    return true;
}

static bool write_base(struct cpu *cpu, const struct insn *in, enum seg seg)
{
    uint64_t base = gpr_read(cpu, in->rm, base_size(in), false);

    if (!base_readable(cpu))
        return cpu_raise_ud(cpu);
    if (!cpu_canonical(cpu, base))
        return cpu_raise_gp(cpu, 0);
    cpu->seg[seg].base = base;
    return true;
}

bool op_rdfsbase(struct cpu *cpu, const struct insn *in)
{
    return read_base(cpu, in, FS);
}

bool op_rdgsbase(struct cpu *cpu, const struct insn *in)
{
    return read_base(cpu, in, GS);
}

bool op_wrfsbase(struct cpu *cpu, const struct insn *in)
{
    return write_base(cpu, in, FS);
}

bool op_wrgsbase(struct cpu *cpu, const struct insn *in)
{
    return write_base(cpu, in, GS);
}
