/* SPDX-License-Identifier: MIT */
/* pull.c: llama3-pull, from a model's name to its files. The order of things is all that is here.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "base/path.h"
#include "hub/fetch.h"
#include "hub/library.h"
#include "tool/ending.h"
#include "tool/offline.h"
#include "tool/pull.h"
#include "tool/pull_int4.h"
#include "tool/pull_made.h"
#include "tool/pull_show.h"
#include "tool/say.h"

const char say_program[] = "llama3-pull";

/* ---- the work -------------------------------------------------------------------------------- */

struct pull {
    const struct pull_args *args;
    struct hub hub;
    struct hub_repo repo;
    const struct hub_file **files; /* [n], small ones first */
    size_t n;
    struct store store;
    struct blob *blobs; /* [n] */
    struct fetch fetch;
    struct pull_show *show;
    struct pull_int4 *int4;  /* NULL: nothing is quantized */
    struct int4_paths paths; /* of its file */
    int lock;                /* of that; -1: none */
    struct buf contents;     /* what it is made of */
};

static int on_tick(void *arg)
{
    struct pull *pull = arg;
    struct pull_int4_state state = {0};
    if (pull->int4 != NULL)
        pull_int4_look(pull->int4, &state);
    if (state.note[0] != '\0')
        say_note("%s", state.note);
    if (pull->show != NULL) {
        pull_show_quantized(pull->show, state.done, state.total);
        pull_show_update(pull->show);
    }
    return ending_signal() != 0 || state.failed;
}

static bool is_weights(const char *name)
{
    return path_ends_with(name, ".safetensors") || path_ends_with(name, ".gguf");
}

static const char *revision_of(const struct pull_args *args)
{
    return args->revision != NULL ? args->revision : "main";
}

/* Asks the hub which files the model has. */
static int list_files(struct pull *pull, struct llama3_error *err)
{
    struct buf path = {0}, text = {0};
    char where[HUB_NAME_SIZE + 300];
    buf_add_str(&path, "/api/models/");
    request_escape(&path, pull->args->repository, true);
    buf_add_str(&path, "/revision/");
    request_escape(&path, revision_of(pull->args), false);
    buf_add_str(&path, "?blobs=true");
    pull->show = pull_show_open(&pull->fetch, 0);
    int result = path.failed
                     ? error_memory(err, "an address", path.size)
                     : fetch_text(&pull->fetch, path.data, revision_of(pull->args), &text, err);
    pull_show_close(pull->show);
    pull->show = NULL;
    /* names the host: a wrong answer may be another network's page */
    snprintf(where, sizeof where, "%s: %s", pull->hub.host, pull->args->repository);
    if (result == 0)
        result = repo_parse(&pull->repo, text.size > 0 ? text.data : "", text.size, where, err);
    buf_free(&text);
    buf_free(&path);
    return result;
}

/* Only one run at a time makes a file. This lock is taken before any other: whoever holds it waits
 * for those. */
static int lock_int4(struct pull *pull, struct llama3_error *err)
{
    bool busy, told = false;
    pull_made_describe(pull->files, pull->n, &pull->contents);
    if (pull->contents.failed)
        return error_memory(err, "a list of files", pull->contents.size);
    if (store_int4(&pull->store, &pull->paths, err) != 0)
        return -1;
    while ((pull->lock = store_lock(pull->paths.lock, &busy, err)) < 0 && busy) {
        const struct timespec moment = {.tv_nsec = 200000000};
        if (!told)
            say_note("another llama3-pull quantizes this model: waiting for it");
        told = true;
        nanosleep(&moment, NULL);
        if (ending_signal() != 0)
            return error_set(err, LLAMA3_ECANCELED, "canceled");
    }
    return pull->lock >= 0 ? 0 : -1;
}

