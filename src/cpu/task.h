/* task.h - the task-state segment: stacks of inner privilege levels, and task switches.
 *
 * SDM vol. 3, ch. 7. Task switches exist outside long mode only. vCPU thread only. */
#ifndef DOBLE_CPU_TASK_H
#define DOBLE_CPU_TASK_H

#include "cpu/cpu.h"

enum task_reason { TASK_JMP, TASK_CALL, TASK_IRET, TASK_EVENT /* interrupt or exception */ };

/* Switches to the task of TSS selector `sel`. cpu->rip is what the old
 * task goes on with. For TASK_EVENT an error code can be pushed on the new task's stack, and `ext`
 * is the EXT bit of error codes. False: a fault is recorded. Then *committed tells whose it is:
 * false, the old task's, and nothing was changed; true, the new task's, which is in force with
 * cpu->rip at its first instruction. */
bool task_switch(struct cpu *cpu, uint16_t sel, enum task_reason reason, unsigned ext,
                 bool has_error, uint32_t error, bool *committed) MUST_USE;

/* The same for instructions: a fault of the new task is delivered at once, so that false always
 * means that nothing has changed. */
bool task_switch_insn(struct cpu *cpu, uint16_t sel, enum task_reason reason) MUST_USE;

/* The selector that an IRET with NT set returns to; #TS if the TSS is too small. */
bool task_back_link(struct cpu *cpu, uint16_t *sel) MUST_USE;

/* The stack of privilege `cpl` in the current TSS: SS selector and pointer outside long mode... */
bool task_read_stack(struct cpu *cpu, unsigned cpl, unsigned ext, uint16_t *ss,
                     uint64_t *sp) MUST_USE;
/* ...and in long mode: slot 0..2 is RSP0..RSP2, slot 4..10 IST1..IST7. #SS(ext) when the pointer is
 * not canonical. */
bool task_read_stack64(struct cpu *cpu, unsigned slot, unsigned ext, uint64_t *rsp) MUST_USE;

#endif
