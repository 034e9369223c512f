/* Protected-mode machinery on garbage: random tables, registers, modes and page tables. Nothing is
 * expected of the results, but every operation ends, an instruction that fails has recorded an
 * exception, and one that fails leaves registers and segments alone. */
#include "cpu_fixture.h"

#include "cpu/descriptor.h"
#include "cpu/far.h"
#include "cpu/interrupt.h"
#include "cpu/segment.h"
#include "cpu/syscall.h"

#include <Zydis/Zydis.h>

#define ROUNDS 40000
#define TABLES 0x3000u /* random bytes from here... */
#define TABLES_SIZE 0x3000u

static uint64_t random_state = 0x2545f4914f6cdd1d;

static uint64_t random64(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

/* An address that is mostly within RAM. */
static uint64_t random_address(void)
{
    uint64_t v = random64();

    switch (v >> 60) {
    case 0: return v << 20;
    case 1: return UINT64_MAX - (v & 0xff);
    case 2: return UINT32_MAX - (v & 0xff);
    default: return v & (FIXTURE_RAM - 1);
    }
}

static uint16_t random_selector(void)
{
    return (uint16_t)(random64() & 0x1f7);
}

/* Descriptors whose types are plausible, so that the checks are passed now and then. */
static void random_tables(struct fixture *f)
{
    for (unsigned i = 0; i < TABLES_SIZE; i += 8) {
        uint64_t d = random64();

        if (random64() & 3)
            d |= UINT64_C(0x8000) << 32; /* present */
        if (random64() & 1)
            d = (d & ~UINT64_C(0xfff8ffff)) | (random64() & 0xffff); /* selector in the table */
        memcpy(f->ram + TABLES + i, &d, 8);
    }
}

static void random_segment(struct segment *s, unsigned cpl)
{
    *s = (struct segment){.base = (uint32_t)random_address(),
                          .limit = (uint32_t)random64() >> (random64() & 31),
                          .sel = random_selector(),
                          .attr = (uint16_t)(random64() & 0xf0ff)};
    if (random64() & 3)
        s->attr = (uint16_t)(SEG_P | SEG_S | SEG_WRITABLE | SEG_DB | cpl << SEG_DPL_SHIFT);
}

static void random_mode(struct cpu *cpu)
{
    bool protected = random64() & 7, long_mode = protected && (random64() & 1);
    bool paging = protected && random64() % 4 == 0;

    cpu->cr0 = (protected ? CR0_PE : 0) | (paging || long_mode ? CR0_PG : 0) | CR0_WP;
    cpu->cr4 = random64() & (CR4_VME | CR4_PSE | CR4_UMIP | CR4_FSGSBASE | CR4_SMEP | CR4_SMAP);
    cpu->cr4 |= long_mode ? CR4_PAE : 0;
    cpu->efer = (random64() & (EFER_SCE | EFER_NXE)) | (long_mode ? EFER_LME | EFER_LMA : 0);
    cpu->cr3 = TABLES;
    cpu_set_rflags(cpu, random64() & FLAGS_ALL & (protected && !long_mode ? ~0u : ~FLAG_VM));
    cpu->cpl = cpu->rflags & FLAG_VM ? 3 : protected ? random64() & 3 : 0;
    tlb_flush_all(cpu);
}

static void random_cpu(struct cpu *cpu)
{
    random_mode(cpu);
    for (unsigned i = 0; i < 16; i++)
        cpu->gpr[i] = random_address();
    cpu->rip = random_address();
    for (unsigned i = 0; i < SEG_COUNT; i++)
        random_segment(&cpu->seg[i], cpu->cpl);
    cpu->seg[CS].attr |= SEG_CODE;
    random_segment(&cpu->ldtr, 0);
    random_segment(&cpu->tr, 0);
    cpu->tr.base = TABLES + 0x1000 + (random64() & 0xff);
    cpu->gdtr = (struct desc_table){TABLES, 0x1ff};
    cpu->idtr = (struct desc_table){TABLES + 0x800, 0xfff};
    cpu->star = random64();
    cpu->sysenter_cs = random_selector();
    cpu->activity = CPU_ACTIVE;
    cpu->exc.pending = false;
    cpu_update_mode(cpu);
}

/* Long mode with tables that map RAM to itself, so that more than the walk is reached. */
static void map_identity(struct fixture *f)
{
    const uint64_t entries[3] = {0xf1007, 0xf2007, 0x87};

    if (!(f->cpu->cr0 & CR0_PG) || !(f->cpu->efer & EFER_LMA) || !(random64() & 7))
        return;
    for (unsigned i = 0; i < 3; i++) {
        memset(f->ram + 0xf0000 + i * 0x1000, 0, 0x1000);
        memcpy(f->ram + 0xf0000 + i * 0x1000, &entries[i], 8);
    }
    f->cpu->cr3 = 0xf0000;
    f->cpu->cr4 &= ~(uint64_t)(CR4_SMAP | CR4_SMEP);
}

static struct insn random_insn(const struct cpu *cpu)
{
    static const uint16_t far_loads[] = {ZYDIS_MNEMONIC_LDS, ZYDIS_MNEMONIC_LES, ZYDIS_MNEMONIC_LSS,
                                         ZYDIS_MNEMONIC_LFS, ZYDIS_MNEMONIC_LGS};
    bool wide = cpu_is_64bit(cpu);

    return (struct insn){.imm = (int64_t)random_address(),
                         .imm2 = random_selector(),
                         .mnemonic = far_loads[random64() % ARRAY_SIZE(far_loads)],
                         .flags = random64() & INSN_MEM,
                         .osize = (uint8_t)(2u << random64() % (wide ? 3 : 2)),
                         .asize = wide ? 8 : 4,
                         .seg = (uint8_t)(random64() % SEG_COUNT),
                         .base = (uint8_t)(random64() & 15),
                         .index = REG_NONE,
                         .reg = (uint8_t)(random64() & 7),
                         .rm = (uint8_t)(random64() & 15)};
}

static helper_fn *const helpers[] = {
    op_jmp_far,     op_call_far,      op_retf,      op_iret,     op_int,      op_int3,
    op_into,        op_int1,          op_syscall,   op_sysret,   op_sysenter, op_sysexit,
    op_swapgs,      op_rdfsbase,      op_wrgsbase,  op_lxs,      op_lar,      op_lsl,
    op_verr,        op_verw,          op_arpl,      op_lldt,     op_ltr,      op_sldt,
    op_mov_to_sreg, op_mov_from_sreg, op_push_sreg, op_pop_sreg, op_lgdt,     op_sidt,
};

static void run_helper(struct cpu *cpu, helper_fn *helper)
{
    struct insn in = random_insn(cpu);
    struct cpu before = *cpu;

    if (helper(cpu, &in))
        return;
    assert_true(cpu->exc.pending);
    assert_memory_equal(before.gpr, cpu->gpr, sizeof cpu->gpr);
    assert_memory_equal(before.seg, cpu->seg, sizeof cpu->seg);
    assert_memory_equal(&before.tr, &cpu->tr, sizeof cpu->tr);
    assert_int_equal(cpu_get_rflags(&before), cpu_get_rflags(cpu));
    assert_int_equal(before.cpl, cpu->cpl);
}

static void test_garbage(void **state)
{
    struct fixture *f = *state;
    struct cpu *cpu = f->cpu;

    for (unsigned i = 0; i < ROUNDS; i++) {
        if (i % 16 == 0)
            random_tables(f);
        random_cpu(cpu);
        map_identity(f);
        run_helper(cpu, helpers[random64() % ARRAY_SIZE(helpers)]);
        if (cpu->exc.pending)
            cpu_deliver_exception(cpu);
        assert_false(cpu->exc.pending);
        assert_in_range(cpu->cpl, 0, 3);
        cpu->activity = CPU_ACTIVE;
        cpu->nmi_blocked = false;
        cpu_signal(cpu, ATTN_NMI);
        (void)cpu_take_event(cpu);
        assert_false(cpu->exc.pending);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_garbage, fixture_setup, fixture_teardown),
    };

    return cmocka_run_group_tests_name("control_fuzz", tests, NULL, NULL);
}
