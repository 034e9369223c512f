/* test_kernel_image.c - loading of ELF and flat kernels that this test makes, by every protocol:
 * what the kernel is told, the sentences for each defect, and that no corruption of the file does
 * harm. */
#include "write_file.h"

#include "firmware/kernel_image.h"

#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RAM (8 * MIB)
#define IMAGE_SIZE 0x3000
#define CODE_AT 0x1000 /* in the file */
#define CODE_SIZE 0x2000
#define NOTE_AT 0x200
#define MB1_AT 0x400
#define MB2_AT 0x480
#define LOADED (2 * MIB)
#define ROOM (1 * MIB)
#define ENTRY (LOADED + 0x40)

struct fixture {
    struct memory mem;
    struct e820_map map;
    struct kernel_config config;
    struct boot_state state;
    struct err err;
    char dir[32], kernel[64], module[64], modules[200];
    uint8_t image[IMAGE_SIZE];
    uint64_t random;
};

static void put(uint8_t *image, unsigned offset, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        image[offset + i] = (uint8_t)(value >> (8 * i));
}

static void put_words(uint8_t *image, unsigned offset, const uint32_t *words, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        put(image, offset + 4 * i, words[i], 4);
}

static void make_elf64(uint8_t *image)
{
    const Elf64_Ehdr header = {
        .e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
        .e_type = ET_EXEC,
        .e_machine = EM_X86_64,
        .e_entry = ENTRY,
        .e_phoff = sizeof header,
        .e_phentsize = sizeof(Elf64_Phdr),
        .e_phnum = 2,
    };
    const Elf64_Phdr programs[2] = {
        {PT_LOAD, PF_X, CODE_AT, UINT64_C(0xffffffff80200000), LOADED, CODE_SIZE, ROOM, 0x1000},
        {PT_NOTE, 0, NOTE_AT, 0, 0, 20, 20, 4},
    };

    memcpy(image, &header, sizeof header);
    memcpy(image + sizeof header, programs, sizeof programs);
}

static void make_elf32(uint8_t *image)
{
    const Elf32_Ehdr header = {
        .e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS32, ELFDATA2LSB, EV_CURRENT},
        .e_type = ET_EXEC,
        .e_machine = EM_386,
        .e_entry = 0xc0000040, /* virtual */
        .e_phoff = sizeof header,
        .e_phentsize = sizeof(Elf32_Phdr),
        .e_phnum = 2,
    };
    const Elf32_Phdr programs[2] = {
        {PT_LOAD, CODE_AT, 0xc0000000, LOADED, CODE_SIZE, ROOM, PF_X, 0x1000},
        {PT_NOTE, NOTE_AT, 0, 0, 20, 20, 0, 4},
    };

    memcpy(image, &header, sizeof header);
    memcpy(image + sizeof header, programs, sizeof programs);
}

/* A vmlinux: an entry, and nothing else that says what it is. */
static void make_image(struct fixture *f, bool is_64)
{
    memset(f->image, 0, IMAGE_SIZE);
    for (unsigned i = 0; i < CODE_SIZE; i++)
        f->image[CODE_AT + i] = (uint8_t)(i * 7 + i / 256);
    if (is_64)
        make_elf64(f->image);
    else
        make_elf32(f->image);
}

static void add_note(struct fixture *f)
{
    put_words(f->image, NOTE_AT, (const uint32_t[]){4, 4, 18, 0x6e6558, ENTRY + 0x10}, 5);
}

static void add_multiboot1(struct fixture *f, uint32_t flags)
{
    put_words(f->image, MB1_AT, (const uint32_t[]){0x1badb002, flags, -(0x1badb002 + flags)}, 3);
}

/* A flat image: the whole file from LOADED on. */
static void add_addresses(struct fixture *f)
{
    put_words(
        f->image, MB1_AT + 12,
        (const uint32_t[]){LOADED + MB1_AT, LOADED, LOADED + IMAGE_SIZE, LOADED + ROOM, ENTRY}, 5);
}

