/* types.h - the integer and address types that every other module uses.
 *
 * Addresses of different kinds are different words in the source, because mixing them up is the
 * classic bug of a monitor: a guest-virtual address is an offset in a segment (plain uint64_t), a
 * guest-linear address (gva_t) is what paging translates, a guest-physical address (gpa_t) is what
 * the memory map translates, and a host address is a C pointer. */
#ifndef DOBLE_BASE_TYPES_H
#define DOBLE_BASE_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint64_t gva_t; /* guest-linear address (after segmentation, before paging) */
typedef uint64_t gpa_t; /* guest-physical address */

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define MUST_USE __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))

#define KIB (UINT64_C(1) << 10)
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

#define PAGE_SHIFT 12
#define PAGE_SIZE (UINT64_C(1) << PAGE_SHIFT)
#define PAGE_MASK (~(PAGE_SIZE - 1))

#endif
