/* SPDX-License-Identifier: MIT */
/* metrics.h: what a server counts, as Prometheus reads it. Counters may be added to from anywhere.
 */
#ifndef SERVER_METRICS_H
#define SERVER_METRICS_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/buf.h"

/* The routes that requests are counted by; everything unknown is one of them. */
enum route {
    ROUTE_CHAT,
    ROUTE_COMPLETIONS,
    ROUTE_MODELS,
    ROUTE_HEALTH,
    ROUTE_METRICS,
    ROUTE_TOKENIZE,
    ROUTE_TEMPLATE,
    ROUTE_PAGE,
    ROUTE_OTHER,
    ROUTE_COUNT
};

enum counter {
    COUNT_PROMPT_TOKENS, /* of all prompts, */
    COUNT_CACHED_TOKENS, /* of these not read anew */
    COUNT_ANSWER_TOKENS,
    COUNT_PROMPT_MICROSECONDS,
    COUNT_ANSWER_MICROSECONDS,
    COUNT_HANGUPS, /* requests whose client left before the end */
    COUNTER_COUNT
};

struct metrics {
    atomic_uint_fast64_t requests[ROUTE_COUNT][6]; /* by hundreds of the status */
    atomic_uint_fast64_t counters[COUNTER_COUNT];
};

/* What is measured when it is asked for. */
struct gauges {
    size_t connections;
    size_t requests;  /* being answered */
    size_t sequences; /* being generated */
    size_t waiting;   /* for a sequence */
    size_t held;      /* sequences kept for what begins like them */
    uint64_t kv_bytes, kv_limit;
    uint64_t request_bytes, request_limit;
};

void metrics_request(struct metrics *metrics, enum route route, int status);
void metrics_add(struct metrics *metrics, enum counter counter, uint64_t n);
/* gauges: NULL for counts alone. */
void metrics_print(struct metrics *metrics, const struct gauges *gauges, struct buf *out);

#endif
