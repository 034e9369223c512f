/* Loading segment registers, limits, and the instructions that ask about descriptors (SDM vol. 3,
 * ch. 3 and 5; vol. 2: MOV, LDS, LAR, LSL, VERR, VERW, ARPL, LLDT).
 *
 * A descriptor under test is at SCRATCH, with every type, DPL and presence. */
#include "cpu.h"
#include "families.h"

CODE(load_ds, "", "mov %eax, %ds");
CODE(load_es, "", "mov %eax, %es");
CODE(load_fs, "", "mov %eax, %fs");
CODE(load_ss, "", "mov %eax, %ss");
CODE(read_fs, "", "mov %fs:(" R("dx") "), %al");
CODE(write_fs, "", "mov %al, %fs:(" R("dx") ")");
CODE(read4_fs, "", "mov %fs:(" R("dx") "), %eax");

#define IS_CODE(type) ((type)&8)

static unsigned attributes(unsigned type, unsigned dpl, bool present, bool system)
{
    return type | (system ? 0 : 0x10u) | SEG_DPL(dpl) | (present ? SEG_PRESENT : 0) | SEG_BIG |
           SEG_PAGES;
}

static const struct trap *load(enum context kind, const char *code, unsigned sel)
{
    struct regs r = context(kind, code);

    r.ax = sel;
    return run(&r);
}

/* --- DS, ES, FS, GS --- */

static void expect_data_load(unsigned cpl, unsigned rpl, unsigned dpl, unsigned type, bool present,
                             bool system)
{
    bool readable = !system && (!IS_CODE(type) || (type & 2));
    bool conforming = IS_CODE(type) && (type & 4);
    bool allowed = readable && (conforming || (cpl <= dpl && rpl <= dpl));
    const char *at = (const char *)(cpl ? USER_PTR(load_fs_at) : (word)load_fs_at);

    note("CPL %u RPL %u DPL %u type %x%s%s", cpl, rpl, dpl, type, present ? "" : " absent",
         system ? " system" : "");
    set_descriptor(SCRATCH, descriptor(0, 0xfffff, attributes(type, dpl, present, system)));
    load(cpl ? USER : KERNEL, load_fs, SCRATCH | rpl);
    if (allowed && present)
        EXPECT(trap.vector, END);
    else
        EXPECT_TRAP(allowed ? NP : GP, SCRATCH, at);
    if (!system)
        EXPECT((get_descriptor(SCRATCH) >> 40 & 1), (type & 1) | (allowed && present));
}

static void test_data_segments(void)
{
    for (unsigned i = 0; i < 2 * 4 * 4 * 32 * 2; i++)
        expect_data_load((i & 1) * 3, i >> 1 & 3, i >> 3 & 3, i >> 5 & 15, i >> 9 & 1, i >> 10 & 1);
}

static void test_null_segments(void)
{
    static const char *const codes[] = {load_ds, load_es, load_fs};

    for (unsigned i = 0; i < ARRAY_SIZE(codes); i++)
        for (unsigned rpl = 0; rpl < 4; rpl++) {
            load(USER, codes[i], rpl);
            EXPECT(trap.vector, END);
        }
}

/* --- SS --- */

static void expect_stack_load(unsigned cpl, unsigned rpl, unsigned dpl, unsigned type, bool present,
                              bool system)
{
    bool allowed = !system && !IS_CODE(type) && (type & 2) && rpl == cpl && dpl == cpl;
    const char *at = (const char *)(cpl ? USER_PTR(load_ss_at) : (word)load_ss_at);

    note("CPL %u RPL %u DPL %u type %x%s%s", cpl, rpl, dpl, type, present ? "" : " absent",
         system ? " system" : "");
    if (allowed && (type & 4) && present)
        return; /* an expand-down stack without room */
    set_descriptor(SCRATCH, descriptor(0, 0xfffff, attributes(type, dpl, present, system)));
    load(cpl ? USER : KERNEL, load_ss, SCRATCH | rpl);
    if (allowed && present)
        EXPECT(trap.vector, END);
    else
        EXPECT_TRAP(allowed ? SS : GP, SCRATCH, at);
}

static void test_stack_segments(void)
{
    for (unsigned i = 0; i < 2 * 4 * 4 * 32 * 2; i++)
        expect_stack_load((i & 1) * 3, i >> 1 & 3, i >> 3 & 3, i >> 5 & 15, i >> 9 & 1,
                          i >> 10 & 1);
}

