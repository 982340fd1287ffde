/* SPDX-License-Identifier: MIT */
/*
 * hf_quantization.c: "quantization_config" of config.json, or the file that older writers of GPTQ
 * and AWQ put beside it. Tensors say how they are quantized (stored.h); this, what they don't. What
 * would change the result and is not done is refused by name.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/json.h"
#include "checkpoint/hf.h"

static int read_group(const json_t *root, const char *key, struct model *model, const char *where,
                      struct llama3_error *err)
{
    int64_t cols = -1; /* of a whole row */
    if (json_get_int(root, key, false, -1, MAX_FFN, &cols, where, err) != 0)
        return -1;
    model->quantization.cols = cols > 0 ? (size_t)cols : 0;
    return 0;
}

static int read_bits(const json_t *root, const char *key, bool eight, const char *where,
                     struct llama3_error *err)
{
    int64_t bits = 4;
    if (json_get_int(root, key, false, INT64_MIN, INT64_MAX, &bits, where, err) != 0)
        return -1;
    return bits == 4 || (eight && bits == 8)
               ? 0
               : error_input(err, "%s: \"%s\": expected %s, found %" PRId64, where, key,
                             eight ? "4 or 8" : "4", bits);
}

/* One of a list of names, in any case. Returns its index, -1 if it is another. */
static int find_name(const json_t *root, const char *key, const char *const names[], int absent,
                     const char *expected, const char *where, struct llama3_error *err)
{
    const char *found = NULL;
    if (json_get_string(root, key, false, &found, where, err) != 0)
        return -1;
    for (int i = 0; found != NULL && names[i] != NULL; i++)
        if (strcasecmp(found, names[i]) == 0)
            return i;
    return found == NULL ? absent
                         : error_input(err, "%s: \"%s\": expected %s, found \"%.80s\"", where, key,
                                       expected, found);
}

int hf_gptq_read(const json_t *root, struct model *model, const char *where,
                 struct llama3_error *err)
{
    static const char *const formats[] = {"gptq", "gptq_v2", NULL}, *const words[] = {"int32",
                                                                                      NULL};
    struct quantization *q = &model->quantization;
    q->method = QUANTIZATION_GPTQ;
    q->symmetric = true;
    int format = find_name(root, "checkpoint_format", formats, 0, "gptq or gptq_v2", where, err);
    if (format < 0 || find_name(root, "pack_dtype", words, 0, "int32", where, err) < 0 ||
        hf_expect_false(root, "is_marlin_format", where, err) != 0 ||
        read_bits(root, "bits", true, where, err) != 0 ||
        read_group(root, "group_size", model, where, err) != 0 ||
        json_get_bool(root, "sym", false, &q->symmetric, where, err) != 0 ||
        json_get_bool(root, "desc_act", false, &q->ordered, where, err) != 0)
        return -1;
    q->v2 = format == 1;
    return 0;
}

int hf_awq_read(const json_t *root, struct model *model, const char *where,
                struct llama3_error *err)
{
    static const char *const versions[] = {"gemm", "gemv", NULL};
    bool zeros = true, old = json_object_get(root, "w_bit") != NULL;
    int version = find_name(root, "version", versions, 0, "gemm or gemv", where, err);
    model->quantization.method = QUANTIZATION_AWQ;
    if (version < 0 || read_bits(root, old ? "w_bit" : "bits", false, where, err) != 0 ||
        read_group(root, old ? "q_group_size" : "group_size", model, where, err) != 0 ||
        json_get_bool(root, "zero_point", false, &zeros, where, err) != 0)
        return -1;
    if (!zeros)
        return error_input(err, "%s: \"zero_point\": expected true, found false", where);
    model->quantization.by_rows = version == 1;
    return 0;
}

/* The block of FP8's scales: two positive numbers, or nothing. */
static int read_block(const json_t *root, const char *key, struct model *model, const char *where,
                      struct llama3_error *err)
{
    const json_t *block = json_object_get(root, key);
    json_int_t rows = json_integer_value(json_array_get(block, 0));
    json_int_t cols = json_integer_value(json_array_get(block, 1));
    if (block == NULL || json_is_null(block))
        return 0;
    if (json_array_size(block) != 2 || rows < 1 || rows > MAX_FFN || cols < 1 || cols > MAX_FFN) {
        char expected[64];
        snprintf(expected, sizeof expected, "two sizes of 1..%d", MAX_FFN);
        return json_error(block, key, expected, where, err);
    }
    model->quantization.scale_rows = (size_t)rows;
    model->quantization.scale_cols = (size_t)cols;
    return 0;
}

