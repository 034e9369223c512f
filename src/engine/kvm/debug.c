/* debug.c - the debugger's breakpoints and watchpoints in the processor's debug registers.
 *
 * The guest's memory stays as it is: a software breakpoint of the debugger is a hardware one, too.
 * While KVM uses the debug registers for the debugger, those of the guest keep their values without
 * effect. There are four; what doesn't fit makes the engine go on interpreting (run.c). */
#include "engine/kvm/kvm.h"

#include "cpu/debug.h"
#include "cpu/interrupt.h"

#include <sys/ioctl.h>

#define DEBUG_REGISTERS 4u
#define DR7_FIXED 0x400u
#define DR6_BD (1u << 13)
#define DR6_BS (1u << 14)
#define DR6_BT (1u << 15)
#define DR7_GLOBAL(n) (2u << 2 * (n))
#define DR7_WRITES 1u
#define DR7_ACCESSES 3u

static bool watch_fits(const struct debug_watch *w)
{
    return (w->length == 1 || w->length == 2 || w->length == 4 || w->length == 8) &&
           w->address % w->length == 0;
}

/* A read-only watchpoint doesn't exist in hardware. */
bool kvm_debug_fits(const struct cpu *cpu)
{
    const struct cpu_debug *d = cpu->debug;

    if (!d)
        return true;
    if (d->break_count + d->watch_count > DEBUG_REGISTERS ||
        (d->break_count + d->watch_count && (cpu->dr[7] & 0xff)))
        return false;
    for (unsigned i = 0; i < d->watch_count; i++)
        if (!watch_fits(&d->watches[i]) || d->watches[i].kind == DEBUG_WATCH_READ)
            return false;
    return true;
}

/* R/W and LEN of a watchpoint in DR7. */
static uint64_t watch_bits(const struct debug_watch *w)
{
    static const uint8_t lengths[9] = {[1] = 0, [2] = 1, [4] = 3, [8] = 2};
    unsigned how = w->kind == DEBUG_WATCH_WRITE ? DR7_WRITES : DR7_ACCESSES;

    return how | (unsigned)lengths[w->length] << 2;
}

int kvm_debug_set(const struct cpu *cpu, struct kvm *k)
{
    const struct cpu_debug *d = cpu->debug;
    struct kvm_guest_debug g = {0};
    unsigned n = 0;

    if (!d || d->break_count + d->watch_count == 0) {
        if (!k->debugged)
            return 0;
        k->debugged = false;
        return ioctl(k->vcpu_fd, KVM_SET_GUEST_DEBUG, &g);
    }
    g.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
    g.arch.debugreg[7] = DR7_FIXED;
    for (unsigned i = 0; i < d->break_count; i++, n++) {
        g.arch.debugreg[n] = d->breaks[i].address;
        g.arch.debugreg[7] |= DR7_GLOBAL(n);
    }
    for (unsigned i = 0; i < d->watch_count; i++, n++) {
        g.arch.debugreg[n] = d->watches[i].address;
        g.arch.debugreg[7] |= DR7_GLOBAL(n) | watch_bits(&d->watches[i]) << (16 + 4 * n);
    }
    k->debugged = true;
    return ioctl(k->vcpu_fd, KVM_SET_GUEST_DEBUG, &g);
}

/* Breakpoints are found again by RIP (cpu_debug_next()), watchpoints only by what DR6 says. Another
 * debug trap than these is the guest's. */
void kvm_debug_exit(struct cpu *cpu)
{
    const struct cpu_debug *d = cpu->debug;
    const uint64_t dr6 = kvm_of(cpu)->run->debug.arch.dr6;

    if (!d || !(dr6 & ((1u << DEBUG_REGISTERS) - 1))) {
        cpu_raise_db(cpu, dr6 & (DR6_BD | DR6_BS | DR6_BT));
        cpu_deliver_exception(cpu);
        return;
    }
    for (unsigned i = 0; i < d->watch_count; i++) {
        const struct debug_watch *w = &d->watches[i];

        if (dr6 >> (d->break_count + i) & 1)
            cpu_debug_note_access(cpu, w->address, w->length, w->kind);
    }
}
