/* SPDX-License-Identifier: MIT */
/*
 * test_grammar: GBNF against texts that it matches and texts that it doesn't; and what
 * grammar_check() makes of a grammar against what it was, on all short texts, for grammars that
 * were made at random.
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

/* ---- GBNF: grammar, texts ------------------------------------------------------------------- */

/* Texts are cut at '|' where they are several; "" is one empty text. */
struct gbnf_case {
    const char *grammar, *yes, *no;
};

static const struct gbnf_case cases[] = {
    /* strings and escapes */
    {"root ::= \"ab\"", "ab", "a|b|abc|AB|"},
    {"root ::= \"\"", "", "a"},
    {"root ::= \"\\x41\\u00e9\\U0001F600\\n\\t\\r\\\\\\\"\\[\\]\\-\"",
     "A\xc3\xa9\xf0\x9f\x98\x80\n\t\r\\\"[]-", "A"},
    {"root ::= \"\xc3\xa9\"", "\xc3\xa9", "\xc3|\xe9"},
    {"root ::= \"\\xe9\"", "\xc3\xa9", "\xe9"},
    {"root ::= \"a#b\" # \"c\"", "a#b", "a"},
    /* classes */
    {"root ::= [abc]", "a|b|c", "d|ab|"},
    {"root ::= [a-cx-z0-9]", "b|y|5", "d|w|-"},
    {"root ::= [a-]", "a|-", "b"},
    {"root ::= [-+*/]", "-|+|*|/", ".|,"},
    {"root ::= [+\\-*]", "+|-|*", ","},
    {"root ::= [\\]\\[\\\\\"]", "]|[|\\|\"", "a"},
    {"root ::= [^a-c]", "d|\xc3\xa9|\n|\xf4\x8f\xbf\xbf", "a|c||dd|\xff|\xed\xa0\x80"},
    {"root ::= [^\\x00-\\x1F\"\\\\\\x7F]+", "ab \xe3\x81\x82|\xc2\x80", "a\"|\n|\x7f|\\"},
    {"root ::= [^^]", "a", "^"},
    {"root ::= [a^]", "^|a", "b"},
    {"root ::= [^a-mb-z]", "A", "a|z|n"},
    {"root ::= [^x-ya-zb-c]", "A", "a|z|d|y"},
    {"root ::= [\xe3\x81\x81-\xe3\x82\x9f]+", "\xe3\x81\x82\xe3\x81\x84", "\xe3\x82\xa2|a"},
    {"root ::= [\\u3041-\\u309f]", "\xe3\x81\x82", "\xe3\x82\xa2"},
    {"root ::= [\\U00010000-\\U0010FFFF]", "\xf0\x9f\x98\x80", "a|\xef\xbf\xbf"},
    {"root ::= [\\uD7FF-\\uE000]", "\xed\x9f\xbf|\xee\x80\x80", "\xed\xa0\x80"},
    {"root ::= .", "a|\n|\xf0\x9f\x98\x80", "|ab|\xf0\x9f"},
    {"root ::= . .", "ab|\xc3\xa9x", "a|abc"},
    /* sequences, choices, groups */
    {"root ::= \"a\" \"b\" | \"c\"", "ab|c", "a|b|abc|ac"},
    {"root ::= \"a\" (\"b\" | \"c\") \"d\"", "abd|acd", "ad|abcd"},
    {"root ::= \"a\" | ", "a|", "b"},
    {"root ::= | \"a\"", "a|", "b"},
    {"root ::= (\n \"a\"\n # note\n |\n \"b\"\n) \"c\"", "ac|bc", "c"},
    {"root ::= \"a\" |\n \"b\" |\n\n # note\n \"c\"\n", "a|b|c", "d"},
    {"root ::= \"a\"\n  | \"b\"\n  | \"c\"\n", "a|b|c", "d"},
    {"root ::=\n \"a\" \"b\"", "ab", "a"},
    {"root ::= ((((((\"a\"))))))", "a", ""},
    {"root ::= ()", "", "a"},
    /* so many words that they are a set; some twice, some begin others */
    {"root ::= (\"a\" | \"an\" | \"and\" | \"as\" | \"at\" | \"be\" | \"by\" | \"do\" | \"go\" | "
     "\"he\" | \"if\" | \"in\" | \"is\" | \"a\" | \"it\" | \"me\" | [x-z] | \"\" | \"my\" | \"no\") \".\"",
     "a.|an.|and.|it.|no.|y.|.", "ande.||a|b.|xa."},
    /* repetitions */
    {"root ::= \"ab\"*", "|ab|abab", "a|aba"},
    {"root ::= \"ab\"+", "ab|abab", "|a"},
    {"root ::= \"ab\"?", "|ab", "abab"},
    {"root ::= [ab]{2}", "ab|ba", "a|aba"},
    {"root ::= [ab]{2,}", "ab|baab", "a|"},
    {"root ::= [ab]{2,3}", "ab|bab", "a|abab"},
    {"root ::= [ab]{0,2}", "|a|ab", "aba"},
    {"root ::= [ab]{ 1 , 2 }", "a|ab", "|aba"},
    {"root ::= [ab]{0}", "", "a"},
    {"root ::= (\"a\" | \"bc\"){2}", "aa|abc|bca|bcbc", "a|bc|aaa"},
    {"root ::= \"a\"{2}{2}", "aaaa", "aa|aaa"},
    {"root ::= \"a\"?*", "|a|aa", "b"},
    {"root ::= (\"a\"*)*", "|aaa", "b"},
    {"root ::= (\"a\"? \"b\"?){3}", "|ab|aaa|abab|ababab|bbb", "aaaa|bbbb"},
    /* names and lines */
    {"# first\n\nroot ::= a-b c1\n\na-b ::= \"x\" # note\nc1 ::= \"y\"", "xy", "x"},
    {"a::=\"x\"\r\nroot::=a a\r\n", "xx", "x"},
    {"root ::= my_rule\nmy_rule ::= \"x\"", "x", ""},
    {"root ::= ROOT\nROOT ::= \"x\"", "x", ""},
    /* recursion: in the middle, right, left, by others, behind what may be empty */
    {"root ::= \"(\" root \")\" | \"\"", "|()|((()))", "(|())"},
    {"root ::= \"a\" root | \"b\"", "b|aab", "a|ba"},
    {"ws ::= [ \\n] ws | \"\"\nroot ::= ws \"x\" ws", "x| x \n", "y"},
    {"root ::= root \"a\" | \"b\"", "b|ba|baa", "a|ab|"},
    {"root ::= root root | \"a\"", "a|aa|aaa", "|b"},
    {"root ::= root | \"a\"", "a", "|aa"},
    {"root ::= a \"x\" | \"y\"\na ::= root \"z\" | \"w\"", "y|wx|yzx|wxzx|yzxzx", "x|zx|yz"},
    {"root ::= a\na ::= b \"1\" | \"a\"\nb ::= c \"2\" | \"b\"\nc ::= a \"3\" | \"c\"",
     "a|b1|c21|a321|c21321|b1321", "a1|c1|a3"},
    {"root ::= e root \"a\" | \"b\"\ne ::= \"\" | \"c\"", "b|ba|cba|ccbaa|cbaa", "|cb|ca"},
    {"root ::= e* root \"a\" | \"b\"\ne ::= \"c\"?", "b|ba|cba|cccba", "cb"},
    {"root ::= (root \"+\"){0,2} \"n\"", "n|n+n|n+n+n|n+n+n+n", "|+|n+|+n"},
    {"root ::= (root | \"a\"){2} | \"b\"", "b|aa|bb|ab|aab|aaaa", "a|"},
    {"root ::= x | root x\nx ::= y | x \"!\"\ny ::= \"a\" | root \"?\"", "a|a!|aa|a?|aa!?a!",
     "!|?"},
    /* what never ends is left out */
    {"root ::= \"a\" | loop \"b\"\nloop ::= \"x\" loop", "a", "b|xb"},
    {"root ::= \"a\" loop*\nloop ::= loop \"x\"", "a", "ax"},
    {"root ::= \"a\" loop{0,3} \"b\"\nloop ::= loop loop", "ab", "axb"},
    {"root ::= \"a\"\nunused ::= unused", "a", ""},
    {"root ::= e e e \"a\"\ne ::= \"\"", "a", ""},
};

