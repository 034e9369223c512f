/* Every exception: vector, error code, and the state it saves (SDM vol. 3, 6.4 to 6.15 and 17.2).
 *
 * A fault saves the address of its instruction and sets RF in the saved flags; a trap saves the
 * address of the next one, with RF clear. */
#include "cpu.h"
#include "families.h"

CODE(nothing, "", "nop");
CODE(divide, "xor %ecx, %ecx; mov $1, %eax; cltd", "div %ecx");
CODE(divide_overflow, "mov $1, %ecx; mov $1, %edx", "div %ecx");
CODE(divide_min, "mov $-1, %ecx; mov $0x80000000, %eax; cltd", "idiv %ecx");
CODE(breakpoint, "", "int3");
CODE(breakpoint_long, "", ".byte 0xcd, 3");
CODE(undefined, "", "ud2");
CODE(undefined_lock, "", ".byte 0xf0; nop");
CODE(too_long, "", ".fill 15, 1, 0x66; nop");
CODE(far_hlt, "", "hlt");
CODE(far_cr0, "", "mov " R("ax") ", %cr0");
CODE(far_dr7, "", "mov %dr7, " R("ax"));
CODE(far_lgdt, "lea scratch, " R("ax"), "lgdt (" R("ax") ")");
CODE(far_lidt, "lea scratch, " R("ax"), "lidt (" R("ax") ")");
CODE(far_lldt, "xor %eax, %eax", "lldt %ax");
CODE(far_ltr, "xor %eax, %eax", "ltr %ax");
CODE(far_lmsw, "xor %eax, %eax", "lmsw %ax");
CODE(far_clts, "", "clts");
CODE(far_invd, "", "invd");
CODE(far_wbinvd, "", "wbinvd");
CODE(far_invlpg, "", "invlpg (%eax)");
CODE(far_rdmsr, "mov $0x10, %ecx", "rdmsr");
CODE(far_wrmsr, "mov $0x10, %ecx", "wrmsr");
CODE(far_cli, "", "cli");
CODE(far_sti, "", "sti");
CODE(far_in, "", "in $0x80, %al");
CODE(far_out, "mov $0x80, %edx", "out %eax, %dx");
CODE(int_dpl0, "", "int $0x55");
CODE(int_ud, "", "int $6");
CODE(int_gp, "", "int $13");
#if IS64
CODE(into, "", ".byte 0xce");
CODE(far_swapgs, "", "swapgs");
#endif

static const struct {
    const char *name, *code, *at;
    uint8_t vector;
    word error;
    bool user_only;
} faults[] = {
#define FAULT(name, vector, error, user_only)                                                      \
    {                                                                                              \
#name, name, name##_at, vector, error, user_only                                           \
    }
    FAULT(divide, DE, NO_ERROR, false),
    FAULT(divide_overflow, DE, NO_ERROR, false),
    FAULT(divide_min, DE, NO_ERROR, false),
    FAULT(undefined, UD, NO_ERROR, false),
    FAULT(undefined_lock, UD, NO_ERROR, false),
    FAULT(too_long, GP, 0, false),
    FAULT(far_hlt, GP, 0, true),
    FAULT(far_cr0, GP, 0, true),
    FAULT(far_dr7, GP, 0, true),
    FAULT(far_lgdt, GP, 0, true),
    FAULT(far_lidt, GP, 0, true),
    FAULT(far_lldt, GP, 0, true),
    FAULT(far_ltr, GP, 0, true),
    FAULT(far_lmsw, GP, 0, true),
    FAULT(far_clts, GP, 0, true),
    FAULT(far_invd, GP, 0, true),
    FAULT(far_wbinvd, GP, 0, true),
    FAULT(far_invlpg, GP, 0, true),
    FAULT(far_rdmsr, GP, 0, true),
    FAULT(far_wrmsr, GP, 0, true),
    FAULT(far_cli, GP, 0, true),
    FAULT(far_sti, GP, 0, true),
    FAULT(far_in, GP, 0, true),
    FAULT(far_out, GP, 0, true),
    FAULT(int_dpl0, GP, ERR_VECTOR(0x55), true),
    FAULT(int_ud, GP, ERR_VECTOR(UD), true),
    FAULT(int_gp, GP, ERR_VECTOR(GP), true),
#if IS64
    FAULT(into, UD, NO_ERROR, false),
    FAULT(far_swapgs, GP, 0, true),
#endif
};

