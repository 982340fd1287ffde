/* SPDX-License-Identifier: MIT */
/*
 * api.c: models, and their text. Sessions, sampling, generation and histories are public as they
 * are in src/engine.
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "base/guard.h"
#include "base/json.h"
#include "base/machine.h"
#include "base/path.h"
#include "base/size.h"
#include "base/sized.h"
#include "checkpoint/generation.h"
#include "checkpoint/hf.h"
#include "checkpoint/sources.h"
#include "engine/held.h"
#include "engine/load.h"
#include "engine/placement.h"
#include "engine/quantized.h"
#include "engine/sampler.h"
#include "engine/session.h"
#include "text/chat.h"
#include "text/chat_names.h"
#include "text/pretokenizer.h"

enum {
    MAX_CHUNK = 4096,
    MAX_SEQS = 32,      /* sequences in one pass */
    MAX_LOGIT_ROWS = 64 /* of a pass, where chunks are no longer: who wants the logits of all rows
                            asks for such */
};

struct llama3_model {
    struct model checkpoint;
    struct tokenizer *tokenizer;
    const char **template_names;
    struct chat_template *chat;      /* NULL: none, or one that is no template */
    struct llama3_error chat_error;  /* why there is none */
    struct chat_template *tool_chat; /* for conversations with tools; NULL: the same, or an error */
    struct llama3_error tool_error;
    struct engine *engine;
    int32_t stop_ids[MAX_STOP_IDS + 2];
    struct session_model shared;
    struct placement placement;
    const struct llama3_memory *memories[MAX_BACKENDS];
    struct lora loras[MAX_LORAS];
    struct llama3_adapter_info adapters[MAX_LORAS];
    const struct llama3_adapter_info *adapter_list[MAX_LORAS];
    struct llama3_info info;
};

/* ---- opening --------------------------------------------------------------------------- */

static const char *template_text(const struct llama3_model *m, const char *name)
{
    return json_string_value(json_object_get(m->checkpoint.templates, name));
}

/* One of the checkpoint's templates; errors name its file. NULL with an error. */
static struct chat_template *open_own(const struct llama3_model *m, const char *name,
                                      struct llama3_error *err)
{
    const char *file = json_string_value(json_object_get(m->checkpoint.template_files, name));
    struct buf what = {0};
    buf_add_str(&what, file != NULL ? file : m->checkpoint.path);
    if (strcmp(name, "default") != 0) {
        buf_add_str(&what, ": ");
        buf_add_str(&what, name);
    }
    struct chat_template *chat = !what.failed ? chat_open(template_text(m, name), what.data,
                                                          m->checkpoint.special_tokens, err)
                                              : NULL;
    if (what.failed)
        error_memory(err, "a chat template", what.size);
    buf_free(&what);
    return chat;
}

static int open_template(struct llama3_model *m, const char *text, const char *what,
                         struct llama3_error *err)
{
    m->chat = chat_open(text, what, m->checkpoint.special_tokens, err);
    return m->chat != NULL ? 0 : -1;
}

static int list_templates(struct llama3_model *m, struct llama3_error *err)
{
    size_t n = json_object_size(m->checkpoint.templates);
    const char *name;
    json_t *text;
    m->template_names = size_alloc_for(n, sizeof *m->template_names, "names of templates", err);
    if (m->template_names == NULL)
        return -1;
    json_object_foreach(m->checkpoint.templates, name, text)
    {
        m->template_names[m->info.n_template_names++] = name;
    }
    m->info.template_names = m->template_names;
    return 0;
}

/* Appends the names of the checkpoint's templates. */
static void add_names(const struct llama3_model *m, struct buf *names)
{
    for (size_t i = 0; i < m->info.n_template_names; i++) {
        buf_add_str(names, i == 0 ? "\"" : "\", \"");
        buf_add_str(names, m->template_names[i]);
    }
    buf_add_str(names, "\"");
}

