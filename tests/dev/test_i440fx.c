/* test_i440fx.c - configuration mechanism 1, the host bridge's own function, and what its PAM
 * registers do to memory, through the bus. */
#include "dev/i440fx.h"
#include "dev/reset_control.h"
#include "rig.h"

#include <string.h>

#define ROM_SIZE (256 * KIB)

struct fixture {
    struct bus bus;
    struct memory mem;
    struct pci_bus pci;
    struct reset_control reset;
    struct i440fx bridge;
    unsigned remapped;
};

static void count_remapped(void *opaque)
{
    struct fixture *f = opaque;

    f->remapped++;
}

static int setup(void **state)
{
    static uint8_t rom[ROM_SIZE];
    struct fixture *f = calloc(1, sizeof *f);
    struct err err = {0};

    for (unsigned i = 0; i < ROM_SIZE; i++)
        rom[i] = (uint8_t)(i >> 12);
    bus_init(&f->bus);
    assert_int_equal(memory_init(&f->mem, 2 * MIB, &err), 0);
    assert_int_equal(memory_add_rom(&f->mem, rom, ROM_SIZE, &err), 0);
    pci_bus_init(&f->pci, &f->bus, &f->mem);
    reset_control_init(&f->reset, (struct irq){0});
    reset_control_attach(&f->reset, &f->bus);
    assert_int_equal(i440fx_init(&f->bridge, &f->pci, &reset_control_cf9_ops, &f->reset, &err), 0);
    f->bridge.remapped = count_remapped;
    f->bridge.opaque = f;
    i440fx_attach(&f->bridge, &f->bus);
    pci_bus_reset(&f->pci);
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

static uint64_t config_read(struct fixture *f, uint32_t address, unsigned offset, unsigned size)
{
    bus_pio_write(&f->bus, 0xcf8, address, 4);
    return bus_pio_read(&f->bus, (uint16_t)(0xcfc + offset), size);
}

static void config_write(struct fixture *f, unsigned reg, uint8_t value)
{
    bus_pio_write(&f->bus, 0xcf8, 0x80000000 | (reg & 0xfc), 4);
    bus_pio_write(&f->bus, (uint16_t)(0xcfc + (reg & 3)), value, 1);
}

static uint8_t byte_at(struct fixture *f, gpa_t gpa)
{
    uint8_t byte = 0;

    assert_true(memory_read(&f->mem, gpa, &byte, 1));
    return byte;
}

static void store(struct fixture *f, gpa_t gpa, uint8_t byte)
{
    memory_store(&f->mem, gpa, &byte, 1);
}

static void names_itself(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(config_read(f, 0x80000000, 0, 4), 0x12378086);
    assert_int_equal(config_read(f, 0x80000000, 2, 2), 0x1237);
    assert_int_equal(config_read(f, 0x80000008, 3, 1), 0x06);
    assert_int_equal(config_read(f, 0x8000002c, 0, 4), 0x11001af4);
    assert_int_equal(bus_pio_read(&f->bus, 0xcf8, 4), 0x8000002c);
}

static void nobody_else_answers(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(config_read(f, 0x80000800, 0, 4), UINT32_MAX); /* device 1 */
    assert_int_equal(config_read(f, 0x80000100, 0, 4), UINT32_MAX); /* function 1 */
    assert_int_equal(config_read(f, 0x80010000, 0, 4), UINT32_MAX); /* bus 1 */
    assert_int_equal(config_read(f, 0x00000000, 0, 4), UINT32_MAX); /* not enabled */
}

static void keeps_what_can_be_written(void **state)
{
    struct fixture *f = *state;

    bus_pio_write(&f->bus, 0xcf8, 0x80000000, 4);
    bus_pio_write(&f->bus, 0xcfc, 0, 4);
    assert_int_equal(bus_pio_read(&f->bus, 0xcfc, 4), 0x12378086);
    config_write(f, 0x55, 0x30);
    assert_int_equal(config_read(f, 0x80000054, 0, 4), 0x3000);
    i440fx_reset(&f->bridge);
    pci_bus_reset(&f->pci);
    assert_int_equal(bus_pio_read(&f->bus, 0xcf8, 4), 0);
    assert_int_equal(config_read(f, 0x80000054, 0, 4), 0);
}

static void leaves_cf9_to_the_south_bridge(void **state)
{
    struct fixture *f = *state;

    bus_pio_write(&f->bus, 0xcf9, 0x02, 1);
    assert_int_equal(bus_pio_read(&f->bus, 0xcf9, 1), 0x02);
    bus_pio_write(&f->bus, 0xcf8, 0x80000600, 4);
    assert_int_equal(bus_pio_read(&f->bus, 0xcf9, 1), 0x02);
}

/* The four ways of a segment: where reads come from, and where writes go. */
static void shadows_memory(void **state)
{
    struct fixture *f = *state;
    const gpa_t at = 0xf1000;

    assert_int_equal(byte_at(f, at), 0x31); /* of the ROM */
    assert_int_equal(byte_at(f, 0xfffff000), 0x3f);
    assert_int_equal(byte_at(f, 0xc0000), 0xff); /* of nobody */
    store(f, at, 1);
    assert_int_equal(byte_at(f, at), 0x31);
    config_write(f, 0x59, 0x20);
    store(f, at, 2);
    assert_int_equal(byte_at(f, at), 0x31);
    assert_false(memory_write(&f->mem, at, "x", 1));
    config_write(f, 0x59, 0x10);
    assert_int_equal(byte_at(f, at), 2);
    store(f, at, 3);
    assert_int_equal(byte_at(f, at), 2);
    config_write(f, 0x59, 0x30);
    store(f, at, 4);
    assert_int_equal(byte_at(f, at), 4);
    assert_int_equal(f->remapped, 4);
    config_write(f, 0x59, 0x00);
    assert_int_equal(byte_at(f, at), 0x31);
    assert_int_equal(*(uint8_t *)memory_hidden_ram(&f->mem, at, 1), 4);
    pci_bus_reset(&f->pci);
    store(f, 0xfffff000, 5);
    assert_int_equal(byte_at(f, 0xfffff000), 0x3f);
}

/* Each nibble is for its own 16 KiB. */
static void knows_its_segments(void **state)
{
    struct fixture *f = *state;

    for (unsigned i = 0; i < 12; i++) {
        const gpa_t gpa = 0xc0000 + i * 16 * KIB;

        config_write(f, 0x5a + i / 2, i % 2 ? 0x30 : 0x03);
        for (gpa_t other = 0xc0000; other < MIB; other += 16 * KIB)
            assert_int_equal(memory_writable(&f->mem, other, 16 * KIB), other == gpa);
        config_write(f, 0x5a + i / 2, 0);
    }
    i440fx_open_shadow(&f->bridge);
    assert_true(memory_writable(&f->mem, 0, 2 * MIB));
}

static void comes_back_after_loading(void **state)
{
    struct fixture *f = *state;
    struct state_list *list = state_list_new();
    struct err err = {0};
    uint8_t *data = NULL;
    size_t size = 0;

    pci_add_states(&f->pci, list);
    state_add(list, &i440fx_state_desc, 0, &f->bridge);
    config_write(f, 0x59, 0x30);
    store(f, 0xf2000, 9);
    assert_int_equal(state_save(list, &data, &size, &err), 0);
    pci_bus_reset(&f->pci);
    assert_int_equal(byte_at(f, 0xf2000), 0x32);
    assert_int_equal(state_load(list, data, size, &err), 0);
    assert_int_equal(byte_at(f, 0xf2000), 9);
    free(data);
    state_list_free(list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(names_itself, setup, teardown),
        cmocka_unit_test_setup_teardown(nobody_else_answers, setup, teardown),
        cmocka_unit_test_setup_teardown(keeps_what_can_be_written, setup, teardown),
        cmocka_unit_test_setup_teardown(leaves_cf9_to_the_south_bridge, setup, teardown),
        cmocka_unit_test_setup_teardown(shadows_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(knows_its_segments, setup, teardown),
        cmocka_unit_test_setup_teardown(comes_back_after_loading, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
