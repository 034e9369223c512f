/* pci_transport.h - a virtio device as a PCI function (virtio 1.2, section 4.1).
 *
 * Modern (non-transitional): vendor 1AF4h, device 1040h + type, revision 1. Everything is in one
 * memory BAR, which the vendor capabilities point to:
 *
 *   BAR 4   0000h common configuration   BAR 1   MSI-X: a vector for each queue and one for the
 *           1000h ISR status                     configuration; the driver chooses which for what
 *           2000h device configuration
 *           3000h doorbells, 4 bytes a queue
 *
 * The driver can also reach these through the configuration space (VIRTIO_PCI_CAP_PCI_CFG), as
 * firmware does before the BAR has an address. The device may use memory while the function is a
 * bus master. Locking as in bus/pci.h. */
#ifndef DOBLE_VIRTIO_PCI_TRANSPORT_H
#define DOBLE_VIRTIO_PCI_TRANSPORT_H

#include "bus/pci.h"
#include "virtio/virtio.h"

struct virtio_pci {
    struct pci_info info;
    struct pci_device pci;
    struct virtio_device *virtio;
    uint8_t window; /* offset of the capability that is a window to the BAR */

    uint32_t device_select, driver_select; /* which 32 features are looked at */
    uint16_t queue_select;
    uint16_t config_vector; /* of MSI-X; FFFFh: none */
    uint16_t queue_vector[VIRTIO_MAX_QUEUES];
    uint8_t isr; /* bit 0: a queue, bit 1: the configuration */
};

/* Makes the function. `virtio` has been initialized and lives as long. The board then puts it on
 * the bus with pci_add(pci_bus, &transport->pci, ...). */
void virtio_pci_init(struct virtio_pci *transport, struct virtio_device *virtio);

/* Adds the state of transport, device and queues; `instance` as in virtio_add_state(). The device's
 * own state comes behind it. */
void virtio_pci_add_state(struct virtio_pci *transport, struct state_list *list, unsigned instance);

extern const struct state_desc virtio_pci_state_desc;

#endif
