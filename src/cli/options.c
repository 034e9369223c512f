/* options.c - parses the command line by a table: name, letter, argument, help, and who takes it.
 *
 * Understood are --name VALUE, --name=VALUE, -x VALUE, -xVALUE and -- (end of options). A name that
 * doesn't exist is answered with the nearest one that does. A word that a later option would take
 * is unknown until the option exists: nothing is accepted and ignored. */
#include "cli/options.h"

#include "debug/gdb_server.h"

#include "engine/engine.h"

#include "base/nearest.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct option {
    char letter; /* 0: none */
    const char *name;
    const char *argument; /* NULL: takes none */
    const char *help;
    int (*take)(struct options *o, const char *value, struct err *err);
};

static int bad_value(struct err *err, const char *option, const char *value, const char *right)
{
    return err_set(err, -EINVAL, "--%s: '%s' is not %s", option, value, right);
}

/* --- values --- */

static bool parse_number(const char *text, int base, uint64_t *value, const char **end)
{
    char *stop;

    if (*text < '0' || *text > '9')
        return false; /* no sign, no blank */
    errno = 0;
    *value = strtoull(text, &stop, base);
    *end = stop;
    return errno == 0;
}

bool options_parse_size(const char *text, uint64_t *bytes)
{
    static const char suffixes[] = "KMGT";
    const char *end, *suffix;
    unsigned shift = 0;

    if (!parse_number(text, 10, bytes, &end))
        return false;
    if (*end) {
        suffix = strchr(suffixes, *end & ~0x20); /* upper case */
        if (!suffix || !*suffix || end[1])
            return false;
        shift = 10 * (unsigned)(suffix - suffixes + 1);
    }
    if (*bytes > UINT64_MAX >> shift)
        return false;
    *bytes <<= shift;
    return true;
}

static int take_kernel(struct options *o, const char *value, struct err *err)
{
    (void)err;
    o->kernel = value;
    return 0;
}

static int take_initrd(struct options *o, const char *value, struct err *err)
{
    (void)err;
    o->initrd = value;
    return 0;
}

static int take_append(struct options *o, const char *value, struct err *err)
{
    (void)err;
    o->append = value;
    return 0;
}

static int take_firmware(struct options *o, const char *value, struct err *err)
{
    (void)err;
    o->firmware = value;
    return 0;
}

static int take_cdrom(struct options *o, const char *value, struct err *err)
{
    return disk_options_add_file(&o->disks, value, true, err);
}

/* disk, cd and net in any order. */
static int take_boot(struct options *o, const char *value, struct err *err)
{
    static const struct {
        const char *name;
        enum pc_boot device;
    } names[] = {{"disk", PC_BOOT_DISK}, {"cd", PC_BOOT_CD}, {"net", PC_BOOT_NET}};
    unsigned count = 0;

    memset(o->boot, 0, sizeof o->boot);
    for (const char *at = value;; at++) {
        size_t length = strcspn(at, ",");

        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
            if (count < PC_BOOT_DEVICES && strlen(names[i].name) == length &&
                memcmp(at, names[i].name, length) == 0)
                o->boot[count] = names[i].device;
        if (count == PC_BOOT_DEVICES || !o->boot[count++])
            return bad_value(err, "boot", value,
                             "an order of disk, cd and net: for example cd,disk");
        at += length;
        if (!*at)
            return 0;
    }
}

static int take_display(struct options *o, const char *value, struct err *err)
{
    if (strcmp(value, "none") == 0)
        o->display = DISPLAY_NONE;
    else if (strcmp(value, "text") == 0)
        o->display = DISPLAY_TEXT;
    else
        return bad_value(err, "display", value, "none or text");
    return 0;
}

static int take_protocol(struct options *o, const char *value, struct err *err)
{
    if (kernel_protocol_parse(value, &o->protocol))
        return 0;
    return bad_value(err, "protocol", value, "auto, linux, multiboot2, multiboot1 or pvh");
}

static int take_disk(struct options *o, const char *value, struct err *err)
{
    return disk_options_add(&o->disks, value, err);
}

