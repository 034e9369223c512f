/* string.c - MOVS, CMPS, STOS, LODS and SCAS (SDM vol. 1, 7.3.9; vol. 2, REP).
 *
 * Each instruction is two functions. `step` does one iteration through the checked accessors of
 * access.h and is always right. `bulk` does as many iterations at once as one page of each operand
 * holds, when the pages are plain RAM and the direction is up; its result is the one that the
 * steps would give, which for MOVS includes overlapping operands: a copy to a slightly higher
 * address replicates the pattern.
 *
 * Faults come in the order of the accesses of one iteration: source first, then destination. */
#include "cpu/string.h"

#include "cpu/access.h"
#include "cpu/debug.h"

#include <string.h>

typedef bool step_fn(struct cpu *cpu, const struct insn *in);
/* *done: iterations made, 0 when they can't be made in bulk. False: a fault before the first. */
typedef bool bulk_fn(struct cpu *cpu, const struct insn *in, uint64_t max, uint64_t *done);

struct string_op {
    step_fn *step;
    bulk_fn *bulk; /* NULL: none */
    bool compares; /* REPE and REPNE look at ZF */
};

/* Elements of one operand that can be reached through a host pointer. */
struct span {
    uint8_t *host;
    uint64_t count;
};

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t load_element(const uint8_t *p, unsigned size)
{
    uint64_t v = 0;

    switch (size) {
    case 1: memcpy(&v, p, 1); break;
    case 2: memcpy(&v, p, 2); break;
    case 4: memcpy(&v, p, 4); break;
    default: memcpy(&v, p, 8);
    }
    return v;
}

static void store_element(uint8_t *p, uint64_t v, unsigned size)
{
    switch (size) {
    case 1: memcpy(p, &v, 1); break;
    case 2: memcpy(p, &v, 2); break;
    case 4: memcpy(p, &v, 4); break;
    default: memcpy(p, &v, 8);
    }
}

/* The status flags of a - b, in the form of cpu->status. */
static uint16_t sub_status(uint64_t a, uint64_t b, unsigned size)
{
    uint16_t ax;

    switch (size) {
    case 1: __asm__("cmpb %b2, %b1; lahf; seto %%al" : "=&a"(ax) : "q"(a), "q"(b) : "cc"); break;
    case 2: __asm__("cmpw %w2, %w1; lahf; seto %%al" : "=&a"(ax) : "r"(a), "r"(b) : "cc"); break;
    case 4: __asm__("cmpl %k2, %k1; lahf; seto %%al" : "=&a"(ax) : "r"(a), "r"(b) : "cc"); break;
    default: __asm__("cmpq %q2, %q1; lahf; seto %%al" : "=&a"(ax) : "r"(a), "r"(b) : "cc");
    }
    return ax;
}

static uint64_t index_read(const struct cpu *cpu, const struct insn *in, enum gpr reg)
{
    return gpr_read(cpu, reg, in->asize, false);
}

/* Moves RSI or RDI on by n elements, in the direction of DF. */
static void index_advance(struct cpu *cpu, const struct insn *in, enum gpr reg, uint64_t n)
{
    uint64_t bytes = n * in->osize;

    if (cpu->rflags & FLAG_DF)
        bytes = -bytes;
    gpr_write(cpu, reg, in->asize, false, cpu->gpr[reg] + bytes);
}

/* --- spans --- */

/* Bytes from ea to where the effective address wraps or the segment ends. 0: don't know. */
static uint64_t segment_room(const struct cpu *cpu, const struct insn *in, enum seg seg,
                             uint64_t ea)
{
    const struct segment *s = &cpu->seg[seg];
    uint64_t room = (UINT64_MAX >> (64 - 8 * in->asize)) - ea;

    if (room != UINT64_MAX)
        room++;
    if (cpu_is_64bit(cpu))
        return room;
    if ((s->attr & (SEG_CODE | SEG_EXPAND_DOWN)) == SEG_EXPAND_DOWN || ea > s->limit)
        return 0;
    return min_u64(room, (uint64_t)s->limit - ea + 1);
}

/* The elements of one operand from ea on; none when a step has to find out what is there. */
static bool find_span(struct cpu *cpu, const struct insn *in, enum seg seg, uint64_t ea,
                      unsigned access, struct span *span)
{
    uint64_t room = segment_room(cpu, in, seg, ea);
    void *host = NULL;
    unsigned len = 0;
    gva_t gva;

    span->count = 0;
    if (room < in->osize)
        return true;
    if (!seg_to_linear(cpu, seg, ea, in->osize, access, &gva))
        return false;
    if (lin_misaligned(cpu, gva, in->osize))
        return true; /* #AC comes before a page fault */
    if (!lin_span(cpu, gva, access, &host, &len))
        return false;
    if (host) {
        span->host = host;
        span->count = min_u64(room, len) / in->osize;
    }
    return true;
}

