/* SPDX-License-Identifier: MIT */
#include "tool/quantize_work.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/calibrate.h"
#include "engine/calibration_text.h"

/* ---- opening --------------------------------------------------------------------------------- */

int quantize_work_open(struct quantize_work *work, const char *in, struct llama3_error *err)
{
    *work = (struct quantize_work){0};
    if (sources_list(&work->sources, in, err) == 0 && model_open(&work->model, in, err) == 0)
        return 0;
    quantize_work_close(work);
    return -1;
}

void quantize_work_close(struct quantize_work *work)
{
    model_close(&work->model);
    sources_free(&work->sources);
    tokens_free(&work->text);
    free(work->left);
    *work = (struct quantize_work){0};
}

/* Calibrating chooses codes: whether there is a matrix of the layers that gets new ones. */
bool quantize_can_calibrate(const struct model *model, enum dtype layers)
{
    for (size_t i = 0; i < part_count(model); i++) {
        struct part part = part_at(model, i);
        if (part_is_layers(part.kind) && !part_is_norm(part.kind) &&
            !convert_carries(part.matrix->type, layers))
            return true;
    }
    return false;
}

int quantize_work_text(struct quantize_work *work, struct llama3_error *err)
{
    return calibration_text(&work->model, CALIBRATION_TOKENS, &work->text, err);
}

void quantize_text_lack(int threads, char *note, size_t size)
{
    const char *lack = calibration_lack(threads);
    note[0] = '\0';
    if (lack != NULL)
        snprintf(note, size,
                 "calibrating without OpenBLAS (%s): rounding errors are weighed, but not made up "
                 "for by the columns that follow",
                 lack);
}

/* ---- places in files ------------------------------------------------------------------------- */

struct place {
    const char *file;
    uint64_t offset;
};

/* Every part lies in one of the model's maps. */
static struct place place_of(const struct model *model, const void *data)
{
    uintptr_t at = (uintptr_t)data;
    for (size_t i = 0; i < model->n_maps; i++) {
        const struct map *map = &model->maps[i];
        uintptr_t begin = (uintptr_t)map->data;
        if (at < begin || at - begin >= map->size)
            continue;
        const char *path = map_path(map), *slash = strrchr(path, '/');
        return (struct place){slash != NULL ? slash + 1 : path, at - begin};
    }
    return (struct place){"", 0};
}

struct spans {
    const struct model *model;
    void (*each)(void *arg, const char *file, uint64_t offset, uint64_t bytes);
    void *arg;
};

static void each_span(void *arg, const void *data, size_t bytes)
{
    const struct spans *spans = arg;
    struct place place = place_of(spans->model, data);
    spans->each(spans->arg, place.file, place.offset, bytes);
}

void quantize_work_spans(const struct quantize_work *work,
                         void (*each)(void *arg, const char *file, uint64_t offset, uint64_t bytes),
                         void *arg)
{
    struct spans spans = {&work->model, each, arg};
    convert_spans(&work->model, each_span, &spans);
}

/* ---- running --------------------------------------------------------------------------------- */

struct run {
    struct quantize_work *work;
    const struct quantize_work_options *options;
    struct new_file file;
};

static int on_progress(void *arg, uint64_t done, uint64_t total)
{
    const struct quantize_work_options *o = ((const struct run *)arg)->options;
    return o->on_progress == NULL ? 0 : o->on_progress(o->arg, done, total);
}

static void on_resume(void *arg, size_t layers)
{
    const struct run *run = arg;
    if (run->options->on_resume != NULL)
        run->options->on_resume(run->options->arg, run->file.temporary, layers);
}

static int on_need(void *arg, const void *data, size_t bytes, struct llama3_error *err)
{
    const struct run *run = arg;
    struct place place = place_of(&run->work->model, data);
    return run->options->on_need(run->options->arg, place.file, place.offset, bytes, err);
}

static void on_spent(void *arg, const void *data, size_t bytes)
{
    const struct run *run = arg;
    struct place place = place_of(&run->work->model, data);
    run->options->on_spent(run->options->arg, place.file, place.offset, bytes);
}

static struct convert_options make_options(struct run *run)
{
    const struct quantize_work_options *o = run->options;
    const struct model *model = &run->work->model;
    int head = o->head, embed = o->embed;
    enum dtype other = convert_beside(model, o->layers);
    if (model->config.tied) {
        head = head >= 0 ? head : embed;
        embed = embed >= 0 ? embed : head;
    }
    return (struct convert_options){
        .layers = o->layers,
        .head = head >= 0 ? (enum dtype)head : other,
        .embed = embed >= 0 ? (enum dtype)embed : other,
        .threads = o->threads,
        .tokens = run->work->text.ids, /* NULL: none */
        .n_tokens = run->work->text.n,
        .on_progress = on_progress,
        .on_resume = on_resume,
        .on_need = o->on_need != NULL ? on_need : NULL,
        .on_spent = o->on_spent != NULL ? on_spent : NULL,
        .arg = run,
    };
}

static int open_file(struct run *run, const struct convert_options *options,
                     struct llama3_error *err)
{
    const char *contents = run->options->contents;
    uint8_t key[PARTIAL_KEY];
    int result = contents != NULL ? convert_key_contents(contents, options, key, err)
                                  : convert_key(&run->work->sources, options, key, err);
    return result != 0 ? -1 : partial_open(&run->file, run->options->out, key, err);
}

static int ask_for_name(struct run *run, struct llama3_error *err)
{
    struct llama3_error reason;
    if (run->options->on_made == NULL || run->options->on_made(run->options->arg, &reason) == 0)
        return 0;
    if (reason.code == LLAMA3_EINPUT)
        partial_forget(&run->file);
    return error_set(err, reason.code, "%s", reason.message);
}

/* What is made of the file so far is kept, unless it is of no use. */
static void end_early(struct run *run)
{
    char *left = run->file.temporary == NULL ? NULL : strdup(run->file.temporary);
    if (partial_close(&run->file))
        run->work->left = left;
    else
        free(left);
}

int quantize_work_run(struct quantize_work *work, const struct quantize_work_options *options,
                      struct llama3_error *err)
{
    struct run run = {.work = work, .options = options};
    const struct convert_options convert_options = make_options(&run);
    free(work->left);
    work->left = NULL;
    work->report = (struct convert_report){0};
    if (open_file(&run, &convert_options, err) != 0)
        return -1;
    if (convert(&work->model, &convert_options, &run.file, &work->report, err) == 0 &&
        ask_for_name(&run, err) == 0)
        return new_file_commit(&run.file, err);
    end_early(&run);
    return -1;
}
