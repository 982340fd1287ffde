/* pull.c: llama3-pull, from a model's name to its files. The order of things is all that is here.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/path.h"
#include "checkpoint/hf.h"
#include "checkpoint/readers.h"
#include "hub/fetch.h"
#include "tool/pull.h"
#include "tool/pull_show.h"
#include "tool/say.h"
#include "tool/units.h"

const char say_program[] = "llama3-pull";

/* Bytes of disk that are left to others. */
static const uint64_t SPARE = (uint64_t)64 << 20;

static const char *const int4_names[] = {"calibrated", "uncalibrated", NULL};

#define FIELD(name) offsetof(struct pull_args, name)
static const struct option_spec specs[] = {
    {.name = "include",
     .type = OPTION_TEXTS,
     .offset = FIELD(include),
     .arg = "GLOB",
     .help = "only files that match, instead of what llama3\n"
             "needs; may be repeated"},
    {.name = "exclude",
     .type = OPTION_TEXTS,
     .offset = FIELD(exclude),
     .arg = "GLOB",
     .help = "no files that match; may be repeated"},
    {.name = "revision",
     .type = OPTION_TEXT,
     .offset = FIELD(revision),
     .arg = "REV",
     .help = "a branch, a tag or a commit (main)"},
    {.name = "local-dir",
     .type = OPTION_PATH,
     .offset = FIELD(local_dir),
     .arg = "DIR",
     .help = "plain files there, instead of the cache"},
    {.name = "list",
     .type = OPTION_FLAG,
     .offset = FIELD(list),
     .help = "show what is in the cache"},
    {.name = "remove",
     .type = OPTION_FLAG,
     .offset = FIELD(remove),
     .help = "remove the model from the cache, after asking"},
    {.name = "verify",
     .type = OPTION_FLAG,
     .offset = FIELD(verify),
     .help = "hash the model's files in the cache again, or\n"
             "those of all models"},
    {.name = "yes", .letter = 'y', .type = OPTION_FLAG, .offset = FIELD(yes), .help = "do not ask"},
    {.name = "int4",
     .type = OPTION_MAYBE_ONE_OF,
     .offset = FIELD(int4),
     .arg = "HOW",
     .choices = int4_names,
     .help = "quantize to 4 bits while the files arrive:\n"
             "calibrated, or uncalibrated, which is faster and\n"
             "not as good (calibrated)"},
    {.name = "drop-source",
     .type = OPTION_FLAG,
     .offset = FIELD(drop_source),
     .help = "with --int4: free the original weights as they\n"
             "have been used"},
    {.name = "offline",
     .type = OPTION_FLAG,
     .offset = FIELD(offline),
     .help = "use no network: is the model in the cache?"},
    {.name = "jobs",
     .letter = 'j',
     .type = OPTION_INT,
     .offset = FIELD(jobs),
     .arg = "N",
     .min = 1,
     .max = MAX_CONNECTIONS,
     .help = "connections at a time (8)"},
    {.name = "threads",
     .letter = 't',
     .type = OPTION_INT,
     .offset = FIELD(threads),
     .arg = "N",
     .min = 1,
     .max = 1024,
     .help = "threads that quantize (every core it may use)"},
    {.name = "quiet",
     .letter = 'q',
     .type = OPTION_FLAG,
     .offset = FIELD(quiet),
     .help = "no progress and no notes"},
    {.name = "help",
     .letter = 'h',
     .type = OPTION_FLAG,
     .offset = FIELD(help),
     .help = "this text"},
    {.name = "version",
     .letter = 'V',
     .type = OPTION_FLAG,
     .offset = FIELD(version),
     .help = "the version"},
};

/* ---- signals --------------------------------------------------------------------------------- */

enum { PATIENCE = 2 }; /* seconds */

static volatile sig_atomic_t caught;
static time_t caught_at;

/* The first one ends the work in order, so that all that came is kept; one that comes after a while
 * ends the program. */
static void on_signal(int signal)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (caught == 0) {
        caught_at = now.tv_sec;
        caught = signal;
    } else if (now.tv_sec - caught_at >= PATIENCE) {
        sigaction(signal, &action, NULL);
        raise(signal);
    }
}

static void install_signals(void)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action = {.sa_handler = on_signal}, old;
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
            sigaction(signals[i], &action, NULL);
    signal(SIGPIPE, SIG_IGN); /* a connection that the other side closed is an error like others */
}

bool pull_canceled(void)
{
    return caught != 0;
}

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
};

