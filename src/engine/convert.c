/* SPDX-License-Identifier: MIT */
/* convert.c: which matrix becomes what, and its rows as packed_write() asks for them. */
#include "engine/convert.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/quantize.h"
#include "base/clock.h"
#include "base/size.h"
#include "checkpoint/gguf_write.h"
#include "checkpoint/hf.h"
#include "engine/convert_layer.h"
#include "engine/convert_pace.h"
#include "engine/convert_rows.h"
#include "engine/convert_source.h"
#include "engine/forward.h"
#include "quant/block.h"

struct conversion {
    const struct model *model;
    const struct convert_options *options;
    struct convert_report *report;
    struct new_file *file;
    struct convert_source source;
    struct convert_layer layer;
    struct model text_model; /* that the text goes through */
    bool calibrates;         /* there are layers left for a text to go through */
    float *row;              /* [widest matrix] */
    struct convert_pace pace;
};

/* ---- types ----------------------------------------------------------------------------------- */

enum dtype convert_fit(enum dtype type, size_t cols)
{
    if (cols % dtype_info(type)->block == 0)
        return type;
    if (type == DTYPE_Q6_K)
        return convert_fit(DTYPE_Q8_0, cols);
    if (type == DTYPE_Q4_K || type == DTYPE_Q5_K)
        return convert_fit(type == DTYPE_Q4_K ? DTYPE_Q5_0 : DTYPE_Q5_1, cols);
    return DTYPE_F16;
}

static enum dtype type_of(const struct convert_options *o, const struct tensor *tensor)
{
    enum dtype type = tensor->kind == TENSOR_EMBED  ? o->embed
                      : tensor->kind == TENSOR_HEAD ? o->head
                                                    : o->layers;
    return o->gguf ? convert_fit(type, tensor->matrix->cols) : type;
}

/* Whether a matrix holds the codes of `to`, in the order of its columns. */
static bool has_codes(const struct matrix *from, enum dtype to, struct group_format *format)
{
    enum dtype grouped;
    return (from->parts == NULL || from->parts->order == NULL) &&
           matrix_target(from, &grouped, format) && grouped == to;
}

bool convert_carries(const struct matrix *from, enum dtype to)
{
    struct group_format format;
    return from->type == to || has_codes(from, to, &format) || convert_fits_blocks(from, to);
}

static struct matrix target_of(void *arg, const struct tensor *tensor)
{
    const struct conversion *job = arg;
    struct matrix target = *tensor->matrix;
    enum dtype type = type_of(job->options, tensor);
    if (target.type == type) /* groups keep their format */
        return target;
    target.type = type;
    target.parts = NULL;
    if (!has_codes(tensor->matrix, type, &target.groups))
        target.groups = is_grouped(type) ? quantize_format(type) : (struct group_format){0};
    return target;
}

/* ---- rows ------------------------------------------------------------------------------------ */

/* Prefetches the next rows and drops those that are done. So a mapped file larger than memory is
 * read at the disk's speed, and does not evict everything else. Of tensors whose rows lie side by
 * side nothing is done before the last row. */
static void move_on(const struct conversion *job, const struct matrix *from, size_t first, size_t n)
{
    struct span_of_bytes spans[MATRIX_SPANS], whole[MATRIX_SPANS];
    matrix_spans(from, 0, from->rows, whole);
    for (size_t s = matrix_spans(from, first, n, spans); s-- > 0;) {
        if (spans[s].bytes == whole[s].bytes && first + n < from->rows)
            continue;
        for (size_t i = 0; i < job->model->n_maps; i++) {
            const struct map *map = &job->model->maps[i];
            map_drop(map, spans[s].data, spans[s].bytes);
            if (job->options->on_need == NULL) /* else they may not have arrived */
                map_want(map, spans[s].data + spans[s].bytes, spans[s].bytes);
        }
    }
}

static uint64_t layer_bytes(const struct model *model, size_t layer)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < tensor_count(model); i++) {
        struct tensor tensor = tensor_at(model, i);
        if (tensor_is_layers(tensor.kind) && !tensor_is_norm(tensor.kind) && tensor.layer == layer)
            bytes += matrix_bytes(tensor.matrix);
    }
    return bytes;
}

