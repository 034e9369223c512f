/* test_lapic.c - local APICs and the messages between them, without CPUs. */
#include "rig.h"

#include "dev/lapic.h"

#include <string.h>

/* Lines: four for each local APIC. */
enum { INTR, NMI, SMI, INIT, PER_CPU };
#define CPUS 3

#define ID 0x020
#define TPR 0x080
#define PPR 0x0a0
#define EOI 0x0b0
#define LDR 0x0d0
#define DFR 0x0e0
#define SVR 0x0f0
#define ISR 0x100
#define TMR 0x180
#define IRR 0x200
#define ESR 0x280
#define ICR 0x300
#define ICR_HIGH 0x310
#define LVT_T 0x320
#define LVT_L0 0x350
#define LVT_L1 0x360
#define LVT_E 0x370
#define INITIAL 0x380
#define CURRENT 0x390
#define DIVIDE 0x3e0

struct system {
    struct rig *rig;
    struct apic_bus bus;
    struct lapic apic[CPUS];
    uint64_t tsc_offset;
    int sipi, pic_vector, eoi;
};

static void got_sipi(void *opaque, uint8_t vector)
{
    struct system *s = opaque;

    s->sipi = vector;
}

static int pic_acknowledge(void *opaque)
{
    struct system *s = opaque;

    return s->pic_vector;
}

static void got_eoi(void *opaque, uint8_t vector)
{
    struct system *s = opaque;

    s->eoi = vector;
}

static void wr(struct system *s, unsigned cpu, uint32_t reg, uint32_t value)
{
    lapic_mmio_write(&s->apic[cpu], reg, value);
}

static uint32_t rd(struct system *s, unsigned cpu, uint32_t reg)
{
    return lapic_mmio_read(&s->apic[cpu], reg);
}

static void system_init(struct system *s)
{
    memset(s, 0, sizeof(*s));
    s->rig = rig_new();
    s->sipi = s->eoi = -1;
    apic_bus_init(&s->bus);
    apic_bus_set_eoi(&s->bus, got_eoi, s);
    for (unsigned i = 0; i < CPUS; i++) {
        struct lapic_wiring wiring = {
            .clock = &s->rig->clock,
            .bus = &s->bus,
            .tsc_offset = &s->tsc_offset,
            .phys_bits = 40,
            .intr = rig_line(s->rig, i * PER_CPU + INTR),
            .nmi = rig_line(s->rig, i * PER_CPU + NMI),
            .smi = rig_line(s->rig, i * PER_CPU + SMI),
            .init = rig_line(s->rig, i * PER_CPU + INIT),
            .sipi = got_sipi,
            .sipi_opaque = s,
            .pic_acknowledge = pic_acknowledge,
            .pic_opaque = s,
        };

        assert_int_equal(lapic_init(&s->apic[i], i, &wiring), 0);
        assert_int_equal(apic_bus_add(&s->bus, &s->apic[i]), 0);
        wr(s, i, SVR, 0x1ff);
    }
}

static bool line(struct system *s, unsigned cpu, unsigned which)
{
    return s->rig->level[cpu * PER_CPU + which];
}

static void send(struct system *s, uint32_t dest, bool logical, unsigned delivery, uint8_t vector,
                 bool level)
{
    apic_deliver(&s->bus, &(struct apic_message){.dest = dest,
                                                 .logical = logical,
                                                 .delivery = (uint8_t)delivery,
                                                 .vector = vector,
                                                 .level = level});
}

static void test_reset_values(void **state)
{
    struct system s;

    (void)state;
    system_init(&s);
    lapic_reset(&s.apic[1]);
    assert_int_equal(rd(&s, 1, ID), 1u << 24);
    assert_int_equal(rd(&s, 1, 0x30), 0x01050014);
    assert_int_equal(rd(&s, 1, SVR), 0xff);
    assert_int_equal(rd(&s, 1, DFR), 0xffffffff);
    assert_int_equal(rd(&s, 1, LVT_L0), 0x10000);
    assert_int_equal(lapic_mmio_base(&s.apic[1]), 0xfee00000);
    wr(&s, 1, LVT_L0, 0x700); /* software-disabled: stays masked */
    assert_int_equal(rd(&s, 1, LVT_L0), 0x10700);
    rig_free(s.rig);
}

