/* SPDX-License-Identifier: MIT */
/*
 * hf_tokenizer.c: tokenizer.json, as the tokenizers library writes it for BPE of bytes, or as
 * SentencePiece does it. */
#include <string.h>

#include "base/json.h"
#include "checkpoint/hf.h"
#include "checkpoint/pretokenizers.h"
#include "checkpoint/vocab_build.h"

static bool has_type(const json_t *object, const char *type)
{
    const char *found = json_string_value(json_object_get(object, "type"));
    return found != NULL && strcmp(found, type) == 0;
}

/* For errors: an object's "type", or what it is instead. */
const char *hf_type_of(const json_t *object)
{
    const char *type = json_string_value(json_object_get(object, "type"));
    return type != NULL ? type : json_kind(object);
}

/* A normalizer that does nothing. */
static bool is_empty_sequence(const json_t *object)
{
    const json_t *list = json_object_get(object, "normalizers");
    return has_type(object, "Sequence") && json_is_array(list) && json_array_size(list) == 0;
}

/* Refuses settings that would change ids or text. No Llama checkpoint that we know has them. */
static int refuse_variants(const json_t *bpe, const char *where, struct llama3_error *err)
{
    if (hf_expect_string(bpe, "continuing_subword_prefix", "", where, err) != 0 ||
        hf_expect_string(bpe, "end_of_word_suffix", "", where, err) != 0)
        return -1;
    return hf_expect_number(bpe, "dropout", 0, where, err);
}

static int read_byte_level(const json_t *root, struct vocab *vocab, const char *where,
                           struct llama3_error *err)
{
    const json_t *normalizer = json_object_get(root, "normalizer");
    const json_t *decoder = json_object_get(root, "decoder");
    if (normalizer != NULL && !json_is_null(normalizer) && !is_empty_sequence(normalizer))
        return error_input(err, "%s: \"normalizer\": expected null, found %.80s", where,
                           hf_type_of(normalizer));
    if (!has_type(decoder, "ByteLevel"))
        return error_input(err, "%s: \"decoder\": expected ByteLevel, found %.80s", where,
                           hf_type_of(decoder));
    return pretokenizer_from_json(json_object_get(root, "pre_tokenizer"), &vocab->pretokenizer,
                                  where, err);
}

/* ---- tokens ---------------------------------------------------------------------------------- */

/* A token of the vocabulary that is added too: BPE can make it where its name is not looked for. */
static bool is_ascii(const char *text)
{
    for (; *text != '\0'; text++)
        if (*text < 0x21 || *text > 0x7e)
            return false;
    return true;
}

static int add_added(const json_t *entry, const json_t *vocab, struct vocab_build *build,
                     struct llama3_error *err)
{
    const char *content = NULL;
    int64_t id = 0;
    bool special = false;
    static const struct {
        const char *key;
        uint8_t flag;
    } keys[] = {{"lstrip", ADDED_LSTRIP},
                {"rstrip", ADDED_RSTRIP},
                {"single_word", ADDED_SINGLE_WORD},
                {"normalized", ADDED_NORMALIZED}};
    uint8_t flags = 0;
    if (!json_is_object(entry))
        return error_input(err, "%s: \"added_tokens\": expected objects, found %s", build->where,
                           json_kind(entry));
    if (json_get_string(entry, "content", true, &content, build->where, err) != 0 ||
        json_get_int(entry, "id", true, 0, INT32_MAX, &id, build->where, err) != 0 ||
        json_get_bool(entry, "special", false, &special, build->where, err) != 0)
        return -1;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        bool set = keys[i].flag == ADDED_NORMALIZED && !special; /* where nothing is said */
        if (json_get_bool(entry, keys[i].key, false, &set, build->where, err) != 0)
            return -1;
        flags |= set ? keys[i].flag : 0;
    }
    if (!special && json_object_get(vocab, content) != NULL && is_ascii(content))
        flags |= ADDED_MERGED;
    return vocab_build_token(build, (size_t)id, special ? TOKEN_CONTROL : TOKEN_ADDED, flags,
                             content, strlen(content), err);
}

