/* The packets, in one table, by their first characters. */
#define _GNU_SOURCE
#include "debug/gdb_commands.h"

#include "debug/gdb_memory.h"

#include <stdlib.h>
#include <string.h>

#define SIGNAL_INT 2
#define SIGNAL_TRAP 5
#define SIGNAL_ABRT 6

#define ERROR_ARGUMENT "E01" /* the packet makes no sense, or the value is impossible */
#define ERROR_MEMORY "E14"   /* EFAULT: not mapped, or not RAM */
#define ERROR_FULL "E28"     /* ENOSPC: too many breakpoints */

#define CONSOLE_PART 2048 /* bytes of monitor text in one packet */

/* --- sending --- */

static bool grow(struct gdb_session *s, size_t more)
{
    size_t size = s->out_size ? s->out_size : 4096;
    uint8_t *out;

    while (size < s->out_length + more)
        size *= 2;
    if (size == s->out_size)
        return true;
    out = realloc(s->out, size);
    if (!out) {
        s->failed = true;
        return false;
    }
    s->out = out;
    s->out_size = size;
    return true;
}

static void send_bytes(struct gdb_session *s, const void *bytes, size_t count)
{
    if (!grow(s, count))
        return;
    memcpy(s->out + s->out_length, bytes, count);
    s->out_length += count;
}

/* Keeps a copy of the frame: without acknowledgements that are switched off, the client may ask for
 * it again. */
static void send_reply(struct gdb_session *s)
{
    if (s->reply.overflow) {
        s->reply.length = 0;
        s->reply.overflow = false;
        gdb_put_text(&s->reply, "E.the answer is too long");
    }
    s->last_length = gdb_frame(&s->reply, s->last);
    send_bytes(s, s->last, s->last_length);
}

static void begin(struct gdb_session *s)
{
    s->reply.length = 0;
    s->reply.overflow = false;
}

static void answer(struct gdb_session *s, const char *text)
{
    begin(s);
    gdb_put_text(&s->reply, text);
    send_reply(s);
}

static void answer_ok(struct gdb_session *s, bool ok)
{
    answer(s, ok ? "OK" : ERROR_ARGUMENT);
}

void gdb_session_sent(struct gdb_session *s, size_t count)
{
    s->out_length -= count;
    memmove(s->out, s->out + count, s->out_length);
}

/* --- stopping and going on --- */

static struct cpu *cpu_of(struct gdb_session *s)
{
    return s->machine.cpu;
}

static void put_register(struct gdb_session *s, unsigned number)
{
    uint8_t bytes[GDB_REGISTER_MAX];

    gdb_register_read(cpu_of(s), s->arch, number, bytes);
    gdb_put_hex(&s->reply, bytes, gdb_register_size(cpu_of(s), s->arch, number));
}

static void put_reason(struct gdb_session *s)
{
    static const char *const watches[] = {[DEBUG_WATCH_WRITE] = "watch",
                                          [DEBUG_WATCH_READ] = "rwatch",
                                          [DEBUG_WATCH_ACCESS] = "awatch"};
    const struct cpu_debug *d = s->debug;

    if (d->reason == DEBUG_WATCH) {
        gdb_put_text(&s->reply, watches[d->hit_kind]);
        gdb_put_byte(&s->reply, ':');
        gdb_put_number(&s->reply, d->hit_address);
        gdb_put_byte(&s->reply, ';');
    } else if (d->reason == DEBUG_BREAK) {
        if ((d->hit_kind & DEBUG_BREAK_SOFTWARE) && s->swbreak)
            gdb_put_text(&s->reply, "swbreak:;");
        else if ((d->hit_kind & DEBUG_BREAK_HARDWARE) && s->hwbreak)
            gdb_put_text(&s->reply, "hwbreak:;");
    }
}

/* "T05thread:1;..." with the registers that GDB asks for at once: frame pointer, stack pointer,
 * program counter. */
