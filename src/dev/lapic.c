/* lapic.c - the local APIC: registers, acceptance and priority of interrupts, IPIs.
 *
 * SDM vol. 3, chapter 11. The registers have one number in both modes: the MMIO offset divided by
 * 16, which is also the MSR's number minus 800h. What the CPU sees (intr) is a function of IRR,
 * ISR, TPR and the ExtINT inputs, recomputed after every change.
 *
 * The model is a "14h" APIC (Pentium 4 and later): arbitration is by processor priority only; the
 * APR and RRD registers read as 0; the delivery status is always idle; the APIC ID is fixed. It can
 * suppress EOI broadcasts. There is no CMCI entry. Polarity bits are kept and have no effect,
 * because lines are logical levels.
 *
 * A processor whose APIC is disabled in IA32_APIC_BASE has LINT0 as INTR and LINT1 as NMI. */
#include "dev/lapic.h"

#include "base/trace.h"
#include "dev/lapic_loan.h"
#include "dev/lapic_timer.h"

#include <errno.h>
#include <string.h>

#define MSR_APIC_BASE 0x1b
#define MSR_TSC_DEADLINE 0x6e0
#define MSR_X2APIC 0x800
#define X2APIC_REGISTERS 0x100

/* Register numbers. */
#define REG_ID 0x02
#define REG_VERSION 0x03
#define REG_TPR 0x08
#define REG_APR 0x09
#define REG_PPR 0x0a
#define REG_EOI 0x0b
#define REG_RRD 0x0c
#define REG_LDR 0x0d
#define REG_DFR 0x0e
#define REG_SVR 0x0f
#define REG_ISR 0x10
#define REG_TMR 0x18
#define REG_IRR 0x20
#define REG_ESR 0x28
#define REG_ICR 0x30
#define REG_ICR_HIGH 0x31
#define REG_LVT 0x32 /* to 37h */
#define REG_INITIAL_COUNT 0x38
#define REG_CURRENT_COUNT 0x39
#define REG_DIVIDE 0x3e
#define REG_SELF_IPI 0x3f /* x2APIC */

/* 14h; highest LVT entry 5; EOI broadcast suppression is there. */
#define VERSION_VALUE (0x14u | (LVT_COUNT - 1) << 16 | 1u << 24)

#define SVR_ENABLE (1u << 8)
#define SVR_NO_EOI_BROADCAST (1u << 12)
#define SVR_WRITABLE 0x11ffu
#define DFR_FLAT 0xfu /* bits 31:28 */
#define DFR_ONES 0x0fffffffu

#define ESR_SEND_ILLEGAL_VECTOR (1u << 5)
#define ESR_RECEIVE_ILLEGAL_VECTOR (1u << 6)
#define ESR_ILLEGAL_REGISTER (1u << 7)

#define ICR_LOGICAL (1u << 11)
#define ICR_STATUS (1u << 12) /* read-only */
#define ICR_ASSERT (1u << 14)
#define ICR_LEVEL (1u << 15)
#define ICR_WRITABLE 0x000ccfffu
#define SHORTHAND_NONE 0
#define SHORTHAND_SELF 1
#define SHORTHAND_ALL_BUT_SELF 3

#define LVT_STATUS (1u << 12) /* read-only */
#define LVT_DELIVERY(lvt) ((lvt) >> 8 & 7)

static const uint32_t lvt_writable[LVT_COUNT] = {
    [LVT_TIMER] = 0x700ff, [LVT_THERMAL] = 0x107ff, [LVT_PERF] = 0x107ff,
    [LVT_LINT0] = 0x1a7ff, [LVT_LINT1] = 0x1a7ff,   [LVT_ERROR] = 0x100ff,
};

static bool is_enabled(const struct lapic *l)
{
    return l->base & APIC_BASE_EN;
}

static bool is_x2apic(const struct lapic *l)
{
    return (l->base & (APIC_BASE_EN | APIC_BASE_EXTD)) == (APIC_BASE_EN | APIC_BASE_EXTD);
}