/* The frame of a context that was interrupted: everything but IP. */
static void expect_frame(const struct regs *r, word flags)
{
    EXPECT(trap.regs.cs, r->cs);
    EXPECT(trap.regs.ss, r->ss);
    EXPECT(trap.regs.sp, r->sp);
    EXPECT(trap.regs.flags & ~(word)0x8d5, flags);
}

/* RF, apart from the rest: some peers never set it. */
static void expect_rf(void)
{
    EXPECT(trap.regs.flags & RF, RF);
}

static void test_faults(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(faults); i++)
        for (unsigned user = faults[i].user_only; user < 2; user++) {
            struct regs r = context(user ? USER : KERNEL, faults[i].code);
            const char *at = faults[i].at;

            note("%s, CPL %d", faults[i].name, user * 3);
            run(&r);
            EXPECT_TRAP(faults[i].vector, faults[i].error, user ? USER_PTR(at) : (word)at);
            trap.regs.flags &= ~(word)RF;
            expect_frame(&r, FLAGS_FIXED);
        }
}

static void test_faults_set_rf(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(faults); i++) {
        note("%s", faults[i].name);
        run_in(USER, faults[i].code);
        expect_rf();
    }
}

/* --- traps of instructions --- */

CODE(int1, "", ".byte 0xf1");

static void test_traps(void)
{
    static const struct {
        const char *name, *code, *next;
        word vector;
    } traps[] = {
        {"int3", breakpoint, breakpoint_next, BP},
        {"int 3", breakpoint_long, breakpoint_long_next, BP},
        {"int1", int1, int1_next, DB},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(traps); i++)
        for (unsigned user = 0; user < 2; user++) {
            struct regs r = context(user ? USER : KERNEL, traps[i].code);
            const char *next = traps[i].next;

            note("%s, CPL %d", traps[i].name, user * 3);
            run(&r);
            EXPECT_TRAP(traps[i].vector, NO_ERROR, user ? USER_PTR(next) : (word)next);
            expect_frame(&r, FLAGS_FIXED);
        }
}

/* INT3, INTO and INT n look at the gate's DPL; INT1 does not. */
static void test_gate_dpl(void)
{
    set_gate(BP, KCS, trap_stub(BP), SYS_INT32, IS64);
    run_in(USER, breakpoint);
    EXPECT_TRAP(GP, ERR_VECTOR(BP), USER_PTR(breakpoint_at));
    run_in(USER, breakpoint_long);
    EXPECT_TRAP(GP, ERR_VECTOR(BP), USER_PTR(breakpoint_long_at));
    run_in(KERNEL, breakpoint);
    EXPECT_TRAP(BP, NO_ERROR, breakpoint_next);
}

#if !IS64
CODE(overflow, "mov $0x7f, %al; inc %al", "into");
CODE(no_overflow, "xor %eax, %eax", "into");
CODE(bound_in, "mov $scratch, %edx; movl $-2, (%edx); movl $5, 4(%edx); mov $-2, %eax",
     "bound %eax, (%edx)");
CODE(bound_below, "mov $scratch, %edx; mov $-3, %eax", "bound %eax, (%edx)");
CODE(bound_above, "mov $scratch, %edx; mov $6, %eax", "bound %eax, (%edx)");
CODE(bound_register, "", ".byte 0x62, 0xc0, 0, 0");

