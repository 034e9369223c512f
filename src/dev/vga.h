/* vga.h - a VGA with the extensions of Bochs: the IBM VGA's registers, planes and modes, and linear
 * frame buffers of any size up to its memory (IBM VGA technical reference; Bochs VBE display
 * interface 0xB0C5, also known as QEMU's "standard VGA", PCI 1234:1111).
 *
 *   3C0h-3DFh, 3B4h-3BAh   registers      1CEh, 1CFh   DISPI: index and data, 16 bits
 *   A0000h-BFFFFh          window on the memory, by the rules of the mode
 *   BAR 0                  all of the memory, which is RAM to the guest      BAR 2: registers again
 *
 *   memory: byte 4n + p is byte n of plane p, so that what is linear in a 256-color mode is so in
 *   memory; the first 256 KiB are those of the IBM's
 *
 * A picture is made only when somebody wants one (dev/vga_picture.h). Retraces follow guest time.
 *
 * All functions are called with the bus lock held, but for those that make a machine. */
#ifndef DOBLE_DEV_VGA_H
#define DOBLE_DEV_VGA_H

#include "base/state.h"
#include "bus/bus.h"
#include "bus/clock.h"
#include "bus/pci.h"

#define VGA_MEMORY (16 * MIB)
#define VGA_PLANES_SIZE (256 * KIB)
#define VGA_ROM_MAX (64 * KIB)

#define VGA_SEQ_REGS 8
#define VGA_GC_REGS 16
#define VGA_ATTR_REGS 32
#define VGA_CRTC_REGS 32

enum vga_seq { SEQ_RESET, SEQ_CLOCKING, SEQ_MAP_MASK, SEQ_CHARACTER_MAP, SEQ_MEMORY_MODE };
enum vga_gc {
    GC_SET_RESET,
    GC_ENABLE_SET_RESET,
    GC_COMPARE,
    GC_ROTATE,
    GC_READ_MAP,
    GC_MODE,
    GC_MISC,
    GC_DONT_CARE,
    GC_BIT_MASK,
};
enum vga_attr { ATTR_MODE = 0x10, ATTR_PLANES = 0x12, ATTR_PANNING = 0x13, ATTR_COLOR = 0x14 };
enum vga_crtc {
    CRTC_DISPLAY_END = 0x01,
    CRTC_OVERFLOW = 0x07,
    CRTC_ROW_SCAN = 0x08,
    CRTC_MAX_SCAN = 0x09,
    CRTC_CURSOR_START = 0x0a,
    CRTC_CURSOR_END = 0x0b,
    CRTC_START_HIGH = 0x0c,
    CRTC_START_LOW = 0x0d,
    CRTC_CURSOR_HIGH = 0x0e,
    CRTC_CURSOR_LOW = 0x0f,
    CRTC_RETRACE_END = 0x11,
    CRTC_VERTICAL_END = 0x12,
    CRTC_OFFSET = 0x13,
    CRTC_MODE = 0x17,
};

enum vga_dispi {
    DISPI_ID,
    DISPI_XRES,
    DISPI_YRES,
    DISPI_BPP,
    DISPI_ENABLE,
    DISPI_BANK,
    DISPI_VIRT_WIDTH,
    DISPI_VIRT_HEIGHT,
    DISPI_X_OFFSET,
    DISPI_Y_OFFSET,
    DISPI_MEMORY, /* in 64 KiB */
    DISPI_REGS,
};
#define DISPI_ENABLED 0x01u
#define DISPI_8BIT_DAC 0x20u

struct vga {
    struct clock *clock;
    struct pci_device pci;
    struct memory *mem;
    uint8_t *memory;                /* VGA_MEMORY bytes */
    void (*remapped)(void *opaque); /* RAM is another than before: flush TLBs; may be NULL */
    void *opaque;
    bool changed;                 /* since whoever looks at the screen has set it to false */
    void (*notify)(void *opaque); /* it has become true; may be NULL */
    void *notify_opaque;

    uint8_t misc, feature;
    uint8_t seq_index, seq[VGA_SEQ_REGS];
    uint8_t gc_index, gc[VGA_GC_REGS];
    uint8_t attr_index, attr[VGA_ATTR_REGS];
    bool attr_data; /* the next write to 3C0h is data */
    uint8_t crtc_index, crtc[VGA_CRTC_REGS];
    uint8_t dac_mask, dac_read, dac_write, dac_component, dac_state;
    uint8_t palette[768];
    uint8_t latch[4];
    uint16_t dispi_index, dispi[DISPI_REGS];
};

/* Adds the display's memory to the guest's, and the display to the bus. `rom` is its BIOS, which
 * stays the caller's, or NULL. Set remapped and opaque afterwards. */
int vga_init(struct vga *vga, struct pci_bus *pci, struct clock *clock, const uint8_t *rom,
             uint32_t rom_size, struct err *err) MUST_USE;
void vga_attach(struct vga *vga, struct bus *bus);

/* What of the linear frame buffer a DISPI mode shows: bytes a line, and where it begins. */
uint32_t vga_dispi_pitch(const struct vga *vga);
uint32_t vga_dispi_start(const struct vga *vga);

extern const struct state_desc vga_state_desc;

#endif
