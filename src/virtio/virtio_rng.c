#include "virtio/virtio_rng.h"

#include "base/random.h"

#include <sys/random.h>

#define MAX_BYTES 4096u /* of one request; the driver asks again */

/* Returns how many bytes there are. */
static size_t fill(struct virtio_rng *rng, uint8_t *bytes, size_t len)
{
    size_t have = 0;
    ssize_t n;

    if (rng->clock->mode == CLOCK_VIRTUAL) {
        for (; have < len; have++)
            bytes[have] = (uint8_t)random_repeatable(&rng->sequence);
        return have;
    }
    while (have < len && (n = getrandom(bytes + have, len - have, GRND_NONBLOCK)) > 0)
        have += (size_t)n;
    return have;
}

static void notify(void *opaque, unsigned number)
{
    struct virtio_rng *rng = opaque;
    struct virtq *queue = virtio_queue(&rng->virtio, number);
    struct virtq_chain chain;
    uint8_t bytes[MAX_BYTES];

    while (virtq_pop(queue, &chain)) {
        size_t len = chain.writable < MAX_BYTES ? chain.writable : MAX_BYTES;

        len = fill(rng, bytes, len);
        virtq_push(&chain, (uint32_t)virtq_write(&chain, bytes, len));
    }
    virtq_signal(queue);
}

void virtio_rng_init(struct virtio_rng *rng, struct memory *mem, const struct clock *clock)
{
    static const struct virtio_ops ops = {.notify = notify};

    rng->clock = clock;
    rng->sequence = 0;
    virtio_init(&rng->virtio,
                &(struct virtio_type){
                    .name = "virtio-rng",
                    .id = VIRTIO_ID_RNG,
                    .class_code = 0xff0000,
                    .queue_count = 1,
                    .queue_size = 64,
                    .ops = &ops,
                    .opaque = rng,
                },
                mem);
}

static const struct field fields[] = {
    FIELD(struct virtio_rng, sequence),
};

const struct state_desc virtio_rng_state_desc = {
    .name = "virtio-rng",
    .version = 1,
    .fields = fields,
    .field_count = ARRAY_SIZE(fields),
};