/* Like the examples that llama.cpp comes with, and what its converters write. */
static const struct gbnf_case examples[] = {
    {"root ::= (expr \"=\" ws term \"\\n\")+\n"
     "expr ::= term ([-+*/] term)*\n"
     "term ::= ident | num | \"(\" ws expr \")\" ws\n"
     "ident ::= [a-z] [a-z0-9_]* ws\n"
     "num ::= [0-9]+ ws\n"
     "ws ::= [ \\t\\n]*\n",
     "x=1\n|(a +2)*b_1 = 7 \n|1=1\n2 -3=x\n", "x=1|=1\n|(a=1\n|a b=1\n"},
    {"root ::= object\n"
     "value ::= object | array | string | number | (\"true\" | \"false\" | \"null\") ws\n"
     "object ::= \"{\" ws ( string \":\" ws value (\",\" ws string \":\" ws value)* )? \"}\" ws\n"
     "array ::= \"[\" ws ( value (\",\" ws value)* )? \"]\" ws\n"
     "string ::= \"\\\"\" ( [^\"\\\\\\x7F\\x00-\\x1F] | \"\\\\\" ([\"\\\\bfnrt] | \"u\" "
     "[0-9a-fA-F]{4}) )* \"\\\"\" ws\n"
     "number ::= (\"-\"? ([0-9] | [1-9] [0-9]{0,15})) (\".\" [0-9]+)? ([eE] [-+]? [0-9] "
     "[1-9]{0,15})? ws\n"
     "ws ::= | \" \" | \"\\n\" [ \\t]{0,20}\n",
     "{}|{\"a\": [1, -2.5e+1, {\"b\":null}], \"\xc3\xa9\\u00e9\":true}\n|{\n\t \"k\":\"\"}",
     "|[]|{\"a\"}|{\"a\":01}|{\"a\":\"\n\"}|{\"a\":tru}|{,}|{\"a\":1,}"},
    {"root ::= item+\nitem ::= \"- \" [^\\r\\n\\x0b\\x0c\\x85\\u2028\\u2029]+ \"\\n\"\n",
     "- one\n|- a\n- \xc3\xa9\n", "|- \n|one\n|- a"},
    {"root ::= (\n"
     "    # the first move of both sides\n"
     "    \"1. \" move \" \" move \"\\n\"\n"
     "    ([1-9] [0-9]? \". \" move \" \" move \"\\n\")+\n"
     ")\n"
     "move ::= (pawn | nonpawn | castle) [+#]?\n"
     "nonpawn ::= [NBKQR] [a-h]? [1-8]? \"x\"? [a-h] [1-8]\n"
     "pawn ::= ([a-h] \"x\")? [a-h] [1-8] (\"=\" [NBKQR])?\n"
     "castle ::= \"O-O\" \"-O\"?\n",
     "1. e4 e5\n2. Nf3 Nc6\n|1. e4 d5\n2. exd5 Qxd5+\n3. O-O-O e1=Q#\n",
     "1. e4 e5\n|1. e9 e5\n2. a1 a2\n|2. e4 e5\n3. a1 a2\n"},
    {"root ::= declaration*\n"
     "declaration ::= type ident \"(\" parameter? \")\" \"{\" statement* \"}\"\n"
     "type ::= (\"int\" | \"float\" | \"char\") ws\n"
     "ident ::= [a-zA-Z_] [a-zA-Z_0-9]*\n"
     "parameter ::= type ident\n"
     "statement ::= type ident ws \"=\" ws expression \";\" | ident ws \"=\" ws expression \";\" |\n"
     "    \"return\" ws expression \";\" |\n"
     "    \"while\" \"(\" condition \")\" \"{\" statement* \"}\"\n"
     "condition ::= expression (\"<\" | \"==\" | \">=\") expression\n"
     "expression ::= term ((\"+\" | \"-\") term)*\n"
     "term ::= factor ((\"*\" | \"/\") factor)*\n"
     "factor ::= ident | [0-9]+ | \"-\" factor | \"(\" expression \")\"\n"
     "ws ::= [ \\t\\n]+\n",
     "|int f(){}|int f(float x){return -x*(1+2);}|char g(){while(a<1){a = b/2;}}",
     "int|f(){}|int f(){return 1}|int f(){a=1;}"},
    {"root ::= jp-char+ ([ \\t\\n] jp-char+)*\n"
     "jp-char ::= hiragana | katakana | punctuation | cjk\n"
     "hiragana ::= [\xe3\x81\x81-\xe3\x82\x9f]\n"
     "katakana ::= [\xe3\x82\xa1-\xe3\x83\xbf]\n"
     "punctuation ::= [\xe3\x80\x81-\xe3\x80\xbe]\n"
     "cjk ::= [\xe4\xb8\x80-\xe9\xbf\xbf]\n",
     "\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e \xe3\x81\x82\xe3\x82\xa2\xe3\x80\x82", "|a|\xe6\x97"},
    {"root ::= [a-zA-Z0-9,.!? ]+ | root \"\\n\" [a-z]+\n", "Is it?|a\nb\nc", "|\n|a\n"},
};

