/* SPDX-License-Identifier: MIT */
/*
 * tokenizer.c: cuts text into pre-tokens, turns their bytes into symbols, and merges those by BPE.
 *
 * A byte without a token is left out, as in the reference for vocabularies without an unknown
 * token. Llama 3 has tokens for all 256 bytes; SmolLM2 lacks some that only the rarest characters
 * need.
 */
#include "text/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/size.h"
#include "base/utf8.h"
#include "text/bpe.h"
#include "text/pretokenizer.h"

struct tokenizer {
    const struct vocab *vocab;
    struct bpe bpe;
    int32_t byte_ids[256];   /* the token of this byte alone, or -1 */
    struct hash_table words; /* text tokens by their bytes; empty unless vocab->ignore_merges */
    size_t longest;          /* bytes of the longest text token */
    int32_t *controls;       /* [n_controls] ids, ascending */
    size_t n_controls;
};

struct word {
    const struct tokenizer *tokenizer;
    const uint8_t *bytes; /* [n] */
    size_t n;
};

static bool is_word(const void *arg, int32_t id)
{
    const struct word *word = arg;
    size_t n;
    const uint8_t *bytes = tokenizer_bytes(word->tokenizer, id, &n);
    return n == word->n && memcmp(bytes, word->bytes, n) == 0;
}

/* The slot of these bytes, or the empty one where they would go. */
static struct hash_slot *word_slot(const struct tokenizer *tokenizer, const uint8_t *bytes,
                                   size_t n, uint64_t *hash)
{
    const struct word word = {tokenizer, bytes, n};
    *hash = hash_bytes(&tokenizer->words.key, bytes, n, "", 0);
    return hash_table_slot(&tokenizer->words, *hash, is_word, &word);
}

/* Merges must have text tokens only, or text could spell a control token. */
static int check_merges(const struct vocab *vocab, struct llama3_error *err)
{
    for (size_t i = 0; i < vocab->n_merges; i++) {
        const int32_t ids[] = {vocab->merges[i].left, vocab->merges[i].right,
                               vocab->merges[i].result};
        for (size_t j = 0; j < 3; j++)
            if (ids[j] < 0 || (size_t)ids[j] >= vocab->n || vocab->kinds[ids[j]] != TOKEN_TEXT)
                return error_input(err, "vocabulary: merge %zu: expected a text token, found id %d",
                                   i, ids[j]);
    }
    return 0;
}

static int index_words(struct tokenizer *tokenizer, size_t n_text, struct llama3_error *err)
{
    if (!hash_table_open(&tokenizer->words, n_text))
        return error_memory(err, "the table of tokens", n_text * sizeof(struct hash_slot));
    for (size_t i = 0; i < tokenizer->vocab->n; i++) {
        if (tokenizer->vocab->kinds[i] != TOKEN_TEXT)
            continue;
        size_t n;
        uint64_t hash;
        const uint8_t *bytes = tokenizer_bytes(tokenizer, (int32_t)i, &n);
        struct hash_slot *slot = word_slot(tokenizer, bytes, n, &hash);
        if (slot->id < 0)
            *slot = (struct hash_slot){(uint32_t)hash, (int32_t)i};
    }
    return 0;
}

/* Byte tokens, control tokens and the longest text token. */
static int index_tokens(struct tokenizer *tokenizer, struct llama3_error *err)
{
    const struct vocab *vocab = tokenizer->vocab;
    size_t n_text = 0, n_controls = 0;

    for (size_t i = 0; i < vocab->n; i++) {
        n_text += vocab->kinds[i] == TOKEN_TEXT;
        n_controls += vocab->kinds[i] == TOKEN_CONTROL;
    }
    tokenizer->controls =
        size_alloc_for(n_controls, sizeof *tokenizer->controls, "the list of control tokens", err);
    if (tokenizer->controls == NULL)
        return -1;

    for (size_t i = 0; i < 256; i++)
        tokenizer->byte_ids[i] = -1;
    for (size_t i = 0; i < vocab->n; i++) {
        size_t n;
        const uint8_t *bytes = tokenizer_bytes(tokenizer, (int32_t)i, &n);
        if (vocab->kinds[i] == TOKEN_CONTROL)
            tokenizer->controls[tokenizer->n_controls++] = (int32_t)i;
        if (vocab->kinds[i] != TOKEN_TEXT)
            continue;
        tokenizer->longest = n > tokenizer->longest ? n : tokenizer->longest;
        if (n == 1 && tokenizer->byte_ids[bytes[0]] < 0)
            tokenizer->byte_ids[bytes[0]] = (int32_t)i;
    }
    return vocab->ignore_merges ? index_words(tokenizer, n_text, err) : 0;
}

