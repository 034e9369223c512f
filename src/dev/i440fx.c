#include "dev/i440fx.h"

#include <string.h>

#define ADDRESS_ENABLE (UINT32_C(1) << 31)
#define ADDRESS_TARGET UINT32_C(0x00ffff00) /* bus, device, function */
#define ADDRESS_KEEP (ADDRESS_ENABLE | UINT32_C(0x00fffffc))

/* Registers that can be written, byte by byte: SERR enable, latency timer, and the chip's own. */
static uint8_t writable(unsigned reg)
{
    if (reg == 0x05)
        return 0x01;
    if (reg == 0x0d)
        return 0xf8;
    return reg >= 0x50 && reg <= 0x93 ? 0xff : 0;
}

/* Does the address register name this bridge? Otherwise nobody answers. */
static bool selected(const struct i440fx *bridge)
{
    return (bridge->address & ADDRESS_ENABLE) && !(bridge->address & ADDRESS_TARGET);
}

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
    unsigned reg = (bridge->address & 0xfc) + (unsigned)offset;
    uint32_t v = 0;

    if (!selected(bridge))
        return UINT64_MAX;
    memcpy(&v, bridge->config + reg, size);
    return v;
}

static void data_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct i440fx *bridge = opaque;
    unsigned reg = (bridge->address & 0xfc) + (unsigned)offset;

    for (unsigned i = 0; selected(bridge) && i < size; i++, value >>= 8) {
        uint8_t mask = writable(reg + i), *byte = &bridge->config[reg + i];

        *byte = (uint8_t)((*byte & ~mask) | (value & mask));
    }
}

void i440fx_init(struct i440fx *bridge, const struct io_ops *below, void *below_opaque)
{
    bridge->below = below;
    bridge->below_opaque = below_opaque;
    i440fx_reset(bridge);
}

void i440fx_reset(struct i440fx *bridge)
{
    static const uint8_t header[] = {
        0x86, 0x80, 0x37, 0x12, /* Intel 82441FX */
        0x06, 0x00, 0x80, 0x02, /* memory and bus master always on; status */
        0x02, 0x00, 0x00, 0x06, /* revision; host bridge */
    };

    bridge->address = 0;
    memset(bridge->config, 0, sizeof bridge->config);
    memcpy(bridge->config, header, sizeof header);
    bridge->config[0x72] = 0x02; /* SMRAM: compatible space at A0000h */
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
    FIELD_BYTES(struct i440fx, config),
};

const struct state_desc i440fx_state_desc = {
    .name = "i440fx",
    .version = 1,
    .fields = fields,
    .field_count = ARRAY_SIZE(fields),
    .loaded = loaded,
};
