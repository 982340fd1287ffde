/* SPDX-License-Identifier: MIT */
#include <check.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <nettle/sha2.h>

#include "base/hex.h"
#include "base/utf8.h"
#include "run.h"
#include "text/bpe.h"
#include "text/pretokenizer.h"
#include "text/tokenizer.h"
#include "text/unicode.h"
#include "vocab_file.h"

#define DATA TEST_DATA "/text/"

/* The three ways to cut text, on the two reduced vocabularies. */
static const struct {
    const char *vocab;
    enum pretokenizer pretokenizer;
} kinds[] = {
    {DATA "llama3.vocab", PRETOKENIZER_LLAMA3},
    {DATA "smollm2.vocab", PRETOKENIZER_SMOLLM},
    {DATA "smollm2.vocab", PRETOKENIZER_GPT2},
};
enum { N_KINDS = sizeof kinds / sizeof *kinds };

static struct vocab vocab;
static struct tokenizer *tokenizer;
static struct tokens tokens;
static struct llama3_error err;

static void open_kind(int kind)
{
    vocab_file_load(&vocab, kinds[kind].vocab);
    vocab.pretokenizer = kinds[kind].pretokenizer;
    tokenizer = tokenizer_open(&vocab, &err);
    ck_assert_msg(tokenizer != NULL, "%s", err.message);
}

static void close_all(void)
{
    tokenizer_close(tokenizer);
    tokens_free(&tokens);
    vocab_file_free(&vocab);
}

static json_t *load_json(const char *path)
{
    json_error_t error;
    json_t *root = json_load_file(path, JSON_ALLOW_NUL, &error);
    ck_assert_msg(root != NULL, "%s: %s", path, error.text);
    ck_assert_uint_gt(json_array_size(root), 100);
    return root;
}

static void encode(const char *text, size_t n)
{
    tokens.n = 0;
    ck_assert_msg(tokenizer_encode(tokenizer, text, n, &tokens, &err) == 0, "%s", err.message);
}

/* A small generator of its own, so that a failure repeats everywhere (Marsaglia's xorshift). */
static uint32_t random_below(uint32_t limit)
{
    static uint32_t state = 2463534242;
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state % limit;
}

/* ---- against the reference --------------------------------------------------------------- */

START_TEST(encodes_as_the_reference)
{
    json_t *root = load_json(DATA "encode.json"), *line;
    size_t at, i;
    json_t *id;

    open_kind(_i);
    json_array_foreach(root, at, line)
    {
        const json_t *text = json_array_get(line, 0);
        const json_t *ids = json_array_get(line, (size_t)_i + 1);
        encode(json_string_value(text), json_string_length(text));
        ck_assert_msg(tokens.n == json_array_size(ids), "line %zu: %zu tokens, not %zu", at + 1,
                      tokens.n, json_array_size(ids));
        json_array_foreach(ids, i, id)
            ck_assert_msg(tokens.ids[i] == json_integer_value(id), "line %zu, token %zu: %d",
                          at + 1, i, tokens.ids[i]);
    }
    json_decref(root);
    close_all();
}
END_TEST

/* The ids alone don't show every cut: where no merge leads across it, a missing one goes unseen. */
START_TEST(cuts_as_the_reference)
{
    json_t *root = load_json(DATA "encode.json"), *line;
    size_t at, i;
    json_t *length;

    json_array_foreach(root, at, line)
    {
        const json_t *text = json_array_get(line, 0);
        const json_t *lengths = json_array_get(line, (size_t)_i + 1 + N_KINDS);
        size_t done = 0, n = json_string_length(text);
        json_array_foreach(lengths, i, length)
        {
            ck_assert_uint_lt(done, n);
            size_t end = pretoken_end(kinds[_i].pretokenizer,
                                      (const uint8_t *)json_string_value(text), n, done);
            ck_assert_msg(end - done == (size_t)json_integer_value(length),
                          "line %zu, byte %zu: %zu bytes", at + 1, done, end - done);
            done = end;
        }
        ck_assert_uint_eq(done, n);
    }
    json_decref(root);
}
END_TEST

