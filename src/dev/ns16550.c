/* ns16550.c - see ns16550.h.
 *
 *   offset   DLAB=0 read   DLAB=0 write   DLAB=1
 *     0      RBR           THR            DLL
 *     1      IER           IER            DLM
 *     2      IIR           FCR            as DLAB=0
 *     3      LCR   4 MCR   5 LSR (read)   6 MSR (read)   7 SCR
 *
 * Interrupts in falling priority: receiver line status, received data available, character
 * time-out, transmitter holding register empty, modem status. */
#include "dev/ns16550.h"

#include "base/trace.h"

#include <errno.h>
#include <string.h>

#define IER_ERBFI 0x01u /* received data available, and time-out */
#define IER_ETBEI 0x02u /* transmitter holding register empty */
#define IER_ELSI 0x04u  /* receiver line status */
#define IER_EDSSI 0x08u /* modem status */

#define IIR_MODEM 0x00u
#define IIR_NONE 0x01u
#define IIR_THRE 0x02u
#define IIR_RDA 0x04u
#define IIR_LINE 0x06u
#define IIR_TIMEOUT 0x0cu
#define IIR_FIFOS 0xc0u

#define FCR_ENABLE 0x01u
#define FCR_CLEAR_RX 0x02u
#define FCR_KEEP (FCR_ENABLE | 0x08u | 0xc0u) /* enable, DMA mode, trigger level */

#define LCR_WORD_LENGTH 0x03u
#define LCR_STOP_BITS 0x04u
#define LCR_PARITY 0x08u
#define LCR_DLAB 0x80u

#define MCR_DTR 0x01u
#define MCR_RTS 0x02u
#define MCR_OUT1 0x04u
#define MCR_OUT2 0x08u
#define MCR_LOOP 0x10u
#define MCR_MASK 0x1fu

#define LSR_DR 0x01u
#define LSR_OE 0x02u
#define LSR_ERRORS 0x1eu
#define LSR_THRE 0x20u
#define LSR_TEMT 0x40u

#define MSR_DELTAS 0x0fu
#define MSR_TERI 0x04u

#define CRYSTAL_HZ UINT64_C(1843200)

static unsigned rx_capacity(const struct ns16550 *uart)
{
    return uart->fcr & FCR_ENABLE ? NS16550_FIFO_SIZE : 1;
}

static unsigned rx_trigger(const struct ns16550 *uart)
{
    static const uint8_t levels[4] = {1, 4, 8, 14};

    return uart->fcr & FCR_ENABLE ? levels[uart->fcr >> 6] : 1;
}

/* The interrupt identification without the FIFO bits. */
static uint8_t identify(const struct ns16550 *uart)
{
    if ((uart->ier & IER_ELSI) && (uart->lsr & LSR_ERRORS))
        return IIR_LINE;
    if ((uart->ier & IER_ERBFI) && uart->rx_count >= rx_trigger(uart))
        return IIR_RDA;
    if ((uart->ier & IER_ERBFI) && uart->timeout_pending)
        return IIR_TIMEOUT;
    if ((uart->ier & IER_ETBEI) && uart->thre_pending)
        return IIR_THRE;
    if ((uart->ier & IER_EDSSI) && (uart->msr & MSR_DELTAS))
        return IIR_MODEM;
    return IIR_NONE;
}

/* In loopback OUT2 is held inactive, so nothing reaches the interrupt line. */
static void update_irq(struct ns16550 *uart)
{
    bool connected = (uart->mcr & (MCR_OUT2 | MCR_LOOP)) == MCR_OUT2;

    irq_set(&uart->irq, connected && identify(uart) != IIR_NONE);
}

/* The time of four characters at the programmed rate and format. */
static uint64_t timeout_ns(const struct ns16550 *uart)
{
    uint64_t divisor = (uint64_t)uart->dlm << 8 | uart->dll;
    unsigned bits = 1 + 5 + (uart->lcr & LCR_WORD_LENGTH) + 1;

    bits += !!(uart->lcr & LCR_STOP_BITS) + !!(uart->lcr & LCR_PARITY);
    return muldiv64(4u * bits * 16u * (divisor ? divisor : 1), 1000000000, CRYSTAL_HZ);
}

/* The time-out runs anew from every byte that arrives or is read, while there is any. */
static void restart_timeout(struct ns16550 *uart)
{
    uart->timeout_pending = false;
    if ((uart->fcr & FCR_ENABLE) && uart->rx_count > 0)
        timer_set(uart->clock, &uart->timeout, clock_now(uart->clock) + timeout_ns(uart));
    else
        timer_cancel(uart->clock, &uart->timeout);
}

static void timeout_fire(void *opaque)
{
    struct ns16550 *uart = opaque;

    uart->timeout_pending = uart->rx_count > 0;
    update_irq(uart);
}

static void rx_push(struct ns16550 *uart, uint8_t byte)
{
    uart->rx[(uart->rx_head + uart->rx_count) % NS16550_FIFO_SIZE] = byte;
    uart->rx_count++;
    uart->lsr |= LSR_DR;
}

