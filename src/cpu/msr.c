/* msr.c - model-specific registers as a table.
 *
 * A row covers a range of numbers and says who has it (a vendor, a feature) and what it is: fields
 * of struct cpu with a check of what may be written, a constant, or a pair of functions. What has
 * no row gives #GP(0), as on a processor. Sources: SDM vol. 4, ch. 2; AMD APM vol. 2, appendix A,
 * and the PPRs for C001_xxxxh. Performance counters, last-branch records, machine-check banks
 * (their count is 0) and virtualization are left out, and CPUID doesn't advertise them. */
#include "cpu/msr.h"
#include "cpu/cpuid.h"
#include "cpu/tlb.h"

#include <stddef.h>

#define ARCH_CAP_RDCL_NO (UINT64_C(1) << 0)
#define ARCH_CAP_IBRS_ALL (UINT64_C(1) << 1)
#define ARCH_CAP_SKIP_L1DFL (UINT64_C(1) << 3)
#define ARCH_CAP_SSB_NO (UINT64_C(1) << 4)
#define ARCH_CAP_MDS_NO (UINT64_C(1) << 5)
#define ARCH_CAP_PSCHANGE_MC_NO (UINT64_C(1) << 6)
#define ARCH_CAP_TAA_NO (UINT64_C(1) << 8)
#define ARCH_CAP_SBDR_SSDP_NO (UINT64_C(1) << 13)
#define ARCH_CAP_FBSDP_NO (UINT64_C(1) << 14)
#define ARCH_CAP_PSDP_NO (UINT64_C(1) << 15)
#define ARCH_CAP_BHI_NO (UINT64_C(1) << 20)
#define ARCH_CAP_PBRSB_NO (UINT64_C(1) << 24)
#define ARCH_CAP_GDS_NO (UINT64_C(1) << 26)
#define ARCH_CAP_RFDS_NO (UINT64_C(1) << 27)
#define ARCH_CAP_ITS_NO (UINT64_C(1) << 62)
/* The interpreter and the translator keep guests apart by other means than the processor's
 * speculation controls, so a guest gains nothing from working around these. */
#define ARCH_CAPABILITIES                                                                          \
    (ARCH_CAP_RDCL_NO | ARCH_CAP_IBRS_ALL | ARCH_CAP_SKIP_L1DFL | ARCH_CAP_SSB_NO |                \
     ARCH_CAP_MDS_NO | ARCH_CAP_PSCHANGE_MC_NO | ARCH_CAP_TAA_NO | ARCH_CAP_SBDR_SSDP_NO |         \
     ARCH_CAP_FBSDP_NO | ARCH_CAP_PSDP_NO | ARCH_CAP_BHI_NO | ARCH_CAP_PBRSB_NO |                  \
     ARCH_CAP_GDS_NO | ARCH_CAP_RFDS_NO | ARCH_CAP_ITS_NO)

#define MISC_ENABLE_FAST_STRINGS (UINT64_C(1) << 0)
#define MISC_ENABLE_THERMAL (UINT64_C(1) << 3)
#define MISC_ENABLE_NO_BTS (UINT64_C(1) << 11)
#define MISC_ENABLE_NO_PEBS (UINT64_C(1) << 12)
#define MISC_ENABLE_MONITOR (UINT64_C(1) << 18)
#define MISC_ENABLE_WRITABLE (MISC_ENABLE_FAST_STRINGS | MISC_ENABLE_THERMAL | MISC_ENABLE_MONITOR)

#define MTRR_VARIABLE 8u
#define MTRRCAP (MTRR_VARIABLE | UINT64_C(1) << 8 | UINT64_C(1) << 10) /* VCNT, FIX, WC */
#define MTRR_MASK_VALID (UINT64_C(1) << 11)

#define FEATURE_CONTROL_LOCKED 1u
#define DE_CFG_LFENCE_SERIALIZES 2u
#define VM_CR_LOCK_AND_DISABLED 0x18u
#define UCODE_REVISION (UINT64_C(1) << 32)

struct msr_row;
typedef bool read_fn(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t *v);
typedef bool write_fn(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t v);
typedef bool valid_fn(const struct cpu *cpu, uint64_t v);

enum msr_vendor { ANY, INTEL, AMD };

