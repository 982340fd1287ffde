/* SPDX-License-Identifier: MIT */
#include "engine/evaluate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "base/softmax.h"
#include "base/threads.h"
#include "text/tokenizer.h"

enum {
    /* Of one pass. Logits of this many rows are held twice by each model: with Llama 3's
     * vocabulary 33 MB each time. */
    CHUNK = 64
};

/* What one row of logits says. */
struct score {
    double nll;           /* of the token that followed, in nats */
    double reference_nll; /* the same by the reference, */
    double kl;            /* and its distance */
    bool same_top;
};

/* A model that reads the text. */
struct reader {
    const struct model *model;
    struct forward *forward;
    struct placement placement;
    struct sequence *sequence; /* of the window */
    float *logits;             /* [CHUNK][vocab_size] */
};

struct evaluation {
    const struct evaluate_options *options;
    struct reader readers[2]; /* the model, and the reference */
    size_t n_readers;
    size_t vocab_size, window;
    bool no_blas;
    int32_t bos; /* -1: windows start with text */
    const int32_t *tokens;
    size_t n;
    struct score *scores; /* [predictions] */
    size_t predictions;
};

/* ---- a row of logits --------------------------------------------------------------------- */

/* reference: NULL, or its logits. */
static struct score score_row(const float *logits, const float *reference, size_t n, int32_t next)
{
    struct softmax own = softmax_of(logits, n);
    struct score score = {.nll = own.log_norm - (double)logits[next]};
    if (reference == NULL)
        return score;
    struct softmax theirs = softmax_of(reference, n);
    score.reference_nll = theirs.log_norm - (double)reference[next];
    score.kl = softmax_divergence(reference, &theirs, logits, &own, n);
    score.same_top = own.top == theirs.top;
    return score;
}

/* Rows are shared out to threads; whoever computes one, it has the same bits. */
struct scoring {
    const struct evaluation *e;
    const int32_t *next;  /* [n_rows] the tokens that follow */
    struct score *scores; /* [n_rows] */
};

static void score_rows(void *arg, size_t first, size_t end)
{
    const struct scoring *s = arg;
    const struct evaluation *e = s->e;
    for (size_t r = first; r < end; r++) {
        const float *theirs = e->n_readers > 1 ? e->readers[1].logits + r * e->vocab_size : NULL;
        s->scores[r] =
            score_row(e->readers[0].logits + r * e->vocab_size, theirs, e->vocab_size, s->next[r]);
    }
}

static int score_chunk(const struct evaluation *e, const int32_t *next, size_t n_rows,
                       struct score *scores, struct llama3_error *err)
{
    struct scoring scoring = {e, next, scores};
    int threads = (size_t)e->options->threads < n_rows ? e->options->threads : (int)n_rows;
    return threads_share(threads, n_rows, 1, 1, score_rows, &scoring, err);
}

/* ---- the text ---------------------------------------------------------------------------- */

/* Token i of the window whose text begins at token `from`. */
static int32_t window_token(const struct evaluation *e, size_t from, size_t i)
{
    if (e->bos < 0)
        return e->tokens[from + i];
    return i == 0 ? e->bos : e->tokens[from + i - 1];
}

/* Logits after the tokens [first, first + n) of a window. */
static int read_chunk(const struct evaluation *e, struct reader *reader, size_t from, size_t first,
                      size_t n, struct llama3_error *err)
{
    struct batch_row rows[CHUNK];
    for (size_t r = 0; r < n; r++)
        rows[r] = (struct batch_row){.token = window_token(e, from, first + r),
                                     .position = (int32_t)(first + r),
                                     .wants_logits = true};
    if (sequence_reserve(reader->forward, reader->sequence, first, first + n, err) < 0)
        return -1;
    return forward_run(reader->forward, rows, n, &reader->sequence, 1, reader->logits,
                       e->options->canceled, e->options->arg, err);
}

