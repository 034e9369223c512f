/* snapshot.c - the format of saved machines. Little-endian; every number has its fixed place.
 *
 *   struct header
 *   state          header.state_size bytes, as state_save() makes them
 *   run...         u64 guest-physical address, u64 length, bytes (whole pages, rising addresses)
 *   end            u64 all ones, u64 zero
 *   checksum       u64, of everything before it
 *
 * Pages that are all zero are left out: the RAM of a new machine is zero. Of the CPU model the file
 * has the text, by which it is made again, and a hash of its features: the text "host" means
 * something else on another host, and a guest must not lose instructions under way. */
#define _GNU_SOURCE
#include "vm/snapshot.h"

#include "base/checksum.h"
#include "vm/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC "DobleVM\n"
#define VERSION 2
#define MAX_STATE_SIZE (16 * MIB)
#define END_OF_RAM UINT64_MAX

struct header {
    char magic[8];
    uint32_t version;
    uint16_t time;     /* enum clock_mode */
    uint16_t firmware; /* 1: the machine has firmware, and the devices that belong to it */
    uint64_t memory;
    uint64_t clock_ns, clock_tsc, tsc_khz;
    uint64_t features; /* hash of the CPU's */
    uint64_t state_size;
    char cpu[SNAPSHOT_CPU_LENGTH];
};
_Static_assert(sizeof(struct header) == 64 + SNAPSHOT_CPU_LENGTH, "header of a saved machine");

/* --- whole reads and writes --- */

static int write_all(int fd, const void *bytes, uint64_t count, struct err *err)
{
    const uint8_t *p = bytes;

    while (count) {
        ssize_t n = write(fd, p, count < GIB ? count : GIB);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set(err, -errno, "the machine cannot be saved: %s", strerror(errno));
        p += n;
        count -= (uint64_t)n;
    }
    return 0;
}

static int read_all(int fd, void *bytes, uint64_t count, struct err *err)
{
    uint8_t *p = bytes;

    while (count) {
        ssize_t n = read(fd, p, count < GIB ? count : GIB);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set(err, -errno, "the saved machine cannot be read: %s", strerror(errno));
        if (n == 0)
            return err_set(err, -EINVAL, "the saved machine is cut off in the middle");
        p += n;
        count -= (uint64_t)n;
    }
    return 0;
}

/* --- saving --- */

/* FNV-1a over the list of features. */
static uint64_t feature_hash(const struct cpu_model *model)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (unsigned f = 0; f < FEAT_COUNT; f++)
        hash = (hash ^ cpu_model_has(model, (enum cpu_feature)f)) * UINT64_C(0x100000001b3);
    return hash;
}

static void fill_header(struct vm *vm, size_t state_size, struct header *h)
{
    const struct clock *clock = &vm->pc.clock;
    const char *cpu = vm->config.pc.cpu ? vm->config.pc.cpu : "";

    memset(h, 0, sizeof *h);
    memcpy(h->magic, MAGIC, sizeof h->magic);
    h->version = VERSION;
    h->time = (uint16_t)clock->mode;
    h->firmware = vm->pc.config.firmware != NULL;
    h->memory = vm->pc.mem.size;
    h->clock_ns = clock_now(clock);
    h->clock_tsc = clock_tsc(clock);
    h->tsc_khz = clock->tsc_khz;
    h->features = feature_hash(vm->pc.model);
    h->state_size = state_size;
    strncpy(h->cpu, cpu, sizeof h->cpu - 1);
}

struct writer {
    int fd;
    struct checksum sum;
    struct err *err;
};

static int put(struct writer *w, const void *bytes, uint64_t count)
{
    checksum_add(&w->sum, bytes, count);
    return write_all(w->fd, bytes, count, w->err);
}

static int write_run(void *opaque, gpa_t gpa, void *host, uint64_t len)
{
    struct writer *w = opaque;
    uint64_t head[2] = {gpa, len};
    int rc = put(w, head, sizeof head);

    return rc < 0 ? rc : put(w, host, len);
}

