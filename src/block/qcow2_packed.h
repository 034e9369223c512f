/* qcow2_packed.h - compressed clusters of qcow2 images: deflate (zlib) and Zstandard.
 *
 * An L2 entry says where a compressed cluster begins, at any byte, and in how many sectors it ends.
 */
#ifndef DOBLE_BLOCK_QCOW2_PACKED_H
#define DOBLE_BLOCK_QCOW2_PACKED_H

#include "block/qcow2.h"

/* Where an entry's bytes are; the real length may be up to a sector less. */
void qcow2_packed_place(const struct qcow2 *q, uint64_t entry, uint64_t *offset, uint64_t *length);
/* The entry of `length` bytes at `offset`. */
uint64_t qcow2_packed_entry(const struct qcow2 *q, uint64_t offset, uint64_t length);

/* `length` bytes from `at` of the cluster that the entry speaks of. Any thread, without the lock.
 */
int qcow2_unpack(struct qcow2 *q, uint64_t entry, uint64_t at, uint64_t length,
                 struct iov_walk *to) MUST_USE;

/* Compresses a cluster into less than a cluster. -ENOSPC: it does not get smaller. */
int qcow2_pack(const struct qcow2 *q, const uint8_t *cluster, uint8_t *to,
               uint64_t *length) MUST_USE;

#endif
