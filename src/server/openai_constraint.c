/* SPDX-License-Identifier: MIT */
/*
 * openai_constraint.c: the fields that say what the text of an answer has to be: OpenAI's
 * response_format, vLLM's guided_* and structured_outputs, llama.cpp's grammar and json_schema.
 * They come to a kind and a text, which the library compiles.
 */
#include <string.h>

#include "base/json.h"
#include "server/openai_parts.h"

enum { MAX_CHOICE_TEXTS = 65536 };

/* Keeps a kind; where: the field or its part. */
static int keep(const struct parser *p, const char *name, const char *where,
                enum llama3_constraint_kind kind)
{
    struct api_request *r = p->request;
    if (r->constraint.field != NULL)
        return parser_refuse(p, NULL, name,
                             "expected one constraint of the answer, found \"%s\" as well",
                             r->constraint.where);
    r->constraint.field = name;
    r->constraint.where = where;
    r->constraint.kind = kind;
    return 0;
}

static int keep_text(const struct parser *p, const char *name, const char *where,
                     enum llama3_constraint_kind kind, const json_t *value)
{
    struct buf *text = &p->request->constraint.text;
    if (!json_is_string(value))
        return parser_mismatch(p, where, "a string", value);
    if (keep(p, name, where, kind) < 0)
        return -1;
    buf_add(text, json_string_value(value), json_string_length(value));
    return text->failed ? parser_no_memory(p) : 0;
}

/* Prints JSON with numbers as short as they stand for the same: 0.1, not 0.10000000000000001. */
static int print_exactly(const json_t *value, struct buf *text)
{
    for (size_t digits = 15; digits <= 17; digits++) {
        buf_clear(text);
        json_print(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(digits), text);
        json_t *read = text->failed ? NULL : json_parse_value(text->data, text->size, "", NULL);
        bool same = read != NULL && json_equal(read, (json_t *)(uintptr_t)value);
        json_decref(read);
        if (same)
            break;
    }
    return text->failed ? -1 : 0;
}

/* A schema: JSON, or a string that holds it. */
static int keep_schema(const struct parser *p, const char *name, const char *where,
                       const json_t *value)
{
    if (json_is_string(value))
        return keep_text(p, name, where, LLAMA3_CONSTRAINT_SCHEMA, value);
    if (!json_is_object(value) && !json_is_boolean(value))
        return parser_mismatch(p, where, "a schema", value);
    if (keep(p, name, where, LLAMA3_CONSTRAINT_SCHEMA) < 0)
        return -1;
    return print_exactly(value, &p->request->constraint.text) < 0 ? parser_no_memory(p) : 0;
}

static int keep_choice(const struct parser *p, const char *name, const char *where,
                       const json_t *value)
{
    size_t n = json_array_size(value);
    if (!json_is_array(value))
        return parser_mismatch(p, where, "a list of strings", value);
    if (n == 0 || n > MAX_CHOICE_TEXTS)
        return parser_refuse(p, NULL, where, "expected 1 to %d strings, found %zu",
                             MAX_CHOICE_TEXTS, n);
    for (size_t i = 0; i < n; i++)
        if (!json_is_string(json_array_get(value, i)))
            return parser_mismatch(p, where, "strings", json_array_get(value, i));
    if (keep(p, name, where, LLAMA3_CONSTRAINT_CHOICE) < 0)
        return -1;
    json_print(value, JSON_COMPACT, &p->request->constraint.text);
    return p->request->constraint.text.failed ? parser_no_memory(p) : 0;
}

/* Whether a line of it is a rule of GBNF: a name and "::=". */
static bool is_gbnf(const char *text)
{
    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += strspn(line, "\n\r\t ");
        size_t n = strspn(line, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_");
        if (n > 0 && strncmp(line + n + strspn(line + n, " \t"), "::=", 3) == 0)
            return true;
    }
    return false;
}

/* As vLLM takes it: GBNF or Lark, whichever it looks like. */
static int keep_grammar(const struct parser *p, const char *name, const char *where,
                        const json_t *value)
{
    bool gbnf = json_is_string(value) && is_gbnf(json_string_value(value));
    return keep_text(p, name, where, gbnf ? LLAMA3_CONSTRAINT_GBNF : LLAMA3_CONSTRAINT_LARK, value);
}

/* Whether each key of an object is one of these, or null. */
static int check_keys(const struct parser *p, const char *where, const json_t *object,
                      const char *const *known)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        bool fine = json_is_null(value);
        for (size_t i = 0; known[i] != NULL; i++)
            fine |= strcmp(known[i], key) == 0;
        if (!fine)
            return parser_refuse(p, "unknown_parameter", where, "\"%.40s\" is not supported", key);
    }
    return 0;
}

