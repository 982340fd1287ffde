/* SPDX-License-Identifier: MIT */
/* packed_write.c: writes a model as our own file, in one pass. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/size.h"
#include "base/utf8.h"
#include "checkpoint/generation.h"
#include "checkpoint/hf.h"
#include "checkpoint/packed.h"
#include "checkpoint/pretokenizers.h"

struct packed_writer {
    const struct tensor_source *source;
    struct new_file *file;
    struct tensor_entry *entries; /* [n] */
    size_t n;
    uint64_t header_bytes, data_bytes;
};

static size_t padding(uint64_t bytes)
{
    return tensor_padding(bytes, PACKED_ALIGNMENT);
}

/* ---- what there is to write ------------------------------------------------------------------ */

static struct tensor_entry *add(struct packed_writer *w, const char *type, size_t n_dims,
                                uint64_t rows, uint64_t cols)
{
    struct tensor_entry *entry = &w->entries[w->n++];
    *entry = (struct tensor_entry){.type = type, .n_dims = n_dims, .dims = {rows, cols}};
    return entry;
}

static void add_bytes(struct packed_writer *w, const char *name, const char *type, size_t size,
                      uint64_t rows, uint64_t cols, const void *data)
{
    struct tensor_entry *entry = add(w, type, cols > 1 ? 2 : 1, rows, cols);
    snprintf(entry->name, sizeof entry->name, "%s", name);
    entry->bytes = rows * cols * size;
    entry->data = data;
}

static bool has_flags(const struct vocab *v)
{
    for (size_t i = 0; v->flags != NULL && i < v->n; i++)
        if (v->flags[i] != 0)
            return true;
    return false;
}

static void add_tokenizer(struct packed_writer *w, const struct vocab *v)
{
    add_bytes(w, "tokenizer.bytes", "U8", 1, v->offsets[v->n], 1, v->bytes);
    add_bytes(w, "tokenizer.offsets", "U32", sizeof *v->offsets, v->n + 1, 1, v->offsets);
    add_bytes(w, "tokenizer.kinds", "U8", 1, v->n, 1, v->kinds);
    if (has_flags(v))
        add_bytes(w, "tokenizer.flags", "U8", 1, v->n, 1, v->flags);
    add_bytes(w, "tokenizer.merges", "I32", sizeof(int32_t), v->n_merges, 3, v->merges);
    if (v->ranks != NULL)
        add_bytes(w, "tokenizer.ranks", "U32", sizeof *v->ranks, v->n_merges, 1, v->ranks);
}

/* safetensors' name of a type that is stored row by row; NULL: it has none. */
static const char *type_name(enum dtype type)
{
    return type == DTYPE_F32    ? "F32"
           : type == DTYPE_F16  ? "F16"
           : type == DTYPE_BF16 ? "BF16"
                                : NULL;
}

static int add_tensor(struct packed_writer *w, struct tensor tensor, struct llama3_error *err)
{
    struct matrix target = tensor_target_of(w->source, &tensor);
    bool grouped = is_grouped(target.type);
    struct tensor_entry *entry =
        add(w, grouped ? "U8" : type_name(target.type),
            grouped || tensor_is_norm(tensor.kind) ? 1 : 2, target.rows, target.cols);
    tensor_name(&tensor, &hf_names, entry->name);
    if (entry->type == NULL)
        return error_input(err,
                           "%s: %s: expected f32, f16, bf16, int4 or int8 for a file, found %s",
                           w->source->model->path, entry->name, dtype_info(target.type)->name);
    entry->bytes = matrix_bytes(&target);
    if (grouped)
        entry->dims[0] = entry->bytes;
    else if (entry->n_dims == 1)
        entry->dims[0] = target.cols;
    entry->tensor = tensor;
    entry->target = target;
    return 0;
}

static int collect(struct packed_writer *w, struct llama3_error *err)
{
    const struct model *model = w->source->model;
    size_t n = tensor_count(model), extra = 7; /* tokenizer, rope_freqs */
    w->entries = size_alloc_for(n + extra, sizeof *w->entries, model->path, err);
    if (w->entries == NULL)
        return -1;
    add_tokenizer(w, &model->vocab);
    if (model->config.rope.factors != NULL)
        add_bytes(w, "rope_freqs.weight", "F32", sizeof(float), model->config.head_dim / 2, 1,
                  model->config.rope.factors);
    for (size_t i = 0; i < n; i++)
        if (add_tensor(w, tensor_at(model, i), err) != 0)
            return -1;
    return 0;
}

/* ---- metadata: *ok is false once an allocation failed, and checked at the end ---------------- */

static void set(json_t *object, const char *key, json_t *value, bool *ok)
{
    *ok = json_object_set_new(object, key, value) == 0 && *ok;
}

static void set_size(json_t *object, const char *key, size_t value, bool *ok)
{
    set(object, key, json_integer((json_int_t)value), ok);
}

