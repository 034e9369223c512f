/* bcd.c - decimal arithmetic (SDM vol. 1, 7.3.4; vol. 2).
 *
 * The flags that the manuals call undefined are those of the addition or subtraction by which the
 * processor makes the adjustment; found by running every input of every instruction on an AMD Zen
 * processor:
 *   DAA, DAS   OF of the 8-bit operation
 *   AAA, AAS   SF, ZF, PF, OF of AX +- 106h in 16 bits, before the high digit is cleared
 *   AAM        AF, CF, OF clear
 *   AAD        all of AL + AH * base in 8 bits
 * SALC (D6, not in Intel's manual) copies CF into all bits of AL. */
#include "cpu/bcd.h"

static uint8_t get_al(const struct cpu *cpu)
{
    return (uint8_t)cpu->gpr[RAX];
}

static void set_al(struct cpu *cpu, uint8_t v)
{
    gpr_write(cpu, RAX, 1, false, v);
}

/* SF, ZF and PF of a result whose sign bit is `sign`; PF is that of the low byte. */
static uint32_t result_flags(uint32_t v, uint32_t sign)
{
    return (v & sign ? FLAG_SF : 0) | (v == 0 ? FLAG_ZF : 0) |
           (__builtin_parity(v & 0xff) ? 0 : FLAG_PF);
}

/* The overflow of r = a + b, or of a = r + b for a subtraction. */
static bool overflows(uint32_t a, uint32_t b, uint32_t r, uint32_t sign)
{
    return ~(a ^ b) & (a ^ r) & sign;
}

/* DAA and DAS: what has to be added or subtracted, and the AF and CF that this leaves. */
static uint8_t decimal_correction(const struct cpu *cpu, uint32_t *flags)
{
    uint32_t old = cpu_status_flags(cpu);
    uint8_t correction = 0;

    *flags = 0;
    if ((get_al(cpu) & 15) > 9 || old & FLAG_AF) {
        correction = 6;
        *flags |= FLAG_AF;
    }
    if (get_al(cpu) > 0x99 || old & FLAG_CF) {
        correction |= 0x60;
        *flags |= FLAG_CF;
    }
    return correction;
}

bool op_daa(struct cpu *cpu, const struct insn *in)
{
    uint32_t flags;
    uint8_t al = get_al(cpu), correction = decimal_correction(cpu, &flags);
    uint8_t r = (uint8_t)(al + correction);

    (void)in;
    if (overflows(al, correction, r, 0x80))
        flags |= FLAG_OF;
    set_al(cpu, r);
    cpu_set_status_flags(cpu, flags | result_flags(r, 0x80));
    return true;
}

bool op_das(struct cpu *cpu, const struct insn *in)
{
    uint32_t flags;
    uint8_t al = get_al(cpu), correction = decimal_correction(cpu, &flags);
    uint8_t r = (uint8_t)(al - correction);

    (void)in;
    if (flags & FLAG_AF && al < 6)
        flags |= FLAG_CF;
    if (overflows(r, correction, al, 0x80))
        flags |= FLAG_OF;
    set_al(cpu, r);
    cpu_set_status_flags(cpu, flags | result_flags(r, 0x80));
    return true;
}

/* AAA and AAS: is a correction of AX by 106h necessary? */
static bool needs_ascii_correction(const struct cpu *cpu)
{
    return (get_al(cpu) & 15) > 9 || cpu_status_flags(cpu) & FLAG_AF;
}

bool op_aaa(struct cpu *cpu, const struct insn *in)
{
    uint32_t ax = (uint16_t)cpu->gpr[RAX];
    uint32_t correction = needs_ascii_correction(cpu) ? 0x106 : 0;
    uint32_t r = (uint16_t)(ax + correction);
    uint32_t flags = result_flags(r, 0x8000) | (correction ? FLAG_AF | FLAG_CF : 0);

    (void)in;
    if (overflows(ax, correction, r, 0x8000))
        flags |= FLAG_OF;
    gpr_write(cpu, RAX, 2, false, r & 0xff0f);
    cpu_set_status_flags(cpu, flags);
    return true;
}

bool op_aas(struct cpu *cpu, const struct insn *in)
{
    uint32_t ax = (uint16_t)cpu->gpr[RAX];
    uint32_t correction = needs_ascii_correction(cpu) ? 0x106 : 0;
    uint32_t r = (uint16_t)(ax - correction);
    uint32_t flags = result_flags(r, 0x8000) | (correction ? FLAG_AF | FLAG_CF : 0);

    (void)in;
    if (overflows(r, correction, ax, 0x8000))
        flags |= FLAG_OF;
    gpr_write(cpu, RAX, 2, false, r & 0xff0f);
    cpu_set_status_flags(cpu, flags);
    return true;
}

bool op_aam(struct cpu *cpu, const struct insn *in)
{
    uint8_t base = (uint8_t)in->imm, al = get_al(cpu);
    uint8_t high, low;

    if (!base)
        return cpu_raise(cpu, EXC_DE);
    high = al / base;
    low = al % base;
    gpr_write(cpu, RAX, 2, false, (uint64_t)high << 8 | low);
    cpu_set_status_flags(cpu, result_flags(low, 0x80));
    return true;
}

bool op_aad(struct cpu *cpu, const struct insn *in)
{
    uint8_t al = get_al(cpu), ah = (uint8_t)(cpu->gpr[RAX] >> 8);
    uint8_t addend = (uint8_t)(ah * (uint8_t)in->imm), r = (uint8_t)(al + addend);
    uint32_t flags = result_flags(r, 0x80) | ((al ^ addend ^ r) & FLAG_AF);

    if (al + addend > 0xff)
        flags |= FLAG_CF;
    if (overflows(al, addend, r, 0x80))
        flags |= FLAG_OF;
    gpr_write(cpu, RAX, 2, false, r);
    cpu_set_status_flags(cpu, flags);
    return true;
}

bool op_salc(struct cpu *cpu, const struct insn *in)
{
    (void)in;
    set_al(cpu, cpu_status_flags(cpu) & FLAG_CF ? 0xff : 0);
    return true;
}
