/* The tables, and how each kind of register is read and written.
 *
 * What GDB writes is checked as an instruction of the guest would be: control registers and EFER by
 * their own functions, selectors by loading the segment. CS, the system segments, the descriptor
 * tables and the debug registers are for reading only. In the i386 set the values are the low 32
 * bits. */
#include "debug/gdb_registers.h"

#include "cpu/cpuid.h"
#include "cpu/cr.h"
#include "cpu/msr.h"
#include "cpu/segment.h"
#include "cpu/x87env.h"

#include <string.h>

#define MSR_EFER 0xc0000080u
#define MSR_FS_BASE 0xc0000100u
#define MSR_GS_BASE 0xc0000101u
#define MSR_KERNEL_GS_BASE 0xc0000102u

/* The FXSAVE image. */
#define FX_ST 32
#define FX_ST_STRIDE 16
#define ST_SIZE 10

enum kind {
    KIND_GPR,
    KIND_RIP,
    KIND_FLAGS,
    KIND_SELECTOR,
    KIND_ST,
    KIND_X87, /* index: enum x87_register */
    KIND_XMM,
    KIND_MXCSR,
    KIND_YMM_HIGH,
    KIND_MSR,    /* index: number of the MSR */
    KIND_SYSTEM, /* index: enum system_register */
    KIND_DR,
};

enum x87_register { FCTRL, FSTAT, FTAG, FISEG, FIOFF, FOSEG, FOOFF, FOP };

enum system_register {
    SYSTEM_CR0,
    SYSTEM_CR2,
    SYSTEM_CR3,
    SYSTEM_CR4,
    SYSTEM_CR8,
    SYSTEM_XCR0,
    SYSTEM_CPL,
    SYSTEM_CS_BASE,
    SYSTEM_SS_BASE,
    SYSTEM_DS_BASE,
    SYSTEM_ES_BASE,
    SYSTEM_GDT_BASE,
    SYSTEM_GDT_LIMIT,
    SYSTEM_IDT_BASE,
    SYSTEM_IDT_LIMIT,
    SYSTEM_LDTR,
    SYSTEM_LDT_BASE,
    SYSTEM_TR,
    SYSTEM_TSS_BASE,
};

enum feature { FEATURE_CORE, FEATURE_SSE, FEATURE_AVX, FEATURE_SEGMENTS, FEATURE_SYSTEM };

static const char *const feature_names[] = {
    [FEATURE_CORE] = "org.gnu.gdb.i386.core",  [FEATURE_SSE] = "org.gnu.gdb.i386.sse",
    [FEATURE_AVX] = "org.gnu.gdb.i386.avx",    [FEATURE_SEGMENTS] = "org.gnu.gdb.i386.segments",
    [FEATURE_SYSTEM] = "org.doble.x86.system",
};

struct reg {
    const char *name;
    const char *type;
    uint8_t size;
    uint8_t kind, feature;
    uint32_t index;
};

/* --- the tables: X64 and X32 have the same rows but for names and sizes --- */

#define GPR(name, size, type, reg)                                                                 \
    {                                                                                              \
        name, type, size, KIND_GPR, FEATURE_CORE, reg                                              \
    }
#define SELECTORS                                                                                  \
    {"cs", "int32", 4, KIND_SELECTOR, FEATURE_CORE, CS},                                           \
        {"ss", "int32", 4, KIND_SELECTOR, FEATURE_CORE, SS},                                       \
        {"ds", "int32", 4, KIND_SELECTOR, FEATURE_CORE, DS},                                       \
        {"es", "int32", 4, KIND_SELECTOR, FEATURE_CORE, ES},                                       \
        {"fs", "int32", 4, KIND_SELECTOR, FEATURE_CORE, FS},                                       \
    {                                                                                              \
        "gs", "int32", 4, KIND_SELECTOR, FEATURE_CORE, GS                                          \
    }
#define ST(n)                                                                                      \
    {                                                                                              \
        "st" #n, "i387_ext", ST_SIZE, KIND_ST, FEATURE_CORE, n                                     \
    }
#define X87(name, which)                                                                           \
    {                                                                                              \
        name, "int", 4, KIND_X87, FEATURE_CORE, which                                              \
    }
