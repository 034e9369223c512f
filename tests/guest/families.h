/* families.h - the families of tests, a file each; not every guest has all. */
#ifndef GUEST_FAMILIES_H
#define GUEST_FAMILIES_H

#include "guest.h"

extern const struct test exceptions_tests[], paging_tests[], modes_tests[], gates_tests[];
extern const struct test segments_tests[], tasks_tests[], syscall_tests[], system_tests[],
    apic_tests[];

#endif
