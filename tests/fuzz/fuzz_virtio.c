/* fuzz_virtio.c - a hostile driver of virtio devices behind PCI: entropy, console, network card.
 *
 * The input is a row of operations, each begun by a byte that chooses it (operations[]): accesses
 * to the BARs and the configuration space, whole set-ups as a driver makes them, bytes anywhere in
 * RAM, chains of descriptors, doorbells, packets and keys from outside, pauses, resets. While a
 * packet is being sent the bus is unlocked, and the guest's next operations come then. Every device
 * here ends its requests at once, so that no chain is out between two operations; a machine that
 * was saved can be loaded and is then the same. */
#include "input.h"
#include "machine.h"

#include "bus/pci.h"
#include "net/backend.h"
#include "virtio/pci_transport.h"
#include "virtio/virtio_console.h"
#include "virtio/virtio_net.h"
#include "virtio/virtio_rng.h"

#include <stdlib.h>

#define RAM (2 * MIB)
#define MAX_OPERATIONS 300u
#define DEVICES 3u
#define MAIN_BAR(device) (0xe0000000u + (device)*0x10000u)
#define MSIX_BAR(device) (MAIN_BAR(device) + 0x8000u)
#define RINGS(device, queue) (((device)*4u + (queue)) * 0x8000u)
#define BUFFERS 0x80000u

/* Offsets in the main BAR (virtio 1.2, 4.1.4.3). */
enum { FEATURE_SELECT = 8, FEATURE = 12, STATUS = 20, QUEUE_SELECT = 22, QUEUE_SIZE = 24 };
enum { QUEUE_VECTOR = 26, QUEUE_ENABLE = 28, QUEUE_ADDRESSES = 32, DOORBELLS = 0x3000 };

static struct board {
    struct bus bus;
    struct memory mem;
    struct clock clock;
    struct pci_bus pci;
    struct virtio_rng rng;
    struct virtio_console console;
    struct virtio_net nic;
    struct net net;
    struct virtio_pci transports[DEVICES];
    struct virtio_device *devices[DEVICES];
    struct state_list *states;
    uint8_t *new_state;
    size_t new_size;
    struct input in;
    unsigned left; /* operations */
    unsigned depth;
} board;

static void operate(struct board *b);

/* --- what is outside --- */

static void on_message(void *opaque, uint64_t address, uint32_t data)
{
    (void)opaque;
    (void)address;
    (void)data;
}

static void on_irq(void *opaque, unsigned number, bool level)
{
    (void)opaque;
    (void)number;
    (void)level;
}

static void on_transmit(void *opaque, const uint8_t *bytes, size_t count)
{
    volatile uint8_t sum = 0;

    (void)opaque;
    for (size_t i = 0; i < count; i++)
        sum = (uint8_t)(sum + bytes[i]);
}

static void on_nothing(void *opaque)
{
    (void)opaque;
}

/* Other CPUs of the guest go on meanwhile. */
static void fake_send(struct net *net, const struct packet_header *header, const struct iovec *iov,
                      unsigned count)
{
    static uint8_t packet[PACKET_MAX];
    struct board *b = &board;
    size_t len = packet_flatten(packet, sizeof packet, iov, count);

    (void)net;
    if (!packet_complete(header, packet, len))
        return;
    b->depth++;
    if (b->depth < 3)
        operate(b);
    b->depth--;
}

static const struct net_ops fake_ops = {.send = fake_send};

/* --- the board --- */

static void add(struct board *b, unsigned number, struct virtio_device *device)
{
    struct err err = {0};

    b->devices[number] = device;
    virtio_pci_init(&b->transports[number], device);
    if (pci_add(&b->pci, &b->transports[number].pci, PCI_ANY_SLOT, &err) < 0)
        fuzz_fail("no device: %s", err.text);
}

static void save(struct board *b, uint8_t **data, size_t *size)
{
    struct err err = {0};

    *data = NULL;
    *size = 0;
    bus_lock(&b->bus);
    if (state_save(b->states, data, size, &err) < 0)
        fuzz_fail("no saving: %s", err.text);
    bus_unlock(&b->bus);
}