static int on_tick(void *arg)
{
    struct pull *pull = arg;
    if (pull->show != NULL)
        pull_show_update(pull->show);
    return caught != 0;
}

static void on_note(void *arg, const char *note)
{
    struct pull *pull = arg;
    if (pull->show != NULL)
        pull_show_note(pull->show, note);
    else if (!pull->args->quiet)
        say_error("note: %s", note);
}

static const char *revision_of(const struct pull_args *args)
{
    return args->revision != NULL ? args->revision : "main";
}

/* What the hub has of the model. */
static int list_files(struct pull *pull, struct llama3_error *err)
{
    struct buf path = {0}, text = {0};
    buf_add_str(&path, "/api/models/");
    request_escape(&path, pull->args->repository, true);
    buf_add_str(&path, "/revision/");
    request_escape(&path, revision_of(pull->args), false);
    buf_add_str(&path, "?blobs=true");
    int result = path.failed
                     ? error_memory(err, "an address", path.size)
                     : fetch_text(&pull->fetch, path.data, revision_of(pull->args), &text, err);
    if (result == 0)
        result = repo_parse(&pull->repo, text.size > 0 ? text.data : "", text.size,
                            pull->args->repository, err);
    buf_free(&text);
    buf_free(&path);
    return result;
}

static int make_blobs(struct pull *pull, struct llama3_error *err)
{
    const struct pull_args *args = pull->args;
    if (store_open(&pull->store, args->repository, args->local_dir, pull->repo.commit, err) != 0)
        return -1;
    pull->blobs = calloc(pull->n, sizeof *pull->blobs);
    if (pull->blobs == NULL)
        return error_memory(err, "a list of files", pull->n * sizeof *pull->blobs);
    for (size_t i = 0; i < pull->n; i++)
        if (blob_init(&pull->blobs[i], &pull->store, pull->files[i], err) != 0)
            return -1;
    for (size_t i = 0; i < pull->n && caught == 0; i++)
        if (blob_open(&pull->blobs[i], &pull->store, err) != 0)
            return -1;
    return 0;
}

/* Room for all of it is asked for before the first byte. */
static int check_room(const struct pull *pull, struct llama3_error *err)
{
    uint64_t missing = 0, bytes;
    char needed[UNIT_SIZE], found[UNIT_SIZE];
    for (size_t i = 0; i < pull->n; i++)
        if (pull->blobs[i].state == BLOB_OPEN)
            missing += blob_missing(&pull->blobs[i]);
    if (missing == 0 || !store_free_bytes(pull->store.arriving, &bytes) || bytes >= missing + SPARE)
        return 0;
    return error_set(err, LLAMA3_EIO, "%s: expected %s free on this disk, found %s",
                     pull->store.root, unit_bytes(needed, missing + SPARE),
                     unit_bytes(found, bytes));
}

/* The first n blobs. */
static int fetch_blobs(struct pull *pull, size_t n, struct llama3_error *err)
{
    struct fetch *f = &pull->fetch;
    f->store = &pull->store;
    f->blobs = pull->blobs;
    f->n = n;
    f->connections = pull->args->jobs;
    int result = fetch_open(f, err);
    if (result == 0) {
        pull->show = pull_show_open(f, pull->args->quiet);
        result = fetch_run(f, err);
        pull_show_close(pull->show);
        pull->show = NULL;
    }
    fetch_close(f);
    return result;
}

/* ---- what it is ------------------------------------------------------------------------------ */

static bool is_weights(const char *name)
{
    size_t n = strlen(name);
    return (n > 12 && strcmp(name + n - 12, ".safetensors") == 0) ||
           (n > 5 && strcmp(name + n - 5, ".gguf") == 0);
}

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

/* Gigabytes are not fetched of what can't be opened; --include says that it is wanted anyway. */
static int check_model(const struct pull *pull, struct llama3_error *err)
{
    char *path = NULL;
    struct config config = {0};
    if (pull->args->include.n > 0 || !is_chosen(pull, "config.json"))
        return 0;
    json_t *root = hf_read_json(pull->store.snapshot, "config.json", 1 << 22, &path, NULL, err);
    int result = root != NULL && hf_config_read(root, &config, path, err) == 0 ? 0 : -1;
    json_decref(root);
    free(path);
    return result;
}

/* ---- GGUF ------------------------------------------------------------------------------------ */

/* What of the memory that could be had a model may take: its context needs some, too. */
static bool fits(const struct repo_gguf *gguf, uint64_t memory)
{
    return gguf->size + gguf->size / 10 + ((uint64_t)512 << 20) <= memory;
}

