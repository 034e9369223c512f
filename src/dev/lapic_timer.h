/* lapic_timer.h - the timer of a local APIC: one-shot, periodic, TSC deadline.
 *
 * A part of lapic.c, which alone calls it; SDM vol. 3, 11.5.4. */
#ifndef DOBLE_DEV_LAPIC_TIMER_H
#define DOBLE_DEV_LAPIC_TIMER_H

#include "dev/lapic.h"

void lapic_timer_init(struct lapic *lapic);
/* Stops it and forgets counts and deadline. */
void lapic_timer_reset(struct lapic *lapic);
/* Sets the clock's timer by the registers (after a load, or a change of LVT or TSC offset). */
void lapic_timer_arm(struct lapic *lapic);

uint32_t lapic_timer_current_count(const struct lapic *lapic);
void lapic_timer_set_initial_count(struct lapic *lapic, uint32_t count);
void lapic_timer_set_divide(struct lapic *lapic, uint32_t divide);
/* The LVT entry was written; `old` is what it was. */
void lapic_timer_lvt_changed(struct lapic *lapic, uint32_t old);

/* Puts the timer where it was elsewhere: what is left of the count, 0: it has ended. */
void lapic_timer_load(struct lapic *lapic, uint32_t initial, uint32_t divide, uint32_t current);

/* IA32_TSC_DEADLINE: reads as 0 and ignores writes in the other modes. */
uint64_t lapic_timer_deadline(const struct lapic *lapic);
void lapic_timer_set_deadline(struct lapic *lapic, uint64_t tsc);

#endif
