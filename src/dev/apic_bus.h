/* apic_bus.h - the path of interrupt messages: from IOAPICs, MSIs and IPIs to local APICs.
 *
 *   IOAPIC pins --+
 *   PCI MSI ------+--> apic_deliver() --> every local APIC that the destination names
 *   ICR writes ---+                       (lowest priority: one of them)
 *   EOI of level interrupts: local APIC --> apic_bus_eoi() --> the IOAPIC
 *
 * SDM vol. 3, 11.6 and 11.11 (message addresses). Everything runs with the bus lock held. */
#ifndef DOBLE_DEV_APIC_BUS_H
#define DOBLE_DEV_APIC_BUS_H

#include "base/types.h"

struct lapic;

#define APIC_BUS_MAX 64
#define APIC_BROADCAST UINT32_MAX

/* Delivery modes, as in ICR, redirection entries and MSI data. */
enum apic_delivery {
    APIC_FIXED,
    APIC_LOWEST,
    APIC_SMI,
    APIC_RESERVED,
    APIC_NMI,
    APIC_INIT,
    APIC_STARTUP,
    APIC_EXTINT,
};

struct apic_message {
    uint32_t dest; /* APIC ID or logical destination; APIC_BROADCAST: everybody */
    bool logical;
    bool level;
    uint8_t delivery; /* enum apic_delivery */
    uint8_t vector;
    const struct lapic *except; /* IPIs to all but self: the sender; else NULL */
};

struct apic_bus {
    struct lapic *lapics[APIC_BUS_MAX];
    unsigned count;
    unsigned next; /* round robin among equals of a lowest-priority message */
    void (*eoi)(void *opaque, uint8_t vector);
    void *eoi_opaque;
    /* Local APICs are on loan (lapic_loan.h): takes every message as an MSI. NULL: none are. */
    void (*borrower)(void *opaque, uint64_t address, uint32_t data);
    void *borrower_opaque;
};

void apic_bus_init(struct apic_bus *bus);

/* -ENOSPC when there are APIC_BUS_MAX already. */
int apic_bus_add(struct apic_bus *bus, struct lapic *lapic);

/* Connects the IOAPIC, to which the EOIs of level interrupts are broadcast. */
void apic_bus_set_eoi(struct apic_bus *bus, void (*eoi)(void *opaque, uint8_t vector),
                      void *opaque);

/* True if a local APIC accepted it. */
bool apic_deliver(struct apic_bus *bus, const struct apic_message *message);

/* A write of `data` to FEExxxxxh by a device. */
void apic_deliver_msi(struct apic_bus *bus, uint64_t address, uint32_t data);

void apic_bus_eoi(struct apic_bus *bus, uint8_t vector);

/* A destination of 8 bits (xAPIC, IOAPIC, MSI), where FFh means everybody. */
static inline uint32_t apic_dest8(uint8_t dest)
{
    return dest == 0xff ? APIC_BROADCAST : dest;
}

#endif