static void test_priority(void **state)
{
    struct system s;

    (void)state;
    system_init(&s);
    send(&s, 0, false, APIC_FIXED, 0x41, false);
    send(&s, 0, false, APIC_FIXED, 0x52, false);
    assert_true(line(&s, 0, INTR));
    assert_int_equal(rd(&s, 0, IRR + 0x20), 0x00040002);
    assert_int_equal(lapic_acknowledge(&s.apic[0]), 0x52);
    assert_false(line(&s, 0, INTR));
    assert_int_equal(rd(&s, 0, PPR), 0x50);
    send(&s, 0, false, APIC_FIXED, 0x5f, false); /* same class: waits */
    assert_false(line(&s, 0, INTR));
    assert_int_equal(lapic_acknowledge(&s.apic[0]), -1);
    wr(&s, 0, EOI, 0);
    assert_int_equal(lapic_acknowledge(&s.apic[0]), 0x5f);
    wr(&s, 0, EOI, 0);
    lapic_set_cr8(&s.apic[0], 4);
    assert_int_equal(rd(&s, 0, TPR), 0x40);
    assert_false(line(&s, 0, INTR));
    lapic_set_cr8(&s.apic[0], 3);
    assert_true(line(&s, 0, INTR));
    assert_int_equal(lapic_acknowledge(&s.apic[0]), 0x41);
    assert_int_equal(s.eoi, -1); /* edges are not broadcast */
    rig_free(s.rig);
}

static void test_level_eoi(void **state)
{
    struct system s;

    (void)state;
    system_init(&s);
    send(&s, 0, false, APIC_FIXED, 0x61, true);
    assert_int_equal(rd(&s, 0, TMR + 0x30), 2);
    assert_int_equal(lapic_acknowledge(&s.apic[0]), 0x61);
    wr(&s, 0, EOI, 0);
    assert_int_equal(s.eoi, 0x61);
    s.eoi = -1;
    wr(&s, 0, SVR, 0x11ff); /* suppress the broadcast */
    send(&s, 0, false, APIC_FIXED, 0x61, true);
    lapic_acknowledge(&s.apic[0]);
    wr(&s, 0, EOI, 0);
    assert_int_equal(s.eoi, -1);
    rig_free(s.rig);
}

static void test_extint(void **state)
{
    struct system s;

    (void)state;
    system_init(&s);
    s.pic_vector = 0x33;
    lapic_set_lint(&s.apic[0], 0, true);
    assert_false(line(&s, 0, INTR));
    lapic_set_virtual_wire(&s.apic[0]);
    assert_true(line(&s, 0, INTR));
    lapic_set_cr8(&s.apic[0], 15); /* no priority for ExtINT */
    assert_true(line(&s, 0, INTR));
    assert_int_equal(lapic_acknowledge(&s.apic[0]), 0x33);
    lapic_set_lint(&s.apic[0], 0, false);
    assert_false(line(&s, 0, INTR));
    lapic_set_lint(&s.apic[0], 1, true);
    assert_true(line(&s, 0, NMI));
    send(&s, 0, false, APIC_EXTINT, 0, false);
    assert_true(line(&s, 0, INTR));
    assert_int_equal(lapic_acknowledge(&s.apic[0]), 0x33);
    assert_false(line(&s, 0, INTR));
    rig_free(s.rig);
}

static void test_level_lint(void **state)
{
    struct system s;

    (void)state;
    system_init(&s);
    wr(&s, 0, LVT_L0, 0x8070); /* Fixed, level */
    lapic_set_lint(&s.apic[0], 0, true);
    assert_int_equal(rd(&s, 0, LVT_L0), 0xc070);
    assert_int_equal(lapic_acknowledge(&s.apic[0]), 0x70);
    wr(&s, 0, EOI, 0);
    assert_true(line(&s, 0, INTR)); /* still high */
    lapic_set_lint(&s.apic[0], 0, false);
    assert_int_equal(lapic_acknowledge(&s.apic[0]), 0x70);
    wr(&s, 0, EOI, 0);
    assert_false(line(&s, 0, INTR));
    rig_free(s.rig);
}

