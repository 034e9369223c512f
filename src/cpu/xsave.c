/* xsave.c - FXSAVE, FXRSTOR, the XSAVE family, LDMXCSR and STMXCSR.
 *
 * SDM vol. 1, 10.5 and ch. 13; AMD APM vol. 2, 11.4. An area looks like this:
 *
 *   0 FCW FSW FTW - FOP | 8 FIP | 16 FDP | 24 MXCSR MASK | 32 ST0..ST7 | 160 XMM0..15 | 416 free
 *   512 XSTATE_BV XCOMP_BV 0... | 576 upper halves of YMM0..15 | 832
 *
 * There is one extended component, AVX, so it has the same place in the compacted format.
 * Components in their initial configuration are found by looking, and are left out where the
 * instruction may do so; the modified optimization, which the manual permits, is not done. IA32_XSS
 * is always 0.
 *
 * AMD's processors keep FIP, FDP and FOP only while an exception is pending (FSW.ES); otherwise
 * they leave them out of the image, or store zeros if CPUID says XSAVEERPTR. */
#include "cpu/xsave.h"
#include "cpu/access.h"
#include "cpu/cpuid.h"

#include <Zydis/Zydis.h>
#include <string.h>

#define FX_FSW 2u
#define FX_FOP 6u
#define FX_FIP 8u
#define FX_FDP 16u
#define FX_MXCSR 24u
#define FX_ST 32u
#define FX_XMM 160u
#define X87_SIZE 160u

#define FSW_ES 0x80u
#define FCW_INIT 0x37fu
#define MXCSR_INIT 0x1f80u
#define XCOMP_COMPACTED (UINT64_C(1) << 63)

struct xsave_header {
    uint64_t xstate_bv, xcomp_bv, reserved[6];
};
_Static_assert(sizeof(struct xsave_header) == XSAVE_HEADER_SIZE, "SDM vol. 1, 13.4.2");

uint32_t xsave_size(uint64_t xcr0)
{
    return xcr0 & XCR0_AVX ? XSAVE_AVX_OFFSET + XSAVE_AVX_SIZE
                           : XSAVE_LEGACY_SIZE + XSAVE_HEADER_SIZE;
}

/* --- the registers --- */

/* Outside 64-bit mode registers 8 to 15 are neither stored nor changed. */
static unsigned vector_count(const struct cpu *cpu)
{
    return cpu_is_64bit(cpu) ? 16 : 8;
}

static void x87_init(struct cpu *cpu)
{
    const uint16_t fcw = FCW_INIT;

    memset(cpu->fx, 0, X87_SIZE);
    memcpy(cpu->fx, &fcw, sizeof(fcw));
    cpu->x87_live = false;
    cpu->x87_fip = cpu->x87_fdp = 0;
    cpu->x87_fcs = cpu->x87_fds = cpu->x87_fop = 0;
}

static bool x87_error_pending(const struct cpu *cpu)
{
    return cpu->fx[FX_FSW] & FSW_ES;
}

/* FCW, FSW, FTW and the registers, without pointers and MXCSR. */
static bool x87_in_use(const struct cpu *cpu)
{
    static const uint8_t initial[FX_FOP] = {FCW_INIT & 0xff, FCW_INIT >> 8};
    static const uint8_t zeros[X87_SIZE - FX_ST];

    return memcmp(cpu->fx, initial, sizeof(initial)) ||
           memcmp(cpu->fx + FX_ST, zeros, sizeof(zeros)) || cpu->x87_fip || cpu->x87_fdp ||
           cpu->x87_fop;
}

/* Is a half of any vector register (0: XMM, 1: the upper half of YMM) not zero? */
static bool vectors_in_use(const struct cpu *cpu, unsigned half)
{
    uint64_t bits = 0;

    for (unsigned i = 0; i < vector_count(cpu); i++)
        bits |= cpu->ymm[i].q[2 * half] | cpu->ymm[i].q[2 * half + 1];
    return bits != 0;
}

/* XINUSE, in which MXCSR doesn't count (SDM vol. 1, 13.6). */
static uint64_t components_in_use(struct cpu *cpu)
{
    cpu_x87_sync(cpu);
    return (x87_in_use(cpu) ? XCR0_X87 : 0u) | (vectors_in_use(cpu, 0) ? XCR0_SSE : 0u) |
           (vectors_in_use(cpu, 1) ? XCR0_AVX : 0u);
}

uint64_t xsave_in_use(struct cpu *cpu)
{
    return components_in_use(cpu) | (cpu->mxcsr != MXCSR_INIT ? XCR0_SSE : 0u);
}

