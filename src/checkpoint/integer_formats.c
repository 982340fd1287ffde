/* SPDX-License-Identifier: MIT */
/*
 * integer_formats.c. After the name of a linear layer of `out` rows and `in` columns, in the
 * notation type [shape]; `each` is the codes of 4 or 8 bits in a word of 32, the lowest bits first:
 *
 *   GPTQ
 *     .qweight   I32 [in / each, out]       codes of consecutive columns in a word
 *     .qzeros    I32 [groups, out / each]   of consecutive rows; v1 stores zeros less 1
 *     .scales    F16 [groups, out]
 *     .g_idx     I32 [in]                   the group of each column; absent: in their order
 *   AWQ, gemm: the codes of a word are those of rows 0 2 4 6 1 3 5 7
 *     .qweight   I32 [in, out / 8]
 *     .qzeros    I32 [groups, out / 8]
 *     .scales    F16 [groups, out]
 *   AWQ, gemv
 *     .qweight   I32 [out, in / 8]
 *     .qzeros    I32 [out, padded groups / 8]
 *     .scales    F16 [out, padded groups]
 *   compressed-tensors, packed: codes and zeros are 8 or 128 more than what they stand for
 *     .weight_packed      I32 [out, in / each]
 *     .weight_zero_point  I32 [out / each, groups], consecutive rows in a word; absent: symmetric
 *     .weight_scale       floats [out, groups]; groups may be 1
 *     .weight_shape       I64 [2]: out, in
 *     .weight_g_idx       I32 [in], as GPTQ's
 *   compressed-tensors, 8 bits
 *     .weight             I8 [out, in]
 *     .weight_zero_point  I8 [out, groups]; absent: symmetric
 *     .weight_scale       as above
 */
#include "checkpoint/integer_formats.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "checkpoint/hf.h"

/* ---- what the formats share ------------------------------------------------------------------ */

static bool all_are(const struct file_tensor *tensor, int byte)
{
    const uint8_t *data = tensor->data;
    size_t at = 0;
    while (at < tensor->bytes && data[at] == byte)
        at++;
    return at == tensor->bytes;
}

/* Numbers of one tensor, by row and by block of columns. */
static struct numbers numbers_of(const struct file_tensor *tensor, enum number type, size_t cols)
{
    return (struct numbers){.type = type,
                            .data = tensor->data,
                            .bytes = tensor->bytes,
                            .rows = 1,
                            .cols = cols,
                            .row_run = 1,
                            .row_step = 1,
                            .col_run = 1,
                            .col_step = 1};
}

static struct parts *begin(const struct stored *s, enum dtype type, const struct file_tensor *codes,
                           int bits, struct matrix *out, struct llama3_error *err)
{
    struct parts *parts = stored_alloc(s, sizeof *parts, err);
    if (parts == NULL)
        return NULL;
    parts->codes = numbers_of(codes, bits == 4 ? NUMBER_U4 : NUMBER_U8, 1);
    parts->zero = bits == 4 ? 8 : 128;
    *out = (struct matrix){
        .type = type, .rows = s->rows, .cols = s->cols, .data = codes->data, .parts = parts};
    return parts;
}

/* The bits of codes that fill so many words of a row; 0, and an error, for others than 4 and 8. */
static int bits_of(const struct stored *s, const char *suffix, uint64_t words,
                   struct llama3_error *err)
{
    char found[64];
    for (int bits = 4; bits <= 8; bits += 4)
        if (words == (s->cols * (size_t)bits + 31) / 32)
            return bits;
    snprintf(found, sizeof found, "%" PRIu64 " words for %zu columns", words, s->cols);
    stored_error(s, suffix, err, "codes of 4 or 8 bits", found);
    return 0;
}

/* The columns of a group, where a row has so many; 0, and an error, if that can't be. */
static size_t group_of(const struct stored *s, const char *suffix, uint64_t groups,
                       struct llama3_error *err)
{
    size_t said = s->model->quantization.cols, cols = s->cols;
    char found[64];
    if (groups == 1)
        return cols;
    if (said > 0 && (cols + said - 1) / said == groups)
        cols = said;
    else
        cols = groups > 0 && cols % groups == 0 ? (size_t)(cols / groups) : 0;
    if (cols > 0 && cols % GROUP == 0)
        return cols;
    snprintf(found, sizeof found, "%" PRIu64 " for %zu columns", groups, s->cols);
    stored_error(s, suffix, err, "scales of groups of a multiple of 32 columns", found);
    return 0;
}

