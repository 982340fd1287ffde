/* SPDX-License-Identifier: MIT */
/*
 * vocab_build.c: a hash table from spellings to ids, merges as ids, and bytes from GPT-2's
 * alphabet, or from SentencePiece's.
 */
#include "checkpoint/vocab_build.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/size.h"
#include "base/utf8.h"

int vocab_build_open(struct vocab_build *build, size_t n, size_t max_merges, const char *where,
                     struct llama3_error *err)
{
    *build = (struct vocab_build){.where = where, .n = n, .max_merges = max_merges};
    build->tokens = size_alloc(n, sizeof *build->tokens);
    build->merges = size_alloc(max_merges, sizeof *build->merges);
    if (build->tokens != NULL && build->merges != NULL && hash_table_open(&build->ids, n))
        return 0;
    vocab_build_free(build);
    return error_memory(err, where, n * sizeof *build->tokens);
}

void vocab_build_free(struct vocab_build *build)
{
    free(build->tokens);
    hash_table_close(&build->ids);
    free(build->merges);
    free(build->ranks);
    *build = (struct vocab_build){0};
}

enum { MAX_PIECE_BYTES = 256 }; /* whose cuts take a time that is quadratic in it */

/* A spelling as two strings, the second of which may be empty. */
struct spelling {
    const struct vocab_build *build;
    const char *left, *right;
    size_t left_size, right_size;
};

static bool is_spelled(const void *arg, int32_t id)
{
    const struct spelling *s = arg;
    const struct vocab_spelling *token = &s->build->tokens[id];
    return token->size == s->left_size + s->right_size &&
           memcmp(token->text, s->left, s->left_size) == 0 &&
           memcmp(token->text + s->left_size, s->right, s->right_size) == 0;
}

/* The slot of a spelling, or the free one where it belongs. */
static struct hash_slot *find_slot(const struct spelling *s, uint64_t *hash)
{
    const struct hash_table *ids = &s->build->ids;
    *hash = hash_bytes(&ids->key, s->left, s->left_size, s->right, s->right_size);
    return hash_table_slot(ids, *hash, is_spelled, s);
}

static int32_t find(const struct vocab_build *build, const char *left, size_t left_size,
                    const char *right, size_t right_size)
{
    uint64_t hash;
    return find_slot(&(struct spelling){build, left, right, left_size, right_size}, &hash)->id;
}

int32_t vocab_build_find(const struct vocab_build *build, const char *text, size_t size)
{
    return find(build, text, size, "", 0);
}

