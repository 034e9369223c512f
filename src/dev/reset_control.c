/* reset_control.c - see reset_control.h. A20 is open after a reset, as firmware leaves it. */
#include "dev/reset_control.h"

#include "base/trace.h"

#include <string.h>

#define CF9_OFFSET 1 /* in the range, which begins at CF8h */
#define CF9_RST_CPU 0x04u
#define CF9_KEEP 0x0eu

#define PORT92_RESET 0x01u
#define PORT92_A20 0x02u

static void request_reset(struct reset_control *rc)
{
    if (rc->reset)
        rc->reset(rc->opaque);
}

/* Only a byte access to CF9h itself is ours. Wider ones around it are PCI's configuration address
 * (CF8h), whose second byte must not reset the machine. */
static bool is_cf9(uint64_t offset, unsigned size)
{
    return offset == CF9_OFFSET && size == 1;
}

static uint64_t cf9_read(void *opaque, uint64_t offset, unsigned size)
{
    const struct reset_control *rc = opaque;

    return is_cf9(offset, size) ? rc->cf9 : UINT64_MAX;
}

static void cf9_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct reset_control *rc = opaque;
    bool rise = (value & CF9_RST_CPU) && !(rc->cf9 & CF9_RST_CPU);

    if (!is_cf9(offset, size))
        return;
    trace_reset_control_write(0xcf9, (unsigned)value);
    rc->cf9 = value & CF9_KEEP;
    if (rise)
        request_reset(rc);
}

const struct io_ops reset_control_cf9_ops = {
    .read = cf9_read, .write = cf9_write, .min_size = 1, .max_size = 4};

static uint64_t port92_read(void *opaque, uint64_t offset, unsigned size)
{
    const struct reset_control *rc = opaque;

    (void)offset, (void)size;
    return rc->port92;
}

static void port92_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct reset_control *rc = opaque;
    bool rise = (value & PORT92_RESET) && !(rc->port92 & PORT92_RESET);

    (void)offset, (void)size;
    trace_reset_control_write(0x92, (unsigned)value);
    rc->port92 = value & (PORT92_A20 | PORT92_RESET);
    irq_set(&rc->a20, value & PORT92_A20);
    if (rise)
        request_reset(rc);
}

void reset_control_init(struct reset_control *rc, struct irq a20)
{
    memset(rc, 0, sizeof *rc);
    rc->a20 = a20;
    reset_control_reset(rc);
}

void reset_control_reset(struct reset_control *rc)
{
    rc->cf9 = 0;
    rc->port92 = PORT92_A20;
    irq_set(&rc->a20, true);
}

void reset_control_attach(struct reset_control *rc, struct bus *bus)
{
    static const struct io_ops port92 = {.read = port92_read, .write = port92_write};

    bus_add_pio(bus, "reset_control", 0xcf8, 4, &reset_control_cf9_ops, rc);
    bus_add_pio(bus, "port92", 0x92, 1, &port92, rc);
}

static int loaded(void *object, struct err *err)
{
    struct reset_control *rc = object;

    (void)err;
    rc->cf9 &= CF9_KEEP;
    rc->port92 &= PORT92_A20 | PORT92_RESET;
    irq_set(&rc->a20, rc->port92 & PORT92_A20);
    return 0;
}

static const struct field fields[] = {
    FIELD(struct reset_control, cf9),
    FIELD(struct reset_control, port92),
};

const struct state_desc reset_control_state_desc = {
    .name = "reset_control",
    .version = 1,
    .fields = fields,
    .field_count = ARRAY_SIZE(fields),
    .loaded = loaded,
};
