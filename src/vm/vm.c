/* vm.c - the main loop, the vCPU thread, and how they tell each other what to do.
 *
 * The vCPU thread asks before every run of the engine whether it may (vcpu_may_run): pauses,
 * resets, a full console and the end all make it park. Whoever wants that sets the reason under
 * vm->lock and then signals ATTN_STOP, so that the engine comes back. No wake-up is lost:
 * cpu_signal() sets the attention bit first and then takes vm->lock to wake; the halted vCPU looks
 * at the bits with vm->lock held before it sleeps.
 *
 * Virtual time: one instruction is one nanosecond. cpu->icount_limit is where the next timer is
 * due; there the engine returns and the vCPU thread runs the timers. A halt moves time to the next
 * timer at once. So every timer fires at an exact instruction count. */
#define _GNU_SOURCE
#include "vm/vm.h"

#include "cpu/cpu_timeline.h"
#include "cpu/debug.h"
#include "cpu/interrupt.h"
#include "firmware/linux_boot.h"
#include "vm/screen.h"
#include "vm/signals.h"
#include "vm/snapshot.h"
#include "vm/vm_engine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_SECOND UINT64_C(1000000000)
#define NS_PER_MS UINT64_C(1000000)

static const char *const end_names[] = {
    [VM_RUNNING] = "runs",
    [VM_POWERED_OFF] = "was powered off",
    [VM_DEBUG_EXIT] = "ended through the debug port",
    [VM_CRASHED] = "crashed",
    [VM_LIMIT] = "reached its instruction limit",
    [VM_QUIT] = "was left",
    [VM_KILLED] = "was ended by a signal",
    [VM_SAVED] = "was saved",
    [VM_FAILED] = "failed",
};

/* For the timeline. */
static const char *const exit_names[] = {
    [EXIT_STOPPED] = "exit: stopped",   [EXIT_HALTED] = "exit: halted",
    [EXIT_SHUTDOWN] = "exit: shutdown", [EXIT_DEADLINE] = "exit: deadline",
    [EXIT_STEPPED] = "exit: stepped",   [EXIT_DEBUG] = "exit: debugger",
    [EXIT_FAILED] = "exit: failed",
};

const char *vm_end_name(enum vm_end end)
{
    return end_names[end];
}

/* --- messages between the threads --- */

static void wake_main(void *opaque)
{
    struct vm *vm = opaque;
    uint64_t one = 1;
    ssize_t ignored = write(vm->wake_fd, &one, sizeof one);

    (void)ignored; /* full: it is awake already */
}

/* cpu->wake: something may end a halt. */
static void wake_vcpu(void *opaque)
{
    struct vm *vm = opaque;

    pthread_mutex_lock(&vm->lock);
    pthread_cond_broadcast(&vm->wake);
    vm_engine_kick(vm);
    pthread_mutex_unlock(&vm->lock);
}

static void stop_vcpu(struct vm *vm)
{
    cpu_signal(vm->pc.cpu, ATTN_STOP);
}

void vm_end(struct vm *vm, enum vm_end why, uint32_t value)
{
    pthread_mutex_lock(&vm->lock);
    if (vm->end == VM_RUNNING) {
        vm->end = why;
        vm->end_value = value;
    }
    pthread_mutex_unlock(&vm->lock);
    stop_vcpu(vm);
    wake_main(vm);
}

void vm_fail(struct vm *vm, const struct err *err)
{
    pthread_mutex_lock(&vm->lock);
    if (vm->end == VM_RUNNING)
        vm->end_err = *err;
    pthread_mutex_unlock(&vm->lock);
    vm_end(vm, VM_FAILED, 0);
}

static enum vm_end current_end(struct vm *vm)
{
    enum vm_end end;

    pthread_mutex_lock(&vm->lock);
    end = vm->end;
    pthread_mutex_unlock(&vm->lock);
    return end;
}

/* --- who is told what happens --- */

void vm_watch(struct vm *vm, struct vm_watcher *watcher)
{
    watcher->next = vm->watchers;
    vm->watchers = watcher;
}

static void tell(struct vm *vm, enum vm_event event)
{
    for (struct vm_watcher *w = vm->watchers; w; w = w->next)
        w->happened(w->opaque, event);
}

