/* run.h - the interpreter's loop, for engines that build on it.
 *
 * The loop attends to events, debug traps and single steps between blocks; what executes a block
 * when nothing else is to be done is a parameter. vCPU thread only. */
#ifndef DOBLE_ENGINE_INTERPRET_RUN_H
#define DOBLE_ENGINE_INTERPRET_RUN_H

#include "engine/engine.h"

/* Executes some instructions, at least one or an exception, from cpu->rip on. */
typedef void interpret_execute_fn(struct cpu *cpu);

enum cpu_exit interpret_loop(struct cpu *cpu, interpret_execute_fn *execute);
enum cpu_exit interpret_step(struct cpu *cpu);
void interpret_block(struct cpu *cpu); /* one block, interpreted */

#endif
