/* SPDX-License-Identifier: MIT */
/* The quantizer: how far off its results are, what it does with numbers that are none or hardly
 * any, and that threads, cuts and instruction sets give the same bits. */
#include <check.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/quantize.h"
#include "base/size.h"
#include "run.h"

static float gaussian(void)
{
    static uint64_t state = 1;
    float sum = 0;
    for (int i = 0; i < 12; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        sum += (float)(state >> 40) * 0x1p-24f;
    }
    return sum - 6;
}

static void *room(size_t bytes)
{
    void *out = size_alloc_aligned(bytes, 1);
    ck_assert_ptr_nonnull(out);
    memset(out, 0xaa, bytes);
    return out;
}

static struct matrix gaussians(size_t rows, size_t cols)
{
    float *data = room(rows * cols * sizeof *data);
    for (size_t i = 0; i < rows * cols; i++)
        data[i] = gaussian() * 0.02f;
    return (struct matrix){.type = DTYPE_F32, .rows = rows, .cols = cols, .data = data};
}

static struct matrix quantize(const struct matrix *in, struct quantize_options options,
                              struct quantize_error *error)
{
    struct group_format format = quantize_format(options.type);
    struct llama3_error err = {0};
    void *out = room(group_bytes(options.type, &format, in->rows, in->cols));
    int status = quantize_rows(in, 0, in->rows, &options, out, error, &err);
    ck_assert_msg(status == 0, "%s", err.message);
    return (struct matrix){options.type, in->rows, in->cols, out, format, NULL};
}

static void drop(struct matrix *m)
{
    free((void *)(uintptr_t)m->data);
}

/* Squared differences by squared weights, each times its column's importance. */
static double relative_error(const struct matrix *a, const struct matrix *b, const float *weights)
{
    float *x = room(a->cols * sizeof *x), *y = room(a->cols * sizeof *y);
    double error = 0, norm = 0;
    for (size_t row = 0; row < a->rows; row++) {
        matrix_row(a, row, x);
        matrix_row(b, row, y);
        for (size_t col = 0; col < a->cols; col++) {
            double w = weights != NULL ? (double)weights[col] : 1;
            error += w * ((double)x[col] - (double)y[col]) * ((double)x[col] - (double)y[col]);
            norm += w * (double)x[col] * (double)x[col];
        }
    }
    free(x), free(y);
    return error / norm;
}

/* What gaussian weights lose: 4.25 bits at 0.0054 where GGUF's q4_0 loses 0.0080 at 4.5. */
START_TEST(errors_are_small)
{
    static const double bounds[] = {0.0055, 0.000028};
    struct matrix in = gaussians(37, 1000); /* multiples of nothing */
    struct quantize_error error = {1, 1};
    struct quantize_options options = {.type = DTYPE_INT4 + (enum dtype)_i, .threads = 2};
    struct matrix out = quantize(&in, options, &error);
    double found = relative_error(&in, &out, NULL);

    ck_assert_double_le(found, bounds[_i]);
    ck_assert_double_eq_tol((error.error - 1) / (error.norm - 1), found, 1e-4 * found);
    drop(&in), drop(&out);
}
END_TEST

START_TEST(importance_moves_the_error)
{
    struct matrix in = gaussians(64, 512);
    float importance[512];
    for (size_t col = 0; col < 512; col++)
        importance[col] = col % 16 == 3 ? 1e6f : col % 16 == 4 ? 0 : 1e3f;
    struct quantize_options plain = {.type = DTYPE_INT4, .threads = 1}, weighted = plain;
    weighted.importance = importance;
    struct matrix a = quantize(&in, plain, NULL), b = quantize(&in, weighted, NULL);
    ck_assert_double_le(relative_error(&in, &b, importance),
                        0.2 * relative_error(&in, &a, importance));
    memset(importance, 0, sizeof importance); /* nothing is known */
    struct matrix c = quantize(&in, weighted, NULL);
    ck_assert_mem_eq(a.data, c.data, matrix_bytes(&a));
    drop(&in), drop(&a), drop(&b), drop(&c);
}
END_TEST

START_TEST(same_bits_however_cut)
{
    static const char *const tables[] = {"scalar", "avx2", "avxvnni", "avx512vl",
                                         "avx512", "neon", "dotprod"};
    struct matrix in = gaussians(85, 200);
    struct quantize_options options = {.type = DTYPE_INT4 + (enum dtype)_i, .threads = 1};
    struct matrix one = quantize(&in, options, NULL);
    struct quantize_error errors[2] = {{0}};
    struct llama3_error err;

    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        setenv("LLAMA3_CPU", tables[i], 1);
        options.threads = 1 + (int)i;
        unsigned char *out = room(matrix_bytes(&one));
        size_t strip = strip_layout(one.type, &one.groups, one.cols).bytes;
        if (quantize_rows(&in, 0, 85, &options, out, &errors[i > 0], &err) == 0) {
            ck_assert_mem_eq(out, one.data, matrix_bytes(&one));
            ck_assert_int_eq(quantize_rows(&in, 32, 16, &options, out, NULL, &err), 0);
            ck_assert_mem_eq(out, (const char *)one.data + 2 * strip, strip);
            if (i > 0)
                ck_assert_mem_eq(&errors[0], &errors[1], sizeof errors[0]);
            errors[1] = (struct quantize_error){0};
        }
        free(out);
    }
    unsetenv("LLAMA3_CPU");
    drop(&in), drop(&one);
}
END_TEST

