/* acpi_tables.c - see acpi_tables.h.
 *
 * Tables are put together in a buffer byte by byte, because they have no alignment, and copied to
 * the guest when each is complete. The DSDT comes compiled from dsdt.asl. */
#include "firmware/acpi_tables.h"

#include "dev/acpi_pm.h"
#include "dsdt.h"

#include <errno.h>
#include <string.h>

#define TABLE_MAX 8192
#define CPUS_MAX 512u /* their MADT takes about 6 KiB */
#define HEADER_SIZE 36
#define FACS_SIZE 64
#define RSDP_SIZE 36

#define GAS_MEMORY 0
#define GAS_IO 1

/* 20.2.3 and 20.2.5.1 */
#define AML_NAME 0x08
#define AML_DWORD 0x0c

struct table {
    unsigned size;
    uint8_t bytes[TABLE_MAX];
};

/* Where the next table goes, and where they may not go any more. */
struct arena {
    struct memory *mem;
    gpa_t next, end;
};

/* --- putting bytes together --- */

static void put(struct table *table, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes && table->size < TABLE_MAX; i++)
        table->bytes[table->size++] = (uint8_t)(value >> (8 * i));
}

static void put_text(struct table *table, const char *text, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        put(table, *text ? (uint8_t)*text++ : ' ', 1);
}

/* Generic address structure, 5.2.3.2. */
static void put_gas(struct table *table, unsigned space, unsigned bits, uint64_t address)
{
    static const uint8_t access_sizes[5] = {0, 1, 2, 0, 3}; /* by bytes: byte, word, dword */

    put(table, space, 1);
    put(table, bits, 1);
    put(table, 0, 1);
    put(table, bits > 32 ? 0 : access_sizes[bits / 8], 1);
    put(table, address, 8);
}

static uint8_t checksum(const uint8_t *bytes, unsigned size)
{
    uint8_t sum = 0;

    for (unsigned i = 0; i < size; i++)
        sum += bytes[i];
    return (uint8_t)-sum;
}

/* The common header, 5.2.6; length and checksum follow in finish(). */
static void begin(struct table *table, const char *signature, unsigned revision)
{
    table->size = 0;
    put_text(table, signature, 4);
    put(table, 0, 4);
    put(table, revision, 1);
    put(table, 0, 1);
    put_text(table, "DOBLE", 6);
    put_text(table, "DOBLEPC", 8);
    put(table, 1, 4);
    put_text(table, "DBLE", 4);
    put(table, 1, 4);
}

static int place(struct arena *arena, const uint8_t *bytes, unsigned size, gpa_t *gpa,
                 struct err *err)
{
    gpa_t at = (arena->next + 15) & ~UINT64_C(15);

    if (at > arena->end || size > arena->end - at || !memory_write(arena->mem, at, bytes, size))
        return err_set(err, -ENOSPC,
                       "the ACPI tables do not fit into guest memory at %#llx to %#llx",
                       (unsigned long long)arena->next, (unsigned long long)arena->end);
    arena->next = at + size;
    *gpa = at;
    return 0;
}

/* Completes the header and copies the table into the guest; *gpa says where it is. */
static int finish(struct arena *arena, struct table *table, gpa_t *gpa, struct err *err)
{
    for (unsigned i = 0; i < 4; i++)
        table->bytes[4 + i] = (uint8_t)(table->size >> (8 * i));
    table->bytes[9] = checksum(table->bytes, table->size);
    return place(arena, table->bytes, table->size, gpa, err);
}

/* --- the tables --- */

static void fadt_legacy_ports(struct table *table, const struct acpi_config *config)
{
    uint32_t pm = config->pm_base;

    put(table, config->sci, 2);
    put(table, 0, 4); /* SMI_CMD: none, ACPI is always on */
    put(table, 0, 4); /* ACPI_ENABLE, ACPI_DISABLE, S4BIOS_REQ, PSTATE_CNT */
    put(table, pm + ACPI_PM_EVENT, 4);
    put(table, 0, 4); /* PM1b */
    put(table, pm + ACPI_PM_CONTROL, 4);
    put(table, 0, 4); /* PM1b */
    put(table, 0, 4); /* PM2 */
    put(table, pm + ACPI_PM_TIMER, 4);
    put(table, pm + ACPI_PM_GPE0, 4);
    put(table, 0, 4); /* GPE1 */
    put(table, 4, 1); /* lengths: PM1 events, */
    put(table, 2, 1); /* PM1 control, */
    put(table, 0, 1); /* PM2, */
    put(table, 4, 1); /* timer, */
    put(table, 4, 1); /* GPE0 */
    put(table, 0, 3); /* GPE1 length and base, _CST */
}

