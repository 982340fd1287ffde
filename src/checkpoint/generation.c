/* SPDX-License-Identifier: MIT */
#include "checkpoint/generation.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/utf8.h"
#include "checkpoint/hf.h"

#define SAMPLING     "general.sampling."
#define COUNT(array) (sizeof(array) / sizeof *(array))

#define FIELD(name) offsetof(struct generation_defaults, name)
const struct generation_number generation_numbers[] = {
    {"temperature", SAMPLING "temp", 0, 100, FIELD(temperature)},
    {"top_p", SAMPLING "top_p", 1e-9, 1, FIELD(top_p)},
    {"min_p", SAMPLING "min_p", 0, 1, FIELD(min_p)},
    {"repetition_penalty", SAMPLING "penalty_repeat", 1e-6, 100, FIELD(repeat_penalty)},
};
const size_t n_generation_numbers = COUNT(generation_numbers);

double *generation_value(struct generation_defaults *generation,
                         const struct generation_number *number)
{
    return (double *)(void *)((char *)generation + number->offset);
}

/* ---- what is not supported ------------------------------------------------------------------- */

/* Keys of either format that are read elsewhere, or change no answer by themselves. Lengths limit a
 * run, not a model; --max-tokens and the context do that here. */
static const char *const harmless[] = {
    "temperature",
    "temp",
    "top_p",
    "min_p",
    "top_k",
    "repetition_penalty",
    "penalty_repeat",
    "do_sample",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "decoder_start_token_id",
    "transformers_version",
    "max_length",
    "max_new_tokens",
    "max_time",
    "num_return_sequences",
    "renormalize_logits",
    "remove_invalid_values",
    /* no effect without a key in `neutral` below */
    "early_stopping",
    "length_penalty",
    "diversity_penalty",
    "xtc_threshold",
    "mirostat_tau",
    "mirostat_eta",
    /* how transformers computes, and what else it returns */
    "use_cache",
    "cache_implementation",
    "cache_config",
    "return_legacy_cache",
    "low_memory",
    "disable_compile",
    "compile_config",
    "prefill_chunk_size",
    "is_assistant",
    "num_assistant_tokens",
    "num_assistant_tokens_schedule",
    "assistant_confidence_threshold",
    "assistant_early_exit",
    "assistant_lookbehind",
    "target_lookbehind",
    "prompt_lookup_num_tokens",
    "max_matching_ngram_size",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "output_logits",
    "return_dict_in_generate",
};

/* Numbers that turn a key off. null, false and empty values turn off any key. */
static const struct {
    const char *key;
    double value;
} neutral[] = {
    {"num_beams", 1},
    {"num_beam_groups", 1},
    {"penalty_alpha", 0},
    {"typical_p", 1},
    {"epsilon_cutoff", 0},
    {"eta_cutoff", 0},
    {"no_repeat_ngram_size", 0},
    {"encoder_no_repeat_ngram_size", 0},
    {"encoder_repetition_penalty", 1},
    {"min_length", 0},
    {"min_new_tokens", 0},
    {"guidance_scale", 1},
    {"frequency_penalty", 0},
    {"presence_penalty", 0},
    {"xtc_probability", 0},
    {"mirostat", 0},
    {"penalty_last_n", -1},
};

static bool changes_answers(const char *key, const json_t *value)
{
    if (key[0] == '_' || json_is_null(value) || json_is_false(value) ||
        (json_is_string(value) && json_string_length(value) == 0) ||
        (json_is_array(value) && json_array_size(value) == 0) ||
        (json_is_object(value) && json_object_size(value) == 0))
        return false;
    for (size_t i = 0; i < COUNT(harmless); i++)
        if (strcmp(key, harmless[i]) == 0)
            return false;
    if (!json_is_number(value))
        return true;
    double number = json_number_value(value);
    for (size_t i = 0; i < COUNT(neutral); i++)
        if (strcmp(key, neutral[i].key) == 0)
            return number < neutral[i].value || number > neutral[i].value;
    return true;
}

/* Takes over `value`. */
static int keep_unsupported(struct generation_defaults *generation, const char *key, json_t *value,
                            struct llama3_error *err)
{
    int result = 0;
    if (value == NULL) {
        result = -1;
    } else if (changes_answers(key, value)) {
        if (generation->unsupported == NULL)
            generation->unsupported = json_object();
        result = json_object_set(generation->unsupported, key, value);
    } else if (generation->unsupported != NULL) {
        json_object_del(generation->unsupported, key); /* turns off the other source's */
    }
    json_decref(value);
    return result == 0 ? 0 : error_memory(err, "generation_config", strlen(key));
}

/* ---- reading --------------------------------------------------------------------------------- */