static int take_memory(struct options *o, const char *value, struct err *err)
{
    if (!options_parse_size(value, &o->memory))
        return bad_value(err, "memory", value,
                         "a size: a number and K, M, G or T, for example 512M");
    if (o->memory < MIB)
        return err_set(err, -EINVAL,
                       "--memory: %" PRIu64 " bytes are too few for a machine; give at least 1M, "
                       "with a letter: K, M, G or T",
                       o->memory);
    if (o->memory & ~PAGE_MASK)
        return bad_value(err, "memory", value, "a multiple of 4K");
    o->memory_given = true;
    return 0;
}

static int take_engine(struct options *o, const char *value, struct err *err)
{
    if (strcmp(value, "auto") != 0 && !engine_find(value))
        return bad_value(err, "engine", value, "an engine: auto, interpret, translate or kvm");
    o->engine = value;
    return 0;
}

static int take_code_cache(struct options *o, const char *value, struct err *err)
{
    if (!options_parse_size(value, &o->code_cache) || o->code_cache < CODE_CACHE_MIN ||
        o->code_cache > CODE_CACHE_MAX)
        return bad_value(err, "code-cache", value,
                         "a size from 4M to 1G: a number and K, M or G, for example 64M");
    return 0;
}

static int take_dump_blocks(struct options *o, const char *value, struct err *err)
{
    (void)err;
    o->dump_blocks = value;
    return 0;
}

static int take_perf_map(struct options *o, const char *value, struct err *err)
{
    (void)value;
    (void)err;
    o->perf_map = true;
    return 0;
}

static int take_cpu(struct options *o, const char *value, struct err *err)
{
    (void)err;
    if (strcmp(value, "help") == 0)
        o->command = COMMAND_CPU_HELP;
    o->cpu = value;
    return 0;
}

static int take_serial(struct options *o, const char *value, struct err *err)
{
    o->serial_given = true;
    if (strcmp(value, "stdio") == 0) {
        o->serial = SERIAL_STDIO;
    } else if (strcmp(value, "none") == 0) {
        o->serial = SERIAL_NONE;
    } else if (strncmp(value, "file:", 5) == 0 && value[5]) {
        o->serial = SERIAL_FILE;
        o->serial_path = value + 5;
    } else if (strncmp(value, "unix:", 5) == 0 && value[5]) {
        o->serial = SERIAL_UNIX;
        o->serial_path = value + 5;
    } else {
        return bad_value(err, "serial", value, "stdio, none, file:PATH or unix:PATH");
    }
    return 0;
}

static int take_console(struct options *o, const char *value, struct err *err)
{
    o->virtio_console = strcmp(value, "virtio") == 0;
    if (o->virtio_console || strcmp(value, "serial") == 0)
        return 0;
    return bad_value(err, "console", value, "serial or virtio");
}

static int take_net(struct options *o, const char *value, struct err *err)
{
    struct net_config config;
    int rc = net_config_parse(&config, value, err);

    if (rc < 0 || config.kind == NET_NONE)
        return rc;
    if (o->net_count == PC_MAX_NETS)
        return err_set(err, -EINVAL, "--net: a machine has up to %u network cards", PC_MAX_NETS);
    config.mac[5] = (uint8_t)(config.mac[5] + (config.mac_given ? 0 : o->net_count));
    o->nets[o->net_count++] = config;
    return 0;
}

static int take_time(struct options *o, const char *value, struct err *err)
{
    if (strcmp(value, "host") == 0)
        o->time = CLOCK_HOST;
    else if (strcmp(value, "virtual") == 0)
        o->time = CLOCK_VIRTUAL;
    else
        return bad_value(err, "time", value, "host or virtual");
    return 0;
}

static int take_debug_exit(struct options *o, const char *value, struct err *err)
{
    const char *end;
    uint64_t port;

    if (!parse_number(value, 0, &port, &end) || *end || port > 0xffff)
        return bad_value(err, "debug-exit", value, "an I/O port: 0 to 0xffff, for example 0xf4");
    o->debug_exit = (int)port;
    return 0;
}

static int take_stats(struct options *o, const char *value, struct err *err)
{
    (void)value;
    (void)err;
    o->stats = true;
    return 0;
}