static void send_stop(struct gdb_session *s)
{
    static const uint8_t numbers[2][3] = {
        [GDB_ARCH_I386] = {4, 5, 8}, [GDB_ARCH_X86_64] = {6, 7, 16}};
    uint8_t signal = (uint8_t)s->signal;

    begin(s);
    gdb_put_byte(&s->reply, 'T');
    gdb_put_hex(&s->reply, &signal, 1);
    gdb_put_text(&s->reply, "thread:1;");
    put_reason(s);
    for (unsigned i = 0; i < 3; i++) {
        uint8_t number = numbers[s->arch][i];

        gdb_put_hex(&s->reply, &number, 1);
        gdb_put_byte(&s->reply, ':');
        put_register(s, number);
        gdb_put_byte(&s->reply, ';');
    }
    send_reply(s);
}

static void stop_machine(struct gdb_session *s, unsigned signal)
{
    s->control.pause(s->control.opaque);
    s->stopped = true;
    s->stop_pc = cpu_debug_pc(cpu_of(s));
    s->signal = signal;
}

/* The reason of a stop may have come up just when the client interrupted. */
static unsigned signal_of_stop(const struct gdb_session *s, unsigned otherwise)
{
    switch (s->debug->reason) {
    case DEBUG_NONE: return otherwise;
    case DEBUG_SHUTDOWN: return SIGNAL_ABRT;
    default: return SIGNAL_TRAP;
    }
}

void gdb_session_stopped(struct gdb_session *s)
{
    if (s->stopped || s->debug->reason == DEBUG_NONE)
        return;
    stop_machine(s, SIGNAL_TRAP);
    s->signal = signal_of_stop(s, SIGNAL_TRAP);
    send_stop(s);
}

static void interrupt(struct gdb_session *s)
{
    if (s->stopped)
        return;
    stop_machine(s, SIGNAL_INT);
    s->signal = signal_of_stop(s, SIGNAL_INT);
    send_stop(s);
}

/* A breakpoint where the client saw the machine stop is one that it has seen; if it has moved the
 * program counter, a breakpoint there is a new one. */
static void resume(struct gdb_session *s, bool step)
{
    cpu_debug_resume(cpu_of(s), step, cpu_debug_pc(cpu_of(s)) == s->stop_pc);
    s->stopped = false;
    s->control.resume(s->control.opaque);
}

void gdb_session_ended(struct gdb_session *s, unsigned status, unsigned signal)
{
    uint8_t code = (uint8_t)(signal ? signal : status);

    begin(s);
    gdb_put_byte(&s->reply, signal ? 'X' : 'W');
    gdb_put_hex(&s->reply, &code, 1);
    send_reply(s);
    s->finished = true;
}

/* --- registers --- */

static void read_registers(struct gdb_session *s, const char *arg)
{
    unsigned count = gdb_register_count(cpu_of(s), s->arch);

    (void)arg;
    begin(s);
    for (unsigned i = 0; i < count; i++)
        put_register(s, i);
    send_reply(s);
}

/* Registers are written in order until one cannot have its value. */
static void write_registers(struct gdb_session *s, const char *arg)
{
    unsigned count = gdb_register_count(cpu_of(s), s->arch);
    uint8_t bytes[GDB_REGISTER_MAX];
    bool ok = true;

    for (unsigned i = 0; i < count && ok && *arg; i++) {
        ok = gdb_parse_bytes(&arg, bytes, gdb_register_size(cpu_of(s), s->arch, i)) &&
             gdb_register_write(cpu_of(s), s->arch, i, bytes);
    }
    answer_ok(s, ok && !*arg);
}

static void read_register(struct gdb_session *s, const char *arg)
{
    uint64_t number;

    if (!gdb_parse_number(&arg, &number) || *arg ||
        !gdb_register_size(cpu_of(s), s->arch, number)) {
        answer(s, ERROR_ARGUMENT);
        return;
    }
    begin(s);
    put_register(s, (unsigned)number);
    send_reply(s);
}

static void write_register(struct gdb_session *s, const char *arg)
{
    uint8_t bytes[GDB_REGISTER_MAX];
    uint64_t number;
    bool ok = gdb_parse_number(&arg, &number) && gdb_parse_char(&arg, '=');
    unsigned size = ok ? gdb_register_size(cpu_of(s), s->arch, number) : 0;

    ok = size && gdb_parse_bytes(&arg, bytes, size) && !*arg &&
         gdb_register_write(cpu_of(s), s->arch, (unsigned)number, bytes);
    answer_ok(s, ok);
}

/* --- memory --- */

static bool parse_range(const char **arg, uint64_t *address, uint64_t *length)
{
    return gdb_parse_number(arg, address) && gdb_parse_char(arg, ',') &&
           gdb_parse_number(arg, length);
}

