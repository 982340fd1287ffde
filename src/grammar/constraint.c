/* SPDX-License-Identifier: MIT */
/*
 * constraint.c: constraints, and the matchers that follow them.
 *
 * What a constraint learns while it is used, states and their steps, would grow without end. When
 * it has become too large a new parser is made of the constraint's text, and each matcher changes
 * over to it at its next step: it reads its answer so far once more.
 */
#include "config.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/size.h"
#include "grammar/mask.h"
#include "text/tokenizer.h"

enum {
    MAX_MEMORY = 256 << 20, /* bytes of a parser's grammar and regular expressions */
    RENEW = 128 << 20,      /* bytes of a parser that is replaced by a new one */
    MAX_STATES = 4 << 20,   /* computed for one mask or one token */
    MAX_REACHED = 20000,    /* parts of a schema that are looked at before an answer begins */
    N_KEPT = 64             /* masks that are kept */
};

/* A parser with what it has learned. */
struct automaton {
    unsigned matchers; /* that use it */
    struct grammar grammar;
    struct machine machine;
    struct masker masker;
    struct kept {
        state state;
        uint32_t *mask;
    } kept[N_KEPT]; /* by the state's number */
};

struct constraint {
    const struct vocabulary *vocabulary;
    enum constraint_kind kind;
    char *text, *where;
    size_t n;
    atomic_uint references;
    pthread_mutex_t lock;
    struct automaton *automaton;
    size_t renew_at;
    unsigned renewals;
};

struct matcher {
    struct constraint *constraint;
    struct automaton *automaton;
    state state;
    struct buf text; /* the answer so far */
    bool stopped;    /* a stop token was taken */
    uint32_t mask[];
};

/* ---- parsers -------------------------------------------------------------------------------- */

static void automaton_close(struct automaton *e)
{
    if (e == NULL)
        return;
    for (size_t i = 0; i < N_KEPT; i++)
        free(e->kept[i].mask);
    masker_close(&e->masker);
    machine_close(&e->machine);
    grammar_close(&e->grammar);
    free(e);
}

/* Says which text a failure is of. */
static int name_text(const struct constraint *c, struct llama3_error *failure,
                     struct llama3_error *err)
{
    return error_set(err, failure->code, "%s: %s", c->where, failure->message);
}

static int read_schema(struct automaton *e, const struct constraint *c, struct llama3_error *err)
{
    json_t *root;
    if (c->kind == CONSTRAINT_JSON)
        root = json_true();
    else if (c->kind == CONSTRAINT_OBJECT)
        root = json_pack("{s:s}", "type", "object");
    else /* integers beyond 64 bits occur as bounds: in an object they are numbers */
        root = memchr(c->text, '{', c->n) != NULL ? json_parse(c->text, c->n, c->where, err)
                                                  : json_parse_value(c->text, c->n, c->where, err);
    if (root == NULL)
        return c->kind == CONSTRAINT_OBJECT ? error_memory(err, "the constraint", 0) : -1;
    struct llama3_error failure = {.size = sizeof failure};
    struct schemas *schemas = schemas_open(e->grammar.regexes, root, &failure);
    json_decref(root);
    if (schemas == NULL)
        return name_text(c, &failure, err);
    e->grammar.start = grammar_json(&e->grammar, schemas, schemas_root(schemas));
    int satisfiable = schema_satisfiable(schemas, schemas_root(schemas), &failure);
    if (satisfiable == 0)
        return error_input(err, "%s: expected a schema that some value satisfies, found none",
                           c->where);
    if (satisfiable < 0 || schema_reach(schemas, schemas_root(schemas), MAX_REACHED, &failure) < 0)
        return name_text(c, &failure, err);
    return grammar_check(&e->grammar, err);
}