struct msr_row {
    uint32_t first, last;
    enum msr_vendor vendor;
    enum cpu_feature feature;
    read_fn *read;   /* NULL: can't be read */
    write_fn *write; /* NULL: can't be written */
    valid_fn *valid; /* of a field: what may be written; NULL: anything */
    uint64_t value;  /* of a constant; of a field: its offset in struct cpu */
};

/* --- fields and constants --- */

static uint64_t *field_of(struct cpu *cpu, const struct msr_row *row, uint32_t msr)
{
    return (uint64_t *)((char *)cpu + row->value) + (msr - row->first);
}

static bool read_field(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t *v)
{
    *v = *field_of(cpu, row, msr);
    return true;
}

static bool write_field(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t v)
{
    if (row->valid && !row->valid(cpu, v))
        return false;
    *field_of(cpu, row, msr) = v;
    return true;
}

static bool read_constant(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t *v)
{
    (void)cpu, (void)msr;
    *v = row->value;
    return true;
}

static bool write_ignored(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t v)
{
    (void)cpu, (void)row, (void)msr, (void)v;
    return true;
}

/* --- what may be written --- */

static bool is_canonical(const struct cpu *cpu, uint64_t v)
{
    return cpu_canonical(cpu, v);
}

static bool is_32bit(const struct cpu *cpu, uint64_t v)
{
    (void)cpu;
    return v <= UINT32_MAX;
}

static bool is_zero(const struct cpu *cpu, uint64_t v)
{
    (void)cpu;
    return v == 0;
}

/* IBRS, STIBP, SSBD */
static bool is_spec_ctrl(const struct cpu *cpu, uint64_t v)
{
    (void)cpu;
    return v <= 7;
}

/* LBR and BTF can be set, the record stays empty. */
static bool is_debugctl(const struct cpu *cpu, uint64_t v)
{
    (void)cpu;
    return v <= 3;
}

/* RIPV, EIPV, MCIP */
static bool is_mcg_status(const struct cpu *cpu, uint64_t v)
{
    (void)cpu;
    return v <= 7;
}

/* Eight memory types, of those in the bit set `types`. */
static bool are_memory_types(uint64_t v, unsigned types)
{
    for (unsigned i = 0; i < 64; i += 8) {
        const unsigned type = (v >> i) & 0xff;

        if (type > 7 || !(types >> type & 1))
            return false;
    }
    return true;
}

#define MTRR_TYPES (1u << 0 | 1u << 1 | 1u << 4 | 1u << 5 | 1u << 6) /* UC WC WT WP WB */
#define PAT_TYPES (MTRR_TYPES | 1u << 7)                             /* and UC- */

static bool is_pat(const struct cpu *cpu, uint64_t v)
{
    (void)cpu;
    return are_memory_types(v, PAT_TYPES);
}

static bool is_mtrr_fixed(const struct cpu *cpu, uint64_t v)
{
    (void)cpu;
    return are_memory_types(v, MTRR_TYPES);
}

static bool is_mtrr_def_type(const struct cpu *cpu, uint64_t v)
{
    (void)cpu;
    return !(v & ~UINT64_C(0xcff)) && are_memory_types(v & 0xff, MTRR_TYPES);
}

static bool is_mtrr_base(const struct cpu *cpu, uint64_t v)
{
    const uint64_t above = ~UINT64_C(0) << cpu_model_phys_bits(cpu->model);

    return !(v & (above | 0xf00)) && are_memory_types(v & 0xff, MTRR_TYPES);
}

static bool is_mtrr_mask(const struct cpu *cpu, uint64_t v)
{
    const uint64_t above = ~UINT64_C(0) << cpu_model_phys_bits(cpu->model);

    return !(v & (above | (MTRR_MASK_VALID - 1)));
}

/* --- EFER --- */

static uint64_t efer_allowed(const struct cpu *cpu)
{
    static const struct {
        uint64_t bits;
        enum cpu_feature feature;
    } rows[] = {
        {EFER_SCE, FEAT_SYSCALL},    {EFER_LME | EFER_LMA, FEAT_LM}, {EFER_NXE, FEAT_NX},
        {EFER_FFXSR, FEAT_FXSR_OPT}, {EFER_AUTOIBRS, FEAT_AUTOIBRS},
    };
    uint64_t allowed = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
        if (cpu_model_has(cpu->model, rows[i].feature))
            allowed |= rows[i].bits;
    return allowed;
}

bool msr_efer_is_valid(const struct cpu *cpu, uint64_t efer)
{
    return !(efer & ~efer_allowed(cpu));
}

