/* SPDX-License-Identifier: MIT */
/* offline.h: whether the hub's tools are told to use no network. */
#ifndef TOOL_OFFLINE_H
#define TOOL_OFFLINE_H

#include <stdbool.h>
#include <stdlib.h>
#include <strings.h>

/* HF_HUB_OFFLINE, by the words that huggingface_hub takes for a yes. */
static inline bool offline_is_set(void)
{
    static const char *const words[] = {"1", "on", "yes", "true"};
    const char *value = getenv("HF_HUB_OFFLINE");
    for (size_t i = 0; value != NULL && i < sizeof words / sizeof *words; i++)
        if (strcasecmp(value, words[i]) == 0)
            return true;
    return false;
}

#endif
