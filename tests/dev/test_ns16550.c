/* test_ns16550.c - the serial port, through the bus: FIFO, interrupt priorities, time-out,
 * loopback. */
#include "rig.h"

#include "dev/ns16550.h"

#include <string.h>

#define BASE 0x3f8
enum { RBR, IER, IIR, LCR, MCR, LSR, MSR, SCR };

struct fixture {
    struct rig *rig;
    struct ns16550 uart;
    uint8_t sent[64];
    unsigned sent_count;
    unsigned room_calls;
};

static void sent(void *opaque, const uint8_t *buf, size_t n)
{
    struct fixture *f = opaque;

    for (size_t i = 0; i < n; i++)
        f->sent[f->sent_count++ % sizeof f->sent] = buf[i];
}

static void room(void *opaque)
{
    ((struct fixture *)opaque)->room_calls++;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    f->rig = rig_new();
    ns16550_init(&f->uart, &f->rig->clock, rig_line(f->rig, 0));
    f->uart.tx = sent;
    f->uart.can_receive = room;
    f->uart.opaque = f;
    ns16550_attach(&f->uart, &f->rig->bus, "ns16550", BASE);
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

static uint8_t in(struct fixture *f, unsigned reg)
{
    return rig_in(f->rig, (uint16_t)(BASE + reg));
}

static void out(struct fixture *f, unsigned reg, uint8_t value)
{
    rig_out(f->rig, (uint16_t)(BASE + reg), value);
}

static void sends_at_once(void **state)
{
    struct fixture *f = *state;

    out(f, RBR, 'h');
    out(f, RBR, 'i');
    assert_int_equal(f->sent_count, 2);
    assert_memory_equal(f->sent, "hi", 2);
    assert_int_equal(in(f, LSR), 0x60);
}

static void registers_keep_their_bits(void **state)
{
    struct fixture *f = *state;

    out(f, SCR, 0x5a);
    out(f, IER, 0xff);
    out(f, MCR, 0xff);
    out(f, LCR, 0x83);
    out(f, RBR, 0x34);
    out(f, IER, 0x12);
    assert_int_equal(in(f, RBR), 0x34);
    assert_int_equal(in(f, IER), 0x12);
    out(f, LCR, 0x03);
    assert_int_equal(in(f, IER), 0x0f);
    assert_int_equal(in(f, LCR), 0x03);
    assert_int_equal(in(f, MCR), 0x1f);
    assert_int_equal(in(f, SCR), 0x5a);
    assert_int_equal(f->sent_count, 0);
}

static void empty_transmitter_interrupts(void **state)
{
    struct fixture *f = *state;

    out(f, MCR, 0x08);
    out(f, IER, 0x02);
    assert_true(f->rig->level[0]);
    assert_int_equal(in(f, IIR), 0x02);
    assert_false(f->rig->level[0]); /* reading it acknowledges */
    assert_int_equal(in(f, IIR), 0x01);
    out(f, RBR, 'x');
    out(f, RBR, 'y');
    assert_int_equal(f->rig->rises[0], 3); /* an edge for each */
    assert_int_equal(in(f, IIR), 0x02);
    out(f, IER, 0x00);
    out(f, IER, 0x02);
    assert_int_equal(in(f, IIR), 0x02); /* enabling it anew raises it anew */
}

static void out2_connects_the_line(void **state)
{
    struct fixture *f = *state;

    out(f, IER, 0x02);
    assert_false(f->rig->level[0]);
    out(f, MCR, 0x08);
    assert_true(f->rig->level[0]);
    out(f, MCR, 0x18);
    assert_false(f->rig->level[0]);
}

static void takes_what_fits(void **state)
{
    struct fixture *f = *state;
    uint8_t bytes[20];

    for (unsigned i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)i;
    assert_int_equal(ns16550_receive(&f->uart, bytes, 20), 1); /* no FIFO yet */
    assert_int_equal(ns16550_receive(&f->uart, bytes, 20), 0);
    assert_int_equal(in(f, RBR), 0);
    assert_int_equal(f->room_calls, 1);
    out(f, IIR, 0x01);
    assert_int_equal(ns16550_receive(&f->uart, bytes, 20), 16);
    f->room_calls = 0;
    for (unsigned i = 0; i < 16; i++) {
        assert_int_equal(in(f, LSR), 0x61);
        assert_int_equal(in(f, RBR), i);
    }
    assert_int_equal(f->room_calls, 1); /* only when it stops being full */
    assert_int_equal(in(f, LSR), 0x60);
    assert_int_equal(in(f, RBR), 0);
}

static void trigger_level_and_time_out(void **state)
{
    struct fixture *f = *state;

    out(f, MCR, 0x08);
    out(f, IIR, 0x81); /* trigger at 8 */
    out(f, LCR, 0x83);
    out(f, RBR, 1); /* 115200 */
    out(f, LCR, 0x03);
    out(f, IER, 0x01);
    assert_int_equal(ns16550_receive(&f->uart, (const uint8_t *)"1234567", 7), 7);
    assert_int_equal(in(f, IIR), 0xc1);
    rig_pass(f->rig, 340000); /* four characters of 86.8 us take 347 us */
    assert_int_equal(in(f, IIR), 0xc1);
    rig_pass(f->rig, 10000);
    assert_int_equal(in(f, IIR), 0xcc);
    assert_true(f->rig->level[0]);
    assert_int_equal(in(f, RBR), '1');
    assert_int_equal(in(f, IIR), 0xc1); /* any read ends the time-out */
    assert_int_equal(ns16550_receive(&f->uart, (const uint8_t *)"89", 2), 2);
    assert_int_equal(in(f, IIR), 0xc4);
    assert_int_equal(in(f, RBR), '2');
    assert_int_equal(in(f, IIR), 0xc1); /* below the trigger */
    out(f, IIR, 0x83);                  /* clear the FIFO */
    assert_int_equal(in(f, LSR), 0x60);
    rig_pass(f->rig, 1000000);
    assert_int_equal(in(f, IIR), 0xc1);
}

static void priorities(void **state)
{
    struct fixture *f = *state;

    out(f, IER, 0x0f);
    out(f, MCR, 0x10); /* loopback */
    out(f, RBR, 'a');
    out(f, RBR, 'b');  /* overrun: there is no FIFO */
    out(f, MCR, 0x12); /* RTS gives a change of CTS */
    assert_int_equal(in(f, IIR), 0x06);
    assert_int_equal(in(f, LSR), 0x63);
    assert_int_equal(in(f, IIR), 0x04);
    assert_int_equal(in(f, RBR), 'b');
    assert_int_equal(in(f, IIR), 0x02);
    assert_int_equal(in(f, IIR), 0x00);
    (void)in(f, MSR);
    assert_int_equal(in(f, IIR), 0x01);
}

static void loopback(void **state)
{
    struct fixture *f = *state;

    out(f, MCR, 0x1f);
    assert_int_equal(in(f, MSR) & 0xf0, 0xf0);
    out(f, RBR, 0xa5);
    assert_int_equal(f->sent_count, 0);
    assert_int_equal(in(f, RBR), 0xa5);
    assert_int_equal(ns16550_receive(&f->uart, (const uint8_t *)"x", 1), 0);
    out(f, MCR, 0x10);
    assert_int_equal(in(f, MSR), 0x0f); /* all four fell; RI's trailing edge */
    out(f, MCR, 0x00);
    assert_int_equal(in(f, MSR), 0xbb); /* RI did not rise at the pin */
    assert_int_equal(f->room_calls, 1); /* the line is connected again */
}

static void modem_lines(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(in(f, MSR), 0xb0);
    ns16550_set_modem_lines(&f->uart, 0);
    assert_int_equal(in(f, MSR), 0x0b);
    ns16550_set_modem_lines(&f->uart, NS16550_RI);
    assert_int_equal(in(f, MSR), 0x40);
    ns16550_set_modem_lines(&f->uart, 0);
    assert_int_equal(in(f, MSR), 0x04);
}

static void state_survives(void **state)
{
    struct fixture *f = *state;

    out(f, MCR, 0x08);
    out(f, IIR, 0x81);
    out(f, IER, 0x01);
    assert_int_equal(ns16550_receive(&f->uart, (const uint8_t *)"abc", 3), 3);
    rig_save_and_load(&ns16550_state_desc, &f->uart);
    rig_pass(f->rig, 1000000);
    assert_int_equal(in(f, IIR), 0xcc);
    assert_int_equal(in(f, RBR), 'a');
}

static void survives_hostility(void **state)
{
    struct fixture *f = *state;

    for (unsigned i = 0; i < 20; i++) {
        rig_hammer(f->rig, BASE - 2, 12, 2000);
        (void)ns16550_receive(&f->uart, (const uint8_t *)"0123456789abcdefghij", 20);
    }
    rig_load_damaged(f->rig, &ns16550_state_desc, &f->uart, BASE, 8);
    ns16550_reset(&f->uart);
    assert_int_equal(in(f, LSR), 0x60);
    assert_int_equal(in(f, IIR), 0x01);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(sends_at_once),
        TEST(registers_keep_their_bits),
        TEST(empty_transmitter_interrupts),
        TEST(out2_connects_the_line),
        TEST(takes_what_fits),
        TEST(trigger_level_and_time_out),
        TEST(priorities),
        TEST(loopback),
        TEST(modem_lines),
        TEST(state_survives),
        TEST(survives_hostility),
    };

    return cmocka_run_group_tests_name("ns16550", tests, NULL, NULL);
}
