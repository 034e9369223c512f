/* msr.c - model-specific registers under KVM: which are KVM's, and which stay ours.
 *
 * Registers that the processor itself works with (SYSCALL's entry points, bases, page attributes)
 * are KVM's while the guest runs; kvm_lend_msrs() and kvm_take_msrs() carry them over. A filter
 * lets the guest reach only those. Every other one exits, and gets the answer that cpu/msr.c has
 * for all engines. The time-stamp counter is read without an exit, but written by us, because guest
 * time is the clock's. Registers of an x2APIC are KVM's without passing the filter. */
#include "engine/kvm/kvm.h"

#include "cpu/msr.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define MSR_TSC 0x10
#define MSR_APIC_BASE 0x1b
#define MSR_TSC_ADJUST 0x3b
#define MSR_PRED_CMD 0x49
#define MSR_TSC_DEADLINE 0x6e0
#define MSR_EFER 0xc0000080
#define MSR_FS_BASE 0xc0000100
#define MSR_GS_BASE 0xc0000101

/* Fields of struct cpu that are lent. */
static const struct {
    uint32_t msr;
    size_t offset;
} plain[] = {
    {0x48, offsetof(struct cpu, spec_ctrl)},
    {0x174, offsetof(struct cpu, sysenter_cs)},
    {0x175, offsetof(struct cpu, sysenter_esp)},
    {0x176, offsetof(struct cpu, sysenter_eip)},
    {0x277, offsetof(struct cpu, pat)},
    {0xda0, offsetof(struct cpu, xss)},
    {0xc0000081, offsetof(struct cpu, star)},
    {0xc0000082, offsetof(struct cpu, lstar)},
    {0xc0000083, offsetof(struct cpu, cstar)},
    {0xc0000084, offsetof(struct cpu, fmask)},
    {0xc0000102, offsetof(struct cpu, kernel_gs_base)},
    {0xc0000103, offsetof(struct cpu, tsc_aux)},
};
_Static_assert(ARRAY_SIZE(plain) <= KVM_PLAIN_MSRS, "k->msrs is too small");

/* Others that the guest reaches without an exit: in KVM's special registers, or its APIC's. */
static const uint32_t passed[] = {MSR_APIC_BASE, MSR_PRED_CMD, MSR_TSC_DEADLINE,
                                  MSR_EFER,      MSR_FS_BASE,  MSR_GS_BASE};

/* --- the filter --- */

#define LOW_COUNT 0x1000u
#define HIGH_BASE 0xc0000080u
#define HIGH_COUNT 0x100u

struct bitmaps {
    uint8_t low_read[LOW_COUNT / 8], low_write[LOW_COUNT / 8];
    uint8_t high_read[HIGH_COUNT / 8], high_write[HIGH_COUNT / 8];
};

static void set_bit(uint8_t *bitmap, uint32_t bit)
{
    bitmap[bit / 8] |= (uint8_t)(1u << bit % 8);
}

static void allow_read(struct bitmaps *b, uint32_t msr)
{
    if (msr < LOW_COUNT)
        set_bit(b->low_read, msr);
    else
        set_bit(b->high_read, msr - HIGH_BASE);
}

static void allow(struct bitmaps *b, uint32_t msr)
{
    allow_read(b, msr);
    if (msr < LOW_COUNT)
        set_bit(b->low_write, msr);
    else
        set_bit(b->high_write, msr - HIGH_BASE);
}

static int set_filter(struct kvm *k, struct bitmaps *b)
{
    struct kvm_msr_filter filter = {
        .flags = KVM_MSR_FILTER_DEFAULT_DENY,
        .ranges = {{KVM_MSR_FILTER_READ, LOW_COUNT, 0, b->low_read},
                   {KVM_MSR_FILTER_WRITE, LOW_COUNT, 0, b->low_write},
                   {KVM_MSR_FILTER_READ, HIGH_COUNT, HIGH_BASE, b->high_read},
                   {KVM_MSR_FILTER_WRITE, HIGH_COUNT, HIGH_BASE, b->high_write}},
    };

    for (unsigned i = 0; i < k->msr_count; i++)
        allow(b, k->msrs[i]);
    for (unsigned i = 0; i < ARRAY_SIZE(passed); i++)
        allow(b, passed[i]);
    allow_read(b, MSR_TSC);
    return ioctl(k->vm_fd, KVM_X86_SET_MSR_FILTER, &filter);
}

/* --- which of them KVM has --- */

static struct kvm_msr_list *ask_list(int system_fd)
{
    struct kvm_msr_list size = {0}, *list;

    if (ioctl(system_fd, KVM_GET_MSR_INDEX_LIST, &size) == 0 || errno != E2BIG)
        return NULL;
    list = calloc(1, sizeof *list + size.nmsrs * sizeof list->indices[0]);
    if (!list)
        return NULL;
    list->nmsrs = size.nmsrs;
    if (ioctl(system_fd, KVM_GET_MSR_INDEX_LIST, list) == 0)
        return list;
    free(list);
    return NULL;
}

