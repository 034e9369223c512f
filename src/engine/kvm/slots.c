/* slots.c - guest memory as KVM's memory slots.
 *
 * A block of RAM is a slot, a ROM one that KVM doesn't let be written: a store to it exits. Between
 * C0000h and 1 MiB the host bridge decides page by page which stores are lost (memory_shadow()), so
 * that part of RAM has slots of its own, one for each run of pages that are alike; they are made
 * anew when that has changed. What is read there is what the host's mapping shows, and KVM follows
 * it by itself. */
#include "engine/kvm/kvm.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#define FIRST_SHADOW_SLOT 16u

static int set_slot(struct kvm *k, uint32_t slot, const struct memory_block *b, gpa_t start,
                    gpa_t end, bool readonly, struct err *err)
{
    struct kvm_userspace_memory_region region = {
        .slot = slot,
        .flags = readonly ? KVM_MEM_READONLY : 0,
        .guest_phys_addr = start,
        .memory_size = end - start,
        .userspace_addr = (uintptr_t)(b->host + (start - b->base)),
    };

    if (start == end || ioctl(k->vm_fd, KVM_SET_USER_MEMORY_REGION, &region) == 0)
        return 0;
    return err_set(
        err, -errno,
        "KVM cannot take %llu KiB of guest memory at %#llx as slot %u: %s; use '--engine "
        "translate'",
        (unsigned long long)((end - start) / KIB), (unsigned long long)start, slot,
        strerror(errno));
}

/* The flags of the pages that the host bridge switches; NULL: there is no RAM. */
static const uint8_t *shadow_flags(struct memory *mem)
{
    const struct memory_block *b = memory_block_at(mem, MEMORY_SHADOW_START);

    return b && b->base + b->size >= MEMORY_SHADOW_END ? memory_page_flags(mem, MEMORY_SHADOW_START)
                                                       : NULL;
}

/* A bit for each page to which stores are lost. */
static uint64_t readonly_pages(struct memory *mem)
{
    const uint8_t *flags = shadow_flags(mem);
    uint64_t pages = 0;

    for (unsigned i = 0; flags && i < KVM_SHADOW_PAGES; i++)
        if (__atomic_load_n(&flags[i], __ATOMIC_RELAXED) & PAGE_READONLY)
            pages |= UINT64_C(1) << i;
    return pages;
}

static void remove_shadow_slots(struct kvm *k)
{
    struct kvm_userspace_memory_region none = {.slot = FIRST_SHADOW_SLOT};

    for (; k->shadow_slots; k->shadow_slots--, none.slot++)
        (void)!ioctl(k->vm_fd, KVM_SET_USER_MEMORY_REGION, &none);
}

static int add_shadow_slots(struct kvm *k, const struct memory_block *b, uint64_t readonly,
                            struct err *err)
{
    int rc = 0;

    k->readonly_pages = readonly;
    for (unsigned i = 0, end; rc == 0 && i < KVM_SHADOW_PAGES; i = end) {
        const bool lost = readonly >> i & 1;

        for (end = i; end < KVM_SHADOW_PAGES && (readonly >> end & 1) == lost; end++)
            ;
        rc =
            set_slot(k, FIRST_SHADOW_SLOT + k->shadow_slots, b, MEMORY_SHADOW_START + i * PAGE_SIZE,
                     MEMORY_SHADOW_START + end * PAGE_SIZE, lost, err);
        if (rc == 0)
            k->shadow_slots++;
    }
    return rc;
}

static int add_block(struct kvm *k, struct memory *mem, unsigned number, struct err *err)
{
    const struct memory_block *b = &mem->blocks[number];
    const gpa_t end = b->base + b->size;
    int rc;

    if (b->base > MEMORY_SHADOW_START || end < MEMORY_SHADOW_END)
        return set_slot(k, 2 * number, b, b->base, end, b->rom, err);
    rc = set_slot(k, 2 * number, b, b->base, MEMORY_SHADOW_START, false, err);
    if (rc == 0)
        rc = add_shadow_slots(k, b, readonly_pages(mem), err);
    return rc == 0 ? set_slot(k, 2 * number + 1, b, MEMORY_SHADOW_END, end, false, err) : rc;
}

int kvm_add_memory(struct kvm *k, struct memory *mem, struct err *err)
{
    int rc = 0;

    for (unsigned i = 0; rc == 0 && i < mem->block_count; i++)
        rc = add_block(k, mem, i, err);
    return rc;
}

int kvm_update_memory(struct kvm *k, struct memory *mem, struct err *err)
{
    const uint64_t readonly = readonly_pages(mem);

    if (readonly == k->readonly_pages)
        return 0;
    remove_shadow_slots(k);
    return add_shadow_slots(k, memory_block_at(mem, MEMORY_SHADOW_START), readonly, err);
}
