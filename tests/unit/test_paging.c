/* The page walk against an independent statement of its rules (SDM vol. 3, 4.6 and 4.7): for random
 * entries, modes and accesses the same result, error code, accessed and dirty bits are expected.
 *
 * The model never looks at memory: it knows which flags were put at which level. */
#include "cpu_fixture.h"

#include "cpu/paging.h"

#define ROUNDS 60000
#define TOP_LEVELS 5

#define FRAME UINT64_C(0x2345000) /* of the 4-KiB page; need not be RAM */
#define TABLE(level) (0x10000u + (level)*0x1000u)
#define PDPTES 0x20000u

enum form { FORM_32, FORM_PAE, FORM_4, FORM_5, FORMS };

/* What is put into the entry of one level. */
struct flags {
    bool p, rw, us, a, d, g, nx, ps, reserved;
};

struct scene {
    enum form form;
    unsigned levels;
    struct flags level[TOP_LEVELS + 1]; /* 1 is the page table */
    bool wp, nxe, smep, smap, ac, pse;
    unsigned cpl, access;
    gva_t gva;
};

struct verdict {
    bool fault;
    uint32_t error;
    unsigned leaf;  /* level at which the walk ended */
    bool too_short; /* it ended before a leaf: not present or reserved */
};

static uint64_t random_state = 88172645463325252u;