/* --- what the board tells (bus lock held, any thread) --- */

static void on_power_off(void *opaque)
{
    vm_end(opaque, VM_POWERED_OFF, 0);
}

static void on_debug_exit(void *opaque, uint32_t value)
{
    vm_end(opaque, VM_DEBUG_EXIT, value);
}

void vm_reset(struct vm *vm)
{
    pthread_mutex_lock(&vm->lock);
    vm->reset_wanted = true;
    pthread_mutex_unlock(&vm->lock);
    stop_vcpu(vm);
    wake_main(vm);
}

static void on_reset(void *opaque)
{
    vm_reset(opaque);
}

static void on_serial_tx(void *opaque, const uint8_t *bytes, size_t count)
{
    struct vm *vm = opaque;

    if (!vm->screen) /* which has the terminal; the serial cable is not connected then */
        console_write(vm->config.console, bytes, count);
}

/* clock->changed: the first deadline is earlier now. The vCPU thread sets its limit anew before it
 * runs on, so it is enough to bring it out of the engine. */
static void on_deadline(void *opaque)
{
    struct vm *vm = opaque;

    if (vm->pc.clock.mode == CLOCK_VIRTUAL)
        cpu_signal(vm->pc.cpu, ATTN_TIMER | ATTN_STOP);
    else if (clock_next_deadline(&vm->pc.clock) < atomic_load(&vm->sleep_until))
        wake_main(vm);
}

/* console->flow, with the console's lock held. */
static void on_flow(void *opaque, bool full)
{
    struct vm *vm = opaque;

    pthread_mutex_lock(&vm->lock);
    vm->output_full = full;
    pthread_cond_broadcast(&vm->wake);
    pthread_mutex_unlock(&vm->lock);
    if (full)
        stop_vcpu(vm);
    else
        wake_main(vm);
}

/* --- the vCPU thread --- */

static bool must_park(const struct vm *vm)
{
    return vm->pauses || vm->output_full || vm->reset_wanted || vm->debug_stop || vm->engine_failed;
}

/* Parks while there is a reason to. False: the machine has ended. */
static bool vcpu_may_run(struct vm *vm)
{
    bool go;

    pthread_mutex_lock(&vm->lock);
    while (vm->end == VM_RUNNING && must_park(vm)) {
        vm->parked = true;
        timeline_state(TIMELINE_PARKED, 0, 0);
        pthread_cond_broadcast(&vm->stopped);
        pthread_cond_wait(&vm->wake, &vm->lock);
    }
    vm->parked = false;
    go = vm->end == VM_RUNNING;
    pthread_mutex_unlock(&vm->lock);
    return go;
}

/* Guest time is instructions executed and nanoseconds skipped while halted. */
static void virtual_time_sync(struct vm *vm)
{
    const struct cpu *cpu = vm->pc.cpu;

    if (vm->pc.clock.mode == CLOCK_VIRTUAL)
        atomic_store_explicit(&vm->pc.clock.virtual_ns, cpu->icount + cpu->idle_ns,
                              memory_order_relaxed);
}

/* How far the engine may go: to the next timer (virtual time) or the limit of the user. */
static void set_limit(struct vm *vm)
{
    struct cpu *cpu = vm->pc.cpu;
    uint64_t limit = UINT64_MAX;

    if (vm->pc.clock.mode == CLOCK_VIRTUAL) {
        uint64_t deadline, now;

        bus_lock(&vm->pc.bus);
        deadline = clock_next_deadline(&vm->pc.clock);
        now = clock_now(&vm->pc.clock);
        bus_unlock(&vm->pc.bus);
        if (deadline != CLOCK_NEVER)
            limit = cpu->icount + (deadline > now ? deadline - now : 1);
    }
    if (vm->config.max_instructions && limit > vm->config.max_instructions)
        limit = vm->config.max_instructions;
    cpu->icount_limit = limit;
}

static void virtual_timers(struct vm *vm)
{
    bus_lock(&vm->pc.bus);
    clock_run_timers(&vm->pc.clock);
    bus_unlock(&vm->pc.bus);
}

