/* SPDX-License-Identifier: MIT */
/* The weight types: sizes, the expansion of blocks against the gguf package's, half precision. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gguf_blocks.h"
#include "quant/block.h"
#include "quant/group.h"
#include "run.h"

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
            require(memcmp(&out[i], &expected, sizeof expected) == 0,
                    "%s: weight %zu: expected %a, found %a", info->name, i, (double)expected,
                    (double)out[i]);
        }
    }
    free(moved);
    free(out);
    free(golden);
}
END_TEST

static uint64_t splitmix(uint64_t i)
{
    uint64_t x = (i + 1) * 0x9e3779b97f4a7c15;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

/* The sum over thousands of blocks as make-quant-goldens.py makes it. */
static uint64_t sum_of(enum dtype type)
{
    enum { BLOCKS = 4096 };
    const struct dtype_info *info = dtype_info(type);
    uint8_t block[292];
    uint64_t sum = 0, odd = 1, byte = 0;
    float out[256];
    size_t ends[2];
    block_float_ends(type, ends);
    ck_assert_uint_le(info->block_bytes, sizeof block);
    for (size_t i = 0; i < BLOCKS; i++) {
        for (size_t j = 0; j < info->block_bytes; j++)
            block[j] = (uint8_t)splitmix(byte++);
        for (size_t j = 0; j < 2; j++)
            if (ends[j] != 0)
                block[ends[j]] &= 0xbf;
        dtype_expand(type, block, out, info->block);
        for (size_t j = 0; j < info->block; j++, odd += 2)
            sum += f32_bits(out[j]) * odd;
    }
    return sum;
}

START_TEST(expands_every_code_as_the_reference)
{
    FILE *file = fopen(TEST_DATA "/quant/sums.txt", "r");
    char name[16];
    unsigned long long sum;
    int n = 0;
    ck_assert(file != NULL);
    while (fscanf(file, "%15s %llx", name, &sum) == 2) {
        int type = 0;
        while (type < DTYPE_ROWS && strcmp(dtype_info((enum dtype)type)->name, name) != 0)
            type++;
        ck_assert_msg(type < DTYPE_ROWS && sum_of((enum dtype)type) == sum, "%s: another sum",
                      name);
        n++;
    }
    ck_assert_int_eq(n, DTYPE_ROWS - 2); /* without f32 and bf16 */
    fclose(file);
}
END_TEST

/* All 65,536 halves against their definition (IEEE 754-2008, 3.4). */
START_TEST(halves_to_floats)
{
    for (unsigned half = 0; half < 65536; half++) {
        int exponent = half >> 10 & 31, mantissa = half & 1023;
        float value = f16_to_f32((uint16_t)half);
        bool right;
        if (exponent == 31)
            right = mantissa != 0 ? isnan(value) : isinf(value);
        else if (exponent == 0)
            right = fabsf(value) == ldexpf((float)mantissa, -24);
        else
            right = fabsf(value) == ldexpf((float)(1024 + mantissa), exponent - 25);
        require(right && !!signbit(value) == half >> 15, "0x%04x: found %a", half, (double)value);
    }
}
END_TEST

/* Asserts that a float becomes a half. */
static void rounds_to(float value, unsigned half)
{
    unsigned found = f32_to_f16(value);
    require(found == half, "%a: expected 0x%04x, found 0x%04x", (double)value, half, found);
}

