/* The commands, in one table. Each gets the rest of the line as its argument. */
#include "debug/gdb_monitor.h"

#include "cpu/debug.h"
#include "cpu/paging.h"
#include "cpu/segment.h"
#include "debug/gdb_memory.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define TABLE_LINES 512 /* more descriptors of a table are only counted */

struct command {
    const char *name, *argument, *help; /* argument: NULL, none */
    bool optional;                      /* the argument */
    void (*run)(const struct gdb_machine *m, const char *argument, FILE *out);
};

/* --- addresses --- */

/* The name of a register with or without '$', or a number as C writes it. */
static bool parse_address(const struct gdb_machine *m, const char *text, gva_t *gva)
{
    char *end;

    if (strcmp(text, "$pc") == 0 || strcmp(text, "$rip") == 0) {
        *gva = cpu_debug_pc(m->cpu);
        return true;
    }
    if (strcmp(text, "$sp") == 0 || strcmp(text, "$rsp") == 0) {
        *gva = m->cpu->gpr[RSP];
        return true;
    }
    if (!isdigit((unsigned char)*text))
        return false;
    errno = 0;
    *gva = strtoull(text, &end, 0);
    return errno == 0 && !*end;
}

static bool take_address(const struct gdb_machine *m, const char *text, gva_t *gva, FILE *out)
{
    if (parse_address(m, text, gva))
        return true;
    fprintf(out, "'%s' is not an address: a number like 0xffffffff81000000, $pc or $sp\n", text);
    return false;
}

static const char *size_name(uint64_t size)
{
    switch (size) {
    case 4 * KIB: return "4 KiB";
    case 2 * MIB: return "2 MiB";
    case 4 * MIB: return "4 MiB";
    default: return "1 GiB";
    }
}

static void translate(const struct gdb_machine *m, const char *argument, FILE *out)
{
    struct translation t;
    gva_t gva;

    if (!take_address(m, argument, &gva, out))
        return;
    if ((m->cpu->efer & EFER_LMA) && !cpu_canonical(m->cpu, gva)) {
        fprintf(out, "%#018" PRIx64 " is not canonical\n", gva);
    } else if (!paging_peek(m->cpu, gva, &t)) {
        fprintf(out, "%#018" PRIx64 " is not mapped\n", gva);
    } else if (!(m->cpu->cr0 & CR0_PG)) {
        fprintf(out, "%#018" PRIx64 " -> physical %#" PRIx64 " (paging is off)\n", gva, t.gpa);
    } else {
        t.gpa &= m->cpu->mem->a20_mask;
        fprintf(out, "%#018" PRIx64 " -> physical %#" PRIx64 ", %s page%s%s\n", gva, t.gpa,
                size_name(t.page_size), t.global ? ", global" : "",
                memory_ram(m->cpu->mem, t.gpa, 1) ? "" : ", not RAM");
    }
}

/* --- page tables --- */

static const char *level_name(unsigned level)
{
    static const char *const names[] = {"PTE", "PDE", "PDPTE", "PML4E", "PML5E"};

    return names[level - 1];
}

static void print_entry(const struct paging_entry *e, bool pae, FILE *out)
{
    static const struct {
        uint64_t bit;
        const char *name;
    } bits[] = {
        {1, "P"},      {2, "RW"},   {4, "US"},   {8, "PWT"},
        {0x10, "PCD"}, {0x20, "A"}, {0x40, "D"}, {UINT64_C(1) << 63, "NX"},
    };

    fprintf(out, "%-5s at %#011" PRIx64 ": %#018" PRIx64, level_name(e->level), e->gpa, e->entry);
    for (unsigned i = 0; i < ARRAY_SIZE(bits); i++)
        if ((e->entry & bits[i].bit) && (pae || bits[i].bit >> 32 == 0))
            fprintf(out, " %s", bits[i].name);
    if (e->level > 1 && (e->entry & 0x80))
        fputs(" PS", out);
    if (e->level == 1 || (e->entry & 0x80))
        fputs(e->entry & 0x100 ? " G" : "", out);
    fputc('\n', out);
}