static void notify_room(struct ns16550 *uart)
{
    if (uart->can_receive && !(uart->mcr & MCR_LOOP))
        uart->can_receive(uart->opaque);
}

static void rx_clear(struct ns16550 *uart)
{
    uart->rx_head = 0;
    uart->rx_count = 0;
    uart->lsr &= (uint8_t)~LSR_DR;
    restart_timeout(uart);
}

static uint8_t read_rbr(struct ns16550 *uart)
{
    bool was_full = uart->rx_count >= rx_capacity(uart);
    uint8_t byte = uart->rx[uart->rx_head];

    if (uart->rx_count == 0)
        return 0;
    uart->rx_head = (uart->rx_head + 1) % NS16550_FIFO_SIZE;
    if (--uart->rx_count == 0)
        uart->lsr &= (uint8_t)~LSR_DR;
    restart_timeout(uart);
    update_irq(uart);
    if (was_full)
        notify_room(uart);
    return byte;
}

/* In loopback a byte that finds no room is lost: without the FIFO it replaces the one that waits.
 */
static void loop_back(struct ns16550 *uart, uint8_t byte)
{
    if (uart->rx_count < rx_capacity(uart)) {
        rx_push(uart, byte);
    } else {
        uart->lsr |= LSR_OE;
        if (!(uart->fcr & FCR_ENABLE))
            uart->rx[uart->rx_head] = byte;
    }
    restart_timeout(uart);
}

static void write_thr(struct ns16550 *uart, uint8_t byte)
{
    /* The line falls while the register is full, so that an edge-triggered input sees the next. */
    uart->thre_pending = false;
    update_irq(uart);
    if (uart->mcr & MCR_LOOP)
        loop_back(uart, byte);
    else if (uart->tx)
        uart->tx(uart->opaque, &byte, 1);
    uart->thre_pending = true;
    update_irq(uart);
}

static void write_ier(struct ns16550 *uart, uint8_t value)
{
    uint8_t enabled = value & (uint8_t)~uart->ier;

    uart->ier = value & 0x0f;
    if (enabled & IER_ETBEI)
        uart->thre_pending = true; /* the holding register is empty: it interrupts at once */
    update_irq(uart);
}

static void write_fcr(struct ns16550 *uart, uint8_t value)
{
    bool toggled = (value ^ uart->fcr) & FCR_ENABLE;
    bool clear = toggled || ((value & FCR_ENABLE) && (value & FCR_CLEAR_RX));

    uart->fcr = value & FCR_ENABLE ? value & FCR_KEEP : 0;
    if (clear)
        rx_clear(uart);
    update_irq(uart);
    if (clear)
        notify_room(uart);
}

/* Modem status from the pins, or in loopback from our own outputs; notes what changed. */
static void update_modem(struct ns16550 *uart)
{
    uint8_t lines = uart->modem_lines;
    uint8_t changed;

    if (uart->mcr & MCR_LOOP)
        lines = (uart->mcr & MCR_RTS ? NS16550_CTS : 0) | (uart->mcr & MCR_DTR ? NS16550_DSR : 0) |
                (uart->mcr & MCR_OUT1 ? NS16550_RI : 0) | (uart->mcr & MCR_OUT2 ? NS16550_DCD : 0);
    changed = (lines ^ uart->msr) & 0xf0;
    if (lines & NS16550_RI)
        changed &= (uint8_t)~NS16550_RI; /* only its trailing edge counts */
    uart->msr = (uint8_t)(lines | (uart->msr & MSR_DELTAS) | changed >> 4);
    update_irq(uart);
}

static void write_mcr(struct ns16550 *uart, uint8_t value)
{
    bool left_loop = (uart->mcr & MCR_LOOP) && !(value & MCR_LOOP);

    uart->mcr = value & MCR_MASK;
    update_modem(uart);
    if (left_loop)
        notify_room(uart);
}

static uint8_t read_iir(struct ns16550 *uart)
{
    uint8_t iir = identify(uart);

    if (iir == IIR_THRE) {
        uart->thre_pending = false;
        update_irq(uart);
    }
    return iir | (uart->fcr & FCR_ENABLE ? IIR_FIFOS : 0);
}

static uint8_t read_lsr(struct ns16550 *uart)
{
    uint8_t lsr = uart->lsr;

    uart->lsr &= (uint8_t)~LSR_ERRORS;
    update_irq(uart);
    return lsr;
}

static uint8_t read_msr(struct ns16550 *uart)
{
    uint8_t msr = uart->msr;

    uart->msr &= (uint8_t)~MSR_DELTAS;
    update_irq(uart);
    return msr;
}

static uint8_t read_register(struct ns16550 *uart, unsigned offset)
{
    bool dlab = uart->lcr & LCR_DLAB;

    switch (offset) {
    case 0: return dlab ? uart->dll : read_rbr(uart);
    case 1: return dlab ? uart->dlm : uart->ier;
    case 2: return read_iir(uart);
    case 3: return uart->lcr;
    case 4: return uart->mcr;
    case 5: return read_lsr(uart);
    case 6: return read_msr(uart);
    default: return uart->scr;
    }
}

