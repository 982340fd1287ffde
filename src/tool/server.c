/* SPDX-License-Identifier: MIT */
/* llama3-server: a model behind HTTP. Here are options and signals; sockets are in server_listen.c,
 * the rest in src/server. */
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "server/notify.h"
#include "server/serve.h"
#include "server/server.h"
#include "tool/gpu_options.h"
#include "tool/kv_cache.h"
#include "tool/model_path.h"
#include "tool/say.h"
#include "tool/server_listen.h"
#include "tool/template_options.h"

const char say_program[] = "llama3-server";

static const double DRAIN_SECONDS = 30;

struct server_args {
    struct template_args template;
    struct model_args model;
    struct gpu_args gpu;
    const char *host, *key_file, *metrics_key_file, *alias;
    size_t port, parallel;
    uint64_t kv_memory, kv_disk, request_memory;
    struct option_texts hosts, origins;
    bool share_prefixes, insecure, verbose;
    bool *loras_named; /* [model.loras.n] */
};

/* ---- options ----------------------------------------------------------------------------- */

#define FIELD(name) offsetof(struct server_args, name)
/* The option of others. */
static int refuse_key(const struct option_spec *spec, const char *key)
{
    (void)key;
    return say_usage("--%s: everybody on this machine can read command lines; --api-key-file and "
                     "LLAMA3_API_KEY take keys",
                     spec->name);
}

static const struct option_spec server_specs[] = {
    OPT_TEXT(0, "host", FIELD(host), "ADDRESS",
             "where it listens, at each address of a name\n"
             "(127.0.0.1); one that others can reach needs an\n"
             "API key"),
    OPT_SIZE(0, "port", FIELD(port), "N", 0, 65535, "0: one that is free (8080)"),
    OPT_TEXT(0, "api-key", FIELD(key_file), "KEY", NULL, .check = refuse_key),
    OPT_PATH(0, "api-key-file", FIELD(key_file), "FILE",
             "keys, one a line, of which a client has to have\n"
             "one; LLAMA3_API_KEY may hold another"),
    OPT_PATH(0, "metrics-key-file", FIELD(metrics_key_file), "FILE",
             "keys that read /metrics, and those of all keys\n"
             "together"),
    OPT_FLAG(0, "share-prefixes", FIELD(share_prefixes),
             "one key's prompts may begin with what another's\n"
             "left in memory: for one household"),
    OPT_TEXTS(0, "allow-host", FIELD(hosts), "NAME",
              "another name that clients may use for this server;\n"
              "may be repeated"),
    OPT_TEXTS(0, "cors-origin", FIELD(origins), "ORIGIN",
              "a site whose pages may use it, such as\n"
              "https://a.example; may be repeated"),
    OPT_FLAG(0, "insecure", FIELD(insecure), "let anybody who reaches --host use it without a key"),
};

static const struct option_spec serving_specs[] = {
    OPT_SIZE(0, "parallel", FIELD(parallel), "N", 1, MAX_PARALLEL,
             "answers that are generated at once (8)"),
    OPT_BYTES(0, "kv-memory", FIELD(kv_memory), "SIZE", 1 << 20, 1e15,
              "memory for keys and values, such as 4G (half of\n"
              "what is available)"),
    OPT_BYTES(0, "kv-disk", FIELD(kv_disk), "SIZE", 1 << 20, 1e15,
              "disk for keys and values of prompts, which then\n"
              "survive a restart (none)"),
    OPT_BYTES(0, "request-memory", FIELD(request_memory), "SIZE", 1 << 20, 1e15,
              "memory for requests and answers besides (an eighth\n"
              "of what is available, from 128M to 1G)"),
    OPT_TEXT(0, "alias", FIELD(alias), "NAME", "the model's name for clients (the file's)"),
    OPT_FLAG('v', "verbose", FIELD(verbose), "what was opened, on stderr"),
    OPT_HELP,
    OPT_VERSION,
};

/* ---- signals ----------------------------------------------------------------------------- */

