/* Paging (SDM vol. 3, ch. 4): every combination of rights at every level, for reads, writes and
 * fetches by users and the supervisor; accessed and dirty bits; large pages; invalidation.
 *
 * The 64-bit guest tests 4-level and 5-level paging, the 32-bit guest 2-level and PAE paging. All
 * run on tables of this file: the supervisor finds memory at its physical addresses, users at
 * ALIAS, and the page under test is at TARGET. Caching of translations is tested only where the
 * manual promises something (4.10.4). */
#include "cpu.h"
#include "families.h"

#define P 1u
#define RW 2u
#define US 4u
#define A 0x20u
#define D 0x40u
#define PS 0x80u
#define G 0x100u
#define NX (1ull << 63)
#define ALL (P | RW | US)

#define PF_P 1u
#define PF_W 2u
#define PF_U 4u
#define PF_RSVD 8u
#define PF_I 16u

#define ALIAS 0x40000000ul
#define TARGET form.target
#define MAX_LEVELS 5

/* The form of paging in use. */
static struct form {
    const char *name;
    unsigned levels, entry_bytes, index_bits;
    unsigned checked_levels; /* those whose entries have rights */
    word target;             /* nothing else lies below the same entry of the root */
} form;

#define TABLE __attribute__((aligned(4096)))
static uint64_t root[512] TABLE, base_pd[4][512] TABLE, user_pd[512] TABLE;
static uint64_t base_pml4[512] TABLE, base_pdpt[512] TABLE;
static uint64_t table[MAX_LEVELS + 1][512] TABLE; /* of TARGET; [1] is the lowest */
static uint8_t page[2][4096] TABLE, other_page[4096] TABLE;

CODE(read_1, "", "mov (" R("dx") "), %al");
CODE(write_1, "", "mov %al, (" R("dx") ")");
CODE(read_4, "", "mov (" R("dx") "), %eax");
CODE(write_4, "", "mov %eax, (" R("dx") ")");
CODE(add_4, "", "addl $1, (" R("dx") ")");

/* --- tables --- */

static void put_entry(void *in, unsigned index, uint64_t v)
{
    if (form.entry_bytes == 8)
        ((volatile uint64_t *)in)[index] = v;
    else
        ((volatile uint32_t *)in)[index] = (uint32_t)v;
}

static uint64_t get_entry(const void *in, unsigned index)
{
    return form.entry_bytes == 8 ? ((const volatile uint64_t *)in)[index]
                                 : ((const volatile uint32_t *)in)[index];
}

static unsigned index_at(unsigned level)
{
    return TARGET >> (12 + form.index_bits * (level - 1)) & ((1u << form.index_bits) - 1);
}

/* The table with the entry of `level` for TARGET: the highest is the root. */
static void *table_at(unsigned level)
{
    return level == form.levels ? root : table[level];
}

static void set_level(unsigned level, uint64_t v)
{
    put_entry(table_at(level), index_at(level), v);
}

static uint64_t get_level(unsigned level)
{
    return get_entry(table_at(level), index_at(level));
}

static bool is_pdpte(unsigned level)
{
    return !IS64 && form.entry_bytes == 8 && level == 3;
}

/* What the entry of `level` points to. */
static uint64_t below(unsigned level)
{
    return level == 1 ? (word)page[0] : (word)table[level - 1];
}

static void map_target(void)
{
    for (unsigned level = 1; level <= form.levels; level++)
        set_level(level, below(level) | (is_pdpte(level) ? P : ALL));
    put_entry(table[1], index_at(1) + 1, (word)page[1] | ALL);
}

static void flush(void)
{
    write_cr3(read_cr3());
}

