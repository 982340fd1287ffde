/* SPDX-License-Identifier: MIT */
/*
 * tokenizer.c: cuts text into pre-tokens, turns their bytes into symbols, and merges those by BPE.
 * For SentencePiece a symbol is a character, or each byte of one that has no token. A blank and
 * U+2581 are the same there: tokens have blanks.
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
#include "text/added.h"
#include "text/bpe.h"
#include "text/pretokenizer.h"

#define BLANK "\xe2\x96\x81" /* U+2581 */

struct tokenizer {
    const struct vocab *vocab;
    struct bpe bpe;
    int32_t byte_ids[256];   /* the token of this byte alone, or -1 */
    struct hash_table words; /* text tokens by their bytes, for SentencePiece and ignore_merges */
    bool sentencepiece;
    size_t longest; /* bytes of the longest text token */
    struct added added;
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
            if (ids[j] < 0 || (size_t)ids[j] >= vocab->n || !vocab_is_merged(vocab, (size_t)ids[j]))
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
        if (!vocab_is_merged(tokenizer->vocab, i))
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

/* Byte tokens, and the longest text token. */
static int index_tokens(struct tokenizer *tokenizer, struct llama3_error *err)
{
    const struct vocab *vocab = tokenizer->vocab;
    size_t n_text = 0;

    for (size_t i = 0; i < 256; i++)
        tokenizer->byte_ids[i] = -1;
    for (size_t i = 0; i < vocab->n; i++) {
        size_t n;
        const uint8_t *bytes = tokenizer_bytes(tokenizer, (int32_t)i, &n);
        bool byte = vocab->kinds[i] == TOKEN_BYTE;
        if (!byte && !vocab_is_merged(vocab, i))
            continue;
        n_text++;
        tokenizer->longest = n > tokenizer->longest ? n : tokenizer->longest;
        if (n == 1 && byte == tokenizer->sentencepiece && tokenizer->byte_ids[bytes[0]] < 0)
            tokenizer->byte_ids[bytes[0]] = (int32_t)i;
    }
    return vocab->ignore_merges || tokenizer->sentencepiece ? index_words(tokenizer, n_text, err)
                                                            : 0;
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
    tokenizer->sentencepiece = vocab_is_sentencepiece(vocab);
    if (check_merges(vocab, err) != 0 || index_tokens(tokenizer, err) != 0 ||
        added_open(&tokenizer->added, vocab, err) != 0 ||
        bpe_open(&tokenizer->bpe, vocab->merges, vocab->ranks, vocab->n_merges, err) != 0) {
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
    added_close(&tokenizer->added);
    free(tokenizer);
}

static void add_bytes(const struct tokenizer *tokenizer, const uint8_t *bytes, size_t n,
                      struct tokens *out)
{
    for (size_t i = 0; i < n; i++)
        if (tokenizer->byte_ids[bytes[i]] >= 0)
            tokens_add(out, tokenizer->byte_ids[bytes[i]]);
}

/* SentencePiece's symbols. */
static void add_characters(const struct tokenizer *tokenizer, const uint8_t *bytes, size_t n,
                           struct tokens *out)
{
    for (size_t at = 0, end; at < n; at = end) {
        uint64_t hash;
        for (end = at + 1; end < n && (bytes[end] & 0xc0) == 0x80;)
            end++;
        int32_t id = word_slot(tokenizer, bytes + at, end - at, &hash)->id;
        if (id >= 0)
            tokens_add(out, id);
        else if (bytes[at] == ' ')
            add_bytes(tokenizer, (const uint8_t *)BLANK, 3, out);
        else
            add_bytes(tokenizer, bytes + at, end - at, out);
    }
}

/* Appends the tokens of one pre-token of n >= 1 bytes; false if memory ran out. */
static bool add_pretoken(const struct tokenizer *tokenizer, const uint8_t *bytes, size_t n,
                         struct tokens *out)
{
    if (tokenizer->vocab->ignore_merges && n <= tokenizer->longest) {
        uint64_t hash;
        int32_t id = word_slot(tokenizer, bytes, n, &hash)->id;
        if (id >= 0) {
            tokens_add(out, id);
            return !out->failed;
        }
    }
    size_t start = out->n;
    (tokenizer->sentencepiece ? add_characters : add_bytes)(tokenizer, bytes, n, out);
    if (out->failed || out->n == start)
        return !out->failed;
    size_t left = bpe_merge(&tokenizer->bpe, out->ids + start, out->n - start);
    if (left == SIZE_MAX)
        return false;
    out->n = start + left;
    return true;
}

/* ---- whole texts ----------------------------------------------------------------------------- */

struct encoding {
    const struct tokenizer *tokenizer;
    const uint8_t *text;
    struct tokens *out;
};

static bool put_text(const struct encoding *e, const uint8_t *text, size_t n)
{
    for (size_t at = 0; at < n;) {
        size_t end = pretoken_end(e->tokenizer->vocab->pretokenizer, text, n, at);
        if (!add_pretoken(e->tokenizer, text + at, end - at, e->out))
            return false;
        at = end;
    }
    return true;
}

/* The first byte of text[0..n), or a blank for U+2581; returns how many bytes that takes. */
static size_t next_byte(const uint8_t *text, size_t n, uint8_t *byte)
{
    bool blank = n >= 3 && memcmp(text, BLANK, 3) == 0;
    *byte = blank ? ' ' : text[0];
    return blank ? 3 : 1;
}

/* text[0..n) with blanks for U+2581, and with one before it. */
static bool put_blanks(const struct encoding *e, const uint8_t *text, size_t n, bool prefixed)
{
    uint8_t *bytes = size_alloc(n + 1, 1);
    if (bytes == NULL)
        return false;
    size_t size = 0;
    if (prefixed)
        bytes[size++] = ' ';
    for (size_t at = 0; at < n; size++)
        at += next_byte(text + at, n - at, &bytes[size]);
    bool done = put_text(e, bytes, size);
    free(bytes);
    return done;
}

/* Text without added tokens, or one of these. */
static bool put(void *arg, size_t from, size_t to, int32_t id)
{
    const struct encoding *e = arg;
    const struct tokenizer *tokenizer = e->tokenizer;
    enum blank_prefix prefix = tokenizer->vocab->prefix;
    const uint8_t *text = e->text + from;
    size_t n = to - from;
    if (id >= 0) {
        tokens_add(e->out, id);
        return !e->out->failed;
    }
    if (!tokenizer->sentencepiece)
        return put_text(e, text, n);
    uint8_t first = 0;
    if (n > 0)
        next_byte(text, n, &first);
    return put_blanks(
        e, text, n,
        (prefix == BLANK_PREPEND && id == ADDED_SECTION) ||
            (first != ' ' && (prefix == BLANK_ALWAYS || (prefix == BLANK_FIRST && from == 0))));
}

/* given: see struct added_text. */
static int encode(const struct tokenizer *tokenizer, const uint8_t *text, const uint8_t *given,
                  size_t n, bool controls, struct tokens *out, struct llama3_error *err)
{
    size_t before = out->n;
    struct encoding encoding = {tokenizer, text, out};
    const struct added_text all = {text, given, n, controls, put, &encoding};
    if (out->failed)
        return error_memory(err, "the list of tokens", 0);
    if (added_cut(&tokenizer->added, &all))
        return 0;
    out->n = before;
    out->failed = false;
    return error_memory(err, "encoding a text", n);
}

static int encode_checked(const struct tokenizer *tokenizer, const char *text, size_t n,
                          bool controls, struct tokens *out, struct llama3_error *err)
{
    const uint8_t *bytes = (const uint8_t *)text;

    if (n > INT32_MAX)
        return error_input(err, "text: expected at most %d bytes, found %zu", INT32_MAX, n);
    size_t valid = utf8_valid(bytes, n);
    if (valid < n)
        return error_input(err, "text: expected UTF-8, found byte 0x%02x at byte %zu", bytes[valid],
                           valid);
    return encode(tokenizer, bytes, NULL, n, controls, out, err);
}

int tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t n,
                     struct tokens *out, struct llama3_error *err)
{
    return encode_checked(tokenizer, text, n, false, out, err);
}

int tokenizer_encode_trusted(const struct tokenizer *tokenizer, const char *text, size_t n,
                             struct tokens *out, struct llama3_error *err)
{
    return encode_checked(tokenizer, text, n, true, out, err);
}

int tokenizer_encode_marked(const struct tokenizer *tokenizer, const uint32_t *chars, size_t n,
                            struct tokens *out, struct llama3_error *err)
{
    size_t size = 0;
    if (n > INT32_MAX / 4)
        return error_input(err, "text: expected at most %d characters, found %zu", INT32_MAX / 4,
                           n);
    uint8_t *text = size_alloc(n, 8), *given = text + 4 * n; /* a character has up to 4 bytes */
    if (text == NULL)
        return error_memory(err, "encoding a text", 8 * n);
    for (size_t i = 0; i < n; i++) {
        uint32_t scalar = chars[i] & INT32_MAX;
        if (scalar > 0x10ffff || (scalar >= 0xd800 && scalar < 0xe000)) {
            free(text);
            return error_input(err, "text: expected Unicode scalars, found 0x%x at character %zu",
                               scalar, i);
        }
        size_t length = (size_t)utf8_encode(scalar, text + size);
        memset(given + size, (int)(chars[i] >> 31), length);
        size += length;
    }
    int result = encode(tokenizer, text, given, size, true, out, err);
    free(text);
    return result;
}

/* ---- tokens ---------------------------------------------------------------------------------- */

int32_t tokenizer_added(const struct tokenizer *tokenizer, const char *name)
{
    const struct added_token *token = added_find(&tokenizer->added, name);
    return token != NULL ? token->id : -1;
}

int32_t tokenizer_control(const struct tokenizer *tokenizer, const char *name)
{
    const struct added_token *token = added_find(&tokenizer->added, name);
    return token != NULL && token->control ? token->id : -1;
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

void tokenizer_decode(const struct tokenizer *tokenizer, int32_t id, struct decoder *decoder,
                      struct buf *out)
{
    size_t n;
    const uint8_t *bytes = tokenizer_bytes(tokenizer, id, &n), *flags = tokenizer->vocab->flags;
    if (tokenizer->added.prepends && tokenizer_kind(tokenizer, id) == TOKEN_ADDED &&
        flags != NULL && (flags[id] & ADDED_NORMALIZED) != 0)
        decoder_push(decoder, (const uint8_t *)" ", 1, out);
    decoder_push(decoder, bytes, n, out);
}

enum token_kind tokenizer_kind(const struct tokenizer *tokenizer, int32_t id)
{
    if (id < 0 || (size_t)id >= tokenizer->vocab->n)
        return TOKEN_UNUSED;
    return (enum token_kind)tokenizer->vocab->kinds[id];
}
