/* multiboot2.c - see multiboot2.h. */
#include "firmware/multiboot2.h"

#include "firmware/elf_load.h"
#include "firmware/flat_load.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HEADER_MAGIC 0xe85250d6u
#define ENTRY_MAGIC 0x36d76289u
#define ARCHITECTURE_I386 0u
#define HEADER_MAX MULTIBOOT2_SEARCH
#define TAG_ALIGN 8u

enum header_tag {
    HEADER_END,
    HEADER_INFORMATION,
    HEADER_ADDRESS,
    HEADER_ENTRY,
    HEADER_CONSOLE,
    HEADER_FRAMEBUFFER,
    HEADER_MODULE_ALIGN,
    HEADER_EFI_BOOT_SERVICES,
    HEADER_EFI_ENTRY_I386,
    HEADER_EFI_ENTRY_AMD64,
    HEADER_RELOCATABLE,
};
#define HEADER_OPTIONAL 1u
#define CONSOLE_REQUIRED 1u

enum info_tag {
    INFO_END,
    INFO_CMDLINE,
    INFO_LOADER_NAME,
    INFO_MODULE,
    INFO_MEMORY,
    INFO_MAP = 6,
    INFO_FRAMEBUFFER = 8,
    INFO_RSDP_OLD = 14,
    INFO_RSDP_NEW = 15,
    INFO_LOAD_BASE = 21,
};

#define RSDP_OLD_SIZE 20
#define RSDP_NEW_SIZE 36
#define LOWER_MAX UINT64_C(0xa0000)

struct header {
    uint32_t magic, architecture, length, checksum;
};

struct tag_header {
    uint16_t type, flags;
    uint32_t size;
};

struct address_tag {
    uint32_t header_addr, load_addr, load_end_addr, bss_end_addr;
};

/* What the header says. */
struct wishes {
    bool has_address, has_entry, relocatable;
    struct address_tag address;
    uint32_t entry;
    uint32_t min_addr, max_addr; /* relocatable: the kernel lies between them */
};

/* The list of tags that is being made. `room` was asked for; `full` if it wasn't enough. */
struct tags {
    uint8_t *bytes;
    uint32_t used, room;
    bool full;
};

int64_t multiboot2_find(const uint8_t *start, size_t len)
{
    struct header header;

    if (len > MULTIBOOT2_SEARCH)
        len = MULTIBOOT2_SEARCH;
    for (size_t at = 0; at + sizeof header <= len; at += TAG_ALIGN) {
        memcpy(&header, start + at, sizeof header);
        if (header.magic == HEADER_MAGIC &&
            header.magic + header.architecture + header.length + header.checksum == 0)
            return (int64_t)at;
    }
    return -1;
}

/* --- the header's tags --- */

static int refuse_tag(const struct boot_load *load, unsigned type, const char *reason)
{
    return err_set(load->err, -ENOEXEC,
                   "the kernel '%s' cannot be started: the tag of type %u in its Multiboot2 header "
                   "%s",
                   load->config->kernel, type, reason);
}

static bool is_given(const struct boot_load *load, uint32_t type, bool relocatable)
{
    switch (type) {
    case INFO_CMDLINE:
    case INFO_LOADER_NAME:
    case INFO_MODULE:
    case INFO_MEMORY:
    case INFO_MAP: return true;
    case INFO_FRAMEBUFFER: return load->config->vga;
    case INFO_RSDP_OLD:
    case INFO_RSDP_NEW: return load->config->rsdp != 0;
    case INFO_LOAD_BASE: return relocatable;
    default: return false;
    }
}

static int check_requests(const struct boot_load *load, const uint8_t *body, uint32_t size)
{
    uint32_t type;

    for (uint32_t at = 0; at + sizeof type <= size; at += sizeof type) {
        memcpy(&type, body + at, sizeof type);
        if (!is_given(load, type, true))
            return err_set(load->err, -ENOEXEC,
                           "the kernel '%s' cannot be started: it wants Multiboot2 information of "
                           "type %u, which is not available",
                           load->config->kernel, type);
    }
    return 0;
}

