/* fw_cfg.c - see fw_cfg.h.
 *
 * A DMA command is at most one pass over guest RAM: the bytes behind an item's end are zeros and
 * are written in pieces, and a range that is not RAM is refused before anything is written. */
#include "dev/fw_cfg.h"

#include "base/trace.h"

#include <stdlib.h>
#include <string.h>

#define PORT_SELECTOR 0x510
#define PORT_DMA 0x514

#define ID_TRADITIONAL 1u
#define ID_DMA 2u
#define DMA_SIGNATURE UINT64_C(0x51454d5520434647) /* "QEMU CFG" */

#define DMA_ERROR 0x01u
#define DMA_READ 0x02u
#define DMA_SKIP 0x04u
#define DMA_SELECT 0x08u
#define DMA_WRITE 0x10u

#define PIECE 4096u

struct dma_command { /* big-endian */
    uint32_t control, length;
    uint64_t address;
};
_Static_assert(sizeof(struct dma_command) == 16, "FWCfgDmaAccess");

struct file_entry { /* big-endian */
    uint32_t size;
    uint16_t key, reserved;
    char name[FW_CFG_NAME];
};
_Static_assert(sizeof(struct file_entry) == 64, "FWCfgFile");

/* --- items --- */

static struct fw_cfg_item *find_key(struct fw_cfg *fw, uint16_t key)
{
    for (unsigned i = 0; i < fw->count; i++)
        if (fw->items[i].key == key)
            return &fw->items[i];
    return NULL;
}

static struct fw_cfg_item *find_or_add(struct fw_cfg *fw, uint16_t key)
{
    struct fw_cfg_item *item = find_key(fw, key);

    if (!item && fw->count < FW_CFG_ITEMS) {
        item = &fw->items[fw->count++];
        *item = (struct fw_cfg_item){.key = key};
    }
    return item;
}

bool fw_cfg_set_bytes(struct fw_cfg *fw, uint16_t key, const void *bytes, uint32_t size)
{
    struct fw_cfg_item *item = find_or_add(fw, key);
    uint8_t *copy = malloc(size ? size : 1);

    if (!item || !copy) {
        free(copy);
        return false;
    }
    memcpy(copy, bytes, size);
    free(item->bytes);
    item->bytes = copy;
    item->size = size;
    return true;
}

bool fw_cfg_set_ram(struct fw_cfg *fw, uint16_t key, gpa_t gpa, uint32_t size)
{
    struct fw_cfg_item *item = find_or_add(fw, key);

    if (!item)
        return false;
    free(item->bytes);
    item->bytes = NULL;
    item->gpa = gpa;
    item->size = size;
    return true;
}

bool fw_cfg_set_number(struct fw_cfg *fw, uint16_t key, uint64_t value, unsigned bytes)
{
    return fw_cfg_set_bytes(fw, key, &value, bytes); /* the host is little-endian, too */
}

/* --- the directory --- */

static bool make_directory(struct fw_cfg *fw)
{
    uint8_t bytes[4 + FW_CFG_ITEMS * sizeof(struct file_entry)];
    uint32_t count = 0;

    for (unsigned i = 0; i < fw->count; i++) {
        const struct fw_cfg_item *item = &fw->items[i];
        struct file_entry entry = {
            __builtin_bswap32(item->size), __builtin_bswap16(item->key), 0, {0}};

        if (!item->name[0])
            continue;
        memcpy(entry.name, item->name, sizeof entry.name);
        memcpy(bytes + 4 + count++ * sizeof entry, &entry, sizeof entry);
    }
    memcpy(bytes, &(uint32_t){__builtin_bswap32(count)}, 4);
    return fw_cfg_set_bytes(fw, FW_CFG_FILE_DIR, bytes,
                            (uint32_t)(4 + count * sizeof(struct file_entry)));
}

static uint16_t key_of_name(const struct fw_cfg *fw, const char *name)
{
    uint16_t next = FW_CFG_FILE_FIRST;

    for (unsigned i = 0; i < fw->count; i++) {
        if (strcmp(fw->items[i].name, name) == 0)
            return fw->items[i].key;
        if (fw->items[i].name[0])
            next++;
    }
    return next;
}

bool fw_cfg_set_file(struct fw_cfg *fw, const char *name, const void *bytes, uint32_t size)
{
    uint16_t key = key_of_name(fw, name);
    struct fw_cfg_item *item;

    if (!*name || strlen(name) >= FW_CFG_NAME || !fw_cfg_set_bytes(fw, key, bytes, size))
        return false;
    item = find_key(fw, key);
    strcpy(item->name, name);
    return make_directory(fw);
}

/* --- reading --- */

/* Copies up to `len` bytes of the selected item and goes on behind them. Returns how many there
 * were; RAM that is not there gives zeros. */
static uint32_t take(struct fw_cfg *fw, uint8_t *to, uint32_t len)
{
    const struct fw_cfg_item *item = find_key(fw, fw->selected);
    uint32_t left = item && fw->offset < item->size ? item->size - fw->offset : 0;

    if (len > left)
        len = left;
    if (len == 0)
        return 0;
    if (item->bytes)
        memcpy(to, item->bytes + fw->offset, len);
    else if (!memory_read(fw->mem, item->gpa + fw->offset, to, len))
        memset(to, 0, len);
    fw->offset += len;
    return len;
}

