/* uring.h - reads and writes that the host's kernel does by itself: io_uring.
 *
 * For one disk, under its owner's lock. The event descriptor is written when something has ended,
 * but not while uring_quiet() says that somebody is looking anyway. */
#ifndef DOBLE_BLOCK_URING_H
#define DOBLE_BLOCK_URING_H

#include "block/block.h"

struct uring;

/* NULL: the host has none for us. */
struct uring *uring_new(int event_fd);
void uring_free(struct uring *uring);

/* Queues a BLOCK_READ or BLOCK_WRITE of a file; false: no room now. */
bool uring_queue(struct uring *uring, struct block_request *request, int fd, uint64_t offset);
/* Starts what was queued. */
void uring_start(struct uring *uring);
/* The next request that has ended; its result is the number of bytes or a negative errno. NULL:
 * none. */
struct block_request *uring_next(struct uring *uring);
void uring_quiet(struct uring *uring, bool quiet);

#endif
