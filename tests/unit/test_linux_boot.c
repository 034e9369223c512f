/* test_linux_boot.c - loading of a bzImage that this test makes: where everything goes, the
 * sentences for each defect, and that no corruption of the file does harm. */
#include "write_file.h"

#include "firmware/linux_boot.h"

#include "bus/clock.h"
#include "cpu/cpu.h"
#include "cpu/cpuid.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define RAM (96 * MIB)
#define SETUP_SECTS 3
#define CODE_OFFSET ((SETUP_SECTS + 1) * 512)
#define CODE_SIZE 8192
#define IMAGE_SIZE (CODE_OFFSET + CODE_SIZE)
#define ZERO_PAGE 0x10000

struct fixture {
    struct memory mem;
    struct e820_map map;
    struct linux_boot_config config;
    struct boot_state state;
    struct err err;
    char dir[32], kernel[64], initrd[64];
    uint8_t image[IMAGE_SIZE];
};

static void put(uint8_t *image, unsigned offset, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        image[offset + i] = (uint8_t)(value >> (8 * i));
}

/* The header of a kernel of today: relocatable, with a 64-bit entry. */
static void make_image(uint8_t *image)
{
    memset(image, 0, IMAGE_SIZE);
    put(image, 0x1f1, SETUP_SECTS, 1);
    put(image, 0x1f4, CODE_SIZE / 16, 4);
    put(image, 0x1fe, 0xaa55, 2);
    put(image, 0x200, 0x6aeb, 2);
    memcpy(image + 0x202, "HdrS", 4);
    put(image, 0x206, 0x020f, 2);
    put(image, 0x211, 1, 1);
    put(image, 0x22c, 0x7fffffff, 4);
    put(image, 0x230, 0x200000, 4);
    put(image, 0x234, 1, 1);
    put(image, 0x236, 3, 2);
    put(image, 0x238, 2047, 4);
    put(image, 0x248, 0x100, 4);
    put(image, 0x24c, 0x1000, 4);
    put(image, 0x258, 16 * MIB, 8);
    put(image, 0x260, 8 * MIB, 4);
    for (unsigned i = 0; i < CODE_SIZE; i++)
        image[CODE_OFFSET + i] = (uint8_t)(i * 7 + i / 256);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    assert_int_equal(memory_init(&f->mem, RAM, &f->err), 0);
    assert_int_equal(e820_build(&f->map, RAM, 0, &f->err), 0);
    strcpy(f->dir, "/tmp/doble-boot-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->kernel, sizeof f->kernel, "%s/kernel", f->dir);
    snprintf(f->initrd, sizeof f->initrd, "%s/initrd", f->dir);
    make_image(f->image);
    write_file(f->kernel, f->image, IMAGE_SIZE);
    f->config = (struct linux_boot_config){
        .kernel = f->kernel, .cmdline = "console=ttyS0", .e820 = &f->map, .rsdp = 0xf0000};
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    unlink(f->kernel);
    unlink(f->initrd);
    rmdir(f->dir);
    memory_free(&f->mem);
    free(f);
    return 0;
}

static int load(struct fixture *f)
{
    return linux_boot_load(&f->mem, &f->config, &f->state, &f->err);
}

static uint64_t number(struct fixture *f, gpa_t gpa, unsigned bytes)
{
    uint64_t value = 0;

    assert_true(memory_read(&f->mem, gpa, &value, bytes));
    return value;
}

/* The image is written anew, and refused with a sentence in which `words` occur. */
static void expect_refusal(struct fixture *f, const char *words)
{
    write_file(f->kernel, f->image, IMAGE_SIZE);
    memset(&f->err, 0, sizeof f->err);
    assert_true(load(f) < 0);
    if (!strstr(f->err.text, words))
        fail_msg("'%s' says nothing of '%s'", f->err.text, words);
    make_image(f->image);
}

static void loads_where_the_kernel_prefers(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(load(f), 0);
    assert_true(f->state.long_mode);
    assert_int_equal(f->state.rip, 16 * MIB + 0x200);
    assert_int_equal(f->state.rsi, ZERO_PAGE);
    assert_memory_equal(memory_ram(&f->mem, 16 * MIB, CODE_SIZE), f->image + CODE_OFFSET,
                        CODE_SIZE);
    assert_memory_equal(memory_ram(&f->mem, ZERO_PAGE + 0x202, 4), "HdrS", 4);
    assert_int_equal(number(f, ZERO_PAGE + 0x210, 1), 0xff);
    assert_int_equal(number(f, ZERO_PAGE + 0x70, 8), 0xf0000);
    assert_int_equal(number(f, ZERO_PAGE + 0x1e8, 1), f->map.count);
    assert_memory_equal(memory_ram(&f->mem, ZERO_PAGE + 0x2d0, 20), f->map.entries, 20);
    assert_int_equal(number(f, ZERO_PAGE + 0x218, 8), 0); /* no initrd */
    assert_string_equal(memory_ram(&f->mem, number(f, ZERO_PAGE + 0x228, 4), 14), "console=ttyS0");
}

/* Walks the page tables for an address below 4 GiB. */
static void page_tables_map_to_themselves(void **state)
{
    static const uint64_t addresses[] = {0, 0x10000, 16 * MIB, 3 * GIB + 5 * MIB, 4 * GIB - 1};
    struct fixture *f = *state;

    assert_int_equal(load(f), 0);
    for (unsigned i = 0; i < ARRAY_SIZE(addresses); i++) {
        uint64_t a = addresses[i];
        uint64_t pml4e = number(f, f->state.cr3, 8);
        uint64_t pdpte = number(f, (pml4e & PAGE_MASK) + (a >> 30) * 8, 8);
        uint64_t pde = number(f, (pdpte & PAGE_MASK) + (a >> 21 & 511) * 8, 8);

        assert_int_equal(pml4e & 3, 3);
        assert_int_equal(pdpte & 0x83, 3);
        assert_int_equal(pde & 0xfff, 0x83);
        assert_int_equal(pde & ~UINT64_C(0xfff), a & ~(2 * MIB - 1));
    }
}

static void initrd_goes_high(void **state)
{
    struct fixture *f = *state;
    uint8_t bytes[5000];
    gpa_t top = e820_find(&f->map, E820_ACPI, 0)->base;

    for (unsigned i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 3);
    write_file(f->initrd, bytes, sizeof bytes);
    f->config.initrd = f->initrd;
    assert_int_equal(load(f), 0);
    assert_int_equal(number(f, ZERO_PAGE + 0x218, 4), top - 8192);
    assert_int_equal(number(f, ZERO_PAGE + 0x21c, 4), sizeof bytes);
    assert_memory_equal(memory_ram(&f->mem, top - 8192, sizeof bytes), bytes, sizeof bytes);
    put(f->image, 0x22c, 0x2ffffff, 4); /* not above 48 MiB */
    write_file(f->kernel, f->image, IMAGE_SIZE);
    assert_int_equal(load(f), 0);
    assert_int_equal(number(f, ZERO_PAGE + 0x218, 4), 48 * MIB - 8192);
    put(f->image, 0x22c, 0x17fffff, 4); /* not above 24 MiB: beside the kernel, below it */
    write_file(f->kernel, f->image, IMAGE_SIZE);
    assert_int_equal(load(f), 0);
    assert_int_equal(number(f, ZERO_PAGE + 0x218, 4), 16 * MIB - 8192);
}

static void initrd_that_does_not_fit(void **state)
{
    struct fixture *f = *state;

    f->config.initrd = f->initrd;
    write_file(f->initrd, "x", 1);
    assert_int_equal(truncate(f->initrd, 80 * MIB), 0);
    assert_true(load(f) < 0);
    assert_non_null(strstr(f->err.text, "does not fit"));
    put(f->image, 0x22c, 0x100000, 4);
    put(f->image, 0x236, 1, 2); /* and not anywhere else */
    write_file(f->kernel, f->image, IMAGE_SIZE);
    assert_int_equal(truncate(f->initrd, 8193), 0);
    assert_true(load(f) < 0);
    assert_int_equal(truncate(f->initrd, 0), 0);
    assert_true(load(f) < 0);
    assert_non_null(strstr(f->err.text, "is empty"));
    unlink(f->initrd);
    assert_true(load(f) < 0);
    assert_non_null(strstr(f->err.text, "cannot open the initrd"));
}

static void room_for_the_kernel(void **state)
{
    struct fixture *f = *state;
    gpa_t top = e820_find(&f->map, E820_ACPI, 0)->base;

    put(f->image, 0x260, top - 16 * MIB, 4); /* the last byte that fits */
    write_file(f->kernel, f->image, IMAGE_SIZE);
    assert_int_equal(load(f), 0);
    put(f->image, 0x260, top - 16 * MIB + 1, 4);
    expect_refusal(f, "give it more");
    put(f->image, 0x230, 64 * MIB, 4); /* aligned up from where it prefers */
    write_file(f->kernel, f->image, IMAGE_SIZE);
    assert_int_equal(load(f), 0);
    assert_int_equal(f->state.rip, 64 * MIB + 0x200);
    put(f->image, 0x234, 0, 1); /* not relocatable: moves itself */
    put(f->image, 0x260, top - 16 * MIB + 1, 4);
    expect_refusal(f, "from 1 MiB on");
}

static void old_kernels(void **state)
{
    struct fixture *f = *state;

    put(f->image, 0x206, 0x020a, 2);
    write_file(f->kernel, f->image, IMAGE_SIZE);
    assert_int_equal(load(f), 0);
    assert_false(f->state.long_mode); /* there were no xloadflags */
    assert_int_equal(f->state.rip, 16 * MIB);
    put(f->image, 0x234, 0, 1);
    write_file(f->kernel, f->image, IMAGE_SIZE);
    assert_int_equal(load(f), 0);
    assert_int_equal(f->state.rip, MIB);
    put(f->image, 0x206, 0x0209, 2);
    expect_refusal(f, "boot protocol 2.09");
}

static void refusals(void **state)
{
    struct fixture *f = *state;

    put(f->image, 0x1f1, 0xff, 1);
    expect_refusal(f, "promises 131072 bytes of setup code");
    put(f->image, 0x1f4, CODE_SIZE / 16 + 1, 4);
    expect_refusal(f, "is truncated");
    put(f->image, 0x1f4, 0, 4);
    expect_refusal(f, "no code");
    put(f->image, 0x211, 0, 1);
    expect_refusal(f, "zImage");
    put(f->image, 0x230, 0x300000, 4);
    expect_refusal(f, "power of two");
    put(f->image, 0x230, 0, 4);
    expect_refusal(f, "power of two");
    put(f->image, 0x258, UINT64_MAX, 8);
    expect_refusal(f, "between 1 MiB and 4 GiB");
    put(f->image, 0x24c, 0xffffffff, 4);
    expect_refusal(f, "payload");
    put(f->image, 0x260, 0xffffffff, 4);
    expect_refusal(f, "give it more");
    put(f->image, 0x238, 5, 4);
    expect_refusal(f, "has 13 characters; this kernel takes at most 5");
}

static void not_a_kernel(void **state)
{
    struct fixture *f = *state;

    memset(f->image, 0, IMAGE_SIZE);
    expect_refusal(f, "is not a Linux kernel");
    memcpy(memset(f->image, 0, IMAGE_SIZE),
           "\x7f"
           "ELF",
           4);
    expect_refusal(f, "an ELF file");
    memcpy(memset(f->image, 0, IMAGE_SIZE), "\x1f\x8b", 2);
    expect_refusal(f, "a gzip file");
    memcpy(f->image + 0x202, "XXXX", 4);
    expect_refusal(f, "boot sector");
}

static void bad_files(void **state)
{
    struct fixture *f = *state;

    write_file(f->kernel, "", 0);
    assert_true(load(f) < 0);
    assert_non_null(strstr(f->err.text, "is empty"));
    write_file(f->kernel, f->image, 0x240);
    assert_true(load(f) < 0);
    assert_non_null(strstr(f->err.text, "truncated"));
    write_file(f->kernel, f->image, 17);
    assert_true(load(f) < 0);
    f->config.kernel = f->dir;
    assert_true(load(f) < 0);
    assert_non_null(strstr(f->err.text, "a directory"));
    f->config.kernel = "/dev/null";
    assert_true(load(f) < 0);
    assert_non_null(strstr(f->err.text, "regular file"));
    f->config.kernel = "/nonexistent/kernel";
    assert_true(load(f) < 0);
    assert_non_null(strstr(f->err.text, "No such file"));
}

/* Every length up to the whole, in steps, and random bytes in the header. */
static void corrupt_files(void **state)
{
    struct fixture *f = *state;
    uint8_t bytes[3000] = {0};
    unsigned loaded = 0;

    srandom(1);
    write_file(f->initrd, bytes, sizeof bytes);
    for (unsigned size = 1; size < IMAGE_SIZE; size += 37) {
        write_file(f->kernel, f->image, size);
        assert_true(load(f) < 0);
    }
    for (unsigned i = 0; i < 4000; i++) {
        f->config.initrd = i & 1 ? f->initrd : NULL;
        for (unsigned n = 1 + (unsigned)random() % 4; n > 0; n--)
            f->image[0x1f1 + random() % 0x80] = (uint8_t)random();
        write_file(f->kernel, f->image, IMAGE_SIZE);
        memset(&f->err, 0, sizeof f->err);
        if (load(f) == 0)
            loaded++;
        else
            assert_true(strlen(f->err.text) > 20);
        make_image(f->image);
    }
    assert_true(loaded > 0);
}

static void state_reaches_the_processor(void **state)
{
    struct fixture *f = *state;
    struct bus *bus = calloc(1, sizeof *bus);
    struct clock clock;
    struct cpu_model *model;
    struct cpu *cpu;

    bus_init(bus);
    clock_init(&clock, CLOCK_VIRTUAL);
    assert_int_equal(cpu_model_new(NULL, &model, &f->err), 0);
    cpu = cpu_new(&f->mem, bus, &clock, model, 0);
    assert_non_null(cpu);
    assert_int_equal(load(f), 0);
    boot_state_apply(&f->state, cpu);
    assert_int_equal(cpu->rip, 16 * MIB + 0x200);
    assert_int_equal(cpu->gpr[RSI], ZERO_PAGE);
    assert_true(cpu_is_64bit(cpu));
    assert_int_equal(cpu->cpl, 0);
    assert_int_equal(cpu_get_rflags(cpu), 2);
    f->state.long_mode = false;
    cpu_reset(cpu, false);
    boot_state_apply(&f->state, cpu);
    assert_int_equal(cpu->mode & MODE_CODE_MASK, MODE_CODE32);
    assert_true(cpu->mode & MODE_FLAT);
    cpu_free(cpu);
    cpu_model_free(model);
    bus_free(bus);
    free(bus);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(loads_where_the_kernel_prefers),
        TEST(page_tables_map_to_themselves),
        TEST(initrd_goes_high),
        TEST(initrd_that_does_not_fit),
        TEST(room_for_the_kernel),
        TEST(old_kernels),
        TEST(refusals),
        TEST(not_a_kernel),
        TEST(bad_files),
        TEST(corrupt_files),
        TEST(state_reaches_the_processor),
    };

    return cmocka_run_group_tests_name("linux_boot", tests, NULL, NULL);
}
