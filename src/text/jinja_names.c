/* SPDX-License-Identifier: MIT */
/*
 * jinja_names.c: names that a template sets before it reads them. Jinja2 finds out about them
 * before anything runs, and takes each for the template's own from the beginning of its scope: a
 * loop or a macro above the `set` finds it undefined, even where a variable of that name was given.
 * Such a scope begins by making the name undefined.
 */
#include <string.h>

#include "text/jinja_parse.h"

/* A scope and what it has mentioned itself, so far or at all. */
struct frame {
    const struct frame *outer;
    struct names names;
    bool has_inner; /* scopes inside of it, so far: what may read a name before it is set */
    struct stmt **body;
};

static void see_frames(struct jinja_run *run, struct frame *frame, struct stmt *s);

static bool has(struct jinja_run *run, const struct names *names, const struct jinja_string *name)
{
    jinja_work(run, names->n);
    for (size_t i = 0; i < names->n; i++)
        if (names->items[i] == name)
            return true;
    return false;
}

static void see(struct jinja_run *run, struct frame *frame, const struct jinja_string *name)
{
    struct names *names = &frame->names;
    if (has(run, names, name))
        return;
    if (names->n == names->capacity) {
        size_t capacity = names->capacity * 2 + 8;
        const struct jinja_string **more = jinja_alloc(run, capacity, sizeof *more);
        if (names->n > 0)
            memcpy(more, names->items, names->n * sizeof *more);
        names->items = more;
        names->capacity = capacity;
    }
    names->items[names->n++] = name;
}

static void see_exprs(struct jinja_run *run, struct frame *frame, const struct expr *e)
{
    jinja_deeper(run);
    for (; e != NULL; e = e->next) {
        if (e->kind == EXPR_NAME)
            see(run, frame, e->name);
        see_exprs(run, frame, e->a);
        see_exprs(run, frame, e->b);
        see_exprs(run, frame, e->c);
        see_exprs(run, frame, e->items);
    }
    jinja_higher(run);
}

/* {% set name = what is not there %} */
static void hide(struct jinja_run *run, struct frame *frame, const struct jinja_string *name)
{
    struct stmt *s = jinja_alloc(run, 1, sizeof *s);
    s->kind = STMT_SET;
    s->line = run->line;
    s->target = jinja_alloc(run, 1, sizeof *s->target);
    *s->target = (struct expr){.kind = EXPR_NAME, .line = run->line, .name = name};
    s->value = jinja_alloc(run, 1, sizeof *s->value);
    s->value->line = run->line;
    s->value->value = jinja_undefined(NULL);
    s->next = *frame->body;
    *frame->body = s;
}

/* maybe: where an `if` decides. */
static void see_set(struct jinja_run *run, struct frame *frame, const struct jinja_string *name,
                    bool maybe)
{
    bool known = maybe || !frame->has_inner;
    for (const struct frame *f = frame; f != NULL && !known; f = f->outer)
        known = has(run, &f->names, name);
    if (!known)
        hide(run, frame, name);
    see(run, frame, name);
}

static void see_target(struct jinja_run *run, struct frame *frame, const struct expr *e, bool maybe)
{
    if (e->kind == EXPR_NAME)
        see_set(run, frame, e->name, maybe);
    else if (e->kind == EXPR_ATTRIBUTE)
        see_exprs(run, frame, e->a);
    for (const struct expr *item = e->items; item != NULL; item = item->next)
        see_target(run, frame, item, maybe);
}

/* What a scope itself mentions, in order. */
static void see_stmts(struct jinja_run *run, struct frame *frame, const struct stmt *s, bool maybe)
{
    jinja_deeper(run);
    for (; s != NULL; s = s->next) {
        run->line = s->line;
        if (s->kind != STMT_SET_BLOCK)
            see_exprs(run, frame, s->value);
        frame->has_inner = frame->has_inner || (s->kind != STMT_IF && s->body != NULL);
        if (s->kind == STMT_IF) {
            see_stmts(run, frame, s->body, true);
            see_stmts(run, frame, s->otherwise, true);
        } else if (s->kind == STMT_SET || s->kind == STMT_SET_BLOCK) {
            see_target(run, frame, s->target, maybe);
        } else if (s->kind == STMT_MACRO) {
            see_set(run, frame, s->macro->name, maybe);
        }
        frame->has_inner = frame->has_inner || s->macro != NULL;
    }
    jinja_higher(run);
}

/* A scope with the names that it begins with. */
static void see_frame(struct jinja_run *run, const struct frame *outer, const struct expr *names,
                      struct stmt **body)
{
    struct frame frame = {.outer = outer, .body = body};
    struct stmt *first = *body;
    see_exprs(run, &frame, names);
    see_stmts(run, &frame, first, false);
    see_frames(run, &frame, first);
}

/* The scopes inside of one. */
static void see_frames(struct jinja_run *run, struct frame *frame, struct stmt *s)
{
    jinja_deeper(run);
    for (; s != NULL; s = s->next) {
        if (s->kind == STMT_IF) {
            see_frames(run, frame, s->body);
            see_frames(run, frame, s->otherwise);
            continue;
        }
        if (s->macro != NULL)
            see_frame(run, frame, s->macro->parameters, &s->macro->body);
        see_frame(run, frame, s->kind == STMT_FOR || s->kind == STMT_WITH ? s->target : NULL,
                  &s->body);
        see_frame(run, frame, NULL, &s->otherwise);
    }
    jinja_higher(run);
}

void jinja_hide_names(struct jinja_run *run, struct tree *tree)
{
    see_frame(run, NULL, NULL, &tree->body);
}
