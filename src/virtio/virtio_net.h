/* virtio_net.h - the network card (virtio 1.2, section 5.1): one pair of queues and control.
 *
 *   queue 0  receive    queue 1  transmit    queue 2  control
 *
 * Offered as far as the far end of the cable (net/net.h) takes them: checksums and TCP segments
 * left to the other side, both ways; mergeable receive buffers; filters (promiscuous, all or no
 * multicast, lists of addresses), a new address, link status.
 *
 * Packets move on the main thread, in pump() and receive(), one at a time: the bus lock is held
 * while a chain is taken or given back, and not while the network handles the packet. A notify only
 * asks for a pump(). While the machine is paused nothing moves. */
#ifndef DOBLE_VIRTIO_VIRTIO_NET_H
#define DOBLE_VIRTIO_VIRTIO_NET_H

#include "bus/bus.h"
#include "bus/clock.h"
#include "net/net.h"
#include "virtio/virtio.h"

#define VIRTIO_NET_ADDRESSES 64 /* in each list of the filter; more mean: all */

/* Wire layout, little-endian (5.1.4). */
struct virtio_net_config {
    uint8_t mac[6];
    uint16_t status;
};
_Static_assert(sizeof(struct virtio_net_config) == 8, "virtio 1.2, 5.1.4");

struct virtio_net_list {
    uint8_t count;
    bool all; /* the driver gave more than there is room for */
    uint8_t addresses[VIRTIO_NET_ADDRESSES * 6];
};

struct virtio_net {
    struct virtio_device virtio;
    struct bus *bus;
    const struct clock *clock; /* stopped: the machine is paused */
    struct net *net;
    struct virtio_net_config config;
    /* of the packet that is being sent; of the one that is being received, the first buffer and the
     * one after it that is being filled */
    struct virtq_chain sent, received, received_more;

    bool promiscuous, all_multicast, all_unicast, no_multicast, no_unicast, no_broadcast;
    struct virtio_net_list unicast, multicast;
    uint64_t guest_offloads; /* features of the guest, as it uses them now */
    bool pending;            /* the transmit queue has to be looked at */
    bool offloads_due;       /* the far end has to be told what the guest accepts */
};

/* `net` is the far end of its cable; its peer is this device from now on. */
void virtio_net_init(struct virtio_net *nic, struct memory *mem, struct bus *bus,
                     const struct clock *clock, struct net *net);

extern const struct state_desc virtio_net_state_desc;

#endif
