/* SPDX-License-Identifier: MIT */
/*
 * engine.c: jobs in, batches out. Which jobs share a pass is decided here and can change no
 * result: a row's logits depend on its own sequence alone (backend.h).
 */
#include "engine/engine.h"

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/guard.h"
#include "base/size.h"
#include "engine/load.h"
#include "engine/prefix.h"

/* While sessions generate, prompts may make a pass at most this much longer, so that no stream
 * stalls longer. They get MIN_CHUNK rows in any case, since smaller chunks are slow. (An int4 8B on
 * two cores: 16 rows take 0.35 s, at 0.9 of the speed of 256.) */
static const double MAX_STALL = 0.1; /* seconds */
enum { MIN_CHUNK = 16 };

/* Weights are copied (load.h) at most so many bytes at a time: a request waits for 6 ms of it. It
 * begins when there is nothing to do, or after so many passes, since a short answer is done before
 * copies pay. */
enum { LOAD_BYTES = 32 << 20, LOAD_AFTER = 32 };
static const double LOAD_LOOK = 0.05; /* seconds, until the files have been read */

struct waiting {
    const struct engine_job *job;
    size_t done;  /* tokens evaluated */
    size_t taken; /* of the pass that runs */
    bool spoiled; /* that pass made logits that are not finite: err says which */
    bool finished;
    int status;
    struct llama3_error err;
    pthread_cond_t advanced; /* wakes the session */
    struct waiting *next;
};

struct engine {
    struct forward *forward;
    struct forward_options limits;
    size_t vocab_size;
    pid_t process; /* that opened it */

    pthread_t thread;
    pthread_mutex_t lock;     /* the queue, `closing`, streams, and every waiting's fields */
    pthread_cond_t submitted; /* wakes the scheduler */
    pthread_mutex_t kv_lock;  /* serializes what changes sequences, and the prefix cache */
    struct prefix_index *prefixes;
    uint64_t prefix_limit; /* of all KV, while prefixes are held */
    struct saver *saver;   /* NULL: nothing is kept in files */
    struct waiting *first; /* the queue, in the order of turns */
    size_t n_awaited;      /* streams of the last pass whose next token is still awaited */
    uint64_t wait;         /* number of the wait for them, from 1 */
    bool closing;

    /* The scheduler's alone: */
    struct batch_row *rows;   /* [max_rows] */
    struct waiting **in_pass; /* [max_seqs] */
    struct sequence **seqs;   /* [max_seqs] */
    float *logits;            /* [max_logit_rows][vocab_size] */
    size_t n_rows, n_seqs, n_logits;
    size_t n_passes;
    enum load_state load;
    bool missed;         /* the last wait ended without some stream */
    double pass_seconds; /* of the last one */
    double row_seconds;  /* of a prompt's row, from the last passes; 0: not known yet */
};

static bool job_canceled(const struct engine_job *job)
{
    return atomic_load_explicit(job->cancel, memory_order_relaxed);
}

/* True once all jobs of the pass are canceled. */
static bool pass_canceled(void *arg)
{
    struct engine *engine = arg;
    for (size_t s = 0; s < engine->n_seqs; s++)
        if (!job_canceled(engine->in_pass[s]->job))
            return false;
    return true;
}

/* ---- choosing rows --------------------------------------------------------------------- */

/* The first of a job's tokens whose logits are wanted. */
static size_t first_logits(const struct engine_job *job)
{
    return job->n - job->n_logits;
}

