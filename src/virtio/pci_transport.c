#include "virtio/pci_transport.h"

#include <errno.h>
#include <string.h>

#define VENDOR 0x1af4
#define DEVICE_BASE 0x1040
#define SUBSYSTEM 0x1100

#define MSIX_BAR 1
#define MAIN_BAR 4
#define MAIN_BAR_SIZE 0x4000u

/* Regions of the main BAR. */
#define REGION_SIZE 0x1000u
#define COMMON 0x0000u
#define ISR 0x1000u
#define CONFIG 0x2000u
#define NOTIFY 0x3000u
#define NOTIFY_MULTIPLIER 4u

#define NO_VECTOR 0xffff
#define ISR_QUEUE 1
#define ISR_CONFIG 2

/* Kinds of capabilities, and where things are in one (4.1.4). */
enum { CAP_COMMON = 1, CAP_NOTIFY = 2, CAP_ISR = 3, CAP_DEVICE = 4, CAP_PCI = 5 };
enum {
    CAP_KIND = 3,
    CAP_BAR = 4,
    CAP_OFFSET = 8,
    CAP_LENGTH = 12,
    CAP_SIZE = 16,
    CAP_MULTIPLIER = 16, /* of CAP_NOTIFY */
    CAP_DATA = 16,       /* of CAP_PCI */
    CAP_SIZE_EXTRA = 20,
};

/* 4.1.4.3 */
struct common {
    uint32_t device_feature_select, device_feature;
    uint32_t driver_feature_select, driver_feature;
    uint16_t config_msix_vector, num_queues;
    uint8_t device_status, config_generation;
    uint16_t queue_select, queue_size, queue_msix_vector, queue_enable, queue_notify_off;
    uint32_t queue_desc[2], queue_driver[2], queue_device[2]; /* low, high */
};
_Static_assert(sizeof(struct common) == 0x38, "virtio 1.2, 4.1.4.3");
_Static_assert(offsetof(struct common, queue_select) == 0x16, "virtio 1.2, 4.1.4.3");

/* --- interrupts --- */

static void interrupt(struct virtio_pci *t, uint16_t vector, uint8_t isr)
{
    if (pci_msix_enabled(&t->pci)) {
        if (vector != NO_VECTOR)
            pci_msix_notify(&t->pci, vector);
        return;
    }
    t->isr |= isr;
    pci_set_irq(&t->pci, true);
}

static void queue_interrupt(void *opaque, unsigned queue)
{
    struct virtio_pci *t = opaque;

    interrupt(t, t->queue_vector[queue], ISR_QUEUE);
}

static void config_interrupt(void *opaque)
{
    struct virtio_pci *t = opaque;

    interrupt(t, t->config_vector, ISR_CONFIG);
}

static uint8_t isr_read(struct virtio_pci *t)
{
    uint8_t isr = t->isr;

    t->isr = 0;
    pci_set_irq(&t->pci, false);
    return isr;
}

/* --- common configuration --- */

/* The queue that is selected, or NULL. */
static struct virtq *selected(struct virtio_pci *t)
{
    return t->queue_select < t->virtio->type.queue_count ? &t->virtio->queues[t->queue_select]
                                                         : NULL;
}

static void split(uint32_t words[2], uint64_t value)
{
    words[0] = (uint32_t)value;
    words[1] = (uint32_t)(value >> 32);
}

/* A queue that the device does not have reads as size 0. */
static void common_fill_queue(struct virtio_pci *t, const struct virtq *q, struct common *c)
{
    c->queue_size = q->size;
    c->queue_msix_vector = t->queue_vector[q->index];
    c->queue_enable = q->enabled;
    c->queue_notify_off = q->index;
    split(c->queue_desc, q->desc);
    split(c->queue_driver, q->avail);
    split(c->queue_device, q->used);
}