static void print_walk_root(const struct cpu *cpu, FILE *out)
{
    const char *form = "32-bit";

    if (cpu->efer & EFER_LMA)
        form = cpu->cr4 & CR4_LA57 ? "5-level" : "4-level";
    else if (cpu->cr4 & CR4_PAE)
        form = "PAE";
    fprintf(out, "CR3 %#" PRIx64 ", %s paging\n", cpu->cr3, form);
}

static void pages(const struct gdb_machine *m, const char *argument, FILE *out)
{
    struct paging_entry entries[PAGING_LEVELS];
    struct cpu *cpu = m->cpu;
    unsigned count;
    gva_t gva;

    if (!take_address(m, argument, &gva, out))
        return;
    if (cpu->cr0 & CR0_PG) {
        print_walk_root(cpu, out);
        if (!(cpu->efer & EFER_LMA) && (cpu->cr4 & CR4_PAE))
            fprintf(out, "PDPTE register %u: %#018" PRIx64 "\n", (unsigned)(gva >> 30 & 3),
                    cpu->pdpte[gva >> 30 & 3]);
        count = paging_entries(cpu, gva, entries);
        for (unsigned i = 0; i < count; i++)
            print_entry(&entries[i], cpu->cr4 & CR4_PAE, out);
    }
    translate(m, argument, out);
}

/* --- descriptor tables --- */

/* Reads the descriptor at `gva`; the second half of system descriptors too, if `wide`. */
static bool read_descriptor(struct cpu *cpu, gva_t gva, bool always_wide, struct descriptor *d)
{
    bool long_mode = cpu->efer & EFER_LMA;

    *d = (struct descriptor){.address = gva};
    if (gdb_memory_read(cpu, gva, &d->low, 8) != 8)
        return false;
    if (long_mode && (always_wide || !(descriptor_attr(d) & SEG_S)))
        return gdb_memory_read(cpu, gva + 8, &d->high, 8) == 8;
    return true;
}

static const char *system_name(unsigned type, bool long_mode)
{
    switch (type) {
    case SYS_TSS16: return "16-bit TSS";
    case SYS_LDT: return "LDT";
    case SYS_TSS16_BUSY: return "16-bit TSS, busy";
    case SYS_CALL_GATE16: return "16-bit call gate";
    case SYS_TASK_GATE: return "task gate";
    case SYS_INT_GATE16: return "16-bit interrupt gate";
    case SYS_TRAP_GATE16: return "16-bit trap gate";
    case SYS_TSS32: return long_mode ? "64-bit TSS" : "32-bit TSS";
    case SYS_TSS32_BUSY: return long_mode ? "64-bit TSS, busy" : "32-bit TSS, busy";
    case SYS_CALL_GATE32: return long_mode ? "64-bit call gate" : "32-bit call gate";
    case SYS_INT_GATE32: return long_mode ? "64-bit interrupt gate" : "32-bit interrupt gate";
    case SYS_TRAP_GATE32: return long_mode ? "64-bit trap gate" : "32-bit trap gate";
    default: return "reserved";
    }
}

static void print_code_or_data(const struct segment *s, FILE *out)
{
    bool code = s->attr & SEG_CODE;

    fprintf(out, "%s, %s", code ? "code" : "data",
            s->attr & SEG_WRITABLE ? (code ? "readable" : "writable")
                                   : (code ? "execute only" : "read only"));
    if (s->attr & SEG_EXPAND_DOWN)
        fputs(code ? ", conforming" : ", expand down", out);
    fprintf(out, ", %s", s->attr & SEG_L ? "64-bit" : s->attr & SEG_DB ? "32-bit" : "16-bit");
    if (s->attr & SEG_ACCESSED)
        fputs(", accessed", out);
}

