/* test_xsave.c - the XSAVE family against the host's processor.
 *
 * A random area is loaded by XRSTOR and stored again, by the helpers and by the processor itself;
 * the bytes of the results must be the same. */
#include "cpu_fixture.h"

#include "cpu/xsave.h"

#define AREA 0x4000u
#define RESULT 0x8000u
#define AREA_SIZE 832u
#define ROUNDS 2000u

struct buffer {
    uint8_t bytes[1024] __attribute__((aligned(64)));
};

static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

enum operation { XSAVE, XSAVEC, XSAVEOPT, FXSAVE };

/* The host's registers are lost: all of them are scratch, and x87 and MXCSR are put back. */
static void native_round(enum operation op, const struct buffer *from, struct buffer *to,
                         uint32_t rfbm)
{
    const uint32_t mxcsr = 0x1f80;

    if (op == FXSAVE)
        __asm__ volatile("fxrstor64 %1\n\tfxsave64 %0" : "+m"(*to) : "m"(*from));
    else
        __asm__ volatile("xrstor64 %0" : : "m"(*from), "a"(7), "d"(0));
    if (op == XSAVE)
        __asm__ volatile("xsave64 %0" : "+m"(*to) : "a"(rfbm), "d"(0));
    else if (op == XSAVEC)
        __asm__ volatile("xsavec64 %0" : "+m"(*to) : "a"(rfbm), "d"(0));
    else if (op == XSAVEOPT)
        __asm__ volatile("xsaveopt64 %0" : "+m"(*to) : "a"(rfbm), "d"(0));
    __asm__ volatile("fninit\n\tldmxcsr %0\n\tvzeroupper"
                     :
                     : "m"(mxcsr)
                     : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",
                       "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
}

static bool run(struct fixture *f, helper_fn *helper, uint32_t address, uint32_t rfbm)
{
    struct insn in = fixture_mem_insn(f, 8, RSI);

    in.flags |= INSN_REX_W;
    f->cpu->gpr[RSI] = address;
    f->cpu->gpr[RAX] = rfbm;
    f->cpu->gpr[RDX] = 0;
    return helper(f->cpu, &in);
}

static void emulated_round(struct fixture *f, enum operation op, uint32_t rfbm)
{
    static helper_fn *const helpers[] = {op_xsave, op_xsavec, op_xsaveopt, op_fxsave};

    assert_true(run(f, op == FXSAVE ? op_fxrstor : op_xrstor, AREA, 7));
    assert_true(run(f, helpers[op], RESULT, rfbm));
}

/* Some components are left out, some are zero; the x87 image is a possible one. */
static void make_area(struct buffer *area, uint64_t *seed, uint32_t mxcsr_mask)
{
    uint64_t xstate_bv = next_random(seed) & 7;
    uint32_t mxcsr = (uint32_t)next_random(seed) & mxcsr_mask;

    for (unsigned i = 0; i < AREA_SIZE; i += 8) {
        const uint64_t v = next_random(seed);

        memcpy(area->bytes + i, &v, 8);
    }
    if (next_random(seed) & 1)
        memset(area->bytes + 160, 0, 256);
    if (next_random(seed) & 1)
        memset(area->bytes + 576, 0, 256);
    if (next_random(seed) & 1)
        mxcsr = 0x1f80;
    area->bytes[5] = 0;
    area->bytes[7] &= 7;
    memset(area->bytes + 14, area->bytes[13] & 0x80 ? 0xff : 0, 2); /* canonical pointers */
    memset(area->bytes + 22, area->bytes[21] & 0x80 ? 0xff : 0, 2);
    memcpy(area->bytes + 24, &mxcsr, 4);
    memset(area->bytes + 512, 0, 64);
    memcpy(area->bytes + 512, &xstate_bv, 8);
}

/* Components in their initial state, as a processor stores them that takes them for being in use.
 * MXCSR belongs to SSE in the compacted format only. */
static void put_initial(const struct cpu_model *model, uint8_t *area, unsigned components)
{
    static const uint8_t fcw[] = {0x7f, 0x03};
    const uint32_t mxcsr[] = {0x1f80, cpu_model_mxcsr_mask(model)};

    if (components & XCR0_X87) {
        bool pointers = !cpu_model_is_amd(model) || cpu_model_has(model, FEAT_XSAVEERPTR);

        memset(area, 0, pointers ? 24 : 6);
        memcpy(area, fcw, sizeof(fcw));
        memset(area + 32, 0, 128);
    }
    if (components & XCR0_SSE) {
        if (area[527] & 0x80)
            memcpy(area + 24, mxcsr, sizeof(mxcsr));
        memset(area + 160, 0, 256);
    }
    if (components & XCR0_AVX)
        memset(area + 576, 0, 256);
}

/* Processors may take a component for being in use although it is in its initial state (SDM vol. 1,
 * 13.6). Some do whenever it was loaded, others after the host's kernel has saved and loaded the
 * registers between our two instructions. Then XSAVEC and XSAVEOPT store it. */
static bool same_but_for_init(const struct cpu_model *model, const uint8_t *native, uint8_t *ours)
{
    if ((native[512] | ours[512]) != native[512])
        return false;
    put_initial(model, ours, native[512] & ~ours[512]);
    return !memcmp(native, ours, 512) && !memcmp(native + 520, ours + 520, AREA_SIZE - 520);
}

static void enable_xsave(struct fixture *f)
{
    f->cpu->cr4 |= CR4_OSXSAVE | CR4_OSFXSR;
    f->cpu->xcr0 = 7;
    cpu_update_mode(f->cpu);
}

static void compare_rounds(struct fixture *f, enum operation op)
{
    uint64_t seed = 0x123456789abcdef + op;
    struct buffer area, native;

    if (!cpu_model_has(f->model, FEAT_AVX) || !cpu_model_has(f->model, FEAT_XSAVEC) ||
        !cpu_model_has(f->model, FEAT_XSAVEOPT))
        skip();
    enable_xsave(f);
    for (unsigned i = 0; i < ROUNDS; i++) {
        const uint32_t rfbm = next_random(&seed) & 7;

        make_area(&area, &seed, cpu_model_mxcsr_mask(f->model));
        memset(native.bytes, 0x5a, sizeof(native.bytes));
        memset(native.bytes + 512, 0, 64);
        memcpy(f->ram + AREA, area.bytes, sizeof(area.bytes));
        memcpy(f->ram + RESULT, native.bytes, sizeof(native.bytes));
        native_round(op, &area, &native, rfbm);
        emulated_round(f, op, rfbm);
        assert_true(same_but_for_init(f->model, native.bytes, f->ram + RESULT));
    }
}

static void test_xsave(void **state)
{
    compare_rounds(*state, XSAVE);
}

static void test_xsavec(void **state)
{
    compare_rounds(*state, XSAVEC);
}

static void test_xsaveopt(void **state)
{
    compare_rounds(*state, XSAVEOPT);
}

static void test_fxsave(void **state)
{
    compare_rounds(*state, FXSAVE);
}

static void assert_refused(struct fixture *f, helper_fn *helper, uint32_t address,
                           enum vector vector)
{
    memset(&f->cpu->exc, 0, sizeof(f->cpu->exc));
    assert_false(run(f, helper, address, 7));
    assert_exception(f->cpu, vector);
}

static void test_checks(void **state)
{
    struct fixture *f = *state;

    if (!cpu_model_has(f->model, FEAT_XSAVES))
        skip();
    assert_refused(f, op_xsave, AREA, EXC_UD);
    enable_xsave(f);
    memset(f->ram + AREA, 0, AREA_SIZE);
    assert_true(run(f, op_xrstor, AREA, 7));
    assert_refused(f, op_xsave, AREA + 32, EXC_GP);
    assert_refused(f, op_fxsave, AREA + 8, EXC_GP);
    f->ram[AREA + 26] = 0x80; /* MXCSR: reserved bit */
    assert_refused(f, op_xrstor, AREA, EXC_GP);
    assert_refused(f, op_fxrstor, AREA, EXC_GP);
    f->ram[AREA + 26] = 0;
    f->ram[AREA + 512] = 8; /* a component that XCR0 doesn't have */
    assert_refused(f, op_xrstor, AREA, EXC_GP);
    f->ram[AREA + 512] = 0;
    f->ram[AREA + 528] = 1; /* header: must be zero */
    assert_refused(f, op_xrstor, AREA, EXC_GP);
    f->ram[AREA + 528] = 0;
    assert_refused(f, op_xrstors, AREA, EXC_GP); /* not compacted */
    f->cpu->cr0 |= CR0_TS;
    cpu_update_mode(f->cpu);
    assert_refused(f, op_xsave, AREA, EXC_NM);
    assert_refused(f, op_fxrstor, AREA, EXC_NM);
}

/* Compacted areas go back to where they came from. */
static void test_xsaves_round_trip(void **state)
{
    struct fixture *f = *state;
    union vec before[16];

    if (!cpu_model_has(f->model, FEAT_XSAVES) || !cpu_model_has(f->model, FEAT_AVX))
        skip();
    enable_xsave(f);
    for (unsigned i = 0; i < 64; i++)
        f->cpu->ymm[i / 4].q[i % 4] = UINT64_C(0x0101010101010101) * (i + 1);
    f->cpu->mxcsr = 0x1f00;
    memcpy(before, f->cpu->ymm, sizeof(before));
    assert_true(run(f, op_xsaves, AREA, 7));
    memset(f->cpu->ymm, 0, sizeof(f->cpu->ymm));
    f->cpu->mxcsr = 0x1f80;
    assert_true(run(f, op_xrstors, AREA, 7));
    assert_memory_equal(before, f->cpu->ymm, sizeof(before));
    assert_int_equal(f->cpu->mxcsr, 0x1f00);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_xsave, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_xsavec, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_xsaveopt, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_fxsave, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_checks, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_xsaves_round_trip, fixture_setup, fixture_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
