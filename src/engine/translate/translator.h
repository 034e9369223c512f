/* translator.h - same-ISA binary translation: what its parts share.
 *
 * Guest registers while translated code runs:
 *
 *     RAX RDX RBX RBP RSI RDI R8-R12   in the host registers of the same names
 *     RSP                              in host R13
 *     RCX R13 R14 R15                  in memory (GS:gpr), because host RCX, R14 and R15 are
 * scratch status flags, YMM0-15, MXCSR     in the processor
 *
 * Host RSP is the monitor's stack; GS points at struct cpu. A memory operand is found through the
 * TLB by a check that leaves the flags alone; when that misses, and for every instruction that is
 * not a copy, the translated code calls the interpreter's function for this one instruction with
 * all of the guest's state stored, and goes on. So precise faults, MMIO, code pages and watchpoints
 * are the interpreter's, and every instruction's meaning is written once.
 *
 * Translated blocks hold no guest-virtual address: RIP is cpu->native.page_base plus a constant.
 * Exits within the page are linked directly; all others go through a jump cache for the address
 * space.
 *
 * vCPU thread only, except where a signal handler of the same thread is named. */
#ifndef DOBLE_ENGINE_TRANSLATE_TRANSLATOR_H
#define DOBLE_ENGINE_TRANSLATE_TRANSLATOR_H

#include "cpu/tlb.h"
#include "engine/interpret/block.h"
#include "engine/translate/asm.h"

#define TBLOCK_MAX_INSNS 64
#define MAX_FAULTS (512u * 1024) /* fault sites in the code cache */
#define JUMP_CACHE_BITS 12
#define JUMP_CACHE_SHIFT 4 /* functions begin at multiples of 16 */

struct tblock;

/* An exit to a known place in the same page. */
struct tlink {
    struct tblock *to;  /* linked to; NULL: goes to its stub */
    struct tlink *next; /* of those that are linked to the same block */
    uint8_t *site;      /* rel32, writable mapping */
    uint8_t *stub;
    const uint8_t *target; /* guest code that it leads to, host address */
    uint32_t mode;
};

struct tblock {
    struct tblock *next_in_hash, *next_in_page;
    const uint8_t *code; /* host address of the guest code */
    uint8_t *entry;      /* executable address of the translation */
    struct tlink *incoming;
    uint32_t mode; /* cpu->mode; BLOCK_DEAD */
    uint16_t len;
};

/* A native instruction that can raise an exception, for the signal handler. */
struct fault_site {
    uint32_t offset;      /* of the instruction in the code cache */
    uint32_t resume;      /* of what follows it */
    uint32_t page_offset; /* of the block's start */
    const struct insn *in;
};

struct jump_slot {
    uint64_t negated_rip;
    uint8_t *entry;
};

/* One for each address space's user and kernel code. */
struct jump_cache {
    uint64_t epoch; /* tlb_space.epoch it was filled under */
    uint32_t mode;
    struct jump_slot slots[1u << JUMP_CACHE_BITS];
};

struct translator {
    struct interpreter interp; /* first: cpu->engine is also the interpreter's */
    uint8_t *writable, *executable;
    size_t size, used; /* of the code cache */
    uint8_t *meta;     /* arena for blocks, links and instructions */
    size_t meta_used;
    struct tblock **hash, **pages;
    struct fault_site *faults;
    size_t fault_count;
    struct jump_cache *jumps; /* [TLB_SPACES][2] */
    uint8_t *data_stores;     /* by page: stores beside its code since some of it was dropped */
    bool full;
    /* common code, writable addresses */
    void (*enter)(struct cpu *cpu, const uint8_t *entry);
    uint8_t *stub_interpret, *stub_link, *stub_exit, *stub_stack;
    size_t stubs_end;
};

/* --- stubs.c --- */
void translate_emit_stubs(struct translator *t);
/* R14 = RIP: goes on there if nothing waits and the jump cache knows it, else leaves. Every chain
 * of blocks without end goes through here or through a backward link, which looks too. */
void translate_emit_lookup(struct translator *t, struct assembler *a);
/* Two parts of it. R15 = slot of the jump cache for the RIP in R14; returns the rel32 of the jump
 * for a RIP that the cache doesn't know. Uses RCX. */
uint8_t *translate_emit_find(struct assembler *a);
/* On to R14, whose slot is R15. */
void translate_emit_follow(struct assembler *a);

/* --- emit.c --- */
/* Translates the code at CS:RIP, `avail` bytes at `code`. NULL: not translatable here (the
 * interpreter must do it), or t->full was set. */
struct tblock *translate_block(struct cpu *cpu, const uint8_t *code, unsigned avail);

/* --- cache.c --- */
int translate_cache_init(struct cpu *cpu, struct translator *t, struct err *err);
void translate_cache_free(struct translator *t);
void translate_cache_flush(struct cpu *cpu);
void *translate_meta(struct translator *t, size_t size); /* NULL: full */
struct tblock *translate_find(struct cpu *cpu, const uint8_t *code);
void translate_enter_block(struct cpu *cpu, struct tblock *b);
void translate_link(struct translator *t, struct tlink *link, struct tblock *to);
/* The jump cache of the address space and privilege in force, emptied if it was out of date. */
struct jump_cache *translate_jumps(struct cpu *cpu);
/* The translation that the jump cache in force has for RIP, or NULL. */
const uint8_t *translate_jump_find(const struct jump_cache *jumps, uint64_t rip);
void translate_jump_enter(struct jump_cache *jumps, uint64_t rip, uint8_t *entry);

/* --- run.c --- */
/* Called by translated code: interprets one instruction. Returns where to go on in the code cache:
 * `behind`, or after a branch its target; NULL: leave. */
const uint8_t *translate_interpret(struct cpu *cpu, const struct insn *in, uint64_t page_offset,
                                   const uint8_t *behind);

static inline struct translator *translator_of(const struct cpu *cpu)
{
    return cpu->engine;
}

static inline size_t gpr_at(unsigned guest)
{
    return offsetof(struct cpu, gpr) + 8 * guest;
}

/* The host register that always holds a guest register, or REG_NONE: it is in memory. */
static inline unsigned host_register(unsigned guest)
{
    static const uint8_t map[16] = {RAX, REG_NONE, RDX, RBX, R13, RBP,      RSI,      RDI,
                                    R8,  R9,       R10, R11, R12, REG_NONE, REG_NONE, REG_NONE};

    return map[guest];
}

#endif
