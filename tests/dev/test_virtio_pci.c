/* test_virtio_pci.c - the entropy device behind PCI, driven through its registers alone, as a
 * driver does: capabilities, set-up, doorbell, MSI-X and INTx, the window in the configuration
 * space. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bus/pci.h"
#include "virtio/pci_transport.h"
#include "virtio/virtio_rng.h"

#define RAM (2 * MIB)
#define BAR 0xe0000000u
#define TABLE_BAR 0xe0010000u
#define RINGS 0x10000u
#define BUFFER 0x20000u

/* Kinds of capabilities, and registers of the common configuration (virtio 1.2, 4.1.4). */
enum { COMMON = 1, NOTIFY = 2, ISR = 3, DEVICE = 4, WINDOW = 5 };
enum { DEVICE_SELECT = 0, DEVICE_FEATURE = 4, DRIVER_SELECT = 8, DRIVER_FEATURE = 12 };
enum { CONFIG_VECTOR = 16, NUM_QUEUES = 18, STATUS = 20, QUEUE_SELECT = 22, QUEUE_SIZE = 24 };
enum { QUEUE_VECTOR = 26, QUEUE_ENABLE = 28, QUEUE_DESC = 32, QUEUE_AVAIL = 40, QUEUE_USED = 48 };

struct fixture {
    struct bus bus;
    struct memory mem;
    struct clock clock;
    struct pci_bus pci;
    struct virtio_rng rng;
    struct virtio_pci transport;
    bool level[4];
    unsigned messages;
    uint64_t address;
    uint32_t data;
};

static void on_message(void *opaque, uint64_t address, uint32_t data)
{
    struct fixture *f = opaque;

    f->messages++;
    f->address = address;
    f->data = data;
}

static void on_irq(void *opaque, unsigned number, bool level)
{
    ((struct fixture *)opaque)->level[number] = level;
}

static uint32_t config_read(struct fixture *f, unsigned reg, unsigned size)
{
    uint32_t value;

    bus_lock(&f->bus);
    value = pci_config_read(&f->pci, (uint32_t)f->transport.pci.devfn << 8 | reg, size);
    bus_unlock(&f->bus);
    return size == 4 ? value : value & ((1u << 8 * size) - 1);
}

static void config_write(struct fixture *f, unsigned reg, uint32_t value, unsigned size)
{
    bus_lock(&f->bus);
    pci_config_write(&f->pci, (uint32_t)f->transport.pci.devfn << 8 | reg, value, size);
    bus_unlock(&f->bus);
}

static uint32_t get(struct fixture *f, unsigned offset, unsigned size)
{
    return (uint32_t)bus_mmio_read(&f->bus, BAR + offset, size);
}

static void put(struct fixture *f, unsigned offset, uint64_t value, unsigned size)
{
    bus_mmio_write(&f->bus, BAR + offset, value, size);
}

static bool any_irq(const struct fixture *f)
{
    return f->level[0] || f->level[1] || f->level[2] || f->level[3];
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    assert_non_null(f);
    bus_init(&f->bus);
    clock_init(&f->clock, CLOCK_VIRTUAL);
    assert_int_equal(memory_init(&f->mem, RAM, NULL), 0);
    pci_bus_init(&f->pci, &f->bus, &f->mem);
    f->pci.msi = on_message;
    f->pci.msi_opaque = f;
    for (unsigned i = 0; i < 4; i++)
        f->pci.pirq[i] = (struct irq){on_irq, f, i};
    virtio_rng_init(&f->rng, &f->mem, &f->clock);
    virtio_pci_init(&f->transport, &f->rng.virtio);
    assert_int_equal(pci_add(&f->pci, &f->transport.pci, PCI_ANY_SLOT, NULL), 0);
    bus_lock(&f->bus);
    pci_bus_reset(&f->pci);
    bus_unlock(&f->bus);
    config_write(f, PCI_BAR0 + 4, TABLE_BAR, 4);
    config_write(f, PCI_BAR0 + 16, BAR, 4);
    config_write(f, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 2);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    memory_free(&f->mem);
    bus_free(&f->bus);
    free(f);
    return 0;
}

