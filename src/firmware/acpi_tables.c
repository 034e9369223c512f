/* acpi_tables.c - see acpi_tables.h.
 *
 * Each table is put together in a buffer byte by byte, because tables have no alignment, and
 * appended to its part when it is complete. Addresses in it are offsets until the part is placed.
 * The DSDT comes compiled from dsdt.asl. */
#include "firmware/acpi_tables.h"

#include "dev/acpi_pm.h"
#include "dsdt.h"

#include <errno.h>
#include <string.h>

#define CPUS_MAX 512u /* their MADT takes about 6 KiB */
#define FACS_SIZE 64
#define RSDP_SIZE 36

#define GAS_MEMORY 0
#define GAS_IO 1

/* 20.2.3 and 20.2.5.1 */
#define AML_NAME 0x08
#define AML_DWORD 0x0c

#define CHECKSUM_OFFSET 9 /* in the common header */

/* A table that is being made. Its addresses are noted as offsets in it. */
struct table {
    struct acpi_tables *all;
    unsigned size;
    unsigned first_pointer; /* the first of all->pointers that is this table's */
    uint8_t bytes[ACPI_TABLE_MAX];
};

/* --- putting bytes together --- */

static void put(struct table *table, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes && table->size < ACPI_TABLE_MAX; i++)
        table->bytes[table->size++] = (uint8_t)(value >> (8 * i));
}

