/* SPDX-License-Identifier: MIT */
/*
 * schema_scalar.c: numbers and strings as regular languages, within which complements are taken.
 *
 * Numbers are sets of decimals by value, with 1 there is 1.0 as well, so that complements are
 * right. What is said is less where that makes no difference to the value: integers without a
 * fraction, few numbers in their shortest form.
 */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "grammar/schema_parts.h"

unsigned schema_types(const json_t *type)
{
    static const struct {
        const char *name;
        unsigned types;
    } types[] = {
        {"null", T_NULL},     {"boolean", T_BOOLEAN}, {"number", T_NUMBER | T_INTEGER},
        {"string", T_STRING}, {"integer", T_INTEGER}, {"array", T_ARRAY},
        {"object", T_OBJECT},
    };
    unsigned found = 0;
    if (type == NULL)
        return T_ALL;
    for (size_t i = 0; i < json_array_size(type); i++)
        found |= schema_types(json_array_get(type, i));
    for (size_t i = 0; json_is_string(type) && i < sizeof types / sizeof *types; i++)
        if (strcmp(json_string_value(type), types[i].name) == 0)
            found = types[i].types;
    return found;
}

/* ---- sets ----------------------------------------------------------------------------------- */

static regex set_and(struct schemas *all, regex whole, regex a, regex b)
{
    if (a == b || b == whole)
        return a;
    return a == whole ? b : regex_and(all->regexes, a, b);
}

static regex set_or(struct schemas *all, regex whole, regex a, regex b)
{
    if (a == b || b == REGEX_NONE || a == whole)
        return a;
    return a == REGEX_NONE || b == whole ? b : regex_or(all->regexes, a, b);
}

static regex set_not(struct schemas *all, regex whole, regex a)
{
    if (a == whole || a == REGEX_NONE)
        return a == whole ? REGEX_NONE : whole;
    return regex_and(all->regexes, whole, regex_not(all->regexes, a));
}

regex schema_number_and(struct schemas *all, regex a, regex b)
{
    return set_and(all, all->number_all, a, b);
}

regex schema_number_or(struct schemas *all, regex a, regex b)
{
    return set_or(all, all->number_all, a, b);
}

regex schema_number_not(struct schemas *all, regex a)
{
    return set_not(all, all->number_all, a);
}

regex schema_string_and(struct schemas *all, regex a, regex b)
{
    return set_and(all, all->string_all, a, b);
}

regex schema_string_or(struct schemas *all, regex a, regex b)
{
    return set_or(all, all->string_all, a, b);
}

regex schema_string_not(struct schemas *all, regex a)
{
    return set_not(all, all->string_all, a);
}

regex schema_number_said(struct schemas *all, const struct raw *raw)
{
    enum { FEW = 64 };
    if (raw->number == REGEX_NONE)
        return REGEX_NONE;
    if (raw->number == all->number_all)
        return regex_number(all->regexes, true);
    if (raw->number == all->integers)
        return all->integer_text;
    regex said =
        raw->integer ? regex_and(all->regexes, raw->number, all->integer_text) : raw->number;
    regex shortest = regex_and(all->regexes, said, all->canonical);
    return regex_count(all->regexes, shortest, FEW) < FEW ? shortest : said;
}

/* ---- keywords ------------------------------------------------------------------------------- */

static const char *number_text(const json_t *json, const char *key, char text[32])
{
    const json_t *value = json_object_get(json, key);
    if (!json_is_number(value))
        return NULL;
    json_number_text(value, text);
    return text;
}

static int number_set(struct schemas *all, uint32_t node, struct raw *out)
{
    const json_t *json = all->nodes[node].json;
    char low[32], high[32], above[32], below[32], divisor[32];
    const char *min = number_text(json, "minimum", low), *max = number_text(json, "maximum", high);
    const char *over = number_text(json, "exclusiveMinimum", above);
    const char *under = number_text(json, "exclusiveMaximum", below);
    const char *multiple = number_text(json, "multipleOf", divisor);
    bool min_out = json_is_true(json_object_get(json, "exclusiveMinimum"));
    bool max_out = json_is_true(json_object_get(json, "exclusiveMaximum"));
    struct llama3_error err = {0};
    const char *keyword = "minimum";
    regex found = all->number_all;
    if (min == NULL && over != NULL) {
        min = over, min_out = true, over = NULL;
        keyword = "exclusiveMinimum";
    }
    if (max == NULL && under != NULL) {
        max = under, max_out = true, under = NULL;
        keyword = min != NULL ? keyword : "exclusiveMaximum";
    }
    if (min != NULL || max != NULL)
        found = regex_number_range(all->regexes, min, min_out, max, max_out, &err);
    if (err.code == 0 && (over != NULL || under != NULL))
        found = schema_number_and(all, found,
                                  regex_number_range(all->regexes, over, true, under, true, &err));
    if (err.code == 0 && multiple != NULL) {
        keyword = "multipleOf";
        found = schema_number_and(all, found, regex_multiple_of(all->regexes, multiple, &err));
    }
    if (err.code != 0)
        return schema_error(all, node, keyword, NULL, "%s", err.message);
    out->number = schema_number_and(all, out->number, found);
    return 0;
}

