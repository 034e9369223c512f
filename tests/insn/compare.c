/* compare.c - see compare.h. */
#include "compare.h"
#include "segments.h"

#include <string.h>

enum excluded {
    EX_DEST = 1 << 0,   /* the first operand, a register */
    EX_MEMORY = 1 << 1, /* what is stored */
    EX_RAX = 1 << 2,
    EX_RBX = 1 << 3,
    EX_RCX = 1 << 4,
    EX_RDX = 1 << 5,
    EX_FLAGS = 1 << 6,
    EX_RIP = 1 << 7,
    EX_X87_POINTERS = 1 << 8, /* FIP, FDP, FOP in the image stored */
    EX_NEXT = 1 << 9,         /* a NOP behind the instruction was executed natively, too */
    EX_CR2 = 1 << 10,         /* which of several accesses faults */
};

struct exclusion {
    uint16_t mnemonic;
    uint16_t what;
    const char *reason;
};

static const char time_passes[] = "the time-stamp counter moves on";
static const char other_model[] = "the guest's CPU model is not the host's";
static const char random_number[] = "a hardware random number";
static const char system_register[] = "Linux emulates it under UMIP: the value is made up, and "
                                      "the trap comes one instruction later";
static const char x87_pointers[] = "FIP, FDP and FOP still have values from before the case: a "
                                   "signal frame doesn't restore them";
static const char many_accesses[] = "in which order an instruction makes several accesses, and so "
                                    "which of two faults comes, is not defined";
static const char tracking[] = "which components count as modified or in use depends on the "
                               "implementation (SDM vol. 1, 13.6)";

static const struct exclusion exclusions[] = {
    {ZYDIS_MNEMONIC_RDTSC, EX_RAX | EX_RDX, time_passes},
    {ZYDIS_MNEMONIC_RDTSCP, EX_RAX | EX_RCX | EX_RDX, time_passes},
    {ZYDIS_MNEMONIC_CPUID, EX_RAX | EX_RBX | EX_RCX | EX_RDX, other_model},
    {ZYDIS_MNEMONIC_XGETBV, EX_RAX | EX_RDX, other_model},
    {ZYDIS_MNEMONIC_RDPID, EX_DEST, "TSC_AUX is the host's number of this processor"},
    {ZYDIS_MNEMONIC_RDRAND, EX_DEST | EX_FLAGS, random_number},
    {ZYDIS_MNEMONIC_RDSEED, EX_DEST | EX_FLAGS, random_number},
    {ZYDIS_MNEMONIC_SGDT, EX_MEMORY | EX_NEXT, system_register},
    {ZYDIS_MNEMONIC_SIDT, EX_MEMORY | EX_NEXT, system_register},
    {ZYDIS_MNEMONIC_SLDT, EX_MEMORY | EX_DEST | EX_NEXT, system_register},
    {ZYDIS_MNEMONIC_STR, EX_MEMORY | EX_DEST | EX_NEXT, system_register},
    {ZYDIS_MNEMONIC_SMSW, EX_MEMORY | EX_DEST | EX_NEXT, system_register},
    {ZYDIS_MNEMONIC_FNSTENV, EX_X87_POINTERS | EX_CR2, x87_pointers},
    {ZYDIS_MNEMONIC_FNSAVE, EX_X87_POINTERS | EX_CR2, x87_pointers},
    {ZYDIS_MNEMONIC_FXSAVE, EX_X87_POINTERS | EX_CR2, x87_pointers},
    {ZYDIS_MNEMONIC_FXSAVE64, EX_X87_POINTERS | EX_CR2, x87_pointers},
    {ZYDIS_MNEMONIC_XSAVE, EX_X87_POINTERS | EX_CR2, x87_pointers},
    {ZYDIS_MNEMONIC_XSAVE64, EX_X87_POINTERS | EX_CR2, x87_pointers},
    {ZYDIS_MNEMONIC_XSAVEC, EX_MEMORY | EX_CR2, tracking},
    {ZYDIS_MNEMONIC_XSAVEC64, EX_MEMORY | EX_CR2, tracking},
    {ZYDIS_MNEMONIC_XSAVEOPT, EX_MEMORY | EX_CR2, tracking},
    {ZYDIS_MNEMONIC_XSAVEOPT64, EX_MEMORY | EX_CR2, tracking},
    {ZYDIS_MNEMONIC_FLDENV, EX_CR2, many_accesses},
    {ZYDIS_MNEMONIC_FRSTOR, EX_CR2, many_accesses},
    {ZYDIS_MNEMONIC_FXRSTOR, EX_CR2, many_accesses},
    {ZYDIS_MNEMONIC_FXRSTOR64, EX_CR2, many_accesses},
    {ZYDIS_MNEMONIC_XRSTOR, EX_CR2, many_accesses},
    {ZYDIS_MNEMONIC_XRSTOR64, EX_CR2, many_accesses},
    {ZYDIS_MNEMONIC_RET, EX_CR2, many_accesses},
    {ZYDIS_MNEMONIC_IRET, EX_CR2, many_accesses},
    {ZYDIS_MNEMONIC_IRETD, EX_CR2, many_accesses},
    {ZYDIS_MNEMONIC_IRETQ, EX_CR2, many_accesses},
    {ZYDIS_MNEMONIC_MASKMOVQ, EX_CR2, many_accesses},
    {ZYDIS_MNEMONIC_MASKMOVDQU, EX_CR2, many_accesses},
    {ZYDIS_MNEMONIC_VMASKMOVDQU, EX_CR2, many_accesses},
    {ZYDIS_MNEMONIC_VMASKMOVPS, EX_CR2, many_accesses},
    {ZYDIS_MNEMONIC_VMASKMOVPD, EX_CR2, many_accesses},
    {ZYDIS_MNEMONIC_VPMASKMOVD, EX_CR2, many_accesses},
    {ZYDIS_MNEMONIC_VPMASKMOVQ, EX_CR2, many_accesses},
    {ZYDIS_MNEMONIC_VGATHERDPS, EX_CR2, many_accesses},
    {ZYDIS_MNEMONIC_VGATHERDPD, EX_CR2, many_accesses},
    {ZYDIS_MNEMONIC_VGATHERQPS, EX_CR2, many_accesses},
    {ZYDIS_MNEMONIC_VGATHERQPD, EX_CR2, many_accesses},
    {ZYDIS_MNEMONIC_VPGATHERDD, EX_CR2, many_accesses},
    {ZYDIS_MNEMONIC_VPGATHERDQ, EX_CR2, many_accesses},
    {ZYDIS_MNEMONIC_VPGATHERQD, EX_CR2, many_accesses},
    {ZYDIS_MNEMONIC_VPGATHERQQ, EX_CR2, many_accesses},
    {ZYDIS_MNEMONIC_INT1, EX_RIP,
     "KVM leaves RIP at the instruction when it intercepts it, the processor alone does not"},
};

