/* segments.h - the segments that the instruction test uses, natively (modify_ldt) and in the guest.
 *
 * The GDT has the entries of a 64-bit Linux process (arch/x86/include/asm/segment.h); the LDT has
 * one of each kind that user mode can use. The accessed bit is set in all of them, as Linux does.
 */
#ifndef DOBLE_TESTS_INSN_SEGMENTS_H
#define DOBLE_TESTS_INSN_SEGMENTS_H

#include "cpu/cpu.h"

#define SEL_KERNEL_CS 0x10
#define SEL_KERNEL_DS 0x18
#define SEL_USER_CS32 0x23
#define SEL_USER_DS 0x2b
#define SEL_USER_CS 0x33

enum ldt_index {
    LDT_CODE32,         /* flat */
    LDT_DATA32,         /* flat */
    LDT_CODE16,         /* base CODE_BASE, 64 KiB */
    LDT_DATA16,         /* base below the data pages, 64 KiB, 16-bit stack */
    LDT_SHORT,          /* like LDT_DATA16, but ends within the data pages; 32-bit stack */
    LDT_EXPAND_DOWN,    /* flat base; begins within the data pages */
    LDT_READ_ONLY,      /* flat */
    LDT_ABSENT,         /* P = 0 */
    LDT_EXECUTE_ONLY,   /* flat 32-bit code that can't be read */
    LDT_DATA16_SHIFTED, /* another 64 KiB over the data pages with an odd base */
    LDT_COUNT
};
#define LDT_SEL(index) ((uint16_t)((index) << 3 | 7))

struct segment_desc {
    uint32_t base;
    uint32_t limit; /* in bytes, inclusive */
    uint16_t attr;  /* as in struct segment */
};

extern const struct segment_desc ldt_segments[LDT_COUNT];

/* The hidden part of a selector that a user program of this test can hold; null ones have P = 0. */
struct segment segment_of_selector(uint16_t sel);

/* Loads the LDT of this process. A negative errno if the host can't. */
int segments_load_ldt(void);

/* The eight bytes of a descriptor. */
uint64_t segment_descriptor(const struct segment_desc *desc);

#endif
