/* test_stack.c - PUSH, POP, PUSHA, POPA, ENTER and LEAVE by operand size and stack width. */
#include "cpu_fixture.h"

#include "cpu/stack.h"

#define TOP 0x8000u

static uint64_t ram_read(const struct fixture *f, uint32_t at, unsigned size)
{
    uint64_t v = 0;

    memcpy(&v, f->ram + at, size);
    return v;
}

static void ram_write(struct fixture *f, uint32_t at, uint64_t v, unsigned size)
{
    memcpy(f->ram + at, &v, size);
}

static void test_push_pop_rsp(void **state)
{
    struct fixture *f = *state;
    struct insn in = fixture_insn(f, 8);

    in.reg = RSP;
    f->cpu->gpr[RSP] = TOP;
    assert_true(op_push_reg(f->cpu, &in));
    assert_int_equal(f->cpu->gpr[RSP], TOP - 8);
    assert_int_equal(ram_read(f, TOP - 8, 8), TOP);
    ram_write(f, TOP - 8, 0x123456789a, 8);
    assert_true(op_pop_reg(f->cpu, &in));
    assert_int_equal(f->cpu->gpr[RSP], 0x123456789a);
}

static void test_push_imm_sizes(void **state)
{
    struct fixture *f = *state;
    struct insn in = fixture_insn(f, 2);

    in.imm = -2;
    memset(f->ram + TOP - 16, 0, 16);
    f->cpu->gpr[RSP] = TOP;
    assert_true(op_push_imm(f->cpu, &in));
    assert_int_equal(f->cpu->gpr[RSP], TOP - 2);
    assert_int_equal(ram_read(f, TOP - 4, 4), 0xfffe0000);
    in.osize = 8;
    assert_true(op_push_imm(f->cpu, &in));
    assert_int_equal(ram_read(f, TOP - 10, 8), UINT64_C(0xfffffffffffffffe));
}

static void test_16bit_stack_wraps(void **state)
{
    struct fixture *f = *state;
    struct insn in;

    fixture_set_mode(f, 16);
    in = fixture_insn(f, 4);
    f->cpu->gpr[RSP] = 0x55550000;
    f->cpu->gpr[RAX] = 0x11223344;
    assert_true(op_push_reg(f->cpu, &in));
    assert_int_equal(f->cpu->gpr[RSP], 0x5555fffc);
    assert_int_equal(ram_read(f, 0xfffc, 4), 0x11223344);
    f->cpu->gpr[RSP] = 0x55550002; /* the dword would lie across the end of the segment */
    assert_false(op_push_reg(f->cpu, &in));
    assert_exception(f->cpu, EXC_SS);
    assert_int_equal(f->cpu->gpr[RSP], 0x55550002);
}

static void test_pop_mem_address(void **state)
{
    struct fixture *f = *state;
    struct insn in = fixture_mem_insn(f, 8, RSP);

    in.seg = SS;
    in.disp = 8;
    f->cpu->gpr[RSP] = TOP;
    ram_write(f, TOP, 42, 8);
    assert_true(op_pop_rm(f->cpu, &in));
    assert_int_equal(f->cpu->gpr[RSP], TOP + 8);
    assert_int_equal(ram_read(f, TOP + 16, 8), 42); /* RSP after the increment + 8 */
}

static void test_pop_mem_fault(void **state)
{
    struct fixture *f = *state;
    struct insn in;

    fixture_unmap(f, 0x20000);
    in = fixture_mem_insn(f, 4, RDI);
    f->cpu->gpr[RDI] = 0x20000;
    f->cpu->gpr[RSP] = TOP;
    assert_false(op_pop_rm(f->cpu, &in));
    assert_exception(f->cpu, EXC_PF);
    assert_int_equal(f->cpu->gpr[RSP], TOP);
}

static void test_push_mem(void **state)
{
    struct fixture *f = *state;
    struct insn in = fixture_mem_insn(f, 8, RSP);

    in.seg = SS;
    f->cpu->gpr[RSP] = TOP;
    ram_write(f, TOP, 77, 8);
    assert_true(op_push_rm(f->cpu, &in));
    assert_int_equal(ram_read(f, TOP - 8, 8), 77); /* RSP before the decrement */
}

static void test_pusha_popa(void **state)
{
    struct fixture *f = *state;

    fixture_set_mode(f, 32);
    for (unsigned size = 2; size <= 4; size += 2) {
        struct insn in = fixture_insn(f, size);
        uint64_t before[8];

        for (unsigned i = 0; i < 8; i++)
            f->cpu->gpr[i] = 0x11111111u * (i + 1);
        f->cpu->gpr[RSP] = TOP;
        memcpy(before, f->cpu->gpr, sizeof before);
        assert_true(op_pusha(f->cpu, &in));
        assert_int_equal(f->cpu->gpr[RSP], TOP - 8 * size);
        for (unsigned i = 0; i < 8; i++)
            assert_int_equal(ram_read(f, TOP - (i + 1) * size, size),
                             before[i] & (size == 2 ? 0xffff : UINT32_MAX));
        for (unsigned i = 0; i < 8; i++)
            if (i != RSP)
                f->cpu->gpr[i] ^= 0xffff;
        ram_write(f, TOP - 5 * size, 0, size); /* the image of SP is ignored */
        assert_true(op_popa(f->cpu, &in));
        assert_memory_equal(f->cpu->gpr, before, sizeof before);
    }
}

