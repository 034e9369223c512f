/* Output on COM1, checks, the order of events, and the end by a debug-exit port. */
#include "guest.h"

#include "cpu.h"

#define COM1 0x3f8
#define DEBUG_EXIT 0x501
#define BOCHS_SHUTDOWN 0x8900
#define FAILURES_SHOWN 4

static struct {
    const char *family;
    char note[160];
    unsigned failures; /* of the running test */
    const char *skipped;
    unsigned passed, failed, skips;
} state;

/* --- C --- */

void *memset(void *to, int byte, size_t count)
{
    void *at = to;

    __asm__ volatile("rep stosb" : "+D"(at), "+c"(count) : "a"(byte) : "memory");
    return to;
}

void *memcpy(void *to, const void *from, size_t count)
{
    void *at = to;

    __asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(count)::"memory");
    return to;
}

/* --- output --- */

struct out {
    char *at, *end; /* NULL: the serial port */
};

static void put(struct out *o, char c)
{
    if (o->at) {
        if (o->at < o->end)
            *o->at++ = c;
        return;
    }
    while (!(inb(COM1 + 5) & 0x20))
        ;
    outb(COM1, (uint8_t)c);
}

static void put_number(struct out *o, uint64_t v, bool hex)
{
    char digits[20];
    unsigned count = 0;
    uint32_t small = (uint32_t)v;

    do {
        digits[count++] = "0123456789abcdef"[hex ? v & 15 : small % 10];
        v >>= 4;
        small /= 10;
    } while (hex ? v : small);
    while (count)
        put(o, digits[--count]);
}

static void put_string(struct out *o, const char *s)
{
    while (*s)
        put(o, *s++);
}

static void vprint(struct out *o, const char *format, va_list args)
{
    for (; *format; format++) {
        unsigned longs = 0;

        if (*format != '%') {
            put(o, *format);
            continue;
        }
        while (*++format == 'l')
            longs++;
        if (*format == 's')
            put_string(o, va_arg(args, const char *));
        else if (*format == 'c')
            put(o, (char)va_arg(args, int));
        else if (longs == 2)
            put_number(o, va_arg(args, uint64_t), *format == 'x');
        else if (longs == 1)
            put_number(o, va_arg(args, unsigned long), *format == 'x');
        else
            put_number(o, va_arg(args, unsigned), *format == 'x');
    }
}

void print(const char *format, ...)
{
    struct out o = {NULL, NULL};
    va_list args;

    va_start(args, format);
    vprint(&o, format, args);
    va_end(args);
}

void note(const char *format, ...)
{
    struct out o = {state.note, state.note + sizeof state.note - 1};
    va_list args;

    va_start(args, format);
    vprint(&o, format, args);
    va_end(args);
    *o.at = 0;
}

/* --- checks --- */

void skip(const char *why)
{
    state.skipped = why;
}

void expect_at(const char *file, unsigned line, const char *what, uint64_t got, uint64_t want)
{
    if (got == want)
        return;
    if (state.failures++ >= FAILURES_SHOWN)
        return;
    print("# %s:%u: ", file, line);
    if (state.note[0])
        print("[%s] ", state.note);
    print("%s: expected %llx, got %llx\n", what, (unsigned long long)want, (unsigned long long)got);
}

void expect_trap_at(const char *file, unsigned line, word vector, word error, const void *ip)
{
    unsigned before = state.failures;

    expect_at(file, line, "vector", trap.vector, vector);
    expect_at(file, line, "error code", trap.error, error);
    expect_at(file, line, "saved IP", trap.regs.ip, (word)ip);
    if (state.failures != before && before < FAILURES_SHOWN)
        print("#   trap %lx error %lx at %lx:%lx flags %lx sp %lx:%lx cr2 %lx\n", trap.vector,
              trap.error, trap.regs.cs, trap.regs.ip, trap.regs.flags, trap.regs.ss, trap.regs.sp,
              trap.cr2);
}

