#define _GNU_SOURCE
#include "vm/screen.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FRAME_MS 33
#define KEY_RETRY_MS 10
#define KEY_PATIENCE_MS 1000 /* then keys are lost */

static uint64_t host_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* --- drawing --- */

/* Code page 437, the characters of a PC's font. */
static const uint16_t unicode[256] =
    u" ☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼"
    u" !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_"
    u"`abcdefghijklmnopqrstuvwxyz{|}~⌂"
    u"ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐"
    u"└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■ ";

static void put_character(FILE *out, uint8_t character)
{
    unsigned c = unicode[character];

    if (c < 0x80) {
        fputc((int)c, out);
    } else if (c < 0x800) {
        fputc((int)(0xc0 | c >> 6), out);
        fputc((int)(0x80 | (c & 0x3f)), out);
    } else {
        fputc((int)(0xe0 | c >> 12), out);
        fputc((int)(0x80 | (c >> 6 & 0x3f)), out);
        fputc((int)(0x80 | (c & 0x3f)), out);
    }
}

/* The VGA's colors are blue, green, red from bit 0 on; ANSI's the other way round. */
static unsigned ansi_color(unsigned color)
{
    return (color & 2) | (color & 1) << 2 | (color >> 2 & 1);
}

static void put_attribute(FILE *out, uint8_t attribute, bool blink)
{
    unsigned front = attribute & 15, back = attribute >> 4 & 7;
    bool high = attribute & 0x80;

    fprintf(out, "\033[0;%u;%u%sm", (front & 8 ? 90 : 30) + ansi_color(front),
            (high && !blink ? 100 : 40) + ansi_color(back), high && blink ? ";5" : "");
}

static bool same_cell(struct vga_cell a, struct vga_cell b)
{
    return a.character == b.character && a.attribute == b.attribute;
}

/* The cells of a row that differ from what is shown. */
static void draw_row(struct screen *s, unsigned row, FILE *out)
{
    const struct vga_cell *now = s->now.cells[row], *shown = s->shown.cells[row];
    unsigned at = UINT32_MAX; /* the column where the terminal's cursor is */
    int attribute = -1;

    for (unsigned column = 0; column < s->now.columns; column++) {
        if (!s->all && same_cell(now[column], shown[column]))
            continue;
        if (at != column)
            fprintf(out, "\033[%u;%uH", row + 1, column + 1);
        if (attribute != now[column].attribute)
            put_attribute(out, now[column].attribute, s->now.blink);
        attribute = now[column].attribute;
        put_character(out, now[column].character);
        at = column + 1;
    }
}

static void draw_text(struct screen *s, FILE *out)
{
    if (s->now.columns != s->shown.columns || s->now.rows != s->shown.rows ||
        s->now.blink != s->shown.blink || s->graphics)
        s->all = true;
    if (s->all)
        fputs("\033[0m\033[2J", out);
    for (unsigned row = 0; row < s->now.rows; row++)
        draw_row(s, row, out);
    if (s->now.cursor)
        fprintf(out, "\033[0m\033[%u;%uH\033[?25h", s->now.cursor_row + 1,
                s->now.cursor_column + 1);
    else
        fputs("\033[0m\033[?25l", out);
    s->shown = s->now;
    s->all = s->graphics = false;
}

static void draw_no_text(struct screen *s, FILE *out)
{
    if (s->graphics)
        return;
    fputs("\033[0m\033[2J\033[H[The display is off, or shows graphics: Ctrl-] c, and then\r\n"
          "'screenshot FILE' writes a picture of it.]\r\n",
          out);
    s->graphics = true;
}

static void draw(struct screen *s)
{
    char *bytes = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&bytes, &size);
    bool text;

    if (!out)
        return;
    bus_lock(&s->pc->bus);
    s->pc->vga.changed = false;
    text = vga_text_get(&s->pc->vga, &s->now);
    bus_unlock(&s->pc->bus);
    if (text)
        draw_text(s, out);
    else
        draw_no_text(s, out);
    if (fclose(out) == 0)
        console_write(s->console, (const uint8_t *)bytes, size);
    free(bytes);
}

