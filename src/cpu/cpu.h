/* cpu.h - the state of one virtual x86-64 processor, and what its parts tell each other.
 *
 * Every engine works on this struct; its architectural fields are complete whenever cpu_run() of an
 * engine has returned. The vCPU thread owns it; other threads only use the functions that say so.
 * Names are those of the Intel SDM, vol. 1 ch. 3 and vol. 3 ch. 2.
 *
 * How an instruction that needs C code is executed ("helper"): the engine sets cpu->rip to the next
 * instruction, and calls `bool helper(struct cpu *, const struct insn *)`. The helper does all
 * checks before it changes anything. True: the instruction is complete (the helper may have changed
 * rip: a branch). False: it raised an exception with cpu_raise_*() and changed nothing; the engine
 * puts rip back on the instruction and delivers the exception. */
#ifndef DOBLE_CPU_CPU_H
#define DOBLE_CPU_CPU_H

#include "base/types.h"
#include "bus/bus.h"
#include "bus/clock.h"
#include "mem/memory.h"

#include <stdatomic.h>

enum gpr {
    RAX,
    RCX,
    RDX,
    RBX,
    RSP,
    RBP,
    RSI,
    RDI,
    R8,
    R9,
    R10,
    R11,
    R12,
    R13,
    R14,
    R15,
    REG_NONE, /* reads as zero: an absent base or index */
    REG_IP,
    GPR_COUNT
};

/* In the order of the sreg field of ModRM. */
enum seg { ES, CS, SS, DS, FS, GS, SEG_COUNT };

/* RFLAGS */
#define FLAG_CF (1u << 0)
#define FLAG_FIXED (1u << 1) /* always 1 */
#define FLAG_PF (1u << 2)
#define FLAG_AF (1u << 4)
#define FLAG_ZF (1u << 6)
#define FLAG_SF (1u << 7)
#define FLAG_TF (1u << 8)
#define FLAG_IF (1u << 9)
#define FLAG_DF (1u << 10)
#define FLAG_OF (1u << 11)
#define FLAG_IOPL (3u << 12)
#define FLAG_NT (1u << 14)
#define FLAG_RF (1u << 16)
#define FLAG_VM (1u << 17)
#define FLAG_AC (1u << 18)
#define FLAG_VIF (1u << 19)
#define FLAG_VIP (1u << 20)
#define FLAG_ID (1u << 21)
#define FLAGS_STATUS (FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF)
#define FLAGS_ALL                                                                                  \
    (FLAGS_STATUS | FLAG_TF | FLAG_IF | FLAG_DF | FLAG_IOPL | FLAG_NT | FLAG_RF | FLAG_VM |        \
     FLAG_AC | FLAG_VIF | FLAG_VIP | FLAG_ID)

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
#define CR4_MCE (1u << 6)
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
#define EFER_FFXSR (1u << 14)

#define XCR0_X87 (1u << 0)
#define XCR0_SSE (1u << 1)
#define XCR0_AVX (1u << 2)

/* Exception vectors (SDM vol. 3, 6.3.1). */
enum vector {
    EXC_DE,
    EXC_DB,
    EXC_NMI,
    EXC_BP,
    EXC_OF,
    EXC_BR,
    EXC_UD,
    EXC_NM,
    EXC_DF,
    EXC_TS = 10,
    EXC_NP,
    EXC_SS,
    EXC_GP,
    EXC_PF,
    EXC_MF = 16,
    EXC_AC,
    EXC_MC,
    EXC_XM
};

/* A segment register or a system segment with its hidden part. `attr` is bits 40..55 of the
 * descriptor: type 3:0, S 4, DPL 6:5, P 7, AVL 12, L 13, D/B 14, G 15 (11:8 zero). `limit` is in
 * bytes (the granularity is already applied). A null segment has P = 0. */
struct segment {
    uint64_t base;
    uint32_t limit;
    uint16_t sel;
    uint16_t attr;
};
#define SEG_TYPE 0x000fu
#define SEG_ACCESSED 0x0001u
#define SEG_WRITABLE 0x0002u    /* data; for code: readable */
#define SEG_EXPAND_DOWN 0x0004u /* data; for code: conforming */
#define SEG_CODE 0x0008u
#define SEG_S 0x0010u
#define SEG_DPL_SHIFT 5
#define SEG_DPL 0x0060u
#define SEG_P 0x0080u
#define SEG_AVL 0x1000u
#define SEG_L 0x2000u
#define SEG_DB 0x4000u
#define SEG_G 0x8000u