static struct grammar read(const char *text)
{
    struct grammar grammar;
    ck_assert_int_eq(grammar_open(&grammar, LIMIT, &err), 0);
    if (grammar_gbnf(&grammar, text, strlen(text), "g", &err))
        ck_abort_msg("%s\nin:\n%s", err.message, text);
    return grammar;
}

/* Each of the texts, of which '|' stands between two. */
static void each(struct grammar *grammar, const char *source, const char *texts, bool matches)
{
    for (const char *end;; texts = end + 1) {
        end = strchr(texts, '|');
        size_t n = end ? (size_t)(end - texts) : strlen(texts);
        require(language_matches(grammar, texts, n) == matches, "%s \"%.*s\" of:\n%s",
                matches ? "refuses" : "takes", (int)n, texts, source);
        if (!end)
            break;
    }
}

static void try_cases(const struct gbnf_case *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct grammar grammar = read(list[i].grammar);
        language_promises(&grammar);
        each(&grammar, list[i].grammar, list[i].yes, true);
        /* "" alone says: no text but the given ones is tried */
        if (list[i].no[0] != '\0')
            each(&grammar, list[i].grammar, list[i].no, false);
        grammar_close(&grammar);
    }
}

START_TEST(constructs_of_gbnf)
{
    try_cases(cases, sizeof cases / sizeof *cases);
}
END_TEST