static int add_tokens(const json_t *root, const json_t *vocab, struct vocab_build *build,
                      struct llama3_error *err)
{
    const json_t *added = json_object_get(root, "added_tokens");
    if (added != NULL && !json_is_null(added) && !json_is_array(added))
        return error_input(err, "%s: \"added_tokens\": expected an array, found %s", build->where,
                           json_kind(added));
    for (size_t i = 0; i < json_array_size(added); i++)
        if (add_added(json_array_get(added, i), vocab, build, err) != 0)
            return -1;

    const char *text;
    json_t *id;
    json_object_foreach((json_t *)(uintptr_t)vocab, text, id)
    {
        json_int_t value = json_integer_value(id);
        if (!json_is_integer(id) || value < 0)
            return error_input(err, "%s: token \"%.80s\": expected an id from 0, found %s",
                               build->where, text,
                               json_is_integer(id) ? "a negative one" : json_kind(id));
        size_t size = strlen(text);
        if (vocab_build_find(build, text, size) == value)
            continue; /* an added token that the plain vocabulary lists too */
        if (vocab_build_token(build, (size_t)value, TOKEN_TEXT, 0, text, size, err) != 0)
            return -1;
    }
    return 0;
}

/* "a b", or ["a", "b"] as newer versions write it. */
static int add_merges(const json_t *merges, struct vocab_build *build, struct llama3_error *err)
{
    for (size_t i = 0; i < json_array_size(merges); i++) {
        const json_t *merge = json_array_get(merges, i);
        const char *left = json_string_value(json_array_get(merge, 0));
        const char *right = json_string_value(json_array_get(merge, 1));
        int result;
        if (json_is_string(merge))
            result = vocab_build_merge_pair(build, json_string_value(merge),
                                            json_string_length(merge), err);
        else if (json_array_size(merge) == 2 && left != NULL && right != NULL)
            result = vocab_build_merge(build, left, strlen(left), right, strlen(right), err);
        else
            result = error_input(err, "%s: merge %zu: expected a string or two of them, found %s",
                                 build->where, i, json_kind(merge));
        if (result != 0)
            return -1;
    }
    return 0;
}

static int read_bpe(const json_t *root, const json_t *bpe, struct model *model, const char *where,
                    struct llama3_error *err)
{
    const json_t *vocab = json_object_get(bpe, "vocab"), *merges = json_object_get(bpe, "merges");
    struct vocab_build build;
    if (!json_is_object(vocab))
        return error_input(err, "%s: \"vocab\": expected an object, found %s", where,
                           json_kind(vocab));
    if (!json_is_array(merges))
        return error_input(err, "%s: \"merges\": expected an array, found %s", where,
                           json_kind(merges));
    if (vocab_build_open(&build, model->config.vocab_size, json_array_size(merges), where, err) !=
        0)
        return -1;
    build.sentencepiece = vocab_is_sentencepiece(&model->vocab);
    int result = add_tokens(root, vocab, &build, err);
    if (result == 0)
        result = add_merges(merges, &build, err);
    if (result == 0)
        result = vocab_build_finish(&build, &model->vocab, err);
    vocab_build_free(&build);
    return result;
}

/* With unk_token, the reference encodes bytes without a token as that one. We leave them out. */
static int check_bytes(const json_t *bpe, const struct vocab *vocab, const char *where,
                       struct llama3_error *err)
{
    bool seen[256] = {false};
    const char *unknown = NULL;
    if (json_get_string(bpe, "unk_token", false, &unknown, where, err) != 0)
        return -1;
    if (unknown == NULL || vocab_is_sentencepiece(vocab)) /* which has to have all bytes */
        return 0;
    for (size_t i = 0; i < vocab->n; i++)
        if (vocab_is_merged(vocab, i) && vocab->offsets[i + 1] - vocab->offsets[i] == 1)
            seen[vocab->bytes[vocab->offsets[i]]] = true;
    for (int byte = 0; byte < 256; byte++)
        if (!seen[byte])
            return error_input(
                err,
                "%s: \"unk_token\": expected null or a token for every byte, found \"%.80s\" and "
                "none for byte %d",
                where, unknown, byte);
    return 0;
}

