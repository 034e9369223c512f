/* exits.c - what KVM_RUN comes back with, and what it asks for.
 *
 * The registers stay lent while an exit is handled: KVM has decoded the instruction, and completes
 * it when it is entered again. Port and memory accesses go to the bus, under its lock, like those
 * of every engine. */
#include "engine/kvm/kvm.h"

#include "base/timeline.h"
#include "base/trace.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

static const char *const names[KVM_EXIT_REASONS] = {
    [KVM_EXIT_UNKNOWN] = "unknown",
    [KVM_EXIT_EXCEPTION] = "exception",
    [KVM_EXIT_IO] = "port",
    [KVM_EXIT_HYPERCALL] = "hypercall",
    [KVM_EXIT_DEBUG] = "debug",
    [KVM_EXIT_HLT] = "hlt",
    [KVM_EXIT_MMIO] = "mmio",
    [KVM_EXIT_IRQ_WINDOW_OPEN] = "interrupt window",
    [KVM_EXIT_SHUTDOWN] = "shutdown",
    [KVM_EXIT_FAIL_ENTRY] = "failed entry",
    [KVM_EXIT_INTR] = "signal",
    [KVM_EXIT_INTERNAL_ERROR] = "internal error",
    [KVM_EXIT_SYSTEM_EVENT] = "system event",
    [KVM_EXIT_IOAPIC_EOI] = "ioapic eoi",
    [KVM_EXIT_X86_RDMSR] = "rdmsr",
    [KVM_EXIT_X86_WRMSR] = "wrmsr",
};

const char *kvm_exit_name(uint32_t reason)
{
    return reason < KVM_EXIT_REASONS && names[reason] ? names[reason] : "other";
}

static void exit_port(struct cpu *cpu)
{
    struct kvm_run *run = kvm_of(cpu)->run;
    uint8_t *data = (uint8_t *)run + run->io.data_offset;
    const unsigned size = run->io.size;

    for (uint32_t i = 0; i < run->io.count; i++, data += size) {
        uint64_t value = 0;

        cpu->stats.pio++;
        if (run->io.direction == KVM_EXIT_IO_IN) {
            value = bus_pio_read(cpu->bus, run->io.port, size);
            memcpy(data, &value, size);
        } else {
            memcpy(&value, data, size);
            bus_pio_write(cpu->bus, run->io.port, value, size);
        }
    }
}

/* A store to memory exits where memory is read-only; it may still go to the RAM behind. */
static void mmio(struct cpu *cpu, gpa_t gpa, uint8_t *data, unsigned size, bool write)
{
    uint64_t value = 0;

    if (write) {
        memcpy(&value, data, size);
        if (memory_block_at(cpu->mem, gpa))
            memory_store(cpu->mem, gpa, data, size);
        else
            bus_mmio_write(cpu->bus, gpa, value, size);
    } else {
        value = bus_mmio_read(cpu->bus, gpa, size);
        memcpy(data, &value, size);
    }
}

/* The length of an access may be any up to 8, if it is cut in two at the end of a page. */
static void exit_mmio(struct cpu *cpu)
{
    struct kvm_run *run = kvm_of(cpu)->run;
    const unsigned length = run->mmio.len;

    cpu->stats.mmio++;
    if ((length & (length - 1)) == 0) {
        mmio(cpu, run->mmio.phys_addr, run->mmio.data, length, run->mmio.is_write);
        return;
    }
    for (unsigned i = 0; i < length; i++)
        mmio(cpu, run->mmio.phys_addr + i, &run->mmio.data[i], 1, run->mmio.is_write);
}

static enum kvm_next fail_entry(struct kvm *k)
{
    err_set(&k->failure, -EIO,
            "KVM cannot enter the guest (hardware reason %#llx); use '--engine translate'",
            (unsigned long long)k->run->fail_entry.hardware_entry_failure_reason);
    return NEXT_FAIL;
}

static enum kvm_next unknown_exit(struct kvm *k)
{
    err_set(
        &k->failure, -EIO,
        "KVM left the guest for a reason that Doble doesn't know (%u); use '--engine translate'",
        k->run->exit_reason);
    return NEXT_FAIL;
}

static enum kvm_next handle(struct cpu *cpu)
{
    struct kvm *k = kvm_of(cpu);

    switch (k->run->exit_reason) {
    case KVM_EXIT_IO: exit_port(cpu); return NEXT_RUN;
    case KVM_EXIT_MMIO: exit_mmio(cpu); return NEXT_RUN;
    case KVM_EXIT_X86_RDMSR: kvm_exit_rdmsr(cpu); return NEXT_RUN;
    case KVM_EXIT_X86_WRMSR: kvm_exit_wrmsr(cpu); return NEXT_RUN;
    case KVM_EXIT_IOAPIC_EOI: kvm_exit_eoi(cpu); return NEXT_RUN;
    case KVM_EXIT_IRQ_WINDOW_OPEN:
    case KVM_EXIT_INTR: return NEXT_RUN;
    case KVM_EXIT_DEBUG: return NEXT_DEBUG;
    case KVM_EXIT_SHUTDOWN: return NEXT_SHUTDOWN;
    case KVM_EXIT_INTERNAL_ERROR: return NEXT_EMULATE;
    case KVM_EXIT_FAIL_ENTRY: return fail_entry(k);
    default: return unknown_exit(k);
    }
}

enum kvm_next kvm_handle_exit(struct cpu *cpu)
{
    struct kvm *k = kvm_of(cpu);
    const uint32_t reason = k->run->exit_reason;
    const uint64_t start = timeline_start();
    enum kvm_next next;

    k->count.exits[reason < KVM_EXIT_REASONS ? reason : KVM_EXIT_REASONS - 1]++;
    trace_kvm_exit(reason, kvm_exit_name(reason));
    next = handle(cpu);
    timeline_slice(TIMELINE_EXIT, kvm_exit_name(reason), start, 0, 0, 0);
    return next;
}

static void item(FILE *out, const char *title, uint64_t value)
{
    if (value)
        fprintf(out, "  %-26s %14" PRIu64 "\n", title, value);
}

void kvm_print_stats(const struct cpu *cpu, FILE *out)
{
    const struct kvm_exit_count *c = &kvm_of(cpu)->count;

    fprintf(out, "exits from KVM\n");
    for (uint32_t i = 0; i < KVM_EXIT_REASONS; i++)
        item(out, kvm_exit_name(i), c->exits[i]);
    item(out, "interrupted", c->kicks);
    fprintf(out, "KVM\n");
    item(out, "registers lent", c->switches);
    item(out, "instructions interpreted", c->emulated);
}
