/* acpi_pm.c - see acpi_pm.h.
 *
 * The registers are written byte by byte whatever the access, because status bits are cleared by
 * writing ones and nothing depends on the order of bytes. TMR_STS is set whenever the timer's top
 * bit changes (4.8.3.3), which is noticed when somebody looks, or by a timer while it may
 * interrupt. */
#include "dev/acpi_pm.h"

#include "base/trace.h"

#include <errno.h>
#include <string.h>

#define PM1_TMR 0x0001u
#define PM1_PWRBTN 0x0100u
#define PM1_EVENTS (PM1_TMR | PM1_PWRBTN)
#define PM1_ENABLES (PM1_EVENTS | 0x0620u) /* the others hold what is written: GBL, SLPBTN, RTC */

#define PM1_SCI_EN 0x0001u
#define PM1_SLP_EN 0x2000u
#define PM1_SLP_TYP_SHIFT 10
#define PM1_CONTROL_KEEP 0x1c02u /* SLP_TYP and BM_RLD */

static uint64_t timer_ticks(const struct acpi_pm *pm)
{
    return muldiv64(clock_now(pm->clock), ACPI_PM_TIMER_HZ, 1000000000);
}

static void sync_timer(struct acpi_pm *pm)
{
    uint64_t half = timer_ticks(pm) >> (pm->timer_bits - 1);

    if (half != pm->timer_half)
        pm->pm1_status |= PM1_TMR;
    pm->timer_half = half;
}

/* The SCI and the overflow timer follow from the registers. */
static void refresh(struct acpi_pm *pm)
{
    uint64_t next = (pm->timer_half + 1) << (pm->timer_bits - 1);

    irq_set(&pm->sci,
            (pm->pm1_status & pm->pm1_enable & PM1_EVENTS) || (pm->gpe_status & pm->gpe_enable));
    if ((pm->pm1_enable & PM1_TMR) && !(pm->pm1_status & PM1_TMR))
        timer_set(pm->clock, &pm->overflow, muldiv64(next, 1000000000, ACPI_PM_TIMER_HZ) + 1);
    else
        timer_cancel(pm->clock, &pm->overflow);
}

static void overflow_fire(void *opaque)
{
    sync_timer(opaque);
    refresh(opaque);
}

/* All registers as they lie in the address space. */
static void snapshot(struct acpi_pm *pm, uint8_t image[ACPI_PM_SIZE])
{
    uint64_t mask = (UINT64_C(1) << pm->timer_bits) - 1;
    uint32_t ticks = (uint32_t)(timer_ticks(pm) & mask);
    const uint16_t words[ACPI_PM_SIZE / 2] = {
        pm->pm1_status,
        pm->pm1_enable,
        pm->pm1_control | PM1_SCI_EN,
        0,
        (uint16_t)ticks,
        (uint16_t)(ticks >> 16),
        pm->gpe_status,
        pm->gpe_enable,
    };

    for (unsigned i = 0; i < ACPI_PM_SIZE; i++)
        image[i] = (uint8_t)(words[i / 2] >> (i % 2 * 8));
}

static uint64_t acpi_pm_read(void *opaque, uint64_t offset, unsigned size)
{
    struct acpi_pm *pm = opaque;
    uint8_t image[ACPI_PM_SIZE];
    uint32_t value = 0;

    sync_timer(pm);
    snapshot(pm, image);
    for (unsigned i = 0; i < size && offset + i < ACPI_PM_SIZE; i++)
        value |= (uint32_t)image[offset + i] << (8 * i);
    trace_acpi_pm_read((unsigned)offset, size, value);
    return value;
}

static void write_sleep(struct acpi_pm *pm)
{
    unsigned type = pm->pm1_control >> PM1_SLP_TYP_SHIFT & 7;

    trace_acpi_pm_sleep(type);
    if (type == ACPI_PM_S5 && pm->power_off)
        pm->power_off(pm->opaque);
}

