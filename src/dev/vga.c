/* vga.c - registers and memory of the VGA; see vga.h.
 *
 * The planes' logic (write modes, latches, masks) works on the four bytes of an address at once, as
 * a 32-bit word in which byte p belongs to plane p. */
#include "dev/vga.h"

#include "base/trace.h"

#include <string.h>

#define WINDOW MEMORY_VGA_START
#define WINDOW_SIZE (MEMORY_VGA_END - MEMORY_VGA_START)

#define MISC_COLOR 0x01u /* registers of the CRTC at 3D4h, not 3B4h */
#define SEQ4_ODD_EVEN_OFF 0x04u
#define SEQ4_CHAIN_4 0x08u
#define GC5_READ_COMPARE 0x08u
#define GC5_ODD_EVEN 0x10u
#define CRTC11_PROTECT 0x80u

#define DISPI_VERSION 0xb0c5u
#define DISPI_GET_CAPS 0x02u
#define DISPI_NO_CLEAR 0x80u
#define DISPI_XRES_MAX 2560u
#define DISPI_YRES_MAX 1600u

/* 640x480 and its relatives: 60 Hz, 525 lines of which 480 are shown. */
#define FRAME_NS UINT64_C(16683333)
#define LINE_NS (FRAME_NS / 525)
#define LINES_SHOWN 480u
#define LINE_SHOWN_NS (LINE_NS * 4 / 5)

/* What the screen shows may be another. */
static void touch(struct vga *vga)
{
    if (vga->changed)
        return;
    vga->changed = true;
    if (vga->notify)
        vga->notify(vga->notify_opaque);
}

/* --- planes --- */

/* Each bit p of a nibble becomes byte p: 00h or FFh. */
static uint32_t spread(unsigned nibble)
{
    uint32_t word = 0;

    for (unsigned plane = 0; plane < 4; plane++)
        if (nibble >> plane & 1)
            word |= UINT32_C(0xff) << 8 * plane;
    return word;
}

static uint32_t all_planes(uint8_t byte)
{
    return byte * UINT32_C(0x01010101);
}

static uint32_t latched(const struct vga *vga)
{
    return pci_get32(vga->latch);
}

/* GC3: the data rotated, then combined with the latches. */
static uint32_t combine(const struct vga *vga, uint32_t data)
{
    switch (vga->gc[GC_ROTATE] >> 3 & 3) {
    case 1: return data & latched(vga);
    case 2: return data | latched(vga);
    case 3: return data ^ latched(vga);
    default: return data;
    }
}

static uint8_t rotated(const struct vga *vga, uint8_t byte)
{
    unsigned n = vga->gc[GC_ROTATE] & 7;

    return (uint8_t)(byte >> n | byte << (8 - n));
}

/* What is to be written, before the map mask: write modes 0 to 3. */
static uint32_t written(const struct vga *vga, uint8_t byte)
{
    uint32_t mask = all_planes(vga->gc[GC_BIT_MASK]);
    uint32_t set_reset = spread(vga->gc[GC_SET_RESET] & 15), data;

    switch (vga->gc[GC_MODE] & 3) {
    case 0: {
        uint32_t enabled = spread(vga->gc[GC_ENABLE_SET_RESET] & 15);

        data = (all_planes(rotated(vga, byte)) & ~enabled) | (set_reset & enabled);
        break;
    }
    case 1: return latched(vga);
    case 2: data = spread(byte & 15); break;
    default:
        mask &= all_planes(rotated(vga, byte));
        data = set_reset;
        break;
    }
    return (combine(vga, data) & mask) | (latched(vga) & ~mask);
}

static void store_planes(struct vga *vga, uint32_t at, uint32_t value, unsigned planes)
{
    uint8_t *to = vga->memory + at * 4;
    uint32_t mask = spread(planes);

    pci_put32(to, (pci_get32(to) & ~mask) | (value & mask));
}

static uint8_t load_planes(struct vga *vga, uint32_t at)
{
    uint32_t word = pci_get32(vga->memory + at * 4), differs;

    pci_put32(vga->latch, word);
    if (!(vga->gc[GC_MODE] & GC5_READ_COMPARE))
        return (uint8_t)(word >> 8 * (vga->gc[GC_READ_MAP] & 3));
    differs = (word ^ spread(vga->gc[GC_COMPARE] & 15)) & spread(vga->gc[GC_DONT_CARE] & 15);
    return (uint8_t) ~(differs | differs >> 8 | differs >> 16 | differs >> 24);
}

