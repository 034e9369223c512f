/* test_acpi_tables.c - the ACPI tables as an operating system finds them: from the RSDP on, every
 * address, length and checksum; and the memory map that says where they are. Where iasl is
 * installed, it has to understand each table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "firmware/acpi_tables.h"
#include "firmware/e820.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RAM (64 * MIB)

struct fixture {
    struct memory mem;
    struct e820_map map;
    struct acpi_config config;
    struct acpi_places places;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct err err = {0};
    const struct e820_entry *acpi, *nvs;

    assert_int_equal(memory_init(&f->mem, RAM, &err), 0);
    assert_int_equal(e820_build(&f->map, RAM, 0, &err), 0);
    acpi = e820_find(&f->map, E820_ACPI, 0);
    nvs = e820_find(&f->map, E820_NVS, 0);
    assert_non_null(acpi);
    assert_non_null(nvs);
    f->config = (struct acpi_config){
        .cpus = 2,
        .lapic = 0xfee00000,
        .ioapic = 0xfec00000,
        .hpet = 0xfed00000,
        .ioapic_id = 2,
        .hpet_id = 0x8086a201,
        .pm_base = 0x600,
        .sci = 9,
        .pci_window = 0x80000000,
    };
    f->places = (struct acpi_places){ACPI_RSDP_ADDRESS, acpi->base, acpi->size, nvs->base};
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    memory_free(&f->mem);
    free(f);
    return 0;
}

static uint64_t number(struct fixture *f, gpa_t gpa, unsigned bytes)
{
    uint64_t value = 0;

    assert_true(memory_read(&f->mem, gpa, &value, bytes));
    return value;
}

static void expect_sum_zero(struct fixture *f, gpa_t gpa, uint64_t size)
{
    uint8_t sum = 0;

    for (uint64_t i = 0; i < size; i++)
        sum = (uint8_t)(sum + number(f, gpa + i, 1));
    assert_int_equal(sum, 0);
}

static void expect_text(struct fixture *f, gpa_t gpa, const char *text)
{
    assert_memory_equal(memory_ram(&f->mem, gpa, strlen(text)), text, strlen(text));
}

static void expect_table(struct fixture *f, gpa_t gpa, const char *signature)
{
    const struct e820_entry *acpi = e820_find(&f->map, E820_ACPI, 0);
    uint64_t size = number(f, gpa + 4, 4);

    expect_text(f, gpa, signature);
    assert_in_range(gpa, acpi->base, acpi->base + acpi->size - 1);
    assert_in_range(size, 36, acpi->base + acpi->size - gpa);
    expect_sum_zero(f, gpa, size);
}

/* The table of that signature, through the XSDT. */
static gpa_t find(struct fixture *f, const char *signature)
{
    gpa_t xsdt = number(f, f->places.rsdp + 24, 8);
    uint64_t count = (number(f, xsdt + 4, 4) - 36) / 8;

    for (uint64_t i = 0; i < count; i++) {
        gpa_t table = number(f, xsdt + 36 + 8 * i, 8);

        if (memcmp(memory_ram(&f->mem, table, 4), signature, 4) == 0)
            return table;
    }
    return 0;
}

static int place(struct fixture *f, struct err *err)
{
    struct acpi_tables tables;
    int rc = acpi_tables_make(&tables, &f->config, err);

    return rc < 0 ? rc : acpi_tables_place(&tables, &f->mem, &f->places, err);
}

static void build(struct fixture *f)
{
    struct err err = {0};

    assert_int_equal(place(f, &err), 0);
}

