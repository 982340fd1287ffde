/* SPDX-License-Identifier: MIT */
/*
 * hf_config.c: config.json. Defaults are those of transformers' LlamaConfig. RoPE is spelled as in
 * published checkpoints (rope_theta, rope_scaling) or as in transformers 5 (rope_parameters). A key
 * that would change the result and is not implemented is an error that names it.
 */
#include <math.h>
#include <string.h>

#include "base/json.h"
#include "checkpoint/assemble.h"
#include "checkpoint/hf.h"

int hf_expect_string(const json_t *object, const char *key, const char *expected, const char *where,
                     struct llama3_error *err)
{
    const char *found = expected;
    if (json_get_string(object, key, false, &found, where, err) != 0)
        return -1;
    if (strcmp(found, expected) == 0)
        return 0;
    return error_input(err, "%s: \"%s\": expected \"%s\", found \"%.80s\"", where, key, expected,
                       found);
}

int hf_expect_number(const json_t *object, const char *key, double expected, const char *where,
                     struct llama3_error *err)
{
    double found = expected;
    if (json_get_number(object, key, false, -INFINITY, INFINITY, &found, where, err) != 0)
        return -1;
    if (found >= expected && found <= expected)
        return 0;
    return error_input(err, "%s: \"%s\": expected %g, found %g", where, key, expected, found);
}

int hf_expect_false(const json_t *object, const char *key, const char *where,
                    struct llama3_error *err)
{
    bool found = false;
    if (json_get_bool(object, key, false, &found, where, err) != 0)
        return -1;
    if (!found)
        return 0;
    return error_input(err, "%s: \"%s\": expected false, found true", where, key);
}

static int refuse_variants(const json_t *root, const char *where, struct llama3_error *err)
{
    const json_t *architectures = json_object_get(root, "architectures");
    const json_t *quantization = json_object_get(root, "quantization_config");
    const char *method = "an unnamed method", *model_type = NULL;
    if (json_get_string(root, "model_type", true, &model_type, where, err) != 0 ||
        hf_expect_string(root, "model_type", "llama", where, err) != 0)
        return -1;
    if (architectures != NULL && !json_is_null(architectures)) {
        const json_t *first = json_array_get(architectures, 0);
        if (json_array_size(architectures) != 1 || !json_is_string(first) ||
            strcmp(json_string_value(first), "LlamaForCausalLM") != 0)
            return error_input(
                err, "%s: \"architectures\": expected LlamaForCausalLM, found %.80s", where,
                json_is_string(first) ? json_string_value(first) : json_kind(architectures));
    }
    if (hf_expect_string(root, "hidden_act", "silu", where, err) != 0 ||
        hf_expect_false(root, "attention_bias", where, err) != 0 ||
        hf_expect_false(root, "mlp_bias", where, err) != 0 ||
        hf_expect_number(root, "partial_rotary_factor", 1, where, err) != 0)
        return -1;
    if (quantization == NULL || json_is_null(quantization))
        return 0;
    if (json_is_object(quantization) &&
        json_get_string(quantization, "quant_method", false, &method, where, err) != 0)
        return -1;
    return error_input(err,
                       "%s: \"quantization_config\": expected unquantized weights, found %.80s",
                       where, method);
}

/* rope_scaling or rope_parameters: one object, or NULL. */
static int find_rope(const json_t *root, const json_t **rope, const char *where,
                     struct llama3_error *err)
{
    const json_t *old = json_object_get(root, "rope_scaling");
    const json_t *new = json_object_get(root, "rope_parameters");
    old = json_is_null(old) ? NULL : old;
    new = json_is_null(new) ? NULL : new;
    if (old != NULL && new != NULL && !json_equal(old, new))
        return error_input(
            err, "%s: expected either \"rope_scaling\" or \"rope_parameters\", found both", where);
    *rope = new != NULL ? new : old;
    if (*rope != NULL && !json_is_object(*rope))
        return error_input(err, "%s: \"%s\": expected an object, found %s", where,
                           new != NULL ? "rope_parameters" : "rope_scaling", json_kind(*rope));
    return 0;
}

static int check_rope_keys(const json_t *object, const char *where, struct llama3_error *err)
{
    static const char *const known[] = {"rope_type",
                                        "type",
                                        "rope_theta",
                                        "factor",
                                        "low_freq_factor",
                                        "high_freq_factor",
                                        "original_max_position_embeddings",
                                        "partial_rotary_factor"};
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        bool found = json_is_null(value);
        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
            found = found || strcmp(key, known[i]) == 0;
        if (!found)
            return error_input(err, "%s: expected RoPE of type default or llama3, found \"%.80s\"",
                               where, key);
    }
    return hf_expect_number(object, "partial_rotary_factor", 1, where, err);
}