#define FIRST_8(ROW) ROW(0), ROW(1), ROW(2), ROW(3), ROW(4), ROW(5), ROW(6), ROW(7)
#define LAST_8(ROW) ROW(8), ROW(9), ROW(10), ROW(11), ROW(12), ROW(13), ROW(14), ROW(15)
#define FPU                                                                                        \
    FIRST_8(ST), X87("fctrl", FCTRL), X87("fstat", FSTAT), X87("ftag", FTAG), X87("fiseg", FISEG), \
        X87("fioff", FIOFF), X87("foseg", FOSEG), X87("fooff", FOOFF), X87("fop", FOP)
#define XMM(n)                                                                                     \
    {                                                                                              \
        "xmm" #n, "vec128", 16, KIND_XMM, FEATURE_SSE, n                                           \
    }
#define YMM(n)                                                                                     \
    {                                                                                              \
        "ymm" #n "h", "uint128", 16, KIND_YMM_HIGH, FEATURE_AVX, n                                 \
    }
#define MXCSR                                                                                      \
    {                                                                                              \
        "mxcsr", "i386_mxcsr", 4, KIND_MXCSR, FEATURE_SSE, 0                                       \
    }
#define BASES(feature)                                                                             \
    {"fs_base", "uint64", 8, KIND_MSR, feature, MSR_FS_BASE},                                      \
    {                                                                                              \
        "gs_base", "uint64", 8, KIND_MSR, feature, MSR_GS_BASE                                     \
    }
#define SYSTEM(name, type, size, which)                                                            \
    {                                                                                              \
        name, type, size, KIND_SYSTEM, FEATURE_SYSTEM, which                                       \
    }
#define DEBUG_REGISTER(n)                                                                          \
    {                                                                                              \
        "dr" #n, "uint64", 8, KIND_DR, FEATURE_SYSTEM, n                                           \
    }
#define SYSTEMS                                                                                    \
    {"k_gs_base", "uint64", 8, KIND_MSR, FEATURE_SYSTEM, MSR_KERNEL_GS_BASE},                      \
        SYSTEM("cr0", "cr0", 8, SYSTEM_CR0), SYSTEM("cr2", "uint64", 8, SYSTEM_CR2),               \
        SYSTEM("cr3", "uint64", 8, SYSTEM_CR3), SYSTEM("cr4", "cr4", 8, SYSTEM_CR4),               \
        SYSTEM("cr8", "uint64", 8, SYSTEM_CR8),                                                    \
        {"efer", "efer", 8, KIND_MSR, FEATURE_SYSTEM, MSR_EFER},                                   \
        SYSTEM("xcr0", "uint64", 8, SYSTEM_XCR0), SYSTEM("cpl", "uint32", 4, SYSTEM_CPL),          \
        SYSTEM("cs_base", "uint64", 8, SYSTEM_CS_BASE),                                            \
        SYSTEM("ss_base", "uint64", 8, SYSTEM_SS_BASE),                                            \
        SYSTEM("ds_base", "uint64", 8, SYSTEM_DS_BASE),                                            \
        SYSTEM("es_base", "uint64", 8, SYSTEM_ES_BASE),                                            \
        SYSTEM("gdt_base", "uint64", 8, SYSTEM_GDT_BASE),                                          \
        SYSTEM("gdt_limit", "uint32", 4, SYSTEM_GDT_LIMIT),                                        \
        SYSTEM("idt_base", "uint64", 8, SYSTEM_IDT_BASE),                                          \
        SYSTEM("idt_limit", "uint32", 4, SYSTEM_IDT_LIMIT),                                        \
        SYSTEM("ldtr", "uint32", 4, SYSTEM_LDTR),                                                  \
        SYSTEM("ldt_base", "uint64", 8, SYSTEM_LDT_BASE), SYSTEM("tr", "uint32", 4, SYSTEM_TR),    \
        SYSTEM("tss_base", "uint64", 8, SYSTEM_TSS_BASE), DEBUG_REGISTER(0), DEBUG_REGISTER(1),    \
        DEBUG_REGISTER(2), DEBUG_REGISTER(3), DEBUG_REGISTER(6), DEBUG_REGISTER(7)

