/* e820.h - the map of physical memory that firmware gives to an operating system.
 *
 *   0        9FC00      A0000   F0000    100000                          low RAM end      4 GiB
 *   |- RAM ---|- EBDA ---|-.......|- ROM --|- RAM ----|- ACPI tables -|- NVS -|... APICs ...|- RAM
 * -
 *
 * Types and layout are those of INT 15h, AX=E820h (ACPI specification 6.4, section 15.1). Entries
 * are sorted and don't overlap. Built before the machine runs, by the main thread. */
#ifndef DOBLE_FIRMWARE_E820_H
#define DOBLE_FIRMWARE_E820_H

#include "base/err.h"
#include "base/types.h"

#define E820_MAX_ENTRIES 128 /* as many as Linux's boot_params hold */

enum e820_type { E820_RAM = 1, E820_RESERVED = 2, E820_ACPI = 3, E820_NVS = 4 };

struct e820_entry {
    uint64_t base, size;
    uint32_t type;
} __attribute__((packed));
_Static_assert(sizeof(struct e820_entry) == 20, "the size INT 15h gives");

struct e820_map {
    unsigned count;
    struct e820_entry entries[E820_MAX_ENTRIES];
};

#define E820_ACPI_SIZE (64 * KIB) /* room for the ACPI tables */
#define E820_NVS_SIZE (4 * KIB)   /* room for the FACS */

#define E820_EBDA UINT64_C(0x9fc00)
#define E820_BIOS UINT64_C(0xf0000)

/* The map of a PC with `low` bytes of RAM below 4 GiB and `high` bytes from there. Low RAM must
 * have room for the ACPI regions above 1 MiB. */
int e820_build(struct e820_map *map, uint64_t low, uint64_t high, struct err *err);

/* Adds a range behind those that are there. False: the table is full. */
bool e820_add(struct e820_map *map, uint64_t base, uint64_t size, enum e820_type type) MUST_USE;

/* The first entry of that type at or above `from`, or NULL. */
const struct e820_entry *e820_find(const struct e820_map *map, enum e820_type type, uint64_t from);

/* Whether [base, base + size) is RAM, within one entry. */
bool e820_is_ram(const struct e820_map *map, uint64_t base, uint64_t size);

#endif
