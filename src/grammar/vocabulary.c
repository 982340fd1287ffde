/* SPDX-License-Identifier: MIT */
#include "config.h"

#include "grammar/vocabulary.h"

#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "base/utf8.h"
#include "grammar/term.h"
#include "text/tokenizer.h"

/* A string that may have L more characters takes the largest slice of at most L; the last one has
 * no tokens, and all are walked. */
static const uint32_t slice_chars[N_SLICES] = {UINT32_MAX, 32, 16, 8, 4, 0};

struct token_text {
    const uint8_t *bytes;
    uint32_t n;
    int32_t token;
};

static int by_bytes(const void *a, const void *b)
{
    const struct token_text *x = a, *y = b;
    int order = memcmp(x->bytes, y->bytes, x->n < y->n ? x->n : y->n);
    if (order != 0)
        return order;
    if (x->n != y->n)
        return x->n < y->n ? -1 : 1;
    return x->token < y->token ? -1 : x->token > y->token;
}

static uint32_t common(const struct token_text *a, const struct token_text *b)
{
    uint32_t n = a->n < b->n ? a->n : b->n, i = 0;
    while (i < n && a->bytes[i] == b->bytes[i])
        i++;
    return i;
}

/* A trie of sorted entries, of which all are unlike. */
static int trie_open(struct trie *trie, const struct token_text *entries, size_t n, size_t longest,
                     struct llama3_error *err)
{
    size_t nodes = 0;
    for (size_t i = 0; i < n; i++)
        nodes += entries[i].n - (i > 0 ? common(&entries[i - 1], &entries[i]) : 0);
    uint32_t *path = size_alloc_for(longest + 1, sizeof *path, "the tokens' tries", err);
    trie->nodes = size_alloc_for(nodes, sizeof *trie->nodes, "the tokens' tries", err);
    if (path == NULL || trie->nodes == NULL || nodes >= UINT32_MAX) {
        free(path);
        return -1;
    }
    uint32_t depth = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t shared = i > 0 ? common(&entries[i - 1], &entries[i]) : 0;
        for (; depth > shared; depth--)
            trie->nodes[path[depth]].end = trie->n;
        while (depth < entries[i].n) {
            uint8_t byte = entries[i].bytes[depth++];
            path[depth] = trie->n;
            trie->nodes[trie->n++] =
                (struct trie_node){.token = -1, .depth = (uint16_t)depth, .byte = byte};
        }
        trie->nodes[path[depth]].token = entries[i].token;
    }
    for (; depth > 0; depth--)
        trie->nodes[path[depth]].end = trie->n;
    free(path);
    return 0;
}

/* Whether each byte that continues a character has a token: else a token that ends within one may
 * lead to where no token goes on. */
static bool has_continuations(const struct vocabulary *v)
{
    bool has[64] = {false};
    unsigned n_has = 0;
    for (size_t i = 0; i < v->size; i++) {
        size_t n;
        const uint8_t *bytes = tokenizer_bytes(v->tokenizer, (int32_t)i, &n);
        if (n != 1 || (bytes[0] & 0xc0) != 0x80 || has[bytes[0] & 0x3f])
            continue;
        has[bytes[0] & 0x3f] = true;
        n_has++;
    }
    return n_has == 64;
}

/* The text tokens in order of their bytes; tokens of the same bytes stand for the first of them. */
static size_t list_tokens(struct vocabulary *v, struct token_text *entries)
{
    size_t n = 0, kept = 0;
    bool parts = has_continuations(v);
    for (size_t i = 0; i < v->size; i++) {
        size_t length;
        const uint8_t *bytes = tokenizer_bytes(v->tokenizer, (int32_t)i, &length);
        enum token_kind kind = tokenizer_kind(v->tokenizer, (int32_t)i);
        if (kind == TOKEN_UNUSED || kind == TOKEN_CONTROL || length == 0 || length > UINT16_MAX)
            continue;
        if (!parts && utf8_valid(bytes, length) < length)
            continue;
        v->longest = length > v->longest ? length : v->longest;
        entries[n++] = (struct token_text){bytes, (uint32_t)length, (int32_t)i};
    }
    qsort(entries, n, sizeof *entries, by_bytes);
    for (size_t i = 0; i < n; i++) {
        struct token_text *last = kept > 0 ? &entries[kept - 1] : NULL;
        if (last == NULL || last->n != entries[i].n || common(last, &entries[i]) < last->n) {
            entries[kept++] = entries[i];
            continue;
        }
        v->twins[v->n_twins++] = (struct twin){last->token, entries[i].token};
    }
    return kept;
}

/* What a token does inside a string of any text. */
struct inside {
    uint32_t chars;  /* it stays there, and stands for at most so many; 0: it doesn't */
    uint32_t closed; /* it closes the string behind so many bytes; 0: it doesn't */
};

static struct inside look_inside(struct regexes *regexes, term start,
                                 const struct token_text *entry)
{
    term t = start;
    uint32_t at = 0, chars = 0;
    for (; at < entry->n && t != TERM_DEAD && t != TERM_CLOSED; at++) {
        t = term_step(regexes, t, entry->bytes[at], NULL, NULL);
        chars += (entry->bytes[at] & 0xc0) != 0x80;
    }
    if (t == TERM_CLOSED)
        return (struct inside){.closed = at};
    return (struct inside){.chars = t == TERM_DEAD ? 0 : chars > 0 ? chars : 1};
}

