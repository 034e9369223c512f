/* disks.c - see disks.h. */
#include "machine/disks.h"

#include <errno.h>
#include <stdlib.h>

static int add_disk(struct disks *disks, const struct disk_config *config, struct pci_bus *pci,
                    struct err *err)
{
    struct disk *disk = calloc(1, sizeof *disk);

    if (!disk)
        return err_set(err, -ENOMEM, "%s: not enough memory", block_path(config->block));
    disks->list[disks->count++] = disk;
    virtio_blk_init(&disk->blk, config->block, config->serial, config->queues, pci->mem);
    virtio_pci_init(&disk->transport, &disk->blk.virtio);
    return pci_add(pci, &disk->transport.pci, PCI_ANY_SLOT, err);
}

int disks_init(struct disks *disks, const struct disk_config *config, unsigned count,
               struct pci_bus *pci, struct err *err)
{
    int rc = 0;

    for (unsigned i = 0; rc == 0 && i < count; i++)
        if (config[i].interface == DISK_VIRTIO)
            rc = disks->count < DISKS_MAX
                     ? add_disk(disks, &config[i], pci, err)
                     : err_set(err, -ENOSPC, "a machine has at most %d disks", DISKS_MAX);
    return rc;
}

void disks_free(struct disks *disks)
{
    for (unsigned i = 0; i < disks->count; i++) {
        virtio_blk_free(&disks->list[i]->blk);
        free(disks->list[i]);
    }
    disks->count = 0;
}

void disks_add_states(struct disks *disks, struct state_list *list, unsigned first_instance)
{
    for (unsigned i = 0; i < disks->count; i++) {
        virtio_pci_add_state(&disks->list[i]->transport, list, first_instance + i);
        state_add(list, &virtio_blk_state_desc, i, &disks->list[i]->blk);
    }
}

void disks_drain(struct disks *disks)
{
    for (unsigned i = 0; i < disks->count; i++)
        virtio_drain(&disks->list[i]->blk.virtio);
}
