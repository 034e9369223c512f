/* Task switches by JMP, CALL, INT, exceptions and IRET, with 32-bit and 16-bit task segments (SDM
 * vol. 3, ch. 8). Only the 32-bit guest has them: long mode does not. */
#include "cpu.h"
#include "families.h"

#if !IS64

#define TASK2 SCRATCH
#define TASK_GATE (SCRATCH + 8)
#define TASK16 (SCRATCH + 16)
#define TASK3 (SCRATCH + 24)
#define BUSY ((uint64_t)SYS_TSS_BUSY << 40)

struct tss16 {
    uint16_t link, sp0, ss0, sp1, ss1, sp2, ss2, ip, flags, ax, cx, dx, bx, sp, bp, si, di;
    uint16_t es, cs, ss, ds, ldt;
};

static struct tss32 task2, task3;
static struct tss16 task16;
static struct {
    uint32_t offset;
    uint16_t sel;
} __attribute__((packed)) pointer;

CODE(jump_task, "", "ljmp *(%edx)");
CODE(call_task, "", "lcall *(%edx)");
CODE(int_task, "", "int $0x55");
CODE(fault_task, "mov $0xfff8, %eax", "mov %eax, %ds");
CODE(bound_task, "", "ud2");
CODE(in_task, "", "nop");
CODE(return_task, "", "iret");
CODE_LOW(in_task16, "16", "", "nop");

/* Task 2 runs `code` on a stack of its own, with registers that tell it apart. */
static void set_up(const char *code)
{
    memset(&task2, 0, sizeof task2);
    task2 = (struct tss32){.ip = (word)code,
                           .flags = FLAGS_FIXED,
                           .ax = 0xa2,
                           .cx = 0xc2,
                           .dx = 0xd2,
                           .bx = 0xb2,
                           .sp = (word)inner1_stack,
                           .bp = 0xbb2,
                           .si = 0x512,
                           .di = 0xd12,
                           .cs = KCS,
                           .ss = KDS,
                           .ds = KDS,
                           .es = KDS,
                           .fs = 0,
                           .gs = UDS,
                           .io_map = sizeof task2};
    set_descriptor(TASK2, descriptor((word)&task2, sizeof task2 - 1, SYS_TSS32 | SEG_DPL(0)));
    set_gate(0x55, TASK2, 0, SYS_TASK_GATE, 0);
    set_descriptor(TASK_GATE, descriptor(TASK2 << 16, 0, SYS_TASK_GATE) | (uint64_t)TASK2 << 16);
}

static struct regs transfer(enum context kind, const char *code, unsigned sel)
{
    struct regs r = context(kind, code);

    pointer.sel = (uint16_t)sel;
    r.dx = (word)&pointer;
    r.ax = 0x1a;
    r.bx = 0x1b;
    r.si = 0x15;
    run(&r);
    return r;
}

static void expect_in_task2(word flags)
{
    EXPECT(trap.vector, END);
    EXPECT(trap.regs.ip, (word)in_task_next + 2);
    EXPECT(trap.regs.ax, 0xa2);
    EXPECT(trap.regs.cx, 0xc2);
    EXPECT(trap.regs.dx, 0xd2);
    EXPECT(trap.regs.bx, 0xb2);
    EXPECT(trap.regs.bp, 0xbb2);
    EXPECT(trap.regs.si, 0x512);
    EXPECT(trap.regs.di, 0xd12);
    EXPECT(trap.regs.cs, KCS);
    EXPECT(trap.regs.fs, 0);
    EXPECT(trap.regs.gs, UDS);
    EXPECT(trap.regs.sp, (word)inner1_stack);
    EXPECT(trap.regs.flags, flags);
    EXPECT(read_cr0() & CR0_TS, CR0_TS);
}

/* The old task's registers are in its segment. */
static void expect_saved(const struct regs *r, const char *next)
{
    EXPECT(task.tss.ip, (word)next);
    EXPECT(task.tss.ax, r->ax);
    EXPECT(task.tss.dx, r->dx);
    EXPECT(task.tss.bx, r->bx);
    EXPECT(task.tss.si, r->si);
    EXPECT(task.tss.sp, r->sp);
    EXPECT(task.tss.cs & 0xffff, r->cs);
    EXPECT(task.tss.ss & 0xffff, r->ss);
    EXPECT(task.tss.ds & 0xffff, r->ds);
}

