/* SPDX-License-Identifier: MIT */
/*
 * test_lark: Lark's grammars against texts that they match and texts that they don't, and what is
 * refused. How a lexer cuts a text is the parser's; here a text matches if some cut of it does.
 */
#include "config.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "failing.h"
#include "grammar_language.h"
#include "run.h"

enum { LIMIT = 64 << 20 };

static struct llama3_error err;

/* Texts are cut at ';' where they are several. */
static const struct lark_case {
    const char *grammar, *yes, *no;
} cases[] = {
    /* strings, their escapes and flags */
    {"start: \"ab\"", "ab", "a;AB;"},
    {"start: \"\"", "", "a"},
    {"start: \"\\x41\\u00e9\\ud83d\\ude00\\n\\\"\\\\\\/\"", "A\xc3\xa9\xf0\x9f\x98\x80\n\"\\/",
     "A"},
    {"start: \"if.\"i", "if.;IF.;If.", "i;ifx"},
    {"start: \"a\"..\"c\" \"0\"..\"9\"", "a0;c9", "d0;a;aa"},
    /* regular expressions and flags */
    {"start: /a+b?/", "a;aab", "b;"},
    {"start: /a\\/b/", "a/b", "a\\/b"},
    {"start: /aB/i", "ab;AB", "a"},
    {"start: /a.b/", "axb", "a\nb"},
    {"start: /a.b/s", "axb;a\nb", "ab"},
    {"start: /a  b # note\n  c/x", "abc", "a  bc"},
    {"start: /[^\"]\\d{2,3}(x|y)/u", "a12x;-123y", "a1x;\"12x"},
    /* rules and terminals */
    {"start: a B\na: \"x\"\nB: \"y\" C?\nC: /z/", "xy;xyz", "x;y;xz"},
    {"start: a-b _c\na-b: \"x\"\n_c: _D\n_D: \"y\"", "xy", "x"},
    {"?start: a | b -> two\n!a: \"x\"\n?b: \"y\" -> one", "x;y", "xy"},
    {"// note\nstart: \"a\" # note\n  // between\n  | \"b\" // note\n\n\n# end", "a;b", "ab"},
    {"start: (\"a\"\n  | \"b\" \"c\"\n  \"d\") \"e\"", "ae;bcde", "be"},
    {"start: \"a\" | ", "a;", "b"},
    {"start:\n | \"a\"", "a;", "b"},
    /* repetitions */
    {"start: \"a\"* \"b\"+ \"c\"?", "b;aabbc", "a;bcc"},
    {"start: [\"a\" \"b\"] \"c\"", "c;abc", "ac"},
    {"start: \"a\"~2 \"b\"~1..3", "aab;aabbb", "ab;aabbbb"},
    {"start: \"a\"{2} \"b\"{1,3} \"c\"{,2} \"d\"{1,}", "aabd;aabbbccddd", "aabb;aabcccd"},
    {"start: (\"a\" | \"b\"){2}", "ab;ba", "a;aba"},
    {"start: A\nA: (\"a\" | \"b\")~2..4 [\"!\"]", "ab;abab!", "a!"},
    /* terminals: and, not */
    {"start: A\nA: /[a-z]*/ & ~/(?s:.*)bad(?s:.*)/", ";good;ba", "abad;badly;B"},
    {"start: A\nA: \"a\"..\"f\" & \"d\"..\"z\" | \"x\" \"y\"", "d;f;xy", "a;g;x"},
    {"start: A\nA: ~B & /[ab]+/\nB: \"a\" ~ 2", "a;b;aaa;ab", "aa"},
    {"start: \"x\" ~\"y\"", "xz;x;xyy", "xy"},
    /* so many words that they are a set; some twice, some begin others */
    {"start: A B\nA: (\"a\" | \"an\" | \"and\" | \"as\" | \"at\" | \"be\" | \"by\" | \"do\" | \"go\" | \"he\" | \"if\" | \"in\" | \"is\" | \"it\" | \"me\" | \"my\" | \"an\" | \"no\" | \"of\")\n  | \"x\"\nB: \"a\"\n | \"an\"\n | \"and\"\n | \"as\" | \"at\" | \"be\" | \"by\" | \"do\" | \"go\" | \"he\" | \"if\" | \"in\" | \"is\" | \"it\" | \"me\" | \"my\" | \"an\" | \"no\" | \"of\"\n\n// end",
     "aan;xof;andno;itit", "xx;an;ndan;ax"},
    /* recursion */
    {"start: start \"+\" t | t\nt: t \"*\" f | f\nf: \"(\" start \")\" | /[0-9]+/",
     "1;1+2*3;(1+2)*3+4", "+;1+;(1"},
    {"start: \"a\" start \"b\" |", ";ab;aabb", "a;abb"},
    /* what is ignored follows lexemes */
    {"%ignore /[ \\t]+/\nstart: A \"b\"+\nA: \"x\" \"y\"", "xyb;xy  b b ;xy bbb",
     " xyb;x yb;xyb\n"},
    {"%ignore \" \"\n%ignore \"#\" /[a-z]*/ \"\\n\"\nstart: \"x\" \"y\"", "x y;x #no\n  y#\n",
     "x # y"},
    {"%llguidance {\"allow_initial_skip\": true}\n%ignore /[ ]*/\nstart: \"x\"", "x;  x ", "xx"},
    {"%llguidance {\"ignore_once\": true, \"no_forcing\": true}\n%ignore /[ ]{1,2}/\nstart: \"x\" \"y\"",
     "xy;x y;x  y ", "x   y"},
    {"%llguidance {}\nstart: A \"x\"\nA: /a*/\n%ignore \" \"", "x;a x;aax ", " x"},
    /* imports */
    {"%import common.INT\n%import common.WS -> SPACE\n%import common (CNAME, NUMBER)\n"
     "start: CNAME \"=\" (INT | NUMBER)\n%ignore SPACE",
     "a_1 = 12;b=1.5e3;c\n=\t.5", "1=1;a=;a=e"},
    {"%import common.ESCAPED_STRING\nstart: ESCAPED_STRING", "\"\";\"a\\\"b\";\"\xc3\xa9\"",
     "\"a;a\"b\""},
    {"%import common.C_COMMENT\nstart: C_COMMENT", "/**/;/* a * b **/;/***/", "/*/;/* */ */"},
    {"%import common.SIGNED_FLOAT\nstart: SIGNED_FLOAT", "-1.5;+.5e-2;1e9;1.", "1;-;."},
    {"%import common (SH_COMMENT, NEWLINE)\nstart: SH_COMMENT NEWLINE", "# a\n;#\r\n\n", "#\r;a\n"},
    /* rules that end as soon as they can */
    {"start: a \"!\"\na[lazy]: /[a-z]*<end>/", "x<end>!;<end>!", "x<end><end>!;x<end>y!"},
    {"start: a \"!\"\na[capture, suffix=\"<end>\"]: /(.|\\n)*/", "x\n<end>!;<end>!",
     "x<end>y<end>!;x!"},
    {"start: a b\na[suffix=STOP, capture=\"name\", stop_capture=\"s\"]: /[a-z]+/\nSTOP: /[;.]/\n"
     "b[suffix=/!+/]: \"x\"",
     "ab.x!", "ab.x!!;.x!"},
    {"start: a \"x\"\na[lazy]: /[0-9]*/", "x", "1x"},
    {"start: a \"x\"\na[lazy]: /[0-9]+/", "1x", "12x;x"},
    {"start: a \"x\"\na[max_tokens=0]: /[0-9]+/", "x", "1x"},
    {"start: ( f_foo | f_bar )* f_end\nf_end: TEXT\nTEXT: /[^!]*/\n"
     "f_foo_hd[lazy]: TEXT \"<function\"\nf_foo: f_foo_hd \"=foo>\" /[0-9]+/ \"</function>\"\n"
     "f_bar_hd[lazy]: TEXT \"<function\"\nf_bar: f_bar_hd \"=bar>\" /[a-z]+/ \"</function>\"",
     "text;a<function=foo>12</function>b<function=bar>x</function>", "!"},
    /* parts of texts */
    {"start: %regex {\"substring_chunks\": [\"abc\", \"de\", \"fg\"]}",
     ";abc;de;abcde;defg;abcdefg", "ab;cde;abcfg"},
    {"start: A \"!\"\nA: %regex {\"substring_words\": \"foo bar. baz\"}", "!;foo!;bar. baz!; bar!",
     "fo!;foo.!"},
    {"start: %regex { \"substring_chars\": \"ab\xc3\xa9\" }", "a;b\xc3\xa9;\xc3\xa9;",
     "a\xc3\xa9;\xc3"},
};

