/* The code cache and the tables that find blocks in it.
 *
 * Code and metadata are taken from regions that are filled in turn, so that room is made by
 * emptying one of them: the links into it go back to their stubs, the links out of it are taken off
 * their targets' lists, and tables and jump caches forget its blocks. The work is proportional to
 * the region's blocks. */
#define _GNU_SOURCE
#include "engine/translate/translator.h"

#include "base/random.h"
#include "engine/code_memory.h"
#include "engine/engine.h"
#include "engine/translate/plan.h"
#include "engine/translate/report.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define BLOCK_CODE_ROOM ((PLAN_MAX_INSNS + 1) * INSN_ROOM)
#define BLOCK_META_ROOM 16384
#define STUB_ROOM 4096
#define META_PERCENT 30
#define MAX_DATA_STORES 64
#define USER_JUMP_BITS 15
#define KERNEL_JUMP_BITS 16
#define JUMP_SLOTS_SIZE                                                                            \
    (sizeof(struct jump_slot) * ((TLB_SPACES << USER_JUMP_BITS) + (1u << KERNEL_JUMP_BITS)))

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
    return &t->hash[mix(code, t->hash_bits)];
}

static struct tblock **page_slot(const struct translator *t, const uint8_t *code)
{
    return &t->pages[mix(page_of(code), t->page_hash_bits)];
}

/* --- jump caches --- */

/* A kernel has more code that is in use at the same time than a program. */
static unsigned slot_count(unsigned cache)
{
    return 1u << (cache == TLB_SPACES ? KERNEL_JUMP_BITS : USER_JUMP_BITS);
}

/* An empty slot leads out, if it is ever met: its tag belongs to no RIP that a key makes of it but
 * one in 2^64. */
static void clear_slot(const struct translator *t, struct jump_slot *slot)
{
    *slot = (struct jump_slot){.entry = t->stub_unknown + (t->executable - t->writable)};
}

static uint64_t scramble(uint64_t x)
{
    return random_repeatable(&x);
}

/* What was entered under another key is not found any more, so nothing has to be emptied when
 * linear addresses may mean other code. The guest cannot foresee keys. */
struct jump_cache *translate_jumps(struct cpu *cpu)
{
    struct translator *t = translator_of(cpu);
    struct tlb_space *space = cpu->tlb->space;
    bool user = cpu->cpl == 3;
    struct jump_cache *jumps = &t->jumps[user ? (size_t)(space - cpu->tlb->spaces) : TLB_SPACES];
    uint64_t epoch = user ? space->epoch : cpu->tlb->kernel_epoch;

    if (jumps->epoch != epoch || jumps->mode != cpu->mode) {
        jumps->epoch = epoch;
        jumps->mode = cpu->mode;
        jumps->key = scramble(t->jump_seed + scramble(epoch + scramble(cpu->mode)));
    }
    cpu->native.jumps = jumps->slots;
    cpu->native.jump_mask = jumps->mask;
    cpu->native.jump_key = jumps->key;
    cpu->native.negated_key = 0 - jumps->key;
    return jumps;
}

static struct jump_slot *jump_slot(const struct jump_cache *jumps, uint64_t rip)
{
    return &jumps->slots[(rip & jumps->mask) >> JUMP_CACHE_SHIFT];
}

const uint8_t *translate_jump_find(const struct jump_cache *jumps, uint64_t rip)
{
    const struct jump_slot *slot = jump_slot(jumps, rip);

    return slot->negated_tag + rip + jumps->key == 0 ? slot->entry : NULL;
}

void translate_jump_enter(struct cpu *cpu, uint8_t *entry)
{
    uint64_t rip = cpu->rip;
    struct jump_cache *jumps;
    struct jump_slot *slot;

    tlb_note_code(cpu, rip);
    jumps = translate_jumps(cpu);
    slot = jump_slot(jumps, rip);
    slot->negated_tag = 0 - (rip + jumps->key);
    slot->entry = entry;
    slot->page_base = rip & PAGE_MASK;
}

/* No jump cache may lead to a block that has died. Where its slots are follows from the block's
 * place in its page, but for the bits of the page's address. */