static void expect_busy(unsigned sel, bool busy)
{
    EXPECT(!!(get_descriptor(sel) & BUSY), busy);
}

static void expect_task_register(unsigned want)
{
    word sel;

    __asm__ volatile("str %0" : "=r"(sel));
    EXPECT(sel & 0xffff, want);
}

static void test_jump(void)
{
    struct regs r;

    set_up(in_task);
    r = transfer(KERNEL, jump_task, TASK2);
    expect_in_task2(FLAGS_FIXED);
    expect_saved(&r, jump_task_next);
    EXPECT(task.tss.flags, FLAGS_FIXED);
    expect_busy(TSS, false);
    expect_busy(TASK2, true);
    expect_task_register(TASK2);
    EXPECT(task2.link, 0);
}

static void test_call(void)
{
    struct regs r;

    set_up(in_task);
    r = transfer(KERNEL, call_task, TASK2);
    expect_in_task2(FLAGS_FIXED | NT);
    expect_saved(&r, call_task_next);
    expect_busy(TSS, true);
    expect_busy(TASK2, true);
    EXPECT(task2.link, TSS);
}

static void test_call_through_gate(void)
{
    set_up(in_task);
    transfer(KERNEL, call_task, TASK_GATE);
    expect_in_task2(FLAGS_FIXED | NT);
    cpu_standard();
    set_up(in_task);
    set_descriptor(TASK_GATE, get_descriptor(TASK_GATE) | (uint64_t)SEG_DPL(3) << 40);
    transfer(USER, call_task, TASK_GATE | 3); /* only the gate's DPL counts */
    expect_in_task2(FLAGS_FIXED | NT);
}

static void test_interrupt(void)
{
    struct regs r;

    set_up(in_task);
    r = transfer(KERNEL, int_task, 0);
    expect_in_task2(FLAGS_FIXED | NT);
    expect_saved(&r, int_task_next);
    EXPECT(task2.link, TSS);
}

/* The error code is pushed on the new task's stack, 32 bits wide. */
static void test_exception(void)
{
    struct regs r;

    set_up(in_task);
    set_gate(GP, TASK2, 0, SYS_TASK_GATE, 0);
    task2.sp = (word)inner1_stack;
    r = transfer(KERNEL, fault_task, 0);
    EXPECT(trap.vector, END);
    EXPECT(trap.regs.sp, (word)inner1_stack - 4);
    EXPECT(*(volatile word *)trap.regs.sp, 0xfff8);
    EXPECT(task.tss.ip, (word)fault_task_at);
    EXPECT(task.tss.flags & RF, RF);
    EXPECT(task.tss.sp, r.sp);
}

/* There and back: NT in the returning task is cleared in what is saved. */
static void test_return(void)
{
    set_up(return_task);
    transfer(KERNEL, call_task, TASK2);
    EXPECT(trap.vector, END);
    EXPECT(trap.regs.ip, (word)call_task_next + 2);
    EXPECT(trap.regs.ax, 0x1a);
    EXPECT(trap.regs.flags, FLAGS_FIXED);
    expect_busy(TSS, true);
    expect_busy(TASK2, false);
    expect_task_register(TSS);
    EXPECT(task2.flags, FLAGS_FIXED);
    EXPECT(task2.ip, (word)return_task_next);
}

static void expect_switch_fault(const char *code, const char *at, unsigned sel, word vector,
                                word error)
{
    transfer(KERNEL, code, sel);
    EXPECT_TRAP(vector, error, at);
    expect_task_register(TSS);
}

