/* pci.c - see pci.h.
 *
 * A configuration space is 256 bytes, and two masks of as many bytes say what a write changes. So
 * writes of any width at any offset are the same loop; what follows from the new values (where the
 * ranges are, the interrupt line, messages that waited) is done after each. */
#include "bus/pci.h"

#include "base/trace.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define COMMAND_WRITABLE                                                                           \
    (PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE | 0x0140)

#define BAR_IO_SPACE 0x1u
#define BAR_64_BITS 0x4u
#define BAR_PREFETCHABLE 0x8u
#define ROM_ENABLE 0x1u

/* Offsets in the capabilities (6.8.1, 6.8.2). */
#define MSI_CONTROL 2
#define MSI_ADDRESS 4
#define MSI_DATA 12
#define MSI_SIZE 14
#define MSI_ENABLE 0x0001u
#define MSI_64_BITS 0x0080u
#define MSIX_CONTROL 2
#define MSIX_TABLE 4
#define MSIX_PBA 8
#define MSIX_SIZE 12
#define MSIX_FUNCTION_MASK 0x4000u
#define MSIX_ENABLE 0x8000u
#define MSIX_MASKED 0x1u /* vector control */

#define MSIX_BAR_SIZE 0x1000u
#define MSIX_PENDING 0x800u /* where the pending bits are in the BAR */

/* Writes to these addresses are interrupt messages (SDM vol. 3, 11.11.1). */
#define MESSAGE_BASE UINT64_C(0xfee00000)
#define MESSAGE_SIZE UINT64_C(0x100000)

static const struct io_ops msix_ops, rom_ops;

/* --- description --- */

static unsigned bar_register(unsigned bar)
{
    return bar == PCI_ROM ? PCI_ROM_BAR : PCI_BAR0 + 4 * bar;
}

/* What the function has as its base register `bar`; the expansion ROM's and the MSI-X table's are
 * the same for all. */
static struct pci_bar describe_bar(const struct pci_device *dev, unsigned bar)
{
    uint64_t size = 2048; /* the smallest ROM, since the bits below are no address */

    if (bar == PCI_ROM) {
        while (size < dev->rom_size)
            size *= 2;
        return (struct pci_bar){dev->rom ? PCI_BAR_MEMORY : PCI_BAR_NONE, size, &rom_ops, true};
    }
    if (dev->info->msix_vectors && bar == dev->info->msix_bar)
        return (struct pci_bar){PCI_BAR_MEMORY, MSIX_BAR_SIZE, &msix_ops, false};
    return dev->info->bars[bar];
}

static void init_header(struct pci_device *dev)
{
    const struct pci_info *info = dev->info;
    uint8_t *config = dev->initial;

    pci_put16(config + PCI_VENDOR_ID, info->vendor);
    pci_put16(config + PCI_DEVICE_ID, info->device);
    pci_put32(config + PCI_REVISION, info->class_code << 8 | info->revision);
    config[PCI_HEADER_TYPE] = info->multifunction ? PCI_HEADER_MULTIFUNCTION : 0;
    pci_put16(config + PCI_SUBSYSTEM_VENDOR, info->subsystem_vendor);
    pci_put16(config + PCI_SUBSYSTEM, info->subsystem);
    config[PCI_INTERRUPT_PIN] = info->pin;
    pci_put16(dev->writable + PCI_COMMAND, COMMAND_WRITABLE);
    pci_put16(dev->clearable + PCI_STATUS, 0xf900); /* errors, which never happen */
    dev->writable[PCI_CACHE_LINE] = 0xff;
    dev->writable[PCI_LATENCY] = 0xff;
    dev->writable[PCI_INTERRUPT_LINE] = 0xff;
}

