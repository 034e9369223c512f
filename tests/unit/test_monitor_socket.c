/* test_monitor_socket.c - clients of the monitor that behave badly: lines without an end, silence
 * in the middle of a line, answers that nobody reads, too many at once, paths that are taken.
 * Another client is answered all the while. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/listen.h"
#include "monitor/socket.h"
#include "vm/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

struct fixture {
    struct console console;
    struct vm vm;
    struct server text, json;
    char dir[64], text_path[80], json_path[80];
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct vm_config config = {
        .name = "test",
        .pc = {.memory = MIB, .time = CLOCK_VIRTUAL, .debug_exit = DEBUG_PORTS_NO_EXIT},
        .engine = engine_find("interpret"),
        .restored = true,
    };
    struct err err = {0};

    assert_non_null(f);
    console_init_none(&f->console);
    config.console = &f->console;
    assert_int_equal(vm_init(&f->vm, &config, &err), 0);
    strcpy(f->dir, "/tmp/test_monitor.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->text_path, sizeof f->text_path, "%s/text", f->dir);
    snprintf(f->json_path, sizeof f->json_path, "%s/json", f->dir);
    assert_int_equal(server_open(&f->text, &f->vm, f->text_path, false, &err), 0);
    assert_int_equal(server_open(&f->json, &f->vm, f->json_path, true, &err), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    server_close(&f->text);
    server_close(&f->json);
    assert_int_equal(rmdir(f->dir), 0); /* the sockets are gone */
    vm_free(&f->vm);
    console_free(&f->console);
    free(f);
    return 0;
}

/* --- a client --- */

static void turn(struct fixture *f, int times)
{
    while (times--)
        loop_dispatch(&f->vm.loop);
}