static void test_one_shot_and_divide(void **state)
{
    struct system s;

    (void)state;
    system_init(&s);
    wr(&s, 0, LVT_T, 0x80);
    wr(&s, 0, DIVIDE, 0x3); /* 16 */
    wr(&s, 0, INITIAL, 1000);
    rig_pass(s.rig, 8000);
    assert_int_equal(rd(&s, 0, CURRENT), 500);
    wr(&s, 0, DIVIDE, 0xb); /* 1 */
    assert_int_equal(rd(&s, 0, CURRENT), 500);
    rig_pass(s.rig, 499);
    assert_false(line(&s, 0, INTR));
    rig_pass(s.rig, 1);
    assert_int_equal(lapic_acknowledge(&s.apic[0]), 0x80);
    assert_int_equal(rd(&s, 0, CURRENT), 0);
    wr(&s, 0, EOI, 0);
    rig_pass(s.rig, 1000000);
    assert_int_equal(lapic_acknowledge(&s.apic[0]), -1);
    rig_free(s.rig);
}

static unsigned count_timer_interrupts(struct system *s, uint64_t ns)
{
    unsigned n = 0;

    for (uint64_t t = 0; t < ns; t += 1000) {
        rig_pass(s->rig, 1000);
        if (lapic_acknowledge(&s->apic[0]) >= 0) {
            wr(s, 0, EOI, 0);
            n++;
        }
    }
    return n;
}

static void test_periodic(void **state)
{
    struct system s;

    (void)state;
    system_init(&s);
    wr(&s, 0, LVT_T, 0x20080);
    wr(&s, 0, DIVIDE, 0xb);
    wr(&s, 0, INITIAL, 100000);
    assert_int_equal(count_timer_interrupts(&s, 10000000), 100);
    clock_set(&s.rig->clock, 5000000000000, 5000000000000); /* missed periods become one */
    assert_in_range(count_timer_interrupts(&s, 1000000), 10, 11);
    wr(&s, 0, INITIAL, 1); /* limited to 20 us */
    assert_in_range(count_timer_interrupts(&s, 1000000), 45, 51);
    wr(&s, 0, INITIAL, 0);
    assert_true(clock_next_deadline(&s.rig->clock) == CLOCK_NEVER);
    rig_free(s.rig);
}

static void test_tsc_deadline(void **state)
{
    struct system s;
    uint64_t value;

    (void)state;
    system_init(&s);
    assert_true(lapic_wrmsr(&s.apic[0], 0x6e0, 5000)); /* not in that mode: ignored */
    assert_true(lapic_rdmsr(&s.apic[0], 0x6e0, &value));
    assert_int_equal(value, 0);
    wr(&s, 0, LVT_T, 0x40080);
    s.tsc_offset = 1000;
    assert_true(lapic_wrmsr(&s.apic[0], 0x6e0, 5000));
    rig_pass(s.rig, 3999);
    assert_false(line(&s, 0, INTR));
    rig_pass(s.rig, 1);
    assert_int_equal(lapic_acknowledge(&s.apic[0]), 0x80);
    wr(&s, 0, EOI, 0);
    lapic_rdmsr(&s.apic[0], 0x6e0, &value);
    assert_int_equal(value, 0);

    lapic_wrmsr(&s.apic[0], 0x6e0, 10000); /* at 9000, but then the TSC is moved */
    s.tsc_offset = 5000;
    lapic_tsc_changed(&s.apic[0]);
    rig_pass(s.rig, 1000);
    assert_int_equal(lapic_acknowledge(&s.apic[0]), 0x80);
    wr(&s, 0, EOI, 0);
    lapic_wrmsr(&s.apic[0], 0x6e0, 1); /* past */
    rig_pass(s.rig, 0);
    assert_int_equal(lapic_acknowledge(&s.apic[0]), 0x80);
    lapic_wrmsr(&s.apic[0], 0x6e0, UINT64_MAX);
    lapic_wrmsr(&s.apic[0], 0x6e0, 0);
    assert_true(clock_next_deadline(&s.rig->clock) == CLOCK_NEVER);
    rig_free(s.rig);
}

