/* Interrupts, far transfers, task switches and system calls, on tables built by hand: what is
 * pushed, what is loaded, and that a fault on the way changes nothing (SDM vol. 3, ch. 5-7, 20). */
#include "cpu_fixture.h"

#include "cpu/far.h"
#include "cpu/interrupt.h"
#include "cpu/paging.h"
#include "cpu/segment.h"
#include "cpu/syscall.h"

/* Where things are in RAM. */
#define GDT 0x2000u
#define IDT 0x3000u
#define TSS 0x4000u
#define TSS_B 0x4800u
#define KERNEL_STACK 0x8000u
#define USER_STACK 0x9000u
#define IST_STACK 0xa008u /* not aligned to 16 */
#define HANDLER 0x5000u

#define CODE0 0x08
#define DATA0 0x10
#define CODE3 0x1b
#define DATA3 0x23
#define SEL_TSS 0x28 /* 16 bytes in long mode */
#define CODE64 0x38
#define CALL_GATE 0x43 /* 16 bytes in long mode */
#define SEL_TSS_B 0x50
#define USER64 0x5b

#define ATTR_CODE32 0xc09bu
#define ATTR_DATA32 0xc093u
#define ATTR_CODE64 0xa09bu
#define DPL3 0x60u

static void put(struct fixture *f, uint32_t at, uint64_t v, unsigned size)
{
    memcpy(f->ram + at, &v, size);
}

static uint64_t get(const struct fixture *f, uint64_t at, unsigned size)
{
    uint64_t v = 0;

    memcpy(&v, f->ram + at, size);
    return v;
}

static void put_descriptor(struct fixture *f, unsigned sel, uint32_t base, uint32_t limit,
                           unsigned attr)
{
    uint64_t d = (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)attr << 40 |
                 (uint64_t)(limit >> 16 & 15) << 48 | (uint64_t)(base >> 24) << 56;

    put(f, GDT + (sel & ~7u), d, 8);
}

static uint64_t gate(uint16_t sel, uint32_t offset, unsigned attr, unsigned low)
{
    return (offset & 0xffff) | (uint64_t)sel << 16 | (uint64_t)low << 32 | (uint64_t)attr << 40 |
           (uint64_t)(offset >> 16) << 48;
}

static void put_gate(struct fixture *f, unsigned vector, uint16_t sel, unsigned attr, unsigned ist)
{
    unsigned size = f->cpu->efer & EFER_LMA ? 16 : 8;

    put(f, IDT + vector * size, gate(sel, HANDLER, attr, ist), 8);
}

static void put_gdt(struct fixture *f)
{
    put_descriptor(f, CODE0, 0, 0xfffff, ATTR_CODE32);
    put_descriptor(f, DATA0, 0, 0xfffff, ATTR_DATA32);
    put_descriptor(f, CODE3, 0, 0xfffff, ATTR_CODE32 | DPL3);
    put_descriptor(f, DATA3, 0, 0xfffff, ATTR_DATA32 | DPL3);
    put_descriptor(f, CODE64, 0, 0xfffff, ATTR_CODE64);
    put_descriptor(f, USER64, 0, 0xfffff, ATTR_CODE64 | DPL3);
    put_descriptor(f, SEL_TSS, TSS, 0x67, 0x8b);
    f->cpu->gdtr = (struct desc_table){GDT, 0x6f};
    f->cpu->idtr = (struct desc_table){IDT, 0x7ff};
    f->cpu->tr = (struct segment){.base = TSS, .limit = 0x67, .sel = SEL_TSS, .attr = 0x8b};
}

static void load_flat(struct cpu *cpu, uint16_t cs, unsigned cs_attr, uint16_t ss, unsigned cpl)
{
    unsigned dpl = cpl << SEG_DPL_SHIFT;

    for (unsigned i = 0; i < SEG_COUNT; i++)
        cpu->seg[i] =
            (struct segment){.limit = UINT32_MAX, .sel = ss, .attr = (uint16_t)(ATTR_DATA32 | dpl)};
    cpu->seg[CS].sel = cs;
    cpu->seg[CS].attr = (uint16_t)(cs_attr | dpl);
    cpu_set_cpl(cpu, cpl);
}

