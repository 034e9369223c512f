/* tap.c - `--net tap`: a tap interface of the host (Documentation/networking/tuntap.rst).
 *
 * Each packet carries the header of virtio-net in front of it (IFF_VNET_HDR), so that checksums and
 * large TCP packets pass through to the host's network stack, which completes them where it must.
 * The interface has to be there already: whoever runs a machine need not be allowed to make one. */
#include "net/backend.h"

#include "base/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define PACKETS_AT_ONCE 64
#define MAX_IOVECS 300 /* of one packet: above what a chain has */

struct net_tap {
    struct net net;
    struct loop_watch tap;
    bool watching;
    size_t held; /* bytes of `frame` that the guest had no room for; 0: none */
    struct {
        struct packet_header header;
        uint8_t packet[PACKET_MAX];
    } frame;
};
_Static_assert(offsetof(struct net_tap, frame.packet) - offsetof(struct net_tap, frame) ==
                   sizeof(struct packet_header),
               "a frame is read in one piece");

static void watch(struct net_tap *t, bool on)
{
    if (t->watching != on)
        loop_change(t->net.loop, &t->tap, on ? EPOLLIN : 0);
    t->watching = on;
}

/* True: the guest has it, or it was nothing. */
static bool deliver(struct net_tap *t)
{
    const size_t header = sizeof t->frame.header;

    if (t->held > header && !t->net.peer.receive(t->net.peer.opaque, &t->frame.header,
                                                 t->frame.packet, t->held - header))
        return false;
    t->held = 0;
    return true;
}

/* An interface that is gone would be ready for ever. */
static void gone(struct net_tap *t, int error)
{
    trace_net_tap_gone(strerror(error));
    loop_remove(t->net.loop, &t->tap);
    close(t->tap.fd);
    t->tap.fd = -1;
}

static void on_ready(void *opaque, unsigned revents)
{
    struct net_tap *t = opaque;

    (void)revents;
    for (unsigned i = 0; i < PACKETS_AT_ONCE; i++) {
        ssize_t n = read(t->tap.fd, &t->frame, sizeof t->frame);

        if (n < 0 && errno != EAGAIN && errno != EINTR)
            gone(t, errno);
        if (n <= 0)
            return;
        t->held = (size_t)n;
        if (!deliver(t)) {
            watch(t, false);
            return;
        }
    }
}

static void tap_before_pump(struct net *net)
{
    struct net_tap *t = (struct net_tap *)net;

    if (t->tap.fd >= 0 && t->held && deliver(t))
        watch(t, true);
}

static int tap_before_wait(struct net *net)
{
    (void)net;
    return -1;
}

static int tap_start(struct net *net, struct err *err)
{
    struct net_tap *t = (struct net_tap *)net;

    t->tap.ready = on_ready;
    t->tap.opaque = t;
    t->watching = true;
    return loop_add(net->loop, &t->tap, EPOLLIN, err);
}

/* A header that makes no sense is refused by the host's kernel; a packet for which it has no room
 * is lost, as on a wire. */
static void tap_send(struct net *net, const struct packet_header *header, const struct iovec *iov,
                     unsigned count)
{
    struct net_tap *t = (struct net_tap *)net;
    struct iovec all[MAX_IOVECS + 1] = {{(void *)(uintptr_t)header, sizeof *header}};
    ssize_t n;

    if (t->tap.fd < 0 || count > MAX_IOVECS)
        return;
    memcpy(all + 1, iov, count * sizeof *iov);
    n = writev(t->tap.fd, all, (int)count + 1);
    if (n < 0)
        trace_net_tap_lost(strerror(errno));
}

static void tap_accept(struct net *net, unsigned offloads)
{
    struct net_tap *t = (struct net_tap *)net;
    unsigned long flags = 0;

    flags |= offloads & PACKET_CSUM ? TUN_F_CSUM : 0;
    flags |= offloads & PACKET_TSO4 ? TUN_F_TSO4 : 0;
    flags |= offloads & PACKET_TSO6 ? TUN_F_TSO6 : 0;
    flags |= offloads & PACKET_TSO_ECN ? TUN_F_TSO_ECN : 0;
    if (t->tap.fd >= 0)
        ioctl(t->tap.fd, TUNSETOFFLOAD, flags);
}

static void tap_close(struct net *net)
{
    struct net_tap *t = (struct net_tap *)net;

    if (net->loop && t->tap.fd >= 0)
        loop_remove(net->loop, &t->tap);
    if (t->tap.fd >= 0)
        close(t->tap.fd);
    free(t);
}

static const struct net_ops tap_ops = {
    .name = "tap",
    .start = tap_start,
    .send = tap_send,
    .accept = tap_accept,
    .before_pump = tap_before_pump,
    .before_wait = tap_before_wait,
    .close = tap_close,
};

static int attach(int fd, const char *name, struct err *err)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    int size = sizeof(struct packet_header);

    memcpy(request.ifr_name, name, strnlen(name, IFNAMSIZ - 1));
    if (ioctl(fd, TUNSETIFF, &request) == 0 && ioctl(fd, TUNSETVNETHDRSZ, &size) == 0 &&
        ioctl(fd, TUNSETOFFLOAD, 0ul) == 0)
        return 0;
    if (errno == EINVAL)
        return err_set(err, -EINVAL, "--net: the interface '%s' is not a tap interface", name);
    if (errno == EBUSY)
        return err_set(err, -EBUSY, "--net: the tap interface '%s' is in use by another program",
                       name);
    return err_set(err, -errno, "--net: the tap interface '%s' cannot be used: %s", name,
                   strerror(errno));
}

static int open_tap(const char *name, int *fd, struct err *err)
{
    if (!if_nametoindex(name))
        return err_set(err, -ENODEV,
                       "--net: there is no network interface '%s'; 'ip tuntap add %s mode tap' "
                       "makes one",
                       name, name);
    *fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0)
        return err_set(err, -errno, "--net: /dev/net/tun cannot be opened: %s", strerror(errno));
    return attach(*fd, name, err);
}

int net_tap_open(struct net **net, const struct net_config *config, struct err *err)
{
    const unsigned all = PACKET_CSUM | PACKET_TSO4 | PACKET_TSO6 | PACKET_TSO_ECN;
    struct net_tap *t = calloc(1, sizeof *t);
    int rc;

    if (!t)
        return err_set(err, -ENOMEM, "not enough memory for a network");
    t->net = (struct net){.ops = &tap_ops, .kicked.fd = -1, .takes = all, .gives = all};
    t->tap.fd = -1;
    rc = open_tap(config->ifname, &t->tap.fd, err);
    if (rc < 0)
        tap_close(&t->net);
    else
        *net = &t->net;
    return rc;
}
