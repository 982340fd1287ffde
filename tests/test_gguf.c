/* SPDX-License-Identifier: MIT */
/* The GGUF container: values of every type, what is wrong with a header, and the mapping of a real
 * writer's files against the Hugging Face directories of the same weights. */
#include <check.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/model.h"
#include "run.h"
#include "tiny.h"

/* ---- values ---------------------------------------------------------------------------------- */

struct parsed {
    uint8_t *copy; /* of exactly the file's size, for the sanitizer's sake */
    struct tensor_table table;
    struct gguf gguf;
    struct llama3_error err;
    int result;
};

static void parse_bytes(struct parsed *parsed, const void *bytes, size_t size)
{
    *parsed = (struct parsed){.copy = malloc(size + 1)};
    memcpy(parsed->copy, bytes, size);
    parsed->copy = realloc(parsed->copy, size > 0 ? size : 1);
    const struct map map = {.data = parsed->copy, .size = size};
    parsed->result = gguf_parse(&parsed->gguf, &map, "x", &parsed->table, &parsed->err);
}

static void parse(struct parsed *parsed, const struct tiny_gguf *gguf)
{
    struct buf file = {0};
    tiny_gguf_write(gguf, &file, NULL);
    parse_bytes(parsed, file.data, file.size);
    buf_free(&file);
}

static void parsed_free(struct parsed *parsed)
{
    gguf_free(&parsed->gguf);
    tensor_table_free(&parsed->table);
    free(parsed->copy);
}

