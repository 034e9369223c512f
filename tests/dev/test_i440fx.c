/* test_i440fx.c - configuration mechanism 1 and the host bridge, through the bus. */
#include "dev/i440fx.h"
#include "dev/reset_control.h"
#include "rig.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

struct fixture {
    struct bus bus;
    struct reset_control reset;
    struct i440fx bridge;
};

static int setup(void **state)
{
    static struct fixture f;

    bus_init(&f.bus);
    reset_control_init(&f.reset, (struct irq){0});
    reset_control_attach(&f.reset, &f.bus);
    i440fx_init(&f.bridge, &reset_control_cf9_ops, &f.reset);
    i440fx_attach(&f.bridge, &f.bus);
    *state = &f;
    return 0;
}

static uint64_t config_read(struct fixture *f, uint32_t address, unsigned offset, unsigned size)
{
    bus_pio_write(&f->bus, 0xcf8, address, 4);
    return bus_pio_read(&f->bus, (uint16_t)(0xcfc + offset), size);
}

static void names_itself(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(config_read(f, 0x80000000, 0, 4), 0x12378086);
    assert_int_equal(config_read(f, 0x80000000, 2, 2), 0x1237);
    assert_int_equal(config_read(f, 0x80000008, 3, 1), 0x06);
    assert_int_equal(bus_pio_read(&f->bus, 0xcf8, 4), 0x80000008);
}

static void nobody_else_answers(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(config_read(f, 0x80000800, 0, 4), UINT32_MAX); /* device 1 */
    assert_int_equal(config_read(f, 0x80000100, 0, 4), UINT32_MAX); /* function 1 */
    assert_int_equal(config_read(f, 0x80010000, 0, 4), UINT32_MAX); /* bus 1 */
    assert_int_equal(config_read(f, 0x00000000, 0, 4), UINT32_MAX); /* not enabled */
}

static void keeps_what_can_be_written(void **state)
{
    struct fixture *f = *state;

    bus_pio_write(&f->bus, 0xcf8, 0x80000000, 4);
    bus_pio_write(&f->bus, 0xcfc, 0, 4);
    assert_int_equal(bus_pio_read(&f->bus, 0xcfc, 4), 0x12378086);
    bus_pio_write(&f->bus, 0xcf8, 0x80000058, 4);
    bus_pio_write(&f->bus, 0xcfd, 0x30, 1);
    assert_int_equal(bus_pio_read(&f->bus, 0xcfc, 4), 0x3000);
    i440fx_reset(&f->bridge);
    assert_int_equal(config_read(f, 0x80000058, 0, 4), 0);
}

static void leaves_cf9_to_the_south_bridge(void **state)
{
    struct fixture *f = *state;

    bus_pio_write(&f->bus, 0xcf9, 0x02, 1);
    assert_int_equal(bus_pio_read(&f->bus, 0xcf9, 1), 0x02);
    bus_pio_write(&f->bus, 0xcf8, 0x80000600, 4);
    assert_int_equal(bus_pio_read(&f->bus, 0xcf9, 1), 0x02);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(names_itself, setup),
        cmocka_unit_test_setup(nobody_else_answers, setup),
        cmocka_unit_test_setup(keeps_what_can_be_written, setup),
        cmocka_unit_test_setup(leaves_cf9_to_the_south_bridge, setup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
