/* SPDX-License-Identifier: MIT */
/*
 * test_held: answers that a constraint holds, by llama3.h: their text, where they end, the tokens
 * that are not drawn, the same bits one by one and in any company; thoughts before them, and a loop
 * of one's own. Random weights, whose tokens are put in their mouths by biases where it matters.
 */
#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/held.h"
#include "llama3.h"
#include "run.h"
#include "session.h"

static struct llama3_error err = {.size = sizeof err};
static struct llama3_model *model;

static void setup(void)
{
    const struct llama3_model_options options = {
        .size = sizeof options, .threads = 2, .no_blas = true, .gpu_layers = LLAMA3_GPU_NONE};
    model = llama3_model_open(TEST_DATA "/tiny-f32", &options, &err);
    ck_assert_msg(model != NULL, "%s", err.message);
}

static void teardown(void)
{
    llama3_model_close(model);
}

static struct llama3_constraint *choice(const char *list)
{
    struct llama3_constraint *c =
        llama3_constraint_open(model, LLAMA3_CONSTRAINT_CHOICE, list, strlen(list), NULL, &err);
    ck_assert_msg(c != NULL, "%s", err.message);
    return c;
}

static void tokenize(const char *text, struct tokens *out)
{
    int32_t *tokens;
    size_t n;
    ck_assert_int_eq(llama3_tokenize(model, text, strlen(text), false, &tokens, &n, &err), 0);
    for (size_t i = 0; i < n; i++)
        tokens_add(out, tokens[i]);
    llama3_free(tokens);
}

/* ---- an answer, and what is put in the model's mouth ----------------------------------------- */

struct told {
    struct buf text, thought;
    struct tokens tokens;
    const struct tokens *script; /* that the model would rather say; NULL: nothing */
    struct llama3_sampling *sampling;
    size_t at;
    bool wants_logits, lacked_logits;
    struct llama3_result result;
};

static void told_free(struct told *t)
{
    buf_free(&t->text);
    buf_free(&t->thought);
    tokens_free(&t->tokens);
    *t = (struct told){0};
}

static int on_text(void *arg, const char *text, size_t n)
{
    buf_add(&((struct told *)arg)->text, text, n);
    return 0;
}

static int on_thought(void *arg, const char *text, size_t n)
{
    buf_add(&((struct told *)arg)->thought, text, n);
    return 0;
}

/* The next token of the script gets a bias that no logit comes up to, if it is allowed. */
static void prompt_script(struct told *t)
{
    if (t->script == NULL || t->at > t->script->n)
        return;
    if (t->at > 0)
        llama3_sampling_bias(t->sampling, t->script->ids[t->at - 1], 0, NULL);
    if (t->at < t->script->n)
        llama3_sampling_bias(t->sampling, t->script->ids[t->at], 100, NULL);
    t->at++;
}

static int on_token(void *arg, int32_t token, const float *logits)
{
    struct told *t = arg;
    tokens_add(&t->tokens, token);
    t->lacked_logits |= logits == NULL;
    prompt_script(t);
    return 0;
}

/* Generates after a prompt; g: what differs from greedy. Returns the session. */
static struct llama3_session *generate(struct told *t, const char *prompt,
                                       struct llama3_generation g, const char *seed)
{
    struct llama3_session *s = open_session(model);
    struct tokens tokens = {0};
    tokenize(prompt, &tokens);
    g.size = sizeof g;
    g.sampling = t->sampling = llama3_sampling_open(model, &err);
    ck_assert(llama3_sampling_set(g.sampling, "temperature", seed != NULL ? "2" : "0", &err) == 0 &&
              llama3_sampling_set(g.sampling, "seed", seed != NULL ? seed : "0", &err) == 0);
    g.on_text = on_text;
    g.on_token = on_token;
    g.no_logits = !t->wants_logits;
    g.arg = t;
    t->result.size = sizeof t->result;
    prompt_script(t);
    int status = llama3_session_generate(s, tokens.ids, tokens.n, &g, &t->result, &err);
    ck_assert_msg(status == 0, "%s", err.message);
    buf_add_str(&t->text, "");
    buf_add_str(&t->thought, "");
    llama3_sampling_close(g.sampling);
    tokens_free(&tokens);
    return s;
}

