/* The tables of the processor (SDM vol. 3, ch. 3 and 6), and contexts that run on them. */
#include "cpu.h"

#define STACK_BYTES 4096

#define STACK(name)                                                                                \
    static char name##_bytes[STACK_BYTES] __attribute__((aligned(4096), used));                    \
    __asm__(".globl " #name "\n.set " #name ", " #name "_bytes + 4096")

STACK(kernel_stack);
STACK(user_stack);
STACK(trap_stack);
STACK(ist1_stack);
STACK(ist2_stack);
STACK(inner1_stack);
STACK(inner2_stack);

char scratch[8192] __attribute__((aligned(4096)));
struct trap trap;
struct task task __attribute__((aligned(128)));
uint64_t gdt[GDT_ENTRIES] __attribute__((aligned(8)));
uint64_t ldt[16] __attribute__((aligned(8)));
#if IS64
uint64_t idt[512] __attribute__((aligned(8)));
#else
uint64_t idt[256] __attribute__((aligned(8)));
#endif

/* --- what the processor is --- */

bool cpu_is_amd(void)
{
    struct cpuid r = cpuid(0, 0);

    return r.b == 0x68747541 || r.b == 0x6f677948;
}

bool has_leaf1_c(unsigned bit)
{
    return cpuid(1, 0).c >> bit & 1;
}

bool has_leaf1_d(unsigned bit)
{
    return cpuid(1, 0).d >> bit & 1;
}

bool has_leaf7_b(unsigned bit)
{
    return cpuid(0, 0).a >= 7 && (cpuid(7, 0).b >> bit & 1);
}

bool has_leaf7_c(unsigned bit)
{
    return cpuid(0, 0).a >= 7 && (cpuid(7, 0).c >> bit & 1);
}

bool has_ext1_d(unsigned bit)
{
    return cpuid(0x80000000, 0).a >= 0x80000001 && (cpuid(0x80000001, 0).d >> bit & 1);
}

unsigned physical_bits(void)
{
    return cpuid(0x80000000, 0).a >= 0x80000008 ? cpuid(0x80000008, 0).a & 0xff : 36;
}

/* --- descriptors --- */

uint64_t descriptor(uint32_t base, uint32_t limit, unsigned attr)
{
    return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)attr << 40 |
           (uint64_t)(limit >> 16 & 15) << 48 | (uint64_t)(base >> 24) << 56;
}

static uint64_t *entry_of(unsigned sel)
{
    return sel & 4 ? &ldt[sel >> 3] : &gdt[sel >> 3];
}

void set_descriptor(unsigned sel, uint64_t v)
{
    *(volatile uint64_t *)entry_of(sel) = v;
}

uint64_t get_descriptor(unsigned sel)
{
    return *(volatile uint64_t *)entry_of(sel);
}

void set_system_descriptor(unsigned sel, word base, uint32_t limit, unsigned attr)
{
    set_descriptor(sel, descriptor((uint32_t)base, limit, attr));
#if IS64
    set_descriptor(sel + 8, base >> 32);
#endif
}

static uint64_t gate(unsigned code, word at, unsigned attr, unsigned extra)
{
    return (at & 0xffff) | (uint64_t)code << 16 | (uint64_t)(extra & 0x1f) << 32 |
           (uint64_t)(attr & 0xff) << 40 | (uint64_t)(at >> 16 & 0xffff) << 48;
}

void set_call_gate(unsigned sel, unsigned code, const void *at, unsigned attr, unsigned extra)
{
    set_descriptor(sel, gate(code, (word)at, attr, extra));
#if IS64
    set_descriptor(sel + 8, (word)at >> 32);
#endif
}

void set_gate(unsigned vector, unsigned code, const void *at, unsigned attr, unsigned extra)
{
#if IS64
    idt[vector * 2] = gate(code, (word)at, attr, extra);
    idt[vector * 2 + 1] = (word)at >> 32;
#else
    idt[vector] = gate(code, (word)at, attr, extra);
#endif
}

extern const char trap_stubs[];

const void *trap_stub(unsigned vector)
{
    return trap_stubs + vector * 16;
}

struct table_pointer {
    uint16_t limit;
    word base;
} __attribute__((packed));

void load_gdt(word base, unsigned limit)
{
    struct table_pointer p = {(uint16_t)limit, base};

    __asm__ volatile("lgdt %0" ::"m"(p) : "memory");
}

void load_idt(word base, unsigned limit)
{
    struct table_pointer p = {(uint16_t)limit, base};

    __asm__ volatile("lidt %0" ::"m"(p) : "memory");
}

