/* Copies: instructions that a thunk executes natively.
 *
 * One without a memory operand needs nothing around it: its thunk is its exec function. With
 * memory, the operand is found through the TLB and the thunk works on guest RAM in place. When the
 * TLB doesn't know it, or it crosses pages, or is MMIO, or holds code, the thunk works on a copy of
 * the operand with the same alignment, which is written back. */
#include "engine/interpret/exec.h"

#include "cpu/access.h"
#include "cpu/x87env.h"
#include "engine/interpret/thunk.h"

#include <string.h>

/* COPY_WAITS: an instruction that a pending x87 exception stops before it looks at its operand. */
enum copy_kind { COPY_READ = 1, COPY_WRITE = 2, COPY_RMW = 3, COPY_WAITS = 4 };

#define MXCSR_MM (1u << 17) /* AMD: operands of SSE instructions may be misaligned */

/* The processor looks at the alignment before it translates the address. */
static bool misaligned(const struct cpu *cpu, const struct insn *in)
{
    bool checked = in->flags & INSN_ALIGNED ||
                   (in->flags & INSN_ALIGNED_SSE && !(__builtin_ia32_stmxcsr() & MXCSR_MM));
    uint64_t base = cpu_is_64bit(cpu) && in->seg < FS ? 0 : cpu->seg[in->seg].base;

    return checked && ((base + exec_ea(cpu, in)) & (in->mem_size - 1u));
}

static bool slow_operand_in(struct cpu *cpu, const struct insn *in, enum copy_kind kind, gva_t gva,
                            void *buf)
{
    if (kind == COPY_READ)
        return lin_read(cpu, gva, buf, in->mem_size, ACCESS_READ);
    if (!lin_probe(cpu, gva, in->mem_size, ACCESS_RMW))
        return false;
    return kind == COPY_WRITE || lin_read(cpu, gva, buf, in->mem_size, ACCESS_RMW);
}

/* Executes on a copy of the operand. False: an exception; the block has been left. */
static bool copy_on_bounce(struct cpu *cpu, const struct insn *in, enum copy_kind kind)
{
    uint8_t bounce[128] __attribute__((aligned(64)));
    struct insn chain[2] = {*in, {.exec = exec_return}};
    unsigned access;
    gva_t gva;
    uint8_t *buf;

    if ((kind & COPY_WAITS) && x87_exception_pending(cpu))
        return cpu_raise(cpu, EXC_MF);
    if (misaligned(cpu, in))
        return cpu_raise_gp(cpu, 0);
    kind &= COPY_RMW;
    access = kind == COPY_READ ? ACCESS_READ : ACCESS_WRITE;
    if (!seg_to_linear(cpu, in->seg, exec_ea(cpu, in), in->mem_size, access, &gva))
        return false;
    buf = bounce + (gva & 63);
    memset(bounce, 0, sizeof bounce);
    if (!slow_operand_in(cpu, in, kind, gva, buf))
        return false;
    ((thunk_fn *)in->thunk)(cpu, chain, buf);
    if (cpu->exc.pending)
        return true; /* the native exception left the block already */
    /* The probe has shown that this cannot fail. */
    return kind == COPY_READ || lin_write(cpu, gva, buf, in->mem_size, ACCESS_WRITE);
}

static __attribute__((noinline)) void copy_slow(struct cpu *cpu, const struct insn *in,
                                                enum copy_kind kind)
{
    uint64_t icount = cpu->icount;

    cpu->icount += in->index_in_block;
    cpu_publish_time(cpu);
    cpu->icount = icount;
    if (!copy_on_bounce(cpu, in, kind)) {
        exec_leave_fault(cpu, in);
        return;
    }
    if (cpu->exc.pending)
        return;
    if (exec_must_leave(cpu)) {
        exec_leave_after(cpu, in);
        return;
    }
    EXEC_NEXT(cpu, in);
}

static inline __attribute__((always_inline)) void
copy_mem(struct cpu *cpu, const struct insn *in, enum addressing addressing, enum copy_kind kind)
{
    void *host = exec_operand(cpu, in, addressing, in->mem_size, kind & COPY_WRITE);

    if (unlikely(!host))
        return copy_slow(cpu, in, kind);
    return ((thunk_fn *)in->thunk)(cpu, in, host);
}

#define COPY_FORMS(name, kind)                                                                     \
    static void name##_64(struct cpu *cpu, const struct insn *in)                                  \
    {                                                                                              \
        copy_mem(cpu, in, ADDR_64, kind);                                                          \
    }                                                                                              \
    static void name##_32(struct cpu *cpu, const struct insn *in)                                  \
    {                                                                                              \
        copy_mem(cpu, in, ADDR_32, kind);                                                          \
    }                                                                                              \
    static void name##_any(struct cpu *cpu, const struct insn *in)                                 \
    {                                                                                              \
        copy_slow(cpu, in, kind);                                                                  \
    }