/* An answer may be shorter than what was asked for. */
static void read_memory(struct gdb_session *s, const char *arg)
{
    uint8_t buf[GDB_PACKET_MAX / 2];
    uint64_t address, length;
    size_t got;

    if (!parse_range(&arg, &address, &length) || *arg) {
        answer(s, ERROR_ARGUMENT);
        return;
    }
    if (length > sizeof buf)
        length = sizeof buf;
    got = gdb_memory_read(cpu_of(s), address, buf, (size_t)length);
    if (!got && length) {
        answer(s, ERROR_MEMORY);
        return;
    }
    begin(s);
    gdb_put_hex(&s->reply, buf, got);
    send_reply(s);
}

static void write_memory(struct gdb_session *s, uint64_t address, const void *bytes, size_t count)
{
    answer(s, gdb_memory_write(cpu_of(s), address, bytes, count) ? "OK" : ERROR_MEMORY);
}

static void write_memory_hex(struct gdb_session *s, const char *arg)
{
    uint8_t buf[GDB_PACKET_MAX / 2];
    uint64_t address, length;

    if (!parse_range(&arg, &address, &length) || !gdb_parse_char(&arg, ':') ||
        length > sizeof buf || !gdb_parse_bytes(&arg, buf, (size_t)length) || *arg)
        answer(s, ERROR_ARGUMENT);
    else
        write_memory(s, address, buf, (size_t)length);
}

/* The bytes follow as they are; the packet's own length says how many there are. */
static void write_memory_binary(struct gdb_session *s, const char *arg)
{
    const char *end = (const char *)s->reader.data + s->reader.length;
    uint64_t address, length;

    if (!parse_range(&arg, &address, &length) || !gdb_parse_char(&arg, ':') ||
        length != (uint64_t)(end - arg))
        answer(s, ERROR_ARGUMENT);
    else
        write_memory(s, address, arg, (size_t)length);
}

/* --- running --- */

static bool set_pc(struct gdb_session *s, uint64_t address)
{
    const unsigned number = s->arch == GDB_ARCH_X86_64 ? 16 : 8;

    return gdb_register_write(cpu_of(s), s->arch, number, &address);
}

/* `c [ADDR]` and `s [ADDR]`. */
static void go(struct gdb_session *s, const char *arg, bool step)
{
    uint64_t address;

    if (*arg && (!gdb_parse_number(&arg, &address) || *arg || !set_pc(s, address)))
        answer(s, ERROR_ARGUMENT);
    else
        resume(s, step);
}

static void go_on(struct gdb_session *s, const char *arg)
{
    go(s, arg, false);
}

static void step(struct gdb_session *s, const char *arg)
{
    go(s, arg, true);
}

/* With a signal, of which the machine knows nothing: `C05` and `C05;ADDR`. */
static void go_with_signal(struct gdb_session *s, const char *arg, bool stepping)
{
    uint8_t signal;

    if (!gdb_parse_bytes(&arg, &signal, 1) || (*arg && !gdb_parse_char(&arg, ';')))
        answer(s, ERROR_ARGUMENT);
    else
        go(s, arg, stepping);
}

static void go_on_with_signal(struct gdb_session *s, const char *arg)
{
    go_with_signal(s, arg, false);
}

static void step_with_signal(struct gdb_session *s, const char *arg)
{
    go_with_signal(s, arg, true);
}

static void ask_actions(struct gdb_session *s, const char *arg)
{
    (void)arg;
    answer(s, "vCont;c;C;s;S");
}

/* "vCont;s:1;c": the first action counts, because there is one thread. */
static void act(struct gdb_session *s, const char *arg)
{
    uint8_t signal;
    char action = *arg;

    if (!action || !strchr("csCS", action)) {
        answer(s, ERROR_ARGUMENT);
        return;
    }
    arg++;
    if ((action == 'C' || action == 'S') && !gdb_parse_bytes(&arg, &signal, 1))
        answer(s, ERROR_ARGUMENT);
    else if (*arg && *arg != ':' && *arg != ';')
        answer(s, ERROR_ARGUMENT);
    else
        resume(s, action == 's' || action == 'S');
}

static void why_stopped(struct gdb_session *s, const char *arg)
{
    (void)arg;
    send_stop(s);
}

