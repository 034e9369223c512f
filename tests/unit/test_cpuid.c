/* test_cpuid.c - CPU models: how they are named, what they refuse, and what CPUID says of them. */
#include "cpu_fixture.h"

#include "cpu/cr.h"
#include "cpu/msr.h"

#include <errno.h>
#include <stdio.h>

static struct cpu_model *model_of(const char *spec)
{
    struct cpu_model *model = NULL;
    struct err err = {0};

    assert_int_equal(cpu_model_new(spec, &model, &err), 0);
    return model;
}

static bool spec_has(const char *spec, enum cpu_feature feature)
{
    struct cpu_model *model = model_of(spec);
    const bool has = cpu_model_has(model, feature);

    cpu_model_free(model);
    return has;
}

static void assert_refused(const char *spec, const char *text)
{
    struct cpu_model *model = NULL;
    struct err err = {0};

    assert_int_equal(cpu_model_new(spec, &model, &err), -EINVAL);
    assert_null(model);
    assert_non_null(strstr(err.text, text));
}

static void test_levels(void **state)
{
    (void)state;
    assert_true(spec_has("x86-64", FEAT_SSE2));
    assert_false(spec_has("x86-64", FEAT_SSE3));
    assert_true(spec_has("x86-64-v2", FEAT_SSE4_2));
    assert_false(spec_has("x86-64-v2", FEAT_AVX));
    assert_true(spec_has(NULL, FEAT_SSE2));
    assert_true(spec_has("", FEAT_LM));
    assert_false(spec_has("max", FEAT_MONITOR));
    assert_true(spec_has("max,+monitor", FEAT_MONITOR));
}

static void test_dependencies(void **state)
{
    (void)state;
    assert_false(spec_has("host,-avx", FEAT_AVX2));
    assert_false(spec_has("host,-avx", FEAT_FMA));
    assert_false(spec_has("host,-sse2", FEAT_AES));
    assert_false(spec_has("host,-xsave", FEAT_AVX));
    assert_true(spec_has("host,-sse3,+sse4_1", FEAT_SSE3));
    if (spec_has("host", FEAT_AVX2)) {
        assert_true(spec_has("x86-64,+avx2", FEAT_AVX));
        assert_true(spec_has("x86-64,+avx2", FEAT_XSAVE));
    }
}

static void test_names(void **state)
{
    (void)state;
    assert_false(spec_has("host,-pni", FEAT_SSE3));
    assert_false(spec_has("host,-lzcnt", FEAT_ABM));
    assert_refused("hots", "did you mean 'host'");
    assert_refused("x86-64-v9", "'x86-64-v");
    assert_refused("host,+avx22", "did you mean 'avx2'");
    assert_refused("host,+avx512f", "not supported");
    assert_refused("host,avx", "+ or -");
    assert_refused("host,", "+ or -");
    assert_refused("host,+a_name_that_is_much_longer_than_any_feature_could_be", "too long");
}

/* Every row is shown where it says, and goes when it is removed. */
static void test_every_feature_can_be_removed(void **state)
{
    struct fixture *f = *state;
    const struct cpu_model *host = f->cpu->model;

    for (unsigned i = 0; i < FEAT_COUNT; i++) {
        char spec[64];

        snprintf(spec, sizeof(spec), "host,-%s", cpu_feature_name(i));
        assert_false(spec_has(spec, i));
        snprintf(spec, sizeof(spec), "host,+%s", cpu_feature_name(i));
        if (cpu_model_has(host, i))
            assert_true(spec_has(spec, i));
    }
}

static void test_dynamic_bits(void **state)
{
    struct fixture *f = *state;
    uint32_t out[4];

    cpu_model_cpuid(f->cpu, 1, 0, out);
    assert_false(out[REG_ECX] & 1u << 27);
    assert_int_equal(out[REG_EBX] >> 24, 0);
    if (!cpu_model_has(f->model, FEAT_AVX))
        skip();
    f->cpu->cr4 |= CR4_OSXSAVE;
    cpu_model_cpuid(f->cpu, 1, 0, out);
    assert_true(out[REG_ECX] & 1u << 27);
    cpu_model_cpuid(f->cpu, 0xd, 0, out);
    assert_int_equal(out[REG_EAX], 7);
    assert_int_equal(out[REG_EBX], 576);
    assert_int_equal(out[REG_ECX], 832);
    f->cpu->xcr0 = 7;
    cpu_model_cpuid(f->cpu, 0xd, 0, out);
    assert_int_equal(out[REG_EBX], 832);
}

static void test_topology(void **state)
{
    struct fixture *f = *state;
    uint32_t out[4];

    cpu_model_cpuid(f->cpu, 0xb, 1, out);
    assert_int_equal(out[REG_EAX], 0);
    assert_int_equal(out[REG_EBX], 1);
    cpu_model_set_cpus(f->model, 6);
    cpu_model_cpuid(f->cpu, 0xb, 1, out);
    assert_int_equal(out[REG_EAX], 3);
    assert_int_equal(out[REG_EBX], 6);
    cpu_model_cpuid(f->cpu, 1, 0, out);
    assert_int_equal(out[REG_EBX] >> 16 & 0xff, 6);
    assert_true(out[REG_EDX] & 1u << 28);
}