static const char record[] = "{\"name\": \"Paris\", \"country\": \"France\", \"capital\": true}";

static char *one_choice(const char *text)
{
    struct buf list = {0};
    buf_add_str(&list, "[\"");
    for (; *text != '\0'; text++) {
        buf_add_str(&list, *text == '"' ? "\\" : "");
        buf_add(&list, text, 1);
    }
    buf_add_str(&list, "\"]");
    return list.data;
}

/* What must come has the tokens that the tokenizer makes of it, is told before it is evaluated, and
 * the end needs no stop id. */
START_TEST(forced_tokens_are_the_tokenizers)
{
    char *list = one_choice(record);
    struct llama3_constraint *c = choice(list);
    const struct llama3_generation g = {.constraint = c};
    struct told at_once = {0}, one_by_one = {.wants_logits = true};
    struct tokens want = {0};
    struct llama3_session *a = generate(&at_once, "Paris?", g, NULL);
    struct llama3_session *b = generate(&one_by_one, "Paris?", g, NULL);
    ck_assert_str_eq(at_once.text.data, record);
    ck_assert_int_eq(at_once.result.finish, LLAMA3_FINISH_STOP);
    ck_assert_int_eq(at_once.result.stop_id, -1);
    ck_assert_uint_eq(at_once.result.answer_tokens, at_once.tokens.n);
    ck_assert(at_once.lacked_logits && !one_by_one.lacked_logits);

    tokenize(record, &want);
    size_t same = tokens_common(want.ids, at_once.tokens.ids, at_once.tokens.n);
    ck_assert_msg(same + 3 >= want.n && same + 3 >= at_once.tokens.n,
                  "expected but the last tokens to be the tokenizer's, found %zu of %zu", same,
                  want.n);

    /* One by one: the same tokens and bits. */
    size_t n, m;
    const int32_t *had = llama3_session_tokens(a, &n), *has = llama3_session_tokens(b, &m);
    ck_assert_uint_eq(at_once.tokens.n, one_by_one.tokens.n);
    ck_assert_mem_eq(at_once.tokens.ids, one_by_one.tokens.ids,
                     at_once.tokens.n * sizeof *at_once.tokens.ids);
    ck_assert(n == m && memcmp(had, has, n * sizeof *had) == 0);
    ck_assert_mem_eq(llama3_session_logits(a), llama3_session_logits(b),
                     llama3_model_info(model)->vocab_size * sizeof(float));
    llama3_session_close(a);
    llama3_session_close(b);
    llama3_constraint_close(c);
    told_free(&at_once);
    told_free(&one_by_one);
    tokens_free(&want);
    free(list);
}
END_TEST

/* ---- in company ------------------------------------------------------------------------------ */

enum { N_SEEDS = 12 };
static const char colors[] = "[\"red\",\"green\",\"grey\",\"greenish blue\",\"12\",\"{}\"]";

struct asker {
    pthread_t thread;
    const struct llama3_constraint *constraint;
    char seed[8];
    struct told told;
};

static void *ask(void *arg)
{
    struct asker *a = arg;
    const struct llama3_generation g = {.constraint = a->constraint};
    llama3_session_close(generate(&a->told, "A color:", g, a->seed));
    return NULL;
}

