/* SPDX-License-Identifier: MIT */
#include "config.h"

#include "grammar/machine.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"

enum list_kind { LIST_FRAME, LIST_CONTINUATION, LIST_STATE, LIST_CAPTURE, LIST_DATA };
enum {
    MAX_BLANK = 128,   /* bytes of white space where JSON allows any */
    MAX_DEPTH = 2000,  /* of frames that end at once */
    MAX_WAYS = 1 << 14 /* of one state, and of one continuation */
};

/* ---- failures ------------------------------------------------------------------------------- */

int machine_fail(struct machine *m, enum llama3_code code, const char *format, ...)
{
    char text[200];
    va_list args;
    if (m->failed)
        return -1;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    m->failed = true;
    m->failure.size = sizeof m->failure;
    return error_set(&m->failure, code, "%s", text);
}

int machine_failed(struct machine *m, struct llama3_error *err)
{
    if (!m->failed && m->interner.failed)
        machine_fail(m, LLAMA3_ENOMEM, "constraint: no memory for its states");
    if (!m->failed && regexes_failed(m->regexes, &m->failure) < 0)
        m->failed = true;
    return m->failed ? error_copy(err, &m->failure) : 0;
}

/* ---- text that was read --------------------------------------------------------------------- */

uint32_t capture_begin(struct machine *m, bool string)
{
    return interner_add(&m->interner, LIST_CAPTURE, (uint32_t[]){0, string}, 2);
}

uint32_t capture_add(struct machine *m, uint32_t text, const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        text = interner_add(&m->interner, LIST_CAPTURE, (uint32_t[]){text, bytes[i]}, 2);
    return text;
}

bool capture_read(const struct machine *m, uint32_t text, struct buf *out)
{
    size_t n, length = 0;
    const uint32_t *words = interner_list(&m->interner, text, &n);
    for (; words[0] != 0; words = interner_list(&m->interner, words[0], &n))
        length++;
    bool string = words[1] != 0;

    size_t start = out->size;
    char nul[64] = {0};
    for (size_t left = length; left > 0;) {
        size_t piece = left < sizeof nul ? left : sizeof nul;
        buf_add(out, nul, piece);
        left -= piece;
    }
    if (out->failed)
        return string;
    words = interner_list(&m->interner, text, &n);
    for (size_t i = length; i > 0; i--, words = interner_list(&m->interner, words[0], &n))
        out->data[start + i - 1] = (char)words[1];
    return string;
}

/* ---- frames and continuations --------------------------------------------------------------- */

continuation frame_push(struct machine *m, const struct parse_frame *frame, continuation below)
{
    uint32_t words[] = {frame->kind, frame->stage, frame->schemas, frame->a, frame->b};
    uint32_t id = interner_add(&m->interner, LIST_FRAME, words, 5);
    return interner_add(&m->interner, LIST_CONTINUATION, (uint32_t[]){id, below}, 2);
}

static struct parse_frame read_frame(const struct machine *m, uint32_t id)
{
    size_t n;
    const uint32_t *w = interner_list(&m->interner, id, &n);
    return (struct parse_frame){w[0], w[1], w[2], w[3], w[4]};
}

/* The continuations' frames together: equal ones on the union of what they stand on. */
static continuation unite(struct machine *m, continuation a, continuation b)
{
    size_t n_a, n_b, n = 0, i = 0, j = 0;
    if (a == b)
        return a;
    interner_list(&m->interner, a, &n_a);
    interner_list(&m->interner, b, &n_b);
    if (n_a + n_b > 2 * MAX_WAYS || ++m->depth > MAX_DEPTH) {
        machine_fail(m, LLAMA3_EINPUT, "constraint: expected at most %d ways to go on, found more",
                     MAX_WAYS);
        return a;
    }
    uint32_t *words = malloc((n_a + n_b) * sizeof *words);
    if (words == NULL) {
        machine_fail(m, LLAMA3_ENOMEM, "constraint: no memory for its states");
        m->depth--;
        return a;
    }
    while (i < n_a || j < n_b) {
        const uint32_t *x = interner_list(&m->interner, a, &n_a) + i;
        const uint32_t *y = interner_list(&m->interner, b, &n_b) + j;
        if (j == n_b || (i < n_a && x[0] < y[0])) {
            memcpy(words + n, x, 2 * sizeof *words);
            i += 2;
        } else if (i == n_a || y[0] < x[0]) {
            memcpy(words + n, y, 2 * sizeof *words);
            j += 2;
        } else {
            words[n] = x[0];
            words[n + 1] = unite(m, x[1], y[1]);
            i += 2;
            j += 2;
        }
        n += 2;
    }
    m->depth--;
    continuation both = interner_add(&m->interner, LIST_CONTINUATION, words, n);
    free(words);
    return both;
}

