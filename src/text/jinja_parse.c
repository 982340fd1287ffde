/* SPDX-License-Identifier: MIT */
/* jinja_parse.c: the grammar, by recursive descent: a function for each level of precedence. */
#include "text/jinja_parse.h"

#include <string.h>

struct template_parser {
    struct jinja_run *run;
    const struct token *token; /* the next one */
    struct names *names;
    int loops;           /* around what is read; none across a macro */
    int fors;            /* the same, across macros too */
    struct macro *macro; /* around it */
};

static struct expr *expression(struct template_parser *p);
static struct stmt *statements(struct template_parser *p, const char *const *ends);

/* ---- tokens -------------------------------------------------------------------------------- */

/* The next token, as an error calls it. */
static const char *found(struct template_parser *p)
{
    static const char *const types[] = {
        [TOKEN_END] = "the end of the template",
        [TOKEN_DATA] = "text",
        [TOKEN_PRINT] = "{{",
        [TOKEN_PRINT_END] = "}}",
        [TOKEN_BLOCK] = "{%",
        [TOKEN_BLOCK_END] = "%}",
        [TOKEN_STRING] = "a string",
        [TOKEN_NUMBER] = "a number",
    };
    const struct token *t = p->token;
    if (t->type == TOKEN_NAME)
        return jinja_quoted(p->run, t->text);
    if (t->type != TOKEN_OPERATOR)
        return types[t->type];
    return jinja_quoted(p->run, jinja_ascii(p->run, (char[]){t->operator, '\0'}).string);
}

_Noreturn static void expected(struct template_parser *p, const char *what)
{
    p->run->line = p->token->line;
    jinja_fail(p->run, "expected %s, found %s", what, found(p));
}

static bool at_operator(const struct template_parser *p, char operator)
{
    return p->token->type == TOKEN_OPERATOR && p->token->operator== operator;
}

static bool at_name(const struct template_parser *p, const char *name)
{
    return p->token->type == TOKEN_NAME && jinja_is(p->token->text, name);
}

static bool skip_operator(struct template_parser *p, char operator)
{
    bool there = at_operator(p, operator);
    p->token += there;
    return there;
}

static bool skip_name(struct template_parser *p, const char *name)
{
    bool there = at_name(p, name);
    p->token += there;
    return there;
}

static void want_operator(struct template_parser *p, char operator)
{
    const char what[] = {'"', operator, '"', '\0'};
    if (!skip_operator(p, operator))
        expected(p, what);
}

static void want(struct template_parser *p, enum token_type type, const char *what)
{
    if (p->token->type != type)
        expected(p, what);
    p->token++;
}

/* The one pointer of a name. */
static const struct jinja_string *intern(struct template_parser *p, const struct jinja_string *name)
{
    struct names *names = p->names;
    for (size_t i = 0; i < names->n; i++)
        if (jinja_same(names->items[i], name))
            return names->items[i];
    if (names->n == names->capacity) {
        size_t capacity = names->capacity * 2 + 16;
        const struct jinja_string **more = jinja_alloc(p->run, capacity, sizeof *more);
        if (names->n > 0)
            memcpy(more, names->items, names->n * sizeof *more);
        names->items = more;
        names->capacity = capacity;
    }
    jinja_work(p->run, names->n);
    return names->items[names->n++] = name;
}

static const struct jinja_string *want_name(struct template_parser *p)
{
    if (p->token->type != TOKEN_NAME)
        expected(p, "a name");
    return intern(p, (p->token++)->text);
}

/* ---- expressions --------------------------------------------------------------------------- */

static struct expr *make(struct template_parser *p, enum expr_kind kind)
{
    struct expr *e = jinja_alloc(p->run, 1, sizeof *e);
    e->kind = kind;
    e->line = p->token->line;
    return e;
}

static struct expr *make_value(struct template_parser *p, struct jinja_value value)
{
    struct expr *e = make(p, EXPR_VALUE);
    e->value = value;
    return e;
}

