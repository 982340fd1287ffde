/* SPDX-License-Identifier: MIT */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "grammar/constraint.h"
#include "run.h"
#include "text/tokenizer.h"
#include "vocab_file.h"

static struct vocab vocab;
static struct tokenizer *tokenizer;
static struct vocabulary *vocabulary;
static struct llama3_error err = {.size = sizeof err};
static int32_t stop;

static void open_all(void)
{
    vocab_file_load(&vocab, TEST_DATA "/text/llama3.vocab");
    tokenizer = tokenizer_open(&vocab, &err);
    ck_assert_msg(tokenizer != NULL, "%s", err.message);
    for (stop = 0; tokenizer_kind(tokenizer, stop) != TOKEN_CONTROL;)
        stop++;
    vocabulary = vocabulary_open(tokenizer, vocab.n + 3, &stop, 1, &err);
    ck_assert_msg(vocabulary != NULL, "%s", err.message);
}

static void close_all(void)
{
    vocabulary_close(vocabulary);
    tokenizer_close(tokenizer);
    vocab_file_free(&vocab);
}

static struct constraint *open_one(enum constraint_kind kind, const char *text)
{
    struct constraint *c =
        constraint_open(vocabulary, kind, text, strlen(text), "the constraint", &err);
    ck_assert_msg(c != NULL, "%s: %s", text, err.message);
    return c;
}

static struct matcher *start(struct constraint *c)
{
    struct matcher *m = matcher_open(c, &err);
    ck_assert_msg(m != NULL, "%s", err.message);
    return m;
}

static bool has(const uint32_t *mask, int32_t token)
{
    return (mask[token / 32] >> token % 32 & 1) != 0;
}

/* ---- what is allowed ------------------------------------------------------------------------ */

enum { NO, YES };

