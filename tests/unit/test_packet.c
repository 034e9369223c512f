/* test_packet.c - checksums that were left undone, and TCP segments that are joined. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "net/merge.h"

#define HEADERS 54 /* Ethernet, IPv4, TCP */
#define MSS 1460

static void put16(uint8_t *at, unsigned v)
{
    at[0] = (uint8_t)(v >> 8);
    at[1] = (uint8_t)v;
}

static void put32(uint8_t *at, uint32_t v)
{
    put16(at, v >> 16);
    put16(at + 2, v & 0xffff);
}

static unsigned get16(const uint8_t *at)
{
    return at[0] << 8 | at[1];
}

/* The sum as RFC 1071 has it: one 16-bit word after the other. */
static uint16_t simple_sum(const uint8_t *bytes, size_t len, uint32_t sum)
{
    for (size_t i = 0; i < len; i++)
        sum += i & 1 ? bytes[i] : (uint32_t)bytes[i] << 8;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

/* What the TCP checksum of a whole packet comes to: FFFFh if it is right. */
static uint16_t tcp_sum(const uint8_t *packet, size_t len)
{
    return simple_sum(packet + 34, len - 34,
                      6 + (uint32_t)(len - 34) + simple_sum(packet + 26, 8, 0));
}

/* A segment with all checksums; returns its length. */
static size_t segment(uint8_t *p, uint32_t seq, size_t payload, unsigned flags)
{
    const size_t len = HEADERS + payload;

    memset(p, 0, HEADERS);
    put16(p + 12, 0x0800);
    p[14] = 0x45;
    put16(p + 16, (unsigned)len - 14);
    put16(p + 18, seq / 7); /* an ID of its own */
    p[22] = 64;
    p[23] = 6;
    put32(p + 26, 0x0a000202);
    put32(p + 30, 0x0a00020f);
    put16(p + 24, (uint16_t)~simple_sum(p + 14, 20, 0));
    put16(p + 34, 5001);
    put16(p + 36, 40000);
    put32(p + 38, seq);
    put32(p + 42, 77);
    p[46] = 0x50;
    p[47] = (uint8_t)flags;
    put16(p + 48, 0xfff0);
    for (size_t i = 0; i < payload; i++)
        p[HEADERS + i] = (uint8_t)(seq + i);
    put16(p + 50, (uint16_t)~tcp_sum(p, len));
    return len;
}

struct fixture {
    struct merge_queue queue;
    uint8_t packet[PACKET_MAX];
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    assert_non_null(f);
    f->queue.join = true;
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    merge_clear(&f->queue);
    assert_int_equal(f->queue.bytes, 0);
    free(f);
    return 0;
}

static void add(struct fixture *f, uint32_t seq, size_t payload, unsigned flags)
{
    merge_add(&f->queue, f->packet, segment(f->packet, seq, payload, flags));
}

static unsigned count(const struct fixture *f)
{
    unsigned n = 0;

    for (const struct merge_packet *p = f->queue.first; p; p = p->next)
        n++;
    return n;
}

static void sums_agree_with_the_rfc(void **state)
{
    uint8_t bytes[67];

    (void)state;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 89 + 200);
    for (size_t len = 0; len <= sizeof bytes; len++)
        assert_int_equal(packet_fold(packet_sum(bytes, len, 0)), simple_sum(bytes, len, 0));
    memset(bytes, 0xff, sizeof bytes);
    assert_int_equal(packet_fold(packet_sum(bytes, 64, 0)), 0xffff);
}

static void a_missing_checksum_is_filled_in(void **state)
{
    struct fixture *f = *state;
    const struct packet_header header = {
        .flags = PACKET_NEEDS_CSUM, .csum_start = 34, .csum_offset = 16};
    size_t len = segment(f->packet, 1000, 333, 0x10);

    assert_int_equal(tcp_sum(f->packet, len), 0xffff);
    put16(f->packet + 50, simple_sum(f->packet + 26, 8, 6 + (uint32_t)(len - 34)));
    assert_int_not_equal(tcp_sum(f->packet, len), 0xffff);
    assert_true(packet_complete(&header, f->packet, len));
    assert_int_equal(tcp_sum(f->packet, len), 0xffff);
}

static void a_checksum_outside_of_the_packet_is_refused(void **state)
{
    struct fixture *f = *state;
    static const struct packet_header bad[] = {
        {.flags = PACKET_NEEDS_CSUM, .csum_start = 65535, .csum_offset = 65535},
        {.flags = PACKET_NEEDS_CSUM, .csum_start = 101, .csum_offset = 0},
        {.flags = PACKET_NEEDS_CSUM, .csum_start = 34, .csum_offset = 65},
        {.flags = PACKET_NEEDS_CSUM, .csum_start = 100, .csum_offset = 0},
    };

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_false(packet_complete(&bad[i], f->packet, 100));
    assert_true(packet_complete(&(struct packet_header){.csum_start = 999}, f->packet, 100));
}

static void iovecs_are_flattened_and_bounded(void **state)
{
    struct iovec iov[2] = {{(void *)(uintptr_t) "abc", 3}, {(void *)(uintptr_t) "defgh", 5}};
    uint8_t to[8] = {0};

    (void)state;
    assert_int_equal(packet_flatten(to, 6, iov, 2), 6);
    assert_memory_equal(to, "abcdef\0\0", 8);
}

