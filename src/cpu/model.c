/* model.c - CPU models: from a text like "host,-avx2" to a set of features.
 *
 * A model is a set of features, with who made the processor and which family it belongs to. The
 * vendor is always the host's: user-mode instructions run on the host's processor, so results that
 * differ between vendors are those of the host. Features need one another (AVX2 needs AVX, AVX
 * needs XSAVE); adding one adds what it needs, removing one removes what needs it. Not on offer:
 * AVX-512, AMX, TSX, CET, MPX, protection keys, user interrupts, performance counters,
 * virtualization. */
#include "cpu/model.h"
#include "cpu/cpu.h"

#include <cpuid.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LEAF1_ECX_OSXSAVE (1u << 27)
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

unsigned cpu_model_cpus(const struct cpu_model *model)
{
    return model->cpus;
}

const char *cpu_model_vendor(const struct cpu_model *model)
{
    return model->vendor;
}

const char *cpu_model_brand(const struct cpu_model *model)
{
    return model->brand;
}

void cpu_model_feature_bits(const struct cpu_model *model, uint32_t leaf, uint32_t subleaf,
                            uint32_t out[4])
{
    for (unsigned f = 0; f < FEAT_COUNT; f++)
        if (model->has[f] && features[f].leaf == leaf && features[f].subleaf == subleaf)
            out[features[f].reg] |= 1u << features[f].bit;
}
