/* SPDX-License-Identifier: MIT */
/*
 * openai.h: the API's requests, parsed from JSON with every field checked, and its errors. A field
 * that would change the answer and isn't known is an error that names it. Fields that change
 * nothing are ignored.
 */
#ifndef SERVER_OPENAI_H
#define SERVER_OPENAI_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "llama3.h"
#include "server/constraints.h"

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
/* Makes an error of the library one of the API, and returns -1. Clients must not see paths: the
 * model's becomes its id, and of another file's only the last name stays. */
int api_error_from(struct api_error *err, const struct llama3_error *from, const char *model_path,
                   const char *model_id);
/* Appends {"error": ...}. */
void api_error_print(const struct api_error *err, struct buf *out);

enum api_kind {
    API_CHAT = 1,       /* /v1/chat/completions */
    API_COMPLETION = 2, /* /v1/completions */
    API_TEMPLATE = 4,   /* /apply-template: only messages, and chat_template_kwargs */
    API_TOKENIZE = 8    /* /tokenize: only a prompt, and add_special */
};

struct api_request {
    enum api_kind kind;
    json_t *root;                    /* holds the texts */
    struct llama3_message *messages; /* [n_messages] */
    size_t n_messages;
    struct buf contents; /* of messages that came in parts, and fields for the template as JSON */
    size_t template_memory;        /* bytes that a chat's template may take */
    struct buf template_arguments; /* a JSON object; empty: none */
    struct buf tools;              /* a JSON array; empty: none */
    struct buf callable;           /* the same of those that may be called; empty: all */
    bool one_call;                 /* at most */
    const char *prompt;            /* [prompt_length]; NULL if it came as tokens */
    size_t prompt_length;
    int32_t *tokens; /* [n_tokens] */
    size_t n_tokens;

    struct llama3_sampling *sampling; /* without the seed */
    uint64_t seed;
    bool has_seed;
    size_t max_tokens; /* 0: not given */
    size_t n;
    json_t *model; /* a string; NULL: not given */
    json_t *lora;  /* a list of objects, each with a name or an id, and perhaps a scale; NULL */
    json_t *stop_value; /* holds the strings */
    const char *stop[MAX_STOPS];
    size_t n_stop;
    struct constraint_request constraint; /* of the answer's text */
    bool stream, include_usage;
    bool logprobs;
    size_t top_logprobs;
    bool continue_last; /* the answer goes on with the last message, which is the assistant's */
    bool add_special;   /* BOS goes in front */
};

/* Parses a body. defaults: the model's; NULL for a request that doesn't generate. On failure err is
 * filled and nothing is held. */
int api_request_parse(struct api_request *request, enum api_kind kind, const char *body, size_t n,
                      const struct llama3_sampling *defaults, size_t vocab_size,
                      struct api_error *err);
/* The tokens of its messages, as llama3_apply_template() makes them. defaults: what holds where the
 * request says nothing else; its memory comes on top of the request's. */
int api_request_render(const struct api_request *request, const struct llama3_model *model,
                       const struct llama3_template_options *defaults, int32_t **tokens,
                       size_t *n_tokens, struct llama3_error *err);
/* Frees messages and prompt once they are tokens; the rest stays. */
void api_request_free_texts(struct api_request *request);
void api_request_free(struct api_request *request);

/* The most memory in bytes that parsing a body, rendering a chat and tokenizing takes. */
uint64_t api_request_cost(enum api_kind kind, const char *body, size_t n,
                          const struct llama3_template_options *defaults);

#endif
