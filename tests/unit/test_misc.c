/* test_misc.c - bit strings, wide compare-and-exchange, BOUND, flags; masked moves and gathers. */
#include "cpu_fixture.h"

#include "cpu/misc.h"
#include "cpu/vecmem.h"
#include "cpu/x87env.h"

#define AT 0x10000u

static void test_bit_index_is_signed(void **state)
{
    struct fixture *f = *state;
    struct insn in = fixture_mem_insn(f, 4, RDI);

    in.reg = RCX;
    memset(f->ram + AT - 16, 0, 32);
    f->cpu->gpr[RDI] = AT;
    f->cpu->gpr[RCX] = (uint32_t)-33; /* bit 31 of the dword at -8 */
    cpu_set_status_flags(f->cpu, FLAG_CF | FLAG_ZF);
    assert_true(op_bts(f->cpu, &in));
    assert_int_equal(f->ram[AT - 5], 0x80);
    assert_int_equal(cpu_status_flags(f->cpu), FLAG_ZF);
    assert_true(op_bt(f->cpu, &in));
    assert_int_equal(cpu_status_flags(f->cpu), FLAG_ZF | FLAG_CF);
    assert_true(op_btc(f->cpu, &in));
    assert_int_equal(f->ram[AT - 5], 0);
    assert_true(op_btc(f->cpu, &in));
    assert_int_equal(f->ram[AT - 5], 0x80);
    assert_true(op_btr(f->cpu, &in));
    assert_int_equal(f->ram[AT - 5], 0);
    assert_int_equal(cpu_status_flags(f->cpu), FLAG_ZF | FLAG_CF);
}

/* An operand that crosses pages has no host pointer. */
static void test_bits_across_pages(void **state)
{
    struct fixture *f = *state;
    struct insn in = fixture_mem_insn(f, 8, RDI);

    in.reg = RCX;
    memset(f->ram + AT, 0, 2 * PAGE_SIZE);
    f->cpu->gpr[RDI] = AT + PAGE_SIZE - 4;
    f->cpu->gpr[RCX] = 35;
    assert_true(op_btc(f->cpu, &in));
    assert_int_equal(f->ram[AT + PAGE_SIZE], 8);
    assert_int_equal(cpu_status_flags(f->cpu) & FLAG_CF, 0);
    assert_true(op_btc(f->cpu, &in));
    assert_int_equal(f->ram[AT + PAGE_SIZE], 0);
    assert_int_equal(cpu_status_flags(f->cpu) & FLAG_CF, FLAG_CF);
}

static void check_cmpxchg(struct fixture *f, helper_fn *op, unsigned half, uint64_t at)
{
    struct insn in = fixture_mem_insn(f, half, RDI);
    uint64_t mask = half == 4 ? UINT32_MAX : UINT64_MAX, low = 0, high = 0;

    f->cpu->gpr[RDI] = at;
    memset(f->ram + at, 0x11, 2 * half);
    f->cpu->gpr[RAX] = f->cpu->gpr[RDX] = 0x1111111111111111;
    f->cpu->gpr[RBX] = 0x2222222222222222;
    f->cpu->gpr[RCX] = 0x3333333333333333;
    cpu_set_status_flags(f->cpu, FLAG_CF);
    assert_true(op(f->cpu, &in));
    assert_int_equal(cpu_status_flags(f->cpu), FLAG_CF | FLAG_ZF);
    memcpy(&low, f->ram + at, half);
    memcpy(&high, f->ram + at + half, half);
    assert_int_equal(low, 0x2222222222222222 & mask);
    assert_int_equal(high, 0x3333333333333333 & mask);
    assert_int_equal(f->cpu->gpr[RAX], 0x1111111111111111);
    assert_true(op(f->cpu, &in));
    assert_int_equal(cpu_status_flags(f->cpu), FLAG_CF);
    assert_int_equal(f->cpu->gpr[RAX], low);
    assert_int_equal(f->cpu->gpr[RDX], high);
}

static void test_cmpxchg_wide(void **state)
{
    struct fixture *f = *state;
    struct insn in = fixture_mem_insn(f, 8, RDI);

    check_cmpxchg(f, op_cmpxchg8b, 4, AT);
    check_cmpxchg(f, op_cmpxchg8b, 4, AT + 3);
    check_cmpxchg(f, op_cmpxchg8b, 4, AT + PAGE_SIZE - 2);
    check_cmpxchg(f, op_cmpxchg16b, 8, AT);
    f->cpu->gpr[RDI] = AT + 8;
    assert_false(op_cmpxchg16b(f->cpu, &in));
    assert_exception(f->cpu, EXC_GP);
}

