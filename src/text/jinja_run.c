/* SPDX-License-Identifier: MIT */
/*
 * jinja_run.c: a template runs. Its memory and its limits; scopes; expressions; statements; macros
 * and loops.
 */
#include "text/jinja_run.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/size.h"
#include "base/utf8.h"
#include "text/jinja_builtins.h"
#include "text/jinja_parse.h"

/* Steps take some 10 ns each; templates in use take 1,000 of them for a turn. */
enum { MOST_STEPS = 50 * 1000 * 1000, MOST_DEPTH = 600, CHUNK = 16 * 1024, LARGE = CHUNK / 2 };
static const size_t MOST_BYTES = (size_t)256 << 20, BYTES_OF_TREE = (size_t)16 << 20;

struct jinja {
    struct jinja_run memory; /* of the tree */
    struct tree tree;
    char *what;
};

/* ---- failing, and the limits --------------------------------------------------------------- */

_Noreturn void jinja_fail(struct jinja_run *run, const char *format, ...)
{
    char text[400];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    error_set(run->err, LLAMA3_EINPUT, "%s: line %u: %s", run->what, run->line, text);
    longjmp(run->failed, 1);
}

void jinja_work(struct jinja_run *run, size_t n)
{
    run->steps += n / 16 + 1;
    if (run->steps > MOST_STEPS)
        jinja_fail(run, "expected at most %d steps, found more", (int)MOST_STEPS);
}

void jinja_deeper(struct jinja_run *run)
{
    if (++run->depth > MOST_DEPTH)
        jinja_fail(run, "expected at most %d levels of nesting, found more", (int)MOST_DEPTH);
}

void jinja_higher(struct jinja_run *run)
{
    run->depth--;
}

/* What is larger than LARGE has a chunk of its own, which can grow; the rest shares chunks. */
struct jinja_chunk {
    struct jinja_chunk *next, **link; /* link: the pointer to this one */
    size_t size;
    _Alignas(16) char bytes[];
};

/* A new chunk, zeroed, or one of another size, whose bytes may move. */
static struct jinja_chunk *make_chunk(struct jinja_run *run, struct jinja_chunk *old, size_t bytes)
{
    size_t before = old != NULL ? old->size : 0;
    if (bytes > run->most_bytes - (run->bytes - before))
        jinja_fail(run,
                   "expected a template that takes at most %zu bytes, found one that takes more",
                   run->most_bytes);
    struct jinja_chunk *chunk =
        old != NULL ? realloc(old, sizeof *chunk + bytes) : calloc(1, sizeof *chunk + bytes);
    if (chunk == NULL) {
        error_memory(run->err, run->what, bytes);
        longjmp(run->failed, 1);
    }
    run->bytes += bytes - before;
    run->peak = run->peak > run->bytes ? run->peak : run->bytes;
    chunk->size = bytes;
    if (old == NULL) {
        chunk->next = run->chunks;
        chunk->link = &run->chunks;
    }
    *chunk->link = chunk;
    if (chunk->next != NULL)
        chunk->next->link = &chunk->next;
    return chunk;
}

static void unlink_chunk(struct jinja_run *run, struct jinja_chunk *chunk)
{
    run->bytes -= chunk->size;
    *chunk->link = chunk->next;
    if (chunk->next != NULL)
        chunk->next->link = chunk->link;
}

static struct jinja_chunk *chunk_of(void *bytes)
{
    return (struct jinja_chunk *)((char *)bytes - offsetof(struct jinja_chunk, bytes));
}

void *jinja_alloc(struct jinja_run *run, size_t n, size_t size)
{
    size_t bytes;
    if (!size_mul(n, size, &bytes))
        bytes = SIZE_MAX;
    if (bytes > LARGE)
        return make_chunk(run, NULL, bytes)->bytes;
    bytes = (bytes + 15) & ~(size_t)15;
    if (bytes > run->left) {
        run->left = CHUNK;
        run->free = make_chunk(run, NULL, CHUNK)->bytes;
    }
    char *at = run->free;
    run->free += bytes;
    run->left -= bytes;
    return at;
}

void *jinja_resize(struct jinja_run *run, void *old, size_t old_bytes, size_t bytes)
{
    if (old_bytes > LARGE && bytes > LARGE)
        return make_chunk(run, chunk_of(old), bytes)->bytes;
    void *moved = jinja_alloc(run, bytes, 1);
    if (old_bytes > 0)
        memcpy(moved, old, old_bytes < bytes ? old_bytes : bytes);
    if (old_bytes > LARGE) {
        unlink_chunk(run, chunk_of(old));
        free(chunk_of(old));
    }
    return moved;
}

void jinja_run_free(struct jinja_run *run)
{
    for (struct jinja_chunk *chunk = run->chunks, *next; chunk != NULL; chunk = next) {
        next = chunk->next;
        free(chunk);
    }
    run->chunks = NULL;
}

