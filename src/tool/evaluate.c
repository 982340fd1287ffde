/* SPDX-License-Identifier: MIT */
#include "tool/evaluate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "base/softmax.h"
#include "base/threads.h"

/* What one row of logits says. */
struct score {
    double nll;           /* of the token that followed, in nats */
    double reference_nll; /* the same by the reference, */
    double kl;            /* and its distance */
    bool same_top;
};

/* A model that reads the text. */
struct reader {
    struct llama3_session *session; /* of the window */
    float *logits;                  /* [EVALUATE_CHUNK][vocab_size] */
};

struct evaluation {
    struct reader readers[2]; /* the model, and the reference */
    size_t n_readers;
    size_t vocab_size, window;
    int threads;
    int32_t bos; /* -1: windows start with text */
    const int32_t *tokens;
    size_t n;
    struct score *scores; /* [predictions] */
    size_t predictions;
    void (*on_progress)(size_t done, size_t total);
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

/* Rows are split over threads; which thread computes a row makes no difference to its bits. */
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
    int threads = (size_t)e->threads < n_rows ? e->threads : (int)n_rows;
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

/* The predictions of a window of n + 1 tokens. */
static int read_window(struct evaluation *e, size_t from, size_t n, struct llama3_error *err)
{
    for (size_t first = 0; first < n; first += EVALUATE_CHUNK) {
        size_t rows = n - first < EVALUATE_CHUNK ? n - first : EVALUATE_CHUNK;
        int32_t tokens[EVALUATE_CHUNK + 1];
        for (size_t r = 0; r <= rows; r++)
            tokens[r] = window_token(e, from, first + r);
        for (size_t i = 0; i < e->n_readers; i++)
            if (llama3_session_eval(e->readers[i].session, tokens, rows, rows, e->readers[i].logits,
                                    err) != 0)
                return -1;
        if (score_chunk(e, tokens + 1, rows, e->scores + from + first, err) < 0)
            return -1;
        if (e->on_progress != NULL)
            e->on_progress(from + first + rows, e->predictions);
    }
    for (size_t i = 0; i < e->n_readers; i++)
        llama3_session_truncate(e->readers[i].session, 0);
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
    double *kls = size_alloc_for(e->predictions, sizeof *kls, "the divergences", err);
    if (kls == NULL)
        return -1;
    for (size_t i = 0; i < e->predictions; i++) {
        const struct score *s = &e->scores[i];
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

struct llama3_model *evaluate_open_vocabulary(const char *path, struct llama3_error *err)
{
    const struct llama3_model_options options = {.size = sizeof options, .vocab_only = true};
    return llama3_model_open(path, &options, err);
}

struct llama3_model *evaluate_open(const char *path, const struct llama3_model_options *options,
                                   struct llama3_error *err)
{
    struct llama3_model_options o = *options;
    o.chunk = EVALUATE_CHUNK;
    if (o.context == 0) {
        struct llama3_model *model = evaluate_open_vocabulary(path, err);
        if (model == NULL)
            return NULL;
        size_t limit = llama3_model_info(model)->context_limit;
        o.context = limit < EVALUATE_WINDOW ? limit : EVALUATE_WINDOW;
        llama3_model_close(model);
    }
    return llama3_model_open(path, &o, err);
}

int evaluate_tokenize(const struct llama3_model *model, const char *text, size_t length,
                      bool with_bos, struct tokens *tokens, struct llama3_error *err)
{
    int32_t *ids;
    size_t n;
    if (llama3_tokenize(model, text, length, with_bos, &ids, &n, err) != 0)
        return -1;
    for (size_t i = 0; i < n; i++)
        tokens_add(tokens, ids[i]);
    llama3_free(ids);
    return tokens->failed ? error_memory(err, "tokens", n * sizeof *ids) : 0;
}

/* What every window begins with; -1: with text. */
static int32_t window_bos(const struct llama3_model *model)
{
    struct tokens bos = {0};
    int32_t id = -1;
    if (evaluate_tokenize(model, "", 0, true, &bos, NULL) == 0 && bos.n > 0)
        id = bos.ids[0];
    tokens_free(&bos);
    return id;
}

size_t evaluate_min_tokens(const struct llama3_model *model)
{
    return window_bos(model) >= 0 ? 1 : 2;
}

static int check_same_vocabulary(const struct llama3_model *a, const struct llama3_model *b,
                                 struct llama3_error *err)
{
    const struct llama3_info *x = llama3_model_info(a), *y = llama3_model_info(b);
    if (x->vocab_size != y->vocab_size)
        return error_input(err, "%s has %zu tokens, %s has %zu: expected the same vocabulary",
                           x->path, x->vocab_size, y->path, y->vocab_size);
    for (size_t i = 0; i < x->vocab_size; i++) {
        size_t n, m;
        const char *one = llama3_token_bytes(a, (int32_t)i, &n);
        const char *other = llama3_token_bytes(b, (int32_t)i, &m);
        if (n != m || (n > 0 && memcmp(one, other, n) != 0))
            return error_input(err,
                               "token %zu is \"%.*s\" in %s and \"%.*s\" in %s: expected the same "
                               "vocabulary",
                               i, (int)n, one, x->path, (int)m, other, y->path);
    }
    return 0;
}

static int open_reader(struct evaluation *e, struct llama3_model *model, struct llama3_error *err)
{
    const struct llama3_info *info = llama3_model_info(model);
    struct reader *reader = &e->readers[e->n_readers++];
    if (e->window == 0 || info->context < e->window)
        e->window = info->context;
    if (e->window < EVALUATE_MIN_WINDOW)
        return error_input(err, "%s: expected windows of %d tokens or more, found %zu", info->path,
                           EVALUATE_MIN_WINDOW, e->window);
    reader->session = llama3_session_open(model, err);
    if (reader->session == NULL)
        return -1;
    size_t row_bytes = e->vocab_size * sizeof *reader->logits;
    reader->logits = size_alloc_for(EVALUATE_CHUNK, row_bytes, "logits", err);
    return reader->logits != NULL ? 0 : -1;
}

static int open_all(struct evaluation *e, struct llama3_model *reference,
                    struct llama3_model *model, struct llama3_error *err)
{
    size_t least = evaluate_min_tokens(model);
    if (e->n < least)
        return error_input(err, "expected a text of %zu tokens or more, found %zu", least, e->n);
    if ((reference != NULL && check_same_vocabulary(reference, model, err) != 0) ||
        open_reader(e, model, err) != 0 ||
        (reference != NULL && open_reader(e, reference, err) != 0))
        return -1;
    e->bos = window_bos(model);
    e->predictions = e->bos >= 0 ? e->n : e->n - 1;
    e->scores = size_alloc_for(e->predictions, sizeof *e->scores, "the scores", err);
    return e->scores != NULL ? 0 : -1;
}

int evaluate(struct llama3_model *reference, struct llama3_model *model, const int32_t *tokens,
             size_t n, void (*on_progress)(size_t done, size_t total),
             struct evaluate_result *result, struct llama3_error *err)
{
    const struct llama3_info *info = llama3_model_info(model);
    struct evaluation e = {.tokens = tokens,
                           .n = n,
                           .vocab_size = info->vocab_size,
                           .threads = info->threads,
                           .on_progress = on_progress};
    int status = open_all(&e, reference, model, err);
    if (status == 0)
        status = read_text(&e, err);
    if (status == 0)
        status = sum_up(&e, result, err);
    for (size_t i = 0; i < e.n_readers; i++) {
        llama3_session_close(e.readers[i].session);
        free(e.readers[i].logits);
    }
    free(e.scores);
    return status;
}

int evaluate_logits(const struct llama3_model *model, struct llama3_session *session,
                    const int32_t *tokens, size_t n,
                    int (*on_rows)(void *arg, const float *logits, size_t n_rows,
                                   struct llama3_error *err),
                    void *arg, struct llama3_error *err)
{
    size_t vocab_size = llama3_model_info(model)->vocab_size;
    float *logits = size_alloc_for(EVALUATE_CHUNK, vocab_size * sizeof *logits, "logits", err);
    int status = logits != NULL ? 0 : -1;
    for (size_t first = 0; first < n && status == 0; first += EVALUATE_CHUNK) {
        size_t rows = n - first < EVALUATE_CHUNK ? n - first : EVALUATE_CHUNK;
        status = llama3_session_eval(session, tokens + first, rows, rows, logits, err);
        if (status == 0)
            status = on_rows(arg, logits, rows, err);
    }
    free(logits);
    return status;
}
