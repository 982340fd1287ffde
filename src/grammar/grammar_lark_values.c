/* SPDX-License-Identifier: MIT */
/* grammar_lark_values.c: strings, ranges, regular expressions and JSON in a Lark grammar. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/size.h"
#include "base/utf8.h"
#include "grammar/grammar_lark.h"
#include "text/unicode.h"

enum { MAX_CHUNKS = 10000 }; /* of a text of which a part may be said */

/* ---- strings -------------------------------------------------------------------------------- */

/* The escape at r->at, after its backslash, as JSON has them, and \xHH. */
static uint32_t escape(struct grammar_reader *r)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    uint32_t begin = r->at;
    char c = r->text[r->at++];
    const char *found = c ? strchr(from, c) : NULL;
    if (found)
        return (unsigned char)to[found - from];
    if (c == 'x')
        return read_hex(r, 2);
    if (c != 'u')
        return read_expected(r, begin, "one of \"\\/bfnrtux after '\\'");
    uint32_t high = read_hex(r, 4);
    if (high < 0xd800 || high > 0xdfff)
        return high;
    if (high < 0xdc00 && r->n - r->at >= 6 && memcmp(r->text + r->at, "\\u", 2) == 0) {
        r->at += 2;
        uint32_t low = read_hex(r, 4);
        if (low >= 0xdc00 && low <= 0xdfff)
            return 0x10000 + ((high - 0xd800) << 10 | (low - 0xdc00));
    }
    return read_error(r, begin, "expected a pair of surrogates, found half of one");
}

bool lark_string(struct lark *l, struct buf *out, bool *ignore_case)
{
    struct grammar_reader *r = &l->r;
    const struct lark_token *token = lark_next(l);
    if (token->kind != LARK_STRING) {
        lark_expected(l, "a string");
        return false;
    }
    *ignore_case = r->text[token->at + token->n - 1] == 'i';
    uint32_t end = token->at + token->n - 1 - *ignore_case;
    uint8_t utf8[4];
    buf_clear(out);
    for (r->at = token->at + 1; !r->failed && r->at < end;) {
        bool escaped = r->text[r->at] == '\\';
        r->at += escaped;
        uint32_t scalar = escaped ? escape(r) : read_scalar(r);
        if (!r->failed)
            buf_add(out, utf8, (size_t)utf8_encode(scalar, utf8));
    }
    if (out->failed)
        read_memory(r, out->size);
    l->next++;
    return !r->failed;
}

/* A regex from a pattern that the token at `at` stands for. */
static regex parse(struct lark *l, const struct buf *pattern, uint32_t at)
{
    struct llama3_error err = {.size = sizeof err};
    if (pattern->failed)
        return read_memory(&l->r, pattern->size);
    regex r = regex_parse(l->r.grammar->regexes, pattern->data, pattern->size, REGEX_WHOLE, &err);
    return r == REGEX_NONE && err.message[0] ? read_error_of(&l->r, at, &err) : r;
}

static regex of_any_case(struct lark *l, const struct buf *text, uint32_t at)
{
    struct buf pattern = {0};
    buf_add_str(&pattern, "(?i)");
    for (size_t i = 0; i < text->size; i++) {
        if (strchr("\\.+*?()|[]{}^$#&-~/", text->data[i]) && text->data[i])
            buf_add_str(&pattern, "\\");
        buf_add(&pattern, &text->data[i], 1);
    }
    regex r = parse(l, &pattern, at);
    buf_free(&pattern);
    return r;
}

/* The only character of a string that is an end of a range. */
static uint32_t range_end(struct lark *l, struct buf *text)
{
    bool any_case;
    uint32_t scalar = 0, at = lark_next(l)->at;
    if (!lark_string(l, text, &any_case))
        return 0;
    if (any_case || text->size == 0 ||
        utf8_decode((const uint8_t *)text->data, text->size, &scalar) != (int)text->size)
        return read_error(&l->r, at,
                          "expected one character at an end of a range, found another "
                          "string");
    return scalar;
}

regex lark_string_regex(struct lark *l)
{
    struct grammar_reader *r = &l->r;
    struct regexes *all = r->grammar->regexes;
    const struct lark_token *token = lark_next(l);
    struct buf text = {0};
    regex made = REGEX_NONE;
    bool any_case;
    if (token[1].kind == LARK_DOTS) {
        uint32_t range[1][2];
        range[0][0] = range_end(l, &text);
        l->next++;
        range[0][1] = r->failed ? 0 : range_end(l, &text);
        if (!r->failed && range[0][0] > range[0][1])
            read_error(r, token->at,
                       "expected a range from a lower character to a higher one, found its ends "
                       "exchanged");
        if (!r->failed)
            made = regex_chars(all, (const uint32_t(*)[2])range, 1);
    } else if (lark_string(l, &text, &any_case)) {
        made = text.size == 0 ? (regex)REGEX_EMPTY
               : any_case     ? of_any_case(l, &text, token->at)
                              : regex_literal(all, text.data, text.size);
    }
    buf_free(&text);
    return made;
}

