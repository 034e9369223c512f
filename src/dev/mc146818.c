/* mc146818.c - see mc146818.h.
 *
 * sync() moves the time registers forward by the whole seconds that have passed, and notes what
 * happened meanwhile: UF for an update, AF for an alarm, PF for a tick of the periodic rate. Timers
 * are only set while their interrupt is enabled and not yet pending, so that a clock that nobody
 * looks at costs nothing. */
#include "dev/mc146818.h"

#include "base/trace.h"

#include <errno.h>
#include <string.h>
#include <time.h>

enum {
    SECONDS,
    SECONDS_ALARM,
    MINUTES,
    MINUTES_ALARM,
    HOURS,
    HOURS_ALARM,
    DAY_OF_WEEK,
    DAY,
    MONTH,
    YEAR,
    REG_A,
    REG_B,
    REG_C,
    REG_D,
    CENTURY = 0x32
};

#define A_UIP 0x80u
#define A_DV 0x70u /* divider: 010 runs on a 32.768 kHz crystal, 11x holds it in reset */
#define A_DV_RUN 0x20u
#define A_RS 0x0fu

#define B_SET 0x80u
#define B_PIE 0x40u
#define B_AIE 0x20u
#define B_UIE 0x10u
#define B_SQWE 0x08u
#define B_DM 0x04u /* binary, else BCD */
#define B_24H 0x02u

#define C_IRQF 0x80u
#define C_PF 0x40u /* these three are at the places of their enables in B */
#define C_AF 0x20u
#define C_UF 0x10u

#define D_VRT 0x80u

#define HOURS_PM 0x80u
#define ALARM_ANY 0xc0u /* an alarm register with both bits set matches everything */

#define NS_PER_SECOND UINT64_C(1000000000)
#define UIP_NS UINT64_C(244000)
#define SECONDS_PER_DAY 86400u

/* --- calendar --- */

struct date {
    int64_t days; /* since 1970-01-01 */
    unsigned second_of_day;
};

/* Days since 1970-01-01 of a date of the Gregorian calendar; months count from 1. The year is
 * taken to begin in March, which puts the leap day at its end. */
static int64_t days_from_civil(int64_t year, unsigned month, unsigned day)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t months = (month + 9) % 12;

    return 365 * y + y / 4 - y / 100 + y / 400 + (153 * months + 2) / 5 + day - 1 - 719468;
}

/* The inverse, for dates from year 0 on. */
static void civil_from_days(int64_t days, int64_t *year, unsigned *month, unsigned *day)
{
    int64_t y = (days + 719468) * 400 / 146097;
    int64_t left;

    while (days_from_civil(y + 1, 3, 1) <= days)
        y++;
    while (days_from_civil(y, 3, 1) > days)
        y--;
    left = days - days_from_civil(y, 3, 1);
    *month = (unsigned)((5 * left + 2) / 153);
    *day = (unsigned)(left - (153 * *month + 2) / 5) + 1;
    *month = *month < 10 ? *month + 3 : *month - 9;
    *year = *month <= 2 ? y + 1 : y;
}

/* --- registers in the chosen format --- */

static unsigned decode(const struct mc146818 *rtc, uint8_t value)
{
    return rtc->cmos[REG_B] & B_DM ? value : (value >> 4) * 10u + (value & 0x0f);
}

static uint8_t encode(const struct mc146818 *rtc, unsigned value)
{
    return (uint8_t)(rtc->cmos[REG_B] & B_DM ? value : value / 10 << 4 | value % 10);
}

static unsigned decode_hours(const struct mc146818 *rtc, uint8_t value)
{
    if (rtc->cmos[REG_B] & B_24H)
        return decode(rtc, value);
    return decode(rtc, value & 0x7f) % 12 + (value & HOURS_PM ? 12 : 0);
}

