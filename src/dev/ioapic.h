/* ioapic.h - the I/O APIC: 24 inputs, each with a redirection entry.
 *
 *   input lines (GSI 0 to 23) --> redirection table --> apic_bus messages
 *   EOI: from the local APICs by broadcast, or written to the EOI register (version 20h)
 *
 * Intel 82093AA data sheet, and the EOI register of the later ICH parts. MMIO at FEC00000h.
 * Everything runs with the bus lock held. */
#ifndef DOBLE_DEV_IOAPIC_H
#define DOBLE_DEV_IOAPIC_H

#include "base/state.h"
#include "bus/bus.h"
#include "dev/apic_bus.h"

#define IOAPIC_BASE UINT64_C(0xfec00000)
#define IOAPIC_PINS 24

struct ioapic {
    uint8_t id; /* bits 27:24 of the ID register; set by the guest */
    uint8_t select;
    uint32_t lines; /* inputs as they are now */
    uint64_t entry[IOAPIC_PINS];
    struct apic_bus *bus;
};

extern const struct state_desc ioapic_state_desc;

/* Connects it to the bus, whose EOI broadcasts it takes. */
int ioapic_init(struct ioapic *ioapic, struct apic_bus *bus);
void ioapic_reset(struct ioapic *ioapic);
void ioapic_attach(struct ioapic *ioapic, struct bus *bus);

/* Input `number`; the `set` of a struct irq. */
void ioapic_set_irq(void *opaque, unsigned number, bool level);

/* A local APIC has seen the EOI of a level-triggered interrupt. */
void ioapic_eoi(void *opaque, uint8_t vector);

#endif