static void init_bar(struct pci_device *dev, unsigned bar)
{
    const struct pci_bar b = describe_bar(dev, bar);
    unsigned at = bar_register(bar);
    uint64_t address_bits = ~(b.size - 1);

    if (b.kind == PCI_BAR_NONE)
        return;
    assert(b.size && (b.size & (b.size - 1)) == 0);
    pci_put32(dev->writable + at, (uint32_t)address_bits | (bar == PCI_ROM ? ROM_ENABLE : 0));
    if (b.kind == PCI_BAR_MEMORY64)
        pci_put32(dev->writable + at + 4, (uint32_t)(address_bits >> 32));
    if (b.kind == PCI_BAR_IO)
        dev->initial[at] = BAR_IO_SPACE;
    else if (bar != PCI_ROM)
        dev->initial[at] = (uint8_t)((b.kind == PCI_BAR_MEMORY64 ? BAR_64_BITS : 0) |
                                     (b.prefetchable ? BAR_PREFETCHABLE : 0));
}

static void init_msi(struct pci_device *dev)
{
    unsigned at = dev->msi = pci_add_capability(dev, PCI_CAP_MSI, MSI_SIZE);

    pci_put16(dev->initial + at + MSI_CONTROL, MSI_64_BITS);
    pci_put16(dev->writable + at + MSI_CONTROL, MSI_ENABLE);
    pci_put32(dev->writable + at + MSI_ADDRESS, ~UINT32_C(3));
    pci_put32(dev->writable + at + MSI_ADDRESS + 4, UINT32_MAX);
    pci_put16(dev->writable + at + MSI_DATA, UINT16_MAX);
}

static void init_msix(struct pci_device *dev)
{
    const struct pci_info *info = dev->info;
    unsigned at = dev->msix = pci_add_capability(dev, PCI_CAP_MSIX, MSIX_SIZE);

    assert(info->msix_vectors <= PCI_MSIX_MAX && info->msix_bar < PCI_BARS);
    pci_put16(dev->initial + at + MSIX_CONTROL, (uint16_t)(info->msix_vectors - 1));
    pci_put16(dev->writable + at + MSIX_CONTROL, MSIX_ENABLE | MSIX_FUNCTION_MASK);
    pci_put32(dev->initial + at + MSIX_TABLE, info->msix_bar);
    pci_put32(dev->initial + at + MSIX_PBA, MSIX_PENDING | info->msix_bar);
}

void pci_device_init(struct pci_device *dev, const struct pci_info *info, void *opaque)
{
    memset(dev, 0, sizeof *dev);
    dev->info = info;
    dev->opaque = opaque;
    dev->next_capability = PCI_DEVICE_SPECIFIC;
    init_header(dev);
    if (info->msix_vectors)
        init_msix(dev);
    if (info->msi)
        init_msi(dev);
}

uint8_t pci_add_capability(struct pci_device *dev, uint8_t id, uint8_t size)
{
    unsigned at = dev->next_capability, room = (size + 3u) & ~3u;

    if (at + room > PCI_CONFIG_SIZE)
        return 0;
    dev->initial[at] = id;
    if (dev->last_capability)
        dev->initial[dev->last_capability + 1] = (uint8_t)at;
    else
        dev->initial[PCI_CAPABILITIES] = (uint8_t)at;
    dev->initial[PCI_STATUS] |= PCI_STATUS_CAPABILITIES;
    dev->last_capability = (uint8_t)at;
    /* A space that is full to its last byte has no room, and no offset would say so. */
    dev->next_capability = (uint8_t)(at + room < PCI_CONFIG_SIZE ? at + room : PCI_CONFIG_SIZE - 1);
    return (uint8_t)at;
}

/* --- where the ranges are --- */

static uint16_t command(const struct pci_device *dev)
{
    return pci_get16(dev->config + PCI_COMMAND);
}

static uint64_t bar_base(const struct pci_device *dev, unsigned bar, const struct pci_bar *b)
{
    const uint8_t *reg = dev->config + bar_register(bar);
    uint64_t base = pci_get32(reg);

    if (b->kind == PCI_BAR_MEMORY64)
        base |= (uint64_t)pci_get32(reg + 4) << 32;
    return base & ~(b->size - 1);
}