/* Copies the body of a tag, which has at least `need` bytes if it isn't damaged. */
static int take_body(const struct boot_load *load, unsigned type, const uint8_t *body,
                     uint32_t size, void *to, uint32_t need)
{
    if (size < need)
        return refuse_tag(load, type, "is too short");
    memcpy(to, body, need);
    return 0;
}

static int take_relocatable(const struct boot_load *load, struct wishes *wishes,
                            const uint8_t *body, uint32_t size)
{
    uint32_t words[4] = {0}; /* lowest and highest address, alignment, preference */
    int r = take_body(load, HEADER_RELOCATABLE, body, size, words, sizeof words);

    wishes->relocatable = true;
    wishes->min_addr = words[0];
    wishes->max_addr = words[1];
    return r;
}

static int take_console(const struct boot_load *load, const uint8_t *body, uint32_t size)
{
    uint32_t flags = 0;
    int r = take_body(load, HEADER_CONSOLE, body, size, &flags, sizeof flags);

    if (r == 0 && (flags & CONSOLE_REQUIRED) && !load->config->vga)
        return refuse_tag(load, HEADER_CONSOLE, "needs a screen, and this machine has none");
    return r;
}

static int take_tag(const struct boot_load *load, struct wishes *wishes,
                    const struct tag_header *tag, const uint8_t *body)
{
    uint32_t size = tag->size - (uint32_t)sizeof *tag;
    bool optional = tag->flags & HEADER_OPTIONAL;

    switch (tag->type) {
    case HEADER_INFORMATION: return optional ? 0 : check_requests(load, body, size);
    case HEADER_ADDRESS:
        wishes->has_address = true;
        return take_body(load, tag->type, body, size, &wishes->address, sizeof wishes->address);
    case HEADER_ENTRY:
        wishes->has_entry = true;
        return take_body(load, tag->type, body, size, &wishes->entry, sizeof wishes->entry);
    case HEADER_CONSOLE: return optional ? 0 : take_console(load, body, size);
    case HEADER_FRAMEBUFFER:
        return optional || load->config->vga
                   ? 0
                   : refuse_tag(load, tag->type, "needs a screen, and this machine has none");
    case HEADER_MODULE_ALIGN:      /* modules always begin on a page */
    case HEADER_EFI_BOOT_SERVICES: /* these three say what an EFI machine may do, */
    case HEADER_EFI_ENTRY_I386:    /* which this one is not */
    case HEADER_EFI_ENTRY_AMD64: return 0;
    case HEADER_RELOCATABLE: return take_relocatable(load, wishes, body, size);
    default: return optional ? 0 : refuse_tag(load, tag->type, "is not known");
    }
}

/* `bytes` is the whole header. Every tag has at least 8 bytes, so the walk ends. */
static int walk_tags(const struct boot_load *load, struct wishes *wishes, const uint8_t *bytes,
                     uint32_t length)
{
    struct tag_header tag;
    uint32_t at = sizeof(struct header);

    while (at + sizeof tag <= length) {
        int r;

        memcpy(&tag, bytes + at, sizeof tag);
        if (tag.size < sizeof tag || tag.size > length - at)
            return refuse_tag(load, tag.type, "has a size that is not possible");
        if (tag.type == HEADER_END)
            return 0;
        r = take_tag(load, wishes, &tag, bytes + at + sizeof tag);
        if (r < 0)
            return r;
        at += (tag.size + TAG_ALIGN - 1) & ~(TAG_ALIGN - 1);
    }
    return boot_load_refuse(load, "its Multiboot2 header has no end tag");
}

static int read_wishes(const struct boot_load *load, uint64_t offset, struct wishes *wishes)
{
    struct header header = {0};
    uint8_t bytes[HEADER_MAX];
    int r = input_read(&load->kernel, offset, &header, sizeof header, load->err);

    memset(wishes, 0, sizeof *wishes);
    if (r < 0)
        return r;
    if (header.architecture != ARCHITECTURE_I386)
        return boot_load_refuse(load, "its Multiboot2 header is for another kind of processor");
    if (header.length < sizeof header || header.length > HEADER_MAX ||
        header.length > load->kernel.size - offset)
        return boot_load_refuse(load, "its Multiboot2 header has a length that is not possible");
    r = input_read(&load->kernel, offset, bytes, header.length, load->err);
    return r < 0 ? r : walk_tags(load, wishes, bytes, header.length);
}

