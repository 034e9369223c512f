/* multiboot1.c - see multiboot1.h. */
#include "firmware/multiboot1.h"

#include "firmware/elf_load.h"
#include "firmware/flat_load.h"

#include <string.h>

#define HEADER_MAGIC 0x1badb002u
#define ENTRY_MAGIC 0x2badb002u

/* flags of the header; bits 15:0 that a loader doesn't know forbid it to go on */
#define HEADER_PAGE_ALIGN 0x1u
#define HEADER_MEMORY 0x2u
#define HEADER_VIDEO 0x4u
#define HEADER_MUST 0xffffu
#define HEADER_ADDRESSES 0x10000u

/* flags of the information */
#define INFO_MEMORY 0x1u
#define INFO_CMDLINE 0x4u
#define INFO_MODULES 0x8u
#define INFO_MAP 0x40u
#define INFO_LOADER_NAME 0x200u
#define INFO_FRAMEBUFFER 0x1000u

#define FRAMEBUFFER_TEXT 2
#define LOWER_MAX UINT64_C(0xa0000)

struct header {
    uint32_t magic, flags, checksum;
    uint32_t header_addr, load_addr, load_end_addr, bss_end_addr, entry_addr;
};

struct info {
    uint32_t flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr;
    uint32_t syms[4], mmap_length, mmap_addr, drives_length, drives_addr, config_table;
    uint32_t boot_loader_name, apm_table, vbe[4];
    uint32_t framebuffer_addr[2];
    uint32_t framebuffer_pitch, framebuffer_width, framebuffer_height;
    uint8_t framebuffer_bpp, framebuffer_type, color_info[6];
};
_Static_assert(offsetof(struct info, mmap_length) == 44, "Multiboot 0.6.96, 3.3");
_Static_assert(offsetof(struct info, boot_loader_name) == 64, "Multiboot 0.6.96, 3.3");
_Static_assert(offsetof(struct info, framebuffer_addr) == 88, "Multiboot 0.6.96, 3.3");
_Static_assert(sizeof(struct info) == 116, "Multiboot 0.6.96, 3.3");

struct module {
    uint32_t start, end, string, reserved;
};

struct map_entry {
    uint32_t size; /* of what follows */
    struct e820_entry entry;
} __attribute__((packed));
_Static_assert(sizeof(struct map_entry) == 24, "Multiboot 0.6.96, 3.3");

int64_t multiboot1_find(const uint8_t *start, size_t len)
{
    uint32_t words[3];

    if (len > MULTIBOOT1_SEARCH)
        len = MULTIBOOT1_SEARCH;
    for (size_t at = 0; at + sizeof words <= len; at += 4) {
        memcpy(words, start + at, sizeof words);
        if (words[0] == HEADER_MAGIC && words[0] + words[1] + words[2] == 0)
            return (int64_t)at;
    }
    return -1;
}

/* --- the kernel --- */

static int read_header(struct boot_load *load, uint64_t offset, struct header *header)
{
    uint64_t size = offsetof(struct header, header_addr);
    int r;

    *header = (struct header){0};
    r = input_read(&load->kernel, offset, header, size, load->err);
    if (r < 0 || !(header->flags & HEADER_ADDRESSES))
        return r;
    if (load->kernel.size - offset < sizeof *header)
        return boot_load_refuse(load, "it is truncated: it ends within its Multiboot header");
    return input_read(&load->kernel, offset, header, sizeof *header, load->err);
}

static int load_elf(struct boot_load *load, gpa_t *entry)
{
    struct elf_image elf;
    uint8_t magic[4] = {0};
    int r = input_read(&load->kernel, 0, magic, sizeof magic, load->err);

    if (r == 0 && !elf_is_elf(magic, sizeof magic))
        return boot_load_refuse(load, "it has a Multiboot header without addresses, and is no ELF "
                                      "file");
    if (r < 0 || (r = elf_read(load, &elf)) < 0 || (r = elf_load(load, &elf)) < 0)
        return r;
    return elf_entry(load, &elf, elf.entry, entry);
}

