/* SPDX-License-Identifier: MIT */
/* test_markdown: answers in Markdown on a terminal: what is styled, that every character is there
 * whatever it means, where lines are broken, and that the pieces of the text make no difference. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "run.h"
#include "tool/markdown.h"

/* Shows a text that comes in pieces ending at cuts[0..n_cuts); for free(). */
static char *show_pieces(const char *text, size_t n, size_t columns, bool color, const size_t *cuts,
                         size_t n_cuts)
{
    struct markdown m;
    size_t at = 0;
    markdown_begin(&m, color, 0);
    m.wrap.columns = columns;
    for (size_t i = 0; i < n_cuts; i++) {
        markdown_text(&m, text + at, cuts[i] - at);
        at = cuts[i];
    }
    markdown_text(&m, text + at, n - at);
    markdown_end(&m);
    require(!m.wrap.out.failed, "not enough memory");
    char *shown = m.wrap.out.data != NULL ? strdup(m.wrap.out.data) : strdup("");
    require(shown != NULL, "not enough memory");
    markdown_free(&m);
    return shown;
}

static char *show(const char *text, size_t columns, bool color)
{
    return show_pieces(text, strlen(text), columns, color, NULL, 0);
}

/* Takes the styles out of what was shown. */
static void strip(char *shown)
{
    char *to = shown;
    for (const char *from = shown; *from != '\0';)
        if (*from == '\033')
            from += strcspn(from, "m") + 1;
        else
            *to++ = *from++;
    *to = '\0';
}

/* The same characters in the same styles: a style may end and begin again within a word. */
static bool looks_same(const char *a, const char *b)
{
    char style_a[32] = "", style_b[32] = "";
    for (;;) {
        while (*a == '\033') {
            size_t n = strcspn(a, "m") + 1;
            memcpy(style_a, a, n);
            style_a[n] = '\0';
            a += n;
        }
        while (*b == '\033') {
            size_t n = strcspn(b, "m") + 1;
            memcpy(style_b, b, n);
            style_b[n] = '\0';
            b += n;
        }
        if (*a != *b || (*a != '\0' && strcmp(style_a, style_b) != 0))
            return false;
        if (*a == '\0')
            return true;
        a++;
        b++;
    }
}

/* ---- styles -------------------------------------------------------------------------------- */

/* In what is wanted, styles are written <2>, <1>, <0> and so on; every other byte is itself. */
static const struct {
    const char *text, *wanted;
} styled[] = {
    {"plain words", "plain words"},
    {"**bold** and *italic*", "<2>**<1>bold<2>**<0> and <2>*<3>italic<2>*<0>"},
    {"__bold__ _it_", "<2>__<1>bold<2>__<0> <2>_<3>it<2>_<0>"},
    {"***both*** x", "<2>***<1;3>both<2>***<0> x"},
    {"**a *b* c**", "<2>**<1>a<0> <2>*<1;3>b<2>*<0> <1>c<2>**<0>"},
    {"2 * 3 * 4, 2*3*4, 2**3", "2 * 3 * 4, 2*3*4, 2**3"},
    {"snake_case_name _a_b_", "snake_case_name <2>_<3>a_b<2>_<0>"},
    {"\\\\*it*", "\\\\<2>*<3>it<2>*<0>"},
    {"a \\*star\\* b", "a \\*star\\* b"},
    {"**** x", "**** x"},
    {"\xe6\x98\xaf**\xe9\x87\x8d**", "\xe6\x98\xaf<2>**<1>\xe9\x87\x8d<2>**<0>"},
    {"use `a * b` here", "use <2>`<36>a * b<2>`<0> here"},
    {"``a ` b``", "<2>``<36>a ` b<2>``<0>"},
    {"# Title *x*\ntext", "<2>#<0> <1>Title<0> <1;2>*<1;3>x<1;2>*<0>\ntext"},
    {"#hash\n####### seven", "#hash\n####### seven"},
    {"- one\n- two", "<1>-<0> one\n<1>-<0> two"},
    {"  12. twelve\n1.5 no", "  <1>12.<0> twelve\n1.5 no"},
    {"-5 degrees\n---\n", "-5 degrees\n---\n"},
    {"> quoted **x**", "<2>><0> quoted <2>**<1>x<2>**<0>"},
    {"- **a**: b", "<1>-<0> <2>**<1>a<2>**<0>: b"},
    {"```c\nint *a, *b;\n```\n*x*", "<2>```c<0>\n<36>int<0> <36>*a,<0> <36>*b;<0>\n<2>```<0>\n"
                                    "<2>*<3>x<2>*<0>"},
    {"````\n```\nx\n````\ny", "<2>````<0>\n<36>```<0>\n<36>x<0>\n<2>````<0>\ny"},
    {"~~~\n```\n~~~", "<2>~~~<0>\n<36>```<0>\n<2>~~~<0>"},
    {"```a``` b", "<2>```<36>a<2>```<0> b"},
    {"1. x\n   ```\n   y\n   ```\nz", "<1>1.<0> x\n   <2>```<0>\n   <36>y<0>\n   <2>```<0>\nz"},
    {"    code *x* y\n\n    more", "    <36>code<0> <36>*x*<0> <36>y<0>\n\n    <36>more<0>"},
    {"a\n    not code", "a\n    not code"},
    {"- a\n\n    *b*", "<1>-<0> a\n\n    <2>*<3>b<2>*<0>"},
    {"| a | *b* |", "| a | <2>*<3>b<2>*<0> |"},
    {"*never closed\nnext", "<2>*<3>never<0> <3>closed<0>\nnext"},
    {"`open\nnext", "<2>`<36>open<0>\nnext"},
    {"a \033[31mb\rc\x7f", "a \xEF\xBF\xBD[31mb\xEF\xBF\xBD"
                           "c\xEF\xBF\xBD"},
    {"\xc2\x9b"
     "a \xff\xe2\x82 b\xf0\x9f",
     "\xEF\xBF\xBD"
     "a \xEF\xBF\xBD\xEF\xBF\xBD b\xEF\xBF\xBD"},
    {"", ""},
};

