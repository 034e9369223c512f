/* acpi_pm.h - the fixed power-management hardware of ACPI (ACPI specification 6.4, section 4.8).
 *
 *   offset 0   PM1a_STS 16    2   PM1a_EN 16     power button, timer, and nothing else
 *   offset 4   PM1a_CNT 16                       SCI_EN reads one: there is no SMI_CMD
 *   offset 8   PM_TMR   32                       3.579545 MHz, 24 or 32 bits wide
 *   offset 12  GPE0_STS 16    14  GPE0_EN 16
 *
 * The SCI is a level: some status bit is set whose enable bit is set. Writing SLP_EN with the type
 * ACPI_PM_S5 calls power_off; other sleep types do nothing, since the DSDT offers none.
 * All functions are called with the bus lock held. */
#ifndef DOBLE_DEV_ACPI_PM_H
#define DOBLE_DEV_ACPI_PM_H

#include "base/state.h"
#include "bus/bus.h"
#include "bus/clock.h"
#include "bus/irq.h"

#define ACPI_PM_SIZE 16
#define ACPI_PM_EVENT 0
#define ACPI_PM_CONTROL 4
#define ACPI_PM_TIMER 8
#define ACPI_PM_GPE0 12
#define ACPI_PM_TIMER_HZ UINT64_C(3579545)
#define ACPI_PM_S5 5 /* SLP_TYP of soft off; \_S5 in dsdt.asl says the same */

struct acpi_pm {
    /* how it is connected */
    struct clock *clock;
    struct irq sci;
    unsigned timer_bits;             /* 24 or 32 */
    void (*power_off)(void *opaque); /* may be NULL */
    void *opaque;
    struct timer overflow;

    uint16_t pm1_status, pm1_enable, pm1_control;
    uint16_t gpe_status, gpe_enable;
    uint64_t timer_half; /* which half of its range the timer was in when last looked at */
};

/* Connects and resets. Set power_off and opaque afterwards. */
void acpi_pm_init(struct acpi_pm *pm, struct clock *clock, struct irq sci, unsigned timer_bits);
void acpi_pm_reset(struct acpi_pm *pm);
/* Returns the range, for the south bridge to move. */
struct io_range *acpi_pm_attach(struct acpi_pm *pm, struct bus *bus, uint16_t base);

/* Presses the power button. */
void acpi_pm_power_button(struct acpi_pm *pm);
/* Raises general-purpose event 0 to 15. */
void acpi_pm_raise_gpe(struct acpi_pm *pm, unsigned event);

extern const struct state_desc acpi_pm_state_desc;

#endif
