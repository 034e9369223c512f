/* case.h - one test case of the instruction test: the bytes, the state before, and the result.
 *
 * The native runner and the engine runner see the same linear addresses, all below 4 GiB so that
 * 32- and 16-bit segments reach them:
 *
 *   CODE_BASE  |  code page: user, read, execute  |  unmapped
 *   DATA_BASE  unmapped | page 0 RW | page 1 RW | page 2 RW | page 3 RO | unmapped
 *   SEQ_BASE   unmapped | page 0 RWX | page 1 RWX | page 0 again RWX | unmapped
 *
 * A case changes data bytes by its patches; everything else in the data pages is what the cases
 * before left there, in both runners. A sequence (code_len is not 0) lies in the pages at SEQ_BASE,
 * among INT3, which ends it; its data pages begin as case_fill_data() makes them. The selectors are
 * those of a Linux process, and of the LDT in segments.h. */
#ifndef DOBLE_TESTS_INSN_CASE_H
#define DOBLE_TESTS_INSN_CASE_H

#include "base/types.h"
#include "cpu/cpu.h"

#include <string.h>

#define CODE_BASE UINT64_C(0x10000000)
#define DATA_BASE UINT64_C(0x20000000)
#define DATA_PAGES 4
#define DATA_WRITABLE 3 /* pages; the rest is read-only */
#define DATA_SIZE (DATA_PAGES * PAGE_SIZE)
#define DATA_WRITABLE_END (DATA_BASE + DATA_WRITABLE * PAGE_SIZE)
#define DATA_END (DATA_BASE + DATA_SIZE)

#define MAX_INSN 15
#define LINE_SIZE 64
#define MAX_LINES (DATA_SIZE / LINE_SIZE) /* 64-byte lines that may change */

#define SEQ_BASE UINT64_C(0x18000000)
#define SEQ_PAGES 2
#define SEQ_SIZE (SEQ_PAGES * PAGE_SIZE)
#define SEQ_ROOM 1024 /* bytes of code of a sequence */
#define MAX_PATCHES 3
#define PATCH_POOL 1088

/* What an instruction in user mode can see of the processor. */
struct state {
    uint64_t gpr[16];
    uint64_t rip; /* offset in the code segment */
    uint64_t rflags;
    uint64_t fs_base, gs_base;
    uint16_t sel[SEG_COUNT];
    uint32_t mxcsr;
    union vec ymm[16];
    uint8_t fx[160] __attribute__((aligned(16))); /* the x87 part of an FXSAVE image */
};

struct patch {
    uint32_t offset; /* in the data pages */
    uint32_t len;
    uint32_t pool; /* where its bytes begin in the pool */
};

struct test_case {
    uint8_t mode;       /* 64, 32 or 16: width of the code segment */
    uint8_t len;        /* bytes used */
    uint16_t offset;    /* of the instruction in the code page */
    uint16_t max_steps; /* single steps at the same RIP (repeated strings) before giving up */
    bool trap;          /* the engine runs it with TF as well; else TF is clear there */
    bool whole;         /* run() executes it, up to the INT3 behind it, and not step(); no TF */
    uint32_t form;      /* index of its form */
    uint64_t number;    /* of a sequence: what it is made from */
    uint16_t code_len;  /* of a sequence, which begins at `offset` from SEQ_BASE; else 0 */
    uint8_t code[SEQ_ROOM + 16];
    uint64_t operand;  /* linear address of its (last) memory operand, 0: none */
    uint8_t bytes[16]; /* bytes that follow it in the page are NOPs */
    struct state init;
    uint32_t patch_count, pool_used;
    struct patch patches[MAX_PATCHES];
    uint8_t pool[PATCH_POOL];
};

#define NO_EXIT 0xffu /* vector of a result when the run ended in some unforeseen way */

struct line {
    uint16_t index; /* in units of LINE_SIZE */
    uint8_t bytes[LINE_SIZE];
};

struct result {
    struct state after;
    uint32_t vector; /* EXC_DB: it ran to its end */
    uint32_t error;
    uint64_t cr2; /* #PF only */
    uint32_t line_count;
    struct line lines[MAX_LINES]; /* data that changed */
};

/* What is in the pages of a sequence; it may go on in the first page behind the last. */
static inline void case_make_image(const struct test_case *c, uint8_t image[SEQ_SIZE])
{
    memset(image, 0xcc, SEQ_SIZE);
    for (unsigned i = 0; i < c->code_len; i++)
        image[(c->offset + i) % SEQ_SIZE] = c->code[i];
}

/* What is in the data pages before a sequence. */
static inline void case_fill_data(uint64_t number, uint8_t *data)
{
    uint64_t v = number * UINT64_C(0x9e3779b97f4a7c15) | 1;

    for (unsigned at = 0; at < DATA_SIZE; at += 8) {
        v ^= v << 13;
        v ^= v >> 7;
        v ^= v << 17;
        memcpy(data + at, &v, 8);
    }
}

/* The linear address of the code segment's base. */
static inline uint64_t case_code_base(const struct test_case *c)
{
    return c->mode == 16 ? CODE_BASE : 0;
}

#endif
