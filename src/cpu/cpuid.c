/* cpuid.c - the CPUID instruction.
 *
 * SDM vol. 2, CPUID; AMD APM vol. 3, appendix E. Feature bits come from the model. Caches and
 * topology are those of a plausible processor: one socket, one thread a core, an L3 that all cores
 * share. The TSC is invariant and its frequency is told, and leaf 80000021h (AMD) or
 * IA32_ARCH_CAPABILITIES (Intel) says that nothing of the processor's speculation needs working
 * around, because a guest's system would only slow itself down by it. */
#include "cpu/cpuid.h"
#include "cpu/xsave.h"

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

static unsigned smaller(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

static uint32_t max_basic_leaf(const struct cpu_model *model)
{
    return cpu_model_is_amd(model) ? 0xd : 0x16;
}

static uint32_t max_extended_leaf(const struct cpu_model *model)
{
    return cpu_model_is_amd(model) ? 0x80000021 : 0x80000008;
}

/* Bits of an APIC ID that number the cores. */
static unsigned core_bits(const struct cpu_model *model)
{
    unsigned bits = 0;

    while (bits < 8 && 1u << bits < cpu_model_cpus(model))
        bits++;
    return bits;
}

static void leaf_vendor(const struct cpu_model *model, uint32_t max, uint32_t out[4])
{
    out[REG_EAX] = max;
    memcpy(&out[REG_EBX], cpu_model_vendor(model), 4);
    memcpy(&out[REG_EDX], cpu_model_vendor(model) + 4, 4);
    memcpy(&out[REG_ECX], cpu_model_vendor(model) + 8, 4);
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
    const unsigned cpus = smaller(cpu_model_cpus(model), 255);

    out[REG_EAX] = cpu_model_signature(model);
    out[REG_EBX] = (cpu->index & 0xff) << 24 | cpus << 16 | (CACHE_LINE / 8) << 8;
    cpu_model_feature_bits(model, 1, 0, out);
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
    if (!cpu_model_is_amd(model))
        out[REG_EAX] |= smaller((1u << core_bits(model)) - 1, 63) << 26;
    out[REG_EBX] = (CACHE_LINE - 1) | (cache->ways - 1) << 22;
    out[REG_ECX] = cache->sets - 1;
}

static void leaf_monitor(const struct cpu_model *model, uint32_t out[4])
{
    if (!cpu_model_has(model, FEAT_MONITOR))
        return;
    out[REG_EAX] = out[REG_EBX] = CACHE_LINE;
    out[REG_ECX] = 3; /* EMX: hints are enumerated; IBE: interrupts can end MWAIT though IF = 0 */
}

static void leaf_7(const struct cpu_model *model, uint32_t subleaf, uint32_t out[4])
{
    cpu_model_feature_bits(model, 7, subleaf, out);
    if (subleaf == 0)
        out[REG_EAX] = cpu_model_has(model, FEAT_AVX_VNNI) ? 1 : 0;
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
        out[REG_EBX] = cpu_model_cpus(cpu->model);
        out[REG_ECX] |= core << 8;
    }
}

static void leaf_xsave(const struct cpu *cpu, uint32_t subleaf, uint32_t out[4])
{
    const struct cpu_model *model = cpu->model;
    const uint64_t supported = cpu_model_xcr0(model);

    if (!cpu_model_has(model, FEAT_XSAVE))
        return;
    if (subleaf == 0) {
        out[REG_EAX] = (uint32_t)supported;
        out[REG_EBX] = xsave_size(cpu->xcr0);
        out[REG_ECX] = xsave_size(supported);
    } else if (subleaf == 1) {
        cpu_model_feature_bits(model, 0xd, 1, out);
        if (cpu_model_has(model, FEAT_XSAVEC))
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

    cpu_model_feature_bits(model, 0x80000001, 0, out);
    if (cpu_model_is_amd(model)) {
        leaf_features(cpu, basic);
        out[REG_EAX] = cpu_model_signature(model);
        out[REG_ECX] |= cpu_model_cpus(model) > 1 ? EXT1_ECX_CMP_LEGACY : 0;
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
    if (!cpu_model_is_amd(model))
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
    if (!cpu_model_is_amd(model))
        return;
    out[REG_EAX] = out[REG_EBX] = 0x42004200;
    out[REG_ECX] |= 1u << 8;
    out[REG_EDX] = cache_kib(&caches[3]) / 512 << 18 | sixteen_ways | 1u << 8 | CACHE_LINE;
}

static void leaf_address_sizes(const struct cpu_model *model, uint32_t out[4])
{
    const uint32_t linear = cpu_model_has(model, FEAT_LA57) ? 57 : 48;

    cpu_model_feature_bits(model, 0x80000008, 0, out);
    out[REG_EAX] = cpu_model_phys_bits(model) | linear << 8;
    if (cpu_model_is_amd(model))
        out[REG_ECX] = smaller(cpu_model_cpus(model) - 1, 255) | core_bits(model) << 12;
}

static void basic_leaf(const struct cpu *cpu, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    const struct cpu_model *model = cpu->model;

    switch (leaf) {
    case 0: leaf_vendor(model, max_basic_leaf(model), out); break;
    case 1: leaf_features(cpu, out); break;
    case 2: out[REG_EAX] = cpu_model_is_amd(model) ? 0 : 0xff0001; break; /* see leaf 4 */
    case 4:
        if (!cpu_model_is_amd(model))
            leaf_cache(model, subleaf, out);
        break;
    case 5: leaf_monitor(model, out); break;
    case 6: cpu_model_feature_bits(model, 6, 0, out); break;
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
        if (!cpu_model_is_amd(model))
            out[REG_EBX] = out[REG_ECX] = out[REG_EDX] = 0;
        break;
    case 0x80000001: leaf_extended_features(cpu, out); break;
    case 0x80000002:
    case 0x80000003:
    case 0x80000004: memcpy(out, cpu_model_brand(model) + (leaf - 0x80000002) * 16, 16); break;
    case 0x80000005: leaf_l1(model, out); break;
    case 0x80000006: leaf_l2(model, out); break;
    case 0x80000008: leaf_address_sizes(model, out); break;
    case 0x8000001d: leaf_cache(model, subleaf, out); break;
    case 0x8000001e:
        out[REG_EAX] = cpu->index;
        out[REG_EBX] = cpu->index & 0xff;
        break;
    default: cpu_model_feature_bits(model, leaf, 0, out); break;
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
    else if (cpu_model_has(model, FEAT_HYPERVISOR) && leaf - HYPERVISOR_LEAF < 0x100)
        leaf_hypervisor(cpu, leaf, out);
    else if (!cpu_model_is_amd(model))
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
