/* test_monitor_json.c - the commands of the monitor in both forms, on a machine that never runs:
 * what they answer, and that no line, however hostile, gets more than an error. Also files of saved
 * machines that were cut or changed: they are refused, and the machine is as it was. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/checksum.h"
#include "base/state.h"
#include "base/trace.h"
#include "monitor/commands.h"
#include "monitor/json.h"
#include "monitor/text.h"
#include "vm/snapshot.h"
#include "vm/vm.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define RAM_SIZE (1 * MIB)

struct fixture {
    struct console console;
    struct vm vm;
    char dir[64], file[96], other[96];
    int image_fd; /* a file in memory, which the disk need not keep up with */
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct vm_config config = {
        .name = "test",
        .pc = {.memory = RAM_SIZE, .time = CLOCK_VIRTUAL, .debug_exit = DEBUG_PORTS_NO_EXIT},
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
    snprintf(f->file, sizeof f->file, "%s/saved", f->dir);
    snprintf(f->other, sizeof f->other, "%s/other", f->dir);
    f->image_fd = memfd_create("image", MFD_CLOEXEC);
    assert_true(f->image_fd >= 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    unlink(f->file);
    unlink(f->other);
    rmdir(f->dir);
    close(f->image_fd);
    vm_free(&f->vm);
    console_free(&f->console);
    free(f);
    return 0;
}

/* --- asking --- */

static json_t *ask_bytes(struct fixture *f, const char *line, size_t length)
{
    bool leave = false;
    json_t *answer = json_run(&f->vm, line, length, &leave);

    assert_true(json_is_object(answer));
    assert_non_null(json_object_get(answer, "id"));
    assert_int_equal(json_object_size(answer), 2);
    return answer;
}

/* The answer's result, with a reference. */
static json_t *result_of(struct fixture *f, const char *line)
{
    json_t *answer = ask_bytes(f, line, strlen(line)), *result = json_object_get(answer, "result");

    if (!result)
        fail_msg("%s: %s", line, json_dumps(answer, 0));
    json_incref(result);
    json_decref(answer);
    return result;
}

static void expect_error_bytes(struct fixture *f, const char *line, size_t length, const char *code)
{
    json_t *answer = ask_bytes(f, line, length), *error = json_object_get(answer, "error");
    const char *got = json_string_value(json_object_get(error, "code"));
    const char *message = json_string_value(json_object_get(error, "message"));

    if (!got || strcmp(got, code) != 0)
        fail_msg("%.200s: not %s: %s", line, code, json_dumps(answer, 0));
    assert_true(message && *message && !strchr(message, '\n'));
    json_decref(answer);
}

static void expect_error(struct fixture *f, const char *line, const char *code)
{
    expect_error_bytes(f, line, strlen(line), code);
}

static char *ask_text(struct fixture *f, const char *line)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);

    assert_non_null(out);
    assert_true(text_run(&f->vm, line, out) || strcmp(line, "leave") == 0);
    fclose(out);
    return text;
}

static void expect_text(struct fixture *f, const char *line, const char *part)
{
    char *text = ask_text(f, line);

    if (!strstr(text, part))
        fail_msg("%s: no '%s' in '%s'", line, part, text);
    free(text);
}

/* --- what commands answer --- */

static void status_and_life(void **state)
{
    struct fixture *f = *state;
    json_t *status = result_of(f, "{\"command\":\"status\"}");

    assert_string_equal(json_string_value(json_object_get(status, "name")), "test");
    assert_string_equal(json_string_value(json_object_get(status, "state")), "paused");
    assert_int_equal(json_integer_value(json_object_get(status, "memory")), RAM_SIZE);
    json_decref(status);
    expect_text(f, "status", "machine       test");
    expect_text(f, "pause", "paused");
    assert_true(f->vm.held);
    expect_error(f, "{\"id\":1,\"command\":\"resume\"}", "failed"); /* still before vm_run() */
    assert_false(f->vm.held);
    expect_error(f, "{\"command\":\"reset\"}", "failed"); /* there is no kernel */
    expect_text(f, "power", "paused");
    expect_text(f, "leave", "still paused");
    expect_text(f, "quit", "quit");
    assert_int_equal(f->vm.end, VM_QUIT);
}

