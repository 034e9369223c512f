/* The processor's modes: 16-bit protected, virtual-8086 with and without VME, real and "unreal"
 * mode, long mode and compatibility mode (SDM vol. 3, ch. 9 and 20; 9.8.5). */
#include "cpu.h"
#include "families.h"

#if !IS64

struct real_frame {
    uint16_t gs, fs, es, ds;
    uint32_t di, si, bp, sp, bx, dx, cx, ax;
    uint16_t vector, ip, cs, flags;
} __attribute__((packed));

void enter_real(const struct regs *r);
void real_save(const struct real_frame *f);
uint32_t long_mode_trip(uint32_t pml4);
_Noreturn void trap_leave(void);
extern char real_stubs[];
extern uint64_t long_mode_result;

void real_save(const struct real_frame *f)
{
    trap = (struct trap){.vector = f->vector, .error = NO_ERROR, .frame = (word)&f->ip};
    trap.regs = (struct regs){.ax = f->ax,
                              .cx = f->cx,
                              .dx = f->dx,
                              .bx = f->bx,
                              .bp = f->bp,
                              .si = f->si,
                              .di = f->di,
                              .sp = (word)(f + 1),
                              .ip = f->ip,
                              .flags = f->flags,
                              .cs = f->cs,
                              .ds = f->ds,
                              .es = f->es,
                              .fs = f->fs,
                              .gs = f->gs};
    load_idt((word)idt, sizeof idt - 1);
    trap_leave();
}

/* A vector of real mode: offset and segment at 4 times its number. */
static void set_vector(unsigned vector, word at)
{
    volatile uint32_t *ivt;

    __asm__("" : "=r"(ivt) : "0"(0)); /* address 0 is good here */
    ivt[vector] = (uint32_t)at;
}

static void run_real(const struct regs *r)
{
    memset(&trap, 0, sizeof trap);
    enter_real(r);
}

static void set_vectors(void)
{
    for (unsigned i = 0; i < 256; i++)
        set_vector(i, (word)real_stubs + 8 * i);
}

static struct regs real_context(const char *code)
{
    return (struct regs){.ip = (word)code, .sp = LOW_STACK, .flags = FLAGS_FIXED};
}

static void run_code_real(const char *code)
{
    struct regs r = real_context(code);

    set_vectors();
    run_real(&r);
}

/* --- real mode --- */

CODE_LOW(real_nop, "16", "mov $0x12345678, %eax", "nop");
CODE_LOW(real_divide, "16", "xor %cl, %cl", "div %cl");
CODE_LOW(real_undefined, "16", "", "ud2");
CODE_LOW(real_lldt, "16", "", "lldt %ax");
CODE_LOW(real_ltr, "16", "", "ltr %ax");
CODE_LOW(real_lar, "16", "", "lar %ax, %bx");
CODE_LOW(real_verr, "16", "", "verr %ax");
CODE_LOW(real_arpl, "16", "", "arpl %ax, %bx");
CODE_LOW(real_limit, "16", "mov $0xffff, %bx", "mov (%bx), %ax");
CODE_LOW(real_far_limit, "16", "mov $0x10000, %ebx", "mov (%ebx), %al");
CODE_LOW(real_last_byte, "16", "mov $0xffff, %bx", "mov (%bx), %al");
CODE_LOW(real_into, "16", "mov $0x7f, %al; inc %al", "into");
CODE_LOW(real_segment, "16", "mov $0x800, %ax; mov %ax, %es", "mov %es:0, %eax");
CODE_LOW(real_cli, "16", "", "cli; sti; cli");

static void expect_real(const char *code, const char *at, word vector)
{
    run_code_real(code);
    EXPECT_TRAP(vector, NO_ERROR, at);
    EXPECT(trap.regs.cs, 0);
    EXPECT(trap.regs.sp, LOW_STACK);
}
#define EXPECT_REAL(code, vector) expect_real(code, code##_at, vector)

