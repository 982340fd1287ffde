/* SPDX-License-Identifier: MIT */
/*
 * Matrices of several tensors (quant/matrix.h): each layout is packed here as its format's
 * documentation says, word by word. Their weights have to be those of the formula, bit for bit, and
 * the strips that they become must mean the same weights.
 */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "quant/matrix.h"
#include "run.h"

enum { ROWS = 176, MOST_COLS = 416 };

enum layout {
    GPTQ4,  /* words of 8 codes along the columns; zeros along the rows */
    GPTQ8,  /* of 4 */
    AWQ,    /* words of 8 rows in an order of their own */
    PACKED, /* rows of nibbles; zeros in words along the rows */
    HIGH,   /* rows of nibbles, the high one first */
    BYTES,  /* rows of bytes */
    INT8,   /* rows of int8, a scale for each */
    LAYOUTS
};

struct sample {
    struct parts parts;
    struct matrix matrix;
    int codes[ROWS][MOST_COLS], zeros[ROWS][MOST_COLS / GROUP_COLS_LEAST];
    float scales[ROWS][MOST_COLS / GROUP_COLS_LEAST];
    size_t group; /* columns that share a scale */
    uint32_t order[MOST_COLS];
};

static uint32_t seed = 1;

static uint32_t draw(uint32_t below)
{
    seed = seed * 1664525 + 1013904223;
    return (uint32_t)((uint64_t)(seed >> 8) * below >> 24);
}

/* Adds a code of some bits to word `word`. */
static void put(uint8_t *data, size_t word, size_t place, int bits, int code)
{
    uint32_t w;
    memcpy(&w, data + 4 * word, 4);
    w |= (uint32_t)code << place * (size_t)bits;
    memcpy(data + 4 * word, &w, 4);
}

static const uint8_t awq_places[8] = {0, 4, 1, 5, 2, 6, 3, 7};
static const uint8_t high_first[8] = {1, 0, 3, 2, 5, 4, 7, 6};

static size_t groups_of(const struct sample *s)
{
    return s->matrix.cols / s->group;
}

static void pack_code(const struct sample *s, enum layout layout, uint8_t *data, size_t row,
                      size_t col)
{
    static const int awq[8] = {0, 2, 4, 6, 1, 3, 5, 7};
    int code = s->codes[row][col];
    size_t at = row * s->matrix.cols + col;
    switch (layout) {
    case GPTQ4:
        put(data, col / 8 * ROWS + row, col % 8, 4, code);
        break;
    case GPTQ8:
        put(data, col / 4 * ROWS + row, col % 4, 8, code);
        break;
    case AWQ:
        for (size_t i = 0; i < 8; i++)
            if (awq[i] == (int)(row % 8))
                put(data, col * (ROWS / 8) + row / 8, i, 4, code);
        break;
    case PACKED:
        put(data, at / 8, at % 8, 4, code);
        break;
    case HIGH:
        data[at / 2] = (uint8_t)(data[at / 2] | code << (at % 2 == 0 ? 4 : 0));
        break;
    default:
        data[at] = (uint8_t)code;
    }
}

static struct numbers codes_of(const struct sample *s, enum layout layout)
{
    size_t cols = s->matrix.cols;
    struct numbers n = {.type = layout == INT8                       ? NUMBER_S8
                                : layout == BYTES || layout == GPTQ8 ? NUMBER_U8
                                                                     : NUMBER_U4,
                        .rows = 1,
                        .cols = 1,
                        .row_run = 1,
                        .row_step = cols,
                        .col_run = 1,
                        .col_step = 1};
    if (layout == GPTQ4 || layout == GPTQ8) {
        n.row_step = n.col_run = layout == GPTQ4 ? 8 : 4;
        n.col_step = n.col_run * ROWS;
    } else if (layout == AWQ) {
        n.row_step = 1;
        n.col_step = ROWS;
        n.places = awq_places;
    } else if (layout == HIGH) {
        n.places = high_first;
    }
    n.bytes = ROWS * cols * (n.type == NUMBER_U4 ? 1 : 2) / 2;
    uint8_t *data = calloc(1, n.bytes);
    for (size_t row = 0; row < ROWS; row++)
        for (size_t col = 0; col < cols; col++)
            pack_code(s, layout, data, row, col);
    n.data = data;
    return n;
}