static void load(struct board *b, const uint8_t *data, size_t size)
{
    struct err err = {0};

    bus_lock(&b->bus);
    if (state_load(b->states, data, size, &err) < 0)
        fuzz_fail("a saved state cannot be loaded: %s", err.text);
    bus_unlock(&b->bus);
}

static void list_states(struct board *b)
{
    b->states = state_list_new();
    pci_add_states(&b->pci, b->states);
    for (unsigned i = 0; i < DEVICES; i++)
        virtio_pci_add_state(&b->transports[i], b->states, i);
    state_add(b->states, &virtio_rng_state_desc, 0, &b->rng);
    state_add(b->states, &virtio_console_state_desc, 0, &b->console);
    state_add(b->states, &virtio_net_state_desc, 0, &b->nic);
}

static void init(struct board *b)
{
    const unsigned all = PACKET_CSUM | PACKET_TSO4 | PACKET_TSO6 | PACKET_TSO_ECN;
    struct err err = {0};

    bus_init(&b->bus);
    clock_init(&b->clock, CLOCK_VIRTUAL);
    if (memory_init(&b->mem, RAM, &err) < 0)
        fuzz_fail("no memory: %s", err.text);
    pci_bus_init(&b->pci, &b->bus, &b->mem);
    b->pci.msi = on_message;
    for (unsigned i = 0; i < ARRAY_SIZE(b->pci.pirq); i++)
        b->pci.pirq[i] = (struct irq){on_irq, b, i};
    b->net = (struct net){.ops = &fake_ops, .takes = all, .gives = all, .kicked.fd = -1};
    virtio_rng_init(&b->rng, &b->mem, &b->clock);
    virtio_console_init(&b->console, &b->mem, &b->clock);
    b->console.transmit = on_transmit;
    b->console.ready = b->console.more = on_nothing;
    virtio_net_init(&b->nic, &b->mem, &b->bus, &b->clock, &b->net);
    add(b, 0, &b->rng.virtio);
    add(b, 1, &b->console.virtio);
    add(b, 2, &b->nic.virtio);
    list_states(b);
    bus_lock(&b->bus);
    pci_bus_reset(&b->pci);
    bus_unlock(&b->bus);
    save(b, &b->new_state, &b->new_size);
}

/* --- one operation --- */

static unsigned take_device(struct board *b)
{
    return input_u8(&b->in) % DEVICES;
}

static uint32_t config_address(const struct board *b, unsigned device, unsigned reg)
{
    return (uint32_t)b->transports[device].pci.devfn << 8 | reg;
}

static void store(struct board *b, unsigned device, unsigned offset, uint64_t value, unsigned size)
{
    bus_mmio_write(&b->bus, MAIN_BAR(device) + offset, value, size);
}

static void enable_queue(struct board *b, unsigned device, unsigned queue, unsigned size)
{
    const gpa_t rings = RINGS(device, queue);

    store(b, device, QUEUE_SELECT, queue, 2);
    store(b, device, QUEUE_SIZE, size, 2);
    store(b, device, QUEUE_VECTOR, queue, 2);
    store(b, device, QUEUE_ADDRESSES, rings, 8);
    store(b, device, QUEUE_ADDRESSES + 8, rings + 0x2000, 8);
    store(b, device, QUEUE_ADDRESSES + 16, rings + 0x4000, 8);
    store(b, device, QUEUE_ENABLE, 1, 2);
}

