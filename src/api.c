/* SPDX-License-Identifier: MIT */
/*
 * api.c: the public functions, thin wrappers around the rooms below. Sessions, generation and
 * histories are public as they are (src/engine); this file opens models and passes text through.
 */
#include "config.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/guard.h"
#include "base/machine.h"
#include "base/size.h"
#include "checkpoint/generation.h"
#include "engine/placement.h"
#include "engine/quantized.h"
#include "engine/session.h"
#include "text/chat.h"

enum {
    MAX_CHUNK = 4096,
    MAX_SEQS = 32,    /* sequences in one pass */
    MIN_CONTEXT = 512 /* offered even where memory seems short */
};

struct llama3_model {
    struct model checkpoint;
    struct tokenizer *tokenizer;
    const struct chat_template *chat; /* NULL: none, or unknown */
    struct llama3_error chat_error;   /* why an existing template is unknown */
    struct engine *engine;
    int32_t stop_ids[MAX_STOP_IDS + 1];
    struct session_model shared;
    struct placement placement;
    struct llama3_info info;
};

/* ---- opening --------------------------------------------------------------------------- */

/* The checkpoint's own template, unless one was named. An unknown one is an error only once it is
 * used: raw text needs none. */
static int choose_template(struct llama3_model *m, const char *name, struct llama3_error *err)
{
    if (name != NULL) {
        m->chat = chat_template_by_name(name, err);
        if (m->chat == NULL || chat_template_check(m->chat, m->tokenizer, err) < 0)
            return -1;
    } else if (m->checkpoint.template_text != NULL) {
        m->chat = chat_template_recognise(m->checkpoint.template_text, &m->chat_error);
        if (m->chat != NULL && chat_template_check(m->chat, m->tokenizer, err) < 0)
            return -1;
    } else {
        error_set(&m->chat_error, LLAMA3_EINPUT,
                  "%s: the checkpoint has no chat template; name one, or complete raw text",
                  m->checkpoint.path);
    }
    return 0;
}

static int ascending(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return x < y ? -1 : x > y;
}

/* Every eos the checkpoint names, and the template's end of turn. */
static void choose_stop_ids(struct llama3_model *m)
{
    size_t n = m->checkpoint.n_eos;
    memcpy(m->stop_ids, m->checkpoint.eos_ids, n * sizeof m->stop_ids[0]);
    int32_t end = m->chat != NULL ? chat_template_end_of_turn(m->chat, m->tokenizer) : -1;
    m->shared = (struct session_model){.stop_ids = m->stop_ids, .n_stop_ids = n};
    if (end >= 0 && !session_is_stop(&m->shared, end)) {
        m->stop_ids[n] = end;
        m->shared.n_stop_ids = n + 1;
        qsort(m->stop_ids, n + 1, sizeof m->stop_ids[0], ascending);
    }
}

/* The smaller of the model's limit and what three quarters of the available memory can hold
 * beside the weights. */
static size_t default_context(const struct llama3_model *m, uint64_t kv_bytes_per_token)
{
    size_t limit = m->checkpoint.config.context;
    uint64_t available, weights = m->checkpoint.file_bytes;
    if (!memory_available(&available))
        return limit;
    available = available / 4 * 3;
    uint64_t fits = available > weights ? (available - weights) / kv_bytes_per_token : 0;
    fits = fits > MIN_CONTEXT ? fits : MIN_CONTEXT;
    return fits < limit ? (size_t)fits : limit;
}

static int choose_limits(struct llama3_model *m, const struct llama3_model_options *o,
                         struct forward_options *limits, struct llama3_error *err)
{
    const struct config *c = &m->checkpoint.config;
    if (o->threads < 0 || o->threads > MAX_THREADS)
        return error_set(err, LLAMA3_EINPUT, "threads: expected 1 to %d, found %d", MAX_THREADS,
                         o->threads);
    if (o->chunk > MAX_CHUNK)
        return error_set(err, LLAMA3_EINPUT, "chunk: expected 1 to %d, found %zu", MAX_CHUNK,
                         o->chunk);
    if ((unsigned)o->kv_type >= KV_TYPES)
        return error_set(err, LLAMA3_EINPUT, "kv_type: expected f16 or f32, found %d",
                         (int)o->kv_type);
    if (o->context > c->context)
        return error_set(err, LLAMA3_EINPUT,
                         "context: expected at most the model's %zu tokens, found %zu", c->context,
                         o->context);