/* The source of MOVS and CMPS, then their destination. */
static bool find_both_spans(struct cpu *cpu, const struct insn *in, unsigned dst_access,
                            struct span *src, struct span *dst)
{
    dst->count = 0;
    if (!find_span(cpu, in, in->seg, index_read(cpu, in, RSI), ACCESS_READ, src))
        return false;
    if (!src->count)
        return true;
    return find_span(cpu, in, ES, index_read(cpu, in, RDI), dst_access, dst);
}

/* --- MOVS --- */

static bool movs_step(struct cpu *cpu, const struct insn *in)
{
    uint64_t v;

    if (!virt_read_int(cpu, in->seg, index_read(cpu, in, RSI), in->osize, &v) ||
        !virt_write_int(cpu, ES, index_read(cpu, in, RDI), in->osize, v))
        return false;
    index_advance(cpu, in, RSI, 1);
    index_advance(cpu, in, RDI, 1);
    return true;
}

/* Copies n elements in rising order: what the destination overwrites of the source is read again.
 */
static void copy_up(uint8_t *dst, const uint8_t *src, uint64_t n, unsigned size)
{
    if ((uintptr_t)dst - (uintptr_t)src >= n * size) {
        memmove(dst, src, n * size);
        return;
    }
    for (uint64_t i = 0; i < n; i++)
        store_element(dst + i * size, load_element(src + i * size, size), size);
}

static bool movs_bulk(struct cpu *cpu, const struct insn *in, uint64_t max, uint64_t *done)
{
    struct span src, dst;
    uint64_t n;

    if (!find_both_spans(cpu, in, ACCESS_WRITE, &src, &dst))
        return false;
    n = min_u64(max, min_u64(src.count, dst.count));
    if (n) {
        copy_up(dst.host, src.host, n, in->osize);
        index_advance(cpu, in, RSI, n);
        index_advance(cpu, in, RDI, n);
    }
    *done = n;
    return true;
}

/* --- STOS --- */

static bool stos_step(struct cpu *cpu, const struct insn *in)
{
    uint64_t v = gpr_read(cpu, RAX, in->osize, false);

    if (!virt_write_int(cpu, ES, index_read(cpu, in, RDI), in->osize, v))
        return false;
    index_advance(cpu, in, RDI, 1);
    return true;
}

static void fill(uint8_t *dst, uint64_t v, uint64_t n, unsigned size)
{
    uint64_t bytes_equal = (v & 0xff) * (UINT64_C(0x0101010101010101) >> (64 - 8 * size));

    if (v == bytes_equal) {
        memset(dst, (int)(v & 0xff), n * size);
        return;
    }
    for (uint64_t i = 0; i < n; i++)
        store_element(dst + i * size, v, size);
}

static bool stos_bulk(struct cpu *cpu, const struct insn *in, uint64_t max, uint64_t *done)
{
    struct span dst;

    if (!find_span(cpu, in, ES, index_read(cpu, in, RDI), ACCESS_WRITE, &dst))
        return false;
    *done = min_u64(max, dst.count);
    if (*done) {
        fill(dst.host, gpr_read(cpu, RAX, in->osize, false), *done, in->osize);
        index_advance(cpu, in, RDI, *done);
    }
    return true;
}

/* --- LODS --- */

static bool lods_step(struct cpu *cpu, const struct insn *in)
{
    uint64_t v;

    if (!virt_read_int(cpu, in->seg, index_read(cpu, in, RSI), in->osize, &v))
        return false;
    gpr_write(cpu, RAX, in->osize, false, v);
    index_advance(cpu, in, RSI, 1);
    return true;
}

/* --- CMPS --- */

static bool cmps_step(struct cpu *cpu, const struct insn *in)
{
    uint64_t a, b;

    if (!virt_read_int(cpu, in->seg, index_read(cpu, in, RSI), in->osize, &a) ||
        !virt_read_int(cpu, ES, index_read(cpu, in, RDI), in->osize, &b))
        return false;
    cpu->status = sub_status(a, b, in->osize);
    index_advance(cpu, in, RSI, 1);
    index_advance(cpu, in, RDI, 1);
    return true;
}

/* Does a repeated comparison go on after this result? */
static bool repeat_goes_on(const struct insn *in, bool equal)
{
    return equal == !(in->flags & INSN_REPNE);
}

/* A multiple of 8 bytes in which a and b are known to be equal. */
static uint64_t equal_prefix(const uint8_t *a, const uint8_t *b, uint64_t len)
{
    uint64_t i = 0;

    while (i + 8 <= len && load_element(a + i, 8) == load_element(b + i, 8))
        i += 8;
    return i;
}

static bool cmps_bulk(struct cpu *cpu, const struct insn *in, uint64_t max, uint64_t *done)
{
    unsigned size = in->osize;
    struct span src, dst;
    uint64_t i = 0, n, a, b;

    if (!find_both_spans(cpu, in, ACCESS_READ, &src, &dst))
        return false;
    n = min_u64(max, min_u64(src.count, dst.count));
    if (!n)
        return true;
    if (!(in->flags & INSN_REPNE)) /* the last one is compared below, for its flags */
        i = min_u64(equal_prefix(src.host, dst.host, n * size) / size, n - 1);
    do {
        a = load_element(src.host + i * size, size);
        b = load_element(dst.host + i * size, size);
    } while (++i < n && repeat_goes_on(in, a == b));
    cpu->status = sub_status(a, b, size);
    index_advance(cpu, in, RSI, i);
    index_advance(cpu, in, RDI, i);
    *done = i;
    return true;
}