/* JSON inside of a string; takes over `value`. */
static void set_json(json_t *object, const char *key, json_t *value, bool *ok)
{
    struct buf text = {0};
    json_print(value, JSON_COMPACT, &text);
    set(object, key, text.failed ? NULL : json_string(text.data), ok);
    buf_free(&text);
    json_decref(value);
}

static json_t *rope_json(const struct rope *rope, bool *ok)
{
    json_t *root = json_object();
    bool llama3 = rope->type == ROPE_LLAMA3, yarn = rope->type == ROPE_YARN;
    set(root, "rope_type", json_string(llama3 ? "llama3" : yarn ? "yarn" : "linear"), ok);
    set(root, "factor", json_real(rope->factor), ok);
    if (llama3) {
        set(root, "low_freq_factor", json_real(rope->low_freq_factor), ok);
        set(root, "high_freq_factor", json_real(rope->high_freq_factor), ok);
    }
    if (llama3 || yarn)
        set(root, "original_max_position_embeddings", json_real(rope->original_context), ok);
    if (yarn) {
        set(root, "beta_fast", json_real(rope->beta_fast), ok);
        set(root, "beta_slow", json_real(rope->beta_slow), ok);
        set(root, "attention_factor", json_real(rope->attention_factor), ok);
        set(root, "truncate", json_boolean(!rope->exact_range), ok);
    }
    return root;
}

static json_t *config_json(const struct model *model, bool *ok)
{
    const struct config *c = &model->config;
    json_t *root = json_object(), *eos = json_array();
    set(root, "model_type", json_string("llama"), ok);
    set_size(root, "hidden_size", c->dim, ok);
    set_size(root, "intermediate_size", c->ffn_dim, ok);
    set_size(root, "num_hidden_layers", c->n_layers, ok);
    set_size(root, "num_attention_heads", c->n_heads, ok);
    set_size(root, "num_key_value_heads", c->n_kv_heads, ok);
    set_size(root, "head_dim", c->head_dim, ok);
    set_size(root, "vocab_size", c->vocab_size, ok);
    set_size(root, "max_position_embeddings", c->context, ok);
    set(root, "rms_norm_eps", json_real((double)c->rms_eps), ok);
    set(root, "rope_theta", json_real(c->rope.theta), ok);
    if (c->rope.type != ROPE_PLAIN)
        set(root, "rope_scaling", rope_json(&c->rope, ok), ok);
    set(root, "tie_word_embeddings", json_boolean(c->tied), ok);
    for (size_t i = 0; i < model->n_eos; i++)
        *ok = json_array_append_new(eos, json_integer(model->eos_ids[i])) == 0 && *ok;
    set(root, "eos_token_id", eos, ok);
    return root;
}

static json_t *generation_json(const struct generation_defaults *g, bool *ok)
{
    json_t *root = json_object();
    struct generation_defaults copy = *g;
    for (size_t i = 0; i < n_generation_numbers; i++) {
        double value = *generation_value(&copy, &generation_numbers[i]);
        if (!isnan(value))
            set(root, generation_numbers[i].json, json_real(value), ok);
    }
    if (g->top_k >= 0)
        set(root, "top_k", json_integer(g->top_k), ok);
    if (g->do_sample >= 0)
        set(root, "do_sample", json_boolean(g->do_sample), ok);
    if (g->unsupported != NULL)
        *ok = json_object_update(root, g->unsupported) == 0 && *ok;
    return root;
}

static json_t *tokenizer_json(const struct vocab *v, bool *ok)
{
    json_t *root = json_object();
    set(root, "pretokenizer", json_string(pretokenizer_names[v->pretokenizer]), ok);
    set(root, "ignore_merges", json_boolean(v->ignore_merges), ok);
    set(root, "add_bos", json_boolean(v->add_bos), ok);
    set(root, "bos", json_integer(v->bos), ok);
    if (vocab_is_sentencepiece(v)) {
        set(root, "prefix", json_integer(v->prefix), ok);
        set(root, "strips_blank", json_boolean(v->strips_blank), ok);
    }
    return root;
}

static json_t *matrix_json(const struct matrix *m, bool *ok)
{
    json_t *root = json_object();
    set(root, "type", json_string(dtype_info(m->type)->name), ok);
    set_size(root, "rows", m->rows, ok);
    set_size(root, "cols", m->cols, ok);
    set(root, "scale", json_string(group_scale_names[m->groups.scale]), ok);
    if (m->groups.cols != GROUP)
        set_size(root, "group", m->groups.cols, ok);
    set(root, "offset", json_boolean(m->groups.offset), ok);
    if (m->type == DTYPE_INT4) {
        json_t *levels = json_array();
        for (size_t i = 0; i < 16; i++)
            *ok = json_array_append_new(levels, json_integer(m->groups.codebook[i])) == 0 && *ok;
        set(root, "levels", levels, ok);
    }
    return root;
}

