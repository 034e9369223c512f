/* ioapic.c - the I/O APIC: turns input lines into messages.
 *
 * An edge on a masked input is lost, as the data sheet says. A level input sends when it is high,
 * unmasked and Remote IRR is clear; acceptance sets Remote IRR, the EOI of its vector clears it.
 * Only Fixed and Lowest Priority can be level-triggered. The delivery status is always idle.
 * Polarity is kept and has no effect, because lines are logical levels. */
#include "dev/ioapic.h"

#include "base/trace.h"

#include <string.h>

#define IOREGSEL 0x00
#define IOWIN 0x10
#define EOI 0x40

#define REG_ID 0x00
#define REG_VERSION 0x01
#define REG_ARBITRATION 0x02
#define REG_TABLE 0x10

#define VERSION_VALUE (0x20u | (IOAPIC_PINS - 1) << 16)

#define ENTRY_LOGICAL (1u << 11)
#define ENTRY_REMOTE_IRR (1u << 14)
#define ENTRY_LEVEL (1u << 15)
#define ENTRY_MASKED (1u << 16)
#define ENTRY_LOW_WRITABLE 0x1afffu
#define ENTRY_HIGH_WRITABLE 0xff000000u
#define ENTRY_WRITABLE ((uint64_t)ENTRY_HIGH_WRITABLE << 32 | ENTRY_LOW_WRITABLE)
#define ENTRY_DELIVERY(e) ((uint8_t)((e) >> 8 & 7))

static bool is_level(uint64_t entry)
{
    return entry & ENTRY_LEVEL && ENTRY_DELIVERY(entry) <= APIC_LOWEST;
}

static bool send(struct ioapic *ioapic, unsigned pin)
{
    uint64_t entry = ioapic->entry[pin];
    struct apic_message message = {
        .dest = apic_dest8((uint8_t)(entry >> 56)),
        .logical = entry & ENTRY_LOGICAL,
        .level = is_level(entry),
        .delivery = ENTRY_DELIVERY(entry),
        .vector = (uint8_t)entry,
    };

    trace_ioapic_send(pin, entry);
    return apic_deliver(ioapic->bus, &message);
}

/* Sends for a level input that is high and may send now. */
static void service_level(struct ioapic *ioapic, unsigned pin)
{
    uint64_t *entry = &ioapic->entry[pin];

    if (!is_level(*entry) || *entry & (ENTRY_MASKED | ENTRY_REMOTE_IRR))
        return;
    if (!(ioapic->lines >> pin & 1))
        return;
    if (send(ioapic, pin))
        *entry |= ENTRY_REMOTE_IRR;
}

void ioapic_set_irq(void *opaque, unsigned number, bool level)
{
    struct ioapic *ioapic = opaque;
    uint32_t old, bit;

    if (number >= IOAPIC_PINS)
        return;
    bit = UINT32_C(1) << number;
    old = ioapic->lines;
    ioapic->lines = level ? old | bit : old & ~bit;
    if (ioapic->lines == old)
        return;
    trace_ioapic_irq(number, level);
    if (is_level(ioapic->entry[number]))
        service_level(ioapic, number);
    else if (level && !(ioapic->entry[number] & ENTRY_MASKED))
        send(ioapic, number);
}

void ioapic_eoi(void *opaque, uint8_t vector)
{
    struct ioapic *ioapic = opaque;

    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        uint64_t *entry = &ioapic->entry[pin];

        if (!(*entry & ENTRY_REMOTE_IRR) || (uint8_t)*entry != vector)
            continue;
        *entry &= ~(uint64_t)ENTRY_REMOTE_IRR;
        service_level(ioapic, pin);
    }
}

/* --- registers --- */

/* Half 0 is bits 31:0. Making an entry edge-triggered clears its Remote IRR: operating systems use
 * that as the EOI of older versions. */