COPY_FORMS(copy_read, COPY_READ)
COPY_FORMS(copy_write, COPY_WRITE)
COPY_FORMS(copy_rmw, COPY_RMW)

/* --- x87 and MMX: the guest's registers are live in the host's FPU --- */

static inline void use_fpu(struct cpu *cpu)
{
    if (unlikely(!cpu->x87_live))
        cpu_x87_load(cpu);
}

static void mmx_reg(struct cpu *cpu, const struct insn *in)
{
    use_fpu(cpu);
    return ((thunk_fn *)in->thunk)(cpu, in, NULL);
}

static void mmx_mem(struct cpu *cpu, const struct insn *in)
{
    enum copy_kind kind = (enum copy_kind)in->imm2;

    use_fpu(cpu);
    if (exec_addressing(cpu, in) == ADDR_64)
        return copy_mem(cpu, in, ADDR_64, kind);
    return copy_slow(cpu, in, kind);
}

/* Where the last x87 instruction and its operand were (SDM vol. 1, 8.1.8). */
static void note_pointers(struct cpu *cpu, const struct insn *in)
{
    cpu->x87_fip = rip_plus(cpu, in->end - in->len);
    cpu->x87_fcs = cpu->seg[CS].sel;
    cpu->x87_fop = (uint16_t)((in->opcode & 7) << 8 | in->modrm);
    if (in->flags & INSN_MEM) {
        cpu->x87_fdp =
            exec_ea(cpu, in) + (cpu_is_64bit(cpu) && in->seg >= FS ? cpu->seg[in->seg].base : 0);
        cpu->x87_fds = cpu->seg[in->seg].sel;
    }
}

static void x87_reg(struct cpu *cpu, const struct insn *in)
{
    note_pointers(cpu, in);
    mmx_reg(cpu, in);
}

static void x87_mem(struct cpu *cpu, const struct insn *in)
{
    note_pointers(cpu, in);
    mmx_mem(cpu, in);
}

/* --- selection --- */

static exec_fn *select_fpu(const struct decoded *d)
{
    bool mem = d->in.flags & INSN_MEM;

    if (d->unit == UNIT_X87 && !(d->row->flags & ROW_X87_CONTROL))
        return mem ? x87_mem : x87_reg;
    return mem ? mmx_mem : mmx_reg;
}

static bool uses_fpu(const struct decoded *d)
{
    if (d->unit == UNIT_X87 || d->unit == UNIT_MMX || (d->row->flags & ROW_X87_CONTROL))
        return true;
    for (unsigned i = 0; i < d->zi.operand_count; i++)
        if (d->ops[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
            ZydisRegisterGetClass(d->ops[i].reg.value) == ZYDIS_REGCLASS_MMX)
            return true;
    return false;
}

/* All but the FN.. forms wait for pending exceptions. */
static bool waits(const struct decoded *d)
{
    switch (d->zi.mnemonic) {
    case ZYDIS_MNEMONIC_FNCLEX:
    case ZYDIS_MNEMONIC_FNINIT:
    case ZYDIS_MNEMONIC_FNSTCW:
    case ZYDIS_MNEMONIC_FNSTSW: return false;
    default: return true;
    }
}

exec_fn *exec_select_copy(const struct cpu *cpu, struct decoded *d)
{
    static exec_fn *const forms[4][3] = {
        [COPY_READ] = {copy_read_64, copy_read_32, copy_read_any},
        [COPY_WRITE] = {copy_write_64, copy_write_32, copy_write_any},
        [COPY_RMW] = {copy_rmw_64, copy_rmw_32, copy_rmw_any},
    };
    unsigned kind = (d->reads_mem ? COPY_READ : 0) | (d->writes_mem ? COPY_WRITE : 0);

    if (kind == 0)
        kind = COPY_READ;
    if (uses_fpu(d)) {
        /* With an unmasked exception an x87 store doesn't store: what is there must stay. */
        if (d->unit == UNIT_X87 && kind == COPY_WRITE)
            kind = COPY_RMW;
        if (waits(d))
            kind |= COPY_WAITS;
        d->in.imm2 = (uint16_t)kind; /* the thunk has the immediates in its code */
        return select_fpu(d);
    }
    if (!(d->in.flags & INSN_MEM))
        return NULL; /* the thunk itself */
    return forms[kind][exec_addressing(cpu, &d->in)];
}