static void forget_block(struct translator *t, const struct tblock *dead)
{
    unsigned first = ((uintptr_t)dead->code & ~(uintptr_t)PAGE_MASK) >> JUMP_CACHE_SHIFT;
    unsigned step = PAGE_SIZE >> JUMP_CACHE_SHIFT;

    for (unsigned i = 0; i < JUMP_CACHES; i++)
        for (unsigned n = first; n < slot_count(i); n += step)
            if (t->jumps[i].slots[n].entry == dead->entry)
                clear_slot(t, &t->jumps[i].slots[n]);
}

static void forget_jumps(struct translator *t)
{
    for (unsigned i = 0; i < JUMP_CACHES; i++)
        for (unsigned n = 0; n < slot_count(i); n++)
            clear_slot(t, &t->jumps[i].slots[n]);
}

/* No jump cache may lead to a region that is emptied. */
static void forget_region(struct translator *t, const struct region *r)
{
    const uint8_t *start = t->executable + r->code;

    for (unsigned i = 0; i < JUMP_CACHES; i++)
        for (unsigned n = 0; n < slot_count(i); n++)
            if ((size_t)(t->jumps[i].slots[n].entry - start) < t->region_code)
                clear_slot(t, &t->jumps[i].slots[n]);
}

/* --- memory of regions --- */

/* NULL: the block that is being made needs more than any block should. */
static void *take_meta(struct translator *t, size_t size, size_t alignment)
{
    struct region *r = t->region;
    size_t start = (r->meta_used + alignment - 1) & ~(alignment - 1);

    if (start + size + (r->fault_count + 1) * sizeof(struct fault_site) > t->region_meta)
        return NULL;
    r->meta_used = start + size;
    return r->meta + start;
}

struct tlink *translate_new_link(struct translator *t)
{
    struct tlink *link = take_meta(t, sizeof *link, _Alignof(struct tlink));

    if (!link)
        return NULL;
    *link = (struct tlink){.next_in_region = t->region->links};
    t->region->links = link;
    return link;
}

struct tinsn *translate_new_insn(struct translator *t, const uint8_t *bytes, unsigned len,
                                 unsigned page_offset)
{
    struct tinsn *in = take_meta(t, sizeof *in + len, _Alignof(struct tinsn));

    if (!in)
        return NULL;
    *in = (struct tinsn){
        .prepared = UINT32_MAX,
        .page_offset = (uint16_t)page_offset,
        .len = (uint8_t)len,
    };
    memcpy(in->bytes, bytes, len);
    return in;
}

void translate_add_fault_site(struct translator *t, const struct tinsn *in, const uint8_t *at,
                              bool poll)
{
    struct region *r = t->region;

    *translate_fault_site(t, r, r->fault_count++) = (struct fault_site){
        .offset = (uint32_t)(at - t->writable),
        .insn = (uint32_t)((const uint8_t *)in - t->meta) & INT32_MAX,
        .poll = poll,
    };
}

