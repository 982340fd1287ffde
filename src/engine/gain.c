/* SPDX-License-Identifier: MIT */
#include "engine/gain.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/quantize.h"
#include "base/sample.h"
#include "base/size.h"
#include "base/softmax.h"
#include "engine/convert.h"
#include "text/tokenizer.h"

enum { SOURCE, MADE, PLAIN, N_STREAMS };
enum { CHUNK = 64 }; /* rows of logits held at once, of each stream */

/* Few tokens of the built-in text are compared: a large model takes a tenth of a second for each.
 */
enum { GAIN_TOKENS = STREAM_WINDOW - 1 };

struct comparison {
    const struct model *source, *made;
    int threads;
    struct stream *streams[N_STREAMS];
    float *logits[N_STREAMS]; /* [CHUNK][vocab_size] */
};

/* Quantizes a matrix without calibration. One whose codes were carried over is the file's own. */
static int quantize_plainly(const struct comparison *c, enum tensor_kind kind,
                            const struct matrix *source, const struct matrix *made,
                            struct matrix *plain, struct llama3_error *err)
{
    *plain = *made;
    if (!convert_is_quantized(made->type) || convert_carries(source, made->type))
        return 0;
    struct quantize_options options = {
        .type = made->type,
        .threads = c->threads,
        .interleave = convert_interleave(c->source, c->made->config.rope.interleaved, kind),
    };
    void *data = size_alloc_aligned(1, matrix_bytes(made));
    plain->data = data;
    return data == NULL ? error_memory(err, "a layer", matrix_bytes(made))
                        : quantize_rows(source, 0, source->rows, &options, data, NULL, err);
}

static int advance_plainly(const struct comparison *c, size_t i, struct llama3_error *err)
{
    struct layer *source = &c->source->layers[i], *made = &c->made->layers[i];
    struct layer plain = *made;
    int status = 0;
    for (int kind = TENSOR_Q; kind <= TENSOR_DOWN && status == 0; kind++)
        status = quantize_plainly(c, (enum tensor_kind)kind,
                                  layer_matrix(source, (enum tensor_kind)kind),
                                  layer_matrix(made, (enum tensor_kind)kind),
                                  layer_matrix(&plain, (enum tensor_kind)kind), err);
    if (status == 0)
        status = stream_advance(c->streams[PLAIN], &plain, INPUT_COUNT, NULL, NULL, err);
    for (int kind = TENSOR_Q; kind <= TENSOR_DOWN; kind++)
        if (layer_matrix(&plain, (enum tensor_kind)kind)->data !=
            layer_matrix(made, (enum tensor_kind)kind)->data)
            free((void *)(uintptr_t)layer_matrix(&plain, (enum tensor_kind)kind)->data);
    return status;
}

static int advance(const struct comparison *c, size_t i, struct llama3_error *err)
{
    return stream_advance(c->streams[SOURCE], &c->source->layers[i], INPUT_COUNT, NULL, NULL, err) <
                       0 ||
                   stream_advance(c->streams[MADE], &c->made->layers[i], INPUT_COUNT, NULL, NULL,
                                  err) < 0
               ? -1
               : advance_plainly(c, i, err);
}

static int compare_rows(const struct comparison *c, size_t first, size_t n, struct gain *gain,
                        struct llama3_error *err)
{
    size_t vocab = c->source->config.vocab_size;
    for (int s = 0; s < N_STREAMS; s++)
        if (stream_logits(c->streams[s], s == SOURCE ? c->source : c->made, first, n, c->logits[s],
                          err) < 0)
            return -1;
    for (size_t row = 0; row < n; row++) {
        const float *rows[N_STREAMS];
        struct softmax of[N_STREAMS];
        for (int s = 0; s < N_STREAMS; s++) {
            rows[s] = c->logits[s] + row * vocab;
            of[s] = softmax_of(rows[s], vocab);
        }
        gain->kl += softmax_divergence(rows[SOURCE], &of[SOURCE], rows[MADE], &of[MADE], vocab);
        gain->plain_kl +=
            softmax_divergence(rows[SOURCE], &of[SOURCE], rows[PLAIN], &of[PLAIN], vocab);
    }
    gain->predictions += n;
    return 0;
}