static void test_real_mode(void)
{
    run_code_real(real_nop);
    EXPECT_END(real_nop);
    EXPECT(trap.regs.ax, 0x12345678);
    EXPECT(trap.regs.sp, LOW_STACK);
    EXPECT_REAL(real_divide, DE);
    EXPECT_REAL(real_undefined, UD);
    EXPECT_REAL(real_lldt, UD);
    EXPECT_REAL(real_ltr, UD);
    EXPECT_REAL(real_lar, UD);
    EXPECT_REAL(real_verr, UD);
    EXPECT_REAL(real_arpl, UD);
    EXPECT_REAL(real_limit, GP);
    EXPECT_REAL(real_far_limit, GP);
    run_code_real(real_last_byte);
    EXPECT_END(real_last_byte);
    run_code_real(real_into);
    EXPECT_TRAP(OF, NO_ERROR, real_into_next);
    run_code_real(real_segment);
    EXPECT(trap.regs.ax, *(volatile uint32_t *)LOW_CODE);
    EXPECT(trap.regs.es, 0x800);
    run_code_real(real_cli); /* no privilege */
    EXPECT_END(real_cli);
}

/* An interrupt pushes FLAGS, CS and IP, and clears IF, TF and AC. */
CODE_LOW(real_int, "16", "", "int $0x55");
CODE_LOW(real_handler, "16", "", "pushf; pop %ax");

static void test_real_interrupt(void)
{
    struct regs r = real_context(real_int);
    const volatile uint16_t *frame = (const volatile uint16_t *)(LOW_STACK - 6);

    set_vectors();
    set_vector(0x55, (word)real_handler);
    r.flags |= IF | DIRF;
    run_real(&r);
    EXPECT_END(real_handler);
    EXPECT(trap.regs.ax & 0xffff, FLAGS_FIXED | DIRF);
    EXPECT(trap.regs.sp, LOW_STACK - 6);
    EXPECT(frame[0], (word)real_int_next);
    EXPECT(frame[1], 0);
    EXPECT(frame[2], FLAGS_FIXED | DIRF | IF);
}

CODE_LOW(real_step, "16", "", "nop; nop");

static void test_real_single_step(void)
{
    struct regs r = real_context(real_step);

    r.flags |= TF;
    set_vectors();
    run_real(&r);
    EXPECT_TRAP(DB, NO_ERROR, real_step + 1);
}

CODE_LOW(real_far, "16",
         "mov %esp, %ebp; lcall $0, $1f; jmp 2f; 1: mov (%bp), %ax; pop %bx; pop %cx; push %cx;"
         "push %bx; lret; 2: nop",
         "sub %sp, %bp");

static void test_real_far_call(void)
{
    run_code_real(real_far);
    EXPECT_END(real_far);
    EXPECT(trap.regs.bp & 0xffff, 0); /* the stack is balanced */
    EXPECT(trap.regs.cx & 0xffff, 0);
}

/* Limits survive the way back to real mode, and so do segments loaded there. */
CODE_LOW(unreal, "16",
         "mov %cr0, %eax; or $1, %al; mov %eax, %cr0; mov $0x18, %bx; mov %bx, %ds;"
         "and $0xfe, %al; mov %eax, %cr0; xor %bx, %bx; mov %bx, %ds",
         "mov (%edx), %eax");

static void test_unreal_mode(void)
{
    struct regs r = real_context(unreal);

    *(volatile uint32_t *)scratch = 0xcafebabe;
    r.dx = (word)scratch;
    set_vectors();
    run_real(&r);
    EXPECT_END(unreal);
    EXPECT(trap.regs.ax, 0xcafebabe);
}

/* --- 16-bit protected mode --- */

CODE_LOW(code16, "16", "mov $0x1234, %ax; push %ax; pop %bx; movl $0x89abcdef, %ecx", "nop");
CODE_LOW(divide16, "16", "xor %cl, %cl", "div %cl");
CODE_LOW(limit16, "16", "mov $0xffff, %bx", "mov (%bx), %ax");
CODE_LOW(stack16, "16", "mov $0xffff, %bp", "mov (%bp), %ax");
CODE_LOW(wrap16, "16", "mov $0x18000, %esp; push $0x55", "pop %ax");

