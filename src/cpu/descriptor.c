/* MOV, PUSH and POP of segment registers, LDS to LGS, LAR, LSL, VERR, VERW, ARPL, and the loads and
 * stores of GDTR, IDTR, LDTR and TR (SDM vol. 2; vol. 3, 5.10 and 2.8). */
#include "cpu/descriptor.h"

#include "cpu/access.h"
#include "cpu/cpuid.h"
#include "cpu/far.h"
#include "cpu/segment.h"

#include <Zydis/Zydis.h>
#include <string.h>

/* What LAR gives of the second half of a descriptor: all but the base. */
#define LAR_MASK 0x00ffff00u

/* The 16-bit r/m operand of these instructions, whatever the operand size. */
static bool read_selector(struct cpu *cpu, const struct insn *in, uint16_t *sel)
{
    uint64_t v = cpu->gpr[in->rm];

    if ((in->flags & INSN_MEM) && !virt_read_int(cpu, in->seg, insn_ea(cpu, in), 2, &v))
        return false;
    *sel = (uint16_t)v;
    return true;
}

/* Stores 16 bits to memory, or the operand size (zero-extended) to a register. */
static bool write_selector(struct cpu *cpu, const struct insn *in, uint16_t sel)
{
    if (in->flags & INSN_MEM)
        return virt_write_int(cpu, in->seg, insn_ea(cpu, in), 2, sel);
    gpr_write(cpu, in->rm, in->osize, false, sel);
    return true;
}

/* --- segment registers --- */

/* After MOV SS and POP SS neither an interrupt nor #DB comes before the next instruction. */
static void shadow_stack_load(struct cpu *cpu)
{
    cpu->interrupt_shadow = true;
    cpu->shadow_ss = true;
    atomic_fetch_or(&cpu->attention, ATTN_SHADOW);
}

bool op_mov_to_sreg(struct cpu *cpu, const struct insn *in)
{
    uint16_t sel;

    if (in->reg == CS || in->reg >= SEG_COUNT)
        return cpu_raise_ud(cpu);
    if (!read_selector(cpu, in, &sel) || !segment_load(cpu, in->reg, sel))
        return false;
    if (in->reg == SS)
        shadow_stack_load(cpu);
    return true;
}

bool op_mov_from_sreg(struct cpu *cpu, const struct insn *in)
{
    if (in->reg >= SEG_COUNT)
        return cpu_raise_ud(cpu);
    return write_selector(cpu, in, cpu->seg[in->reg].sel);
}

/* Intel's processors write 16 bits and leave the rest of the slot; AMD's fill it with zeros. */
bool op_push_sreg(struct cpu *cpu, const struct insn *in)
{
    uint64_t sp = (cpu->gpr[RSP] - in->osize) & stack_mask(cpu);
    unsigned size = cpu_model_is_amd(cpu->model) ? in->osize : 2;

    if (in->reg >= SEG_COUNT)
        return cpu_raise_ud(cpu);
    if (!virt_write_int(cpu, SS, sp, size, cpu->seg[in->reg].sel))
        return false;
    stack_set_pointer(cpu, sp);
    return true;
}

bool op_pop_sreg(struct cpu *cpu, const struct insn *in)
{
    uint64_t rsp = cpu->gpr[RSP], sel;

    if (in->reg == CS || in->reg >= SEG_COUNT)
        return cpu_raise_ud(cpu);
    /* The pointer moves by the width of the old stack, so before SS is loaded. */
    if (!stack_pop(cpu, &sel, in->osize))
        return false;
    if (!segment_load(cpu, in->reg, (uint16_t)sel)) {
        cpu->gpr[RSP] = rsp;
        return false;
    }
    if (in->reg == SS)
        shadow_stack_load(cpu);
    return true;
}

static enum seg lxs_segment(uint16_t mnemonic)
{
    switch (mnemonic) {
    case ZYDIS_MNEMONIC_LDS: return DS;
    case ZYDIS_MNEMONIC_LES: return ES;
    case ZYDIS_MNEMONIC_LFS: return FS;
    case ZYDIS_MNEMONIC_LGS: return GS;
    default: return SS;
    }
}

bool op_lxs(struct cpu *cpu, const struct insn *in)
{
    uint64_t offset;
    uint16_t sel;

    if (!(in->flags & INSN_MEM))
        return cpu_raise_ud(cpu);
    if (!far_pointer_read(cpu, in, &offset, &sel))
        return false;
    if (!segment_load(cpu, lxs_segment(in->mnemonic), sel))
        return false;
    insn_set_reg(cpu, in, offset);
    return true;
}

/* --- questions about descriptors; the answer is in ZF --- */

static void set_zf(struct cpu *cpu, bool on)
{
    uint32_t flags = cpu_status_flags(cpu) & ~FLAG_ZF;

    cpu_set_status_flags(cpu, flags | (on ? FLAG_ZF : 0));
}