/* The AVX rows come last, because a CPU without AVX has not got them. */
static const struct reg table_64[] = {
    GPR("rax", 8, "int64", RAX),
    GPR("rbx", 8, "int64", RBX),
    GPR("rcx", 8, "int64", RCX),
    GPR("rdx", 8, "int64", RDX),
    GPR("rsi", 8, "int64", RSI),
    GPR("rdi", 8, "int64", RDI),
    GPR("rbp", 8, "data_ptr", RBP),
    GPR("rsp", 8, "data_ptr", RSP),
    GPR("r8", 8, "int64", R8),
    GPR("r9", 8, "int64", R9),
    GPR("r10", 8, "int64", R10),
    GPR("r11", 8, "int64", R11),
    GPR("r12", 8, "int64", R12),
    GPR("r13", 8, "int64", R13),
    GPR("r14", 8, "int64", R14),
    GPR("r15", 8, "int64", R15),
    {"rip", "code_ptr", 8, KIND_RIP, FEATURE_CORE, 0},
    {"eflags", "i386_eflags", 4, KIND_FLAGS, FEATURE_CORE, 0},
    SELECTORS,
    FPU,
    FIRST_8(XMM),
    LAST_8(XMM),
    MXCSR,
    BASES(FEATURE_SEGMENTS),
    SYSTEMS,
    FIRST_8(YMM),
    LAST_8(YMM),
};

static const struct reg table_32[] = {
    GPR("eax", 4, "int32", RAX),
    GPR("ecx", 4, "int32", RCX),
    GPR("edx", 4, "int32", RDX),
    GPR("ebx", 4, "int32", RBX),
    GPR("esp", 4, "data_ptr", RSP),
    GPR("ebp", 4, "data_ptr", RBP),
    GPR("esi", 4, "int32", RSI),
    GPR("edi", 4, "int32", RDI),
    {"eip", "code_ptr", 4, KIND_RIP, FEATURE_CORE, 0},
    {"eflags", "i386_eflags", 4, KIND_FLAGS, FEATURE_CORE, 0},
    SELECTORS,
    FPU,
    FIRST_8(XMM),
    MXCSR,
    BASES(FEATURE_SYSTEM),
    SYSTEMS,
    FIRST_8(YMM),
};

enum gdb_arch gdb_arch_of(const struct cpu *cpu)
{
    return cpu->efer & EFER_LMA ? GDB_ARCH_X86_64 : GDB_ARCH_I386;
}

static const struct reg *table_of(enum gdb_arch arch)
{
    return arch == GDB_ARCH_X86_64 ? table_64 : table_32;
}

unsigned gdb_register_count(const struct cpu *cpu, enum gdb_arch arch)
{
    unsigned avx = arch == GDB_ARCH_X86_64 ? 16 : 8;
    unsigned all =
        arch == GDB_ARCH_X86_64 ? (unsigned)ARRAY_SIZE(table_64) : (unsigned)ARRAY_SIZE(table_32);

    return cpu_model_xcr0(cpu->model) & XCR0_AVX ? all : all - avx;
}

unsigned gdb_register_size(const struct cpu *cpu, enum gdb_arch arch, uint64_t number)
{
    return number < gdb_register_count(cpu, arch) ? table_of(arch)[number].size : 0;
}

/* --- the target description --- */

struct flag {
    const char *name;
    uint8_t bit;
};

static const struct flag eflags_bits[] = {
    {"CF", 0},  {"", 1},    {"PF", 2},   {"AF", 4},   {"ZF", 6},  {"SF", 7},
    {"TF", 8},  {"IF", 9},  {"DF", 10},  {"OF", 11},  {"NT", 14}, {"RF", 16},
    {"VM", 17}, {"AC", 18}, {"VIF", 19}, {"VIP", 20}, {"ID", 21},
};
static const struct flag mxcsr_bits[] = {
    {"IE", 0}, {"DE", 1}, {"ZE", 2}, {"OE", 3},  {"UE", 4},  {"PE", 5},  {"DAZ", 6},
    {"IM", 7}, {"DM", 8}, {"ZM", 9}, {"OM", 10}, {"UM", 11}, {"PM", 12}, {"FZ", 15},
};
static const struct flag cr0_bits[] = {
    {"PE", 0},  {"MP", 1},  {"EM", 2},  {"TS", 3},  {"ET", 4},  {"NE", 5},
    {"WP", 16}, {"AM", 18}, {"NW", 29}, {"CD", 30}, {"PG", 31},
};
static const struct flag cr4_bits[] = {
    {"VME", 0},         {"PVI", 1},   {"TSD", 2},   {"DE", 3},        {"PSE", 4},
    {"PAE", 5},         {"MCE", 6},   {"PGE", 7},   {"PCE", 8},       {"OSFXSR", 9},
    {"OSXMMEXCPT", 10}, {"UMIP", 11}, {"LA57", 12}, {"FSGSBASE", 16}, {"PCIDE", 17},
    {"OSXSAVE", 18},    {"SMEP", 20}, {"SMAP", 21},
};
static const struct flag efer_bits[] = {
    {"SCE", 0}, {"LME", 8}, {"LMA", 10}, {"NXE", 11}, {"SVME", 12}, {"FFXSR", 14}, {"AUTOIBRS", 21},
};

