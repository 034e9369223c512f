/* user.c - `--net user`: a network of the guest's own, whose gateway is this process (libslirp).
 *
 *   10.0.2.0/24   10.0.2.2 the gateway, and the host   10.0.2.3 DNS   10.0.2.15 the guest (DHCP)
 *   fec0::/64     fec0::2                              fec0::3        by router advertisements
 *
 * libslirp has a poll loop's worth of descriptors and timers of its own. The descriptors are in an
 * epoll set inside the main loop's: before each wait, libslirp says what it waits for, and the set
 * is brought up to date. What it sends to the guest is queued (merge.h) and handed over when
 * libslirp is done, so that it is never entered twice.
 *
 * TCP packets of the guest may be as large as IPv4 allows: libslirp puts their bytes into the
 * connection's buffer whatever the length. For IPv6 it insists on the MTU. */
#include "net/backend.h"
#include "net/merge.h"

#include "base/trace.h"

#include <arpa/inet.h>
#include <errno.h>
#include <slirp/libslirp.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NETWORK 0x0a000200u /* 10.0.2.0 */
#define NETMASK 0xffffff00u
#define MTU 1500
#define EVENTS 64
#define NS_PER_MS 1000000

struct user_timer {
    SlirpTimerCb fire;
    void *opaque;
    int64_t due; /* ms; -1: not set */
    struct user_timer *next;
};

/* A descriptor that is in the epoll set. */
struct user_fd {
    uint32_t wanted;    /* EPOLL*, 0: not in the set */
    uint32_t ready;     /* of the last look */
    uint32_t mentioned; /* number of the fill in which it was wanted last */
};

struct net_user {
    struct net net;
    Slirp *slirp;
    struct loop_watch set; /* an epoll descriptor; ready when any of libslirp's is */
    struct user_timer *timers;
    int *polls; /* descriptors that libslirp asked for, in the order in which it asked */
    unsigned poll_count, poll_room;
    struct user_fd *fds; /* by descriptor */
    unsigned fd_count;
    uint32_t fills;
    struct merge_queue queue;
    uint8_t packet[PACKET_MAX];
};

/* --- what libslirp calls --- */

static ssize_t on_packet(const void *bytes, size_t len, void *opaque)
{
    struct net_user *u = opaque;

    merge_add(&u->queue, bytes, len);
    return (ssize_t)len;
}

static void on_guest_error(const char *message, void *opaque)
{
    (void)opaque;
    trace_net_guest_error(message);
}

