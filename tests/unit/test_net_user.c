/* test_net_user.c - the user network answers, without a guest: ARP, DHCP, a forwarded port. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "net/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define ROUNDS 200 /* of 50 ms at most, before we give up */

struct fixture {
    struct net *net;
    struct loop loop;
    bool paused;
    unsigned received;
    uint8_t packet[PACKET_MAX]; /* the last one */
    size_t len;
    uint8_t out[512]; /* to be sent by the next pump() */
    size_t out_len;
};

static const uint8_t mac[6] = NET_DEFAULT_MAC;

static bool receive(void *opaque, const struct packet_header *header, const uint8_t *packet,
                    size_t len)
{
    struct fixture *f = opaque;

    (void)header;
    if (f->paused)
        return false;
    f->received++;
    memcpy(f->packet, packet, len);
    f->len = len;
    return true;
}

static void pump(void *opaque)
{
    struct fixture *f = opaque;
    struct packet_header header = {0};

    if (f->out_len)
        net_send(f->net, &header, &(struct iovec){f->out, f->out_len}, 1);
    f->out_len = 0;
}

static void open_with(struct fixture *f, const char *text)
{
    struct net_config config;
    struct err err = {0};

    assert_int_equal(net_config_parse(&config, text, &err), 0);
    assert_int_equal(net_open(&f->net, &config, &err), 0);
    net_set_peer(f->net, &(struct net_peer){receive, pump, f});
    assert_int_equal(net_start(f->net, &f->loop, &err), 0);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct err err = {0};

    assert_non_null(f);
    assert_int_equal(loop_init(&f->loop, &err), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    net_close(f->net);
    loop_free(&f->loop);
    free(f);
    return 0;
}

static void turn(struct fixture *f)
{
    struct pollfd fd = {.fd = f->loop.fd, .events = POLLIN};
    int ms = loop_before_wait(&f->loop);

    poll(&fd, 1, ms < 0 || ms > 50 ? 50 : ms);
    loop_dispatch(&f->loop);
}

static bool wait_for_packet(struct fixture *f)
{
    const unsigned before = f->received;

    for (unsigned i = 0; i < ROUNDS && f->received == before; i++)
        turn(f);
    return f->received != before;
}

static void ask_for_gateway(struct fixture *f)
{
    static const uint8_t request[] = {0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1};
    uint8_t *p = f->out;

    memset(p, 0, 60);
    memset(p, 0xff, 6);
    memcpy(p + 6, mac, 6);
    memcpy(p + 12, request, sizeof request);
    memcpy(p + 22, mac, 6);
    memcpy(p + 28, "\x0a\0\2\x0f", 4);
    memcpy(p + 38, "\x0a\0\2\2", 4);
    f->out_len = 60;
    net_kick(f->net);
}

static void the_gateway_answers(void **state)
{
    struct fixture *f = *state;

    open_with(f, "user");
    assert_memory_equal(net_mac(f->net), mac, 6);
    ask_for_gateway(f);
    assert_true(wait_for_packet(f));
    assert_memory_equal(f->packet, mac, 6);
    assert_memory_equal(f->packet + 12, "\x08\x06", 2);
    assert_memory_equal(f->packet + 20, "\0\2", 2); /* a reply */
    assert_memory_equal(f->packet + 28, "\x0a\0\2\2", 4);
}

static void answers_wait_for_a_paused_machine(void **state)
{
    struct fixture *f = *state;

    open_with(f, "user");
    f->paused = true;
    ask_for_gateway(f);
    for (unsigned i = 0; i < 5; i++)
        turn(f);
    assert_int_equal(f->received, 0);
    f->paused = false;
    assert_true(wait_for_packet(f));
}

/* DHCPDISCOVER, whose UDP checksum is left undone. */
static size_t discover(uint8_t *p)
{
    const unsigned bootp = 14 + 20 + 8, len = bootp + 300;
    uint32_t sum;

    memset(p, 0, len);
    memset(p, 0xff, 6);
    memcpy(p + 6, mac, 6);
    memcpy(p + 12, "\x08\x00\x45\x00", 4);
    p[16] = (len - 14) >> 8;
    p[17] = (len - 14) & 0xff;
    p[22] = 64;
    p[23] = 17;
    memset(p + 30, 0xff, 4);
    sum = (uint16_t)~packet_fold(packet_sum(p + 14, 20, 0));
    p[24] = (uint8_t)(sum >> 8);
    p[25] = (uint8_t)sum;
    memcpy(p + 34, "\0\x44\0\x43", 4); /* ports 68 and 67 */
    p[38] = (len - 34) >> 8;
    p[39] = (len - 34) & 0xff;
    memcpy(p + bootp, "\1\1\6\0abcd", 8);
    memcpy(p + bootp + 28, mac, 6);
    memcpy(p + bootp + 236, "\x63\x82\x53\x63\x35\1\1\xff", 8);
    return len;
}

static void dhcp_offers_an_address(void **state)
{
    struct fixture *f = *state;

    open_with(f, "user");
    f->out_len = discover(f->out);
    net_kick(f->net);
    assert_true(wait_for_packet(f));
    assert_memory_equal(f->packet + 14 + 20 + 8 + 16, "\x0a\0\2\x0f", 4); /* yiaddr */
}

/* A host's port that is free now. */
static unsigned free_port(int *fd)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;

    *fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(*fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(*fd, 1), 0);
    assert_int_equal(getsockname(*fd, (struct sockaddr *)&a, &len), 0);
    return ntohs(a.sin_port);
}