/* Those that JSON Schema 2020-12 defines; others are annotations, "byte" and "password" too. */
static bool defined_format(const char *format)
{
    static const char *const defined[] = {
        "date",          "date-time",
        "duration",      "email",
        "hostname",      "idn-email",
        "idn-hostname",  "ipv4",
        "ipv6",          "iri",
        "iri-reference", "json-pointer",
        "regex",         "relative-json-pointer",
        "time",          "uri",
        "uri-reference", "uri-template",
        "uuid",
    };
    for (size_t i = 0; i < sizeof defined / sizeof *defined; i++)
        if (strcmp(format, defined[i]) == 0)
            return true;
    return false;
}

static int string_set(struct schemas *all, uint32_t node, struct raw *out)
{
    const json_t *json = all->nodes[node].json;
    const json_t *min = json_object_get(json, "minLength"),
                 *max = json_object_get(json, "maxLength");
    const json_t *pattern = json_object_get(json, "pattern");
    const char *format = json_string_value(json_object_get(json, "format"));
    if (min != NULL || max != NULL) {
        double least = json_number_value(min);
        double most = max != NULL ? json_number_value(max) : (double)UINT32_MAX;
        if (least >= (double)UINT32_MAX)
            return schema_error(all, node, "minLength", NULL, "expected less than 2^32, found %g",
                                least);
        uint32_t n = most >= (double)UINT32_MAX ? UINT32_MAX : (uint32_t)most;
        out->string =
            least > most
                ? REGEX_NONE
                : schema_string_and(all, out->string, regex_text(all->regexes, (uint32_t)least, n));
    }
    if (pattern != NULL && out->string != REGEX_NONE) {
        struct llama3_error err = {0};
        regex r = regex_parse(all->regexes, json_string_value(pattern), json_string_length(pattern),
                              REGEX_ECMA, &err);
        if (err.code != 0)
            return schema_error(all, node, "pattern", NULL, "%s", err.message);
        out->string = schema_string_and(all, out->string, r);
    }
    if (format != NULL && out->string != REGEX_NONE && defined_format(format)) {
        regex r = regex_format(all->regexes, format);
        if (r != REGEX_NONE)
            out->string = schema_string_and(all, out->string, r);
    }
    return 0;
}

int schema_scalars(struct schemas *all, uint32_t node, unsigned types, struct raw *out)
{
    *out = raw_none;
    out->null = (types & T_NULL) != 0;
    out->no = out->yes = (types & T_BOOLEAN) != 0;
    if ((types & T_NUMBER) != 0)
        out->number = all->number_all;
    else if ((types & T_INTEGER) != 0)
        out->number = all->integers;
    out->integer = (types & T_NUMBER) == 0;
    if (out->number != REGEX_NONE && number_set(all, node, out) != 0)
        return -1;
    if ((types & T_STRING) != 0)
        out->string = all->string_all;
    return out->string != REGEX_NONE ? string_set(all, node, out) : 0;
}

/* ---- constants ------------------------------------------------------------------------------ */

static int compare_strings(const void *a, const void *b)
{
    const struct regex_string *x = a, *y = b;
    size_t n = x->n < y->n ? x->n : y->n;
    int order = n > 0 ? memcmp(x->bytes, y->bytes, n) : 0;
    return order != 0 ? order : (x->n > y->n) - (x->n < y->n);
}