/* Pre-tokenizers that the vocabularies here don't have. */
static const enum pretokenizer others[] = {
    PRETOKENIZER_QWEN2,  PRETOKENIZER_SEED_CODER,   PRETOKENIZER_TEKKEN,        PRETOKENIZER_GPT4O,
    PRETOKENIZER_VIKING, PRETOKENIZER_DEEPSEEK_LLM, PRETOKENIZER_DEEPSEEK_CODER};
enum { N_OTHERS = sizeof others / sizeof *others };

START_TEST(others_cut_as_the_reference)
{
    json_t *root = load_json(DATA "cuts.json"), *line;
    size_t at, i;
    json_t *length;

    json_array_foreach(root, at, line)
    {
        const json_t *text = json_array_get(line, 0);
        size_t done = 0, n = json_string_length(text);
        json_array_foreach(json_array_get(line, (size_t)_i + 1), i, length)
        {
            ck_assert_uint_lt(done, n);
            size_t end =
                pretoken_end(others[_i], (const uint8_t *)json_string_value(text), n, done);
            ck_assert_msg(end - done == (size_t)json_integer_value(length),
                          "line %zu, byte %zu: %zu bytes", at + 1, done, end - done);
            done = end;
        }
        ck_assert_uint_eq(done, n);
    }
    json_decref(root);
}
END_TEST

/* Bytes that the vocabulary has tokens for come back from their tokens. */
START_TEST(decodes_to_the_same_text)
{
    json_t *root = load_json(DATA "encode.json"), *line;
    size_t at;

    open_kind(0);
    json_array_foreach(root, at, line)
    {
        const json_t *text = json_array_get(line, 0);
        size_t length = json_string_length(text), done = 0;
        encode(json_string_value(text), length);
        for (size_t i = 0; i < tokens.n; i++) {
            size_t n;
            const uint8_t *bytes = tokenizer_bytes(tokenizer, tokens.ids[i], &n);
            ck_assert_uint_le(n, length - done);
            ck_assert_mem_eq(bytes, json_string_value(text) + done, n);
            done += n;
        }
        ck_assert_uint_eq(done, length);
    }
    json_decref(root);
    close_all();
}
END_TEST

START_TEST(classes_of_all_code_points)
{
    char hex[2 * SHA256_DIGEST_SIZE + 1], expected[2 * SHA256_DIGEST_SIZE + 1];
    struct sha256_ctx context;
    uint8_t digest[SHA256_DIGEST_SIZE];

    sha256_init(&context);
    for (uint32_t scalar = 0; scalar < 0x110000; scalar++) {
        uint8_t class = (uint8_t)unicode_class(scalar);
        sha256_update(&context, 1, &class);
    }
    sha256_digest(&context, sizeof digest, digest);
    hex_text(digest, sizeof digest, hex);
    FILE *file = fopen(DATA "classes.sha256", "r");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fscanf(file, "%64s", expected), 1);
    fclose(file);
    ck_assert_str_eq(hex, expected);
}
END_TEST

/* ---- added tokens -------------------------------------------------------------------------- */

/* The text tokens of llama3.vocab, and the added tokens of a set of added.json. */
static void open_added(const json_t *set)
{
    static const uint8_t flags[] = {ADDED_LSTRIP, ADDED_RSTRIP, ADDED_SINGLE_WORD,
                                    ADDED_NORMALIZED};
    size_t i, n = json_array_size(set);
    json_t *token;

    vocab_file_load(&vocab, kinds[0].vocab);
    vocab.n = 2000;
    vocab.flags = calloc(vocab.n + n, 1);
    vocab.kinds = realloc(vocab.kinds, vocab.n + n);
    vocab.offsets = realloc(vocab.offsets, (vocab.n + n + 1) * sizeof *vocab.offsets);
    vocab.bytes = realloc(vocab.bytes, vocab.offsets[vocab.n] + n * 100);
    ck_assert(vocab.flags != NULL && vocab.kinds != NULL && vocab.offsets != NULL);
    json_array_foreach(set, i, token)
    {
        const json_t *name = json_array_get(token, 1);
        size_t size = json_string_length(name), id = vocab.n;
        if (json_integer_value(json_array_get(token, 0)) < (json_int_t)id) {
            id = (size_t)json_integer_value(json_array_get(token, 0));
            vocab.flags[id] = ADDED_MERGED;
        } else {
            memcpy(vocab.bytes + vocab.offsets[id], json_string_value(name), size);
            vocab.n++;
            vocab.offsets[vocab.n] = vocab.offsets[id] + (uint32_t)size;
        }
        vocab.kinds[id] =
            json_integer_value(json_array_get(token, 2)) != 0 ? TOKEN_CONTROL : TOKEN_ADDED;
        for (size_t f = 0; f < 4; f++)
            if (json_integer_value(json_array_get(token, f + 3)) != 0)
                vocab.flags[id] |= flags[f];
    }
    tokenizer = tokenizer_open(&vocab, &err);
    ck_assert_msg(tokenizer != NULL, "%s", err.message);
}