static void print_flags(FILE *out, const char *id, unsigned size, const struct flag *bits,
                        size_t count)
{
    fprintf(out, "<flags id=\"%s\" size=\"%u\">", id, size);
    for (size_t i = 0; i < count; i++)
        fprintf(out, "<field name=\"%s\" start=\"%u\" end=\"%u\"/>", bits[i].name, bits[i].bit,
                bits[i].bit);
    fputs("</flags>\n", out);
}

static void print_vector_types(FILE *out)
{
    static const struct {
        const char *id, *type;
        unsigned count;
    } vectors[] = {
        {"v4f", "ieee_single", 4}, {"v2d", "ieee_double", 2}, {"v16i8", "int8", 16},
        {"v8i16", "int16", 8},     {"v4i32", "int32", 4},     {"v2i64", "int64", 2},
    };
    static const char *const names[] = {"v4_float", "v2_double", "v16_int8",
                                        "v8_int16", "v4_int32",  "v2_int64"};

    for (unsigned i = 0; i < ARRAY_SIZE(vectors); i++)
        fprintf(out, "<vector id=\"%s\" type=\"%s\" count=\"%u\"/>\n", vectors[i].id,
                vectors[i].type, vectors[i].count);
    fputs("<union id=\"vec128\">", out);
    for (unsigned i = 0; i < ARRAY_SIZE(vectors); i++)
        fprintf(out, "<field name=\"%s\" type=\"%s\"/>", names[i], vectors[i].id);
    fputs("<field name=\"uint128\" type=\"uint128\"/></union>\n", out);
}

/* A type belongs to the feature whose registers have it. */
static void print_types(FILE *out, enum feature feature)
{
    switch (feature) {
    case FEATURE_CORE:
        print_flags(out, "i386_eflags", 4, eflags_bits, ARRAY_SIZE(eflags_bits));
        break;
    case FEATURE_SSE:
        print_vector_types(out);
        print_flags(out, "i386_mxcsr", 4, mxcsr_bits, ARRAY_SIZE(mxcsr_bits));
        break;
    case FEATURE_SYSTEM:
        print_flags(out, "cr0", 8, cr0_bits, ARRAY_SIZE(cr0_bits));
        print_flags(out, "cr4", 8, cr4_bits, ARRAY_SIZE(cr4_bits));
        print_flags(out, "efer", 8, efer_bits, ARRAY_SIZE(efer_bits));
        break;
    default: break;
    }
}

static const char *group_of(const struct reg *r)
{
    switch (r->kind) {
    case KIND_ST:
    case KIND_X87: return " group=\"float\"";
    case KIND_XMM:
    case KIND_YMM_HIGH:
    case KIND_MXCSR: return " group=\"vector\"";
    case KIND_SYSTEM:
    case KIND_DR: return " group=\"system\"";
    default: return "";
    }
}

void gdb_print_target(const struct cpu *cpu, enum gdb_arch arch, FILE *out)
{
    const struct reg *table = table_of(arch);
    unsigned count = gdb_register_count(cpu, arch);

    fprintf(out,
            "<?xml version=\"1.0\"?>\n<!DOCTYPE target SYSTEM \"gdb-target.dtd\">\n"
            "<target version=\"1.0\">\n<architecture>%s</architecture>\n",
            arch == GDB_ARCH_X86_64 ? "i386:x86-64" : "i386");
    for (unsigned i = 0; i < count; i++) {
        const struct reg *r = &table[i];

        if (i == 0 || r->feature != table[i - 1].feature) {
            fprintf(out, "%s<feature name=\"%s\">\n", i ? "</feature>\n" : "",
                    feature_names[r->feature]);
            print_types(out, r->feature);
        }
        fprintf(out, "<reg name=\"%s\" bitsize=\"%u\" type=\"%s\" regnum=\"%u\"%s/>\n", r->name,
                r->size * 8u, r->type, i, group_of(r));
    }
    fputs("</feature>\n</target>\n", out);
}

/* --- reading --- */

