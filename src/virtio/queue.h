/* queue.h - a virtqueue: how a guest's driver and a device pass buffers (virtio 1.2, section 2.7).
 *
 * Split virtqueues, in guest memory, written by the guest while we read them:
 *
 *   descriptor table          available ring (driver)      used ring (device)
 *   +------------------+      +-------+-----+----------+   +-------+-----+---------------+
 *   | addr, len,       |<--+  | flags | idx | head ... |   | flags | idx | head, len ... |
 *   | flags, next -----+-+ |  +-------+-----+----------+   +-------+-----+---------------+
 *   +------------------+ | |                  | used_event               | avail_event
 *   | ...              |<+ +------------------+
 *   +------------------+      A descriptor may also point to a table of its own (indirect).
 *
 * A device never sees a ring. It takes a chain with virtq_pop(): a part that it may read, followed
 * by a part that it may write, both already copied out of the table and checked: bounded in number
 * and length, all of it RAM. It moves bytes with virtq_read() and virtq_write(), or has iovecs
 * handed out for the host's I/O, and gives the chain back with virtq_push(), in any order, as late
 * as it likes. Bytes of the buffers can be changed by the guest at any time: what is to be checked
 * and used is copied out first.
 *
 * A guest that drives the queue wrongly (a loop, a length of 4 GiB, an address that is not RAM, a
 * write part before a read part) breaks its device: see virtio_broken() in virtio.h. From then on
 * virtq_pop() finds nothing.
 *
 * All functions are called with the bus lock held, and so may be called from any thread, but for
 * those that say that they need no lock. */
#ifndef DOBLE_VIRTIO_QUEUE_H
#define DOBLE_VIRTIO_QUEUE_H

#include "base/state.h"
#include "mem/memory.h"

#include <sys/uio.h>

#define VIRTQ_MAX_SIZE 256     /* entries of a queue; a power of two */
#define VIRTQ_MAX_SEGMENTS 256 /* descriptors of one chain, direct or indirect */

struct virtio_device;

struct virtq {
    struct virtio_device *device;
    uint16_t max_size; /* as the device made it */
    uint16_t index;    /* number of the queue in its device */

    /* What the driver set up, and where we are: saved. */
    uint16_t size; /* power of two, not above max_size */
    bool enabled;
    gpa_t desc, avail, used;
    uint16_t last_avail; /* the next entry of the available ring that we take */
    uint16_t used_idx;   /* the next entry of the used ring that we fill */
    uint16_t signalled;  /* used_idx when the driver was told last, or would have been */
    bool silent;         /* virtq_set_notify(): the driver need not tell us of new chains */

    /* Where the rings are in the host; NULL unless enabled. */
    uint8_t *desc_host, *avail_host, *used_host;
    uint32_t generation; /* of chains: those of before a reset are void */
    unsigned taken;      /* chains that were popped and not yet pushed, of any generation */
};

/* A chain that a device has taken. It is the device's to store, for as long as it wants; it may be
 * moved in memory. */
struct virtq_chain {
    struct virtq *queue;
    uint32_t generation;
    uint16_t head;
    uint16_t read_count, write_count; /* segments: first those to read, then those to write */
    uint32_t readable, writable;      /* bytes in all */
    uint32_t read_done, write_done;   /* bytes that were moved or handed out already */
    struct iovec iov[VIRTQ_MAX_SEGMENTS];
    gpa_t gpa[VIRTQ_MAX_SEGMENTS];
};

/* Takes the next chain; false: there is none, or the device is broken. */
bool virtq_pop(struct virtq *queue, struct virtq_chain *chain) MUST_USE;

/* Puts back the chain that was taken last, as if it had not been: nothing of it was used, and
 * nothing else of this queue was taken since. */
void virtq_unpop(struct virtq_chain *chain);

/* Gives the chain back to the driver, with the first `written` bytes of its writable part filled,
 * and does what stores of the device need (memory_touched() for all that was written or handed out
 * for writing). The driver is told by the next virtq_signal(). A chain of before a reset vanishes.
 */
void virtq_push(struct virtq_chain *chain, uint32_t written);

/* The same in two steps, for several chains that the driver must see all at once (a packet in
 * mergeable buffers): fill for each, with `at` = 0, 1, ..., then make them visible. */
void virtq_fill(struct virtq_chain *chain, uint32_t written, unsigned at);
void virtq_flush(struct virtq *queue, unsigned count);
/* Instead of virtq_flush(): the chains that were filled can be taken again. */
void virtq_rewind(struct virtq *queue, unsigned count);

/* Interrupts the driver for what was pushed since the last time, if it wants to be told. Once for a
 * batch. */
void virtq_signal(struct virtq *queue);

/* Are there chains to take? */
bool virtq_ready(struct virtq *queue);

/* Whether the driver shall notify us of new chains; on from the start. A device that is going to
 * look anyway switches it off, and looks once more after it has switched it on. */
void virtq_set_notify(struct virtq *queue, bool on);

/* Copies up to `len` bytes out of the readable part, or into the writable part, and moves on.
 * Return the number of bytes, which is less than `len` at the end of the part. No lock needed. */
size_t virtq_read(struct virtq_chain *chain, void *to, size_t len);
size_t virtq_write(struct virtq_chain *chain, const void *from, size_t len);

/* Hand out the next `len` bytes of a part as iovecs, at most VIRTQ_MAX_SEGMENTS of them, and move
 * on; return their number. Less than `len` bytes at the end of the part. No lock needed. */
unsigned virtq_read_iov(struct virtq_chain *chain, size_t len, struct iovec *iov);
unsigned virtq_write_iov(struct virtq_chain *chain, size_t len, struct iovec *iov);

/* Bytes that are left in a part. */
static inline uint32_t virtq_readable(const struct virtq_chain *chain)
{
    return chain->readable - chain->read_done;
}
static inline uint32_t virtq_writable(const struct virtq_chain *chain)
{
    return chain->writable - chain->write_done;
}

/* --- for virtio.c and transports --- */

void virtq_init(struct virtq *queue, struct virtio_device *device, unsigned index,
                unsigned max_size);

/* Back to the state before the driver set it up. Chains that are out become void. */
void virtq_reset(struct virtq *queue);

/* Looks up the rings and starts; false: a ring is not aligned or not all RAM. */
bool virtq_enable(struct virtq *queue) MUST_USE;

extern const struct state_desc virtq_state_desc;

#endif
