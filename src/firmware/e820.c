/* e820.c - see e820.h. */
#include "firmware/e820.h"

#include "mem/memory.h"

#include <errno.h>

bool e820_add(struct e820_map *map, uint64_t base, uint64_t size, enum e820_type type)
{
    if (map->count == E820_MAX_ENTRIES)
        return false;
    map->entries[map->count++] = (struct e820_entry){base, size, type};
    return true;
}

int e820_build(struct e820_map *map, uint64_t low, uint64_t high, struct err *err)
{
    const uint64_t firmware = E820_ACPI_SIZE + E820_NVS_SIZE;
    uint64_t ram_end = (low & PAGE_MASK) - firmware;
    bool ok;

    map->count = 0;
    if (low < MIB + firmware + PAGE_SIZE)
        return err_set(err, -EINVAL,
                       "the guest has %llu KiB of memory; at least 2 MiB are needed for the "
                       "tables alone",
                       (unsigned long long)(low / KIB));
    ok = e820_add(map, 0, E820_EBDA, E820_RAM) &&
         e820_add(map, E820_EBDA, 0xa0000 - E820_EBDA, E820_RESERVED) &&
         e820_add(map, E820_BIOS, MIB - E820_BIOS, E820_RESERVED) &&
         e820_add(map, MIB, ram_end - MIB, E820_RAM) &&
         e820_add(map, ram_end, E820_ACPI_SIZE, E820_ACPI) &&
         e820_add(map, ram_end + E820_ACPI_SIZE, E820_NVS_SIZE, E820_NVS) &&
         e820_add(map, 0xfec00000, 0x1000, E820_RESERVED) && /* IOAPIC */
         e820_add(map, 0xfed00000, 0x1000, E820_RESERVED) && /* HPET */
         e820_add(map, 0xfee00000, 0x1000, E820_RESERVED) && /* local APICs */
         (high == 0 || e820_add(map, MEMORY_HIGH_START, high, E820_RAM));
    return ok ? 0 : err_set(err, -ENOSPC, "the memory map has no room for another entry");
}

const struct e820_entry *e820_find(const struct e820_map *map, enum e820_type type, uint64_t from)
{
    for (unsigned i = 0; i < map->count; i++)
        if (map->entries[i].type == type && map->entries[i].base >= from)
            return &map->entries[i];
    return NULL;
}

bool e820_is_ram(const struct e820_map *map, uint64_t base, uint64_t size)
{
    for (unsigned i = 0; i < map->count; i++) {
        const struct e820_entry *entry = &map->entries[i];

        if (entry->type == E820_RAM && base >= entry->base && size <= entry->size &&
            base - entry->base <= entry->size - size)
            return true;
    }
    return false;
}
