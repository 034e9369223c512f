/* test_i8259.c - the PIC pair through its ports. */
#include "rig.h"

#include "dev/i8259.h"

#define INTR 0

struct pic {
    struct rig *rig;
    struct i8259 dev;
};

static void pic_init(struct pic *p)
{
    p->rig = rig_new();
    i8259_init(&p->dev, rig_line(p->rig, INTR));
    i8259_attach(&p->dev, &p->rig->bus);
}

/* As operating systems do it: vectors 20h and 28h. */
static void program(struct pic *p, unsigned icw4)
{
    pic_init(p);
    rig_out(p->rig, 0x20, 0x11);
    rig_out(p->rig, 0x21, 0x20);
    rig_out(p->rig, 0x21, 0x04);
    rig_out(p->rig, 0x21, icw4);
    rig_out(p->rig, 0xa0, 0x11);
    rig_out(p->rig, 0xa1, 0x28);
    rig_out(p->rig, 0xa1, 0x02);
    rig_out(p->rig, 0xa1, icw4 & ~0x10u);
}

static void pulse(struct pic *p, unsigned irq)
{
    i8259_set_irq(&p->dev, irq, true);
    i8259_set_irq(&p->dev, irq, false);
}

static void test_masked_after_reset(void **state)
{
    struct pic p;

    (void)state;
    pic_init(&p);
    pulse(&p, 0);
    assert_false(p.rig->level[INTR]);
    assert_int_equal(rig_in(p.rig, 0x21), 0xff);
    rig_free(p.rig);
}

static void test_edge_priority_and_eoi(void **state)
{
    struct pic p;

    (void)state;
    program(&p, 0x01);
    pulse(&p, 4);
    pulse(&p, 1);
    assert_true(p.rig->level[INTR]);
    assert_int_equal(rig_in(p.rig, 0x20), 0x12);
    assert_int_equal(i8259_acknowledge(&p.dev), 0x21);
    assert_false(p.rig->level[INTR]); /* 4 is less important than 1, which is in service */
    rig_out(p.rig, 0x20, 0x0b);
    assert_int_equal(rig_in(p.rig, 0x20), 0x02);
    pulse(&p, 0); /* more important */
    assert_true(p.rig->level[INTR]);
    assert_int_equal(i8259_acknowledge(&p.dev), 0x20);
    rig_out(p.rig, 0x20, 0x20);
    rig_out(p.rig, 0x20, 0x61); /* specific EOI of 1 */
    assert_int_equal(i8259_acknowledge(&p.dev), 0x24);
    rig_out(p.rig, 0x20, 0x20);
    assert_int_equal(rig_in(p.rig, 0x20), 0);
    assert_false(p.rig->level[INTR]);
    rig_free(p.rig);
}

static void test_edge_needs_to_fall(void **state)
{
    struct pic p;

    (void)state;
    program(&p, 0x01);
    i8259_set_irq(&p.dev, 3, true);
    assert_int_equal(i8259_acknowledge(&p.dev), 0x23);
    rig_out(p.rig, 0x20, 0x20);
    i8259_set_irq(&p.dev, 3, true);
    assert_false(p.rig->level[INTR]);
    i8259_set_irq(&p.dev, 3, false);
    i8259_set_irq(&p.dev, 3, true);
    assert_true(p.rig->level[INTR]);
    rig_free(p.rig);
}

static void test_slave(void **state)
{
    struct pic p;

    (void)state;
    program(&p, 0x01);
    pulse(&p, 8);
    pulse(&p, 15);
    pulse(&p, 3);
    assert_int_equal(i8259_acknowledge(&p.dev), 0x28);
    assert_false(p.rig->level[INTR]);
    rig_out(p.rig, 0xa0, 0x20);
    assert_false(p.rig->level[INTR]); /* the master's 2 is still in service */
    rig_out(p.rig, 0x20, 0x20);
    assert_int_equal(i8259_acknowledge(&p.dev), 0x2f);
    rig_out(p.rig, 0xa0, 0x20);
    rig_out(p.rig, 0x20, 0x20);
    assert_int_equal(i8259_acknowledge(&p.dev), 0x23);
    rig_free(p.rig);
}

static void test_special_fully_nested(void **state)
{
    struct pic p;

    (void)state;
    program(&p, 0x11);
    pulse(&p, 12);
    assert_int_equal(i8259_acknowledge(&p.dev), 0x2c);
    pulse(&p, 9);
    assert_true(p.rig->level[INTR]);
    assert_int_equal(i8259_acknowledge(&p.dev), 0x29);
    pulse(&p, 13);
    assert_false(p.rig->level[INTR]);
    rig_free(p.rig);
}