/* Moves virtual time to the next timer. False: there is none, and only the outside can wake us. */
static bool virtual_idle(struct vm *vm)
{
    struct clock *clock = &vm->pc.clock;
    uint64_t deadline, now;

    bus_lock(&vm->pc.bus);
    deadline = clock_next_deadline(clock);
    now = clock_now(clock);
    if (deadline != CLOCK_NEVER) {
        if (deadline > now)
            vm->pc.cpu->idle_ns += deadline - now;
        virtual_time_sync(vm);
        clock_run_timers(clock);
    }
    bus_unlock(&vm->pc.bus);
    return deadline != CLOCK_NEVER;
}

/* Sleeps until something may end the halt, or there is a reason to park. */
static void vcpu_sleep(struct vm *vm)
{
    struct cpu *cpu = vm->pc.cpu;

    pthread_mutex_lock(&vm->lock);
    while (vm->end == VM_RUNNING && !must_park(vm) && !cpu_event_ready(cpu) &&
           !(atomic_load(&cpu->attention) & ATTN_STOP))
        pthread_cond_wait(&vm->wake, &vm->lock);
    pthread_mutex_unlock(&vm->lock);
}

static void vcpu_idle(struct vm *vm)
{
    timeline_state(TIMELINE_HALTED, 0, 0);
    timeline_rest();
    if (vm->pc.clock.mode != CLOCK_VIRTUAL || !virtual_idle(vm))
        vcpu_sleep(vm);
}

/* The vCPU parks until the debugger has been told, who then pauses the machine. */
static void debug_stop(struct vm *vm)
{
    pthread_mutex_lock(&vm->lock);
    vm->debug_stop = true;
    pthread_mutex_unlock(&vm->lock);
    wake_main(vm);
}

/* The vCPU parks until the main thread has found another engine. */
static void engine_failed(struct vm *vm)
{
    pthread_mutex_lock(&vm->lock);
    vm->engine_failed = true;
    pthread_mutex_unlock(&vm->lock);
    wake_main(vm);
}

static void vcpu_run_once(struct vm *vm)
{
    struct cpu *cpu = vm->pc.cpu;
    enum cpu_exit why;
    uint64_t left;
    bool limit;

    set_limit(vm);
    cpu_timeline_mode(cpu);
    why = vm->config.engine->run(cpu);
    left = timeline_start();
    virtual_time_sync(vm);
    limit = vm->config.max_instructions && cpu->icount >= vm->config.max_instructions;
    /* Timers that are due run even at the limit, so that a machine saved there goes on alike. */
    if (why != EXIT_HALTED && vm->pc.clock.mode == CLOCK_VIRTUAL)
        virtual_timers(vm);
    if (why == EXIT_DEBUG || (why == EXIT_SHUTDOWN && cpu_debug_shutdown(cpu)))
        debug_stop(vm);
    else if (why == EXIT_FAILED)
        engine_failed(vm);
    else if (why == EXIT_SHUTDOWN)
        vm_end(vm, VM_CRASHED, 0);
    else if (limit)
        vm_end(vm, VM_LIMIT, 0);
    timeline_slice(TIMELINE_EXIT, exit_names[why], left, 0, 0, 0);
    if (why == EXIT_HALTED && !limit)
        vcpu_idle(vm);
}

static void *vcpu_main(void *opaque)
{
    struct vm *vm = opaque;

    timeline_attach(vm->config.timeline, "vCPU 0: guest", "vCPU 0: monitor");
    while (vcpu_may_run(vm))
        vcpu_run_once(vm);
    pthread_mutex_lock(&vm->lock);
    vm->parked = true;
    vm->vcpu_exists = false;
    pthread_cond_broadcast(&vm->stopped);
    pthread_mutex_unlock(&vm->lock);
    return NULL;
}

/* --- pause and resume --- */

static void wait_parked(struct vm *vm)
{
    while (vm->vcpu_exists && !vm->parked)
        pthread_cond_wait(&vm->stopped, &vm->lock);
}