START_TEST(grammars_of_gbnf)
{
    try_cases(examples, sizeof examples / sizeof *examples);
}
END_TEST

/* ---- GBNF: errors --------------------------------------------------------------------------- */

static const struct {
    const char *grammar, *message;
} wrong[] = {
    {"", "g: expected a rule with the name root, found none"},
    {"a ::= \"x\"", "g: expected a rule with the name root, found none"},
    {"root ::= \"a\"\n\n  b ::= c \"x\"\n",
     "g, line 3: expected a definition of the rule c, found none"},
    {"root ::= a\na ::= \"x\"\n# note\na ::= \"y\"",
     "g, line 4: expected one definition of the rule a, found another"},
    {"root \"a\"", "g, line 1: expected '::=', found '\"'"},
    {"root", "g, line 1: expected '::=', found the end"},
    {"root ::= \"a\"\n= \"b\"", "g, line 2: expected the name of a rule, found '='"},
    {"root ::= \"a\" )", "g, line 1: expected text, a rule or the end of the line, found ')'"},
    {"root ::= (\n\"a\"", "g, line 2: expected ')', found the end"},
    {"root ::= (\"a\" ]", "g, line 1: expected ')', found ']'"},
    {"root ::= \n \"a", "g, line 2: expected '\"' at the end of the string, found none"},
    {"root ::= [a", "g, line 1: expected ']' at the end of the class, found none"},
    {"root ::= []", "g, line 1: expected a character, found an empty class"},
    {"root ::= [^]", "g, line 1: expected a character, found an empty class"},
    {"root ::= [z-a]",
     "g, line 1: expected a range from a lower character to a higher one, found 'z-a'"},
    {"root ::= \"\\q\"", "g, line 1: expected one of xuUtrn\\\"[]- after '\\', found 'q'"},
    {"root ::= \"\\x4g\"", "g, line 1: expected a hexadecimal digit, found 'g'"},
    {"root ::= \"\\ud83d\"",
     "g, line 1: expected a character of Unicode, found the surrogate \\uD83D"},
    {"root ::= \"\\U00110000\"", "g, line 1: expected a character of Unicode, found \\U00110000"},
    {"root ::= \"\xff\"", "g, line 1: expected a character in UTF-8, found the byte 0xff"},
    {"root ::= * \"a\"", "g, line 1: expected text, a rule or the end of the line, found '*'"},
    {"root ::= \"a\"{}", "g, line 1: expected a number, found '}'"},
    {"root ::= \"a\"{,3}", "g, line 1: expected a number, found ','"},
    {"root ::= \"a\"{2", "g, line 1: expected '}', found the end"},
    {"root ::= \"a\"{3,2}", "g, line 1: expected at least as many as 3, found 2"},
    {"root ::= \"a\"{99999999999}", "g, line 1: expected a count of at most 1000000, found more"},
    {"root ::=\n <think> \"a\"",
     "g, line 2: expected text or the name of a rule, found the token <think>, which isn't "
     "supported"},
    {"root ::= !<[1000]>",
     "g, line 1: expected text or the name of a rule, found the token !<[1000]>, which isn't "
     "supported"},
    {"\nroot ::= root \"a\"",
     "g, line 2: expected a text that ends from the rule root, found none"},
    {"a ::= \"b\" a\nroot ::= a", "g, line 2: expected a text that ends from the rule root, found "
                                  "none"},
};