static void close_added(void)
{
    free(vocab.flags);
    close_all();
}

static void ids_are(const json_t *ids, const char *what, size_t line)
{
    size_t i;
    json_t *id;
    ck_assert_msg(tokens.n == json_array_size(ids), "text %zu, %s: %zu tokens, not %zu", line, what,
                  tokens.n, json_array_size(ids));
    json_array_foreach(ids, i, id)
        ck_assert_msg(tokens.ids[i] == json_integer_value(id), "text %zu, %s, token %zu: %d", line,
                      what, i, tokens.ids[i]);
}

/* Every other part is given. */
static size_t add_chars(uint32_t *chars, size_t n, const json_t *part, bool given)
{
    const uint8_t *text = (const uint8_t *)json_string_value(part);
    size_t size = json_string_length(part);
    for (size_t at = 0; at < size; n++) {
        uint32_t scalar = 0;
        at += (size_t)utf8_decode(text + at, size - at, &scalar);
        chars[n] = scalar | (given ? 0x80000000u : 0);
    }
    return n;
}

static void encode_marked(const uint32_t *chars, size_t n)
{
    tokens.n = 0;
    ck_assert_msg(tokenizer_encode_marked(tokenizer, chars, n, &tokens, &err) == 0, "%s",
                  err.message);
}

START_TEST(finds_added_tokens)
{
    json_error_t error;
    json_t *root = json_load_file(DATA "added.json", JSON_ALLOW_NUL, &error), *text, *part;
    const json_t *set = json_array_get(root, (size_t)_i);
    size_t at, i, n_added = 0, n_special = 0;
    uint32_t chars[1000];

    open_added(json_array_get(set, 0));
    json_array_foreach(json_array_get(set, 1), at, text)
    {
        const json_t *whole = json_array_get(text, 0);
        encode(json_string_value(whole), json_string_length(whole));
        ids_are(json_array_get(text, 1), "plain", at);
        for (i = 0; i < tokens.n; i++) {
            ck_assert_int_ne(tokenizer_kind(tokenizer, tokens.ids[i]), TOKEN_CONTROL);
            n_added += tokenizer_kind(tokenizer, tokens.ids[i]) == TOKEN_ADDED;
        }
        encode_marked(chars, add_chars(chars, 0, whole, false));
        ids_are(json_array_get(text, 2), "a template's", at);
        tokens.n = 0;
        ck_assert_int_eq(tokenizer_encode_trusted(tokenizer, json_string_value(whole),
                                                  json_string_length(whole), &tokens, &err),
                         0);
        ids_are(json_array_get(text, 2), "trusted", at);
        for (i = 0; i < tokens.n; i++)
            n_special += tokenizer_kind(tokenizer, tokens.ids[i]) == TOKEN_CONTROL;
        size_t n = 0;
        json_array_foreach(json_array_get(text, 3), i, part) n =
            add_chars(chars, n, part, i % 2 == 1);
        encode_marked(chars, n);
        ids_are(json_array_get(text, 4), "mixed", at);
        encode_marked(chars, add_chars(chars, 0, whole, true));
        for (i = 0; i < tokens.n; i++)
            ck_assert(vocab_is_merged(&vocab, (size_t)tokens.ids[i]));
    }
    ck_assert_uint_gt(at, 50);
    ck_assert_uint_gt(n_added, 50);
    ck_assert(n_special > 0 || _i == 3);
    json_decref(root);
    close_added();
}
END_TEST