/* Null in SS: only 64-bit mode below CPL 3, and RPL = CPL. */
static void test_null_stack(void)
{
    load(KERNEL, load_ss, 0);
    if (IS64)
        EXPECT_END(load_ss);
    else
        EXPECT_TRAP(GP, 0, load_ss_at);
    load(KERNEL, load_ss, 1);
    EXPECT_TRAP(GP, 0, load_ss_at);
    load(USER, load_ss, 3);
    EXPECT_TRAP(GP, 0, USER_PTR(load_ss_at));
    load(USER, load_ss, 0);
    EXPECT_TRAP(GP, 0, USER_PTR(load_ss_at));
}

/* --- the LDT --- */

static void test_ldt(void)
{
    ldt[2] = descriptor(0, 0xfffff, SEG_DATA | SEG_DPL(3));
    load(USER, load_fs, 0x17);
    EXPECT(trap.vector, END);
    load_ldt(0);
    load(USER, load_fs, 0x17);
    EXPECT_TRAP(GP, 0x14, USER_PTR(load_fs_at));
    set_system_descriptor(LDT, (word)ldt, 0x16, SYS_LDT); /* a byte too short */
    load_ldt(LDT);
    load(USER, load_fs, 0x17);
    EXPECT_TRAP(GP, 0x14, USER_PTR(load_fs_at));
}

CODE(load_ldt_register, "", "lldt %ax");

static void test_lldt(void)
{
    static const struct {
        unsigned sel;
        word vector, error;
    } rows[] = {
        {0, END, 0}, {LDT, END, 0},      {KDS, GP, KDS},         {TSS, GP, TSS},
        {3, END, 0}, {0x3f8, GP, 0x3f8}, {LDT | 4, GP, LDT | 4}, {SCRATCH, NP, SCRATCH},
    };

    set_system_descriptor(SCRATCH, (word)ldt, 0xff, SYS_LDT & ~SEG_PRESENT);
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        note("LLDT %x", rows[i].sel);
        load(KERNEL, load_ldt_register, rows[i].sel);
        EXPECT(trap.vector, rows[i].vector);
        if (rows[i].vector != END)
            EXPECT(trap.error, rows[i].error);
    }
}

/* --- LAR, LSL, VERR, VERW --- */

CODE(lar_, "mov $0x5a5a, %ecx", "lar %eax, %ecx; setz %bl");
CODE(lsl_, "mov $0x5a5a, %ecx", "lsl %eax, %ecx; setz %bl");
CODE(verr_, "", "verr %ax; setz %bl");
CODE(verw_, "", "verw %ax; setz %bl");

static bool ask(unsigned cpl, const char *code, unsigned sel)
{
    load(cpl ? USER : KERNEL, code, sel);
    EXPECT(trap.vector, END);
    return trap.regs.bx & 1;
}

/* Types of system descriptors that LAR and LSL know (SDM vol. 2). */
#if IS64
#define LAR_SYSTEM 0x1a04u /* LDT, TSS free and busy, call gate */
#define LSL_SYSTEM 0x0a04u
#else
#define LAR_SYSTEM 0x1a3eu
#define LSL_SYSTEM 0x0a0eu
#endif

static void expect_answers(unsigned cpl, unsigned rpl, unsigned dpl, unsigned type, bool present,
                           bool system)
{
    uint64_t d = descriptor(0, 0x12345, attributes(type, dpl, present, system));
    bool conforming = !system && IS_CODE(type) && (type & 4);
    bool visible = conforming || (cpl <= dpl && rpl <= dpl);
    bool data = !system && !IS_CODE(type), good;

    note("CPL %u RPL %u DPL %u type %x%s%s", cpl, rpl, dpl, type, present ? "" : " absent",
         system ? " system" : "");
    set_descriptor(SCRATCH, d);
    set_descriptor(SCRATCH + 8, 0);
    good = visible && (!system || (LAR_SYSTEM >> type & 1));
    EXPECT(ask(cpl, lar_, SCRATCH | rpl), good);
    EXPECT(trap.regs.cx & 0xf0ff00, good ? d >> 32 & 0xf0ff00 : 0x5a00);
    good = visible && (!system || (LSL_SYSTEM >> type & 1));
    EXPECT(ask(cpl, lsl_, SCRATCH | rpl), good);
    EXPECT((uint32_t)trap.regs.cx, good ? 0x12345fff : 0x5a5a);
    good = visible && !system && (data || (type & 2));
    EXPECT(ask(cpl, verr_, SCRATCH | rpl), good);
    good = visible && data && (type & 2);
    EXPECT(ask(cpl, verw_, SCRATCH | rpl), good);
    EXPECT(get_descriptor(SCRATCH), d); /* none of them marks it accessed */
}

