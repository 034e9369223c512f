/* SYSCALL, SYSRET, SYSENTER, SYSEXIT, SWAPGS and the bases of FS and GS (SDM vol. 2; APM vol. 3).
 *
 * Where the vendors differ (SYSCALL outside 64-bit mode, SYSENTER in long mode, SYSRET to a
 * non-canonical address) the checks look at CPUID. */
#include "cpu.h"
#include "families.h"

CODE(system_call, "", "syscall");
CODE(system_enter, "", "sysenter");
CODE(target, "", "nop");
CODE(write_msr, "", "wrmsr");
#if IS64
CODE(system_exit, "", "sysexitl");
CODE(system_return, "", "sysretq");
CODE(system_return32, "", "sysretl");
#else
CODE(system_exit, "", "sysexit");
CODE(system_return, "", "sysret");
#endif

/* The bases of the segments for SYSCALL and SYSRET. */
#define SYSCALL_BASE (IS64 ? KCS64 : SCRATCH)
#define SYSRET_BASE (UCS32 & ~3u)

static void set_up_syscall(void)
{
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);
    wrmsr(MSR_STAR,
          (uint64_t)SYSRET_BASE << 48 | (uint64_t)SYSCALL_BASE << 32 | (uint32_t)(word)target);
#if IS64
    wrmsr(MSR_LSTAR, (word)target);
    wrmsr(MSR_CSTAR, (word)target);
    wrmsr(MSR_FMASK, IF | TF | DIRF | ACF);
#endif
}

static void expect_wrmsr(uint32_t msr, uint64_t v, bool good)
{
    struct regs r = context(KERNEL, write_msr);

    note("MSR %x value %llx", msr, (unsigned long long)v);
    r.cx = msr;
    r.ax = (uint32_t)v;
    r.dx = (word)(v >> 32);
    run(&r);
    if (good)
        EXPECT_END(write_msr);
    else
        EXPECT_TRAP(GP, 0, write_msr_at);
}

#if IS64
static void test_syscall(void)
{
    struct regs r = context(USER, system_call);

    set_up_syscall();
    r.flags |= IF | DIRF | CF | IDF;
    run(&r);
    EXPECT_TRAP(END, NO_ERROR, target_next + 2);
    EXPECT(trap.regs.cs, KCS);
    EXPECT(trap.regs.ss, KCS + 8);
    EXPECT(trap.regs.cx, USER_PTR(system_call_next));
    EXPECT(trap.regs.r11, r.flags);
    EXPECT(trap.regs.flags, FLAGS_FIXED | CF | IDF);
    EXPECT(trap.regs.sp, r.sp);
    run_in(KERNEL, system_call);
    EXPECT_TRAP(END, NO_ERROR, target_next + 2);
    EXPECT(trap.regs.cx, (word)system_call_next);
}

static void test_syscall_disabled(void)
{
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) & ~(uint64_t)EFER_SCE);
    run_in(USER, system_call);
    EXPECT_TRAP(UD, NO_ERROR, USER_PTR(system_call_at));
    run_in(KERNEL, system_return);
    EXPECT_TRAP(UD, NO_ERROR, system_return_at);
}

CODE32(compat_syscall, "", "syscall");

/* Compatibility mode: AMD only, to CSTAR. */
static void test_syscall_compatibility(void)
{
    set_up_syscall();
    run_in(USER32, compat_syscall);
    if (!cpu_is_amd()) {
        EXPECT_TRAP(UD, NO_ERROR, USER_PTR(compat_syscall_at));
        return;
    }
    EXPECT_TRAP(END, NO_ERROR, target_next + 2);
    EXPECT(trap.regs.cs, KCS);
    EXPECT(trap.regs.cx, USER_PTR(compat_syscall_next));
}

/* FMASK clears TF before it could trap; without that, the step ends at the target. */
static void test_syscall_single_step(void)
{
    struct regs r = context(USER, system_call);

    set_up_syscall();
    r.flags |= TF;
    run(&r);
    EXPECT_TRAP(END, NO_ERROR, target_next + 2);
    EXPECT(trap.regs.r11, FLAGS_FIXED | TF);
    wrmsr(MSR_FMASK, 0);
    run(&r);
    EXPECT_TRAP(DB, NO_ERROR, target);
    EXPECT(trap.regs.cs, KCS);
}

/* SYSRET with TF traps at once, before anything of the user program is executed. */
static void test_sysret_single_step(void)
{
    struct regs r = context(KERNEL, system_return);

    set_up_syscall();
    r.cx = USER_PTR(target);
    r.r11 = FLAGS_FIXED | TF;
    run(&r);
    EXPECT_TRAP(DB, NO_ERROR, USER_PTR(target));
    EXPECT(trap.regs.cs, UCS64);
    EXPECT(trap.dr6, 0xffff4ff0);
}

