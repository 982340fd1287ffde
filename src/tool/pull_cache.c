/* SPDX-License-Identifier: MIT */
/* pull_cache.c: what is in the cache: --list, --remove, --verify. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "hub/library.h"
#include "tool/ending.h"
#include "tool/progress.h"
#include "tool/pull.h"
#include "tool/say.h"
#include "tool/terminal.h"

/* ---- --list ---------------------------------------------------------------------------------- */

static void format_day(char *out, size_t size, time_t moment)
{
    struct tm day;
    if (moment == 0 || localtime_r(&moment, &day) == NULL || strftime(out, size, "%F", &day) == 0)
        snprintf(out, size, "-");
}

int pull_list(void)
{
    struct library library;
    struct llama3_error err = {.size = sizeof err};
    uint64_t total = 0;
    int widest = (int)strlen("model");
    if (library_open(&library, &err) != 0)
        return say_failure(&err);
    for (size_t i = 0; i < library.n; i++) {
        int width = (int)strlen(library.models[i].name);
        widest = width > widest ? width : widest;
        total += library.models[i].bytes;
    }
    if (library.n > 0 && !say_quiet)
        printf("%-*s %10s  %-10s  %s\n", widest, "model", "size", "last use", "what");
    for (size_t i = 0; i < library.n; i++) {
        const struct library_model *model = &library.models[i];
        char size[UNIT_SIZE], day[32];
        if (say_quiet) {
            say_name(stdout, model->name);
            putchar('\n');
            continue;
        }
        format_day(day, sizeof day, model->used);
        say_name(stdout, model->name);
        printf("%*s %10s  %-10s  ", widest - (int)strlen(model->name), "",
               unit_bytes(size, model->bytes), day);
        say_name(stdout, model->formats[0] != '\0' ? model->formats : "other files");
        if (model->revisions > 1)
            printf(", %zu revisions", model->revisions);
        puts(model->incomplete ? ", incomplete" : "");
    }
    if (!say_quiet) {
        char size[UNIT_SIZE];
        char *cache = hub_cache_folder(NULL);
        say_error("%zu model%s, %s in %s", library.n, library.n == 1 ? "" : "s",
                  unit_bytes(size, total), cache != NULL ? cache : "the cache");
        free(cache);
    }
    library_close(&library);
    return finish_stdout();
}

/* ---- --remove, --verify ---------------------------------------------------------------------- */

/* The model named on the command line; NULL after an error. */
static const struct library_model *find(const struct library *library, const struct pull_args *args)
{
    const struct library_model *model = library_find(library, args->repository);
    if (model == NULL)
        say_error("%s is not in the cache; --list shows what is", args->repository);
    return model;
}

static int remove_from(const struct library *library, const struct pull_args *args)
{
    const struct library_model *model = find(library, args);
    struct llama3_error err = {.size = sizeof err};
    char question[3 * HUB_NAME_SIZE], size[UNIT_SIZE];
    if (model == NULL)
        return STATUS_FAILED;
    unit_bytes(size, model->bytes);
    snprintf(question, sizeof question, "remove %s%s%s (%s%s)?", args->repository,
             args->tag[0] != '\0' ? ":" : "", args->tag, args->tag[0] != '\0' ? "of " : "", size);
    if (!args->yes && !terminal_can_ask())
        return say_usage(
            "--remove asks on a terminal, and there is none: --yes removes without asking");
    if (!args->yes && !terminal_ask(question, false))
        return ending_status();
    if (library_remove(model, args->tag, &err) == 0)
        return STATUS_OK;
    return say_failure(&err);
}

int pull_remove(const struct pull_args *args)
{
    struct library library;
    struct llama3_error err = {.size = sizeof err};
    if (library_open(&library, &err) != 0)
        return say_failure(&err);
    int status = remove_from(&library, args);
    library_close(&library);
    return status;
}

struct verification {
    const struct pull_args *args;
    const char *model;
    size_t bad;
};

static void on_bad(void *arg, const char *file, const char *kept)
{
    struct verification *v = arg;
    v->bad++;
    say_error(
        "%s: %s: its contents are not what they were: kept apart as %s; llama3-pull %s fetches "
        "it again",
        v->model, file, kept, v->model);
}

static int on_bytes(void *arg, uint64_t done, uint64_t total)
{
    (void)arg;
    progress_update((size_t)done, (size_t)total);
    return ending_signal();
}

static int verify_one(const struct library_model *model, const struct pull_args *args)
{
    struct verification v = {args, model->name, 0};
    const struct library_check check = {on_bad, on_bytes, &v};
    struct llama3_error err = {.size = sizeof err};
    char size[UNIT_SIZE];
    progress_start_bytes("verifying", 0);
    int result = library_verify(model, &check, &err);
    progress_stop();
    if (result != 0) {
        if (!ending_signal())
            say_failure(&err);
        return ending_status();
    }
    if (v.bad == 0 && model->incomplete) {
        say_error("%s: incomplete; llama3-pull %s fetches the rest", model->name, model->name);
    } else if (v.bad == 0 && !say_quiet) {
        say_name(stdout, model->name);
        printf(": %s, all as they were\n", unit_bytes(size, model->bytes));
    }
    return v.bad == 0 && !model->incomplete ? STATUS_OK : STATUS_FAILED;
}

int pull_verify(const struct pull_args *args)
{
    struct library library;
    struct llama3_error err = {.size = sizeof err};
    int status = STATUS_OK;
    if (library_open(&library, &err) != 0)
        return say_failure(&err);
    const struct library_model *one = args->model != NULL ? find(&library, args) : NULL;
    if (args->model != NULL)
        status = one != NULL ? verify_one(one, args) : STATUS_FAILED;
    for (size_t i = 0; args->model == NULL && i < library.n && !ending_signal(); i++)
        if (verify_one(&library.models[i], args) != STATUS_OK)
            status = ending_status();
    library_close(&library);
    return status == STATUS_OK ? finish_stdout() : status;
}