/* Writers of GPTQ and AWQ may add biases of zero. */
static int check_bias(const struct stored *s, struct llama3_error *err)
{
    const uint64_t shape[] = {s->rows};
    if (stored_find(s, ".bias") == NULL)
        return 0;
    const struct file_tensor *bias = stored_expect(s, ".bias", NULL, shape, 1, err);
    return bias == NULL ? -1
           : !all_are(bias, 0)
               ? stored_error(s, ".bias", err, "zeros, as Llama has no biases", "others")
               : 0;
}

static int take_scales(const struct stored *s, const char *suffix, uint64_t rows, uint64_t cols,
                       size_t group, struct numbers *scales, struct llama3_error *err)
{
    const uint64_t shape[] = {rows, cols};
    struct file_tensor *tensor = stored_expect(s, suffix, NULL, shape, 2, err);
    if (tensor == NULL)
        return -1;
    *scales = numbers_of(tensor, NUMBER_F16, group);
    return stored_floats(s, tensor, suffix, scales, err);
}

/* ---- act-order ------------------------------------------------------------------------------- */

/* Sorts columns by their groups, of which each must have its number of columns. groups: [cols].
 * next: [n_groups], zero. */
static int sort_columns(const struct stored *s, const char *suffix, const uint32_t *groups,
                        size_t n_groups, size_t group, uint32_t *next, uint32_t *order,
                        struct llama3_error *err)
{
    char expected[64], found[64];
    for (size_t col = 0; col < s->cols; col++) {
        snprintf(expected, sizeof expected, "groups 0..%zu", n_groups - 1);
        snprintf(found, sizeof found, "%" PRId32 " for column %zu", (int32_t)groups[col], col);
        if (groups[col] >= n_groups)
            return stored_error(s, suffix, err, expected, found);
        next[groups[col]]++;
    }
    for (size_t g = 0; g < n_groups; g++) {
        size_t first = g * group, n = s->cols - first < group ? s->cols - first : group;
        snprintf(expected, sizeof expected, "%zu columns of group %zu", n, g);
        snprintf(found, sizeof found, "%" PRIu32, next[g]);
        if (next[g] != n)
            return stored_error(s, suffix, err, expected, found);
        next[g] = (uint32_t)first;
    }
    for (size_t col = 0; col < s->cols; col++)
        order[next[groups[col]]++] = (uint32_t)col;
    return 0;
}

/* An order that the matrix before had is shared: the engine looks whether they are the same. */
static int keep_order(const struct stored *s, const char *suffix, const uint32_t *groups,
                      size_t n_groups, size_t group, uint32_t *next, struct parts *parts,
                      struct llama3_error *err)
{
    struct quantization *q = &s->model->quantization;
    size_t bytes = s->cols * sizeof(uint32_t);
    if (strncmp(s->stem, hf_names.layer, strlen(hf_names.layer)) != 0)
        return stored_error(s, suffix, err, "columns in their order outside of layers",
                            "act-order");
    uint32_t *order = stored_alloc(s, bytes, err);
    if (order == NULL || sort_columns(s, suffix, groups, n_groups, group, next, order, err) != 0)
        return -1;
    if (q->order_cols != s->cols || memcmp(q->order, order, bytes) != 0) {
        q->order = order;
        q->order_cols = s->cols;
    }
    parts->order = q->order;
    return 0;
}

