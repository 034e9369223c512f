#include "cpu/debug.h"

#include "cpu/tlb.h"

#include <string.h>

gva_t cpu_debug_pc(const struct cpu *cpu)
{
    return cpu_is_64bit(cpu) ? cpu->rip : (uint32_t)(cpu->seg[CS].base + cpu->rip);
}

/* ATTN_DEBUG is set exactly while there is something to look at between two instructions. */
static void update_attention(struct cpu *cpu)
{
    const struct cpu_debug *d = cpu->debug;

    if (d && (d->break_count || d->step || d->pass || d->reason != DEBUG_NONE))
        atomic_fetch_or(&cpu->attention, ATTN_DEBUG);
    else
        cpu_unsignal(cpu, ATTN_DEBUG);
}

/* --- for debuggers --- */

void cpu_debug_attach(struct cpu *cpu, struct cpu_debug *debug)
{
    memset(debug, 0, sizeof *debug);
    cpu->debug = debug;
    update_attention(cpu);
}

void cpu_debug_detach(struct cpu *cpu)
{
    cpu->debug = NULL;
    update_attention(cpu);
}

/* The place of the first breakpoint at or above the address. */
static unsigned find_break(const struct cpu_debug *d, gva_t address)
{
    unsigned low = 0, high = d->break_count;

    while (low < high) {
        unsigned middle = (low + high) / 2;

        if (d->breaks[middle].address < address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool break_is_at(const struct cpu_debug *d, unsigned i, gva_t address)
{
    return i < d->break_count && d->breaks[i].address == address;
}

bool cpu_debug_set_break(struct cpu *cpu, gva_t address, enum debug_break_kind kind)
{
    struct cpu_debug *d = cpu->debug;
    unsigned i = find_break(d, address);

    if (break_is_at(d, i, address)) {
        d->breaks[i].kinds |= (uint8_t)kind;
        return true;
    }
    if (d->break_count == DEBUG_BREAKPOINTS)
        return false;
    memmove(&d->breaks[i + 1], &d->breaks[i], (d->break_count - i) * sizeof d->breaks[0]);
    d->breaks[i] = (struct debug_break){address, (uint8_t)kind};
    d->break_count++;
    update_attention(cpu);
    return true;
}

void cpu_debug_remove_break(struct cpu *cpu, gva_t address, enum debug_break_kind kind)
{
    struct cpu_debug *d = cpu->debug;
    unsigned i = find_break(d, address);

    if (!break_is_at(d, i, address))
        return;
    d->breaks[i].kinds &= (uint8_t)~kind;
    if (d->breaks[i].kinds)
        return;
    d->break_count--;
    memmove(&d->breaks[i], &d->breaks[i + 1], (d->break_count - i) * sizeof d->breaks[0]);
    update_attention(cpu);
}

static unsigned find_watch(const struct cpu_debug *d, gva_t address, uint64_t length,
                           enum debug_watch_kind kind)
{
    unsigned i = 0;

    while (i < d->watch_count && !(d->watches[i].address == address &&
                                   d->watches[i].length == length && d->watches[i].kind == kind))
        i++;
    return i;
}

/* Watched pages are not in the TLB, so that every access to them is looked at. */
bool cpu_debug_set_watch(struct cpu *cpu, gva_t address, uint64_t length,
                         enum debug_watch_kind kind)
{
    struct cpu_debug *d = cpu->debug;

    if (!length || length > DEBUG_WATCH_MAX_LENGTH || address + (length - 1) < address)
        return false;
    if (find_watch(d, address, length, kind) < d->watch_count)
        return true;
    if (d->watch_count == DEBUG_WATCHPOINTS)
        return false;
    d->watches[d->watch_count++] = (struct debug_watch){address, (uint32_t)length, kind};
    tlb_flush_all(cpu);
    return true;
}

void cpu_debug_remove_watch(struct cpu *cpu, gva_t address, uint64_t length,
                            enum debug_watch_kind kind)
{
    struct cpu_debug *d = cpu->debug;
    unsigned i = find_watch(d, address, length, kind);

    if (i < d->watch_count)
        d->watches[i] = d->watches[--d->watch_count];
}

void cpu_debug_resume(struct cpu *cpu, bool step, bool pass)
{
    struct cpu_debug *d = cpu->debug;

    d->reason = DEBUG_NONE;
    d->step = step;
    d->pass = pass;
    d->pass_address = cpu_debug_pc(cpu);
    update_attention(cpu);
}

/* --- for engines --- */

static void stop(struct cpu *cpu, enum debug_reason reason, unsigned kind, gva_t address)
{
    struct cpu_debug *d = cpu->debug;

    d->reason = reason;
    d->hit_kind = kind;
    d->hit_address = address;
    d->step = d->pass = false;
    atomic_fetch_or(&cpu->attention, ATTN_DEBUG);
}

enum debug_action cpu_debug_next(struct cpu *cpu)
{
    struct cpu_debug *d = cpu->debug;
    gva_t pc = cpu_debug_pc(cpu);
    unsigned i;

    if (!d)
        return DEBUG_RUN;
    if (d->reason != DEBUG_NONE)
        return DEBUG_LEAVE;
    if (d->step || (d->pass && d->pass_address == pc))
        return DEBUG_ONE;
    d->pass = false;
    i = find_break(d, pc);
    if (!break_is_at(d, i, pc))
        return DEBUG_RUN;
    stop(cpu, DEBUG_BREAK, d->breaks[i].kinds, pc);
    return DEBUG_LEAVE;
}

void cpu_debug_stepped(struct cpu *cpu)
{
    struct cpu_debug *d = cpu->debug;

    d->pass = false;
    if (d->step && d->reason == DEBUG_NONE)
        stop(cpu, DEBUG_STEP, 0, 0);
}

bool cpu_debug_shutdown(struct cpu *cpu)
{
    struct cpu_debug *d = cpu->debug;

    if (!d || d->shutdown_told)
        return false;
    d->shutdown_told = true;
    stop(cpu, DEBUG_SHUTDOWN, 0, 0);
    return true;
}

bool cpu_debug_break_within(const struct cpu *cpu, gva_t address, unsigned length)
{
    const struct cpu_debug *d = cpu->debug;
    unsigned i;

    if (!d || !d->break_count)
        return false;
    i = find_break(d, address);
    return i < d->break_count && d->breaks[i].address - address < length;
}

/* --- watchpoints --- */

/* The ranges may end with the last byte of the address space, but not go beyond. */
static bool overlaps(const struct debug_watch *w, gva_t address, uint64_t length)
{
    return address <= w->address + (w->length - 1) && w->address <= address + (length - 1);
}

bool cpu_debug_watched(const struct cpu *cpu, gva_t address, uint64_t length)
{
    const struct cpu_debug *d = cpu->debug;

    for (unsigned i = 0; d && i < d->watch_count; i++)
        if (overlaps(&d->watches[i], address, length))
            return true;
    return false;
}

void cpu_debug_note_access(struct cpu *cpu, gva_t address, uint64_t length,
                           enum debug_watch_kind kind)
{
    struct cpu_debug *d = cpu->debug;

    if (d->reason != DEBUG_NONE)
        return;
    for (unsigned i = 0; i < d->watch_count; i++) {
        const struct debug_watch *w = &d->watches[i];

        if ((w->kind & kind) && overlaps(w, address, length)) {
            stop(cpu, DEBUG_WATCH, w->kind, w->address);
            atomic_fetch_or(&cpu->attention, ATTN_SHADOW);
            return;
        }
    }
}