static void test_ipis(void **state)
{
    struct system s;

    (void)state;
    system_init(&s);
    wr(&s, 0, ICR_HIGH, 1u << 24);
    wr(&s, 0, ICR, 0x4050);
    assert_int_equal(lapic_acknowledge(&s.apic[1]), 0x50);
    wr(&s, 0, ICR, 0x44051); /* self */
    assert_int_equal(lapic_acknowledge(&s.apic[0]), 0x51);
    wr(&s, 0, ICR, 0xc4062); /* all but self */
    assert_false(line(&s, 0, INTR));
    assert_int_equal(lapic_acknowledge(&s.apic[1]), 0x62);
    assert_int_equal(lapic_acknowledge(&s.apic[2]), 0x62);
    wr(&s, 1, ICR, 0x84073); /* all */
    for (unsigned i = 0; i < CPUS; i++)
        assert_int_equal(lapic_acknowledge(&s.apic[i]), 0x73);
    wr(&s, 0, ICR_HIGH, 2u << 24);
    wr(&s, 0, ICR, 0x4400);
    assert_true(line(&s, 2, NMI));
    wr(&s, 0, ICR, 0x4200);
    assert_true(line(&s, 2, SMI));
    wr(&s, 0, ICR, 0x8500); /* INIT de-assert: nothing */
    assert_false(line(&s, 2, INIT));
    wr(&s, 0, ICR, 0x4500);
    assert_true(line(&s, 2, INIT));
    assert_int_equal(rd(&s, 2, SVR), 0xff);
    wr(&s, 0, ICR, 0x4609);
    assert_int_equal(s.sipi, 9);
    rig_free(s.rig);
}

static void test_logical_destinations(void **state)
{
    struct system s;

    (void)state;
    system_init(&s);
    for (unsigned i = 0; i < CPUS; i++)
        wr(&s, i, LDR, 1u << (24 + i));
    send(&s, 0x05, true, APIC_FIXED, 0x40, false);
    assert_int_equal(lapic_acknowledge(&s.apic[0]), 0x40);
    assert_int_equal(lapic_acknowledge(&s.apic[1]), -1);
    assert_int_equal(lapic_acknowledge(&s.apic[2]), 0x40);
    for (unsigned i = 0; i < CPUS; i++) {
        wr(&s, i, DFR, 0x0fffffff);
        wr(&s, i, LDR, 0x21u << 24);
    }
    wr(&s, 1, LDR, 0x12u << 24);
    send(&s, 0x12, true, APIC_FIXED, 0x50, false);
    assert_int_equal(lapic_acknowledge(&s.apic[0]), -1);
    assert_int_equal(lapic_acknowledge(&s.apic[1]), 0x50);
    rig_free(s.rig);
}

static void test_lowest_priority(void **state)
{
    unsigned got[CPUS] = {0};
    struct system s;

    (void)state;
    system_init(&s);
    lapic_set_cr8(&s.apic[1], 2);
    for (unsigned n = 0; n < 6; n++) {
        send(&s, APIC_BROADCAST, false, APIC_LOWEST, 0x91, false);
        for (unsigned i = 0; i < CPUS; i++)
            if (lapic_acknowledge(&s.apic[i]) >= 0) {
                got[i]++;
                wr(&s, i, EOI, 0);
            }
    }
    assert_int_equal(got[0], 3);
    assert_int_equal(got[1], 0);
    assert_int_equal(got[2], 3);
    rig_free(s.rig);
}

