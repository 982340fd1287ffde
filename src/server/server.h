/* SPDX-License-Identifier: MIT */
/* server.h: what serve.c, completion.c and tokenize.c share; for no one else. */
#ifndef SERVER_SERVER_H
#define SERVER_SERVER_H

#include <pthread.h>
#include <time.h>

#include "server/budget.h"
#include "server/constraints.h"
#include "server/http.h"
#include "server/metrics.h"
#include "server/openai.h"
#include "server/prefill.h"
#include "server/serve.h"
#include "server/slots.h"

enum { MAX_ADAPTERS = 32 /* as of llama3.h */ };
enum { MAX_WAITING = 64 /* requests in the queue */, MAX_PARALLEL = 64 };

struct completion;
struct endpoint;

struct server {
    struct server_options options;
    struct http *http;
    struct metrics metrics;                  /* of all users together */
    struct metrics *of_users;                /* [keys_count()] NULL: there is one user */
    char policy[512];                        /* the page's Content-Security-Policy */
    struct llama3_template_options template; /* memory: what its arguments take, parsed */

    pthread_mutex_t lock;
    pthread_cond_t idle;        /* n_working became 0 */
    struct llama3_model *model; /* NULL until it is loaded */
    double progress;            /* of loading it */
    bool draining, cutting;
    size_t n_working; /* threads, each with a request */
    struct completion *completions;

    /* Set once, before `model`, and then constant. */
    struct prefills *prefills;
    struct slots *slots;
    struct constraints *constraints;
    const char *model_path;
    char *model_id;
    struct budget requests;
    uint64_t kv_limit, page_bytes; /* a KV page holds page_tokens */
    size_t page_tokens, context;
    time_t created;
    struct llama3_sampling *sampling; /* the defaults */
    float scales[MAX_ADAPTERS];       /* of the adapters, unless a request chooses */
};

/* What the log says about a generation. */
struct outcome {
    size_t prompt_tokens, cached_tokens, answer_tokens;
    double prompt_seconds, answer_seconds;
    const char *finish; /* NULL: nothing was generated */
};

/* A request in progress: on a thread of its own, or at once on the connection's thread. */
struct work {
    struct server *server;
    struct http_request *http;
    enum route route;
    const struct endpoint *endpoint;
    const char *method, *path; /* as the log has them */
    char client[64];
    double began;
    int user;             /* the key's index: whose prefixes and counters it uses; -1: none */
    struct share *memory; /* NULL on the connection's thread */
};

/* Counts and logs a request, before its answer is sent or after. outcome: NULL if nothing was
 * generated. */
void work_log(const struct work *work, int status, const struct outcome *outcome);
/* Adds to the total and to the user's counter. */
void work_count(const struct work *work, enum counter counter, uint64_t n);
/* Logs a request and answers it. */
void work_answer(const struct work *work, int status, const char *type, const struct buf *body);
void work_fail(const struct work *work, const struct api_error *err);

/* Run a request to its end, on its own thread: ROUTE_CHAT or ROUTE_COMPLETIONS, and ROUTE_TOKENIZE
 * or ROUTE_TEMPLATE. */
void completion_run(const struct work *work);

/* adapters.c */
/* The scales that a request asks for, [n_adapters], and the id of its model in the answer. */
int adapters_choose(const struct server *server, const struct api_request *request,
                    float scales[MAX_ADAPTERS], const char **model_id, struct api_error *err);
/* Which adapter has this id as a model: its name, alone or after the base model's and a colon; -1:
 * none. */
int adapters_find(const struct server *server, const char *model_id);
void tokenize_run(const struct work *work);
/* Cancel a completion, and walk the server's list; both with the server's lock held. */
void completion_cut(struct completion *completion);
struct completion *completion_next(struct completion *completion);

#endif