static void test_into(void)
{
    run_in(USER, overflow);
    EXPECT_TRAP(OF, NO_ERROR, overflow_next);
    run_in(USER, no_overflow);
    EXPECT_END(no_overflow);
    set_gate(OF, KCS, trap_stub(OF), SYS_INT32, 0);
    run_in(USER, overflow);
    EXPECT_TRAP(GP, ERR_VECTOR(OF), overflow_at);
}

static void test_bound(void)
{
    run_in(USER, bound_in);
    EXPECT_END(bound_in);
    run_in(USER, bound_below);
    EXPECT_TRAP(BR, NO_ERROR, bound_below_at);
    run_in(USER, bound_above);
    EXPECT_TRAP(BR, NO_ERROR, bound_above_at);
}
#endif

/* --- #DB --- */

#define DR6_CLEAR 0xffff0ff0u
#define DR6_BS (1u << 14)
#define DR6_BD (1u << 13)
#define DR7_CLEAR 0x400u
#define DR7_GD (1u << 13)
/* Breakpoint 0, local: rw 0 execution, 1 write, 2 I/O, 3 read or write; length 1, 2, 4. */
#define DR7_BP0(rw, len) (DR7_CLEAR | 1u | (unsigned)(rw) << 16 | ((len)-1u) << 18)

CODE(write4, "mov $scratch, %edx", "movl $1, 4(%edx)");
CODE(read4, "mov $scratch, %edx", "mov 4(%edx), %eax");
CODE(copy_string, "mov $scratch, %esi; mov $scratch, %edi; mov $8, %ecx; cld",
     "rep movsb (" R("si") "), (" R("di") ")");
CODE(ss_int1, "mov $scratch, %edx", "mov (%edx), %ss; .byte 0xf1");
CODE(ss_ud2, "mov $scratch, %edx", "mov (%edx), %ss; ud2");
CODE(ss_int_55, "mov $scratch, %edx", "mov (%edx), %ss; int $0x55");
CODE(two_nops, "", "nop; nop");
CODE(port_80, "xor %eax, %eax", "out %al, $0x80");
CODE(read_dr, "", "mov %dr0, " R("ax"));

static void test_single_step(void)
{
    for (unsigned user = 0; user < 2; user++) {
        struct regs r = context(user ? USER : KERNEL, two_nops);
        word next = r.ip + 1;

        r.flags |= TF;
        run(&r);
        EXPECT_TRAP(DB, NO_ERROR, next);
        EXPECT(trap.dr6, DR6_CLEAR | DR6_BS);
        expect_frame(&r, FLAGS_FIXED | TF);
    }
}

/* DR6 keeps what it had: the processor sets bits and clears none but B0-B3. */
static void test_dr6_is_sticky(void)
{
    struct regs r = context(KERNEL, two_nops);

    r.flags |= TF;
    write_dr6(DR6_CLEAR | DR6_BD);
    run(&r);
    EXPECT(trap.dr6, DR6_CLEAR | DR6_BS | DR6_BD);
}

static void test_code_breakpoint(void)
{
    struct regs r = context(KERNEL, two_nops);

    write_dr0((word)two_nops + 1);
    write_dr7(DR7_BP0(0, 1));
    run(&r);
    EXPECT_TRAP(DB, NO_ERROR, two_nops + 1);
    EXPECT(trap.dr6, DR6_CLEAR | 1);
    r = trap.regs;
    r.flags |= RF;
    run(&r);
    EXPECT_END(two_nops);
    EXPECT(trap.regs.flags & RF, 0);
    write_dr7(DR7_CLEAR);
}

/* A code breakpoint is the one fault that doesn't set RF by itself. */
static void test_code_breakpoint_rf(void)
{
    write_dr0((word)two_nops);
    write_dr7(DR7_BP0(0, 1));
    run_in(KERNEL, two_nops);
    EXPECT_TRAP(DB, NO_ERROR, two_nops);
    EXPECT(trap.regs.flags & RF, 0);
}

