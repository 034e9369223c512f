#include "net/merge.h"

#include <stdlib.h>
#include <string.h>

/* Where things are in a packet of Ethernet, IPv4 without options, and TCP. */
enum {
    IP = PACKET_ETHERNET,
    IP_LENGTH = IP + 2,
    IP_FRAGMENT = IP + 6,
    IP_PROTOCOL = IP + 9,
    IP_CHECKSUM = IP + 10,
    IP_ADDRESSES = IP + 12,
    TCP = IP + 20,
    TCP_SEQ = TCP + 4,
    TCP_ACK = TCP + 8,
    TCP_OFFSET = TCP + 12,
    TCP_FLAGS = TCP + 13,
    TCP_WINDOW = TCP + 14,
    TCP_CHECKSUM = TCP + 16,
    TCP_OPTIONS = TCP + 20,
};

#define FLAG_PSH 0x08
#define FLAG_ACK 0x10
#define PROTOCOL_TCP 6

static uint16_t get16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

static uint32_t get32(const uint8_t *at)
{
    return (uint32_t)get16(at) << 16 | get16(at + 2);
}

static void put16(uint8_t *at, uint16_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

/* Length of all headers of a segment that can be joined with others, or 0. */
static size_t headers_of(const uint8_t *p, size_t len)
{
    size_t headers;

    if (len < TCP_OPTIONS || get16(p + 12) != 0x0800 || p[IP] != 0x45 ||
        p[IP_PROTOCOL] != PROTOCOL_TCP || (get16(p + IP_FRAGMENT) & 0x3fff) ||
        (p[TCP_FLAGS] & ~FLAG_PSH) != FLAG_ACK || get16(p + IP_LENGTH) != len - IP)
        return 0;
    headers = TCP + 4u * (p[TCP_OFFSET] >> 4);
    return headers >= TCP_OPTIONS && headers < len ? headers : 0;
}

static bool same(const uint8_t *a, const uint8_t *b, size_t from, size_t to)
{
    return memcmp(a + from, b + from, to - from) == 0;
}

/* Do these two belong to one connection, and say the same of it? */
static bool alike(const uint8_t *a, const uint8_t *b, size_t headers)
{
    return same(a, b, 0, IP_LENGTH) && same(a, b, IP_ADDRESSES, TCP_SEQ) &&
           same(a, b, TCP_ACK, TCP_FLAGS) && same(a, b, TCP_WINDOW, TCP_CHECKSUM) &&
           same(a, b, TCP_OPTIONS, headers);
}

/* The last packet, if the segment can follow it. */
static struct merge_packet *follows(const struct merge_queue *queue, const uint8_t *packet,
                                    size_t len, size_t headers)
{
    struct merge_packet *p = queue->last;
    const size_t payload = len - headers;

    if (!p || p->full || headers != p->header.hdr_len || payload > p->header.gso_size ||
        p->len + payload > IP + 65535 || get32(packet + TCP_SEQ) != p->next_seq ||
        !alike(p->bytes, packet, headers))
        return NULL;
    return p;
}

static struct merge_packet *make(const uint8_t *packet, size_t len)
{
    struct merge_packet *p = malloc(sizeof *p + len);

    if (!p)
        return NULL;
    *p = (struct merge_packet){.len = len, .room = len, .full = true, .header.num_buffers = 1};
    memcpy(p->bytes, packet, len);
    return p;
}

static void append(struct merge_queue *queue, const uint8_t *packet, size_t len, size_t headers)
{
    struct merge_packet *p = make(packet, len);

    if (!p)
        return;
    if (headers) {
        p->full = packet[TCP_FLAGS] & FLAG_PSH;
        p->header.hdr_len = (uint16_t)headers;
        p->header.gso_size = (uint16_t)(len - headers);
        p->next_seq = get32(packet + TCP_SEQ) + (uint32_t)(len - headers);
    }
    queue->last_link = queue->last ? &queue->last->next : &queue->first;
    *queue->last_link = queue->last = p;
    queue->bytes += len;
}

/* Finds room for the largest packet, once; the packet is the queue's last. */
static struct merge_packet *with_room(struct merge_queue *queue, struct merge_packet *p)
{
    struct merge_packet *grown;

    if (p->room == PACKET_MAX)
        return p;
    grown = realloc(p, sizeof *p + PACKET_MAX);
    if (!grown)
        return NULL;
    grown->room = PACKET_MAX;
    return *queue->last_link = queue->last = grown;
}

/* What the headers of a joined packet say: its length, and a checksum that covers the addresses,
 * protocol and length only (the rest is for whoever completes it). */
static void finish_headers(struct merge_packet *p)
{
    uint8_t *b = p->bytes;
    uint32_t pseudo = packet_sum(b + IP_ADDRESSES, 8, 0);

    put16(b + IP_LENGTH, (uint16_t)(p->len - IP));
    put16(b + IP_CHECKSUM, 0);
    put16(b + IP_CHECKSUM, (uint16_t)~packet_fold(packet_sum(b + IP, TCP - IP, 0)));
    pseudo += PROTOCOL_TCP + (uint32_t)(p->len - TCP);
    put16(b + TCP_CHECKSUM, packet_fold(pseudo));
    p->header.flags = PACKET_NEEDS_CSUM;
    p->header.gso_type = PACKET_GSO_TCPV4;
    p->header.csum_start = TCP;
    p->header.csum_offset = TCP_CHECKSUM - TCP;
}

static bool join(struct merge_queue *queue, struct merge_packet *p, const uint8_t *packet,
                 size_t len, size_t headers)
{
    const size_t payload = len - headers;

    p = with_room(queue, p);
    if (!p)
        return false;
    memcpy(p->bytes + p->len, packet + headers, payload);
    p->len += payload;
    p->next_seq += (uint32_t)payload;
    p->bytes[TCP_FLAGS] |= packet[TCP_FLAGS];
    p->full = payload < p->header.gso_size || (packet[TCP_FLAGS] & FLAG_PSH);
    finish_headers(p);
    queue->bytes += payload;
    return true;
}

void merge_add(struct merge_queue *queue, const uint8_t *packet, size_t len)
{
    size_t headers = queue->join ? headers_of(packet, len) : 0;
    struct merge_packet *last;

    if (len > PACKET_MAX || queue->bytes + len > MERGE_MAX_BYTES)
        return;
    last = headers ? follows(queue, packet, len, headers) : NULL;
    if (!last || !join(queue, last, packet, len, headers))
        append(queue, packet, len, headers);
}

void merge_drop_first(struct merge_queue *queue)
{
    struct merge_packet *p = queue->first;

    queue->bytes -= p->len;
    queue->first = p->next;
    if (!queue->first)
        queue->last = NULL;
    if (queue->last_link == &p->next)
        queue->last_link = &queue->first;
    free(p);
}

void merge_clear(struct merge_queue *queue)
{
    while (queue->first)
        merge_drop_first(queue);
}