struct desc_table {
    uint64_t base;
    uint16_t limit;
};

union vec { /* a vector register: XMM is the low half of YMM */
    uint8_t b[32];
    uint16_t w[16];
    uint32_t d[8];
    uint64_t q[4];
} __attribute__((aligned(32)));

/* What a run of cpu_mode tells an engine about decoding and address checks. Derived: recomputed by
 * cpu_update_mode() whenever CR0, CR4, EFER, RFLAGS.VM, CS, SS or CPL change. */
enum cpu_mode_bits {
    MODE_CODE16 = 0, /* bits 1:0: default operand and address size of code */
    MODE_CODE32 = 1,
    MODE_CODE64 = 2,
    MODE_CODE_MASK = 3,
    MODE_SS32 = 1 << 2,      /* stack pointer of 32 bits (else 16); clear in CODE64 */
    MODE_LONG = 1 << 3,      /* EFER.LMA: long mode (64-bit or compatibility) */
    MODE_PROTECTED = 1 << 4, /* CR0.PE and not VM86 */
    MODE_VM86 = 1 << 5,
    MODE_USER = 1 << 6, /* CPL 3 */
    MODE_FLAT = 1 << 7, /* CS, DS, ES, SS: base 0, limit 4 GiB, readable and writable (or CODE64) */
    MODE_NO_FPU = 1 << 8,   /* CR0.EM or CR0.TS: x87 gives #NM */
    MODE_NO_SSE = 1 << 9,   /* CR0.EM or !CR4.OSFXSR: #UD */
    MODE_SSE_NM = 1 << 10,  /* CR0.TS: SSE, MMX and AVX give #NM */
    MODE_AVX = 1 << 11,     /* CR4.OSXSAVE and XCR0 says SSE|AVX, and protected mode */
    MODE_FPU_EM = 1 << 12,  /* CR0.EM: MMX gives #UD */
    MODE_WAIT_NM = 1 << 13, /* CR0.MP and CR0.TS: WAIT gives #NM */
    MODE_CPL0 = 1 << 14,
    MODE_TSC = 1 << 15, /* RDTSC is allowed */
};

/* Events that make the vCPU leave its stride; bits of cpu->attention, set from any thread. */
enum cpu_attention {
    ATTN_INTR = 1 << 0, /* the interrupt controller has a deliverable interrupt (level) */
    ATTN_NMI = 1 << 1,
    ATTN_SMI = 1 << 2,
    ATTN_INIT = 1 << 3,
    ATTN_STOP = 1 << 4,   /* return from cpu_run() with EXIT_STOPPED */
    ATTN_TIMER = 1 << 5,  /* virtual time: timers changed, look at the next deadline */
    ATTN_CODE = 1 << 6,   /* code was changed: leave the current block */
    ATTN_SHADOW = 1 << 7, /* an interrupt shadow, TF or debug state must be looked at */
    ATTN_DEBUG = 1 << 8,  /* a debugger has breakpoints, steps or stops: see debug.h */
};

enum cpu_activity { CPU_ACTIVE, CPU_HALTED, CPU_WAIT_SIPI, CPU_SHUTDOWN };

/* The exception that a helper raised. */
struct exception {
    uint8_t vector;
    bool pending;
    bool has_error;
    uint32_t error;
    uint64_t cr2; /* #PF only */
    uint64_t dr6; /* #DB only: bits to set in DR6 */
};

/* A local APIC's registers as its page in memory shows them: register n is at offset 16 n. */
struct cpu_apic_page {
    uint64_t base;         /* IA32_APIC_BASE */
    uint64_t tsc_deadline; /* IA32_TSC_DEADLINE */
    uint32_t regs[64];
};

/* Takes a message for local APICs, in the form of an MSI. */
typedef void cpu_apic_deliver_fn(void *opaque, uint64_t address, uint32_t data);

