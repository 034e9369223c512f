/* access.h - how helpers reach guest memory by virtual and by linear address.
 *
 * Every function checks everything first and then moves bytes: on false an exception is recorded
 * and nothing was changed. Accesses may cross pages and hit MMIO. They are made with the current
 * CPL unless ACCESS_SYSTEM says that the processor itself reaches for a system structure
 * (descriptor tables, TSS, IDT: supervisor rights whatever the CPL). */
#ifndef DOBLE_CPU_ACCESS_H
#define DOBLE_CPU_ACCESS_H

#include "cpu/cpu.h"

enum access {
    ACCESS_READ = 0,
    ACCESS_WRITE = 1,
    ACCESS_FETCH = 2,
    ACCESS_SYSTEM = 4,             /* implicit supervisor access */
    ACCESS_ANY_ALIGNMENT = 16,     /* an access that never gives #AC */
    ACCESS_RMW = 8 | ACCESS_WRITE, /* will read, then write: page faults say W */
};

/* --- linear addresses --- */
bool lin_read(struct cpu *cpu, gva_t gva, void *buf, unsigned len, unsigned access) MUST_USE;
bool lin_write(struct cpu *cpu, gva_t gva, const void *buf, unsigned len, unsigned access) MUST_USE;
/* Checks that [gva, gva+len) can be accessed (raises the fault that the access would), len <= 4096.
 */
bool lin_probe(struct cpu *cpu, gva_t gva, unsigned len, unsigned access) MUST_USE;

/* --- virtual addresses: segment + effective address --- */

/* Segment checks (limit, type, null, canonical); gives the linear address. Raises #GP(0)/#SS(0).
 * In 64-bit mode only FS and GS have bases. The effective address was truncated by the caller. */
bool seg_to_linear(struct cpu *cpu, enum seg seg, uint64_t ea, unsigned len, unsigned access,
                   gva_t *gva) MUST_USE;
bool virt_read(struct cpu *cpu, enum seg seg, uint64_t ea, void *buf, unsigned len) MUST_USE;
bool virt_write(struct cpu *cpu, enum seg seg, uint64_t ea, const void *buf, unsigned len) MUST_USE;

/* Little-endian integers of 1, 2, 4 or 8 bytes, zero-extended. */
bool virt_read_int(struct cpu *cpu, enum seg seg, uint64_t ea, unsigned size, uint64_t *v) MUST_USE;
bool virt_write_int(struct cpu *cpu, enum seg seg, uint64_t ea, unsigned size, uint64_t v) MUST_USE;

/* A host pointer to guest memory for a read-modify-write in place (atomics): true with *host set to
 * RAM when the span lies in one RAM page that may be written right now; *host = NULL when the
 * access is allowed but has to be done as a read and a write (MMIO, crossing pages, page with
 * code). False: fault. */
bool virt_rmw(struct cpu *cpu, enum seg seg, uint64_t ea, unsigned len, void **host) MUST_USE;

/* Would an access of `len` bytes at gva give #AC? */
bool lin_misaligned(const struct cpu *cpu, gva_t gva, unsigned len);

/* A host pointer to as many bytes as the page holds from a linear address on, for string
 * instructions: *host = NULL if it isn't plain RAM. *len: bytes to the end of the page. */
bool lin_span(struct cpu *cpu, gva_t gva, unsigned access, void **host, unsigned *len) MUST_USE;

/* --- stack, by the current stack width; `size` is 2, 4 or 8. The pointer moves only on success. */
bool stack_push(struct cpu *cpu, uint64_t v, unsigned size) MUST_USE;
bool stack_pop(struct cpu *cpu, uint64_t *v, unsigned size) MUST_USE;
/* The mask of the stack pointer: all ones, 32 or 16 bits. */
uint64_t stack_mask(const struct cpu *cpu);
/* RSP within the stack's width: bits outside the mask are kept as they are (16-bit), or cleared
 * (32-bit). */
void stack_set_pointer(struct cpu *cpu, uint64_t v);

#endif