/* Quality goes with size; but of what fits, Q4_K_M is what most people are best served by, and what
 * is larger than Q6_K gains nothing that could be told. */
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

/* Of several types in a repository one has to be named. 0: it is, in args->tag. */
static int choose_gguf(struct pull *pull, struct pull_args *args)
{
    struct repo_gguf *ggufs = NULL;
    struct llama3_error err;
    size_t n = 0;
    uint64_t memory = 0;
    char question[HUB_NAME_SIZE + 100];
    int status = STATUS_OK;
    if (args->tag[0] != '\0' || args->include.n > 0 || repo_has_safetensors(&pull->repo))
        return STATUS_OK;
    if (repo_ggufs(&pull->repo, &ggufs, &n, &err) != 0) {
        say_failure(&err);
        return STATUS_FAILED;
    }
    if (n > 1) {
        bool known = memory_available(&memory);
        const struct repo_gguf *one = suggest(ggufs, n, known ? memory : UINT64_MAX);
        say_error("%s has several types of weights:", args->repository);
        print_ggufs(ggufs, n, memory, known);
        status = STATUS_USAGE;
        if (one == NULL) {
            say_error("expected one of them: llama3-pull %s:TYPE", args->repository);
        } else {
            snprintf(question, sizeof question, "fetch %s?", one->tag);
            if (pull_ask(question, true)) {
                snprintf(args->tag, sizeof args->tag, "%s", one->tag);
                status = STATUS_OK;
            } else {
                say_error("expected one of them, for example: llama3-pull %s:%s", args->repository,
                          one->tag);
            }
        }
    }
    free(ggufs);
    return status;
}

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
    if (gguf != NULL && pull->args->include.n == 0)
        return store_path(&pull->store, gguf, err);
    return strdup(pull->store.snapshot);
}

static int tell(const struct pull *pull)
{
    const struct pull_args *args = pull->args;
    struct llama3_error err;
    char *path = result_path(pull, &err);
    if (path == NULL) {
        say_failure(&err);
        return STATUS_FAILED;
    }
    puts(path);
    if (!args->quiet && args->local_dir != NULL)
        say_error("note: llama3 -m %s runs it", path);
    else if (!args->quiet)
        say_error("note: llama3 -m %s%s%s runs it", args->repository,
                  args->tag[0] != '\0' ? ":" : "", args->tag);
    free(path);
    return finish_stdout();
}

/* A status; STATUS_OK with nothing said yet. */
static int failed(const struct llama3_error *err)
{
    if (caught == 0)
        say_failure(err);
    else
        say_error("what came is kept, the same command goes on with it");
    return caught != 0 ? 128 + caught : STATUS_FAILED;
}

static int fetch_model(struct pull *pull, struct pull_args *args)
{
    const struct repo_choice choice = {.include = args->include.items,
                                       .n_include = args->include.n,
                                       .exclude = args->exclude.items,
                                       .n_exclude = args->exclude.n,
                                       .tag = args->tag};
    struct llama3_error err;
    pull->fetch = (struct fetch){.hub = &pull->hub,
                                 .repository = args->repository,
                                 .on_tick = on_tick,
                                 .on_note = on_note,
                                 .arg = pull};
    if (hub_open(&pull->hub, &err) != 0 || list_files(pull, &err) != 0)
        return failed(&err);
    int status = choose_gguf(pull, args);
    if (status != STATUS_OK)
        return status;
    if (repo_choose(&pull->repo, &choice, args->repository, &pull->files, &pull->n, &err) != 0 ||
        make_blobs(pull, &err) != 0 || check_room(pull, &err) != 0 ||
        fetch_blobs(pull, count_small(pull), &err) != 0 || check_model(pull, &err) != 0 ||
        fetch_blobs(pull, pull->n, &err) != 0 ||
        store_set_ref(&pull->store, revision_of(args), &err) != 0)
        return failed(&err);
    return tell(pull);
}

static void close_pull(struct pull *pull)
{
    for (size_t i = 0; pull->blobs != NULL && i < pull->n; i++)
        blob_close(&pull->blobs[i]);
    free(pull->blobs);
    store_close(&pull->store);
    free(pull->files);
    repo_free(&pull->repo);
    hub_close(&pull->hub);
}

/* ---- without a network ----------------------------------------------------------------------- */