/* A program at `cpl` in 32-bit protected mode, with tables and a kernel stack. */
static struct cpu *enter_32(struct fixture *f, unsigned cpl)
{
    struct cpu *cpu = f->cpu;

    fixture_set_mode(f, 32);
    put_gdt(f);
    put(f, TSS + 4, KERNEL_STACK, 4);
    put(f, TSS + 8, DATA0, 2);
    load_flat(cpu, cpl ? CODE3 : CODE0, ATTR_CODE32, cpl ? DATA3 : DATA0, cpl);
    cpu->gpr[RSP] = USER_STACK;
    cpu_set_rflags(cpu, FLAG_IF | FLAG_CF | 2);
    return cpu;
}

static struct cpu *enter_64(struct fixture *f, unsigned cpl)
{
    struct cpu *cpu = f->cpu;

    fixture_set_mode(f, 64);
    put_gdt(f);
    put(f, TSS + 4, KERNEL_STACK, 8);
    put(f, TSS + 36, IST_STACK, 8);
    load_flat(cpu, cpl ? USER64 : CODE64, ATTR_CODE64, cpl ? DATA3 : DATA0, cpl);
    cpu->gpr[RSP] = USER_STACK;
    cpu_set_rflags(cpu, FLAG_IF | FLAG_CF | 2);
    return cpu;
}

/* Compares what a failed delivery must not touch. */
static void assert_unchanged(const struct cpu *before, const struct cpu *cpu)
{
    assert_memory_equal(before->gpr, cpu->gpr, sizeof cpu->gpr);
    assert_memory_equal(before->seg, cpu->seg, sizeof cpu->seg);
    assert_int_equal(cpu_get_rflags(before), cpu_get_rflags(cpu));
    assert_int_equal(before->cpl, cpu->cpl);
    assert_int_equal(before->mode, cpu->mode);
}

static void iret(struct fixture *f, unsigned size)
{
    struct insn in = fixture_insn(f, size);

    assert_true(op_iret(f->cpu, &in));
}

/* --- interrupts --- */

static void test_real_mode(void **state)
{
    struct fixture *f = *state;
    struct cpu *cpu = f->cpu;

    fixture_set_mode(f, 16);
    cpu->cr0 &= ~(uint64_t)CR0_PE;
    cpu->idtr = (struct desc_table){0, 0x3ff};
    cpu_update_mode(cpu);
    put(f, 0x21 * 4, 0x01001234, 4);
    cpu->gpr[RSP] = 0xffff0100;
    cpu->seg[CS].sel = 0x70;
    cpu_set_rflags(cpu, FLAG_IF | FLAG_ZF | 2);
    assert_true(cpu_interrupt(cpu, 0x21, INTERRUPT_SOFTWARE, false, 0));
    assert_int_equal(cpu->rip, 0x1234);
    assert_int_equal(cpu->seg[CS].base, 0x1000);
    assert_int_equal(cpu->gpr[RSP], 0xffff00fa);
    assert_int_equal(get(f, 0xfa, 8) & 0xffffffffffff, UINT64_C(0x024200701000));
    assert_int_equal(cpu_get_rflags(cpu), FLAG_ZF | 2);
    iret(f, 2);
    assert_int_equal(cpu->rip, FIXTURE_RIP);
    assert_int_equal(cpu->seg[CS].sel, 0x70);
    assert_int_equal(cpu->gpr[RSP], 0xffff0100);
    assert_int_equal(cpu_get_rflags(cpu), FLAG_IF | FLAG_ZF | 2);
}

/* A frame that wraps at the end of a 16-bit stack is written item by item. */
static void test_stack_wraps(void **state)
{
    struct fixture *f = *state;
    struct cpu *cpu = f->cpu;

    fixture_set_mode(f, 16);
    cpu->cr0 &= ~(uint64_t)CR0_PE;
    cpu->idtr = (struct desc_table){0x3000, 0x3ff};
    cpu_update_mode(cpu);
    cpu->gpr[RSP] = 2;
    assert_true(cpu_interrupt(cpu, 0, INTERRUPT_HARDWARE, false, 0));
    assert_int_equal(cpu->gpr[RSP], 0xfffc);
    assert_int_equal(get(f, 0xfffc, 2), FIXTURE_RIP);
    assert_int_equal(get(f, 0, 2), 2);
}

