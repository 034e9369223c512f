/* translator.h - same-ISA binary translation: what its parts share.
 *
 * Guest registers while translated code runs:
 *
 *     RAX RDX RBX RBP RSI RDI R8 R12 R13   in the host registers of the same names
 *     RCX R14 R15                          in host R9, R10, R11
 *     RSP                                  in host RSP, plus native.stack_addend: it is the host
 *                                          address while it is in the page of the stack that is
 * kept R9 R10 R11                           in memory (GS:gpr), because host RCX, R14 and R15 are
 *                                          scratch
 *     status flags, YMM0-15, MXCSR         in the processor
 *
 * GS points at struct cpu. A memory operand is found through the TLB by a check that leaves the
 * flags alone; when that misses, and for every instruction that has no native form, the translated
 * code calls the interpreter's function for this one instruction with all of the guest's state
 * stored, and goes on. So precise faults, MMIO, code pages and watchpoints are the interpreter's,
 * and every instruction's meaning is written once.
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

#define INSN_ROOM 768 /* bytes of code that one instruction and its cold parts can need */
#define CACHE_REGIONS 16
#define JUMP_CACHE_SHIFT 2 /* return addresses lie close together */

#define MODE_CAREFUL (1u << 30)  /* beside cpu->mode: a block without shared checks */
#define MODE_COUNTING (1u << 29) /* ...one that counts instructions (virtual time) */

struct tblock;
struct plan;
struct verifier;

/* An instruction that the interpreter may have to execute: only its bytes, because most never need
 * it. translate_interpret() decodes it and keeps the result in struct prepared_insns. */
struct tinsn {
    uint32_t prepared; /* where the result was put; it may have been overwritten since */
    uint32_t resume;   /* what follows it, offset in the code cache */
    uint16_t page_offset;
    uint8_t rest; /* instructions of the block from this one on */
    bool holds;   /* behind it, checks that were made before are relied on */
    uint8_t len;
    uint8_t bytes[];
};

/* An exit to a known place in the same page. */
struct tlink {
    struct tblock *to;          /* linked to; NULL: goes to its stub */
    struct tlink *next, **back; /* of those that are linked to the same block */
    struct tlink *next_in_region;
    uint8_t *site; /* rel32, writable mapping */
    uint8_t *stub;
    const uint8_t *target; /* guest code that it leads to, host address */
    uint32_t mode;         /* of the block that it leads to */
};

struct tblock {
    struct tblock *next_in_hash;
    const uint8_t *code; /* host address of the guest code */
    uint8_t *entry;      /* executable address of the translation */
    uint32_t mode;       /* cpu->mode and the bits above; BLOCK_DEAD */
    uint16_t len;
    uint8_t count; /* instructions */
    struct tblock *next_in_page, **back_in_page;
    struct tlink *incoming;
    struct tblock *next_in_region;
};
_Static_assert(sizeof(struct tblock) == 64, "finding a block touches one cache line of it");

/* A native instruction that can raise an exception, for the signal handler. */
struct fault_site {
    uint32_t offset;    /* of the instruction in the code cache */
    uint32_t insn : 31; /* offset of its struct tinsn in the metadata */
    uint32_t poll : 1;  /* its exception leaves before the instruction */
};

/* A part of the code cache, with all that belongs to its code. Regions are filled in turn; the
 * oldest is emptied when its turn comes again.
 *
 *     code:      | translations -->                 |
 *     metadata:  | blocks, links, instructions -->    <-- fault sites |
 */
struct region {
    size_t code;            /* where its code begins, offset in the code cache */
    uint8_t *meta;          /* where its metadata begins */
    size_t used, meta_used; /* bytes of code, and of metadata from the front */
    size_t fault_count;
    struct tblock *blocks;
    struct tlink *links;
};

struct jump_slot {
    uint64_t negated_tag; /* -(RIP + key) */
    uint8_t *entry;
    uint64_t page_base; /* of RIP */
    uint64_t unused;
};

/* One for each address space's user code, and one for all kernel code. */
#define JUMP_CACHES (TLB_SPACES + 1)

struct jump_cache {
    uint64_t key;   /* of what may be found now; made from: */
    uint64_t epoch; /* tlb_space.epoch, or tlb.kernel_epoch */
    uint32_t mode;
    uint64_t mask; /* the bits of RIP that choose a slot */
    struct jump_slot *slots;
};

struct translator {
    struct interpreter interp; /* first: cpu->engine is also the interpreter's */
    uint8_t *writable, *executable;
    size_t size;   /* of the code cache */
    uint8_t *next; /* where the next translation is made, writable address */
    struct region regions[CACHE_REGIONS];
    struct region *region;           /* that is being filled */
    size_t region_code, region_meta; /* bytes of each */
    uint8_t *meta;
    struct tblock **hash, **pages;
    unsigned hash_bits, page_hash_bits;
    struct jump_cache jumps[JUMP_CACHES];
    struct jump_slot *jump_slots; /* of all */
    uint64_t jump_seed;           /* random */
    uint8_t *data_stores;         /* by page: stores beside its code since some of it was dropped */
    struct prepared_insns *prepared;
    uint64_t generation; /* counts flushes: links from before are void */
    bool full;           /* the region that is being filled: see translate_make_room() */
    /* common code, writable addresses */
    void (*enter)(struct cpu *cpu, const uint8_t *entry);
    uint8_t *stub_interpret, *stub_link, *stub_exit, *stub_leave, *stub_unknown, *stub_window;
    struct plan *plan;         /* of the block in the making */
    struct verifier *verifier; /* tests: proves each block; else NULL */
};

