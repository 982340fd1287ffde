/* SPDX-License-Identifier: MIT */
/* jinja_lex.c: the tokens of a template, and which white space around its tags is left out. */
#include <string.h>

#include "base/number.h"
#include "text/jinja_parse.h"

struct lexer {
    struct jinja_run *run;
    const uint32_t *chars; /* [n] */
    size_t n, at;
    bool line_starts; /* what was read last ended with the end of a line */
    struct token *tokens;
    size_t n_tokens, capacity;
};

static void add(struct lexer *l, struct token token)
{
    if (l->n_tokens == l->capacity) {
        size_t capacity = l->capacity * 2 + 64;
        struct token *more = jinja_alloc(l->run, capacity, sizeof *more);
        if (l->n_tokens > 0)
            memcpy(more, l->tokens, l->n_tokens * sizeof *more);
        l->tokens = more;
        l->capacity = capacity;
    }
    token.line = l->run->line;
    l->tokens[l->n_tokens++] = token;
}

static void add_text(struct lexer *l, enum token_type type, const uint32_t *chars, size_t n)
{
    add(l, (struct token){.type = type, .text = jinja_string(l->run, chars, n).string});
}

static void add_data(struct lexer *l, const uint32_t *chars, size_t n)
{
    if (n > 0)
        add_text(l, TOKEN_DATA, chars, n);
}

static uint32_t peek(const struct lexer *l, size_t ahead)
{
    return l->at + ahead < l->n ? l->chars[l->at + ahead] : 0;
}

static bool looking_at(const struct lexer *l, size_t at, const char *text)
{
    size_t length = strlen(text);
    if (length > l->n - at)
        return false;
    for (size_t i = 0; i < length; i++)
        if (l->chars[at + i] != (uint32_t)text[i])
            return false;
    return true;
}

/* Goes on, and counts the lines. */
static void skip(struct lexer *l, size_t n)
{
    for (size_t i = 0; i < n; i++)
        l->run->line += l->chars[l->at + i] == '\n';
    l->at += n;
    if (n > 0)
        l->line_starts = l->chars[l->at - 1] == '\n';
}

static size_t spaces_at(const struct lexer *l, size_t at)
{
    size_t n = 0;
    while (at + n < l->n && jinja_is_space(l->chars[at + n]))
        n++;
    return n;
}

/* ---- between tags -------------------------------------------------------------------------- */

/* The end of the text before a tag whose sign is '-', '+' or none. */
static size_t text_end(const struct lexer *l, size_t from, size_t to, uint32_t sign, bool prints)
{
    if (sign == '-') {
        while (to > from && jinja_is_space(l->chars[to - 1]))
            to--;
        return to;
    }
    if (sign == '+' || prints)
        return to;
    size_t line = to;
    while (line > from && l->chars[line - 1] != '\n') {
        if (!jinja_is_space(l->chars[line - 1]))
            return to;
        line--;
    }
    return line > from || l->line_starts ? line : to;
}

/* Behind the end of a tag, which is two characters, perhaps after a sign: '-' takes all white space
 * that follows, and nothing one end of line, where `trims`. */
static void end_tag(struct lexer *l, uint32_t sign, bool trims)
{
    size_t n = sign != 0 ? 3 : 2;
    if (sign == '-')
        n += spaces_at(l, l->at + n);
    else if (sign == 0 && trims && peek(l, n) == '\n')
        n++;
    skip(l, n);
}

static uint32_t sign_at(const struct lexer *l, size_t at)
{
    return at < l->n && (l->chars[at] == '-' || l->chars[at] == '+') ? l->chars[at] : 0;
}

static void comment(struct lexer *l)
{
    skip(l, 2 + (sign_at(l, l->at + 2) != 0));
    while (l->at < l->n) {
        uint32_t sign = sign_at(l, l->at);
        if (looking_at(l, l->at + (sign != 0), "#}")) {
            end_tag(l, sign, true);
            return;
        }
        skip(l, 1);
    }
    jinja_fail(l->run, "expected the end of a comment, found the end of the template");
}

