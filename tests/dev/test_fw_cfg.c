/* test_fw_cfg.c - the firmware configuration device through its ports and by DMA. */
#include "rig.h"

#include "dev/fw_cfg.h"

#include <string.h>

#define RAM MIB
#define COMMAND 0x1000
#define BUFFER 0x2000

struct fixture {
    struct rig *rig;
    struct memory mem;
    struct fw_cfg fw;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    static const uint8_t map[40] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};

    f->rig = rig_new();
    assert_int_equal(memory_init(&f->mem, RAM, NULL), 0);
    fw_cfg_init(&f->fw, &f->mem);
    fw_cfg_attach(&f->fw, &f->rig->bus);
    assert_true(fw_cfg_set_number(&f->fw, FW_CFG_NB_CPUS, 3, 2));
    assert_true(fw_cfg_set_file(&f->fw, "etc/e820", map, sizeof map));
    assert_true(fw_cfg_set_ram(&f->fw, FW_CFG_KERNEL_DATA, 0x8000, 64));
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    fw_cfg_free(&f->fw);
    memory_free(&f->mem);
    rig_free(f->rig);
    free(f);
    return 0;
}

static void select_key(struct fixture *f, uint16_t key)
{
    bus_pio_write(&f->rig->bus, 0x510, key, 2);
}

static uint64_t data(struct fixture *f, unsigned bytes)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < bytes; i++)
        value |= (uint64_t)rig_in(f->rig, 0x511) << (8 * i);
    return value;
}

static void items_are_read_byte_by_byte(void **state)
{
    struct fixture *f = *state;

    select_key(f, FW_CFG_SIGNATURE);
    assert_int_equal(data(f, 4), 0x554d4551); /* "QEMU" */
    assert_int_equal(data(f, 8), 0);          /* behind its end */
    select_key(f, FW_CFG_ID);
    assert_int_equal(data(f, 4), 3);
    select_key(f, FW_CFG_NB_CPUS);
    assert_int_equal(data(f, 2), 3);
    select_key(f, 0x7777);
    assert_int_equal(data(f, 4), 0);
}

static void directory_lists_files(void **state)
{
    struct fixture *f = *state;
    char name[FW_CFG_NAME];

    assert_true(fw_cfg_set_file(&f->fw, "etc/other", "x", 1));
    assert_true(fw_cfg_set_file(&f->fw, "etc/e820", "abc", 3)); /* replaced */
    select_key(f, FW_CFG_FILE_DIR);
    assert_int_equal(__builtin_bswap32((uint32_t)data(f, 4)), 2);
    assert_int_equal(__builtin_bswap32((uint32_t)data(f, 4)), 3);
    assert_int_equal(__builtin_bswap16((uint16_t)data(f, 2)), FW_CFG_FILE_FIRST);
    data(f, 2);
    for (unsigned i = 0; i < sizeof name; i++)
        name[i] = (char)data(f, 1);
    assert_string_equal(name, "etc/e820");
    assert_int_equal(__builtin_bswap32((uint32_t)data(f, 4)), 1);
    select_key(f, FW_CFG_FILE_FIRST);
    assert_int_equal(data(f, 3), 0x636261);
}

static void limits(void **state)
{
    struct fixture *f = *state;
    char name[FW_CFG_NAME + 1] = {0};

    memset(name, 'n', FW_CFG_NAME);
    assert_false(fw_cfg_set_file(&f->fw, name, "x", 1));
    assert_false(fw_cfg_set_file(&f->fw, "", "x", 1));
    name[FW_CFG_NAME - 1] = '\0';
    assert_true(fw_cfg_set_file(&f->fw, name, "x", 1));
    for (unsigned i = 0; i < FW_CFG_ITEMS; i++)
        (void)!fw_cfg_set_number(&f->fw, (uint16_t)(0x9000 + i), i, 4);
    assert_false(fw_cfg_set_number(&f->fw, 0xa000, 0, 4));
    assert_int_equal(f->fw.count, FW_CFG_ITEMS);
}