static struct expr *make_pair(struct template_parser *p, enum expr_kind kind, struct expr *a,
                              struct expr *b)
{
    struct expr *e = make(p, kind);
    e->line = a->line;
    e->a = a;
    e->b = b;
    return e;
}

/* Whether `end` closes: a list may end with a comma. */
static bool closes(struct template_parser *p, bool first, char end)
{
    if (!first && !at_operator(p, end))
        want_operator(p, ',');
    return skip_operator(p, end);
}

static struct expr *list(struct template_parser *p)
{
    struct expr *e = make(p, EXPR_LIST), **last = &e->items;
    p->token++;
    while (!closes(p, e->items == NULL, ']')) {
        *last = expression(p);
        last = &(*last)->next;
    }
    return e;
}

static struct expr *dict(struct template_parser *p)
{
    struct expr *e = make(p, EXPR_DICT), **last = &e->items;
    p->token++;
    while (!closes(p, e->items == NULL, '}')) {
        *last = expression(p);
        want_operator(p, ':');
        (*last)->next = expression(p);
        last = &(*last)->next->next;
    }
    return e;
}

static bool ends_tuple(const struct template_parser *p, const char *end)
{
    return p->token->type == TOKEN_PRINT_END || p->token->type == TOKEN_BLOCK_END ||
           at_operator(p, ')') || (end != NULL && at_name(p, end));
}

/* Expressions with commas between them are a tuple; one without is itself. end: a name that ends
 * it, or NULL. */
static struct expr *tuple_of(struct template_parser *p,
                             struct expr *(*each)(struct template_parser *p), const char *end,
                             bool may_be_empty)
{
    struct expr *tuple = make(p, EXPR_TUPLE), **last = &tuple->items;
    bool is_tuple = false;
    while (!ends_tuple(p, end)) {
        *last = each(p);
        last = &(*last)->next;
        if (!skip_operator(p, ','))
            break;
        is_tuple = true;
    }
    if (is_tuple || (tuple->items == NULL && may_be_empty))
        return tuple;
    if (tuple->items == NULL)
        expected(p, "an expression");
    return tuple->items;
}

static struct expr *tuple(struct template_parser *p)
{
    return tuple_of(p, expression, NULL, false);
}

static struct expr *strings(struct template_parser *p)
{
    struct expr *e = make(p, EXPR_VALUE);
    struct jinja_builder b = {.run = p->run};
    for (; p->token->type == TOKEN_STRING; p->token++)
        jinja_put_chars(&b, p->token->text->chars, p->token->text->n);
    e->value = jinja_built(&b);
    return e;
}

static struct expr *name(struct template_parser *p)
{
    static const struct {
        const char *name;
        int value; /* -1: none */
    } constants[] = {{"true", 1},  {"True", 1},  {"false", 0},
                     {"False", 0}, {"none", -1}, {"None", -1}};
    struct expr *e = make(p, EXPR_NAME);
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++)
        if (skip_name(p, constants[i].name)) {
            e->kind = EXPR_VALUE;
            e->value = constants[i].value < 0 ? jinja_none() : jinja_bool(constants[i].value == 1);
            return e;
        }
    e->name = want_name(p);
    for (struct macro *m = p->macro; m != NULL; m = NULL) {
        m->takes_list = m->takes_list || jinja_is(e->name, "varargs");
        m->takes_dict = m->takes_dict || jinja_is(e->name, "kwargs");
        m->takes_caller = m->takes_caller || jinja_is(e->name, "caller");
    }
    return e;
}