/* Adds up to `most` of a job's next tokens to the pass. */
static void take_rows(struct engine *engine, struct waiting *w, size_t most)
{
    const struct engine_job *job = w->job;
    size_t n = job->n - w->done, first = first_logits(job);
    size_t room = engine->limits.max_rows - engine->n_rows;
    size_t logit_room = engine->limits.max_logit_rows - engine->n_logits;

    logit_room += first > w->done ? first - w->done : 0; /* rows that need none come before */
    n = n < most ? n : most;
    n = n < room ? n : room;
    n = n < logit_room ? n : logit_room;
    w->taken = 0;
    if (n == 0 || engine->n_seqs == engine->limits.max_seqs)
        return;

    for (size_t i = 0; i < n; i++) {
        size_t at = w->done + i;
        engine->rows[engine->n_rows++] = (struct batch_row){
            .token = job->tokens[at],
            .position = (int32_t)(job->position + at),
            .seq = (int32_t)engine->n_seqs,
            .wants_logits = at >= first,
        };
        engine->n_logits += at >= first;
    }
    w->taken = n;
    engine->seqs[engine->n_seqs] = job->sequence;
    engine->in_pass[engine->n_seqs++] = w;
}

static bool is_decode(const struct waiting *w)
{
    return w->job->n - w->done == 1;
}

/* How many rows prompts may have in this pass, beside the single rows. */
static size_t prompt_room(const struct engine *engine)
{
    size_t room = engine->limits.max_rows - engine->n_rows, short_of = MIN_CHUNK;
    if (engine->n_rows == 0 && !engine->missed)
        return room;
    if (engine->row_seconds > 0 && engine->row_seconds * MIN_CHUNK < MAX_STALL) {
        double rows = MAX_STALL / engine->row_seconds;
        short_of = rows < (double)room ? (size_t)rows : room;
    }
    return short_of < room ? short_of : room;
}

/* Single rows come first, so that no stream waits for a long prompt. Prompts share the rest of the
 * pass evenly. */
static void choose_rows(struct engine *engine)
{
    engine->n_rows = engine->n_seqs = engine->n_logits = 0;
    size_t n_prompts = 0;
    for (struct waiting *w = engine->first; w != NULL; w = w->next) {
        w->taken = 0;
        if (is_decode(w))
            take_rows(engine, w, 1);
        else
            n_prompts++;
    }
    size_t room = prompt_room(engine);
    for (struct waiting *w = engine->first; w != NULL && n_prompts > 0; w = w->next) {
        if (is_decode(w))
            continue;
        take_rows(engine, w, (room + n_prompts - 1) / n_prompts);
        room -= w->taken;
        n_prompts--;
    }
}

/* ---- after a pass ---------------------------------------------------------------------- */

static void finish(struct engine *engine, struct waiting *w, int status,
                   const struct llama3_error *err)
{
    w->status = status;
    if (status < 0)
        w->err = *err;
    w->finished = true;
    if (status == 0 && w->job->stream != NULL) {
        w->job->stream->awaited = engine->wait;
        engine->n_awaited++;
    }
    pthread_cond_signal(&w->advanced);
}

/* 0 times a number that is not finite is NaN. The lanes become vectors, so that this costs next to
 * nothing beside the head's matrix. */
static bool are_finite(const float *x, size_t n)
{
    enum { LANES = 16 };
    float lanes[LANES] = {0}, sum = 0;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t lane = 0; lane < LANES; lane++)
            lanes[lane] += x[i + lane] * 0;
    for (; i < n; i++)
        sum += x[i] * 0;
    for (size_t lane = 0; lane < LANES; lane++)
        sum += lanes[lane];
    return sum == 0;
}

/* What was trained never makes such logits. Without this check the sampler would draw any token. */
static void spoil(const struct engine *engine, struct waiting *w, const float *logits)
{
    const float *scales = sequence_scales(w->job->sequence);
    bool adapted = false;
    size_t i = 0;
    while (isfinite(logits[i]))
        i++;
    for (size_t k = 0; k < engine->limits.n_loras; k++)
        adapted |= scales[k] != 0;
    w->spoiled = true;
    error_input(&w->err,
                "%s: expected finite logits, found %g for token %zu: the weights%s are damaged",
                forward_path(engine->forward), (double)fabsf(logits[i]), i % engine->vocab_size,
                adapted ? " or the adapters" : "");
}