/* --- window --- */

static bool dispi_enabled(const struct vga *vga)
{
    return vga->dispi[DISPI_ENABLE] & DISPI_ENABLED;
}

/* GC6: which part of A0000h-BFFFFh is the window. False: not this address. */
static bool in_window(const struct vga *vga, uint64_t offset, uint32_t *address)
{
    static const struct {
        uint32_t start, size;
    } maps[4] = {{0, 0x20000}, {0, 0x10000}, {0x10000, 0x8000}, {0x18000, 0x8000}};
    unsigned map = vga->gc[GC_MISC] >> 2 & 3;

    *address = (uint32_t)offset - maps[map].start;
    if (offset < maps[map].start || *address >= maps[map].size)
        return false;
    if (dispi_enabled(vga))
        *address += (uint32_t)vga->dispi[DISPI_BANK] << 16;
    return true;
}

static uint8_t window_load(struct vga *vga, uint32_t address)
{
    if (vga->seq[SEQ_MEMORY_MODE] & SEQ4_CHAIN_4)
        return address < VGA_MEMORY ? vga->memory[address] : 0xff;
    if (vga->gc[GC_MODE] & GC5_ODD_EVEN) {
        uint32_t at = ((address & ~1u) << 1) | (address & 1);

        return at < VGA_MEMORY ? vga->memory[at] : 0xff;
    }
    return address < VGA_MEMORY / 4 ? load_planes(vga, address) : 0xff;
}

static void window_store(struct vga *vga, uint32_t address, uint8_t byte)
{
    unsigned planes = vga->seq[SEQ_MAP_MASK] & 15;

    if (vga->seq[SEQ_MEMORY_MODE] & SEQ4_CHAIN_4) {
        if (address < VGA_MEMORY && (planes >> (address & 3) & 1))
            vga->memory[address] = byte;
    } else if (!(vga->seq[SEQ_MEMORY_MODE] & SEQ4_ODD_EVEN_OFF)) {
        uint32_t at = ((address & ~1u) << 1) | (address & 1);

        if (at < VGA_MEMORY && (planes >> (address & 1) & 1))
            vga->memory[at] = byte;
    } else if (address < VGA_MEMORY / 4) {
        store_planes(vga, address, written(vga, byte), planes);
    }
}

static uint64_t window_read(void *opaque, uint64_t offset, unsigned size)
{
    struct vga *vga = opaque;
    uint64_t value = 0;
    uint32_t address;

    for (unsigned i = 0; i < size; i++) {
        uint8_t byte = in_window(vga, offset + i, &address) ? window_load(vga, address) : 0xff;

        value |= (uint64_t)byte << 8 * i;
    }
    return value;
}

static void window_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct vga *vga = opaque;
    uint32_t address;

    touch(vga);
    for (unsigned i = 0; i < size; i++, value >>= 8)
        if (in_window(vga, offset + i, &address))
            window_store(vga, address, (uint8_t)value);
}

/* --- registers --- */

/* 3DAh: bit 0 outside of the picture, bit 3 vertical retrace. Reading it makes the next write to
 * 3C0h an index. */
static uint8_t read_status(struct vga *vga)
{
    uint64_t at = clock_now(vga->clock) % FRAME_NS;
    uint64_t line = at / LINE_NS, in_line = at % LINE_NS;

    vga->attr_data = false;
    if (line >= LINES_SHOWN + 10 && line < LINES_SHOWN + 12)
        return 0x09;
    return line >= LINES_SHOWN || in_line >= LINE_SHOWN_NS;
}

static void write_attribute(struct vga *vga, uint8_t value)
{
    unsigned index = vga->attr_index & 31;

    if (!vga->attr_data)
        vga->attr_index = value & 0x3f;
    else if (index <= ATTR_COLOR)
        vga->attr[index] = value & 0x3f;
    if (vga->attr_data && index == ATTR_MODE)
        vga->attr[index] = value;
    vga->attr_data = !vga->attr_data;
}

static uint8_t read_palette(struct vga *vga)
{
    uint8_t value = vga->palette[vga->dac_read * 3 + vga->dac_component];

    if (++vga->dac_component == 3) {
        vga->dac_component = 0;
        vga->dac_read++;
    }
    return value;
}

