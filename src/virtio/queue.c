/* queue.c - split virtqueues (virtio 1.2, section 2.7), read as what they are: memory of a guest
 * that may be hostile and that runs while we look.
 *
 * Every descriptor is copied before it is checked, and what was checked is what is used. A chain is
 * bounded by the size of its table, so a loop ends. Rings are looked up once, when the driver
 * enables the queue; RAM stays where it is in the host.
 *
 * Notifications: with the event index, avail_event is moved only when a queue is found empty. While
 * a device works through a queue, on its own thread or because it was notified, the driver's
 * avail_event is in the past and it does not notify. After the index was moved the queue is looked
 * at once more, because the driver may have looked at the index just before. */
#include "virtio/queue.h"

#include "virtio/virtio.h"

#include <errno.h>
#include <string.h>

#define DESC_NEXT 1
#define DESC_WRITE 2
#define DESC_INDIRECT 4
#define AVAIL_NO_INTERRUPT 1
#define USED_NO_NOTIFY 1

struct descriptor {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};
_Static_assert(sizeof(struct descriptor) == 16, "virtio 1.2, 2.7.5");

struct used_element {
    uint32_t id, len;
};
_Static_assert(sizeof(struct used_element) == 8, "virtio 1.2, 2.7.8");

/* Offsets in the rings; both begin with flags and idx, 16 bits each. */
#define RING_IDX 2
#define RING_ENTRIES 4

static uint32_t avail_bytes(uint16_t size)
{
    return RING_ENTRIES + 2u * size + 2; /* + used_event */
}

static uint32_t used_bytes(uint16_t size)
{
    return RING_ENTRIES + 8u * size + 2; /* + avail_event */
}

static uint16_t load16(const uint8_t *at)
{
    return __atomic_load_n((const uint16_t *)(const void *)at, __ATOMIC_ACQUIRE);
}

static void store16(uint8_t *at, uint16_t value)
{
    __atomic_store_n((uint16_t *)(void *)at, value, __ATOMIC_RELEASE);
}

static struct memory *memory_of(const struct virtq *queue)
{
    return queue->device->mem;
}

static bool event_index(const struct virtq *queue)
{
    return virtio_has(queue->device, VIRTIO_F_EVENT_IDX);
}

/* --- chains: from the table to segments --- */

static bool broken(struct virtq *queue, const char *why)
{
    virtio_broken(queue->device, why);
    return false;
}

/* Adds a buffer to the chain. An empty one is none. */
static bool add_segment(struct virtq_chain *chain, const struct descriptor *desc)
{
    const unsigned at = chain->read_count + chain->write_count;
    const bool write = desc->flags & DESC_WRITE;
    uint32_t *total = write ? &chain->writable : &chain->readable;
    void *host;

    if (!write && chain->write_count)
        return broken(chain->queue, "a readable descriptor behind a writable one");
    if (desc->len == 0)
        return true;
    if (at == VIRTQ_MAX_SEGMENTS)
        return broken(chain->queue, "a chain with too many descriptors");
    if (desc->len > UINT32_MAX - *total)
        return broken(chain->queue, "a chain of 4 GiB or more");
    host = memory_ram(memory_of(chain->queue), desc->addr, desc->len);
    if (!host || (write && !memory_writable(memory_of(chain->queue), desc->addr, desc->len)))
        return broken(chain->queue, "a buffer outside of RAM");
    chain->iov[at] = (struct iovec){host, desc->len};
    chain->gpa[at] = desc->addr;
    *total += desc->len;
    *(write ? &chain->write_count : &chain->read_count) += 1;
    return true;
}

struct table {
    const uint8_t *host;
    unsigned count;
    bool indirect;
};

/* Goes on in the table that `desc` points to. */
static bool enter_indirect(struct virtq *queue, const struct descriptor *desc, struct table *table)
{
    const unsigned count = desc->len / sizeof(struct descriptor);

    if (table->indirect || (desc->flags & DESC_NEXT) ||
        !virtio_has(queue->device, VIRTIO_F_INDIRECT_DESC))
        return broken(queue, "an indirect descriptor where none is allowed");
    if (count == 0 || desc->len % sizeof(struct descriptor) || count > VIRTQ_MAX_SEGMENTS)
        return broken(queue, "an indirect table of an odd length");
    table->host = memory_ram(memory_of(queue), desc->addr, desc->len);
    table->count = count;
    table->indirect = true;
    return table->host || broken(queue, "an indirect table outside of RAM");
}

static bool collect(struct virtq_chain *chain)
{
    struct virtq *queue = chain->queue;
    struct table table = {queue->desc_host, queue->size, false};
    unsigned index = chain->head, steps = 0;
    struct descriptor desc;

    for (;;) {
        if (index >= table.count)
            return broken(queue, "a descriptor number beyond the table");
        if (steps++ == table.count)
            return broken(queue, "a chain of descriptors that loops");
        memcpy(&desc, table.host + index * sizeof desc, sizeof desc);
        if (desc.flags & DESC_INDIRECT) {
            if (!enter_indirect(queue, &desc, &table))
                return false;
            index = steps = 0;
            continue;
        }
        if (!add_segment(chain, &desc))
            return false;
        if (!(desc.flags & DESC_NEXT))
            return true;
        index = desc.next;
    }
}

