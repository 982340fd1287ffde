/* SPDX-License-Identifier: MIT */
#include "text/added.h"

#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "base/utf8.h"
#include "text/unicode.h"

/* ---- names ----------------------------------------------------------------------------------- */

/* A name sorts before the names that it begins, a lower id before a higher one. */
static int by_name(const void *a, const void *b)
{
    const struct added_token *x = a, *y = b;
    int order = memcmp(x->name, y->name, x->n < y->n ? x->n : y->n);
    if (order == 0)
        order = (x->n > y->n) - (x->n < y->n);
    return order != 0 ? order : (x->id > y->id) - (x->id < y->id);
}

static bool is_added(const struct vocab *vocab, size_t id)
{
    return (vocab->kinds[id] == TOKEN_CONTROL || vocab->kinds[id] == TOKEN_ADDED) &&
           vocab->offsets[id + 1] > vocab->offsets[id];
}

static int which_list(const struct vocab *vocab, size_t id)
{
    return vocab->flags != NULL && (vocab->flags[id] & ADDED_NORMALIZED) != 0;
}

int added_open(struct added *added, const struct vocab *vocab, struct llama3_error *err)
{
    bool normalizes = vocab_is_sentencepiece(vocab) && vocab->prefix <= BLANK_REPLACE;
    *added = (struct added){.normalizes = normalizes,
                            .prepends = normalizes && vocab->prefix == BLANK_PREPEND};
    size_t n[2] = {0, 0};
    for (size_t i = 0; i < vocab->n; i++)
        if (is_added(vocab, i))
            n[which_list(vocab, i)]++;
    for (int i = 0; i < 2; i++) {
        added->lists[i].tokens =
            size_alloc_for(n[i], sizeof(struct added_token), "the list of added tokens", err);
        if (added->lists[i].tokens == NULL)
            return -1;
    }
    for (size_t i = 0; i < vocab->n; i++) {
        if (!is_added(vocab, i))
            continue;
        struct added_list *list = &added->lists[which_list(vocab, i)];
        const uint8_t *name = vocab->bytes + vocab->offsets[i];
        bool control = vocab->kinds[i] == TOKEN_CONTROL;
        list->tokens[list->n++] =
            (struct added_token){name, vocab->offsets[i + 1] - vocab->offsets[i], (int32_t)i,
                                 vocab->flags != NULL ? vocab->flags[i] : 0, control};
        list->begins[name[0]] = true;
        added->in_text = added->in_text || !control;
    }
    for (int i = 0; i < 2; i++)
        if (added->lists[i].n > 0)
            qsort(added->lists[i].tokens, added->lists[i].n, sizeof(struct added_token), by_name);
    return 0;
}

void added_close(struct added *added)
{
    free(added->lists[0].tokens);
    free(added->lists[1].tokens);
    *added = (struct added){.in_text = false};
}

/* tokens[from..to) begin alike for `depth` bytes. The first of them whose next byte is at least
 * `byte`; one that ends at `depth` has no next byte. */