const struct hash_key *jinja_secret(struct jinja_run *run)
{
    return &run->secret;
}

/* ---- scopes -------------------------------------------------------------------------------- */

struct variable {
    const struct jinja_string *name; /* the one pointer of that name */
    struct jinja_value value;
};

struct scope {
    struct scope *outer;
    struct variable *items; /* [n] */
    size_t n, capacity;
    bool kept; /* by a macro */
};

static void set(struct jinja_run *run, struct scope *scope, const struct jinja_string *name,
                struct jinja_value value)
{
    for (size_t i = 0; i < scope->n; i++)
        if (scope->items[i].name == name) {
            scope->items[i].value = value;
            return;
        }
    if (scope->n == scope->capacity) {
        size_t capacity = scope->capacity * 2 + 4;
        struct variable *more = jinja_alloc(run, capacity, sizeof *more);
        if (scope->n > 0)
            memcpy(more, scope->items, scope->n * sizeof *more);
        scope->items = more;
        scope->capacity = capacity;
    }
    scope->items[scope->n++] = (struct variable){name, value};
}

static struct jinja_value get(struct jinja_run *run, const struct jinja_string *name)
{
    for (const struct scope *scope = run->scope; scope != NULL; scope = scope->outer)
        for (size_t i = 0; i < scope->n; i++)
            if (scope->items[i].name == name)
                return scope->items[i].value;
    return jinja_undefined(name);
}

static struct scope *enter(struct jinja_run *run, struct scope *outer)
{
    struct scope *scope = jinja_alloc(run, 1, sizeof *scope);
    scope->outer = outer;
    run->scope = scope;
    return scope;
}

/* For the next turn of a loop: the scope of the last one, or NULL, if nothing keeps it. */
static struct scope *enter_again(struct jinja_run *run, struct scope *scope, struct scope *outer)
{
    if (scope == NULL || scope->kept)
        return enter(run, outer);
    scope->n = 0;
    run->scope = scope;
    return scope;
}

/* ---- the loop object ------------------------------------------------------------------------ */

struct jinja_loop {
    const struct stmt *stmt;
    struct scope *outer;
    const struct jinja_value *items; /* [n] */
    size_t n, at, depth;
    struct jinja_value seen; /* by loop.changed(); ABSENT at first */
};

static struct jinja_value loop_cycle(struct jinja_run *run, struct jinja_value self,
                                     const struct jinja_args *args)
{
    if (args->n == 0)
        jinja_fail(run, "loop.cycle: expected values, found none");
    return args->items[self.loop->at % args->n];
}

static struct jinja_value loop_changed(struct jinja_run *run, struct jinja_value self,
                                       const struct jinja_args *args)
{
    struct jinja_value now = jinja_list(run, JINJA_TUPLE, args->n);
    for (size_t i = 0; i < args->n; i++)
        jinja_append(run, now.list, args->items[i]);
    bool changed = self.loop->seen.type == JINJA_ABSENT || !jinja_equal(run, self.loop->seen, now);
    self.loop->seen = now;
    return jinja_bool(changed);
}