/* ---- ways ----------------------------------------------------------------------------------- */

void items_add(struct machine *m, struct items *items, term t, uint32_t text, continuation after)
{
    if (t == TERM_DEAD)
        return;
    if (items->n == items->capacity) {
        size_t capacity = items->capacity > 0 ? items->capacity * 2 : 16;
        struct item *all = items->n < MAX_WAYS ? realloc(items->all, capacity * sizeof *all) : NULL;
        if (all == NULL) {
            if (items->n >= MAX_WAYS)
                machine_fail(m, LLAMA3_EINPUT,
                             "constraint: expected at most %d ways to go on, found more", MAX_WAYS);
            else
                machine_fail(m, LLAMA3_ENOMEM, "constraint: no memory for its states");
            return;
        }
        items->all = all;
        items->capacity = capacity;
    }
    items->all[items->n++] = (struct item){t, text, after};
}

static int by_item(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    if (x->term != y->term)
        return x->term < y->term ? -1 : 1;
    if (x->text != y->text)
        return x->text < y->text ? -1 : 1;
    return x->after < y->after ? -1 : x->after > y->after;
}

state machine_state(struct machine *m, struct items *items)
{
    uint32_t stack[1 + 4 * 64];
    size_t n = 0;

    if (items->n > 1)
        qsort(items->all, items->n, sizeof *items->all, by_item);
    for (size_t i = 0; i < items->n; i++) {
        struct item *last = n > 0 ? &items->all[n - 1] : NULL;
        const struct item *item = &items->all[i];
        if (last != NULL && last->term == item->term && last->text == item->text)
            last->after = unite(m, last->after, item->after);
        else
            items->all[n++] = *item;
    }
    items->n = n;
    if (m->failed || (n == 0 && !items->ends))
        return STATE_DEAD;

    uint32_t *words = n <= 64 ? stack : malloc((1 + 4 * n) * sizeof *words);
    if (words == NULL) {
        machine_fail(m, LLAMA3_ENOMEM, "constraint: no memory for its states");
        return STATE_DEAD;
    }
    words[0] = items->ends;
    for (size_t i = 0; i < n; i++) {
        const struct item *item = &items->all[i];
        uint32_t *to = words + 1 + 4 * i;
        to[0] = (uint32_t)(item->term >> 32);
        to[1] = (uint32_t)item->term;
        to[2] = item->text;
        to[3] = item->after;
    }
    state s = interner_add(&m->interner, LIST_STATE, words, 1 + 4 * n);
    if (words != stack)
        free(words);
    return s;
}

const uint32_t *machine_ways(const struct machine *m, state s, size_t *n)
{
    const uint32_t *words = interner_list(&m->interner, s, n);
    *n /= 4;
    return words + 1;
}

bool machine_may_end(const struct machine *m, state s)
{
    size_t n;
    return s != STATE_DEAD && interner_list(&m->interner, s, &n)[0] != 0;
}

/* ---- frames --------------------------------------------------------------------------------- */

void resume(struct machine *m, continuation after, uint32_t tag, uint32_t text, struct items *out)
{
    size_t n;
    interner_list(&m->interner, after, &n);
    if (++m->depth > MAX_DEPTH)
        machine_fail(m, LLAMA3_EINPUT, "constraint: expected a nesting of at most %d, found more",
                     MAX_DEPTH);
    for (size_t i = 0; i < n && !m->failed; i += 2) {
        const uint32_t *words = interner_list(&m->interner, after, &n) + i;
        continuation below = words[1];
        struct parse_frame frame = read_frame(m, words[0]);
        frame_resume(m, &frame, below, tag, text, out);
    }
    m->depth--;
}

void frame_after_blank(struct machine *m, const struct parse_frame *frame, continuation below,
                       struct items *out)
{
    items_add(m, out, term_text(m->blank), 0, frame_push(m, frame, below));
    frame_resume(m, frame, below, UINT32_MAX, 0, out);
}