/* Replaces the byte of a register at an even or odd offset. */
static void set_byte(uint16_t *reg, uint64_t offset, uint16_t value, uint16_t writable)
{
    uint16_t mask = (offset & 1 ? 0xff00 : 0x00ff) & writable;

    *reg = (uint16_t)((*reg & ~mask) | (value & mask));
}

/* Returns whether the machine goes to sleep. */
static bool write_byte(struct acpi_pm *pm, uint64_t offset, uint8_t byte)
{
    uint16_t value = (uint16_t)(byte << (offset & 1) * 8);

    switch (offset & ~UINT64_C(1)) {
    case 0: pm->pm1_status &= (uint16_t)~value; break;
    case 2: set_byte(&pm->pm1_enable, offset, value, PM1_ENABLES); break;
    case 4: set_byte(&pm->pm1_control, offset, value, PM1_CONTROL_KEEP); return value & PM1_SLP_EN;
    case 12: pm->gpe_status &= (uint16_t)~value; break;
    case 14: set_byte(&pm->gpe_enable, offset, value, 0xffff); break;
    default: break; /* the timer is read-only */
    }
    return false;
}

static void acpi_pm_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct acpi_pm *pm = opaque;
    bool sleep = false;

    trace_acpi_pm_write((unsigned)offset, size, (unsigned)value);
    sync_timer(pm);
    for (unsigned i = 0; i < size && i < 4; i++)
        sleep |= write_byte(pm, offset + i, (uint8_t)(value >> (8 * i)));
    refresh(pm);
    if (sleep)
        write_sleep(pm);
}

void acpi_pm_power_button(struct acpi_pm *pm)
{
    pm->pm1_status |= PM1_PWRBTN;
    refresh(pm);
}

void acpi_pm_raise_gpe(struct acpi_pm *pm, unsigned event)
{
    pm->gpe_status |= (uint16_t)(1u << (event & 15));
    refresh(pm);
}

void acpi_pm_init(struct acpi_pm *pm, struct clock *clock, struct irq sci, unsigned timer_bits)
{
    memset(pm, 0, sizeof *pm);
    pm->clock = clock;
    pm->sci = sci;
    pm->timer_bits = timer_bits == 24 ? 24 : 32;
    timer_init(&pm->overflow, overflow_fire, pm);
    acpi_pm_reset(pm);
}

void acpi_pm_reset(struct acpi_pm *pm)
{
    sync_timer(pm);
    pm->pm1_status = 0;
    pm->pm1_enable = 0;
    pm->pm1_control = 0;
    pm->gpe_status = 0;
    pm->gpe_enable = 0;
    refresh(pm);
}

struct io_range *acpi_pm_attach(struct acpi_pm *pm, struct bus *bus, uint16_t base)
{
    static const struct io_ops ops = {
        .read = acpi_pm_read, .write = acpi_pm_write, .min_size = 1, .max_size = 4};

    return bus_add_pio(bus, "acpi_pm", base, ACPI_PM_SIZE, &ops, pm);
}

static int loaded(void *object, struct err *err)
{
    struct acpi_pm *pm = object;

    if (pm->timer_half > timer_ticks(pm) >> (pm->timer_bits - 1))
        return err_set(err, -EINVAL, "acpi_pm: the timer was last read in the future");
    pm->pm1_status &= PM1_EVENTS;
    pm->pm1_enable &= PM1_ENABLES;
    pm->pm1_control &= PM1_CONTROL_KEEP;
    refresh(pm);
    return 0;
}

static const struct field fields[] = {
    FIELD(struct acpi_pm, pm1_status),  FIELD(struct acpi_pm, pm1_enable),
    FIELD(struct acpi_pm, pm1_control), FIELD(struct acpi_pm, gpe_status),
    FIELD(struct acpi_pm, gpe_enable),  FIELD(struct acpi_pm, timer_half),
};

const struct state_desc acpi_pm_state_desc = {
    .name = "acpi_pm",
    .version = 1,
    .fields = fields,
    .field_count = ARRAY_SIZE(fields),
    .loaded = loaded,
};