static uint64_t random64(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

/* True once in `n` times. */
static bool chance(unsigned n)
{
    return random64() % n == 0;
}

/* --- the scene --- */

static void random_scene(struct scene *s)
{
    static const unsigned levels[FORMS] = {2, 2, 4, 5};
    static const unsigned kinds[] = {ACCESS_READ,
                                     ACCESS_WRITE,
                                     ACCESS_FETCH,
                                     ACCESS_RMW,
                                     ACCESS_READ | ACCESS_SYSTEM,
                                     ACCESS_WRITE | ACCESS_SYSTEM};

    s->form = random64() % FORMS;
    s->levels = levels[s->form];
    for (unsigned i = 1; i <= s->levels; i++)
        s->level[i] = (struct flags){!chance(12), !chance(3), !chance(3), chance(2), chance(2),
                                     chance(2),   chance(6),  chance(5),  chance(15)};
    s->wp = chance(2);
    s->nxe = !chance(3);
    s->smep = chance(2);
    s->smap = chance(2);
    s->ac = chance(2);
    s->pse = chance(2);
    s->cpl = chance(2) ? 3 : (unsigned)(random64() % 3);
    s->access = kinds[random64() % ARRAY_SIZE(kinds)];
    s->gva = random64() & (s->form >= FORM_4 ? UINT64_C(0x7fffffffffff) : 0xffffffff);
}

static unsigned index_of(const struct scene *s, unsigned level)
{
    if (s->form == FORM_32)
        return (unsigned)(s->gva >> (12 + 10 * (level - 1)) & 1023);
    return (unsigned)(s->gva >> (12 + 9 * (level - 1)) & 511);
}

/* A bit that is reserved in the entry whatever else it says; 0 if there is none. */
static uint64_t reserved_bit(const struct scene *s, unsigned level)
{
    if (s->form == FORM_32)
        return level == 2 && s->pse && s->level[2].ps ? UINT64_C(1) << 21 : 0;
    if (level >= 4)
        return UINT64_C(0x80);
    return level >= 2 && s->level[level].ps ? UINT64_C(1) << 13 : UINT64_C(1) << 51;
}

static uint64_t entry_of(const struct scene *s, unsigned level)
{
    const struct flags *f = &s->level[level];
    uint64_t e = level == 1 ? FRAME : TABLE(level - 1);

    if (f->ps && (level == 2 || level == 3))
        e = level == 3 ? UINT64_C(1) << 30 : 0xc00000;
    if (f->ps && level == 2 && s->form == FORM_32 && !s->pse)
        e = TABLE(1);
    e |= (uint64_t)f->p | f->rw << 1 | f->us << 2 | f->a << 5 | f->d << 6;
    if (f->ps && (level == 2 || level == 3))
        e |= 0x80;
    if (f->g && s->form < FORM_4)
        e |= 0x100;
    if (f->nx && s->form != FORM_32)
        e |= UINT64_C(1) << 63;
    return f->reserved ? e | reserved_bit(s, level) : e;
}

static void *slot_of(const struct fixture *f, const struct scene *s, unsigned level)
{
    return f->ram + TABLE(level) + index_of(s, level) * (s->form == FORM_32 ? 4 : 8);
}

static void build(struct fixture *f, const struct scene *s)
{
    struct cpu *cpu = f->cpu;

    for (unsigned i = 1; i <= s->levels; i++) {
        uint64_t e = entry_of(s, i);

        memcpy(slot_of(f, s, i), &e, s->form == FORM_32 ? 4 : 8);
    }
    cpu->cr0 = CR0_PE | CR0_PG | (s->wp ? CR0_WP : 0);
    cpu->cr4 = (s->smep ? CR4_SMEP : 0) | (s->smap ? CR4_SMAP : 0) | (s->pse ? CR4_PSE : 0);
    cpu->cr4 |= (s->form != FORM_32 ? CR4_PAE : 0) | (s->form == FORM_5 ? CR4_LA57 : 0) | CR4_PGE;
    cpu->efer = (s->nxe ? EFER_NXE : 0) | (s->form >= FORM_4 ? EFER_LME | EFER_LMA : 0);
    cpu->rflags = s->ac ? FLAG_AC : 0;
    cpu->cr3 = TABLE(s->levels);
    for (unsigned i = 0; i < 4; i++)
        cpu->pdpte[i] = TABLE(2) | 1;
    cpu_set_cpl(cpu, s->cpl);
}

/* --- the model --- */

static bool large(const struct scene *s, unsigned level)
{
    if (!s->level[level].ps)
        return false;
    return level == 3 || (level == 2 && (s->form != FORM_32 || s->pse));
}

static bool has_reserved(const struct scene *s, unsigned level)
{
    const struct flags *f = &s->level[level];

    if (f->reserved && reserved_bit(s, level))
        return true;
    return f->nx && s->form != FORM_32 && !s->nxe;
}

static bool right_missing(const struct scene *s, unsigned leaf)
{
    bool us = true, rw = true, nx = false;
    bool user = s->cpl == 3 && !(s->access & ACCESS_SYSTEM), write = s->access & ACCESS_WRITE;

    for (unsigned i = s->levels; i >= leaf; i--) {
        us = us && s->level[i].us;
        rw = rw && s->level[i].rw;
        nx = nx || (s->level[i].nx && s->form != FORM_32);
    }
    if (user && !us)
        return true;
    if (s->access & ACCESS_FETCH)
        return nx || (!user && us && s->smep);
    if (!user && us && s->smap && (!s->ac || (s->access & ACCESS_SYSTEM)))
        return true;
    return write && !rw && (user || s->wp);
}

static struct verdict judge(const struct scene *s)
{
    struct verdict v = {.leaf = s->levels};
    bool nx_or_smep = s->smep || (s->nxe && s->form != FORM_32);

    for (;; v.leaf--) {
        if (!s->level[v.leaf].p || has_reserved(s, v.leaf)) {
            v.fault = v.too_short = true;
            v.error = s->level[v.leaf].p ? PF_P | PF_RSVD : 0;
            break;
        }
        if (v.leaf == 1 || large(s, v.leaf)) {
            v.fault = right_missing(s, v.leaf);
            v.error = PF_P;
            break;
        }
    }
    v.error |= s->access & ACCESS_WRITE ? PF_W : 0;
    v.error |= s->cpl == 3 && !(s->access & ACCESS_SYSTEM) ? PF_U : 0;
    v.error |= (s->access & ACCESS_FETCH) && nx_or_smep ? PF_I : 0;
    return v;
}

/* --- comparison --- */

static gpa_t expected_gpa(const struct scene *s, unsigned leaf)
{
    if (leaf == 1)
        return FRAME | (s->gva & 0xfff);
    if (leaf == 3)
        return UINT64_C(1) << 30 | (s->gva & 0x3fffffff);
    return 0xc00000 | (s->gva & (s->form == FORM_32 ? 0x3fffff : 0x1fffff));
}

/* A in every level that was passed, A and D in the leaf of an access that went well. */
static void check_marks(const struct fixture *f, const struct scene *s, const struct verdict *v)
{
    for (unsigned i = 1; i <= s->levels; i++) {
        uint64_t before = entry_of(s, i), after = 0, added = 0;

        if (i > v->leaf || (i == v->leaf && !v->fault))
            added |= 0x20;
        if (i == v->leaf && !v->fault && (s->access & ACCESS_WRITE))
            added |= 0x40;
        memcpy(&after, slot_of(f, s, i), s->form == FORM_32 ? 4 : 8);
        assert_int_equal(after, before | added);
    }
}

static void check_scene(struct fixture *f, const struct scene *s)
{
    struct verdict v = judge(s);
    struct translation t;

    build(f, s);
    assert_int_equal(paging_peek(f->cpu, s->gva, &t), !v.too_short);
    f->cpu->exc.pending = false;
    assert_int_equal(paging_translate(f->cpu, s->gva, s->access, &t), !v.fault);
    check_marks(f, s, &v);
    if (v.fault) {
        assert_exception(f->cpu, EXC_PF);
        assert_true(f->cpu->exc.has_error);
        assert_int_equal(f->cpu->exc.error, v.error);
        assert_int_equal(f->cpu->exc.cr2, s->gva);
        return;
    }
    assert_false(f->cpu->exc.pending);
    assert_int_equal(t.gpa, expected_gpa(s, v.leaf));
    assert_int_equal(t.global, s->form < FORM_4 && s->level[v.leaf].g);
    if (s->access & ACCESS_WRITE)
        assert_true(t.writable);
    else if (!s->level[v.leaf].d)
        assert_false(t.writable);
}

static void test_random_walks(void **state)
{
    struct fixture *f = *state;
    struct scene s;

    if (!cpu_model_has(f->model, FEAT_PDPE1GB))
        skip();
    for (unsigned i = 0; i < ROUNDS; i++) {
        random_scene(&s);
        check_scene(f, &s);
    }
}

/* --- single facts --- */

static void test_paging_off(void **state)
{
    struct fixture *f = *state;
    struct translation t;

    fixture_set_mode(f, 32);
    assert_true(paging_translate(f->cpu, 0x123456789, ACCESS_WRITE, &t));
    assert_int_equal(t.gpa, 0x23456789);
    assert_true(t.writable);
}

static void test_pse36_address(void **state)
{
    struct fixture *f = *state;
    uint32_t pde = 0x80000083 | 0xa << 13; /* address bits 35:32 are Ah */
    struct translation t;

    fixture_set_mode(f, 32);
    memcpy(f->ram + 0x10000, &pde, 4);
    f->cpu->cr0 |= CR0_PG;
    f->cpu->cr3 = 0x10000;
    f->cpu->cr4 = CR4_PSE;
    assert_true(paging_translate(f->cpu, 0x3456, ACCESS_READ, &t));
    assert_int_equal(t.gpa, UINT64_C(0xa80003456));
    assert_int_equal(t.page_size, 4 * MIB);
}

/* Tables where there is no memory read as all ones, whose reserved bits give the fault away. */
static void test_tables_outside_ram(void **state)
{
    struct fixture *f = *state;
    struct translation t;

    f->cpu->cr0 |= CR0_PG;
    f->cpu->cr4 = CR4_PAE;
    f->cpu->cr3 = UINT64_C(0x7ffff000);
    assert_false(paging_translate(f->cpu, 0x1000, ACCESS_READ, &t));
    assert_exception(f->cpu, EXC_PF);
    assert_int_equal(f->cpu->exc.error, PF_P | PF_RSVD);
}

static void code_dropped(void *opaque, gpa_t gpa, uint64_t len)
{
    gpa_t *dropped = opaque;

    assert_int_equal(len, 4);
    *dropped = gpa;
}

/* An accessed bit that is set in a page with code is a store like any other. */
static void test_marks_announce_code(void **state)
{
    struct fixture *f = *state;
    gpa_t dropped = 0;
    struct translation t;

    fixture_unmap(f, 0);
    memory_set_code_listener(&f->mem, code_dropped, &dropped);
    *memory_page_flags(&f->mem, FIXTURE_PAGE_TABLE) |= PAGE_CODE;
    assert_true(paging_translate(f->cpu, 0x5123, ACCESS_READ, &t));
    assert_int_equal(dropped, FIXTURE_PAGE_TABLE + 5 * 4);
}

static void test_pdptes(void **state)
{
    struct fixture *f = *state;
    uint64_t pdpte[4] = {0x3001, 0x4001, 0, 0x5001};
    struct cpu *cpu = f->cpu;

    fixture_set_mode(f, 32);
    cpu->cr4 = CR4_PAE;
    memcpy(f->ram + PDPTES, pdpte, sizeof pdpte);
    assert_true(paging_load_pdptes(cpu, PDPTES)); /* paging is off: not looked at */
    assert_int_equal(cpu->pdpte[0], 0);
    cpu->cr0 |= CR0_PG;
    assert_true(paging_load_pdptes(cpu, PDPTES));
    assert_memory_equal(cpu->pdpte, pdpte, sizeof pdpte);

    f->ram[PDPTES + 8] |= 2; /* R/W is reserved here */
    cpu->pdpte[0] = 0x9001;
    assert_false(paging_load_pdptes(cpu, PDPTES));
    assert_exception(cpu, EXC_GP);
    assert_int_equal(cpu->pdpte[0], 0x9001);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_random_walks),       TEST(test_paging_off),          TEST(test_pse36_address),
        TEST(test_tables_outside_ram), TEST(test_marks_announce_code), TEST(test_pdptes),
    };

    return cmocka_run_group_tests_name("paging", tests, NULL, NULL);
}
