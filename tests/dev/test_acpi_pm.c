/* test_acpi_pm.c - power management, and the two small devices beside it (reset control and debug
 * ports), through the bus. */
#include "rig.h"

#include "dev/acpi_pm.h"
#include "dev/debug_ports.h"
#include "dev/reset_control.h"

#define BASE 0x600
#define SECOND UINT64_C(1000000000)

enum { SCI, A20 };

struct fixture {
    struct rig *rig;
    struct acpi_pm pm;
    struct reset_control rc;
    struct debug_ports ports;
    unsigned power_offs, resets;
    uint32_t exit_value;
    char console[8];
    unsigned console_count;
};

static void power_off(void *opaque)
{
    ((struct fixture *)opaque)->power_offs++;
}

static void count_reset(void *opaque)
{
    ((struct fixture *)opaque)->resets++;
}

static void note_exit(void *opaque, uint32_t value)
{
    ((struct fixture *)opaque)->exit_value = value;
}

static void note_console(void *opaque, uint8_t byte)
{
    struct fixture *f = opaque;

    f->console[f->console_count++ % sizeof f->console] = (char)byte;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    f->rig = rig_new();
    acpi_pm_init(&f->pm, &f->rig->clock, rig_line(f->rig, SCI), 32);
    f->pm.power_off = power_off;
    f->pm.opaque = f;
    acpi_pm_attach(&f->pm, &f->rig->bus, BASE);
    reset_control_init(&f->rc, rig_line(f->rig, A20));
    f->rc.reset = count_reset;
    f->rc.opaque = f;
    reset_control_attach(&f->rc, &f->rig->bus);
    debug_ports_init(&f->ports, 0xf4);
    f->ports.exit = note_exit;
    f->ports.console = note_console;
    f->ports.opaque = f;
    debug_ports_attach(&f->ports, &f->rig->bus);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    rig_free(f->rig);
    free(f);
    return 0;
}

static uint64_t in(struct fixture *f, unsigned offset, unsigned size)
{
    return bus_pio_read(&f->rig->bus, (uint16_t)(BASE + offset), size);
}

static void out(struct fixture *f, unsigned offset, uint64_t value, unsigned size)
{
    bus_pio_write(&f->rig->bus, (uint16_t)(BASE + offset), value, size);
}

static void power_button(void **state)
{
    struct fixture *f = *state;

    acpi_pm_power_button(&f->pm);
    assert_int_equal(in(f, 0, 2), 0x0100);
    assert_false(f->rig->level[SCI]);
    out(f, 2, 0x0100, 2);
    assert_true(f->rig->level[SCI]);
    out(f, 0, 0x0001, 2); /* another bit */
    assert_true(f->rig->level[SCI]);
    out(f, 0, 0x0100, 2);
    assert_false(f->rig->level[SCI]);
    assert_int_equal(in(f, 0, 4), 0x01000000);
    acpi_pm_power_button(&f->pm);
    out(f, 1, 0x01, 1); /* by its byte */
    assert_false(f->rig->level[SCI]);
}

static void timer_counts(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(in(f, 8, 4), 0);
    rig_pass(f->rig, SECOND);
    assert_int_equal(in(f, 8, 4), 3579545);
    out(f, 8, 0, 4); /* read-only */
    assert_int_equal(in(f, 8, 4), 3579545);
    rig_pass(f->rig, 1300 * SECOND);
    assert_int_equal(in(f, 8, 4), (uint32_t)(1301 * UINT64_C(3579545)));
    assert_int_equal(in(f, 0, 2), 0x0001); /* the top bit changed meanwhile */
}

static void timer_overflow_interrupts(void **state)
{
    struct fixture *f = *state;
    const uint64_t half = (UINT64_C(1) << 31) * SECOND / 3579545;

    out(f, 2, 1, 2);
    rig_pass(f->rig, half - 1000);
    assert_false(f->rig->level[SCI]);
    rig_pass(f->rig, 2000);
    assert_true(f->rig->level[SCI]);
    out(f, 0, 1, 2);
    assert_false(f->rig->level[SCI]);
    rig_pass(f->rig, half);
    assert_int_equal(f->rig->rises[SCI], 2);
}

static void narrow_timer(void **state)
{
    struct fixture *f = *state;

    acpi_pm_init(&f->pm, &f->rig->clock, rig_line(f->rig, SCI), 24);
    rig_pass(f->rig, 10 * SECOND);
    assert_int_equal(in(f, 8, 4), 35795450 & 0xffffff);
}

