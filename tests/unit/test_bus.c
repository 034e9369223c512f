/* test_bus.c - finding devices, fitting sizes, splitting, hiding and moving ranges. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "bus/bus.h"

/* A device that is 64 bytes of memory and remembers the last access. */
struct ram {
    uint8_t byte[64];
    uint64_t offset;
    unsigned size, accesses;
};

static uint64_t ram_read(void *opaque, uint64_t offset, unsigned size)
{
    struct ram *ram = opaque;
    uint64_t value = 0;

    assert_true(offset + size <= sizeof(ram->byte));
    memcpy(&value, ram->byte + offset, size);
    ram->offset = offset;
    ram->size = size;
    ram->accesses++;
    return value;
}

static void ram_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct ram *ram = opaque;

    assert_true(offset + size <= sizeof(ram->byte));
    memcpy(ram->byte + offset, &value, size);
    ram->offset = offset;
    ram->size = size;
    ram->accesses++;
}

static const struct io_ops bytes = {.read = ram_read, .write = ram_write};
static const struct io_ops dwords = {
    .read = ram_read, .write = ram_write, .min_size = 4, .max_size = 4};
static const struct io_ops any = {.read = ram_read, .write = ram_write, .max_size = 8};

static void fill(struct ram *ram)
{
    memset(ram, 0, sizeof(*ram));
    for (unsigned i = 0; i < sizeof(ram->byte); i++)
        ram->byte[i] = (uint8_t)(i + 1);
}

static void test_unclaimed(void **state)
{
    struct bus bus;

    (void)state;
    bus_init(&bus);
    assert_int_equal(bus_pio_read(&bus, 0x1234, 1), 0xff);
    assert_int_equal(bus_pio_read(&bus, 0xffff, 4), 0xffffffff);
    assert_true(bus_mmio_read(&bus, UINT64_MAX, 8) == UINT64_MAX);
    bus_mmio_write(&bus, 0x1000, 0, 4);
    assert_int_equal(bus.unclaimed_reads, 3);
    assert_int_equal(bus.unclaimed_writes, 1);
    bus_free(&bus);
}

static void test_sizes(void **state)
{
    struct bus bus;
    struct ram narrow, wide, free_size;
    struct io_range *range;

    (void)state;
    bus_init(&bus);
    fill(&narrow);
    fill(&wide);
    fill(&free_size);
    range = bus_add_pio(&bus, "bytes", 0x100, 8, &bytes, &narrow);
    bus_add_mmio(&bus, "dwords", 0x1000, 16, &dwords, &wide);
    bus_add_mmio(&bus, "any", 0x2000, 64, &any, &free_size);

    assert_int_equal(bus_pio_read(&bus, 0x100, 4), 0x04030201); /* split, low first */
    assert_int_equal(narrow.accesses, 4);
    assert_int_equal(range->reads, 4);
    assert_int_equal(bus_mmio_read(&bus, 0x1005, 1), 6); /* widened */
    assert_int_equal(wide.offset, 4);
    assert_int_equal(wide.size, 4);
    assert_int_equal(bus_mmio_read(&bus, 0x1003, 2), 0x0504); /* across two registers */
    assert_true(bus_mmio_read(&bus, 0x1000, 8) == 0x0807060504030201);
    bus_mmio_write(&bus, 0x100a, 0xab, 1); /* the rest becomes zero */
    assert_int_equal(bus_mmio_read(&bus, 0x1008, 4), 0x00ab0000);
    assert_true(bus_mmio_read(&bus, 0x2001, 8) == 0x0908070605040302);
    assert_int_equal(free_size.size, 8);
    assert_int_equal(bus_mmio_read(&bus, 0x2000, 3), 0x030201);
    bus_free(&bus);
}

static void test_edges(void **state)
{
    struct bus bus;
    struct ram ram;

    (void)state;
    bus_init(&bus);
    fill(&ram);
    bus_add_pio(&bus, "end", 0xfffe, 2, &any, &ram);
    bus_add_mmio(&bus, "mem", 0x1000, 6, &any, &ram);
    assert_int_equal(bus_pio_read(&bus, 0xfffe, 4), 0xffff0201);
    assert_int_equal(bus_pio_read(&bus, 0xfffd, 2), 0x01ff);
    assert_int_equal(bus_mmio_read(&bus, 0x1004, 4), 0xffff0605);
    bus_mmio_write(&bus, 0xffe, 0x44332211, 4);
    assert_int_equal(ram.byte[0], 0x33);
    assert_int_equal(ram.byte[1], 0x44);
    bus_free(&bus);
}

static void test_overlap_and_move(void **state)
{
    struct bus bus;
    struct ram low, high;
    struct io_range *range, *mmio;

    (void)state;
    bus_init(&bus);
    fill(&low);
    fill(&high);
    high.byte[0] = 0x77;
    bus_add_pio(&bus, "low", 0x10, 8, &bytes, &low);
    range = bus_add_pio(&bus, "high", 0x12, 1, &bytes, &high);
    mmio = bus_add_mmio(&bus, "mmio", 0x1000, 4, &any, &high);
    assert_int_equal(bus_pio_read(&bus, 0x12, 1), 0x77);
    assert_int_equal(bus_pio_read(&bus, 0x11, 4), 0x05047702);
    bus_move(&bus, range, 0x12, false);
    assert_int_equal(bus_pio_read(&bus, 0x12, 1), 3);
    bus_move(&bus, range, 0x400, true);
    assert_int_equal(bus_pio_read(&bus, 0x400, 1), 0x77);
    assert_int_equal(bus_pio_read(&bus, 0x12, 1), 3);
    bus_move(&bus, range, 0x12345, true); /* beyond the ports */
    assert_int_equal(bus_pio_read(&bus, 0x2345, 1), 0xff);
    bus_move(&bus, mmio, UINT64_MAX - 1, true); /* ends after the last address */
    assert_int_equal(bus_mmio_read(&bus, UINT64_MAX - 1, 1), 0x77);
    bus_free(&bus);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unclaimed),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_edges),
        cmocka_unit_test(test_overlap_and_move),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