static size_t first_with(const struct added_list *list, size_t from, size_t to, size_t depth,
                         int byte)
{
    while (from < to) {
        size_t middle = from + (to - from) / 2;
        const struct added_token *token = &list->tokens[middle];
        int found = token->n > depth ? (int)token->name[depth] : -1;
        if (found < byte)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

/* The token with the longest name at the start of text[0..n), or NULL. */
static const struct added_token *longest(const struct added_list *list, const uint8_t *text,
                                         const uint8_t *given, size_t n)
{
    const struct added_token *found = NULL;
    size_t from = 0, to = list->n;
    for (size_t depth = 0; depth < n && (given == NULL || given[depth] == 0); depth++) {
        from = first_with(list, from, to, depth, text[depth]);
        to = first_with(list, from, to, depth, text[depth] + 1);
        if (from == to)
            break;
        if (list->tokens[from].n == depth + 1)
            found = &list->tokens[from];
    }
    return found;
}

const struct added_token *added_find(const struct added *added, const char *name)
{
    size_t n = strlen(name);
    for (int i = 0; i < 2; i++) {
        const struct added_token *token = longest(&added->lists[i], (const uint8_t *)name, NULL, n);
        if (token != NULL && token->n == n)
            return token;
    }
    return NULL;
}

/* ---- text ------------------------------------------------------------------------------------ */

static uint32_t scalar_before(const uint8_t *text, size_t *at)
{
    uint32_t scalar = 0;
    size_t end = *at;
    do
        --*at;
    while ((text[*at] & 0xc0) == 0x80);
    utf8_decode(text + *at, end - *at, &scalar);
    return scalar;
}

/* A normalizer of SentencePiece has made U+2581 of blanks, which is no white space. */
static bool is_white(uint32_t scalar, bool normalized)
{
    return unicode_class(scalar) == UNICODE_SPACE && !(normalized && scalar == ' ');
}

/* Where the white space begins that ends at `at`, but not before `from`. */
static size_t spaces_begin(const uint8_t *text, size_t from, size_t at, bool normalized)
{
    for (size_t next = at; next > from; at = next)
        if (!is_white(scalar_before(text, &next), normalized))
            break;
    return at;
}

static size_t spaces_end(const uint8_t *text, size_t at, size_t to, bool normalized)
{
    while (at < to) {
        uint32_t scalar = 0;
        int length = utf8_decode(text + at, to - at, &scalar);
        if (!is_white(scalar, normalized))
            break;
        at += (size_t)length;
    }
    return at;
}

/* Whether text[start..end) touches a character of a word in text[from..to). */
static bool in_word(const uint8_t *text, size_t from, size_t start, size_t end, size_t to)
{
    uint32_t scalar = 0;
    if (start > from && unicode_is_word(scalar_before(text, &start)))
        return true;
    return end < to && utf8_decode(text + end, to - end, &scalar) > 0 && unicode_is_word(scalar);
}

/* Where the blank begins that belongs to a name at text[at], if it begins a section or comes behind
 * a blank; else SIZE_MAX. */
static size_t blank_before(const uint8_t *text, size_t done, size_t at)
{
    size_t start = at;
    uint32_t scalar = at > done ? scalar_before(text, &start) : 0;
    return scalar == ' ' || scalar == 0x2581 ? start : SIZE_MAX;
}

/* Cuts text[from..to) at the tokens of a list, and each piece between at those of the next.
 * `done` may go back: a token may begin in the white space that the one before it took. */
static bool cut(const struct added *added, const struct added_text *t, int which, bool section,
                size_t from, size_t to)
{
    if (which == 2)
        return t->put(t->arg, from, to, section ? ADDED_SECTION : -1);
    bool normalized = which == 1 && added->normalizes, prepended = which == 1 && added->prepends;
    const struct added_list *list = &added->lists[which];
    size_t done = from, spaces = from;
    for (size_t at = from; at < to && list->n > 0;) {
        const struct added_token *token = NULL;
        if (list->begins[t->text[at]])
            token = longest(list, t->text + at, t->given != NULL ? t->given + at : NULL, to - at);
        if (token == NULL) {
            at++;
            continue;
        }
        size_t start = at, end = at + token->n;
        if (prepended && at > from && (start = blank_before(t->text, done, at)) == SIZE_MAX) {
            at++;
            continue;
        }
        bool before = start < at && start == from; /* the section's blank is a text by itself */
        at = end;
        if ((token->control && !t->controls) ||
            ((token->flags & ADDED_SINGLE_WORD) != 0 && in_word(t->text, from, start, end, to)))
            continue;
        if ((token->flags & ADDED_LSTRIP) != 0)
            start = start > done ? spaces_begin(t->text, done, start, normalized) : done;
        if ((token->flags & ADDED_RSTRIP) != 0) {
            spaces = spaces > end
                         ? spaces
                         : spaces_end(t->text, end, to, normalized); /* each is read once */
            end = spaces;
        }
        if (((done < start || before) &&
             !cut(added, t, which + 1, which == 0 || done == from, done, start)) ||
            !t->put(t->arg, start, end, token->id))
            return false;
        done = end;
    }
    return done == to || cut(added, t, which + 1, which == 0 || done == from, done, to);
}

bool added_cut(const struct added *added, const struct added_text *text)
{
    if (!added->in_text && !text->controls)
        return text->n == 0 || text->put(text->arg, 0, text->n, ADDED_SECTION);
    return text->n == 0 || cut(added, text, 0, true, 0, text->n);
}