/* The predictions of a window of n + 1 tokens. */
static int read_window(struct evaluation *e, size_t from, size_t n, struct llama3_error *err)
{
    for (size_t first = 0; first < n; first += CHUNK) {
        size_t rows = n - first < CHUNK ? n - first : CHUNK;
        int32_t next[CHUNK];
        for (size_t r = 0; r < rows; r++)
            next[r] = window_token(e, from, first + r + 1);
        for (size_t i = 0; i < e->n_readers; i++)
            if (read_chunk(e, &e->readers[i], from, first, rows, err) < 0)
                return -1;
        if (score_chunk(e, next, rows, e->scores + from + first, err) < 0)
            return -1;
        if (e->options->on_progress != NULL)
            e->options->on_progress(e->options->arg, from + first + rows, e->predictions);
    }
    for (size_t i = 0; i < e->n_readers; i++)
        sequence_truncate(e->readers[i].forward, e->readers[i].sequence, 0);
    return 0;
}

static int read_text(struct evaluation *e, struct llama3_error *err)
{
    size_t step = e->window - 1;
    for (size_t from = 0; from < e->predictions; from += step) {
        size_t left = e->predictions - from;
        if (read_window(e, from, left < step ? left : step, err) < 0)
            return -1;
    }
    return 0;
}

/* ---- sums -------------------------------------------------------------------------------- */

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static int sum_up(const struct evaluation *e, struct evaluate_result *result,
                  struct llama3_error *err)
{
    double nll = 0, reference_nll = 0, kl = 0, n = (double)e->predictions;
    size_t same = 0;
    double *kls = size_alloc(e->predictions, sizeof *kls);
    if (kls == NULL)
        return error_memory(err, "the divergences", e->predictions * sizeof *kls);
    for (size_t i = 0; i < e->predictions; i++) {
        const struct score *s = &e->scores[i];
        if (!isfinite(s->nll) || !isfinite(s->reference_nll) || !isfinite(s->kl)) {
            free(kls);
            return error_set(err, LLAMA3_EINPUT,
                             "prediction %zu: expected finite logits, found others", i);
        }
        nll += s->nll;
        reference_nll += s->reference_nll;
        kl += s->kl;
        same += s->same_top;
        kls[i] = s->kl;
    }
    *result = (struct evaluate_result){.predictions = e->predictions, .perplexity = exp(nll / n)};
    if (e->n_readers > 1) {
        qsort(kls, e->predictions, sizeof *kls, ascending);
        result->reference_perplexity = exp(reference_nll / n);
        result->mean_kl = kl / n;
        result->p99_kl = kls[(e->predictions * 99 + 99) / 100 - 1];
        result->max_kl = kls[e->predictions - 1];
        result->top1 = (double)same / n;
    }
    free(kls);
    return 0;
}

/* ---- opening ----------------------------------------------------------------------------- */

static int open_reader(struct evaluation *e, struct reader *reader, const struct model *model,
                       struct llama3_error *err)
{
    struct forward_options options = {
        .backend = {.threads = e->options->threads, .no_blas = e->no_blas},
        .max_rows = CHUNK,
        .max_logit_rows = CHUNK,
        .max_seqs = 1,
        .kv_type = e->options->kv_type,
    };
    struct placement_request request = e->options->place;
    request.context = e->window;
    request.ops = backend_device_ops();
    reader->model = model;
    if (placement_choose(&reader->placement, model, &options, &request, err) < 0)
        return -1;
    reader->forward = forward_open(model, &reader->placement.plan, &options, err);
    if (reader->forward == NULL)
        return -1;
    reader->sequence = sequence_open(reader->forward, err);
    if (reader->sequence == NULL)
        return -1;
    reader->logits = size_alloc(CHUNK, e->vocab_size * sizeof *reader->logits);
    return reader->logits != NULL
               ? 0
               : error_memory(err, "logits", CHUNK * e->vocab_size * sizeof *reader->logits);
}

static void close_reader(struct reader *reader)
{
    if (reader->sequence != NULL)
        sequence_close(reader->forward, reader->sequence);
    forward_close(reader->forward);
    free(reader->logits);
}

