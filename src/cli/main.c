/* main.c - the program `doble`: reads the command line, does the command, prints errors, and is the
 * only place that exits. */
#define _GNU_SOURCE
#include "base/trace.h"
#include "cli/image.h"
#include "cli/options.h"
#include "cli/run.h"
#include "cpu/cpuid.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A descriptor 0, 1 or 2 that is closed would be given to the next file that is opened. What takes
 * its place fails in the direction that matters: standard output can't be written. */
static void occupy_standard_descriptors(void)
{
    for (int fd = 0; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            (void)!open("/dev/null", fd == STDERR_FILENO ? O_WRONLY : O_RDONLY);
}

/* Where the host uses huge pages of itself, a stack of the usual 8 MiB begins with one of 2 MiB. */
static void keep_stacks_small(void)
{
    pthread_attr_t attributes;

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 1 << 20);
    pthread_setattr_default_np(&attributes);
    pthread_attr_destroy(&attributes);
}

static int print_trace_events(void)
{
    for (int id = 0; id < TRACE_COUNT; id++)
        puts(trace_name((enum trace_id)id));
    return 0;
}

static int do_command(const struct options *options, struct err *err)
{
    switch (options->command) {
    case COMMAND_HELP: options_print_help(stdout); return 0;
    case COMMAND_RUN_HELP: options_print_run_help(stdout); return 0;
    case COMMAND_VERSION: puts("doble " DOBLE_VERSION); return 0;
    case COMMAND_CPU_HELP: cpu_model_list(stdout); return 0;
    case COMMAND_TRACE_HELP: return print_trace_events();
    default: return run_machine(options, err);
    }
}

/* What is still in the buffer of standard output may not arrive. */
static int flush_output(struct err *err)
{
    errno = 0;
    if (fflush(stdout) != 0 || ferror(stdout))
        return err_set(err, -EIO, "standard output cannot be written: %s",
                       strerror(errno ? errno : EIO));
    return 0;
}

static int fail(const struct err *err, int status)
{
    fprintf(stderr, "doble: %s\n", err->text);
    return status;
}

/* `doble image` has a command line of its own. */
static int do_image(int argc, char **argv)
{
    struct err err = {0};
    int status = image_command(argc, argv, &err);

    if (err.code)
        return fail(&err, status);
    return flush_output(&err) < 0 ? fail(&err, STATUS_HOST_ERROR) : status;
}

int main(int argc, char **argv)
{
    struct options options;
    struct err err = {0};
    int status;

    occupy_standard_descriptors();
    keep_stacks_small();
    signal(SIGPIPE, SIG_IGN);
    if (argc > 1 && strcmp(argv[1], "image") == 0)
        exit(do_image(argc, argv));
    if (options_parse(&options, argc, argv, &err) < 0 ||
        (options.command == COMMAND_RUN && run_check_names(&options, &err) < 0))
        exit(fail(&err, STATUS_USAGE));
    status = do_command(&options, &err);
    if (status < 0)
        exit(fail(&err, STATUS_HOST_ERROR));
    if (flush_output(&err) < 0)
        exit(fail(&err, STATUS_HOST_ERROR));
    exit(status);
}