static uint32_t common_read(struct virtio_pci *t, uint64_t offset, unsigned size)
{
    const struct virtq *q = selected(t);
    uint32_t value = 0;
    struct common c = {
        .device_feature_select = t->device_select,
        .device_feature = virtio_offered(t->virtio, t->device_select),
        .driver_feature_select = t->driver_select,
        .driver_feature = virtio_accepted(t->virtio, t->driver_select),
        .config_msix_vector = t->config_vector,
        .num_queues = (uint16_t)t->virtio->type.queue_count,
        .device_status = virtio_status(t->virtio),
        .config_generation = t->virtio->config_generation,
        .queue_select = t->queue_select,
    };

    if (q)
        common_fill_queue(t, q, &c);
    if (offset < sizeof c && size <= sizeof c - offset)
        memcpy(&value, (const uint8_t *)&c + offset, size);
    return value;
}

static uint16_t valid_vector(const struct virtio_pci *t, uint32_t vector)
{
    return vector < t->info.msix_vectors ? (uint16_t)vector : NO_VECTOR;
}

static gpa_t with_half(gpa_t old, unsigned half, uint32_t value)
{
    const unsigned shift = 32 * half;

    return (old & ~(UINT64_C(0xffffffff) << shift)) | (uint64_t)value << shift;
}

/* One of the six words of the three addresses. */
static void write_address(struct virtio_pci *t, unsigned word, uint32_t value)
{
    const struct virtq *q = selected(t);
    gpa_t address[3];

    if (!q)
        return;
    address[0] = q->desc;
    address[1] = q->avail;
    address[2] = q->used;
    address[word / 2] = with_half(address[word / 2], word % 2, value);
    virtio_queue_set_rings(t->virtio, q->index, address[0], address[1], address[2]);
}

static void select_and_accept(struct virtio_pci *t, uint64_t offset, uint32_t value)
{
    switch (offset) {
    case offsetof(struct common, device_feature_select): t->device_select = value; break;
    case offsetof(struct common, driver_feature_select): t->driver_select = value; break;
    case offsetof(struct common, driver_feature):
        virtio_accept(t->virtio, t->driver_select, value);
        break;
    default:
        if (offset >= offsetof(struct common, queue_desc) && offset % 4 == 0)
            write_address(t, (unsigned)(offset - offsetof(struct common, queue_desc)) / 4, value);
        break;
    }
}

static void set_up_queue(struct virtio_pci *t, uint64_t offset, uint16_t value)
{
    const struct virtq *q = selected(t);

    switch (offset) {
    case offsetof(struct common, config_msix_vector):
        t->config_vector = valid_vector(t, value);
        break;
    case offsetof(struct common, queue_select): t->queue_select = value; break;
    case offsetof(struct common, queue_size):
        virtio_queue_set_size(t->virtio, t->queue_select, value);
        break;
    case offsetof(struct common, queue_msix_vector):
        if (q)
            t->queue_vector[q->index] = valid_vector(t, value);
        break;
    case offsetof(struct common, queue_enable):
        if (value == 1)
            virtio_queue_enable(t->virtio, t->queue_select);
        break;
    default: break;
    }
}

static void forget_vectors(struct virtio_pci *t)
{
    t->config_vector = NO_VECTOR;
    for (unsigned i = 0; i < VIRTIO_MAX_QUEUES; i++)
        t->queue_vector[i] = NO_VECTOR;
}

/* The driver's choices go with the device's reset; what it looks at stays, which harms nobody. */
static void forget_choices(struct virtio_pci *t)
{
    forget_vectors(t);
    isr_read(t);
}

static void write_status(struct virtio_pci *t, uint8_t value)
{
    if (value == 0)
        forget_choices(t);
    virtio_set_status(t->virtio, value);
}