/* How the CPU reaches its local APIC; filled in by the board. Called with the bus lock held. */
struct cpu_apic {
    void *opaque;
    int (*acknowledge)(void *opaque); /* vector of the interrupt taken; -1: none after all */
    uint8_t (*get_tpr)(void *opaque); /* CR8: TPR[7:4] */
    void (*set_tpr)(void *opaque, uint8_t cr8);
    /* MSRs 1Bh, 6E0h and 800h-8FFh; false: #GP(0) */
    bool (*rdmsr)(void *opaque, uint32_t msr, uint64_t *value);
    bool (*wrmsr)(void *opaque, uint32_t msr, uint64_t value);
    /* memory-mapped registers at APIC_BASE */
    uint32_t (*mmio_read)(void *opaque, uint32_t offset);
    void (*mmio_write)(void *opaque, uint32_t offset, uint32_t value);
    /* physical page of the registers; UINT64_MAX when disabled or in x2APIC mode */
    gpa_t (*base)(void *opaque);
    void (*tsc_changed)(void *opaque); /* cpu->tsc_offset was changed */

    /* For an engine whose processor has a local APIC of its own. From borrow() until give_back()
     * that one is in force: messages go to `deliver`, the timer stands still here, ATTN_INTR is
     * the level of LINT0, and acknowledge() asks the PIC. */
    void (*borrow)(void *opaque, struct cpu_apic_page *page, cpu_apic_deliver_fn *deliver,
                   void *deliver_opaque);
    void (*give_back)(void *opaque, const struct cpu_apic_page *page);
    /* The borrower's guest ended a level-triggered interrupt. */
    void (*end_of_interrupt)(void *opaque, uint8_t vector);
};

struct cpu_stats {
    uint64_t exceptions[32];
    uint64_t interrupts[256]; /* hardware interrupts by vector */
    uint64_t soft_interrupts;
    uint64_t pio, mmio, helpers, blocks_decoded, insns_decoded, tlb_fills, tlb_flushes, halts;
    struct translate_stats {
        uint64_t blocks, insns, guest_bytes, host_bytes; /* made; of code */
        uint64_t cycles, timed_insns; /* of the host's TSC, making so many of the instructions */
        uint64_t evictions, blocks_evicted;
        uint64_t jump_misses;                      /* jumps whose target no jump cache knew */
        uint64_t code_used, meta_used, cache_size; /* bytes, when the engine was left last */
    } translate;
};

#define NATIVE_GROUPS 24 /* of memory operands, in a block */

/* What emitted code reaches besides the registers, relative to the vCPU (GS base). */
struct cpu_native {
    struct cpu *self;
    struct tlb_entry *table; /* the TLB's table for explicit data accesses right now */
    struct tlb_entry *table_ac, *table_no_ac; /* ...at CPL 0 by RFLAGS.AC */
    uint64_t page_base;                       /* linear address of the page whose code runs */
    void *jumps;                              /* jump cache in force */
    uint64_t jump_key, negated_key;           /* what RIPs are found with in it */
    uint64_t index_mask, page_mask, jump_mask, if_mask; /* operands for PEXT */
    uint64_t ac_mask, status_mask, image_mask, bit_mask32, bit_mask64;
    uint64_t segment_ones, segment_zeros; /* of limit, selector and attributes of a flat segment */
    /* The page of the stack that is kept: RSP lives in host RSP with `stack_addend` added, and
     * bytes at x there are in the page when PEXT(x + window_base, window_mask) is 0: it is the
     * negated host address of the page, and the mask is page_mask; or all ones, when no page is
     * kept. */
    uint64_t window_base, window_mask;
    uint64_t stack_addend, negated_addend;
    uint64_t group[NATIVE_GROUPS]; /* what makes host addresses of the operands of each group in a
                                      block */
    bool forgotten; /* something that translated code may have checked was changed since */
    /* Polls read a word here; cpu_signal() makes it an address that faults. */
    _Atomic uintptr_t poll;
    uint64_t monitor_rsp;
    /* While instructions are counted: those that may be executed until icount is count_end, minus
     * those of the block that runs. */
    uint64_t budget, count_end;
    uint64_t sign_mask;
    uint64_t tsc_offset; /* guest's TSC - host's */
    uint64_t target;     /* where the code goes on: host address, or RIP of a call */
    void *link;          /* exit that can be linked, or NULL */
    uint64_t link_rip;   /* where it leads */
    bool resumed;        /* the interpreted instruction came to its end in the block */
};

struct cpu_model;     /* cpuid.h */
struct engine_config; /* engine/engine.h */
struct tlb;           /* tlb.h */
struct decode_cache;  /* decode_cache.h */
struct cpu_debug;     /* debug.h */

