/* merge.h - packets that wait for the guest, the segments of a TCP connection joined.
 *
 * libslirp sends segments of the guest's MSS. A guest that accepts large packets (PACKET_TSO4) gets
 * those that follow one another as one, which costs it one pass through its network stack instead
 * of forty. Joined are segments of IPv4 and TCP without IP options, with the same addresses, ports,
 * acknowledgment, window and TCP options, in sequence, that carry nothing but data; all but the
 * last are of the same length. The checksum is left to the guest, which has accepted that.
 *
 * The queue is bounded; what does not fit is lost, as on a wire. */
#ifndef DOBLE_NET_MERGE_H
#define DOBLE_NET_MERGE_H

#include "net/packet.h"

#define MERGE_MAX_BYTES (4 * MIB)

struct merge_packet {
    struct merge_packet *next;
    struct packet_header header;
    uint32_t next_seq; /* TCP: of the segment that can follow */
    bool full;         /* nothing can be joined any more */
    size_t len, room;
    uint8_t bytes[];
};

struct merge_queue {
    struct merge_packet *first, *last;
    struct merge_packet **last_link; /* what points to `last`; NULL before the first packet */
    size_t bytes;
    bool join; /* the guest accepts large packets */
};

/* Adds a packet with all its checksums. */
void merge_add(struct merge_queue *queue, const uint8_t *packet, size_t len);

/* Takes the first away. */
void merge_drop_first(struct merge_queue *queue);
void merge_clear(struct merge_queue *queue);

#endif