static void test_protected16(void)
{
    static const enum context kinds[] = {KERNEL16, USER16};

    for (unsigned i = 0; i < 2; i++) {
        note("CPL %u", i * 3);
        run_in(kinds[i], code16);
        EXPECT_END(code16);
        EXPECT(trap.regs.bx & 0xffff, 0x1234);
        EXPECT(trap.regs.cx, 0x89abcdef);
        EXPECT(trap.regs.sp & 0xffff, LOW_STACK);
        run_in(kinds[i], divide16);
        EXPECT_TRAP(DE, NO_ERROR, divide16_at);
        run_in(kinds[i], limit16);
        EXPECT_TRAP(GP, 0, limit16_at);
        run_in(kinds[i], stack16);
        EXPECT_TRAP(SS, 0, stack16_at);
    }
    run_in(USER16, wrap16); /* only SP counts */
    EXPECT(trap.regs.ax & 0xffff, 0x55);
    EXPECT(trap.regs.sp & 0xffff, 0x8000);
}

/* --- virtual-8086 mode --- */

CODE_LOW(vm_cli, "16", "", "cli");
CODE_LOW(vm_sti, "16", "", "sti");
CODE_LOW(vm_pushf, "16", "", "pushf");
CODE_LOW(vm_popf, "16", "pushw $0x3202", "popf");
CODE_LOW(vm_int, "16", "", "int $0x55");
CODE_LOW(vm_iret, "16", "pushw $0x202; pushw %cs; pushw $1f", "iretw; 1:");
CODE_LOW(vm_hlt, "16", "", "hlt");
CODE_LOW(vm_cr0, "16", "", "mov %eax, %cr0");
CODE_LOW(vm_lgdt, "16", "", "lgdt 0");
CODE_LOW(vm_lldt, "16", "", "lldt %ax");
CODE_LOW(vm_in, "16", "", "in $0x80, %al");
CODE_LOW(vm_limit, "16", "mov $0xffff, %bx", "mov (%bx), %ax");
CODE_LOW(vm_stack, "16", "mov $0xffff, %bp", "mov (%bp), %ax");
CODE_LOW(vm_segment, "16", "mov $0x800, %ax; mov %ax, %ds", "mov 0, %eax");
CODE_LOW(vm_int3, "16", "", "int3");

static void run_vm86(const char *code, word flags)
{
    struct regs r = context(VM86, code);

    r.flags |= flags;
    run(&r);
    EXPECT(trap.regs.flags & VM, VM);
}

/* With an IOPL below 3 the final INT is what faults. */
static void expect_vm_end(const char *next, word flags)
{
    EXPECT_TRAP(GP, 0, next);
    EXPECT(trap.regs.flags & ~(word)RF, FLAGS_FIXED | VM | flags);
}

static void test_vm86_sensitive(void)
{
    static const struct {
        const char *name, *code, *at;
    } rows[] = {
#define ROW(name) {#name, name, name##_at}
        ROW(vm_cli), ROW(vm_sti), ROW(vm_pushf), ROW(vm_popf), ROW(vm_int), ROW(vm_iret),
    };

    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        note("%s", rows[i].name);
        run_vm86(rows[i].code, 0);
        EXPECT_TRAP(GP, 0, rows[i].at);
    }
    note("IOPL 3");
    run_vm86(vm_cli, IOPL | IF);
    EXPECT_END(vm_cli);
    EXPECT(trap.regs.flags & IF, 0);
    run_vm86(vm_sti, IOPL);
    EXPECT(trap.regs.flags & IF, IF);
    run_vm86(vm_popf, IOPL);
    EXPECT_END(vm_popf);
    EXPECT(trap.regs.flags, FLAGS_FIXED | IF | IOPL | VM);
    run_vm86(vm_iret, IOPL);
    EXPECT_END(vm_iret);
    EXPECT(trap.regs.flags, FLAGS_FIXED | IF | IOPL | VM);
    run_vm86(vm_int, IOPL); /* through the gate, whose DPL is 0 */
    EXPECT_TRAP(GP, ERR_VECTOR(0x55), vm_int_at);
}