/* What is shown, with styles as they are written above: only where they change. */
static void spell(const char *shown, char *out)
{
    char style[16] = "0", before[16] = "0";
    for (;;) {
        if (*shown == '\033') {
            size_t n = strcspn(shown, "m");
            snprintf(style, sizeof style, "%.*s", (int)n - 2, shown + 2);
            shown += n + 1;
            continue;
        }
        if (strcmp(style, before) != 0)
            out += sprintf(out, "<%s>", style + (style[1] == ';' ? 2 : 0));
        strcpy(before, style);
        if (*shown == '\0')
            break;
        *out++ = *shown++;
    }
    *out = '\0';
}

START_TEST(test_styles)
{
    char *shown = show(styled[_i].text, 0, true), spelled[1024];
    ck_assert_uint_lt(strlen(shown), sizeof spelled);
    spell(shown, spelled);
    ck_assert_str_eq(spelled, styled[_i].wanted);
    free(shown);
    shown = show(styled[_i].text, 0, false);
    ck_assert_ptr_null(strchr(shown, '\033'));
    free(shown);
}
END_TEST

/* Thoughts are dim whatever they are, and can't be told from marks. */
START_TEST(test_thoughts_are_dim)
{
    struct markdown m;
    char spelled[256];
    markdown_begin(&m, true, 0);
    m.base = STYLE_DIM;
    markdown_text(&m, "# a **b** `c`", 13);
    markdown_end(&m);
    spell(m.wrap.out.data, spelled);
    ck_assert_str_eq(spelled, "<2>#<0> <2>a<0> <2>**b**<0> <2>`c`<0>");
    markdown_free(&m);
}
END_TEST

/* ---- lines --------------------------------------------------------------------------------- */

static const struct {
    size_t columns;
    const char *text, *wanted;
} wrapped[] = {
    {10, "one two three four", "one two\nthree four"},
    {10, "one two thr four", "one two\nthr four"},
    {10, "0123456789 x", "0123456789\nx"},
    {10, "a 0123456789abcdef x", "a\n0123456789abcdef x"},
    {10, "a  b   c      d", "a  b   c\nd"},
    {10, "kept  \nspaces", "kept  \nspaces"},
    {10, "- one two three", "- one two\n  three"},
    {12, "  1. one two three", "  1. one two\n     three"},
    {10, "> one two three", "> one two\n  three"},
    {10, "- a\n  one two three", "- a\n  one two\n  three"},
    {10, "# one two three four", "# one two three four"},
    {10, "| one | two | three |", "| one | two | three |"},
    {10, "```\none two three four\n```", "```\none two three four\n```"},
    {10, "``` one two three four\nx\n```", "``` one two three four\nx\n```"},
    {10, "    one two three four", "    one two three four"},
    {12, "see `git log -p` x", "see\n`git log -p`\nx"},
    {10, "one two th - four", "one two th - four"}, /* no item */
    {9, "one two t 1. four", "one two t 1. four"},
    {9, "one two t # four", "one two t # four"},
    {9, "one two t > four", "one two t > four"},
    {6, "\xe4\xb8\x80\xe4\xb8\x80\xe4\xb8\x80\xe4\xb8\x80",
     "\xe4\xb8\x80\xe4\xb8\x80\xe4\xb8\x80\xe4\xb8\x80"},
    {7, "ab \xe4\xb8\x80 \xe4\xb8\x80 cd", "ab \xe4\xb8\x80\n\xe4\xb8\x80 cd"},
    {5,
     "e\xcc\x81"
     "e\xcc\x81 e\xcc\x81"
     "e\xcc\x81 x",
     "e\xcc\x81"
     "e\xcc\x81 e\xcc\x81"
     "e\xcc\x81\nx"},
    {6, "\xf0\x9f\x98\x80 abc d", "\xf0\x9f\x98\x80 abc\nd"},
    {40, "a word that begins far from the end is-shown-as-it-comes-so-it-is-not-moved x",
     "a word that begins far from the end\nis-shown-as-it-comes-so-it-is-not-moved\nx"},
    {40, "begins far is-shown-as-it-comes-so-it-is-not-moved but",
     "begins far is-shown-as-it-comes-so-it-is-not-moved but"},
    {1, "a b", "a\nb"},
    {8, "\ta b", "\ta b"}, /* a line has one word at least */
};

