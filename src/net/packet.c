#include "net/packet.h"

#include <string.h>

size_t packet_flatten(uint8_t *to, size_t room, const struct iovec *iov, unsigned count)
{
    size_t at = 0;

    for (unsigned i = 0; i < count && at < room; i++) {
        size_t part = iov[i].iov_len < room - at ? iov[i].iov_len : room - at;

        memcpy(to + at, iov[i].iov_base, part);
        at += part;
    }
    return at;
}

uint16_t packet_fold(uint32_t sum)
{
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)((sum & 0xffff) + (sum >> 16));
}

/* Sums little-endian words of 32 bits: the sum of the 16-bit words is the same in either byte order
 * but for the order of its two bytes (RFC 1071, 2B). */
uint32_t packet_sum(const uint8_t *bytes, size_t len, uint32_t sum)
{
    uint64_t total = 0;
    uint32_t word;
    uint16_t folded;

    for (; len >= 4; bytes += 4, len -= 4) {
        memcpy(&word, bytes, 4);
        total += word;
    }
    word = 0;
    memcpy(&word, bytes, len);
    total += word;
    total = (total & UINT32_MAX) + (total >> 32);
    total = (total & UINT32_MAX) + (total >> 32);
    folded = packet_fold((uint32_t)total);
    return sum + __builtin_bswap16(folded);
}

bool packet_complete(const struct packet_header *header, uint8_t *packet, size_t len)
{
    const size_t start = header->csum_start, at = start + header->csum_offset;
    uint16_t sum;

    if (!(header->flags & PACKET_NEEDS_CSUM))
        return true;
    if (start > len || at + 2 > len)
        return false;
    sum = (uint16_t)~packet_fold(packet_sum(packet + start, len - start, 0));
    if (sum == 0)
        sum = 0xffff; /* a checksum of 0 means "none" in UDP, and the two are equal in TCP */
    packet[at] = (uint8_t)(sum >> 8);
    packet[at + 1] = (uint8_t)sum;
    return true;
}
