/* SPDX-License-Identifier: MIT */
#include "server/metrics.h"

#include <inttypes.h>
#include <stdio.h>

static const char *const routes[ROUTE_COUNT] = {
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/models",
    "/health",
    "/metrics",
    "/tokenize",
    "/apply-template",
    "/",
    "other",
};

void metrics_request(struct metrics *m, enum route route, int status)
{
    if (status >= 100 && status < 600)
        atomic_fetch_add(&m->requests[route][status / 100], 1);
}

void metrics_add(struct metrics *m, enum counter counter, uint64_t n)
{
    atomic_fetch_add(&m->counters[counter], n);
}

static void head(struct buf *out, const char *name, const char *type, const char *help)
{
    char line[256];
    snprintf(line, sizeof line, "# HELP llama3_%s %s\n# TYPE llama3_%s %s\n", name, help, name,
             type);
    buf_add_str(out, line);
}

static void value(struct buf *out, const char *name, uint64_t n)
{
    char line[128];
    snprintf(line, sizeof line, "llama3_%s %" PRIu64 "\n", name, n);
    buf_add_str(out, line);
}

static void seconds(struct buf *out, const char *name, uint64_t microseconds)
{
    char line[128];
    snprintf(line, sizeof line, "llama3_%s %.6f\n", name, (double)microseconds * 1e-6);
    buf_add_str(out, line);
}

static void print_requests(struct metrics *m, struct buf *out)
{
    char line[128];
    head(out, "requests_total", "counter", "Requests answered.");
    for (size_t r = 0; r < ROUTE_COUNT; r++) {
        for (size_t hundreds = 1; hundreds < 6; hundreds++) {
            uint64_t n = atomic_load(&m->requests[r][hundreds]);
            if (n == 0)
                continue;
            snprintf(line, sizeof line,
                     "llama3_requests_total{route=\"%s\",status=\"%zuxx\"} %" PRIu64 "\n",
                     routes[r], hundreds, n);
            buf_add_str(out, line);
        }
    }
}

static void print_counters(struct metrics *m, struct buf *out)
{
    static const struct {
        const char *name, *help;
        bool is_time;
    } counters[COUNTER_COUNT] = {
        [COUNT_PROMPT_TOKENS] = {"prompt_tokens_total", "Tokens of prompts.", false},
        [COUNT_CACHED_TOKENS] = {"cached_tokens_total",
                                 "Tokens of prompts found in the prefix cache.", false},
        [COUNT_ANSWER_TOKENS] = {"answer_tokens_total", "Tokens generated.", false},
        [COUNT_PROMPT_MICROSECONDS] = {"prompt_seconds_total", "Time spent on prefill.", true},
        [COUNT_ANSWER_MICROSECONDS] = {"answer_seconds_total", "Time spent on decoding.", true},
        [COUNT_HANGUPS] = {"hangups_total", "Requests whose client disconnected early.", false},
    };
    for (size_t i = 0; i < COUNTER_COUNT; i++) {
        head(out, counters[i].name, "counter", counters[i].help);
        (counters[i].is_time ? seconds : value)(out, counters[i].name,
                                                atomic_load(&m->counters[i]));
    }
}

static void print_gauges(const struct gauges *g, struct buf *out)
{
    const struct {
        const char *name, *help;
        uint64_t value;
    } gauges[] = {
        {"connections", "Open connections.", g->connections},
        {"requests", "Requests running or queued.", g->requests},
        {"sequences", "Sequences being generated.", g->sequences},
        {"sequences_waiting", "Sequences in the queue.", g->waiting},
        {"kv_bytes", "KV memory in use.", g->kv_bytes},
        {"prefix_bytes", "KV memory that the prefix cache holds.", g->prefix_bytes},
        {"kv_limit_bytes", "Limit of KV memory.", g->kv_limit},
        {"request_bytes", "Memory held by requests and their answers.", g->request_bytes},
        {"request_limit_bytes", "Limit of that memory.", g->request_limit},
    };
    for (size_t i = 0; i < sizeof gauges / sizeof *gauges; i++) {
        head(out, gauges[i].name, "gauge", gauges[i].help);
        value(out, gauges[i].name, gauges[i].value);
    }
}

void metrics_print(struct metrics *m, const struct gauges *g, struct buf *out)
{
    print_requests(m, out);
    print_counters(m, out);
    if (g != NULL)
        print_gauges(g, out);
}
