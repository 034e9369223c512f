/* virtio_blk.h - a disk (virtio 1.2, section 5.2), in front of an image (block/block.h).
 *
 *   request queues   a chain is: header (type, sector) | data to write
 *   0, 1, ...                    data that is read | status byte
 *
 * Any number of requests is in flight, on any queue; they end in any order, when the image has done
 * them. A driver that has not agreed on VIRTIO_BLK_F_FLUSH is told that a write is done when it has
 * been flushed. Errors of the image become VIRTIO_BLK_S_IOERR. All functions run with the bus lock
 * held. */
#ifndef DOBLE_VIRTIO_VIRTIO_BLK_H
#define DOBLE_VIRTIO_VIRTIO_BLK_H

#include "block/block.h"
#include "virtio/virtio.h"

#define VIRTIO_BLK_ID_LENGTH 20
#define VIRTIO_BLK_MAX_QUEUES 16

/* 5.2.4, little-endian. */
struct __attribute__((packed)) virtio_blk_config {
    uint64_t capacity; /* in sectors, as everything here */
    uint32_t size_max, seg_max;
    uint16_t cylinders;
    uint8_t heads, sectors;
    uint32_t blk_size;
    uint8_t physical_block_exp, alignment_offset;
    uint16_t min_io_size;
    uint32_t opt_io_size;
    uint8_t writeback, unused0;
    uint16_t num_queues;
    uint32_t max_discard_sectors, max_discard_seg, discard_sector_alignment;
    uint32_t max_write_zeroes_sectors, max_write_zeroes_seg;
    uint8_t write_zeroes_may_unmap, unused1[3];
};
_Static_assert(sizeof(struct virtio_blk_config) == 60, "virtio 1.2, 5.2.4");

struct virtio_blk_job;

struct virtio_blk {
    struct virtio_device virtio;
    struct block *block;
    struct virtio_blk_config config;
    char id[VIRTIO_BLK_ID_LENGTH]; /* without a final 0 if it has this length */
    struct virtio_blk_job *unused; /* a list */

    /* Which disk it is: a saved machine goes on with the same one only. */
    uint64_t saved_size;
    bool saved_read_only;
    char saved_id[VIRTIO_BLK_ID_LENGTH];
};

/* `block` has been attached, or will be before the guest runs, and outlives the device. `id` (NULL:
 * none) is what the guest sees as the disk's serial number; what is beyond 20 bytes is left out. */
void virtio_blk_init(struct virtio_blk *blk, struct block *block, const char *id, unsigned queues,
                     struct memory *mem);
/* Nothing is in flight. */
void virtio_blk_free(struct virtio_blk *blk);

extern const struct state_desc virtio_blk_state_desc;

#endif