/* The byte of "<0x0A>", or -1. */
static int byte_of(const char *text, size_t size)
{
    static const char digits[] = "0123456789ABCDEF";
    if (size != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>')
        return -1;
    const char *high = memchr(digits, text[3], 16), *low = memchr(digits, text[4], 16);
    return high == NULL || low == NULL ? -1 : (int)((high - digits) * 16 + (low - digits));
}

/* How much of a text an error quotes. */
static int clip(size_t size)
{
    return size < 80 ? (int)size : 80;
}

int vocab_build_token(struct vocab_build *build, size_t id, enum token_kind kind, uint8_t flags,
                      const char *text, size_t size, struct llama3_error *err)
{
    bool named = kind == TOKEN_CONTROL || kind == TOKEN_ADDED;
    if (id >= build->n)
        return error_input(err, "%s: expected token ids 0..%zu (the model's vocabulary), found %zu",
                           build->where, build->n - 1, id);
    if (size == 0)
        return error_input(err, "%s: expected a text for token %zu, found none", build->where, id);
    if (named && utf8_valid((const uint8_t *)text, size) < size)
        return error_input(
            err, "%s: token %zu: expected UTF-8 as a control token's name, found \"%.*s\"",
            build->where, id, clip(size), text);
    if (named && size > MAX_ADDED_BYTES)
        return error_input(
            err, "%s: token %zu: expected at most %d bytes as an added token's name, found %zu",
            build->where, id, MAX_ADDED_BYTES, size);
    struct vocab_spelling *token = &build->tokens[id];
    if (token->text != NULL)
        return error_input(err, "%s: expected one text for token %zu, found \"%.*s\" and \"%.*s\"",
                           build->where, id, clip(token->size), token->text, clip(size), text);
    uint64_t hash;
    const struct spelling spelling = {build, text, "", size, 0};
    struct hash_slot *slot = find_slot(&spelling, &hash);
    if (slot->id >= 0)
        return error_input(err, "%s: expected one id for \"%.*s\", found %d and %zu", build->where,
                           clip(size), text, (int)slot->id, id);
    bool is_byte = build->sentencepiece && kind == TOKEN_TEXT && byte_of(text, size) >= 0;
    *token = (struct vocab_spelling){text, size, kind, flags, is_byte, token->score};
    *slot = (struct hash_slot){(uint32_t)hash, (int32_t)id};
    return 0;
}

int vocab_build_byte(struct vocab_build *build, size_t id, const char *text, size_t size,
                     struct llama3_error *err)
{
    if (byte_of(text, size) < 0)
        return error_input(err, "%s: token %zu: expected a byte as <0x0A>, found \"%.*s\"",
                           build->where, id, clip(size), text);
    if (vocab_build_token(build, id, TOKEN_TEXT, 0, text, size, err) != 0)
        return -1;
    build->tokens[id].is_byte = true;
    return 0;
}

/* Whether BPE can take or make a token. An added one is spelled by itself, so what it is in the
 * alphabet must be the same. */
static bool is_mergeable(const struct vocab_build *build, int32_t id)
{
    if (id < 0)
        return false;
    const struct vocab_spelling *token = &build->tokens[id];
    if (token->kind != TOKEN_ADDED)
        return token->kind == TOKEN_TEXT && !token->is_byte;
    for (size_t i = 0; i < token->size; i++)
        if (token->text[i] < 0x21 || token->text[i] > 0x7e)
            return false;
    return true;
}

int vocab_build_merge(struct vocab_build *build, const char *left, size_t left_size,
                      const char *right, size_t right_size, struct llama3_error *err)
{
    struct merge merge = {vocab_build_find(build, left, left_size),
                          vocab_build_find(build, right, right_size),
                          find(build, left, left_size, right, right_size)};
    const int32_t ids[] = {merge.left, merge.right, merge.result};
    if (build->n_merges == build->max_merges)
        return error_input(err, "%s: expected at most %zu merges, found more", build->where,
                           build->max_merges);
    for (int i = 0; i < 3; i++)
        if (!is_mergeable(build, ids[i]))
            return error_input(
                err,
                "%s: merge %zu, \"%.*s\" and \"%.*s\": expected %s in the vocabulary, found no "
                "such token",
                build->where, build->n_merges, clip(left_size), left, clip(right_size), right,
                i < 2 ? "both tokens" : "the merged token");
    for (int i = 0; i < 3; i++)
        build->tokens[ids[i]].flags |= build->tokens[ids[i]].kind == TOKEN_ADDED ? ADDED_MERGED : 0;
    build->merges[build->n_merges++] = merge;
    return 0;
}

int vocab_build_merge_pair(struct vocab_build *build, const char *pair, size_t size,
                           struct llama3_error *err)
{
    const char *space = memchr(pair, ' ', size);
    if (space == NULL)
        return error_input(err, "%s: merge %zu: expected two tokens, found \"%.*s\"", build->where,
                           build->n_merges, clip(size), pair);
    size_t left = (size_t)(space - pair);
    return vocab_build_merge(build, pair, left, space + 1, size - left - 1, err);
}

/* ---- scores ---------------------------------------------------------------------------------- */

struct scored {
    float score;
    struct merge merge;
};

static int by_score(const void *a, const void *b)
{
    const struct scored *x = a, *y = b;
    return (x->score < y->score) - (x->score > y->score);
}

/* Adds a token's cuts into two tokens. */
static int split_token(const struct vocab_build *build, int32_t id, struct buf *list,
                       struct llama3_error *err)
{
    const struct vocab_spelling *token = &build->tokens[id];
    const char *text = token->text, *end = text + token->size;
    if (token->size > MAX_PIECE_BYTES)
        return error_input(err, "%s: token %d: expected at most %d bytes, found %zu", build->where,
                           id, MAX_PIECE_BYTES, token->size);
    uint32_t scalar;
    for (const char *at = text, *next; at < end; at = next) {
        int length = utf8_decode((const uint8_t *)at, (size_t)(end - at), &scalar);
        next = at + (length > 0 ? length : 1);
        if (!is_mergeable(build, vocab_build_find(build, at, (size_t)(next - at))))
            return error_input(
                err, "%s: token %d, \"%.*s\": expected a token for each character, found none",
                build->where, id, clip(token->size), text);
        const struct scored cut = {token->score,
                                   {vocab_build_find(build, text, (size_t)(next - text)),
                                    vocab_build_find(build, next, (size_t)(end - next)), id}};
        if (next < end && is_mergeable(build, cut.merge.left) &&
            is_mergeable(build, cut.merge.right))
            buf_add(list, &cut, sizeof cut);
    }
    return 0;
}

int vocab_build_scores(struct vocab_build *build, struct llama3_error *err)
{
    struct buf buf = {0};
    int result = 0;
    for (int32_t i = 0; (size_t)i < build->n && result == 0; i++)
        if (is_mergeable(build, i))
            result = split_token(build, i, &buf, err);
    struct scored *list = (struct scored *)(void *)buf.data;
    size_t n = build->n_merges = buf.size / sizeof *list;
    free(build->merges);
    build->merges = size_alloc(n, sizeof *build->merges);
    build->ranks = size_alloc(n, sizeof *build->ranks);
    if (result == 0 && (buf.failed || build->merges == NULL || build->ranks == NULL))
        result = error_memory(err, build->where, n * sizeof *list);
    if (result == 0 && n > 0)
        qsort(list, n, sizeof *list, by_score);
    for (size_t i = 0; result == 0 && i < n; i++) {
        bool tied = i > 0 && list[i].score == list[i - 1].score;
        build->merges[i] = list[i].merge;
        build->ranks[i] = tied ? build->ranks[i - 1] : (uint32_t)i;
    }
    buf_free(&buf);
    return result;
}

/* ---- bytes ----------------------------------------------------------------------------------- */

/* GPT-2's alphabet, bytes_to_unicode() of its encoder.py: printable characters of Latin-1 stand for
 * themselves, all other bytes, in order, for U+0100 and up. -1 if a character is not in it. */
static int alphabet_byte(uint32_t scalar)
{
    if ((scalar >= 0x21 && scalar <= 0x7e) || (scalar >= 0xa1 && scalar <= 0xac) ||
        (scalar >= 0xae && scalar <= 0xff))
        return (int)scalar;
    if (scalar >= 0x100 && scalar <= 0x120)
        return (int)scalar - 0x100; /* 00..20 */
    if (scalar >= 0x121 && scalar <= 0x142)
        return (int)scalar - 0x121 + 0x7f; /* 7f..a0 */
    return scalar == 0x143 ? 0xad : -1;
}

uint32_t vocab_alphabet(uint8_t byte)
{
    uint32_t scalar = byte;
    if (alphabet_byte(scalar) != byte)
        for (scalar = 0x100; alphabet_byte(scalar) != byte;)
            scalar++;
    return scalar;
}

/* SentencePiece's: U+2581 stands for a blank, and a blank for nothing. */
static int add_piece(const struct vocab_build *build, size_t id, struct buf *out,
                     struct llama3_error *err)
{
    const struct vocab_spelling *token = &build->tokens[id];
    if (utf8_valid((const uint8_t *)token->text, token->size) < token->size ||
        memchr(token->text, ' ', token->size) != NULL)
        return error_input(err, "%s: token %zu: expected UTF-8 without blanks, found \"%.*s\"",
                           build->where, id, clip(token->size), token->text);
    for (size_t at = 0; at < token->size;) {
        size_t left = token->size - at;
        bool blank = left >= 3 && memcmp(token->text + at, "\xe2\x96\x81", 3) == 0;
        buf_add(out, blank ? " " : token->text + at, 1);
        at += blank ? 3 : 1;
    }
    return 0;
}

/* Appends a text token's bytes. */
static int add_bytes(const struct vocab_build *build, size_t id, struct buf *out,
                     struct llama3_error *err)
{
    const struct vocab_spelling *token = &build->tokens[id];
    const uint8_t *text = (const uint8_t *)token->text;
    uint8_t bytes[64];
    if (build->sentencepiece)
        return add_piece(build, id, out, err);
    size_t n = 0;
    for (size_t at = 0; at < token->size;) {
        uint32_t scalar = text[at];
        int length = 1; /* most are ASCII */
        if (scalar >= 0x80)
            length = utf8_decode(text + at, token->size - at, &scalar);
        int byte = length > 0 ? alphabet_byte(scalar) : -1;
        if (byte < 0)
            return error_input(err, "%s: token %zu: expected GPT-2's byte alphabet, found \"%.*s\"",
                               build->where, id, clip(token->size), token->text);
        if (n == sizeof bytes) {
            buf_add(out, bytes, n);
            n = 0;
        }
        bytes[n++] = (uint8_t)byte;
        at += (size_t)length;
    }
    buf_add(out, bytes, n);
    return 0;
}

int vocab_build_finish(struct vocab_build *build, struct vocab *vocab, struct llama3_error *err)
{
    size_t n = build->n;
    while (n > 0 && build->tokens[n - 1].text == NULL)
        n--; /* rows of the embedding beyond the last token */
    if (n == 0)
        return error_input(err, "%s: expected a vocabulary, found no token", build->where);
    vocab->n = n;
    vocab->offsets = size_alloc_for(n + 1, sizeof *vocab->offsets, build->where, err);
    vocab->kinds = size_alloc_for(n, sizeof *vocab->kinds, build->where, err);
    vocab->flags = size_alloc_for(n, sizeof *vocab->flags, build->where, err);
    if (vocab->offsets == NULL || vocab->kinds == NULL || vocab->flags == NULL)
        return -1;

    struct buf bytes = {0};
    bool seen[256] = {false};
    int result = 0;
    for (size_t i = 0; i < n && result == 0; i++) {
        const struct vocab_spelling *token = &build->tokens[i];
        bool byte_token = build->sentencepiece && token->is_byte;
        vocab->kinds[i] = (uint8_t)(byte_token ? TOKEN_BYTE : token->kind);
        vocab->flags[i] = token->flags;
        const uint8_t byte = (uint8_t)(token->is_byte ? byte_of(token->text, token->size) : 0);
        seen[byte] = seen[byte] || token->is_byte;
        if (token->is_byte)
            buf_add(&bytes, &byte, 1);
        else if (token->kind == TOKEN_TEXT)
            result = add_bytes(build, i, &bytes, err);
        else if (token->kind != TOKEN_UNUSED)
            buf_add(&bytes, token->text, token->size);
        if (result == 0 && bytes.failed)
            result = error_memory(err, build->where, bytes.size);
        if (result == 0 && bytes.size > MAX_VOCAB_BYTES)
            result = error_input(err, "%s: expected at most %d bytes of tokens, found more",
                                 build->where, MAX_VOCAB_BYTES);
        vocab->offsets[i + 1] = (uint32_t)bytes.size;
    }
    for (int i = 0; build->sentencepiece && result == 0 && i < 256; i++)
        if (!seen[i])
            result = error_input(err, "%s: expected a token for each byte, found no <0x%02X>",
                                 build->where, (unsigned)i);
    vocab->bytes = (uint8_t *)bytes.data;
    vocab->merges = build->merges;
    vocab->n_merges = build->n_merges;
    vocab->ranks = build->ranks;
    build->merges = NULL;
    build->ranks = NULL;
    return result;
}

bool vocab_is_sentencepiece(const struct vocab *vocab)
{
    return vocab->pretokenizer >= PRETOKENIZER_SENTENCEPIECE;
}

bool vocab_is_merged(const struct vocab *vocab, size_t id)
{
    return vocab->kinds[id] == TOKEN_TEXT ||
           (vocab->kinds[id] == TOKEN_ADDED && vocab->flags != NULL &&
            (vocab->flags[id] & ADDED_MERGED) != 0);
}

void vocab_free(struct vocab *vocab)
{
    free(vocab->bytes);
    free(vocab->offsets);
    free(vocab->kinds);
    free(vocab->flags);
    free(vocab->merges);
    free(vocab->ranks);
    *vocab = (struct vocab){0};
}
