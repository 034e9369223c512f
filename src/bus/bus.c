/* bus.c - finding the device of a port or an address, and fitting the access to what it takes.
 *
 * Ports are found through a table of 64 Ki bytes, because guests poll them; addresses by a search
 * from the last range to the first, because there are few. A range that is switched off or was
 * moved away uncovers what lies under it.
 *
 * An access is handed to a device whole when the device owns every byte of it and takes its size;
 * otherwise it is split, lowest address first, as the chip set of a PC does for narrow devices. */
#include "bus/bus.h"

#include "base/timeline.h"
#include "base/trace.h"

#include <assert.h>
#include <string.h>

#define PORTS 65536u

/* Which of the two address maps an access goes to. */
enum space { SPACE_PIO, SPACE_MMIO };

void bus_init(struct bus *bus)
{
    memset(bus, 0, sizeof(*bus));
    pthread_mutex_init(&bus->lock, NULL);
}

void bus_free(struct bus *bus)
{
    pthread_mutex_destroy(&bus->lock);
}

static bool range_holds(const struct io_range *range, uint64_t addr)
{
    return range->enabled && addr - range->base < range->size;
}

static void paint(struct bus *bus, bool yields)
{
    for (unsigned i = 0; i < bus->pio_count; i++) {
        const struct io_range *range = &bus->pio[i];

        if (range->yields != yields)
            continue;
        for (uint64_t port = range->base; range_holds(range, port) && port < PORTS; port++)
            bus->port_map[port] = (uint8_t)(i + 1);
    }
}

/* Ranges are painted in the order they were added, so that a later one hides an earlier one. */
static void map_ports(struct bus *bus)
{
    memset(bus->port_map, 0, sizeof(bus->port_map));
    paint(bus, true);
    paint(bus, false);
}

static struct io_range *add(struct io_range *ranges, unsigned *count, const struct io_range *range)
{
    assert(*count < BUS_MAX_RANGES);
    ranges[*count] = *range;
    return &ranges[(*count)++];
}

struct io_range *bus_add_pio(struct bus *bus, const char *name, uint16_t base, unsigned count,
                             const struct io_ops *ops, void *opaque)
{
    struct io_range range = {
        .name = name, .base = base, .size = count, .ops = ops, .opaque = opaque, .enabled = true};
    struct io_range *added = add(bus->pio, &bus->pio_count, &range);

    map_ports(bus);
    return added;
}

struct io_range *bus_add_mmio(struct bus *bus, const char *name, gpa_t base, uint64_t size,
                              const struct io_ops *ops, void *opaque)
{
    struct io_range range = {
        .name = name, .base = base, .size = size, .ops = ops, .opaque = opaque, .enabled = true};

    return add(bus->mmio, &bus->mmio_count, &range);
}

bool bus_has_room(const struct bus *bus, unsigned ranges)
{
    return bus->pio_count + ranges <= BUS_MAX_RANGES && bus->mmio_count + ranges <= BUS_MAX_RANGES;
}

void bus_move(struct bus *bus, struct io_range *range, uint64_t base, bool enabled)
{
    bool is_port = range >= bus->pio && range < bus->pio + BUS_MAX_RANGES;

    if (range->base == base && range->enabled == enabled)
        return;
    range->base = base;
    range->enabled = enabled;
    if (is_port)
        map_ports(bus);
}

static struct io_range *find_pio(struct bus *bus, uint64_t port)
{
    unsigned index = port < PORTS ? bus->port_map[port] : 0;

    return index ? &bus->pio[index - 1] : NULL;
}

static struct io_range *find_mmio(struct bus *bus, uint64_t addr)
{
    struct io_range *found = NULL;

    for (unsigned i = bus->mmio_count; i-- > 0;) {
        if (!range_holds(&bus->mmio[i], addr))
            continue;
        if (!bus->mmio[i].yields)
            return &bus->mmio[i];
        if (!found)
            found = &bus->mmio[i];
    }
    return found;
}

static struct io_range *find(struct bus *bus, enum space space, uint64_t addr)
{
    return space == SPACE_PIO ? find_pio(bus, addr) : find_mmio(bus, addr);
}

static unsigned max_size(const struct io_range *range, enum space space)
{
    if (range->ops->max_size)
        return range->ops->max_size;
    return space == SPACE_PIO ? 1 : 4;
}

static uint64_t size_mask(unsigned size)
{
    return size >= 8 ? UINT64_MAX : (UINT64_C(1) << 8 * size) - 1;
}

/* Devices see sizes that are powers of two; other sizes come from accesses that cross a page. */
static bool size_fits(const struct io_range *range, enum space space, unsigned size)
{
    return size <= max_size(range, space) && (size & (size - 1)) == 0;
}

/* One read that the device takes: within its range and not larger than it likes. */
static uint64_t range_read(struct io_range *range, uint64_t offset, unsigned size)
{
    const struct io_ops *ops = range->ops;
    unsigned low = ops->min_size > 1 ? (unsigned)(offset & (ops->min_size - 1)) : 0;
    uint64_t value;

    if (size >= ops->min_size)
        return ops->read(range->opaque, offset, size) & size_mask(size);
    value = ops->read(range->opaque, offset - low, ops->min_size);
    return value >> 8 * low & size_mask(size);
}

