/* qcow2_table.h - from the disk's clusters to the file's: L1 and L2 tables of a qcow2 image.
 *
 * All with the image's lock held; results are 0 or a negative errno. */
#ifndef DOBLE_BLOCK_QCOW2_TABLE_H
#define DOBLE_BLOCK_QCOW2_TABLE_H

#include "block/qcow2.h"

enum qcow2_kind {
    QCOW2_UNALLOCATED, /* it is the backing image's */
    QCOW2_NORMAL,
    QCOW2_ZERO,           /* reads as zeros, and has no cluster */
    QCOW2_ZERO_ALLOCATED, /* the same, but there is one */
    QCOW2_COMPRESSED,
};

enum qcow2_kind qcow2_kind(const struct qcow2 *q, uint64_t entry);

/* A piece of an L2 table, and the place in it that speaks of the cluster at an offset of the disk.
 */
struct qcow2_place {
    struct qcow2_slice *slice; /* NULL: there is no L2 table, all is unallocated */
    unsigned index, count;     /* of entries, from this one to the piece's end */
};

/* With `try`: -EAGAIN rather than read. */
int qcow2_find(struct qcow2 *q, uint64_t offset, bool try, struct qcow2_place *place) MUST_USE;
/* The same for changing entries: makes the L2 table if there is none or it is a snapshot's, too. */
int qcow2_find_writable(struct qcow2 *q, uint64_t offset, struct qcow2_place *place) MUST_USE;

/* Entry `i` from the place on. */
uint64_t qcow2_entry(const struct qcow2_place *place, unsigned i);
void qcow2_set_entry(struct qcow2 *q, const struct qcow2_place *place, unsigned i, uint64_t entry);

/* What an entry pointed to is not needed any more. */
int qcow2_free_entry(struct qcow2 *q, uint64_t entry) MUST_USE;

/* Entries of L1 that are not in the file yet. */
int qcow2_write_l1(struct qcow2 *q) MUST_USE;
void qcow2_l1_changed(struct qcow2 *q, uint32_t index);

#endif