START_TEST(floats_to_halves)
{
    for (unsigned half = 0; half < 65536; half++) {
        float value = f16_to_f32((uint16_t)half);
        if (isnan(value))
            require(isnan(f16_to_f32(f32_to_f16(value))), "0x%04x isn't a NaN", half);
        else
            rounds_to(value, half);
    }
    /* Between two neighbours: the nearer, and the even one from the middle. */
    for (uint16_t half = 0; half < 0x7bff; half++) {
        float low = f16_to_f32(half), high = f16_to_f32((uint16_t)(half + 1));
        float middle = (low + high) / 2;
        rounds_to(middle, half + (half & 1u));
        rounds_to(nextafterf(middle, 0), half);
        rounds_to(nextafterf(middle, INFINITY), half + 1u);
        rounds_to(-middle, 0x8000 | (half + (half & 1u)));
    }
    rounds_to(65504, 0x7bff);
    rounds_to(nextafterf(65520, 0), 0x7bff);
    rounds_to(65520, 0x7c00);
    rounds_to(3e38f, 0x7c00);
    rounds_to(-INFINITY, 0xfc00);
    rounds_to(1e-45f, 0);
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
        {DTYPE_F32, 16384},   {DTYPE_F16, 8192},        {DTYPE_BF16, 8192},
        {DTYPE_Q4_0, 2304},   {DTYPE_Q4_1, 2560},       {DTYPE_Q5_0, 2816},
        {DTYPE_Q5_1, 3072},   {DTYPE_Q8_0, 4352},       {DTYPE_Q4_K, 2304},
        {DTYPE_Q5_K, 2816},   {DTYPE_Q6_K, 3360},       {DTYPE_IQ4_NL, 2304},
        {DTYPE_Q2_K, 1344},   {DTYPE_Q3_K, 1760},       {DTYPE_Q8_K, 4672},
        {DTYPE_IQ4_XS, 2176}, {DTYPE_IQ3_S, 1760},      {DTYPE_IQ3_XXS, 1568},
        {DTYPE_IQ2_S, 1312},  {DTYPE_IQ2_XS, 1184},     {DTYPE_IQ2_XXS, 1056},
        {DTYPE_IQ1_S, 800},   {DTYPE_IQ1_M, 896},       {DTYPE_TQ1_0, 864},
        {DTYPE_TQ2_0, 1056},  {DTYPE_GGUF_MXFP4, 2176}, {DTYPE_GGUF_NVFP4, 2304},
    };
    for (size_t i = 0; i < DTYPE_ROWS; i++)
        ck_assert_uint_eq(dtype_row_bytes(rows[i].type, 4096), rows[i].bytes);
}
END_TEST

/* ---- strips ---------------------------------------------------------------------------------- */

/* A number as it is stored: int8, f16 or f32. */
static float stored(const uint8_t *array, size_t i, size_t bytes)
{
    float number;
    if (bytes == 1)
        return (int8_t)array[i];
    if (bytes == 2)
        return load_f16(array + 2 * i);
    memcpy(&number, array + 4 * i, sizeof number);
    return number;
}

/* Random bytes in arrays whose places are found as group.h says, but by another way of counting. */
static void check_strip(enum dtype type, const struct group_format *format, size_t cols)
{
    static uint8_t strip[1 << 17] __attribute__((aligned(64)));
    static uint32_t seed = 1;
    const bool blocks = format->scale == GROUP_SCALE_BLOCK, int4 = type == DTYPE_INT4;
    size_t padded = (cols + 31) / 32 * 32, groups = (padded + format->cols - 1) / format->cols;
    size_t n_blocks = (cols + 255) / 256, size = format->scale == GROUP_SCALE_F16 ? 2 : 1;
    size_t offset_size = !format->offset ? 0 : blocks ? 1 : 2;
    size_t sizes[] = {STRIP * 4,
                      padded * STRIP / (int4 ? 2 : 1),
                      groups * STRIP * size,
                      groups * STRIP * offset_size,
                      blocks ? n_blocks * STRIP * 4 : 0,
                      blocks && format->offset ? n_blocks * STRIP * 4 : 0};
    const uint8_t *arrays[7] = {strip};
    for (int i = 0; i < 6; i++)
        arrays[i + 1] = arrays[i] + (sizes[i] + 63) / 64 * 64;
    size_t bytes = (size_t)(arrays[6] - strip);
    struct strip_layout l = strip_layout(type, format, cols);
    ck_assert_uint_eq(l.bytes, bytes);
    ck_assert_uint_eq(group_bytes(type, format, STRIP + 1, cols), 2 * bytes);
    ck_assert_uint_le(bytes, sizeof strip);
    for (size_t i = 0; i < bytes; i += 2) { /* small finite numbers */
        seed = seed * 1664525 + 1013904223;
        strip[i] = (uint8_t)(seed >> 16);
        strip[i + 1] = seed >> 24 & 0xbf;
    }
    for (size_t lane = 0; lane < STRIP; lane++)
        for (size_t col = 0; col < cols; col++) {
            size_t group = col / format->cols * STRIP + lane, block = col / 256 * STRIP + lane;
            float scale = stored(arrays[2], group, size), offset = 0, weight, found;
            int code = group_code(type, &l, strip, lane, col);
            if (blocks)
                scale *= stored(arrays[4], block, 4);
            if (format->offset)
                offset = stored(arrays[3], group, offset_size);
            if (blocks && format->offset)
                offset *= stored(arrays[5], block, 4);
            weight = scale * (float)(int4 ? format->codebook[code] : code) + offset;
            weight *= stored(strip, lane, 4);
            group_expand(type, format, cols, strip, lane, col, 1, &found);
            require(found == weight, "row %zu, column %zu of %zu: expected %g, found %g", lane, col,
                    cols, (double)weight, (double)found);
        }
}