static uint64_t ns16550_read(void *opaque, uint64_t offset, unsigned size)
{
    uint8_t value = read_register(opaque, offset & 7);

    (void)size;
    trace_ns16550_read((unsigned)offset & 7, value);
    return value;
}

static void ns16550_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct ns16550 *uart = opaque;
    bool dlab = uart->lcr & LCR_DLAB;
    uint8_t byte = (uint8_t)value;

    (void)size;
    trace_ns16550_write((unsigned)offset & 7, byte);
    switch (offset & 7) {
    case 0:
        if (dlab)
            uart->dll = byte;
        else
            write_thr(uart, byte);
        break;
    case 1:
        if (dlab)
            uart->dlm = byte;
        else
            write_ier(uart, byte);
        break;
    case 2: write_fcr(uart, byte); break;
    case 3: uart->lcr = byte; break;
    case 4: write_mcr(uart, byte); break;
    case 7: uart->scr = byte; break;
    default: break; /* LSR and MSR: writes are for factory tests */
    }
}

size_t ns16550_receive(struct ns16550 *uart, const uint8_t *buf, size_t n)
{
    size_t room = rx_capacity(uart) - uart->rx_count;

    if (uart->mcr & MCR_LOOP)
        return 0; /* the line is disconnected */
    if (n > room)
        n = room;
    if (n == 0)
        return 0;
    for (size_t i = 0; i < n; i++)
        rx_push(uart, buf[i]);
    trace_ns16550_receive((unsigned)n, uart->rx_count);
    restart_timeout(uart);
    update_irq(uart);
    return n;
}

void ns16550_set_modem_lines(struct ns16550 *uart, uint8_t lines)
{
    uart->modem_lines = lines & 0xf0;
    update_modem(uart);
}

void ns16550_init(struct ns16550 *uart, struct clock *clock, struct irq irq)
{
    memset(uart, 0, sizeof *uart);
    uart->clock = clock;
    uart->irq = irq;
    uart->modem_lines = NS16550_CTS | NS16550_DSR | NS16550_DCD;
    timer_init(&uart->timeout, timeout_fire, uart);
    ns16550_reset(uart);
}

/* Master reset, table I of the data sheet. RBR, SCR and the divisor latches keep what they have. */
void ns16550_reset(struct ns16550 *uart)
{
    uart->ier = 0;
    uart->fcr = 0;
    uart->lcr = 0;
    uart->mcr = 0;
    uart->lsr = LSR_THRE | LSR_TEMT;
    uart->msr = uart->modem_lines;
    uart->thre_pending = false;
    rx_clear(uart);
    update_irq(uart);
}

void ns16550_attach(struct ns16550 *uart, struct bus *bus, const char *name, uint16_t base)
{
    static const struct io_ops ops = {.read = ns16550_read, .write = ns16550_write};

    bus_add_pio(bus, name, base, NS16550_PORTS, &ops, uart);
}

static void before_save(void *object)
{
    struct ns16550 *uart = object;

    uart->timeout_at = uart->timeout.deadline;
}

static int loaded(void *object, struct err *err)
{
    struct ns16550 *uart = object;

    uart->fcr &= FCR_KEEP;
    if (uart->rx_head >= NS16550_FIFO_SIZE || uart->rx_count > rx_capacity(uart))
        return err_set(err, -EINVAL, "ns16550: the receive FIFO's head or count is out of range");
    uart->ier &= 0x0f;
    uart->mcr &= MCR_MASK;
    uart->lsr = (uart->lsr & LSR_OE) | LSR_THRE | LSR_TEMT | (uart->rx_count ? LSR_DR : 0);
    timer_set(uart->clock, &uart->timeout, uart->timeout_at);
    update_irq(uart);
    return 0;
}

static const struct field fields[] = {
    FIELD(struct ns16550, ier),          FIELD(struct ns16550, fcr),
    FIELD(struct ns16550, lcr),          FIELD(struct ns16550, mcr),
    FIELD(struct ns16550, lsr),          FIELD(struct ns16550, msr),
    FIELD(struct ns16550, scr),          FIELD(struct ns16550, dll),
    FIELD(struct ns16550, dlm),          FIELD(struct ns16550, modem_lines),
    FIELD(struct ns16550, thre_pending), FIELD(struct ns16550, timeout_pending),
    FIELD_ARRAY(struct ns16550, rx),     FIELD(struct ns16550, rx_head),
    FIELD(struct ns16550, rx_count),     FIELD(struct ns16550, timeout_at),
};

const struct state_desc ns16550_state_desc = {
    .name = "ns16550",
    .version = 1,
    .fields = fields,
    .field_count = ARRAY_SIZE(fields),
    .before_save = before_save,
    .loaded = loaded,
};
