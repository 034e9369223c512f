/* piix3.h - the south bridge as PCI functions: the PCI-to-ISA bridge of Intel's PIIX3 and the power
 * management function of the PIIX4, which systems know together from other virtual PCs (82371SB
 * data sheet 2.2, 82371AB data sheet 7.1).
 *
 *   function 0  60h-63h  PIRQA#-PIRQD#: bit 7 off, bits 3:0 the ISA interrupt
 *   function 3  40h      PMBASE: where dev/acpi_pm.h is, if 80h bit 0 says that it is anywhere
 *               5Bh      bit 1: APMC_EN. It is set from the start, by which firmware knows that it
 *                        has no use for system management mode
 *
 * The SMBus host controller is never there. What else a south bridge contains (interrupt
 * controllers, timers, reset control) are devices of their own. Its function 1 is the IDE
 * controller (dev/ide.h).
 *
 * All functions are called with the bus lock held, but for those that make a machine. */
#ifndef DOBLE_DEV_PIIX3_H
#define DOBLE_DEV_PIIX3_H

#include "bus/bus.h"
#include "bus/irq.h"
#include "bus/pci.h"

#define PIIX3_SLOT 1
#define PIIX3_PIRQ_ROUTES 0x60 /* function 0 */
#define PIIX4_PM_BASE 0x40     /* function 3 */
#define PIIX4_PM_MISC 0x80
#define PIIX4_PM_MISC_ENABLE 0x01u

struct piix3 {
    struct irq isa[16];
    struct io_range *pm_range;
    struct pci_device bridge, pm;

    /* follow from the PCI bus and the routes */
    bool pirq[4];
    uint16_t driven; /* ISA interrupts that are high */
};

/* Adds both functions. `isa` says where the interrupts from PCI go: `number` is replaced by that of
 * the interrupt. `pm_range` are the ports of the power management registers. */
int piix3_init(struct piix3 *piix, struct pci_bus *pci, struct irq isa, struct io_range *pm_range,
               struct err *err) MUST_USE;

/* PIRQ line `number` (0 to 3); the `set` of a struct irq. */
void piix3_set_pirq(void *opaque, unsigned number, bool level);

#endif
