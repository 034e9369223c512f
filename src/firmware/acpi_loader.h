/* acpi_loader.h - ACPI tables for firmware that places them itself: as fw_cfg files, and a list of
 * commands that says what to do with them (the "table loader" of QEMU's machines, as SeaBIOS's
 * src/fw/romfile_loader.h describes it).
 *
 *   etc/acpi/rsdp, etc/acpi/tables, etc/acpi/facs   the parts of firmware/acpi_tables.h
 *   etc/table-loader                                allocate them, add addresses, sum up
 *
 * By the main thread, before the machine runs. */
#ifndef DOBLE_FIRMWARE_ACPI_LOADER_H
#define DOBLE_FIRMWARE_ACPI_LOADER_H

#include "dev/fw_cfg.h"
#include "firmware/acpi_tables.h"

/* `tables` are as acpi_tables_make() left them. False: fw_cfg has no room. */
bool acpi_loader_publish(const struct acpi_tables *tables, struct fw_cfg *fw) MUST_USE;

#endif