static uint32_t read_x87(struct cpu *cpu, enum x87_register which)
{
    const uint8_t *fx = cpu->fx;

    switch (which) {
    case FCTRL: return (uint32_t)(fx[0] | fx[1] << 8);
    case FSTAT: return (uint32_t)(fx[2] | fx[3] << 8);
    case FTAG: return x87_get_tags(cpu);
    case FISEG: return cpu->x87_fcs;
    case FIOFF: return (uint32_t)cpu->x87_fip;
    case FOSEG: return cpu->x87_fds;
    case FOOFF: return (uint32_t)cpu->x87_fdp;
    default: return cpu->x87_fop;
    }
}

static uint64_t read_cr8(struct cpu *cpu)
{
    uint64_t v = 0;

    bus_lock(cpu->bus);
    if (cpu->apic.get_tpr)
        v = cpu->apic.get_tpr(cpu->apic.opaque) & 15;
    bus_unlock(cpu->bus);
    return v;
}

static uint64_t read_system(struct cpu *cpu, enum system_register which)
{
    switch (which) {
    case SYSTEM_CR0: return cpu->cr0;
    case SYSTEM_CR2: return cpu->cr2;
    case SYSTEM_CR3: return cpu->cr3;
    case SYSTEM_CR4: return cpu->cr4;
    case SYSTEM_CR8: return read_cr8(cpu);
    case SYSTEM_XCR0: return cpu->xcr0;
    case SYSTEM_CPL: return cpu->cpl;
    case SYSTEM_CS_BASE: return cpu->seg[CS].base;
    case SYSTEM_SS_BASE: return cpu->seg[SS].base;
    case SYSTEM_DS_BASE: return cpu->seg[DS].base;
    case SYSTEM_ES_BASE: return cpu->seg[ES].base;
    case SYSTEM_GDT_BASE: return cpu->gdtr.base;
    case SYSTEM_GDT_LIMIT: return cpu->gdtr.limit;
    case SYSTEM_IDT_BASE: return cpu->idtr.base;
    case SYSTEM_IDT_LIMIT: return cpu->idtr.limit;
    case SYSTEM_LDTR: return cpu->ldtr.sel;
    case SYSTEM_LDT_BASE: return cpu->ldtr.base;
    case SYSTEM_TR: return cpu->tr.sel;
    default: return cpu->tr.base;
    }
}

static uint64_t read_msr(struct cpu *cpu, uint32_t msr)
{
    switch (msr) {
    case MSR_EFER: return cpu->efer;
    case MSR_FS_BASE: return cpu->seg[FS].base;
    case MSR_GS_BASE: return cpu->seg[GS].base;
    default: return cpu->kernel_gs_base;
    }
}

static uint64_t read_integer(struct cpu *cpu, const struct reg *r)
{
    switch (r->kind) {
    case KIND_GPR: return cpu->gpr[r->index];
    case KIND_RIP: return cpu->rip;
    case KIND_FLAGS: return cpu_get_rflags(cpu);
    case KIND_SELECTOR: return cpu->seg[r->index].sel;
    case KIND_X87: return read_x87(cpu, r->index);
    case KIND_MXCSR: return cpu->mxcsr;
    case KIND_MSR: return read_msr(cpu, r->index);
    case KIND_DR: return cpu->dr[r->index];
    default: return read_system(cpu, r->index);
    }
}

static uint8_t *stack_register(struct cpu *cpu, unsigned i)
{
    return cpu->fx + FX_ST + i * FX_ST_STRIDE;
}

void gdb_register_read(struct cpu *cpu, enum gdb_arch arch, unsigned number, void *bytes)
{
    const struct reg *r = &table_of(arch)[number];
    uint64_t v;

    switch (r->kind) {
    case KIND_ST: memcpy(bytes, stack_register(cpu, r->index), ST_SIZE); return;
    case KIND_XMM: memcpy(bytes, &cpu->ymm[r->index].b[0], 16); return;
    case KIND_YMM_HIGH: memcpy(bytes, &cpu->ymm[r->index].b[16], 16); return;
    default: break;
    }
    v = read_integer(cpu, r);
    memcpy(bytes, &v, r->size);
}

/* --- writing --- */

/* An exception that was raised on the way is nothing that the guest should see. */
static bool without_exception(struct cpu *cpu, bool ok)
{
    cpu->exc.pending = false;
    return ok;
}

static bool write_flags(struct cpu *cpu, uint64_t v)
{
    const uint64_t fixed = FLAG_VM; /* entering virtual-8086 mode takes more than a flag */
    const uint64_t old = cpu_get_rflags(cpu);

    if ((v ^ old) & fixed)
        return false;
    cpu_set_rflags(cpu, v);
    return true;
}

