/* vga_picture.c - see vga_picture.h. Everything is read from registers and memory anew, and every
 * address is kept within the memory: the guest can have set them to anything. */
#include "dev/vga_picture.h"

#include <stdlib.h>
#include <string.h>

#define GC5_SHIFT_256 0x40u
#define GC5_SHIFT_INTERLEAVED 0x20u
#define GC6_GRAPHICS 0x01u
#define ATTR10_LINE_GRAPHICS 0x04u
#define ATTR10_BLINK 0x08u
#define ATTR10_PALETTE_BITS 0x80u
#define SEQ1_EIGHT_DOTS 0x01u
#define SEQ1_HALF_CLOCK 0x08u
#define SEQ1_SCREEN_OFF 0x20u
#define CRTC9_DOUBLE_SCAN 0x80u
#define CRTC17_NO_CGA 0x01u
#define CURSOR_OFF 0x20u

/* --- colors --- */

static void put_color(const struct vga *vga, unsigned index, uint8_t *rgb)
{
    const uint8_t *c = vga->palette + 3 * (index & vga->dac_mask & 0xff);
    bool wide = vga->dispi[DISPI_ENABLE] & DISPI_8BIT_DAC;

    for (unsigned i = 0; i < 3; i++)
        rgb[i] = wide ? c[i] : (uint8_t)(c[i] << 2 | c[i] >> 4);
}

/* A color of 4 bits goes through the attribute controller's palette. */
static unsigned attribute_color(const struct vga *vga, unsigned color)
{
    unsigned c = vga->attr[color & vga->attr[ATTR_PLANES] & 15] & 0x3f;
    unsigned select = vga->attr[ATTR_COLOR];

    if (vga->attr[ATTR_MODE] & ATTR10_PALETTE_BITS)
        return (c & 15) | (select & 15) << 4;
    return c | (select & 12) << 4;
}

static void put_16(const struct vga *vga, unsigned color, uint8_t *rgb)
{
    put_color(vga, attribute_color(vga, color), rgb);
}

static uint8_t byte_at(const struct vga *vga, uint64_t offset)
{
    return vga->memory[offset % VGA_MEMORY];
}

/* --- geometry --- */

static unsigned vertical_end(const struct vga *vga)
{
    uint8_t overflow = vga->crtc[CRTC_OVERFLOW];

    return (vga->crtc[CRTC_VERTICAL_END] | (overflow & 2u) << 7 | (overflow & 0x40u) << 3) + 1;
}

static unsigned scan_lines(const struct vga *vga)
{
    return (vga->crtc[CRTC_MAX_SCAN] & 31) + 1u;
}

static uint32_t start_address(const struct vga *vga)
{
    return (uint32_t)vga->crtc[CRTC_START_HIGH] << 8 | vga->crtc[CRTC_START_LOW];
}

static bool make(struct vga_picture *picture, unsigned width, unsigned height)
{
    picture->width = width ? width : 1;
    picture->height = height ? height : 1;
    picture->rgb = calloc((size_t)picture->width * picture->height, 3);
    return picture->rgb != NULL;
}

static uint8_t *pixel(const struct vga_picture *picture, unsigned x, unsigned y)
{
    return picture->rgb + 3 * ((size_t)y * picture->width + x);
}

/* --- text --- */

static bool is_text(const struct vga *vga)
{
    return !(vga->dispi[DISPI_ENABLE] & DISPI_ENABLED) && !(vga->gc[GC_MISC] & GC6_GRAPHICS);
}

static bool is_off(const struct vga *vga)
{
    return vga->seq[SEQ_CLOCKING] & SEQ1_SCREEN_OFF || !(vga->attr_index & 0x20) ||
           !vga->crtc[CRTC_DISPLAY_END];
}

bool vga_text_get(const struct vga *vga, struct vga_text *text)
{
    unsigned columns = vga->crtc[CRTC_DISPLAY_END] + 1u;
    unsigned rows = vertical_end(vga) / scan_lines(vga);
    uint32_t start = start_address(vga), pitch = vga->crtc[CRTC_OFFSET] * 2u;
    uint32_t cursor =
        ((uint32_t)vga->crtc[CRTC_CURSOR_HIGH] << 8 | vga->crtc[CRTC_CURSOR_LOW]) - start;

    if (!is_text(vga) || is_off(vga) || !pitch)
        return false;
    text->columns = columns < VGA_TEXT_COLUMNS ? columns : VGA_TEXT_COLUMNS;
    text->rows = rows < VGA_TEXT_ROWS ? rows : VGA_TEXT_ROWS;
    text->blink = vga->attr[ATTR_MODE] & ATTR10_BLINK;
    text->cursor_column = cursor % pitch;
    text->cursor_row = cursor / pitch;
    text->cursor = !(vga->crtc[CRTC_CURSOR_START] & CURSOR_OFF) &&
                   text->cursor_column < text->columns && text->cursor_row < text->rows;
    for (unsigned row = 0; row < text->rows; row++)
        for (unsigned column = 0; column < text->columns; column++) {
            uint64_t at = 4 * (uint64_t)(start + row * pitch + column);

            text->cells[row][column] = (struct vga_cell){byte_at(vga, at), byte_at(vga, at + 1)};
        }
    return true;
}