/* What a driver does from reset to DRIVER_OK. */
static void set_up(struct board *b)
{
    const unsigned device = take_device(b), size = 1u << (input_u8(&b->in) % 10);
    const uint32_t features = input_u32(&b->in);

    bus_lock(&b->bus);
    pci_config_write(&b->pci, config_address(b, device, PCI_BAR0 + 4 * 4), MAIN_BAR(device), 4);
    pci_config_write(&b->pci, config_address(b, device, PCI_BAR0 + 4), MSIX_BAR(device), 4);
    pci_config_write(&b->pci, config_address(b, device, PCI_COMMAND), 7, 2);
    bus_unlock(&b->bus);
    store(b, device, STATUS, 0, 1);
    store(b, device, STATUS, 3, 1);
    store(b, device, FEATURE_SELECT, 0, 4);
    store(b, device, FEATURE, features, 4);
    store(b, device, FEATURE_SELECT, 1, 4);
    store(b, device, FEATURE, 1, 4);
    store(b, device, STATUS, 11, 1);
    for (unsigned i = 0; i < b->devices[device]->type.queue_count; i++) {
        memset((uint8_t *)memory_ram(&b->mem, RINGS(device, i), 0x8000), 0, 0x8000);
        enable_queue(b, device, i, size);
    }
    store(b, device, STATUS, 15, 1);
}

static void bar_write(struct board *b)
{
    const unsigned device = take_device(b), offset = input_u16(&b->in) & 0xffff;
    const unsigned size = 1u << (input_u8(&b->in) & 3);

    bus_mmio_write(&b->bus, MAIN_BAR(device) + offset, input_number(&b->in), size);
}

static void bar_read(struct board *b)
{
    const unsigned device = take_device(b), offset = input_u16(&b->in) & 0xffff;

    bus_mmio_read(&b->bus, MAIN_BAR(device) + offset, 1u << (input_u8(&b->in) & 3));
}

static void config_access(struct board *b)
{
    const unsigned device = take_device(b), kind = input_u8(&b->in);
    const uint32_t address = config_address(b, device, input_u8(&b->in));
    const unsigned size = 1u << (kind >> 1) % 3;

    bus_lock(&b->bus);
    if (kind & 1)
        pci_config_write(&b->pci, address, input_u32(&b->in), size);
    else
        pci_config_read(&b->pci, address, size);
    bus_unlock(&b->bus);
}

static void change_ram(struct board *b)
{
    const gpa_t at = input_u32(&b->in) % RAM;
    struct input piece = input_piece(&b->in, 256);

    if (piece.left <= RAM - at)
        memcpy(memory_ram(&b->mem, at, piece.left ? piece.left : 1), piece.bytes, piece.left);
}

/* Where buffers are: mostly in RAM, and mostly not in the rings. */
static uint64_t take_address(struct board *b)
{
    const uint32_t v = input_u16(&b->in);

    if ((v & 0xf000) == 0xf000)
        return input_number(&b->in);
    return v & 1 ? BUFFERS + v * 16u : v * 8u;
}

/* Descriptors somewhere in the table, made available, and often the doorbell. */
static void offer(struct board *b)
{
    const unsigned device = take_device(b), kind = input_u8(&b->in), queue = kind & 3;
    uint8_t *table = memory_ram(&b->mem, RINGS(device, queue), 0x8000);
    uint16_t *avail = (uint16_t *)(void *)(table + 0x2000);
    const struct virtq *q = &b->devices[device]->queues[queue];
    unsigned index = input_u8(&b->in);

    avail[2 + (avail[1] & (q->size ? q->size - 1u : 0u))] = (uint16_t)index;
    avail[1]++;
    for (unsigned i = 0; i <= (kind >> 4 & 3); i++, index++) {
        const uint64_t address = take_address(b);
        const uint32_t flags = input_u8(&b->in), len = input_u16(&b->in);
        const uint64_t rest = (flags & 0x80 ? (uint64_t)len << 12 : len) |
                              (uint64_t)(flags & 7) << 32 | (uint64_t)(index + 1) << 48;

        memcpy(table + (index & 0xff) * 16, &address, 8);
        memcpy(table + (index & 0xff) * 16 + 8, &rest, 8);
    }
    if (kind & 0x80)
        store(b, device, DOORBELLS + 4 * queue, queue, 2);
}

static void doorbell(struct board *b)
{
    const unsigned device = take_device(b);

    store(b, device, DOORBELLS + 4 * (input_u8(&b->in) & 7), 0, 2);
}

static void pump(struct board *b)
{
    if (b->depth == 0)
        b->net.peer.pump(b->net.peer.opaque);
}

