#include "guest.h"

#include "cpu/cpuid.h"
#include "cpu/cr.h"
#include "cpu/segment.h"
#include "cpu/tlb.h"

#include <string.h>

#define HANDLER_SIZE 16u

/* Selectors of the GDT; see gdt[]. */
#define SEL_CODE64 0x08
#define SEL_DATA 0x10
#define SEL_CODE32 0x18
#define SEL_CODE16 0x20
#define SEL_DATA16 0x28
#define SEL_USER_CODE32 0x30
#define SEL_USER_DATA 0x38
#define SEL_USER_CODE64 0x40
#define SEL_TSS 0x48
#define SEL_LDT 0x58
#define SEL_TSS2 0x68
#define SEL_CALL_GATE 0x78
#define SEL_TASK_GATE 0x88
#define SEL_USER_CODE16 0xa8

static const uint64_t gdt[] = {
    0,
    0x00af9b000000ffff, /* 08: code64 */
    0x00cf93000000ffff, /* 10: data */
    0x00cf9b000000ffff, /* 18: code32 */
    0x000f9b000000ffff, /* 20: code16 */
    0x000f93000000ffff, /* 28: data16 */
    0x00cffb000000ffff, /* 30: user code32 */
    0x00cff3000000ffff, /* 38: user data */
    0x00affb000000ffff, /* 40: user code64 */
    0,                  /* 48: TSS */
    0,
    0, /* 58: LDT */
    0,
    0, /* 68: TSS, available */
    0,
    0, /* 78: call gate */
    0,
    0x0000e50000680000, /* 88: task gate */
    0x00cf9f000000ffff, /* 90: conforming code */
    0x00cfbb000000ffff, /* 98: code32, DPL 1 */
    0x00cfb3000000ffff, /* a0: data, DPL 1 */
    0x000ffb000000ffff, /* a8: user code16 */
    0x00c0f7000000000f, /* b0: user data, expand-down */
    0x00cf13000000ffff, /* b8: not present */
    0x0040f20060001fff, /* c0: user data, base 6000h, not accessed */
    0x00cfda000000ffff, /* c8: code32, DPL 2, not accessed */
};

static void put(struct cpu *cpu, gpa_t gpa, const void *bytes, unsigned count)
{
    memcpy(memory_ram(cpu->mem, gpa, count), bytes, count);
}

static void put64(struct cpu *cpu, gpa_t gpa, uint64_t v)
{
    put(cpu, gpa, &v, sizeof v);
}

static void put32(struct cpu *cpu, gpa_t gpa, uint32_t v)
{
    put(cpu, gpa, &v, sizeof v);
}

/* --- tables --- */

static void put_system(struct cpu *cpu, unsigned sel, uint32_t base, uint32_t limit, unsigned type)
{
    put64(cpu, GUEST_GDT + sel,
          (uint64_t)(base & 0xffffff) << 16 | (limit & 0xffff) | (uint64_t)(SEG_P | type) << 40 |
              (uint64_t)(base >> 24) << 56);
}

static void put_gate(struct cpu *cpu, gpa_t at, unsigned sel, uint32_t offset, unsigned attr)
{
    put64(cpu, at,
          (uint64_t)(offset & 0xffff) | (uint64_t)sel << 16 | (uint64_t)attr << 40 |
              (uint64_t)(offset >> 16) << 48);
}

static void put_gdt(struct cpu *cpu, bool long_mode)
{
    put(cpu, GUEST_GDT, gdt, sizeof gdt);
    put_system(cpu, SEL_TSS, GUEST_TSS, 0x3ff, SYS_TSS32_BUSY);
    put_system(cpu, SEL_TSS2, GUEST_TSS2, 0x7f, SYS_TSS32);
    put_system(cpu, SEL_LDT, GUEST_LDT, 0xff, SYS_LDT);
    put_gate(cpu, GUEST_GDT + SEL_CALL_GATE, long_mode ? SEL_CODE64 : SEL_CODE32, GUEST_CODE + 64,
             0xec);
    put(cpu, GUEST_LDT, gdt, 0x48);
}

static void put_idt(struct cpu *cpu, bool long_mode, bool code16)
{
    unsigned size = long_mode ? 16 : 8, sel = long_mode ? SEL_CODE64 : SEL_CODE32;

    for (unsigned v = 0; v < 256; v++)
        put_gate(cpu, GUEST_IDT + v * size, code16 ? SEL_CODE16 : sel,
                 GUEST_HANDLERS + v * HANDLER_SIZE, (code16 ? 0x86 : 0x8e) | (v & 1) | 0x60);
}