void load_tr(unsigned sel)
{
    __asm__ volatile("ltr %0" ::"r"((uint16_t)sel) : "memory");
}

void load_ldt(unsigned sel)
{
    __asm__ volatile("lldt %0" ::"r"((uint16_t)sel) : "memory");
}

static void build_gdt(void)
{
    const unsigned flat = SEG_BIG | SEG_PAGES;

    memset(gdt, 0, sizeof gdt);
    set_descriptor(KCS32, descriptor(0, 0xfffff, SEG_CODE | flat | SEG_ACCESSED));
    set_descriptor(KCS64, descriptor(0, 0xfffff, SEG_CODE | SEG_LONG | SEG_PAGES | SEG_ACCESSED));
    set_descriptor(KDS, descriptor(0, 0xfffff, SEG_DATA | flat | SEG_ACCESSED));
    set_descriptor(KCS16, descriptor(0, 0xffff, SEG_CODE));
    set_descriptor(KDS16, descriptor(0, 0xffff, SEG_DATA));
    set_descriptor(UCS32, descriptor(0, 0xfffff, SEG_CODE | SEG_DPL(3) | flat));
    set_descriptor(UDS, descriptor(0, 0xfffff, SEG_DATA | SEG_DPL(3) | flat));
    set_descriptor(UCS64, descriptor(0, 0xfffff, SEG_CODE | SEG_DPL(3) | SEG_LONG | SEG_PAGES));
    set_descriptor(UCS16, descriptor(0, 0xffff, SEG_CODE | SEG_DPL(3)));
    set_descriptor(UDS16, descriptor(0, 0xffff, SEG_DATA | SEG_DPL(3)));
    set_descriptor(CONFORMING,
                   descriptor(0, 0xfffff, SEG_CODE | 4 | (IS64 ? SEG_LONG | SEG_PAGES : flat)));
    set_descriptor(
        CS1, descriptor(0, 0xfffff, SEG_CODE | SEG_DPL(1) | (IS64 ? SEG_LONG | SEG_PAGES : flat)));
    set_descriptor(DS1, descriptor(0, 0xfffff, SEG_DATA | SEG_DPL(1) | flat));
    set_descriptor(
        CS2, descriptor(0, 0xfffff, SEG_CODE | SEG_DPL(2) | (IS64 ? SEG_LONG | SEG_PAGES : flat)));
    set_descriptor(DS2, descriptor(0, 0xfffff, SEG_DATA | SEG_DPL(2) | flat));
    set_system_descriptor(TSS, (word)&task, sizeof task - 1, SYS_TSS32);
    set_system_descriptor(LDT, (word)ldt, sizeof ldt - 1, SYS_LDT);
}

static void build_task(void)
{
    memset(&task, 0, sizeof task);
    memset(task.io_map, 0xff, sizeof task.io_map);
    task.tss.io_map = offsetof(struct task, io_map);
#if IS64
    task.tss.rsp[0] = (word)trap_stack;
    task.tss.rsp[1] = (word)inner1_stack;
    task.tss.rsp[2] = (word)inner2_stack;
    task.tss.ist[0] = (word)ist1_stack;
    task.tss.ist[1] = (word)ist2_stack;
#else
    task.tss.sp0 = (word)trap_stack;
    task.tss.ss0 = KDS;
    task.tss.sp1 = (word)inner1_stack;
    task.tss.ss1 = DS1;
    task.tss.sp2 = (word)inner2_stack;
    task.tss.ss2 = DS2;
#endif
}

/* In the 64-bit guest all handlers run on IST 1, so that a broken stack doesn't hide a fault. */
static void build_idt(void)
{
    for (unsigned v = 0; v < 256; v++)
        set_gate(v, KCS, trap_stub(v), SYS_INT32, IS64 ? 1 : 0);
    set_gate(BP, KCS, trap_stub(BP), SYS_INT32 | SEG_DPL(3), IS64 ? 1 : 0);
    set_gate(OF, KCS, trap_stub(OF), SYS_INT32 | SEG_DPL(3), IS64 ? 1 : 0);
    set_gate(END, KCS, trap_stub(END), SYS_INT32 | SEG_DPL(3), IS64 ? 1 : 0);
}

