/* pull.h: the command line of llama3-pull, and what it can do besides fetching. */
#ifndef TOOL_PULL_H
#define TOOL_PULL_H

#include "checkpoint/hub_cache.h"
#include "tool/options.h"

struct pull_args {
    const char *model; /* as given */
    char repository[HUB_NAME_SIZE], tag[HUB_NAME_SIZE];
    const char *revision, *local_dir;
    struct option_texts include, exclude;
    int jobs, threads;
    int int4; /* 0: not given */
    bool drop_source, list, remove, verify, yes, offline, quiet, help, version;
};

/* --list, --remove and --verify; a status. */
int pull_list(const struct pull_args *args);
int pull_remove(const struct pull_args *args);
int pull_verify(const struct pull_args *args);

/* Asks a question on the terminal; what is meant by just Enter. False where there is no terminal.
 */
bool pull_ask(const char *question, bool by_default);

/* A signal to end came. */
bool pull_canceled(void);

#endif