START_TEST(added_tokens_by_name)
{
    json_error_t error;
    json_t *root = json_load_file(DATA "added.json", JSON_ALLOW_NUL, &error);
    static const uint32_t no_scalars[] = {0x110000, 0xd800, 0xdfff | 0x80000000u, 0x7fffffff};

    open_added(json_array_get(json_array_get(root, 0), 0));
    ck_assert_int_eq(tokenizer_added(tokenizer, "<think>"), 2000);
    ck_assert_int_eq(tokenizer_added(tokenizer, "<|im_end|>"), 2002);
    ck_assert_int_eq(tokenizer_added(tokenizer, "<|im_start|>"), 2003);
    ck_assert_int_eq(tokenizer_added(tokenizer, "<thin"), -1);
    ck_assert_int_eq(tokenizer_added(tokenizer, "the"), -1);
    ck_assert_int_eq(tokenizer_added(tokenizer, ""), -1);
    ck_assert_int_eq(tokenizer_control(tokenizer, "<think>"), -1);
    ck_assert_int_eq(tokenizer_control(tokenizer, "<|im_end|>"), 2002);
    encode("before", 6);
    size_t before = tokens.n;
    for (size_t i = 0; i < sizeof no_scalars / sizeof *no_scalars; i++) {
        ck_assert_int_eq(tokenizer_encode_marked(tokenizer, &no_scalars[i], 1, &tokens, &err), -1);
        ck_assert_msg(strstr(err.message, "expected Unicode scalars") != NULL, "%s", err.message);
        ck_assert_uint_eq(tokens.n, before);
    }
    encode_marked(no_scalars, 0);
    ck_assert_uint_eq(tokens.n, 0);
    json_decref(root);
    close_added();
}
END_TEST

/* White space that tokens take is read once. */
START_TEST(added_tokens_take_linear_time)
{
    enum { N = 1 << 20 };
    json_error_t error;
    json_t *root = json_load_file(DATA "added.json", JSON_ALLOW_NUL, &error);
    char *text = malloc(N);

    ck_assert_ptr_nonnull(text);
    open_added(json_array_get(json_array_get(root, 1), 0));
    for (size_t id = 2000; id < vocab.n; id++)
        vocab.flags[id] |= ADDED_LSTRIP | ADDED_RSTRIP;
    tokenizer_close(tokenizer);
    tokenizer = tokenizer_open(&vocab, &err);
    ck_assert_ptr_nonnull(tokenizer);
    memset(text, ' ', N);
    clock_t start = clock();
    encode(text, N);
    ck_assert_double_lt((double)(clock() - start) / CLOCKS_PER_SEC, 3);
    free(text);
    json_decref(root);
    close_added();
}
END_TEST

/* ---- byte-pair encoding ------------------------------------------------------------------ */

/* By the definition, without any cleverness. */
static size_t merge_plainly(int32_t *ids, size_t n)
{
    for (size_t rank = 0; rank < vocab.n_merges;) {
        const struct merge *merge = &vocab.merges[rank];
        size_t i = 0;
        while (i + 1 < n && (ids[i] != merge->left || ids[i + 1] != merge->right))
            i++;
        if (i + 1 >= n) {
            rank++;
            continue;
        }
        ids[i] = merge->result;
        memmove(ids + i + 1, ids + i + 2, (n - i - 2) * sizeof *ids);
        n--;
        rank = 0;
    }
    return n;
}

/* Lengths on both sides of where the tree takes over, and of one to three levels. */
START_TEST(merges_by_definition)
{
    int32_t ours[600], plain[600];
    static const char letters[] = "aeinorst eh";
    struct bpe bpe;

    open_kind(0);
    ck_assert_int_eq(bpe_open(&bpe, vocab.merges, NULL, vocab.n_merges, &err), 0);
    for (size_t round = 0; round < 300; round++) {
        size_t n = random_below(round < 150 ? 60 : round < 280 ? 160 : 600) + 1;
        for (size_t i = 0; i < n; i++) {
            uint32_t letter = random_below(sizeof letters - 1);
            encode(letters + letter, 1);
            ours[i] = plain[i] = round % 3 == 0 ? (int32_t)random_below(600) : tokens.ids[0];
        }
        size_t left = bpe_merge(&bpe, ours, n);
        ck_assert_uint_eq(left, merge_plainly(plain, n));
        ck_assert_mem_eq(ours, plain, left * sizeof *ours);
    }
    bpe_close(&bpe);
    close_all();
}
END_TEST

