/* i440fx.h - the host bridge of Intel's 440FX chip set: configuration mechanism 1, and the PCI
 * function 0 that controls what the processor sees between C0000h and 1 MiB (Intel 82441FX data
 * sheet, 3.1, 3.2 and 4.1).
 *
 *   CF8h  dword: enable 31, bus 23:16, device 15:11, function 10:8, register 7:2
 *   CFCh  the register's bytes
 *
 *   59h-5Fh  PAM: a nibble for each 16 KiB (F0000h: 64 KiB): bit 0 reads from RAM, bit 1 writes
 *            to RAM; else from and to PCI, where there is the firmware's ROM or nothing
 *   72h      SMRAM: kept, without effect: nothing here has system management mode
 *
 * The subsystem ID is the one by which firmware knows a machine that has fw_cfg. Accesses to the
 * address register that are not dwords go on to the ports below the bridge (CF9h of the south
 * bridge). All functions are called with the bus lock held, but for those that make a machine. */
#ifndef DOBLE_DEV_I440FX_H
#define DOBLE_DEV_I440FX_H

#include "base/state.h"
#include "bus/bus.h"
#include "bus/pci.h"

#define I440FX_PAM 0x59
#define I440FX_PAMS 7

struct i440fx {
    struct pci_bus *pci;
    const struct io_ops *below; /* takes other accesses at CF8h-CFBh; NULL: nobody */
    void *below_opaque;
    void (*remapped)(void *opaque); /* RAM is another than before: flush TLBs; may be NULL */
    void *opaque;
    struct pci_device function;
    uint8_t pam[I440FX_PAMS]; /* the registers as they are in force */

    uint32_t address; /* CONFADD */
};

/* Makes the bridge function 0 of `pci`, whose memory it controls. Set remapped and opaque
 * afterwards. */
int i440fx_init(struct i440fx *bridge, struct pci_bus *pci, const struct io_ops *below,
                void *below_opaque, struct err *err) MUST_USE;
void i440fx_reset(struct i440fx *bridge); /* the address register; the bus resets the function */
void i440fx_attach(struct i440fx *bridge, struct bus *bus);

/* RAM everywhere below 1 MiB: what firmware leaves behind, but for what it protects. */
void i440fx_open_shadow(struct i440fx *bridge);

extern const struct state_desc i440fx_state_desc;

#endif
