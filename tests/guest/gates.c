/* Gates, and far transfers between privilege levels (SDM vol. 3, 5.8 and 6.12; vol. 2: CALL, JMP,
 * RET, INT, IRET). Task switches are in tasks.c. */
#include "cpu.h"
#include "families.h"

CODE(int_55, "", "int $0x55");
CODE(undefined_insn, "", "ud2");
CODE(target, "", "nop");
CODE(show_ss, "", "mov %ss, %eax");
CODE(call_far, "", "lcall *(" R("dx") ")");
CODE(jump_far, "", "ljmp *(" R("dx") ")");
#if IS64
CODE(return_far, "", "lretq");
CODE(return_far_8, "", "lretq $8");
#else
CODE(return_far, "", "lret");
CODE(return_far_8, "", "lret $8");
#endif

static struct {
    uint32_t offset;
    uint16_t sel;
} __attribute__((packed)) pointer;

/* Runs a far CALL or JMP to sel:offset. */
static void transfer(enum context kind, const char *code, unsigned sel, word offset)
{
    struct regs r = context(kind, code);

    pointer.sel = (uint16_t)sel;
    pointer.offset = (uint32_t)offset;
    r.dx = kind == USER ? USER_PTR(&pointer) : (word)&pointer;
    run(&r);
}

/* --- interrupt and trap gates --- */

/* `sp`: where the frame must end; the trap that reports it is one of the handler itself. */
static void expect_inside(unsigned cs, unsigned ss, word sp, const char *code)
{
    EXPECT(trap.vector, END);
    EXPECT(trap.regs.cs, cs);
    EXPECT(trap.regs.ss, ss);
    EXPECT(trap.regs.sp, sp);
    EXPECT(trap.regs.ip & 0x3fffffff, (word)(code)&0x3fffffff);
}

/* The five items of a frame with a stack switch. */
static void expect_pushed(word at, word ip, unsigned cs, word flags, word sp, unsigned ss)
{
    const volatile word *item = (const volatile word *)at;

    EXPECT(item[0], ip);
    EXPECT(item[1] & 0xffff, cs);
    EXPECT(item[2] & ~(word)(RF | 0x8d5), flags);
    EXPECT(item[3], sp);
    EXPECT(item[4] & 0xffff, ss);
}

static void test_interrupt_to_kernel(void)
{
    struct regs r = context(USER, int_55);

    set_gate(0x55, KCS, target, SYS_INT32 | SEG_DPL(3), 0);
    run(&r);
    expect_inside(KCS, IS64 ? 0 : KDS, (word)trap_stack - 5 * sizeof(word), target_next + 2);
    expect_pushed(trap.regs.sp, USER_PTR(int_55_next), UCS, FLAGS_FIXED, r.sp, UDS);
}

static void test_interrupt_to_level_1(void)
{
    struct regs r = context(USER, int_55);

    set_gate(0x55, CS1, target, SYS_TRAP32 | SEG_DPL(3), 0);
    r.flags |= IF;
    run(&r);
    expect_inside(CS1, IS64 ? 1 : DS1, (word)inner1_stack - 5 * sizeof(word), target_next + 2);
    expect_pushed(trap.regs.sp, USER_PTR(int_55_next), UCS, FLAGS_FIXED | IF, r.sp, UDS);
    EXPECT(trap.regs.flags & IF, IF);
}

static void test_interrupt_same_level(void)
{
    struct regs r = context(KERNEL, int_55);
    const volatile word *item;

    set_gate(0x55, KCS, target, SYS_INT32, 0);
    run(&r);
    expect_inside(KCS, KDS, r.sp - (IS64 ? 5 : 3) * sizeof(word), target_next + 2);
    item = (const volatile word *)trap.regs.sp;
    EXPECT(item[0], (word)int_55_next);
    EXPECT(item[1] & 0xffff, KCS);
    EXPECT(item[2], FLAGS_FIXED);
}

/* Conforming code runs with the privilege of who is interrupted. */
static void test_interrupt_conforming(void)
{
    struct regs r = context(USER, int_55);

    set_gate(0x55, CONFORMING, (const void *)USER_PTR(target), SYS_INT32 | SEG_DPL(3), 0);
    run(&r);
    expect_inside(CONFORMING | 3, UDS,
                  IS64 ? (r.sp & ~(word)15) - 5 * sizeof(word) : r.sp - 3 * sizeof(word),
                  target_next + 2);
}