static void memory_and_translation(void **state)
{
    struct fixture *f = *state;
    json_t *result;

    assert_true(memory_write(&f->vm.pc.mem, 0x1ffc, "Doble is here.", 14));
    expect_text(f, "memory 0x1ffc 14 phys", "44 6f 62 6c 65 20 69 73  20 68 65 72 65 2e");
    expect_text(f, "x 8188 14", "|Doble is here.|");
    result = result_of(f, "{\"command\":\"memory\",\"arguments\":"
                          "{\"address\":8188,\"length\":5,\"phys\":true}}");
    assert_string_equal(json_string_value(json_object_get(result, "bytes")), "446f626c65");
    assert_string_equal(json_string_value(json_object_get(result, "address")), "0x1ffc");
    json_decref(result);
    expect_text(f, "translate 0x1234", "physical 0x1234 (RAM)");
    expect_text(f, "translate 0xfee00000", "(local APIC)");
    expect_text(f, "translate 0xfec00000", "(ioapic)");
    expect_text(f, "translate 0x100000000", "error: 0x100000000 is no linear address");
    expect_text(f, "memory 0 0", "error: the length");
    expect_text(f, "memory 0 65537", "error: the length");
    expect_text(f, "memory 0xfffff 2 phys", "error: there is no RAM");
    expect_text(f, "memory 0xffffffffffffffff 2", "error: the range goes beyond");
    expect_text(f, "memory 0xffffffffffffffff 1 phys", "error: there is no RAM");
}

static void registers_devices_stats(void **state)
{
    struct fixture *f = *state;
    json_t *result;

    f->vm.pc.cpu->gpr[RBX] = UINT64_C(0xfedcba9876543210);
    expect_text(f, "registers", "rbx fedcba9876543210");
    result = result_of(f, "{\"command\":\"registers\"}");
    assert_string_equal(json_string_value(json_object_get(result, "rbx")), "0xfedcba9876543210");
    assert_int_equal(json_string_length(json_object_get(result, "ymm15")), 64);
    assert_non_null(json_object_get(json_object_get(result, "cs"), "selector"));
    json_decref(result);
    result = result_of(f, "{\"command\":\"devices\",\"arguments\":{\"pattern\":\"i8259\"}}");
    assert_non_null(json_object_get(json_object_get(result, "i8259.0"), "out"));
    json_decref(result);
    expect_text(f, "devices", "hpet.0");
    expect_text(f, "devices pc.0", "a20 = 0x1");
    expect_text(f, "devices no*", "error: no device matches");
    expect_text(f, "stats", "instructions");
    result = result_of(f, "{\"command\":\"stats\"}");
    assert_true(json_is_integer(json_object_get(result, "instructions")));
    json_decref(result);
}

static void trace_events(void **state)
{
    struct fixture *f = *state;

    expect_text(f, "trace cpu_interrupt on", "1 event on");
    expect_text(f, "trace cpu_int*", "on  cpu_interrupt");
    json_decref(result_of(f, "{\"command\":\"trace\",\"arguments\":"
                             "{\"pattern\":\"cpu_*\",\"on\":false}}"));
    expect_text(f, "trace cpu_int*", "off cpu_interrupt");
    expect_text(f, "trace 'cpu_int*'", "off cpu_interrupt");
    expect_text(f, "trace \"cpu\\_int\"'*'", "off cpu_interrupt");
    expect_text(f, "trace 'cpu_*", "error: a quote is not closed");
    expect_text(f, "trace nobody_*", "error: no trace event");
    expect_text(f, "trace cpu_* perhaps", "error: on: 'perhaps' is not on or off");
    expect_error(f, "{\"command\":\"trace\",\"arguments\":{\"on\":true}}", "failed");
}