static void a_forwarded_port_asks_for_the_guest(void **state)
{
    struct fixture *f = *state;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    char text[64];
    int fd, client = socket(AF_INET, SOCK_STREAM, 0);
    unsigned port = free_port(&fd);

    close(fd);
    snprintf(text, sizeof text, "user,hostfwd=tcp:127.0.0.1:%u-:22", port);
    open_with(f, text);
    a.sin_port = htons((uint16_t)port);
    assert_int_equal(connect(client, (struct sockaddr *)&a, sizeof a), 0);
    assert_true(wait_for_packet(f));
    assert_memory_equal(f->packet + 12, "\x08\x06", 2);
    assert_memory_equal(f->packet + 38, "\x0a\0\2\x0f", 4); /* who has 10.0.2.15? */
    close(client);
}

static void a_busy_port_is_named(void **state)
{
    struct net_config config;
    struct net *net = NULL;
    struct err err = {0};
    char text[64], name[32];
    int fd;
    unsigned port = free_port(&fd);

    (void)state;
    snprintf(text, sizeof text, "user,hostfwd=tcp:127.0.0.1:%u-:22", port);
    snprintf(name, sizeof name, "127.0.0.1:%u", port);
    assert_int_equal(net_config_parse(&config, text, &err), 0);
    assert_int_equal(net_open(&net, &config, &err), -EADDRINUSE);
    assert_null(net);
    assert_non_null(strstr(err.text, name));
    close(fd);
}

static void an_interface_that_is_none_is_named(void **state)
{
    struct net_config config;
    struct net *net = NULL;
    struct err err = {0};

    (void)state;
    assert_int_equal(net_config_parse(&config, "tap,ifname=nosuchif", &err), 0);
    assert_int_equal(net_open(&net, &config, &err), -ENODEV);
    assert_non_null(strstr(err.text, "'nosuchif'"));
    assert_int_equal(net_config_parse(&config, "tap,ifname=lo", &err), 0);
    assert_true(net_open(&net, &config, &err) < 0);
    assert_null(net);
    assert_int_equal(net_config_parse(&config, "none", &err), 0);
    assert_int_equal(net_open(&net, &config, &err), 0);
    assert_null(net);
    net_close(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define WITH_LOOP(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
        WITH_LOOP(the_gateway_answers),
        WITH_LOOP(answers_wait_for_a_paused_machine),
        WITH_LOOP(dhcp_offers_an_address),
        WITH_LOOP(a_forwarded_port_asks_for_the_guest),
        cmocka_unit_test(a_busy_port_is_named),
        cmocka_unit_test(an_interface_that_is_none_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
