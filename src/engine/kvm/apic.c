/* apic.c - KVM's local APIC: its state lent and taken back, messages to it, and its EOIs.
 *
 * "Split irqchip": the local APIC is in the kernel, where timer, EOI and priorities cost no exit;
 * IOAPIC and PIC are our devices. A message of the APIC bus becomes KVM_SIGNAL_MSI. The EOI of a
 * level-triggered vector has to reach our IOAPIC: KVM exits for the EOI of vectors that a routing
 * entry of a "reserved IOAPIC pin" names as level-triggered. There is an entry for every vector
 * that was ever sent as a level, added when it is sent first; which pin it came from is no matter.
 *
 * The PIC's interrupts come through LINT0 (ExtINT): KVM takes the vector from us when the guest is
 * ready for it and LINT0 of its local APIC lets it through. */
#include "engine/kvm/kvm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define MSR_TSC_DEADLINE 0x6e0
#define MSI_ADDRESS 0xfee00000u
#define MSI_BROADCAST (0xffu << 12) /* in the address */
#define MSI_ASSERT (1u << 14)
#define MSI_LEVEL (1u << 15)

_Static_assert(sizeof(((struct kvm_lapic_state *)0)->regs) == 64 * 16, "the register page");

/* --- level-triggered vectors --- */

int kvm_make_routes(struct kvm *k, struct err *err)
{
    k->routes = calloc(1, sizeof *k->routes + KVM_ROUTES * sizeof(struct kvm_irq_routing_entry));
    return k->routes ? 0 : err_set(err, -ENOMEM, "not enough memory for KVM's interrupt routes");
}

static void add_route(struct kvm *k, unsigned vector)
{
    struct kvm_irq_routing_entry *e = &k->routes->entries[k->route_count];

    if (k->level_vectors[vector / 32] >> vector % 32 & 1)
        return;
    k->level_vectors[vector / 32] |= 1u << vector % 32;
    *e = (struct kvm_irq_routing_entry){
        .gsi = k->route_count,
        .type = KVM_IRQ_ROUTING_MSI,
        .u.msi = {.address_lo = MSI_ADDRESS | MSI_BROADCAST,
                  .data = MSI_LEVEL | MSI_ASSERT | vector},
    };
    k->routes->nr = ++k->route_count;
    (void)!ioctl(k->vm_fd, KVM_SET_GSI_ROUTING, k->routes);
}

/* Those that were sent before the APIC was lent, and wait for their EOI. */
static void add_routes(struct kvm *k, const struct cpu_apic_page *page)
{
    const unsigned isr = 0x10, tmr = 0x18, irr = 0x20;

    for (unsigned vector = 0; vector < 256; vector++) {
        const unsigned n = vector / 32;

        if ((page->regs[isr + n] | page->regs[irr + n]) & page->regs[tmr + n] & 1u << vector % 32)
            add_route(k, vector);
    }
}

void kvm_exit_eoi(struct cpu *cpu)
{
    bus_lock(cpu->bus);
    cpu->apic.end_of_interrupt(cpu->apic.opaque, kvm_of(cpu)->run->eoi.vector);
    bus_unlock(cpu->bus);
}

/* --- messages --- */

/* Any thread, with the bus lock held. */
static void deliver(void *opaque, uint64_t address, uint32_t data)
{
    struct kvm *k = opaque;
    struct kvm_msi msi = {
        .address_lo = (uint32_t)address, .address_hi = (uint32_t)(address >> 32), .data = data};

    if (data & MSI_LEVEL)
        add_route(k, data & 0xff);
    (void)!ioctl(k->vm_fd, KVM_SIGNAL_MSI, &msi); /* 0: a local APIC that is off has lost it */
}

/* --- the state --- */

static void to_kvm(const struct cpu_apic_page *page, struct kvm_lapic_state *state)
{
    memset(state, 0, sizeof *state);
    for (unsigned i = 0; i < 64; i++)
        memcpy(state->regs + 16 * i, &page->regs[i], 4);
}

static void from_kvm(const struct kvm_lapic_state *state, struct cpu_apic_page *page)
{
    for (unsigned i = 0; i < 64; i++)
        memcpy(&page->regs[i], state->regs + 16 * i, 4);
}

static int set_apic(struct kvm *k, const struct cpu_apic_page *page, struct err *err)
{
    struct kvm_lapic_state state;

    to_kvm(page, &state);
    if (ioctl(k->vcpu_fd, KVM_SET_LAPIC, &state) < 0 ||
        kvm_write_msr(k, MSR_TSC_DEADLINE, page->tsc_deadline) < 0)
        return err_set(err, -errno, "KVM doesn't take the state of the local APIC: %s",
                       strerror(errno));
    return 0;
}

int kvm_lend_apic(struct cpu *cpu, struct err *err)
{
    struct kvm *k = kvm_of(cpu);
    struct cpu_apic_page page;
    int rc;

    if (!cpu->apic.borrow)
        return 0;
    bus_lock(cpu->bus);
    cpu->apic.borrow(cpu->apic.opaque, &page, deliver, k);
    rc = set_apic(k, &page, err);
    if (rc < 0)
        cpu->apic.give_back(cpu->apic.opaque, &page);
    else
        add_routes(k, &page);
    bus_unlock(cpu->bus);
    return rc;
}

/* If KVM doesn't answer the machine can't go on, and an APIC without state does no harm. */
int kvm_take_apic(struct cpu *cpu, uint64_t base, struct err *err)
{
    struct kvm *k = kvm_of(cpu);
    struct cpu_apic_page page = {.base = base};
    struct kvm_lapic_state state;
    int rc = 0;

    if (!cpu->apic.give_back)
        return 0;
    bus_lock(cpu->bus);
    if (ioctl(k->vcpu_fd, KVM_GET_LAPIC, &state) < 0 ||
        kvm_read_msr(k, MSR_TSC_DEADLINE, &page.tsc_deadline) < 0)
        rc = err_set(err, -errno, "KVM doesn't tell the state of the local APIC: %s",
                     strerror(errno));
    else
        from_kvm(&state, &page);
    cpu->apic.give_back(cpu->apic.opaque, &page);
    bus_unlock(cpu->bus);
    return rc;
}

/* --- the PIC --- */

static void inject_extint(struct cpu *cpu)
{
    struct kvm *k = kvm_of(cpu);
    struct kvm_interrupt interrupt;
    int vector;

    bus_lock(cpu->bus);
    vector = cpu->apic.acknowledge(cpu->apic.opaque);
    bus_unlock(cpu->bus);
    if (vector < 0)
        return;
    cpu->stats.interrupts[vector & 255]++;
    interrupt.irq = (uint32_t)vector;
    (void)!ioctl(k->vcpu_fd, KVM_INTERRUPT, &interrupt);
}

void kvm_offer_extint(struct cpu *cpu)
{
    struct kvm_run *run = kvm_of(cpu)->run;
    bool wanted = atomic_load(&cpu->attention) & ATTN_INTR && cpu->apic.acknowledge;

    if (wanted && run->ready_for_interrupt_injection) {
        run->ready_for_interrupt_injection = 0;
        inject_extint(cpu);
        wanted = atomic_load(&cpu->attention) & ATTN_INTR;
    }
    run->request_interrupt_window = wanted;
}
