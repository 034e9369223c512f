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

/* Work that is looked for before each wait: that of libraries which have timers and descriptors of
 * their own. */
struct loop_hook {
    /* Does what is due, and returns for how many milliseconds at most to wait; -1: no matter. */
    int (*before_wait)(void *opaque);
    void *opaque;
    struct loop_hook *next;
};

struct loop {
    int fd; /* an epoll descriptor */
    struct loop_hook *hooks;
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

void loop_add_hook(struct loop *loop, struct loop_hook *hook);
void loop_remove_hook(struct loop *loop, struct loop_hook *hook);

/* Calls the hooks; returns the shortest of their times, or -1. The owner does so before it waits
 * for loop->fd. */
int loop_before_wait(struct loop *loop);

#endif