/* --- addresses and checks --- */

static bool area_address(struct cpu *cpu, const struct insn *in, unsigned len, unsigned alignment,
                         unsigned access, gva_t *gva)
{
    uint64_t base = cpu_is_64bit(cpu) && in->seg < FS ? 0 : cpu->seg[in->seg].base;

    /* XSAVE and its kin look at the alignment before the segment, FXSAVE and FXRSTOR after it; but
     * those can give #AC. */
    if (alignment == 64 && ((base + insn_ea(cpu, in)) & 63))
        return cpu_raise_gp(cpu, 0);
    if (!seg_to_linear(cpu, in->seg, insn_ea(cpu, in), len, access, gva))
        return false;
    if (alignment == 16 && lin_misaligned(cpu, *gva, 4))
        return cpu_raise_error(cpu, EXC_AC, 0);
    if (*gva & (alignment - 1))
        return cpu_raise_gp(cpu, 0);
    return lin_probe(cpu, *gva, len, access);
}

static bool fxsr_usable(struct cpu *cpu)
{
    if (cpu->mode & MODE_FPU_EM)
        return cpu_raise_ud(cpu);
    return !(cpu->mode & MODE_SSE_NM) || cpu_raise(cpu, EXC_NM);
}

static bool xsave_usable(struct cpu *cpu)
{
    if (!(cpu->cr4 & CR4_OSXSAVE))
        return cpu_raise_ud(cpu);
    return !(cpu->mode & MODE_SSE_NM) || cpu_raise(cpu, EXC_NM);
}

/* --- storing --- */

static bool put(struct cpu *cpu, gva_t gva, const void *data, unsigned len)
{
    return lin_write(cpu, gva, data, len, ACCESS_WRITE);
}

/* FOP, FIP and FDP as 18 bytes from FX_FOP on: 64-bit pointers, or 32-bit ones with selectors. */
#define POINTERS_SIZE (FX_MXCSR - FX_FOP)
static void make_pointers(const struct cpu *cpu, bool wide, uint8_t image[POINTERS_SIZE])
{
    const uint64_t fip =
        wide ? cpu->x87_fip : (uint32_t)cpu->x87_fip | (uint64_t)cpu->x87_fcs << 32;
    const uint64_t fdp =
        wide ? cpu->x87_fdp : (uint32_t)cpu->x87_fdp | (uint64_t)cpu->x87_fds << 32;

    memcpy(image, &cpu->x87_fop, 2);
    memcpy(image + FX_FIP - FX_FOP, &fip, 8);
    memcpy(image + FX_FDP - FX_FOP, &fdp, 8);
}

static bool put_pointers(struct cpu *cpu, gva_t gva, bool wide)
{
    uint8_t image[POINTERS_SIZE] = {0};

    if (!cpu_model_is_amd(cpu->model) || x87_error_pending(cpu))
        make_pointers(cpu, wide, image);
    else if (!cpu_model_has(cpu->model, FEAT_XSAVEERPTR))
        return true;
    return put(cpu, gva + FX_FOP, image, sizeof(image));
}

static bool put_x87(struct cpu *cpu, gva_t gva, bool wide)
{
    return put(cpu, gva, cpu->fx, FX_FOP) && put_pointers(cpu, gva, wide) &&
           put(cpu, gva + FX_ST, cpu->fx + FX_ST, X87_SIZE - FX_ST);
}

static bool put_mxcsr(struct cpu *cpu, gva_t gva)
{
    const uint32_t image[2] = {cpu->mxcsr, cpu_model_mxcsr_mask(cpu->model)};

    return put(cpu, gva + FX_MXCSR, image, sizeof(image));
}

/* XMM at offset 160, or the upper halves of YMM at 576. */
static bool put_vectors(struct cpu *cpu, gva_t gva, unsigned half)
{
    const unsigned count = vector_count(cpu);
    uint8_t image[16 * 16];

    for (unsigned i = 0; i < count; i++)
        memcpy(image + 16 * i, &cpu->ymm[i].q[2 * half], 16);
    return put(cpu, gva + (half ? XSAVE_AVX_OFFSET : FX_XMM), image, 16 * count);
}

/* --- loading: from a copy of the area, so that nothing changes before everything is checked --- */

struct area {
    uint8_t legacy[XSAVE_LEGACY_SIZE];
    struct xsave_header header;
    uint8_t avx[XSAVE_AVX_SIZE];
};
_Static_assert(offsetof(struct area, avx) == XSAVE_AVX_OFFSET, "SDM vol. 1, 13.4");

