/* SPDX-License-Identifier: MIT */
/*
 * engine: the network's layer sequence, sequences of tokens, and the thread that runs them.
 *
 * forward.h: one pass. The sequence of layers exists once, in forward.c, as stages. A plan says
 * which backend runs which span of stages (placement.h makes one). Activations are copied from one
 * backend to the next where a span ends.
 */
#ifndef ENGINE_FORWARD_H
#define ENGINE_FORWARD_H

#include <stdatomic.h>

#include "engine/stages.h"

enum { MAX_LORAS = 32 };

struct forward_options {
    struct backend_options backend;
    size_t max_rows, max_logit_rows, max_seqs, max_context;
    enum llama3_kv_type kv_type; /* not LLAMA3_KV_AUTO */
    enum llama3_load load;
    const struct lora *loras; /* [n_loras] must outlive it; a sequence begins with their scales */
    size_t n_loras;           /* at most MAX_LORAS */
    /* While it is opened: bytes of matrices that the backends have taken, of all. Non-zero ends it
     * with LLAMA3_ECANCELED. May be NULL. */
    int (*on_progress)(void *arg, uint64_t done, uint64_t total);
    void *arg;
};

struct forward;

/* The shape of a backend that holds the KV of n_kv_layers layers, without RoPE's frequencies. */
struct backend_shape forward_shape(const struct config *config,
                                   const struct forward_options *options, size_t n_kv_layers);

/* Bytes of the keys and values of one position in a layer. */
static inline uint64_t kv_position_bytes(const struct config *config, enum llama3_kv_type type)
{
    return (uint64_t)config->n_kv_heads *
           (kv_key_bytes(type, config->head_dim) + kv_value_bytes(type, config->head_dim));
}

/* plan NULL: everything on the CPU. The model must outlive it. */
struct forward *forward_open(const struct model *model, const struct plan *plan,
                             const struct forward_options *options, struct llama3_error *err);
void forward_close(struct forward *forward);

/* "cpu (avx512)", or of several backends "cpu (avx512) and cuda (NVIDIA H200)"; *exactness: a
 * sentence on which results are bit-identical. */
const char *forward_describe(const struct forward *forward, const char **exactness);
/* Of one of the plan's backends. */
const char *forward_describe_backend(const struct forward *forward, size_t backend);
/* The model's path, for errors. */
const char *forward_path(const struct forward *forward);
/* What it does with weights that are used where their file is mapped. */
struct load *forward_load(const struct forward *forward);
/* Bytes of the KV pages of all sequences; serialized like the calls on sequences. */
uint64_t forward_kv_bytes(const struct forward *forward);

/* A sequence: KV pages on every backend whose stages attend. Calls are serialized by the caller
 * (see backend.h). */
struct sequence;
struct sequence *sequence_open(struct forward *forward, struct llama3_error *err);
void sequence_close(struct forward *forward, struct sequence *sequence);
/* Bytes that sequence_reserve() would add to forward_kv_bytes(); sequence NULL: of an empty one. */
uint64_t sequence_missing(const struct forward *forward, const struct sequence *sequence,
                          size_t from, size_t to);
int sequence_reserve(struct forward *forward, struct sequence *sequence, size_t from, size_t to,
                     struct llama3_error *err);
void sequence_truncate(struct forward *forward, struct sequence *sequence, size_t n);
struct sequence *sequence_fork(struct forward *forward, struct sequence *sequence, size_t n,
                               struct llama3_error *err);
/* Both hold the same tokens at their first n positions: whole pages of these become those of
 * `from`, so that they are held once. */
void sequence_share(struct forward *forward, struct sequence *sequence, const struct sequence *from,
                    size_t n);

/* The scales of the adapters in a sequence: [n_loras]. A fork has the same. Set while it has no
 * positions. */
float *sequence_scales(struct sequence *sequence);

/* K and V of a layer as stored, at the positions [from, to), as kv_export and kv_import of
 * backend.h have them; sequence_reserve before an import. */
