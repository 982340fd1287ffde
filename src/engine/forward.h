/* SPDX-License-Identifier: MIT */
/*
 * engine: the network's layer sequence, sequences of tokens, and the thread that runs them.
 *
 * forward.h: one pass. The sequence of layers exists once, in forward.c, as stages; a plan says
 * which backend runs which span of stages (placement.h makes one), and activations are carried
 * over the borders.
 */
#ifndef ENGINE_FORWARD_H
#define ENGINE_FORWARD_H

#include <stdatomic.h>

#include "engine/stages.h"

struct forward_options {
    struct backend_options backend;
    size_t max_rows, max_logit_rows, max_seqs, max_context;
    enum llama3_kv_type kv_type;
    /* While it is opened: of total bytes of matrices, the backends have taken done; non-zero ends
     * it with LLAMA3_ECANCELED. NULL: nobody wants to know. */
    int (*on_progress)(void *arg, uint64_t done, uint64_t total);
    void *arg;
};

struct forward;

/* What a backend that holds the KV of n_kv_layers layers is opened with, but for its frequencies.
 */
struct backend_shape forward_shape(const struct config *config,
                                   const struct forward_options *options, size_t n_kv_layers);

/* plan NULL: everything on the CPU. The model must outlive it. */
struct forward *forward_open(const struct model *model, const struct plan *plan,
                             const struct forward_options *options, struct llama3_error *err);
void forward_close(struct forward *forward);

/* "cpu (avx512)", or of several backends "cpu (avx512) and cuda (NVIDIA H200)", and what holds of
 * their exactness. */
const char *forward_describe(const struct forward *forward, const char **exactness);
/* Of one of the plan's backends. */
const char *forward_describe_backend(const struct forward *forward, size_t backend);
/* The model's, for errors about what it computes. */
const char *forward_path(const struct forward *forward);
/* Pages of all sequences, in bytes; serialized like the calls on sequences. */
uint64_t forward_kv_bytes(const struct forward *forward);

/* A sequence: KV pages on every backend whose stages attend. Calls are serialized by the caller
 * (see backend.h). */
struct sequence;
struct sequence *sequence_open(struct forward *forward, struct llama3_error *err);
void sequence_close(struct forward *forward, struct sequence *sequence);
int sequence_reserve(struct forward *forward, struct sequence *sequence, size_t from, size_t to,
                     struct llama3_error *err);
void sequence_truncate(struct forward *forward, struct sequence *sequence, size_t n);
struct sequence *sequence_fork(struct forward *forward, struct sequence *sequence, size_t n,
                               struct llama3_error *err);

/* K and V of a layer as stored, at the positions [from, to), as kv_export and kv_import of
 * backend.h have them; sequence_reserve before an import. */
int sequence_export(struct forward *forward, struct sequence *sequence, size_t layer, size_t from,
                    size_t to, void *k, void *v, struct llama3_error *err);
int sequence_import(struct forward *forward, struct sequence *sequence, size_t layer, size_t from,
                    size_t to, const void *k, const void *v, struct llama3_error *err);

/* One pass over n_rows rows whose seq indexes seqs. logits: [rows with wants_logits][vocab_size].
 * canceled (may be NULL) is looked at between layers when the batch is large; once true the pass
 * ends with LLAMA3_ECANCELED and what it wrote to reserved pages is meaningless. So it is, with
 * LLAMA3_EIO, in every pass after weights were read that are gone (model_check_files()). */
int forward_run(struct forward *forward, const struct batch_row *rows, size_t n_rows,
                struct sequence *const *seqs, size_t n_seqs, float *logits,
                bool (*canceled)(void *arg), void *arg, struct llama3_error *err);

/* Memory that is going to be given as logits again and again: a device fills it faster. It must
 * outlive the forward. */
void forward_pin(const struct forward *forward, float *logits, size_t n);

/* What the linears of a layer read; INPUT_COUNT: its end. */
enum layer_input { INPUT_QKV, INPUT_OUT, INPUT_GATE_UP, INPUT_DOWN, INPUT_COUNT };

size_t layer_input_cols(const struct config *config, enum layer_input input);

/* One step through the layer of a forward on one backend whose model has no other: n_rows rows of
 * one sequence go from the input before this one to it, so that who calls can look at it, and
 * choose the linears that read it only then. x: [n_rows][dim] the residual stream; the input of the
 * attention, and at the end the layer's output, follow from it. in: [n_rows][the widest input] the
 * input before, then this one; at the end its contents have no meaning. Pages are reserved by
 * sequence_reserve(). */
int forward_step(struct forward *forward, const struct batch_row *rows, size_t n_rows,
                 struct sequence *sequence, enum layer_input input, float *x, float *in,
                 struct llama3_error *err);

/* The head after such a layer: logits of n_rows rows of the residual stream x, [n_rows][dim], to
 * [n_rows][vocab_size]. Pages are reserved for them as for a step. */
int forward_head(struct forward *forward, size_t n_rows, struct sequence *sequence, const float *x,
                 float *logits, struct llama3_error *err);

/* RoPE frequencies of a configuration: theta^(-2i/head_dim), scaled. out: [head_dim/2]. */
void rope_frequencies(const struct config *config, float *out);

#endif