static uint32_t area_mxcsr(const struct area *area)
{
    uint32_t mxcsr;

    memcpy(&mxcsr, area->legacy + FX_MXCSR, sizeof(mxcsr));
    return mxcsr;
}

static bool mxcsr_is_valid(const struct cpu *cpu, uint32_t mxcsr)
{
    return !(mxcsr & ~cpu_model_mxcsr_mask(cpu->model));
}

/* The pointers are linear addresses: processors keep 57 bits of them and extend the sign. */
static uint64_t canonical_pointer(uint64_t v)
{
    return (uint64_t)((int64_t)(v << 7) >> 7);
}

static void get_pointers(struct cpu *cpu, const struct area *area, bool wide)
{
    uint64_t fip, fdp;

    memcpy(&cpu->x87_fop, area->legacy + FX_FOP, 2);
    memcpy(&fip, area->legacy + FX_FIP, 8);
    memcpy(&fdp, area->legacy + FX_FDP, 8);
    cpu->x87_fop &= 0x7ff;
    cpu->x87_fip = wide ? canonical_pointer(fip) : (uint32_t)fip;
    cpu->x87_fdp = wide ? canonical_pointer(fdp) : (uint32_t)fdp;
    cpu->x87_fcs = wide ? 0 : (uint16_t)(fip >> 32);
    cpu->x87_fds = wide ? 0 : (uint16_t)(fdp >> 32);
}

/* The host's FPU is made to load the image once, because it corrects what can't be (FSW.ES follows
 * from the other bits, reserved bits go away). */
static void get_x87(struct cpu *cpu, const struct area *area, bool wide)
{
    memcpy(cpu->fx, area->legacy, X87_SIZE);
    cpu_x87_load(cpu);
    cpu_x87_sync(cpu);
    if (!cpu_model_is_amd(cpu->model) || cpu_model_has(cpu->model, FEAT_XSAVEERPTR) ||
        x87_error_pending(cpu))
        get_pointers(cpu, area, wide);
}

static void get_vectors(struct cpu *cpu, const uint8_t *image, unsigned half)
{
    for (unsigned i = 0; i < vector_count(cpu); i++)
        memcpy(&cpu->ymm[i].q[2 * half], image + 16 * i, 16);
}

static void init_vectors(struct cpu *cpu, unsigned half)
{
    for (unsigned i = 0; i < vector_count(cpu); i++)
        cpu->ymm[i].q[2 * half] = cpu->ymm[i].q[2 * half + 1] = 0;
}

/* --- FXSAVE and FXRSTOR --- */

/* AMD's fast FXSAVE: the kernel of a 64-bit system may leave out XMM. */
static bool fx_has_vectors(const struct cpu *cpu)
{
    return !((cpu->efer & EFER_FFXSR) && cpu_is_64bit(cpu) && cpu->cpl == 0);
}

bool op_fxsave(struct cpu *cpu, const struct insn *in)
{
    gva_t gva;

    if (!fxsr_usable(cpu) || !area_address(cpu, in, XSAVE_LEGACY_SIZE, 16, ACCESS_WRITE, &gva))
        return false;
    cpu_x87_sync(cpu);
    if (!put_x87(cpu, gva, in->flags & INSN_REX_W) || !put_mxcsr(cpu, gva))
        return false;
    return !fx_has_vectors(cpu) || put_vectors(cpu, gva, 0);
}

bool op_fxrstor(struct cpu *cpu, const struct insn *in)
{
    struct area area;
    gva_t gva;

    if (!fxsr_usable(cpu) || !area_address(cpu, in, XSAVE_LEGACY_SIZE, 16, ACCESS_READ, &gva) ||
        !lin_read(cpu, gva, area.legacy, XSAVE_LEGACY_SIZE, ACCESS_READ))
        return false;
    if (!mxcsr_is_valid(cpu, area_mxcsr(&area)))
        return cpu_raise_gp(cpu, 0);
    get_x87(cpu, &area, in->flags & INSN_REX_W);
    cpu->mxcsr = area_mxcsr(&area);
    if (fx_has_vectors(cpu))
        get_vectors(cpu, area.legacy + FX_XMM, 0);
    return true;
}

/* --- XSAVE and its relatives --- */

/* The requested features: EDX:EAX within XCR0. */
static uint64_t requested(const struct cpu *cpu)
{
    return cpu->xcr0 & (cpu->gpr[RDX] << 32 | (uint32_t)cpu->gpr[RAX]);
}

/* Checks, and gives the address of an area that `rfbm` can be moved to or from. */
static bool xsave_begin(struct cpu *cpu, const struct insn *in, uint64_t rfbm, unsigned access,
                        gva_t *gva)
{
    return xsave_usable(cpu) && area_address(cpu, in, xsave_size(rfbm), 64, access, gva);
}

