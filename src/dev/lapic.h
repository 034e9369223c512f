/* lapic.h - the local APIC of one processor, in xAPIC and x2APIC mode.
 *
 *   PIC INTR -> LINT0 --+                               +-> intr (level: the CPU should take one)
 *        NMI -> LINT1 --+-- LVT ---> IRR -> ISR ------->+-> nmi, smi, init, sipi
 *   timer, errors ------+             ^
 *   apic_bus messages ----------------+
 *
 * SDM vol. 3, chapter 11 (local APIC) and 11.12 (x2APIC). The vCPU thread calls the functions of
 * `struct cpu_apic`; everything runs with the bus lock held.
 *
 * One tick of the timer (before its divider) is a nanosecond of guest time: what CPUID leaf 15h
 * reports as the core crystal clock must be LAPIC_TIMER_HZ. */
#ifndef DOBLE_DEV_LAPIC_H
#define DOBLE_DEV_LAPIC_H

#include "base/state.h"
#include "bus/clock.h"
#include "bus/irq.h"
#include "dev/apic_bus.h"

#define LAPIC_TIMER_HZ 1000000000u
#define LAPIC_DEFAULT_BASE UINT64_C(0xfee00000)

/* IA32_APIC_BASE */
#define APIC_BASE_BSP (1u << 8)
#define APIC_BASE_EXTD (1u << 10)
#define APIC_BASE_EN (1u << 11)

/* The local vector table, in the order of the registers from 320h. */
enum lapic_lvt { LVT_TIMER, LVT_THERMAL, LVT_PERF, LVT_LINT0, LVT_LINT1, LVT_ERROR, LVT_COUNT };

#define LVT_REMOTE_IRR (1u << 14)
#define LVT_LEVEL (1u << 15)
#define LVT_MASKED (1u << 16)
#define LVT_TIMER_MODE (3u << 17)
#define LVT_TIMER_PERIODIC (1u << 17)
#define LVT_TIMER_TSC_DEADLINE (2u << 17)

struct lapic_wiring {
    struct clock *clock;
    struct apic_bus *bus;
    const uint64_t *tsc_offset; /* guest TSC of the CPU = clock_tsc() + this; NULL: 0 */
    unsigned phys_bits;         /* MAXPHYADDR, for the reserved bits of IA32_APIC_BASE */
    struct irq intr;            /* a level */
    struct irq nmi, smi, init;  /* set to true for each event, never to false */
    void (*sipi)(void *opaque, uint8_t vector); /* may be NULL */
    void *sipi_opaque;
    int (*pic_acknowledge)(void *opaque); /* the vector of an ExtINT; may be NULL */
    void *pic_opaque;
};

struct lapic {
    struct lapic_wiring wire;
    uint32_t id;
    uint64_t base; /* IA32_APIC_BASE */
    uint32_t tpr, ldr, dfr, svr;
    uint32_t isr[8], tmr[8], irr[8];
    uint32_t esr, errors; /* as last latched; collected since */
    uint64_t icr;
    uint32_t lvt[LVT_COUNT];
    uint8_t lint[2];        /* input lines as they are now */
    uint8_t extint_message; /* an ExtINT message waits to be acknowledged */
    uint8_t intr_out;       /* what wire.intr was last set to */
    bool on_loan;           /* the registers are elsewhere (lapic_loan.h); not state */

    /* --- lapic_timer.c --- */
    struct timer timer;
    uint32_t initial_count, divide;
    uint8_t timer_running; /* counting down (not in TSC-deadline mode) */
    uint64_t timer_start;  /* guest ns at which initial_count was in the counter */
    uint64_t tsc_deadline; /* IA32_TSC_DEADLINE; 0: not armed */
};

extern const struct state_desc lapic_state_desc;

/* Makes the local APIC with that ID; ID 0 is the bootstrap processor's. The caller adds it to the
 * apic_bus. */
int lapic_init(struct lapic *lapic, uint32_t id, const struct lapic_wiring *wiring);

/* Power-on state. */
void lapic_reset(struct lapic *lapic);

/* Does what firmware does for an operating system: enables the local APIC, LINT0 as ExtINT (the
 * PIC's interrupts pass through) and LINT1 as NMI. For a kernel that is booted directly. */
void lapic_set_virtual_wire(struct lapic *lapic);

/* Input line LINT0 or LINT1; the `set` of a struct irq. */
void lapic_set_lint(void *opaque, unsigned number, bool level);

/* *wiring.tsc_offset has changed: moves a TSC deadline with it. */
void lapic_tsc_changed(void *opaque);

/* --- for struct cpu_apic (cpu/cpu.h); `opaque` is the struct lapic --- */

int lapic_acknowledge(void *opaque);
uint8_t lapic_get_cr8(void *opaque);
void lapic_set_cr8(void *opaque, uint8_t cr8);
bool lapic_rdmsr(void *opaque, uint32_t msr, uint64_t *value);
bool lapic_wrmsr(void *opaque, uint32_t msr, uint64_t value);
uint32_t lapic_mmio_read(void *opaque, uint32_t offset);
void lapic_mmio_write(void *opaque, uint32_t offset, uint32_t value);
uint64_t lapic_mmio_base(void *opaque);

/* --- for apic_bus.c --- */

bool lapic_is_destination(const struct lapic *lapic, uint32_t dest, bool logical);
bool lapic_accepts_fixed(const struct lapic *lapic); /* enabled in hardware and in software */
uint8_t lapic_priority(const struct lapic *lapic);   /* PPR */
/* False: it is disabled and has lost the message. */
bool lapic_accept(struct lapic *lapic, const struct apic_message *message);

/* --- for lapic_timer.c and lapic_loan.c --- */

void lapic_deliver_lvt(struct lapic *lapic, enum lapic_lvt which);
/* Computes wire.intr anew. */
void lapic_update(struct lapic *lapic);
uint32_t lapic_version(void);
uint32_t lapic_lvt_writable(enum lapic_lvt which);

#endif
