/* test_memory_dma.c - stores of devices to pages that an engine has code of: noted at once, dropped
 * when the vCPU asks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mem/memory.h"

#define RAM (16 * MIB)

struct fixture {
    struct memory mem;
    unsigned pending; /* calls of the listener */
    unsigned drops;   /* calls of the engine's function */
    uint64_t bytes;   /* in all of them */
    gpa_t first;
};

static void on_code(void *opaque, gpa_t gpa, uint64_t len)
{
    struct fixture *f = opaque;

    if (f->drops++ == 0)
        f->first = gpa;
    f->bytes += len;
}

static void on_dma(void *opaque)
{
    struct fixture *f = opaque;

    f->pending++;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    assert_non_null(f);
    assert_int_equal(memory_init(&f->mem, RAM, NULL), 0);
    memory_set_code_listener(&f->mem, on_code, f);
    memory_set_dma_listener(&f->mem, on_dma, f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    memory_free(&f->mem);
    free(f);
    return 0;
}

static void data_pages_are_only_marked(void **state)
{
    struct fixture *f = *state;

    memory_dma_touched(&f->mem, 0x5ff0, 0x20);
    memory_dma_sync(&f->mem);
    assert_int_equal(f->pending, 0);
    assert_int_equal(f->drops, 0);
    assert_true(*memory_page_flags(&f->mem, 0x5000) & PAGE_DIRTY);
    assert_true(*memory_page_flags(&f->mem, 0x6000) & PAGE_DIRTY);
    assert_false(*memory_page_flags(&f->mem, 0x7000) & PAGE_DIRTY);
}

static void code_is_dropped_at_the_sync_and_once(void **state)
{
    struct fixture *f = *state;

    *memory_page_flags(&f->mem, 0x6000) |= PAGE_CODE;
    memory_dma_touched(&f->mem, 0x5ff0, 0x20);
    assert_int_equal(f->pending, 1);
    assert_int_equal(f->drops, 0);
    memory_dma_sync(&f->mem);
    assert_int_equal(f->drops, 1);
    assert_int_equal(f->first, 0x6000);
    assert_int_equal(f->bytes, 0x10);
    memory_dma_sync(&f->mem);
    assert_int_equal(f->drops, 1);
}

/* More pages than there is room to note: all code between the lowest and the highest goes. */
static void nothing_is_forgotten_when_there_is_much(void **state)
{
    struct fixture *f = *state;
    const unsigned pages = 3 * MEMORY_DMA_SPANS;

    for (unsigned i = 0; i < pages; i++)
        *memory_page_flags(&f->mem, (i + 1) * PAGE_SIZE) |= PAGE_CODE;
    for (unsigned i = pages; i > 0; i--)
        memory_dma_touched(&f->mem, i * PAGE_SIZE + 8, 8);
    memory_dma_sync(&f->mem);
    assert_int_equal(f->drops, pages);
    assert_int_equal(f->first, PAGE_SIZE + 8);
}

static void what_is_not_ram_is_ignored(void **state)
{
    struct fixture *f = *state;

    memory_dma_touched(&f->mem, RAM - 8, 64);
    memory_dma_touched(&f->mem, UINT64_MAX - PAGE_SIZE + 1, PAGE_SIZE);
    memory_dma_sync(&f->mem);
    assert_int_equal(f->drops, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(data_pages_are_only_marked, setup, teardown),
        cmocka_unit_test_setup_teardown(code_is_dropped_at_the_sync_and_once, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_is_forgotten_when_there_is_much, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_not_ram_is_ignored, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
