/* Privileged state and what lies between instructions: control registers, MSRs, I/O permission,
 * flags by privilege, interrupt shadows, NMIs, single steps (SDM vol. 3, ch. 2, 6, 17; vol. 1,
 * 19.5). */
#include "cpu.h"

#include "apic.h"
#include "families.h"

#define AX R("ax")

CODE(write_cr0_, "", "mov " AX ", %cr0");
CODE(write_cr3_, "", "mov " AX ", %cr3");
CODE(write_cr4_, "", "mov " AX ", %cr4");
CODE(write_msr, "", "wrmsr");
CODE(read_msr, "", "rdmsr");
CODE(read_cr1, "", ".byte 0x0f, 0x20, 0xc8");
CODE(read_cr5, "", ".byte 0x0f, 0x20, 0xe8");

static const struct trap *run_with(enum context kind, const char *code, word ax, word cx, word dx)
{
    struct regs r = context(kind, code);

    r.ax = ax;
    r.cx = cx;
    r.dx = dx;
    return run(&r);
}

/* Both privileges have the same addresses in the 32-bit guest. */
static const void *address(enum context kind, const char *at)
{
    return (const void *)(kind == USER ? USER_PTR(at) : (word)at);
}

/* --- control registers --- */

static void expect_cr(const char *code, const char *at, word v, bool good)
{
    note("%lx", v);
    run_with(KERNEL, code, v, 0, 0);
    if (good)
        EXPECT(trap.vector, END);
    else
        EXPECT_TRAP(GP, 0, at);
}

static void test_cr0(void)
{
    word cr0 = read_cr0();

    expect_cr(write_cr0_, write_cr0__at, cr0 | CR0_NW, false); /* without CD */
    expect_cr(write_cr0_, write_cr0__at, cr0 | CR0_CD, true);
    expect_cr(write_cr0_, write_cr0__at, (cr0 & ~(word)CR0_PE) | CR0_PG, false);
    expect_cr(write_cr0_, write_cr0__at, cr0 & ~(word)CR0_ET, true);
    EXPECT(read_cr0() & CR0_ET, CR0_ET);                       /* it always reads as 1 */
    expect_cr(write_cr0_, write_cr0__at, cr0 | 1u << 6, true); /* reserved: ignored */
    EXPECT(read_cr0() & 1u << 6, 0);
#if IS64
    expect_cr(write_cr0_, write_cr0__at, cr0 | 1ul << 32, false);
    expect_cr(write_cr0_, write_cr0__at, cr0 & ~(word)CR0_PG, false); /* from 64-bit code */
#endif
}

static void test_cr4(void)
{
    word cr4 = read_cr4();

    expect_cr(write_cr4_, write_cr4__at, cr4, true);
    expect_cr(write_cr4_, write_cr4__at, cr4 | 1u << 15, false);
    expect_cr(write_cr4_, write_cr4__at, cr4 | 1u << 31, false);
    expect_cr(write_cr4_, write_cr4__at, cr4 | CR4_PCE, true);
    if (!HAS_LA57)
        expect_cr(write_cr4_, write_cr4__at, cr4 | CR4_LA57, false);
#if IS64
    expect_cr(write_cr4_, write_cr4__at, cr4 & ~(word)CR4_PAE, false);
    expect_cr(write_cr4_, write_cr4__at, cr4 ^ CR4_LA57, false);
    expect_cr(write_cr4_, write_cr4__at, cr4 | 1ul << 32, false);
#else
    if (HAS_PCID)
        expect_cr(write_cr4_, write_cr4__at, cr4 | CR4_PCIDE, false); /* only in long mode */
#endif
}

static void test_cr_numbers(void)
{
    run_in(KERNEL, read_cr1);
    EXPECT_TRAP(UD, NO_ERROR, read_cr1_at);
    run_in(KERNEL, read_cr5);
    EXPECT_TRAP(UD, NO_ERROR, read_cr5_at);
}