static void node_start(struct machine *m, node id, continuation after, struct items *out)
{
    const struct node x = *grammar_node(m->grammar, id);
    if (m->failed)
        return;
    if (++m->depth > MAX_DEPTH) {
        machine_fail(m, LLAMA3_EINPUT, "constraint: expected a nesting of at most %d, found more",
                     MAX_DEPTH);
        m->depth--;
        return;
    }
    switch ((enum node_kind)x.kind) {
    case NODE_NONE:
        break;
    case NODE_EMPTY:
        resume(m, after, UINT32_MAX, 0, out);
        break;
    case NODE_TERMINAL:
        items_add(m, out, x.min > 0 ? term_lazy(x.a) : term_text(x.a), 0, after);
        break;
    case NODE_JSON:
        value_start(m, x.b, x.a, false, after, out);
        break;
    case NODE_CONCAT: {
        const struct parse_frame next = {.kind = FRAME_NODE, .a = x.b};
        node_start(m, x.a, frame_push(m, &next, after), out);
        break;
    }
    case NODE_OR:
        node_start(m, x.a, after, out);
        node_start(m, x.b, after, out);
        break;
    case NODE_REPEAT: {
        if (x.min == 0)
            resume(m, after, UINT32_MAX, 0, out);
        if (x.max == 0)
            break;
        uint32_t max = x.max == UINT32_MAX ? UINT32_MAX : x.max - 1;
        const struct parse_frame next = {
            .kind = FRAME_NODE,
            .a = grammar_repeat(m->grammar, x.a, x.min > 0 ? x.min - 1 : 0, max)};
        node_start(m, x.a, frame_push(m, &next, after), out);
        break;
    }
    case NODE_RULE:
        node_start(m, x.a, after, out);
        break;
    }
    m->depth--;
}

void frame_resume(struct machine *m, const struct parse_frame *frame, continuation below,
                  uint32_t tag, uint32_t text, struct items *out)
{
    switch ((enum frame_kind)frame->kind) {
    case FRAME_END:
        out->ends = true;
        break;
    case FRAME_NODE:
        node_start(m, frame->a, below, out);
        break;
    case FRAME_VALUE:
        value_start(m, frame->schemas, frame->a, frame->b != 0, below, out);
        break;
    case FRAME_ARRAY:
        array_resume(m, frame, below, text, out);
        break;
    case FRAME_OBJECT:
        object_resume(m, frame, below, tag, text, out);
        break;
    }
}

/* ---- steps ---------------------------------------------------------------------------------- */

/* The way after a byte, and what can be read once its terminal is complete. */
static void step_item(struct machine *m, const struct item *item, uint8_t byte, struct items *out)
{
    uint8_t decoded[4];
    size_t n_decoded;
    term t = term_step(m->regexes, item->term, byte, decoded, &n_decoded);
    uint32_t text = item->text;
    if (t == TERM_DEAD)
        return;
    if (t == TERM_CLOSED) {
        resume(m, item->after, regex_tag(m->regexes, term_regex(item->term)), text, out);
        return;
    }
    if (text != 0)
        text = capture_add(m, text, decoded, n_decoded);
    bool ends = term_may_end(m->regexes, t);
    bool now = ends && (!m->greedy || term_stage(t) == STAGE_LAZY);
    bool only = now && (term_regex(t) == REGEX_EMPTY || term_stage(t) == STAGE_LAZY);
    if (!only)
        items_add(m, out, t, text, item->after);
    if (now)
        resume(m, item->after, UINT32_MAX, text, out);
}

/* A greedy terminal ends where no terminal can go on: the ways from there on, by this byte. */
static void step_ended(struct machine *m, state s, uint8_t byte, struct items *out)
{
    struct items next = {0};
    size_t n;
    machine_ways(m, s, &n);
    for (size_t i = 0; i < n; i++) {
        struct item item = item_of(machine_ways(m, s, &n) + 4 * i);
        if (term_may_end(m->regexes, item.term))
            resume(m, item.after, UINT32_MAX, item.text, &next);
    }
    for (size_t i = 0; i < next.n; i++)
        step_item(m, &next.all[i], byte, out);
    free(next.all);
}

/* Whether the text may end where a greedy terminal may. */
static void end_greedy(struct machine *m, struct items *items)
{
    struct items next = {0};
    for (size_t i = 0; i < items->n && !items->ends; i++) {
        struct item item = items->all[i];
        if (term_may_end(m->regexes, item.term))
            resume(m, item.after, UINT32_MAX, item.text, &next);
        items->ends = next.ends;
    }
    free(next.all);
}

state machine_step(struct machine *m, state s, uint8_t byte)
{
    uint32_t known = interner_step(&m->interner, s, byte);
    if (known != UINT32_MAX)
        return known;
    struct items out = {0};
    size_t n;
    if (m->failed)
        return STATE_DEAD;
    if (m->steps++ >= m->max_steps) {
        machine_fail(m, LLAMA3_EINPUT,
                     "constraint: expected a mask that takes at most %llu states, found more",
                     (unsigned long long)m->max_steps);
        return STATE_DEAD;
    }
    machine_ways(m, s, &n);
    for (size_t i = 0; i < n; i++) {
        struct item item = item_of(machine_ways(m, s, &n) + 4 * i);
        step_item(m, &item, byte, &out);
    }
    if (m->greedy && out.n == 0)
        step_ended(m, s, byte, &out);
    if (m->greedy)
        end_greedy(m, &out);
    state to = machine_state(m, &out);
    free(out.all);
    if (!m->failed)
        interner_set_step(&m->interner, s, byte, to);
    return to;
}

