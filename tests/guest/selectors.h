/* selectors.h - the global descriptor table of the test guests; for C and assembly.
 *
 * The order of the user segments is the one SYSRET needs. What is "16" has base 0 and a limit of
 * 64 KiB, so that 16-bit code runs at the same offsets in real, protected and virtual-8086 mode. */
#ifndef GUEST_SELECTORS_H
#define GUEST_SELECTORS_H

#define KCS32 0x08
#define KCS64 0x10
#define KDS 0x18
#define KCS16 0x20
#define KDS16 0x28
#define UCS32 0x33
#define UDS 0x3b
#define UCS64 0x43
#define UCS16 0x4b
#define UDS16 0x53
#define CONFORMING 0x58 /* DPL 0, code of the guest's own size */
#define CS1 0x61        /* code and data of the levels 1 and 2 */
#define DS1 0x69
#define CS2 0x72
#define DS2 0x7a
#define TSS 0x80     /* 16 bytes in the 64-bit guest */
#define LDT 0x90     /* the same */
#define SCRATCH 0xa0 /* for single tests, to 0x1f8 */
#define GDT_ENTRIES 64

#define BOOT_CS 0x10 /* of the small table that boot.S starts with */
#define BOOT_DS 0x18

/* Where code for real mode lives: copied there at the start. */
#define LOW_CODE 0x8000
#define LOW_STACK 0xf000

#ifdef __x86_64__
#define KCS KCS64
#define UCS UCS64
#else
#define KCS KCS32
#define UCS UCS32
#endif

#endif
