/* loop.h - descriptors that a thread waits for, and what to do when they are ready.
 *
 * Servers inside the monitor (its console's sockets, the debugger's) add a watch for each of their
 * descriptors; the thread that owns the loop polls loop->fd, which is readable when any of them is
 * ready, and calls loop_dispatch(). A watch belongs to whoever added it, and may be removed and
 * freed from any handler, its own included.
 *
 * All functions are for the one thread that owns the loop. */
#ifndef DOBLE_BASE_LOOP_H
#define DOBLE_BASE_LOOP_H

#include "base/err.h"

#include <sys/epoll.h>

struct loop {
    int fd; /* an epoll descriptor */
};

struct loop_watch {
    int fd;                                        /* a socket or a pipe, non-blocking */
    void (*ready)(void *opaque, unsigned revents); /* EPOLLIN, EPOLLOUT, EPOLLHUP, EPOLLERR */
    void *opaque;
};

int loop_init(struct loop *loop, struct err *err) MUST_USE;
void loop_free(struct loop *loop);

/* Waits for `events` of watch->fd (0: errors and hang-ups only). */
int loop_add(struct loop *loop, struct loop_watch *watch, unsigned events,
             struct err *err) MUST_USE;
/* Waits for other events of it. */
void loop_change(struct loop *loop, struct loop_watch *watch, unsigned events);
/* Before the descriptor is closed. */
void loop_remove(struct loop *loop, struct loop_watch *watch);

/* Calls the handlers of what is ready now; never waits. */
void loop_dispatch(struct loop *loop);

#endif