static int take_trace(struct options *o, const char *value, struct err *err)
{
    (void)err;
    if (strcmp(value, "help") == 0)
        o->command = COMMAND_TRACE_HELP;
    o->trace = value;
    return 0;
}

static int take_trace_file(struct options *o, const char *value, struct err *err)
{
    (void)err;
    o->trace_file = value;
    return 0;
}

#define MAX_SECONDS 1000000000u

/* A decimal number of seconds, with or without a fraction, in ns. */
static bool parse_seconds(const char *text, uint64_t *ns)
{
    uint64_t whole, unit = 100000000;

    if (!parse_number(text, 10, &whole, &text) || whole > MAX_SECONDS)
        return false;
    *ns = whole * 1000000000;
    if (*text == '.')
        for (text++; *text >= '0' && *text <= '9'; text++, unit /= 10)
            *ns += unit * (unsigned)(*text - '0');
    return *text == 0;
}

static int timeline_setting(struct timeline_config *c, const char *word, struct err *err)
{
    bool ok;

    if (strncmp(word, "from=", 5) == 0)
        ok = parse_seconds(word + 5, &c->from);
    else if (strncmp(word, "to=", 3) == 0)
        ok = parse_seconds(word + 3, &c->to);
    else if (strncmp(word, "limit=", 6) == 0)
        ok = options_parse_size(word + 6, &c->limit) && c->limit >= TIMELINE_MIN_LIMIT;
    else if (strncmp(word, "shortest=", 9) == 0)
        ok = parse_seconds(word + 9, &c->shortest);
    else
        ok = false;
    if (ok)
        return 0;
    return bad_value(
        err, "trace-timeline", word,
        "from=SECONDS, to=SECONDS, shortest=SECONDS or limit=SIZE (64K or more), which "
        "may follow the file's name after commas");
}

/* FILE[,from=SECONDS][,to=SECONDS][,shortest=SECONDS][,limit=SIZE] */
static int take_timeline(struct options *o, const char *value, struct err *err)
{
    struct timeline_config *c = &o->timeline;
    char word[64];
    size_t length = strcspn(value, ",");

    if (length == 0 || length >= sizeof c->path)
        return bad_value(err, "trace-timeline", value, "a file's name");
    *c = (struct timeline_config){.to = UINT64_MAX, .limit = TIMELINE_DEFAULT_LIMIT};
    memcpy(c->path, value, length);
    for (value += length; *value; value += length) {
        length = strcspn(++value, ",");
        snprintf(word, sizeof word, "%.*s", (int)length, value);
        if (length >= sizeof word)
            return bad_value(err, "trace-timeline", word, "a setting");
        if (timeline_setting(c, word, err) < 0)
            return -EINVAL;
    }
    if (c->from >= c->to)
        return err_set(err, -EINVAL, "--trace-timeline: 'from' must be less than 'to'");
    return 0;
}

static int take_name(struct options *o, const char *value, struct err *err)
{
    if (!*value || strlen(value) > 64)
        return bad_value(err, "name", value, "a name of 1 to 64 characters");
    o->name = value;
    return 0;
}

static int take_verbose(struct options *o, const char *value, struct err *err)
{
    (void)value;
    (void)err;
    o->verbose = true;
    return 0;
}

static int take_max_instructions(struct options *o, const char *value, struct err *err)
{
    const char *end;

    if (!parse_number(value, 10, &o->max_instructions, &end) || *end || !o->max_instructions)
        return bad_value(err, "max-instructions", value, "a number of instructions above 0");
    return 0;
}

static int take_save(struct options *o, const char *value, struct err *err)
{
    (void)err;
    o->save = value;
    return 0;
}

static int take_restore(struct options *o, const char *value, struct err *err)
{
    (void)err;
    o->restore = value;
    return 0;
}

static int take_socket(const char *option, const char *value, const char **path, struct err *err)
{
    if (strncmp(value, "unix:", 5) != 0 || !value[5])
        return bad_value(err, option, value, "unix:PATH");
    *path = value + 5;
    return 0;
}

static int take_monitor(struct options *o, const char *value, struct err *err)
{
    return take_socket("monitor", value, &o->monitor, err);
}