/* f16 along the rows, bf16 along the columns, or an f32 for each row. */
static struct numbers scales_of(struct sample *s, enum layout layout)
{
    size_t groups = groups_of(s);
    struct numbers n = {.rows = 1, .cols = s->group, .row_run = 1, .col_run = 1};
    uint8_t *data = calloc(ROWS * groups, 4);
    n.data = data;
    n.type = layout == INT8 ? NUMBER_F32 : layout >= PACKED ? NUMBER_BF16 : NUMBER_F16;
    n.row_step = layout >= PACKED ? groups : 1;
    n.col_step = layout >= PACKED ? 1 : ROWS;
    n.bytes = ROWS * groups * (layout == INT8 ? 4 : 2);
    for (size_t row = 0; row < ROWS; row++)
        for (size_t g = 0; g < groups; g++) {
            float value = ldexpf((float)(1024 + draw(1024)), -18 - (int)draw(5));
            uint16_t half = f32_to_f16(value), bf16 = (uint16_t)(f32_bits(value) >> 16);
            size_t at = row * n.row_step + g * n.col_step;
            s->scales[row][g] = n.type == NUMBER_F16    ? f16_to_f32(half)
                                : n.type == NUMBER_BF16 ? bf16_to_f32(bf16)
                                                        : value;
            memcpy(data + at * (layout == INT8 ? 4 : 2),
                   layout == INT8          ? (void *)&value
                   : n.type == NUMBER_BF16 ? (void *)&bf16
                                           : (void *)&half,
                   layout == INT8 ? 4 : 2);
        }
    return n;
}

static struct numbers zeros_of(struct sample *s, enum layout layout, int added)
{
    size_t groups = groups_of(s);
    struct numbers n = {.rows = 1, .cols = s->group, .row_run = 1, .row_step = 1, .col_run = 1};
    int bits = layout == GPTQ8 ? 8 : 4;
    n.type = layout == GPTQ8 ? NUMBER_U8 : NUMBER_U4;
    n.col_step = ROWS;
    if (layout == PACKED) {
        n.row_run = n.col_step = 8;
        n.row_step = 8 * groups;
    } else if (layout == AWQ) {
        n.places = awq_places;
    }
    n.bytes = ROWS * groups * (size_t)bits / 8;
    uint8_t *data = calloc(1, n.bytes);
    n.data = data;
    for (size_t row = 0; row < ROWS; row++)
        for (size_t g = 0; g < groups; g++) {
            int code = (int)draw(1U << bits);
            s->zeros[row][g] = (code + added) & ((1 << bits) - 1);
            if (layout == PACKED)
                put(data, row / 8 * groups + g, row % 8, 4, code);
            else
                put(data, (g * ROWS + row) * (size_t)bits / 32,
                    (layout == AWQ ? awq_places[row % 8] : row) % (32 / (size_t)bits), bits, code);
        }
    return n;
}

static void make(struct sample *s, enum layout layout, size_t cols, size_t group, bool zeros,
                 bool order)
{
    int levels = layout >= BYTES || layout == GPTQ8 ? 256 : 16;
    int middle = layout == INT8 ? 0 : levels / 2;
    *s = (struct sample){.matrix = {.type = DTYPE_GPTQ4, .rows = ROWS, .cols = cols}};
    s->group = layout == INT8 ? cols : group;
    for (size_t row = 0; row < ROWS; row++)
        for (size_t col = 0; col < cols; col++)
            s->codes[row][col] = (int)draw((uint32_t)levels) - (layout == INT8 ? 128 : 0);
    for (size_t row = 0; row < ROWS; row++)
        for (size_t g = 0; g < groups_of(s); g++)
            s->zeros[row][g] = middle;
    s->parts.codes = codes_of(s, layout);
    s->parts.scales = scales_of(s, layout);
    s->parts.zero = middle;
    if (zeros) {
        s->parts.zero = 1;
        s->parts.zeros = zeros_of(s, layout, 1);
    }
    for (size_t i = 0; i < cols; i++)
        s->order[i] = (uint32_t)i;
    for (size_t i = cols; order && i > 1; i--) {
        size_t other = draw((uint32_t)i);
        uint32_t was = s->order[i - 1];
        s->order[i - 1] = s->order[other];
        s->order[other] = was;
    }
    s->parts.order = order ? s->order : NULL;
    s->matrix.data = s->parts.codes.data;
    s->matrix.parts = &s->parts;
}

static void drop(struct sample *s)
{
    free((void *)(uintptr_t)s->parts.codes.data);
    free((void *)(uintptr_t)s->parts.scales.data);
    free((void *)(uintptr_t)s->parts.zeros.data);
}

/* Of column j of strips. */
static float formula(const struct sample *s, size_t row, size_t j)
{
    size_t g = j / s->group;
    return (float)(s->codes[row][s->order[j]] - s->zeros[row][g]) * s->scales[row][g];
}

static void check_expanded(const struct sample *s)
{
    float row[MOST_COLS], part[MOST_COLS];
    for (size_t r = 0; r < ROWS; r++) {
        size_t first = draw((uint32_t)s->matrix.cols);
        matrix_row(&s->matrix, r, row);
        matrix_expand(&s->matrix, r, first, s->matrix.cols - first, part);
        for (size_t j = 0; j < s->matrix.cols; j++) {
            float want = formula(s, r, j);
            require(f32_bits(row[s->order[j]]) == f32_bits(want), "row %zu: expected %g, found %g",
                    r, (double)want, (double)row[s->order[j]]);
            if (j >= first)
                require(f32_bits(part[j - first]) == f32_bits(want),
                        "row %zu from column %zu: expected %g, found %g", r, first, (double)want,
                        (double)part[j - first]);
        }
    }
}