static void deliver_logits(struct engine *engine)
{
    const float *from = engine->logits;
    size_t row_bytes = engine->vocab_size * sizeof(float);

    for (size_t s = 0; s < engine->n_seqs; s++) {
        struct waiting *w = engine->in_pass[s];
        size_t first = first_logits(w->job), end = w->done + w->taken;
        size_t begin = w->done > first ? w->done : first;
        if (begin >= end)
            continue;
        size_t n = end - begin;
        if (are_finite(from, n * engine->vocab_size))
            memcpy(w->job->logits + (begin - first) * engine->vocab_size, from, n * row_bytes);
        else
            spoil(engine, w, from);
        from += n * engine->vocab_size;
    }
}

/* Drops finished jobs from the queue, and moves those that had rows in the pass behind the rest. */
static void reorder(struct engine *engine)
{
    struct waiting *unserved = NULL, **unserved_end = &unserved;
    struct waiting *served = NULL, **served_end = &served;

    for (struct waiting *w = engine->first, *next; w != NULL; w = next) {
        next = w->next;
        w->next = NULL;
        if (w->finished)
            continue;
        struct waiting ***end = w->taken > 0 ? &served_end : &unserved_end;
        **end = w;
        *end = &w->next;
        w->taken = 0;
    }
    *unserved_end = served;
    engine->first = unserved;
}

static void drop_canceled(struct engine *engine)
{
    struct llama3_error err;
    error_set(&err, LLAMA3_ECANCELED, "canceled");
    for (struct waiting *w = engine->first; w != NULL; w = w->next)
        if (job_canceled(w->job))
            finish(engine, w, -1, &err);
    reorder(engine);
}

/* Whole pages that the pass has completed may be kept. */
static void offer_pages(struct engine *engine)
{
    for (size_t s = 0; s < engine->n_seqs && engine->saver != NULL; s++) {
        const struct waiting *w = engine->in_pass[s];
        const struct engine_job *job = w->job;
        if (job->chain != NULL && !w->spoiled)
            saver_offer(engine->saver, job->chain, job->sequence, job->tokens - job->position,
                        job->position + w->done + w->taken);
    }
}

/* Zeros may have been read in the place of pages whose file was cut short. */
static void check_pages(struct engine *engine)
{
    for (size_t s = 0; s < engine->n_seqs && guard_count() > 0; s++) {
        struct waiting *w = engine->in_pass[s];
        if (!w->spoiled && sequence_check(engine->forward, w->job->sequence, &w->err) < 0)
            w->spoiled = true;
    }
}

/* Measures the pass that began then. A pass of few rows costs nearly as much as one row, so it says
 * nothing about the speed of prompts. */
static void learn_speed(struct engine *engine, double began)
{
    engine->pass_seconds = clock_seconds() - began;
    if (engine->n_rows < MIN_CHUNK)
        return;
    double row = engine->pass_seconds / (double)engine->n_rows;
    engine->row_seconds = engine->row_seconds > 0 ? 0.75 * engine->row_seconds + 0.25 * row : row;
}

/* One pass over the queue. The lock is held before and after. */
static void pass(struct engine *engine)
{
    struct llama3_error err;

    drop_canceled(engine);
    choose_rows(engine);
    if (engine->n_rows > 0) {
        pthread_mutex_unlock(&engine->lock);
        double began = clock_seconds();
        if (engine->saver != NULL)
            saver_pass(engine->saver, true);
        int status = forward_run(engine->forward, engine->rows, engine->n_rows, engine->seqs,
                                 engine->n_seqs, engine->logits, pass_canceled, engine, &err);
        if (engine->saver != NULL)
            saver_pass(engine->saver, false);
        if (status == 0) {
            deliver_logits(engine);
            learn_speed(engine, began);
            check_pages(engine);
            offer_pages(engine);
        }
        pthread_mutex_lock(&engine->lock);
        for (size_t s = 0; s < engine->n_seqs; s++) {
            struct waiting *w = engine->in_pass[s];
            w->done += w->taken;
            if (w->spoiled)
                finish(engine, w, -1, &w->err);
            else if (status < 0 || w->done == w->job->n)
                finish(engine, w, status, &err);
            else if (w->job->on_progress != NULL)
                pthread_cond_signal(&w->advanced);
        }
        reorder(engine);
    }
}