/* Whether {% NAME %} begins at a place: how long it is up to the sign of its end, or 0. */
static size_t named_tag(const struct lexer *l, size_t at, const char *name)
{
    size_t from = at;
    if (!looking_at(l, at, "{%"))
        return 0;
    at += 2;
    at += sign_at(l, at) != 0;
    at += spaces_at(l, at);
    if (!looking_at(l, at, name))
        return 0;
    at += strlen(name);
    at += spaces_at(l, at);
    bool ends = looking_at(l, at, "%}") ||
                (at < l->n && l->chars[at] == '-' && looking_at(l, at + 1, "%}")) ||
                (at < l->n && l->chars[at] == '+' && looking_at(l, at + 1, "%}") &&
                 strcmp(name, "endraw") == 0);
    return ends ? at - from : 0;
}

/* {% raw %}: all is text up to {% endraw %}. */
static void raw(struct lexer *l, size_t tag)
{
    skip(l, tag);
    end_tag(l, sign_at(l, l->at), false);
    if (l->at == l->n) /* the one thing that may stay open */
        return;
    size_t from = l->at;
    bool line_starts = l->line_starts;
    while (l->at < l->n) {
        size_t end = named_tag(l, l->at, "endraw");
        if (end > 0) {
            bool now = l->line_starts;
            l->line_starts = line_starts;
            size_t to = text_end(l, from, l->at, sign_at(l, l->at + 2), false);
            l->line_starts = now;
            add_data(l, l->chars + from, to - from);
            skip(l, end);
            end_tag(l, sign_at(l, l->at), true);
            return;
        }
        skip(l, 1);
    }
    jinja_fail(l->run, "expected endraw, found the end of the template");
}

/* ---- inside tags --------------------------------------------------------------------------- */

static bool is_digit(uint32_t c)
{
    return c >= '0' && c <= '9';
}

static bool is_name(uint32_t c)
{
    return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) ||
           (c >= 0x80 && jinja_is_alnum(c));
}

static int digit_of(uint32_t c)
{
    return is_digit(c)            ? (int)c - '0'
           : c >= 'a' && c <= 'f' ? (int)c - 'a' + 10
           : c >= 'A' && c <= 'F' ? (int)c - 'A' + 10
                                  : 99;
}

/* The length of digits, single underscores between them. */
static size_t digits_at(const struct lexer *l, size_t at, int base, bool begun)
{
    size_t n = 0;
    for (;;) {
        size_t next = n;
        if (at + next < l->n && l->chars[at + next] == '_' && (n > 0 || begun))
            next++;
        if (at + next >= l->n || digit_of(l->chars[at + next]) >= base)
            return n;
        n = next + 1;
    }
}

/* ASCII without underscores. */
static const char *plain(struct lexer *l, size_t n)
{
    char *text = jinja_alloc(l->run, n + 1, 1), *to = text;
    for (size_t i = 0; i < n; i++)
        if (peek(l, i) != '_')
            *to++ = (char)peek(l, i);
    return text;
}

static void add_integer(struct lexer *l, size_t prefix, size_t n, int base)
{
    int64_t value = 0;
    for (size_t i = prefix; i < n; i++)
        if (peek(l, i) != '_' && (__builtin_mul_overflow(value, base, &value) ||
                                  __builtin_add_overflow(value, digit_of(peek(l, i)), &value)))
            jinja_fail(l->run, "expected an integer of 64 bits, found a larger one");
    add(l, (struct token){.type = TOKEN_NUMBER, .value = jinja_int(value)});
    skip(l, n);
}

/* The length of a fraction and an exponent behind digits; 0 if there is neither. */
static size_t fraction_at(const struct lexer *l, size_t at)
{
    size_t n = 0, digits;
    if (at < l->n && l->chars[at] == '.' && (digits = digits_at(l, at + 1, 10, false)) > 0)
        n = 1 + digits;
    if (at + n < l->n && (l->chars[at + n] | 0x20) == 'e') {
        size_t sign = sign_at(l, at + n + 1) != 0;
        digits = digits_at(l, at + n + 1 + sign, 10, false);
        n += digits > 0 ? 1 + sign + digits : 0;
    }
    return n;
}