/* A later line for the same pair counts, and nothing to merge is fine. */
START_TEST(merges_of_odd_lists)
{
    const struct merge merges[] = {{1, 2, 3}, {2, 2, 4}, {1, 2, 5}};
    int32_t ids[] = {1, 2, 2, 1, 2};
    struct bpe bpe;

    ck_assert_int_eq(bpe_open(&bpe, merges, NULL, 3, &err), 0);
    ck_assert_uint_eq(bpe_merge(&bpe, ids, 5), 3);
    ck_assert_int_eq(ids[0], 1);
    ck_assert_int_eq(ids[1], 4);
    ck_assert_int_eq(ids[2], 5);
    bpe_close(&bpe);
    ck_assert_int_eq(bpe_open(&bpe, NULL, NULL, 0, &err), 0);
    ck_assert_uint_eq(bpe_merge(&bpe, ids, 3), 3);
    ck_assert_uint_eq(bpe_merge(&bpe, ids, 0), 0);
    bpe_close(&bpe);
}
END_TEST

START_TEST(refuses_merges_of_control_tokens)
{
    static const int32_t wrong[] = {-1, 2000, 1 << 30};

    vocab_file_load(&vocab, kinds[0].vocab);
    ck_assert_int_eq(vocab.kinds[2000], TOKEN_CONTROL);
    for (size_t i = 0; i < 3; i++) {
        struct merge was = vocab.merges[7];
        vocab.merges[7].result = wrong[i];
        ck_assert_ptr_null(tokenizer_open(&vocab, &err));
        ck_assert_ptr_nonnull(strstr(err.message, "merge 7"));
        vocab.merges[7] = was;
    }
    vocab_file_free(&vocab);
}
END_TEST

/* ---- what may and may not come out ------------------------------------------------------- */

START_TEST(text_never_spells_control_tokens)
{
    size_t n_controls = 0;

    open_kind(_i);
    for (int32_t id = 0; (size_t)id < vocab.n; id++) {
        if (tokenizer_kind(tokenizer, id) != TOKEN_CONTROL)
            continue;
        char name[64];
        size_t n;
        const uint8_t *bytes = tokenizer_bytes(tokenizer, id, &n);
        snprintf(name, sizeof name, "%.*s", (int)n, (const char *)bytes);
        ck_assert_int_eq(tokenizer_control(tokenizer, name), id);
        encode(name, n);
        ck_assert_uint_gt(tokens.n, 0);
        for (size_t i = 0; i < tokens.n; i++)
            ck_assert_int_eq(tokenizer_kind(tokenizer, tokens.ids[i]), TOKEN_TEXT);
        n_controls++;
    }
    ck_assert_uint_gt(n_controls, 10);
    ck_assert_int_eq(tokenizer_control(tokenizer, "<|no such token|>"), -1);
    ck_assert_int_eq(tokenizer_control(tokenizer, "the"), -1);
    ck_assert_int_eq(tokenizer_bos(tokenizer), vocab.bos);
    close_all();
}
END_TEST

START_TEST(ids_out_of_range)
{
    static const int32_t wrong[] = {-1, INT32_MIN, INT32_MAX, 2011};

    open_kind(0);
    ck_assert_uint_eq(vocab.n, 2011);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        size_t n = 1;
        ck_assert_int_eq(tokenizer_kind(tokenizer, wrong[i]), TOKEN_UNUSED);
        ck_assert_ptr_null(tokenizer_bytes(tokenizer, wrong[i], &n));
        ck_assert_uint_eq(n, 0);
    }
    close_all();
}
END_TEST