static struct expr *primary(struct template_parser *p)
{
    struct expr *e;
    if (p->token->type == TOKEN_NAME)
        return name(p);
    if (p->token->type == TOKEN_STRING)
        return strings(p);
    if (p->token->type == TOKEN_NUMBER) {
        e = make_value(p, p->token->value);
        p->token++;
        return e;
    }
    if (at_operator(p, '['))
        return list(p);
    if (at_operator(p, '{'))
        return dict(p);
    if (!skip_operator(p, '('))
        expected(p, "an expression");
    e = tuple_of(p, expression, NULL, true);
    want_operator(p, ')');
    return e;
}

/* Between brackets: an expression, or from:to:step. */
static struct expr *subscript(struct template_parser *p)
{
    struct expr *parts[3] = {NULL, NULL, NULL}, *e;
    size_t n = 0;
    if (!at_operator(p, ':'))
        parts[0] = expression(p);
    if (!at_operator(p, ':'))
        return parts[0];
    while (n < 2 && skip_operator(p, ':'))
        if (++n < 3 && !at_operator(p, ':') && !at_operator(p, ']') && !at_operator(p, ','))
            parts[n] = expression(p);
    e = make(p, EXPR_SLICE);
    for (size_t i = 3; i-- > 0;) {
        struct expr *part = parts[i] != NULL ? parts[i] : make_value(p, jinja_none());
        part->next = e->items;
        e->items = part;
    }
    return e;
}

static struct expr *subscripts(struct template_parser *p, struct expr *of)
{
    struct expr *items = make(p, EXPR_TUPLE), **last = &items->items;
    p->token++;
    size_t n = 0;
    while (!closes(p, n == 0, ']')) {
        *last = subscript(p);
        last = &(*last)->next;
        n++;
    }
    return make_pair(p, EXPR_SUBSCRIPT, of, n == 1 ? items->items : items);
}

static struct expr *attribute(struct template_parser *p, struct expr *of)
{
    struct expr *e = make_pair(p, EXPR_ATTRIBUTE, of, NULL);
    p->token++;
    if (p->token->type == TOKEN_NUMBER && p->token->value.type == JINJA_INT) {
        e->kind = EXPR_SUBSCRIPT;
        e->b = make_value(p, p->token->value);
        p->token++;
    } else {
        e->name = want_name(p);
    }
    return e;
}

static struct expr *argument(struct template_parser *p)
{
    struct expr *e;
    const struct jinja_string *named = NULL;
    unsigned passed = skip_operator(p, '*')   ? ARG_LIST
                      : skip_operator(p, 'p') ? ARG_DICT
                                              : ARG_PLAIN;
    if (passed == ARG_PLAIN && p->token->type == TOKEN_NAME && p->token[1].type == TOKEN_OPERATOR &&
        p->token[1].operator== '=') {
        named = want_name(p);
        p->token++;
        passed = ARG_NAMED;
    }
    e = expression(p);
    e->passed = passed;
    e->passed_name = named;
    return e;
}

/* In brackets: plain ones, named ones, at most one list and then at most one dict. */
static struct expr *arguments(struct template_parser *p)
{
    struct expr *first = NULL, **last = &first;
    bool list_seen = false, dict_seen = false, named_seen = false;
    want_operator(p, '(');
    while (!closes(p, first == NULL, ')')) {
        const struct token *at = p->token;
        struct expr *e = argument(p);
        bool wrong = dict_seen || (e->passed == ARG_LIST && list_seen) ||
                     (e->passed == ARG_PLAIN && (list_seen || named_seen));
        if (wrong) {
            p->token = at;
            expected(p, "arguments in the order of Python's");
        }
        list_seen = list_seen || e->passed == ARG_LIST;
        named_seen = named_seen || e->passed == ARG_NAMED;
        dict_seen = e->passed == ARG_DICT;
        *last = e;
        last = &e->next;
    }
    return first;
}

static struct expr *call(struct template_parser *p, struct expr *of)
{
    struct expr *e = make_pair(p, EXPR_CALL, of, NULL);
    e->items = arguments(p);
    return e;
}