const struct fault_site *translate_find_fault_site(const struct translator *t, size_t offset)
{
    size_t n = (offset - t->regions[0].code) / t->region_code, low = 0, high;
    const struct region *r = &t->regions[n];

    if (offset < t->regions[0].code || n >= CACHE_REGIONS)
        return NULL;
    high = r->fault_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        const struct fault_site *site = translate_fault_site(t, r, middle);

        if (site->offset == offset)
            return site;
        if (site->offset < offset)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

/* --- blocks --- */

struct tblock *translate_find(struct cpu *cpu, const uint8_t *code, uint32_t extra)
{
    struct tblock *b = *hash_slot(translator_of(cpu), code);

    while (b && !(b->code == code && b->mode == (cpu->mode | extra)))
        b = b->next_in_hash;
    return b;
}

struct tblock *translate_begin_block(struct translator *t)
{
    struct region *r = t->region;
    struct tblock *b;

    if (r->used + BLOCK_CODE_ROOM > t->region_code ||
        r->meta_used + r->fault_count * sizeof(struct fault_site) + BLOCK_META_ROOM >
            t->region_meta) {
        t->full = true;
        return NULL;
    }
    b = take_meta(t, sizeof *b, sizeof *b);
    t->next = t->writable + r->code + r->used;
    *b = (struct tblock){.entry = t->next + (t->executable - t->writable)};
    return b;
}

void translate_drop_block(struct translator *t, struct tblock *b)
{
    struct region *r = t->region;

    while ((uint8_t *)r->links > (uint8_t *)b)
        r->links = r->links->next_in_region;
    while (r->fault_count &&
           translate_fault_site(t, r, r->fault_count - 1)->offset >= r->code + r->used)
        r->fault_count--;
    r->meta_used = (size_t)((uint8_t *)b - r->meta);
}

void translate_end_block(struct cpu *cpu, struct tblock *b, const uint8_t *end)
{
    struct translator *t = translator_of(cpu);
    struct region *r = t->region;
    struct tblock **slot = hash_slot(t, b->code), **page = page_slot(t, b->code);

    cpu->stats.translate.host_bytes += (size_t)(end - t->next);
    cpu->stats.translate.guest_bytes += b->len;
    cpu->stats.translate.blocks++;
    r->used = ((size_t)(end - (t->writable + r->code)) + 15) & ~(size_t)15;
    b->next_in_region = r->blocks;
    r->blocks = b;
    b->next_in_hash = *slot;
    *slot = b;
    b->next_in_page = *page;
    b->back_in_page = page;
    if (*page)
        (*page)->back_in_page = &b->next_in_page;
    *page = b;
    block_mark_code(cpu, b->code);
}

void translate_link(struct translator *t, struct tlink *link, struct tblock *to)
{
    if (link->to || to->mode == BLOCK_DEAD)
        return;
    link->to = to;
    link->next = to->incoming;
    link->back = &to->incoming;
    if (link->next)
        link->next->back = &link->next;
    to->incoming = link;
    asm_patch(link->site, t->writable + (to->entry - t->executable));
}

static void unlink_block(struct tlink *link)
{
    if (!link->to)
        return;
    link->to = NULL;
    *link->back = link->next;
    if (link->next)
        link->next->back = link->back;
    asm_patch(link->site, link->stub);
}

/* Takes the block out of all tables but the jump caches. */
static void take_out(struct translator *t, struct tblock *dead)
{
    struct tblock **at = hash_slot(t, dead->code);

    while (*at != dead)
        at = &(*at)->next_in_hash;
    *at = dead->next_in_hash;
    *dead->back_in_page = dead->next_in_page;
    if (dead->next_in_page)
        dead->next_in_page->back_in_page = dead->back_in_page;
    dead->mode = BLOCK_DEAD;
    while (dead->incoming)
        unlink_block(dead->incoming);
}

static void kill_block(struct translator *t, struct tblock *dead)
{
    take_out(t, dead);
    forget_block(t, dead);
}

/* Kills the blocks that overlap the changed bytes. True: the page still has live ones.
 * A page that had code once and is full of data now would make each store slow: after a number of
 * stores that met no code all of its blocks go, and come back if they are executed again. */
static bool translated_code_changed(struct cpu *cpu, const uint8_t *start, uint64_t len)
{
    struct translator *t = translator_of(cpu);
    uint8_t *stores = &t->data_stores[mix(page_of(start), t->page_hash_bits)];
    bool left = false, killed = false, all = ++*stores > MAX_DATA_STORES;

    for (struct tblock *b = *page_slot(t, start), *next; b; b = next) {
        next = b->next_in_page;
        if (page_of(b->code) != page_of(start))
            continue;
        if (all || (b->code < start + len && start < b->code + b->len)) {
            kill_block(t, b);
            killed = true;
        } else {
            left = true;
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

/* --- making room --- */

static void empty_region(struct cpu *cpu, struct region *r)
{
    struct translator *t = translator_of(cpu);
    size_t link = (size_t)((uint8_t *)cpu->native.link - r->meta);

    for (struct tblock *b = r->blocks; b; b = b->next_in_region) {
        if (b->mode == BLOCK_DEAD)
            continue;
        take_out(t, b);
        cpu->stats.translate.blocks_evicted++;
    }
    for (struct tlink *l = r->links; l; l = l->next_in_region)
        unlink_block(l);
    forget_region(t, r);
    if (link < t->region_meta)
        cpu->native.link = NULL;
    r->used = r->meta_used = r->fault_count = 0;
    r->blocks = NULL;
    r->links = NULL;
    report_eviction(cpu, t->executable + r->code, t->region_code);
}

void translate_make_room(struct cpu *cpu)
{
    struct translator *t = translator_of(cpu);

    if (++t->region == t->regions + CACHE_REGIONS)
        t->region = t->regions;
    if (t->region->used) {
        empty_region(cpu, t->region);
        cpu->stats.translate.evictions++;
    }
    t->full = false;
}

void translate_cache_flush(struct cpu *cpu)
{
    struct translator *t = translator_of(cpu);

    memset(t->hash, 0, sizeof(*t->hash) << t->hash_bits);
    memset(t->pages, 0, sizeof(*t->pages) << t->page_hash_bits);
    for (struct region *r = t->regions; r < t->regions + CACHE_REGIONS; r++) {
        r->used = r->meta_used = r->fault_count = 0;
        r->blocks = NULL;
        r->links = NULL;
    }
    t->region = t->regions;
    t->full = false;
    t->generation++;
    interpreter_flush(cpu);
    forget_jumps(t);
}

void translate_note_usage(struct cpu *cpu)
{
    const struct translator *t = translator_of(cpu);
    struct translate_stats *s = &cpu->stats.translate;

    s->code_used = s->meta_used = 0;
    for (const struct region *r = t->regions; r < t->regions + CACHE_REGIONS; r++) {
        s->code_used += r->used;
        s->meta_used += r->meta_used + r->fault_count * sizeof(struct fault_site);
    }
    s->cache_size = CACHE_REGIONS * (t->region_code + t->region_meta);
}

/* --- life --- */

static void *map_pages(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

static void unmap_pages(void *p, size_t size)
{
    if (p)
        munmap(p, size);
}

/* The blocks of programs have about 500 bytes of code and metadata, and a page of code has about
 * eight of them. */
static void choose_sizes(struct translator *t, size_t size)
{
    size_t meta = size * META_PERCENT / 100;

    t->region_meta = meta / CACHE_REGIONS & ~(size_t)63;
    t->region_code = (size - meta) / CACHE_REGIONS & ~(size_t)63;
    t->size = STUB_ROOM + CACHE_REGIONS * t->region_code;
    t->hash_bits = 63 - (unsigned)__builtin_clzll(size / 512);
    t->page_hash_bits = t->hash_bits - 3;
}

static void place_jump_caches(struct translator *t)
{
    struct jump_slot *slots = t->jump_slots;

    for (unsigned i = 0; i < JUMP_CACHES; i++) {
        t->jumps[i].slots = slots;
        t->jumps[i].mask = (uint64_t)(slot_count(i) - 1) << JUMP_CACHE_SHIFT;
        slots += slot_count(i);
    }
}

static void make_regions(struct translator *t)
{
    for (size_t i = 0; i < CACHE_REGIONS; i++)
        t->regions[i] = (struct region){
            .code = STUB_ROOM + i * t->region_code,
            .meta = t->meta + i * t->region_meta,
        };
    t->region = t->regions;
}

int translate_cache_init(struct cpu *cpu, struct translator *t, size_t size, struct err *err)
{
    /* perf looks into its map file for anonymous memory only */
    bool for_perf = cpu->engine_config && cpu->engine_config->perf_map;
    struct code_memory code;
    int ret;

    choose_sizes(t, size);
    ret = code_memory_init(&code, for_perf ? NULL : "translations", t->size, err);
    if (ret)
        return ret;
    t->writable = code.writable;
    t->executable = code.executable;
    t->meta = map_pages(t->region_meta * CACHE_REGIONS);
    t->hash = map_pages(sizeof(*t->hash) << t->hash_bits);
    t->pages = map_pages(sizeof(*t->pages) << t->page_hash_bits);
    t->data_stores = map_pages((size_t)1 << t->page_hash_bits);
    t->jump_slots = map_pages(JUMP_SLOTS_SIZE);
    t->prepared = prepared_insns_new();
    if (!t->meta || !t->hash || !t->pages || !t->jump_slots || !t->data_stores || !t->prepared)
        return err_set(err, -ENOMEM, "not enough memory for the translator's tables");
    make_regions(t);
    translate_emit_stubs(t);
    place_jump_caches(t);
    forget_jumps(t);
    memory_set_code_listener(cpu->mem, code_changed, cpu);
    return 0;
}

void translate_cache_free(struct translator *t)
{
    code_memory_free(&(struct code_memory){t->writable, t->executable, t->size});
    unmap_pages(t->meta, t->region_meta * CACHE_REGIONS);
    unmap_pages(t->hash, sizeof(*t->hash) << t->hash_bits);
    unmap_pages(t->pages, sizeof(*t->pages) << t->page_hash_bits);
    unmap_pages(t->data_stores, (size_t)1 << t->page_hash_bits);
    unmap_pages(t->jump_slots, JUMP_SLOTS_SIZE);
    prepared_insns_free(t->prepared);
}