static void refused(const char *text, size_t n, const char *message)
{
    struct grammar grammar;
    ck_assert_int_eq(grammar_open(&grammar, LIMIT, &err), 0);
    ck_assert_msg(grammar_gbnf(&grammar, text, n, "g", &err) == -1, "not refused: %s", text);
    ck_assert_str_eq(err.message, message);
    ck_assert_int_eq(err.code, LLAMA3_EINPUT);
    grammar_close(&grammar);
}

START_TEST(errors_of_gbnf)
{
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        refused(wrong[i].grammar, strlen(wrong[i].grammar), wrong[i].message);
    refused("root ::= \"a\"\0\"b\"", 16,
            "g, line 1: expected text, a rule or the end of the line, found the byte 0x00");
}
END_TEST

/* ---- hostile grammars ----------------------------------------------------------------------- */

/* n times one text. */
static void many(struct buf *out, size_t n, const char *text)
{
    for (size_t i = 0; i < n; i++)
        buf_add_str(out, text);
}

static int status_of(const struct buf *text, size_t limit)
{
    struct grammar grammar;
    ck_assert_int_eq(grammar_open(&grammar, limit, &err), 0);
    int status = grammar_gbnf(&grammar, text->data, text->size, "g", &err);
    if (status == 0)
        language_promises(&grammar);
    grammar_close(&grammar);
    return status;
}

