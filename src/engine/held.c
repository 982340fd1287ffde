/* SPDX-License-Identifier: MIT */
#include "config.h" /* memmem */

#include "engine/held.h"

#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "base/utf8.h"
#include "text/pretokenizer.h"

static const char begin_tag[] = "<think>", end_tag[] = "</think>";
enum {
    BEGIN = sizeof begin_tag - 1,
    END = sizeof end_tag - 1,
    MAX_FORCED = 256, /* bytes at a time */
    WHITE = 2,        /* bytes between thoughts and answer: two line ends */
    CONTEXT = 64      /* bytes of the answer's end by which forced ones are tokenized */
};

static bool is_space(uint8_t c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static bool has_bit(const uint32_t *mask, int32_t token)
{
    return mask != NULL && (mask[token / 32] >> token % 32 & 1) != 0;
}

static size_t n_words(const struct held *h)
{
    return (engine_vocab_size(h->model->engine) + 31) / 32;
}

static void open_matcher(struct held *h, struct llama3_error *err)
{
    matcher_close(h->matcher);
    h->matcher = matcher_open(h->constraint, err);
}

int held_begin(struct held *h, const struct llama3_constraint *constraint, enum held_state state,
               struct llama3_error *err)
{
    *h = (struct held){.state = state};
    if (constraint == NULL)
        return 0;
    h->model = constraint->model;
    h->constraint = constraint_ref(constraint->constraint);
    open_matcher(h, err);
    if (h->matcher == NULL)
        return -1;
    h->mask = state == HELD_ANSWER
                  ? NULL
                  : size_alloc_for(n_words(h), sizeof *h->mask, "a mask of tokens", err);
    return state == HELD_ANSWER || h->mask != NULL ? 0 : -1;
}

void held_end(struct held *h)
{
    matcher_close(h->matcher);
    constraint_close(h->constraint);
    buf_free(&h->text);
    free(h->mask);
    *h = (struct held){0};
}

/* ---- thoughts before the answer -------------------------------------------------------------- */

/* Whether a token goes on with the tag that thoughts begin with. */
static bool goes_on_with_tag(const struct held *h, int32_t token)
{
    size_t n, had = h->text.size;
    const uint8_t *bytes = tokenizer_bytes(h->model->tokenizer, token, &n);
    return n > 0 && had + n <= BEGIN && memcmp(begin_tag + had, bytes, n) == 0;
}

/* Whether a token is white space that may stand between thoughts and answer: one token, or as many
 * as make up two line ends. */
static bool is_white(const struct held *h, int32_t token)
{
    size_t n, i = 0;
    const uint8_t *bytes = tokenizer_bytes(h->model->tokenizer, token, &n);
    while (i < n && is_space(bytes[i]))
        i++;
    return n > 0 && i == n && (h->spaces == 0 || h->spaces + n <= WHITE);
}

/* The matcher's mask, and with it the tokens that a tag or white space allows. */
static const uint32_t *with_thoughts(struct held *h)
{
    bool (*const allows)(const struct held *, int32_t) =
        h->state == HELD_PERHAPS ? goes_on_with_tag : is_white;
    size_t vocab_size = engine_vocab_size(h->model->engine);
    if (h->own != NULL)
        memcpy(h->mask, h->own, n_words(h) * sizeof *h->mask);
    else
        memset(h->mask, 0, n_words(h) * sizeof *h->mask);
    for (size_t i = 0; i < vocab_size; i++)
        if (allows(h, (int32_t)i))
            h->mask[i / 32] |= UINT32_C(1) << i % 32;
    return h->mask;
}

/* What follows </think> in the thoughts' text with these bytes; NULL: it doesn't end there. */
static const uint8_t *after_end(struct held *h, const uint8_t *bytes, size_t n, size_t *left)
{
    size_t had = h->text.size;
    buf_add(&h->text, bytes, n);
    const char *found = h->text.failed ? NULL : memmem(h->text.data, h->text.size, end_tag, END);
    h->text.size = had;
    if (found == NULL)
        return NULL;
    *left = (size_t)(h->text.data + had + n - (found + END));
    return bytes + n - *left;
}

bool held_refuses(struct held *h, int32_t token)
{
    size_t n, left = 0;
    if (h->model == NULL || h->state != HELD_THINKING)
        return false;
    const uint8_t *bytes = tokenizer_bytes(h->model->tokenizer, token, &n);
    const uint8_t *rest = after_end(h, bytes, n, &left);
    while (rest != NULL && left > 0 && is_space(*rest)) {
        rest++;
        left--;
    }
    if (left == 0 && !session_is_stop(h->model, token))
        return false;
    if (h->next == NULL)
        memset(h->mask, 0xff, n_words(h) * sizeof *h->mask);
    h->next = h->mask;
    h->mask[token / 32] &= ~(UINT32_C(1) << token % 32);
    return true;
}

/* Thoughts are over, and so many bytes of white space stand behind them. */
static void end_thoughts(struct held *h, size_t spaces)
{
    h->spaces += spaces;
    h->state = h->spaces < WHITE ? HELD_AFTER : HELD_ANSWER;
    buf_clear(&h->text);
}

static void take_thought(struct held *h, const uint8_t *bytes, size_t n)
{
    size_t left;
    if (after_end(h, bytes, n, &left) != NULL) {
        end_thoughts(h, left);
        return;
    }
    buf_add(&h->text, bytes, n);
    if (h->text.size < END || h->text.failed)
        return;
    memmove(h->text.data, h->text.data + h->text.size - (END - 1), END - 1);
    h->text.size = END - 1;
}

/* Takes a token that may begin thoughts. */
static int take_perhaps(struct held *h, int32_t token, bool is_answer, struct llama3_error *err)
{
    size_t n;
    const uint8_t *bytes = tokenizer_bytes(h->model->tokenizer, token, &n);
    bool is_tag = goes_on_with_tag(h, token);
    if (is_answer && matcher_accept(h->matcher, token, err) < 0)
        return -1;
    h->beside = !is_answer;
    buf_add(&h->text, bytes, n);
    if (!is_tag) {
        h->state = HELD_ANSWER;
    } else if (h->text.size == BEGIN) {
        buf_clear(&h->text);
        h->state = HELD_THINKING;
        h->beside = false;
        open_matcher(h, err);
    }
    return h->matcher != NULL ? 0 : -1;
}

/* ---- drawing ----------------------------------------------------------------------------------
 */

void held_prepare(void *arg)
{
    struct held *h = arg;
    if (h->model == NULL || h->prepared)
        return;
    h->prepared = true;
    h->own = h->next = NULL;
    if (h->state == HELD_THINKING)
        return;
    if (!h->beside && (h->own = matcher_mask(h->matcher, &h->failure)) == NULL) {
        h->prepared = false;
        return;
    }
    h->next = h->state == HELD_ANSWER ? h->own : with_thoughts(h);
}

int held_mask(struct held *h, const uint32_t **mask, struct llama3_error *err)
{
    held_prepare(h);
    *mask = h->next;
    return h->model == NULL || h->prepared ? 0 : error_copy(err, &h->failure);
}

int held_accept(struct held *h, int32_t token, struct llama3_error *err)
{
    size_t n;
    int status = 0;
    if (h->model == NULL)
        return 0;
    const uint8_t *bytes = tokenizer_bytes(h->model->tokenizer, token, &n);
    bool is_answer = has_bit(h->own, token);
    if (h->state == HELD_THINKING) {
        take_thought(h, bytes, n);
    } else if (h->state == HELD_PERHAPS) {
        status = take_perhaps(h, token, is_answer, err);
    } else if (h->state == HELD_AFTER && !is_answer) {
        end_thoughts(h, n);
    } else {
        h->state = HELD_ANSWER;
        status = matcher_accept(h->matcher, token, err);
        if (!session_is_stop(h->model, token))
            buf_add(&h->text, bytes, n);
    }
    h->own = h->next = NULL;
    h->prepared = false;
    if (h->text.failed)
        return error_memory(err, "the answer's end", h->text.size);
    return status;
}

bool held_ended(const struct held *h)
{
    return h->model != NULL && h->state == HELD_ANSWER && !h->beside && matcher_ended(h->matcher);
}

/* ---- what must come ---------------------------------------------------------------------------
 */

/* Where tokens of a text may still become others, whatever comes after it. Tokens end with
 * pre-tokens. What follows can change the last one; the run of white space at the end; one before
 * it that takes line ends; and a word before an apostrophe. */
static size_t settled(const struct vocab *vocab, const uint8_t *text, size_t n)
{
    /* A token of SentencePiece's BPE begins with a blank or has none. */
    enum pretokenizer pretokenizer = vocab->pretokenizer == PRETOKENIZER_SENTENCEPIECE
                                         ? PRETOKENIZER_METASPACE
                                         : vocab->pretokenizer;
    size_t white = n, before = 0, last = 0;
    while (white > 0 && is_space(text[white - 1]))
        white--;
    size_t from = white < n && text[white] != '\n' && text[white] != '\r' ? white : white - 1;
    if (white == 0)
        return 0;
    for (size_t at = 0; at <= from && at < n;) {
        before = last;
        last = at;
        at = pretoken_end(pretokenizer, text, n, at);
    }
    return text[last] == '\'' ? before : last;
}

/* Drops the beginning of an answer's text that no longer matters for how it goes on. */
static void forget(struct buf *text)
{
    if (text->size < 2 * CONTEXT)
        return;
    size_t from = text->size - CONTEXT;
    while (from < text->size && ((uint8_t)text->data[from] & 0xc0) == 0x80)
        from++;
    for (size_t i = from; i < text->size; i++)
        if (is_space((uint8_t)text->data[i])) { /* a pre-token begins there */
            from = i;
            break;
        }
    memmove(text->data, text->data + from, text->size - from);
    text->size -= from;
}

/* Appends those of all tokens that stand for text[had..end). None if no token begins at `had`. */
static void pick(const struct held *h, const struct tokens *all, const struct buf *text, size_t had,
                 size_t end, struct tokens *out)
{
    size_t at = 0, total = 0, n;
    for (size_t i = 0; i < all->n; i++) {
        tokenizer_bytes(h->model->tokenizer, all->ids[i], &n);
        total += n;
    }
    /* SentencePiece puts a blank before a text. */
    size_t blank = total == text->size + 1 ? 1 : 0;
    if (total - blank != text->size || (blank > 0 && had == 0))
        return;
    bool begins = had == 0;
    for (size_t i = 0; i < all->n; i++) {
        const uint8_t *bytes = tokenizer_bytes(h->model->tokenizer, all->ids[i], &n);
        size_t from = at > blank ? at - blank : 0;
        at += n;
        begins = begins || from == had;
        if (!begins || from < had)
            continue;
        if (at - blank > end || memcmp(bytes, text->data + from, n) != 0 ||
            tokenizer_kind(h->model->tokenizer, all->ids[i]) == TOKEN_ADDED)
            break;
        tokens_add(out, all->ids[i]);
    }
}

int held_forced(struct held *h, struct tokens *out, struct llama3_error *err)
{
    uint8_t bytes[MAX_FORCED];
    if (h->model == NULL || h->state != HELD_ANSWER || h->beside)
        return 0;
    size_t n = matcher_forced(h->matcher, bytes, sizeof bytes);
    if (n == 0)
        return 0;
    forget(&h->text);
    size_t had = h->text.size;
    buf_add(&h->text, bytes, n);
    if (h->text.failed)
        return error_memory(err, "the answer's end", had + n);
    const uint8_t *text = (const uint8_t *)h->text.data;
    size_t whole = utf8_valid(text, h->text.size);
    struct tokens all = {0};
    struct llama3_error not_text;
    h->text.size = whole;
    size_t end = settled(&h->model->checkpoint->vocab, text, whole);
    if (end > had &&
        tokenizer_encode(h->model->tokenizer, h->text.data, whole, &all, &not_text) == 0)
        pick(h, &all, &h->text, had, end, out);
    h->text.size = had;
    bool failed = all.failed || out->failed;
    tokens_free(&all);
    return failed ? error_memory(err, "tokens", n * sizeof *out->ids) : 0;
}