START_TEST(strips_are_as_defined)
{
    static const size_t widths[] = {1, 15, 16, 17, 32, 33, 96, 129, 256, 300, 1056};
    for (int kind = 0; kind < 48; kind++) {
        struct group_format format = {.scale = (enum group_scale)(kind % 3),
                                      .offset = kind / 3 % 2 == 1,
                                      .cols = (size_t)GROUP_COLS_LEAST << kind / 6 % 4};
        enum dtype type = kind / 24 == 0 ? DTYPE_INT4 : DTYPE_INT8;
        if (type == DTYPE_INT4)
            memcpy(format.codebook, group_codebook, sizeof format.codebook);
        for (size_t i = 0; i < sizeof widths / sizeof *widths; i++)
            check_strip(type, &format, widths[i]);
    }
}
END_TEST

/* ---- strips of GGUF's blocks ----------------------------------------------------------------- */

/* A row of random blocks of finite scales, of which some are zero or subnormal. */
static void random_row(enum dtype type, uint8_t *out, size_t n_blocks, uint64_t *at)
{
    const struct dtype_info *info = dtype_info(type);
    const uint64_t exponent = splitmix((*at)++) % 216; /* anywhere; a strip holds 40 of them */
    for (size_t i = 0; i < n_blocks; i++, out += info->block_bytes) {
        for (size_t j = 0; j < info->block_bytes; j++)
            out[j] = (uint8_t)splitmix((*at)++);
        uint16_t d = (uint16_t)splitmix((*at)++), second = (uint16_t)splitmix((*at)++);
        d &= i % 11 == 0 ? 0x8000 : i % 7 == 0 ? 0x81ff : 0xbfff;
        block_set_scales(type, out, d, second & 0xbfff);
        if (type == DTYPE_GGUF_MXFP4)
            out[0] = (uint8_t)(exponent + splitmix((*at)++) % 40);
        if (type == DTYPE_GGUF_NVFP4)
            out[0] = (uint8_t)splitmix((*at)++);
    }
}

static void check_row(enum dtype type, const uint8_t *row, size_t cols, const uint8_t *strip,
                      size_t lane)
{
    float want[2304], got[2304];
    struct group_format format;
    enum dtype grouped;
    ck_assert(group_from_gguf(type, &grouped, &format) && cols <= 2304);
    dtype_expand(type, row, want, cols);
    group_expand(grouped, &format, cols, strip, lane, 0, cols, got);
    for (size_t i = 0; i < cols; i++)
        require(f32_bits(want[i]) == f32_bits(got[i]),
                "%s, row %zu, column %zu: expected %.9g, found %.9g", dtype_info(type)->name, lane,
                i, (double)want[i], (double)got[i]);
}

/* Strips of any number of rows expand to the bits of their blocks. They are written whole, with
 * zeros where no row is. */