/* Every command is listed, found by its names, and nearly every one by a slip of the finger. */
static void the_table(void **state)
{
    struct fixture *f = *state;
    const struct command *c;
    char line[64];

    for (size_t i = 0; (c = command_at(i)); i++) {
        assert_ptr_equal(command_find(c->name), c);
        if (c->other_name)
            assert_ptr_equal(command_find(c->other_name), c);
        expect_text(f, "help", c->name);
        snprintf(line, sizeof line, "help %s", c->name);
        expect_text(f, line, c->help);
        snprintf(line, sizeof line, "%c%sx", c->name[0], c->name + 1);
        expect_text(f, line, c->name);
    }
    expect_text(f, "help nothing", "error: there is no command 'nothing'");
    expect_text(f, "statsu", "did you mean 'stat");
}

/* --- bad lines --- */

static void bad_json(void **state)
{
    static const char *const no_json[] = {
        "",
        " ",
        "{",
        "}",
        "[",
        "nul",
        "{\"id\":1",
        "{\"command\":\"status\"} x",
        "{'id':1}",
        "{\"a\":}",
        "[1",
        "1",
        "\"status",
        "\"s\"",
        "{\"id\":1,}",
        "{\"id\":1,\"id\":1,\"command\":\"status\"}",
        "\xff\xfe{",
        "[]",
        "null",
        "{\"command\":\"st\xc3\x28tus\"}",
        "status",
        "\x00",
        "{\"a\": 1e999}",
        "{\"id\":99999999999999999999}",
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < ARRAY_SIZE(no_json); i++)
        expect_error(f, no_json[i], "bad-json");
    expect_error_bytes(f, "{\"command\":\"status\"}\0", 21, "bad-json");
    expect_error_bytes(f, "{\"command\":\"sta\0tus\"}", 21, "bad-json");
    expect_error(f, "{\"command\":\"status\\u0000\"}", "bad-json");
    expect_error(f, "{\"command\":\"\\ud800\"}", "bad-json");
}

static void deep_nesting(void **state)
{
    struct fixture *f = *state;
    const size_t size = 60000;
    char *line = malloc(size);

    assert_non_null(line);
    memset(line, '[', size);
    expect_error_bytes(f, line, size, "bad-json");
    for (size_t i = 0; i + 5 <= size; i += 5)
        memcpy(line + i, "{\"a\":", 5);
    expect_error_bytes(f, line, size, "bad-json");
    memset(line, '[', 1000);
    memset(line + 1000, ']', 1000);
    expect_error_bytes(f, line, 2000, "bad-json"); /* an array is no request */
    free(line);
}

static void bad_requests(void **state)
{
    struct fixture *f = *state;

    expect_error(f, "{}", "bad-request");
    expect_error(f, "{\"id\":1}", "bad-request");
    expect_error(f, "{\"command\":1}", "bad-request");
    expect_error(f, "{\"command\":null}", "bad-request");
    expect_error(f, "{\"command\":\"status\",\"arguments\":[]}", "bad-request");
    expect_error(f, "{\"command\":\"status\",\"arguments\":null}", "bad-request");
    expect_error(f, "{\"command\":\"status\",\"argument\":{}}", "bad-request");
    expect_error(f, "{\"id\":{},\"command\":\"status\"}", "bad-request");
    expect_error(f, "{\"id\":1.5,\"command\":\"status\"}", "bad-request");
    expect_error(f, "{\"command\":\"\"}", "unknown-command");
    expect_error(f, "{\"command\":\"statos\"}", "unknown-command");
    expect_error(f, "{\"command\":\"\xc3\xa4\xc3\xb6\"}", "unknown-command");
}

static void ids_come_back(void **state)
{
    static const char *const ids[] = {"1", "-5", "\"a \\u00e4 b\"", "null", "9223372036854775807"};
    struct fixture *f = *state;
    char line[160];

    for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
        json_t *id = json_loads(ids[i], JSON_DECODE_ANY, NULL), *answer;

        snprintf(line, sizeof line, "{\"id\":%s,\"command\":\"pause\"}", ids[i]);
        answer = ask_bytes(f, line, strlen(line));
        assert_true(json_equal(json_object_get(answer, "id"), id));
        json_decref(answer);
        json_decref(id);
    }
}

