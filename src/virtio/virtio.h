/* virtio.h - what all virtio devices have in common, whatever bus they are found on.
 *
 * A device (rng.c, net.c, blk.c, ...) is data and a few hooks:
 *
 *     struct virtio_rng { struct virtio_device virtio; ... };
 *
 *     static const struct virtio_ops ops = {.notify = rng_notify};
 *     virtio_init(&rng->virtio, &(struct virtio_type){
 *         .name = "virtio-rng", .id = VIRTIO_ID_RNG, .class_code = 0xff0000,
 *         .queue_count = 1, .queue_size = 64, .ops = &ops, .opaque = rng}, mem);
 *
 * and a transport (pci_transport.c) makes it visible to the guest. From then on:
 *
 *   notify(queue)   the driver has put chains into a queue. The device takes what it wants with
 *                   virtq_pop(), works, gives back with virtq_push(), and tells with virtq_signal()
 *   reset()         everything of before is void: forget chains that are queued. Requests that the
 *                   host has begun and that cannot be called back may still finish: push them as
 *                   usual (the push only counts), and until the last is pushed, the driver reads
 *                   that the reset is not complete
 *   started()       the driver is ready (DRIVER_OK): features and queues are final
 *
 * Asynchronous devices: a chain may be kept as long as the host's I/O takes. Completion may run on
 * any thread, which takes the bus lock (bus_lock()) for virtq_push() and virtq_signal() and nothing
 * else; the bytes themselves are moved without the lock. drain() is called before the machine is
 * saved, reset or freed, on the main thread with the bus lock held: when it returns, no chain is
 * out. It may release the lock while it waits. A device that completes within notify() needs none.
 *
 * Locking: all functions and hooks run with the bus lock held. A device with a thread of its own
 * does nothing else with it held, and never waits for a thread that may want the lock.
 *
 * Specification: Virtual I/O Device (VIRTIO) Version 1.2, section 2. Packed rings are not offered.
 */
#ifndef DOBLE_VIRTIO_VIRTIO_H
#define DOBLE_VIRTIO_VIRTIO_H

#include "base/state.h"
#include "mem/memory.h"
#include "virtio/queue.h"

#define VIRTIO_MAX_QUEUES 32

enum virtio_id {
    VIRTIO_ID_NET = 1,
    VIRTIO_ID_BLOCK = 2,
    VIRTIO_ID_CONSOLE = 3,
    VIRTIO_ID_RNG = 4,
};

enum virtio_status {
    VIRTIO_ACKNOWLEDGE = 1,
    VIRTIO_DRIVER = 2,
    VIRTIO_DRIVER_OK = 4,
    VIRTIO_FEATURES_OK = 8,
    VIRTIO_NEEDS_RESET = 64,
    VIRTIO_FAILED = 128,
};

/* Features of every device; those of one device are bits 0 to 23, by its own section. */
#define VIRTIO_F_INDIRECT_DESC (UINT64_C(1) << 28)
#define VIRTIO_F_EVENT_IDX (UINT64_C(1) << 29)
#define VIRTIO_F_VERSION_1 (UINT64_C(1) << 32)

struct virtio_ops {
    void (*notify)(void *opaque, unsigned queue);
    /* The rest may be NULL. */
    void (*reset)(void *opaque);
    void (*started)(void *opaque);
    /* A store of 1, 2 or 4 bytes to the configuration; NULL: all of it is read-only. */
    void (*config_write)(void *opaque, unsigned offset, uint32_t value, unsigned size);
    void (*drain)(void *opaque);
};

/* What a device is. Constant; the device keeps a copy. */
struct virtio_type {
    const char *name;     /* "virtio-net" */
    enum virtio_id id;    /* section 5 */
    uint32_t class_code;  /* of PCI: class, subclass, interface */
    uint64_t features;    /* bits 0 to 23 only; the common ones are added */
    unsigned queue_count; /* up to VIRTIO_MAX_QUEUES */
    unsigned queue_size;  /* entries of each, a power of two, up to VIRTQ_MAX_SIZE */
    void *config;         /* the device's configuration, little-endian; it stays the device's */
    unsigned config_size; /* bytes */
    const struct virtio_ops *ops;
    void *opaque;
};

