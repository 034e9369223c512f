/* frame.h - several pushes that happen all or not at all, also to the stack of another privilege.
 *
 * Interrupts and far calls push a frame before they change the CPU, so that a fault on the stack
 * leaves everything as it was. The frame is collected, checked as a whole (#SS, #PF), written, and
 * then the caller loads SS and the stack pointer. vCPU thread only.
 *
 *   item[0]        <- pushed first, highest address
 *   ...
 *   item[count-1]  <- sp after frame_write() */
#ifndef DOBLE_CPU_FRAME_H
#define DOBLE_CPU_FRAME_H

#include "cpu/cpu.h"

#define FRAME_ITEMS 40 /* a call gate's 31 parameters, and SS, SP, CS, IP */

struct frame {
    struct segment ss; /* the stack segment */
    uint64_t sp;       /* before the pushes; frame_write() lowers it */
    uint64_t mask;     /* width of the stack pointer */
    unsigned cpl;      /* privilege of the pushes */
    uint32_t error;    /* error code of #SS when the frame doesn't fit */
    unsigned size;     /* of an item: 2, 4 or 8 */
    unsigned count;
    uint64_t item[FRAME_ITEMS];
};

/* A frame on the stack in use now. */
void frame_init_current(struct frame *f, const struct cpu *cpu, unsigned size, unsigned ext);
/* A frame on the stack ss:sp of privilege `cpl`; `wide`: 64-bit stack, ss is not looked at. */
void frame_init_stack(struct frame *f, const struct segment *ss, uint64_t sp, bool wide,
                      unsigned cpl, unsigned size, unsigned ext);

static inline void frame_push(struct frame *f, uint64_t v)
{
    f->item[f->count++] = v;
}

/* Checks, then writes. False: #SS(f->error) or #PF, and nothing was written. */
bool frame_write(struct cpu *cpu, struct frame *f) MUST_USE;

/* Reads the `index`-th item of `size` bytes from the top of the stack in use, `skip` bytes above
 * the pointer; doesn't move it. False: #SS(0) or #PF. */
bool frame_peek(struct cpu *cpu, unsigned index, unsigned size, unsigned skip,
                uint64_t *v) MUST_USE;

#endif