START_TEST(values)
{
    static const struct tiny_kv kvs[] = {
        {"u8", GGUF_U8, 0, 200, NULL},
        {"i8", GGUF_I8, 0, -100, NULL},
        {"u16", GGUF_U16, 0, 65535, NULL},
        {"i16", GGUF_I16, 0, -32768, NULL},
        {"u32", GGUF_U32, 0, 4294967295.0, NULL},
        {"i32", GGUF_I32, 0, -2147483648.0, NULL},
        {"u64", GGUF_U64, 0, 9007199254740992.0, NULL},
        {"i64", GGUF_I64, 0, -9007199254740992.0, NULL},
        {"f32", GGUF_F32, 0, 0.5, NULL},
        {"f64", GGUF_F64, 0, 0.1, NULL},
        {"bool", GGUF_BOOL, 0, 1, NULL},
        {"string", GGUF_STRING, 0, 0, "text"},
        {"empty", GGUF_STRING, 0, 0, ""},
        {"strings", GGUF_ARRAY, GGUF_STRING, 0, "a\n\nccc"},
        {"numbers", GGUF_ARRAY, GGUF_I32, 0, "1\n-2"},
        {"none", GGUF_ARRAY, GGUF_F64, 0, ""},
    };
    struct tiny_gguf tiny = {.version = 3, .n_kvs = sizeof kvs / sizeof *kvs};
    memcpy(tiny.kvs, kvs, sizeof kvs);
    struct parsed p;
    parse(&p, &tiny);
    ck_assert_msg(p.result == 0, "%s", p.err.message);
    ck_assert_uint_eq(p.gguf.n_kvs, tiny.n_kvs);

    for (size_t i = 0; i < 8; i++) { /* the integers, exact and as numbers */
        int64_t whole = 0;
        double number = 0;
        ck_assert_int_eq(
            gguf_get_int(&p.gguf, kvs[i].key, true, INT64_MIN, INT64_MAX, &whole, &p.err), 0);
        ck_assert_int_eq(whole, (int64_t)kvs[i].number);
        ck_assert_int_eq(gguf_get_number(&p.gguf, kvs[i].key, true, -1e30, 1e30, &number, &p.err),
                         0);
        ck_assert_double_eq(number, kvs[i].number);
        ck_assert_int_eq(gguf_get_int(&p.gguf, kvs[i].key, true, 1, 2, &whole, &p.err), -1);
    }
    double number = 0;
    ck_assert_int_eq(gguf_get_number(&p.gguf, "f32", true, 0, 1, &number, &p.err), 0);
    ck_assert_double_eq(number, 0.5);
    ck_assert_int_eq(gguf_get_number(&p.gguf, "f64", true, 0, 1, &number, &p.err), 0);
    ck_assert_double_eq(number, 0.1);
    bool yes = false;
    ck_assert_int_eq(gguf_get_bool(&p.gguf, "bool", true, &yes, &p.err), 0);
    ck_assert(yes);
    const char *text = NULL;
    size_t length = 99;
    ck_assert_int_eq(gguf_get_string(&p.gguf, "string", true, &text, &length, &p.err), 0);
    ck_assert(length == 4 && memcmp(text, "text", 4) == 0);
    ck_assert_int_eq(gguf_get_string(&p.gguf, "empty", true, &text, &length, &p.err), 0);
    ck_assert_uint_eq(length, 0);

    const struct gguf_kv *strings = gguf_get_array(&p.gguf, "strings", GGUF_STRING, &p.err);
    static const char *const expected[] = {"a", "", "ccc"};
    ck_assert(strings != NULL && strings->n == 3);
    const uint8_t *at = strings->data;
    for (size_t i = 0; i < 3; i++) {
        text = gguf_next_string(&at, &length);
        ck_assert(length == strlen(expected[i]) && memcmp(text, expected[i], length) == 0);
    }
    const struct gguf_kv *numbers = gguf_get_array(&p.gguf, "numbers", GGUF_I32, &p.err);
    ck_assert(numbers != NULL && numbers->n == 2);
    ck_assert_int_eq(gguf_int32(numbers->data, 0), 1);
    ck_assert_int_eq(gguf_int32(numbers->data, 1), -2);
    ck_assert_uint_eq(gguf_find(&p.gguf, "none")->n, 0);

    /* Absent, and not wanted enough to complain. */
    int64_t whole = 7;
    ck_assert_ptr_null(gguf_find(&p.gguf, "u"));
    ck_assert_ptr_null(gguf_find(&p.gguf, "u88"));
    ck_assert_int_eq(gguf_get_int(&p.gguf, "absent", false, 0, 9, &whole, &p.err), 0);
    ck_assert_int_eq(whole, 7);
    ck_assert_int_eq(gguf_get_int(&p.gguf, "absent", true, 0, 9, &whole, &p.err), -1);
    ck_assert_str_eq(p.err.message, "x: absent: expected an integer, found nothing");
    parsed_free(&p);
}
END_TEST

/* Above what an int64_t holds must not come out negative. */
START_TEST(huge_integer)
{
    struct tiny_gguf tiny = {.version = 3, .n_kvs = 1};
    tiny.kvs[0] = (struct tiny_kv){"n", GGUF_U64, 0, 0, NULL};
    struct buf file = {0};
    struct tiny_fields fields = {0};
    struct parsed p;
    int64_t value = 0;
    tiny_gguf_write(&tiny, &file, &fields);
    memset(file.data + fields.at[5].offset, 0xff, 8);
    parse_bytes(&p, file.data, file.size);
    ck_assert_int_eq(p.result, 0);
    ck_assert_int_eq(gguf_get_int(&p.gguf, "n", true, INT64_MIN, 1000, &value, &p.err), -1);
    ck_assert_str_eq(p.err.message,
                     "x: n: expected -9223372036854775808..1000, found 9223372036854775807");
    parsed_free(&p);
    buf_free(&file);
}
END_TEST

