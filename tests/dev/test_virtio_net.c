/* test_virtio_net.c - the network card and the entropy device, with a driver on one side and the
 * end of a cable on the other. */
#include "virtio_rig.h"

#include "net/backend.h"
#include "virtio/virtio_net.h"
#include "virtio/virtio_rng.h"

#define BUFFER 0x200000u
#define HEADER sizeof(struct packet_header)

enum { RECEIVE, TRANSMIT, CONTROL };

#define F_CSUM (1u << 0)
#define F_GUEST_CSUM (1u << 1)
#define F_GUEST_TSO4 (1u << 7)
#define F_HOST_TSO4 (1u << 11)
#define F_MRG_RXBUF (1u << 15)
#define F_CTRL_VQ (1u << 17)

static const uint8_t card_address[6] = {0x52, 0x54, 0, 1, 2, 3};

struct fixture {
    struct vrig *rig;
    struct bus bus;
    struct clock clock;
    struct net net;
    struct virtio_net nic;
    unsigned sent, accepted;
    struct packet_header header; /* of the last packet that was sent */
    uint8_t bytes[PACKET_MAX];
    size_t len;
};

static struct fixture *of(struct net *net)
{
    return (struct fixture *)((char *)net - offsetof(struct fixture, net));
}

static void fake_send(struct net *net, const struct packet_header *header, const struct iovec *iov,
                      unsigned count)
{
    struct fixture *f = of(net);

    f->sent++;
    f->header = *header;
    f->len = packet_flatten(f->bytes, sizeof f->bytes, iov, count);
}

static void fake_accept(struct net *net, unsigned offloads)
{
    of(net)->accepted = offloads;
}

static const struct net_ops fake_ops = {.send = fake_send, .accept = fake_accept};

static void start(struct fixture *f, uint64_t features)
{
    vrig_attach(f->rig, &f->nic.virtio, features);
    vrig_start(f->rig);
    f->net.peer.pump(f->net.peer.opaque);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    const unsigned all = PACKET_CSUM | PACKET_TSO4;

    assert_non_null(f);
    f->rig = vrig_new();
    bus_init(&f->bus);
    clock_init(&f->clock, CLOCK_VIRTUAL);
    clock_start(&f->clock);
    f->net = (struct net){.ops = &fake_ops, .takes = all, .gives = all, .kicked.fd = -1};
    memcpy(f->net.mac, card_address, 6);
    virtio_net_init(&f->nic, &f->rig->mem, &f->bus, &f->clock, &f->net);
    start(f, F_MRG_RXBUF | F_CSUM | F_HOST_TSO4 | F_GUEST_CSUM | F_GUEST_TSO4 | F_CTRL_VQ);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    bus_free(&f->bus);
    vrig_free(f->rig);
    free(f);
    return 0;
}

static uint8_t *ram(struct fixture *f, gpa_t offset)
{
    return vrig_at(f->rig, BUFFER + offset);
}

static void pump(struct fixture *f)
{
    f->net.peer.pump(f->net.peer.opaque);
}

static void transmit(struct fixture *f, const struct packet_header *header, uint32_t len)
{
    memcpy(ram(f, 0), header, HEADER);
    vrig_chain(f->rig, TRANSMIT, BUFFER, (uint32_t)HEADER + len, 0, 0);
    virtio_notify(&f->nic.virtio, TRANSMIT);
    pump(f);
}

static bool deliver_with(struct fixture *f, const struct packet_header *header, size_t len)
{
    uint8_t packet[4096] = {0};

    memcpy(packet, card_address, 6);
    for (size_t i = 14; i < len; i++)
        packet[i] = (uint8_t)i;
    return f->net.peer.receive(f->net.peer.opaque, header, packet, len);
}

static bool deliver(struct fixture *f, size_t len)
{
    return deliver_with(f, &(struct packet_header){0}, len);
}

/* --- transmit --- */

