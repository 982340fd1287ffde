/* SPDX-License-Identifier: MIT */
#include "checkpoint/gguf_write.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "base/utf8.h"
#include "checkpoint/generation.h"
#include "checkpoint/hf.h"

enum { VERSION = 3, ALIGNMENT = 32, QUANTIZATION_VERSION = 2 };

/* ---- keys with values ------------------------------------------------------------------------ */

static void put_u32(struct buf *out, uint32_t value)
{
    buf_add(out, &value, sizeof value); /* little-endian, as the machine */
}

static void put_u64(struct buf *out, uint64_t value)
{
    buf_add(out, &value, sizeof value);
}

void gguf_put_text(struct buf *out, const void *text, size_t size)
{
    put_u64(out, size);
    buf_add(out, text, size);
}

static void begin(struct gguf_keys *keys, const char *key, enum gguf_type type)
{
    gguf_put_text(&keys->text, key, strlen(key));
    put_u32(&keys->text, type);
    keys->n++;
}

void gguf_put_u32(struct gguf_keys *keys, const char *key, uint32_t value)
{
    begin(keys, key, GGUF_U32);
    put_u32(&keys->text, value);
}

void gguf_put_f32(struct gguf_keys *keys, const char *key, float value)
{
    begin(keys, key, GGUF_F32);
    buf_add(&keys->text, &value, sizeof value);
}

void gguf_put_bool(struct gguf_keys *keys, const char *key, bool value)
{
    begin(keys, key, GGUF_BOOL);
    buf_add(&keys->text, value ? "\1" : "\0", 1);
}

void gguf_put_string(struct gguf_keys *keys, const char *key, const char *text, size_t size)
{
    begin(keys, key, GGUF_STRING);
    gguf_put_text(&keys->text, text, size);
}

void gguf_put_array(struct gguf_keys *keys, const char *key, enum gguf_type item, uint64_t n)
{
    begin(keys, key, GGUF_ARRAY);
    put_u32(&keys->text, item);
    put_u64(&keys->text, n);
}

void gguf_put_start(struct buf *out, const struct gguf_keys *keys, uint64_t n_tensors)
{
    buf_add_str(out, "GGUF");
    put_u32(out, VERSION);
    put_u64(out, n_tensors);
    put_u64(out, keys->n);
    buf_add(out, keys->text.data, keys->text.size);
    out->failed |= keys->text.failed;
}

/* ---- what the model is ----------------------------------------------------------------------- */

/* enum llama_ftype of llama.h */
static uint32_t file_type(enum dtype type)
{
    static const uint8_t types[DTYPE_ROWS] = {
        [DTYPE_F32] = 0,   [DTYPE_F16] = 1,   [DTYPE_Q4_0] = 2,  [DTYPE_Q4_1] = 3,
        [DTYPE_Q8_0] = 7,  [DTYPE_Q5_0] = 8,  [DTYPE_Q5_1] = 9,  [DTYPE_Q4_K] = 14,
        [DTYPE_Q5_K] = 16, [DTYPE_Q6_K] = 18, [DTYPE_BF16] = 32, [DTYPE_IQ4_NL] = 25,
    };
    return types[type];
}

/* The last part of the path. */
static void put_name(struct gguf_keys *keys, const char *path)
{
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/')
        end--;
    size_t begin = end;
    while (begin > 0 && path[begin - 1] != '/')
        begin--;
    bool valid = utf8_valid((const uint8_t *)path + begin, end - begin) == end - begin;
    gguf_put_string(keys, "general.name", valid ? path + begin : "llama", valid ? end - begin : 5);
}

bool gguf_says_scaling(const struct rope *rope)
{
    struct rope usual = {.factor = rope->factor};
    hf_yarn_defaults(&usual);
    const double found[] = {rope->beta_fast, rope->beta_slow, rope->attention_factor};
    const double expected[] = {usual.beta_fast, usual.beta_slow, usual.attention_factor};
    if (rope->type == ROPE_LLAMA3 || rope->factors != NULL)
        return false;
    return rope->type != ROPE_YARN ||
           (memcmp(found, expected, sizeof found) == 0 && !rope->exact_range &&
            rope->original_context <= floor(rope->original_context));
}

static void put_scaling(struct gguf_keys *keys, const struct rope *rope)
{
    bool yarn = rope->type == ROPE_YARN && gguf_says_scaling(rope);
    if (yarn || rope->type == ROPE_LINEAR) {
        gguf_put_string(keys, "llama.rope.scaling.type", yarn ? "yarn" : "linear", yarn ? 4 : 6);
        gguf_put_f32(keys, "llama.rope.scaling.factor", (float)rope->factor);
    }
    if (yarn)
        gguf_put_u32(keys, "llama.rope.scaling.original_context_length",
                     (uint32_t)rope->original_context);
    else if (rope->attention_factor > 0)
        gguf_put_f32(keys, "llama.rope.scaling.attn_factor", (float)rope->attention_factor);
}

static void put_config(struct gguf_keys *keys, const struct model *model, enum dtype type)
{
    const struct config *c = &model->config;
    const struct {
        const char *key;
        size_t value;
    } sizes[] = {
        {"llama.block_count", c->n_layers},
        {"llama.context_length", c->context},
        {"llama.embedding_length", c->dim},
        {"llama.feed_forward_length", c->ffn_dim},
        {"llama.attention.head_count", c->n_heads},
        {"llama.attention.head_count_kv", c->n_kv_heads},
        {"llama.attention.key_length", c->head_dim},
        {"llama.attention.value_length", c->head_dim},
        {"llama.rope.dimension_count", c->head_dim},
        {"llama.vocab_size", c->vocab_size},
    };
    gguf_put_string(keys, "general.architecture", "llama", 5);
    gguf_put_string(keys, "general.type", "model", 5);
    put_name(keys, model->path);
    gguf_put_u32(keys, "general.file_type", file_type(type));
    gguf_put_u32(keys, "general.quantization_version", QUANTIZATION_VERSION);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        gguf_put_u32(keys, sizes[i].key, (uint32_t)sizes[i].value);
    gguf_put_f32(keys, "llama.attention.layer_norm_rms_epsilon", c->rms_eps);
    gguf_put_f32(keys, "llama.rope.freq_base", (float)c->rope.theta);
    put_scaling(keys, &c->rope);
}

