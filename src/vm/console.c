/* console.c - a ring, a thread that empties it, and a descriptor to poll for input.
 *
 * The thread exists because a descriptor that we borrow (standard output) must not be made
 * non-blocking: the flag belongs to the open file and so to everybody who has it, and would stay
 * after us. A blocking write in the main thread would make it deaf to signals and keys.
 *
 * The ring is much larger than the mark at which the vCPU is asked to stop, because it only stops
 * between two instructions and a REP OUTSB is one. */
#define _GNU_SOURCE
#include "vm/console.h"

#include "base/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define RING_SIZE (1 * MIB)
#define HIGH_MARK (64 * KIB)
#define LOW_MARK (16 * KIB)

/* --- connecting --- */

void console_init_none(struct console *c)
{
    memset(c, 0, sizeof *c);
    c->in = c->out = c->listener = -1;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->changed, NULL);
}

int console_init_stdio(struct console *c, bool keys, struct err *err)
{
    console_init_none(c);
    if (fcntl(STDOUT_FILENO, F_GETFL) < 0 ||
        (fcntl(STDOUT_FILENO, F_GETFL) & O_ACCMODE) == O_RDONLY)
        return err_set(err, -EBADF,
                       "standard output is closed; open it, or use --serial file:PATH");
    c->in = STDIN_FILENO;
    c->out = STDOUT_FILENO;
    c->keys = keys;
    return 0;
}

int console_init_file(struct console *c, const char *path, struct err *err)
{
    console_init_none(c);
    c->out = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (c->out < 0)
        return err_set(err, -errno, "the serial output file '%s' cannot be opened: %s", path,
                       strerror(errno));
    c->owned = true;
    return 0;
}

int console_init_unix(struct console *c, const char *path, struct err *err)
{
    int fd = listen_unix(path, 1, err);

    console_init_none(c);
    if (fd < 0)
        return fd;
    c->listener = fd;
    c->owned = true;
    c->path = strdup(path);
    return 0;
}

/* --- output --- */

static void discard_output(struct console *c)
{
    c->used = 0;
    if (c->full && c->flow)
        c->flow(c->opaque, false);
    c->full = false;
}

/* A peer that has gone takes its bytes with it; a standard output or a file that fails is an error
 * that ends the machine. */
static void output_failed(struct console *c, int error)
{
    discard_output(c);
    if (c->listener >= 0)
        return;
    if (c->owned)
        close(c->out);
    c->error = error;
    c->out = -1;
}

static void output_written(struct console *c, size_t count)
{
    c->head = (c->head + count) % RING_SIZE;
    c->used -= count;
    if (c->full && c->used <= LOW_MARK) {
        c->full = false;
        if (c->flow)
            c->flow(c->opaque, false);
    }
}

/* Writes without the lock; the only place where the thread may be cancelled. */
static ssize_t write_some(int fd, const uint8_t *bytes, size_t count)
{
    ssize_t n;
    int old;

    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &old);
    n = write(fd, bytes, count);
    if (n < 0 && errno == EAGAIN) { /* somebody else made it non-blocking */
        struct pollfd p = {.fd = fd, .events = POLLOUT};

        poll(&p, 1, -1);
        n = 0;
    } else if (n < 0 && errno == EINTR) {
        n = 0;
    }
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
    return n;
}

static void notify(struct console *c)
{
    if (c->notify)
        c->notify(c->opaque);
}

static void write_ring(struct console *c)
{
    size_t count = c->used < RING_SIZE - c->head ? c->used : RING_SIZE - c->head;
    const uint8_t *bytes = c->ring + c->head;
    int fd = c->out;
    ssize_t n;
    int error;

    c->writing = true;
    pthread_mutex_unlock(&c->lock);
    n = write_some(fd, bytes, count);
    error = errno;
    pthread_mutex_lock(&c->lock);
    c->writing = false;
    if (n < 0)
        output_failed(c, error);
    else if (c->used)
        output_written(c, (size_t)n);
    pthread_cond_broadcast(&c->changed);
    if ((c->draining && !c->used) || c->error)
        notify(c);
}

/* Bytes come one by one. To write them one by one would cost a wake-up and a system call each. */
static void gather(struct console *c)
{
    const struct timespec moment = {.tv_nsec = 1000000};

    pthread_mutex_unlock(&c->lock);
    nanosleep(&moment, NULL);
    pthread_mutex_lock(&c->lock);
}

