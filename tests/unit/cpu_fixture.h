/* cpu_fixture.h - a CPU with 1 MiB of RAM for unit tests of instruction helpers.
 *
 * Linear addresses are guest-physical ones, except that with fixture_unmap() 32-bit paging maps all
 * of RAM to itself but for chosen pages. */
#ifndef DOBLE_TESTS_UNIT_CPU_FIXTURE_H
#define DOBLE_TESTS_UNIT_CPU_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/cpuid.h"
#include "cpu/tlb.h"

#define FIXTURE_RAM (1 * MIB)
#define FIXTURE_PAGE_DIR 0xff000u
#define FIXTURE_PAGE_TABLE 0xfe000u
#define FIXTURE_RIP 0x1000u

struct fixture {
    struct memory mem;
    struct bus bus;
    struct cpu_model *model;
    struct cpu *cpu;
    uint8_t *ram;
};

/* Flat segments; `bits`: 16 (64 KiB segments and stack), 32 or 64. */
static inline void fixture_set_mode(struct fixture *f, unsigned bits)
{
    struct cpu *cpu = f->cpu;
    uint16_t width = bits == 16 ? 0 : SEG_DB;
    struct segment data = {
        .base = 0,
        .limit = bits == 16 ? 0xffff : UINT32_MAX,
        .sel = 8,
        .attr = (uint16_t)(SEG_P | SEG_S | SEG_WRITABLE | SEG_ACCESSED | width),
    };

    for (unsigned i = 0; i < SEG_COUNT; i++)
        cpu->seg[i] = data;
    cpu->seg[CS].attr |= SEG_CODE;
    if (bits == 64)
        cpu->seg[CS].attr = (uint16_t)((cpu->seg[CS].attr & ~SEG_DB) | SEG_L);
    cpu->efer = bits == 64 ? EFER_LME | EFER_LMA : 0;
    cpu->cr0 = CR0_PE | CR0_ET;
    cpu_update_mode(cpu);
    cpu->rip = FIXTURE_RIP;
}

static inline int fixture_setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct err err;

    assert_non_null(f);
    bus_init(&f->bus);
    assert_int_equal(memory_init(&f->mem, FIXTURE_RAM, &err), 0);
    assert_int_equal(cpu_model_new("host", &f->model, &err), 0);
    f->cpu = cpu_new(&f->mem, &f->bus, NULL, f->model, 0);
    assert_non_null(f->cpu);
    f->ram = memory_ram(&f->mem, 0, FIXTURE_RAM);
    fixture_set_mode(f, 64);
    *state = f;
    return 0;
}

static inline int fixture_teardown(void **state)
{
    struct fixture *f = *state;

    cpu_free(f->cpu);
    cpu_model_free(f->model);
    memory_free(&f->mem);
    bus_free(&f->bus);
    free(f);
    return 0;
}

/* Switches to 32-bit mode with paging; the page at `address` isn't present. */
static inline void fixture_unmap(struct fixture *f, uint32_t address)
{
    uint32_t *dir = (uint32_t *)(f->ram + FIXTURE_PAGE_DIR);
    uint32_t *table = (uint32_t *)(f->ram + FIXTURE_PAGE_TABLE);

    fixture_set_mode(f, 32);
    dir[0] = FIXTURE_PAGE_TABLE | 3;
    for (uint32_t i = 0; i < FIXTURE_RAM / PAGE_SIZE; i++)
        table[i] = i == address >> PAGE_SHIFT ? 0 : i << PAGE_SHIFT | 3;
    f->cpu->cr3 = FIXTURE_PAGE_DIR;
    f->cpu->cr0 |= CR0_PG;
    tlb_flush_all(f->cpu);
    cpu_update_mode(f->cpu);
}

/* An instruction of `osize` bytes without prefixes, with the mode's address size. */
static inline struct insn fixture_insn(const struct fixture *f, unsigned osize)
{
    static const uint8_t address_sizes[] = {
        [MODE_CODE16] = 2, [MODE_CODE32] = 4, [MODE_CODE64] = 8};

    return (struct insn){
        .osize = (uint8_t)osize,
        .asize = address_sizes[f->cpu->mode & MODE_CODE_MASK],
        .len = 2,
        .seg = DS,
        .base = REG_NONE,
        .index = REG_NONE,
    };
}

/* The same with a memory operand at [base]. */
static inline struct insn fixture_mem_insn(const struct fixture *f, unsigned osize, enum gpr base)
{
    struct insn in = fixture_insn(f, osize);

    in.flags = INSN_MEM;
    in.base = (uint8_t)base;
    return in;
}

static inline void assert_exception(const struct cpu *cpu, enum vector vector)
{
    assert_true(cpu->exc.pending);
    assert_int_equal(cpu->exc.vector, vector);
}

#endif
