/* test_gdb_packet.c - framing, checksums and escapes of GDB's remote protocol. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "debug/gdb_packet.h"

/* Feeds bytes; the last thing but "nothing" that came of them. */
static enum gdb_input feed(struct gdb_reader *r, const void *bytes, size_t count)
{
    enum gdb_input last = GDB_INPUT_NONE;

    for (size_t i = 0; i < count; i++) {
        enum gdb_input input = gdb_reader_take(r, ((const uint8_t *)bytes)[i]);

        if (input != GDB_INPUT_NONE)
            last = input;
    }
    return last;
}

static enum gdb_input feed_text(struct gdb_reader *r, const char *text)
{
    return feed(r, text, strlen(text));
}

static int setup(void **state)
{
    struct gdb_reader *r = test_calloc(1, sizeof *r);

    gdb_reader_reset(r);
    *state = r;
    return 0;
}

static int teardown(void **state)
{
    test_free(*state);
    return 0;
}

static void packets(void **state)
{
    struct gdb_reader *r = *state;

    assert_int_equal(feed_text(r, "$qC#b4"), GDB_INPUT_PACKET);
    assert_int_equal(r->length, 2);
    assert_string_equal((const char *)r->data, "qC");
    assert_int_equal(feed_text(r, "$#00"), GDB_INPUT_PACKET);
    assert_int_equal(r->length, 0);
    assert_int_equal(feed_text(r, "$qC#B4"), GDB_INPUT_PACKET);
    assert_int_equal(feed_text(r, "+"), GDB_INPUT_ACK);
    assert_int_equal(feed_text(r, "-"), GDB_INPUT_NAK);
    assert_int_equal(feed_text(r, "\003"), GDB_INPUT_INTERRUPT);
    assert_int_equal(feed_text(r, "noise#00\r\n"), GDB_INPUT_NONE);
}

static void checksums(void **state)
{
    static const char *const wrong[] = {"$qC#b5", "$qC#00", "$qC#zz", "$qC#b", "$qC##b4"};
    struct gdb_reader *r = *state;

    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        gdb_reader_reset(r);
        assert_int_not_equal(feed_text(r, wrong[i]), GDB_INPUT_PACKET);
    }
    gdb_reader_reset(r);
    assert_int_equal(feed_text(r, "$qC#zz"), GDB_INPUT_BAD);
    assert_int_equal(feed_text(r, "$qC#b4"), GDB_INPUT_PACKET);
}

/* A new '$' begins anew; a Ctrl-C inside a packet is a byte of it. */
static void broken_packets(void **state)
{
    struct gdb_reader *r = *state;

    assert_int_equal(feed_text(r, "$m100,$qC#b4"), GDB_INPUT_PACKET);
    assert_string_equal((const char *)r->data, "qC");
    assert_int_equal(feed_text(r, "$}$qC#b4"), GDB_INPUT_PACKET);
    assert_string_equal((const char *)r->data, "qC");
    assert_int_equal(feed_text(r, "$\003#03"), GDB_INPUT_PACKET);
    assert_int_equal(r->data[0], 3);
}

static void escapes(void **state)
{
    struct gdb_reader *r = *state;
    static const uint8_t packet[] = "$X}\003}\004}]}\012#"; /* '#', '$', '}', '*' */
    uint8_t sum = 0;
    char digits[3];

    for (size_t i = 1; i + 2 < sizeof packet; i++)
        sum = (uint8_t)(sum + packet[i]);
    snprintf(digits, sizeof digits, "%02x", sum);
    feed(r, packet, sizeof packet - 1);
    assert_int_equal(feed_text(r, digits), GDB_INPUT_PACKET);
    assert_int_equal(r->length, 5);
    assert_memory_equal(r->data, "X#$}*", 5);
}

static enum gdb_input feed_long(struct gdb_reader *r, size_t length)
{
    char digits[3];

    snprintf(digits, sizeof digits, "%02x", (unsigned)(length * 'a' & 0xff));
    feed_text(r, "$");
    for (size_t i = 0; i < length; i++)
        feed_text(r, "a");
    feed_text(r, "#");
    return feed_text(r, digits);
}

static void lengths(void **state)
{
    struct gdb_reader *r = *state;

    assert_int_equal(feed_long(r, GDB_PACKET_MAX), GDB_INPUT_PACKET);
    assert_int_equal(r->length, GDB_PACKET_MAX);
    assert_int_equal(r->data[GDB_PACKET_MAX], 0);
    assert_int_equal(feed_long(r, GDB_PACKET_MAX + 1), GDB_INPUT_TOO_LONG);
    assert_int_equal(feed_long(r, 5 * GDB_PACKET_MAX), GDB_INPUT_TOO_LONG);
    assert_int_equal(feed_text(r, "$qC#b4"), GDB_INPUT_PACKET);
}