static void test_data_breakpoint(void)
{
    write_dr0((word)scratch + 6);
    write_dr7(DR7_BP0(1, 2));
    run_in(KERNEL, write4);
    EXPECT_TRAP(DB, NO_ERROR, write4_next);
    EXPECT(trap.dr6, DR6_CLEAR | 1);
    EXPECT(trap.regs.flags & RF, 0);
    write_dr6(DR6_CLEAR);
    run_in(KERNEL, read4);
    EXPECT_END(read4);
    write_dr7(DR7_BP0(3, 2));
    run_in(KERNEL, read4);
    EXPECT_TRAP(DB, NO_ERROR, read4_next);
    write_dr0((word)scratch + 8);
    write_dr6(DR6_CLEAR);
    run_in(KERNEL, write4);
    EXPECT_END(write4);
}

/* MOV SS holds its own trap back. A fault and INT1 drop it; INT n takes it along. */
static void test_data_breakpoint_of_ss(void)
{
    *(volatile uint16_t *)scratch = KDS;
    write_dr0((word)scratch);
    write_dr7(DR7_BP0(3, 2));
    run_in(KERNEL, ss_int1);
    EXPECT_TRAP(DB, NO_ERROR, ss_int1_next);
    run_in(KERNEL, ss_ud2);
    EXPECT_TRAP(UD, NO_ERROR, ss_ud2_next - 2);
    run_in(KERNEL, two_nops);
    EXPECT_END(two_nops);
    set_gate(0x55, KCS, two_nops, SYS_INT32, 0);
    run_in(KERNEL, ss_int_55);
    EXPECT_TRAP(DB, NO_ERROR, two_nops);
    write_dr7(DR7_CLEAR);
}

/* A string instruction stops after the iteration that hit. */
static void test_data_breakpoint_in_string(void)
{
    write_dr0((word)scratch + 4);
    write_dr7(DR7_BP0(1, 1));
    run_in(KERNEL, copy_string);
    EXPECT_TRAP(DB, NO_ERROR, copy_string_at);
    EXPECT(trap.regs.cx, 3);
}

static void test_single_step_in_string(void)
{
    struct regs r = context(KERNEL, copy_string_at);

    r.flags |= TF;
    r.cx = 3;
    r.si = r.di = (word)scratch;
    run(&r);
    EXPECT_TRAP(DB, NO_ERROR, copy_string_at);
    EXPECT(trap.regs.cx, 2);
    r.cx = 1;
    run(&r);
    EXPECT(trap.regs.cx, 0);
    r.cx = 0;
    run(&r);
    EXPECT_TRAP(DB, NO_ERROR, copy_string_next);
}

static void test_io_breakpoint(void)
{
    if (!HAS_DE) {
        skip("no debugging extensions");
        return;
    }
    write_cr4(read_cr4() | CR4_DE);
    write_dr0(0x80);
    write_dr7(DR7_BP0(2, 1));
    run_in(KERNEL, port_80);
    EXPECT_TRAP(DB, NO_ERROR, port_80_next);
    EXPECT(trap.dr6, DR6_CLEAR | 1);
}

static void test_general_detect(void)
{
    write_dr7(DR7_CLEAR | DR7_GD);
    run_in(KERNEL, read_dr);
    EXPECT_TRAP(DB, NO_ERROR, read_dr_at);
    EXPECT(trap.dr6, DR6_CLEAR | DR6_BD);
    EXPECT(read_dr7(), DR7_CLEAR);
}

CODE(move_dr4, "", "mov %dr4, " R("ax"));
CODE(move_dr5, "", "mov %dr5, " R("ax"));

static void test_dr4_dr5(void)
{
    run_in(KERNEL, move_dr4);
    EXPECT_END(move_dr4);
    EXPECT(trap.regs.ax, DR6_CLEAR);
    run_in(KERNEL, move_dr5);
    EXPECT(trap.regs.ax, DR7_CLEAR);
    if (!HAS_DE)
        return;
    write_cr4(read_cr4() | CR4_DE);
    run_in(KERNEL, move_dr4);
    EXPECT_TRAP(UD, NO_ERROR, move_dr4_at);
    run_in(KERNEL, move_dr5);
    EXPECT_TRAP(UD, NO_ERROR, move_dr5_at);
}