static struct expr *postfix(struct template_parser *p, struct expr *e)
{
    for (;;) {
        if (at_operator(p, '.'))
            e = attribute(p, e);
        else if (at_operator(p, '['))
            e = subscripts(p, e);
        else if (at_operator(p, '('))
            e = call(p, e);
        else
            return e;
        jinja_work(p->run, 1);
    }
}

/* A filter's or a test's, which may have dots. */
static const struct jinja_string *dotted(struct template_parser *p)
{
    struct jinja_builder b = {.run = p->run};
    const struct jinja_string *part = want_name(p);
    jinja_put_chars(&b, part->chars, part->n);
    while (skip_operator(p, '.')) {
        part = want_name(p);
        jinja_put(&b, '.');
        jinja_put_chars(&b, part->chars, part->n);
    }
    return jinja_built(&b).string;
}

/* of NULL: of the text of a block. */
static struct expr *filter(struct template_parser *p, struct expr *of)
{
    struct expr *e = make(p, EXPR_FILTER);
    e->a = of;
    e->name = dotted(p);
    if (at_operator(p, '('))
        e->items = arguments(p);
    return e;
}

static bool begins_argument(const struct template_parser *p)
{
    if (p->token->type == TOKEN_NAME)
        return !at_name(p, "else") && !at_name(p, "or") && !at_name(p, "and");
    return p->token->type == TOKEN_STRING || p->token->type == TOKEN_NUMBER ||
           at_operator(p, '[') || at_operator(p, '{');
}

static struct expr *test(struct template_parser *p, struct expr *of)
{
    p->token++;
    bool negated = skip_name(p, "not");
    struct expr *e = make_pair(p, EXPR_TEST, of, NULL);
    e->name = dotted(p);
    if (at_operator(p, '('))
        e->items = arguments(p);
    else if (at_name(p, "is"))
        expected(p, "one test");
    else if (begins_argument(p))
        e->items = postfix(p, primary(p));
    return negated ? make_pair(p, EXPR_NOT, e, NULL) : e;
}

static struct expr *filters(struct template_parser *p, struct expr *e)
{
    for (;;) {
        if (skip_operator(p, '|'))
            e = filter(p, e);
        else if (at_name(p, "is"))
            e = test(p, e);
        else if (at_operator(p, '('))
            e = call(p, e);
        else
            return e;
        jinja_work(p->run, 1);
    }
}

static struct expr *unary(struct template_parser *p, bool with_filters)
{
    struct expr *e;
    if (at_operator(p, '-') || at_operator(p, '+')) {
        e = make(p, EXPR_SIGN);
        e->op = (p->token++)->operator;
        jinja_deeper(p->run);
        e->a = unary(p, false);
        jinja_higher(p->run);
    } else {
        e = primary(p);
    }
    e = postfix(p, e);
    return with_filters ? filters(p, e) : e;
}

/* Operators of one level, from the left. */
static struct expr *binary(struct template_parser *p, const char *operators,
                           struct expr *(*operand)(struct template_parser *p))
{
    struct expr *e = operand(p);
    while (p->token->type == TOKEN_OPERATOR && strchr(operators, p->token->operator) != NULL) {
        char op = (p->token++)->operator;
        e = make_pair(p, EXPR_ARITHMETIC, e, operand(p));
        e->op = op;
    }
    return e;
}

static struct expr *operand(struct template_parser *p)
{
    return unary(p, true);
}

static struct expr *power(struct template_parser *p)
{
    return binary(p, "p", operand);
}

static struct expr *product(struct template_parser *p)
{
    return binary(p, "*/f%", power);
}

static struct expr *concatenation(struct template_parser *p)
{
    struct expr *e = product(p), *whole, **last;
    if (!at_operator(p, '~'))
        return e;
    whole = make(p, EXPR_CONCAT);
    whole->items = e;
    for (last = &e->next; skip_operator(p, '~'); last = &(*last)->next)
        *last = product(p);
    return whole;
}

