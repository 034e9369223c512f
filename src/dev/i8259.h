/* i8259.h - the two programmable interrupt controllers of a PC, as one device.
 *
 *   IRQ 0 1   3..7 -> master 20h/21h ----> intr (INTR of the CPU, through LINT0)
 *             2 <---- slave A0h/A1h <- IRQ 8..15
 *   edge/level control registers: 4D0h (IRQ 0-7), 4D1h (IRQ 8-15)
 *
 * Intel 8259A data sheet; 82371SB (PIIX3) for ELCR. Everything runs with the bus lock held. */
#ifndef DOBLE_DEV_I8259_H
#define DOBLE_DEV_I8259_H

#include "base/state.h"
#include "bus/bus.h"
#include "bus/irq.h"

struct i8259_chip {
    uint8_t lines; /* inputs as they are now */
    uint8_t irr, isr, imr;
    uint8_t elcr;         /* 1: level-triggered */
    uint8_t vector_base;  /* ICW2, bits 7:3 */
    uint8_t icw1, icw4;   /* as written; icw4 is 0 if ICW1 said that none comes */
    uint8_t icw_expected; /* 2..4: the ICW that comes next; 0: initialized */
    uint8_t lowest;       /* the input of lowest priority */
    uint8_t rotate_aeoi;
    uint8_t special_mask;
    uint8_t read_isr; /* OCW3: port 0 reads ISR, not IRR */
    uint8_t poll;     /* the next read is a poll */
};

struct i8259 {
    struct i8259_chip chip[2]; /* master, slave */
    uint8_t out;               /* INT of the master */
    struct irq intr;
};

extern const struct state_desc i8259_state_desc;

/* `intr` is driven with the master's INT. */
int i8259_init(struct i8259 *pic, struct irq intr);
void i8259_reset(struct i8259 *pic);
void i8259_attach(struct i8259 *pic, struct bus *bus);

/* Input `number` (0 to 15; 2 is the cascade and ignored); the `set` of a struct irq. */
void i8259_set_irq(void *opaque, unsigned number, bool level);

/* The processor's INTA cycles: the vector, which is that of IRQ 7 or 15 if the request is gone. */
int i8259_acknowledge(void *opaque);

#endif
