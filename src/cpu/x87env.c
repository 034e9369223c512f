/* x87env.c - FNSTENV, FLDENV, FNSAVE, FRSTOR, FNINIT, FNCLEX (SDM vol. 1, 8.1.10; vol. 2).
 *
 * cpu->fx has the registers as FXSAVE64 stores them: in the order of the stack, with a tag bit for
 * each physical register. The environment has two tag bits for each, so that the contents have to
 * be looked at when it is stored; and registers move in cpu->fx when TOP changes.
 *
 * The environment in its 32-bit formats; the 16-bit ones have the low halves (but see the code):
 *
 *       protected mode               real-address, virtual-8086 mode
 *       31     16 15      0          31  28 27       12 11  10       0
 *    0  | 1...1  | control |         | 1...1          | control      |
 *    4  | 1...1  | status  |         | 1...1          | status       |
 *    8  | 1...1  | tags    |         | 1...1          | tags         |
 *   12  | FIP              |         | 1...1          | FIP 15:0     |
 *   16  | FOP    | FCS     |         | 0000 | FIP 31:16 | 0 | FOP     |
 *   20  | FDP              |         | 1...1          | FDP 15:0     |
 *   24  | 1...1  | FDS     |         | 0000 | FDP 31:16 | 0           |
 *
 * where the right one's FIP and FDP are linear addresses. Found on an AMD Zen processor: bit 6 of
 * the control word is 1 and other reserved bits are 0; ES and B always follow from exceptions and
 * masks; C0 to C3 survive FNCLEX, and the registers' contents FNINIT. */
#include "cpu/x87env.h"

#include "cpu/access.h"

#include <string.h>

#define CW_MASKS 0x3fu
#define CW_WRITABLE 0x1f3fu
#define CW_ALWAYS 0x0040u
#define CW_INIT 0x037fu
#define SW_EXCEPTIONS 0x003fu
#define SW_ES 0x0080u
#define SW_B 0x8000u
#define SW_TOP_SHIFT 11
#define SW_TOP (7u << SW_TOP_SHIFT)
#define FOP_MASK 0x7ffu

/* Offsets in cpu->fx. */
#define FX_CW 0
#define FX_SW 2
#define FX_TAG 4
#define FX_ST 32
#define FX_ST_STRIDE 16

