/* SPDX-License-Identifier: MIT */
/* Vocabularies of SentencePiece in tokenizer.json, GGUF and our own file, against `tokenizers` and
 * sentencepiece (tests/reference/make-sentencepiece-fixtures.py). */
#include <check.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/utf8.h"
#include "checkpoint/gguf_write.h"
#include "checkpoint/hf.h"
#include "checkpoint/model.h"
#include "run.h"
#include "text/bpe.h"
#include "text/chat.h"
#include "text/jinja.h"
#include "tiny.h"

#define FOLDER TEST_DATA "/tiny-sentencepiece"
#define GGUF   TEST_DATA "/tiny-gguf-sentencepiece/model.gguf"

enum { N_VARIANTS = 8, SCORES = N_VARIANTS, CHAT };

static struct llama3_error err;
static struct tokens tokens;

static json_t *load(const char *path)
{
    json_error_t error;
    json_t *root = json_load_file(path, JSON_ALLOW_NUL, &error);
    ck_assert_msg(root != NULL, "%s: %s", path, error.text);
    return root;
}

/* tokenizer.json with some members replaced. */
static int read_changed(const json_t *changes, struct model *model)
{
    json_t *root = load(FOLDER "/tokenizer.json"), *value;
    const char *key;
    json_object_foreach((json_t *)(uintptr_t)changes, key, value)
    {
        bool in_model = strcmp(key, "ignore_merges") == 0 || strcmp(key, "type") == 0;
        json_object_set(in_model ? json_object_get(root, "model") : root, key, value);
    }
    *model = (struct model){.config.vocab_size = 500, .vocab.bos = -1};
    int result = hf_tokenizer_read(root, model, "tokenizer.json", &err);
    json_decref(root);
    return result;
}

static struct tokenizer *open_tokenizer(const struct model *model)
{
    struct tokenizer *tokenizer = tokenizer_open(&model->vocab, &err);
    ck_assert_msg(tokenizer != NULL, "%s", err.message);
    return tokenizer;
}

static void encode(const struct tokenizer *tokenizer, const json_t *text)
{
    tokens.n = 0;
    ck_assert_msg(tokenizer_encode(tokenizer, json_string_value(text), json_string_length(text),
                                   &tokens, &err) == 0,
                  "%s", err.message);
}

/* Every part of a list, or of every other one, is given. */
static void encode_parts(const struct tokenizer *tokenizer, const json_t *parts, bool given)
{
    static uint32_t chars[4000];
    size_t i, n = 0;
    const json_t *part;
    json_array_foreach(parts, i, part)
    {
        const uint8_t *text = (const uint8_t *)json_string_value(part);
        size_t size = json_string_length(part);
        for (size_t at = 0; at < size; n++) {
            at += (size_t)utf8_decode(text + at, size - at, &chars[n]);
            chars[n] |= given && i % 2 == 1 ? (uint32_t)JINJA_GIVEN : 0;
        }
    }
    tokens.n = 0;
    ck_assert_msg(tokenizer_encode_marked(tokenizer, chars, n, &tokens, &err) == 0, "%s",
                  err.message);
}

static void ids_are(const json_t *ids, const char *what, const json_t *text)
{
    bool same = tokens.n == json_array_size(ids);
    for (size_t i = 0; i < tokens.n && same; i++)
        same = json_integer_value(json_array_get(ids, i)) == tokens.ids[i];
    ck_assert_msg(same, "%s, %s: other ids", what, json_string_value(text));
}

/* Bytes that are no characters are replaced otherwise: a U+FFFD each. */
static void decodes_to(const struct tokenizer *tokenizer, const struct model *model,
                       const json_t *ids, const json_t *text)
{
    struct decoder decoder = {.strips_blank = model->vocab.strips_blank};
    struct buf out = {0};
    size_t i;
    const json_t *id;
    json_array_foreach(ids, i, id)
    {
        int32_t token = (int32_t)json_integer_value(id);
        if (tokenizer_kind(tokenizer, token) != TOKEN_CONTROL)
            tokenizer_decode(tokenizer, token, &decoder, &out);
    }
    decoder_finish(&decoder, &out);
    bool same = out.size == json_string_length(text) &&
                (out.size == 0 || memcmp(out.data, json_string_value(text), out.size) == 0);
    ck_assert_msg(same, "decoded \"%s\", not \"%s\"", out.data, json_string_value(text));
    buf_free(&out);
}