/* Large pages: the first 4 GiB for the supervisor, and the first once more for users. */
static void map_base(void)
{
    unsigned per_table = 1u << form.index_bits, shift = 12 + form.index_bits;

    if (form.levels == 2) {
        for (unsigned i = 0; i < per_table; i++)
            put_entry(root, i, (uint64_t)i << shift | PS | P | RW);
        for (unsigned i = 0; i < per_table / 4; i++)
            put_entry(root, per_table / 4 + i, (uint64_t)i << shift | PS | ALL);
        return;
    }
    for (unsigned i = 0; i < 4 * per_table; i++)
        base_pd[i / per_table][i % per_table] = (uint64_t)i << shift | PS | P | RW;
    for (unsigned i = 0; i < per_table; i++)
        user_pd[i] = (uint64_t)i << shift | PS | ALL;
    for (unsigned i = 0; i < 4; i++) {
        uint64_t rights = IS64 ? P | RW : P, user = IS64 ? ALL : P;

        base_pdpt[i] = i == 1 ? (word)user_pd | user : (word)base_pd[i] | rights;
        if (form.levels == 3)
            root[i] = base_pdpt[i];
    }
    base_pml4[0] = (word)base_pdpt | ALL;
    if (form.levels > 3)
        root[0] = form.levels == 4 ? base_pml4[0] : (word)base_pml4 | ALL;
}

static void clear_tables(void)
{
    memset(root, 0, sizeof root);
    memset(table, 0, sizeof table);
    memset(page, 0, sizeof page);
    page[0][0] = 0xcd; /* int $END */
    page[0][1] = END;
}

#if IS64
/* Leaves long mode, and enters it again with `cr3` and CR4.LA57 as told (levels.S). */
void set_paging_levels(word cr3, word la57);
#endif

static void start(const struct form *f)
{
    form = *f;
    clear_tables();
    map_base();
    map_target();
    note("%s", form.name);
#if IS64
    if (form.levels == 5) {
        set_paging_levels((word)root, CR4_LA57);
        return;
    }
#else
    write_cr0(read_cr0() & ~(word)CR0_PG);
    write_cr4((read_cr4() & ~(word)CR4_PAE) | CR4_PSE | (form.entry_bytes == 8 ? CR4_PAE : 0));
    if (HAS_NX && form.entry_bytes == 8)
        wrmsr(MSR_EFER, EFER_NXE);
#endif
    write_cr3((word)root);
    write_cr0(read_cr0() | CR0_PG);
}

/* Back to the standard tables. */
static void stop(void)
{
#if IS64
    extern char boot_pml4[];

    if (read_cr4() & CR4_LA57)
        set_paging_levels((word)boot_pml4, 0);
#endif
    cpu_standard();
}

#if IS64
static const struct form forms[] = {{"4-level", 4, 8, 9, 4, 1ul << 39},
                                    {"5-level", 5, 8, 9, 5, 1ul << 48}};
#else
static const struct form forms[] = {{"2-level", 2, 4, 10, 2, 0x80000000},
                                    {"PAE", 3, 8, 9, 2, 0x80000000}};
#endif

static bool has_form(const struct form *f)
{
    return f->levels != 5 || HAS_LA57;
}
#define FOR_EACH_FORM(f)                                                                           \
    for (const struct form *f = forms; f < forms + ARRAY_SIZE(forms) && has_form(f); f++)

/* --- accesses --- */

struct access {
    bool write, fetch, user, ac;
};

/* The features that take part in the decision. */
struct rules {
    bool wp, smep, smap, nxe;
};

static struct regs access_context(const struct access *a, const char **at)
{
    const char *code = a->write ? write_1 : read_1;
    struct regs r = context(a->user ? USER : KERNEL, code);

    if (a->user && !IS64) {
        r.ip += ALIAS;
        r.sp += ALIAS;
    }
    *at = (const char *)((a->write ? write_1_at : read_1_at) - code + r.ip);
    if (a->fetch)
        *at = (const char *)(r.ip = TARGET);
    r.ax = page[0][0]; /* a write changes nothing */
    r.dx = TARGET;
    r.flags |= a->ac ? ACF : 0;
    return r;
}

/* True and the error code if the access must fail (4.6 and 4.7). */
static bool must_fault(const struct rules *s, const struct access *a, uint64_t reserved,
                       word *error)
{
    uint64_t rights = ALL, nx = 0;
    bool bad;

    *error = (a->write ? PF_W : 0) | (a->user ? PF_U : 0);
    if (a->fetch && ((s->nxe && form.entry_bytes == 8) || s->smep))
        *error |= PF_I;
    for (unsigned level = form.levels; level; level--) {
        uint64_t entry = get_level(level);

        if (!(entry & P))
            return true;
        if ((entry & reserved) || ((entry & NX) && !s->nxe)) {
            *error |= PF_P | PF_RSVD;
            return true;
        }
        rights &= is_pdpte(level) ? ALL : entry;
        nx |= entry & NX;
    }
    *error |= PF_P;
    bad = (a->fetch && nx) || (a->write && !(rights & RW) && (a->user || s->wp));
    if (a->user)
        return bad || !(rights & US);
    if (rights & US)
        bad |= a->fetch ? s->smep : s->smap && !a->ac;
    return bad;
}