/* The group of each column, if there is such a tensor. The order of one group changes nothing. */
static int take_order(const struct stored *s, const char *suffix, size_t group, struct parts *parts,
                      struct llama3_error *err)
{
    const uint64_t shape[] = {s->cols};
    size_t n_groups = (s->cols + group - 1) / group, in_order = 0;
    if (stored_find(s, suffix) == NULL && (!s->model->quantization.ordered || n_groups == 1))
        return 0;
    const struct file_tensor *tensor = stored_expect(s, suffix, "I32", shape, 1, err);
    uint32_t *groups = tensor == NULL ? NULL
                                      : size_alloc_for(s->cols + n_groups, sizeof *groups,
                                                       "the order of columns", err);
    if (groups == NULL)
        return -1;
    memcpy(groups, tensor->data, s->cols * sizeof *groups);
    while (in_order < s->cols && groups[in_order] == in_order / group)
        in_order++;
    int result = 0;
    if (in_order < s->cols)
        result = keep_order(s, suffix, groups, n_groups, group, groups + s->cols, parts, err);
    free(groups);
    return result;
}

/* ---- GPTQ ------------------------------------------------------------------------------------ */

/* Zeros of v1 are stored less 1. Those of symmetric codes are all the middle, so that the tensor
 * tells which of the two versions it is; it is believed. */
static int take_gptq_zeros(const struct stored *s, int bits, size_t group, struct parts *parts,
                           struct llama3_error *err)
{
    struct quantization *q = &s->model->quantization;
    const uint64_t shape[] = {(s->cols + group - 1) / group, s->rows * (size_t)bits / 32};
    const struct file_tensor *zeros = stored_expect(s, ".qzeros", "I32", shape, 2, err);
    if (zeros == NULL)
        return -1;
    bool v1 = all_are(zeros, bits == 4 ? 0x77 : 127), v2 = all_are(zeros, bits == 4 ? 0x88 : 128);
    if (q->symmetric && (v1 || v2)) {
        q->denied |= q->v2 == v1;
        return 0;
    }
    parts->zeros = numbers_of(zeros, parts->codes.type, group);
    parts->zeros.col_step = s->rows;
    parts->zero = q->v2 ? 0 : 1;
    return 0;
}

int gptq_take(const struct stored *s, struct matrix *out, bool *taken, struct llama3_error *err)
{
    struct file_tensor *codes = stored_find(s, ".qweight"), *scales = stored_find(s, ".scales");
    *taken = codes != NULL && s->model->quantization.method == QUANTIZATION_GPTQ;
    if (!*taken)
        return 0;
    codes = stored_expect(s, ".qweight", "I32", NULL, 2, err);
    if (codes == NULL)
        return -1;
    int bits = bits_of(s, ".qweight", codes->n_dims > 0 ? codes->dims[0] : 0, err);
    size_t each = bits > 0 ? 32 / (size_t)bits : 1;
    size_t group = bits == 0
                       ? 0
                       : group_of(s, ".scales",
                                  scales != NULL && scales->n_dims == 2 ? scales->dims[0] : 1, err);
    const uint64_t shape[] = {s->cols / each, s->rows};
    if (group == 0)
        return -1;
    if (s->cols % each != 0 || s->rows % each != 0)
        return stored_error(s, ".qweight", err, "rows and columns in whole words", "others");
    codes = stored_expect(s, ".qweight", "I32", shape, 2, err);
    struct parts *parts =
        codes == NULL ? NULL
                      : begin(s, bits == 4 ? DTYPE_GPTQ4 : DTYPE_GPTQ8, codes, bits, out, err);
    if (parts == NULL || check_bias(s, err) != 0 ||
        take_scales(s, ".scales", (s->cols + group - 1) / group, s->rows, group, &parts->scales,
                    err) != 0 ||
        take_gptq_zeros(s, bits, group, parts, err) != 0)
        return -1;
    parts->codes.row_step = parts->codes.col_run = each;
    parts->codes.col_step = each * s->rows;
    parts->scales.col_step = s->rows;
    return take_order(s, ".g_idx", group, parts, err);
}

/* ---- AWQ ------------------------------------------------------------------------------------- */

/* Where the codes of 8 consecutive rows are in a word. */
static const uint8_t awq_places[8] = {0, 4, 1, 5, 2, 6, 3, 7};

static int take_gemm(const struct stored *s, size_t group, struct parts *parts,
                     struct llama3_error *err)
{
    const uint64_t groups = (s->cols + group - 1) / group, shape[] = {groups, s->rows / 8};
    const struct file_tensor *zeros = stored_expect(s, ".qzeros", "I32", shape, 2, err);
    if (zeros == NULL ||
        take_scales(s, ".scales", groups, s->rows, group, &parts->scales, err) != 0)
        return -1;
    parts->zeros = numbers_of(zeros, NUMBER_U4, group);
    parts->codes.places = parts->zeros.places = awq_places;
    parts->codes.col_step = parts->zeros.col_step = parts->scales.col_step = s->rows;
    return 0;
}

