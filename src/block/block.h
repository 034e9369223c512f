/* block.h - a disk's contents, as a device sees them: a row of bytes that lives in an image.
 *
 * A device (dev/ide.c, virtio/virtio_blk.c) is given an open `struct block` and sends it requests.
 * They run asynchronously and end in any order; each ends with exactly one call of its done(). The
 * device has a lock, the bus lock, which is handed over with block_attach():
 *
 *   - block_submit(), block_kick() and block_drain() are called with the lock held;
 *   - done() is called with the lock held: from inside block_kick() or block_drain(), or on a
 * thread of the disk's own, which takes the lock for it. Never from inside block_submit(), and
 * never after block_drain() has returned. done() may submit (and then kicks when it has done so).
 *
 * What the image cannot do (no space, an I/O error of the host, a read-only or damaged image) is
 * the request's result, a negative errno, and becomes an I/O error of the guest. It ends nothing
 * else.
 *
 * Flushing: a write is on the disk for good when a BLOCK_FLUSH that was submitted after the write's
 * done() has ended with 0. Before that it may be lost, but only as a whole cache may be lost.
 * Overlapping requests that are in flight together have no order.
 *
 * Opening and closing are for the main thread. Files are made and changed by block/image_tool.h. */
#ifndef DOBLE_BLOCK_BLOCK_H
#define DOBLE_BLOCK_BLOCK_H

#include "base/err.h"
#include "base/types.h"

#include <sys/uio.h>

#define BLOCK_SECTOR 512u

enum block_op { BLOCK_READ, BLOCK_WRITE, BLOCK_FLUSH, BLOCK_DISCARD, BLOCK_WRITE_ZEROES };

/* The device owns it, and leaves it alone from block_submit() until done(). */
struct block_request {
    enum block_op op;
    bool may_unmap;          /* BLOCK_WRITE_ZEROES may give the space back */
    uint64_t offset, length; /* bytes, multiples of BLOCK_SECTOR; nothing for BLOCK_FLUSH */
    const struct iovec *iov; /* BLOCK_READ, BLOCK_WRITE: `length` bytes in all */
    unsigned iov_count;
    void (*done)(struct block_request *request, int result); /* 0 or a negative errno */
    void *opaque;                                            /* the device's */

    /* Private to src/block: */
    struct block *block;
    struct block_request *next;
    struct image *image; /* in whose file it is at work */
    int result;
};

enum block_format { BLOCK_GUESS, BLOCK_RAW, BLOCK_QCOW2 };

struct block_config {
    const char *path;
    enum block_format format; /* BLOCK_GUESS: by the file's first bytes */
    bool read_only;
    bool threads; /* use no io_uring, also if the host has it */
};

/* What a device may tell its guest. */
struct block_info {
    uint64_t size; /* bytes, a multiple of BLOCK_SECTOR */
    bool read_only;
    bool discard;     /* BLOCK_DISCARD gives space back (it is allowed anyway) */
    uint32_t cluster; /* bytes in which the image allocates: a good size and alignment; 0: any */
};

/* The lock under which the device lives. */
struct block_owner {
    void (*lock)(void *opaque);
    void (*unlock)(void *opaque);
    void *opaque;
    /* Guest time is virtual, and a run must be repeatable: block_kick() waits until all is done. */
    bool synchronous;
};

/* Opens and locks an image with its backing chain. The sentence of an error names file and field.
 */
int block_open(struct block **block, const struct block_config *config, struct err *err) MUST_USE;
/* Detaches, flushes, closes. NULL is allowed. Not with the owner's lock held. */
void block_close(struct block *block);

/* Says who its device is; before the first request. */
int block_attach(struct block *block, const struct block_owner *owner, struct err *err) MUST_USE;

/* The device goes away: drains, and ends the threads. Nothing happens if there was none. Not with
 * the owner's lock held. */
void block_detach(struct block *block);

const struct block_info *block_info(const struct block *block);
const char *block_path(const struct block *block);

/* Adds a request. One that makes no sense (an odd length, beyond the end) ends with -EINVAL, a
 * changing one of a read-only disk with -EROFS. */
void block_submit(struct block *block, struct block_request *request);
/* Starts what was submitted since the last time. Call it once for a batch. */
void block_kick(struct block *block);
/* Waits until no request is in flight: for a reset of the device, a pause, a saved machine. */
void block_drain(struct block *block);

#endif