static void pointers_and_checksums(void **state)
{
    struct fixture *f = *state;
    gpa_t rsdp = f->places.rsdp, rsdt, xsdt;

    build(f);
    expect_text(f, rsdp, "RSD PTR ");
    expect_sum_zero(f, rsdp, 20);
    expect_sum_zero(f, rsdp, 36);
    rsdt = number(f, rsdp + 16, 4);
    xsdt = number(f, rsdp + 24, 8);
    expect_table(f, rsdt, "RSDT");
    expect_table(f, xsdt, "XSDT");
    assert_int_equal(number(f, rsdt + 4, 4), 36 + 4 * 4);
    assert_int_equal(number(f, xsdt + 4, 4), 36 + 4 * 8);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(number(f, rsdt + 36 + 4 * i, 4), number(f, xsdt + 36 + 8 * i, 8));
    expect_table(f, find(f, "FACP"), "FACP");
    expect_table(f, find(f, "APIC"), "APIC");
    expect_table(f, find(f, "HPET"), "HPET");
    expect_table(f, find(f, "SSDT"), "SSDT");
}

static void fadt(void **state)
{
    struct fixture *f = *state;
    gpa_t fadt;

    build(f);
    fadt = find(f, "FACP");
    assert_int_equal(number(f, fadt + 4, 4), 268);
    assert_int_equal(number(f, fadt + 8, 1), 5);
    assert_int_equal(number(f, fadt + 36, 4), f->places.facs);
    expect_text(f, number(f, fadt + 36, 4), "FACS");
    expect_table(f, number(f, fadt + 40, 4), "DSDT");
    assert_int_equal(number(f, fadt + 140, 8), number(f, fadt + 40, 4));
    assert_int_equal(number(f, fadt + 46, 2), 9);     /* SCI */
    assert_int_equal(number(f, fadt + 48, 4), 0);     /* SMI_CMD */
    assert_int_equal(number(f, fadt + 56, 4), 0x600); /* PM1a_EVT */
    assert_int_equal(number(f, fadt + 64, 4), 0x604);
    assert_int_equal(number(f, fadt + 76, 4), 0x608);
    assert_int_equal(number(f, fadt + 80, 4), 0x60c);
    assert_int_equal(number(f, fadt + 108, 1), 0x32);          /* century */
    assert_int_equal(number(f, fadt + 109, 2), 7);             /* legacy, 8042, no VGA */
    assert_int_equal(number(f, fadt + 112, 4) & 0x510, 0x500); /* reset, 32 bits, power button */
    assert_int_equal(number(f, fadt + 120, 8), 0xcf9);
    assert_int_equal(number(f, fadt + 128, 1), 6);
    assert_int_equal(number(f, fadt + 152, 8), 0x600);
    assert_int_equal(number(f, fadt + 176, 8), 0x604);
    assert_int_equal(number(f, fadt + 212, 8), 0x608);
    assert_int_equal(number(f, fadt + 224, 8), 0x60c);
}

/* Counts entries of `type`; *last is the last one. The entries have to fill the table. */
static unsigned count_madt(struct fixture *f, unsigned type, gpa_t *last)
{
    gpa_t madt = find(f, "APIC"), end = madt + number(f, madt + 4, 4), at = madt + 44;
    unsigned count = 0;

    while (at < end) {
        if (number(f, at, 1) == type) {
            *last = at;
            count++;
        }
        assert_in_range(number(f, at + 1, 1), 2, end - at);
        at += number(f, at + 1, 1);
    }
    assert_int_equal(at, end);
    return count;
}

static void madt(void **state)
{
    struct fixture *f = *state;
    gpa_t at = 0;

    build(f);
    assert_int_equal(number(f, find(f, "APIC") + 36, 4), 0xfee00000);
    assert_int_equal(count_madt(f, 0, &at), 2);
    assert_int_equal(number(f, at + 3, 1), 1); /* APIC ID of the second */
    assert_int_equal(count_madt(f, 1, &at), 1);
    assert_int_equal(number(f, at + 4, 4), 0xfec00000);
    assert_int_equal(count_madt(f, 2, &at), 2);
    assert_int_equal(number(f, at + 3, 1), 9);
    assert_int_equal(number(f, at + 8, 2), 0x0d);
    assert_int_equal(number(f, at - 10 + 3, 1), 0);
    assert_int_equal(number(f, at - 10 + 4, 4), 2);
    assert_int_equal(count_madt(f, 4, &at), 1);
    assert_int_equal(number(f, at + 5, 1), 1); /* LINT1 */
    f->config.cpus = 300;
    build(f);
    assert_int_equal(count_madt(f, 0, &at), 255);
    assert_int_equal(count_madt(f, 9, &at), 45);
    assert_int_equal(number(f, at + 4, 4), 299);
}