regex lark_strings(struct lark *l, size_t n)
{
    struct buf all = {0}, one = {0};
    size_t at = 0;
    regex r = REGEX_NONE;
    struct regex_string *strings = size_alloc(n, sizeof *strings);
    bool any_case, ok = strings != NULL;
    if (!ok)
        read_memory(&l->r, n * sizeof *strings);
    for (size_t i = 0; i < n && ok; i++) {
        lark_skip(l, LARK_NEWLINE);
        lark_skip_mark(l, '|');
        ok = lark_string(l, &one, &any_case);
        strings[i].n = one.size;
        buf_add(&all, one.data, one.size);
    }
    if (ok && all.failed)
        read_memory(&l->r, all.size);
    if (!l->r.failed) {
        for (size_t i = 0; i < n; at += strings[i++].n)
            strings[i].bytes = all.data + at;
        r = grammar_strings(l->r.grammar, strings, &n);
    }
    free(strings);
    buf_free(&one);
    buf_free(&all);
    return r;
}

regex lark_regex(struct lark *l)
{
    const struct lark_token *token = lark_next(l);
    const char *text = l->r.text + token->at;
    uint32_t n = token->n, n_flags = 0;
    while (text[n - 1 - n_flags] != '/')
        n_flags++;
    struct buf pattern = {0};
    if (memchr(text + n - n_flags, 'l', n_flags))
        return read_error(&l->r, token->at,
                          "expected flags of imsux, found l, which isn't supported");
    for (uint32_t i = n - n_flags; i < n; i++)
        if (text[i] != 'u') { /* patterns are Unicode as it is */
            buf_add_str(&pattern, "(?");
            buf_add(&pattern, &text[i], 1);
            buf_add_str(&pattern, ")");
        }
    buf_add(&pattern, text + 1, n - n_flags - 2);
    regex r = parse(l, &pattern, token->at);
    buf_free(&pattern);
    l->next++;
    return r;
}

/* ---- JSON ----------------------------------------------------------------------------------- */

json_t *lark_value(struct lark *l)
{
    struct llama3_error err = {.size = sizeof err};
    const struct lark_token *token = lark_next(l);
    json_t *value = json_parse_value(l->r.text + token->at, token->n, "JSON", &err);
    if (!value)
        read_error_of(&l->r, token->at, &err);
    l->next++;
    return value;
}

node lark_json(struct lark *l)
{
    struct grammar *grammar = l->r.grammar;
    struct llama3_error err = {.size = sizeof err};
    uint32_t at = lark_next(l)->at;
    json_t *value = lark_value(l);
    struct schemas *schemas = NULL;
    if (value && !json_is_object(value) && !json_is_boolean(value))
        read_error(&l->r, at, "expected a schema, an object or a boolean, found %s",
                   json_kind(value));
    else if (value && !(schemas = schemas_open(grammar->regexes, value, &err)))
        read_error_of(&l->r, at, &err);
    json_decref(value);
    int satisfiable = schemas ? schema_satisfiable(schemas, schemas_root(schemas), &err) : 1;
    if (satisfiable < 0)
        read_error_of(&l->r, at, &err);
    else if (satisfiable == 0)
        read_error(&l->r, at, "expected a schema that some value satisfies, found none");
    return schemas ? grammar_json(grammar, schemas, schemas_root(schemas)) : GRAMMAR_NONE;
}

/* 0, 1 or 2: blank, part of a word, other. */
static int chunk_kind(uint32_t scalar)
{
    enum unicode_class class = unicode_class(scalar);
    return class == UNICODE_SPACE                                                ? 0
           : class == UNICODE_LETTER || class == UNICODE_NUMBER || scalar == '_' ? 1
                                                                                 : 2;
}

/* Cuts text[n] into words, or characters. ends: [MAX_CHUNKS]. Returns how many, or MAX_CHUNKS + 1.
 */
static size_t cut(const char *text, size_t n, bool words, size_t *ends)
{
    size_t count = 0;
    int before = -1;
    for (size_t at = 0; at < n;) {
        uint32_t scalar = 0;
        int length = utf8_decode((const uint8_t *)text + at, n - at, &scalar);
        int kind = words ? chunk_kind(scalar) : -1;
        if (kind < 0 || kind != before) {
            if (count == MAX_CHUNKS)
                return MAX_CHUNKS + 1;
            count++;
        }
        before = kind;
        at += length > 0 ? (size_t)length : 1;
        ends[count - 1] = at;
    }
    return count;
}

/* Any neighbours of the chunks, or nothing: what begins at chunk i is (chunk i, what begins at
 * i + 1)?. */
static regex substrings(struct lark *l, const regex *chunks, size_t n)
{
    struct regexes *all = l->r.grammar->regexes;
    regex from = REGEX_EMPTY;
    size_t base = l->r.n_all;
    read_push(&l->r, from);
    for (size_t i = n; i-- > 0;) {
        from = regex_or(all, REGEX_EMPTY, regex_concat(all, chunks[i], from));
        read_push(&l->r, from);
    }
    if (l->r.failed)
        return REGEX_NONE;
    uint32_t *list = l->r.all + base;
    for (size_t left = n + 1; left > 1; left = (left + 1) / 2)
        for (size_t i = 0; i < left; i += 2)
            list[i / 2] = i + 1 < left ? regex_or(all, list[i], list[i + 1]) : list[i];
    l->r.n_all = base;
    return list[0];
}