static void write_palette(struct vga *vga, uint8_t value)
{
    if (!(vga->dispi[DISPI_ENABLE] & DISPI_8BIT_DAC))
        value &= 0x3f;
    vga->palette[vga->dac_write * 3 + vga->dac_component] = value;
    if (++vga->dac_component == 3) {
        vga->dac_component = 0;
        vga->dac_write++;
    }
}

static void write_crtc(struct vga *vga, uint8_t value)
{
    unsigned index = vga->crtc_index & (VGA_CRTC_REGS - 1);

    /* Registers 0 to 7 can be protected, but for the highest bit of the line compare. */
    if (index <= CRTC_OVERFLOW && (vga->crtc[CRTC_RETRACE_END] & CRTC11_PROTECT)) {
        if (index == CRTC_OVERFLOW)
            vga->crtc[index] = (uint8_t)((vga->crtc[index] & ~0x10) | (value & 0x10));
        return;
    }
    vga->crtc[index] = value;
}

static uint8_t read_register(struct vga *vga, unsigned port)
{
    switch (port) {
    case 0x3c0: return vga->attr_index;
    case 0x3c1: return vga->attr[vga->attr_index & (VGA_ATTR_REGS - 1)];
    case 0x3c2: return 0x10; /* a display is connected */
    case 0x3c4: return vga->seq_index;
    case 0x3c5: return vga->seq[vga->seq_index & (VGA_SEQ_REGS - 1)];
    case 0x3c6: return vga->dac_mask;
    case 0x3c7: return vga->dac_state;
    case 0x3c8: return vga->dac_write;
    case 0x3c9: return read_palette(vga);
    case 0x3ca: return vga->feature;
    case 0x3cc: return vga->misc;
    case 0x3ce: return vga->gc_index;
    case 0x3cf: return vga->gc[vga->gc_index & (VGA_GC_REGS - 1)];
    case 0x3d4: return vga->crtc_index;
    case 0x3d5: return vga->crtc[vga->crtc_index & (VGA_CRTC_REGS - 1)];
    case 0x3da: return read_status(vga);
    default: return 0xff;
    }
}

static void write_register(struct vga *vga, unsigned port, uint8_t value)
{
    switch (port) {
    case 0x3c0: write_attribute(vga, value); break;
    case 0x3c2: vga->misc = value; break;
    case 0x3c4: vga->seq_index = value; break;
    case 0x3c5: vga->seq[vga->seq_index & (VGA_SEQ_REGS - 1)] = value; break;
    case 0x3c6: vga->dac_mask = value; break;
    case 0x3c7:
        vga->dac_read = value;
        vga->dac_component = 0;
        vga->dac_state = 3;
        break;
    case 0x3c8:
        vga->dac_write = value;
        vga->dac_component = 0;
        vga->dac_state = 0;
        break;
    case 0x3c9: write_palette(vga, value); break;
    case 0x3ce: vga->gc_index = value; break;
    case 0x3cf: vga->gc[vga->gc_index & (VGA_GC_REGS - 1)] = value; break;
    case 0x3d4: vga->crtc_index = value; break;
    case 0x3d5: write_crtc(vga, value); break;
    case 0x3da: vga->feature = value; break;
    default: break;
    }
}

/* 3B4h to 3BAh are 3D4h to 3DAh of a monochrome display. */
static unsigned real_port(const struct vga *vga, unsigned port)
{
    bool color = vga->misc & MISC_COLOR;

    if (port >= 0x3b0 && port <= 0x3bf)
        return color ? 0 : port + 0x20;
    return port >= 0x3d0 && !color ? 0 : port;
}

static uint64_t port_read(void *opaque, uint64_t offset, unsigned size)
{
    struct vga *vga = opaque;

    (void)size;
    return read_register(vga, real_port(vga, 0x3b0 + (unsigned)offset));
}

static void port_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct vga *vga = opaque;

    (void)size;
    touch(vga);
    write_register(vga, real_port(vga, 0x3b0 + (unsigned)offset), (uint8_t)value);
}

/* --- DISPI --- */

static uint32_t bytes_for(uint32_t pixels, unsigned bpp)
{
    return bpp == 4 ? pixels / 8 * 4 : pixels * ((bpp + 7) / 8);
}

uint32_t vga_dispi_pitch(const struct vga *vga)
{
    return bytes_for(vga->dispi[DISPI_VIRT_WIDTH], vga->dispi[DISPI_BPP]);
}