static void a_packet_is_sent_by_the_pump(void **state)
{
    struct fixture *f = *state;
    uint32_t head, len;

    memcpy(ram(f, HEADER), "0123456789abcdef", 16);
    vrig_chain(f->rig, TRANSMIT, BUFFER, HEADER + 16, 0, 0);
    virtio_notify(&f->nic.virtio, TRANSMIT);
    assert_int_equal(f->sent, 0);
    pump(f);
    assert_int_equal(f->sent, 1);
    assert_int_equal(f->len, 16);
    assert_memory_equal(f->bytes, "0123456789abcdef", 16);
    assert_true(vrig_take(f->rig, TRANSMIT, &head, &len));
    assert_int_equal(len, 0);
    assert_int_equal(f->rig->interrupts[TRANSMIT], 1);
}

static void a_header_in_pieces_is_read(void **state)
{
    struct fixture *f = *state;
    struct vrig_desc *table = vrig_table(f->rig, TRANSMIT);
    const struct packet_header header = {.flags = PACKET_NEEDS_CSUM, .csum_start = 34};

    memcpy(ram(f, 0), &header, HEADER);
    table[0] = (struct vrig_desc){BUFFER, 7, VRIG_NEXT, 1};
    table[1] = (struct vrig_desc){BUFFER + 7, HEADER - 7 + 20, VRIG_NEXT, 2};
    table[2] = (struct vrig_desc){BUFFER + HEADER + 20, 40, 0, 0};
    vrig_offer(f->rig, TRANSMIT, 0);
    virtio_notify(&f->nic.virtio, TRANSMIT);
    pump(f);
    assert_int_equal(f->len, 60);
    assert_int_equal(f->header.csum_start, 34);
}

static void odd_packets_are_lost(void **state)
{
    struct fixture *f = *state;
    uint32_t head, len;

    transmit(f, &(struct packet_header){.gso_type = PACKET_GSO_TCPV6}, 100);
    transmit(f, &(struct packet_header){.gso_type = 0x42}, 100);
    transmit(f, &(struct packet_header){0}, 70000);
    transmit(f, &(struct packet_header){0}, 0);
    vrig_chain(f->rig, TRANSMIT, BUFFER, 5, 0, 0);
    vrig_chain(f->rig, TRANSMIT, 0, 0, BUFFER, 100);
    virtio_notify(&f->nic.virtio, TRANSMIT);
    pump(f);
    assert_int_equal(f->sent, 0);
    for (unsigned i = 0; i < 6; i++)
        assert_true(vrig_take(f->rig, TRANSMIT, &head, &len));
    transmit(f, &(struct packet_header){.gso_type = PACKET_GSO_TCPV4, .gso_size = 1000}, 60000);
    assert_int_equal(f->sent, 1);
}

static void what_was_not_agreed_is_lost(void **state)
{
    struct fixture *f = *state;

    start(f, 0);
    transmit(f, &(struct packet_header){.flags = PACKET_NEEDS_CSUM}, 100);
    transmit(f, &(struct packet_header){.gso_type = PACKET_GSO_TCPV4}, 100);
    assert_int_equal(f->sent, 0);
    assert_false(deliver(f, 100)); /* no room, but nothing is wrong with it */
    assert_true(deliver_with(f, &(struct packet_header){.flags = PACKET_NEEDS_CSUM}, 100));
}

/* --- receive --- */

static void a_packet_takes_as_many_buffers_as_it_needs(void **state)
{
    struct fixture *f = *state;
    const struct packet_header *header = (const void *)ram(f, 0);
    uint32_t head, len;

    for (unsigned i = 0; i < 3; i++)
        vrig_chain(f->rig, RECEIVE, 0, 0, BUFFER + i * 0x1000, 500);
    assert_true(deliver(f, 1300));
    assert_int_equal(header->num_buffers, 3);
    assert_true(vrig_take(f->rig, RECEIVE, &head, &len) && len == 500);
    assert_true(vrig_take(f->rig, RECEIVE, &head, &len) && len == 500);
    assert_true(vrig_take(f->rig, RECEIVE, &head, &len) && len == 1300 + HEADER - 1000);
    for (unsigned i = 14; i < 1300; i++) {
        unsigned at = i + (unsigned)HEADER;

        assert_int_equal(*ram(f, at / 500 * 0x1000 + at % 500), (uint8_t)i);
    }
    assert_int_equal(f->rig->interrupts[RECEIVE], 1);
}

