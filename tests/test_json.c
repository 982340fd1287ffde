/* SPDX-License-Identifier: MIT */
/*
 * test_json: the parser against jansson's own, on damaged texts too, and with every allocation
 * failing in turn.
 */
#include "config.h" /* MAP_ANONYMOUS */

#include <check.h>
#include <locale.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/json.h"
#include "failing.h"
#include "run.h"

static struct llama3_error err;

static const char *const texts[] = {
    "{}",
    " {\t\"a\" :\r\n[ ] , \"b\":{ } }\n",
    "{\"a\":[1,-1,0,-0,1.5,-0.0,1e3,1E+3,2e-3,123456789012345678,9223372036854775807,"
    "-9223372036854775808,true,false,null]}",
    "{\"\":\"\",\"k\":\"plain text that is longer than sixteen bytes\",\"\\u0041\":\"\\n\\t\\\"\\\\\\/"
    "\\b\\f\\r\"}",
    "{\"u\":\"\\u00e9\\ud83d\\ude00\\uFFFF\\u0001\xc3\xa9\xf0\x9f\x98\x80\x7f\"}",
    /* the closing quote is what a buffer of 16, or of 32, has no room for */
    "{\"fourteen bytes\":\"these as well!\",\"t\":[\"of thirty characters, no more.\"]}",
    "{\"a\":{\"b\":[{\"c\":[[[{\"d\":\"e\"}]]]},{\"c\":2}]},\"f\":[\"g\",\"h\",{\"i\":null}]}",
    "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"What is it?\"}]}],"
    "\"temperature\":0.7,\"stop\":[\"\\n\",\"###\"],\"logit_bias\":{\"12\":-100,\"13\":3.25}}",
};
enum { N_TEXTS = sizeof texts / sizeof *texts };

/* What jansson reads, but for NUL bytes, which it skips. *overflows: only with integers beyond 64
 * bits as real numbers. */
static json_t *reference(const char *text, size_t n, bool *overflows)
{
    json_error_t error;
    json_t *root = NULL;
    *overflows = false;
    if (memchr(text, '\0', n) == NULL)
        root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &error);
    else
        return NULL;
    if (root == NULL && json_error_code(&error) == json_error_numeric_overflow) {
        *overflows = true;
        root = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, NULL);
    }
    if (json_is_object(root))
        return root;
    json_decref(root);
    return NULL;
}

/* Returns 1 if both read it. */
static size_t compare(const char *text, size_t n)
{
    bool overflows;
    json_t *expected = reference(text, n, &overflows), *found = json_parse(text, n, "x", &err);
    ck_assert_msg((expected == NULL) == (found == NULL), "%.*s: jansson %s it, found: %s", (int)n,
                  text, expected != NULL ? "reads" : "refuses",
                  found != NULL ? "a value" : err.message);
    if (found == NULL) {
        ck_assert_int_eq(err.code, LLAMA3_EINPUT);
        ck_assert_ptr_null(strpbrk(err.message, "\n\r\t\033"));
    } else {
        ck_assert_msg(overflows || json_equal(expected, found), "%.*s: another value", (int)n,
                      text);
    }
    json_decref(expected);
    json_decref(found);
    return found != NULL;
}

START_TEST(reads_what_jansson_reads)
{
    static const char *const more[] = {
        "{\"a\":01}",
        "{\"a\":-}",
        "{\"a\":1.}",
        "{\"a\":.5}",
        "{\"a\":1e}",
        "{\"a\":+1}",
        "{\"a\":1e400}",
        "{\"a\":1e-400}",
        "{\"a\":Infinity}",
        "{\"a\":nul}",
        "{\"a\":nulls}",
        "{\"a\":TRUE}",
        "{\"a\":\"\\ud800\"}",
        "{\"a\":\"\\udc00\"}",
        "{\"a\":\"\\ud800\\u0041\"}",
        "{\"a\":\"\\u12\"}",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\\u0000\"}",
        "{\"a\":1,}",
        "{\"a\":[1,]}",
        "{\"a\":[1 2]}",
        "{\"a\" 1}",
        "{a:1}",
        "{\"a\":1}}",
        "{\"a\":1]",
        "{\"a\":\"\n\"}",
        "{\"a\":\"\xed\xa0\x80\"}",
        "{\"a\":\"\xc0\x80\"}",
        "{\"a\":\"\xf5\x80\x80\x80\"}",
        "\xef\xbb\xbf{}",
        "{\"a\":1}//",
        "{\"a\":1,\"\\u0061\":2}",
        "[]",
        "\"a\"",
        "1",
        "",
    };
    size_t read = 0;
    for (size_t i = 0; i < sizeof more / sizeof *more; i++)
        read += compare(more[i], strlen(more[i]));
    ck_assert_uint_eq(read, 1); /* 1e-400, which is 0 */
    for (size_t t = 0; t < N_TEXTS; t++) {
        size_t n = strlen(texts[t]);
        char copy[512];
        ck_assert_uint_eq(compare(texts[t], n), 1);
        for (size_t length = 0; length < n; length++)
            compare(texts[t], length);
        for (size_t at = 0; at < n; at++) {
            for (int byte = 0; byte < 256; byte++) {
                memcpy(copy, texts[t], n);
                copy[at] = (char)byte;
                compare(copy, n);
            }
            memmove(copy, texts[t], at); /* one byte is missing, */
            memcpy(copy + at, texts[t] + at + 1, n - at - 1);
            compare(copy, n - 1);
            memcpy(copy + at + 1, texts[t] + at, n - at); /* or there twice */
            copy[at] = texts[t][at];
            compare(copy, n + 1);
        }
    }
}
END_TEST

