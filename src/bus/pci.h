/* pci.h - one PCI bus: configuration spaces, base registers, interrupts and DMA of its functions
 * (PCI Local Bus Specification 3.0).
 *
 *      struct pci_info (constant)       what a function is: IDs, class, BARs, pin, MSI(-X), hooks
 *      struct pci_device                one function, embedded in the device that it is the front
 * of struct pci_bus                   all of them; owned by the board
 *
 *   host bridge: pci_config_read/write() --> config[] --> BARs: ranges of bus/bus.h, moved
 *   device:      pci_set_irq()  --> INTA#..INTD# --> PIRQ 0..3 --> pci_bus.pirq[] (south bridge)
 *                pci_msi_notify(), pci_msix_notify() --> pci_bus.msi() --> local APICs
 *                pci_dma_*()    --> RAM, if the guest has made the function a bus master
 *
 * A device describes itself and gets called; it never decodes an address. BARs of any size can be
 * anywhere: RAM and the board's own ranges (APICs, timers, fixed ports) hide them, and of two BARs
 * that overlap the one of the function added later answers.
 *
 * How to write one:
 *   - a constant `struct pci_info`, a `struct pci_device pci` in the device's struct;
 *   - init: pci_device_init(&x->pci, &info, x); pci_add_capability() for capabilities of its own
 *     (MSI and MSI-X follow from the info);
 *   - the board: pci_add(&pc->pci, &x->pci, PCI_ANY_SLOT, err), and state_add() of the device's own
 *     fields; configuration space and MSI-X table are saved by the bus (pci_add_states());
 *   - BAR accesses arrive at the BAR's io_ops, with `opaque` as given to pci_device_init().
 *
 * All functions are called with the bus lock held, but for those that make a machine (init, add),
 * for which it does not run yet. */
#ifndef DOBLE_BUS_PCI_H
#define DOBLE_BUS_PCI_H

#include "base/err.h"
#include "base/state.h"
#include "bus/bus.h"
#include "bus/irq.h"
#include "mem/memory.h"

/* --- configuration space, type 0 header --- */

enum pci_register {
    PCI_VENDOR_ID = 0x00,
    PCI_DEVICE_ID = 0x02,
    PCI_COMMAND = 0x04,
    PCI_STATUS = 0x06,
    PCI_REVISION = 0x08,
    PCI_CLASS = 0x09, /* 3 bytes: interface, subclass, class */
    PCI_CACHE_LINE = 0x0c,
    PCI_LATENCY = 0x0d,
    PCI_HEADER_TYPE = 0x0e,
    PCI_BAR0 = 0x10,
    PCI_SUBSYSTEM_VENDOR = 0x2c,
    PCI_SUBSYSTEM = 0x2e,
    PCI_ROM_BAR = 0x30,
    PCI_CAPABILITIES = 0x34,
    PCI_INTERRUPT_LINE = 0x3c,
    PCI_INTERRUPT_PIN = 0x3d,
    PCI_DEVICE_SPECIFIC = 0x40, /* capabilities, and what else a device likes */
};

#define PCI_CONFIG_SIZE 256
#define PCI_COMMAND_IO 0x0001
#define PCI_COMMAND_MEMORY 0x0002
#define PCI_COMMAND_MASTER 0x0004
#define PCI_COMMAND_INTX_DISABLE 0x0400
#define PCI_STATUS_INTX 0x0008
#define PCI_STATUS_CAPABILITIES 0x0010
#define PCI_HEADER_MULTIFUNCTION 0x80

enum pci_capability { PCI_CAP_MSI = 0x05, PCI_CAP_VENDOR = 0x09, PCI_CAP_MSIX = 0x11 };

/* --- what a function is --- */

#define PCI_BARS 6
#define PCI_ROM PCI_BARS /* index of the expansion ROM's base register */
#define PCI_MSIX_MAX 64  /* vectors */

enum pci_bar_kind {
    PCI_BAR_NONE,
    PCI_BAR_IO,       /* at most 256 ports */
    PCI_BAR_MEMORY,   /* below 4 GiB */
    PCI_BAR_MEMORY64, /* takes the next BAR as well, which has to be PCI_BAR_NONE */
};