/* Another program writes to the file while it is open: what was checked stays as it was. */
START_TEST(header_that_changes)
{
    struct tiny_gguf gguf;
    struct buf file = {0};
    struct parsed p;
    tiny_gguf_default(&gguf);
    tiny_gguf_write(&gguf, &file, NULL);
    parse_bytes(&p, file.data, file.size);
    ck_assert_msg(p.result == 0, "%s", p.err.message);
    memset(p.copy, 0xff, file.size);

    const struct gguf_kv *tokens =
        gguf_get_array(&p.gguf, "tokenizer.ggml.tokens", GGUF_STRING, &p.err);
    ck_assert_msg(tokens != NULL, "%s", p.err.message);
    const uint8_t *at = tokens->data;
    size_t length;
    const char *text = gguf_next_string(&at, &length);
    ck_assert_uint_eq(length, 1);
    ck_assert_int_eq(text[0], 'a');
    int64_t context = 0;
    ck_assert_int_eq(gguf_get_int(&p.gguf, "llama.context_length", true, 1, 64, &context, &p.err),
                     0);
    ck_assert_int_eq(context, 64);
    parsed_free(&p);
    buf_free(&file);
}
END_TEST

/* ---- headers --------------------------------------------------------------------------------- */

/* Fields of the file that headers() writes, in order. */
enum {
    VERSION,
    N_TENSORS,
    N_KVS,
    KEY_LENGTH,
    KEY_TYPE,
    VALUE_LENGTH,
    KEY2_LENGTH,
    KEY2_TYPE,
    ITEM_TYPE,
    N_ITEMS,
    ITEM,
    ITEM2,
    NAME_LENGTH,
    N_DIMS,
    COLS,
    ROWS,
    TYPE,
    OFFSET,
    NAME2_LENGTH,
    N_DIMS2,
    COLS2,
    TYPE2,
    OFFSET2
};