static void too_few_buffers_stay_where_they_are(void **state)
{
    struct fixture *f = *state;
    uint32_t head, len;

    vrig_chain(f->rig, RECEIVE, 0, 0, BUFFER, 500);
    vrig_chain(f->rig, RECEIVE, 0, 0, BUFFER + 0x1000, 500);
    assert_false(deliver(f, 1300));
    assert_false(vrig_take(f->rig, RECEIVE, &head, &len));
    assert_true(deliver(f, 300)); /* the first is there */
    assert_true(vrig_take(f->rig, RECEIVE, &head, &len) && head == 0);
    vrig_chain(f->rig, RECEIVE, 0, 0, BUFFER + 0x2000, 500);
    vrig_chain(f->rig, RECEIVE, 0, 0, BUFFER + 0x3000, 500);
    assert_true(deliver(f, 1300));
    assert_true(vrig_take(f->rig, RECEIVE, &head, &len) && head == 1);
}

/* A ring that is full of buffers and can never hold the packet does not stop those after it. */
static void a_packet_that_never_fits_is_lost(void **state)
{
    struct fixture *f = *state;

    for (unsigned i = 0; i < f->rig->size; i++)
        vrig_chain(f->rig, RECEIVE, 0, 0, BUFFER + i * 64, 64);
    assert_true(deliver(f, 4000));
    assert_true(deliver(f, 100));
}

static void without_mergeable_buffers_one_has_to_do(void **state)
{
    struct fixture *f = *state;
    const struct packet_header *header = (const void *)ram(f, 0x1000);
    uint32_t head, len;

    start(f, 0);
    assert_false(deliver(f, 100));
    vrig_chain(f->rig, RECEIVE, 0, 0, BUFFER, 50);
    assert_true(deliver(f, 100)); /* lost */
    assert_false(vrig_take(f->rig, RECEIVE, &head, &len));
    assert_true(deliver(f, 50 - HEADER));
    assert_true(vrig_take(f->rig, RECEIVE, &head, &len) && len == 50);
    vrig_chain(f->rig, RECEIVE, 0, 0, BUFFER + 0x1000, 2000);
    assert_true(deliver(f, 1514));
    assert_true(vrig_take(f->rig, RECEIVE, &head, &len) && len == 1514 + HEADER);
    assert_int_equal(header->num_buffers, 1);
}

static void nothing_moves_while_paused(void **state)
{
    struct fixture *f = *state;

    vrig_chain(f->rig, RECEIVE, 0, 0, BUFFER, 500);
    clock_stop(&f->clock);
    assert_false(deliver(f, 100));
    transmit(f, &(struct packet_header){0}, 100);
    assert_int_equal(f->sent, 0);
    clock_start(&f->clock);
    pump(f);
    assert_int_equal(f->sent, 1);
    assert_true(deliver(f, 100));
}

static void a_card_that_is_not_ready_loses_packets(void **state)
{
    struct fixture *f = *state;

    virtio_set_status(&f->nic.virtio, 0);
    assert_true(deliver(f, 100));
    pump(f);
    assert_int_equal(f->accepted, 0);
}

/* --- control --- */

static unsigned command(struct fixture *f, const void *bytes, uint32_t len)
{
    uint32_t head, written;

    memcpy(ram(f, 0x8000), bytes, len);
    *ram(f, 0xf000) = 0xee;
    vrig_chain(f->rig, CONTROL, BUFFER + 0x8000, len, BUFFER + 0xf000, 1);
    virtio_notify(&f->nic.virtio, CONTROL);
    assert_true(vrig_take(f->rig, CONTROL, &head, &written));
    return *ram(f, 0xf000);
}