uint32_t lapic_version(void)
{
    return VERSION_VALUE;
}

uint32_t lapic_lvt_writable(enum lapic_lvt which)
{
    return lvt_writable[which];
}

bool lapic_accepts_fixed(const struct lapic *lapic)
{
    return is_enabled(lapic) && lapic->svr & SVR_ENABLE;
}

/* --- the 256-bit registers --- */

static bool bit_test(const uint32_t *reg, unsigned vector)
{
    return reg[vector >> 5] >> (vector & 31) & 1;
}

static void bit_assign(uint32_t *reg, unsigned vector, bool on)
{
    uint32_t bit = UINT32_C(1) << (vector & 31);

    reg[vector >> 5] = on ? reg[vector >> 5] | bit : reg[vector >> 5] & ~bit;
}

/* The highest vector that is set, or -1. */
static int highest(const uint32_t *reg)
{
    for (int i = 7; i >= 0; i--)
        if (reg[i])
            return i * 32 + 31 - __builtin_clz(reg[i]);
    return -1;
}

/* --- priorities and the output --- */

uint8_t lapic_priority(const struct lapic *lapic)
{
    int in_service = highest(lapic->isr);
    unsigned isrv = in_service < 0 ? 0 : (unsigned)in_service;

    return (uint8_t)((lapic->tpr & 0xf0) >= (isrv & 0xf0) ? lapic->tpr : isrv & 0xf0);
}

/* The vector that the processor would get from IRR now, or -1. */
static int deliverable(const struct lapic *l)
{
    int vector = highest(l->irr);

    if (!is_enabled(l) || vector < 0 || (vector & 0xf0) <= (lapic_priority(l) & 0xf0))
        return -1;
    return vector;
}

static bool extint_ready(const struct lapic *l)
{
    uint32_t lvt = l->lvt[LVT_LINT0];

    if (!is_enabled(l))
        return l->lint[0];
    if (l->extint_message)
        return true;
    return l->lint[0] && !(lvt & LVT_MASKED) && LVT_DELIVERY(lvt) == APIC_EXTINT;
}

void lapic_update(struct lapic *lapic)
{
    bool out = extint_ready(lapic) || deliverable(lapic) >= 0;

    if (out == lapic->intr_out)
        return;
    lapic->intr_out = out;
    irq_set(&lapic->wire.intr, out);
}

/* --- acceptance --- */

static void report_error(struct lapic *l, uint32_t bits)
{
    bool is_new = bits & ~l->errors;

    trace_lapic_error(l->id, bits);
    l->errors |= bits;
    if (is_new)
        lapic_deliver_lvt(l, LVT_ERROR);
}

static void accept_vector(struct lapic *l, uint8_t vector, bool level)
{
    if (vector < 16) {
        report_error(l, ESR_RECEIVE_ILLEGAL_VECTOR);
        return;
    }
    bit_assign(l->irr, vector, true);
    bit_assign(l->tmr, vector, level);
    lapic_update(l);
}

/* An event of a local source. Delivery modes that make no sense for it are ignored. ExtINT is not
 * an event but the level of LINT0: extint_ready() looks at it. */
void lapic_deliver_lvt(struct lapic *lapic, enum lapic_lvt which)
{
    uint32_t lvt = lapic->lvt[which];

    if (lvt & LVT_MASKED || !is_enabled(lapic))
        return;
    switch (LVT_DELIVERY(lvt)) {
    case APIC_FIXED: accept_vector(lapic, (uint8_t)lvt, false); break;
    case APIC_SMI: irq_set(&lapic->wire.smi, true); break;
    case APIC_NMI: irq_set(&lapic->wire.nmi, true); break;
    case APIC_INIT: irq_set(&lapic->wire.init, true); break;
    default: break;
    }
}

