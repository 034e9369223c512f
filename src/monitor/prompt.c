/* prompt.c - a small line editor, and the answers on the guest's console.
 *
 *   Enter       run the line              Ctrl-D   leave (on an empty line)
 *   Backspace   take back a character     Ctrl-W   ... a word
 *   Ctrl-U, Ctrl-C   ... all              Up, Ctrl-P   the last line again
 *   Ctrl-L      show the line again, after the guest wrote into it
 *
 * All that is shown goes through the console's ring, in order with what the guest writes. */
#include "monitor/prompt.h"

#include "monitor/text.h"
#include "vm/vm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CTRL(letter) ((letter)&0x1f)
#define KEY_ESCAPE 0x1b
#define KEY_DELETE 0x7f

/* --- what is shown --- */

static void show_bytes(struct prompt *p, const char *bytes, size_t count)
{
    console_write(p->vm->config.console, (const uint8_t *)bytes, count);
}

static void show(struct prompt *p, const char *text)
{
    show_bytes(p, text, strlen(text));
}

/* The terminal is raw: a new line needs both characters. */
static void show_lines(struct prompt *p, const char *text)
{
    for (const char *end; (end = strchr(text, '\n')); text = end + 1) {
        show_bytes(p, text, (size_t)(end - text));
        show(p, "\r\n");
    }
    show(p, text);
}

static void show_line_again(struct prompt *p)
{
    show(p, "\r\n" TEXT_PROMPT);
    show_bytes(p, p->line, p->length);
}

/* --- editing --- */

/* The second and later bytes of a character in UTF-8 take no place on the screen. */
static void erase(struct prompt *p, size_t count)
{
    for (; count; count--) {
        bool more = (p->line[--p->length] & 0xc0) == 0x80;

        if (!more)
            show(p, "\b \b");
        else if (count == 1 && p->length)
            count++; /* a character goes as a whole */
    }
}

static void insert(struct prompt *p, const char *text)
{
    for (; *text && p->length < PROMPT_MAX_LINE; text++) {
        p->line[p->length++] = *text;
        show_bytes(p, text, 1);
    }
}

static size_t last_word(const struct prompt *p)
{
    size_t at = p->length;

    while (at && p->line[at - 1] == ' ')
        at--;
    while (at && p->line[at - 1] != ' ')
        at--;
    return p->length - at;
}

/* --- running --- */

static void run(struct prompt *p)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    bool stay = true;

    if (out) {
        stay = text_run(p->vm, p->line, out);
        if (fclose(out) == 0)
            show_lines(p, text);
        free(text);
    } else {
        show_lines(p, "error: out of memory\n");
    }
    if (!stay)
        prompt_close(p);
}

static void enter(struct prompt *p)
{
    p->line[p->length] = '\0';
    show(p, "\r\n");
    if (p->length) {
        memcpy(p->last, p->line, p->length + 1);
        p->length = 0;
        run(p);
    }
    if (p->open)
        show(p, TEXT_PROMPT);
}

/* --- keys --- */

static void recall(struct prompt *p)
{
    erase(p, p->length);
    insert(p, p->last);
}

/* True: the key belongs to an escape sequence (CSI: ESC [ ... letter). */
static bool in_sequence(struct prompt *p, uint8_t key)
{
    if (key == KEY_ESCAPE) {
        p->sequence = 1;
        return true;
    }
    if (p->sequence == 0)
        return false;
    if (p->sequence == 1) {
        p->sequence = key == '[' || key == 'O' ? 2 : 0;
        return true;
    }
    if (key >= '@' && key <= '~') {
        p->sequence = 0;
        if (key == 'A')
            recall(p);
    }
    return true;
}

void prompt_key(struct prompt *p, uint8_t key)
{
    if (in_sequence(p, key))
        return;
    switch (key) {
    case '\r':
    case '\n': enter(p); break;
    case '\b':
    case KEY_DELETE: erase(p, p->length ? 1 : 0); break;
    case CTRL('U'):
    case CTRL('C'): erase(p, p->length); break;
    case CTRL('W'): erase(p, last_word(p)); break;
    case CTRL('P'): recall(p); break;
    case CTRL('L'): show_line_again(p); break;
    case CTRL('D'):
        if (!p->length)
            prompt_close(p);
        break;
    default:
        if (key >= ' ' && key != KEY_DELETE)
            insert(p, (const char[]){(char)key, '\0'});
        break;
    }
}

/* --- opening and closing --- */

void prompt_open(struct prompt *p)
{
    p->open = true;
    p->length = 0;
    p->sequence = 0;
    show(p,
         "\r\n[monitor: 'help' lists the commands, Ctrl-D returns to the guest]\r\n" TEXT_PROMPT);
}

void prompt_close(struct prompt *p)
{
    p->open = false;
    show(p, p->vm->pauses > 0 ? "\r\n[the guest has the keys again, but is paused]\r\n"
                              : "\r\n[the guest has the keys again]\r\n");
}
