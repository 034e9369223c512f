/* apic_bus.c - choosing the local APICs that a message is for. */
#include "dev/apic_bus.h"

#include "base/trace.h"
#include "dev/lapic.h"

#include <errno.h>
#include <string.h>

#define MSI_ADDRESS UINT64_C(0xfee00000)
#define MSI_LOGICAL (1u << 2) /* address */
#define MSI_ASSERT (1u << 14) /* data */
#define MSI_LEVEL (1u << 15)  /* data */

void apic_bus_init(struct apic_bus *bus)
{
    memset(bus, 0, sizeof(*bus));
}

int apic_bus_add(struct apic_bus *bus, struct lapic *lapic)
{
    if (bus->count == APIC_BUS_MAX)
        return -ENOSPC;
    bus->lapics[bus->count++] = lapic;
    return 0;
}

void apic_bus_set_eoi(struct apic_bus *bus, void (*eoi)(void *opaque, uint8_t vector), void *opaque)
{
    bus->eoi = eoi;
    bus->eoi_opaque = opaque;
}

void apic_bus_eoi(struct apic_bus *bus, uint8_t vector)
{
    if (bus->eoi)
        bus->eoi(bus->eoi_opaque, vector);
}

static bool is_target(const struct lapic *lapic, const struct apic_message *message)
{
    if (lapic == message->except)
        return false;
    return lapic_is_destination(lapic, message->dest, message->logical);
}

/* Arbitration: the lowest processor priority wins; among equals they take turns. */
static bool deliver_lowest(struct apic_bus *bus, const struct apic_message *message)
{
    unsigned start = bus->next, winner = 0;
    int best = -1;

    for (unsigned n = 0; n < bus->count; n++) {
        unsigned i = (start + n) % bus->count;
        struct lapic *lapic = bus->lapics[i];
        int priority = lapic_priority(lapic);

        if (!lapic_accepts_fixed(lapic) || !is_target(lapic, message))
            continue;
        if (best < 0 || priority < best) {
            best = priority;
            winner = i;
        }
    }
    if (best < 0)
        return false;
    bus->next = (winner + 1) % bus->count;
    return lapic_accept(bus->lapics[winner], message);
}

/* Bits 31:8 of a destination are in the upper half of the address, as DMA remapping hardware and
 * KVM have it. */
static void pass_on(struct apic_bus *bus, const struct apic_message *message)
{
    uint32_t dest = message->dest == APIC_BROADCAST ? 0xff : message->dest;
    uint64_t address = (uint64_t)(dest & 0xffffff00) << 32 | MSI_ADDRESS | (dest & 0xff) << 12;
    uint32_t data = (uint32_t)message->delivery << 8 | message->vector;

    if (message->logical)
        address |= MSI_LOGICAL;
    if (message->level)
        data |= MSI_LEVEL | MSI_ASSERT;
    bus->borrower(bus->borrower_opaque, address, data);
}

bool apic_deliver(struct apic_bus *bus, const struct apic_message *message)
{
    bool accepted = false;

    trace_apic_bus_deliver(message->dest, message->logical, message->delivery, message->vector);
    if (bus->borrower) {
        pass_on(bus, message);
        return true;
    }
    if (message->delivery == APIC_LOWEST)
        return deliver_lowest(bus, message);
    for (unsigned i = 0; i < bus->count; i++)
        if (is_target(bus->lapics[i], message))
            accepted |= lapic_accept(bus->lapics[i], message);
    return accepted;
}

void apic_deliver_msi(struct apic_bus *bus, uint64_t address, uint32_t data)
{
    struct apic_message message = {
        .dest = apic_dest8((uint8_t)(address >> 12)),
        .logical = address & MSI_LOGICAL,
        .level = data & MSI_LEVEL,
        .delivery = data >> 8 & 7,
        .vector = (uint8_t)data,
    };

    apic_deliver(bus, &message);
}
