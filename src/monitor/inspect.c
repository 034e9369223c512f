/* inspect.c - registers, memory, translations, the state of devices, counts.
 *
 * For programs, registers and addresses are strings like "0xffffffff81000000": many readers of JSON
 * keep numbers as doubles and would round them. Bytes are strings of hexadecimal digits. */
#include "monitor/inspect.h"

#include "base/state.h"
#include "cpu/paging.h"
#include "vm/stats.h"
#include "vm/vm.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define MAX_DUMP (64 * KIB) /* bytes in one answer */

static json_t *hex_number(uint64_t value)
{
    return json_sprintf("0x%" PRIx64, value);
}

/* NULL when out of memory. */
static json_t *hex_bytes(const uint8_t *bytes, size_t count)
{
    static const char digits[] = "0123456789abcdef";
    char *text = malloc(2 * count + 1);
    json_t *value;

    if (!text)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        text[2 * i] = digits[bytes[i] >> 4];
        text[2 * i + 1] = digits[bytes[i] & 15];
    }
    value = json_stringn_nocheck(text, 2 * count);
    free(text);
    return value;
}

/* --- registers --- */

static void set_hex(json_t *object, const char *name, uint64_t value)
{
    json_object_set_new(object, name, hex_number(value));
}

static void set_segment(json_t *object, const char *name, const struct segment *s)
{
    json_t *parts = json_object();

    set_hex(parts, "selector", s->sel);
    set_hex(parts, "base", s->base);
    set_hex(parts, "limit", s->limit);
    set_hex(parts, "attributes", s->attr);
    json_object_set_new(object, name, parts);
}

static void set_table(json_t *object, const char *name, const struct desc_table *t)
{
    json_t *parts = json_object();

    set_hex(parts, "base", t->base);
    set_hex(parts, "limit", t->limit);
    json_object_set_new(object, name, parts);
}

static void set_segments(json_t *object, const struct cpu *cpu)
{
    static const char *const names[SEG_COUNT] = {"es", "cs", "ss", "ds", "fs", "gs"};

    for (unsigned i = 0; i < SEG_COUNT; i++)
        set_segment(object, names[i], &cpu->seg[i]);
    set_segment(object, "ldtr", &cpu->ldtr);
    set_segment(object, "tr", &cpu->tr);
    set_table(object, "gdtr", &cpu->gdtr);
    set_table(object, "idtr", &cpu->idtr);
}

static void set_vectors(json_t *object, const struct cpu *cpu)
{
    char name[8];

    set_hex(object, "mxcsr", cpu->mxcsr);
    for (unsigned i = 0; i < ARRAY_SIZE(cpu->ymm); i++) {
        snprintf(name, sizeof name, "ymm%u", i);
        json_object_set_new(object, name, hex_bytes(cpu->ymm[i].b, sizeof cpu->ymm[i].b));
    }
}