/* A successful access marks every entry it used; a failing one never makes the page dirty. */
static void expect_marks(const struct access *a, bool fault)
{
    EXPECT(!!(get_level(1) & D), !fault && a->write);
    for (unsigned level = 1; level <= form.levels && !fault; level++)
        if (!is_pdpte(level))
            EXPECT(get_level(level) & A, A);
}

static void try_access(const struct rules *s, const struct access *a, uint64_t reserved)
{
    const char *at;
    struct regs r = access_context(a, &at);
    word error;
    bool fault = must_fault(s, a, reserved, &error);

    flush();
    run(&r);
    if (fault) {
        EXPECT_TRAP(PF, error, at);
        EXPECT(trap.cr2, TARGET);
        EXPECT(trap.regs.sp, r.sp);
    } else {
        EXPECT(trap.vector, END);
    }
    expect_marks(a, fault);
}

static void try_all_accesses(const struct rules *s, unsigned level, uint64_t bits,
                             uint64_t reserved)
{
    for (unsigned i = 0; i < 12; i++) {
        struct access a = {i % 3 == 1, i % 3 == 2, i / 3 & 1, i / 6};

        if (a.ac && !s->smap)
            continue;
        map_target();
        set_level(level, below(level) | bits);
        note("%s level %u entry %llx%s%s%s%s: %s%s%s", form.name, level, (unsigned long long)bits,
             s->wp ? " WP" : "", s->smep ? " SMEP" : "", s->smap ? " SMAP" : "",
             s->nxe ? " NXE" : "", a.user ? "user " : "supervisor ",
             a.write   ? "write"
             : a.fetch ? "fetch"
                       : "read",
             a.ac ? " with AC" : "");
        try_access(s, &a, reserved);
    }
}

static uint64_t reserved_bit(void)
{
    unsigned bits = physical_bits();

    return form.entry_bytes == 8 && bits < 52 ? 1ull << 51 : 0;
}

/* `broken`: entries with reserved bits, and only those. */
static void try_all_rights(const struct rules *s, bool broken)
{
    for (unsigned level = 1; level <= form.checked_levels; level++)
        for (unsigned i = 0; i < 32; i++) {
            uint64_t bits = i & ALL, reserved = i & 16 ? reserved_bit() : 0;

            if (i & 8)
                bits |= NX;
            if (((i & 8) && (form.entry_bytes == 4 || !HAS_NX)) || ((i & 16) && !reserved))
                continue;
            if (broken != (reserved || ((i & 8) && !s->nxe)))
                continue;
            try_all_accesses(s, level, bits | reserved, reserved);
        }
}

static void set_rules(const struct rules *s)
{
    write_cr0((read_cr0() & ~(word)CR0_WP) | (s->wp ? CR0_WP : 0));
    write_cr4((read_cr4() & ~(word)(CR4_SMEP | CR4_SMAP)) | (s->smep ? CR4_SMEP : 0) |
              (s->smap ? CR4_SMAP : 0));
    if (HAS_NX)
        wrmsr(MSR_EFER, (rdmsr(MSR_EFER) & ~(uint64_t)EFER_NXE) | (s->nxe ? EFER_NXE : 0));
}

static void try_all_rules(bool broken)
{
    FOR_EACH_FORM(f)
    {
        start(f);
        for (unsigned i = 0; i < 16; i++) {
            struct rules s = {i & 1, i & 2, i & 4, i & 8};

            if ((s.smep && !HAS_SMEP) || (s.smap && !HAS_SMAP) || (s.nxe && !HAS_NX))
                continue;
            set_rules(&s);
            try_all_rights(&s, broken);
        }
        stop();
    }
}

static void test_rights(void)
{
    try_all_rules(false);
}

/* Reserved bits of entries that are present: an error of its own, whatever the rights. */
static void test_reserved_bits(void)
{
    try_all_rules(true);
}