static void test_vm86_privileged(void)
{
    static const struct {
        const char *name, *code, *at;
        word vector, error;
    } rows[] = {
#define FAULT(name, vector, error) {#name, name, name##_at, vector, error}
        FAULT(vm_hlt, GP, 0),         FAULT(vm_cr0, GP, 0), FAULT(vm_lgdt, GP, 0),
        FAULT(vm_lldt, UD, NO_ERROR), FAULT(vm_in, GP, 0),  FAULT(vm_limit, GP, 0),
        FAULT(vm_stack, SS, 0),
    };

    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        note("%s", rows[i].name);
        run_vm86(rows[i].code, IOPL);
        EXPECT_TRAP(rows[i].vector, rows[i].error, rows[i].at);
    }
    task.io_map[0x10] = 0xfe;
    run_vm86(vm_in, IOPL); /* the map alone decides */
    EXPECT_END(vm_in);
    run_vm86(vm_in, 0);
    expect_vm_end(vm_in_next, 0);
    run_vm86(vm_segment, 0);
    EXPECT(trap.regs.ax, *(volatile uint32_t *)LOW_CODE);
    EXPECT(trap.regs.ds, 0x800);
    run_vm86(vm_int3, IOPL);
    EXPECT_TRAP(BP, NO_ERROR, vm_int3_next);
}

/* The data segments are saved in the frame, and null in the handler. */
CODE(show_segments, "", "mov %ds, %eax; mov %es, %ebx; mov %fs, %ecx; mov %gs, %edx");

static void test_vm86_frame(void)
{
    struct regs r = context(VM86, vm_int);
    const volatile word *frame = (const volatile word *)((word)trap_stack - 9 * 4);

    set_gate(0x55, KCS, show_segments, SYS_INT32 | SEG_DPL(3), 0);
    r.flags |= IOPL | IF;
    r.ds = 0x111;
    r.es = 0x222;
    r.fs = 0x333;
    r.gs = 0x444;
    run(&r);
    EXPECT_END(show_segments);
    EXPECT(trap.regs.ax | trap.regs.bx | trap.regs.cx | trap.regs.dx, 0);
    EXPECT(frame[0], (word)vm_int_next);
    EXPECT(frame[1] & 0xffff, 0);
    EXPECT(frame[2], r.flags);
    EXPECT(frame[3], LOW_STACK);
    EXPECT(frame[4] & 0xffff, 0);
    EXPECT(frame[5] & 0xffff, r.es);
    EXPECT(frame[6] & 0xffff, r.ds);
    EXPECT(frame[7] & 0xffff, r.fs);
    EXPECT(frame[8] & 0xffff, r.gs);
    EXPECT(trap.regs.flags & (VM | IF), 0);
}

/* A handler must be of level 0. */
static void test_vm86_handler_level(void)
{
    set_gate(0x55, CS1, show_segments, SYS_INT32 | SEG_DPL(3), 0);
    run_vm86(vm_int, IOPL);
    EXPECT_TRAP(GP, CS1 & ~3, vm_int_at);
    set_gate(0x55, CONFORMING, show_segments, SYS_INT32 | SEG_DPL(3), 0);
    run_vm86(vm_int, IOPL);
    EXPECT_TRAP(GP, CONFORMING, vm_int_at);
}

/* --- VME --- */

static bool start_vme(void)
{
    if (!HAS_VME) {
        skip("no VME");
        return false;
    }
    write_cr4(read_cr4() | CR4_VME);
    task.tss.io_map = offsetof(struct task, io_map) + 32; /* the redirection map comes before it */
    memset(task.io_map, 0xff, 32);
    return true;
}

/* IOPL below 3: CLI and STI work on VIF, and IF on the stack is VIF. */
static void test_vme_flags(void)
{
    if (!start_vme())
        return;
    run_vm86(vm_sti, IF);
    expect_vm_end(vm_sti_next, IF | VIF);
    run_vm86(vm_cli, IF | VIF);
    expect_vm_end(vm_cli_next, IF);
    run_vm86(vm_sti, VIP);
    EXPECT_TRAP(GP, 0, vm_sti_at);
    run_vm86(vm_pushf, IF | VIF);
    expect_vm_end(vm_pushf_next, IF | VIF);
    EXPECT(*(volatile uint16_t *)trap.regs.sp, FLAGS_FIXED | IF | IOPL);
    run_vm86(vm_pushf, IF);
    EXPECT(*(volatile uint16_t *)trap.regs.sp, FLAGS_FIXED | IOPL);
    run_vm86(vm_popf, 0);
    expect_vm_end(vm_popf_next, VIF);
    run_vm86(vm_iret, 0);
    expect_vm_end(vm_iret_next, VIF);
    run_vm86(vm_popf, VIP);
    EXPECT_TRAP(GP, 0, vm_popf_at);
}

