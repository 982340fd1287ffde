/* SPDX-License-Identifier: MIT */
/*
 * gguf_vocab.c: tokens, merges and special ids as llama.cpp's converter writes them for
 * byte-level BPE ("gpt2") and for SentencePiece's ("llama").
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/gguf.h"
#include "checkpoint/pretokenizers.h"
#include "checkpoint/vocab_build.h"

/* enum llama_token_type of llama.h */
enum { TYPE_NORMAL = 1, TYPE_UNKNOWN, TYPE_CONTROL, TYPE_USER_DEFINED, TYPE_UNUSED, TYPE_BYTE };

static int read_kind(const struct gguf *gguf, struct vocab *vocab, struct llama3_error *err)
{
    const char *text = "";
    size_t length = 0;
    if (gguf_get_string(gguf, "tokenizer.ggml.model", true, &text, &length, err) != 0)
        return -1;
    if (length == 5 && memcmp(text, "llama", 5) == 0) {
        bool adds = true;
        if (gguf_get_bool(gguf, "tokenizer.ggml.add_space_prefix", false, &adds, err) != 0)
            return -1;
        vocab->pretokenizer = PRETOKENIZER_SENTENCEPIECE;
        vocab->prefix = adds ? BLANK_PREPEND : BLANK_REPLACE;
        vocab->strips_blank = adds;
        vocab->add_bos = true;
        return 0;
    }
    if (length != 4 || memcmp(text, "gpt2", 4) != 0)
        return error_input(err, "%s: tokenizer.ggml.model: expected gpt2 or llama, found \"%.*s\"",
                           gguf->path, length < 80 ? (int)length : 80, text);
    if (gguf_get_string(gguf, "tokenizer.ggml.pre", true, &text, &length, err) != 0)
        return -1;
    return pretokenizer_from_gguf(text, length, vocab, gguf->path, err);
}

static int read_tokens(const struct gguf *gguf, const struct gguf_kv *tokens,
                       struct vocab_build *build, struct llama3_error *err)
{
    const struct gguf_kv *kinds = gguf_get_array(gguf, "tokenizer.ggml.token_type", GGUF_I32, err);
    const struct gguf_kv *scores =
        build->sentencepiece ? gguf_get_array(gguf, "tokenizer.ggml.scores", GGUF_F32, err) : kinds;
    if (kinds == NULL || scores == NULL)
        return -1;
    if (kinds->n != tokens->n)
        return error_input(err, "%s: tokenizer.ggml.token_type: expected %zu items, found %zu",
                           gguf->path, tokens->n, kinds->n);
    if (scores->n != tokens->n)
        return error_input(err, "%s: tokenizer.ggml.scores: expected %zu items, found %zu",
                           gguf->path, tokens->n, scores->n);
    const uint8_t *at = tokens->data;
    for (size_t i = 0; i < tokens->n; i++) {
        size_t length;
        const char *text = gguf_next_string(&at, &length);
        int32_t kind = gguf_int32(kinds->data, i);
        memcpy(&build->tokens[i].score, scores->data + i * sizeof(float), sizeof(float));
        if (build->sentencepiece && isnan(build->tokens[i].score))
            return error_input(err, "%s: tokenizer.ggml.scores: expected numbers, found NaN at %zu",
                               gguf->path, i);
        if (kind == TYPE_UNUSED)
            continue;
        int result;
        if (kind == TYPE_BYTE)
            result = vocab_build_byte(build, i, text, length, err);
        else if (kind == TYPE_NORMAL)
            result = vocab_build_token(build, i, TOKEN_TEXT, 0, text, length, err);
        else if (kind == TYPE_USER_DEFINED)
            result = vocab_build_token(build, i, TOKEN_ADDED, 0, text, length, err);
        else if (kind == TYPE_CONTROL || kind == TYPE_UNKNOWN)
            result = vocab_build_token(build, i, TOKEN_CONTROL, 0, text, length, err);
        else
            result = error_input(err, "%s: token %zu, \"%.*s\": expected type 1..6, found %d",
                                 gguf->path, i, length < 80 ? (int)length : 80, text, (int)kind);
        if (result != 0)
            return -1;
    }
    return 0;
}

static int read_merges(const struct gguf_kv *merges, struct vocab_build *build,
                       struct llama3_error *err)
{
    const uint8_t *at = merges->data;
    for (size_t i = 0; i < merges->n; i++) {
        size_t length;
        const char *pair = gguf_next_string(&at, &length);
        if (vocab_build_merge_pair(build, pair, length, err) != 0)
            return -1;
    }
    return 0;
}

/* A token with a role is a control token, whatever its type. */
static void make_control(struct vocab *vocab, int64_t id)
{
    if (id >= 0 && vocab->kinds[id] == TOKEN_ADDED)
        vocab->kinds[id] = TOKEN_CONTROL;
}

