/*
 * answer.h: what the API answers, as JSON: a whole answer, or the events of a stream.
 */
#ifndef SERVER_ANSWER_H
#define SERVER_ANSWER_H

#include <jansson.h>
#include <time.h>

#include "server/openai.h"

/* What all that is said about one request begins with. */
struct answer_head {
    const struct llama3_model *model;
    bool chat;
    const char *model_id;
    char id[48];
    time_t created;
    bool with_usage; /* a stream with a usage chunk: the others then say "usage": null */
};

struct answer_choice {
    size_t index;
    const struct buf *text;
    json_t *logprobs; /* a list of token_logprob(), or NULL */
    const struct llama3_result *result;
};

/* The probability of a token by its logits, and the `top` likeliest ones', in the form of a chat;
 * a completion's is made of it at the end. NULL: no memory. */
json_t *answer_logprob(const struct llama3_model *model, int32_t token, const float *logits,
                       size_t top);

/* Each appends to out, whose failure sticks. */
void answer_whole(const struct answer_head *head, const struct answer_choice *choices, size_t n,
                  struct buf *out);
/* Events: the role alone; a piece of text, `offset` bytes after the answer's beginning, with the
 * logprobs of its tokens (taken over, may be NULL); the end of a choice; the usage. */
void answer_role(const struct answer_head *head, size_t index, struct buf *out);
void answer_piece(const struct answer_head *head, size_t index, const char *text, size_t n,
                  size_t offset, json_t *logprobs, struct buf *out);
void answer_end(const struct answer_head *head, size_t index, const struct llama3_result *result,
                struct buf *out);
void answer_usage(const struct answer_head *head, const struct answer_choice *choices, size_t n,
                  struct buf *out);

/* Appends a value, which is taken over. */
void answer_json(json_t *value, struct buf *out);

#endif
