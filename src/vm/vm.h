/* vm.h - a virtual machine's life: it is made, runs, pauses, is reset, and ends.
 *
 * Two threads. The vCPU thread executes the guest through an engine and, with --time virtual, runs
 * the timers. The main thread is in vm_run(): it sleeps in poll() and looks after signals, input,
 * and with --time host the timers. Nothing polls: a halted vCPU sleeps on a condition variable
 * until cpu_signal() wakes it.
 *
 * Locks, in the order in which they may be taken: the bus lock, the console's, vm->lock. */
#ifndef DOBLE_VM_VM_H
#define DOBLE_VM_VM_H

#include "base/loop.h"
#include "base/timeline.h"
#include "engine/engine.h"
#include "machine/pc.h"
#include "vm/console.h"

/* Why a machine ended. */
enum vm_end {
    VM_RUNNING,
    VM_POWERED_OFF, /* by the guest */
    VM_DEBUG_EXIT,  /* the guest wrote vm->end_value to the debug port */
    VM_CRASHED,     /* triple fault */
    VM_LIMIT,       /* --max-instructions */
    VM_QUIT,        /* the user left with Ctrl-] q */
    VM_KILLED,      /* by signal vm->end_value */
    VM_SAVED,       /* to config.save */
    VM_FAILED,      /* an error of the host; the sentence is in vm->end_err */
};

/* What happens to a machine, for those who want to know it (vm->watcher). */
enum vm_event {
    VM_EVENT_PAUSED,  /* vm_hold() */
    VM_EVENT_RESUMED, /* vm_release() */
    VM_EVENT_RESET,   /* it starts again, or a saved machine has taken its place */
    VM_EVENT_DEBUG,   /* the vCPU stopped for a debugger, who may vm_pause() now */
    VM_EVENT_ENDED,   /* vm->end says why */
};

struct vm_watcher {
    void (*happened)(void *opaque, enum vm_event event); /* main thread */
    void *opaque;
    struct vm_watcher *next;
};

struct screen;

struct vm_config {
    const char *name;
    struct pc_config pc;                   /* .outside is filled in by the vm */
    const struct engine_ops *engine;       /* the one that runs, when the machine runs */
    const struct engine_ops *fallbacks[2]; /* what to go on with if it fails; NULL: nothing */
    const char *engine_why;                /* why it was chosen: a sentence */
    struct engine_config engine_config;
    const char *kernel, *initrd, *append; /* what is started, and again after a reset */
    enum kernel_protocol protocol;        /* and by which protocol */
    bool restored; /* not started: the state comes from vm_restore(); kernel may be NULL */
    uint64_t max_instructions; /* 0: no limit */
    const char *save;          /* file for SIGUSR1 and VM_LIMIT to save to; may be NULL */
    /* At the other end of the first serial port; or with text_screen, of display and keyboard. */
    struct console *console;
    bool text_screen;
    bool (*screen_covered)(void *terminal); /* see screen.h; may be NULL */
    struct timeline *timeline;              /* that the threads record into; NULL: none */
    /* The user's terminal: raw while the machine runs, but not while it is stopped by SIGTSTP. May
     * be NULL. */
    void (*terminal_restore)(void *opaque);
    void (*terminal_raw)(void *opaque);
    bool (*terminal_size)(void *opaque, uint16_t *columns, uint16_t *rows); /* false: unknown */
    void *terminal;
};

struct vm {
    struct vm_config config;
    struct pc pc;
    pthread_t vcpu;
    struct loop loop; /* what others want the main loop to wait for */
    int wake_fd;      /* eventfd: the main loop has something to look at */
    int signal_fd;    /* of signals.h */
    unsigned terminate_requests;
    _Atomic uint64_t sleep_until;   /* guest ns of the timer that the main loop sleeps for */
    struct timespec started, ended; /* host time */
    bool held;                      /* vm_hold() */
    struct vm_watcher *watchers;
    struct screen *screen; /* NULL: none */
    char engine_why[512];  /* why this engine runs */

    pthread_mutex_t lock;
    pthread_cond_t wake;    /* the vCPU should look again */
    pthread_cond_t stopped; /* the vCPU has parked */
    /* under `lock`: */
    unsigned pauses;   /* vm_pause() without vm_resume() */
    bool output_full;  /* the console asked us to wait */
    bool reset_wanted; /* the guest asked for a reset; the main thread makes it */
    bool debug_stop;   /* the vCPU stopped for a debugger, who is to be told */
    bool engine_failed;
    void (*kick)(struct cpu *cpu); /* of the engine, or NULL */
    bool parked, vcpu_exists;
    enum vm_end end;
    uint32_t end_value;
    struct err end_err;
    struct err engine_err; /* why the machine is interpreted, if nobody asked for that; or empty */
};

/* Makes a machine and loads its kernel, if it has one. On an error nothing is left. */
int vm_init(struct vm *vm, const struct vm_config *config, struct err *err) MUST_USE;
void vm_free(struct vm *vm);

/* Runs until the machine ends; returns vm->end. Main thread. */
enum vm_end vm_run(struct vm *vm);

/* Stops the vCPU between two instructions and waits for it, and stops guest time. Calls nest. Main
 * thread; between the two the machine may be looked at and changed. */
void vm_pause(struct vm *vm);
void vm_resume(struct vm *vm);

/* A pause that the user asked for, which lasts until somebody asks for the opposite: true if that
 * changed anything. Main thread. */
bool vm_hold(struct vm *vm);
bool vm_release(struct vm *vm);

/* Has the main loop start the machine again, as if the guest had asked for it. Any thread. */
void vm_reset(struct vm *vm);

/* Ends the machine by an error of the host, whose sentence main() will print. Any thread. */
void vm_fail(struct vm *vm, const struct err *err);

/* Another machine's state has been loaded in place of this one's (snapshot.c). Main thread. */
void vm_replaced(struct vm *vm);

/* Adds somebody who is told what happens; for the machine's life. Main thread. */
void vm_watch(struct vm *vm, struct vm_watcher *watcher);

/* Ends the machine; the first reason counts. Any thread. */
void vm_end(struct vm *vm, enum vm_end why, uint32_t value);

/* The name of a reason, for --verbose: "powered off", ... */
const char *vm_end_name(enum vm_end end);

#endif
