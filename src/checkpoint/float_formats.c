/* SPDX-License-Identifier: MIT */
/*
 * float_formats.c. After the name of a linear layer, in the notation type [shape]:
 *
 *   bitsandbytes, 4 bits (nf4, fp4): nibbles of all rows in one run, the high one first
 *     .weight                U8 [rows * cols / 2, 1], or as many bytes of another type
 *     .weight.quant_map      F32 [16], what codes stand for
 *     .weight.absmax         F32 [blocks]: of each `blocksize` weights, which may cross rows
 *     .weight.quant_state.bitsandbytes__nf4   U8: JSON, as text
 *     Where scales are quantized, absmax is U8: nested_quant_map[absmax] * nested_absmax + offset
 *     .weight.nested_quant_map   F32 [256]
 *     .weight.nested_absmax      F32 [blocks / nested_blocksize]
 *   bitsandbytes, 8 bits: weight * SCB / 127
 *     .weight I8 [rows, cols], .SCB F32 [rows]
 *   FP8: one scale, one for each row, or one for each block, if the configuration has its size
 *     .weight F8_E4M3 [rows, cols], .weight_scale or .weight_scale_inv: both are multiplied
 *   MXFP4: E2M1, the low nibble first, and powers of two
 *     .weight_packed U8 [rows, cols / 2], .weight_scale U8 or F8_E8M0 [rows, cols / 32]
 *   NVFP4: E2M1 and scales of E4M3, which are divided by a global one, or multiplied (ModelOpt)
 *     .weight_packed U8 [rows, cols / 2], .weight_scale F8_E4M3 [rows, cols / 16],
 *     .weight_global_scale F32 [1]; ModelOpt: .weight, .weight_scale, .weight_scale_2
 */
#include "checkpoint/float_formats.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"

static const uint8_t high_first[8] = {1, 0, 3, 2, 5, 4, 7, 6};
static const float e2m1[16] = {0, .5f, 1, 1.5f, 2, 3, 4, 6, -0.f, -.5f, -1, -1.5f, -2, -3, -4, -6};

/* A matrix's parts, and what tables they need. */
struct kept {
    struct parts parts;
    float codes[16], scales[256];
};

/* Codes row after row. */
static struct kept *begin(const struct stored *s, enum dtype type, enum number codes,
                          const struct file_tensor *weight, struct matrix *out,
                          struct llama3_error *err)
{
    struct kept *kept = stored_alloc(s, sizeof *kept, err);
    if (kept == NULL)
        return NULL;
    kept->parts.codes = (struct numbers){.type = codes,
                                         .data = weight->data,
                                         .bytes = weight->bytes,
                                         .rows = 1,
                                         .cols = 1,
                                         .row_run = 1,
                                         .row_step = s->cols,
                                         .col_run = 1,
                                         .col_step = 1};
    *out = (struct matrix){.type = type,
                           .rows = s->rows,
                           .cols = s->cols,
                           .data = weight->data,
                           .parts = &kept->parts};
    return kept;
}

static int wrong_number(const struct stored *s, const char *suffix, const char *expected,
                        float number, struct llama3_error *err)
{
    char found[32];
    snprintf(found, sizeof found, "%g", (double)number);
    return stored_error(s, suffix, err, expected, found);
}

/* An f32 tensor of n numbers, copied and finite. */
static int copy_floats(const struct stored *s, const char *suffix, size_t n, float *out,
                       struct llama3_error *err)
{
    const uint64_t shape[] = {n};
    struct file_tensor *tensor = stored_expect(s, suffix, "F32", shape, 1, err);
    if (tensor == NULL)
        return -1;
    memcpy(out, tensor->data, n * sizeof *out);
    for (size_t i = 0; i < n; i++)
        if (!isfinite(out[i]))
            return wrong_number(s, suffix, "finite numbers", out[i], err);
    return 0;
}

/* ---- bitsandbytes ---------------------------------------------------------------------------- */

enum { MAX_BLOCK = 4096 };

struct bnb_state {
    int64_t block, nested_block;
    double nested_offset;
};

