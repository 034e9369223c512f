/* reset_control.h - the reset control register of Intel's south bridges, and system control port A.
 *
 *   CF9h   bit 1 SYS_RST: hard reset, else soft    bit 2 RST_CPU: a rise resets   (PIIX3 4.2.3.1)
 *          a byte only: wider accesses from CF8h on are PCI configuration addresses, and ignored
 *   92h    bit 0: a rise resets the processor      bit 1: A20 is not masked       (PS/2)
 *
 * Resets go to the callback, which does what it does later, outside the access.
 * All functions are called with the bus lock held. */
#ifndef DOBLE_DEV_RESET_CONTROL_H
#define DOBLE_DEV_RESET_CONTROL_H

#include "base/state.h"
#include "bus/bus.h"
#include "bus/irq.h"

struct reset_control {
    struct irq a20;              /* level: A20 is not masked */
    void (*reset)(void *opaque); /* may be NULL */
    void *opaque;

    uint8_t cf9, port92;
};

/* Connects and resets. Set reset and opaque afterwards. */
void reset_control_init(struct reset_control *rc, struct irq a20);
void reset_control_reset(struct reset_control *rc);
void reset_control_attach(struct reset_control *rc, struct bus *bus);

/* The accesses that the host bridge hands on from CF8h-CFBh; opaque is the struct reset_control. */
extern const struct io_ops reset_control_cf9_ops;

extern const struct state_desc reset_control_state_desc;

#endif