/* Numbers, true and strings; other values become true, of which a reader can tell the name. */
static void put_unsupported(struct gguf_keys *keys, const char *name, const json_t *value)
{
    char key[GGUF_MAX_KEY];
    snprintf(key, sizeof key, "general.sampling.%.200s", name);
    if (json_is_number(value))
        gguf_put_f32(keys, key, (float)json_number_value(value));
    else if (json_is_string(value))
        gguf_put_string(keys, key, json_string_value(value), json_string_length(value));
    else
        gguf_put_bool(keys, key, !json_is_false(value));
}

/* How answers are sampled. Without do_sample that is at temperature 0. */
static void put_generation(struct gguf_keys *keys, const struct generation_defaults *generation)
{
    struct generation_defaults g = *generation;
    const char *name;
    json_t *value;
    if (g.do_sample == 0)
        g.temperature = 0;
    for (size_t i = 0; i < n_generation_numbers; i++) {
        double number = *generation_value(&g, &generation_numbers[i]);
        if (!isnan(number))
            gguf_put_f32(keys, generation_numbers[i].gguf, (float)number);
    }
    if (g.top_k >= 0)
        gguf_put_u32(keys, "general.sampling.top_k", (uint32_t)g.top_k);
    json_object_foreach(g.unsupported, name, value)
    {
        put_unsupported(keys, name, value);
    }
}

/* ---- tensors --------------------------------------------------------------------------------- */

struct gguf_writer {
    const struct tensor_source *source;
    struct tensor_entry *entries; /* [n] */
    size_t n;
};

static int collect(struct gguf_writer *w, const struct gguf_target *target,
                   struct llama3_error *err)
{
    const struct model *model = w->source->model;
    size_t n = tensor_count(model);
    w->entries = size_alloc_for(n + 1, sizeof *w->entries, model->path, err);
    if (w->entries == NULL)
        return -1;
    if (target->rope_factors != NULL) {
        struct tensor_entry *e = &w->entries[w->n++];
        *e = (struct tensor_entry){.name = "rope_freqs.weight", .data = target->rope_factors};
        e->target = (struct matrix){
            .type = DTYPE_F32, .rows = 1, .cols = model->config.head_dim / 2, .data = e->data};
        e->bytes = matrix_bytes(&e->target);
    }
    for (size_t i = 0; i < n; i++) {
        struct tensor_entry *e = &w->entries[w->n++];
        *e = (struct tensor_entry){.tensor = tensor_at(model, i)};
        tensor_name(&e->tensor, &gguf_tensor_names, e->name);
        e->target = tensor_target_of(w->source, &e->tensor);
        e->bytes = matrix_bytes(&e->target);
        if (e->target.type >= DTYPE_ROWS)
            return error_input(err, "%s: %s: expected a type of GGUF for a file, found %s",
                               model->path, e->name, dtype_info(e->target.type)->name);
    }
    return 0;
}

/* The columns come first. Returns the size of all data. */
static uint64_t put_tensors(const struct gguf_writer *w, struct buf *out)
{
    uint64_t at = 0;
    for (size_t i = 0; i < w->n; i++) {
        const struct tensor_entry *e = &w->entries[i];
        bool vector = e->target.rows == 1 && (e->data != NULL || tensor_is_norm(e->tensor.kind));
        gguf_put_text(out, e->name, strlen(e->name));
        put_u32(out, vector ? 1 : 2);
        put_u64(out, e->target.cols);
        if (!vector)
            put_u64(out, e->target.rows);
        put_u32(out, gguf_tensor_type(e->target.type));
        put_u64(out, at);
        at += e->bytes + tensor_padding(e->bytes, ALIGNMENT);
    }
    return at;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static int write_header(struct new_file *file, const struct gguf_writer *w,
                        const struct gguf_keys *keys, struct llama3_error *err)
{
    static const char zeros[ALIGNMENT];
    struct buf header = {0};
    gguf_put_start(&header, keys, w->n);
    uint64_t data = put_tensors(w, &header);
    buf_add(&header, zeros, tensor_padding(header.size, ALIGNMENT));
    int result = header.failed ? error_memory(err, "the header", header.size + keys->text.size)
                               : new_file_reserve(file, header.size + data, err);
    if (result == 0)
        result = new_file_write(file, header.data, header.size, err);
    buf_free(&header);
    return result;
}

int gguf_write(struct new_file *file, const struct tensor_source *source,
               const struct gguf_target *target, struct llama3_error *err)
{
    struct gguf_writer writer = {.source = source};
    struct gguf_keys keys = {0};
    int result = collect(&writer, target, err);
    if (result == 0) {
        put_config(&keys, source->model, target->type);
        put_generation(&keys, &source->model->generation);
        result = gguf_put_vocab(&keys, source->model, err);
    }
    if (result == 0)
        result = write_header(file, &writer, &keys, err);
    if (result == 0)
        result = tensor_write_all(file, source, writer.entries, writer.n, ALIGNMENT, err);
    buf_free(&keys.text);
    free(writer.entries);
    return result;
}

void gguf_write_notes(const struct model *model, void (*tell)(void *arg, const char *note),
                      void *arg)
{
    gguf_vocab_notes(model, tell, arg);
}
