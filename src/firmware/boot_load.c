/* boot_load.c - see boot_load.h. */
#define _GNU_SOURCE
#include "firmware/boot_load.h"

#include "base/trace.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INFO_MIN                                                                                   \
    UINT64_C(0x10000)          /* below are the BIOS's data, and what kernels use on their way */
#define INFO_TABLES (16 * KIB) /* room for all but strings */
#define CMDLINE_MAX (64 * KIB)

#define CODE_DESCRIPTOR UINT64_C(0x00cf9b000000ffff) /* flat, 32-bit */
#define DATA_DESCRIPTOR UINT64_C(0x00cf93000000ffff)

/* --- opening and closing --- */

static const char *without_folders(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

int boot_load_open(struct boot_load *load, struct memory *mem, const struct kernel_config *config,
                   struct err *err)
{
    *load = (struct boot_load){.mem = mem, .config = config, .err = err, .kernel = {.fd = -1}};
    if (config->cmdline && strlen(config->cmdline) >= CMDLINE_MAX)
        return err_set(err, -E2BIG,
                       "the kernel's command line has %zu characters; at most %u are possible",
                       strlen(config->cmdline), (unsigned)CMDLINE_MAX - 1);
    if (asprintf(&load->cmdline, "%s%s%s", without_folders(config->kernel),
                 config->cmdline && *config->cmdline ? " " : "",
                 config->cmdline ? config->cmdline : "") < 0) {
        load->cmdline = NULL;
        return err_set(err, -ENOMEM, "not enough memory for a command line");
    }
    return input_open(&load->kernel, "kernel", config->kernel, err);
}

void boot_load_close(struct boot_load *load)
{
    input_close(&load->kernel);
    free(load->cmdline);
    free(load->options);
    load->cmdline = load->options = NULL;
}

int boot_load_refuse(const struct boot_load *load, const char *reason)
{
    return err_set(load->err, -ENOEXEC, "the kernel '%s' cannot be started: %s",
                   load->config->kernel, reason);
}

const char *boot_load_arguments(const struct boot_load *load)
{
    return load->config->cmdline ? load->config->cmdline : "";
}

/* --- who has which part of RAM --- */

static const struct boot_range *claimed(const struct boot_load *load, gpa_t base, uint64_t size)
{
    for (unsigned i = 0; i < load->range_count; i++) {
        const struct boot_range *range = &load->ranges[i];

        if (base < range->base + range->size && range->base < base + size)
            return range;
    }
    return NULL;
}

/* The range was checked to be RAM, so its end does not overflow. */
static bool claim(struct boot_load *load, gpa_t base, uint64_t size)
{
    if (size == 0)
        return true;
    if (load->range_count == BOOT_LOAD_RANGES)
        return false;
    load->ranges[load->range_count++] = (struct boot_range){base, size};
    return true;
}

/* The lowest page in one piece of RAM, at or above `min`, at which `size` unclaimed bytes end at or
 * below `max`. */
static bool find_in(const struct boot_load *load, const struct e820_entry *ram, uint64_t size,
                    uint64_t min, uint64_t max, gpa_t *at)
{
    uint64_t start = ram->base > min ? ram->base : min;
    uint64_t end = ram->base + ram->size < max ? ram->base + ram->size : max;
    const struct boot_range *taken;

    for (start = (start + PAGE_SIZE - 1) & PAGE_MASK; start < end && size <= end - start;
         start = (taken->base + taken->size + PAGE_SIZE - 1) & PAGE_MASK) {
        taken = claimed(load, start, size);
        if (!taken) {
            *at = start;
            return true;
        }
    }
    return false;
}

static bool find_room(const struct boot_load *load, uint64_t size, uint64_t min, gpa_t *at)
{
    const struct e820_map *map = load->config->e820;

    for (unsigned i = 0; i < map->count; i++)
        if (map->entries[i].type == E820_RAM &&
            find_in(load, &map->entries[i], size, min, MEMORY_HIGH_START, at))
            return true;
    return false;
}

/* --- the kernel --- */

static int check_segment(const struct boot_load *load, uint64_t offset, uint64_t file_size,
                         gpa_t gpa, uint64_t room)
{
    if (offset > load->kernel.size || file_size > load->kernel.size - offset)
        return boot_load_refuse(load, "it is truncated: a segment lies beyond the end of the file");
    if (file_size > room)
        return boot_load_refuse(load, "a segment has more bytes in the file than in memory");
    if (!e820_is_ram(load->config->e820, gpa, room))
        return err_set(load->err, -ENOMEM,
                       "the kernel '%s' needs %llu KiB at %#llx, where the guest has no memory%s",
                       load->config->kernel, (unsigned long long)(room / KIB + (room % KIB != 0)),
                       (unsigned long long)gpa, gpa >= MIB ? "; give it more" : "");
    if (claimed(load, gpa, room))
        return boot_load_refuse(load, "two of its segments overlap in memory");
    return 0;
}

static void extend(struct boot_range *extent, gpa_t base, uint64_t size)
{
    gpa_t end = base + size;

    if (extent->size == 0) {
        *extent = (struct boot_range){base, size};
        return;
    }
    if (extent->base + extent->size > end)
        end = extent->base + extent->size;
    if (extent->base < base)
        base = extent->base;
    *extent = (struct boot_range){base, end - base};
}

int boot_load_segment(struct boot_load *load, uint64_t offset, uint64_t file_size, gpa_t gpa,
                      uint64_t room)
{
    int r = check_segment(load, offset, file_size, gpa, room);
    uint8_t *host;

    if (r < 0)
        return r;
    if (!claim(load, gpa, room))
        return boot_load_refuse(load, "it has too many segments");
    trace_boot_load_segment(gpa, file_size, room);
    r = input_load(load->mem, &load->kernel, offset, file_size, gpa, load->err);
    host = memory_ram(load->mem, gpa, room);
    if (r < 0 || !host)
        return r;
    memset(host + file_size, 0, room - file_size);
    memory_touched(load->mem, gpa, room);
    extend(&load->extent, gpa, room);
    return 0;
}

/* --- modules --- */

/* Cuts the next piece off a list: up to a comma that is not doubled; a doubled one is a comma.
 * Returns what follows, or NULL. */
static char *cut_piece(char *list)
{
    char *out = list;

    for (char *in = list; *in; in++) {
        if (*in == ',' && in[1] != ',') {
            *out = '\0';
            return in + 1;
        }
        if (*in == ',')
            in++;
        *out++ = *in;
    }
    *out = '\0';
    return NULL;
}

static int place_module(struct boot_load *load, const struct input_file *file,
                        struct boot_module *module)
{
    gpa_t kernel_end = load->extent.base + load->extent.size;
    gpa_t at;

    if ((!find_room(load, file->size, kernel_end > MIB ? kernel_end : MIB, &at) &&
         !find_room(load, file->size, MIB, &at)) ||
        !claim(load, at, file->size))
        return err_set(load->err, -ENOMEM,
                       "the module '%s' of %llu KiB does not fit into the guest's memory beside "
                       "the kernel; give the guest more memory",
                       file->path, (unsigned long long)((file->size + KIB - 1) / KIB));
    module->at = (struct boot_range){at, file->size};
    trace_boot_load_module(at, file->size);
    return input_load(load->mem, file, 0, file->size, at, load->err);
}

/* `text` is "FILE" or "FILE ARGUMENTS". */
static int load_module(struct boot_load *load, char *text)
{
    struct boot_module *module = &load->modules[load->module_count];
    char *space = strchr(text, ' ');
    struct input_file file;
    int r;

    if (space)
        *space = '\0';
    r = input_open(&file, "module", text, load->err);
    if (r == 0)
        r = place_module(load, &file, module);
    input_close(&file);
    module->text = without_folders(text);
    if (space)
        *space = ' ';
    load->module_count++;
    return r;
}

int boot_load_modules(struct boot_load *load)
{
    int r = 0;

    if (!load->config->initrd)
        return 0;
    load->options = strdup(load->config->initrd);
    if (!load->options)
        return err_set(load->err, -ENOMEM, "not enough memory for the list of modules");
    for (char *piece = load->options, *next; piece && r == 0; piece = next) {
        next = cut_piece(piece);
        if (load->module_count == BOOT_LOAD_MODULES)
            return err_set(load->err, -E2BIG, "--initrd names more than %u modules",
                           BOOT_LOAD_MODULES);
        if (*piece == '\0' || *piece == ' ')
            return err_set(load->err, -EINVAL,
                           "--initrd '%s' has a module without a file; right would be FILE, or "
                           "FILE ARGUMENTS,FILE ARGUMENTS",
                           load->config->initrd);
        r = load_module(load, piece);
    }
    return r;
}

/* --- the info block --- */

int boot_load_info(struct boot_load *load)
{
    uint64_t size = INFO_TABLES + 2 * (strlen(load->cmdline) + 1);
    int r = 0;

    for (unsigned i = 0; i < load->module_count; i++)
        size += 2 * (strlen(load->modules[i].text) + 1);
    size = (size + PAGE_SIZE - 1) & PAGE_MASK;
    if (!find_room(load, size, INFO_MIN, &load->info.base) || !claim(load, load->info.base, size))
        return boot_load_refuse(load, "it leaves no memory for the tables that it is given");
    load->info.size = size;
    for (unsigned i = 0; i < load->module_count && r == 0; i++)
        r = boot_load_put(load, load->modules[i].text, strlen(load->modules[i].text) + 1, 1,
                          &load->modules[i].string);
    return r;
}

int boot_load_put(struct boot_load *load, const void *bytes, uint64_t len, uint64_t align,
                  gpa_t *at)
{
    uint64_t start = (load->info_used + align - 1) & ~(align - 1);

    if (start > load->info.size || len > load->info.size - start ||
        !memory_write(load->mem, load->info.base + start, bytes, len))
        return boot_load_refuse(load, "its tables need more room than there is");
    *at = load->info.base + start;
    load->info_used = start + len;
    return 0;
}

int boot_load_start32(struct boot_load *load, uint64_t entry, uint32_t eax, gpa_t ebx,
                      struct boot_state *out)
{
    const uint64_t gdt[4] = {0, 0, CODE_DESCRIPTOR, DATA_DESCRIPTOR};
    gpa_t at;
    int r;

    if (entry > UINT32_MAX)
        return boot_load_refuse(load, "its entry is not below 4 GiB");
    r = boot_load_put(load, gdt, sizeof gdt, 8, &at);
    if (r < 0)
        return r;
    *out = (struct boot_state){
        .rip = entry,
        .rax = eax,
        .rbx = ebx,
        .gdt = at,
        .gdt_limit = sizeof gdt - 1,
        .kernel = load->extent,
        .initrd = load->module_count ? load->modules[0].at : (struct boot_range){0, 0},
    };
    return 0;
}
