/* block.c - a device's requests: who carries them out, and how they come back.
 *
 *   block_submit() -> submitted -> block_kick() -+-> io_uring, if the bytes are in one piece of a
 * file
 *                                                +-> a worker, which calls the image and may wait
 *   both write to event_fd; `completer` waits for it, takes the owner's lock, and calls done().
 *   block_kick() and block_drain() look for what has ended, too.
 *
 * Everything in struct block is under the owner's lock, but for what the workers have. */
#define _GNU_SOURCE
#include "block/block.h"

#include "base/thread.h"
#include "block/image.h"
#include "block/uring.h"
#include "block/workers.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define SMALL (64 * KIB)

struct block {
    struct image *image;
    struct block_info info;
    struct block_owner owner;
    bool attached;
    bool threads; /* no io_uring */

    struct block_request *submitted, **submitted_end;
    unsigned in_flight;  /* submitted, and done() was not called */
    bool reaping;        /* done() is being called: a kick from there is heard later */
    struct uring *uring; /* NULL: workers only */
    struct workers workers;

    int event_fd;
    pthread_t completer;
    bool stop;
};

/* --- opening and closing --- */

int block_open(struct block **out, const struct block_config *config, struct err *err)
{
    const struct image_config image = {config->path, config->format,
                                       config->read_only ? 0 : IMAGE_WRITE};
    struct block *b = calloc(1, sizeof *b);
    int rc;

    *out = b;
    if (!b)
        return err_set(err, -ENOMEM, "%s: not enough memory", config->path);
    b->submitted_end = &b->submitted;
    b->event_fd = -1;
    b->threads = config->threads;
    rc = image_open(&b->image, &image, err);
    if (rc < 0) {
        free(b);
        *out = NULL;
        return rc;
    }
    b->info = (struct block_info){.size = b->image->size,
                                  .read_only = b->image->read_only,
                                  .discard = b->image->gives_back && !b->image->read_only,
                                  .cluster = b->image->cluster};
    return 0;
}

void block_detach(struct block *b)
{
    if (!b->attached)
        return;
    b->attached = false;
    b->owner.lock(b->owner.opaque);
    block_drain(b);
    b->stop = true;
    b->owner.unlock(b->owner.opaque);
    eventfd_write(b->event_fd, 1);
    pthread_join(b->completer, NULL);
    workers_free(&b->workers);
    uring_free(b->uring);
    close(b->event_fd);
}

void block_close(struct block *b)
{
    if (!b)
        return;
    block_detach(b);
    (void)!image_flush(b->image); /* the guest has asked for what it needs */
    image_close(b->image);
    free(b);
}

const struct block_info *block_info(const struct block *b)
{
    return &b->info;
}

const char *block_path(const struct block *b)
{
    return b->image->file.path;
}

/* --- carrying out --- */

/* Somebody let us guess that this is a raw image. Then its guest must not make another format of
 * it, whose header would name files of the host. */
static bool makes_header(const struct image *image, const struct block_request *r)
{
    struct iov_walk walk = iov_walk(r->iov, r->iov_count);
    uint8_t sector[BLOCK_SECTOR];
    const char *name;

    if (!image->guessed || r->offset || image->format != image_format_of(BLOCK_RAW))
        return false;
    iov_copy(&walk, sector, sizeof sector);
    return image_guess(sector, &name) != BLOCK_RAW;
}

static int check(const struct block *b, const struct block_request *r)
{
    if (r->op == BLOCK_FLUSH)
        return 0;
    if (r->op != BLOCK_READ && b->info.read_only)
        return -EROFS;
    if (r->offset % BLOCK_SECTOR || r->length % BLOCK_SECTOR || r->offset > b->info.size ||
        r->length > b->info.size - r->offset)
        return -EINVAL;
    if (r->op > BLOCK_WRITE)
        return 0;
    if (iov_bytes(r->iov, r->iov_count) != r->length)
        return -EINVAL;
    return r->op == BLOCK_WRITE && r->length && makes_header(b->image, r) ? -EPERM : 0;
}

/* On a worker's thread. */
static int execute(struct block_request *r)
{
    struct image *image = r->block->image;
    struct iov_walk walk = iov_walk(r->iov, r->iov_count);

    switch (r->op) {
    case BLOCK_READ: return image_read(image, r->offset, r->length, &walk);
    case BLOCK_WRITE: return image_write(image, r->offset, r->length, &walk);
    case BLOCK_FLUSH: return image_flush(image);
    case BLOCK_DISCARD: return image_discard(image, r->offset, r->length);
    case BLOCK_WRITE_ZEROES: return image_write_zeroes(image, r->offset, r->length, r->may_unmap);
    }
    return -EINVAL;
}