static int read_ids(const struct gguf *gguf, struct model *model, struct llama3_error *err)
{
    static const char *const eos_keys[] = {"tokenizer.ggml.eos_token_id",
                                           "tokenizer.ggml.eot_token_id",
                                           "tokenizer.ggml.eom_token_id"};
    int64_t bos = -1, max = (int64_t)model->vocab.n - 1;
    bool add_eos = false;
    for (size_t i = 0; i < sizeof eos_keys / sizeof *eos_keys; i++) {
        int64_t id = -1;
        if (gguf_get_int(gguf, eos_keys[i], false, 0, max, &id, err) != 0 ||
            (id >= 0 && model_add_eos(model, id, gguf->path, err) != 0))
            return -1;
        make_control(&model->vocab, id);
    }
    if (gguf_get_int(gguf, "tokenizer.ggml.bos_token_id", false, 0, max, &bos, err) != 0 ||
        gguf_get_bool(gguf, "tokenizer.ggml.add_bos_token", false, &model->vocab.add_bos, err) !=
            0 ||
        gguf_get_bool(gguf, "tokenizer.ggml.add_eos_token", false, &add_eos, err) != 0)
        return -1;
    if (add_eos)
        return error_input(err, "%s: tokenizer.ggml.add_eos_token: expected false, found true",
                           gguf->path);
    if (model->vocab.add_bos && bos < 0)
        return error_input(
            err,
            "%s: tokenizer.ggml.bos_token_id: expected an id, as add_bos_token is true, found "
            "nothing",
            gguf->path);
    make_control(&model->vocab, bos);
    model->vocab.bos = (int32_t)bos;
    return 0;
}

static int read_template(const struct gguf *gguf, struct model *model, const char *key,
                         const char *name, struct llama3_error *err)
{
    const char *text = NULL;
    size_t length = 0;
    if (gguf_get_string(gguf, key, false, &text, &length, err) != 0)
        return -1;
    return text == NULL
               ? 0
               : model_set_template(model, name, strlen(name), text, length, gguf->path, err);
}

/* tokenizer.chat_template.NAME, and tokenizer.chat_template, which is the default one. */
static int read_templates(const struct gguf *gguf, struct model *model, struct llama3_error *err)
{
    static const char prefix[] = "tokenizer.chat_template.";
    const size_t length = sizeof prefix - 1;
    for (size_t i = 0; i < gguf->n_kvs; i++) {
        char key[GGUF_MAX_KEY + 1];
        snprintf(key, sizeof key, "%.*s", (int)gguf->kvs[i].key_length, gguf->kvs[i].key);
        if (strncmp(key, prefix, length) == 0 &&
            read_template(gguf, model, key, key + length, err) != 0)
            return -1;
    }
    return read_template(gguf, model, "tokenizer.chat_template", "default", err);
}

/* The texts of special tokens, which templates may name. Files have ids of tokens that aren't there
 * for what the model has no use for. */
static int read_special_texts(const struct gguf *gguf, struct model *model,
                              struct llama3_error *err)
{
    static const char *const keys[][2] = {
        {"tokenizer.ggml.bos_token_id", "bos_token"},
        {"tokenizer.ggml.eos_token_id", "eos_token"},
        {"tokenizer.ggml.unknown_token_id", "unk_token"},
        {"tokenizer.ggml.padding_token_id", "pad_token"},
    };
    const struct vocab *vocab = &model->vocab;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        int64_t id = -1;
        if (gguf_get_int(gguf, keys[i][0], false, INT64_MIN, INT64_MAX, &id, err) != 0)
            return -1;
        if (id >= 0 && (size_t)id < vocab->n &&
            model_set_special(model, keys[i][1], (const char *)vocab->bytes + vocab->offsets[id],
                              vocab->offsets[id + 1] - vocab->offsets[id], gguf->path, err) != 0)
            return -1;
    }
    return 0;
}

int gguf_vocab_read(const struct gguf *gguf, struct model *model, struct llama3_error *err)
{
    struct vocab_build build;
    size_t limit = model->config.vocab_size;
    if (read_kind(gguf, &model->vocab, err) != 0)
        return -1;
    const struct gguf_kv *tokens = gguf_get_array(gguf, "tokenizer.ggml.tokens", GGUF_STRING, err);
    if (tokens == NULL)
        return -1;
    bool sentencepiece = vocab_is_sentencepiece(&model->vocab);
    const struct gguf_kv *merges =
        sentencepiece ? NULL : gguf_get_array(gguf, "tokenizer.ggml.merges", GGUF_STRING, err);
    if (merges == NULL && !sentencepiece)
        return -1;
    if (tokens->n < 1 || tokens->n > limit)
        return error_input(
            err,
            "%s: tokenizer.ggml.tokens: expected 1..%zu tokens (the rows of the embedding), found "
            "%zu",
            gguf->path, limit, tokens->n);
    if (vocab_build_open(&build, tokens->n, sentencepiece ? 0 : merges->n, gguf->path, err) != 0)
        return -1;
    build.sentencepiece = sentencepiece;
    int result = read_tokens(gguf, tokens, &build, err);
    if (result == 0)
        result = sentencepiece ? vocab_build_scores(&build, err) : read_merges(merges, &build, err);
    if (result == 0)
        result = vocab_build_finish(&build, &model->vocab, err);
    vocab_build_free(&build);
    if (result != 0 || read_ids(gguf, model, err) != 0 || read_special_texts(gguf, model, err) != 0)
        return -1;
    return read_templates(gguf, model, err);
}
