/* encode.h - a guest instruction encoded again, for 64-bit mode, with other registers.
 *
 * Engines that execute guest instructions natively keep guest registers where they like; this gives
 * the bytes of the same instruction with its registers renamed and its memory operand replaced by
 * one of host registers. 16- and 32-bit forms come out as the 64-bit-mode form that does the same.
 * Pure functions. */
#ifndef DOBLE_ENGINE_ENCODE_H
#define DOBLE_ENGINE_ENCODE_H

#include "cpu/decode.h"

#define ENCODE_MAX 24 /* bytes at most */

struct encoding {
    uint8_t gpr[16]; /* host register that stands for each guest register the instruction uses */
    /* The memory operand: [mem + index + disp]. */
    uint8_t mem;
    uint8_t index; /* or REG_NONE; not RSP */
    int32_t disp;
};

/* Writes the instruction and returns its length. Byte registers AH..DH need the host register to be
 * one of the first four, and then no operand may need a REX prefix. */
unsigned encode_insn(uint8_t *out, const struct decoded *d, const struct encoding *e);

/* The guest register (0..15) that a register operand is or is part of; -1: not a general register.
 */
int encode_guest_gpr(const ZydisDecodedOperand *op);

#endif