static void set_general(json_t *object, const struct cpu *cpu)
{
    static const char *const names[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                          "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};

    for (unsigned i = 0; i < 16; i++)
        set_hex(object, names[i], cpu->gpr[i]);
    set_hex(object, "rip", cpu->rip);
    set_hex(object, "rflags", cpu_get_rflags(cpu));
    json_object_set_new(object, "cpl", json_integer(cpu->cpl));
}

static void set_control(json_t *object, const struct cpu *cpu)
{
    const struct {
        const char *name;
        uint64_t value;
    } registers[] = {
        {"cr0", cpu->cr0},   {"cr2", cpu->cr2},   {"cr3", cpu->cr3},   {"cr4", cpu->cr4},
        {"dr0", cpu->dr[0]}, {"dr1", cpu->dr[1]}, {"dr2", cpu->dr[2]}, {"dr3", cpu->dr[3]},
        {"dr6", cpu->dr[6]}, {"dr7", cpu->dr[7]}, {"efer", cpu->efer}, {"xcr0", cpu->xcr0},
    };

    for (size_t i = 0; i < ARRAY_SIZE(registers); i++)
        set_hex(object, registers[i].name, registers[i].value);
}

int inspect_registers(struct call *call, struct err *err)
{
    struct cpu *cpu = call->vm->pc.cpu;

    (void)err;
    cpu_dump(cpu, call->out);
    call->result = json_object();
    set_general(call->result, cpu);
    set_segments(call->result, cpu);
    set_control(call->result, cpu);
    set_vectors(call->result, cpu);
    return 0;
}

/* --- memory --- */

static int peek(struct cpu *cpu, gva_t gva, struct translation *t, struct err *err)
{
    bool in_range = cpu->mode & MODE_LONG ? cpu_canonical(cpu, gva) : gva <= UINT32_MAX;

    if (!in_range)
        return err_set(err, -EINVAL, "0x%" PRIx64 " is no linear address in the CPU's mode", gva);
    if (!paging_peek(cpu, gva, t))
        return err_set(err, -EFAULT, "the linear address 0x%" PRIx64 " is not mapped", gva);
    return 0;
}

static int read_physical(struct vm *vm, gpa_t gpa, uint8_t *bytes, uint64_t count, struct err *err)
{
    if (!memory_read(&vm->pc.mem, gpa, bytes, count))
        return err_set(err, -EFAULT, "there is no RAM at the physical address 0x%" PRIx64, gpa);
    return 0;
}

/* Page by page, since neighbours may be anywhere. */
static int read_linear(struct vm *vm, gva_t gva, uint8_t *bytes, uint64_t count, struct err *err)
{
    while (count) {
        uint64_t part = PAGE_SIZE - (gva & ~PAGE_MASK);
        struct translation t;
        int rc = peek(vm->pc.cpu, gva, &t, err);

        if (part > count)
            part = count;
        if (rc == 0)
            rc = read_physical(vm, t.gpa, bytes, part, err);
        if (rc < 0)
            return rc;
        gva += part;
        bytes += part;
        count -= part;
    }
    return 0;
}

static void print_dump_line(uint64_t address, const uint8_t *bytes, size_t count, FILE *out)
{
    fprintf(out, "%016" PRIx64 " ", address);
    for (size_t i = 0; i < 16; i++)
        if (i < count)
            fprintf(out, "%s%02x", i == 8 ? "  " : " ", bytes[i]);
        else
            fputs(i == 8 ? "    " : "   ", out);
    fputs("  |", out);
    for (size_t i = 0; i < count; i++)
        fputc(bytes[i] >= ' ' && bytes[i] <= '~' ? bytes[i] : '.', out);
    fputs("|\n", out);
}

static int dump(struct call *call, uint64_t address, uint8_t *bytes, size_t count, struct err *err)
{
    bool physical = call->arguments[2].on;
    int rc = physical ? read_physical(call->vm, address, bytes, count, err)
                      : read_linear(call->vm, address, bytes, count, err);

    if (rc < 0)
        return rc;
    for (size_t i = 0; i < count; i += 16)
        print_dump_line(address + i, bytes + i, count - i < 16 ? count - i : 16, call->out);
    call->result = json_object();
    set_hex(call->result, "address", address);
    json_object_set_new(call->result, "physical", json_boolean(physical));
    json_object_set_new(call->result, "bytes", hex_bytes(bytes, count));
    return 0;
}

int inspect_memory(struct call *call, struct err *err)
{
    uint64_t address = call->arguments[0].number, length = call->arguments[1].number;
    uint8_t *bytes;
    int rc;

    if (length < 1 || length > MAX_DUMP)
        return err_set(err, -EINVAL, "the length is 1 to %u bytes", (unsigned)MAX_DUMP);
    if (length - 1 > UINT64_MAX - address)
        return err_set(err, -EINVAL, "the range goes beyond the last address");
    bytes = malloc(length);
    if (!bytes)
        return err_set(err, -ENOMEM, "out of memory");
    rc = dump(call, address, bytes, length, err);
    free(bytes);
    return rc;
}

/* Who answers at a physical address: RAM, a device, nobody. */
static const char *owner(struct vm *vm, gpa_t gpa)
{
    const struct bus *bus = &vm->pc.bus;

    if (vm->pc.cpu->apic.base(vm->pc.cpu->apic.opaque) == (gpa & PAGE_MASK))
        return "local APIC";
    if (memory_block_at(&vm->pc.mem, gpa))
        return "RAM";
    for (unsigned i = bus->mmio_count; i-- > 0;)
        if (bus->mmio[i].enabled && gpa - bus->mmio[i].base < bus->mmio[i].size)
            return bus->mmio[i].name;
    return "nothing";
}

static const char *locked_owner(struct vm *vm, gpa_t gpa)
{
    const char *name;

    bus_lock(&vm->pc.bus);
    name = owner(vm, gpa);
    bus_unlock(&vm->pc.bus);
    return name;
}

int inspect_translate(struct call *call, struct err *err)
{
    uint64_t gva = call->arguments[0].number;
    struct translation t;
    int rc = peek(call->vm->pc.cpu, gva, &t, err);
    const char *name;

    if (rc < 0)
        return rc;
    name = locked_owner(call->vm, t.gpa);
    fprintf(call->out,
            "linear 0x%" PRIx64 " is physical 0x%" PRIx64 " (%s), page of %" PRIu64 " KiB, %s%s\n",
            gva, t.gpa, name, t.page_size / KIB, t.writable ? "writable" : "not writable now",
            t.global ? ", global" : "");
    call->result = json_object();
    set_hex(call->result, "linear", gva);
    set_hex(call->result, "physical", t.gpa);
    set_hex(call->result, "page_size", t.page_size);
    json_object_set_new(call->result, "writable", json_boolean(t.writable));
    json_object_set_new(call->result, "global", json_boolean(t.global));
    json_object_set_new(call->result, "owner", json_string(name));
    return 0;
}

/* --- devices --- */

static json_t *field_value(const struct field *f, const uint8_t *at)
{
    json_t *values;

    if (f->count == 1)
        return hex_number(state_field_value(f, at, 0));
    if (f->size == 1)
        return hex_bytes(at, f->count);
    values = json_array();
    for (uint32_t i = 0; i < f->count; i++)
        json_array_append_new(values, hex_number(state_field_value(f, at, i)));
    return values;
}

/* One object of the machine, with all its fields. */
static void add_state(void *opaque, const char *name, const struct state_desc *desc,
                      const void *object)
{
    json_t *fields = json_object();

    for (uint32_t i = 0; i < desc->field_count; i++) {
        const struct field *f = &desc->fields[i];

        json_object_set_new(fields, f->name, field_value(f, (const uint8_t *)object + f->offset));
    }
    json_object_set_new(opaque, name, fields);
}

static int print_states(struct call *call, const char *pattern, struct err *err)
{
    struct vm *vm = call->vm;

    call->result = json_object();
    bus_lock(&vm->pc.bus);
    state_dump(vm->pc.states, pattern, call->out);
    state_for_each(vm->pc.states, pattern, add_state, call->result);
    bus_unlock(&vm->pc.bus);
    if (json_object_size(call->result) > 0)
        return 0;
    return err_set(err, -ENOENT, "no device matches '%.60s'; 'devices' lists them", pattern);
}

static void add_name(void *opaque, const char *name, const struct state_desc *desc,
                     const void *object)
{
    struct call *call = opaque;

    (void)desc;
    (void)object;
    fprintf(call->out, "%s\n", name);
    json_array_append_new(call->result, json_string(name));
}

int inspect_devices(struct call *call, struct err *err)
{
    struct vm *vm = call->vm;

    if (call->arguments[0].given)
        return print_states(call, call->arguments[0].string, err);
    call->result = json_array();
    bus_lock(&vm->pc.bus);
    state_for_each(vm->pc.states, "*", add_name, call);
    bus_unlock(&vm->pc.bus);
    return 0;
}

/* --- counts --- */

static json_t *counts_by_number(const uint64_t *counts, unsigned n)
{
    json_t *object = json_object();
    char name[16];

    for (unsigned i = 0; i < n; i++) {
        snprintf(name, sizeof name, "%u", i);
        if (counts[i])
            json_object_set_new(object, name, json_integer((json_int_t)counts[i]));
    }
    return object;
}

static json_t *range_counts(const struct io_range *ranges, unsigned n)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < n; i++)
        if (ranges[i].reads || ranges[i].writes)
            json_array_append_new(list, json_pack("{s:s, s:o, s:I, s:I}", "name", ranges[i].name,
                                                  "base", hex_number(ranges[i].base), "reads",
                                                  (json_int_t)ranges[i].reads, "writes",
                                                  (json_int_t)ranges[i].writes));
    return list;
}

int inspect_stats(struct call *call, struct err *err)
{
    struct vm *vm = call->vm;
    const struct cpu_stats *s = &vm->pc.cpu->stats;
    const struct bus *bus = &vm->pc.bus;

    (void)err;
    bus_lock(&vm->pc.bus);
    vm_print_stats(vm, call->out);
    call->result = json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:o}", "instructions",
        (json_int_t)vm->pc.cpu->icount, "guest_ns", (json_int_t)clock_now(&vm->pc.clock), "halts",
        (json_int_t)s->halts, "tlb_fills", (json_int_t)s->tlb_fills, "tlb_flushes",
        (json_int_t)s->tlb_flushes, "helper_calls", (json_int_t)s->helpers, "memory",
        (json_int_t)vm->pc.mem.size, "memory_touched", (json_int_t)memory_resident(&vm->pc.mem),
        "exceptions", counts_by_number(s->exceptions, ARRAY_SIZE(s->exceptions)), "interrupts",
        counts_by_number(s->interrupts, ARRAY_SIZE(s->interrupts)), "ports",
        range_counts(bus->pio, bus->pio_count), "mmio", range_counts(bus->mmio, bus->mmio_count));
    bus_unlock(&vm->pc.bus);
    return 0;
}