/* Powers of two change nothing, down to subnormals and up to the largest numbers. */
START_TEST(any_magnitude)
{
    static const int shifts[] = {0, -60, -110, 60, 128};
    struct matrix in = gaussians(64, 96);
    float *data = (float *)(uintptr_t)in.data;
    for (size_t i = 0; i < 64 * 96; i++) {
        size_t row = i / 96;
        data[i] = fmaxf(-FLT_MAX, fminf(FLT_MAX, ldexpf(data[i], shifts[row % 5])));
        if (row % 7 == 0)
            data[i] = 0;
    }
    data[96 * 2] = FLT_MIN / 4096;
    struct quantize_options options = {.type = DTYPE_INT4 + (enum dtype)_i, .threads = 1};
    struct matrix out = quantize(&in, options, NULL);
    for (size_t row = 0; row < 64; row++) {
        float x[96];
        double error = 0, norm = 0;
        matrix_row(&out, row, x);
        for (size_t col = 0; col < 96; col++) {
            double w = (double)data[row * 96 + col];
            ck_assert(isfinite(x[col]));
            error += ((double)x[col] - w) * ((double)x[col] - w);
            norm += w * w;
        }
        ck_assert_double_le(error, 0.012 * norm);
    }
    drop(&in), drop(&out);
}
END_TEST

START_TEST(padding_is_zero)
{
    struct matrix in = gaussians(3, 33);
    struct quantize_options options = {.type = DTYPE_INT4 + (enum dtype)_i, .threads = 1};
    struct matrix out = quantize(&in, options, NULL);
    struct strip_layout layout = strip_layout(out.type, &out.groups, 33);
    const unsigned char *strip = out.data;

    for (size_t lane = 0; lane < STRIP; lane++)
        for (size_t col = lane < 3 ? 33 : 0; col < 64; col++)
            ck_assert_int_eq(group_code(out.type, &layout, strip, lane, col), 0);
    for (size_t i = 0; i < 2 * STRIP; i++)
        ck_assert_int_eq(strip[layout.scales + i] != 0, i % STRIP < 3);
    for (size_t i = 3 * sizeof(float); i < layout.codes; i++)
        ck_assert_int_eq(strip[i], 0);
    drop(&in), drop(&out);
}
END_TEST

START_TEST(refuses_what_is_not_finite)
{
    struct matrix in = gaussians(40, 64);
    float *data = (float *)(uintptr_t)in.data;
    struct quantize_options options = {.type = DTYPE_INT4, .threads = 2};
    struct llama3_error err;
    struct group_format format = quantize_format(DTYPE_INT4);
    void *out = room(group_bytes(DTYPE_INT4, &format, 40, 64));

    data[37 * 64 + 5] = -INFINITY;
    data[37 * 64 + 9] = NAN;
    data[38 * 64] = NAN;
    ck_assert_int_eq(quantize_rows(&in, 16, 24, &options, out, NULL, &err), -1);
    ck_assert_int_eq(err.code, LLAMA3_EINPUT);
    ck_assert_str_eq(err.message,
                     "row 37, column 5: expected a finite weight, found NaN or infinity");
    drop(&in), free(out);
}
END_TEST

/* ---- blocks ------------------------------------------------------------------------------ */

/* What gaussian weights lose, a fifth less than by the nearest codes of the largest weight's scale.
 */
static const struct {
    enum dtype type;
    double bound;
} blocks[] = {
    {DTYPE_Q4_0, 0.0066}, {DTYPE_Q4_1, 0.0053},  {DTYPE_Q5_0, 0.0017},
    {DTYPE_Q5_1, 0.0012}, {DTYPE_Q8_0, 0.00003}, {DTYPE_Q4_K, 0.0056},
    {DTYPE_Q5_K, 0.0013}, {DTYPE_Q6_K, 0.0003},  {DTYPE_IQ4_NL, 0.0058},
};

static struct matrix to_blocks(const struct matrix *in, struct quantize_options options,
                               struct quantize_error *error)
{
    struct llama3_error err = {0};
    struct matrix out = {.type = options.type, .rows = in->rows, .cols = in->cols};
    out.data = room(matrix_bytes(&out));
    ck_assert_msg(
        quantize_rows(in, 0, in->rows, &options, (void *)(uintptr_t)out.data, error, &err) == 0,
        "%s", err.message);
    return out;
}