static void number(struct lexer *l)
{
    static const struct {
        char letter;
        int base;
    } prefixes[] = {{'b', 2}, {'o', 8}, {'x', 16}};
    size_t digits = digits_at(l, l->at, 10, false);
    size_t fraction = l->at > 0 && l->chars[l->at - 1] == '.' ? 0 : fraction_at(l, l->at + digits);
    if (fraction > 0) {
        double value = 0;
        number_read(plain(l, digits + fraction), &value); /* inf where it is too large */
        add(l, (struct token){.type = TOKEN_NUMBER, .value = jinja_float(value)});
        skip(l, digits + fraction);
        return;
    }
    for (size_t i = 0; i < 3; i++)
        if (peek(l, 0) == '0' && (peek(l, 1) | 0x20) == (uint32_t)prefixes[i].letter) {
            size_t n = digits_at(l, l->at + 2, prefixes[i].base, true);
            if (n > 0) {
                add_integer(l, 2, 2 + n, prefixes[i].base);
                return;
            }
        }
    if (peek(l, 0) == '0') /* 007 is three numbers, which no expression has */
        for (size_t i = 0; i < digits; i++)
            if (peek(l, i) != '0' && peek(l, i) != '_')
                jinja_fail(l->run, "expected a number, found one that begins with 0");
    add_integer(l, 0, digits, 10);
}

/* An escape behind a backslash, as Python reads it: how many characters it takes. */
static size_t escape(struct lexer *l, struct jinja_builder *b, size_t at, size_t end)
{
    static const char letters[] = "\\'\"abfnrtv", values[] = "\\'\"\a\b\f\n\r\t\v";
    uint32_t c = l->chars[at];
    const char *letter = c < 0x80 && c != 0 ? strchr(letters, (int)c) : NULL;
    if (letter != NULL) {
        jinja_put(b, (uint32_t)values[letter - letters]);
        return 1;
    }
    if (c == '\n')
        return 1;
    if (c >= '0' && c <= '7') {
        uint32_t value = 0;
        size_t n = 0;
        while (n < 3 && at + n < end && l->chars[at + n] >= '0' && l->chars[at + n] <= '7')
            value = value * 8 + l->chars[at + n++] - '0';
        jinja_put(b, value);
        return n;
    }
    size_t n = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (c == 'N')
        jinja_fail(l->run, "expected an escape that is no name of a character, found \\N");
    if (n == 0) { /* none: the backslash stays */
        jinja_put(b, '\\');
        jinja_put(b, c);
        return 1;
    }
    uint32_t value = 0;
    for (size_t i = 1; i <= n; i++) {
        if (at + i >= end || digit_of(l->chars[at + i]) > 15)
            jinja_fail(l->run, "expected %zu hexadecimal digits in an escape, found fewer", n);
        value = value << 4 | (uint32_t)digit_of(l->chars[at + i]);
    }
    if (value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff))
        jinja_fail(l->run, "expected a Unicode character, found \\%c%x", (int)c, value);
    jinja_put(b, value);
    return 1 + n;
}

static void string(struct lexer *l)
{
    uint32_t quote = peek(l, 0);
    size_t end = l->at + 1;
    struct jinja_builder b = {.run = l->run};
    while (end < l->n && l->chars[end] != quote)
        end += l->chars[end] == '\\' ? 2 : 1;
    if (end >= l->n)
        jinja_fail(l->run, "expected the end of a string, found the end of the template");
    for (size_t i = l->at + 1; i < end;)
        if (l->chars[i] == '\\')
            i += 1 + escape(l, &b, i + 1, end);
        else
            jinja_put(&b, l->chars[i++]);
    add(l, (struct token){.type = TOKEN_STRING, .text = jinja_built(&b).string});
    skip(l, end + 1 - l->at);
}

/* The brackets that are open. */
struct brackets {
    char closing[256];
    size_t n;
};

