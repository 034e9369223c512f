/* cpuid.c - CPU models, and the CPUID instruction.
 *
 * SDM vol. 2, CPUID; AMD APM vol. 3, appendix E. A model is a set of features, with who made it and
 * which family it belongs to. The vendor is always the host's: user-mode instructions run on the
 * host's processor, so results that differ between vendors are those of the host.
 *
 * Caches and topology are those of a plausible processor: one socket, one thread a core, an L3 that
 * all cores share. The TSC is invariant and its frequency is told, and leaf 80000021h (AMD) or
 * IA32_ARCH_CAPABILITIES (Intel) says that nothing of the processor's speculation needs working
 * around, because a guest's system would only slow itself down by it. Not advertised: AVX-512, AMX,
 * TSX, CET, MPX, protection keys, user interrupts, performance counters, virtualization. */
#include "cpu/cpuid.h"
#include "cpu/xsave.h"

#include <cpuid.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MSR_APIC_BASE 0x1b
#define APIC_BASE_ENABLE (1u << 11)

#define LEAF1_EDX_APIC (1u << 9)
#define LEAF1_EDX_HTT (1u << 28)
#define LEAF1_ECX_OSXSAVE (1u << 27)
#define EXT1_ECX_CMP_LEGACY (1u << 1)
#define EXT1_EDX_SYSCALL (1u << 11)
#define EXT1_EDX_SHARED 0x0183f3ffu /* AMD repeats these bits of leaf 1 EDX */

#define CACHE_LINE 64u
#define APIC_BUS_KHZ 1000000u
#define HYPERVISOR_LEAF 0x40000000u
#define HYPERVISOR_TIMING (HYPERVISOR_LEAF + 0x10)
#define NAME_MAX_LENGTH 32u

struct cpu_model {
    bool has[FEAT_COUNT];
    bool amd;
    char vendor[12]; /* not terminated */
    char brand[49];
    uint32_t signature;
    uint32_t mxcsr_mask;
    unsigned phys_bits;
    unsigned cpus;
};