/* They don't care whether it is present: the instruction only looks. */
static void test_questions(void)
{
    for (unsigned i = 0; i < 2 * 4 * 4 * 32; i++)
        expect_answers((i & 1) * 3, i >> 1 & 3, i >> 3 & 3, i >> 5 & 15, true, i >> 9 & 1);
}

static void test_questions_about_nothing(void)
{
    static const char *const codes[] = {lar_, lsl_, verr_, verw_};
    static const unsigned selectors[] = {0, 3, 0x3f8, 0x3fc, 0x7c};

    for (unsigned i = 0; i < ARRAY_SIZE(codes); i++)
        for (unsigned j = 0; j < ARRAY_SIZE(selectors); j++)
            EXPECT(ask(3, codes[i], selectors[j]), 0);
}

#if !IS64
CODE(arpl_, "", "arpl %cx, %ax; setz %bl");

static void test_arpl(void)
{
    for (unsigned i = 0; i < 16; i++) {
        struct regs r = context(USER, arpl_);

        r.ax = 0x1230 | (i & 3);
        r.cx = 0x4560 | i >> 2;
        run(&r);
        EXPECT(trap.regs.ax & 3, (i & 3) < i >> 2 ? i >> 2 : i & 3);
        EXPECT(trap.regs.ax & 0xfffc, 0x1230);
        EXPECT(trap.regs.bx & 1, (i & 3) < i >> 2);
    }
}

/* --- limits --- */

static void expect_limit(uint32_t limit, unsigned attr, const char *code, const char *at,
                         uint32_t offset, bool good)
{
    struct regs r = context(KERNEL, code);

    note("limit %x attributes %x offset %x", limit, attr, offset);
    set_descriptor(SCRATCH, descriptor((word)scratch - (offset & 0xfffff000), limit, attr));
    r.fs = SCRATCH;
    r.dx = offset;
    run(&r);
    if (good)
        EXPECT(trap.vector, END);
    else
        EXPECT_TRAP(GP, 0, at);
}

static void test_limits(void)
{
    const unsigned big = SEG_DATA | SEG_BIG;

    expect_limit(0xfff, big, read_fs, read_fs_at, 0xfff, true);
    expect_limit(0xfff, big, read_fs, read_fs_at, 0x1000, false);
    expect_limit(0xfff, big, read4_fs, read4_fs_at, 0xffc, true);
    expect_limit(0xfff, big, read4_fs, read4_fs_at, 0xffd, false);
    expect_limit(0xfff, big, write_fs, write_fs_at, 0x1000, false);
    expect_limit(1, big | SEG_PAGES, read_fs, read_fs_at, 0x1fff, true);
    expect_limit(1, big | SEG_PAGES, read_fs, read_fs_at, 0x2000, false);
    expect_limit(0, big, read_fs, read_fs_at, 0, true);
    expect_limit(0, big, read_fs, read_fs_at, 1, false);
    expect_limit(0xfff, big, read4_fs, read4_fs_at, 0xffffffff, false);
}

static void test_expand_down(void)
{
    const unsigned down = SEG_DATA | 4;

    expect_limit(0xfff, down, read_fs, read_fs_at, 0xfff, false);
    expect_limit(0xfff, down, read_fs, read_fs_at, 0x1000, true);
    expect_limit(0xfff, down, read_fs, read_fs_at, 0xffff, true);
    expect_limit(0xfff, down, read_fs, read_fs_at, 0x10000, false);
    expect_limit(0xfff, down, read4_fs, read4_fs_at, 0xfffd, false);
    expect_limit(0xfff, down | SEG_BIG, read_fs, read_fs_at, 0x10000, true);
    expect_limit(0xfff, down | SEG_BIG, read_fs, read_fs_at, 0xfff, false);
    expect_limit(0, down | SEG_BIG | SEG_PAGES, read_fs, read_fs_at, 0xfff, false);
    expect_limit(0, down | SEG_BIG | SEG_PAGES, read_fs, read_fs_at, 0x1000, true);
}