static void test_msi(void **state)
{
    struct system s;

    (void)state;
    system_init(&s);
    apic_deliver_msi(&s.bus, 0xfee01000, 0x4045);
    assert_int_equal(lapic_acknowledge(&s.apic[1]), 0x45);
    rig_free(s.rig);
}

static void test_errors(void **state)
{
    struct system s;

    (void)state;
    system_init(&s);
    wr(&s, 0, LVT_E, 0xfe);
    wr(&s, 0, ICR, 0x4005); /* illegal vector */
    assert_int_equal(lapic_acknowledge(&s.apic[0]), 0xfe);
    wr(&s, 0, EOI, 0);
    assert_int_equal(rd(&s, 0, ESR), 0); /* latched by a write */
    wr(&s, 0, ESR, 0);
    assert_int_equal(rd(&s, 0, ESR), 0x20);
    wr(&s, 0, ESR, 0);
    assert_int_equal(rd(&s, 0, ESR), 0);
    rd(&s, 0, 0x3f0);
    send(&s, 0, false, APIC_FIXED, 3, false);
    wr(&s, 0, LVT_E, 0x02); /* the error's own vector is illegal */
    wr(&s, 0, ID, 5);       /* read-only */
    wr(&s, 0, ESR, 0);
    assert_int_equal(rd(&s, 0, ESR), 0xc0);
    assert_int_equal(rd(&s, 0, ID), 0);
    rig_free(s.rig);
}

static void test_base_transitions(void **state)
{
    struct system s;
    struct lapic *a;
    uint64_t value;

    (void)state;
    system_init(&s);
    a = &s.apic[0];
    assert_true(lapic_rdmsr(a, 0x1b, &value));
    assert_int_equal(value, 0xfee00900);
    assert_false(lapic_wrmsr(a, 0x1b, value | 1));
    assert_false(lapic_wrmsr(a, 0x1b, value | UINT64_C(1) << 40));
    assert_false(lapic_wrmsr(a, 0x1b, 0xfee00400)); /* EXTD without EN */
    assert_true(lapic_wrmsr(a, 0x1b, 0xfed00900));
    assert_int_equal(lapic_mmio_base(a), 0xfed00000);
    assert_false(lapic_rdmsr(a, 0x802, &value)); /* not in x2APIC mode */
    assert_true(lapic_wrmsr(a, 0x1b, 0xfee00d00));
    assert_true(lapic_mmio_base(a) == UINT64_MAX);
    assert_false(lapic_wrmsr(a, 0x1b, 0xfee00900)); /* back to xAPIC */
    assert_true(lapic_wrmsr(a, 0x1b, 0xfee00100));  /* off */
    assert_false(lapic_wrmsr(a, 0x1b, 0xfee00d00)); /* off to x2APIC */
    lapic_set_lint(a, 0, true);
    assert_true(line(&s, 0, INTR)); /* LINT0 is INTR now */
    assert_true(lapic_wrmsr(a, 0x1b, 0xfee00900));
    assert_false(line(&s, 0, INTR));
    assert_int_equal(rd(&s, 0, SVR), 0xff);
    rig_free(s.rig);
}