/* A gate never leads to less privilege. */
static void test_interrupt_outward(void)
{
    set_gate(0x55, UCS & ~3, target, SYS_INT32, 0);
    run_in(KERNEL, int_55);
    EXPECT_TRAP(GP, UCS & ~3, int_55_at);
    set_gate(UD, UCS & ~3, target, SYS_INT32, 0);
    run_in(KERNEL, undefined_insn);
    EXPECT_TRAP(GP, (UCS & ~3) | ERR_EXT, undefined_insn_at);
    set_gate(0x55, KDS, target, SYS_INT32, 0);
    run_in(KERNEL, int_55);
    EXPECT_TRAP(GP, KDS, int_55_at);
}

static void test_interrupt_absent_code(void)
{
    set_descriptor(SCRATCH, get_descriptor(KCS) & ~((uint64_t)SEG_PRESENT << 40));
    set_gate(0x55, SCRATCH, target, SYS_INT32, 0);
    run_in(KERNEL, int_55);
    EXPECT_TRAP(NP, SCRATCH, int_55_at);
    set_gate(UD, SCRATCH, target, SYS_INT32, 0);
    run_in(USER, undefined_insn);
    EXPECT_TRAP(NP, SCRATCH | ERR_EXT, USER_PTR(undefined_insn_at));
}

#if IS64
static void test_ist(void)
{
    set_gate(0x55, KCS, target, SYS_INT32 | SEG_DPL(3), 2);
    run_in(KERNEL, int_55);
    expect_inside(KCS, KDS, (word)ist2_stack - 40, target_next + 2);
    run_in(USER, int_55);
    expect_inside(KCS, 0, (word)ist2_stack - 40, target_next + 2);
    task.tss.ist[1] = (word)ist2_stack - 8; /* aligned to 16 before the frame */
    run_in(USER, int_55);
    expect_inside(KCS, 0, (word)ist2_stack - 16 - 40, target_next + 2);
}

/* Long mode has no gates to 32-bit code, no 16-bit gates and no task gates. */
static void test_long_mode_gates(void)
{
    static const unsigned types[] = {SYS_INT16, SYS_TRAP16, SYS_TASK_GATE, SYS_CALL32, SYS_TSS32};

    set_gate(0x55, KCS32, target, SYS_INT32, 0);
    run_in(KERNEL, int_55);
    EXPECT_TRAP(GP, KCS32, int_55_at);
    for (unsigned i = 0; i < ARRAY_SIZE(types); i++) {
        note("type %x", types[i]);
        set_gate(0x55, KCS, target, types[i], 0);
        run_in(KERNEL, int_55);
        EXPECT_TRAP(GP, ERR_VECTOR(0x55), int_55_at);
    }
}

/* From compatibility mode everything is the same. */
CODE32(int_55_compat, "", "int $0x55");

static void test_interrupt_from_compatibility(void)
{
    struct regs r = context(USER32, int_55_compat);

    set_gate(0x55, KCS, target, SYS_INT32 | SEG_DPL(3), 0);
    run(&r);
    expect_inside(KCS, 0, (word)trap_stack - 40, target_next + 2);
    expect_pushed(trap.regs.sp, USER_PTR(int_55_compat_next), UCS32, FLAGS_FIXED, r.sp, UDS);
}

static void test_bad_inner_stack(void)
{
    set_gate(0x55, KCS, target, SYS_INT32 | SEG_DPL(3), 0);
    task.tss.rsp[0] = 1ul << 63;
    run_in(USER, int_55);
    EXPECT_TRAP(SS, 0, USER_PTR(int_55_at));
    set_gate(UD, KCS, target, SYS_INT32, 0);
    run_in(USER, undefined_insn);
    EXPECT(trap.vector, SS);
}

static void test_non_canonical_handler(void)
{
    set_gate(0x55, KCS, (const void *)(1ul << 63), SYS_INT32, 0);
    run_in(KERNEL, int_55);
    EXPECT_TRAP(GP, 0, int_55_at);
}

#else
/* 16-bit gates push 16-bit items; the handler lies in the first 64 KiB. */
CODE_LOW(low_target, "32", "", "nop");