static struct grammar read(const char *text)
{
    struct grammar grammar;
    ck_assert_int_eq(grammar_open(&grammar, LIMIT, &err), 0);
    if (grammar_lark(&grammar, text, strlen(text), "g", &err))
        ck_abort_msg("%s\nin:\n%s", err.message, text);
    return grammar;
}

static void each(struct grammar *grammar, const char *source, const char *texts, bool matches)
{
    for (const char *end;; texts = end + 1) {
        end = strchr(texts, ';');
        size_t n = end ? (size_t)(end - texts) : strlen(texts);
        require(language_matches(grammar, texts, n) == matches, "%s \"%.*s\" of:\n%s",
                matches ? "refuses" : "takes", (int)n, texts, source);
        if (!end)
            break;
    }
}

START_TEST(constructs_of_lark)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct grammar grammar = read(cases[i].grammar);
        ck_assert(grammar.greedy);
        language_promises(&grammar);
        each(&grammar, cases[i].grammar, cases[i].yes, true);
        each(&grammar, cases[i].grammar, cases[i].no, false);
        grammar_close(&grammar);
    }
}
END_TEST

/* How many nodes of a kind there are below the start; those that are lazy, if asked for. */
static unsigned count_kind(struct grammar *grammar, enum node_kind kind, bool lazy)
{
    struct language l = {.grammar = grammar};
    unsigned n = 0;
    l.nodes = calloc(grammar->nodes->n, sizeof *l.nodes);
    l.index = malloc(grammar->nodes->n * sizeof *l.index);
    memset(l.index, 0xff, grammar->nodes->n * sizeof *l.index);
    language_collect(&l, grammar->start);
    for (size_t i = 0; i < l.n_nodes; i++) {
        const struct node *x = grammar_node(grammar, l.nodes[i]);
        n += x->kind == kind && (!lazy || x->min == 1);
    }
    free(l.nodes);
    free(l.index);
    return n;
}