    m->info.kv_bytes_per_token =
        (uint64_t)2 * c->n_layers * c->n_kv_heads * kv_head_bytes(o->kv_type, c->head_dim);
    m->info.threads = o->threads > 0 ? o->threads : processors_available();

    size_t chunk = o->chunk > 0 ? o->chunk : DEFAULT_CHUNK;
    *limits = (struct forward_options){
        .backend = {.threads = m->info.threads, .no_blas = o->no_blas},
        .max_rows = chunk,
        .max_logit_rows = chunk < MAX_SEQS ? chunk : MAX_SEQS,
        .max_seqs = chunk < MAX_SEQS ? chunk : MAX_SEQS,
        .kv_type = o->kv_type,
        .on_progress = o->on_load,
        .arg = o->arg,
    };
    return 0;
}

/* Which backend computes what, and for how many tokens of context. */
static int choose_placement(struct llama3_model *m, const struct llama3_model_options *o,
                            struct forward_options *limits, struct llama3_error *err)
{
    const struct placement_request request = {
        .gpu_layers = o->gpu_layers,
        .kv_on_host = o->kv_on_host,
        .device = o->device,
        .bf16_prompt = o->gpu_bf16_prompt,
        .ops = backend_device_ops(),
        .context = o->context,
        .host_context = default_context(m, m->info.kv_bytes_per_token),
        .device_rows = o->chunk > 0 ? 0 : DEVICE_CHUNK,
    };
    if (placement_choose(&m->placement, &m->checkpoint, limits, &request, err) < 0)
        return -1;
    m->info.context = limits->max_context;
    m->info.places = m->placement.places;
    m->info.n_places = m->placement.plan.n_backends;
    m->info.gpu_note = m->placement.note[0] != '\0' ? m->placement.note : NULL;
    return 0;
}

static void describe(struct llama3_model *m, const struct forward *forward)
{
    const struct config *c = &m->checkpoint.config;
    struct llama3_info *info = &m->info;

    info->path = m->checkpoint.path;
    info->format = m->checkpoint.format;
    info->architecture = "llama";
    info->dtype = dtype_info(m->checkpoint.dtype)->name;
    info->template_name = m->chat != NULL                       ? chat_template_name(m->chat)
                          : m->checkpoint.template_text != NULL ? "unknown"
                                                                : NULL;
    info->template_has_date = m->chat != NULL && chat_template_has_date(m->chat);
    info->backend = forward_describe(forward, &info->exactness);
    info->parameters = m->checkpoint.parameters;
    info->file_bytes = m->checkpoint.file_bytes;
    for (size_t i = 0; i < info->n_places; i++)
        m->placement.places[i].backend = forward_describe_backend(forward, i);
    info->kv_page_tokens = KV_PAGE;
    info->dim = c->dim;
    info->n_layers = c->n_layers;
    info->n_heads = c->n_heads;
    info->n_kv_heads = c->n_kv_heads;
    info->head_dim = c->head_dim;
    info->ffn_dim = c->ffn_dim;
    info->vocab_size = c->vocab_size;
    info->context_limit = c->context;
    info->stop_ids = m->shared.stop_ids;
    info->n_stop_ids = m->shared.n_stop_ids;
    info->tied_embeddings = c->tied;
}

static int open_checkpoint(struct model *checkpoint, const char *path,
                           const struct llama3_model_options *o, struct llama3_error *err)
{
    const struct quantized_options options = {
        .threads = o->threads > 0 ? o->threads : processors_available(),
        .calibrated = o->int4 == LLAMA3_INT4_CALIBRATED,
        .cache = o->cache,
        .on_progress = o->on_progress,
        .on_note = o->on_note,
        .arg = o->arg,
    };
    if (o->int4 != LLAMA3_INT4_NO && o->int4 != LLAMA3_INT4_PLAIN && !options.calibrated)
        return error_set(err, LLAMA3_EINPUT, "int4: expected no, plain or calibrated, found %d",
                         (int)o->int4);
    bool quantizes = o->int4 != LLAMA3_INT4_NO;
    if (quantizes && options.threads > MAX_THREADS) /* said by choose_limits() after the work */
        return error_set(err, LLAMA3_EINPUT, "threads: expected 1 to %d, found %d", MAX_THREADS,
                         o->threads);
    int status = quantizes ? quantized_open(checkpoint, path, &options, err)
                           : model_open(checkpoint, path, err);
    struct llama3_error note;
    if (status == 0 && o->on_note != NULL &&
        generation_note(&checkpoint->generation, checkpoint->path, &note))
        o->on_note(o->arg, note.message);
    return status;
}