static uint8_t encode_hours(const struct mc146818 *rtc, unsigned hours)
{
    unsigned twelve = hours % 12 ? hours % 12 : 12;

    if (rtc->cmos[REG_B] & B_24H)
        return encode(rtc, hours);
    return encode(rtc, twelve) | (hours >= 12 ? HOURS_PM : 0);
}

static unsigned within(unsigned value, unsigned low, unsigned high)
{
    return value < low ? low : value > high ? high : value;
}

/* The time in the registers. Values that are no time or date are taken as the nearest that is. */
static struct date get_time(const struct mc146818 *rtc)
{
    const uint8_t *cmos = rtc->cmos;
    unsigned year =
        within(decode(rtc, cmos[CENTURY]), 0, 99) * 100 + within(decode(rtc, cmos[YEAR]), 0, 99);
    unsigned month = within(decode(rtc, cmos[MONTH]), 1, 12);
    unsigned hour = within(decode_hours(rtc, cmos[HOURS]), 0, 23);
    unsigned minute = within(decode(rtc, cmos[MINUTES]), 0, 59);
    struct date date;

    date.days = days_from_civil(year, month, within(decode(rtc, cmos[DAY]), 1, 31));
    date.second_of_day = (hour * 60 + minute) * 60 + within(decode(rtc, cmos[SECONDS]), 0, 59);
    return date;
}

static void set_time(struct mc146818 *rtc, struct date date)
{
    uint8_t *cmos = rtc->cmos;
    int64_t year;
    unsigned month, day;

    civil_from_days(date.days, &year, &month, &day);
    cmos[SECONDS] = encode(rtc, date.second_of_day % 60);
    cmos[MINUTES] = encode(rtc, date.second_of_day / 60 % 60);
    cmos[HOURS] = encode_hours(rtc, date.second_of_day / 3600);
    cmos[DAY_OF_WEEK] = encode(rtc, (unsigned)((date.days + 719468 + 3) % 7) + 1);
    cmos[DAY] = encode(rtc, day);
    cmos[MONTH] = encode(rtc, month);
    cmos[YEAR] = encode(rtc, (unsigned)(year % 100));
    cmos[CENTURY] = encode(rtc, (unsigned)(year / 100 % 100));
}

/* --- the passing of time --- */

static bool alarm_part_matches(uint8_t alarm, uint8_t now)
{
    return (alarm & ALARM_ANY) == ALARM_ANY || alarm == now;
}

static bool alarm_matches(const struct mc146818 *rtc, unsigned second_of_day)
{
    const uint8_t *cmos = rtc->cmos;

    return alarm_part_matches(cmos[SECONDS_ALARM], encode(rtc, second_of_day % 60)) &&
           alarm_part_matches(cmos[MINUTES_ALARM], encode(rtc, second_of_day / 60 % 60)) &&
           alarm_part_matches(cmos[HOURS_ALARM], encode_hours(rtc, second_of_day / 3600));
}

/* Did the alarm go off in the `seconds` after `from`? A day holds every time there is. */
static bool alarm_passed(const struct mc146818 *rtc, unsigned from, uint64_t seconds)
{
    if (seconds > SECONDS_PER_DAY)
        seconds = SECONDS_PER_DAY;
    for (unsigned i = 1; i <= seconds; i++)
        if (alarm_matches(rtc, (from + i) % SECONDS_PER_DAY))
            return true;
    return false;
}

static bool divider_runs(const struct mc146818 *rtc)
{
    return (rtc->cmos[REG_A] & A_DV) == A_DV_RUN;
}

static void advance(struct mc146818 *rtc, uint64_t seconds)
{
    struct date date = get_time(rtc);
    uint64_t second = date.second_of_day + seconds;

    rtc->cmos[REG_C] |= C_UF;
    if (!(rtc->cmos[REG_C] & C_AF) && alarm_passed(rtc, date.second_of_day, seconds))
        rtc->cmos[REG_C] |= C_AF;
    date.days += (int64_t)(second / SECONDS_PER_DAY);
    date.second_of_day = (unsigned)(second % SECONDS_PER_DAY);
    set_time(rtc, date);
}