static int choose_window(struct evaluation *e, const struct model *reference,
                         const struct model *model, struct llama3_error *err)
{
    size_t given = e->options->window, limit = model->config.context;
    if (reference != NULL && reference->config.context < limit)
        limit = reference->config.context;
    e->window = given > 0 ? given : limit < EVALUATE_WINDOW ? limit : EVALUATE_WINDOW;
    if (e->window < EVALUATE_MIN_WINDOW || e->window > limit)
        return error_set(err, LLAMA3_EINPUT, "%s: expected windows of %d to %zu tokens, found %zu",
                         model->path, EVALUATE_MIN_WINDOW, limit, e->window);
    return 0;
}

static int check_tokens(const struct evaluation *e, struct llama3_error *err)
{
    for (size_t i = 0; i < e->n; i++)
        if (e->tokens[i] < 0 || (size_t)e->tokens[i] >= e->vocab_size)
            return error_set(err, LLAMA3_EINPUT, "token %zu: expected 0 to %zu, found %d", i,
                             e->vocab_size - 1, (int)e->tokens[i]);
    return 0;
}

/* What every window begins with; -1: with text. */
static int32_t window_bos(const struct model *model)
{
    return model->vocab.add_bos ? model->vocab.bos : -1;
}

size_t evaluate_min_tokens(const struct model *model)
{
    return window_bos(model) >= 0 ? 1 : 2;
}

static int open_all(struct evaluation *e, const struct model *reference, const struct model *model,
                    struct llama3_error *err)
{
    e->vocab_size = model->config.vocab_size;
    e->bos = window_bos(model);
    size_t least = evaluate_min_tokens(model);
    if (e->n < least)
        return error_set(err, LLAMA3_EINPUT, "expected a text of %zu tokens or more, found %zu",
                         least, e->n);
    e->predictions = e->bos >= 0 ? e->n : e->n - 1;
    if (reference != NULL && evaluate_same_vocabulary(reference, model, err) < 0)
        return -1;
    if (check_tokens(e, err) < 0 || choose_window(e, reference, model, err) < 0)
        return -1;
    e->scores = size_alloc(e->predictions, sizeof *e->scores);
    if (e->scores == NULL)
        return error_memory(err, "the scores", e->predictions * sizeof *e->scores);
    e->n_readers = reference != NULL ? 2 : 1;
    if (open_reader(e, &e->readers[0], model, err) < 0)
        return -1;
    return reference != NULL ? open_reader(e, &e->readers[1], reference, err) : 0;
}

int evaluate(const struct model *reference, const struct model *model, const int32_t *tokens,
             size_t n, const struct evaluate_options *options, struct evaluate_result *result,
             struct llama3_error *err)
{
    struct evaluation e = {.options = options, .tokens = tokens, .n = n};
    int status = open_all(&e, reference, model, err);
    if (status == 0)
        status = read_text(&e, err);
    if (status == 0)
        status = sum_up(&e, result, err);
    if (status == 0)
        memcpy(result->gpu_note, e.readers[0].placement.note, sizeof result->gpu_note);
    for (size_t i = 0; i < e.n_readers; i++)
        close_reader(&e.readers[i]);
    free(e.scores);
    return status;
}

static int check_finite(const struct evaluation *e, size_t first, size_t n_rows,
                        struct llama3_error *err)
{
    const float *logits = e->readers[0].logits;
    for (size_t i = 0; i < n_rows * e->vocab_size; i++)
        if (!isfinite(logits[i]))
            return error_set(err, LLAMA3_EINPUT,
                             "%s: row %zu, id %zu: expected a finite logit, found %g",
                             e->readers[0].model->path, first + i / e->vocab_size,
                             i % e->vocab_size, (double)logits[i]);
    return 0;
}

