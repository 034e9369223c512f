/* engine_runner.c - see engine_runner.h. */
#include "engine_runner.h"
#include "segments.h"

#include "cpu/access.h"
#include "cpu/tlb.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RAM_SIZE (2 * MIB)

/* guest-physical layout, a page each unless said otherwise */
#define PHYS_CODE 0x10000u
#define PHYS_DATA 0x11000u /* DATA_PAGES */
#define PHYS_GDT 0x20000u
#define PHYS_LDT 0x21000u
#define PHYS_IDT 0x22000u
#define PHYS_TSS 0x23000u
#define PHYS_STACK 0x24000u
#define PHYS_HANDLERS 0x25000u
#define PHYS_SEQ 0x30000u    /* SEQ_PAGES */
#define PHYS_TABLES 0x40000u /* page tables from here on */

/* guest-linear addresses of the kernel's pages: KERNEL_BASE + physical address */
#define KERNEL_BASE UINT64_C(0xffff800000000000)
#define HANDLER_SIZE 16 /* the handler of vector v is at KERNEL_BASE + PHYS_HANDLERS + 16 v */
#define STACK_TOP (KERNEL_BASE + PHYS_STACK + PAGE_SIZE)
#define TSS_SELECTOR 0x40
#define LDT_SELECTOR 0x50

#define PTE_P 1u
#define PTE_W 2u
#define PTE_U 4u
#define PTE_A 0x20u
#define PTE_D 0x40u
#define PTE_NX (UINT64_C(1) << 63)

struct engine_runner {
    const struct engine_ops *ops;
    struct memory mem;
    struct bus bus;
    struct clock clock;
    struct cpu *cpu;
    gpa_t next_table;
    uint8_t *data;
    _Atomic unsigned runs, ticking; /* of run(); when the timer went off last */
    uint8_t code_bytes[16];
    uint16_t code_offset;
    uint8_t filler; /* around the instruction: NOP, or INT3 to end run() */
};

static uint64_t *phys_u64(struct engine_runner *r, gpa_t gpa)
{
    return memory_ram(&r->mem, gpa, 8);
}

/* The entry for a linear address in the table at `table`, whose level is 4..1. */
static uint64_t *table_entry(struct engine_runner *r, gpa_t table, unsigned level, gva_t gva)
{
    return phys_u64(r, table + (gva >> (12 + 9 * (level - 1)) & 511) * 8);
}

static void map_page(struct engine_runner *r, gva_t gva, gpa_t gpa, uint64_t rights)
{
    gpa_t table = PHYS_TABLES;

    for (unsigned level = 4; level > 1; level--) {
        uint64_t *entry = table_entry(r, table, level, gva);

        if (!*entry) {
            *entry = r->next_table | PTE_P | PTE_W | PTE_U | PTE_A;
            r->next_table += PAGE_SIZE;
        }
        table = *entry & PAGE_MASK & ~PTE_NX;
    }
    *table_entry(r, table, 1, gva) = gpa | rights | PTE_P | PTE_A | PTE_D;
}

static void map_all(struct engine_runner *r)
{
    static const uint32_t kernel[] = {PHYS_GDT, PHYS_LDT,   PHYS_IDT,
                                      PHYS_TSS, PHYS_STACK, PHYS_HANDLERS};

    r->next_table = PHYS_TABLES + PAGE_SIZE;
    map_page(r, CODE_BASE, PHYS_CODE, PTE_U);
    for (unsigned i = 0; i < DATA_PAGES; i++)
        map_page(r, DATA_BASE + i * PAGE_SIZE, PHYS_DATA + i * PAGE_SIZE,
                 PTE_U | PTE_NX | (i < DATA_WRITABLE ? PTE_W : 0));
    for (unsigned i = 0; i <= SEQ_PAGES; i++)
        map_page(r, SEQ_BASE + i * PAGE_SIZE, PHYS_SEQ + i % SEQ_PAGES * PAGE_SIZE, PTE_U | PTE_W);
    for (unsigned i = 0; i < ARRAY_SIZE(kernel); i++)
        map_page(r, KERNEL_BASE + kernel[i], kernel[i], PTE_W);
}

/* A 16-byte system descriptor of the GDT. */
static void put_system_descriptor(struct engine_runner *r, unsigned selector, uint64_t base,
                                  uint32_t limit, unsigned type)
{
    struct segment_desc low = {(uint32_t)base, limit, (uint16_t)(SEG_P | type)};

    *phys_u64(r, PHYS_GDT + selector) = segment_descriptor(&low);
    *phys_u64(r, PHYS_GDT + selector + 8) = base >> 32;
}