/* Groups are padded, to a number that only the kernels need. */
static int take_gemv(const struct stored *s, size_t group, struct parts *parts,
                     struct llama3_error *err)
{
    size_t groups = (s->cols + group - 1) / group;
    const struct file_tensor *found = stored_find(s, ".qzeros");
    uint64_t words = found != NULL && found->n_dims == 2 ? found->dims[1] : 0;
    if (words < (groups + 7) / 8 || words > s->cols)
        words = (groups + 7) / 8;
    const uint64_t shape[] = {s->rows, words};
    const struct file_tensor *zeros = stored_expect(s, ".qzeros", "I32", shape, 2, err);
    if (zeros == NULL ||
        take_scales(s, ".scales", s->rows, 8 * words, group, &parts->scales, err) != 0)
        return -1;
    parts->zeros = numbers_of(zeros, NUMBER_U4, group);
    parts->zeros.row_step = parts->scales.row_step = 8 * words;
    parts->codes.row_step = s->cols;
    return 0;
}

int awq_take(const struct stored *s, struct matrix *out, bool *taken, struct llama3_error *err)
{
    const struct quantization *q = &s->model->quantization;
    *taken = stored_find(s, ".qweight") != NULL && q->method == QUANTIZATION_AWQ;
    if (!*taken)
        return 0;
    const uint64_t gemm[] = {s->cols, s->rows / 8}, gemv[] = {s->rows, s->cols / 8};
    if (s->cols % 8 != 0 || s->rows % 8 != 0)
        return stored_error(s, ".qweight", err, "rows and columns in whole words", "others");
    const struct file_tensor *codes =
        stored_expect(s, ".qweight", "I32", q->by_rows ? gemv : gemm, 2, err);
    size_t group = q->cols > 0 && q->cols < s->cols ? q->cols : s->cols;
    struct parts *parts = codes == NULL ? NULL : begin(s, DTYPE_AWQ, codes, 4, out, err);
    if (parts == NULL || check_bias(s, err) != 0)
        return -1;
    parts->zero = 0;
    return q->by_rows ? take_gemv(s, group, parts, err) : take_gemm(s, group, parts, err);
}

/* ---- compressed-tensors ---------------------------------------------------------------------- */

/* One for the matrix, one for each row, or one for each group. */
static size_t take_weight_scale(const struct stored *s, struct numbers *scales,
                                struct llama3_error *err)
{
    const char suffix[] = ".weight_scale";
    const struct file_tensor *tensor = stored_find(s, suffix);
    bool one = tensor != NULL && tensor->n_dims > 0 && tensor->n_dims < 3;
    for (size_t i = 0; one && i < tensor->n_dims; i++)
        one = tensor->dims[i] == 1;
    uint64_t groups = tensor != NULL && tensor->n_dims == 2 ? tensor->dims[1] : 1;
    size_t group = group_of(s, suffix, groups, err);
    if (group == 0 || take_scales(s, suffix, one ? 1 : s->rows, groups, group, scales, err) != 0)
        return 0;
    scales->row_step = groups;
    if (one && s->rows > 1) {
        scales->rows = s->rows;
        scales->row_step = 0;
    }
    return group;
}

/* Zeros of int8, which older versions also wrote beside packed codes. All of them 0: there are
 * none. */
static int take_int8_zeros(const struct stored *s, size_t group, struct parts *parts,
                           struct llama3_error *err)
{
    const uint64_t shape[] = {s->rows, (s->cols + group - 1) / group};
    const struct file_tensor *zeros = stored_expect(s, ".weight_zero_point", "I8", shape, 2, err);
    if (zeros == NULL)
        return -1;
    if (all_are(zeros, 0))
        return 0;
    parts->zeros = numbers_of(zeros, NUMBER_S8, group);
    parts->zeros.row_step = shape[1];
    return 0;
}

