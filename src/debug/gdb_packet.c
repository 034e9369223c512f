#include "debug/gdb_packet.h"

#include <string.h>

#define ESCAPE '}'
#define ESCAPE_XOR 0x20
#define INTERRUPT 0x03

/* --- reading --- */

void gdb_reader_reset(struct gdb_reader *r)
{
    r->state = GDB_OUTSIDE;
    r->length = 0;
}

static enum gdb_input outside(struct gdb_reader *r, uint8_t byte)
{
    switch (byte) {
    case '$':
        r->state = GDB_INSIDE;
        r->length = 0;
        r->sum = 0;
        r->too_long = false;
        return GDB_INPUT_NONE;
    case '+': return GDB_INPUT_ACK;
    case '-': return GDB_INPUT_NAK;
    case INTERRUPT: return GDB_INPUT_INTERRUPT;
    default: return GDB_INPUT_NONE; /* noise on the line */
    }
}

static void store(struct gdb_reader *r, uint8_t byte)
{
    if (r->length < GDB_PACKET_MAX)
        r->data[r->length++] = byte;
    else
        r->too_long = true;
}

/* A '$' can only be the start of a packet: the end of the one before was lost. */
static enum gdb_input inside(struct gdb_reader *r, uint8_t byte)
{
    if (byte == '$')
        return outside(r, byte);
    if (byte == '#') {
        r->state = GDB_SUM_HIGH;
        return GDB_INPUT_NONE;
    }
    r->sum = (uint8_t)(r->sum + byte);
    if (r->state == GDB_ESCAPED) {
        store(r, byte ^ ESCAPE_XOR);
        r->state = GDB_INSIDE;
    } else if (byte == ESCAPE) {
        r->state = GDB_ESCAPED;
    } else {
        store(r, byte);
    }
    return GDB_INPUT_NONE;
}

static void sum_digit(struct gdb_reader *r, uint8_t byte)
{
    int digit = gdb_digit(byte);

    r->sent_sum = (uint8_t)(r->sent_sum << 4 | (digit & 15));
    r->sum_is_hex = r->sum_is_hex && digit >= 0;
}

static enum gdb_input finish(struct gdb_reader *r)
{
    r->state = GDB_OUTSIDE;
    if (!r->sum_is_hex || r->sent_sum != r->sum)
        return GDB_INPUT_BAD;
    if (r->too_long)
        return GDB_INPUT_TOO_LONG;
    r->data[r->length] = 0;
    return GDB_INPUT_PACKET;
}

enum gdb_input gdb_reader_take(struct gdb_reader *r, uint8_t byte)
{
    switch (r->state) {
    case GDB_INSIDE:
    case GDB_ESCAPED: return inside(r, byte);
    case GDB_SUM_HIGH:
        r->sum_is_hex = true;
        sum_digit(r, byte);
        r->state = GDB_SUM_LOW;
        return GDB_INPUT_NONE;
    case GDB_SUM_LOW: sum_digit(r, byte); return finish(r);
    default: return outside(r, byte);
    }
}

/* --- writing --- */

void gdb_put_byte(struct gdb_payload *p, uint8_t byte)
{
    if (p->length < sizeof p->data)
        p->data[p->length++] = byte;
    else
        p->overflow = true;
}

void gdb_put_text(struct gdb_payload *p, const char *text)
{
    while (*text)
        gdb_put_byte(p, (uint8_t)*text++);
}

static const char hex_digits[] = "0123456789abcdef";

void gdb_put_hex(struct gdb_payload *p, const void *bytes, size_t count)
{
    const uint8_t *b = bytes;

    for (size_t i = 0; i < count; i++) {
        gdb_put_byte(p, (uint8_t)hex_digits[b[i] >> 4]);
        gdb_put_byte(p, (uint8_t)hex_digits[b[i] & 15]);
    }
}

void gdb_put_number(struct gdb_payload *p, uint64_t number)
{
    unsigned shift = 60;

    while (shift && !(number >> shift))
        shift -= 4;
    for (;; shift -= 4) {
        gdb_put_byte(p, (uint8_t)hex_digits[number >> shift & 15]);
        if (!shift)
            return;
    }
}

void gdb_put_binary(struct gdb_payload *p, const void *bytes, size_t count)
{
    const uint8_t *b = bytes;

    for (size_t i = 0; i < count; i++) {
        bool special = b[i] == '#' || b[i] == '$' || b[i] == ESCAPE || b[i] == '*';

        if (special)
            gdb_put_byte(p, ESCAPE);
        gdb_put_byte(p, special ? b[i] ^ ESCAPE_XOR : b[i]);
    }
}

size_t gdb_frame(const struct gdb_payload *p, uint8_t *out)
{
    uint8_t sum = 0;

    out[0] = '$';
    memcpy(out + 1, p->data, p->length);
    for (size_t i = 0; i < p->length; i++)
        sum = (uint8_t)(sum + p->data[i]);
    out[p->length + 1] = '#';
    out[p->length + 2] = (uint8_t)hex_digits[sum >> 4];
    out[p->length + 3] = (uint8_t)hex_digits[sum & 15];
    return GDB_FRAME_SIZE(p->length);
}

/* --- parsing --- */

int gdb_digit(uint8_t byte)
{
    if (byte >= '0' && byte <= '9')
        return byte - '0';
    if (byte >= 'a' && byte <= 'f')
        return byte - 'a' + 10;
    if (byte >= 'A' && byte <= 'F')
        return byte - 'A' + 10;
    return -1;
}

bool gdb_parse_number(const char **text, uint64_t *number)
{
    const char *at = *text;
    uint64_t v = 0;
    int digit;

    while ((digit = gdb_digit((uint8_t)*at)) >= 0) {
        if (v >> 60)
            return false;
        v = v << 4 | (unsigned)digit;
        at++;
    }
    if (at == *text)
        return false;
    *text = at;
    *number = v;
    return true;
}

bool gdb_parse_char(const char **text, char c)
{
    if (**text != c || !c)
        return false;
    (*text)++;
    return true;
}

bool gdb_parse_bytes(const char **text, void *bytes, size_t count)
{
    uint8_t *out = bytes;

    for (size_t i = 0; i < count; i++) {
        int high = gdb_digit((uint8_t) * *text);
        int low = high < 0 ? -1 : gdb_digit((uint8_t)(*text)[1]);

        if (low < 0)
            return false;
        out[i] = (uint8_t)(high << 4 | low);
        *text += 2;
    }
    return true;
}
