/* test_pci.c - a PCI function through its configuration space: header, base registers that lie over
 * RAM and each other, interrupt pin, messages, DMA, and what survives saving. */
#include <string.h>

#include "pci_rig.h"

#define MEMORY_BAR 0x80000000u
#define IO_BAR 0xc000u

/* A function that remembers one register in each of its BARs. */
struct toy {
    struct pci_device pci;
    uint32_t io, memory;
    unsigned resets, written;
};

static uint64_t io_read(void *opaque, uint64_t offset, unsigned size)
{
    const struct toy *toy = opaque;

    (void)offset, (void)size;
    return toy->io;
}

static void io_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct toy *toy = opaque;

    (void)offset, (void)size;
    toy->io = (uint32_t)value;
}

static uint64_t memory_bar_read(void *opaque, uint64_t offset, unsigned size)
{
    const struct toy *toy = opaque;

    (void)size;
    return toy->memory + offset;
}

static void memory_bar_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct toy *toy = opaque;

    (void)offset, (void)size;
    toy->memory = (uint32_t)value;
}

static void toy_reset(void *opaque)
{
    struct toy *toy = opaque;

    toy->resets++;
}

static void toy_written(void *opaque, unsigned offset, unsigned size)
{
    struct toy *toy = opaque;

    (void)offset;
    toy->written += size;
}

static const struct io_ops io_ops = {.read = io_read, .write = io_write, .max_size = 4};
static const struct io_ops memory_ops = {.read = memory_bar_read, .write = memory_bar_write};

static const struct pci_info info = {
    .name = "toy",
    .vendor = 0x1234,
    .device = 0x5678,
    .subsystem_vendor = 0x1af4,
    .subsystem = 0x1100,
    .class_code = 0x010203,
    .revision = 4,
    .pin = 1,
    .bars = {{PCI_BAR_IO, 32, &io_ops, false}, {PCI_BAR_MEMORY64, 0x10000, &memory_ops, true}},
    .msi = true,
    .msix_vectors = 3,
    .msix_bar = 4,
    .reset = toy_reset,
    .config_written = toy_written,
};

struct fixture {
    struct pci_rig r;
    struct toy toy, other;
};

static void add(struct fixture *f, struct toy *toy)
{
    struct err err = {0};

    pci_device_init(&toy->pci, &info, toy);
    assert_int_equal(pci_add(&f->r.pci, &toy->pci, PCI_ANY_SLOT, &err), 0);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    pci_rig_init(&f->r);
    add(f, &f->toy);
    add(f, &f->other);
    pci_bus_reset(&f->r.pci);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    pci_rig_free(&f->r);
    free(f);
    return 0;
}

static uint32_t get(struct fixture *f, unsigned reg, unsigned size)
{
    return pci_rig_read(&f->r, &f->toy.pci, reg, size);
}

static void set(struct fixture *f, unsigned reg, uint32_t value, unsigned size)
{
    pci_rig_write(&f->r, &f->toy.pci, reg, value, size);
}

static void map(struct fixture *f)
{
    set(f, PCI_BAR0, IO_BAR, 4);
    set(f, PCI_BAR0 + 4, MEMORY_BAR, 4);
    set(f, PCI_BAR0 + 16, 0x90000000, 4);
    set(f, PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 2);
}

static unsigned capability(struct fixture *f, uint8_t id)
{
    for (unsigned at = get(f, PCI_CAPABILITIES, 1), n = 0; at && n < 48;
         at = get(f, at + 1, 1), n++)
        if (get(f, at, 1) == id)
            return at;
    return 0;
}

static void has_a_header(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(f->toy.pci.devfn, PCI_DEVFN(PCI_FIRST_FREE_SLOT, 0));
    assert_int_equal(f->other.pci.devfn, PCI_DEVFN(PCI_FIRST_FREE_SLOT + 1, 0));
    assert_int_equal(get(f, 0, 4), 0x56781234);
    assert_int_equal(get(f, 8, 4), 0x01020304);
    assert_int_equal(get(f, PCI_SUBSYSTEM_VENDOR, 4), 0x11001af4);
    set(f, 0, 0, 4);
    set(f, PCI_SUBSYSTEM, 0xffff, 2);
    assert_int_equal(get(f, 0, 4), 0x56781234);
    assert_int_equal(get(f, 0xfe, 4) >> 16, 0xffff); /* two bytes are there, two are not */
    set(f, 0xff, UINT32_MAX, 4);
    assert_int_equal(pci_config_read(&f->r.pci, 0x1f00, 4), UINT32_MAX);
    assert_int_equal(pci_config_read(&f->r.pci, (1u << 16) | f->toy.pci.devfn << 8, 4), UINT32_MAX);
}