/* From P_LVL2_LAT to the flags. */
static void fadt_features(struct table *table, const struct acpi_config *config)
{
    /* WBINVD, PROC_C1, SLP_BUTTON (no fixed one), FIX_RTC (no fixed status), TMR_VAL_EXT,
     * RESET_REG_SUP */
    const uint32_t flags = 1u << 0 | 1u << 2 | 1u << 5 | 1u << 6 | 1u << 8 | 1u << 10;

    put(table, 0xfff, 2); /* no C2, */
    put(table, 0xfff, 2); /* no C3 */
    put(table, 0, 4);     /* flush size and stride: WBINVD works */
    put(table, 0, 2);     /* duty cycle */
    put(table, 0, 2);     /* alarm of day and month: none */
    put(table, 0x32, 1);  /* century register of the RTC */
    put(table, 1u << 0 | 1u << 1 | (config->vga ? 0 : 1u << 2),
        2); /* legacy devices, 8042, no VGA */
    put(table, 0, 1);
    put(table, flags, 4);
    put_gas(table, GAS_IO, 8, 0xcf9);
    put(table, 0x06, 1); /* reset value: hard reset */
    put(table, 0, 2);    /* ARM boot flags */
    put(table, 1, 1);    /* minor version */
}

static int build_fadt(struct arena *arena, const struct acpi_config *config, gpa_t dsdt, gpa_t *gpa,
                      struct err *err)
{
    struct table table;
    uint64_t pm = config->pm_base;

    begin(&table, "FACP", 5);
    put(&table, config->nvs, 4);
    put(&table, dsdt, 4);
    put(&table, 0, 1);
    put(&table, 1, 1); /* profile: desktop */
    fadt_legacy_ports(&table, config);
    fadt_features(&table, config);
    put(&table, 0, 8); /* X_FIRMWARE_CTRL: the 32-bit field counts */
    put(&table, dsdt, 8);
    put_gas(&table, GAS_IO, 32, pm + ACPI_PM_EVENT);
    put_gas(&table, GAS_MEMORY, 0, 0);
    put_gas(&table, GAS_IO, 16, pm + ACPI_PM_CONTROL);
    put_gas(&table, GAS_MEMORY, 0, 0);
    put_gas(&table, GAS_MEMORY, 0, 0);
    put_gas(&table, GAS_IO, 32, pm + ACPI_PM_TIMER);
    put_gas(&table, GAS_IO, 32, pm + ACPI_PM_GPE0);
    put_gas(&table, GAS_MEMORY, 0, 0);
    put_gas(&table, GAS_MEMORY, 0, 0); /* sleep control, */
    put_gas(&table, GAS_MEMORY, 0, 0); /* sleep status: of hardware-reduced machines */
    return finish(arena, &table, gpa, err);
}

/* Processor local APIC, or x2APIC for IDs that need more than a byte (5.2.12.2, 5.2.12.12). */
static void madt_processor(struct table *table, unsigned id)
{
    if (id < 255) {
        put(table, 0, 1);
        put(table, 8, 1);
        put(table, id, 1);
        put(table, id, 1);
        put(table, 1, 4); /* enabled */
        return;
    }
    put(table, 9, 1);
    put(table, 16, 1);
    put(table, 0, 2);
    put(table, id, 4);
    put(table, 1, 4);
    put(table, id, 4);
}

/* Interrupt source override, 5.2.12.5. */
static void madt_override(struct table *table, unsigned irq, unsigned gsi, unsigned flags)
{
    put(table, 2, 1);
    put(table, 10, 1);
    put(table, 0, 1); /* ISA */
    put(table, irq, 1);
    put(table, gsi, 4);
    put(table, flags, 2);
}

static int build_madt(struct arena *arena, const struct acpi_config *config, gpa_t *gpa,
                      struct err *err)
{
    struct table table;

    begin(&table, "APIC", 3);
    put(&table, config->lapic, 4);
    put(&table, 1, 4); /* PCAT_COMPAT: 8259s are there */
    for (unsigned i = 0; i < config->cpus; i++)
        madt_processor(&table, i);
    put(&table, 1, 1); /* IOAPIC, 5.2.12.3 */
    put(&table, 12, 1);
    put(&table, config->ioapic_id, 1);
    put(&table, 0, 1);
    put(&table, config->ioapic, 4);
    put(&table, 0, 4); /* its first GSI */
    madt_override(&table, 0, 2, 0);
    madt_override(&table, config->sci, config->sci, 0x0d); /* active high, level */
    put(&table, 4, 1);                                     /* local APIC NMI, 5.2.12.7 */
    put(&table, 6, 1);
    put(&table, 0xff, 1); /* all processors */
    put(&table, 0, 2);
    put(&table, 1, 1); /* LINT1 */
    return finish(arena, &table, gpa, err);
}

