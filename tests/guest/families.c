/* Which families of tests this guest has, in the order in which they run. */
#include "families.h"

const struct family families[] = {
    {"exceptions", exceptions_tests},
    {0},
};