/* Fields are written with accesses of their size (4.1.3.1), 64-bit ones by halves. */
static void common_write(struct virtio_pci *t, uint64_t offset, uint32_t value, unsigned size)
{
    if (size == 4 && offset < sizeof(struct common))
        select_and_accept(t, offset, value);
    else if (size == 2)
        set_up_queue(t, offset, (uint16_t)value);
    else if (size == 1 && offset == offsetof(struct common, device_status))
        write_status(t, (uint8_t)value);
}

/* --- the main BAR --- */

static uint64_t main_read(void *opaque, uint64_t offset, unsigned size)
{
    struct virtio_pci *t = opaque;
    const uint64_t in_region = offset % REGION_SIZE;

    switch (offset - in_region) {
    case COMMON: return common_read(t, in_region, size);
    case ISR: return in_region == 0 ? isr_read(t) : 0;
    case CONFIG: return virtio_config_read(t->virtio, (unsigned)in_region, size);
    default: return 0;
    }
}

static void main_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct virtio_pci *t = opaque;
    const uint64_t in_region = offset % REGION_SIZE;

    switch (offset - in_region) {
    case COMMON: common_write(t, in_region, (uint32_t)value, size); break;
    case CONFIG: virtio_config_write(t->virtio, (unsigned)in_region, (uint32_t)value, size); break;
    case NOTIFY: virtio_notify(t->virtio, (unsigned)(in_region / NOTIFY_MULTIPLIER)); break;
    default: break;
    }
}

static const struct io_ops main_ops = {.read = main_read, .write = main_write, .max_size = 4};

/* --- the window in the configuration space (4.1.4.9) --- */

/* Where in the main BAR the driver has pointed the window; false: nowhere. */
static bool window_target(const struct virtio_pci *t, uint32_t *offset, unsigned *size)
{
    const uint8_t *cap = &t->pci.config[t->window];

    *offset = pci_get32(cap + CAP_OFFSET);
    *size = pci_get32(cap + CAP_LENGTH);
    return cap[CAP_BAR] == MAIN_BAR && (*size == 1 || *size == 2 || *size == 4) &&
           *offset % *size == 0 && *offset < MAIN_BAR_SIZE;
}

/* Do these bytes of the configuration space contain the window's data? */
static bool touches_window(const struct virtio_pci *t, unsigned offset, unsigned size)
{
    const unsigned data = t->window + CAP_DATA;

    return offset < data + 4 && data < offset + size;
}

static void config_reading(void *opaque, unsigned offset, unsigned size)
{
    struct virtio_pci *t = opaque;
    uint32_t target;
    unsigned width;

    if (touches_window(t, offset, size) && window_target(t, &target, &width))
        pci_put32(&t->pci.config[t->window + CAP_DATA], (uint32_t)main_read(t, target, width));
}

static void config_written(void *opaque, unsigned offset, unsigned size)
{
    struct virtio_pci *t = opaque;
    uint32_t target;
    unsigned width;

    virtio_set_dma(t->virtio, pci_get16(&t->pci.config[PCI_COMMAND]) & PCI_COMMAND_MASTER);
    /* All of the space at once: a saved machine was loaded, and nobody wrote to the window. */
    if (size < PCI_CONFIG_SIZE && touches_window(t, offset, size) &&
        window_target(t, &target, &width)) {
        uint32_t value = pci_get32(&t->pci.config[t->window + CAP_DATA]);

        main_write(t, target, width == 4 ? value : value & ((1u << 8 * width) - 1), width);
    }
}

/* --- making --- */

static void reset(void *opaque)
{
    struct virtio_pci *t = opaque;

    virtio_drain(t->virtio);
    virtio_set_dma(t->virtio, false);
    virtio_reset(t->virtio);
    forget_choices(t);
    t->device_select = t->driver_select = 0;
    t->queue_select = 0;
}

static uint8_t add_capability(struct virtio_pci *t, unsigned kind, uint32_t offset, uint32_t length,
                              uint8_t size)
{
    uint8_t at = pci_add_capability(&t->pci, PCI_CAP_VENDOR, size);
    uint8_t *cap = &t->pci.initial[at];

    cap[2] = size;
    cap[CAP_KIND] = (uint8_t)kind;
    cap[CAP_BAR] = MAIN_BAR;
    pci_put32(cap + CAP_OFFSET, offset);
    pci_put32(cap + CAP_LENGTH, length);
    return at;
}