static void test_sysret(void)
{
    struct regs r = context(KERNEL, system_return);

    set_up_syscall();
    r.cx = USER_PTR(target);
    r.r11 = FLAGS_FIXED | DIRF | IDF;
    r.sp = USER_PTR(user_stack);
    run(&r);
    EXPECT_TRAP(END, NO_ERROR, USER_PTR(target_next) + 2);
    EXPECT(trap.regs.cs, UCS64);
    EXPECT(trap.regs.ss, UDS);
    EXPECT(trap.regs.flags, r.r11);
    EXPECT(trap.regs.sp, r.sp);
    r.r11 |= VM | RF; /* both ignored */
    run(&r);
    EXPECT(trap.regs.flags, FLAGS_FIXED | DIRF | IDF);
}

CODE32(compat_target, "", "nop");

static void test_sysret32(void)
{
    struct regs r = context(KERNEL, system_return32);

    set_up_syscall();
    r.cx = USER_PTR(compat_target) | 0xdeadull << 32;
    r.r11 = FLAGS_FIXED;
    run(&r);
    EXPECT_TRAP(END, NO_ERROR, USER_PTR(compat_target_next) + 2);
    EXPECT(trap.regs.cs, UCS32);
    EXPECT(trap.regs.ss, UDS);
}

static void test_sysret_checks(void)
{
    struct regs r = context(KERNEL, system_return);

    set_up_syscall();
    run_in(USER, system_return);
    EXPECT_TRAP(GP, 0, USER_PTR(system_return_at));
    r.cx = 1ul << 63;
    r.r11 = FLAGS_FIXED;
    run(&r);
    EXPECT(trap.vector, GP);
    EXPECT(trap.error, 0);
    EXPECT(trap.regs.cs, cpu_is_amd() ? UCS64 : KCS);
    EXPECT(trap.regs.ip, cpu_is_amd() ? r.cx : (word)system_return_at);
}

static void test_canonical_msrs(void)
{
    static const uint32_t msrs[] = {MSR_LSTAR, MSR_CSTAR, MSR_FS_BASE, MSR_GS_BASE,
                                    MSR_KERNEL_GS_BASE};

    for (unsigned i = 0; i < ARRAY_SIZE(msrs); i++) {
        expect_wrmsr(msrs[i], 0x7fffffffffff, true);
        expect_wrmsr(msrs[i], 0xffff800000000000, true);
        expect_wrmsr(msrs[i], 0x800000000000, false);
        expect_wrmsr(msrs[i], 0xffff000000000000, false);
    }
}

static void test_sysenter_long_mode(void)
{
    wrmsr(MSR_SYSENTER_CS, KCS);
    wrmsr(MSR_SYSENTER_EIP, (word)target);
    wrmsr(MSR_SYSENTER_ESP, (word)inner1_stack);
    run_in(USER, system_enter);
    if (cpu_is_amd()) {
        EXPECT_TRAP(UD, NO_ERROR, USER_PTR(system_enter_at));
        run_in(KERNEL, system_exit);
        EXPECT_TRAP(UD, NO_ERROR, system_exit_at);
        return;
    }
    EXPECT_TRAP(END, NO_ERROR, target_next + 2);
    EXPECT(trap.regs.cs, KCS);
    EXPECT(trap.regs.ss, KCS + 8);
    EXPECT(trap.regs.sp, (word)inner1_stack);
}

/* --- SWAPGS, FSGSBASE --- */

CODE(swap_gs, "", "swapgs");
CODE(read_fs_base, "", "rdfsbase %rax");
CODE(read_gs_base, "", "rdgsbase %rax");
CODE(write_fs_base, "", "wrfsbase %rax");
CODE(write_gs_base32, "", "wrgsbase %eax");
CODE32(compat_read_fs_base, "", ".byte 0xf3, 0x0f, 0xae, 0xc0");
CODE32(compat_swap_gs, "", ".byte 0x0f, 0x01, 0xf8");

static void test_swapgs(void)
{
    struct regs r = context(KERNEL, swap_gs);

    r.gs = 0;
    wrmsr(MSR_KERNEL_GS_BASE, 0x12345678);
    run(&r);
    EXPECT_END(swap_gs);
    EXPECT(rdmsr(MSR_GS_BASE), 0x12345678);
    EXPECT(rdmsr(MSR_KERNEL_GS_BASE), 0);
    run_in(KERNEL32, compat_swap_gs);
    EXPECT_TRAP(UD, NO_ERROR, compat_swap_gs_at);
    wrmsr(MSR_KERNEL_GS_BASE, 0);
}

static void run_with_ax(enum context kind, const char *code, word ax)
{
    struct regs r = context(kind, code);

    r.ax = ax;
    run(&r);
}

static void test_fsgsbase(void)
{
    run_in(KERNEL, read_fs_base);
    EXPECT_TRAP(UD, NO_ERROR, read_fs_base_at);
    if (!HAS_FSGSBASE)
        return;
    write_cr4(read_cr4() | CR4_FSGSBASE);
    run_with_ax(USER, write_fs_base, 0x123456789);
    EXPECT_USER_END(write_fs_base);
    EXPECT(rdmsr(MSR_FS_BASE), 0x123456789);
    run_with_ax(USER, write_fs_base, 1ul << 63);
    EXPECT_TRAP(GP, 0, USER_PTR(write_fs_base_at));
    run_with_ax(USER, write_gs_base32, 0xffffffff12345678);
    EXPECT(rdmsr(MSR_GS_BASE), 0x12345678);
    run_in(USER32, compat_read_fs_base);
    EXPECT_TRAP(UD, NO_ERROR, USER_PTR(compat_read_fs_base_at));
    run_in(USER, read_gs_base);
    EXPECT_USER_END(read_gs_base);
}