START_TEST(a_seed_is_an_answer_in_any_company)
{
    struct llama3_constraint *c = choice(colors);
    struct asker alone[N_SEEDS] = {0}, together[N_SEEDS] = {0};
    size_t different = 0;
    for (size_t i = 0; i < N_SEEDS; i++) {
        alone[i].constraint = together[i].constraint = c;
        snprintf(alone[i].seed, sizeof alone[i].seed, "%zu", i);
        memcpy(together[i].seed, alone[i].seed, sizeof alone[i].seed);
        ask(&alone[i]);
    }
    for (size_t i = 0; i < N_SEEDS; i++)
        ck_assert_int_eq(pthread_create(&together[i].thread, NULL, ask, &together[i]), 0);
    for (size_t i = 0; i < N_SEEDS; i++) {
        char quoted[64];
        pthread_join(together[i].thread, NULL);
        snprintf(quoted, sizeof quoted, "\"%s\"", alone[i].told.text.data);
        ck_assert_msg(strstr(colors, quoted) != NULL, "found %s", quoted);
        ck_assert_str_eq(alone[i].told.text.data, together[i].told.text.data);
        ck_assert_int_eq(alone[i].told.result.finish, LLAMA3_FINISH_STOP);
        different += strcmp(alone[i].told.text.data, alone[0].told.text.data) != 0;
        told_free(&together[i].told);
    }
    ck_assert_uint_gt(different, 0);
    for (size_t i = 0; i < N_SEEDS; i++)
        told_free(&alone[i].told);
    llama3_constraint_close(c);
}
END_TEST

/* ---- ends -------------------------------------------------------------------------------------
 */

START_TEST(it_ends_as_it_may)
{
    struct llama3_constraint *c = choice("[\"one two three four five six\"]");
    struct told t = {0};
    llama3_session_close(
        generate(&t, "Count:", (struct llama3_generation){.constraint = c, .max_tokens = 2}, NULL));
    ck_assert_int_eq(t.result.finish, LLAMA3_FINISH_LENGTH);
    ck_assert_uint_eq(t.result.answer_tokens, 2);
    told_free(&t);

    const char *const stops[] = {" three"};
    llama3_session_close(generate(
        &t, "Count:", (struct llama3_generation){.constraint = c, .stop = stops, .n_stop = 1},
        NULL));
    ck_assert_str_eq(t.text.data, "one two");
    ck_assert_int_eq(t.result.finish, LLAMA3_FINISH_STOP);
    ck_assert_int_eq(t.result.stop_string, 0);
    told_free(&t);
    llama3_constraint_close(c);

    /* A stop id where the text may end and may go on; a model that would rather end cannot before.
     */
    const struct llama3_info *info = llama3_model_info(model);
    struct tokens script = {0};
    for (size_t i = 0; i < 40; i++)
        tokens_add(&script, info->stop_ids[0]);
    c = choice("[\"ab\",\"abcd\"]");
    t.script = &script;
    llama3_session_close(
        generate(&t, "Letters:", (struct llama3_generation){.constraint = c}, NULL));
    ck_assert_str_eq(t.text.data, "ab");
    ck_assert_int_eq(t.result.finish, LLAMA3_FINISH_STOP);
    ck_assert_int_eq(t.result.stop_id, info->stop_ids[0]);
    told_free(&t);
    tokens_free(&script);
    llama3_constraint_close(c);
}
END_TEST

/* A mask of the caller's holds as well, and a model's constraint is not another's. */
START_TEST(what_else_holds)
{
    struct llama3_constraint *c = choice("[\"yes\",\"no\"]");
    size_t vocab_size = llama3_model_info(model)->vocab_size, n;
    uint32_t *mask = malloc((vocab_size + 31) / 32 * sizeof *mask);
    struct llama3_sampling *sampling = llama3_sampling_open(model, &err);
    memset(mask, 0xff, (vocab_size + 31) / 32 * sizeof *mask);
    for (size_t i = 0; i < vocab_size; i++)
        if (llama3_token_bytes(model, (int32_t)i, &n)[0] == 'y')
            mask[i / 32] &= ~(UINT32_C(1) << i % 32);
    llama3_sampling_mask(sampling, mask);
    struct told t = {0};
    struct llama3_session *s = open_session(model);
    const struct llama3_generation g = {
        .size = sizeof g, .sampling = sampling, .on_text = on_text, .arg = &t, .constraint = c};
    const int32_t prompt[] = {1, 2, 3};
    ck_assert_int_eq(llama3_session_generate(s, prompt, 3, &g, NULL, &err), 0);
    buf_add_str(&t.text, "");
    ck_assert_str_eq(t.text.data, "no");
    told_free(&t);
    llama3_session_close(s);
    llama3_sampling_close(sampling);
    free(mask);

    struct llama3_model *other = llama3_model_open(TEST_DATA "/tiny-f32", NULL, &err);
    s = open_session(other);
    const struct llama3_generation wrong = {.size = sizeof wrong, .constraint = c};
    ck_assert_int_eq(llama3_session_generate(s, prompt, 3, &wrong, NULL, &err), -1);
    ck_assert_str_eq(err.message,
                     "constraint: expected one of the session's model, found another's");
    ck_assert(llama3_constraint_open(model, (enum llama3_constraint_kind)99, "", 0, NULL, &err) ==
              NULL);
    ck_assert_str_eq(err.message, "constraint: expected a kind of 0 to 6, found 99");
    ck_assert(llama3_constraint_open(model, LLAMA3_CONSTRAINT_CHOICE, "{}", 2, "the list", &err) ==
              NULL);
    ck_assert_msg(strncmp(err.message, "the list: ", 10) == 0, "%s", err.message);
    llama3_session_close(s);
    llama3_model_close(other);
    llama3_constraint_close(c);
}
END_TEST