/* Level-triggered LINT inputs interrupt once until their EOI. */
static void service_lint(struct lapic *l, unsigned number, bool rising)
{
    enum lapic_lvt which = number ? LVT_LINT1 : LVT_LINT0;
    uint32_t *lvt = &l->lvt[which];

    if (LVT_DELIVERY(*lvt) != APIC_FIXED || !(*lvt & LVT_LEVEL)) {
        if (rising)
            lapic_deliver_lvt(l, which);
    } else if (l->lint[number] && !(*lvt & (LVT_REMOTE_IRR | LVT_MASKED)) && is_enabled(l)) {
        *lvt |= LVT_REMOTE_IRR;
        accept_vector(l, (uint8_t)*lvt, true);
    }
}

void lapic_set_lint(void *opaque, unsigned number, bool level)
{
    struct lapic *l = opaque;
    bool rising = level && !l->lint[number & 1];

    number &= 1;
    l->lint[number] = level;
    if (l->on_loan) {
        lapic_loan_set_lint(l, number, rising);
        return;
    }
    if (is_enabled(l))
        service_lint(l, number, rising);
    else if (number == 1 && rising)
        irq_set(&l->wire.nmi, true);
    lapic_update(l);
}

static void reset_registers(struct lapic *l)
{
    l->tpr = l->ldr = l->esr = l->errors = 0;
    l->dfr = UINT32_MAX;
    l->svr = 0xff;
    l->icr = 0;
    memset(l->irr, 0, sizeof(l->irr));
    memset(l->isr, 0, sizeof(l->isr));
    memset(l->tmr, 0, sizeof(l->tmr));
    for (unsigned i = 0; i < LVT_COUNT; i++)
        l->lvt[i] = LVT_MASKED;
    l->extint_message = 0;
    lapic_timer_reset(l);
    lapic_update(l);
}

bool lapic_accept(struct lapic *lapic, const struct apic_message *message)
{
    bool is_software_enabled = lapic->svr & SVR_ENABLE;

    if (!is_enabled(lapic))
        return false;
    trace_lapic_accept(lapic->id, message->delivery, message->vector, message->level);
    switch (message->delivery) {
    case APIC_FIXED:
    case APIC_LOWEST:
        if (is_software_enabled)
            accept_vector(lapic, message->vector, message->level);
        return is_software_enabled;
    case APIC_SMI: irq_set(&lapic->wire.smi, true); break;
    case APIC_NMI: irq_set(&lapic->wire.nmi, true); break;
    case APIC_INIT:
        reset_registers(lapic); /* INIT keeps IA32_APIC_BASE and the ID (SDM 11.4.7.3) */
        irq_set(&lapic->wire.init, true);
        break;
    case APIC_STARTUP:
        if (lapic->wire.sipi)
            lapic->wire.sipi(lapic->wire.sipi_opaque, message->vector);
        break;
    case APIC_EXTINT:
        lapic->extint_message = is_software_enabled;
        lapic_update(lapic);
        break;
    default: break;
    }
    return true;
}

/* --- destinations (SDM 11.6.2) --- */

static uint32_t logical_id(const struct lapic *l)
{
    return is_x2apic(l) ? (l->id >> 4) << 16 | 1u << (l->id & 15) : l->ldr;
}

static bool is_logical_destination(const struct lapic *l, uint32_t dest)
{
    uint32_t id = logical_id(l);

    if (is_x2apic(l))
        return id >> 16 == dest >> 16 && (id & dest & 0xffff);
    id >>= 24;
    if (dest > 0xff)
        return false;
    if (l->dfr >> 28 == DFR_FLAT)
        return id & dest;
    return id >> 4 == dest >> 4 && (id & dest & 15); /* clusters of four */
}

bool lapic_is_destination(const struct lapic *lapic, uint32_t dest, bool logical)
{
    if (dest == APIC_BROADCAST)
        return true;
    return logical ? is_logical_destination(lapic, dest) : lapic->id == dest;
}

/* --- the processor's side --- */

