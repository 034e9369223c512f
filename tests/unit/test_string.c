/* test_string.c - string instructions: bulk against steps, repetition, faults, counting. */
#include "cpu_fixture.h"

#include "cpu/string.h"

/* Executes to the end, as an engine does; returns the number of calls. */
static unsigned run_all(struct fixture *f, helper_fn *op, const struct insn *in)
{
    unsigned calls = 0;

    do {
        f->cpu->rip = FIXTURE_RIP + in->len;
        assert_true(op(f->cpu, in));
        f->cpu->icount++;
        calls++;
        assert_true(calls < 100000);
    } while (f->cpu->rip == FIXTURE_RIP);
    assert_int_equal(f->cpu->rip, FIXTURE_RIP + in->len);
    return calls;
}

static struct insn rep(const struct fixture *f, unsigned osize, unsigned prefix)
{
    struct insn in = fixture_insn(f, osize);

    in.flags = (uint16_t)prefix;
    return in;
}

static void set_operands(struct cpu *cpu, uint64_t src, uint64_t dst, uint64_t count)
{
    cpu->gpr[RSI] = src;
    cpu->gpr[RDI] = dst;
    cpu->gpr[RCX] = count;
}

static void fill_random(struct fixture *f, unsigned seed)
{
    for (unsigned i = 0x10000; i < 0x20000; i++) {
        seed = seed * 1103515245 + 12345;
        f->ram[i] = (uint8_t)(seed >> 16);
    }
}

static void test_movs_like_byte_order(void **state)
{
    static const int distances[] = {1, 2, 3, 4, 7, 8, 9, 63, 5000, -1, -3, -8, -5000, 0};
    struct fixture *f = *state;
    uint8_t *expected = malloc(FIXTURE_RAM);

    assert_non_null(expected);
    for (unsigned size = 1; size <= 8; size *= 2) {
        for (unsigned i = 0; i < ARRAY_SIZE(distances); i++) {
            struct insn in = rep(f, size, INSN_REP);
            uint64_t src = 0x16ff9, dst = src + (uint64_t)(int64_t)distances[i], count = 1500;

            fill_random(f, i);
            memcpy(expected, f->ram, FIXTURE_RAM);
            for (unsigned n = 0; n < count; n++) {
                uint8_t element[8];

                memcpy(element, expected + src + n * size, size);
                memcpy(expected + dst + n * size, element, size);
            }
            set_operands(f->cpu, src, dst, count);
            f->cpu->icount = 0;
            run_all(f, op_movs, &in);
            assert_memory_equal(expected, f->ram, FIXTURE_RAM);
            assert_int_equal(f->cpu->gpr[RSI], src + count * size);
            assert_int_equal(f->cpu->gpr[RDI], dst + count * size);
            assert_int_equal(f->cpu->gpr[RCX], 0);
            assert_int_equal(f->cpu->icount, count);
        }
    }
    free(expected);
}

static void test_movs_downwards(void **state)
{
    struct fixture *f = *state;
    struct insn in = rep(f, 4, INSN_REP);

    f->cpu->rflags |= FLAG_DF;
    for (unsigned i = 0; i < 64; i++)
        f->ram[0x10000 + i] = (uint8_t)i;
    set_operands(f->cpu, 0x10000 + 60, 0x10000 + 80, 16);
    run_all(f, op_movs, &in);
    for (unsigned i = 0; i < 64; i++)
        assert_int_equal(f->ram[0x10014 + i], i);
    assert_int_equal(f->cpu->gpr[RSI], 0x10000 - 4);
}

static void test_16bit_addresses_wrap(void **state)
{
    struct fixture *f = *state;
    struct insn in;

    fixture_set_mode(f, 16);
    in = rep(f, 1, INSN_REP);
    memset(f->ram, 0, 0x20000);
    f->cpu->gpr[RAX] = 0x5a;
    set_operands(f->cpu, 0, 0xabcdfffe, 0x77770005);
    run_all(f, op_stos, &in);
    assert_int_equal(f->ram[0xfffe], 0x5a);
    assert_int_equal(f->ram[0xffff], 0x5a);
    assert_int_equal(f->ram[2], 0x5a);
    assert_int_equal(f->ram[3], 0);
    assert_int_equal(f->ram[0x10000], 0);
    assert_int_equal(f->cpu->gpr[RDI], 0xabcd0003);
    assert_int_equal(f->cpu->gpr[RCX], 0x77770000);
}

