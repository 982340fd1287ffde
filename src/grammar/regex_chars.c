/* SPDX-License-Identifier: MIT */
/* regex_chars.c: characters as the bytes of their UTF-8. */
#include "grammar/regex_parts.h"

#include "base/utf8.h"

/* The ranges that are left, of ascending ones that may touch. */
struct char_ranges {
    const uint32_t (*at)[2];
    size_t n;
    uint32_t least; /* scalars below have shorter forms */
};

/* The least scalar of so many continuation bytes. */
static const uint32_t least_of[4] = {0, 0x80, 0x800, 0x10000};

/* Marks an expression of whole characters, whose bytes alone aren't text. */
static regex whole(struct regexes *all, regex r)
{
    if (!all->failed)
        all->nodes[r].utf8 = true;
    return r;
}

/* Whether all, some or none of [first, last] are in the ranges; ranges before it are dropped. */
enum part { NO_PART, SOME, ALL_OF_IT };
static enum part part_of(struct char_ranges *ranges, uint32_t first, uint32_t last)
{
    while (ranges->n > 0 && ranges->at[0][1] < first) {
        ranges->at++;
        ranges->n--;
    }
    if (ranges->n == 0 || ranges->at[0][0] > last || last < ranges->least)
        return NO_PART;
    return ranges->at[0][0] <= first && ranges->at[0][1] >= last && first >= ranges->least
               ? ALL_OF_IT
               : SOME;
}

/* A list of bytes with what follows them; neighbours that are followed by the same are one set. */
struct branches {
    size_t base; /* of the list, in scratch */
    struct byte_set set;
    regex rest; /* behind the set */
};

static void branch(struct regexes *all, struct branches *b, unsigned byte, regex rest)
{
    if (rest != b->rest) {
        if (b->rest != REGEX_NONE)
            regex_push(all, re_concat(all, regex_bytes(all, &b->set), b->rest));
        b->rest = rest;
        b->set = (struct byte_set){{0}};
    }
    byte_set_add(&b->set, byte, byte);
}

/* What the last `more` bytes may be, of a character in [first, first + 64^more). */
static regex ends(struct regexes *all, struct char_ranges *ranges, uint32_t first, unsigned more)
{
    uint32_t step = 1u << 6 * (more - 1);
    switch (part_of(ranges, first, first + step * 64 - 1)) {
    case NO_PART:
        return REGEX_NONE;
    case ALL_OF_IT:
        return all->more[more];
    default:
        break;
    }
    struct branches branches = {.base = all->scratch.n};
    for (unsigned i = 0; i < 64; i++) {
        uint32_t at = first + i * step;
        regex rest = REGEX_EMPTY;
        if (more > 1)
            rest = ends(all, ranges, at, more - 1);
        else if (part_of(ranges, at, at) == NO_PART)
            rest = REGEX_NONE;
        branch(all, &branches, 0x80 + i, rest);
    }
    branch(all, &branches, 0, REGEX_NONE);
    return re_or_list(all, branches.base);
}

/* n ranges, ascending and without surrogates. */
static regex of_ranges(struct regexes *all, const uint32_t (*at)[2], size_t n)
{
    struct char_ranges ranges = {.at = at, .n = n};
    struct byte_set ascii = {0};
    struct branches branches = {.base = all->scratch.n};
    for (unsigned byte = 0; byte < 0x80; byte++)
        if (part_of(&ranges, byte, byte) != NO_PART)
            byte_set_add(&ascii, byte, byte);
    regex_push(all, regex_bytes(all, &ascii));
    for (unsigned lead = 0xc2; lead <= 0xf4 && !all->failed; lead++) {
        unsigned more = lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3;
        uint32_t first = (lead & (0x3fu >> more)) << 6 * more;
        ranges.least = least_of[more];
        branch(all, &branches, lead, ends(all, &ranges, first, more));
    }
    branch(all, &branches, 0, REGEX_NONE);
    for (size_t i = branches.base; i < all->scratch.n; i++)
        whole(all, ((regex *)all->scratch.items)[i]);
    return whole(all, re_or_list(all, branches.base));
}

size_t regex_tidy(uint32_t (*out)[2], const uint32_t (*in)[2], size_t n)
{
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t pieces[2][2] = {
            {in[i][0], in[i][1] < 0xd800 ? in[i][1] : 0xd7ff},
            {in[i][0] > 0xe000 ? in[i][0] : 0xe000, in[i][1] < 0x10ffff ? in[i][1] : 0x10ffff}};
        for (int k = 0; k < 2; k++)
            if (pieces[k][0] <= pieces[k][1])
                memcpy(out[kept++], pieces[k], sizeof pieces[k]);
    }
    for (size_t gap = kept / 2; gap > 0; gap /= 2) /* Shell's sort: nearly sorted, mostly */
        for (size_t i = gap; i < kept; i++)
            for (size_t k = i; k >= gap && out[k - gap][0] > out[k][0]; k -= gap) {
                uint32_t other[2];
                memcpy(other, out[k], sizeof other);
                memcpy(out[k], out[k - gap], sizeof other);
                memcpy(out[k - gap], other, sizeof other);
            }
    size_t joined = 0;
    for (size_t i = 0; i < kept; i++) {
        if (joined > 0 && out[i][0] <= out[joined - 1][1] + 1) {
            if (out[i][1] > out[joined - 1][1])
                out[joined - 1][1] = out[i][1];
            continue;
        }
        memmove(out[joined++], out[i], sizeof out[i]);
    }
    return joined;
}