/* Waits for the next tokens of the streams of the last pass. Without this the first stream would
 * have a pass alone, and the others the next one. A whole pass is gained; a stream that submits
 * nothing costs a quarter of a pass, and is not awaited again until it does. */
static void await_streams(struct engine *engine)
{
    struct timespec until = clock_moment(clock_seconds() + engine->pass_seconds / 4);
    while (engine->n_awaited > 0 && !engine->closing)
        if (pthread_cond_timedwait(&engine->submitted, &engine->lock, &until) != 0)
            break;
    engine->missed = engine->n_awaited > 0;
    engine->n_awaited = 0;
    engine->wait++;
}

/* The lock is held before and after. */
static void load_some(struct engine *engine)
{
    if (engine->load == LOAD_DONE)
        return;
    pthread_mutex_unlock(&engine->lock);
    engine->load = load_step(forward_load(engine->forward), LOAD_BYTES);
    pthread_mutex_lock(&engine->lock);
}

/* Until there is a job, or it is closed. */
static void await_job(struct engine *engine)
{
    while (engine->first == NULL && !engine->closing) {
        struct timespec until = clock_moment(clock_seconds() + LOAD_LOOK);
        if (engine->load == LOAD_DONE)
            pthread_cond_wait(&engine->submitted, &engine->lock);
        else if (engine->load == LOAD_WAIT)
            pthread_cond_timedwait(&engine->submitted, &engine->lock, &until);
        if (engine->first == NULL)
            load_some(engine);
    }
}

static void *engine_main(void *arg)
{
    struct engine *engine = arg;

    pthread_mutex_lock(&engine->lock);
    for (;;) {
        await_job(engine);
        if (engine->first == NULL)
            break;
        await_streams(engine);
        pass(engine);
        if (++engine->n_passes > LOAD_AFTER)
            load_some(engine);
    }
    pthread_mutex_unlock(&engine->lock);
    return NULL;
}

/* ---- the public side ------------------------------------------------------------------- */

/* The stream is no longer awaited. The lock is held. */
static void stop_awaiting(struct engine *engine, struct engine_stream *stream)
{
    if (stream->awaited == engine->wait && --engine->n_awaited == 0)
        pthread_cond_signal(&engine->submitted);
    stream->awaited = 0;
}

void engine_leave(struct engine *engine, struct engine_stream *stream)
{
    pthread_mutex_lock(&engine->lock);
    stop_awaiting(engine, stream);
    pthread_mutex_unlock(&engine->lock);
}

/* Appends w to the queue. */
static void submit_and_wait(struct engine *engine, struct waiting *w)
{
    pthread_cond_init(&w->advanced, NULL);
    pthread_mutex_lock(&engine->lock);
    struct waiting **end = &engine->first;
    while (*end != NULL)
        end = &(*end)->next;
    *end = w;
    if (w->job->stream != NULL)
        stop_awaiting(engine, w->job->stream);
    if (engine->first == w) /* else the scheduler is awake, or awaits streams */
        pthread_cond_signal(&engine->submitted);
    if (w->job->meanwhile != NULL) {
        pthread_mutex_unlock(&engine->lock);
        w->job->meanwhile(w->job->meanwhile_arg);
        pthread_mutex_lock(&engine->lock);
    }

    size_t told = 0;
    while (!w->finished) {
        pthread_cond_wait(&w->advanced, &engine->lock);
        if (w->job->on_progress != NULL && w->done > told) {
            told = w->done;
            pthread_mutex_unlock(&engine->lock);
            w->job->on_progress(w->job->arg, told);
            pthread_mutex_lock(&engine->lock);
        }
    }
    pthread_mutex_unlock(&engine->lock);
    pthread_cond_destroy(&w->advanced);
}