/* --- choosing and running tests --- */

extern uint32_t boot_command_line;
static char command_line[256];
/* Written into the image where there is no loader to pass one. */
__attribute__((used)) static volatile char fixed_command_line[128] = "@command-line@";

static void take_command_line(void)
{
    const char *from = (const char *)(word)boot_command_line;
    unsigned i;

    if (!from)
        from = (const char *)fixed_command_line;
    if (*from == '@')
        from = "";
    for (i = 0; i < sizeof command_line - 1 && from[i]; i++)
        command_line[i] = from[i];
}

/* Is `word` (up to a blank) the beginning of "family/name"? */
static bool begins(const char *pattern, const char *family, const char *name)
{
    bool in_name = false;

    for (; *pattern && *pattern != ' '; pattern++) {
        const char *s = in_name ? name : family;

        if (*s == 0 && !in_name && *pattern == '/') {
            in_name = true;
            continue;
        }
        if (*pattern != *s)
            return false;
        if (in_name)
            name++;
        else
            family++;
    }
    return true;
}

/* The command line: words FAMILY[/NAME] select, -FAMILY[/NAME] leave out; words with a "=" don't
 * count. */
static bool wanted(const char *family, const char *name)
{
    bool any = false, selected = false;

    for (const char *s = command_line; *s;) {
        const char *at = s;
        bool ours = *s != ' ', out = *s == '-';

        for (; *s && *s != ' '; s++)
            ours &= *s != '=';
        if (*s)
            s++;
        if (ours && out && begins(at + 1, family, name))
            return false;
        any |= ours && !out;
        selected |= ours && !out && begins(at, family, name);
    }
    return !any || selected;
}

static void run_test(const struct family *family, const struct test *test)
{
    state.failures = 0;
    state.skipped = NULL;
    state.note[0] = 0;
    cpu_standard();
    test->run();
    cpu_standard();
    if (state.skipped) {
        print("skip %s/%s: %s\n", family->name, test->name, state.skipped);
        state.skips++;
    } else if (state.failures) {
        print("not ok %s/%s: %u checks failed\n", family->name, test->name, state.failures);
        state.failed++;
    } else {
        print("ok %s/%s\n", family->name, test->name);
        state.passed++;
    }
}

/* Nothing can be delivered, and neither can #DF. */
static void triple_fault(void)
{
    load_idt(0, 0);
    __asm__ volatile("ud2");
}

static void leave(unsigned status)
{
    while (!(inb(COM1 + 5) & 0x40))
        ;
    outl(DEBUG_EXIT, status);
    for (const char *s = "Shutdown"; *s; s++)
        outb(BOCHS_SHUTDOWN, (uint8_t)*s);
    for (;;)
        __asm__ volatile("cli; hlt");
}

/* Nothing interrupts that a test didn't ask for. */
static void mask_interrupts(void)
{
    outb(0x21, 0xff);
    outb(0xa1, 0xff);
    outb(COM1 + 1, 0);
}

static bool option(const char *text)
{
    const char *s = command_line;

    for (; *s; s++) {
        unsigned i = 0;

        while (text[i] && s[i] == text[i])
            i++;
        if (!text[i])
            return true;
    }
    return false;
}

void guest_main(void);

void guest_main(void)
{
    extern char low_image[], low_start[], low_size[];

    take_command_line();
    mask_interrupts();
    outb(COM1 + 3, 3);
    memcpy(low_start, low_image, (size_t)low_size);
    if (option("end=triple-fault"))
        triple_fault();
    for (const struct family *f = families; f->name; f++)
        for (const struct test *t = f->tests; t->name; t++)
            if (wanted(f->name, t->name))
                run_test(f, t);
    print("%u passed, %u failed, %u skipped\n", state.passed, state.failed, state.skips);
    leave(state.failed ? 1 : 0);
}