/* Adds the tensor's name, which quantize_rows() does not know. */
static int name_tensor(const struct conversion *job, const struct tensor *tensor,
                       struct llama3_error *err)
{
    char name[TENSOR_NAME_SIZE], what[sizeof err->message];
    if (err == NULL || err->code != LLAMA3_EINPUT)
        return -1;
    tensor_name(tensor, &hf_names, name);
    memcpy(what, err->message, sizeof what);
    return error_input(err, "%.200s: tensor %s: %.150s", job->model->path, name, what);
}

/* known: false while layers of an earlier run are read, whose time says nothing about the rest. */
static int report_progress(const struct conversion *job, bool known, struct llama3_error *err)
{
    const struct convert_options *o = job->options;
    if (o->on_progress == NULL ||
        o->on_progress(o->arg, known ? job->pace.done : 0, known ? job->pace.total : 0) == 0)
        return 0;
    return error_set(err, LLAMA3_ECANCELED, "canceled");
}

/* Called between windows of the text. */
static bool canceled(void *arg)
{
    const struct conversion *job = arg;
    return report_progress(job, job->file->size >= job->file->kept, NULL) != 0;
}

/* Opens the calibration at the first layer: the embedding has been converted by then. */
static int begin_text(struct conversion *job, const struct tensor *tensor, struct llama3_error *err)
{
    const struct convert_options *o = job->options;
    const struct stream_options options = {o->threads, canceled, job};
    if (!job->calibrates || tensor->kind != TENSOR_ATTN_NORM || tensor->layer > 0)
        return 0;
    if (convert_source_need_text(&job->source, err) != 0)
        return -1;
    job->text_model = *job->model;
    job->text_model.config.rope.interleaved |= o->gguf;
    job->layer.calibration =
        calibration_open(&job->text_model, o->tokens, o->n_tokens, &options, err);
    return job->layer.calibration != NULL ? 0 : -1;
}

/* With calibration, inputs are measured first, which may take as long as the rows. */
static int begin_rows(struct conversion *job, const struct tensor *tensor, size_t first,
                      struct quantize_options *options, struct llama3_error *err)
{
    if (begin_text(job, tensor, err) != 0)
        return -1;
    bool calibrated = job->layer.calibration != NULL && first == 0;
    if (calibrated && tensor->kind == TENSOR_ATTN_NORM)
        convert_pace_layer(&job->pace, layer_bytes(job->model, tensor->layer), clock_seconds());
    if (convert_layer_before(&job->layer, tensor, first, options, err) != 0)
        return -1;
    if (!calibrated || tensor->kind != TENSOR_Q)
        return 0;
    convert_pace_measured(&job->pace, clock_seconds());
    return report_progress(job, true, err);
}

bool convert_is_quantized(enum dtype type)
{
    return is_grouped(type) || block_type(type) != NULL;
}

static bool carries_over(const struct matrix *from, const struct matrix *to)
{
    return convert_is_quantized(to->type) && convert_carries(from, to->type);
}

/* Norms are copied, but must be finite too. */
static int fill_norm(const struct matrix *from, float *out, struct llama3_error *err)
{
    matrix_row(from, 0, out);
    for (size_t col = 0; col < from->cols; col++)
        if (!isfinite(out[col]))
            return error_input(err, "row 0, column %zu: expected a finite weight, found %g", col,
                               (double)out[col]);
    return 0;
}

static int fill_rows(struct conversion *job, const struct tensor *tensor,
                     const struct matrix *target, size_t first, size_t n, void *out,
                     struct llama3_error *err)
{
    const struct matrix *from = tensor->matrix;
    struct convert_kind *kind = &job->report->kinds[tensor->kind];
    struct quantize_error error = {0};
    const size_t interleave = convert_interleave(job->model, job->options->gguf, tensor->kind);
    struct quantize_options options = {
        .type = target->type, .threads = job->options->threads, .interleave = interleave};
    const struct convert_rows rows = {from, target->type, interleave, job->row};
    bool carries = carries_over(from, target);
    int result = 0;
    if (begin_rows(job, tensor, first, &options, err) != 0 ||
        convert_source_need_heads(&job->source, from, interleave, first, n, err) != 0)
        return -1;
    if (tensor_is_norm(tensor->kind))
        result = fill_norm(from, out, err);
    else if (carries && !is_grouped(target->type))
        result = convert_to_blocks(&rows, first, n, out, err);
    else if (carries && is_grouped(from->type))
        matrix_copy_rows(from, first, n, out);
    else if (carries)
        result = convert_to_strips(from, target, first, n, out, err);
    else if (!convert_is_quantized(target->type))
        result = convert_round(&rows, first, n, out, &error, err);
    else
        result = quantize_rows(from, first, n, &options, out, &error, err);
    kind->error += error.error;
    kind->norm += error.norm;
    return result == 0 ? convert_layer_after(&job->layer, tensor, target, first, n, out, err)
                       : name_tensor(job, tensor, err);
}