START_TEST(headers)
{
    static const struct {
        size_t field;
        uint64_t value;
        const char *expected;
    } changes[] = {
        {VERSION, 1, "expected GGUF version 2 or 3, found 1"},
        {VERSION, 4, "expected GGUF version 2 or 3, found 4"},
        {VERSION, 0x02000000, "expected a little-endian GGUF file, found a big-endian one"},
        {N_TENSORS, 65537, "expected at most 65536 tensors that fit the file, found 65537"},
        {N_TENSORS, 40, "expected at most 65536 tensors that fit the file, found 40"},
        {N_KVS, UINT64_MAX,
         "expected at most 65536 keys that fit the file, found 18446744073709551615"},
        {N_KVS, 1000, "expected at most 65536 keys that fit the file, found 1000"},
        {KEY_LENGTH, 257, "expected a key of at most 256 bytes, found 257"},
        {KEY_LENGTH, UINT64_MAX, "expected a key of at most 256 bytes, found 18446744073709551615"},
        {KEY_TYPE, GGUF_TYPE_COUNT, "expected a value type 0..12, found 13"},
        {VALUE_LENGTH, UINT64_MAX - 7, "expected a string at byte 46, found 402 bytes left"},
        {KEY2_LENGTH, 1, "expected a value type 0..12, found 2354"},
        {ITEM_TYPE, GGUF_ARRAY, "k2: expected an array of plain values, found one of arrays"},
        {ITEM_TYPE, 13, "expected a value type 0..12, found 13"},
        {N_ITEMS, UINT64_MAX / 8,
         "k2: expected an array of 2305843009213693951 items, found 372 bytes left"},
        {ITEM2, 1 << 20, "expected a string at byte 95, found 353 bytes left"},
        {NAME_LENGTH, 65, "expected a tensor's name of at most 64 bytes, found 65"},
        {NAME_LENGTH, 0, "expected a tensor's name, found \"\""},
        {N_DIMS, 0, "tensor m: expected 1..4 dimensions, found 0"},
        {N_DIMS, 5, "tensor m: expected 1..4 dimensions, found 5"},
        {COLS, 0, "tensor m: expected dimensions from 1 whose product fits 64 bits, found 0"},
        {COLS, (uint64_t)1 << 63,
         "tensor m: expected dimensions from 1 whose product fits 64 bits, found 2"},
        {COLS, (uint64_t)1 << 62, "tensor m: expected a size that fits 64 bits, found more"},
        {COLS, 1 << 20, "tensor v: expected offset 8388608, found 96"},
        {ROWS, 5, "tensor v: expected offset 192, found 96"},
        {TYPE, 2, "tensor m: expected columns in multiples of 32 for q4_0, found 9"},
        {OFFSET, 32, "tensor m: expected offset 0, found 32"},
        {OFFSET2, 72, "tensor v: expected offset 96, found 72"},
        {OFFSET2, UINT64_MAX, "tensor v: expected offset 96, found 18446744073709551615"},
        {COLS2, 1000, "expected 4096 bytes of tensors at byte 192, found the file's end at 448"},
    };
    struct tiny_gguf tiny = {.version = 3, .n_kvs = 2, .n_tensors = 2};
    tiny.kvs[0] = (struct tiny_kv){"k1", GGUF_STRING, 0, 0, "text"};
    tiny.kvs[1] = (struct tiny_kv){"k2", GGUF_ARRAY, GGUF_STRING, 0, "one\ntwo"};
    tiny.tensors[0] = (struct tiny_tensor){"m", 0, 2, {9, 2}};
    tiny.tensors[1] = (struct tiny_tensor){"v", 0, 1, {40}};
    struct buf file = {0};
    struct tiny_fields fields = {0};
    struct parsed p;
    tiny_gguf_write(&tiny, &file, &fields);
    ck_assert_uint_eq(fields.n, OFFSET2 + 1);
    parse_bytes(&p, file.data, file.size);
    ck_assert_msg(p.result == 0, "%s", p.err.message);
    ck_assert_uint_eq(p.table.n, 2);
    ck_assert_uint_eq(p.table.tensors[0].dims[0], 2); /* outermost first */
    ck_assert_uint_eq(p.table.tensors[0].dims[1], 9);
    ck_assert_uint_eq((uintptr_t)p.table.tensors[1].data - (uintptr_t)p.table.tensors[0].data, 96);
    parsed_free(&p);

    char *bytes = malloc(file.size);
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        char expected[256];
        memcpy(bytes, file.data, file.size);
        memcpy(bytes + fields.at[changes[i].field].offset, &changes[i].value,
               fields.at[changes[i].field].size);
        parse_bytes(&p, bytes, file.size);
        snprintf(expected, sizeof expected, "x: %s", changes[i].expected);
        ck_assert_int_eq(p.result, -1);
        ck_assert_str_eq(p.err.message, expected);
        parsed_free(&p);
    }
    free(bytes);

    memcpy(file.data, "GGML", 4);
    parse_bytes(&p, file.data, file.size);
    ck_assert_str_eq(p.err.message, "x: expected \"GGUF\" at byte 0, found \"GGML\"");
    parsed_free(&p);
    parse_bytes(&p, "", 0);
    ck_assert_str_eq(p.err.message, "x: expected \"GGUF\" at byte 0, found 0 bytes left");
    parsed_free(&p);
    buf_free(&file);
}
END_TEST

START_TEST(twice)
{
    struct tiny_gguf tiny;
    struct parsed p;
    tiny_gguf_default(&tiny);
    tiny.kvs[tiny.n_kvs++] = tiny.kvs[3];
    parse(&p, &tiny);
    ck_assert_int_eq(p.result, -1);
    char expected[256];
    snprintf(expected, sizeof expected, "x: expected one key %s, found two", tiny.kvs[3].key);
    ck_assert_str_eq(p.err.message, expected);
    parsed_free(&p);
}
END_TEST

/* ---- a real writer's files ------------------------------------------------------------------- */

static void open_fixture(struct model *model, const char *path)
{
    struct llama3_error err;
    *model = (struct model){0};
    ck_assert_msg(model_open(model, path, &err) == 0, "%s", err.message);
}

static float *expand(const struct matrix *matrix)
{
    float *out = malloc(matrix->rows * matrix->cols * sizeof *out);
    dtype_expand(matrix->type, matrix->data, out, matrix->rows * matrix->cols);
    return out;
}