uint32_t vga_dispi_start(const struct vga *vga)
{
    return vga->dispi[DISPI_Y_OFFSET] * vga_dispi_pitch(vga) +
           bytes_for(vga->dispi[DISPI_X_OFFSET], vga->dispi[DISPI_BPP]);
}

static bool bpp_exists(unsigned bpp)
{
    return bpp == 4 || bpp == 8 || bpp == 15 || bpp == 16 || bpp == 24 || bpp == 32;
}

/* A mode that is larger than the memory becomes one that fits, line by line. */
static void fit_mode(struct vga *vga)
{
    uint16_t *d = vga->dispi;
    uint32_t pitch, lines;

    if (!bpp_exists(d[DISPI_BPP]))
        d[DISPI_BPP] = 8;
    d[DISPI_XRES] = d[DISPI_XRES] > DISPI_XRES_MAX ? DISPI_XRES_MAX : d[DISPI_XRES] & ~7;
    d[DISPI_XRES] = d[DISPI_XRES] ? d[DISPI_XRES] : 8;
    d[DISPI_YRES] = d[DISPI_YRES] > DISPI_YRES_MAX ? DISPI_YRES_MAX : d[DISPI_YRES];
    d[DISPI_YRES] = d[DISPI_YRES] ? d[DISPI_YRES] : 1;
    if (d[DISPI_VIRT_WIDTH] < d[DISPI_XRES])
        d[DISPI_VIRT_WIDTH] = d[DISPI_XRES];
    pitch = vga_dispi_pitch(vga);
    lines = (uint32_t)(VGA_MEMORY / pitch);
    d[DISPI_VIRT_HEIGHT] = (uint16_t)(lines < UINT16_MAX ? lines : UINT16_MAX);
    if (d[DISPI_YRES] > lines)
        d[DISPI_YRES] = (uint16_t)lines;
    if (d[DISPI_X_OFFSET] > d[DISPI_VIRT_WIDTH] - d[DISPI_XRES])
        d[DISPI_X_OFFSET] = (uint16_t)(d[DISPI_VIRT_WIDTH] - d[DISPI_XRES]);
    if (d[DISPI_Y_OFFSET] > d[DISPI_VIRT_HEIGHT] - d[DISPI_YRES])
        d[DISPI_Y_OFFSET] = (uint16_t)(d[DISPI_VIRT_HEIGHT] - d[DISPI_YRES]);
}

/* Switching a mode on begins with a black picture, and with the VGA in a mode whose window fits. */
static void enable_dispi(struct vga *vga, uint16_t value)
{
    bool was = dispi_enabled(vga);

    vga->dispi[DISPI_ENABLE] = value;
    if (!dispi_enabled(vga)) {
        vga->dispi[DISPI_BANK] = 0;
        return;
    }
    if (was)
        return;
    vga->dispi[DISPI_VIRT_WIDTH] = vga->dispi[DISPI_X_OFFSET] = vga->dispi[DISPI_Y_OFFSET] = 0;
    fit_mode(vga);
    if (!(value & DISPI_NO_CLEAR)) {
        memset(vga->memory, 0, (size_t)vga_dispi_pitch(vga) * vga->dispi[DISPI_YRES]);
        memory_touched(vga->mem, vga->mem->video->base, VGA_MEMORY);
    }
    vga->gc[GC_MISC] = (uint8_t)((vga->gc[GC_MISC] & ~0x0c) | 0x05);
    vga->attr[ATTR_MODE] |= 1;
    if (vga->dispi[DISPI_BPP] == 4) {
        vga->seq[SEQ_MEMORY_MODE] = SEQ4_ODD_EVEN_OFF | 2;
    } else {
        vga->seq[SEQ_MEMORY_MODE] = SEQ4_CHAIN_4 | SEQ4_ODD_EVEN_OFF | 2;
        vga->seq[SEQ_MAP_MASK] = 15;
    }
}

