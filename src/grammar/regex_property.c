/* SPDX-License-Identifier: MIT */
/* regex_property.c: what Unicode says of characters: \p{...}, and their cases. */
#include "grammar/regex_pattern.h"
#include "text/jinja_tables.h"
#include "text/unicode.h"

enum { WORK = 64 /* of regex_compile()'s steps: what looks at thousands of characters */ };

/* ---- names ---------------------------------------------------------------------------------- */

/* Whether a name is another; case, '_', '-' and spaces don't count. end: what ends `other`. */
static bool named(const char *name, size_t n, const char *other, char end)
{
    for (size_t i = 0;; other++) {
        while (i < n && (name[i] == '_' || name[i] == '-' || name[i] == ' '))
            i++;
        if (*other == '_')
            continue;
        bool ends = *other == '\0' || *other == end;
        if (ends || i == n)
            return ends && i == n;
        if ((name[i++] | 0x20) != (*other | 0x20))
            return false;
    }
}

/* "Name=Abbr" */
static bool named_either(const char *name, size_t n, const char *names)
{
    const char *second = strchr(names, '=');
    return named(name, n, names, '=') || (second != NULL && named(name, n, second + 1, '\0'));
}

/* ---- runs ----------------------------------------------------------------------------------- */

static void add_runs(struct pattern *p, const uint32_t *runs, size_t n, unsigned bits, uint64_t few,
                     uint32_t value)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t of = runs[i] & ((1u << bits) - 1);
        if (bits == 5 ? (few >> of & 1) != 0 : of == value)
            pattern_add(p, runs[i] >> bits, i + 1 < n ? (runs[i + 1] >> bits) - 1 : 0x10ffff);
    }
}

/* The categories that a name stands for, a bit each; 0: none. */
static uint64_t categories(const char *name, size_t n)
{
    static const char *const names[] = {"Letter=L",
                                        "Mark=M",
                                        "Number=N",
                                        "Punctuation=P",
                                        "Symbol=S",
                                        "Separator=Z",
                                        "Other=C",
                                        "Cased_Letter=LC",
                                        "Uppercase_Letter=Lu",
                                        "Lowercase_Letter=Ll",
                                        "Titlecase_Letter=Lt",
                                        "Modifier_Letter=Lm",
                                        "Other_Letter=Lo",
                                        "Nonspacing_Mark=Mn",
                                        "Spacing_Mark=Mc",
                                        "Enclosing_Mark=Me",
                                        "Decimal_Number=Nd",
                                        "Letter_Number=Nl",
                                        "Other_Number=No",
                                        "Connector_Punctuation=Pc",
                                        "Dash_Punctuation=Pd",
                                        "Open_Punctuation=Ps",
                                        "Close_Punctuation=Pe",
                                        "Initial_Punctuation=Pi",
                                        "Final_Punctuation=Pf",
                                        "Other_Punctuation=Po",
                                        "Math_Symbol=Sm",
                                        "Currency_Symbol=Sc",
                                        "Modifier_Symbol=Sk",
                                        "Other_Symbol=So",
                                        "Space_Separator=Zs",
                                        "Line_Separator=Zl",
                                        "Paragraph_Separator=Zp",
                                        "Control=Cc",
                                        "Format=Cf",
                                        "Private_Use=Co",
                                        "Unassigned=Cn",
                                        "punct=P",
                                        "digit=Nd",
                                        "cntrl=Cc",
                                        "Combining_Mark=M"};
    const char *abbreviation = NULL;
    uint64_t found = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names && abbreviation == NULL; i++)
        if (named_either(name, n, names[i]))
            abbreviation = strchr(names[i], '=') + 1;
    if (abbreviation == NULL)
        return 0;
    bool cased = strcmp(abbreviation, "LC") == 0;
    for (unsigned i = 0; unicode_categories[i] != NULL; i++) {
        const char *category = unicode_categories[i];
        if (cased ? category[0] == 'L' && strchr("ult", category[1]) != NULL
                  : strncmp(category, abbreviation, strlen(abbreviation)) == 0)
            found |= (uint64_t)1 << i;
    }
    return found;
}

static bool add_category(struct pattern *p, const char *name, size_t n)
{
    uint64_t found = categories(name, n);
    add_runs(p, unicode_category_runs, n_unicode_category_runs, 5, found, 0);
    return found != 0;
}