CODE_LOW(vm_handler, "16", "", "nop");

/* A clear bit of the map sends INT n to the program's own handler. */
static void test_vme_redirection(void)
{
    const volatile uint16_t *frame = (const volatile uint16_t *)(LOW_STACK - 6);

    if (!start_vme())
        return;
    set_vector(0x55, (word)vm_handler);
    run_vm86(vm_int, 0);
    EXPECT_TRAP(GP, 0, vm_int_at); /* set: as without VME */
    task.io_map[0x55 / 8] &= (uint8_t) ~(1u << 0x55 % 8);
    run_vm86(vm_int, IF | VIF);
    expect_vm_end(vm_handler_next, IF); /* VIF is cleared */
    EXPECT(trap.regs.sp, LOW_STACK - 6);
    EXPECT(frame[0], (word)vm_int_next);
    EXPECT(frame[1], 0);
    EXPECT(frame[2], FLAGS_FIXED | IF | IOPL);
    run_vm86(vm_int, IF | IOPL);
    EXPECT_END(vm_handler);
    EXPECT(trap.regs.flags, FLAGS_FIXED | VM | IOPL); /* IF is */
    EXPECT(frame[2], FLAGS_FIXED | IF | IOPL);
}

/* --- long mode --- */

static uint64_t pml4[512] __attribute__((aligned(4096)));
static uint64_t pdpt[512] __attribute__((aligned(4096)));
static uint64_t pd[512] __attribute__((aligned(4096)));

static void map_for_long_mode(void)
{
    pml4[0] = (word)pdpt | 3;
    pdpt[0] = (word)pd | 3;
    for (unsigned i = 0; i < 512; i++)
        pd[i] = (uint64_t)i << 21 | 0x83;
}

static void test_long_mode_and_back(void)
{
    if (!HAS_LONG) {
        skip("no long mode");
        return;
    }
    map_for_long_mode();
    for (unsigned i = 0; i < 3; i++) {
        long_mode_result = 0;
        EXPECT(long_mode_trip((word)pml4) & (EFER_LMA | EFER_LME), EFER_LMA | EFER_LME);
        EXPECT(long_mode_result, 0x123456789 + 0x876543210);
        EXPECT(rdmsr(MSR_EFER) & (EFER_LMA | EFER_LME), 0);
        EXPECT(read_cr0() & CR0_PG, 0);
    }
}

CODE(enable_paging, "", "mov %eax, %cr0");
CODE(write_efer, "mov $0xc0000080, %ecx; xor %edx, %edx", "wrmsr");

/* Paging cannot begin with LME and without PAE. */
static void test_illegal_long_mode(void)
{
    struct regs r = context(KERNEL, enable_paging);

    if (!HAS_LONG) {
        skip("no long mode");
        return;
    }
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_LME);
    r.ax = read_cr0() | CR0_PG;
    run(&r);
    EXPECT_TRAP(GP, 0, enable_paging_at);
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) & ~(uint64_t)EFER_LME);
    EXPECT(rdmsr(MSR_EFER) & EFER_LMA, 0);
}

/* LME cannot change while paging is on. */
static void test_illegal_lme(void)
{
    struct regs r = context(KERNEL, write_efer);

    if (!HAS_LONG) {
        skip("no long mode");
        return;
    }
    for (unsigned i = 0; i < 512; i++) /* PAE: the first GiB */
        pd[i] = (uint64_t)i << 21 | 0x83;
    memset(pdpt, 0, sizeof pdpt);
    pdpt[0] = (word)pd | 1;
    write_cr4(read_cr4() | CR4_PAE);
    write_cr3((word)pdpt);
    write_cr0(read_cr0() | CR0_PG);
    r.ax = (word)rdmsr(MSR_EFER) | EFER_LME;
    run(&r);
    EXPECT_TRAP(GP, 0, write_efer_at);
    write_cr0(read_cr0() & ~(word)CR0_PG);
}

