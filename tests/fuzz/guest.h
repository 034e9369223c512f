/* guest.h - a small guest for the CPU's fuzzers: descriptor tables, page tables and handlers for
 * every mode, at fixed places in the first 2 MiB.
 *
 *   0000  interrupt vectors of real mode     8000  code, up to 16 KiB
 *   1000  GDT, 1800 LDT                     10000  page tables of all forms
 *   2000  IDT                               20000  the handlers
 *   3000  TSS, 3800 a second one
 *   4000  stacks    6000  data
 *
 * A handler steps the return address over one byte and returns, so that a stream of random bytes is
 * executed from each of its bytes that can begin an instruction. */
#ifndef DOBLE_TESTS_FUZZ_GUEST_H
#define DOBLE_TESTS_FUZZ_GUEST_H

#include "cpu/cpu.h"

enum guest_mode {
    GUEST_REAL16,
    GUEST_PROTECTED16,
    GUEST_PROTECTED32,
    GUEST_PAGED32,
    GUEST_PAE32,
    GUEST_VM86,
    GUEST_VM86_PAGED,
    GUEST_PAE16,
    GUEST_LONG64,
    GUEST_COMPAT32,
    GUEST_COMPAT16,
    GUEST_LONG64_LA57, /* if the model has it */
    GUEST_MODES
};

#define GUEST_RAM (2 * MIB)
#define GUEST_GDT 0x1000u
#define GUEST_LDT 0x1800u
#define GUEST_IDT 0x2000u
#define GUEST_TSS 0x3000u
#define GUEST_TSS2 0x3800u
#define GUEST_STACK 0x5ff0u
#define GUEST_DATA 0x6000u
#define GUEST_CODE 0x8000u
#define GUEST_CODE_MAX 0x4000u
#define GUEST_TABLES 0x10000u
#define GUEST_TABLES_SIZE 0xa000u
#define GUEST_HANDLERS 0x20000u

struct guest_choice {
    enum guest_mode mode;
    uint8_t cpl;               /* in protected mode */
    uint16_t cr0, cr4, rflags; /* bits to set where they are possible */
    uint64_t seed;             /* of the registers */
};

/* Writes the tables, and puts a CPU that has been reset into the mode chosen, at GUEST_CODE. */
void guest_make(struct cpu *cpu, const struct guest_choice *choice);

#endif