/* What is wrong with the new task's segment itself is found in the old task. */
static void test_bad_task_segment(void)
{
    set_up(in_task);
    set_descriptor(TASK2, get_descriptor(TASK2) | BUSY);
    expect_switch_fault(call_task, call_task_at, TASK2, GP, TASK2);
    expect_switch_fault(jump_task, jump_task_at, TASK2, GP, TASK2);
    expect_switch_fault(jump_task, jump_task_at, TSS, GP, TSS);
    set_up(in_task);
    set_descriptor(TASK2, get_descriptor(TASK2) & ~((uint64_t)SEG_PRESENT << 40));
    expect_switch_fault(jump_task, jump_task_at, TASK2, NP, TASK2);
    set_up(in_task);
    set_descriptor(TASK2, descriptor((word)&task2, 0x66, SYS_TSS32));
    expect_switch_fault(call_task, call_task_at, TASK2, TS, TASK2);
    transfer(USER, call_task, TASK2 | 3); /* DPL 0 */
    EXPECT_TRAP(GP, TASK2, call_task_at);
    expect_switch_fault(jump_task, jump_task_at, TASK2 | 4, GP, TASK2 | ERR_TI);
}

static void test_bad_return(void)
{
    struct regs r = context(KERNEL, return_task);

    set_up(in_task);
    r.flags |= NT;
    task.tss.link = TASK2; /* not busy */
    run(&r);
    EXPECT(trap.vector, TS);
    EXPECT(trap.error, TASK2);
    task.tss.link = KDS;
    run(&r);
    EXPECT(trap.vector, TS);
    EXPECT(trap.error, KDS);
}

/* Task 3 takes vector #TS: what the fault leaves of the new task need not have a stack. */
static void handle_by_task3(void)
{
    task3 = task2;
    task3.sp = (word)inner2_stack;
    task3.ax = 0xa3;
    set_descriptor(TASK3, descriptor((word)&task3, sizeof task3 - 1, SYS_TSS32));
    set_gate(TS, TASK3, 0, SYS_TASK_GATE, 0);
}

/* What is wrong with its contents is found in the new one. */
static void test_bad_task_contents(void)
{
    static const struct {
        const char *name;
        uint32_t offset;
        uint16_t sel;
        word error;
    } rows[] = {
        {"CS null", offsetof(struct tss32, cs), 0, 0},
        {"CS data", offsetof(struct tss32, cs), KDS, KDS},
        {"CS outer", offsetof(struct tss32, cs), UCS & ~3, UCS & ~3},
        {"SS null", offsetof(struct tss32, ss), 0, 0},
        {"SS outer", offsetof(struct tss32, ss), UDS, UDS & ~3},
        {"SS code", offsetof(struct tss32, ss), KCS, KCS},
        {"DS system", offsetof(struct tss32, ds), TSS, TSS},
        {"ES beyond", offsetof(struct tss32, es), 0x3f8, 0x3f8},
        {"LDT not one", offsetof(struct tss32, ldt), KDS, KDS},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        cpu_standard();
        set_up(in_task);
        handle_by_task3();
        note("%s", rows[i].name);
        memcpy((char *)&task2 + rows[i].offset, &rows[i].sel, 2);
        transfer(KERNEL, jump_task, TASK2);
        EXPECT(trap.vector, END);
        EXPECT(trap.regs.ax, 0xa3);
        EXPECT(trap.regs.sp, (word)inner2_stack - 4);
        EXPECT(*(volatile word *)(inner2_stack - 4), rows[i].error);
        EXPECT(task3.link, TASK2);
        EXPECT(task2.ip, (word)in_task);
        expect_busy(TASK2, true);
    }
}

/* The T bit: #DB before the first instruction of the new task. */
static void test_debug_trap(void)
{
    set_up(in_task);
    task2.trap = 1;
    transfer(KERNEL, jump_task, TASK2);
    EXPECT_TRAP(DB, NO_ERROR, in_task);
    EXPECT(trap.dr6, 0xffff8ff0);
}

