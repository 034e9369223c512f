/* timeline.c - buffers of events, their text, and the file.
 *
 *   {"displayTimeUnit":"ns","traceEvents":[
 *   {event},
 *   {event}        <- `offset` is behind the last event
 *   ]}             <- written anew after each batch, and overwritten by the next
 *
 * A pipe cannot be overwritten: there the last line is written at the end only, which the readers
 * of the format forgive. Numbers that are addresses are written as hexadecimal strings, because
 * JSON's numbers lose bits above 53. */
#define _GNU_SOURCE
#include "base/timeline.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_SECOND UINT64_C(1000000000)
#define WRITE_OUT_NS NS_PER_SECOND /* a buffer is not older than that when an event comes */
#define REST_NS 100000000          /* or than that when its thread goes to sleep */

#define TRACK_EVENTS 1024
#define MAX_TRACKS 16
#define NAME_BYTES 64                     /* of a name are shown */
#define LINE_BYTES (6 * NAME_BYTES + 320) /* an event's text is shorter than that */
#define TEXT_BYTES 65536
#define LIMIT_RESERVE 256 /* for saying that the limit was reached, and the last line */

#define FIRST_LINE "{\"displayTimeUnit\":\"ns\",\"traceEvents\":["
#define LAST_LINE "\n]}\n"

struct event {
    uint64_t start, end; /* ns of timeline_now() */
    const char *name;
    uint64_t args[4];
    uint8_t kind;
};

struct timeline_track {
    struct timeline *timeline;
    unsigned first_row, rows; /* numbers of threads in the file */
    uint64_t written_at;
    struct event state;
    unsigned count;
    struct event events[TRACK_EVENTS];
};

struct timeline {
    int fd;
    bool seekable;
    uint64_t opened, from, to; /* ns of timeline_now() */
    uint64_t limit, shortest;
    atomic_bool done; /* nothing more is recorded */

    pthread_mutex_t lock;
    /* under `lock`: */
    unsigned track_count, row_count;
    struct timeline_track *tracks[MAX_TRACKS];
    uint64_t offset; /* bytes of complete events in the file */
    bool any;        /* an event needs a comma before it */
    int error;       /* errno of what failed first; 0: none */
    size_t used;
    char text[TEXT_BYTES];
};

struct argument {
    const char *name; /* NULL: none */
    enum { DECIMAL, HEX } form;
};

struct kind {
    const char *name, *category;
    enum { SLICE, INSTANT } form;
    unsigned row;
    struct argument args[4];
};

#define ACCESS                                                                                     \
    {                                                                                              \
        {"address", HEX}, {"size", DECIMAL}, {"value", HEX},                                       \
    }

static const struct kind kinds[TIMELINE_KINDS] = {
    [TIMELINE_USER] = {"guest user", "guest", SLICE, 0, {{"rip", HEX}, {"cr3", HEX}}},
    [TIMELINE_KERNEL] = {"guest kernel", "guest", SLICE, 0, {{"rip", HEX}, {"cr3", HEX}}},
    [TIMELINE_VIRTUAL] = {"guest", "guest", SLICE, 0, {{0}}},
    [TIMELINE_HALTED] = {"halted", "guest", SLICE, 0, {{0}}},
    [TIMELINE_PARKED] = {"parked", "guest", SLICE, 0, {{0}}},
    [TIMELINE_TRAP] = {"trap",
                       "trap",
                       INSTANT,
                       0,
                       {{"vector", DECIMAL}, {"error", HEX}, {"rip", HEX}, {"cr2", HEX}}},
    [TIMELINE_INTERRUPT] =
        {"interrupt", "interrupt", INSTANT, 0, {{"vector", DECIMAL}, {"rip", HEX}}},
    [TIMELINE_HELPER] = {"instruction", "emulate", SLICE, 1, {{"rip", HEX}}},
    [TIMELINE_DELIVER] = {"deliver", "deliver", SLICE, 1, {{"vector", DECIMAL}}},
    [TIMELINE_DECODE] = {"decode", "decode", SLICE, 1, {{"rip", HEX}}},
    [TIMELINE_EXIT] = {"exit", "exit", SLICE, 1, {{0}}},
    [TIMELINE_PORT_READ] = {"nobody", "port read", SLICE, 1, ACCESS},
    [TIMELINE_PORT_WRITE] = {"nobody", "port write", SLICE, 1, ACCESS},
    [TIMELINE_MMIO_READ] = {"nobody", "mmio read", SLICE, 1, ACCESS},
    [TIMELINE_MMIO_WRITE] = {"nobody", "mmio write", SLICE, 1, ACCESS},
    [TIMELINE_WRITE_OUT] = {"write timeline", "timeline", SLICE, 1, {{"events", DECIMAL}}},
    [TIMELINE_TIMERS] = {"timers", "timer", SLICE, 0, {{"late_ns", DECIMAL}}},
    [TIMELINE_INPUT] = {"serial input", "input", SLICE, 0, {{"bytes", DECIMAL}}},
    [TIMELINE_SIGNAL] = {"signal", "signal", INSTANT, 0, {{"number", DECIMAL}}},
};