static int no_such_template(const struct llama3_model *m, const char *name,
                            struct llama3_error *err)
{
    struct buf names = {0};
    bool any = m->info.n_template_names > 0;
    buf_add_str(&names, any ? "one of the checkpoint's (" : "");
    if (any)
        add_names(m, &names);
    buf_add_str(&names, any ? "), " : "");
    int status =
        names.failed
            ? error_memory(err, "names of templates", names.size)
            : error_input(err, "template_name: expected %sllama3 or chatml, found \"%.60s\"",
                          names.data, name);
    buf_free(&names);
    return status;
}

static void no_default_template(const struct llama3_model *m, struct llama3_error *err)
{
    struct buf names = {0};
    add_names(m, &names);
    if (m->info.n_template_names == 0 || names.failed)
        error_input(err, "%s: the checkpoint has no chat template; give one, or complete raw text",
                    m->checkpoint.path);
    else
        error_input(err,
                    "%s: the checkpoint has no default chat template, but others by name (%s); "
                    "choose one, or complete raw text",
                    m->checkpoint.path, names.data);
    buf_free(&names);
}

/* The checkpoint's template of a name, the caller's text, or one that is built in; or the
 * checkpoint's own. What is wrong with that one is an error only once it is used: raw text needs
 * none. */
static int choose_template(struct llama3_model *m, const struct llama3_model_options *o,
                           struct llama3_error *err)
{
    const char *name =
        o->template_name != NULL && o->template_name[0] != '\0' ? o->template_name : NULL;
    if (name != NULL && template_text(m, name) != NULL)
        return (m->chat = open_own(m, name, err)) != NULL ? 0 : -1;
    if (o->template_text != NULL)
        return open_template(m, o->template_text, name != NULL ? name : "template", err);
    name = o->template_name;
    if (name != NULL && chat_builtin(name) == NULL)
        return no_such_template(m, name, err);
    if (name != NULL)
        return open_template(m, chat_builtin(name), name, err) < 0
                   ? -1
                   : chat_check_controls(m->chat, m->tokenizer, err);
    if (template_text(m, "default") == NULL)
        no_default_template(m, &m->chat_error);
    else
        m->chat = open_own(m, "default", &m->chat_error);
    if (template_text(m, "tool_use") != NULL)
        m->tool_chat = open_own(m, "tool_use", &m->tool_error);
    return 0;
}

static int ascending(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return x < y ? -1 : x > y;
}

static void add_end_of_turn(struct llama3_model *m, const struct chat_template *chat)
{
    int32_t end = chat != NULL ? chat_end_of_turn(chat, m->tokenizer) : -1;
    if (end < 0 || session_is_stop(&m->shared, end))
        return;
    m->stop_ids[m->shared.n_stop_ids++] = end;
    qsort(m->stop_ids, m->shared.n_stop_ids, sizeof m->stop_ids[0], ascending);
}

/* Every eos the checkpoint names, and the templates' ends of turns. */
static void choose_stop_ids(struct llama3_model *m)
{
    size_t n = m->checkpoint.n_eos;
    memcpy(m->stop_ids, m->checkpoint.eos_ids, n * sizeof m->stop_ids[0]);
    m->shared.stop_ids = m->stop_ids;
    m->shared.n_stop_ids = n;
    add_end_of_turn(m, m->chat);
    add_end_of_turn(m, m->tool_chat);
}

/* What three quarters of the available memory can hold beside the weights. */
static uint64_t host_kv_bytes(const struct llama3_model *m)
{
    uint64_t available, weights = m->checkpoint.file_bytes;
    if (!memory_available(&available))
        return UINT64_MAX;
    available = available / 4 * 3;
    return available > weights ? available - weights : 0;
}

static int choose_limits(struct llama3_model *m, const struct llama3_model_options *o,
                         struct forward_options *limits, struct llama3_error *err)
{
    const struct config *c = &m->checkpoint.config;
    if (threads_chosen(o->threads, &m->info.threads, err) < 0)
        return -1;
    if (o->chunk > MAX_CHUNK)
        return error_input(err, "chunk: expected 1 to %d, found %zu", MAX_CHUNK, o->chunk);
    if ((unsigned)o->kv_type >= KV_TYPES)
        return error_input(err, "kv_type: expected auto, f16, f32, int8 or int4, found %d",
                           (int)o->kv_type);
    if ((unsigned)o->load > LLAMA3_LOAD_READ)
        return error_input(err, "load: expected auto, map or read, found %d", (int)o->load);
    if (o->context > c->context)
        return error_input(err, "context: expected at most the model's %zu tokens, found %zu",
                           c->context, o->context);