static int open_parts(struct llama3_model *m, const char *path,
                      const struct llama3_model_options *o, struct llama3_error *err)
{
    struct forward_options limits;
    if (open_checkpoint(&m->checkpoint, path, o, err) < 0)
        return -1;
    m->tokenizer = tokenizer_open(&m->checkpoint.vocab, err);
    if (m->tokenizer == NULL || choose_template(m, o->template_name, err) < 0 ||
        choose_limits(m, o, &limits, err) < 0 || choose_placement(m, o, &limits, err) < 0)
        return -1;
    choose_stop_ids(m);

    struct forward *forward = forward_open(&m->checkpoint, &m->placement.plan, &limits, err);
    if (forward == NULL)
        return -1;
    describe(m, forward);
    m->engine = engine_open(forward, m->checkpoint.config.vocab_size, &limits, err);
    m->shared.owner = m;
    m->shared.engine = m->engine;
    m->shared.tokenizer = m->tokenizer;
    return m->engine != NULL ? 0 : -1;
}

int llama3_handle_sigbus(struct llama3_error *err)
{
    return guard_install(err);
}

struct llama3_model *llama3_model_open(const char *path, const struct llama3_model_options *options,
                                       struct llama3_error *err)
{
    static const struct llama3_model_options defaults;
    struct llama3_model *m = size_alloc(1, sizeof *m);
    if (m == NULL) {
        error_memory(err, "a model", sizeof *m);
        return NULL;
    }
    if (open_parts(m, path, options != NULL ? options : &defaults, err) < 0) {
        llama3_model_close(m);
        return NULL;
    }
    return m;
}

void llama3_model_close(struct llama3_model *m)
{
    if (m == NULL)
        return;
    engine_close(m->engine);
    tokenizer_close(m->tokenizer);
    model_close(&m->checkpoint);
    free(m);
}

const struct llama3_info *llama3_model_info(const struct llama3_model *m)
{
    return &m->info;
}

struct llama3_session *llama3_session_open(struct llama3_model *m, struct llama3_error *err)
{
    return session_open(&m->shared, err);
}

void llama3_sampling_defaults(const struct llama3_model *m, struct llama3_sampling *s)
{
    const struct generation_defaults *g = &m->checkpoint.generation;
    *s = (struct llama3_sampling){
        .temperature = isnan(g->temperature) ? 0.6f : (float)g->temperature,
        .top_p = isnan(g->top_p) ? 0.9f : (float)g->top_p,
        .min_p = isnan(g->min_p) ? 0 : (float)g->min_p,
        .top_k = g->top_k < 0 ? 0 : (int)g->top_k,
        .repeat_penalty = isnan(g->repeat_penalty) ? 1 : (float)g->repeat_penalty,
    };
    if (g->do_sample == 0)
        s->temperature = 0;
}

/* ---- text ------------------------------------------------------------------------------ */

/* Hands a token list over to the caller, or drops it. */
static int give(struct tokens *list, int status, int32_t **tokens, size_t *n,
                struct llama3_error *err)
{
    if (status == 0 && list->failed)
        status = error_memory(err, "tokens", list->n * sizeof *list->ids);
    if (status < 0) {
        tokens_free(list);
        return -1;
    }
    /* While they were merged they were as many as the text has bytes. */
    int32_t *fitting = list->n > 0 ? realloc(list->ids, list->n * sizeof *list->ids) : NULL;
    *tokens = fitting != NULL ? fitting : list->ids;
    *n = list->n;
    return 0;
}

int llama3_tokenize(const struct llama3_model *m, const char *text, size_t length, bool with_bos,
                    int32_t **tokens, size_t *n_tokens, struct llama3_error *err)
{
    const struct vocab *vocab = &m->checkpoint.vocab;
    struct tokens list = {0};
    if (with_bos && vocab->add_bos && vocab->bos >= 0)
        tokens_add(&list, vocab->bos);
    int status = tokenizer_encode(m->tokenizer, text, length, &list, err);
    return give(&list, status, tokens, n_tokens, err);
}

/* "24 Nov 2026", in English whatever the locale. */
static void today(char date[16])
{
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    time_t now = time(NULL);
    struct tm tm;
    localtime_r(&now, &tm);
    snprintf(date, 16, "%02d %s %04d", tm.tm_mday % 100, months[tm.tm_mon],
             (tm.tm_year + 1900) % 10000);
}

