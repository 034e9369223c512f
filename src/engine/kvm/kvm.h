/* kvm.h - hardware virtualization through /dev/kvm: what the parts of the engine share.
 *
 * struct cpu is the truth whenever the engine is not inside run(). Inside, the registers are lent
 * to KVM with kvm_lend(), the guest runs, and kvm_take_back() fetches them:
 *
 *     struct cpu --- kvm_lend() ----> KVM's vCPU ---- KVM_RUN ---- exits: ports, MMIO, MSRs
 *         ^                             |                          (handled while lent)
 *         +-------- kvm_take_back() ----+
 *
 * The local APIC is KVM's own while the registers are lent, and its state ours otherwise
 * (dev/lapic_loan.h); IOAPIC, PIC and all other devices stay ours ("split irqchip"). What KVM can't
 * execute, and single steps, are the interpreter's, whose data is the first member below, because
 * its functions find it through cpu->engine.
 *
 * Linux, Documentation/virt/kvm/api.rst. vCPU thread only, but for kvm_kick() and kvm_deliver(). */
#ifndef DOBLE_ENGINE_KVM_KVM_H
#define DOBLE_ENGINE_KVM_KVM_H

#include "engine/engine.h"
#include "engine/interpret/block.h"

#include <linux/kvm.h>

#define KVM_PLAIN_MSRS 16   /* room for those of msr.c */
#define KVM_EXIT_REASONS 64 /* counted one by one; what is above is counted together */

/* Pages below 1 MiB that may be ROM or RAM. */
#define KVM_SHADOW_PAGES 64
_Static_assert((MEMORY_SHADOW_END - MEMORY_SHADOW_START) / PAGE_SIZE == KVM_SHADOW_PAGES,
               "one bit a page");

/* Routes of which KVM looks at level-triggered ones, to tell us of their EOI: one for a vector. */
#define KVM_ROUTES 256

struct kvm_exit_count {
    uint64_t exits[KVM_EXIT_REASONS];
    uint64_t kicks;    /* KVM_RUN was interrupted */
    uint64_t switches; /* the registers were lent */
    uint64_t emulated; /* instructions that KVM could not execute */
};

struct kvm {
    struct interpreter interp; /* first */
    int system_fd, vm_fd, vcpu_fd;
    struct kvm_run *run; /* shared with KVM */
    size_t run_size;
    _Atomic int thread; /* that is in run(); 0: none */
    bool exited;        /* KVM_RUN returned an exit that KVM has to complete */
    bool debugged;      /* KVM has breakpoints */

    uint64_t readonly_pages; /* of those that the host bridge switches: stores are lost */
    unsigned shadow_slots;   /* that those pages have */

    uint32_t msrs[KVM_PLAIN_MSRS]; /* those of msr.c that KVM has */
    unsigned msr_count;

    /* with the bus lock held: */
    uint32_t level_vectors[8]; /* vectors that have a route */
    unsigned route_count;
    struct kvm_irq_routing *routes;

    struct kvm_xsave *xsave;
    gva_t stuck_rip; /* where KVM was left without having done anything */
    unsigned stuck_count;
    struct err failure;
    struct kvm_exit_count count;
};

static inline struct kvm *kvm_of(const struct cpu *cpu)
{
    return cpu->engine;
}

/* --- machine.c: the descriptors, and what is set once --- */

/* Opens /dev/kvm and checks that it can do what the engine needs. */
int kvm_open(int *fd, struct err *err) MUST_USE;
int kvm_make_machine(struct cpu *cpu, struct kvm *k, struct err *err) MUST_USE;
void kvm_free_machine(struct kvm *k);

/* --- slots.c --- */

int kvm_add_memory(struct kvm *k, struct memory *mem, struct err *err) MUST_USE;
/* The host bridge may have switched between RAM and ROM. */
int kvm_update_memory(struct kvm *k, struct memory *mem, struct err *err) MUST_USE;

/* --- cpuid.c --- */

/* What KVM can give a guest, of what a CPU model may have. */
int kvm_get_features(int system_fd, bool has[FEAT_COUNT], struct err *err) MUST_USE;
/* Tells KVM what the CPUID instruction answers: what the CPU's model says. */
int kvm_set_cpuid(const struct cpu *cpu, struct kvm *k, struct err *err) MUST_USE;

/* --- msr.c --- */

/* Chooses who has which MSR: KVM those that its processor works with, we all others. */
int kvm_set_up_msrs(struct kvm *k, struct err *err) MUST_USE;
int kvm_write_msr(struct kvm *k, uint32_t msr, uint64_t value);
int kvm_read_msr(struct kvm *k, uint32_t msr, uint64_t *value);
int kvm_lend_msrs(const struct cpu *cpu, struct kvm *k, struct err *err) MUST_USE;
int kvm_take_msrs(struct cpu *cpu, struct kvm *k, struct err *err) MUST_USE;
void kvm_exit_rdmsr(struct cpu *cpu);
void kvm_exit_wrmsr(struct cpu *cpu);

/* --- apic.c --- */

int kvm_lend_apic(struct cpu *cpu, struct err *err) MUST_USE;
/* The second does so without asking KVM: what was lent comes back as it was. */
int kvm_take_apic(struct cpu *cpu, uint64_t base, struct err *err) MUST_USE;
/* Routes for the EOI of level-triggered vectors. */
int kvm_make_routes(struct kvm *k, struct err *err) MUST_USE;
void kvm_exit_eoi(struct cpu *cpu);
/* The PIC's interrupt: gives it to KVM, or has KVM say when the guest takes it. */
void kvm_offer_extint(struct cpu *cpu);

/* --- state.c --- */

/* All registers to KVM, and back. After an error they are ours, complete for kvm_lend(); an error
 * of kvm_take_back() leaves what KVM did not tell as it was before. */
int kvm_lend(struct cpu *cpu, struct err *err) MUST_USE;
int kvm_take_back(struct cpu *cpu, struct err *err) MUST_USE;
/* Guest TSC = host TSC + offset. */
int kvm_set_tsc_offset(const struct cpu *cpu, struct kvm *k);

/* --- debug.c --- */

/* Can the debugger's wishes be put into the four debug registers? */
bool kvm_debug_fits(const struct cpu *cpu);
int kvm_debug_set(const struct cpu *cpu, struct kvm *k);
/* KVM_EXIT_DEBUG; the registers are ours again. */
void kvm_debug_exit(struct cpu *cpu);

/* --- exits.c --- */

enum kvm_next {
    NEXT_RUN,      /* the guest goes on */
    NEXT_LOOK,     /* take the registers back and look what is to be done */
    NEXT_EMULATE,  /* KVM can't execute the next instruction */
    NEXT_DEBUG,    /* a breakpoint of the debugger */
    NEXT_SHUTDOWN, /* triple fault */
    NEXT_FAIL,     /* k->failure */
};

/* What the exit in k->run asks for. */
enum kvm_next kvm_handle_exit(struct cpu *cpu);
/* The name of an exit reason, for traces and statistics. */
const char *kvm_exit_name(uint32_t reason);
void kvm_print_stats(const struct cpu *cpu, FILE *out);

#endif