static int make_blobs(struct pull *pull, struct llama3_error *err)
{
    const struct pull_args *args = pull->args;
    if (store_open(&pull->store, args->repository, args->local_dir, pull->repo.commit, err) != 0)
        return -1;
    pull->store.drops = args->drop_source;
    if (args->int4 != 0 && lock_int4(pull, err) != 0)
        return -1;
    pull->blobs = calloc(pull->n, sizeof *pull->blobs);
    if (pull->blobs == NULL)
        return error_memory(err, "a list of files", pull->n * sizeof *pull->blobs);
    for (size_t i = 0; i < pull->n; i++)
        if (blob_init(&pull->blobs[i], &pull->store, pull->files[i], err) != 0)
            return -1;
    for (size_t i = 0; i < pull->n && ending_signal() == 0; i++)
        if (blob_open(&pull->blobs[i], &pull->store, err) != 0)
            return -1;
    for (size_t i = 0; i < pull->n; i++)
        blob_note_shared(pull->blobs, pull->n, i);
    return 0;
}

/* An upper bound: two bytes of a weight become little more than half a byte, or one in an
 * embedding. */
static uint64_t int4_bytes(const struct pull *pull)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < pull->n; i++)
        bytes += pull->files[i]->size;
    return bytes / 3;
}

/* Checks that there is room for everything before the first byte comes. */
static int check_room(const struct pull *pull, struct llama3_error *err)
{
    uint64_t missing = 0, largest = 0, bytes;
    char needed[UNIT_SIZE], found[UNIT_SIZE];
    for (size_t i = 0; i < pull->n; i++) {
        uint64_t size = pull->files[i]->size;
        missing += pull->blobs[i].state == BLOB_OPEN ? blob_missing(&pull->blobs[i]) : 0;
        largest = size > largest ? size : largest;
    }
    if (pull->args->drop_source && missing > largest)
        missing = largest; /* the others come while the first ones go */
    if (pull->args->int4 != 0)
        missing += int4_bytes(pull);
    if (missing == 0 || !store_free_bytes(pull->store.arriving, &bytes) ||
        bytes >= missing + PULL_SPARE)
        return 0;
    return error_set(err, LLAMA3_EIO, "%s: expected %s free on this disk, found %s",
                     pull->store.root, unit_bytes(needed, missing + PULL_SPARE),
                     unit_bytes(found, bytes));
}

static void prepare(struct pull *pull, size_t n)
{
    struct fetch *f = &pull->fetch;
    f->store = &pull->store;
    f->blobs = pull->blobs;
    f->n = n;
    f->connections = pull->args->jobs;
}

/* After fetch_open(). */
static int run_fetch(struct pull *pull, struct llama3_error *err)
{
    pull->show = pull_show_open(&pull->fetch, pull->n);
    int result = fetch_run(&pull->fetch, err);
    pull_show_close(pull->show);
    pull->show = NULL;
    return result;
}

/* Fetches the first n blobs. */
static int fetch_blobs(struct pull *pull, size_t n, struct llama3_error *err)
{
    prepare(pull, n);
    int result = fetch_open(&pull->fetch, err) == 0 ? run_fetch(pull, err) : -1;
    fetch_close(&pull->fetch);
    return result;
}

/* ---- int4 ------------------------------------------------------------------------------------ */

/* Discards what is made so far. */
static void forget_int4(void *arg)
{
    const struct pull *pull = arg;
    struct buf path = {0};
    buf_add_str(&path, pull->paths.out);
    buf_add_str(&path, ".partial");
    if (!path.failed)
        unlink(path.data);
    buf_free(&path);
}

/* Fetches all files and quantizes them meanwhile. *again: they have to be fetched anew. */
static int fetch_and_quantize(struct pull *pull, bool *again, struct llama3_error *err)
{
    struct fetch *f = &pull->fetch;
    struct llama3_error why = {.size = sizeof why};
    bool lost = false;
    const struct pull_int4_options options = {.args = pull->args,
                                              .fetch = f,
                                              .folder = pull->paths.links,
                                              .out = pull->paths.out,
                                              .contents = pull->contents.data,
                                              .needed = int4_bytes(pull)};
    prepare(pull, pull->n);
    f->on_wrong = forget_int4;
    int result = fetch_open(f, err);
    if (result == 0 && (pull->int4 = pull_int4_start(&options, err)) == NULL)
        result = -1;
    if (result == 0) {
        result = run_fetch(pull, err);
        *again = result != 0 && err->code == LLAMA3_EINPUT; /* a wrong hash */
        if (result != 0)
            pull_int4_cancel(pull->int4);
        if (pull_int4_end(pull->int4, &lost, &why) != 0 &&
            (result == 0 || err->code == LLAMA3_ECANCELED))
            result = error_copy(err, &why); /* it was canceled because of that */
        *again |= lost;
        pull->int4 = NULL;
    }
    fetch_close(f);
    return result;
}