static bool bar_decodes(const struct pci_device *dev, unsigned bar, const struct pci_bar *b,
                        uint64_t base)
{
    if (b->kind == PCI_BAR_IO)
        return (command(dev) & PCI_COMMAND_IO) && base + b->size <= 0x10000;
    if (bar == PCI_ROM && !(dev->config[PCI_ROM_BAR] & ROM_ENABLE))
        return false;
    return command(dev) & PCI_COMMAND_MEMORY;
}

bool pci_bar_place(const struct pci_device *dev, unsigned bar, uint64_t *base)
{
    const struct pci_bar b = describe_bar(dev, bar);

    if (b.kind == PCI_BAR_NONE)
        return false;
    *base = bar_base(dev, bar, &b);
    return bar_decodes(dev, bar, &b, *base);
}

static void place_ranges(struct pci_device *dev)
{
    for (unsigned bar = 0; bar <= PCI_ROM; bar++) {
        uint64_t base = 0;
        bool decodes = pci_bar_place(dev, bar, &base);

        if (dev->ranges[bar])
            bus_move(dev->pci->bus, dev->ranges[bar], base, decodes);
    }
}

static void add_range(struct pci_device *dev, unsigned bar)
{
    const struct pci_bar b = describe_bar(dev, bar);
    struct bus *bus = dev->pci->bus;
    void *opaque = b.ops == &msix_ops || b.ops == &rom_ops ? dev : dev->opaque;
    struct io_range *range;

    if (b.kind == PCI_BAR_NONE || !b.ops)
        return;
    if (b.kind == PCI_BAR_IO)
        range = bus_add_pio(bus, dev->info->name, 0, (unsigned)b.size, b.ops, opaque);
    else
        range = bus_add_mmio(bus, dev->info->name, 0, b.size, b.ops, opaque);
    range->yields = true;
    bus_move(bus, range, 0, false);
    dev->ranges[bar] = range;
}

static uint64_t rom_read(void *opaque, uint64_t offset, unsigned size)
{
    const struct pci_device *dev = opaque;
    uint64_t value = UINT64_MAX;

    if (offset < dev->rom_size)
        memcpy(&value, dev->rom + offset,
               size <= dev->rom_size - offset ? size : dev->rom_size - offset);
    return value;
}

static void rom_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    (void)opaque, (void)offset, (void)value, (void)size;
}

static const struct io_ops rom_ops = {.read = rom_read, .write = rom_write, .max_size = 8};

/* --- interrupts --- */

static void update_pirq(struct pci_bus *pci, unsigned pirq)
{
    bool level = false;

    for (unsigned i = 0; i < pci->count; i++) {
        const struct pci_device *dev = pci->devices[i];

        if (dev->intx && pci_pirq(dev->devfn, dev->info->pin) == pirq)
            level |= !(command(dev) & PCI_COMMAND_INTX_DISABLE);
    }
    irq_set(&pci->pirq[pirq], level);
}

void pci_set_irq(struct pci_device *dev, bool level)
{
    if (dev->intx == level || !dev->info->pin)
        return;
    dev->intx = level;
    dev->config[PCI_STATUS] &= (uint8_t)~PCI_STATUS_INTX;
    dev->config[PCI_STATUS] |= level ? PCI_STATUS_INTX : 0;
    update_pirq(dev->pci, pci_pirq(dev->devfn, dev->info->pin));
}

/* A message is a write of 32 bits on the bus, wherever the guest has it go. */
static void send_message(struct pci_device *dev, uint64_t address, uint32_t data)
{
    trace_pci_message(dev->info->name, address, data);
    if (!(command(dev) & PCI_COMMAND_MASTER))
        return;
    if (address - MESSAGE_BASE < MESSAGE_SIZE)
        dev->pci->msi(dev->pci->msi_opaque, address, data);
    else if (!pci_dma_write(dev, address, &data, sizeof data))
        trace_pci_message_lost(dev->info->name, address);
}