/* Loading a selector sets the base; a null selector clears it on Intel's and keeps it on AMD's. */
CODE(load_gs, "", "mov %ecx, %gs");

static void test_selector_sets_base(void)
{
    struct regs r = context(KERNEL, load_gs);

    set_descriptor(SCRATCH, descriptor(0x12345678, 0xfffff, SEG_DATA));
    wrmsr(MSR_GS_BASE, 1ull << 40);
    r.cx = SCRATCH;
    run(&r);
    EXPECT(rdmsr(MSR_GS_BASE), 0x12345678);
}
#else
/* Kernel code and data, user code and data: in the order that SYSENTER counts on. */
static void set_up_segments(void)
{
    static const unsigned from[] = {KCS, KDS, UCS, UDS};

    for (unsigned i = 0; i < 4; i++)
        set_descriptor(SCRATCH + 8 * i, get_descriptor(from[i] & ~3u));
}

/* Legacy mode: AMD only. */
static void test_syscall_legacy(void)
{
    struct regs r = context(USER, system_call);

    if (!HAS_SYSCALL && cpu_is_amd()) {
        skip("no SYSCALL");
        return;
    }
    if (!cpu_is_amd()) {
        run(&r);
        EXPECT_TRAP(UD, NO_ERROR, system_call_at);
        return;
    }
    set_up_segments();
    set_up_syscall();
    r.flags |= IF | DIRF;
    run(&r);
    EXPECT_TRAP(END, NO_ERROR, target_next + 2);
    EXPECT(trap.regs.cs, SCRATCH);
    EXPECT(trap.regs.ss, SCRATCH + 8);
    EXPECT(trap.regs.cx, (word)system_call_next);
    EXPECT(trap.regs.flags, FLAGS_FIXED | DIRF);
    r = context(KERNEL, system_return);
    r.cx = (word)target;
    run(&r);
    EXPECT_TRAP(END, NO_ERROR, target_next + 2);
    EXPECT(trap.regs.cs, UCS32);
    EXPECT(trap.regs.ss, UDS);
    EXPECT(trap.regs.flags & IF, IF);
}

static void set_up_sysenter(void)
{
    set_up_segments();
    wrmsr(MSR_SYSENTER_CS, SCRATCH);
    wrmsr(MSR_SYSENTER_EIP, (word)target);
    wrmsr(MSR_SYSENTER_ESP, (word)inner1_stack);
}

static void test_sysenter(void)
{
    struct regs r = context(USER, system_enter);

    set_up_sysenter();
    r.flags |= IF | DIRF;
    run(&r);
    EXPECT_TRAP(END, NO_ERROR, target_next + 2);
    EXPECT(trap.regs.cs, SCRATCH);
    EXPECT(trap.regs.ss, SCRATCH + 8);
    EXPECT(trap.regs.sp, (word)inner1_stack);
    EXPECT(trap.regs.flags, FLAGS_FIXED | DIRF);
    wrmsr(MSR_SYSENTER_CS, 0);
    run(&r);
    EXPECT_TRAP(GP, 0, system_enter_at);
    wrmsr(MSR_SYSENTER_CS, 3);
    run(&r);
    EXPECT_TRAP(GP, 0, system_enter_at);
}

static void test_sysexit(void)
{
    struct regs r = context(KERNEL, system_exit);

    set_up_sysenter();
    r.dx = (word)target;
    r.cx = (word)user_stack;
    run(&r);
    EXPECT_TRAP(END, NO_ERROR, target_next + 2);
    EXPECT(trap.regs.cs, SCRATCH + 16 + 3);
    EXPECT(trap.regs.ss, SCRATCH + 24 + 3);
    EXPECT(trap.regs.sp, (word)user_stack);
    run_in(USER, system_exit);
    EXPECT_TRAP(GP, 0, system_exit_at);
    wrmsr(MSR_SYSENTER_CS, 0);
    run(&r);
    EXPECT_TRAP(GP, 0, system_exit_at);
}
#endif

static void test_unknown_msr(void)
{
    expect_wrmsr(0x12345678, 0, false);
}

const struct test syscall_tests[] = {
#if IS64
    TEST(syscall),
    TEST(syscall_disabled),
    TEST(syscall_compatibility),
    TEST(syscall_single_step),
    TEST(sysret),
    TEST(sysret_single_step),
    TEST(sysret32),
    TEST(sysret_checks),
    TEST(canonical_msrs),
    TEST(sysenter_long_mode),
    TEST(swapgs),
    TEST(fsgsbase),
    TEST(selector_sets_base),
#else
    TEST(syscall_legacy), TEST(sysenter),
    TEST(sysexit),
#endif
    TEST(unknown_msr),
    {0},
};
