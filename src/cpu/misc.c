/* misc.c - flag control, bit strings in memory, wide compare-and-exchange and the like (SDM vol.
 * 2).
 *
 * Atomicity: a LOCKed form works directly on the guest's RAM with the host's locked instruction.
 * Where there is no host pointer (MMIO, an operand that crosses pages, a page with code) it is a
 * read and a write, as the bus of a processor without cache locking would do it less the lock. */
#include "cpu/misc.h"

#include "cpu/access.h"
#include "cpu/x87env.h"

#include <string.h>

/* Bits of cpu->status, which is an image of LAHF (AH) and SETO (bit 0). */
#define STATUS_CF (FLAG_CF << 8)
#define STATUS_ZF (FLAG_ZF << 8)

bool op_ud(struct cpu *cpu, const struct insn *in)
{
    (void)in;
    return cpu_raise_ud(cpu);
}

bool op_nop(struct cpu *cpu, const struct insn *in)
{
    (void)cpu;
    (void)in;
    return true;
}

bool op_prefetch(struct cpu *cpu, const struct insn *in)
{
    (void)cpu;
    (void)in;
    return true;
}

/* The host's caches are coherent: only the permission check can be seen, that of a byte load. */
bool op_clflush(struct cpu *cpu, const struct insn *in)
{
    gva_t gva;

    return seg_to_linear(cpu, in->seg, insn_ea(cpu, in), 1, ACCESS_READ, &gva) &&
           lin_probe(cpu, gva, 1, ACCESS_READ);
}

/* AMD APM vol. 3: clears the cache line that rAX points into. */
bool op_clzero(struct cpu *cpu, const struct insn *in)
{
    static const uint8_t zeros[64];
    gva_t gva;

    return seg_to_linear(cpu, in->seg, gpr_read(cpu, RAX, in->asize, false), 1, ACCESS_WRITE,
                         &gva) &&
           lin_write(cpu, gva & ~(gva_t)63, zeros, sizeof zeros, ACCESS_WRITE);
}

bool op_wait(struct cpu *cpu, const struct insn *in)
{
    (void)in;
    if (cpu->mode & MODE_WAIT_NM)
        return cpu_raise(cpu, EXC_NM);
    if (x87_exception_pending(cpu))
        return cpu_raise(cpu, EXC_MF);
    return true;
}

/* --- flags --- */

bool op_lahf(struct cpu *cpu, const struct insn *in)
{
    (void)in;
    gpr_write(cpu, RAX, 1, true, cpu->status >> 8);
    return true;
}

bool op_sahf(struct cpu *cpu, const struct insn *in)
{
    uint64_t ah = gpr_read(cpu, RAX, 1, true);

    (void)in;
    cpu_set_status_flags(cpu, ah | (cpu_status_flags(cpu) & FLAG_OF));
    return true;
}

bool op_cmc(struct cpu *cpu, const struct insn *in)
{
    (void)in;
    cpu->status ^= STATUS_CF;
    return true;
}

bool op_clc(struct cpu *cpu, const struct insn *in)
{
    (void)in;
    cpu->status &= (uint16_t)~STATUS_CF;
    return true;
}

bool op_stc(struct cpu *cpu, const struct insn *in)
{
    (void)in;
    cpu->status |= STATUS_CF;
    return true;
}

bool op_cld(struct cpu *cpu, const struct insn *in)
{
    (void)in;
    cpu->rflags &= ~(uint64_t)FLAG_DF;
    return true;
}

bool op_std(struct cpu *cpu, const struct insn *in)
{
    (void)in;
    cpu->rflags |= FLAG_DF;
    return true;
}

/* --- tables and arrays --- */

static int64_t sign_extend(uint64_t v, unsigned size)
{
    unsigned shift = 64 - 8 * size;

    return (int64_t)(v << shift) >> shift;
}

static uint64_t truncate_address(uint64_t ea, unsigned asize)
{
    return ea & (UINT64_MAX >> (64 - 8 * asize));
}

