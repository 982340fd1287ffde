/* SPDX-License-Identifier: MIT */
/* test_thoughts: thoughts are told from answers, however the text comes in pieces; and how both go
 * into a history. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/recollect.h"
#include "engine/thoughts.h"
#include "run.h"

/* What callbacks were given. */
struct heard {
    struct buf thoughts, text;
    struct recollection all;
    bool gives_up; /* in a thought */
};

static int on_thought(void *arg, const char *text, size_t n)
{
    struct heard *heard = arg;
    ck_assert_uint_gt(n, 0);
    ck_assert_uint_eq(heard->text.size, 0);
    buf_add(&heard->thoughts, text, n);
    recollect_thought(&heard->all, text, n);
    return heard->gives_up;
}

static int on_text(void *arg, const char *text, size_t n)
{
    struct heard *heard = arg;
    ck_assert_uint_gt(n, 0);
    buf_add(&heard->text, text, n);
    recollect_text(&heard->all, text, n);
    return 0;
}

static bool is(const struct buf *found, const char *wanted)
{
    return found->size == strlen(wanted) &&
           memcmp(found->data ? found->data : "", wanted, found->size) == 0;
}

static const struct {
    const char *prompt, *text;
    const char *thoughts, *answer; /* wanted */
} cases[] = {
    {"", "", "", ""},
    {"", "Hi", "", "Hi"},
    {"", " \n Hi ", "", " \n Hi "},
    {"", " \n ", "", " \n "},
    {"", "<think>a b</think>c", "a b", "c"},
    {"", " \n<think>\n a\n\nb \n</think>\n\n c \n", "a\n\nb", "c \n"},
    {"", "<think>\n\n</think>\n\nc", "", "c"},
    {"", "<think></think>", "", ""},
    {"", "<think>", "", ""},
    {"", "<think>a ", "a", ""},
    {"", "<think>a </thin", "a </thin", ""},
    {"", "<thin", "", "<thin"},
    {"", " <thin", "", " <thin"},
    {"", "<thinker>", "", "<thinker>"},
    {"", "<<think>a</think>", "", "<<think>a</think>"},
    {"", "a<think>b</think>", "", "a<think>b</think>"},
    {"", "a</think>b", "", "a</think>b"},
    {"", "<think>a<think>b</think>c</think>d", "a<think>b", "c</think>d"},
    {"", "<think>a</ think></think>b", "a</ think>", "b"},
    {"", "<think>a <</think>b", "a <", "b"},
    {"", "<think>a</</think> b", "a</", "b"},
    {"", "<think>a</think</think>b", "a</think", "b"},
    {"", "<think>\xc3\xa9\n</think>\xc3\xa9", "\xc3\xa9", "\xc3\xa9"},
    {"<|Assistant|><think>\n", "a\n</think>\n\nb", "a", "b"},
    {"<|Assistant|><think>\n", "a", "a", ""},
    {"<|Assistant|><think>\n", "  ", "", ""},
    {"<think>", "</think>b", "", "b"},
    {"<think>", "\n</think>\n", "", ""},
    {"<think>x", "a</think>b", "", "a</think>b"},
    {"think>\n", "a</think>b", "", "a</think>b"},
    {"<think>\n\n</think>\n\n", "a", "", "a"},
};
enum { N_CASES = sizeof cases / sizeof *cases };

static void begin(struct thoughts *t, const char *prompt, const struct llama3_generation *g)
{
    *t = (struct thoughts){
        .state = thoughts_after(prompt, strlen(prompt)), .spaces = SIZE_MAX, .callbacks = g};
}

/* The text in pieces that end at these places. */
static void check_cuts(size_t i, const size_t *ends, size_t n)
{
    struct heard heard = {0};
    const struct llama3_generation g = {
        .on_text = on_text, .on_thought = on_thought, .arg = &heard};
    struct thoughts t;
    size_t at = 0;
    begin(&t, cases[i].prompt, &g);
    for (size_t j = 0; j < n; at = ends[j++])
        ck_assert_int_eq(thoughts_push(&t, cases[i].text + at, ends[j] - at), 0);
    ck_assert_int_eq(thoughts_finish(&t), 0);
    ck_assert(!t.held.failed);
    ck_assert_msg(is(&heard.thoughts, cases[i].thoughts) && is(&heard.text, cases[i].answer),
                  "case %zu, \"%s\" cut at %zu: found \"%.*s\" and \"%.*s\"", i, cases[i].text,
                  ends[0], (int)heard.thoughts.size, heard.thoughts.data, (int)heard.text.size,
                  heard.text.data);
    buf_free(&heard.thoughts);
    buf_free(&heard.text);
    buf_free(&heard.all.text);
    buf_free(&t.held);
}

