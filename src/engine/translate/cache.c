/* The code cache and the tables that find blocks in it. */
#define _GNU_SOURCE
#include "engine/translate/translator.h"

#include "engine/code_memory.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define CODE_SIZE (32u * 1024 * 1024)
#define META_SIZE (32u * 1024 * 1024)
#define HASH_BITS 16
#define PAGE_HASH_BITS 13
#define MAX_DATA_STORES 64

static uint64_t mix(const void *p, unsigned bits)
{
    return (uint64_t)(uintptr_t)p * UINT64_C(0x9E3779B97F4A7C15) >> (64 - bits);
}

static const uint8_t *page_of(const uint8_t *code)
{
    return (const uint8_t *)((uintptr_t)code & (uintptr_t)PAGE_MASK);
}

static struct tblock **hash_slot(const struct translator *t, const uint8_t *code)
{
    return &t->hash[mix(code, HASH_BITS)];
}

static struct tblock **page_slot(const struct translator *t, const uint8_t *code)
{
    return &t->pages[mix(page_of(code), PAGE_HASH_BITS)];
}

void *translate_meta(struct translator *t, size_t size)
{
    void *p = t->meta + t->meta_used;

    size = (size + 63) & ~(size_t)63;
    if (t->meta_used + size > META_SIZE) {
        t->full = true;
        return NULL;
    }
    t->meta_used += size;
    return p;
}

/* --- jump caches --- */

/* An empty slot holds an address that has another slot. */
static void clear_slot(const struct translator *t, struct jump_cache *jumps, unsigned n)
{
    struct jump_slot *slot = &jumps->slots[n];

    slot->negated_rip = n == 0 ? 0 - (UINT64_C(1) << JUMP_CACHE_SHIFT) : 0;
    slot->entry = t->stub_exit + (t->executable - t->writable);
}

static void clear_jumps(const struct translator *t, struct jump_cache *jumps)
{
    for (unsigned i = 0; i < 1u << JUMP_CACHE_BITS; i++)
        clear_slot(t, jumps, i);
}

struct jump_cache *translate_jumps(struct cpu *cpu)
{
    struct translator *t = translator_of(cpu);
    struct tlb_space *space = cpu->tlb->space;
    size_t n = (size_t)(space - cpu->tlb->spaces) * 2 + (cpu->cpl == 3);
    struct jump_cache *jumps = &t->jumps[n];

    if (jumps->epoch != space->epoch + 1 || jumps->mode != cpu->mode) {
        clear_jumps(t, jumps);
        jumps->epoch = space->epoch + 1; /* 0 is never valid */
        jumps->mode = cpu->mode;
    }
    cpu->native.jumps = jumps->slots;
    return jumps;
}

static struct jump_slot *jump_slot(const struct jump_cache *jumps, uint64_t rip)
{
    return (struct jump_slot *)&jumps
        ->slots[rip >> JUMP_CACHE_SHIFT & ((1u << JUMP_CACHE_BITS) - 1)];
}

const uint8_t *translate_jump_find(const struct jump_cache *jumps, uint64_t rip)
{
    const struct jump_slot *slot = jump_slot(jumps, rip);

    return slot->negated_rip + rip == 0 ? slot->entry : NULL;
}

void translate_jump_enter(struct jump_cache *jumps, uint64_t rip, uint8_t *entry)
{
    struct jump_slot *slot = jump_slot(jumps, rip);

    slot->negated_rip = 0 - rip;
    slot->entry = entry;
}

/* No jump cache may lead to a block that has died. Where its slots are follows from the block's
 * place in its page, but for the bits of the page's address. */
static void forget_block(struct translator *t, const struct tblock *dead)
{
    unsigned first = ((uintptr_t)dead->code & ~(uintptr_t)PAGE_MASK) >> JUMP_CACHE_SHIFT;
    unsigned step = PAGE_SIZE >> JUMP_CACHE_SHIFT;

    for (unsigned i = 0; i < TLB_SPACES * 2; i++)
        for (unsigned n = first; n < 1u << JUMP_CACHE_BITS; n += step)
            if (t->jumps[i].slots[n].entry == dead->entry)
                clear_slot(t, &t->jumps[i], n);
}

static void forget_jumps(struct cpu *cpu)
{
    struct translator *t = translator_of(cpu);

    for (unsigned i = 0; i < TLB_SPACES * 2; i++)
        t->jumps[i].epoch = 0;
    translate_jumps(cpu);
}

/* --- blocks --- */

struct tblock *translate_find(struct cpu *cpu, const uint8_t *code)
{
    struct tblock *b = *hash_slot(translator_of(cpu), code);

    while (b && !(b->code == code && b->mode == cpu->mode))
        b = b->next_in_hash;
    return b;
}

void translate_enter_block(struct cpu *cpu, struct tblock *b)
{
    struct translator *t = translator_of(cpu);
    struct tblock **slot = hash_slot(t, b->code), **page = page_slot(t, b->code);

    b->next_in_hash = *slot;
    *slot = b;
    b->next_in_page = *page;
    *page = b;
    block_mark_code(cpu, b->code);
    cpu->stats.blocks_decoded++;
}

