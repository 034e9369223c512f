/* cr.c - control registers, debug registers, and the instructions around them.
 *
 * SDM vol. 3, 2.5 (control registers), 4.1 (which changes need which), 4.4.1 (when PDPTEs are
 * loaded), 9.8.5 (switching to long mode), ch. 17 (debug registers); INVPCID, XSETBV, LMSW from
 * vol. 2. Every write is checked completely before anything changes; where PDPTEs have to be loaded
 * under the new values, the old ones are put back when that fails. */
#include "cpu/cr.h"
#include "cpu/access.h"
#include "cpu/cpuid.h"
#include "cpu/paging.h"
#include "cpu/tlb.h"
#include "cpu/xsave.h"

#define CR0_BITS                                                                                   \
    ((uint64_t)(CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW |   \
                CR0_CD | CR0_PG))
#define CR3_NO_FLUSH (UINT64_C(1) << 63)
#define PCID_MASK 0xfffu

#define DR6_BD (UINT64_C(1) << 13)
#define DR7_GD (UINT64_C(1) << 13)
#define DR7_ENABLES UINT64_C(0xff)

#define TSS16_BUSY 3u

/* --- which values are possible --- */

bool cr0_is_valid(uint64_t cr0)
{
    if (cr0 & ~CR0_BITS)
        return false;
    if ((cr0 & CR0_PG) && !(cr0 & CR0_PE))
        return false;
    return !(cr0 & CR0_NW) || (cr0 & CR0_CD);
}

uint64_t cr4_allowed(const struct cpu *cpu)
{
    static const struct {
        uint32_t bits;
        enum cpu_feature feature;
    } rows[] = {
        {CR4_VME | CR4_PVI, FEAT_VME}, {CR4_TSD, FEAT_TSC},       {CR4_DE, FEAT_DE},
        {CR4_PSE, FEAT_PSE},           {CR4_PAE, FEAT_PAE},       {CR4_MCE, FEAT_MCE},
        {CR4_PGE, FEAT_PGE},           {CR4_OSFXSR, FEAT_FXSR},   {CR4_OSXMMEXCPT, FEAT_SSE},
        {CR4_UMIP, FEAT_UMIP},         {CR4_LA57, FEAT_LA57},     {CR4_FSGSBASE, FEAT_FSGSBASE},
        {CR4_PCIDE, FEAT_PCID},        {CR4_OSXSAVE, FEAT_XSAVE}, {CR4_SMEP, FEAT_SMEP},
        {CR4_SMAP, FEAT_SMAP},
    };
    uint64_t allowed = CR4_PCE;

    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
        if (cpu_model_has(cpu->model, rows[i].feature))
            allowed |= rows[i].bits;
    return allowed;
}

bool xcr0_is_valid(const struct cpu *cpu, uint64_t xcr0)
{
    if (!(xcr0 & XCR0_X87) || (xcr0 & ~(cpu_model_xcr0(cpu->model) | XCR0_X87)))
        return false;
    return !(xcr0 & XCR0_AVX) || (xcr0 & XCR0_SSE);
}

uint64_t dr6_fixed(uint64_t v)
{
    return (v & 0xe00f) | 0xffff0ff0;
}

uint64_t dr7_fixed(uint64_t v)
{
    return (v & 0xffff23ff) | 0x400;
}

/* --- CR0, CR3, CR4 --- */

static bool need_cpl0(struct cpu *cpu)
{
    return cpu->cpl == 0 || cpu_raise_gp(cpu, 0);
}

/* Turning paging on with EFER.LME set enters long mode, which has conditions of its own. */
static bool can_enter_long_mode(const struct cpu *cpu)
{
    if (!(cpu->cr4 & CR4_PAE) || (cpu->seg[CS].attr & SEG_L))
        return false;
    return cpu_model_is_amd(cpu->model) || (cpu->tr.attr & SEG_TYPE) != TSS16_BUSY;
}

static bool cr0_change_is_legal(const struct cpu *cpu, uint64_t v)
{
    const uint64_t changed = v ^ cpu->cr0;

    if (!cr0_is_valid(v))
        return false;
    if (!(changed & CR0_PG))
        return true;
    if (v & CR0_PG)
        return !(cpu->efer & EFER_LME) || can_enter_long_mode(cpu);
    return !cpu_is_64bit(cpu) && !(cpu->cr4 & CR4_PCIDE);
}

