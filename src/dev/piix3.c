/* piix3.c - see piix3.h. An ISA interrupt is high while any PIRQ that is routed to it is. */
#include "dev/piix3.h"

#include <string.h>

#define ROUTE_OFF 0x80u
#define ROUTE_IRQ 0x0fu
#define ROUTABLE 0xdef8u /* all but 0, 1, 2, 8 and 13 */

#define PM_BASE_BITS 0xffc0u
#define PM_DEVACTB 0x58
#define PM_DEVACTB_APMC_EN (UINT32_C(1) << 25)

/* --- function 0: ISA bridge --- */

static uint16_t routed_levels(const struct piix3 *piix)
{
    uint16_t levels = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(piix->pirq); i++) {
        uint8_t route = piix->bridge.config[PIIX3_PIRQ_ROUTES + i];

        if (piix->pirq[i] && !(route & ROUTE_OFF))
            levels |= (uint16_t)(1u << (route & ROUTE_IRQ));
    }
    return levels & ROUTABLE;
}

static void update_isa(struct piix3 *piix)
{
    uint16_t levels = routed_levels(piix), changed = levels ^ piix->driven;

    piix->driven = levels;
    for (unsigned irq = 0; irq < ARRAY_SIZE(piix->isa); irq++)
        if (changed >> irq & 1)
            irq_set(&piix->isa[irq], levels >> irq & 1);
}

void piix3_set_pirq(void *opaque, unsigned number, bool level)
{
    struct piix3 *piix = opaque;

    piix->pirq[number & 3] = level;
    update_isa(piix);
}

static void bridge_written(void *opaque, unsigned offset, unsigned size)
{
    if (offset < PIIX3_PIRQ_ROUTES + 4 && offset + size > PIIX3_PIRQ_ROUTES)
        update_isa(opaque);
}

static void bridge_reset(void *opaque)
{
    update_isa(opaque);
}

static const struct pci_info bridge_info = {
    .name = "piix3",
    .vendor = 0x8086,
    .device = 0x7000,
    .subsystem_vendor = 0x1af4,
    .subsystem = 0x1100,
    .class_code = 0x060100,
    .multifunction = true,
    .reset = bridge_reset,
    .config_written = bridge_written,
};

static void init_bridge(struct piix3 *piix)
{
    /* Registers with a value after reset (2.2): recovery times, chip selects, routes. */
    static const struct {
        uint8_t offset, value;
    } initial[] = {
        {0x4c, 0x4d}, {0x4e, 0x03}, {0x60, 0x80}, {0x61, 0x80}, {0x62, 0x80},
        {0x63, 0x80}, {0x69, 0x02}, {0x70, 0x80}, {0x76, 0x0c}, {0x77, 0x0c},
    };
    static const uint8_t writable[] = {0x4c, 0x4e, 0x60, 0x61, 0x62, 0x63, 0x69, 0x6a,
                                       0x70, 0x76, 0x77, 0x78, 0x79, 0x80, 0x82};
    struct pci_device *dev = &piix->bridge;

    pci_device_init(dev, &bridge_info, piix);
    pci_put16(dev->writable + PCI_COMMAND, 0x0108); /* special cycles, SERR# */
    pci_put16(dev->initial + PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    pci_put16(dev->initial + PCI_STATUS, 0x0200);
    for (unsigned i = 0; i < ARRAY_SIZE(initial); i++)
        dev->initial[initial[i].offset] = initial[i].value;
    for (unsigned i = 0; i < ARRAY_SIZE(writable); i++)
        dev->writable[writable[i]] = 0xff;
}

/* --- function 3: power management --- */

static void place_pm(struct piix3 *piix)
{
    const uint8_t *config = piix->pm.config;

    bus_move(piix->pm.pci->bus, piix->pm_range, pci_get16(config + PIIX4_PM_BASE) & PM_BASE_BITS,
             config[PIIX4_PM_MISC] & PIIX4_PM_MISC_ENABLE);
}

static void pm_written(void *opaque, unsigned offset, unsigned size)
{
    (void)offset, (void)size;
    place_pm(opaque);
}

static void pm_reset(void *opaque)
{
    place_pm(opaque);
}

static const struct pci_info pm_info = {
    .name = "piix4_pm",
    .vendor = 0x8086,
    .device = 0x7113,
    .subsystem_vendor = 0x1af4,
    .subsystem = 0x1100,
    .class_code = 0x068000,
    .revision = 0x03,
    .reset = pm_reset,
    .config_written = pm_written,
};

static void init_pm(struct piix3 *piix)
{
    struct pci_device *dev = &piix->pm;

    pci_device_init(dev, &pm_info, piix);
    pci_put16(dev->writable + PCI_COMMAND, 0x0001);
    pci_put16(dev->initial + PCI_STATUS, 0x0280);
    dev->initial[PIIX4_PM_BASE] = 0x01;
    pci_put16(dev->writable + PIIX4_PM_BASE, PM_BASE_BITS);
    pci_put32(dev->initial + PM_DEVACTB, PM_DEVACTB_APMC_EN);
    pci_put32(dev->writable + PM_DEVACTB, UINT32_MAX);
    dev->writable[PIIX4_PM_MISC] = PIIX4_PM_MISC_ENABLE;
    dev->initial[0x90] = 0x01; /* SMBBA; the function stays off (D2h) */
}

/* --- life --- */

int piix3_init(struct piix3 *piix, struct pci_bus *pci, struct irq isa, struct io_range *pm_range,
               struct err *err)
{
    int rc;

    memset(piix, 0, sizeof *piix);
    for (unsigned irq = 0; irq < ARRAY_SIZE(piix->isa); irq++)
        piix->isa[irq] = (struct irq){isa.set, isa.opaque, irq};
    piix->pm_range = pm_range;
    init_bridge(piix);
    init_pm(piix);
    rc = pci_add(pci, &piix->bridge, PCI_DEVFN(PIIX3_SLOT, 0), err);
    return rc < 0 ? rc : pci_add(pci, &piix->pm, PCI_DEVFN(PIIX3_SLOT, 3), err);
}
