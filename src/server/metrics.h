/* SPDX-License-Identifier: MIT */
/* metrics.h: the server's metrics, in Prometheus's text format. Any thread may count. */
#ifndef SERVER_METRICS_H
#define SERVER_METRICS_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/buf.h"

/* Requests are counted by route. Unknown paths count as ROUTE_OTHER. */
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
    COUNT_PROMPT_TOKENS,
    COUNT_CACHED_TOKENS, /* of prompts, found in the prefix cache */
    COUNT_ANSWER_TOKENS,
    COUNT_PROMPT_MICROSECONDS,
    COUNT_ANSWER_MICROSECONDS,
    COUNT_HANGUPS, /* requests whose client disconnected early */
    COUNTER_COUNT
};

struct metrics {
    atomic_uint_fast64_t requests[ROUTE_COUNT][6]; /* by status / 100 */
    atomic_uint_fast64_t counters[COUNTER_COUNT];
};

/* Values of the moment, gathered for each request of /metrics. */
struct gauges {
    size_t connections;
    size_t requests;  /* running or queued */
    size_t sequences; /* being generated */
    size_t waiting;   /* sequences in the queue */
    uint64_t kv_bytes, prefix_bytes, kv_limit;
    uint64_t request_bytes, request_limit;
};

void metrics_request(struct metrics *metrics, enum route route, int status);
void metrics_add(struct metrics *metrics, enum counter counter, uint64_t n);
/* gauges: NULL prints the counters only. */
void metrics_print(struct metrics *metrics, const struct gauges *gauges, struct buf *out);

#endif