static void test_gate16(void)
{
    struct regs r = context(USER, int_55);
    const volatile uint16_t *item;

    set_gate(0x55, KCS, low_target, SYS_INT16 | SEG_DPL(3), 0);
    r.flags |= IF;
    run(&r);
    expect_inside(KCS, KDS, (word)trap_stack - 10, low_target_next + 2);
    EXPECT(trap.regs.flags & IF, 0);
    item = (const volatile uint16_t *)trap.regs.sp;
    EXPECT(item[0], (word)int_55_next & 0xffff);
    EXPECT(item[1], UCS);
    EXPECT(item[2] & 0xff02, FLAGS_FIXED | IF);
    EXPECT(item[3], r.sp & 0xffff);
    EXPECT(item[4], UDS);
    set_gate(0x55, KCS, low_target, SYS_TRAP16, 0);
    r = context(KERNEL, int_55);
    r.flags |= IF;
    run(&r);
    expect_inside(KCS, KDS, r.sp - 6, low_target_next + 2);
    EXPECT(trap.regs.flags & IF, IF);
}

/* An exception's error code through a 16-bit gate has 16 bits, too. */
CODE(load_bad, "mov $0xa8, %eax", "mov %eax, %ds");

static void test_gate16_error_code(void)
{
    struct regs r = context(KERNEL, load_bad);
    const volatile uint16_t *item;

    set_gate(GP, KCS, low_target, SYS_INT16, 0);
    run(&r);
    expect_inside(KCS, KDS, r.sp - 8, low_target_next + 2);
    item = (const volatile uint16_t *)trap.regs.sp;
    EXPECT(item[0], 0xa8);
    EXPECT(item[1], (word)load_bad_at & 0xffff);
}

/* The stack of the inner level, from the TSS: #TS, but #SS if it is absent. */
static void test_bad_inner_stack(void)
{
    static const struct {
        uint16_t ss;
        unsigned attr; /* of SCRATCH */
        word vector, error;
    } rows[] = {
        {0, 0, TS, 0},
        {SCRATCH, SEG_DATA | SEG_DPL(3), TS, SCRATCH},
        {SCRATCH | 3, SEG_DATA, TS, SCRATCH},
        {SCRATCH, SEG_CODE, TS, SCRATCH},
        {SCRATCH, SEG_DATA & ~2u, TS, SCRATCH},
        {SCRATCH, SEG_DATA & ~SEG_PRESENT, SS, SCRATCH},
        {0x3f8, 0, TS, 0x3f8},
    };

    /* The broken stack is that of level 1; #TS and #SS themselves go to level 0. */
    set_gate(0x55, CS1, target, SYS_INT32 | SEG_DPL(3), 0);
    set_gate(UD, CS1, target, SYS_INT32, 0);
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        uint16_t ss = rows[i].ss;
        unsigned attr = rows[i].attr;

        note("row %u", i);
        if (attr & SEG_DPL(3))
            attr |= SEG_DPL(3);
        else if (ss != (SCRATCH | 3) && attr)
            attr |= SEG_DPL(1), ss |= ss ? 1 : 0;
        set_descriptor(SCRATCH, descriptor(0, 0xfffff, attr | SEG_BIG | SEG_PAGES));
        task.tss.ss1 = ss;
        run_in(USER, int_55);
        EXPECT_TRAP(rows[i].vector, rows[i].error, int_55_at);
        run_in(USER, undefined_insn);
        EXPECT_TRAP(rows[i].vector, rows[i].error | ERR_EXT, undefined_insn_at);
    }
}

static void test_short_task(void)
{
    set_gate(0x55, CS1, target, SYS_INT32 | SEG_DPL(3), 0);
    set_descriptor(TSS, descriptor((word)&task, 0x10, SYS_TSS32)); /* ESP0, SS0 fit, ESP1 doesn't */
    load_tr(TSS);
    run_in(USER, int_55);
    EXPECT_TRAP(TS, TSS, int_55_at);
}
#endif

/* --- call gates --- */