/* How a device reaches its driver; given by the transport. */
struct virtio_transport {
    void (*queue_interrupt)(void *opaque, unsigned queue);
    void (*config_interrupt)(void *opaque);
    void *opaque;
};

struct virtio_device {
    struct virtio_type type;
    struct memory *mem;
    struct virtio_transport transport;

    uint64_t offered;  /* type.features and the common ones */
    uint64_t features; /* what the driver accepts; final with FEATURES_OK */
    uint8_t status;    /* VIRTIO_* */
    bool resetting;    /* the status does not read 0 before chains that are out have come back */
    bool dma;          /* the transport lets the device reach memory */
    uint8_t config_generation;
    struct virtq queues[VIRTIO_MAX_QUEUES];
};

/* Before the machine runs. */
void virtio_init(struct virtio_device *device, const struct virtio_type *type, struct memory *mem);

/* Adds the device's common state and its queues to the list; a device adds its own beside it.
 * `instance` tells all virtio devices of the machine apart. */
void virtio_add_state(struct virtio_device *device, struct state_list *list, unsigned instance);

/* --- for devices --- */

static inline struct virtq *virtio_queue(struct virtio_device *device, unsigned index)
{
    return &device->queues[index];
}

static inline bool virtio_has(const struct virtio_device *device, uint64_t feature)
{
    return device->features & feature;
}

/* The driver is ready, the device is not broken, and it may reach memory: queues work. */
static inline bool virtio_running(const struct virtio_device *device)
{
    return (device->status & (VIRTIO_DRIVER_OK | VIRTIO_NEEDS_RESET)) == VIRTIO_DRIVER_OK &&
           device->dma;
}

/* The guest drove the device wrongly: sets NEEDS_RESET, traces `why` once, tells the driver. No
 * queue works until the driver resets the device. */
void virtio_broken(struct virtio_device *device, const char *why);

/* The configuration has changed: the driver is told. */
void virtio_config_changed(struct virtio_device *device);

/* --- for transports and the board --- */

uint8_t virtio_status(const struct virtio_device *device);
/* A store to the status; 0 resets. */
void virtio_set_status(struct virtio_device *device, uint8_t status);

/* Bits `select` * 32 and up of what the device offers, and of what the driver accepts. */
uint32_t virtio_offered(const struct virtio_device *device, uint32_t select);
uint32_t virtio_accepted(const struct virtio_device *device, uint32_t select);
void virtio_accept(struct virtio_device *device, uint32_t select, uint32_t bits);

/* Accesses to the device's configuration; outside of it reads give zeros. `size` is 1, 2, or 4. */
uint32_t virtio_config_read(struct virtio_device *device, unsigned offset, unsigned size);
void virtio_config_write(struct virtio_device *device, unsigned offset, uint32_t value,
                         unsigned size);

/* Set up a queue, which only works before it is enabled. A size that makes no sense is ignored. */
void virtio_queue_set_size(struct virtio_device *device, unsigned queue, uint16_t size);
void virtio_queue_set_rings(struct virtio_device *device, unsigned queue, gpa_t desc, gpa_t avail,
                            gpa_t used);
void virtio_queue_enable(struct virtio_device *device, unsigned queue);

/* The driver wrote to the queue's doorbell. Any number; ignored unless the device runs. */
void virtio_notify(struct virtio_device *device, unsigned queue);

/* Whether the device may reach memory (PCI: bus master). */
void virtio_set_dma(struct virtio_device *device, bool on);

/* Finishes all that is out, for a save or a reset of the machine. Main thread. */
void virtio_drain(struct virtio_device *device);

/* Power-on reset, after virtio_drain(). */
void virtio_reset(struct virtio_device *device);

/* --- for queue.c --- */

/* A chain of before a reset has come back. */
void virtio_returned(struct virtio_device *device);

extern const struct state_desc virtio_state_desc;

#endif
