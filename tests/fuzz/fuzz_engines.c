/* fuzz_engines.c - the same instruction stream by the interpreter and by the translator: after each
 * piece, registers, memory and devices must be the same.
 *
 * The input is that of guest_input.h, as for fuzz_cpu.c. */
#include "guest_input.h"
#include "machine.h"

#include <inttypes.h>
#include <stdlib.h>

#define PIECES 6u

static struct machine interpreted, translated;

static void compare_field(const struct field *f, const uint8_t *a, const uint8_t *b)
{
    for (uint32_t i = 0; i < f->count; i++)
        if (state_field_value(f, a + f->offset, i) != state_field_value(f, b + f->offset, i))
            fuzz_fail("%s[%u]: interpreted %#" PRIx64 ", translated %#" PRIx64, f->name, i,
                      state_field_value(f, a + f->offset, i),
                      state_field_value(f, b + f->offset, i));
}

static void compare_cpus(struct cpu *a, struct cpu *b)
{
    const struct state_desc *d = &cpu_state_desc;

    d->before_save(a);
    d->before_save(b);
    for (uint32_t i = 0; i < d->field_count; i++)
        compare_field(&d->fields[i], (const uint8_t *)a, (const uint8_t *)b);
}

static void compare(void)
{
    const struct memory_block *a = &interpreted.pc.mem.blocks[0], *b = &translated.pc.mem.blocks[0];

    compare_cpus(interpreted.pc.cpu, translated.pc.cpu);
    if (memcmp(a->host, b->host, a->size) == 0)
        return;
    for (uint64_t i = 0; i < a->size; i++)
        if (a->host[i] != b->host[i])
            fuzz_fail("memory at %#" PRIx64 ": interpreted %#x, translated %#x", i, a->host[i],
                      b->host[i]);
}

static unsigned make(struct machine *m, const uint8_t *data, size_t size)
{
    struct input in = {data, size};

    machine_reset(m);
    return guest_from_input(&m->pc, &in);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint16_t lengths[] = {3, 20, 60, 150};
    unsigned schedule;

    if (!interpreted.pc.cpu) {
        machine_init(&interpreted, GUEST_RAM, &engine_interpret);
        machine_init(&translated, GUEST_RAM, &engine_translate);
    }
    schedule = make(&interpreted, data, size);
    (void)make(&translated, data, size);
    for (unsigned i = 0; i < PIECES; i++) {
        enum cpu_exit a = machine_run(&interpreted.pc, &engine_interpret, lengths[schedule & 3]);
        enum cpu_exit b = machine_run(&translated.pc, &engine_translate, lengths[schedule & 3]);

        machine_check_cpu(translated.pc.cpu);
        compare();
        if (a != b)
            fuzz_fail("interpreted leaves with %d, translated with %d", a, b);
        if (a == EXIT_SHUTDOWN || a == EXIT_HALTED || interpreted.reset)
            break;
        if (i % 2) {
            guest_event(&interpreted.pc, schedule >> 2 & 7);
            guest_event(&translated.pc, schedule >> 2 & 7);
        }
    }
    return 0;
}