/* The 8 dots of a line of a character; SEQ3 chooses between two fonts in plane 2. */
static uint8_t font_line(const struct vga *vga, struct vga_cell cell, unsigned line)
{
    uint8_t map = vga->seq[SEQ_CHARACTER_MAP];
    unsigned a = (map >> 2 & 3u) | (map >> 3 & 4u), b = (map & 3u) | (map >> 2 & 4u);
    unsigned font = cell.attribute & 8 ? a : b;
    uint32_t base = (font & 3) * 0x4000u + (font >> 2) * 0x2000u;

    return byte_at(vga, 4 * (uint64_t)(base + cell.character * 32u + line) + 2);
}

struct text_drawing {
    const struct vga *vga;
    const struct vga_text *text;
    const struct vga_picture *picture;
    unsigned dots, lines; /* of a character */
};

static bool cursor_covers(const struct text_drawing *d, unsigned row, unsigned column,
                          unsigned line)
{
    const struct vga *vga = d->vga;

    return d->text->cursor && row == d->text->cursor_row && column == d->text->cursor_column &&
           line >= (vga->crtc[CRTC_CURSOR_START] & 31u) &&
           line <= (vga->crtc[CRTC_CURSOR_END] & 31u);
}

static void draw_character(const struct text_drawing *d, unsigned row, unsigned column)
{
    const struct vga *vga = d->vga;
    struct vga_cell cell = d->text->cells[row][column];
    unsigned background = cell.attribute >> 4 & (d->text->blink ? 7 : 15);
    bool repeats = vga->attr[ATTR_MODE] & ATTR10_LINE_GRAPHICS && (cell.character & 0xe0) == 0xc0;

    for (unsigned line = 0; line < d->lines; line++) {
        unsigned bits = font_line(vga, cell, line) << 1;

        bits |= repeats ? bits >> 1 & 1 : 0; /* the ninth dot of a line-drawing character */
        if (cursor_covers(d, row, column, line))
            bits = 0x1ff;
        for (unsigned x = 0; x < d->dots; x++)
            put_16(vga, bits >> (8 - x) & 1 ? cell.attribute & 15u : background,
                   pixel(d->picture, column * d->dots + x, row * d->lines + line));
    }
}

static bool draw_text(const struct vga *vga, const struct vga_text *text,
                      struct vga_picture *picture)
{
    struct text_drawing d = {vga, text, picture, vga->seq[SEQ_CLOCKING] & SEQ1_EIGHT_DOTS ? 8 : 9,
                             scan_lines(vga)};

    if (!make(picture, text->columns * d.dots, text->rows * d.lines))
        return false;
    for (unsigned row = 0; row < text->rows; row++)
        for (unsigned column = 0; column < text->columns; column++)
            draw_character(&d, row, column);
    return true;
}

/* --- graphics of the IBM VGA --- */

/* Where a line begins, in bytes of a plane: CGA modes keep odd lines in another bank. */
static uint32_t line_address(const struct vga *vga, unsigned line)
{
    uint32_t pitch = vga->crtc[CRTC_OFFSET] * 2u, bank = 0;

    if (!(vga->crtc[CRTC_MODE] & CRTC17_NO_CGA)) {
        bank = (line & 1) * 0x2000;
        line >>= 1;
    }
    return start_address(vga) + line * pitch + bank;
}

/* 8 pixels from the four planes. */
static void draw_planar(const struct vga *vga, uint32_t address, uint8_t *rgb)
{
    const uint64_t at = 4 * (uint64_t)address;

    for (unsigned x = 0; x < 8; x++) {
        unsigned color = 0;

        for (unsigned plane = 0; plane < 4; plane++)
            color |= (byte_at(vga, at + plane) >> (7 - x) & 1u) << plane;
        put_16(vga, color, rgb + 3 * x);
    }
}

