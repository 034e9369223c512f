#include "engine/interpret/thunk.h"

#include "engine/code_memory.h"
#include "engine/encode.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CACHE_SIZE (1u << 20)
#define HASH_SIZE (1u << 14)
#define THUNK_MAX 768 /* the longest: sixteen vector registers loaded and stored (VZEROALL) */

struct thunk_cache {
    struct code_memory code;
    uint32_t used;
    uint32_t hash[HASH_SIZE]; /* offset + 1 of the first thunk; each begins with a header */
};

/* In front of each thunk's code. */
struct header {
    uint32_t next; /* in the hash chain: offset + 1 */
    uint32_t len;
};

/* --- emission --- */

struct code {
    uint8_t *p;
    uint8_t buf[THUNK_MAX];
    const struct decoded *d;
    struct encoding e;
};

static void byte(struct code *c, unsigned b)
{
    *c->p++ = (uint8_t)b;
}

static void bytes(struct code *c, const void *data, unsigned n)
{
    memcpy(c->p, data, n);
    c->p += n;
}

static void imm32(struct code *c, uint32_t v)
{
    bytes(c, &v, 4);
}

/* [prefix] REX? 0F? opcode, with ModRM for [RDI + offset]. `rex_w`: 64 bits. */
static void op_cpu(struct code *c, unsigned prefix, bool rex_w, unsigned opcode, unsigned reg,
                   size_t offset)
{
    if (prefix)
        byte(c, prefix);
    if (rex_w || reg > 7)
        byte(c, 0x40 | rex_w << 3 | (reg >> 3) << 2);
    if (opcode > 0xff)
        byte(c, opcode >> 8);
    byte(c, opcode);
    byte(c, 0x80 | (reg & 7) << 3 | RDI);
    imm32(c, (uint32_t)offset);
}

static size_t gpr_offset(unsigned guest)
{
    return offsetof(struct cpu, gpr) + 8 * guest;
}

static void load_flags(struct code *c)
{
    op_cpu(c, 0, false, 0x0fb7, RAX, offsetof(struct cpu, status)); /* movzx eax, word */
    bytes(c, "\x04\x7f\x9e", 3);                                    /* add al, 7fh; sahf */
}

static void store_flags(struct code *c)
{
    bytes(c, "\x9f\x0f\x90\xc0", 4); /* lahf; seto al */
    op_cpu(c, 0x66, false, 0x89, RAX, offsetof(struct cpu, status));
}

/* VMOVDQU ymm, [RDI + offset] (6F) or the reverse (7F); without AVX, MOVUPS (0F 10, 0F 11). */
static void move_vec(struct code *c, bool avx, bool store, unsigned reg)
{
    size_t offset = offsetof(struct cpu, ymm) + 32 * reg;

    if (!avx) {
        op_cpu(c, 0, false, store ? 0x0f11 : 0x0f10, reg, offset);
        return;
    }
    byte(c, 0xc5);
    byte(c, (reg > 7 ? 0x00 : 0x80) | 0x7e); /* R, vvvv = 1111, L = 1, pp = F3 */
    byte(c, store ? 0x7f : 0x6f);
    byte(c, 0x80 | (reg & 7) << 3 | RDI);
    imm32(c, (uint32_t)offset);
}

/* --- choice of registers --- */

static bool is_implicit(const ZydisDecodedOperand *op)
{
    return op->encoding == ZYDIS_OPERAND_ENCODING_NONE;
}

static uint8_t take(uint16_t *free_regs, const uint8_t *order, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (*free_regs & 1u << order[i]) {
            *free_regs &= (uint16_t) ~(1u << order[i]);
            return order[i];
        }
    return 0xff;
}

/* False: this instruction's registers cannot be placed. */
static bool assign_registers(struct code *c)
{
    static const uint8_t any[] = {R8, R9, R10, R11, RCX, RAX, RDX};
    static const uint8_t legacy[] = {RCX, RAX, RDX};
    const struct decoded *d = c->d;
    bool high = d->in.flags & (INSN_HIGH_REG | INSN_HIGH_RM);
    const uint8_t *order = high ? legacy : any;
    unsigned n = high ? ARRAY_SIZE(legacy) : ARRAY_SIZE(any);
    uint16_t free_regs = 1 << RAX | 1 << RCX | 1 << RDX | 1 << R8 | 1 << R9 | 1 << R10 | 1 << R11;

    memset(c->e.gpr, 0xff, sizeof c->e.gpr);
    for (unsigned i = 0; i < d->zi.operand_count; i++) {
        int guest = encode_guest_gpr(&d->ops[i]);

        if (guest < 0 || !is_implicit(&d->ops[i]))
            continue;
        if (guest > RDX)
            return false;
        c->e.gpr[guest] = (uint8_t)guest;
        free_regs &= (uint16_t) ~(1u << guest);
    }
    c->e.mem = RDX;
    c->e.index = REG_NONE;
    c->e.disp = 0;
    if (d->in.flags & INSN_MEM) {
        if (c->e.gpr[RDX] != 0xff)
            c->e.mem = R11;
        free_regs &= (uint16_t) ~(1u << c->e.mem);
    }
    for (unsigned guest = 0; guest < 16; guest++)
        if ((d->gpr_used & 1u << guest) && c->e.gpr[guest] == 0xff) {
            c->e.gpr[guest] = take(&free_regs, order, n);
            if (c->e.gpr[guest] == 0xff)
                return false;
        }
    return true;
}