/* ---- bos ------------------------------------------------------------------------------------- */

/* TemplateProcessing that puts at most one special token before the text. */
static int read_template(const json_t *processor, struct vocab *vocab, const char *where,
                         struct llama3_error *err)
{
    const json_t *single = json_object_get(processor, "single");
    size_t n = json_array_size(single);
    const json_t *special = json_object_get(json_array_get(single, 0), "SpecialToken");
    const json_t *sequence =
        json_object_get(n > 0 ? json_array_get(single, n - 1) : NULL, "Sequence");
    if (n < 1 || n > 2 || sequence == NULL || (n == 2 && special == NULL))
        return error_input(
            err,
            "%s: \"post_processor\": expected bos and the text, or the text alone, found another "
            "template",
            where);
    if (n == 1)
        return 0;
    const char *name = json_string_value(json_object_get(special, "id"));
    const json_t *token =
        name == NULL ? NULL : json_object_get(json_object_get(processor, "special_tokens"), name);
    const json_t *ids = json_object_get(token, "ids");
    const json_t *id = json_array_get(ids, 0);
    json_int_t value = json_integer_value(id);
    if (json_array_size(ids) != 1 || !json_is_integer(id) || value < 0 ||
        (json_int_t)vocab->n <= value ||
        (vocab->kinds[value] != TOKEN_CONTROL && vocab->kinds[value] != TOKEN_ADDED))
        return error_input(
            err, "%s: \"post_processor\": expected the id of a special token for %.80s, found none",
            where, name == NULL ? "bos" : name);
    vocab->kinds[value] = TOKEN_CONTROL;
    vocab->bos = (int32_t)value;
    vocab->add_bos = true;
    return 0;
}

static int read_processor(const json_t *processor, struct vocab *vocab, const char *where,
                          struct llama3_error *err)
{
    if (processor == NULL || json_is_null(processor) || has_type(processor, "ByteLevel"))
        return 0; /* ByteLevel only trims offsets */
    if (has_type(processor, "TemplateProcessing"))
        return read_template(processor, vocab, where, err);
    return error_input(
        err, "%s: \"post_processor\": expected ByteLevel and TemplateProcessing, found %.80s",
        where, hf_type_of(processor));
}

static int read_processors(const json_t *root, struct vocab *vocab, const char *where,
                           struct llama3_error *err)
{
    const json_t *processor = json_object_get(root, "post_processor");
    const json_t *list = json_object_get(processor, "processors");
    vocab->bos = -1;
    if (!has_type(processor, "Sequence"))
        return read_processor(processor, vocab, where, err);
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (vocab->add_bos && has_type(json_array_get(list, i), "TemplateProcessing"))
            return error_input(err, "%s: \"post_processor\": expected one template, found two",
                               where);
        if (read_processor(json_array_get(list, i), vocab, where, err) != 0)
            return -1;
    }
    return 0;
}

int hf_tokenizer_read(const json_t *root, struct model *model, const char *where,
                      struct llama3_error *err)
{
    const json_t *bpe = json_object_get(root, "model");
    if (!json_is_object(bpe))
        return error_input(err, "%s: \"model\": expected an object, found %s", where,
                           json_kind(bpe));
    if (json_object_get(bpe, "type") != NULL && !has_type(bpe, "BPE"))
        return error_input(err, "%s: \"model\": expected type BPE, found %.80s", where,
                           hf_type_of(bpe));
    bool fallback = false;
    if (refuse_variants(bpe, where, err) != 0 ||
        json_get_bool(bpe, "byte_fallback", false, &fallback, where, err) != 0 ||
        (fallback ? hf_sentencepiece_read(root, model, where, err)
                  : read_byte_level(root, &model->vocab, where, err)) != 0 ||
        json_get_bool(bpe, "ignore_merges", false, &model->vocab.ignore_merges, where, err) != 0 ||
        read_bpe(root, bpe, model, where, err) != 0 ||
        check_bytes(bpe, &model->vocab, where, err) != 0)
        return -1;
    return read_processors(root, &model->vocab, where, err);
}