/* Rights are the AND of all levels, whichever denies. */
static void test_rights_of_two_levels(void)
{
    const struct rules s = {true, false, false, false};

    FOR_EACH_FORM(f)
    {
        start(f);
        set_rules(&s);
        for (unsigned i = 0; i < 16; i++)
            for (unsigned j = 0; j < 6; j++) {
                struct access a = {j % 3 == 1, j % 3 == 2, j / 3, false};

                map_target();
                set_level(1, below(1) | P | (i & 3) << 1);
                set_level(2, below(2) | P | (i >> 2) << 1);
                note("%s: %x", form.name, i * 16 + j);
                try_access(&s, &a, 0);
            }
        stop();
    }
}

/* --- accesses that cross a page, and instructions that do --- */

static void run_at_end(enum context kind, const char *code, unsigned before_end)
{
    struct regs r = context(kind, code);

    r.dx = TARGET + 4096 - before_end;
    r.ax = 0x11223344;
    run(&r);
}

static void test_crossing(void)
{
    FOR_EACH_FORM(f)
    {
        start(f);
        page[0][4094] = page[0][4095] = 0x5a;
        put_entry(table[1], index_at(1) + 1, (word)page[1] | P);
        flush();
        run_at_end(KERNEL, write_4, 2);
        EXPECT_TRAP(PF, PF_P | PF_W, write_4_at);
        EXPECT(trap.cr2, TARGET + 4096);
        EXPECT(page[0][4094], 0x5a);
        run_at_end(KERNEL, add_4, 2);
        EXPECT_TRAP(PF, PF_P | PF_W, add_4_at);
        run_at_end(KERNEL, read_4, 2);
        EXPECT_END(read_4);
        put_entry(table[1], index_at(1) + 1, 0);
        flush();
        run_at_end(KERNEL, read_4, 1);
        EXPECT_TRAP(PF, 0, read_4_at);
        EXPECT(trap.cr2, TARGET + 4096);
        stop();
    }
}

static void test_crossing_fetch(void)
{
    FOR_EACH_FORM(f)
    {
        struct regs r;
        word fetch = HAS_NX && f->entry_bytes == 8 ? PF_I : 0;

        start(f);
        page[0][4095] = 0xb8; /* mov $imm32, %eax */
        put_entry(table[1], index_at(1) + 1, 0);
        flush();
        r = context(KERNEL, (void *)(TARGET + 4095));
        run(&r);
        EXPECT_TRAP(PF, fetch, TARGET + 4095);
        EXPECT(trap.cr2, TARGET + 4096);
        page[0][4095] = 0x90; /* nop: the next instruction faults, not this one */
        run(&r);
        EXPECT_TRAP(PF, fetch, TARGET + 4096);
        stop();
    }
}

/* --- large pages --- */

static void expect_target(uint64_t offset, word vector, word error)
{
    struct regs r = context(KERNEL, read_4);

    r.dx = TARGET + (word)offset;
    run(&r);
    EXPECT(trap.vector, vector);
    if (vector == PF) {
        EXPECT(trap.error, error);
        EXPECT(trap.cr2, r.dx);
    }
}

static void test_large_pages(void)
{
    FOR_EACH_FORM(f)
    {
        uint64_t size;

        start(f);
        size = 1ull << (12 + form.index_bits);
        *(volatile uint32_t *)other_page = 0xfeedface;
        set_level(2, ((word)other_page & ~(size - 1)) | PS | ALL);
        flush();
        expect_target((word)other_page & (size - 1), END, 0);
        EXPECT((uint32_t)trap.regs.ax, 0xfeedface);
        EXPECT(get_level(2) & (A | D), A);
        /* Bits between the flags and the page's address are reserved, but for PAT (12). */
        if (form.entry_bytes == 8) {
            set_level(2, ((word)other_page & ~(size - 1)) | PS | ALL | 1u << 13);
            flush();
            expect_target(0, PF, PF_P | PF_RSVD);
        }
        set_level(2, ((word)other_page & ~(size - 1)) | PS | ALL | 1u << 12);
        flush();
        expect_target(0, END, 0);
        stop();
    }
}

