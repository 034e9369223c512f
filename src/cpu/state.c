/* state.c - a virtual CPU as an object: making it, resetting it, keeping what is derived in step,
 * saving and restoring it, showing it.
 *
 * Reset values are those of the SDM, vol. 3, table 10-1. What an engine asks about on every
 * instruction (default sizes, privilege, flat segments, whether SSE may be used) is collected in
 * cpu->mode by cpu_update_mode(), and never changes behind its back.
 *
 * A saved state is hostile: cpu_loaded() refuses whatever the architecture doesn't allow and
 * whatever is used as an index or given to the host's processor. Segment bases, descriptor tables
 * and addresses may have any value: their use is checked every time. */
#include "base/state.h"
#include "cpu/cpuid.h"
#include "cpu/decode_cache.h"
#include "cpu/cr.h"
#include "cpu/msr.h"
#include "cpu/tlb.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define MXCSR_RESET 0x1f80u
#define DR6_RESET UINT64_C(0xffff0ff0)
#define DR7_RESET UINT64_C(0x400)
#define PAT_RESET UINT64_C(0x0007040600070406)
#define SMBASE_RESET 0x30000u
#define RNG_SEED UINT64_C(0x9e3779b97f4a7c15)
#define EVENTS_SAVED ((uint32_t)(ATTN_NMI | ATTN_SMI | ATTN_INIT))

/* The FXSAVE64 image: where its parts are. */
#define FX_FCW 0
#define FX_FOP 6 /* and FIP, FDP, MXCSR */
#define FX_MXCSR 24
#define FX_ST 32
#define FX_XMM 160

/* --- making and resetting --- */

struct cpu *cpu_new(struct memory *mem, struct bus *bus, struct clock *clock,
                    const struct cpu_model *model, unsigned index)
{
    size_t size = (sizeof(struct cpu) + 63) & ~(size_t)63;
    struct cpu *cpu = aligned_alloc(64, size);
    struct tlb *tlb = calloc(1, sizeof(*tlb));
    struct decode_cache *decode_cache = decode_cache_new();

    if (!cpu || !tlb || !decode_cache) {
        free(cpu);
        free(tlb);
        decode_cache_free(decode_cache);
        return NULL;
    }
    memset(cpu, 0, size);
    cpu->decode_cache = decode_cache;
    cpu->mem = mem;
    cpu->bus = bus;
    cpu->clock = clock;
    cpu->model = model;
    tlb_init(tlb);
    cpu->tlb = tlb;
    cpu->index = index;
    cpu->icount_limit = UINT64_MAX;
    cpu_reset(cpu, false);
    return cpu;
}

void cpu_free(struct cpu *cpu)
{
    if (!cpu)
        return;
    free(cpu->tlb);
    decode_cache_free(cpu->decode_cache);
    free(cpu);
}

static void reset_segments(struct cpu *cpu)
{
    const struct segment data = {.limit = 0xffff,
                                 .attr = SEG_P | SEG_S | SEG_WRITABLE | SEG_ACCESSED};

    for (unsigned i = 0; i < SEG_COUNT; i++)
        cpu->seg[i] = data;
    cpu->seg[CS].sel = 0xf000;
    cpu->seg[CS].base = 0xffff0000;
    cpu->seg[CS].attr |= SEG_CODE;
    cpu->ldtr = (struct segment){.limit = 0xffff, .attr = SEG_P | 2};
    cpu->tr = (struct segment){.limit = 0xffff, .attr = SEG_P | 11};
    cpu->gdtr = (struct desc_table){.limit = 0xffff};
    cpu->idtr = cpu->gdtr;
}