static const struct feature_row {
    const char *name;
    uint32_t leaf, subleaf;
    enum cpuid_register reg;
    unsigned bit;
    enum cpu_feature_kind kind;
} features[FEAT_COUNT] = {
#define FEATURE(name, flag, leaf, subleaf, reg, bit, kind)                                         \
    [FEAT_##name] = {flag, leaf, subleaf, reg, bit, FEATURE_##kind},
#include "cpu/cpu_features.h"
#undef FEATURE
};

/* Other names under which people know a feature. */
static const struct {
    const char *alias;
    enum cpu_feature feature;
} aliases[] = {
    {"sse3", FEAT_SSE3},        {"lzcnt", FEAT_ABM},
    {"cmpxchg8b", FEAT_CX8},    {"cmpxchg16b", FEAT_CX16},
    {"sha", FEAT_SHA_NI},       {"prefetchw", FEAT_PREFETCHW},
    {"pclmul", FEAT_PCLMULQDQ}, {"tsc_deadline", FEAT_TSC_DEADLINE_TIMER},
};

/* `feature` makes no sense without `needs`. */
static const struct {
    enum cpu_feature feature, needs;
} dependencies[] = {
    {FEAT_MMX, FEAT_FPU},
    {FEAT_MMXEXT, FEAT_MMX},
    {FEAT_FXSR, FEAT_FPU},
    {FEAT_FXSR_OPT, FEAT_FXSR},
    {FEAT_SSE, FEAT_FXSR},
    {FEAT_SSE, FEAT_MMX},
    {FEAT_SSE2, FEAT_SSE},
    {FEAT_SSE3, FEAT_SSE2},
    {FEAT_SSSE3, FEAT_SSE3},
    {FEAT_SSE4_1, FEAT_SSSE3},
    {FEAT_SSE4_2, FEAT_SSE4_1},
    {FEAT_SSE4A, FEAT_SSE3},
    {FEAT_MISALIGNSSE, FEAT_SSE},
    {FEAT_AES, FEAT_SSE2},
    {FEAT_PCLMULQDQ, FEAT_SSE2},
    {FEAT_SHA_NI, FEAT_SSSE3},
    {FEAT_GFNI, FEAT_SSE2},
    {FEAT_XSAVE, FEAT_FXSR},
    {FEAT_XSAVEOPT, FEAT_XSAVE},
    {FEAT_XSAVEC, FEAT_XSAVE},
    {FEAT_XGETBV1, FEAT_XSAVE},
    {FEAT_XSAVES, FEAT_XSAVEC},
    {FEAT_XSAVEERPTR, FEAT_FXSR},
    {FEAT_AVX, FEAT_XSAVE},
    {FEAT_AVX, FEAT_SSE4_2},
    {FEAT_AVX2, FEAT_AVX},
    {FEAT_FMA, FEAT_AVX},
    {FEAT_F16C, FEAT_AVX},
    {FEAT_VAES, FEAT_AVX},
    {FEAT_VAES, FEAT_AES},
    {FEAT_VPCLMULQDQ, FEAT_AVX},
    {FEAT_VPCLMULQDQ, FEAT_PCLMULQDQ},
    {FEAT_AVX_VNNI, FEAT_AVX2},
    {FEAT_X2APIC, FEAT_APIC},
    {FEAT_ARAT, FEAT_APIC},
    {FEAT_TSC_DEADLINE_TIMER, FEAT_APIC},
    {FEAT_TSC_DEADLINE_TIMER, FEAT_TSC},
    {FEAT_TSC_ADJUST, FEAT_TSC},
    {FEAT_NONSTOP_TSC, FEAT_TSC},
    {FEAT_RDTSCP, FEAT_TSC},
    {FEAT_PAE, FEAT_CX8},
    {FEAT_NX, FEAT_PAE},
    {FEAT_LM, FEAT_PAE},
    {FEAT_LM, FEAT_MSR},
    {FEAT_LM, FEAT_SYSCALL},
    {FEAT_PDPE1GB, FEAT_LM},
    {FEAT_LA57, FEAT_LM},
    {FEAT_PCID, FEAT_LM},
    {FEAT_CX16, FEAT_LM},
    {FEAT_LAHF_LM, FEAT_LM},
    {FEAT_FSGSBASE, FEAT_LM},
    {FEAT_CR8_LEGACY, FEAT_APIC},
};

/* Features that only one vendor's processors have, of those that would come by themselves. */
static const enum cpu_feature amd_only[] = {
    FEAT_TOPOEXT,      FEAT_AMD_SSB_NO,        FEAT_BTC_NO,   FEAT_NO_NESTED_DATA_BP,
    FEAT_LFENCE_RDTSC, FEAT_NULL_SEL_CLR_BASE, FEAT_AUTOIBRS, FEAT_SRSO_NO,
    FEAT_TSA_SQ_NO,    FEAT_TSA_L1_NO,         FEAT_FXSR_OPT, FEAT_XSAVEERPTR,
    FEAT_CR8_LEGACY,
};
static const enum cpu_feature intel_only[] = {
    FEAT_SPEC_CTRL,
    FEAT_INTEL_STIBP,
    FEAT_ARCH_CAPABILITIES,
    FEAT_SPEC_CTRL_SSBD,
};

/* The levels of the x86-64 psABI: features that a level adds to the one below. */
static const struct {
    enum cpu_feature feature;
    unsigned level;
} level_features[] = {
    {FEAT_FPU, 1},    {FEAT_CX8, 1},    {FEAT_CMOV, 1},   {FEAT_CLFLUSH, 1}, {FEAT_MMX, 1},
    {FEAT_FXSR, 1},   {FEAT_SSE, 1},    {FEAT_SSE2, 1},   {FEAT_SSE3, 2},    {FEAT_SSSE3, 2},
    {FEAT_SSE4_1, 2}, {FEAT_SSE4_2, 2}, {FEAT_POPCNT, 2}, {FEAT_CX16, 2},    {FEAT_LAHF_LM, 2},
    {FEAT_AVX, 3},    {FEAT_AVX2, 3},   {FEAT_BMI1, 3},   {FEAT_BMI2, 3},    {FEAT_F16C, 3},
    {FEAT_FMA, 3},    {FEAT_ABM, 3},    {FEAT_MOVBE, 3},  {FEAT_XSAVE, 3},
};

#define LEVEL_HOST 0u
static const struct {
    const char *name;
    unsigned level;
    const char *text;
} models[] = {
    {"host", LEVEL_HOST, "everything that Doble supports and this processor has (default)"},
    {"max", LEVEL_HOST, "the same as host"},
    {"x86-64", 1, "the baseline of x86-64: SSE2"},
    {"x86-64-v2", 2, "and CMPXCHG16B, POPCNT, SSE4.2"},
    {"x86-64-v3", 3, "and AVX2, BMI1, BMI2, F16C, FMA, LZCNT, MOVBE"},
};

struct cache {
    unsigned type, level, ways, sets;
    bool shared; /* by all CPUs */
};
static const struct cache caches[] = {
    {1, 1, 8, 64, false},    /* L1 data, 32 KiB */
    {2, 1, 8, 64, false},    /* L1 code, 32 KiB */
    {3, 2, 16, 1024, false}, /* L2, 1 MiB */
    {3, 3, 16, 16384, true}, /* L3, 16 MiB */
};

/* --- the host --- */

static void host_cpuid(uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    uint32_t max;

    memset(out, 0, 4 * sizeof(out[0]));
    max = __get_cpuid_max(leaf & 0x80000000, NULL);
    if (leaf <= max)
        __cpuid_count(leaf, subleaf, out[REG_EAX], out[REG_EBX], out[REG_ECX], out[REG_EDX]);
}

static uint64_t host_xcr0(void)
{
    uint32_t out[4], low, high;

    host_cpuid(1, 0, out);
    if (!(out[REG_ECX] & LEAF1_ECX_OSXSAVE))
        return 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

static uint32_t host_mxcsr_mask(void)
{
    uint8_t area[512] __attribute__((aligned(16))) = {0};
    uint32_t mask;

    __asm__ volatile("fxsave64 %0" : "+m"(area));
    memcpy(&mask, area + 28, sizeof(mask));
    return mask ? mask : 0xffbf; /* SDM vol. 1, 11.6.6 */
}

static bool host_has(enum cpu_feature feature)
{
    const struct feature_row *row = &features[feature];
    uint32_t out[4];

    if (feature == FEAT_AVX && (host_xcr0() & (XCR0_SSE | XCR0_AVX)) != (XCR0_SSE | XCR0_AVX))
        return false;
    host_cpuid(row->leaf, row->subleaf, out);
    return out[row->reg] >> row->bit & 1;
}

/* --- sets of features --- */

static bool is_listed(const enum cpu_feature *list, unsigned count, enum cpu_feature feature)
{
    for (unsigned i = 0; i < count; i++)
        if (list[i] == feature)
            return true;
    return false;
}

static bool vendor_fits(const struct cpu_model *model, enum cpu_feature feature)
{
    return model->amd ? !is_listed(intel_only, ARRAY_SIZE(intel_only), feature)
                      : !is_listed(amd_only, ARRAY_SIZE(amd_only), feature);
}

static void remove_feature(struct cpu_model *model, enum cpu_feature feature)
{
    model->has[feature] = false;
    for (unsigned i = 0; i < ARRAY_SIZE(dependencies); i++)
        if (dependencies[i].needs == feature && model->has[dependencies[i].feature])
            remove_feature(model, dependencies[i].feature);
}

static int add_feature(struct cpu_model *model, enum cpu_feature feature, struct err *err)
{
    const struct feature_row *row = &features[feature];

    if (!vendor_fits(model, feature))
        return err_set(err, -EINVAL,
                       "CPU feature '%s' exists only on %s processors, and this is not one",
                       row->name, model->amd ? "Intel's" : "AMD's");
    if (row->kind == FEATURE_NATIVE && !host_has(feature))
        return err_set(err, -EINVAL,
                       "CPU feature '%s' needs a host processor that has it, and this one doesn't",
                       row->name);
    model->has[feature] = true;
    for (unsigned i = 0; i < ARRAY_SIZE(dependencies); i++) {
        if (dependencies[i].feature != feature || model->has[dependencies[i].needs])
            continue;
        if (add_feature(model, dependencies[i].needs, err) < 0)
            return err->code;
    }
    return 0;
}

/* A feature of the host may lack what it needs, when a hypervisor under us hides some. */
static void drop_incomplete(struct cpu_model *model)
{
    for (unsigned i = 0; i < ARRAY_SIZE(dependencies); i++)
        if (model->has[dependencies[i].feature] && !model->has[dependencies[i].needs])
            remove_feature(model, dependencies[i].feature);
}

static void add_machine_features(struct cpu_model *model)
{
    for (unsigned f = 0; f < FEAT_COUNT; f++)
        if (features[f].kind == FEATURE_MACHINE)
            model->has[f] = vendor_fits(model, f);
}

static void add_host_features(struct cpu_model *model)
{
    for (unsigned f = 0; f < FEAT_COUNT; f++)
        if (features[f].kind == FEATURE_NATIVE || features[f].kind == FEATURE_EMULATED)
            model->has[f] = vendor_fits(model, f) && host_has(f);
}

static int add_level_features(struct cpu_model *model, unsigned level, struct err *err)
{
    for (unsigned i = 0; i < ARRAY_SIZE(level_features); i++)
        if (level_features[i].level <= level &&
            add_feature(model, level_features[i].feature, err) < 0)
            return err->code;
    return 0;
}

/* --- names --- */

static unsigned smaller(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

/* Levenshtein's distance; both are at most NAME_MAX_LENGTH long. */
static unsigned distance(const char *a, const char *b)
{
    unsigned row[NAME_MAX_LENGTH + 1];
    const unsigned n = (unsigned)strlen(b);

    for (unsigned j = 0; j <= n; j++)
        row[j] = j;
    for (unsigned i = 1; a[i - 1]; i++) {
        unsigned diagonal = row[0];

        row[0] = i;
        for (unsigned j = 1; j <= n; j++) {
            const unsigned replace = diagonal + (a[i - 1] != b[j - 1]);

            diagonal = row[j];
            row[j] = smaller(replace, smaller(row[j], row[j - 1]) + 1);
        }
    }
    return row[n];
}

static const char *nearest_feature(const char *name)
{
    const char *best = features[0].name;

    for (unsigned f = 1; f < FEAT_COUNT; f++)
        if (distance(name, features[f].name) < distance(name, best))
            best = features[f].name;
    return best;
}

static const char *nearest_model(const char *name)
{
    const char *best = models[0].name;

    for (unsigned i = 1; i < ARRAY_SIZE(models); i++)
        if (distance(name, models[i].name) < distance(name, best))
            best = models[i].name;
    return best;
}

static enum cpu_feature find_feature(const char *name)
{
    for (unsigned f = 0; f < FEAT_COUNT; f++)
        if (!strcmp(name, features[f].name))
            return f;
    for (unsigned i = 0; i < ARRAY_SIZE(aliases); i++)
        if (!strcmp(name, aliases[i].alias))
            return aliases[i].feature;
    return FEAT_NONE;
}

const char *cpu_feature_name(enum cpu_feature feature)
{
    return feature < FEAT_COUNT ? features[feature].name : "none";
}

/* --- making a model --- */

static void set_brand(struct cpu_model *model, const char *name)
{
    snprintf(model->brand, sizeof(model->brand), "Doble %s processor", name);
}

static void identify_host(struct cpu_model *model)
{
    uint32_t out[4];

    host_cpuid(1, 0, out);
    model->signature = out[REG_EAX];
    host_cpuid(0x80000008, 0, out);
    if ((out[REG_EAX] & 0xff) >= 36 && (out[REG_EAX] & 0xff) <= 52)
        model->phys_bits = out[REG_EAX] & 0xff;
    for (unsigned i = 0; i < 3; i++) {
        host_cpuid(0x80000002 + i, 0, out);
        memcpy(model->brand + i * sizeof(out), out, sizeof(out));
    }
}

/* What all models of this host share; families that Linux and others know no errata of. */
static void identify_generic(struct cpu_model *model, const char *name)
{
    uint32_t out[4];

    host_cpuid(0, 0, out);
    memcpy(model->vendor, &out[REG_EBX], 4);
    memcpy(model->vendor + 4, &out[REG_EDX], 4);
    memcpy(model->vendor + 8, &out[REG_ECX], 4);
    model->amd =
        !memcmp(model->vendor, "AuthenticAMD", 12) || !memcmp(model->vendor, "HygonGenuine", 12);
    model->signature = model->amd ? 0xb00f00 : 0x606a6;
    model->phys_bits = 40;
    model->cpus = 1;
    set_brand(model, name);
}

static int start_from(struct cpu_model *model, const char *name, struct err *err)
{
    for (unsigned i = 0; i < ARRAY_SIZE(models); i++) {
        if (strcmp(name, models[i].name))
            continue;
        identify_generic(model, name);
        add_machine_features(model);
        if (models[i].level != LEVEL_HOST)
            return add_level_features(model, models[i].level, err);
        identify_host(model);
        add_host_features(model);
        drop_incomplete(model);
        return 0;
    }
    return err_set(err, -EINVAL, "CPU model '%s' is not known; did you mean '%s'?", name,
                   nearest_model(name));
}

static int apply_change(struct cpu_model *model, const char *change, struct err *err)
{
    enum cpu_feature feature;

    if (change[0] != '+' && change[0] != '-')
        return err_set(
            err, -EINVAL,
            "CPU feature '%s' must begin with + or -, to say whether to add or to remove it",
            change);
    feature = find_feature(change + 1);
    if (feature == FEAT_NONE)
        return err_set(err, -EINVAL, "CPU feature '%s' is not supported; did you mean '%s'?",
                       change + 1, nearest_feature(change + 1));
    if (change[0] == '+')
        return add_feature(model, feature, err);
    remove_feature(model, feature);
    return 0;
}

/* Copies the next word of a list separated by commas; returns where the rest begins, or NULL after
 * the last word. */
static const char *next_word(const char *list, char word[NAME_MAX_LENGTH + 1], bool *too_long)
{
    const size_t length = strcspn(list, ",");
    const size_t kept = length < NAME_MAX_LENGTH ? length : NAME_MAX_LENGTH;

    *too_long = length > NAME_MAX_LENGTH;
    memcpy(word, list, kept);
    word[kept] = '\0';
    return list[length] ? list + length + 1 : NULL;
}

static int parse_spec(struct cpu_model *model, const char *spec, struct err *err)
{
    char word[NAME_MAX_LENGTH + 1];
    bool first = true;

    while (spec) {
        bool too_long;
        int status;

        spec = next_word(spec, word, &too_long);
        if (too_long)
            return err_set(err, -EINVAL, "'%s...' is too long to be a CPU model or feature", word);
        status = first ? start_from(model, word, err) : apply_change(model, word, err);
        if (status < 0)
            return status;
        first = false;
    }
    return 0;
}

int cpu_model_new(const char *spec, struct cpu_model **model, struct err *err)
{
    struct err ignored = {0};
    struct cpu_model *m = calloc(1, sizeof(*m));
    int status;

    if (!err)
        err = &ignored;
    if (!m)
        return err_set(err, -ENOMEM, "there is no memory for the CPU model");
    status = parse_spec(m, spec && *spec ? spec : "host", err);
    if (status < 0) {
        free(m);
        return status;
    }
    m->mxcsr_mask = host_mxcsr_mask() & (m->has[FEAT_MISALIGNSSE] ? 0x2ffffu : 0xffffu);
    *model = m;
    return 0;
}

void cpu_model_free(struct cpu_model *model)
{
    free(model);
}

void cpu_model_set_cpus(struct cpu_model *model, unsigned cpus)
{
    model->cpus = cpus ? cpus : 1;
}

static const char *availability(enum cpu_feature feature)
{
    if (features[feature].kind == FEATURE_NATIVE)
        return host_has(feature) ? "" : " (not on this host)";
    return features[feature].kind == FEATURE_ASKED ? " (only when asked for)" : "";
}

void cpu_model_list(FILE *out)
{
    fprintf(out, "--cpu MODEL[,+feature][,-feature]...\n\nModels:\n");
    for (unsigned i = 0; i < ARRAY_SIZE(models); i++)
        fprintf(out, "  %-12s %s\n", models[i].name, models[i].text);
    fprintf(out, "\nFeatures:\n");
    for (unsigned f = 0; f < FEAT_COUNT; f++)
        fprintf(out, "  %s%s\n", features[f].name, availability(f));
}

/* --- questions --- */

bool cpu_model_has(const struct cpu_model *model, enum cpu_feature feature)
{
    return feature < FEAT_COUNT && model->has[feature];
}

bool cpu_model_is_amd(const struct cpu_model *model)
{
    return model->amd;
}

unsigned cpu_model_phys_bits(const struct cpu_model *model)
{
    return model->phys_bits;
}

uint32_t cpu_model_signature(const struct cpu_model *model)
{
    return model->signature;
}

uint64_t cpu_model_xcr0(const struct cpu_model *model)
{
    if (!model->has[FEAT_XSAVE])
        return XCR0_X87;
    return XCR0_X87 | (model->has[FEAT_SSE] ? XCR0_SSE : 0u) |
           (model->has[FEAT_AVX] ? XCR0_AVX : 0u);
}

uint32_t cpu_model_mxcsr_mask(const struct cpu_model *model)
{
    return model->mxcsr_mask;
}

/* --- the leaves --- */

static void add_feature_bits(const struct cpu_model *model, uint32_t leaf, uint32_t subleaf,
                             uint32_t out[4])
{
    for (unsigned f = 0; f < FEAT_COUNT; f++)
        if (model->has[f] && features[f].leaf == leaf && features[f].subleaf == subleaf)
            out[features[f].reg] |= 1u << features[f].bit;
}

static uint32_t max_basic_leaf(const struct cpu_model *model)
{
    return model->amd ? 0xd : 0x16;
}

static uint32_t max_extended_leaf(const struct cpu_model *model)
{
    return model->amd ? 0x80000021 : 0x80000008;
}

/* Bits of an APIC ID that number the cores. */
static unsigned core_bits(const struct cpu_model *model)
{
    unsigned bits = 0;

    while (bits < 8 && 1u << bits < model->cpus)
        bits++;
    return bits;
}

static void leaf_vendor(const struct cpu_model *model, uint32_t max, uint32_t out[4])
{
    out[REG_EAX] = max;
    memcpy(&out[REG_EBX], model->vendor, 4);
    memcpy(&out[REG_EDX], model->vendor + 4, 4);
    memcpy(&out[REG_ECX], model->vendor + 8, 4);
}

static bool apic_is_enabled(const struct cpu *cpu)
{
    uint64_t base = APIC_BASE_ENABLE;

    if (!cpu->apic.rdmsr)
        return true;
    bus_lock(cpu->bus);
    if (!cpu->apic.rdmsr(cpu->apic.opaque, MSR_APIC_BASE, &base))
        base = APIC_BASE_ENABLE;
    bus_unlock(cpu->bus);
    return base & APIC_BASE_ENABLE;
}

static void leaf_features(const struct cpu *cpu, uint32_t out[4])
{
    const struct cpu_model *model = cpu->model;
    const unsigned cpus = smaller(model->cpus, 255);

    out[REG_EAX] = model->signature;
    out[REG_EBX] = (cpu->index & 0xff) << 24 | cpus << 16 | (CACHE_LINE / 8) << 8;
    add_feature_bits(model, 1, 0, out);
    if (cpu->cr4 & CR4_OSXSAVE)
        out[REG_ECX] |= LEAF1_ECX_OSXSAVE;
    if ((out[REG_EDX] & LEAF1_EDX_APIC) && !apic_is_enabled(cpu))
        out[REG_EDX] &= ~LEAF1_EDX_APIC;
    if (cpus > 1)
        out[REG_EDX] |= LEAF1_EDX_HTT;
}

/* Leaf 4 and AMD's 8000001Dh differ only in the number of cores, which AMD has elsewhere. */
static void leaf_cache(const struct cpu_model *model, uint32_t subleaf, uint32_t out[4])
{
    const struct cache *cache;
    unsigned sharing;

    if (subleaf >= ARRAY_SIZE(caches))
        return;
    cache = &caches[subleaf];
    sharing = cache->shared ? 1u << core_bits(model) : 1;
    out[REG_EAX] = cache->type | cache->level << 5 | 1u << 8 | (sharing - 1) << 14;
    if (!model->amd)
        out[REG_EAX] |= smaller((1u << core_bits(model)) - 1, 63) << 26;
    out[REG_EBX] = (CACHE_LINE - 1) | (cache->ways - 1) << 22;
    out[REG_ECX] = cache->sets - 1;
}

static void leaf_monitor(const struct cpu_model *model, uint32_t out[4])
{
    if (!model->has[FEAT_MONITOR])
        return;
    out[REG_EAX] = out[REG_EBX] = CACHE_LINE;
    out[REG_ECX] = 3; /* EMX: hints are enumerated; IBE: interrupts can end MWAIT though IF = 0 */
}

static void leaf_7(const struct cpu_model *model, uint32_t subleaf, uint32_t out[4])
{
    add_feature_bits(model, 7, subleaf, out);
    if (subleaf == 0)
        out[REG_EAX] = model->has[FEAT_AVX_VNNI] ? 1 : 0;
}

static void leaf_topology(const struct cpu *cpu, uint32_t subleaf, uint32_t out[4])
{
    const uint32_t smt = 1, core = 2;

    out[REG_ECX] = subleaf & 0xff;
    out[REG_EDX] = cpu->index;
    if (subleaf == 0) {
        out[REG_EBX] = 1;
        out[REG_ECX] |= smt << 8;
    } else if (subleaf == 1) {
        out[REG_EAX] = core_bits(cpu->model);
        out[REG_EBX] = cpu->model->cpus;
        out[REG_ECX] |= core << 8;
    }
}

static void leaf_xsave(const struct cpu *cpu, uint32_t subleaf, uint32_t out[4])
{
    const struct cpu_model *model = cpu->model;
    const uint64_t supported = cpu_model_xcr0(model);

    if (!model->has[FEAT_XSAVE])
        return;
    if (subleaf == 0) {
        out[REG_EAX] = (uint32_t)supported;
        out[REG_EBX] = xsave_size(cpu->xcr0);
        out[REG_ECX] = xsave_size(supported);
    } else if (subleaf == 1) {
        add_feature_bits(model, 0xd, 1, out);
        if (model->has[FEAT_XSAVEC])
            out[REG_EBX] = xsave_size(cpu->xcr0 | cpu->xss);
    } else if (subleaf == 2 && (supported & XCR0_AVX)) {
        out[REG_EAX] = XSAVE_AVX_SIZE;
        out[REG_EBX] = XSAVE_AVX_OFFSET;
    }
}

/* TSC frequency = crystal * EBX / EAX. The crystal is the clock of the local APIC's timer, as on
 * Intel's processors. Linux multiplies kHz in 32 bits, so EBX is the numerator of the best fraction
 * for which that doesn't overflow; it is off by less than one in a million. */
static void leaf_tsc(const struct cpu *cpu, uint32_t out[4])
{
    const uint64_t khz = cpu->clock->tsc_khz, largest = UINT32_MAX / APIC_BUS_KHZ;
    uint64_t best_error = UINT64_MAX;

    for (uint64_t q = 1; q <= 1000; q++) {
        const uint64_t p = (khz * q + APIC_BUS_KHZ / 2) / APIC_BUS_KHZ;
        const int64_t difference = (int64_t)(p * APIC_BUS_KHZ - khz * q);
        /* |p/q - ratio|, scaled */
        const uint64_t error = (uint64_t)(difference < 0 ? -difference : difference) * 1000 / q;

        if (p > largest)
            break;
        if (error >= best_error)
            continue;
        best_error = error;
        out[REG_EAX] = (uint32_t)q;
        out[REG_EBX] = (uint32_t)p;
    }
    out[REG_ECX] = APIC_BUS_KHZ * 1000;
}

static void leaf_frequency(const struct cpu *cpu, uint32_t out[4])
{
    out[REG_EAX] = out[REG_EBX] = (uint32_t)((cpu->clock->tsc_khz + 500) / 1000);
    out[REG_ECX] = 100;
}

static void leaf_hypervisor(const struct cpu *cpu, uint32_t leaf, uint32_t out[4])
{
    if (leaf == HYPERVISOR_LEAF) {
        out[REG_EAX] = HYPERVISOR_TIMING;
        memcpy(&out[REG_EBX], "DobleDobleDb", 12);
    } else if (leaf == HYPERVISOR_TIMING) {
        out[REG_EAX] = (uint32_t)cpu->clock->tsc_khz;
        out[REG_EBX] = APIC_BUS_KHZ;
    }
}

static void leaf_extended_features(const struct cpu *cpu, uint32_t out[4])
{
    const struct cpu_model *model = cpu->model;
    uint32_t basic[4] = {0};

    add_feature_bits(model, 0x80000001, 0, out);
    if (model->amd) {
        leaf_features(cpu, basic);
        out[REG_EAX] = model->signature;
        out[REG_ECX] |= model->cpus > 1 ? EXT1_ECX_CMP_LEGACY : 0;
        out[REG_EDX] |= basic[REG_EDX] & EXT1_EDX_SHARED;
    } else if (!cpu_is_64bit(cpu)) {
        out[REG_EDX] &= ~EXT1_EDX_SYSCALL; /* Intel has SYSCALL in 64-bit mode only */
    }
}

static unsigned cache_kib(const struct cache *cache)
{
    return cache->ways * cache->sets * CACHE_LINE / 1024;
}

/* AMD's L1 descriptors; 64 entries of fully associative TLB for everything. */
static void leaf_l1(const struct cpu_model *model, uint32_t out[4])
{
    if (!model->amd)
        return;
    out[REG_EAX] = out[REG_EBX] = 0xff40ff40;
    for (unsigned i = 0; i < 2; i++)
        out[REG_ECX + i] =
            cache_kib(&caches[i]) << 24 | caches[i].ways << 16 | 1u << 8 | CACHE_LINE;
}

/* L2 and, on AMD, L3 in units of 512 KiB. 8 stands for 16 ways, 4 for 4 ways. */
static void leaf_l2(const struct cpu_model *model, uint32_t out[4])
{
    const uint32_t sixteen_ways = 8u << 12;

    out[REG_ECX] = cache_kib(&caches[2]) << 16 | sixteen_ways | CACHE_LINE;
    if (!model->amd)
        return;
    out[REG_EAX] = out[REG_EBX] = 0x42004200;
    out[REG_ECX] |= 1u << 8;
    out[REG_EDX] = cache_kib(&caches[3]) / 512 << 18 | sixteen_ways | 1u << 8 | CACHE_LINE;
}

static void leaf_address_sizes(const struct cpu_model *model, uint32_t out[4])
{
    const uint32_t linear = model->has[FEAT_LA57] ? 57 : 48;

    add_feature_bits(model, 0x80000008, 0, out);
    out[REG_EAX] = model->phys_bits | linear << 8;
    if (model->amd)
        out[REG_ECX] = smaller(model->cpus - 1, 255) | core_bits(model) << 12;
}

static void basic_leaf(const struct cpu *cpu, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    const struct cpu_model *model = cpu->model;

    switch (leaf) {
    case 0: leaf_vendor(model, max_basic_leaf(model), out); break;
    case 1: leaf_features(cpu, out); break;
    case 2: out[REG_EAX] = model->amd ? 0 : 0xff0001; break; /* see leaf 4 */
    case 4:
        if (!model->amd)
            leaf_cache(model, subleaf, out);
        break;
    case 5: leaf_monitor(model, out); break;
    case 6: add_feature_bits(model, 6, 0, out); break;
    case 7: leaf_7(model, subleaf, out); break;
    case 0xb: leaf_topology(cpu, subleaf, out); break;
    case 0xd: leaf_xsave(cpu, subleaf, out); break;
    case 0x15: leaf_tsc(cpu, out); break;
    case 0x16: leaf_frequency(cpu, out); break;
    default: break;
    }
}

static void extended_leaf(const struct cpu *cpu, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    const struct cpu_model *model = cpu->model;

    switch (leaf) {
    case 0x80000000:
        leaf_vendor(model, max_extended_leaf(model), out);
        if (!model->amd)
            out[REG_EBX] = out[REG_ECX] = out[REG_EDX] = 0;
        break;
    case 0x80000001: leaf_extended_features(cpu, out); break;
    case 0x80000002:
    case 0x80000003:
    case 0x80000004: memcpy(out, model->brand + (leaf - 0x80000002) * 16, 16); break;
    case 0x80000005: leaf_l1(model, out); break;
    case 0x80000006: leaf_l2(model, out); break;
    case 0x80000008: leaf_address_sizes(model, out); break;
    case 0x8000001d: leaf_cache(model, subleaf, out); break;
    case 0x8000001e:
        out[REG_EAX] = cpu->index;
        out[REG_EBX] = cpu->index & 0xff;
        break;
    default: add_feature_bits(model, leaf, 0, out); break;
    }
}

/* A leaf beyond the last gives nothing on AMD's processors, and the last basic one on Intel's. */
void cpu_model_cpuid(const struct cpu *cpu, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    const struct cpu_model *model = cpu->model;

    memset(out, 0, 4 * sizeof(out[0]));
    if (leaf <= max_basic_leaf(model))
        basic_leaf(cpu, leaf, subleaf, out);
    else if (leaf >= 0x80000000 && leaf <= max_extended_leaf(model))
        extended_leaf(cpu, leaf, subleaf, out);
    else if (model->has[FEAT_HYPERVISOR] && leaf - HYPERVISOR_LEAF < 0x100)
        leaf_hypervisor(cpu, leaf, out);
    else if (!model->amd)
        basic_leaf(cpu, max_basic_leaf(model), subleaf, out);
}

bool op_cpuid(struct cpu *cpu, const struct insn *in)
{
    static const unsigned targets[4] = {RAX, RBX, RCX, RDX};
    uint32_t out[4];

    (void)in;
    cpu_model_cpuid(cpu, (uint32_t)cpu->gpr[RAX], (uint32_t)cpu->gpr[RCX], out);
    for (unsigned i = 0; i < 4; i++)
        cpu->gpr[targets[i]] = out[i];
    return true;
}