#if IS64
static void test_huge_pages(void)
{
    start(&forms[0]);
    set_level(3, PS | ALL);
    flush();
    if (!has_ext1_d(26)) {
        expect_target(0, PF, PF_P | PF_RSVD);
    } else {
        *(volatile uint32_t *)other_page = 0xfeedface;
        expect_target((word)other_page, END, 0);
        EXPECT((uint32_t)trap.regs.ax, 0xfeedface);
        set_level(3, PS | ALL | 1u << 13);
        flush();
        expect_target(0, PF, PF_P | PF_RSVD);
    }
    map_target();
    set_level(4, below(4) | ALL | PS); /* PML4E: PS is reserved */
    flush();
    expect_target(0, PF, PF_P | PF_RSVD);
}
#else
CODE(load_cr3, "", "mov %eax, %cr3");

/* PDPTEs are loaded with CR3, and checked then; a change in memory alone does nothing. */
static void test_pdptes(void)
{
    struct regs r = context(KERNEL, load_cr3);

    start(&forms[1]);
    r.ax = (word)root;
    root[3] |= RW;
    run(&r);
    EXPECT_TRAP(GP, 0, load_cr3_at);
    root[3] = (root[3] & ~(uint64_t)RW & ~(uint64_t)P) | US; /* not present: not checked */
    run(&r);
    EXPECT_END(load_cr3);
    set_level(3, 0);
    expect_target(0, END, 0);
    flush();
    expect_target(0, PF, 0);
    root[3] = 1ull << 63 | P;
    run(&r);
    EXPECT_TRAP(GP, 0, load_cr3_at);
}
#endif

/* --- invalidation --- */

static void put_words(void)
{
    *(volatile uint32_t *)(page[0] + 8) = 0xaaaa;
    *(volatile uint32_t *)(other_page + 8) = 0xbbbb;
}

static void expect_word(uint32_t want)
{
    expect_target(8, END, 0);
    EXPECT((uint32_t)trap.regs.ax, want);
}

static void test_invlpg(void)
{
    FOR_EACH_FORM(f)
    {
        start(f);
        put_words();
        expect_word(0xaaaa);
        set_level(1, (word)other_page | ALL);
        invlpg(TARGET + 0x123);
        expect_word(0xbbbb);
        set_level(1, 0);
        invlpg(TARGET);
        expect_target(8, PF, 0);
        set_level(1, (word)page[0] | ALL); /* absence isn't cached */
        expect_word(0xaaaa);
        set_level(2, 0); /* INVLPG also drops what is known of the upper levels */
        invlpg(TARGET);
        expect_target(8, PF, 0);
        stop();
    }
}

/* Taking away the right to write counts at once after INVLPG, also with the page dirty before. */
static void test_invlpg_rights(void)
{
    FOR_EACH_FORM(f)
    {
        struct regs r = context(KERNEL, write_1);

        start(f);
        r.dx = TARGET + 8;
        run(&r);
        EXPECT_END(write_1);
        set_level(1, get_level(1) & ~(uint64_t)RW);
        invlpg(TARGET);
        run(&r);
        EXPECT_TRAP(PF, PF_P | PF_W, write_1_at);
        set_level(1, (word)page[0] | ALL | A);
        invlpg(TARGET);
        expect_target(8, END, 0);
        EXPECT(get_level(1) & D, 0);
        run(&r);
        EXPECT(get_level(1) & D, D);
        stop();
    }
}

static void test_global_pages(void)
{
    if (!HAS_PGE) {
        skip("no global pages");
        return;
    }
    FOR_EACH_FORM(f)
    {
        start(f);
        write_cr4(read_cr4() | CR4_PGE);
        put_words();
        set_level(1, (word)page[0] | ALL | G);
        flush();
        expect_word(0xaaaa);
        set_level(1, (word)other_page | ALL | G);
        write_cr4(read_cr4() & ~(word)CR4_PGE);
        expect_word(0xbbbb);
        write_cr4(read_cr4() | CR4_PGE);
        expect_word(0xbbbb);
        set_level(1, (word)page[0] | ALL | G);
        invlpg(TARGET);
        expect_word(0xaaaa);
        stop();
    }
}

/* --- PCID --- */

#if IS64
CODE(load_cr3, "", "mov %rax, %cr3");
CODE(load_cr4, "", "mov %rax, %cr4");
CODE(invpcid_, "", "invpcid (%rdx), %rax");

