/* io.c - IN, OUT, INS, OUTS.
 *
 * SDM vol. 1, ch. 19 (I/O privilege and the permission bitmap in the TSS); vol. 2, each
 * instruction; vol. 3, 18.2.5 (I/O breakpoints).
 *
 *   TSS  |  ...  | I/O map base (66h) | ... | bitmap: 1 bit a port, 0 = allowed | FFh |  <- limit
 *
 * Devices are reached through the bus, which takes its lock for every access. */
#include "cpu/io.h"
#include "cpu/access.h"
#include "cpu/cpuid.h"
#include "cpu/string.h"

#define TSS_IO_MAP_BASE 0x66u
#define TSS_TYPE_AVAILABLE 9u /* 32-bit; 64-bit in long mode */
#define TSS_TYPE_BUSY 11u
#define REP_CHUNK 4096u

#define DR7_RW_IO 2u

/* --- permission --- */

static bool tss_has_bitmap(const struct cpu *cpu)
{
    const unsigned type = cpu->tr.attr & SEG_TYPE;

    return (cpu->tr.attr & SEG_P) && (type == TSS_TYPE_AVAILABLE || type == TSS_TYPE_BUSY) &&
           cpu->tr.limit >= TSS_IO_MAP_BASE + 1;
}

static bool read_tss_word(struct cpu *cpu, uint32_t offset, uint16_t *v)
{
    gva_t gva = cpu->tr.base + offset;

    if (!(cpu->mode & MODE_LONG))
        gva = (uint32_t)gva;
    return lin_read(cpu, gva, v, sizeof(*v), ACCESS_READ | ACCESS_SYSTEM);
}

/* The processor always reads two bytes of the bitmap, and both have to be within the limit. */
static bool bitmap_allows(struct cpu *cpu, uint16_t port, unsigned size)
{
    uint16_t base, bits;
    uint32_t offset;

    if (!tss_has_bitmap(cpu))
        return cpu_raise_gp(cpu, 0);
    if (!read_tss_word(cpu, TSS_IO_MAP_BASE, &base))
        return false;
    offset = base + port / 8u;
    if (offset + 1 > cpu->tr.limit)
        return cpu_raise_gp(cpu, 0);
    if (!read_tss_word(cpu, offset, &bits))
        return false;
    if (bits >> (port & 7) & ((1u << size) - 1))
        return cpu_raise_gp(cpu, 0);
    return true;
}

bool io_allowed(struct cpu *cpu, uint16_t port, unsigned size)
{
    if (!(cpu->mode & MODE_VM86) && cpu->cpl <= cpu_iopl(cpu))
        return true;
    return bitmap_allows(cpu, port, size);
}

/* --- breakpoints on ports --- */

static unsigned breakpoint_length(uint64_t dr7, unsigned n)
{
    static const uint8_t lengths[4] = {1, 2, 8, 4};

    return lengths[dr7 >> (18 + 4 * n) & 3];
}

/* Notes the breakpoints that an access hits; the trap comes after the instruction. */
static void check_breakpoints(struct cpu *cpu, uint16_t port, unsigned size)
{
    const uint64_t dr7 = cpu->dr[7];

    if (!(dr7 & 0xff) || !(cpu->cr4 & CR4_DE))
        return;
    for (unsigned n = 0; n < 4; n++) {
        const unsigned length = breakpoint_length(dr7, n);
        const uint64_t start = cpu->dr[n] & ~(uint64_t)(length - 1);

        if (!(dr7 >> (2 * n) & 3) || (dr7 >> (16 + 4 * n) & 3) != DR7_RW_IO)
            continue;
        if (port < start + length && start < (uint64_t)port + size) {
            cpu->pending_db |= 1u << n;
            atomic_fetch_or(&cpu->attention, ATTN_SHADOW);
        }
    }
}

static uint64_t port_read(struct cpu *cpu, uint16_t port, unsigned size)
{
    cpu->stats.pio++;
    check_breakpoints(cpu, port, size);
    return bus_pio_read(cpu->bus, port, size);
}

static void port_write(struct cpu *cpu, uint16_t port, uint64_t v, unsigned size)
{
    cpu->stats.pio++;
    check_breakpoints(cpu, port, size);
    bus_pio_write(cpu->bus, port, v, size);
}

/* --- IN and OUT --- */