/* LMA follows from LME and CR0.PG, whatever is written. */
static bool write_efer(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t v)
{
    const uint64_t old = cpu->efer;

    (void)row, (void)msr;
    if (!msr_efer_is_valid(cpu, v))
        return false;
    v = (v & ~(uint64_t)EFER_LMA) | (old & EFER_LMA);
    if (((v ^ old) & EFER_LME) && (cpu->cr0 & CR0_PG))
        return false;
    cpu->efer = v;
    if ((v ^ old) & EFER_NXE)
        tlb_flush_all(cpu);
    cpu_update_mode(cpu);
    return true;
}

/* --- time --- */

static bool read_tsc(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t *v)
{
    (void)row, (void)msr;
    *v = cpu_read_tsc(cpu);
    return true;
}

static void move_tsc(struct cpu *cpu, uint64_t step)
{
    cpu->tsc_offset += step;
    cpu->tsc_adjust += step;
    if (!cpu->apic.tsc_changed)
        return;
    bus_lock(cpu->bus);
    cpu->apic.tsc_changed(cpu->apic.opaque);
    bus_unlock(cpu->bus);
}

/* A write moves IA32_TSC_ADJUST by as much (SDM vol. 3, 18.17.3). */
static bool write_tsc(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t v)
{
    (void)row, (void)msr;
    move_tsc(cpu, v - cpu_read_tsc(cpu));
    return true;
}

static bool write_tsc_adjust(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t v)
{
    (void)row, (void)msr;
    move_tsc(cpu, v - cpu->tsc_adjust);
    return true;
}

static bool write_tsc_aux(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t v)
{
    (void)row, (void)msr;
    if (!cpu_model_has(cpu->model, FEAT_RDTSCP) && !cpu_model_has(cpu->model, FEAT_RDPID))
        return false;
    if (v > UINT32_MAX)
        return false;
    cpu->tsc_aux = v;
    return true;
}

/* The ratio of the TSC to the 100 MHz bus clock, as the highest and as the lowest efficient one. */
static bool read_platform_info(struct cpu *cpu, const struct msr_row *row, uint32_t msr,
                               uint64_t *v)
{
    const uint64_t ratio = cpu->clock->tsc_khz / 100000 & 0xff;

    (void)row, (void)msr;
    *v = ratio << 8 | ratio << 40;
    return true;
}

/* --- segment bases --- */

static struct segment *base_segment(struct cpu *cpu, const struct msr_row *row, uint32_t msr)
{
    return &cpu->seg[msr == row->first ? FS : GS];
}

static bool read_segment_base(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t *v)
{
    *v = base_segment(cpu, row, msr)->base;
    return true;
}

static bool write_segment_base(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t v)
{
    if (!cpu_canonical(cpu, v))
        return false;
    base_segment(cpu, row, msr)->base = v;
    return true;
}

/* --- others --- */

static bool write_misc_enable(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t v)
{
    (void)row, (void)msr;
    cpu->misc_enable = (cpu->misc_enable & ~MISC_ENABLE_WRITABLE) | (v & MISC_ENABLE_WRITABLE);
    return true;
}

uint64_t msr_misc_enable_reset(void)
{
    return MISC_ENABLE_FAST_STRINGS | MISC_ENABLE_NO_BTS | MISC_ENABLE_NO_PEBS;
}

static bool write_hwcr(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t v)
{
    (void)row, (void)msr;
    cpu->hwcr = v | MSR_HWCR_TSC_FREQ_SEL;
    return true;
}

/* IBPB: there are no predictions of ours to forget. */
static bool write_pred_cmd(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t v)
{
    (void)cpu, (void)row, (void)msr;
    return v <= 1;
}

/* PHYSBASEn and PHYSMASKn alternate. */
static bool read_mtrr_variable(struct cpu *cpu, const struct msr_row *row, uint32_t msr,
                               uint64_t *v)
{
    const unsigned n = (msr - row->first) / 2;

    *v = (msr & 1) ? cpu->mtrr_mask[n] : cpu->mtrr_base[n];
    return true;
}

static bool write_mtrr_variable(struct cpu *cpu, const struct msr_row *row, uint32_t msr,
                                uint64_t v)
{
    const unsigned n = (msr - row->first) / 2;

    if (!((msr & 1) ? is_mtrr_mask(cpu, v) : is_mtrr_base(cpu, v)))
        return false;
    *((msr & 1) ? &cpu->mtrr_mask[n] : &cpu->mtrr_base[n]) = v;
    return true;
}