static void choose(struct kvm *k, const struct kvm_msr_list *list)
{
    for (unsigned p = 0; p < ARRAY_SIZE(plain); p++)
        for (unsigned i = 0; i < list->nmsrs; i++)
            if (list->indices[i] == plain[p].msr) {
                k->msrs[k->msr_count++] = plain[p].msr;
                break;
            }
}

int kvm_set_up_msrs(struct kvm *k, struct err *err)
{
    struct kvm_enable_cap cap = {.cap = KVM_CAP_X86_USER_SPACE_MSR,
                                 .args = {KVM_MSR_EXIT_REASON_FILTER}};
    struct kvm_msr_list *list = ask_list(k->system_fd);
    struct bitmaps *bitmaps = calloc(1, sizeof *bitmaps);
    int rc = 0;

    if (list)
        choose(k, list);
    if (!list || !bitmaps || ioctl(k->vm_fd, KVM_ENABLE_CAP, &cap) < 0 ||
        set_filter(k, bitmaps) < 0)
        rc =
            err_set(err, -errno,
                    "KVM doesn't divide the model-specific registers: %s; use '--engine translate'",
                    strerror(errno));
    free(list);
    free(bitmaps);
    return rc;
}

/* --- lending --- */

/* The list that KVM takes, with room for its entries. */
union msr_list {
    struct kvm_msrs head;
    uint8_t room[sizeof(struct kvm_msrs) + KVM_PLAIN_MSRS * sizeof(struct kvm_msr_entry)];
};

int kvm_write_msr(struct kvm *k, uint32_t msr, uint64_t value)
{
    union msr_list list = {.head.nmsrs = 1};

    list.head.entries[0] = (struct kvm_msr_entry){.index = msr, .data = value};
    return ioctl(k->vcpu_fd, KVM_SET_MSRS, &list) == 1 ? 0 : -1;
}

int kvm_read_msr(struct kvm *k, uint32_t msr, uint64_t *value)
{
    union msr_list list = {.head.nmsrs = 1};

    list.head.entries[0].index = msr;
    if (ioctl(k->vcpu_fd, KVM_GET_MSRS, &list) != 1)
        return -1;
    *value = list.head.entries[0].data;
    return 0;
}

static uint64_t *field_of(const struct cpu *cpu, uint32_t msr)
{
    unsigned i = 0;

    while (plain[i].msr != msr)
        i++;
    return (uint64_t *)((char *)cpu + plain[i].offset);
}

int kvm_lend_msrs(const struct cpu *cpu, struct kvm *k, struct err *err)
{
    union msr_list list = {.head.nmsrs = k->msr_count};
    struct kvm_msr_entry *e = list.head.entries;
    int done;

    for (unsigned i = 0; i < k->msr_count; i++)
        e[i] = (struct kvm_msr_entry){.index = k->msrs[i], .data = *field_of(cpu, k->msrs[i])};
    done = ioctl(k->vcpu_fd, KVM_SET_MSRS, &list);
    if (done == (int)k->msr_count)
        return 0;
    if (done > 0)
        e += done; /* the one at which it stopped */
    return err_set(err, -EIO, "KVM doesn't take the value %#llx of MSR %#x",
                   (unsigned long long)e->data, e->index);
}

int kvm_take_msrs(struct cpu *cpu, struct kvm *k, struct err *err)
{
    union msr_list list = {.head.nmsrs = k->msr_count};

    for (unsigned i = 0; i < k->msr_count; i++)
        list.head.entries[i].index = k->msrs[i];
    if (ioctl(k->vcpu_fd, KVM_GET_MSRS, &list) != (int)k->msr_count)
        return err_set(err, -EIO, "KVM doesn't tell the guest's MSRs");
    for (unsigned i = 0; i < k->msr_count; i++)
        *field_of(cpu, k->msrs[i]) = list.head.entries[i].data;
    return 0;
}

/* --- exits --- */

void kvm_exit_rdmsr(struct cpu *cpu)
{
    struct kvm_run *run = kvm_of(cpu)->run;
    uint64_t value = 0;

    run->msr.error = !msr_read(cpu, run->msr.index, &value);
    run->msr.data = value;
}

/* The guest's TSC has moved; a deadline given in it has not. */
static void move_tsc(const struct cpu *cpu, struct kvm *k)
{
    uint64_t deadline;

    (void)kvm_set_tsc_offset(cpu, k);
    if (kvm_read_msr(k, MSR_TSC_DEADLINE, &deadline) == 0 && deadline)
        (void)kvm_write_msr(k, MSR_TSC_DEADLINE, deadline);
}

void kvm_exit_wrmsr(struct cpu *cpu)
{
    struct kvm *k = kvm_of(cpu);
    const uint32_t msr = k->run->msr.index;

    k->run->msr.error = !msr_write(cpu, msr, k->run->msr.data);
    if (msr == MSR_TSC || msr == MSR_TSC_ADJUST)
        move_tsc(cpu, k);
}
