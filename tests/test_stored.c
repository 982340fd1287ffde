/* SPDX-License-Identifier: MIT */
/*
 * Quantized checkpoints of safetensors: what their matrices are in f32, bit for bit as the formats'
 * own libraries expand them (tests/reference/make-quantized-goldens.py), and how far the strips
 * that the integer kernels read are from that.
 */
#include <check.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/model.h"
#include "checkpoint/tensors.h"
#include "run.h"

static const char *const fixtures[] = {
    "bnb-nf4",         "bnb-nf4-double", "bnb-fp4",        "bnb-int8",        "ct-fp8-tensor",
    "ct-fp8-channel",  "ct-fp8-block",   "fp8-tensor",     "fp8-block",       "fp8-fbgemm",
    "ct-mxfp4",        "ct-nvfp4",       "modelopt-nvfp4", "gptq-4-g32",      "gptq-4-g32-v2",
    "gptq-4-lies-v1",  "gptq-4-lies-v2", "gptq-4-asym",    "gptq-4-act",      "gptq-4-act-sym",
    "modelopt-fp8",    "gptq-4-channel", "gptq-4-g128",    "gptq-8-g32",      "awq-gemm",
    "awq-gemv",        "ct-int4-g32",    "ct-int4-asym",   "ct-int4-channel", "ct-int4-act",
    "ct-int8-channel", "ct-w8a8",        "gptq-4-act-each"};
enum { N_FIXTURES = sizeof fixtures / sizeof *fixtures };

static uint64_t fnv(uint64_t sum, const void *data, size_t size)
{
    const uint8_t *bytes = data;
    for (size_t i = 0; i < size; i++)
        sum = (sum ^ bytes[i]) * 0x100000001b3;
    return sum;
}

/* The matrix that tensors of a name belong to. */
static const struct matrix *find_matrix(const struct model *model, const char *name)
{
    static const char *const parts[TENSOR_KINDS] = {
        [TENSOR_Q] = "self_attn.q_proj", [TENSOR_K] = "self_attn.k_proj",
        [TENSOR_V] = "self_attn.v_proj", [TENSOR_O] = "self_attn.o_proj",
        [TENSOR_GATE] = "mlp.gate_proj", [TENSOR_UP] = "mlp.up_proj",
        [TENSOR_DOWN] = "mlp.down_proj"};
    for (size_t i = 0; i < tensor_count(model); i++) {
        struct tensor tensor = tensor_at(model, i);
        char expected[128];
        if (parts[tensor.kind] == NULL)
            continue;
        snprintf(expected, sizeof expected, "model.layers.%zu.%s", tensor.layer,
                 parts[tensor.kind]);
        if (strcmp(name, expected) == 0)
            return tensor.matrix;
    }
    ck_abort_msg("%s: no such matrix", name);
    return NULL;
}

static void check_whole(const struct matrix *matrix, const char *fixture)
{
    char path[512];
    snprintf(path, sizeof path, TEST_DATA "/tiny-%s/weights.f32", fixture);
    FILE *file = fopen(path, "rb");
    ck_assert_msg(file != NULL, "%s is missing", path);
    float *row = malloc(matrix->cols * sizeof *row), *want = malloc(matrix->cols * sizeof *want);
    for (size_t r = 0; r < matrix->rows; r++) {
        matrix_row(matrix, r, row);
        ck_assert_uint_eq(fread(want, sizeof *want, matrix->cols, file), matrix->cols);
        for (size_t c = 0; c < matrix->cols; c++)
            ck_assert_msg(memcmp(&row[c], &want[c], sizeof *row) == 0,
                          "%s: weight %zu of row %zu is %a, not %a", fixture, c, r, (double)row[c],
                          (double)want[c]);
    }
    free(row);
    free(want);
    fclose(file);
}

static void check_sum(const struct matrix *matrix, const json_t *entry, const char *fixture)
{
    uint64_t sum = 0xcbf29ce484222325;
    char found[32];
    float *row = malloc(matrix->cols * sizeof *row);
    for (size_t r = 0; r < matrix->rows; r++) {
        matrix_row(matrix, r, row);
        sum = fnv(sum, row, matrix->cols * sizeof *row);
    }
    free(row);
    snprintf(found, sizeof found, "%016" PRIx64, sum);
    ck_assert_msg(strcmp(found, json_string_value(json_object_get(entry, "fnv"))) == 0,
                  "%s: %s: weights are others", fixture,
                  json_string_value(json_object_get(entry, "name")));
}

static json_t *open_fixture(const char *fixture, struct model *model)
{
    char path[512];
    struct llama3_error err;
    snprintf(path, sizeof path, TEST_DATA "/tiny-%s", fixture);
    ck_assert_msg(model_open(model, path, &err) == 0, "%s", err.message);
    snprintf(path, sizeof path, TEST_DATA "/tiny-%s/weights.json", fixture);
    json_t *root = json_load_file(path, 0, NULL);
    ck_assert_msg(root != NULL, "%s is missing", path);
    return root;
}

