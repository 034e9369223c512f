/* segment.h - descriptors, and loading segment registers from them (SDM vol. 3, ch. 3 and 5).
 *
 * Two kinds of functions: segment_check_*() do every check, set the accessed bit in the table and
 * give the register's new content, but leave the CPU as it is; segment_load() also loads. `vector`
 * is what a failed check raises (#GP, or #TS during stack and task switches) with the selector as
 * error code; a segment that is not present gives #NP, a stack #SS. `ext` is the EXT bit of error
 * codes: 1 while an event that the program didn't ask for is being delivered. vCPU thread only. */
#ifndef DOBLE_CPU_SEGMENT_H
#define DOBLE_CPU_SEGMENT_H

#include "cpu/cpu.h"

/* Types of system descriptors (SDM vol. 3, table 3-2). */
enum system_type {
    SYS_TSS16 = 1,
    SYS_LDT = 2,
    SYS_TSS16_BUSY = 3,
    SYS_CALL_GATE16 = 4,
    SYS_TASK_GATE = 5,
    SYS_INT_GATE16 = 6,
    SYS_TRAP_GATE16 = 7,
    SYS_TSS32 = 9, /* 64-bit in long mode, like the following */
    SYS_TSS32_BUSY = 11,
    SYS_CALL_GATE32 = 12,
    SYS_INT_GATE32 = 14,
    SYS_TRAP_GATE32 = 15,
};

#define SYS_BUSY 2u /* in the type of a TSS */

#define SEL_RPL 3u
#define SEL_TI 4u

struct descriptor {
    gva_t address; /* linear address of its first byte */
    uint64_t low;
    uint64_t high; /* second half of a system descriptor in long mode, else 0 */
};

static inline bool selector_is_null(uint16_t sel)
{
    return !(sel & ~SEL_RPL);
}
static inline unsigned selector_rpl(uint16_t sel)
{
    return sel & SEL_RPL;
}

static inline uint16_t descriptor_attr(const struct descriptor *d)
{
    return (uint16_t)(d->low >> 40 & 0xf0ff);
}
static inline unsigned descriptor_dpl(const struct descriptor *d)
{
    return (unsigned)(d->low >> 45) & 3;
}
static inline bool descriptor_is_code(const struct descriptor *d)
{
    return (descriptor_attr(d) & (SEG_S | SEG_CODE)) == (SEG_S | SEG_CODE);
}
/* Code that runs with the privilege of its caller. */
static inline bool descriptor_is_conforming(const struct descriptor *d)
{
    return descriptor_is_code(d) && (descriptor_attr(d) & SEG_EXPAND_DOWN);
}
/* The type of a system descriptor, or 0 (which is reserved) for code and data. */
static inline unsigned descriptor_system_type(const struct descriptor *d)
{
    return descriptor_attr(d) & SEG_S ? 0 : descriptor_attr(d) & SEG_TYPE;
}
static inline bool segment_is_64bit_code(const struct cpu *cpu, const struct segment *cs)
{
    return (cpu->efer & EFER_LMA) && (cs->attr & SEG_L);
}

/* Gates: where they lead to. The upper half of `high` counts for 64-bit gates only. */
static inline uint16_t gate_selector(const struct descriptor *d)
{
    return (uint16_t)(d->low >> 16);
}
static inline uint64_t gate_offset(const struct descriptor *d)
{
    return (d->low & 0xffff) | (d->low >> 32 & 0xffff0000) | d->high << 32;
}

/* vector(selector without RPL, with EXT) */
bool segment_fault(struct cpu *cpu, enum vector vector, uint16_t sel, unsigned ext);

/* Where the `size` bytes of the descriptor of `sel` are. False: outside its table. No fault. */
bool descriptor_find(const struct cpu *cpu, uint16_t sel, unsigned size, gva_t *address) MUST_USE;
/* Reads 8 bytes, or 16 if `wide`. False: page fault. */
bool descriptor_fetch(struct cpu *cpu, gva_t address, bool wide, struct descriptor *d) MUST_USE;
/* Finds and reads; outside the table: vector(sel). A system descriptor in long mode is read whole,
 * and the type field of its second half must be 0. */
bool descriptor_read(struct cpu *cpu, uint16_t sel, enum vector vector, unsigned ext,
                     struct descriptor *d) MUST_USE;
/* Changes the type in memory: sets and clears bits of SEG_TYPE; also in *d. */
bool descriptor_retype(struct cpu *cpu, struct descriptor *d, unsigned set,
                       unsigned clear) MUST_USE;

/* The register that the descriptor describes. */
struct segment segment_from(const struct descriptor *d, uint16_t sel);
struct segment segment_null(uint16_t sel);
/* A segment of virtual-8086 mode. */
struct segment segment_vm86(uint16_t sel);

/* DS, ES, FS, GS for a program at `cpl`; a null selector gives a null segment. */
bool segment_check_data(struct cpu *cpu, uint16_t sel, unsigned cpl, enum vector vector,
                        struct segment *out) MUST_USE;
/* SS for a program at `cpl`; a null selector is refused. */
bool segment_check_stack(struct cpu *cpu, uint16_t sel, unsigned cpl, enum vector vector,
                         unsigned ext, struct segment *out) MUST_USE;
/* LDTR; a null selector gives a null segment. */
bool segment_check_ldt(struct cpu *cpu, uint16_t sel, enum vector vector,
                       struct segment *out) MUST_USE;
/* Sets the accessed bit of the code segment `d` and gives CS with RPL `cpl`. */
bool segment_take_code(struct cpu *cpu, struct descriptor *d, uint16_t sel, unsigned cpl,
                       struct segment *out) MUST_USE;

/* May execution go on at cs:rip? #GP(ext) beyond the limit, or if not canonical. */
bool segment_check_rip(struct cpu *cpu, const struct segment *cs, uint64_t rip,
                       unsigned ext) MUST_USE;

/* MOV, POP and LxS to ES, SS, DS, FS, GS in the current mode. */
bool segment_load(struct cpu *cpu, enum seg seg, uint16_t sel) MUST_USE;
/* Any segment register in real and virtual-8086 mode. Needs a cpu_update_mode() after it. */
void segment_load_real(struct cpu *cpu, enum seg seg, uint16_t sel);
/* After a return to an outer level: data segments that `cpl` may not use become null. */
void segment_drop_inner(struct cpu *cpu, unsigned cpl);

#endif