static void put_real_vectors(struct cpu *cpu)
{
    for (unsigned v = 0; v < 256; v++)
        put32(cpu, v * 4, (GUEST_HANDLERS >> 4) << 16 | v * HANDLER_SIZE);
}

/* A TSS that is good in both forms: 32-bit SS0:ESP0 is 64-bit RSP0's upper half and RSP1's lower.
 */
static void put_tss(struct cpu *cpu, gpa_t tss, bool long_mode)
{
    if (long_mode) {
        for (unsigned i = 0; i < 3; i++)
            put64(cpu, tss + 4 + i * 8, GUEST_STACK);
        for (unsigned i = 0; i < 7; i++)
            put64(cpu, tss + 0x24 + i * 8, GUEST_STACK - 0x100);
    } else {
        for (unsigned i = 0; i < 3; i++) {
            put32(cpu, tss + 4 + i * 8, GUEST_STACK);
            put32(cpu, tss + 8 + i * 8, SEL_DATA);
        }
        put32(cpu, tss + 0x1c, GUEST_TABLES);
        put32(cpu, tss + 0x20, GUEST_CODE + 0x100);
        put32(cpu, tss + 0x38, GUEST_STACK - 0x200);
        for (unsigned i = 0; i < 6; i++)
            put32(cpu, tss + 0x48 + i * 4, i == 1 ? SEL_CODE32 : SEL_DATA);
    }
    put32(cpu, tss + 0x64, 0x88u << 16); /* I/O permissions behind 32 bytes for redirection */
}

static bool has_error_code(unsigned v)
{
    return v == 8 || (v >= 10 && v <= 14) || v == 17;
}

/* [add sp, size of the error code]; increase the return address; return */
static void put_handler(struct cpu *cpu, unsigned v, unsigned bits)
{
    static const uint8_t pop64[] = {0x48, 0x83, 0xc4, 8},
                         next64[] = {0x48, 0xff, 4, 0x24, 0x48, 0xcf};
    static const uint8_t pop32[] = {0x83, 0xc4, 4}, next32[] = {0xff, 4, 0x24, 0xcf};
    static const uint8_t pop16[] = {0x83, 0xc4, 2};
    static const uint8_t next16[] = {0x55, 0x89, 0xe5, 0xff, 0x46, 2, 0x5d, 0xcf};
    gpa_t at = GUEST_HANDLERS + v * HANDLER_SIZE;
    bool error = has_error_code(v) && bits != 0;

    if (bits == 64) {
        put(cpu, at, pop64, error ? sizeof pop64 : 0);
        put(cpu, at + (error ? sizeof pop64 : 0), next64, sizeof next64);
    } else if (bits == 32) {
        put(cpu, at, pop32, error ? sizeof pop32 : 0);
        put(cpu, at + (error ? sizeof pop32 : 0), next32, sizeof next32);
    } else {
        put(cpu, at, pop16, error ? sizeof pop16 : 0);
        put(cpu, at + (error ? sizeof pop16 : 0), next16, sizeof next16);
    }
}

/* --- page tables: 2 MiB mapped to themselves, every fourth page for the supervisor only --- */

#define RIGHTS(page) ((page) % 4 == 3 && (page) > 0x10 ? 3u : 7u)
#define PD32 (GUEST_TABLES)
#define PT32 (GUEST_TABLES + 0x1000)
#define PDPT (GUEST_TABLES + 0x2000)
#define PD (GUEST_TABLES + 0x3000)
#define PT (GUEST_TABLES + 0x4000)
#define PD_TOP (GUEST_TABLES + 0x5000)
#define PML4 (GUEST_TABLES + 0x6000)
#define PML5 (GUEST_TABLES + 0x7000)
#define PDPT_LONG (GUEST_TABLES + 0x8000)

static void put_paging_32(struct cpu *cpu)
{
    for (uint32_t i = 0; i < 512; i++)
        put32(cpu, PT32 + i * 4, i << 12 | RIGHTS(i));
    put32(cpu, PD32, PT32 | 7);
    put32(cpu, PD32 + 4, 0x87);                             /* 4 MiB: RAM again */
    put32(cpu, PD32 + (0xfec00000u >> 22) * 4, 0xfec00087); /* the APICs */
}

