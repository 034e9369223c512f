/* pci_setup.c - see pci_setup.h. Works through configuration space alone, as firmware has to: a
 * base register that was written with ones reads as its size (PCI 3.0, 6.2.5.1). */
#include "firmware/pci_setup.h"

#include <errno.h>

#define BAR_IO_SPACE 0x1u
#define BAR_64_BITS 0x4u

struct space {
    uint64_t next, end;
};

struct setup {
    struct pci_bus *pci;
    const struct pci_device *dev;
    struct space io, memory;
};

static uint32_t address(const struct setup *s, unsigned reg)
{
    return (uint32_t)s->dev->devfn << 8 | reg;
}

static uint32_t probe(const struct setup *s, unsigned reg)
{
    pci_config_write(s->pci, address(s, reg), UINT32_MAX, 4);
    return pci_config_read(s->pci, address(s, reg), 4);
}

static int place(struct setup *s, unsigned reg, struct space *space, uint64_t size, struct err *err)
{
    uint64_t at = (space->next + size - 1) & ~(size - 1);

    if (at + size > space->end)
        return err_set(err, -ENOSPC, "the PCI devices need more addresses than there are (%s)",
                       s->dev->info->name);
    pci_config_write(s->pci, address(s, reg), (uint32_t)at, 4);
    space->next = at + size;
    return 0;
}

/* One base register; *reg goes to the next. All of them fit below 4 GiB. */
static int set_up_bar(struct setup *s, unsigned *reg, struct err *err)
{
    unsigned at = *reg;
    uint32_t value = probe(s, at);
    bool io = value & BAR_IO_SPACE, wide = !io && (value & BAR_64_BITS);
    uint32_t size = ~(value & (io ? ~UINT32_C(3) : ~UINT32_C(15))) + 1;

    *reg += wide ? 8 : 4;
    if (wide)
        pci_config_write(s->pci, address(s, at + 4), 0, 4);
    return size == 0 ? 0 : place(s, at, io ? &s->io : &s->memory, size, err);
}

static int set_up_function(struct setup *s, const uint8_t *irqs, struct err *err)
{
    uint8_t pin = (uint8_t)pci_config_read(s->pci, address(s, PCI_INTERRUPT_PIN), 1);
    uint16_t command = (uint16_t)pci_config_read(s->pci, address(s, PCI_COMMAND), 2);
    int rc = 0;

    for (unsigned reg = PCI_BAR0; rc == 0 && reg < PCI_BAR0 + 4 * PCI_BARS;)
        rc = set_up_bar(s, &reg, err);
    if (pin)
        pci_config_write(s->pci, address(s, PCI_INTERRUPT_LINE), irqs[pci_pirq(s->dev->devfn, pin)],
                         1);
    pci_config_write(s->pci, address(s, PCI_COMMAND), command | PCI_COMMAND_IO | PCI_COMMAND_MEMORY,
                     2);
    return rc;
}

int pci_setup(struct pci_bus *pci, const struct pci_setup_config *config, struct err *err)
{
    struct setup s = {
        .pci = pci,
        .io = {config->io, config->io_end},
        .memory = {config->memory, config->memory_end},
    };
    int rc = 0;

    for (unsigned i = 0; rc == 0 && i < pci->count; i++) {
        s.dev = pci->devices[i];
        rc = set_up_function(&s, config->irq, err);
    }
    return rc;
}