START_TEST(test_lines)
{
    for (int color = 0; color < 2; color++) {
        char *shown = show(wrapped[_i].text, wrapped[_i].columns, color != 0);
        strip(shown);
        ck_assert_str_eq(shown, wrapped[_i].wanted);
        free(shown);
    }
}
END_TEST

/* A word is seen while it comes, but near the end of a line. */
START_TEST(test_seen_as_it_comes)
{
    struct markdown m;
    markdown_begin(&m, false, 0);
    m.wrap.columns = 40;
    markdown_text(&m, "begins ag", 9);
    ck_assert_str_eq(m.wrap.out.data, "begins ag");
    markdown_text(&m, "ain, near the end", 17);
    ck_assert_str_eq(m.wrap.out.data, "begins again, near the");
    markdown_text(&m, " ", 1);
    ck_assert_str_eq(m.wrap.out.data, "begins again, near the end");
    markdown_free(&m);
}
END_TEST

/* The text begins behind a label, and the next lines at the left. */
START_TEST(test_label)
{
    struct markdown m;
    markdown_begin(&m, false, 6);
    m.wrap.columns = 10;
    markdown_text(&m, "abc def ghi jkl", 15);
    markdown_end(&m);
    ck_assert_str_eq(m.wrap.out.data, "abc\ndef ghi\njkl");
    markdown_free(&m);
}
END_TEST

/* A window that is made narrower or wider while the text comes. */
START_TEST(test_resize)
{
    struct markdown m;
    markdown_begin(&m, false, 0);
    m.wrap.columns = 20;
    markdown_text(&m, "one two three four five ", 24);
    m.wrap.columns = 10;
    markdown_text(&m, "six seven eight nine ten ", 25);
    m.wrap.columns = 30;
    markdown_text(&m, "one two three four five six", 27);
    markdown_end(&m);
    ck_assert_str_eq(
        m.wrap.out.data,
        "one two three four\nfive six\nseven\neight nine\nten one two three four five\nsix");
    markdown_free(&m);
}
END_TEST

START_TEST(test_widths)
{
    ck_assert_uint_eq(wrap_width('a'), 1);
    ck_assert_uint_eq(wrap_width(0xe9), 1);
    ck_assert_uint_eq(wrap_width(0x301), 0);
    ck_assert_uint_eq(wrap_width(0x4e00), 2);
    ck_assert_uint_eq(wrap_width(0xff21), 2);
    ck_assert_uint_eq(wrap_width(0x1f600), 2);
    ck_assert_uint_eq(wrap_width(0x200d), 0);
}
END_TEST

/* ---- any text ------------------------------------------------------------------------------ */

/* Whether what is shown has all characters of the text, but for blanks that became the end of a
 * line and the next one's indent. */
static bool is_all_there(const char *text, const char *shown)
{
    while (*text != '\0' || *shown != '\0') {
        size_t blanks = strspn(text, " \t");
        if (*text == *shown && !(blanks > 0 && shown[strspn(shown, " \t")] == '\n' &&
                                 text[blanks] != '\n' && blanks < strspn(shown, " \t"))) {
            text++;
            shown++;
        } else if (blanks > 0 && *shown == '\n') {
            text += blanks;
            shown++;
            shown += strspn(shown, " ");
        } else {
            return false;
        }
    }
    return true;
}