int lapic_acknowledge(void *opaque)
{
    struct lapic *l = opaque;
    int vector = -1;

    if (l->on_loan || extint_ready(l)) {
        l->extint_message = 0;
        if (l->wire.pic_acknowledge)
            vector = l->wire.pic_acknowledge(l->wire.pic_opaque);
    } else if ((vector = deliverable(l)) >= 0) {
        bit_assign(l->irr, (unsigned)vector, false);
        bit_assign(l->isr, (unsigned)vector, true);
    }
    trace_lapic_acknowledge(l->id, vector);
    lapic_update(l);
    return vector;
}

static void write_eoi(struct lapic *l)
{
    int vector = highest(l->isr);

    if (vector < 0)
        return;
    trace_lapic_eoi(l->id, (unsigned)vector);
    bit_assign(l->isr, (unsigned)vector, false);
    if (bit_test(l->tmr, (unsigned)vector)) {
        for (unsigned i = 0; i < 2; i++) {
            uint32_t *lvt = &l->lvt[LVT_LINT0 + i];

            if (*lvt & LVT_REMOTE_IRR && (uint8_t)*lvt == vector) {
                *lvt &= ~LVT_REMOTE_IRR;
                service_lint(l, i, false);
            }
        }
        if (!(l->svr & SVR_NO_EOI_BROADCAST))
            apic_bus_eoi(l->wire.bus, (uint8_t)vector);
    }
    lapic_update(l);
}

uint8_t lapic_get_cr8(void *opaque)
{
    struct lapic *l = opaque;

    return (uint8_t)(l->tpr >> 4 & 15);
}

void lapic_set_cr8(void *opaque, uint8_t cr8)
{
    struct lapic *l = opaque;

    l->tpr = (uint32_t)(cr8 & 15) << 4;
    lapic_update(l);
}

/* --- inter-processor interrupts (SDM 11.6) --- */

static void send_ipi(struct lapic *l)
{
    uint32_t low = (uint32_t)l->icr, high = (uint32_t)(l->icr >> 32);
    unsigned shorthand = low >> 18 & 3;
    struct apic_message message = {
        .dest = is_x2apic(l) ? high : apic_dest8((uint8_t)(high >> 24)),
        .logical = low & ICR_LOGICAL,
        .delivery = low >> 8 & 7,
        .vector = (uint8_t)low,
    };

    if (message.delivery == APIC_RESERVED || message.delivery == APIC_EXTINT)
        return;
    if (message.delivery == APIC_INIT && !(low & ICR_ASSERT) && low & ICR_LEVEL)
        return; /* INIT level de-assert: nothing on processors without an APIC serial bus */
    if (message.delivery <= APIC_LOWEST && message.vector < 16) {
        report_error(l, ESR_SEND_ILLEGAL_VECTOR);
        return;
    }
    if (shorthand == SHORTHAND_SELF) {
        lapic_accept(l, &message);
        return;
    }
    if (shorthand != SHORTHAND_NONE)
        message.dest = APIC_BROADCAST;
    if (shorthand == SHORTHAND_ALL_BUT_SELF)
        message.except = l;
    apic_deliver(l->wire.bus, &message);
}

/* --- registers --- */

static void write_lvt(struct lapic *l, unsigned which, uint32_t value)
{
    uint32_t old = l->lvt[which];

    value &= lvt_writable[which];
    if (!(l->svr & SVR_ENABLE))
        value |= LVT_MASKED;
    if (value & LVT_LEVEL)
        value |= old & LVT_REMOTE_IRR;
    l->lvt[which] = value;
    if (which == LVT_TIMER)
        lapic_timer_lvt_changed(l, old);
    else if (which == LVT_LINT0 || which == LVT_LINT1)
        service_lint(l, which - LVT_LINT0, false);
}

static void write_svr(struct lapic *l, uint32_t value)
{
    l->svr = value & SVR_WRITABLE;
    if (l->svr & SVR_ENABLE)
        return;
    for (unsigned i = 0; i < LVT_COUNT; i++)
        write_lvt(l, i, l->lvt[i]); /* all are masked now */
}