/* Adds n rows of a tensor to the report. Returns their bytes in the checkpoint. */
static uint64_t count_rows(struct conversion *job, const struct tensor *tensor,
                           const struct matrix *target, size_t n)
{
    struct convert_kind *kind = &job->report->kinds[tensor->kind];
    struct matrix rows = *target, from = *tensor->matrix;
    uint64_t weights = (uint64_t)n * target->cols;
    rows.rows = from.rows = n;
    kind->type = target->type;
    kind->weights += weights;
    kind->carried += carries_over(tensor->matrix, target) ? weights : 0;
    kind->bytes += matrix_bytes(&rows);
    return matrix_bytes(&from);
}

static int fill(void *arg, const struct tensor *tensor, const struct matrix *target, size_t first,
                size_t n, void *out, struct llama3_error *err)
{
    struct conversion *job = arg;
    if (fill_rows(job, tensor, target, first, n, out, err) != 0)
        return -1;
    if (tensor_is_norm(tensor->kind))
        return 0;
    move_on(job, tensor->matrix, first, n);
    convert_pace_rows(&job->pace, tensor_is_layers(tensor->kind),
                      count_rows(job, tensor, target, n));
    return report_progress(job, true, err);
}

/* ---- resuming -------------------------------------------------------------------------------- */

/* What a mark records besides the number of good bytes. */
struct state {
    uint64_t layers;
    double errors[TENSOR_KINDS], norms[TENSOR_KINDS];
};

/* The caller may free these bytes, so what was made of them, and the mark, must be on disk first.
 */
static int tell_spent(struct conversion *job, bool head, struct llama3_error *err)
{
    if (job->options->on_spent == NULL)
        return 0;
    if (partial_settle(job->file, err) != 0)
        return -1;
    convert_source_spent(&job->source, job->report->layers, head);
    return 0;
}

static int resume(struct conversion *job, struct llama3_error *err)
{
    struct state state;
    if (!partial_state(job->file, &state, sizeof state))
        return 0;
    job->report->layers = (size_t)state.layers;
    for (size_t i = 0; i < TENSOR_KINDS; i++) {
        job->report->kinds[i].error = state.errors[i];
        job->report->kinds[i].norm = state.norms[i];
    }
    if (job->options->on_resume != NULL)
        job->options->on_resume(job->options->arg, job->report->layers);
    return tell_spent(job, false, err);
}

static int mark(struct conversion *job, size_t layers, struct llama3_error *err)
{
    struct state state;
    memset(&state, 0, sizeof state);
    state.layers = layers;
    for (size_t i = 0; i < TENSOR_KINDS; i++) {
        state.errors[i] = job->report->kinds[i].error;
        state.norms[i] = job->report->kinds[i].norm;
    }
    if (partial_mark(job->file, &state, sizeof state, err) != 0)
        return -1;
    job->report->layers = layers;
    return 0;
}

/* Takes the text through rows that an earlier run made. */
static int again(void *arg, const struct tensor *tensor, const struct matrix *target, size_t first,
                 size_t n, const void *rows, struct llama3_error *err)
{
    struct conversion *job = arg;
    if (begin_text(job, tensor, err) != 0 ||
        convert_layer_after(&job->layer, tensor, target, first, n, rows, err) != 0)
        return -1;
    if (tensor_is_norm(tensor->kind))
        return 0;
    convert_pace_found(&job->pace, tensor_is_layers(tensor->kind),
                       count_rows(job, tensor, target, n));
    return report_progress(job, false, err);
}