static void put_paging_64(struct cpu *cpu)
{
    for (uint64_t i = 0; i < 512; i++)
        put64(cpu, PT + i * 8, i << 12 | RIGHTS(i));
    put64(cpu, PD, PT | 7);
    put64(cpu, PD + 8, 0x87); /* 2 MiB: RAM again */
    put64(cpu, PD_TOP + (0xfec00000u >> 21 & 511) * 8, 0xfec00087);
    put64(cpu, PD_TOP + (0xfee00000u >> 21 & 511) * 8, 0xfee00087);
    put64(cpu, PDPT, PD | 1);
    put64(cpu, PDPT + 24, PD_TOP | 1);
    put64(cpu, PDPT_LONG, PD | 7);
    put64(cpu, PDPT_LONG + 24, PD_TOP | 7);
    put64(cpu, PML4, PDPT_LONG | 7);
    put64(cpu, PML4 + 511 * 8, PDPT_LONG | 7);
    put64(cpu, PML5, PML4 | 7);
    put64(cpu, PML5 + 511 * 8, PML4 | 7);
}

/* --- registers --- */

static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static uint64_t random_value(uint64_t *seed)
{
    uint64_t r = next_random(seed), low = r & 0xfff;

    switch (r >> 60) {
    case 0: return low;
    case 1: return 0 - low;
    case 2: return r;
    case 3: return GUEST_TABLES + (r >> 20 & 0x7fff);
    case 4: return UINT64_C(0x00007fffffffffff) - (low & 15);
    case 5: return UINT64_C(0xffff800000000000) + low;
    case 6: return UINT32_MAX - (low & 0xff);
    case 7: return 0xfee00000 + (low & 0xff0);
    case 8: return GUEST_CODE + low;
    case 9: return GUEST_DATA + 0x1000 - (low & 31);
    case 10: return UINT64_C(1) << (low & 63);
    default: return GUEST_DATA + low;
    }
}

static void random_registers(struct cpu *cpu, uint64_t seed)
{
    seed = seed * UINT64_C(0x9e3779b97f4a7c15) | 1;
    for (unsigned i = 0; i < 16; i++)
        cpu->gpr[i] = random_value(&seed);
    for (unsigned i = 0; i < 16; i++)
        for (unsigned k = 0; k < 4; k++)
            cpu->ymm[i].q[k] = next_random(&seed);
    cpu->gpr[RSP] = GUEST_STACK - (next_random(&seed) & 0x7f8);
    cpu->star = (uint64_t)(SEL_USER_CODE32 | 3) << 48 | (uint64_t)SEL_CODE64 << 32;
    cpu->lstar = cpu->cstar = GUEST_CODE + (next_random(&seed) & 0xff);
    cpu->sysenter_cs = SEL_CODE64;
    cpu->sysenter_eip = GUEST_CODE + 32;
    cpu->sysenter_esp = GUEST_STACK;
    for (unsigned i = 0; i < 4; i++)
        cpu->dr[i] = random_value(&seed);
    if ((next_random(&seed) & 7) == 0)
        cpu->dr[7] = dr7_fixed(next_random(&seed));
}

static struct segment flat(uint16_t sel, unsigned cpl, bool code, uint16_t width)
{
    return (struct segment){
        .limit = width ? UINT32_MAX : 0xfffff,
        .sel = (uint16_t)(sel | cpl),
        .attr = (uint16_t)(SEG_P | SEG_S | SEG_WRITABLE | SEG_ACCESSED | cpl << SEG_DPL_SHIFT |
                           (code ? SEG_CODE : 0) | width),
    };
}

static void set_segments(struct cpu *cpu, const struct guest_choice *c, unsigned bits)
{
    unsigned cpl =
        c->mode == GUEST_LONG64 || c->mode == GUEST_LONG64_LA57 || c->cpl == 3 ? c->cpl : 0;
    uint16_t width = bits == 16 ? 0 : SEG_DB | SEG_G;
    uint16_t code_sel = cpl == 3     ? (bits == 64   ? SEL_USER_CODE64
                                        : bits == 32 ? SEL_USER_CODE32
                                                     : SEL_USER_CODE16)
                        : bits == 64 ? SEL_CODE64
                        : bits == 32 ? SEL_CODE32
                                     : SEL_CODE16;

    for (unsigned i = 0; i < SEG_COUNT; i++)
        cpu->seg[i] = flat(cpl == 3 ? SEL_USER_DATA : SEL_DATA, cpl, false, width);
    cpu->seg[CS] = flat(code_sel, cpl, true, bits == 64 ? SEG_L | SEG_G : width);
    cpu->cpl = (uint8_t)cpl;
    cpu->gdtr = (struct desc_table){GUEST_GDT, sizeof gdt - 1};
    cpu->idtr = (struct desc_table){GUEST_IDT, 0xfff};
    cpu->ldtr = (struct segment){GUEST_LDT, 0xff, SEL_LDT, SEG_P | SYS_LDT};
    cpu->tr = (struct segment){GUEST_TSS, 0x3ff, SEL_TSS, SEG_P | SYS_TSS32_BUSY};
}

