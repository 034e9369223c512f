/* bus.h - the address maps of I/O ports and of memory-mapped I/O, and the lock of the devices.
 *
 * A device registers ranges; the bus finds the range of an access, splits accesses that the device
 * doesn't take, and counts. A read that nobody claims gives all ones, a write that nobody claims is
 * lost; both are traced. An access that runs over the end of a range is split into bytes.
 *
 * Locking: one lock for all devices, timers and interrupt lines. bus_pio_*() and bus_mmio_*() take
 * it; so device callbacks always run with it held. Whoever calls into a device from elsewhere (the
 * main thread with input, the vCPU thread with an acknowledge) takes it with bus_lock(). */
#ifndef DOBLE_BUS_BUS_H
#define DOBLE_BUS_BUS_H

#include "base/err.h"
#include "base/types.h"

#include <pthread.h>

struct io_ops {
    /* `offset` is relative to the range's base; `size` is 1, 2, 4 or 8, within min..max. */
    uint64_t (*read)(void *opaque, uint64_t offset, unsigned size);
    void (*write)(void *opaque, uint64_t offset, uint64_t value, unsigned size);
    unsigned min_size; /* 0 means 1. Smaller accesses are widened: a read takes its part of the
                          wider one; a smaller write is passed on as the wider with zeros */
    unsigned max_size; /* 0 means 1 for ports and 4 for MMIO. Larger ones are split, low first */
};

struct io_range {
    const char *name;
    uint64_t base, size;
    const struct io_ops *ops;
    void *opaque;
    bool enabled;
    bool yields; /* to ranges that don't, wherever it is: base registers are the guest's to set */
    uint64_t reads, writes; /* accesses, for --stats */
};

#define BUS_MAX_RANGES 192

struct bus {
    pthread_mutex_t lock;
    unsigned pio_count, mmio_count;
    struct io_range pio[BUS_MAX_RANGES];
    struct io_range mmio[BUS_MAX_RANGES];
    uint8_t port_map[65536]; /* index + 1 into pio[], 0: nobody */
    uint64_t unclaimed_reads, unclaimed_writes;
};

void bus_init(struct bus *bus);
void bus_free(struct bus *bus);

static inline void bus_lock(struct bus *bus)
{
    pthread_mutex_lock(&bus->lock);
}
static inline void bus_unlock(struct bus *bus)
{
    pthread_mutex_unlock(&bus->lock);
}

/* Register a range of ports or of guest-physical addresses; a later range hides an earlier one
 * where they overlap. Return the range, which stays valid as long as the bus. Before the machine
 * runs. */
struct io_range *bus_add_pio(struct bus *bus, const char *name, uint16_t base, unsigned count,
                             const struct io_ops *ops, void *opaque);
struct io_range *bus_add_mmio(struct bus *bus, const char *name, gpa_t base, uint64_t size,
                              const struct io_ops *ops, void *opaque);

/* Whether as many more ranges of either kind can be added. */
bool bus_has_room(const struct bus *bus, unsigned ranges);

/* Moves a range, or switches it on and off (base registers, decode bits). With the lock held. */
void bus_move(struct bus *bus, struct io_range *range, uint64_t base, bool enabled);

/* Accesses of the CPU; `size` is 1, 2 or 4 for ports and 1 to 8 for MMIO. Take the lock. */
uint64_t bus_pio_read(struct bus *bus, uint16_t port, unsigned size);
void bus_pio_write(struct bus *bus, uint16_t port, uint64_t value, unsigned size);
uint64_t bus_mmio_read(struct bus *bus, gpa_t gpa, unsigned size);
void bus_mmio_write(struct bus *bus, gpa_t gpa, uint64_t value, unsigned size);

#endif