static const struct {
    enum constraint_kind kind;
    const char *text, *answer;
    int allowed;
} triples[] = {
#define GBNF(text, answer, allowed)            \
    {                                          \
        CONSTRAINT_GBNF, text, answer, allowed \
    }
    GBNF("root ::= \"a\" root \"b\" | \"\"", "aabb", YES),
    GBNF("root ::= \"a\" root \"b\" | \"\"", "aab", NO),
    GBNF("root ::= root \"+\" n | n\nn ::= [0-9]{1,3}", "1+23+456", YES),
    GBNF("root ::= root \"+\" n | n\nn ::= [0-9]{1,3}", "1+2345", NO),
    GBNF("root ::= (x | y){2,3}\nx ::= \"ab\"\ny ::= \"a\" [c-e]", "abadab", YES),
#undef GBNF
#define LARK(text, answer, allowed)            \
    {                                          \
        CONSTRAINT_LARK, text, answer, allowed \
    }
    LARK("start: (WORD | NUMBER)+\nWORD: /[a-z]+/\nNUMBER: /[0-9]+/", "ab12c", YES),
    LARK("start: WORD NUMBER\nWORD: /[a-z0-9]+/\nNUMBER: /[0-9]+/", "ab12", NO), /* greedy */
    LARK("start: WORD \"=\" NUMBER\nWORD: /[a-z]+/\nNUMBER: /[0-9]+/\n%ignore /[ ]+/", "ab  = 12",
         YES),
    LARK("start: \"call \" args\nargs: %json {\"type\":\"object\",\"properties\":{\"n\":{\"type\":"
         "\"integer\"}},\"required\":[\"n\"],\"additionalProperties\":false}",
         "call {\"n\": 12}", YES),
    LARK("start: \"call \" args\nargs: %json {\"type\":\"object\",\"properties\":{\"n\":{\"type\":"
         "\"integer\"}},\"required\":[\"n\"],\"additionalProperties\":false}",
         "call {\"m\": 12}", NO),
#undef LARK
#define J(text, answer, allowed)                 \
    {                                            \
        CONSTRAINT_SCHEMA, text, answer, allowed \
    }
    {CONSTRAINT_JSON, "", "{\"a\": [1, 2.5e-3, true, null, \"x\\n\\u00e9\\ud83d\\ude00\"]}", YES},
    {CONSTRAINT_JSON, "", " \n\t[ ]", YES},
    {CONSTRAINT_JSON, "", "01", NO},
    {CONSTRAINT_JSON, "", "1.", NO},
    {CONSTRAINT_JSON, "", "-", NO},
    {CONSTRAINT_JSON, "", "\"\\ud83d\"", NO},
    {CONSTRAINT_JSON, "", "\"\\ude00\"", NO},
    {CONSTRAINT_JSON, "", "\"\\x\"", NO},
    {CONSTRAINT_JSON, "", "\"a\nb\"", NO},
    {CONSTRAINT_JSON, "", "\"\xff\"", NO},
    {CONSTRAINT_JSON, "", "[1,]", NO},
    {CONSTRAINT_JSON, "", "[1 2]", NO},
    {CONSTRAINT_JSON, "", "{\"a\":1,}", NO},
    {CONSTRAINT_JSON, "", "{\"a\" 1}", NO},
    {CONSTRAINT_JSON, "", "{\"a\":1,\"a\":2}", NO},
    {CONSTRAINT_JSON, "", "{\"a\":1,\"\\u0061\":2}", NO},
    {CONSTRAINT_JSON, "", "{\"a\":1}x", NO},
    {CONSTRAINT_JSON, "", "{\"a\":1} ", NO},
    {CONSTRAINT_JSON, "", "true", YES},
    {CONSTRAINT_JSON, "", "tru", NO},
    {CONSTRAINT_OBJECT, "", "{}", YES},
    {CONSTRAINT_OBJECT, "", "[]", NO},
    {CONSTRAINT_REGEX, "[a-c]+(-[0-9]{2,3})?", "abc-123", YES},
    {CONSTRAINT_REGEX, "[a-c]+(-[0-9]{2,3})?", "abc-1", NO},
    {CONSTRAINT_REGEX, "[a-c]+(-[0-9]{2,3})?", "abcd", NO},
    {CONSTRAINT_CHOICE, "[\"yes\",\"no\",\"not sure\"]", "not sure", YES},
    {CONSTRAINT_CHOICE, "[\"yes\",\"no\",\"not sure\"]", "no", YES},
    {CONSTRAINT_CHOICE, "[\"yes\",\"no\",\"not sure\"]", "not", NO},
    J("{\"enum\":[1,\"a\",null,[1],{\"b\":2}]}", "[1]", YES),
    J("{\"enum\":[1,\"a\",null,[1],{\"b\":2}]}", "{ \"b\" : 2 }", YES),
    J("{\"enum\":[1,\"a\",null,[1],{\"b\":2}]}", "[2]", NO),
    J("{\"type\":\"integer\",\"minimum\":-3,\"maximum\":120}", "120", YES),
    J("{\"type\":\"integer\",\"minimum\":-3,\"maximum\":120}", "121", NO),
    J("{\"type\":\"integer\",\"minimum\":-3,\"maximum\":120}", "-4", NO),
    J("{\"type\":\"string\",\"minLength\":2,\"maxLength\":3}", "\"a\"", NO),
    J("{\"type\":\"string\",\"minLength\":2,\"maxLength\":3}", "\"\\u00e9\xc3\xa9\"", YES),
    J("{\"type\":\"string\",\"minLength\":2,\"maxLength\":3}", "\"\\ud83d\\ude00abc\"", NO),
    J("{\"type\":\"string\",\"pattern\":\"^[a-z\\u00e9]+$\"}", "\"ab\\u00E9\"", YES),
    J("{\"type\":\"string\",\"pattern\":\"^[a-z]+$\"}", "\"ab\\u0043\"", NO),
    J("{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"type\":"
      "\"string\"}},\"required\":[\"b\"],\"additionalProperties\":false}",
      "{\"b\":\"\",\"a\":1}", YES),
    J("{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"type\":"
      "\"string\"}},\"required\":[\"b\"],\"additionalProperties\":false}",
      "{\"a\":1}", NO),
    J("{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"}}}",
      "{\"other\":[],\"a\":1,\"more\":{}}", YES),
    J("{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"}}}", "{\"\\u0061\":\"x\"}",
      NO),
    J("{\"type\":\"object\",\"maxProperties\":2,\"required\":[\"z\"]}", "{\"a\":1,\"b\":2}", NO),
    J("{\"type\":\"object\",\"maxProperties\":2,\"required\":[\"z\"]}", "{\"a\":1,\"z\":2}", YES),
    J("{\"type\":\"object\",\"dependentRequired\":{\"a\":[\"b\"]},\"properties\":{\"a\":true,"
      "\"b\":true}}",
      "{\"a\":1}", NO),
    J("{\"type\":\"object\",\"dependentRequired\":{\"a\":[\"b\"]},\"properties\":{\"a\":true,"
      "\"b\":true}}",
      "{\"b\":1,\"a\":1}", YES),
    J("{\"type\":\"array\",\"items\":{\"type\":\"integer\"},\"minItems\":1,\"maxItems\":2}", "[]",
      NO),
    J("{\"type\":\"array\",\"items\":{\"type\":\"integer\"},\"minItems\":1,\"maxItems\":2}",
      "[1, 22]", YES),
    J("{\"type\":\"array\",\"items\":{\"type\":\"integer\"},\"minItems\":1,\"maxItems\":2}",
      "[1,2,3]", NO),
    J("{\"type\":\"array\",\"items\":{\"enum\":[1,12,\"a\"]},\"uniqueItems\":true}", "[12,\"a\",1]",
      YES),
    J("{\"type\":\"array\",\"items\":{\"enum\":[1,12,\"a\"]},\"uniqueItems\":true}", "[1,1]", NO),
    J("{\"type\":\"array\",\"items\":{\"enum\":[1,12,\"a\"]},\"uniqueItems\":true}",
      "[\"a\",\"\\u0061\"]", NO),
    J("{\"type\":\"array\",\"items\":{\"type\":\"string\"},\"uniqueItems\":true}",
      "[\"a\",\"aa\",\"\"]", YES),
    J("{\"type\":\"array\",\"items\":{\"type\":\"string\"},\"uniqueItems\":true}",
      "[\"a\",\"aa\",\"a\"]", NO),
    J("{\"type\":\"array\",\"contains\":{\"const\":7},\"maxItems\":2}", "[1,2]", NO),
    J("{\"type\":\"array\",\"contains\":{\"const\":7},\"maxItems\":2}", "[1,7]", YES),
    J("{\"$ref\":\"#/$defs/n\",\"$defs\":{\"n\":{\"type\":\"object\",\"properties\":{\"next\":{"
      "\"$ref\":\"#/$defs/n\"}},\"additionalProperties\":false}}}",
      "{\"next\":{\"next\":{}}}", YES),
    J("{\"anyOf\":[{\"type\":\"object\",\"properties\":{\"k\":{\"const\":1}},\"required\":[\"k\"]},"
      "{\"type\":\"object\",\"properties\":{\"k\":{\"const\":2},\"x\":{\"type\":\"integer\"}},"
      "\"required\":[\"k\",\"x\"]}]}",
      "{\"x\":\"s\",\"k\":2}", NO),
    J("{\"anyOf\":[{\"type\":\"object\",\"properties\":{\"k\":{\"const\":1}},\"required\":[\"k\"]},"
      "{\"type\":\"object\",\"properties\":{\"k\":{\"const\":2},\"x\":{\"type\":\"integer\"}},"
      "\"required\":[\"k\",\"x\"]}]}",
      "{\"x\":\"s\",\"k\":1}", YES),
