/* SPDX-License-Identifier: MIT */
/*
 * evaluate.h: how well a model predicts a text, and how far its predictions are from another's.
 *
 * The text is read in windows, each from an empty context, of which the neighbours share a token,
 * so that every token but the first is predicted once; where the checkpoint starts raw text with
 * BOS, so does every window, and the first token is predicted too. The logits of a few rows at a
 * time are all that is ever held.
 *
 * Raw logits, for who wants to judge them elsewhere, come in the same pieces.
 */
#ifndef ENGINE_EVALUATE_H
#define ENGINE_EVALUATE_H

#include "base/tokens.h"
#include "engine/placement.h"

enum { EVALUATE_WINDOW = 512, EVALUATE_MIN_WINDOW = 2 };

struct evaluate_options {
    int threads;   /* >= 1 */
    size_t window; /* tokens, BOS included; 0: EVALUATE_WINDOW, or the model's context if less.
                      Of evaluate_logits() the most it takes; 0: the model's context */
    enum llama3_kv_type kv_type;
    struct placement_request place; /* of each model: what is asked of a device; the rest is zero */
    void (*on_progress)(void *arg, size_t done, size_t total); /* predictions; may be NULL */
    bool (*canceled)(void *arg); /* once true, it ends with LLAMA3_ECANCELED; may be NULL */
    void *arg;
};

struct evaluate_result {
    size_t predictions; /* tokens predicted */
    double perplexity;  /* of the model */
    /* Of a comparison; else zero. KL(reference || model), in nats: */
    double reference_perplexity;
    double mean_kl, p99_kl, max_kl; /* p99: 99 of 100 predictions have at most this */
    double top1;                    /* share of predictions whose likeliest token is the same */
    char gpu_note[sizeof((struct placement *)0)->note]; /* why no device is used, or "" */
};

/* The least that a text needs: the first token is predicted only where BOS comes before it. */
size_t evaluate_min_tokens(const struct model *model);

/* n tokens of a text, without BOS, no fewer than that. reference: NULL for the perplexity alone,
 * else a model of the same vocabulary. All sums are f64, in the order of the text. */
int evaluate(const struct model *reference, const struct model *model, const int32_t *tokens,
             size_t n, const struct evaluate_options *options, struct evaluate_result *result,
             struct llama3_error *err);

/* The logits after each of n >= 1 tokens, which are read as they are, without BOS. on_rows takes
 * them in order, [n_rows][vocab_size] at a time; -1 from it, with err filled, ends the work. Our
 * own kernels compute, so that no logit depends on where the pieces end. Of result, only gpu_note
 * and predictions, which is n, are set. */
int evaluate_logits(const struct model *model, const int32_t *tokens, size_t n,
                    const struct evaluate_options *options,
                    int (*on_rows)(void *arg, const float *logits, size_t n_rows,
                                   struct llama3_error *err),
                    void *arg, struct evaluate_result *result, struct llama3_error *err);

/* The tokens of a text as evaluate() takes them. */
int evaluate_tokenize(const struct model *model, const char *text, size_t length,
                      struct tokens *out, struct llama3_error *err);

/* Whether two models mean the same by every id; an error that names the first difference. */
int evaluate_same_vocabulary(const struct model *a, const struct model *b,
                             struct llama3_error *err);

#endif