/* Offsets are rounded to f16; all else is exact. */
static void check_strips(const struct sample *s, size_t first, size_t n)
{
    enum dtype type;
    struct group_format format;
    float got[MOST_COLS];
    ck_assert(matrix_target(&s->matrix, &type, &format));
    size_t cols = s->matrix.cols, strip = strip_layout(type, &format, cols).bytes;
    ck_assert_uint_eq(format.cols, s->group < cols ? s->group : GROUP_COLS_MOST);
    size_t bytes = (n + STRIP - 1) / STRIP * strip;
    uint8_t *strips = malloc(bytes + 1);
    memset(strips, 0xa5, bytes + 1);
    matrix_repack(&s->matrix, first, n, strips);
    ck_assert_uint_eq(strips[bytes], 0xa5);
    for (size_t r = 0; r < (n + STRIP - 1) / STRIP * STRIP; r++) {
        group_expand(type, &format, cols, strips + r / STRIP * strip, r % STRIP, 0, cols, got);
        for (size_t j = 0; j < cols; j++) {
            float want = r < n ? formula(s, first + r, j) : 0;
            float most = r < n && format.offset ? s->scales[first + r][j / s->group] * 0x1p-4f : 0;
            require(fabsf(got[j] - want) <= most, "row %zu, column %zu: expected %g, found %g", r,
                    j, (double)want, (double)got[j]);
        }
    }
    free(strips);
}

START_TEST(means_what_its_format_says)
{
    static const size_t shapes[][2] = {{32, 16},   {64, 32},   {128, 64},
                                       {384, 128}, {416, 416}, {400, 16}};
    static struct sample s;
    enum layout layout = (enum layout)_i;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int zeros = 0; zeros <= (layout <= PACKED); zeros++)
            for (int order = 0; order <= (layout <= GPTQ8); order++) {
                make(&s, layout, shapes[i][0], shapes[i][1], zeros != 0, order != 0);
                check_expanded(&s);
                check_strips(&s, 0, ROWS);
                check_strips(&s, 2 * STRIP, 5 * STRIP);
                check_strips(&s, ROWS - 40 / STRIP * STRIP - STRIP, STRIP);
                drop(&s);
            }
}
END_TEST

/* Only rows that follow each other have spans of their own. */
START_TEST(spans_hold_what_rows_read)
{
    static struct sample s;
    struct span_of_bytes spans[MATRIX_SPANS];
    make(&s, PACKED, 64, 32, true, false);
    ck_assert_uint_eq(matrix_spans(&s.matrix, 32, 16, spans), 3);
    ck_assert_ptr_eq(spans[0].data, s.parts.codes.data + 32 * 32);
    ck_assert_uint_eq(spans[0].bytes, 16 * 32);
    ck_assert_uint_eq(spans[1].bytes, ROWS * 2 * 2);
    ck_assert_uint_eq(matrix_bytes(&s.matrix), ROWS * (32 + 2 * 2 + 1));
    drop(&s);
    make(&s, GPTQ4, 64, 64, false, false);
    ck_assert_uint_eq(matrix_spans(&s.matrix, 32, 16, spans), 2);
    ck_assert_ptr_eq(spans[0].data, s.parts.codes.data);
    ck_assert_uint_eq(spans[0].bytes, ROWS * 32);
    drop(&s);
}
END_TEST

/* All codes of float8 against their definition. */
START_TEST(small_floats)
{
    struct numbers n = {.type = NUMBER_E4M3, .rows = 1, .cols = 1, .row_run = 1, .col_run = 1};
    for (int i = 0; i < 256; i++) {
        uint8_t code = (uint8_t)i;
        int e = i >> 3 & 15, f = i & 7;
        double want = (i & 128 ? -1 : 1) * ldexp(e > 0 ? 8 + f : f, (e > 0 ? e : 1) - 10);
        n.data = &code;
        float got = number_at(&n, 0, 0);
        ck_assert((i & 127) == 127 ? isnan(got)
                                   : (double)got == want && !signbit(got) == !(i & 128));
    }
    n.type = NUMBER_E8M0;
    for (int i = 0; i < 256; i++) {
        uint8_t code = (uint8_t)i;
        n.data = &code;
        float got = number_at(&n, 0, 0);
        ck_assert(i == 255 ? isnan(got) : (double)got == ldexp(1, i - 127));
    }
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("parts");
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, means_what_its_format_says, 0, LAYOUTS);
    tcase_add_test(tests, spans_hold_what_rows_read);
    tcase_add_test(tests, small_floats);
    return run_tests("parts", tests);
}