static void packet_comes(struct board *b)
{
    static uint8_t packet[PACKET_MAX];
    const uint16_t kind = input_u16(&b->in);
    const struct packet_header header = {.flags = kind & 3, .gso_type = (uint8_t)(kind >> 8)};
    struct input head = input_piece(&b->in, 64);

    memcpy(packet, head.bytes, head.left);
    b->net.peer.receive(b->net.peer.opaque, &header, packet, input_u16(&b->in));
}

static void keys_come(struct board *b)
{
    struct input keys = input_piece(&b->in, 300);

    bus_lock(&b->bus);
    virtio_console_receive(&b->console, keys.bytes, keys.left);
    virtio_console_resize(&b->console, (uint16_t)keys.left, 25);
    virtio_console_pump(&b->console);
    bus_unlock(&b->bus);
}

static void time_passes(struct board *b)
{
    const uint64_t now = clock_now(&b->clock) + input_u32(&b->in);

    bus_lock(&b->bus);
    clock_set(&b->clock, now, now);
    clock_run_timers(&b->clock);
    bus_unlock(&b->bus);
}

/* Deeper down a packet is being sent, which a save waits for, and a pause and a reset, too. */
static void save_and_load(struct board *b)
{
    uint8_t *first, *second;
    size_t first_size, second_size;

    if (b->depth)
        return;
    save(b, &first, &first_size);
    load(b, first, first_size);
    save(b, &second, &second_size);
    machine_compare_states(first, second, first_size == second_size ? first_size : 0);
    free(first);
    free(second);
}

static void pause_or_resume(struct board *b)
{
    if (b->depth)
        return;
    bus_lock(&b->bus);
    (b->clock.stopped ? clock_start : clock_stop)(&b->clock);
    bus_unlock(&b->bus);
}

static void reset_all(struct board *b)
{
    if (b->depth || input_u8(&b->in) < 200)
        return;
    bus_lock(&b->bus);
    pci_bus_reset(&b->pci);
    bus_unlock(&b->bus);
}

static void (*const operations[16])(struct board *b) = {
    set_up,        offer,           offer, doorbell,      pump,         bar_write, bar_read,
    change_ram,    offer,           pump,  config_access, packet_comes, keys_come, time_passes,
    save_and_load, pause_or_resume,
};

/* --- what must hold --- */

static void check(const struct board *b)
{
    for (unsigned i = 0; i < DEVICES; i++) {
        const struct virtio_device *device = b->devices[i];

        if (device->resetting && b->depth == 0)
            fuzz_fail("%s waits for a chain that nobody has", device->type.name);
        for (unsigned k = 0; k < device->type.queue_count; k++) {
            const struct virtq *q = &device->queues[k];

            if (q->taken > b->depth)
                fuzz_fail("%s, queue %u: %u chains are out", device->type.name, k, q->taken);
            if (!q->size || q->size > q->max_size || (q->size & (q->size - 1)))
                fuzz_fail("%s, queue %u: a size of %u", device->type.name, k, q->size);
            if (q->enabled && !(q->desc_host && q->avail_host && q->used_host))
                fuzz_fail("%s, queue %u: enabled without rings", device->type.name, k);
        }
    }
}

static void operate(struct board *b)
{
    const uint8_t kind = input_u8(&b->in);

    if (b->left == 0 || b->in.left == 0)
        return;
    b->left--;
    if (kind == 0xff)
        reset_all(b);
    else
        operations[kind & 15](b);
    check(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct board *b = &board;

    if (!b->states)
        init(b);
    bus_lock(&b->bus);
    clock_set(&b->clock, 0, 0);
    clock_start(&b->clock);
    pci_bus_reset(&b->pci);
    bus_unlock(&b->bus);
    load(b, b->new_state, b->new_size);
    memset(memory_ram(&b->mem, 0, RAM), 0, RAM);
    b->in = (struct input){data, size};
    b->left = MAX_OPERATIONS;
    b->depth = 0;
    while (b->left && b->in.left)
        operate(b);
    return 0;
}
