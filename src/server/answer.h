/* SPDX-License-Identifier: MIT */
/* answer.h: the API's answers as JSON: a whole answer, or the events of a stream. */
#ifndef SERVER_ANSWER_H
#define SERVER_ANSWER_H

#include <jansson.h>
#include <time.h>

#include "server/openai.h"
#include "server/reply.h"

/* What every answer and event of one request begins with. */
struct answer_head {
    const struct llama3_model *model;
    bool chat;
    const char *model_id;
    char id[48];
    time_t created;
    bool with_usage; /* a stream that ends with its usage; earlier events say "usage": null */
};

/* A generated token's logprobs until they are sent. As JSON they would take ten times as much. */
struct answer_record {
    double log_sum; /* log of the sum of all e^logit */
    struct answer_likely {
        int32_t token;
        float logit;
    } list[1 + MAX_TOP_LOGPROBS]; /* the token itself, then the likeliest, best first */
};

/* Fills a record with the `top` likeliest tokens. Returns how many of its bytes are used: a buffer
 * holds the used bytes of a choice's records one after another. */
size_t answer_record(const struct llama3_model *model, int32_t token, const float *logits,
                     size_t top, struct answer_record *record);

/* The records of a run of tokens. */
struct answer_logprobs {
    size_t top;
    const struct buf *records;
};

struct answer_choice {
    size_t index;
    const struct buf *thoughts, *text;
    const struct answer_logprobs *logprobs; /* NULL: not asked for */
    const struct llama3_result *result;
    const struct buf *calls; /* of tools, as the API's JSON without the brackets; empty: none */
};

/* A whole answer. */
void answer_whole(const struct answer_head *head, const struct answer_choice *choices, size_t n,
                  struct reply *reply);

/* Events, each appended to out: the role; a piece of text, `offset` bytes into the answer, or of a
 * chat's thoughts, with the logprobs of its tokens (may be NULL); the end of a choice; the usage.
 */
void answer_role(const struct answer_head *head, size_t index, struct buf *out);
void answer_piece(const struct answer_head *head, size_t index, const char *text, size_t n,
                  size_t offset, const struct answer_logprobs *logprobs, struct buf *out);
void answer_thought(const struct answer_head *head, size_t index, const char *text, size_t n,
                    const struct answer_logprobs *logprobs, struct buf *out);
/* Of a call: that it begins, or more of its arguments. */
void answer_call(const struct answer_head *head, size_t index, size_t call, const char *name,
                 struct buf *out);
void answer_arguments(const struct answer_head *head, size_t index, size_t call, const char *text,
                      size_t n, struct buf *out);
void answer_end(const struct answer_head *head, size_t index, const struct llama3_result *result,
                struct buf *out);
void answer_usage(const struct answer_head *head, const struct answer_choice *choices, size_t n,
                  struct buf *out);

/* The same for a whole answer's `calls`. Each call ends with answer_call_end(). */
void answer_add_call(const struct answer_head *head, size_t index, size_t call, const char *name,
                     struct buf *out);
void answer_add_arguments(const char *text, size_t n, struct buf *out);
void answer_call_end(struct buf *out);

/* Appends a value, and drops the caller's reference to it. */
void answer_json(json_t *value, struct buf *out);

/* Tokens per second; 0 if no time has passed. */
double answer_rate(size_t n, double seconds);

#endif