static int compare(const struct comparison *c, struct gain *gain, struct llama3_error *err)
{
    size_t n = stream_count(c->streams[SOURCE]) - 1; /* the last token has no successor */
    for (size_t i = 0; i < c->source->config.n_layers; i++)
        if (advance(c, i, err) < 0)
            return -1;
    *gain = (struct gain){0};
    for (size_t first = 0; first < n; first += CHUNK)
        if (compare_rows(c, first, n - first < CHUNK ? n - first : CHUNK, gain, err) < 0)
            return -1;
    gain->kl /= (double)gain->predictions;
    gain->plain_kl /= (double)gain->predictions;
    if (!isfinite(gain->kl) || !isfinite(gain->plain_kl))
        return error_input(err, "expected finite logits, found others");
    return 0;
}

int gain_measure(const struct model *source, const struct model *made, const int32_t *tokens,
                 size_t n, const struct stream_options *options, struct gain *gain,
                 struct llama3_error *err)
{
    struct comparison c = {.source = source, .made = made, .threads = options->threads};
    size_t vocab = source->config.vocab_size;
    int status = 0;
    if (n < 2)
        return error_input(err, "expected 2 tokens or more, found %zu", n);
    for (int s = 0; s < N_STREAMS && status == 0; s++) {
        c.streams[s] = stream_open(s == SOURCE ? source : made, tokens, n, options, err);
        if (c.streams[s] != NULL)
            c.logits[s] = size_alloc_for(CHUNK, vocab * sizeof(float), "logits", err);
        status = c.logits[s] != NULL ? 0 : -1;
    }
    if (status == 0)
        status = compare(&c, gain, err);
    for (int s = 0; s < N_STREAMS; s++) {
        stream_close(c.streams[s]);
        free(c.logits[s]);
    }
    return status;
}

static bool same_vector(const struct matrix *a, const struct matrix *b, float *rows)
{
    matrix_row(a, 0, rows);
    matrix_row(b, 0, rows + a->cols);
    return memcmp(rows, rows + a->cols, a->cols * sizeof *rows) == 0;
}

/* Norms are copied as they are, and no two models have the same. */
static int check_made_of(const struct model *source, const struct model *made,
                         struct llama3_error *err)
{
    const struct config *a = &source->config, *b = &made->config;
    if (strcmp(made->format, "llama3") != 0 && strcmp(made->format, "gguf") != 0)
        return error_input(err, "%s: expected a file of llama3_quantize(), found one of format %s",
                           made->path, made->format);
    float *rows = size_alloc_for(2, a->dim * sizeof *rows, "norms", err);
    if (rows == NULL)
        return -1;
    bool same = a->dim == b->dim && a->n_layers == b->n_layers && a->n_heads == b->n_heads &&
                a->n_kv_heads == b->n_kv_heads && a->head_dim == b->head_dim &&
                a->ffn_dim == b->ffn_dim && a->vocab_size == b->vocab_size &&
                same_vector(&source->norm, &made->norm, rows);
    for (size_t i = 0; same && i < a->n_layers; i++)
        same = same_vector(&source->layers[i].attn_norm, &made->layers[i].attn_norm, rows);
    free(rows);
    return same ? 0
                : error_input(err,
                              "%s: expected a file that was made of %s, found one of another model",
                              made->path, source->path);
}

int gain_of_file(const char *in, const char *made, int threads, struct gain *gain,
                 struct llama3_error *err)
{
    const struct stream_options options = {.threads = threads};
    struct model models[2] = {{0}};
    struct tokenizer *tokenizer = NULL;
    struct tokens sample = {0};
    int status = -1;
    if (model_open(&models[SOURCE], in, err) == 0 && model_open(&models[MADE], made, err) == 0 &&
        check_made_of(&models[SOURCE], &models[MADE], err) == 0 &&
        (tokenizer = tokenizer_open(&models[SOURCE].vocab, err)) != NULL)
        status = tokenizer_encode(tokenizer, (const char *)sample_text, sample_size, &sample, err);
    if (status == 0)
        status = gain_measure(&models[SOURCE], &models[MADE], sample.ids,
                              sample.n < GAIN_TOKENS ? sample.n : GAIN_TOKENS, &options, gain, err);
    tokens_free(&sample);
    tokenizer_close(tokenizer);
    model_close(&models[MADE]);
    model_close(&models[SOURCE]);
    return status;
}