/* Period of the periodic interrupt in ticks of 32.768 kHz; 0: off. Rates 1 and 2 are those of 8
 * and 9 (table 5 of the data sheet). */
static uint64_t period_ticks(const struct mc146818 *rtc)
{
    unsigned rate = rtc->cmos[REG_A] & A_RS;

    if (rate == 0)
        return 0;
    return UINT64_C(1) << ((rate <= 2 ? rate + 7 : rate) - 1);
}

static uint64_t divider_ticks(const struct mc146818 *rtc, uint64_t now)
{
    return now > rtc->divider_at ? muldiv64(now - rtc->divider_at, 32768, NS_PER_SECOND) : 0;
}

static void sync_periodic(struct mc146818 *rtc, uint64_t now)
{
    uint64_t period = period_ticks(rtc);
    uint64_t ticks = divider_ticks(rtc, now);

    if (period && divider_runs(rtc) && ticks / period != rtc->periods_seen / period)
        rtc->cmos[REG_C] |= C_PF;
    rtc->periods_seen = ticks;
}

static void sync(struct mc146818 *rtc)
{
    uint64_t now = clock_now(rtc->clock);
    uint64_t seconds;

    sync_periodic(rtc, now);
    if (now < rtc->second_at)
        return;
    seconds = (now - rtc->second_at) / NS_PER_SECOND;
    if (seconds == 0)
        return;
    rtc->second_at += seconds * NS_PER_SECOND;
    if (divider_runs(rtc) && !(rtc->cmos[REG_B] & B_SET))
        advance(rtc, seconds);
}

/* --- interrupts --- */

static void update_irq(struct mc146818 *rtc)
{
    uint8_t *c = &rtc->cmos[REG_C];

    *c &= C_PF | C_AF | C_UF;
    if (*c & rtc->cmos[REG_B])
        *c |= C_IRQF;
    irq_set(&rtc->irq, *c & C_IRQF);
}

static void arm_periodic(struct mc146818 *rtc)
{
    uint64_t period = period_ticks(rtc);
    uint64_t next;

    if (!period || !divider_runs(rtc) || !(rtc->cmos[REG_B] & B_PIE) || (rtc->cmos[REG_C] & C_PF)) {
        timer_cancel(rtc->clock, &rtc->periodic);
        return;
    }
    next = (rtc->periods_seen / period + 1) * period;
    timer_set(rtc->clock, &rtc->periodic,
              rtc->divider_at + muldiv64(next, NS_PER_SECOND, 32768) + 1);
}

static void arm_update(struct mc146818 *rtc)
{
    uint8_t waiting = rtc->cmos[REG_B] & (B_AIE | B_UIE) & (uint8_t)~rtc->cmos[REG_C];

    if (waiting && divider_runs(rtc) && !(rtc->cmos[REG_B] & B_SET))
        timer_set(rtc->clock, &rtc->update, rtc->second_at + NS_PER_SECOND);
    else
        timer_cancel(rtc->clock, &rtc->update);
}

/* After any change: the interrupt line and the timers follow from the registers. */
static void refresh(struct mc146818 *rtc)
{
    update_irq(rtc);
    arm_periodic(rtc);
    arm_update(rtc);
}

static void timer_fire(void *opaque)
{
    sync(opaque);
    refresh(opaque);
}

/* --- registers --- */

static uint8_t read_a(const struct mc146818 *rtc)
{
    uint64_t now = clock_now(rtc->clock);
    uint8_t a = rtc->cmos[REG_A];

    if (divider_runs(rtc) && !(rtc->cmos[REG_B] & B_SET) &&
        now + UIP_NS >= rtc->second_at + NS_PER_SECOND)
        a |= A_UIP;
    return a;
}

