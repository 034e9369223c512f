/* net.h - the far end of a network cable: what a network device is connected to.
 *
 *   user   a network of its own, with a gateway that reaches the world through sockets of this
 *          process (libslirp): no privileges needed
 *   tap    a tap interface of the host
 *
 * A device is the peer of a `struct net`. Packets move on the main thread only, in the device's
 * pump(), without the bus lock: net_send() takes a packet of the guest, and the peer's receive()
 * takes one for the guest. A device that has packets or room for packets, on whatever thread it
 * learns that, calls net_kick(), and pump() follows soon.
 *
 * Nothing moves while the machine is paused: the peer's receive() refuses, and a packet that it
 * refuses waits (a few; the network loses the rest) for the next pump().
 *
 * All functions are for the main thread, but for net_kick(). */
#ifndef DOBLE_NET_NET_H
#define DOBLE_NET_NET_H

#include "base/loop.h"
#include "net/net_config.h"
#include "net/packet.h"

struct net;

struct net_peer {
    /* A packet for the guest, whose header leaves nothing undone that net_accept() did not allow.
     * False: no room now. */
    bool (*receive)(void *opaque, const struct packet_header *header, const uint8_t *packet,
                    size_t len);
    /* Sends what the guest has to send. */
    void (*pump)(void *opaque);
    void *opaque;
};

/* Opens the far end: everything of the host that can fail does so here. *net is NULL for a
 * configuration of NET_NONE. */
int net_open(struct net **net, const struct net_config *config, struct err *err) MUST_USE;
void net_close(struct net *net); /* NULL is allowed */

/* Connects the device; and the loop that drives it all, before it runs. */
void net_set_peer(struct net *net, const struct net_peer *peer);
int net_start(struct net *net, struct loop *loop, struct err *err) MUST_USE;

/* The address that the configuration asks for. */
const uint8_t *net_mac(const struct net *net);

/* What a guest may leave undone (enum packet_offload), and what of its packets for the guest the
 * far end can leave undone. */
unsigned net_takes(const struct net *net);
unsigned net_gives(const struct net *net);
/* What the guest accepts undone, out of net_gives(). */
void net_accept(struct net *net, unsigned offloads);

/* A packet of the guest, which is gone afterwards. The bytes may change while they are read. */
void net_send(struct net *net, const struct packet_header *header, const struct iovec *iov,
              unsigned count);

/* Has pump() called soon. Any thread. */
void net_kick(struct net *net);

#endif