static int load_kernel(struct boot_load *load, uint64_t offset, gpa_t *entry)
{
    const uint32_t known = HEADER_PAGE_ALIGN | HEADER_MEMORY | HEADER_VIDEO;
    struct header header;
    int r = read_header(load, offset, &header);

    if (r < 0)
        return r;
    if (header.flags & HEADER_MUST & ~known)
        return boot_load_refuse(load, "its Multiboot header wants something that is not known");
    if (!(header.flags & HEADER_ADDRESSES))
        return load_elf(load, entry);
    *entry = header.entry_addr;
    return flat_load(load, &(struct flat_image){offset, header.header_addr, header.load_addr,
                                                header.load_end_addr, header.bss_end_addr,
                                                header.entry_addr});
}

/* --- what it is told --- */

static int put32(struct boot_load *load, const void *bytes, uint64_t len, uint32_t *at)
{
    gpa_t gpa = 0;
    int r = boot_load_put(load, bytes, len, 4, &gpa);

    *at = (uint32_t)gpa; /* the block is below 4 GiB */
    return r;
}

static int put_modules(struct boot_load *load, struct info *info)
{
    struct module list[BOOT_LOAD_MODULES] = {0};

    info->flags |= INFO_MODULES;
    info->mods_count = load->module_count;
    if (load->module_count == 0)
        return 0;
    for (unsigned i = 0; i < load->module_count; i++) {
        const struct boot_module *module = &load->modules[i];

        list[i] = (struct module){
            .start = (uint32_t)module->at.base,
            .end = (uint32_t)(module->at.base + module->at.size),
            .string = (uint32_t)module->string,
        };
    }
    return put32(load, list, load->module_count * sizeof list[0], &info->mods_addr);
}

static int put_map(struct boot_load *load, struct info *info)
{
    const struct e820_map *map = load->config->e820;
    struct map_entry entries[E820_MAX_ENTRIES];

    for (unsigned i = 0; i < map->count; i++)
        entries[i] = (struct map_entry){sizeof map->entries[i], map->entries[i]};
    info->flags |= INFO_MAP;
    info->mmap_length = (uint32_t)(map->count * sizeof entries[0]);
    return put32(load, entries, info->mmap_length, &info->mmap_addr);
}

/* KiB of RAM from 0 and from 1 MiB on, up to the first hole. */
static void describe_memory(const struct e820_map *map, struct info *info)
{
    for (unsigned i = 0; i < map->count; i++) {
        const struct e820_entry *entry = &map->entries[i];

        if (entry->type == E820_RAM && entry->base == 0)
            info->mem_lower = (uint32_t)((entry->size < LOWER_MAX ? entry->size : LOWER_MAX) / KIB);
        if (entry->type == E820_RAM && entry->base == MIB)
            info->mem_upper = (uint32_t)(entry->size / KIB);
    }
    info->flags |= INFO_MEMORY;
}

static void describe_screen(struct info *info)
{
    info->flags |= INFO_FRAMEBUFFER;
    info->framebuffer_addr[0] = 0xb8000;
    info->framebuffer_pitch = 160; /* bytes */
    info->framebuffer_width = 80;  /* characters */
    info->framebuffer_height = 25;
    info->framebuffer_bpp = 16;
    info->framebuffer_type = FRAMEBUFFER_TEXT;
}

int multiboot1_load(struct boot_load *load, uint64_t header_offset, struct boot_state *out)
{
    static const char name[] = BOOT_LOADER_NAME;
    struct info info = {.flags = INFO_CMDLINE | INFO_LOADER_NAME};
    gpa_t entry = 0;
    uint32_t at;
    int r;

    if ((r = load_kernel(load, header_offset, &entry)) < 0 || (r = boot_load_modules(load)) < 0 ||
        (r = boot_load_info(load)) < 0)
        return r;
    describe_memory(load->config->e820, &info);
    if (load->config->vga)
        describe_screen(&info);
    if ((r = put_modules(load, &info)) < 0 || (r = put_map(load, &info)) < 0 ||
        (r = put32(load, load->cmdline, strlen(load->cmdline) + 1, &info.cmdline)) < 0 ||
        (r = put32(load, name, sizeof name, &info.boot_loader_name)) < 0 ||
        (r = put32(load, &info, sizeof info, &at)) < 0)
        return r;
    return boot_load_start32(load, entry, ENTRY_MAGIC, at, out);
}