/* 8 pixels of 2 bits, from planes 0 and 1. */
static void draw_cga(const struct vga *vga, uint32_t address, uint8_t *rgb)
{
    for (unsigned x = 0; x < 8; x++) {
        uint8_t byte = byte_at(vga, 4 * (uint64_t)address + x / 4);

        put_16(vga, byte >> (6 - 2 * (x & 3)) & 3u, rgb + 3 * x);
    }
}

static bool draw_graphics(const struct vga *vga, struct vga_picture *picture)
{
    uint8_t mode = vga->gc[GC_MODE];
    unsigned groups = vga->crtc[CRTC_DISPLAY_END] + 1u; /* of 8 dots */
    unsigned repeat = scan_lines(vga) << (vga->crtc[CRTC_MAX_SCAN] & CRTC9_DOUBLE_SCAN ? 1 : 0);
    unsigned lines;

    /* Row scan addresses: the lines of a CGA bank are no repetitions. */
    if (!(vga->crtc[CRTC_MODE] & CRTC17_NO_CGA) && repeat > 1)
        repeat /= 2;
    lines = vertical_end(vga) / repeat;
    if (!make(picture, mode & GC5_SHIFT_256 ? groups * 4 : groups * 8, lines))
        return false;
    for (unsigned y = 0; y < picture->height; y++) {
        uint32_t start = line_address(vga, y);

        for (unsigned x = 0; mode & GC5_SHIFT_256 && x < picture->width; x++)
            put_color(vga, byte_at(vga, 4 * (uint64_t)start + x), pixel(picture, x, y));
        for (unsigned g = 0; !(mode & GC5_SHIFT_256) && g < groups; g++)
            if (mode & GC5_SHIFT_INTERLEAVED)
                draw_cga(vga, start + g, pixel(picture, g * 8, y));
            else
                draw_planar(vga, start + g, pixel(picture, g * 8, y));
    }
    return true;
}

/* --- DISPI modes --- */

/* n bits, as 8. */
static uint8_t scale(unsigned value, unsigned bits)
{
    return (uint8_t)(value << (8 - bits) | value >> (2 * bits - 8));
}

static void draw_dispi_pixel(const struct vga *vga, uint64_t at, uint8_t *rgb)
{
    unsigned word = byte_at(vga, at) | byte_at(vga, at + 1) << 8;

    switch (vga->dispi[DISPI_BPP]) {
    case 8: put_color(vga, word & 0xff, rgb); break;
    case 15:
        rgb[0] = scale(word >> 10 & 31, 5);
        rgb[1] = scale(word >> 5 & 31, 5);
        rgb[2] = scale(word & 31, 5);
        break;
    case 16:
        rgb[0] = scale(word >> 11, 5);
        rgb[1] = scale(word >> 5 & 63, 6);
        rgb[2] = scale(word & 31, 5);
        break;
    default:
        rgb[0] = byte_at(vga, at + 2);
        rgb[1] = byte_at(vga, at + 1);
        rgb[2] = byte_at(vga, at);
        break;
    }
}

static bool draw_dispi(const struct vga *vga, struct vga_picture *picture)
{
    unsigned bpp = vga->dispi[DISPI_BPP], bytes = (bpp + 7) / 8;
    uint64_t pitch = vga_dispi_pitch(vga), start = vga_dispi_start(vga);

    if (!make(picture, vga->dispi[DISPI_XRES], vga->dispi[DISPI_YRES]))
        return false;
    for (unsigned y = 0; y < picture->height; y++) {
        if (bpp == 4)
            for (unsigned x = 0; x + 8 <= picture->width; x += 8)
                draw_planar(vga, (uint32_t)((start + y * pitch) / 4 + x / 8), pixel(picture, x, y));
        for (unsigned x = 0; bpp != 4 && x < picture->width; x++)
            draw_dispi_pixel(vga, start + y * pitch + (uint64_t)x * bytes, pixel(picture, x, y));
    }
    return true;
}

bool vga_picture_make(const struct vga *vga, struct vga_picture *picture)
{
    struct vga_text *text;
    bool ok;

    if (vga->dispi[DISPI_ENABLE] & DISPI_ENABLED)
        return draw_dispi(vga, picture);
    if (is_off(vga))
        return make(picture, 640, 400);
    if (!is_text(vga))
        return draw_graphics(vga, picture);
    text = malloc(sizeof *text);
    ok =
        text && (vga_text_get(vga, text) ? draw_text(vga, text, picture) : make(picture, 640, 400));
    free(text);
    return ok;
}