/* "format" comes first: packed_recognise() looks for it there. */
static json_t *metadata_json(const struct packed_writer *w, bool *ok)
{
    const struct model *model = w->source->model;
    char version[16];
    json_t *root = json_object(), *matrices = json_object();
    snprintf(version, sizeof version, "%d", PACKED_VERSION);
    set(root, "format", json_string("llama3"), ok);
    set(root, "version", json_string(version), ok);
    set_json(root, "config", config_json(model, ok), ok);
    set_json(root, "generation_config", generation_json(&model->generation, ok), ok);
    set(root, "rope_interleaved", json_string(model->config.rope.interleaved ? "true" : "false"),
        ok);
    if (model->config.rope.type != ROPE_YARN && model->config.rope.attention_factor > 0)
        set_json(root, "rope",
                 json_pack("{s:f}", "attention_factor", model->config.rope.attention_factor), ok);
    set_json(root, "tokenizer", tokenizer_json(&model->vocab, ok), ok);
    if (json_object_get(model->templates, "default") != NULL)
        set(root, "chat_template", json_copy(json_object_get(model->templates, "default")), ok);
    if (json_object_size(model->templates) > 1 ||
        (model->templates != NULL && json_object_get(model->templates, "default") == NULL))
        set_json(root, "chat_templates", json_copy(model->templates), ok);
    if (model->special_tokens != NULL)
        set_json(root, "special_tokens", json_copy(model->special_tokens), ok);
    for (size_t i = 0; i < w->n; i++)
        if (w->entries[i].data == NULL && is_grouped(w->entries[i].target.type))
            set(matrices, w->entries[i].name, matrix_json(&w->entries[i].target, ok), ok);
    set_json(root, "matrices", matrices, ok);
    return root;
}

/* ---- header ---------------------------------------------------------------------------------- */

static void set_tensor(json_t *header, const struct tensor_entry *e, const char *name, uint64_t *at,
                       bool *ok)
{
    json_t *root = json_object(), *shape = json_array(), *offsets = json_array();
    for (size_t i = 0; i < e->n_dims; i++)
        *ok = json_array_append_new(shape, json_integer((json_int_t)e->dims[i])) == 0 && *ok;
    *ok = json_array_append_new(offsets, json_integer((json_int_t)*at)) == 0 && *ok;
    *at += e->bytes;
    *ok = json_array_append_new(offsets, json_integer((json_int_t)*at)) == 0 && *ok;
    set(root, "dtype", json_string(e->type), ok);
    set(root, "shape", shape, ok);
    set(root, "data_offsets", offsets, ok);
    set(header, name, root, ok);
}

/* The header's text; sets data_bytes. */
static void header_text(struct packed_writer *w, struct buf *text)
{
    bool ok = true;
    uint64_t at = 0;
    json_t *header = json_object();
    set(header, "__metadata__", metadata_json(w, &ok), &ok);
    for (size_t i = 0; i < w->n; i++) {
        const struct tensor_entry *entry = &w->entries[i];
        uint64_t gap = padding(entry->bytes);
        set_tensor(header, entry, entry->name, &at, &ok);
        if (gap > 0) {
            char name[32];
            struct tensor_entry pad = {.type = "U8", .n_dims = 1, .dims = {gap}, .bytes = gap};
            snprintf(name, sizeof name, "pad.%zu", i);
            set_tensor(header, &pad, name, &at, &ok);
        }
    }
    w->data_bytes = at;
    json_print(ok ? header : NULL, JSON_COMPACT, text);
    json_decref(header);
}

static int write_header(struct packed_writer *w, struct llama3_error *err)
{
    struct buf text = {0};
    header_text(w, &text);
    if (text.failed) {
        buf_free(&text);
        return error_memory(err, "the header", w->n * sizeof *w->entries);
    }
    char spaces[PACKED_ALIGNMENT];
    memset(spaces, ' ', sizeof spaces);
    size_t gap = padding(8 + text.size);
    uint64_t header = text.size + gap;
    w->header_bytes = 8 + header;
    int result = -1;
    if (new_file_reserve(w->file, w->header_bytes + w->data_bytes, err) == 0 &&
        new_file_write(w->file, &header, sizeof header, err) == 0 &&
        new_file_write(w->file, text.data, text.size, err) == 0)
        result = new_file_write(w->file, spaces, gap, err);
    buf_free(&text);
    return result;
}

/* ---- the whole ------------------------------------------------------------------------------- */

int packed_write(struct new_file *file, const struct tensor_source *source,
                 struct llama3_error *err)
{
    struct packed_writer writer = {.source = source, .file = file};
    int result = collect(&writer, err);
    if (result == 0)
        result = write_header(&writer, err);
    if (result == 0)
        result = tensor_write_all(file, source, writer.entries, writer.n, PACKED_ALIGNMENT, err);
    free(writer.entries);
    return result;
}