/* What jansson refuses, and a decimal comma's locale. */
START_TEST(large_integers_are_numbers)
{
    static const char text[] =
        "{\"a\":9223372036854775808,\"b\":-1e2,\"c\":[123456789012345678901234]}";
    const char *names[] = {"de_DE.UTF-8", "fr_FR.UTF-8", "C"};
    for (size_t i = 0; i < 3; i++) {
        if (setlocale(LC_ALL, names[i]) == NULL)
            continue;
        json_t *root = json_parse(text, strlen(text), "x", &err);
        ck_assert_msg(root != NULL, "%s", err.message);
        ck_assert(json_real_value(json_object_get(root, "a")) == 0x1p63);
        ck_assert(json_real_value(json_object_get(root, "b")) == -100);
        ck_assert(json_is_real(json_array_get(json_object_get(root, "c"), 0)));
        json_decref(root);
        root = json_parse("{\"a\":0.25}", 10, "x", &err);
        ck_assert(json_real_value(json_object_get(root, "a")) == 0.25);
        json_decref(root);
    }
}
END_TEST

/* ---- without memory ---------------------------------------------------------------------- */

/* jansson's, each at the end of a page that nothing follows, so that a byte beyond is a crash. */
enum { PAGE = 4096 };

struct guarded { /* in front of each */
    void *start;
    size_t size;
};

static size_t n_guarded;

static void *guarded_malloc(size_t size)
{
    if (fails())
        return NULL;
    size_t rounded = (size + 15) / 16 * 16;
    size_t pages = (rounded + sizeof(struct guarded) + PAGE - 1) / PAGE + 1;
    char *memory =
        mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory + (pages - 1) * PAGE, PAGE, PROT_NONE) != 0)
        abort(); /* Check's assertions allocate */
    struct guarded *guarded = (void *)(memory + (pages - 1) * PAGE - rounded);
    guarded[-1] = (struct guarded){memory, pages * PAGE};
    n_guarded++;
    return guarded;
}

static void guarded_free(void *memory)
{
    if (memory == NULL)
        return;
    const struct guarded *guarded = (struct guarded *)memory - 1;
    n_guarded--;
    munmap(guarded->start, guarded->size);
}

START_TEST(every_allocation_may_fail)
{
    json_malloc_t malloc_before, malloc_after;
    json_free_t free_before, free_after;
    json_object_seed(1);
    json_set_alloc_funcs(guarded_malloc, guarded_free); /* as an application may have done */
    json_get_alloc_funcs(&malloc_before, &free_before);
    for (size_t t = 0; t < N_TEXTS; t++) {
        size_t n = strlen(texts[t]), tries = 0;
        json_t *expected = json_parse(texts[t], n, "x", &err), *found = NULL;
        ck_assert_msg(expected != NULL, "%s", err.message);
        size_t held = n_guarded;
        for (size_t number = 1; found == NULL; number++) {
            fails_in = number;
            found = json_parse(texts[t], n, "x.json", &err);
            size_t left = fails_in;
            fails_in = 0; /* before Check allocates */
            if (found != NULL) {
                ck_assert_uint_eq(left, 1); /* there are no more allocations */
                break;
            }
            ck_assert_uint_eq(left, 0);
            ck_assert_int_eq(err.code, LLAMA3_ENOMEM);
            ck_assert_str_eq(err.message, "x.json: not enough memory for its JSON");
            ck_assert_uint_eq(n_guarded, held);
            tries++;
        }
        ck_assert_uint_gt(tries, 1);
        ck_assert(json_equal(expected, found));
        json_decref(expected);
        json_decref(found);
        ck_assert_uint_eq(n_guarded, 0);
    }
    json_get_alloc_funcs(&malloc_after, &free_after);
    ck_assert(malloc_before == malloc_after && free_before == free_after);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("json");
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, reads_what_jansson_reads);
    tcase_add_test(tcase, large_integers_are_numbers);
    tcase_add_test(tcase, every_allocation_may_fail);
    return run_tests("json", tcase);
}
