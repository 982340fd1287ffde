/* SPDX-License-Identifier: MIT */
/* bench_limits.c: what a test costs, and how fast it could be at best. */
#include "config.h"

#include "tool/bench_run.h"

/* What one pass costs: bytes read, and multiply-adds in the arithmetic natural to a type. */
struct cost {
    double bytes, macs[LIMITS];
};

static enum limit natural(enum dtype type)
{
    switch (type) {
    case DTYPE_F32:
    case DTYPE_F16:
        return LIMIT_F32;
    case DTYPE_BF16:
        return LIMIT_BF16;
    default:
        return LIMIT_INT8;
    }
}

static void add_matrix(struct cost *cost, const struct matrix *m, double rows)
{
    cost->bytes += (double)matrix_bytes(m);
    cost->macs[natural(m->type)] += (double)m->rows * (double)m->cols * rows;
}

/* Positions that one layer's attention reads. */
static double positions_of(const struct bench_test *test, double rows)
{
    if (test->kind == BENCH_PROMPT) /* all of it is read only once */
        return (double)test->context + (double)test->n;
    /* averaged over the steps, the row itself included */
    return rows * ((double)test->context + ((double)test->steps + 1) / 2);
}

/* Both factors of what the adapter has for a weight. */
static void add_factors(const struct bench *b, size_t stage, size_t weight, double rows,
                        struct cost *cost)
{
    const struct lora_pair *pair = stage_pair(b->options.loras, stage, weight);
    if (pair == NULL)
        return;
    add_matrix(cost, &pair->a, rows);
    add_matrix(cost, &pair->b, rows);
}

static void add_stage(const struct bench *b, const struct bench_test *test, size_t stage,
                      struct cost *cost)
{
    struct stage_weight list[MAX_STAGE_WEIGHTS];
    double rows = test->kind == BENCH_DECODE ? 1 : (double)test->n;
    switch (stage_kind(stage, b->model->config.n_layers)) {
    case STAGE_EMBED: /* a row of it for each token */
        break;
    case STAGE_HEAD:
        add_matrix(cost, &b->model->head, test->kind == BENCH_PROMPT ? 1 : rows);
        break;
    case STAGE_ATTEND:
        cost->bytes += positions_of(test, rows) * (double)bench_kv_row_bytes(b);
        break;
    case STAGE_QKV:
    case STAGE_OUT:
    case STAGE_FFN:
        for (size_t n = stage_weights(b->model, stage, false, list); n > 0; n--) {
            if (list[n - 1].use == WEIGHT_MATRIX)
                add_matrix(cost, list[n - 1].matrix, rows);
            if (test->adapted)
                add_factors(b, stage, n - 1, rows, cost);
        }
        break;
    }
}

/* The shortest time in which a backend can do its share, and what limits it. */
static double least_seconds(const struct cost *cost, const struct limits *l, enum limit *limit)
{
    double read = cost->bytes / l->rates[LIMIT_READ] / 1e9, mac = 0, most = 0;
    enum limit slowest = LIMIT_INT8;
    for (int i = LIMIT_INT8; i < LIMITS; i++) {
        double spent = cost->macs[i] / l->rates[i] / 1e9;
        if (spent > most)
            slowest = (enum limit)i;
        most = spent > most ? spent : most;
        mac += spent;
    }
    *limit = read > mac ? LIMIT_READ : slowest;
    return read > mac ? read : mac;
}

void bench_find_limit(const struct bench *b, struct bench_test *test)
{
    const struct plan *plan = &b->placement.plan;
    size_t n_layers = b->model->config.n_layers;
    struct cost costs[MAX_BACKENDS] = {0};
    for (size_t i = 0; i < plan->n_spans; i++)
        for (size_t s = plan->spans[i].first; s < plan_end(plan, i, n_layers); s++)
            add_stage(b, test, s, &costs[plan->spans[i].backend]);

    double all = 0, most = -1; /* one after the other, as a pass runs them */
    for (size_t p = 0; p < plan->n_backends; p++) {
        enum limit limit;
        double spent = least_seconds(&costs[p], &b->limits[p], &limit);
        all += spent;
        if (spent <= most)
            continue;
        most = spent;
        test->limit_backend = p;
        test->limit = limit;
    }
    test->limit_tok_s = (test->kind == BENCH_DECODE ? 1 : (double)test->n) / all;
}
