/* Interrupt controllers: the local APIC and its timer, the I/O APIC, the 8259 pair through LINT0
 * (SDM vol. 3, ch. 11; 82093AA; 8259A). Nothing may come early or not at all, but everything may
 * come late, and any time may pass between two instructions: the host may be slow, or busy. What
 * never comes is waited for without an end. */
#include "apic.h"

#include "cpu.h"
#include "families.h"

#define LINT_EXTINT 0x700u
#define TIMER_PERIODIC 0x20000u
#define TIMER_TSC_DEADLINE 0x40000u
#define PIC_BASE 0x60 /* vectors of IRQ 0-7 */

void apic_start(void)
{
    wrmsr(MSR_APIC_BASE, APIC_BASE | 1u << 11 | 1u << 8);
    apic_write(APIC_SVR, 0x100 | APIC_SPURIOUS_VECTOR);
    apic_write(APIC_LVT_TIMER, APIC_MASKED);
    apic_write(APIC_TIMER_INITIAL, 0);
    apic_write(APIC_LVT_LINT0, APIC_MASKED);
    apic_write(APIC_LVT_LINT1, APIC_MASKED);
    apic_write(APIC_LVT_ERROR, APIC_MASKED);
    apic_write(APIC_TPR, 0);
    for (unsigned i = 0; i < 8; i++)
        apic_write(APIC_EOI, 0);
}

void apic_send_self(unsigned vector)
{
    apic_write(APIC_ICR, APIC_ICR_SELF | 0x4000 | vector);
}

CODE(open_interrupts, "", "sti; nop; nop; cli");
CODE(wait_running, "", "sti; 1: pause; jmp 1b");
CODE(halt, "", "sti; hlt; nop");

static void expect_interrupt(const char *code, word vector)
{
    run_in(KERNEL, code);
    EXPECT(trap.vector, vector);
}

static bool in_service(unsigned vector)
{
    return apic_read(APIC_ISR + vector / 32 * 16) >> vector % 32 & 1;
}

static bool requested(unsigned vector)
{
    return apic_read(APIC_IRR + vector / 32 * 16) >> vector % 32 & 1;
}

/* Takes what was requested before its source was silenced. */
static void take_rest(unsigned vector)
{
    if (!requested(vector))
        return;
    expect_interrupt(open_interrupts, vector);
    apic_write(APIC_EOI, 0);
}

static void test_registers(void)
{
    apic_start();
    EXPECT_TRUE((apic_read((enum apic_register)0x30) & 0xff) >= 0x10);
    EXPECT(apic_read(APIC_SVR), 0x1ff);
    apic_write(APIC_TPR, 0x57);
    EXPECT(apic_read(APIC_TPR), 0x57);
    EXPECT(apic_read(APIC_PPR), 0x57);
    apic_write(APIC_TPR, 0);
    apic_write(APIC_DFR, 0x0fffffff);
    EXPECT(apic_read(APIC_DFR), 0x0fffffff);
    apic_write(APIC_DFR, 0xffffffff);
    apic_write(APIC_LDR, 0x02abcdef);
    EXPECT(apic_read(APIC_LDR), 0x02000000);
}

static void test_self_ipi(void)
{
    apic_start();
    apic_send_self(0x81);
    EXPECT(requested(0x81), 1);
    expect_interrupt(open_interrupts, 0x81);
    EXPECT(requested(0x81), 0);
    EXPECT(in_service(0x81), 1);
    EXPECT(apic_read(APIC_PPR), 0x80);
    apic_write(APIC_EOI, 0);
    EXPECT(in_service(0x81), 0);
    EXPECT(apic_read(APIC_PPR), 0);
    expect_interrupt(open_interrupts, END);
}

/* The higher class first; a lower one waits until EOI; the same class waits, too. */
static void test_priorities(void)
{
    apic_start();
    apic_send_self(0x51);
    apic_send_self(0x91);
    apic_send_self(0x92);
    expect_interrupt(open_interrupts, 0x92);
    expect_interrupt(open_interrupts, END); /* 91h is of the same class */
    apic_send_self(0xa0);
    expect_interrupt(open_interrupts, 0xa0);
    EXPECT(apic_read(APIC_PPR), 0xa0);
    apic_write(APIC_EOI, 0);
    EXPECT(in_service(0x92), 1);
    expect_interrupt(open_interrupts, END);
    apic_write(APIC_EOI, 0);
    expect_interrupt(open_interrupts, 0x91);
    apic_write(APIC_EOI, 0);
    expect_interrupt(open_interrupts, 0x51);
    apic_write(APIC_EOI, 0);
}

