/* test_lapic_loan.c - a local APIC's state goes elsewhere and comes back. */
#include "rig.h"

#include "dev/lapic.h"
#include "dev/lapic_loan.h"

#include <string.h>

enum { INTR, NMI, SMI, INIT };

#define TPR 0x080
#define SVR 0x0f0
#define LVT_T 0x320
#define LVT_L0 0x350
#define INITIAL 0x380
#define CURRENT 0x390
#define DIVIDE 0x3e0

#define PAGE_REG(offset) ((offset) / 16)
#define IRR 0x200

struct system {
    struct rig *rig;
    struct apic_bus bus;
    struct lapic apic;
    struct cpu_apic_page page;
    int pic_vector, eoi;
    uint64_t address; /* of the message that was delivered last */
    uint32_t data;
    unsigned messages;
};

static int pic_acknowledge(void *opaque)
{
    return ((struct system *)opaque)->pic_vector;
}

static void got_eoi(void *opaque, uint8_t vector)
{
    ((struct system *)opaque)->eoi = vector;
}

static void deliver(void *opaque, uint64_t address, uint32_t data)
{
    struct system *s = opaque;

    s->address = address;
    s->data = data;
    s->messages++;
}

static int set_up(void **state)
{
    struct system *s = calloc(1, sizeof *s);
    struct lapic_wiring wiring;

    assert_non_null(s);
    s->rig = rig_new();
    wiring = (struct lapic_wiring){
        .clock = &s->rig->clock,
        .bus = &s->bus,
        .phys_bits = 40,
        .intr = rig_line(s->rig, INTR),
        .nmi = rig_line(s->rig, NMI),
        .smi = rig_line(s->rig, SMI),
        .init = rig_line(s->rig, INIT),
        .pic_acknowledge = pic_acknowledge,
        .pic_opaque = s,
    };
    apic_bus_init(&s->bus);
    apic_bus_set_eoi(&s->bus, got_eoi, s);
    assert_int_equal(lapic_init(&s->apic, 0, &wiring), 0);
    assert_int_equal(apic_bus_add(&s->bus, &s->apic), 0);
    lapic_mmio_write(&s->apic, SVR, 0x1ff);
    *state = s;
    return 0;
}

static int tear_down(void **state)
{
    struct system *s = *state;

    rig_free(s->rig);
    free(s);
    return 0;
}

static void borrow(struct system *s)
{
    lapic_borrow(&s->apic, &s->page, deliver, s);
}

static void send(struct system *s, uint32_t dest, bool level, uint8_t vector)
{
    apic_deliver(&s->bus, &(struct apic_message){.dest = dest, .level = level, .vector = vector});
}

/* Registers that differ from their values after reset, one pending interrupt and one in service. */
static void comes_back_as_it_went(void **state)
{
    struct system *s = *state;
    struct lapic before;

    lapic_mmio_write(&s->apic, TPR, 0x20);
    lapic_mmio_write(&s->apic, 0x0d0, 0x05000000);
    lapic_mmio_write(&s->apic, 0x350, 0x00700);
    lapic_mmio_write(&s->apic, 0x310, 0x01000000);
    send(s, 0, true, 0x51);
    assert_int_equal(lapic_acknowledge(&s->apic), 0x51);
    send(s, 0, false, 0x61);
    before = s->apic;
    borrow(s);
    assert_false(s->rig->level[INTR]); /* LINT0 is low, and that is all that counts now */
    lapic_give_back(&s->apic, &s->page);
    assert_true(s->rig->level[INTR]);
    assert_int_equal(memcmp(&before, &s->apic, sizeof before), 0);
    assert_int_equal(lapic_acknowledge(&s->apic), 0x61);
}

static void changes_come_back(void **state)
{
    struct system *s = *state;

    borrow(s);
    assert_int_equal(s->page.regs[PAGE_REG(SVR)], 0x1ff);
    s->page.regs[PAGE_REG(IRR) + 2] = 1u << 7; /* 47h */
    s->page.regs[PAGE_REG(TPR)] = 0x30;
    lapic_give_back(&s->apic, &s->page);
    assert_int_equal(lapic_mmio_read(&s->apic, TPR), 0x30);
    assert_true(s->rig->level[INTR]);
    assert_int_equal(lapic_acknowledge(&s->apic), 0x47);
}

