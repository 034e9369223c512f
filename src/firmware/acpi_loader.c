/* acpi_loader.c - see acpi_loader.h. Every command has 128 bytes, little-endian. */
#include "firmware/acpi_loader.h"

#include <string.h>

enum command { ALLOCATE = 1, ADD_POINTER = 2, ADD_CHECKSUM = 3 };
enum zone { ZONE_HIGH = 1, ZONE_FSEG = 2 };

struct loader_command {
    uint32_t command;
    union {
        struct {
            char file[FW_CFG_NAME];
            uint32_t align;
            uint8_t zone;
        } allocate;
        struct {
            char to_file[FW_CFG_NAME], from_file[FW_CFG_NAME]; /* pointer in the first */
            uint32_t offset;
            uint8_t size;
        } pointer;
        struct {
            char file[FW_CFG_NAME];
            uint32_t offset, start, length;
        } checksum;
        uint8_t bytes[124];
    };
} __attribute__((packed));
_Static_assert(sizeof(struct loader_command) == 128, "struct romfile_loader_entry_s");

struct script {
    unsigned count;
    struct loader_command commands[ACPI_PARTS + ACPI_POINTERS_MAX + ACPI_CHECKSUMS_MAX];
};

static const struct {
    const char *file;
    uint32_t align;
    enum zone zone;
} parts[ACPI_PARTS] = {
    [ACPI_RSDP] = {"etc/acpi/rsdp", 16, ZONE_FSEG},
    [ACPI_TABLES] = {"etc/acpi/tables", 64, ZONE_HIGH},
    [ACPI_FACS] = {"etc/acpi/facs", 64, ZONE_HIGH},
};

static struct loader_command *add(struct script *script, enum command command)
{
    struct loader_command *c = &script->commands[script->count++];

    c->command = command;
    return c;
}

static void allocate(struct script *script, enum acpi_part_id part)
{
    struct loader_command *c = add(script, ALLOCATE);

    strcpy(c->allocate.file, parts[part].file);
    c->allocate.align = parts[part].align;
    c->allocate.zone = (uint8_t)parts[part].zone;
}

static void add_pointer(struct script *script, const struct acpi_pointer *pointer)
{
    struct loader_command *c = add(script, ADD_POINTER);

    strcpy(c->pointer.to_file, parts[pointer->part].file);
    strcpy(c->pointer.from_file, parts[pointer->to].file);
    c->pointer.offset = pointer->offset;
    c->pointer.size = pointer->size;
}

static void add_checksum(struct script *script, const struct acpi_checksum *checksum)
{
    struct loader_command *c = add(script, ADD_CHECKSUM);

    strcpy(c->checksum.file, parts[checksum->part].file);
    c->checksum.offset = checksum->offset;
    c->checksum.start = checksum->start;
    c->checksum.length = checksum->size;
}

bool acpi_loader_publish(const struct acpi_tables *tables, struct fw_cfg *fw)
{
    struct script script = {0};
    bool ok = true;

    for (unsigned i = 0; i < ACPI_PARTS; i++) {
        allocate(&script, i);
        ok =
            ok && fw_cfg_set_file(fw, parts[i].file, tables->parts[i].bytes, tables->parts[i].size);
    }
    for (unsigned i = 0; i < tables->pointer_count; i++)
        add_pointer(&script, &tables->pointers[i]);
    for (unsigned i = 0; i < tables->checksum_count; i++)
        add_checksum(&script, &tables->checksums[i]);
    return ok && fw_cfg_set_file(fw, "etc/table-loader", script.commands,
                                 (uint32_t)(script.count * sizeof script.commands[0]));
}
