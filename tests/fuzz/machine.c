#include "machine.h"

#include "cpu/cr.h"
#include "cpu/msr.h"
#include "cpu/paging.h"
#include "cpu/tlb.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How often the engine may return while machine_run() waits for its instructions. */
#define MAX_RETURNS 4096u

void fuzz_fail(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fputs("FUZZ: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    abort();
}

/* --- a board --- */

static void on_power_off(void *opaque)
{
    struct machine *m = opaque;

    m->power_off = true;
}

static void on_reset(void *opaque)
{
    struct machine *m = opaque;

    m->reset = true;
    cpu_signal(m->pc.cpu, ATTN_STOP);
}

static void on_debug_exit(void *opaque, uint32_t value)
{
    (void)opaque;
    (void)value;
}

static void on_serial_tx(void *opaque, const uint8_t *bytes, size_t count)
{
    struct machine *m = opaque;

    m->sent += count;
    for (size_t i = 0; i < count; i++)
        m->sent_sum = m->sent_sum * 31 + bytes[i];
}

static void on_serial_ready(void *opaque)
{
    (void)opaque;
}

void machine_init(struct machine *m, uint64_t memory, const struct engine_ops *engine)
{
    const struct pc_config config = {
        .memory = memory,
        .time = CLOCK_VIRTUAL,
        .debug_exit = 0xf4,
        .outside = {on_power_off, on_reset, on_debug_exit, on_serial_tx, on_serial_ready, m},
    };
    static const struct engine_config verified = {.verify = true};
    struct err err = {0};

    if (pc_init(&m->pc, &config, &err) < 0 || pc_set_up_chip_set(&m->pc, &err) < 0)
        fuzz_fail("no machine: %s", err.text);
    m->pc.cpu->engine_config = &verified;
    if (engine->init(m->pc.cpu, &err) < 0)
        fuzz_fail("no machine: %s", err.text);
    m->engine = engine;
    clock_start(&m->pc.clock);
    machine_save(&m->pc, &m->new_state, &m->new_size);
}

void machine_reset(struct machine *m)
{
    machine_load_new(&m->pc, m->new_state, m->new_size);
    machine_clear_ram(&m->pc, m->engine);
    m->reset = m->power_off = false;
    m->sent = m->sent_sum = 0;
}

void machine_load_new(struct pc *pc, const uint8_t *state, size_t size)
{
    struct err err = {0};

    pc_reset(pc);
    bus_lock(&pc->bus);
    clock_set(&pc->clock, 0, 0);
    cpu_unsignal(pc->cpu, UINT32_MAX);
    if (state_load(pc->states, state, size, &err) < 0)
        fuzz_fail("the state of a new machine cannot be loaded: %s", err.text);
    bus_unlock(&pc->bus);
    pc->cpu->idle_ns = 0;
}

void machine_clear_flags(struct pc *pc)
{
    for (unsigned i = 0; i < pc->mem.block_count; i++)
        for (uint64_t page = 0; page < pc->mem.blocks[i].size >> PAGE_SHIFT; page++)
            pc->mem.blocks[i].page_flags[page] &= PAGE_READONLY | PAGE_HIDES_RAM;
}

void machine_clear_ram(struct pc *pc, const struct engine_ops *engine)
{
    for (unsigned i = 0; i < pc->mem.block_count; i++) {
        struct memory_block *b = &pc->mem.blocks[i];

        if (b->size > MIB)
            memset(b->host + MIB, 0, b->size - MIB);
    }
    memset(pc->mem.first_mib, 0, MIB);
    machine_clear_flags(pc);
    tlb_flush_all(pc->cpu);
    engine->flush(pc->cpu);
}

/* --- time --- */

static void sync_time(struct pc *pc)
{
    atomic_store(&pc->clock.virtual_ns, pc->cpu->icount + pc->cpu->idle_ns);
}

static uint64_t next_stop(struct pc *pc, uint64_t end)
{
    uint64_t deadline = clock_next_deadline(&pc->clock), now = clock_now(&pc->clock), limit;

    if (deadline == CLOCK_NEVER)
        return end;
    limit = pc->cpu->icount + (deadline > now ? deadline - now : 1);
    return limit < end ? limit : end;
}

/* False: nothing would ever end the halt. */
static bool skip_halt(struct pc *pc)
{
    uint64_t deadline = clock_next_deadline(&pc->clock), now = clock_now(&pc->clock);

    if (deadline == CLOCK_NEVER)
        return false;
    if (deadline > now)
        pc->cpu->idle_ns += deadline - now;
    sync_time(pc);
    return true;
}

static void run_timers(struct pc *pc)
{
    bus_lock(&pc->bus);
    clock_run_timers(&pc->clock);
    bus_unlock(&pc->bus);
}

enum cpu_exit machine_run(struct pc *pc, const struct engine_ops *engine, uint64_t count)
{
    struct cpu *cpu = pc->cpu;
    uint64_t end = cpu->icount + count;
    enum cpu_exit why = EXIT_DEADLINE;

    for (unsigned i = 0; cpu->icount < end && i < MAX_RETURNS; i++) {
        cpu->icount_limit = next_stop(pc, end);
        why = engine->run(cpu);
        sync_time(pc);
        if (why == EXIT_SHUTDOWN || why == EXIT_DEBUG || (why == EXIT_HALTED && !skip_halt(pc)))
            break;
        run_timers(pc);
    }
    return why;
}

void machine_pass(struct pc *pc, uint64_t ns, unsigned rounds)
{
    uint64_t end = clock_now(&pc->clock);

    if (end < CLOCK_LAST) /* no halt skips more */
        end += ns < CLOCK_LAST - end ? ns : CLOCK_LAST - end;
    bus_lock(&pc->bus);
    for (; rounds && clock_next_deadline(&pc->clock) <= end; rounds--) {
        uint64_t next = clock_next_deadline(&pc->clock), now = clock_now(&pc->clock);

        if (next > now)
            pc->cpu->idle_ns += next - now;
        sync_time(pc);
        clock_run_timers(&pc->clock);
    }
    if (rounds && clock_now(&pc->clock) < end)
        pc->cpu->idle_ns += end - clock_now(&pc->clock);
    sync_time(pc);
    bus_unlock(&pc->bus);
}

/* --- saving --- */

void machine_save(struct pc *pc, uint8_t **data, size_t *size)
{
    struct err err = {0};

    *data = NULL;
    *size = 0;
    bus_lock(&pc->bus);
    if (state_save(pc->states, data, size, &err) < 0)
        fuzz_fail("the state cannot be saved: %s", err.text);
    bus_unlock(&pc->bus);
}

/* The name of the field at byte `at` of a saved state, whose format is that of base/state.c. */
static const char *field_at(const uint8_t *b, size_t at, char name[256])
{
    uint32_t fields, count;

    for (size_t p = 0; b[p];) {
        p += 1u + b[p] + 8;
        memcpy(&fields, b + p, 4);
        for (p += 4; fields; fields--) {
            memcpy(name, b + p + 1, b[p]);
            name[b[p]] = '\0';
            p += 1u + b[p];
            memcpy(&count, b + p + 1, 4);
            p += 5 + (size_t)b[p] * count;
            if (at < p)
                return name;
        }
    }
    return "?";
}

void machine_compare_states(const uint8_t *a, const uint8_t *b, size_t size)
{
    char name[256];

    if (!size)
        fuzz_fail("the size of the state has changed");
    for (size_t i = 0; i < size; i++)
        if (a[i] != b[i])
            fuzz_fail("the state is not the same after loading: %s, byte %zu of %zu",
                      field_at(a, i, name), i, size);
}

void machine_check_saving(struct pc *pc)
{
    uint8_t *before, *after;
    size_t size, size_after;
    struct err err = {0};

    machine_save(pc, &before, &size);
    bus_lock(&pc->bus);
    if (state_load(pc->states, before, size, &err) < 0)
        fuzz_fail("a saved state cannot be loaded: %s", err.text);
    bus_unlock(&pc->bus);
    machine_save(pc, &after, &size_after);
    machine_compare_states(before, after, size == size_after ? size : 0);
    free(before);
    free(after);
}

/* --- what must hold of a CPU --- */

static void check_registers(const struct cpu *cpu)
{
    bool lma = cpu->efer & EFER_LMA;

    if (cpu->gpr[REG_NONE])
        fuzz_fail("the register that is always 0 is %#" PRIx64, cpu->gpr[REG_NONE]);
    if (cpu->status & ~0xd701u || !(cpu->status & 0x200))
        fuzz_fail("status flags %#x are not as LAHF gives them", cpu->status);
    if (cpu->rflags & ~(uint64_t)FLAGS_ALL)
        fuzz_fail("RFLAGS %#" PRIx64, cpu->rflags);
    if (!cpu_is_64bit(cpu) && cpu->rip > UINT32_MAX)
        fuzz_fail("RIP %#" PRIx64 " outside 64-bit mode", cpu->rip);
    if (cpu->exc.pending)
        fuzz_fail("exception %u was not delivered", cpu->exc.vector);
    if (!cr0_is_valid(cpu->cr0) || cpu->cr4 & ~cr4_allowed(cpu) ||
        !msr_efer_is_valid(cpu, cpu->efer) || !xcr0_is_valid(cpu, cpu->xcr0))
        fuzz_fail("CR0 %#" PRIx64 " CR4 %#" PRIx64 " EFER %#" PRIx64, cpu->cr0, cpu->cr4,
                  cpu->efer);
    if (lma != (cpu->efer & EFER_LME && cpu->cr0 & CR0_PG) || (lma && !(cpu->cr4 & CR4_PAE)))
        fuzz_fail("long mode without its conditions");
    if (cpu->cr4 & CR4_PCIDE && !lma)
        fuzz_fail("PCIDs outside long mode");
    if (!msr_state_is_valid(cpu))
        fuzz_fail("an MSR has a value that WRMSR refuses");
}

static void check_privilege(const struct cpu *cpu)
{
    bool vm = cpu->rflags & FLAG_VM;

    if (cpu->cpl > 3 || (!(cpu->cr0 & CR0_PE) && (cpu->cpl || vm)))
        fuzz_fail("CPL %u, CR0 %#" PRIx64, cpu->cpl, cpu->cr0);
    if (vm && (cpu->cpl != 3 || cpu->efer & EFER_LMA))
        fuzz_fail("virtual-8086 mode with CPL %u, EFER %#" PRIx64, cpu->cpl, cpu->efer);
    if (cpu->activity > CPU_SHUTDOWN)
        fuzz_fail("activity %u", cpu->activity);
}

/* A program may run off the end of the address space; the next fetch then faults. */
void machine_check_rip(const struct cpu *cpu)
{
    bool ran_off = cpu_canonical(cpu, cpu->rip - 15);

    if (cpu_is_64bit(cpu) && !cpu_canonical(cpu, cpu->rip) && !ran_off)
        fuzz_fail("RIP %#" PRIx64 " is not canonical", cpu->rip);
}

static void check_derived(struct cpu *cpu)
{
    const uint32_t mode = cpu->mode;
    const struct tlb_entry *table = cpu->native.table;

    cpu_update_mode(cpu);
    if (cpu->mode != mode)
        fuzz_fail("mode is %#x, and should be %#x", mode, cpu->mode);
    if (cpu->native.table != table)
        fuzz_fail("the TLB's table in force is not the one for CPL and AC");
}

/* --- the TLB --- */

/* The pages that an entry is valid for. */
static bool tag_valid(uint64_t tag, unsigned index)
{
    return !(tag & ~PAGE_MASK) && tlb_index(0 - tag) == index;
}

static bool leads_to_ram(const struct cpu *cpu, uintptr_t host, gpa_t *gpa)
{
    for (unsigned i = 0; i < cpu->mem->block_count; i++) {
        const struct memory_block *b = &cpu->mem->blocks[i];
        uint64_t offset = host - (uintptr_t)b->host;

        if (offset < b->size && !(offset & ~PAGE_MASK)) {
            *gpa = b->base + offset;
            return true;
        }
    }
    return false;
}

static void check_ram_entry(struct cpu *cpu, const struct tlb_entry *e, unsigned index)
{
    const uint64_t tags[] = {e->read_tag, e->write_tag, e->fetch_tag};
    gpa_t gpa;

    for (unsigned i = 0; i < ARRAY_SIZE(tags); i++) {
        if (!tag_valid(tags[i], index))
            continue;
        if (!leads_to_ram(cpu, (uintptr_t)(0 - tags[i] + e->addend), &gpa))
            fuzz_fail("a TLB entry for %#" PRIx64 " leads out of guest RAM", 0 - tags[i]);
        if (i == 1 && *memory_page_flags(cpu->mem, gpa) & PAGE_CODE)
            fuzz_fail("a TLB entry lets %#" PRIx64 " be written, where code is cached",
                      0 - tags[i]);
    }
}

void machine_check_cpu(struct cpu *cpu)
{
    check_registers(cpu);
    check_privilege(cpu);
    check_derived(cpu);
    for (unsigned s = 0; s < TLB_SPACES; s++)
        for (unsigned t = 0; t < TLB_TABLES; t++)
            for (unsigned i = 0; cpu->tlb->spaces[s].used[t] && i < TLB_SIZE; i++)
                check_ram_entry(cpu, &cpu->tlb->spaces[s].entries[t][i], i);
}

/* Repeats the walk that made the entry, with the privilege that its table is for. */
static void check_walk(struct cpu *cpu, const struct tlb_entry *e, uint64_t tag, unsigned access)
{
    gva_t gva = 0 - tag;
    struct translation t = {0};
    gpa_t gpa = 0;

    (void)leads_to_ram(cpu, (uintptr_t)(gva + e->addend), &gpa);
    if (!paging_translate(cpu, gva, access, &t))
        fuzz_fail("the TLB allows access %#x to %#" PRIx64 " at CPL %u; page tables do not (%#x)",
                  access, gva, cpu->cpl, cpu->exc.error);
    if ((t.gpa & cpu->mem->a20_mask) != gpa)
        fuzz_fail("the TLB has %#" PRIx64 " at %#" PRIx64 "; page tables have it at %#" PRIx64, gva,
                  gpa, t.gpa);
}

static void check_table(struct cpu *cpu, const struct tlb_entry *table)
{
    for (unsigned i = 0; i < TLB_SIZE; i++) {
        const struct tlb_entry *e = &table[i];

        if (tag_valid(e->read_tag, i))
            check_walk(cpu, e, e->read_tag, ACCESS_READ);
        if (tag_valid(e->write_tag, i))
            check_walk(cpu, e, e->write_tag, ACCESS_WRITE);
        if (tag_valid(e->fetch_tag, i))
            check_walk(cpu, e, e->fetch_tag, ACCESS_FETCH);
    }
}

void machine_check_tlb(struct cpu *cpu)
{
    const uint8_t cpl = cpu->cpl;
    const uint64_t rflags = cpu->rflags;

    cpu->cpl = 3;
    check_table(cpu, cpu->tlb->space->entries[TLB_USER]);
    cpu->cpl = 0;
    cpu->rflags &= ~(uint64_t)FLAG_AC;
    check_table(cpu, cpu->tlb->space->entries[TLB_SUPER]);
    cpu->rflags |= FLAG_AC;
    check_table(cpu, cpu->tlb->space->entries[TLB_SUPER_AC]);
    cpu->cpl = cpl;
    cpu->rflags = rflags;
}