static void range_write(struct io_range *range, uint64_t offset, uint64_t value, unsigned size)
{
    const struct io_ops *ops = range->ops;
    unsigned low = ops->min_size > 1 ? (unsigned)(offset & (ops->min_size - 1)) : 0;

    value &= size_mask(size);
    if (size >= ops->min_size)
        ops->write(range->opaque, offset, value, size);
    else
        ops->write(range->opaque, offset - low, value << 8 * low, ops->min_size);
}

/* How many bytes of an access at `addr` can be done in one go: all of them if one device (or
 * nobody) owns them and takes the size; else the largest piece that the device takes; else 1. */
static unsigned piece(struct bus *bus, enum space space, uint64_t addr, unsigned size)
{
    struct io_range *range = find(bus, space, addr);
    unsigned min;

    for (unsigned i = 1; i < size; i++)
        if (find(bus, space, addr + i) != range)
            return 1;
    if (!range)
        return size;
    while (size > 1 && !size_fits(range, space, size))
        size = size & (size - 1) ? 1 : size / 2;
    min = range->ops->min_size;
    if (size < min && ((addr - range->base) & (min - 1)) + size > min)
        return 1;
    return size;
}

static uint64_t read_piece(struct bus *bus, enum space space, uint64_t addr, unsigned size)
{
    struct io_range *range = find(bus, space, addr);

    if (range) {
        range->reads++;
        return range_read(range, addr - range->base, size);
    }
    bus->unclaimed_reads++;
    if (space == SPACE_PIO)
        trace_bus_pio_unclaimed((unsigned)addr, size, false);
    else
        trace_bus_mmio_unclaimed(addr, size, false);
    return size_mask(size);
}

static void write_piece(struct bus *bus, enum space space, uint64_t addr, uint64_t value,
                        unsigned size)
{
    struct io_range *range = find(bus, space, addr);

    if (range) {
        range->writes++;
        range_write(range, addr - range->base, value, size);
        return;
    }
    bus->unclaimed_writes++;
    if (space == SPACE_PIO)
        trace_bus_pio_unclaimed((unsigned)addr, size, true);
    else
        trace_bus_mmio_unclaimed(addr, size, true);
}

static uint64_t space_read(struct bus *bus, enum space space, uint64_t addr, unsigned size)
{
    uint64_t value = 0;
    unsigned n;

    bus_lock(bus);
    for (unsigned done = 0; done < size; done += n) {
        n = piece(bus, space, addr + done, size - done);
        value |= read_piece(bus, space, addr + done, n) << 8 * done;
    }
    bus_unlock(bus);
    return value;
}

static void space_write(struct bus *bus, enum space space, uint64_t addr, uint64_t value,
                        unsigned size)
{
    unsigned n;

    bus_lock(bus);
    for (unsigned done = 0; done < size; done += n) {
        n = piece(bus, space, addr + done, size - done);
        write_piece(bus, space, addr + done, value >> 8 * done, n);
    }
    bus_unlock(bus);
}

/* --- with the timeline --- */

/* The device of an access before it is made, because it may move the range; NULL: nobody. */
static const char *device_name(struct bus *bus, enum space space, uint64_t addr)
{
    const struct io_range *range;

    bus_lock(bus);
    range = find(bus, space, addr);
    bus_unlock(bus);
    return range ? range->name : NULL;
}

static uint64_t recorded_read(struct bus *bus, enum space space, uint64_t addr, unsigned size)
{
    const char *name = device_name(bus, space, addr);
    uint64_t start = timeline_start(), value = space_read(bus, space, addr, size);

    timeline_slice(space == SPACE_PIO ? TIMELINE_PORT_READ : TIMELINE_MMIO_READ, name, start, addr,
                   size, value);
    return value;
}

static void recorded_write(struct bus *bus, enum space space, uint64_t addr, uint64_t value,
                           unsigned size)
{
    const char *name = device_name(bus, space, addr);
    uint64_t start = timeline_start();

    space_write(bus, space, addr, value, size);
    timeline_slice(space == SPACE_PIO ? TIMELINE_PORT_WRITE : TIMELINE_MMIO_WRITE, name, start,
                   addr, size, value & size_mask(size));
}

static uint64_t cpu_read(struct bus *bus, enum space space, uint64_t addr, unsigned size)
{
    return unlikely(timeline_here != NULL) ? recorded_read(bus, space, addr, size)
                                           : space_read(bus, space, addr, size);
}

static void cpu_write(struct bus *bus, enum space space, uint64_t addr, uint64_t value,
                      unsigned size)
{
    if (unlikely(timeline_here != NULL))
        recorded_write(bus, space, addr, value, size);
    else
        space_write(bus, space, addr, value, size);
}

/* --- what the CPU calls --- */

uint64_t bus_pio_read(struct bus *bus, uint16_t port, unsigned size)
{
    return cpu_read(bus, SPACE_PIO, port, size);
}

void bus_pio_write(struct bus *bus, uint16_t port, uint64_t value, unsigned size)
{
    cpu_write(bus, SPACE_PIO, port, value, size);
}

uint64_t bus_mmio_read(struct bus *bus, gpa_t gpa, unsigned size)
{
    return cpu_read(bus, SPACE_MMIO, gpa, size);
}

void bus_mmio_write(struct bus *bus, gpa_t gpa, uint64_t value, unsigned size)
{
    cpu_write(bus, SPACE_MMIO, gpa, value, size);
}