static void segments_in_sequence_become_one(void **state)
{
    struct fixture *f = *state;
    struct merge_packet *p;

    for (unsigned i = 0; i < 3; i++)
        add(f, 1000 + i * MSS, MSS, 0x10);
    add(f, 1000 + 3 * MSS, 100, 0x18);
    assert_int_equal(count(f), 1);
    p = f->queue.first;
    assert_int_equal(p->len, HEADERS + 3 * MSS + 100);
    assert_int_equal(p->header.gso_type, PACKET_GSO_TCPV4);
    assert_int_equal(p->header.gso_size, MSS);
    assert_int_equal(p->header.hdr_len, HEADERS);
    assert_int_equal(p->header.flags, PACKET_NEEDS_CSUM);
    assert_int_equal(get16(p->bytes + 16), p->len - 14);
    assert_int_equal(simple_sum(p->bytes + 14, 20, 0), 0xffff);
    assert_int_equal(p->bytes[47], 0x18);
    for (size_t i = 0; i < 3 * MSS + 100; i++)
        assert_int_equal(p->bytes[HEADERS + i], (uint8_t)(1000 + i));
    assert_true(packet_complete(&p->header, p->bytes, p->len));
    assert_int_equal(tcp_sum(p->bytes, p->len), 0xffff);
}

static void what_does_not_belong_together_is_kept_apart(void **state)
{
    struct fixture *f = *state;
    size_t len;

    add(f, 1000, MSS, 0x10);
    add(f, 1000 + MSS + 1, MSS, 0x10); /* a gap */
    assert_int_equal(count(f), 2);
    add(f, 1000 + 2 * MSS + 1, MSS, 0x11); /* FIN */
    assert_int_equal(count(f), 3);
    add(f, 0, 100, 0x10);
    add(f, 100, 200, 0x10); /* longer than the first */
    assert_int_equal(count(f), 5);
    add(f, 300, 200, 0x18); /* pushed, joined to the last */
    assert_int_equal(count(f), 5);
    add(f, 500, 200, 0x10); /* behind a push */
    assert_int_equal(count(f), 6);
    add(f, 700, 0, 0x10); /* a bare acknowledgment */
    assert_int_equal(count(f), 7);
    add(f, 0, 1000, 0x10);
    len = segment(f->packet, 1000, 1000, 0x10);
    f->packet[45]++; /* another acknowledgment */
    merge_add(&f->queue, f->packet, len);
    assert_int_equal(count(f), 9);
    len = segment(f->packet, 2000, 1000, 0x10);
    f->packet[20] = 0x20; /* a fragment */
    merge_add(&f->queue, f->packet, len);
    assert_int_equal(count(f), 10);
    for (const struct merge_packet *p = f->queue.first; p; p = p->next)
        assert_true(p->len == HEADERS + 400 || p->header.gso_type == 0);
}

static void nothing_is_joined_unasked(void **state)
{
    struct fixture *f = *state;

    f->queue.join = false;
    add(f, 0, MSS, 0x10);
    add(f, MSS, MSS, 0x10);
    assert_int_equal(count(f), 2);
    assert_int_equal(f->queue.first->header.flags, 0);
}

static void packets_and_queue_are_bounded(void **state)
{
    struct fixture *f = *state;

    for (unsigned i = 0; i < 5000; i++)
        add(f, i * MSS, MSS, 0x10);
    assert_true(f->queue.bytes <= MERGE_MAX_BYTES);
    for (const struct merge_packet *p = f->queue.first; p; p = p->next) {
        assert_true(p->len <= 14 + 65535);
        assert_true(p->len <= p->room);
    }
    merge_add(&f->queue, f->packet, PACKET_MAX + 1);
}

/* The first goes while the last, which is the second, grows. */
static void the_queue_survives_a_drop_between_joins(void **state)
{
    struct fixture *f = *state;

    add(f, 0, MSS, 0x18);
    add(f, MSS, MSS, 0x10);
    merge_drop_first(&f->queue);
    add(f, 2 * MSS, MSS, 0x10);
    assert_int_equal(count(f), 1);
    assert_int_equal(f->queue.first->len, HEADERS + 2 * MSS);
    merge_drop_first(&f->queue);
    add(f, 0, MSS, 0x10);
    assert_int_equal(count(f), 1);
}

static void damaged_packets_do_no_harm(void **state)
{
    struct fixture *f = *state;
    uint32_t random = 1;

    for (unsigned i = 0; i < 20000; i++) {
        size_t len = segment(f->packet, i * 100, 100, 0x10);

        random = random * 1664525 + 1013904223;
        f->packet[(random >> 8) % HEADERS] = (uint8_t)(random >> 24);
        merge_add(&f->queue, f->packet, random & 0x80 ? len : (random >> 16) % len);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_agree_with_the_rfc),
        cmocka_unit_test_setup_teardown(a_missing_checksum_is_filled_in, setup, teardown),
        cmocka_unit_test_setup_teardown(a_checksum_outside_of_the_packet_is_refused, setup,
                                        teardown),
        cmocka_unit_test(iovecs_are_flattened_and_bounded),
        cmocka_unit_test_setup_teardown(segments_in_sequence_become_one, setup, teardown),
        cmocka_unit_test_setup_teardown(what_does_not_belong_together_is_kept_apart, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(nothing_is_joined_unasked, setup, teardown),
        cmocka_unit_test_setup_teardown(packets_and_queue_are_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(the_queue_survives_a_drop_between_joins, setup, teardown),
        cmocka_unit_test_setup_teardown(damaged_packets_do_no_harm, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