static int read_choice(struct automaton *e, const struct constraint *c, struct llama3_error *err)
{
    json_t *list = json_parse_value(c->text, c->n, c->where, err);
    regex all = REGEX_NONE;
    if (list == NULL)
        return -1;
    int status = 0;
    if (!json_is_array(list) || json_array_size(list) == 0)
        status = error_input(err, "%s: expected a list of texts, found %s", c->where,
                             json_is_array(list) ? "an empty one" : json_kind(list));
    for (size_t i = 0; i < json_array_size(list) && status == 0; i++) {
        const json_t *one = json_array_get(list, i);
        if (!json_is_string(one) || json_string_length(one) == 0)
            status = error_input(err, "%s: text %zu: expected some text, found %s", c->where, i,
                                 json_is_string(one) ? "none" : json_kind(one));
        else
            all = regex_or(
                e->grammar.regexes, all,
                regex_literal(e->grammar.regexes, json_string_value(one), json_string_length(one)));
    }
    json_decref(list);
    e->grammar.start = grammar_terminal(&e->grammar, all);
    return status == 0 ? grammar_check(&e->grammar, err) : -1;
}

static int read_regex(struct automaton *e, const struct constraint *c, struct llama3_error *err)
{
    struct llama3_error failure = {.size = sizeof failure};
    regex r = regex_parse(e->grammar.regexes, c->text, c->n, REGEX_WHOLE, &failure);
    if (r == REGEX_NONE && failure.message[0] == '\0' &&
        regexes_failed(e->grammar.regexes, &failure) == 0)
        error_input(&failure, "expected an expression that some text matches, found none");
    if (r == REGEX_NONE)
        return name_text(c, &failure, err);
    e->grammar.start = grammar_terminal(&e->grammar, r);
    return grammar_check(&e->grammar, err);
}

static int read_text(struct automaton *e, const struct constraint *c, struct llama3_error *err)
{
    switch (c->kind) {
    case CONSTRAINT_JSON:
    case CONSTRAINT_OBJECT:
    case CONSTRAINT_SCHEMA:
        return read_schema(e, c, err);
    case CONSTRAINT_REGEX:
        return read_regex(e, c, err);
    case CONSTRAINT_CHOICE:
        return read_choice(e, c, err);
    case CONSTRAINT_GBNF:
        return grammar_gbnf(&e->grammar, c->text, c->n, c->where, err);
    case CONSTRAINT_LARK:
        return grammar_lark(&e->grammar, c->text, c->n, c->where, err);
    }
    return error_input(err, "constraint: expected a known kind, found %d", (int)c->kind);
}

static struct automaton *automaton_open(const struct constraint *c, struct llama3_error *err)
{
    struct automaton *e = size_alloc_for(1, sizeof *e, "the constraint", err);
    if (e == NULL)
        return NULL;
    if (grammar_open(&e->grammar, MAX_MEMORY, err) == 0 && read_text(e, c, err) == 0 &&
        regexes_failed(e->grammar.regexes, err) == 0 &&
        machine_open(&e->machine, &e->grammar, err) == 0 &&
        masker_open(&e->masker, c->vocabulary, err) == 0) {
        if (e->machine.start != STATE_DEAD)
            return e;
        error_input(err, "%s: expected a text that is allowed, found none", c->where);
    }
    automaton_close(e);
    return NULL;
}

/* ---- constraints ---------------------------------------------------------------------------- */

struct constraint *constraint_open(const struct vocabulary *vocabulary, enum constraint_kind kind,
                                   const char *text, size_t n, const char *where,
                                   struct llama3_error *err)
{
    struct constraint *c = size_alloc_for(1, sizeof *c, "the constraint", err);
    if (c == NULL)
        return NULL;
    c->vocabulary = vocabulary;
    c->kind = kind;
    c->n = n;
    c->renew_at = RENEW;
    atomic_init(&c->references, 1);
    pthread_mutex_init(&c->lock, NULL);
    c->text = size_alloc_for(n + 1, 1, "the constraint", err);
    c->where = strdup(where);
    if (c->where == NULL)
        error_memory(err, "the constraint", strlen(where));
    if (c->text != NULL && c->where != NULL) {
        if (n > 0)
            memcpy(c->text, text, n);
        c->automaton = automaton_open(c, err);
    }
    if (c->automaton != NULL)
        return c;
    constraint_close(c);
    return NULL;
}

void constraint_renew_at(struct constraint *c, size_t bytes)
{
    pthread_mutex_lock(&c->lock);
    c->renew_at = bytes;
    pthread_mutex_unlock(&c->lock);
}

unsigned constraint_renewals(struct constraint *c)
{
    pthread_mutex_lock(&c->lock);
    unsigned n = c->renewals;
    pthread_mutex_unlock(&c->lock);
    return n;
}

