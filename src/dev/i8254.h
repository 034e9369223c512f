/* i8254.h - the programmable interval timer, and port 61h, which holds part of its wiring.
 *
 *   counter 0  -> IRQ 0
 *   counter 1  -> memory refresh (nobody looks, but for bit 4 of port 61h)
 *   counter 2  <- gate: bit 0 of port 61h;  -> speaker and bit 5 of port 61h
 *
 * Ports 40h to 43h and 61h. Intel 8254 data sheet; 82371SB (PIIX3) 2.5.3.2 for port 61h. Everything
 * runs with the bus lock held. */
#ifndef DOBLE_DEV_I8254_H
#define DOBLE_DEV_I8254_H

#include "base/state.h"
#include "bus/bus.h"
#include "bus/clock.h"
#include "bus/irq.h"

#define I8254_HZ 1193182u

struct i8254_counter {
    /* control word */
    uint8_t mode; /* 0 to 5 */
    uint8_t bcd;
    uint8_t access; /* RW field: 1 low byte, 2 high byte, 3 low then high */
    /* bytes on their way */
    uint8_t write_high; /* access 3: the low byte is in write_low, the high byte comes next */
    uint8_t write_low;
    uint8_t read_high; /* access 3: the next read gives the high byte */
    uint8_t count_latched, status_latched;
    uint16_t latch;
    uint8_t status;
    /* counting */
    uint8_t gate;
    uint8_t loaded;         /* a count was written since the control word */
    uint8_t paused;         /* not counting: elapsed stands still */
    uint8_t fresh;          /* reload was written and waits for a trigger */
    uint32_t reload, count; /* last written; in force. 1 to 65536 */
    uint64_t start;         /* tick at which count was loaded into the counting element */
    uint64_t elapsed;       /* ticks counted, while paused */
    uint64_t switch_at;     /* modes 2, 3: tick at which reload becomes count; 0: no change waits */
};

struct i8254 {
    struct i8254_counter counter[3];
    uint8_t port61; /* bits 3:0 as written */
    struct clock *clock;
    struct irq irq; /* OUT of counter 0 */
    struct timer timer;
    uint64_t next_rise; /* guest ns for which the timer is set, or CLOCK_NEVER */
    uint32_t owed;      /* ticks that the host was too late for */
    bool between;       /* the timer is set for one of them */
};

extern const struct state_desc i8254_state_desc;

int i8254_init(struct i8254 *pit, struct clock *clock, struct irq irq0);
void i8254_reset(struct i8254 *pit);
void i8254_attach(struct i8254 *pit, struct bus *bus);

#endif