#undef J
};
enum { N_TRIPLES = sizeof triples / sizeof *triples };

START_TEST(texts_are_allowed_or_not)
{
    struct constraint *c = open_one(triples[_i].kind, triples[_i].text);
    struct matcher *m = start(c);
    const char *answer = triples[_i].answer;
    size_t n = strlen(answer), taken;
    ck_assert_int_eq(matcher_accept_bytes(m, answer, n, &taken, &err), 0);
    int allowed = taken == n && matcher_may_end(m);
    ck_assert_msg(allowed == triples[_i].allowed, "%s: %s: taken %zu of %zu", triples[_i].text,
                  answer, taken, n);
    matcher_close(m);
    constraint_close(c);
}
END_TEST

/* ---- masks ---------------------------------------------------------------------------------- */

/* The mask is what its definition says: the tokens whose bytes can be taken. */
static void check_mask(struct matcher *m, const char *what)
{
    const uint32_t *mask = matcher_mask(m, &err);
    require(mask != NULL, "%s: %s", what, err.message);
    for (int32_t token = 0; token < (int32_t)vocab.n + 3; token++) {
        struct matcher *copy = matcher_copy(m, &err);
        require(copy != NULL, "%s", err.message);
        bool takes = matcher_accept(copy, token, &err) == 0;
        matcher_close(copy);
        require(takes == has(mask, token), "%s: token %d: in the mask %d, taken %d", what, token,
                has(mask, token), takes);
    }
}

