/* run.c - from options to a machine and back to an exit status.
 *
 * Order matters: files are opened and the kernel is loaded while the terminal is still the user's
 * and signals still kill. In vm_run() signals are blocked first, then the terminal becomes raw;
 * when it returns the terminal is the user's again, so that every sentence is printed on a sane
 * one. */
#define _GNU_SOURCE
#include "cli/run.h"

#include "base/timeline.h"
#include "base/trace.h"
#include "cli/builtin.h"
#include "cli/start.h"
#include "cli/terminal.h"
#include "debug/gdb_server.h"
#include "engine/choose.h"
#include "monitor/monitor.h"
#include "vm/signals.h"
#include "vm/snapshot.h"
#include "vm/stats.h"
#include "vm/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Everything that run_machine() has to release. */
struct session {
    const struct options *options;
    struct terminal terminal;
    struct console console;
    struct builtin builtin;
    struct start start;
    struct snapshot_info saved;
    int restore_fd;
    FILE *trace_file;
    FILE *dump_blocks, *perf_map; /* of the engine; NULL: none */
    struct timeline *timeline;    /* NULL: none */
    struct disk_config disks[DISKS_MAX];
    struct engine_choice choice;
    struct vm vm;
    struct monitor *monitor; /* NULL: no sockets */
    struct gdb_server *gdb;  /* NULL: none */
    struct net *nets[PC_MAX_NETS];
};

/* --- setting up --- */

static int enable_patterns(const char *patterns, struct err *err)
{
    char *copy = strdup(patterns), *rest = copy, *pattern;
    int rc = copy ? 0 : err_set(err, -ENOMEM, "out of memory");

    while (rc == 0 && (pattern = strsep(&rest, ",")))
        if (!trace_enable(pattern, true))
            rc = err_set(err, -EINVAL,
                         "--trace: no event matches '%s'; --trace help lists the events", pattern);
    free(copy);
    return rc;
}

static int start_trace(struct session *s, struct err *err)
{
    const struct options *o = s->options;

    if (o->trace_file) {
        s->trace_file = fopen(o->trace_file, "we");
        if (!s->trace_file)
            return err_set(err, -errno, "the trace file '%s' cannot be written: %s", o->trace_file,
                           strerror(errno));
        trace_set_file(s->trace_file);
    }
    return o->timeline.path[0] ? timeline_open(&s->timeline, &o->timeline, o->name, err) : 0;
}

/* Its name is perf's choice, in a directory where anybody may have made a file or link of it. */
static int open_perf_map(struct session *s, struct err *err)
{
    char path[64];
    int fd;

    snprintf(path, sizeof path, "/tmp/perf-%d.map", (int)getpid());
    unlink(path); /* of a process that had the number before */
    fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    s->perf_map = fd < 0 ? NULL : fdopen(fd, "w+");
    if (s->perf_map)
        return 0;
    err_set(err, -errno, "perf's map '%s' cannot be made: %s", path, strerror(errno));
    if (fd >= 0)
        close(fd);
    return err->code;
}

static int open_engine_files(struct session *s, struct err *err)
{
    const char *dump = s->options->dump_blocks;

    if (dump) {
        s->dump_blocks = fopen(dump, "we");
        if (!s->dump_blocks)
            return err_set(err, -errno, "the listing '%s' cannot be written: %s", dump,
                           strerror(errno));
    }
    return s->options->perf_map ? open_perf_map(s, err) : 0;
}

int run_check_names(const struct options *options, struct err *err)
{
    struct cpu_model *model = NULL;
    int rc = options->trace ? enable_patterns(options->trace, err) : 0;

    if (rc == 0)
        rc = cpu_model_new(options->cpu, &model, err);
    cpu_model_free(model);
    return rc;
}

static size_t filter_keys(void *opaque, uint8_t *bytes, size_t count, bool *quit)
{
    return terminal_filter(opaque, bytes, count, quit);
}

static int open_console(struct session *s, struct err *err)
{
    const struct options *o = s->options;

    switch (o->serial) {
    case SERIAL_FILE: return console_init_file(&s->console, o->serial_path, err);
    case SERIAL_UNIX: return console_init_unix(&s->console, o->serial_path, err);
    case SERIAL_NONE: console_init_none(&s->console); return 0;
    default: break;
    }
    s->console.filter = filter_keys;
    return console_init_stdio(&s->console, isatty(STDIN_FILENO), err);
}

/* Without a serial port at the terminal nobody types there, and Ctrl-C is to work. */
static int open_terminal(struct session *s, struct err *err)
{
    if (s->options->serial != SERIAL_STDIO)
        return 0;
    s->console.filter = filter_keys;
    s->console.filter_opaque = &s->terminal;
    return terminal_init(&s->terminal, err);
}

static int open_nets(struct session *s, struct err *err)
{
    const struct options *o = s->options;
    int rc = 0;

    for (unsigned i = 0; rc == 0 && i < o->net_count; i++)
        rc = net_open(&s->nets[i], &o->nets[i], err);
    return rc;
}