/* For every argument of every command: values of the kinds that it does not take. */
static void wrong_arguments(void **state)
{
    static const struct {
        const char *json;
        unsigned kinds; /* that take it, as bits */
    } values[] = {
        {"null", 0},
        {"[]", 0},
        {"{}", 0},
        {"1.5", 0},
        {"-1", 0},
        {"true", 1u << ARGUMENT_FLAG | 1u << ARGUMENT_SWITCH},
        {"1", 1u << ARGUMENT_NUMBER},
        {"\"0x\"", 1u << ARGUMENT_STRING},
        {"\"-1\"", 1u << ARGUMENT_STRING},
        {"\" 1\"", 1u << ARGUMENT_STRING},
        {"\"0x10000000000000000\"", 1u << ARGUMENT_STRING},
        {"\"18446744073709551616\"", 1u << ARGUMENT_STRING},
        {"\"1x\"", 1u << ARGUMENT_STRING},
        {"\"0x+1\"", 1u << ARGUMENT_STRING},
    };
    struct fixture *f = *state;
    const struct command *c;
    char line[256];

    for (size_t i = 0; (c = command_at(i)); i++) {
        snprintf(line, sizeof line, "{\"command\":\"%s\",\"arguments\":{\"nobody\":1}}", c->name);
        expect_error(f, line, "bad-argument");
        for (size_t a = 0; a < command_argument_count(c); a++)
            for (size_t v = 0; v < ARRAY_SIZE(values); v++) {
                if (values[v].kinds & 1u << c->arguments[a].kind)
                    continue;
                snprintf(line, sizeof line, "{\"command\":\"%s\",\"arguments\":{%s\"%s\":%s}}",
                         c->name,
                         a && c->arguments[0].kind == ARGUMENT_STRING ? "\"pattern\":\"*\","
                         : a                                          ? "\"address\":0,"
                                                                      : "",
                         c->arguments[a].name, values[v].json);
                expect_error(f, line, "bad-argument");
            }
    }
}

static void bad_text(void **state)
{
    static const char *const lines[] = {
        "memory",
        "memory 1",
        "memory 1 2 3",
        "memory 1 2 phys 4",
        "memory x 1",
        "memory -1 1",
        "memory 0x 1",
        "memory 1 2 \"phys",
        "memory 1e3 1",
        "help a b",
        "status now",
        "save",
        "save a b",
        "\"",
        "\"a",
        "\\",
        "trace a b c d e f g h",
        "\x1b[31m",
        "\xff\xff",
        "\"\" \"\" \"\"",
        "translate",
        "translate 0x1 2",
        "restore",
        "memory 99999999999999999999 1",
    };
    struct fixture *f = *state;
    char *text;

    for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
        expect_text(f, lines[i], "error: ");
    text = ask_text(f, "   \t ");
    assert_string_equal(text, "");
    free(text);
}

/* --- chance --- */

static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525 + 1013904223;
    return *seed >> 8;
}

static const char *const seeds[] = {
    "{\"id\":1,\"command\":\"memory\",\"arguments\":{\"address\":\"0x1000\",\"length\":64}}",
    "{\"id\":\"a\",\"command\":\"devices\",\"arguments\":{\"pattern\":\"i8*\"}}",
    "{\"command\":\"trace\",\"arguments\":{\"pattern\":\"hpet*\",\"on\":false}}",
    "{\"id\":null,\"command\":\"translate\",\"arguments\":{\"address\":4096}}",
    "memory 0x1000 64 phys",
    "trace hpet* off",
    "help \"status\"",
};