static void set_lma(struct cpu *cpu)
{
    if ((cpu->cr0 & CR0_PG) && (cpu->efer & EFER_LME))
        cpu->efer |= EFER_LMA;
    else
        cpu->efer &= ~(uint64_t)EFER_LMA;
}

bool cpu_write_cr0(struct cpu *cpu, uint64_t v)
{
    const uint64_t old = cpu->cr0, old_efer = cpu->efer;

    if (v >> 32)
        return cpu_raise_gp(cpu, 0);
    v = (v & CR0_BITS) | CR0_ET;
    if (!cr0_change_is_legal(cpu, v))
        return cpu_raise_gp(cpu, 0);
    cpu->cr0 = v;
    set_lma(cpu);
    if (((v ^ old) & (CR0_PG | CR0_CD | CR0_NW)) && !paging_load_pdptes(cpu, cpu->cr3)) {
        cpu->cr0 = old;
        cpu->efer = old_efer;
        return false;
    }
    if ((v ^ old) & (CR0_PG | CR0_WP | CR0_PE))
        tlb_flush_all(cpu);
    cpu_update_mode(cpu);
    return true;
}

bool cpu_write_cr3(struct cpu *cpu, uint64_t v)
{
    const bool pcide = cpu->cr4 & CR4_PCIDE;
    const bool no_flush = pcide && (v & CR3_NO_FLUSH);

    if (pcide)
        v &= ~CR3_NO_FLUSH;
    if ((cpu->efer & EFER_LMA) && (v & ~(paging_phys_mask(cpu) | PCID_MASK)))
        return cpu_raise_gp(cpu, 0);
    if (!paging_load_pdptes(cpu, v))
        return false;
    cpu->cr3 = v;
    tlb_load_cr3(cpu, no_flush);
    return true;
}

static bool cr4_change_is_legal(const struct cpu *cpu, uint64_t v)
{
    const uint64_t changed = v ^ cpu->cr4;
    const bool lma = cpu->efer & EFER_LMA;

    if (v & ~cr4_allowed(cpu))
        return false;
    if (lma && (!(v & CR4_PAE) || (changed & CR4_LA57)))
        return false;
    return !(changed & v & CR4_PCIDE) || (lma && !(cpu->cr3 & PCID_MASK));
}

bool cpu_write_cr4(struct cpu *cpu, uint64_t v)
{
    const uint64_t old = cpu->cr4;
    const uint64_t translation =
        CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCIDE | CR4_SMEP | CR4_SMAP | CR4_LA57;

    if (!cr4_change_is_legal(cpu, v))
        return cpu_raise_gp(cpu, 0);
    cpu->cr4 = v;
    if (((v ^ old) & (CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP)) &&
        !paging_load_pdptes(cpu, cpu->cr3)) {
        cpu->cr4 = old;
        return false;
    }
    if ((v ^ old) & translation)
        tlb_flush_all(cpu);
    cpu_update_mode(cpu);
    return true;
}

/* --- CR8: the task priority in the local APIC --- */

static uint64_t read_cr8(struct cpu *cpu)
{
    uint64_t v;

    if (!cpu->apic.get_tpr)
        return 0;
    bus_lock(cpu->bus);
    v = cpu->apic.get_tpr(cpu->apic.opaque) & 15;
    bus_unlock(cpu->bus);
    return v;
}

static bool write_cr8(struct cpu *cpu, uint64_t v)
{
    if (v > 15)
        return cpu_raise_gp(cpu, 0);
    if (!cpu->apic.set_tpr)
        return true;
    bus_lock(cpu->bus);
    cpu->apic.set_tpr(cpu->apic.opaque, (uint8_t)v);
    bus_unlock(cpu->bus);
    return true;
}

/* AMD's processors let 32-bit code reach CR8 as LOCK MOV CR0. */
static unsigned control_register(const struct cpu *cpu, const struct insn *in)
{
    if (in->reg == 0 && (in->flags & INSN_LOCK) && cpu_model_has(cpu->model, FEAT_CR8_LEGACY))
        return 8;
    return in->reg;
}

/* Moves to and from control and debug registers have 64-bit operands in 64-bit mode and 32-bit ones
 * elsewhere; prefixes don't matter. */
static void set_gpr(struct cpu *cpu, unsigned reg, uint64_t v)
{
    cpu->gpr[reg] = cpu_is_64bit(cpu) ? v : (uint32_t)v;
}