/* What both RESET and INIT set. */
static void reset_common(struct cpu *cpu)
{
    memset(cpu->gpr, 0, sizeof(cpu->gpr));
    cpu->gpr[RDX] = cpu_model_signature(cpu->model);
    cpu->rip = 0xfff0;
    cpu->rflags = 0;
    cpu_set_status_flags(cpu, 0);
    cpu->cpl = 0;
    reset_segments(cpu);
    cpu->cr2 = cpu->cr3 = cpu->cr4 = 0;
    memset(cpu->dr, 0, sizeof(cpu->dr));
    cpu->dr[6] = DR6_RESET;
    cpu->dr[7] = DR7_RESET;
    cpu->efer = 0;
    memset(&cpu->exc, 0, sizeof(cpu->exc));
    memset(cpu->pdpte, 0, sizeof(cpu->pdpte));
    cpu->interrupt_shadow = cpu->shadow_ss = false;
    cpu->nmi_blocked = cpu->in_smm = false;
    cpu->pending_db = 0;
    cpu->monitor_gpa = UINT64_MAX;
    cpu->activity = cpu->index == 0 ? CPU_ACTIVE : CPU_WAIT_SIPI;
}

/* The x87 state after RESET is not that of FNINIT: FCW is 40h and the tags say empty. */
static void reset_fpu(struct cpu *cpu)
{
    memset(cpu->ymm, 0, sizeof(cpu->ymm));
    memset(cpu->fx, 0, sizeof(cpu->fx));
    cpu->fx[FX_FCW] = 0x40;
    cpu->x87_live = false;
    cpu->x87_fip = cpu->x87_fdp = 0;
    cpu->x87_fcs = cpu->x87_fds = cpu->x87_fop = 0;
    cpu->mxcsr = MXCSR_RESET;
    cpu->xcr0 = XCR0_X87;
    cpu->xss = 0;
}

/* The TSC isn't touched: the clock starts it at zero, and all CPUs count alike from there. */
static void reset_msrs(struct cpu *cpu)
{
    cpu->star = cpu->lstar = cpu->cstar = cpu->fmask = cpu->kernel_gs_base = 0;
    cpu->sysenter_cs = cpu->sysenter_esp = cpu->sysenter_eip = 0;
    cpu->tsc_aux = cpu->tsc_adjust = cpu->tsc_offset = 0;
    cpu->pat = PAT_RESET;
    cpu->misc_enable = msr_misc_enable_reset();
    cpu->spec_ctrl = cpu->debugctl = cpu->mcg_status = 0;
    cpu->mtrr_def_type = 0;
    memset(cpu->mtrr_fixed, 0, sizeof(cpu->mtrr_fixed));
    memset(cpu->mtrr_base, 0, sizeof(cpu->mtrr_base));
    memset(cpu->mtrr_mask, 0, sizeof(cpu->mtrr_mask));
    cpu->smbase = SMBASE_RESET;
    cpu->hwcr = MSR_HWCR_TSC_FREQ_SEL;
    cpu->rng_state = RNG_SEED + cpu->index;
}

void cpu_reset(struct cpu *cpu, bool init)
{
    reset_common(cpu);
    if (init) {
        cpu->cr0 = (cpu->cr0 & (CR0_CD | CR0_NW)) | CR0_ET;
    } else {
        cpu->cr0 = CR0_CD | CR0_NW | CR0_ET;
        reset_fpu(cpu);
        reset_msrs(cpu);
    }
    cpu_unsignal(cpu, EVENTS_SAVED | ATTN_SHADOW);
    tlb_flush_all(cpu);
    cpu_update_mode(cpu);
}

/* --- derived state --- */

/* Base 0, limit 4 GiB, readable; and writable if it is data. */
static bool segment_is_flat(const struct segment *seg, bool code)
{
    if (seg->base || seg->limit != UINT32_MAX || !(seg->attr & SEG_P))
        return false;
    if (seg->attr & SEG_CODE)
        return code && (seg->attr & SEG_WRITABLE);
    return (seg->attr & (SEG_WRITABLE | SEG_EXPAND_DOWN)) == SEG_WRITABLE;
}

static uint32_t mode_of_code(const struct cpu *cpu)
{
    const struct segment *cs = &cpu->seg[CS];

    if ((cpu->efer & EFER_LMA) && (cs->attr & SEG_L))
        return MODE_CODE64;
    return cs->attr & SEG_DB ? MODE_CODE32 : MODE_CODE16;
}

