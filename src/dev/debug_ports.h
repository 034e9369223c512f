/* debug_ports.h - ports through which a guest talks to whoever develops it.
 *
 *   80h          POST code: a latch that reads back what was written
 *   E9h, 402h    debug console: each byte written is a character; reads give E9h, by which SeaBIOS
 *                and others know that it is there. Lines are trace events
 *   exit_port    (chosen by the user, 4 ports) a write ends the machine with that value
 *
 * All functions are called with the bus lock held. */
#ifndef DOBLE_DEV_DEBUG_PORTS_H
#define DOBLE_DEV_DEBUG_PORTS_H

#include "base/state.h"
#include "bus/bus.h"

#define DEBUG_PORTS_NO_EXIT (-1)

#define DEBUG_PORTS_LINE 128

struct debug_ports {
    void (*console)(void *opaque, uint8_t byte); /* may be NULL */
    void (*exit)(void *opaque, uint32_t value);  /* may be NULL */
    void *opaque;
    int exit_port; /* or DEBUG_PORTS_NO_EXIT */

    char line[DEBUG_PORTS_LINE]; /* of the debug console, until its end comes */
    unsigned length;

    uint8_t post;
};

/* Set console, exit and opaque afterwards. */
void debug_ports_init(struct debug_ports *ports, int exit_port);
void debug_ports_reset(struct debug_ports *ports);
void debug_ports_attach(struct debug_ports *ports, struct bus *bus);

extern const struct state_desc debug_ports_state_desc;

#endif
