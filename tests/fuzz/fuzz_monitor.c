/* fuzz_monitor.c - the monitor's commands, in both forms, from clients that send anything.
 *
 *   choice  bytes
 *
 * choice bit 0: JSON. Bit 1: lines go straight to the parser; otherwise the bytes come from a
 * client of the socket, in pieces. Bit 2: a second client is there, and must still be answered.
 *
 * Files: the linker puts wrap_files.c between the monitor and the host, so that `save` and
 * `restore` reach nothing but one file in memory. */
#define _GNU_SOURCE
#include "guest.h"
#include "input.h"
#include "machine.h"
#include "vm_fixture.h"

#include "base/trace.h"
#include "monitor/json.h"
#include "monitor/socket.h"
#include "monitor/text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define MAX_LINES 32u

static struct server servers[2]; /* text, JSON */
static char path[2][64];
static char folder[40] = "/tmp/doble-fuzz.XXXXXX";

static void remove_folder(void)
{
    for (unsigned i = 0; i < 2; i++)
        server_close(&servers[i]);
    rmdir(folder);
}

static void open_servers(struct vm *vm)
{
    struct err err = {0};

    if (!mkdtemp(folder))
        fuzz_fail("no folder for the sockets");
    for (unsigned i = 0; i < 2; i++) {
        snprintf(path[i], sizeof path[i], "%s/%u", folder, i);
        if (server_open(&servers[i], vm, path[i], i, &err) < 0)
            fuzz_fail("no socket: %s", err.text);
    }
    atexit(remove_folder);
}

static void turn(struct vm *vm, unsigned times)
{
    while (times--)
        loop_dispatch(&vm->loop);
}

static int connect_to(struct vm *vm, const char *where)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    strcpy(address.sun_path, where);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        fuzz_fail("no client: %s", strerror(errno));
    turn(vm, 1);
    return fd;
}

static size_t hear(int fd, char *answer, size_t room)
{
    size_t count = 0;
    ssize_t n;

    while (count + 1 < room && (n = recv(fd, answer + count, room - 1 - count, 0)) > 0)
        count += (size_t)n;
    answer[count] = '\0';
    return count;
}

/* --- two ways in --- */

static void by_socket(struct vm *vm, struct input *in, bool json)
{
    static char answer[1 << 16];
    int fd = connect_to(vm, path[json]);
    size_t piece = 1 + (size_t)input_u8(in) * 16;

    while (in->left) {
        size_t count = in->left < piece ? in->left : piece;
        ssize_t n = send(fd, in->bytes, count, MSG_NOSIGNAL);

        if (n <= 0)
            break;
        in->bytes += n;
        in->left -= (size_t)n;
        turn(vm, 3);
        hear(fd, answer, sizeof answer);
    }
    turn(vm, MAX_LINES);
    close(fd);
    turn(vm, 4);
}

static void check_answer(json_t *answer)
{
    char *text = answer ? json_dumps(answer, JSON_COMPACT) : NULL;

    if (!text || strchr(text, '\n'))
        fuzz_fail("no answer on one line");
    free(text);
    json_decref(answer);
}

static void one_line(struct vm *vm, const char *line, size_t count, bool json)
{
    bool leave = false;
    char *text = NULL;
    size_t size;
    FILE *out;

    if (json) {
        check_answer(json_run(vm, line, count, &leave));
        return;
    }
    out = open_memstream(&text, &size);
    if (!out)
        fuzz_fail("out of memory");
    (void)text_run(vm, line, out);
    fclose(out);
    free(text);
}

static void by_lines(struct vm *vm, struct input *in, bool json)
{
    static char line[SOCKET_MAX_LINE + 1];

    for (unsigned i = 0; i < MAX_LINES && in->left; i++) {
        const uint8_t *end = memchr(in->bytes, '\n', in->left);
        size_t count = end ? (size_t)(end - in->bytes) : in->left;
        size_t kept = count < SOCKET_MAX_LINE ? count : SOCKET_MAX_LINE;

        memcpy(line, in->bytes, kept);
        line[kept] = '\0';
        one_line(vm, line, kept, json);
        in->bytes += count + !!end;
        in->left -= count + !!end;
    }
}

/* Somebody else, who does nothing wrong, is answered. */
static void check_other(struct vm *vm, int fd)
{
    static char answer[8192];

    hear(fd, answer, sizeof answer);
    if (send(fd, "{\"id\": 7, \"command\": \"status\"}\n", 31, MSG_NOSIGNAL) != 31)
        fuzz_fail("another client was cut off");
    turn(vm, 4);
    hear(fd, answer, sizeof answer);
    if (!strstr(answer, "7"))
        fuzz_fail("another client is not answered: '%s'", answer);
    close(fd);
    turn(vm, 2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct vm *vm = vm_fixture();
    struct input in = {data, size};
    unsigned choice = input_u8(&in);
    struct guest_choice guest = {.mode = (enum guest_mode)((choice >> 4) % GUEST_MODES)};
    int other = -1;

    if (!servers[0].vm) {
        open_servers(vm);
        trace_set_file(fopen("/dev/null", "w"));
    }
    vm_fixture_reset(vm);
    guest_make(vm->pc.cpu, &guest);
    if (choice & 4)
        other = connect_to(vm, path[1]);
    if (choice & 2)
        by_lines(vm, &in, choice & 1);
    else
        by_socket(vm, &in, choice & 1);
    if (other >= 0)
        check_other(vm, other);
    turn(vm, 2);
    trace_enable("*", false);
    machine_check_cpu(vm->pc.cpu);
    (void)machine_run(&vm->pc, vm->config.engine, 100);
    machine_check_cpu(vm->pc.cpu);
    return 0;
}