static uint64_t get_gpr(const struct cpu *cpu, unsigned reg)
{
    return cpu_is_64bit(cpu) ? cpu->gpr[reg] : (uint32_t)cpu->gpr[reg];
}

bool op_mov_from_cr(struct cpu *cpu, const struct insn *in)
{
    const unsigned cr = control_register(cpu, in);
    uint64_t v = 0;

    if (cr > 8 || (cr != 8 && cr > 4) || cr == 1)
        return cpu_raise_ud(cpu);
    if (!need_cpl0(cpu))
        return false;
    switch (cr) {
    case 0: v = cpu->cr0; break;
    case 2: v = cpu->cr2; break;
    case 3: v = cpu->cr3; break;
    case 4: v = cpu->cr4; break;
    default: v = read_cr8(cpu);
    }
    set_gpr(cpu, in->rm, v);
    return true;
}

bool op_mov_to_cr(struct cpu *cpu, const struct insn *in)
{
    const unsigned cr = control_register(cpu, in);
    const uint64_t v = get_gpr(cpu, in->rm);

    if (cr > 8 || (cr != 8 && cr > 4) || cr == 1)
        return cpu_raise_ud(cpu);
    if (!need_cpl0(cpu))
        return false;
    switch (cr) {
    case 0: return cpu_write_cr0(cpu, v);
    case 2: cpu->cr2 = v; return true;
    case 3: return cpu_write_cr3(cpu, v);
    case 4: return cpu_write_cr4(cpu, v);
    default: return write_cr8(cpu, v);
    }
}

/* --- debug registers --- */

/* Checks that are the same in both directions; gives the register, DR4 and DR5 being other names of
 * DR6 and DR7 while CR4.DE is clear. */
static bool debug_register(struct cpu *cpu, const struct insn *in, unsigned *dr)
{
    if (in->reg > 7 || ((cpu->cr4 & CR4_DE) && (in->reg == 4 || in->reg == 5)))
        return cpu_raise_ud(cpu);
    if (!need_cpl0(cpu))
        return false;
    if (cpu->dr[7] & DR7_GD)
        return cpu_raise_db(cpu, DR6_BD);
    *dr = in->reg == 4 || in->reg == 5 ? in->reg + 2u : in->reg;
    return true;
}

bool op_mov_from_dr(struct cpu *cpu, const struct insn *in)
{
    unsigned dr = 0;

    if (!debug_register(cpu, in, &dr))
        return false;
    set_gpr(cpu, in->rm, cpu->dr[dr]);
    return true;
}

/* Pages with data breakpoints are not in the TLB, so that every access to them is looked at. */
static void breakpoints_changed(struct cpu *cpu)
{
    tlb_flush_all(cpu);
    atomic_fetch_or(&cpu->attention, ATTN_SHADOW);
}

bool op_mov_to_dr(struct cpu *cpu, const struct insn *in)
{
    const uint64_t v = get_gpr(cpu, in->rm);
    unsigned dr = 0;

    if (!debug_register(cpu, in, &dr))
        return false;
    if (dr >= 6 && v >> 32)
        return cpu_raise_gp(cpu, 0);
    if (dr == 6) {
        cpu->dr[6] = dr6_fixed(v);
    } else if (dr == 7) {
        const uint64_t old = cpu->dr[7];

        cpu->dr[7] = dr7_fixed(v);
        if (cpu->dr[7] != old)
            breakpoints_changed(cpu);
    } else {
        cpu->dr[dr] = v;
        if (cpu->dr[7] & DR7_ENABLES)
            breakpoints_changed(cpu);
    }
    return true;
}

/* --- the machine status word --- */

/* LMSW can set PE but not clear it. */
bool op_lmsw(struct cpu *cpu, const struct insn *in)
{
    const uint64_t bits = CR0_PE | CR0_MP | CR0_EM | CR0_TS;
    uint64_t v;

    if (!need_cpl0(cpu))
        return false;
    if (!(in->flags & INSN_MEM))
        v = cpu->gpr[in->rm];
    else if (!virt_read_int(cpu, in->seg, insn_ea(cpu, in), 2, &v))
        return false;
    return cpu_write_cr0(cpu, (cpu->cr0 & ~(bits & ~(uint64_t)CR0_PE)) | (v & bits));
}