void block_submit(struct block *b, struct block_request *r)
{
    r->block = b;
    r->next = NULL;
    r->image = NULL;
    *b->submitted_end = r;
    b->submitted_end = &r->next;
    b->in_flight++;
}

/* Where a file system cannot write without waiting (ext4 with a page cache), the kernel would wake
 * a thread for each small write; one of our workers takes many in a row. */
static bool suits_uring(const struct block_request *r)
{
    return r->op == BLOCK_READ || (r->op == BLOCK_WRITE && r->length >= SMALL);
}

static bool start_uring(struct block *b, struct block_request *r)
{
    uint64_t host;

    if (!b->uring || !suits_uring(r) ||
        !image_find(b->image, r->op == BLOCK_WRITE, r->offset, r->length, &r->image, &host))
        return false;
    if (uring_queue(b->uring, r, r->image->file.fd, host))
        return true;
    image_io_end(r->image);
    r->image = NULL;
    return false;
}

static void finish(struct block *b, struct block_request *r, int result)
{
    b->in_flight--;
    r->done(r, result);
}

static void start(struct block *b, struct block_request *r)
{
    const int wrong = check(b, r);

    if (wrong || (r->op != BLOCK_FLUSH && !r->length))
        finish(b, r, wrong);
    else if (!start_uring(b, r))
        workers_add(&b->workers, r);
}

static void start_submitted(struct block *b)
{
    while (b->submitted) {
        struct block_request *r = b->submitted;

        b->submitted = r->next;
        if (!b->submitted)
            b->submitted_end = &b->submitted;
        start(b, r);
    }
    if (b->uring)
        uring_start(b->uring);
}

/* --- coming back --- */

/* A read or write that the kernel did only in part is done again, by somebody who waits for it:
 * what is beyond the end of a file is zeros, and errors come out there. */
static void finish_uring(struct block *b, struct block_request *r)
{
    image_io_end(r->image);
    if (r->result == (int)r->length)
        finish(b, r, 0);
    else
        workers_add(&b->workers, r);
}

static bool reap_some(struct block *b)
{
    struct block_request *r;
    bool any = false;

    while (b->uring && (r = uring_next(b->uring))) {
        finish_uring(b, r);
        any = true;
    }
    while ((r = workers_next(&b->workers))) {
        finish(b, r, r->result);
        any = true;
    }
    return any;
}

/* Until nothing more comes of it: done() may have submitted more. */
static void turn(struct block *b)
{
    if (b->reaping)
        return;
    b->reaping = true;
    do
        start_submitted(b);
    while (reap_some(b) || b->submitted);
    b->reaping = false;
}

/* Nobody need be told of what is found here. What ends between the last look and the end of the
 * quiet is found by one more. */
static void quiet_turn(struct block *b)
{
    if (b->uring)
        uring_quiet(b->uring, true);
    turn(b);
    if (!b->uring)
        return;
    uring_quiet(b->uring, false);
    turn(b);
}

void block_kick(struct block *b)
{
    if (b->reaping)
        return;
    quiet_turn(b);
    if (b->owner.synchronous)
        block_drain(b);
}

void block_drain(struct block *b)
{
    struct pollfd poll_fd = {.fd = b->event_fd, .events = POLLIN};
    eventfd_t ignored;

    for (;;) {
        (void)eventfd_read(b->event_fd, &ignored);
        turn(b);
        if (!b->in_flight)
            return;
        (void)poll(&poll_fd, 1, -1);
    }
}

static void *complete(void *opaque)
{
    struct block *b = opaque;
    struct pollfd poll_fd = {.fd = b->event_fd, .events = POLLIN};
    eventfd_t ignored;
    bool stop;

    do {
        (void)poll(&poll_fd, 1, -1);
        b->owner.lock(b->owner.opaque);
        (void)eventfd_read(b->event_fd, &ignored); /* first, so that nothing is missed */
        quiet_turn(b);
        stop = b->stop;
        b->owner.unlock(b->owner.opaque);
    } while (!stop);
    return NULL;
}

int block_attach(struct block *b, const struct block_owner *owner, struct err *err)
{
    const char *path = b->image->file.path;
    int rc;

    b->owner = *owner;
    b->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (b->event_fd < 0)
        return err_set(err, -errno, "%s: no event descriptor: %s", path, strerror(errno));
    b->uring = b->threads ? NULL : uring_new(b->event_fd);
    workers_init(&b->workers, b->event_fd, execute);
    rc = thread_start(&b->completer, "disk", complete, b);
    if (rc != 0) {
        workers_free(&b->workers);
        uring_free(b->uring);
        close(b->event_fd);
        return err_set(err, -rc, "%s: no thread can be made for it: %s", path, strerror(rc));
    }
    b->attached = true;
    return 0;
}
