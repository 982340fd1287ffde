/* SPDX-License-Identifier: MIT */
#include "tool/kv_cache.h"

#include <stdlib.h>

#include "base/path.h"
#include "tool/say.h"

static const uint64_t DEFAULT = (uint64_t)2 << 30;

int kv_cache_limit(uint64_t *bytes)
{
    const char *given = getenv("LLAMA3_CACHE_MAX");
    *bytes = DEFAULT;
    if (given == NULL || given[0] == '\0' || options_read_bytes(given, bytes))
        return STATUS_OK;
    return say_usage("LLAMA3_CACHE_MAX: expected a number of bytes, such as 1500M or 1.5G, or 0, "
                     "found \"%s\"",
                     given);
}

void kv_cache_use(const struct model_args *args, const char *name, uint64_t bytes,
                  struct llama3_model *model)
{
    struct llama3_error err = {.size = sizeof err};
    char *folder = bytes > 0 ? model_cache(args) : NULL;
    char *directory = folder != NULL ? path_append(folder, name, &err) : NULL;
    const struct llama3_prefix_store store = {
        .size = sizeof store, .directory = directory, .bytes = bytes, .on_note = say_on_note};
    if (folder != NULL &&
        (directory == NULL || llama3_model_keep_prefixes_in(model, &store, &err) != 0))
        say_note("what is read of prompts is not kept: %s", err.message);
    free(directory);
}
