/* bench_run.h: what llama3-bench measures, in rounds: the machine's limits, then each test. */
#ifndef TOOL_BENCH_RUN_H
#define TOOL_BENCH_RUN_H

#include "backend/limits.h"
#include "engine/forward.h"

enum bench_kind { BENCH_PROMPT, BENCH_DECODE, BENCH_BATCH };

enum bench_limit { LIMIT_READ, LIMIT_INT8, LIMIT_BF16, LIMIT_F32, LIMIT_COUNT };

struct bench_test {
    enum bench_kind kind;
    size_t n;       /* tokens of a prompt, tokens decoded one by one, or rows of a batch */
    size_t context; /* positions that are there before */
    size_t steps;   /* passes of a decode or batch */
    /* Filled in by bench_run: */
    size_t sequence;        /* the first of those that it works on */
    double *rates;          /* [rounds] tokens a second */
    double tok_s;           /* their median */
    enum bench_limit limit; /* what binds it, */
    double limit_tok_s;     /* and what that would give */
};

struct bench {
    const struct model *model;
    struct forward_options options; /* threads, chunk (max_rows) and kv_type are given */
    struct bench_test *tests;       /* [n_tests] */
    size_t n_tests, rounds;
    struct limits limits;    /* medians */
    const char *description; /* "cpu (avx512)" */
};

/* Runs all rounds; fills limits, description and the tests' results. */
int bench_run(struct bench *bench, struct llama3_error *err);

#endif