static void test_call_gate_inner(void)
{
    word top = (word)trap_stack;

    set_call_gate(SCRATCH, KCS, target, SYS_CALL32 | SEG_DPL(3), 0);
    transfer(USER, call_far, SCRATCH | 3, 0x12345678);
    expect_inside(KCS, IS64 ? 0 : KDS, top - 4 * sizeof(word), target_next + 2);
    EXPECT(((volatile word *)top)[-4], USER_PTR(call_far_next));
    EXPECT(((volatile word *)top)[-3] & 0xffff, UCS);
    EXPECT(((volatile word *)top)[-2], USER_PTR(user_stack));
    EXPECT(((volatile word *)top)[-1] & 0xffff, UDS);
}

static void test_call_gate_same_level(void)
{
    word top = (word)kernel_stack;

    set_call_gate(SCRATCH, KCS, target, SYS_CALL32, 0);
    transfer(KERNEL, call_far, SCRATCH, 0);
    expect_inside(KCS, KDS, top - 2 * sizeof(word), target_next + 2);
    EXPECT(((volatile word *)top)[-2], (word)call_far_next);
    EXPECT(((volatile word *)top)[-1] & 0xffff, KCS);
    transfer(KERNEL, jump_far, SCRATCH, 0);
    expect_inside(KCS, KDS, top, target_next + 2);
}

static void test_call_gate_checks(void)
{
    set_call_gate(SCRATCH, KCS, target, SYS_CALL32 | SEG_DPL(2), 0);
    transfer(USER, call_far, SCRATCH, 0);
    EXPECT_TRAP(GP, SCRATCH, USER_PTR(call_far_at));
    set_call_gate(SCRATCH, KCS, target, SYS_CALL32, 0);
    transfer(KERNEL, call_far, SCRATCH | 1, 0); /* RPL > DPL of the gate */
    EXPECT_TRAP(GP, SCRATCH, call_far_at);
    set_call_gate(SCRATCH, KCS, target, (SYS_CALL32 & ~SEG_PRESENT) | SEG_DPL(3), 0);
    transfer(USER, call_far, SCRATCH | 3, 0);
    EXPECT_TRAP(NP, SCRATCH, USER_PTR(call_far_at));
    set_call_gate(SCRATCH, KCS, target, SYS_CALL32 | SEG_DPL(3), 0);
    transfer(USER, jump_far, SCRATCH | 3, 0); /* only CALL goes inward */
    EXPECT_TRAP(GP, KCS, USER_PTR(jump_far_at));
    set_call_gate(SCRATCH, 0, target, SYS_CALL32 | SEG_DPL(3), 0);
    transfer(USER, call_far, SCRATCH | 3, 0);
    EXPECT_TRAP(GP, 0, USER_PTR(call_far_at));
    set_call_gate(SCRATCH, KDS, target, SYS_CALL32 | SEG_DPL(3), 0);
    transfer(USER, call_far, SCRATCH | 3, 0);
    EXPECT_TRAP(GP, KDS, USER_PTR(call_far_at));
    set_call_gate(SCRATCH, UCS & ~3, target, SYS_CALL32, 0);
    transfer(KERNEL, call_far, SCRATCH, 0); /* outward */
    EXPECT_TRAP(GP, UCS & ~3, call_far_at);
}

static void test_call_gate_absent_code(void)
{
    set_descriptor(SCRATCH + 16, get_descriptor(KCS) & ~((uint64_t)SEG_PRESENT << 40));
    set_call_gate(SCRATCH, SCRATCH + 16, target, SYS_CALL32 | SEG_DPL(3), 0);
    transfer(USER, call_far, SCRATCH | 3, 0);
    EXPECT_TRAP(NP, SCRATCH + 16, USER_PTR(call_far_at));
}

static void test_call_gate_conforming(void)
{
    word top = USER_PTR(user_stack);

    set_call_gate(SCRATCH, CONFORMING, (const void *)USER_PTR(target), SYS_CALL32 | SEG_DPL(3), 0);
    transfer(USER, call_far, SCRATCH | 3, 0);
    expect_inside(CONFORMING | 3, UDS, top - 2 * sizeof(word), target_next + 2);
    transfer(USER, jump_far, SCRATCH | 3, 0);
    expect_inside(CONFORMING | 3, UDS, top, target_next + 2);
}

