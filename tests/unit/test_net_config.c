/* test_net_config.c - the text of --net. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "net/net_config.h"

#include <arpa/inet.h>
#include <errno.h>

static struct net_config parse(const char *text)
{
    struct net_config c;
    struct err err = {0};

    assert_int_equal(net_config_parse(&c, text, &err), 0);
    return c;
}

static void kinds(void **state)
{
    static const uint8_t mac[6] = NET_DEFAULT_MAC;

    (void)state;
    assert_int_equal(parse("none").kind, NET_NONE);
    assert_int_equal(parse("user").kind, NET_USER);
    assert_memory_equal(parse("user").mac, mac, 6);
    assert_int_equal(parse("tap,ifname=tap0").kind, NET_TAP);
    assert_string_equal(parse("tap,ifname=tap0").ifname, "tap0");
}

static void forwards(void **state)
{
    struct net_config c =
        parse("user,hostfwd=tcp:127.0.0.1:2222-:22,hostfwd=udp::53-10.0.2.15:5353,restrict=on");

    (void)state;
    assert_int_equal(c.forward_count, 2);
    assert_true(c.restricted);
    assert_false(c.forwards[0].udp);
    assert_int_equal(c.forwards[0].host.s_addr, htonl(0x7f000001));
    assert_int_equal(c.forwards[0].host_port, 2222);
    assert_int_equal(c.forwards[0].guest.s_addr, 0);
    assert_int_equal(c.forwards[0].guest_port, 22);
    assert_true(c.forwards[1].udp);
    assert_int_equal(c.forwards[1].host.s_addr, 0);
    assert_int_equal(c.forwards[1].guest.s_addr, htonl(0x0a00020f));
}

static void addresses(void **state)
{
    static const uint8_t mac[6] = {2, 0, 0, 0xab, 0xcd, 0xef};

    (void)state;
    assert_memory_equal(parse("user,mac=02:00:00:ab:CD:ef").mac, mac, 6);
}

static void nonsense_is_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "usr",
        "none,mac=02:00:00:00:00:01",
        "user,",
        "user,ifname=tap0",
        "tap",
        "tap,ifname=",
        "tap,ifname=../../etc",
        "tap,ifname=much-too-long-for-an-interface",
        "tap,ifname=tap0,hostfwd=tcp::1-:1",
        "user,restrict=maybe",
        "user,hostfwd=tcp::80",
        "user,hostfwd=80-80",
        "user,hostfwd=sctp::80-:80",
        "user,hostfwd=tcp::0-:80",
        "user,hostfwd=tcp::65536-:80",
        "user,hostfwd=tcp::80x-:80",
        "user,hostfwd=tcp::-1-:80",
        "user,hostfwd=tcp:localhost:80-:80",
        "user,hostfwd=tcp:1.2.3.4.5.6.7.8.9.10.11.12.13.14.15.16.17.18.19.20.21.22.23:80-:80",
        "user,mac=02:00:00:00:00",
        "user,mac=02:00:00:00:00:0",
        "user,mac=02:00:00:00:00:001",
        "user,mac=01:00:00:00:00:01",
        "user,mac=02-00-00-00-00-01",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct net_config c;
        struct err err = {0};

        if (net_config_parse(&c, bad[i], &err) != -EINVAL)
            fail_msg("'%s' was taken", bad[i]);
        assert_non_null(strstr(err.text, "--net: "));
    }
}

static void too_many_forwards_are_refused(void **state)
{
    char text[2048] = "user";
    struct net_config c;
    struct err err = {0};

    (void)state;
    for (unsigned i = 0; i < NET_MAX_FORWARDS; i++)
        strcat(text, ",hostfwd=tcp::1-:1");
    assert_int_equal(parse(text).forward_count, NET_MAX_FORWARDS);
    strcat(text, ",hostfwd=tcp::1-:1");
    assert_int_equal(net_config_parse(&c, text, &err), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kinds),
        cmocka_unit_test(forwards),
        cmocka_unit_test(addresses),
        cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(too_many_forwards_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
