/* test_tlb.c - what makes an entry of the TLB match, in C and in emitted code. */
#include "cpu/tlb.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* The comparison of emitted code: the last byte of an access, by the entry of the first. */
static bool emitted_hit(gva_t gva, unsigned size, uint64_t tag)
{
    return ((gva + size - 1 + tag) & PAGE_MASK) == 0;
}

static void invalid_entries_never_match(void **state)
{
    (void)state;
    for (uint64_t page = 0; page < 4 * TLB_SIZE; page++)
        for (unsigned size = 1; size <= 64; size *= 2)
            for (int near = -64; near <= 64; near++) {
                gva_t gva = (page << PAGE_SHIFT) + (uint64_t)(near < 0 ? near + 4096 : near);

                assert_false(emitted_hit(gva, size, tlb_invalid_tag(tlb_index(gva))));
            }
}

static void valid_entries_match_their_page_only(void **state)
{
    const gva_t page = UINT64_C(0xffffffff81234000);

    (void)state;
    assert_true(emitted_hit(page, 8, tlb_tag(page)));
    assert_true(emitted_hit(page + 4088, 8, tlb_tag(page)));
    assert_false(emitted_hit(page + 4089, 8, tlb_tag(page)));
    assert_false(emitted_hit(page + 4096, 1, tlb_tag(page)));
    assert_false(emitted_hit(page + (TLB_SIZE << PAGE_SHIFT), 8, tlb_tag(page)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(invalid_entries_never_match),
        cmocka_unit_test(valid_entries_match_their_page_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