static void base_registers_tell_their_sizes(void **state)
{
    struct fixture *f = *state;

    for (unsigned i = 0; i < 6; i++)
        set(f, PCI_BAR0 + 4 * i, UINT32_MAX, 4);
    assert_int_equal(get(f, PCI_BAR0, 4), 0xffffffe1);
    assert_int_equal(get(f, PCI_BAR0 + 4, 4), 0xffff000c);
    assert_int_equal(get(f, PCI_BAR0 + 8, 4), 0xffffffff);
    assert_int_equal(get(f, PCI_BAR0 + 12, 4), 0);
    assert_int_equal(get(f, PCI_BAR0 + 16, 4), 0xfffff000);
    assert_int_equal(get(f, PCI_ROM_BAR, 4), 0);
    set(f, PCI_BAR0 + 1, 0xc0, 1); /* a byte of it */
    assert_int_equal(get(f, PCI_BAR0, 2), 0xc0e1);
}

static void decodes_where_it_was_put(void **state)
{
    struct fixture *f = *state;
    struct bus *bus = &f->r.rig->bus;

    bus_pio_write(bus, IO_BAR, 7, 4);
    assert_int_equal(f->toy.io, 0);
    map(f);
    bus_pio_write(bus, IO_BAR + 4, 7, 4);
    assert_int_equal(f->toy.io, 7);
    bus_mmio_write(bus, MEMORY_BAR, 0x100, 4);
    assert_int_equal(bus_mmio_read(bus, MEMORY_BAR + 0x20, 4), 0x120);
    set(f, PCI_BAR0 + 8, 1, 4); /* above 4 GiB */
    assert_int_equal(bus_mmio_read(bus, MEMORY_BAR, 4), UINT32_MAX);
    assert_int_equal(bus_mmio_read(bus, 0x180000008, 4), 0x108);
    set(f, PCI_COMMAND, 0, 2);
    assert_int_equal(bus_mmio_read(bus, 0x180000008, 4), UINT32_MAX);
    assert_int_equal(bus_pio_read(bus, IO_BAR, 4), UINT32_MAX);
}

static void gives_way_to_the_board(void **state)
{
    struct fixture *f = *state;
    struct bus *bus = &f->r.rig->bus;
    struct toy board = {.io = 0x11, .memory = 0x22};

    map(f);
    bus_add_pio(bus, "board", IO_BAR + 8, 4, &io_ops, &board);
    bus_add_mmio(bus, "board", MEMORY_BAR + 0x1000, 0x1000, &memory_ops, &board);
    assert_int_equal(bus_pio_read(bus, IO_BAR + 8, 4), 0x11);
    assert_int_equal(bus_mmio_read(bus, MEMORY_BAR + 0x1000, 4), 0x22);
    set(f, PCI_BAR0, IO_BAR + 0x20, 4);
    set(f, PCI_BAR0, IO_BAR, 4); /* moved again, it still gives way */
    assert_int_equal(bus_pio_read(bus, IO_BAR + 8, 4), 0x11);
    assert_int_equal(bus_pio_read(bus, IO_BAR, 4), 0);
}

