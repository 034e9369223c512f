/* smbios.c - see smbios.h. Section numbers are those of DSP0134 2.8. */
#include "firmware/smbios.h"

#include <errno.h>
#include <string.h>

#define HANDLE_SYSTEM 0x100u
#define HANDLE_CHASSIS 0x300u
#define HANDLE_PROCESSOR 0x400u
#define HANDLE_ARRAY 0x1000u
#define HANDLE_MEMORY 0x1100u
#define HANDLE_RANGE 0x1300u
#define NO_HANDLE 0xffffu
#define UNKNOWN 0x02u

/* Where the next bytes go, and what the anchor says in the end. */
struct builder {
    struct smbios *out;
    uint32_t start; /* of the structure that is being made */
    unsigned count, largest;
    bool full;
};

static void put(struct builder *b, uint64_t value, unsigned bytes)
{
    struct smbios *out = b->out;

    for (unsigned i = 0; i < bytes; i++, value >>= 8) {
        if (out->table_size == SMBIOS_TABLE_MAX)
            b->full = true;
        else
            out->table[out->table_size++] = (uint8_t)value;
    }
}

/* 6.1.2: the formatted area's length follows in end(). */
static void begin(struct builder *b, unsigned type, unsigned handle)
{
    b->start = b->out->table_size;
    put(b, type, 1);
    put(b, 0, 1);
    put(b, handle, 2);
}

/* 6.1.3: strings, ended by zeros, and one more zero. `strings` ends with NULL. */
static void end(struct builder *b, const char *const *strings)
{
    unsigned size = b->out->table_size - b->start;

    if (!b->full)
        b->out->table[b->start + 1] = (uint8_t)size;
    if (!strings[0])
        put(b, 0, 1);
    for (; *strings; strings++)
        for (const char *c = *strings;; c++) {
            put(b, (uint8_t)*c, 1);
            if (!*c)
                break;
        }
    put(b, 0, 1);
    size = b->out->table_size - b->start;
    if (size > b->largest)
        b->largest = size;
    b->count++;
}

/* 7.2 */
static void put_system(struct builder *b)
{
    begin(b, 1, HANDLE_SYSTEM);
    put(b, 1, 1);      /* manufacturer, */
    put(b, 2, 1);      /* product, */
    put(b, 0x0000, 2); /* version, serial number: none */
    for (unsigned i = 0; i < 2; i++)
        put(b, 0, 8); /* UUID: not present */
    put(b, 6, 1);     /* power switch */
    put(b, 0, 2);     /* SKU, family */
    end(b, (const char *const[]){"Doble", "Virtual PC (i440FX + PIIX)", NULL});
}

/* 7.4 */
static void put_chassis(struct builder *b)
{
    begin(b, 3, HANDLE_CHASSIS);
    put(b, 1, 1);
    put(b, 1, 1);        /* other */
    put(b, 0, 3);        /* version, serial number, asset tag: none */
    put(b, 0x030303, 3); /* states: safe */
    put(b, 0x03, 1);     /* security: none */
    put(b, 0, 4);
    put(b, 0, 4); /* height, power cords, contained elements */
    put(b, 0, 1);
    end(b, (const char *const[]){"Doble", NULL});
}

/* 7.5 */
static void put_processor(struct builder *b, const struct smbios_config *config, unsigned index)
{
    begin(b, 4, HANDLE_PROCESSOR + index);
    put(b, 1, 1);    /* socket */
    put(b, 3, 1);    /* central processor */
    put(b, 0x01, 1); /* family: other */
    put(b, 2, 1);
    put(b, config->cpu_signature, 4);
    put(b, config->cpu_features, 4);
    put(b, 2, 1);
    put(b, 0, 1); /* voltage: unknown */
    put(b, 0, 2); /* external clock: unknown */
    put(b, config->cpu_mhz, 2);
    put(b, config->cpu_mhz, 2);
    put(b, 0x41, 1); /* populated, enabled */
    put(b, 0x01, 1); /* upgrade: other */
    for (unsigned i = 0; i < 3; i++)
        put(b, NO_HANDLE, 2); /* caches */
    put(b, 0, 3);             /* serial number, asset tag, part number */
    put(b, 0x010101, 3);      /* cores, enabled cores, threads */
    put(b, 0x0004, 2);        /* 64 bits */
    put(b, 0x0001, 2);        /* family 2: other */
    end(b, (const char *const[]){"CPU", config->cpu, NULL});
}

/* 7.17; 80000000h KiB: the extended capacity counts, in bytes. */
static void put_array(struct builder *b, uint64_t size)
{
    bool small = size / KIB < 0x80000000;

    begin(b, 16, HANDLE_ARRAY);
    put(b, 0x03, 1); /* on the board */
    put(b, 0x03, 1); /* system memory */
    put(b, 0x03, 1); /* no error correction */
    put(b, small ? size / KIB : 0x80000000, 4);
    put(b, NO_HANDLE - 1, 2); /* no error information */
    put(b, 1, 2);
    put(b, small ? 0 : size, 8);
    end(b, (const char *const[]){NULL});
}

