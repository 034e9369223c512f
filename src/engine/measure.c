/* measure.c - the trial: a machine of 1 MiB with one port, a guest of some sixty bytes, two
 * engines.
 *
 * A KVM that doesn't work may do anything but come back. So the trial is made by another process,
 * which tells what it has found through a pipe, and is killed when its time is over. It is a
 * grandchild, so that nobody has to wait for its end: the kernel may take long to clear up a
 * virtual machine.
 *
 *     0 -------- 1000h 2000h 3000h 4000h 5000h 6000h --- 8000h -- 10000h ---- 20000h --- 40000h
 * ---- |          |PML4 |PDPT |PD   |PT   |IDT  |GDT      |code   |stack (down)|pages that come and
 * go
 */
#define _GNU_SOURCE
#include "engine/measure.h"

#include "base/timeline.h"
#include "base/trace.h"
#include "cpu/tlb.h"
#include "engine/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LIMIT_MS 4 /* from fork() to the last answer */

#define PML4 0x1000u
#define PDPT 0x2000u
#define PAGE_DIRECTORY 0x3000u
#define PAGE_TABLE 0x4000u
#define IDT 0x5000u
#define GDT 0x6000u
#define CODE 0x8000u
#define STACK 0x20000u
#define TRIAL_MEMORY MIB
#define PORT 0x80
#define PORT_END 0x81

/* 24 rounds of: 1024 stores; 32 times a mapping removed and a page fault that brings it back; a
 * port. Then the port that ends it. Addresses of the handler and the table are as above. */
__asm__(".pushsection .rodata\n"
        "measure_code:\n"
        "    mov $24, %r15d\n"
        "1:  mov $1024, %ecx\n"
        "    mov $0x40000, %edi\n"
        "2:  mov %rcx, (%rdi, %rcx, 8)\n"
        "    dec %ecx\n"
        "    jnz 2b\n"
        "    mov $0x80000, %edi\n"
        "3:  mov %edi, %eax\n"
        "    shr $12, %eax\n"
        "    movq $0, 0x4000(, %rax, 8)\n"
        "    invlpg (%rdi)\n"
        "    mov %rax, (%rdi)\n"
        "    add $0x1000, %edi\n"
        "    cmp $0xa0000, %edi\n"
        "    jne 3b\n"
        "    in $0x80, %al\n"
        "    dec %r15d\n"
        "    jnz 1b\n"
        "    out %al, $0x81\n"
        "4:  hlt\n"
        "    jmp 4b\n"
        "measure_fault:\n"
        "    push %rax\n"
        "    push %rdx\n"
        "    mov %cr2, %rax\n"
        "    mov %eax, %edx\n"
        "    shr $12, %edx\n"
        "    or $0x63, %eax\n"
        "    mov %rax, 0x4000(, %rdx, 8)\n"
        "    pop %rdx\n"
        "    pop %rax\n"
        "    add $8, %rsp\n"
        "    iretq\n"
        "measure_end:\n"
        ".popsection\n");
extern const uint8_t measure_code[], measure_fault[], measure_end[];

struct trial {
    struct memory mem;
    struct bus bus;
    struct clock clock;
    struct cpu_model *model;
    struct cpu *cpu;
    bool done; /* the guest has come to its end */
};

/* What goes through the pipe; short enough to be written at once. */
struct answer {
    uint64_t ns; /* 0: there was an error */
    struct err err;
};

static uint64_t now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* --- the machine --- */

static uint64_t port_read(void *opaque, uint64_t offset, unsigned size)
{
    (void)opaque, (void)offset, (void)size;
    return 0;
}

static void port_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct trial *t = opaque;

    (void)value, (void)size;
    if (offset != PORT_END - PORT)
        return;
    t->done = true;
    cpu_signal(t->cpu, ATTN_STOP);
}

static const struct io_ops port_ops = {.read = port_read, .write = port_write};

static void *at(struct trial *t, gpa_t gpa)
{
    return memory_ram(&t->mem, gpa, PAGE_SIZE);
}

static void fill_memory(struct trial *t)
{
    const uint64_t present = 0x63; /* writable, accessed, dirty */
    const uint64_t handler = CODE + (uint64_t)(measure_fault - measure_code);
    uint64_t *pages = at(t, PAGE_TABLE), *gate = (uint64_t *)at(t, IDT) + 2 * EXC_PF;

    *(uint64_t *)at(t, PML4) = PDPT | present;
    *(uint64_t *)at(t, PDPT) = PAGE_DIRECTORY | present;
    *(uint64_t *)at(t, PAGE_DIRECTORY) = PAGE_TABLE | present;
    for (uint64_t i = 0; i < TRIAL_MEMORY / PAGE_SIZE; i++)
        pages[i] = i << PAGE_SHIFT | present;
    ((uint64_t *)at(t, GDT))[1] = UINT64_C(0x00af9b000000ffff);
    gate[0] = (handler & 0xffff) | 8u << 16 | UINT64_C(0x8e00) << 32;
    memcpy(at(t, CODE), measure_code, (size_t)(measure_end - measure_code));
}