static void fill_gdt(struct engine_runner *r)
{
    /* as in a Linux kernel; 8 is its 32-bit kernel code segment */
    static const uint64_t entries[] = {0,
                                       0x00cf9b000000ffff,
                                       0x00af9b000000ffff,
                                       0x00cf93000000ffff,
                                       0x00cffb000000ffff,
                                       0x00cff3000000ffff,
                                       0x00affb000000ffff};

    for (unsigned i = 0; i < ARRAY_SIZE(entries); i++)
        *phys_u64(r, PHYS_GDT + 8 * i) = entries[i];
    put_system_descriptor(r, TSS_SELECTOR, KERNEL_BASE + PHYS_TSS, 0x67, 0xb);
    put_system_descriptor(r, LDT_SELECTOR, KERNEL_BASE + PHYS_LDT, 8 * LDT_COUNT - 1, 2);
    for (unsigned i = 0; i < LDT_COUNT; i++)
        *phys_u64(r, PHYS_LDT + 8 * i) = segment_descriptor(&ldt_segments[i]);
}

/* Interrupt gates; user mode may use those that Linux lets it use. */
static void fill_idt(struct engine_runner *r)
{
    for (unsigned v = 0; v < 256; v++) {
        uint64_t at = KERNEL_BASE + PHYS_HANDLERS + v * HANDLER_SIZE;
        uint64_t dpl = v == EXC_BP || v == EXC_OF ? 3 : 0;

        *phys_u64(r, PHYS_IDT + 16 * v) = (at & 0xffff) | SEL_KERNEL_CS << 16 |
                                          (0x8e00 | dpl << 13) << 32 | (at >> 16 & 0xffff) << 48;
        *phys_u64(r, PHYS_IDT + 16 * v + 8) = at >> 32;
    }
    memcpy(memory_ram(&r->mem, PHYS_TSS + 4, 8), &(uint64_t){STACK_TOP}, 8); /* RSP0 */
    /* the I/O permission map begins beyond the TSS's limit: no port is allowed */
    memcpy(memory_ram(&r->mem, PHYS_TSS + 0x66, 2), &(uint16_t){0x68}, 2);
}

static void set_system_registers(struct cpu *cpu)
{
    cpu->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG;
    cpu->cr3 = PHYS_TABLES;
    cpu->cr4 = CR4_PAE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE | CR4_FSGSBASE;
    cpu->efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
    cpu->xcr0 = XCR0_X87 | XCR0_SSE | XCR0_AVX;
    cpu->gdtr = (struct desc_table){KERNEL_BASE + PHYS_GDT, 0x7f};
    cpu->idtr = (struct desc_table){KERNEL_BASE + PHYS_IDT, 0xfff};
    cpu->ldtr =
        (struct segment){KERNEL_BASE + PHYS_LDT, 8 * LDT_COUNT - 1, LDT_SELECTOR, SEG_P | 2};
    cpu->tr = (struct segment){KERNEL_BASE + PHYS_TSS, 0x67, TSS_SELECTOR, SEG_P | 0xb};
    cpu_update_mode(cpu);
    tlb_flush_all(cpu);
}

static const struct engine_config verified = {.verify = true};

int engine_runner_new(const struct cpu_model *model, const struct engine_ops *ops,
                      struct engine_runner **runner, struct err *err)
{
    struct engine_runner *r = calloc(1, sizeof(*r));
    int ret;

    if (!r)
        return err_set(err, -ENOMEM, "out of memory");
    *runner = r;
    r->ops = ops;
    ret = memory_init(&r->mem, RAM_SIZE, err);
    if (ret)
        return ret;
    bus_init(&r->bus);
    clock_init(&r->clock, CLOCK_HOST);
    r->cpu = cpu_new(&r->mem, &r->bus, &r->clock, model, 0);
    if (!r->cpu)
        return err_set(err, -ENOMEM, "out of memory");
    map_all(r);
    fill_gdt(r);
    fill_idt(r);
    set_system_registers(r->cpu);
    r->data = memory_ram(&r->mem, PHYS_DATA, DATA_SIZE);
    memset(memory_ram(&r->mem, PHYS_CODE, PAGE_SIZE), 0x90, PAGE_SIZE);
    memset(r->code_bytes, 0x90, sizeof(r->code_bytes));
    r->filler = 0x90;
    memset(memory_ram(&r->mem, PHYS_HANDLERS, PAGE_SIZE), 0xf4, PAGE_SIZE); /* HLT ends run() */
    r->cpu->icount_limit = UINT64_MAX;
    r->cpu->engine_config = &verified;
    return ops->init(r->cpu, err);
}