START_TEST(masks_are_what_can_be_taken)
{
    struct constraint *c = open_one(triples[_i].kind, triples[_i].text);
    struct matcher *m = start(c);
    const char *answer = triples[_i].answer;
    size_t taken;
    for (; *answer != '\0'; answer++) {
        check_mask(m, triples[_i].text);
        ck_assert_int_eq(matcher_accept_bytes(m, answer, 1, &taken, &err), 0);
        if (taken == 0)
            break;
    }
    if (!matcher_ended(m))
        check_mask(m, triples[_i].text);
    matcher_close(m);
    constraint_close(c);
}
END_TEST

static uint64_t seed;

static uint32_t draw(uint32_t n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % n;
}

/* Any walk over tokens of the masks goes on until the text ends, and a fresh matcher takes its
 * bytes. Tokens that close something are preferred after a while, or texts would never end. */
START_TEST(walks_end)
{
    struct constraint *c = open_one(triples[_i].kind, triples[_i].text);
    seed = (uint64_t)_i + 1;
    for (int round = 0; round < 4; round++) {
        struct matcher *m = start(c), *again = start(c);
        struct buf text = {0};
        size_t taken;
        int steps = 0;
        for (; !matcher_ended(m) && steps < 200; steps++) {
            const uint32_t *mask = matcher_mask(m, &err);
            require(mask != NULL, "%s: %.*s: %s", triples[_i].text, (int)text.size, text.data,
                    err.message);
            int32_t token = (int32_t)draw((uint32_t)vocab.n);
            for (int tries = 0; tries < (steps < 15 ? 0 : 40) && !has(mask, token); tries++)
                token = (int32_t)draw(128);
            if (steps > 15 && has(mask, stop))
                token = stop;
            while (!has(mask, token))
                token = (token + 1) % (int32_t)vocab.n;
            require(matcher_accept(m, token, &err) == 0, "%s", err.message);
            size_t n;
            const uint8_t *bytes = tokenizer_bytes(tokenizer, token, &n);
            if (token != stop)
                buf_add(&text, bytes, n);
        }
        ck_assert_int_eq(matcher_accept_bytes(again, text.data, text.size, &taken, &err), 0);
        require(taken == text.size, "%s: %.*s", triples[_i].text, (int)text.size, text.data);
        require(matcher_may_end(again) == matcher_may_end(m), "%s", triples[_i].text);
        matcher_close(m);
        matcher_close(again);
        buf_free(&text);
    }
    constraint_close(c);
}
END_TEST

/* ---- the rest ------------------------------------------------------------------------------- */