static void mutate(char *line, size_t *length, uint32_t *seed)
{
    static const char letters[] = "{}[]\":,\\0x19eE.-+ntf\xc3\xa4\x80\xff u* ";

    for (uint32_t n = 1 + next_random(seed) % 6; n; n--) {
        size_t at = next_random(seed) % (*length + 1);
        char c = letters[next_random(seed) % (sizeof letters - 1)];

        switch (next_random(seed) % 4) {
        case 0: *length = at; break; /* cut */
        case 1: line[at < *length ? at : 0] = c; break;
        default:
            if (*length < 200) {
                memmove(line + at + 1, line + at, *length - at);
                line[at] = c;
                ++*length;
            }
            break;
        }
    }
}

static void mutated_lines(void **state)
{
    struct fixture *f = *state;
    uint32_t seed = 1;

    for (int i = 0; i < 20000; i++) {
        const char *from = seeds[next_random(&seed) % ARRAY_SIZE(seeds)];
        size_t length = strlen(from);
        char line[256];

        memcpy(line, from, length);
        mutate(line, &length, &seed);
        line[length] = '\0';
        json_decref(ask_bytes(f, line, length));
        free(ask_text(f, line));
    }
    trace_enable("*", false);
    assert_int_equal(f->vm.end, VM_RUNNING);
}

/* --- saved machines --- */

struct image {
    uint8_t *bytes;
    size_t size;
};

static struct image read_image(const char *path)
{
    struct image image;
    struct stat st;
    int fd = open(path, O_RDONLY);

    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    image.size = (size_t)st.st_size;
    image.bytes = malloc(image.size);
    assert_int_equal(read(fd, image.bytes, image.size), image.size);
    close(fd);
    return image;
}

static json_t *restore_image(struct fixture *f, const uint8_t *bytes, size_t size)
{
    char line[160];

    assert_int_equal(ftruncate(f->image_fd, 0), 0);
    assert_int_equal(pwrite(f->image_fd, bytes, size, 0), size);
    snprintf(line, sizeof line,
             "{\"command\":\"restore\",\"arguments\":{\"file\":\"/proc/self/fd/%d\"}}",
             f->image_fd);
    return ask_bytes(f, line, strlen(line));
}

/* All that there is to know of the machine. */
static char *everything(struct fixture *f)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);

    state_dump(f->vm.pc.states, "*", out);
    fprintf(out, "%llx %llu\n", (unsigned long long)memory_hash(&f->vm.pc.mem),
            (unsigned long long)clock_now(&f->vm.pc.clock));
    fclose(out);
    return text;
}

static void save_machine(struct fixture *f)
{
    char line[160];

    snprintf(line, sizeof line, "save \"%s\"", f->file);
    expect_text(f, line, "saved to");
}

static void saved_and_restored(void **state)
{
    struct fixture *f = *state;
    char line[160], *before, *after;

    assert_true(memory_write(&f->vm.pc.mem, 0x3000, "old", 3));
    f->vm.pc.cpu->gpr[RCX] = 77;
    before = everything(f);
    save_machine(f);
    assert_true(memory_write(&f->vm.pc.mem, 0x3000, "new", 3));
    assert_true(memory_write(&f->vm.pc.mem, 0x5000, "more", 4)); /* zero when it was saved */
    bus_pio_write(&f->vm.pc.bus, 0x21, 0x55, 1);
    f->vm.pc.cpu->gpr[RCX] = 78;
    snprintf(line, sizeof line, "restore %s", f->file);
    expect_text(f, line, "restored from");
    after = everything(f);
    assert_string_equal(before, after);
    free(before);
    free(after);
}

static void expect_refused(struct fixture *f, const struct image *image, size_t size)
{
    json_t *answer = restore_image(f, image->bytes, size);

    assert_non_null(json_object_get(answer, "error"));
    assert_int_equal(f->vm.end, VM_RUNNING);
    json_decref(answer);
}

