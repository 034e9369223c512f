/* qcow2_cache.h - pieces of a qcow2 image's L2 tables or refcount blocks in memory, written back
 * later.
 *
 * A piece is 4 KiB of a table, or a cluster if that is smaller. Changed pieces stay here until they
 * are flushed or have to make room for others; who owns the cache says what must be on the disk
 * before that (before_write). For whoever holds the image's lock. */
#ifndef DOBLE_BLOCK_QCOW2_CACHE_H
#define DOBLE_BLOCK_QCOW2_CACHE_H

#include "block/file.h"

struct qcow2_slice {
    uint64_t offset; /* in the file; 0: empty */
    uint64_t used;   /* when, to find the one that was used longest ago */
    bool dirty;
    uint8_t *data; /* big-endian, as in the file */
};

struct qcow2_cache {
    struct file *file;
    unsigned slice_bits;
    unsigned sets; /* a power of 2 */
    uint64_t clock;
    unsigned dirty_count;
    struct qcow2_slice *slices;
    int (*before_write)(void *opaque); /* may be NULL */
    void *opaque;
};

int qcow2_cache_init(struct qcow2_cache *cache, struct file *file, unsigned slice_bits,
                     unsigned slices) MUST_USE;
void qcow2_cache_free(struct qcow2_cache *cache);

static inline uint64_t qcow2_cache_slice_size(const struct qcow2_cache *cache)
{
    return UINT64_C(1) << cache->slice_bits;
}

/* The piece at `offset`, a multiple of its size. It stays until the next call. With `try` nothing
 * is read: -EAGAIN. */
int qcow2_cache_get(struct qcow2_cache *cache, uint64_t offset, bool try,
                    struct qcow2_slice **slice) MUST_USE;
void qcow2_cache_dirty(struct qcow2_cache *cache, struct qcow2_slice *slice);

/* Writes all that changed. */
int qcow2_cache_write(struct qcow2_cache *cache) MUST_USE;
/* Forgets what is in a part of the file, changed or not: all of it with length UINT64_MAX. */
void qcow2_cache_forget(struct qcow2_cache *cache, uint64_t offset, uint64_t length);

#endif