static int connect_raw(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

    strcpy(address.sun_path, path);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static int connect_to(struct fixture *f, const char *path)
{
    int fd = connect_raw(path);

    turn(f, 2);
    return fd;
}

/* Sends all, with the server taking turns. */
static void say(struct fixture *f, int fd, const char *bytes, size_t count)
{
    while (count) {
        ssize_t n = send(fd, bytes, count, MSG_NOSIGNAL);

        assert_true(n > 0 || errno == EAGAIN);
        if (n > 0) {
            bytes += n;
            count -= (size_t)n;
        }
        turn(f, 1);
    }
}

static char answer[1 << 20];

/* What has come by now; NULL: the server has closed the connection. */
static const char *hear(struct fixture *f, int fd)
{
    size_t count = 0;
    ssize_t n;

    for (int i = 0; i < 50; i++) {
        turn(f, 1);
        n = recv(fd, answer + count, sizeof answer - 1 - count, 0);
        if (n == 0 && count == 0)
            return NULL;
        if (n < 0 && errno == ECONNRESET)
            return NULL;
        if (n > 0)
            count += (size_t)n;
    }
    answer[count] = '\0';
    return answer;
}

static void ask(struct fixture *f, int fd, const char *line, const char *part)
{
    const char *got;

    say(f, fd, line, strlen(line));
    got = hear(f, fd);
    if (!got || !strstr(got, part))
        fail_msg("%s: no '%s' in '%.300s'", line, part, got ? got : "(closed)");
}

/* --- how it should be --- */

static void lines_and_answers(void **state)
{
    struct fixture *f = *state;
    int text = connect_to(f, f->text_path), json = connect_to(f, f->json_path);

    assert_string_equal(hear(f, text), "(doble) ");
    ask(f, text, "status\r\n", "machine       test\n");
    ask(f, text, "sta", "");
    ask(f, text, "tus\nstatus\n\nhelp\n", "list the commands");
    ask(f, json, "{\"id\":7,\"command\":\"pause\"}\n",
        "{\"id\":7,\"result\":{\"state\":\"paused\"}}");
    ask(f, json, "\n{}\n", "bad-request");
    ask(f, text, "leave\n", "still paused");
    assert_null(hear(f, text));
    close(text);
    close(json);
}

static void events_come_to_programs(void **state)
{
    struct fixture *f = *state;
    int text = connect_to(f, f->text_path), json = connect_to(f, f->json_path);
    json_t *event = json_pack("{s:s}", "event", "paused");

    hear(f, text);
    server_tell(&f->text, event);
    server_tell(&f->json, event);
    assert_string_equal(hear(f, text), "");
    assert_string_equal(hear(f, json), "{\"event\":\"paused\"}\n");
    json_decref(event);
    close(text);
    close(json);
}

/* A client that says all it has to say and closes its side gets its answers. */
static void half_closed(void **state)
{
    static const char questions[] = "{\"id\":1,\"command\":\"status\"}\n"
                                    "{\"id\":2,\"command\":\"status\"}\n{\"id\":3";
    struct fixture *f = *state;
    int fd = connect_to(f, f->json_path);

    say(f, fd, questions, strlen(questions));
    shutdown(fd, SHUT_WR);
    hear(f, fd);
    assert_non_null(strstr(answer, "{\"id\":1,"));
    assert_non_null(strstr(answer, "{\"id\":2,"));
    assert_null(strstr(answer, "{\"id\":3,"));
    assert_null(hear(f, fd));
    close(fd);
}

/* --- how it should not be --- */

static void endless_line(struct fixture *f, const char *path, const char *next, const char *part)
{
    int fd = connect_to(f, path);
    char *junk = malloc(3 * SOCKET_MAX_LINE);

    memset(junk, 'a', 3 * SOCKET_MAX_LINE);
    hear(f, fd);
    say(f, fd, junk, 3 * SOCKET_MAX_LINE);
    assert_non_null(strstr(hear(f, fd), "65536"));
    say(f, fd, junk, 3 * SOCKET_MAX_LINE);
    assert_string_equal(hear(f, fd), ""); /* it was told once */
    ask(f, fd, "the end\n", "");
    ask(f, fd, next, part);
    free(junk);
    close(fd);
}

static void lines_too_long(void **state)
{
    struct fixture *f = *state;

    endless_line(f, f->text_path, "status\n", "machine       test");
    endless_line(f, f->json_path, "{\"command\":\"status\"}\n", "\"result\"");
}

static void zero_bytes(void **state)
{
    struct fixture *f = *state;
    int fd = connect_to(f, f->text_path);

    say(f, fd, "quit\0x\n", 7);
    assert_non_null(strstr(hear(f, fd), "zero bytes"));
    assert_int_equal(f->vm.end, VM_RUNNING);
    close(fd);
}

static void gone_in_the_middle(void **state)
{
    struct fixture *f = *state;
    static const char *const parts[] = {"", "qui", "quit", "memory 0 655", "devices *\nquit"};

    for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
        int fd = connect_to(f, f->text_path);

        say(f, fd, parts[i], strlen(parts[i]));
        close(fd);
        turn(f, 5);
    }
    assert_int_equal(f->text.client_count, 0);
    assert_int_equal(f->vm.end, VM_RUNNING);
}

/* Thousands of questions and no ear for the answers: its own questions wait. */
static void deaf_client(void **state)
{
    static const char question[] = "{\"command\":\"devices\",\"arguments\":{\"pattern\":\"*\"}}\n";
    struct fixture *f = *state;
    int deaf = connect_to(f, f->json_path), other = connect_to(f, f->json_path);
    int stuck = 0;

    while (stuck < 100) {
        if (send(deaf, question, strlen(question), MSG_NOSIGNAL) < 0)
            stuck++;
        turn(f, 1);
    }
    ask(f, other, "{\"command\":\"status\"}\n", "\"result\"");
    close(deaf);
    turn(f, 5);
    assert_int_equal(f->json.client_count, 1);
    close(other);
}