static struct expr *sum(struct template_parser *p)
{
    return binary(p, "+-", concatenation);
}

/* The operator of a comparison, or 0. */
static char comparison(struct template_parser *p)
{
    char op = 0;
    if (p->token->type == TOKEN_OPERATOR && strchr("en<>lg", p->token->operator) != NULL)
        op = (p->token++)->operator;
    else if (skip_name(p, "in"))
        op = 'i';
    else if (at_name(p, "not") && p->token[1].type == TOKEN_NAME &&
             jinja_is(p->token[1].text, "in")) {
        op = 'o';
        p->token += 2;
    }
    return op;
}

static struct expr *compared(struct template_parser *p)
{
    struct expr *e = sum(p), *whole = NULL, **last = NULL;
    for (char op; (op = comparison(p)) != 0; last = &(*last)->next) {
        if (whole == NULL) {
            whole = make_pair(p, EXPR_COMPARE, e, NULL);
            last = &whole->items;
        }
        *last = make_pair(p, EXPR_COMPARE, sum(p), NULL);
        (*last)->op = op;
    }
    return whole != NULL ? whole : e;
}

static struct expr *negation(struct template_parser *p)
{
    if (!skip_name(p, "not"))
        return compared(p);
    jinja_deeper(p->run);
    struct expr *e = negation(p);
    jinja_higher(p->run);
    return make_pair(p, EXPR_NOT, e, NULL);
}

static struct expr *conjunction(struct template_parser *p)
{
    struct expr *e = negation(p);
    while (skip_name(p, "and"))
        e = make_pair(p, EXPR_AND, e, negation(p));
    return e;
}

static struct expr *disjunction(struct template_parser *p)
{
    struct expr *e = conjunction(p);
    while (skip_name(p, "or"))
        e = make_pair(p, EXPR_OR, e, conjunction(p));
    return e;
}

static struct expr *expression(struct template_parser *p)
{
    jinja_deeper(p->run);
    struct expr *e = disjunction(p);
    while (skip_name(p, "if")) {
        e = make_pair(p, EXPR_IF, e, disjunction(p));
        e->c = skip_name(p, "else") ? expression(p) : NULL;
    }
    jinja_higher(p->run);
    return e;
}

/* ---- targets ------------------------------------------------------------------------------- */

static struct expr *target_part(struct template_parser *p)
{
    struct expr *e = primary(p);
    if (e->kind == EXPR_NAME && at_operator(p, '.')) /* of a namespace */
        return attribute(p, e);
    return e;
}

static void check_target(struct template_parser *p, const struct expr *e, bool may_be_attribute)
{
    bool good = e->kind == EXPR_NAME || e->kind == EXPR_TUPLE ||
                (e->kind == EXPR_ATTRIBUTE && may_be_attribute);
    if (!good)
        expected(p, "a name to assign to");
    if (e->kind == EXPR_NAME && p->fors > 0 && jinja_is(e->name, "loop"))
        expected(p, "another name than loop to assign to in a loop,");
    for (const struct expr *item = e->items; item != NULL; item = item->next)
        check_target(p, item, may_be_attribute);
}

static struct expr *target(struct template_parser *p, const char *end, bool may_be_attribute)
{
    struct expr *e = tuple_of(p, may_be_attribute ? target_part : primary, end, false);
    check_target(p, e, may_be_attribute);
    return e;
}

/* ---- statements ---------------------------------------------------------------------------- */

static struct stmt *make_stmt(struct template_parser *p, enum stmt_kind kind)
{
    struct stmt *s = jinja_alloc(p->run, 1, sizeof *s);
    s->kind = kind;
    s->line = p->token->line;
    return s;
}

/* Behind the head of a statement that has a body; a colon as in Python is allowed. */
static void begin_body(struct template_parser *p)
{
    skip_operator(p, ':');
    want(p, TOKEN_BLOCK_END, "%}");
}