static void damaged_files_are_refused(void **state)
{
    struct fixture *f = *state;
    struct image image;
    char *before, *after;
    size_t step;

    assert_true(memory_write(&f->vm.pc.mem, 0x3000, "RAM", 3));
    save_machine(f);
    f->vm.pc.cpu->gpr[RCX] = 79;
    before = everything(f);
    image = read_image(f->file);
    for (size_t at = 0; at < image.size; at++) { /* a bit of each byte */
        image.bytes[at] ^= (uint8_t)(1u << at % 8);
        expect_refused(f, &image, image.size);
        image.bytes[at] ^= (uint8_t)(1u << at % 8);
    }
    for (size_t size = 0; size < image.size; size += step) {
        step = size < 400 || size + 100 > image.size ? 1 : 53;
        expect_refused(f, &image, size);
    }
    after = everything(f);
    assert_string_equal(before, after);
    free(before);
    free(after);
    free(image.bytes);
}

static void fix_checksum(struct image *image)
{
    struct checksum sum = {0};
    uint64_t value;

    checksum_add(&sum, image->bytes, image->size - sizeof value);
    value = checksum_value(&sum);
    memcpy(image->bytes + image->size - sizeof value, &value, sizeof value);
}

/* A byte is changed by somebody who knows the checksum. The machine becomes another one, or it is
 * refused and as it was. */
static void try_forged(struct fixture *f, struct image *image, const char *before)
{
    json_t *answer;
    char *after;

    fix_checksum(image);
    answer = restore_image(f, image->bytes, image->size);
    if (json_object_get(answer, "error")) {
        after = everything(f);
        assert_string_equal(before, after);
        free(after);
    }
    json_decref(answer);
    assert_int_equal(f->vm.end, VM_RUNNING);
}

static void forged_files(void **state)
{
    static const uint8_t values[] = {0, 0x7f, 0x80, 0xff};
    struct fixture *f = *state;
    struct image image, forged;
    char *before, *after;

    save_machine(f);
    before = everything(f);
    image = read_image(f->file);
    forged = (struct image){malloc(image.size), image.size};
    for (size_t at = 0; at < image.size - 8; at++) {
        memcpy(forged.bytes, image.bytes, image.size);
        forged.bytes[at] = values[at % ARRAY_SIZE(values)];
        try_forged(f, &forged, before);
        json_decref(restore_image(f, image.bytes, image.size));
    }
    after = everything(f);
    assert_string_equal(before, after);
    free(before);
    free(after);
    free(image.bytes);
    free(forged.bytes);
}

static void files_that_are_none(void **state)
{
    struct fixture *f = *state;
    char line[160];

    expect_text(f, "restore /nonexistent/file", "error: ");
    expect_text(f, "restore /", "error: ");
    expect_text(f, "restore /dev/zero", "is not a plain file");
    assert_int_equal(mkfifo(f->other, 0600), 0);
    snprintf(line, sizeof line, "restore %s", f->other);
    expect_text(f, line, "is not a plain file");
    expect_text(f, "save /nonexistent/file", "error: ");
    snprintf(line, sizeof line, "save %s", f->dir);
    expect_text(f, line, "error: ");
    snprintf(line, sizeof line, "%s.partial", f->dir);
    assert_int_equal(access(line, F_OK), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(status_and_life, setup, teardown),
        cmocka_unit_test_setup_teardown(memory_and_translation, setup, teardown),
        cmocka_unit_test_setup_teardown(registers_devices_stats, setup, teardown),
        cmocka_unit_test_setup_teardown(trace_events, setup, teardown),
        cmocka_unit_test_setup_teardown(the_table, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_json, setup, teardown),
        cmocka_unit_test_setup_teardown(deep_nesting, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_requests, setup, teardown),
        cmocka_unit_test_setup_teardown(ids_come_back, setup, teardown),
        cmocka_unit_test_setup_teardown(wrong_arguments, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_text, setup, teardown),
        cmocka_unit_test_setup_teardown(mutated_lines, setup, teardown),
        cmocka_unit_test_setup_teardown(saved_and_restored, setup, teardown),
        cmocka_unit_test_setup_teardown(damaged_files_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(forged_files, setup, teardown),
        cmocka_unit_test_setup_teardown(files_that_are_none, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