static void test_bound(void **state)
{
    struct fixture *f = *state;
    int16_t bounds[2] = {-3, 7};
    struct insn in;

    fixture_set_mode(f, 32);
    in = fixture_mem_insn(f, 2, RDI);
    in.reg = RCX;
    memcpy(f->ram + AT, bounds, sizeof bounds);
    f->cpu->gpr[RDI] = AT;
    f->cpu->gpr[RCX] = 0x1234fffd;
    assert_true(op_bound(f->cpu, &in));
    f->cpu->gpr[RCX] = 7;
    assert_true(op_bound(f->cpu, &in));
    f->cpu->gpr[RCX] = 8;
    assert_false(op_bound(f->cpu, &in));
    assert_exception(f->cpu, EXC_BR);
}

static void test_lahf_sahf(void **state)
{
    struct fixture *f = *state;
    struct insn in = fixture_insn(f, 1);

    cpu_set_status_flags(f->cpu, FLAG_OF | FLAG_SF | FLAG_CF);
    assert_true(op_lahf(f->cpu, &in));
    assert_int_equal(f->cpu->gpr[RAX], 0x8300);
    f->cpu->gpr[RAX] = 0xff7f;
    assert_true(op_sahf(f->cpu, &in));
    assert_int_equal(cpu_status_flags(f->cpu), FLAGS_STATUS);
    assert_true(op_cmc(f->cpu, &in));
    assert_int_equal(cpu_status_flags(f->cpu), FLAGS_STATUS & ~FLAG_CF);
    assert_int_equal(f->cpu->status & 0x2afe, 0x0200); /* the constant bits of AH */
}

static void test_xlat_wraps(void **state)
{
    struct fixture *f = *state;
    struct insn in;

    fixture_set_mode(f, 16);
    in = fixture_insn(f, 1);
    f->ram[0x0010] = 0x77;
    f->cpu->gpr[RBX] = 0x5555fff0;
    f->cpu->gpr[RAX] = 0x1220;
    assert_true(op_xlat(f->cpu, &in));
    assert_int_equal(f->cpu->gpr[RAX], 0x1277);
}

static void test_wait(void **state)
{
    struct fixture *f = *state;
    struct insn in = fixture_insn(f, 0);

    assert_true(op_wait(f->cpu, &in));
    f->cpu->fx[0] = 0x40;
    f->cpu->fx[2] = 0x01;
    assert_false(op_wait(f->cpu, &in));
    assert_exception(f->cpu, EXC_MF);
    f->cpu->cr0 |= CR0_MP | CR0_TS;
    cpu_update_mode(f->cpu);
    assert_false(op_wait(f->cpu, &in));
    assert_exception(f->cpu, EXC_NM);
}

/* --- vectors --- */

static void test_maskmovq_leaves_mmx_state(void **state)
{
    struct fixture *f = *state;
    struct insn in = fixture_insn(f, 4);
    uint8_t data[8] = {1, 2, 3, 4, 5, 6, 7, 8}, mask[8] = {0x80, 0, 0xff, 0, 0, 0, 0, 0x80};

    in.reg = 3;
    in.rm = 5;
    f->cpu->fx[0] = 0x7f;
    f->cpu->fx[3] = 6 << 3; /* TOP */
    memcpy(x87_mmx(f->cpu, 3), data, 8);
    memcpy(x87_mmx(f->cpu, 5), mask, 8);
    memset(f->ram + AT, 0xee, 8);
    f->cpu->gpr[RDI] = AT;
    assert_true(op_maskmovq(f->cpu, &in));
    assert_memory_equal(f->ram + AT, "\x01\xee\x03\xee\xee\xee\xee\x08", 8);
    assert_int_equal(f->cpu->fx[3], 0);
    assert_int_equal(f->cpu->fx[4], 0xff);
    assert_memory_equal(f->cpu->fx + 32 + 3 * 16, data, 8);
}

/* Masked-out elements lie in a page that isn't there. */
static void test_vmaskmov_faults(void **state)
{
    struct fixture *f = *state;
    union vec *reg = &f->cpu->ymm[1], *mask = &f->cpu->ymm[2];
    struct insn in;

    fixture_unmap(f, AT + PAGE_SIZE);
    in = fixture_mem_insn(f, 0, RDI);
    in.opcode = 0x2c;
    in.reg = 1;
    in.vvvv = 2;
    in.flags |= INSN_VEX_L;
    f->cpu->gpr[RDI] = AT + PAGE_SIZE - 12;
    for (unsigned i = 0; i < 12; i++)
        f->ram[AT + PAGE_SIZE - 12 + i] = (uint8_t)(i + 1);
    memset(reg, 0x55, sizeof *reg);
    memset(mask, 0, sizeof *mask);
    mask->d[0] = mask->d[2] = 0x80000000;
    assert_true(op_vmaskmov(f->cpu, &in));
    assert_int_equal(reg->d[0], 0x04030201);
    assert_int_equal(reg->d[1], 0);
    assert_int_equal(reg->d[2], 0x0c0b0a09);
    assert_int_equal(reg->d[7], 0);
    in.opcode = 0x2e;
    mask->d[3] = 0x80000000;
    reg->d[0] = 0;
    assert_false(op_vmaskmov(f->cpu, &in));
    assert_exception(f->cpu, EXC_PF);
    assert_int_equal(f->ram[AT + PAGE_SIZE - 12], 1); /* nothing was stored */
}