bool op_bound(struct cpu *cpu, const struct insn *in)
{
    int64_t index = sign_extend(insn_reg(cpu, in), in->osize);
    uint64_t ea = insn_ea(cpu, in), lower, upper;

    if (!virt_read_int(cpu, in->seg, ea, in->osize, &lower) ||
        !virt_read_int(cpu, in->seg, truncate_address(ea + in->osize, in->asize), in->osize,
                       &upper))
        return false;
    if (index < sign_extend(lower, in->osize) || index > sign_extend(upper, in->osize))
        return cpu_raise(cpu, EXC_BR);
    return true;
}

bool op_xlat(struct cpu *cpu, const struct insn *in)
{
    uint64_t ea = truncate_address(cpu->gpr[RBX] + (uint8_t)cpu->gpr[RAX], in->asize);
    uint64_t v;

    if (!virt_read_int(cpu, in->seg, ea, 1, &v))
        return false;
    gpr_write(cpu, RAX, 1, false, v);
    return true;
}

/* --- bit strings --- */

/* The index is signed and can reach far from the address in the instruction; the operand that is
 * accessed is the one of osize bytes that holds the bit. *bit: its number in there. */
static uint64_t bit_operand(const struct cpu *cpu, const struct insn *in, unsigned *bit)
{
    int64_t index = sign_extend(insn_reg(cpu, in), in->osize);
    int64_t bits = 8 * in->osize;

    *bit = (unsigned)(index & (bits - 1));
    return truncate_address(insn_ea(cpu, in) + (uint64_t)((index - *bit) / 8), in->asize);
}

static void set_carry(struct cpu *cpu, bool carry)
{
    cpu->status = (uint16_t)((cpu->status & ~STATUS_CF) | (carry ? STATUS_CF : 0));
}

bool op_bt(struct cpu *cpu, const struct insn *in)
{
    unsigned bit;
    uint64_t v, ea = bit_operand(cpu, in, &bit);

    if (!virt_read_int(cpu, in->seg, ea, in->osize, &v))
        return false;
    set_carry(cpu, v >> bit & 1);
    return true;
}

/* Reset, set, complement: new bit = (old & keep) ^ flip. */
struct bit_change {
    bool keep, flip;
};

/* The bit lies in one byte, and one byte is always aligned: that is the one that gets changed. The
 * LOCKed form of the host costs little more than the other, so it serves for both. */
static bool change_host_bit(uint8_t *byte, unsigned bit, const struct bit_change *change)
{
    uint8_t mask = (uint8_t)(1u << bit), old;

    if (change->keep)
        old = __atomic_fetch_xor(byte, mask, __ATOMIC_SEQ_CST);
    else if (change->flip)
        old = __atomic_fetch_or(byte, mask, __ATOMIC_SEQ_CST);
    else
        old = __atomic_fetch_and(byte, (uint8_t)~mask, __ATOMIC_SEQ_CST);
    return old & mask;
}

static bool change_bit(struct cpu *cpu, const struct insn *in, struct bit_change change)
{
    unsigned bit;
    uint64_t v, ea = bit_operand(cpu, in, &bit);
    bool old;
    void *host;

    if (!virt_rmw(cpu, in->seg, ea, in->osize, &host))
        return false;
    if (host) {
        set_carry(cpu, change_host_bit((uint8_t *)host + bit / 8, bit % 8, &change));
        return true;
    }
    if (!virt_read_int(cpu, in->seg, ea, in->osize, &v))
        return false;
    old = v >> bit & 1;
    v &= ~(UINT64_C(1) << bit);
    v |= (uint64_t)((old && change.keep) ^ change.flip) << bit;
    if (!virt_write_int(cpu, in->seg, ea, in->osize, v))
        return false;
    set_carry(cpu, old);
    return true;
}

bool op_bts(struct cpu *cpu, const struct insn *in)
{
    return change_bit(cpu, in, (struct bit_change){.keep = false, .flip = true});
}