/* Equal values; where heads is not 0, row h * head_dim + 2 i + s of GGUF is row h * head_dim +
 * s * head_dim / 2 + i of Hugging Face's. */
static void same_matrix(const struct matrix *gguf, const struct matrix *hf, size_t heads)
{
    ck_assert_uint_eq(gguf->rows, hf->rows);
    ck_assert_uint_eq(gguf->cols, hf->cols);
    float *a = expand(gguf), *b = expand(hf);
    for (size_t row = 0; row < gguf->rows; row++) {
        size_t twin = row;
        if (heads > 0) {
            size_t dim = gguf->rows / heads, at = row % dim;
            twin = row - at + at % 2 * (dim / 2) + at / 2;
        }
        ck_assert_mem_eq(a + row * gguf->cols, b + twin * gguf->cols, gguf->cols * sizeof *a);
    }
    free(a);
    free(b);
}

static void same_vocab(const struct vocab *a, const struct vocab *b)
{
    ck_assert_uint_eq(a->n, b->n);
    ck_assert_mem_eq(a->offsets, b->offsets, (a->n + 1) * sizeof *a->offsets);
    ck_assert_mem_eq(a->bytes, b->bytes, a->offsets[a->n]);
    ck_assert_mem_eq(a->kinds, b->kinds, a->n);
    ck_assert_uint_eq(a->n_merges, b->n_merges);
    ck_assert_mem_eq(a->merges, b->merges, a->n_merges * sizeof *a->merges);
    ck_assert_int_eq(a->pretokenizer, b->pretokenizer);
    ck_assert_int_eq(a->ignore_merges, b->ignore_merges);
    ck_assert_int_eq(a->add_bos, b->add_bos);
    ck_assert_int_eq(a->bos, b->bos);
}

static void same_config(const struct config *a, const struct config *b)
{
    ck_assert_uint_eq(a->dim, b->dim);
    ck_assert_uint_eq(a->n_layers, b->n_layers);
    ck_assert_uint_eq(a->n_heads, b->n_heads);
    ck_assert_uint_eq(a->n_kv_heads, b->n_kv_heads);
    ck_assert_uint_eq(a->head_dim, b->head_dim);
    ck_assert_uint_eq(a->ffn_dim, b->ffn_dim);
    ck_assert_uint_eq(a->vocab_size, b->vocab_size);
    ck_assert_uint_eq(a->context, b->context);
    ck_assert_float_eq(a->rms_eps, b->rms_eps);
    ck_assert_double_eq(a->rope.theta, b->rope.theta);
    ck_assert_int_eq(a->tied, b->tied);
    ck_assert(a->rope.interleaved && !b->rope.interleaved);
}

/* tests/reference/make-fixtures.py starts both from the same seed. */
START_TEST(twins)
{
    struct model gguf, hf;
    open_fixture(&gguf, TEST_DATA "/tiny-gguf-f32/model.gguf");
    open_fixture(&hf, TEST_DATA "/tiny-f32");
    same_config(&gguf.config, &hf.config);
    same_vocab(&gguf.vocab, &hf.vocab);
    same_matrix(&gguf.embed, &hf.embed, 0);
    same_matrix(&gguf.norm, &hf.norm, 0);
    same_matrix(&gguf.head, &hf.head, 0);
    for (size_t i = 0; i < hf.config.n_layers; i++) {
        const struct layer *a = &gguf.layers[i], *b = &hf.layers[i];
        same_matrix(&a->attn_norm, &b->attn_norm, 0);
        same_matrix(&a->q, &b->q, hf.config.n_heads);
        same_matrix(&a->k, &b->k, hf.config.n_kv_heads);
        same_matrix(&a->v, &b->v, 0);
        same_matrix(&a->o, &b->o, 0);
        same_matrix(&a->ffn_norm, &b->ffn_norm, 0);
        same_matrix(&a->gate, &b->gate, 0);
        same_matrix(&a->up, &b->up, 0);
        same_matrix(&a->down, &b->down, 0);
    }
    ck_assert_uint_eq(gguf.parameters, hf.parameters);
    ck_assert(json_equal(gguf.templates, hf.templates));
    ck_assert(json_equal(gguf.special_tokens, hf.special_tokens));
    ck_assert_uint_eq(gguf.n_eos, 1); /* GGUF names one, generation_config.json two */
    ck_assert_uint_eq(hf.n_eos, 2);
    ck_assert(isnan(gguf.generation.temperature) && isnan(gguf.generation.top_p) &&
              isnan(gguf.generation.min_p) && isnan(gguf.generation.repeat_penalty));
    ck_assert(gguf.generation.top_k == -1 && gguf.generation.do_sample == -1);
    model_close(&gguf);
    model_close(&hf);
}
END_TEST