struct pci_bar {
    enum pci_bar_kind kind;
    uint64_t size;            /* a power of two; at least 4 for ports and 16 for memory */
    const struct io_ops *ops; /* as in bus.h: offsets from the BAR's start. NULL: no range on the
                                 bus; the device looks at the register in config_written() */
    bool prefetchable;        /* reads have no side effects */
};

struct pci_info {
    const char *name; /* also of the ranges on the bus, for --stats */
    uint16_t vendor, device, subsystem_vendor, subsystem;
    uint32_t class_code; /* 24 bits: class, subclass, interface (as 010180h: IDE) */
    uint8_t revision;
    uint8_t pin;        /* 1 to 4: INTA# to INTD#; 0: no interrupt */
    bool multifunction; /* function 0 of a slot with several */
    struct pci_bar bars[PCI_BARS];

    bool msi;              /* one vector */
    unsigned msix_vectors; /* 0: no MSI-X; at most PCI_MSIX_MAX */
    unsigned msix_bar;     /* a BAR of its own, 4 KiB, described and served by the bus */

    /* May be NULL. */
    void (*reset)(void *opaque); /* after the header was reset */
    /* Before bytes [offset, offset + size) of config[] are read: bring them up to date. */
    void (*config_reading)(void *opaque, unsigned offset, unsigned size);
    /* After they were written, as far as they are writable, and took effect; and for all of them
     * when a saved machine was loaded. */
    void (*config_written)(void *opaque, unsigned offset, unsigned size);
};

struct pci_msix_entry {
    uint64_t address;
    uint32_t data;
    uint32_t control; /* bit 0: masked */
};
_Static_assert(sizeof(struct pci_msix_entry) == 16, "PCI 3.0, 6.8.2: MSI-X table entry");

struct pci_bus;

struct pci_device {
    const struct pci_info *info;
    void *opaque;
    struct pci_bus *pci;
    uint8_t devfn; /* device 7:3, function 2:0 */

    /* For each byte of the configuration space, which bits can be written, and which of its bits a
     * written 1 clears. A device may change both for its own bytes before pci_add(). */
    uint8_t writable[PCI_CONFIG_SIZE], clearable[PCI_CONFIG_SIZE];
    uint8_t initial[PCI_CONFIG_SIZE]; /* config[] after a reset; changed before pci_add() only */
    struct io_range *ranges[PCI_BARS + 1];
    const uint8_t *rom; /* expansion ROM: not owned; NULL: none; set before pci_add() */
    uint32_t rom_size;
    uint8_t next_capability; /* where there is room */
    uint8_t last_capability; /* whose link is still 0; 0: none yet */
    uint8_t msi, msix;       /* offsets of the capabilities; 0: none */

    uint8_t config[PCI_CONFIG_SIZE];
    bool intx; /* what the device wants of its interrupt pin */
    struct pci_msix_entry table[PCI_MSIX_MAX];
    uint64_t pending; /* MSI-X: a bit for each vector that waits for being unmasked */
};

#define PCI_SLOTS 32
#define PCI_FUNCTIONS 64 /* at most, on the bus */
#define PCI_ANY_SLOT (-1)
#define PCI_FIRST_FREE_SLOT 3 /* those before belong to the chip set and VGA */
#define PCI_DEVFN(slot, function) ((slot) << 3 | (function))

struct pci_bus {
    struct bus *bus;
    struct memory *mem;
    struct irq pirq[4];
    void (*msi)(void *opaque, uint64_t address, uint32_t data);
    void *msi_opaque;
    struct pci_device *devices[PCI_FUNCTIONS]; /* in the order in which they were added */
    unsigned count;
};

/* The PIRQ line of an interrupt pin (1 to 4): as boards with this chip set are wired, so that
 * neighbours don't share. The ACPI tables say the same. */
static inline unsigned pci_pirq(uint8_t devfn, uint8_t pin)
{
    return ((devfn >> 3) + pin - 2u) & 3;
}

/* --- the board --- */

