/* virtio_rig.h - a driver for tests of virtio devices: it lays out rings in guest memory and offers
 * chains, without a bus between it and the device. */
#ifndef DOBLE_TESTS_DEV_VIRTIO_RIG_H
#define DOBLE_TESTS_DEV_VIRTIO_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "virtio/virtio.h"

#define VRIG_RAM (32 * MIB)
#define VRIG_RINGS 0x100000u /* 64 KiB for each queue */
#define VRIG_RING_STRIDE 0x10000u
#define VRIG_AVAIL 0x4000u /* within it */
#define VRIG_USED 0x8000u

enum { VRIG_NEXT = 1, VRIG_WRITE = 2, VRIG_INDIRECT = 4 };

struct vrig_desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};

struct vrig {
    struct memory mem;
    struct virtio_device *device;
    unsigned interrupts[VIRTIO_MAX_QUEUES], config_interrupts;
    uint16_t size;                         /* of every queue */
    uint16_t next_desc[VIRTIO_MAX_QUEUES]; /* where the next chain goes in the table */
    uint16_t seen[VIRTIO_MAX_QUEUES];      /* used entries that were taken */
};

static inline void vrig_queue_interrupt(void *opaque, unsigned queue)
{
    ((struct vrig *)opaque)->interrupts[queue]++;
}

static inline void vrig_config_interrupt(void *opaque)
{
    ((struct vrig *)opaque)->config_interrupts++;
}

static inline struct vrig *vrig_new(void)
{
    struct vrig *rig = calloc(1, sizeof *rig);

    assert_non_null(rig);
    assert_int_equal(memory_init(&rig->mem, VRIG_RAM, NULL), 0);
    rig->size = 16;
    return rig;
}

static inline void vrig_free(struct vrig *rig)
{
    memory_free(&rig->mem);
    free(rig);
}

static inline void *vrig_at(struct vrig *rig, gpa_t gpa)
{
    return memory_ram(&rig->mem, gpa, 1);
}

static inline gpa_t vrig_ring(unsigned queue)
{
    return VRIG_RINGS + queue * VRIG_RING_STRIDE;
}

static inline struct vrig_desc *vrig_table(struct vrig *rig, unsigned queue)
{
    return vrig_at(rig, vrig_ring(queue));
}

static inline uint16_t *vrig_avail(struct vrig *rig, unsigned queue)
{
    return vrig_at(rig, vrig_ring(queue) + VRIG_AVAIL);
}

static inline uint16_t *vrig_used(struct vrig *rig, unsigned queue)
{
    return vrig_at(rig, vrig_ring(queue) + VRIG_USED);
}

/* Connects to a device that was initialized with rig->mem, and brings it to FEATURES_OK. */
static inline void vrig_attach(struct vrig *rig, struct virtio_device *device, uint64_t features)
{
    rig->device = device;
    device->transport = (struct virtio_transport){vrig_queue_interrupt, vrig_config_interrupt, rig};
    virtio_set_dma(device, true);
    virtio_set_status(device, 0);
    virtio_set_status(device, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER);
    virtio_accept(device, 0, (uint32_t)features);
    virtio_accept(device, 1, (uint32_t)((features | VIRTIO_F_VERSION_1) >> 32));
    virtio_set_status(device, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK);
    assert_true(virtio_status(device) & VIRTIO_FEATURES_OK);
}

static inline void vrig_queue(struct vrig *rig, unsigned queue)
{
    memset(vrig_at(rig, vrig_ring(queue)), 0, VRIG_RING_STRIDE);
    rig->next_desc[queue] = rig->seen[queue] = 0;
    virtio_queue_set_size(rig->device, queue, rig->size);
    virtio_queue_set_rings(rig->device, queue, vrig_ring(queue), vrig_ring(queue) + VRIG_AVAIL,
                           vrig_ring(queue) + VRIG_USED);
    virtio_queue_enable(rig->device, queue);
}

/* All queues, and DRIVER_OK. */
static inline void vrig_start(struct vrig *rig)
{
    for (unsigned i = 0; i < rig->device->type.queue_count; i++)
        vrig_queue(rig, i);
    virtio_set_status(rig->device,
                      VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK | VIRTIO_DRIVER_OK);
}

/* Makes the head available, without notifying. */
static inline void vrig_offer(struct vrig *rig, unsigned queue, uint16_t head)
{
    uint16_t *avail = vrig_avail(rig, queue);

    avail[2 + avail[1] % rig->size] = head;
    avail[1]++;
}

/* A chain of one or two buffers; a length of 0 leaves one out. Returns its head. */
static inline uint16_t vrig_chain(struct vrig *rig, unsigned queue, gpa_t out, uint32_t out_len,
                                  gpa_t in, uint32_t in_len)
{
    struct vrig_desc *table = vrig_table(rig, queue);
    uint16_t head = rig->next_desc[queue] % rig->size, second = (uint16_t)((head + 1) % rig->size);

    if (out_len)
        table[head] = (struct vrig_desc){out, out_len, in_len ? VRIG_NEXT : 0, second};
    if (in_len)
        table[out_len ? second : head] = (struct vrig_desc){in, in_len, VRIG_WRITE, 0};
    rig->next_desc[queue] = (uint16_t)(rig->next_desc[queue] + (out_len && in_len ? 2 : 1));
    vrig_offer(rig, queue, head);
    return head;
}

/* The next used entry: false, or its head and length. */
static inline bool vrig_take(struct vrig *rig, unsigned queue, uint32_t *head, uint32_t *len)
{
    const uint16_t *used = vrig_used(rig, queue);
    const uint32_t *element =
        (const uint32_t *)(const void *)(used + 2) + 2 * (rig->seen[queue] % rig->size);

    if (used[1] == rig->seen[queue])
        return false;
    *head = element[0];
    *len = element[1];
    rig->seen[queue]++;
    return true;
}

#endif