static void set_registers(struct cpu *cpu)
{
    const uint16_t data = SEG_P | SEG_S | SEG_WRITABLE | SEG_ACCESSED | SEG_DB | SEG_G;

    for (unsigned i = 0; i < SEG_COUNT; i++)
        cpu->seg[i] = (struct segment){.limit = UINT32_MAX, .sel = 0x10, .attr = data};
    cpu->seg[CS].sel = 8;
    cpu->seg[CS].attr = SEG_P | SEG_S | SEG_CODE | SEG_WRITABLE | SEG_ACCESSED | SEG_L | SEG_G;
    cpu->gdtr = (struct desc_table){GDT, 0x17};
    cpu->idtr = (struct desc_table){IDT, 0xfff};
    cpu->cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_WP | CR0_PG;
    cpu->cr3 = PML4;
    cpu->cr4 = CR4_PAE;
    cpu->efer = EFER_LME | EFER_LMA;
    cpu->rip = CODE;
    cpu->gpr[RSP] = STACK;
    tlb_flush_all(cpu);
    cpu_update_mode(cpu);
}

static int make_trial(struct trial *t, const char *cpu, struct err *err)
{
    int rc;

    memset(t, 0, sizeof *t);
    bus_init(&t->bus);
    t->clock.tsc_khz = 1000000; /* nobody asks for the time */
    rc = memory_init(&t->mem, TRIAL_MEMORY, err);
    if (rc == 0)
        rc = cpu_model_new(cpu, &t->model, err);
    if (rc < 0)
        return rc;
    t->cpu = cpu_new(&t->mem, &t->bus, &t->clock, t->model, 0);
    if (!t->cpu)
        return err_set(err, -ENOMEM, "not enough memory for a trial of the engines");
    bus_add_pio(&t->bus, "trial", PORT, 2, &port_ops, t);
    fill_memory(t);
    set_registers(t->cpu);
    return 0;
}

/* Nothing is freed: the process ends soon. */
static int time_engine(const struct engine_ops *engine, const char *cpu, uint64_t *ns,
                       struct err *err)
{
    struct trial t;
    uint64_t start;
    int rc = make_trial(&t, cpu, err);

    if (rc == 0)
        rc = engine->init(t.cpu, err);
    if (rc < 0)
        return rc;
    start = now();
    if (engine->run(t.cpu) == EXIT_FAILED) {
        engine->failure(t.cpu, err);
        return err->code;
    }
    *ns = now() - start;
    return t.done ? 0 : err_set(err, -EIO, "%s made an error in a trial", engine->name);
}

/* --- the other process --- */

static void make_answers(const char *cpu, int fd)
{
    const struct engine_ops *const engines[] = {&engine_kvm, &engine_translate};

    for (unsigned i = 0; i < ARRAY_SIZE(engines); i++) {
        struct answer a = {0};

        if (time_engine(engines[i], cpu, &a.ns, &a.err) < 0)
            a.ns = 0;
        if (write(fd, &a, sizeof a) != sizeof a)
            return;
    }
}

/* What holds the user's terminal or pipe open would keep others waiting, if it came to hang. */
static void let_go_of_standard_files(void)
{
    const int null = open("/dev/null", O_RDWR);

    for (int fd = 0; null >= 0 && fd <= STDERR_FILENO; fd++)
        dup2(null, fd);
}

/* In the child: makes the grandchild, and tells its number before it ends itself. */
static void start_grandchild(const char *cpu, int answers, int numbers)
{
    const pid_t pid = fork();

    if (pid == 0) {
        let_go_of_standard_files();
        trace_enable("*", false);
        timeline_here = NULL;
        make_answers(cpu, answers);
    } else {
        (void)!write(numbers, &pid, sizeof pid);
    }
    _exit(0);
}

static bool receive(int fd, uint64_t deadline, void *data, size_t size)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    const uint64_t time = now();
    const struct timespec left = {.tv_nsec = deadline > time ? (long)(deadline - time) : 0};

    return ppoll(&p, 1, &left, NULL) == 1 && read(fd, data, size) == (ssize_t)size;
}

static int too_late(struct err *err)
{
    return err_set(err, -ETIME, "KVM is slow here: it wasn't done with a trial in %d ms", LIMIT_MS);
}

static int read_answers(int fd, uint64_t deadline, struct engine_times *times, struct err *err)
{
    struct answer a;

    if (!receive(fd, deadline, &a, sizeof a))
        return too_late(err);
    if (a.ns == 0) {
        *err = a.err;
        return a.err.code;
    }
    times->kvm_ns = a.ns;
    if (!receive(fd, deadline, &a, sizeof a))
        return too_late(err);
    times->translate_ns = a.ns ? a.ns : UINT64_MAX; /* translation doesn't work here at all */
    return 0;
}

/* Starts the trial; returns the number of its process, -1: there is none. */
static pid_t start_trial(const char *cpu, int answers)
{
    pid_t child, grandchild = -1;
    int numbers[2];

    if (pipe2(numbers, O_CLOEXEC) < 0)
        return -1;
    child = fork();
    if (child == 0)
        start_grandchild(cpu, answers, numbers[1]);
    if (child > 0)
        waitpid(child, NULL, 0);
    close(numbers[1]);
    if (read(numbers[0], &grandchild, sizeof grandchild) != sizeof grandchild)
        grandchild = -1;
    close(numbers[0]);
    return grandchild;
}

int engine_measure(const char *cpu, struct engine_times *times, struct err *err)
{
    const uint64_t deadline = now() + LIMIT_MS * UINT64_C(1000000);
    pid_t trial;
    int fds[2], rc;

    if (pipe2(fds, O_CLOEXEC) < 0)
        return err_set(err, -errno, "no pipe for a trial of KVM: %s", strerror(errno));
    trial = start_trial(cpu, fds[1]);
    close(fds[1]);
    rc = trial > 0 ? read_answers(fds[0], deadline, times, err)
                   : err_set(err, -EAGAIN, "no process for a trial of KVM");
    if (rc == -ETIME)
        kill(trial, SIGKILL);
    close(fds[0]);
    return rc;
}