START_TEST(weights_as_the_library_expands_them)
{
    struct model model;
    json_t *root = open_fixture(fixtures[_i], &model), *entry;
    check_whole(find_matrix(&model, json_string_value(json_object_get(root, "whole"))),
                fixtures[_i]);
    size_t i;
    json_array_foreach(json_object_get(root, "matrices"), i, entry)
    {
        const char *name = json_string_value(json_object_get(entry, "name"));
        check_sum(find_matrix(&model, name), entry, fixtures[_i]);
    }
    ck_assert_uint_ge(i, 3);
    json_decref(root);
    model_close(&model);
}
END_TEST

/* ---- strips ---------------------------------------------------------------------------------- */

enum { ROWS = 64, COLS = 512 };

static float normal(uint32_t *seed)
{
    float sum = 0;
    for (int i = 0; i < 12; i++) {
        *seed = *seed * 1664525 + 1013904223;
        sum += (float)(*seed >> 8) * 0x1p-24f;
    }
    return sum - 6;
}

/* The code of the number that is nearest to a value. */
static int nearest(const float *numbers, int n, float value)
{
    int best = 0;
    for (int i = 1; i < n; i++)
        if (fabsf(numbers[i] - value) < fabsf(numbers[best] - value))
            best = i;
    return best;
}

/* How formats store normal weights: codes, scales of so many columns, zeros. */
static const struct family {
    const char *name, *table; /* table: of codes of 4 bits; the fixture that has it */
    enum number codes, scales;
    size_t cols;
    bool zeros;
    double most; /* what strips may add, as a part of the format's own error */
} families[] = {
    {"bitsandbytes nf4", "bnb-nf4", NUMBER_U4, NUMBER_F32, 64, false, .1},
    {"bitsandbytes fp4", "bnb-fp4", NUMBER_U4, NUMBER_F32, 64, false, .1},
    {"bitsandbytes int8", NULL, NUMBER_S8, NUMBER_F32, COLS, false, 0},
    {"fp8, a scale for each row", NULL, NUMBER_E4M3, NUMBER_F32, COLS, false, .1},
    {"fp8, scales of 128 columns", NULL, NUMBER_E4M3, NUMBER_F32, 128, false, .1},
    {"mxfp4", "ct-mxfp4", NUMBER_U4, NUMBER_E8M0, 32, false, 0},
    {"nvfp4", "ct-nvfp4", NUMBER_U4, NUMBER_E4M3, 16, false, 1e-9},
    {"gptq of 4 bits, symmetric", NULL, NUMBER_U4, NUMBER_F16, 128, false, 0},
    {"gptq of 8 bits, symmetric", NULL, NUMBER_U8, NUMBER_F16, 128, false, 0},
    {"gptq and awq of 4 bits", NULL, NUMBER_U4, NUMBER_F16, 32, true, .1},
    {"gptq and awq of 4 bits, groups of 128", NULL, NUMBER_U4, NUMBER_F16, 128, true, .1},
    {"gptq of 8 bits", NULL, NUMBER_U8, NUMBER_F16, 128, true, .1},
    {"compressed-tensors of 4 bits, symmetric", NULL, NUMBER_U4, NUMBER_BF16, 32, false, 0},
    {"compressed-tensors of 4 bits", NULL, NUMBER_U4, NUMBER_BF16, 32, true, .1},
    {"compressed-tensors of 8 bits", NULL, NUMBER_U8, NUMBER_BF16, 128, true, .1},
    {"compressed-tensors int8, a scale for each row", NULL, NUMBER_S8, NUMBER_BF16, COLS, true, .1},
};
enum { N_FAMILIES = sizeof families / sizeof *families, FP8_ROWS = 3 };

struct sample {
    float weights[ROWS * COLS], numbers[256], steps[256]; /* what codes stand for */
    uint8_t codes[ROWS * COLS], scales[ROWS * COLS], zeros[ROWS * COLS];
    struct parts parts;
    struct matrix matrix;
};

/* Row after row, a number for each block of columns. */
static struct numbers numbers_of(enum number type, const uint8_t *data, size_t cols)
{
    return (struct numbers){.type = type,
                            .data = data,
                            .rows = 1,
                            .cols = cols,
                            .row_run = 1,
                            .row_step = COLS / cols,
                            .col_run = 1,
                            .col_step = 1};
}

static void put_code(uint8_t *data, enum number type, size_t at, int code)
{
    if (type == NUMBER_U4)
        data[at / 2] |= (uint8_t)(code << at % 2 * 4);
    else
        data[at] = (uint8_t)code;
}