static uint8_t read_c(struct mc146818 *rtc)
{
    uint8_t c;

    update_irq(rtc);
    c = rtc->cmos[REG_C];
    rtc->cmos[REG_C] = 0;
    refresh(rtc);
    return c;
}

static uint8_t read_register(struct mc146818 *rtc, unsigned reg)
{
    sync(rtc);
    switch (reg) {
    case REG_A: return read_a(rtc);
    case REG_C: return read_c(rtc);
    default: return rtc->cmos[reg];
    }
}

/* When the divider is let go, the first update comes half a second later. */
static void write_a(struct mc146818 *rtc, uint8_t value)
{
    uint64_t now = clock_now(rtc->clock);
    bool ran = divider_runs(rtc);

    rtc->cmos[REG_A] = value & (uint8_t)~A_UIP;
    if (!ran && divider_runs(rtc)) {
        rtc->second_at = now > NS_PER_SECOND / 2 ? now - NS_PER_SECOND / 2 : 0;
        rtc->divider_at = now;
        rtc->periods_seen = 0;
    }
}

static void write_b(struct mc146818 *rtc, uint8_t value)
{
    if (value & B_SET)
        value &= (uint8_t)~B_UIE;
    rtc->cmos[REG_B] = value;
}

static void write_register(struct mc146818 *rtc, unsigned reg, uint8_t value)
{
    sync(rtc);
    switch (reg) {
    case REG_A: write_a(rtc, value); break;
    case REG_B: write_b(rtc, value); break;
    case REG_C:
    case REG_D: return; /* read-only */
    default: rtc->cmos[reg] = value; return;
    }
    refresh(rtc);
}

static uint64_t mc146818_read(void *opaque, uint64_t offset, unsigned size)
{
    struct mc146818 *rtc = opaque;
    unsigned reg = rtc->index & (MC146818_SIZE - 1);
    uint8_t value;

    (void)size;
    if (offset == 0)
        return 0xff;
    value = read_register(rtc, reg);
    trace_mc146818_read(reg, value);
    return value;
}

static void mc146818_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct mc146818 *rtc = opaque;
    unsigned reg = rtc->index & (MC146818_SIZE - 1);

    (void)size;
    if (offset == 0) {
        rtc->index = (uint8_t)value;
        irq_set(&rtc->nmi_mask, value & 0x80);
        return;
    }
    trace_mc146818_write(reg, (uint8_t)value);
    write_register(rtc, reg, (uint8_t)value);
}

/* --- life cycle --- */

int64_t mc146818_start_time(const struct clock *clock)
{
    return clock->mode == CLOCK_VIRTUAL ? MC146818_VIRTUAL_EPOCH : (int64_t)time(NULL);
}

void mc146818_init(struct mc146818 *rtc, struct clock *clock, struct irq irq, struct irq nmi_mask,
                   int64_t seconds)
{
    struct date date;

    memset(rtc, 0, sizeof *rtc);
    rtc->clock = clock;
    rtc->irq = irq;
    rtc->nmi_mask = nmi_mask;
    timer_init(&rtc->periodic, timer_fire, rtc);
    timer_init(&rtc->update, timer_fire, rtc);
    rtc->cmos[REG_A] = A_DV_RUN | 6; /* 1024 Hz, as PC firmware sets it */
    rtc->cmos[REG_B] = B_24H;
    rtc->cmos[REG_D] = D_VRT;
    if (seconds < 0)
        seconds = 0;
    date.days = seconds / SECONDS_PER_DAY;
    date.second_of_day = (unsigned)(seconds % SECONDS_PER_DAY);
    set_time(rtc, date);
    rtc->second_at = clock_now(clock);
    rtc->divider_at = rtc->second_at;
    mc146818_reset(rtc);
}

void mc146818_reset(struct mc146818 *rtc)
{
    sync(rtc);
    rtc->cmos[REG_B] &= (uint8_t) ~(B_PIE | B_AIE | B_UIE | B_SQWE);
    rtc->cmos[REG_C] = 0;
    rtc->index = 0;
    irq_set(&rtc->nmi_mask, false);
    refresh(rtc);
}