static void refuses_bad_places(void **state)
{
    struct fixture *f = *state;
    const struct acpi_places good = f->places;
    struct err err = {0};

    f->places.tables_size = 512;
    assert_true(place(f, &err) < 0);
    f->places = good;
    f->places.tables = RAM - 512;
    assert_true(place(f, &err) < 0);
    f->places = good;
    f->places.rsdp = 0xdfff0;
    assert_true(place(f, &err) < 0);
    f->places = good;
    f->places.facs = RAM;
    assert_true(place(f, &err) < 0);
    f->places = good;
    f->config.cpus = 100000;
    assert_true(place(f, &err) < 0);
    assert_true(strlen(err.text) > 20);
}

static void dump(struct fixture *f, const char *dir, const char *name, gpa_t gpa)
{
    char path[256];
    uint64_t size = number(f, gpa + 4, 4);
    FILE *file;

    snprintf(path, sizeof path, "%s/%s.dat", dir, name);
    file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(memory_ram(&f->mem, gpa, size), 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

/* Disassembles all tables and compiles the DSDT again. */
static void iasl_understands(void **state)
{
    struct fixture *f = *state;
    char dir[] = "/tmp/doble-acpi-XXXXXX", command[512];
    int status;

    if (system("command -v iasl >/dev/null") != 0)
        skip();
    build(f);
    assert_non_null(mkdtemp(dir));
    dump(f, dir, "facp", find(f, "FACP"));
    dump(f, dir, "apic", find(f, "APIC"));
    dump(f, dir, "hpet", find(f, "HPET"));
    dump(f, dir, "ssdt", find(f, "SSDT"));
    dump(f, dir, "dsdt", number(f, find(f, "FACP") + 40, 4));
    snprintf(command, sizeof command,
             "cd %s && iasl -d facp.dat apic.dat hpet.dat ssdt.dat dsdt.dat >log 2>&1 && "
             "! grep -Eiq 'error|warning|invalid|unknown' log facp.dsl apic.dsl hpet.dsl && "
             "grep -q 'Name (PCIM, 0x80000000)' ssdt.dsl && "
             "iasl -we dsdt.dsl >>log 2>&1",
             dir);
    status = system(command);
    snprintf(command, sizeof command, "test %d = 0 || cat %s/log; rm -rf %s", status, dir, dir);
    assert_int_equal(system(command), 0);
    assert_int_equal(status, 0);
}

static void memory_map(void **state)
{
    struct e820_map map;
    struct err err = {0};

    (void)state;
    assert_int_equal(e820_build(&map, 3 * GIB, 5 * GIB, &err), 0);
    for (unsigned i = 1; i < map.count; i++)
        assert_true(map.entries[i].base >= map.entries[i - 1].base + map.entries[i - 1].size);
    assert_true(e820_is_ram(&map, 0, 0x9fc00));
    assert_false(e820_is_ram(&map, 0, 0xa0000));
    assert_false(e820_is_ram(&map, 0xf0000, 16));
    assert_true(e820_is_ram(&map, MIB, 3 * GIB - MIB - E820_ACPI_SIZE - E820_NVS_SIZE));
    assert_false(e820_is_ram(&map, MIB, 3 * GIB - MIB));
    assert_true(e820_is_ram(&map, 4 * GIB, 5 * GIB));
    assert_false(e820_is_ram(&map, 4 * GIB, UINT64_MAX));
    assert_false(e820_is_ram(&map, UINT64_MAX, 2));
    assert_true(e820_build(&map, MIB, 0, &err) < 0);
    assert_true(e820_build(&map, 0, 0, &err) < 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(pointers_and_checksums),
        TEST(fadt),
        TEST(madt),
        TEST(refuses_bad_places),
        TEST(iasl_understands),
        cmocka_unit_test(memory_map),
    };

    return cmocka_run_group_tests_name("acpi_tables", tests, NULL, NULL);
}
