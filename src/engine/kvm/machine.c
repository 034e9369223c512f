/* machine.c - a virtual machine of KVM: descriptors, memory slots, and what is set once.
 *
 * The order matters to KVM: capabilities before the vCPU, CPUID before the registers. What is not
 * RAM or ROM is MMIO, and exits. What a kernel must have is in needed[]; Linux 5.16 has it all. */
#define _GNU_SOURCE
#include "engine/kvm/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define DEVICE "/dev/kvm"
#define INSTEAD "use '--engine translate'"

/* Where processors that can't execute real mode under KVM find their TSS and page table: four pages
 * of the hole below 4 GiB that nothing else has. */
#define IDENTITY_MAP_ADDRESS UINT64_C(0xfeffc000)
#define TSS_ADDRESS 0xfeffd000ul

static const struct {
    int capability;
    const char *name;
} needed[] = {
    {KVM_CAP_USER_MEMORY, "memory slots"},
    {KVM_CAP_READONLY_MEM, "read-only memory"},
    {KVM_CAP_IMMEDIATE_EXIT, "the immediate exit"},
    {KVM_CAP_SPLIT_IRQCHIP, "the split irqchip"},
    {KVM_CAP_SIGNAL_MSI, "messages to the local APIC"},
    {KVM_CAP_X2APIC_API, "32-bit APIC IDs"},
    {KVM_CAP_TSC_DEADLINE_TIMER, "the TSC deadline timer"},
    {KVM_CAP_XSAVE, "XSAVE"},
    {KVM_CAP_XCRS, "XCR0"},
    {KVM_CAP_DEBUGREGS, "debug registers"},
    {KVM_CAP_SET_GUEST_DEBUG, "breakpoints"},
    {KVM_CAP_VCPU_EVENTS, "events"},
    {KVM_CAP_X86_USER_SPACE_MSR, "MSR exits"},
    {KVM_CAP_X86_MSR_FILTER, "the MSR filter"},
    {KVM_CAP_SREGS2, "KVM_GET_SREGS2"},
};

static int cannot_open(struct err *err)
{
    switch (errno) {
    case EACCES:
    case EPERM:
        return err_set(err, -EACCES,
                       DEVICE
                       " may not be opened by this user; become a member of its group (often "
                       "'kvm') and log in again, or " INSTEAD);
    case ENOENT:
    case ENODEV:
    case ENXIO:
        return err_set(err, -ENOENT,
                       DEVICE " is not there; load the module kvm_intel or kvm_amd (virtualization "
                              "must be on in the firmware), or " INSTEAD);
    default: return err_set(err, -errno, DEVICE " cannot be opened: %s; " INSTEAD, strerror(errno));
    }
}

static int check_abilities(int fd, struct err *err)
{
    int version = ioctl(fd, KVM_GET_API_VERSION, 0);

    if (version != KVM_API_VERSION)
        return err_set(err, -ENOTSUP,
                       DEVICE
                       " speaks version %d of KVM's API, and Doble only version %d; " INSTEAD,
                       version, KVM_API_VERSION);
    for (unsigned i = 0; i < ARRAY_SIZE(needed); i++)
        if (ioctl(fd, KVM_CHECK_EXTENSION, needed[i].capability) <= 0)
            return err_set(err, -ENOTSUP,
                           "KVM of this kernel lacks %s; Linux 5.16 or newer has it, or " INSTEAD,
                           needed[i].name);
    return 0;
}

int kvm_open(int *fd, struct err *err)
{
    int rc;

    *fd = open(DEVICE, O_RDWR | O_CLOEXEC);
    if (*fd < 0)
        return cannot_open(err);
    rc = check_abilities(*fd, err);
    if (rc < 0) {
        close(*fd);
        *fd = -1;
    }
    return rc;
}

static int failed(struct err *err, const char *what)
{
    return err_set(err, -errno, "KVM cannot %s: %s; " INSTEAD, what, strerror(errno));
}

static int enable(struct kvm *k, uint32_t capability, uint64_t argument, const char *what,
                  struct err *err)
{
    struct kvm_enable_cap cap = {.cap = capability, .args = {argument}};

    return ioctl(k->vm_fd, KVM_ENABLE_CAP, &cap) < 0 ? failed(err, what) : 0;
}

/* Some of what KVM does differently from processors, for the sake of old guests and monitors. */
static void disable_quirks(struct kvm *k)
{
    int known = ioctl(k->vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_DISABLE_QUIRKS2);
    uint64_t quirks = KVM_X86_QUIRK_LINT0_REENABLED | KVM_X86_QUIRK_LAPIC_MMIO_HOLE |
                      KVM_X86_QUIRK_FIX_HYPERCALL_INSN;
    struct err ignored;

    if (known > 0)
        (void)!enable(k, KVM_CAP_DISABLE_QUIRKS2, quirks & (unsigned)known, "", &ignored);
}

static int make_vm(struct kvm *k, struct err *err)
{
    uint64_t identity = IDENTITY_MAP_ADDRESS;
    int rc;

    do
        k->vm_fd = ioctl(k->system_fd, KVM_CREATE_VM, 0);
    while (k->vm_fd < 0 && errno == EINTR);
    if (k->vm_fd < 0)
        return failed(err, "make a virtual machine");
    if (ioctl(k->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity) < 0 ||
        ioctl(k->vm_fd, KVM_SET_TSS_ADDR, TSS_ADDRESS) < 0)
        return failed(err, "place its page for real mode");
    rc = enable(k, KVM_CAP_SPLIT_IRQCHIP, KVM_ROUTES, "make a local APIC", err);
    if (rc == 0)
        rc =
            enable(k, KVM_CAP_X2APIC_API, KVM_X2APIC_API_USE_32BIT_IDS, "use 32-bit APIC IDs", err);
    disable_quirks(k);
    return rc;
}

static int make_vcpu(const struct cpu *cpu, struct kvm *k, struct err *err)
{
    int size = ioctl(k->system_fd, KVM_GET_VCPU_MMAP_SIZE, 0);

    k->vcpu_fd = ioctl(k->vm_fd, KVM_CREATE_VCPU, (unsigned long)cpu->index);
    if (k->vcpu_fd < 0 || size < 0)
        return failed(err, "make a virtual processor");
    k->run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, k->vcpu_fd, 0);
    if (k->run == MAP_FAILED) {
        k->run = NULL;
        return failed(err, "share memory with its processor");
    }
    k->run_size = (size_t)size;
    return 0;
}

int kvm_make_machine(struct cpu *cpu, struct kvm *k, struct err *err)
{
    int rc = make_vm(k, err);

    if (rc == 0)
        rc = kvm_make_routes(k, err);
    if (rc == 0)
        rc = kvm_set_up_msrs(k, err);
    if (rc == 0)
        rc = kvm_add_memory(k, cpu->mem, err);
    if (rc == 0)
        rc = make_vcpu(cpu, k, err);
    return rc == 0 ? kvm_set_cpuid(cpu, k, err) : rc;
}

void kvm_free_machine(struct kvm *k)
{
    if (k->run)
        munmap(k->run, k->run_size);
    if (k->vcpu_fd >= 0)
        close(k->vcpu_fd);
    if (k->vm_fd >= 0)
        close(k->vm_fd);
    if (k->system_fd >= 0)
        close(k->system_fd);
}