regex regex_chars(struct regexes *all, const uint32_t (*ranges)[2], size_t n)
{
    uint32_t(*tidied)[2] = regex_alloc(all, n * 2, sizeof *tidied);
    if (tidied == NULL)
        return REGEX_NONE;
    size_t kept = regex_tidy(tidied, ranges, n);
    uint64_t hash = hash_bytes(&all->key, tidied, kept * sizeof *tidied, NULL, 0);
    struct regex_class *known = &all->classes[hash % REGEX_CLASSES];
    regex r = known->hash == hash ? known->r : (regex)REGEX_NONE;
    if (r == REGEX_NONE)
        r = of_ranges(all, (const uint32_t(*)[2])tidied, kept);
    *known = (struct regex_class){hash, r};
    regex_release(all, tidied, n * 2 * sizeof *tidied);
    return r;
}

regex regex_literal(struct regexes *all, const void *bytes, size_t n)
{
    const uint8_t *text = bytes;
    bool utf8 = utf8_valid(text, n) == n;
    regex r = REGEX_EMPTY;
    while (n-- > 0) {
        r = re_concat(all, re_bytes(all, text[n], text[n]), r);
        if (utf8 && (text[n] & 0xc0) != 0x80)
            whole(all, r);
    }
    return r;
}

regex regex_text(struct regexes *all, uint32_t min, uint32_t max)
{
    return re_repeat(all, all->character, min, max);
}

void regex_chars_open(struct regexes *all)
{
    all->more[0] = REGEX_EMPTY;
    for (int i = 1; i < 4; i++)
        all->more[i] = re_concat(all, re_bytes(all, 0x80, 0xbf), all->more[i - 1]);
    all->character = regex_chars(all, (const uint32_t[][2]){{0, 0x10ffff}}, 1);
    all->text = re_repeat(all, all->character, 0, REGEX_INFINITE);
}

/* ---- the characters that come first -------------------------------------------------------- */

struct first_chars {
    struct regexes *all;
    uint32_t (*ranges)[2];
    size_t n, room;
    uint32_t least;
    uint32_t last[2]; /* the range that is being made, if n > 0 */
};

/* What is no scalar, of expressions that aren't of text, is left out. */
static void first_add(struct first_chars *f, uint32_t from, uint32_t to)
{
    from = from > f->least ? from : f->least;
    to = to < 0x10ffff ? to : 0x10ffff;
    if (from >= 0xd800 && from < 0xe000)
        from = 0xe000;
    if (to >= 0xd800 && to < 0xe000)
        to = 0xd7ff;
    if (from > to)
        return;
    if (f->n > 0 && f->last[1] + 1 == from) {
        f->last[1] = to;
    } else {
        f->n++;
        f->last[0] = from;
        f->last[1] = to;
    }
    if (f->n <= f->room)
        memcpy(f->ranges[f->n - 1], f->last, sizeof f->last);
}

/* Whether any `more` continuation bytes may follow; false: not known. */
static bool any_end(const struct regexes *all, regex r, unsigned more)
{
    for (; more > 0; more--) {
        const struct regex_node *n = regex_node(all, r);
        if (n->kind != KIND_CONCAT || n->a != all->more[1])
            return more == 1 && r == all->more[1];
        r = n->b;
    }
    return true;
}

static void first_ends(struct first_chars *f, regex r, uint32_t from, unsigned more)
{
    uint32_t step = 1u << 6 * (more - 1);
    if (any_end(f->all, r, more)) {
        first_add(f, from, from + step * 64 - 1);
        return;
    }
    for (unsigned i = 0; i < 64; i++) {
        regex next = regex_step(f->all, r, (uint8_t)(0x80 + i));
        if (next == REGEX_NONE)
            continue;
        if (more == 1)
            first_add(f, from + i, from + i);
        else
            first_ends(f, next, from + i * step, more - 1);
    }
}

size_t regex_first_chars(struct regexes *all, regex r, uint32_t (*ranges)[2], size_t room)
{
    struct first_chars f = {.all = all, .ranges = ranges, .room = room};
    for (unsigned byte = 0; byte < 0x80; byte++)
        if (regex_step(all, r, (uint8_t)byte) != REGEX_NONE)
            first_add(&f, byte, byte);
    for (unsigned lead = 0xc2; lead <= 0xf4; lead++) {
        unsigned more = lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3;
        regex next = regex_step(all, r, (uint8_t)lead);
        f.least = least_of[more];
        if (next != REGEX_NONE)
            first_ends(&f, next, (lead & (0x3fu >> more)) << 6 * more, more);
    }
    return f.n;
}