static void test_task_priority(void)
{
    apic_start();
    apic_write(APIC_TPR, 0x50);
    apic_send_self(0x5f);
    expect_interrupt(open_interrupts, END);
    apic_send_self(0x60);
    expect_interrupt(open_interrupts, 0x60);
    apic_write(APIC_EOI, 0);
    apic_write(APIC_TPR, 0x4f);
    expect_interrupt(open_interrupts, 0x5f);
    apic_write(APIC_EOI, 0);
    apic_write(APIC_TPR, 0);
}

/* --- timer --- */

static void start_timer(uint32_t lvt, uint32_t count)
{
    apic_write(APIC_TIMER_DIVIDE, 0xb); /* by 1 */
    apic_write(APIC_LVT_TIMER, lvt);
    apic_write(APIC_TIMER_INITIAL, count);
}

static void test_timer_one_shot(void)
{
    apic_start();
    start_timer(0x70, 20000);
    expect_interrupt(wait_running, 0x70);
    EXPECT(apic_read(APIC_TIMER_CURRENT), 0);
    apic_write(APIC_EOI, 0);
    expect_interrupt(open_interrupts, END);
    start_timer(0x70, 1000000);
    expect_interrupt(halt, 0x70);
    EXPECT(trap.regs.ip, (word)halt_at + 2);
    apic_write(APIC_EOI, 0);
}

static void test_timer_periodic(void)
{
    apic_start();
    start_timer(0x71 | TIMER_PERIODIC, 100000);
    for (unsigned i = 0; i < 5; i++) {
        expect_interrupt(halt, 0x71);
        apic_write(APIC_EOI, 0);
    }
    apic_write(APIC_TIMER_INITIAL, 0);
    take_rest(0x71);
    expect_interrupt(open_interrupts, END);
}

static void test_timer_masked(void)
{
    apic_start();
    start_timer(0x72 | APIC_MASKED, 100);
    while (apic_read(APIC_TIMER_CURRENT))
        ;
    EXPECT(requested(0x72), 0);
}

static void test_timer_deadline(void)
{
    if (!HAS_TSC_DEADLINE) {
        skip("no TSC deadline");
        return;
    }
    apic_start();
    apic_write(APIC_LVT_TIMER, 0x73 | TIMER_TSC_DEADLINE);
    __asm__ volatile("mfence" ::: "memory");
    for (unsigned i = 0; i < 3; i++) {
        uint64_t deadline = rdtsc() + 1000000;

        wrmsr(MSR_TSC_DEADLINE, deadline);
        expect_interrupt(halt, 0x73);
        EXPECT_TRUE(rdtsc() >= deadline);
        EXPECT(rdmsr(MSR_TSC_DEADLINE), 0);
        apic_write(APIC_EOI, 0);
    }
    wrmsr(MSR_TSC_DEADLINE, rdtsc() - 1); /* past: at once */
    expect_interrupt(halt, 0x73);
    apic_write(APIC_EOI, 0);
    wrmsr(MSR_TSC_DEADLINE, rdtsc() + 1000000000000);
    wrmsr(MSR_TSC_DEADLINE, 0);
    expect_interrupt(open_interrupts, END);
}

/* --- 8254, 8259 and the I/O APIC --- */

static void pic_start(uint8_t mask)
{
    outb(0x20, 0x11);
    outb(0x21, PIC_BASE);
    outb(0x21, 4);
    outb(0x21, 1);
    outb(0xa0, 0x11);
    outb(0xa1, PIC_BASE + 8);
    outb(0xa1, 2);
    outb(0xa1, 1);
    outb(0x21, mask);
    outb(0xa1, 0xff);
}

/* Counter 0: one pulse after `count` ticks (mode 0), or every `count` (mode 2). */
static void pit_start(unsigned mode, unsigned count)
{
    outb(0x43, (uint8_t)(0x30 | mode << 1));
    outb(0x40, (uint8_t)count);
    outb(0x40, (uint8_t)(count >> 8));
}

static void test_pic(void)
{
    apic_start();
    pic_start(0xff);
    apic_write(APIC_LVT_LINT0, LINT_EXTINT);
    pit_start(2, 2000);
    outb(0x21, 0xfe);
    for (unsigned i = 0; i < 3; i++) {
        expect_interrupt(halt, PIC_BASE);
        EXPECT(in_service(PIC_BASE), 0); /* ExtINT doesn't appear in the local APIC */
        outb(0x20, 0x0b);
        EXPECT(inb(0x20), 1); /* ISR */
        outb(0x20, 0x20);
    }
    outb(0x21, 0xff);
    apic_write(APIC_LVT_LINT0, APIC_MASKED);
    expect_interrupt(open_interrupts, END);
}