/* Reads the descriptor of `sel` without faults of segmentation. *there: it is within its table. */
static bool look_up(struct cpu *cpu, uint16_t sel, struct descriptor *d, bool *there)
{
    gva_t address;

    *there = !selector_is_null(sel) && descriptor_find(cpu, sel, 8, &address);
    return !*there || descriptor_fetch(cpu, address, false, d);
}

static bool privilege_allows(const struct cpu *cpu, uint16_t sel, const struct descriptor *d)
{
    unsigned dpl = descriptor_dpl(d);

    return descriptor_is_conforming(d) || (dpl >= cpu->cpl && dpl >= selector_rpl(sel));
}

/* Types that LAR and LSL know, as a set of bits; long mode has fewer. */
#define TYPE(type) (1u << (type))
#define LSL_TYPES_LONG (TYPE(SYS_LDT) | TYPE(SYS_TSS32) | TYPE(SYS_TSS32_BUSY))
#define LSL_TYPES (LSL_TYPES_LONG | TYPE(SYS_TSS16) | TYPE(SYS_TSS16_BUSY))
#define LAR_TYPES_LONG (LSL_TYPES_LONG | TYPE(SYS_CALL_GATE32))
#define LAR_TYPES (LSL_TYPES | TYPE(SYS_CALL_GATE16) | TYPE(SYS_CALL_GATE32) | TYPE(SYS_TASK_GATE))

static bool has_type(const struct descriptor *d, unsigned types)
{
    return (descriptor_attr(d) & SEG_S) || (types & TYPE(descriptor_system_type(d)));
}

/* LAR and LSL: reads the descriptor and decides. False: fault. */
static bool examine(struct cpu *cpu, const struct insn *in, unsigned types, struct descriptor *d,
                    bool *visible)
{
    uint16_t sel;

    if (!(cpu->mode & MODE_PROTECTED))
        return cpu_raise_ud(cpu);
    if (!read_selector(cpu, in, &sel) || !look_up(cpu, sel, d, visible))
        return false;
    *visible = *visible && has_type(d, types) && privilege_allows(cpu, sel, d);
    return true;
}

bool op_lar(struct cpu *cpu, const struct insn *in)
{
    unsigned types = cpu->efer & EFER_LMA ? LAR_TYPES_LONG : LAR_TYPES;
    struct descriptor d;
    bool visible;

    if (!examine(cpu, in, types, &d, &visible))
        return false;
    if (visible)
        insn_set_reg(cpu, in, d.low >> 32 & LAR_MASK);
    set_zf(cpu, visible);
    return true;
}

bool op_lsl(struct cpu *cpu, const struct insn *in)
{
    unsigned types = cpu->efer & EFER_LMA ? LSL_TYPES_LONG : LSL_TYPES;
    struct descriptor d;
    bool visible;

    if (!examine(cpu, in, types, &d, &visible))
        return false;
    if (visible)
        insn_set_reg(cpu, in, segment_from(&d, 0).limit);
    set_zf(cpu, visible);
    return true;
}

/* VERR and VERW. */
static bool verify(struct cpu *cpu, const struct insn *in, bool write)
{
    struct descriptor d;
    uint16_t sel, attr;
    bool good;

    if (!(cpu->mode & MODE_PROTECTED))
        return cpu_raise_ud(cpu);
    if (!read_selector(cpu, in, &sel) || !look_up(cpu, sel, &d, &good))
        return false;
    if (good) {
        attr = descriptor_attr(&d);
        good = (attr & SEG_S) && privilege_allows(cpu, sel, &d);
        if (write)
            good = good && (attr & (SEG_CODE | SEG_WRITABLE)) == SEG_WRITABLE;
        else
            good = good && (!(attr & SEG_CODE) || (attr & SEG_WRITABLE));
    }
    set_zf(cpu, good);
    return true;
}

bool op_verr(struct cpu *cpu, const struct insn *in)
{
    return verify(cpu, in, false);
}

bool op_verw(struct cpu *cpu, const struct insn *in)
{
    return verify(cpu, in, true);
}

bool op_arpl(struct cpu *cpu, const struct insn *in)
{
    uint16_t dest, rpl = (uint16_t)(cpu->gpr[in->reg] & SEL_RPL);
    bool raise;

    if (!(cpu->mode & MODE_PROTECTED) || cpu_is_64bit(cpu))
        return cpu_raise_ud(cpu);
    if (!read_selector(cpu, in, &dest))
        return false;
    raise = (dest & SEL_RPL) < rpl;
    if (raise) {
        dest = (uint16_t)((dest & ~SEL_RPL) | rpl);
        if (in->flags & INSN_MEM) {
            if (!virt_write_int(cpu, in->seg, insn_ea(cpu, in), 2, dest))
                return false;
        } else {
            gpr_write(cpu, in->rm, 2, false, dest);
        }
    }
    set_zf(cpu, raise);
    return true;
}

