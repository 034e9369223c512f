/* lapic_loan.c - the register page of a local APIC, made from a struct lapic and read back.
 *
 * A one-shot count that has ended is lent as no count at all, because who loads an initial count
 * with nothing left of it would take it for one that ends now. So when neither comes back, what was
 * here before still holds. What comes back as ended may not have interrupted yet: it ends (again)
 * here, since an interrupt too many does less harm than one that is lost. An ExtINT message that
 * waits stays here: it is a line of the PIC that is up, and LINT0 is handed on. */
#include "dev/lapic_loan.h"

#include "dev/lapic_timer.h"

#include <string.h>

enum page_register {
    PAGE_ID = 0x02,
    PAGE_VERSION = 0x03,
    PAGE_TPR = 0x08,
    PAGE_LDR = 0x0d,
    PAGE_DFR = 0x0e,
    PAGE_SVR = 0x0f,
    PAGE_ISR = 0x10,
    PAGE_TMR = 0x18,
    PAGE_IRR = 0x20,
    PAGE_ESR = 0x28,
    PAGE_ICR = 0x30,
    PAGE_ICR_HIGH = 0x31,
    PAGE_LVT = 0x32,
    PAGE_INITIAL_COUNT = 0x38,
    PAGE_CURRENT_COUNT = 0x39,
    PAGE_DIVIDE = 0x3e,
};

static bool is_x2apic(uint64_t base)
{
    return (base & (APIC_BASE_EN | APIC_BASE_EXTD)) == (APIC_BASE_EN | APIC_BASE_EXTD);
}

static void lend_timer(const struct lapic *l, struct cpu_apic_page *page)
{
    uint32_t left = lapic_timer_current_count(l);

    if (l->timer_running && !left)
        left = 1; /* it ends now, and nobody has noticed yet */
    page->tsc_deadline = l->tsc_deadline;
    page->regs[PAGE_DIVIDE] = l->divide;
    page->regs[PAGE_INITIAL_COUNT] = left ? l->initial_count : 0;
    page->regs[PAGE_CURRENT_COUNT] = left;
}

static void lend(const struct lapic *l, struct cpu_apic_page *page)
{
    memset(page, 0, sizeof *page);
    page->base = l->base;
    page->regs[PAGE_ID] = is_x2apic(l->base) ? l->id : l->id << 24;
    page->regs[PAGE_VERSION] = lapic_version();
    page->regs[PAGE_TPR] = l->tpr;
    page->regs[PAGE_LDR] = l->ldr;
    page->regs[PAGE_DFR] = l->dfr;
    page->regs[PAGE_SVR] = l->svr;
    memcpy(&page->regs[PAGE_ISR], l->isr, sizeof l->isr);
    memcpy(&page->regs[PAGE_TMR], l->tmr, sizeof l->tmr);
    memcpy(&page->regs[PAGE_IRR], l->irr, sizeof l->irr);
    page->regs[PAGE_ESR] = l->esr;
    page->regs[PAGE_ICR] = (uint32_t)l->icr;
    page->regs[PAGE_ICR_HIGH] = (uint32_t)(l->icr >> 32);
    memcpy(&page->regs[PAGE_LVT], l->lvt, sizeof l->lvt);
    lend_timer(l, page);
}

void lapic_borrow(void *opaque, struct cpu_apic_page *page, cpu_apic_deliver_fn *deliver,
                  void *deliver_opaque)
{
    struct lapic *l = opaque;

    lend(l, page);
    timer_cancel(l->wire.clock, &l->timer);
    l->on_loan = true;
    l->wire.bus->borrower = deliver;
    l->wire.bus->borrower_opaque = deliver_opaque;
    l->intr_out = l->lint[0];
    irq_set(&l->wire.intr, l->intr_out);
}

static void take_registers(struct lapic *l, const struct cpu_apic_page *page)
{
    l->base = page->base;
    l->tpr = page->regs[PAGE_TPR] & 0xff;
    if (!is_x2apic(l->base))
        l->ldr = page->regs[PAGE_LDR];
    l->dfr = page->regs[PAGE_DFR];
    l->svr = page->regs[PAGE_SVR];
    memcpy(l->isr, &page->regs[PAGE_ISR], sizeof l->isr);
    memcpy(l->tmr, &page->regs[PAGE_TMR], sizeof l->tmr);
    memcpy(l->irr, &page->regs[PAGE_IRR], sizeof l->irr);
    l->esr = page->regs[PAGE_ESR];
    l->icr = (uint64_t)page->regs[PAGE_ICR_HIGH] << 32 | page->regs[PAGE_ICR];
    for (unsigned i = 0; i < LVT_COUNT; i++)
        l->lvt[i] = page->regs[PAGE_LVT + i] & (lapic_lvt_writable(i) | LVT_REMOTE_IRR);
}

void lapic_give_back(void *opaque, const struct cpu_apic_page *page)
{
    struct lapic *l = opaque;
    uint32_t initial = page->regs[PAGE_INITIAL_COUNT], left = page->regs[PAGE_CURRENT_COUNT];

    l->wire.bus->borrower = NULL;
    l->on_loan = false;
    take_registers(l, page);
    l->tsc_deadline = page->tsc_deadline;
    if (initial && !left && (l->lvt[LVT_TIMER] & LVT_TIMER_MODE) == 0)
        left = 1;
    lapic_timer_load(l, initial ? initial : l->initial_count, page->regs[PAGE_DIVIDE], left);
    lapic_update(l);
}

void lapic_end_of_interrupt(void *opaque, uint8_t vector)
{
    struct lapic *l = opaque;

    apic_bus_eoi(l->wire.bus, vector);
}

void lapic_loan_set_lint(struct lapic *lapic, unsigned number, bool rising)
{
    if (number == 1) {
        if (rising)
            irq_set(&lapic->wire.nmi, true);
        return;
    }
    lapic->intr_out = lapic->lint[0];
    irq_set(&lapic->wire.intr, lapic->intr_out);
}