static void test_inner_level(void **state)
{
    static const uint32_t frame[] = {
        0x1234, FIXTURE_RIP, CODE3, FLAG_IF | FLAG_CF | 2 | FLAG_RF, USER_STACK, DATA3};
    struct fixture *f = *state;
    struct cpu *cpu = enter_32(f, 3);

    put_gate(f, EXC_GP, CODE0, 0x8e, 0);
    cpu_raise_gp(cpu, 0x1234);
    cpu_deliver_exception(cpu);
    assert_int_equal(cpu->rip, HANDLER);
    assert_int_equal(cpu->cpl, 0);
    assert_int_equal(cpu->seg[CS].sel, CODE0);
    assert_int_equal(cpu->seg[SS].sel, DATA0);
    assert_int_equal(cpu->gpr[RSP], KERNEL_STACK - sizeof frame);
    assert_memory_equal(f->ram + cpu->gpr[RSP], frame, sizeof frame);
    assert_int_equal(cpu_get_rflags(cpu), FLAG_CF | 2);
    cpu->gpr[RSP] += 4;
    iret(f, 4);
    assert_int_equal(cpu->cpl, 3);
    assert_int_equal(cpu->rip, FIXTURE_RIP);
    assert_int_equal(cpu->gpr[RSP], USER_STACK);
    assert_int_equal(cpu->seg[CS].sel, CODE3);
    assert_int_equal(cpu->seg[SS].sel, DATA3);
    assert_int_equal(cpu_get_rflags(cpu), FLAG_IF | FLAG_CF | 2 | FLAG_RF);
}

/* Data segments of the kernel don't survive a return to the program. */
static void test_iret_drops_segments(void **state)
{
    struct fixture *f = *state;
    struct cpu *cpu = enter_32(f, 3);

    put_gate(f, 0x80, CODE0, 0xef, 0);
    assert_true(cpu_interrupt(cpu, 0x80, INTERRUPT_SOFTWARE, false, 0));
    assert_true(segment_load(cpu, DS, DATA0));
    iret(f, 4);
    assert_int_equal(cpu->seg[DS].attr & SEG_P, 0);
    assert_int_equal(cpu->seg[ES].sel, DATA3);
}

/* A 16-bit gate and a 286 TSS: everything is pushed as words. */
static void test_16bit_gate_and_tss(void **state)
{
    static const uint16_t frame[] = {0x18,       FIXTURE_RIP, CODE3, FLAG_IF | FLAG_CF | 2,
                                     USER_STACK, DATA3};
    struct fixture *f = *state;
    struct cpu *cpu = enter_32(f, 3);

    cpu->tr.attr = 0x83;
    cpu->tr.limit = 0x2b;
    put(f, TSS + 2, KERNEL_STACK | DATA0 << 16, 4);
    put_gate(f, EXC_TS, CODE0, 0x87, 0);
    assert_true(cpu_interrupt(cpu, EXC_TS, INTERRUPT_EXCEPTION, true, 0x18));
    assert_int_equal(cpu->gpr[RSP], KERNEL_STACK - sizeof frame);
    assert_memory_equal(f->ram + cpu->gpr[RSP], frame, sizeof frame);
    assert_int_equal(cpu->rflags & FLAG_IF, FLAG_IF); /* a trap gate */
    cpu->gpr[RSP] += 2;
    iret(f, 2);
    assert_int_equal(cpu->cpl, 3);
    assert_int_equal(cpu->gpr[RSP], USER_STACK);
}

/* A conforming handler runs with the privilege of the interrupted program, on its stack. */
static void test_conforming_handler(void **state)
{
    struct fixture *f = *state;
    struct cpu *cpu = enter_32(f, 3);

    put_descriptor(f, CODE0, 0, 0xfffff, ATTR_CODE32 | SEG_EXPAND_DOWN);
    put_gate(f, 0x40, CODE0, 0x8e, 0);
    assert_true(cpu_interrupt(cpu, 0x40, INTERRUPT_HARDWARE, false, 0));
    assert_int_equal(cpu->cpl, 3);
    assert_int_equal(cpu->seg[CS].sel, CODE0 | 3);
    assert_int_equal(cpu->gpr[RSP], USER_STACK - 12);
}