static int take_monitor_json(struct options *o, const char *value, struct err *err)
{
    return take_socket("monitor-json", value, &o->monitor_json, err);
}

static int take_gdb(struct options *o, const char *value, struct err *err)
{
    if (!gdb_server_where_is_valid(value))
        return bad_value(err, "gdb", value, "ADDR:PORT or unix:PATH, for example localhost:1234");
    o->gdb = value;
    return 0;
}

static int take_gdb_wait(struct options *o, const char *value, struct err *err)
{
    (void)value;
    (void)err;
    o->gdb_wait = true;
    return 0;
}

static int take_help(struct options *o, const char *value, struct err *err)
{
    (void)value;
    (void)err;
    o->command = COMMAND_RUN_HELP;
    return 0;
}

/* In the order of --help. */
static const struct option table[] = {
    {'k', "kernel", "FILE", "kernel to start: Linux, PVH or Multiboot; default: built-in guest",
     take_kernel},
    {'i', "initrd", "FILE", "initial RAM disk of the kernel, or 'FILE ARGS,FILE...': modules",
     take_initrd},
    {'a', "append", "STRING", "command line of the kernel", take_append},
    {0, "protocol", "NAME", "start the kernel by: auto, linux, multiboot2, multiboot1, pvh",
     take_protocol},
    {'d', "disk", "FILE",
     "a disk: FILE[,format=...][,if=...][,readonly][,serial=...]; see doble(1)", take_disk},
    {'c', "cdrom", "FILE", "a drive with this CD in it", take_cdrom},
    {0, "boot", "ORDER", "what firmware tries: disk, cd, net (default disk,cd,net)", take_boot},
    {0, "firmware", "FILE", "the BIOS that starts a machine without kernel (default SeaBIOS)",
     take_firmware},
    {0, "display", "WHERE", "the screen: none (default), text: in this terminal", take_display},
    {'m', "memory", "SIZE", "guest memory with K, M, G or T (default 512M)", take_memory},
    {'e', "engine", "ENGINE", "auto (default), interpret, translate or kvm", take_engine},
    {0, "code-cache", "SIZE", "memory for translated code, 4M to 1G (default 128M)",
     take_code_cache},
    {0, "dump-blocks", "FILE", "write guest and host code of each translated block",
     take_dump_blocks},
    {0, "perf-map", NULL, "write /tmp/perf-PID.map, for perf to name translated code",
     take_perf_map},
    {0, "cpu", "MODEL", "processor: MODEL[,+feature][,-feature]; 'help' lists them", take_cpu},
    {0, "serial", "WHERE", "first serial port: stdio (default), none, file:PATH, unix:PATH",
     take_serial},
    {0, "console", "DEVICE", "what --serial connects: serial (default), or also virtio (hvc0)",
     take_console},
    {'n', "net", "NETWORK", "none (default), user[,hostfwd=tcp:ADDR:PORT-:PORT] or tap,ifname=NAME",
     take_net},
    {0, "time", "MODE", "host (default), or virtual: one ns an instruction, repeatable", take_time},
    {0, "debug-exit", "PORT", "a guest's write of v to PORT ends with status (v << 1) | 1",
     take_debug_exit},
    {0, "stats", NULL, "print counts on standard error at the end", take_stats},
    {0, "trace", "PATTERN,...", "print events that match; 'help' lists them", take_trace},
    {0, "trace-file", "FILE", "where events go (default standard error)", take_trace_file},
    {0, "trace-timeline", "FILE", "write what happens when, for Perfetto; see doble(1)",
     take_timeline},
    {0, "max-instructions", "N", "end with status 5 after N instructions", take_max_instructions},
    {0, "save", "FILE", "SIGUSR1 saves the machine to FILE and ends; so does the limit", take_save},
    {0, "restore", "FILE", "go on with a machine that was saved", take_restore},
    {0, "monitor", "unix:PATH", "take commands (pause, memory, ...) on a socket", take_monitor},
    {0, "monitor-json", "unix:PATH", "the same for programs: JSON on lines", take_monitor_json},
    {0, "gdb", "WHERE", "wait for GDB at ADDR:PORT or unix:PATH while the machine runs", take_gdb},
    {0, "gdb-wait", NULL, "don't start before GDB says so", take_gdb_wait},
    {0, "name", "NAME", "name of the machine", take_name},
    {'v', "verbose", NULL, "say what is started and why it ended", take_verbose},
    {'h', "help", NULL, "print this page", take_help},
};