static int read_state(const struct stored *s, const char *suffix, bool nested,
                      struct bnb_state *state, struct llama3_error *err)
{
    char name[STORED_NAME];
    struct file_tensor *tensor = stored_expect(s, suffix, "U8", NULL, 1, err);
    json_t *json = tensor == NULL
                       ? NULL
                       : json_parse(tensor->data, tensor->bytes, stored_name(s, suffix, name), err);
    if (json == NULL)
        return -1;
    const json_t *shape = json_object_get(json, "shape");
    char expected[64];
    int result = 0;
    snprintf(expected, sizeof expected, "[%zu, %zu]", s->rows, s->cols);
    if (json_array_size(shape) != 2 ||
        json_integer_value(json_array_get(shape, 0)) != (json_int_t)s->rows ||
        json_integer_value(json_array_get(shape, 1)) != (json_int_t)s->cols)
        result = json_error(shape, "shape", expected, name, err);
    if (result == 0)
        result = json_get_int(json, "blocksize", true, 32, MAX_BLOCK, &state->block, name, err);
    if (result == 0 && nested &&
        (json_get_int(json, "nested_blocksize", true, 1, INT32_MAX, &state->nested_block, name,
                      err) != 0 ||
         json_get_number(json, "nested_offset", true, -1e30, 1e30, &state->nested_offset, name,
                         err) != 0))
        result = -1;
    if (result == 0 && (state->block & (state->block - 1)) != 0)
        result = error_input(err, "%s: \"blocksize\": expected a power of two, found %d", name,
                             (int)state->block);
    json_decref(json);
    return result;
}

/* The scales of blocks, which cross rows where these are no whole blocks. */
static int take_absmax(const struct stored *s, const struct file_tensor *absmax,
                       const struct bnb_state *state, struct kept *kept, struct llama3_error *err)
{
    size_t block = (size_t)state->block, n = (s->rows * s->cols + block - 1) / block, run = block;
    bool nested = strcmp(absmax->stored, "U8") == 0;
    const uint64_t shape[] = {n};
    while (s->cols % run != 0)
        run /= 2;
    if (stored_expect(s, ".weight.absmax", nested ? "U8" : "F32", shape, 1, err) == NULL)
        return -1;
    struct numbers *scales = &kept->parts.scales;
    *scales = (struct numbers){.type = nested ? NUMBER_U8 : NUMBER_F32,
                               .data = absmax->data,
                               .bytes = absmax->bytes,
                               .rows = 1,
                               .cols = run,
                               .row_run = 1,
                               .row_step = run < block ? s->cols : s->cols / block,
                               .col_run = 1,
                               .col_step = 1,
                               .flat = run < block ? block : 0};
    if (!nested)
        return 0;
    size_t each = (size_t)state->nested_block;
    const uint64_t factors[] = {(n + each - 1) / each};
    struct file_tensor *nested_absmax =
        stored_expect(s, ".weight.nested_absmax", "F32", factors, 1, err);
    if (nested_absmax == NULL ||
        copy_floats(s, ".weight.nested_quant_map", 256, kept->scales, err) != 0)
        return -1;
    scales->table = kept->scales;
    scales->factors = nested_absmax->data;
    scales->factor_bytes = nested_absmax->bytes;
    scales->factor_run = each;
    scales->added = (float)state->nested_offset;
    return 0;
}

static int take_4_bits(const struct stored *s, const char *state_name, enum dtype type,
                       struct matrix *out, struct llama3_error *err)
{
    struct bnb_state state = {0};
    struct file_tensor *weight = stored_expect(s, ".weight", NULL, NULL, 2, err);
    struct file_tensor *absmax = stored_expect(s, ".weight.absmax", NULL, NULL, 1, err);
    if (weight == NULL || absmax == NULL ||
        read_state(s, state_name, strcmp(absmax->stored, "U8") == 0, &state, err) != 0)
        return -1;
    size_t bytes = (s->rows * s->cols + 1) / 2;
    if (weight->bytes != bytes) {
        char expected[32], found[32];
        snprintf(expected, sizeof expected, "%zu bytes", bytes);
        snprintf(found, sizeof found, "%zu", weight->bytes);
        return stored_error(s, ".weight", err, expected, found);
    }
    struct kept *kept = begin(s, type, NUMBER_U4, weight, out, err);
    if (kept == NULL || copy_floats(s, ".weight.quant_map", 16, kept->codes, err) != 0 ||
        take_absmax(s, absmax, &state, kept, err) != 0)
        return -1;
    kept->parts.codes.places = high_first;
    kept->parts.codes.table = kept->codes;
    return 0;
}