static int write_ram(struct vm *vm, struct writer *w)
{
    uint64_t end[2] = {END_OF_RAM, 0};
    int rc = memory_for_each_used(&vm->pc.mem, write_run, w);

    return rc < 0 ? rc : put(w, end, sizeof end);
}

static int write_checksum(struct writer *w)
{
    uint64_t value = checksum_value(&w->sum);

    return put(w, &value, sizeof value);
}

int vm_save(struct vm *vm, int fd, struct err *err)
{
    struct writer w = {.fd = fd, .err = err};
    struct header h;
    uint8_t *state = NULL;
    size_t size = 0;
    int rc;

    if (vm->config.pc.cpu && strlen(vm->config.pc.cpu) >= sizeof h.cpu)
        return err_set(err, -EINVAL, "the text of --cpu is too long to be saved (%zu bytes)",
                       sizeof h.cpu - 1);
    bus_lock(&vm->pc.bus);
    rc = state_save(vm->pc.states, &state, &size, err);
    bus_unlock(&vm->pc.bus);
    if (rc < 0)
        goto out;
    fill_header(vm, size, &h);
    rc = put(&w, &h, sizeof h);
    if (rc == 0)
        rc = put(&w, state, size);
    if (rc == 0)
        rc = write_ram(vm, &w);
    if (rc == 0)
        rc = write_checksum(&w);
out:
    free(state);
    return rc;
}

int vm_save_file(struct vm *vm, const char *path, struct err *err)
{
    char *temporary;
    int fd, rc;

    if (asprintf(&temporary, "%s.partial", path) < 0)
        return err_set(err, -ENOMEM, "out of memory");
    fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        rc = err_set(err, -errno, "'%s' cannot be written: %s", temporary, strerror(errno));
        goto out;
    }
    rc = vm_save(vm, fd, err);
    if (close(fd) < 0 && rc == 0)
        rc = err_set(err, -errno, "'%s' cannot be written: %s", temporary, strerror(errno));
    if (rc == 0 && rename(temporary, path) < 0)
        rc = err_set(err, -errno, "'%s' cannot be written: %s", path, strerror(errno));
    if (rc < 0)
        unlink(temporary);
out:
    free(temporary);
    return rc;
}

/* --- restoring --- */

static int check_header(const struct header *h, struct err *err)
{
    if (memcmp(h->magic, MAGIC, sizeof h->magic) != 0)
        return err_set(err, -EINVAL, "this is not a saved machine");
    if (h->version != VERSION)
        return err_set(err, -EINVAL, "the saved machine has format %u; this build reads %u",
                       h->version, VERSION);
    if ((h->time != CLOCK_HOST && h->time != CLOCK_VIRTUAL) || h->memory & ~PAGE_MASK ||
        h->firmware > 1 || h->memory < MIB || h->state_size > MAX_STATE_SIZE ||
        h->clock_ns > 2 * CLOCK_LAST || !memchr(h->cpu, '\0', sizeof h->cpu))
        return err_set(err, -EINVAL, "the header of the saved machine is damaged");
    return 0;
}

static int read_header(int fd, struct header *h, struct err *err)
{
    int rc;

    if (lseek(fd, 0, SEEK_SET) < 0)
        return err_set(err, -errno, "the saved machine is not a plain file: %s", strerror(errno));
    rc = read_all(fd, h, sizeof *h, err);
    return rc < 0 ? rc : check_header(h, err);
}

int snapshot_read_info(int fd, struct snapshot_info *info, struct err *err)
{
    struct header h;
    int rc = read_header(fd, &h, err);

    if (rc < 0)
        return rc;
    info->memory = h.memory;
    info->time = (enum clock_mode)h.time;
    info->firmware = h.firmware;
    memcpy(info->cpu, h.cpu, sizeof info->cpu);
    return 0;
}