/* --- #NM, #MF, #XM --- */

CODE(x87, "", "fld1");
CODE(fwait_, "", "fwait");
CODE(mmx, "", "movq %mm0, %mm1");
CODE(sse, "", "movaps %xmm0, %xmm1");
CODE(emms_, "", "emms");

static void expect_in_cr0(word cr0_bits, const char *code, const char *at, word vector)
{
    write_cr0((read_cr0() & ~(word)(CR0_TS | CR0_EM | CR0_MP)) | cr0_bits);
    note("CR0 %lx", cr0_bits);
    run_in(KERNEL, code);
    EXPECT(trap.vector, vector);
    if (vector != END)
        EXPECT(trap.regs.ip, (word)at);
}
#define EXPECT_IN_CR0(bits, code, vector) expect_in_cr0(bits, code, code##_at, vector)

static void test_no_math(void)
{
    EXPECT_IN_CR0(0, x87, END);
    EXPECT_IN_CR0(CR0_TS, x87, NM);
    EXPECT_IN_CR0(CR0_EM, x87, NM);
    EXPECT_IN_CR0(0, fwait_, END);
    EXPECT_IN_CR0(CR0_TS, fwait_, END);
    EXPECT_IN_CR0(CR0_MP, fwait_, END);
    EXPECT_IN_CR0(CR0_EM, fwait_, END);
    EXPECT_IN_CR0(CR0_MP | CR0_TS, fwait_, NM);
    EXPECT_IN_CR0(CR0_TS, mmx, NM);
    EXPECT_IN_CR0(CR0_EM, mmx, UD);
    EXPECT_IN_CR0(CR0_EM | CR0_TS, mmx, UD);
    write_cr4(read_cr4() | CR4_OSFXSR);
    EXPECT_IN_CR0(0, sse, END);
    EXPECT_IN_CR0(CR0_TS, sse, NM);
    EXPECT_IN_CR0(CR0_EM, sse, UD);
    EXPECT_IN_CR0(CR0_EM | CR0_TS, sse, UD);
    write_cr4(read_cr4() & ~(word)CR4_OSFXSR);
    EXPECT_IN_CR0(0, sse, UD);
    EXPECT_IN_CR0(CR0_TS, sse, UD);
}

CODE(x87_divide,
     "fninit; mov $scratch, %eax; movw $0x37b, (%eax); fldcw (%eax); fld1; fldz; fdivrp; nop",
     "fld1");
CODE(x87_no_wait,
     "fninit; mov $scratch, %eax; movw $0x37b, (%eax); fldcw (%eax); fld1; fldz; fdivrp",
     "fnstsw %ax; fnclex");

static void test_math_fault(void)
{
    run_in(KERNEL, x87_divide);
    EXPECT_TRAP(MF, NO_ERROR, x87_divide_at);
    run_in(KERNEL, x87_no_wait);
    EXPECT_END(x87_no_wait);
    EXPECT(trap.regs.ax & 0x84, 0x84); /* ES and ZE */
    __asm__ volatile("fninit");
}

CODE(sse_divide,
     "mov $scratch, %eax; movl $0x1d80, (%eax); ldmxcsr (%eax);"
     "xorps %xmm0, %xmm0; movl $0x3f800000, (%eax); movss (%eax), %xmm1",
     "divss %xmm0, %xmm1");

static void test_simd_fault(void)
{
    static const uint32_t mxcsr = 0x1f80;

    write_cr4(read_cr4() | CR4_OSFXSR | CR4_OSXMMEXCPT);
    run_in(KERNEL, sse_divide);
    EXPECT_TRAP(XM, NO_ERROR, sse_divide_at);
    write_cr4(read_cr4() & ~(word)CR4_OSXMMEXCPT);
    run_in(KERNEL, sse_divide);
    EXPECT_TRAP(UD, NO_ERROR, sse_divide_at);
    __asm__ volatile("ldmxcsr %0" ::"m"(mxcsr));
}