/* Errors collected until now become visible, and collecting starts again (SDM 11.5.3). */
static void write_esr(struct lapic *l)
{
    l->esr = l->errors;
    l->errors = 0;
}

static void write_icr_low(struct lapic *l, uint32_t value)
{
    l->icr = (l->icr & ~UINT64_C(0xffffffff)) | (value & ICR_WRITABLE);
    send_ipi(l);
}

/* False: there is no such register, or it is read-only. */
static bool write_register(struct lapic *l, unsigned reg, uint32_t value)
{
    trace_lapic_write(l->id, reg, value);
    switch (reg) {
    case REG_TPR: l->tpr = value & 0xff; break;
    case REG_EOI: write_eoi(l); break;
    case REG_LDR: l->ldr = value & 0xff000000; break;
    case REG_DFR: l->dfr = value | DFR_ONES; break;
    case REG_SVR: write_svr(l, value); break;
    case REG_ESR: write_esr(l); break;
    case REG_ICR: write_icr_low(l, value); break;
    case REG_ICR_HIGH: l->icr = (uint32_t)l->icr | (uint64_t)(value & 0xff000000) << 32; break;
    case REG_LVT ... REG_LVT + LVT_COUNT - 1: write_lvt(l, reg - REG_LVT, value); break;
    case REG_INITIAL_COUNT: lapic_timer_set_initial_count(l, value); break;
    case REG_DIVIDE: lapic_timer_set_divide(l, value); break;
    default: return false;
    }
    lapic_update(l);
    return true;
}

static bool read_register(const struct lapic *l, unsigned reg, uint32_t *value)
{
    switch (reg) {
    case REG_ID: *value = is_x2apic(l) ? l->id : l->id << 24; break;
    case REG_VERSION: *value = VERSION_VALUE; break;
    case REG_TPR: *value = l->tpr; break;
    case REG_PPR: *value = lapic_priority(l); break;
    case REG_APR:
    case REG_RRD:
    case REG_EOI: *value = 0; break;
    case REG_LDR: *value = logical_id(l); break;
    case REG_DFR: *value = l->dfr; break;
    case REG_SVR: *value = l->svr; break;
    case REG_ISR ... REG_ISR + 7: *value = l->isr[reg - REG_ISR]; break;
    case REG_TMR ... REG_TMR + 7: *value = l->tmr[reg - REG_TMR]; break;
    case REG_IRR ... REG_IRR + 7: *value = l->irr[reg - REG_IRR]; break;
    case REG_ESR: *value = l->esr; break;
    case REG_ICR: *value = (uint32_t)l->icr; break;
    case REG_ICR_HIGH: *value = (uint32_t)(l->icr >> 32); break;
    case REG_LVT ... REG_LVT + LVT_COUNT - 1: *value = l->lvt[reg - REG_LVT]; break;
    case REG_INITIAL_COUNT: *value = l->initial_count; break;
    case REG_CURRENT_COUNT: *value = lapic_timer_current_count(l); break;
    case REG_DIVIDE: *value = l->divide; break;
    default: return false;
    }
    trace_lapic_read(l->id, reg, *value);
    return true;
}

/* --- xAPIC: memory --- */

/* Registers are 32 bits wide on 16-byte boundaries; what lies between reads as 0. */
uint32_t lapic_mmio_read(void *opaque, uint32_t offset)
{
    struct lapic *l = opaque;
    uint32_t value = 0;

    if (offset & 15)
        return 0;
    if (offset > 0xfff || !read_register(l, offset >> 4, &value)) {
        report_error(l, ESR_ILLEGAL_REGISTER);
        return 0;
    }
    return value;
}

