/* SPDX-License-Identifier: MIT */
/*
 * lora_config.c: PEFT's adapter_config.json. A key that is not known may ask for something that
 * changes the result, so it is refused unless its value asks for nothing.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "checkpoint/hf.h"
#include "checkpoint/lora.h"
#include "checkpoint/lora_read.h"

/* Keys that are read below, or that don't change the result of an adapter that was trained. */
static const char *const known[] = {
    "alpha_pattern",
    "auto_mapping",
    "base_model_name_or_path",
    "bias",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "inference_mode",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_alpha",
    "lora_dropout",
    "lora_ga_config",
    "megatron_core",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "r",
    "rank_pattern",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
    "use_rslora",
};

static bool is_known(const char *key)
{
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i], key) == 0)
            return true;
    return false;
}

static bool asks_for_nothing(const json_t *value)
{
    return json_is_null(value) || json_is_false(value) ||
           (json_is_array(value) && json_array_size(value) == 0) ||
           (json_is_object(value) && json_object_size(value) == 0) ||
           (json_is_string(value) && json_string_length(value) == 0);
}

/* Some ways to begin the training change the base model's weights, which the file doesn't have. */
static int check_start(const json_t *config, const char *where, struct llama3_error *err)
{
    static const char *const harmless[] = {"gaussian", "eva", "orthogonal"};
    const json_t *value = json_object_get(config, "init_lora_weights");
    const char *name = json_string_value(value);
    bool fine = value == NULL || json_is_null(value) || json_is_boolean(value);
    for (size_t i = 0; i < sizeof harmless / sizeof *harmless && name != NULL; i++)
        fine |= strcmp(name, harmless[i]) == 0;
    return fine ? 0
                : error_input(err,
                              "%s: \"init_lora_weights\": expected a start that leaves the base "
                              "model as it is, found \"%.40s\"",
                              where, name != NULL ? name : json_kind(value));
}

int lora_config_check(const json_t *config, const char *where, struct llama3_error *err)
{
    const char *key, *type = NULL;
    json_t *value;
    if (json_get_string(config, "peft_type", true, &type, where, err) != 0 ||
        hf_expect_string(config, "peft_type", "LORA", where, err) != 0 ||
        hf_expect_string(config, "task_type", "CAUSAL_LM", where, err) != 0 ||
        hf_expect_string(config, "bias", "none", where, err) != 0 ||
        check_start(config, where, err) != 0)
        return -1;
    json_object_foreach((json_t *)(uintptr_t)config, key, value)
    {
        if (!is_known(key) && !asks_for_nothing(value))
            return error_input(err,
                               "%s: \"%.60s\": expected nothing, as only plain LoRA is supported, "
                               "found %s",
                               where, key, json_is_true(value) ? "true" : json_kind(value));
    }
    return 0;
}

/* Whether a module's name is `name`, or ends in it after a dot. */
static bool is_of(const char *module, const char *name)
{
    size_t n = strlen(module), m = strlen(name);
    return m <= n && strcmp(module + n - m, name) == 0 && (m == n || module[n - m - 1] == '.');
}

/* Whether a pattern's key means a module, as PEFT has it: re.match(rf"(.*\.)?({key})$", module).
 * Keys are names almost always, so of expressions only these are known: '.' is any character, "\."
 * a dot, '^' and '$' are the ends. -1: another. */
static int match_key(const char *key, const char *module)
{
    const bool whole = key[0] == '^';
    size_t n = 0, left = strlen(module);
    key += whole;
    for (const char *at = key; *at != '\0' && strcmp(at, "$") != 0; at++, n++) {
        if (at[0] == '\\' && at[1] == '.')
            at++;
        else if (strchr("\\^$|?*+()[]{}", *at) != NULL)
            return -1;
    }
    if (n > left || (n < left && (whole || module[left - n - 1] != '.')))
        return 0;
    for (module += left - n; *module != '\0'; module++, key++) {
        const bool any = *key == '.';
        key += *key == '\\';
        if (!any && *key != *module)
            return 0;
    }
    return 1;
}

/* The value that the first matching key of a pattern has; the default if none has. */
static int find_pattern(const json_t *config, const char *pattern, const char *module,
                        double *value, const char *where, struct llama3_error *err)
{
    const json_t *object = json_object_get(config, pattern);
    const char *key;
    json_t *item;
    if (object == NULL || json_is_null(object))
        return 0;
    if (!json_is_object(object))
        return error_input(err, "%s: \"%s\": expected an object, found %s", where, pattern,
                           json_kind(object));
    json_object_foreach((json_t *)(uintptr_t)object, key, item)
    {
        int match = match_key(key, module);
        if (match < 0)
            return error_input(err, "%s: \"%s\": expected names of modules, found \"%.80s\"", where,
                               pattern, key);
        if (match > 0)
            return json_get_number(object, key, true, 0, 1e9, value, where, err);
    }
    return 0;
}

/* An expression is not evaluated: the file's tensors say which modules there are. */
static int check_target(const json_t *config, const char *module, const char *where,
                        struct llama3_error *err)
{
    const json_t *targets = json_object_get(config, "target_modules");
    for (size_t i = 0; i < json_array_size(targets); i++) {
        const char *name = json_string_value(json_array_get(targets, i));
        if (name != NULL && is_of(module, name))
            return 0;
    }
    return json_is_array(targets) ? json_error(targets, "target_modules", module, where, err) : 0;
}

int lora_config_module(const json_t *config, const char *module, size_t *rank, double *scale,
                       const char *where, struct llama3_error *err)
{
    double r = 8, alpha = 8; /* PEFT's defaults */
    bool rslora = false;
    if (check_target(config, module, where, err) != 0 ||
        json_get_number(config, "r", false, 1, LORA_MAX_RANK, &r, where, err) != 0 ||
        json_get_number(config, "lora_alpha", false, 0, 1e9, &alpha, where, err) != 0 ||
        json_get_bool(config, "use_rslora", false, &rslora, where, err) != 0 ||
        find_pattern(config, "rank_pattern", module, &r, where, err) != 0 ||
        find_pattern(config, "alpha_pattern", module, &alpha, where, err) != 0)
        return -1;
    if (!(r >= 1 && r <= LORA_MAX_RANK && r <= floor(r)))
        return error_input(err, "%s: the rank of %s: expected 1 to %d, found %g", where, module,
                           LORA_MAX_RANK, r);
    *rank = (size_t)r;
    *scale = alpha / (rslora ? sqrt(r) : r);
    return 0;
}