struct constraint *constraint_ref(struct constraint *c)
{
    atomic_fetch_add(&c->references, 1);
    return c;
}

void constraint_close(struct constraint *c)
{
    if (c == NULL || atomic_fetch_sub(&c->references, 1) > 1)
        return;
    automaton_close(c->automaton);
    pthread_mutex_destroy(&c->lock);
    free(c->text);
    free(c->where);
    free(c);
}

/* ---- matchers ------------------------------------------------------------------------------- */

static void automaton_leave(struct constraint *c, struct automaton *e)
{
    if (--e->matchers == 0 && e != c->automaton)
        automaton_close(e);
}

struct matcher *matcher_open(struct constraint *c, struct llama3_error *err)
{
    struct matcher *m = size_alloc_for(1, sizeof *m + c->vocabulary->n_words * sizeof *m->mask,
                                       "an answer's constraint", err);
    if (m == NULL)
        return NULL;
    m->constraint = constraint_ref(c);
    pthread_mutex_lock(&c->lock);
    m->automaton = c->automaton;
    m->automaton->matchers++;
    m->state = m->automaton->machine.start;
    pthread_mutex_unlock(&c->lock);
    return m;
}

struct matcher *matcher_copy(const struct matcher *from, struct llama3_error *err)
{
    struct matcher *m = matcher_open(from->constraint, err);
    if (m == NULL)
        return NULL;
    buf_add(&m->text, from->text.data, from->text.size);
    if (m->text.failed) {
        error_memory(err, "an answer's constraint", from->text.size);
        matcher_close(m);
        return NULL;
    }
    pthread_mutex_lock(&m->constraint->lock);
    automaton_leave(m->constraint, m->automaton);
    m->automaton = from->automaton;
    m->automaton->matchers++;
    m->state = from->state;
    m->stopped = from->stopped;
    pthread_mutex_unlock(&m->constraint->lock);
    return m;
}

void matcher_close(struct matcher *m)
{
    if (m == NULL)
        return;
    pthread_mutex_lock(&m->constraint->lock);
    automaton_leave(m->constraint, m->automaton);
    pthread_mutex_unlock(&m->constraint->lock);
    constraint_close(m->constraint);
    buf_free(&m->text);
    free(m);
}

/* Steps over bytes as far as they go; returns how many. */
static size_t read_bytes(struct machine *machine, state *s, const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        state to = machine_step(machine, *s, bytes[i]);
        if (to == STATE_DEAD)
            return i;
        *s = to;
    }
    return n;
}

/* Begins a step, under the constraint's lock: with a new parser if the old one is too large. */
static int begin(struct matcher *m, struct llama3_error *err)
{
    struct constraint *c = m->constraint;
    struct automaton *own = m->automaton;
    pthread_mutex_lock(&c->lock);
    if (c->automaton == own &&
        (machine_memory(&own->machine) > c->renew_at || machine_failed(&own->machine, NULL) < 0)) {
        struct automaton *fresh = automaton_open(c, err);
        if (fresh == NULL)
            return -1;
        c->automaton = fresh;
        c->renewals++;
    }
    if (c->automaton != own) {
        struct machine *machine = &c->automaton->machine;
        state s = machine->start;
        c->automaton->matchers++;
        automaton_leave(c, own);
        m->automaton = c->automaton;
        m->state = s;
        machine_allow(machine, UINT64_MAX);
        if (read_bytes(machine, &s, (const uint8_t *)m->text.data, m->text.size) < m->text.size) {
            if (machine_failed(machine, err) == 0)
                error_input(err, "constraint: an answer can't be read again");
            return -1;
        }
        m->state = s;
    }
    machine_allow(&m->automaton->machine, MAX_STATES);
    return 0;
}

static void end(struct matcher *m)
{
    pthread_mutex_unlock(&m->constraint->lock);
}

/* The state's mask, from those that are kept or computed. */
static int find_mask(struct matcher *m, struct llama3_error *err)
{
    struct automaton *e = m->automaton;
    size_t bytes = m->constraint->vocabulary->n_words * sizeof *m->mask;
    struct kept *kept = &e->kept[m->state % N_KEPT];
    if (kept->mask != NULL && kept->state == m->state) {
        memcpy(m->mask, kept->mask, bytes);
        return 0;
    }
    masker_compute(&e->masker, &e->machine, m->state, m->mask);
    if (machine_failed(&e->machine, err) < 0)
        return -1;
    if (kept->mask == NULL)
        kept->mask = malloc(bytes);
    if (kept->mask != NULL) {
        memcpy(kept->mask, m->mask, bytes);
        kept->state = m->state;
    }
    return 0;
}