void lapic_mmio_write(void *opaque, uint32_t offset, uint32_t value)
{
    struct lapic *l = opaque;

    if (offset & 15)
        return;
    if (offset > 0xfff || !write_register(l, offset >> 4, value))
        report_error(l, ESR_ILLEGAL_REGISTER);
}

uint64_t lapic_mmio_base(void *opaque)
{
    const struct lapic *l = opaque;

    if (!is_enabled(l) || is_x2apic(l))
        return UINT64_MAX;
    return l->base & PAGE_MASK;
}

/* --- x2APIC: model-specific registers (SDM 11.12) --- */

static bool x2apic_read(const struct lapic *l, unsigned reg, uint64_t *value)
{
    uint32_t low;

    switch (reg) {
    case REG_ICR: *value = l->icr; return true;
    case REG_APR:
    case REG_RRD:
    case REG_EOI:
    case REG_DFR:
    case REG_ICR_HIGH: return false;
    default: break;
    }
    if (!read_register(l, reg, &low))
        return false;
    *value = low;
    return true;
}

/* The bits that may be set in a write; false: the register is absent or read-only. */
static bool x2apic_writable(unsigned reg, uint64_t *bits)
{
    switch (reg) {
    case REG_TPR:
    case REG_SELF_IPI: *bits = 0xff; return true;
    case REG_EOI:
    case REG_ESR: *bits = 0; return true;
    case REG_SVR: *bits = SVR_WRITABLE; return true;
    case REG_ICR: *bits = UINT64_C(0xffffffff00000000) | ICR_WRITABLE; return true;
    case REG_LVT ... REG_LVT + LVT_COUNT - 1:
        *bits = lvt_writable[reg - REG_LVT] | LVT_STATUS | LVT_REMOTE_IRR;
        return true;
    case REG_INITIAL_COUNT: *bits = UINT32_MAX; return true;
    case REG_DIVIDE: *bits = 0xb; return true;
    default: return false;
    }
}

static bool x2apic_write(struct lapic *l, unsigned reg, uint64_t value)
{
    uint64_t bits;

    if (!x2apic_writable(reg, &bits) || value & ~bits)
        return false;
    if (reg == REG_ICR) {
        trace_lapic_write(l->id, reg, value);
        l->icr = value;
        send_ipi(l);
    } else if (reg == REG_SELF_IPI) {
        l->icr = value | SHORTHAND_SELF << 18;
        send_ipi(l);
    } else {
        return write_register(l, reg, (uint32_t)value);
    }
    return true;
}

/* Reserved bits, and the transitions that the SDM's figure 11-27 allows: x2APIC is entered from
 * xAPIC only, and left for "disabled" only. */
static bool base_is_valid(const struct lapic *l, uint64_t value)
{
    uint64_t reserved = UINT64_C(0x2ff) | ~((UINT64_C(1) << l->wire.phys_bits) - 1);
    bool was_enabled = l->base & APIC_BASE_EN, was_x2apic = l->base & APIC_BASE_EXTD;
    bool enable = value & APIC_BASE_EN, x2apic = value & APIC_BASE_EXTD;

    if (value & reserved)
        return false;
    if (x2apic)
        return enable && was_enabled;
    return !(was_x2apic && enable);
}

static bool write_base(struct lapic *l, uint64_t value)
{
    uint64_t old = l->base;

    if (!base_is_valid(l, value))
        return false;
    trace_lapic_base(l->id, value);
    l->base = value;
    if (old & APIC_BASE_EN && !(value & APIC_BASE_EN))
        reset_registers(l); /* nothing survives being disabled (SDM 11.4.3) */
    if (is_x2apic(l) && !(old & APIC_BASE_EXTD))
        l->icr = (uint32_t)l->icr;
    lapic_update(l);
    return true;
}

bool lapic_rdmsr(void *opaque, uint32_t msr, uint64_t *value)
{
    struct lapic *l = opaque;

    if (msr == MSR_APIC_BASE) {
        *value = l->base;
        return true;
    }
    if (msr == MSR_TSC_DEADLINE) {
        *value = lapic_timer_deadline(l);
        return true;
    }
    return is_x2apic(l) && msr - MSR_X2APIC < X2APIC_REGISTERS &&
           x2apic_read(l, msr - MSR_X2APIC, value);
}

