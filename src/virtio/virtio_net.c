#include "virtio/virtio_net.h"

#include "base/trace.h"

#include <errno.h>
#include <string.h>

enum { RECEIVE = 0, TRANSMIT = 1, CONTROL = 2, QUEUES = 3 };

/* Features (5.1.3). */
#define F_CSUM (UINT64_C(1) << 0)
#define F_GUEST_CSUM (UINT64_C(1) << 1)
#define F_CTRL_GUEST_OFFLOADS (UINT64_C(1) << 2)
#define F_MAC (UINT64_C(1) << 5)
#define F_GUEST_TSO4 (UINT64_C(1) << 7)
#define F_GUEST_TSO6 (UINT64_C(1) << 8)
#define F_GUEST_ECN (UINT64_C(1) << 9)
#define F_HOST_TSO4 (UINT64_C(1) << 11)
#define F_HOST_TSO6 (UINT64_C(1) << 12)
#define F_HOST_ECN (UINT64_C(1) << 13)
#define F_MRG_RXBUF (UINT64_C(1) << 15)
#define F_STATUS (UINT64_C(1) << 16)
#define F_CTRL_VQ (UINT64_C(1) << 17)
#define F_CTRL_RX (UINT64_C(1) << 18)
#define F_CTRL_RX_EXTRA (UINT64_C(1) << 20)
#define F_CTRL_MAC_ADDR (UINT64_C(1) << 23)

#define STATUS_LINK_UP 1

/* Packets sent in one pump(): the main thread has other things to do. */
#define PACKETS_AT_ONCE 128

/* Commands (5.1.6.5). */
enum { CLASS_RX = 0, CLASS_MAC = 1, CLASS_GUEST_OFFLOADS = 5 };
enum { MAC_TABLE_SET = 0, MAC_ADDR_SET = 1 };
enum { ACK_OK = 0, ACK_ERROR = 1 };

/* What the two sides call the same thing. */
static const struct {
    unsigned offload;
    uint64_t host, guest;
} offload_features[] = {
    {PACKET_CSUM, F_CSUM, F_GUEST_CSUM},
    {PACKET_TSO4, F_HOST_TSO4, F_GUEST_TSO4},
    {PACKET_TSO6, F_HOST_TSO6, F_GUEST_TSO6},
    {PACKET_TSO_ECN, F_HOST_ECN, F_GUEST_ECN},
};

static uint64_t features_of(const struct net *net)
{
    uint64_t features = F_CTRL_GUEST_OFFLOADS | F_MAC | F_MRG_RXBUF | F_STATUS | F_CTRL_VQ |
                        F_CTRL_RX | F_CTRL_RX_EXTRA | F_CTRL_MAC_ADDR;

    for (size_t i = 0; i < ARRAY_SIZE(offload_features); i++) {
        if (net_takes(net) & offload_features[i].offload)
            features |= offload_features[i].host;
        if (net_gives(net) & offload_features[i].offload)
            features |= offload_features[i].guest;
    }
    return features;
}

/* What the guest accepts undone, in the far end's words. */
static unsigned accepted(const struct virtio_net *nic)
{
    unsigned offloads = 0;

    if (!virtio_running(&nic->virtio))
        return 0;
    for (size_t i = 0; i < ARRAY_SIZE(offload_features); i++)
        if (nic->guest_offloads & offload_features[i].guest)
            offloads |= offload_features[i].offload;
    return offloads;
}

/* --- transmit: main thread --- */

/* A driver that has not agreed on a kind of offload does not leave it undone. */
static bool header_allowed(uint64_t features, const struct packet_header *header)
{
    const uint8_t type = header->gso_type & (uint8_t)~PACKET_GSO_ECN;

    if ((header->flags & PACKET_NEEDS_CSUM) && !(features & F_CSUM))
        return false;
    if (type == PACKET_GSO_TCPV4)
        return features & F_HOST_TSO4;
    if (type == PACKET_GSO_TCPV6)
        return features & F_HOST_TSO6;
    return type == PACKET_GSO_NONE;
}

/* Without the lock: the chain is ours, and its buffers are RAM for ever. */
static void send_packet(struct virtio_net *nic, uint64_t features)
{
    struct virtq_chain *chain = &nic->sent;
    struct iovec iov[VIRTQ_MAX_SEGMENTS];
    struct packet_header header;
    unsigned count;

    if (virtq_read(chain, &header, sizeof header) < sizeof header ||
        virtq_readable(chain) > PACKET_MAX || !header_allowed(features, &header))
        return;
    trace_virtio_net_send(virtq_readable(chain), header.flags, header.gso_type);
    count = virtq_read_iov(chain, PACKET_MAX, iov);
    if (count)
        net_send(nic->net, &header, iov, count);
}