/* Up to {% END %}, which is read but for its end. */
static struct stmt *body(struct template_parser *p, const char *end)
{
    const char *const ends[] = {end, NULL};
    begin_body(p);
    struct stmt *s = statements(p, ends);
    p->token++;
    return s;
}

static struct stmt *if_stmt(struct template_parser *p)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    struct stmt *s = make_stmt(p, STMT_IF);
    s->value = tuple_of(p, disjunction, NULL, false);
    begin_body(p);
    s->body = statements(p, ends);
    if (skip_name(p, "elif")) {
        jinja_deeper(p->run);
        s->otherwise = if_stmt(p);
        jinja_higher(p->run);
    } else if (skip_name(p, "else")) {
        s->otherwise = body(p, "endif");
    } else {
        p->token++;
    }
    return s;
}

static struct stmt *for_stmt(struct template_parser *p)
{
    static const char *const ends[] = {"endfor", "else", NULL};
    struct stmt *s = make_stmt(p, STMT_FOR);
    int loops = p->loops;
    p->fors++;
    s->target = target(p, "in", false);
    if (!skip_name(p, "in"))
        expected(p, "\"in\"");
    s->value = tuple_of(p, disjunction, "recursive", false);
    s->test = skip_name(p, "if") ? expression(p) : NULL;
    s->recursive = skip_name(p, "recursive");
    begin_body(p);
    p->loops++;
    s->body = statements(p, ends);
    p->loops = s->recursive ? 0 : loops; /* a break there ends the loop around this one */
    if (skip_name(p, "else"))
        s->otherwise = body(p, "endfor");
    else
        p->token++;
    p->loops = loops;
    p->fors--;
    return s;
}

static struct stmt *set_stmt(struct template_parser *p)
{
    struct stmt *s = make_stmt(p, STMT_SET);
    s->target = target(p, NULL, true);
    if (skip_operator(p, '=')) {
        s->value = tuple(p);
        return s;
    }
    s->kind = STMT_SET_BLOCK;
    while (skip_operator(p, '|'))
        s->value = filter(p, s->value);
    s->body = body(p, "endset");
    return s;
}

/* A macro's parameters and body; what it is called by stands before. */
static void signature(struct template_parser *p, struct macro *m)
{
    struct expr **last = &m->parameters;
    bool defaults = false;
    want_operator(p, '(');
    while (!closes(p, m->parameters == NULL, ')')) {
        struct expr *parameter = make(p, EXPR_NAME);
        parameter->name = want_name(p);
        for (const struct expr *e = m->parameters; e != NULL; e = e->next)
            if (e->name == parameter->name)
                expected(p, "each parameter once,");
        jinja_work(p->run, m->n_parameters);
        if (skip_operator(p, '='))
            parameter->a = expression(p);
        if (defaults && parameter->a == NULL)
            expected(p, "a default, as of the parameter before,");
        defaults = parameter->a != NULL;
        *last = parameter;
        last = &parameter->next;
        m->n_parameters++;
    }
}

static void macro_body(struct template_parser *p, struct macro *m, const char *end)
{
    struct macro *outer = p->macro;
    int loops = p->loops;
    p->macro = m;
    p->loops = 0;
    m->body = body(p, end);
    p->macro = outer;
    p->loops = loops;
    if (outer != NULL) { /* what is mentioned inside is mentioned */
        outer->takes_list = outer->takes_list || m->takes_list;
        outer->takes_dict = outer->takes_dict || m->takes_dict;
        outer->takes_caller = outer->takes_caller || m->takes_caller;
    }
}

static struct stmt *macro_stmt(struct template_parser *p)
{
    struct stmt *s = make_stmt(p, STMT_MACRO);
    s->macro = jinja_alloc(p->run, 1, sizeof *s->macro);
    s->macro->name = want_name(p);
    signature(p, s->macro);
    macro_body(p, s->macro, "endmacro");
    return s;
}