static void sleeps(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(in(f, 4, 2), 1); /* SCI_EN */
    out(f, 4, 0x2000 | 1 << 10, 2);
    assert_int_equal(f->power_offs, 0);
    out(f, 4, ACPI_PM_S5 << 10, 2);
    assert_int_equal(f->power_offs, 0);
    out(f, 4, 0x2000 | ACPI_PM_S5 << 10, 2);
    assert_int_equal(f->power_offs, 1);
    assert_int_equal(in(f, 4, 2), 1 | ACPI_PM_S5 << 10); /* SLP_EN reads zero */
}

static void general_purpose_events(void **state)
{
    struct fixture *f = *state;

    acpi_pm_raise_gpe(&f->pm, 9);
    assert_false(f->rig->level[SCI]);
    out(f, 14, 0x0200, 2);
    assert_true(f->rig->level[SCI]);
    assert_int_equal(in(f, 12, 4), 0x02000200);
    out(f, 13, 0x02, 1);
    assert_false(f->rig->level[SCI]);
}

static void state_survives(void **state)
{
    struct fixture *f = *state;

    acpi_pm_power_button(&f->pm);
    out(f, 2, 0x0101, 2);
    rig_save_and_load(&acpi_pm_state_desc, &f->pm);
    assert_true(f->rig->level[SCI]);
    assert_int_equal(in(f, 0, 4), 0x01010100);
}

static void resets(void **state)
{
    struct fixture *f = *state;

    rig_out(f->rig, 0xcf9, 0x02);
    assert_int_equal(f->resets, 0);
    rig_out(f->rig, 0xcf9, 0x06);
    assert_int_equal(f->resets, 1);
    rig_out(f->rig, 0xcf9, 0x06); /* no rise */
    assert_int_equal(f->resets, 1);
    assert_int_equal(rig_in(f->rig, 0xcf9), 0x06);
    reset_control_reset(&f->rc);
    bus_pio_write(&f->rig->bus, 0xcf8, 0x80000600, 4); /* a PCI configuration address */
    assert_int_equal(f->resets, 1);
    assert_int_equal(rig_in(f->rig, 0xcf9), 0);
    assert_int_equal(rig_in(f->rig, 0x92), 0x02);
    rig_out(f->rig, 0x92, 0x00);
    assert_false(f->rig->level[A20]);
    rig_out(f->rig, 0x92, 0x03);
    assert_true(f->rig->level[A20]);
    assert_int_equal(f->resets, 2);
}

static void debug_ports(void **state)
{
    struct fixture *f = *state;

    rig_out(f->rig, 0x80, 0x42);
    assert_int_equal(rig_in(f->rig, 0x80), 0x42);
    assert_int_equal(rig_in(f->rig, 0xe9), 0xe9);
    assert_int_equal(rig_in(f->rig, 0x402), 0xe9);
    rig_out(f->rig, 0xe9, 'o');
    rig_out(f->rig, 0x402, 'k');
    assert_memory_equal(f->console, "ok", 2);
    bus_pio_write(&f->rig->bus, 0xf4, 0x12345678, 4);
    assert_int_equal(f->exit_value, 0x12345678);
    rig_out(f->rig, 0xf4, 3);
    assert_int_equal(f->exit_value, 3);
}

static void survives_hostility(void **state)
{
    struct fixture *f = *state;

    rig_hammer(f->rig, BASE - 3, 22, 40000);
    rig_hammer(f->rig, 0xcf6, 8, 1000);
    rig_hammer(f->rig, 0x7e, 0x78, 10000);
    rig_load_damaged(f->rig, &acpi_pm_state_desc, &f->pm, BASE, 16);
    rig_load_damaged(f->rig, &reset_control_state_desc, &f->rc, 0xcf9, 1);
    rig_load_damaged(f->rig, &debug_ports_state_desc, &f->ports, 0x80, 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(power_button),       TEST(timer_counts), TEST(timer_overflow_interrupts),
        TEST(narrow_timer),       TEST(sleeps),       TEST(general_purpose_events),
        TEST(state_survives),     TEST(resets),       TEST(debug_ports),
        TEST(survives_hostility),
    };

    return cmocka_run_group_tests_name("acpi_pm", tests, NULL, NULL);
}
