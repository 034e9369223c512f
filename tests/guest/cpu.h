/* cpu.h - instructions for C, the numbers that go with them, and the processor's tables. */
#ifndef GUEST_CPU_H
#define GUEST_CPU_H

#include "guest.h"

enum vector { DE, DB, NMI, BP, OF, BR, UD, NM, DF, TS = 10, NP, SS, GP, PF, MF = 16, AC, MC, XM };

#define CF (1u << 0)
#define PF_ (1u << 2)
#define ZF (1u << 6)
#define TF (1u << 8)
#define IF (1u << 9)
#define DIRF (1u << 10)
#define OVF (1u << 11)
#define IOPL (3u << 12)
#define NT (1u << 14)
#define RF (1u << 16)
#define VM (1u << 17)
#define ACF (1u << 18)
#define VIF (1u << 19)
#define VIP (1u << 20)
#define IDF (1u << 21)
#define FLAGS_FIXED 2u

#define CR0_PE (1u << 0)
#define CR0_MP (1u << 1)
#define CR0_EM (1u << 2)
#define CR0_TS (1u << 3)
#define CR0_ET (1u << 4)
#define CR0_NE (1u << 5)
#define CR0_WP (1u << 16)
#define CR0_AM (1u << 18)
#define CR0_NW (1u << 29)
#define CR0_CD (1u << 30)
#define CR0_PG (1u << 31)

#define CR4_VME (1u << 0)
#define CR4_PVI (1u << 1)
#define CR4_TSD (1u << 2)
#define CR4_DE (1u << 3)
#define CR4_PSE (1u << 4)
#define CR4_PAE (1u << 5)
#define CR4_PGE (1u << 7)
#define CR4_PCE (1u << 8)
#define CR4_OSFXSR (1u << 9)
#define CR4_OSXMMEXCPT (1u << 10)
#define CR4_UMIP (1u << 11)
#define CR4_LA57 (1u << 12)
#define CR4_FSGSBASE (1u << 16)
#define CR4_PCIDE (1u << 17)
#define CR4_OSXSAVE (1u << 18)
#define CR4_SMEP (1u << 20)
#define CR4_SMAP (1u << 21)

#define EFER_SCE (1u << 0)
#define EFER_LME (1u << 8)
#define EFER_LMA (1u << 10)
#define EFER_NXE (1u << 11)

#define MSR_TSC 0x10u
#define MSR_APIC_BASE 0x1bu
#define MSR_SYSENTER_CS 0x174u
#define MSR_SYSENTER_ESP 0x175u
#define MSR_SYSENTER_EIP 0x176u
#define MSR_PAT 0x277u
#define MSR_TSC_DEADLINE 0x6e0u
#define MSR_EFER 0xc0000080u
#define MSR_STAR 0xc0000081u
#define MSR_LSTAR 0xc0000082u
#define MSR_CSTAR 0xc0000083u
#define MSR_FMASK 0xc0000084u
#define MSR_FS_BASE 0xc0000100u
#define MSR_GS_BASE 0xc0000101u
#define MSR_KERNEL_GS_BASE 0xc0000102u
#define MSR_TSC_AUX 0xc0000103u

/* Error code of a selector or a vector in it. */
#define ERR_EXT 1u
#define ERR_IDT 2u
#define ERR_TI 4u
#define ERR_VECTOR(v) ((word)(v) << 3 | ERR_IDT)

/* --- instructions --- */

#define DEFINE_CR(n)                                                                               \
    static inline word read_cr##n(void)                                                            \
    {                                                                                              \
        word v;                                                                                    \
        __asm__ volatile("mov %%cr" #n ", %0" : "=r"(v));                                          \
        return v;                                                                                  \
    }                                                                                              \
    static inline void write_cr##n(word v)                                                         \
    {                                                                                              \
        __asm__ volatile("mov %0, %%cr" #n ::"r"(v) : "memory");                                   \
    }
DEFINE_CR(0)
DEFINE_CR(2)
DEFINE_CR(3)
DEFINE_CR(4)
#define DEFINE_DR(n)                                                                               \
    static inline word read_dr##n(void)                                                            \
    {                                                                                              \
        word v;                                                                                    \
        __asm__ volatile("mov %%dr" #n ", %0" : "=r"(v));                                          \
        return v;                                                                                  \
    }                                                                                              \
    static inline void write_dr##n(word v)                                                         \
    {                                                                                              \
        __asm__ volatile("mov %0, %%dr" #n ::"r"(v) : "memory");                                   \
    }
DEFINE_DR(0)
DEFINE_DR(1)
DEFINE_DR(6)
DEFINE_DR(7)

static inline uint64_t rdmsr(uint32_t msr)
{
    uint32_t low, high;

    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
    return (uint64_t)high << 32 | low;
}
static inline void wrmsr(uint32_t msr, uint64_t v)
{
    __asm__ volatile("wrmsr" ::"c"(msr), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)) : "memory");
}
static inline uint64_t rdtsc(void)
{
    uint32_t low, high;

    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high)::"memory");
    return (uint64_t)high << 32 | low;
}
static inline void invlpg(word linear)
{
    __asm__ volatile("invlpg (%0)" ::"r"(linear) : "memory");
}
static inline void outb(uint16_t port, uint8_t v)
{
    __asm__ volatile("outb %0, %1" ::"a"(v), "Nd"(port));
}
static inline void outl(uint16_t port, uint32_t v)
{
    __asm__ volatile("outl %0, %1" ::"a"(v), "Nd"(port));
}
static inline uint8_t inb(uint16_t port)
{
    uint8_t v;

    __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}