void pci_bus_init(struct pci_bus *pci, struct bus *bus, struct memory *mem);

/* Puts a function on the bus. `devfn` is PCI_DEVFN(slot, function), or PCI_ANY_SLOT: the next free
 * slot. An error means that the bus is full. */
int pci_add(struct pci_bus *pci, struct pci_device *dev, int devfn, struct err *err) MUST_USE;

/* RST#: every function's configuration space and then the function itself. */
void pci_bus_reset(struct pci_bus *pci);

/* Adds the configuration spaces of all functions to the list of what is saved: "pci.N", where N is
 * devfn. Behind the interrupt controllers and before the devices themselves. */
void pci_add_states(struct pci_bus *pci, struct state_list *list);

/* --- the host bridge --- */

/* `address` is bus 23:16, device 15:11, function 10:8, register 7:0; size is 1, 2 or 4. Nobody
 * there: all ones. An access that runs over the end of the configuration space gives ones there. */
uint32_t pci_config_read(struct pci_bus *pci, uint32_t address, unsigned size);
void pci_config_write(struct pci_bus *pci, uint32_t address, uint32_t value, unsigned size);

/* --- a device --- */

/* Where a BAR is at the moment. False: nowhere, because its decoding is off. */
bool pci_bar_place(const struct pci_device *dev, unsigned bar, uint64_t *base) MUST_USE;

/* Describes the function; it is not on the bus yet. */
void pci_device_init(struct pci_device *dev, const struct pci_info *info, void *opaque);

/* Adds a capability of `size` bytes including ID and link, both of which are filled in; returns its
 * offset, or 0 if there is no room. The rest is zero and read-only, unless the device changes
 * dev->initial[] and dev->writable[]. */
uint8_t pci_add_capability(struct pci_device *dev, uint8_t id, uint8_t size);

/* Numbers in config[]; multi-byte registers are little-endian. offset + bytes <= 256. */
static inline uint16_t pci_get16(const uint8_t *bytes)
{
    return (uint16_t)(bytes[0] | bytes[1] << 8);
}
static inline uint32_t pci_get32(const uint8_t *bytes)
{
    return pci_get16(bytes) | (uint32_t)pci_get16(bytes + 2) << 16;
}
static inline void pci_put16(uint8_t *bytes, uint16_t value)
{
    bytes[0] = (uint8_t)value;
    bytes[1] = (uint8_t)(value >> 8);
}
static inline void pci_put32(uint8_t *bytes, uint32_t value)
{
    pci_put16(bytes, (uint16_t)value);
    pci_put16(bytes + 2, (uint16_t)(value >> 16));
}

/* The interrupt pin: a level. Nothing is driven while the guest has disabled it. */
void pci_set_irq(struct pci_device *dev, bool level);

/* Messages. A device asks which kind the guest has switched on: MSI-X, MSI, else the pin. Both do
 * nothing when their kind is off; a masked MSI-X vector is remembered until it is unmasked. */
bool pci_msi_enabled(const struct pci_device *dev);
bool pci_msix_enabled(const struct pci_device *dev);
void pci_msi_notify(struct pci_device *dev);
void pci_msix_notify(struct pci_device *dev,
                     unsigned vector); /* others than the device has: none */

/* DMA. False or NULL: not all of it is RAM, or the function is no bus master (a write: or part of
 * it is read-only); nothing was copied then. pci_dma_write() tells the engine. */
bool pci_dma_read(const struct pci_device *dev, gpa_t gpa, void *to, uint64_t len) MUST_USE;
bool pci_dma_write(struct pci_device *dev, gpa_t gpa, const void *from, uint64_t len) MUST_USE;

/* The host's address of `len` bytes of RAM, for large transfers; it stays valid as long as the
 * machine, on any thread. The guest can change the bytes at any time: never read a value twice. Who
 * stores through it calls pci_dma_stored() afterwards, with the lock held. */
void *pci_dma_map(const struct pci_device *dev, gpa_t gpa, uint64_t len, bool store) MUST_USE;
void pci_dma_stored(struct pci_device *dev, gpa_t gpa, uint64_t len);

#endif