START_TEST(schemas_and_lexemes)
{
    struct grammar grammar = read(
        "start: \"x\" a\na: %json { \"type\": \"object\",\n \"properties\": {\"}\": {\"enum\": "
        "[\"]{\"]}} } \"y\" b\nb: %json true | %json{\"type\":\"null\"} | /[0-9]/ \"z\"");
    ck_assert_uint_eq(count_kind(&grammar, NODE_JSON, false), 3);
    /* lexemes stay what they are: x, y, [0-9] and z */
    ck_assert_uint_eq(count_kind(&grammar, NODE_TERMINAL, false), 4);
    ck_assert_uint_eq(count_kind(&grammar, NODE_TERMINAL, true), 0);
    grammar_close(&grammar);

    grammar = read("start: a /b*/ c\na[lazy]: /x*y/\nc[suffix=\"z\"]: /x*/");
    ck_assert_uint_eq(count_kind(&grammar, NODE_TERMINAL, false), 3);
    ck_assert_uint_eq(count_kind(&grammar, NODE_TERMINAL, true), 2);
    grammar_close(&grammar);
}
END_TEST

static const struct {
    const char *grammar, *message;
} wrong[] = {
    {"", "g: expected a rule with the name start, found none"},
    {"START: \"x\"", "g: expected a rule with the name start, found none"},
    {"start: a\n\nb: \"x\"", "g, line 1: expected a definition of the rule a, found none"},
    {"start: \"x\"\nb: A", "g, line 2: expected a definition of the terminal A, found none"},
    {"start: \"x\"\nstart: \"y\"", "g, line 2: expected one definition of start, found another"},
    {"start: A\nA: \"x\"\n%import common.INT -> A",
     "g, line 3: expected one definition of A, found another"},
    {"start: A\nA: \"x\" B\nB: A?",
     "g, line 3: expected a terminal without itself in it, found A in its own definition"},
    {"start: A\nA: a\na: \"x\"", "g, line 2: expected text or a terminal in a terminal, found a"},
    {"\nstart: start \"x\"",
     "g, line 2: expected a text that ends from the rule start, found none"},
    {"start \"x\"", "g, line 1: expected ':', found \"x\""},
    {"start: \"x\" )", "g, line 1: expected text, a name or the end of the line, found )"},
    {"start: (\"x\"", "g, line 1: expected ')', found the end"},
    {"start: (\"x\"]", "g, line 1: expected ')', found ]"},
    {"start: \"x\" %", "g, line 1: expected text or the name of a rule, found %, which isn't "
                       "supported"},
    {"start: *", "g, line 1: expected text or the name of a rule, found *"},
    {"start: \"x\n", "g, line 1: expected '\"' at the end of the string, found none in its line"},
    {"start: /x\n\n", "g, line 1: expected '/' at the end of the regular expression, found none"},
    {"start: \"\\q\"", "g, line 1: expected one of \"\\/bfnrtux after '\\', found 'q'"},
    {"start: \"\\ud83d\"", "g, line 1: expected a pair of surrogates, found half of one"},
    {"start: \"ab\"..\"c\"",
     "g, line 1: expected one character at an end of a range, found another string"},
    {"start: \"c\"..\"a\"", "g, line 1: expected a range from a lower character to a higher one, "
                            "found its ends exchanged"},
    {"start: \"a\"~3..2", "g, line 1: expected at least as many as 3, found 2"},
    {"start: \"a\"{x}", "g, line 1: expected a number, found x"},
    {"start: \"a\"~1.5", "g, line 1: expected a whole number, found 1.5"},
    {"start: \"a\" & \"b\"",
     "g, line 1: expected sequences joined by '|' in a rule, found &, which "
     "isn't supported"},
    {"start: fooBar", "g, line 1: expected a name in lower case (a rule) or upper case (a "
                      "terminal), found fooBar"},
    {"start: \"a\" ;", "g, line 1: expected a name, a string or an operator, found ';'"},
    {"start: \"a\"\n\"b\"", "g, line 2: expected a definition or a statement, found \"b\""},
    {"start: /a/l", "g, line 1: expected flags of imsux, found l, which isn't supported"},
    {"start: <|python_tag|> \"x\"", "g, line 1: expected text or the name of a rule, found "
                                    "<|python_tag|>, which isn't supported"},
    {"start: <[1-5]>",
     "g, line 1: expected text or the name of a rule, found <[1-5]>, which isn't supported"},
    {"start: @other",
     "g, line 1: expected text or the name of a rule, found @other, which isn't supported"},
    {"start: %lark { start: \"x\" }",
     "g, line 1: expected text or the name of a rule, found %lark, which isn't supported"},
    {"start: A\nA: %json {}", "g, line 2: expected text in a terminal, found %json, which isn't "
                              "supported"},
    {"start: %json {\"a\": }", NULL},
    {"start: %json [1]", "g, line 1: expected a schema, an object or a boolean, found an array"},
    {"start: %json {\"a\": 1", "g, line 1: expected JSON text, found no end of it"},
    {"start: %regex {\"substring\": \"x\"}",
     "g, line 1: expected one of substring_chunks, substring_words and substring_chars in %regex, "
     "found substring"},
    {"start: %regex {\"substring_chunks\": [1]}",
     "g, line 1: expected substring_chunks of strings, found an integer"},
    {"start[stop=\"x\"]: /a/",
     "g, line 1: expected one of the attributes capture, lazy and suffix, "
     "found stop, which isn't supported"},
    {"start[lazy, max_tokens=5]: /a/", "g, line 1: expected one of the attributes capture, lazy "
                                       "and suffix, found max_tokens, which isn't supported"},
    {"start[temperature=0.5]: /a/", "g, line 1: expected one of the attributes capture, lazy and "
                                    "suffix, found temperature, which isn't supported"},
    {"start[suffix=\"a\", suffix=\"b\"]: /a/", "g, line 1: expected one suffix, found \"b\""},
    {"start: a\na[lazy]: b\nb: \"x\"",
     "g, line 2: expected text or a terminal in a terminal, found b"},
    {"start: a\na.2: \"x\"", "g, line 2: expected a name without a priority, found ., which isn't "
                             "supported"},
    {"start: a\na{x}: \"x\"", "g, line 2: expected a name without parameters, found {, which isn't "
                              "supported"},
    {"start: a{\"x\"}\na: \"x\"", "g, line 1: expected a name without parameters, found {, which "
                                  "isn't supported"},
    {"start: a::1\na::_: \"x\"", "g, line 2: expected a name without parameters, found ::, which "
                                 "isn't supported"},
    {"start: \"a\" %if true", "g, line 1: expected a rule without parameters, found %if, which "
                              "isn't supported"},
    {"%import lark.STRING\nstart: \"x\"",
     "g, line 1: expected %import common, found lark, which isn't supported"},
    {"%import common.NONE\nstart: \"x\"",
     "g, line 1: expected the name of a terminal in common, found NONE"},
    {"%declare A\nstart: \"x\"", "g, line 1: expected %import, %ignore or %llguidance, found "
                                 "%declare, which isn't supported"},
    {"%llguidance {\"allow_invalid_utf8\": true}\nstart: \"x\"",
     "g, line 1: expected the options allow_initial_skip, ignore_once and no_forcing, found "
     "allow_invalid_utf8, which isn't supported"},
    {"%llguidance {\"ignore_once\": 1}\nstart: \"x\"",
     "g, line 1: ignore_once: expected true or false, found another value"},
};