static void set_vm86(struct cpu *cpu)
{
    for (unsigned i = 0; i < SEG_COUNT; i++)
        cpu->seg[i] = segment_vm86(0);
    cpu->cpl = 3;
    cpu->rflags |= FLAG_VM;
}

static void set_controls(struct cpu *cpu, const struct guest_choice *c, bool paging, bool pae,
                         bool long_mode)
{
    uint64_t cr0 = c->cr0 & (CR0_MP | CR0_EM | CR0_TS | CR0_NE);

    cr0 |= (c->cr0 & 0x100 ? CR0_WP : 0) | (c->cr0 & 0x200 ? CR0_AM : 0) | CR0_ET;
    cr0 |= (c->mode == GUEST_REAL16 ? 0 : CR0_PE) | (paging ? CR0_PG : 0);
    cpu->cr0 = cr0;
    cpu->cr4 = (c->cr4 & ~(uint64_t)(CR4_PAE | CR4_LA57)) | (uint64_t)(c->cr4 & 0xf000) << 8;
    cpu->cr4 |= pae ? CR4_PAE : 0;
    cpu->cr4 |= c->mode == GUEST_LONG64_LA57 ? CR4_LA57 : 0;
    cpu->cr4 &= cr4_allowed(cpu) & ~(uint64_t)(long_mode ? 0 : CR4_PCIDE);
    cpu->efer = (long_mode ? EFER_LME | EFER_LMA : 0) | (c->cr4 & 0x800 ? EFER_NXE : 0) |
                (c->cr0 & 0x400 ? EFER_SCE : 0);
    cpu->xcr0 = c->cr0 & 0x800 ? XCR0_X87 : XCR0_X87 | XCR0_SSE | XCR0_AVX;
    if (!xcr0_is_valid(cpu, cpu->xcr0))
        cpu->xcr0 = XCR0_X87;
    cpu->cr3 = !pae ? PD32 : !long_mode ? PDPT : cpu->cr4 & CR4_LA57 ? PML5 : PML4;
    for (unsigned i = 0; i < 4 && pae && paging && !long_mode; i++)
        memcpy(&cpu->pdpte[i], memory_ram(cpu->mem, PDPT + 8 * i, 8), 8);
}

void guest_make(struct cpu *cpu, const struct guest_choice *c)
{
    bool long_mode = c->mode >= GUEST_LONG64, code16 = c->mode == GUEST_PROTECTED16;
    bool paging = c->mode == GUEST_PAGED32 || c->mode == GUEST_PAE32 || c->mode >= GUEST_VM86_PAGED;
    bool pae = c->mode == GUEST_PAE32 || c->mode >= GUEST_PAE16;
    unsigned bits =
        c->mode == GUEST_LONG64 || c->mode == GUEST_LONG64_LA57                               ? 64
        : c->mode == GUEST_PROTECTED16 || c->mode == GUEST_PAE16 || c->mode == GUEST_COMPAT16 ? 16
                                                                                              : 32;

    put_gdt(cpu, long_mode);
    put_tss(cpu, GUEST_TSS, long_mode);
    put_tss(cpu, GUEST_TSS2, long_mode);
    put_paging_32(cpu);
    put_paging_64(cpu);
    for (unsigned v = 0; v < 256; v++)
        put_handler(cpu, v, c->mode == GUEST_REAL16 ? 0 : long_mode ? 64 : code16 ? 16 : 32);
    random_registers(cpu, c->seed);
    cpu_set_rflags(cpu, c->rflags & (FLAGS_ALL & 0xffff));
    if (c->mode == GUEST_REAL16) {
        put_real_vectors(cpu);
        for (unsigned i = 0; i < SEG_COUNT; i++)
            segment_load_real(cpu, (enum seg)i, 0);
        cpu->idtr = (struct desc_table){0, 0x3ff};
    } else {
        put_idt(cpu, long_mode, code16);
        set_segments(cpu, c, bits);
    }
    if (c->mode == GUEST_VM86 || c->mode == GUEST_VM86_PAGED)
        set_vm86(cpu);
    set_controls(cpu, c, paging, pae, long_mode);
    cpu->rip = GUEST_CODE;
    tlb_flush_all(cpu);
    cpu_update_mode(cpu);
}
