/* iov.h - walking through a request's buffers.
 *
 * A request's bytes may lie in many buffers, and an image may have them in many places. A walk
 * hands out the next bytes as pieces of the buffers, in order. Nothing here allocates. */
#ifndef DOBLE_BLOCK_IOV_H
#define DOBLE_BLOCK_IOV_H

#include "base/types.h"

#include <sys/uio.h>

/* What is still to come: `skip` bytes of iov[0] have been handed out. */
struct iov_walk {
    const struct iovec *iov;
    unsigned count;
    size_t skip;
};

static inline struct iov_walk iov_walk(const struct iovec *iov, unsigned count)
{
    return (struct iov_walk){iov, count, 0};
}

/* The bytes of all buffers. */
uint64_t iov_bytes(const struct iovec *iov, unsigned count);

/* Puts the next `length` bytes, or as many as fit into `max` pieces, into out[]; says how many
 * pieces these are and, in *taken, how many bytes. The walk goes on after them. */
unsigned iov_take(struct iov_walk *walk, uint64_t length, struct iovec *out, unsigned max,
                  uint64_t *taken);

/* The next `length` bytes: passed over, made zero, filled from `from`, copied to `to`. Stop at the
 * end. */
void iov_skip(struct iov_walk *walk, uint64_t length);
void iov_zero(struct iov_walk *walk, uint64_t length);
void iov_fill(struct iov_walk *walk, const void *from, uint64_t length);
void iov_copy(struct iov_walk *walk, void *to, uint64_t length);

#endif