/* --- LDTR and TR --- */

/* #UD outside protected mode, #GP(0) above level 0. */
static bool check_system(struct cpu *cpu)
{
    if (!(cpu->mode & MODE_PROTECTED))
        return cpu_raise_ud(cpu);
    return cpu->cpl == 0 || cpu_raise_gp(cpu, 0);
}

bool op_lldt(struct cpu *cpu, const struct insn *in)
{
    uint16_t sel;

    return check_system(cpu) && read_selector(cpu, in, &sel) &&
           segment_check_ldt(cpu, sel, EXC_GP, &cpu->ldtr);
}

/* The TSS that LTR may load: available, present, at a canonical address. */
static bool check_tss(struct cpu *cpu, uint16_t sel, struct descriptor *d)
{
    unsigned type;

    if (selector_is_null(sel) || (sel & SEL_TI))
        return segment_fault(cpu, EXC_GP, sel, 0);
    if (!descriptor_read(cpu, sel, EXC_GP, 0, d))
        return false;
    type = descriptor_system_type(d);
    if (type != SYS_TSS32 && (type != SYS_TSS16 || (cpu->efer & EFER_LMA)))
        return segment_fault(cpu, EXC_GP, sel, 0);
    if (!(descriptor_attr(d) & SEG_P))
        return segment_fault(cpu, EXC_NP, sel, 0);
    if (!cpu_canonical(cpu, segment_from(d, sel).base))
        return segment_fault(cpu, EXC_GP, sel, 0);
    return true;
}

bool op_ltr(struct cpu *cpu, const struct insn *in)
{
    struct descriptor d;
    uint16_t sel;

    if (!check_system(cpu) || !read_selector(cpu, in, &sel) || !check_tss(cpu, sel, &d) ||
        !descriptor_retype(cpu, &d, SYS_BUSY, 0))
        return false;
    cpu->tr = segment_from(&d, sel);
    return true;
}

/* UMIP keeps programs from reading where the system's tables are. */
static bool check_umip(struct cpu *cpu)
{
    return !(cpu->cr4 & CR4_UMIP) || cpu->cpl == 0 || cpu_raise_gp(cpu, 0);
}

static bool store_system_selector(struct cpu *cpu, const struct insn *in, uint16_t sel)
{
    if (!(cpu->mode & MODE_PROTECTED))
        return cpu_raise_ud(cpu);
    return check_umip(cpu) && write_selector(cpu, in, sel);
}

bool op_sldt(struct cpu *cpu, const struct insn *in)
{
    return store_system_selector(cpu, in, cpu->ldtr.sel);
}

bool op_str(struct cpu *cpu, const struct insn *in)
{
    return store_system_selector(cpu, in, cpu->tr.sel);
}

/* --- GDTR and IDTR: a limit of 16 bits, then the base --- */

static bool load_table(struct cpu *cpu, const struct insn *in, struct desc_table *table)
{
    bool wide = cpu_is_64bit(cpu);
    uint8_t bytes[10];
    uint64_t base = 0;

    if (!(in->flags & INSN_MEM))
        return cpu_raise_ud(cpu);
    if (cpu->cpl != 0)
        return cpu_raise_gp(cpu, 0);
    if (!virt_read(cpu, in->seg, insn_ea(cpu, in), bytes, wide ? 10 : 6))
        return false;
    memcpy(&base, bytes + 2, wide ? 8 : 4);
    if (!wide && in->osize == 2)
        base &= 0xffffff;
    if (wide && !cpu_canonical(cpu, base))
        return cpu_raise_gp(cpu, 0);
    memcpy(&table->limit, bytes, 2);
    table->base = base;
    return true;
}

static bool store_table(struct cpu *cpu, const struct insn *in, const struct desc_table *table)
{
    bool wide = cpu_is_64bit(cpu);
    uint8_t bytes[10];

    if (!(in->flags & INSN_MEM))
        return cpu_raise_ud(cpu);
    if (!check_umip(cpu))
        return false;
    memcpy(bytes, &table->limit, 2);
    memcpy(bytes + 2, &table->base, 8);
    return virt_write(cpu, in->seg, insn_ea(cpu, in), bytes, wide ? 10 : 6);
}

bool op_lgdt(struct cpu *cpu, const struct insn *in)
{
    return load_table(cpu, in, &cpu->gdtr);
}

bool op_lidt(struct cpu *cpu, const struct insn *in)
{
    return load_table(cpu, in, &cpu->idtr);
}

bool op_sgdt(struct cpu *cpu, const struct insn *in)
{
    return store_table(cpu, in, &cpu->gdtr);
}

bool op_sidt(struct cpu *cpu, const struct insn *in)
{
    return store_table(cpu, in, &cpu->idtr);
}
