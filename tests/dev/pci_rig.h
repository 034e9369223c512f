/* pci_rig.h - a rig with RAM and a PCI bus: the lines PIRQA# to PIRQD# are lines 0 to 3 of the rig,
 * and messages are counted. */
#ifndef DOBLE_TESTS_DEV_PCI_RIG_H
#define DOBLE_TESTS_DEV_PCI_RIG_H

#include "rig.h"

#include "bus/pci.h"

#include <string.h>

#define PCI_RIG_RAM (4 * MIB)

struct pci_rig {
    struct rig *rig;
    struct memory mem;
    struct pci_bus pci;
    unsigned messages;
    uint64_t address; /* of the last one */
    uint32_t data;
};

static inline void pci_rig_message(void *opaque, uint64_t address, uint32_t data)
{
    struct pci_rig *r = opaque;

    r->messages++;
    r->address = address;
    r->data = data;
}

static inline void pci_rig_init(struct pci_rig *r)
{
    struct err err = {0};

    memset(r, 0, sizeof *r);
    r->rig = rig_new();
    assert_int_equal(memory_init(&r->mem, PCI_RIG_RAM, &err), 0);
    pci_bus_init(&r->pci, &r->rig->bus, &r->mem);
    for (unsigned i = 0; i < 4; i++)
        r->pci.pirq[i] = rig_line(r->rig, i);
    r->pci.msi = pci_rig_message;
    r->pci.msi_opaque = r;
}

static inline void pci_rig_free(struct pci_rig *r)
{
    memory_free(&r->mem);
    rig_free(r->rig);
}

static inline uint32_t pci_rig_read(struct pci_rig *r, const struct pci_device *dev, unsigned reg,
                                    unsigned size)
{
    return pci_config_read(&r->pci, (uint32_t)dev->devfn << 8 | reg, size);
}

static inline void pci_rig_write(struct pci_rig *r, const struct pci_device *dev, unsigned reg,
                                 uint32_t value, unsigned size)
{
    pci_config_write(&r->pci, (uint32_t)dev->devfn << 8 | reg, value, size);
}

#endif