struct cpu {
    /* --- registers --- */
    union {
        uint64_t gpr[GPR_COUNT];
        struct {
            uint64_t gpr_named[16];
            uint64_t reg_none; /* always 0 */
            uint64_t rip;
        };
    };
    /* The six status flags live in the form that LAHF and SETO give: AH in bits 15:8 (SF ZF 0 AF 0
     * PF 1 CF), OF in bit 0. All other flags are in `rflags`, whose status bits are not valid.
     * cpu_get_rflags() and cpu_set_rflags() put both together. */
    uint16_t status;
    uint64_t rflags;
    uint32_t mode; /* enum cpu_mode_bits */
    uint8_t cpl;
    struct cpu_native native;
    struct segment seg[SEG_COUNT];
    struct segment ldtr, tr;
    struct desc_table gdtr, idtr;
    uint64_t cr0, cr2, cr3, cr4;
    uint64_t dr[8]; /* 4 and 5 unused */
    uint64_t xcr0, xss;

    /* --- x87, SSE, AVX --- */
    union vec ymm[16];
    uint32_t mxcsr;
    uint32_t host_mxcsr; /* what C code runs with; not state */
    /* x87 and MMX state as FXSAVE64 stores it (only its first 160 bytes count; FIP, FDP, FOP, MXCSR
     * and XMM in it are not valid). While x87_live it is in the host's FPU instead, and
     * cpu_x87_sync() brings it here. */
    uint8_t fx[512] __attribute__((aligned(16)));
    bool x87_live;
    uint64_t x87_fip, x87_fdp; /* guest addresses of the last x87 instruction and operand */
    uint16_t x87_fcs, x87_fds, x87_fop;

    /* --- model-specific registers --- */
    uint64_t efer, star, lstar, cstar, fmask, kernel_gs_base;
    uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
    uint64_t tsc_aux, tsc_adjust, tsc_offset; /* guest TSC = clock_tsc() + tsc_offset */
    uint64_t pat, misc_enable, spec_ctrl, debugctl, mcg_status;
    uint64_t mtrr_def_type, mtrr_fixed[11], mtrr_base[8], mtrr_mask[8];
    uint64_t smbase;
    uint64_t hwcr;      /* AMD: C001_0015h */
    uint64_t rng_state; /* virtual time: what RDRAND and RDSEED go on from */

    /* --- between instructions --- */
    struct exception exc;
    bool interrupt_shadow; /* STI or MOV/POP SS: no interrupt before the next instruction */
    bool shadow_ss;        /* ...and by MOV/POP SS: no #DB either */
    bool nmi_blocked;
    uint64_t pending_db; /* DR6 bits of data and I/O breakpoints hit by the running instruction */
    uint32_t activity;   /* enum cpu_activity */
    bool in_smm;
    uint64_t pdpte[4];     /* PAE paging: loaded with CR3 */
    uint64_t monitor_gpa;  /* MONITOR's address, or UINT64_MAX */
    uint32_t saved_events; /* NMI, SMI and INIT of `attention`, while the state is saved */

    /* --- how it is connected; not state --- */
    _Atomic uint32_t attention;
    struct memory *mem;
    struct bus *bus;
    struct clock *clock;
    struct cpu_apic apic;
    const struct cpu_model *model;
    struct tlb *tlb;
    struct cpu_debug *debug;                   /* debug.h; NULL: no debugger */
    struct decode_cache *decode_cache;         /* NULL: none */
    void *engine;                              /* the engine's own data for this vCPU */
    const struct engine_config *engine_config; /* for the engine's init(); NULL: defaults */
    /* an instruction that only ends when an interrupt is pending waits here (HLT) */
    void (*wake)(void *opaque); /* called by cpu_signal(), any thread */
    void *wake_opaque;
    unsigned index; /* number of the vCPU, also its initial APIC ID */
    struct cpu_stats stats;

    /* Instructions executed. The engine brings it up to date before a helper or device can see it.
     */
    uint64_t icount;
    bool icount_partial; /* an engine ran that doesn't count all of them; not state */
    uint64_t idle_ns; /* virtual time: nanoseconds skipped while halted; time = icount + idle_ns */
    uint64_t icount_limit; /* virtual time: run() returns EXIT_DEADLINE here; else UINT64_MAX */
};

/* --- state.c --- */