static void expect_fault(struct fixture *f, unsigned vector, enum interrupt_kind kind,
                         enum vector fault, uint32_t error)
{
    struct cpu before = *f->cpu;

    assert_false(cpu_interrupt(f->cpu, (uint8_t)vector, kind, false, 0));
    assert_exception(f->cpu, fault);
    assert_int_equal(f->cpu->exc.error, error);
    assert_unchanged(&before, f->cpu);
}

static void test_gate_faults(void **state)
{
    struct fixture *f = *state;
    struct cpu *cpu = enter_32(f, 3);

    put_gate(f, 0x40, CODE0, 0x8e, 0);
    expect_fault(f, 0x40, INTERRUPT_SOFTWARE, EXC_GP, 0x40 * 8 + 2);
    put_gate(f, 0x40, CODE0, 0x0e, 0);
    expect_fault(f, 0x40, INTERRUPT_HARDWARE, EXC_NP, 0x40 * 8 + 3);
    put_gate(f, 0x40, DATA0, 0x8e, 0);
    expect_fault(f, 0x40, INTERRUPT_HARDWARE, EXC_GP, DATA0 | 1);
    put_gate(f, 0x40, CODE0, 0x8e, 0);
    put(f, TSS + 8, DATA3, 2);
    expect_fault(f, 0x40, INTERRUPT_HARDWARE, EXC_TS, (DATA3 & ~3) | 1);
    put(f, TSS + 8, DATA0, 2);
    put_descriptor(f, DATA0, 0, KERNEL_STACK - 8, 0x4093);
    expect_fault(f, 0x40, INTERRUPT_HARDWARE, EXC_SS, DATA0 | 1);
    cpu->tr.limit = 8;
    expect_fault(f, 0x40, INTERRUPT_HARDWARE, EXC_TS, SEL_TSS | 1);
    cpu->idtr.limit = 0x40 * 8 + 6;
    expect_fault(f, 0x40, INTERRUPT_HARDWARE, EXC_GP, 0x40 * 8 + 3);
}

static void test_long_mode_ist(void **state)
{
    static const uint64_t frame[] = {FIXTURE_RIP, USER64, FLAG_IF | FLAG_CF | 2, USER_STACK, DATA3};
    struct fixture *f = *state;
    struct cpu *cpu = enter_64(f, 3);

    put_gate(f, EXC_NMI, CODE64, 0x8e, 1);
    cpu_signal(cpu, ATTN_NMI);
    assert_true(cpu_event_ready(cpu));
    assert_true(cpu_take_event(cpu));
    assert_int_equal(cpu->gpr[RSP], (IST_STACK & ~15u) - sizeof frame);
    assert_memory_equal(f->ram + cpu->gpr[RSP], frame, sizeof frame);
    assert_int_equal(cpu->seg[SS].sel, 0);
    assert_int_equal(cpu->cpl, 0);
    cpu_signal(cpu, ATTN_NMI);
    assert_false(cpu_take_event(cpu)); /* blocked until IRET */
    iret(f, 8);
    assert_int_equal(cpu->cpl, 3);
    assert_int_equal(cpu->gpr[RSP], USER_STACK);
    assert_int_equal(cpu->seg[SS].sel, DATA3);
    assert_true(cpu_take_event(cpu));
}

static void test_double_and_triple_fault(void **state)
{
    struct fixture *f = *state;
    struct cpu *cpu = enter_64(f, 3);

    put_gate(f, EXC_DF, CODE64, 0x8e, 1);
    cpu_raise_gp(cpu, 0);
    cpu_deliver_exception(cpu); /* no gate for #GP */
    assert_int_equal(cpu->rip, HANDLER);
    assert_int_equal(get(f, cpu->gpr[RSP], 8), 0);
    assert_int_equal(cpu->stats.exceptions[EXC_DF], 1);
    put_gate(f, EXC_DF, CODE64, 0x0e, 1);
    cpu_raise_gp(cpu, 0);
    cpu_deliver_exception(cpu);
    assert_int_equal(cpu->activity, CPU_SHUTDOWN);
}

