/* SPDX-License-Identifier: MIT */
/* bench_run.h: what llama3-bench measures, in rounds: the limits of each backend that takes part,
 * then each test. */
#ifndef TOOL_BENCH_RUN_H
#define TOOL_BENCH_RUN_H

#include "engine/placement.h"
#include "meter/meter.h"

enum bench_kind { BENCH_PROMPT, BENCH_DECODE, BENCH_BATCH };

struct bench_test {
    enum bench_kind kind;
    size_t n;       /* tokens of a prompt, tokens decoded one by one, or rows of a batch */
    size_t context; /* positions already in the sequence */
    size_t steps;   /* passes of a decode or batch */
    bool adapted;   /* with the adapter of the options */
    /* Filled in by bench_run: */
    size_t sequence;      /* the first sequence it works on */
    double *rates;        /* [rounds] tokens a second */
    double tok_s;         /* their median */
    size_t limit_backend; /* the plan's backend that takes longest at best, */
    enum limit limit;     /* what limits it there, */
    double limit_tok_s;   /* and the speed if all of them ran at their limits */
};

struct bench {
    const struct model *model;
    struct forward_options options; /* threads, chunk (max_rows), kv_type and adapters are given */
    struct placement_request place; /* what the GPU should do; context and KV are the tests' */
    struct bench_test *tests;       /* [n_tests] */
    size_t n_tests, rounds;
    /* Filled in by bench_run: */
    struct placement placement;
    struct limits limits[MAX_BACKENDS]; /* [placement.plan.n_backends] medians */
    char description[256];              /* "cpu (avx512)" */
    char weights[128];                  /* what became of mapped ones; "": there are none */
};

/* Bytes of K and V for one position of one layer. */
size_t bench_kv_row_bytes(const struct bench *bench);

/* Finds what limits a test (bench_limits.c). */
void bench_find_limit(const struct bench *bench, struct bench_test *test);

/* Runs all rounds; fills placement, limits, description and the tests' results. */
int bench_run(struct bench *bench, struct llama3_error *err);

#endif