static bool has_value(const json_t *root, const char *key)
{
    const json_t *value = json_object_get(root, key);
    return value != NULL && !json_is_null(value);
}

/* Activations of fewer than 8 bits: ours have 8, whatever is asked for. */
static int note_activations(const json_t *group, struct model *model, const char *where,
                            struct llama3_error *err)
{
    int64_t bits = 8;
    const json_t *inputs = json_object_get(group, "input_activations");
    if (!json_is_object(inputs))
        return 0;
    if (json_get_int(inputs, "num_bits", false, 1, 64, &bits, where, err) != 0)
        return -1;
    return bits >= 8
               ? 0
               : model_note(model, where, err,
                            "activations of %d bits are asked for: they have 8 or more", (int)bits);
}

/* Which matrices a group is for is not looked at: what all groups say holds for all matrices. The
 * size of groups follows from the tensors, but where the last group of a row is shorter: one that
 * doesn't fit them is ignored. */
static int read_weights(const json_t *weights, struct model *model, const char *where,
                        struct llama3_error *err)
{
    struct quantization *q = &model->quantization;
    const json_t *order = json_object_get(weights, "actorder");
    const char *name = json_is_string(order) ? json_string_value(order) : "";
    json_int_t cols = json_integer_value(json_object_get(weights, "group_size"));
    bool symmetric = true;
    if (json_get_bool(weights, "symmetric", false, &symmetric, where, err) != 0 ||
        read_block(weights, "block_structure", model, where, err) != 0)
        return -1;
    if (cols > 0 && cols <= MAX_FFN)
        q->cols = (size_t)cols;
    q->zeros &= !symmetric;
    q->blocks &= has_value(weights, "block_structure");
    q->ordered &= json_is_true(order) || strcasecmp(name, "group") == 0 ||
                  strcasecmp(name, "dynamic") == 0; /* "weight", "static": only while quantized */
    return 0;
}

static int read_compressed(const json_t *root, struct model *model, const char *where,
                           struct llama3_error *err)
{
    static const char *const refused[] = {"transform_config", "sparsity_config"};
    static const char *const states[] = {"compressed", NULL};
    const char *name;
    json_t *group;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        const json_t *value = json_object_get(root, refused[i]);
        const char *format = json_string_value(json_object_get(value, "format"));
        if (json_object_size(value) > 0 && (format == NULL || strcmp(format, "dense") != 0))
            return error_input(err, "%s: \"%s\": expected none, found one", where, refused[i]);
    }
    if (find_name(root, "quantization_status", states, 0, "compressed", where, err) < 0)
        return -1;
    if (has_value(root, "kv_cache_scheme") &&
        model_note(model, where, err,
                   "a quantized KV cache is asked for: it is kept as f16 or f32") != 0)
        return -1;
    json_t *groups = json_object_get(root, "config_groups");
    struct quantization *q = &model->quantization;
    q->zeros = q->ordered = q->blocks = json_object_size(groups) > 0;
    json_object_foreach(groups, name, group)
    {
        const json_t *weights = json_object_get(group, "weights");
        if (note_activations(group, model, where, err) != 0 ||
            read_weights(weights, model, where, err) != 0)
            return -1;
    }
    return 0;
}

static int read_float8(const json_t *root, struct model *model, const char *where,
                       struct llama3_error *err)
{
    model->quantization.blocks = has_value(root, "weight_block_size");
    return read_block(root, "weight_block_size", model, where, err);
}

static int read_nothing(const json_t *root, struct model *model, const char *where,
                        struct llama3_error *err)
{
    (void)root, (void)model, (void)where, (void)err;
    return 0;
}

int hf_quantization_read(const json_t *root, struct model *model, const char *where,
                         struct llama3_error *err)
{
    static const struct {
        const char *method;
        hf_reader *read;
    } methods[] = {
        {"gptq", hf_gptq_read},
        {"awq", hf_awq_read},
        {"compressed-tensors", read_compressed},
        {"bitsandbytes", read_nothing},
        {"fbgemm_fp8", read_nothing},
        {"fp8", read_float8},
        {"modelopt", read_nothing},
    };
    const char *method;
    if (!json_is_object(root))
        return error_input(err, "%s: \"quantization_config\": expected an object, found %s", where,
                           json_kind(root));
    if (json_get_string(root, "quant_method", true, &method, where, err) != 0)
        return -1;
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (strcmp(method, methods[i].method) == 0)
            return methods[i].read(root, model, where, err);
    return error_input(err,
                       "%s: \"quant_method\": expected gptq, awq, compressed-tensors, "
                       "bitsandbytes, fbgemm_fp8, fp8 or modelopt, found \"%.80s\"",
                       where, method);
}