static void operator(struct lexer *l, struct brackets *open)
{
    static const char pairs[][4] = {"==e", "!=n", "<=l", ">=g", "//f", "**p"};
    static const char singles[] = "+-*/%~[](){}<>=.:|,;", begin[] = "([{", close[] = ")]}";
    uint32_t c = peek(l, 0);
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (c == (uint32_t)pairs[i][0] && peek(l, 1) == (uint32_t)pairs[i][1]) {
            add(l, (struct token){.type = TOKEN_OPERATOR, .operator= pairs[i][2] });
            skip(l, 2);
            return;
        }
    if (c == 0 || c >= 0x80 || strchr(singles, (int)c) == NULL)
        jinja_fail(l->run, "expected an expression, found U+%04X", c);
    const char *opens = strchr(begin, (int)c);
    if (opens != NULL) {
        if (open->n == sizeof open->closing)
            jinja_fail(l->run, "expected at most %zu open brackets, found more", open->n);
        open->closing[open->n++] = close[opens - begin];
    } else if (strchr(close, (int)c) != NULL) {
        if (open->n == 0 || open->closing[--open->n] != (char)c)
            jinja_fail(l->run, "expected a bracket that was opened, found \"%c\"", (int)c);
    }
    add(l, (struct token){.type = TOKEN_OPERATOR, .operator=(char) c});
    skip(l, 1);
}

/* What stands in a tag, and its end. */
static void tag(struct lexer *l, bool prints)
{
    struct brackets open = {.n = 0};
    add(l, (struct token){.type = prints ? TOKEN_PRINT : TOKEN_BLOCK});
    skip(l, 2);
    skip(l, sign_at(l, l->at) != 0);
    for (;;) {
        uint32_t sign = sign_at(l, l->at);
        if (prints && sign == '+')
            sign = 0;
        if (open.n == 0 && looking_at(l, l->at + (sign != 0), prints ? "}}" : "%}")) {
            add(l, (struct token){.type = prints ? TOKEN_PRINT_END : TOKEN_BLOCK_END});
            end_tag(l, sign, !prints);
            return;
        }
        if (l->at == l->n)
            jinja_fail(l->run, "expected the end of a tag, found the end of the template");
        uint32_t c = peek(l, 0);
        if (jinja_is_space(c)) {
            skip(l, spaces_at(l, l->at));
        } else if (is_digit(c)) {
            number(l);
        } else if (is_name(c)) {
            size_t n = 1;
            while (is_name(peek(l, n)))
                n++;
            add_text(l, TOKEN_NAME, l->chars + l->at, n);
            skip(l, n);
        } else if (c == '\'' || c == '"') {
            string(l);
        } else {
            operator(l, &open);
        }
    }
}

const struct token *jinja_lex(struct jinja_run *run, const uint32_t *chars, size_t n)
{
    struct lexer l = {.run = run, .chars = chars, .n = n, .line_starts = true};
    run->line = 1;
    while (l.at < l.n) {
        size_t from = l.at, begin = from;
        while (begin < n &&
               !(chars[begin] == '{' && begin + 1 < n &&
                 (chars[begin + 1] == '{' || chars[begin + 1] == '%' || chars[begin + 1] == '#')))
            begin++;
        bool prints = begin + 1 < n && chars[begin + 1] == '{';
        size_t to = begin == n ? n
                               : text_end(&l, from, begin,
                                          begin + 2 < n ? sign_at(&l, begin + 2) : 0, prints);
        add_data(&l, chars + from, to - from);
        bool line_starts = l.line_starts;
        skip(&l, begin - from);
        if (begin == n)
            break;
        l.line_starts = begin > from ? l.line_starts : line_starts;
        size_t raw_tag = named_tag(&l, l.at, "raw");
        if (raw_tag > 0)
            raw(&l, raw_tag);
        else if (chars[begin + 1] == '#')
            comment(&l);
        else
            tag(&l, prints);
    }
    add(&l, (struct token){.type = TOKEN_END});
    return l.tokens;
}