/* --- parsing --- */

/* The nearest name; NULL: nothing is near. */
static const char *nearest_option(const char *name)
{
    struct nearest near;

    nearest_init(&near, name);
    for (size_t i = 0; i < ARRAY_SIZE(table); i++)
        nearest_try(&near, table[i].name);
    return near.best;
}

#define NAME_MAX_LENGTH 32

static int unknown_long(const char *name, size_t length, struct err *err)
{
    char copy[NAME_MAX_LENGTH + 1];
    const char *near;

    snprintf(copy, sizeof copy, "%.*s", (int)length, name);
    near = *copy ? nearest_option(copy) : NULL;
    if (near)
        return err_set(err, -EINVAL, "unknown option --%s; did you mean --%s?", copy, near);
    return err_set(err, -EINVAL, "unknown option --%s; 'doble run --help' lists the options", copy);
}

static const struct option *find_long(const char *name, size_t length)
{
    for (size_t i = 0; i < ARRAY_SIZE(table); i++)
        if (strlen(table[i].name) == length && memcmp(table[i].name, name, length) == 0)
            return &table[i];
    return NULL;
}

static const struct option *find_letter(char letter)
{
    for (size_t i = 0; i < ARRAY_SIZE(table); i++)
        if (table[i].letter == letter)
            return &table[i];
    return NULL;
}

/* Gives the option its value: the one attached to the word, or the next word. `*next` is the index
 * of the next word and moves past one that was used. */
static int take(struct options *o, const struct option *option, const char *attached, int argc,
                char **argv, int *next, struct err *err)
{
    if (!option->argument) {
        if (attached)
            return err_set(err, -EINVAL, "--%s takes no value, but was given '%s'", option->name,
                           attached);
        return option->take(o, NULL, err);
    }
    if (!attached) {
        if (*next >= argc)
            return err_set(err, -EINVAL, "--%s needs a value: %s", option->name, option->argument);
        attached = argv[(*next)++];
    }
    return option->take(o, attached, err);
}

static int parse_long(struct options *o, const char *word, int argc, char **argv, int *next,
                      struct err *err)
{
    const char *name = word + 2;
    size_t length = strcspn(name, "=");
    const struct option *option = find_long(name, length);

    if (!option)
        return unknown_long(name, length, err);
    return take(o, option, name[length] ? name + length + 1 : NULL, argc, argv, next, err);
}

static int parse_short(struct options *o, const char *word, int argc, char **argv, int *next,
                       struct err *err)
{
    const struct option *option = find_letter(word[1]);

    if (!option)
        return err_set(err, -EINVAL, "unknown option -%c; 'doble run --help' lists the options",
                       word[1]);
    return take(o, option, word[2] ? word + 2 : NULL, argc, argv, next, err);
}

static int check_together(const struct options *o, struct err *err)
{
    if (o->initrd && !o->kernel)
        return err_set(err, -EINVAL, "--initrd needs a --kernel to go with");
    if (o->kernel && (o->image || o->firmware))
        return err_set(err, -EINVAL, "--kernel starts without firmware, and so without '%s'",
                       o->image ? o->image : o->firmware);
    if (o->display == DISPLAY_TEXT && o->serial_given && o->serial != SERIAL_NONE)
        return err_set(err, -EINVAL,
                       "--display text takes the terminal: the only --serial with it is 'none'");
    if (o->display == DISPLAY_TEXT && o->kernel)
        return err_set(err, -EINVAL,
                       "--display text: a machine that --kernel starts has no firmware, and so no "
                       "text on its display");
    if (o->display == DISPLAY_TEXT && !o->image && !o->firmware && !o->disks.count)
        return err_set(err, -EINVAL, "--display text: give a disk or a CD to start from");
    if (o->gdb_wait && !o->gdb)
        return err_set(err, -EINVAL, "--gdb-wait needs a --gdb to wait at");
    if (o->restore && o->memory_given)
        return err_set(err, -EINVAL,
                       "--memory and --restore: a saved machine has the memory it was saved with");
    if (o->restore && o->cpu)
        return err_set(err, -EINVAL,
                       "--cpu and --restore: a saved machine has the CPU it was saved with");
    return 0;
}