bool pci_msi_enabled(const struct pci_device *dev)
{
    return dev->msi && (dev->config[dev->msi + MSI_CONTROL] & MSI_ENABLE);
}

void pci_msi_notify(struct pci_device *dev)
{
    const uint8_t *cap = dev->config + dev->msi;

    if (pci_msi_enabled(dev))
        send_message(
            dev, pci_get32(cap + MSI_ADDRESS) | (uint64_t)pci_get32(cap + MSI_ADDRESS + 4) << 32,
            pci_get16(cap + MSI_DATA));
}

static uint16_t msix_control(const struct pci_device *dev)
{
    return pci_get16(dev->config + dev->msix + MSIX_CONTROL);
}

bool pci_msix_enabled(const struct pci_device *dev)
{
    return dev->msix && (msix_control(dev) & MSIX_ENABLE);
}

static void msix_fire(struct pci_device *dev, unsigned vector)
{
    const struct pci_msix_entry *entry = &dev->table[vector];
    uint64_t bit = UINT64_C(1) << vector;

    if ((msix_control(dev) & MSIX_FUNCTION_MASK) || (entry->control & MSIX_MASKED)) {
        dev->pending |= bit;
        return;
    }
    dev->pending &= ~bit;
    send_message(dev, entry->address, entry->data);
}

void pci_msix_notify(struct pci_device *dev, unsigned vector)
{
    if (pci_msix_enabled(dev) && vector < dev->info->msix_vectors)
        msix_fire(dev, vector);
}

/* Something was unmasked: what waited goes. */
static void msix_fire_pending(struct pci_device *dev)
{
    if (!dev->pending || !pci_msix_enabled(dev))
        return;
    for (unsigned vector = 0; vector < dev->info->msix_vectors; vector++)
        if (dev->pending >> vector & 1)
            msix_fire(dev, vector);
}

/* Accesses are of whole dwords (6.8.2); the bus widens smaller ones and splits larger ones. */
static uint64_t msix_read(void *opaque, uint64_t offset, unsigned size)
{
    const struct pci_device *dev = opaque;
    uint32_t value = 0, table = dev->info->msix_vectors * (uint32_t)sizeof dev->table[0];

    offset &= ~UINT64_C(3);
    if (offset < table)
        memcpy(&value, (const uint8_t *)dev->table + offset, size);
    else if (offset - MSIX_PENDING < sizeof dev->pending)
        value = (uint32_t)(dev->pending >> 8 * (offset - MSIX_PENDING));
    return value;
}

static void msix_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct pci_device *dev = opaque;
    struct pci_msix_entry *entry;

    offset &= ~UINT64_C(3);
    if (offset >= dev->info->msix_vectors * sizeof *entry)
        return;
    memcpy((uint8_t *)dev->table + offset, &value, size);
    entry = &dev->table[offset / sizeof *entry];
    entry->address &= ~UINT64_C(3);
    entry->control &= MSIX_MASKED;
    msix_fire_pending(dev);
}

static const struct io_ops msix_ops = {
    .read = msix_read, .write = msix_write, .min_size = 4, .max_size = 4};

/* --- configuration space --- */

static struct pci_device *find(struct pci_bus *pci, uint32_t address)
{
    for (unsigned i = 0; i < pci->count && address >> 16 == 0; i++)
        if (pci->devices[i]->devfn == address >> 8)
            return pci->devices[i];
    return NULL;
}