int sequence_export(struct forward *forward, struct sequence *sequence, size_t layer, size_t from,
                    size_t to, void *k, void *v, struct llama3_error *err);
int sequence_import(struct forward *forward, struct sequence *sequence, size_t layer, size_t from,
                    size_t to, const void *k, const void *v, struct llama3_error *err);

/* Pages of all layers as they are kept outside (kv_store.h): of a single backend in the host's
 * memory as they lie there, which is said in `layout` of forward_page_layout(); else as
 * sequence_export() has them, layer by layer. */
size_t forward_page_bytes(const struct forward *forward);
const char *forward_page_layout(const struct forward *forward);
/* Where a page's bytes are, or NULL: sequence_copy_page(). The page has tokens at all positions,
 * and nobody writes it. */
const void *sequence_page(const struct forward *forward, const struct sequence *sequence,
                          size_t page);
int sequence_copy_page(struct forward *forward, struct sequence *sequence, size_t page, void *out,
                       struct llama3_error *err);
/* The page, of those that the sequence has or the next one, becomes that of `lent`, which then is
 * the sequence's; or, where memory can't be lent, a copy, and the memory is released. After a
 * failure the sequence has the pages before it. */
int sequence_put_page(struct forward *forward, struct sequence *sequence, size_t page,
                      struct kv_lent *lent, struct llama3_error *err);
/* -1 if lent memory is no longer what it was. */
int sequence_check(const struct forward *forward, const struct sequence *sequence,
                   struct llama3_error *err);

/* One pass over n_rows rows whose seq indexes seqs. logits: [rows with wants_logits][vocab_size].
 * canceled (may be NULL) is polled between layers when the batch is large; once it is true, the
 * pass ends with LLAMA3_ECANCELED. Once weights could not be read (model_check_files()), this and
 * every later pass ends with LLAMA3_EIO. Reserved pages then hold garbage. */
int forward_run(struct forward *forward, const struct batch_row *rows, size_t n_rows,
                struct sequence *const *seqs, size_t n_seqs, float *logits,
                bool (*canceled)(void *arg), void *arg, struct llama3_error *err);

/* Pins memory that later passes get as logits, so that a device fills it faster. It must outlive
 * the forward. */
void forward_pin(const struct forward *forward, float *logits, size_t n);

/* The inputs of a layer's linears; INPUT_COUNT: the layer's end. */
enum layer_input { INPUT_QKV, INPUT_OUT, INPUT_GATE_UP, INPUT_DOWN, INPUT_COUNT };

size_t layer_input_cols(const struct config *config, enum layer_input input);

/* A step through a model of one layer, on one backend: n_rows rows of one sequence go from the
 * previous input to this one. The caller can look at an input before it chooses the linears that
 * read it. x: [n_rows][dim], the residual stream: read at the first step, the layer's output after
 * the last. in: [n_rows][widest input], the previous input before and this one after; garbage
 * after the last step. sequence_reserve() first. */
int forward_step(struct forward *forward, const struct batch_row *rows, size_t n_rows,
                 struct sequence *sequence, enum layer_input input, float *x, float *in,
                 struct llama3_error *err);

/* The head after such a layer: x, [n_rows][dim], to logits, [n_rows][vocab_size].
 * sequence_reserve() first. */
int forward_head(struct forward *forward, size_t n_rows, struct sequence *sequence, const float *x,
                 float *logits, struct llama3_error *err);

/* RoPE frequencies of a configuration: theta^(-2i/head_dim), scaled. out: [head_dim/2]. */
void rope_frequencies(const struct config *config, float *out);
/* Divisors that make them of the plain frequencies; false where keys of GGUF say the scaling
 * (gguf_says_scaling()). The quotient is the frequency to the bit, wherever there is such a
 * divisor. out: [head_dim/2]. */
bool rope_factors(const struct config *config, float *out);

#endif
