/* SPDX-License-Identifier: MIT */
/*
 * regex_step.c: derivatives, and whether anything is left to match.
 *
 * With a derivative come the bytes that have the same one, so that a row of 256 is filled by as
 * many computations as it has different classes. Nodes inside of others keep rows as well, where
 * several states share them.
 */
#include "grammar/regex_parts.h"

#include "base/size.h"

static const struct byte_set all_bytes = {{UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX}};

/* ---- rows ---------------------------------------------------------------------------------- */

/* The row of a node; NULL: failed. */
static uint32_t *make_row(struct regexes *all, regex r)
{
    if (all->nodes[r].row != 0)
        return regex_row_of(all, all->nodes[r].row - 1);
    if (all->n_rows / REGEX_ROWS == all->rows.n) {
        if (!regex_room(all, &all->rows, 1, sizeof(uint32_t *)))
            return NULL;
        uint32_t *block = regex_alloc(all, REGEX_ROWS * 256, sizeof *block);
        if (block == NULL)
            return NULL;
        ((uint32_t **)all->rows.items)[all->rows.n++] = block;
    }
    uint32_t *row = regex_row_of(all, (uint32_t)all->n_rows);
    memset(row, 0xff, 256 * sizeof *row); /* REGEX_UNKNOWN */
    all->nodes[r].row = (uint32_t)++all->n_rows;
    return row;
}

static void fill(uint32_t *row, const struct byte_set *bytes, regex value)
{
    for (unsigned word = 0; word < 4; word++)
        for (uint64_t bits = bytes->bits[word]; bits != 0; bits &= bits - 1)
            row[word * 64 + (unsigned)__builtin_ctzll(bits)] = value;
}

/* The bytes that have a value. */
static struct byte_set those_with(const uint32_t *row, regex value)
{
    struct byte_set set;
    for (unsigned word = 0; word < 4; word++) {
        uint64_t bits = 0;
        for (unsigned i = 0; i < 64; i++)
            bits |= (uint64_t)(row[word * 64 + i] == value) << i;
        set.bits[word] = bits;
    }
    return set;
}

/* ---- derivatives --------------------------------------------------------------------------- */

static regex derive(struct regexes *all, regex r, uint8_t byte, struct byte_set *same);

/* Whether several states are likely to ask a node for the same. */
static bool shared(const struct regexes *all, const struct regex_node *n)
{
    switch (n->kind) {
    case KIND_OR:
    case KIND_AND:
    case KIND_LOOP:
        return true;
    case KIND_CONCAT:
        return regex_node(all, n->a)->kind != KIND_BYTES;
    default:
        return false;
    }
}

/* The derivative of a part, whose row remembers it. */
static regex derive_part(struct regexes *all, regex r, uint8_t byte, struct byte_set *same)
{
    struct byte_set of_part = all_bytes;
    if (!shared(all, regex_node(all, r)))
        return derive(all, r, byte, same);
    uint32_t *row = make_row(all, r);
    if (row == NULL)
        return REGEX_NONE;
    regex found = row[byte];
    if (found != REGEX_UNKNOWN) {
        of_part = those_with(row, found);
    } else {
        found = derive(all, r, byte, &of_part);
        if (!all->searching)
            found = regex_settle(all, found);
        row = make_row(all, r);
        if (all->failed || row == NULL)
            return REGEX_NONE;
        fill(row, &of_part, found);
        if (all->searching && all->nodes[found].life == LIFE_UNKNOWN) {
            if (!regex_room(all, &all->raw, 1, sizeof(uint32_t)))
                return REGEX_NONE;
            ((uint32_t *)all->raw.items)[all->raw.n++] = all->nodes[r].row - 1;
        }
    }
    byte_set_narrow(same, &of_part, 0);
    return found;
}