/* llama3-quantize and strips multiply by the same 1/127 as the library. */
static int take_8_bits(const struct stored *s, struct matrix *out, struct llama3_error *err)
{
    const uint64_t shape[] = {s->rows, s->cols};
    struct file_tensor *weight = stored_expect(s, ".weight", "I8", shape, 2, err);
    struct file_tensor *scb = stored_expect(s, ".SCB", "F32", shape, 1, err);
    if (weight == NULL || scb == NULL)
        return -1;
    if (stored_find(s, ".weight_format") != NULL) {
        struct file_tensor *format = stored_expect(s, ".weight_format", "U8", NULL, 1, err);
        if (format == NULL)
            return -1;
        if (format->bytes != 1 || *(const uint8_t *)format->data != 0)
            return stored_error(s, ".weight_format", err, "0: row after row", "another layout");
    }
    struct kept *kept = begin(s, DTYPE_LLM_INT8, NUMBER_S8, weight, out, err);
    if (kept == NULL)
        return -1;
    kept->parts.scales = (struct numbers){.type = NUMBER_F32,
                                          .data = scb->data,
                                          .bytes = scb->bytes,
                                          .rows = 1,
                                          .cols = s->cols,
                                          .row_run = 1,
                                          .row_step = 1,
                                          .col_run = 1};
    kept->parts.last = 7.874015718698502e-3f;
    return 0;
}

int bitsandbytes_take(const struct stored *s, struct matrix *out, bool *taken,
                      struct llama3_error *err)
{
    static const char nf4[] = ".weight.quant_state.bitsandbytes__nf4";
    static const char fp4[] = ".weight.quant_state.bitsandbytes__fp4";
    *taken = true;
    if (stored_find(s, nf4) != NULL)
        return take_4_bits(s, nf4, DTYPE_NF4, out, err);
    if (stored_find(s, fp4) != NULL)
        return take_4_bits(s, fp4, DTYPE_FP4, out, err);
    if (stored_find(s, ".SCB") != NULL)
        return take_8_bits(s, out, err);
    *taken = false;
    return 0;
}

/* ---- FP8 ------------------------------------------------------------------------------------- */

/* One number, one for each row, or one for each block. */
static int take_scales(const struct stored *s, const char *suffix, struct numbers *scales,
                       struct llama3_error *err)
{
    const struct quantization *q = &s->model->quantization;
    size_t tall = q->scale_rows, wide = q->scale_cols, n = 1;
    const uint64_t blocks[] = {tall > 0 ? (s->rows + tall - 1) / tall : 0,
                               tall > 0 ? (s->cols + wide - 1) / wide : 0};
    struct file_tensor *tensor = stored_expect(s, suffix, NULL, q->blocks ? blocks : NULL, 2, err);
    if (tensor == NULL || stored_floats(s, tensor, suffix, scales, err) != 0)
        return -1;
    for (size_t i = 0; i < tensor->n_dims; i++)
        n *= tensor->dims[i]; /* no more than the file's bytes */
    scales->rows = scales->cols = scales->row_run = scales->col_run = 1;
    if (n == 1) {
        scales->rows = s->rows;
        scales->cols = s->cols;
    } else if (n == s->rows && tensor->dims[0] == n) {
        scales->cols = s->cols;
        scales->row_step = 1;
    } else if (tall > 0 && tensor->n_dims == 2 && tensor->dims[0] == blocks[0] &&
               tensor->dims[1] == blocks[1]) {
        scales->rows = tall < s->rows ? tall : s->rows;
        scales->cols = wide < s->cols ? wide : s->cols;
        scales->row_step = tensor->dims[1];
        scales->col_step = 1;
    } else {
        char expected[192], found[128];
        tensor_shape_text(blocks, 2, found, sizeof found);
        snprintf(expected, sizeof expected, "%s%s[1] or [%zu, 1]", tall > 0 ? found : "",
                 tall > 0 ? ", " : "", s->rows);
        tensor_shape_text(tensor->dims, tensor->n_dims, found, sizeof found);
        return stored_error(s, suffix, err, expected, found);
    }
    return 0;
}