static int64_t now_ns(void *opaque)
{
    struct timespec ts;

    (void)opaque;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

static void *timer_new(SlirpTimerCb fire, void *fire_opaque, void *opaque)
{
    struct net_user *u = opaque;
    struct user_timer *t = malloc(sizeof *t);

    if (!t)
        return NULL;
    *t = (struct user_timer){fire, fire_opaque, -1, u->timers};
    return u->timers = t;
}

static void timer_free(void *timer, void *opaque)
{
    struct net_user *u = opaque;

    for (struct user_timer **at = &u->timers; *at; at = &(*at)->next)
        if (*at == timer) {
            *at = (*at)->next;
            break;
        }
    free(timer);
}

static void timer_mod(void *timer, int64_t due, void *opaque)
{
    struct user_timer *t = timer;

    (void)opaque;
    if (t)
        t->due = due;
}

/* A new socket is mentioned by the next fill. */
static void register_fd(int fd, void *opaque)
{
    (void)fd;
    (void)opaque;
}

/* A descriptor that is going to be closed, and whose number may soon be another's. */
static void unregister_fd(int fd, void *opaque)
{
    struct net_user *u = opaque;

    if (fd < 0 || (unsigned)fd >= u->fd_count || !u->fds[fd].wanted)
        return;
    epoll_ctl(u->set.fd, EPOLL_CTL_DEL, fd, NULL);
    u->fds[fd] = (struct user_fd){0};
}

/* There is room in a TCP buffer: the next wait looks. */
static void on_notify(void *opaque)
{
    (void)opaque;
}

static const SlirpCb callbacks = {
    .send_packet = on_packet,
    .guest_error = on_guest_error,
    .clock_get_ns = now_ns,
    .timer_new = timer_new,
    .timer_free = timer_free,
    .timer_mod = timer_mod,
    .register_poll_fd = register_fd,
    .unregister_poll_fd = unregister_fd,
    .notify = on_notify,
};

/* --- descriptors --- */

static const struct {
    int slirp;
    uint32_t epoll;
} event_names[] = {
    {SLIRP_POLL_IN, EPOLLIN},   {SLIRP_POLL_OUT, EPOLLOUT}, {SLIRP_POLL_PRI, EPOLLPRI},
    {SLIRP_POLL_ERR, EPOLLERR}, {SLIRP_POLL_HUP, EPOLLHUP},
};

static uint32_t to_epoll(int events)
{
    uint32_t result = 0;

    for (size_t i = 0; i < ARRAY_SIZE(event_names); i++)
        if (events & event_names[i].slirp)
            result |= event_names[i].epoll;
    return result;
}

static int to_slirp(uint32_t events)
{
    int result = 0;

    for (size_t i = 0; i < ARRAY_SIZE(event_names); i++)
        if (events & event_names[i].epoll)
            result |= event_names[i].slirp;
    return result;
}

static bool grow_fds(struct net_user *u, int fd)
{
    unsigned count = u->fd_count ? u->fd_count : 64;
    struct user_fd *fds;

    while ((unsigned)fd >= count)
        count *= 2;
    if (count == u->fd_count)
        return true;
    fds = realloc(u->fds, count * sizeof *fds);
    if (!fds)
        return false;
    memset(fds + u->fd_count, 0, (count - u->fd_count) * sizeof *fds);
    u->fds = fds;
    u->fd_count = count;
    return true;
}

static bool grow_polls(struct net_user *u)
{
    unsigned room = u->poll_room ? 2 * u->poll_room : 64;
    int *polls;

    if (u->poll_count < u->poll_room)
        return true;
    polls = realloc(u->polls, room * sizeof *polls);
    if (!polls)
        return false;
    u->polls = polls;
    u->poll_room = room;
    return true;
}

static void want(struct net_user *u, int fd, uint32_t events)
{
    struct user_fd *f = &u->fds[fd];
    struct epoll_event event = {.events = events, .data.fd = fd};

    if (f->wanted != events &&
        epoll_ctl(u->set.fd, f->wanted ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event) < 0)
        events = 0;
    f->wanted = events;
    f->mentioned = u->fills;
}

/* The index is what libslirp asks with later; -1 is nothing that is ever ready. */
static int on_add_poll(int fd, int events, void *opaque)
{
    struct net_user *u = opaque;

    if (fd < 0 || !grow_fds(u, fd) || !grow_polls(u))
        return -1;
    want(u, fd, to_epoll(events));
    u->polls[u->poll_count] = fd;
    return (int)u->poll_count++;
}

static int on_get_revents(int index, void *opaque)
{
    struct net_user *u = opaque;

    if (index < 0 || (unsigned)index >= u->poll_count)
        return 0;
    return to_slirp(u->fds[u->polls[index]].ready);
}

/* Descriptors that libslirp did not mention any more. */
static void forget_others(struct net_user *u)
{
    for (unsigned fd = 0; fd < u->fd_count; fd++)
        if (u->fds[fd].wanted && u->fds[fd].mentioned != u->fills)
            unregister_fd((int)fd, u);
}

static void note_ready(struct net_user *u)
{
    struct epoll_event events[EVENTS];
    int count;

    for (unsigned fd = 0; fd < u->fd_count; fd++)
        u->fds[fd].ready = 0;
    count = epoll_wait(u->set.fd, events, EVENTS, 0);
    for (int i = 0; i < count; i++)
        u->fds[events[i].data.fd].ready = events[i].events;
}

/* --- the loop --- */

static void run_timers(struct net_user *u)
{
    const int64_t now = now_ns(u) / NS_PER_MS;

    for (struct user_timer *t = u->timers, *next; t; t = next) {
        next = t->next;
        if (t->due >= 0 && t->due <= now) {
            t->due = -1;
            t->fire(t->opaque);
        }
    }
}

static void deliver(struct net_user *u)
{
    struct merge_packet *p;

    while ((p = u->queue.first) &&
           u->net.peer.receive(u->net.peer.opaque, &p->header, p->bytes, p->len))
        merge_drop_first(&u->queue);
}

static void user_before_pump(struct net *net)
{
    struct net_user *u = (struct net_user *)net;

    note_ready(u);
    slirp_pollfds_poll(u->slirp, 0, on_get_revents, u);
    run_timers(u);
    deliver(u);
}

/* libslirp never waits longer than a second, even if it waits for nothing; we do. */
static int shorter(const struct net_user *u, uint32_t timeout)
{
    const int64_t now = now_ns(NULL) / NS_PER_MS;
    int64_t ms = timeout >= 1000 ? -1 : (int64_t)timeout;

    for (const struct user_timer *t = u->timers; t; t = t->next)
        if (t->due >= 0 && (ms < 0 || t->due - now < ms))
            ms = t->due > now ? t->due - now : 0;
    return ms > INT32_MAX ? INT32_MAX : (int)ms;
}

static int user_before_wait(struct net *net)
{
    struct net_user *u = (struct net_user *)net;
    uint32_t timeout = UINT32_MAX;

    deliver(u);
    u->poll_count = 0;
    u->fills++;
    slirp_pollfds_fill(u->slirp, &timeout, on_add_poll, u);
    forget_others(u);
    return shorter(u, timeout);
}

/* before_wait() looks. */
static void on_ready(void *opaque, unsigned revents)
{
    (void)opaque;
    (void)revents;
}

static int user_start(struct net *net, struct err *err)
{
    struct net_user *u = (struct net_user *)net;

    u->set.ready = on_ready;
    u->set.opaque = u;
    return loop_add(net->loop, &u->set, EPOLLIN, err);
}

static void user_send(struct net *net, const struct packet_header *header, const struct iovec *iov,
                      unsigned count)
{
    struct net_user *u = (struct net_user *)net;
    size_t len = packet_flatten(u->packet, sizeof u->packet, iov, count);

    if (packet_complete(header, u->packet, len))
        slirp_input(u->slirp, u->packet, (int)len);
}

static void user_accept(struct net *net, unsigned offloads)
{
    struct net_user *u = (struct net_user *)net;

    u->queue.join = (offloads & PACKET_CSUM) && (offloads & PACKET_TSO4);
}

static void user_close(struct net *net)
{
    struct net_user *u = (struct net_user *)net;

    if (net->loop)
        loop_remove(net->loop, &u->set);
    if (u->slirp)
        slirp_cleanup(u->slirp);
    if (u->set.fd >= 0)
        close(u->set.fd);
    merge_clear(&u->queue);
    free(u->polls);
    free(u->fds);
    free(u);
}

static const struct net_ops user_ops = {
    .name = "user",
    .start = user_start,
    .send = user_send,
    .accept = user_accept,
    .before_pump = user_before_pump,
    .before_wait = user_before_wait,
    .close = user_close,
};

/* --- opening --- */

static struct in_addr address(uint32_t host)
{
    return (struct in_addr){htonl(NETWORK | host)};
}

static struct in6_addr address6(uint8_t host)
{
    return (struct in6_addr){.s6_addr = {0xfe, 0xc0, [15] = host}};
}

static Slirp *make_slirp(struct net_user *u, const struct net_config *config)
{
    const SlirpConfig c = {
        .version = 1,
        .restricted = config->restricted,
        .in_enabled = true,
        .vnetwork = address(0),
        .vnetmask = {htonl(NETMASK)},
        .vhost = address(2),
        .vdhcp_start = address(15),
        .vnameserver = address(3),
        .in6_enabled = true,
        .vprefix_addr6 = address6(0),
        .vprefix_len = 64,
        .vhost6 = address6(2),
        .vnameserver6 = address6(3),
        .if_mtu = MTU,
        .if_mru = MTU,
    };

    return slirp_new(&c, &callbacks, u);
}

static int forward(struct net_user *u, const struct net_forward *f, struct err *err)
{
    char host[INET_ADDRSTRLEN] = "";

    if (slirp_add_hostfwd(u->slirp, f->udp, f->host, f->host_port, f->guest, f->guest_port) == 0)
        return 0;
    if (f->host.s_addr)
        inet_ntop(AF_INET, &f->host, host, sizeof host);
    return err_set(err, errno ? -errno : -EINVAL, "--net: %s port %s%s%u cannot be forwarded: %s",
                   f->udp ? "UDP" : "TCP", host, host[0] ? ":" : "", f->host_port, strerror(errno));
}

int net_user_open(struct net **net, const struct net_config *config, struct err *err)
{
    struct net_user *u = calloc(1, sizeof *u);
    int rc = 0;

    if (!u)
        return err_set(err, -ENOMEM, "not enough memory for a network");
    u->net = (struct net){
        .ops = &user_ops,
        .kicked.fd = -1,
        .takes = PACKET_CSUM | PACKET_TSO4 | PACKET_TSO_ECN,
        .gives = PACKET_CSUM | PACKET_TSO4,
    };
    u->set.fd = epoll_create1(EPOLL_CLOEXEC);
    u->slirp = make_slirp(u, config);
    if (u->set.fd < 0 || !u->slirp)
        rc = err_set(err, -ENOMEM, "the user network cannot be made: %s", strerror(errno));
    for (unsigned i = 0; rc == 0 && i < config->forward_count; i++)
        rc = forward(u, &config->forwards[i], err);
    if (rc < 0) {
        user_close(&u->net);
        return rc;
    }
    *net = &u->net;
    return 0;
}
