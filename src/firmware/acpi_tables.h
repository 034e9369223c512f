/* acpi_tables.h - the ACPI tables of the machine (ACPI specification 6.4, chapter 5).
 *
 *   rsdp (E0000h-FFFFFh)  RSDP --> RSDT, XSDT --> FADT --> FACS, DSDT
 *                                             --> MADT
 *                                             --> HPET
 *                                             --> SSDT: numbers that the DSDT uses
 *   tables (reclaimable)  everything but the RSDP and the FACS (which is non-volatile)
 *
 * They are made in three parts that can be anywhere: RSDP, tables, FACS. What depends on where is
 * noted: addresses, which are offsets at first, and checksums. So the main thread places them
 * before a machine without firmware runs (acpi_tables_place()), and firmware does the same from
 * notes that it gets (firmware/acpi_loader.h). */
#ifndef DOBLE_FIRMWARE_ACPI_TABLES_H
#define DOBLE_FIRMWARE_ACPI_TABLES_H

#include "base/err.h"
#include "mem/memory.h"

#define ACPI_RSDP_ADDRESS UINT64_C(0xf0000) /* a place for the RSDP */

struct acpi_config {
    unsigned cpus; /* APIC IDs are 0 to cpus - 1 */
    gpa_t lapic, ioapic, hpet;
    uint8_t ioapic_id;
    uint32_t hpet_id;    /* bits 31:0 of the HPET's capabilities register */
    uint16_t pm_base;    /* of dev/acpi_pm.h */
    uint8_t sci;         /* interrupt: a level, active high */
    uint32_t pci_window; /* where PCI base registers can begin; the end is the IOAPIC */
    bool vga;            /* VGA registers and frame buffer are there */
};

enum acpi_part_id { ACPI_RSDP, ACPI_TABLES, ACPI_FACS, ACPI_PARTS };

#define ACPI_TABLE_MAX 8192u
#define ACPI_PART_MAX 16384u
#define ACPI_POINTERS_MAX 32
#define ACPI_CHECKSUMS_MAX 16

struct acpi_part {
    uint32_t size;
    uint8_t bytes[ACPI_PART_MAX];
};

/* At `offset` of `part` are `size` bytes to which the base of `to` is to be added. */
struct acpi_pointer {
    enum acpi_part_id part, to;
    uint32_t offset;
    uint8_t size;
};

/* The byte at `offset` of `part` makes the sum of [start, start + size) zero. */
struct acpi_checksum {
    enum acpi_part_id part;
    uint32_t offset, start, size;
};

struct acpi_tables {
    struct acpi_part parts[ACPI_PARTS];
    unsigned pointer_count, checksum_count;
    struct acpi_pointer pointers[ACPI_POINTERS_MAX];
    struct acpi_checksum checksums[ACPI_CHECKSUMS_MAX]; /* after the pointers, in their order */
};

struct acpi_places {
    gpa_t rsdp;   /* 16-byte aligned, E0000h to FFFE0h */
    gpa_t tables; /* start and size of the ACPI region below 4 GiB, 16-byte aligned */
    uint64_t tables_size;
    gpa_t facs; /* non-volatile: 64-byte aligned, below 4 GiB */
};

/* Makes all tables, whose checksums are still zero. */
int acpi_tables_make(struct acpi_tables *tables, const struct acpi_config *config,
                     struct err *err) MUST_USE;

/* Writes them to their places. Once: addresses are no offsets any more then. Only errors of the
 * caller's addresses are possible. */
int acpi_tables_place(struct acpi_tables *tables, struct memory *mem,
                      const struct acpi_places *places, struct err *err) MUST_USE;

#endif