void mc146818_attach(struct mc146818 *rtc, struct bus *bus)
{
    static const struct io_ops ops = {.read = mc146818_read, .write = mc146818_write};

    bus_add_pio(bus, "mc146818", 0x70, 2, &ops, rtc);
}

/* Little-endian, at most what the bytes can say. */
static void put(struct mc146818 *rtc, unsigned reg, uint64_t value, unsigned bytes)
{
    uint64_t max = (UINT64_C(1) << (8 * bytes)) - 1;

    if (value > max)
        value = max;
    for (unsigned i = 0; i < bytes; i++)
        rtc->cmos[reg + i] = (uint8_t)(value >> (8 * i));
}

/* Sum of 10h to 2Dh, high byte first. */
static void put_checksum(struct mc146818 *rtc)
{
    unsigned sum = 0;

    for (unsigned i = 0x10; i <= 0x2d; i++)
        sum += rtc->cmos[i];
    rtc->cmos[0x2e] = (uint8_t)(sum >> 8);
    rtc->cmos[0x2f] = (uint8_t)sum;
}

void mc146818_describe_machine(struct mc146818 *rtc, uint64_t low_ram, uint64_t high_ram,
                               unsigned cpus)
{
    uint64_t above_1m = low_ram > MIB ? low_ram - MIB : 0;
    uint64_t above_16m = low_ram > 16 * MIB ? low_ram - 16 * MIB : 0;

    rtc->cmos[0x14] = 0x06; /* equipment: coprocessor and pointing device */
    put(rtc, 0x15, 640, 2);
    put(rtc, 0x17, above_1m / KIB, 2);
    put(rtc, 0x30, above_1m / KIB, 2);
    put(rtc, 0x34, above_16m / (64 * KIB), 2);
    put(rtc, 0x5b, high_ram / (64 * KIB), 3);
    put(rtc, 0x5f, cpus ? cpus - 1 : 0, 1);
    put_checksum(rtc);
}

/* As Bochs's BIOS placed them, and SeaBIOS reads them. Bit 0 of the first: don't look at the boot
 * sector of floppy disks. */
void mc146818_set_boot_order(struct mc146818 *rtc, unsigned digits)
{
    put(rtc, 0x38, (digits >> 8 & 0xf) << 4 | 1, 1);
    put(rtc, 0x3d, digits & 0xff, 1);
    put_checksum(rtc);
}

/* The same machine has the same saved state, whenever its clock was last looked at. */
static void before_save(void *object)
{
    sync(object);
}

/* second_at and divider_at may not lie in the future: what is derived from them is a difference. */
static int loaded(void *object, struct err *err)
{
    struct mc146818 *rtc = object;
    uint64_t now = clock_now(rtc->clock);

    if (rtc->second_at > now || rtc->divider_at > now)
        return err_set(err, -EINVAL, "mc146818: the clock's last second lies in the future");
    rtc->cmos[REG_A] &= (uint8_t)~A_UIP;
    rtc->cmos[REG_D] = D_VRT;
    if (rtc->periods_seen > divider_ticks(rtc, now))
        rtc->periods_seen = divider_ticks(rtc, now);
    irq_set(&rtc->nmi_mask, rtc->index & 0x80);
    sync(rtc);
    refresh(rtc);
    return 0;
}

static const struct field fields[] = {
    FIELD(struct mc146818, index),        FIELD_ARRAY(struct mc146818, cmos),
    FIELD(struct mc146818, second_at),    FIELD(struct mc146818, divider_at),
    FIELD(struct mc146818, periods_seen),
};

const struct state_desc mc146818_state_desc = {
    .name = "mc146818",
    .version = 1,
    .fields = fields,
    .field_count = ARRAY_SIZE(fields),
    .before_save = before_save,
    .loaded = loaded,
};
