/* disks.h - the machine's virtio disks: which images they have, and their places on the PCI bus.
 *
 * The images are the caller's, who opens them before the machine is made and closes them after it
 * was freed. Disks with another interface are the chip's that has it (dev/). Functions are for the
 * main thread, those that say so with the bus lock held. */
#ifndef DOBLE_MACHINE_DISKS_H
#define DOBLE_MACHINE_DISKS_H

#include "block/block.h"
#include "bus/pci.h"
#include "virtio/pci_transport.h"
#include "virtio/virtio_blk.h"

#define DISKS_MAX 16

enum disk_interface { DISK_VIRTIO, DISK_IDE };

struct disk_config {
    struct block *block;
    enum disk_interface interface;
    bool cdrom;         /* IDE: a drive with this CD in it */
    const char *serial; /* number; NULL: none */
    unsigned queues;    /* virtio: 1 to VIRTIO_BLK_MAX_QUEUES */
};

struct disk {
    struct virtio_blk blk;
    struct virtio_pci transport;
};

struct disks {
    struct disk *list[DISKS_MAX];
    unsigned count;
};

/* Puts the virtio disks among `config` on the bus. After an error, disks_free(). */
int disks_init(struct disks *disks, const struct disk_config *config, unsigned count,
               struct pci_bus *pci, struct err *err) MUST_USE;
void disks_free(struct disks *disks);

void disks_add_states(struct disks *disks, struct state_list *list, unsigned first_instance);

/* Waits for all that is in flight. With the lock held. */
void disks_drain(struct disks *disks);

#endif