static void *writer_main(void *opaque)
{
    struct console *c = opaque;
    int old;

    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
    pthread_mutex_lock(&c->lock);
    while (!c->stop) {
        if (c->used && c->out >= 0) {
            write_ring(c);
        } else {
            pthread_cond_wait(&c->changed, &c->lock);
            gather(c);
        }
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

int console_start(struct console *c, struct err *err)
{
    if (c->out < 0 && c->listener < 0)
        return 0;
    c->ring = malloc(RING_SIZE); /* its pages cost nothing until they are used */
    if (!c->ring || pthread_create(&c->writer, NULL, writer_main, c) != 0)
        return err_set(err, -ENOMEM, "the thread of the serial output cannot be started");
    c->running = true;
    return 0;
}

static void copy_in(struct console *c, const uint8_t *bytes, size_t count)
{
    size_t tail = (c->head + c->used) % RING_SIZE;
    size_t first = count < RING_SIZE - tail ? count : RING_SIZE - tail;

    memcpy(c->ring + tail, bytes, first);
    memcpy(c->ring, bytes + first, count - first);
    c->used += count;
}

void console_write(struct console *c, const uint8_t *bytes, size_t count)
{
    pthread_mutex_lock(&c->lock);
    if (c->out >= 0 && c->running) {
        if (count > RING_SIZE - c->used)
            count = RING_SIZE - c->used; /* not reached while `flow` is heeded */
        copy_in(c, bytes, count);
        if (!c->full && c->used >= HIGH_MARK) {
            c->full = true;
            if (c->flow)
                c->flow(c->opaque, true);
        }
        pthread_cond_broadcast(&c->changed);
    }
    pthread_mutex_unlock(&c->lock);
}

bool console_drained(struct console *c)
{
    bool drained;

    pthread_mutex_lock(&c->lock);
    drained = !c->running || c->out < 0 || (!c->used && !c->writing);
    c->draining = !drained;
    pthread_mutex_unlock(&c->lock);
    return drained;
}

int console_error(struct console *c)
{
    int error;

    pthread_mutex_lock(&c->lock);
    error = c->error;
    pthread_mutex_unlock(&c->lock);
    return error;
}

/* --- input, and peers that come and go --- */

static void attach_peer(struct console *c)
{
    int fd = accept4(c->listener, NULL, NULL, SOCK_CLOEXEC);

    if (fd < 0)
        return;
    pthread_mutex_lock(&c->lock);
    c->in = c->out = fd;
    pthread_mutex_unlock(&c->lock);
}

/* The writer may be inside write() with this descriptor: shut down, it returns at once. */
static void detach_peer(struct console *c)
{
    int fd = c->in;

    shutdown(fd, SHUT_RDWR);
    pthread_mutex_lock(&c->lock);
    while (c->writing)
        pthread_cond_wait(&c->changed, &c->lock);
    c->out = -1;
    discard_output(c);
    pthread_mutex_unlock(&c->lock);
    c->in = -1;
    close(fd);
}

static void end_of_input(struct console *c)
{
    if (c->listener >= 0)
        detach_peer(c);
    else
        c->in = -1; /* the machine goes on without */
}

struct pollfd console_poll(const struct console *c)
{
    bool room = c->keys || c->input_count < sizeof c->input;
    int fd = c->in;

    if (fd < 0)
        fd = c->listener;
    else if (!room)
        fd = -1;
    return (struct pollfd){.fd = fd, .events = POLLIN};
}

static void store_input(struct console *c, const uint8_t *bytes, size_t count)
{
    if (c->input_at) {
        memmove(c->input, c->input + c->input_at, c->input_count);
        c->input_at = 0;
    }
    if (count > sizeof c->input - c->input_count)
        count = sizeof c->input - c->input_count; /* keys that nobody reads */
    memcpy(c->input + c->input_count, bytes, count);
    c->input_count += count;
}

static void read_input(struct console *c)
{
    size_t room = sizeof c->input - c->input_count;
    uint8_t bytes[sizeof c->input];
    ssize_t n = read(c->in, bytes, c->keys ? sizeof bytes : room);
    size_t kept;

    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n <= 0) {
        end_of_input(c);
        return;
    }
    kept = c->filter ? c->filter(c->filter_opaque, bytes, (size_t)n, &c->quit) : (size_t)n;
    store_input(c, bytes, kept);
}

void console_handle(struct console *c, short revents)
{
    if (!revents)
        return;
    if (c->in < 0)
        attach_peer(c);
    else
        read_input(c);
}

size_t console_input(const struct console *c, const uint8_t **bytes)
{
    *bytes = c->input + c->input_at;
    return c->input_count;
}

void console_consume(struct console *c, size_t count)
{
    c->input_at += count;
    c->input_count -= count;
    if (!c->input_count)
        c->input_at = 0;
}

/* --- the end --- */

void console_free(struct console *c)
{
    if (c->running) {
        pthread_mutex_lock(&c->lock);
        c->stop = true;
        pthread_cond_broadcast(&c->changed);
        pthread_mutex_unlock(&c->lock);
        pthread_cancel(c->writer); /* it may be inside write() for ever */
        pthread_join(c->writer, NULL);
        c->running = false;
    }
    if (c->owned && c->out >= 0)
        close(c->out);
    if (c->listener >= 0)
        close(c->listener);
    if (c->path)
        unlink(c->path);
    free(c->path);
    free(c->ring);
    pthread_mutex_destroy(&c->lock);
    pthread_cond_destroy(&c->changed);
}