/* Starts over with what can't be used any more. */
static int begin_again(struct pull *pull, struct llama3_error *err)
{
    for (size_t i = 0; i < pull->n; i++)
        if (pull->blobs[i].dropped.n > 0)
            blob_discard(&pull->blobs[i]);
    for (size_t i = 0; i < pull->n; i++)
        if (pull->blobs[i].state == BLOB_WAITING &&
            blob_open(&pull->blobs[i], &pull->store, err) != 0)
            return -1;
    return 0;
}

static int drop_sources(struct pull *pull, struct llama3_error *err)
{
    for (size_t i = 0; i < pull->n; i++) {
        struct blob *blob = &pull->blobs[i];
        if (!is_weights(pull->files[i]->name) ||
            (blob->state == BLOB_DONE && blob->shared)) /* another program wants it */
            continue;
        if (blob->state == BLOB_OPEN)
            blob_discard(blob);
        if (store_drop(&pull->store, pull->files[i], err) != 0)
            return -1;
    }
    return 0;
}

static int fetch_int4(struct pull *pull, struct llama3_error *err)
{
    bool again = false;
    int result = fetch_and_quantize(pull, &again, err);
    if (result != 0 && again && ending_signal() == 0) {
        if (begin_again(pull, err) != 0)
            return -1;
        result = fetch_and_quantize(pull, &again, err);
    }
    return result;
}

/* ---- what it is ------------------------------------------------------------------------------ */

static size_t count_small(const struct pull *pull)
{
    size_t n = 0;
    while (n < pull->n && !is_weights(pull->files[n]->name))
        n++;
    return n;
}

static bool is_chosen(const struct pull *pull, const char *name)
{
    for (size_t i = 0; i < pull->n; i++)
        if (strcmp(pull->files[i]->name, name) == 0)
            return true;
    return false;
}

/* Doesn't fetch gigabytes of what can't be opened. --include says that they are wanted anyway. */
static int check_model(const struct pull *pull, struct llama3_error *err)
{
    if (pull->args->include.n > 0)
        return 0;
    if (!is_chosen(pull, "config.json")) {
        const char *found = pull->repo.architecture;
        return found[0] == '\0' || strcmp(found, "llama") == 0
                   ? 0
                   : error_input(err, "%s: expected GGUF files of architecture llama, found %s",
                                 pull->args->repository, found);
    }
    return llama3_check_config(pull->store.snapshot, err);
}

/* ---- the order of things --------------------------------------------------------------------- */

/* The path to open: a GGUF file, or the folder. */
static char *result_path(const struct pull *pull, struct llama3_error *err)
{
    const char *gguf = NULL;
    for (size_t i = 0; i < pull->n; i++) {
        const char *name = pull->files[i]->name;
        size_t n = strlen(name);
        if (gguf == NULL && n > 5 && strcasecmp(name + n - 5, ".gguf") == 0)
            gguf = name;
    }
    if (pull->paths.out != NULL)
        return strdup(pull->paths.out);
    if (gguf != NULL && pull->args->include.n == 0)
        return store_path(&pull->store, gguf, err);
    return strdup(pull->store.snapshot);
}

static int tell(const struct pull *pull)
{
    const struct pull_args *args = pull->args;
    struct llama3_error err = {.size = sizeof err};
    char *path = result_path(pull, &err);
    if (path == NULL)
        return say_failure(&err);
    puts(path);
    if (args->local_dir != NULL)
        say_note("llama3 -m %s runs it", path);
    else if (args->int4 != 0)
        say_note("llama3 -m %s:int4 runs it", args->repository);
    else
        say_note("llama3 -m %s%s%s runs it", args->repository, args->tag[0] != '\0' ? ":" : "",
                 args->tag);
    free(path);
    return finish_stdout();
}

/* Reports a failure and returns the status. */
static int failed(const struct llama3_error *err)
{
    if (ending_signal() == 0)
        say_failure(err);
    else
        say_error("what came is kept, the same command goes on with it");
    return ending_status();
}