void vm_pause(struct vm *vm)
{
    pthread_mutex_lock(&vm->lock);
    vm->pauses++;
    pthread_mutex_unlock(&vm->lock);
    stop_vcpu(vm);
    pthread_mutex_lock(&vm->lock);
    wait_parked(vm);
    pthread_mutex_unlock(&vm->lock);
    pc_drain(&vm->pc); /* from here on nothing changes the machine behind our back */
    bus_lock(&vm->pc.bus);
    clock_stop(&vm->pc.clock);
    bus_unlock(&vm->pc.bus);
}

void vm_resume(struct vm *vm)
{
    bus_lock(&vm->pc.bus);
    if (vm->pauses == 1)
        clock_start(&vm->pc.clock);
    bus_unlock(&vm->pc.bus);
    pthread_mutex_lock(&vm->lock);
    vm->pauses--;
    pthread_cond_broadcast(&vm->wake);
    pthread_mutex_unlock(&vm->lock);
}

bool vm_hold(struct vm *vm)
{
    if (vm->held)
        return false;
    vm->held = true;
    vm_pause(vm);
    tell(vm, VM_EVENT_PAUSED);
    return true;
}

bool vm_release(struct vm *vm)
{
    if (!vm->held)
        return false;
    vm->held = false;
    vm_resume(vm);
    tell(vm, VM_EVENT_RESUMED);
    return true;
}

void vm_replaced(struct vm *vm)
{
    pthread_mutex_lock(&vm->lock);
    vm->reset_wanted = false;
    pthread_mutex_unlock(&vm->lock);
    tell(vm, VM_EVENT_RESET);
}

/* --- booting and resetting --- */

static int boot(struct vm *vm, struct err *err)
{
    const struct vm_config *c = &vm->config;

    if (c->pc.firmware && !c->kernel)
        return pc_boot_firmware(&vm->pc, err);
    if (!c->kernel)
        return err_set(
            err, -ENOENT,
            "the guest wants to start again, but a restored machine has no kernel to start "
            "again; give it with --kernel");
    return pc_boot_kernel(&vm->pc,
                          &(struct pc_kernel){c->kernel, c->initrd, c->append, c->protocol}, err);
}

/* The guest pressed its own reset button: everything starts from the beginning. */
static void reset(struct vm *vm)
{
    struct err err = {0};

    vm_pause(vm);
    pthread_mutex_lock(&vm->lock);
    vm->reset_wanted = false;
    pthread_mutex_unlock(&vm->lock);
    pc_reset(&vm->pc);
    if (boot(vm, &err) < 0)
        vm_fail(vm, &err);
    else
        tell(vm, VM_EVENT_RESET);
    vm->config.engine->flush(vm->pc.cpu);
    vm_resume(vm);
}

/* --- signals --- */

static void terminal(struct vm *vm, void (*change)(void *opaque))
{
    if (change)
        change(vm->config.terminal);
}

/* The guest is told how large the terminal's window is, if it has a console to which that means
 * something. */
static void window_size(struct vm *vm)
{
    uint16_t columns, rows;

    if (vm->config.terminal_size && vm->config.terminal_size(vm->config.terminal, &columns, &rows))
        pc_console_resize(&vm->pc, columns, rows);
}

/* The terminal is the shell's while we are stopped, and guest time stands still. */
static void stop_process(struct vm *vm)
{
    vm_pause(vm);
    terminal(vm, vm->config.terminal_restore);
    signals_stop_process();
    terminal(vm, vm->config.terminal_raw);
    window_size(vm);
    vm_resume(vm);
}

static void save(struct vm *vm)
{
    struct err err = {0};

    if (!vm->config.save)
        return;
    vm_pause(vm);
    if (vm_save_file(vm, vm->config.save, &err) < 0)
        vm_fail(vm, &err);
    else
        vm_end(vm, VM_SAVED, 0);
    vm_resume(vm);
}

static void terminate(struct vm *vm, uint32_t number)
{
    if (vm->terminate_requests++ == 0)
        pc_power_button(&vm->pc);
    else
        vm_end(vm, VM_KILLED, number);
}

