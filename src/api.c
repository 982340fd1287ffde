/* api.c: the public functions, thin wrappers around the rooms below. */
#include "config.h"

#include <stdlib.h>

#include "llama3.h"

const char *llama3_version(void)
{
    return PACKAGE_VERSION;
}

void llama3_free(void *memory)
{
    free(memory);
}
