/* mc146818.h - the real-time clock and CMOS memory of a PC (Motorola MC146818A data sheet, 1984).
 *
 *   port 70h   write: bits 6:0 register, bit 7 masks NMI     read: FFh, as on most boards
 *   port 71h   the register
 *   00h-09h time, alarm and date   0Ah-0Dh registers A to D   0Eh-7Fh memory   32h century
 *
 * The time registers are the clock: they are brought up to date from guest time when somebody
 * looks. The clock runs in UTC from the time given to mc146818_init(); mc146818_start_time() says
 * which: the host's, or 2000-01-01 00:00:00 in virtual time, so that runs repeat exactly. Left out:
 * daylight saving, the square-wave output, and time bases other than 32.768 kHz.
 *
 * All functions are called with the bus lock held. */
#ifndef DOBLE_DEV_MC146818_H
#define DOBLE_DEV_MC146818_H

#include "base/state.h"
#include "bus/bus.h"
#include "bus/clock.h"
#include "bus/irq.h"

#define MC146818_SIZE 128
#define MC146818_VIRTUAL_EPOCH INT64_C(946684800) /* 2000-01-01 00:00:00 UTC */
#define MC146818_SHUTDOWN 0x0f /* memory byte: what firmware does after a reset */

struct mc146818 {
    /* how it is connected */
    struct clock *clock;
    struct irq irq;
    struct irq nmi_mask; /* level: NMI is masked */
    struct timer periodic, update;

    uint8_t index;               /* what was last written to port 70h */
    uint8_t cmos[MC146818_SIZE]; /* all registers; bit UIP of A is not kept */
    uint64_t second_at;          /* guest ns at which the current second began */
    uint64_t divider_at;         /* guest ns at which the divider chain was at zero */
    uint64_t periods_seen; /* ticks of 32.768 kHz since divider_at, when PF was last looked at */
};

/* Seconds since 1970-01-01 UTC with which the clock of a new machine starts. */
int64_t mc146818_start_time(const struct clock *clock);

/* Connects, sets the clock to `seconds` since 1970-01-01 UTC and clears the memory. */
void mc146818_init(struct mc146818 *rtc, struct clock *clock, struct irq irq, struct irq nmi_mask,
                   int64_t seconds);
/* The RESET pin: interrupts off; time and memory stay. */
void mc146818_reset(struct mc146818 *rtc);
void mc146818_attach(struct mc146818 *rtc, struct bus *bus);

/* Describes the machine in the memory as PC firmware expects it: RAM below and from 4 GiB in bytes,
 * and the number of processors; then the checksum. */
void mc146818_describe_machine(struct mc146818 *rtc, uint64_t low_ram, uint64_t high_ram,
                               unsigned cpus);

/* What a BIOS tries to start from: of 3 digits, the lowest first; 1 floppy disk, 2 hard disk, 3 CD,
 * 4 network, 0 nothing more. */
void mc146818_set_boot_order(struct mc146818 *rtc, unsigned digits);

extern const struct state_desc mc146818_state_desc;

#endif
