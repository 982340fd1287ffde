/* SPDX-License-Identifier: MIT */
/*
 * pretokenizer.c: the three patterns, with their alternatives in order:
 *
 * LLAMA3:  (?i:'s|'t|'re|'ve|'m|'ll|'d) | [^\r\n\p{L}\p{N}]?\p{L}+ | \p{N}{1,3}
 *          | ?[^\s\p{L}\p{N}]+[\r\n]* | \s*[\r\n]+ | \s+(?!\S) | \s+
 * GPT2:    's|'t|'re|'ve|'m|'ll|'d | ?\p{L}+ | ?\p{N}+ | ?[^\s\p{L}\p{N}]+ | \s+(?!\S) | \s+
 * SMOLLM:  each digit is a pre-token; each piece between digits is cut as GPT2, as if alone.
 *
 * Linear time: an alternative reads beyond the end of its pre-token only over a run of white space,
 * and of such a run all but the last character, or all up to the last line end, is taken at once.
 */
#include "text/pretokenizer.h"

#include "base/utf8.h"
#include "text/unicode.h"

/* A text. For SMOLLM it ends at the next digit. */
struct piece {
    const uint8_t *text;
    size_t n;
    bool digits_end; /* SMOLLM */
};

enum {
    OTHER = UNICODE_OTHER,
    LETTER = UNICODE_LETTER,
    NUMBER = UNICODE_NUMBER,
    SPACE = UNICODE_SPACE,
    END = UNICODE_DIGIT + 1
};

struct mark {
    int class; /* of a character, or END */
    uint32_t scalar;
    size_t next; /* offset after it */
};

static struct mark mark_at(const struct piece *piece, size_t at)
{
    struct mark mark = {.class = END, .scalar = 0, .next = at};
    if (at >= piece->n)
        return mark;
    if (piece->text[at] < 0x80) { /* fast path: most text is ASCII */
        mark.scalar = piece->text[at];
        mark.class = unicode_ascii[mark.scalar];
        mark.next = at + 1;
    } else {
        int length = utf8_decode(piece->text + at, piece->n - at, &mark.scalar);
        mark.next = at + (size_t)(length > 0 ? length : 1); /* each byte that is no character */
        mark.class = length > 0 ? (int)unicode_class(mark.scalar) : OTHER;
    }
    if (piece->digits_end && (mark.class == NUMBER || mark.class == UNICODE_DIGIT))
        mark.class = END;
    else if (mark.class == UNICODE_DIGIT)
        mark.class = OTHER;
    return mark;
}

/* The end of the run of the mark's class that begins with it. */
static size_t run_end(const struct piece *piece, struct mark mark)
{
    struct mark next = mark_at(piece, mark.next);
    while (next.class == mark.class) {
        mark = next;
        next = mark_at(piece, mark.next);
    }
    return mark.next;
}

static bool is_line_end(uint32_t scalar)
{
    return scalar == '\n' || scalar == '\r';
}

/* The end of 's, 't, 're, 've, 'm, 'll or 'd at an apostrophe, or 0. */
static size_t contraction_end(const struct piece *piece, size_t at, bool any_case)
{
    struct mark first = mark_at(piece, at + 1);
    struct mark second = mark_at(piece, first.next);
    uint32_t a = first.scalar, b = second.scalar;
    if (any_case) {
        a = a >= 'A' && a <= 'Z' ? a + 32 : a;
        b = b >= 'A' && b <= 'Z' ? b + 32 : b;
        a = a == 0x17f ? 's' : a; /* ignoring case, the long s is an s */
    }
    if (first.class != LETTER)
        return 0;
    if (a == 's' || a == 't' || a == 'm' || a == 'd')
        return first.next;
    if (second.class != LETTER)
        return 0;
    if (((a == 'r' || a == 'v') && b == 'e') || (a == 'l' && b == 'l'))
        return second.next;
    return 0;
}

/* \s+(?!\S)|\s+ : the run without its last character, unless the text ends. */
static size_t space_end(const struct piece *piece, struct mark space)
{
    struct mark next = mark_at(piece, space.next);
    while (next.class == SPACE) {
        struct mark after = mark_at(piece, next.next);
        if (after.class != SPACE)
            return after.class == END ? next.next : space.next;
        space = next;
        next = after;
    }
    return space.next;
}

/* \s*[\r\n]+ : up to the last line end of the run of white space, or 0 if it has none. */
static size_t lines_end(const struct piece *piece, struct mark space)
{
    size_t end = 0;
    while (space.class == SPACE) {
        if (is_line_end(space.scalar))
            end = space.next;
        space = mark_at(piece, space.next);
    }
    return end;
}

static size_t llama3_end(const struct piece *piece, size_t at)
{
    struct mark first = mark_at(piece, at);
    size_t end;

    if (first.scalar == '\'') {
        end = contraction_end(piece, at, true);
        if (end > 0)
            return end;
    }
    if (first.class == LETTER)
        return run_end(piece, first);
    if (first.class == NUMBER) {
        struct mark next = mark_at(piece, first.next);
        if (next.class != NUMBER)
            return first.next;
        struct mark third = mark_at(piece, next.next);
        return third.class == NUMBER ? third.next : next.next;
    }

    struct mark second = mark_at(piece, first.next);
    if (second.class == LETTER && !is_line_end(first.scalar))
        return run_end(piece, second);
    if (first.class == OTHER || (first.scalar == ' ' && second.class == OTHER)) {
        end = run_end(piece, first.class == OTHER ? first : second);
        while (end < piece->n && is_line_end(piece->text[end]))
            end++;
        return end;
    }
    end = lines_end(piece, first);
    return end > 0 ? end : space_end(piece, first);
}

static size_t gpt2_end(const struct piece *piece, size_t at)
{
    struct mark first = mark_at(piece, at);

    if (first.scalar == '\'') {
        size_t end = contraction_end(piece, at, false);
        if (end > 0)
            return end;
    }
    if (first.class != SPACE)
        return run_end(piece, first);
    struct mark second = mark_at(piece, first.next);
    if (first.scalar == ' ' && second.class != SPACE && second.class != END)
        return run_end(piece, second);
    return space_end(piece, first);
}

size_t pretoken_end(enum pretokenizer pretokenizer, const uint8_t *text, size_t n, size_t at)
{
    struct piece piece = {text, n, pretokenizer == PRETOKENIZER_SMOLLM};

    if (pretokenizer == PRETOKENIZER_LLAMA3)
        return llama3_end(&piece, at);
    struct mark first = mark_at(&piece, at);
    return first.class == END ? first.next : gpt2_end(&piece, at);
}