/* E4h to E7h have the port in the instruction, ECh to EFh in DX. */
static uint16_t port_of(const struct cpu *cpu, const struct insn *in)
{
    return in->opcode & 8 ? (uint16_t)cpu->gpr[RDX] : (uint8_t)in->imm;
}

/* Ports are at most 32 bits wide, whatever REX.W says. */
static unsigned port_size(const struct insn *in)
{
    return in->osize == 8 ? 4 : in->osize;
}

bool op_in(struct cpu *cpu, const struct insn *in)
{
    const uint16_t port = port_of(cpu, in);
    const unsigned size = port_size(in);

    if (!io_allowed(cpu, port, size))
        return false;
    gpr_write(cpu, RAX, size, false, port_read(cpu, port, size));
    return true;
}

bool op_out(struct cpu *cpu, const struct insn *in)
{
    const uint16_t port = port_of(cpu, in);
    const unsigned size = port_size(in);

    if (!io_allowed(cpu, port, size))
        return false;
    port_write(cpu, port, gpr_read(cpu, RAX, size, false), size);
    return true;
}

/* --- INS and OUTS --- */

static void advance(struct cpu *cpu, const struct insn *in, unsigned reg, unsigned size)
{
    const uint64_t v = gpr_read(cpu, reg, in->asize, false);

    gpr_write(cpu, reg, in->asize, false, cpu->rflags & FLAG_DF ? v - size : v + size);
}

/* The page is checked before the port is read: a read can't be taken back. */
static bool ins_once(struct cpu *cpu, const struct insn *in, uint16_t port, unsigned size)
{
    const uint64_t ea = gpr_read(cpu, RDI, in->asize, false);
    uint64_t v;
    gva_t gva;

    if (!seg_to_linear(cpu, ES, ea, size, ACCESS_WRITE, &gva) ||
        !lin_probe(cpu, gva, size, ACCESS_WRITE))
        return false;
    v = port_read(cpu, port, size);
    if (!lin_write(cpu, gva, &v, size, ACCESS_WRITE))
        return false;
    advance(cpu, in, RDI, size);
    return true;
}

static bool outs_once(struct cpu *cpu, const struct insn *in, uint16_t port, unsigned size)
{
    uint64_t v;

    if (!virt_read_int(cpu, in->seg, gpr_read(cpu, RSI, in->asize, false), size, &v))
        return false;
    port_write(cpu, port, v, size);
    advance(cpu, in, RSI, size);
    return true;
}

typedef bool once_fn(struct cpu *cpu, const struct insn *in, uint16_t port, unsigned size);

/* The most iterations that one call may make: see string.c. */
static uint64_t repeat_limit(const struct cpu *cpu)
{
    uint64_t left = cpu->icount_limit - cpu->icount;

    if ((cpu->rflags & FLAG_TF) || cpu->icount_limit <= cpu->icount)
        return 1;
    return left < REP_CHUNK ? left : REP_CHUNK;
}

static bool repeat(struct cpu *cpu, const struct insn *in, once_fn *once, uint16_t port,
                   unsigned size)
{
    uint64_t count = gpr_read(cpu, RCX, in->asize, false), done = 0;
    const uint64_t limit = repeat_limit(cpu);
    bool ok = true;

    while (count && done < limit) {
        ok = once(cpu, in, port, size);
        if (!ok)
            break;
        done++;
        gpr_write(cpu, RCX, in->asize, false, --count);
        if (atomic_load_explicit(&cpu->attention, memory_order_relaxed))
            break;
    }
    if (done)
        cpu->icount += ok ? done - 1 : done; /* the engine counts a call without a fault as one */
    if (ok && count)
        string_again(cpu, in);
    return ok;
}

static bool string_io(struct cpu *cpu, const struct insn *in, once_fn *once)
{
    const uint16_t port = (uint16_t)cpu->gpr[RDX];
    const unsigned size = port_size(in);
    const bool rep = in->flags & (INSN_REP | INSN_REPNE);

    const bool none = rep && !gpr_read(cpu, RCX, in->asize, false);

    if (none && !cpu_model_is_amd(cpu->model)) /* AMD's processors check the port even then */
        return true;
    if (!io_allowed(cpu, port, size))
        return false;
    if (none)
        return true;
    return rep ? repeat(cpu, in, once, port, size) : once(cpu, in, port, size);
}

bool op_ins(struct cpu *cpu, const struct insn *in)
{
    return string_io(cpu, in, ins_once);
}

bool op_outs(struct cpu *cpu, const struct insn *in)
{
    return string_io(cpu, in, outs_once);
}
