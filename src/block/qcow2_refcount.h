/* qcow2_refcount.h - how often each cluster of a qcow2 file is used, and finding free ones.
 *
 * All with the image's lock held; results are 0 or a negative errno. */
#ifndef DOBLE_BLOCK_QCOW2_REFCOUNT_H
#define DOBLE_BLOCK_QCOW2_REFCOUNT_H

#include "block/qcow2.h"

/* The entry `index` of a block of refcounts that are 1 << order bits wide. */
uint64_t qcow2_refcount_peek(const uint8_t *block, unsigned order, uint64_t index);
void qcow2_refcount_poke(uint8_t *block, unsigned order, uint64_t index, uint64_t value);

/* Refcounts in a block, and the largest that fits. */
static inline uint64_t qcow2_block_entries(const struct qcow2 *q)
{
    return q->cluster_size * 8 >> q->header.refcount_order;
}
static inline uint64_t qcow2_refcount_max(const struct qcow2 *q)
{
    return q->header.refcount_order == 6 ? UINT64_MAX
                                         : (UINT64_C(1) << (1u << q->header.refcount_order)) - 1;
}

/* The refcount of a cluster, by its number. */
int qcow2_refcount_get(struct qcow2 *q, uint64_t cluster, uint64_t *count) MUST_USE;
/* Sets it; the block must be there. */
int qcow2_refcount_set(struct qcow2 *q, uint64_t cluster, uint64_t count) MUST_USE;

/* Takes up to `wanted` free clusters that follow each other, at least one; their refcount
 * becomes 1. */
int qcow2_allocate(struct qcow2 *q, uint64_t wanted, uint64_t *offset, uint64_t *got) MUST_USE;
/* Exactly `wanted` of them. */
int qcow2_allocate_all(struct qcow2 *q, uint64_t wanted, uint64_t *offset) MUST_USE;
/* Gives back clusters that nothing has ever pointed to, as far as that works. */
void qcow2_give_back(struct qcow2 *q, uint64_t offset, uint64_t clusters);

/* Gives back clusters with the next flush, which makes it true that nothing points to them. */
int qcow2_free_later(struct qcow2 *q, uint64_t offset, uint64_t clusters) MUST_USE;
/* The same for the sectors of a compressed cluster. */
int qcow2_free_packed_later(struct qcow2 *q, uint64_t entry) MUST_USE;
/* Now it is true (step 4 of qcow2.h). */
int qcow2_free_now(struct qcow2 *q) MUST_USE;

/* Does a part of the file overlap what describes the image? */
bool qcow2_is_metadata(const struct qcow2 *q, uint64_t offset, uint64_t length);

#endif