    size_t chunk = o->chunk > 0 ? o->chunk : DEFAULT_CHUNK;
    *limits = (struct forward_options){
        .backend = {.threads = m->info.threads, .no_blas = o->no_blas, .numa = !o->no_numa},
        .max_rows = chunk,
        .max_logit_rows = o->chunk > 0 && chunk <= MAX_LOGIT_ROWS ? chunk : MAX_SEQS,
        .max_seqs = chunk < MAX_SEQS ? chunk : MAX_SEQS,
        .load = o->load,
        .loras = m->loras,
        .n_loras = m->shared.n_loras,
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
        .host_kv_bytes = host_kv_bytes(m),
        .kv_type = o->kv_type,
        .device_rows = o->chunk > 0 ? 0 : DEVICE_CHUNK,
    };
    if (placement_choose(&m->placement, &m->checkpoint, limits, &request, err) < 0)
        return -1;
    m->info.context = limits->max_context;
    m->info.kv_type = m->shared.kv_type = limits->kv_type;
    m->info.kv_bytes_per_token =
        m->checkpoint.config.n_layers * kv_position_bytes(&m->checkpoint.config, limits->kv_type);
    m->info.memories = m->memories;
    m->info.n_memories = m->placement.plan.n_backends;
    for (size_t i = 0; i < m->info.n_memories; i++)
        m->memories[i] = &m->placement.memories[i];
    m->info.gpu_note = m->placement.note[0] != '\0' ? m->placement.note : NULL;
    return 0;
}

/* forward: NULL if there is none. */
static void describe(struct llama3_model *m, const struct forward *forward)
{
    const struct config *c = &m->checkpoint.config;
    struct llama3_info *info = &m->info;

    info->path = m->checkpoint.path;
    info->format = m->checkpoint.format;
    info->architecture = "llama";
    info->dtype = dtype_info(m->checkpoint.dtype)->name;
    info->template_name = m->chat != NULL                       ? chat_name(m->chat)
                          : template_text(m, "default") != NULL ? "broken"
                                                                : NULL;
    info->template_has_date = m->chat != NULL && (chat_mentions(m->chat, "date_string") ||
                                                  chat_mentions(m->chat, "strftime_now"));
    info->thinks = m->chat != NULL && chat_thinks(m->chat);
    if (forward != NULL)
        info->backend = forward_describe(forward, &info->exactness);
    info->parameters = m->checkpoint.parameters;
    info->file_bytes = m->checkpoint.file_bytes;
    for (size_t i = 0; i < info->n_memories; i++)
        m->placement.memories[i].backend = forward_describe_backend(forward, i);
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
    info->adapters = m->adapter_list;
    info->n_adapters = m->shared.n_loras;
}

/* ---- adapters -------------------------------------------------------------------------- */

static int open_adapter(struct llama3_model *m, const struct llama3_adapter *a,
                        struct llama3_error *err)
{
    size_t i = m->shared.n_loras;
    struct lora *lora = &m->loras[i];
    double scale = a->scale < 0 || a->scale > 0 ? a->scale : 1;
    if (path_check(a->path, "adapter", err) < 0 || session_check_scale(a->scale, err) < 0)
        return -1;
    m->shared.n_loras++;
    if (lora_open(lora, a->path, a->name, (float)scale, &m->checkpoint, err) < 0)
        return -1;
    for (size_t k = 0; k < i && m->shared.loras_vary; k++) /* sessions choose by name */
        if (strcmp(m->loras[k].name, lora->name) == 0)
            return error_input(err,
                               "adapters: expected a name of its own for each, as in NAME=PATH, "
                               "found \"%.80s\" twice",
                               lora->name);
    m->adapters[i] = (struct llama3_adapter_info){
        .name = lora->name,
        .path = lora->path,
        .scale = scale,
        .rank = lora->rank,
        .parameters = lora->parameters,
    };
    m->adapter_list[i] = &m->adapters[i];
    return 0;
}