static void test_benign_exceptions_are_serial(void **state)
{
    struct fixture *f = *state;
    struct cpu *cpu = enter_64(f, 3);

    put_gate(f, EXC_GP, CODE64, 0x8e, 0);
    cpu_raise_ud(cpu);
    cpu_deliver_exception(cpu); /* #UD has no gate: #GP for the IDT entry, with EXT */
    assert_int_equal(cpu->rip, HANDLER);
    assert_int_equal(get(f, cpu->gpr[RSP], 8), EXC_UD * 8 + 3);
}

static int acknowledge(void *opaque)
{
    int *vector = opaque;

    return *vector;
}

static void test_external_interrupt(void **state)
{
    struct fixture *f = *state;
    struct cpu *cpu = enter_64(f, 0);
    int vector = 0x30;

    put_gate(f, 0x30, CODE64, 0x8e, 0);
    cpu->apic = (struct cpu_apic){.opaque = &vector, .acknowledge = acknowledge};
    cpu->gpr[RSP] = USER_STACK - 4; /* aligned by the processor, the old value is pushed */
    cpu->activity = CPU_HALTED;
    cpu->interrupt_shadow = true;
    cpu_signal(cpu, ATTN_INTR);
    assert_false(cpu_take_event(cpu));
    cpu->interrupt_shadow = false;
    assert_true(cpu_take_event(cpu));
    assert_int_equal(cpu->activity, CPU_ACTIVE);
    assert_int_equal(cpu->gpr[RSP], USER_STACK - 16 - 40);
    assert_int_equal(get(f, cpu->gpr[RSP] + 24, 8), USER_STACK - 4);
    assert_int_equal(cpu->stats.interrupts[0x30], 1);
    assert_false(cpu_event_ready(cpu)); /* the gate cleared IF */
    vector = -1;
    cpu_set_rflags(cpu, FLAG_IF | 2);
    assert_false(cpu_take_event(cpu));
}

static void test_page_fault_and_debug_registers(void **state)
{
    struct fixture *f = *state;
    struct cpu *cpu = enter_64(f, 3);

    put_gate(f, EXC_PF, CODE64, 0x8e, 0);
    put_gate(f, EXC_DB, CODE64, 0x8e, 0);
    cpu_raise_pf(cpu, 0x123456, PF_U | PF_W);
    cpu_deliver_exception(cpu);
    assert_int_equal(cpu->cr2, 0x123456);
    assert_int_equal(get(f, cpu->gpr[RSP], 8), PF_U | PF_W);
    cpu->dr[6] = 0xffff0ff1;
    cpu->dr[7] |= 0x2000;
    cpu_raise_db(cpu, 0x4002);
    cpu_deliver_exception(cpu);
    assert_int_equal(cpu->dr[6], 0xffff4ff2);
    assert_int_equal(cpu->dr[7] & 0x2000, 0);
    assert_int_equal(get(f, cpu->gpr[RSP] + 16, 8) & FLAG_RF, 0);
}

/* --- virtual-8086 mode --- */

static struct cpu *enter_vm86(struct fixture *f, unsigned iopl)
{
    struct cpu *cpu = enter_32(f, 0);

    for (unsigned i = 0; i < SEG_COUNT; i++)
        cpu->seg[i] = segment_vm86((uint16_t)(0x600 + i));
    cpu->gpr[RSP] = 0x100;
    cpu_set_rflags(cpu, FLAG_VM | FLAG_IF | iopl << 12 | 2);
    cpu_set_cpl(cpu, 3);
    return cpu;
}