START_TEST(refuses_what_is_not_utf8)
{
    static const struct {
        const char *text, *where;
    } wrong[] = {{"\xff", "byte 0"},     {"abc\x80", "byte 3"},
                 {"\xc3", "byte 0"},     {"a\xed\xa0\x80", "byte 1"},
                 {"\xc0\xaf", "byte 0"}, {"hi \xf0\x9f\x99", "byte 3"}};

    open_kind(0);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        encode("before", 6);
        size_t before = tokens.n;
        ck_assert_int_eq(
            tokenizer_encode(tokenizer, wrong[i].text, strlen(wrong[i].text), &tokens, &err), -1);
        ck_assert_int_eq(err.code, LLAMA3_EINPUT);
        ck_assert_msg(strstr(err.message, wrong[i].where) != NULL, "%s", err.message);
        ck_assert_uint_eq(tokens.n, before);
    }
    close_all();
}
END_TEST

/* As the reference: a byte without a token is left out. */
START_TEST(bytes_without_a_token)
{
    open_kind(0);
    encode("in", 2);
    ck_assert_uint_eq(tokens.n, 1);
    int32_t in = tokens.ids[0];
    encode("\x7fin", 3);
    ck_assert_uint_eq(tokens.n, 2);
    vocab.kinds[tokens.ids[0]] = TOKEN_UNUSED;
    tokenizer_close(tokenizer);
    tokenizer = tokenizer_open(&vocab, &err);
    ck_assert_ptr_nonnull(tokenizer);
    encode("\x7f", 1);
    ck_assert_uint_eq(tokens.n, 0);
    struct tokens none = {0}; /* without memory yet: no offset from NULL (UBSan of clang) */
    ck_assert_int_eq(tokenizer_encode(tokenizer, "\x7f\x7f", 2, &none, &err), 0);
    ck_assert_uint_eq(none.n, 0);
    tokens_free(&none);
    encode("\x7fin", 3);
    ck_assert_uint_eq(tokens.n, 1);
    ck_assert_int_eq(tokens.ids[0], in);
    close_all();
}
END_TEST

/* ---- time -------------------------------------------------------------------------------- */

/* Texts that a backtracking or rescanning tokenizer takes quadratic time for. */
static const char *const hard[] = {
    "a",        " ",   "\n",       "\r\n",         " \n",
    "1",        "!",   "'",        "' ",           "\xcc\x81",
    " a",       " \t", "\xc2\xa0", "\xe4\xbd\xa0", "\xf0\x9f\x99\x82",
    "ab",       "the", "!\n",      "    x",        "\xe3\x80\x80",
    "a\xcc\x81"};
enum { N_HARD = sizeof hard / sizeof *hard, SMALL = 1 << 14, FACTOR = 16 };

static double seconds_to_encode(const char *text, size_t n)
{
    double best = 1e9;
    for (int i = 0; i < 3; i++) {
        clock_t start = clock();
        encode(text, n);
        double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
        best = seconds < best ? seconds : best;
    }
    return best;
}

/* Sixteen times the text may take 64 times as long, and 30 ms beyond it whatever it was: quadratic
 * work would be 256 times, and is far above the 30 ms at this size. */
START_TEST(time_is_linear)
{
    size_t large = (size_t)SMALL * FACTOR;
    char *text = malloc(large);

    ck_assert_ptr_nonnull(text);
    open_kind(_i);
    for (size_t h = 0; h < N_HARD; h++) {
        size_t n = strlen(hard[h]), whole = large / n * n;
        for (size_t i = 0; i < whole; i++)
            text[i] = hard[h][i % n];
        double small = seconds_to_encode(text, SMALL / n * n);
        double seconds = seconds_to_encode(text, whole);
        ck_assert_msg(seconds < 4 * FACTOR * small + 0.03,
                      "\"%s\": %zu bytes %.3f s, %d bytes %.3f s", hard[h], whole, seconds, SMALL,
                      small);
    }
    free(text);
    close_all();
}
END_TEST

/* The same of cutting alone, without a vocabulary. */
static double seconds_to_cut(enum pretokenizer pretokenizer, const char *text, size_t n)
{
    double best = 1e9;
    for (int i = 0; i < 3; i++) {
        clock_t start = clock();
        for (size_t at = 0; at < n;)
            at = pretoken_end(pretokenizer, (const uint8_t *)text, n, at);
        double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
        best = seconds < best ? seconds : best;
    }
    return best;
}