START_TEST(hostile_grammars)
{
    struct buf text = {0};
    char line[80];

    /* groups in groups */
    buf_add_str(&text, "root ::= ");
    many(&text, 200, "(");
    buf_add_str(&text, "\"a\"");
    many(&text, 200, ")");
    ck_assert_msg(status_of(&text, LIMIT) == 0, "%s", err.message);
    buf_clear(&text);
    buf_add_str(&text, "root ::= ");
    many(&text, 100000, "(");
    ck_assert_int_eq(status_of(&text, LIMIT), -1);
    ck_assert_str_eq(err.message, "g, line 1: expected at most 200 groups in groups, found more");

    /* long sequences, and choices of many words, in little depth */
    buf_clear(&text);
    buf_add_str(&text, "root ::= x");
    many(&text, 50000, " \"ab\" x");
    buf_add_str(&text, "\nx ::= \"(\" x \")\" | \"a\"");
    ck_assert_msg(status_of(&text, LIMIT) == 0, "%s", err.message);
    buf_clear(&text);
    buf_add_str(&text, "root ::= \"none\"");
    for (int i = 0; i < 20000; i++) {
        snprintf(line, sizeof line, " | \"word%d\"", i);
        buf_add_str(&text, line);
    }
    ck_assert_msg(status_of(&text, LIMIT) == 0, "%s", err.message);

    /* a chain of rules: to its end and back, with the last one first */
    for (int forth = 0; forth < 2; forth++) {
        buf_clear(&text);
        buf_add_str(&text, "root ::= r0\n");
        for (int k = 0; k < 50000; k++) {
            int i = forth ? k : 49999 - k;
            snprintf(line, sizeof line, i == 49999 ? "r%d ::= [a-z]\n" : "r%d ::= r%d\n", i, i + 1);
            buf_add_str(&text, line);
        }
        ck_assert_msg(status_of(&text, LIMIT) == 0, "%s", err.message);
    }

    /* 2^60 characters, if it were written out */
    buf_clear(&text);
    buf_add_str(&text, "root ::= r0\n");
    for (int i = 0; i < 60; i++) {
        snprintf(line, sizeof line, "r%d ::= r%d \"-\" r%d\n", i, i + 1, i + 1);
        buf_add_str(&text, line);
    }
    buf_add_str(&text, "r60 ::= \"a\"");
    ck_assert_msg(status_of(&text, LIMIT) == 0, "%s", err.message);

    /* rules that begin with each other: as many as are taken, and one more */
    for (int n = 128; n <= 129; n++) {
        buf_clear(&text);
        buf_add_str(&text, "root ::= r0\n");
        for (int i = 0; i < n; i++) {
            snprintf(line, sizeof line, "r%d ::= r%d \"x\" | \"a\"\n", i, (i + 1) % n);
            buf_add_str(&text, line);
        }
        ck_assert_int_eq(status_of(&text, LIMIT), n == 128 ? 0 : -1);
    }
    ck_assert_str_eq(err.message, "g, line 1: rule r128: expected at most 128 rules that begin "
                                  "with each other, found 129");

    /* each of them with all others: 128 * 128 rules of 128 choices are too many */
    buf_clear(&text);
    buf_add_str(&text, "root ::= r0\n");
    for (int i = 0; i < 128; i++) {
        snprintf(line, sizeof line, "r%d ::= \"a\"", i);
        buf_add_str(&text, line);
        for (int k = 0; k < 128; k++) {
            snprintf(line, sizeof line, " | r%d \"%d\"", k, i);
            buf_add_str(&text, line);
        }
        buf_add_str(&text, "\n");
    }
    ck_assert_int_eq(status_of(&text, LIMIT), -1);
    ck_assert_int_eq(err.code, LLAMA3_EINPUT);

    /* repetitions of repetitions: nodes in nodes */
    for (int n = 3900; n <= 39000; n *= 10)
        for (int counted = 0; counted < 2; counted++) {
            buf_clear(&text);
            buf_add_str(&text, "root ::= \"a\"");
            many(&text, (size_t)n, counted ? "{2}" : "{0,9}");
            ck_assert_int_eq(status_of(&text, LIMIT), n == 3900 ? 0 : -1);
        }
    ck_assert_str_eq(err.message, "g, line 1: expected a grammar of parts in parts at most 4000 "
                                  "deep, found more");

    /* the limit on memory */
    buf_clear(&text);
    buf_add_str(&text, "root ::= \"a\"");
    for (int i = 0; i < 20000; i++) {
        snprintf(line, sizeof line, " | \"%d\" root", i);
        buf_add_str(&text, line);
    }
    ck_assert_int_eq(status_of(&text, 1 << 20), -1);
    ck_assert_int_eq(err.code, LLAMA3_EINPUT);
    buf_free(&text);
}
END_TEST

/* Bytes of the examples exchanged, left out and doubled: read or refused, whatever they are. */
START_TEST(damaged_grammars)
{
    srand(7);
    for (int round = 0; round < 4000; round++) {
        const struct gbnf_case *of =
            &examples[(size_t)rand() % (sizeof examples / sizeof *examples)];
        char text[2048];
        size_t n = strlen(of->grammar);
        memcpy(text, of->grammar, n);
        for (int change = rand() % 4; change >= 0; change--) {
            size_t at = (size_t)rand() % n, from = (size_t)rand() % n;
            size_t length = (size_t)rand() % 8 % (n - (at > from ? at : from)) + 1;
            if (rand() % 2)
                text[at] = (char)(rand() % 3 ? "()[]{}|*+?\"\\-^<!.:=\n#9"[rand() % 22] : rand());
            else
                memmove(text + at, text + from, length);
        }
        struct buf damaged = {.data = text, .size = n};
        status_of(&damaged, LIMIT / 16);
    }
}
END_TEST

