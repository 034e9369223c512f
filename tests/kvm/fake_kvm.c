/* fake_kvm.c - a /dev/kvm that keeps registers and executes nothing, for tests of what can go
 * wrong.
 *
 * Preloaded into the monitor (LD_PRELOAD), it answers for /dev/kvm. $FAKE_KVM says what is wrong
 * with it:
 *   absent, forbidden   it cannot be opened
 *   version             it speaks another version of the interface
 *   lacks               it lacks a capability
 *   slots               it has no memory slots left
 *   feature             it supports no CPU feature at all
 *   internal            KVM_RUN gives up at every instruction
 *   late                the same, but the trial of `--engine auto` finds it quick
 *   debugger            KVM_RUN goes to the first breakpoint, or gives up without one
 *   silent              KVM_RUN returns without doing anything
 *   stuck               KVM_RUN doesn't return
 *   entry               the processor refuses to enter the guest
 *   unknown             KVM_RUN returns an exit of the future */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define RUN_SIZE 8192
#define TRIAL_RIP 0x8000
#define TRIAL_END_PORT 0x81

static int device_fd = -1, vm_fd = -1, vcpu_fd = -1;
static struct kvm_run *shared;

/* What KVM_SET_x stored and KVM_GET_x gives back. */
static struct kvm_regs regs;
static struct kvm_sregs2 sregs;
static struct kvm_xsave xsave;
static struct kvm_xcrs xcrs;
static struct kvm_debugregs debugregs;
static struct kvm_vcpu_events events;
static struct kvm_mp_state mp_state;
static struct kvm_lapic_state lapic;
static struct kvm_guest_debug guest_debug;
static uint64_t msrs[16];
static const uint32_t msr_numbers[] = {0x174,      0x175,      0x176,      0x277,
                                       0xc0000081, 0xc0000082, 0xc0000083, 0xc0000084,
                                       0xc0000102, 0xc0000103, 0x6e0};

#define MSR_COUNT (sizeof msr_numbers / sizeof msr_numbers[0])

static const struct {
    unsigned long set, get;
    void *data;
    size_t size;
} kept[] = {
    {KVM_SET_REGS, KVM_GET_REGS, &regs, sizeof regs},
    {KVM_SET_SREGS2, KVM_GET_SREGS2, &sregs, sizeof sregs},
    {KVM_SET_XSAVE, KVM_GET_XSAVE, &xsave, sizeof xsave},
    {KVM_SET_XCRS, KVM_GET_XCRS, &xcrs, sizeof xcrs},
    {KVM_SET_DEBUGREGS, KVM_GET_DEBUGREGS, &debugregs, sizeof debugregs},
    {KVM_SET_VCPU_EVENTS, KVM_GET_VCPU_EVENTS, &events, sizeof events},
    {KVM_SET_MP_STATE, KVM_GET_MP_STATE, &mp_state, sizeof mp_state},
    {KVM_SET_LAPIC, KVM_GET_LAPIC, &lapic, sizeof lapic},
};

static bool wrong(const char *what)
{
    const char *fault = getenv("FAKE_KVM");

    return fault && strcmp(fault, what) == 0;
}

static int fail(int error)
{
    errno = error;
    return -1;
}

static int open_device(void)
{
    if (wrong("absent"))
        return fail(ENOENT);
    if (wrong("forbidden"))
        return fail(EACCES);
    return device_fd = memfd_create("kvm", MFD_CLOEXEC);
}

/* glibc's open() with and without large files. */
int open(const char *path, int flags, ...)
{
    int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
    va_list args;
    int mode;

    va_start(args, flags);
    mode = va_arg(args, int);
    va_end(args);
    return strcmp(path, "/dev/kvm") == 0 ? open_device() : real(path, flags, mode);
}

static int supported_cpuid(struct kvm_cpuid2 *list)
{
    static const uint32_t leaves[] = {1, 6, 7, 0xd, 0x80000001, 0x80000007, 0x80000008, 0x80000021};
    unsigned n = 0;

    for (unsigned i = 0; i < sizeof leaves / sizeof leaves[0]; i++)
        for (unsigned sub = 0; sub < 2; sub++)
            list->entries[n++] =
                (struct kvm_cpuid_entry2){.function = leaves[i],
                                          .index = sub,
                                          .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
                                          .eax = wrong("feature") ? 0 : UINT32_MAX,
                                          .ebx = wrong("feature") ? 0 : UINT32_MAX,
                                          .ecx = wrong("feature") ? 0 : UINT32_MAX,
                                          .edx = wrong("feature") ? 0 : UINT32_MAX};
    list->nent = n;
    return 0;
}

static int msr_list(struct kvm_msr_list *list)
{
    const uint32_t room = list->nmsrs;

    list->nmsrs = MSR_COUNT;
    if (room < MSR_COUNT)
        return fail(E2BIG);
    memcpy(list->indices, msr_numbers, sizeof msr_numbers);
    return 0;
}