void translate_link(struct translator *t, struct tlink *link, struct tblock *to)
{
    if (link->to || to->mode == BLOCK_DEAD)
        return;
    link->to = to;
    link->next = to->incoming;
    to->incoming = link;
    asm_patch(link->site, t->writable + (to->entry - t->executable));
}

static void kill_block(struct translator *t, struct tblock *dead)
{
    struct tblock **at = hash_slot(t, dead->code);

    while (*at && *at != dead)
        at = &(*at)->next_in_hash;
    if (*at)
        *at = dead->next_in_hash;
    dead->mode = BLOCK_DEAD;
    forget_block(t, dead);
    for (struct tlink *link = dead->incoming; link; link = link->next) {
        link->to = NULL;
        asm_patch(link->site, link->stub);
    }
    dead->incoming = NULL;
}

/* Kills the blocks that overlap the changed bytes. True: the page still has live ones.
 * A page that had code once and is full of data now would make each store slow: after a number of
 * stores that met no code all of its blocks go, and come back if they are executed again. */
static bool translated_code_changed(struct cpu *cpu, const uint8_t *start, uint64_t len)
{
    struct translator *t = translator_of(cpu);
    uint8_t *stores = &t->data_stores[mix(page_of(start), PAGE_HASH_BITS)];
    bool left = false, killed = false, all = ++*stores > MAX_DATA_STORES;

    for (struct tblock **at = page_slot(t, start), *b; (b = *at) != NULL;) {
        bool here = page_of(b->code) == page_of(start);

        if (here && (all || (b->code < start + len && start < b->code + b->len))) {
            *at = b->next_in_page;
            kill_block(t, b);
            killed = true;
        } else {
            left |= here;
            at = &b->next_in_page;
        }
    }
    if (all || killed)
        *stores = 0;
    if (killed)
        atomic_fetch_or(&cpu->attention, ATTN_CODE);
    return left;
}

static void code_changed(void *opaque, gpa_t gpa, uint64_t len)
{
    struct cpu *cpu = opaque;
    const uint8_t *start = memory_ram(cpu->mem, gpa, len);
    bool left = block_code_changed(cpu, gpa, len);

    if (start && translated_code_changed(cpu, start, len))
        left = true;
    if (!left)
        __atomic_fetch_and(memory_page_flags(cpu->mem, gpa), (uint8_t)~PAGE_CODE, __ATOMIC_RELAXED);
}

/* --- life --- */

void translate_cache_flush(struct cpu *cpu)
{
    struct translator *t = translator_of(cpu);

    memset(t->hash, 0, sizeof(*t->hash) << HASH_BITS);
    memset(t->pages, 0, sizeof(*t->pages) << PAGE_HASH_BITS);
    t->used = t->stubs_end;
    t->meta_used = 0;
    t->fault_count = 0;
    t->full = false;
    interpreter_flush(cpu); /* instructions in `meta` point at thunks */
    forget_jumps(cpu);
}

static void *map_pages(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

int translate_cache_init(struct cpu *cpu, struct translator *t, struct err *err)
{
    struct code_memory code;
    int ret = code_memory_init(&code, "translations", CODE_SIZE, err);

    if (ret)
        return ret;
    t->writable = code.writable;
    t->executable = code.executable;
    t->size = code.size;
    t->meta = map_pages(META_SIZE);
    t->hash = map_pages(sizeof(*t->hash) << HASH_BITS);
    t->pages = map_pages(sizeof(*t->pages) << PAGE_HASH_BITS);
    t->faults = map_pages(sizeof(*t->faults) * MAX_FAULTS);
    t->data_stores = map_pages(1u << PAGE_HASH_BITS);
    t->jumps = map_pages(sizeof(*t->jumps) * TLB_SPACES * 2);
    if (!t->meta || !t->hash || !t->pages || !t->faults || !t->jumps || !t->data_stores)
        return err_set(err, -ENOMEM, "not enough memory for the translator's tables");
    translate_emit_stubs(t);
    memory_set_code_listener(cpu->mem, code_changed, cpu);
    return 0;
}

static void unmap_pages(void *p, size_t size)
{
    if (p)
        munmap(p, size);
}

void translate_cache_free(struct translator *t)
{
    code_memory_free(&(struct code_memory){t->writable, t->executable, CODE_SIZE});
    unmap_pages(t->meta, META_SIZE);
    unmap_pages(t->hash, sizeof(*t->hash) << HASH_BITS);
    unmap_pages(t->pages, sizeof(*t->pages) << PAGE_HASH_BITS);
    unmap_pages(t->faults, sizeof(*t->faults) * MAX_FAULTS);
    unmap_pages(t->data_stores, 1u << PAGE_HASH_BITS);
    unmap_pages(t->jumps, sizeof(*t->jumps) * TLB_SPACES * 2);
}
