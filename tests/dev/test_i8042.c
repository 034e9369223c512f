/* test_i8042.c - the keyboard controller, through the bus: controller commands, keyboard and mouse
 * behind them, pacing, translation, A20 and reset. */
#include "rig.h"

#include "dev/i8042.h"

#define WAIT_NS 400000

enum { KEYBOARD_IRQ, MOUSE_IRQ, A20 };

struct fixture {
    struct rig *rig;
    struct i8042 kbc;
    unsigned resets;
};

static void count_reset(void *opaque)
{
    ((struct fixture *)opaque)->resets++;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    f->rig = rig_new();
    i8042_init(&f->kbc, &f->rig->clock, rig_line(f->rig, KEYBOARD_IRQ), rig_line(f->rig, MOUSE_IRQ),
               rig_line(f->rig, A20));
    f->kbc.reset = count_reset;
    f->kbc.opaque = f;
    i8042_attach(&f->kbc, &f->rig->bus);
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

static uint8_t status(struct fixture *f)
{
    return rig_in(f->rig, 0x64);
}

static void command(struct fixture *f, uint8_t value)
{
    rig_out(f->rig, 0x64, value);
}

static void data(struct fixture *f, uint8_t value)
{
    rig_out(f->rig, 0x60, value);
}

/* The controller's answer: there at once. */
static void expect_reply(struct fixture *f, uint8_t value)
{
    assert_true(status(f) & 1);
    assert_int_equal(rig_in(f->rig, 0x60), value);
}

/* The next byte of a device: comes after a while. */
static void expect_byte(struct fixture *f, uint8_t value, bool aux)
{
    assert_false(status(f) & 1);
    rig_pass(f->rig, WAIT_NS);
    assert_int_equal(status(f) & 0x21, aux ? 0x21 : 0x01);
    assert_int_equal(rig_in(f->rig, 0x60), value);
}

static void expect_silence(struct fixture *f)
{
    rig_pass(f->rig, 10 * WAIT_NS);
    assert_false(status(f) & 1);
}

static void set_command_byte(struct fixture *f, uint8_t value)
{
    command(f, 0x60);
    assert_true(status(f) & 8);
    data(f, value);
    assert_false(status(f) & 8);
}

static void controller_answers(void **state)
{
    struct fixture *f = *state;

    command(f, 0xaa);
    expect_reply(f, 0x55);
    command(f, 0xab);
    expect_reply(f, 0x00);
    command(f, 0xa9);
    expect_reply(f, 0x00);
    set_command_byte(f, 0x47);
    command(f, 0x20);
    expect_reply(f, 0x47);
    command(f, 0xa7);
    command(f, 0xad);
    command(f, 0x20);
    expect_reply(f, 0x77);
    command(f, 0xa8);
    command(f, 0xae);
    command(f, 0x20);
    expect_reply(f, 0x47);
    command(f, 0x65);
    data(f, 0x99);
    command(f, 0x25);
    expect_reply(f, 0x99);
}

/* As Linux looks for the mouse port: loop a byte back and expect IRQ12. */
static void loops_back(void **state)
{
    struct fixture *f = *state;

    set_command_byte(f, 0x47);
    command(f, 0xd3);
    data(f, 0x5a);
    assert_true(status(f) & 0x20);
    assert_true(f->rig->level[MOUSE_IRQ]);
    assert_false(f->rig->level[KEYBOARD_IRQ]);
    expect_reply(f, 0x5a);
    assert_false(f->rig->level[MOUSE_IRQ]);
    command(f, 0xd2);
    data(f, 0x33);
    assert_true(f->rig->level[KEYBOARD_IRQ]);
    expect_reply(f, 0x33);
}

static void keyboard_answers(void **state)
{
    struct fixture *f = *state;

    set_command_byte(f, 0x01);
    data(f, 0xff);
    expect_byte(f, 0xfa, false);
    expect_byte(f, 0xaa, false);
    data(f, 0xf2);
    expect_byte(f, 0xfa, false);
    expect_byte(f, 0xab, false);
    expect_byte(f, 0x83, false);
    data(f, 0xed);
    expect_byte(f, 0xfa, false);
    data(f, 0x02);
    expect_byte(f, 0xfa, false);
    data(f, 0xf0);
    expect_byte(f, 0xfa, false);
    data(f, 0x00);
    expect_byte(f, 0xfa, false);
    expect_byte(f, 0x02, false);
    data(f, 0xee);
    expect_byte(f, 0xee, false);
    data(f, 0xfe);
    expect_byte(f, 0xee, false);
    data(f, 0x00);
    expect_byte(f, 0xfe, false);
    data(f, 0xf4);
    expect_byte(f, 0xfa, false);
    expect_silence(f);
    assert_int_equal(f->rig->rises[KEYBOARD_IRQ], 14);
}

static void keys_are_translated(void **state)
{
    static const uint8_t a_pressed_and_released[] = {0x1c, 0xf0, 0x1c};
    struct fixture *f = *state;

    assert_true(i8042_key(&f->kbc, a_pressed_and_released, 3));
    expect_byte(f, 0x1e, false);
    rig_pass(f->rig, WAIT_NS); /* F0h is swallowed */
    expect_byte(f, 0x9e, false);
    set_command_byte(f, 0x05);
    assert_true(i8042_key(&f->kbc, a_pressed_and_released, 3));
    expect_byte(f, 0x1c, false);
    expect_byte(f, 0xf0, false);
    expect_byte(f, 0x1c, false);
    data(f, 0xf5);
    expect_byte(f, 0xfa, false);
    assert_false(i8042_key(&f->kbc, a_pressed_and_released, 3));
}

static void disabled_keyboard_waits(void **state)
{
    static const uint8_t key[] = {0x1c};
    struct fixture *f = *state;

    command(f, 0xad);
    assert_true(i8042_key(&f->kbc, key, 1));
    expect_silence(f);
    command(f, 0xae);
    expect_byte(f, 0x1e, false);
    while (i8042_key(&f->kbc, key, 1))
        continue; /* a full queue refuses */
    assert_int_equal(f->kbc.keyboard.queue.count, PS2_QUEUE_SIZE);
}

static void to_mouse(struct fixture *f, uint8_t value)
{
    command(f, 0xd4);
    data(f, value);
    expect_byte(f, 0xfa, true);
}

static void mouse_answers(void **state)
{
    struct fixture *f = *state;

    set_command_byte(f, 0x47);
    to_mouse(f, 0xff);
    expect_byte(f, 0xaa, true);
    expect_byte(f, 0x00, true);
    to_mouse(f, 0xf2);
    expect_byte(f, 0x00, true);
    to_mouse(f, 0xf3);
    to_mouse(f, 80);
    to_mouse(f, 0xe8);
    to_mouse(f, 3);
    to_mouse(f, 0xf4);
    to_mouse(f, 0xe9);
    expect_byte(f, 0x20, true);
    expect_byte(f, 0x03, true);
    expect_byte(f, 80, true);
    to_mouse(f, 0xee);
    command(f, 0xd4);
    data(f, 0x12);
    expect_byte(f, 0x12, true);
    to_mouse(f, 0xec);
    command(f, 0xd4);
    data(f, 0x12);
    expect_byte(f, 0xfe, true);
    assert_true(f->rig->rises[MOUSE_IRQ] > 10);
    assert_int_equal(f->rig->rises[KEYBOARD_IRQ], 0);
}

static void answers_wait_for_the_buffer(void **state)
{
    struct fixture *f = *state;

    data(f, 0xf4);
    rig_pass(f->rig, WAIT_NS);
    command(f, 0x20);
    expect_reply(f, 0xfa);
    expect_reply(f, 0x65);
    assert_false(status(f) & 1);
}

static void output_port(void **state)
{
    struct fixture *f = *state;

    assert_true(f->rig->level[A20]);
    command(f, 0xd1);
    data(f, 0xdd);
    assert_false(f->rig->level[A20]);
    command(f, 0xd1);
    data(f, 0xdf);
    assert_true(f->rig->level[A20]);
    command(f, 0xd0);
    expect_reply(f, 0xcf);
    assert_int_equal(f->resets, 0);
    command(f, 0xfe);
    assert_int_equal(f->resets, 1);
    command(f, 0xff);
    assert_int_equal(f->resets, 1);
    command(f, 0xd1);
    data(f, 0x02);
    assert_int_equal(f->resets, 2);
}

static void survives_hostility(void **state)
{
    struct fixture *f = *state;

    rig_hammer(f->rig, 0x60, 5, 60000);
    rig_save_and_load(&i8042_state_desc, &f->kbc);
    rig_load_damaged(f->rig, &i8042_state_desc, &f->kbc, 0x60, 5);
    i8042_reset(&f->kbc);
    data(f, 0xee);
    expect_byte(f, 0xee, false);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(controller_answers),      TEST(loops_back),    TEST(keyboard_answers),
        TEST(keys_are_translated),     TEST(mouse_answers), TEST(answers_wait_for_the_buffer),
        TEST(disabled_keyboard_waits), TEST(output_port),   TEST(survives_hostility),
    };

    return cmocka_run_group_tests_name("i8042", tests, NULL, NULL);
}