START_TEST(others_cut_in_linear_time)
{
    static const char *const harder[] = {"A",
                                         "A\xcc\x81",
                                         "AB\xe4\xbd\xa0",
                                         " \xe3\x80\x80",
                                         "\xe3\x80\x82\xe3\x80\x80",
                                         " \xe2\x80\x83",
                                         "\xc2\xa7  ",
                                         "\xc2\xa7 \xe2\x80\x83",
                                         ", ",
                                         "|",
                                         "1 "};
    enum { N_HARDER = sizeof harder / sizeof *harder };
    size_t large = (size_t)SMALL * FACTOR;
    char *text = malloc(large);
    ck_assert_ptr_nonnull(text);
    for (size_t h = 0; h < N_HARD + N_HARDER; h++) {
        const char *part = h < N_HARD ? hard[h] : harder[h - N_HARD];
        size_t n = strlen(part), whole = large / n * n;
        for (size_t i = 0; i < whole; i++)
            text[i] = part[i % n];
        double small = seconds_to_cut(others[_i], text, SMALL / n * n);
        double seconds = seconds_to_cut(others[_i], text, whole);
        ck_assert_msg(seconds < 4 * FACTOR * small + 0.03,
                      "\"%s\": %zu bytes %.3f s, %d bytes %.3f s", part, whole, seconds, SMALL,
                      small);
    }
    free(text);
}
END_TEST

static double seconds_since(clock_t start)
{
    return (double)(clock() - start) / CLOCKS_PER_SEC;
}

/* 200,000 pairs that the product with 2^64 / golden ratio, without a secret, puts into one slot:
 * each would be compared with all before it. */
START_TEST(merges_that_collide)
{
    enum { N = 200000 };
    const uint64_t golden = 0x9e3779b97f4a7c15;
    uint64_t inverse = golden; /* modulo 2^64, by Newton's iteration */
    for (int i = 0; i < 6; i++)
        inverse *= 2 - golden * inverse;
    struct merge *merges = malloc(N * sizeof *merges);
    ck_assert_ptr_nonnull(merges);
    size_t n = 0;
    for (uint64_t i = 1; n < N; i++) {
        uint64_t hash = i << 20;
        uint64_t pair = (hash ^ hash >> 32) * inverse;
        if ((pair >> 31 & 1) == 0 && pair >> 63 == 0)
            merges[n] = (struct merge){(int32_t)(pair >> 32), (int32_t)(uint32_t)pair, (int32_t)n},
            n++;
    }
    struct bpe bpe;
    clock_t start = clock();
    ck_assert_int_eq(bpe_open(&bpe, merges, NULL, N, &err), 0);
    for (size_t i = 0; i < N; i++) {
        int32_t ids[] = {merges[i].left, merges[i].right};
        require(bpe_merge(&bpe, ids, 2) == 1 && ids[0] == (int32_t)i, "merge %zu: not found", i);
    }
    ck_assert_double_lt(seconds_since(start), 3);
    bpe_close(&bpe);
    free(merges);
}
END_TEST

/* 65,536 tokens of 16 blocks, each block one of two that lead the same way through a hash that
 * multiplies words and folds the product, whatever it begins with. */
START_TEST(tokens_that_collide)
{
    enum { BITS = 16, N = 1 << BITS, SIZE = BITS * 16 };
    static const uint64_t flips[2] = {(uint64_t)1 << 63, (uint64_t)1 << 63 | (uint64_t)1 << 31};
    struct vocab words = {.n = N, .pretokenizer = PRETOKENIZER_LLAMA3, .ignore_merges = true};
    words.bytes = calloc(N, SIZE);
    words.offsets = calloc(N + 1, sizeof *words.offsets);
    words.kinds = calloc(N, 1);
    ck_assert(words.bytes != NULL && words.offsets != NULL && words.kinds != NULL);
    for (uint32_t i = 0; i < N; i++) {
        words.kinds[i] = TOKEN_TEXT;
        words.offsets[i + 1] = (i + 1) * SIZE;
        for (int block = 0; block < BITS; block++)
            if (i >> block & 1)
                memcpy(words.bytes + (size_t)i * SIZE + 16 * (size_t)block, flips, sizeof flips);
    }
    clock_t start = clock();
    struct tokenizer *opened = tokenizer_open(&words, &err);
    ck_assert_ptr_nonnull(opened);
    ck_assert_double_lt(seconds_since(start), 3);
    tokenizer_close(opened);
    vocab_free(&words);
}
END_TEST

