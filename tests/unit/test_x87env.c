/* test_x87env.c - the x87 environment: against the processor, and the formats by mode. */
#include "cpu_fixture.h"

#include "base/state.h"
#include "cpu/x87env.h"

#define AT 0x10000u /* the memory operand, in RDI */
#define FX_USED 160
#define ROUNDS 3000

struct fxarea {
    uint8_t b[512];
} __attribute__((aligned(16)));

static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525 + 1013904223;
    return *seed >> 8;
}

static void put16(uint8_t *p, unsigned v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

/* A value of any class: zero, normal, denormal, infinity or NaN, unsupported. */
static void random_register(uint8_t *st, uint32_t *seed)
{
    static const uint16_t exponents[] = {0, 1, 0x3fff, 0x7ffe, 0x7fff};
    unsigned kind = next_random(seed);

    for (unsigned i = 0; i < 8; i++)
        st[i] = kind & 1 ? 0 : (uint8_t)next_random(seed);
    st[7] = (uint8_t)((st[7] & 0x7f) | (kind & 2 ? 0x80 : 0));
    put16(st + 8, exponents[kind / 4 % 5] | (kind & 0x1000 ? 0x8000 : 0));
}

/* A register state as FXSAVE stores it; `pending` allows exceptions that aren't masked. */
static void random_state(struct fxarea *fx, uint32_t *seed, bool pending)
{
    memset(fx, 0, sizeof *fx);
    put16(fx->b, (next_random(seed) & 0xf3f) | 0x40 | (pending ? 0 : 0x3f));
    put16(fx->b + 2, next_random(seed) & 0x7f7f);
    fx->b[4] = (uint8_t)next_random(seed);
    put16(fx->b + 24, 0x1f80);
    for (unsigned i = 0; i < 8; i++)
        random_register(fx->b + 32 + 16 * i, seed);
}

/* Control, status, tags and registers are the same. */
static void assert_same_state(const struct cpu *cpu, const struct fxarea *fx)
{
    assert_memory_equal(cpu->fx, fx->b, 5);
    assert_memory_equal(cpu->fx + 32, fx->b + 32, FX_USED - 32);
}

enum operation { STENV, LDENV, SAVE, RSTOR };

/* Runs the instruction natively on the state in *fx, which gets the state after it. */
static void run_native(struct fxarea *fx, uint8_t *image, enum operation what, bool size16)
{
    struct fxarea host;

#define NATIVE(insn)                                                                               \
    __asm__ volatile("fxsave64 %2\n\tfxrstor64 %0\n\t" insn " (%3)\n\tfxsave64 %0\n\t"             \
                     "fninit\n\tfxrstor64 %2"                                                      \
                     : "+m"(*fx), "=m"(*(uint8_t(*)[128])image), "+m"(host)                        \
                     : "r"(image)                                                                  \
                     : "memory")
    switch (what) {
    case STENV:
        if (size16)
            NATIVE("data16 fnstenv");
        else
            NATIVE("fnstenv");
        break;
    case LDENV:
        if (size16)
            NATIVE("data16 fldenv");
        else
            NATIVE("fldenv");
        break;
    case SAVE:
        if (size16)
            NATIVE("data16 fnsave");
        else
            NATIVE("fnsave");
        break;
    case RSTOR:
        if (size16)
            NATIVE("data16 frstor");
        else
            NATIVE("frstor");
    }
#undef NATIVE
}

/* Control, status and tag word are the same, and for FNSAVE the registers. */
static void assert_same_image(const uint8_t *a, const uint8_t *b, bool save, bool size16)
{
    unsigned env = size16 ? 14 : 28;

    assert_memory_equal(a, b, size16 ? 6 : 12);
    if (save)
        assert_memory_equal(a + env, b + env, 80);
}

static void check_store(struct fixture *f, helper_fn *op, enum operation what, bool size16,
                        uint32_t *seed)
{
    struct insn in = fixture_mem_insn(f, size16 ? 2 : 4, RDI);
    uint8_t image[128] = {0};
    struct fxarea fx;

    random_state(&fx, seed, true);
    memcpy(f->cpu->fx, fx.b, FX_USED);
    assert_true(op(f->cpu, &in));
    run_native(&fx, image, what, size16);
    assert_same_image(f->ram + AT, image, what == SAVE, size16);
    assert_same_state(f->cpu, &fx);
}

static void check_load(struct fixture *f, helper_fn *op, enum operation what, bool size16,
                       uint32_t *seed)
{
    struct insn in = fixture_mem_insn(f, size16 ? 2 : 4, RDI);
    unsigned env = size16 ? 14 : 28;
    uint8_t image[128];
    struct fxarea fx;

    random_state(&fx, seed, false);
    memcpy(f->cpu->fx, fx.b, FX_USED);
    for (unsigned i = 0; i < env; i++)
        image[i] = (uint8_t)next_random(seed);
    for (unsigned i = 0; i < 8; i++)
        random_register(image + env + 10 * i, seed);
    memcpy(f->ram + AT, image, sizeof image);
    assert_true(op(f->cpu, &in));
    run_native(&fx, image, what, size16);
    assert_same_state(f->cpu, &fx);
}

static void test_against_processor(void **state)
{
    struct fixture *f = *state;
    uint32_t seed = 1;

    f->cpu->gpr[RDI] = AT;
    for (unsigned i = 0; i < ROUNDS; i++) {
        bool size16 = i & 1;

        check_store(f, op_fnstenv, STENV, size16, &seed);
        check_store(f, op_fnsave, SAVE, size16, &seed);
        check_load(f, op_fldenv, LDENV, size16, &seed);
        check_load(f, op_frstor, RSTOR, size16, &seed);
    }
}

static void set_pointers(struct cpu *cpu)
{
    cpu->fx[0] = 0x7f;
    cpu->x87_fip = 0x2345;
    cpu->x87_fcs = 0xf00f;
    cpu->x87_fdp = 0x6789;
    cpu->x87_fds = 0x1001;
    cpu->x87_fop = 0x5ee;
}

static void check_pointers(struct fixture *f, unsigned osize, const void *expected)
{
    struct insn in = fixture_mem_insn(f, osize, RDI);
    unsigned from = osize == 2 ? 6 : 12, len = osize == 2 ? 8 : 16;

    in.asize = 8;
    f->cpu->gpr[RDI] = AT;
    set_pointers(f->cpu);
    assert_true(op_fnstenv(f->cpu, &in));
    assert_memory_equal(f->ram + AT + from, expected, len);
    f->cpu->x87_fip = f->cpu->x87_fdp = f->cpu->x87_fcs = f->cpu->x87_fds = 0;
    assert_true(op_fldenv(f->cpu, &in));
    assert_true(op_fnstenv(f->cpu, &in));
    assert_memory_equal(f->ram + AT + from, expected, len);
}

static void test_protected_formats(void **state)
{
    static const uint16_t image16[] = {0x2345, 0xf00f, 0x6789, 0x1001};
    static const uint32_t image32[] = {0x2345, 0x05eef00f, 0x6789, 0xffff1001};
    struct fixture *f = *state;

    check_pointers(f, 2, image16);
    check_pointers(f, 4, image32);
}

static void test_real_formats(void **state)
{
    /* f00f:2345 is f2435, 1001:6789 is 16799 */
    static const uint16_t image16[] = {0x2435, 0xf5ee, 0x6799, 0x1000};
    static const uint32_t image32[] = {0xffff2435, 0xf << 12 | 0x5ee, 0xffff6799, 1 << 12};
    struct fixture *f = *state;

    fixture_set_mode(f, 32);
    f->cpu->cr0 &= ~(uint64_t)CR0_PE;
    cpu_update_mode(f->cpu);
    check_pointers(f, 2, image16);
    check_pointers(f, 4, image32);
}

static void test_pending_exception(void **state)
{
    struct fixture *f = *state;
    struct insn in = fixture_mem_insn(f, 4, RDI);

    f->cpu->gpr[RDI] = AT;
    put16(f->cpu->fx, 0x37b); /* zero divide isn't masked */
    put16(f->cpu->fx + 2, 0x8084);
    assert_false(op_fldenv(f->cpu, &in));
    assert_exception(f->cpu, EXC_MF);
    f->cpu->exc.pending = false;
    assert_false(op_frstor(f->cpu, &in));
    assert_exception(f->cpu, EXC_MF);
    f->cpu->exc.pending = false;
    put16(f->cpu->fx + 2, 0);
    assert_true(op_fldenv(f->cpu, &in));
}

static void test_fault_changes_nothing(void **state)
{
    struct fixture *f = *state;
    struct insn in;
    uint8_t before[512];

    fixture_unmap(f, AT + PAGE_SIZE);
    in = fixture_mem_insn(f, 4, RDI);
    f->cpu->gpr[RDI] = AT + PAGE_SIZE - 100; /* FNSAVE needs 108 bytes */
    memset(f->ram + AT, 0x77, 2 * PAGE_SIZE);
    put16(f->cpu->fx, 0x340);
    memcpy(before, f->cpu->fx, sizeof before);
    assert_false(op_fnsave(f->cpu, &in));
    assert_exception(f->cpu, EXC_PF);
    assert_int_equal(f->cpu->exc.cr2, AT + PAGE_SIZE);
    assert_int_equal(f->ram[f->cpu->gpr[RDI]], 0x77);
    assert_memory_equal(before, f->cpu->fx, sizeof before);
}

/* FXSAVE gives the address of the instruction whose exception is pending, which is one of ours. */
static void test_saved_state_has_no_address_of_the_host(void **state)
{
    struct state_list *list = state_list_new();
    const uint16_t unmasked = 0x37b; /* division by zero */
    struct fixture *f = *state;
    uint8_t *data = NULL;
    size_t size = 0;
    struct err err;

    __asm__ volatile("fninit\n\tfldcw %0\n\tfld1\n\tfldz\n\tfdivrp" : : "m"(unmasked));
    f->cpu->x87_live = true;
    state_add(list, &cpu_state_desc, 0, f->cpu);
    assert_int_equal(state_save(list, &data, &size, &err), 0);
    assert_int_equal(f->cpu->fx[2] & 0x84, 0x84); /* the exception is there */
    for (unsigned i = 8; i < 24; i++)
        assert_int_equal(f->cpu->fx[i], 0);
    free(data);
    state_list_free(list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_against_processor, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_protected_formats, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_real_formats, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_pending_exception, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_fault_changes_nothing, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_saved_state_has_no_address_of_the_host, fixture_setup,
                                        fixture_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