static sem_t asked; /* to end */
static atomic_bool stopping;

/* The first signal asks for an orderly end, the second ends the process. This is a handler, because
 * threads of other libraries, such as OpenBLAS's, may receive a signal. */
static void on_signal(int signal)
{
    (void)signal;
    if (atomic_exchange(&stopping, true))
        _exit(STATUS_FAILED);
    sem_post(&asked);
}

static void install_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sem_init(&asked, 0, 0);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* ---- the program ------------------------------------------------------------------------- */

static void log_line(void *arg, const char *line)
{
    (void)arg;
    fprintf(stderr, "%s\n", line);
}

static int on_progress(void *arg, uint64_t done, uint64_t total)
{
    struct server *server = arg;
    server_progress(server, total > 0 ? (double)done / (double)total : 0);
    return atomic_load(&stopping);
}

/* server: what the progress is for; NULL: all but the weights is read. NULL after an error, which
 * is on stderr unless a signal canceled. */
static struct llama3_model *open_model(const struct server_args *args, struct server *server)
{
    struct llama3_model_options options = model_options(&args->model);
    struct llama3_error err = {.size = sizeof err};
    void *loras = NULL;
    char *path = model_path(args->model.path, "--model");
    if (path == NULL || model_loras(&args->model, args->loras_named, &options, &loras) != 0) {
        free(loras);
        free(path);
        return NULL;
    }
    options.adapters_vary = true;
    gpu_apply(&args->gpu, &options);
    char *cache = model_cache(&args->model);
    template_apply(&args->template, &options);
    options.cache = cache;
    options.vocab_only = server == NULL;
    options.on_progress = options.on_load = server != NULL ? on_progress : NULL;
    options.on_note = server != NULL ? say_on_note : NULL;
    options.arg = server;
    struct llama3_model *model = llama3_model_open(path, &options, &err);
    if (model == NULL && err.code != LLAMA3_ECANCELED)
        say_failure(&err);
    free(cache);
    free(loras);
    free(path);
    return model;
}

static int try_hello(const struct llama3_model *model,
                     const struct llama3_template_options *options, struct llama3_error *err)
{
    const struct llama3_message hello = {.size = sizeof hello, .role = "user", .content = "Hello"};
    int32_t *tokens;
    size_t n;
    if (llama3_apply_template(model, &hello, 1, options, &tokens, &n, err) != 0)
        return -1;
    llama3_free(tokens);
    return 0;
}

/* Whether chats can be answered, if there is a template. One that is no Jinja answers none, nor do
 * options that it can't do, or a date that is none. One that refuses this conversation whatever the
 * options say may do another. */
static bool try_template(const struct server_args *args, const struct llama3_model *model)
{
    const struct llama3_template_options options = template_options(&args->template);
    const char *template = llama3_model_info(model)->template_name;
    struct llama3_error err = {.size = sizeof err}, plain = err;
    if (template == NULL || try_hello(model, &options, &err) == 0)
        return true;
    if (strcmp(template, "broken") != 0 && try_hello(model, NULL, &plain) != 0 &&
        strcmp(err.message, plain.message) == 0) {
        say_note("a chat that says \"Hello\" is refused: %s", err.message);
        return true;
    }
    say_failure(&err);
    return false;
}

/* Whether there is a model: all of its files but the weights are read. So nothing is said of
 * listening before that, and where a port is taken, nobody frees it only to read this next. */
static bool try_model(const struct server_args *args)
{
    struct llama3_model *model = open_model(args, NULL);
    bool good = model != NULL && try_template(args, model);
    if (good)
        template_note(&args->template, model, false);
    llama3_model_close(model);
    return good;
}

static void say_ready(const struct server_args *args, const struct server *server,
                      const struct llama3_model *model, const char *url)
{
    const struct llama3_info *info = llama3_model_info(model);
    if (args->verbose)
        say_error("%s: %s, %s, context of %zu tokens, %d threads, %s", info->path, info->format,
                  info->dtype, server_context(server), info->threads, info->backend);
    if (info->gpu_note != NULL)
        say_note("no GPU is used: %s", info->gpu_note);
    if (server_context(server) < info->context)
        say_note("--kv-memory holds %zu of the context's %zu tokens", server_context(server),
                 info->context);
    say_error("ready at %s", url);
}