_Thread_local struct timeline_track *timeline_here;

uint64_t timeline_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_SECOND + (uint64_t)ts.tv_nsec;
}

/* --- the file; with the lock held --- */

static void fail(struct timeline *t, int error)
{
    if (!t->error)
        t->error = error;
    atomic_store(&t->done, true);
}

static bool write_all(struct timeline *t, const char *bytes, size_t count)
{
    uint64_t at = t->offset;

    while (count) {
        ssize_t n =
            t->seekable ? pwrite(t->fd, bytes, count, (off_t)at) : write(t->fd, bytes, count);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            fail(t, n < 0 ? errno : EIO);
            return false;
        }
        bytes += n;
        count -= (size_t)n;
        at += (uint64_t)n;
    }
    return true;
}

/* Writes the text, and the last line behind it, which is not counted. After an error the file ends
 * where the last good write ended. */
static void write_text(struct timeline *t)
{
    size_t last = t->seekable ? sizeof LAST_LINE - 1 : 0;

    if (!t->used)
        return;
    memcpy(t->text + t->used, LAST_LINE, last);
    if (write_all(t, t->text, t->used + last))
        t->offset += t->used;
    else if (t->seekable && ftruncate(t->fd, (off_t)t->offset) == 0)
        write_all(t, LAST_LINE, last);
    t->used = 0;
}

/* Adds a line of text that is an event. False: there is no room for it below the limit. */
static bool add_line(struct timeline *t, const char *line, size_t length, uint64_t limit)
{
    if (t->offset + t->used + length + 2 > limit)
        return false;
    if (t->used + length + 2 + sizeof LAST_LINE > sizeof t->text)
        write_text(t);
    if (t->any)
        t->text[t->used++] = ',';
    t->text[t->used++] = '\n';
    memcpy(t->text + t->used, line, length);
    t->used += length;
    t->any = true;
    return true;
}

/* --- text --- */

struct line {
    size_t length;
    char text[LINE_BYTES];
};

static void add(struct line *line, const char *text)
{
    size_t room = sizeof line->text - line->length, n = strlen(text);

    if (n > room)
        n = room;
    memcpy(line->text + line->length, text, n);
    line->length += n;
}

/* In base 10 or 16, with at least so many digits. */
static void add_number(struct line *line, uint64_t value, unsigned base, unsigned digits)
{
    char text[24], *p = text + sizeof text - 1;

    *p = 0;
    for (unsigned i = 0; value || i < digits; i++, value /= base)
        *--p = "0123456789abcdef"[value % base];
    add(line, p);
}