static int read_rope(const json_t *root, struct rope *rope, const char *where,
                     struct llama3_error *err)
{
    const json_t *object = NULL;
    const char *type = "default";
    *rope = (struct rope){.type = ROPE_PLAIN, .theta = 10000};
    if (find_rope(root, &object, where, err) != 0 ||
        json_get_number(root, "rope_theta", false, 1, 1e15, &rope->theta, where, err) != 0)
        return -1;
    if (object == NULL)
        return 0;
    if (check_rope_keys(object, where, err) != 0 ||
        json_get_number(object, "rope_theta", false, 1, 1e15, &rope->theta, where, err) != 0 ||
        json_get_string(object, "type", false, &type, where, err) != 0 ||
        json_get_string(object, "rope_type", false, &type, where, err) != 0)
        return -1;
    if (strcmp(type, "default") == 0)
        return 0;
    if (strcmp(type, "llama3") != 0)
        return error_input(
            err, "%s: RoPE scaling: expected type default or llama3, found \"%.80s\"", where, type);
    rope->type = ROPE_LLAMA3;
    return json_get_number(object, "factor", true, 1, 1e6, &rope->factor, where, err) != 0 ||
                   json_get_number(object, "low_freq_factor", true, 1e-6, 1e6,
                                   &rope->low_freq_factor, where, err) != 0 ||
                   json_get_number(object, "high_freq_factor", true, 1e-6, 1e6,
                                   &rope->high_freq_factor, where, err) != 0 ||
                   json_get_number(object, "original_max_position_embeddings", true, 1, MAX_CONTEXT,
                                   &rope->original_context, where, err) != 0
               ? -1
               : 0;
}

static int add_eos(const json_t *id, struct model *model, const char *where,
                   struct llama3_error *err)
{
    if (!json_is_integer(id))
        return error_input(err,
                           "%s: \"eos_token_id\": expected an integer or a list of them, found %s",
                           where, json_kind(id));
    return model_add_eos(model, json_integer_value(id), where, err);
}

int hf_eos_read(const json_t *root, struct model *model, const char *where,
                struct llama3_error *err)
{
    const json_t *ids = json_object_get(root, "eos_token_id");
    if (ids == NULL || json_is_null(ids))
        return 0;
    if (!json_is_array(ids))
        return add_eos(ids, model, where, err);
    for (size_t i = 0; i < json_array_size(ids); i++)
        if (add_eos(json_array_get(ids, i), model, where, err) != 0)
            return -1;
    return 0;
}

int hf_config_read(const json_t *root, struct model *model, const char *where,
                   struct llama3_error *err)
{
    struct config *config = &model->config;
    *config = (struct config){
        .dim = 4096,
        .ffn_dim = 11008,
        .n_layers = 32,
        .n_heads = 32,
        .vocab_size = 32000,
        .context = 2048,
    };
    const struct {
        const char *key;
        int64_t max;
        size_t *value;
    } sizes[] = {
        {"hidden_size", MAX_DIM, &config->dim},
        {"intermediate_size", MAX_FFN, &config->ffn_dim},
        {"num_hidden_layers", MAX_LAYERS, &config->n_layers},
        {"num_attention_heads", MAX_HEADS, &config->n_heads},
        {"num_key_value_heads", MAX_HEADS, &config->n_kv_heads},
        {"head_dim", MAX_HEAD_DIM, &config->head_dim},
        {"vocab_size", MAX_VOCAB, &config->vocab_size},
        {"max_position_embeddings", MAX_CONTEXT, &config->context},
    };
    double eps = 1e-6;
    if (refuse_variants(root, where, err) != 0)
        return -1;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int64_t value = (int64_t)*sizes[i].value;
        if (json_get_int(root, sizes[i].key, false, 1, sizes[i].max, &value, where, err) != 0)
            return -1;
        *sizes[i].value = (size_t)value;
    }
    if (json_get_number(root, "rms_norm_eps", false, 0, 0.1, &eps, where, err) != 0 ||
        json_get_bool(root, "tie_word_embeddings", false, &config->tied, where, err) != 0)
        return -1;
    config->rms_eps = (float)eps;
    if (read_rope(root, &config->rope, where, err) != 0 || config_finish(config, where, err) != 0)
        return -1;
    return hf_eos_read(root, model, where, err);
}