static void run_with(const char *code, word ax, word dx)
{
    struct regs r = context(KERNEL, code);

    r.ax = ax;
    r.dx = dx;
    run(&r);
}

static uint64_t root2[512] TABLE, pdpt2[512] TABLE, pd2[512] TABLE, pt2[512] TABLE;

/* A second address space that has the other page at TARGET. */
static void map_second(void)
{
    memcpy(root2, root, sizeof root2);
    root2[index_at(4)] = (word)pdpt2 | ALL;
    pdpt2[index_at(3)] = (word)pd2 | ALL;
    pd2[index_at(2)] = (word)pt2 | ALL;
    pt2[index_at(1)] = (word)other_page | ALL;
}

static void test_pcid(void)
{
    const uint64_t keep = 1ull << 63;

    if (!HAS_PCID) {
        skip("no PCID");
        return;
    }
    start(&forms[0]);
    put_words();
    map_second();
    write_cr3((word)root | 1);
    run_with(load_cr4, read_cr4() | CR4_PCIDE, 0);
    EXPECT_TRAP(GP, 0, load_cr4_at);
    write_cr3((word)root);
    write_cr4(read_cr4() | CR4_PCIDE);
    write_cr3((word)root | 1);
    expect_word(0xaaaa);
    write_cr3((word)root2 | 2);
    expect_word(0xbbbb);
    for (unsigned i = 0; i < 3; i++) {
        write_cr3(((word)root | 1) | keep);
        EXPECT(read_cr3(), (word)root | 1);
        expect_word(0xaaaa);
        write_cr3(((word)root2 | 2) | keep);
        expect_word(0xbbbb);
    }
    pt2[index_at(1)] = (word)page[0] | ALL;
    write_cr3((word)root2 | 2);
    expect_word(0xaaaa);
}

static void test_invpcid(void)
{
    static uint64_t operand[2];

    if (!HAS_INVPCID) {
        skip("no INVPCID");
        return;
    }
    start(&forms[0]);
    put_words();
    for (word type = 0; type < 4; type++) {
        set_level(1, (word)page[0] | ALL);
        flush();
        expect_word(0xaaaa);
        set_level(1, (word)other_page | ALL);
        operand[0] = 0;
        operand[1] = TARGET;
        note("type %lx", type);
        run_with(invpcid_, type, (word)operand);
        EXPECT_END(invpcid_);
        expect_word(0xbbbb);
    }
    run_with(invpcid_, 4, (word)operand);
    EXPECT_TRAP(GP, 0, invpcid__at);
    operand[0] = 1u << 12;
    run_with(invpcid_, 0, (word)operand);
    EXPECT_TRAP(GP, 0, invpcid__at);
    operand[0] = 0;
    operand[1] = 1ull << 63;
    run_with(invpcid_, 0, (word)operand);
    EXPECT_TRAP(GP, 0, invpcid__at);
    operand[0] = 1; /* a PCID while CR4.PCIDE is clear */
    operand[1] = TARGET;
    run_with(invpcid_, 1, (word)operand);
    EXPECT_TRAP(GP, 0, invpcid__at);
    run_in(USER, invpcid_);
    EXPECT_TRAP(GP, 0, USER_PTR(invpcid__at));
}

static void test_cr3_reserved(void)
{
    start(&forms[0]);
    run_with(load_cr3, (word)root | 0x18, 0); /* PWT, PCD */
    EXPECT_END(load_cr3);
    run_with(load_cr3, (word)root | 1ull << 63, 0);
    EXPECT_TRAP(GP, 0, load_cr3_at);
    if (physical_bits() < 52) {
        run_with(load_cr3, (word)root | 1ull << 51, 0);
        EXPECT_TRAP(GP, 0, load_cr3_at);
    }
}
#endif

/* --- accesses by the processor itself --- */

CODE(load_fs, "", "mov %eax, %fs");
CODE(divide_0, "xor %ecx, %ecx", "div %ecx");

/* Descriptor tables are read with the supervisor's rights at any CPL; SMAP denies them user pages
 * whatever AC says. */
