/* rig.h - what a test of one device needs around it: a bus, a virtual clock that the test moves,
 * and interrupt lines that remember their level and count their rises. */
#ifndef DOBLE_TESTS_DEV_RIG_H
#define DOBLE_TESTS_DEV_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/state.h"
#include "bus/bus.h"
#include "bus/clock.h"
#include "bus/irq.h"

#include <stdlib.h>

#define RIG_LINES 32

struct rig {
    struct bus bus;
    struct clock clock;
    bool level[RIG_LINES];
    unsigned rises[RIG_LINES];
    uint64_t random;
};

static inline void rig_set_line(void *opaque, unsigned number, bool level)
{
    struct rig *rig = opaque;

    if (level && !rig->level[number])
        rig->rises[number]++;
    rig->level[number] = level;
}

static inline struct irq rig_line(struct rig *rig, unsigned number)
{
    return (struct irq){.set = rig_set_line, .opaque = rig, .number = number};
}

static inline struct rig *rig_new(void)
{
    struct rig *rig = calloc(1, sizeof *rig);

    assert_non_null(rig);
    bus_init(&rig->bus);
    clock_init(&rig->clock, CLOCK_VIRTUAL);
    clock_start(&rig->clock);
    rig->random = 88172645463325252u;
    return rig;
}

static inline void rig_free(struct rig *rig)
{
    bus_free(&rig->bus);
    free(rig);
}

static inline uint8_t rig_in(struct rig *rig, uint16_t port)
{
    return (uint8_t)bus_pio_read(&rig->bus, port, 1);
}

static inline void rig_out(struct rig *rig, uint16_t port, uint64_t value)
{
    bus_pio_write(&rig->bus, port, value, 1);
}

/* Lets `ns` pass; timers fire at their times. */
static inline void rig_pass(struct rig *rig, uint64_t ns)
{
    uint64_t end = clock_now(&rig->clock) + ns;

    bus_lock(&rig->bus);
    while (clock_next_deadline(&rig->clock) <= end) {
        uint64_t next = clock_next_deadline(&rig->clock);

        if (next > clock_now(&rig->clock))
            clock_set(&rig->clock, next, next);
        clock_run_timers(&rig->clock);
    }
    clock_set(&rig->clock, end, end);
    bus_unlock(&rig->bus);
}

/* xorshift64: the same numbers in every run */
static inline uint64_t rig_random(struct rig *rig)
{
    rig->random ^= rig->random << 13;
    rig->random ^= rig->random >> 7;
    rig->random ^= rig->random << 17;
    return rig->random;
}

/* Random accesses of every size to random ports of base..base+count-1 at random times: the device
 * must only survive. */
static inline void rig_hammer(struct rig *rig, uint16_t base, unsigned count, unsigned times)
{
    static const uint8_t sizes[4] = {1, 2, 4, 1};

    for (unsigned i = 0; i < times; i++) {
        uint64_t r = rig_random(rig);
        uint16_t port = (uint16_t)(base + (r >> 8) % count);
        unsigned size = sizes[r & 3];

        if (r & 4)
            bus_pio_write(&rig->bus, port, rig_random(rig), size);
        else
            (void)bus_pio_read(&rig->bus, port, size);
        if ((r & 0xf0) == 0)
            rig_pass(rig, rig_random(rig) >> (32 + (r >> 16) % 28));
    }
}

/* Saves the device, and loads it again. */
static inline void rig_save_and_load(const struct state_desc *desc, void *device)
{
    struct state_list *list = state_list_new();
    struct err err = {0};
    uint8_t *data = NULL;
    size_t size = 0;

    state_add(list, desc, 0, device);
    assert_int_equal(state_save(list, &data, &size, &err), 0);
    assert_int_equal(state_load(list, data, size, &err), 0);
    free(data);
    state_list_free(list);
}

/* Loads states with random bytes in them: each is refused, or leaves a device that survives what
 * `use` does with it. */
static inline void rig_load_damaged_and(struct rig *rig, const struct state_desc *desc,
                                        void *device, unsigned times, void (*use)(void *opaque),
                                        void *opaque)
{
    struct state_list *list = state_list_new();
    uint8_t *good = NULL;
    size_t size = 0;
    struct err err;

    state_add(list, desc, 0, device);
    assert_int_equal(state_save(list, &good, &size, &err), 0);
    for (unsigned i = 0; i < times; i++) {
        size_t at = rig_random(rig) % size;
        uint8_t keep = good[at];

        good[at] = (uint8_t)rig_random(rig);
        if (state_load(list, good, size, &err) == 0)
            use(opaque);
        good[at] = keep;
    }
    assert_int_equal(state_load(list, good, size, &err), 0);
    free(good);
    state_list_free(list);
}

struct rig_ports {
    struct rig *rig;
    uint16_t base;
    unsigned count;
};

static inline void rig_hammer_ports(void *opaque)
{
    const struct rig_ports *ports = opaque;

    rig_hammer(ports->rig, ports->base, ports->count, 20);
}

/* The same for a device of ports, which are hammered. */
static inline void rig_load_damaged(struct rig *rig, const struct state_desc *desc, void *device,
                                    uint16_t base, unsigned count)
{
    struct rig_ports ports = {rig, base, count};

    rig_load_damaged_and(rig, desc, device, 2000, rig_hammer_ports, &ports);
}

#endif