static bool read_apic(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t *v)
{
    bool ok;

    (void)row;
    if (!cpu->apic.rdmsr)
        return false;
    bus_lock(cpu->bus);
    ok = cpu->apic.rdmsr(cpu->apic.opaque, msr, v);
    bus_unlock(cpu->bus);
    return ok;
}

/* The page of the APIC's registers may have moved, so translations are dropped. */
static bool write_apic(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t v)
{
    bool ok;

    if (!cpu->apic.wrmsr)
        return false;
    bus_lock(cpu->bus);
    ok = cpu->apic.wrmsr(cpu->apic.opaque, msr, v);
    bus_unlock(cpu->bus);
    if (ok && row->value)
        tlb_flush_all(cpu);
    return ok;
}

/* --- the table, in rising order --- */

#define FIELD_ROW(first, last, vendor, feature, valid, member)                                     \
    {                                                                                              \
        first, last, vendor, feature, read_field, write_field, valid, offsetof(struct cpu, member) \
    }
#define FN_ROW(first, last, vendor, feature, read, write)                                          \
    {                                                                                              \
        first, last, vendor, feature, read, write, NULL, 0                                         \
    }
/* A constant that ignores writes, and one that can't be written. */
#define FIXED_ROW(first, last, vendor, value)                                                      \
    {                                                                                              \
        first, last, vendor, FEAT_NONE, read_constant, write_ignored, NULL, value                  \
    }
#define CONST_ROW(first, vendor, feature, value)                                                   \
    {                                                                                              \
        first, first, vendor, feature, read_constant, NULL, NULL, value                            \
    }