/* The offset of the capability of that kind, or 0. */
static unsigned find(struct fixture *f, unsigned kind)
{
    unsigned at = config_read(f, PCI_CAPABILITIES, 1);

    for (unsigned i = 0; at && i < 16; i++, at = config_read(f, at + 1, 1))
        if (config_read(f, at, 1) == PCI_CAP_VENDOR && config_read(f, at + 3, 1) == kind)
            return at;
    return 0;
}

/* From reset to DRIVER_OK with one queue of 8, and `vector` for it. */
static void start(struct fixture *f, unsigned vector)
{
    put(f, STATUS, 0, 1);
    assert_int_equal(get(f, STATUS, 1), 0);
    put(f, STATUS, 3, 1);
    put(f, DRIVER_SELECT, 1, 4);
    put(f, DRIVER_FEATURE, 1, 4);
    put(f, STATUS, 11, 1);
    assert_int_equal(get(f, STATUS, 1), 11);
    put(f, QUEUE_SELECT, 0, 2);
    put(f, QUEUE_SIZE, 8, 2);
    put(f, QUEUE_VECTOR, vector, 2);
    put(f, QUEUE_DESC, RINGS, 4);
    put(f, QUEUE_DESC + 4, 0, 4);
    put(f, QUEUE_AVAIL, RINGS + 0x1000, 8);
    put(f, QUEUE_USED, RINGS + 0x2000, 8);
    put(f, QUEUE_ENABLE, 1, 2);
    put(f, STATUS, 15, 1);
}

/* Offers one buffer of 16 bytes and rings; the number of bytes that came back, or -1. */
static int ask(struct fixture *f)
{
    const struct {
        uint64_t addr;
        uint32_t len;
        uint16_t flags, next;
    } desc = {BUFFER, 16, 2, 0};
    uint16_t *avail = memory_ram(&f->mem, RINGS + 0x1000, 64);
    const uint16_t *used = memory_ram(&f->mem, RINGS + 0x2000, 128);
    const uint16_t before = used[1];

    memcpy(memory_ram(&f->mem, RINGS, 16), &desc, sizeof desc);
    avail[2 + avail[1] % 8] = 0;
    avail[1]++;
    put(f, config_read(f, find(f, NOTIFY) + 8, 4), 0, 2);
    return used[1] == before ? -1 : used[2 + 4 * (before % 8) + 2];
}

static void it_is_a_modern_device(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(config_read(f, PCI_VENDOR_ID, 4), 0x10441af4);
    assert_int_equal(config_read(f, PCI_REVISION, 1), 1);
    for (unsigned kind = COMMON; kind <= WINDOW; kind++)
        assert_int_equal(find(f, kind) != 0, kind != DEVICE); /* it has no configuration */
    assert_int_equal(config_read(f, find(f, COMMON) + 4, 1), 4);
    assert_int_equal(config_read(f, find(f, COMMON) + 12, 4), 0x38);
    assert_int_equal(get(f, NUM_QUEUES, 2), 1);
    put(f, DEVICE_SELECT, 1, 4);
    assert_int_equal(get(f, DEVICE_FEATURE, 4), 1); /* VERSION_1 */
    put(f, DEVICE_SELECT, 2, 4);
    assert_int_equal(get(f, DEVICE_FEATURE, 4), 0);
    put(f, QUEUE_SELECT, 1, 2);
    assert_int_equal(get(f, QUEUE_SIZE, 2), 0);
}

static void a_pin_is_raised_until_the_isr_is_read(void **state)
{
    struct fixture *f = *state;

    start(f, 0);
    assert_int_equal(ask(f), 16);
    assert_true(any_irq(f));
    assert_int_equal(f->messages, 0);
    assert_int_equal(get(f, 0x1000, 1), 1);
    assert_false(any_irq(f));
    assert_int_equal(get(f, 0x1000, 1), 0);
}

static void enable_msix(struct fixture *f)
{
    const unsigned cap = f->transport.pci.msix;

    for (unsigned i = 0; i < 2; i++) {
        bus_mmio_write(&f->bus, TABLE_BAR + 16 * i, 0xfee00000, 4);
        bus_mmio_write(&f->bus, TABLE_BAR + 16 * i + 8, 0x40 + i, 4);
        bus_mmio_write(&f->bus, TABLE_BAR + 16 * i + 12, 0, 4);
    }
    config_write(f, cap + 2, 0x8000, 2);
}