/* Does a packet for this address arrive? */
static bool arrives(struct fixture *f, const uint8_t address[6])
{
    uint8_t packet[60] = {0};
    uint32_t head, len;

    memcpy(packet, address, 6);
    vrig_chain(f->rig, RECEIVE, 0, 0, BUFFER, 200);
    f->net.peer.receive(f->net.peer.opaque, &(struct packet_header){0}, packet, sizeof packet);
    return vrig_take(f->rig, RECEIVE, &head, &len);
}

static const uint8_t other[6] = {0x52, 0x54, 0, 9, 9, 9};
static const uint8_t group[6] = {0x01, 0, 0x5e, 0, 0, 1};
static const uint8_t everybody[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

static void filters_filter(void **state)
{
    struct fixture *f = *state;

    assert_true(arrives(f, other)); /* promiscuous at first */
    assert_int_equal(command(f, "\0\0\0", 3), 0);
    assert_true(arrives(f, card_address));
    assert_true(arrives(f, everybody));
    assert_false(arrives(f, other));
    assert_false(arrives(f, group));
    assert_int_equal(command(f, "\0\1\1", 3), 0); /* all multicast */
    assert_true(arrives(f, group));
    assert_int_equal(command(f, "\0\3\1", 3), 0); /* no multicast */
    assert_false(arrives(f, group));
    assert_int_equal(command(f, "\0\2\1", 3), 0); /* all unicast */
    assert_true(arrives(f, other));
    assert_int_equal(command(f, "\0\4\1", 3), 0); /* no unicast */
    assert_false(arrives(f, card_address));
    assert_int_equal(command(f, "\0\5\1", 3), 0); /* no broadcast */
    assert_false(arrives(f, everybody));
    assert_int_equal(command(f, "\0\6\1", 3), 1);
}

static void addresses_are_listed(void **state)
{
    struct fixture *f = *state;
    uint8_t bytes[2 + 4 + 6 + 4 + 6] = {1, 0, 1, [2 + 4 + 6] = 1};

    memcpy(bytes + 6, other, 6);
    memcpy(bytes + 16, group, 6);
    assert_int_equal(command(f, "\0\0\0", 3), 0);
    assert_int_equal(command(f, bytes, sizeof bytes), 0);
    assert_true(arrives(f, other));
    assert_true(arrives(f, group));
    assert_int_equal(command(f, "\1\1\x52\x54\0\x09\x09\x0a", 8), 0); /* a new address */
    assert_false(arrives(f, card_address));
    assert_int_equal(virtio_config_read(&f->nic.virtio, 4, 2), 0x0a09);
    assert_int_equal(command(f, "\1\1\x52\x54\0\x09\x09", 7), 1);
}

static void a_list_that_is_too_long_means_all(void **state)
{
    struct fixture *f = *state;
    uint8_t bytes[2 + 4 + 65 * 6 + 4] = {1, 0, 65};

    assert_int_equal(command(f, "\0\0\0", 3), 0);
    assert_int_equal(command(f, bytes, sizeof bytes), 0);
    assert_true(arrives(f, other));
    assert_false(arrives(f, group));
}

static void bad_commands_are_refused(void **state)
{
    struct fixture *f = *state;
    static const uint8_t huge[] = {1, 0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4, 5, 6};

    assert_int_equal(command(f, "\0", 1), 1);
    assert_int_equal(command(f, "\0\0", 2), 1);
    assert_int_equal(command(f, "\7\0\1", 3), 1);
    assert_int_equal(command(f, "\1\2\1", 3), 1);
    assert_int_equal(command(f, huge, sizeof huge), 1);
    assert_int_equal(command(f, "\1\0\0\0\0\0", 6), 1);          /* one list only */
    assert_int_equal(command(f, "\5\0\0\0\0\0\0\0\0\1", 10), 1); /* offloads nobody has */
    assert_int_equal(command(f, "\5\0\0\0\0", 5), 1);
}

static void offloads_are_told_to_the_far_end(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(f->accepted, PACKET_CSUM | PACKET_TSO4);
    assert_int_equal(command(f, "\5\0\2\0\0\0\0\0\0\0", 10), 0);
    pump(f);
    assert_int_equal(f->accepted, PACKET_CSUM);
    virtio_set_status(&f->nic.virtio, 0);
    pump(f);
    assert_int_equal(f->accepted, 0);
}

static void state_survives(void **state)
{
    struct fixture *f = *state;
    struct state_list *list = state_list_new();
    uint8_t *data = NULL;
    size_t size = 0;
    struct err err = {0};

    assert_int_equal(command(f, "\0\0\0", 3), 0);
    assert_int_equal(command(f, "\5\0\2\0\0\0\0\0\0\0", 10), 0);
    virtio_add_state(&f->nic.virtio, list, 0);
    state_add(list, &virtio_net_state_desc, 0, &f->nic);
    assert_int_equal(state_save(list, &data, &size, &err), 0);
    virtio_set_status(&f->nic.virtio, 0);
    pump(f);
    assert_int_equal(state_load(list, data, size, &err), 0);
    pump(f);
    assert_int_equal(f->accepted, PACKET_CSUM);
    assert_false(arrives(f, other));
    assert_true(arrives(f, card_address));
    for (size_t i = 0; i < size; i++) {
        uint8_t keep = data[i];

        data[i] = (uint8_t)(i * 37);
        if (state_load(list, data, size, &err) == 0)
            arrives(f, other);
        data[i] = keep;
    }
    free(data);
    state_list_free(list);
}

/* --- entropy --- */

static void random_bytes_are_given(void **state)
{
    struct vrig *rig = vrig_new();
    struct clock clock;
    struct virtio_rng rng;
    uint8_t *bytes = vrig_at(rig, BUFFER);
    uint32_t head, len;

    (void)state;
    for (unsigned mode = 0; mode < 2; mode++) {
        unsigned zeros = 0;

        clock_init(&clock, mode ? CLOCK_VIRTUAL : CLOCK_HOST);
        virtio_rng_init(&rng, &rig->mem, &clock);
        vrig_attach(rig, &rng.virtio, 0);
        vrig_start(rig);
        memset(bytes, 0, 0x10000);
        vrig_chain(rig, 0, 0, 0, BUFFER, 1000);
        vrig_chain(rig, 0, 0, 0, BUFFER + 0x8000, 0x8000);
        vrig_chain(rig, 0, BUFFER, 10, 0, 0);
        virtio_notify(&rng.virtio, 0);
        assert_true(vrig_take(rig, 0, &head, &len) && len == 1000);
        assert_true(vrig_take(rig, 0, &head, &len) && len > 0 && len <= 0x8000);
        assert_true(vrig_take(rig, 0, &head, &len) && len == 0);
        for (unsigned i = 0; i < 1000; i++)
            zeros += bytes[i] == 0;
        assert_true(zeros < 30);
        assert_int_equal(bytes[1000], 0);
    }
    vrig_free(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define WITH_CARD(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
        WITH_CARD(a_packet_is_sent_by_the_pump),
        WITH_CARD(a_header_in_pieces_is_read),
        WITH_CARD(odd_packets_are_lost),
        WITH_CARD(what_was_not_agreed_is_lost),
        WITH_CARD(a_packet_takes_as_many_buffers_as_it_needs),
        WITH_CARD(too_few_buffers_stay_where_they_are),
        WITH_CARD(a_packet_that_never_fits_is_lost),
        WITH_CARD(without_mergeable_buffers_one_has_to_do),
        WITH_CARD(nothing_moves_while_paused),
        WITH_CARD(a_card_that_is_not_ready_loses_packets),
        WITH_CARD(filters_filter),
        WITH_CARD(addresses_are_listed),
        WITH_CARD(a_list_that_is_too_long_means_all),
        WITH_CARD(bad_commands_are_refused),
        WITH_CARD(offloads_are_told_to_the_far_end),
        WITH_CARD(state_survives),
        cmocka_unit_test(random_bytes_are_given),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