CODE(lmsw_ax, "", "lmsw %ax");
CODE(smsw_eax, "xor %eax, %eax", "smsw %eax");
CODE(clts_, "", "clts");

static void test_machine_status(void)
{
    write_cr0(read_cr0() & ~(word)(CR0_TS | CR0_EM | CR0_MP));
    run_with(KERNEL, lmsw_ax, 0xffff & ~1u, 0, 0); /* sets TS, EM, MP; doesn't clear PE */
    EXPECT_END(lmsw_ax);
    EXPECT(read_cr0() & 0xf, 0xf);
    run_in(KERNEL, clts_);
    EXPECT(read_cr0() & 0xf, 7);
    run_in(USER, smsw_eax);
    EXPECT((uint32_t)trap.regs.ax, (uint32_t)read_cr0());
}

#if IS64
CODE(write_cr8_, "", "mov %rax, %cr8");
CODE(read_cr8_, "", "mov %cr8, %rax");

static void test_cr8(void)
{
    for (word v = 0; v < 16; v++) {
        run_with(KERNEL, write_cr8_, v, 0, 0);
        EXPECT_END(write_cr8_);
        EXPECT(apic_read(APIC_TPR), v << 4);
        apic_write(APIC_TPR, (uint32_t)(v ^ 5) << 4);
        run_in(KERNEL, read_cr8_);
        EXPECT(trap.regs.ax, v ^ 5);
    }
    run_with(KERNEL, write_cr8_, 16, 0, 0);
    EXPECT_TRAP(GP, 0, write_cr8__at);
    run_in(USER, read_cr8_);
    EXPECT_TRAP(GP, 0, USER_PTR(read_cr8__at));
    apic_write(APIC_TPR, 0);
}

CODE(write_dr6_, "", "mov %rax, %dr6");
CODE(write_dr7_, "", "mov %rax, %dr7");

static void test_debug_registers(void)
{
    run_with(KERNEL, write_dr6_, 1ul << 32, 0, 0);
    EXPECT_TRAP(GP, 0, write_dr6__at);
    run_with(KERNEL, write_dr7_, 1ul << 32, 0, 0);
    EXPECT_TRAP(GP, 0, write_dr7__at);
    run_with(KERNEL, write_dr6_, 0, 0, 0);
    EXPECT(read_dr6(), 0xffff0ff0);
    run_with(KERNEL, write_dr7_, 0, 0, 0);
    EXPECT(read_dr7(), 0x400);
}
#endif

/* --- MSRs --- */

static void expect_msr(uint32_t msr, uint64_t v, bool good)
{
    note("MSR %x value %llx", msr, (unsigned long long)v);
    run_with(KERNEL, write_msr, (uint32_t)v, msr, (word)(v >> 32));
    if (good)
        EXPECT_END(write_msr);
    else
        EXPECT_TRAP(GP, 0, write_msr_at);
}

static void test_msrs(void)
{
    run_with(KERNEL, read_msr, 0, 0x12345678, 0);
    EXPECT_TRAP(GP, 0, read_msr_at);
    expect_msr(MSR_PAT, 0x0007040600070406, true);
    expect_msr(MSR_PAT, 0x0007040600070402, false);
    expect_msr(MSR_PAT, 0x0807040600070406, false);
    expect_msr(MSR_EFER, rdmsr(MSR_EFER) | 1u << 1, false);
    expect_msr(MSR_EFER, rdmsr(MSR_EFER) | 1u << 9, false);
    expect_msr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | 1, false);
#if IS64
    expect_msr(MSR_EFER, rdmsr(MSR_EFER) & ~(uint64_t)EFER_LME, false); /* while paging is on */
#endif
}

/* --- time and counters --- */

CODE(read_tsc, "", "rdtsc");
CODE(read_tscp, "", "rdtscp");
CODE(read_pmc, "xor %ecx, %ecx", "rdpmc");