/* --- keys --- */

/* Scan set 2, by the characters of a US keyboard: without Shift, and with it. */
static const struct {
    const char *characters;
    uint8_t code;
} keys[] = {
    {"aA", 0x1c},   {"bB", 0x32},       {"cC", 0x21},   {"dD", 0x23},       {"eE", 0x24},
    {"fF", 0x2b},   {"gG", 0x34},       {"hH", 0x33},   {"iI", 0x43},       {"jJ", 0x3b},
    {"kK", 0x42},   {"lL", 0x4b},       {"mM", 0x3a},   {"nN", 0x31},       {"oO", 0x44},
    {"pP", 0x4d},   {"qQ", 0x15},       {"rR", 0x2d},   {"sS", 0x1b},       {"tT", 0x2c},
    {"uU", 0x3c},   {"vV", 0x2a},       {"wW", 0x1d},   {"xX", 0x22},       {"yY", 0x35},
    {"zZ", 0x1a},   {"1!", 0x16},       {"2@", 0x1e},   {"3#", 0x26},       {"4$", 0x25},
    {"5%", 0x2e},   {"6^", 0x36},       {"7&", 0x3d},   {"8*", 0x3e},       {"9(", 0x46},
    {"0)", 0x45},   {"-_", 0x4e},       {"=+", 0x55},   {"[{", 0x54},       {"]}", 0x5b},
    {"\\|", 0x5d},  {";:", 0x4c},       {"'\"", 0x52},  {"`~", 0x0e},       {",<", 0x41},
    {".>", 0x49},   {"/?", 0x4a},       {"  ", 0x29},   {"\r\r", 0x5a},     {"\n\n", 0x5a},
    {"\t\t", 0x0d}, {"\177\177", 0x66}, {"\b\b", 0x66}, {"\033\033", 0x76},
};

/* What terminals send for other keys, after ESC. Codes above FFh have an E0h before them. */
static const struct {
    const char *sequence;
    uint16_t code;
} sequences[] = {
    {"[A", 0xe075},  {"[B", 0xe072},  {"[C", 0xe074},  {"[D", 0xe06b},  {"OA", 0xe075},
    {"OB", 0xe072},  {"OC", 0xe074},  {"OD", 0xe06b},  {"[H", 0xe06c},  {"[F", 0xe069},
    {"OH", 0xe06c},  {"OF", 0xe069},  {"[1~", 0xe06c}, {"[2~", 0xe070}, {"[3~", 0xe071},
    {"[4~", 0xe069}, {"[5~", 0xe07d}, {"[6~", 0xe07a}, {"OP", 0x05},    {"OQ", 0x06},
    {"OR", 0x04},    {"OS", 0x0c},    {"[15~", 0x03},  {"[17~", 0x0b},  {"[18~", 0x83},
    {"[19~", 0x0a},  {"[20~", 0x01},  {"[21~", 0x09},  {"[23~", 0x78},  {"[24~", 0x07},
};

#define KEY_SHIFT 0x12
#define KEY_CONTROL 0x14
#define KEY_ALT 0x11

/* Scan codes of one stroke: modifiers down, key down and up, modifiers up. */
struct stroke {
    uint8_t codes[16];
    unsigned count;
};

static void press(struct stroke *stroke, uint16_t code)
{
    if (code > 0xff)
        stroke->codes[stroke->count++] = (uint8_t)(code >> 8);
    stroke->codes[stroke->count++] = (uint8_t)code;
}

static void release(struct stroke *stroke, uint16_t code)
{
    if (code > 0xff)
        stroke->codes[stroke->count++] = (uint8_t)(code >> 8);
    stroke->codes[stroke->count++] = 0xf0;
    stroke->codes[stroke->count++] = (uint8_t)code;
}