static void test_rights(void)
{
    expect_limit(0xfffff, SEG_DATA & ~2u, read_fs, read_fs_at, 0, true);
    expect_limit(0xfffff, SEG_DATA & ~2u, write_fs, write_fs_at, 0, false);
    expect_limit(0xfffff, SEG_CODE, read_fs, read_fs_at, 0, true);
    expect_limit(0xfffff, SEG_CODE, write_fs, write_fs_at, 0, false);
}

CODE(write_cs, "", "movb %al, %cs:(%edx)");
CODE(read_cs, "", "movb %cs:(%edx), %al");

static void test_code_segment_data(void)
{
    struct regs r = context(KERNEL, write_cs);

    r.dx = (word)scratch;
    run(&r);
    EXPECT_TRAP(GP, 0, write_cs_at);
    set_descriptor(SCRATCH, descriptor(0, 0xfffff, (SEG_CODE & ~2u) | SEG_BIG | SEG_PAGES));
    r = context(KERNEL, read_cs);
    r.cs = SCRATCH;
    r.dx = (word)scratch;
    run(&r);
    EXPECT_TRAP(GP, 0, read_cs_at);
}

/* Execution runs into the limit of the code segment. */
static void test_code_limit(void)
{
    struct regs r = context(KERNEL, NULL);
    const word base = (word)read_fs, size = (word)(read_fs_next - read_fs);

    set_descriptor(SCRATCH, descriptor(base, size - 1, SEG_CODE | SEG_BIG));
    r.cs = SCRATCH;
    r.dx = (word)scratch;
    run(&r);
    EXPECT_TRAP(GP, 0, size);
    set_descriptor(SCRATCH, descriptor(base, size - 2, SEG_CODE | SEG_BIG));
    run(&r);
    EXPECT_TRAP(GP, 0, 0);
}

CODE(load_pointer, "", "les (%edx), %eax");

static void test_les(void)
{
    static struct {
        uint32_t offset;
        uint16_t sel;
    } __attribute__((packed)) pointer;
    struct regs r = context(USER, load_pointer);

    r.dx = (word)&pointer;
    pointer.offset = 0x12345678;
    pointer.sel = KDS;
    run(&r);
    EXPECT_TRAP(GP, KDS, load_pointer_at);
    EXPECT(trap.regs.ax, 0);
    pointer.sel = UDS;
    run(&r);
    EXPECT_END(load_pointer);
    EXPECT(trap.regs.ax, 0x12345678);
}
#else
/* 64-bit mode: bases and limits of DS and ES don't count, the base of FS does. */
static void test_flat(void)
{
    struct regs r = context(KERNEL, read_fs);

    set_descriptor(SCRATCH, descriptor((uint32_t)(word)scratch, 0, SEG_DATA));
    scratch[0x100] = 0x77;
    r.fs = SCRATCH;
    r.dx = 0x100;
    run(&r);
    EXPECT_END(read_fs);
    EXPECT(trap.regs.ax & 0xff, 0x77);
    r.fs = 0;
    r.dx = (word)scratch + 0x100;
    run(&r);
    EXPECT(trap.regs.ax & 0xff, 0x77);
}

/* Compatibility mode checks limits as ever. */
CODE32(compat_read, "", "mov %fs:(%edx), %al");

static void test_compatibility_limits(void)
{
    struct regs r = context(USER32, compat_read);

    set_descriptor(SCRATCH, descriptor((uint32_t)USER_PTR(scratch), 0xff, SEG_DATA | SEG_DPL(3)));
    r.fs = SCRATCH | 3;
    r.dx = 0xff;
    run(&r);
    EXPECT_USER_END(compat_read);
    r.dx = 0x100;
    run(&r);
    EXPECT_TRAP(GP, 0, USER_PTR(compat_read_at));
    r.fs = 0;
    run(&r);
    EXPECT_TRAP(GP, 0, USER_PTR(compat_read_at));
}
#endif

const struct test segments_tests[] = {
    TEST(data_segments),
    TEST(null_segments),
    TEST(stack_segments),
    TEST(null_stack),
    TEST(ldt),
    TEST(lldt),
    TEST(questions),
    TEST(questions_about_nothing),
#if !IS64
    TEST(arpl),
    TEST(limits),
    TEST(expand_down),
    TEST(rights),
    TEST(code_segment_data),
    TEST(code_limit),
    TEST(les),
#else
    TEST(flat),
    TEST(compatibility_limits),
#endif
    {0},
};
