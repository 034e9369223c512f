#include "engine/interpret/block.h"

#include "base/timeline.h"
#include "cpu/access.h"
#include "engine/interpret/exec.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define ARENA_SIZE (8u * 1024 * 1024)
#define HASH_BITS 14
#define PAGE_HASH_BITS 12
#define BLOCK_BYTES(n) (sizeof(struct block) + (n) * sizeof(struct insn))

static struct interpreter *interp_of(const struct cpu *cpu)
{
    return cpu->engine;
}

static struct block **hash_slot(const struct interpreter *it, const uint8_t *code)
{
    uint64_t h = (uint64_t)(uintptr_t)code * UINT64_C(0x9E3779B97F4A7C15);

    return &it->hash[h >> (64 - HASH_BITS)];
}

static uintptr_t page_of(const uint8_t *code)
{
    return (uintptr_t)code & (uintptr_t)PAGE_MASK;
}

static struct block **page_slot(const struct interpreter *it, const uint8_t *code)
{
    uint64_t h = (uint64_t)page_of(code) * UINT64_C(0x9E3779B97F4A7C15);

    return &it->pages[h >> (64 - PAGE_HASH_BITS)];
}

/* --- dropping code --- */

static bool has_page(const struct block *b, uintptr_t page)
{
    return page_of(b->code) == page || (b->code2 && page_of(b->code2) == page);
}

/* The link to follow in the list that begins at `slot`. */
static struct block **link_in_slot(const struct interpreter *it, struct block *b,
                                   struct block *const *slot)
{
    return page_slot(it, b->code) == slot ? &b->next_in_page : &b->next_in_page2;
}

static bool overlaps(const struct block *b, const uint8_t *start, const uint8_t *end)
{
    unsigned first = b->len;

    if (b->code2)
        first = (unsigned)(PAGE_SIZE - ((uintptr_t)b->code & ~(uintptr_t)PAGE_MASK));
    if (b->code < end && start < b->code + first)
        return true;
    return b->code2 && b->code2 < end && start < b->code2 + (b->len - first);
}

static void unhash(struct interpreter *it, struct block *dead)
{
    struct block **at = hash_slot(it, dead->code);

    while (*at && *at != dead)
        at = &(*at)->next_in_hash;
    if (*at)
        *at = dead->next_in_hash;
}

static void kill_block(struct cpu *cpu, struct block *b)
{
    unhash(interp_of(cpu), b);
    b->mode = BLOCK_DEAD;
    atomic_fetch_or(&cpu->attention, ATTN_CODE);
}

/* Lists of pages that share a slot are one. A dead block leaves its list, or code that changes
 * itself would make it longer with every change; but one with two pages, which may be in two lists,
 * or twice in one, stays. */
bool block_code_changed(struct cpu *cpu, gpa_t gpa, uint64_t len)
{
    struct interpreter *it = interp_of(cpu);
    const uint8_t *start = memory_ram(cpu->mem, gpa, len);
    struct block **slot;
    bool left = false;

    if (!start)
        return false;
    slot = page_slot(it, start);
    for (struct block **at = slot, *b; (b = *at);) {
        if (b->mode != BLOCK_DEAD && has_page(b, page_of(start))) {
            if (overlaps(b, start, start + len))
                kill_block(cpu, b);
            else
                left = true;
        }
        if (b->mode == BLOCK_DEAD && !b->code2)
            *at = b->next_in_page;
        else
            at = link_in_slot(it, b, slot);
    }
    return left;
}

static void code_changed(void *opaque, gpa_t gpa, uint64_t len)
{
    struct cpu *cpu = opaque;

    if (!block_code_changed(cpu, gpa, len))
        __atomic_fetch_and(memory_page_flags(cpu->mem, gpa), (uint8_t)~PAGE_CODE, __ATOMIC_RELAXED);
}

/* Pages keep PAGE_CODE; the first store to one finds that there is nothing to drop. */
static void drop_blocks(struct cpu *cpu)
{
    struct interpreter *it = interp_of(cpu);

    memset(it->hash, 0, sizeof(*it->hash) << HASH_BITS);
    memset(it->jumps, 0, sizeof(*it->jumps) << JUMP_BITS);
    memset(it->pages, 0, sizeof(*it->pages) << PAGE_HASH_BITS);
    it->arena_used = 0;
    atomic_fetch_or(&cpu->attention, ATTN_CODE);
}

void interpreter_flush(struct cpu *cpu)
{
    drop_blocks(cpu);
    thunk_cache_clear(interp_of(cpu)->thunks);
    interp_of(cpu)->flushes++;
}