static int status_of(const char *text, size_t n)
{
    struct grammar grammar;
    ck_assert_int_eq(grammar_open(&grammar, LIMIT / 8, &err), 0);
    int status = grammar_lark(&grammar, text, n, "g", &err);
    if (status == 0)
        language_promises(&grammar);
    grammar_close(&grammar);
    return status;
}

START_TEST(errors_of_lark)
{
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        ck_assert_msg(status_of(wrong[i].grammar, strlen(wrong[i].grammar)) == -1,
                      "not refused: %s", wrong[i].grammar);
        ck_assert_int_eq(err.code, LLAMA3_EINPUT);
        if (wrong[i].message)
            ck_assert_str_eq(err.message, wrong[i].message);
        ck_assert_msg(strncmp(err.message, "g: ", 3) == 0 ||
                          strncmp(err.message, "g, line ", 8) == 0,
                      "no place: %s", err.message);
    }
    /* What a regular expression lacks is said with its line. */
    ck_assert_int_eq(status_of("start: \"x\"\na: /(/", 17), -1);
    ck_assert_msg(strncmp(err.message, "g, line 2: ", 11) == 0, "%s", err.message);
}
END_TEST

START_TEST(hostile_lark)
{
    struct buf text = {0};
    char line[80];
    buf_add_str(&text, "start: ");
    for (int i = 0; i < 100000; i++)
        buf_add_str(&text, i % 2 ? "(" : "[");
    ck_assert_int_eq(status_of(text.data, text.size), -1);
    ck_assert_str_eq(err.message, "g, line 1: expected at most 200 groups in groups, found more");

    for (int n = 200; n <= 201; n++) {
        buf_clear(&text);
        buf_add_str(&text, "start: T0\n");
        for (int i = 0; i < n; i++) {
            snprintf(line, sizeof line, "T%d: T%d\n", i, i + 1);
            buf_add_str(&text, i < n - 1 ? line : "");
        }
        snprintf(line, sizeof line, "T%d: \"x\"\n", n - 1);
        buf_add_str(&text, line);
        ck_assert_int_eq(status_of(text.data, text.size), n == 200 ? 0 : -1);
    }

    buf_clear(&text);
    buf_add_str(&text, "start: A\nA: \"x\"");
    for (int i = 0; i < 50000; i++) {
        snprintf(line, sizeof line, " | \"word %d\"", i);
        buf_add_str(&text, line);
    }
    ck_assert_msg(status_of(text.data, text.size) == 0, "%s", err.message);

    buf_clear(&text);
    buf_add_str(&text, "start: \"x\"");
    for (int i = 0; i < 50000; i++)
        buf_add_str(&text, i % 2 ? " \"ab\"" : " | /c+/");
    ck_assert_msg(status_of(text.data, text.size) == 0, "%s", err.message);
    buf_free(&text);
}
END_TEST