static void test_tsc(void)
{
    uint64_t before = rdtsc(), after = rdtsc();

    EXPECT_TRUE(after > before);
    run_in(USER, read_tsc);
    EXPECT(trap.vector, END);
    write_cr4(read_cr4() | CR4_TSD);
    run_in(USER, read_tsc);
    EXPECT_TRAP(GP, 0, address(USER, read_tsc_at));
    run_in(KERNEL, read_tsc);
    EXPECT_END(read_tsc);
    if (!HAS_RDTSCP)
        return;
    run_in(USER, read_tscp);
    EXPECT_TRAP(GP, 0, address(USER, read_tscp_at));
    wrmsr(MSR_TSC_AUX, 0x1234);
    run_in(KERNEL, read_tscp);
    EXPECT_END(read_tscp);
    EXPECT(trap.regs.cx, 0x1234);
}

static void test_pmc(void)
{
    run_in(USER, read_pmc);
    EXPECT_TRAP(GP, 0, address(USER, read_pmc_at));
}

/* --- UMIP --- */

CODE(store_gdt, "", "sgdt (" R("dx") ")");
CODE(store_idt, "", "sidt (" R("dx") ")");
CODE(store_ldt, "", "sldt %eax");
CODE(store_tr, "", "str %eax");

static void test_umip(void)
{
    static const struct {
        const char *code, *at;
    } rows[] = {{store_gdt, store_gdt_at},
                {store_idt, store_idt_at},
                {store_ldt, store_ldt_at},
                {store_tr, store_tr_at},
                {smsw_eax, smsw_eax_at}};

    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        note("row %u", i);
        run_with(USER, rows[i].code, 0, 0, USER_PTR(scratch));
        EXPECT(trap.vector, END);
    }
    EXPECT(*(volatile uint16_t *)scratch, sizeof idt - 1);
    EXPECT(*(volatile word *)(scratch + 2), (word)idt);
    if (!HAS_UMIP)
        return;
    write_cr4(read_cr4() | CR4_UMIP);
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        note("UMIP, row %u", i);
        run_with(USER, rows[i].code, 0, 0, USER_PTR(scratch));
        EXPECT_TRAP(GP, 0, address(USER, rows[i].at));
        run_with(KERNEL, rows[i].code, 0, 0, (word)scratch);
        EXPECT(trap.vector, END);
    }
}

/* --- XSETBV --- */

CODE(set_xcr, "", "xsetbv");
CODE(get_xcr, "", "xgetbv");

static void test_xsetbv(void)
{
    run_with(KERNEL, set_xcr, 1, 0, 0);
    EXPECT_TRAP(UD, NO_ERROR, set_xcr_at);
    EXPECT(has_leaf1_c(27), 0);
    if (!HAS_XSAVE)
        return;
    write_cr4(read_cr4() | CR4_OSXSAVE);
    EXPECT(has_leaf1_c(27), 1);
    run_with(KERNEL, set_xcr, 3, 0, 0);
    EXPECT_END(set_xcr);
    run_with(KERNEL, set_xcr, 2, 0, 0); /* x87 must be there */
    EXPECT_TRAP(GP, 0, set_xcr_at);
    run_with(KERNEL, set_xcr, 5, 0, 0); /* AVX needs SSE */
    EXPECT_TRAP(GP, 0, set_xcr_at);
    run_with(KERNEL, set_xcr, 3, 2, 0); /* no such register */
    EXPECT_TRAP(GP, 0, set_xcr_at);
    run_with(KERNEL, set_xcr, 3, 0, 0x80000000);
    EXPECT_TRAP(GP, 0, set_xcr_at);
    run_with(USER, set_xcr, 3, 0, 0);
    EXPECT_TRAP(GP, 0, address(USER, set_xcr_at));
    run_with(USER, get_xcr, 0, 0, 0);
    EXPECT(trap.vector, END);
    EXPECT((uint32_t)trap.regs.ax, 3);
    run_with(KERNEL, set_xcr, 1, 0, 0);
}