/* Stores a scale. Returns what was stored. */
static float put_scale(struct sample *s, enum number type, size_t at, float scale)
{
    uint16_t half = type == NUMBER_F16 ? f32_to_f16(scale) : (uint16_t)(f32_bits(scale) >> 16);
    int exponent;
    switch (type) {
    case NUMBER_F32:
        memcpy(s->scales + 4 * at, &scale, sizeof scale);
        return scale;
    case NUMBER_F16:
    case NUMBER_BF16:
        memcpy(s->scales + 2 * at, &half, sizeof half);
        return type == NUMBER_F16 ? f16_to_f32(half) : bf16_to_f32(half);
    case NUMBER_E8M0:
        (void)frexpf(scale, &exponent);
        s->scales[at] = (uint8_t)(exponent + 127);
        return ldexpf(1, exponent);
    default: /* a code of E4M3 */
        s->scales[at] = (uint8_t)nearest(s->steps, 127, scale);
        return s->steps[s->scales[at]];
    }
}

/* A block of weights, whose codes are nearest to them; of zeros, the levels lie anywhere. */
static void quantize_block(struct sample *s, const struct family *f, size_t first)
{
    bool integers = f->table == NULL && f->codes != NUMBER_E4M3;
    int top = f->codes == NUMBER_U4 ? 15 : 255, zero = (top + 1) / 2, low = 0;
    float largest = 0, least = 0, most = 0;
    for (size_t i = first; i < first + f->cols; i++) {
        largest = fmaxf(largest, fabsf(s->weights[i]));
        least = fminf(least, s->weights[i]);
        most = fmaxf(most, s->weights[i]);
    }
    float levels = f->codes == NUMBER_E4M3 ? 448 : integers ? (float)(top / 2) : s->numbers[255];
    float scale = put_scale(s, f->scales, first / f->cols,
                            f->zeros ? (most - least) / (float)top : largest / levels);
    if (f->zeros)
        zero = (int)fminf((float)top, rintf(-least / scale));
    if (f->codes == NUMBER_S8) {
        zero -= 128;
        low = -128;
    }
    if (f->zeros)
        put_code(s->zeros, f->codes, first / f->cols, zero);
    for (size_t i = first; i < first + f->cols; i++) {
        float place = s->weights[i] / scale, level = rintf(place) + (float)zero;
        int code = integers ? (int)fminf((float)(low + top), fmaxf((float)low, level))
                            : nearest(s->numbers, f->codes == NUMBER_U4 ? 16 : 256, place);
        put_code(s->codes, f->codes, i, code);
    }
}

/* Those of zeros are not centered, so that these are far from the middle. */
static struct sample *quantize(const struct family *f)
{
    struct sample *s = calloc(1, sizeof *s);
    struct model model = {0};
    const float global = 0.00268571f; /* NVFP4's */
    uint32_t seed = 1;
    for (size_t i = 0; i < (size_t)ROWS * COLS; i++)
        s->weights[i] = normal(&seed) + (f->zeros ? 1.5f : 0);
    for (int i = 0; i < 256; i++) {
        s->numbers[i] = (i & 127) == 127 ? 1e9f : e4m3_to_f32((uint8_t)i);
        s->steps[i] = s->numbers[i] * global;
    }
    s->parts.codes = numbers_of(f->codes, s->codes, 1);
    if (f->table != NULL) {
        json_decref(open_fixture(f->table, &model));
        memcpy(s->numbers, model.layers[0].q.parts->codes.table, 16 * sizeof *s->numbers);
        model_close(&model);
        s->numbers[255] = 0; /* the largest */
        for (int i = 0; i < 16; i++)
            s->numbers[255] = fmaxf(s->numbers[255], s->numbers[i]);
        s->parts.codes.table = s->numbers;
    }
    for (size_t first = 0; first < (size_t)ROWS * COLS; first += f->cols)
        quantize_block(s, f, first);
    s->parts.scales = numbers_of(f->scales, s->scales, f->cols);
    if (f->scales == NUMBER_E4M3) { /* as float_formats.c does */
        s->parts.scales.type = NUMBER_U8;
        s->parts.scales.table = s->steps;
        s->parts.unit = global;
    }
    if (f->zeros)
        s->parts.zeros = numbers_of(f->codes, s->zeros, f->cols);
    else if (f->table == NULL && f->codes < NUMBER_S8)
        s->parts.zero = f->codes == NUMBER_U4 ? 8 : 128;
    s->matrix = (struct matrix){
        .type = DTYPE_NF4, .rows = ROWS, .cols = COLS, .data = s->codes, .parts = &s->parts};
    return s;
}

/* What strips are off from the format's weights, as a part of what these are off from the original
 * ones: mean squares. */