/* --- the kernel --- */

static int load_flat(struct boot_load *load, uint64_t offset, const struct wishes *wishes,
                     gpa_t *entry)
{
    const struct address_tag *a = &wishes->address;

    if (!wishes->has_entry)
        return boot_load_refuse(load, "its Multiboot2 header has addresses, but no entry");
    *entry = wishes->entry;
    return flat_load(load, &(struct flat_image){
                               .header_offset = offset,
                               .header_addr = a->header_addr,
                               /* all ones: from the beginning of the file */
                               .load_addr = a->load_addr != UINT32_MAX
                                                ? a->load_addr
                                                : a->header_addr - (uint32_t)offset,
                               .load_end_addr = a->load_end_addr,
                               .bss_end_addr = a->bss_end_addr,
                               .entry_addr = wishes->entry,
                           });
}

static int load_elf(struct boot_load *load, const struct wishes *wishes, gpa_t *entry)
{
    struct elf_image elf;
    uint8_t magic[4] = {0};
    int r = input_read(&load->kernel, 0, magic, sizeof magic, load->err);

    if (r == 0 && !elf_is_elf(magic, sizeof magic))
        return boot_load_refuse(load, "it has a Multiboot2 header without addresses, and is no "
                                      "ELF file");
    if (r < 0 || (r = elf_read(load, &elf)) < 0 || (r = elf_load(load, &elf)) < 0)
        return r;
    return elf_entry(load, &elf, wishes->has_entry ? wishes->entry : elf.entry, entry);
}

static int load_kernel(struct boot_load *load, uint64_t offset, struct wishes *wishes, gpa_t *entry)
{
    int r = read_wishes(load, offset, wishes);

    if (r == 0)
        r = wishes->has_address ? load_flat(load, offset, wishes, entry)
                                : load_elf(load, wishes, entry);
    if (r == 0 && wishes->relocatable &&
        (load->extent.base < wishes->min_addr ||
         load->extent.base + load->extent.size - 1 > wishes->max_addr))
        return boot_load_refuse(load, "it is linked outside of the addresses that its Multiboot2 "
                                      "header allows");
    return r;
}

/* --- what it is told --- */

/* Room for a tag with `size` bytes behind its header, zeroed and without the padding that follows.
 * NULL: there is none. */
static uint8_t *add_tag(struct tags *tags, uint32_t type, uint64_t size)
{
    uint64_t whole = size + 8, padded = (whole + TAG_ALIGN - 1) & ~(uint64_t)(TAG_ALIGN - 1);
    uint8_t *at = tags->bytes + tags->used;
    const uint32_t header[2] = {type, (uint32_t)whole};

    if (padded > tags->room - tags->used) {
        tags->full = true;
        return NULL;
    }
    memset(at, 0, padded);
    memcpy(at, header, sizeof header);
    tags->used += (uint32_t)padded;
    return at + sizeof header;
}

static void add_bytes(struct tags *tags, uint32_t type, const void *bytes, uint64_t size)
{
    uint8_t *body = add_tag(tags, type, size);

    if (body)
        memcpy(body, bytes, size);
}

static void add_modules(struct tags *tags, const struct boot_load *load)
{
    for (unsigned i = 0; i < load->module_count; i++) {
        const struct boot_module *module = &load->modules[i];
        const uint32_t ends[2] = {(uint32_t)module->at.base,
                                  (uint32_t)(module->at.base + module->at.size)};
        size_t length = strlen(module->text) + 1;
        uint8_t *body = add_tag(tags, INFO_MODULE, sizeof ends + length);

        if (!body)
            return;
        memcpy(body, ends, sizeof ends);
        memcpy(body + sizeof ends, module->text, length);
    }
}

