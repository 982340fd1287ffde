/* SPDX-License-Identifier: MIT */
/*
 * pretokenizer.c: the patterns, with their alternatives in order:
 *
 * LLAMA3:  (?i:'s|'t|'re|'ve|'m|'ll|'d) | [^\r\n\p{L}\p{N}]?\p{L}+ | \p{N}{1,3}
 *          | ?[^\s\p{L}\p{N}]+[\r\n]* | \s*[\r\n]+ | \s+(?!\S) | \s+
 * GPT2:    's|'t|'re|'ve|'m|'ll|'d | ?\p{L}+ | ?\p{N}+ | ?[^\s\p{L}\p{N}]+ | \s+(?!\S) | \s+
 * SMOLLM:  each digit is a pre-token; each piece between digits is cut as GPT2, as if alone.
 * QWEN2:   as LLAMA3, with \p{N} alone
 * SEED_CODER: as QWEN2, but punctuation takes no line ends
 * TEKKEN, GPT4O:
 *          [^\r\n\p{L}\p{N}]? U* L+ C? | [^\r\n\p{L}\p{N}]? U+ L* C? | \p{N}{1,3}
 *          | ?[^\s\p{L}\p{N}]+[\r\n/]* | \s*[\r\n]+ | \s+(?!\S) | \s+
 *          U: \p{Lu} \p{Lt} \p{Lm} \p{Lo} \p{M}   L: \p{Ll} \p{Lm} \p{Lo} \p{M}
 *          C: LLAMA3's first alternative; TEKKEN has none, and \p{N} alone
 *
 * The others cut text by one pattern, what comes out by the next, and so on; then into digits.
 * VIKING:  " ?[^(\s|[.,!?...])]+"
 * DEEPSEEK_CODER: [\r\n] ; \s?\p{L}+ ; \s?\p{P}+ ; CJK+
 * DEEPSEEK_LLM: [\r\n] ; \s?letters+ ; \s?punctuation+ ; \s+$ ; CJK+
 *
 * METASPACE begins one at each blank, and SENTENCEPIECE takes all.
 *
 * Linear time: an alternative reads beyond the end of its pre-token only over a run of white space,
 * and of such a run all but the last character, or all up to the last line end, is taken at once.
 */
#include "text/pretokenizer.h"

#include <string.h>

#include "base/utf8.h"
#include "checkpoint/vocab.h"
#include "text/unicode.h"

/* A text. For SMOLLM it ends at the next digit. */
struct piece {
    const uint8_t *text;
    size_t n;
    bool digits_end;   /* SMOLLM */
    bool digits_known; /* digits of the Digits pre-tokenizer keep their class */
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
    else if (mark.class == UNICODE_DIGIT && !piece->digits_known)
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

/* Up to `most` numbers from the first on. */
static size_t numbers_end(const struct piece *piece, struct mark number, int most)
{
    struct mark next = mark_at(piece, number.next);
    for (int n = 1; n < most && next.class == NUMBER; n++) {
        number = next;
        next = mark_at(piece, number.next);
    }
    return number.next;
}

/*  ?[^\s\p{L}\p{N}]+ and, of what follows, the line ends and `tail`; or 0. */
static size_t others_end(const struct piece *piece, struct mark first, const char *tail)
{
    struct mark second = mark_at(piece, first.next);
    if (first.class != OTHER && (first.scalar != ' ' || second.class != OTHER))
        return 0;
    size_t end = run_end(piece, first.class == OTHER ? first : second);
    while (end < piece->n && piece->text[end] != 0 && strchr(tail, piece->text[end]) != NULL)
        end++;
    return end;
}

static size_t spaces_end(const struct piece *piece, struct mark first)
{
    size_t end = lines_end(piece, first);
    return end > 0 ? end : space_end(piece, first);
}

static size_t llama3_end(const struct piece *piece, size_t at, int digits, const char *tail)
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
    if (first.class == NUMBER)
        return numbers_end(piece, first, digits);