static void standard_registers(void)
{
#if IS64
    extern char boot_pml4[];

    write_cr3((word)boot_pml4);
    write_cr0(CR0_PE | CR0_ET | CR0_NE | CR0_MP | CR0_WP | CR0_PG);
    write_cr4(CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT);
    wrmsr(MSR_EFER, EFER_SCE | EFER_LME | EFER_LMA | (HAS_NX ? EFER_NXE : 0));
#else
    write_cr0(CR0_PE | CR0_ET | CR0_NE | CR0_MP | CR0_WP);
    write_cr4(0);
#endif
    write_dr7(0x400);
    write_dr6(0xffff0ff0);
    __asm__ volatile("fninit");
}

void cpu_standard(void)
{
    standard_registers();
    build_gdt();
    build_task();
    build_idt();
    memset(ldt, 0, sizeof ldt);
    load_gdt((word)gdt, sizeof gdt - 1);
    load_idt((word)idt, sizeof idt - 1);
    load_ldt(LDT);
    load_tr(TSS);
}

/* --- contexts --- */

static const struct {
    uint16_t cs, ds;
    bool user, low;
} kinds[] = {
    [KERNEL] = {KCS, KDS, false, false},
    [USER] = {UCS, UDS, true, false},
    [KERNEL16] = {KCS16, KDS16, false, true},
    [USER16] = {UCS16, UDS16, true, true},
    [KERNEL32] = {KCS32, KDS, false, false},
    [USER32] = {UCS32, UDS, true, false},
    [VM86] = {0, 0, true, true},
};

struct regs context(enum context kind, const void *code)
{
    struct regs r = {.flags = FLAGS_FIXED};

    r.cs = kinds[kind].cs;
    r.ss = r.ds = r.es = r.fs = r.gs = kinds[kind].ds;
    r.ip = (word)code;
    r.sp = LOW_STACK;
    if (!kinds[kind].low)
        r.sp = kinds[kind].user ? (word)user_stack : (word)kernel_stack;
    if (kinds[kind].user && !kinds[kind].low) {
        r.ip = USER_PTR(r.ip);
        r.sp = USER_PTR(r.sp);
    }
    if (kind == VM86)
        r.flags |= VM;
    return r;
}

const struct trap *run(const struct regs *r)
{
    memset(&trap, 0, sizeof trap);
    enter(r);
    return &trap;
}

const struct trap *run_in(enum context kind, const void *code)
{
    struct regs r = context(kind, code);

    return run(&r);
}

/* --- what the stubs bring --- */

struct frame {
#if IS64
    word cx, dx, bx, bp, si, di, r8, r9, r10, r11, r12, r13, r14, r15, ds, es, fs, gs, ax;
#else
    word cx, dx, bx, bp, si, di, ss_now, ds, es, fs, gs, ax;
#endif
    word vector, error, ip, cs, flags, sp, ss;
    word vm_es, vm_ds, vm_fs, vm_gs;
};

void trap_save(const struct frame *f);
_Noreturn void trap_leave(void);

static void save_segments(struct regs *r, const struct frame *f)
{
    r->ip = f->ip;
    r->cs = f->cs & 0xffff;
    r->flags = f->flags;
    r->sp = f->sp;
    r->ss = f->ss & 0xffff;
    r->ds = f->ds & 0xffff;
    r->es = f->es & 0xffff;
    r->fs = f->fs & 0xffff;
    r->gs = f->gs & 0xffff;
#if !IS64
    if (f->flags & VM) {
        r->es = f->vm_es & 0xffff;
        r->ds = f->vm_ds & 0xffff;
        r->fs = f->vm_fs & 0xffff;
        r->gs = f->vm_gs & 0xffff;
    } else if (!(f->cs & 3)) { /* no stack switch */
        r->sp = (word)&f->sp;
        r->ss = f->ss_now & 0xffff;
    }
#endif
}

void trap_save(const struct frame *f)
{
    struct regs *r = &trap.regs;

    trap.vector = f->vector;
    trap.error = f->error;
    trap.frame = f->error == NO_ERROR ? (word)&f->ip : (word)&f->error;
    trap.cr2 = read_cr2();
    trap.dr6 = f->vector == DB ? read_dr6() : 0;
    *r = (struct regs){
        .ax = f->ax, .cx = f->cx, .dx = f->dx, .bx = f->bx, .bp = f->bp, .si = f->si, .di = f->di};
#if IS64
    r->r8 = f->r8, r->r9 = f->r9, r->r10 = f->r10, r->r11 = f->r11;
    r->r12 = f->r12, r->r13 = f->r13, r->r14 = f->r14, r->r15 = f->r15;
#endif
    save_segments(r, f);
    trap_leave();
}