bool op_smsw(struct cpu *cpu, const struct insn *in)
{
    if ((cpu->cr4 & CR4_UMIP) && cpu->cpl > 0)
        return cpu_raise_gp(cpu, 0);
    if (in->flags & INSN_MEM)
        return virt_write_int(cpu, in->seg, insn_ea(cpu, in), 2, (uint16_t)cpu->cr0);
    gpr_write(cpu, in->rm, in->osize, false, cpu->cr0);
    return true;
}

bool op_clts(struct cpu *cpu, const struct insn *in)
{
    (void)in;
    if (!need_cpl0(cpu))
        return false;
    cpu->cr0 &= ~(uint64_t)CR0_TS;
    cpu_update_mode(cpu);
    return true;
}

/* --- invalidating translations --- */

/* INVLPG checks neither limits nor canonical form: an address that can't be accessed has no
 * translation to lose. */
bool op_invlpg(struct cpu *cpu, const struct insn *in)
{
    uint64_t gva = insn_ea(cpu, in);

    if (!(in->flags & INSN_MEM))
        return cpu_raise_ud(cpu);
    if (!need_cpl0(cpu))
        return false;
    if (!cpu_is_64bit(cpu))
        gva = (uint32_t)(gva + cpu->seg[in->seg].base);
    else if (in->seg == FS || in->seg == GS)
        gva += cpu->seg[in->seg].base;
    tlb_invalidate_page(cpu, gva);
    return true;
}

enum invpcid_type {
    INVPCID_ADDRESS,
    INVPCID_CONTEXT,
    INVPCID_ALL_GLOBAL,
    INVPCID_ALL,
    INVPCID_TYPES
};

static bool invpcid_is_legal(const struct cpu *cpu, uint64_t type, const uint64_t desc[2])
{
    if (desc[0] & ~(uint64_t)PCID_MASK)
        return false;
    if ((type == INVPCID_ADDRESS || type == INVPCID_CONTEXT) && desc[0] && !(cpu->cr4 & CR4_PCIDE))
        return false;
    return type != INVPCID_ADDRESS || cpu_canonical(cpu, desc[1]);
}

/* Only a page of the current address space is invalidated alone; dropping more than was asked for
 * is always allowed. */
bool op_invpcid(struct cpu *cpu, const struct insn *in)
{
    const uint64_t type = get_gpr(cpu, in->reg);
    const uint64_t current = cpu->cr4 & CR4_PCIDE ? cpu->cr3 & PCID_MASK : 0;
    uint64_t desc[2];

    if (!(in->flags & INSN_MEM))
        return cpu_raise_ud(cpu);
    if (!need_cpl0(cpu))
        return false;
    if (type >= INVPCID_TYPES)
        return cpu_raise_gp(cpu, 0);
    if (!virt_read(cpu, in->seg, insn_ea(cpu, in), desc, sizeof(desc)))
        return false;
    if (!invpcid_is_legal(cpu, type, desc))
        return cpu_raise_gp(cpu, 0);
    if (type == INVPCID_ADDRESS && desc[0] == current)
        tlb_invalidate_page(cpu, desc[1]);
    else
        tlb_flush_all(cpu);
    return true;
}

/* --- extended control registers --- */

bool op_xsetbv(struct cpu *cpu, const struct insn *in)
{
    const uint64_t v = cpu->gpr[RDX] << 32 | (uint32_t)cpu->gpr[RAX];

    (void)in;
    if (!(cpu->cr4 & CR4_OSXSAVE))
        return cpu_raise_ud(cpu);
    if (!need_cpl0(cpu))
        return false;
    if ((uint32_t)cpu->gpr[RCX] != 0 || !xcr0_is_valid(cpu, v))
        return cpu_raise_gp(cpu, 0);
    cpu->xcr0 = v;
    cpu_update_mode(cpu);
    return true;
}

bool op_xgetbv(struct cpu *cpu, const struct insn *in)
{
    const uint32_t which = (uint32_t)cpu->gpr[RCX];
    uint64_t v = cpu->xcr0;

    (void)in;
    if (!(cpu->cr4 & CR4_OSXSAVE))
        return cpu_raise_ud(cpu);
    if (which > 1 || (which == 1 && !cpu_model_has(cpu->model, FEAT_XGETBV1)))
        return cpu_raise_gp(cpu, 0);
    if (which == 1)
        v &= xsave_in_use(cpu);
    cpu->gpr[RAX] = (uint32_t)v;
    cpu->gpr[RDX] = v >> 32;
    return true;
}
