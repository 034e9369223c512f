/* test_system.c - flags, I/O permission, control and debug registers, and saving the CPU's state.
 */
#include "cpu_fixture.h"

#include "base/state.h"
#include "cpu/cr.h"
#include "cpu/io.h"
#include "cpu/system.h"

#include <errno.h>

#define STACK 0x8000u
#define TSS 0x20000u

static void enter_vm86(struct fixture *f, unsigned iopl)
{
    fixture_set_mode(f, 16);
    cpu_set_rflags(f->cpu, FLAG_VM | FLAG_IF | iopl << 12);
    cpu_set_cpl(f->cpu, 3);
    f->cpu->gpr[RSP] = STACK;
}

static uint64_t popf(struct fixture *f, uint64_t v, unsigned osize)
{
    struct insn in = fixture_insn(f, osize);

    memcpy(f->ram + STACK, &v, 8);
    f->cpu->gpr[RSP] = STACK;
    assert_true(op_popf(f->cpu, &in));
    assert_int_equal(f->cpu->gpr[RSP], STACK + osize);
    return cpu_get_rflags(f->cpu);
}

static void test_popf_by_privilege(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(popf(f, UINT32_MAX, 8),
                     (FLAGS_ALL & ~(FLAG_RF | FLAG_VM | FLAG_VIF | FLAG_VIP)) | 2);
    assert_int_equal(popf(f, 0, 2), FLAG_AC | FLAG_ID | 2);
    assert_int_equal(popf(f, 0, 8), 2);
    cpu_set_cpl(f->cpu, 3);
    assert_int_equal(popf(f, FLAG_IF | FLAG_IOPL | FLAG_CF, 8), FLAG_CF | 2);
    cpu_set_rflags(f->cpu, FLAG_IOPL);
    assert_int_equal(popf(f, FLAG_IF, 8), FLAG_IOPL | FLAG_IF | 2);
}

static void test_flags_in_vm86(void **state)
{
    struct fixture *f = *state;
    struct insn in;
    uint16_t v;

    enter_vm86(f, 0);
    in = fixture_insn(f, 2);
    assert_false(op_pushf(f->cpu, &in));
    assert_exception(f->cpu, EXC_GP);
    assert_false(op_cli(f->cpu, &in));
    f->cpu->cr4 |= CR4_VME;
    assert_true(op_sti(f->cpu, &in));
    assert_true(f->cpu->rflags & FLAG_VIF);
    assert_true(op_pushf(f->cpu, &in));
    memcpy(&v, f->ram + STACK - 2, 2);
    assert_int_equal(v, FLAG_IF | FLAG_IOPL | 2);
    assert_true(op_cli(f->cpu, &in));
    assert_true(f->cpu->rflags & FLAG_IF);
    assert_false(f->cpu->rflags & FLAG_VIF);
    f->cpu->rflags |= FLAG_VIP;
    assert_false(op_sti(f->cpu, &in));
    assert_false(op_popf(f->cpu, &in)); /* IF = 1 while VIP is set */
    assert_int_equal(f->cpu->gpr[RSP], STACK - 2);
}

static void test_sti_has_a_shadow(void **state)
{
    struct fixture *f = *state;
    struct insn in = fixture_insn(f, 0);

    cpu_set_rflags(f->cpu, 0);
    assert_true(op_sti(f->cpu, &in));
    assert_true(f->cpu->interrupt_shadow);
    f->cpu->interrupt_shadow = false;
    assert_true(op_sti(f->cpu, &in));
    assert_false(f->cpu->interrupt_shadow);
}

static void set_tss(struct fixture *f, uint16_t map_base, uint32_t limit)
{
    f->cpu->tr = (struct segment){.base = TSS, .limit = limit, .sel = 0x40, .attr = SEG_P | 11};
    memset(f->ram + TSS, 0, 0x3000);
    memcpy(f->ram + TSS + 0x66, &map_base, 2);
}

static void test_io_bitmap(void **state)
{
    struct fixture *f = *state;

    set_tss(f, 0x68, 0x68 + 8192);
    assert_true(io_allowed(f->cpu, 0x3f8, 4));
    cpu_set_cpl(f->cpu, 3);
    assert_true(io_allowed(f->cpu, 0x3f8, 4));
    assert_true(io_allowed(f->cpu, 0xffff, 1));
    f->ram[TSS + 0x68 + 0x3f8 / 8] = 1 << 3;
    assert_true(io_allowed(f->cpu, 0x3f9, 2));
    assert_false(io_allowed(f->cpu, 0x3f9, 4));
    assert_exception(f->cpu, EXC_GP);
    f->cpu->tr.limit = 0x68 + 8191;
    assert_false(io_allowed(f->cpu, 0xffff, 1));
    f->cpu->tr.limit = 0x66;
    assert_false(io_allowed(f->cpu, 0, 1));
    f->cpu->tr.limit = UINT32_MAX;
    f->cpu->tr.attr = SEG_P | 3; /* a 16-bit TSS has no bitmap */
    assert_false(io_allowed(f->cpu, 0, 1));
    cpu_set_rflags(f->cpu, FLAG_IOPL);
    assert_true(io_allowed(f->cpu, 0, 1));
}

