/* SPDX-License-Identifier: MIT */
/* gguf_model.c: a GGUF file of the llama architecture, whole or in shards, as struct model. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/path.h"
#include "base/size.h"
#include "checkpoint/generation.h"
#include "checkpoint/gguf_names.h"
#include "checkpoint/hf.h"
#include "checkpoint/readers.h"

const struct tensor_names gguf_tensor_names = {
    .kinds =
        {
            [TENSOR_EMBED] = "token_embd.weight",
            [TENSOR_ATTN_NORM] = ".attn_norm.weight",
            [TENSOR_Q] = ".attn_q.weight",
            [TENSOR_K] = ".attn_k.weight",
            [TENSOR_V] = ".attn_v.weight",
            [TENSOR_O] = ".attn_output.weight",
            [TENSOR_FFN_NORM] = ".ffn_norm.weight",
            [TENSOR_GATE] = ".ffn_gate.weight",
            [TENSOR_UP] = ".ffn_up.weight",
            [TENSOR_DOWN] = ".ffn_down.weight",
            [TENSOR_NORM] = "output_norm.weight",
            [TENSOR_HEAD] = "output.weight",
        },
    .layer = "blk.",
    .absent_head_is_tied = true,
};

/* Keys of the llama architecture that are read, or that do not change the result. */
static const char *const understood_keys[] = {
    "context_length",
    "embedding_length",
    "block_count",
    "feed_forward_length",
    "vocab_size",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "rope.freq_base",
    "rope.dimension_count",
    "rope.scaling.type",
    "rope.scaling.original_context_length",
    "rope.scaling.factor",
    "rope.scaling.attn_factor",
    "rope.scale_linear",
    "rope.scaling.finetuned",
    "tensor_data_layout",
    "decoder_start_token_id",
};

/* Keys that would change the result, with the value that has no effect. */
static const struct {
    const char *key;
    double neutral;
} neutral_keys[] = {
    {"attention.scale", 0},
    {"attention.max_alibi_bias", 0},
    {"attention.clamp_kqv", 0},
    {"attention.sliding_window", 0},
    {"attn_logit_softcapping", 0},
    {"final_logit_softcapping", 0},
    {"residual_scale", 1},
    {"embedding_scale", 1},
    {"logit_scale", 1},
    {"expert_count", 0},
    {"expert_used_count", 0},
    {"leading_dense_block_count", 0},
    {"pooling_type", 0},
};

static int check_key(const struct gguf *gguf, const char *key, const char *name,
                     struct llama3_error *err)
{
    for (size_t i = 0; i < sizeof understood_keys / sizeof *understood_keys; i++)
        if (strcmp(name, understood_keys[i]) == 0)
            return 0;
    for (size_t i = 0; i < sizeof neutral_keys / sizeof *neutral_keys; i++) {
        double neutral = neutral_keys[i].neutral, value = neutral;
        if (strcmp(name, neutral_keys[i].key) != 0)
            continue;
        if (gguf_get_number(gguf, key, true, -INFINITY, INFINITY, &value, err) != 0)
            return -1;
        if (!(value >= neutral && value <= neutral))
            return error_input(err, "%s: %s: expected %g or nothing, found %g", gguf->path, key,
                               neutral, value);
        return 0;
    }
    if (strcmp(name, "attention.causal") == 0) {
        bool causal = true;
        if (gguf_get_bool(gguf, key, true, &causal, err) != 0)
            return -1;
        return causal ? 0 : error_input(err, "%s: %s: expected true, found false", gguf->path, key);
    }
    return error_input(err, "%s: expected only keys whose effect is known, found %s", gguf->path,
                       key);
}