START_TEST(any_pieces_say_the_same)
{
    size_t ends[64];
    for (size_t i = 0; i < N_CASES; i++) {
        const size_t length = strlen(cases[i].text);
        for (size_t a = 0; a <= length; a++)
            for (size_t b = a; b <= length; b++)
                for (size_t c = b; c <= length; c++)
                    check_cuts(i, (size_t[]){a, b, c, length}, 4);
        for (size_t step = 1; step <= length; step++) {
            size_t n = 0;
            while (n * step < length) {
                ends[n] = (n + 1) * step < length ? (n + 1) * step : length;
                n++;
            }
            check_cuts(i, ends, n);
        }
    }
}
END_TEST

/* Text is not held longer than it may begin a tag, or be the white space before one. */
START_TEST(nothing_is_held_for_long)
{
    static const struct {
        const char *text;
        size_t thoughts, answer; /* bytes that came */
    } steps[] = {{" <think", 0, 0},  {">\n", 0, 0}, {"a b", 3, 0}, {" \n", 3, 0}, {"</b", 8, 0},
                 {" </think", 8, 0}, {">", 8, 0},   {"\n", 8, 0},  {"c", 8, 1},   {" \n<th", 8, 6}};
    struct heard heard = {0};
    const struct llama3_generation g = {
        .on_text = on_text, .on_thought = on_thought, .arg = &heard};
    struct thoughts t;
    begin(&t, "", &g);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        ck_assert_int_eq(thoughts_push(&t, steps[i].text, strlen(steps[i].text)), 0);
        ck_assert_msg(
            heard.thoughts.size == steps[i].thoughts && heard.text.size == steps[i].answer,
            "after \"%s\": %zu and %zu bytes", steps[i].text, heard.thoughts.size, heard.text.size);
    }
    ck_assert_int_eq(thoughts_finish(&t), 0);
    ck_assert(is(&heard.thoughts, "a b \n</b") && is(&heard.text, "c \n<th"));
    buf_free(&heard.thoughts);
    buf_free(&heard.text);
    buf_free(&heard.all.text);
    buf_free(&t.held);
}
END_TEST

START_TEST(a_callback_may_give_up)
{
    struct heard heard = {.gives_up = true};
    const struct llama3_generation g = {
        .on_text = on_text, .on_thought = on_thought, .arg = &heard};
    static const char text[] = "<think>a</think>b";
    struct thoughts t;
    begin(&t, "", &g);
    ck_assert_int_ne(thoughts_push(&t, text, strlen(text)), 0);
    ck_assert(is(&heard.thoughts, "a") && is(&heard.text, ""));
    buf_free(&heard.thoughts);
    buf_free(&heard.all.text);
    buf_free(&t.held);
}
END_TEST

/* The answer alone is wanted. */
START_TEST(a_callback_may_be_missing)
{
    struct heard heard = {0};
    const struct llama3_generation g = {.on_text = on_text, .arg = &heard};
    static const char text[] = "<think>a</think>b";
    struct thoughts t;
    begin(&t, "", &g);
    ck_assert_int_eq(thoughts_push(&t, text, strlen(text)), 0);
    ck_assert_int_eq(thoughts_finish(&t), 0);
    ck_assert(is(&heard.text, "b"));
    buf_free(&heard.text);
    buf_free(&heard.all.text);
    buf_free(&t.held);
}
END_TEST

static void check_recollection(const char *const *thoughts, const char *const *texts,
                               const char *want)
{
    struct recollection answer = {0};
    for (; *thoughts != NULL; thoughts++)
        recollect_thought(&answer, *thoughts, strlen(*thoughts));
    for (; *texts != NULL; texts++)
        recollect_text(&answer, *texts, strlen(*texts));
    recollect_text(&answer, "", 0);
    recollect_text(&answer, "", 0);
    ck_assert(!answer.text.failed);
    ck_assert_str_eq(answer.text.data, want);
    buf_free(&answer.text);
}

START_TEST(answers_are_recollected)
{
    const char *const none[] = {NULL}, *const a[] = {"a", " b", NULL},
                      *const c[] = {"c", "\n", NULL};
    check_recollection(none, none, "");
    check_recollection(none, c, "c\n");
    check_recollection(a, none, "<think>\na b\n</think>\n\n");
    check_recollection(a, c, "<think>\na b\n</think>\n\nc\n");
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("thoughts");
    tcase_add_test(tests, any_pieces_say_the_same);
    tcase_add_test(tests, nothing_is_held_for_long);
    tcase_add_test(tests, a_callback_may_give_up);
    tcase_add_test(tests, a_callback_may_be_missing);
    tcase_add_test(tests, answers_are_recollected);
    return run_tests("thoughts", tests);
}