/* What is written can be read again, whatever the bytes. */
static void round_trip(void **state)
{
    struct gdb_reader *r = *state;
    struct gdb_payload *p = test_calloc(1, sizeof *p);
    uint8_t *frame = test_malloc(GDB_FRAME_SIZE(GDB_PACKET_MAX));
    uint8_t bytes[256];
    size_t length;

    for (unsigned i = 0; i < 256; i++)
        bytes[i] = (uint8_t)i;
    gdb_put_binary(p, bytes, sizeof bytes);
    assert_false(p->overflow);
    length = gdb_frame(p, frame);
    assert_int_equal(length, GDB_FRAME_SIZE(p->length));
    assert_int_equal(feed(r, frame, length), GDB_INPUT_PACKET);
    assert_int_equal(r->length, sizeof bytes);
    assert_memory_equal(r->data, bytes, sizeof bytes);
    test_free(frame);
    test_free(p);
}

static void payloads(void **state)
{
    struct gdb_payload *p = test_calloc(1, sizeof *p);
    static const uint8_t bytes[] = {0x00, 0x7f, 0xa5};
    const uint64_t numbers[] = {0, 0xf, 0x10, UINT64_MAX};

    (void)state;
    gdb_put_text(p, "T");
    gdb_put_hex(p, bytes, sizeof bytes);
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
        gdb_put_byte(p, ';');
        gdb_put_number(p, numbers[i]);
    }
    gdb_put_byte(p, 0);
    assert_string_equal((const char *)p->data, "T007fa5;0;f;10;ffffffffffffffff");
    p->length = sizeof p->data - 1;
    gdb_put_byte(p, 'a');
    assert_false(p->overflow);
    gdb_put_byte(p, 'b');
    assert_true(p->overflow);
    assert_int_equal(p->length, sizeof p->data);
    test_free(p);
}

static void numbers(void **state)
{
    static const char *const bad[] = {"", ",", "x1", "-1", " 1", "10000000000000000"};
    const char *text = "1f,FFFFFFFFFFFFFFFF:";
    uint64_t v = 0;

    (void)state;
    assert_true(gdb_parse_number(&text, &v));
    assert_int_equal(v, 0x1f);
    assert_false(gdb_parse_char(&text, ':'));
    assert_true(gdb_parse_char(&text, ','));
    assert_true(gdb_parse_number(&text, &v));
    assert_true(v == UINT64_MAX);
    assert_string_equal(text, ":");
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        text = bad[i];
        assert_false(gdb_parse_number(&text, &v));
    }
    text = "";
    assert_false(gdb_parse_char(&text, 0));
}

static void hexadecimal(void **state)
{
    const char *text = "00fFa";
    uint8_t bytes[4];

    (void)state;
    assert_true(gdb_parse_bytes(&text, bytes, 2));
    assert_int_equal(bytes[1], 0xff);
    assert_false(gdb_parse_bytes(&text, bytes, 1));
    text = "zz";
    assert_false(gdb_parse_bytes(&text, bytes, 1));
    text = "";
    assert_true(gdb_parse_bytes(&text, bytes, 0));
    assert_false(gdb_parse_bytes(&text, bytes, 1));
    assert_int_equal(gdb_digit('g'), -1);
    assert_int_equal(gdb_digit(0), -1);
}

/* Any bytes leave the reader in a state from which a good packet is read. */
static void noise(void **state)
{
    struct gdb_reader *r = *state;
    uint32_t seed = 1;

    for (unsigned i = 0; i < 200000; i++) {
        uint8_t byte;

        seed = seed * 1664525 + 1013904223;
        byte = (uint8_t)(seed >> 24);
        gdb_reader_take(r, i % 3 ? byte : (uint8_t) "$#}+-\003ab"[byte & 7]);
        assert_true(r->length <= GDB_PACKET_MAX);
    }
    feed_text(r, "#00");
    feed_text(r, "#00");
    assert_int_equal(feed_text(r, "$qC#b4"), GDB_INPUT_PACKET);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(packets, setup, teardown),
        cmocka_unit_test_setup_teardown(checksums, setup, teardown),
        cmocka_unit_test_setup_teardown(broken_packets, setup, teardown),
        cmocka_unit_test_setup_teardown(escapes, setup, teardown),
        cmocka_unit_test_setup_teardown(lengths, setup, teardown),
        cmocka_unit_test_setup_teardown(round_trip, setup, teardown),
        cmocka_unit_test(payloads),
        cmocka_unit_test(numbers),
        cmocka_unit_test(hexadecimal),
        cmocka_unit_test_setup_teardown(noise, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
