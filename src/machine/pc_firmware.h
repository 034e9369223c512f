/* pc_firmware.h - the machine as firmware finds it: what it is told through fw_cfg and CMOS, and
 * the tables that it passes on. Main thread. */
#ifndef DOBLE_MACHINE_PC_FIRMWARE_H
#define DOBLE_MACHINE_PC_FIRMWARE_H

#include "firmware/acpi_tables.h"
#include "firmware/smbios.h"
#include "machine/pc.h"

/* Where firmware begins to place base registers; they end at PC_PCI_WINDOW_END. */
uint32_t pc_pci_window(const struct pc *pc);

/* The tables of this machine, for whoever places them. */
int pc_make_acpi(struct pc *pc, struct acpi_tables *tables, struct err *err) MUST_USE;
bool pc_make_smbios(struct pc *pc, struct smbios *smbios) MUST_USE;

/* Tells the firmware about the machine. Once, after everything else was added to it. */
int pc_describe_to_firmware(struct pc *pc, struct err *err) MUST_USE;

#endif
