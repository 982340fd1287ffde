/* SPDX-License-Identifier: MIT */
#include "engine/quantizer.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/gguf_write.h"
#include "engine/calibration_text.h"

/* ---- opening --------------------------------------------------------------------------------- */

int quantizer_open(struct quantizer *q, const char *in, struct llama3_error *err)
{
    *q = (struct quantizer){0};
    if (sources_list(&q->sources, in, err) == 0 && model_open(&q->model, in, err) == 0)
        return 0;
    quantizer_close(q);
    return -1;
}

void quantizer_close(struct quantizer *q)
{
    model_close(&q->model);
    sources_free(&q->sources);
    tokens_free(&q->text);
    *q = (struct quantizer){0};
}

/* Calibration only chooses codes, so some matrix of the layers must get new ones. */
bool quantizer_calibrates(const struct model *model, bool gguf, enum dtype layers)
{
    for (size_t i = 0; i < tensor_count(model); i++) {
        struct tensor tensor = tensor_at(model, i);
        enum dtype type = gguf ? convert_fit(layers, tensor.matrix->cols) : layers;
        if (tensor_is_layers(tensor.kind) && !tensor_is_norm(tensor.kind) &&
            convert_is_quantized(type) && !convert_carries(tensor.matrix, type))
            return true;
    }
    return false;
}

bool quantizer_has_4_bits(const struct model *model)
{
    enum dtype type = DTYPE_COUNT;
    struct group_format format;
    for (size_t i = 0; i < tensor_count(model); i++) {
        const struct matrix *m = tensor_at(model, i).matrix;
        if (m->type == model->dtype)
            return m->type == DTYPE_INT4 ||
                   (matrix_target(m, &type, &format) && type == DTYPE_INT4);
    }
    return false;
}

int quantizer_text(struct quantizer *q, struct llama3_error *err)
{
    return calibration_text(&q->model, CALIBRATION_TOKENS, &q->text, err);
}

/* ---- offsets in files ------------------------------------------------------------------------ */

struct file_offset {
    const char *file;
    uint64_t offset;
};

/* Every tensor lies in one of the model's maps. */
static struct file_offset offset_of(const struct model *model, const void *data)
{
    uintptr_t at = (uintptr_t)data;
    for (size_t i = 0; i < model->n_maps; i++) {
        const struct map *map = &model->maps[i];
        uintptr_t begin = (uintptr_t)map->data;
        if (at < begin || at - begin >= map->size)
            continue;
        const char *path = map_path(map), *slash = strrchr(path, '/');
        return (struct file_offset){slash != NULL ? slash + 1 : path, at - begin};
    }
    return (struct file_offset){"", 0};
}

struct range_visit {
    const struct model *model;
    void (*each)(void *arg, const char *file, uint64_t offset, uint64_t bytes);
    void *arg;
};

static void each_range(void *arg, const void *data, size_t bytes)
{
    const struct range_visit *visit = arg;
    struct file_offset at = offset_of(visit->model, data);
    visit->each(visit->arg, at.file, at.offset, bytes);
}

void quantizer_ranges(const struct quantizer *q,
                      void (*each)(void *arg, const char *file, uint64_t offset, uint64_t bytes),
                      void *arg)
{
    struct range_visit visit = {&q->model, each, arg};
    convert_ranges(&q->model, each_range, &visit);
}

/* ---- running --------------------------------------------------------------------------------- */

struct run {
    struct quantizer *q;
    const struct quantizer_options *options;
    struct new_file file;
};

void quantizer_note(void (*on_note)(void *arg, const char *note), void *arg, const char *format,
                    ...)
{
    char text[900];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (on_note != NULL)
        on_note(arg, text);
}

static int on_progress(void *arg, uint64_t done, uint64_t total)
{
    const struct quantizer_options *o = ((const struct run *)arg)->options;
    return o->on_progress == NULL ? 0 : o->on_progress(o->arg, done, total);
}

static void on_resume(void *arg, size_t layers)
{
    const struct run *run = arg;
    quantizer_note(run->options->on_note, run->options->arg,
                   "going on with %.500s: %zu of %zu layers are made", run->file.temporary, layers,
                   run->q->model.config.n_layers);
}

static int on_need(void *arg, const void *data, size_t bytes, struct llama3_error *err)
{
    const struct run *run = arg;
    struct file_offset at = offset_of(&run->q->model, data);
    struct llama3_error reason = {sizeof reason, LLAMA3_ECANCELED, "canceled"};
    return run->options->on_need(run->options->arg, at.file, at.offset, bytes, &reason) == 0
               ? 0
               : error_copy(err, &reason);
}

static void on_spent(void *arg, const void *data, size_t bytes)
{
    const struct run *run = arg;
    struct file_offset at = offset_of(&run->q->model, data);
    run->options->on_spent(run->options->arg, at.file, at.offset, bytes);
}