/* With the lock held, which is released while a packet is sent. */
static void send_all(struct virtio_net *nic)
{
    struct virtq *queue = virtio_queue(&nic->virtio, TRANSMIT);
    unsigned sent = 0;

    nic->pending = false;
    while (sent < PACKETS_AT_ONCE && virtq_pop(queue, &nic->sent)) {
        const uint64_t features = nic->virtio.features;

        bus_unlock(nic->bus);
        send_packet(nic, features);
        bus_lock(nic->bus);
        virtq_push(&nic->sent, 0);
        sent++;
    }
    if (sent)
        virtq_signal(queue);
    if (sent == PACKETS_AT_ONCE) {
        nic->pending = true;
        net_kick(nic->net);
    }
}

static void pump(void *opaque)
{
    struct virtio_net *nic = opaque;

    bus_lock(nic->bus);
    if (nic->offloads_due) {
        nic->offloads_due = false;
        net_accept(nic->net, accepted(nic));
    }
    if (nic->pending && !nic->clock->stopped)
        send_all(nic);
    bus_unlock(nic->bus);
}

/* --- receive: main thread --- */

static bool listed(const struct virtio_net_list *list, const uint8_t *address)
{
    for (unsigned i = 0; i < list->count; i++)
        if (memcmp(&list->addresses[6 * i], address, 6) == 0)
            return true;
    return list->all;
}

/* Does the guest want packets for this address? */
static bool wanted(const struct virtio_net *nic, const uint8_t *address)
{
    static const uint8_t broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

    if (nic->promiscuous)
        return true;
    if (memcmp(address, broadcast, 6) == 0)
        return !nic->no_broadcast;
    if (address[0] & 1)
        return !nic->no_multicast && (nic->all_multicast || listed(&nic->multicast, address));
    return !nic->no_unicast && (nic->all_unicast || memcmp(address, nic->config.mac, 6) == 0 ||
                                listed(&nic->unicast, address));
}

/* A guest that was reset may not accept what the one before did. */
static bool acceptable(const struct virtio_net *nic, const struct packet_header *header)
{
    const uint8_t type = header->gso_type & (uint8_t)~PACKET_GSO_ECN;
    uint64_t needed = header->flags & PACKET_NEEDS_CSUM ? F_GUEST_CSUM : 0;

    if (type)
        needed |= type == PACKET_GSO_TCPV6 ? F_GUEST_TSO6 : F_GUEST_TSO4;
    if (header->gso_type & PACKET_GSO_ECN)
        needed |= F_GUEST_ECN;
    return !(needed & ~nic->guest_offloads);
}

/* What became of a packet. */
enum fate { DELIVERED, LOST, NO_ROOM };

/* There was no buffer, or none any more. */
static enum fate no_buffer(const struct virtio_net *nic)
{
    return virtio_running(&nic->virtio) ? NO_ROOM : LOST;
}

static enum fate deliver_single(struct virtio_net *nic, struct packet_header *header,
                                const uint8_t *packet, size_t len)
{
    struct virtq_chain *chain = &nic->received;

    if (!virtq_pop(virtio_queue(&nic->virtio, RECEIVE), chain))
        return no_buffer(nic);
    if (chain->writable < sizeof *header + len) {
        virtq_unpop(chain);
        return LOST;
    }
    header->num_buffers = 1;
    virtq_write(chain, header, sizeof *header);
    virtq_write(chain, packet, len);
    virtq_push(chain, chain->write_done);
    return DELIVERED;
}

/* Fills one buffer after the other; the first is left in nic->received. */
static enum fate fill_buffers(struct virtio_net *nic, const struct packet_header *header,
                              const uint8_t *packet, size_t len, unsigned *count)
{
    struct virtq *queue = virtio_queue(&nic->virtio, RECEIVE);
    struct virtq_chain *chain = &nic->received;
    size_t done = 0;

    for (*count = 0; *count < queue->size && virtq_pop(queue, chain); ++*count) {
        if (*count == 0)
            virtq_write(chain, header, sizeof *header);
        done += virtq_write(chain, packet + done, len - done);
        virtq_fill(chain, chain->write_done, *count);
        if (done == len) {
            ++*count;
            return DELIVERED;
        }
        chain = &nic->received_more;
    }
    virtq_rewind(queue, *count);
    return *count == queue->size ? LOST : no_buffer(nic);
}