static void test_count_of_zero(void **state)
{
    struct fixture *f = *state;
    struct insn in = rep(f, 8, INSN_REP);

    set_operands(f->cpu, UINT64_C(1) << 50, UINT64_C(1) << 50, 0); /* not canonical */
    f->cpu->icount = 0;
    assert_int_equal(run_all(f, op_movs, &in), 1);
    assert_int_equal(f->cpu->icount, 1);
}

static void test_stos_values(void **state)
{
    static const uint64_t values[] = {0, UINT64_MAX, 0x4242424242424242, 0x0102030405060708};
    struct fixture *f = *state;

    for (unsigned size = 1; size <= 8; size *= 2) {
        for (unsigned i = 0; i < ARRAY_SIZE(values); i++) {
            struct insn in = rep(f, size, INSN_REP);

            memset(f->ram + 0x10000, 0x99, 0x10000);
            f->cpu->gpr[RAX] = values[i];
            set_operands(f->cpu, 0, 0x10003, 1000);
            run_all(f, op_stos, &in);
            for (unsigned n = 0; n < 1000; n++)
                assert_memory_equal(f->ram + 0x10003 + n * size, &values[i], size);
            assert_int_equal(f->ram[0x10002], 0x99);
            assert_int_equal(f->ram[0x10003 + 1000 * size], 0x99);
        }
    }
}

static void test_lods_keeps_upper_part(void **state)
{
    struct fixture *f = *state;
    struct insn in = fixture_insn(f, 2);

    memcpy(f->ram + 0x10000, "\x34\x12", 2);
    f->cpu->gpr[RAX] = UINT64_MAX;
    set_operands(f->cpu, 0x10000, 0, 0);
    run_all(f, op_lods, &in);
    assert_int_equal(f->cpu->gpr[RAX], 0xffffffffffff1234);
    assert_int_equal(f->cpu->gpr[RSI], 0x10002);
}

static void test_repe_cmps(void **state)
{
    struct fixture *f = *state;

    for (unsigned size = 1; size <= 8; size *= 2) {
        for (unsigned at = 0; at < 1200; at += 37) {
            struct insn in = rep(f, size, INSN_REP);

            memset(f->ram + 0x10000, 5, 0x10000);
            f->ram[0x10ffd + at * size] = 6; /* 6 - 5 in the lowest byte */
            set_operands(f->cpu, 0x10ffd, 0x18001, 1300);
            run_all(f, op_cmps, &in);
            assert_int_equal(f->cpu->gpr[RCX], 1300 - at - 1);
            assert_int_equal(f->cpu->gpr[RSI], 0x10ffd + (at + 1) * size);
            assert_int_equal(f->cpu->gpr[RDI], 0x18001 + (at + 1) * size);
            assert_int_equal(cpu_status_flags(f->cpu), 0);
        }
    }
}

static void test_repne_scas(void **state)
{
    struct fixture *f = *state;

    for (unsigned size = 1; size <= 8; size *= 2) {
        for (unsigned at = 0; at < 1200; at += 41) {
            struct insn in = rep(f, size, INSN_REPNE);

            memset(f->ram + 0x10000, 0x55, 0x10000);
            memset(f->ram + 0x10ffd + at * size, 0, size);
            f->cpu->gpr[RAX] = 0;
            set_operands(f->cpu, 0, 0x10ffd, 1300);
            run_all(f, op_scas, &in);
            assert_int_equal(f->cpu->gpr[RCX], 1300 - at - 1);
            assert_int_equal(cpu_status_flags(f->cpu), FLAG_ZF | FLAG_PF);
        }
    }
}