/* --- I/O at CPL 3 --- */

CODE(in_byte, "", "in %dx, %al");
CODE(in_word, "", "in %dx, %ax");
CODE(in_dword, "", "in %dx, %eax");

static void expect_io(const char *code, const char *at, word port, word flags, bool good)
{
    struct regs r = context(USER, code);

    note("port %lx flags %lx", port, flags);
    r.dx = port;
    r.flags |= flags;
    run(&r);
    if (good)
        EXPECT(trap.vector, END);
    else
        EXPECT_TRAP(GP, 0, address(USER, at));
}

static void test_io_map(void)
{
    expect_io(in_byte, in_byte_at, 0x80, 0, false);
    expect_io(in_byte, in_byte_at, 0x80, IOPL, true);
    expect_io(in_byte, in_byte_at, 0x80, 2u << 12, false);
    task.io_map[0x10] = 0xfe; /* port 80h alone */
    expect_io(in_byte, in_byte_at, 0x80, 0, true);
    expect_io(in_byte, in_byte_at, 0x81, 0, false);
    expect_io(in_word, in_word_at, 0x80, 0, false);
    task.io_map[0x10] = 0x7f; /* 87h, and 88h in the next byte */
    task.io_map[0x11] = 0xfe;
    expect_io(in_word, in_word_at, 0x87, 0, true);
    expect_io(in_dword, in_dword_at, 0x87, 0, false);
    task.io_map[0x11] = 0xf8;
    expect_io(in_dword, in_dword_at, 0x87, 0, true);
}

/* The map ends with the segment; the byte after the last one is read, too. */
static void test_io_map_end(void)
{
    memset(task.io_map, 0, sizeof task.io_map);
    set_system_descriptor(TSS, (word)&task, sizeof task.tss + 0x10, SYS_TSS32);
    load_tr(TSS);
    expect_io(in_byte, in_byte_at, 0x78, 0, true);
    expect_io(in_byte, in_byte_at, 0x80, 0, false);
    set_system_descriptor(TSS, (word)&task, sizeof task.tss + 0x11, SYS_TSS32);
    load_tr(TSS);
    expect_io(in_byte, in_byte_at, 0x80, 0, true);
    expect_io(in_byte, in_byte_at, 0x88, 0, false);
    task.tss.io_map = 0xffff;
    expect_io(in_byte, in_byte_at, 0, 0, false);
}

/* --- flags by privilege --- */

CODE(clear_if, "", "cli");
CODE(set_if, "", "sti");
CODE(pop_flags, "push " AX, "popf");

static void expect_flags(enum context kind, word before, word popped, word after)
{
    struct regs r = context(kind, pop_flags);

    note("flags %lx, popped %lx", before, popped);
    r.flags |= before;
    r.ax = popped;
    run(&r);
    EXPECT(trap.vector, END);
    EXPECT(trap.regs.flags, after | FLAGS_FIXED);
}

static void test_popf(void)
{
    const word all = IF | IOPL | DIRF | NT | ACF | IDF;

    expect_flags(KERNEL, 0, all, all);
    expect_flags(KERNEL, all, 0, 0);
    expect_flags(USER, 0, all, DIRF | NT | ACF | IDF);
    expect_flags(USER, IF, 0, IF);
    expect_flags(USER, IOPL | IF, 0, IOPL);
    expect_flags(USER, IOPL, IF, IOPL | IF);
    expect_flags(KERNEL, 0, RF | VM | VIF | VIP, 0);
}

static void test_cli_sti(void)
{
    struct regs r = context(USER, clear_if);

    r.flags |= IOPL | IF;
    run(&r);
    EXPECT(trap.vector, END);
    EXPECT(trap.regs.flags, FLAGS_FIXED | IOPL);
    r = context(USER, set_if);
    r.flags |= IOPL;
    run(&r);
    EXPECT(trap.regs.flags, FLAGS_FIXED | IOPL | IF);
}