static uint32_t mode_of_fpu(const struct cpu *cpu)
{
    const uint64_t cr0 = cpu->cr0;
    const bool avx = (cpu->cr4 & CR4_OSXSAVE) && (cpu->xcr0 & XCR0_SSE) && (cpu->xcr0 & XCR0_AVX) &&
                     (cr0 & CR0_PE) && !(cpu->rflags & FLAG_VM);

    return (cr0 & (CR0_EM | CR0_TS) ? MODE_NO_FPU : 0u) |
           ((cr0 & CR0_EM) || !(cpu->cr4 & CR4_OSFXSR) ? MODE_NO_SSE : 0u) |
           (cr0 & CR0_TS ? MODE_SSE_NM : 0u) | (avx ? MODE_AVX : 0u) |
           (cr0 & CR0_EM ? MODE_FPU_EM : 0u) |
           ((cr0 & CR0_MP) && (cr0 & CR0_TS) ? MODE_WAIT_NM : 0u);
}

void cpu_update_mode(struct cpu *cpu)
{
    const struct segment *seg = cpu->seg;
    uint32_t mode = mode_of_code(cpu) | mode_of_fpu(cpu);

    if ((seg[SS].attr & SEG_DB) && (mode & MODE_CODE_MASK) != MODE_CODE64)
        mode |= MODE_SS32;
    if (cpu->efer & EFER_LMA)
        mode |= MODE_LONG;
    if (cpu->cr0 & CR0_PE)
        mode |= cpu->rflags & FLAG_VM ? MODE_VM86 : MODE_PROTECTED;
    if (cpu->cpl == 3)
        mode |= MODE_USER;
    if (cpu->cpl == 0)
        mode |= MODE_CPL0;
    if (cpu->cpl == 0 || !(cpu->cr4 & CR4_TSD))
        mode |= MODE_TSC;
    if ((mode & MODE_CODE_MASK) == MODE_CODE64 ||
        (segment_is_flat(&seg[CS], true) && segment_is_flat(&seg[DS], false) &&
         segment_is_flat(&seg[ES], false) && segment_is_flat(&seg[SS], false)))
        mode |= MODE_FLAT;
    cpu->mode = mode;
    tlb_select(cpu);
}

void cpu_set_cpl(struct cpu *cpu, unsigned cpl)
{
    cpu->cpl = (uint8_t)cpl;
    cpu_update_mode(cpu);
}

void cpu_set_rflags(struct cpu *cpu, uint64_t rflags)
{
    const uint64_t before = cpu->rflags;

    cpu->rflags = rflags & FLAGS_ALL & ~(uint64_t)FLAGS_STATUS;
    cpu_set_status_flags(cpu, rflags);
    if (cpu->rflags & (FLAG_TF | FLAG_RF))
        atomic_fetch_or(&cpu->attention, ATTN_SHADOW);
    if ((before ^ cpu->rflags) & FLAG_VM)
        cpu_update_mode(cpu);
    else if ((before ^ cpu->rflags) & FLAG_AC)
        tlb_select(cpu);
}

/* --- x87 --- */

/* FXRSTOR also loads MXCSR and XMM. MXCSR is given what it has; XMM are scratch to a C function,
 * and named as such. */
