/* Which families of tests this guest has, in the order in which they run. */
#include "families.h"

#define FAMILY(name)                                                                               \
    {                                                                                              \
#name, name##_tests                                                                        \
    }

const struct family families[] = {
    FAMILY(exceptions), FAMILY(paging),  FAMILY(segments), FAMILY(gates),
#if !IS64
    FAMILY(tasks),
#endif
    FAMILY(modes),      FAMILY(syscall), FAMILY(system),   FAMILY(apic),  {0},
};