/* Protected-mode virtual interrupts: CLI and STI at CPL 3 work on VIF; POPF doesn't. */
static void test_pvi(void)
{
    struct regs r;

    if (!HAS_VME) {
        skip("no VME");
        return;
    }
    write_cr4(read_cr4() | CR4_PVI);
    r = context(USER, set_if);
    run(&r);
    EXPECT(trap.vector, END);
    EXPECT(trap.regs.flags, FLAGS_FIXED | VIF);
    r.flags |= VIP;
    run(&r);
    EXPECT_TRAP(GP, 0, address(USER, set_if_at));
    r = context(USER, clear_if);
    r.flags |= VIF | IF;
    run(&r);
    EXPECT(trap.vector, END);
    EXPECT(trap.regs.flags, FLAGS_FIXED | IF);
}

/* --- between instructions --- */

CODE(move_ss, "", "mov %eax, %ss; nop; nop");

/* The trap of MOV SS is lost in its shadow; the next comes one instruction later. */
static void test_single_step_over_ss(void)
{
    struct regs r = context(KERNEL, move_ss);

    r.ax = KDS;
    r.flags |= TF;
    run(&r);
    EXPECT_TRAP(DB, NO_ERROR, move_ss_at + 3);
}

CODE(pop_tf, "push " AX, "popf; nop; nop");

static void test_single_step_after_popf(void)
{
    struct regs r = context(KERNEL, pop_tf);

    r.ax = FLAGS_FIXED | TF;
    run(&r);
    EXPECT_TRAP(DB, NO_ERROR, pop_tf_at + 2);
}

CODE(int_55, "", "int $0x55");
CODE(show_flags, "", "pushf; pop " AX);

/* INT n clears TF before its own step could trap. */
static void test_single_step_over_int(void)
{
    struct regs r = context(KERNEL, int_55);

    set_gate(0x55, KCS, show_flags, SYS_INT32, 0);
    r.flags |= TF;
    run(&r);
    EXPECT_TRAP(END, NO_ERROR, show_flags_next + 2);
    EXPECT(trap.regs.ax & TF, 0);
}

CODE(sti_shadow, "", "sti; nop; nop");
CODE(sti_cli, "", "sti; cli; nop");
CODE(pop_if, "push " AX, "popf; nop");
CODE(sti_hlt, "", "sti; hlt; nop");

static void run_with_pending(const char *code)
{
    struct regs r = context(KERNEL, code);

    r.ax = FLAGS_FIXED | IF;
    apic_start();
    apic_send_self(0x40);
    run(&r);
    apic_write(APIC_EOI, 0);
}

static void test_sti_shadow(void)
{
    run_with_pending(sti_shadow);
    EXPECT_TRAP(0x40, NO_ERROR, sti_shadow_at + 2);
    EXPECT(trap.regs.flags & IF, IF);
    run_with_pending(pop_if);
    EXPECT_TRAP(0x40, NO_ERROR, pop_if_at + 1);
    run_with_pending(sti_hlt);
    EXPECT_TRAP(0x40, NO_ERROR, sti_hlt_at + 2);
}

static void test_sti_cli(void)
{
    run_with_pending(sti_cli);
    EXPECT_END(sti_cli);
    run_with_pending(sti_shadow); /* take it now, so that nothing is left */
    EXPECT(trap.vector, 0x40);
}

/* --- NMI --- */

static volatile word nmi_count __attribute__((used));

CODE(wait_a_little, "", "mov $1000, %ecx; 1: loop 1b");
#if IS64
#define IRET "iretq"
#else
#define IRET "iret"
#endif
/* The first NMI sends another, which must wait for its IRET. */
CODE(nmi_handler,
     "incl nmi_count; cmpl $1, nmi_count; jne 2f; mov $0xfee00310, %edx; movl $0, (%edx);"
     "mov $0xfee00300, %edx; movl $0x4400, (%edx); mov $1000, %ecx; 1: loop 1b;"
     "mov nmi_count, %ebx; " IRET,
     "2: nop");

