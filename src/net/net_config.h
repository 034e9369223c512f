/* net_config.h - the text of `--net`: which network a machine is connected to.
 *
 *   none
 *   user[,hostfwd=tcp|udp:[ADDR]:PORT-[GUEST]:PORT]...[,restrict=on|off][,mac=MAC]
 *   tap,ifname=NAME[,mac=MAC]
 *
 * ADDR is an address of the host (empty: all of them), GUEST one of the guest (empty: the first
 * that DHCP gives, 10.0.2.15). */
#ifndef DOBLE_NET_NET_CONFIG_H
#define DOBLE_NET_NET_CONFIG_H

#include "base/err.h"
#include "base/types.h"

#include <net/if.h>
#include <netinet/in.h>

#define NET_MAX_FORWARDS 32

enum net_kind { NET_NONE, NET_USER, NET_TAP };

struct net_forward {
    bool udp;
    struct in_addr host, guest; /* network byte order; 0.0.0.0: see above */
    uint16_t host_port, guest_port;
};

struct net_config {
    enum net_kind kind;
    uint8_t mac[6];
    bool mac_given;  /* it was in the text */
    bool restricted; /* the guest reaches the gateway and what is forwarded, and nothing else */
    unsigned forward_count;
    struct net_forward forwards[NET_MAX_FORWARDS];
    char ifname[IFNAMSIZ];
};

/* The first card's address, locally administered; further cards count on from there. */
#define NET_DEFAULT_MAC                                                                            \
    {                                                                                              \
        0x52, 0x54, 0x00, 0x12, 0x34, 0x56                                                         \
    }

/* Reads the text. -EINVAL: the sentence says what is wrong with it. */
int net_config_parse(struct net_config *config, const char *text, struct err *err) MUST_USE;

#endif