static void messages_go_to_the_borrower(void **state)
{
    struct system *s = *state;

    borrow(s);
    send(s, 3, true, 0x71);
    assert_int_equal(s->messages, 1);
    assert_int_equal(s->address, 0xfee03000);
    assert_int_equal(s->data, 0xc071);
    send(s, APIC_BROADCAST, false, 0x72);
    assert_int_equal(s->address, 0xfeeff000);
    assert_int_equal(s->data, 0x72);
    send(s, 0x12345, false, 0x73);
    assert_int_equal(s->address, UINT64_C(0x12300fee45000));
    assert_false(s->rig->level[INTR]);
    lapic_give_back(&s->apic, &s->page);
    send(s, 0, false, 0x74);
    assert_int_equal(s->messages, 3);
    assert_int_equal(lapic_acknowledge(&s->apic), 0x74);
}

static void lines_are_handed_on(void **state)
{
    struct system *s = *state;

    s->pic_vector = 0x35;
    lapic_mmio_write(&s->apic, LVT_L0, 0x10700); /* masked; the borrower's business */
    borrow(s);
    lapic_set_lint(&s->apic, 0, true);
    assert_true(s->rig->level[INTR]);
    assert_int_equal(lapic_acknowledge(&s->apic), 0x35);
    lapic_set_lint(&s->apic, 0, false);
    assert_false(s->rig->level[INTR]);
    lapic_set_lint(&s->apic, 1, true);
    assert_int_equal(s->rig->rises[NMI], 1);
    lapic_set_lint(&s->apic, 0, true);
    lapic_give_back(&s->apic, &s->page);
    assert_false(s->rig->level[INTR]); /* masked after all */
}

static void ends_of_interrupts_reach_the_ioapic(void **state)
{
    struct system *s = *state;

    borrow(s);
    lapic_end_of_interrupt(&s->apic, 0x51);
    assert_int_equal(s->eoi, 0x51);
    lapic_give_back(&s->apic, &s->page);
}

static void advance(struct system *s, uint64_t ns)
{
    s->rig->clock.virtual_ns += ns;
    clock_run_timers(&s->rig->clock);
}

static void count_goes_on(void **state)
{
    struct system *s = *state;

    lapic_mmio_write(&s->apic, LVT_T, 0x80);
    lapic_mmio_write(&s->apic, DIVIDE, 0xb); /* by 1 */
    lapic_mmio_write(&s->apic, INITIAL, 10000);
    advance(s, 4000);
    borrow(s);
    assert_int_equal(s->page.regs[PAGE_REG(INITIAL)], 10000);
    assert_int_equal(s->page.regs[PAGE_REG(CURRENT)], 6000);
    advance(s, 20000); /* the timer here stands still */
    assert_false(s->rig->level[INTR]);
    s->page.regs[PAGE_REG(CURRENT)] = 1000;
    lapic_give_back(&s->apic, &s->page);
    assert_int_equal(lapic_mmio_read(&s->apic, CURRENT), 1000);
    advance(s, 999);
    assert_false(s->rig->level[INTR]);
    advance(s, 1);
    assert_int_equal(lapic_acknowledge(&s->apic), 0x80);
}

/* Nobody can tell whether its interrupt came. */
static void ended_count_interrupts(void **state)
{
    struct system *s = *state;

    lapic_mmio_write(&s->apic, LVT_T, 0x80);
    lapic_mmio_write(&s->apic, DIVIDE, 0xb);
    borrow(s);
    s->page.regs[PAGE_REG(INITIAL)] = 5000;
    lapic_give_back(&s->apic, &s->page);
    advance(s, 1);
    assert_int_equal(lapic_acknowledge(&s->apic), 0x80);
    /* but what has ended here is not lent as something that ends */
    borrow(s);
    assert_int_equal(s->page.regs[PAGE_REG(INITIAL)], 0);
    lapic_give_back(&s->apic, &s->page);
    assert_int_equal(lapic_mmio_read(&s->apic, INITIAL), 5000);
    advance(s, 100000);
    assert_false(s->rig->level[INTR]);
}

static void deadline_comes_back(void **state)
{
    struct system *s = *state;

    lapic_mmio_write(&s->apic, LVT_T, 0x40080);
    assert_true(lapic_wrmsr(&s->apic, 0x6e0, 5000));
    borrow(s);
    assert_int_equal(s->page.tsc_deadline, 5000);
    s->page.tsc_deadline = 7000;
    lapic_give_back(&s->apic, &s->page);
    advance(s, 6999);
    assert_false(s->rig->level[INTR]);
    advance(s, 1);
    assert_int_equal(lapic_acknowledge(&s->apic), 0x80);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(comes_back_as_it_went, set_up, tear_down),
        cmocka_unit_test_setup_teardown(changes_come_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(messages_go_to_the_borrower, set_up, tear_down),
        cmocka_unit_test_setup_teardown(lines_are_handed_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(ends_of_interrupts_reach_the_ioapic, set_up, tear_down),
        cmocka_unit_test_setup_teardown(count_goes_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(ended_count_interrupts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(deadline_comes_back, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