static bool add_script(struct pattern *p, const char *name, size_t n)
{
    for (uint32_t i = 0; unicode_scripts[i] != NULL; i++)
        if (named_either(name, n, unicode_scripts[i])) {
            add_runs(p, unicode_script_runs, n_unicode_script_runs, 8, 0, i);
            return true;
        }
    return false;
}

static bool add_other(struct pattern *p, const char *name, size_t n)
{
    if (named(name, n, "Any", '\0')) {
        pattern_add(p, 0, 0x10ffff);
    } else if (named(name, n, "ASCII", '\0')) {
        pattern_add(p, 0, 0x7f);
    } else if (named(name, n, "Assigned", '\0')) {
        add_runs(p, unicode_category_runs, n_unicode_category_runs, 5, ~(uint64_t)1, 0);
    } else if (named_either(name, n, "White_Space=space")) {
        for (size_t i = 0; i + 1 < n_unicode_runs; i++)
            if ((unicode_runs[i] & 7) == UNICODE_SPACE)
                pattern_add(p, unicode_runs[i] >> 3, (unicode_runs[i + 1] >> 3) - 1);
    } else {
        return false;
    }
    return true;
}

bool pattern_add_property(struct pattern *p, const char *name, size_t n, bool inverted)
{
    size_t from = p->ranges.n;
    const char *equals = memchr(name, '=', n);
    bool known;
    p->work += WORK;
    if (equals != NULL) {
        size_t before = (size_t)(equals - name), behind = n - before - 1;
        if (named_either(name, before, "General_Category=gc"))
            known = add_category(p, equals + 1, behind);
        else
            known = named_either(name, before, "Script=sc") && add_script(p, equals + 1, behind);
    } else {
        known = add_category(p, name, n) || add_other(p, name, n) || add_script(p, name, n);
    }
    if (known && inverted)
        pattern_invert(p, from);
    return known;
}

/* ---- cases ---------------------------------------------------------------------------------- */

static bool has(uint32_t (*ranges)[2], size_t n, uint32_t scalar)
{
    while (n > 0) {
        size_t half = n / 2;
        if (scalar >= ranges[half][0] && scalar <= ranges[half][1])
            return true;
        if (scalar > ranges[half][1]) {
            ranges += half + 1;
            n -= half + 1;
        } else {
            n = half;
        }
    }
    return false;
}

/* Two characters of one case folding: if one is there, both are. */
static void pair(struct pattern *p, uint32_t (*ranges)[2], size_t n, uint32_t a, uint32_t b)
{
    bool first = has(ranges, n, a), second = has(ranges, n, b);
    if (first && !second)
        pattern_add(p, b, b);
    if (second && !first)
        pattern_add(p, a, a);
}

static void add_pairs(struct pattern *p, uint32_t (*ranges)[2], size_t n, enum char_case to)
{
    for (size_t i = 0; i < jinja_cases[to].n; i++) {
        const struct jinja_range *r = &jinja_cases[to].ranges[i];
        for (uint32_t c = r->first; c <= r->last; c += r->step)
            pair(p, ranges, n, c, (uint32_t)((int64_t)c + r->add));
    }
}

/* Until nothing is new: Kelvin's sign is a k, which is a K. */
void pattern_add_cases(struct pattern *p)
{
    p->work += WORK;
    for (size_t round = 0, before = 0; round < 4 && p->ranges.n > before; round++) {
        size_t room = p->ranges.n * 2;
        uint32_t(*ranges)[2] = regex_alloc(p->all, room, sizeof *ranges);
        if (ranges == NULL)
            return;
        size_t n = regex_tidy(ranges, (const uint32_t(*)[2])p->ranges.items, p->ranges.n);
        before = p->ranges.n;
        add_pairs(p, ranges, n, CASE_LOWER);
        add_pairs(p, ranges, n, CASE_FOLD);
        for (size_t i = 0; i < n_jinja_specials; i++)
            if (jinja_specials[i].to[CASE_LOWER][1] == 0)
                pair(p, ranges, n, jinja_specials[i].scalar, jinja_specials[i].to[CASE_LOWER][0]);
        regex_release(p->all, ranges, room * sizeof *ranges);
    }
}