/* Says what the end still waits for. */
static void say_ending(struct server *server)
{
    size_t n = server_working(server);
    if (n > 0)
        say_error("ending: waits for %zu request%s being answered, at most %.0f seconds; a second "
                  "signal ends it at once",
                  n, n == 1 ? "" : "s", DRAIN_SECONDS);
}

/* Serves until a signal comes. */
static int serve(const struct server_args *args, const struct server_options *options,
                 const struct listeners *l)
{
    struct llama3_error err = {.size = sizeof err};
    struct server *server = server_open(l->fds, l->n, options, &err);
    struct llama3_model *model = NULL;
    int status = STATUS_FAILED;
    if (server == NULL)
        return say_failure(&err);
    say_error("listening at %s", l->urls);
    model = open_model(args, server);
    if (model != NULL && args->kv_disk > 0)
        kv_cache_use(&args->model, "kv-server", args->kv_disk, model);
    if (model != NULL && server_start(server, model, &err) == 0) {
        say_ready(args, server, model, l->urls);
        notify("READY=1");
        while (!atomic_load(&stopping))
            sem_wait(&asked);
        status = STATUS_OK;
    } else if (model != NULL) {
        say_failure(&err);
    } else if (atomic_load(&stopping)) {
        status = STATUS_OK;
    }
    notify("STOPPING=1");
    say_ending(server);
    if (!server_drain(server, DRAIN_SECONDS))
        say_note("some answers were cut");
    server_close(server);
    llama3_model_close(model);
    return status;
}

/* The model's name in the Hugging Face cache, by which clients then know it: the folder of its
 * files is named by a number. NULL: a path or nothing is given. */
static const char *hub_name(const struct server_args *args)
{
    const char *given = args->model.path != NULL ? args->model.path : getenv("LLAMA3_MODEL");
    return given != NULL && given[0] != '\0' && access(given, F_OK) != 0 ? given : NULL;
}

static int run(const struct server_args *args, const struct keys *keys,
               const struct keys *metrics_keys)
{
    struct listeners l;
    bool listens = listeners_open(&l, args->host, args->port) == STATUS_OK;
    if (listens && !l.loopback && keys_count(keys) == 0 && !args->insecure) {
        listeners_close(&l);
        return say_usage(
            "%s can be reached by others: give keys with --api-key-file or LLAMA3_API_KEY, "
            "or --insecure",
            l.urls);
    }
    if (!try_model(args) || !listens) {
        if (listens)
            listeners_close(&l);
        return STATUS_FAILED;
    }
    const struct server_options options = {
        .keys = keys,
        .metrics_keys = metrics_keys,
        .share_prefixes = args->share_prefixes,
        .hosts = args->hosts.items,
        .n_hosts = args->hosts.n,
        .any_host = !l.loopback && args->hosts.n == 0,
        .origins = args->origins.items,
        .n_origins = args->origins.n,
        .alias = args->alias != NULL ? args->alias : hub_name(args),
        .loras_named = args->loras_named,
        .template_date = args->template.date,
        .template_arguments = args->template.variables,
        .parallel = args->parallel,
        .kv_memory = args->kv_memory,
        .request_memory = args->request_memory,
        .on_log = log_line,
    };
    install_signals();
    return serve(args, &options, &l);
}

/* Not empty, and without white space or control characters. */
static bool is_word(const char *text)
{
    size_t n = strlen(text);
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)text[i] <= ' ' || text[i] == 0x7f)
            return false;
    return n > 0;
}

/* A host as it stands in a Host header, without a port. */
static bool is_host(const char *text)
{
    return is_word(text) && strchr(text, '/') == NULL &&
           (text[0] == '[' || strchr(text, ':') == NULL);
}