/* --- making blocks --- */

/* Bytes of code at the present CS:RIP. */
struct fetch {
    const uint8_t *host;  /* in guest RAM, or in `bytes` */
    const uint8_t *host2; /* the second page's bytes, when an instruction crosses */
    unsigned avail;
    bool in_ram;
    uint8_t bytes[2 * INSN_MAX_LEN];
};

static gva_t code_address(const struct cpu *cpu, unsigned offset)
{
    if (cpu_is_64bit(cpu))
        return cpu->rip + offset;
    return (uint32_t)(cpu->seg[CS].base + cpu->rip + offset);
}

/* #GP(0) when the code segment ends before the instruction does. */
static bool within_limit(struct cpu *cpu, unsigned len)
{
    if (cpu_is_64bit(cpu)) {
        if (likely(cpu_canonical(cpu, cpu->rip)))
            return true;
    } else if (cpu->rip + len - 1 <= cpu->seg[CS].limit) {
        return true;
    }
    return cpu_raise_gp(cpu, 0);
}

static bool fetch_page(struct cpu *cpu, struct fetch *f)
{
    gva_t gva = code_address(cpu, 0);
    void *host;

    if (!within_limit(cpu, 1) || !lin_span(cpu, gva, ACCESS_FETCH, &host, &f->avail))
        return false;
    f->in_ram = host != NULL;
    f->host = host;
    f->host2 = NULL;
    if (host)
        return true;
    if (f->avail > INSN_MAX_LEN)
        f->avail = INSN_MAX_LEN;
    f->host = f->bytes;
    return lin_read(cpu, gva, f->bytes, f->avail, ACCESS_FETCH);
}

/* Puts an instruction of which `have` bytes are in this page, and the rest in the next, together.
 */
static bool fetch_across(struct cpu *cpu, struct fetch *f, unsigned have)
{
    gva_t second = code_address(cpu, have);
    unsigned len;
    void *host;

    memmove(f->bytes, f->host, have);
    if (!within_limit(cpu, have + 1) || !lin_span(cpu, second, ACCESS_FETCH, &host, &len))
        return false;
    if (host)
        memcpy(f->bytes + have, host, INSN_MAX_LEN);
    else if (!lin_read(cpu, second, f->bytes + have, INSN_MAX_LEN, ACCESS_FETCH))
        return false;
    f->in_ram = f->in_ram && host;
    f->host2 = host;
    f->avail = have + INSN_MAX_LEN;
    return true;
}

/* Fills in what depends on the place in the block. */
static void place(struct decoded *d, struct insn *slot, unsigned offset, unsigned index)
{
    *slot = d->in;
    slot->end = (uint16_t)(offset + d->in.len);
    slot->index_in_block = (uint8_t)index;
    if (slot->flags & INSN_FROM_BLOCK)
        slot->imm += slot->end;
    if (slot->base == REG_IP)
        slot->disp += slot->end;
}

static void place_end(struct block *b)
{
    b->insns[b->count] = (struct insn){
        .exec = exec_end,
        .end = b->len,
        .index_in_block = (uint8_t)b->count,
    };
}

static bool ends_block(const struct decoded *d)
{
    return d->row->class == CLASS_ILLEGAL || (d->row->flags & ROW_ENDS_BLOCK) ||
           d->in.exec == exec_helper_end || d->in.exec == exec_raise_ud ||
           d->in.exec == exec_raise_nm;
}

enum add_result { ADD_MORE, ADD_LAST, ADD_CROSSES, ADD_FULL };

static void too_long(struct decoded *d)
{
    static const struct insn_row row = {CLASS_ILLEGAL, ROW_ENDS_BLOCK, NULL};

    d->row = &row;
    d->in.exec = exec_raise_gp;
}

/* Decodes one more instruction into the block. */
static enum add_result add_insn(struct cpu *cpu, struct block *b, const uint8_t *code,
                                unsigned avail)
{
    unsigned offset = b->len;
    struct decoded d;
    enum decode_result result =
        insn_decode(cpu, code + offset, avail > INSN_MAX_LEN ? INSN_MAX_LEN : avail, &d);

    if (result == DECODE_MORE)
        return ADD_CROSSES;
    if (result == DECODE_TOO_LONG)
        too_long(&d);
    else if (!exec_select(cpu, interp_of(cpu), &d))
        return ADD_FULL;
    place(&d, &b->insns[b->count], offset, b->count);
    b->len = (uint16_t)(b->len + d.in.len);
    b->count++;
    cpu->stats.insns_decoded++;
    return ends_block(&d) || result == DECODE_TOO_LONG ? ADD_LAST : ADD_MORE;
}