static int done(void *arg, const struct tensor *tensor, struct llama3_error *err)
{
    struct conversion *job = arg;
    bool found = job->file->size <= job->file->kept, head = tensor->kind == TENSOR_HEAD;
    if (job->file->partial == NULL ||
        (tensor->kind != TENSOR_EMBED && tensor->kind != TENSOR_DOWN && !head))
        return 0;
    if (found) /* resume() has told all that an earlier run made, except the head */
        return head ? tell_spent(job, head, err) : 0;
    if (model_check_files(job->model, err) != 0) /* else zeros were read instead of weights */
        return -1;
    return mark(job, tensor->kind == TENSOR_DOWN ? tensor->layer + 1 : job->report->layers, err) !=
                   0
               ? -1
               : tell_spent(job, head, err);
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* Checks norms before the long work, unless the files are still arriving. */
static int check_norms(const struct conversion *job, struct llama3_error *err)
{
    if (job->options->on_need != NULL)
        return 0;
    for (size_t i = 0; i < tensor_count(job->model); i++) {
        struct tensor tensor = tensor_at(job->model, i);
        if (tensor_is_norm(tensor.kind) && fill_norm(tensor.matrix, job->row, err) != 0)
            return name_tensor(job, &tensor, err);
    }
    return 0;
}

enum dtype convert_beside(const struct model *model, bool gguf, bool head, enum dtype layers)
{
    const struct matrix *matrix = head ? &model->head : &model->embed;
    bool widens = model->config.tied && layers == DTYPE_INT4;
    if (gguf)
        widens = (model->config.tied || head) && block_type(layers) != NULL &&
                 layers != DTYPE_Q8_0 && layers != DTYPE_Q6_K;
    if (!widens || convert_carries(matrix, layers))
        return layers;
    return gguf ? DTYPE_Q6_K : DTYPE_INT8;
}

size_t convert_interleave(const struct model *model, bool gguf, enum tensor_kind kind)
{
    bool turns = kind == TENSOR_Q || kind == TENSOR_K;
    return gguf && turns && !model->config.rope.interleaved ? model->config.head_dim : 0;
}

/* The file in the format that is asked for. */
static int write_model(struct new_file *file, const struct tensor_source *source,
                       const struct convert_options *options, struct llama3_error *err)
{
    const struct config *config = &source->model->config;
    if (!options->gguf)
        return packed_write(file, source, err);
    float *factors = size_alloc_for(config->head_dim / 2, sizeof *factors, "frequencies", err);
    if (factors == NULL)
        return -1;
    const struct gguf_target target = {options->layers,
                                       rope_factors(config, factors) ? factors : NULL};
    int result = gguf_write(file, source, &target, err);
    free(factors);
    return result;
}

int convert(const struct model *model, const struct convert_options *options, struct new_file *file,
            struct convert_report *report, struct llama3_error *err)
{
    struct conversion job = {.model = model, .options = options, .report = report, .file = file};
    const struct tensor_source source = {.model = model,
                                         .target = target_of,
                                         .fill = fill,
                                         .again = again,
                                         .done = done,
                                         .arg = &job};
    size_t widest = 1;
    int result = 0;
    job.pace.calibrates = options->tokens != NULL;
    *report = (struct convert_report){0};
    for (size_t i = 0; i < tensor_count(model); i++) {
        struct tensor tensor = tensor_at(model, i);
        widest = tensor.matrix->cols > widest ? tensor.matrix->cols : widest;
        if (!tensor_is_norm(tensor.kind))
            convert_pace_add(&job.pace, tensor_is_layers(tensor.kind), matrix_bytes(tensor.matrix));
    }
    job.row = size_alloc_for(widest, sizeof *job.row, "a row", err);
    if (job.row == NULL)
        return -1;
    if (convert_source_open(&job.source, model, options, err) != 0 || check_norms(&job, err) != 0)
        result = -1;
    if (result == 0)
        result = resume(&job, err);
    if (result == 0)
        result = report_progress(&job, file->kept == 0, err);
    job.calibrates = options->tokens != NULL && report->layers < model->config.n_layers;
    if (result == 0)
        result = write_model(file, &source, options, err);
    bool good = result == 0 || err == NULL || err->code != LLAMA3_EINPUT;
    /* A truncated file reads as zeros, which may be why it failed. */
    if (model_check_files(model, err) != 0) {
        good = false;
        result = -1;
    }
    if (!good)
        partial_forget(file);
    report->file_bytes = file->size;
    convert_layer_free(&job.layer);
    convert_source_free(&job.source);
    free(job.row);
    return result;
}