CODE(send_nmi,
     "mov $0xfee00310, %edx; movl $0, (%edx); mov $0xfee00300, %edx; movl $0x4400, (%edx)",
     "mov $1000, %ecx; 1: loop 1b");

static void test_nmi(void)
{
    apic_start();
    run_in(KERNEL, send_nmi); /* arrives although IF is clear */
    EXPECT(trap.vector, NMI);
    EXPECT(trap.error, NO_ERROR);
    run_in(KERNEL, wait_a_little); /* once */
    EXPECT_END(wait_a_little);
}

static void test_nmi_blocking(void)
{
    nmi_count = 0;
    apic_start();
    set_gate(NMI, KCS, nmi_handler, SYS_INT32, 0);
    run_in(KERNEL, send_nmi);
    EXPECT_TRAP(END, NO_ERROR, nmi_handler_next + 2);
    EXPECT(trap.regs.bx, 1);
    EXPECT(nmi_count, 2);
    run_in(KERNEL, wait_a_little);
    EXPECT_END(wait_a_little);
}

/* --- MONITOR --- */

CODE(monitor_, "", "monitor");
CODE(mwait_, "", "mwait");
CODE(resume_, "", "rsm");

static void test_monitor(void)
{
    enum context kinds[] = {KERNEL, USER};

    for (unsigned i = 0; i < 2; i++) {
        run_with(kinds[i], monitor_, i ? USER_PTR(scratch) : (word)scratch, 0, 0);
        if (HAS_MONITOR && kinds[i] == KERNEL)
            EXPECT_END(monitor_);
        else
            EXPECT_TRAP(UD, NO_ERROR, address(kinds[i], monitor__at));
    }
    if (HAS_MONITOR) {
        run_with(KERNEL, monitor_, (word)scratch, 1, 0);
        EXPECT_TRAP(GP, 0, monitor__at);
    }
    run_in(USER, mwait_);
    EXPECT_TRAP(UD, NO_ERROR, address(USER, mwait__at));
    run_in(KERNEL, resume_); /* not in SMM */
    EXPECT_TRAP(UD, NO_ERROR, resume__at);
}

/* --- CPUID agrees with itself --- */

static void test_cpuid(void)
{
    struct cpuid one = cpuid(1, 0), extended = cpuid(0x80000000, 0);
    uint32_t base = (uint32_t)(rdmsr(MSR_APIC_BASE) & 0xfffff000);

    EXPECT_TRUE(cpuid(0, 0).a >= 1);
    EXPECT_TRUE(extended.a >= 0x80000008 || !IS64);
    EXPECT(base, APIC_BASE);
    EXPECT(one.b >> 24, apic_read(APIC_ID) >> 24);
    EXPECT_TRUE(one.d & 1);       /* x87 */
    EXPECT_TRUE(one.d & 1u << 9); /* local APIC */
    EXPECT_TRUE(!IS64 || HAS_LONG);
    EXPECT_TRUE(physical_bits() >= 32 && physical_bits() <= 52);
}

const struct test system_tests[] = {
    TEST(cr0),
    TEST(cr4),
    TEST(cr_numbers),
    TEST(machine_status),
#if IS64
    TEST(cr8),
    TEST(debug_registers),
#endif
    TEST(msrs),
    TEST(tsc),
    TEST(pmc),
    TEST(umip),
    TEST(xsetbv),
    TEST(io_map),
    TEST(io_map_end),
    TEST(popf),
    TEST(cli_sti),
    TEST(pvi),
    TEST(single_step_over_ss),
    TEST(single_step_after_popf),
    TEST(single_step_over_int),
    TEST(sti_shadow),
    TEST(sti_cli),
    TEST(nmi),
    TEST(nmi_blocking),
    TEST(monitor),
    TEST(cpuid),
    {0},
};