/* ---- grammars at random: the language stays ------------------------------------------------- */

enum { LONGEST = 6, TEXTS = (2 << LONGEST) - 1 };

struct random_grammar {
    struct grammar grammar;
    node rules[5];
    unsigned n_rules;
};

static node random_node(struct random_grammar *r, int depth)
{
    struct grammar *g = &r->grammar;
    static const char *const words[] = {"a", "b", "a", "b", "ab", "ba"};
    switch (depth == 0 ? rand() % 5 : rand() % 10) {
    case 0:
        return GRAMMAR_EMPTY;
    case 1:
    case 2: {
        const char *word = words[rand() % 6];
        regex w = regex_literal(g->regexes, word, strlen(word));
        return grammar_terminal(g, rand() % 6 ? w : regex_repeat(g->regexes, w, 0, 2));
    }
    case 3:
    case 4:
        return r->rules[(unsigned)rand() % r->n_rules];
    case 5:
    case 6: {
        node a = random_node(r, depth - 1);
        return grammar_or(g, a, random_node(r, depth - 1));
    }
    case 7: {
        uint32_t min = (uint32_t)(rand() % 3), more = (uint32_t)(rand() % 3);
        return grammar_repeat(g, random_node(r, depth - 1), min,
                              rand() % 3 ? min + more : UINT32_MAX);
    }
    default: {
        node a = random_node(r, depth - 1);
        return grammar_concat(g, a, random_node(r, depth - 1));
    }
    }
}

static void texts_of(struct grammar *grammar, bool matches[TEXTS])
{
    size_t at = 0;
    for (size_t n = 0; n <= LONGEST; n++)
        for (unsigned bits = 0; bits < 1U << n; bits++) {
            char text[LONGEST];
            for (size_t i = 0; i < n; i++)
                text[i] = bits >> i & 1 ? 'b' : 'a';
            matches[at++] = language_matches(grammar, text, n);
        }
}

static void random_round(int seed, unsigned *n_checked, unsigned *n_left)
{
    struct random_grammar r = {0};
    struct rule_graph graph;
    bool before[TEXTS], after[TEXTS];
    srand((unsigned)seed);
    ck_assert_int_eq(grammar_open(&r.grammar, LIMIT, &err), 0);
    r.grammar.greedy = rand() % 2;
    r.n_rules = 1 + (unsigned)rand() % 5;
    for (unsigned i = 0; i < r.n_rules; i++)
        r.rules[i] = grammar_rule(&r.grammar, "rule");
    for (unsigned i = 0; i < r.n_rules; i++)
        grammar_define(&r.grammar, r.rules[i], random_node(&r, 3));
    r.grammar.start = r.rules[0];
    texts_of(&r.grammar, before);
    require(rule_graph_make(&r.grammar, true, &graph) == 0, "no graph");
    for (uint32_t i = 0; i < graph.n_components; i++)
        if (rule_graph_recursive(&graph, i)) {
            ++*n_left;
            break;
        }
    rule_graph_free(&graph);
    if (grammar_check(&r.grammar, &err)) {
        require(strstr(err.message, "expected a text that ends"), "seed %d: %s", seed, err.message);
        for (size_t i = 0; i < TEXTS; i++)
            require(!before[i], "seed %d: text %zu ends", seed, i);
    } else {
        language_promises(&r.grammar);
        texts_of(&r.grammar, after);
        for (size_t i = 0; i < TEXTS; i++)
            require(before[i] == after[i], "seed %d, text %zu: %d became %d", seed, i, before[i],
                    after[i]);
        ++*n_checked;
    }
    grammar_close(&r.grammar);
}

START_TEST(random_grammars)
{
    const char *chosen = getenv("SEED");
    unsigned n_checked = 0, n_left = 0;
    int first = chosen ? atoi(chosen) : 1, n = chosen ? 1 : 3000;
    for (int seed = first; seed < first + n; seed++)
        random_round(seed, &n_checked, &n_left);
    if (!chosen) {
        ck_assert_uint_gt(n_checked, 2000);
        ck_assert_uint_gt(n_left, 500);
    }
}
END_TEST

/* ---- what a parser gets --------------------------------------------------------------------- */