static void test_vm86_and_back(void **state)
{
    static const uint32_t frame[] = {FIXTURE_RIP, 0x600 + CS, FLAG_VM | FLAG_IF | 2,
                                     0x100,       0x600 + SS, 0x600 + ES,
                                     0x600 + DS,  0x600 + FS, 0x600 + GS};
    struct fixture *f = *state;
    struct cpu *cpu = enter_vm86(f, 0);
    struct cpu before;

    put_gate(f, 0x30, CODE0, 0x8e, 0);
    before = *cpu;
    assert_true(cpu_interrupt(cpu, 0x30, INTERRUPT_HARDWARE, false, 0));
    assert_int_equal(cpu->gpr[RSP], KERNEL_STACK - sizeof frame);
    assert_memory_equal(f->ram + cpu->gpr[RSP], frame, sizeof frame);
    assert_int_equal(cpu->cpl, 0);
    assert_int_equal(cpu->seg[DS].attr & SEG_P, 0);
    assert_true(cpu->mode & MODE_PROTECTED);
    iret(f, 4);
    assert_unchanged(&before, cpu);
    expect_fault(f, 0x30, INTERRUPT_SOFTWARE, EXC_GP, 0); /* IOPL below 3 */
}

/* With VME and a clear bit in the map, INT n goes to the program's own handler. */
static void test_vme_redirection(void **state)
{
    struct fixture *f = *state;
    struct cpu *cpu = enter_vm86(f, 0);
    const uint32_t stack = (0x600 + SS) * 16;

    cpu->cr4 |= CR4_VME;
    cpu->tr.limit = 0xff;
    put(f, TSS + 0x66, 0x88, 2);
    put(f, 0x21 * 4, 0x07001234, 4);
    cpu_set_rflags(cpu, cpu_get_rflags(cpu) | FLAG_VIF);
    assert_true(cpu_interrupt(cpu, 0x21, INTERRUPT_SOFTWARE, false, 0));
    assert_int_equal(cpu->seg[CS].base, 0x7000);
    assert_int_equal(cpu->rip, 0x1234);
    assert_int_equal(cpu->gpr[RSP], 0xfa);
    assert_int_equal(get(f, stack + 0xfe, 2), FLAG_IOPL | FLAG_IF | 2);
    assert_int_equal(cpu->rflags & FLAG_VIF, 0);
    assert_int_equal(cpu->rflags & FLAG_IF, FLAG_IF);
    iret(f, 2);
    assert_int_equal(cpu->gpr[RSP], 0x100);
    assert_int_equal(cpu->rflags & FLAG_VIF, FLAG_VIF);
    assert_int_equal(cpu->rflags & FLAG_IOPL, 0);
}

/* --- far transfers --- */

static void test_call_gate_parameters(void **state)
{
    static const uint32_t frame[] = {FIXTURE_RIP, CODE3,          0x11111111,
                                     0x22222222,  USER_STACK - 8, DATA3};
    struct fixture *f = *state;
    struct cpu *cpu = enter_32(f, 3);
    struct insn in = fixture_insn(f, 4);

    put(f, GDT + (CALL_GATE & ~7), gate(CODE0, HANDLER, 0xec, 2), 8);
    cpu->gpr[RSP] = USER_STACK - 8;
    put(f, USER_STACK - 8, UINT64_C(0x2222222211111111), 8);
    in.imm2 = CALL_GATE;
    assert_true(op_call_far(cpu, &in));
    assert_int_equal(cpu->rip, HANDLER);
    assert_int_equal(cpu->cpl, 0);
    assert_int_equal(cpu->gpr[RSP], KERNEL_STACK - sizeof frame);
    assert_memory_equal(f->ram + cpu->gpr[RSP], frame, sizeof frame);
    in.imm = 8;
    assert_true(op_retf(cpu, &in));
    assert_int_equal(cpu->rip, FIXTURE_RIP);
    assert_int_equal(cpu->cpl, 3);
    assert_int_equal(cpu->gpr[RSP], USER_STACK);
}

static void test_far_faults(void **state)
{
    struct fixture *f = *state;
    struct cpu *cpu = enter_32(f, 3);
    struct insn in = fixture_insn(f, 4);

    in.imm2 = 0;
    assert_false(op_jmp_far(cpu, &in));
    assert_int_equal(cpu->exc.error, 0);
    in.imm2 = CODE0; /* more privileged, not conforming */
    assert_false(op_jmp_far(cpu, &in));
    assert_exception(cpu, EXC_GP);
    assert_int_equal(cpu->exc.error, CODE0);
    in.imm2 = 0x73; /* beyond the table */
    assert_false(op_call_far(cpu, &in));
    assert_int_equal(cpu->exc.error, 0x70);
    put_descriptor(f, CODE3, 0, 0xfffff, (ATTR_CODE32 | DPL3) & ~0x80u);
    in.imm2 = CODE3;
    assert_false(op_call_far(cpu, &in));
    assert_exception(cpu, EXC_NP);
    assert_int_equal(cpu->gpr[RSP], USER_STACK);
}