static uint16_t read_dispi(const struct vga *vga)
{
    bool caps = vga->dispi[DISPI_ENABLE] & DISPI_GET_CAPS;

    switch (vga->dispi_index) {
    case DISPI_ID: return vga->dispi[DISPI_ID];
    case DISPI_XRES: return caps ? DISPI_XRES_MAX : vga->dispi[DISPI_XRES];
    case DISPI_YRES: return caps ? DISPI_YRES_MAX : vga->dispi[DISPI_YRES];
    case DISPI_BPP: return caps ? 32 : vga->dispi[DISPI_BPP];
    case DISPI_MEMORY: return VGA_MEMORY / (64 * KIB);
    default: return vga->dispi_index < DISPI_REGS ? vga->dispi[vga->dispi_index] : 0;
    }
}

static void write_dispi(struct vga *vga, uint16_t value)
{
    trace_vga_dispi(vga->dispi_index, value);
    touch(vga);
    switch (vga->dispi_index) {
    case DISPI_ID:
        if (value >= 0xb0c0 && value <= DISPI_VERSION)
            vga->dispi[DISPI_ID] = value;
        return;
    case DISPI_XRES:
    case DISPI_YRES:
    case DISPI_BPP:
        if (dispi_enabled(vga))
            return;
        vga->dispi[vga->dispi_index] = value;
        return;
    case DISPI_ENABLE: enable_dispi(vga, value); return;
    case DISPI_BANK: vga->dispi[DISPI_BANK] = value & (VGA_MEMORY / (64 * KIB) - 1); return;
    case DISPI_VIRT_WIDTH:
        vga->dispi[DISPI_VIRT_WIDTH] = value & 0x7ff8;
        fit_mode(vga);
        return;
    case DISPI_X_OFFSET:
    case DISPI_Y_OFFSET:
        vga->dispi[vga->dispi_index] = value;
        fit_mode(vga);
        return;
    default: return;
    }
}

static uint64_t dispi_read(void *opaque, uint64_t offset, unsigned size)
{
    const struct vga *vga = opaque;

    (void)size;
    return offset ? read_dispi(vga) : vga->dispi_index;
}

static void dispi_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct vga *vga = opaque;

    (void)size;
    if (offset)
        write_dispi(vga, (uint16_t)value);
    else
        vga->dispi_index = (uint16_t)value;
}

/* --- BAR 2: ports 3C0h-3DFh at 400h, DISPI registers at 500h --- */

static uint64_t mmio_read(void *opaque, uint64_t offset, unsigned size)
{
    struct vga *vga = opaque;
    uint16_t index = vga->dispi_index, value;

    if (offset >= 0x400 && offset < 0x420)
        return port_read(vga, offset - 0x400 + 0x10, 1) |
               (size == 2 ? port_read(vga, offset - 0x400 + 0x11, 1) << 8 : 0);
    if (offset < 0x500 || offset >= 0x500 + 2 * DISPI_REGS)
        return UINT64_MAX;
    vga->dispi_index = (uint16_t)((offset - 0x500) / 2);
    value = read_dispi(vga);
    vga->dispi_index = index;
    return value;
}

static void mmio_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct vga *vga = opaque;
    uint16_t index = vga->dispi_index;

    if (offset >= 0x400 && offset < 0x420) {
        port_write(vga, offset - 0x400 + 0x10, value & 0xff, 1);
        if (size == 2)
            port_write(vga, offset - 0x400 + 0x11, value >> 8, 1);
    } else if (offset >= 0x500 && offset < 0x500 + 2 * DISPI_REGS && size == 2) {
        vga->dispi_index = (uint16_t)((offset - 0x500) / 2);
        write_dispi(vga, (uint16_t)value);
        vga->dispi_index = index;
    }
}

/* --- PCI --- */

/* The frame buffer is RAM, which hides everything; so it is only where base registers belong. */
static void place_memory(struct vga *vga)
{
    gpa_t end = 0xfec00000, base = 0;
    bool visible = pci_bar_place(&vga->pci, 0, &base) && base >= memory_low_size(vga->mem) &&
                   base >= MIB && base <= end - VGA_MEMORY;
    gpa_t old = vga->mem->video->base;

    memory_place_video(vga->mem, base, visible);
    if (vga->mem->video->base != old && vga->remapped)
        vga->remapped(vga->opaque);
}

static void config_written(void *opaque, unsigned offset, unsigned size)
{
    if (offset < PCI_BAR0 + 4 && offset + size > PCI_COMMAND)
        place_memory(opaque);
}

