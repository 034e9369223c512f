/* smbios.h - a description of the machine for people and inventories (DMTF DSP0134, System
 * Management BIOS 2.8): system, board's chassis, processors, memory.
 *
 *   anchor   31 bytes: "_SM_", where the structures are and how many
 *   table    the structures, each followed by its strings
 *
 * Firmware gets both as fw_cfg files, and adds what it knows of itself (type 0). By the main
 * thread, before the machine runs. */
#ifndef DOBLE_FIRMWARE_SMBIOS_H
#define DOBLE_FIRMWARE_SMBIOS_H

#include "base/err.h"
#include "base/types.h"
#include "mem/memory.h"

#define SMBIOS_ANCHOR_SIZE 31u
#define SMBIOS_TABLE_MAX 8192u

struct smbios_config {
    unsigned cpus;
    const char *cpu;                      /* name of the processor */
    uint32_t cpu_signature, cpu_features; /* EAX and EDX of CPUID leaf 1 */
    uint32_t cpu_mhz;
    uint64_t low_ram, high_ram; /* bytes from 0 and from 4 GiB */
};

struct smbios {
    uint8_t anchor[SMBIOS_ANCHOR_SIZE];
    uint8_t table[SMBIOS_TABLE_MAX];
    uint32_t table_size;
};

/* Makes both; the table's address is still 0. False: too many processors. */
bool smbios_make(struct smbios *smbios, const struct smbios_config *config) MUST_USE;

/* Writes them into the guest: the anchor to `gpa` (F0000h to FFFE0h, a multiple of 16), the table
 * behind it. */
int smbios_place(struct smbios *smbios, struct memory *mem, gpa_t gpa, struct err *err) MUST_USE;

#endif
