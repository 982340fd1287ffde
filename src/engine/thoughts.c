/* SPDX-License-Identifier: MIT */
#include "config.h" /* memmem */

#include "engine/thoughts.h"

#include <string.h>

static const char begin[] = "<think>", end[] = "</think>";
enum { BEGIN = sizeof begin - 1, END = sizeof end - 1 };

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static size_t leading_spaces(const struct buf *text)
{
    size_t n = 0;
    while (n < text->size && is_space(text->data[n]))
        n++;
    return n;
}

static void drop(struct buf *text, size_t n)
{
    memmove(text->data, text->data + n, text->size - n);
    text->size -= n;
}

const char *thoughts_tag(const char *name, size_t n)
{
    return n == BEGIN && memcmp(name, begin, n) == 0 ? begin
           : n == END && memcmp(name, end, n) == 0   ? end
                                                     : NULL;
}

/* Whether a text ends with a tag, and perhaps white space. */
static bool ends_with(const char *text, size_t n, const char *tag, size_t length)
{
    while (n > 0 && is_space(text[n - 1]))
        n--;
    return n >= length && memcmp(text + n - length, tag, length) == 0;
}

bool thoughts_are_over(const char *prompt, size_t n)
{
    return ends_with(prompt, n, end, END);
}

enum thinking thoughts_after(const char *prompt, size_t n)
{
    return ends_with(prompt, n, begin, BEGIN) ? THINKING : THINKING_PERHAPS;
}

/* Hands out the first n bytes that are held. */
static int give(struct thoughts *t, size_t n)
{
    const struct llama3_generation *g = t->callbacks;
    int (*on)(void *arg, const char *text, size_t length) =
        t->state == THINKING ? g->on_thought : g->on_text;
    int result = n > 0 && on != NULL ? on(g->arg, t->held.data, n) : 0;
    t->begun = t->begun || n > 0;
    drop(&t->held, n);
    return result;
}

static size_t without_trailing_spaces(const struct buf *text, size_t n)
{
    while (n > 0 && is_space(text->data[n - 1]))
        n--;
    return n;
}

/* Whether an answer begins with thoughts; it stays open while what there is may begin the tag. */
static void look_for_begin(struct thoughts *t)
{
    size_t spaces = leading_spaces(&t->held), left = t->held.size - spaces;
    size_t n = left < BEGIN ? left : BEGIN;
    if (memcmp(t->held.data + spaces, begin, n) != 0) {
        t->state = THINKING_NEVER;
    } else if (n == BEGIN) {
        t->state = THINKING;
        drop(&t->held, spaces + BEGIN);
    }
}

/* Up to the end of the thoughts, or to what may begin it. */
static int go_on_thinking(struct thoughts *t)
{
    if (!t->begun)
        drop(&t->held, leading_spaces(&t->held));
    const char *found = memmem(t->held.data, t->held.size, end, END);
    if (found != NULL) {
        size_t n = (size_t)(found - t->held.data), kept = without_trailing_spaces(&t->held, n);
        int result = give(t, kept);
        drop(&t->held, n - kept + END);
        t->state = THINKING_ENDED;
        return result;
    }
    size_t n = t->held.size, part = n < END - 1 ? n : END - 1;
    while (memcmp(t->held.data + n - part, end, part) != 0)
        part--;
    return give(t, without_trailing_spaces(&t->held, n - part));
}

int thoughts_push(struct thoughts *t, const char *text, size_t n)
{
    int result = 0;
    buf_add(&t->held, text, n);
    if (t->held.failed)
        return 0;
    if (t->state == THINKING_PERHAPS)
        look_for_begin(t);
    if (t->state == THINKING)
        result = go_on_thinking(t);
    if (t->state == THINKING_ENDED) {
        size_t spaces = leading_spaces(&t->held);
        spaces = spaces < t->spaces ? spaces : t->spaces;
        drop(&t->held, spaces);
        t->spaces -= spaces;
        if (t->held.size > 0)
            t->state = THINKING_NEVER;
    }
    if (t->state == THINKING_NEVER && result == 0)
        result = give(t, t->held.size);
    return result;
}

int thoughts_finish(struct thoughts *t)
{
    if (t->held.data == NULL || t->state == THINKING_ENDED)
        return 0;
    return give(t, t->state == THINKING ? without_trailing_spaces(&t->held, t->held.size)
                                        : t->held.size);
}