/* --- #AC --- */

CODE(misaligned2, "", "mov %ax, 1(" R("dx") ")");
CODE(misaligned4, "", "mov 2(" R("dx") "), %eax");
CODE(misaligned_push, "", "push " R("ax"));
CODE(aligned4, "", "mov 4(" R("dx") "), %eax");

static void expect_alignment(const char *code, const char *at, word flags, word vector)
{
    struct regs r = context(USER, code);

    r.flags |= flags;
    r.dx = USER_PTR(scratch);
    if (code == misaligned_push)
        r.sp -= 2;
    run(&r);
    EXPECT(trap.vector, vector);
    if (vector != AC)
        return;
    EXPECT(trap.error, 0);
    EXPECT(trap.regs.ip, USER_PTR(at));
}

static void test_alignment(void)
{
    expect_alignment(misaligned4, misaligned4_at, ACF, END);
    write_cr0(read_cr0() | CR0_AM);
    expect_alignment(misaligned4, misaligned4_at, 0, END);
    expect_alignment(misaligned4, misaligned4_at, ACF, AC);
    expect_alignment(misaligned2, misaligned2_at, ACF, AC);
    expect_alignment(aligned4, aligned4_at, ACF, END);
    expect_alignment(misaligned_push, misaligned_push_at, ACF, AC);
}

/* Only at CPL 3. */
static void test_alignment_kernel(void)
{
    struct regs r = context(KERNEL, misaligned4);

    write_cr0(read_cr0() | CR0_AM);
    r.flags |= ACF;
    r.dx = (word)scratch;
    run(&r);
    EXPECT_END(misaligned4);
}

/* --- selector error codes --- */

CODE(load_ds, "", "mov %eax, %ds");
CODE(load_ss, "", "mov %eax, %ss");

static void expect_load(const char *code, const char *at, word sel, word vector, word error)
{
    struct regs r = context(KERNEL, code);

    note("selector %lx", sel);
    r.ax = sel;
    run(&r);
    EXPECT_TRAP(vector, error, at);
}

static void test_selector_errors(void)
{
    expect_load(load_ds, load_ds_at, 0x3f8, GP, 0x3f8); /* beyond the table */
    expect_load(load_ds, load_ds_at, 0x3fb, GP, 0x3f8); /* RPL is not in the error code */
    expect_load(load_ds, load_ds_at, 0x3fc, GP, 0x3f8 | ERR_TI);
    expect_load(load_ds, load_ds_at, 0x0c, GP, 0x08 | ERR_TI); /* an empty descriptor */
    set_descriptor(SCRATCH, descriptor(0, 0xfffff, SEG_DATA & ~SEG_PRESENT));
    expect_load(load_ds, load_ds_at, SCRATCH, NP, SCRATCH);
    expect_load(load_ss, load_ss_at, SCRATCH, SS, SCRATCH);
    set_descriptor(0x1c, descriptor(0, 0xfffff, SEG_DATA & ~SEG_PRESENT));
    expect_load(load_ds, load_ds_at, 0x1c, NP, 0x18 | ERR_TI);
}

/* Errors in the table of gates: the vector, IDT, and EXT unless an INT n is the cause. */
static void test_gate_errors(void)
{
    set_gate(0x55, KCS, trap_stub(0x55), SYS_INT32 & ~SEG_PRESENT, IS64);
    run_in(KERNEL, int_dpl0);
    EXPECT_TRAP(NP, ERR_VECTOR(0x55), int_dpl0_at);
    set_gate(0x55, KCS, trap_stub(0x55), SEG_DATA, IS64); /* not a gate */
    run_in(KERNEL, int_dpl0);
    EXPECT_TRAP(GP, ERR_VECTOR(0x55), int_dpl0_at);
    set_gate(0x55, SCRATCH, trap_stub(0x55), SYS_INT32, IS64); /* an empty descriptor */
    run_in(KERNEL, int_dpl0);
    EXPECT_TRAP(GP, SCRATCH, int_dpl0_at);
    set_gate(0x55, 0, trap_stub(0x55), SYS_INT32, IS64);
    run_in(KERNEL, int_dpl0);
    EXPECT_TRAP(GP, 0, int_dpl0_at);
    load_idt((word)idt, 0x54 * (IS64 ? 16 : 8) - 1);
    run_in(KERNEL, int_dpl0);
    EXPECT_TRAP(GP, ERR_VECTOR(0x55), int_dpl0_at);
    EXPECT(trap.regs.flags & TF, 0);
}