struct tokenizer *tokenizer_open(const struct vocab *vocab, struct llama3_error *err)
{
    if (vocab->n >= INT32_MAX) {
        error_input(err, "vocabulary: expected at most %d tokens, found %zu", INT32_MAX - 1,
                    vocab->n);
        return NULL;
    }
    struct tokenizer *tokenizer = size_alloc_for(1, sizeof *tokenizer, "the tokenizer", err);
    if (tokenizer == NULL)
        return NULL;
    tokenizer->vocab = vocab;
    if (check_merges(vocab, err) != 0 || index_tokens(tokenizer, err) != 0 ||
        bpe_open(&tokenizer->bpe, vocab->merges, vocab->n_merges, err) != 0) {
        tokenizer_close(tokenizer);
        return NULL;
    }
    return tokenizer;
}

void tokenizer_close(struct tokenizer *tokenizer)
{
    if (tokenizer == NULL)
        return;
    bpe_close(&tokenizer->bpe);
    hash_table_close(&tokenizer->words);
    free(tokenizer->controls);
    free(tokenizer);
}

/* Appends the tokens of one pre-token of n >= 1 bytes; false if memory ran out. */
static bool add_pretoken(const struct tokenizer *tokenizer, const uint8_t *bytes, size_t n,
                         struct tokens *out)
{
    if (tokenizer->words.slots != NULL && n <= tokenizer->longest) {
        uint64_t hash;
        int32_t id = word_slot(tokenizer, bytes, n, &hash)->id;
        if (id >= 0) {
            tokens_add(out, id);
            return !out->failed;
        }
    }
    size_t start = out->n;
    for (size_t i = 0; i < n; i++)
        if (tokenizer->byte_ids[bytes[i]] >= 0)
            tokens_add(out, tokenizer->byte_ids[bytes[i]]);
    if (out->failed || out->n == start)
        return !out->failed;
    size_t left = bpe_merge(&tokenizer->bpe, out->ids + start, out->n - start);
    if (left == SIZE_MAX)
        return false;
    out->n = start + left;
    return true;
}

int tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t n,
                     struct tokens *out, struct llama3_error *err)
{
    const uint8_t *bytes = (const uint8_t *)text;
    size_t before = out->n;

    if (n > INT32_MAX)
        return error_input(err, "text: expected at most %d bytes, found %zu", INT32_MAX, n);
    size_t valid = utf8_valid(bytes, n);
    if (valid < n)
        return error_input(err, "text: expected UTF-8, found byte 0x%02x at byte %zu", bytes[valid],
                           valid);
    if (out->failed)
        return error_memory(err, "the list of tokens", 0);

    for (size_t at = 0; at < n;) {
        size_t end = pretoken_end(tokenizer->vocab->pretokenizer, bytes, n, at);
        if (!add_pretoken(tokenizer, bytes + at, end - at, out)) {
            out->n = before;
            out->failed = false;
            return error_memory(err, "encoding a text", n);
        }
        at = end;
    }
    return 0;
}

int32_t tokenizer_control(const struct tokenizer *tokenizer, const char *name)
{
    size_t length = strlen(name);

    for (size_t i = 0; i < tokenizer->n_controls; i++) {
        size_t n;
        const uint8_t *bytes = tokenizer_bytes(tokenizer, tokenizer->controls[i], &n);
        if (n == length && memcmp(bytes, name, n) == 0)
            return tokenizer->controls[i];
    }
    return -1;
}

int32_t tokenizer_bos(const struct tokenizer *tokenizer)
{
    return tokenizer->vocab->bos;
}

const uint8_t *tokenizer_bytes(const struct tokenizer *tokenizer, int32_t id, size_t *n)
{
    const struct vocab *vocab = tokenizer->vocab;

    *n = 0;
    if (tokenizer_kind(tokenizer, id) == TOKEN_UNUSED)
        return NULL;
    *n = vocab->offsets[id + 1] - vocab->offsets[id];
    return vocab->bytes + vocab->offsets[id];
}

enum token_kind tokenizer_kind(const struct tokenizer *tokenizer, int32_t id)
{
    if (id < 0 || (size_t)id >= tokenizer->vocab->n)
        return TOKEN_UNUSED;
    return (enum token_kind)tokenizer->vocab->kinds[id];
}