/* Whether this is a child of the process that opened the engine: the threads that compute are not
 * here, and a lock may be held for ever. */
static bool in_child(const struct engine *engine)
{
    return getpid() != engine->process;
}

/* Drops prefixes until all KV takes at most so many bytes; false: none was dropped. */
static bool shrink(struct engine *engine, uint64_t bytes)
{
    bool any = false;
    for (;;) {
        uint64_t held = forward_kv_bytes(engine->forward);
        if (held <= bytes || !prefix_drop(engine->prefixes))
            break;
        any = true;
        /* What was dropped may wait for the saver. */
        if (engine->saver != NULL && forward_kv_bytes(engine->forward) == held)
            saver_shed(engine->saver);
    }
    return any;
}

static uint64_t less(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

/* Reserves positions, with the kv_lock held. Prefixes give way to them: beyond their limit, and
 * where memory is short. */
static int reserve(struct engine *engine, struct sequence *sequence, size_t from, size_t to,
                   struct llama3_error *err)
{
    struct llama3_error failure = {0};
    uint64_t missing = sequence_missing(engine->forward, sequence, from, to);
    if (missing > 0)
        shrink(engine, less(engine->prefix_limit, missing));
    while (sequence_reserve(engine->forward, sequence, from, to, &failure) < 0)
        if (failure.code != LLAMA3_ENOMEM ||
            !shrink(engine, less(forward_kv_bytes(engine->forward), missing)))
            return error_copy(err, &failure);
    return 0;
}

int engine_run(struct engine *engine, const struct engine_job *job, struct llama3_error *err)
{
    if (in_child(engine))
        return error_input(err, "expected the process that opened the model, found a child of it");
    pthread_mutex_lock(&engine->kv_lock);
    int status = reserve(engine, job->sequence, job->position, job->position + job->n, err);
    pthread_mutex_unlock(&engine->kv_lock);
    if (status < 0)
        return -1;

    struct waiting w = {.job = job};
    submit_and_wait(engine, &w);
    if (w.status < 0) {
        engine_truncate(engine, job->sequence, job->position);
        error_copy(err, &w.err);
    }
    return w.status;
}

struct sequence *engine_sequence(struct engine *engine, struct llama3_error *err)
{
    pthread_mutex_lock(&engine->kv_lock);
    struct sequence *sequence = sequence_open(engine->forward, err);
    pthread_mutex_unlock(&engine->kv_lock);
    return sequence;
}

struct sequence *engine_fork(struct engine *engine, struct sequence *sequence, size_t n,
                             struct llama3_error *err)
{
    pthread_mutex_lock(&engine->kv_lock);
    struct sequence *made = sequence_fork(engine->forward, sequence, n, err);
    pthread_mutex_unlock(&engine->kv_lock);
    return made;
}

void engine_truncate(struct engine *engine, struct sequence *sequence, size_t n)
{
    pthread_mutex_lock(&engine->kv_lock);
    sequence_truncate(engine->forward, sequence, n);
    pthread_mutex_unlock(&engine->kv_lock);
}

void engine_release(struct engine *engine, struct sequence *sequence)
{
    if (in_child(engine))
        return;
    pthread_mutex_lock(&engine->kv_lock);
    sequence_close(engine->forward, sequence);
    pthread_mutex_unlock(&engine->kv_lock);
}

void engine_keep_prefixes(struct engine *engine, uint64_t bytes)
{
    pthread_mutex_lock(&engine->kv_lock);
    engine->prefix_limit = bytes;
    shrink(engine, bytes);
    pthread_mutex_unlock(&engine->kv_lock);
}

uint64_t engine_prefix_bytes(struct engine *engine)
{
    pthread_mutex_lock(&engine->kv_lock);
    uint64_t bytes =
        prefix_pages(engine->prefixes) * sequence_missing(engine->forward, NULL, 0, KV_PAGE);
    pthread_mutex_unlock(&engine->kv_lock);
    return bytes;
}

struct sequence *engine_take_prefix(struct engine *engine, int owner, struct sequence *like,
                                    const int32_t *tokens, size_t n, size_t more_than,
                                    size_t *length)
{
    if (in_child(engine))
        return NULL;
    pthread_mutex_lock(&engine->kv_lock);
    struct sequence *sequence =
        prefix_take(engine->prefixes, owner, sequence_scales(like), tokens, n, more_than, length);
    pthread_mutex_unlock(&engine->kv_lock);
    return sequence;
}

/* With the kv_lock held. */
static void retire(struct engine *engine, int owner, struct sequence *sequence,
                   const int32_t *tokens, size_t n)
{
    if (engine->prefix_limit > 0)
        prefix_give(engine->prefixes, owner, sequence, tokens, n);
    else
        sequence_close(engine->forward, sequence);
    shrink(engine, engine->prefix_limit);
}

void engine_retire(struct engine *engine, int owner, struct sequence *sequence,
                   const int32_t *tokens, size_t n)
{
    if (in_child(engine))
        return;
    pthread_mutex_lock(&engine->kv_lock);
    retire(engine, owner, sequence, tokens, n);
    pthread_mutex_unlock(&engine->kv_lock);
}

void engine_retire_copy(struct engine *engine, int owner, struct sequence *sequence,
                        const int32_t *tokens, size_t n)
{
    struct sequence *copy = NULL;
    if (in_child(engine))
        return;
    pthread_mutex_lock(&engine->kv_lock);
    if (engine->prefix_limit > 0)
        copy = sequence_fork(engine->forward, sequence, n, NULL);
    if (copy != NULL)
        retire(engine, owner, copy, tokens, n);
    pthread_mutex_unlock(&engine->kv_lock);
}

int engine_reserve(struct engine *engine, struct sequence *sequence, size_t n,
                   struct llama3_error *err)
{
    pthread_mutex_lock(&engine->kv_lock);
    int status = reserve(engine, sequence, 0, n, err);
    pthread_mutex_unlock(&engine->kv_lock);
    return status;
}

int engine_export(struct engine *engine, struct sequence *sequence, size_t layer, size_t from,
                  size_t to, void *k, void *v, struct llama3_error *err)
{
    pthread_mutex_lock(&engine->kv_lock);
    int status = sequence_export(engine->forward, sequence, layer, from, to, k, v, err);
    pthread_mutex_unlock(&engine->kv_lock);
    return status;
}

int engine_import(struct engine *engine, struct sequence *sequence, size_t layer, size_t from,
                  size_t to, const void *k, const void *v, struct llama3_error *err)
{
    pthread_mutex_lock(&engine->kv_lock);
    int status = sequence_import(engine->forward, sequence, layer, from, to, k, v, err);
    pthread_mutex_unlock(&engine->kv_lock);
    return status;
}

int engine_keep_in(struct engine *engine, struct kv_store *store, struct llama3_error *err)
{
    struct saver *saver = saver_open(store, engine->forward, &engine->kv_lock, err);
    if (saver == NULL)
        return -1;
    pthread_mutex_lock(&engine->lock); /* no pass begins */
    engine->saver = saver;
    pthread_mutex_unlock(&engine->lock);
    return 0;
}

int engine_put_page(struct engine *engine, struct sequence *sequence, size_t page,
                    struct kv_lent *lent, struct llama3_error *err)
{
    size_t from = page * KV_PAGE;
    pthread_mutex_lock(&engine->kv_lock);
    uint64_t missing = sequence_missing(engine->forward, sequence, from, from + KV_PAGE);
    if (missing > 0)
        shrink(engine, less(engine->prefix_limit, missing));
    int status = sequence_put_page(engine->forward, sequence, page, lent, err);
    pthread_mutex_unlock(&engine->kv_lock);
    return status;
}

size_t engine_page_bytes(const struct engine *engine)
{
    return forward_page_bytes(engine->forward);
}

const char *engine_page_layout(const struct engine *engine)
{
    return forward_page_layout(engine->forward);
}

uint64_t engine_kv_bytes(struct engine *engine)
{
    pthread_mutex_lock(&engine->kv_lock);
    uint64_t bytes = forward_kv_bytes(engine->forward);
    pthread_mutex_unlock(&engine->kv_lock);
    return bytes;
}

uint64_t engine_copied_bytes(const struct engine *engine)
{
    return load_copied(forward_load(engine->forward));
}

size_t engine_vocab_size(const struct engine *engine)
{
    return engine->vocab_size;
}

size_t engine_context(const struct engine *engine)
{
    return engine->limits.max_context;
}

/* ---- opening --------------------------------------------------------------------------- */

static void free_memory(struct engine *engine)
{
    prefix_close(engine->prefixes);
    forward_close(engine->forward);
    free(engine->rows);
    free(engine->in_pass);
    free(engine->seqs);
    free(engine->logits);
    free(engine);
}

struct engine *engine_open(struct forward *forward, size_t vocab_size,
                           const struct forward_options *limits, struct llama3_error *err)
{
    struct engine *engine = size_alloc_for(1, sizeof *engine, "the engine", err);
    if (engine == NULL) {
        forward_close(forward);
        return NULL;
    }
    engine->forward = forward;
    engine->limits = *limits;
    engine->vocab_size = vocab_size;
    engine->wait = 1;
    engine->load = LOAD_WAIT;
    engine->process = getpid();
    engine->rows = size_alloc_for(limits->max_rows, sizeof *engine->rows, "rows", err);
    engine->in_pass = size_alloc_for(limits->max_seqs, sizeof(struct waiting *), "jobs", err);
    engine->seqs = size_alloc_for(limits->max_seqs, sizeof(struct sequence *), "sequences", err);
    engine->logits =
        size_alloc_for(limits->max_logit_rows, vocab_size * sizeof(float), "logits", err);
    engine->prefixes = prefix_open(forward, limits->n_loras, err);
    if (engine->rows == NULL || engine->in_pass == NULL || engine->seqs == NULL ||
        engine->logits == NULL || engine->prefixes == NULL) {
        free_memory(engine);
        return NULL;
    }

    forward_pin(forward, engine->logits, limits->max_logit_rows * vocab_size);

    pthread_mutex_init(&engine->lock, NULL);
    pthread_mutex_init(&engine->kv_lock, NULL);
    clock_condition(&engine->submitted);
    /* The application's signals are for the application's threads. */
    sigset_t all, before;
    sigfillset(&all);
    sigdelset(&all, SIGBUS); /* a fault: blocked, it would end the process whatever its handler */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&engine->thread, NULL, engine_main, engine);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed) {
        error_set(err, LLAMA3_ENOMEM, "no thread could be started for the engine");
        free_memory(engine);
        return NULL;
    }
    return engine;
}

void engine_close(struct engine *engine)
{
    if (engine == NULL || in_child(engine))
        return;
    pthread_mutex_lock(&engine->lock);
    engine->closing = true;
    pthread_cond_signal(&engine->submitted);
    pthread_mutex_unlock(&engine->lock);
    pthread_join(engine->thread, NULL);
    saver_close(engine->saver);
    pthread_cond_destroy(&engine->submitted);
    pthread_mutex_destroy(&engine->lock);
    pthread_mutex_destroy(&engine->kv_lock);
    free_memory(engine);
}
