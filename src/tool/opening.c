/* SPDX-License-Identifier: MIT */
#include "tool/opening.h"

#include <stdlib.h>

#include "base/buf.h"
#include "tool/fetch.h"
#include "tool/interrupt.h"
#include "tool/kv_cache.h"
#include "tool/progress.h"
#include "tool/say.h"

/* What is shown while a model is opened. */
struct opening {
    const char *what; /* "loading PATH" */
    bool quantizing;
};

static void show(const char *what, uint64_t total)
{
    progress_stop();
    progress_start_bytes(what, (size_t)total);
}

/* The first report: loading becomes work that can be measured. */
static int on_quantized(void *arg, uint64_t done, uint64_t total)
{
    struct opening *opening = arg;
    if (!opening->quantizing)
        show("quantizing", total);
    opening->quantizing = true;
    progress_update((size_t)done, (size_t)total);
    return interrupt_seen();
}

static int on_load(void *arg, uint64_t done, uint64_t total)
{
    struct opening *opening = arg;
    if (opening->quantizing)
        show(opening->what, total);
    opening->quantizing = false;
    progress_update((size_t)done, (size_t)total);
    return interrupt_seen();
}

static struct llama3_model *open_once(const struct opening *opening, const char *path,
                                      const struct llama3_model_options *options,
                                      struct llama3_error *err)
{
    if (options->int4 != LLAMA3_INT4_NO)
        interrupt_defer();
    show(opening->what, 0); /* the total is known once the file is open */
    struct llama3_model *model = llama3_model_open(path, options, err);
    progress_stop();
    interrupt_end();
    return model;
}

/* Opens a model; one that is not on this machine may be fetched first. */
static struct llama3_model *open_named(const struct opening *opening, const char *path,
                                       const struct llama3_model_options *options, int *status)
{
    struct llama3_error err = {.size = sizeof err};
    struct llama3_model *model = open_once(opening, path, options, &err);
    *status = STATUS_FAILED;
    if (model == NULL && err.code == LLAMA3_EABSENT && !say_quiet) {
        say_failure(&err);
        if ((*status = fetch_offer(path)) != STATUS_OK)
            return NULL;
        model = open_once(opening, path, options, &err);
        *status = STATUS_FAILED;
    }
    if (model == NULL && err.code == LLAMA3_ECANCELED)
        *status = STATUS_INTERRUPTED;
    else if (model == NULL)
        say_failure(&err);
    return model;
}

/* Keeps as much as one conversation may need in any case, and what was read for later runs. */
static void keep_prefixes(const struct args *args, struct llama3_model *model)
{
    const struct llama3_info *info = llama3_model_info(model);
    llama3_model_keep_prefixes(model, info->context * info->kv_bytes_per_token);
    if (!args->info)
        kv_cache_use(&args->model, "kv", args->cache_bytes, model);
}

struct llama3_model *opening_model(const struct args *args, int *status)
{
    struct llama3_model_options options = model_options(&args->model);
    struct opening opening = {0};
    struct buf what = {0};
    char *path = model_path(args->model.path, "--model");
    *status = STATUS_FAILED;
    if (path == NULL)
        return NULL;
    template_apply(&args->template, &options);
    void *loras;
    *status = model_loras(&args->model, NULL, &options, &loras);
    if (*status != STATUS_OK) {
        free(loras);
        free(path);
        return NULL;
    }
    *status = STATUS_FAILED;
    gpu_apply(&args->gpu, &options);
    char *cache = model_cache(&args->model);
    options.cache = cache;
    options.on_progress = on_quantized;
    options.on_note = say_on_note;
    options.on_load = on_load;
    options.arg = &opening;
    buf_add_str(&what, "loading ");
    buf_add_str(&what, path);
    opening.what = what.failed ? "loading" : what.data;
    struct llama3_model *model = open_named(&opening, path, &options, status);
    if (model != NULL)
        keep_prefixes(args, model);
    buf_free(&what);
    free(loras);
    free(cache);
    free(path);
    return model;
}