static void handle_signal(struct vm *vm, enum signal_request request, unsigned number)
{
    switch (request) {
    case SIGNAL_TERMINATE: terminate(vm, number); break;
    case SIGNAL_END: vm_end(vm, VM_KILLED, number); break;
    case SIGNAL_SAVE: save(vm); break;
    case SIGNAL_STOP: stop_process(vm); break;
    case SIGNAL_CONTINUED: /* stopped by SIGSTOP: the terminal may have been changed meanwhile */
        terminal(vm, vm->config.terminal_raw);
        window_size(vm);
        break;
    case SIGNAL_RESIZED: window_size(vm); break;
    default: break;
    }
}

static void handle_signals(struct vm *vm)
{
    enum signal_request request;
    unsigned number;

    while ((request = signals_read(vm->signal_fd, &number)) != SIGNAL_NONE) {
        timeline_instant(TIMELINE_SIGNAL, NULL, number, 0, 0, 0);
        handle_signal(vm, request, number);
    }
}

/* --- the main loop --- */

static void feed_serial(struct vm *vm)
{
    const uint8_t *bytes;
    size_t count = console_input(vm->config.console, &bytes);
    uint64_t start = timeline_start();

    if (count && !vm->screen) {
        count = pc_serial_receive(&vm->pc, bytes, count);
        console_consume(vm->config.console, count);
        timeline_slice(TIMELINE_INPUT, NULL, start, count, 0, 0);
    }
    if (vm->config.console->quit)
        vm_end(vm, VM_QUIT, 0);
}

static void run_host_timers(struct vm *vm)
{
    uint64_t start = timeline_start(), deadline, now;

    if (vm->pc.clock.mode != CLOCK_HOST)
        return;
    bus_lock(&vm->pc.bus);
    deadline = clock_next_deadline(&vm->pc.clock);
    now = clock_now(&vm->pc.clock);
    clock_run_timers(&vm->pc.clock);
    bus_unlock(&vm->pc.bus);
    if (deadline <= now)
        timeline_slice(TIMELINE_TIMERS, NULL, start, now - deadline, 0, 0);
}

/* How long poll() may sleep; NULL: for ever. Notes the deadline for on_deadline(). */
static const struct timespec *timeout(struct vm *vm, struct timespec *ts)
{
    int limit = loop_before_wait(&vm->loop);
    uint64_t deadline = CLOCK_NEVER, now = 0,
             wait = limit < 0 ? CLOCK_NEVER : (unsigned)limit * NS_PER_MS;

    bus_lock(&vm->pc.bus);
    if (vm->pc.clock.mode == CLOCK_HOST && !vm->pc.clock.stopped) {
        deadline = clock_next_deadline(&vm->pc.clock);
        now = clock_now(&vm->pc.clock);
    }
    atomic_store(&vm->sleep_until, deadline);
    bus_unlock(&vm->pc.bus);
    if (deadline != CLOCK_NEVER && (deadline <= now || deadline - now < wait))
        wait = deadline > now ? deadline - now : 0;
    if (wait == CLOCK_NEVER)
        return NULL;
    ts->tv_sec = (time_t)(wait / NS_PER_SECOND);
    ts->tv_nsec = (long)(wait % NS_PER_SECOND);
    return ts;
}

/* A console that has more to say goes on when there is room. */
static void pump_console(struct vm *vm)
{
    bool full;

    pthread_mutex_lock(&vm->lock);
    full = vm->output_full;
    pthread_mutex_unlock(&vm->lock);
    if (!full)
        pc_serial_pump(&vm->pc);
}

static void output_error(struct err *err, int error)
{
    err_set(err, -error, "the serial output cannot be written: %s", strerror(error));
}

static void check_console(struct vm *vm)
{
    int error = console_error(vm->config.console);
    struct err err;

    if (!error)
        return;
    output_error(&err, error);
    vm_fail(vm, &err);
}

static void clear_wakeups(struct vm *vm)
{
    uint64_t count;
    ssize_t ignored = read(vm->wake_fd, &count, sizeof count);

    (void)ignored;
}