/* ---- decoding ---------------------------------------------------------------------------- */

static size_t from_hex(const char *hex, uint8_t *bytes)
{
    size_t n = strlen(hex) / 2;
    for (size_t i = 0; i < n; i++) {
        const char pair[] = {hex[2 * i], hex[2 * i + 1], '\0'};
        bytes[i] = (uint8_t)strtoul(pair, NULL, 16);
    }
    return n;
}

/* However the bytes are cut into tokens, the text is the same. */
START_TEST(decodes_in_any_pieces)
{
    json_t *root = load_json(DATA "decode.json"), *line;
    size_t at;

    json_array_foreach(root, at, line)
    {
        uint8_t bytes[64];
        size_t n = from_hex(json_string_value(json_array_get(line, 0)), bytes);
        const json_t *text = json_array_get(line, 1);
        for (size_t cut = 0; cut <= n; cut++) {
            struct decoder decoder = {0};
            struct buf out = {0};
            decoder_push(&decoder, bytes, cut, &out);
            ck_assert_uint_eq(utf8_valid((const uint8_t *)out.data, out.size), out.size);
            for (size_t i = cut; i < n; i++)
                decoder_push(&decoder, bytes + i, 1, &out);
            decoder_finish(&decoder, &out);
            ck_assert_msg(
                out.size == json_string_length(text) &&
                    (out.size == 0 || memcmp(out.data, json_string_value(text), out.size) == 0),
                "line %zu, cut at %zu", at + 1, cut);
            buf_free(&out);
        }
    }
    json_decref(root);
}
END_TEST

START_TEST(holds_half_a_character)
{
    struct decoder decoder = {0};
    struct buf out = {0};

    decoder_push(&decoder, (const uint8_t *)"x\xf0\x9f", 3, &out);
    ck_assert_uint_eq(out.size, 1);
    decoder_push(&decoder, (const uint8_t *)"\x99", 1, &out);
    ck_assert_uint_eq(out.size, 1);
    decoder_push(&decoder, (const uint8_t *)"\x82y", 2, &out);
    ck_assert_str_eq(out.data, "x\xf0\x9f\x99\x82y");
    decoder_finish(&decoder, &out);
    ck_assert_uint_eq(out.size, 6);
    buf_free(&out);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("tokenizer");
    tcase_set_timeout(tests, 120); /* quadratic work would take many minutes */
    tcase_add_loop_test(tests, encodes_as_the_reference, 0, N_KINDS);
    tcase_add_loop_test(tests, cuts_as_the_reference, 0, N_KINDS);
    tcase_add_loop_test(tests, others_cut_as_the_reference, 0, N_OTHERS);
    tcase_add_loop_test(tests, others_cut_in_linear_time, 0, N_OTHERS);
    tcase_add_test(tests, decodes_to_the_same_text);
    tcase_add_test(tests, classes_of_all_code_points);
    tcase_add_loop_test(tests, finds_added_tokens, 0, 4);
    tcase_add_test(tests, added_tokens_by_name);
    tcase_add_test(tests, added_tokens_take_linear_time);
    tcase_add_test(tests, merges_by_definition);
    tcase_add_test(tests, merges_of_odd_lists);
    tcase_add_test(tests, refuses_merges_of_control_tokens);
    tcase_add_loop_test(tests, text_never_spells_control_tokens, 0, N_KINDS);
    tcase_add_test(tests, ids_out_of_range);
    tcase_add_test(tests, refuses_what_is_not_utf8);
    tcase_add_test(tests, bytes_without_a_token);
    tcase_add_test(tests, decodes_in_any_pieces);
    tcase_add_test(tests, holds_half_a_character);
    tcase_add_test(tests, merges_that_collide);
    tcase_add_test(tests, tokens_that_collide);
    tcase_add_loop_test(tests, time_is_linear, 0, N_KINDS);
    return run_tests("tokenizer", tests);
}