/* --- the whole thunk --- */

static void emit_loads(struct code *c, bool avx)
{
    const struct decoded *d = c->d;

    if ((d->in.flags & INSN_MEM) && c->e.mem != RDX)
        bytes(c, "\x49\x89\xd3", 3); /* mov r11, rdx */
    if (d->flags_read || (d->flags_written && !d->flags_defined))
        load_flags(c);
    for (unsigned g = 0; g < 16; g++)
        if (d->gpr_used & 1u << g)
            op_cpu(c, 0, true, 0x8b, c->e.gpr[g], gpr_offset(g));
    for (unsigned v = 0; v < 16; v++)
        if (d->vec_used & 1u << v)
            move_vec(c, avx, false, v);
}

static void emit_stores(struct code *c, bool avx)
{
    const struct decoded *d = c->d;

    for (unsigned g = 0; g < 16; g++)
        if (d->gpr_written & 1u << g)
            op_cpu(c, 0, true, 0x89, c->e.gpr[g], gpr_offset(g));
    if (d->flags_written)
        store_flags(c);
    for (unsigned v = 0; v < 16; v++)
        if (d->vec_written & 1u << v)
            move_vec(c, avx, true, v);
}

/* VZEROUPPER and VZEROALL name no registers: they touch all of them. */
static uint16_t all_vectors(const struct decoded *d)
{
    if (d->zi.mnemonic != ZYDIS_MNEMONIC_VZEROUPPER && d->zi.mnemonic != ZYDIS_MNEMONIC_VZEROALL)
        return 0;
    return (uint16_t)((d->zi.machine_mode == ZYDIS_MACHINE_MODE_LONG_64) ? 0xffff : 0x00ff);
}

static bool emit_thunk(struct code *c, struct decoded *d)
{
    bool avx = __builtin_cpu_supports("avx");

    c->p = c->buf;
    c->d = d;
    d->vec_used |= all_vectors(d);
    d->vec_written |= all_vectors(d);
    if (!assign_registers(c))
        return false;
    emit_loads(c, avx);
    c->p += encode_insn(c->p, d, &c->e);
    emit_stores(c, avx);
    bytes(c, "\x48\x83\xc6\x40\xff\x26", 6); /* add rsi, sizeof(struct insn); jmp [rsi] */
    return true;
}

/* --- the cache --- */

struct thunk_cache *thunk_cache_new(struct err *err)
{
    struct thunk_cache *cache = calloc(1, sizeof *cache);

    if (!cache) {
        err_set(err, -ENOMEM, "not enough memory for the code cache");
        return NULL;
    }
    if (code_memory_init(&cache->code, "thunks", CACHE_SIZE, err) < 0) {
        thunk_cache_free(cache);
        return NULL;
    }
    return cache;
}

void thunk_cache_free(struct thunk_cache *cache)
{
    if (!cache)
        return;
    code_memory_free(&cache->code);
    free(cache);
}

void thunk_cache_clear(struct thunk_cache *cache)
{
    cache->used = 0;
    memset(cache->hash, 0, sizeof cache->hash);
}

bool thunk_contains(const struct thunk_cache *cache, uintptr_t rip)
{
    return rip - (uintptr_t)cache->code.executable < CACHE_SIZE;
}

static uint32_t hash_code(const uint8_t *p, uint32_t n)
{
    uint32_t h = 2166136261u;

    while (n--)
        h = (h ^ *p++) * 16777619u;
    return (h ^ h >> 15) & (HASH_SIZE - 1);
}

static const void *find(const struct thunk_cache *cache, uint32_t slot, const struct code *c)
{
    uint32_t len = (uint32_t)(c->p - c->buf);

    for (uint32_t at = cache->hash[slot]; at;) {
        const struct header *h = (const void *)(cache->code.writable + at - 1);

        if (h->len == len && memcmp(h + 1, c->buf, len) == 0)
            return cache->code.executable + at - 1 + sizeof *h;
        at = h->next;
    }
    return NULL;
}

static const void *enter(struct thunk_cache *cache, uint32_t slot, const struct code *c)
{
    uint32_t len = (uint32_t)(c->p - c->buf);
    struct header *h = (void *)(cache->code.writable + cache->used);
    const void *code = cache->code.executable + cache->used + sizeof *h;

    h->next = cache->hash[slot];
    h->len = len;
    memcpy(h + 1, c->buf, len);
    cache->hash[slot] = cache->used + 1;
    cache->used += (uint32_t)(sizeof *h + len + 15) & ~15u;
    return code;
}

bool thunk_get(struct thunk_cache *cache, const struct decoded *decoded, const void **thunk)
{
    struct decoded d = *decoded;
    struct code c;
    uint32_t slot;

    *thunk = NULL;
    if (!emit_thunk(&c, &d))
        return true;
    slot = hash_code(c.buf, (uint32_t)(c.p - c.buf));
    *thunk = find(cache, slot, &c);
    if (*thunk)
        return true;
    if (cache->used + sizeof(struct header) + THUNK_MAX + 16 > CACHE_SIZE)
        return false;
    *thunk = enter(cache, slot, &c);
    return true;
}