uint32_t pci_config_read(struct pci_bus *pci, uint32_t address, unsigned size)
{
    struct pci_device *dev = find(pci, address);
    unsigned offset = address & 0xff, there = PCI_CONFIG_SIZE - offset;
    uint32_t value = UINT32_MAX;

    if (dev) {
        there = size < there ? size : there;
        if (dev->info->config_reading)
            dev->info->config_reading(dev->opaque, offset, there);
        memcpy(&value, dev->config + offset, there);
        trace_pci_config_read(dev->info->name, offset, size, value);
    }
    return size < 4 ? value & ((UINT32_C(1) << 8 * size) - 1) : value;
}

static bool touches(unsigned offset, unsigned size, unsigned start, unsigned end)
{
    return offset < end && offset + size > start;
}

static void config_changed(struct pci_device *dev, unsigned offset, unsigned size)
{
    if (touches(offset, size, PCI_COMMAND, PCI_COMMAND + 2) ||
        touches(offset, size, PCI_BAR0, PCI_BAR0 + 4 * PCI_BARS) ||
        touches(offset, size, PCI_ROM_BAR, PCI_ROM_BAR + 4))
        place_ranges(dev);
    if (dev->info->pin && touches(offset, size, PCI_COMMAND, PCI_COMMAND + 2))
        update_pirq(dev->pci, pci_pirq(dev->devfn, dev->info->pin));
    if (dev->msix && touches(offset, size, dev->msix, dev->msix + MSIX_SIZE))
        msix_fire_pending(dev);
    if (dev->info->config_written)
        dev->info->config_written(dev->opaque, offset, size);
}

void pci_config_write(struct pci_bus *pci, uint32_t address, uint32_t value, unsigned size)
{
    struct pci_device *dev = find(pci, address);
    unsigned offset = address & 0xff;

    if (!dev)
        return;
    trace_pci_config_write(dev->info->name, offset, size, value);
    if (size > PCI_CONFIG_SIZE - offset)
        size = PCI_CONFIG_SIZE - offset;
    for (unsigned i = offset; i < offset + size; i++, value >>= 8) {
        uint8_t byte = (uint8_t)value;

        dev->config[i] &= (uint8_t) ~(byte & dev->clearable[i]);
        dev->config[i] =
            (uint8_t)((dev->config[i] & ~dev->writable[i]) | (byte & dev->writable[i]));
    }
    config_changed(dev, offset, size);
}

/* --- DMA --- */

static bool is_master(const struct pci_device *dev)
{
    return command(dev) & PCI_COMMAND_MASTER;
}

bool pci_dma_read(const struct pci_device *dev, gpa_t gpa, void *to, uint64_t len)
{
    return is_master(dev) && memory_read(dev->pci->mem, gpa, to, len);
}

bool pci_dma_write(struct pci_device *dev, gpa_t gpa, const void *from, uint64_t len)
{
    void *host = pci_dma_map(dev, gpa, len, true);

    if (!host)
        return false;
    memcpy(host, from, len);
    pci_dma_stored(dev, gpa, len);
    return true;
}

void *pci_dma_map(const struct pci_device *dev, gpa_t gpa, uint64_t len, bool store)
{
    struct memory *mem = dev->pci->mem;

    if (!is_master(dev) || (store && !memory_writable(mem, gpa, len)))
        return NULL;
    return memory_ram(mem, gpa, len);
}

void pci_dma_stored(struct pci_device *dev, gpa_t gpa, uint64_t len)
{
    memory_dma_touched(dev->pci->mem, gpa, len);
}

/* --- the bus --- */

void pci_bus_init(struct pci_bus *pci, struct bus *bus, struct memory *mem)
{
    memset(pci, 0, sizeof *pci);
    pci->bus = bus;
    pci->mem = mem;
}

static int free_slot(struct pci_bus *pci)
{
    for (int slot = PCI_FIRST_FREE_SLOT; slot < PCI_SLOTS; slot++)
        if (!find(pci, (uint32_t)PCI_DEVFN(slot, 0) << 8))
            return PCI_DEVFN(slot, 0);
    return -1;
}