/* --- stubs.c --- */
void translate_emit_stubs(struct translator *t);
/* R14 = RIP: goes on there if the jump cache knows it, else leaves. */
void translate_emit_lookup(struct translator *t, struct assembler *a);
/* Two parts of it. R15 = slot of the jump cache for the RIP in R14, which is changed; returns the
 * rel32 of the jump for a RIP that the cache doesn't know. Uses RCX. */
uint8_t *translate_emit_find(struct assembler *a);
/* On to where slot R15 leads. */
void translate_emit_follow(struct assembler *a);

/* --- emit.c --- */
/* Translates the code at CS:RIP, `avail` bytes at `code`, for cpu->mode and `extra` bits. NULL: not
 * translatable here (the interpreter must do it), or t->full was set. */
struct tblock *translate_block(struct cpu *cpu, const uint8_t *code, unsigned avail,
                               uint32_t extra);

/* --- cache.c --- */
/* Brings the part of cpu->stats up to date that says how full the cache is. */
void translate_note_usage(struct cpu *cpu);
/* `size` bounds code and metadata together. */
int translate_cache_init(struct cpu *cpu, struct translator *t, size_t size, struct err *err);
void translate_cache_free(struct translator *t);
void translate_cache_flush(struct cpu *cpu);
/* A new block is made in three steps: it is begun (NULL: the region is full, see t->full), its code
 * is written at t->next, and it ends at `end` (writable address) and can be found from then on; or
 * it is dropped with everything that was taken for it. */
struct tblock *translate_begin_block(struct translator *t);
void translate_end_block(struct cpu *cpu, struct tblock *b, const uint8_t *end);
void translate_drop_block(struct translator *t, struct tblock *b);
/* After t->full was set: goes on to the next region, and empties it. Only where no translated code
 * is on the host's stack. */
void translate_make_room(struct cpu *cpu);
/* For the block that is being made. NULL: it needs more metadata than any block should. */
struct tlink *translate_new_link(struct translator *t);
struct tinsn *translate_new_insn(struct translator *t, const uint8_t *bytes, unsigned len,
                                 unsigned page_offset);
/* Notes that the native instruction at `at` (writable address) may fault in place of `in`, or is a
 * poll before it; the addresses must rise. */
void translate_add_fault_site(struct translator *t, const struct tinsn *in, const uint8_t *at,
                              bool poll);
/* The fault site at an offset in the code cache, or NULL.
 * Safe in signal handlers. */
const struct fault_site *translate_find_fault_site(const struct translator *t, size_t offset);
struct tblock *translate_find(struct cpu *cpu, const uint8_t *code, uint32_t extra);
void translate_link(struct translator *t, struct tlink *link, struct tblock *to);
/* The jump cache of the address space and privilege in force, with the key of the present. */
struct jump_cache *translate_jumps(struct cpu *cpu);
/* The translation that the jump cache in force has for RIP, or NULL. */
const uint8_t *translate_jump_find(const struct jump_cache *jumps, uint64_t rip);
/* Enters the translation of the code at RIP into it, which has just been found through the TLB. */
void translate_jump_enter(struct cpu *cpu, uint8_t *entry);

/* --- run.c --- */
/* Called by translated code: interprets one instruction, whose struct tinsn is at an offset in the
 * metadata. Returns where to go on in the code cache: `behind`, or after a branch its target; NULL:
 * leave. */
const uint8_t *translate_interpret(struct cpu *cpu, uint64_t insn, const uint8_t *behind);

/* --- prepare.c --- */
struct prepared_insns *prepared_insns_new(void);
void prepared_insns_free(struct prepared_insns *p);
/* The instruction as the interpreter executes it, followed by one whose exec is `last`. It is in no
 * block: its `end` counts from its own first byte. */
const struct insn *translate_prepare(struct cpu *cpu, struct tinsn *in, exec_fn *last);

static inline struct translator *translator_of(const struct cpu *cpu)
{
    return cpu->engine;
}

/* Fault sites grow down from the end of a region's metadata. */
static inline struct fault_site *translate_fault_site(const struct translator *t,
                                                      const struct region *r, size_t n)
{
    return (struct fault_site *)(r->meta + t->region_meta) - 1 - n;
}

static inline struct tinsn *tinsn_at(const struct translator *t, uint64_t offset)
{
    return (struct tinsn *)(t->meta + offset);
}

static inline size_t gpr_at(unsigned guest)
{
    return offsetof(struct cpu, gpr) + 8 * guest;
}

/* The host register that always holds a guest register, or REG_NONE: RSP, whose value has to be
 * computed, and those in memory. */
static inline unsigned host_register(unsigned guest)
{
    static const uint8_t map[16] = {RAX, R9,       RDX,      RBX,      REG_NONE, RBP, RSI, RDI,
                                    R8,  REG_NONE, REG_NONE, REG_NONE, R12,      R13, R10, R11};

    return map[guest];
}

#endif