void cpu_x87_load(struct cpu *cpu)
{
    uint32_t mxcsr;

    __asm__ volatile("stmxcsr %0" : "=m"(mxcsr));
    memcpy(cpu->fx + FX_MXCSR, &mxcsr, sizeof(mxcsr));
    __asm__ volatile("fxrstor64 %0"
                     :
                     : "m"(cpu->fx)
                     : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",
                       "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
    cpu->x87_live = true;
}

/* The host's FPU is left as the C ABI wants it. */
void cpu_x87_sync(struct cpu *cpu)
{
    if (!cpu->x87_live)
        return;
    __asm__ volatile("fxsave64 %0\n\tfninit" : "=m"(cpu->fx));
    cpu->x87_live = false;
}

/* --- saving and restoring --- */

#define SEGMENT_FIELDS(member)                                                                     \
    FIELD(struct cpu, member.sel), FIELD(struct cpu, member.base),                                 \
        FIELD(struct cpu, member.limit), FIELD(struct cpu, member.attr)

static const struct field cpu_fields[] = {
    FIELD_ARRAY(struct cpu, gpr_named),
    FIELD(struct cpu, rip),
    FIELD(struct cpu, status),
    FIELD(struct cpu, rflags),
    FIELD(struct cpu, cpl),
    SEGMENT_FIELDS(seg[ES]),
    SEGMENT_FIELDS(seg[CS]),
    SEGMENT_FIELDS(seg[SS]),
    SEGMENT_FIELDS(seg[DS]),
    SEGMENT_FIELDS(seg[FS]),
    SEGMENT_FIELDS(seg[GS]),
    SEGMENT_FIELDS(ldtr),
    SEGMENT_FIELDS(tr),
    FIELD(struct cpu, gdtr.base),
    FIELD(struct cpu, gdtr.limit),
    FIELD(struct cpu, idtr.base),
    FIELD(struct cpu, idtr.limit),
    FIELD(struct cpu, cr0),
    FIELD(struct cpu, cr2),
    FIELD(struct cpu, cr3),
    FIELD(struct cpu, cr4),
    FIELD_ARRAY(struct cpu, dr),
    FIELD(struct cpu, xcr0),
    FIELD(struct cpu, xss),
    FIELD_BYTES(struct cpu, ymm),
    FIELD(struct cpu, mxcsr),
    FIELD_BYTES(struct cpu, fx),
    FIELD(struct cpu, x87_fip),
    FIELD(struct cpu, x87_fdp),
    FIELD(struct cpu, x87_fcs),
    FIELD(struct cpu, x87_fds),
    FIELD(struct cpu, x87_fop),
    FIELD(struct cpu, efer),
    FIELD(struct cpu, star),
    FIELD(struct cpu, lstar),
    FIELD(struct cpu, cstar),
    FIELD(struct cpu, fmask),
    FIELD(struct cpu, kernel_gs_base),
    FIELD(struct cpu, sysenter_cs),
    FIELD(struct cpu, sysenter_esp),
    FIELD(struct cpu, sysenter_eip),
    FIELD(struct cpu, tsc_aux),
    FIELD(struct cpu, tsc_adjust),
    FIELD(struct cpu, tsc_offset),
    FIELD(struct cpu, pat),
    FIELD(struct cpu, misc_enable),
    FIELD(struct cpu, spec_ctrl),
    FIELD(struct cpu, debugctl),
    FIELD(struct cpu, mcg_status),
    FIELD(struct cpu, mtrr_def_type),
    FIELD_ARRAY(struct cpu, mtrr_fixed),
    FIELD_ARRAY(struct cpu, mtrr_base),
    FIELD_ARRAY(struct cpu, mtrr_mask),
    FIELD(struct cpu, smbase),
    FIELD(struct cpu, hwcr),
    FIELD(struct cpu, rng_state),
    FIELD(struct cpu, interrupt_shadow),
    FIELD(struct cpu, shadow_ss),
    FIELD(struct cpu, nmi_blocked),
    FIELD(struct cpu, pending_db),
    FIELD(struct cpu, activity),
    FIELD(struct cpu, in_smm),
    FIELD_ARRAY(struct cpu, pdpte),
    FIELD(struct cpu, monitor_gpa),
    FIELD(struct cpu, saved_events),
    FIELD(struct cpu, icount),
};

/* What is not the guest's in the FXSAVE image: addresses of the host, and what the host left. */
static void clear_fx_rest(struct cpu *cpu)
{
    memset(cpu->fx + FX_FOP, 0, FX_ST - FX_FOP);
    memset(cpu->fx + FX_XMM, 0, sizeof(cpu->fx) - FX_XMM);
}

static void cpu_before_save(void *object)
{
    struct cpu *cpu = object;

    cpu_x87_sync(cpu);
    clear_fx_rest(cpu);
    cpu->saved_events = atomic_load(&cpu->attention) & EVENTS_SAVED;
}

/* A byte that was loaded into a bool may be neither 0 nor 1; reading it as a bool would be
 * undefined. */
static bool bool_is_valid(const bool *b)
{
    uint8_t byte;

    memcpy(&byte, b, 1);
    return byte <= 1;
}

static bool bools_are_valid(const struct cpu *cpu)
{
    return bool_is_valid(&cpu->interrupt_shadow) && bool_is_valid(&cpu->shadow_ss) &&
           bool_is_valid(&cpu->nmi_blocked) && bool_is_valid(&cpu->in_smm);
}

static bool control_registers_are_valid(const struct cpu *cpu)
{
    const bool paging = cpu->cr0 & CR0_PG, lma = cpu->efer & EFER_LMA;

    if (!cr0_is_valid(cpu->cr0) || (cpu->cr4 & ~cr4_allowed(cpu)) ||
        !msr_efer_is_valid(cpu, cpu->efer))
        return false;
    if (lma != (paging && (cpu->efer & EFER_LME)) || (lma && !(cpu->cr4 & CR4_PAE)))
        return false;
    if ((cpu->cr4 & CR4_PCIDE) && !lma)
        return false;
    return xcr0_is_valid(cpu, cpu->xcr0) && cpu->xss == 0;
}

static bool privilege_is_valid(const struct cpu *cpu)
{
    if (cpu->cpl > 3)
        return false;
    if (!(cpu->cr0 & CR0_PE))
        return cpu->cpl == 0 && !(cpu->rflags & FLAG_VM);
    return !(cpu->rflags & FLAG_VM) || (cpu->cpl == 3 && !(cpu->efer & EFER_LMA));
}

/* Bits that no instruction could have set are cleared rather than refused where they mean nothing.
 */
static void drop_meaningless_bits(struct cpu *cpu)
{
    cpu->gpr[REG_NONE] = 0;
    if (mode_of_code(cpu) != MODE_CODE64)
        cpu->rip = (uint32_t)cpu->rip;
    cpu->rflags &= FLAGS_ALL & ~(uint64_t)FLAGS_STATUS;
    cpu_set_status_flags(cpu, cpu_status_flags(cpu));
    cpu->dr[4] = cpu->dr[5] = 0;
    cpu->dr[6] = dr6_fixed(cpu->dr[6]);
    cpu->dr[7] = dr7_fixed(cpu->dr[7]);
    cpu->pending_db &= dr6_fixed(UINT64_MAX) ^ dr6_fixed(0);
    for (unsigned i = 0; i < SEG_COUNT; i++)
        cpu->seg[i].attr &= 0xf0ff;
    cpu->ldtr.attr &= 0xf0ff;
    cpu->tr.attr &= 0xf0ff;
    memset(&cpu->exc, 0, sizeof(cpu->exc));
    cpu->x87_live = false;
}

static int cpu_loaded(void *object, struct err *err)
{
    struct cpu *cpu = object;

    if (!bools_are_valid(cpu))
        return err_set(err, -EINVAL, "the saved CPU %u has a truth value that is not 0 or 1",
                       cpu->index);
    drop_meaningless_bits(cpu);
    if (!control_registers_are_valid(cpu))
        return err_set(err, -EINVAL,
                       "the saved CPU %u has control registers that its model can't have",
                       cpu->index);
    if (!privilege_is_valid(cpu))
        return err_set(err, -EINVAL, "the saved CPU %u has an impossible privilege level",
                       cpu->index);
    if (cpu->mxcsr & ~cpu_model_mxcsr_mask(cpu->model))
        return err_set(err, -EINVAL, "the saved CPU %u has reserved bits in MXCSR", cpu->index);
    if (cpu->activity > CPU_SHUTDOWN || (cpu->saved_events & ~EVENTS_SAVED))
        return err_set(err, -EINVAL, "the saved CPU %u has an unknown activity", cpu->index);
    if (cpu->icount > 2 * CLOCK_LAST)
        return err_set(err, -EINVAL, "the saved CPU %u has executed impossibly much", cpu->index);
    if (!msr_state_is_valid(cpu))
        return err_set(err, -EINVAL, "the saved CPU %u has MSRs with reserved bits", cpu->index);
    cpu_unsignal(cpu, EVENTS_SAVED);
    atomic_fetch_or(&cpu->attention, cpu->saved_events | ATTN_SHADOW);
    tlb_flush_all(cpu);
    cpu_update_mode(cpu);
    return 0;
}

const struct state_desc cpu_state_desc = {
    .name = "cpu",
    .version = 1,
    .fields = cpu_fields,
    .field_count = ARRAY_SIZE(cpu_fields),
    .before_save = cpu_before_save,
    .loaded = cpu_loaded,
};

/* --- showing --- */

static void dump_segment(FILE *out, const char *name, const struct segment *seg)
{
    fprintf(out, "%-4s %04x base %016" PRIx64 " limit %08" PRIx32 " attr %04x\n", name, seg->sel,
            seg->base, seg->limit, seg->attr);
}

static void dump_vectors(const struct cpu *cpu, FILE *out)
{
    fprintf(out, "mxcsr %08" PRIx32 "\n", cpu->mxcsr);
    for (unsigned i = 0; i < 16; i++)
        fprintf(out, "ymm%-2u %016" PRIx64 " %016" PRIx64 " %016" PRIx64 " %016" PRIx64 "\n", i,
                cpu->ymm[i].q[3], cpu->ymm[i].q[2], cpu->ymm[i].q[1], cpu->ymm[i].q[0]);
}

void cpu_dump(struct cpu *cpu, FILE *out)
{
    static const char *const gpr_names[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp",
                                              "rsi", "rdi", "r8",  "r9",  "r10", "r11",
                                              "r12", "r13", "r14", "r15"};
    static const char *const seg_names[SEG_COUNT] = {"es", "cs", "ss", "ds", "fs", "gs"};

    for (unsigned i = 0; i < 16; i++)
        fprintf(out, "%-3s %016" PRIx64 "%c", gpr_names[i], cpu->gpr[i], i % 4 == 3 ? '\n' : ' ');
    fprintf(out,
            "rip %016" PRIx64 " rflags %08" PRIx64 " cpl %u mode %04" PRIx32 " activity %" PRIu32
            "\n",
            cpu->rip, cpu_get_rflags(cpu), cpu->cpl, cpu->mode, cpu->activity);
    for (unsigned i = 0; i < SEG_COUNT; i++)
        dump_segment(out, seg_names[i], &cpu->seg[i]);
    dump_segment(out, "ldtr", &cpu->ldtr);
    dump_segment(out, "tr", &cpu->tr);
    fprintf(out, "gdtr %016" PRIx64 " %04x idtr %016" PRIx64 " %04x\n", cpu->gdtr.base,
            cpu->gdtr.limit, cpu->idtr.base, cpu->idtr.limit);
    fprintf(out, "cr0 %08" PRIx64 " cr2 %016" PRIx64 " cr3 %016" PRIx64 " cr4 %08" PRIx64 "\n",
            cpu->cr0, cpu->cr2, cpu->cr3, cpu->cr4);
    fprintf(out, "dr0 %016" PRIx64 " dr1 %016" PRIx64 " dr2 %016" PRIx64 " dr3 %016" PRIx64 "\n",
            cpu->dr[0], cpu->dr[1], cpu->dr[2], cpu->dr[3]);
    fprintf(out, "dr6 %08" PRIx64 " dr7 %08" PRIx64 " efer %05" PRIx64 " xcr0 %" PRIx64 "\n",
            cpu->dr[6], cpu->dr[7], cpu->efer, cpu->xcr0);
    dump_vectors(cpu, out);
    fprintf(out, "instructions %" PRIu64 "\n", cpu->icount);
}