/* The address of what is at `offset` of a part. */
static void put_pointer(struct table *table, enum acpi_part_id to, uint32_t offset, unsigned bytes)
{
    struct acpi_tables *all = table->all;

    if (all->pointer_count < ACPI_POINTERS_MAX)
        all->pointers[all->pointer_count++] =
            (struct acpi_pointer){ACPI_TABLES, to, table->size, (uint8_t)bytes};
    put(table, offset, bytes);
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

/* The common header, 5.2.6; length and checksum follow in finish(). */
static void begin(struct table *table, struct acpi_tables *all, const char *signature,
                  unsigned revision)
{
    table->all = all;
    table->size = 0;
    table->first_pointer = all->pointer_count;
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

static int no_room(struct err *err)
{
    return err_set(err, -ENOSPC, "the ACPI tables are larger than %u bytes", ACPI_PART_MAX);
}

/* Appends bytes to a part at a multiple of 16; returns where they are, or an error. */
static int append(struct acpi_part *part, const uint8_t *bytes, uint32_t size, struct err *err)
{
    uint32_t at = (part->size + 15) & ~15u;

    if (at > ACPI_PART_MAX || size > ACPI_PART_MAX - at)
        return no_room(err);
    memcpy(part->bytes + at, bytes, size);
    part->size = at + size;
    return (int)at;
}

static void add_checksum(struct acpi_tables *all, enum acpi_part_id part, uint32_t offset,
                         uint32_t start, uint32_t size)
{
    if (all->checksum_count < ACPI_CHECKSUMS_MAX)
        all->checksums[all->checksum_count++] = (struct acpi_checksum){part, offset, start, size};
}

/* Completes the header and appends the table; returns its offset among the tables. */
static int finish(struct table *table, struct err *err)
{
    struct acpi_tables *all = table->all;
    int at;

    for (unsigned i = 0; i < 4; i++)
        table->bytes[4 + i] = (uint8_t)(table->size >> (8 * i));
    at = append(&all->parts[ACPI_TABLES], table->bytes, table->size, err);
    if (at < 0)
        return at;
    for (unsigned i = table->first_pointer; i < all->pointer_count; i++)
        all->pointers[i].offset += (uint32_t)at;
    add_checksum(all, ACPI_TABLES, (uint32_t)at + CHECKSUM_OFFSET, (uint32_t)at, table->size);
    return at;
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

static int build_fadt(struct acpi_tables *all, const struct acpi_config *config, uint32_t dsdt,
                      struct err *err)
{
    struct table table;
    uint64_t pm = config->pm_base;

    begin(&table, all, "FACP", 5);
    put_pointer(&table, ACPI_FACS, 0, 4);
    put_pointer(&table, ACPI_TABLES, dsdt, 4);
    put(&table, 0, 1);
    put(&table, 1, 1); /* profile: desktop */
    fadt_legacy_ports(&table, config);
    fadt_features(&table, config);
    put(&table, 0, 8); /* X_FIRMWARE_CTRL: the 32-bit field counts */
    put_pointer(&table, ACPI_TABLES, dsdt, 8);
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
    return finish(&table, err);
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

static int build_madt(struct acpi_tables *all, const struct acpi_config *config, struct err *err)
{
    struct table table;

    begin(&table, all, "APIC", 3);
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
    return finish(&table, err);
}

static int build_hpet(struct acpi_tables *all, const struct acpi_config *config, struct err *err)
{
    struct table table;

    begin(&table, all, "HPET", 1);
    put(&table, config->hpet_id, 4);
    put_gas(&table, GAS_MEMORY, 64, config->hpet);
    put(&table, 0, 1);    /* number */
    put(&table, 0x80, 2); /* minimum tick in periodic mode */
    put(&table, 0, 1);
    return finish(&table, err);
}

/* What the DSDT can't say because it depends on the machine, in AML: Name (PCIM, DWord). */
static int build_ssdt(struct acpi_tables *all, const struct acpi_config *config, struct err *err)
{
    struct table table;

    begin(&table, all, "SSDT", 2);
    put(&table, AML_NAME, 1);
    put_text(&table, "PCIM", 4);
    put(&table, AML_DWORD, 1);
    put(&table, config->pci_window, 4);
    return finish(&table, err);
}

/* RSDT and XSDT differ in the width of their entries. */
static int build_root(struct acpi_tables *all, const char *signature, unsigned width,
                      const int *tables, unsigned count, struct err *err)
{
    struct table table;

    begin(&table, all, signature, 1);
    for (unsigned i = 0; i < count; i++)
        put_pointer(&table, ACPI_TABLES, (uint32_t)tables[i], width);
    return finish(&table, err);
}

/* 5.2.10 */
static void build_facs(struct acpi_tables *all)
{
    const uint8_t facs[FACS_SIZE] = {'F', 'A', 'C', 'S', FACS_SIZE, [32] = 2}; /* version */

    memcpy(all->parts[ACPI_FACS].bytes, facs, sizeof facs);
    all->parts[ACPI_FACS].size = sizeof facs;
}

/* 5.2.5.3: the first checksum covers 20 bytes, the second everything. */
static void build_rsdp(struct acpi_tables *all, uint32_t rsdt, uint32_t xsdt)
{
    struct table table = {.all = all, .first_pointer = all->pointer_count};

    put_text(&table, "RSD PTR ", 8);
    put(&table, 0, 1);
    put_text(&table, "DOBLE", 6);
    put(&table, 2, 1);
    put_pointer(&table, ACPI_TABLES, rsdt, 4);
    put(&table, RSDP_SIZE, 4);
    put_pointer(&table, ACPI_TABLES, xsdt, 8);
    put(&table, 0, 4);
    for (unsigned i = table.first_pointer; i < all->pointer_count; i++)
        all->pointers[i].part = ACPI_RSDP;
    memcpy(all->parts[ACPI_RSDP].bytes, table.bytes, RSDP_SIZE);
    all->parts[ACPI_RSDP].size = RSDP_SIZE;
    add_checksum(all, ACPI_RSDP, 8, 0, 20);
    add_checksum(all, ACPI_RSDP, 32, 0, RSDP_SIZE);
}

int acpi_tables_make(struct acpi_tables *all, const struct acpi_config *config, struct err *err)
{
    int dsdt, tables[4], rsdt, xsdt;

    memset(all, 0, sizeof *all);
    if (config->cpus > CPUS_MAX)
        return err_set(err, -EINVAL, "the ACPI tables have room for %u processors, not for %u",
                       CPUS_MAX, config->cpus);
    build_facs(all);
    if ((dsdt = append(&all->parts[ACPI_TABLES], dsdt_aml, sizeof dsdt_aml, err)) < 0)
        return dsdt;
    if ((tables[0] = build_fadt(all, config, (uint32_t)dsdt, err)) < 0 ||
        (tables[1] = build_madt(all, config, err)) < 0 ||
        (tables[2] = build_hpet(all, config, err)) < 0 ||
        (tables[3] = build_ssdt(all, config, err)) < 0 ||
        (rsdt = build_root(all, "RSDT", 4, tables, ARRAY_SIZE(tables), err)) < 0 ||
        (xsdt = build_root(all, "XSDT", 8, tables, ARRAY_SIZE(tables), err)) < 0)
        return no_room(err);
    build_rsdp(all, (uint32_t)rsdt, (uint32_t)xsdt);
    return 0;
}

/* --- in their places --- */

static int check_places(const struct acpi_tables *all, const struct acpi_places *places,
                        struct err *err)
{
    if (all->parts[ACPI_TABLES].size > places->tables_size || places->tables % 16)
        return err_set(err, -ENOSPC,
                       "the ACPI tables do not fit into guest memory at %#llx to %#llx",
                       (unsigned long long)places->tables,
                       (unsigned long long)(places->tables + places->tables_size));
    if (places->facs % 64)
        return err_set(err, -EINVAL, "the FACS cannot be at guest address %#llx",
                       (unsigned long long)places->facs);
    if (places->rsdp % 16 || places->rsdp < 0xe0000 || places->rsdp > MIB - RSDP_SIZE)
        return err_set(err, -EINVAL, "the RSDP cannot be at guest address %#llx",
                       (unsigned long long)places->rsdp);
    return 0;
}

static void relocate(struct acpi_tables *all, const gpa_t *bases)
{
    for (unsigned i = 0; i < all->pointer_count; i++) {
        const struct acpi_pointer *pointer = &all->pointers[i];
        uint8_t *at = all->parts[pointer->part].bytes + pointer->offset;
        uint64_t value = 0;

        memcpy(&value, at, pointer->size);
        value += bases[pointer->to];
        memcpy(at, &value, pointer->size);
    }
}

static void sum_up(struct acpi_tables *all)
{
    for (unsigned i = 0; i < all->checksum_count; i++) {
        const struct acpi_checksum *checksum = &all->checksums[i];
        uint8_t *bytes = all->parts[checksum->part].bytes, sum = 0;

        for (uint32_t at = 0; at < checksum->size; at++)
            sum = (uint8_t)(sum + bytes[checksum->start + at]);
        bytes[checksum->offset] = (uint8_t)(bytes[checksum->offset] - sum);
    }
}

int acpi_tables_place(struct acpi_tables *all, struct memory *mem, const struct acpi_places *places,
                      struct err *err)
{
    const gpa_t bases[ACPI_PARTS] = {
        [ACPI_RSDP] = places->rsdp, [ACPI_TABLES] = places->tables, [ACPI_FACS] = places->facs};
    int rc = check_places(all, places, err);

    if (rc < 0)
        return rc;
    relocate(all, bases);
    sum_up(all);
    for (unsigned i = 0; i < ACPI_PARTS; i++)
        if (!memory_write(mem, bases[i], all->parts[i].bytes, all->parts[i].size))
            return err_set(err, -EINVAL, "the guest has no memory for ACPI tables at %#llx",
                           (unsigned long long)bases[i]);
    return 0;
}