int hf_generation_read(const json_t *root, struct model *model, const char *where,
                       struct llama3_error *err)
{
    struct generation_defaults *generation = &model->generation;
    bool do_sample = generation->do_sample > 0;
    int64_t top_k = generation->top_k;
    const json_t *given_k = json_object_get(root, "top_k");
    const json_t *given = json_object_get(root, "do_sample");
    const char *key;
    json_t *value;
    for (size_t i = 0; i < n_generation_numbers; i++) {
        const struct generation_number *n = &generation_numbers[i];
        if (json_get_number(root, n->json, false, n->min, n->max, generation_value(generation, n),
                            where, err) != 0)
            return -1;
    }
    if (json_get_int(root, "top_k", false, -1, INT32_MAX, &top_k, where, err) != 0 ||
        json_get_bool(root, "do_sample", false, &do_sample, where, err) != 0)
        return -1;
    if (given_k != NULL && !json_is_null(given_k))
        generation->top_k = top_k > 0 ? top_k : 0;
    if (given != NULL && !json_is_null(given))
        generation->do_sample = do_sample;
    json_object_foreach((json_t *)(uintptr_t)root, key, value)
    {
        if (keep_unsupported(generation, key, json_incref(value), err) != 0)
            return -1;
    }
    return hf_eos_read(root, model, where, err);
}

/* A GGUF value as JSON; arrays, and what JSON can't hold, become true. NULL if memory ran out. */
static json_t *value_of(const struct gguf *gguf, const char *key)
{
    double number;
    const char *text;
    size_t length;
    bool yes;
    if (gguf_get_number(gguf, key, true, -HUGE_VAL, HUGE_VAL, &number, NULL) == 0)
        return isfinite(number) ? json_real(number) : json_true();
    if (gguf_get_bool(gguf, key, true, &yes, NULL) == 0)
        return json_boolean(yes);
    if (gguf_get_string(gguf, key, true, &text, &length, NULL) == 0) {
        json_t *string = json_stringn(text, length);
        return string != NULL ? string : json_true(); /* it is not UTF-8 */
    }
    return json_true();
}

int generation_read_gguf(const struct gguf *gguf, struct generation_defaults *generation,
                         struct llama3_error *err)
{
    const size_t n = sizeof SAMPLING - 1;
    const char *const top_k_key = SAMPLING "top_k";
    int64_t top_k = 0;
    for (size_t i = 0; i < n_generation_numbers; i++) {
        const struct generation_number *number = &generation_numbers[i];
        if (gguf_get_number(gguf, number->gguf, false, number->min, number->max,
                            generation_value(generation, number), err) != 0)
            return -1;
    }
    if (gguf_get_int(gguf, top_k_key, false, INT32_MIN, INT32_MAX, &top_k, err) != 0)
        return -1;
    if (gguf_find(gguf, top_k_key) != NULL)
        generation->top_k = top_k > 0 ? top_k : 0;
    for (size_t i = 0; i < gguf->n_kvs; i++) {
        const struct gguf_kv *kv = &gguf->kvs[i];
        char key[GGUF_MAX_KEY + 1];
        if (kv->key_length <= n || memcmp(kv->key, SAMPLING, n) != 0)
            continue;
        snprintf(key, sizeof key, "%.*s", (int)kv->key_length, kv->key);
        if (utf8_valid((const uint8_t *)key, strlen(key)) < strlen(key))
            return error_input(err, "%s: %s: expected UTF-8, found other bytes", gguf->path, key);
        if (keep_unsupported(generation, key + n, value_of(gguf, key), err) != 0)
            return -1;
    }
    return 0;
}

/* ---- the note -------------------------------------------------------------------------------- */

/* "num_beams 4", "sequence \"edskypmxt\"", "bad_words_ids" */
static int describe(char *out, size_t size, const char *key, const json_t *value)
{
    if (json_is_number(value))
        return snprintf(out, size, "%.40s %.6g", key, json_number_value(value));
    if (json_is_string(value))
        return snprintf(out, size, "%.40s \"%.20s\"", key, json_string_value(value));
    return snprintf(out, size, "%.40s", key);
}

bool generation_note(const struct generation_defaults *generation, const char *path,
                     struct llama3_error *note)
{
    enum { NAMED = 4 };
    char names[NAMED * 80] = "";
    size_t i = 0, used = 0, n = json_object_size(generation->unsupported);
    const char *key;
    json_t *value;
    json_object_foreach(generation->unsupported, key, value)
    {
        if (i == NAMED)
            break;
        used += (size_t)snprintf(names + used, sizeof names - used, "%s", i++ > 0 ? ", " : "");
        used += (size_t)describe(names + used, sizeof names - used, key, value);
    }
    if (n == 0)
        return false;
    if (n > i)
        error_set(note, LLAMA3_OK,
                  "%.150s: %s and %zu more are not supported: answers are made without", path,
                  names, n - i);
    else
        error_set(note, LLAMA3_OK, "%.150s: %s %s not supported: answers are made without", path,
                  names, n == 1 ? "is" : "are");
    return true;
}