/* --- SCAS --- */

static bool scas_step(struct cpu *cpu, const struct insn *in)
{
    uint64_t v;

    if (!virt_read_int(cpu, ES, index_read(cpu, in, RDI), in->osize, &v))
        return false;
    cpu->status = sub_status(cpu->gpr[RAX], v, in->osize);
    index_advance(cpu, in, RDI, 1);
    return true;
}

static bool scas_bulk(struct cpu *cpu, const struct insn *in, uint64_t max, uint64_t *done)
{
    uint64_t a = gpr_read(cpu, RAX, in->osize, false);
    uint64_t i = 0, n, v;
    struct span dst;

    if (!find_span(cpu, in, ES, index_read(cpu, in, RDI), ACCESS_READ, &dst))
        return false;
    n = min_u64(max, dst.count);
    if (!n)
        return true;
    if (in->osize == 1 && in->flags & INSN_REPNE) { /* strlen() and memchr() of the guest */
        const uint8_t *hit = memchr(dst.host, (int)a, n);

        i = hit ? (uint64_t)(hit - dst.host) : n - 1;
    }
    do
        v = load_element(dst.host + i * in->osize, in->osize);
    while (++i < n && repeat_goes_on(in, a == v));
    cpu->status = sub_status(a, v, in->osize);
    index_advance(cpu, in, RDI, i);
    *done = i;
    return true;
}

/* --- repetition --- */

/* The most iterations that one call may make: a page of bytes, one when every iteration traps, and
 * in virtual time not more than the engine may execute instructions. */
static uint64_t iteration_limit(const struct cpu *cpu, const struct insn *in)
{
    uint64_t limit = PAGE_SIZE / in->osize;

    if (cpu->rflags & FLAG_TF)
        return 1;
    if (cpu->icount_limit <= cpu->icount)
        return 1;
    return min_u64(limit, cpu->icount_limit - cpu->icount);
}

void string_again(struct cpu *cpu, const struct insn *in)
{
    uint64_t rip = cpu->rip - in->len;

    if (cpu->rip < in->len)
        rip &= (cpu->mode & MODE_CODE_MASK) == MODE_CODE16 ? 0xffff : UINT32_MAX;
    cpu->rip = rip;
}

/* A few iterations in bulk, or one step. */
static bool iterate(struct cpu *cpu, const struct insn *in, const struct string_op *op,
                    uint64_t max, uint64_t *done)
{
    *done = 0;
    if (op->bulk && !(cpu->rflags & FLAG_DF) && !op->bulk(cpu, in, max, done))
        return false;
    if (*done)
        return true;
    *done = 1;
    return op->step(cpu, in);
}

static bool string_run(struct cpu *cpu, const struct insn *in, const struct string_op *op)
{
    uint64_t count, limit, n, done = 0;
    bool ok = true, ended = false;

    if (!(in->flags & (INSN_REP | INSN_REPNE)))
        return op->step(cpu, in);
    count = index_read(cpu, in, RCX);
    if (!count)
        return true;
    limit = min_u64(count, iteration_limit(cpu, in));
    while (done < limit && !ended && !cpu->pending_db && !cpu_debug_hit(cpu)) {
        ok = iterate(cpu, in, op, limit - done, &n);
        if (!ok)
            break;
        done += n;
        gpr_write(cpu, RCX, in->asize, false, count - done);
        ended = op->compares && !repeat_goes_on(in, cpu_status_flags(cpu) & FLAG_ZF);
    }
    if (done)
        cpu->icount += ok ? done - 1 : done; /* the engine counts a call without a fault as one */
    if (ok && !ended && done < count)
        string_again(cpu, in);
    return ok;
}

bool op_movs(struct cpu *cpu, const struct insn *in)
{
    static const struct string_op op = {movs_step, movs_bulk, false};

    return string_run(cpu, in, &op);
}

bool op_cmps(struct cpu *cpu, const struct insn *in)
{
    static const struct string_op op = {cmps_step, cmps_bulk, true};

    return string_run(cpu, in, &op);
}

bool op_stos(struct cpu *cpu, const struct insn *in)
{
    static const struct string_op op = {stos_step, stos_bulk, false};

    return string_run(cpu, in, &op);
}

bool op_lods(struct cpu *cpu, const struct insn *in)
{
    static const struct string_op op = {lods_step, NULL, false};

    return string_run(cpu, in, &op);
}

bool op_scas(struct cpu *cpu, const struct insn *in)
{
    static const struct string_op op = {scas_step, scas_bulk, true};

    return string_run(cpu, in, &op);
}
