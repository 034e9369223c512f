/* packet.h - an Ethernet packet and what has been left undone of it.
 *
 * A packet travels with the header of virtio-net (virtio 1.2, section 5.1.6), which Linux's tap
 * device uses as well: a checksum may be missing, and a TCP packet may be as large as 64 KiB and
 * have to be cut into segments. Who cannot leave that to the next one does it with packet.c. */
#ifndef DOBLE_NET_PACKET_H
#define DOBLE_NET_PACKET_H

#include "base/types.h"

#include <sys/uio.h>

enum packet_flag {
    PACKET_NEEDS_CSUM = 1, /* the checksum from csum_start on belongs at csum_start + csum_offset */
    PACKET_DATA_VALID = 2, /* the checksums are right: they need not be looked at */
};

enum packet_gso {
    PACKET_GSO_NONE = 0,
    PACKET_GSO_TCPV4 = 1,
    PACKET_GSO_TCPV6 = 4,
    PACKET_GSO_ECN = 0x80, /* added to the others */
};

struct packet_header {
    uint8_t flags, gso_type;
    uint16_t hdr_len; /* a hint: Ethernet, IP and TCP headers */
    uint16_t gso_size;
    uint16_t csum_start, csum_offset;
    uint16_t num_buffers; /* of the receive queue */
};
_Static_assert(sizeof(struct packet_header) == 12, "virtio 1.2, 5.1.6");

#define PACKET_ETHERNET 14 /* bytes of an Ethernet header */
#define PACKET_MAX (PACKET_ETHERNET + 65535 + 4)

/* What a side can leave undone, or accept undone; also bits of tap's TUNSETOFFLOAD by another name.
 */
enum packet_offload {
    PACKET_CSUM = 1,
    PACKET_TSO4 = 2,
    PACKET_TSO6 = 4,
    PACKET_TSO_ECN = 8,
};

/* Copies the iovecs into `to`; returns the number of bytes, at most `room`. */
size_t packet_flatten(uint8_t *to, size_t room, const struct iovec *iov, unsigned count);

/* Fills in the checksum that the header says is missing. False: the header makes no sense. */
bool packet_complete(const struct packet_header *header, uint8_t *packet, size_t len) MUST_USE;

/* The Internet checksum (RFC 1071) of the bytes, begun with `sum`, not yet complemented. */
uint32_t packet_sum(const uint8_t *bytes, size_t len, uint32_t sum);
uint16_t packet_fold(uint32_t sum);

#endif
