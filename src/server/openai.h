/* SPDX-License-Identifier: MIT */
/*
 * openai.h: the API's requests from JSON, every field checked, and its answers as JSON. What would
 * change an answer and isn't known is an error that names it; what can't is ignored.
 */
#ifndef SERVER_OPENAI_H
#define SERVER_OPENAI_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "llama3.h"

enum { MAX_CHOICES = 8, MAX_STOPS = 16, MAX_TOP_LOGPROBS = 20, MAX_BIASES = 1024 };

/* An error as the client reads it. */
struct api_error {
    int status;       /* of HTTP */
    const char *type; /* NULL: by the status */
    const char *code; /* NULL: none */
    char param[64];   /* the field, "": none */
    struct llama3_error error;
};

/* Fills it and returns -1. */
int api_error_set(struct api_error *err, int status, const char *code, const char *param,
                  const char *format, ...) __attribute__((format(printf, 5, 6)));
/* An error of the library's as one of the API's. The file that it begins with is no business of
 * clients: the model is called by its id, of another file the last name is left. */
int api_error_from(struct api_error *err, const struct llama3_error *from, const char *model_path,
                   const char *model_id);
/* Appends {"error": ...}. */
void api_error_print(const struct api_error *err, struct buf *out);

struct api_request {
    json_t *root; /* holds the texts */
    bool chat;
    struct llama3_message *messages; /* [n_messages] of a chat */
    size_t n_messages;
    struct buf contents; /* of those that came in parts */
    const char *prompt;  /* of a completion, or its tokens */
    size_t prompt_length;
    int32_t *tokens; /* [n_tokens] */
    size_t n_tokens;

    struct llama3_sampling *sampling; /* but for the seed */
    uint64_t seed;
    bool has_seed;
    size_t max_tokens; /* 0: not given */
    size_t n;
    json_t *stop_value; /* holds the strings */
    const char *stop[MAX_STOPS];
    size_t n_stop;
    bool stream, include_usage;
    bool logprobs;
    size_t top_logprobs;
    bool add_special; /* of /tokenize: BOS goes in front */
};

/* Parses the body of /v1/chat/completions (chat) or /v1/completions. defaults: of the model. On
 * failure err is filled and nothing is held. */
int api_request_parse(struct api_request *request, bool chat, const char *body, size_t n,
                      const struct llama3_sampling *defaults, size_t vocab_size,
                      struct api_error *err);
/* Frees messages and prompt once they are tokens; the rest stays. */
void api_request_free_texts(struct api_request *request);
void api_request_free(struct api_request *request);

/* Bytes of memory that reading a body into a request, and its texts into tokens, takes at most. */
uint64_t api_request_cost(const char *body, size_t n);

/* The messages of /apply-template, and the text (as `prompt`) of /tokenize. */
int api_messages_parse(struct api_request *request, const char *body, size_t n,
                       struct api_error *err);
int api_text_parse(struct api_request *request, const char *body, size_t n, struct api_error *err);

#endif
