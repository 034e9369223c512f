/* What the cache of decoded forms gives is what the decoder gives, for random bytes, for random
 * ends of the same beginnings, and for the instructions of this program. */
#include "cpu_fixture.h"

#include "cpu/decode.h"
#include "cpu/decode_cache.h"

#include <stdio.h>

static uint64_t random_state = 88172645463325252;

static uint64_t random64(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static void set_up(struct fixture *f, unsigned bits)
{
    fixture_set_mode(f, bits);
    f->cpu->cr4 |= CR4_PAE | CR4_OSFXSR | CR4_OSXSAVE;
    f->cpu->xcr0 = 7;
    cpu_update_mode(f->cpu);
}

/* The same by both; returns the length, or 1 if there is none. */
static unsigned compare(struct fixture *f, const uint8_t *code, unsigned avail)
{
    static struct decoded by_cache, by_decoder;
    struct decode_cache *cache = f->cpu->decode_cache;
    enum decode_result result = insn_decode(f->cpu, code, avail, &by_cache);
    unsigned count;

    f->cpu->decode_cache = NULL;
    assert_int_equal(insn_decode(f->cpu, code, avail, &by_decoder), result);
    f->cpu->decode_cache = cache;
    if (result != DECODE_OK)
        return 1;
    assert_ptr_equal(by_cache.row, by_decoder.row);
    if (by_decoder.row->class == CLASS_ILLEGAL)
        return 1;
    assert_memory_equal(&by_cache, &by_decoder, offsetof(struct decoded, ops));
    count = by_decoder.zi.operand_count;
    if (count < 2)
        count = 2; /* two may always be looked at */
    assert_memory_equal(by_cache.ops, by_decoder.ops, count * sizeof *by_decoder.ops);
    return by_decoder.in.len;
}

static void own_code(void **state)
{
    const uint8_t *code = (const uint8_t *)(uintptr_t)insn_decode;

    set_up(*state, 64);
    for (unsigned i = 0, n = 0; n < 20000; n++)
        i += compare(*state, code + i % 8000, INSN_MAX_LEN);
}

/* Pairs of instructions that differ in their last bytes, so that most of the second ones are found.
 */
static void random_bytes(void **state)
{
    static const unsigned modes[] = {16, 32, 64};
    uint8_t code[16];

    for (unsigned m = 0; m < ARRAY_SIZE(modes); m++) {
        set_up(*state, modes[m]);
        for (unsigned n = 0; n < 60000; n++) {
            unsigned same = n % 8 + 1;
            uint64_t first = random64();

            for (unsigned half = 0; half < 2; half++) {
                uint64_t rest[2] = {random64(), random64()};

                memcpy(code, rest, sizeof code);
                memcpy(code, &first, same);
                compare(*state, code, (unsigned)(random64() % INSN_MAX_LEN) + 1);
            }
        }
    }
}

/* Every opcode of every map with every ModRM byte and some prefixes. */
static void every_opcode(void **state)
{
    static const char *const beginnings[] = {"",
                                             "\x48",
                                             "\x66",
                                             "\xf3",
                                             "\x0f",
                                             "\x48\x0f",
                                             "\x66\x0f",
                                             "\xf2\x0f",
                                             "\xf3\x0f",
                                             "\x66\x0f\x38",
                                             "\x66\x0f\x3a",
                                             "\xc5\xf9",
                                             "\xc4\xe2\x79",
                                             "\xc4\xe3\x7d"};
    uint8_t code[24];

    set_up(*state, 64);
    for (unsigned b = 0; b < ARRAY_SIZE(beginnings); b++)
        for (unsigned op = 0; op < 256; op++)
            for (unsigned modrm = 0; modrm < 256; modrm += 5)
                for (unsigned twice = 0; twice < 2; twice++) {
                    uint64_t rest[2] = {random64(), random64()};
                    size_t n = strlen(beginnings[b]);

                    memcpy(code, beginnings[b], n);
                    code[n] = (uint8_t)op;
                    code[n + 1] = (uint8_t)modrm;
                    memcpy(code + n + 2, rest, INSN_MAX_LEN - n - 2);
                    compare(*state, code, INSN_MAX_LEN);
                }
}

/* The table does something: a form that was seen is found, in its mode only. */
static void found(void **state)
{
    static const uint8_t add[] = {0x48, 0x81, 0xc3, 0x78, 0x56, 0x34, 0x12};
    struct fixture *f = *state;
    struct insn_form form;
    struct decoded d;

    set_up(f, 64);
    assert_int_equal(insn_decode(f->cpu, add, sizeof add, &d), DECODE_OK);
    form = decode_form(f->cpu, add, sizeof add);
    assert_int_equal(form.len, 3);
    assert_true(decode_cache_get(f->cpu->decode_cache, &form, add, sizeof add, &d));
    assert_int_equal(d.in.imm, 0x12345678);
    assert_false(decode_cache_get(f->cpu->decode_cache, &form, add, sizeof add - 1, &d));
    form.mode ^= MODE_CPL0;
    assert_false(decode_cache_get(f->cpu->decode_cache, &form, add, sizeof add, &d));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(own_code, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(random_bytes, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(every_opcode, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(found, fixture_setup, fixture_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
