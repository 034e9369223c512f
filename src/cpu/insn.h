/* insn.h - a decoded instruction, as engines keep it and helpers get it.
 *
 * Made by decode.c from what Zydis says and the table in insn_table.c. It holds no guest-virtual
 * address: branch targets are relative to the next instruction. */
#ifndef DOBLE_CPU_INSN_H
#define DOBLE_CPU_INSN_H

#include "cpu/cpu.h"

struct insn;
typedef bool helper_fn(struct cpu *cpu, const struct insn *in);
typedef void exec_fn(struct cpu *cpu, const struct insn *in);

enum insn_flag {
    INSN_MEM = 1 << 0, /* ModRM (or moffs) operand is memory: base, index, scale, disp, seg */
    INSN_LOCK = 1 << 1,
    INSN_REP = 1 << 2,      /* F3 */
    INSN_REPNE = 1 << 3,    /* F2 */
    INSN_HIGH_REG = 1 << 4, /* byte register `reg` is AH..DH (reg holds RAX..RBX) */
    INSN_HIGH_RM = 1 << 5,  /* byte register `rm` is AH..DH */
    INSN_REX_W = 1 << 6,
    INSN_VEX_L = 1 << 7,    /* 256 bits */
    INSN_MXCSR = 1 << 9,    /* helper: reads or writes cpu->mxcsr */
    INSN_ALIGNED = 1 << 10, /* a memory operand that isn't aligned to its size gives #GP(0)... */
    INSN_ALIGNED_SSE = 1 << 11, /* ...unless MXCSR.MM is set */
    INSN_FROM_BLOCK = 1 << 8, /* engine: a branch whose `imm` counts from the start of the block */
};

struct insn {
    exec_fn *exec; /* engine: what executes it */
    union {
        helper_fn *helper; /* C semantics, if it is a helper */
        const void *thunk; /* native code, if it is a copy */
    };
    int64_t disp; /* displacement, sign-extended; for RIP-relative from the start of the block */
    int64_t imm;  /* first immediate, sign- or zero-extended as the manual says; branch: relative */
    uint16_t imm2;     /* second immediate (ENTER's level, far pointer's selector) */
    uint16_t mnemonic; /* ZydisMnemonic */
    uint16_t end;      /* offset of the next instruction from the start of the block */
    uint16_t flags;    /* enum insn_flag */
    uint8_t len;
    uint8_t index_in_block;
    uint8_t osize; /* operand size in bytes: 1, 2, 4, 8 (integer forms), else 0 */
    uint8_t asize; /* address size in bytes: 2, 4, 8 */
    uint8_t seg;   /* segment of the memory operand (with overrides), or for strings of RSI's */
    uint8_t base, index, scale; /* registers (REG_NONE, REG_IP); scale as a shift 0..3 */
    uint8_t reg;  /* ModRM.reg with REX.R (or the register in the opcode byte: PUSH r, XCHG..) */
    uint8_t rm;   /* ModRM.rm with REX.B when it is a register */
    uint8_t vvvv; /* VEX.vvvv register */
    uint8_t mem_size; /* bytes of the memory operand (0: none or variable) */
    uint8_t modrm;    /* the raw byte; opcode extensions are in it */
    uint8_t opcode;   /* last opcode byte */
} __attribute__((aligned(64)));
_Static_assert(sizeof(struct insn) == 64, "native code steps from one instruction to the next");

/* Effective address: base + index * scale + disp, truncated to the address size; without segment.
 * For RIP-relative operands cpu->rip must be the *next* instruction's address (helpers). */
static inline uint64_t insn_ea(const struct cpu *cpu, const struct insn *in)
{
    uint64_t ea = cpu->gpr[in->base] + (cpu->gpr[in->index] << in->scale) + (uint64_t)in->disp;

    if (in->base == REG_IP)
        ea -= in->end; /* disp counts from the start of the block, rip is `end` further on */
    if (in->asize == 8)
        return ea;
    return in->asize == 4 ? (uint32_t)ea : (uint16_t)ea;
}

/* Integer registers by operand size: reads zero-extend; 4-byte writes clear the upper half, 1- and
 * 2-byte writes keep the rest. `high`: AH..DH. */
static inline uint64_t gpr_read(const struct cpu *cpu, unsigned reg, unsigned size, bool high)
{
    uint64_t v = cpu->gpr[reg];

    switch (size) {
    case 1: return high ? (uint8_t)(v >> 8) : (uint8_t)v;
    case 2: return (uint16_t)v;
    case 4: return (uint32_t)v;
    default: return v;
    }
}
static inline void gpr_write(struct cpu *cpu, unsigned reg, unsigned size, bool high, uint64_t v)
{
    uint64_t *r = &cpu->gpr[reg];

    switch (size) {
    case 1:
        *r =
            high ? (*r & ~UINT64_C(0xff00)) | (v & 0xff) << 8 : (*r & ~UINT64_C(0xff)) | (v & 0xff);
        break;
    case 2: *r = (*r & ~UINT64_C(0xffff)) | (v & 0xffff); break;
    case 4: *r = (uint32_t)v; break;
    default: *r = v;
    }
}

/* The reg and r/m operands of `in`, of in->osize bytes. The r/m ones raise #PF, #GP or #SS. */
static inline uint64_t insn_reg(const struct cpu *cpu, const struct insn *in)
{
    return gpr_read(cpu, in->reg, in->osize, in->flags & INSN_HIGH_REG);
}
static inline void insn_set_reg(struct cpu *cpu, const struct insn *in, uint64_t v)
{
    gpr_write(cpu, in->reg, in->osize, in->flags & INSN_HIGH_REG, v);
}
bool insn_read_rm(struct cpu *cpu, const struct insn *in, uint64_t *v) MUST_USE;
bool insn_write_rm(struct cpu *cpu, const struct insn *in, uint64_t v) MUST_USE;

#endif
