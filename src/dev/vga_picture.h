/* vga_picture.h - what the display of dev/vga.h shows at the moment: as a picture, and in text
 * modes as text.
 *
 * With the bus lock held. */
#ifndef DOBLE_DEV_VGA_PICTURE_H
#define DOBLE_DEV_VGA_PICTURE_H

#include "dev/vga.h"

struct vga_picture {
    unsigned width, height;
    uint8_t *rgb; /* 3 bytes a pixel, lines from the top; the caller's to free */
};

/* False: not enough memory. A display that is off gives a small black picture. */
bool vga_picture_make(const struct vga *vga, struct vga_picture *picture) MUST_USE;

#define VGA_TEXT_COLUMNS 160u
#define VGA_TEXT_ROWS 100u

struct vga_cell {
    uint8_t character; /* code page 437, if the guest's font is the usual one */
    uint8_t attribute; /* 3:0 foreground, 6:4 background, 7 blinks or bright background */
};

struct vga_text {
    unsigned columns, rows;
    bool cursor; /* is shown */
    unsigned cursor_column, cursor_row;
    bool blink; /* bit 7 of attributes is not a color */
    struct vga_cell cells[VGA_TEXT_ROWS][VGA_TEXT_COLUMNS];
};

/* False: the display is not in a text mode. */
bool vga_text_get(const struct vga *vga, struct vga_text *text) MUST_USE;

#endif