/* 7.18; 7FFFh: the extended size counts, in MiB. */
static void put_memory(struct builder *b, uint64_t size)
{
    uint64_t mib = size / MIB;

    begin(b, 17, HANDLE_MEMORY);
    put(b, HANDLE_ARRAY, 2);
    put(b, NO_HANDLE - 1, 2);
    put(b, 0xffff, 2); /* width: unknown */
    put(b, 0xffff, 2);
    put(b, mib < 0x7fff ? mib : 0x7fff, 2);
    put(b, 0x09, 1); /* DIMM */
    put(b, 0, 1);    /* in no set */
    put(b, 1, 1);
    put(b, 0, 1);
    put(b, 0x07, 1); /* RAM */
    put(b, UNKNOWN, 2);
    put(b, 0, 2); /* speed: unknown */
    put(b, 2, 1);
    put(b, 0, 4); /* serial number, asset tag, part number, attributes */
    put(b, mib < 0x7fff ? 0 : mib, 4);
    put(b, 0, 2);
    put(b, 0, 6); /* voltages: unknown */
    end(b, (const char *const[]){"DIMM 0", "Doble", NULL});
}

/* 7.20: addresses in KiB. */
static void put_range(struct builder *b, unsigned index, uint64_t base, uint64_t size)
{
    begin(b, 19, HANDLE_RANGE + index);
    put(b, base / KIB, 4);
    put(b, (base + size) / KIB - 1, 4);
    put(b, HANDLE_ARRAY, 2);
    put(b, 1, 1);
    put(b, 0, 8); /* extended addresses: not used */
    put(b, 0, 8);
    end(b, (const char *const[]){NULL});
}

/* 7.33 */
static void put_boot(struct builder *b)
{
    begin(b, 32, 0x2000);
    put(b, 0, 6);
    put(b, 0, 1); /* no errors */
    end(b, (const char *const[]){NULL});
}

static uint8_t sum(const uint8_t *bytes, unsigned size)
{
    uint8_t total = 0;

    for (unsigned i = 0; i < size; i++)
        total = (uint8_t)(total + bytes[i]);
    return total;
}

/* 5.2.1 */
static void finish_anchor(struct smbios *smbios, uint32_t address)
{
    uint8_t *a = smbios->anchor;

    memcpy(a + 24, &address, 4);
    a[21] = a[4] = 0;
    a[21] = (uint8_t)-sum(a + 16, 15);
    a[4] = (uint8_t)-sum(a, SMBIOS_ANCHOR_SIZE);
}

static void make_anchor(const struct builder *b)
{
    struct smbios *smbios = b->out;
    uint8_t *a = smbios->anchor;

    memcpy(a, "_SM_", 4);
    a[5] = SMBIOS_ANCHOR_SIZE;
    a[6] = 2;
    a[7] = 8;
    memcpy(a + 8, &(uint16_t){(uint16_t)b->largest}, 2);
    memcpy(a + 16, "_DMI_", 5);
    memcpy(a + 22, &(uint16_t){(uint16_t)smbios->table_size}, 2);
    memcpy(a + 28, &(uint16_t){(uint16_t)b->count}, 2);
    a[30] = 0x28;
    finish_anchor(smbios, 0);
}

bool smbios_make(struct smbios *smbios, const struct smbios_config *config)
{
    struct builder b = {.out = smbios};

    memset(smbios, 0, sizeof *smbios);
    put_system(&b);
    put_chassis(&b);
    for (unsigned i = 0; i < config->cpus; i++)
        put_processor(&b, config, i);
    put_array(&b, config->low_ram + config->high_ram);
    put_memory(&b, config->low_ram + config->high_ram);
    put_range(&b, 0, 0, config->low_ram);
    if (config->high_ram)
        put_range(&b, 1, MEMORY_HIGH_START, config->high_ram);
    put_boot(&b);
    begin(&b, 127, 0x7f00);
    end(&b, (const char *const[]){NULL});
    make_anchor(&b);
    return !b.full;
}

int smbios_place(struct smbios *smbios, struct memory *mem, gpa_t gpa, struct err *err)
{
    gpa_t table = gpa + ((SMBIOS_ANCHOR_SIZE + 15) & ~15u);

    finish_anchor(smbios, (uint32_t)table);
    if (memory_write(mem, gpa, smbios->anchor, sizeof smbios->anchor) &&
        memory_write(mem, table, smbios->table, smbios->table_size))
        return 0;
    return err_set(err, -EINVAL, "the guest has no memory for SMBIOS tables at %#llx",
                   (unsigned long long)gpa);
}
