/* SPDX-License-Identifier: MIT */
/*
 * mask.c: walks tries of the tokens with the parser. Inside a string, where most tokens may come,
 * only its regular expression steps, and the parser takes over behind the quotation mark; what is
 * known in advance of the tokens that the expression can't refuse is taken from the vocabulary.
 */
#include "config.h"

#include "grammar/mask.h"

#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "text/tokenizer.h"

struct walk {
    struct masker *masker;
    const struct vocabulary *v;
    struct machine *m;
    uint32_t *mask;
    struct item item; /* the string */
    state alone;      /* the state of this item alone; STATE_DEAD before it is needed */
    bool knows_closing;
};

int masker_open(struct masker *masker, const struct vocabulary *vocabulary,
                struct llama3_error *err)
{
    size_t n = vocabulary->longest + 1;
    *masker = (struct masker){
        .vocabulary = vocabulary,
        .levels = size_alloc_for(n, sizeof *masker->levels, "a mask", err),
        .regexes = size_alloc_for(n, sizeof *masker->regexes, "a mask", err),
        .closing = size_alloc_for(vocabulary->n_words, sizeof *masker->closing, "a mask", err),
    };
    if (masker->levels != NULL && masker->regexes != NULL && masker->closing != NULL)
        return 0;
    masker_close(masker);
    return -1;
}

void masker_close(struct masker *masker)
{
    free(masker->levels);
    free(masker->regexes);
    free(masker->closing);
    *masker = (struct masker){0};
}

static void mask_or(uint32_t *mask, const uint32_t *other, size_t n)
{
    for (size_t i = 0; i < n; i++)
        mask[i] |= other[i];
}

/* ---- by the parser -------------------------------------------------------------------------- */

/* Whether a token can come, byte by byte from the string's state on. */
static bool takes(struct walk *w, int32_t token)
{
    size_t n;
    const uint8_t *bytes = tokenizer_bytes(w->v->tokenizer, token, &n);
    if (w->alone == STATE_DEAD) {
        struct item item = w->item;
        struct items items = {.all = &item, .n = 1, .capacity = 1};
        w->alone = machine_state(w->m, &items);
    }
    state s = w->alone;
    for (size_t i = 0; i < n && s != STATE_DEAD; i++)
        s = machine_step(w->m, s, bytes[i]);
    return s != STATE_DEAD;
}

/* The tokens of [first, end) that can come after s, which is the state above them. A text that is
 * captured for its frame matters only from the next quotation mark on; the states here don't have
 * all of it, so such tokens are looked at one by one. Where there are many children, the bytes that
 * lead on are found out first. */
static void walk_states(struct walk *w, const struct trie *trie, uint32_t first, uint32_t end,
                        state s, bool captures)
{
    enum { MANY = 64 };
    struct level *levels = w->masker->levels;
    if (first >= end)
        return;
    struct level *top = &levels[trie->nodes[first].depth - 1];
    *top = (struct level){.state = s, .knows = end - first > MANY};
    if (top->knows)
        top->first = machine_first(w->m, s);
    for (uint32_t i = first; i < end;) {
        const struct trie_node *at = &trie->nodes[i];
        const struct level *above = &levels[at->depth - 1];
        if (captures && at->byte == '"') {
            for (; i < at->end; i++)
                if (trie->nodes[i].token >= 0 && takes(w, trie->nodes[i].token))
                    mask_set(w->mask, trie->nodes[i].token);
            continue;
        }
        if (above->knows && (above->first.bits[at->byte / 64] >> at->byte % 64 & 1) == 0) {
            i = at->end;
            continue;
        }
        state to = machine_step(w->m, above->state, at->byte);
        if (to == STATE_DEAD) {
            i = at->end;
            continue;
        }
        struct level *level = &levels[at->depth];
        level->state = to;
        level->knows = at->end - i > MANY;
        if (level->knows)
            level->first = machine_first(w->m, to);
        if (at->token >= 0)
            mask_set(w->mask, at->token);
        i++;
    }
}

/* ---- inside a string ------------------------------------------------------------------------ */

/* Which tokens may close the string, by what they go on with, if what stands before the quotation
 * mark is allowed. */
static void find_closing(struct walk *w)
{
    const struct vocabulary *v = w->v;
    struct level *levels = w->masker->levels;
    bool captures = w->item.text != 0;
    const uint8_t *before = NULL;
    uint32_t n_before = 0; /* bytes of the suffix before ... */
    uint32_t reached = 0;  /* ... and those that led somewhere */

    w->knows_closing = true;
    if (!captures && w->masker->after == w->item.after)
        return;
    w->masker->after = captures ? 0 : w->item.after;
    memset(w->masker->closing, 0, v->n_words * sizeof *w->masker->closing);
    levels[0].state = machine_after(w->m, &w->item, UINT32_MAX);
    for (uint32_t i = 0; i < v->n_suffixes; i++) {
        const struct suffix *suffix = &v->suffixes[i];
        const int32_t *tokens = v->suffix_tokens + suffix->first;
        if (captures && memchr(suffix->bytes, '"', suffix->n) != NULL) {
            for (uint32_t j = 0; j < suffix->n_tokens; j++)
                if (takes(w, tokens[j]))
                    mask_set(w->masker->closing, tokens[j]);
            continue;
        }
        uint32_t at = 0;
        while (at < n_before && at < suffix->n && suffix->bytes[at] == before[at])
            at++;
        before = suffix->bytes;
        n_before = suffix->n;
        if (at > reached) /* it begins with what led nowhere */
            continue;
        for (; at < suffix->n; at++) {
            levels[at + 1].state = machine_step(w->m, levels[at].state, suffix->bytes[at]);
            if (levels[at + 1].state == STATE_DEAD)
                break;
        }
        reached = at;
        for (uint32_t j = 0; j < suffix->n_tokens && at == suffix->n; j++)
            mask_set(w->masker->closing, tokens[j]);
    }
}

