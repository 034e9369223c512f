/* virtio.c - status, features, configuration and reset of a virtio device (virtio 1.2, section 2).
 *
 * The order that the specification asks of drivers is enforced as far as it protects us: queues are
 * set up and used only with features that are final, features are final with FEATURES_OK, and a
 * queue that is enabled stays as it is until the next reset. */
#include "virtio/virtio.h"

#include "base/trace.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

void virtio_init(struct virtio_device *device, const struct virtio_type *type, struct memory *mem)
{
    assert(type->queue_count <= VIRTIO_MAX_QUEUES && type->queue_size <= VIRTQ_MAX_SIZE);
    memset(device, 0, sizeof *device);
    device->type = *type;
    device->mem = mem;
    device->offered =
        type->features | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_VERSION_1;
    for (unsigned i = 0; i < type->queue_count; i++)
        virtq_init(&device->queues[i], device, i, type->queue_size);
}

/* --- telling the driver --- */

static void config_interrupt(struct virtio_device *device)
{
    if (device->status & VIRTIO_DRIVER_OK)
        device->transport.config_interrupt(device->transport.opaque);
}

void virtio_broken(struct virtio_device *device, const char *why)
{
    if (device->status & VIRTIO_NEEDS_RESET)
        return;
    trace_virtio_broken(device->type.name, why);
    device->status |= VIRTIO_NEEDS_RESET;
    config_interrupt(device);
}

void virtio_config_changed(struct virtio_device *device)
{
    device->config_generation++;
    config_interrupt(device);
}

/* --- reset --- */

static unsigned taken(const struct virtio_device *device)
{
    unsigned sum = 0;

    for (unsigned i = 0; i < device->type.queue_count; i++)
        sum += device->queues[i].taken;
    return sum;
}

static void hook(struct virtio_device *device, void (*fn)(void *opaque))
{
    if (fn)
        fn(device->type.opaque);
}

void virtio_reset(struct virtio_device *device)
{
    trace_virtio_reset(device->type.name);
    device->status = 0;
    device->features = 0;
    for (unsigned i = 0; i < device->type.queue_count; i++)
        virtq_reset(&device->queues[i]);
    hook(device, device->type.ops->reset);
    device->resetting = taken(device) > 0;
}

void virtio_returned(struct virtio_device *device)
{
    if (device->resetting && taken(device) == 0)
        device->resetting = false;
}

void virtio_drain(struct virtio_device *device)
{
    hook(device, device->type.ops->drain);
}

/* --- status and features --- */

/* FAILED stands for "not yet": a driver that begins before it has read 0 is told that it cannot. */
uint8_t virtio_status(const struct virtio_device *device)
{
    return device->resetting ? VIRTIO_FAILED : device->status;
}

static bool features_make_sense(const struct virtio_device *device)
{
    return device->features & VIRTIO_F_VERSION_1;
}

/* A driver sets bits and clears none but with a reset; NEEDS_RESET is ours. */
void virtio_set_status(struct virtio_device *device, uint8_t status)
{
    const uint8_t before = device->status;
    uint8_t added = (uint8_t)(status & ~before & ~VIRTIO_NEEDS_RESET);

    if (status == 0) {
        virtio_reset(device);
        return;
    }
    if (device->resetting)
        return;
    if ((added & VIRTIO_FEATURES_OK) && !features_make_sense(device))
        added &= (uint8_t)~VIRTIO_FEATURES_OK;
    if ((added & VIRTIO_DRIVER_OK) && !((before | added) & VIRTIO_FEATURES_OK))
        added &= (uint8_t)~VIRTIO_DRIVER_OK;
    device->status |= added;
    trace_virtio_status(device->type.name, device->status, device->features);
    if (added & VIRTIO_DRIVER_OK)
        hook(device, device->type.ops->started);
}

uint32_t virtio_offered(const struct virtio_device *device, uint32_t select)
{
    return select < 2 ? (uint32_t)(device->offered >> (32 * select)) : 0;
}

uint32_t virtio_accepted(const struct virtio_device *device, uint32_t select)
{
    return select < 2 ? (uint32_t)(device->features >> (32 * select)) : 0;
}