static bool is_gate(unsigned type)
{
    return type == SYS_CALL_GATE16 || type == SYS_CALL_GATE32 ||
           (type >= SYS_TASK_GATE && type <= SYS_TRAP_GATE16) || type >= SYS_INT_GATE32;
}

static void print_descriptor(const struct cpu *cpu, const struct descriptor *d, FILE *out)
{
    bool long_mode = cpu->efer & EFER_LMA;
    unsigned type = descriptor_system_type(d);
    struct segment s = segment_from(d, 0);

    if (is_gate(type)) {
        fprintf(out, "%04x:%016" PRIx64 " dpl %u ", gate_selector(d), gate_offset(d),
                descriptor_dpl(d));
        if (long_mode)
            fprintf(out, "ist %u ", (unsigned)(d->low >> 32 & 7));
        fputs(system_name(type, long_mode), out);
    } else {
        fprintf(out, "base %016" PRIx64 " limit %08" PRIx32 " dpl %u ", s.base, s.limit,
                descriptor_dpl(d));
        if (s.attr & SEG_S)
            print_code_or_data(&s, out);
        else
            fputs(system_name(type, long_mode), out);
    }
    fputs(s.attr & SEG_P ? "\n" : ", not present\n", out);
}

/* All descriptors that are not zero. `entry`: bytes of one; 0: 8, or 16 for system descriptors. */
static void print_table(struct cpu *cpu, const char *name, gva_t base, uint32_t limit,
                        unsigned entry, unsigned selector_bits, FILE *out)
{
    bool vectors = entry != 0;
    unsigned lines = 0, step;

    fprintf(out, "%s base %016" PRIx64 " limit %#" PRIx32 "\n", name, base, limit);
    for (uint64_t at = 0; at + (entry ? entry : 8) - 1 <= limit && at <= UINT16_MAX; at += step) {
        struct descriptor d;
        bool wide;

        step = entry ? entry : 8;
        if (!read_descriptor(cpu, base + at, entry == 16, &d)) {
            fprintf(out, "%04" PRIx64 ": not mapped\n", at);
            return;
        }
        wide = !entry && (cpu->efer & EFER_LMA) && (d.low || d.high) &&
               !(descriptor_attr(&d) & SEG_S) && descriptor_system_type(&d) != 0;
        if (wide)
            step = 16;
        if (!d.low && (!d.high || !entry))
            continue;
        if (++lines > TABLE_LINES)
            continue;
        fprintf(out, vectors ? "%02x: " : "%04x: ",
                (unsigned)(vectors ? at / entry : at | selector_bits));
        print_descriptor(cpu, &d, out);
    }
    if (lines > TABLE_LINES)
        fprintf(out, "... and %u more\n", lines - TABLE_LINES);
}

static void gdt(const struct gdb_machine *m, const char *argument, FILE *out)
{
    (void)argument;
    print_table(m->cpu, "GDT", m->cpu->gdtr.base, m->cpu->gdtr.limit, 0, 0, out);
}

static void ldt(const struct gdb_machine *m, const char *argument, FILE *out)
{
    const struct segment *s = &m->cpu->ldtr;

    (void)argument;
    if (!(s->attr & SEG_P) || selector_is_null(s->sel))
        fprintf(out, "there is no LDT (LDTR %#06x)\n", s->sel);
    else
        print_table(m->cpu, "LDT", s->base, s->limit, 0, SEL_TI, out);
}

/* Real mode: far pointers. */
static void print_ivt(struct cpu *cpu, FILE *out)
{
    uint16_t entry[2];

    fprintf(out, "IVT base %016" PRIx64 " limit %#x\n", cpu->idtr.base, cpu->idtr.limit);
    for (unsigned i = 0; i < 256 && i * 4 + 3 <= cpu->idtr.limit; i++)
        if (gdb_memory_read(cpu, cpu->idtr.base + i * 4, entry, 4) == 4 && (entry[0] || entry[1]))
            fprintf(out, "%02x: %04x:%04x\n", i, entry[1], entry[0]);
}