/* Closes the string at a node of a trie. */
static void close_string(struct walk *w, const struct trie *trie, uint32_t i, regex r)
{
    const struct trie_node *at = &trie->nodes[i];
    uint32_t tag = regex_tag(w->m->regexes, r);
    if (!regex_nullable(w->m->regexes, r))
        return;
    if (tag != UINT32_MAX) {
        if (at->token >= 0)
            mask_set(w->mask, at->token);
        walk_states(w, trie, i + 1, at->end, machine_after(w->m, &w->item, tag), w->item.text != 0);
        return;
    }
    if (!w->knows_closing)
        find_closing(w);
    for (uint32_t j = i; j < at->end; j++) {
        int32_t token = trie->nodes[j].token;
        if (token >= 0 && mask_has(w->masker->closing, token))
            mask_set(w->mask, token);
    }
}

/* The tokens of a trie that can come inside the string. */
static void walk_string(struct walk *w, const struct trie *trie)
{
    struct regexes *regexes = w->m->regexes;
    regex *stack = w->masker->regexes;
    stack[0] = term_regex(w->item.term);
    for (uint32_t i = 0; i < trie->n;) {
        const struct trie_node *at = &trie->nodes[i];
        regex from = stack[at->depth - 1];
        if (at->byte == '"') {
            close_string(w, trie, i, from);
            i = at->end;
        } else if (at->byte == '\\') { /* escapes are rare: one by one */
            for (; i < at->end; i++)
                if (trie->nodes[i].token >= 0 && takes(w, trie->nodes[i].token))
                    mask_set(w->mask, trie->nodes[i].token);
        } else {
            const uint32_t *row = regex_row(regexes, from);
            regex to = row != NULL ? row[at->byte] : REGEX_UNKNOWN;
            if (to == REGEX_UNKNOWN)
                to = regex_step(regexes, from, at->byte);
            if (to == REGEX_NONE) {
                i = at->end;
                continue;
            }
            stack[at->depth] = to;
            if (at->token >= 0)
                mask_set(w->mask, at->token);
            i++;
        }
    }
}

static void string_tokens(struct walk *w)
{
    const struct vocabulary *v = w->v;
    regex r = term_regex(w->item.term);
    w->alone = STATE_DEAD;
    w->knows_closing = false;
    if (r == w->m->any_text) {
        mask_or(w->mask, v->slices[0].mask, v->n_words);
        find_closing(w);
        mask_or(w->mask, w->masker->closing, v->n_words);
        return;
    }
    uint32_t free_chars = regex_free_chars(w->m->regexes, r);
    size_t i = 0;
    while (v->slices[i].chars > free_chars && free_chars < v->longest)
        i++;
    mask_or(w->mask, v->slices[i].mask, v->n_words);
    walk_string(w, &v->slices[i].longer);
    walk_string(w, &v->closing);
}

/* Whether the string stands between two characters, as the vocabulary's tries of strings have it.
 */
static bool between_characters(struct regexes *regexes, regex r)
{
    for (unsigned byte = 0x80; byte < 0xc0; byte++)
        if (regex_step(regexes, r, (uint8_t)byte) != REGEX_NONE)
            return false;
    return true;
}

/* ---- a mask --------------------------------------------------------------------------------- */

static void add_twins(const struct vocabulary *v, uint32_t *mask)
{
    for (size_t i = 0; i < v->n_twins; i++) /* pairs are in order of the first one */
        if (mask_has(mask, v->twins[i].first))
            mask_set(mask, v->twins[i].other);
}

void masker_compute(struct masker *masker, struct machine *m, state s, uint32_t *mask)
{
    const struct vocabulary *v = masker->vocabulary;
    struct walk walk = {.masker = masker, .v = v, .m = m, .mask = mask};
    struct items others = {0};
    size_t n;

    memset(mask, 0, v->n_words * sizeof *mask);
    if (machine_may_end(m, s))
        mask_or(mask, v->stop, v->n_words);
    machine_ways(m, s, &n);
    for (size_t i = 0; i < n; i++) {
        walk.item = item_of(machine_ways(m, s, &n) + 4 * i);
        if (term_stage(walk.item.term) == STAGE_INSIDE &&
            between_characters(m->regexes, term_regex(walk.item.term)))
            string_tokens(&walk);
        else
            items_add(m, &others, walk.item.term, walk.item.text, walk.item.after);
    }
    if (others.n > 0)
        walk_states(&walk, &v->all, 0, v->all.n, others.n == n ? s : machine_state(m, &others),
                    false);
    free(others.all);
    add_twins(v, mask);
}