/* Executes a command; returns its control word afterwards. */
static uint32_t dma(struct fixture *f, uint32_t control, uint32_t length, uint64_t address)
{
    const struct {
        uint32_t control, length;
        uint64_t address;
    } command = {__builtin_bswap32(control), __builtin_bswap32(length), __builtin_bswap64(address)};
    uint32_t result;

    assert_true(memory_write(&f->mem, COMMAND, &command, sizeof command));
    bus_pio_write(&f->rig->bus, 0x514, 0, 4);
    bus_pio_write(&f->rig->bus, 0x518, __builtin_bswap32(COMMAND), 4);
    assert_true(memory_read(&f->mem, COMMAND, &result, sizeof result));
    return __builtin_bswap32(result);
}

static void dma_reads_items(void **state)
{
    struct fixture *f = *state;
    uint8_t *buffer = memory_ram(&f->mem, BUFFER, 64);

    assert_int_equal(bus_pio_read(&f->rig->bus, 0x514, 4), 0x554d4551);
    assert_int_equal(bus_pio_read(&f->rig->bus, 0x518, 4), 0x47464320);
    memset(buffer, 0xff, 64);
    assert_int_equal(dma(f, FW_CFG_FILE_FIRST << 16 | 8, 0, 0), 0); /* select */
    assert_int_equal(dma(f, 4, 2, 0), 0);                           /* skip */
    assert_int_equal(dma(f, 2, 60, BUFFER), 0);                     /* read */
    assert_int_equal(buffer[0], 2);
    assert_int_equal(buffer[7], 9);
    assert_int_equal(buffer[38], 0); /* behind its end */
    assert_int_equal(buffer[59], 0);
    assert_int_equal(buffer[60], 0xff);
    assert_true(memory_write(&f->mem, 0x8000, "kernel", 6));
    assert_int_equal(dma(f, FW_CFG_KERNEL_DATA << 16 | 10, 6, BUFFER), 0);
    assert_memory_equal(buffer, "kernel", 6);
}

static void dma_refuses(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(dma(f, 0x10, 4, BUFFER), 1); /* a write */
    assert_int_equal(dma(f, 2, 4, RAM - 2), 1);   /* beyond RAM */
    assert_int_equal(dma(f, 2, UINT32_MAX, BUFFER), 1);
    assert_int_equal(dma(f, 2, 8, UINT64_MAX - 3), 1);
    assert_int_equal(dma(f, 4, UINT32_MAX, 0), 0); /* skipping ends with the item */
    assert_int_equal(dma(f, 4, UINT32_MAX, 0), 0);
    bus_pio_write(&f->rig->bus, 0x518, __builtin_bswap32(RAM - 8), 4); /* no whole command */
    bus_pio_write(&f->rig->bus, 0x514, UINT32_MAX, 4);
    bus_pio_write(&f->rig->bus, 0x518, UINT32_MAX, 4);
}

static void survives_anything(void **state)
{
    struct fixture *f = *state;

    assert_true(fw_cfg_set_ram(&f->fw, FW_CFG_INITRD_DATA, UINT64_MAX - 5, UINT32_MAX));
    rig_hammer(f->rig, 0x510, 14, 20000);
    for (unsigned i = 0; i < 20000; i++) {
        static const uint16_t keys[] = {0, FW_CFG_KERNEL_DATA, FW_CFG_INITRD_DATA, 0x19, 0x20, 9};
        uint64_t r = rig_random(f->rig);

        (void)dma(f, (uint32_t)keys[r % 6] << 16 | (r >> 8 & 31),
                  (uint32_t)(rig_random(f->rig) >> (32 + (r >> 16) % 32)),
                  rig_random(f->rig) >> (r >> 24) % 64);
    }
    rig_save_and_load(&fw_cfg_state_desc, &f->fw);
    rig_load_damaged(f->rig, &fw_cfg_state_desc, &f->fw, 0x510, 14);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(items_are_read_byte_by_byte, setup, teardown),
        cmocka_unit_test_setup_teardown(directory_lists_files, setup, teardown),
        cmocka_unit_test_setup_teardown(limits, setup, teardown),
        cmocka_unit_test_setup_teardown(dma_reads_items, setup, teardown),
        cmocka_unit_test_setup_teardown(dma_refuses, setup, teardown),
        cmocka_unit_test_setup_teardown(survives_anything, setup, teardown),
    };

    return cmocka_run_group_tests_name("fw_cfg", tests, NULL, NULL);
}
