/* SPDX-License-Identifier: MIT */
/* server.h: what the server's files share, and nobody else sees. */
#ifndef SERVER_SERVER_H
#define SERVER_SERVER_H

#include <pthread.h>
#include <time.h>

#include "server/budget.h"
#include "server/http.h"
#include "server/metrics.h"
#include "server/openai.h"
#include "server/pool.h"
#include "server/serve.h"
#include "server/slots.h"

/* Requests that wait, besides those that are being answered. */
enum { MAX_WAITING = 64, MAX_PARALLEL = 64 };

struct completion;
struct endpoint;

struct server {
    struct server_options options;
    struct http *http;
    struct metrics metrics;   /* of all, */
    struct metrics *of_users; /* [keys_count()] and of each; NULL: there is one user */
    char policy[512];         /* of the page */

    pthread_mutex_t lock;
    pthread_cond_t idle;        /* no request is worked on */
    struct llama3_model *model; /* NULL until it is loaded */
    double progress;
    bool draining, cutting;
    size_t n_working;               /* threads */
    struct completion *completions; /* being answered */

    /* Set once, before `model`: */
    struct pool *pool;
    struct slots *slots;
    const char *model_path;
    char *model_id;
    struct budget requests;
    uint64_t kv_limit, page_bytes; /* of KV; a page is page_tokens long */
    size_t page_tokens, context;
    time_t created;
    struct llama3_sampling *sampling; /* the defaults */
};

/* What the log says of a request besides the status; zero for most. */
struct outcome {
    size_t prompt_tokens, cached_tokens, answer_tokens;
    double prompt_seconds, answer_seconds;
    const char *finish; /* NULL: nothing was generated */
};

/* A request that is worked on, by a thread of its own or at once. */
struct work {
    struct server *server;
    struct http_request *http;
    enum route route;
    const struct endpoint *endpoint; /* once it is known */
    const char *method, *path;       /* as the log has them */
    char client[64];
    double began;
    int user; /* whose KV pages it may share, and whose counts it adds to; -1: nobody's */
    struct share *memory; /* that it holds; NULL at once */
};

/* The end of a request: counted, and logged with what came of it (NULL: nothing). Before it is
 * answered, or after. */
void work_log(const struct work *work, int status, const struct outcome *outcome);
/* Counts for all, and for the user. */
void work_count(const struct work *work, enum counter counter, uint64_t n);
/* Answers, logs, and ends it. */
void work_answer(const struct work *work, int status, const char *type, const struct buf *body);
void work_fail(const struct work *work, const struct api_error *err);

/* Do a request's work, on a thread of its own: those of completion.c and of tokenize.c. */
void completion_run(const struct work *work, bool chat);
void tokenize_run(const struct work *work);
void template_run(const struct work *work);
/* Ends it; the one after it in the server's list: both with the server's lock held. */
void completion_cut(struct completion *completion);
struct completion *completion_next(struct completion *completion);

#endif