#define ST_SIZE 10 /* bytes of a register in FNSAVE's image */
#define ENV_MAX 28
#define SAVE_MAX (ENV_MAX + 8 * ST_SIZE)

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static void put16(uint8_t *p, unsigned v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

static uint32_t get32(const uint8_t *p)
{
    return get16(p) | (uint32_t)get16(p + 2) << 16;
}

static void put32(uint8_t *p, uint32_t v)
{
    put16(p, v & 0xffff);
    put16(p + 2, v >> 16);
}

/* --- the registers in cpu->fx --- */

static unsigned get_top(const struct cpu *cpu)
{
    return (get16(cpu->fx + FX_SW) & SW_TOP) >> SW_TOP_SHIFT;
}

static uint8_t *stack_register(struct cpu *cpu, unsigned i)
{
    return cpu->fx + FX_ST + (i & 7) * FX_ST_STRIDE;
}

uint8_t *x87_mmx(struct cpu *cpu, unsigned n)
{
    return stack_register(cpu, n - get_top(cpu));
}

void x87_set_top(struct cpu *cpu, unsigned top)
{
    uint8_t old[8 * FX_ST_STRIDE];
    unsigned by = top - get_top(cpu);
    uint16_t sw = get16(cpu->fx + FX_SW);

    memcpy(old, cpu->fx + FX_ST, sizeof old);
    for (unsigned i = 0; i < 8; i++)
        memcpy(stack_register(cpu, i), old + ((i + by) & 7) * FX_ST_STRIDE, FX_ST_STRIDE);
    put16(cpu->fx + FX_SW, (sw & ~SW_TOP) | (top & 7) << SW_TOP_SHIFT);
}

/* ES and B say whether an exception is pending that isn't masked. */
static uint16_t with_summary(uint16_t cw, uint16_t sw)
{
    sw &= (uint16_t) ~(SW_ES | SW_B);
    return sw & ~cw & SW_EXCEPTIONS ? sw | SW_ES | SW_B : sw;
}

/* Sets control and status word; the registers follow TOP. */
void x87_set_control_status(struct cpu *cpu, uint16_t cw, uint16_t sw)
{
    cw = (uint16_t)((cw & CW_WRITABLE) | CW_ALWAYS);
    x87_set_top(cpu, (sw & SW_TOP) >> SW_TOP_SHIFT);
    put16(cpu->fx + FX_CW, cw);
    put16(cpu->fx + FX_SW, with_summary(cw, sw));
}

bool x87_exception_pending(const struct cpu *cpu)
{
    uint16_t cw, sw;

    if (cpu->x87_live) {
        __asm__ volatile("fnstcw %0" : "=m"(cw));
        __asm__ volatile("fnstsw %0" : "=m"(sw));
    } else {
        cw = get16(cpu->fx + FX_CW);
        sw = get16(cpu->fx + FX_SW);
    }
    return sw & ~cw & SW_EXCEPTIONS;
}

/* --- tags --- */

enum tag { TAG_VALID, TAG_ZERO, TAG_SPECIAL, TAG_EMPTY };

static enum tag classify(const uint8_t *st)
{
    unsigned exponent = get16(st + 8) & 0x7fff;
    bool integer_bit = st[7] & 0x80;
    uint64_t significand;

    memcpy(&significand, st, 8);
    if (exponent == 0 && significand == 0)
        return TAG_ZERO;
    /* NaN, infinity, denormal, or an unsupported format */
    return exponent == 0 || exponent == 0x7fff || !integer_bit ? TAG_SPECIAL : TAG_VALID;
}

uint16_t x87_get_tags(struct cpu *cpu)
{
    unsigned tags = 0;

    for (unsigned n = 0; n < 8; n++) {
        bool empty = !(cpu->fx[FX_TAG] >> n & 1);

        tags |= (unsigned)(empty ? TAG_EMPTY : classify(x87_mmx(cpu, n))) << 2 * n;
    }
    return (uint16_t)tags;
}

static uint8_t abridged_tags(uint16_t tags)
{
    unsigned bits = 0;

    for (unsigned n = 0; n < 8; n++)
        bits |= (unsigned)((tags >> 2 * n & 3) != TAG_EMPTY) << n;
    return (uint8_t)bits;
}

void x87_set_tags(struct cpu *cpu, uint16_t tags)
{
    cpu->fx[FX_TAG] = abridged_tags(tags);
}

/* --- the environment's formats --- */

static bool is_16bit(const struct insn *in)
{
    return in->osize == 2;
}

static unsigned env_size(const struct insn *in)
{
    return is_16bit(in) ? 14 : ENV_MAX;
}

/* Real-address mode: a linear address from a segment and an offset. */
static uint32_t real_linear(uint16_t sel, uint64_t offset)
{
    return ((uint32_t)sel << 4) + (uint32_t)offset;
}

static void put_pointers16(const struct cpu *cpu, uint8_t *env)
{
    uint32_t fip, fdp;

    if (cpu->mode & MODE_PROTECTED) {
        put16(env + 6, cpu->x87_fip & 0xffff);
        put16(env + 8, cpu->x87_fcs);
        put16(env + 10, cpu->x87_fdp & 0xffff);
        put16(env + 12, cpu->x87_fds);
        return;
    }
    fip = real_linear(cpu->x87_fcs, cpu->x87_fip);
    fdp = real_linear(cpu->x87_fds, cpu->x87_fdp);
    put16(env + 6, fip & 0xffff);
    put16(env + 8, (fip >> 16 & 15) << 12 | (cpu->x87_fop & FOP_MASK));
    put16(env + 10, fdp & 0xffff);
    put16(env + 12, (fdp >> 16 & 15) << 12);
}

static void put_pointers32(const struct cpu *cpu, uint8_t *env)
{
    uint32_t fip, fdp, fop = cpu->x87_fop & FOP_MASK;

    if (cpu->mode & MODE_PROTECTED) {
        put32(env + 12, (uint32_t)cpu->x87_fip);
        put32(env + 16, cpu->x87_fcs | fop << 16);
        put32(env + 20, (uint32_t)cpu->x87_fdp);
        put32(env + 24, cpu->x87_fds | 0xffff0000);
        return;
    }
    fip = real_linear(cpu->x87_fcs, cpu->x87_fip);
    fdp = real_linear(cpu->x87_fds, cpu->x87_fdp);
    put32(env + 12, (fip & 0xffff) | 0xffff0000);
    put32(env + 16, (fip >> 16) << 12 | fop);
    put32(env + 20, (fdp & 0xffff) | 0xffff0000);
    put32(env + 24, (fdp >> 16) << 12);
}

static void get_pointers16(struct cpu *cpu, const uint8_t *env)
{
    bool protected = cpu->mode & MODE_PROTECTED;
    uint16_t third = get16(env + 8), last = get16(env + 12);

    cpu->x87_fip = get16(env + 6);
    cpu->x87_fdp = get16(env + 10);
    cpu->x87_fcs = protected ? third : 0;
    cpu->x87_fds = protected ? last : 0;
    if (protected)
        return; /* this format has no opcode: the last one stays */
    cpu->x87_fip |= (uint64_t)(third >> 12) << 16;
    cpu->x87_fdp |= (uint64_t)(last >> 12) << 16;
    cpu->x87_fop = third & FOP_MASK;
}

static void get_pointers32(struct cpu *cpu, const uint8_t *env)
{
    uint32_t fip = get32(env + 12), fcs = get32(env + 16);
    uint32_t fdp = get32(env + 20), fds = get32(env + 24);

    if (cpu->mode & MODE_PROTECTED) {
        cpu->x87_fip = fip;
        cpu->x87_fcs = (uint16_t)fcs;
        cpu->x87_fop = fcs >> 16 & FOP_MASK;
        cpu->x87_fdp = fdp;
        cpu->x87_fds = (uint16_t)fds;
        return;
    }
    cpu->x87_fip = (fip & 0xffff) | (fcs >> 12 & 0xffff) << 16;
    cpu->x87_fcs = 0;
    cpu->x87_fop = fcs & FOP_MASK;
    cpu->x87_fdp = (fdp & 0xffff) | (fds >> 12 & 0xffff) << 16;
    cpu->x87_fds = 0;
}

static void put_environment(struct cpu *cpu, const struct insn *in, uint8_t *env)
{
    uint16_t cw = get16(cpu->fx + FX_CW), sw = with_summary(cw, get16(cpu->fx + FX_SW));

    if (is_16bit(in)) {
        put16(env, cw);
        put16(env + 2, sw);
        put16(env + 4, x87_get_tags(cpu));
        put_pointers16(cpu, env);
        return;
    }
    put32(env, cw | 0xffff0000);
    put32(env + 4, sw | 0xffff0000);
    put32(env + 8, x87_get_tags(cpu) | 0xffff0000);
    put_pointers32(cpu, env);
}

static void get_environment(struct cpu *cpu, const struct insn *in, const uint8_t *env)
{
    unsigned step = is_16bit(in) ? 2 : 4;

    x87_set_control_status(cpu, get16(env), get16(env + step));
    x87_set_tags(cpu, get16(env + 2 * step));
    if (is_16bit(in))
        get_pointers16(cpu, env);
    else
        get_pointers32(cpu, env);
}

/* --- the instructions --- */

bool op_fnstenv(struct cpu *cpu, const struct insn *in)
{
    uint8_t env[ENV_MAX];
    uint16_t cw;

    cpu_x87_sync(cpu);
    put_environment(cpu, in, env);
    if (!virt_write(cpu, in->seg, insn_ea(cpu, in), env, env_size(in)))
        return false;
    cw = get16(cpu->fx + FX_CW) | CW_MASKS;
    x87_set_control_status(cpu, cw, get16(cpu->fx + FX_SW));
    return true;
}

bool op_fldenv(struct cpu *cpu, const struct insn *in)
{
    uint8_t env[ENV_MAX];

    if (x87_exception_pending(cpu))
        return cpu_raise(cpu, EXC_MF);
    if (!virt_read(cpu, in->seg, insn_ea(cpu, in), env, env_size(in)))
        return false;
    cpu_x87_sync(cpu);
    get_environment(cpu, in, env);
    return true;
}

static void initialize(struct cpu *cpu)
{
    x87_set_control_status(cpu, CW_INIT, 0);
    cpu->fx[FX_TAG] = 0;
    cpu->x87_fip = cpu->x87_fdp = 0;
    cpu->x87_fcs = cpu->x87_fds = cpu->x87_fop = 0;
}

bool op_fnsave(struct cpu *cpu, const struct insn *in)
{
    unsigned at = env_size(in);
    uint8_t image[SAVE_MAX];

    cpu_x87_sync(cpu);
    put_environment(cpu, in, image);
    for (unsigned i = 0; i < 8; i++)
        memcpy(image + at + i * ST_SIZE, stack_register(cpu, i), ST_SIZE);
    if (!virt_write(cpu, in->seg, insn_ea(cpu, in), image, at + 8 * ST_SIZE))
        return false;
    initialize(cpu);
    return true;
}

bool op_frstor(struct cpu *cpu, const struct insn *in)
{
    unsigned at = env_size(in);
    uint8_t image[SAVE_MAX];

    if (x87_exception_pending(cpu))
        return cpu_raise(cpu, EXC_MF);
    if (!virt_read(cpu, in->seg, insn_ea(cpu, in), image, at + 8 * ST_SIZE))
        return false;
    cpu_x87_sync(cpu);
    get_environment(cpu, in, image);
    for (unsigned i = 0; i < 8; i++) {
        memset(stack_register(cpu, i), 0, FX_ST_STRIDE);
        memcpy(stack_register(cpu, i), image + at + i * ST_SIZE, ST_SIZE);
    }
    return true;
}

bool op_fninit(struct cpu *cpu, const struct insn *in)
{
    (void)in;
    cpu_x87_sync(cpu);
    initialize(cpu);
    return true;
}