START_TEST(the_end)
{
    struct constraint *c = open_one(CONSTRAINT_OBJECT, "");
    struct matcher *m = start(c);
    size_t taken;
    ck_assert(!has(matcher_mask(m, &err), stop));
    ck_assert_int_lt(matcher_accept(m, stop, &err), 0);
    ck_assert_int_lt(matcher_accept(m, -1, &err), 0);
    ck_assert_int_lt(matcher_accept(m, (int32_t)vocab.n + 3, &err), 0);
    ck_assert_int_eq(matcher_accept_bytes(m, "{}", 2, &taken, &err), 0);
    ck_assert_uint_eq(taken, 2);
    ck_assert(matcher_ended(m) && matcher_may_end(m));
    ck_assert(has(matcher_mask(m, &err), stop));
    ck_assert_int_eq(matcher_accept(m, stop, &err), 0);
    ck_assert(matcher_ended(m));
    matcher_close(m);
    constraint_close(c);
}
END_TEST

START_TEST(forced_bytes)
{
    static const struct {
        const char *schema, *before, *forced;
    } cases[] = {
        {"{\"const\":\"abc\"}", "\"", "abc\""},
        {"{\"const\":\"abc\"}", "\"a", "bc\""},
        {"{\"const\":\"\\u0001\"}", "\"", "\\u0001\""},
        {"{\"enum\":[true]}", "t", "rue"},
        {"{\"type\":\"string\"}", "\"", ""},
        {"{\"type\":\"object\",\"properties\":{\"name\":true},\"required\":[\"name\"],"
         "\"additionalProperties\":false}",
         "{\"n", "ame\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct constraint *c = open_one(CONSTRAINT_SCHEMA, cases[i].schema);
        struct matcher *m = start(c);
        uint8_t bytes[64];
        size_t taken, n = strlen(cases[i].before);
        ck_assert_int_eq(matcher_accept_bytes(m, cases[i].before, n, &taken, &err), 0);
        ck_assert_uint_eq(taken, n);
        n = matcher_forced(m, bytes, sizeof bytes);
        const char *expected = cases[i].forced;
        ck_assert_msg(n == strlen(expected) && memcmp(bytes, expected, n) == 0,
                      "%s: forced %.*s, expected %s", cases[i].schema, (int)n, bytes, expected);
        matcher_close(m);
        constraint_close(c);
    }
}
END_TEST

START_TEST(blanks_end)
{
    struct constraint *c = open_one(CONSTRAINT_JSON, "");
    struct matcher *m = start(c);
    char blanks[1000];
    size_t taken;
    memset(blanks, ' ', sizeof blanks);
    ck_assert_int_eq(matcher_accept_bytes(m, "[", 1, &taken, &err), 0);
    ck_assert_int_eq(matcher_accept_bytes(m, blanks, sizeof blanks, &taken, &err), 0);
    ck_assert_uint_eq(taken, 128);
    ck_assert(matcher_mask(m, &err) != NULL);
    matcher_close(m);
    constraint_close(c);
}
END_TEST

START_TEST(errors_name_the_place)
{
    static const struct {
        enum constraint_kind kind;
        const char *text, *message;
    } cases[] = {
        {CONSTRAINT_SCHEMA, "{\"properties\":{\"a\":{\"type\":\"strin\"}}}", "#/properties/a/type"},
        {CONSTRAINT_SCHEMA, "{\"properties\":{\"a\":{\"pattern\":\"(\"}}}",
         "#/properties/a/pattern"},
        {CONSTRAINT_SCHEMA, "{\"$ref\":\"http://example.com/x\"}", "#/$ref"},
        {CONSTRAINT_SCHEMA, "{\"type\":\"integer\",\"minimum\":2,\"maximum\":1}", "found none"},
        {CONSTRAINT_SCHEMA, "false", "found none"},
        {CONSTRAINT_SCHEMA,
         "{\"properties\":{\"a\":{\"properties\":{\"b\":{\"uniqueItems\":true,\"items\":{}}}}}}",
         "#/properties/a/properties/b"},
        {CONSTRAINT_SCHEMA, "{\"a\":", "the constraint"},
        {CONSTRAINT_REGEX, "a(", "the constraint: pattern, byte"},
        {CONSTRAINT_REGEX, "a{2}(?!)", "the constraint: expected an expression"},
        {CONSTRAINT_CHOICE, "[]", "the constraint"},
        {CONSTRAINT_CHOICE, "[1]", "the constraint"},
        {CONSTRAINT_CHOICE, "\"a\"", "the constraint"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct constraint *c = constraint_open(vocabulary, cases[i].kind, cases[i].text,
                                               strlen(cases[i].text), "the constraint", &err);
        ck_assert_msg(c == NULL, "%s", cases[i].text);
        ck_assert_msg(err.code == LLAMA3_EINPUT && strstr(err.message, cases[i].message) != NULL,
                      "%s: %s", cases[i].text, err.message);
    }
}
END_TEST

/* Nesting without end is refused at its limit, and what was said so far stays valid. */
START_TEST(deep_nesting)
{
    struct constraint *c = open_one(CONSTRAINT_JSON, "");
    struct matcher *m = start(c);
    char deep[20000];
    size_t taken;
    memset(deep, '[', sizeof deep);
    ck_assert_int_eq(matcher_accept_bytes(m, deep, sizeof deep, &taken, &err), 0);
    ck_assert_uint_eq(taken, sizeof deep);
    memset(deep, ']', sizeof deep);
    ck_assert(matcher_mask(m, &err) != NULL);
    ck_assert_int_eq(matcher_accept_bytes(m, deep, sizeof deep, &taken, &err), 0);
    ck_assert_uint_eq(taken, sizeof deep);
    ck_assert(matcher_ended(m));
    matcher_close(m);
    constraint_close(c);
}
END_TEST

/* A constraint that is used for long makes a new parser of itself; nobody notices. */
START_TEST(renewal)
{
    struct constraint *c =
        open_one(CONSTRAINT_SCHEMA, "{\"type\":\"object\",\"additionalProperties\":"
                                    "{\"type\":\"array\",\"items\":{\"type\":\"integer\"}}}");
    struct matcher *one = start(c), *two = start(c);
    size_t taken;
    constraint_renew_at(c, 1 << 20);
    ck_assert_int_eq(matcher_accept_bytes(two, "{\"a\":[1", 7, &taken, &err), 0);
    ck_assert_int_eq(matcher_accept_bytes(one, "{", 1, &taken, &err), 0);
    for (int i = 0; i < 400; i++) {
        char text[64];
        int n = snprintf(text, sizeof text, "%s\"key %d\": [%d, %d]", i > 0 ? ", " : "", i, i, -i);
        ck_assert_int_eq(matcher_accept_bytes(one, text, (size_t)n, &taken, &err), 0);
        ck_assert_uint_eq(taken, (size_t)n);
        ck_assert_msg(matcher_mask(one, &err) != NULL, "%s", err.message);
    }
    ck_assert_uint_gt(constraint_renewals(c), 2);
    ck_assert_int_eq(matcher_accept_bytes(one, ", \"key 7\":[]", 12, &taken, &err), 0);
    ck_assert_uint_lt(taken, 12); /* it was there */
    ck_assert_int_eq(matcher_accept_bytes(two, "0]}", 3, &taken, &err), 0);
    ck_assert_uint_eq(taken, 3);
    ck_assert(matcher_ended(two));
    matcher_close(one);
    matcher_close(two);
    constraint_close(c);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("constraint");
    tcase_set_timeout(tests, 300);
    tcase_add_checked_fixture(tests, open_all, close_all);
    tcase_add_loop_test(tests, texts_are_allowed_or_not, 0, N_TRIPLES);
    tcase_add_loop_test(tests, masks_are_what_can_be_taken, 0, N_TRIPLES);
    tcase_add_loop_test(tests, walks_end, 0, N_TRIPLES);
    tcase_add_test(tests, the_end);
    tcase_add_test(tests, forced_bytes);
    tcase_add_test(tests, blanks_end);
    tcase_add_test(tests, errors_name_the_place);
    tcase_add_test(tests, deep_nesting);
    tcase_add_test(tests, renewal);
    return run_tests("constraint", tests);
}