static void detach(struct gdb_session *s, const char *arg)
{
    (void)arg;
    answer(s, "OK");
    s->finished = true;
}

static void kill_machine(struct gdb_session *s, const char *arg)
{
    (void)arg;
    s->finished = true;
    s->control.end(s->control.opaque);
}

static void kill_process(struct gdb_session *s, const char *arg)
{
    answer(s, "OK");
    kill_machine(s, arg);
}

/* --- breakpoints and watchpoints --- */

static bool set_point(struct cpu *cpu, uint64_t type, uint64_t address, uint64_t kind)
{
    switch (type) {
    case 0: return cpu_debug_set_break(cpu, address, DEBUG_BREAK_SOFTWARE);
    case 1: return cpu_debug_set_break(cpu, address, DEBUG_BREAK_HARDWARE);
    case 2: return cpu_debug_set_watch(cpu, address, kind, DEBUG_WATCH_WRITE);
    case 3: return cpu_debug_set_watch(cpu, address, kind, DEBUG_WATCH_READ);
    default: return cpu_debug_set_watch(cpu, address, kind, DEBUG_WATCH_ACCESS);
    }
}

static void remove_point(struct cpu *cpu, uint64_t type, uint64_t address, uint64_t kind)
{
    switch (type) {
    case 0: cpu_debug_remove_break(cpu, address, DEBUG_BREAK_SOFTWARE); break;
    case 1: cpu_debug_remove_break(cpu, address, DEBUG_BREAK_HARDWARE); break;
    case 2: cpu_debug_remove_watch(cpu, address, kind, DEBUG_WATCH_WRITE); break;
    case 3: cpu_debug_remove_watch(cpu, address, kind, DEBUG_WATCH_READ); break;
    default: cpu_debug_remove_watch(cpu, address, kind, DEBUG_WATCH_ACCESS); break;
    }
}

/* "TYPE,ADDRESS,KIND": the kind of a breakpoint is the length of its instruction, and of no
 * interest; that of a watchpoint is its length in bytes. Conditions are not asked for. */
static bool parse_point(struct gdb_session *s, const char *arg, uint64_t *type, uint64_t *address,
                        uint64_t *kind)
{
    if (!gdb_parse_number(&arg, type) || !gdb_parse_char(&arg, ',') ||
        !parse_range(&arg, address, kind) || *arg) {
        answer(s, ERROR_ARGUMENT);
        return false;
    }
    if (*type > 4) {
        answer(s, "");
        return false;
    }
    return true;
}

static void insert_point(struct gdb_session *s, const char *arg)
{
    uint64_t type, address, kind;

    if (parse_point(s, arg, &type, &address, &kind))
        answer(s, set_point(cpu_of(s), type, address, kind) ? "OK" : ERROR_FULL);
}

static void delete_point(struct gdb_session *s, const char *arg)
{
    uint64_t type, address, kind;

    if (!parse_point(s, arg, &type, &address, &kind))
        return;
    remove_point(cpu_of(s), type, address, kind);
    answer(s, "OK");
}

/* --- threads: there is one --- */

/* A thread number in hexadecimal: 0 (any), 1, or -1 (all). */
static bool is_our_thread(const char *arg)
{
    return strcmp(arg, "0") == 0 || strcmp(arg, "1") == 0 || strcmp(arg, "01") == 0 ||
           strcmp(arg, "-1") == 0;
}

static void set_thread(struct gdb_session *s, const char *arg)
{
    answer_ok(s, (*arg == 'g' || *arg == 'c') && is_our_thread(arg + 1));
}

static void thread_is_alive(struct gdb_session *s, const char *arg)
{
    answer_ok(s, is_our_thread(arg));
}

static void current_thread(struct gdb_session *s, const char *arg)
{
    (void)arg;
    answer(s, "QC1");
}

static void first_threads(struct gdb_session *s, const char *arg)
{
    (void)arg;
    answer(s, "m1");
}

static void next_threads(struct gdb_session *s, const char *arg)
{
    (void)arg;
    answer(s, "l");
}

static void thread_info(struct gdb_session *s, const char *arg)
{
    static const char text[] = "virtual CPU 0";

    if (!is_our_thread(arg)) {
        answer(s, ERROR_ARGUMENT);
        return;
    }
    begin(s);
    gdb_put_hex(&s->reply, text, sizeof text - 1);
    send_reply(s);
}