void engine_runner_free(struct engine_runner *r)
{
    if (!r)
        return;
    if (r->cpu) {
        r->ops->free(r->cpu);
        cpu_free(r->cpu);
    }
    bus_free(&r->bus);
    memory_free(&r->mem);
    free(r);
}

uint8_t *engine_runner_data(struct engine_runner *r)
{
    return r->data;
}

const uint8_t *engine_runner_sequence(struct engine_runner *r)
{
    return memory_ram(&r->mem, PHYS_SEQ, SEQ_SIZE);
}

/* States of one encoding follow each other: the code page changes only with the bytes. */
static void place_code(struct engine_runner *r, const struct test_case *c)
{
    uint8_t *code = memory_ram(&r->mem, PHYS_CODE, PAGE_SIZE);
    unsigned old_room = PAGE_SIZE - r->code_offset;
    unsigned room = PAGE_SIZE - c->offset;
    unsigned len = c->whole ? c->len : 16;
    uint8_t filler = c->whole ? 0xcc : 0x90;

    if (r->code_offset == c->offset && memcmp(r->code_bytes, c->bytes, 16) == 0 &&
        r->filler == filler)
        return;
    if (r->filler != filler)
        memset(code, filler, PAGE_SIZE);
    memset(code + r->code_offset, filler, old_room < 16 ? old_room : 16);
    memcpy(code + c->offset, c->bytes, room < len ? room : len);
    r->filler = filler;
    memcpy(r->code_bytes, c->bytes, 16);
    r->code_offset = c->offset;
    memory_touched(&r->mem, PHYS_CODE, PAGE_SIZE);
}

/* The same for a sequence, which may have changed itself. */
static void place_sequence(struct engine_runner *r, const struct test_case *c)
{
    uint8_t *pages = memory_ram(&r->mem, PHYS_SEQ, SEQ_SIZE);
    uint8_t image[SEQ_SIZE];

    case_make_image(c, image);
    if (memcmp(pages, image, sizeof(image)) != 0) {
        memcpy(pages, image, sizeof(image));
        memory_touched(&r->mem, PHYS_SEQ, PAGE_SIZE);
        memory_touched(&r->mem, PHYS_SEQ + PAGE_SIZE, PAGE_SIZE);
    }
    case_fill_data(c->number, r->data);
}

static void apply_patches(struct engine_runner *r, const struct test_case *c)
{
    for (unsigned i = 0; i < c->patch_count; i++)
        memcpy(r->data + c->patches[i].offset, c->pool + c->patches[i].pool, c->patches[i].len);
}

static void load_state(struct cpu *cpu, const struct state *s, uint64_t rflags)
{
    memcpy(cpu->gpr, s->gpr, sizeof(s->gpr));
    cpu->rip = s->rip;
    for (unsigned i = 0; i < SEG_COUNT; i++)
        cpu->seg[i] = segment_of_selector(s->sel[i]);
    cpu->seg[FS].base = s->fs_base;
    cpu->seg[GS].base = s->gs_base;
    memcpy(cpu->ymm, s->ymm, sizeof(s->ymm));
    cpu->mxcsr = s->mxcsr;
    cpu->x87_live = false;
    memcpy(cpu->fx, s->fx, sizeof(s->fx));
    cpu->x87_fip = cpu->x87_fdp = 0;
    cpu->x87_fcs = cpu->x87_fds = cpu->x87_fop = 0;
    cpu->cr2 = 0;
    cpu->dr[6] = 0xffff0ff0;
    cpu->exc = (struct exception){0};
    cpu->interrupt_shadow = cpu->shadow_ss = false;
    cpu->pending_db = 0;
    cpu->activity = CPU_ACTIVE;
    cpu_set_cpl(cpu, 3);
    cpu_set_rflags(cpu, rflags);
    cpu_update_mode(cpu);
}

static void save_state(struct cpu *cpu, struct state *s)
{
    cpu_x87_sync(cpu);
    memcpy(s->gpr, cpu->gpr, sizeof(s->gpr));
    s->rip = cpu->rip;
    s->rflags = cpu_get_rflags(cpu);
    for (unsigned i = 0; i < SEG_COUNT; i++)
        s->sel[i] = cpu->seg[i].sel;
    s->fs_base = cpu->seg[FS].base;
    s->gs_base = cpu->seg[GS].base;
    memcpy(s->ymm, cpu->ymm, sizeof(s->ymm));
    s->mxcsr = cpu->mxcsr;
    memcpy(s->fx, cpu->fx, sizeof(s->fx));
    memset(s->fx + 24, 0, 8); /* MXCSR and its mask */
}

