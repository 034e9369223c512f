/* ns16550.h - the serial port: a National Semiconductor NS16550AF (data sheet of June 1995).
 *
 * Bytes that the guest sends go to `tx` at once: the shift register takes no time, so the
 * transmitter is always empty, but its interrupt behaves as the data sheet says. Bytes for the
 * guest come through ns16550_receive(), which takes as many as the receive FIFO has room for;
 * `can_receive` is called when room appears again. Baud rate and word length only set the pace of
 * the character time-out. Parity, framing and break errors do not occur on this line; overrun does,
 * in loopback. As on a PC, OUT2 connects the interrupt output to the interrupt line.
 *
 * All functions are called with the bus lock held. */
#ifndef DOBLE_DEV_NS16550_H
#define DOBLE_DEV_NS16550_H

#include "base/state.h"
#include "bus/bus.h"
#include "bus/clock.h"
#include "bus/irq.h"

#define NS16550_FIFO_SIZE 16
#define NS16550_PORTS 8

/* Modem input lines, as bits of the modem status register. */
#define NS16550_CTS 0x10u
#define NS16550_DSR 0x20u
#define NS16550_RI 0x40u
#define NS16550_DCD 0x80u

struct ns16550 {
    /* how it is connected */
    struct clock *clock;
    struct irq irq;
    void (*tx)(void *opaque, const uint8_t *buf, size_t n); /* may be NULL: sent to nobody */
    void (*can_receive)(void *opaque);                      /* may be NULL */
    void *opaque;
    struct timer timeout; /* character time-out */

    /* registers */
    uint8_t ier, fcr, lcr, mcr, lsr, msr, scr;
    uint8_t dll, dlm;
    uint8_t modem_lines; /* what is at the pins: NS16550_CTS... */
    bool thre_pending;   /* the transmitter-empty interrupt is not yet acknowledged */
    bool timeout_pending;

    uint8_t rx[NS16550_FIFO_SIZE];
    uint8_t rx_head, rx_count;
    uint64_t timeout_at; /* guest ns; for save and restore */
};

/* Connects and resets. Set tx, can_receive and opaque afterwards. */
void ns16550_init(struct ns16550 *uart, struct clock *clock, struct irq irq);
void ns16550_reset(struct ns16550 *uart);
void ns16550_attach(struct ns16550 *uart, struct bus *bus, const char *name, uint16_t base);

/* Gives bytes from the line; returns how many were taken. */
size_t ns16550_receive(struct ns16550 *uart, const uint8_t *buf, size_t n);

/* Sets the modem input lines (an or of NS16550_CTS...). */
void ns16550_set_modem_lines(struct ns16550 *uart, uint8_t lines);

extern const struct state_desc ns16550_state_desc;

#endif
