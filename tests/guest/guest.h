/* guest.h - what all test guests share: output, checks, and running code in any context.
 *
 * A test fills a struct regs with a context (any privilege and mode), calls enter(), and looks at
 * the struct trap: which exception or interrupt ended it, and all registers at that moment. Code
 * that is run this way is written with CODE(): it ends with `int $END` if nothing else ends it.
 * Before every test the standard state is set up again (cpu_standard()), so a test may leave behind
 * whatever it likes. The same sources make a 64-bit and a 32-bit guest. */
#ifndef GUEST_GUEST_H
#define GUEST_GUEST_H

#include "selectors.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

typedef unsigned long word; /* a general register */

#ifdef __x86_64__
#define IS64 1
#define CODE_BITS "64"
#define R(name) "%r" name
#else
#define IS64 0
#define CODE_BITS "32"
#define R(name) "%e" name
#endif

/* R("ax") is the name of a general register in assembly. */

/* --- contexts --- */

struct regs {
    word ax, cx, dx, bx, sp, bp, si, di;
#ifdef __x86_64__
    word r8, r9, r10, r11, r12, r13, r14, r15;
#endif
    word ip, flags, cs, ss, ds, es, fs, gs;
};

#define NO_ERROR (~(word)0) /* no error code was pushed */

struct trap {
    word vector, error;
    struct regs regs;
    word frame; /* address of the processor's frame (its error code, or RIP) */
    word cr2, dr6;
};

extern struct trap trap; /* the last one */

/* Runs `r` until a trap, which it returns (always &trap). */
const struct trap *run(const struct regs *r);

void enter(const struct regs *r); /* trap.S: the same without preparation */
extern const char enter_iret[];   /* the IRET with which it goes there */

enum context { KERNEL, USER, KERNEL16, USER16, KERNEL32, USER32, VM86 };

/* A context that runs `code`: segments, stack and flags (reserved bit only) of that kind. */
struct regs context(enum context kind, const void *code);
const struct trap *run_in(enum context kind, const void *code);

#define END 0x30

/* CODE(name, bits, before, at): code that is ended by END, with labels for the instruction(s) under
 * test: name_at and, behind them, name_next. CODE_LOW() is code below 64 KiB, for 16-bit modes. */
#define CODE_IN(section, flags, name, bits, before, at)                                            \
    extern const char name[], name##_at[], name##_next[];                                          \
    __asm__(".pushsection " section ",\"" flags "\"\n.code" bits "\n" #name ":\n" before           \
            "\n" #name "_at:\n" at "\n" #name "_next:\n int $0x30\n.code" CODE_BITS                \
            "\n.popsection")
#define CODE(name, before, at) CODE_IN(".text.code", "ax", name, CODE_BITS, before, at)
#define CODE32(name, before, at) CODE_IN(".text.code", "ax", name, "32", before, at)
#define CODE_LOW(name, bits, before, at) CODE_IN(".low", "awx", name, bits, before, at)

/* Where a user finds what the kernel has at this address. */
#if IS64
#define USER_ALIAS 0x40000000ul
#else
#define USER_ALIAS 0ul
#endif
#define USER_PTR(p) ((word)(p) + USER_ALIAS)

extern char kernel_stack[], user_stack[]; /* their ends */
extern char scratch[8192];                /* page aligned, for data of single tests */

/* --- checks --- */

void expect_at(const char *file, unsigned line, const char *what, uint64_t got, uint64_t want);
#define EXPECT(got, want) expect_at(__FILE__, __LINE__, #got, (uint64_t)(got), (uint64_t)(want))
#define EXPECT_TRUE(what) EXPECT(!!(what), 1)

/* What is printed with the failures of this test from now on; printf-like with %s %x %d %c. */
__attribute__((format(printf, 1, 2))) void note(const char *format, ...);

/* This test cannot be done here, and why. */
void skip(const char *why);

/* The trap of the last run(). */
void expect_trap_at(const char *file, unsigned line, word vector, word error, const void *ip);
#define EXPECT_TRAP(vector, error, ip)                                                             \
    expect_trap_at(__FILE__, __LINE__, vector, error, (const void *)(ip))
#define EXPECT_END(code) EXPECT_TRAP(END, NO_ERROR, (code##_next) + 2)
#define EXPECT_USER_END(code) EXPECT_TRAP(END, NO_ERROR, USER_PTR(code##_next) + 2)

struct test {
    const char *name;
    void (*run)(void);
};
struct family {
    const char *name;
    const struct test *tests; /* the last has no name */
};
extern const struct family families[]; /* of this guest; the last has no name */

#define TEST(name)                                                                                 \
    {                                                                                              \
#name, test_##name                                                                         \
    }

__attribute__((format(printf, 1, 2))) void print(const char *format, ...);

void *memset(void *to, int byte, size_t count);
void *memcpy(void *to, const void *from, size_t count);

#endif
