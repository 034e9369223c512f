/* apic.h - the local APIC of a test guest, through its page of registers (SDM vol. 3, ch. 11). */
#ifndef GUEST_APIC_H
#define GUEST_APIC_H

#include "guest.h"

#define APIC_BASE 0xfee00000ul
#define IOAPIC_BASE 0xfec00000ul

enum apic_register {
    APIC_ID = 0x20,
    APIC_TPR = 0x80,
    APIC_PPR = 0xa0,
    APIC_EOI = 0xb0,
    APIC_LDR = 0xd0,
    APIC_DFR = 0xe0,
    APIC_SVR = 0xf0,
    APIC_ISR = 0x100,
    APIC_IRR = 0x200,
    APIC_ESR = 0x280,
    APIC_ICR = 0x300,
    APIC_ICR_HIGH = 0x310,
    APIC_LVT_TIMER = 0x320,
    APIC_LVT_LINT0 = 0x350,
    APIC_LVT_LINT1 = 0x360,
    APIC_LVT_ERROR = 0x370,
    APIC_TIMER_INITIAL = 0x380,
    APIC_TIMER_CURRENT = 0x390,
    APIC_TIMER_DIVIDE = 0x3e0,
};
#define APIC_ICR_SELF 0x40000u
#define APIC_MASKED 0x10000u
#define APIC_SPURIOUS_VECTOR 0xffu

static inline uint32_t apic_read(enum apic_register r)
{
    return *(volatile uint32_t *)(APIC_BASE + r);
}
static inline void apic_write(enum apic_register r, uint32_t v)
{
    *(volatile uint32_t *)(APIC_BASE + r) = v;
}

/* Enabled, everything masked, nothing pending. */
void apic_start(void);
void apic_send_self(unsigned vector);

#endif
