/* cpuid.c - CPUID under KVM: the table is the CPU model's, if KVM can do all that is in it.
 *
 * A feature is offered to a guest only if KVM says that it supports it. Excepted are features that
 * KVM's report leaves out although they work: properties of the machine (its timers, the word
 * "hypervisor", how fast string instructions are). The word of a processor that it needs no
 * workaround counts only if KVM repeats it: under KVM the guest meets the real processor. */
#include "engine/kvm/kvm.h"

#include "cpu/cpuid.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define MAX_ENTRIES 256u
#define INDEXED KVM_CPUID_FLAG_SIGNIFCANT_INDEX
#define EXT1_EDX_SYSCALL (1u << 11)

static const struct {
    uint32_t leaf, subleaf;
    enum cpuid_register reg;
    unsigned bit;
} places[FEAT_COUNT] = {
#define FEATURE(name, flag, leaf, subleaf, reg, bit, kind)                                         \
    [FEAT_##name] = {leaf, subleaf, reg, bit},
#include "cpu/cpu_features.h"
#undef FEATURE
};

/* KVM_CAP_TSC_DEADLINE_TIMER is checked elsewhere; the others need nothing of KVM. */
static const enum cpu_feature always[] = {
    FEAT_TSC_DEADLINE_TIMER,
    FEAT_HYPERVISOR,
    FEAT_ARAT,
    FEAT_NONSTOP_TSC,
    FEAT_TOPOEXT,
    FEAT_ERMS,
    FEAT_FSRM,
};

static struct kvm_cpuid2 *new_table(struct err *err)
{
    struct kvm_cpuid2 *table =
        calloc(1, sizeof *table + MAX_ENTRIES * sizeof(struct kvm_cpuid_entry2));

    if (table)
        table->nent = MAX_ENTRIES;
    else
        err_set(err, -ENOMEM, "not enough memory for the CPUID of KVM");
    return table;
}

static uint32_t supported(const struct kvm_cpuid2 *table, uint32_t leaf, uint32_t subleaf,
                          enum cpuid_register reg)
{
    for (unsigned i = 0; i < table->nent; i++) {
        const struct kvm_cpuid_entry2 *e = &table->entries[i];
        const uint32_t out[4] = {e->eax, e->ebx, e->ecx, e->edx};

        if (e->function == leaf && (!(e->flags & INDEXED) || e->index == subleaf))
            return out[reg];
    }
    return 0;
}

int kvm_get_features(int system_fd, bool has[FEAT_COUNT], struct err *err)
{
    struct kvm_cpuid2 *table = new_table(err);

    if (!table)
        return err->code;
    if (ioctl(system_fd, KVM_GET_SUPPORTED_CPUID, table) < 0) {
        err_set(err, -errno, "KVM doesn't say what it supports: %s; use '--engine translate'",
                strerror(errno));
        free(table);
        return err->code;
    }
    for (unsigned f = 0; f < FEAT_COUNT; f++)
        has[f] =
            supported(table, places[f].leaf, places[f].subleaf, places[f].reg) >> places[f].bit & 1;
    for (unsigned i = 0; i < ARRAY_SIZE(always); i++)
        has[always[i]] = true;
    has[FEAT_ARCH_CAPABILITIES] = false; /* ours says more than any processor's */
    free(table);
    return 0;
}

/* --- the guest's table --- */

static bool is_indexed(uint32_t leaf)
{
    return leaf == 4 || leaf == 7 || leaf == 0xb || leaf == 0xd || leaf == 0x8000001d;
}

static void add(const struct cpu *cpu, struct kvm_cpuid2 *table, uint32_t leaf, uint32_t subleaf)
{
    struct kvm_cpuid_entry2 *e = &table->entries[table->nent];
    uint32_t out[4];

    if (table->nent == MAX_ENTRIES)
        return;
    cpu_model_cpuid(cpu, leaf, subleaf, out);
    if (leaf == 0x80000001 && cpu_model_has(cpu->model, FEAT_SYSCALL))
        out[REG_EDX] |= EXT1_EDX_SYSCALL; /* the model's answer depends on the mode */
    *e = (struct kvm_cpuid_entry2){.function = leaf,
                                   .index = subleaf,
                                   .flags = is_indexed(leaf) ? INDEXED : 0,
                                   .eax = out[REG_EAX],
                                   .ebx = out[REG_EBX],
                                   .ecx = out[REG_ECX],
                                   .edx = out[REG_EDX]};
    table->nent++;
}

static void add_range(const struct cpu *cpu, struct kvm_cpuid2 *table, uint32_t first)
{
    uint32_t out[4];

    cpu_model_cpuid(cpu, first, 0, out);
    for (uint32_t leaf = first; leaf <= out[REG_EAX]; leaf++) {
        const unsigned subleaves = is_indexed(leaf) ? 4 : 1;

        for (unsigned i = 0; i < subleaves; i++)
            add(cpu, table, leaf, i);
    }
}

int kvm_set_cpuid(const struct cpu *cpu, struct kvm *k, struct err *err)
{
    struct kvm_cpuid2 *table = new_table(err);
    int rc = 0;

    if (!table)
        return err->code;
    table->nent = 0;
    add_range(cpu, table, 0);
    if (cpu_model_has(cpu->model, FEAT_HYPERVISOR))
        add_range(cpu, table, 0x40000000);
    add_range(cpu, table, 0x80000000);
    if (ioctl(k->vcpu_fd, KVM_SET_CPUID2, table) < 0)
        rc = err_set(err, -errno, "KVM doesn't take the CPU model: %s; use '--engine translate'",
                     strerror(errno));
    free(table);
    return rc;
}