static int device_ioctl(unsigned long request, void *data)
{
    switch (request) {
    case KVM_GET_API_VERSION: return wrong("version") ? 11 : KVM_API_VERSION;
    case KVM_CHECK_EXTENSION: return !(wrong("lacks") && (uintptr_t)data == KVM_CAP_SREGS2);
    case KVM_GET_SUPPORTED_CPUID: return supported_cpuid(data);
    case KVM_GET_MSR_INDEX_LIST: return msr_list(data);
    case KVM_GET_VCPU_MMAP_SIZE: return RUN_SIZE;
    case KVM_CREATE_VM: return vm_fd = memfd_create("kvm-vm", MFD_CLOEXEC);
    default: return fail(EINVAL);
    }
}

static int vm_ioctl(unsigned long request)
{
    switch (request) {
    case KVM_SET_USER_MEMORY_REGION: return wrong("slots") ? fail(ENOSPC) : 0;
    case KVM_CREATE_VCPU:
        vcpu_fd = memfd_create("kvm-vcpu", MFD_CLOEXEC);
        return ftruncate(vcpu_fd, RUN_SIZE) == 0 ? vcpu_fd : -1;
    default: return 0;
    }
}

static uint64_t *msr(uint32_t number)
{
    for (unsigned i = 0; i < MSR_COUNT; i++)
        if (msr_numbers[i] == number)
            return &msrs[i];
    return NULL;
}

static int move_msrs(struct kvm_msrs *list, bool set)
{
    for (uint32_t i = 0; i < list->nmsrs; i++) {
        uint64_t *value = msr(list->entries[i].index);

        if (!value)
            return (int)i;
        if (set)
            *value = list->entries[i].data;
        else
            list->entries[i].data = *value;
    }
    return (int)list->nmsrs;
}

/* The trial of the engines is over when its guest writes to a port. */
static int end_trial(void)
{
    shared->exit_reason = KVM_EXIT_IO;
    shared->io.direction = KVM_EXIT_IO_OUT;
    shared->io.size = shared->io.count = 1;
    shared->io.port = TRIAL_END_PORT;
    shared->io.data_offset = RUN_SIZE / 2;
    return 0;
}

/* The guest has "come" to the breakpoint in DR0. */
static int hit_breakpoint(void)
{
    regs.rip = guest_debug.arch.debugreg[0];
    shared->exit_reason = KVM_EXIT_DEBUG;
    shared->debug.arch = (struct kvm_debug_exit_arch){.exception = 1, .pc = regs.rip, .dr6 = 1};
    return 0;
}

static int run(void)
{
    if (shared->immediate_exit || wrong("silent"))
        return fail(EINTR);
    if (wrong("stuck"))
        for (;;)
            pause();
    if (wrong("debugger") && guest_debug.control & KVM_GUESTDBG_USE_HW_BP &&
        guest_debug.arch.debugreg[7] & 2)
        return hit_breakpoint();
    if (wrong("late") && regs.rip == TRIAL_RIP)
        return end_trial();
    shared->exit_reason = wrong("entry")     ? KVM_EXIT_FAIL_ENTRY
                          : wrong("unknown") ? 999u
                                             : KVM_EXIT_INTERNAL_ERROR;
    shared->internal.suberror = 1;
    return 0;
}

static int vcpu_ioctl(unsigned long request, void *data)
{
    for (unsigned i = 0; i < sizeof kept / sizeof kept[0]; i++) {
        if (request == kept[i].set)
            memcpy(kept[i].data, data, kept[i].size);
        else if (request == kept[i].get)
            memcpy(data, kept[i].data, kept[i].size);
        else
            continue;
        return 0;
    }
    switch (request) {
    case KVM_RUN: return run();
    case KVM_SET_GUEST_DEBUG: memcpy(&guest_debug, data, sizeof guest_debug); return 0;
    case KVM_SET_MSRS: return move_msrs(data, true);
    case KVM_GET_MSRS: return move_msrs(data, false);
    default: return 0;
    }
}

int ioctl(int fd, unsigned long request, ...)
{
    int (*real)(int, unsigned long, ...) = dlsym(RTLD_NEXT, "ioctl");
    va_list args;
    void *data;

    va_start(args, request);
    data = va_arg(args, void *);
    va_end(args);
    if (fd >= 0 && fd == device_fd)
        return device_ioctl(request, data);
    if (fd >= 0 && fd == vm_fd)
        return vm_ioctl(request);
    if (fd >= 0 && fd == vcpu_fd)
        return vcpu_ioctl(request, data);
    return real(fd, request, data);
}

/* A descriptor that is closed may be another file's next. */
int close(int fd)
{
    int (*real)(int) = dlsym(RTLD_NEXT, "close");

    if (fd == device_fd)
        device_fd = -1;
    if (fd == vm_fd)
        vm_fd = -1;
    if (fd == vcpu_fd)
        vcpu_fd = -1;
    return real(fd);
}

void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
    void *(*real)(void *, size_t, int, int, int, off_t) = dlsym(RTLD_NEXT, "mmap");
    void *p = real(address, length, protection, flags, fd, offset);

    if (fd >= 0 && fd == vcpu_fd && p != MAP_FAILED)
        shared = p;
    return p;
}