static int check_machine(struct vm *vm, const struct header *h, struct err *err)
{
    uint64_t khz = vm->pc.clock.tsc_khz;

    if (h->memory != vm->pc.mem.size || h->time != (uint32_t)vm->pc.clock.mode)
        return err_set(err, -EINVAL, "the saved machine is not like this one (memory or time)");
    if (h->features != feature_hash(vm->pc.model))
        return err_set(err, -EINVAL,
                       "the saved machine has a CPU with other features than '%s' has here",
                       h->cpu[0] ? h->cpu : "host");
    /* The host's TSC is measured at every start: a little is noise. */
    if (h->tsc_khz < khz - khz / 100 || h->tsc_khz > khz + khz / 100)
        return err_set(err, -EINVAL,
                       "the saved machine's TSC runs at %llu kHz, and this host's at %llu kHz",
                       (unsigned long long)h->tsc_khz, (unsigned long long)khz);
    return 0;
}

static int read_state(struct vm *vm, int fd, uint64_t size, struct err *err)
{
    uint8_t *state = malloc(size ? size : 1);
    int rc;

    if (!state)
        return err_set(err, -ENOMEM, "out of memory");
    rc = read_all(fd, state, size, err);
    if (rc == 0) {
        bus_lock(&vm->pc.bus);
        rc = state_load(vm->pc.states, state, size, err);
        bus_unlock(&vm->pc.bus);
    }
    free(state);
    return rc;
}

static int skip(int fd, uint64_t count, struct err *err)
{
    if (lseek(fd, (off_t)count, SEEK_CUR) < 0)
        return err_set(err, -errno, "the saved machine cannot be read: %s", strerror(errno));
    return 0;
}

/* One run of pages: loads it, or only checks that it has its place. */
static int read_run(struct vm *vm, int fd, gpa_t gpa, uint64_t len, bool load, struct err *err)
{
    void *host = memory_hidden_ram(&vm->pc.mem, gpa, len);
    int rc;

    if (!host || !len || (gpa | len) & ~PAGE_MASK)
        return err_set(err, -EINVAL, "the saved machine has RAM where this one has none");
    if (!load)
        return skip(fd, len, err);
    rc = read_all(fd, host, len, err);
    memory_touched(&vm->pc.mem, gpa, len);
    return rc;
}

static int read_ram(struct vm *vm, int fd, bool load, struct err *err)
{
    gpa_t next = 0;

    for (;;) {
        uint64_t head[2];
        int rc = read_all(fd, head, sizeof head, err);

        if (rc < 0)
            return rc;
        if (head[0] == END_OF_RAM && head[1] == 0)
            return 0;
        if (head[0] < next)
            return err_set(err, -EINVAL, "the saved machine's RAM is out of order");
        rc = read_run(vm, fd, head[0], head[1], load, err);
        if (rc < 0)
            return rc;
        next = head[0] + head[1];
    }
}

static int damaged(struct err *err)
{
    return err_set(err, -EINVAL, "the saved machine was cut off or changed: its checksum is wrong");
}

/* Reads `size` bytes from the start of the file; the last eight are the checksum of the others. */
static int sum_file(int fd, uint64_t size, uint8_t *buffer, uint64_t room, struct err *err)
{
    struct checksum sum = {0};
    uint64_t value;
    int rc = lseek(fd, 0, SEEK_SET) < 0 ? damaged(err) : 0;

    for (uint64_t left = size - sizeof value, part; rc == 0 && left; left -= part) {
        part = left < room ? left : room;
        rc = read_all(fd, buffer, part, err);
        if (rc == 0)
            checksum_add(&sum, buffer, part);
    }
    if (rc == 0)
        rc = read_all(fd, &value, sizeof value, err);
    return rc == 0 && value != checksum_value(&sum) ? damaged(err) : rc;
}

static int check_sum(int fd, struct err *err)
{
    uint8_t *buffer;
    struct stat st;
    int rc;

    if (fstat(fd, &st) < 0 || st.st_size < (off_t)sizeof(struct header) + 8)
        return damaged(err);
    buffer = malloc(MIB);
    if (!buffer)
        return err_set(err, -ENOMEM, "out of memory");
    rc = sum_file(fd, (uint64_t)st.st_size, buffer, MIB, err);
    free(buffer);
    return rc;
}