struct cpuid {
    uint32_t a, b, c, d;
};
static inline struct cpuid cpuid(uint32_t leaf, uint32_t subleaf)
{
    struct cpuid r;

    __asm__ volatile("cpuid"
                     : "=a"(r.a), "=b"(r.b), "=c"(r.c), "=d"(r.d)
                     : "a"(leaf), "c"(subleaf));
    return r;
}

/* --- what this processor is and has --- */

bool cpu_is_amd(void); /* or Hygon: follows the APM where the two differ */
bool has_leaf1_c(unsigned bit);
bool has_leaf1_d(unsigned bit);
bool has_leaf7_b(unsigned bit);
bool has_leaf7_c(unsigned bit);
bool has_ext1_d(unsigned bit);
unsigned physical_bits(void);

#define HAS_PCID has_leaf1_c(17)
#define HAS_X2APIC has_leaf1_c(21)
#define HAS_TSC_DEADLINE has_leaf1_c(24)
#define HAS_XSAVE has_leaf1_c(26)
#define HAS_MONITOR has_leaf1_c(3)
#define HAS_VME has_leaf1_d(1)
#define HAS_DE has_leaf1_d(2)
#define HAS_PGE has_leaf1_d(13)
#define HAS_SEP has_leaf1_d(11)
#define HAS_FSGSBASE has_leaf7_b(0)
#define HAS_SMEP has_leaf7_b(7)
#define HAS_INVPCID has_leaf7_b(10)
#define HAS_SMAP has_leaf7_b(20)
#define HAS_UMIP has_leaf7_c(2)
#define HAS_LA57 has_leaf7_c(16)
#define HAS_NX has_ext1_d(20)
#define HAS_LONG has_ext1_d(29)
#define HAS_RDTSCP has_ext1_d(27)
#define HAS_SYSCALL has_ext1_d(11)

/* --- tables --- */

/* Attributes: bits 40-55 of a descriptor (type 3:0, S 4, DPL 6:5, P 7, AVL 12, L 13, D/B 14, G 15).
 */
#define SEG_ACCESSED 0x0001u
#define SEG_DATA 0x0092u /* present, writable */
#define SEG_CODE 0x009au /* present, readable */
#define SEG_DPL(n) ((unsigned)(n) << 5)
#define SEG_PRESENT 0x0080u
#define SEG_LONG 0x2000u
#define SEG_BIG 0x4000u
#define SEG_PAGES 0x8000u
#define SYS_TSS16 0x81u
#define SYS_LDT 0x82u
#define SYS_TSS_BUSY 0x02u
#define SYS_CALL16 0x84u
#define SYS_TASK_GATE 0x85u
#define SYS_INT16 0x86u
#define SYS_TRAP16 0x87u
#define SYS_TSS32 0x89u /* 64-bit TSS in long mode; also for gates */
#define SYS_CALL32 0x8cu
#define SYS_INT32 0x8eu
#define SYS_TRAP32 0x8fu

extern uint64_t gdt[GDT_ENTRIES];
extern uint64_t ldt[16];
#if IS64
extern uint64_t idt[512];
#else
extern uint64_t idt[256];
#endif

struct tss32 {
    uint16_t link, r0;
    uint32_t sp0, ss0, sp1, ss1, sp2, ss2, cr3, ip, flags, ax, cx, dx, bx, sp, bp, si, di;
    uint32_t es, cs, ss, ds, fs, gs, ldt;
    uint16_t trap, io_map;
};
struct tss64 {
    uint32_t r0;
    uint64_t rsp[3], r1, ist[7], r2;
    uint16_t r3, io_map;
} __attribute__((packed));

/* The standard task, and its I/O permission bitmap: 64 KiB bits and a byte, all denied. */
#define IO_MAP_BYTES (8192 + 1)
struct task {
#if IS64
    struct tss64 tss;
#else
    struct tss32 tss;
#endif
    uint8_t io_map[IO_MAP_BYTES];
} __attribute__((packed));
extern struct task task;

uint64_t descriptor(uint32_t base, uint32_t limit, unsigned attr);
void set_descriptor(unsigned sel, uint64_t v); /* TI selects the LDT */
void set_system_descriptor(unsigned sel, word base, uint32_t limit, unsigned attr);
uint64_t get_descriptor(unsigned sel);
/* A call gate at `sel`, or the gate of `vector`. `extra` is IST or the parameter count. */
void set_call_gate(unsigned sel, unsigned code, const void *at, unsigned attr, unsigned extra);
void set_gate(unsigned vector, unsigned code, const void *at, unsigned attr, unsigned extra);
/* Where the standard gate of `vector` leads. */
const void *trap_stub(unsigned vector);

void load_gdt(word base, unsigned limit);
void load_idt(word base, unsigned limit);
void load_tr(unsigned sel);
void load_ldt(unsigned sel);

/* CR0, CR4, EFER, debug registers, GDT, LDT, IDT, TSS as every test finds them. */
void cpu_standard(void);

/* Ends of the stacks: for a change of privilege, IST 1 (all standard gates), IST 2. */
extern char trap_stack[], ist1_stack[], ist2_stack[], inner1_stack[], inner2_stack[];

#endif
