/* acpi_tables.h - the ACPI tables of the machine (ACPI specification 6.4, chapter 5).
 *
 *   rsdp (E0000h-FFFFFh)  RSDP --> RSDT, XSDT --> FADT --> FACS, DSDT
 *                                             --> MADT
 *                                             --> HPET
 *                                             --> SSDT: numbers that the DSDT uses
 *   tables (reclaimable)  everything but the RSDP and the FACS
 *   nvs (non-volatile)    FACS
 *
 * Written into guest memory by the main thread before the machine runs, and again after a reset. */
#ifndef DOBLE_FIRMWARE_ACPI_TABLES_H
#define DOBLE_FIRMWARE_ACPI_TABLES_H

#include "base/err.h"
#include "mem/memory.h"

#define ACPI_RSDP_ADDRESS UINT64_C(0xf0000) /* a place for the RSDP */

struct acpi_config {
    unsigned cpus; /* APIC IDs are 0 to cpus - 1 */
    gpa_t rsdp;    /* 16-byte aligned, E0000h to FFFE0h */
    gpa_t tables;  /* start and size of the ACPI region below 4 GiB */
    uint64_t tables_size;
    gpa_t nvs; /* 64-byte aligned, below 4 GiB */
    gpa_t lapic, ioapic, hpet;
    uint8_t ioapic_id;
    uint32_t hpet_id;    /* bits 31:0 of the HPET's capabilities register */
    uint16_t pm_base;    /* of dev/acpi_pm.h */
    uint8_t sci;         /* interrupt: a level, active high */
    uint32_t pci_window; /* where PCI base registers can begin; the end is the IOAPIC */
    bool vga;            /* VGA registers and frame buffer are there */
};

/* Builds all tables. Only errors of the caller's addresses are possible. */
int acpi_tables_build(struct memory *mem, const struct acpi_config *config, struct err *err);

#endif
