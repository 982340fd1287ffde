/* SPDX-License-Identifier: MIT */
/*
 * jinja_json.c: json.dumps(), as the tojson filter of transformers calls it. Nothing is escaped for
 * HTML.
 */
#include <math.h>
#include <stdio.h>

#include "text/jinja_builtins.h"

struct json {
    struct jinja_builder *b;
    bool ensure_ascii, sort_keys;
    const struct jinja_string *indent; /* NULL: on one line */
    const struct jinja_string *item_separator, *key_separator;
    size_t depth;
};

static void put_value(struct json *json, struct jinja_value value);

static void put_string(struct jinja_builder *b, const struct jinja_string *s)
{
    jinja_put_chars(b, s->chars, s->n);
}

static void put_hex(struct jinja_builder *b, uint32_t unit)
{
    char text[8];

    snprintf(text, sizeof text, "\\u%04x", (unsigned)(unit & 0xffff));
    jinja_put_ascii(b, text);
}

static void put_escape(struct json *json, uint32_t scalar)
{
    static const char letters[] = "\"\"\\\\\nn\rr\tt\bb\ff";

    for (size_t i = 0; i + 1 < sizeof letters; i += 2)
        if (scalar == (uint32_t)letters[i]) {
            jinja_put_ascii(json->b, (const char[]){'\\', letters[i + 1], 0});
            return;
        }
    if (scalar >= 0x10000) {
        put_hex(json->b, 0xd800 + ((scalar - 0x10000) >> 10));
        scalar = 0xdc00 + ((scalar - 0x10000) & 0x3ff);
    }
    put_hex(json->b, scalar);
}

static bool needs_escape(const struct json *json, uint32_t scalar)
{
    return scalar < 0x20 || scalar == '"' || scalar == '\\' ||
           (json->ensure_ascii && scalar > 0x7e);
}

static void put_quoted(struct json *json, const struct jinja_string *s)
{
    size_t done = 0;

    jinja_work(json->b->run, s->n / 4);
    jinja_put_ascii(json->b, "\"");
    for (size_t i = 0; i < s->n; i++) {
        if (!needs_escape(json, jinja_scalar(s->chars[i])))
            continue;
        jinja_put_chars(json->b, s->chars + done, i - done);
        put_escape(json, jinja_scalar(s->chars[i]));
        done = i + 1;
    }
    jinja_put_chars(json->b, s->chars + done, s->n - done);
    jinja_put_ascii(json->b, "\"");
}

static void put_float(struct json *json, double value)
{
    char text[40];

    if (isnan(value)) {
        jinja_put_ascii(json->b, "NaN");
    } else if (isinf(value)) {
        jinja_put_ascii(json->b, value < 0 ? "-Infinity" : "Infinity");
    } else {
        jinja_float_text(value, text);
        jinja_put_ascii(json->b, text);
    }
}

/* What is no container and no string; false if it is neither of these. */
static bool put_scalar(struct json *json, struct jinja_value value)
{
    switch (value.type) {
    case JINJA_NONE:
        jinja_put_ascii(json->b, "null");
        return true;
    case JINJA_BOOL:
        jinja_put_ascii(json->b, value.boolean ? "true" : "false");
        return true;
    case JINJA_INT:
        jinja_put_value(json->b, value);
        return true;
    case JINJA_FLOAT:
        put_float(json, value.real);
        return true;
    default:
        return false;
    }
}

static void put_line_end(struct json *json)
{
    if (!json->indent)
        return;
    jinja_put_ascii(json->b, "\n");
    for (size_t i = 0; i < json->depth; i++)
        put_string(json->b, json->indent);
}

static void put_list(struct json *json, const struct jinja_list *list)
{
    if (list->n == 0) {
        jinja_put_ascii(json->b, "[]");
        return;
    }
    jinja_put_ascii(json->b, "[");
    json->depth++;
    for (size_t i = 0; i < list->n; i++) {
        if (i > 0)
            put_string(json->b, json->item_separator);
        put_line_end(json);
        put_value(json, list->items[i]);
    }
    json->depth--;
    put_line_end(json);
    jinja_put_ascii(json->b, "]");
}

static void put_key(struct json *json, struct jinja_value key)
{
    if (key.type == JINJA_STRING) {
        put_quoted(json, key.string);
        return;
    }
    jinja_put_ascii(json->b, "\"");
    if (!put_scalar(json, key))
        jinja_fail(json->b->run, "tojson: expected a key that is a string or a number, found %s",
                   jinja_type_name(key));
    jinja_put_ascii(json->b, "\"");
}

/* sort_keys. */
static const struct jinja_item *sorted_items(struct jinja_run *run, const struct jinja_dict *dict)
{
    struct jinja_keyed *order = jinja_alloc(run, dict->n, sizeof *order);
    struct jinja_item *items = jinja_alloc(run, dict->n, sizeof *items);

    for (size_t i = 0; i < dict->n; i++)
        order[i] = (struct jinja_keyed){.key = &dict->items[i].key, .index = i};
    jinja_sort(run, order, dict->n, jinja_is_less, false);
    for (size_t i = 0; i < dict->n; i++)
        items[i] = dict->items[order[i].index];
    return items;
}

static void put_dict(struct json *json, const struct jinja_dict *dict)
{
    if (dict->n == 0) {
        jinja_put_ascii(json->b, "{}");
        return;
    }
    const struct jinja_item *items = dict->items;
    if (json->sort_keys)
        items = sorted_items(json->b->run, dict);
    jinja_put_ascii(json->b, "{");
    json->depth++;
    for (size_t i = 0; i < dict->n; i++) {
        if (i > 0)
            put_string(json->b, json->item_separator);
        put_line_end(json);
        put_key(json, items[i].key);
        put_string(json->b, json->key_separator);
        put_value(json, items[i].value);
    }
    json->depth--;
    put_line_end(json);
    jinja_put_ascii(json->b, "}");
}

static void put_value(struct json *json, struct jinja_value value)
{
    bool list = value.type == JINJA_LIST &&
                (value.list->kind == JINJA_PLAIN || value.list->kind == JINJA_TUPLE);

    jinja_work(json->b->run, 1);
    if (value.type == JINJA_STRING) {
        put_quoted(json, value.string);
    } else if (list || value.type == JINJA_DICT) {
        jinja_deeper(json->b->run);
        if (list)
            put_list(json, value.list);
        else
            put_dict(json, value.dict);
        jinja_higher(json->b->run);
    } else if (!put_scalar(json, value)) {
        jinja_fail(json->b->run, "tojson: expected what JSON has, found %s",
                   jinja_type_name(value));
    }
}

void jinja_put_json(struct jinja_builder *b, struct jinja_value value, bool ensure_ascii,
                    const struct jinja_string *indent, const struct jinja_string *item_separator,
                    const struct jinja_string *key_separator, bool sort_keys)
{
    struct json json = {.b = b,
                        .ensure_ascii = ensure_ascii,
                        .sort_keys = sort_keys,
                        .indent = indent,
                        .item_separator = item_separator,
                        .key_separator = key_separator};
    put_value(&json, value);
}