static void ioapic_write(unsigned reg, uint32_t v)
{
    *(volatile uint32_t *)IOAPIC_BASE = reg;
    *(volatile uint32_t *)(IOAPIC_BASE + 0x10) = v;
}

static uint32_t ioapic_read(unsigned reg)
{
    *(volatile uint32_t *)IOAPIC_BASE = reg;
    return *(volatile uint32_t *)(IOAPIC_BASE + 0x10);
}

static void ioapic_route(unsigned input, uint32_t low)
{
    ioapic_write(0x11 + input * 2, apic_read(APIC_ID));
    ioapic_write(0x10 + input * 2, low);
}

static bool pit_output(void)
{
    outb(0x43, 0xe2); /* read back the status of counter 0 */
    return inb(0x40) >> 7;
}

/* The 8254's interrupt is input 2. */
static void test_ioapic_edge(void)
{
    apic_start();
    pic_start(0xff);
    EXPECT(ioapic_read(1) >> 16 & 0xff, 23);
    ioapic_route(2, 0x55);
    pit_start(2, 2000);
    for (unsigned i = 0; i < 3; i++) {
        expect_interrupt(halt, 0x55);
        EXPECT(in_service(0x55), 1);
        apic_write(APIC_EOI, 0);
    }
    ioapic_route(2, 0x55 | APIC_MASKED);
    pit_start(0, 1);
    take_rest(0x55);
    expect_interrupt(open_interrupts, END);
}

/* A level is delivered again after EOI as long as it is there: counter 0's output in mode 0 stays
 * high. */
static void test_ioapic_level(void)
{
    bool remote_irr;

    apic_start();
    pic_start(0xff);
    pit_start(0, 1000);
    ioapic_route(2, 0x56 | 1u << 15);
    expect_interrupt(halt, 0x56);
    EXPECT(ioapic_read(0x14) >> 14 & 1, 1); /* remote IRR */
    expect_interrupt(open_interrupts, END); /* in service: not again */
    apic_write(APIC_EOI, 0);
    expect_interrupt(open_interrupts, 0x56);
    do { /* the output goes low, but for 55 ms only */
        pit_start(0, 0xffff);
        apic_write(APIC_EOI, 0);
        run_in(KERNEL, open_interrupts);
        remote_irr = ioapic_read(0x14) >> 14 & 1;
    } while (pit_output());
    EXPECT(trap.vector, END);
    EXPECT(remote_irr, 0);
    ioapic_route(2, APIC_MASKED);
    take_rest(0x56);
}

/* Disabled by software, the local APIC masks its table and takes no more interrupts. */
static void test_software_disable(void)
{
    apic_start();
    apic_write(APIC_LVT_TIMER, 0x70);
    apic_write(APIC_SVR, APIC_SPURIOUS_VECTOR);
    EXPECT(apic_read(APIC_LVT_TIMER) & APIC_MASKED, APIC_MASKED);
    apic_write(APIC_LVT_TIMER, 0x70); /* can't be unmasked */
    EXPECT(apic_read(APIC_LVT_TIMER) & APIC_MASKED, APIC_MASKED);
    apic_start();
}

/* Vectors below 16 are errors. */
static void test_error(void)
{
    apic_start();
    apic_write(APIC_ESR, 0);
    apic_write(APIC_ESR, 0);
    EXPECT(apic_read(APIC_ESR), 0);
    apic_write(APIC_LVT_ERROR, 0x78);
    apic_send_self(3);
    apic_write(APIC_ESR, 0);
    EXPECT_TRUE(apic_read(APIC_ESR) & 0x60);
    expect_interrupt(open_interrupts, 0x78);
    apic_write(APIC_EOI, 0);
}

const struct test apic_tests[] = {
    TEST(registers),
    TEST(self_ipi),
    TEST(priorities),
    TEST(task_priority),
    TEST(timer_one_shot),
    TEST(timer_periodic),
    TEST(timer_masked),
    TEST(timer_deadline),
    TEST(pic),
    TEST(ioapic_edge),
    TEST(ioapic_level),
    TEST(software_disable),
    TEST(error),
    {0},
};