/* 16-bit: no FS, GS, CR3 or upper halves. */
static void test_16bit(void)
{
    set_up(in_task);
    task16 = (struct tss16){.ip = (uint16_t)(word)in_task16,
                            .flags = FLAGS_FIXED,
                            .ax = 0x1111,
                            .dx = 0x2222,
                            .sp = LOW_STACK,
                            .cs = KCS16,
                            .ss = KDS16,
                            .ds = KDS,
                            .es = KDS};
    set_descriptor(TASK16, descriptor((word)&task16, sizeof task16 - 1, SYS_TSS16));
    transfer(KERNEL, call_task, TASK16);
    EXPECT(trap.vector, END);
    EXPECT(trap.regs.ip, (word)in_task16_next + 2);
    EXPECT(trap.regs.cs, KCS16);
    EXPECT(trap.regs.ax & 0xffff, 0x1111);
    EXPECT(trap.regs.dx & 0xffff, 0x2222);
    EXPECT(trap.regs.flags, FLAGS_FIXED | NT);
    EXPECT(task16.link, TSS);
    expect_busy(TASK16, true);
    cpu_standard();
    set_descriptor(TASK16, descriptor((word)&task16, 0x2a, SYS_TSS16));
    expect_switch_fault(call_task, call_task_at, TASK16, TS, TASK16);
}

/* A double fault in a task of its own, which sees where it happened. */
static void test_double_fault_task(void)
{
    set_up(in_task);
    set_gate(DF, TASK2, 0, SYS_TASK_GATE, 0);
    set_gate(GP, KCS, trap_stub(GP), SYS_INT32 & ~SEG_PRESENT, 0);
    transfer(KERNEL, fault_task, 0);
    EXPECT(trap.vector, END);
    EXPECT(trap.regs.sp, (word)inner1_stack - 4);
    EXPECT(*(volatile word *)trap.regs.sp, 0);
    EXPECT(task.tss.ip, (word)fault_task_at);
}

/* A task that is a virtual-8086 one. */
CODE_LOW(in_vm86, "16", "", "hlt");

static void test_vm86_task(void)
{
    set_up(in_vm86);
    task2.flags |= VM;
    task2.cs = task2.ss = task2.ds = task2.es = task2.fs = task2.gs = 0;
    task2.sp = LOW_STACK;
    task2.sp0 = (word)inner2_stack;
    task2.ss0 = KDS;
    transfer(KERNEL, jump_task, TASK2);
    EXPECT_TRAP(GP, 0, in_vm86_at);
    EXPECT(trap.regs.flags & VM, VM);
    EXPECT(trap.regs.sp, LOW_STACK);
}

/* LTR: a free 32-bit or 16-bit segment of the GDT, which it marks busy. */
CODE(load_task_register, "", "ltr %ax");

static void expect_ltr(unsigned sel, word vector, word error)
{
    struct regs r = context(KERNEL, load_task_register);

    r.ax = sel;
    note("LTR %x", sel);
    run(&r);
    EXPECT(trap.vector, vector);
    if (vector != END)
        EXPECT(trap.error, error);
}

static void test_ltr(void)
{
    set_up(in_task);
    expect_ltr(0, GP, 0);
    expect_ltr(TSS, GP, TSS); /* busy */
    expect_ltr(KDS, GP, KDS);
    expect_ltr(0x3f8, GP, 0x3f8);
    expect_ltr(TASK2 | 4, GP, TASK2 | ERR_TI);
    expect_ltr(TASK2, END, 0);
    expect_busy(TASK2, true);
    set_descriptor(TASK16, descriptor((word)&task16, sizeof task16 - 1, SYS_TSS16));
    expect_ltr(TASK16, END, 0);
    set_descriptor(TASK2, descriptor((word)&task2, sizeof task2 - 1, SYS_TSS32 & ~SEG_PRESENT));
    expect_ltr(TASK2, NP, TASK2);
}

const struct test tasks_tests[] = {
    TEST(jump),
    TEST(call),
    TEST(call_through_gate),
    TEST(interrupt),
    TEST(exception),
    TEST(return ),
    TEST(bad_task_segment),
    TEST(bad_return),
    TEST(bad_task_contents),
    TEST(debug_trap),
    TEST(16bit),
    TEST(double_fault_task),
    TEST(vm86_task),
    TEST(ltr),
    {0},
};

#endif