static bool in_handler(const struct cpu *cpu)
{
    return cpu->cpl == 0 && cpu->rip - (KERNEL_BASE + PHYS_HANDLERS) < 256 * HANDLER_SIZE;
}

static bool has_error_code(unsigned vector)
{
    return vector == EXC_DF || (vector >= EXC_TS && vector <= EXC_PF) || vector == EXC_AC;
}

/* The user's state from the frame on the kernel stack. */
static void save_frame(struct engine_runner *r, struct result *result)
{
    struct cpu *cpu = r->cpu;
    uint64_t at = cpu->gpr[RSP] - (KERNEL_BASE + PHYS_STACK);
    const uint8_t *stack = memory_ram(&r->mem, PHYS_STACK, PAGE_SIZE);
    uint64_t frame[6] = {0};
    bool error;

    save_state(cpu, &result->after);
    result->vector = (uint32_t)((cpu->rip - (KERNEL_BASE + PHYS_HANDLERS)) / HANDLER_SIZE);
    result->cr2 = cpu->cr2;
    error = has_error_code(result->vector);
    if (at > PAGE_SIZE - 48) {
        result->vector = error || at != PAGE_SIZE - 40 ? NO_EXIT : result->vector;
        at = PAGE_SIZE - 40;
    }
    memcpy(frame, stack + at, error ? 48 : 40);
    result->error = error ? (uint32_t)frame[0] : 0;
    result->after.rip = frame[error];
    result->after.sel[CS] = (uint16_t)frame[error + 1];
    result->after.rflags = frame[error + 2];
    result->after.gpr[RSP] = frame[error + 3];
    result->after.sel[SS] = (uint16_t)frame[error + 4];
}

/* One step of a case. True: it is over. */
static bool step(struct engine_runner *r, const struct test_case *c, unsigned *steps,
                 struct result *result)
{
    enum cpu_exit exit = r->ops->step(r->cpu);

    if (in_handler(r->cpu)) {
        save_frame(r, result);
        if (result->vector != EXC_DB || result->after.rip != c->init.rip ||
            ++*steps >= c->max_steps)
            return true;
        load_state(r->cpu, &result->after, result->after.rflags);
        return false;
    }
    if (exit != EXIT_STEPPED) {
        save_state(r->cpu, &result->after);
        result->vector = NO_EXIT;
        return true;
    }
    if (c->trap) /* the trap comes with the next step, if MOV SS delayed it */
        return false;
    save_state(r->cpu, &result->after);
    result->vector = EXC_DB;
    return result->after.rip != c->init.rip || ++*steps >= c->max_steps;
}

/* run() ends with the HLT of the handler. */
static void run_whole(struct engine_runner *r, struct result *result)
{
    enum cpu_exit exit;

    r->runs++;
    exit = r->ops->run(r->cpu);
    if (exit == EXIT_HALTED && in_handler(r->cpu)) {
        save_frame(r, result);
        return;
    }
    save_state(r->cpu, &result->after);
    result->vector = NO_EXIT;
}

/* As if it had been a single step: what came behind the instruction is taken back. */
static void forget_next(const struct test_case *c, struct result *result)
{
    uint64_t rip = result->after.rip;

    if (result->vector == EXC_BP && rip - 1 != c->init.rip) {
        result->after.rip--;
        result->vector = EXC_DB;
        result->after.rflags &= ~(uint64_t)FLAG_RF;
    } else if (result->vector == EXC_PF && result->cr2 - case_code_base(c) == rip &&
               rip != c->init.rip) {
        result->vector = EXC_DB;
        result->after.rflags &= ~(uint64_t)FLAG_RF;
        result->cr2 = 0;
        result->error = 0;
    }
}

void engine_runner_flush(struct engine_runner *r)
{
    r->ops->flush(r->cpu);
}

void engine_runner_tick(struct engine_runner *r)
{
    if (r->ticking == r->runs)
        cpu_signal(r->cpu, ATTN_STOP);
    r->ticking = r->runs;
}

void engine_runner_run(struct engine_runner *r, const struct test_case *c, struct result *result)
{
    unsigned steps = 0;

    if (c->code_len)
        place_sequence(r, c);
    else
        place_code(r, c);
    apply_patches(r, c);
    load_state(r->cpu, &c->init, c->init.rflags | (c->trap ? FLAG_TF : 0));
    result->error = 0;
    result->cr2 = 0;
    if (c->whole) {
        run_whole(r, result);
        if (!c->code_len)
            forget_next(c, result);
        return;
    }
    for (unsigned i = 0; i < c->max_steps + 2u; i++)
        if (step(r, c, &steps, result))
            return;
    save_state(r->cpu, &result->after);
    result->vector = NO_EXIT;
}
