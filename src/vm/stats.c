/* stats.c - prints the counts that CPU, bus and memory keep, with names.
 *
 * Lines are "title  value", lists are indented, and what never happened is left out. The monitor's
 * own memory is its resident set without the guest pages that are in it. */
#include "vm/stats.h"

#include "vm/vm.h"

#include <inttypes.h>
#include <time.h>
#include <unistd.h>

static const char *const exception_names[32] = {
    [EXC_DE] = "#DE divide error",
    [EXC_DB] = "#DB debug",
    [EXC_NMI] = "NMI",
    [EXC_BP] = "#BP breakpoint",
    [EXC_OF] = "#OF overflow",
    [EXC_BR] = "#BR bound range",
    [EXC_UD] = "#UD invalid opcode",
    [EXC_NM] = "#NM device not available",
    [EXC_DF] = "#DF double fault",
    [EXC_TS] = "#TS invalid TSS",
    [EXC_NP] = "#NP segment not present",
    [EXC_SS] = "#SS stack fault",
    [EXC_GP] = "#GP general protection",
    [EXC_PF] = "#PF page fault",
    [EXC_MF] = "#MF x87 error",
    [EXC_AC] = "#AC alignment check",
    [EXC_MC] = "#MC machine check",
    [EXC_XM] = "#XM SIMD error",
};

static void line(FILE *out, const char *title, uint64_t value)
{
    fprintf(out, "%-28s %14" PRIu64 "\n", title, value);
}

/* A line of a list, unless it is zero. */
static void item(FILE *out, const char *title, uint64_t value)
{
    if (value)
        fprintf(out, "  %-26s %14" PRIu64 "\n", title, value);
}

static double seconds_between(const struct timespec *a, const struct timespec *b)
{
    return (double)(b->tv_sec - a->tv_sec) + (double)(b->tv_nsec - a->tv_nsec) / 1e9;
}

/* Up to now, if it has not ended. */
static double host_seconds(const struct vm *vm)
{
    struct timespec now;

    if (vm->ended.tv_sec)
        return seconds_between(&vm->started, &vm->ended);
    clock_gettime(CLOCK_MONOTONIC, &now);
    return seconds_between(&vm->started, &now);
}

static double process_seconds(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void print_time(struct vm *vm, FILE *out)
{
    const struct cpu *cpu = vm->pc.cpu;
    double host = host_seconds(vm), processor = process_seconds();

    line(out, cpu->icount_partial ? "instructions interpreted" : "instructions", cpu->icount);
    fprintf(out, "%-28s %14.3f\n", "guest seconds", (double)clock_now(&vm->pc.clock) / 1e9);
    fprintf(out, "%-28s %14.3f\n", "host seconds", host);
    fprintf(out, "%-28s %14.3f\n", "processor seconds", processor);
    if (!cpu->icount_partial)
        fprintf(out, "%-28s %14.1f\n", "million instr. / proc. s",
                processor > 0 ? (double)cpu->icount / processor / 1e6 : 0.0);
}

static void print_traps(const struct cpu_stats *s, FILE *out)
{
    fprintf(out, "exceptions\n");
    for (unsigned v = 0; v < ARRAY_SIZE(s->exceptions); v++) {
        char name[32];

        snprintf(name, sizeof name, "vector %u", v);
        item(out, exception_names[v] ? exception_names[v] : name, s->exceptions[v]);
    }
    fprintf(out, "interrupts\n");
    item(out, "INT n", s->soft_interrupts);
    for (unsigned v = 0; v < ARRAY_SIZE(s->interrupts); v++) {
        char name[32];

        snprintf(name, sizeof name, "vector %#04x", v);
        item(out, name, s->interrupts[v]);
    }
}

static void print_engine(const struct cpu_stats *s, FILE *out)
{
    line(out, "halts", s->halts);
    line(out, "TLB fills", s->tlb_fills);
    line(out, "TLB flushes", s->tlb_flushes);
    line(out, "blocks decoded", s->blocks_decoded);
    line(out, "instructions decoded", s->insns_decoded);
    line(out, "helper calls", s->helpers);
}

static void ratio(FILE *out, const char *title, uint64_t value, uint64_t by)
{
    fprintf(out, "  %-26s %14.1f\n", title, by ? (double)value / (double)by : 0.0);
}

static void print_translation(const struct translate_stats *t, FILE *out)
{
    if (!t->blocks)
        return;
    fprintf(out, "translation\n");
    item(out, "blocks", t->blocks);
    item(out, "instructions", t->insns);
    item(out, "bytes of guest code", t->guest_bytes);
    ratio(out, "host bytes / instruction", t->host_bytes, t->insns);
    ratio(out, "host cycles / instruction", t->cycles, t->timed_insns);
    item(out, "jump cache misses", t->jump_misses);
    item(out, "regions evicted", t->evictions);
    item(out, "blocks evicted", t->blocks_evicted);
    item(out, "code in the cache, KiB", t->code_used / KIB);
    item(out, "metadata in the cache, KiB", t->meta_used / KIB);
    item(out, "size of the cache, KiB", t->cache_size / KIB);
}

static void print_ranges(const struct io_range *ranges, unsigned count, FILE *out)
{
    for (unsigned i = 0; i < count; i++) {
        const struct io_range *r = &ranges[i];

        if (r->reads || r->writes)
            fprintf(out, "  %-12s %#10" PRIx64 "    %12" PRIu64 " reads %12" PRIu64 " writes\n",
                    r->name, r->base, r->reads, r->writes);
    }
}

static void print_bus(const struct bus *bus, FILE *out)
{
    fprintf(out, "I/O ports\n");
    print_ranges(bus->pio, bus->pio_count, out);
    fprintf(out, "memory-mapped I/O\n");
    print_ranges(bus->mmio, bus->mmio_count, out);
    fprintf(out, "nobody's addresses\n");
    item(out, "reads", bus->unclaimed_reads);
    item(out, "writes", bus->unclaimed_writes);
}

/* The second number of statm: pages that are resident. 0 if /proc is not there. */
static uint64_t resident_bytes(void)
{
    FILE *f = fopen("/proc/self/statm", "re");
    unsigned long long pages = 0;

    if (f) {
        if (fscanf(f, "%*u %llu", &pages) != 1)
            pages = 0;
        fclose(f);
    }
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void print_memory(struct vm *vm, FILE *out)
{
    uint64_t guest = memory_resident(&vm->pc.mem), all = resident_bytes();

    line(out, "guest memory, KiB", vm->pc.mem.size / KIB);
    line(out, "  of it touched, KiB", guest / KIB);
    line(out, "the monitor's own, KiB", all > guest ? (all - guest) / KIB : 0);
    fprintf(out, "%-28s   %#" PRIx64 "\n", "hash of guest memory", memory_hash(&vm->pc.mem));
}

void vm_print_stats(struct vm *vm, FILE *out)
{
    const struct cpu_stats *s = &vm->pc.cpu->stats;

    fprintf(out, "--- %s: %s, engine %s ---\n", vm->config.name, vm_end_name(vm->end),
            vm->config.engine->name);
    fprintf(out, "%s: %s\n", vm->config.engine->name, vm->engine_why);
    print_time(vm, out);
    print_engine(s, out);
    print_translation(&s->translate, out);
    if (vm->config.engine->print_stats)
        vm->config.engine->print_stats(vm->pc.cpu, out);
    print_traps(s, out);
    print_bus(&vm->pc.bus, out);
    print_memory(vm, out);
}
