/* SPDX-License-Identifier: MIT */
/* jinja_globals.c: the functions that every template has, and how builtins find their arguments. */
#include <string.h>
#include <time.h>

#include "base/utf8.h"
#include "text/jinja_builtins.h"
#include "text/jinja_run.h"

/* ---- arguments of builtins ------------------------------------------------------------------ */

/* The next of "old, new, count=": its length, and whether it may be left out. */
static size_t parameter_at(const char **at, const char **name, bool *optional)
{
    *at += strspn(*at, ", ");
    *name = *at;
    size_t n = strcspn(*at, ",=");
    *optional = (*at)[n] == '=';
    *at += n + *optional;
    return n;
}

static bool is_named(const struct jinja_string *name, const char *ascii, size_t n)
{
    if (name->n != n)
        return false;
    for (size_t i = 0; i < n; i++)
        if (jinja_scalar(name->chars[i]) != (uint32_t)ascii[i])
            return false;
    return true;
}

void jinja_bind(struct jinja_run *run, const char *what, const char *parameters,
                const struct jinja_args *args, struct jinja_value *values)
{
    const char *at = parameters, *name;
    size_t n = 0, used = 0;
    bool optional;
    for (size_t length; (length = parameter_at(&at, &name, &optional)) > 0; n++) {
        values[n] = n < args->n ? args->items[n] : (struct jinja_value){.type = JINJA_ABSENT};
        for (size_t i = 0; i < args->n_named; i++)
            if (is_named(args->named[i].name, name, length)) {
                if (values[n].type != JINJA_ABSENT)
                    jinja_fail(run, "%s: expected each argument once, found %.*s twice", what,
                               (int)length, name);
                values[n] = args->named[i].value;
                used++;
            }
        if (values[n].type == JINJA_ABSENT && !optional)
            jinja_fail(run, "%s: expected an argument %.*s, found none", what, (int)length, name);
    }
    if (args->n > n)
        jinja_fail(run, "%s: expected at most %zu arguments, found %zu", what, n, args->n);
    if (used < args->n_named)
        jinja_fail(run, "%s: expected arguments among (%s), found another", what, parameters);
}

void jinja_bind_none(struct jinja_run *run, const char *what, const struct jinja_args *args)
{
    struct jinja_value none;
    jinja_bind(run, what, "", args, &none);
}

const struct jinja_string *jinja_want_string(struct jinja_run *run, const char *what,
                                             struct jinja_value value)
{
    if (value.type != JINJA_STRING)
        jinja_fail(run, "%s: expected a string, found %s", what, jinja_type_name(value));
    return value.string;
}

int64_t jinja_want_int(struct jinja_run *run, const char *what, struct jinja_value value)
{
    if (value.type == JINJA_BOOL)
        return value.boolean;
    if (value.type != JINJA_INT)
        jinja_fail(run, "%s: expected an integer, found %s", what, jinja_type_name(value));
    return value.integer;
}

/* ---- functions that every template has ------------------------------------------------------ */

/* A string as UTF-8, in the arena; *n bytes and a NUL. */
static char *utf8_of(struct jinja_run *run, const struct jinja_string *string, size_t *n)
{
    uint8_t *text = jinja_alloc(run, string->n + 1, 4);
    *n = 0;
    jinja_work(run, string->n);
    for (size_t i = 0; i < string->n; i++)
        *n += (size_t)utf8_encode(jinja_scalar(string->chars[i]), text + *n);
    return (char *)text;
}

struct jinja_value jinja_from_utf8(struct jinja_run *run, const char *text, size_t n, uint32_t bits)
{
    struct jinja_builder b = {.run = run};
    jinja_work(run, n);
    for (size_t at = 0; at < n;) {
        uint32_t scalar;
        int length = utf8_decode((const uint8_t *)text + at, n - at, &scalar);
        if (length <= 0)
            jinja_fail(run, "expected UTF-8, found byte 0x%02x", (uint8_t)text[at]);
        jinja_put(&b, scalar | bits);
        at += (size_t)length;
    }
    return jinja_built(&b);
}

static struct jinja_value raise_exception(struct jinja_run *run, struct jinja_value self,
                                          const struct jinja_args *args)
{
    struct jinja_value message;
    size_t n;
    (void)self;
    jinja_bind(run, "raise_exception", "message", args, &message);
    jinja_fail(run, "%s", utf8_of(run, jinja_str(run, message).string, &n));
}