/* A chain may be long and its heads nullable, so its tails are a loop. */
static regex derive_concat(struct regexes *all, regex r, uint8_t byte, struct byte_set *same)
{
    size_t base = all->scratch.n;
    for (;;) {
        struct regex_node n = *regex_node(all, r);
        if (n.kind != KIND_CONCAT) {
            regex_push(all, derive_part(all, r, byte, same));
            break;
        }
        bool more = regex_node(all, n.a)->nullable;
        regex head = derive_part(all, n.a, byte, same);
        if (head != REGEX_NONE)
            regex_push(all, re_concat(all, head, n.b));
        if (!more || all->failed)
            break;
        r = n.b;
    }
    return re_or_list(all, base);
}

static regex derive_list(struct regexes *all, const struct regex_node *n, uint8_t byte,
                         struct byte_set *same)
{
    size_t base = all->scratch.n;
    for (uint32_t i = 0; i < n->b && !all->failed; i++) {
        regex r = derive_part(all, regex_args(all, n)[i], byte, same);
        if (r == REGEX_NONE && n->kind == KIND_AND) {
            all->scratch.n = base;
            return REGEX_NONE;
        }
        regex_push(all, r);
    }
    return n->kind == KIND_OR ? re_or_list(all, base) : re_and_list(all, base);
}

/* Narrows *same to bytes that have the same derivative as this one. */
static regex derive(struct regexes *all, regex r, uint8_t byte, struct byte_set *same)
{
    struct regex_node n = *regex_node(all, r);
    if (all->failed)
        return REGEX_NONE;
    switch ((enum regex_kind)n.kind) {
    case KIND_NONE:
    case KIND_EMPTY:
        return REGEX_NONE;
    case KIND_BYTES: {
        struct byte_set set = regex_set(all, &n);
        bool has = byte_set_has(&set, byte);
        byte_set_narrow(same, &set, has ? 0 : UINT64_MAX);
        return has ? REGEX_EMPTY : REGEX_NONE;
    }
    case KIND_CONCAT:
        return derive_concat(all, r, byte, same);
    case KIND_OR:
    case KIND_AND:
        return derive_list(all, &n, byte, same);
    case KIND_NOT:
        return re_not(all, derive_part(all, n.a, byte, same));
    case KIND_REPEAT: {
        regex once = derive_part(all, n.a, byte, same);
        if (once == REGEX_NONE)
            return REGEX_NONE;
        uint32_t max = n.c == REGEX_INFINITE ? REGEX_INFINITE : n.c - 1;
        return re_concat(all, once, re_repeat(all, n.a, n.b > 0 ? n.b - 1 : 0, max));
    }
    case KIND_STRINGS:
        return regex_strings_step(all, r, byte, same);
    case KIND_MULTIPLE:
        return regex_multiple_step(all, r, byte, same);
    case KIND_LOOP:
        return derive_part(all, n.c, byte, same);
    }
    return REGEX_NONE;
}

/* ---- whether a language is empty ----------------------------------------------------------- */

/* A node that is searched from, and the bytes that were tried. */
struct place {
    regex r;
    struct byte_set tried;
};

static int untried(const struct byte_set *tried)
{
    for (int word = 0; word < 4; word++)
        if (tried->bits[word] != UINT64_MAX)
            return word * 64 + __builtin_ctzll(~tried->bits[word]);
    return -1;
}

/* Derivatives that a search wrote to rows before their languages were known to be something. */
static void clean_rows(struct regexes *all)
{
    for (size_t i = 0; i < all->raw.n; i++) {
        uint32_t *row = regex_row_of(all, ((uint32_t *)all->raw.items)[i]);
        for (unsigned byte = 0; byte < 256; byte++) {
            if (row[byte] == REGEX_UNKNOWN || all->nodes[row[byte]].life == LIFE_LIVE)
                continue;
            row[byte] =
                all->nodes[row[byte]].life == LIFE_DEAD ? (uint32_t)REGEX_NONE : REGEX_UNKNOWN;
        }
    }
    all->raw.n = 0;
}

/* Goes down the derivatives until one is known to match something, or none is left: then all that
 * were met match nothing. */