/* --- general queries --- */

static bool has_feature(const char *list, const char *feature)
{
    size_t length = strlen(feature);

    for (const char *at = list; (at = strstr(at, feature)); at += length)
        if (at != list && strchr(":;", at[-1]) && (at[length] == ';' || !at[length]))
            return true;
    return false;
}

static void supported(struct gdb_session *s, const char *arg)
{
    s->swbreak = has_feature(arg, "swbreak+");
    s->hwbreak = has_feature(arg, "hwbreak+");
    begin(s);
    gdb_put_text(&s->reply, "PacketSize=");
    gdb_put_number(&s->reply, GDB_PACKET_MAX);
    gdb_put_text(&s->reply,
                 ";QStartNoAckMode+;qXfer:features:read+;swbreak+;hwbreak+;vContSupported+");
    send_reply(s);
}

static void start_no_ack(struct gdb_session *s, const char *arg)
{
    (void)arg;
    answer(s, "OK");
    s->no_ack = true;
}

/* "target.xml:OFFSET,LENGTH" */
static void read_features(struct gdb_session *s, const char *arg)
{
    static const char name[] = "target.xml:";
    uint64_t offset, length, left;

    if (strncmp(arg, name, sizeof name - 1) != 0) {
        answer(s, "E00"); /* no such annex */
        return;
    }
    arg += sizeof name - 1;
    if (!parse_range(&arg, &offset, &length) || *arg || offset > s->target_length) {
        answer(s, ERROR_ARGUMENT);
        return;
    }
    left = s->target_length - offset;
    if (length > GDB_PACKET_MAX / 2)
        length = GDB_PACKET_MAX / 2; /* escapes may double it */
    begin(s);
    gdb_put_byte(&s->reply, left > length ? 'm' : 'l');
    gdb_put_binary(&s->reply, s->target_xml + offset, (size_t)(left < length ? left : length));
    send_reply(s);
}

static void attached(struct gdb_session *s, const char *arg)
{
    (void)arg;
    answer(s, "1"); /* the machine was there before: leave it running at the end */
}

static void no_symbols(struct gdb_session *s, const char *arg)
{
    (void)arg;
    answer(s, "OK");
}

static void send_text(struct gdb_session *s, const char *text, size_t length)
{
    if (length > GDB_TEXT_LIMIT)
        length = GDB_TEXT_LIMIT;
    for (size_t at = 0; at < length; at += CONSOLE_PART) {
        begin(s);
        gdb_put_byte(&s->reply, 'O');
        gdb_put_hex(&s->reply, text + at, length - at < CONSOLE_PART ? length - at : CONSOLE_PART);
        send_reply(s);
    }
    answer(s, "OK");
}

/* qRcmd: a monitor command, in hexadecimal. */
static void monitor(struct gdb_session *s, const char *arg)
{
    char line[1024], *text = NULL;
    size_t count = strlen(arg) / 2, length;
    FILE *out;

    if (count >= sizeof line || !gdb_parse_bytes(&arg, line, count) || *arg) {
        answer(s, ERROR_ARGUMENT);
        return;
    }
    line[count] = 0;
    out = open_memstream(&text, &length);
    if (!out) {
        answer(s, ERROR_FULL);
        return;
    }
    gdb_monitor(&s->machine, line, out);
    if (fclose(out) == 0)
        send_text(s, text, length);
    else
        answer(s, ERROR_FULL);
    free(text);
}

/* --- the table --- */

struct packet {
    const char *name;
    char end; /* what follows the name: ':', ';', ',' (skipped); '*': anything; 0: nothing */
    void (*take)(struct gdb_session *s, const char *arg);
};

