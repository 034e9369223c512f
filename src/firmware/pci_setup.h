/* pci_setup.h - what firmware does to a PCI bus: base registers get addresses, decoding is switched
 * on, interrupt pins are routed and the routes written down. For machines that start a kernel
 * without firmware; by the main thread, before the machine runs. */
#ifndef DOBLE_FIRMWARE_PCI_SETUP_H
#define DOBLE_FIRMWARE_PCI_SETUP_H

#include "base/err.h"
#include "bus/pci.h"

struct pci_setup_config {
    uint32_t io, io_end;         /* ports for base registers; ends are the first address behind */
    uint32_t memory, memory_end; /* addresses for them */
    uint8_t irq[4];              /* ISA interrupts of PIRQA# to PIRQD# */
};

/* An error says that there is not enough room. With the bus lock held. */
int pci_setup(struct pci_bus *pci, const struct pci_setup_config *config, struct err *err) MUST_USE;

#endif
