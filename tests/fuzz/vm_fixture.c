#include "vm_fixture.h"

#include "machine.h"

static uint8_t *new_state;
static size_t new_size;

struct vm *vm_fixture(void)
{
    static struct console console;
    static struct vm vm;
    struct vm_config config = {
        .name = "fuzzed",
        .pc = {.memory = VM_FIXTURE_RAM, .time = CLOCK_VIRTUAL, .debug_exit = 0xf4},
        .engine = &engine_interpret,
        .restored = true,
        .console = &console,
    };
    struct err err = {0};

    if (vm.pc.cpu)
        return &vm;
    console_init_none(&console);
    if (vm_init(&vm, &config, &err) < 0)
        fuzz_fail("no machine: %s", err.text);
    machine_save(&vm.pc, &new_state, &new_size);
    return &vm;
}

void vm_fixture_reset(struct vm *vm)
{
    vm->pauses = 1;
    vm->held = vm->reset_wanted = vm->debug_stop = vm->output_full = false;
    vm->end = VM_RUNNING;
    machine_load_new(&vm->pc, new_state, new_size);
    machine_clear_ram(&vm->pc, vm->config.engine);
}