/* The tokens that close the string, by what they go on with. */
static int make_suffixes(struct vocabulary *v, struct token_text *closing, size_t n,
                         struct llama3_error *err)
{
    v->suffixes = size_alloc_for(n, sizeof *v->suffixes, "the tokens' masks", err);
    v->suffix_tokens = size_alloc_for(n, sizeof *v->suffix_tokens, "the tokens' masks", err);
    if (v->suffixes == NULL || v->suffix_tokens == NULL)
        return -1;
    qsort(closing, n, sizeof *closing, by_bytes);
    for (size_t i = 0; i < n; i++) {
        struct suffix *last = v->n_suffixes > 0 ? &v->suffixes[v->n_suffixes - 1] : NULL;
        if (last == NULL || last->n != closing[i].n ||
            memcmp(last->bytes, closing[i].bytes, last->n) != 0)
            v->suffixes[v->n_suffixes++] =
                (struct suffix){closing[i].bytes, closing[i].n, (uint32_t)i, 0};
        v->suffixes[v->n_suffixes - 1].n_tokens++;
        v->suffix_tokens[i] = closing[i].token;
    }
    return 0;
}

static int make_slices(struct vocabulary *v, const struct token_text *entries,
                       const struct inside *inside, size_t n, struct token_text *some,
                       struct llama3_error *err)
{
    for (size_t i = 0; i < N_SLICES; i++) {
        struct slice *slice = &v->slices[i];
        size_t n_some = 0;
        slice->chars = slice_chars[i];
        slice->mask = size_alloc_for(v->n_words, sizeof *slice->mask, "the tokens' masks", err);
        if (slice->mask == NULL)
            return -1;
        for (size_t j = 0; j < n; j++) {
            if (inside[j].chars > slice->chars)
                some[n_some++] = entries[j];
            else if (inside[j].chars > 0)
                mask_set(slice->mask, entries[j].token);
        }
        if (trie_open(&slice->longer, some, n_some, v->longest, err) < 0)
            return -1;
    }
    return 0;
}

/* What is known of strings in advance. */
static int prepare_strings(struct vocabulary *v, const struct token_text *entries, size_t n,
                           struct llama3_error *err)
{
    struct regexes *regexes = regexes_open(1 << 20, err);
    struct token_text *some = size_alloc_for(n, sizeof *some, "the tokens' masks", err);
    struct inside *inside = size_alloc_for(n, sizeof *inside, "the tokens' masks", err);
    size_t n_closing = 0;
    int status = -1;
    if (regexes == NULL || some == NULL || inside == NULL)
        goto end;
    term start = term_make(regex_text(regexes, 0, UINT32_MAX), STAGE_INSIDE, 0);
    for (size_t i = 0; i < n; i++) {
        inside[i] = look_inside(regexes, start, &entries[i]);
        if (inside[i].closed > 0)
            some[n_closing++] = entries[i];
    }
    if (regexes_failed(regexes, err) < 0 ||
        trie_open(&v->closing, some, n_closing, v->longest, err) < 0)
        goto end;
    n_closing = 0;
    for (size_t i = 0; i < n; i++)
        if (inside[i].closed > 0)
            some[n_closing++] =
                (struct token_text){entries[i].bytes + inside[i].closed,
                                    entries[i].n - inside[i].closed, entries[i].token};
    if (make_suffixes(v, some, n_closing, err) == 0 &&
        make_slices(v, entries, inside, n, some, err) == 0)
        status = 0;
end:
    free(some);
    free(inside);
    regexes_close(regexes);
    return status;
}

struct vocabulary *vocabulary_open(const struct tokenizer *tokenizer, size_t vocab_size,
                                   const int32_t *stop, size_t n_stop, struct llama3_error *err)
{
    struct vocabulary *v = size_alloc_for(1, sizeof *v, "the tokens' masks", err);
    if (v == NULL)
        return NULL;
    v->tokenizer = tokenizer;
    v->size = vocab_size;
    v->n_words = (vocab_size + 31) / 32;
    v->stop = size_alloc_for(v->n_words, sizeof *v->stop, "the tokens' masks", err);
    v->twins = size_alloc_for(vocab_size, sizeof *v->twins, "the tokens' masks", err);
    struct token_text *entries =
        size_alloc_for(vocab_size, sizeof *entries, "the tokens' tries", err);
    bool failed = v->stop == NULL || v->twins == NULL || entries == NULL;
    if (!failed) {
        size_t n = list_tokens(v, entries);
        for (size_t i = 0; i < n_stop; i++)
            if (stop[i] >= 0 && (size_t)stop[i] < vocab_size)
                mask_set(v->stop, stop[i]);
        failed = trie_open(&v->all, entries, n, v->longest, err) < 0 ||
                 prepare_strings(v, entries, n, err) < 0;
    }
    free(entries);
    if (!failed)
        return v;
    vocabulary_close(v);
    return NULL;
}

void vocabulary_close(struct vocabulary *v)
{
    if (v == NULL)
        return;
    for (size_t i = 0; i < N_SLICES; i++) {
        free(v->slices[i].mask);
        free(v->slices[i].longer.nodes);
    }
    free(v->all.nodes);
    free(v->closing.nodes);
    free(v->twins);
    free(v->stop);
    free(v->suffixes);
    free(v->suffix_tokens);
    free(v);
}
