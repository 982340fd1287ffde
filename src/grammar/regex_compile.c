/* SPDX-License-Identifier: MIT */
/*
 * regex_compile.c: a pattern with what follows it, as one expression.
 *
 * An assertion looks at the text on both sides of a place. What follows is an expression, so a look
 * ahead is a conjunction with it. What is before is known by its last character's kind, so there is
 * a following expression for each kind. A repetition whose body has assertions can't be an
 * expression of its own: it is a loop, whose body is followed by the loop.
 */
#include "grammar/regex_pattern.h"

/* Kinds of what is before a place. */
enum before { AT_START, AFTER_LINE, AFTER_WORD, AFTER_OTHER, N_BEFORE };

/* What follows, for each kind; and the same where the innermost loop's round has taken nothing so
 * far: it may not begin again there. */
struct rest {
    regex at[2 * N_BEFORE];
};

enum { MAX_COPIES = 1000 };

static struct rest compile(struct pattern *p, uint32_t node, const struct rest *k);

static struct pattern_node *part(struct pattern *p, uint32_t i)
{
    return &((struct pattern_node *)p->nodes.items)[i];
}

static struct rest same(regex r)
{
    struct rest k;
    for (int i = 0; i < 2 * N_BEFORE; i++)
        k.at[i] = r;
    return k;
}

/* Whether what follows a character doesn't depend on the character. */
static bool alike(const struct rest *k)
{
    return k->at[AFTER_LINE] == k->at[AFTER_WORD] && k->at[AFTER_LINE] == k->at[AFTER_OTHER];
}

/* ---- without assertions --------------------------------------------------------------------- */

static regex plain(struct pattern *p, uint32_t i)
{
    struct pattern_node *n = part(p, i);
    struct regexes *all = p->all;
    regex r = REGEX_EMPTY;
    if (n->made)
        return n->r;
    if (n->kind == PATTERN_REPEAT) {
        r = re_repeat(all, plain(p, n->child), n->min, n->max);
    } else if (n->kind == PATTERN_SEQUENCE) {
        for (uint32_t child = n->child; child != 0; child = part(p, child)->before)
            r = re_concat(all, plain(p, child), r);
    } else {
        size_t base = all->scratch.n;
        for (uint32_t child = n->child; child != 0; child = part(p, child)->before)
            regex_push(all, plain(p, child));
        r = re_or_list(all, base);
    }
    n = part(p, i);
    n->made = true;
    n->r = r;
    return r;
}

/* Those strings of r that aren't empty. */
static regex not_empty(struct regexes *all, regex r)
{
    return regex_nullable(all, r) ? re_and(all, r, re_not(all, REGEX_EMPTY)) : r;
}

/* r, behind which the text goes on in one way if r has taken something. */
static struct rest then(struct pattern *p, regex r, const struct rest *k)
{
    struct regexes *all = p->all;
    regex after = k->at[AFTER_OTHER];
    struct rest result;
    for (int i = 0; i < 2 * N_BEFORE; i++) {
        if (k->at[i] == after || !regex_nullable(all, r))
            result.at[i] = re_concat(all, r, after);
        else
            result.at[i] = re_or(all, re_concat(all, not_empty(all, r), after), k->at[i]);
    }
    return result;
}

/* One character of a class, and of one kind. */
static regex of_kind(struct pattern *p, regex r, enum before kind)
{
    struct regexes *all = p->all;
    regex of = p->classes[kind];
    if (regex_node(all, r)->kind != KIND_BYTES)
        return regex_and(all, r, of);
    struct byte_set set = {{0}}, of_class = regex_set(all, regex_node(all, r));
    for (unsigned byte = 0; byte < 256; byte++)
        if (byte_set_has(&of_class, (uint8_t)byte) &&
            regex_nullable(all, regex_step(all, of, (uint8_t)byte)))
            byte_set_add(&set, byte, byte);
    return regex_bytes(all, &set);
}

static struct rest compile_chars(struct pattern *p, regex r, const struct rest *k)
{
    if (alike(k))
        return same(re_concat(p->all, r, k->at[AFTER_OTHER]));
    size_t base = p->all->scratch.n;
    for (int kind = AFTER_LINE; kind < N_BEFORE; kind++)
        regex_push(p->all, re_concat(p->all, of_kind(p, r, (enum before)kind), k->at[kind]));
    return same(re_or_list(p->all, base));
}

/* ---- repetition ----------------------------------------------------------------------------- */

static struct rest or_rest(struct pattern *p, const struct rest *a, const struct rest *b)
{
    struct rest result;
    for (int i = 0; i < 2 * N_BEFORE; i++)
        result.at[i] = re_or(p->all, a->at[i], b->at[i]);
    return result;
}

static struct rest compile_loop(struct pattern *p, uint32_t child, const struct rest *k)
{
    struct rest loop = same(REGEX_NONE);
    for (int i = 0; i < N_BEFORE; i++)
        loop.at[i] = regex_open_loop(p->all, regex_nullable(p->all, k->at[i]));
    struct rest body = compile(p, child, &loop), result = loop;
    for (int i = 0; i < N_BEFORE; i++) {
        regex round = body.at[N_BEFORE + i];
        regex_close_loop(p->all, loop.at[i], re_or(p->all, k->at[i], round));
        result.at[N_BEFORE + i] = re_or(p->all, k->at[N_BEFORE + i], round);
    }
    return result;
}

