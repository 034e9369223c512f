/* i440fx.h - the host bridge of Intel's 440FX chip set, as far as there is a PCI bus: configuration
 * mechanism 1 and the bridge's own configuration space (Intel 82441FX data sheet, 3.1 and 3.2).
 *
 *   CF8h  dword: enable 31, bus 23:16, device 15:11, function 10:8, register 7:2
 *   CFCh  the register's bytes
 *
 * The bridge is device 0 of bus 0 and the only one; all others read as all ones. Its memory
 * attribute and SMRAM registers keep what is written and have no effect yet. Accesses to the
 * address register that are not dwords go on to the ports below the bridge (CF9h of the south
 * bridge). All functions are called with the bus lock held. */
#ifndef DOBLE_DEV_I440FX_H
#define DOBLE_DEV_I440FX_H

#include "base/state.h"
#include "bus/bus.h"

struct i440fx {
    const struct io_ops *below; /* takes other accesses at CF8h-CFBh; NULL: nobody */
    void *below_opaque;

    uint32_t address; /* CONFADD */
    uint8_t config[256];
};

void i440fx_init(struct i440fx *bridge, const struct io_ops *below, void *below_opaque);
void i440fx_reset(struct i440fx *bridge);
void i440fx_attach(struct i440fx *bridge, struct bus *bus);

extern const struct state_desc i440fx_state_desc;

#endif