static void skip(struct fw_cfg *fw, uint32_t len)
{
    const struct fw_cfg_item *item = find_key(fw, fw->selected);
    uint32_t left = item && fw->offset < item->size ? item->size - fw->offset : 0;

    fw->offset += len < left ? len : left;
}

static void select_item(struct fw_cfg *fw, uint16_t key)
{
    trace_fw_cfg_select(key);
    fw->selected = key;
    fw->offset = 0;
}

/* --- DMA --- */

/* Whether all of it is RAM, in one piece. */
static bool is_ram(struct fw_cfg *fw, gpa_t gpa, uint64_t len)
{
    return len == 0 || memory_ram(fw->mem, gpa, len) != NULL;
}

static bool dma_read(struct fw_cfg *fw, gpa_t gpa, uint32_t length)
{
    uint8_t piece[PIECE];

    if (!is_ram(fw, gpa, length))
        return false;
    for (uint32_t done = 0, n; done < length; done += n) {
        uint32_t taken;

        n = length - done < PIECE ? length - done : PIECE;
        taken = take(fw, piece, n);
        memset(piece + taken, 0, n - taken);
        if (!memory_write(fw->mem, gpa + done, piece, n))
            return false;
    }
    return true;
}

/* The control word becomes 0, or the error bit. */
static void dma_execute(struct fw_cfg *fw, gpa_t at)
{
    struct dma_command command;
    uint32_t control, length;
    bool ok = true;

    if (!memory_read(fw->mem, at, &command, sizeof command))
        return; /* there is no place for an error */
    control = __builtin_bswap32(command.control);
    length = __builtin_bswap32(command.length);
    command.address = __builtin_bswap64(command.address);
    trace_fw_cfg_dma(control, length, command.address);
    if (control & DMA_SELECT)
        select_item(fw, (uint16_t)(control >> 16));
    if (control & DMA_READ)
        ok = dma_read(fw, command.address, length);
    else if (control & DMA_WRITE)
        ok = false; /* all items are read-only */
    else if (control & DMA_SKIP)
        skip(fw, length);
    control = ok ? 0 : __builtin_bswap32(DMA_ERROR);
    if (!memory_write(fw->mem, at, &control, sizeof control))
        fw->dma_address = 0;
}

/* --- ports --- */

static uint64_t port_read(void *opaque, uint64_t offset, unsigned size)
{
    struct fw_cfg *fw = opaque;
    uint8_t byte = 0;

    if (offset == 1 && size == 1)
        (void)take(fw, &byte, 1);
    return byte;
}

static void port_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    if (offset == 0 && size == 2)
        select_item(opaque, (uint16_t)value);
}

/* The registers are big-endian: the byte at offset 0 is the highest. */
static uint64_t dma_port_read(void *opaque, uint64_t offset, unsigned size)
{
    uint64_t swapped = __builtin_bswap64(DMA_SIGNATURE);

    (void)opaque, (void)size;
    return swapped >> (8 * (offset & 7));
}

static void dma_port_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct fw_cfg *fw = opaque;
    uint64_t at;

    if (size != 4 || offset % 4)
        return;
    if (offset == 0) {
        fw->dma_address = (uint64_t)__builtin_bswap32((uint32_t)value) << 32;
        return;
    }
    at = fw->dma_address | __builtin_bswap32((uint32_t)value);
    fw->dma_address = 0;
    dma_execute(fw, at);
}

/* --- life --- */

void fw_cfg_init(struct fw_cfg *fw, struct memory *mem)
{
    bool ok;

    memset(fw, 0, sizeof *fw);
    fw->mem = mem;
    ok = fw_cfg_set_bytes(fw, FW_CFG_SIGNATURE, "QEMU", 4) &&
         fw_cfg_set_number(fw, FW_CFG_ID, ID_TRADITIONAL | ID_DMA, 4) && make_directory(fw);
    if (!ok)
        fw_cfg_free(fw); /* without memory the guest finds no signature, and goes without it */
}

void fw_cfg_free(struct fw_cfg *fw)
{
    for (unsigned i = 0; i < fw->count; i++)
        free(fw->items[i].bytes);
    fw->count = 0;
}

void fw_cfg_reset(struct fw_cfg *fw)
{
    fw->selected = FW_CFG_SIGNATURE;
    fw->offset = 0;
    fw->dma_address = 0;
}

void fw_cfg_attach(struct fw_cfg *fw, struct bus *bus)
{
    static const struct io_ops ports = {.read = port_read, .write = port_write, .max_size = 2};
    static const struct io_ops dma = {
        .read = dma_port_read, .write = dma_port_write, .max_size = 4};

    bus_add_pio(bus, "fw_cfg", PORT_SELECTOR, 2, &ports, fw);
    bus_add_pio(bus, "fw_cfg_dma", PORT_DMA, 8, &dma, fw);
}

/* Items come from the board and the user's options; only where the guest reads is state. An offset
 * beyond the end of an item reads as its end. */
static const struct field fields[] = {
    FIELD(struct fw_cfg, selected),
    FIELD(struct fw_cfg, offset),
    FIELD(struct fw_cfg, dma_address),
};

const struct state_desc fw_cfg_state_desc = {
    .name = "fw_cfg",
    .version = 1,
    .fields = fields,
    .field_count = ARRAY_SIZE(fields),
};