int float8_take(const struct stored *s, struct matrix *out, bool *taken, struct llama3_error *err)
{
    const uint64_t shape[] = {s->rows, s->cols};
    struct file_tensor *weight = stored_find(s, ".weight");
    *taken = weight != NULL && strncmp(weight->stored, "F8_", 3) == 0;
    if (!*taken)
        return 0;
    const char *suffix =
        stored_find(s, ".weight_scale_inv") != NULL ? ".weight_scale_inv" : ".weight_scale";
    weight = stored_expect(s, ".weight", "F8_E4M3", shape, 2, err);
    struct kept *kept = weight == NULL ? NULL : begin(s, DTYPE_FP8, NUMBER_E4M3, weight, out, err);
    return kept == NULL ? -1 : take_scales(s, suffix, &kept->parts.scales, err);
}

/* ---- FP4 ------------------------------------------------------------------------------------- */

static int take_e2m1(const struct stored *s, const char *suffix, bool nv, struct kept **kept,
                     struct matrix *out, struct llama3_error *err)
{
    size_t group = nv ? 16 : 32;
    const uint64_t codes[] = {s->rows, s->cols / 2}, numbers[] = {s->rows, s->cols / group};
    if (s->cols % group != 0)
        return stored_error(s, suffix, err, "columns in whole groups", "a part of one");
    const struct file_tensor *found = stored_find(s, ".weight_scale");
    const char *type = nv ? "F8_E4M3" : "U8";
    if (!nv && found != NULL && strcmp(found->stored, "F8_E8M0") == 0)
        type = "F8_E8M0";
    struct file_tensor *weight = stored_expect(s, suffix, "U8", codes, 2, err);
    struct file_tensor *scales = stored_expect(s, ".weight_scale", type, numbers, 2, err);
    if (weight == NULL || scales == NULL)
        return -1;
    *kept = begin(s, nv ? DTYPE_NVFP4 : DTYPE_MXFP4, NUMBER_U4, weight, out, err);
    if (*kept == NULL)
        return -1;
    memcpy((*kept)->codes, e2m1, sizeof e2m1);
    (*kept)->parts.codes.table = (*kept)->codes;
    (*kept)->parts.scales = (struct numbers){.type = nv ? NUMBER_U8 : NUMBER_E8M0,
                                             .data = scales->data,
                                             .bytes = scales->bytes,
                                             .rows = 1,
                                             .cols = group,
                                             .row_run = 1,
                                             .row_step = s->cols / group,
                                             .col_run = 1,
                                             .col_step = 1};
    return 0;
}

/* A scale's code becomes one of 256 floats, so that the products are rounded as the format says. */
static int take_nv(const struct stored *s, const char *suffix, const char *global, bool divide,
                   struct matrix *out, struct llama3_error *err)
{
    struct kept *kept;
    float number;
    if (copy_floats(s, global, 1, &number, err) != 0 ||
        take_e2m1(s, suffix, true, &kept, out, err) != 0)
        return -1;
    if (!(number > 0))
        return wrong_number(s, global, "a positive scale", number, err);
    for (int i = 0; i < 256; i++) {
        float scale = e4m3_to_f32((uint8_t)i);
        kept->scales[i] = divide ? scale / number : scale * number;
    }
    kept->parts.scales.table = kept->scales;
    kept->parts.unit = divide ? 1 / number : number;
    return 0;
}

int float4_take(const struct stored *s, struct matrix *out, bool *taken, struct llama3_error *err)
{
    struct kept *kept;
    struct file_tensor *packed = stored_find(s, ".weight_packed");
    *taken = true;
    if (stored_find(s, ".weight_scale_2") != NULL)
        return take_nv(s, ".weight", ".weight_scale_2", false, out, err);
    if (stored_find(s, ".weight_global_scale") != NULL)
        return take_nv(s, ".weight_packed", ".weight_global_scale", true, out, err);
    *taken = packed != NULL && strcmp(packed->stored, "U8") == 0;
    return *taken ? take_e2m1(s, ".weight_packed", false, &kept, out, err) : 0;
}