/* --- tasks --- */

static void put_task(struct fixture *f)
{
    put_descriptor(f, SEL_TSS_B, TSS_B, 0x67, 0x89);
    put(f, TSS_B + 32, HANDLER, 4);
    put(f, TSS_B + 36, FLAG_ZF | 2, 4);
    put(f, TSS_B + 56, 0xb000, 4); /* ESP */
    for (unsigned i = 0; i < 6; i++)
        put(f, TSS_B + 72 + 4 * i, i == CS ? CODE0 : DATA0, 2);
}

static void test_task_call_and_return(void **state)
{
    struct fixture *f = *state;
    struct cpu *cpu = enter_32(f, 0);
    struct insn in = fixture_insn(f, 4);

    put_task(f);
    cpu->gpr[RBX] = 0x12345678;
    in.imm2 = SEL_TSS_B;
    assert_true(op_call_far(cpu, &in));
    assert_int_equal(cpu->rip, HANDLER);
    assert_int_equal(cpu->tr.sel, SEL_TSS_B);
    assert_int_equal(cpu->gpr[RSP], 0xb000);
    assert_int_equal(cpu_get_rflags(cpu), FLAG_ZF | FLAG_NT | 2);
    assert_int_equal(get(f, TSS_B, 2), SEL_TSS);
    assert_int_equal(get(f, GDT + SEL_TSS_B + 5, 1), 0x8b);
    assert_int_equal(get(f, GDT + SEL_TSS + 5, 1), 0x8b);
    assert_int_equal(get(f, TSS + 32, 4), FIXTURE_RIP);
    assert_true(cpu->cr0 & CR0_TS);
    iret(f, 4);
    assert_int_equal(cpu->rip, FIXTURE_RIP);
    assert_int_equal(cpu->gpr[RBX], 0x12345678);
    assert_int_equal(cpu->gpr[RSP], USER_STACK);
    assert_int_equal(get(f, GDT + SEL_TSS_B + 5, 1), 0x89);
    assert_int_equal(get(f, TSS_B + 36, 4), FLAG_ZF | 2);
    assert_int_equal(cpu_get_rflags(cpu), FLAG_IF | FLAG_CF | 2);
}

static void test_task_gate_pushes_error(void **state)
{
    struct fixture *f = *state;
    struct cpu *cpu = enter_32(f, 3);

    put_task(f);
    put_gate(f, EXC_GP, SEL_TSS_B, 0x85, 0);
    cpu_raise_gp(cpu, 0x1230);
    cpu_deliver_exception(cpu);
    assert_int_equal(cpu->cpl, 0);
    assert_int_equal(cpu->gpr[RSP], 0xaffc);
    assert_int_equal(get(f, 0xaffc, 4), 0x1230);
    assert_int_equal(get(f, TSS + 36, 4) & FLAG_RF, FLAG_RF);
}

/* A fault before the commit point is the old task's, one after it the new task's. */
static void test_task_faults(void **state)
{
    struct fixture *f = *state;
    struct cpu *cpu = enter_32(f, 0);
    struct insn in = fixture_insn(f, 4);
    struct cpu before = *cpu;

    put_task(f);
    put_gate(f, EXC_TS, CODE0, 0x8e, 0);
    in.imm2 = SEL_TSS_B;
    put_descriptor(f, SEL_TSS_B, TSS_B, 0x66, 0x89);
    assert_false(op_jmp_far(cpu, &in));
    assert_exception(cpu, EXC_TS);
    assert_int_equal(cpu->exc.error, SEL_TSS_B);
    assert_unchanged(&before, cpu);

    put_descriptor(f, SEL_TSS_B, TSS_B, 0x67, 0x89);
    put(f, TSS_B + 72 + 4 * DS, CODE64 + 0x100, 2);
    assert_true(op_jmp_far(cpu, &in));
    assert_int_equal(cpu->tr.sel, SEL_TSS_B);
    assert_int_equal(get(f, cpu->gpr[RSP], 4), CODE64 + 0x100);
    assert_int_equal(get(f, cpu->gpr[RSP] + 4, 4), HANDLER);
    assert_int_equal(get(f, GDT + SEL_TSS + 5, 1), 0x89);
}