static struct jinja_value strftime_now(struct jinja_run *run, struct jinja_value self,
                                       const struct jinja_args *args)
{
    struct jinja_value format;
    char text[1024];
    size_t n;
    (void)self;
    jinja_bind(run, "strftime_now", "format", args, &format);
    const char *utf8 = utf8_of(run, jinja_want_string(run, "strftime_now", format), &n);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* strftime writes into `text` alone */
    n = strftime(text, sizeof text, utf8, run->now);
#pragma GCC diagnostic pop
    return jinja_from_utf8(run, text, n, (uint32_t)JINJA_GIVEN);
}

static struct jinja_value range(struct jinja_run *run, struct jinja_value self,
                                const struct jinja_args *args)
{
    struct jinja_value values[3];
    (void)self;
    if (args->n_named > 0)
        jinja_fail(run, "range: expected no named arguments, found some");
    jinja_bind(run, "range", "start, stop=, step=", args, values);
    bool one = values[1].type == JINJA_ABSENT;
    int64_t start = one ? 0 : jinja_want_int(run, "range", values[0]);
    int64_t stop = jinja_want_int(run, "range", values[one ? 0 : 1]);
    int64_t step = values[2].type == JINJA_ABSENT ? 1 : jinja_want_int(run, "range", values[2]);
    return jinja_range(run, start, stop, step);
}

/* dict() and namespace(): of a dict or of pairs, and of named arguments. */
static struct jinja_value make_dict(struct jinja_run *run, struct jinja_value self,
                                    const struct jinja_args *args)
{
    struct jinja_value dict = jinja_dict(run);
    (void)self;
    if (args->n > 1)
        jinja_fail(run, "dict: expected at most one argument, found %zu", args->n);
    if (args->n == 1 && args->items[0].type == JINJA_DICT) {
        const struct jinja_dict *from = args->items[0].dict;
        for (size_t i = 0; i < from->n; i++)
            jinja_dict_set(run, dict.dict, from->items[i].key, from->items[i].value);
    } else if (args->n == 1) {
        struct jinja_span pairs = jinja_iterate(run, args->items[0]);
        for (size_t i = 0; i < pairs.n; i++) {
            struct jinja_span pair = jinja_iterate(run, pairs.items[i]);
            if (pair.n != 2)
                jinja_fail(run, "dict: expected pairs, found %zu values", pair.n);
            jinja_dict_set(run, dict.dict, pair.items[0], pair.items[1]);
        }
    }
    for (size_t i = 0; i < args->n_named; i++)
        jinja_dict_set(run, dict.dict,
                       (struct jinja_value){.type = JINJA_STRING, .string = args->named[i].name},
                       args->named[i].value);
    return dict;
}

static struct jinja_value make_namespace(struct jinja_run *run, struct jinja_value self,
                                         const struct jinja_args *args)
{
    struct jinja_value made = make_dict(run, self, args);
    for (size_t i = 0; i < made.dict->n; i++) {
        struct jinja_value key = made.dict->items[i].key;
        if (key.type == JINJA_STRING && key.string->n > 0 &&
            jinja_scalar(key.string->chars[0]) == '_')
            jinja_fail(run, "namespace: expected names that begin with no underscore, found one");
    }
    made.type = JINJA_NAMESPACE;
    return made;
}

/* The text that joiner() stands for: none the first time. */
static struct jinja_value joiner_text(struct jinja_run *run, struct jinja_value self,
                                      const struct jinja_args *args)
{
    struct jinja_value text = self.list->items[0];
    jinja_bind(run, "joiner", "", args, &text);
    if (self.list->next++ == 0)
        return jinja_ascii(run, "");
    return text;
}

static struct jinja_value joiner(struct jinja_run *run, struct jinja_value self,
                                 const struct jinja_args *args)
{
    struct jinja_value separator, state = jinja_list(run, JINJA_PLAIN, 1);
    (void)self;
    jinja_bind(run, "joiner", "sep=", args, &separator);
    jinja_append(run, state.list,
                 separator.type == JINJA_ABSENT ? jinja_ascii(run, ", ") : separator);
    return jinja_function(run, "joiner", joiner_text, state);
}

const struct jinja_entry jinja_globals[JINJA_GLOBALS] = {
    {"range", range},
    {"dict", make_dict},
    {"namespace", make_namespace},
    {"joiner", joiner},
    {"raise_exception", raise_exception},
    {"strftime_now", strftime_now},
};