static struct stmt *call_stmt(struct template_parser *p)
{
    struct stmt *s = make_stmt(p, STMT_CALL);
    s->macro = jinja_alloc(p->run, 1, sizeof *s->macro);
    s->macro->name = jinja_ascii(p->run, "caller").string;
    if (at_operator(p, '('))
        signature(p, s->macro);
    s->value = expression(p);
    if (s->value->kind != EXPR_CALL)
        expected(p, "a call");
    macro_body(p, s->macro, "endcall");
    return s;
}

static struct stmt *filter_stmt(struct template_parser *p)
{
    struct stmt *s = make_stmt(p, STMT_FILTER);
    s->value = filter(p, NULL);
    while (skip_operator(p, '|'))
        s->value = filter(p, s->value);
    s->body = body(p, "endfilter");
    return s;
}

static struct stmt *with_stmt(struct template_parser *p)
{
    struct stmt *s = make_stmt(p, STMT_WITH);
    struct expr **last_target = &s->target, **last_value = &s->value;
    while (p->token->type != TOKEN_BLOCK_END) {
        if (s->target != NULL)
            want_operator(p, ',');
        *last_target = target(p, NULL, false);
        want_operator(p, '=');
        *last_value = expression(p);
        last_target = &(*last_target)->next;
        last_value = &(*last_value)->next;
    }
    s->body = body(p, "endwith");
    return s;
}

static struct stmt *generation_stmt(struct template_parser *p)
{
    struct stmt *s = make_stmt(p, STMT_SCOPE);
    int loops = p->loops;
    p->loops = 0; /* it is a call block in Python */
    s->body = body(p, "endgeneration");
    p->loops = loops;
    return s;
}

/* No other template extends this one, so that a block is where it stands. */
static struct stmt *block_stmt(struct template_parser *p)
{
    struct stmt *s = make_stmt(p, STMT_BLOCK);
    const struct jinja_string *name = want_name(p);
    int loops = p->loops;
    p->loops = 0;
    if (skip_name(p, "scoped"))
        s->kind = STMT_SCOPE;
    s->body = body(p, "endblock");
    if (p->token->type == TOKEN_NAME && want_name(p) != name)
        expected(p, "the name of the block before");
    p->loops = loops;
    return s;
}

static _Noreturn struct stmt *other_template(struct template_parser *p)
{
    p->token--;
    expected(p, "a template without others, which can't be loaded");
}

static struct stmt *loop_control(struct template_parser *p, enum stmt_kind kind)
{
    if (p->loops == 0)
        expected(p, "a loop around break and continue");
    return make_stmt(p, kind);
}

static struct stmt *break_stmt(struct template_parser *p)
{
    return loop_control(p, STMT_BREAK);
}

static struct stmt *continue_stmt(struct template_parser *p)
{
    return loop_control(p, STMT_CONTINUE);
}

static struct stmt *print_stmt(struct template_parser *p)
{
    struct stmt *first = NULL, **last = &first;
    while (p->token->type != TOKEN_BLOCK_END) {
        if (first != NULL)
            want_operator(p, ',');
        *last = make_stmt(p, STMT_PRINT);
        (*last)->value = expression(p);
        last = &(*last)->next;
    }
    return first;
}