START_TEST(encodes_as_tokenizers)
{
    struct model model;
    json_t *root = load(TEST_DATA "/text/sentencepiece.json"), *line;
    const json_t *variant = json_array_get(root, (size_t)_i);
    ck_assert_msg(read_changed(json_array_get(variant, 0), &model) == 0, "%s", err.message);
    struct tokenizer *tokenizer = open_tokenizer(&model);
    size_t at, n_mixed = 0, n_bytes = 0;
    json_array_foreach(json_array_get(variant, 1), at, line)
    {
        const json_t *text = json_array_get(line, 0), *parts = json_array_get(line, 4);
        encode(tokenizer, text);
        ids_are(json_array_get(line, 1), "plain", text);
        for (size_t i = 0; i < tokens.n; i++) {
            ck_assert_int_ne(tokenizer_kind(tokenizer, tokens.ids[i]), TOKEN_CONTROL);
            n_bytes += tokenizer_kind(tokenizer, tokens.ids[i]) == TOKEN_BYTE;
        }
        encode_parts(tokenizer, parts, false);
        ids_are(json_array_get(line, 2), "a template's", text);
        decodes_to(tokenizer, &model, json_array_get(line, 2), json_array_get(line, 3));
        encode_parts(tokenizer, parts, true);
        if (!json_is_null(json_array_get(line, 5))) {
            ids_are(json_array_get(line, 5), "mixed", text);
            n_mixed++;
        }
    }
    ck_assert(at > 80 && n_bytes > 100 && (n_mixed == at || n_mixed == 0));
    tokenizer_close(tokenizer);
    tokens_free(&tokens);
    model_close(&model);
    json_decref(root);
}
END_TEST

/* ---- GGUF ------------------------------------------------------------------------------------ */

/* What a GGUF file makes of a vocabulary. */
static int through_gguf(struct model *model, struct model *made)
{
    struct gguf_keys keys = {0};
    struct tensor_table tensors = {0};
    struct gguf gguf = {0};
    struct buf file = {0};
    *made = (struct model){.config.vocab_size = model->config.vocab_size};
    model->path = strdup("source");
    int result = gguf_put_vocab(&keys, model, &err);
    gguf_put_start(&file, &keys, 0);
    const struct map map = {.data = (const uint8_t *)file.data, .size = file.size};
    if (result == 0)
        ck_assert_msg(gguf_parse(&gguf, &map, "made", &tensors, &err) == 0 &&
                          gguf_vocab_read(&gguf, made, &err) == 0,
                      "%s", err.message);
    gguf_free(&gguf);
    tensor_table_free(&tensors);
    buf_free(&file);
    buf_free(&keys.text);
    return result;
}

/* Texts of few characters, which merges compete for. */
static void same_on_random_texts(const struct tokenizer *a, const struct tokenizer *b)
{
    static const char *const parts[] = {" ",  " ",        " ",  "t",  "h",
                                        "e",  "i",        "n",  "a",  "\xe2\x96\x81",
                                        "\n", "\xd0\xbf", "12", "ee", "in the"};
    uint32_t seed = 1;
    struct tokens other = {0};
    for (int i = 0; i < 20000; i++) {
        char text[200] = "";
        for (int n = 1 + i % 24; n > 0; n--) {
            seed = seed * 1664525 + 1013904223;
            strcat(text, parts[(seed >> 16) % (i % 3 == 0 ? 4 : sizeof parts / sizeof *parts)]);
        }
        tokens.n = other.n = 0;
        ck_assert_int_eq(tokenizer_encode(a, text, strlen(text), &tokens, &err), 0);
        ck_assert_int_eq(tokenizer_encode(b, text, strlen(text), &other, &err), 0);
        ck_assert_msg(tokens.n == other.n &&
                          memcmp(tokens.ids, other.ids, tokens.n * sizeof *tokens.ids) == 0,
                      "\"%s\": other ids", text);
    }
    tokens_free(&other);
}

