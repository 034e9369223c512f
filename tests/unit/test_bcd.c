/* test_bcd.c - decimal instructions against the processor, in a 32-bit code segment of the LDT. */
#include "cpu_fixture.h"

#include "cpu/bcd.h"

#include <asm/ldt.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A page in the low 4 GiB: 64-bit code at 0 that calls 32-bit code at CODE32, stack from its end.
 * Of the 64-bit registers only RBX and RDI live across the call, both in their low halves. */
#define CODE32 0x100
#define CODE32_INSN (CODE32 + 2)
#define FAR_POINTER 0x200
#define OPERANDS 0x210 /* EAX, EFLAGS: before and after */

static uint8_t *make_native_page(void)
{
    struct user_desc desc = {
        .limit = 0xfffff, .seg_32bit = 1, .contents = 2, .limit_in_pages = 1, .useable = 1};
    static const uint8_t caller[] = {
        0x53,             /* push %rbx */
        0x48, 0x89, 0x22, /* mov %rsp,(%rdx) */
        0x48, 0x89, 0xf4, /* mov %rsi,%rsp */
        0x89, 0xd3,       /* mov %edx,%ebx */
        0x8b, 0x07,       /* mov (%rdi),%eax */
        0x8b, 0x4f, 0x04, /* mov 4(%rdi),%ecx */
        0xff, 0x5a, 0x08, /* lcall *8(%rdx) */
        0x89, 0x07,       /* mov %eax,(%rdi) */
        0x89, 0x4f, 0x04, /* mov %ecx,4(%rdi) */
        0x48, 0x8b, 0x23, /* mov (%rbx),%rsp */
        0x5b,             /* pop %rbx */
        0xc3,             /* ret */
    };
    uint8_t *page = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    uint32_t code32;
    uint16_t selector = 0 << 3 | 7;

    if (page == MAP_FAILED || syscall(SYS_modify_ldt, 1, &desc, sizeof desc))
        return NULL;
    code32 = (uint32_t)(uintptr_t)page + CODE32;
    memcpy(page, caller, sizeof caller);
    memcpy(page + FAR_POINTER + 8, &code32, 4);
    memcpy(page + FAR_POINTER + 12, &selector, 2);
    return page;
}

/* push %ecx; popf; the instruction; pushf; pop %ecx; lret */
static void set_instruction(uint8_t *page, const uint8_t *bytes, unsigned len)
{
    memcpy(page + CODE32, "\x51\x9d", 2);
    memcpy(page + CODE32_INSN, bytes, len);
    memcpy(page + CODE32_INSN + len, "\x9c\x59\xcb", 3);
}

static void run_native(uint8_t *page, uint32_t *ax, uint32_t *flags)
{
    typedef void native_fn(void *operands, void *stack, void *save);
    uint32_t *operands = (uint32_t *)(page + OPERANDS);

    operands[0] = *ax;
    operands[1] = *flags | 2;
    ((native_fn *)page)(operands, page + PAGE_SIZE, page + FAR_POINTER);
    *ax = operands[0];
    *flags = operands[1] & FLAGS_STATUS;
}

/* Six bits spread over the status flags. */
static uint32_t flags_of(unsigned bits)
{
    static const uint32_t flag[] = {FLAG_CF, FLAG_PF, FLAG_AF, FLAG_ZF, FLAG_SF, FLAG_OF};
    uint32_t flags = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(flag); i++)
        if (bits >> i & 1)
            flags |= flag[i];
    return flags;
}

static void check(struct fixture *f, uint8_t *page, helper_fn *op, uint8_t imm, uint32_t ax,
                  uint32_t flags)
{
    struct insn in = fixture_insn(f, 1);
    uint32_t native_ax = ax, native_flags = flags;

    in.imm = imm;
    f->cpu->gpr[RAX] = ax;
    cpu_set_status_flags(f->cpu, flags);
    assert_true(op(f->cpu, &in));
    run_native(page, &native_ax, &native_flags);
    if (f->cpu->gpr[RAX] != native_ax || cpu_status_flags(f->cpu) != native_flags)
        fail_msg("%02x %02x of ax=%04x flags=%03x gives %04x %03x, not %04x %03x",
                 page[CODE32_INSN], imm, ax, flags, (unsigned)f->cpu->gpr[RAX],
                 cpu_status_flags(f->cpu), native_ax, native_flags);
}

static void test_against_processor(void **state)
{
    static const struct {
        helper_fn *op;
        uint8_t bytes[2], len;
    } cases[] = {
        {op_daa, {0x27}, 1},    {op_das, {0x2f}, 1},      {op_aaa, {0x37}, 1},
        {op_aas, {0x3f}, 1},    {op_salc, {0xd6}, 1},     {op_aam, {0xd4, 10}, 2},
        {op_aam, {0xd4, 7}, 2}, {op_aam, {0xd4, 255}, 2}, {op_aad, {0xd5, 10}, 2},
        {op_aad, {0xd5, 0}, 2}, {op_aad, {0xd5, 255}, 2},
    };
    struct fixture *f = *state;
    uint8_t *page = make_native_page();

    if (!page) {
        print_message("SKIP: this system allows no LDT segments\n");
        skip();
    }
    fixture_set_mode(f, 32);
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        set_instruction(page, cases[i].bytes, cases[i].len);
        for (unsigned n = 0; n < 0x10000; n++) /* every AX, each with two sets of flags */
            for (unsigned k = 0; k < 2; k++)
                check(f, page, cases[i].op, cases[i].bytes[1], n,
                      flags_of((n * 11 >> 3 ^ n ^ n >> 8 ^ k * 45) & 63));
    }
    munmap(page, PAGE_SIZE);
}

static void test_documented_results(void **state)
{
    struct fixture *f = *state;
    struct insn in = fixture_insn(f, 1);

    f->cpu->gpr[RAX] = 0xae; /* SDM, DAA: AL = 79 + 35 */
    cpu_set_status_flags(f->cpu, 0);
    assert_true(op_daa(f->cpu, &in));
    assert_int_equal(f->cpu->gpr[RAX], 0x14);
    assert_true(cpu_status_flags(f->cpu) & FLAG_CF);
    f->cpu->gpr[RAX] = 0x12345678abcd0000 | 99;
    in.imm = 10;
    assert_true(op_aam(f->cpu, &in));
    assert_int_equal(f->cpu->gpr[RAX], 0x12345678abcd0909);
    assert_true(op_aad(f->cpu, &in));
    assert_int_equal(f->cpu->gpr[RAX], 0x12345678abcd0000 | 99);
}

static void test_aam_by_zero(void **state)
{
    struct fixture *f = *state;
    struct insn in = fixture_insn(f, 1);

    assert_false(op_aam(f->cpu, &in));
    assert_exception(f->cpu, EXC_DE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_against_processor, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_documented_results, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_aam_by_zero, fixture_setup, fixture_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