    struct mark second = mark_at(piece, first.next);
    if (second.class == LETTER && !is_line_end(first.scalar))
        return run_end(piece, second);
    end = others_end(piece, first, tail);
    return end > 0 ? end : spaces_end(piece, first);
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

/* ---- letters by their case ------------------------------------------------------------------- */

static enum unicode_detail detail_of(struct mark mark)
{
    if (mark.class == END)
        return UNICODE_NONE;
    if (mark.scalar < 0x80) /* fast path: punctuation makes no difference here */
        return mark.class != LETTER        ? UNICODE_NONE
               : (mark.scalar & 0x20) != 0 ? UNICODE_LOWER
                                           : UNICODE_UPPER;
    return unicode_detail(mark.scalar);
}

static bool is_either(enum unicode_detail detail)
{
    return detail == UNICODE_CASELESS || detail == UNICODE_MARK;
}

/* U+ from a mark on. *either: the end of the last of them that L has too, or 0. */
static size_t upper_end(const struct piece *piece, size_t at, size_t *either)
{
    *either = 0;
    for (;;) {
        struct mark mark = mark_at(piece, at);
        enum unicode_detail detail = detail_of(mark);
        if (detail != UNICODE_UPPER && !is_either(detail))
            return at;
        at = mark.next;
        *either = is_either(detail) ? at : *either;
    }
}

/* U* L+ : all that U takes if a lower case letter follows; else only as much as leaves one for L.
 * 0: no match. */
static size_t lower_word_end(const struct piece *piece, size_t at)
{
    size_t either, end = upper_end(piece, at, &either);
    struct mark mark = mark_at(piece, end);
    if (detail_of(mark) != UNICODE_LOWER)
        return either;
    for (enum unicode_detail d = UNICODE_LOWER; d == UNICODE_LOWER || is_either(d);
         d = detail_of(mark)) {
        end = mark.next;
        mark = mark_at(piece, end);
    }
    return end;
}

/* With the character before it or without, whichever comes first. U+ L* takes no more than U+, or
 * the one before would have matched. */
static size_t word_end(const struct piece *piece, struct mark first, size_t at)
{
    bool before = first.class != LETTER && first.class != NUMBER && !is_line_end(first.scalar);
    size_t either, end = before ? lower_word_end(piece, first.next) : 0;
    if (end == 0)
        end = lower_word_end(piece, at);
    if (end > 0)
        return end;
    if (before) {
        end = upper_end(piece, first.next, &either);
        if (end > first.next)
            return end;
    }
    end = upper_end(piece, at, &either);
    return end > at ? end : 0;
}

static size_t cased_end(const struct piece *piece, size_t at, int digits, bool contractions)
{
    struct mark first = mark_at(piece, at);
    size_t end = word_end(piece, first, at);
    if (end > 0) {
        size_t suffix = 0;
        if (contractions && end < piece->n && piece->text[end] == '\'')
            suffix = contraction_end(piece, end, true);
        return suffix > 0 ? suffix : end;
    }
    if (first.class == NUMBER)
        return numbers_end(piece, first, digits);
    end = others_end(piece, first, "\r\n/");
    return end > 0 ? end : spaces_end(piece, first);
}

/* ---- patterns one after another -------------------------------------------------------------- */

static bool is_digit(struct mark mark)
{
    return mark.class == NUMBER || mark.class == UNICODE_DIGIT;
}

/* White space, and what VIKING's set names: also what its author meant as syntax. */
static bool is_viking_stop(struct mark mark)
{
    static const uint32_t stops[] = {'(',    ')',    '|',    '.',    ',',   '!',   '?',
                                     0x2026, 0x3002, 0xff0c, 0x3001, 0x964, 0x6d4, 0x60c};
    for (size_t i = 0; i < sizeof stops / sizeof *stops; i++)
        if (mark.scalar == stops[i])
            return true;
    return mark.class == SPACE;
}

static bool viking_word_begins(const struct piece *piece, struct mark mark)
{
    struct mark next = mark_at(piece, mark.next);
    return mark.class != END &&
           (!is_viking_stop(mark) ||
            (mark.scalar == ' ' && next.class != END && !is_viking_stop(next)));
}

static size_t viking_end(const struct piece *piece, size_t at)
{
    struct mark mark = mark_at(piece, at);
    if (is_digit(mark))
        return mark.next;
    bool word = viking_word_begins(piece, mark);
    for (;;) {
        struct mark next = mark_at(piece, mark.next);
        if (next.class == END || is_digit(next))
            return mark.next;
        if (word ? is_viking_stop(next) : viking_word_begins(piece, next))
            return mark.next;
        mark = next;
    }
}

/* A character as DEEPSEEK_* sees it. */
struct deepseek {
    const struct piece *piece;
    bool llm;
};

enum part {
    PART_END,
    PART_LINE,
    PART_DIGIT,
    PART_SPACE,
    PART_LETTER,
    PART_PUNCTUATION,
    PART_OTHER
};

static bool is_cjk(struct mark mark)
{
    return (mark.scalar >= 0x800 && mark.scalar <= 0x9fa5) ||
           (mark.scalar >= 0xac00 && mark.scalar <= 0xd7ff);
}

/* What DEEPSEEK_LLM takes for punctuation: ASCII letters too, where they are not taken before. */
static bool is_llm_punctuation(struct mark mark)
{
    uint32_t c = mark.scalar;
    return (c >= '!' && c <= '/') || (c >= ':' && c <= '~') || (c >= 0xff01 && c <= 0xff0f) ||
           (c >= 0xff1a && c <= 0xff5e) || (c >= 0x2018 && c <= 0x201f) ||
           (c >= 0x3000 && c <= 0x3002);
}

static bool is_llm_letter(uint32_t scalar)
{
    size_t from = 0, n = n_deepseek_letters;
    while (n > 1) { /* the last range that begins at or before it */
        size_t half = n / 2;
        from += deepseek_letters[from + half].first <= scalar ? half : 0;
        n -= half;
    }
    return scalar >= deepseek_letters[from].first && scalar <= deepseek_letters[from].last;
}

static bool is_letter(const struct deepseek *d, struct mark mark)
{
    return mark.class != END && (d->llm ? is_llm_letter(mark.scalar) : mark.class == LETTER);
}

/* U+3000 is both white space and punctuation of DEEPSEEK_LLM: the first before a letter. */
static enum part part_of(const struct deepseek *d, struct mark mark)
{
    if (mark.class == END)
        return PART_END;
    if (is_line_end(mark.scalar))
        return PART_LINE;
    if (is_letter(d, mark))
        return PART_LETTER;
    if (d->llm ? is_llm_punctuation(mark) : unicode_detail(mark.scalar) == UNICODE_PUNCTUATION)
        return mark.class == SPACE && is_letter(d, mark_at(d->piece, mark.next)) ? PART_SPACE
                                                                                 : PART_PUNCTUATION;
    if (is_digit(mark))
        return PART_DIGIT;
    return mark.class == SPACE ? PART_SPACE : PART_OTHER;
}

/* Whether a later pattern cuts between two neighbours that the one for letters or punctuation took
 * together. */
static bool is_cut(const struct deepseek *d, struct mark left, struct mark right)
{
    return is_cjk(left) != is_cjk(right) ||
           (d->llm && is_llm_punctuation(left) != is_llm_punctuation(right) &&
            left.class != SPACE) ||
           (d->llm && left.class == SPACE && is_llm_punctuation(left) &&
            !is_llm_punctuation(right));
}

/* Letters, or punctuation without the U+3000 at its end. */
static size_t part_end(const struct deepseek *d, struct mark mark, enum part part)
{
    for (;;) {
        struct mark next = mark_at(d->piece, mark.next), after = next;
        if (part_of(d, next) != part || is_cut(d, mark, next))
            return mark.next;
        if (next.class == SPACE && mark.class != SPACE) {
            while (after.class == SPACE && part_of(d, after) == part)
                after = mark_at(d->piece, after.next);
            if (part_of(d, after) != part)
                return mark.next;
        }
        mark = next;
    }
}

/* Moves over white space to its last character. Returns what follows. */
static enum part skip_blank(const struct deepseek *d, struct mark *mark)
{
    for (;;) {
        struct mark next = mark_at(d->piece, mark->next);
        enum part part = part_of(d, next);
        if (part != PART_SPACE)
            return part;
        *mark = next;
    }
}

static bool takes_space(enum part part)
{
    return part == PART_LETTER || part == PART_PUNCTUATION;
}

/* Whether white space before such a part ends what \s+$ is matched with. */
static bool ends_piece(enum part part)
{
    return takes_space(part) || part == PART_END || part == PART_LINE;
}

/* What neither letters nor punctuation take, from a mark on. */
static size_t rest_end(const struct deepseek *d, struct mark mark)
{
    size_t blank = 0; /* white space up to here belongs to the piece */
    for (;;) {
        struct mark next = mark_at(d->piece, mark.next), last = next;
        enum part part = part_of(d, next);
        if ((part != PART_SPACE && part != PART_OTHER) || is_cjk(mark) != is_cjk(next))
            return mark.next;
        if (part == PART_SPACE && mark.next >= blank) {
            if (!d->llm && takes_space(part_of(d, mark_at(d->piece, next.next))))
                return mark.next;
            if (d->llm && ends_piece(skip_blank(d, &last)))
                return mark.next;
            blank = last.next;
        }
        mark = next;
    }
}

static size_t deepseek_end(const struct piece *piece, size_t at, bool llm)
{
    const struct deepseek d = {piece, llm};
    struct mark mark = mark_at(piece, at), next = mark_at(piece, mark.next);
    enum part part = part_of(&d, mark), follows = part_of(&d, next);

    if (part == PART_LINE || part == PART_DIGIT)
        return mark.next;
    if (takes_space(part))
        return part_end(&d, mark, part);
    if (part == PART_SPACE && takes_space(follows))
        return is_cut(&d, mark, next) ? mark.next : part_end(&d, next, follows);
    if (llm && part == PART_SPACE) {
        size_t last = at; /* where the last character begins */
        while (part_of(&d, next) == PART_SPACE && is_cjk(next) == is_cjk(mark)) {
            last = mark.next;
            mark = next;
            next = mark_at(piece, mark.next);
        }
        follows = part_of(&d, next);
        if (ends_piece(follows))
            return takes_space(follows) ? last : mark.next;
    }
    return rest_end(&d, mark);
}

/* ---- the interface --------------------------------------------------------------------------- */

size_t pretoken_end(enum pretokenizer pretokenizer, const uint8_t *text, size_t n, size_t at)
{
    struct piece piece = {text, n, false, false};

    switch (pretokenizer) {
    case PRETOKENIZER_LLAMA3:
        return llama3_end(&piece, at, 3, "\r\n");
    case PRETOKENIZER_QWEN2:
        return llama3_end(&piece, at, 1, "\r\n");
    case PRETOKENIZER_SEED_CODER:
        return llama3_end(&piece, at, 1, "");
    case PRETOKENIZER_TEKKEN:
        return cased_end(&piece, at, 1, false);
    case PRETOKENIZER_GPT4O:
        return cased_end(&piece, at, 3, true);
    case PRETOKENIZER_VIKING:
        piece.digits_known = true;
        return viking_end(&piece, at);
    case PRETOKENIZER_DEEPSEEK_LLM:
    case PRETOKENIZER_DEEPSEEK_CODER:
        piece.digits_known = true;
        return deepseek_end(&piece, at, pretokenizer == PRETOKENIZER_DEEPSEEK_LLM);
    case PRETOKENIZER_SENTENCEPIECE:
        return n;
    case PRETOKENIZER_METASPACE:
        do
            at++;
        while (at < n && text[at] != ' ' &&
               (n - at < 3 || memcmp(text + at, "\xe2\x96\x81", 3) != 0));
        return at;
    case PRETOKENIZER_GPT2:
        return gpt2_end(&piece, at);
    case PRETOKENIZER_SMOLLM:
        break;
    }
    piece.digits_end = true;
    struct mark first = mark_at(&piece, at);
    return first.class == END ? first.next : gpt2_end(&piece, at);
}
