#include "machine/pc_firmware.h"

#include "firmware/acpi_loader.h"

#include <errno.h>

uint32_t pc_pci_window(const struct pc *pc)
{
    return memory_low_size(&pc->mem) <= 2 * GIB ? 0x80000000 : MEMORY_HOLE_START;
}

int pc_make_acpi(struct pc *pc, struct acpi_tables *tables, struct err *err)
{
    const struct acpi_config config = {
        .cpus = 1,
        .lapic = LAPIC_DEFAULT_BASE,
        .ioapic = IOAPIC_BASE,
        .ioapic_id = pc->ioapic.id,
        .hpet = HPET_BASE,
        .hpet_id = HPET_ID,
        .pm_base = PC_PM_BASE,
        .sci = PC_SCI,
        .pci_window = pc_pci_window(pc),
        .vga = pc->config.vga,
    };

    return acpi_tables_make(tables, &config, err);
}

bool pc_make_smbios(struct pc *pc, struct smbios *smbios)
{
    uint32_t leaf[4];
    struct smbios_config config = {
        .cpus = 1,
        .cpu = cpu_model_brand(pc->model),
        .cpu_mhz = (uint32_t)(pc->clock.tsc_khz / 1000),
        .low_ram = memory_low_size(&pc->mem),
        .high_ram = memory_high_size(&pc->mem),
    };

    cpu_model_cpuid(pc->cpu, 1, 0, leaf);
    config.cpu_signature = leaf[REG_EAX];
    config.cpu_features = leaf[REG_EDX];
    return smbios_make(smbios, &config);
}

/* The order of boot devices as the BIOS keeps it in CMOS: a digit each, the first one lowest. */
static void set_boot_order(struct pc *pc)
{
    unsigned order = 0;

    for (unsigned i = 0; i < PC_BOOT_DEVICES; i++)
        order |= (unsigned)pc->config.boot[i] << 4 * i;
    mc146818_set_boot_order(&pc->rtc, order);
}

int pc_describe_to_firmware(struct pc *pc, struct err *err)
{
    struct fw_cfg *fw = &pc->fw_cfg;
    struct acpi_tables tables;
    struct smbios smbios;
    int rc = pc_make_acpi(pc, &tables, err);

    if (rc < 0)
        return rc;
    set_boot_order(pc);
    if (acpi_loader_publish(&tables, fw) && pc_make_smbios(pc, &smbios) &&
        fw_cfg_set_file(fw, "etc/smbios/smbios-anchor", smbios.anchor, sizeof smbios.anchor) &&
        fw_cfg_set_file(fw, "etc/smbios/smbios-tables", smbios.table, smbios.table_size))
        return 0;
    return err_set(err, -ENOMEM, "not enough memory to describe the machine to its firmware");
}