START_TEST(strips_have_the_bits_of_blocks)
{
    const enum dtype type = (enum dtype)_i;
    const struct dtype_info *info = dtype_info(type);
    enum { MAX_BLOCKS = 9, ODD = 3 };
    static uint8_t rows[STRIP * (MAX_BLOCKS * 292 + ODD)], strip[1 << 17], again[1 << 17];
    uint64_t at = 0;
    for (size_t blocks = 1; blocks <= MAX_BLOCKS; blocks++)
        for (size_t n = 1; n <= STRIP; n++) {
            size_t cols = blocks * info->block, row_bytes = blocks * info->block_bytes + ODD;
            struct group_format format;
            enum dtype grouped;
            ck_assert(group_from_gguf(type, &grouped, &format));
            struct strip_layout l = strip_layout(grouped, &format, cols);
            ck_assert_uint_lt(l.bytes, sizeof strip);
            for (size_t row = 0; row < n; row++)
                random_row(type, rows + row * row_bytes, blocks, &at);
            memset(strip, 0xa5, sizeof strip);
            memset(again, 0x5a, sizeof again);
            group_repack(type, rows, row_bytes, n, cols, strip);
            group_repack(type, rows, row_bytes, n, cols, again);
            ck_assert_mem_eq(strip, again, l.bytes);
            ck_assert_uint_eq(strip[l.bytes], 0xa5);
            for (size_t row = 0; row < n; row++)
                check_row(type, rows + row * row_bytes, cols, strip, row);
            for (size_t row = n; row < STRIP; row++)
                for (size_t col = 0; col < cols; col++)
                    require(group_code(grouped, &l, strip, row, col) == 0 &&
                                group_scale_at(&format, &l, strip, row, col) == 0 &&
                                group_offset_at(&format, &l, strip, row, col) == 0,
                            "%s, row %zu of %zu, column %zu: not zero", info->name, row, n, col);
        }
}
END_TEST

/* What a type of blocks that can be made packs, its expansion reads. */
START_TEST(blocks_are_as_defined)
{
    const enum dtype type = (enum dtype)_i;
    const struct block_type *t = block_type(type);
    const struct dtype_info *info = dtype_info(type);
    if (t == NULL)
        return;
    const bool runs = info->block > 32;
    uint32_t state = 1;
    for (int round = 0; round < 200; round++) {
        struct block_content b = {.d = f32_to_f16(0.01f + (float)round), .dmin = f32_to_f16(-0.3f)};
        uint8_t packed[256];
        float out[BLOCK_COLS];
        for (size_t i = 0; i < info->block; i++) {
            state = state * 1664525 + 1013904223;
            b.codes[i] = (uint8_t)((state >> 16) % (unsigned)(t->high - t->low + 1));
            if (i < 16)
                b.scales[i] = (int8_t)((int)(state >> 8 & 63) - (t->scale_low < 0 ? 32 : 0));
            if (i < 8)
                b.offsets[i] = (uint8_t)(state >> 24 & 63);
        }
        memset(packed, 0xa5, sizeof packed);
        block_pack(type, &b, packed);
        ck_assert_uint_eq(packed[info->block_bytes], 0xa5);
        dtype_expand(type, packed, out, info->block);
        for (size_t i = 0; i < info->block; i++) {
            float scale = f16_to_f32(b.d) * (runs ? (float)b.scales[i / t->run] : 1);
            float offset = t->offset_high == 0 ? 0
                           : runs              ? f16_to_f32(b.dmin) * (float)b.offsets[i / t->run]
                                               : -f16_to_f32(b.dmin);
            float level =
                t->codebook != NULL ? (float)t->codebook[b.codes[i]] : (float)(t->low + b.codes[i]);
            float product = scale * level;
            require(out[i] - (product - offset) == 0, "%s: weight %zu: expected %g, found %g",
                    info->name, i, (double)(product - offset), (double)out[i]);
        }
    }
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("dtype");
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, expands_as_the_reference, 0, DTYPE_ROWS);
    tcase_add_test(tests, expands_every_code_as_the_reference);
    tcase_add_test(tests, halves_to_floats);
    tcase_add_test(tests, floats_to_halves);
    tcase_add_test(tests, bfloats_to_floats);
    tcase_add_test(tests, row_sizes);
    tcase_add_test(tests, strips_are_as_defined);
    tcase_add_loop_test(tests, strips_have_the_bits_of_blocks, DTYPE_Q4_0, DTYPE_ROWS);
    tcase_add_loop_test(tests, blocks_are_as_defined, 0, DTYPE_ROWS);
    return run_tests("quant", tests);
}
