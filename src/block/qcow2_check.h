/* qcow2_check.h - does a qcow2 image agree with itself? And making it so.
 *
 * All references to clusters are counted anew, from the header, all tables and snapshots, and
 * compared with the refcounts in the file. A refcount that is too high is a leak: room is lost,
 * nothing else. One that is too low is a corruption: the cluster would be given to somebody else.
 */
#ifndef DOBLE_BLOCK_QCOW2_CHECK_H
#define DOBLE_BLOCK_QCOW2_CHECK_H

#include "block/qcow2.h"

enum qcow2_fix { QCOW2_FIX_NOTHING, QCOW2_FIX_LEAKS, QCOW2_FIX_ALL };

struct qcow2_check {
    uint64_t corruptions, leaks; /* that are there (after repairing) */
    uint64_t wrong_flags; /* of the corruptions: entries that say wrongly "used once" or not */
    uint64_t corruptions_fixed, leaks_fixed;
    uint64_t image_end;                                 /* of the last used cluster */
    uint64_t total, allocated, compressed, fragmented;  /* clusters of the disk */
    void (*report)(void *opaque, const char *sentence); /* may be NULL */
    void *opaque;
};

/* Checks an image that was opened with IMAGE_REPAIR, and that nobody else uses. An error means that
 * it could not be checked. */
int qcow2_check(struct image *image, enum qcow2_fix fix, struct qcow2_check *result,
                struct err *err) MUST_USE;

/* Makes refcounts true again that a lazy writer left behind. */
int qcow2_repair_dirty(struct qcow2 *q, struct err *err) MUST_USE;

#endif