const struct test modes_tests[] = {
    TEST(real_mode),          TEST(real_interrupt),
    TEST(real_single_step),   TEST(real_far_call),
    TEST(unreal_mode),        TEST(protected16),
    TEST(vm86_sensitive),     TEST(vm86_privileged),
    TEST(vm86_frame),         TEST(vm86_handler_level),
    TEST(vme_flags),          TEST(vme_redirection),
    TEST(long_mode_and_back), TEST(illegal_long_mode),
    TEST(illegal_lme),        {0},
};

#else

CODE32(compat_code, "mov $0x12345678, %eax; inc %eax; push %eax; pop %ebx", "nop");
CODE32(compat_rex, "xor %eax, %eax", ".byte 0x48; nop"); /* DEC EAX here, REX in 64-bit mode */
CODE_LOW(compat_code16, "16", "mov $0x1234, %ax; push %ax; pop %bx", "nop");
CODE32(to_64bit, "", "ljmp $0x10, $1f; .code64; 1: mov $0x100000000, %rax; shr $4, %rax; .code32");

/* Compatibility mode: 32-bit and 16-bit code below long mode. */
static void test_compatibility(void)
{
    run_in(USER32, compat_code);
    EXPECT_USER_END(compat_code);
    EXPECT(trap.regs.bx, 0x12345679);
    EXPECT(trap.regs.cs, UCS32);
    run_in(USER32, compat_rex);
    EXPECT_USER_END(compat_rex);
    EXPECT(trap.regs.ax, 0xffffffff);
    run_in(KERNEL32, compat_code);
    EXPECT_END(compat_code);
    run_in(KERNEL16, compat_code16);
    EXPECT_END(compat_code16);
    EXPECT(trap.regs.bx & 0xffff, 0x1234);
}

static void test_compatibility_to_64bit(void)
{
    run_in(KERNEL32, to_64bit);
    EXPECT(trap.vector, END);
    EXPECT(trap.regs.cs, KCS64);
    EXPECT(trap.regs.ax, 0x10000000);
}

/* Linear addresses of compatibility mode have 32 bits. */
CODE32(compat_wrap, "", "mov %fs:(%edx), %al");

static void test_compatibility_wraps(void)
{
    struct regs r = context(KERNEL32, compat_wrap);

    set_descriptor(SCRATCH, descriptor(0xfffff000, 0xfffff, SEG_DATA | SEG_BIG | SEG_PAGES));
    r.fs = SCRATCH;
    r.dx = (word)scratch + 0x1000;
    scratch[0] = 0x66;
    run(&r);
    EXPECT_END(compat_wrap);
    EXPECT(trap.regs.ax & 0xff, 0x66);
}

/* Instructions that 64-bit mode doesn't have. */
static void test_missing_in_64bit(void)
{
    static const uint8_t opcodes[] = {0x06, 0x07, 0x0e, 0x16, 0x17, 0x1e, 0x1f, 0x27, 0x2f, 0x37,
                                      0x3f, 0x60, 0x61, 0x82, 0x9a, 0xce, 0xd4, 0xd5, 0xd6, 0xea};
    static uint8_t code[16];

    for (unsigned i = 0; i < ARRAY_SIZE(opcodes); i++) {
        note("opcode %x", opcodes[i]);
        code[0] = opcodes[i];
        run_in(KERNEL, code);
        EXPECT_TRAP(UD, NO_ERROR, code);
    }
}

/* L and D together mean nothing. */
static void test_bad_code_size(void)
{
    struct regs r = context(USER, compat_code);

    set_descriptor(SCRATCH, get_descriptor(UCS64) | (uint64_t)SEG_BIG << 40);
    r.cs = SCRATCH | 3;
    run(&r);
    EXPECT_TRAP(GP, SCRATCH, enter_iret);
}

const struct test modes_tests[] = {
    TEST(compatibility),    TEST(compatibility_to_64bit), TEST(compatibility_wraps),
    TEST(missing_in_64bit), TEST(bad_code_size),          {0},
};

#endif