static void test_implicit_supervisor(void)
{
    FOR_EACH_FORM(f)
    {
        struct regs r;
        word user = IS64 ? 0 : ALIAS;

        start(f);
        ldt[1] = descriptor(0, 0xfffff, SEG_DATA | SEG_DPL(3));
        r = context(USER, load_fs);
        r.ip += user;
        r.sp += user;
        r.ax = 0xf;
        run(&r);
        EXPECT(trap.vector, END);
        set_system_descriptor(LDT, (word)ldt + ALIAS, sizeof ldt - 1, SYS_LDT);
        load_ldt(LDT);
        ldt[1] = descriptor(0, 0xfffff, SEG_DATA | SEG_DPL(3));
        run(&r);
        EXPECT(trap.vector, END);
        if (HAS_SMAP) {
            write_cr4(read_cr4() | CR4_SMAP);
            r.flags |= ACF;
            run(&r);
            EXPECT(trap.vector, PF);
            EXPECT(trap.error, PF_P);
            EXPECT(trap.cr2, (word)ldt + ALIAS + 8);
        }
        stop();
    }
}

/* The table marks a segment as accessed with a write: a read-only page and WP give #PF. */
static void test_accessed_bit_write(void)
{
    FOR_EACH_FORM(f)
    {
        struct regs r = context(KERNEL, load_fs);

        start(f);
        memset(page, 0, sizeof page);
        *(volatile uint64_t *)(page[0] + 8) = descriptor(0, 0xfffff, SEG_DATA);
        set_level(1, (word)page[0] | P);
        flush();
        set_system_descriptor(LDT, TARGET, 0xff, SYS_LDT);
        load_ldt(LDT);
        r.ax = 0xc;
        run(&r);
        EXPECT_TRAP(PF, PF_P | PF_W, load_fs_at);
        EXPECT(trap.cr2 & ~(word)7, TARGET + 8);
        *(volatile uint64_t *)(page[0] + 8) |= (uint64_t)SEG_ACCESSED << 40;
        run(&r);
        EXPECT_END(load_fs);
        stop();
    }
}

#if IS64
/* The stack of the handler isn't there: first #PF after #DE, then #DF after #PF. */
static void test_fault_in_delivery(void)
{
    struct regs r;

    start(&forms[0]);
    set_level(1, 0);
    flush();
    task.tss.rsp[0] = TARGET + 0x800;
    set_gate(DE, KCS, trap_stub(DE), SYS_INT32, 0);
    run_in(USER, divide_0);
    EXPECT_TRAP(PF, PF_W, USER_PTR(divide_0_at));
    EXPECT(trap.cr2 & ~0xffful, TARGET);
    set_gate(PF, KCS, trap_stub(PF), SYS_INT32, 0);
    r = context(USER, read_1);
    r.dx = TARGET;
    run(&r);
    EXPECT(trap.vector, DF);
    EXPECT(trap.error, 0);
}
#endif

/* --- code that changes under another address --- */

static void test_code_through_alias(void)
{
    FOR_EACH_FORM(f)
    {
        static const uint8_t code[] = {0xb8, 0x11, 0, 0, 0, 0xcd, END};
        struct regs r;

        start(f);
        r = context(KERNEL, (void *)TARGET);
        memcpy(page[0], code, sizeof code);
        for (unsigned i = 0; i < 4; i++) {
            ((volatile uint8_t *)page[0])[1] = (uint8_t)(0x20 + i);
            run(&r);
            EXPECT(trap.regs.ax, 0x20 + i);
        }
        memcpy(other_page, code, sizeof code);
        set_level(1, (word)other_page | ALL);
        invlpg(TARGET);
        run(&r);
        EXPECT(trap.regs.ax, 0x11);
        stop();
    }
}

const struct test paging_tests[] = {
    TEST(rights),
    TEST(reserved_bits),
    TEST(rights_of_two_levels),
    TEST(crossing),
    TEST(crossing_fetch),
    TEST(large_pages),
#if IS64
    TEST(huge_pages),
    TEST(pcid),
    TEST(invpcid),
    TEST(cr3_reserved),
    TEST(fault_in_delivery),
#else
    TEST(pdptes),
#endif
    TEST(invlpg),
    TEST(invlpg_rights),
    TEST(global_pages),
    TEST(implicit_supervisor),
    TEST(accessed_bit_write),
    TEST(code_through_alias),
    {0},
};