static bool is_offline(const struct pull_args *args)
{
    static const char *const yes[] = {"1", "on", "yes", "true"};
    const char *value = getenv("HF_HUB_OFFLINE");
    for (size_t i = 0; value != NULL && i < sizeof yes / sizeof *yes; i++)
        if (strcasecmp(value, yes[i]) == 0)
            return true;
    return args->offline;
}

/* Whether it can be opened as it is in the cache. */
static int use_cache(const struct pull_args *args)
{
    enum checkpoint_kind kind;
    struct llama3_error err;
    char name[2 * HUB_NAME_SIZE];
    snprintf(name, sizeof name, "%s%s%s", args->repository, args->tag[0] != '\0' ? ":" : "",
             args->tag);
    char *path = resolve_path(args->local_dir != NULL ? args->local_dir : name, &kind, &err);
    if (path == NULL) {
        say_failure(&err);
        return STATUS_FAILED;
    }
    puts(path);
    free(path);
    return finish_stdout();
}

/* ---- the command line ------------------------------------------------------------------------ */

/* "https://huggingface.co/OWNER/NAME" stands for OWNER/NAME. */
static const char *without_address(const char *model)
{
    const char *endpoint = getenv("HF_ENDPOINT");
    const char *const hosts[] = {endpoint, "https://huggingface.co", "https://hf.co",
                                 "http://huggingface.co", "hf:/"};
    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) {
        size_t n = hosts[i] != NULL ? strlen(hosts[i]) : 0;
        while (n > 0 && hosts[i][n - 1] == '/')
            n--;
        if (n > 0 && strncmp(model, hosts[i], n) == 0 && model[n] == '/')
            return model + n + 1;
    }
    return model;
}

static int check_name(struct pull_args *args)
{
    char name[2 * HUB_NAME_SIZE];
    snprintf(name, sizeof name, "%s", without_address(args->model));
    size_t n = strlen(name);
    if (n > 0 && name[n - 1] == '/')
        name[n - 1] = '\0';
    if (hub_split(name, args->repository, args->tag))
        return 0;
    say_error("expected a model's name, OWNER/NAME or OWNER/NAME:TYPE, found '%s'", args->model);
    return -1;
}

static int check_args(struct pull_args *args)
{
    int modes = args->list + args->remove + args->verify;
    if (modes > 1) {
        say_error("--list, --remove and --verify exclude each other");
        return -1;
    }
    if (args->drop_source && args->int4 == 0) {
        say_error("--drop-source has no meaning without --int4");
        return -1;
    }
    if (args->revision != NULL && !hub_is_revision(args->revision)) {
        say_error("--revision: expected a branch, a tag or a commit, found '%s'", args->revision);
        return -1;
    }
    if (args->model == NULL && !args->list && !args->verify) {
        say_error("expected a model's name, as meta-llama/Llama-3.2-1B-Instruct");
        return -1;
    }
    if (args->list && args->model != NULL) {
        say_error("--list shows all models: expected no name, found '%s'", args->model);
        return -1;
    }
    return args->model != NULL ? check_name(args) : 0;
}

static int use(struct pull_args *args, const struct option_set *set)
{
    struct pull pull = {.args = args};
    if (args->help) {
        options_help(set, stdout);
        return finish_stdout();
    }
    if (args->version) {
        printf("%s %s\n", say_program, llama3_version());
        return finish_stdout();
    }
    if (check_args(args) != 0)
        return STATUS_USAGE;
    if (check_stdout() != STATUS_OK)
        return STATUS_FAILED;
    install_signals();
    if (args->list)
        return pull_list(args);
    if (args->remove)
        return pull_remove(args);
    if (args->verify)
        return pull_verify(args);
    if (is_offline(args))
        return use_cache(args);
    int status = fetch_model(&pull, args);
    close_pull(&pull);
    return status;
}

int main(int argc, char **argv)
{
    struct pull_args args = {.jobs = 8};
    struct option_group group = {"Options", specs, sizeof specs / sizeof *specs, &args};
    struct option_set set = {
        .program = say_program,
        .usage = "llama3-pull [OPTION]... OWNER/NAME[:TYPE]\n"
                 "       llama3-pull --list | --verify [MODEL] | --remove MODEL\n"
                 "Fetches a model from the Hugging Face hub into its cache.",
        .operand = "one model is all that is named",
        .operands = &args.model,
        .min_operands = 0,
        .max_operands = 1,
        .groups = &group,
        .n = 1,
    };
    say_instead_of_dying();
    int status = options_parse(&set, argc, argv) == 0 ? use(&args, &set) : STATUS_USAGE;
    options_free(&set);
    return status;
}