/* Merges as scores: the same ids and the same text; what scores can't say is refused. */
START_TEST(written_as_gguf)
{
    static const char *const refused[N_VARIANTS] = {
        [1] = "token 401, \"<pad>\": expected a token for each character, found none",
        [2] = "token 401, \"<pad>\": expected a token for each character, found none",
        [3] =
            "Metaspace: expected a blank before each text or before none for a GGUF file, found one "
            "before texts that begin with none",
        [4] =
            "Metaspace: expected a blank before each text or before none for a GGUF file, found one "
            "before the first text only",
        [6] =
            "Metaspace: expected a blank before each text or before none for a GGUF file, found one "
            "before texts that begin with none",
        [7] = "\"ignore_merges\": expected false for a GGUF file, found true",
    };
    struct model model, made;
    json_t *root = load(TEST_DATA "/text/sentencepiece.json"), *line;
    const json_t *variant = json_array_get(root, (size_t)_i);
    size_t at;
    ck_assert_msg(read_changed(json_array_get(variant, 0), &model) == 0, "%s", err.message);
    ck_assert_int_eq(through_gguf(&model, &made), refused[_i] == NULL ? 0 : -1);
    if (refused[_i] != NULL) {
        ck_assert_msg(strstr(err.message, refused[_i]) != NULL, "%s", err.message);
        model_close(&model);
        json_decref(root);
        return;
    }
    struct tokenizer *tokenizer = open_tokenizer(&made), *source = open_tokenizer(&model);
    json_array_foreach(json_array_get(variant, 1), at, line)
    {
        const json_t *text = json_array_get(line, 0), *parts = json_array_get(line, 4);
        encode(tokenizer, text);
        ids_are(json_array_get(line, 1), "plain", text);
        encode_parts(tokenizer, parts, false);
        ids_are(json_array_get(line, 2), "a template's", text);
        decodes_to(tokenizer, &made, json_array_get(line, 2), json_array_get(line, 3));
        encode_parts(tokenizer, parts, true);
        if (!json_is_null(json_array_get(line, 5)))
            ids_are(json_array_get(line, 5), "mixed", text);
    }
    ck_assert_uint_gt(at, 80);
    same_on_random_texts(source, tokenizer);
    tokenizer_close(source);
    tokenizer_close(tokenizer);
    tokens_free(&tokens);
    model_close(&made);
    model_close(&model);
    json_decref(root);
}
END_TEST

/* An added word, and merges that no scores make. */
START_TEST(refused_or_the_same_as_gguf)
{
    static const struct {
        const char *word, *message;
    } cases[] = {
        {"in the", NULL},
        {"then", "expected all pairs of tokens that make a token as merges for a GGUF file, "},
        {NULL, "expected all pairs of tokens that make a token as merges for a GGUF file, "},
        {NULL, ": expected all merges to one token behind one another for a GGUF file, which has a "
               "score for each token, found others between"},
        {NULL, "\"decoder\": expected Strip of a blank if one is put before texts, and only then"},
    };
    struct model model, made;
    json_t *changes = json_object();
    if (cases[_i].word != NULL)
        json_object_set_new(changes, "added_tokens",
                            json_pack("[{s:i,s:s,s:b},{s:i,s:s,s:b},{s:i,s:s,s:b},{s:i,s:s,s:b}]",
                                      "id", 0, "content", "<unk>", "special", 1, "id", 1, "content",
                                      "<s>", "special", 1, "id", 2, "content", "</s>", "special", 1,
                                      "id", 400, "content", cases[_i].word, "normalized", 0));
    ck_assert_msg(read_changed(changes, &model) == 0, "%s", err.message);
    struct vocab *v = &model.vocab;
    size_t i = 1;
    while (i < v->n_merges && v->merges[i].result != v->merges[i - 1].result)
        i++;
    struct merge last = v->merges[v->n_merges - 1];
    ck_assert(i < v->n_merges && v->merges[i].result != last.result);
    if (_i == 2)
        v->n_merges--;
    if (_i == 3) {
        v->merges[v->n_merges - 1] = v->merges[i];
        v->merges[i] = last;
    }
    if (_i == 4)
        v->strips_blank = false;
    ck_assert_int_eq(through_gguf(&model, &made), cases[_i].message == NULL ? 0 : -1);
    if (cases[_i].message != NULL) {
        ck_assert_msg(strstr(err.message, cases[_i].message) != NULL, "%s", err.message);
    } else {
        struct tokenizer *tokenizer = open_tokenizer(&made), *source = open_tokenizer(&model);
        ck_assert_int_eq(tokenizer_kind(tokenizer, 400), TOKEN_ADDED);
        same_on_random_texts(source, tokenizer);
        tokenizer_close(source);
        tokenizer_close(tokenizer);
    }
    model_close(&made);
    model_close(&model);
    json_decref(changes);
}
END_TEST