static void test_popa_fault(void **state)
{
    struct fixture *f = *state;
    uint64_t before[GPR_COUNT];
    struct insn in;

    fixture_unmap(f, 0x20000);
    in = fixture_insn(f, 4);
    f->cpu->gpr[RSP] = 0x20000 - 8;
    memset(f->ram + 0x20000 - 8, 0x99, 8);
    memcpy(before, f->cpu->gpr, sizeof before);
    before[RDI] = before[RSI] = 0x99999999; /* popped before the fault, as the processor does */
    assert_false(op_popa(f->cpu, &in));
    assert_exception(f->cpu, EXC_PF);
    assert_memory_equal(f->cpu->gpr, before, sizeof before);
}

static void test_enter_leave(void **state)
{
    struct fixture *f = *state;
    struct insn in = fixture_insn(f, 8);

    in.imm = 0x20;
    f->cpu->gpr[RSP] = TOP;
    f->cpu->gpr[RBP] = 0x9000;
    assert_true(op_enter(f->cpu, &in));
    assert_int_equal(f->cpu->gpr[RBP], TOP - 8);
    assert_int_equal(f->cpu->gpr[RSP], TOP - 8 - 0x20);
    assert_int_equal(ram_read(f, TOP - 8, 8), 0x9000);
    assert_true(op_leave(f->cpu, &in));
    assert_int_equal(f->cpu->gpr[RSP], TOP);
    assert_int_equal(f->cpu->gpr[RBP], 0x9000);
}

static void test_enter_levels(void **state)
{
    struct fixture *f = *state;
    struct insn in;

    fixture_set_mode(f, 32);
    in = fixture_insn(f, 4);
    in.imm = 0x10;
    in.imm2 = 32 + 3; /* modulo 32 */
    ram_write(f, 0x9000 - 4, 0xaaaa, 4);
    ram_write(f, 0x9000 - 8, 0xbbbb, 4);
    f->cpu->gpr[RSP] = TOP;
    f->cpu->gpr[RBP] = 0x9000;
    assert_true(op_enter(f->cpu, &in));
    assert_int_equal(ram_read(f, TOP - 4, 4), 0x9000);
    assert_int_equal(ram_read(f, TOP - 8, 4), 0xaaaa);
    assert_int_equal(ram_read(f, TOP - 12, 4), 0xbbbb);
    assert_int_equal(ram_read(f, TOP - 16, 4), TOP - 4);
    assert_int_equal(f->cpu->gpr[RBP], TOP - 4);
    assert_int_equal(f->cpu->gpr[RSP], TOP - 16 - 0x10);
}

static void test_enter_probes(void **state)
{
    struct fixture *f = *state;
    struct insn in;

    fixture_unmap(f, TOP - 0x1000);
    in = fixture_insn(f, 4);
    in.imm = 0x100;
    f->cpu->gpr[RSP] = TOP + 0x20;
    f->cpu->gpr[RBP] = 0x9000;
    assert_false(op_enter(f->cpu, &in));
    assert_exception(f->cpu, EXC_PF);
    assert_int_equal(f->cpu->exc.error, 2);
    assert_int_equal(f->cpu->gpr[RSP], TOP + 0x20);
    assert_int_equal(f->cpu->gpr[RBP], 0x9000);
}

/* A 16-bit operand in 64-bit mode: RSP counts in full, only BP changes; as a processor does it. */
static void test_enter_16_in_64bit(void **state)
{
    struct fixture *f = *state;
    struct insn in = fixture_insn(f, 2);

    in.imm = 16;
    f->cpu->gpr[RSP] = TOP;
    f->cpu->gpr[RBP] = UINT64_C(0x1234567800001111);
    assert_true(op_enter(f->cpu, &in));
    assert_int_equal(f->cpu->gpr[RSP], TOP - 2 - 16);
    assert_int_equal(f->cpu->gpr[RBP], UINT64_C(0x1234567800000000) | (TOP - 2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_push_pop_rsp, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_push_imm_sizes, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_16bit_stack_wraps, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_pop_mem_address, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_pop_mem_fault, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_push_mem, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_pusha_popa, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_popa_fault, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_enter_leave, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_enter_levels, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_enter_probes, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_enter_16_in_64bit, fixture_setup, fixture_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