/* Says how much memory the copies of weights take. */
static void note_copies(const struct llama3_model *m, const struct llama3_model_options *o)
{
    char note[128];
    if (o->on_note == NULL || m->info.merged_bytes == 0)
        return;
    bool small = m->info.merged_bytes < 1000000;
    snprintf(note, sizeof note, "adapters are added to copies of weights: %.1f %s of memory",
             (double)m->info.merged_bytes / (small ? 1e3 : 1e6), small ? "KB" : "MB");
    o->on_note(o->arg, note);
}

static int open_adapters(struct llama3_model *m, const struct llama3_model_options *o,
                         struct llama3_error *err)
{
    if (o->n_adapters > MAX_LORAS)
        return error_input(err, "adapters: expected at most %d, found %zu", MAX_LORAS,
                           o->n_adapters);
    struct llama3_adapter *adapters = sized_take_all(sizeof *adapters, o->adapters, o->n_adapters,
                                                     "adapter", "llama3_adapter", err);
    int status = adapters != NULL ? 0 : -1;
    m->shared.loras_vary = o->adapters_vary;
    for (size_t i = 0; i < o->n_adapters && status == 0; i++)
        status = open_adapter(m, &adapters[i], err);
    free(adapters);
    m->shared.loras = m->loras;
    if (status < 0 || o->adapters_vary)
        return status;
    if (threads_chosen(o->threads, &m->info.threads, err) < 0 ||
        lora_merge(m->loras, m->shared.n_loras, &m->checkpoint, m->info.threads,
                   &m->info.merged_bytes, err) < 0)
        return -1;
    note_copies(m, o);
    return 0;
}

static int open_checkpoint(struct model *checkpoint, const char *path,
                           const struct llama3_model_options *o, struct llama3_error *err)
{
    struct quantized_options options = {
        .calibrated = o->int4 == LLAMA3_INT4_CALIBRATED,
        .cache = o->cache,
        .on_progress = o->on_progress,
        .on_note = o->on_note,
        .arg = o->arg,
    };
    if (o->int4 != LLAMA3_INT4_NO && o->int4 != LLAMA3_INT4_PLAIN && !options.calibrated)
        return error_input(err, "int4: expected no, plain or calibrated, found %d", (int)o->int4);
    bool quantizes = o->int4 != LLAMA3_INT4_NO;
    if (quantizes && threads_chosen(o->threads, &options.threads, err) < 0) /* before the work */
        return -1;
    int status = quantizes ? quantized_open(checkpoint, path, &options, err)
                           : model_open(checkpoint, path, err);
    struct llama3_error note;
    if (status == 0 && o->on_note != NULL && checkpoint->note.message[0] != '\0')
        o->on_note(o->arg, checkpoint->note.message);
    if (status == 0 && o->on_note != NULL &&
        generation_note(&checkpoint->generation, checkpoint->path, &note))
        o->on_note(o->arg, note.message);
    for (size_t i = 0; status == 0 && o->on_note != NULL && i < json_array_size(checkpoint->notes);
         i++)
        o->on_note(o->arg, json_string_value(json_array_get(checkpoint->notes, i)));
    return status;
}

/* What computes. */
static int open_engine(struct llama3_model *m, const struct llama3_model_options *o,
                       struct llama3_error *err)
{
    struct forward_options limits;
    if (open_adapters(m, o, err) < 0 || choose_limits(m, o, &limits, err) < 0 ||
        choose_placement(m, o, &limits, err) < 0)
        return -1;
    struct forward *forward = forward_open(&m->checkpoint, &m->placement.plan, &limits, err);
    if (forward == NULL)
        return -1;
    const char *note = load_note(forward_load(forward));
    if (o->on_note != NULL && note[0] != '\0')
        o->on_note(o->arg, note);
    describe(m, forward);
    m->engine = engine_open(forward, m->checkpoint.config.vocab_size, &limits, err);
    m->shared.engine = m->engine;
    return m->engine != NULL ? 0 : -1;
}