/* A 286 task: words only, and the upper halves of the registers are ones. */
static void test_task_16bit(void **state)
{
    struct fixture *f = *state;
    struct cpu *cpu = enter_32(f, 0);
    struct insn in = fixture_insn(f, 4);

    put_descriptor(f, SEL_TSS_B, TSS_B, 0x2b, 0x81);
    put(f, TSS_B + 14, HANDLER, 2);
    put(f, TSS_B + 18, 0x1234, 2); /* AX */
    put(f, TSS_B + 34, DATA0 | CODE0 << 16 | (uint64_t)DATA0 << 32 | (uint64_t)DATA0 << 48, 8);
    in.imm2 = SEL_TSS_B;
    assert_true(op_jmp_far(cpu, &in));
    assert_int_equal(cpu->rip, HANDLER);
    assert_int_equal(cpu->gpr[RAX], 0xffff1234);
    assert_int_equal(cpu->seg[FS].sel, 0);
    assert_int_equal(get(f, GDT + SEL_TSS_B + 5, 1), 0x83);
    assert_int_equal(get(f, GDT + SEL_TSS + 5, 1), 0x89);
}

/* --- system calls --- */

static void test_syscall_and_sysret(void **state)
{
    struct fixture *f = *state;
    struct cpu *cpu = enter_64(f, 3);
    struct insn in = fixture_insn(f, 8);

    assert_false(op_syscall(cpu, &in)); /* EFER.SCE is clear */
    assert_exception(cpu, EXC_UD);
    cpu->efer |= EFER_SCE;
    cpu->star = UINT64_C(0x0013000800000000);
    cpu->lstar = UINT64_C(0xffffffff81000000);
    cpu->fmask = FLAG_IF | FLAG_CF;
    assert_true(op_syscall(cpu, &in));
    assert_int_equal(cpu->gpr[RCX], FIXTURE_RIP);
    assert_int_equal(cpu->gpr[R11], FLAG_IF | FLAG_CF | 2);
    assert_int_equal(cpu_get_rflags(cpu), 2);
    assert_int_equal(cpu->rip, cpu->lstar);
    assert_int_equal(cpu->cpl, 0);
    assert_int_equal(cpu->seg[CS].sel, 0x08);
    assert_int_equal(cpu->seg[SS].sel, 0x10);
    assert_true(op_sysret(cpu, &in));
    assert_int_equal(cpu->rip, FIXTURE_RIP);
    assert_int_equal(cpu->cpl, 3);
    assert_int_equal(cpu->seg[CS].sel, 0x23);
    assert_int_equal(cpu->seg[SS].sel, 0x1b);
    assert_true(cpu_is_64bit(cpu));
    assert_int_equal(cpu_get_rflags(cpu), FLAG_IF | FLAG_CF | 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_real_mode),
        TEST(test_stack_wraps),
        TEST(test_inner_level),
        TEST(test_iret_drops_segments),
        TEST(test_16bit_gate_and_tss),
        TEST(test_conforming_handler),
        TEST(test_gate_faults),
        TEST(test_long_mode_ist),
        TEST(test_double_and_triple_fault),
        TEST(test_benign_exceptions_are_serial),
        TEST(test_external_interrupt),
        TEST(test_page_fault_and_debug_registers),
        TEST(test_vm86_and_back),
        TEST(test_vme_redirection),
        TEST(test_call_gate_parameters),
        TEST(test_far_faults),
        TEST(test_task_call_and_return),
        TEST(test_task_gate_pushes_error),
        TEST(test_task_faults),
        TEST(test_task_16bit),
        TEST(test_syscall_and_sysret),
    };

    return cmocka_run_group_tests_name("interrupt", tests, NULL, NULL);
}
