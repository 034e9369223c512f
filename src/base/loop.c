/* loop.c - epoll(7), with one event fetched at a time.
 *
 * Fetching several at once would leave events in hand whose watch a handler has just freed. The
 * kernel hands out ready descriptors in turn, so that nobody is starved. */
#include "base/loop.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* How many handlers may run before the owner of the loop looks after other things again. */
#define EVENTS_AT_ONCE 8

int loop_init(struct loop *loop, struct err *err)
{
    loop->hooks = NULL;
    loop->fd = epoll_create1(EPOLL_CLOEXEC);
    if (loop->fd < 0)
        return err_set(err, -errno, "the event loop cannot be made: %s", strerror(errno));
    return 0;
}

void loop_free(struct loop *loop)
{
    if (loop->fd >= 0)
        close(loop->fd);
    loop->fd = -1;
}

int loop_add(struct loop *loop, struct loop_watch *watch, unsigned events, struct err *err)
{
    struct epoll_event event = {.events = events, .data.ptr = watch};

    if (epoll_ctl(loop->fd, EPOLL_CTL_ADD, watch->fd, &event) < 0)
        return err_set(err, -errno, "descriptor %d cannot be waited for: %s", watch->fd,
                       strerror(errno));
    return 0;
}

void loop_change(struct loop *loop, struct loop_watch *watch, unsigned events)
{
    struct epoll_event event = {.events = events, .data.ptr = watch};

    epoll_ctl(loop->fd, EPOLL_CTL_MOD, watch->fd, &event);
}

void loop_remove(struct loop *loop, struct loop_watch *watch)
{
    epoll_ctl(loop->fd, EPOLL_CTL_DEL, watch->fd, NULL);
}

void loop_dispatch(struct loop *loop)
{
    struct epoll_event event;

    for (int i = 0; i < EVENTS_AT_ONCE && epoll_wait(loop->fd, &event, 1, 0) == 1; i++) {
        struct loop_watch *watch = event.data.ptr;

        watch->ready(watch->opaque, event.events);
    }
}

void loop_add_hook(struct loop *loop, struct loop_hook *hook)
{
    hook->next = loop->hooks;
    loop->hooks = hook;
}

void loop_remove_hook(struct loop *loop, struct loop_hook *hook)
{
    for (struct loop_hook **at = &loop->hooks; *at; at = &(*at)->next)
        if (*at == hook) {
            *at = hook->next;
            return;
        }
}

int loop_before_wait(struct loop *loop)
{
    int shortest = -1;

    for (struct loop_hook *hook = loop->hooks; hook; hook = hook->next) {
        int time = hook->before_wait(hook->opaque);

        if (time >= 0 && (shortest < 0 || time < shortest))
            shortest = time;
    }
    return shortest;
}