/* Bytes of the UTF-8 sequence at `s` (RFC 3629); 0: it is none. */
static unsigned utf8_length(const char *s)
{
    unsigned char start = (unsigned char)s[0], second = (unsigned char)s[1];
    unsigned length = start >= 0xf0 ? 4 : start >= 0xe0 ? 3 : 2;

    if (start < 0xc2 || start > 0xf4)
        return 0;
    if ((start == 0xe0 && second < 0xa0) || (start == 0xed && second > 0x9f) ||
        (start == 0xf0 && second < 0x90) || (start == 0xf4 && second > 0x8f))
        return 0;
    for (unsigned i = 1; i < length; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    return length;
}

/* A string of JSON; what isn't UTF-8 becomes the replacement character. */
static void add_string(struct line *line, const char *s)
{
    const char *end = s + strnlen(s, NAME_BYTES);

    add(line, "\"");
    while (s < end) {
        unsigned char c = (unsigned char)*s;
        unsigned length = c < 0x80 ? 1 : utf8_length(s);
        char bytes[5] = {0};

        if (length)
            memcpy(bytes, s, length);
        if (c < 0x20 || c == 0x7f) {
            add(line, "\\u");
            add_number(line, c, 16, 4);
        } else {
            if (c == '"' || c == '\\')
                add(line, "\\");
            add(line, length ? bytes : "\\ufffd");
        }
        s += length ? length : 1;
    }
    add(line, "\"");
}

/* Microseconds, with three digits for the nanoseconds. */
static void add_time(struct line *line, const char *key, uint64_t ns)
{
    add(line, key);
    add_number(line, ns / 1000, 10, 1);
    add(line, ".");
    add_number(line, ns % 1000, 10, 3);
}

static void add_args(struct line *line, const struct kind *kind, const uint64_t args[4])
{
    if (!kind->args[0].name)
        return;
    add(line, ",\"args\":{\"");
    for (unsigned i = 0; i < 4 && kind->args[i].name; i++) {
        bool hex = kind->args[i].form == HEX;

        add(line, i ? ",\"" : "");
        add(line, kind->args[i].name);
        add(line, hex ? "\":\"0x" : "\":");
        add_number(line, args[i], hex ? 16 : 10, 1);
        add(line, hex ? "\"" : "");
    }
    add(line, "}");
}

static void format_event(const struct timeline_track *track, const struct event *e,
                         struct line *line)
{
    const struct kind *kind = &kinds[e->kind];
    unsigned row = kind->row < track->rows ? kind->row : track->rows - 1;

    line->length = 0;
    add(line, kind->form == SLICE ? "{\"ph\":\"X\"" : "{\"ph\":\"i\",\"s\":\"t\"");
    add(line, ",\"pid\":1,\"tid\":");
    add_number(line, track->first_row + row, 10, 1);
    add_time(line, ",\"ts\":", e->start - track->timeline->opened);
    if (kind->form == SLICE)
        add_time(line, ",\"dur\":", e->end > e->start ? e->end - e->start : 0);
    add(line, ",\"cat\":\"");
    add(line, kind->category);
    add(line, "\",\"name\":");
    add_string(line, e->name ? e->name : kind->name);
    add_args(line, kind, e->args);
    add(line, "}");
}

/* --- the tracks --- */

/* The file is full: says so in it, and stops. */
static void stop_at_limit(struct timeline *t)
{
    struct line line = {0};

    add(&line, "{\"ph\":\"i\",\"s\":\"g\",\"pid\":1,\"tid\":1");
    add_time(&line, ",\"ts\":", timeline_now() - t->opened);
    add(&line, ",\"cat\":\"timeline\",\"name\":\"the limit of the file was reached\"}");
    add_line(t, line.text, line.length, UINT64_MAX);
    atomic_store(&t->done, true);
}

static void write_out(struct timeline_track *track)
{
    struct timeline *t = track->timeline;
    struct line line;

    pthread_mutex_lock(&t->lock);
    for (unsigned i = 0; i < track->count && !atomic_load(&t->done); i++) {
        format_event(track, &track->events[i], &line);
        if (!add_line(t, line.text, line.length, t->limit - LIMIT_RESERVE))
            stop_at_limit(t);
    }
    write_text(t);
    pthread_mutex_unlock(&t->lock);
    track->count = 0;
}

/* Writes the buffer, which leaves a slice in it that says how long that took. */
static void flush(struct timeline_track *track)
{
    struct event e = {.start = timeline_now(), .kind = TIMELINE_WRITE_OUT, .args = {track->count}};

    write_out(track);
    e.end = track->written_at = timeline_now();
    track->events[track->count++] = e;
}

static void put(struct timeline_track *track, const struct event *e)
{
    struct timeline *t = track->timeline;

    if (atomic_load_explicit(&t->done, memory_order_relaxed) || e->start > t->to ||
        e->end < t->from)
        return;
    track->events[track->count++] = *e;
    if (track->count == TRACK_EVENTS || e->end > track->written_at + WRITE_OUT_NS)
        flush(track);
}

void timeline_record(enum timeline_kind kind, const char *name, uint64_t start, uint64_t end,
                     const uint64_t args[4])
{
    struct event e = {start, end ? end : start, name, {args[0], args[1], args[2], args[3]}, kind};

    if ((kind == TIMELINE_HELPER || kind == TIMELINE_DECODE) &&
        e.end - e.start < timeline_here->timeline->shortest)
        return;
    put(timeline_here, &e);
}

void timeline_change(enum timeline_kind kind, uint64_t a, uint64_t b)
{
    struct timeline_track *track = timeline_here;
    uint64_t now;

    if (track->state.kind == kind)
        return;
    now = timeline_now();
    if (track->state.kind != TIMELINE_NONE) {
        track->state.end = now;
        put(track, &track->state);
    }
    track->state = (struct event){.start = now, .args = {a, b}, .kind = kind};
}

void timeline_flush_old(void)
{
    struct timeline_track *track = timeline_here;

    if (track->count > 1 && timeline_now() > track->written_at + REST_NS)
        flush(track);
}

/* Something about a row, which is a thread to the format. */
static void begin_metadata(struct line *line, unsigned row, const char *what)
{
    line->length = 0;
    add(line, "{\"ph\":\"M\",\"pid\":1,\"tid\":");
    add_number(line, row, 10, 1);
    add(line, ",\"name\":\"");
    add(line, what);
}

/* Names a row of the file, and says that rows are shown in the order of their numbers. */
static void add_row(struct timeline *t, unsigned row, const char *name)
{
    struct line line;

    begin_metadata(&line, row, "thread_name\",\"args\":{\"name\":");
    add_string(&line, name);
    add(&line, "}}");
    add_line(t, line.text, line.length, UINT64_MAX);
    begin_metadata(&line, row, "thread_sort_index\",\"args\":{\"sort_index\":");
    add_number(&line, row, 10, 1);
    add(&line, "}}");
    add_line(t, line.text, line.length, UINT64_MAX);
}

void timeline_attach(struct timeline *t, const char *row, const char *second_row)
{
    struct timeline_track *track;

    if (!t)
        return;
    track = calloc(1, sizeof *track);
    pthread_mutex_lock(&t->lock);
    if (track && t->track_count < MAX_TRACKS) {
        t->tracks[t->track_count++] = track;
        track->timeline = t;
        track->first_row = t->row_count + 1;
        track->rows = second_row ? 2 : 1;
        t->row_count += track->rows;
        add_row(t, track->first_row, row);
        if (second_row)
            add_row(t, track->first_row + 1, second_row);
        write_text(t);
        track->written_at = timeline_now();
        timeline_here = track;
    } else {
        free(track);
        fail(t, ENOMEM);
    }
    pthread_mutex_unlock(&t->lock);
}

/* --- opening and closing --- */

static void add_head(struct timeline *t, const char *name)
{
    struct line line;

    memcpy(t->text, FIRST_LINE, sizeof FIRST_LINE - 1);
    t->used = sizeof FIRST_LINE - 1;
    begin_metadata(&line, 0, "process_name\",\"args\":{\"name\":");
    add_string(&line, name);
    add(&line, "}}");
    add_line(t, line.text, line.length, UINT64_MAX);
    write_text(t);
}

static int open_file(struct timeline *t, const char *path, struct err *err)
{
    t->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (t->fd < 0)
        return err_set(err, -errno, "the timeline '%s' cannot be written: %s", path,
                       strerror(errno));
    t->seekable = lseek(t->fd, 0, SEEK_SET) == 0;
    return 0;
}

int timeline_open(struct timeline **timeline, const struct timeline_config *config,
                  const char *name, struct err *err)
{
    struct timeline *t = calloc(1, sizeof *t);
    int rc;

    *timeline = NULL;
    if (!t)
        return err_set(err, -ENOMEM, "not enough memory for a timeline");
    rc = open_file(t, config->path, err);
    if (rc < 0) {
        free(t);
        return rc;
    }
    pthread_mutex_init(&t->lock, NULL);
    t->opened = timeline_now();
    t->from = config->from < UINT64_MAX - t->opened ? t->opened + config->from : UINT64_MAX;
    t->to = config->to < UINT64_MAX - t->opened ? t->opened + config->to : UINT64_MAX;
    t->limit = config->limit < TIMELINE_MIN_LIMIT ? TIMELINE_MIN_LIMIT : config->limit;
    t->shortest = config->shortest;
    add_head(t, name);
    *timeline = t;
    return 0;
}

static void end_track(struct timeline_track *track)
{
    if (track->state.kind != TIMELINE_NONE) {
        track->state.end = timeline_now();
        put(track, &track->state);
    }
    write_out(track);
    free(track);
}

int timeline_close(struct timeline *t, struct err *err)
{
    int error;

    if (!t)
        return 0;
    timeline_here = NULL;
    for (unsigned i = 0; i < t->track_count; i++)
        end_track(t->tracks[i]);
    if (!t->seekable && !t->error)
        write_all(t, LAST_LINE, sizeof LAST_LINE - 1);
    if (close(t->fd) < 0)
        fail(t, errno);
    error = t->error;
    pthread_mutex_destroy(&t->lock);
    free(t);
    if (error)
        return err_set(err, -error, "the timeline is not complete: %s", strerror(error));
    return 0;
}