/* What was not offered is not accepted. */
void virtio_accept(struct virtio_device *device, uint32_t select, uint32_t bits)
{
    uint64_t mask;

    if (select >= 2 || (device->status & VIRTIO_FEATURES_OK) || device->resetting)
        return;
    mask = UINT64_C(0xffffffff) << (32 * select);
    device->features =
        (device->features & ~mask) | ((uint64_t)bits << (32 * select) & device->offered & mask);
}

/* --- the device's configuration --- */

uint32_t virtio_config_read(struct virtio_device *device, unsigned offset, unsigned size)
{
    uint32_t value = 0;

    if (offset < device->type.config_size) {
        if (size > device->type.config_size - offset)
            size = device->type.config_size - offset;
        memcpy(&value, (const uint8_t *)device->type.config + offset, size);
    }
    return value;
}

void virtio_config_write(struct virtio_device *device, unsigned offset, uint32_t value,
                         unsigned size)
{
    if (device->type.ops->config_write && size <= device->type.config_size &&
        offset <= device->type.config_size - size && !device->resetting)
        device->type.ops->config_write(device->type.opaque, offset, value, size);
}

/* --- queues --- */

/* The queue, if the driver may set it up now. */
static struct virtq *changeable(struct virtio_device *device, unsigned queue)
{
    if (queue >= device->type.queue_count || device->queues[queue].enabled || device->resetting)
        return NULL;
    return &device->queues[queue];
}

void virtio_queue_set_size(struct virtio_device *device, unsigned queue, uint16_t size)
{
    struct virtq *q = changeable(device, queue);

    if (q && size && size <= q->max_size && !(size & (size - 1)))
        q->size = size;
}

void virtio_queue_set_rings(struct virtio_device *device, unsigned queue, gpa_t desc, gpa_t avail,
                            gpa_t used)
{
    struct virtq *q = changeable(device, queue);

    if (!q)
        return;
    q->desc = desc;
    q->avail = avail;
    q->used = used;
}

void virtio_queue_enable(struct virtio_device *device, unsigned queue)
{
    struct virtq *q = changeable(device, queue);

    if (!q)
        return;
    if (!(device->status & VIRTIO_FEATURES_OK))
        virtio_broken(device, "a queue is enabled before features are agreed");
    else if (!virtq_enable(q))
        virtio_broken(device, "the rings of a queue are not aligned or not in RAM");
}

void virtio_notify(struct virtio_device *device, unsigned queue)
{
    trace_virtio_notify(device->type.name, queue);
    if (queue < device->type.queue_count && device->queues[queue].enabled && virtio_running(device))
        device->type.ops->notify(device->type.opaque, queue);
}

void virtio_set_dma(struct virtio_device *device, bool on)
{
    device->dma = on;
}

/* --- state --- */

static void before_save(void *object)
{
    virtio_drain(object);
}

static int loaded(void *object, struct err *err)
{
    struct virtio_device *device = object;

    device->resetting = false;
    if (device->features & ~device->offered)
        return err_set(err, -EINVAL, "%s: features %#llx that the device does not have",
                       device->type.name,
                       (unsigned long long)(device->features & ~device->offered));
    if ((device->status & VIRTIO_DRIVER_OK) && !(device->status & VIRTIO_FEATURES_OK))
        return err_set(err, -EINVAL, "%s: a status of %#x: DRIVER_OK without FEATURES_OK",
                       device->type.name, device->status);
    return 0;
}

static const struct field fields[] = {
    FIELD(struct virtio_device, features),
    FIELD(struct virtio_device, status),
    FIELD(struct virtio_device, dma),
    FIELD(struct virtio_device, config_generation),
};

const struct state_desc virtio_state_desc = {
    .name = "virtio",
    .version = 1,
    .fields = fields,
    .field_count = ARRAY_SIZE(fields),
    .before_save = before_save,
    .loaded = loaded,
};

/* The device comes first, because saving it finishes what its queues have out. */
void virtio_add_state(struct virtio_device *device, struct state_list *list, unsigned instance)
{
    state_add(list, &virtio_state_desc, instance, device);
    for (unsigned i = 0; i < device->type.queue_count; i++)
        state_add(list, &virtq_state_desc, instance * VIRTIO_MAX_QUEUES + i, &device->queues[i]);
}