/* A key of the architecture that is not known may change the result, so it is refused. */
static int refuse_variants(const struct gguf *gguf, const struct config *config,
                           struct llama3_error *err)
{
    static const char prefix[] = "llama.";
    size_t n = sizeof prefix - 1;
    for (size_t i = 0; i < gguf->n_kvs; i++) {
        const struct gguf_kv *kv = &gguf->kvs[i];
        char key[GGUF_MAX_KEY + 1];
        if (kv->key_length < n || memcmp(kv->key, prefix, n) != 0)
            continue;
        snprintf(key, sizeof key, "%.*s", (int)kv->key_length, kv->key);
        if (check_key(gguf, key, key + n, err) != 0)
            return -1;
    }
    static const char *const lengths[] = {"llama.rope.dimension_count",
                                          "llama.attention.value_length"};
    for (size_t i = 0; i < 2; i++) {
        int64_t length = (int64_t)config->head_dim;
        if (gguf_get_int(gguf, lengths[i], false, 0, INT64_MAX, &length, err) != 0)
            return -1;
        if ((size_t)length != config->head_dim)
            return error_input(err,
                               "%s: %s: expected %zu (the dimension of a head), found %" PRId64,
                               gguf->path, lengths[i], config->head_dim, length);
    }
    return 0;
}

/* Scaling as llama.cpp's converter writes it, which is transformers' without its options, and
 * attn_factor times what YaRN takes; the older key for the factor of a linear one, too. */
static int read_rope_scaling(const struct gguf *gguf, struct config *config,
                             struct llama3_error *err)
{
    struct rope *rope = &config->rope;
    const char *type = "none";
    size_t n = 4;
    double factor = 1, scale = 1, attention = 1, original = (double)config->context;
    if (gguf_get_string(gguf, "llama.rope.scaling.type", false, &type, &n, err) != 0 ||
        gguf_get_number(gguf, "llama.rope.scaling.factor", false, 0, 1e6, &factor, err) != 0 ||
        gguf_get_number(gguf, "llama.rope.scale_linear", false, 0, 1e6, &scale, err) != 0 ||
        gguf_get_number(gguf, "llama.rope.scaling.attn_factor", false, 1e-6, 1e6, &attention,
                        err) != 0 ||
        gguf_get_number(gguf, "llama.rope.scaling.original_context_length", false, 1, MAX_CONTEXT,
                        &original, err) != 0)
        return -1;
    bool none = n == 4 && memcmp(type, "none", 4) == 0,
         yarn = n == 4 && memcmp(type, "yarn", 4) == 0;
    bool linear = n == 6 && memcmp(type, "linear", 6) == 0;
    if (!none && !yarn && !linear)
        return error_input(err,
                           "%s: llama.rope.scaling.type: expected none, linear or yarn, found "
                           "\"%.*s\"",
                           gguf->path, n < 80 ? (int)n : 80, type);
    if (scale > 1 && factor > 1)
        return error_input(
            err,
            "%s: expected either llama.rope.scale_linear or llama.rope.scaling.factor, "
            "found both",
            gguf->path);
    if (attention < 1 || attention > 1)
        rope->attention_factor = attention;
    if (scale <= 1 && factor <= 1 && !yarn) /* 0 or 1, which files without scaling have, too */
        return 0;
    if (none && factor > 1)
        return error_input(err,
                           "%s: llama.rope.scaling.factor: expected 1 or nothing without a type, "
                           "found %g",
                           gguf->path, factor);
    rope->type = yarn ? ROPE_YARN : ROPE_LINEAR;
    rope->factor = scale > 1 ? scale : factor;
    if (!yarn)
        return 0;
    rope->original_context = original;
    hf_yarn_defaults(rope);
    rope->attention_factor *= attention;
    return 0;
}

