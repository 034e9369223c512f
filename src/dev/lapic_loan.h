/* lapic_loan.h - a local APIC's state on loan: the processor that executes the guest has one
 * itself.
 *
 * With hardware virtualization the host's kernel can do the work of the local APIC, without leaving
 * the guest for it. While such an engine runs, the registers are there, messages of the APIC bus go
 * there, and the lines LINT0 and LINT1 are handed on as they are; when it stops, the state comes
 * back, and everything looks as if this device had done the work. SDM vol. 3, 11.4.1 has the layout
 * of the register page.
 *
 * For struct cpu_apic; `opaque` is the struct lapic. With the bus lock held. */
#ifndef DOBLE_DEV_LAPIC_LOAN_H
#define DOBLE_DEV_LAPIC_LOAN_H

#include "cpu/cpu.h"
#include "dev/lapic.h"

void lapic_borrow(void *opaque, struct cpu_apic_page *page, cpu_apic_deliver_fn *deliver,
                  void *deliver_opaque);
void lapic_give_back(void *opaque, const struct cpu_apic_page *page);
void lapic_end_of_interrupt(void *opaque, uint8_t vector);

/* --- for lapic.c, while on_loan is set --- */

void lapic_loan_set_lint(struct lapic *lapic, unsigned number, bool rising);

#endif