static bool put_components(struct cpu *cpu, gva_t gva, uint64_t components, bool wide)
{
    if ((components & XCR0_X87) && !put_x87(cpu, gva, wide))
        return false;
    if ((components & XCR0_SSE) && !put_vectors(cpu, gva, 0))
        return false;
    return !(components & XCR0_AVX) || put_vectors(cpu, gva, 1);
}

/* XSAVE stores all that was requested, XSAVEOPT what is in use; both leave the bits of other
 * components in XSTATE_BV as they are. */
static bool save_standard(struct cpu *cpu, const struct insn *in, bool optimized)
{
    const uint64_t rfbm = requested(cpu), in_use = components_in_use(cpu) & rfbm;
    uint64_t xstate_bv;
    gva_t gva;

    if (!xsave_begin(cpu, in, rfbm, ACCESS_RMW, &gva) ||
        !lin_read(cpu, gva + XSAVE_LEGACY_SIZE, &xstate_bv, sizeof(xstate_bv), ACCESS_READ))
        return false;
    if (!put_components(cpu, gva, optimized ? in_use : rfbm, in->flags & INSN_REX_W))
        return false;
    if ((rfbm & (XCR0_SSE | XCR0_AVX)) && !put_mxcsr(cpu, gva))
        return false;
    xstate_bv = (xstate_bv & ~rfbm) | in_use;
    return put(cpu, gva + XSAVE_LEGACY_SIZE, &xstate_bv, sizeof(xstate_bv));
}

bool op_xsave(struct cpu *cpu, const struct insn *in)
{
    return save_standard(cpu, in, false);
}

bool op_xsaveopt(struct cpu *cpu, const struct insn *in)
{
    return save_standard(cpu, in, true);
}

/* Here MXCSR is part of the SSE component, and makes it be in use. */
static bool save_compacted(struct cpu *cpu, const struct insn *in)
{
    const uint64_t rfbm = requested(cpu), in_use = xsave_in_use(cpu) & rfbm;
    const uint64_t header[2] = {in_use, rfbm | XCOMP_COMPACTED};
    gva_t gva;

    if (!xsave_begin(cpu, in, rfbm, ACCESS_WRITE, &gva))
        return false;
    if (!put_components(cpu, gva, in_use, in->flags & INSN_REX_W))
        return false;
    if ((in_use & XCR0_SSE) && !put_mxcsr(cpu, gva))
        return false;
    return put(cpu, gva + XSAVE_LEGACY_SIZE, header, sizeof(header));
}

bool op_xsavec(struct cpu *cpu, const struct insn *in)
{
    return save_compacted(cpu, in);
}

/* #UD and #NM come before #GP for the privilege. */
bool op_xsaves(struct cpu *cpu, const struct insn *in)
{
    if (!xsave_usable(cpu))
        return false;
    return cpu->cpl == 0 ? save_compacted(cpu, in) : cpu_raise_gp(cpu, 0);
}

static bool header_rest_is_zero(const struct xsave_header *header)
{
    uint64_t bits = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(header->reserved); i++)
        bits |= header->reserved[i];
    return bits == 0;
}

/* SDM vol. 1, 13.8.1: bytes 23:8 must be zero. */
static bool standard_header_is_valid(const struct cpu *cpu, const struct xsave_header *header)
{
    return !(header->xstate_bv & ~cpu->xcr0) && !header->xcomp_bv && !header->reserved[0];
}

/* 13.8.2: bytes 63:16 must be zero. */
static bool compacted_header_is_valid(const struct cpu *cpu, const struct xsave_header *header)
{
    const uint64_t components = header->xcomp_bv & ~XCOMP_COMPACTED;

    return !(components & ~cpu->xcr0) && !(header->xstate_bv & ~components) &&
           header_rest_is_zero(header);
}

static bool header_is_valid(const struct cpu *cpu, const struct xsave_header *header)
{
    if (!(header->xcomp_bv & XCOMP_COMPACTED))
        return standard_header_is_valid(cpu, header);
    return cpu_model_has(cpu->model, FEAT_XSAVEC) && compacted_header_is_valid(cpu, header);
}

static void restore_components(struct cpu *cpu, const struct area *area, uint64_t rfbm, bool wide)
{
    const uint64_t present = area->header.xstate_bv & rfbm, absent = rfbm & ~present;

    if (present & XCR0_X87)
        get_x87(cpu, area, wide);
    else if (absent & XCR0_X87)
        x87_init(cpu);
    if (present & XCR0_SSE)
        get_vectors(cpu, area->legacy + FX_XMM, 0);
    else if (absent & XCR0_SSE)
        init_vectors(cpu, 0);
    if (present & XCR0_AVX)
        get_vectors(cpu, area->avx, 1);
    else if (absent & XCR0_AVX)
        init_vectors(cpu, 1);
}

