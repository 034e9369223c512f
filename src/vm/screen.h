/* screen.h - the guest's text screen in a terminal: what the display shows as ANSI sequences, and
 * what is typed as scan codes of a PC's keyboard.
 *
 *   dev/vga.c (changed) --> at most 30 times a second: vga_text_get() --> differences --> console
 *   console input --> keys --> dev/i8042.c
 *
 * Nothing is looked at while the screen stays as it is. Main thread; the bus lock is taken where
 * the machine is touched. */
#ifndef DOBLE_VM_SCREEN_H
#define DOBLE_VM_SCREEN_H

#include "base/loop.h"
#include "dev/vga_picture.h"
#include "machine/pc.h"
#include "vm/console.h"

struct screen {
    struct pc *pc;
    struct console *console;
    /* Something else is on the terminal at the moment; may be NULL. */
    bool (*covered)(void *opaque);
    void *opaque;
    struct loop_hook hook;

    bool all;            /* draw everything */
    bool graphics;       /* the display is in no text mode, and this was said */
    uint64_t drawn_at;   /* host ms */
    uint64_t keys_since; /* host ms since when the keyboard takes nothing; 0: it does */
    struct vga_text now, shown;
};

/* Between the machine's display and keyboard, and a console's ends. */
void screen_init(struct screen *screen, struct pc *pc, struct console *console, struct loop *loop);

/* Leaves the terminal below the screen. */
void screen_end(struct screen *screen);

#endif