static void a_message_has_the_vector_that_was_chosen(void **state)
{
    struct fixture *f = *state;

    enable_msix(f);
    start(f, 1);
    put(f, CONFIG_VECTOR, 0, 2);
    assert_int_equal(get(f, QUEUE_VECTOR, 2), 1);
    assert_int_equal(ask(f), 16);
    assert_int_equal(f->messages, 1);
    assert_int_equal(f->data, 0x41);
    assert_false(any_irq(f));
    put(f, QUEUE_VECTOR, 2, 2); /* there are two */
    assert_int_equal(get(f, QUEUE_VECTOR, 2), 0xffff);
    assert_int_equal(ask(f), 16);
    assert_int_equal(f->messages, 1);
}

static void a_broken_device_says_so(void **state)
{
    struct fixture *f = *state;

    enable_msix(f);
    start(f, 1);
    put(f, CONFIG_VECTOR, 0, 2);
    ((uint16_t *)memory_ram(&f->mem, RINGS + 0x1000, 4))[1] = 1000;
    assert_int_equal(ask(f), -1);
    assert_int_equal(get(f, STATUS, 1), 0x4f);
    assert_int_equal(f->data, 0x40);
    start(f, 1);
    memset(memory_ram(&f->mem, RINGS, 0x4000), 0, 0x4000);
    assert_int_equal(ask(f), 16);
}

static void only_a_bus_master_reaches_memory(void **state)
{
    struct fixture *f = *state;

    start(f, 0);
    config_write(f, PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
    assert_int_equal(ask(f), -1);
    config_write(f, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 2);
    assert_int_equal(ask(f), 16);
}

static void the_window_leads_to_the_registers(void **state)
{
    struct fixture *f = *state;
    const unsigned cap = find(f, WINDOW);

    config_write(f, cap + 4, 4, 1);
    config_write(f, cap + 8, NUM_QUEUES, 4);
    config_write(f, cap + 12, 2, 4);
    assert_int_equal(config_read(f, cap + 16, 2), 1);
    config_write(f, cap + 8, STATUS, 4);
    config_write(f, cap + 12, 1, 4);
    config_write(f, cap + 16, 3, 1);
    assert_int_equal(get(f, STATUS, 1), 3);
    config_write(f, cap + 8, 0xfffffffc, 4); /* nowhere */
    config_write(f, cap + 12, 4, 4);
    config_write(f, cap + 16, 0, 4);
    config_read(f, cap + 16, 4);
    assert_int_equal(get(f, STATUS, 1), 3);
}

/* What the window was last used for is not done again by loading it: here, a reset. */
static void reset_through_the_window(struct fixture *f)
{
    const unsigned cap = find(f, WINDOW);

    config_write(f, cap + 4, 4, 1);
    config_write(f, cap + 8, STATUS, 4);
    config_write(f, cap + 12, 1, 4);
    config_write(f, cap + 16, 0, 1);
}

static void state_survives(void **state)
{
    struct fixture *f = *state;
    struct state_list *list = state_list_new();
    uint8_t *data = NULL;
    size_t size = 0;
    struct err err = {0};

    pci_add_states(&f->pci, list);
    virtio_pci_add_state(&f->transport, list, 0);
    state_add(list, &virtio_rng_state_desc, 0, &f->rng);
    reset_through_the_window(f);
    enable_msix(f);
    start(f, 1);
    bus_lock(&f->bus);
    assert_int_equal(state_save(list, &data, &size, &err), 0);
    pci_bus_reset(&f->pci);
    assert_int_equal(state_load(list, data, size, &err), 0);
    bus_unlock(&f->bus);
    assert_int_equal(ask(f), 16);
    assert_int_equal(f->data, 0x41);
    free(data);
    state_list_free(list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
        TEST(it_is_a_modern_device),
        TEST(a_pin_is_raised_until_the_isr_is_read),
        TEST(a_message_has_the_vector_that_was_chosen),
        TEST(a_broken_device_says_so),
        TEST(only_a_bus_master_reaches_memory),
        TEST(the_window_leads_to_the_registers),
        TEST(state_survives),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
