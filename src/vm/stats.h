/* stats.h - the page that --stats prints at the end: what the guest did and what it cost. */
#ifndef DOBLE_VM_STATS_H
#define DOBLE_VM_STATS_H

#include <stdio.h>

struct vm;

/* Main thread, after vm_run() or while the machine is paused. */
void vm_print_stats(struct vm *vm, FILE *out);

#endif