static struct convert_options make_options(struct run *run)
{
    const struct quantizer_options *o = run->options;
    const struct model *model = &run->q->model;
    int head = o->head, embed = o->embed;
    if (model->config.tied) {
        head = head >= 0 ? head : embed;
        embed = embed >= 0 ? embed : head;
    }
    return (struct convert_options){
        .gguf = o->gguf,
        .layers = o->layers,
        .head = head >= 0 ? (enum dtype)head : convert_beside(model, o->gguf, true, o->layers),
        .embed = embed >= 0 ? (enum dtype)embed : convert_beside(model, o->gguf, false, o->layers),
        .threads = o->threads,
        .tokens = run->q->text.ids, /* NULL: none */
        .n_tokens = run->q->text.n,
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
    const struct quantizer_options *o = run->options;
    uint8_t key[PARTIAL_KEY];
    if (o->out == NULL)
        return new_file_open_unnamed(&run->file, err);
    if (o->private && options->tokens == NULL)
        return new_file_open(&run->file, o->out, NEW_FILE_PRIVATE, err);
    if (convert_key(&run->q->sources, o->contents, options, key, err) != 0)
        return -1;
    return partial_open(&run->file, o->out, o->private ? NEW_FILE_PRIVATE : NEW_FILE_MODE, key,
                        err);
}

static int ask_for_name(struct run *run, struct llama3_error *err)
{
    const struct quantizer_options *o = run->options;
    struct llama3_error reason = {sizeof reason, LLAMA3_ECANCELED, "canceled"};
    if (o->on_made == NULL || o->on_made(o->arg, &reason) == 0)
        return 0;
    if (reason.code == LLAMA3_EINPUT)
        partial_forget(&run->file);
    return error_copy(err, &reason);
}

static int name_file(struct run *run, struct llama3_error *err)
{
    const struct quantizer_options *o = run->options;
    const char *path = o->out != NULL ? o->out : run->q->model.path;
    if (o->opened != NULL && (new_file_trim(&run->file, err) != 0 ||
                              model_open_packed(o->opened, run->file.fd, path, err) != 0)) {
        new_file_abandon(&run->file);
        return -1;
    }
    if (o->out == NULL)
        new_file_abandon(&run->file);
    else if (new_file_commit(&run->file, err) != 0) {
        if (o->opened != NULL)
            model_close(o->opened);
        return -1;
    }
    return 0;
}

/* Keeps the partial file, unless it is of no use. */
static void end_early(struct run *run)
{
    char path[512] = "";
    if (run->file.temporary != NULL)
        snprintf(path, sizeof path, "%s", run->file.temporary);
    if (partial_close(&run->file))
        quantizer_note(run->options->on_note, run->options->arg,
                       "%s: %zu of %zu layers are made, another run goes on with it", path,
                       run->q->report.layers, run->q->model.config.n_layers);
}

static void tell(void *arg, const char *note)
{
    const struct quantizer_options *o = ((const struct run *)arg)->options;
    quantizer_note(o->on_note, o->arg, "%s", note);
}

/* What the checkpoint says that is done otherwise. */
static void tell_source(struct run *run)
{
    const json_t *notes = run->q->model.notes;
    for (size_t i = 0; i < json_array_size(notes); i++)
        tell(run, json_string_value(json_array_get(notes, i)));
}

/* What the file has no place for, and which matrices get another type. */
static void tell_gguf(struct run *run, const struct convert_options *options)
{
    const struct model *model = &run->q->model;
    gguf_write_notes(model, tell, run);
    if (quantizer_has_4_bits(model) && quantizer_calibrates(model, true, options->layers))
        tell(run, "the checkpoint's weights have 4 bits already, and are rounded once more");
    for (size_t i = 0; i < tensor_count(model); i++) {
        struct tensor tensor = tensor_at(model, i);
        enum dtype type = tensor.kind == TENSOR_EMBED  ? options->embed
                          : tensor.kind == TENSOR_HEAD ? options->head
                                                       : options->layers;
        enum dtype fit = convert_fit(type, tensor.matrix->cols);
        if (tensor_is_norm(tensor.kind) || fit == type || tensor.layer > 0)
            continue;
        quantizer_note(
            run->options->on_note, run->options->arg,
            "%s: %s for %s, whose blocks take rows of a multiple of %zu weights, not %zu",
            tensor_kind_name(tensor.kind), dtype_info(fit)->name, dtype_info(type)->name,
            dtype_info(type)->block, tensor.matrix->cols);
    }
}

int quantizer_run(struct quantizer *q, const struct quantizer_options *options,
                  struct llama3_error *err)
{
    struct run run = {.q = q, .options = options};
    const struct convert_options convert_options = make_options(&run);
    q->report = (struct convert_report){0};
    tell_source(&run);
    if (options->gguf)
        tell_gguf(&run, &convert_options);
    if (open_file(&run, &convert_options, err) != 0)
        return -1;
    if (convert(&q->model, &convert_options, &run.file, &q->report, err) == 0 &&
        ask_for_name(&run, err) == 0)
        return name_file(&run, err);
    end_early(&run);
    return -1;
}