bool op_btr(struct cpu *cpu, const struct insn *in)
{
    return change_bit(cpu, in, (struct bit_change){.keep = false, .flip = false});
}

bool op_btc(struct cpu *cpu, const struct insn *in)
{
    return change_bit(cpu, in, (struct bit_change){.keep = true, .flip = true});
}

/* --- CMPXCHG8B and CMPXCHG16B --- */

/* Both put together: halves of 4 or 8 bytes. `low` and `high` hold the expected value, and get the
 * one found. The processor writes in both cases: it writes the old value back. */
struct wide_exchange {
    uint64_t low, high, new_low, new_high;
};

static bool exchange8_host(void *host, struct wide_exchange *x)
{
    uint32_t low = (uint32_t)x->low, high = (uint32_t)x->high;
    bool equal;

    __asm__ volatile("lock cmpxchg8b (%3)\n\tsete %2"
                     : "+a"(low), "+d"(high), "=q"(equal)
                     : "r"(host), "b"((uint32_t)x->new_low), "c"((uint32_t)x->new_high)
                     : "memory", "cc");
    x->low = low;
    x->high = high;
    return equal;
}

static bool exchange16_host(void *host, struct wide_exchange *x)
{
    bool equal;

    __asm__ volatile("lock cmpxchg16b (%3)\n\tsete %2"
                     : "+a"(x->low), "+d"(x->high), "=q"(equal)
                     : "r"(host), "b"(x->new_low), "c"(x->new_high)
                     : "memory", "cc");
    return equal;
}

/* Without a host pointer; `half` is 4 or 8. */
static bool exchange_slowly(struct cpu *cpu, const struct insn *in, uint64_t ea, unsigned half,
                            struct wide_exchange *x, bool *equal)
{
    uint64_t low = 0, high = 0;
    uint8_t buf[16], *upper = buf + half;

    if (!virt_read(cpu, in->seg, ea, buf, 2 * half))
        return false;
    memcpy(&low, buf, half);
    memcpy(&high, upper, half);
    *equal = low == x->low && high == x->high;
    if (*equal) {
        memcpy(buf, &x->new_low, half);
        memcpy(upper, &x->new_high, half);
    }
    x->low = low;
    x->high = high;
    return virt_write(cpu, in->seg, ea, buf, 2 * half);
}

static bool exchange(struct cpu *cpu, const struct insn *in, uint64_t ea, unsigned half)
{
    struct wide_exchange x = {
        .low = gpr_read(cpu, RAX, half, false),
        .high = gpr_read(cpu, RDX, half, false),
        .new_low = gpr_read(cpu, RBX, half, false),
        .new_high = gpr_read(cpu, RCX, half, false),
    };
    bool equal;
    void *host;

    if (!virt_rmw(cpu, in->seg, ea, 2 * half, &host))
        return false;
    if (host)
        equal = half == 8 ? exchange16_host(host, &x) : exchange8_host(host, &x);
    else if (!exchange_slowly(cpu, in, ea, half, &x, &equal))
        return false;
    if (equal) {
        cpu->status |= STATUS_ZF;
        return true;
    }
    cpu->status &= (uint16_t)~STATUS_ZF;
    gpr_write(cpu, RAX, half, false, x.low);
    gpr_write(cpu, RDX, half, false, x.high);
    return true;
}

bool op_cmpxchg8b(struct cpu *cpu, const struct insn *in)
{
    return exchange(cpu, in, insn_ea(cpu, in), 4);
}

bool op_cmpxchg16b(struct cpu *cpu, const struct insn *in)
{
    uint64_t ea = insn_ea(cpu, in);
    gva_t gva = ea + (in->seg >= FS ? cpu->seg[in->seg].base : 0);

    if (gva & 15) /* comes before a stack address that is not canonical */
        return cpu_raise_gp(cpu, 0);
    if (!seg_to_linear(cpu, in->seg, ea, 16, ACCESS_WRITE, &gva))
        return false;
    return exchange(cpu, in, ea, 8);
}