#if IS64
static void test_call_gate_long_mode(void)
{
    set_call_gate(SCRATCH, KCS32, target, SYS_CALL32 | SEG_DPL(3), 0);
    transfer(USER, call_far, SCRATCH | 3, 0);
    EXPECT_TRAP(GP, KCS32, USER_PTR(call_far_at));
    set_call_gate(SCRATCH, KCS, target, SYS_CALL32 | SEG_DPL(3), 0);
    set_descriptor(SCRATCH + 8, get_descriptor(SCRATCH + 8) | 1ull << 40); /* a type there */
    transfer(USER, call_far, SCRATCH | 3, 0);
    EXPECT_TRAP(GP, SCRATCH, USER_PTR(call_far_at));
    set_call_gate(SCRATCH, KCS, (const void *)(1ul << 63), SYS_CALL32 | SEG_DPL(3), 0);
    transfer(USER, call_far, SCRATCH | 3, 0);
    EXPECT_TRAP(GP, 0, USER_PTR(call_far_at));
    set_call_gate(SCRATCH, KCS, target, SYS_CALL16 | SEG_DPL(3), 0);
    transfer(USER, call_far, SCRATCH | 3, 0);
    EXPECT_TRAP(GP, SCRATCH, USER_PTR(call_far_at));
    transfer(KERNEL, call_far, TSS, 0);
    EXPECT_TRAP(GP, TSS, call_far_at);
}
#else
CODE(call_with_parameters, "push $0x11; push $0x22; push $0x33", "lcall *(%edx)");

static void test_call_gate_parameters(void)
{
    word top = (word)trap_stack;
    const volatile word *item = (const volatile word *)(top - 7 * 4);

    set_call_gate(SCRATCH, KCS, target, SYS_CALL32 | SEG_DPL(3), 3);
    transfer(USER, call_with_parameters, SCRATCH | 3, 0);
    expect_inside(KCS, KDS, (word)item, target_next + 2);
    EXPECT(item[0], (word)call_with_parameters_next);
    EXPECT(item[1] & 0xffff, UCS);
    EXPECT(item[2], 0x33);
    EXPECT(item[3], 0x22);
    EXPECT(item[4], 0x11);
    EXPECT(item[5], (word)user_stack - 12);
    EXPECT(item[6] & 0xffff, UDS);
}

static void test_call_gate16(void)
{
    word top = (word)trap_stack;
    const volatile uint16_t *item = (const volatile uint16_t *)(top - 6 * 2);

    set_call_gate(SCRATCH, KCS, low_target, SYS_CALL16 | SEG_DPL(3), 2);
    transfer(USER, call_with_parameters, SCRATCH | 3, 0);
    expect_inside(KCS, KDS, (word)item, low_target_next + 2);
    EXPECT(item[0], (word)call_with_parameters_next & 0xffff);
    EXPECT(item[1], UCS);
    EXPECT(item[2], 0x33);
    EXPECT(item[3], 0);
    EXPECT(item[4], ((word)user_stack - 12) & 0xffff);
    EXPECT(item[5], UDS);
}

static void test_call_gate_bad_stack(void)
{
    set_call_gate(SCRATCH, CS1, target, SYS_CALL32 | SEG_DPL(3), 0);
    task.tss.ss1 = 0;
    transfer(USER, call_far, SCRATCH | 3, 0);
    EXPECT_TRAP(TS, 0, call_far_at);
    task.tss.ss1 = KDS;
    transfer(USER, call_far, SCRATCH | 3, 0);
    EXPECT_TRAP(TS, KDS, call_far_at);
}
#endif

/* --- direct far transfers --- */

static void test_far_direct(void)
{
    transfer(USER, jump_far, UCS, USER_PTR(target));
    expect_inside(UCS, UDS, USER_PTR(user_stack), target_next + 2);
    transfer(USER, jump_far, KCS, 0);
    EXPECT_TRAP(GP, KCS, USER_PTR(jump_far_at));
    transfer(USER, call_far, 0, 0);
    EXPECT_TRAP(GP, 0, USER_PTR(call_far_at));
    transfer(USER, jump_far, UDS, 0);
    EXPECT_TRAP(GP, UDS & ~3, USER_PTR(jump_far_at));
    transfer(KERNEL, jump_far, UCS & ~3, 0);
    EXPECT_TRAP(GP, UCS & ~3, jump_far_at);
    transfer(KERNEL, jump_far, KCS | 3, 0); /* RPL > CPL */
    EXPECT_TRAP(GP, KCS, jump_far_at);
    transfer(USER, jump_far, CONFORMING, USER_PTR(target));
    expect_inside(CONFORMING | 3, UDS, USER_PTR(user_stack), target_next + 2);
    transfer(USER, jump_far, UCS & ~3, USER_PTR(target)); /* a smaller RPL doesn't matter */
    expect_inside(UCS, UDS, USER_PTR(user_stack), target_next + 2);
}

