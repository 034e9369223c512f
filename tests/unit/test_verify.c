/* The proof of translations finds what a translator must not emit: bytes planted in place of a
 * translation are refused, and what the translator makes of a guest's code is accepted. */
#include "cpu_fixture.h"

#include "engine/engine.h"
#include "engine/translate/builder.h"
#include "engine/translate/verify.h"

static int setup(void **state)
{
    struct err err;
    struct fixture *f;

    fixture_setup(state);
    f = *state;
    return engine_translate.init(f->cpu, &err);
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    engine_translate.free(f->cpu);
    return fixture_teardown(state);
}

struct planted {
    struct fixture *f;
    struct translator *t;
    struct tblock *block;
    struct assembler a;
};

static struct planted begin(void **state)
{
    struct planted p = {.f = *state};

    p.t = translator_of(p.f->cpu);
    p.block = translate_begin_block(p.t);
    assert_non_null(p.block);
    p.a = (struct assembler){p.t->next, p.t->executable - p.t->writable};
    return p;
}

/* Ends the planted block, and tells whether it is accepted. */
static bool accepted(struct planted *p)
{
    struct verifier *v = verifier_new();
    bool ok;

    assert_non_null(v);
    asm_jump_to(&p->a, p->t->stub_exit);
    ok = verifier_accepts(v, p->f->cpu, p->a.p);
    assert_int_equal(ok, verifier_complaint(v)[0] == 0);
    verifier_free(v);
    translate_drop_block(p->t, p->block);
    return ok;
}

static void refuses(void **state, const char *bytes, unsigned n)
{
    struct planted p = begin(state);

    asm_bytes(&p.a, bytes, n);
    if (accepted(&p))
        fail_msg("accepted: %02x %02x %02x...", bytes[0] & 255, bytes[1] & 255, bytes[2] & 255);
}

static void test_computing_is_accepted(void **state)
{
    struct planted p = begin(state);

    asm_bytes(&p.a, "\x01\xd8\xc5\xf4\x58\xc2", 6); /* add eax, ebx; vaddps ymm0, ymm1, ymm2 */
    asm_load(&p.a, RCX, gpr_at(R9));
    asm_store(&p.a, RCX, gpr_at(R10));
    assert_true(accepted(&p));
}

static void test_system_instructions(void **state)
{
    static const struct {
        const char *bytes;
        unsigned n;
    } bad[] = {
        {"\x0f\x05", 2},             /* syscall */
        {"\x0f\x34", 2},             /* sysenter */
        {"\xcd\x80", 2},             /* int 80h */
        {"\xcc", 1},                 /* int3 */
        {"\x0f\xa2", 2},             /* cpuid */
        {"\x0f\x31", 2},             /* rdtsc */
        {"\x0f\x01\xf9", 3},         /* rdtscp */
        {"\x0f\x01\xd0", 3},         /* xgetbv */
        {"\x0f\x01\xef", 3},         /* wrpkru */
        {"\x0f\x01\xee", 3},         /* rdpkru */
        {"\xf3\x48\x0f\xae\xd8", 5}, /* wrgsbase rax */
        {"\xf3\x48\x0f\xae\xc0", 5}, /* rdfsbase rax */
        {"\xf3\x0f\xc7\xf8", 4},     /* rdpid */
        {"\x8e\xd8", 2},             /* mov ds, eax */
        {"\x8c\xd8", 2},             /* mov eax, ds */
        {"\x0f\x02\xc3", 3},         /* lar eax, ebx */
        {"\x0f\x01\xe0", 3},         /* smsw eax */
        {"\x0f\x00\xc8", 3},         /* str eax */
        {"\x9d", 1},                 /* popfq */
        {"\x9c\x59", 2},             /* pushfq; pop rcx: the guest's stack */
        {"\xcf", 1},                 /* iret */
        {"\xcb", 1},                 /* retf */
        {"\xc3", 1},                 /* ret */
        {"\xff\xe0", 2},             /* jmp rax */
        {"\xff\xd0", 2},             /* call rax */
        {"\xf4", 1},                 /* hlt */
        {"\xe4\x60", 2},             /* in al, 60h */
        {"\x0f\x20\xc0", 3},         /* mov rax, cr0 */
        {"\xfc", 1},                 /* cld */
        {"\xfa", 1},                 /* cli */
        {"\x0f\x01\xcb", 3},         /* stac */
        {"\x0f\x01\xd6", 3},         /* xtest */
        {"\xc7\xf8\0\0\0\0", 6},     /* xbegin */
        {"\xd9\xe8", 2},             /* fld1 */
    };

    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
        refuses(state, bad[i].bytes, bad[i].n);
}