/* An exception's own delivery fails: #UD is benign, so the second exception is delivered. */
static void test_gate_errors_external(void)
{
    set_gate(UD, KCS, trap_stub(UD), SYS_INT32 & ~SEG_PRESENT, IS64);
    run_in(USER, undefined);
    EXPECT_TRAP(NP, ERR_VECTOR(UD) | ERR_EXT, USER_PTR(undefined_at));
    set_gate(UD, KCS, trap_stub(UD), SEG_DATA, IS64);
    run_in(USER, undefined);
    EXPECT_TRAP(GP, ERR_VECTOR(UD) | ERR_EXT, USER_PTR(undefined_at));
    set_gate(UD, SCRATCH, trap_stub(UD), SYS_INT32, IS64);
    run_in(USER, undefined);
    EXPECT_TRAP(GP, SCRATCH | ERR_EXT, USER_PTR(undefined_at));
    set_gate(UD, 0, trap_stub(UD), SYS_INT32, IS64);
    run_in(USER, undefined);
    EXPECT_TRAP(GP, ERR_EXT, USER_PTR(undefined_at));
}

/* INT3 and INTO are not external, whatever goes wrong behind them. */
static void test_gate_errors_int3(void)
{
    set_gate(BP, KCS, trap_stub(BP), (SYS_INT32 & ~SEG_PRESENT) | SEG_DPL(3), IS64);
    run_in(USER, breakpoint);
    EXPECT_TRAP(NP, ERR_VECTOR(BP), USER_PTR(breakpoint_at));
    set_gate(DB, KCS, trap_stub(DB), SYS_INT32 & ~SEG_PRESENT, IS64);
    run_in(USER, int1);
    EXPECT_TRAP(NP, ERR_VECTOR(DB) | ERR_EXT, USER_PTR(int1_at));
}

/* --- #DF --- */

/* Two contributory exceptions; what #DF saves of CS:IP is not defined. */
static void test_double_fault(void)
{
    static const struct {
        const char *code;
        unsigned vector;
    } rows[] = {{divide, DE}, {far_hlt, GP}};

    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        cpu_standard();
        set_gate(rows[i].vector, KCS, trap_stub(rows[i].vector), SYS_INT32 & ~SEG_PRESENT, IS64);
        note("%d", rows[i].vector);
        run_in(USER, rows[i].code);
        EXPECT(trap.vector, DF);
        EXPECT(trap.error, 0);
    }
}

/* --- flags in the handler --- */

CODE(show_flags, "", "pushf; pop " R("ax"));

static void expect_handler_flags(unsigned attr, word flags, word want)
{
    struct regs r = context(KERNEL, int_dpl0);

    set_gate(0x55, KCS, show_flags, attr, 0);
    note("gate %x, flags %lx", attr, flags);
    r.flags |= flags;
    run(&r);
    EXPECT(trap.vector, END);
    EXPECT(trap.regs.ax & ~(word)0x8d5, want | FLAGS_FIXED);
}

static void test_handler_flags(void)
{
    expect_handler_flags(SYS_INT32, 0, 0);
    expect_handler_flags(SYS_INT32, IF | DIRF | IOPL, DIRF | IOPL);
    expect_handler_flags(SYS_TRAP32, IF | DIRF | IOPL, IF | DIRF | IOPL);
    expect_handler_flags(SYS_TRAP32, RF | ACF | IDF, ACF | IDF);
    if (!IS64)
        expect_handler_flags(SYS_TRAP32, 0, 0);
}