static struct rest compile_repeat(struct pattern *p, const struct pattern_node *n,
                                  const struct rest *k)
{
    struct rest r = *k;
    uint32_t optional = n->max == REGEX_INFINITE ? 0 : n->max - n->min;
    if (n->min > MAX_COPIES || optional > MAX_COPIES) {
        pattern_error(p, p->n, "fewer repetitions of what stands beside an assertion");
        return same(REGEX_NONE);
    }
    if (n->max == REGEX_INFINITE)
        r = compile_loop(p, n->child, k);
    for (uint32_t i = 0; i < optional && !p->failed; i++) {
        struct rest once = compile(p, n->child, &r);
        r = or_rest(p, k, &once);
    }
    for (uint32_t i = 0; i < n->min && !p->failed; i++)
        r = compile(p, n->child, &r);
    return r;
}

/* ---- assertions ----------------------------------------------------------------------------- */

/* Text that begins with a character of a word, or doesn't. */
static regex word_next(struct pattern *p, bool word)
{
    struct regexes *all = p->all;
    if (word)
        return re_concat(all, p->classes[AFTER_WORD], all->text);
    regex other = re_or(all, p->classes[AFTER_LINE], p->classes[AFTER_OTHER]);
    return re_optional(all, re_concat(all, other, all->text));
}

static struct rest compile_assertion(struct pattern *p, const struct pattern_node *n,
                                     const struct rest *k)
{
    struct regexes *all = p->all;
    struct rest ahead = same(REGEX_EMPTY), result;
    if (n->kind == PATTERN_AHEAD) {
        struct rest any = same(all->text);
        ahead = compile(p, n->child, &any);
    }
    for (int i = 0; i < 2 * N_BEFORE; i++) {
        int kind = i % N_BEFORE;
        regex next = REGEX_NONE;
        switch ((enum pattern_kind)n->kind) {
        case PATTERN_START:
            next = kind == AT_START || (n->what && kind == AFTER_LINE) ? all->text : next;
            break;
        case PATTERN_END:
            next = n->what ? re_optional(all, re_concat(all, p->classes[AFTER_LINE], all->text))
                           : (regex)REGEX_EMPTY;
            break;
        case PATTERN_WORD:
            next = word_next(p, (kind == AFTER_WORD) == n->what);
            break;
        default:
            next = n->what ? re_not(all, ahead.at[kind]) : ahead.at[kind];
        }
        result.at[i] = re_and(all, k->at[i], next);
    }
    return result;
}

/* ---- all ------------------------------------------------------------------------------------ */

static struct rest compile_children(struct pattern *p, const struct pattern_node *n,
                                    const struct rest *k)
{
    bool sequence = n->kind == PATTERN_SEQUENCE;
    struct rest result = sequence ? *k : same(REGEX_NONE);
    for (uint32_t child = n->child; child != 0 && !p->failed; child = part(p, child)->before) {
        struct rest one = compile(p, child, sequence ? &result : k);
        result = sequence ? one : or_rest(p, &result, &one);
    }
    return result;
}

static struct rest compile(struct pattern *p, uint32_t i, const struct rest *k)
{
    const struct pattern_node n = *part(p, i);
    if (p->failed || p->all->failed)
        return same(REGEX_NONE);
    if (++p->work > PATTERN_MAX_WORK) {
        pattern_error(p, p->n, "fewer repetitions of what stands beside an assertion");
        return same(REGEX_NONE);
    }
    if (n.plain && alike(k))
        return then(p, plain(p, i), k);
    switch ((enum pattern_kind)n.kind) {
    case PATTERN_EMPTY:
        return *k;
    case PATTERN_CHARS:
        return compile_chars(p, n.r, k);
    case PATTERN_SEQUENCE:
    case PATTERN_EITHER:
        return compile_children(p, &n, k);
    case PATTERN_REPEAT:
        return compile_repeat(p, &n, k);
    default:
        return compile_assertion(p, &n, k);
    }
}

/* Characters by what they are before a place. */
static void make_classes(struct pattern *p)
{
    pattern_add(p, '\n', '\n');
    p->classes[AFTER_LINE] = pattern_take(p, false);
    pattern_add_words(p, false);
    p->classes[AFTER_WORD] = pattern_take(p, false);
    pattern_add_words(p, false);
    pattern_add(p, '\n', '\n');
    p->classes[AFTER_OTHER] = pattern_take(p, true);
}

regex regex_compile(struct pattern *p, uint32_t root)
{
    struct regexes *all = p->all;
    bool within = p->syntax == REGEX_ECMA;
    struct rest end = same(within ? all->text : (regex)REGEX_EMPTY);
    p->fold = false;
    if (!part(p, root)->plain)
        make_classes(p);
    struct rest found = compile(p, root, &end);
    regex r = found.at[AT_START];
    if (within && alike(&found) && found.at[AFTER_OTHER] == r) {
        r = re_concat(all, all->text, r);
    } else if (within) {
        /* At the start, or behind a character of each kind. */
        size_t base = all->scratch.n;
        regex_push(all, r);
        for (int kind = AFTER_LINE; kind < N_BEFORE; kind++)
            if (!alike(&found))
                regex_push(all, re_concat(all, all->text,
                                          re_concat(all, p->classes[kind], found.at[kind])));
        if (alike(&found))
            regex_push(all, re_concat(all, re_repeat(all, all->character, 1, REGEX_INFINITE),
                                      found.at[AFTER_OTHER]));
        r = re_or_list(all, base);
    }
    return p->failed ? (regex)REGEX_NONE : regex_settle(all, r);
}