struct jinja_value jinja_loop_attribute(struct jinja_run *run, struct jinja_loop *l,
                                        const struct jinja_string *name)
{
    const struct jinja_value self = {.type = JINJA_LOOP, .loop = l};
    const struct {
        const char *name;
        size_t value;
    } numbers[] = {{"index", l->at + 1},       {"index0", l->at},
                   {"revindex", l->n - l->at}, {"revindex0", l->n - l->at - 1},
                   {"length", l->n},           {"depth", l->depth + 1},
                   {"depth0", l->depth}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (jinja_is(name, numbers[i].name))
            return jinja_int((int64_t)numbers[i].value);
    if (jinja_is(name, "first"))
        return jinja_bool(l->at == 0);
    if (jinja_is(name, "last"))
        return jinja_bool(l->at + 1 == l->n);
    if (jinja_is(name, "previtem"))
        return l->at > 0 ? l->items[l->at - 1] : jinja_undefined(NULL);
    if (jinja_is(name, "nextitem"))
        return l->at + 1 < l->n ? l->items[l->at + 1] : jinja_undefined(NULL);
    if (jinja_is(name, "cycle"))
        return jinja_function(run, "loop.cycle", loop_cycle, self);
    if (jinja_is(name, "changed"))
        return jinja_function(run, "loop.changed", loop_changed, self);
    return (struct jinja_value){.type = JINJA_ABSENT};
}

/* ---- expressions --------------------------------------------------------------------------- */

static struct jinja_value eval(struct jinja_run *run, const struct expr *e);
static struct jinja_value call_loop(struct jinja_run *run, struct jinja_loop *loop,
                                    const struct jinja_args *args);
static struct jinja_value call_macro(struct jinja_run *run, const struct jinja_function *function,
                                     const struct jinja_args *args);

static struct jinja_value eval_list(struct jinja_run *run, const struct expr *e,
                                    enum jinja_list_kind kind)
{
    struct jinja_value list = jinja_list(run, kind, 0);
    for (const struct expr *item = e->items; item != NULL; item = item->next)
        jinja_append(run, list.list, eval(run, item));
    return list;
}

static struct jinja_value eval_dict(struct jinja_run *run, const struct expr *e)
{
    struct jinja_value dict = jinja_dict(run);
    for (const struct expr *key = e->items; key != NULL; key = key->next->next) {
        struct jinja_value k = eval(run, key);
        jinja_dict_set(run, dict.dict, k, eval(run, key->next));
    }
    return dict;
}

/* Arguments as they are passed, in lists that grow. */
struct passed {
    struct jinja_args args;
    struct jinja_list *items;
    struct jinja_named *named;
    size_t capacity;
};

static void pass_named(struct jinja_run *run, struct passed *p, const struct jinja_string *name,
                       struct jinja_value value)
{
    for (size_t i = 0; i < p->args.n_named; i++)
        if (jinja_same(p->named[i].name, name))
            jinja_fail(run, "expected each argument once, found %s twice", jinja_quoted(run, name));
    jinja_work(run, p->args.n_named);
    if (p->args.n_named == p->capacity) {
        p->capacity = p->capacity * 2 + 4;
        struct jinja_named *more = jinja_alloc(run, p->capacity, sizeof *more);
        if (p->args.n_named > 0)
            memcpy(more, p->named, p->args.n_named * sizeof *more);
        p->named = more;
    }
    p->named[p->args.n_named++] = (struct jinja_named){name, value};
}

static void pass_dict(struct jinja_run *run, struct passed *p, struct jinja_value dict)
{
    if (dict.type != JINJA_DICT)
        jinja_fail(run, "**: expected a dict, found %s", jinja_type_name(dict));
    for (size_t i = 0; i < dict.dict->n; i++) {
        struct jinja_value key = dict.dict->items[i].key;
        pass_named(run, p, jinja_want_string(run, "**", key), dict.dict->items[i].value);
    }
}

static void pass_list(struct jinja_run *run, struct passed *p, struct jinja_value value)
{
    struct jinja_span span = jinja_iterate(run, value);
    for (size_t i = 0; i < span.n; i++)
        jinja_append(run, p->items, span.items[i]);
}

static void pass(struct jinja_run *run, struct passed *p, const struct expr *first)
{
    *p = (struct passed){.items = jinja_list(run, JINJA_PLAIN, 0).list};
    for (const struct expr *e = first; e != NULL; e = e->next) {
        struct jinja_value value = eval(run, e);
        if (e->passed == ARG_NAMED)
            pass_named(run, p, e->passed_name, value);
        else if (e->passed == ARG_LIST)
            pass_list(run, p, value);
        else if (e->passed == ARG_DICT)
            pass_dict(run, p, value);
        else
            jinja_append(run, p->items, value);
    }
}

static const struct jinja_args *passed_args(struct passed *p)
{
    p->args.items = p->items->items;
    p->args.n = p->items->n;
    p->args.named = p->named;
    return &p->args;
}

struct jinja_value jinja_call(struct jinja_run *run, struct jinja_value function,
                              const struct jinja_args *args)
{
    struct jinja_value result;
    jinja_deeper(run);
    jinja_work(run, 16);
    if (function.type == JINJA_LOOP)
        result = call_loop(run, function.loop, args);
    else if (function.type == JINJA_UNDEFINED)
        jinja_fail_undefined(run, "a function", function);
    else if (function.type != JINJA_FUNCTION)
        jinja_fail(run, "expected a function, found %s", jinja_type_name(function));
    else if (function.function->builtin != NULL)
        result = function.function->builtin(run, function.function->self, args);
    else
        result = call_macro(run, function.function, args);
    jinja_higher(run);
    return result;
}

static struct jinja_value eval_filter(struct jinja_run *run, const struct expr *e,
                                      struct jinja_value block)
{
    struct passed p;
    struct jinja_value self = e->a == NULL                ? block
                              : e->a->kind == EXPR_FILTER ? eval_filter(run, e->a, block)
                                                          : eval(run, e->a);
    jinja_builtin *filter = jinja_filter(e->name);
    pass(run, &p, e->items);
    run->line = e->line;
    if (filter == NULL)
        jinja_fail(run, "expected a filter, found %s", jinja_quoted(run, e->name));
    jinja_work(run, 16);
    return filter(run, self, passed_args(&p));
}

static struct jinja_value eval_test(struct jinja_run *run, const struct expr *e)
{
    struct passed p;
    struct jinja_value self = eval(run, e->a);
    jinja_builtin *test = jinja_test(e->name);
    pass(run, &p, e->items);
    run->line = e->line;
    if (test == NULL)
        jinja_fail(run, "expected a test, found %s", jinja_quoted(run, e->name));
    return test(run, self, passed_args(&p));
}

static struct jinja_value eval_call(struct jinja_run *run, const struct expr *e,
                                    const struct jinja_value *caller)
{
    static const uint32_t name[] = {'c', 'a', 'l', 'l', 'e', 'r'};
    struct passed p;
    struct jinja_value function = eval(run, e->a);
    pass(run, &p, e->items);
    if (caller != NULL)
        pass_named(run, &p, jinja_string(run, name, 6).string, *caller);
    run->line = e->line;
    return jinja_call(run, function, passed_args(&p));
}

static bool holds(struct jinja_run *run, char op, struct jinja_value a, struct jinja_value b)
{
    switch (op) {
    case 'e':
        return jinja_equal(run, a, b);
    case 'n':
        return !jinja_equal(run, a, b);
    case 'i':
        return jinja_contains(run, b, a);
    case 'o':
        return !jinja_contains(run, b, a);
    case '<':
        return jinja_order(run, a, b, "<") == -1;
    case 'l':
        return jinja_order(run, a, b, "<=") <= 0;
    case '>':
        return jinja_order(run, a, b, ">") == 1;
    default:
        return jinja_order(run, a, b, ">=") >= 0;
    }
}

static struct jinja_value eval_compare(struct jinja_run *run, const struct expr *e)
{
    struct jinja_value left = eval(run, e->a);
    for (const struct expr *part = e->items; part != NULL; part = part->next) {
        struct jinja_value right = eval(run, part->a);
        if (!holds(run, part->op, left, right))
            return jinja_bool(false);
        left = right;
    }
    return jinja_bool(true);
}

static struct jinja_value eval_concat(struct jinja_run *run, const struct expr *e)
{
    struct jinja_builder b = {.run = run};
    for (const struct expr *item = e->items; item != NULL; item = item->next)
        jinja_put_value(&b, eval(run, item));
    return jinja_built(&b);
}

static struct jinja_value eval_subscript(struct jinja_run *run, const struct expr *e)
{
    struct jinja_value object = eval(run, e->a);
    if (e->b->kind == EXPR_SLICE) {
        const struct expr *from = e->b->items;
        struct jinja_value a = eval(run, from), b = eval(run, from->next);
        return jinja_slice(run, object, a, b, eval(run, from->next->next));
    }
    struct jinja_value key = eval(run, e->b);
    run->line = e->line;
    return jinja_subscript(run, object, key);
}

static struct jinja_value eval_attribute(struct jinja_run *run, const struct expr *e)
{
    struct jinja_value object = eval(run, e->a);
    run->line = e->line;
    return jinja_attribute(run, object, e->name);
}

static struct jinja_value eval_sign(struct jinja_run *run, const struct expr *e)
{
    struct jinja_value value = eval(run, e->a);
    if (!jinja_is_number(value))
        jinja_fail(run, "%c: expected a number, found %s", e->op, jinja_type_name(value));
    if (value.type == JINJA_FLOAT)
        return jinja_float(e->op == '-' ? -value.real : value.real);
    return jinja_arithmetic(run, e->op, jinja_int(0), value);
}

static struct jinja_value eval_arithmetic(struct jinja_run *run, const struct expr *e)
{
    struct jinja_value a = eval(run, e->a), b = eval(run, e->b);
    bool sum = e->op == '+' && e->a->kind == EXPR_ARITHMETIC && e->a->op == '+';
    run->line = e->line;
    if (sum && a.type == JINJA_STRING && b.type == JINJA_STRING)
        return jinja_extend(run, a.string, b.string);
    return jinja_arithmetic(run, e->op, a, b);
}

static struct jinja_value eval_kind(struct jinja_run *run, const struct expr *e)
{
    struct jinja_value value;
    switch (e->kind) {
    case EXPR_VALUE:
        return e->value;
    case EXPR_NAME:
        return get(run, e->name);
    case EXPR_LIST:
        return eval_list(run, e, JINJA_PLAIN);
    case EXPR_TUPLE:
        return eval_list(run, e, JINJA_TUPLE);
    case EXPR_DICT:
        return eval_dict(run, e);
    case EXPR_ATTRIBUTE:
        return eval_attribute(run, e);
    case EXPR_SUBSCRIPT:
        return eval_subscript(run, e);
    case EXPR_CALL:
        return eval_call(run, e, NULL);
    case EXPR_FILTER:
        return eval_filter(run, e, jinja_none());
    case EXPR_TEST:
        return eval_test(run, e);
    case EXPR_NOT:
        return jinja_bool(!jinja_truth(run, eval(run, e->a)));
    case EXPR_SIGN:
        return eval_sign(run, e);
    case EXPR_AND:
        value = eval(run, e->a);
        return jinja_truth(run, value) ? eval(run, e->b) : value;
    case EXPR_OR:
        value = eval(run, e->a);
        return jinja_truth(run, value) ? value : eval(run, e->b);
    case EXPR_ARITHMETIC:
        return eval_arithmetic(run, e);
    case EXPR_CONCAT:
        return eval_concat(run, e);
    case EXPR_COMPARE:
        return eval_compare(run, e);
    case EXPR_IF:
        if (jinja_truth(run, eval(run, e->b)))
            return eval(run, e->a);
        return e->c != NULL ? eval(run, e->c) : jinja_undefined(NULL);
    case EXPR_SLICE: /* several subscripts, which nothing here has */
        break;
    }
    jinja_fail(run, "expected one subscript, found several");
}

static struct jinja_value eval(struct jinja_run *run, const struct expr *e)
{
    jinja_deeper(run);
    jinja_work(run, 1);
    run->line = e->line;
    struct jinja_value value = eval_kind(run, e);
    jinja_higher(run);
    return value;
}

/* ---- statements ---------------------------------------------------------------------------- */

/* How a body ended. */
enum ending { ENDED, BROKEN, CONTINUED };

static enum ending run_body(struct jinja_run *run, const struct stmt *s);

static void assign(struct jinja_run *run, struct scope *scope, const struct expr *target,
                   struct jinja_value value)
{
    if (target->kind == EXPR_NAME) {
        set(run, scope, target->name, value);
        return;
    }
    if (target->kind == EXPR_ATTRIBUTE) {
        struct jinja_value object = eval(run, target->a);
        if (object.type != JINJA_NAMESPACE)
            jinja_fail(run, "expected a namespace to set a value in, found %s",
                       jinja_type_name(object));
        if (target->name->n > 0 && jinja_scalar(target->name->chars[0]) == '_')
            jinja_fail(run, "expected a name that begins with no underscore, found one");
        struct jinja_value key = {.type = JINJA_STRING, .string = target->name};
        jinja_dict_set(run, object.dict, key, value);
        return;
    }
    struct jinja_span span = jinja_iterate(run, value);
    size_t n = 0;
    for (const struct expr *item = target->items; item != NULL; item = item->next, n++)
        if (n < span.n)
            assign(run, scope, item, span.items[n]);
    if (n != span.n)
        jinja_fail(run, "expected %zu values to unpack, found %zu", n, span.n);
}

/* Runs a body with a builder of its own, in a scope of its own: what it wrote. */
static struct jinja_value written(struct jinja_run *run, const struct stmt *body,
                                  struct scope *outer, enum ending *ending)
{
    struct jinja_builder b = {.run = run}, *before = run->out;
    struct scope *scope = run->scope;
    enter(run, outer);
    run->out = &b;
    *ending = run_body(run, body);
    run->out = before;
    run->scope = scope;
    return jinja_built(&b);
}

/* The items of a loop that its test lets through. */
static void choose_items(struct jinja_run *run, struct jinja_loop *loop, struct jinja_span span)
{
    const struct stmt *s = loop->stmt;
    loop->items = span.items;
    loop->n = span.n;
    if (s->test == NULL)
        return;
    struct jinja_list *chosen = jinja_list(run, JINJA_PLAIN, 0).list;
    struct scope *scope = NULL;
    for (size_t i = 0; i < span.n; i++) {
        scope = enter_again(run, scope, loop->outer);
        assign(run, scope, s->target, span.items[i]);
        if (jinja_truth(run, eval(run, s->test)))
            jinja_append(run, chosen, span.items[i]);
    }
    loop->items = chosen->items;
    loop->n = chosen->n;
}

/* One run through a loop, in scopes inside `outer`. Its `else` is for when no turn came to its end,
 * and a `break` in there is one of the loop around. */
static enum ending run_loop(struct jinja_run *run, const struct stmt *s, struct scope *outer,
                            size_t depth, struct jinja_value over)
{
    struct scope *before = run->scope, *scope = NULL;
    bool completed = false;
    enum ending ending = ENDED;
    struct jinja_loop *loop = jinja_alloc(run, 1, sizeof *loop);
    *loop = (struct jinja_loop){.stmt = s, .outer = outer, .depth = depth};
    choose_items(run, loop, jinja_iterate(run, over));
    for (loop->at = 0; loop->at < loop->n; loop->at++) {
        scope = enter_again(run, scope, outer);
        jinja_work(run, 16);
        set(run, scope, run->loop_name, (struct jinja_value){.type = JINJA_LOOP, .loop = loop});
        assign(run, scope, s->target, loop->items[loop->at]);
        ending = run_body(run, s->body);
        completed = completed || ending == ENDED;
        if (ending == BROKEN)
            break;
    }
    ending = ENDED;
    if (!completed) {
        enter(run, outer);
        ending = run_body(run, s->otherwise);
    }
    run->scope = before;
    return ending;
}

/* loop(items) in a recursive loop. */
static struct jinja_value call_loop(struct jinja_run *run, struct jinja_loop *loop,
                                    const struct jinja_args *args)
{
    struct jinja_builder b = {.run = run}, *before = run->out;
    if (!loop->stmt->recursive)
        jinja_fail(run, "loop: expected a loop that is recursive, found another");
    if (args->n != 1 || args->n_named != 0)
        jinja_fail(run, "loop: expected what to loop over, found %zu arguments", args->n);
    run->out = &b;
    run_loop(run, loop->stmt, loop->outer, loop->depth + 1, args->items[0]);
    run->out = before;
    return jinja_built(&b);
}

static struct jinja_value make_macro(struct jinja_run *run, const struct macro *macro)
{
    struct jinja_function *function = jinja_alloc(run, 1, sizeof *function);
    *function = (struct jinja_function){.name = "macro", .macro = macro, .scope = run->scope};
    for (struct scope *scope = run->scope; scope != NULL && !scope->kept; scope = scope->outer)
        scope->kept = true;
    return (struct jinja_value){.type = JINJA_FUNCTION, .function = function};
}

struct jinja_value jinja_macro_attribute(struct jinja_run *run,
                                         const struct jinja_function *function,
                                         const struct jinja_string *name)
{
    const struct macro *m = function->macro;
    struct jinja_value list = jinja_list(run, JINJA_TUPLE, m->n_parameters);
    bool explicit_caller = false;
    for (const struct expr *p = m->parameters; p != NULL; p = p->next) {
        jinja_append(run, list.list, (struct jinja_value){.type = JINJA_STRING, .string = p->name});
        explicit_caller = explicit_caller || jinja_is(p->name, "caller");
    }
    if (jinja_is(name, "name"))
        return (struct jinja_value){.type = JINJA_STRING, .string = m->name};
    if (jinja_is(name, "arguments"))
        return list;
    if (jinja_is(name, "catch_kwargs"))
        return jinja_bool(m->takes_dict);
    if (jinja_is(name, "catch_varargs"))
        return jinja_bool(m->takes_list);
    if (jinja_is(name, "caller"))
        return jinja_bool(m->takes_caller);
    if (jinja_is(name, "explicit_caller"))
        return jinja_bool(explicit_caller);
    return (struct jinja_value){.type = JINJA_ABSENT};
}

static const struct jinja_value *named_arg(const struct jinja_args *args,
                                           const struct jinja_string *name)
{
    for (size_t i = 0; i < args->n_named; i++)
        if (jinja_same(args->named[i].name, name))
            return &args->named[i].value;
    return NULL;
}

/* What was passed and is no parameter: varargs, kwargs and the caller, where the body asks for
 * them. */
static void bind_rest(struct jinja_run *run, const struct macro *m, const struct jinja_args *args,
                      struct scope *scope)
{
    struct jinja_value rest = jinja_list(run, JINJA_TUPLE, 0), named = jinja_dict(run);
    struct jinja_value caller = jinja_undefined(NULL);
    for (size_t i = m->n_parameters; i < args->n; i++)
        jinja_append(run, rest.list, args->items[i]);
    for (size_t i = 0; i < args->n_named; i++) {
        const struct jinja_string *name = args->named[i].name;
        const struct expr *p = m->parameters;
        size_t at = 0;
        for (; p != NULL && (at < args->n || !jinja_same(p->name, name)); at++)
            p = p->next;
        if (p == NULL && m->takes_caller && jinja_is(name, "caller"))
            caller = args->named[i].value;
        else if (p == NULL)
            jinja_dict_set(run, named.dict,
                           (struct jinja_value){.type = JINJA_STRING, .string = name},
                           args->named[i].value);
    }
    if (rest.list->n > 0 && !m->takes_list)
        jinja_fail(run, "%s: expected at most %zu arguments, found %zu", jinja_quoted(run, m->name),
                   m->n_parameters, args->n);
    if (named.dict->n > 0 && !m->takes_dict)
        jinja_fail(run, "%s: expected the name of a parameter, found %s",
                   jinja_quoted(run, m->name), jinja_quoted(run, named.dict->items[0].key.string));
    if (m->takes_caller)
        set(run, scope, run->caller_name, caller);
    if (m->takes_list)
        set(run, scope, run->varargs_name, rest);
    if (m->takes_dict)
        set(run, scope, run->kwargs_name, named);
}

static struct jinja_value call_macro(struct jinja_run *run, const struct jinja_function *function,
                                     const struct jinja_args *args)
{
    const struct macro *m = function->macro;
    struct scope *before = run->scope, *scope = enter(run, function->scope);
    unsigned line = run->line;
    size_t i = 0;
    bind_rest(run, m, args, scope);
    for (const struct expr *p = m->parameters; p != NULL; p = p->next, i++) {
        const struct jinja_value *named = named_arg(args, p->name);
        if (named != NULL && i < args->n && !m->takes_dict)
            jinja_fail(run, "%s: expected each argument once, found %s twice",
                       jinja_quoted(run, m->name), jinja_quoted(run, p->name));
        set(run, scope, p->name,
            i < args->n     ? args->items[i]
            : named != NULL ? *named
                            : jinja_undefined(p->name));
    }
    i = 0; /* a default may read each parameter */
    for (const struct expr *p = m->parameters; p != NULL; p = p->next, i++)
        if (p->a != NULL && i >= args->n && named_arg(args, p->name) == NULL)
            set(run, scope, p->name, eval(run, p->a));
    enum ending ending;
    struct jinja_value result = written(run, m->body, scope, &ending);
    run->scope = before;
    run->line = line;
    return result;
}

/* What the block of a call or of filters gives, which Jinja writes as it is. */
static void put_block(struct jinja_run *run, const char *what, struct jinja_value text)
{
    const struct jinja_string *string = jinja_want_string(run, what, text);
    jinja_put_chars(run->out, string->chars, string->n);
}

static void run_call(struct jinja_run *run, const struct stmt *s)
{
    struct jinja_value caller = make_macro(run, s->macro);
    put_block(run, "call", eval_call(run, s->value, &caller));
}

static void run_with(struct jinja_run *run, const struct stmt *s)
{
    struct scope *before = run->scope;
    struct jinja_list *values = jinja_list(run, JINJA_PLAIN, 0).list;
    for (const struct expr *e = s->value; e != NULL; e = e->next)
        jinja_append(run, values, eval(run, e));
    struct scope *scope = enter(run, before);
    size_t i = 0;
    for (const struct expr *e = s->target; e != NULL; e = e->next)
        assign(run, scope, e, values->items[i++]);
}

static enum ending run_block(struct jinja_run *run, const struct stmt *s)
{
    enum ending ending;
    struct jinja_value text = written(run, s->body, run->scope, &ending);
    if (ending != ENDED)
        return ending;
    if (s->value != NULL)
        text = eval_filter(run, s->value, text);
    if (s->kind == STMT_FILTER)
        put_block(run, "filter", text);
    else
        assign(run, run->scope, s->target, text);
    return ENDED;
}

static enum ending run_stmt(struct jinja_run *run, const struct stmt *s)
{
    struct scope *scope = run->scope;
    enum ending ending = ENDED;
    switch (s->kind) {
    case STMT_DATA:
        jinja_put_chars(run->out, s->text->chars, s->text->n);
        break;
    case STMT_PRINT:
        jinja_put_value(run->out, eval(run, s->value));
        break;
    case STMT_IF:
        return run_body(run, jinja_truth(run, eval(run, s->value)) ? s->body : s->otherwise);
    case STMT_FOR:
        return run_loop(run, s, scope, 0, eval(run, s->value));
    case STMT_SET:
        assign(run, scope, s->target, eval(run, s->value));
        break;
    case STMT_SET_BLOCK:
    case STMT_FILTER:
        return run_block(run, s);
    case STMT_MACRO:
        set(run, scope, s->macro->name, make_macro(run, s->macro));
        break;
    case STMT_CALL:
        run_call(run, s);
        break;
    case STMT_WITH:
        run_with(run, s);
        ending = run_body(run, s->body);
        break;
    case STMT_SCOPE:
    case STMT_BLOCK:
        enter(run, s->kind == STMT_BLOCK ? run->outermost : scope);
        ending = run_body(run, s->body);
        break;
    case STMT_BREAK:
        return BROKEN;
    case STMT_CONTINUE:
        return CONTINUED;
    }
    run->scope = scope;
    return ending;
}

static enum ending run_body(struct jinja_run *run, const struct stmt *s)
{
    enum ending ending = ENDED;
    jinja_deeper(run);
    for (; s != NULL && ending == ENDED; s = s->next) {
        run->line = s->line;
        jinja_work(run, 1);
        ending = run_stmt(run, s);
    }
    jinja_higher(run);
    return ending;
}

/* ---- reading and rendering ------------------------------------------------------------------ */

static const struct jinja_string *name_of(const struct tree *tree, const char *name)
{
    for (size_t i = 0; i < tree->names.n; i++)
        if (jinja_is(tree->names.items[i], name))
            return tree->names.items[i];
    return NULL;
}

/* The template as Jinja reads it: every line end as LF, and without one at the end. */
static void read(struct jinja *jinja, const char *text, size_t n)
{
    struct jinja_run *run = &jinja->memory;
    const struct jinja_string *all = jinja_from_utf8(run, text, n, 0).string;
    uint32_t *chars = jinja_alloc(run, all->n + 1, sizeof *chars);
    size_t length = 0;
    for (size_t i = 0; i < all->n; i++)
        if (all->chars[i] == '\r') {
            chars[length++] = '\n';
            i += i + 1 < all->n && all->chars[i + 1] == '\n';
        } else {
            chars[length++] = all->chars[i];
        }
    length -= length > 0 && chars[length - 1] == '\n';
    jinja_parse(run, chars, length, &jinja->tree);
}

struct jinja *jinja_open(const char *text, size_t n, const char *what, struct llama3_error *err)
{
    struct jinja *jinja = size_alloc(1, sizeof *jinja);
    if (jinja != NULL)
        jinja->what = strdup(what);
    if (jinja == NULL || jinja->what == NULL) {
        error_memory(err, "a template", sizeof *jinja);
        jinja_close(jinja);
        return NULL;
    }
    jinja->memory.err = err;
    jinja->memory.what = jinja->what;
    jinja->memory.most_bytes = BYTES_OF_TREE + 64 * n;
    if (setjmp(jinja->memory.failed) != 0) {
        jinja_close(jinja);
        return NULL;
    }
    read(jinja, text, n);
    return jinja;
}

void jinja_close(struct jinja *jinja)
{
    if (jinja == NULL)
        return;
    jinja_run_free(&jinja->memory);
    free(jinja->what);
    free(jinja);
}

bool jinja_mentions(const struct jinja *jinja, const char *name)
{
    return name_of(&jinja->tree, name) != NULL;
}

/* What the template can name at its beginning, and mentions. */
static void set_variables(struct jinja_run *run, const struct tree *tree,
                          const struct jinja_input *input)
{
    const struct jinja_string *name;
    struct scope *scope = enter(run, NULL);
    const char *key;
    json_t *json;
    for (size_t i = 0; i < JINJA_GLOBALS; i++)
        if ((name = name_of(tree, jinja_globals[i].name)) != NULL)
            set(run, scope, name,
                jinja_function(run, jinja_globals[i].name, jinja_globals[i].builtin, jinja_none()));
    for (size_t i = 0; i < input->n_constants; i++)
        if ((name = name_of(tree, input->constants[i].name)) != NULL)
            set(run, scope, name,
                jinja_from_utf8(run, input->constants[i].value, strlen(input->constants[i].value),
                                0));
    json_object_foreach((json_t *)(uintptr_t)input->variables, key,
                        json) if ((name = name_of(tree, key)) != NULL)
        set(run, scope, name, jinja_from_json(run, json));
    run->caller_name = name_of(tree, "caller");
    run->varargs_name = name_of(tree, "varargs");
    run->kwargs_name = name_of(tree, "kwargs");
    name = name_of(tree, "loop");
    run->loop_name = name != NULL ? name : jinja_ascii(run, "loop").string;
}

/* The text, for free(): in its chunk, where it has one of its own. */
static void give(struct jinja_run *run, struct jinja_builder *b, struct jinja_output *out)
{
    size_t bytes = b->n * sizeof *b->chars;
    bool large = b->capacity * sizeof *b->chars > LARGE;
    struct jinja_chunk *chunk = large ? chunk_of(b->chars) : make_chunk(run, NULL, bytes);
    unlink_chunk(run, chunk);
    if (bytes > 0)
        memmove(chunk, b->chars, bytes);
    uint32_t *fitted = realloc(chunk, bytes + sizeof *fitted);
    *out = (struct jinja_output){
        .chars = fitted != NULL ? fitted : (uint32_t *)(void *)chunk, .n = b->n, .peak = run->peak};
}

int jinja_render(const struct jinja *jinja, const struct jinja_input *input,
                 struct jinja_output *out, struct llama3_error *err)
{
    volatile int status = -1;
    struct jinja_run *run = size_alloc(1, sizeof *run);
    if (run == NULL)
        return error_memory(err, jinja->what, sizeof *run);
    run->err = err;
    run->what = jinja->what;
    run->most_bytes = input->memory != 0 ? input->memory : MOST_BYTES;
    run->now = input->now;
    hash_key_init(&run->secret);
    if (setjmp(run->failed) == 0) {
        struct jinja_builder b = {.run = run};
        set_variables(run, &jinja->tree, input);
        run->out = &b;
        run->outermost = enter(run, run->scope);
        run_body(run, jinja->tree.body);
        give(run, &b, out);
        status = 0;
    }
    jinja_run_free(run);
    free(run);
    return status;
}