static void test_level(void **state)
{
    struct pic p;

    (void)state;
    program(&p, 0x01);
    rig_out(p.rig, 0x4d0, 0xff);
    rig_out(p.rig, 0x4d1, 0xff);
    assert_int_equal(rig_in(p.rig, 0x4d0), 0xf8);
    assert_int_equal(rig_in(p.rig, 0x4d1), 0xde);
    i8259_set_irq(&p.dev, 11, true);
    assert_int_equal(i8259_acknowledge(&p.dev), 0x2b);
    rig_out(p.rig, 0xa0, 0x20);
    rig_out(p.rig, 0x20, 0x20);
    assert_true(p.rig->level[INTR]); /* still high */
    i8259_set_irq(&p.dev, 11, false);
    assert_false(p.rig->level[INTR]);
    rig_free(p.rig);
}

static void test_spurious(void **state)
{
    struct pic p;

    (void)state;
    program(&p, 0x01);
    assert_int_equal(i8259_acknowledge(&p.dev), 0x27);
    rig_out(p.rig, 0x20, 0x0b);
    assert_int_equal(rig_in(p.rig, 0x20), 0); /* IRQ 7 is not in service */
    rig_free(p.rig);
}

static void test_rotation(void **state)
{
    struct pic p;

    (void)state;
    program(&p, 0x03);          /* AEOI */
    rig_out(p.rig, 0x20, 0x80); /* rotate in AEOI mode */
    pulse(&p, 0);
    pulse(&p, 1);
    assert_int_equal(i8259_acknowledge(&p.dev), 0x20);
    pulse(&p, 0);
    assert_int_equal(i8259_acknowledge(&p.dev), 0x21);
    assert_int_equal(i8259_acknowledge(&p.dev), 0x20);
    rig_out(p.rig, 0x20, 0xc4); /* lowest is 4 */
    pulse(&p, 4);
    pulse(&p, 5);
    assert_int_equal(i8259_acknowledge(&p.dev), 0x25);
    rig_free(p.rig);
}

static void test_special_mask(void **state)
{
    struct pic p;

    (void)state;
    program(&p, 0x01);
    pulse(&p, 1);
    assert_int_equal(i8259_acknowledge(&p.dev), 0x21);
    rig_out(p.rig, 0x21, 0x02);
    rig_out(p.rig, 0x20, 0x68); /* special mask mode */
    pulse(&p, 6);
    assert_int_equal(i8259_acknowledge(&p.dev), 0x26);
    rig_out(p.rig, 0x20, 0x20); /* does not touch the masked 1 */
    rig_out(p.rig, 0x20, 0x0b);
    assert_int_equal(rig_in(p.rig, 0x20), 0x02);
    rig_free(p.rig);
}

static void test_poll(void **state)
{
    struct pic p;

    (void)state;
    program(&p, 0x01);
    pulse(&p, 5);
    rig_out(p.rig, 0x20, 0x0c);
    assert_int_equal(rig_in(p.rig, 0x20), 0x85);
    assert_false(p.rig->level[INTR]);
    rig_out(p.rig, 0x20, 0x0c);
    assert_int_equal(rig_in(p.rig, 0x20) & 0x80, 0);
    rig_free(p.rig);
}

static void test_damaged_state(void **state)
{
    struct pic p;

    (void)state;
    program(&p, 0x01);
    pulse(&p, 12);
    rig_save_and_load(&i8259_state_desc, &p.dev);
    assert_int_equal(i8259_acknowledge(&p.dev), 0x2c);
    rig_load_damaged(p.rig, &i8259_state_desc, &p.dev, 0x20, 2);
    rig_free(p.rig);
}

static void test_hammer(void **state)
{
    static const uint16_t ports[] = {0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1};
    struct pic p;

    (void)state;
    pic_init(&p);
    for (unsigned i = 0; i < 100000; i++) {
        uint64_t r = rig_random(p.rig);
        uint16_t port = ports[(r >> 8) % 6];
        unsigned size = 1u << (r >> 16) % 3;

        switch (r & 3) {
        case 0: bus_pio_write(&p.rig->bus, port, r >> 32, size); break;
        case 1: bus_pio_read(&p.rig->bus, port, size); break;
        case 2: i8259_set_irq(&p.dev, r >> 24 & 31, r >> 20 & 1); break;
        default: assert_in_range(i8259_acknowledge(&p.dev), 0, 255); break;
        }
    }
    rig_free(p.rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_masked_after_reset),
        cmocka_unit_test(test_edge_priority_and_eoi),
        cmocka_unit_test(test_edge_needs_to_fall),
        cmocka_unit_test(test_slave),
        cmocka_unit_test(test_special_fully_nested),
        cmocka_unit_test(test_level),
        cmocka_unit_test(test_spurious),
        cmocka_unit_test(test_rotation),
        cmocka_unit_test(test_special_mask),
        cmocka_unit_test(test_poll),
        cmocka_unit_test(test_damaged_state),
        cmocka_unit_test(test_hammer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