/* --- RETF --- */

static void fill_stack(struct regs *r, word ip, word cs, word sp, word ss)
{
    word *stack = (word *)r->sp - 8;

    stack[0] = ip;
    stack[1] = cs;
    stack[2] = sp;
    stack[3] = ss;
    r->sp = (word)stack;
}

static void test_retf_outer(void)
{
    struct regs r = context(KERNEL, return_far);

    fill_stack(&r, USER_PTR(target), UCS, USER_PTR(user_stack), UDS);
    r.es = UDS;
    run(&r);
    expect_inside(UCS, UDS, USER_PTR(user_stack), target_next + 2);
    EXPECT(trap.regs.ds, 0); /* too privileged to keep */
    EXPECT(trap.regs.fs, 0);
    EXPECT(trap.regs.es, UDS);
}

static void test_retf_drop(void)
{
    struct regs r = context(KERNEL, return_far_8);
    word *stack;

    fill_stack(&r, USER_PTR(target), UCS, 0, 0);
    stack = (word *)r.sp; /* the parameters lie between CS and SP on the inner stack */
    stack[2 + 8 / sizeof(word)] = USER_PTR(user_stack) - 64;
    stack[3 + 8 / sizeof(word)] = UDS;
    run(&r);
    expect_inside(UCS, UDS, USER_PTR(user_stack) - 64 + 8, target_next + 2);
}

static void expect_retf(word cs, word ss, word vector, word error)
{
    struct regs r = context(KERNEL, return_far);

    note("CS %lx SS %lx", cs, ss);
    fill_stack(&r, USER_PTR(target), cs, USER_PTR(user_stack), ss);
    run(&r);
    EXPECT_TRAP(vector, error, return_far_at);
    EXPECT(trap.regs.sp, r.sp);
}

static void test_retf_checks(void)
{
    struct regs r = context(USER, return_far);

    expect_retf(0, UDS, GP, 0);
    expect_retf(0x3f8, UDS, GP, 0x3f8);
    expect_retf(KDS, UDS, GP, KDS);
    expect_retf(KCS | 3, UDS, GP, KCS); /* DPL of nonconforming code must be the RPL */
    expect_retf(UCS, KDS, GP, KDS);
    expect_retf(UCS, UDS & ~3, GP, UDS & ~3);
    expect_retf(UCS, 0, GP, 0);
    expect_retf(UCS, 3, GP, 0);
    expect_retf(UCS, UCS, GP, UCS & ~3);
    set_descriptor(SCRATCH, get_descriptor(UCS) & ~((uint64_t)SEG_PRESENT << 40));
    expect_retf(SCRATCH | 3, UDS, NP, SCRATCH);
    fill_stack(&r, (word)target, KCS, 0, 0);
    run(&r);
    EXPECT_TRAP(GP, KCS, USER_PTR(return_far_at)); /* inward */
}

/* The manual contradicts itself: its operation says #SS, its list of exceptions #NP. The APM says
 * #SS (vol. 3, IRET and RET). */
static void test_retf_absent_stack(void)
{
    set_descriptor(SCRATCH, get_descriptor(UDS) & ~((uint64_t)SEG_PRESENT << 40));
    expect_retf(UCS, SCRATCH | 3, SS, SCRATCH);
}

/* --- IRET: enter() is one --- */

static void expect_iret(word cs, word ss, word vector, word error)
{
    struct regs r = context(USER, target);

    note("CS %lx SS %lx", cs, ss);
    r.cs = cs;
    r.ss = ss;
    run(&r);
    EXPECT_TRAP(vector, error, enter_iret);
}