static const struct msr_row msr_rows[] = {
    FIXED_ROW(0x0, 0x1, ANY, 0), /* P5_MC_ADDR, P5_MC_TYPE */
    FN_ROW(0x10, 0x10, ANY, FEAT_TSC, read_tsc, write_tsc),
    CONST_ROW(0x17, INTEL, FEAT_NONE, 0),                         /* PLATFORM_ID */
    {0x1b, 0x1b, ANY, FEAT_APIC, read_apic, write_apic, NULL, 1}, /* APIC_BASE */
    FIXED_ROW(0x2a, 0x2a, INTEL, 0),                              /* EBL_CR_POWERON */
    CONST_ROW(0x34, INTEL, FEAT_NONE, 0),                         /* SMI_COUNT */
    CONST_ROW(0x3a, INTEL, FEAT_NONE, FEATURE_CONTROL_LOCKED),    /* FEATURE_CONTROL */
    {0x3b, 0x3b, ANY, FEAT_TSC_ADJUST, read_field, write_tsc_adjust, NULL,
     offsetof(struct cpu, tsc_adjust)},
    FIELD_ROW(0x48, 0x48, ANY, FEAT_SPEC_CTRL, is_spec_ctrl, spec_ctrl),
    FN_ROW(0x49, 0x49, ANY, FEAT_SPEC_CTRL, NULL, write_pred_cmd), /* PRED_CMD */
    FN_ROW(0x79, 0x79, INTEL, FEAT_NONE, NULL, write_ignored),     /* BIOS_UPDT_TRIG */
    FIXED_ROW(0x8b, 0x8b, INTEL, UCODE_REVISION),                  /* BIOS_SIGN_ID */
    CONST_ROW(0x8b, AMD, FEAT_NONE, 0),                            /* PATCH_LEVEL */
    FN_ROW(0xce, 0xce, INTEL, FEAT_NONE, read_platform_info, NULL),
    CONST_ROW(0xfe, ANY, FEAT_MTRR, MTRRCAP),
    CONST_ROW(0x10a, INTEL, FEAT_ARCH_CAPABILITIES, ARCH_CAPABILITIES),
    FIELD_ROW(0x174, 0x174, ANY, FEAT_SEP, is_32bit, sysenter_cs),
    FIELD_ROW(0x175, 0x175, ANY, FEAT_SEP, is_canonical, sysenter_esp),
    FIELD_ROW(0x176, 0x176, ANY, FEAT_SEP, is_canonical, sysenter_eip),
    CONST_ROW(0x179, ANY, FEAT_MCA, 0), /* MCG_CAP */
    FIELD_ROW(0x17a, 0x17a, ANY, FEAT_MCA, is_mcg_status, mcg_status),
    FIXED_ROW(0x198, 0x19c, INTEL, 0), /* PERF, THERM */
    {0x1a0, 0x1a0, INTEL, FEAT_NONE, read_field, write_misc_enable, NULL,
     offsetof(struct cpu, misc_enable)},
    FIELD_ROW(0x1d9, 0x1d9, ANY, FEAT_NONE, is_debugctl, debugctl),
    FIXED_ROW(0x1db, 0x1de, ANY, 0),   /* last branch */
    FIXED_ROW(0x1fc, 0x1fc, INTEL, 0), /* POWER_CTL */
    FN_ROW(0x200, 0x20f, ANY, FEAT_MTRR, read_mtrr_variable, write_mtrr_variable),
    FIELD_ROW(0x250, 0x250, ANY, FEAT_MTRR, is_mtrr_fixed, mtrr_fixed[0]),
    FIELD_ROW(0x258, 0x259, ANY, FEAT_MTRR, is_mtrr_fixed, mtrr_fixed[1]),
    FIELD_ROW(0x268, 0x26f, ANY, FEAT_MTRR, is_mtrr_fixed, mtrr_fixed[3]),
    FIELD_ROW(0x277, 0x277, ANY, FEAT_PAT, is_pat, pat),
    FIELD_ROW(0x2ff, 0x2ff, ANY, FEAT_MTRR, is_mtrr_def_type, mtrr_def_type),
    FN_ROW(0x6e0, 0x6e0, ANY, FEAT_TSC_DEADLINE_TIMER, read_apic, write_apic), /* TSC_DEADLINE */
    FN_ROW(0x800, 0x8ff, ANY, FEAT_X2APIC, read_apic, write_apic),
    FIELD_ROW(0xda0, 0xda0, ANY, FEAT_XSAVES, is_zero, xss),
    {0xc0000080, 0xc0000080, ANY, FEAT_NONE, read_field, write_efer, NULL,
     offsetof(struct cpu, efer)},
    FIELD_ROW(0xc0000081, 0xc0000081, ANY, FEAT_SYSCALL, NULL, star),
    FIELD_ROW(0xc0000082, 0xc0000082, ANY, FEAT_LM, is_canonical, lstar),
    FIELD_ROW(0xc0000083, 0xc0000083, ANY, FEAT_LM, is_canonical, cstar),
    FIELD_ROW(0xc0000084, 0xc0000084, ANY, FEAT_SYSCALL, is_32bit, fmask),
    FN_ROW(0xc0000100, 0xc0000101, ANY, FEAT_LM, read_segment_base, write_segment_base),
    FIELD_ROW(0xc0000102, 0xc0000102, ANY, FEAT_LM, is_canonical, kernel_gs_base),
    {0xc0000103, 0xc0000103, ANY, FEAT_NONE, read_field, write_tsc_aux, NULL,
     offsetof(struct cpu, tsc_aux)},
    FIXED_ROW(0xc0010010, 0xc0010010, AMD, 0), /* SYSCFG */
    {0xc0010015, 0xc0010015, AMD, FEAT_NONE, read_field, write_hwcr, NULL,
     offsetof(struct cpu, hwcr)},
    FIXED_ROW(0xc0010016, 0xc001001d, AMD, 0),                           /* IORR, TOP_MEM */
    FIXED_ROW(0xc001001f, 0xc001001f, AMD, 0),                           /* NB_CFG */
    FN_ROW(0xc0010020, 0xc0010020, AMD, FEAT_NONE, NULL, write_ignored), /* PATCH_LOADER */
    FIXED_ROW(0xc0010055, 0xc0010055, AMD, 0),                           /* INT_PENDING */
    FIXED_ROW(0xc0010058, 0xc0010058, AMD, 0),                           /* MMIO_CONF_BASE */
    FIXED_ROW(0xc0010112, 0xc0010113, AMD, 0),                           /* SMM_ADDR, SMM_MASK */
    FIXED_ROW(0xc0010114, 0xc0010114, AMD, VM_CR_LOCK_AND_DISABLED),     /* VM_CR */
    FIXED_ROW(0xc0011020, 0xc0011028, AMD, 0),                           /* LS_CFG ... */
    FIXED_ROW(0xc0011029, 0xc0011029, AMD, DE_CFG_LFENCE_SERIALIZES),    /* DE_CFG */
    FIXED_ROW(0xc001102a, 0xc001102f, AMD, 0),                           /* BU_CFG2 ... */
};