static void test_leaves_out_of_range(void **state)
{
    static const uint32_t leaves[] = {0x17,       0x1000,     0x3fffffff, 0x40000100,
                                      0x7fffffff, 0x80000022, 0x8fffffff, UINT32_MAX};
    struct fixture *f = *state;
    struct clock clock = {.mode = CLOCK_VIRTUAL, .tsc_khz = CLOCK_VIRTUAL_TSC_KHZ};
    uint32_t out[4];

    f->cpu->clock = &clock;
    for (unsigned i = 0; i < ARRAY_SIZE(leaves); i++)
        for (uint32_t subleaf = 0; subleaf < 70; subleaf++)
            cpu_model_cpuid(f->cpu, leaves[i], subleaf, out);
    for (uint32_t leaf = 0; leaf < 0x20; leaf++)
        for (uint32_t subleaf = 0; subleaf < 70; subleaf++) {
            cpu_model_cpuid(f->cpu, leaf, subleaf, out);
            cpu_model_cpuid(f->cpu, leaf + 0x80000000, subleaf, out);
            cpu_model_cpuid(f->cpu, leaf + 0x40000000, subleaf, out);
        }
}

static void test_hypervisor_leaf(void **state)
{
    struct fixture *f = *state;
    struct clock clock = {.tsc_khz = 2595123};
    struct cpu_model *pure = model_of("host,-hypervisor");
    uint32_t out[4];

    f->cpu->clock = &clock;
    cpu_model_cpuid(f->cpu, 0x40000000, 0, out);
    assert_memory_equal(&out[1], "DobleDobleDb", 12);
    cpu_model_cpuid(f->cpu, 0x40000010, 0, out);
    assert_int_equal(out[REG_EAX], 2595123);
    f->cpu->model = pure;
    cpu_model_cpuid(f->cpu, 0x40000000, 0, out);
    assert_memory_not_equal(&out[1], "DobleDobleDb", 12);
    f->cpu->model = f->model;
    cpu_model_free(pure);
}

/* Bits that no feature stands for can't be set; the others can. */
static void test_control_bits_follow_the_model(void **state)
{
    struct fixture *f = *state;
    struct cpu_model *small = model_of("x86-64");

    assert_true(cpu_write_cr4(f->cpu, cr4_allowed(f->cpu) & ~(uint64_t)(CR4_PCIDE | CR4_LA57)));
    assert_true(cpu_write_cr4(f->cpu, CR4_PAE));
    f->cpu->model = small;
    assert_false(cpu_write_cr4(f->cpu, CR4_PAE | CR4_OSXSAVE));
    assert_exception(f->cpu, EXC_GP);
    assert_false(cpu_write_cr4(f->cpu, CR4_PAE | 1u << 22));
    assert_false(cpu_write_cr4(f->cpu, 0));
    assert_false(xcr0_is_valid(f->cpu, 7));
    f->cpu->model = f->model;
    cpu_model_free(small);
}

static void test_msrs(void **state)
{
    struct fixture *f = *state;
    uint64_t v;

    assert_false(msr_read(f->cpu, 0x12345678, &v));
    assert_true(msr_read(f->cpu, 0xfe, &v));
    assert_int_equal(v & 0xff, 8);
    assert_false(msr_write(f->cpu, 0xfe, v));
    assert_true(msr_write(f->cpu, 0x277, UINT64_C(0x0407050600070106)));
    assert_false(msr_write(f->cpu, 0x277, 2));
    assert_false(msr_write(f->cpu, 0xc0000082, UINT64_C(1) << 63));
    assert_true(msr_write(f->cpu, 0xc0000101, UINT64_C(0xffff888000000000)));
    assert_int_equal(f->cpu->seg[GS].base, UINT64_C(0xffff888000000000));
    assert_false(msr_write(f->cpu, 0xc0000080, 1u << 12));
    assert_true(msr_write(f->cpu, 0x269, UINT64_C(0x0606060606060606)));
    assert_int_equal(f->cpu->mtrr_fixed[4], UINT64_C(0x0606060606060606));
    assert_true(msr_write(f->cpu, 0x203, 0x80000800));
    assert_int_equal(f->cpu->mtrr_mask[1], 0x80000800);
    assert_true(msr_state_is_valid(f->cpu));
    f->cpu->mtrr_def_type = 7;
    assert_false(msr_state_is_valid(f->cpu));
}

static void test_tsc_adjust(void **state)
{
    struct fixture *f = *state;
    struct clock clock = {.mode = CLOCK_VIRTUAL, .tsc_khz = CLOCK_VIRTUAL_TSC_KHZ};
    uint64_t v;

    f->cpu->clock = &clock;
    assert_true(msr_write(f->cpu, 0x10, 1000));
    assert_int_equal(f->cpu->tsc_offset, f->cpu->tsc_adjust);
    assert_true(msr_read(f->cpu, 0x10, &v));
    assert_int_equal(v, 1000);
    assert_true(msr_write(f->cpu, 0x3b, 0));
    assert_true(msr_read(f->cpu, 0x10, &v));
    assert_int_equal(v, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_dependencies),
        cmocka_unit_test(test_names),
        cmocka_unit_test_setup_teardown(test_every_feature_can_be_removed, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_dynamic_bits, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_topology, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_leaves_out_of_range, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_hypervisor_leaf, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_control_bits_follow_the_model, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_msrs, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_tsc_adjust, fixture_setup, fixture_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
