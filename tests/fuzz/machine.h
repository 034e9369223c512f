/* machine.h - what the fuzzers share: a board to play with, running it without threads, and what
 * must hold of a machine whatever a guest, a file or a client did.
 *
 * Time is virtual, so that an input does the same in every run. Everything is for one thread. */
#ifndef DOBLE_TESTS_FUZZ_MACHINE_H
#define DOBLE_TESTS_FUZZ_MACHINE_H

#include "engine/engine.h"
#include "machine/pc.h"

struct machine {
    struct pc pc;
    const struct engine_ops *engine;
    bool reset, power_off;   /* what the guest asked for */
    uint64_t sent, sent_sum; /* on the serial line */
    uint8_t *new_state;      /* as it was made */
    size_t new_size;
};

/* libFuzzer's entry, which has no header. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Says what is wrong and aborts: a find. */
_Noreturn void fuzz_fail(const char *format, ...) PRINTF_LIKE(1, 2);

/* Makes a board with `memory` bytes of RAM. It is kept for the whole run. */
void machine_init(struct machine *m, uint64_t memory, const struct engine_ops *engine);
/* The board as it was made: registers, devices, time and RAM. */
void machine_reset(struct machine *m);
/* A board's state as it was saved when time was 0. */
void machine_load_new(struct pc *pc, const uint8_t *state, size_t size);
/* Zeros in all RAM, and no code known in it. */
/* All flags of pages but those that say what memory_shadow() has done. */
void machine_clear_flags(struct pc *pc);
void machine_clear_ram(struct pc *pc, const struct engine_ops *engine);

/* Executes up to `count` instructions, and the timers that come due. Stops earlier when the machine
 * is shut down, or halted without a timer, or a debugger has stopped it. */
enum cpu_exit machine_run(struct pc *pc, const struct engine_ops *engine, uint64_t count);
/* Lets time pass without the CPU, but not beyond the `rounds`-th timer. */
void machine_pass(struct pc *pc, uint64_t ns, unsigned rounds);

/* The state of all devices and the CPU; the caller frees *data. */
void machine_save(struct pc *pc, uint8_t **data, size_t *size);
/* Fails if two saved states are not the same. */
void machine_compare_states(const uint8_t *a, const uint8_t *b, size_t size);
/* Saves, loads what was saved, and saves again: it must load, and be the same. */
void machine_check_saving(struct pc *pc);
/* Fails unless the CPU is in a state that a CPU can be in, all that is derived from its registers
 * is in step with them, and every TLB entry leads to guest RAM. */
void machine_check_cpu(struct cpu *cpu);
/* Fails if a program has got to an address that is not canonical. A saved state may begin there. */
void machine_check_rip(const struct cpu *cpu);
/* Fails unless every TLB entry of the address space in force is what its page tables say. For
 * guests that have not changed them. */
void machine_check_tlb(struct cpu *cpu);

#endif