/* Reads the whole file once without touching the machine. Leaves the position after the header. */
static int check_file(struct vm *vm, int fd, struct header *h, struct err *err)
{
    int rc = read_header(fd, h, err);

    if (rc == 0)
        rc = check_machine(vm, h, err);
    if (rc == 0)
        rc = check_sum(fd, err);
    if (rc == 0)
        rc = read_header(fd, h, err);
    if (rc == 0)
        rc = skip(fd, h->state_size, err);
    if (rc == 0)
        rc = read_ram(vm, fd, false, err);
    return rc == 0 ? read_header(fd, h, err) : rc;
}

/* Puts time where it was; the machine is paused. */
static void set_time(struct vm *vm, const struct header *h)
{
    bus_lock(&vm->pc.bus);
    vm->pc.clock.tsc_khz = h->tsc_khz;
    clock_set(&vm->pc.clock, h->clock_ns, h->clock_tsc);
    bus_unlock(&vm->pc.bus);
}

/* Virtual time is instructions and what was idled away; modulo 2^64. */
static void set_idle_time(struct vm *vm, const struct header *h)
{
    vm->pc.cpu->idle_ns = h->clock_ns - vm->pc.cpu->icount;
}

int vm_restore(struct vm *vm, int fd, struct err *err)
{
    struct header h;
    int rc = check_file(vm, fd, &h, err);

    if (rc < 0)
        return rc;
    set_time(vm, &h);
    rc = read_state(vm, fd, h.state_size, err);
    set_idle_time(vm, &h);
    if (rc == 0)
        rc = read_ram(vm, fd, true, err);
    vm->config.engine->flush(vm->pc.cpu);
    return rc;
}

/* --- replacing a machine that has run --- */

/* What brings a machine back as it was, but for its RAM. */
struct backup {
    struct header h;
    uint8_t *state;
    size_t size;
};

static int make_backup(struct vm *vm, struct backup *b, struct err *err)
{
    int rc;

    memset(b, 0, sizeof *b);
    bus_lock(&vm->pc.bus);
    rc = state_save(vm->pc.states, &b->state, &b->size, err);
    bus_unlock(&vm->pc.bus);
    fill_header(vm, b->size, &b->h);
    return rc;
}

static int apply_backup(struct vm *vm, const struct backup *b, struct err *err)
{
    int rc;

    pc_reset(&vm->pc);
    set_time(vm, &b->h);
    bus_lock(&vm->pc.bus);
    rc = state_load(vm->pc.states, b->state, b->size, err);
    bus_unlock(&vm->pc.bus);
    set_idle_time(vm, &b->h);
    return rc;
}

/* The state of a new machine, or of the old one if the new one's makes no sense. */
static int replace_state(struct vm *vm, int fd, const struct header *h, const struct backup *b,
                         struct err *err)
{
    struct err again;
    int rc;

    pc_reset(&vm->pc);
    set_time(vm, h);
    rc = read_state(vm, fd, h->state_size, err);
    set_idle_time(vm, h);
    if (rc < 0 && apply_backup(vm, b, &again) < 0)
        vm_fail(vm, &again);
    return rc;
}

static int replace_ram(struct vm *vm, int fd, struct err *err)
{
    int rc = memory_clear(&vm->pc.mem, err);

    if (rc == 0)
        rc = read_ram(vm, fd, true, err);
    if (rc < 0) {
        err_prefix(err, "the machine cannot go on, because only a part was restored");
        vm_fail(vm, err);
    }
    return rc;
}

int vm_replace(struct vm *vm, int fd, struct err *err)
{
    struct backup backup;
    struct header h;
    int rc = check_file(vm, fd, &h, err);

    if (rc < 0)
        return rc;
    rc = make_backup(vm, &backup, err);
    if (rc == 0)
        rc = replace_state(vm, fd, &h, &backup, err);
    if (rc == 0)
        rc = replace_ram(vm, fd, err);
    vm->config.engine->flush(vm->pc.cpu);
    free(backup.state);
    if (rc == 0)
        vm_replaced(vm);
    return rc;
}
