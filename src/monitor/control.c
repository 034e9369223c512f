/* control.c - status, pause and resume, the buttons, save and restore. */
#include "monitor/control.h"

#include "vm/snapshot.h"
#include "vm/vm.h"
#include "vm/vm_engine.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *activity_name(const struct cpu *cpu)
{
    switch (cpu->activity) {
    case CPU_ACTIVE: return "active";
    case CPU_HALTED: return "halted";
    case CPU_WAIT_SIPI: return "waits for a start-up message";
    default: return "shut down";
    }
}

int control_status(struct call *call, struct err *err)
{
    const struct vm *vm = call->vm;
    const struct cpu *cpu = vm->pc.cpu;
    const char *state = command_state_name(vm, call->was_paused);
    const char *time = vm->pc.clock.mode == CLOCK_VIRTUAL ? "virtual" : "host";
    uint64_t ns = clock_now(&vm->pc.clock);

    (void)err;
    fprintf(call->out,
            "machine       %s\n"
            "state         %s\n"
            "cpu           %s\n"
            "engine        %s\n"
            "memory        %" PRIu64 " MiB\n"
            "time          %.3f s (%s)\n"
            "instructions  %" PRIu64 "\n",
            vm->config.name, state, activity_name(cpu), vm->config.engine->name,
            vm->pc.mem.size / MIB, (double)ns / 1e9, time, cpu->icount);
    call->result =
        json_pack("{s:s, s:s, s:s, s:s, s:I, s:s, s:I, s:I}", "name", vm->config.name, "state",
                  state, "cpu", activity_name(cpu), "engine", vm->config.engine->name, "memory",
                  (json_int_t)vm->pc.mem.size, "time", time, "guest_ns", (json_int_t)ns,
                  "instructions", (json_int_t)cpu->icount);
    return 0;
}

/* The answer of a command that changes the state: which one it is now. */
static int say_state(struct call *call)
{
    const char *state = command_state_name(call->vm, call->vm->pauses > 0);

    fprintf(call->out, "%s\n", state);
    call->result = json_pack("{s:s}", "state", state);
    return 0;
}

int control_pause(struct call *call, struct err *err)
{
    (void)err;
    vm_hold(call->vm);
    return say_state(call);
}

int control_resume(struct call *call, struct err *err)
{
    vm_release(call->vm);
    if (call->vm->pauses > 0)
        return err_set(err, -EBUSY, "the machine stays paused: a debugger has stopped it");
    return say_state(call);
}

int control_reset(struct call *call, struct err *err)
{
    if (!call->vm->config.kernel)
        return err_set(err, -ENOENT,
                       "a restored machine has no kernel to start again; 'doble run --restore' "
                       "takes one with --kernel");
    vm_reset(call->vm);
    return say_state(call);
}

int control_power(struct call *call, struct err *err)
{
    (void)err;
    pc_power_button(&call->vm->pc);
    return say_state(call);
}

int control_quit(struct call *call, struct err *err)
{
    (void)err;
    vm_end(call->vm, VM_QUIT, 0);
    return say_state(call);
}

static int say_file(struct call *call, const char *what)
{
    const char *path = call->arguments[0].string;

    fprintf(call->out, "%s '%s'\n", what, path);
    call->result = json_pack("{s:s}", "file", path);
    return 0;
}

int control_save(struct call *call, struct err *err)
{
    int rc = vm_save_file(call->vm, call->arguments[0].string, err);

    return rc < 0 ? rc : say_file(call, "saved to");
}

/* Opens a plain file; anything else (a pipe, a device) could make the machine wait. */
static int open_plain(const char *path, struct err *err)
{
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    struct stat st;

    if (fd < 0)
        return err_set(err, -errno, "the saved machine '%s' cannot be opened: %s", path,
                       strerror(errno));
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        return fd;
    close(fd);
    return err_set(err, -EINVAL, "'%s' is not a plain file", path);
}

int control_restore(struct call *call, struct err *err)
{
    int fd = open_plain(call->arguments[0].string, err), rc;

    if (fd < 0)
        return fd;
    rc = vm_replace(call->vm, fd, err);
    close(fd);
    return rc < 0 ? rc : say_file(call, "restored from");
}

static int change_engine(struct vm *vm, const char *name, struct err *err)
{
    const struct vm_config *c = &vm->config;
    struct engine_choice choice;
    int rc = engine_choose_again(&choice, name,
                                 vm->pc.clock.mode == CLOCK_VIRTUAL || c->max_instructions,
                                 vm->pc.model, err);

    return rc < 0 ? rc : vm_engine_change(vm, &choice, err);
}

int control_engine(struct call *call, struct err *err)
{
    struct vm *vm = call->vm;

    if (call->arguments[0].given && change_engine(vm, call->arguments[0].string, err) < 0)
        return err->code;
    fprintf(call->out, "%s: %s\n", vm->config.engine->name, vm->engine_why);
    call->result =
        json_pack("{s:s, s:s}", "engine", vm->config.engine->name, "why", vm->engine_why);
    return 0;
}

int control_leave(struct call *call, struct err *err)
{
    call->leave = true;
    if (call->was_paused)
        fprintf(call->out, "the machine is still paused\n");
    (void)err;
    return 0;
}