/* The factors are Llama 3.1's scaling, computed here from the directory's numbers by the formula of
 * its release (llama-models, apply_scaling). */
START_TEST(rope_factors)
{
    struct model gguf, hf;
    open_fixture(&gguf, TEST_DATA "/tiny-gguf-rope/model.gguf");
    open_fixture(&hf, TEST_DATA "/tiny-rope");
    const struct rope *rope = &hf.config.rope;
    ck_assert_int_eq(rope->type, ROPE_LLAMA3);
    ck_assert_int_eq(gguf.config.rope.type, ROPE_PLAIN);
    ck_assert_ptr_null(rope->factors);
    ck_assert_ptr_nonnull(gguf.config.rope.factors);
    for (size_t i = 0; i < gguf.config.head_dim / 2; i++) {
        double wavelength =
            2 * M_PI * pow(rope->theta, 2 * (double)i / (double)gguf.config.head_dim);
        double smooth = (rope->original_context / wavelength - rope->low_freq_factor) /
                        (rope->high_freq_factor - rope->low_freq_factor);
        smooth = fmin(fmax(smooth, 0), 1);
        double factor = 1 / ((1 - smooth) / rope->factor + smooth);
        ck_assert_double_eq_tol((double)gguf.config.rope.factors[i], factor, 1e-6 * factor);
    }
    model_close(&gguf);
    model_close(&hf);
}
END_TEST

/* A set's shards hold what one file would; the default of add_bos comes with llama-bpe. */
START_TEST(parts_and_defaults)
{
    struct model split, whole;
    open_fixture(&split, TEST_DATA "/tiny-gguf-split/model-00001-of-00002.gguf");
    open_fixture(&whole, TEST_DATA "/tiny-tied");
    ck_assert_uint_eq(split.n_maps, 2);
    ck_assert_uint_eq(split.file_bytes, split.maps[0].size + split.maps[1].size);
    ck_assert_uint_eq(split.parameters, whole.parameters);
    same_vocab(&split.vocab, &whole.vocab);
    model_close(&split);
    model_close(&whole);

    struct model silent;
    open_fixture(&silent, TEST_DATA "/tiny-gguf-f16/model.gguf");
    ck_assert(silent.vocab.add_bos);
    model_close(&silent);

    struct llama3_error err;
    ck_assert_int_eq(
        model_open(&split, TEST_DATA "/tiny-gguf-split/model-00002-of-00002.gguf", &err), -1);
    ck_assert_str_eq(
        err.message, TEST_DATA
        "/tiny-gguf-split/model-00002-of-00002.gguf: expected the first shard of the set (" TEST_DATA
        "/tiny-gguf-split/model-00001-of-00002.gguf), found shard 2");
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("gguf");
    tcase_add_test(tests, values);
    tcase_add_test(tests, huge_integer);
    tcase_add_test(tests, header_that_changes);
    tcase_add_test(tests, headers);
    tcase_add_test(tests, twice);
    tcase_add_test(tests, twins);
    tcase_add_test(tests, rope_factors);
    tcase_add_test(tests, parts_and_defaults);
    return run_tests("gguf", tests);
}
