/* SPDX-License-Identifier: MIT */
#include "config.h"

#include "tool/bench_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/size.h"
#include "engine/load.h"

enum {
    IMPORT = KV_PAGE, /* positions whose K and V are made at a time */
    WARM_ROWS = 32    /* of a prompt, before the first round */
};

/* What is open while it runs. */
struct runner {
    struct bench *bench;
    struct forward *forward;
    struct meter *meters[MAX_BACKENDS]; /* [plan.n_backends] */
    struct sequence **sequences;        /* [n_sequences] */
    size_t n_sequences;
    struct batch_row *rows; /* [options.max_rows] */
    float *logits;          /* [options.max_logit_rows][vocab_size] */
    char *k, *v;            /* [IMPORT][n_kv_heads] heads as they are stored */
    struct limits *limits;  /* [plan.n_backends][rounds] */
};

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *values, size_t n)
{
    qsort(values, n, sizeof *values, ascending);
    return n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

/* ---- sequences --------------------------------------------------------------------------- */

static size_t sequences_of(const struct bench_test *test)
{
    return test->kind == BENCH_BATCH ? test->n : 1;
}

static size_t positions_of(const struct bench_test *test)
{
    return test->context + (test->kind == BENCH_PROMPT ? test->n : test->steps);
}

size_t bench_kv_row_bytes(const struct bench *bench)
{
    return (size_t)kv_position_bytes(&bench->model->config, bench->options.kv_type);
}

/* Fills positions [from, to) of a sequence with K and V of no text. */
static int import(const struct runner *r, struct sequence *sequence, size_t from, size_t to,
                  struct llama3_error *err)
{
    for (size_t at = from; at < to; at += IMPORT) {
        size_t end = to - at < IMPORT ? to : at + IMPORT;
        for (size_t layer = 0; layer < r->bench->model->config.n_layers; layer++)
            if (sequence_import(r->forward, sequence, layer, at, end, r->k, r->v, err) < 0)
                return -1;
    }
    return 0;
}

/* How many sequences the tests with a context need, and how many positions in each. */
static size_t size_of_context(const struct bench *b, size_t context, size_t *end)
{
    size_t n = 0;
    *end = 0;
    for (size_t i = 0; i < b->n_tests; i++) {
        const struct bench_test *test = &b->tests[i];
        if (test->context != context)
            continue;
        n = sequences_of(test) > n ? sequences_of(test) : n;
        *end = positions_of(test) > *end ? positions_of(test) : *end;
    }
    return n;
}

/* Opens a context's sequences, shared by the tests with that context and reserved up to the last
 * position of any. They are never truncated: a test overwrites what the one before it wrote. */
static int open_sequences(struct runner *r, size_t context, struct llama3_error *err)
{
    size_t end, n = size_of_context(r->bench, context, &end);
    for (size_t i = 0; i < r->bench->n_tests; i++)
        if (r->bench->tests[i].context == context)
            r->bench->tests[i].sequence = r->n_sequences;
    for (size_t i = 0; i < n; i++) {
        struct sequence *sequence = sequence_open(r->forward, err);
        if (sequence == NULL)
            return -1;
        r->sequences[r->n_sequences++] = sequence;
        if (sequence_reserve(r->forward, sequence, 0, end, err) < 0 ||
            import(r, sequence, 0, context, err) < 0)
            return -1;
    }
    return 0;
}

/* Whether this is the first test with this context. */
static bool is_first_of_context(const struct bench *b, size_t test)
{
    for (size_t i = 0; i < test; i++)
        if (b->tests[i].context == b->tests[test].context)
            return false;
    return true;
}

/* ---- tests ------------------------------------------------------------------------------- */

static int32_t some_token(const struct runner *r, size_t i)
{
    return (int32_t)(i * 7919 % r->bench->model->config.vocab_size);
}

static int run_prompt(const struct runner *r, const struct bench_test *test, size_t n,
                      struct llama3_error *err)
{
    size_t chunk = r->bench->options.max_rows;
    for (size_t first = 0; first < n; first += chunk) {
        size_t rows = n - first < chunk ? n - first : chunk;
        for (size_t i = 0; i < rows; i++)
            r->rows[i] = (struct batch_row){.token = some_token(r, first + i),
                                            .position = (int32_t)(test->context + first + i),
                                            .wants_logits = first + i + 1 == n};
        if (forward_run(r->forward, r->rows, rows, r->sequences + test->sequence, 1, r->logits,
                        NULL, NULL, err) < 0)
            return -1;
    }
    return 0;
}

static int run_steps(const struct runner *r, const struct bench_test *test, size_t steps,
                     struct llama3_error *err)
{
    size_t n = sequences_of(test);
    for (size_t step = 0; step < steps; step++) {
        for (size_t i = 0; i < n; i++)
            r->rows[i] = (struct batch_row){.token = some_token(r, step * n + i),
                                            .position = (int32_t)(test->context + step),
                                            .seq = (int32_t)i,
                                            .wants_logits = true};
        if (forward_run(r->forward, r->rows, n, r->sequences + test->sequence, n, r->logits, NULL,
                        NULL, err) < 0)
            return -1;
    }
    return 0;
}

/* Tokens a second. warm: a short run that brings everything into memory. */
static int run_test(const struct runner *r, const struct bench_test *test, bool warm, double *rate,
                    struct llama3_error *err)
{
    size_t n = test->kind == BENCH_PROMPT && warm && test->n > WARM_ROWS ? WARM_ROWS : test->n;
    size_t steps = warm ? 1 : test->steps;
    for (size_t i = 0; i < sequences_of(test) && r->bench->options.n_loras > 0; i++)
        sequence_scales(r->sequences[test->sequence + i])[0] = test->adapted ? 1 : 0;
    double start = clock_seconds();
    int status =
        test->kind == BENCH_PROMPT ? run_prompt(r, test, n, err) : run_steps(r, test, steps, err);
    *rate = (double)(test->kind == BENCH_PROMPT ? n : steps * sequences_of(test)) /
            (clock_seconds() - start);
    return status;
}

/* Waits for what auto copies, and says what became of mapped weights. */
static void settle(const struct runner *r)
{
    struct load *load = forward_load(r->forward);
    const struct timespec moment = {.tv_nsec = 1000000};
    enum load_state state;
    while ((state = load_step(load, SIZE_MAX)) != LOAD_DONE)
        if (state == LOAD_WAIT)
            nanosleep(&moment, NULL);
    load_describe(load, r->bench->weights, sizeof r->bench->weights);
}

static int run_rounds(struct runner *r, struct llama3_error *err)
{
    struct bench *b = r->bench;
    double rate;
    for (size_t i = 0; i < b->n_tests; i++)
        if (run_test(r, &b->tests[i], true, &rate, err) < 0)
            return -1;
    settle(r);
    for (size_t round = 0; round < b->rounds; round++) {
        for (size_t p = 0; p < b->placement.plan.n_backends; p++)
            if (meter_of(b->placement.backends[p])
                    ->measure(r->meters[p], &r->limits[p * b->rounds + round], err) < 0)
                return -1;
        for (size_t i = 0; i < b->n_tests; i++)
            if (run_test(r, &b->tests[i], false, &b->tests[i].rates[round], err) < 0)
                return -1;
    }
    return 0;
}

/* ---- results ----------------------------------------------------------------------------- */

/* values: [rounds] */
static double limit_median(const struct runner *r, size_t backend, int limit, double *values)
{
    const struct limits *limits = r->limits + backend * r->bench->rounds;
    for (size_t i = 0; i < r->bench->rounds; i++)
        values[i] = limits[i].rates[limit];
    return median(values, r->bench->rounds);
}

static int sum_up(const struct runner *r, struct llama3_error *err)
{
    struct bench *b = r->bench;
    double *values = size_alloc_for(b->rounds, sizeof *values, "the results", err);
    if (values == NULL)
        return -1;
    for (size_t p = 0; p < b->placement.plan.n_backends; p++)
        for (int limit = 0; limit < LIMITS; limit++)
            b->limits[p].rates[limit] = limit_median(r, p, limit, values);
    free(values);
    for (size_t i = 0; i < b->n_tests; i++) {
        b->tests[i].tok_s = median(b->tests[i].rates, b->rounds);
        bench_find_limit(b, &b->tests[i]);
    }
    return 0;
}

/* ---- opening ----------------------------------------------------------------------------- */

/* What all tests together need of a pass. */
static int check_sizes(struct bench *b, struct llama3_error *err)
{
    struct forward_options *o = &b->options;
    size_t context = b->model->config.context;
    o->max_context = o->max_seqs = 1;
    for (size_t i = 0; i < b->n_tests; i++) {
        size_t n = sequences_of(&b->tests[i]), positions = positions_of(&b->tests[i]);
        if (positions > context)
            return error_set(err, LLAMA3_ECONTEXT,
                             "%s: expected at most %zu positions, found %zu after a context of %zu",
                             b->model->path, context, positions - b->tests[i].context,
                             b->tests[i].context);
        o->max_context = positions > o->max_context ? positions : o->max_context;
        o->max_seqs = n > o->max_seqs ? n : o->max_seqs;
    }
    o->max_rows = o->max_rows > o->max_seqs ? o->max_rows : o->max_seqs;
    o->max_logit_rows = o->max_seqs;
    return 0;
}

/* The same of memory. */
static int place(struct bench *b, struct llama3_error *err)
{
    struct placement_request *request = &b->place;
    uint64_t available;
    double host = 0;
    request->context = b->options.max_context;
    request->ops = backend_device_ops();
    if (request->ops != NULL)
        request->reserve_bytes = meter_of(request->ops)->memory();
    request->kv_pages = 0;
    for (size_t i = 0; i < b->n_tests; i++) {
        size_t end, n = size_of_context(b, b->tests[i].context, &end);
        if (is_first_of_context(b, i))
            request->kv_pages += n * kv_pages(end);
    }
    if (placement_choose(&b->placement, b->model, &b->options, request, err) < 0)
        return -1;
    for (size_t p = 0; p < b->placement.plan.n_backends; p++)
        if (b->placement.memories[p].device == NULL)
            host += (double)meter_of(b->placement.backends[p])->memory() +
                    (double)request->kv_pages * KV_PAGE *
                        (double)(b->placement.memories[p].n_kv_layers * bench_kv_row_bytes(b));
    if (memory_available(&available) && host > (double)available)
        return error_set(err, LLAMA3_ENOMEM,
                         "%s: expected %.1f GB of memory beside the weights, found %.1f",
                         b->model->path, host / 1e9, (double)available / 1e9);
    return 0;
}

/* From -0.5 to 0.5. */
static float next_number(uint32_t *seed)
{
    *seed = *seed * 1664525 + 1013904223;
    return (float)(*seed >> 16) / 65536 - 0.5f;
}

/* A head whose numbers are that large. */
static void fill_head(enum llama3_kv_type type, size_t head_dim, uint32_t *seed, char *out)
{
    const size_t size = kv_number_bytes(type);
    const float scale = 1.0f / 256;
    for (size_t i = 0; i < head_dim; i++, out += size) {
        float value = next_number(seed);
        uint16_t half = f32_to_f16(value);
        int8_t code = (int8_t)(value * 254);
        memcpy(out,
               type == LLAMA3_KV_F16   ? (const void *)&half
               : type == LLAMA3_KV_F32 ? (const void *)&value
                                       : (const void *)&code,
               size);
    }
    if (kv_is_coded(type))
        memcpy(out, &scale, sizeof scale);
}

/* The same of a head of V in int4: 15 steps of 17 from -8 * 16 on, at a 256th. */
static void fill_groups(size_t head_dim, uint32_t *seed, char *out)
{
    const char group[2] = {17, -16};
    const float scale = 1.0f / 256;
    size_t columns = kv_group_columns(head_dim);
    for (size_t i = 0; i < columns / 2; i++)
        *out++ = (char)(next_number(seed) * 254);
    for (size_t i = 0; i < columns / KV_GROUP; i++, out += sizeof group)
        memcpy(out, group, sizeof group);
    memcpy(out, &scale, sizeof scale);
}

static void fill_kv(const struct runner *r)
{
    const struct config *c = &r->bench->model->config;
    enum llama3_kv_type type = r->bench->options.kv_type;
    size_t dim = c->head_dim, n = IMPORT * c->n_kv_heads;
    uint32_t seed = 1;
    for (size_t head = 0; head < n; head++)
        fill_head(type, dim, &seed, r->k + head * kv_key_bytes(type, dim));
    for (size_t head = 0; head < n; head++) {
        char *v = r->v + head * kv_value_bytes(type, dim);
        if (type == LLAMA3_KV_INT4)
            fill_groups(dim, &seed, v);
        else
            fill_head(type, dim, &seed, v);
    }
}

static int open_runner(struct runner *r, struct llama3_error *err)
{
    struct bench *b = r->bench;
    const struct forward_options *o = &b->options;
    size_t vocab_size = b->model->config.vocab_size, n_backends = b->placement.plan.n_backends;
    r->forward = forward_open(b->model, &b->placement.plan, o, err);
    if (r->forward == NULL)
        return -1;
    snprintf(b->description, sizeof b->description, "%s", forward_describe(r->forward, NULL));
    for (size_t p = 0; p < n_backends; p++) {
        r->meters[p] = meter_of(b->placement.backends[p])->open(&o->backend, err);
        if (r->meters[p] == NULL)
            return -1;
    }
    r->rows = size_alloc(o->max_rows, sizeof *r->rows);
    r->logits = size_alloc(o->max_logit_rows, vocab_size * sizeof *r->logits);
    r->k = size_alloc(IMPORT, bench_kv_row_bytes(b));
    r->limits = size_alloc(b->rounds, n_backends * sizeof *r->limits);
    r->sequences = size_alloc(b->n_tests, o->max_seqs * sizeof(struct sequence *));
    if (r->rows == NULL || r->logits == NULL || r->k == NULL || r->limits == NULL ||
        r->sequences == NULL)
        return error_memory(err, "rows and logits", o->max_logit_rows * vocab_size * 4);
    forward_pin(r->forward, r->logits, o->max_logit_rows * vocab_size);
    r->v = r->k + IMPORT * b->model->config.n_kv_heads *
                      kv_key_bytes(o->kv_type, b->model->config.head_dim);
    fill_kv(r);
    for (size_t i = 0; i < b->n_tests; i++)
        if (is_first_of_context(b, i) && open_sequences(r, b->tests[i].context, err) < 0)
            return -1;
    for (size_t i = 0; i < b->n_tests; i++) {
        b->tests[i].rates = size_alloc_for(b->rounds, sizeof(double), "the results", err);
        if (b->tests[i].rates == NULL)
            return -1;
    }
    return 0;
}

static void close_runner(struct runner *r)
{
    for (size_t i = 0; i < r->n_sequences; i++)
        sequence_close(r->forward, r->sequences[i]);
    for (size_t i = 0; i < r->bench->n_tests; i++) {
        free(r->bench->tests[i].rates);
        r->bench->tests[i].rates = NULL;
    }
    free(r->sequences);
    free(r->rows);
    free(r->k);
    free(r->limits);
    for (size_t p = 0; p < r->bench->placement.plan.n_backends; p++)
        if (r->meters[p] != NULL)
            meter_of(r->bench->placement.backends[p])->close(r->meters[p]);
    forward_close(r->forward);
    free(r->logits);
}

int bench_run(struct bench *bench, struct llama3_error *err)
{
    struct runner runner = {.bench = bench};
    if (check_sizes(bench, err) < 0 || place(bench, err) < 0)
        return -1;
    int status = open_runner(&runner, err);
    if (status == 0)
        status = run_rounds(&runner, err);
    if (status == 0)
        status = sum_up(&runner, err);
    close_runner(&runner);
    return status;
}
