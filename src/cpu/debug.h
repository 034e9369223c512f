/* debug.h - what a debugger outside the guest wants of a vCPU: breakpoints, watchpoints, steps.
 *
 * The guest sees none of it: no INT3 is written to its memory and its debug registers stay its own.
 * A debugger hangs a struct cpu_debug into the CPU with cpu_debug_attach() and changes it while the
 * vCPU is parked; without one cpu->debug is NULL and nothing costs anything.
 *
 * What an engine does for it:
 *   - while ATTN_DEBUG is set, cpu_debug_next() is asked before every instruction or block: leave
 *     with EXIT_DEBUG, execute one instruction (and then call cpu_debug_stepped()), or run;
 *   - before running a block it asks cpu_debug_break_within(), and goes step by step through one
 *     that holds a breakpoint;
 *   - an access to a watched page takes the slow way of access.c, which notes a hit here and sets
 *     ATTN_SHADOW and ATTN_DEBUG, so that the block is left after the instruction.
 *
 * Addresses are linear. Functions are for the vCPU thread, or any while the vCPU is parked. */
#ifndef DOBLE_CPU_DEBUG_H
#define DOBLE_CPU_DEBUG_H

#include "cpu/cpu.h"

#define DEBUG_BREAKPOINTS 512
#define DEBUG_WATCHPOINTS 64
#define DEBUG_WATCH_MAX_LENGTH 65536u

/* Bits of a breakpoint: a debugger may set one of each kind at the same address. */
enum debug_break_kind { DEBUG_BREAK_SOFTWARE = 1, DEBUG_BREAK_HARDWARE = 2 };
enum debug_watch_kind { DEBUG_WATCH_WRITE = 1, DEBUG_WATCH_READ = 2, DEBUG_WATCH_ACCESS = 3 };

/* Why the engine left with EXIT_DEBUG. */
enum debug_reason {
    DEBUG_NONE,
    DEBUG_STEP,
    DEBUG_BREAK,    /* hit_kind: enum debug_break_kind */
    DEBUG_WATCH,    /* hit_kind: enum debug_watch_kind; hit_address */
    DEBUG_SHUTDOWN, /* triple fault */
};

struct debug_break {
    gva_t address;
    uint8_t kinds;
};

struct debug_watch {
    gva_t address;
    uint32_t length;
    enum debug_watch_kind kind;
};

struct cpu_debug {
    struct debug_break breaks[DEBUG_BREAKPOINTS]; /* in rising order of address */
    unsigned break_count;
    struct debug_watch watches[DEBUG_WATCHPOINTS];
    unsigned watch_count;
    bool step;        /* stop after one instruction, or one event */
    bool step_events; /* a step may take an interrupt; otherwise interrupts wait */
    bool pass;        /* the breakpoint at pass_address doesn't stop the next instruction */
    gva_t pass_address;
    bool shutdown_told;

    enum debug_reason reason;
    unsigned hit_kind;
    gva_t hit_address;
};

enum debug_action { DEBUG_RUN, DEBUG_ONE, DEBUG_LEAVE };

/* --- for debuggers --- */

void cpu_debug_attach(struct cpu *cpu, struct cpu_debug *debug);
/* Also forgets all breakpoints and watchpoints. */
void cpu_debug_detach(struct cpu *cpu);

/* False: there are too many, or the range makes no sense. Setting one that is set, and removing one
 * that is not, is no error. */
bool cpu_debug_set_break(struct cpu *cpu, gva_t address, enum debug_break_kind kind) MUST_USE;
void cpu_debug_remove_break(struct cpu *cpu, gva_t address, enum debug_break_kind kind);
bool cpu_debug_set_watch(struct cpu *cpu, gva_t address, uint64_t length,
                         enum debug_watch_kind kind) MUST_USE;
void cpu_debug_remove_watch(struct cpu *cpu, gva_t address, uint64_t length,
                            enum debug_watch_kind kind);

/* The vCPU is about to run on: forgets why it stopped. `pass`: a breakpoint where it is now doesn't
 * count. */
void cpu_debug_resume(struct cpu *cpu, bool step, bool pass);

/* The linear address of the next instruction. */
gva_t cpu_debug_pc(const struct cpu *cpu);

/* --- for engines --- */

enum debug_action cpu_debug_next(struct cpu *cpu);
/* One instruction was executed, or one event was taken. */
void cpu_debug_stepped(struct cpu *cpu);
/* May events be taken before the instruction that cpu_debug_next() asked for? */
static inline bool cpu_debug_takes_events(const struct cpu *cpu)
{
    return cpu->debug->step && cpu->debug->step_events;
}
/* Triple fault. True: the debugger wants to see it (once). */
bool cpu_debug_shutdown(struct cpu *cpu);
/* Is there a breakpoint at any of these bytes? */
bool cpu_debug_break_within(const struct cpu *cpu, gva_t address, unsigned length);

/* --- for access.c and string.c --- */

/* Is any of these bytes watched? */
bool cpu_debug_watched(const struct cpu *cpu, gva_t address, uint64_t length);
/* `kind`: how they are accessed. */
void cpu_debug_note_access(struct cpu *cpu, gva_t address, uint64_t length,
                           enum debug_watch_kind kind);
/* The running instruction has hit a watchpoint. */
static inline bool cpu_debug_hit(const struct cpu *cpu)
{
    return cpu->debug && cpu->debug->reason == DEBUG_WATCH;
}

#endif
