/* block.h - the interpreter's cache of decoded basic blocks.
 *
 * A block is a run of instructions of one page, decoded in one CPU mode, ending with a branch or
 * any instruction after which the next one cannot be foreseen. It holds no guest-virtual address:
 * it is found by the host address of its first byte, so that every mapping of a page shares it. An
 * instruction that crosses into another page is a block of its own, which remembers both pages.
 *
 * Memory comes from an arena that is emptied as a whole when it is full; blocks whose code changed
 * are only marked dead, so that one that is running can finish its instruction. vCPU thread. */
#ifndef DOBLE_ENGINE_INTERPRET_BLOCK_H
#define DOBLE_ENGINE_INTERPRET_BLOCK_H

#include "engine/interpret/thunk.h"

#define BLOCK_MAX_INSNS 32
#define BLOCK_DEAD UINT32_MAX

struct block {
    struct block *next_in_hash;
    struct block *next_in_page; /* of the first page */
    struct block *next_in_page2;
    const uint8_t *code;  /* host address of the first byte */
    const uint8_t *code2; /* host address of the second page's first byte used, or NULL */
    uint32_t mode;        /* cpu->mode it was decoded for; BLOCK_DEAD */
    uint16_t len;         /* bytes of code */
    uint16_t count;       /* instructions */
    struct insn insns[];
};

/* What a jump went to last: checked before anything else. */
struct jump_entry {
    gva_t gva;
    uint64_t epoch; /* tlb->code_epoch */
    struct block *block;
};
#define JUMP_BITS 12

/* The registers of a thread in a signal handler that an engine may change. */
struct native_context {
    uint64_t *rip, *rcx, *r14, *r15;
};

struct interpreter {
    /* For an engine with native code of its own: continues a native exception elsewhere. False: it
     * was not in that engine's code. May be NULL. Called in a signal handler. */
    bool (*redirect)(struct cpu *cpu, struct native_context *c);
    uint8_t *signal_stack; /* fault.h; NULL: that of the thread */
    struct thunk_cache *thunks;
    uint8_t *arena;
    size_t arena_used;
    struct block **hash;  /* by host address of the code */
    struct block **pages; /* by page: blocks that have bytes there */
    struct jump_entry *jumps;
    struct block *once; /* a block that is not in the cache: single steps, code outside RAM */
    bool arena_full, thunks_full; /* to be emptied before the next block is made */
    uint32_t
        flushes; /* times that the thunks were dropped: who else points at one must forget it */
};

/* Makes the caches of an interpreter that another engine has allocated, and frees them. */
int interpreter_prepare(struct cpu *cpu, struct interpreter *it, struct err *err);
void interpreter_release(struct interpreter *it);
int interpreter_new(struct cpu *cpu, struct err *err);
void interpreter_free(struct cpu *cpu);
void interpreter_flush(struct cpu *cpu);

/* The block at CS:RIP. NULL: an exception was recorded (page fault, #GP), or the caches were full
 * and were emptied: try again. */
struct block *block_find(struct cpu *cpu);
/* A block of the one instruction at CS:RIP, not cached. NULL: an exception was recorded. */
struct block *block_single(struct cpu *cpu);

/* Kills the blocks of one page that overlap changed bytes. True: the page still has live blocks. */
bool block_code_changed(struct cpu *cpu, gpa_t gpa, uint64_t len);
/* Flags the page of these bytes as one with code; stores to it are announced from now on. */
void block_mark_code(struct cpu *cpu, const uint8_t *code);

#endif