static bool write_selector(struct cpu *cpu, enum seg seg, uint64_t v)
{
    if (seg == CS || v > UINT16_MAX)
        return false;
    if (!without_exception(cpu, segment_load(cpu, seg, (uint16_t)v)))
        return false;
    cpu_update_mode(cpu);
    return true;
}

static bool write_x87(struct cpu *cpu, enum x87_register which, uint32_t v)
{
    switch (which) {
    case FCTRL: x87_set_control_status(cpu, (uint16_t)v, (uint16_t)read_x87(cpu, FSTAT)); break;
    case FSTAT: x87_set_control_status(cpu, (uint16_t)read_x87(cpu, FCTRL), (uint16_t)v); break;
    case FTAG: x87_set_tags(cpu, (uint16_t)v); break;
    case FISEG: cpu->x87_fcs = (uint16_t)v; break;
    case FIOFF: cpu->x87_fip = v; break;
    case FOSEG: cpu->x87_fds = (uint16_t)v; break;
    case FOOFF: cpu->x87_fdp = v; break;
    default: cpu->x87_fop = v & 0x7ff; break;
    }
    return true;
}

static bool write_mxcsr(struct cpu *cpu, uint32_t v)
{
    if (v & ~cpu_model_mxcsr_mask(cpu->model))
        return false;
    cpu->mxcsr = v;
    return true;
}

static bool write_cr8(struct cpu *cpu, uint64_t v)
{
    if (v > 15 || !cpu->apic.set_tpr)
        return false;
    bus_lock(cpu->bus);
    cpu->apic.set_tpr(cpu->apic.opaque, (uint8_t)v);
    bus_unlock(cpu->bus);
    return true;
}

static bool write_system(struct cpu *cpu, enum system_register which, uint64_t v)
{
    switch (which) {
    case SYSTEM_CR0: return without_exception(cpu, cpu_write_cr0(cpu, v));
    case SYSTEM_CR2: cpu->cr2 = v; return true;
    case SYSTEM_CR3: return without_exception(cpu, cpu_write_cr3(cpu, v));
    case SYSTEM_CR4: return without_exception(cpu, cpu_write_cr4(cpu, v));
    case SYSTEM_CR8: return write_cr8(cpu, v);
    case SYSTEM_XCR0:
        if (!xcr0_is_valid(cpu, v))
            return false;
        cpu->xcr0 = v;
        cpu_update_mode(cpu);
        return true;
    default: return false;
    }
}

static bool write_rip(struct cpu *cpu, uint64_t v)
{
    if (cpu_is_64bit(cpu) ? !cpu_canonical(cpu, v) : v > UINT32_MAX)
        return false;
    cpu->rip = v;
    return true;
}

static bool write_integer(struct cpu *cpu, const struct reg *r, uint64_t v)
{
    switch (r->kind) {
    case KIND_GPR: cpu->gpr[r->index] = v; return true;
    case KIND_RIP: return write_rip(cpu, v);
    case KIND_FLAGS: return write_flags(cpu, v);
    case KIND_SELECTOR: return write_selector(cpu, r->index, v);
    case KIND_X87: return write_x87(cpu, r->index, (uint32_t)v);
    case KIND_MXCSR: return write_mxcsr(cpu, (uint32_t)v);
    case KIND_MSR: return msr_write(cpu, r->index, v);
    case KIND_SYSTEM: return write_system(cpu, r->index, v);
    default: return false;
    }
}

/* What is there already can always be written: GDB writes back whole sets. */
bool gdb_register_write(struct cpu *cpu, enum gdb_arch arch, unsigned number, const void *bytes)
{
    const struct reg *r = &table_of(arch)[number];
    uint8_t old[GDB_REGISTER_MAX];
    uint64_t v = 0;

    gdb_register_read(cpu, arch, number, old);
    if (memcmp(old, bytes, r->size) == 0)
        return true;
    switch (r->kind) {
    case KIND_ST: memcpy(stack_register(cpu, r->index), bytes, ST_SIZE); return true;
    case KIND_XMM: memcpy(&cpu->ymm[r->index].b[0], bytes, 16); return true;
    case KIND_YMM_HIGH: memcpy(&cpu->ymm[r->index].b[16], bytes, 16); return true;
    default: break;
    }
    memcpy(&v, bytes, r->size);
    return write_integer(cpu, r, v);
}