static int read_config(const struct gguf *gguf, struct config *config, struct llama3_error *err)
{
    double eps, theta = 10000;
    *config = (struct config){0};
    const struct {
        const char *key;
        bool required;
        int64_t max;
        size_t *value;
    } sizes[] = {
        {"llama.context_length", true, MAX_CONTEXT, &config->context},
        {"llama.embedding_length", true, MAX_DIM, &config->dim},
        {"llama.block_count", true, MAX_LAYERS, &config->n_layers},
        {"llama.feed_forward_length", true, MAX_FFN, &config->ffn_dim},
        {"llama.attention.head_count", true, MAX_HEADS, &config->n_heads},
        {"llama.attention.head_count_kv", false, MAX_HEADS, &config->n_kv_heads},
        {"llama.attention.key_length", false, MAX_HEAD_DIM, &config->head_dim},
    };
    if (gguf_expect_string(gguf, "general.architecture", true, "llama", err) != 0)
        return -1;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int64_t value = 0;
        if (gguf_get_int(gguf, sizes[i].key, sizes[i].required, 1, sizes[i].max, &value, err) != 0)
            return -1;
        *sizes[i].value = (size_t)value;
    }
    if (gguf_get_number(gguf, "llama.attention.layer_norm_rms_epsilon", true, 0, 0.1, &eps, err) !=
            0 ||
        gguf_get_number(gguf, "llama.rope.freq_base", false, 1, 1e15, &theta, err) != 0)
        return -1;
    config->rms_eps = (float)eps;
    config->rope = (struct rope){.type = ROPE_PLAIN, .theta = theta, .interleaved = true};
    return read_rope_scaling(gguf, config, err);
}

/* The embedding has a row for each token. llama.vocab_size, where given, must agree. */
static int read_vocab_size(const struct gguf *gguf, const struct tensor_table *table,
                           struct config *config, struct llama3_error *err)
{
    const struct file_tensor *embed =
        tensor_table_find(table, gguf_tensor_names.kinds[TENSOR_EMBED]);
    if (embed == NULL || embed->n_dims != 2)
        return error_input(err, "%s: expected a matrix %s, found %s", gguf->path,
                           gguf_tensor_names.kinds[TENSOR_EMBED],
                           embed == NULL ? "nothing" : "another shape");
    if (embed->dims[0] > MAX_VOCAB)
        return error_input(err, "%s: tensor %s: expected at most %d rows, found %" PRIu64,
                           gguf->path, gguf_tensor_names.kinds[TENSOR_EMBED], MAX_VOCAB,
                           embed->dims[0]);
    int64_t size = (int64_t)embed->dims[0];
    if (gguf_get_int(gguf, "llama.vocab_size", false, 1, MAX_VOCAB, &size, err) != 0)
        return -1;
    if ((uint64_t)size != embed->dims[0])
        return error_input(
            err, "%s: llama.vocab_size: expected %" PRIu64 " (the rows of %s), found %" PRId64,
            gguf->path, embed->dims[0], gguf_tensor_names.kinds[TENSOR_EMBED], size);
    config->vocab_size = (size_t)size;
    return 0;
}

/* ---- split sets: NAME-00001-of-00003.gguf and so on, as gguf-split writes them ------------- */

enum { MAX_SHARDS = 1024 };

struct split {
    int64_t index, count, tensors; /* count 0 or 1: not split */
};

static int read_split(const struct gguf *gguf, struct split *split, struct llama3_error *err)
{
    *split = (struct split){0};
    if (gguf_get_int(gguf, "split.count", false, 0, MAX_SHARDS, &split->count, err) != 0)
        return -1;
    if (split->count == 0)
        return 0;
    if (gguf_get_int(gguf, "split.no", true, 0, split->count - 1, &split->index, err) != 0)
        return -1;
    return gguf_get_int(gguf, "split.tensors.count", true, 0, INT32_MAX, &split->tensors, err);
}