static void search(struct regexes *all, regex from)
{
    struct regex_vector path = {0}, met = {0};
    uint32_t mark = ++all->searches;
    bool live = false;
    regex next = from;
    all->searching = true;
    while (!all->failed) {
        if (next != REGEX_NONE) {
            if (!regex_room(all, &path, 1, sizeof(struct place)) ||
                !regex_room(all, &met, 1, sizeof(regex)))
                break;
            ((struct place *)path.items)[path.n++] = (struct place){.r = next};
            ((regex *)met.items)[met.n++] = next;
            all->nodes[next].mark = mark;
        }
        if (path.n == 0)
            break;
        struct place *top = (struct place *)path.items + path.n - 1;
        int byte = untried(&top->tried);
        next = REGEX_NONE;
        if (byte < 0) {
            path.n--;
            continue;
        }
        struct byte_set same = all_bytes;
        next = derive(all, top->r, (uint8_t)byte, &same);
        for (int i = 0; i < 4; i++)
            top->tried.bits[i] |= same.bits[i];
        if (all->nodes[next].life == LIFE_LIVE) {
            live = true;
            break;
        }
        if (all->nodes[next].mark == mark || all->nodes[next].life == LIFE_DEAD)
            next = REGEX_NONE;
    }
    all->searching = false;
    if (!all->failed) {
        for (size_t i = 0; live && i < path.n; i++)
            all->nodes[((struct place *)path.items)[i].r].life = LIFE_LIVE;
        for (size_t i = 0; !live && i < met.n; i++)
            all->nodes[((regex *)met.items)[i]].life = LIFE_DEAD;
        clean_rows(all);
    }
    regex_release(all, path.items, path.capacity * sizeof(struct place));
    regex_release(all, met.items, met.capacity * sizeof(regex));
}

regex regex_settle(struct regexes *all, regex r)
{
    if (all->failed)
        return REGEX_NONE;
    if (all->nodes[r].life == LIFE_UNKNOWN)
        search(all, r);
    return all->failed || all->nodes[r].life == LIFE_DEAD ? (regex)REGEX_NONE : r;
}

/* ---- asking -------------------------------------------------------------------------------- */

bool regex_nullable(const struct regexes *all, regex r)
{
    return all->nodes[r].nullable;
}

/* Whether a state keeps a row: not where a look at the node says as much. */
static bool keeps_row(const struct regexes *all, const struct regex_node *n)
{
    switch (n->kind) {
    case KIND_NONE:
    case KIND_EMPTY:
    case KIND_BYTES:
        return false;
    case KIND_CONCAT:
        return regex_node(all, n->a)->kind != KIND_BYTES;
    case KIND_STRINGS:
        return n->c - n->b >= 8;
    default:
        return true;
    }
}

regex regex_step_class(struct regexes *all, regex r, uint8_t byte, struct byte_set *same)
{
    *same = all_bytes;
    if (all->failed)
        return REGEX_NONE;
    if (!keeps_row(all, regex_node(all, r)))
        return regex_settle(all, derive(all, r, byte, same));
    uint32_t *row = make_row(all, r);
    if (row == NULL)
        return REGEX_NONE;
    if (row[byte] != REGEX_UNKNOWN) {
        *same = those_with(row, row[byte]);
        return row[byte];
    }
    regex found = regex_settle(all, derive(all, r, byte, same));
    row = make_row(all, r);
    if (all->failed || row == NULL)
        return REGEX_NONE;
    fill(row, same, found);
    return found;
}

regex regex_step(struct regexes *all, regex r, uint8_t byte)
{
    const struct regex_node *n = regex_node(all, r);
    struct byte_set same;
    if (n->row != 0) {
        regex found = regex_row_of(all, n->row - 1)[byte];
        if (found != REGEX_UNKNOWN)
            return all->failed ? (regex)REGEX_NONE : found;
    } else if (n->kind == KIND_CONCAT && regex_node(all, n->a)->kind == KIND_BYTES) {
        return regex_set_has(all, regex_node(all, n->a), byte) && !all->failed ? n->b
                                                                               : (regex)REGEX_NONE;
    }
    return regex_step_class(all, r, byte, &same);
}

const uint32_t *regex_row(const struct regexes *all, regex r)
{
    return all->nodes[r].row == 0 ? NULL : regex_row_of(all, all->nodes[r].row - 1);
}