bool lapic_wrmsr(void *opaque, uint32_t msr, uint64_t value)
{
    struct lapic *l = opaque;

    if (msr == MSR_APIC_BASE)
        return write_base(l, value);
    if (msr == MSR_TSC_DEADLINE) {
        lapic_timer_set_deadline(l, value);
        return true;
    }
    return is_x2apic(l) && msr - MSR_X2APIC < X2APIC_REGISTERS &&
           x2apic_write(l, msr - MSR_X2APIC, value);
}

void lapic_tsc_changed(void *opaque)
{
    struct lapic *l = opaque;

    if (!l->on_loan)
        lapic_timer_arm(l);
}

/* --- the device --- */

int lapic_init(struct lapic *lapic, uint32_t id, const struct lapic_wiring *wiring)
{
    if (wiring->phys_bits < 32 || wiring->phys_bits > 52)
        return -EINVAL;
    memset(lapic, 0, sizeof(*lapic));
    lapic->wire = *wiring;
    lapic->id = id;
    lapic_timer_init(lapic);
    lapic_reset(lapic);
    return 0;
}

void lapic_reset(struct lapic *lapic)
{
    lapic->base = LAPIC_DEFAULT_BASE | APIC_BASE_EN | (lapic->id == 0 ? APIC_BASE_BSP : 0);
    reset_registers(lapic);
}

void lapic_set_virtual_wire(struct lapic *lapic)
{
    write_register(lapic, REG_SVR, SVR_ENABLE | 0xff);
    write_register(lapic, REG_LVT + LVT_LINT0, APIC_EXTINT << 8);
    write_register(lapic, REG_LVT + LVT_LINT1, APIC_NMI << 8);
}

static int loaded(void *object, struct err *err)
{
    struct lapic *l = object;
    uint64_t reserved = UINT64_C(0x2ff) | ~((UINT64_C(1) << l->wire.phys_bits) - 1);

    if (l->base & reserved || (l->base & (APIC_BASE_EN | APIC_BASE_EXTD)) == APIC_BASE_EXTD)
        return err_set(err, -EINVAL, "lapic: IA32_APIC_BASE %#llx has reserved bits set",
                       (unsigned long long)l->base);
    for (unsigned i = 0; i < LVT_COUNT; i++)
        l->lvt[i] &= lvt_writable[i] | LVT_REMOTE_IRR;
    l->tpr &= 0xff;
    l->divide &= 0xb;
    lapic_timer_arm(l);
    irq_set(&l->wire.intr, l->intr_out);
    lapic_update(l);
    return 0;
}

static const struct field fields[] = {
    FIELD(struct lapic, base),        FIELD(struct lapic, tpr),
    FIELD(struct lapic, ldr),         FIELD(struct lapic, dfr),
    FIELD(struct lapic, svr),         FIELD_ARRAY(struct lapic, isr),
    FIELD_ARRAY(struct lapic, tmr),   FIELD_ARRAY(struct lapic, irr),
    FIELD(struct lapic, esr),         FIELD(struct lapic, errors),
    FIELD(struct lapic, icr),         FIELD_ARRAY(struct lapic, lvt),
    FIELD_ARRAY(struct lapic, lint),  FIELD(struct lapic, extint_message),
    FIELD(struct lapic, intr_out),    FIELD(struct lapic, initial_count),
    FIELD(struct lapic, divide),      FIELD(struct lapic, timer_running),
    FIELD(struct lapic, timer_start), FIELD(struct lapic, tsc_deadline),
};

const struct state_desc lapic_state_desc = {
    .name = "lapic",
    .version = 1,
    .fields = fields,
    .field_count = ARRAY_SIZE(fields),
    .loaded = loaded,
};