/* As browsers send it: a scheme, a host, perhaps a port, and nothing after. */
static bool is_origin(const char *text)
{
    const char *host = strstr(text, "://");
    return strcmp(text, "*") == 0 || (is_word(text) && host != NULL && host > text &&
                                      host[3] != '\0' && strchr(host + 3, '/') == NULL);
}

/* Refuses names that could never match: they would fail silently. */
static int check_names(const struct server_args *args)
{
    for (size_t i = 0; i < args->hosts.n; i++)
        if (!is_host(args->hosts.items[i]))
            return say_usage("--allow-host: expected a name without scheme and port, found \"%s\"",
                             args->hosts.items[i]);
    for (size_t i = 0; i < args->origins.n; i++)
        if (!is_origin(args->origins.items[i]))
            return say_usage(
                "--cors-origin: expected a scheme and a host and nothing after, such as "
                "https://a.example, found \"%s\"",
                args->origins.items[i]);
    if (args->alias != NULL && !is_word(args->alias))
        return say_usage("--alias: expected a name without white space, found \"%s\"", args->alias);
    return 0;
}

static void note_readable(const char *key_file)
{
    struct stat file;
    if (key_file != NULL && stat(key_file, &file) == 0 && (file.st_mode & S_IROTH))
        say_note("%s: everybody on this machine can read the API keys", key_file);
}

static int start(const struct server_args *args)
{
    struct llama3_error err = {.size = sizeof err};
    if (args->kv_disk > 0 && args->model.no_cache)
        return say_usage("--kv-disk and --no-cache contradict each other");
    if (model_check(&args->model) != 0 || gpu_check(&args->gpu) != 0 || check_names(args) != 0)
        return STATUS_USAGE;
    const char *key = getenv("LLAMA3_API_KEY");
    struct keys *keys = keys_open(args->key_file, key != NULL && key[0] != '\0' ? key : NULL, &err);
    unsetenv("LLAMA3_API_KEY");
    if (keys == NULL)
        return say_failure(&err);
    struct keys *metrics_keys = NULL;
    int status;
    if (args->metrics_key_file != NULL &&
        (metrics_keys = keys_open(args->metrics_key_file, NULL, &err)) == NULL) {
        status = say_failure(&err);
    } else {
        note_readable(args->key_file);
        note_readable(args->metrics_key_file);
        status = run(args, keys, metrics_keys);
    }
    keys_close(metrics_keys);
    keys_close(keys);
    return status;
}

/* A core dump would hold what clients said. (Under a debugger none is written.) */
static void leave_no_core(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_CORE, &limit) == 0) {
        limit.rlim_cur = 0;
        setrlimit(RLIMIT_CORE, &limit);
    }
}

int main(int argc, char **argv)
{
    struct server_args args = {.host = "127.0.0.1", .port = 8080, .parallel = 8};
    const struct option_group groups[] = {
        OPT_GROUP("Model", model_option_specs, &args.model),
        TEMPLATE_OPTIONS(&args.template),
        GPU_OPTIONS(&args.gpu),
        OPT_GROUP("Who may use it", server_specs, &args),
        OPT_GROUP("Serving", serving_specs, &args),
    };
    const struct option_set set = {
        .usage = "llama3-server [OPTION]...\n"
                 "Keeps a model loaded: an OpenAI-compatible API, and a chat page, over HTTP.",
        .operand = "the model is given with --model",
        .groups = groups,
        .n = sizeof groups / sizeof *groups,
    };
    int status;
    leave_no_core();
    if (options_begin(&set, argc, argv, &status) &&
        (status = template_read(&args.template)) == STATUS_OK) {
        args.loras_named = calloc(args.model.loras.n + 1, sizeof *args.loras_named);
        status = args.loras_named != NULL ? start(&args) : STATUS_FAILED;
    }
    free(args.loras_named);
    free(args.model.loras.items);
    template_free(&args.template);
    free(args.hosts.items);
    free(args.origins.items);
    return status;
}