static void test_unchecked_accesses(void **state)
{
    refuses(state, "\x48\x89\x03", 3);                         /* mov [rbx], rax */
    refuses(state, "\x48\x8b\x44\x24\x08", 5);                 /* mov rax, [rsp + 8] */
    refuses(state, "\x50", 1);                                 /* push rax */
    refuses(state, "\x58", 1);                                 /* pop rax */
    refuses(state, "\x64\x8b\x04\x25\0\0\0\0", 8);             /* mov eax, fs:[0] */
    refuses(state, "\x65\x8b\x03", 3);                         /* mov eax, gs:[rbx] */
    refuses(state, "\x65\x48\x89\x04\x25\xff\xff\xff\x7f", 9); /* beyond struct cpu */
    refuses(state, "\x48\x89\x05\0\0\0\0", 7);                 /* mov [rip], rax */
    refuses(state, "\xf3\xa4", 2);                             /* rep movsb */
    refuses(state, "\xc5\xf9\xf7\xc1", 4);                     /* vmaskmovdqu */
}

/* A check of 8 bytes at R14, and an access of `size` at R14 + R15 + disp. */
static bool checked_access(void **state, bool writable, const char *access, unsigned n, bool change)
{
    struct planted p = begin(state);
    uint8_t *miss = emit_tlb_check(&p.a, 8, writable);

    if (change)
        asm_bytes(&p.a, "\x49\xff\xc6", 3); /* inc r14 */
    asm_bytes(&p.a, access, n);
    asm_jump_to(&p.a, p.t->stub_exit);
    asm_patch(miss, p.a.p);
    return accepted(&p);
}

static void test_checks_cover_their_bytes(void **state)
{
    const char *store = "\x4b\x89\x04\x3e", *load = "\x4b\x8b\x04\x3e",
               *far = "\x4b\x8b\x44\x3e\x01";

    assert_true(checked_access(state, true, store, 4, false));
    assert_true(checked_access(state, false, load, 4, false));
    assert_false(checked_access(state, false, store, 4, false));             /* may be read only */
    assert_false(checked_access(state, true, load, 4, true));                /* another address */
    assert_false(checked_access(state, true, far, 5, false));                /* a byte too far */
    assert_false(checked_access(state, true, "\x4a\x8b\x04\x3b", 4, false)); /* rbx + r15 */
    assert_false(checked_access(state, true, "\x4b\x0f\xab\x04\x3e", 5, false)); /* bts, rax bits */
}

static void test_stores_to_the_vcpu(void **state)
{
    static const size_t fields[] = {offsetof(struct cpu, cr3), offsetof(struct cpu, cpl),
                                    NATIVE(stack_addend), NATIVE(monitor_rsp), NATIVE(poll)};

    for (unsigned i = 0; i < ARRAY_SIZE(fields); i++) {
        struct planted p = begin(state);

        asm_store(&p.a, RAX, fields[i]);
        assert_false(accepted(&p));
    }
}

static void test_jumps_stay(void **state)
{
    struct planted p = begin(state);

    asm_jump_to(&p.a, p.t->stub_exit + 1);
    assert_false(accepted(&p));
    p = begin(state);
    asm_bytes(&p.a, "\x74\x01\xb8\0\0\0\0", 7); /* jz into an instruction */
    assert_false(accepted(&p));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_computing_is_accepted, setup, teardown),
        cmocka_unit_test_setup_teardown(test_system_instructions, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unchecked_accesses, setup, teardown),
        cmocka_unit_test_setup_teardown(test_checks_cover_their_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stores_to_the_vcpu, setup, teardown),
        cmocka_unit_test_setup_teardown(test_jumps_stay, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