static void test_x2apic(void **state)
{
    struct system s;
    uint64_t value;

    (void)state;
    system_init(&s);
    for (unsigned i = 0; i < CPUS; i++)
        assert_true(lapic_wrmsr(&s.apic[i], 0x1b, 0xfee00c00));
    assert_true(lapic_rdmsr(&s.apic[2], 0x802, &value));
    assert_int_equal(value, 2);
    assert_true(lapic_rdmsr(&s.apic[2], 0x80d, &value));
    assert_int_equal(value, 4);
    assert_true(lapic_wrmsr(&s.apic[0], 0x830, UINT64_C(2) << 32 | 0x44));
    assert_int_equal(lapic_acknowledge(&s.apic[2]), 0x44);
    assert_true(lapic_wrmsr(&s.apic[0], 0x830, UINT64_C(6) << 32 | 0x855)); /* logical 1, 2 */
    assert_int_equal(lapic_acknowledge(&s.apic[0]), -1);
    assert_int_equal(lapic_acknowledge(&s.apic[1]), 0x55);
    assert_int_equal(lapic_acknowledge(&s.apic[2]), 0x55);
    assert_true(lapic_wrmsr(&s.apic[0], 0x83f, 0x66)); /* self */
    assert_int_equal(lapic_acknowledge(&s.apic[0]), 0x66);
    assert_false(lapic_wrmsr(&s.apic[0], 0x80b, 1));
    assert_true(lapic_wrmsr(&s.apic[0], 0x80b, 0));
    assert_false(lapic_wrmsr(&s.apic[0], 0x802, 1));
    assert_false(lapic_wrmsr(&s.apic[0], 0x808, 0x100));
    assert_false(lapic_wrmsr(&s.apic[0], 0x831, 0));
    assert_false(lapic_rdmsr(&s.apic[0], 0x80e, &value));
    assert_false(lapic_rdmsr(&s.apic[0], 0x83f, &value));
    assert_false(lapic_rdmsr(&s.apic[0], 0x8ff, &value));
    rig_free(s.rig);
}

static void poke(struct system *s)
{
    uint64_t r = rig_random(s->rig), value = rig_random(s->rig);
    struct lapic *a = &s->apic[(r >> 8) % CPUS];

    switch (r & 7) {
    case 0: lapic_mmio_read(a, (uint32_t)(r >> 16) & 0xfff); break;
    case 1:
    case 2: lapic_mmio_write(a, (uint32_t)(r >> 16) & 0xff0, (uint32_t)value); break;
    case 3:
        if (!lapic_rdmsr(a, 0x800 + (r >> 16 & 0xff), &value))
            lapic_wrmsr(a, 0x6e0, value >> (r >> 24 & 63));
        break;
    case 4: lapic_wrmsr(a, 0x800 + (r >> 16 & 0x3f), value >> (r >> 24 & 63)); break;
    case 5: assert_in_range(lapic_acknowledge(a) + 1, 0, 256); break;
    case 6:
        if ((r & 0xf0) == 0)
            lapic_wrmsr(a, 0x1b, 0xfee00000 | (value & 0xf00));
        lapic_set_lint(a, r >> 16 & 3, r >> 20 & 1);
        break;
    default:
        send(s, (uint32_t)(r >> 32) & 3, r >> 16 & 1, r >> 17 & 7, (uint8_t)value, r >> 20 & 1);
        rig_pass(s->rig, value >> (44 + (r >> 40) % 20));
        break;
    }
}

static void test_hammer(void **state)
{
    struct system s;

    (void)state;
    system_init(&s);
    for (unsigned i = 0; i < 100000; i++)
        poke(&s);
    rig_free(s.rig);
}

static void poke_often(void *opaque)
{
    for (unsigned i = 0; i < 20; i++)
        poke(opaque);
}

static void test_damaged_state(void **state)
{
    struct system s;

    (void)state;
    system_init(&s);
    send(&s, 0, false, APIC_FIXED, 0x41, false);
    rig_save_and_load(&lapic_state_desc, &s.apic[0]);
    assert_int_equal(lapic_acknowledge(&s.apic[0]), 0x41);
    rig_load_damaged_and(s.rig, &lapic_state_desc, &s.apic[0], 2000, poke_often, &s);
    rig_free(s.rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reset_values),
        cmocka_unit_test(test_priority),
        cmocka_unit_test(test_level_eoi),
        cmocka_unit_test(test_extint),
        cmocka_unit_test(test_level_lint),
        cmocka_unit_test(test_one_shot_and_divide),
        cmocka_unit_test(test_periodic),
        cmocka_unit_test(test_tsc_deadline),
        cmocka_unit_test(test_ipis),
        cmocka_unit_test(test_logical_destinations),
        cmocka_unit_test(test_lowest_priority),
        cmocka_unit_test(test_msi),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_base_transitions),
        cmocka_unit_test(test_x2apic),
        cmocka_unit_test(test_hammer),
        cmocka_unit_test(test_damaged_state),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
