/* fw_cfg.h - the firmware configuration device: numbered items that firmware and small kernels read
 * to learn about the machine (docs/specs/fw_cfg.rst of QEMU, whose interface it is).
 *
 *   510h  selector: a 16-bit write chooses an item and goes to its start
 *   511h  data: each byte read is the item's next one; zeros follow its end
 *   514h  DMA, 8 bytes, big-endian: the address of a command in guest RAM; a write of the low half
 *         (518h) executes it
 *
 * Items are read-only for the guest: a DMA write gives an error, writes to 511h are ignored. An
 * item's bytes are the device's own, or a range of guest RAM. Named items ("etc/e820") have keys
 * from 20h on, in the order of their making, and are listed in the file directory.
 *
 * fw_cfg_set_*() are for the main thread while no vCPU runs; the rest is called with the bus lock
 * held. */
#ifndef DOBLE_DEV_FW_CFG_H
#define DOBLE_DEV_FW_CFG_H

#include "base/state.h"
#include "bus/bus.h"
#include "mem/memory.h"

enum fw_cfg_key {
    FW_CFG_SIGNATURE = 0x00,
    FW_CFG_ID = 0x01,
    FW_CFG_UUID = 0x02,
    FW_CFG_RAM_SIZE = 0x03,
    FW_CFG_NOGRAPHIC = 0x04,
    FW_CFG_NB_CPUS = 0x05,
    FW_CFG_KERNEL_ADDR = 0x07,
    FW_CFG_KERNEL_SIZE = 0x08,
    FW_CFG_INITRD_ADDR = 0x0a,
    FW_CFG_INITRD_SIZE = 0x0b,
    FW_CFG_BOOT_MENU = 0x0e,
    FW_CFG_MAX_CPUS = 0x0f,
    FW_CFG_KERNEL_ENTRY = 0x10,
    FW_CFG_KERNEL_DATA = 0x11,
    FW_CFG_INITRD_DATA = 0x12,
    FW_CFG_CMDLINE_SIZE = 0x14,
    FW_CFG_CMDLINE_DATA = 0x15,
    FW_CFG_FILE_DIR = 0x19,
    FW_CFG_FILE_FIRST = 0x20,
    FW_CFG_IRQ0_OVERRIDE = 0x8002,
};

#define FW_CFG_ITEMS 64
#define FW_CFG_NAME 56 /* bytes of a name with its final zero */

struct fw_cfg_item {
    uint16_t key;
    char name[FW_CFG_NAME]; /* empty: not in the directory */
    uint8_t *bytes;         /* owned; NULL: the bytes are in guest RAM */
    gpa_t gpa;
    uint32_t size;
};

struct fw_cfg {
    struct memory *mem;
    unsigned count;
    struct fw_cfg_item items[FW_CFG_ITEMS];

    uint16_t selected;
    uint32_t offset; /* of the next byte, at most the item's size */
    uint64_t dma_address;
};

/* With only the signature, the interface's ID and an empty directory. */
void fw_cfg_init(struct fw_cfg *fw, struct memory *mem);
void fw_cfg_free(struct fw_cfg *fw);
void fw_cfg_reset(struct fw_cfg *fw);
void fw_cfg_attach(struct fw_cfg *fw, struct bus *bus);

/* Make an item, or replace it. False: no room for another item, or no memory. */
bool fw_cfg_set_bytes(struct fw_cfg *fw, uint16_t key, const void *bytes, uint32_t size) MUST_USE;
bool fw_cfg_set_ram(struct fw_cfg *fw, uint16_t key, gpa_t gpa, uint32_t size) MUST_USE;
bool fw_cfg_set_file(struct fw_cfg *fw, const char *name, const void *bytes,
                     uint32_t size) MUST_USE;
/* A little-endian number of 2, 4 or 8 bytes. */
bool fw_cfg_set_number(struct fw_cfg *fw, uint16_t key, uint64_t value, unsigned bytes) MUST_USE;

extern const struct state_desc fw_cfg_state_desc;

#endif
