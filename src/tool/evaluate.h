/* SPDX-License-Identifier: MIT */
/*
 * evaluate.h: how well a model predicts a text, and how far its predictions are from another's.
 *
 * The text is read in windows as long as the context, each from an empty one, of which the
 * neighbours share a token, so that every token but the first is predicted once; where the
 * checkpoint starts raw text with BOS, so does every window, and the first token is predicted too.
 * The logits of a few rows at a time are all that is ever held.
 *
 * Raw logits, to be judged elsewhere, come in the same pieces.
 */
#ifndef TOOL_EVALUATE_H
#define TOOL_EVALUATE_H

#include "base/tokens.h"
#include "llama3.h"

/* Tokens of a window, and rows of one pass: logits of so many are held twice for each model, with
 * Llama 3's vocabulary 33 MB each time. */
enum { EVALUATE_WINDOW = 512, EVALUATE_MIN_WINDOW = 2, EVALUATE_CHUNK = 64 };

struct evaluate_result {
    size_t predictions; /* tokens predicted */
    double perplexity;  /* of the model */
    /* Of a comparison; else zero. KL(reference || model), in nats: */
    double reference_perplexity;
    double mean_kl, p99_kl, max_kl; /* p99: 99 of 100 predictions have at most this */
    double top1;                    /* share of predictions whose likeliest token is the same */
};

/* Opens a model to be evaluated: by these options, with a context of EVALUATE_WINDOW tokens, or the
 * model's if that is less, where they name none. */
struct llama3_model *evaluate_open(const char *path, const struct llama3_model_options *options,
                                   struct llama3_error *err);
/* Its tokenizer alone. */
struct llama3_model *evaluate_open_vocabulary(const char *path, struct llama3_error *err);

/* Appends the tokens of a text, as of llama3_tokenize(). */
int evaluate_tokenize(const struct llama3_model *model, const char *text, size_t length,
                      bool with_bos, struct tokens *tokens, struct llama3_error *err);
/* The least that a text needs: the first token is predicted only where BOS comes before it. */
size_t evaluate_min_tokens(const struct llama3_model *model);

/* Both of evaluate_open(); tokens: n of a text, without BOS. reference: NULL for the perplexity
 * alone, else a model of the same vocabulary. All sums are f64, in the order of the text.
 * on_progress (or NULL): of total predictions, done are read. */
int evaluate(struct llama3_model *reference, struct llama3_model *model, const int32_t *tokens,
             size_t n, void (*on_progress)(size_t done, size_t total),
             struct evaluate_result *result, struct llama3_error *err);

/* The logits after each of n >= 1 tokens, which a new session reads as they are, without BOS.
 * on_rows takes them in order, [n_rows][vocab_size] at a time; -1 from it, with err filled, ends
 * the work. */
int evaluate_logits(const struct llama3_model *model, struct llama3_session *session,
                    const int32_t *tokens, size_t n,
                    int (*on_rows)(void *arg, const float *logits, size_t n_rows,
                                   struct llama3_error *err),
                    void *arg, struct llama3_error *err);

#endif
