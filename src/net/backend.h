/* backend.h - what a kind of network is to net.c; private to src/net. */
#ifndef DOBLE_NET_BACKEND_H
#define DOBLE_NET_BACKEND_H

#include "net/net.h"

struct net_ops {
    const char *name;
    /* The loop runs now: add watches to net->loop. */
    int (*start)(struct net *net, struct err *err);
    void (*send)(struct net *net, const struct packet_header *header, const struct iovec *iov,
                 unsigned count);
    /* What the guest accepts undone has changed; may be NULL. */
    void (*accept)(struct net *net, unsigned offloads);
    /* What is due before pump(); and after it, with how long to wait, as in struct loop_hook. */
    void (*before_pump)(struct net *net);
    int (*before_wait)(struct net *net);
    void (*close)(struct net *net);
};

/* First member of each kind's own struct. */
struct net {
    const struct net_ops *ops;
    uint8_t mac[6];
    unsigned takes, gives;
    struct net_peer peer;
    struct loop *loop; /* NULL: not started */
    struct loop_hook hook;
    struct loop_watch kicked; /* an eventfd */
};

int net_user_open(struct net **net, const struct net_config *config, struct err *err) MUST_USE;
int net_tap_open(struct net **net, const struct net_config *config, struct err *err) MUST_USE;

#endif
