/* SPDX-License-Identifier: MIT */
/*
 * engine.h: the scheduler, a thread that runs passes. A session submits a job and waits; the rows
 * of jobs that wait together share a pass, long prompts in chunks between the others' single rows.
 * Thread-safe throughout.
 */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include <stdatomic.h>

#include "engine/forward.h"
#include "engine/saver.h"

/* A generating session: the scheduler waits briefly for its next token, so that rows share a pass.
 * Zero to begin with. */
struct engine_stream {
    uint64_t awaited; /* the scheduler's, under its lock: the last wait for it; 0: none */
};

struct engine;

/* Takes the forward over: engine_close closes it. limits as given to forward_open. On failure the
 * forward is closed too. */
struct engine *engine_open(struct forward *forward, size_t vocab_size,
                           const struct forward_options *limits, struct llama3_error *err);
void engine_close(struct engine *engine);

size_t engine_vocab_size(const struct engine *engine);
size_t engine_context(const struct engine *engine);

/* Sequences, from any thread. */
struct sequence *engine_sequence(struct engine *engine, struct llama3_error *err);
struct sequence *engine_fork(struct engine *engine, struct sequence *sequence, size_t n,
                             struct llama3_error *err);
void engine_truncate(struct engine *engine, struct sequence *sequence, size_t n);
void engine_release(struct engine *engine, struct sequence *sequence);
/* As sequence_export(), and sequence_import() into pages that engine_reserve() made. */
int engine_export(struct engine *engine, struct sequence *sequence, size_t layer, size_t from,
                  size_t to, void *k, void *v, struct llama3_error *err);
int engine_import(struct engine *engine, struct sequence *sequence, size_t layer, size_t from,
                  size_t to, const void *k, const void *v, struct llama3_error *err);
int engine_reserve(struct engine *engine, struct sequence *sequence, size_t n,
                   struct llama3_error *err);
uint64_t engine_kv_bytes(struct engine *engine);           /* held by all sequences */
uint64_t engine_copied_bytes(const struct engine *engine); /* see load.h */

/* The prefix cache (prefix.h) may hold sequences while all KV takes at most so many bytes; 0, as it
 * begins: none. It also gives way before a sequence finds no memory. */
void engine_keep_prefixes(struct engine *engine, uint64_t bytes);
uint64_t engine_prefix_bytes(struct engine *engine);
/* As prefix_take(), with the scales of a sequence. */
struct sequence *engine_take_prefix(struct engine *engine, int owner, struct sequence *like,
                                    const int32_t *tokens, size_t n, size_t more_than,
                                    size_t *length);
/* As engine_release(), of a sequence whose n tokens the prefix cache may keep. */
void engine_retire(struct engine *engine, int owner, struct sequence *sequence,
                   const int32_t *tokens, size_t n);
/* The same of a copy; the sequence stays as it is. */
void engine_retire_copy(struct engine *engine, int owner, struct sequence *sequence,
                        const int32_t *tokens, size_t n);

/* From now on whole pages of jobs with a chain go to the store, which must outlive the engine. */
int engine_keep_in(struct engine *engine, struct kv_store *store, struct llama3_error *err);
/* As sequence_put_page(); prefixes give way. */
int engine_put_page(struct engine *engine, struct sequence *sequence, size_t page,
                    struct kv_lent *lent, struct llama3_error *err);
size_t engine_page_bytes(const struct engine *engine);       /* as forward_page_bytes() */
const char *engine_page_layout(const struct engine *engine); /* as forward_page_layout() */

/* n >= 1 tokens of the vocabulary, at positions position.. of a sequence and of the context. */
struct engine_job {
    struct sequence *sequence;
    size_t position;
    const int32_t *tokens; /* [n] */
    size_t n;
    size_t n_logits;              /* 1..n: logits are wanted after the last so many tokens */
    float *logits;                /* [n_logits][vocab_size] */
    struct engine_stream *stream; /* NULL: no token follows at once */
    struct kv_chain *chain;       /* of the sequence's pages, to be kept; then its tokens before
                                     position lie before `tokens`. NULL: none */
    const atomic_bool *cancel;    /* may become true at any time: ends with LLAMA3_ECANCELED */
    void (*on_progress)(void *arg, size_t done); /* may be NULL; called on the waiting thread */
    void *arg;
    void (*meanwhile)(void *arg); /* may be NULL; called once on the waiting thread, beside the
                                     pass */
    void *meanwhile_arg;
};

/* Evaluates a job; on failure the sequence holds its positions below job->position as before.
 * Logits that are not finite are a failure of the jobs that wanted them. */
int engine_run(struct engine *engine, const struct engine_job *job, struct llama3_error *err);

/* The stream has ended: the scheduler waits for no further token. */
void engine_leave(struct engine *engine, struct engine_stream *stream);

#endif