const uint32_t *matcher_mask(struct matcher *m, struct llama3_error *err)
{
    const struct vocabulary *v = m->constraint->vocabulary;
    if (m->stopped) {
        memcpy(m->mask, v->stop, v->n_words * sizeof *m->mask);
        return m->mask;
    }
    int status = begin(m, err);
    if (status == 0)
        status = find_mask(m, err);
    end(m);
    if (status < 0)
        return NULL;
    for (size_t i = 0; i < v->n_words; i++)
        if (m->mask[i] != 0)
            return m->mask;
    error_input(err, "constraint: expected a token that can say what must follow, found none");
    return NULL;
}

/* Takes bytes as far as they go, or all or none of them. */
static int take(struct matcher *m, const uint8_t *bytes, size_t n, bool whole, size_t *taken,
                struct llama3_error *err)
{
    *taken = 0;
    if (m->stopped)
        return 0;
    int status = begin(m, err);
    if (status == 0) {
        state s = m->state;
        *taken = read_bytes(&m->automaton->machine, &s, bytes, n);
        status = machine_failed(&m->automaton->machine, err);
        if (whole && *taken < n)
            *taken = 0;
        if (status == 0 && *taken > 0) {
            buf_add(&m->text, bytes, *taken);
            m->state = s;
        }
    }
    end(m);
    return status == 0 && m->text.failed ? error_memory(err, "an answer's constraint", n) : status;
}

int matcher_accept_bytes(struct matcher *m, const void *bytes, size_t n, size_t *taken,
                         struct llama3_error *err)
{
    return take(m, bytes, n, false, taken, err);
}

int matcher_accept(struct matcher *m, int32_t token, struct llama3_error *err)
{
    const struct vocabulary *v = m->constraint->vocabulary;
    size_t n, taken;
    if (token < 0 || (size_t)token >= v->size)
        return error_input(err, "constraint: expected a token below %zu, found %d", v->size,
                           (int)token);
    if (mask_has(v->stop, token) && matcher_may_end(m)) {
        m->stopped = true;
        return 0;
    }
    const uint8_t *bytes = tokenizer_bytes(v->tokenizer, token, &n);
    if (mask_has(v->stop, token) || tokenizer_kind(v->tokenizer, token) == TOKEN_CONTROL)
        n = 0;
    if (take(m, bytes, n, true, &taken, err) < 0)
        return -1;
    if (taken == 0)
        return error_input(err, "constraint: expected a token of the mask, found %d", (int)token);
    return 0;
}

bool matcher_may_end(const struct matcher *m)
{
    pthread_mutex_lock(&m->constraint->lock);
    bool may = m->stopped || machine_may_end(&m->automaton->machine, m->state);
    pthread_mutex_unlock(&m->constraint->lock);
    return may;
}

bool matcher_ended(const struct matcher *m)
{
    size_t n;
    pthread_mutex_lock(&m->constraint->lock);
    machine_ways(&m->automaton->machine, m->state, &n);
    pthread_mutex_unlock(&m->constraint->lock);
    return m->stopped || n == 0;
}

size_t matcher_forced(struct matcher *m, uint8_t *bytes, size_t room)
{
    size_t n = 0;
    if (m->stopped)
        return 0;
    if (begin(m, NULL) == 0) {
        struct machine *machine = &m->automaton->machine;
        state s = m->state;
        while (n < room && !machine_may_end(machine, s)) {
            state only = STATE_DEAD;
            int found = 0;
            for (int byte = 0; byte < 256 && found < 2; byte++) {
                state to = machine_step(machine, s, (uint8_t)byte);
                if (to == STATE_DEAD)
                    continue;
                found++;
                only = to;
                bytes[n] = (uint8_t)byte;
            }
            if (found != 1 || machine_failed(machine, NULL) < 0)
                break;
            s = only;
            n++;
        }
    }
    end(m);
    return n;
}