/* Events can't wait for ever: it is dropped. */
static void deaf_to_events(void **state)
{
    struct fixture *f = *state;
    int deaf = connect_to(f, f->json_path), other = connect_to(f, f->json_path);
    char *long_text = calloc(1, 200001);
    json_t *event;

    memset(long_text, 'x', 200000);
    event = json_pack("{s:s}", "event", long_text);
    for (int i = 0; i < 40; i++) {
        server_tell(&f->json, event);
        while (recv(other, answer, sizeof answer, 0) > 0)
            turn(f, 1);
    }
    turn(f, 5);
    assert_int_equal(f->json.client_count, 1);
    hear(f, other);
    ask(f, other, "{\"command\":\"status\"}\n", "\"result\"");
    json_decref(event);
    free(long_text);
    close(deaf);
    close(other);
}

static void too_many_clients(void **state)
{
    struct fixture *f = *state;
    int fds[SOCKET_MAX_CLIENTS], more;

    for (unsigned i = 0; i < SOCKET_MAX_CLIENTS; i++)
        fds[i] = connect_to(f, f->json_path);
    more = connect_to(f, f->json_path);
    assert_non_null(strstr(hear(f, more), "clients already"));
    assert_null(hear(f, more));
    close(more);
    close(fds[3]);
    turn(f, 5);
    fds[3] = connect_to(f, f->json_path);
    ask(f, fds[3], "{\"command\":\"status\"}\n", "\"result\"");
    for (unsigned i = 0; i < SOCKET_MAX_CLIENTS; i++)
        close(fds[i]);
}

/* A client that there is no descriptor for is turned away, and does not stay in the queue. */
static void no_descriptors(void **state)
{
    struct fixture *f = *state;
    struct rlimit before, none;
    int fd = connect_raw(f->text_path);

    getrlimit(RLIMIT_NOFILE, &before);
    none = (struct rlimit){(rlim_t)fd, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    turn(f, 3);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_null(hear(f, fd));
    close(fd);
    fd = connect_to(f, f->text_path);
    ask(f, fd, "status\n", "machine       test");
    close(fd);
}

static void paths(void **state)
{
    struct fixture *f = *state;
    struct server second;
    struct stat st;
    struct err err;
    char path[120];
    int fd;

    assert_int_equal(stat(f->text_path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_true(server_open(&second, &f->vm, f->text_path, false, &err) < 0); /* it is in use */
    assert_non_null(strstr(err.text, f->text_path));
    snprintf(path, sizeof path, "%s/third", f->dir);
    fd = listen_unix(path, 1, &err);
    assert_true(fd >= 0);
    close(fd); /* a socket that nobody listens on is left behind */
    assert_int_equal(server_open(&second, &f->vm, path, false, &err), 0);
    server_close(&second);
    fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_int_equal(write(fd, "precious", 8), 8);
    close(fd);
    assert_true(server_open(&second, &f->vm, path, false, &err) < 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 8);
    unlink(path);
    snprintf(path, sizeof path, "%s/no/where", f->dir);
    assert_true(server_open(&second, &f->vm, path, false, &err) < 0);
    memset(path, 'x', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    assert_true(server_open(&second, &f->vm, path, false, &err) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(lines_and_answers, setup, teardown),
        cmocka_unit_test_setup_teardown(events_come_to_programs, setup, teardown),
        cmocka_unit_test_setup_teardown(half_closed, setup, teardown),
        cmocka_unit_test_setup_teardown(lines_too_long, setup, teardown),
        cmocka_unit_test_setup_teardown(zero_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(gone_in_the_middle, setup, teardown),
        cmocka_unit_test_setup_teardown(deaf_client, setup, teardown),
        cmocka_unit_test_setup_teardown(deaf_to_events, setup, teardown),
        cmocka_unit_test_setup_teardown(too_many_clients, setup, teardown),
        cmocka_unit_test_setup_teardown(no_descriptors, setup, teardown),
        cmocka_unit_test_setup_teardown(paths, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