/* Sleeps until there is something to do, and does what does not concern the end. */
static void wait_and_handle(struct vm *vm, const struct timespec *wait)
{
    struct pollfd fds[4] = {{.fd = vm->wake_fd, .events = POLLIN},
                            {.fd = vm->signal_fd, .events = POLLIN},
                            {.fd = vm->loop.fd, .events = POLLIN},
                            console_poll(vm->config.console)};

    if (ppoll(fds, ARRAY_SIZE(fds), wait, NULL) < 0)
        return;
    if (fds[0].revents)
        clear_wakeups(vm);
    if (fds[1].revents)
        handle_signals(vm);
    if (fds[2].revents)
        loop_dispatch(&vm->loop);
    console_handle(vm->config.console, fds[3].revents);
}

static bool reset_wanted(struct vm *vm)
{
    bool wanted;

    pthread_mutex_lock(&vm->lock);
    wanted = vm->reset_wanted;
    pthread_mutex_unlock(&vm->lock);
    return wanted;
}

static void tell_debugger(struct vm *vm)
{
    bool wanted;

    pthread_mutex_lock(&vm->lock);
    wanted = vm->debug_stop;
    pthread_mutex_unlock(&vm->lock);
    if (!wanted)
        return;
    vm_pause(vm);
    pthread_mutex_lock(&vm->lock);
    vm->debug_stop = false;
    pthread_mutex_unlock(&vm->lock);
    tell(vm, VM_EVENT_DEBUG);
    vm_resume(vm);
}

static void replace_engine(struct vm *vm)
{
    bool failed;

    pthread_mutex_lock(&vm->lock);
    failed = vm->engine_failed;
    pthread_mutex_unlock(&vm->lock);
    if (!failed)
        return;
    vm_pause(vm);
    pthread_mutex_lock(&vm->lock);
    vm->engine_failed = false;
    pthread_mutex_unlock(&vm->lock);
    vm_engine_failed(vm);
    vm_resume(vm);
}

static void main_loop(struct vm *vm)
{
    while (current_end(vm) == VM_RUNNING) {
        struct timespec ts;

        timeline_rest();
        wait_and_handle(vm, timeout(vm, &ts));
        run_host_timers(vm);
        feed_serial(vm);
        pump_console(vm);
        check_console(vm);
        tell_debugger(vm);
        replace_engine(vm);
        if (reset_wanted(vm) && current_end(vm) == VM_RUNNING)
            reset(vm);
    }
}

/* Bytes that could not be written would be lost without a word. */
static void check_end_of_output(struct vm *vm)
{
    int error = console_error(vm->config.console);

    if (!error || vm->end == VM_QUIT || vm->end == VM_KILLED)
        return;
    output_error(&vm->end_err, error);
    vm->end = VM_FAILED;
}

/* The guest's last words reach a slow reader, unless the user is in a hurry. */
static void drain_console(struct vm *vm)
{
    struct timespec moment = {.tv_nsec = 200000000};
    bool hurry = vm->end == VM_QUIT || vm->end == VM_KILLED;

    while (!console_drained(vm->config.console)) {
        struct pollfd fds[2] = {{.fd = vm->wake_fd, .events = POLLIN},
                                {.fd = vm->signal_fd, .events = POLLIN}};
        int n = ppoll(fds, ARRAY_SIZE(fds), hurry ? &moment : NULL, NULL);

        if (n <= 0 || fds[1].revents)
            break;
        clear_wakeups(vm);
    }
    check_end_of_output(vm);
}

/* At --max-instructions the machine is kept where --save says. */
static void save_at_limit(struct vm *vm)
{
    if (vm->end == VM_LIMIT && vm->config.save &&
        vm_save_file(vm, vm->config.save, &vm->end_err) < 0)
        vm->end = VM_FAILED;
}

static int start_threads(struct vm *vm, struct err *err)
{
    int rc;

    vm->signal_fd = rc = signals_open(err);
    if (rc >= 0)
        rc = console_start(vm->config.console, err);
    if (rc < 0)
        return rc;
    pthread_mutex_lock(&vm->lock);
    vm->vcpu_exists = pthread_create(&vm->vcpu, NULL, vcpu_main, vm) == 0;
    pthread_mutex_unlock(&vm->lock);
    if (!vm->vcpu_exists)
        return err_set(err, -EAGAIN, "the thread of the vCPU cannot be started");
    return 0;
}