static void reset_device(struct pci_device *dev)
{
    memcpy(dev->config, dev->initial, sizeof dev->config);
    dev->intx = false;
    dev->pending = 0;
    memset(dev->table, 0, sizeof dev->table);
    for (unsigned i = 0; i < PCI_MSIX_MAX; i++)
        dev->table[i].control = MSIX_MASKED;
    place_ranges(dev);
}

int pci_add(struct pci_bus *pci, struct pci_device *dev, int devfn, struct err *err)
{
    if (devfn == PCI_ANY_SLOT)
        devfn = free_slot(pci);
    if (devfn < 0 || pci->count == PCI_FUNCTIONS || !bus_has_room(pci->bus, PCI_BARS + 1))
        return err_set(err, -ENOSPC, "the machine has no PCI slot left for another device (%s)",
                       dev->info->name);
    assert(!find(pci, (uint32_t)devfn << 8));
    dev->pci = pci;
    dev->devfn = (uint8_t)devfn;
    for (unsigned bar = 0; bar <= PCI_ROM; bar++) {
        init_bar(dev, bar);
        add_range(dev, bar);
    }
    pci->devices[pci->count++] = dev;
    reset_device(dev);
    return 0;
}

void pci_bus_reset(struct pci_bus *pci)
{
    for (unsigned i = 0; i < pci->count; i++) {
        struct pci_device *dev = pci->devices[i];

        reset_device(dev);
        if (dev->info->reset)
            dev->info->reset(dev->opaque);
    }
    for (unsigned pirq = 0; pirq < ARRAY_SIZE(pci->pirq); pirq++)
        update_pirq(pci, pirq);
}

/* --- state --- */

/* Bytes [start, start + size): bits that cannot be written are what they always are. */
static void restore_constants(struct pci_device *dev, unsigned start, unsigned size)
{
    for (unsigned i = start; i < start + size; i++)
        dev->config[i] =
            (uint8_t)((dev->config[i] & dev->writable[i]) | (dev->initial[i] & ~dev->writable[i]));
}

static int loaded(void *object, struct err *err)
{
    struct pci_device *dev = object;
    uint64_t vectors = dev->info->msix_vectors;

    (void)err;
    restore_constants(dev, 0, PCI_DEVICE_SPECIFIC);
    restore_constants(dev, dev->msi, dev->msi ? MSI_SIZE : 0);
    restore_constants(dev, dev->msix, dev->msix ? MSIX_SIZE : 0);
    dev->intx &= dev->info->pin != 0;
    dev->config[PCI_STATUS] |= dev->intx ? PCI_STATUS_INTX : 0;
    for (unsigned i = 0; i < PCI_MSIX_MAX; i++) {
        dev->table[i].address &= ~UINT64_C(3);
        dev->table[i].control &= MSIX_MASKED;
    }
    dev->pending &= vectors < 64 ? (UINT64_C(1) << vectors) - 1 : UINT64_MAX;
    place_ranges(dev);
    if (dev->info->pin)
        update_pirq(dev->pci, pci_pirq(dev->devfn, dev->info->pin));
    if (dev->info->config_written)
        dev->info->config_written(dev->opaque, 0, PCI_CONFIG_SIZE);
    return 0;
}

static const struct field fields[] = {
    FIELD_BYTES(struct pci_device, config),
    FIELD(struct pci_device, intx),
    FIELD_BYTES(struct pci_device, table),
    FIELD(struct pci_device, pending),
};

static const struct state_desc state_desc = {
    .name = "pci",
    .version = 1,
    .fields = fields,
    .field_count = ARRAY_SIZE(fields),
    .loaded = loaded,
};

void pci_add_states(struct pci_bus *pci, struct state_list *list)
{
    for (unsigned i = 0; i < pci->count; i++)
        state_add(list, &state_desc, pci->devices[i]->devfn, pci->devices[i]);
}