/* Before the loop of the machine goes. */
static void close_nets(struct session *s)
{
    for (unsigned i = 0; i < PC_MAX_NETS; i++) {
        net_close(s->nets[i]);
        s->nets[i] = NULL;
    }
}

static int open_saved(struct session *s, struct err *err)
{
    const char *path = s->options->restore;
    int rc;

    s->restore_fd = open(path, O_RDONLY | O_CLOEXEC);
    if (s->restore_fd < 0)
        return err_set(err, -errno, "the saved machine '%s' cannot be opened: %s", path,
                       strerror(errno));
    rc = snapshot_read_info(s->restore_fd, &s->saved, err);
    if (rc < 0)
        err_prefix(err, "%s", path);
    return rc;
}

static void restore_terminal(void *opaque)
{
    terminal_restore(opaque);
}

static void raw_terminal(void *opaque)
{
    terminal_raw(opaque);
}

static bool size_of_terminal(void *opaque, uint16_t *columns, uint16_t *rows)
{
    return terminal_size(opaque, columns, rows);
}

/* The monitor's prompt is on the terminal. */
static bool terminal_is_covered(void *opaque)
{
    const struct terminal *terminal = opaque;

    return terminal->prompt.open;
}

static struct vm_config make_config(struct session *s)
{
    const struct options *o = s->options;
    struct vm_config c = {
        .name = o->name,
        .pc = {.memory = o->memory,
               .cpu = o->cpu,
               .time = o->time,
               .debug_exit = o->debug_exit,
               .virtio_console = o->virtio_console,
               .net_count = o->net_count},
        .engine = s->choice.engine,
        .fallbacks = {s->choice.fallbacks[0], s->choice.fallbacks[1]},
        .engine_why = s->choice.why,
        .engine_config = {.code_cache = o->code_cache,
                          .dump_blocks = s->dump_blocks,
                          .perf_map = s->perf_map},
        .kernel = s->start.kernel,
        .initrd = o->initrd,
        .append = o->append ? o->append : "",
        .protocol = o->protocol,
        .max_instructions = o->max_instructions,
        .restored = o->restore != NULL,
        .save = o->save,
        .console = &s->console,
        .timeline = s->timeline,
        .terminal_restore = restore_terminal,
        .terminal_raw = raw_terminal,
        .terminal_size = size_of_terminal,
        .terminal = &s->terminal,
        .text_screen = o->display == DISPLAY_TEXT,
        .screen_covered = terminal_is_covered,
    };

    memcpy(c.pc.nets, s->nets, sizeof c.pc.nets);
    c.pc.disks = s->disks;
    c.pc.disk_count = s->start.disks.count;
    c.pc.firmware = s->start.firmware;
    c.pc.vga = s->start.firmware != NULL;
    c.pc.vga_bios = s->start.vga_bios;
    c.pc.screen = o->display != DISPLAY_NONE;
    memcpy(c.pc.boot, o->boot, sizeof c.pc.boot);
    if (s->choice.cpu[0])
        c.pc.cpu = s->choice.cpu;
    if (o->restore) {
        c.pc.memory = s->saved.memory;
        c.pc.time = s->saved.time;
        c.pc.cpu = s->saved.cpu;
    } else if (!c.kernel && !c.pc.firmware) {
        c.kernel = s->builtin.kernel;
        c.initrd = s->builtin.initrd;
        c.append = o->append ? o->append : builtin_append(isatty(STDIN_FILENO), o->virtio_console);
    }
    return c;
}

static int choose_engine(struct session *s, struct err *err)
{
    const struct options *o = s->options;
    const struct engine_wish wish = {
        .name = o->engine,
        .must_count =
            (o->restore ? s->saved.time : o->time) == CLOCK_VIRTUAL || o->max_instructions,
        .cpu = o->restore ? s->saved.cpu : o->cpu,
        .cpu_is_fixed = o->restore != NULL,
    };

    return engine_choose(&s->choice, &wish, err);
}

static int make_machine(struct session *s, struct err *err)
{
    struct vm_config config;
    int rc = choose_engine(s, err);

    if (rc < 0)
        return rc;
    config = make_config(s);
    rc = vm_init(&s->vm, &config, err);
    if (rc == 0 && s->options->restore) {
        rc = vm_restore(&s->vm, s->restore_fd, err);
        if (rc < 0) {
            err_prefix(err, "%s", s->options->restore);
            vm_free(&s->vm);
        }
    }
    return rc;
}

static int set_up(struct session *s, struct err *err)
{
    const struct options *o = s->options;
    int rc = open_console(s, err);

    if (rc == 0)
        rc = start_trace(s, err);
    if (rc == 0)
        rc = open_engine_files(s, err);
    if (rc == 0 && o->restore)
        rc = open_saved(s, err);
    if (rc == 0)
        rc = start_choose(&s->start, o, o->restore ? &s->saved : NULL, err);
    if (rc == 0 && !o->restore && !s->start.kernel && !s->start.firmware)
        rc = builtin_find(&s->builtin, err);
    if (rc == 0)
        rc = disk_options_open(&s->start.disks, s->disks, err);
    if (rc == 0)
        rc = open_terminal(s, err);
    if (rc == 0)
        rc = open_nets(s, err);
    return rc == 0 ? make_machine(s, err) : rc;
}