/* The bytes that a term may begin with. */
static void add_first(struct machine *m, term t, struct byte_set *set)
{
    regex r = term_regex(t);
    if (term_stage(t) == STAGE_BEFORE) {
        set->bits['"' / 64] |= UINT64_C(1) << '"' % 64;
        return;
    }
    if (term_stage(t) != STAGE_TEXT && term_stage(t) != STAGE_LAZY) {
        memset(set, 0xff, sizeof *set);
        return;
    }
    struct first_bytes *first = &m->first[r % N_FIRST];
    if (first->r != r) {
        *first = (struct first_bytes){.r = r};
        for (unsigned byte = 0; byte < 256; byte++)
            if (regex_step(m->regexes, r, (uint8_t)byte) != REGEX_NONE)
                first->bytes.bits[byte / 64] |= UINT64_C(1) << byte % 64;
    }
    for (size_t i = 0; i < 4; i++)
        set->bits[i] |= first->bytes.bits[i];
}

struct byte_set machine_first(struct machine *m, state s)
{
    struct byte_set set = {{0}};
    size_t n;
    machine_ways(m, s, &n);
    if (m->greedy) /* behind a terminal that ends, all that may follow it */
        memset(&set, 0xff, sizeof set);
    for (size_t i = 0; i < n && !m->greedy; i++)
        add_first(m, item_of(machine_ways(m, s, &n) + 4 * i).term, &set);
    return set;
}

state machine_after(struct machine *m, const struct item *item, uint32_t tag)
{
    struct items out = {0};
    resume(m, item->after, tag, item->text, &out);
    state s = machine_state(m, &out);
    free(out.all);
    return s;
}

/* ---- opening -------------------------------------------------------------------------------- */

static void make_literals(struct machine *m)
{
    static const char *const names[] = {"null", "false", "true"};
    for (unsigned bits = 0; bits < 8; bits++) {
        m->literals[bits] = REGEX_NONE;
        for (unsigned i = 0; i < 3; i++)
            if ((bits >> i & 1) != 0)
                m->literals[bits] = regex_or(m->regexes, m->literals[bits],
                                             regex_literal(m->regexes, names[i], strlen(names[i])));
    }
    struct byte_set blank = {{0}};
    for (const char *c = " \t\n\r"; *c != '\0'; c++)
        blank.bits[(uint8_t)*c / 64] |= UINT64_C(1) << (uint8_t)*c % 64;
    m->blank = regex_repeat(m->regexes, regex_bytes(m->regexes, &blank), 1, MAX_BLANK);
    m->any_text = regex_text(m->regexes, 0, UINT32_MAX);
}

int machine_open(struct machine *m, struct grammar *grammar, struct llama3_error *err)
{
    *m = (struct machine){.regexes = grammar->regexes,
                          .grammar = grammar,
                          .greedy = grammar->greedy,
                          .schemas = grammar->nodes->schemas,
                          .max_steps = UINT64_MAX};
    if (!interner_open(&m->interner))
        return error_memory(err, "the constraint", sizeof *m);
    make_literals(m);
    struct items items = {0};
    const struct parse_frame end = {.kind = FRAME_END};
    continuation bottom = frame_push(m, &end, 0);
    const struct parse_frame first = {.kind = FRAME_NODE, .a = grammar->start};
    const struct node *start = grammar_node(grammar, grammar->start);
    if (start->kind == NODE_JSON) /* white space may stand before the whole value, too */
        frame_after_blank(m, &first, bottom, &items);
    else
        frame_resume(m, &first, bottom, UINT32_MAX, 0, &items);
    if (m->greedy)
        end_greedy(m, &items);
    m->start = machine_state(m, &items);
    free(items.all);
    return machine_failed(m, err);
}

void machine_close(struct machine *m)
{
    interner_close(&m->interner);
    *m = (struct machine){0};
}

size_t machine_memory(const struct machine *m)
{
    return interner_memory(&m->interner) + regexes_memory(m->regexes);
}

void machine_allow(struct machine *m, uint64_t steps)
{
    m->steps = 0;
    m->max_steps = steps;
}