/* The instruction that begins the block runs over the page's end. False: fault, or caches full. */
static bool decode_crossing(struct cpu *cpu, struct block *b, struct fetch *f)
{
    enum add_result result;

    if (!fetch_across(cpu, f, f->avail))
        return false;
    result = add_insn(cpu, b, f->bytes, f->avail);
    if (result == ADD_FULL)
        interp_of(cpu)->thunks_full = true;
    return result != ADD_FULL;
}

/* Does the block's code segment hold all of it? Instructions beyond the limit are cut off. */
static bool past_limit(const struct cpu *cpu, unsigned len)
{
    return !cpu_is_64bit(cpu) && cpu->rip + len - 1 > cpu->seg[CS].limit;
}

static bool decode_block(struct cpu *cpu, struct block *b, struct fetch *f, unsigned max)
{
    enum add_result result = ADD_MORE;

    b->len = b->count = 0;
    while (result == ADD_MORE && b->count < max) {
        unsigned len = b->len;

        result = add_insn(cpu, b, f->host, f->avail - b->len);
        if (result <= ADD_LAST && past_limit(cpu, b->len)) {
            if (b->count == 1)
                return cpu_raise_gp(cpu, 0);
            b->count--;
            b->len = (uint16_t)len;
            break;
        }
    }
    if (result == ADD_FULL) {
        interp_of(cpu)->thunks_full = true;
        return false;
    }
    if (result == ADD_CROSSES && b->count == 0 && !decode_crossing(cpu, b, f))
        return false;
    b->code = f->host;
    b->code2 = f->host2;
    b->mode = cpu->mode;
    place_end(b);
    return true;
}

static struct block *arena_block(struct interpreter *it)
{
    if (it->arena_used + BLOCK_BYTES(BLOCK_MAX_INSNS + 1) > ARENA_SIZE)
        return NULL;
    return (struct block *)(it->arena + it->arena_used);
}

void block_mark_code(struct cpu *cpu, const uint8_t *code)
{
    for (unsigned i = 0; i < cpu->mem->block_count; i++) {
        struct memory_block *m = &cpu->mem->blocks[i];
        uint64_t offset = (uint64_t)(code - m->host);

        if (code < m->host || offset >= m->size)
            continue;
        if (!(m->page_flags[offset >> PAGE_SHIFT] & PAGE_CODE)) {
            __atomic_fetch_or(&m->page_flags[offset >> PAGE_SHIFT], PAGE_CODE, __ATOMIC_RELAXED);
            tlb_revoke_writes(cpu, m->base + offset);
        }
    }
}

static void enter_block(struct cpu *cpu, struct block *b)
{
    struct interpreter *it = interp_of(cpu);
    struct block **slot = hash_slot(it, b->code), **page = page_slot(it, b->code);

    b->next_in_hash = *slot;
    *slot = b;
    b->next_in_page = *page;
    *page = b;
    block_mark_code(cpu, b->code);
    if (b->code2) {
        page = page_slot(it, b->code2);
        b->next_in_page2 = *page;
        *page = b;
        block_mark_code(cpu, b->code2);
    }
    it->arena_used += (BLOCK_BYTES(b->count + 1u) + 63) & ~(size_t)63;
    cpu->stats.blocks_decoded++;
}

/* Is the second page of a crossing instruction still the one it was decoded from? */
static bool second_page_same(struct cpu *cpu, const struct block *b)
{
    unsigned first = (unsigned)(PAGE_SIZE - ((uintptr_t)b->code & ~(uintptr_t)PAGE_MASK));
    unsigned len;
    void *host;

    if (!b->code2)
        return true;
    return lin_span(cpu, code_address(cpu, first), ACCESS_FETCH, &host, &len) && host == b->code2;
}

static struct block *lookup(struct cpu *cpu, const uint8_t *code)
{
    struct block *b = *hash_slot(interp_of(cpu), code);

    while (b && !(b->code == code && b->mode == cpu->mode && second_page_same(cpu, b)))
        b = b->next_in_hash;
    return b;
}

static struct block *make_block(struct cpu *cpu, struct fetch *f)
{
    struct interpreter *it = interp_of(cpu);
    struct block *b = arena_block(it);
    uint64_t start = timeline_start();

    if (!b) {
        it->arena_full = true;
        return NULL;
    }
    if (!decode_block(cpu, b, f, BLOCK_MAX_INSNS))
        return NULL;
    enter_block(cpu, b);
    timeline_slice(TIMELINE_DECODE, NULL, start, cpu->rip, 0, 0);
    return b;
}