int llama3_apply_template(const struct llama3_model *m, const struct llama3_message *messages,
                          size_t n_messages, const char *date, int32_t **tokens, size_t *n_tokens,
                          struct llama3_error *err)
{
    char now[16];
    struct tokens list = {0};

    if (m->chat == NULL) {
        if (err != NULL)
            *err = m->chat_error;
        return -1;
    }
    if (date != NULL && chat_date_check(date, err) < 0)
        return -1;
    if (date == NULL && chat_template_wants_today(m->chat)) {
        today(now);
        date = now;
    }
    int status = chat_render(m->chat, m->tokenizer, messages, n_messages, date, &list, err);
    return give(&list, status, tokens, n_tokens, err);
}

int llama3_detokenize(const struct llama3_model *m, const int32_t *tokens, size_t n_tokens,
                      bool with_control, char **text, size_t *length, struct llama3_error *err)
{
    struct decoder decoder = {0};
    struct buf out = {0};

    buf_add(&out, "", 0);
    for (size_t i = 0; i < n_tokens; i++) {
        size_t n;
        const uint8_t *bytes = tokenizer_bytes(m->tokenizer, tokens[i], &n);
        if (tokenizer_kind(m->tokenizer, tokens[i]) == TOKEN_TEXT) {
            decoder_push(&decoder, bytes, n, &out);
        } else if (with_control) {
            decoder_finish(&decoder, &out);
            decoder_push(&decoder, bytes, n, &out); /* a name may be no UTF-8 */
            decoder_finish(&decoder, &out);
        }
    }
    decoder_finish(&decoder, &out);
    if (out.failed) {
        buf_free(&out);
        return error_memory(err, "text", n_tokens);
    }
    *text = out.data;
    *length = out.size;
    return 0;
}

/* ---- conversations --------------------------------------------------------------------- */

static int collect(void *arg, const char *text, size_t length)
{
    buf_add(arg, text, length);
    return 0;
}

/* The answer to the history as it stands, appended to *text. */
static int respond(struct llama3_session *session, const struct llama3_history *history,
                   size_t max_tokens, float temperature, float top_p, struct buf *text,
                   struct llama3_error *err)
{
    const struct llama3_model *m = session_model(session)->owner;
    struct llama3_generation g = {.max_tokens = max_tokens, .on_text = collect, .arg = text};
    struct llama3_result result;
    int32_t *prompt;
    size_t n_messages, n;

    llama3_sampling_defaults(m, &g.sampling);
    if (temperature >= 0)
        g.sampling.temperature = temperature;
    if (top_p >= 0)
        g.sampling.top_p = top_p;
    const struct llama3_message *messages = llama3_history_messages(history, &n_messages);
    if (llama3_apply_template(m, messages, n_messages, NULL, &prompt, &n, err) < 0)
        return -1;
    int status = llama3_generate(session, prompt, n, &g, &result, err);
    llama3_free(prompt);
    if (status == 0 && result.finish == LLAMA3_FINISH_CANCELED)
        return error_set(err, LLAMA3_ECANCELED, "canceled");
    buf_add(text, "", 0);
    if (status == 0 && text->failed)
        return error_memory(err, "the answer", text->size);
    return status;
}

const char *llama3_get_response(struct llama3_session *session, struct llama3_history *history,
                                const char *query, size_t max_tokens, float temperature,
                                float top_p, struct llama3_error *err)
{
    struct buf text = {0};
    size_t before;
    llama3_history_messages(history, &before);

    if (llama3_history_add(history, "user", query, err) < 0 ||
        respond(session, history, max_tokens, temperature, top_p, &text, err) < 0 ||
        llama3_history_add(history, "assistant", text.data, err) < 0) {
        llama3_history_truncate(history, before);
        buf_free(&text);
        return NULL;
    }
    buf_free(&text);
    return llama3_history_messages(history, &before)[before - 1].content;
}

const char *llama3_token_bytes(const struct llama3_model *m, int32_t token, size_t *length)
{
    return (const char *)tokenizer_bytes(m->tokenizer, token, length);
}

uint64_t llama3_kv_bytes(const struct llama3_model *m)
{
    return engine_kv_bytes(m->engine);
}

bool llama3_is_stop(const struct llama3_model *m, int32_t token)
{
    return session_is_stop(&m->shared, token);
}

const char *const *llama3_template_names(void)
{
    return chat_template_names();
}

void llama3_free(void *memory)
{
    free(memory);
}

const char *llama3_version(void)
{
    return PACKAGE_VERSION;
}
