#include "dev/i440fx.h"

#include <string.h>

#define ADDRESS_ENABLE (UINT32_C(1) << 31)
#define ADDRESS_TARGET UINT32_C(0x00fffffc) /* bus, device, function, register */
#define ADDRESS_KEEP (ADDRESS_ENABLE | ADDRESS_TARGET)

#define PAM_READ 1u
#define PAM_WRITE 2u
#define SMRAM 0x72
#define SMRAM_INITIAL 0x02 /* compatible space at A0000h */

/* --- configuration mechanism 1 --- */

static uint64_t address_read(void *opaque, uint64_t offset, unsigned size)
{
    const struct i440fx *bridge = opaque;

    if (size == 4)
        return bridge->address;
    return bridge->below ? bridge->below->read(bridge->below_opaque, offset, size) : UINT64_MAX;
}

static void address_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct i440fx *bridge = opaque;

    if (size == 4)
        bridge->address = (uint32_t)value & ADDRESS_KEEP;
    else if (bridge->below)
        bridge->below->write(bridge->below_opaque, offset, value, size);
}

static uint64_t data_read(void *opaque, uint64_t offset, unsigned size)
{
    const struct i440fx *bridge = opaque;
    uint32_t target = (bridge->address & ADDRESS_TARGET) + (uint32_t)offset;

    return bridge->address & ADDRESS_ENABLE ? pci_config_read(bridge->pci, target, size)
                                            : UINT64_MAX;
}

static void data_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    const struct i440fx *bridge = opaque;
    uint32_t target = (bridge->address & ADDRESS_TARGET) + (uint32_t)offset;

    if (bridge->address & ADDRESS_ENABLE)
        pci_config_write(bridge->pci, target, (uint32_t)value, size);
}

/* --- programmable attribute map --- */

static void shadow(struct i440fx *bridge, gpa_t gpa, uint64_t size, unsigned attributes)
{
    memory_shadow(bridge->pci->mem, gpa, size, attributes & PAM_READ, attributes & PAM_WRITE);
}

static void apply_pam(struct i440fx *bridge, unsigned index, uint8_t value)
{
    const gpa_t segment = MEMORY_SHADOW_START + (index - 1) * 32 * KIB;
    const uint8_t old = bridge->pam[index];

    bridge->pam[index] = value;
    if (index == 0) {
        shadow(bridge, 0xf0000, 64 * KIB, value >> 4);
        return;
    }
    if ((value ^ old) & (PAM_READ | PAM_WRITE))
        shadow(bridge, segment, 16 * KIB, value);
    if ((value ^ old) >> 4 & (PAM_READ | PAM_WRITE))
        shadow(bridge, segment + 16 * KIB, 16 * KIB, value >> 4);
}

static void update_pam(struct i440fx *bridge)
{
    const uint8_t *registers = bridge->function.config + I440FX_PAM;
    bool changed = false;

    for (unsigned i = 0; i < I440FX_PAMS; i++) {
        if (registers[i] == bridge->pam[i])
            continue;
        apply_pam(bridge, i, registers[i]);
        changed = true;
    }
    if (changed && bridge->remapped)
        bridge->remapped(bridge->opaque);
}

static void function_reset(void *opaque)
{
    update_pam(opaque);
}

static void config_written(void *opaque, unsigned offset, unsigned size)
{
    if (offset < I440FX_PAM + I440FX_PAMS && offset + size > I440FX_PAM)
        update_pam(opaque);
}

void i440fx_open_shadow(struct i440fx *bridge)
{
    memset(bridge->function.config + I440FX_PAM, 0x33, I440FX_PAMS);
    update_pam(bridge);
}

/* --- life --- */

static const struct pci_info info = {
    .name = "i440fx",
    .vendor = 0x8086,
    .device = 0x1237,
    .subsystem_vendor = 0x1af4,
    .subsystem = 0x1100,
    .class_code = 0x060000,
    .revision = 0x02,
    .reset = function_reset,
    .config_written = config_written,
};

int i440fx_init(struct i440fx *bridge, struct pci_bus *pci, const struct io_ops *below,
                void *below_opaque, struct err *err)
{
    struct pci_device *function = &bridge->function;

    memset(bridge, 0, sizeof *bridge);
    bridge->pci = pci;
    bridge->below = below;
    bridge->below_opaque = below_opaque;
    pci_device_init(function, &info, bridge);
    /* Memory and bus master are always on. */
    pci_put16(function->writable + PCI_COMMAND, 0x0100);
    pci_put16(function->initial + PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    pci_put16(function->initial + PCI_STATUS, 0x0280);
    function->initial[SMRAM] = SMRAM_INITIAL;
    memset(function->writable + 0x50, 0xff, 0x94 - 0x50);
    memset(bridge->pam, 0x33, sizeof bridge->pam); /* as memory is before the first reset */
    return pci_add(pci, function, PCI_DEVFN(0, 0), err);
}

void i440fx_reset(struct i440fx *bridge)
{
    bridge->address = 0;
}

void i440fx_attach(struct i440fx *bridge, struct bus *bus)
{
    static const struct io_ops address = {
        .read = address_read, .write = address_write, .max_size = 4};
    static const struct io_ops data = {.read = data_read, .write = data_write, .max_size = 4};

    bus_add_pio(bus, "i440fx", 0xcf8, 4, &address, bridge);
    bus_add_pio(bus, "i440fx", 0xcfc, 4, &data, bridge);
}

static int loaded(void *object, struct err *err)
{
    struct i440fx *bridge = object;

    (void)err;
    bridge->address &= ADDRESS_KEEP;
    return 0;
}

static const struct field fields[] = {
    FIELD(struct i440fx, address),
};

const struct state_desc i440fx_state_desc = {
    .name = "i440fx",
    .version = 2,
    .fields = fields,
    .field_count = ARRAY_SIZE(fields),
    .loaded = loaded,
};
