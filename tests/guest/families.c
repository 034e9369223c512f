/* Which families of tests this guest has, in the order in which they run. */
#include "families.h"

const struct family families[] = {
    {"exceptions", exceptions_tests},
    {"paging", paging_tests},
    {"gates", gates_tests},
    {0},
};
