/* fuzz_loaders.c - kernels and initrds of any content, by every boot protocol, and the first
 * instructions of what was accepted.
 *
 *   choice  command line (length:2, bytes)  initrd (length:2, bytes)  kernel
 *
 * choice: bits 2:0 protocol, bit 3 an initrd, bit 4 a second module, bit 5 a command line */
#define _GNU_SOURCE
#include "input.h"
#include "machine.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#define RAM (8 * MIB)
#define FIRST_INSTRUCTIONS 200u

static struct machine machine;

/* A file in memory, again and again; its path. */
struct file {
    int fd;
    char path[40];
};

static void make_file(struct file *f, const char *name, const void *bytes, size_t count)
{
    if (!f->path[0]) {
        f->fd = memfd_create(name, MFD_CLOEXEC);
        snprintf(f->path, sizeof f->path, "/proc/self/fd/%d", f->fd);
    }
    if (f->fd < 0 || ftruncate(f->fd, 0) < 0 || pwrite(f->fd, bytes, count, 0) != (ssize_t)count)
        fuzz_fail("no file in memory");
}

static void clear_ram(struct pc *pc)
{
    struct err err;

    if (memory_clear(&pc->mem, &err) < 0)
        fuzz_fail("%s", err.text);
    machine_clear_flags(pc);
    engine_interpret.flush(pc->cpu);
}

static void start(struct pc *pc, const struct pc_kernel *kernel)
{
    struct err err = {0};
    int rc = pc_boot_kernel(pc, kernel, &err);

    if (rc >= 0) {
        machine_check_cpu(pc->cpu);
        (void)machine_run(pc, &engine_interpret, FIRST_INSTRUCTIONS);
        machine_check_cpu(pc->cpu);
    } else if (!err.text[0] || err.code != rc) {
        fuzz_fail("error %d without a sentence", rc);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct file kernel_file, initrd_file;
    static char modules[256], cmdline[4096];
    struct input in = {data, size}, piece;
    unsigned choice = input_u8(&in);
    struct pc_kernel kernel = {.protocol = (enum kernel_protocol)((choice & 7) % 5)};

    if (!machine.pc.cpu)
        machine_init(&machine, RAM, &engine_interpret);
    machine_load_new(&machine.pc, machine.new_state, machine.new_size);
    clear_ram(&machine.pc);
    if (choice & 0x20) {
        piece = input_piece(&in, sizeof cmdline - 1);
        memset(cmdline, 0, sizeof cmdline);
        input_take(&piece, cmdline, piece.left);
        kernel.cmdline = cmdline;
    }
    if (choice & 8) {
        piece = input_piece(&in, 65536);
        make_file(&initrd_file, "initrd", piece.bytes, piece.left);
        snprintf(modules, sizeof modules, choice & 0x10 ? "%s one two,%s x,,y" : "%s",
                 initrd_file.path, initrd_file.path);
        kernel.initrd = modules;
    }
    make_file(&kernel_file, "kernel", in.bytes, in.left);
    kernel.kernel = kernel_file.path;
    start(&machine.pc, &kernel);
    return 0;
}
