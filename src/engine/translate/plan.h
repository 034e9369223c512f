/* plan.h - what is known of a block before any of it is emitted.
 *
 * The instructions of a block are decoded first, all of them, so that checks can be shared:
 *
 * - **Windows of the stack.** While RSP changes by constants only, the bytes of the stack that the
 *   instructions touch are known relative to RSP at the first of them. One check there shows that
 *   all are in the page of the stack that is kept, and the accesses themselves are native ones.
 * - **Groups of operands** with the same base register, which does not change between them: one
 *   check for all the bytes they span, at the first.
 *
 * Where such a check fails, the block is left for a careful one that begins at that instruction and
 * checks each access by itself. Pure functions of guest code and CPU mode. */
#ifndef DOBLE_ENGINE_TRANSLATE_PLAN_H
#define DOBLE_ENGINE_TRANSLATE_PLAN_H

#include "cpu/decode.h"

#define PLAN_MAX_INSNS 64
#define CAREFUL_MAX_INSNS 16         /* of a block without shared checks */
#define PLAN_MAX_SPANS NATIVE_GROUPS /* windows, and groups of operands, of a block */

/* Bytes that are checked at once: [low, high) from the register's value at the first instruction.
 */
struct span {
    int32_t low, high;
    uint8_t first, last; /* instructions that have some of them */
    uint8_t members;
    bool write;
};

struct planned {
    struct decoded d;
    uint16_t offset; /* from the start of the block */
    uint32_t host;   /* bytes of host code before it; set when it is emitted */
    /* Executed by translated code in this mode, or only interpreted? Helpers are not native; some
     * have native forms of their own (plan_is_system). */
    bool native;
    int8_t window;     /* of the stack, or -1 */
    int8_t group;      /* of its memory operand, or -1 */
    bool opens_window; /* the first of it: the check is here */
    bool opens_group;
    bool ends;  /* the block; a conditional branch may only leave it when it is taken */
    bool holds; /* later instructions rely on checks that were made by the end of this one */
};

struct plan {
    const struct cpu *cpu;
    unsigned count, len; /* instructions, and their bytes */
    uint32_t host_cold;  /* bytes of host code before what is behind the block */
    unsigned windows, groups;
    struct span window[PLAN_MAX_SPANS], group[PLAN_MAX_SPANS];
    struct planned insns[PLAN_MAX_INSNS];
};

/* Decodes the block at `code`. `careful`: without shared checks, and short. */
void plan_make(struct plan *plan, const struct cpu *cpu, const uint8_t *code, unsigned avail,
               bool careful);

/* --- about instructions --- */

/* Is it a helper that has a native form of its own in this mode? */
bool plan_is_system(const struct cpu *cpu, const struct decoded *d);
/* Helpers that change neither what was checked nor registers but their operands. */
bool plan_leaves_alone(const struct decoded *d);
/* A branch by flags. */
bool plan_is_condition(const struct decoded *d);
/* PUSH and POP of the width that is native in this mode. */
bool plan_is_push(const struct cpu *cpu, const struct decoded *d);
bool plan_is_pop(const struct cpu *cpu, const struct decoded *d);
/* RSP changes by a constant, and no memory is touched. */
bool plan_moves_stack(const struct cpu *cpu, const struct decoded *d, int32_t *by);
/* Its memory operand is RSP and a constant. */
bool plan_is_on_stack(const struct cpu *cpu, const struct decoded *d);
/* Where a memory operand without index is from its base; RIP-relative: from the block's start. */
int32_t plan_displacement(const struct planned *p);

/* Bytes of a slot of the stack. */
static inline unsigned plan_slot(const struct cpu *cpu)
{
    return cpu_is_64bit(cpu) ? 8 : 4;
}

#endif
