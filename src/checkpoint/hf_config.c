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
    const char *model_type = NULL;
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
    return 0;
}

static int read_quantization(const json_t *root, struct model *model, const char *where,
                             struct llama3_error *err)
{
    const json_t *quantization = json_object_get(root, "quantization_config");
    return quantization == NULL || json_is_null(quantization)
               ? 0
               : hf_quantization_read(quantization, model, where, err);
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

/* Any other key would say that something is meant that is not done. */
static int check_rope_keys(const json_t *object, const char *type, const char *where,
                           struct llama3_error *err)
{
    static const struct {
        const char *key, *type; /* type: NULL: any, even where it has no effect */
    } known[] = {
        {"rope_type", NULL},
        {"type", NULL},
        {"rope_theta", NULL},
        {"factor", NULL},
        {"finetuned", NULL},
        {"original_max_position_embeddings", NULL},
        {"partial_rotary_factor", NULL},
        {"low_freq_factor", "llama3"},
        {"high_freq_factor", "llama3"},
        {"attention_factor", "yarn"},
        {"beta_fast", "yarn"},
        {"beta_slow", "yarn"},
        {"mscale", "yarn"},
        {"mscale_all_dim", "yarn"},
        {"truncate", "yarn"},
    };
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        bool found = json_is_null(value);
        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
            found = found || (strcmp(key, known[i].key) == 0 &&
                              (known[i].type == NULL || strcmp(type, known[i].type) == 0));
        if (!found)
            return error_input(err,
                               "%s: RoPE scaling: expected keys of type %.40s, found \"%.80s\"",
                               where, type, key);
    }
    return hf_expect_number(object, "partial_rotary_factor", 1, where, err);
}

/* The context that was trained on: the scaling's, or the model's beside it or in all. */
static int read_original(const json_t *root, const json_t *object, bool required,
                         const struct config *config, double *original, const char *where,
                         struct llama3_error *err)
{
    static const char key[] = "original_max_position_embeddings";
    double beside = 0;
    *original = 0;
    if (json_get_number(object, key, required, 1, MAX_CONTEXT, original, where, err) != 0 ||
        json_get_number(root, key, false, 1, MAX_CONTEXT, &beside, where, err) != 0)
        return -1;
    if (*original > 0 && beside > 0 && (*original < beside || *original > beside))
        return error_input(err, "%s: \"%s\": expected one, found %g and %g", where, key, beside,
                           *original);
    *original = *original > 0 ? *original : beside > 0 ? beside : (double)config->context;
    return 0;
}

/* How sharp YaRN makes attention, which depends on the factor where nothing else is said. */
static double attention_factor(double factor, double mscale)
{
    return factor > 1 ? 0.1 * mscale * log(factor) + 1 : 1;
}

static double or_default(double value, double otherwise)
{
    return value < 0 || value > 0 ? value : otherwise; /* as in Python, 0 is nothing */
}

void hf_yarn_defaults(struct rope *rope)
{
    rope->attention_factor = attention_factor(rope->factor, 1);
    rope->beta_fast = 32;
    rope->beta_slow = 1;
}

static int read_yarn(const json_t *object, struct rope *rope, const char *where,
                     struct llama3_error *err)
{
    double fast = 0, slow = 0, scale = 0, scale_all = 0;
    bool truncate = true;
    hf_yarn_defaults(rope);
    if (json_get_number(object, "beta_fast", false, 0, 1e6, &fast, where, err) != 0 ||
        json_get_number(object, "beta_slow", false, 0, 1e6, &slow, where, err) != 0 ||
        json_get_number(object, "mscale", false, 0, 1e6, &scale, where, err) != 0 ||
        json_get_number(object, "mscale_all_dim", false, 0, 1e6, &scale_all, where, err) != 0 ||
        json_get_bool(object, "truncate", false, &truncate, where, err) != 0)
        return -1;
    rope->beta_fast = or_default(fast, rope->beta_fast);
    rope->beta_slow = or_default(slow, rope->beta_slow);
    rope->exact_range = !truncate;
    if (scale > 0 && scale_all > 0)
        rope->attention_factor =
            attention_factor(rope->factor, scale) / attention_factor(rope->factor, scale_all);
    return json_get_number(object, "attention_factor", false, 1e-6, 1e6, &rope->attention_factor,
                           where, err);
}

/* Up to the context, which nothing goes beyond, transformers' dynamic scaling has no effect. */
static int read_dynamic(const json_t *root, const json_t *object, const struct config *config,
                        const char *where, struct llama3_error *err)
{
    double factor, original;
    if (json_get_number(object, "factor", true, 1, 1e6, &factor, where, err) != 0 ||
        read_original(root, object, false, config, &original, where, err) != 0)
        return -1;
    if (original >= (double)config->context && original <= (double)config->context)
        return 0;
    return error_input(
        err,
        "%s: RoPE scaling dynamic: expected original_max_position_embeddings %zu, as "
        "max_position_embeddings, found %g",
        where, config->context, original);
}

static int check_rope_type(const char *type, const char *where, struct llama3_error *err)
{
    static const char *const known[] = {"default", "linear", "dynamic", "yarn", "llama3"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(type, known[i]) == 0)
            return 0;
    return error_input(err,
                       "%s: RoPE scaling: expected type default, linear, dynamic, yarn or llama3, "
                       "found \"%.80s\"",
                       where, type);
}

static int read_rope(const json_t *root, struct config *config, const char *where,
                     struct llama3_error *err)
{
    struct rope *rope = &config->rope;
    const json_t *object = NULL;
    const char *type = "default", *old = NULL;
    *rope = (struct rope){.type = ROPE_PLAIN, .theta = 10000};
    if (find_rope(root, &object, where, err) != 0 ||
        json_get_number(root, "rope_theta", false, 1, 1e15, &rope->theta, where, err) != 0)
        return -1;
    if (object == NULL)
        return 0;
    if (json_get_string(object, "type", false, &old, where, err) != 0)
        return -1;
    type = old != NULL ? old : type;
    if (json_get_string(object, "rope_type", false, &type, where, err) != 0 ||
        check_rope_type(type, where, err) != 0 || check_rope_keys(object, type, where, err) != 0 ||
        json_get_number(object, "rope_theta", false, 1, 1e15, &rope->theta, where, err) != 0)
        return -1;
    if (strcmp(type, "default") == 0)
        return 0;
    if (strcmp(type, "dynamic") == 0)
        return read_dynamic(root, object, config, where, err);
    bool llama3 = strcmp(type, "llama3") == 0, yarn = strcmp(type, "yarn") == 0;
    rope->type = llama3 ? ROPE_LLAMA3 : yarn ? ROPE_YARN : ROPE_LINEAR;
    if (json_get_number(object, "factor", true, 1, 1e6, &rope->factor, where, err) != 0)
        return -1;
    if (rope->type == ROPE_LINEAR)
        return 0;
    if (read_original(root, object, llama3, config, &rope->original_context, where, err) != 0)
        return -1;
    if (yarn)
        return read_yarn(object, rope, where, err);
    return json_get_number(object, "low_freq_factor", true, 1e-6, 1e6, &rope->low_freq_factor,
                           where, err) != 0
               ? -1
               : json_get_number(object, "high_freq_factor", true, 1e-6, 1e6,
                                 &rope->high_freq_factor, where, err);
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
    if (refuse_variants(root, where, err) != 0 || read_quantization(root, model, where, err) != 0)
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
    if (read_rope(root, config, where, err) != 0 || config_finish(config, where, err) != 0)
        return -1;
    return hf_eos_read(root, model, where, err);
}
