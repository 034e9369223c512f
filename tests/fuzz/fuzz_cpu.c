/* fuzz_cpu.c - instruction streams in every mode, and what must hold of the CPU after each piece.
 *
 * The input is that of guest_input.h. The schedule says how many instructions run at a time, and
 * which events come in between. */
#include "guest_input.h"
#include "machine.h"

#include <stdlib.h>

#define MAX_PIECES 8u

static struct machine machine;

static bool has_ended(enum cpu_exit why)
{
    return why == EXIT_SHUTDOWN || why == EXIT_HALTED || machine.reset || machine.power_off;
}

static void run(struct pc *pc, unsigned schedule)
{
    static const uint16_t lengths[] = {1, 7, 30, 100};

    for (unsigned i = 0; i < MAX_PIECES; i++) {
        enum cpu_exit why = EXIT_STEPPED;

        if ((schedule & 3) == 0 && i < 4)
            why = engine_interpret.step(pc->cpu);
        else
            why = machine_run(pc, &engine_interpret, lengths[schedule & 3]);
        machine_check_cpu(pc->cpu);
        machine_check_rip(pc->cpu);
        if (has_ended(why))
            break;
        if (i % 2)
            guest_event(pc, schedule >> 2 & 7);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t tables[GUEST_TABLES_SIZE];
    struct pc *pc = &machine.pc;
    struct input in = {data, size};
    unsigned schedule;
    uint8_t *at;
    uint64_t cr3;

    if (!pc->cpu)
        machine_init(&machine, GUEST_RAM, &engine_interpret);
    machine_reset(&machine);
    schedule = guest_from_input(pc, &in);
    machine_check_cpu(pc->cpu);

    at = memory_ram(&pc->mem, GUEST_TABLES, GUEST_TABLES_SIZE);
    memcpy(tables, at, sizeof tables);
    cr3 = pc->cpu->cr3;
    run(pc, schedule);
    for (size_t i = 0; i < sizeof tables; i++)
        if ((tables[i] ^ at[i]) & ~0x60) /* accessed and dirty bits */
            cr3 = UINT64_MAX;
    if (cr3 == pc->cpu->cr3)
        machine_check_tlb(pc->cpu);
    machine_check_saving(pc);
    return 0;
}
