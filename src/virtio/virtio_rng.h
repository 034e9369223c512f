/* virtio_rng.h - the entropy device (virtio 1.2, section 5.4): random bytes of the host.
 *
 * With virtual time the bytes are a fixed sequence, so that a run can be repeated. */
#ifndef DOBLE_VIRTIO_VIRTIO_RNG_H
#define DOBLE_VIRTIO_VIRTIO_RNG_H

#include "bus/clock.h"
#include "virtio/virtio.h"

struct virtio_rng {
    struct virtio_device virtio;
    const struct clock *clock;
    uint64_t sequence; /* virtual time: the last number */
};

void virtio_rng_init(struct virtio_rng *rng, struct memory *mem, const struct clock *clock);

extern const struct state_desc virtio_rng_state_desc;

#endif