/* ---- OpenAI's -------------------------------------------------------------------------------- */

/* strict changes nothing: a schema is always kept to. */
static int read_json_schema(const struct parser *p, const char *name, const json_t *value)
{
    static const char where[] = "response_format.json_schema";
    static const char *const known[] = {"name", "description", "strict", "schema", NULL};
    const json_t *title = json_object_get(value, "name"),
                 *strict = json_object_get(value, "strict");
    const json_t *schema = json_object_get(value, "schema");
    if (!json_is_object(value))
        return parser_mismatch(p, where, "an object", value);
    if (check_keys(p, where, value, known) < 0)
        return -1;
    if (title != NULL && !json_is_string(title))
        return parser_mismatch(p, "response_format.json_schema.name", "a string", title);
    if (strict != NULL && !json_is_null(strict) && !json_is_boolean(strict))
        return parser_mismatch(p, "response_format.json_schema.strict", "true or false", strict);
    if (schema == NULL || json_is_string(schema))
        return parser_mismatch(p, "response_format.json_schema.schema", "a schema", schema);
    return keep_schema(p, name, "response_format.json_schema.schema", schema);
}

int parser_response_format(const struct parser *p, const char *name, const json_t *value)
{
    static const char *const texts[] = {"type", NULL}, *const objects[] = {"type", "schema", NULL},
                             *const schemas[] = {"type", "json_schema", NULL};
    const json_t *schema = json_object_get(value, "schema");
    if (!json_is_object(value))
        return parser_mismatch(p, name, "an object", value);
    const char *type = json_string_value(json_object_get(value, "type"));
    if (type == NULL)
        return parser_mismatch(p, "response_format.type", "a string",
                               json_object_get(value, "type"));
    if (strcmp(type, "text") == 0)
        return check_keys(p, name, value, texts);
    if (strcmp(type, "json_schema") == 0)
        return check_keys(p, name, value, schemas) < 0
                   ? -1
                   : read_json_schema(p, name, json_object_get(value, "json_schema"));
    if (strcmp(type, "json_object") != 0)
        return parser_refuse(p, "unsupported_parameter", name,
                             "expected the type text, json_object or json_schema, found \"%.40s\"",
                             type);
    if (check_keys(p, name, value, objects) < 0)
        return -1;
    return schema != NULL && !json_is_null(schema) /* as llama.cpp's server takes it */
               ? keep_schema(p, name, "response_format.schema", schema)
               : keep(p, name, name, LLAMA3_CONSTRAINT_OBJECT);
}

/* ---- vLLM's and llama.cpp's ------------------------------------------------------------------ */

int parser_guided(const struct parser *p, const char *name, const json_t *value)
{
    if (strcmp(name, "guided_regex") == 0)
        return keep_text(p, name, name, LLAMA3_CONSTRAINT_REGEX, value);
    if (strcmp(name, "guided_choice") == 0)
        return keep_choice(p, name, name, value);
    if (strcmp(name, "guided_grammar") == 0)
        return keep_grammar(p, name, name, value);
    if (strcmp(name, "grammar") == 0) /* llama.cpp's */
        return keep_text(p, name, name, LLAMA3_CONSTRAINT_GBNF, value);
    return keep_schema(p, name, name, value); /* guided_json, json_schema */
}

int parser_structured_outputs(const struct parser *p, const char *name, const json_t *value)
{
    const char *key;
    json_t *part;
    if (!json_is_object(value))
        return parser_mismatch(p, name, "an object", value);
    json_object_foreach((json_t *)(uintptr_t)value, key, part)
    {
        int status = 0;
        if (json_is_null(part) || json_is_false(part)) /* switched off, as all are */
            continue;
        if (strcmp(key, "json") == 0)
            status = keep_schema(p, name, "structured_outputs.json", part);
        else if (strcmp(key, "regex") == 0)
            status = keep_text(p, name, "structured_outputs.regex", LLAMA3_CONSTRAINT_REGEX, part);
        else if (strcmp(key, "choice") == 0)
            status = keep_choice(p, name, "structured_outputs.choice", part);
        else if (strcmp(key, "grammar") == 0)
            status = keep_grammar(p, name, "structured_outputs.grammar", part);
        else if (strcmp(key, "json_object") == 0 && json_is_true(part))
            status = keep(p, name, "structured_outputs.json_object", LLAMA3_CONSTRAINT_OBJECT);
        else
            status = parser_refuse(p, "unknown_parameter", name, "\"%.40s\" is not supported", key);
        if (status < 0)
            return -1;
    }
    return p->request->constraint.field != NULL
               ? 0
               : parser_refuse(p, NULL, name,
                               "expected json, regex, choice, grammar or json_object, found none");
}