static void test_scas_to_the_end(void **state)
{
    struct fixture *f = *state;
    struct insn in = rep(f, 1, INSN_REPNE);

    memset(f->ram + 0x10000, 0x81, 0x10000);
    f->cpu->gpr[RAX] = 0x7f;
    set_operands(f->cpu, 0, 0x10000, 5000);
    run_all(f, op_scas, &in);
    assert_int_equal(f->cpu->gpr[RCX], 0);
    /* 7f - 81 = fe: borrow, overflow, negative */
    assert_int_equal(cpu_status_flags(f->cpu), FLAG_CF | FLAG_SF | FLAG_OF);
}

static void test_page_fault_keeps_progress(void **state)
{
    struct fixture *f = *state;
    struct insn in;

    fixture_unmap(f, 0x13000);
    in = rep(f, 4, INSN_REP);
    fill_random(f, 1);
    set_operands(f->cpu, 0x18000, 0x13000 - 10, 100);
    f->cpu->icount = 0;
    assert_false(op_movs(f->cpu, &in));
    assert_exception(f->cpu, EXC_PF);
    assert_int_equal(f->cpu->exc.cr2, 0x13000);
    assert_int_equal(f->cpu->exc.error, 2);
    assert_int_equal(f->cpu->gpr[RCX], 98);
    assert_int_equal(f->cpu->gpr[RSI], 0x18008);
    assert_int_equal(f->cpu->gpr[RDI], 0x13000 - 2);
    assert_int_equal(f->cpu->icount, 2);
    assert_memory_equal(f->ram + 0x13000 - 10, f->ram + 0x18000, 8);
}

static void test_source_faults_first(void **state)
{
    struct fixture *f = *state;
    struct insn in;

    fixture_unmap(f, 0x13000);
    in = rep(f, 4, INSN_REP);
    f->cpu->seg[ES].limit = 0xfff;
    set_operands(f->cpu, 0x13004, 0x1000, 100);
    assert_false(op_movs(f->cpu, &in));
    assert_exception(f->cpu, EXC_PF);
    assert_int_equal(f->cpu->gpr[RCX], 100);
}

static void test_segment_limit(void **state)
{
    struct fixture *f = *state;
    struct insn in;

    fixture_set_mode(f, 32);
    f->cpu->seg[ES].limit = 0x10005;
    cpu_update_mode(f->cpu);
    in = rep(f, 2, INSN_REP);
    f->cpu->gpr[RAX] = 0x1122;
    set_operands(f->cpu, 0, 0xfff1, 50);
    assert_false(op_stos(f->cpu, &in));
    assert_exception(f->cpu, EXC_GP);
    assert_int_equal(f->cpu->gpr[RDI], 0x10005); /* the byte at 10006 is outside */
    assert_int_equal(f->cpu->gpr[RCX], 40);
}

static void test_single_step(void **state)
{
    struct fixture *f = *state;
    struct insn in = rep(f, 1, INSN_REP);

    f->cpu->rflags |= FLAG_TF;
    set_operands(f->cpu, 0x10000, 0x11000, 10);
    assert_int_equal(run_all(f, op_movs, &in), 10);
}

static void test_virtual_time_limit(void **state)
{
    struct fixture *f = *state;
    struct insn in = rep(f, 1, INSN_REP);

    f->cpu->icount = 1000;
    f->cpu->icount_limit = 1007;
    set_operands(f->cpu, 0x10000, 0x11000, 100);
    f->cpu->rip = FIXTURE_RIP + in.len;
    assert_true(op_movs(f->cpu, &in));
    assert_int_equal(f->cpu->gpr[RCX], 93);
    assert_int_equal(f->cpu->icount, 1006); /* the call itself is the seventh */
    assert_int_equal(f->cpu->rip, FIXTURE_RIP);
}

static void test_calls_are_short(void **state)
{
    struct fixture *f = *state;
    struct insn in = rep(f, 8, INSN_REP);

    set_operands(f->cpu, 0x20000, 0x80000, 0x60000 / 8);
    assert_int_equal(run_all(f, op_movs, &in), 0x60);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_movs_like_byte_order, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_movs_downwards, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_16bit_addresses_wrap, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_count_of_zero, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_stos_values, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_lods_keeps_upper_part, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_repe_cmps, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_repne_scas, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_scas_to_the_end, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_page_fault_keeps_progress, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_source_faults_first, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_segment_limit, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_single_step, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_virtual_time_limit, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_calls_are_short, fixture_setup, fixture_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
