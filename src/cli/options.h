/* options.h - the command line: one table of options, from which parsing and --help follow.
 *
 * Main thread, before there is a machine. Strings point into argv. */
#ifndef DOBLE_CLI_OPTIONS_H
#define DOBLE_CLI_OPTIONS_H

#include "base/err.h"
#include "base/timeline.h"
#include "bus/clock.h"
#include "cli/disk_options.h"
#include "firmware/kernel_image.h"
#include "machine/pc.h"
#include "net/net_config.h"

#include <stdio.h>

enum command {
    COMMAND_RUN,
    COMMAND_HELP,       /* doble --help */
    COMMAND_RUN_HELP,   /* doble run --help */
    COMMAND_VERSION,    /* doble --version */
    COMMAND_CPU_HELP,   /* doble run --cpu help */
    COMMAND_TRACE_HELP, /* doble run --trace help */
};

enum display_kind { DISPLAY_NONE, DISPLAY_TEXT };

enum serial_kind { SERIAL_STDIO, SERIAL_NONE, SERIAL_FILE, SERIAL_UNIX };

#define OPTIONS_DEFAULT_MEMORY (512 * MIB)

struct options {
    enum command command;
    const char *kernel, *initrd, *append; /* NULL: not given */
    enum kernel_protocol protocol;
    struct disk_options disks;
    const char *image;    /* the word that is no option: a kernel, a disk or a CD; NULL: none */
    const char *firmware; /* NULL: not given */
    enum pc_boot boot[PC_BOOT_DEVICES];
    enum display_kind display;
    uint64_t memory; /* bytes */
    bool memory_given;
    const char *engine;
    uint64_t code_cache;     /* bytes; 0: the engine's default */
    const char *dump_blocks; /* file; NULL: none */
    bool perf_map;
    const char *cpu; /* NULL: the default model */
    enum serial_kind serial;
    bool serial_given;
    const char *serial_path; /* SERIAL_FILE, SERIAL_UNIX */
    bool virtio_console;     /* beside the serial port */
    struct net_config nets[PC_MAX_NETS];
    unsigned net_count; /* those of NET_NONE are not counted */
    enum clock_mode time;
    int debug_exit; /* port, or -1 */
    bool stats, verbose;
    const char *trace, *trace_file;  /* NULL: none; standard error */
    struct timeline_config timeline; /* path "": none */
    const char *name;
    uint64_t max_instructions; /* 0: no limit */
    const char *save, *restore;
    const char *monitor, *monitor_json; /* paths of sockets; NULL: none */
    const char *gdb;                    /* ADDR:PORT or unix:PATH; NULL: none */
    bool gdb_wait;
};

/* Reads the command line. -EINVAL: it makes no sense, and the sentence says why (exit status 2). */
int options_parse(struct options *options, int argc, char **argv, struct err *err) MUST_USE;

/* A size in bytes: a decimal number and K, M, G or T (powers of 1024), or none for bytes. */
bool options_parse_size(const char *text, uint64_t *bytes) MUST_USE;

/* The pages of --help: commands, or the options of `doble run`. */
void options_print_help(FILE *out);
void options_print_run_help(FILE *out);

#endif