/* ends, chunks: [MAX_CHUNKS]. */
static regex of_chunks(struct lark *l, const json_t *value, bool words, uint32_t at, size_t *ends,
                       regex *chunks)
{
    struct regexes *all = l->r.grammar->regexes;
    const char *text = json_string_value(value);
    size_t n = text ? cut(text, json_string_length(value), words, ends) : json_array_size(value);
    if (n > MAX_CHUNKS)
        return read_error(&l->r, at, "expected at most %d chunks, found more", MAX_CHUNKS);
    for (size_t i = 0; i < n; i++) {
        size_t begin = i > 0 ? ends[i - 1] : 0;
        const json_t *chunk = json_array_get(value, i);
        if (text)
            chunks[i] = regex_literal(all, text + begin, ends[i] - begin);
        else if (json_is_string(chunk))
            chunks[i] = regex_literal(all, json_string_value(chunk), json_string_length(chunk));
        else
            return read_error(&l->r, at, "expected substring_chunks of strings, found %s",
                              json_kind(chunk));
    }
    return substrings(l, chunks, n);
}

regex lark_structured(struct lark *l)
{
    uint32_t at = lark_next(l)->at;
    json_t *value = lark_value(l);
    if (!value)
        return REGEX_NONE;
    void *first = json_object_iter(value);
    const char *key = first ? json_object_iter_key(first) : "nothing";
    const json_t *of = first ? json_object_iter_value(first) : NULL;
    regex r = REGEX_NONE;
    bool chunks = strcmp(key, "substring_chunks") == 0;
    bool words = strcmp(key, "substring_words") == 0;
    if (json_object_size(value) != 1 ||
        (!chunks && !words && strcmp(key, "substring_chars") != 0)) {
        read_error(&l->r, at,
                   "expected one of substring_chunks, substring_words and substring_chars in "
                   "%%regex, found %s",
                   json_object_size(value) > 1 ? "several keys" : key);
    } else if (chunks ? !json_is_array(of) : !json_is_string(of)) {
        read_error(&l->r, at, "%s: expected %s, found %s", key, chunks ? "an array" : "a string",
                   json_kind(of));
    } else {
        size_t *ends = size_alloc(MAX_CHUNKS, sizeof *ends + sizeof(regex));
        if (ends)
            r = of_chunks(l, of, words, at, ends, (regex *)(ends + MAX_CHUNKS));
        else
            read_memory(&l->r, MAX_CHUNKS * (sizeof *ends + sizeof(regex)));
        free(ends);
    }
    json_decref(value);
    return r;
}

/* ---- Lark's common terminals ---------------------------------------------------------------- */

/* What lark.grammars.common says, as llguidance reads it. */
#define INT     "[0-9]+"
#define DECIMAL "([0-9]+\\.[0-9]*|\\.[0-9]+)"
#define EXP     "[eE][+-]?[0-9]+"
#define FLOAT   "(" DECIMAL "(" EXP ")?|[0-9]+" EXP ")"
#define NUMBER  "([0-9]+|" FLOAT ")"

const char *lark_common(const char *name, size_t n)
{
    static const char *const table[][2] = {
        {"DIGIT", "[0-9]"},
        {"HEXDIGIT", "[0-9a-fA-F]"},
        {"INT", INT},
        {"SIGNED_INT", "[+-]?" INT},
        {"DECIMAL", DECIMAL},
        {"_EXP", EXP},
        {"FLOAT", FLOAT},
        {"SIGNED_FLOAT", "[+-]?" FLOAT},
        {"NUMBER", NUMBER},
        {"SIGNED_NUMBER", "[+-]?" NUMBER},
        {"ESCAPED_STRING", "\"([^\"\\\\]|\\\\.)*\""},
        {"LCASE_LETTER", "[a-z]"},
        {"UCASE_LETTER", "[A-Z]"},
        {"LETTER", "[a-zA-Z]"},
        {"WORD", "[a-zA-Z]+"},
        {"CNAME", "[_a-zA-Z][_a-zA-Z0-9]*"},
        {"WS_INLINE", "[ \\t]+"},
        {"WS", "[ \\t\\f\\r\\n]+"},
        {"CR", "\\r"},
        {"LF", "\\n"},
        {"NEWLINE", "(\\r?\\n)+"},
        {"SH_COMMENT", "#[^\\n]*"},
        {"CPP_COMMENT", "//[^\\n]*"},
        {"C_COMMENT", "/\\*[^*]*\\*+([^/*][^*]*\\*+)*/"},
        {"SQL_COMMENT", "--[^\\n]*"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strlen(table[i][0]) == n && memcmp(table[i][0], name, n) == 0)
            return table[i][1];
    return NULL;
}