static int open_logits(struct evaluation *e, const struct model *model, struct llama3_error *err)
{
    size_t limit = model->config.context, window = e->options->window;
    if (window > limit)
        return error_set(err, LLAMA3_EINPUT,
                         "%s: expected a context of at most the model's %zu tokens, found %zu",
                         model->path, limit, window);
    limit = window > 0 ? window : limit;
    if (e->n == 0)
        return error_set(err, LLAMA3_EINPUT, "expected one token or more, found none");
    if (e->n > limit)
        return error_set(
            err, LLAMA3_ECONTEXT,
            "%s: expected a text of at most %zu tokens, which the context holds, found %zu",
            model->path, limit, e->n);
    e->window = e->n;
    return check_tokens(e, err) < 0 ? -1 : open_reader(e, &e->readers[0], model, err);
}

int evaluate_logits(const struct model *model, const int32_t *tokens, size_t n,
                    const struct evaluate_options *options,
                    int (*on_rows)(void *arg, const float *logits, size_t n_rows,
                                   struct llama3_error *err),
                    void *arg, struct evaluate_result *result, struct llama3_error *err)
{
    struct evaluation e = {.options = options,
                           .vocab_size = model->config.vocab_size,
                           .no_blas = true,
                           .bos = -1,
                           .tokens = tokens,
                           .n = n};
    struct reader *reader = &e.readers[0];
    int status = open_logits(&e, model, err);
    for (size_t first = 0; first < n && status == 0; first += CHUNK) {
        size_t rows = n - first < CHUNK ? n - first : CHUNK;
        if (options->canceled != NULL && options->canceled(options->arg))
            status = error_set(err, LLAMA3_ECANCELED, "canceled");
        else if (read_chunk(&e, reader, 0, first, rows, err) < 0 ||
                 check_finite(&e, first, rows, err) < 0 ||
                 on_rows(arg, reader->logits, rows, err) < 0)
            status = -1;
        else if (options->on_progress != NULL)
            options->on_progress(options->arg, first + rows, n);
    }
    *result = (struct evaluate_result){.predictions = n};
    memcpy(result->gpu_note, reader->placement.note, sizeof result->gpu_note);
    close_reader(reader);
    return status;
}

int evaluate_tokenize(const struct model *model, const char *text, size_t length,
                      struct tokens *out, struct llama3_error *err)
{
    struct tokenizer *tokenizer = tokenizer_open(&model->vocab, err);
    if (tokenizer == NULL)
        return -1;
    int status = tokenizer_encode(tokenizer, text, length, out, err);
    if (status == 0 && out->failed)
        status = error_memory(err, "tokens", out->n * sizeof *out->ids);
    tokenizer_close(tokenizer);
    return status;
}

static bool same_token(const struct vocab *x, const struct vocab *y, size_t id)
{
    size_t n = x->offsets[id + 1] - x->offsets[id];
    return n == y->offsets[id + 1] - y->offsets[id] &&
           memcmp(x->bytes + x->offsets[id], y->bytes + y->offsets[id], n) == 0;
}

int evaluate_same_vocabulary(const struct model *a, const struct model *b, struct llama3_error *err)
{
    const struct vocab *x = &a->vocab, *y = &b->vocab;
    if (x->n != y->n || a->config.vocab_size != b->config.vocab_size)
        return error_set(err, LLAMA3_EINPUT,
                         "%s has %zu tokens and %zu logits, %s has %zu and %zu: expected the same "
                         "vocabulary",
                         a->path, x->n, a->config.vocab_size, b->path, y->n, b->config.vocab_size);
    for (size_t i = 0; i < x->n; i++)
        if (!same_token(x, y, i))
            return error_set(err, LLAMA3_EINPUT,
                             "token %zu is '%.*s' in %s and '%.*s' in %s: expected the same "
                             "vocabulary",
                             i, (int)(x->offsets[i + 1] - x->offsets[i]),
                             (const char *)x->bytes + x->offsets[i], a->path,
                             (int)(y->offsets[i + 1] - y->offsets[i]),
                             (const char *)y->bytes + y->offsets[i], b->path);
    return 0;
}