/* Bytes of the cases exchanged, left out and doubled: read or refused, whatever they are. */
START_TEST(damaged_lark)
{
    srand(11);
    for (int round = 0; round < 6000; round++) {
        const struct lark_case *of = &cases[(size_t)rand() % (sizeof cases / sizeof *cases)];
        char text[1024];
        size_t n = strlen(of->grammar);
        memcpy(text, of->grammar, n);
        for (int change = rand() % 4; change >= 0; change--) {
            size_t at = (size_t)rand() % n, from = (size_t)rand() % n;
            size_t length = (size_t)rand() % 8 % (n - (at > from ? at : from)) + 1;
            if (rand() % 2)
                text[at] =
                    (char)(rand() % 3 ? "()[]{}|*+?\"\\-&<~.:=\n#%/,i9A"[rand() % 28] : rand());
            else
                memmove(text + at, text + from, length);
        }
        /* at its own end, where reading on is found out */
        char *exact = malloc(n);
        memcpy(exact, text, n);
        status_of(exact, n);
        free(exact);
    }
}
END_TEST

/* Each allocation fails in turn: an error that says so, and nothing is left or used after it. */
START_TEST(without_memory)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *text = cases[i].grammar;
        for (size_t n = 1;; n++) {
            struct grammar grammar;
            fails_in = n;
            int status = grammar_open(&grammar, LIMIT, &err);
            if (status == 0) {
                status = grammar_lark(&grammar, text, strlen(text), "g", &err);
                grammar_close(&grammar);
            }
            if (fails_in > 0) {
                fails_in = 0;
                require(status == 0, "%s", err.message);
                break;
            }
            require(status == -1 && err.code == LLAMA3_ENOMEM,
                    "allocation %zu of:\n%s\nwas missed: %s", n, text,
                    status ? err.message : "success");
        }
    }
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("lark");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, constructs_of_lark);
    tcase_add_test(tests, schemas_and_lexemes);
    tcase_add_test(tests, errors_of_lark);
    tcase_add_test(tests, hostile_lark);
    tcase_add_test(tests, damaged_lark);
    tcase_add_test(tests, without_memory);
    return run_tests("lark", tests);
}