static int add_scalar(struct schemas *all, json_t *json, struct raw *out,
                      struct regex_string *strings, size_t *n)
{
    char text[32];
    struct llama3_error err = {0};
    regex equal;
    switch (json_typeof(json)) {
    case JSON_NULL:
        out->null = true;
        break;
    case JSON_TRUE:
        out->yes = true;
        break;
    case JSON_FALSE:
        out->no = true;
        break;
    case JSON_INTEGER:
    case JSON_REAL:
        json_number_text(json, text);
        equal = regex_number_equal(all->regexes, text, &err);
        if (err.code != 0)
            return schema_refuse(all, false, "%s", err.message);
        out->integer &= strcspn(text, ".e") == strlen(text);
        out->number = schema_number_or(all, out->number, equal);
        break;
    case JSON_STRING:
        strings[(*n)++] = (struct regex_string){json_string_value(json), json_string_length(json)};
        break;
    case JSON_ARRAY:
    case JSON_OBJECT:
        break;
    }
    return 0;
}

/* The atoms of an array or an object that is equal to this one. Returns how many, 0 after a
 * failure. */
static uint32_t exact(struct schemas *all, json_t *json, uint32_t *atoms)
{
    uint32_t n = 0;
    const char *key;
    json_t *value;
    if (json_is_array(json)) {
        uint32_t cover = schema_array_cover(all, json, COVER_CONSTANT);
        atoms[n++] = schema_atom(all, (struct atom){.kind = A_ITEMS, .a = cover});
        atoms[n++] = schema_atom(
            all, (struct atom){.kind = A_MIN_ITEMS, .a = (uint32_t)json_array_size(json)});
        return all->failed ? 0 : n;
    }
    uint32_t cover = schema_object_cover(all, json, COVER_CONSTANT);
    atoms[n++] = schema_atom(all, (struct atom){.kind = A_COVER, .a = cover});
    json_object_foreach(json, key, value)
    {
        atoms[n++] = schema_atom(
            all,
            (struct atom){.kind = A_HAS, .a = schema_name(all, key, strlen(key)), .e = EXPR_TRUE});
    }
    return all->failed ? 0 : n;
}

static int add_shape(struct schemas *all, json_t *json, bool negated, struct raw *out)
{
    struct alternatives *to = json_is_array(json) ? &out->arrays : &out->objects;
    uint32_t *atoms = schema_alloc(all, &all->scratch, 2 + json_object_size(json), sizeof *atoms);
    uint32_t n = atoms != NULL ? exact(all, json, atoms) : 0;
    if (n == 0)
        return -1;
    if (!negated)
        return alternatives_add(all, to, atoms, n);
    struct alternatives other = {0};
    for (uint32_t i = 0; i < n; i++)
        if (schema_atom_negate(all, atoms[i], &other) != 0)
            return -1;
    return alternatives_and(all, to, &other, json_is_object(json));
}

int schema_constant_raw(struct schemas *all, const struct constant *constant, bool negated,
                        struct raw *out)
{
    json_t *json = constant->json;
    bool list = constant->list;
    size_t n = list ? json_array_size(json) : 1, n_strings = 0;
    struct regex_string *strings = schema_alloc(all, &all->scratch, n, sizeof *strings);
    if (strings == NULL)
        return -1;
    *out = raw_none;
    for (size_t i = 0; i < n; i++)
        if (add_scalar(all, list ? json_array_get(json, i) : json, out, strings, &n_strings) != 0)
            return -1;
    if (n_strings > 0) {
        size_t kept = 0;
        qsort(strings, n_strings, sizeof *strings, compare_strings);
        for (size_t i = 0; i < n_strings; i++)
            if (kept == 0 || compare_strings(&strings[kept - 1], &strings[i]) != 0)
                strings[kept++] = strings[i];
        out->string = kept == 1 ? regex_literal(all->regexes, strings[0].bytes, strings[0].n)
                                : regex_strings(all->regexes, strings, NULL, kept);
    }
    if (negated) {
        out->null = !out->null;
        out->yes = !out->yes;
        out->no = !out->no;
        out->number = schema_number_not(all, out->number);
        out->integer = false;
        out->string = schema_string_not(all, out->string);
        if (alternatives_add_all(all, &out->arrays) != 0 ||
            alternatives_add_all(all, &out->objects) != 0)
            return -1;
    }
    for (size_t i = 0; i < n; i++) {
        json_t *value = list ? json_array_get(json, i) : json;
        if ((json_is_array(value) || json_is_object(value)) &&
            add_shape(all, value, negated, out) != 0)
            return -1;
    }
    return 0;
}