/* ---- thoughts ---------------------------------------------------------------------------------
 */

/* What is said, scripted, after a prompt: thoughts are free and told apart, the answer is held. */
static void think(const char *prompt, const char *says, const char *thought, const char *answer)
{
    struct llama3_constraint *c = choice("[\"yes\",\" no\"]");
    struct tokens script = {0};
    struct told t = {.script = &script};
    tokenize(says, &script);
    llama3_session_close(generate(
        &t, prompt, (struct llama3_generation){.constraint = c, .on_thought = on_thought}, NULL));
    ck_assert_int_eq(t.result.finish, LLAMA3_FINISH_STOP);
    ck_assert_str_eq(t.thought.data, thought);
    ck_assert_str_eq(t.text.data, answer);
    told_free(&t);
    tokens_free(&script);
    llama3_constraint_close(c);
}

START_TEST(thoughts_are_free)
{
    think("Well?<think>\n", "Hm, 1 + 1.\n</think>\n\nyes", "Hm, 1 + 1.", "yes");
    think("Well?<think>\n", "Hm.</think>yes", "Hm.", "yes");
    think("Well?<think>\n", "Hm.</think> no", "Hm.", " no");
    think("Well?", "<think>Hm.</think>yes", "Hm.", "yes");
    think("Well?", "yes", "", "yes");
    think("Well?<think>\n\n</think>\n\n", "yes", "", "yes");
}
END_TEST

/* A stop id can't end them. */
START_TEST(thoughts_come_to_an_end)
{
    struct llama3_constraint *c = choice("[\"yes\"]");
    struct tokens script = {0};
    struct told t = {.script = &script};
    tokens_add(&script, llama3_model_info(model)->stop_ids[0]);
    tokenize("</think>", &script);
    llama3_session_close(generate(
        &t, "Well?<think>\n",
        (struct llama3_generation){.constraint = c, .on_thought = on_thought, .max_tokens = 60},
        NULL));
    ck_assert_int_eq(t.result.stop_id, -1);
    for (size_t i = 0; i < t.tokens.n; i++)
        ck_assert(!llama3_token_is_stop(model, t.tokens.ids[i]));
    ck_assert_str_eq(t.text.data, "yes");
    told_free(&t);
    tokens_free(&script);
    llama3_constraint_close(c);
}
END_TEST

/* The end of thoughts in one token with what can't follow is refused, for each token there is of a
 * large vocabulary. */