static void make_stroke(struct stroke *stroke, uint16_t code, uint8_t modifier)
{
    if (modifier)
        press(stroke, modifier);
    press(stroke, code);
    release(stroke, code);
    if (modifier)
        release(stroke, modifier);
}

/* A character; Control makes 1 to 26 of letters. False: no key has it. */
static bool find_character(struct stroke *stroke, uint8_t byte, uint8_t modifier)
{
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
        for (unsigned shift = 0; shift < 2; shift++)
            if ((uint8_t)keys[i].characters[shift] == byte) {
                make_stroke(stroke, keys[i].code, shift && !modifier ? KEY_SHIFT : modifier);
                return true;
            }
    return false;
}

/* The next stroke of the input; returns how many bytes it took. */
static size_t next_stroke(struct stroke *stroke, const uint8_t *bytes, size_t count)
{
    stroke->count = 0;
    for (size_t i = 0; bytes[0] == 0x1b && i < ARRAY_SIZE(sequences); i++) {
        size_t length = strlen(sequences[i].sequence);

        if (count > length && memcmp(bytes + 1, sequences[i].sequence, length) == 0) {
            make_stroke(stroke, sequences[i].code, 0);
            return length + 1;
        }
    }
    if (bytes[0] == 0x1b && count > 1 && find_character(stroke, bytes[1], KEY_ALT))
        return 2;
    if (!find_character(stroke, bytes[0], 0) && bytes[0] >= 1 && bytes[0] <= 26)
        find_character(stroke, (uint8_t)(bytes[0] + 'a' - 1), KEY_CONTROL);
    return 1;
}

/* Gives the guest as many strokes as its keyboard takes. */
static void type(struct screen *s)
{
    const uint8_t *bytes;
    size_t count;

    while ((count = console_input(s->console, &bytes)) > 0) {
        struct stroke stroke;
        size_t used = next_stroke(&stroke, bytes, count);
        bool taken;

        bus_lock(&s->pc->bus);
        taken = i8042_key(&s->pc->kbc, stroke.codes, stroke.count);
        bus_unlock(&s->pc->bus);
        if (!taken && !s->keys_since)
            s->keys_since = host_ms();
        if (!taken && host_ms() - s->keys_since < KEY_PATIENCE_MS)
            return;
        if (taken)
            s->keys_since = 0;
        console_consume(s->console, used);
    }
    s->keys_since = 0;
}

/* --- in the main loop --- */

static bool has_changed(struct screen *s)
{
    bool changed;

    bus_lock(&s->pc->bus);
    changed = s->pc->vga.changed;
    bus_unlock(&s->pc->bus);
    return changed || s->all;
}

static int before_wait(void *opaque)
{
    struct screen *s = opaque;
    uint64_t since;
    int wait = -1;

    type(s);
    if (s->keys_since)
        wait = KEY_RETRY_MS;
    if (s->covered && s->covered(s->opaque)) {
        s->all = true;
        return wait;
    }
    if (!has_changed(s))
        return wait;
    since = host_ms() - s->drawn_at;
    if (since < FRAME_MS)
        return wait < 0 || FRAME_MS - (int)since < wait ? FRAME_MS - (int)since : wait;
    draw(s);
    s->drawn_at = host_ms();
    return wait;
}

void screen_init(struct screen *screen, struct pc *pc, struct console *console, struct loop *loop)
{
    screen->pc = pc;
    screen->console = console;
    screen->all = true;
    screen->hook.before_wait = before_wait;
    screen->hook.opaque = screen;
    loop_add_hook(loop, &screen->hook);
}

void screen_end(struct screen *screen)
{
    char text[32];
    int length;

    draw(screen);
    length = snprintf(text, sizeof text, "\033[0m\033[?25h\033[%u;1H\r\n",
                      screen->now.rows ? screen->now.rows : 1);
    console_write(screen->console, (const uint8_t *)text, (size_t)length);
}