/* As a BIOS finds it: everything off. */
static void vga_reset(void *opaque)
{
    struct vga *vga = opaque;

    vga->misc = MISC_COLOR;
    vga->feature = vga->seq_index = vga->gc_index = vga->attr_index = vga->crtc_index = 0;
    vga->attr_data = false;
    vga->dac_mask = 0xff;
    vga->dac_read = vga->dac_write = vga->dac_component = vga->dac_state = 0;
    vga->dispi_index = 0;
    memset(vga->seq, 0, sizeof vga->seq);
    memset(vga->gc, 0, sizeof vga->gc);
    memset(vga->attr, 0, sizeof vga->attr);
    memset(vga->crtc, 0, sizeof vga->crtc);
    memset(vga->palette, 0, sizeof vga->palette);
    memset(vga->latch, 0, sizeof vga->latch);
    memset(vga->dispi, 0, sizeof vga->dispi);
    vga->dispi[DISPI_ID] = DISPI_VERSION;
    place_memory(vga);
}

static const struct io_ops mmio_ops = {.read = mmio_read, .write = mmio_write, .max_size = 2};

static const struct pci_info info = {
    .name = "vga",
    .vendor = 0x1234,
    .device = 0x1111,
    .subsystem_vendor = 0x1af4,
    .subsystem = 0x1100,
    .class_code = 0x030000,
    .revision = 2,
    .bars = {[0] = {PCI_BAR_MEMORY, VGA_MEMORY, NULL, true},
             [2] = {PCI_BAR_MEMORY, 0x1000, &mmio_ops, false}},
    .reset = vga_reset,
    .config_written = config_written,
};

/* --- life --- */

int vga_init(struct vga *vga, struct pci_bus *pci, struct clock *clock, const uint8_t *rom,
             uint32_t rom_size, struct err *err)
{
    int rc;

    memset(vga, 0, sizeof *vga);
    vga->clock = clock;
    vga->mem = pci->mem;
    rc = memory_add_video(vga->mem, VGA_MEMORY, err);
    if (rc < 0)
        return rc;
    vga->memory = vga->mem->video->host;
    pci_device_init(&vga->pci, &info, vga);
    vga->pci.rom = rom;
    vga->pci.rom_size = rom_size;
    return pci_add(pci, &vga->pci, PCI_DEVFN(2, 0), err);
}

void vga_attach(struct vga *vga, struct bus *bus)
{
    static const struct io_ops ports = {.read = port_read, .write = port_write};
    static const struct io_ops dispi = {
        .read = dispi_read, .write = dispi_write, .min_size = 2, .max_size = 2};
    static const struct io_ops window = {.read = window_read, .write = window_write, .max_size = 8};

    bus_add_pio(bus, "vga", 0x3b0, 0x30, &ports, vga);
    bus_add_pio(bus, "vga_dispi", 0x1ce, 3, &dispi, vga); /* words at 1CEh and at 1CFh */
    bus_add_mmio(bus, "vga", WINDOW, WINDOW_SIZE, &window, vga);
}

/* --- state --- */

static int loaded(void *object, struct err *err)
{
    struct vga *vga = object;

    (void)err;
    vga->dac_component %= 3;
    vga->dispi[DISPI_BANK] &= VGA_MEMORY / (64 * KIB) - 1;
    if (dispi_enabled(vga))
        fit_mode(vga);
    place_memory(vga);
    touch(vga);
    return 0;
}

static const struct field fields[] = {
    FIELD(struct vga, misc),          FIELD(struct vga, feature),
    FIELD(struct vga, seq_index),     FIELD_ARRAY(struct vga, seq),
    FIELD(struct vga, gc_index),      FIELD_ARRAY(struct vga, gc),
    FIELD(struct vga, attr_index),    FIELD_ARRAY(struct vga, attr),
    FIELD(struct vga, attr_data),     FIELD(struct vga, crtc_index),
    FIELD_ARRAY(struct vga, crtc),    FIELD(struct vga, dac_mask),
    FIELD(struct vga, dac_read),      FIELD(struct vga, dac_write),
    FIELD(struct vga, dac_component), FIELD(struct vga, dac_state),
    FIELD_BYTES(struct vga, palette), FIELD_ARRAY(struct vga, latch),
    FIELD(struct vga, dispi_index),   FIELD_ARRAY(struct vga, dispi),
};

const struct state_desc vga_state_desc = {
    .name = "vga",
    .version = 1,
    .fields = fields,
    .field_count = ARRAY_SIZE(fields),
    .loaded = loaded,
};
