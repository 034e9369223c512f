/* uring.c - by liburing; see uring.h.
 *
 * What the page cache has is read while it is submitted. Large requests are not: copying them is
 * left to the kernel's workers, so that the guest goes on meanwhile. */
#include "block/uring.h"

#include <liburing.h>
#include <stdlib.h>

#define ENTRIES 128
#define LARGE (64 * KIB)

struct uring {
    struct io_uring ring;
    unsigned queued, in_flight;
};

struct uring *uring_new(int event_fd)
{
    struct uring *uring = calloc(1, sizeof *uring);

    if (!uring)
        return NULL;
    if (io_uring_queue_init(ENTRIES, &uring->ring, 0) < 0) {
        free(uring);
        return NULL;
    }
    if (io_uring_register_eventfd(&uring->ring, event_fd) < 0) {
        uring_free(uring);
        return NULL;
    }
    return uring;
}

void uring_free(struct uring *uring)
{
    if (!uring)
        return;
    io_uring_queue_exit(&uring->ring);
    free(uring);
}

bool uring_queue(struct uring *uring, struct block_request *request, int fd, uint64_t offset)
{
    /* Never more than there is room for in the ring of results. */
    struct io_uring_sqe *sqe = uring->in_flight < ENTRIES ? io_uring_get_sqe(&uring->ring) : NULL;

    if (!sqe)
        return false;
    if (request->op == BLOCK_READ)
        io_uring_prep_readv(sqe, fd, request->iov, request->iov_count, offset);
    else
        io_uring_prep_writev(sqe, fd, request->iov, request->iov_count, offset);
    if (request->length >= LARGE)
        sqe->flags |= IOSQE_ASYNC;
    io_uring_sqe_set_data(sqe, request);
    uring->queued++;
    uring->in_flight++;
    return true;
}

void uring_start(struct uring *uring)
{
    /* An error leaves them in the queue; the next call takes them along. */
    while (uring->queued) {
        int started = io_uring_submit(&uring->ring);

        if (started <= 0)
            break;
        uring->queued -= (unsigned)started;
    }
}

struct block_request *uring_next(struct uring *uring)
{
    struct io_uring_cqe *cqe;
    struct block_request *request;

    if (io_uring_peek_cqe(&uring->ring, &cqe) < 0)
        return NULL;
    request = io_uring_cqe_get_data(cqe);
    request->result = cqe->res;
    io_uring_cqe_seen(&uring->ring, cqe);
    uring->in_flight--;
    return request;
}

void uring_quiet(struct uring *uring, bool quiet)
{
    io_uring_cq_eventfd_toggle(&uring->ring, !quiet);
}
