/* hpet.h - the high precision event timer: a 64-bit counter at 100 MHz and three comparators.
 *
 *   timer 0 --+-- route 0..31 ----------------------> gsi.set(gsi.opaque, route, level)
 *   timer 1 --+-- legacy replacement on: timer 0 ---> irq0;  timer 1 ---> irq8
 *   timer 2 --+
 *   8254 OUT0, RTC IRQ --> hpet_legacy_input() -----> irq0, irq8 while legacy replacement is off
 *
 * IA-PC HPET specification 1.0a. MMIO at FED00000h. Everything runs with the bus lock held. */
#ifndef DOBLE_DEV_HPET_H
#define DOBLE_DEV_HPET_H

#include "base/state.h"
#include "bus/bus.h"
#include "bus/clock.h"
#include "bus/irq.h"

#define HPET_BASE UINT64_C(0xfed00000)
#define HPET_TIMERS 3
#define HPET_PERIOD_FS 10000000u        /* 10 ns */
#define HPET_ROUTES_DEFAULT 0x00f00000u /* inputs 20 to 23 */

/* The low half of the capabilities register, which the ACPI table repeats. */
#define HPET_ID 0x8086a201u

struct hpet_timer {
    uint64_t config;
    uint64_t comparator;
    uint64_t period; /* periodic: what the comparator advances by */
    struct timer timer;
    uint64_t due; /* when `timer` fires, while the state is saved or loaded */
    struct hpet *hpet;
};

struct hpet {
    uint64_t config;
    uint64_t status;  /* level-triggered interrupts that are active */
    uint64_t counter; /* the main counter while it is halted; else counter - ticks of the clock */
    struct hpet_timer timer[HPET_TIMERS];
    uint8_t legacy_in[2]; /* the 8254's and the RTC's lines as they are now */
    struct clock *clock;
    struct irq gsi;       /* `number` is not used */
    struct irq legacy[2]; /* IRQ 0 and IRQ 8 */
    uint32_t routes;
};

extern const struct state_desc hpet_state_desc;

/* `routes`: the inputs of the interrupt controller that the timers may be routed to. */
int hpet_init(struct hpet *hpet, struct clock *clock, struct irq gsi, uint32_t routes,
              struct irq irq0, struct irq irq8);
void hpet_reset(struct hpet *hpet);
void hpet_attach(struct hpet *hpet, struct bus *bus);

/* The lines that legacy replacement cuts off: 0 from the 8254, 1 from the RTC. The `set` of a
 * struct irq. */
void hpet_legacy_input(void *opaque, unsigned number, bool level);

#endif
