/* qcow2.h - QEMU's image format, versions 2 and 3: an open image and the order of its writes.
 *
 *   header cluster | refcount table -> refcount blocks: how often each cluster of the file is used
 *                  | L1 table -> L2 tables -> data clusters: where the disk's clusters are
 *                  | snapshots: L1 tables of their own; shared clusters are used more than once
 *
 * Killed at any moment, the file has to stay consistent: nothing that is used may have a refcount
 * of 0, and nothing that was flushed may be lost; clusters that are counted and not used (leaks) do
 * no harm. What is changed is therefore kept in memory (L1, pieces of L2 tables and refcount
 * blocks), and reaches the file in this order, by a flush or when memory is short:
 *
 *   1. data of new clusters: at once, before anything points to them
 *   2. refcounts; then the file is synced
 *   3. L2 and L1 entries; then the file is synced
 *   4. clusters that 3 has made unused are given back: counted down and free to be used again, but
 *      not before every access to them that had begun has ended
 *
 * New refcount blocks and a larger refcount table are made and synced on the spot
 * (qcow2_refcount.c). Refcounts are always exact, so an image with lazy refcounts never becomes
 * dirty here; one that QEMU left dirty is repaired when it is opened for writing.
 *
 * `lock` guards all of it. It is recursive, because copying a part of an old cluster reads the
 * image. Not supported, and refused by name: encryption, external data files, extended L2 entries.
 * Bitmaps are not kept: they become invalid, as the format wants it, when the image is opened for
 * writing. */
#ifndef DOBLE_BLOCK_QCOW2_H
#define DOBLE_BLOCK_QCOW2_H

#include "block/image.h"
#include "block/qcow2_cache.h"
#include "block/qcow2_header.h"

#define QCOW2_COPIED (UINT64_C(1) << 63) /* the refcount is exactly 1 */
#define QCOW2_PACKED (UINT64_C(1) << 62)
#define QCOW2_READS_ZERO UINT64_C(1) /* version 3 */
#define QCOW2_OFFSET UINT64_C(0x00fffffffffffe00)

/* Clusters that become free with the next flush. */
struct qcow2_freed {
    uint64_t offset, clusters;
};

struct qcow2 {
    struct image *image;
    struct qcow2_header header;
    uint64_t cluster_size;
    unsigned l2_bits; /* entries of an L2 table */
    pthread_mutex_t lock;

    uint64_t *l1;       /* in the host's order */
    uint32_t dirty_l1;  /* entries from this one on ... */
    uint32_t dirty_end; /* ... up to this one are not in the file; 0: none */
    struct qcow2_cache l2;

    uint64_t *reftable; /* in the host's order */
    uint32_t reftable_size;
    struct qcow2_cache refs;
    uint64_t free_hint; /* no cluster below is free */
    uint64_t file_end;  /* beyond it the file was never written */

    struct qcow2_freed *freed;
    unsigned freed_count, freed_room;
    bool corrupt; /* nothing may be written any more */

    pthread_mutex_t packed_lock;
    uint64_t packed_entry; /* whose contents packed_data has; 0: none */
    uint8_t *packed_data;
};

extern const struct image_format qcow2_format;

static inline struct qcow2 *qcow2_of(const struct image *image)
{
    return image->state;
}

/* The clusters that hold `bytes`. */
static inline uint64_t qcow2_clusters(const struct qcow2 *q, uint64_t bytes)
{
    return (bytes >> q->header.cluster_bits) + !!(bytes & (q->cluster_size - 1));
}

/* Something in the file cannot be: it is marked, and no more written. Returns -EIO. */
int qcow2_corrupt(struct qcow2 *q, const char *what, uint64_t value);

/* Steps 2 to 4 above. With the lock held. */
int qcow2_flush_tables(struct qcow2 *q) MUST_USE;

/* Reads the tables again that the header names, after it was changed. */
int qcow2_load_tables(struct qcow2 *q) MUST_USE;
/* Writes the header's fields from `at` on, `length` bytes of struct qcow2_header_disk, and syncs.
 */
int qcow2_write_header_fields(struct qcow2 *q, size_t at, size_t length) MUST_USE;

#endif