static void add_capabilities(struct virtio_pci *t)
{
    const uint32_t doorbells = t->virtio->type.queue_count * NOTIFY_MULTIPLIER;
    uint8_t notify;

    add_capability(t, CAP_COMMON, COMMON, sizeof(struct common), CAP_SIZE);
    add_capability(t, CAP_ISR, ISR, 1, CAP_SIZE);
    if (t->virtio->type.config_size)
        add_capability(t, CAP_DEVICE, CONFIG, t->virtio->type.config_size, CAP_SIZE);
    notify = add_capability(t, CAP_NOTIFY, NOTIFY, doorbells, CAP_SIZE_EXTRA);
    pci_put32(&t->pci.initial[notify + CAP_MULTIPLIER], NOTIFY_MULTIPLIER);

    t->window = add_capability(t, CAP_PCI, 0, 0, CAP_SIZE_EXTRA);
    t->pci.initial[t->window + CAP_BAR] = 0;
    t->pci.writable[t->window + CAP_BAR] = 0xff;
    memset(&t->pci.writable[t->window + CAP_OFFSET], 0xff, CAP_SIZE_EXTRA - CAP_OFFSET);
}

void virtio_pci_init(struct virtio_pci *t, struct virtio_device *virtio)
{
    memset(t, 0, sizeof *t);
    t->virtio = virtio;
    t->info = (struct pci_info){
        .name = virtio->type.name,
        .vendor = VENDOR,
        .device = (uint16_t)(DEVICE_BASE + virtio->type.id),
        .subsystem_vendor = VENDOR,
        .subsystem = SUBSYSTEM,
        .class_code = virtio->type.class_code,
        .revision = 1,
        .pin = 1,
        .bars[MAIN_BAR] = {.kind = PCI_BAR_MEMORY, .size = MAIN_BAR_SIZE, .ops = &main_ops},
        .msix_vectors = virtio->type.queue_count + 1,
        .msix_bar = MSIX_BAR,
        .reset = reset,
        .config_reading = config_reading,
        .config_written = config_written,
    };
    virtio->transport = (struct virtio_transport){queue_interrupt, config_interrupt, t};
    pci_device_init(&t->pci, &t->info, t);
    add_capabilities(t);
    forget_vectors(t);
}

/* --- state --- */

static int loaded(void *object, struct err *err)
{
    struct virtio_pci *t = object;
    bool valid = t->config_vector == NO_VECTOR || t->config_vector < t->info.msix_vectors;

    for (unsigned i = 0; i < VIRTIO_MAX_QUEUES; i++)
        valid &= t->queue_vector[i] == NO_VECTOR || t->queue_vector[i] < t->info.msix_vectors;
    if (!valid)
        return err_set(err, -EINVAL, "%s: an MSI-X vector that the device does not have",
                       t->info.name);
    return 0;
}

static const struct field fields[] = {
    FIELD(struct virtio_pci, device_select),      FIELD(struct virtio_pci, driver_select),
    FIELD(struct virtio_pci, queue_select),       FIELD(struct virtio_pci, config_vector),
    FIELD_ARRAY(struct virtio_pci, queue_vector), FIELD(struct virtio_pci, isr),
};

const struct state_desc virtio_pci_state_desc = {
    .name = "virtio-pci",
    .version = 1,
    .fields = fields,
    .field_count = ARRAY_SIZE(fields),
    .loaded = loaded,
};

void virtio_pci_add_state(struct virtio_pci *t, struct state_list *list, unsigned instance)
{
    state_add(list, &virtio_pci_state_desc, instance, t);
    virtio_add_state(t->virtio, list, instance);
}
