#include "net/net.h"

#include "net/backend.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static int open_kind(struct net **net, const struct net_config *config, struct err *err)
{
    switch (config->kind) {
    case NET_USER: return net_user_open(net, config, err);
    case NET_TAP: return net_tap_open(net, config, err);
    default: return 0;
    }
}

int net_open(struct net **net, const struct net_config *config, struct err *err)
{
    int rc;

    *net = NULL;
    rc = open_kind(net, config, err);
    if (rc < 0 || !*net)
        return rc;
    memcpy((*net)->mac, config->mac, sizeof config->mac);
    (*net)->kicked.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if ((*net)->kicked.fd >= 0)
        return 0;
    rc = err_set(err, -errno, "the event descriptor cannot be made: %s", strerror(errno));
    net_close(*net);
    *net = NULL;
    return rc;
}

void net_close(struct net *net)
{
    if (!net)
        return;
    if (net->loop) {
        loop_remove_hook(net->loop, &net->hook);
        loop_remove(net->loop, &net->kicked);
    }
    if (net->kicked.fd >= 0)
        close(net->kicked.fd);
    net->ops->close(net);
}

void net_set_peer(struct net *net, const struct net_peer *peer)
{
    net->peer = *peer;
}

/* The hook does the work, as before every wait. */
static void on_kick(void *opaque, unsigned revents)
{
    struct net *net = opaque;
    uint64_t count;
    ssize_t ignored = read(net->kicked.fd, &count, sizeof count);

    (void)ignored;
    (void)revents;
}

static int before_wait(void *opaque)
{
    struct net *net = opaque;

    net->ops->before_pump(net);
    net->peer.pump(net->peer.opaque);
    return net->ops->before_wait(net);
}

int net_start(struct net *net, struct loop *loop, struct err *err)
{
    int rc;

    net->kicked.ready = on_kick;
    net->kicked.opaque = net;
    rc = loop_add(loop, &net->kicked, EPOLLIN, err);
    if (rc < 0)
        return rc;
    net->loop = loop;
    net->hook.before_wait = before_wait;
    net->hook.opaque = net;
    loop_add_hook(loop, &net->hook);
    return net->ops->start(net, err);
}

const uint8_t *net_mac(const struct net *net)
{
    return net->mac;
}

unsigned net_takes(const struct net *net)
{
    return net->takes;
}

unsigned net_gives(const struct net *net)
{
    return net->gives;
}

void net_accept(struct net *net, unsigned offloads)
{
    if (net->ops->accept)
        net->ops->accept(net, offloads & net->gives);
}

void net_send(struct net *net, const struct packet_header *header, const struct iovec *iov,
              unsigned count)
{
    net->ops->send(net, header, iov, count);
}

void net_kick(struct net *net)
{
    const uint64_t one = 1;
    ssize_t ignored = write(net->kicked.fd, &one, sizeof one);

    (void)ignored;
}
