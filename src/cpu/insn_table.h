/* insn_table.h - what every instruction form is to a monitor.
 *
 * One row for each mnemonic that needs a word of its own, and one for each instruction set whose
 * instructions are all harmless copies. What has no row is #UD: the table is an allow-list.
 * Immutable; any thread. */
#ifndef DOBLE_CPU_INSN_TABLE_H
#define DOBLE_CPU_INSN_TABLE_H

#include "cpu/insn.h"

#include <Zydis/Zydis.h>

enum insn_class {
    CLASS_ILLEGAL,
    CLASS_COPY,   /* harmless: the host's processor executes the same instruction */
    CLASS_HELPER, /* a C function */
    CLASS_MOV,    /* MOV, MOVZX, LEA.. and stack operations: engines have their own quick forms */
    CLASS_BRANCH, /* near branches */
};

enum row_flag {
    ROW_ENDS_BLOCK = 1 << 0,  /* may change rip, the mode, or what interrupts can be taken */
    ROW_SIZE_OP0 = 1 << 1,    /* in->osize is the size of the first visible operand... */
    ROW_SIZE_OP1 = 1 << 2,    /* ...or of the second; otherwise the operand-size attribute */
    ROW_X87_CONTROL = 1 << 3, /* x87 instruction that leaves FIP, FDP and FOP alone */
    ROW_AVX = 1 << 4,         /* needs AVX enabled although no operand says so */
    ROW_MMX = 1 << 5,         /* needs MMX enabled although no operand says so */
    ROW_PROTECTED = 1 << 6,   /* #UD outside protected mode */
    ROW_MXCSR = 1 << 7,       /* a helper that reads or writes cpu->mxcsr */
};

struct insn_row {
    uint8_t class;
    uint8_t flags;
    helper_fn *helper;
};

/* The row for a decoded instruction, whose feature the CPU model has; CLASS_ILLEGAL otherwise. */
const struct insn_row *insn_row_find(const struct cpu *cpu, const ZydisDecodedInstruction *zi);

#endif
