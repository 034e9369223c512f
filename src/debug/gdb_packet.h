/* gdb_packet.h - the framing of GDB's remote protocol: packets, checksums, escapes, hexadecimal.
 *
 *   $ payload # c c      c c: sum of the payload's bytes as they are sent, in hexadecimal
 *
 * In a payload '}' escapes the next byte (which is XORed with 20h); '#', '$', '}' and, in answers,
 * '*' are sent that way. GDB manual, appendix E.1. Pure functions on memory of the caller; every
 * byte may come from anybody. */
#ifndef DOBLE_DEBUG_GDB_PACKET_H
#define DOBLE_DEBUG_GDB_PACKET_H

#include "base/types.h"

#define GDB_PACKET_MAX 16384u /* bytes of a payload, in either direction */

/* --- reading --- */

enum gdb_input {
    GDB_INPUT_NONE,      /* more bytes are needed */
    GDB_INPUT_PACKET,    /* a packet: reader->data and reader->length */
    GDB_INPUT_BAD,       /* a packet with a wrong checksum */
    GDB_INPUT_TOO_LONG,  /* a packet of more than GDB_PACKET_MAX bytes, which was thrown away */
    GDB_INPUT_ACK,       /* '+' */
    GDB_INPUT_NAK,       /* '-' */
    GDB_INPUT_INTERRUPT, /* Ctrl-C */
};

struct gdb_reader {
    enum { GDB_OUTSIDE, GDB_INSIDE, GDB_ESCAPED, GDB_SUM_HIGH, GDB_SUM_LOW } state;
    uint8_t sum, sent_sum;
    bool sum_is_hex, too_long;
    size_t length;
    uint8_t data[GDB_PACKET_MAX + 1]; /* unescaped; a zero byte follows */
};

void gdb_reader_reset(struct gdb_reader *reader);
/* Takes the next byte. What it gives is valid until the next call. */
enum gdb_input gdb_reader_take(struct gdb_reader *reader, uint8_t byte);

/* --- writing --- */

/* A payload under construction. When it is full, `overflow` is set and nothing more is taken. */
struct gdb_payload {
    size_t length;
    bool overflow;
    uint8_t data[GDB_PACKET_MAX];
};

void gdb_put_byte(struct gdb_payload *p, uint8_t byte); /* as it is */
void gdb_put_text(struct gdb_payload *p, const char *text);
void gdb_put_hex(struct gdb_payload *p, const void *bytes, size_t count);    /* two digits a byte */
void gdb_put_number(struct gdb_payload *p, uint64_t number);                 /* 1f2 */
void gdb_put_binary(struct gdb_payload *p, const void *bytes, size_t count); /* escaped */

/* Bytes that the frame of a payload needs. */
#define GDB_FRAME_SIZE(length) ((length) + 4)
/* Writes "$...#cc"; returns its length. */
size_t gdb_frame(const struct gdb_payload *p, uint8_t *out);

/* --- parsing --- */

/* The value of a hexadecimal digit, or -1. */
int gdb_digit(uint8_t byte);
/* Reads 1 to 16 digits at *text and moves it on. False: no digit, or more than 64 bits. */
bool gdb_parse_number(const char **text, uint64_t *number) MUST_USE;
/* Moves over one character. False: something else is there. */
bool gdb_parse_char(const char **text, char c) MUST_USE;
/* Reads 2 * count digits. */
bool gdb_parse_bytes(const char **text, void *bytes, size_t count) MUST_USE;

#endif