static int take_image(struct options *o, const char *word, struct err *err)
{
    if (o->image)
        return err_set(
            err, -EINVAL,
            "'%s' is one file more than 'doble run' takes, which is one: a disk, a CD or "
            "a kernel; others have options",
            word);
    o->image = word;
    return 0;
}

/* Behind "--" nothing is an option. */
static int take_rest(struct options *o, int argc, char **argv, int *next, struct err *err)
{
    int rc = 0;

    while (rc == 0 && *next < argc)
        rc = take_image(o, argv[(*next)++], err);
    return rc;
}

static int parse_run(struct options *o, int argc, char **argv, struct err *err)
{
    int next = 2;

    o->command = COMMAND_RUN;
    while (next < argc) {
        const char *word = argv[next++];
        int rc;

        if (strcmp(word, "-") == 0)
            rc = err_set(err, -EINVAL, "'-' is not an option, and no file");
        else if (word[0] != '-')
            rc = take_image(o, word, err);
        else if (strcmp(word, "--") == 0)
            rc = take_rest(o, argc, argv, &next, err);
        else if (word[1] == '-')
            rc = parse_long(o, word, argc, argv, &next, err);
        else
            rc = parse_short(o, word, argc, argv, &next, err);
        if (rc < 0)
            return rc;
        if (o->command != COMMAND_RUN)
            return 0;
    }
    return check_together(o, err);
}

int options_parse(struct options *options, int argc, char **argv, struct err *err)
{
    *options = (struct options){.boot = {PC_BOOT_DISK, PC_BOOT_CD, PC_BOOT_NET},
                                .memory = OPTIONS_DEFAULT_MEMORY,
                                .engine = "auto",
                                .debug_exit = -1,
                                .name = "doble"};
    if (argc < 2)
        return err_set(err, -EINVAL, "no command; try 'doble run', or 'doble --help'");
    if (strcmp(argv[1], "run") == 0)
        return parse_run(options, argc, argv, err);
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
        options->command = COMMAND_HELP;
    else if (strcmp(argv[1], "--version") == 0)
        options->command = COMMAND_VERSION;
    else
        return err_set(err, -EINVAL, "unknown command '%s'; did you mean 'doble run'?", argv[1]);
    return 0;
}

/* --- help --- */

void options_print_help(FILE *out)
{
    fputs("Doble runs virtual machines.\n"
          "\n"
          "Usage: doble run [OPTIONS] [DISK-OR-ISO]   start a machine in this terminal\n"
          "       doble run --help       its options\n"
          "       doble image --help     make, check and copy disk images\n"
          "       doble --version        which version this is\n"
          "\n"
          "A lone 'doble run' starts the built-in guest. On a terminal, Ctrl-] q leaves.\n",
          out);
}

static void print_option(const struct option *option, FILE *out)
{
    char left[64];

    snprintf(left, sizeof left, option->letter ? "-%c, --%s %s" : "%c   --%s %s",
             option->letter ? option->letter : ' ', option->name,
             option->argument ? option->argument : "");
    fprintf(out, "  %-26s  %s\n", left, option->help);
}

void options_print_run_help(FILE *out)
{
    fputs("Usage: doble run [OPTIONS] [DISK-OR-ISO]\n\n", out);
    for (size_t i = 0; i < ARRAY_SIZE(table); i++)
        print_option(&table[i], out);
    fputs("\n"
          "On a terminal: Ctrl-] q leaves, Ctrl-] c opens the monitor, Ctrl-] ] sends Ctrl-].\n"
          "SIGTERM presses the power button; a second one ends the machine.\n"
          "\n"
          "Exit status: 0 the guest powered off; 2 usage; 3 an error of this host; 4 the guest\n"
          "crashed beyond recovery; 5 --max-instructions; with --debug-exit, (v << 1) | 1.\n",
          out);
}
