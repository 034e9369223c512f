/* decode.h - from instruction bytes to struct insn, by Zydis and the instruction table.
 *
 * What engines need beyond struct insn (which registers, flags and memory an instruction touches,
 * and Zydis' own description, to encode it again) is in struct decoded, which lives only while a
 * block is made. A function of bytes and CPU mode, but for the CPU's cache of results: one thread
 * at a time for a CPU. */
#ifndef DOBLE_CPU_DECODE_H
#define DOBLE_CPU_DECODE_H

#include "cpu/insn_table.h"

#define INSN_MAX_LEN 15

enum decode_result {
    DECODE_OK,
    DECODE_MORE,     /* the bytes end in the middle of the instruction */
    DECODE_TOO_LONG, /* more than 15 bytes: #GP(0) */
};

/* What the processor checks before the instruction's own operation. */
enum insn_unit { UNIT_INTEGER, UNIT_X87, UNIT_MMX, UNIT_SSE, UNIT_AVX };

struct decoded {
    struct insn in;
    const struct insn_row *row; /* illegal instructions have class CLASS_ILLEGAL */
    enum insn_unit unit;
    bool writes_mem, reads_mem;
    bool names_other; /* an MMX, segment, control or debug register */
    bool uses_mxcsr;  /* floating point: reads controls, sets flags, can raise #XM */
    uint8_t flags_read, flags_written; /* as booleans: any status flag */
    uint8_t flags_defined;             /* it gives all six status flags a new value */
    uint16_t gpr_used, gpr_written;    /* masks of general registers, address registers excluded */
    uint16_t vec_used, vec_written;    /* masks of XMM/YMM registers */
    ZydisDecodedInstruction zi;
    ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
};

/* Decodes one instruction in the CPU's present mode. An invalid one is DECODE_OK with an illegal
 * row (its length is not defined). */
enum decode_result insn_decode(const struct cpu *cpu, const uint8_t *code, unsigned avail,
                               struct decoded *d);

/* Number of the general register that holds `reg`, *high for AH..BH; -1: it is none. */
int insn_gpr_number(ZydisRegister reg, bool *high);

#endif