static struct insn gather_insn(const struct fixture *f, uint8_t opcode, unsigned flags)
{
    struct insn in = fixture_mem_insn(f, 0, RDI);

    in.opcode = opcode;
    in.flags |= (uint16_t)flags;
    in.reg = 1;
    in.index = 2;
    in.vvvv = 3;
    return in;
}

static void test_gather_stops_at_fault(void **state)
{
    struct fixture *f = *state;
    union vec *dst = &f->cpu->ymm[1], *index = &f->cpu->ymm[2], *mask = &f->cpu->ymm[3];
    struct insn in;

    fixture_unmap(f, AT + PAGE_SIZE);
    in = gather_insn(f, 0x90, 0);
    in.scale = 2;
    f->cpu->gpr[RDI] = AT + 16;
    memset(dst, 0x55, sizeof *dst);
    memset(mask, 0xff, sizeof *mask);
    mask->d[1] = 0x7fffffff;
    index->d[0] = (uint32_t)-4;
    index->d[2] = 1024;
    index->d[3] = 0;
    memcpy(f->ram + AT, "abcd", 4);
    assert_false(op_gather(f->cpu, &in));
    assert_exception(f->cpu, EXC_PF);
    assert_memory_equal(dst->b, "abcdUUUUUUUUUUUUUUUU", 20);
    assert_int_equal(mask->d[0], 0);
    assert_int_equal(mask->d[1], 0);
    assert_int_equal(mask->d[2], UINT32_MAX);
    assert_int_equal(mask->d[4], UINT32_MAX);
    f->cpu->exc.pending = false;
    index->d[2] = 0;
    assert_true(op_gather(f->cpu, &in)); /* goes on with the rest */
    assert_memory_equal(dst->b, "abcdUUUU", 8);
    assert_int_equal(dst->d[4], 0);
    assert_int_equal(mask->q[0] | mask->q[1] | mask->q[2] | mask->q[3], 0);
}

static void test_gather_shapes(void **state)
{
    static const struct {
        uint8_t opcode;
        unsigned flags, count, size;
    } shapes[] = {
        {0x90, 0, 4, 4},          {0x90, INSN_VEX_L, 8, 4},
        {0x92, INSN_REX_W, 2, 8}, {0x92, INSN_REX_W | INSN_VEX_L, 4, 8},
        {0x91, 0, 2, 4},          {0x91, INSN_VEX_L, 4, 4},
        {0x93, INSN_REX_W, 2, 8}, {0x93, INSN_REX_W | INSN_VEX_L, 4, 8},
    };
    struct fixture *f = *state;

    memset(f->ram + AT, 0x77, 64);
    f->cpu->gpr[RDI] = AT;
    for (unsigned i = 0; i < ARRAY_SIZE(shapes); i++) {
        struct insn in = gather_insn(f, shapes[i].opcode, shapes[i].flags);

        memset(&f->cpu->ymm[1], 0x11, 32);
        memset(&f->cpu->ymm[2], 0, 32);
        memset(&f->cpu->ymm[3], 0xff, 32);
        assert_true(op_gather(f->cpu, &in));
        for (unsigned b = 0; b < 32; b++)
            assert_int_equal(f->cpu->ymm[1].b[b], b < shapes[i].count * shapes[i].size ? 0x77 : 0);
    }
}

static void test_gather_needs_three_registers(void **state)
{
    struct fixture *f = *state;
    struct insn in = gather_insn(f, 0x90, 0);

    in.vvvv = in.reg;
    assert_false(op_gather(f->cpu, &in));
    assert_exception(f->cpu, EXC_UD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_bit_index_is_signed, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_bits_across_pages, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_cmpxchg_wide, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_bound, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_lahf_sahf, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_xlat_wraps, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_wait, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_maskmovq_leaves_mmx_state, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_vmaskmov_faults, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_gather_stops_at_fault, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_gather_shapes, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_gather_needs_three_registers, fixture_setup,
                                        fixture_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