static const char *const gpr_names[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                        "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};

struct comparison {
    const struct test_case *c;
    const struct result *native, *engine;
    unsigned excluded;
    unsigned excluded_gprs;          /* bit mask */
    unsigned memory_from, memory_to; /* excluded bytes of the data pages */
    unsigned count;
    FILE *out;
};

void compare_write_exclusions(FILE *out)
{
    for (unsigned i = 0; i < ARRAY_SIZE(exclusions); i++)
        fprintf(out, "- %s: %s\n", ZydisMnemonicGetString((ZydisMnemonic)exclusions[i].mnemonic),
                exclusions[i].reason);
}

/* Where FIP, FDP and FOP are in the image that the instruction stores. */
static void exclude_x87_pointers(struct comparison *cmp, const struct decoded *d)
{
    bool environment =
        d->insn.mnemonic == ZYDIS_MNEMONIC_FNSTENV || d->insn.mnemonic == ZYDIS_MNEMONIC_FNSAVE;
    bool narrow = environment && d->insn.operand_width == 16;
    unsigned operand = (unsigned)(cmp->c->operand - DATA_BASE);

    cmp->memory_from = operand + (!environment || narrow ? 6 : 12);
    cmp->memory_to = operand + (!environment ? 24 : narrow ? 14 : 28);
}

bool compare_exactly(const struct decoded *d)
{
    for (unsigned i = 0; i < ARRAY_SIZE(exclusions); i++)
        if (exclusions[i].mnemonic == d->insn.mnemonic && exclusions[i].what != EX_CR2)
            return false;
    return true;
}

static void find_exclusion(struct comparison *cmp, const struct decoded *d)
{
    static const uint8_t gpr_of[] = {RAX, RBX, RCX, RDX};

    for (unsigned i = 0; i < ARRAY_SIZE(exclusions); i++)
        if (exclusions[i].mnemonic == d->insn.mnemonic)
            cmp->excluded = exclusions[i].what;
    if (cmp->native->vector != EXC_DB)
        cmp->excluded &= EX_RIP | EX_CR2 | EX_NEXT; /* a fault: nothing was written */
    for (unsigned i = 0; i < 4; i++)
        if (cmp->excluded & EX_RAX << i)
            cmp->excluded_gprs |= 1u << gpr_of[i];
    if (cmp->excluded & EX_DEST && d->ops[0].type == ZYDIS_OPERAND_TYPE_REGISTER)
        cmp->excluded_gprs |= 1u << (ZydisRegisterGetId(d->ops[0].reg.value) & 15);
    if (cmp->excluded & EX_MEMORY)
        cmp->memory_to = DATA_SIZE;
    if (cmp->excluded & EX_X87_POINTERS)
        exclude_x87_pointers(cmp, d);
}

static void differ(struct comparison *cmp, const char *name, uint64_t initial, uint64_t native,
                   uint64_t engine)
{
    if (native == engine)
        return;
    cmp->count++;
    fprintf(cmp->out, "    %-8s before %016llx  processor %016llx  engine %016llx\n", name,
            (unsigned long long)initial, (unsigned long long)native, (unsigned long long)engine);
}

/* TF is always set natively; in the engine only if the case says so. POPF and IRET load it. */
static uint64_t native_flags(const struct comparison *cmp, const struct decoded *d)
{
    uint64_t flags = cmp->native->after.rflags;
    bool loads_tf =
        d && (d->insn.mnemonic == ZYDIS_MNEMONIC_POPF || d->insn.mnemonic == ZYDIS_MNEMONIC_POPFD ||
              d->insn.mnemonic == ZYDIS_MNEMONIC_POPFQ || d->insn.mnemonic == ZYDIS_MNEMONIC_IRET ||
              d->insn.mnemonic == ZYDIS_MNEMONIC_IRETD || d->insn.mnemonic == ZYDIS_MNEMONIC_IRETQ);

    if (cmp->excluded & EX_FLAGS)
        return cmp->engine->after.rflags;
    if (cmp->c->code_len) /* no TF but the guest's own */
        return flags;
    if (loads_tf && cmp->native->vector == EXC_DB)
        return flags;
    return (flags & ~(uint64_t)FLAG_TF) | (cmp->c->trap ? FLAG_TF : 0);
}

/* The processor clears the RPL of null selectors when the host's kernel returns to user mode. */
static uint16_t visible_selector(uint16_t sel)
{
    return sel < 4 ? 0 : sel;
}

static void compare_integer(struct comparison *cmp, const struct decoded *d)
{
    const struct state *b = &cmp->c->init, *n = &cmp->native->after, *e = &cmp->engine->after;
    uint64_t mask = cmp->c->mode == 64 ? UINT64_MAX : UINT32_MAX;
    static const char *const sel_names[] = {"es", "cs", "ss", "ds", "fs", "gs"};

    for (unsigned i = 0; i < (cmp->c->mode == 64 ? 16u : 8u); i++) {
        /* in compatibility mode the kernel sees ESP only */
        if (i == RSP && n->sel[CS] != SEL_USER_CS)
            mask = UINT32_MAX;
        if (!(cmp->excluded_gprs >> i & 1))
            differ(cmp, gpr_names[i], b->gpr[i], n->gpr[i] & mask, e->gpr[i] & mask);
        mask = cmp->c->mode == 64 ? UINT64_MAX : UINT32_MAX;
    }
    if (!(cmp->excluded & EX_RIP))
        differ(cmp, "rip", b->rip,
               n->rip - (cmp->excluded & EX_NEXT && cmp->native->vector == EXC_DB), e->rip);
    differ(cmp, "rflags", b->rflags, native_flags(cmp, d), e->rflags);
    for (unsigned i = 0; i < SEG_COUNT; i++)
        differ(cmp, sel_names[i], b->sel[i], visible_selector(n->sel[i]),
               visible_selector(e->sel[i]));
    differ(cmp, "fs.base", b->fs_base, n->fs_base, e->fs_base);
    differ(cmp, "gs.base", b->gs_base, n->gs_base, e->gs_base);
}

static void compare_vectors(struct comparison *cmp)
{
    const struct state *b = &cmp->c->init, *n = &cmp->native->after, *e = &cmp->engine->after;
    char name[16];

    differ(cmp, "mxcsr", b->mxcsr, n->mxcsr, e->mxcsr);
    if (memcmp(n->ymm, e->ymm, sizeof(n->ymm)) == 0)
        return;
    for (unsigned i = 0; i < 64; i++) {
        snprintf(name, sizeof(name), "ymm%u[%u]", i / 4, i % 4);
        differ(cmp, name, b->ymm[i / 4].q[i % 4], n->ymm[i / 4].q[i % 4], e->ymm[i / 4].q[i % 4]);
    }
}

static uint64_t load(const uint8_t *p, unsigned len)
{
    uint64_t v = 0;

    memcpy(&v, p, len);
    return v;
}

static void compare_x87(struct comparison *cmp)
{
    const uint8_t *b = cmp->c->init.fx, *n = cmp->native->after.fx, *e = cmp->engine->after.fx;
    char name[16];

    differ(cmp, "fcw", load(b, 2), load(n, 2), load(e, 2));
    differ(cmp, "fsw", load(b + 2, 2), load(n + 2, 2), load(e + 2, 2));
    differ(cmp, "ftw", b[4], n[4], e[4]);
    for (unsigned i = 0; i < 8; i++) {
        unsigned at = 32 + 16 * i;

        snprintf(name, sizeof(name), "st%u", i);
        differ(cmp, name, load(b + at, 8), load(n + at, 8), load(e + at, 8));
        snprintf(name, sizeof(name), "st%u.exp", i);
        differ(cmp, name, load(b + at + 8, 2), load(n + at + 8, 2), load(e + at + 8, 2));
    }
}

static void compare_data(struct comparison *cmp, const uint8_t *expected, const uint8_t *actual)
{
    char name[32];

    if (memcmp(expected, actual, DATA_SIZE) == 0)
        return;
    for (unsigned at = 0; at < DATA_SIZE; at++) {
        unsigned len;

        if (expected[at] == actual[at] || (at >= cmp->memory_from && at < cmp->memory_to))
            continue;
        len = DATA_SIZE - at < 8 ? DATA_SIZE - at : 8;
        snprintf(name, sizeof(name), "[%llx]", (unsigned long long)(DATA_BASE + at));
        differ(cmp, name, 0, load(expected + at, len), load(actual + at, len));
        at += 7;
    }
}

/* Linux hides whether a kernel address is mapped: it always sets P in what it tells. */
static uint32_t comparable_error(const struct result *r)
{
    if (r->vector == EXC_PF && r->cr2 >= UINT64_C(0x7ffffffff000))
        return r->error | 1;
    return r->error;
}

static bool is_memory_fault(const struct result *r)
{
    return r->vector == EXC_PF || r->vector == EXC_SS || r->vector == EXC_AC ||
           (r->vector == EXC_GP && comparable_error(r) == 0);
}

static void compare_fault(struct comparison *cmp)
{
    const struct result *n = cmp->native, *e = cmp->engine;
    bool error = n->vector == EXC_PF || n->vector == EXC_GP || n->vector == EXC_SS ||
                 n->vector == EXC_NP || n->vector == EXC_TS || n->vector == EXC_AC;

    if ((cmp->excluded & EX_CR2) && is_memory_fault(n) && is_memory_fault(e))
        return;
    differ(cmp, "vector", 0, n->vector, e->vector);
    if (n->vector != e->vector) {
        fprintf(cmp->out, "    processor's error %x cr2 %llx, engine's error %x cr2 %llx\n",
                n->error, (unsigned long long)n->cr2, e->error, (unsigned long long)e->cr2);
        return;
    }
    if (n->vector == EXC_PF && (cmp->excluded & EX_CR2))
        return;
    if (error)
        differ(cmp, "error", 0, comparable_error(n), comparable_error(e));
    if (n->vector == EXC_PF)
        differ(cmp, "cr2", 0, n->cr2, e->cr2);
}

unsigned compare_results(const struct test_case *c, const struct decoded *d,
                         const struct result *native, const struct result *engine,
                         const uint8_t *expected, const uint8_t *actual, FILE *out)
{
    struct comparison cmp = {.c = c, .native = native, .engine = engine, .out = out};

    if (d)
        find_exclusion(&cmp, d);
    /* The host's kernel emulates, and its faults are its own. */
    if (cmp.excluded & EX_NEXT && (native->vector != EXC_DB || engine->vector != EXC_DB))
        return 0;
    compare_fault(&cmp);
    compare_integer(&cmp, d);
    compare_vectors(&cmp);
    compare_x87(&cmp);
    compare_data(&cmp, expected, actual);
    return cmp.count;
}