static void add_memory(struct tags *tags, const struct e820_map *map)
{
    struct {
        uint64_t base, size;
        uint32_t type, reserved;
    } entry = {0};
    const uint32_t layout[2] = {sizeof entry, 0}; /* size and version of an entry */
    uint32_t kib[2] = {0};                        /* from 0 and from 1 MiB on */
    uint8_t *body = add_tag(tags, INFO_MAP, sizeof layout + map->count * sizeof entry);

    if (!body)
        return;
    memcpy(body, layout, sizeof layout);
    for (unsigned i = 0; i < map->count; i++) {
        entry.base = map->entries[i].base;
        entry.size = map->entries[i].size;
        entry.type = map->entries[i].type;
        memcpy(body + sizeof layout + i * sizeof entry, &entry, sizeof entry);
        if (entry.type == E820_RAM && entry.base == 0)
            kib[0] = (uint32_t)((entry.size < LOWER_MAX ? entry.size : LOWER_MAX) / KIB);
        if (entry.type == E820_RAM && entry.base == MIB)
            kib[1] = (uint32_t)(entry.size / KIB);
    }
    add_bytes(tags, INFO_MEMORY, kib, sizeof kib);
}

static void add_acpi(struct tags *tags, const struct boot_load *load)
{
    uint8_t rsdp[RSDP_NEW_SIZE];

    if (load->config->rsdp == 0 || !memory_read(load->mem, load->config->rsdp, rsdp, sizeof rsdp))
        return;
    add_bytes(tags, INFO_RSDP_OLD, rsdp, RSDP_OLD_SIZE);
    add_bytes(tags, INFO_RSDP_NEW, rsdp, RSDP_NEW_SIZE);
}

static void add_screen(struct tags *tags)
{
    const struct {
        uint64_t address;
        uint32_t pitch, width, height; /* bytes, characters */
        uint8_t bits, type, reserved[2];
    } text_mode = {0xb8000, 160, 80, 25, 16, 2, {0}};

    add_bytes(tags, INFO_FRAMEBUFFER, &text_mode, sizeof text_mode);
}

/* The list begins with its size and a reserved word. */
static int put_tags(struct boot_load *load, const struct wishes *wishes, struct tags *tags,
                    gpa_t *at)
{
    static const char name[] = BOOT_LOADER_NAME;
    const uint32_t base = (uint32_t)load->extent.base;

    tags->used = 8;
    add_bytes(tags, INFO_CMDLINE, load->cmdline, strlen(load->cmdline) + 1);
    add_bytes(tags, INFO_LOADER_NAME, name, sizeof name);
    add_modules(tags, load);
    add_memory(tags, load->config->e820);
    add_acpi(tags, load);
    if (load->config->vga)
        add_screen(tags);
    if (wishes->relocatable)
        add_bytes(tags, INFO_LOAD_BASE, &base, sizeof base);
    add_tag(tags, INFO_END, 0);
    if (tags->full)
        return boot_load_refuse(load, "its tables need more room than there is");
    memcpy(tags->bytes, (const uint32_t[2]){tags->used, 0}, 8);
    return boot_load_put(load, tags->bytes, tags->used, TAG_ALIGN, at);
}

int multiboot2_load(struct boot_load *load, uint64_t header_offset, struct boot_state *out)
{
    struct tags tags = {0};
    struct wishes wishes;
    gpa_t entry = 0, at = 0;
    int r;

    if ((r = load_kernel(load, header_offset, &wishes, &entry)) < 0 ||
        (r = boot_load_modules(load)) < 0 || (r = boot_load_info(load)) < 0)
        return r;
    tags.room = (uint32_t)load->info.size;
    tags.bytes = calloc(1, tags.room);
    if (!tags.bytes)
        return err_set(load->err, -ENOMEM, "not enough memory for the kernel's tables");
    r = put_tags(load, &wishes, &tags, &at);
    free(tags.bytes);
    return r < 0 ? r : boot_load_start32(load, entry, ENTRY_MAGIC, at, out);
}
