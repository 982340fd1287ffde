/* SPDX-License-Identifier: MIT */
#include "engine/convert_source.h"

#include <stdlib.h>

#include "base/size.h"

/* The rows that are stored together. */
static size_t unit_of(const struct matrix *matrix)
{
    return is_grouped(matrix->type) ? STRIP : 1;
}

/* ---- the text's rows of the embedding -------------------------------------------------------- */

static size_t text_units(const struct matrix *embed)
{
    return (embed->rows + unit_of(embed) - 1) / unit_of(embed);
}

static void mark_text(struct convert_source *s, int32_t token)
{
    const struct matrix *embed = &s->model->embed;
    if (token >= 0 && (size_t)token < embed->rows) /* calibration_open() refuses others */
        s->text[(size_t)token / unit_of(embed)] = 1;
}

int convert_source_open(struct convert_source *source, const struct model *model,
                        const struct convert_options *options, struct llama3_error *err)
{
    *source = (struct convert_source){.model = model, .options = options};
    if (options->tokens == NULL || (options->on_need == NULL && options->on_spent == NULL))
        return 0;
    size_t n = text_units(&model->embed);
    source->text = size_alloc_for(n, 1, "the text's rows", err);
    if (source->text == NULL)
        return -1;
    for (size_t i = 0; i < options->n_tokens; i++)
        mark_text(source, options->tokens[i]);
    if (model->vocab.add_bos) /* before each window of the text */
        mark_text(source, model->vocab.bos);
    return 0;
}

void convert_source_free(struct convert_source *source)
{
    free(source->text);
    source->text = NULL;
}

/* The next range of rows from *end that the text reads, or does not read. False if there is none.
 */
static bool next_range(const struct convert_source *s, bool read, size_t *first, size_t *end)
{
    const struct matrix *embed = &s->model->embed;
    size_t unit = unit_of(embed), n = text_units(embed), from = (*end + unit - 1) / unit;
    while (from < n && s->text[from] != read)
        from++;
    size_t to = from;
    while (to < n && s->text[to] == read)
        to++;
    *first = from * unit;
    *end = to * unit < embed->rows ? to * unit : embed->rows;
    return from < n;
}

/* ---- waiting --------------------------------------------------------------------------------- */

int convert_source_need(const struct convert_source *source, const struct matrix *matrix,
                        size_t first, size_t n, struct llama3_error *err)
{
    const struct convert_options *o = source->options;
    struct span_of_bytes spans[MATRIX_SPANS];
    size_t n_spans = o->on_need == NULL ? 0 : matrix_spans(matrix, first, n, spans);
    for (size_t i = 0; i < n_spans; i++)
        if (o->on_need(o->arg, spans[i].data, spans[i].bytes, err) != 0)
            return -1;
    return 0;
}

int convert_source_need_heads(const struct convert_source *source, const struct matrix *matrix,
                              size_t interleave, size_t first, size_t n, struct llama3_error *err)
{
    size_t unit = unit_of(matrix), end = first + n;
    if (interleave > 0) {
        first = first / interleave * interleave / unit * unit;
        end = (end + interleave - 1) / interleave * interleave;
        end = (end + unit - 1) / unit * unit;
        end = end < matrix->rows ? end : matrix->rows;
    }
    return convert_source_need(source, matrix, first, end - first, err);
}

int convert_source_need_text(const struct convert_source *source, struct llama3_error *err)
{
    size_t first, end = 0;
    while (source->text != NULL && next_range(source, true, &first, &end))
        if (convert_source_need(source, &source->model->embed, first, end - first, err) != 0)
            return -1;
    return 0;
}

void convert_ranges(const struct model *model,
                    void (*each)(void *arg, const void *data, size_t bytes), void *arg)
{
    for (size_t i = 0; i < tensor_count(model); i++) {
        struct span_of_bytes spans[MATRIX_SPANS];
        const struct matrix *m = tensor_at(model, i).matrix;
        for (size_t s = 0, n = matrix_spans(m, 0, m->rows, spans); s < n; s++)
            each(arg, spans[s].data, spans[s].bytes);
    }
}

/* ---- spent bytes ----------------------------------------------------------------------------- */

static void tell(const struct convert_source *s, const struct matrix *matrix, size_t first,
                 size_t n)
{
    struct span_of_bytes spans[MATRIX_SPANS];
    for (size_t i = 0, n_spans = matrix_spans(matrix, first, n, spans); i < n_spans; i++)
        s->options->on_spent(s->options->arg, spans[i].data, spans[i].bytes);
}

/* Rows of the embedding that the text reads, or the others. */
static void tell_embedding(const struct convert_source *s, bool read)
{
    size_t first, end = 0;
    while (next_range(s, read, &first, &end))
        tell(s, &s->model->embed, first, end - first);
}

static bool is_made(const struct tensor *tensor, size_t layers, bool head)
{
    return tensor->kind == TENSOR_EMBED ||
           (tensor_is_layers(tensor->kind) ? tensor->layer < layers : head);
}

void convert_source_spent(struct convert_source *source, size_t layers, bool head)
{
    const struct model *model = source->model;
    for (; source->told < tensor_count(model); source->told++) {
        struct tensor tensor = tensor_at(model, source->told);
        if (!is_made(&tensor, layers, head))
            return;
        if (tensor.kind == TENSOR_EMBED && source->text != NULL)
            tell_embedding(source, false);
        else
            tell(source, tensor.matrix, 0, tensor.matrix->rows);
        if (tensor.kind == TENSOR_DOWN && tensor.layer + 1 == model->config.n_layers &&
            source->text != NULL)
            tell_embedding(source, true);
    }
}