/* Any cut into pieces gives the same bytes, and all characters are there. */
static void check_text(const char *text, size_t n)
{
    static const size_t widths[] = {0, 1, 2, 7, 12, 40};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        char *whole = show_pieces(text, n, widths[i], true, NULL, 0), *pieces;
        size_t cuts[2048];
        ck_assert_uint_lt(n, sizeof cuts / sizeof *cuts);
        for (size_t cut = 0; cut <= n; cut++) {
            pieces = show_pieces(text, n, widths[i], true, &cut, 1);
            require(looks_same(pieces, whole), "\"%s\" in pieces: \"%s\", not \"%s\"", text, pieces,
                    whole);
            free(pieces);
            cuts[cut] = cut;
        }
        pieces = show_pieces(text, n, widths[i], true, cuts, n);
        require(looks_same(pieces, whole), "\"%s\" in pieces: \"%s\", not \"%s\"", text, pieces,
                whole);
        free(pieces);
        strip(whole);
        if (widths[i] == 0)
            ck_assert_str_eq(whole, text);
        require(is_all_there(text, whole), "%zu columns: \"%s\" is shown as \"%s\"", widths[i],
                text, whole);
        free(whole);
    }
}

START_TEST(test_any_cut)
{
    const char *text = styled[_i].text;
    if (strpbrk(text, "\033\r\x7f\xff\xc2\xf0") == NULL)
        check_text(text, strlen(text));
}
END_TEST

START_TEST(test_any_cut_of_lines)
{
    check_text(wrapped[_i].text, strlen(wrapped[_i].text));
}
END_TEST

/* Texts of marks, blanks, letters and newlines by chance. */
START_TEST(test_any_text)
{
    static const char *const parts[] = {"*",
                                        "**",
                                        "_",
                                        "`",
                                        "```",
                                        "~~~",
                                        "\n",
                                        "\n\n",
                                        " ",
                                        "  ",
                                        "    ",
                                        "\t",
                                        "# ",
                                        "- ",
                                        "1.",
                                        "> ",
                                        "|",
                                        "\\",
                                        "a",
                                        "bc",
                                        "0",
                                        "def ghi",
                                        "\xe4\xb8\x80",
                                        "\xc3\xa9",
                                        "e\xcc\x81",
                                        "\xf0\x9f\x98\x80",
                                        "```\n",
                                        "\n```",
                                        "---",
                                        "=",
                                        ")",
                                        "word "};
    enum { N_PARTS = sizeof parts / sizeof *parts };
    uint64_t chance = 1 + (uint64_t)_i;
    for (int round = 0; round < 60; round++) {
        char text[1024] = "";
        size_t n = 0;
        for (int i = 0; i < 40; i++) {
            chance = chance * 6364136223846793005U + 1442695040888963407U;
            const char *part = parts[(chance >> 33) % N_PARTS];
            memcpy(text + n, part, strlen(part) + 1);
            n += strlen(part);
        }
        check_text(text, n);
    }
}
END_TEST

/* A line that has no end takes little memory. */
START_TEST(test_endless)
{
    static const char *const parts[] = {"x", "`", " ", "\xcc\x81", "# ", "```x", "~", "1", ">"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        struct markdown m;
        markdown_begin(&m, true, 0);
        m.wrap.columns = 80;
        for (int j = 0; j < 100000; j++) {
            markdown_text(&m, parts[i], strlen(parts[i]));
            buf_clear(&m.wrap.out);
        }
        ck_assert_uint_lt(m.wrap.word.capacity + m.wrap.plain.capacity + m.hold.capacity, 65536);
        markdown_end(&m);
        markdown_free(&m);
    }
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("markdown");
    tcase_set_timeout(tcase, 300);
    tcase_add_loop_test(tcase, test_styles, 0, sizeof styled / sizeof *styled);
    tcase_add_test(tcase, test_thoughts_are_dim);
    tcase_add_loop_test(tcase, test_lines, 0, sizeof wrapped / sizeof *wrapped);
    tcase_add_test(tcase, test_seen_as_it_comes);
    tcase_add_test(tcase, test_label);
    tcase_add_test(tcase, test_resize);
    tcase_add_test(tcase, test_widths);
    tcase_add_loop_test(tcase, test_any_cut, 0, sizeof styled / sizeof *styled);
    tcase_add_loop_test(tcase, test_any_cut_of_lines, 0, sizeof wrapped / sizeof *wrapped);
    tcase_add_loop_test(tcase, test_any_text, 0, 8);
    tcase_add_test(tcase, test_endless);
    return run_tests("markdown", tcase);
}