enum vm_end vm_run(struct vm *vm)
{
    prctl(PR_SET_TIMERSLACK, 1UL); /* timers are due when they are due */
    timeline_attach(vm->config.timeline, "main thread", NULL);
    clock_gettime(CLOCK_MONOTONIC, &vm->started);
    if (start_threads(vm, &vm->end_err) < 0)
        return vm->end = VM_FAILED;
    terminal(vm, vm->config.terminal_raw); /* not before signals are ours to handle */
    window_size(vm);
    vm_resume(vm); /* vm_init() left it paused */
    main_loop(vm);
    vm_pause(vm);
    pthread_join(vm->vcpu, NULL);
    save_at_limit(vm);
    tell(vm, VM_EVENT_ENDED);
    if (vm->screen)
        screen_end(vm->screen);
    drain_console(vm);
    terminal(vm, vm->config.terminal_restore);
    clock_gettime(CLOCK_MONOTONIC, &vm->ended);
    return vm->end;
}

/* --- making and freeing --- */

static void connect_parts(struct vm *vm)
{
    struct console *console = vm->config.console;

    console->notify = wake_main;
    console->flow = on_flow;
    console->opaque = vm;
    vm->pc.cpu->wake = wake_vcpu;
    vm->pc.cpu->wake_opaque = vm;
    vm->pc.clock.changed = on_deadline;
    vm->pc.clock.changed_opaque = vm;
}

static int open_wake_fd(struct vm *vm, struct err *err)
{
    vm->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (vm->wake_fd < 0)
        return err_set(err, -errno, "the event descriptor cannot be made: %s", strerror(errno));
    return 0;
}

static int start_screen(struct vm *vm, struct err *err)
{
    if (!vm->config.text_screen)
        return 0;
    vm->screen = calloc(1, sizeof *vm->screen);
    if (!vm->screen)
        return err_set(err, -ENOMEM, "not enough memory for the screen");
    vm->screen->covered = vm->config.screen_covered;
    vm->screen->opaque = vm->config.terminal;
    screen_init(vm->screen, &vm->pc, vm->config.console, &vm->loop);
    vm->pc.vga.notify = wake_main;
    vm->pc.vga.notify_opaque = vm;
    return 0;
}

static int start_nets(struct vm *vm, struct err *err)
{
    int rc = 0;

    for (unsigned i = 0; rc == 0 && i < vm->config.pc.net_count; i++)
        rc = net_start(vm->config.pc.nets[i], &vm->loop, err);
    return rc;
}

int vm_init(struct vm *vm, const struct vm_config *config, struct err *err)
{
    int rc;

    memset(vm, 0, sizeof *vm);
    vm->config = *config;
    vm->wake_fd = vm->signal_fd = vm->loop.fd = -1;
    vm->pauses = 1; /* until vm_run() */
    vm->config.pc.outside = (struct pc_outside){
        on_power_off, on_reset, on_debug_exit, on_serial_tx, wake_main, vm,
    };
    pthread_mutex_init(&vm->lock, NULL);
    pthread_cond_init(&vm->wake, NULL);
    pthread_cond_init(&vm->stopped, NULL);
    rc = pc_init(&vm->pc, &vm->config.pc, err);
    if (rc < 0)
        return rc;
    connect_parts(vm);
    rc = open_wake_fd(vm, err);
    if (rc == 0)
        rc = loop_init(&vm->loop, err);
    if (rc == 0)
        rc = start_screen(vm, err);
    if (rc == 0)
        rc = start_nets(vm, err);
    if (rc == 0)
        rc = vm_engine_start(vm, err);
    if (rc == 0 && !config->restored)
        rc = boot(vm, err);
    if (rc < 0)
        vm_free(vm);
    return rc;
}

void vm_free(struct vm *vm)
{
    vm_engine_free(vm);
    if (vm->wake_fd >= 0)
        close(vm->wake_fd);
    if (vm->signal_fd >= 0)
        close(vm->signal_fd);
    loop_free(&vm->loop);
    free(vm->screen);
    pc_free(&vm->pc);
    pthread_cond_destroy(&vm->wake);
    pthread_cond_destroy(&vm->stopped);
    pthread_mutex_destroy(&vm->lock);
}