/* Scores instead of merges; and our own file and GGUF of both. */
static void write_gguf(const char *source, const char *path)
{
    struct model model;
    struct new_file file;
    ck_assert_msg(model_open(&model, source, &err) == 0, "%s", err.message);
    const struct tensor_source tensors = {.model = &model};
    const struct gguf_target target = {DTYPE_F16, NULL};
    ck_assert_msg(new_file_open(&file, path, NEW_FILE_MODE, &err) == 0 &&
                      gguf_write(&file, &tensors, &target, &err) == 0 &&
                      new_file_commit(&file, &err) == 0,
                  "%s", err.message);
    model_close(&model);
}

START_TEST(scores_and_our_own_file)
{
    char *folder = tiny_folder(), path[600];
    snprintf(path, sizeof path, "%s/x", folder);
    const char *const paths[] = {FOLDER, GGUF};
    json_t *root = load(TEST_DATA "/text/sentencepiece.json"), *line;
    size_t at;
    for (int i = 0; i < 6; i++) {
        struct model model;
        if (i >= 4)
            write_gguf(paths[i - 4], path);
        else if (i >= 2)
            tiny_packed(paths[i - 2], path);
        ck_assert_msg(model_open(&model, i < 2 ? paths[i] : path, &err) == 0, "%s", err.message);
        ck_assert(model.vocab.strips_blank && model.vocab.add_bos && model.vocab.bos == 1);
        struct tokenizer *tokenizer = open_tokenizer(&model);
        json_array_foreach(json_array_get(json_array_get(root, SCORES), 1), at, line)
        {
            encode(tokenizer, json_array_get(line, 0));
            ids_are(json_array_get(line, 1), i % 2 == 0 ? "merges" : "scores",
                    json_array_get(line, 0));
        }
        ck_assert_uint_gt(at, 80);
        json_array_foreach(json_array_get(json_array_get(root, CHAT), 1), at, line)
        {
            const json_t *list = json_array_get(line, 0);
            struct llama3_message messages[8] = {{0}};
            struct chat_request request = {.messages = messages, .n = json_array_size(list)};
            for (size_t m = 0; m < request.n; m++) {
                const json_t *message = json_array_get(list, m);
                messages[m].size = sizeof *messages;
                messages[m].role = json_string_value(json_object_get(message, "role"));
                messages[m].content = json_string_value(json_object_get(message, "content"));
            }
            request.end = CHAT_NOTHING;
            struct chat_template *chat =
                chat_open(json_string_value(json_object_get(model.templates, "default")), "default",
                          model.special_tokens, &err);
            ck_assert_msg(chat != NULL, "%s", err.message);
            tokens.n = 0;
            ck_assert_msg(chat_render(chat, tokenizer, &request, &tokens, &err) == 0, "%s",
                          err.message);
            ids_are(json_array_get(line, 1), "chat",
                    json_object_get(json_array_get(list, 0), "content"));
            chat_close(chat);
        }
        tokenizer_close(tokenizer);
        model_close(&model);
    }
    tokens_free(&tokens);
    json_decref(root);
    tiny_remove(folder);
}
END_TEST