static void tear_down(struct session *s)
{
    close_nets(s);
    disk_options_close(&s->start.disks, s->disks);
    console_free(&s->console);
    builtin_free(&s->builtin);
    if (s->restore_fd >= 0)
        close(s->restore_fd);
    if (s->dump_blocks)
        fclose(s->dump_blocks);
    if (s->perf_map)
        fclose(s->perf_map);
    if (s->trace_file) {
        trace_set_file(NULL);
        fclose(s->trace_file);
    }
}

/* --- the end --- */

static int report_crash(struct vm *vm)
{
    fprintf(stderr, "doble: the guest crashed: a triple fault (an exception that could not be "
                    "delivered, and neither could the double fault)\n");
    cpu_dump(vm->pc.cpu, stderr);
    return STATUS_CRASHED;
}

static int report_signal(struct vm *vm)
{
    fprintf(stderr, "doble: the machine was ended by %s\n", signals_name(vm->end_value));
    return STATUS_SIGNAL + (int)vm->end_value;
}

static int report(struct vm *vm, bool verbose)
{
    switch (vm->end) {
    case VM_CRASHED: return report_crash(vm);
    case VM_KILLED: return report_signal(vm);
    case VM_FAILED: fprintf(stderr, "doble: %s\n", vm->end_err.text); return STATUS_HOST_ERROR;
    case VM_LIMIT:
        fprintf(stderr, "doble: the machine reached its limit of instructions\n");
        return STATUS_LIMIT;
    default: break;
    }
    if (verbose)
        fprintf(stderr, "doble: the machine '%s' %s\n", vm->config.name, vm_end_name(vm->end));
    return vm->end == VM_DEBUG_EXIT ? (int)((vm->end_value << 1 | 1) & 0xff) : STATUS_POWERED_OFF;
}

static void announce(const struct session *s)
{
    const struct vm_config *c = &s->vm.config;

    if (s->vm.engine_err.code)
        fprintf(stderr,
                "doble: the engine 'translate' cannot be used, and '%s' takes its place: %s\n",
                c->engine->name, s->vm.engine_err.text);
    if (!s->options->verbose)
        return;
    fprintf(stderr, "doble: machine '%s': %llu MiB, %s\n", c->name,
            (unsigned long long)(c->pc.memory / MIB),
            s->options->restore ? s->options->restore
            : c->kernel         ? c->kernel
                                : c->pc.firmware);
    fprintf(stderr, "doble: engine %s: %s\n", c->engine->name, s->vm.engine_why);
    if (s->terminal.is_terminal)
        fprintf(stderr, "doble: Ctrl-] q leaves, Ctrl-] c opens the monitor\n");
}

static int open_monitor(struct session *s, struct err *err)
{
    const struct options *o = s->options;

    s->terminal.prompt.vm = &s->vm;
    if (!o->monitor && !o->monitor_json)
        return 0;
    s->monitor = monitor_new(&s->vm, o->monitor, o->monitor_json, err);
    return s->monitor ? 0 : err->code;
}

static int open_gdb(struct session *s, struct err *err)
{
    const struct options *o = s->options;

    if (!o->gdb)
        return 0;
    s->gdb = gdb_server_new(&s->vm, o->gdb, o->gdb_wait, err);
    if (!s->gdb)
        return err->code;
    if (o->gdb_wait || o->verbose)
        fprintf(stderr, "doble: %s at %s\n",
                o->gdb_wait ? "the machine waits for GDB" : "GDB can connect",
                gdb_server_address(s->gdb));
    return 0;
}

static int run(struct session *s)
{
    const struct options *o = s->options;
    int status;

    announce(s);
    vm_run(&s->vm);
    monitor_free(s->monitor);
    gdb_server_free(s->gdb);
    status = report(&s->vm, o->verbose);
    if (o->stats)
        vm_print_stats(&s->vm, stderr);
    return status;
}

/* The guest has run; but whoever asked for a timeline has to know that it is not all there. */
static int close_timeline(struct session *s, int status)
{
    struct err err = {0};

    if (timeline_close(s->timeline, &err) == 0)
        return status;
    fprintf(stderr, "doble: %s\n", err.text);
    return status == STATUS_POWERED_OFF ? STATUS_HOST_ERROR : status;
}

int run_machine(const struct options *options, struct err *err)
{
    struct session *s = calloc(1, sizeof *s);
    int rc;

    if (!s)
        return err_set(err, -ENOMEM, "out of memory");
    s->options = options;
    s->restore_fd = -1;
    rc = set_up(s, err);
    if (rc == 0) {
        rc = open_monitor(s, err);
        if (rc == 0 && (rc = open_gdb(s, err)) < 0)
            monitor_free(s->monitor);
        if (rc == 0)
            rc = run(s);
        close_nets(s);
        vm_free(&s->vm);
    }
    rc = close_timeline(s, rc);
    tear_down(s);
    free(s);
    return rc;
}