static int open_shard(struct model *model, const char *path, int64_t index,
                      const struct split *whole, struct tensor_table *table,
                      struct llama3_error *err)
{
    struct gguf gguf;
    struct split split;
    struct map map;
    if (access(path, F_OK) != 0)
        return error_input(err,
                           "%s: expected shard %" PRId64 " of %" PRId64 " of a split model: %s",
                           path, index + 1, whole->count, strerror(errno));
    if (model_map(model, path, &map, err) != 0 || gguf_parse(&gguf, &map, path, table, err) != 0)
        return -1;
    int result = read_split(&gguf, &split, err);
    gguf_free(&gguf);
    if (result == 0 && (split.index != index || split.count != whole->count))
        return error_input(
            err, "%s: expected shard %" PRId64 " of %" PRId64 ", found %" PRId64 " of %" PRId64,
            path, index + 1, whole->count, split.index + (split.count > 0), split.count);
    return result;
}

/* Opens the other shards, if this is the first of a set. */
static int open_shards(struct model *model, const struct gguf *first, struct tensor_table *table,
                       struct llama3_error *err)
{
    struct split split;
    unsigned shard, count;
    size_t stem;
    if (read_split(first, &split, err) != 0)
        return -1;
    if (split.count <= 1)
        return 0;
    if (!gguf_is_shard(first->path, &shard, &count, &stem) || shard != split.index + 1 ||
        count != split.count)
        return error_input(err,
                           "%s: expected a name that ends in -%05" PRId64 "-of-%05" PRId64
                           ".gguf, as the file is shard %" PRId64 " of %" PRId64,
                           first->path, split.index + 1, split.count, split.index + 1, split.count);
    for (int64_t i = 0; i < split.count; i++) {
        char *path = gguf_shard_path(first->path, (unsigned)i + 1, err);
        int result = path == NULL ? -1 : 0;
        if (result == 0 && split.index != 0)
            result =
                error_input(err, "%s: expected the first shard of the set (%s), found shard %u",
                            first->path, path, shard);
        else if (result == 0 && i > 0)
            result = open_shard(model, path, i, &split, table, err);
        free(path);
        if (result != 0)
            return -1;
    }
    if ((size_t)split.tensors != table->n)
        return error_input(err, "%s: expected %" PRId64 " tensors in all shards, found %zu",
                           first->path, split.tensors, table->n);
    return 0;
}

/* A generation_config.json in the same folder wins over the file's keys: users can edit it. */
static int read_generation_beside(struct model *model, const char *path, struct llama3_error *err)
{
    char *folder = path_folder(path, err);
    int result = folder == NULL ? -1 : hf_generation_open(model, folder, err);
    free(folder);
    return result;
}

static int fill(struct model *model, const struct gguf *gguf, struct tensor_table *table,
                struct llama3_error *err)
{
    if (open_shards(model, gguf, table, err) != 0 ||
        tensor_table_sort(table, gguf->path, err) != 0 ||
        read_config(gguf, &model->config, err) != 0 ||
        read_vocab_size(gguf, table, &model->config, err) != 0 ||
        config_finish(&model->config, gguf->path, err) != 0 ||
        refuse_variants(gguf, &model->config, err) != 0 ||
        assemble_rope_factors(model, table, gguf->path, err) != 0 ||
        assemble_model(model, table, &gguf_tensor_names, gguf->path, err) != 0)
        return -1;
    if (model->rope_factors != NULL)
        model->parameters -= model->config.head_dim / 2; /* computed, not trained */
    if (gguf_vocab_read(gguf, model, err) != 0 ||
        generation_read_gguf(gguf, &model->generation, err) != 0)
        return -1;
    return read_generation_beside(model, gguf->path, err);
}

int gguf_model_open(struct model *model, const char *path, struct llama3_error *err)
{
    struct gguf gguf = {0};
    struct tensor_table table = {0};
    struct map map;
    model->format = "gguf";
    int result = model_map(model, path, &map, err);
    if (result == 0)
        result = gguf_parse(&gguf, &map, path, &table, err);
    if (result == 0)
        result = fill(model, &gguf, &table, err);
    tensor_table_free(&table);
    gguf_free(&gguf);
    return result;
}