static double strips_error(const struct sample *s, double *own)
{
    enum dtype type;
    struct group_format format;
    float row[COLS], ours[COLS];
    double added = 0;
    *own = 0;
    ck_assert(matrix_target(&s->matrix, &type, &format));
    size_t strip = strip_layout(type, &format, COLS).bytes;
    uint8_t *strips = malloc(group_bytes(type, &format, ROWS, COLS));
    matrix_repack(&s->matrix, 0, ROWS, strips);
    for (size_t r = 0; r < ROWS; r++) {
        matrix_row(&s->matrix, r, row);
        group_expand(type, &format, COLS, strips + r / STRIP * strip, r % STRIP, 0, COLS, ours);
        for (size_t c = 0; c < COLS; c++) {
            *own += pow((double)row[c] - (double)s->weights[r * COLS + c], 2);
            added += pow((double)ours[c] - (double)row[c], 2);
        }
    }
    free(strips);
    *own /= ROWS * COLS;
    return added / ROWS / COLS / *own;
}

START_TEST(strips_add_little)
{
    const struct family *f = &families[_i];
    struct sample *s = quantize(f);
    double own, error = strips_error(s, &own);
    printf("%s: mean square %.2g of the format's own, which is %.2g\n", f->name, error, own);
    ck_assert_double_lt(own, .02);
    ck_assert_double_gt(own, 0);
    ck_assert_msg(error <= f->most, "%s: expected at most %g, found %g", f->name, f->most, error);
    free(s);
}
END_TEST

/* A scale is stored once for as many columns as one kernel's group can have. Fixtures whose strips
 * are exact mean the same weights, but for the order of two roundings. */
START_TEST(strips_have_the_groups_of_the_format)
{
    static const struct {
        const char *fixture;
        size_t cols;
        bool exact;
    } cases[] = {
        {"bnb-nf4", 32, false},        {"ct-mxfp4", 32, true},         {"ct-nvfp4", 16, true},
        {"modelopt-nvfp4", 16, true},  {"gptq-4-g128", 128, true},     {"gptq-4-g32", 32, true},
        {"gptq-4-channel", 128, true}, {"ct-int8-channel", 128, true}, {"bnb-int8", 128, false},
        {"ct-fp8-block", 32, false},   {"fp8-tensor", 32, false},
    };
    struct model model;
    enum dtype type;
    struct group_format format;
    json_decref(open_fixture(cases[_i].fixture, &model));
    const struct matrix *m = &model.layers[0].down;
    ck_assert(matrix_target(m, &type, &format));
    ck_assert_uint_eq(format.cols, cases[_i].cols);
    size_t strip = strip_layout(type, &format, m->cols).bytes;
    uint8_t *strips = malloc(group_bytes(type, &format, m->rows, m->cols));
    float *row = malloc(m->cols * sizeof *row), *ours = malloc(m->cols * sizeof *ours);
    matrix_repack(m, 0, m->rows, strips);
    for (size_t r = 0; r < m->rows && cases[_i].exact; r++) {
        matrix_expand(m, r, 0, m->cols, row);
        group_expand(type, &format, m->cols, strips + r / STRIP * strip, r % STRIP, 0, m->cols,
                     ours);
        for (size_t c = 0; c < m->cols; c++)
            ck_assert_msg(fabsf(row[c] - ours[c]) <= fabsf(row[c]) * 0x1p-22f,
                          "%s: weight %zu of row %zu is %a, not %a", cases[_i].fixture, c, r,
                          (double)ours[c], (double)row[c]);
    }
    free(row);
    free(ours);
    free(strips);
    model_close(&model);
}
END_TEST

/* A NaN is not lost, so that the engine finds it in the logits. */
START_TEST(nan_stays_nan)
{
    struct sample *s = quantize(&families[FP8_ROWS]);
    enum dtype type;
    struct group_format format;
    float row[COLS];
    s->codes[3 * COLS + 40] = 0xff;
    ck_assert(matrix_target(&s->matrix, &type, &format));
    uint8_t *strips = malloc(group_bytes(type, &format, ROWS, COLS));
    matrix_repack(&s->matrix, 0, ROWS, strips);
    group_expand(type, &format, COLS, strips, 3, 0, COLS, row);
    for (size_t c = 0; c < COLS; c++)
        ck_assert(!isnan(row[c]) == (c < 32 || c >= 64));
    free(strips);
    free(s);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("stored");
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, weights_as_the_library_expands_them, 0, N_FIXTURES);
    tcase_add_loop_test(tests, strips_add_little, 0, N_FAMILIES);
    tcase_add_loop_test(tests, strips_have_the_groups_of_the_format, 0, 11);
    tcase_add_test(tests, nan_stays_nan);
    return run_tests("stored", tests);
}