static const struct packet packets[] = {
    {"?", 0, why_stopped},
    {"g", 0, read_registers},
    {"G", '*', write_registers},
    {"p", '*', read_register},
    {"P", '*', write_register},
    {"m", '*', read_memory},
    {"M", '*', write_memory_hex},
    {"X", '*', write_memory_binary},
    {"c", '*', go_on},
    {"s", '*', step},
    {"C", '*', go_on_with_signal},
    {"S", '*', step_with_signal},
    {"vCont?", 0, ask_actions},
    {"vCont", ';', act},
    {"vKill", ';', kill_process},
    {"k", 0, kill_machine},
    {"D", '*', detach},
    {"Z", '*', insert_point},
    {"z", '*', delete_point},
    {"H", '*', set_thread},
    {"T", '*', thread_is_alive},
    {"qC", 0, current_thread},
    {"qfThreadInfo", 0, first_threads},
    {"qsThreadInfo", 0, next_threads},
    {"qThreadExtraInfo", ',', thread_info},
    {"qSupported", '*', supported},
    {"QStartNoAckMode", 0, start_no_ack},
    {"qXfer:features:read", ':', read_features},
    {"qAttached", '*', attached},
    {"qSymbol", '*', no_symbols},
    {"qRcmd", ',', monitor},
};

/* Where the argument of a packet begins; NULL: it is another one. */
static const char *match(const struct packet *p, const char *text)
{
    size_t length = strlen(p->name);

    if (strncmp(text, p->name, length) != 0)
        return NULL;
    text += length;
    if (p->end == '*')
        return text;
    if (*text != p->end)
        return NULL;
    return p->end ? text + 1 : text;
}

/* Packets that are not known are answered with nothing, which says so. */
static void take_packet(struct gdb_session *s)
{
    const char *text = (const char *)s->reader.data;

    if (!s->stopped) {
        answer(s, "E.the machine is running; interrupt it first");
        return;
    }
    for (unsigned i = 0; i < ARRAY_SIZE(packets); i++) {
        const char *arg = match(&packets[i], text);

        if (arg) {
            packets[i].take(s, arg);
            return;
        }
    }
    answer(s, "");
}

/* --- bytes --- */

static void acknowledge(struct gdb_session *s, char with)
{
    if (!s->no_ack)
        send_bytes(s, &with, 1);
}

static void take_byte(struct gdb_session *s, uint8_t byte)
{
    switch (gdb_reader_take(&s->reader, byte)) {
    case GDB_INPUT_PACKET:
        acknowledge(s, '+');
        take_packet(s);
        break;
    case GDB_INPUT_BAD:
        acknowledge(s, '-');
        if (s->no_ack)
            answer(s, "E.the packet's checksum is wrong");
        break;
    case GDB_INPUT_TOO_LONG:
        acknowledge(s, '+');
        answer(s, "E.the packet is too long");
        break;
    case GDB_INPUT_NAK:
        if (!s->no_ack)
            send_bytes(s, s->last, s->last_length);
        break;
    case GDB_INPUT_INTERRUPT: interrupt(s); break;
    default: break;
    }
}

size_t gdb_session_receive(struct gdb_session *s, const uint8_t *bytes, size_t count)
{
    size_t at = 0;

    while (at < count && !s->finished && !s->failed && s->out_length < GDB_OUT_LIMIT)
        take_byte(s, bytes[at++]);
    return at;
}

/* --- opening and closing --- */

static bool make_target(struct gdb_session *s)
{
    FILE *out = open_memstream(&s->target_xml, &s->target_length);

    if (!out)
        return false;
    gdb_print_target(cpu_of(s), s->arch, out);
    return fclose(out) == 0;
}

static void free_memory(struct gdb_session *s)
{
    free(s->target_xml);
    free(s->out);
    free(s->last);
    free(s->debug);
}

bool gdb_session_open(struct gdb_session *s, const struct gdb_machine *machine,
                      const struct gdb_control *control)
{
    memset(s, 0, sizeof *s);
    s->machine = *machine;
    s->control = *control;
    gdb_reader_reset(&s->reader);
    s->debug = calloc(1, sizeof *s->debug);
    s->last = malloc(GDB_FRAME_SIZE(GDB_PACKET_MAX));
    if (!s->debug || !s->last) {
        free_memory(s);
        return false;
    }
    stop_machine(s, SIGNAL_TRAP);
    cpu_debug_attach(cpu_of(s), s->debug);
    s->arch = gdb_arch_of(cpu_of(s));
    if (make_target(s))
        return true;
    gdb_session_close(s);
    return false;
}

void gdb_session_close(struct gdb_session *s)
{
    if (!s->stopped)
        s->control.pause(s->control.opaque);
    cpu_debug_detach(cpu_of(s));
    s->control.resume(s->control.opaque);
    free_memory(s);
}