/* In the standard format MXCSR is loaded whenever SSE or AVX is requested; in the compacted one it
 * goes with the SSE component. False: reserved bits. */
static bool new_mxcsr(const struct cpu *cpu, const struct area *area, uint64_t rfbm,
                      uint32_t *mxcsr)
{
    const bool compacted = area->header.xcomp_bv & XCOMP_COMPACTED;

    *mxcsr = cpu->mxcsr;
    if (!(rfbm & (compacted ? XCR0_SSE : XCR0_SSE | XCR0_AVX)))
        return true;
    if (compacted && !(area->header.xstate_bv & XCR0_SSE))
        *mxcsr = MXCSR_INIT;
    else
        *mxcsr = area_mxcsr(area);
    return mxcsr_is_valid(cpu, *mxcsr);
}

/* The area is copied first: another CPU may change it between the check and the use. */
/* The part of the area behind the header, as far as `components` lie there. */
static bool read_components(struct cpu *cpu, const struct insn *in, uint64_t components,
                            struct area *area)
{
    const unsigned begin = xsave_size(0), end = xsave_size(components);
    gva_t gva;

    return end <= begin ||
           (seg_to_linear(cpu, in->seg, insn_ea(cpu, in), end, ACCESS_READ, &gva) &&
            lin_read(cpu, gva + begin, (uint8_t *)area + begin, end - begin, ACCESS_READ));
}

static bool restore(struct cpu *cpu, const struct insn *in, bool compacted_only)
{
    const uint64_t rfbm = requested(cpu);
    struct area area = {0};
    uint32_t mxcsr;
    gva_t gva;

    if (!xsave_begin(cpu, in, 0, ACCESS_READ, &gva) ||
        !lin_read(cpu, gva, &area, xsave_size(0), ACCESS_READ))
        return false;
    if (compacted_only && !(area.header.xcomp_bv & XCOMP_COMPACTED))
        return cpu_raise_gp(cpu, 0);
    /* In the standard form all that was asked for is touched, in the compacted one what is there.
     */
    if (!(area.header.xcomp_bv & XCOMP_COMPACTED) && !read_components(cpu, in, rfbm, &area))
        return false;
    if (!header_is_valid(cpu, &area.header) || !new_mxcsr(cpu, &area, rfbm, &mxcsr))
        return cpu_raise_gp(cpu, 0);
    if (!read_components(cpu, in, rfbm & area.header.xstate_bv, &area))
        return false;
    restore_components(cpu, &area, rfbm, in->flags & INSN_REX_W);
    cpu->mxcsr = mxcsr;
    return true;
}

bool op_xrstor(struct cpu *cpu, const struct insn *in)
{
    return restore(cpu, in, false);
}

bool op_xrstors(struct cpu *cpu, const struct insn *in)
{
    if (!xsave_usable(cpu))
        return false;
    return cpu->cpl == 0 ? restore(cpu, in, true) : cpu_raise_gp(cpu, 0);
}

/* --- MXCSR --- */

/* The forms with a VEX prefix need AVX switched on; the others SSE. */
static bool mxcsr_usable(struct cpu *cpu, const struct insn *in)
{
    const bool vex =
        in->mnemonic == ZYDIS_MNEMONIC_VLDMXCSR || in->mnemonic == ZYDIS_MNEMONIC_VSTMXCSR;

    if (vex ? !(cpu->mode & MODE_AVX) : cpu->mode & MODE_NO_SSE)
        return cpu_raise_ud(cpu);
    return !(cpu->mode & MODE_SSE_NM) || cpu_raise(cpu, EXC_NM);
}

bool op_ldmxcsr(struct cpu *cpu, const struct insn *in)
{
    uint64_t v;

    if (!mxcsr_usable(cpu, in) || !virt_read_int(cpu, in->seg, insn_ea(cpu, in), 4, &v))
        return false;
    if (!mxcsr_is_valid(cpu, (uint32_t)v))
        return cpu_raise_gp(cpu, 0);
    cpu->mxcsr = (uint32_t)v;
    return true;
}

bool op_stmxcsr(struct cpu *cpu, const struct insn *in)
{
    return mxcsr_usable(cpu, in) && virt_write_int(cpu, in->seg, insn_ea(cpu, in), 4, cpu->mxcsr);
}