/* --- 32-bit segment limits and null segments; 64-bit canonical addresses --- */

#if IS64
CODE(non_canonical, "mov $0x8000000000000000, %rdx", "mov (%rdx), %al");
CODE(non_canonical_stack, "mov $0x8000000000000000, %rbp", "mov (%rbp), %al");
CODE(non_canonical_push, "mov $0x800000001000, %rsp", "push %rax");
CODE(non_canonical_jump, "mov $0x800000000000, %rdx", "jmp *%rdx");

static void test_canonical(void)
{
    run_in(USER, non_canonical);
    EXPECT_TRAP(GP, 0, USER_PTR(non_canonical_at));
    run_in(USER, non_canonical_stack);
    EXPECT_TRAP(SS, 0, USER_PTR(non_canonical_stack_at));
    run_in(USER, non_canonical_push);
    EXPECT(trap.vector, SS);
    EXPECT(trap.error, 0);
    run_in(USER, non_canonical_jump);
    EXPECT(trap.vector, GP);
    EXPECT(trap.error, 0);
}

/* The frame lies on a multiple of 16. */
static void test_frame_alignment(void)
{
    for (unsigned i = 0; i < 16; i++) {
        struct regs r = context(KERNEL, divide);

        r.sp -= i;
        set_gate(DE, KCS, trap_stub(DE), SYS_INT32, 0);
        run(&r);
        EXPECT(trap.regs.sp, r.sp);
        EXPECT(trap.frame, (r.sp & ~(word)15) - 40);
    }
}
#else
CODE(null_read, "xor %eax, %eax; mov %eax, %ds", "mov (%eax), %al");
CODE(limit_read, "", "mov (%edx), %eax");
CODE(limit_stack, "", "mov (%ebp), %eax");

static void test_limits(void)
{
    struct regs r;

    run_in(USER, null_read);
    EXPECT_TRAP(GP, 0, null_read_at);
    set_descriptor(SCRATCH, descriptor(0, 0xfff, SEG_DATA | SEG_BIG));
    r = context(KERNEL, limit_read);
    r.ds = SCRATCH;
    r.dx = 0xffc;
    run(&r);
    EXPECT_END(limit_read);
    r.dx = 0xffd;
    run(&r);
    EXPECT_TRAP(GP, 0, limit_read_at);
    r = context(USER, limit_stack);
    set_descriptor(SCRATCH, descriptor(0, 0xfff, SEG_DATA | SEG_BIG | SEG_DPL(3)));
    r.ss = SCRATCH | 3;
    r.bp = 0x1000;
    run(&r);
    EXPECT_TRAP(SS, 0, limit_stack_at);
}
#endif

const struct test exceptions_tests[] = {
    TEST(faults),
    TEST(faults_set_rf),
    TEST(traps),
    TEST(gate_dpl),
#if !IS64
    TEST(into),
    TEST(bound),
    TEST(limits),
#else
    TEST(canonical),
    TEST(frame_alignment),
#endif
    TEST(single_step),
    TEST(single_step_in_string),
    TEST(dr6_is_sticky),
    TEST(code_breakpoint),
    TEST(code_breakpoint_rf),
    TEST(data_breakpoint),
    TEST(data_breakpoint_of_ss),
    TEST(data_breakpoint_in_string),
    TEST(io_breakpoint),
    TEST(general_detect),
    TEST(dr4_dr5),
    TEST(no_math),
    TEST(math_fault),
    TEST(simd_fault),
    TEST(alignment),
    TEST(alignment_kernel),
    TEST(selector_errors),
    TEST(gate_errors),
    TEST(gate_errors_external),
    TEST(gate_errors_int3),
    TEST(double_fault),
    TEST(handler_flags),
    {0},
};
