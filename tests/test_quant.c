/* The weight types: sizes, the expansion of blocks against the gguf package's, half precision. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "quant/dtype.h"

/* A file of tests/reference/make-quant-goldens.py: blocks, then their values. */
static uint8_t *read_golden(const char *name, size_t *size)
{
    char path[512];
    snprintf(path, sizeof path, TEST_DATA "/quant/%s.bin", name);
    FILE *file = fopen(path, "rb");
    ck_assert_msg(file != NULL, "%s is missing", path);
    uint8_t *data = malloc(1 << 16);
    *size = fread(data, 1, 1 << 16, file);
    fclose(file);
    return data;
}

/* Every product and sum of the formulas is rounded alike on both sides, so equal means equal bits,
 * zeros' signs included. Blocks are read where they lie: try all alignments. */
START_TEST(expands_as_the_reference)
{
    const struct dtype_info *info = dtype_info((enum dtype)_i);
    size_t size;
    uint8_t *golden = read_golden(info->name, &size);
    size_t n_blocks = size / (info->block_bytes + 4 * info->block);
    ck_assert_uint_ge(n_blocks, 12);
    ck_assert_uint_eq(size, n_blocks * (info->block_bytes + 4 * info->block));
    size_t n = n_blocks * info->block, bytes = dtype_row_bytes((enum dtype)_i, n);
    ck_assert_uint_eq(bytes, n_blocks * info->block_bytes);

    uint8_t *moved = malloc(bytes + 4);
    float *out = malloc(4 * n);
    for (size_t shift = 0; shift < 4; shift++) {
        memcpy(moved + shift, golden, bytes);
        memset(out, 0xff, 4 * n);
        dtype_expand((enum dtype)_i, moved + shift, out, n);
        for (size_t i = 0; i < n; i++) {
            float expected;
            memcpy(&expected, golden + bytes + 4 * i, sizeof expected);
            ck_assert_msg(memcmp(&out[i], &expected, sizeof expected) == 0,
                          "%s: weight %zu is %a, not %a", info->name, i, (double)out[i],
                          (double)expected);
        }
    }
    free(moved);
    free(out);
    free(golden);
}
END_TEST

/* All 65,536 halves against their definition (IEEE 754-2008, 3.4). */
START_TEST(halves_to_floats)
{
    for (unsigned half = 0; half < 65536; half++) {
        int exponent = half >> 10 & 31, mantissa = half & 1023;
        float value = f16_to_f32((uint16_t)half);
        ck_assert_int_eq(!!signbit(value), half >> 15);
        if (exponent == 31 && mantissa != 0)
            ck_assert(isnan(value));
        else if (exponent == 31)
            ck_assert(isinf(value));
        else if (exponent == 0)
            ck_assert(fabsf(value) == ldexpf((float)mantissa, -24));
        else
            ck_assert(fabsf(value) == ldexpf((float)(1024 + mantissa), exponent - 25));
    }
}
END_TEST

START_TEST(floats_to_halves)
{
    for (unsigned half = 0; half < 65536; half++) {
        float value = f16_to_f32((uint16_t)half);
        if (isnan(value))
            ck_assert(isnan(f16_to_f32(f32_to_f16(value))));
        else
            ck_assert_uint_eq(f32_to_f16(value), half);
    }
    /* Between two neighbours: the nearer, and the even one from the middle. */
    for (uint16_t half = 0; half < 0x7bff; half++) {
        float low = f16_to_f32(half), high = f16_to_f32((uint16_t)(half + 1));
        float middle = (low + high) / 2;
        ck_assert_uint_eq(f32_to_f16(middle), half + (half & 1));
        ck_assert_uint_eq(f32_to_f16(nextafterf(middle, 0)), half);
        ck_assert_uint_eq(f32_to_f16(nextafterf(middle, INFINITY)), half + 1);
        ck_assert_uint_eq(f32_to_f16(-middle), 0x8000 | (half + (half & 1)));
    }
    ck_assert_uint_eq(f32_to_f16(65504), 0x7bff);
    ck_assert_uint_eq(f32_to_f16(nextafterf(65520, 0)), 0x7bff);
    ck_assert_uint_eq(f32_to_f16(65520), 0x7c00);
    ck_assert_uint_eq(f32_to_f16(3e38f), 0x7c00);
    ck_assert_uint_eq(f32_to_f16(-INFINITY), 0xfc00);
    ck_assert_uint_eq(f32_to_f16(1e-45f), 0);
}
END_TEST

START_TEST(bfloats_to_floats)
{
    ck_assert(bf16_to_f32(0x3f80) == 1.0f);
    ck_assert(bf16_to_f32(0xc2f7) == -123.5f);
    ck_assert(bf16_to_f32(0x0001) == 0x1p-133f);
    ck_assert(isinf(bf16_to_f32(0x7f80)));
}
END_TEST

START_TEST(row_sizes)
{
    static const struct {
        enum dtype type;
        size_t bytes; /* of 4096 weights, from bits per weight */
    } rows[DTYPE_ROWS] = {
        {DTYPE_F32, 16384}, {DTYPE_F16, 8192},  {DTYPE_BF16, 8192}, {DTYPE_Q4_0, 2304},
        {DTYPE_Q4_1, 2560}, {DTYPE_Q5_0, 2816}, {DTYPE_Q5_1, 3072}, {DTYPE_Q8_0, 4352},
        {DTYPE_Q4_K, 2304}, {DTYPE_Q5_K, 2816}, {DTYPE_Q6_K, 3360}, {DTYPE_IQ4_NL, 2304},
    };
    for (size_t i = 0; i < DTYPE_ROWS; i++)
        ck_assert_uint_eq(dtype_row_bytes(rows[i].type, 4096), rows[i].bytes);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("quant");
    TCase *tests = tcase_create("dtype");
    tcase_add_loop_test(tests, expands_as_the_reference, 0, DTYPE_ROWS);
    tcase_add_test(tests, halves_to_floats);
    tcase_add_test(tests, floats_to_halves);
    tcase_add_test(tests, bfloats_to_floats);
    tcase_add_test(tests, row_sizes);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed > 0;
}