static void test_rep_ins_and_outs(void **state)
{
    struct fixture *f = *state;
    struct insn in = fixture_insn(f, 2);

    in.flags = INSN_REP;
    f->cpu->gpr[RCX] = 5000;
    f->cpu->gpr[RDI] = 0x10000;
    assert_true(op_ins(f->cpu, &in)); /* nobody answers: all ones */
    assert_int_equal(f->cpu->gpr[RCX], 5000 - 4096);
    assert_int_equal(f->cpu->rip, FIXTURE_RIP - in.len);
    assert_int_equal(f->ram[0x10000 + 8191], 0xff);
    assert_int_equal(f->ram[0x10000 + 8192], 0);
    assert_int_equal(f->cpu->icount, 4095); /* each iteration; the engine counts the last */
    f->cpu->rip = FIXTURE_RIP;
    f->cpu->icount_limit = f->cpu->icount + 7;
    assert_true(op_ins(f->cpu, &in));
    assert_int_equal(f->cpu->gpr[RCX], 5000 - 4096 - 7);
    f->cpu->rip = FIXTURE_RIP;
    f->cpu->icount_limit = UINT64_MAX;
    assert_true(op_ins(f->cpu, &in));
    assert_int_equal(f->cpu->gpr[RCX], 0);
    assert_int_equal(f->cpu->gpr[RDI], 0x10000 + 10000);
    assert_int_equal(f->cpu->rip, FIXTURE_RIP);
    f->cpu->rflags |= FLAG_DF;
    in.flags = 0;
    f->cpu->gpr[RSI] = 0x100;
    assert_true(op_outs(f->cpu, &in));
    assert_int_equal(f->cpu->gpr[RSI], 0xfe);
}

static void test_cr0(void **state)
{
    struct fixture *f = *state;

    fixture_set_mode(f, 32);
    assert_false(cpu_write_cr0(f->cpu, CR0_PG));
    assert_false(cpu_write_cr0(f->cpu, CR0_PE | CR0_NW));
    assert_false(cpu_write_cr0(f->cpu, UINT64_C(1) << 32));
    f->cpu->efer = EFER_LME;
    assert_false(cpu_write_cr0(f->cpu, CR0_PE | CR0_PG)); /* without CR4.PAE */
    f->cpu->cr4 = CR4_PAE;
    assert_true(cpu_write_cr0(f->cpu, CR0_PE | CR0_PG));
    assert_int_equal(f->cpu->efer, EFER_LME | EFER_LMA);
    assert_true(f->cpu->mode & MODE_LONG);
    assert_true(cpu_write_cr0(f->cpu, CR0_PE | CR0_TS));
    assert_int_equal(f->cpu->efer, EFER_LME);
    assert_true(f->cpu->mode & MODE_NO_FPU);
}

static void test_debug_registers(void **state)
{
    struct fixture *f = *state;
    struct insn in = fixture_insn(f, 8);

    in.reg = 7;
    in.rm = RAX;
    f->cpu->gpr[RAX] = UINT32_MAX & ~0x2000u;
    assert_true(op_mov_to_dr(f->cpu, &in));
    assert_int_equal(f->cpu->dr[7], 0xffff07ff);
    in.reg = 5; /* another name of DR7 */
    assert_true(op_mov_from_dr(f->cpu, &in));
    assert_int_equal(f->cpu->gpr[RAX], 0xffff07ff);
    f->cpu->cr4 |= CR4_DE;
    assert_false(op_mov_from_dr(f->cpu, &in));
    assert_exception(f->cpu, EXC_UD);
    f->cpu->dr[7] |= 0x2000;
    in.reg = 0;
    memset(&f->cpu->exc, 0, sizeof(f->cpu->exc));
    assert_false(op_mov_to_dr(f->cpu, &in));
    assert_exception(f->cpu, EXC_DB);
}

static void test_state_round_trip(void **state)
{
    struct fixture *f = *state;
    struct state_list *list = state_list_new();
    uint8_t *data = NULL;
    size_t size = 0;
    struct err err;

    state_add(list, &cpu_state_desc, 0, f->cpu);
    cpu_reset(f->cpu, false);
    f->cpu->gpr[R15] = 42;
    f->cpu->ymm[15].q[3] = 43;
    cpu_signal(f->cpu, ATTN_NMI);
    assert_int_equal(state_save(list, &data, &size, &err), 0);
    cpu_reset(f->cpu, false);
    assert_int_equal(state_load(list, data, size, &err), 0);
    assert_int_equal(f->cpu->gpr[R15], 42);
    assert_int_equal(f->cpu->ymm[15].q[3], 43);
    assert_true(atomic_load(&f->cpu->attention) & ATTN_NMI);
    free(data);
    state_list_free(list);
}

static void assert_state_refused(struct fixture *f)
{
    struct err err;

    assert_int_equal(cpu_state_desc.loaded(f->cpu, &err), -EINVAL);
    cpu_reset(f->cpu, false);
    assert_int_equal(cpu_state_desc.loaded(f->cpu, &err), 0);
}

static void test_hostile_state(void **state)
{
    struct fixture *f = *state;

    cpu_reset(f->cpu, false);
    f->cpu->cpl = 4;
    assert_state_refused(f);
    f->cpu->cr0 = CR0_PG;
    assert_state_refused(f);
    f->cpu->cr4 = UINT64_MAX;
    assert_state_refused(f);
    f->cpu->efer = EFER_LMA;
    assert_state_refused(f);
    f->cpu->xcr0 = 5;
    assert_state_refused(f);
    f->cpu->mxcsr = UINT32_MAX;
    assert_state_refused(f);
    f->cpu->activity = 17;
    assert_state_refused(f);
    f->cpu->pat = 2;
    assert_state_refused(f);
    memset(&f->cpu->nmi_blocked, 2, 1);
    assert_state_refused(f);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_popf_by_privilege), CASE(test_flags_in_vm86),    CASE(test_sti_has_a_shadow),
        CASE(test_io_bitmap),         CASE(test_rep_ins_and_outs), CASE(test_cr0),
        CASE(test_debug_registers),   CASE(test_state_round_trip), CASE(test_hostile_state),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