static int make_int4(struct pull *pull, struct llama3_error *err)
{
    bool calibrated = pull->args->int4 == 1;
    if (pull_made_is(&pull->paths, pull->contents.data, calibrated))
        return 0;
    if (pull_made_begin(&pull->paths, err) != 0 || fetch_int4(pull, err) != 0)
        return -1;
    return pull_made_end(&pull->paths, pull->contents.data, calibrated, err);
}

static int fetch_rest(struct pull *pull, struct llama3_error *err)
{
    if (pull->args->int4 == 0)
        return fetch_blobs(pull, pull->n, err);
    if (make_int4(pull, err) != 0)
        return -1;
    return pull->args->drop_source ? drop_sources(pull, err) : 0;
}

static int fetch_model(struct pull *pull, struct pull_args *args)
{
    const struct repo_choice choice = {.include = args->include.items,
                                       .n_include = args->include.n,
                                       .exclude = args->exclude.items,
                                       .n_exclude = args->exclude.n,
                                       .tag = args->tag};
    struct llama3_error err = {.size = sizeof err};
    pull->fetch = (struct fetch){.hub = &pull->hub,
                                 .repository = args->repository,
                                 .on_tick = on_tick,
                                 .on_note = say_on_note,
                                 .arg = pull};
    if (hub_open(&pull->hub, &err) != 0 || list_files(pull, &err) != 0)
        return failed(&err);
    int status = pull_choose_gguf(&pull->repo, args);
    if (status != STATUS_OK)
        return status;
    if (repo_choose(&pull->repo, &choice, args->repository, &pull->files, &pull->n, &err) != 0 ||
        make_blobs(pull, &err) != 0 || check_room(pull, &err) != 0 ||
        fetch_blobs(pull, count_small(pull), &err) != 0 || check_model(pull, &err) != 0 ||
        fetch_rest(pull, &err) != 0 || store_set_ref(&pull->store, revision_of(args), &err) != 0)
        return failed(&err);
    return tell(pull);
}

static void close_pull(struct pull *pull)
{
    for (size_t i = 0; pull->blobs != NULL && i < pull->n; i++)
        blob_close(&pull->blobs[i]);
    free(pull->blobs);
    int4_paths_free(&pull->paths);
    buf_free(&pull->contents);
    if (pull->lock >= 0)
        close(pull->lock);
    store_close(&pull->store);
    free(pull->files);
    repo_free(&pull->repo);
    hub_close(&pull->hub);
}

/* ---- without a network ----------------------------------------------------------------------- */

/* Prints the model's path in the cache, if it can be opened as it is. */
static int use_cache(const struct pull_args *args)
{
    bool main = args->revision == NULL || strcmp(args->revision, "main") == 0;
    struct llama3_error err = {.size = sizeof err};
    char name[2 * HUB_NAME_SIZE];
    if (args->local_dir == NULL && !main && args->tag[0] != '\0')
        return say_error("%s:%s: expected the revision main of a type without a network, found %s",
                         args->repository, args->tag, args->revision);
    snprintf(name, sizeof name, "%s%s%s", args->repository,
             main && (args->tag[0] != '\0' || args->int4 != 0) ? ":" : "",
             !main             ? ""
             : args->int4 != 0 ? "int4"
                               : args->tag);
    char *path = args->local_dir != NULL ? library_path_in(args->local_dir, &err)
                                         : library_path(name, main ? NULL : args->revision, &err);
    if (path == NULL)
        return say_failure(&err);
    puts(path);
    free(path);
    return finish_stdout();
}

/* ---- the program ----------------------------------------------------------------------------- */

static int use(struct pull_args *args)
{
    struct pull pull = {.args = args, .lock = -1};
    if (check_stdout() != STATUS_OK)
        return STATUS_FAILED;
    ending_install();
    signal(SIGPIPE, SIG_IGN); /* a connection closed by the other side is an ordinary error */
    if (args->list)
        return pull_list();
    if (args->remove)
        return pull_remove(args);
    if (args->verify)
        return pull_verify(args);
    if (args->offline || offline_is_set())
        return use_cache(args);
    int status = fetch_model(&pull, args);
    close_pull(&pull);
    return status;
}

int main(int argc, char **argv)
{
    struct pull_args args;
    int status;
    if (pull_args_begin(&args, argc, argv, &status))
        status = use(&args);
    free(args.include.items);
    free(args.exclude.items);
    return status;
}