static void lies_over_another(void **state)
{
    struct fixture *f = *state;
    struct bus *bus = &f->r.rig->bus;

    map(f);
    f->toy.memory = 0x100;
    f->other.memory = 0x200;
    pci_rig_write(&f->r, &f->other.pci, PCI_BAR0 + 4, MEMORY_BAR, 4);
    pci_rig_write(&f->r, &f->other.pci, PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
    assert_int_equal(bus_mmio_read(bus, MEMORY_BAR, 4), 0x200);
    pci_rig_write(&f->r, &f->other.pci, PCI_COMMAND, 0, 2);
    assert_int_equal(bus_mmio_read(bus, MEMORY_BAR, 4), 0x100);
    set(f, PCI_BAR0, 0xffffffff, 4); /* ports that don't exist */
    assert_int_equal(bus_pio_read(bus, 0xffe0, 4), UINT32_MAX);
}

static void drives_its_pin(void **state)
{
    struct fixture *f = *state;
    unsigned line = pci_pirq(f->toy.pci.devfn, 1);

    assert_int_equal(line, PCI_FIRST_FREE_SLOT - 1);
    pci_set_irq(&f->toy.pci, true);
    assert_true(f->r.rig->level[line]);
    assert_int_equal(get(f, PCI_STATUS, 2) & PCI_STATUS_INTX, PCI_STATUS_INTX);
    set(f, PCI_COMMAND, PCI_COMMAND_INTX_DISABLE, 2);
    assert_false(f->r.rig->level[line]);
    set(f, PCI_COMMAND, 0, 2);
    assert_true(f->r.rig->level[line]);
    pci_set_irq(&f->toy.pci, false);
    assert_false(f->r.rig->level[line]);
}

static void shares_a_line(void **state)
{
    struct fixture *f = *state;
    struct toy third = {0}, fourth = {0}, fifth = {0};
    unsigned line = pci_pirq(f->toy.pci.devfn, 1);

    add(f, &third);
    add(f, &fourth);
    add(f, &fifth); /* four slots on: the same line */
    assert_int_equal(pci_pirq(fifth.pci.devfn, 1), line);
    pci_set_irq(&f->toy.pci, true);
    pci_set_irq(&fifth.pci, true);
    pci_set_irq(&f->toy.pci, false);
    assert_true(f->r.rig->level[line]);
    pci_bus_reset(&f->r.pci);
    assert_false(f->r.rig->level[line]);
}

static void sends_messages(void **state)
{
    struct fixture *f = *state;
    unsigned at = capability(f, PCI_CAP_MSI);

    assert_int_not_equal(at, 0);
    pci_msi_notify(&f->toy.pci);
    set(f, at + 4, 0xfee01000, 4);
    set(f, at + 12, 0x41, 2);
    set(f, at + 2, 1, 2);
    pci_msi_notify(&f->toy.pci); /* not a master yet */
    assert_int_equal(f->r.messages, 0);
    map(f);
    pci_msi_notify(&f->toy.pci);
    assert_int_equal(f->r.messages, 1);
    assert_int_equal(f->r.address, 0xfee01000);
    assert_int_equal(f->r.data, 0x41);
    set(f, at + 4, 0x2000, 4); /* to RAM, then */
    pci_msi_notify(&f->toy.pci);
    assert_int_equal(f->r.messages, 1);
    assert_int_equal(*(uint32_t *)memory_ram(&f->r.mem, 0x2000, 4), 0x41);
}

static void masks_vectors(void **state)
{
    struct fixture *f = *state;
    struct bus *bus = &f->r.rig->bus;
    const uint64_t table = 0x90000000;
    unsigned at = capability(f, PCI_CAP_MSIX);

    map(f);
    assert_int_equal(get(f, at + 2, 2), 2); /* three */
    set(f, at + 2, 0x8000, 2);
    assert_true(pci_msix_enabled(&f->toy.pci));
    bus_mmio_write(bus, table + 16, 0xfee02003, 4);
    bus_mmio_write(bus, table + 24, 0x52, 4);
    pci_msix_notify(&f->toy.pci, 1);
    pci_msix_notify(&f->toy.pci, 3);
    pci_msix_notify(&f->toy.pci, 1000);
    assert_int_equal(f->r.messages, 0);
    assert_int_equal(bus_mmio_read(bus, table + 0x800, 8), 2); /* waits */
    bus_mmio_write(bus, table + 28, 0, 4);
    assert_int_equal(f->r.messages, 1);
    assert_int_equal(f->r.address, 0xfee02000);
    assert_int_equal(f->r.data, 0x52);
    assert_int_equal(bus_mmio_read(bus, table + 0x800, 8), 0);
    set(f, at + 2, 0xc000, 2); /* all of them */
    pci_msix_notify(&f->toy.pci, 1);
    assert_int_equal(f->r.messages, 1);
    set(f, at + 2, 0x8000, 2);
    assert_int_equal(f->r.messages, 2);
    bus_mmio_write(bus, table + 3 * 16 - 4, UINT64_MAX, 8); /* over the table's end */
    bus_mmio_write(bus, table + 0xffd, UINT64_MAX, 8);
    assert_int_equal(bus_mmio_read(bus, table + 3 * 16, 4), 0);
}

static void does_dma_as_a_master(void **state)
{
    struct fixture *f = *state;
    char word[6] = "hello";

    assert_false(pci_dma_write(&f->toy.pci, 0x1000, word, 6));
    assert_null(pci_dma_map(&f->toy.pci, 0x1000, 6, false));
    map(f);
    assert_true(pci_dma_write(&f->toy.pci, 0x1000, word, 6));
    memset(word, 0, sizeof word);
    assert_true(pci_dma_read(&f->toy.pci, 0x1000, word, 6));
    assert_string_equal(word, "hello");
    assert_false(pci_dma_write(&f->toy.pci, PCI_RIG_RAM - 3, word, 6));
    assert_false(pci_dma_read(&f->toy.pci, MEMORY_BAR, word, 6));
    memory_shadow(&f->r.mem, 0xf0000, 0x10000, true, false);
    assert_false(pci_dma_write(&f->toy.pci, 0xefffd, word, 6));
    assert_non_null(pci_dma_map(&f->toy.pci, 0xf0000, 6, false));
    assert_null(pci_dma_map(&f->toy.pci, 0xf0000, 6, true));
}

static void use(void *opaque)
{
    struct fixture *f = opaque;
    struct rig *rig = f->r.rig;

    for (unsigned i = 0; i < 20; i++) {
        uint64_t r = rig_random(rig);

        set(f, r & 0xff, (uint32_t)(r >> 32), 1u << (r >> 8) % 3);
        (void)get(f, r >> 16 & 0xff, 4);
        pci_set_irq(&f->toy.pci, r >> 11 & 1);
        pci_msi_notify(&f->toy.pci);
        pci_msix_notify(&f->toy.pci, r >> 12 & 7);
        bus_mmio_write(&rig->bus, 0x90000000 + (r >> 20 & 0xfff), r, 1u << (r >> 40) % 4);
    }
}

static void survives_saving_and_random(void **state)
{
    struct fixture *f = *state;
    struct state_list *list = state_list_new();
    struct err err = {0};
    uint8_t *data = NULL;
    size_t size = 0;
    unsigned line = pci_pirq(f->toy.pci.devfn, 1);

    map(f);
    pci_set_irq(&f->toy.pci, true);
    pci_add_states(&f->r.pci, list);
    assert_int_equal(state_save(list, &data, &size, &err), 0);
    pci_bus_reset(&f->r.pci);
    assert_int_equal(f->toy.resets, 2);
    assert_false(f->r.rig->level[line]);
    assert_int_equal(state_load(list, data, size, &err), 0);
    assert_true(f->r.rig->level[line]);
    bus_pio_write(&f->r.rig->bus, IO_BAR, 9, 4);
    assert_int_equal(f->toy.io, 9);
    for (unsigned i = 0; i < 2000; i++) {
        size_t at = rig_random(f->r.rig) % size;
        uint8_t keep = data[at];

        data[at] = (uint8_t)rig_random(f->r.rig);
        if (state_load(list, data, size, &err) == 0)
            use(f);
        data[at] = keep;
    }
    assert_int_equal(state_load(list, data, size, &err), 0);
    assert_int_equal(get(f, 0, 4), 0x56781234);
    free(data);
    state_list_free(list);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(has_a_header),
        CASE(base_registers_tell_their_sizes),
        CASE(decodes_where_it_was_put),
        CASE(gives_way_to_the_board),
        CASE(lies_over_another),
        CASE(drives_its_pin),
        CASE(shares_a_line),
        CASE(sends_messages),
        CASE(masks_vectors),
        CASE(does_dma_as_a_master),
        CASE(survives_saving_and_random),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