static void test_iret_checks(void)
{
    expect_iret(0x3f8 | 3, UDS, GP, 0x3f8);
    expect_iret(UDS, UDS, GP, UDS & ~3);
    expect_iret(KCS | 3, UDS, GP, KCS);
    expect_iret(UCS, KDS, GP, KDS);
    expect_iret(UCS, 0, GP, 0);
    expect_iret(UCS, UCS, GP, UCS & ~3);
    set_descriptor(SCRATCH, get_descriptor(UCS) & ~((uint64_t)SEG_PRESENT << 40));
    expect_iret(SCRATCH | 3, UDS, NP, SCRATCH);
}

static void test_iret_absent_stack(void)
{
    set_descriptor(SCRATCH, get_descriptor(UDS) & ~((uint64_t)SEG_PRESENT << 40));
    expect_iret(UCS, SCRATCH | 3, SS, SCRATCH);
}

static void test_iret_drops_segments(void)
{
    struct regs r = context(USER, target);

    r.ds = r.gs = KDS;
    r.es = CONFORMING;
    run(&r);
    EXPECT(trap.vector, END);
    EXPECT(trap.regs.ds, 0);
    EXPECT(trap.regs.gs, 0);
    EXPECT(trap.regs.es, CONFORMING);
    EXPECT(trap.regs.fs, UDS);
    r = context(USER, target);
    r.ds = r.es = 3; /* null, whatever the RPL: the pseudocode is silent, processors load 0 */
    run(&r);
    EXPECT(trap.vector, END);
    EXPECT(trap.regs.ds, 0);
    EXPECT(trap.regs.es, 0);
}

#if IS64
CODE(iretq_, "", "iretq");

/* Long mode: NT gives #GP, VM counts for nothing, a null SS is good below CPL 3. */
static void test_iret_long_mode(void)
{
    struct regs r = context(KERNEL, target);

    r.ss = 0;
    run(&r);
    expect_inside(KCS, 0, r.sp, target_next + 2);
    r = context(KERNEL, target);
    r.cs = CS1;
    r.ss = 1;
    run(&r);
    expect_inside(CS1, 1, r.sp, target_next + 2);
    r = context(USER, target);
    r.ip = 1ul << 63;
    run(&r);
    EXPECT_TRAP(GP, 0, enter_iret);
    r = context(KERNEL, iretq_);
    r.flags |= NT;
    run(&r);
    EXPECT_TRAP(GP, 0, iretq__at);
}

/* Outer code gets its own IF and IOPL only from CPL 0; here from CPL 3 to CPL 3. */
static void test_iret_flags(void)
{
    struct regs r = context(USER, iretq_);
    word *stack = (word *)(r.sp - 40);

    stack = (word *)((word)stack - USER_ALIAS);
    stack[0] = USER_PTR(target);
    stack[1] = UCS;
    stack[2] = FLAGS_FIXED | IF | IOPL | VIF | VIP | ACF | IDF | NT | DIRF;
    stack[3] = r.sp;
    stack[4] = UDS;
    r.sp -= 40;
    run(&r);
    EXPECT(trap.vector, END);
    EXPECT(trap.regs.flags, FLAGS_FIXED | ACF | IDF | NT | DIRF);
}
#endif

const struct test gates_tests[] = {
    TEST(interrupt_to_kernel),
    TEST(interrupt_to_level_1),
    TEST(interrupt_same_level),
    TEST(interrupt_conforming),
    TEST(interrupt_outward),
    TEST(interrupt_absent_code),
    TEST(bad_inner_stack),
#if IS64
    TEST(ist),
    TEST(long_mode_gates),
    TEST(interrupt_from_compatibility),
    TEST(non_canonical_handler),
    TEST(call_gate_long_mode),
    TEST(iret_long_mode),
    TEST(iret_flags),
#else
    TEST(gate16),
    TEST(gate16_error_code),
    TEST(short_task),
    TEST(call_gate_parameters),
    TEST(call_gate16),
    TEST(call_gate_bad_stack),
#endif
    TEST(call_gate_inner),
    TEST(call_gate_same_level),
    TEST(call_gate_checks),
    TEST(call_gate_absent_code),
    TEST(call_gate_conforming),
    TEST(far_direct),
    TEST(retf_outer),
    TEST(retf_drop),
    TEST(retf_checks),
    TEST(retf_absent_stack),
    TEST(iret_checks),
    TEST(iret_absent_stack),
    TEST(iret_drops_segments),
    {0},
};
