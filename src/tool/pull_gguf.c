/* SPDX-License-Identifier: MIT */
/* pull_gguf.c: which type of a GGUF repository is fetched if none was named. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/file.h"
#include "hub/repo.h"
#include "tool/ending.h"
#include "tool/pull.h"
#include "tool/say.h"
#include "tool/terminal.h"

/* How much of the available memory a model may take: its context needs some, too. */
static bool fits(const struct repo_gguf *gguf, uint64_t memory)
{
    return gguf->size + gguf->size / 10 + ((uint64_t)512 << 20) <= memory;
}

/* Quality grows with size. But of what fits, Q4_K_M serves most people best, and anything larger
 * than Q6_K gains nothing noticeable. */
static const struct repo_gguf *suggest(const struct repo_gguf *ggufs, size_t n, uint64_t memory)
{
    static const char *const best[] = {"Q4_K_M", "Q4_K_S", "Q5_K_M", "Q4_0",
                                       "IQ4_NL", "Q5_K_S", "Q6_K",   "Q8_0"};
    for (size_t b = 0; b < sizeof best / sizeof *best; b++)
        for (size_t i = 0; i < n; i++)
            if (strcasecmp(ggufs[i].tag, best[b]) == 0 && fits(&ggufs[i], memory))
                return &ggufs[i];
    for (size_t i = n; i-- > 0;)
        if (ggufs[i].opens && fits(&ggufs[i], memory))
            return &ggufs[i];
    return NULL;
}

static void print_ggufs(const struct repo_gguf *ggufs, size_t n, uint64_t memory, bool known)
{
    for (size_t i = 0; i < n; i++) {
        char size[UNIT_SIZE];
        const char *what = !ggufs[i].opens           ? "llama3 can't open this type"
                           : !known                  ? ""
                           : fits(&ggufs[i], memory) ? "fits in memory"
                                                     : "doesn't fit in memory";
        int width = (int)strlen(ggufs[i].tag);
        say_name(stderr, ggufs[i].tag);
        fprintf(stderr, "%*s %10s  %s\n", width < 16 ? 16 - width : 0, "",
                unit_bytes(size, ggufs[i].size), what);
    }
}

/* One of several. */
static int choose(const struct repo_gguf *ggufs, size_t n, struct pull_args *args)
{
    uint64_t memory;
    char question[HUB_NAME_SIZE + 100];
    bool known = memory_available(&memory);
    const struct repo_gguf *one = suggest(ggufs, n, known ? memory : UINT64_MAX);
    say_error("%s has several types of weights:", args->repository);
    print_ggufs(ggufs, n, memory, known);
    if (one == NULL)
        return say_usage("expected one of them: llama3-pull %s:TYPE", args->repository);
    snprintf(question, sizeof question, "fetch %s?", one->tag);
    if (terminal_ask(question, true)) {
        snprintf(args->tag, sizeof args->tag, "%s", one->tag);
        return STATUS_OK;
    }
    return ending_signal() != 0 ? ending_status()
                                : say_usage("expected one of them, for example: llama3-pull %s:%s",
                                            args->repository, one->tag);
}

int pull_choose_gguf(const struct hub_repo *repo, struct pull_args *args)
{
    struct repo_gguf *ggufs = NULL;
    struct llama3_error err = {.size = sizeof err};
    size_t n = 0;
    if (args->tag[0] != '\0' || args->include.n > 0 || repo_has_safetensors(repo))
        return STATUS_OK;
    if (repo_ggufs(repo, &ggufs, &n, &err) != 0)
        return say_failure(&err);
    int status = n > 1 ? choose(ggufs, n, args) : STATUS_OK;
    free(ggufs);
    return status;
}