static void write_entry(struct ioapic *ioapic, unsigned pin, unsigned half, uint32_t value)
{
    uint64_t *entry = &ioapic->entry[pin];

    if (half) {
        *entry = (uint32_t)*entry | (uint64_t)(value & ENTRY_HIGH_WRITABLE) << 32;
        return;
    }
    *entry = (*entry & ~(uint64_t)ENTRY_LOW_WRITABLE) | (value & ENTRY_LOW_WRITABLE);
    if (!is_level(*entry))
        *entry &= ~(uint64_t)ENTRY_REMOTE_IRR;
    service_level(ioapic, pin);
}

static uint32_t read_window(const struct ioapic *ioapic)
{
    unsigned index = ioapic->select - REG_TABLE;

    switch (ioapic->select) {
    case REG_ID:
    case REG_ARBITRATION: return (uint32_t)ioapic->id << 24;
    case REG_VERSION: return VERSION_VALUE;
    default: break;
    }
    if (index >= 2 * IOAPIC_PINS)
        return 0;
    return (uint32_t)(ioapic->entry[index / 2] >> (index & 1 ? 32 : 0));
}

static void write_window(struct ioapic *ioapic, uint32_t value)
{
    unsigned index = ioapic->select - REG_TABLE;

    trace_ioapic_write(ioapic->select, value);
    if (ioapic->select == REG_ID)
        ioapic->id = value >> 24 & 15;
    else if (index < 2 * IOAPIC_PINS)
        write_entry(ioapic, index / 2, index & 1, value);
}

static uint64_t mmio_read(void *opaque, uint64_t offset, unsigned size)
{
    const struct ioapic *ioapic = opaque;

    (void)size;
    switch (offset) {
    case IOREGSEL: return ioapic->select;
    case IOWIN: return read_window(ioapic);
    default: return 0;
    }
}

static void mmio_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct ioapic *ioapic = opaque;

    (void)size;
    switch (offset) {
    case IOREGSEL: ioapic->select = (uint8_t)value; break;
    case IOWIN: write_window(ioapic, (uint32_t)value); break;
    case EOI: ioapic_eoi(ioapic, (uint8_t)value); break;
    default: break;
    }
}

/* --- the device --- */

static const struct io_ops ops = {
    .read = mmio_read, .write = mmio_write, .min_size = 4, .max_size = 4};

int ioapic_init(struct ioapic *ioapic, struct apic_bus *bus)
{
    memset(ioapic, 0, sizeof(*ioapic));
    ioapic->bus = bus;
    apic_bus_set_eoi(bus, ioapic_eoi, ioapic);
    ioapic_reset(ioapic);
    return 0;
}

/* The lines are the other devices', so a reset keeps them. */
void ioapic_reset(struct ioapic *ioapic)
{
    ioapic->id = 0;
    ioapic->select = 0;
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
        ioapic->entry[pin] = ENTRY_MASKED;
}

void ioapic_attach(struct ioapic *ioapic, struct bus *bus)
{
    bus_add_mmio(bus, "ioapic", IOAPIC_BASE, PAGE_SIZE, &ops, ioapic);
}

static int loaded(void *object, struct err *err)
{
    struct ioapic *ioapic = object;

    (void)err;
    ioapic->id &= 15;
    ioapic->lines &= (UINT32_C(1) << IOAPIC_PINS) - 1;
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        ioapic->entry[pin] &= ENTRY_WRITABLE | ENTRY_REMOTE_IRR;
        if (!is_level(ioapic->entry[pin]))
            ioapic->entry[pin] &= ~(uint64_t)ENTRY_REMOTE_IRR;
    }
    return 0;
}

static const struct field fields[] = {
    FIELD(struct ioapic, id),
    FIELD(struct ioapic, select),
    FIELD(struct ioapic, lines),
    FIELD_ARRAY(struct ioapic, entry),
};

const struct state_desc ioapic_state_desc = {
    .name = "ioapic",
    .version = 1,
    .fields = fields,
    .field_count = ARRAY_SIZE(fields),
    .loaded = loaded,
};