START_TEST(blocks_are_found)
{
    static const char *const tables[] = {"scalar", "avx2", "avx512vl", "avx512", "neon"};
    struct matrix in = gaussians(85, 512);
    struct quantize_error errors[2] = {{0}};
    struct quantize_options options = {.type = blocks[_i].type, .threads = 2};
    struct matrix one = to_blocks(&in, options, &errors[0]);
    struct llama3_error err;
    double found = relative_error(&in, &one, NULL);
    ck_assert_double_le(found, blocks[_i].bound);
    ck_assert_double_eq_tol(errors[0].error / errors[0].norm, found, 1e-4 * found);
    unsigned char *out = room(matrix_bytes(&one));
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        setenv("LLAMA3_CPU", tables[i], 1);
        options.threads = 1 + (int)i;
        memset(&errors[1], 0, sizeof errors[1]);
        if (quantize_rows(&in, 0, 85, &options, out, &errors[1], &err) != 0)
            continue;
        ck_assert_mem_eq(out, one.data, matrix_bytes(&one));
        ck_assert_mem_eq(&errors[0], &errors[1], sizeof errors[0]);
        ck_assert_int_eq(quantize_rows(&in, 32, 16, &options, out, NULL, &err), 0);
        size_t row = dtype_row_bytes(one.type, 512);
        ck_assert_mem_eq(out, (const char *)one.data + 32 * row, 16 * row);
    }
    unsetenv("LLAMA3_CPU");
    free(out), drop(&in), drop(&one);
}
END_TEST

/* Down to f16's smallest numbers and up to its largest; nothing, and what it can't hold. */
START_TEST(blocks_of_any_magnitude)
{
    static const float sizes[] = {1, 0x1p-8f, 0x1p-12f, 0x1p-18f, 0x1p-24f, 0x1p-100f, 0x1p9f};
    struct quantize_options options = {.type = blocks[_i].type, .threads = 1};
    struct llama3_error err;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct matrix in = gaussians(16, 256);
        float *data = (float *)(uintptr_t)in.data;
        for (size_t j = 0; j < 16 * 256; j++)
            data[j] *= 50 * sizes[i] * (j / 256 == 3 ? 0 : 1);
        struct matrix out = to_blocks(&in, options, NULL);
        double error = relative_error(&in, &out, NULL);
        ck_assert_double_le(error, i < 3 || i == 6 ? 4 * blocks[_i].bound : 1.0001);
        if (i == 6) {
            data[5 * 256 + 7] = 65505;
            void *again = room(matrix_bytes(&out));
            ck_assert_int_eq(quantize_rows(&in, 0, 16, &options, again, NULL, &err), -1);
            char expected[100];
            snprintf(expected, sizeof expected,
                     "row 5, column 7: expected a weight that %s can hold, found 65505",
                     dtype_info(options.type)->name);
            ck_assert_str_eq(err.message, expected);
            free(again);
        }
        drop(&in), drop(&out);
    }
}
END_TEST

/* Rows of q and k go from (i, i + n/2) to (2i, 2i + 1). */
START_TEST(rows_are_interleaved)
{
    struct matrix in = gaussians(48, 256);
    struct quantize_options options = {.type = DTYPE_Q8_0, .threads = 1};
    struct matrix plain = to_blocks(&in, options, NULL);
    options.interleave = 24;
    struct matrix out = to_blocks(&in, options, NULL);
    size_t bytes = dtype_row_bytes(DTYPE_Q8_0, 256);
    for (size_t row = 0; row < 48; row++) {
        size_t head = row / 24 * 24, i = row % 24;
        ck_assert_mem_eq((const char *)out.data + row * bytes,
                         (const char *)plain.data + (head + i / 2 + i % 2 * 12) * bytes, bytes);
    }
    drop(&in), drop(&plain), drop(&out);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("quantize");
    tcase_add_loop_test(tests, errors_are_small, 0, 2);
    tcase_add_test(tests, importance_moves_the_error);
    tcase_add_loop_test(tests, same_bits_however_cut, 0, 2);
    tcase_add_loop_test(tests, any_magnitude, 0, 2);
    tcase_add_loop_test(tests, padding_is_zero, 0, 2);
    tcase_add_test(tests, refuses_what_is_not_finite);
    tcase_add_loop_test(tests, blocks_are_found, 0, sizeof blocks / sizeof *blocks);
    tcase_add_loop_test(tests, blocks_of_any_magnitude, 0, sizeof blocks / sizeof *blocks);
    tcase_add_test(tests, rows_are_interleaved);
    return run_tests("quantize", tests);
}