/* Of pairs of equal score the leftmost is merged first: as in sentencepiece, by no other order. */
START_TEST(equal_scores)
{
    struct merge merges[] = {{0, 1, 2}, {1, 0, 3}};
    const uint32_t ranks[] = {0, 0};
    int32_t ids[] = {1, 0, 1};
    struct bpe bpe;
    ck_assert_int_eq(bpe_open(&bpe, merges, ranks, 2, &err), 0);
    ck_assert_uint_eq(bpe_merge(&bpe, ids, 3), 2);
    ck_assert(ids[0] == 3 && ids[1] == 1);
    bpe_close(&bpe);
}
END_TEST

START_TEST(refuses)
{
    static const struct {
        const char *changes, *message;
    } cases[] = {
        {"{\"type\": \"Unigram\"}", "\"model\": expected type BPE, found Unigram"},
        {"{\"normalizer\": {\"type\": \"NFKC\"}}",
         "\"normalizer\": expected null, or Replace of blanks by U+2581 after at most Prepend of "
         "one, found another NFKC"},
        {"{\"normalizer\": null}",
         "\"pre_tokenizer\": expected Metaspace with U+2581 that is prepended always, first or "
         "never, found null of another kind"},
        {"{\"pre_tokenizer\": {\"type\": \"Whitespace\"}}",
         "\"pre_tokenizer\": expected null beside a normalizer, found Whitespace"},
        {"{\"decoder\": {\"type\": \"ByteLevel\"}}",
         "\"decoder\": expected Replace of U+2581, ByteFallback, Fuse and at most Strip of one "
         "blank, as byte_fallback is true, found another ByteLevel"},
        {"{\"normalizer\": null, \"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": "
         "\"\xe2\x96\x81\", \"prepend_scheme\": \"last\"}}",
         "\"pre_tokenizer\": expected Metaspace with U+2581 that is prepended always, first or "
         "never, found Metaspace of another kind"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct model model;
        json_t *changes = json_loads(cases[i].changes, 0, NULL);
        ck_assert_int_eq(read_changed(changes, &model), -1);
        ck_assert_msg(strstr(err.message, cases[i].message) != NULL, "%s", err.message);
        model_close(&model);
        json_decref(changes);
    }
}
END_TEST

/* A megabyte of one word. */
START_TEST(takes_no_quadratic_time)
{
    enum { N = 1 << 20 };
    struct model model;
    char *text = malloc(N);
    ck_assert_ptr_nonnull(text);
    ck_assert_msg(model_open(&model, _i == 0 ? FOLDER : GGUF, &err) == 0, "%s", err.message);
    struct tokenizer *tokenizer = open_tokenizer(&model);
    for (size_t i = 0; i < N; i++)
        text[i] = "theinr"[i * i % 11 % 6];
    clock_t start = clock();
    ck_assert_int_eq(tokenizer_encode(tokenizer, text, N, &tokens, &err), 0);
    memset(text, ' ', N);
    ck_assert_int_eq(tokenizer_encode(tokenizer, text, N, &tokens, &err), 0);
    ck_assert_double_lt((double)(clock() - start) / CLOCKS_PER_SEC, 5);
    tokens_free(&tokens);
    tokenizer_close(tokenizer);
    model_close(&model);
    free(text);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("sentencepiece");
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, encodes_as_tokenizers, 0, N_VARIANTS);
    tcase_add_loop_test(tcase, written_as_gguf, 0, N_VARIANTS);
    tcase_add_loop_test(tcase, refused_or_the_same_as_gguf, 0, 5);
    tcase_add_test(tcase, scores_and_our_own_file);
    tcase_add_test(tcase, equal_scores);
    tcase_add_test(tcase, refuses);
    tcase_add_loop_test(tcase, takes_no_quadratic_time, 0, 2);
    return run_tests("sentencepiece", tcase);
}