static int build_hpet(struct arena *arena, const struct acpi_config *config, gpa_t *gpa,
                      struct err *err)
{
    struct table table;

    begin(&table, "HPET", 1);
    put(&table, config->hpet_id, 4);
    put_gas(&table, GAS_MEMORY, 64, config->hpet);
    put(&table, 0, 1);    /* number */
    put(&table, 0x80, 2); /* minimum tick in periodic mode */
    put(&table, 0, 1);
    return finish(arena, &table, gpa, err);
}

/* What the DSDT can't say because it depends on the machine, in AML: Name (PCIM, DWord). */
static int build_ssdt(struct arena *arena, const struct acpi_config *config, gpa_t *gpa,
                      struct err *err)
{
    struct table table;

    begin(&table, "SSDT", 2);
    put(&table, AML_NAME, 1);
    put_text(&table, "PCIM", 4);
    put(&table, AML_DWORD, 1);
    put(&table, config->pci_window, 4);
    return finish(arena, &table, gpa, err);
}

/* RSDT and XSDT differ in the width of their entries. */
static int build_root(struct arena *arena, const char *signature, unsigned width,
                      const gpa_t *tables, unsigned count, gpa_t *gpa, struct err *err)
{
    struct table table;

    begin(&table, signature, 1);
    for (unsigned i = 0; i < count; i++)
        put(&table, tables[i], width);
    return finish(arena, &table, gpa, err);
}

/* 5.2.10 */
static int build_facs(const struct acpi_config *config, struct memory *mem, struct err *err)
{
    uint8_t facs[FACS_SIZE] = {'F', 'A', 'C', 'S', FACS_SIZE};

    facs[32] = 2; /* version */
    if (config->nvs % 64 || !memory_write(mem, config->nvs, facs, sizeof facs))
        return err_set(err, -EINVAL, "the FACS cannot be at guest address %#llx",
                       (unsigned long long)config->nvs);
    return 0;
}

/* 5.2.5.3: the first checksum covers 20 bytes, the second everything. */
static int build_rsdp(const struct acpi_config *config, struct memory *mem, gpa_t rsdt, gpa_t xsdt,
                      struct err *err)
{
    struct table table = {0};

    put_text(&table, "RSD PTR ", 8);
    put(&table, 0, 1);
    put_text(&table, "DOBLE", 6);
    put(&table, 2, 1);
    put(&table, rsdt, 4);
    put(&table, RSDP_SIZE, 4);
    put(&table, xsdt, 8);
    put(&table, 0, 4);
    table.bytes[8] = checksum(table.bytes, 20);
    table.bytes[32] = checksum(table.bytes, RSDP_SIZE);
    if (config->rsdp % 16 || config->rsdp < 0xe0000 || config->rsdp > MIB - RSDP_SIZE ||
        !memory_write(mem, config->rsdp, table.bytes, RSDP_SIZE))
        return err_set(err, -EINVAL, "the RSDP cannot be at guest address %#llx",
                       (unsigned long long)config->rsdp);
    return 0;
}

int acpi_tables_build(struct memory *mem, const struct acpi_config *config, struct err *err)
{
    struct arena arena = {mem, config->tables, config->tables + config->tables_size};
    gpa_t dsdt, tables[4], rsdt, xsdt;
    int r;

    if (config->cpus > CPUS_MAX)
        return err_set(err, -EINVAL, "the ACPI tables have room for %u processors, not for %u",
                       CPUS_MAX, config->cpus);
    if ((r = build_facs(config, mem, err)) < 0 ||
        (r = place(&arena, dsdt_aml, sizeof dsdt_aml, &dsdt, err)) < 0 ||
        (r = build_fadt(&arena, config, dsdt, &tables[0], err)) < 0 ||
        (r = build_madt(&arena, config, &tables[1], err)) < 0 ||
        (r = build_hpet(&arena, config, &tables[2], err)) < 0 ||
        (r = build_ssdt(&arena, config, &tables[3], err)) < 0 ||
        (r = build_root(&arena, "RSDT", 4, tables, ARRAY_SIZE(tables), &rsdt, err)) < 0 ||
        (r = build_root(&arena, "XSDT", 8, tables, ARRAY_SIZE(tables), &xsdt, err)) < 0)
        return r;
    return build_rsdp(config, mem, rsdt, xsdt, err);
}