START_TEST(a_token_across_the_end)
{
    const char *home = getenv("HOME"), *cache = getenv("XDG_CACHE_HOME");
    char path[600];
    snprintf(path, sizeof path, "%s%s/llama3/SmolLM2-135M-Instruct.Q4_1.gguf",
             cache != NULL ? cache : home, cache != NULL ? "" : "/.cache");
    if (access(path, R_OK) != 0)
        return;
    llama3_model_close(model);
    model = llama3_model_open(path, NULL, &err);
    ck_assert_msg(model != NULL, "%s", err.message);
    struct llama3_constraint *c = choice("[\"yes\"]");
    struct llama3_session *s = open_session(model);
    struct tokens almost = {0};
    struct held held;
    size_t n, across = 0, fine = 0;
    tokenize("</think", &almost);
    ck_assert_int_eq(held_begin(&held, c, HELD_THINKING, &err), 0);
    for (size_t i = 0; i < almost.n; i++)
        ck_assert_int_eq(held_accept(&held, almost.ids[i], &err), 0);
    for (size_t i = 0; i < llama3_model_info(model)->vocab_size; i++) {
        const char *bytes = llama3_token_bytes(model, (int32_t)i, &n);
        bool ends = n > 0 && bytes[0] == '>';
        bool bad = ends && strspn(bytes + 1, " \n\r\t") < n - 1;
        across += bad;
        fine += ends && !bad;
        ck_assert_int_eq(held_refuses(&held, (int32_t)i),
                         bad || llama3_token_is_stop(model, (int32_t)i));
    }
    held_end(&held);
    tokens_free(&almost);
    llama3_session_close(s);
    llama3_constraint_close(c);
    ck_assert(across > 0 && fine > 0);
}
END_TEST

/* ---- a loop of one's own -----------------------------------------------------------------------
 */

START_TEST(a_loop_of_ones_own)
{
    struct llama3_constraint *c = choice(colors);
    struct llama3_matcher *m = llama3_matcher_open(c, &err);
    llama3_constraint_close(c); /* matchers go on with it */
    struct llama3_session *s = open_session(model);
    struct llama3_sampling *sampling = llama3_sampling_open(model, &err);
    const int32_t prompt[] = {1, 2, 3};
    int32_t token = -1;
    char quoted[64] = "\"";
    size_t n, used = 1;
    ck_assert_int_eq(llama3_session_set(s, prompt, 3, NULL, NULL, NULL, &err), 0);
    while (!llama3_matcher_ended(m)) {
        const uint32_t *mask = llama3_matcher_mask(m, &err);
        ck_assert_ptr_nonnull(mask);
        llama3_sampling_mask(sampling, mask);
        ck_assert_int_eq(llama3_next(sampling, s, &token, &err), 0);
        const char *bytes = llama3_token_bytes(model, token, &n);
        struct llama3_matcher *copy = llama3_matcher_copy(m, &err);
        ck_assert_int_eq(llama3_matcher_accept(m, token, &err), 0);
        ck_assert_int_eq(llama3_matcher_accept(copy, token, &err), 0);
        ck_assert_int_eq(llama3_matcher_ended(copy), llama3_matcher_ended(m));
        llama3_matcher_close(copy);
        if (llama3_token_is_stop(model, token))
            break;
        memcpy(quoted + used, bytes, n);
        used += n;
    }
    ck_assert(llama3_matcher_may_end(m));
    quoted[used] = '"';
    quoted[used + 1] = '\0';
    ck_assert_msg(strstr(colors, quoted) != NULL, "found %s", quoted);
    llama3_matcher_close(m);

    char bytes[16];
    c = choice("[\"grass\",\"green\"]");
    m = llama3_matcher_open(c, &err);
    ck_assert_uint_eq(llama3_matcher_forced(m, bytes, sizeof bytes), 2);
    ck_assert_mem_eq(bytes, "gr", 2);
    ck_assert_uint_eq(llama3_matcher_forced(m, bytes, 1), 1);
    ck_assert_int_eq(llama3_matcher_accept(m, llama3_model_info(model)->stop_ids[0], &err), -1);
    ck_assert(!llama3_matcher_may_end(m));
    llama3_matcher_close(m);
    llama3_constraint_close(c);
    llama3_session_close(s);
    llama3_sampling_close(sampling);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("held");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, forced_tokens_are_the_tokenizers);
    tcase_add_test(tests, a_seed_is_an_answer_in_any_company);
    tcase_add_test(tests, it_ends_as_it_may);
    tcase_add_test(tests, what_else_holds);
    tcase_add_test(tests, thoughts_are_free);
    tcase_add_test(tests, thoughts_come_to_an_end);
    tcase_add_test(tests, a_token_across_the_end);
    tcase_add_test(tests, a_loop_of_ones_own);
    return run_tests("held", tests);
}