static void idt(const struct gdb_machine *m, const char *argument, FILE *out)
{
    struct cpu *cpu = m->cpu;

    (void)argument;
    if (!(cpu->cr0 & CR0_PE))
        print_ivt(cpu, out);
    else
        print_table(cpu, "IDT", cpu->idtr.base, cpu->idtr.limit, cpu->efer & EFER_LMA ? 16 : 8, 0,
                    out);
}

/* --- interrupt controllers --- */

static void print_vectors(const char *name, const uint32_t bits[8], FILE *out)
{
    fprintf(out, "%s:", name);
    for (unsigned v = 0; v < 256; v++)
        if (bits[v / 32] >> (v % 32) & 1)
            fprintf(out, " %02x", v);
    fputc('\n', out);
}

static const char *delivery_name(unsigned mode)
{
    static const char *const names[8] = {
        "fixed", "lowest priority", "SMI", "reserved", "NMI", "INIT", "SIPI", "ExtINT"};

    return names[mode & 7];
}

static void print_lvt(const char *name, uint32_t lvt, FILE *out)
{
    fprintf(out, "%-8s %08" PRIx32 " vector %02x %s%s%s\n", name, lvt, (unsigned)(lvt & 0xff),
            delivery_name(lvt >> 8 & 7), lvt & LVT_LEVEL ? " level" : "",
            lvt & LVT_MASKED ? " masked" : "");
}

static void print_lapic(const struct lapic *l, FILE *out)
{
    static const char *const lvt_names[LVT_COUNT] = {"timer", "thermal", "perf",
                                                     "LINT0", "LINT1",   "error"};

    fprintf(out, "local APIC %" PRIu32 ": base %#" PRIx64 "%s%s%s\n", l->id, l->base & PAGE_MASK,
            l->base & APIC_BASE_EN ? " enabled" : " disabled",
            l->base & APIC_BASE_EXTD ? " x2APIC" : "", l->base & APIC_BASE_BSP ? " BSP" : "");
    fprintf(out,
            "SVR %08" PRIx32 " TPR %02" PRIx32 " PPR %02x LDR %08" PRIx32 " DFR %08" PRIx32
            " ICR %016" PRIx64 " ESR %02" PRIx32 "\n",
            l->svr, l->tpr, lapic_priority(l), l->ldr, l->dfr, l->icr, l->esr);
    print_vectors("IRR", l->irr, out);
    print_vectors("ISR", l->isr, out);
    print_vectors("TMR", l->tmr, out);
    for (unsigned i = 0; i < LVT_COUNT; i++)
        print_lvt(lvt_names[i], l->lvt[i], out);
    fprintf(out, "timer: initial count %" PRIu32 " divide %" PRIx32 " TSC deadline %" PRIu64 "%s\n",
            l->initial_count, l->divide, l->tsc_deadline, l->timer_running ? " running" : "");
}

static void print_ioapic(const struct ioapic *io, FILE *out)
{
    fprintf(out, "I/O APIC %u: lines %06" PRIx32 "\n", io->id, io->lines);
    for (unsigned i = 0; i < IOAPIC_PINS; i++) {
        uint64_t e = io->entry[i];

        fprintf(out, "pin %2u: %016" PRIx64 " vector %02x %s to %02x%s%s%s%s\n", i, e,
                (unsigned)(e & 0xff), delivery_name((unsigned)(e >> 8) & 7), (unsigned)(e >> 56),
                e & 0x800 ? " logical" : "", e & 0x8000 ? " level" : " edge",
                e & 0x4000 ? " remote IRR" : "", e & 0x10000 ? " masked" : "");
    }
}

static void apic(const struct gdb_machine *m, const char *argument, FILE *out)
{
    (void)argument;
    bus_lock(m->cpu->bus);
    if (m->lapic)
        print_lapic(m->lapic, out);
    if (m->ioapic)
        print_ioapic(m->ioapic, out);
    bus_unlock(m->cpu->bus);
}

