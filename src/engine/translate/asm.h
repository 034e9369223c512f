/* asm.h - the few x86-64 encodings that the translator emits itself.
 *
 * Everything here leaves the status flags alone, because they are the guest's: moves, LEA, PEXT,
 * PDEP and JRCXZ do the work of comparisons. Memory of the vCPU is reached as GS:offset. */
#ifndef DOBLE_ENGINE_TRANSLATE_ASM_H
#define DOBLE_ENGINE_TRANSLATE_ASM_H

#include "cpu/cpu.h"

#include <string.h>

struct assembler {
    uint8_t *p;        /* where the next byte goes, in the writable mapping */
    ptrdiff_t to_exec; /* executable address - writable address */
};

static inline void asm_byte(struct assembler *a, unsigned b)
{
    *a->p++ = (uint8_t)b;
}

static inline void asm_bytes(struct assembler *a, const char *bytes, unsigned n)
{
    memcpy(a->p, bytes, n);
    a->p += n;
}

static inline void asm_imm32(struct assembler *a, uint64_t v)
{
    uint32_t low = (uint32_t)v;

    memcpy(a->p, &low, 4);
    a->p += 4;
}

static inline void asm_imm64(struct assembler *a, uint64_t v)
{
    memcpy(a->p, &v, 8);
    a->p += 8;
}

/* ModRM and SIB for GS:[offset], an absolute address. */
static inline void asm_gs_operand(struct assembler *a, unsigned reg, size_t offset)
{
    asm_byte(a, (reg & 7) << 3 | 4);
    asm_byte(a, 0x25);
    asm_imm32(a, offset);
}

/* OP reg, GS:[offset] or the reverse; `opcode` of one byte. */
static inline void asm_gs(struct assembler *a, bool wide, unsigned opcode, unsigned reg,
                          size_t offset)
{
    asm_byte(a, 0x65);
    if (wide || reg > 7)
        asm_byte(a, 0x40 | wide << 3 | (reg >> 3) << 2);
    asm_byte(a, opcode);
    asm_gs_operand(a, reg, offset);
}

static inline void asm_load(struct assembler *a, unsigned reg, size_t offset)
{
    asm_gs(a, true, 0x8b, reg, offset);
}

static inline void asm_load32(struct assembler *a, unsigned reg, size_t offset)
{
    asm_gs(a, false, 0x8b, reg, offset);
}

static inline void asm_store(struct assembler *a, unsigned reg, size_t offset)
{
    asm_gs(a, true, 0x89, reg, offset);
}

/* MOV to, [from + disp8] */
static inline void asm_load_at(struct assembler *a, unsigned to, unsigned from, unsigned disp)
{
    asm_byte(a, 0x48 | (to >> 3) << 2 | from >> 3);
    asm_byte(a, 0x8b);
    asm_byte(a, 0x40 | (to & 7) << 3 | (from & 7));
    asm_byte(a, disp);
}

/* MOV to, from (64 bits) */
static inline void asm_move(struct assembler *a, unsigned to, unsigned from)
{
    asm_byte(a, 0x48 | (to >> 3) << 2 | from >> 3);
    asm_byte(a, 0x8b);
    asm_byte(a, 0xc0 | (to & 7) << 3 | (from & 7));
}

static inline void asm_const(struct assembler *a, unsigned reg, uint64_t v)
{
    if (v <= UINT32_MAX) {
        if (reg > 7)
            asm_byte(a, 0x41);
        asm_byte(a, 0xb8 | (reg & 7));
        asm_imm32(a, v);
        return;
    }
    asm_byte(a, 0x48 | reg >> 3);
    asm_byte(a, 0xb8 | (reg & 7));
    asm_imm64(a, v);
}

/* LEA to, [base + index << scale + disp]; base or index may be REG_NONE. `wide`: 64 bits, else the
 * result is cut to 32. */
static inline void asm_lea(struct assembler *a, bool wide, unsigned to, unsigned base,
                           unsigned index, unsigned scale, int32_t disp)
{
    unsigned x = index == REG_NONE ? 0 : index >> 3, b = base == REG_NONE ? 0 : base >> 3;
    bool small = base != REG_NONE && disp >= -128 && disp < 128;

    asm_byte(a, 0x40 | wide << 3 | (to >> 3) << 2 | x << 1 | b);
    asm_byte(a, 0x8d);
    asm_byte(a, (base == REG_NONE ? 0u : small ? 0x40u : 0x80u) | (to & 7) << 3 | 4);
    asm_byte(a, scale << 6 | (index == REG_NONE ? 4 : index & 7) << 3 |
                    (base == REG_NONE ? 5 : base & 7));
    if (small)
        asm_byte(a, (uint8_t)disp);
    else
        asm_imm32(a, (uint64_t)(int64_t)disp);
}

/* PEXT (pp = F3) or PDEP (pp = F2) to, from, GS:[mask] */
static inline void asm_pext(struct assembler *a, bool deposit, unsigned to, unsigned from,
                            size_t mask)
{
    asm_byte(a, 0x65);
    asm_byte(a, 0xc4);
    asm_byte(a, (to & 8 ? 0 : 0x80) | 0x40 | 0x20 | 2);
    asm_byte(a, 0x80 | (~from & 15) << 3 | (deposit ? 3 : 2));
    asm_byte(a, 0xf5);
    asm_gs_operand(a, to, mask);
}

/* Keeps the bits of the mask at GS:[mask]. */
static inline void asm_and(struct assembler *a, unsigned reg, size_t mask)
{
    asm_pext(a, false, reg, reg, mask);
    asm_pext(a, true, reg, reg, mask);
}

/* NOT reg (64 bits), the one arithmetic instruction that leaves the flags alone */
static inline void asm_not(struct assembler *a, unsigned reg)
{
    asm_byte(a, 0x48 | reg >> 3);
    asm_byte(a, 0xf7);
    asm_byte(a, 0xd0 | (reg & 7));
}

/* JMP rel32; returns where the offset is, to be filled in. */
static inline uint8_t *asm_jump(struct assembler *a)
{
    asm_byte(a, 0xe9);
    a->p += 4;
    return a->p - 4;
}

/* Lets the jump, call or Jcc whose rel32 is at `site` go to `target`; both in the same mapping. */
static inline void asm_patch(uint8_t *site, const uint8_t *target)
{
    int32_t rel = (int32_t)(target - (site + 4));

    memcpy(site, &rel, 4);
}

static inline void asm_jump_to(struct assembler *a, const uint8_t *target)
{
    asm_patch(asm_jump(a), target);
}

/* JMP GS:[offset] */
static inline void asm_jump_through(struct assembler *a, size_t offset)
{
    asm_byte(a, 0x65);
    asm_byte(a, 0xff);
    asm_gs_operand(a, 4, offset);
}

/* LEA to, [RIP + rel32]; returns where the offset is, to be filled in by asm_patch(). */
static inline uint8_t *asm_address(struct assembler *a, unsigned to)
{
    asm_byte(a, 0x48 | (to >> 3) << 2);
    asm_byte(a, 0x8d);
    asm_byte(a, (to & 7) << 3 | 5);
    a->p += 4;
    return a->p - 4;
}

/* JRCXZ over a near jump: `if (rcx != 0) goto far`. Returns the place of the far jump's offset. */
static inline uint8_t *asm_unless_rcx_zero(struct assembler *a)
{
    asm_byte(a, 0xe3);
    asm_byte(a, 5);
    return asm_jump(a);
}

#endif