static void add_multiboot2(struct fixture *f, const uint32_t *tags, uint32_t count)
{
    uint32_t length = 16 + 4 * count;

    put_words(f->image, MB2_AT, (const uint32_t[]){0xe85250d6, 0, length, -(0xe85250d6 + length)},
              4);
    put_words(f->image, MB2_AT + 16, tags, count);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    assert_int_equal(memory_init(&f->mem, RAM, &f->err), 0);
    assert_int_equal(e820_build(&f->map, RAM, 0, &f->err), 0);
    strcpy(f->dir, "/tmp/doble-image-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->kernel, sizeof f->kernel, "%s/kernel", f->dir);
    snprintf(f->module, sizeof f->module, "%s/module", f->dir);
    snprintf(f->modules, sizeof f->modules, "%s a  b,%s", f->module, f->module);
    write_file(f->module, "hello", 5);
    f->config = (struct kernel_config){.kernel = f->kernel,
                                       .initrd = f->modules,
                                       .cmdline = "x=1 y",
                                       .e820 = &f->map,
                                       .rsdp = 0xf0000};
    assert_true(memory_write(&f->mem, 0xf0000, "RSD PTR ", 8));
    f->random = 88172645463325252u;
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    unlink(f->kernel);
    unlink(f->module);
    rmdir(f->dir);
    memory_free(&f->mem);
    free(f);
    return 0;
}

static int load(struct fixture *f)
{
    write_file(f->kernel, f->image, IMAGE_SIZE);
    memset(&f->err, 0, sizeof f->err);
    return kernel_image_load(&f->mem, &f->config, &f->state, &f->err);
}

static void expect_loaded(struct fixture *f)
{
    if (load(f) != 0)
        fail_msg("'%s'", f->err.text);
}

static void expect_refusal(struct fixture *f, const char *words)
{
    assert_true(load(f) < 0);
    if (!strstr(f->err.text, words) || !strstr(f->err.text, f->kernel))
        fail_msg("'%s' says nothing of '%s' or of the file", f->err.text, words);
}

static uint32_t word(struct fixture *f, gpa_t gpa)
{
    uint32_t value = 0;

    assert_true(memory_read(&f->mem, gpa, &value, sizeof value));
    return value;
}

static const char *text(struct fixture *f, gpa_t gpa)
{
    return memory_ram(&f->mem, gpa, 64);
}

static void expect_code(struct fixture *f)
{
    const uint8_t *host = memory_ram(&f->mem, LOADED, ROOM);

    assert_memory_equal(host, f->image + CODE_AT, CODE_SIZE);
    for (unsigned i = CODE_SIZE; i < ROOM; i++)
        assert_int_equal(host[i], 0);
    assert_int_equal(f->state.kernel.base, LOADED);
    assert_int_equal(f->state.kernel.size, ROOM);
}

static void pvh_is_told_everything(void **state)
{
    struct fixture *f = *state;
    gpa_t info, module;

    memset(memory_ram(&f->mem, LOADED, ROOM), 0xff, ROOM);
    for (unsigned is_64 = 0; is_64 < 2; is_64++) {
        make_image(f, is_64);
        add_note(f);
        expect_loaded(f);
        expect_code(f);
        assert_false(f->state.long_mode);
        assert_int_equal(f->state.rip, ENTRY + 0x10);
        info = f->state.rbx;
        assert_int_equal(word(f, info), 0x336ec578);
        assert_int_equal(word(f, info + 4), 1);
        assert_int_equal(word(f, info + 12), 2);
        assert_string_equal(text(f, word(f, info + 24)), "x=1 y");
        assert_int_equal(word(f, info + 32), 0xf0000);
        assert_int_equal(word(f, info + 48), f->map.count);
        assert_int_equal(word(f, word(f, info + 40) + 3 * 24), MIB);
        module = word(f, info + 16);
        assert_int_equal(word(f, module), LOADED + ROOM);
        assert_int_equal(word(f, module + 8), 5);
        assert_string_equal(text(f, word(f, module + 16)), "module a  b");
        assert_memory_equal(text(f, word(f, module + 32)), "hello", 5);
    }
}

static void multiboot1_is_told_everything(void **state)
{
    struct fixture *f = *state;

    for (unsigned is_64 = 0; is_64 < 2; is_64++) {
        gpa_t info, module;

        make_image(f, is_64);
        add_multiboot1(f, 7);
        expect_loaded(f);
        expect_code(f);
        assert_int_equal(f->state.rip, ENTRY);
        assert_int_equal(f->state.rax, 0x2badb002);
        info = f->state.rbx;
        assert_int_equal(word(f, info), 0x24d);
        assert_int_equal(word(f, info + 4), 639);
        assert_int_equal(word(f, info + 8), (RAM - MIB - 68 * KIB) / KIB);
        assert_string_equal(text(f, word(f, info + 16)), "kernel x=1 y");
        assert_int_equal(word(f, info + 20), 2);
        module = word(f, info + 24);
        assert_int_equal(word(f, module + 4) - word(f, module), 5);
        assert_string_equal(text(f, word(f, module + 8)), "module a  b");
        assert_int_equal(word(f, info + 44), f->map.count * 24);
        assert_int_equal(word(f, word(f, info + 48)), 20);
        assert_memory_equal(text(f, word(f, info + 64)), "Doble ", 6);
    }
}

/* The body of a tag; 0: it is not there. */
static gpa_t find_tag(struct fixture *f, uint32_t type)
{
    gpa_t info = f->state.rbx;
    uint32_t at = 8;

    while (at < word(f, info)) {
        if (word(f, info + at) == type)
            return info + at + 8;
        at += (word(f, info + at + 4) + 7) & ~7u;
    }
    return 0;
}

static const uint32_t end_tag[2] = {0, 8};

static void multiboot2_is_told_everything(void **state)
{
    struct fixture *f = *state;
    const uint32_t wishes[] = {1, 20, 1, 3, 6, 0, 10, 24, MIB, 4 * MIB, 4096, 0, 0, 8};
    gpa_t tag;

    for (unsigned is_64 = 0; is_64 < 2; is_64++) {
        make_image(f, is_64);
        add_multiboot1(f, 0);
        add_multiboot2(f, wishes, ARRAY_SIZE(wishes));
        expect_loaded(f);
        expect_code(f);
        assert_int_equal(f->state.rax, 0x36d76289);
        assert_int_equal(f->state.rbx % 8, 0);
        assert_string_equal(text(f, find_tag(f, 1)), "kernel x=1 y");
        tag = find_tag(f, 3);
        assert_int_equal(word(f, tag + 4) - word(f, tag), 5);
        assert_string_equal(text(f, tag + 8), "module a  b");
        assert_int_equal(word(f, find_tag(f, 6)), 24);
        assert_memory_equal(text(f, find_tag(f, 14)), "RSD PTR ", 8);
        assert_memory_equal(text(f, find_tag(f, 15)), "RSD PTR ", 8);
        assert_int_equal(word(f, find_tag(f, 21)), LOADED);
        assert_int_equal(find_tag(f, 8), 0);
        f->config.vga = true;
        expect_loaded(f);
        assert_int_equal(word(f, find_tag(f, 8)), 0xb8000);
        f->config.vga = false;
    }
}

static void flat_images(void **state)
{
    struct fixture *f = *state;
    const uint32_t tags[] = {2, 24, LOADED + MB2_AT, UINT32_MAX, 0, 0, 3, 12, ENTRY, 0, 0, 8};

    make_image(f, true);
    memset(f->image, 0, 64); /* no ELF header */
    add_multiboot1(f, 0x10000);
    add_addresses(f);
    expect_loaded(f);
    assert_int_equal(f->state.rip, ENTRY);
    assert_memory_equal(memory_ram(&f->mem, LOADED, IMAGE_SIZE), f->image, IMAGE_SIZE);
    assert_int_equal(f->state.kernel.size, ROOM);
    add_multiboot2(f, tags, ARRAY_SIZE(tags));
    expect_loaded(f);
    assert_int_equal(f->state.rax, 0x36d76289);
    assert_int_equal(f->state.kernel.size, IMAGE_SIZE);
}

static void vmlinux_starts_in_long_mode(void **state)
{
    struct fixture *f = *state;

    make_image(f, true);
    f->config.initrd = f->module;
    expect_loaded(f);
    expect_code(f);
    assert_true(f->state.long_mode);
    assert_int_equal(f->state.rip, ENTRY);
    assert_int_equal(word(f, f->state.rsi + 0x21c), 5); /* ramdisk_size */
    assert_string_equal(text(f, word(f, f->state.rsi + 0x228)), "x=1 y");
}

static void protocols_are_chosen(void **state)
{
    struct fixture *f = *state;
    enum kernel_protocol protocol;

    assert_true(kernel_protocol_parse("multiboot1", &protocol));
    assert_int_equal(protocol, KERNEL_MULTIBOOT1);
    assert_false(kernel_protocol_parse("", &protocol));
    make_image(f, false);
    expect_refusal(f, "a 32-bit ELF file without");
    f->config.protocol = KERNEL_LINUX;
    expect_refusal(f, "--protocol linux");
    f->config.protocol = KERNEL_PVH;
    expect_refusal(f, "--protocol pvh");
    add_note(f);
    add_multiboot1(f, 0);
    expect_loaded(f);
    assert_int_equal(f->state.rip, ENTRY + 0x10);
}

static void bad_elf_headers(void **state)
{
    struct fixture *f = *state;
    const struct {
        unsigned offset, bytes;
        uint64_t value;
        const char *words;
    } defects[] = {
        {4, 1, 9, "not an ELF file for x86"},
        {5, 1, ELFDATA2MSB, "not an ELF file for x86"},
        {16, 2, ET_REL, "not an executable"},
        {18, 2, EM_ARM, "not an ELF file for x86"},
        {24, 8, 0x10, "entry lies in none"},
        {32, 8, UINT64_MAX - 8, "program headers lie beyond"},
        {54, 2, 55, "wrong size"},
        {56, 2, 0, "without program headers"},
        {56, 2, 0xffff, "too many"},
        {56, 2, 300, "program headers lie beyond"},
        {64, 4, PT_NULL, "without segments"},
        {72, 8, UINT64_MAX - 0x800, "beyond the end of the file"},
        {88, 8, UINT64_MAX - 0x800, "where the guest has no memory"},
        {88, 8, 0x9f000, "where the guest has no memory"},
        {88, 8, RAM - 0x1000, "give it more"},
        {88, 8, 0x20000, "needs"},
        {96, 8, IMAGE_SIZE, "beyond the end of the file"},
        {104, 8, CODE_SIZE - 1, "more bytes in the file than in memory"},
        {104, 8, UINT64_MAX, "where the guest has no memory"},
        {120, 4, PT_LOAD, "overlap"},
        {128, 8, UINT64_MAX, "notes lie beyond"},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(defects); i++) {
        make_image(f, true);
        /* the note could be a second segment, at the same place */
        put(f->image, 120 + 24, LOADED + 8, 8);
        put(f->image, defects[i].offset, defects[i].value, defects[i].bytes);
        expect_refusal(f, defects[i].words);
    }
}

static void bad_notes(void **state)
{
    struct fixture *f = *state;
    const uint32_t values[] = {0, 5, 8, 1000, 0x7fffffff, 0xfffffff0, UINT32_MAX};

    for (unsigned i = 0; i < ARRAY_SIZE(values); i++)
        for (unsigned field = 0; field < 2; field++) {
            make_image(f, false);
            add_note(f);
            put(f->image, NOTE_AT + 4 * field, values[i], 4);
            expect_refusal(f, "without a Multiboot header or PVH note");
        }
    make_image(f, false);
    add_note(f);
    put(f->image, NOTE_AT + 16, LOADED - 1, 4);
    expect_refusal(f, "entry lies in none");
}

static void bad_multiboot1_headers(void **state)
{
    struct fixture *f = *state;
    const struct {
        unsigned field;
        uint32_t value;
        const char *words;
    } defects[] = {
        {0, LOADED - 1, "load address"},
        {0, LOADED + MB1_AT + 1, "load address"},
        {1, LOADED + MB1_AT + 1, "load address"},
        {2, LOADED, "loading ends where"},
        {2, LOADED + IMAGE_SIZE + 1, "beyond the end of the file"},
        {3, LOADED + 1, "memory ends within"},
        {3, UINT32_MAX, "where the guest has no memory"},
        {4, LOADED - 1, "entry"},
        {4, LOADED + ROOM, "entry"},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(defects); i++) {
        make_image(f, true);
        add_multiboot1(f, 0x10000);
        add_addresses(f);
        put(f->image, MB1_AT + 12 + 4 * defects[i].field, defects[i].value, 4);
        expect_refusal(f, defects[i].words);
    }
    add_multiboot1(f, 8);
    expect_refusal(f, "not known");
    memset(f->image, 0, 64);
    add_multiboot1(f, 0);
    expect_refusal(f, "no ELF file");
}

static void bad_multiboot2_headers(void **state)
{
    struct fixture *f = *state;
    const struct {
        uint32_t tags[6];
        const char *words;
    } defects[] = {
        {{0, 0}, "size that is not possible"},
        {{6, 7, 0, 8}, "size that is not possible"},
        {{6, UINT32_MAX, 0, 8}, "size that is not possible"},
        {{6, 24, 0, 0, 0, 0}, "no end tag"},
        {{1, 12, 9, 0, 0, 8}, "information of type 9"},
        {{2, 8, 0, 8}, "too short"},
        {{3, 8, 0, 8}, "too short"},
        {{10, 8, 0, 8}, "too short"},
        {{5, 20, 0, 0, 0, 0}, "needs a screen"},
        {{4, 12, 3, 0, 0, 8}, "needs a screen"},
        {{99, 8, 0, 8}, "is not known"},
        {{10, 24, 3 * MIB, 4 * MIB, 0, 0}, "no end tag"},
    };
    const uint32_t no_entry[] = {2, 24, LOADED, LOADED, 0, 0, 0, 8};
    const uint32_t elsewhere[] = {10, 24, 3 * MIB, 4 * MIB, 1, 0, 0, 8};

    for (unsigned i = 0; i < ARRAY_SIZE(defects); i++) {
        make_image(f, true);
        add_multiboot2(f, defects[i].tags, 6);
        expect_refusal(f, defects[i].words);
    }
    add_multiboot2(f, no_entry, ARRAY_SIZE(no_entry));
    expect_refusal(f, "no entry");
    add_multiboot2(f, elsewhere, ARRAY_SIZE(elsewhere));
    expect_refusal(f, "linked outside");
    add_multiboot2(f, end_tag, 2);
    expect_loaded(f);
    put_words(f->image, MB2_AT + 4, (const uint32_t[]){4, 24, -(0xe85250d6 + 4 + 24)}, 3);
    expect_refusal(f, "another kind of processor");
    put_words(f->image, MB2_AT + 4, (const uint32_t[]){0, 0x80000000, -(0xe85250d6 + 0x80000000)},
              3);
    expect_refusal(f, "length that is not possible");
}

static void bad_modules(void **state)
{
    struct fixture *f = *state;
    char list[32 + 70];

    make_image(f, true);
    add_note(f);
    f->config.initrd = ",";
    assert_true(load(f) < 0);
    assert_non_null(strstr(f->err.text, "without a file"));
    f->config.initrd = "/nowhere/x,,y z";
    assert_true(load(f) < 0);
    assert_non_null(strstr(f->err.text, "'/nowhere/x,y'"));
    f->config.initrd = f->module;
    assert_int_equal(truncate(f->module, 2 * RAM), 0);
    assert_true(load(f) < 0);
    assert_non_null(strstr(f->err.text, "does not fit"));
    memset(list, ',', sizeof list);
    list[sizeof list - 1] = '\0';
    f->config.initrd = list; /* commas in a name */
    assert_true(load(f) < 0);
}

static uint64_t next_random(struct fixture *f)
{
    f->random ^= f->random << 13;
    f->random ^= f->random >> 7;
    f->random ^= f->random << 17;
    return f->random;
}

/* Every form of image with some bytes of its headers changed, or cut off. */
static void corrupt_files(void **state)
{
    static const uint64_t nasty[] = {0, 1, 7, 8, 0x7fffffff, 0x80000000, UINT32_MAX, UINT64_MAX};
    static const unsigned places[] = {0, 64, NOTE_AT, MB1_AT, MB2_AT};
    const uint32_t tags[] = {
        1, 12, 1, 0,  2,  24,  LOADED + MB2_AT, LOADED, 0, 0, 3, 12, ENTRY, 0, 5, 20, 0,
        0, 0,  0, 10, 24, MIB, 4 * MIB,         1,      0, 0, 8};
    struct fixture *f = *state;
    unsigned loaded = 0;

    for (unsigned i = 0; i < 6000; i++) {
        uint64_t r = next_random(f);

        make_image(f, r & 1);
        if (r & 2)
            add_note(f);
        if (r & 4)
            add_multiboot1(f, r & 8 ? 0x10000 : 3);
        if (r & 8)
            add_addresses(f);
        if (r & 16)
            add_multiboot2(f, tags, ARRAY_SIZE(tags));
        f->config.protocol = (enum kernel_protocol)(r >> 8 & 7) % 5;
        for (unsigned n = 0; n < (r >> 12 & 3); n++) {
            unsigned at = places[next_random(f) % ARRAY_SIZE(places)] + next_random(f) % 112;

            put(f->image, at & ~3u, next_random(f) & 1 ? nasty[next_random(f) % 8] : next_random(f),
                1u << next_random(f) % 4);
        }
        write_file(f->kernel, f->image, r & 0x8000 ? (size_t)(r >> 20 & 0x1fff) + 1 : IMAGE_SIZE);
        memset(&f->err, 0, sizeof f->err);
        if (kernel_image_load(&f->mem, &f->config, &f->state, &f->err) == 0)
            loaded++;
        else
            assert_true(strlen(f->err.text) > 20);
    }
    assert_in_range(loaded, 500, 5500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(pvh_is_told_everything, setup, teardown),
        cmocka_unit_test_setup_teardown(multiboot1_is_told_everything, setup, teardown),
        cmocka_unit_test_setup_teardown(multiboot2_is_told_everything, setup, teardown),
        cmocka_unit_test_setup_teardown(flat_images, setup, teardown),
        cmocka_unit_test_setup_teardown(vmlinux_starts_in_long_mode, setup, teardown),
        cmocka_unit_test_setup_teardown(protocols_are_chosen, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_elf_headers, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_notes, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_multiboot1_headers, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_multiboot2_headers, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_modules, setup, teardown),
        cmocka_unit_test_setup_teardown(corrupt_files, setup, teardown),
    };

    return cmocka_run_group_tests_name("kernel_image", tests, NULL, NULL);
}