/* --- the available ring --- */

/* Tells the driver at which index to notify us, or with flags whether. */
static void ask_for_notification(struct virtq *queue)
{
    const uint32_t offset = event_index(queue) ? used_bytes(queue->size) - 2 : 0;

    if (event_index(queue))
        store16(queue->used_host + offset, queue->last_avail);
    else
        store16(queue->used_host, queue->silent ? USED_NO_NOTIFY : 0);
    memory_dma_touched(memory_of(queue), queue->used + offset, 2);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* Chains that wait. */
static uint16_t waiting(const struct virtq *queue)
{
    return (uint16_t)(load16(queue->avail_host + RING_IDX) - queue->last_avail);
}

bool virtq_ready(struct virtq *queue)
{
    uint16_t count;

    if (!queue->enabled || !virtio_running(queue->device))
        return false;
    count = waiting(queue);
    if (count == 0 && !queue->silent) {
        ask_for_notification(queue);
        count = waiting(queue);
    }
    if (count > queue->size)
        return broken(queue, "an available index that is ahead by more than the queue's size");
    return count;
}

bool virtq_pop(struct virtq *queue, struct virtq_chain *chain)
{
    const uint8_t *entry;

    if (!virtq_ready(queue))
        return false;
    entry = queue->avail_host + RING_ENTRIES + 2u * (queue->last_avail & (queue->size - 1u));
    chain->queue = queue;
    chain->generation = queue->generation;
    chain->head = load16(entry);
    chain->read_count = chain->write_count = 0;
    chain->readable = chain->writable = 0;
    chain->read_done = chain->write_done = 0;
    if (!collect(chain))
        return false;
    queue->last_avail++;
    queue->taken++;
    return true;
}

void virtq_unpop(struct virtq_chain *chain)
{
    struct virtq *queue = chain->queue;

    queue->taken--;
    if (chain->generation == queue->generation)
        queue->last_avail--;
    else
        virtio_returned(queue->device);
}

void virtq_set_notify(struct virtq *queue, bool on)
{
    queue->silent = !on;
    if (queue->enabled)
        ask_for_notification(queue);
}

/* --- the used ring --- */

/* Announces what a device has stored: what it says, and at least what it was handed out. */
static void announce_stores(const struct virtq_chain *chain, uint32_t written)
{
    uint32_t left = written > chain->write_done ? written : chain->write_done;

    for (unsigned i = chain->read_count; left > 0 && i < chain->read_count + chain->write_count;
         i++) {
        uint32_t part = (uint32_t)chain->iov[i].iov_len;

        if (part > left)
            part = left;
        memory_dma_touched(memory_of(chain->queue), chain->gpa[i], part);
        left -= part;
    }
}

void virtq_fill(struct virtq_chain *chain, uint32_t written, unsigned at)
{
    struct virtq *queue = chain->queue;
    const struct used_element element = {chain->head, written};
    uint32_t offset;

    announce_stores(chain, written);
    queue->taken--;
    if (chain->generation != queue->generation) {
        virtio_returned(queue->device);
        return;
    }
    offset = RING_ENTRIES + 8u * ((queue->used_idx + at) & (queue->size - 1u));
    memcpy(queue->used_host + offset, &element, sizeof element);
    memory_dma_touched(memory_of(queue), queue->used + offset, sizeof element);
}

void virtq_flush(struct virtq *queue, unsigned count)
{
    if (!queue->enabled || count == 0)
        return;
    queue->used_idx = (uint16_t)(queue->used_idx + count);
    store16(queue->used_host + RING_IDX, queue->used_idx);
    memory_dma_touched(memory_of(queue), queue->used + RING_IDX, 2);
}

void virtq_rewind(struct virtq *queue, unsigned count)
{
    queue->last_avail = (uint16_t)(queue->last_avail - count);
}

void virtq_push(struct virtq_chain *chain, uint32_t written)
{
    const bool current = chain->generation == chain->queue->generation;

    virtq_fill(chain, written, 0);
    if (current)
        virtq_flush(chain->queue, 1);
}

/* `before` is used_idx of the last time. */
static bool wants_interrupt(const struct virtq *queue, uint16_t before)
{
    uint16_t event;

    if (!event_index(queue))
        return !(load16(queue->avail_host) & AVAIL_NO_INTERRUPT);
    event = load16(queue->avail_host + avail_bytes(queue->size) - 2);
    return (uint16_t)(queue->used_idx - event - 1) < (uint16_t)(queue->used_idx - before);
}

void virtq_signal(struct virtq *queue)
{
    const struct virtio_transport *transport = &queue->device->transport;
    const uint16_t before = queue->signalled;

    if (!queue->enabled || queue->used_idx == before)
        return;
    queue->signalled = queue->used_idx;
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* used idx is visible before used_event is read */
    if (wants_interrupt(queue, before))
        transport->queue_interrupt(transport->opaque, queue->index);
}

/* --- bytes --- */

/* The bytes [skip, skip + len) of segments first to first + count - 1, as iovecs. Returns how many
 * there are, and in *bytes their length. */
static unsigned slice(const struct virtq_chain *chain, unsigned first, unsigned count,
                      uint32_t skip, size_t len, struct iovec *out, size_t *bytes)
{
    unsigned n = 0;

    *bytes = 0;
    for (unsigned i = first; i < first + count && *bytes < len; i++) {
        size_t size = chain->iov[i].iov_len;

        if (skip >= size) {
            skip -= (uint32_t)size;
            continue;
        }
        size -= skip;
        if (size > len - *bytes)
            size = len - *bytes;
        out[n++] = (struct iovec){(uint8_t *)chain->iov[i].iov_base + skip, size};
        *bytes += size;
        skip = 0;
    }
    return n;
}

unsigned virtq_read_iov(struct virtq_chain *chain, size_t len, struct iovec *iov)
{
    size_t bytes;
    unsigned n = slice(chain, 0, chain->read_count, chain->read_done, len, iov, &bytes);

    chain->read_done += (uint32_t)bytes;
    return n;
}

unsigned virtq_write_iov(struct virtq_chain *chain, size_t len, struct iovec *iov)
{
    size_t bytes;
    unsigned n =
        slice(chain, chain->read_count, chain->write_count, chain->write_done, len, iov, &bytes);

    chain->write_done += (uint32_t)bytes;
    return n;
}

size_t virtq_read(struct virtq_chain *chain, void *to, size_t len)
{
    struct iovec iov[VIRTQ_MAX_SEGMENTS];
    unsigned n = virtq_read_iov(chain, len, iov);
    size_t done = 0;

    for (unsigned i = 0; i < n; i++) {
        memcpy((uint8_t *)to + done, iov[i].iov_base, iov[i].iov_len);
        done += iov[i].iov_len;
    }
    return done;
}

size_t virtq_write(struct virtq_chain *chain, const void *from, size_t len)
{
    struct iovec iov[VIRTQ_MAX_SEGMENTS];
    unsigned n = virtq_write_iov(chain, len, iov);
    size_t done = 0;

    for (unsigned i = 0; i < n; i++) {
        memcpy(iov[i].iov_base, (const uint8_t *)from + done, iov[i].iov_len);
        done += iov[i].iov_len;
    }
    return done;
}

/* --- setting up --- */

void virtq_init(struct virtq *queue, struct virtio_device *device, unsigned index,
                unsigned max_size)
{
    memset(queue, 0, sizeof *queue);
    queue->device = device;
    queue->index = (uint16_t)index;
    queue->max_size = queue->size = (uint16_t)max_size;
}

void virtq_reset(struct virtq *queue)
{
    const struct virtq old = *queue;

    virtq_init(queue, old.device, old.index, old.max_size);
    queue->generation = old.generation + 1;
    queue->taken = old.taken;
}

static uint8_t *ring(const struct virtq *queue, gpa_t gpa, uint32_t len, unsigned alignment)
{
    return gpa % alignment ? NULL : memory_ram(memory_of(queue), gpa, len);
}

/* Alignments: virtio 1.2, 2.7. */
static bool find_rings(struct virtq *queue)
{
    queue->desc_host =
        ring(queue, queue->desc, queue->size * (uint32_t)sizeof(struct descriptor), 16);
    queue->avail_host = ring(queue, queue->avail, avail_bytes(queue->size), 2);
    queue->used_host = ring(queue, queue->used, used_bytes(queue->size), 4);
    return queue->desc_host && queue->avail_host && queue->used_host &&
           memory_writable(memory_of(queue), queue->used, used_bytes(queue->size));
}

bool virtq_enable(struct virtq *queue)
{
    if (!find_rings(queue))
        return false;
    queue->enabled = true;
    return true;
}

/* --- state --- */

static int loaded(void *object, struct err *err)
{
    struct virtq *queue = object;

    if (queue->size == 0 || queue->size > queue->max_size || (queue->size & (queue->size - 1)))
        return err_set(err, -EINVAL, "virtq: a size of %u: must be a power of two up to %u",
                       queue->size, queue->max_size);
    queue->generation++;
    if (queue->enabled && !find_rings(queue))
        return err_set(err, -EINVAL, "virtq: rings at %#llx, %#llx and %#llx are not in RAM",
                       (unsigned long long)queue->desc, (unsigned long long)queue->avail,
                       (unsigned long long)queue->used);
    return 0;
}

static const struct field fields[] = {
    FIELD(struct virtq, size),     FIELD(struct virtq, enabled),   FIELD(struct virtq, desc),
    FIELD(struct virtq, avail),    FIELD(struct virtq, used),      FIELD(struct virtq, last_avail),
    FIELD(struct virtq, used_idx), FIELD(struct virtq, signalled), FIELD(struct virtq, silent),
};

const struct state_desc virtq_state_desc = {
    .name = "virtq",
    .version = 1,
    .fields = fields,
    .field_count = ARRAY_SIZE(fields),
    .loaded = loaded,
};