/* As many buffers as it takes, whose number is in the header of the first. */
static enum fate deliver_merged(struct virtio_net *nic, struct packet_header *header,
                                const uint8_t *packet, size_t len)
{
    unsigned count;
    enum fate fate = fill_buffers(nic, header, packet, len, &count);

    if (fate != DELIVERED)
        return fate;
    header->num_buffers = (uint16_t)count;
    nic->received.write_done = offsetof(struct packet_header, num_buffers);
    virtq_write(&nic->received, &header->num_buffers, sizeof header->num_buffers);
    virtq_flush(virtio_queue(&nic->virtio, RECEIVE), count);
    return DELIVERED;
}

/* With the lock held. */
static enum fate deliver(struct virtio_net *nic, struct packet_header header, const uint8_t *packet,
                         size_t len)
{
    if (nic->clock->stopped)
        return NO_ROOM;
    if (!virtio_running(&nic->virtio) || len < PACKET_ETHERNET || !wanted(nic, packet) ||
        !acceptable(nic, &header))
        return LOST;
    return virtio_has(&nic->virtio, F_MRG_RXBUF) ? deliver_merged(nic, &header, packet, len)
                                                 : deliver_single(nic, &header, packet, len);
}

static bool receive(void *opaque, const struct packet_header *header, const uint8_t *packet,
                    size_t len)
{
    struct virtio_net *nic = opaque;
    enum fate fate;

    bus_lock(nic->bus);
    fate = deliver(nic, *header, packet, len);
    if (fate == DELIVERED)
        virtq_signal(virtio_queue(&nic->virtio, RECEIVE));
    bus_unlock(nic->bus);
    trace_virtio_net_receive(len, header->gso_type, fate);
    return fate != NO_ROOM;
}

/* --- control: within the driver's notify --- */

static bool set_filter(struct virtio_net *nic, uint8_t command, struct virtq_chain *chain)
{
    bool *const filters[] = {&nic->promiscuous,  &nic->all_multicast, &nic->all_unicast,
                             &nic->no_multicast, &nic->no_unicast,    &nic->no_broadcast};
    uint8_t on;

    if (command >= ARRAY_SIZE(filters) || virtq_read(chain, &on, 1) != 1)
        return false;
    *filters[command] = on;
    return true;
}

/* A count and so many addresses. */
static bool read_list(struct virtq_chain *chain, struct virtio_net_list *list)
{
    struct iovec skipped[VIRTQ_MAX_SEGMENTS];
    uint32_t count;

    if (virtq_read(chain, &count, sizeof count) != sizeof count ||
        count > virtq_readable(chain) / 6)
        return false;
    list->all = count > VIRTIO_NET_ADDRESSES;
    list->count = 0;
    if (list->all)
        virtq_read_iov(chain, 6 * (size_t)count, skipped);
    else
        list->count = (uint8_t)(virtq_read(chain, list->addresses, 6 * (size_t)count) / 6);
    return true;
}

static bool set_address(struct virtio_net *nic, uint8_t command, struct virtq_chain *chain)
{
    struct virtio_net_list unicast = {0}, multicast = {0};

    switch (command) {
    case MAC_TABLE_SET:
        if (!read_list(chain, &unicast) || !read_list(chain, &multicast))
            return false;
        nic->unicast = unicast;
        nic->multicast = multicast;
        return true;
    case MAC_ADDR_SET:
        if (virtq_readable(chain) != sizeof nic->config.mac)
            return false;
        virtq_read(chain, nic->config.mac, sizeof nic->config.mac);
        return true;
    default: return false;
    }
}

/* The far end is told on the main thread. */
static void use_offloads(struct virtio_net *nic, uint64_t offloads)
{
    nic->guest_offloads = offloads;
    nic->offloads_due = true;
    net_kick(nic->net);
}

static bool set_offloads(struct virtio_net *nic, uint8_t command, struct virtq_chain *chain)
{
    uint64_t offloads;

    if (command != 0 || virtq_read(chain, &offloads, sizeof offloads) != sizeof offloads ||
        (offloads & ~nic->virtio.features))
        return false;
    use_offloads(nic, offloads);
    return true;
}