/* --- devices and registers --- */

static void device(const struct gdb_machine *m, const char *argument, FILE *out)
{
    long before = ftell(out);

    bus_lock(m->cpu->bus);
    state_dump(m->states, *argument ? argument : "*", out);
    bus_unlock(m->cpu->bus);
    if (ftell(out) == before)
        fprintf(out, "no device matches '%s'; 'monitor device' shows all\n", argument);
}

static void registers(const struct gdb_machine *m, const char *argument, FILE *out)
{
    (void)argument;
    cpu_dump(m->cpu, out);
}

static void step_interrupts(const struct gdb_machine *m, const char *argument, FILE *out)
{
    struct cpu_debug *debug = m->cpu->debug;

    if (strcmp(argument, "on") == 0 && debug)
        debug->step_events = true;
    else if (strcmp(argument, "off") == 0 && debug)
        debug->step_events = false;
    else if (*argument)
        fprintf(out, "'%s' is neither on nor off\n", argument);
    fprintf(out, "interrupts %s\n",
            debug && debug->step_events ? "are taken during single steps"
                                        : "wait until single steps are over");
}

/* --- the table --- */

static void help(const struct gdb_machine *m, const char *argument, FILE *out);

static const struct command commands[] = {
    {"translate", "ADDRESS", "what a linear address is translated to", false, translate},
    {"pages", "ADDRESS", "the page walk for a linear address, level by level", false, pages},
    {"gdt", NULL, "the global descriptor table", false, gdt},
    {"idt", NULL, "the interrupt descriptor table", false, idt},
    {"ldt", NULL, "the local descriptor table", false, ldt},
    {"apic", NULL, "local APIC and I/O APIC", false, apic},
    {"device", "PATTERN", "the state of devices whose name matches", true, device},
    {"registers", NULL, "all registers of the processor", false, registers},
    {"step-interrupts", "on|off", "may a single step take an interrupt?", true, step_interrupts},
    {"help", NULL, "this list", false, help},
};

static void help(const struct gdb_machine *m, const char *argument, FILE *out)
{
    char left[40];

    (void)m;
    (void)argument;
    for (unsigned i = 0; i < ARRAY_SIZE(commands); i++) {
        const struct command *c = &commands[i];

        snprintf(left, sizeof left, c->optional ? "%s [%s]" : "%s %s", c->name,
                 c->argument ? c->argument : "");
        fprintf(out, "monitor %-26s %s\n", left, c->help);
    }
}

static const struct command *find(const char *name, size_t length)
{
    for (unsigned i = 0; i < ARRAY_SIZE(commands); i++)
        if (strlen(commands[i].name) == length && memcmp(commands[i].name, name, length) == 0)
            return &commands[i];
    return NULL;
}

static void run(const struct gdb_machine *m, const struct command *c, const char *argument,
                FILE *out)
{
    if (!c->argument && *argument)
        fprintf(out, "'monitor %s' takes no argument\n", c->name);
    else if (c->argument && !c->optional && !*argument)
        fprintf(out, "'monitor %s' needs an argument: %s\n", c->name, c->argument);
    else
        c->run(m, argument, out);
}

void gdb_monitor(const struct gdb_machine *machine, const char *line, FILE *out)
{
    char copy[256];
    size_t length, end;
    const struct command *c;

    while (isspace((unsigned char)*line))
        line++;
    end = strlen(line);
    while (end && isspace((unsigned char)line[end - 1]))
        end--;
    if (end >= sizeof copy) {
        fputs("that line is too long for a command\n", out);
        return;
    }
    memcpy(copy, line, end);
    copy[end] = 0;
    length = strcspn(copy, " \t");
    c = find(copy, length);
    if (!*copy)
        help(machine, "", out);
    else if (!c)
        fprintf(out, "there is no command '%.*s'; 'monitor help' lists them\n", (int)length, copy);
    else
        run(machine, c, copy + length + strspn(copy + length, " \t"), out);
}
