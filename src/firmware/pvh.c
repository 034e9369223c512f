/* pvh.c - see pvh.h. */
#include "firmware/pvh.h"

#include <string.h>

#define START_MAGIC 0x336ec578u
#define START_VERSION 1 /* with the memory map */

struct start_info {
    uint32_t magic, version, flags, module_count;
    uint64_t modules, cmdline, rsdp, memory_map;
    uint32_t memory_map_entries, reserved;
};
_Static_assert(sizeof(struct start_info) == 56, "hvm_start_info, version 1");

struct module {
    uint64_t base, size, cmdline, reserved;
};
_Static_assert(sizeof(struct module) == 32, "hvm_modlist_entry");

struct map_entry {
    uint64_t base, size;
    uint32_t type, reserved; /* types are those of E820 */
};
_Static_assert(sizeof(struct map_entry) == 24, "hvm_memmap_table_entry");

static int put_modules(struct boot_load *load, struct start_info *info)
{
    struct module list[BOOT_LOAD_MODULES] = {0};

    info->module_count = load->module_count;
    if (load->module_count == 0)
        return 0;
    for (unsigned i = 0; i < load->module_count; i++) {
        const struct boot_module *module = &load->modules[i];

        list[i] = (struct module){module->at.base, module->at.size, module->string, 0};
    }
    return boot_load_put(load, list, load->module_count * sizeof list[0], 8, &info->modules);
}

static int put_memory_map(struct boot_load *load, struct start_info *info)
{
    const struct e820_map *map = load->config->e820;
    struct map_entry entries[E820_MAX_ENTRIES] = {0};

    for (unsigned i = 0; i < map->count; i++)
        entries[i] =
            (struct map_entry){map->entries[i].base, map->entries[i].size, map->entries[i].type, 0};
    info->memory_map_entries = map->count;
    return boot_load_put(load, entries, map->count * sizeof entries[0], 8, &info->memory_map);
}

int pvh_load(struct boot_load *load, const struct elf_image *elf, struct boot_state *out)
{
    struct start_info info = {START_MAGIC, START_VERSION, .rsdp = load->config->rsdp};
    const char *arguments = boot_load_arguments(load);
    gpa_t at, entry;
    int r;

    if (!elf->has_pvh)
        return boot_load_refuse(load, "it has no PVH entry (the note XEN_ELFNOTE_PHYS32_ENTRY)");
    if ((r = elf_load(load, elf)) < 0 || (r = elf_entry(load, elf, elf->pvh_entry, &entry)) < 0 ||
        (r = boot_load_modules(load)) < 0 || (r = boot_load_info(load)) < 0 ||
        (r = put_modules(load, &info)) < 0 || (r = put_memory_map(load, &info)) < 0 ||
        (r = boot_load_put(load, arguments, strlen(arguments) + 1, 1, &info.cmdline)) < 0 ||
        (r = boot_load_put(load, &info, sizeof info, 8, &at)) < 0)
        return r;
    return boot_load_start32(load, entry, 0, at, out);
}