/* Whether the start is one terminal, with "" beside it or not. */
static bool is_terminal(const char *text)
{
    struct grammar grammar = read(text);
    struct node x = *grammar_node(&grammar, grammar.start);
    if (x.kind == NODE_OR && x.a == GRAMMAR_EMPTY)
        x = *grammar_node(&grammar, x.b);
    grammar_close(&grammar);
    return x.kind == NODE_TERMINAL;
}

START_TEST(regular_rules_are_terminals)
{
    ck_assert(is_terminal("root ::= \"a\" ws num ws\nws ::= [ ]*\nnum ::= [0-9]+ (\".\" [0-9]+)?"));
    ck_assert(is_terminal("root ::= ws\nws ::= [ ] ws | \"\""));
    ck_assert(is_terminal("root ::= root \",\" num | num\nnum ::= [0-9] num | [0-9]"));
    ck_assert(is_terminal("root ::= \"\" | a b | b\na ::= \"x\"{3,900}\nb ::= (\"y\" | a)*"));
    ck_assert(!is_terminal("root ::= \"(\" root \")\" | \"\""));

    /* In others, what stands together is one terminal. */
    struct grammar grammar = read("root ::= \"a\" ws \"[\" (root | \"x\" | \"y\")* ws \"]\" \"!\"\n"
                                  "ws ::= [ ]*");
    struct node rule = *grammar_node(&grammar, grammar.start);
    ck_assert_int_eq(rule.kind, NODE_RULE);
    struct language l = {.grammar = &grammar};
    l.nodes = calloc(grammar.nodes->n, sizeof *l.nodes);
    l.index = malloc(grammar.nodes->n * sizeof *l.index);
    memset(l.index, 0xff, grammar.nodes->n * sizeof *l.index);
    language_collect(&l, grammar.start);
    size_t n_terminals = 0;
    for (size_t i = 0; i < l.n_nodes; i++)
        n_terminals += grammar_node(&grammar, l.nodes[i])->kind == NODE_TERMINAL;
    ck_assert_uint_eq(n_terminals, 3); /* a ws [, x|y, ws ] ! */
    free(l.nodes);
    free(l.index);

    /* Interning works on. */
    node one = grammar_repeat(&grammar, grammar.start, 2, 5);
    uint32_t n = grammar.nodes->n;
    ck_assert_uint_eq(grammar_repeat(&grammar, grammar.start, 2, 5), one);
    ck_assert_uint_eq(grammar.nodes->n, n);
    ck_assert_uint_eq(grammar_repeat(&grammar, grammar.start, 1, 1), grammar.start);
    ck_assert_uint_eq(grammar_repeat(&grammar, grammar.start, 0, 0), GRAMMAR_EMPTY);
    grammar_close(&grammar);
}
END_TEST

START_TEST(undefined_rules)
{
    struct grammar grammar;
    ck_assert_int_eq(grammar_open(&grammar, LIMIT, &err), 0);
    grammar.start = grammar_rule(&grammar, "first");
    grammar_define(&grammar, grammar.start, grammar_rule(&grammar, "second"));
    ck_assert_int_eq(grammar_check(&grammar, &err), -1);
    ck_assert_str_eq(err.message, "expected a definition of the rule second, found none");
    grammar_close(&grammar);
}
END_TEST

/* Each allocation fails in turn: an error that says so, and nothing is left or used after it. */
START_TEST(without_memory)
{
    for (size_t i = 0; i < sizeof examples / sizeof *examples; i++) {
        const char *text = examples[i].grammar;
        for (size_t n = 1;; n++) {
            struct grammar grammar;
            fails_in = n;
            int status = grammar_open(&grammar, LIMIT, &err);
            if (status == 0) {
                status = grammar_gbnf(&grammar, text, strlen(text), "g", &err);
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
    TCase *tests = tcase_create("grammar");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, constructs_of_gbnf);
    tcase_add_test(tests, grammars_of_gbnf);
    tcase_add_test(tests, errors_of_gbnf);
    tcase_add_test(tests, hostile_grammars);
    tcase_add_test(tests, damaged_grammars);
    tcase_add_test(tests, random_grammars);
    tcase_add_test(tests, regular_rules_are_terminals);
    tcase_add_test(tests, undefined_rules);
    tcase_add_test(tests, without_memory);
    return run_tests("grammar", tests);
}