/* What stands behind {%; its end is still to come. */
static struct stmt *statement(struct template_parser *p)
{
    static const struct {
        const char *name;
        struct stmt *(*parse)(struct template_parser *p);
    } kinds[] = {
        {"if", if_stmt},
        {"for", for_stmt},
        {"set", set_stmt},
        {"macro", macro_stmt},
        {"call", call_stmt},
        {"filter", filter_stmt},
        {"with", with_stmt},
        {"break", break_stmt},
        {"continue", continue_stmt},
        {"print", print_stmt},
        {"generation", generation_stmt},
        {"block", block_stmt},
        {"extends", other_template},
        {"include", other_template},
        {"import", other_template},
        {"from", other_template},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (skip_name(p, kinds[i].name)) {
            jinja_deeper(p->run);
            struct stmt *s = kinds[i].parse(p);
            jinja_higher(p->run);
            return s;
        }
    expected(p, "a statement");
}

static bool at_end(const struct template_parser *p, const char *const *ends)
{
    for (size_t i = 0; ends[i] != NULL; i++)
        if (at_name(p, ends[i]))
            return true;
    return false;
}

/* Up to a tag that begins with one of the names (read are those before it), or to the end. */
static struct stmt *statements(struct template_parser *p, const char *const *ends)
{
    struct stmt *first = NULL, **last = &first;
    for (;;) {
        p->run->line = p->token->line;
        if (p->token->type == TOKEN_END) {
            if (ends[0] != NULL)
                expected(p, ends[0]);
            return first;
        }
        if (p->token->type == TOKEN_DATA) {
            *last = make_stmt(p, STMT_DATA);
            (*last)->text = (p->token++)->text;
        } else if (p->token->type == TOKEN_PRINT) {
            p->token++;
            *last = make_stmt(p, STMT_PRINT);
            (*last)->value = tuple(p);
            want(p, TOKEN_PRINT_END, "}}");
        } else {
            p->token++;
            if (at_end(p, ends))
                return first;
            *last = statement(p);
            want(p, TOKEN_BLOCK_END, "%}");
        }
        while (*last != NULL)
            last = &(*last)->next;
    }
}

/* ---- what Jinja finds out before it runs ---------------------------------------------------- */

static void check_exprs(struct jinja_run *run, const struct expr *e, bool may_be_skipped);

/* A filter or a test that doesn't exist is an error even where it is not reached, but for what an
 * `if` may skip. */
static void check_expr(struct jinja_run *run, const struct expr *e, bool may_be_skipped)
{
    bool skipped = may_be_skipped || e->kind == EXPR_IF;
    run->line = e->line;
    if (!may_be_skipped && ((e->kind == EXPR_FILTER && jinja_filter(e->name) == NULL) ||
                            (e->kind == EXPR_TEST && jinja_test(e->name) == NULL)))
        jinja_fail(run, "expected a %s, found %s", e->kind == EXPR_FILTER ? "filter" : "test",
                   jinja_quoted(run, e->name));
    check_exprs(run, e->a, skipped);
    check_exprs(run, e->b, skipped);
    check_exprs(run, e->c, skipped);
    check_exprs(run, e->items, skipped);
}

static void check_exprs(struct jinja_run *run, const struct expr *e, bool may_be_skipped)
{
    for (; e != NULL; e = e->next)
        check_expr(run, e, may_be_skipped);
}

static void check_stmts(struct jinja_run *run, const struct stmt *s, bool may_be_skipped)
{
    for (; s != NULL; s = s->next) {
        bool skipped = s->kind == STMT_IF;
        bool inside = s->kind == STMT_SET_BLOCK || s->kind == STMT_FILTER; /* its filters */
        check_exprs(run, s->value, skipped || (may_be_skipped && !inside));
        check_exprs(run, s->test, false);
        if (s->macro != NULL) {
            check_exprs(run, s->macro->parameters, false);
            check_stmts(run, s->macro->body, false);
        }
        check_stmts(run, s->body, skipped);
        check_stmts(run, s->otherwise, skipped);
    }
}

void jinja_parse(struct jinja_run *run, const uint32_t *chars, size_t n, struct tree *tree)
{
    static const char *const no_end[] = {NULL};
    struct template_parser p = {.run = run, .names = &tree->names};
    p.token = jinja_lex(run, chars, n);
    tree->body = statements(&p, no_end);
    check_stmts(run, tree->body, false);
    jinja_hide_names(run, tree);
}