static bool obey(struct virtio_net *nic, struct virtq_chain *chain)
{
    uint8_t command[2];

    if (virtq_read(chain, command, sizeof command) != sizeof command)
        return false;
    trace_virtio_net_control(command[0], command[1]);
    switch (command[0]) {
    case CLASS_RX: return set_filter(nic, command[1], chain);
    case CLASS_MAC: return set_address(nic, command[1], chain);
    case CLASS_GUEST_OFFLOADS: return set_offloads(nic, command[1], chain);
    default: return false;
    }
}

static void control(struct virtio_net *nic)
{
    struct virtq *queue = virtio_queue(&nic->virtio, CONTROL);
    struct virtq_chain chain;

    while (virtq_pop(queue, &chain)) {
        uint8_t ack = obey(nic, &chain) ? ACK_OK : ACK_ERROR;

        virtq_push(&chain, (uint32_t)virtq_write(&chain, &ack, 1));
    }
    virtq_signal(queue);
}

/* --- the device --- */

/* There are packets to send, or there is room for packets to receive: the main thread's work. */
static void notify(void *opaque, unsigned queue)
{
    struct virtio_net *nic = opaque;

    if (queue == CONTROL) {
        control(nic);
        return;
    }
    if (queue == TRANSMIT)
        nic->pending = true;
    net_kick(nic->net);
}

static void forget_filters(struct virtio_net *nic)
{
    nic->promiscuous = true; /* for drivers that know no filters */
    nic->all_multicast = nic->all_unicast = false;
    nic->no_multicast = nic->no_unicast = nic->no_broadcast = false;
    memset(&nic->unicast, 0, sizeof nic->unicast);
    memset(&nic->multicast, 0, sizeof nic->multicast);
}

static void reset(void *opaque)
{
    struct virtio_net *nic = opaque;

    forget_filters(nic);
    memcpy(nic->config.mac, net_mac(nic->net), sizeof nic->config.mac);
    nic->pending = false;
    use_offloads(nic, 0);
}

static void started(void *opaque)
{
    struct virtio_net *nic = opaque;

    use_offloads(nic, nic->virtio.features);
}

void virtio_net_init(struct virtio_net *nic, struct memory *mem, struct bus *bus,
                     const struct clock *clock, struct net *net)
{
    static const struct virtio_ops ops = {.notify = notify, .reset = reset, .started = started};

    memset(nic, 0, sizeof *nic);
    nic->bus = bus;
    nic->clock = clock;
    nic->net = net;
    nic->config.status = STATUS_LINK_UP;
    virtio_init(&nic->virtio,
                &(struct virtio_type){
                    .name = "virtio-net",
                    .id = VIRTIO_ID_NET,
                    .class_code = 0x020000,
                    .features = features_of(net),
                    .queue_count = QUEUES,
                    .queue_size = VIRTQ_MAX_SIZE,
                    .config = &nic->config,
                    .config_size = sizeof nic->config,
                    .ops = &ops,
                    .opaque = nic,
                },
                mem);
    reset(nic);
    net_set_peer(net, &(struct net_peer){receive, pump, nic});
}

/* --- state --- */

static int loaded(void *object, struct err *err)
{
    struct virtio_net *nic = object;

    if (nic->unicast.count > VIRTIO_NET_ADDRESSES || nic->multicast.count > VIRTIO_NET_ADDRESSES)
        return err_set(err, -EINVAL, "virtio-net: more addresses than %u", VIRTIO_NET_ADDRESSES);
    nic->pending = true;
    use_offloads(nic, nic->guest_offloads);
    return 0;
}

static const struct field fields[] = {
    FIELD_BYTES(struct virtio_net, config),
    FIELD(struct virtio_net, promiscuous),
    FIELD(struct virtio_net, all_multicast),
    FIELD(struct virtio_net, all_unicast),
    FIELD(struct virtio_net, no_multicast),
    FIELD(struct virtio_net, no_unicast),
    FIELD(struct virtio_net, no_broadcast),
    FIELD(struct virtio_net, unicast.count),
    FIELD(struct virtio_net, unicast.all),
    FIELD_ARRAY(struct virtio_net, unicast.addresses),
    FIELD(struct virtio_net, multicast.count),
    FIELD(struct virtio_net, multicast.all),
    FIELD_ARRAY(struct virtio_net, multicast.addresses),
    FIELD(struct virtio_net, guest_offloads),
};

const struct state_desc virtio_net_state_desc = {
    .name = "virtio-net",
    .version = 1,
    .fields = fields,
    .field_count = ARRAY_SIZE(fields),
    .loaded = loaded,
};