static int open_all(struct llama3_model *m, const char *path, const struct llama3_model_options *o,
                    struct llama3_error *err)
{
    if ((o->vocab_only ? model_open(&m->checkpoint, path, err)
                       : open_checkpoint(&m->checkpoint, path, o, err)) < 0)
        return -1;
    m->tokenizer = tokenizer_open(&m->checkpoint.vocab, err);
    if (m->tokenizer == NULL || list_templates(m, err) < 0 || choose_template(m, o, err) < 0)
        return -1;
    choose_stop_ids(m);
    m->shared.owner = m;
    m->shared.checkpoint = &m->checkpoint;
    m->shared.tokenizer = m->tokenizer;
    const struct chat_template *chat = m->tool_chat != NULL ? m->tool_chat : m->chat;
    m->shared.tool_form = chat != NULL ? chat_tool_form(chat) : &tool_form_generic;
    if (!o->vocab_only)
        return open_engine(m, o, err);
    describe(m, NULL);
    return 0;
}

int llama3_handle_sigbus(struct llama3_error *err)
{
    return guard_install(err);
}

struct llama3_model *llama3_model_open(const char *path, const struct llama3_model_options *options,
                                       struct llama3_error *err)
{
    struct llama3_model_options o;
    if (path_check(path, "model", err) < 0 ||
        sized_take(&o, sizeof o, options, "llama3_model_options", err) < 0)
        return NULL;
    struct llama3_model *m = size_alloc_for(1, sizeof *m, "a model", err);
    if (m == NULL)
        return NULL;
    pthread_mutex_init(&m->shared.vocabulary_lock, NULL);
    if (open_all(m, path, &o, err) < 0) {
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
    session_note(&m->shared);
    kv_store_close(m->shared.store);
    vocabulary_close(m->shared.vocabulary);
    pthread_mutex_destroy(&m->shared.vocabulary_lock);
    chat_close(m->chat);
    chat_close(m->tool_chat);
    free(m->template_names);
    tokenizer_close(m->tokenizer);
    for (size_t i = 0; i < MAX_LORAS; i++)
        lora_close(&m->loras[i]);
    model_close(&m->checkpoint);
    free(m);
}

int llama3_check_config(const char *folder, struct llama3_error *err)
{
    return path_check(folder, "folder", err) < 0 ? -1 : hf_config_check(folder, err);
}

bool llama3_model_has_file(const struct llama3_model *m, const char *path)
{
    struct sources sources;
    bool has =
        sources_list(&sources, m->checkpoint.path, NULL) == 0 && sources_have(&sources, path);
    sources_free(&sources);
    return has;
}

const struct llama3_info *llama3_model_info(const struct llama3_model *m)
{
    return &m->info;
}

void llama3_model_keep_prefixes(struct llama3_model *m, uint64_t bytes)
{
    if (m->engine != NULL)
        engine_keep_prefixes(m->engine, bytes);
}

int llama3_model_keep_prefixes_in(struct llama3_model *m, const struct llama3_prefix_store *store,
                                  struct llama3_error *err)
{
    return session_keep_in(&m->shared, store, err);
}

struct llama3_session *llama3_session_open(struct llama3_model *m, struct llama3_error *err)
{
    return session_open(&m->shared, err);
}

struct llama3_session *llama3_session_load(struct llama3_model *m, const char *path,
                                           struct llama3_error *err)
{
    return session_load(&m->shared, path, err);
}

struct llama3_constraint *llama3_constraint_open(struct llama3_model *m,
                                                 enum llama3_constraint_kind kind, const char *text,
                                                 size_t length, const char *where,
                                                 struct llama3_error *err)
{
    return constraint_of(&m->shared, m->checkpoint.config.vocab_size, kind, text, length, where,
                         err);
}

struct llama3_sampling *llama3_sampling_open(const struct llama3_model *m, struct llama3_error *err)
{
    static const struct generation_defaults none = GENERATION_NONE;
    return m != NULL
               ? sampling_open(&m->checkpoint.generation, m->checkpoint.config.vocab_size, err)
               : sampling_open(&none, 0, err);
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

int llama3_tokenize_trusted(const struct llama3_model *m, const char *text, size_t length,
                            int32_t **tokens, size_t *n_tokens, struct llama3_error *err)
{
    struct tokens list = {0};
    int status = tokenizer_encode_trusted(m->tokenizer, text, length, &list, err);
    return give(&list, status, tokens, n_tokens, err);
}

/* Sets the array of a caller's JSON text, if there is one; checks that of the arguments if not. */
static int set_array(json_t *arguments, const char *name, const char *text,
                     struct llama3_error *err)
{
    json_t *value = json_incref(json_object_get(arguments, name));
    if (text != NULL && value != NULL) {
        json_decref(value);
        return error_input(err, "arguments: expected no variable that is set already, found \"%s\"",
                           name);
    }
    if (text != NULL && (value = json_parse_value(text, strlen(text), name, err)) == NULL)
        return -1;
    int status = 0;
    if (value != NULL && !json_is_null(value) && !json_is_array(value))
        status = error_input(err, "%s: expected an array, found %s", name, json_kind(value));
    else if (value != NULL && json_object_set(arguments, name, value) != 0)
        status = error_memory(err, name, sizeof *value);
    json_decref(value);
    return status;
}

/* What the template gets besides messages: an object, or NULL. */
static json_t *take_arguments(const struct llama3_template_options *o, struct llama3_error *err)
{
    const char *text = o->arguments != NULL ? o->arguments : "{}";
    json_t *all = json_parse_exact(text, strlen(text), "arguments", err);
    if (all != NULL && set_array(all, "tools", o->tools, err) == 0 &&
        set_array(all, "documents", o->documents, err) == 0)
        return all;
    json_decref(all);
    return NULL;
}

static int render(const struct llama3_model *m, const struct llama3_message *messages, size_t n,
                  const struct llama3_template_options *o, struct tokens *list,
                  struct llama3_error *err)
{
    json_t *arguments = take_arguments(o, err);
    if (arguments == NULL)
        return -1;
    const struct chat_request request = {
        .messages = messages,
        .n = n,
        .date = o->date,
        .now = time(NULL),
        .end = o->continue_last ? CHAT_OPEN
               : o->no_header   ? CHAT_NOTHING
                                : CHAT_HEADER,
        .arguments = arguments,
        .memory = o->memory,
    };
    const json_t *tools = json_object_get(arguments, "tools");
    bool own = tools != NULL && !json_is_null(tools) && /* as transformers: [] is not None */
               (m->tool_chat != NULL || m->tool_error.code != LLAMA3_OK);
    const struct chat_template *chat = own ? m->tool_chat : m->chat;
    int status = chat != NULL ? chat_render(chat, m->tokenizer, &request, list, err)
                              : error_copy(err, own ? &m->tool_error : &m->chat_error);
    json_decref(arguments);
    return status;
}

int llama3_apply_template(const struct llama3_model *m, const struct llama3_message *callers,
                          size_t n_messages, const struct llama3_template_options *options,
                          int32_t **tokens, size_t *n_tokens, struct llama3_error *err)
{
    struct llama3_template_options o;
    struct tokens list = {0};
    if (sized_take(&o, sizeof o, options, "llama3_template_options", err) < 0)
        return -1;
    struct llama3_message *messages =
        sized_take_all(sizeof *messages, callers, n_messages, "message", "llama3_message", err);
    if (messages == NULL)
        return -1;
    int status = render(m, messages, n_messages, &o, &list, err);
    free(messages);
    return give(&list, status, tokens, n_tokens, err);
}

bool llama3_template_mentions(const struct llama3_model *m, const char *name)
{
    return (m->chat != NULL && chat_mentions(m->chat, name)) ||
           (m->tool_chat != NULL && chat_mentions(m->tool_chat, name));
}

size_t llama3_pretoken(const struct llama3_model *m, const char *text, size_t length)
{
    return length > 0
               ? pretoken_end(m->checkpoint.vocab.pretokenizer, (const uint8_t *)text, length, 0)
               : 0;
}

/* Adds a token's text to what a decoder has decoded. */
static void decode(const struct llama3_model *m, int32_t token, bool with_control,
                   struct decoder *decoder, struct buf *out)
{
    size_t n;
    const uint8_t *bytes = tokenizer_bytes(m->tokenizer, token, &n);
    enum token_kind kind = tokenizer_kind(m->tokenizer, token);
    if (kind == TOKEN_TEXT || kind == TOKEN_ADDED || kind == TOKEN_BYTE) {
        tokenizer_decode(m->tokenizer, token, decoder, out);
    } else if (with_control) {
        decoder_finish(decoder, out);
        decoder_push(decoder, bytes, n, out); /* a name may be no UTF-8 */
        decoder_finish(decoder, out);
    }
}

int llama3_detokenize(const struct llama3_model *m, const int32_t *tokens, size_t n_tokens,
                      bool with_control, char **text, size_t *length, struct llama3_error *err)
{
    struct decoder decoder = {.strips_blank = m->checkpoint.vocab.strips_blank};
    struct buf out = {0};

    buf_add(&out, "", 0);
    for (size_t i = 0; i < n_tokens; i++)
        decode(m, tokens[i], with_control, &decoder, &out);
    decoder_finish(&decoder, &out);
    if (out.failed) {
        buf_free(&out);
        return error_memory(err, "text", n_tokens);
    }
    *text = out.data;
    *length = out.size;
    return 0;
}

struct llama3_detokenizer {
    const struct llama3_model *model;
    bool with_control;
    struct decoder decoder;
    struct buf text; /* of the last call */
};

struct llama3_detokenizer *llama3_detokenizer_open(const struct llama3_model *m, bool with_control,
                                                   struct llama3_error *err)
{
    struct llama3_detokenizer *d = size_alloc_for(1, sizeof *d, "a detokenizer", err);
    if (d == NULL)
        return NULL;
    d->model = m;
    d->with_control = with_control;
    d->decoder.strips_blank = m->checkpoint.vocab.strips_blank;
    return d;
}

void llama3_detokenizer_close(struct llama3_detokenizer *d)
{
    if (d == NULL)
        return;
    buf_free(&d->text);
    free(d);
}

/* Hands out what a call has added. */
static const char *give_text(struct llama3_detokenizer *d, size_t *length, struct llama3_error *err)
{
    buf_add(&d->text, "", 0);
    *length = d->text.size;
    if (!d->text.failed)
        return d->text.data;
    error_memory(err, "text", d->text.size);
    return NULL;
}

const char *llama3_detokenizer_next(struct llama3_detokenizer *d, int32_t token, size_t *length,
                                    struct llama3_error *err)
{
    buf_clear(&d->text);
    decode(d->model, token, d->with_control, &d->decoder, &d->text);
    return give_text(d, length, err);
}

const char *llama3_detokenizer_finish(struct llama3_detokenizer *d, size_t *length,
                                      struct llama3_error *err)
{
    buf_clear(&d->text);
    decoder_finish(&d->decoder, &d->text);
    return give_text(d, length, err);
}

const char *llama3_token_bytes(const struct llama3_model *m, int32_t token, size_t *length)
{
    return (const char *)tokenizer_bytes(m->tokenizer, token, length);
}

uint64_t llama3_model_kv_bytes(const struct llama3_model *m)
{
    return m->engine != NULL ? engine_kv_bytes(m->engine) : 0;
}

uint64_t llama3_model_prefix_bytes(const struct llama3_model *m)
{
    return m->engine != NULL ? engine_prefix_bytes(m->engine) : 0;
}

uint64_t llama3_model_copied_bytes(const struct llama3_model *m)
{
    return m->engine != NULL ? engine_copied_bytes(m->engine) : 0;
}

bool llama3_token_is_control(const struct llama3_model *m, int32_t token)
{
    return tokenizer_kind(m->tokenizer, token) == TOKEN_CONTROL;
}

bool llama3_token_is_stop(const struct llama3_model *m, int32_t token)
{
    return session_is_stop(&m->shared, token);
}

const char *const *llama3_template_names(void)
{
    return chat_builtin_names();
}

void llama3_free(void *memory)
{
    free(memory);
}

const char *llama3_version(void)
{
    return PACKAGE_VERSION;
}