/* Allocates (aligned, zeroed) and connects a CPU; then cpu_reset(). NULL when out of memory. */
struct cpu *cpu_new(struct memory *mem, struct bus *bus, struct clock *clock,
                    const struct cpu_model *model, unsigned index);
void cpu_free(struct cpu *cpu);

/* Power-on or INIT state (SDM vol. 3, table 10-1). `init` keeps what INIT keeps. */
void cpu_reset(struct cpu *cpu, bool init);

/* Recomputes cpu->mode; call after any change of what it follows from. */
void cpu_update_mode(struct cpu *cpu);

/* Writes that keep everything derived in step (mode, TLB, PDPTEs). The values must have been
 * checked. */
void cpu_set_cpl(struct cpu *cpu, unsigned cpl);

/* Fields for save and restore. */
struct state_desc;
extern const struct state_desc cpu_state_desc;

/* A readable dump of the registers. */
#include <stdio.h>
void cpu_dump(struct cpu *cpu, FILE *out);

/* --- flags --- */

static inline uint32_t cpu_status_flags(const struct cpu *cpu)
{
    return ((cpu->status >> 8) & (FLAGS_STATUS & 0xffu)) | (uint32_t)(cpu->status & 1) << 11;
}
static inline void cpu_set_status_flags(struct cpu *cpu, uint64_t rflags)
{
    cpu->status = (uint16_t)((rflags & (FLAGS_STATUS & 0xffu)) << 8 | 0x200 | (rflags >> 11 & 1));
}
static inline uint64_t cpu_get_rflags(const struct cpu *cpu)
{
    return (cpu->rflags & ~(uint64_t)FLAGS_STATUS) | cpu_status_flags(cpu) | 2;
}
/* Sets all flags to `rflags`, including VM; updates the mode, and has TF and IF looked at. */
void cpu_set_rflags(struct cpu *cpu, uint64_t rflags);

/* --- x87 --- */

void cpu_x87_load(struct cpu *cpu); /* make it live in the host's FPU */
void cpu_x87_sync(struct cpu *cpu); /* bring it back to cpu->fx; not live any more */

/* --- events, from any thread --- */

#define POLL_TRAP (UINT64_C(1) << 63) /* no canonical address: to read it raises #GP */

static inline void cpu_signal(struct cpu *cpu, uint32_t bits)
{
    atomic_fetch_or(&cpu->attention, bits);
    atomic_store(&cpu->native.poll, POLL_TRAP);
    if (cpu->wake)
        cpu->wake(cpu->wake_opaque);
}
static inline void cpu_unsignal(struct cpu *cpu, uint32_t bits)
{
    atomic_fetch_and(&cpu->attention, ~bits);
}

/* --- raising exceptions: record it and return false --- */

bool cpu_raise(struct cpu *cpu, enum vector vector);                       /* no error code */
bool cpu_raise_error(struct cpu *cpu, enum vector vector, uint32_t error); /* with error code */
bool cpu_raise_pf(struct cpu *cpu, gva_t address, uint32_t error);
bool cpu_raise_db(struct cpu *cpu, uint64_t dr6_bits);
static inline bool cpu_raise_ud(struct cpu *cpu)
{
    return cpu_raise(cpu, EXC_UD);
}
static inline bool cpu_raise_gp(struct cpu *cpu, uint32_t error)
{
    return cpu_raise_error(cpu, EXC_GP, error);
}

/* Virtual time: lets devices see the time of the running instruction. */
static inline void cpu_publish_time(struct cpu *cpu)
{
    if (cpu->clock->mode == CLOCK_VIRTUAL)
        atomic_store_explicit(&cpu->clock->virtual_ns, cpu->icount + cpu->idle_ns,
                              memory_order_relaxed);
}

/* --- small questions --- */

static inline bool cpu_is_64bit(const struct cpu *cpu)
{
    return (cpu->mode & MODE_CODE_MASK) == MODE_CODE64;
}
static inline unsigned cpu_iopl(const struct cpu *cpu)
{
    return (unsigned)(cpu->rflags >> 12) & 3;
}
static inline bool cpu_canonical(const struct cpu *cpu, gva_t a)
{
    unsigned shift = cpu->cr4 & CR4_LA57 ? 7 : 16;

    return (gva_t)((int64_t)(a << shift) >> shift) == a;
}
static inline uint64_t cpu_read_tsc(const struct cpu *cpu)
{
    return clock_tsc(cpu->clock) + cpu->tsc_offset;
}

#endif
