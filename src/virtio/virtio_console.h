/* virtio_console.h - a console of one port (virtio 1.2, section 5.3): hvc0 in Linux.
 *
 *   queue 0  receive (keys)    queue 1  transmit (output)
 *
 * A guest can offer gigabytes in one notify. At most VIRTIO_CONSOLE_PIECE bytes of it are taken at
 * a time; for the rest, more() asks for a virtio_console_pump(). Locking as in virtio.h.
 *
 * Linux waits for the end of each write without an interrupt, and so finds nothing to do when it
 * comes. After 100,000 of those in a row, less than 100 ms apart, it declares the interrupt broken.
 * So the driver is told later, unless it may be waiting for descriptors. */
#ifndef DOBLE_VIRTIO_VIRTIO_CONSOLE_H
#define DOBLE_VIRTIO_VIRTIO_CONSOLE_H

#include "bus/clock.h"
#include "virtio/virtio.h"

#define VIRTIO_CONSOLE_DELAY                                                                       \
    UINT64_C(120000000) /* ns before an interrupt that nobody waits for                            \
                         */
#define VIRTIO_CONSOLE_PIECE (32 * KIB)

/* Wire layout, little-endian (5.3.4). */
struct virtio_console_config {
    uint16_t columns, rows;
    uint32_t max_ports;
    uint32_t emergency;
};
_Static_assert(sizeof(struct virtio_console_config) == 12, "virtio 1.2, 5.3.4");

struct virtio_console {
    struct virtio_device virtio;
    struct virtio_console_config config;
    struct clock *clock;
    struct timer timer; /* of the delayed interrupt */
    uint64_t due;       /* its time, while the state is saved or loaded */
    uint32_t untold;    /* chains that were sent since the last */
    uint32_t sent;      /* bytes of the next chain to be transmitted that have been taken already */
    void (*transmit)(void *opaque, const uint8_t *bytes, size_t count);
    void (*ready)(void *opaque); /* virtio_console_receive() will take bytes again */
    void (*more)(void *opaque);  /* there is more to transmit */
    void *opaque;
};

void virtio_console_init(struct virtio_console *console, struct memory *mem, struct clock *clock);

/* Bytes for the guest; returns how many it took. */
size_t virtio_console_receive(struct virtio_console *console, const uint8_t *bytes, size_t count);

/* Goes on with the output. */
void virtio_console_pump(struct virtio_console *console);

/* The window has another size: the guest is told. */
void virtio_console_resize(struct virtio_console *console, uint16_t columns, uint16_t rows);

extern const struct state_desc virtio_console_state_desc;

#endif