/* Code outside RAM is decoded anew each time; its bytes aren't watched. */
static struct block *make_uncached(struct cpu *cpu, struct fetch *f)
{
    struct interpreter *it = interp_of(cpu);

    return decode_block(cpu, it->once, f, 1) ? it->once : NULL;
}

static void flush_if_full(struct cpu *cpu)
{
    struct interpreter *it = interp_of(cpu);

    if (it->thunks_full)
        interpreter_flush(cpu);
    else if (it->arena_full)
        drop_blocks(cpu);
    it->thunks_full = it->arena_full = false;
}

/* A block was asked for and not found in the jump cache. */
static struct block *find_or_make(struct cpu *cpu, struct jump_entry *jump, gva_t gva)
{
    struct fetch f;
    struct block *b;

    if (!fetch_page(cpu, &f))
        return NULL;
    if (!f.in_ram)
        return make_uncached(cpu, &f);
    b = lookup(cpu, f.host);
    if (b && !within_limit(cpu, b->len))
        return NULL;
    if (!b && !cpu->exc.pending)
        b = make_block(cpu, &f);
    if (b && !cpu->exc.pending)
        *jump = (struct jump_entry){gva, cpu->tlb->code_epoch, b};
    return cpu->exc.pending ? NULL : b;
}

struct block *block_find(struct cpu *cpu)
{
    struct interpreter *it = interp_of(cpu);
    gva_t gva = code_address(cpu, 0);
    struct jump_entry *jump = &it->jumps[(gva ^ gva >> JUMP_BITS) & ((1u << JUMP_BITS) - 1)];
    struct block *b = jump->block;

    if (likely(b && jump->gva == gva && jump->epoch == cpu->tlb->code_epoch &&
               b->mode == cpu->mode))
        return cpu_is_64bit(cpu) || within_limit(cpu, b->len) ? b : NULL;
    b = find_or_make(cpu, jump, gva);
    if (!b)
        flush_if_full(cpu);
    return b;
}

struct block *block_single(struct cpu *cpu)
{
    struct fetch f;
    struct block *b;

    if (!fetch_page(cpu, &f))
        return NULL;
    b = make_uncached(cpu, &f);
    if (!b && !cpu->exc.pending) {
        flush_if_full(cpu);
        b = make_uncached(cpu, &f);
    }
    return b;
}

/* --- life --- */

static void *map_pages(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

int interpreter_prepare(struct cpu *cpu, struct interpreter *it, struct err *err)
{
    it->thunks = thunk_cache_new(err);
    if (!it->thunks)
        return err->code;
    it->arena = map_pages(ARENA_SIZE);
    it->hash = map_pages(sizeof(*it->hash) << HASH_BITS);
    it->pages = map_pages(sizeof(*it->pages) << PAGE_HASH_BITS);
    it->jumps = map_pages(sizeof(*it->jumps) << JUMP_BITS);
    it->once = aligned_alloc(64, (BLOCK_BYTES(2) + 63) & ~(size_t)63);
    if (!it->arena || !it->hash || !it->pages || !it->jumps || !it->once)
        return err_set(err, -ENOMEM, "not enough memory for the interpreter's caches");
    cpu->host_mxcsr = __builtin_ia32_stmxcsr();
    memory_set_code_listener(cpu->mem, code_changed, cpu);
    return 0;
}

int interpreter_new(struct cpu *cpu, struct err *err)
{
    struct interpreter *it = calloc(1, sizeof *it);
    int ret;

    if (!it)
        return err_set(err, -ENOMEM, "not enough memory for the interpreter");
    cpu->engine = it;
    ret = interpreter_prepare(cpu, it, err);
    if (ret)
        interpreter_free(cpu);
    return ret;
}

static void unmap_pages(void *p, size_t size)
{
    if (p)
        munmap(p, size);
}

void interpreter_release(struct interpreter *it)
{
    thunk_cache_free(it->thunks);
    unmap_pages(it->arena, ARENA_SIZE);
    unmap_pages(it->hash, sizeof(*it->hash) << HASH_BITS);
    unmap_pages(it->pages, sizeof(*it->pages) << PAGE_HASH_BITS);
    unmap_pages(it->jumps, sizeof(*it->jumps) << JUMP_BITS);
    free(it->once);
}

void interpreter_free(struct cpu *cpu)
{
    struct interpreter *it = interp_of(cpu);

    if (!it)
        return;
    memory_set_code_listener(cpu->mem, NULL, NULL);
    interpreter_release(it);
    free(it);
    cpu->engine = NULL;
}