static int take_packed_zeros(const struct stored *s, size_t group, size_t each, struct parts *parts,
                             struct llama3_error *err)
{
    const uint64_t groups = (s->cols + group - 1) / group,
                   shape[] = {(s->rows + each - 1) / each, groups};
    const struct file_tensor *zeros = stored_expect(s, ".weight_zero_point", "I32", shape, 2, err);
    if (zeros == NULL)
        return -1;
    parts->zeros = numbers_of(zeros, parts->codes.type, group);
    parts->zeros.row_run = parts->zeros.col_step = each;
    parts->zeros.row_step = each * groups;
    parts->zero = 0;
    return 0;
}

static int check_shape(const struct stored *s, struct llama3_error *err)
{
    const uint64_t two[] = {2};
    int64_t shape[2];
    char expected[64], found[64];
    const struct file_tensor *tensor = stored_expect(s, ".weight_shape", NULL, two, 1, err);
    if (tensor == NULL)
        return -1;
    if (strcmp(tensor->stored, "I64") != 0)
        return stored_error(s, ".weight_shape", err, "I64", tensor->stored);
    memcpy(shape, tensor->data, sizeof shape);
    snprintf(expected, sizeof expected, "[%zu, %zu]", s->rows, s->cols);
    snprintf(found, sizeof found, "[%" PRId64 ", %" PRId64 "]", shape[0], shape[1]);
    return strcmp(expected, found) == 0 ? 0
                                        : stored_error(s, ".weight_shape", err, expected, found);
}

static int take_packed(const struct stored *s, struct matrix *out, struct llama3_error *err)
{
    const struct file_tensor *codes = stored_expect(s, ".weight_packed", "I32", NULL, 2, err);
    if (codes == NULL)
        return -1;
    uint64_t words = codes->n_dims == 2 ? codes->dims[1] : 0;
    const uint64_t shape[] = {s->rows, words};
    int bits = bits_of(s, ".weight_packed", words, err);
    if (bits == 0 || check_shape(s, err) != 0)
        return -1;
    size_t each = 32 / (size_t)bits;
    codes = stored_expect(s, ".weight_packed", "I32", shape, 2, err);
    struct parts *parts =
        codes == NULL ? NULL : begin(s, bits == 4 ? DTYPE_W4 : DTYPE_W8, codes, bits, out, err);
    size_t group = parts == NULL ? 0 : take_weight_scale(s, &parts->scales, err);
    if (group == 0)
        return -1;
    parts->codes.row_step = each * words;
    const struct file_tensor *zeros = stored_find(s, ".weight_zero_point");
    if ((zeros != NULL || s->model->quantization.zeros) &&
        (zeros != NULL && strcmp(zeros->stored, "I8") == 0
             ? take_int8_zeros(s, group, parts, err)
             : take_packed_zeros(s, group, each, parts, err)) != 0)
        return -1;
    return take_order(s, ".weight_g_idx", group, parts, err);
}

static int take_int8(const struct stored *s, struct matrix *out, struct llama3_error *err)
{
    const uint64_t shape[] = {s->rows, s->cols};
    const struct file_tensor *codes = stored_expect(s, ".weight", "I8", shape, 2, err);
    struct parts *parts = codes == NULL ? NULL : begin(s, DTYPE_W8, codes, 8, out, err);
    size_t group = parts == NULL ? 0 : take_weight_scale(s, &parts->scales, err);
    if (group == 0)
        return -1;
    parts->codes.type = NUMBER_S8;
    parts->codes.row_step = s->cols;
    parts->zero = 0;
    if ((stored_find(s, ".weight_zero_point") != NULL || s->model->quantization.zeros) &&
        take_int8_zeros(s, group, parts, err) != 0)
        return -1;
    return take_order(s, ".weight_g_idx", group, parts, err);
}

int compressed_take(const struct stored *s, struct matrix *out, bool *taken,
                    struct llama3_error *err)
{
    const struct file_tensor *plain = stored_find(s, ".weight");
    *taken = true;
    if (stored_find(s, ".weight_packed") != NULL)
        return take_packed(s, out, err);
    if (plain != NULL && strcmp(plain->stored, "I8") == 0)
        return take_int8(s, out, err);
    *taken = false;
    return 0;
}
