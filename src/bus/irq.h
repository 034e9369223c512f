/* irq.h - an interrupt line as a value: whom to call, and as what number.
 *
 * A device holds a `struct irq` and raises or lowers it; it knows nothing of PICs. The board
 * (machine/pc.c) decides what is at the other end. Called with the bus lock held. */
#ifndef DOBLE_BUS_IRQ_H
#define DOBLE_BUS_IRQ_H

#include "base/types.h"

struct irq {
    void (*set)(void *opaque, unsigned number, bool level);
    void *opaque;
    unsigned number;
};

/* Drives the line. A line that is not connected (set == NULL) ignores it. */
static inline void irq_set(const struct irq *irq, bool level)
{
    if (irq->set)
        irq->set(irq->opaque, irq->number, level);
}

/* An edge: up and down again. */
static inline void irq_pulse(const struct irq *irq)
{
    irq_set(irq, true);
    irq_set(irq, false);
}

#endif