static bool row_is_there(const struct cpu *cpu, const struct msr_row *row)
{
    if (row->feature != FEAT_NONE && !cpu_model_has(cpu->model, row->feature))
        return false;
    return row->vendor == ANY || (row->vendor == AMD) == cpu_model_is_amd(cpu->model);
}

static const struct msr_row *find_row(const struct cpu *cpu, uint32_t msr)
{
    for (unsigned i = 0; i < ARRAY_SIZE(msr_rows) && msr_rows[i].first <= msr; i++)
        if (msr <= msr_rows[i].last && row_is_there(cpu, &msr_rows[i]))
            return &msr_rows[i];
    return NULL;
}

bool msr_read(struct cpu *cpu, uint32_t msr, uint64_t *v)
{
    const struct msr_row *row = find_row(cpu, msr);

    return row && row->read && row->read(cpu, row, msr, v);
}

bool msr_write(struct cpu *cpu, uint32_t msr, uint64_t v)
{
    const struct msr_row *row = find_row(cpu, msr);

    return row && row->write && row->write(cpu, row, msr, v);
}

/* A field with a check is in order when the check accepts what it holds. Addresses may have become
 * non-canonical since they were written, when CR4.LA57 changed. */
bool msr_state_is_valid(const struct cpu *cpu)
{
    for (unsigned i = 0; i < ARRAY_SIZE(msr_rows); i++) {
        const struct msr_row *row = &msr_rows[i];

        if (row->write != write_field || !row->valid || row->valid == is_canonical ||
            !row_is_there(cpu, row))
            continue;
        for (uint32_t n = 0; n <= row->last - row->first; n++)
            if (!row->valid(cpu, ((const uint64_t *)((const char *)cpu + row->value))[n]))
                return false;
    }
    for (unsigned n = 0; n < MTRR_VARIABLE; n++)
        if (!is_mtrr_base(cpu, cpu->mtrr_base[n]) || !is_mtrr_mask(cpu, cpu->mtrr_mask[n]))
            return false;
    return cpu->tsc_aux <= UINT32_MAX;
}

/* --- instructions --- */

static void set_edx_eax(struct cpu *cpu, uint64_t v)
{
    cpu->gpr[RAX] = (uint32_t)v;
    cpu->gpr[RDX] = v >> 32;
}

bool op_rdmsr(struct cpu *cpu, const struct insn *in)
{
    uint64_t v;

    (void)in;
    if (cpu->cpl != 0 || !msr_read(cpu, (uint32_t)cpu->gpr[RCX], &v))
        return cpu_raise_gp(cpu, 0);
    set_edx_eax(cpu, v);
    return true;
}

bool op_wrmsr(struct cpu *cpu, const struct insn *in)
{
    const uint64_t v = cpu->gpr[RDX] << 32 | (uint32_t)cpu->gpr[RAX];

    (void)in;
    if (cpu->cpl != 0 || !msr_write(cpu, (uint32_t)cpu->gpr[RCX], v))
        return cpu_raise_gp(cpu, 0);
    return true;
}

static bool may_read_tsc(struct cpu *cpu)
{
    return cpu->cpl == 0 || !(cpu->cr4 & CR4_TSD) || cpu_raise_gp(cpu, 0);
}

bool op_rdtsc(struct cpu *cpu, const struct insn *in)
{
    (void)in;
    if (!may_read_tsc(cpu))
        return false;
    set_edx_eax(cpu, cpu_read_tsc(cpu));
    return true;
}

bool op_rdtscp(struct cpu *cpu, const struct insn *in)
{
    (void)in;
    if (!may_read_tsc(cpu))
        return false;
    set_edx_eax(cpu, cpu_read_tsc(cpu));
    cpu->gpr[RCX] = (uint32_t)cpu->tsc_aux;
    return true;
}

/* There are no counters, so no number of one is right. */
bool op_rdpmc(struct cpu *cpu, const struct insn *in)
{
    (void)in;
    return cpu_raise_gp(cpu, 0);
}

bool op_rdpid(struct cpu *cpu, const struct insn *in)
{
    cpu->gpr[in->rm] = (uint32_t)cpu->tsc_aux;
    return true;
}
