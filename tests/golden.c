/* SPDX-License-Identifier: MIT */
/*
 * golden.c: reading goldens, and measures of distance. Everything is in double, so that the
 * measures add nothing of their own at the 1e-7 that matters here.
 */
#include <check.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "golden.h"

static int32_t *read_array(const json_t *root, const char *key, size_t *n)
{
    const json_t *array = json_object_get(root, key);
    *n = json_array_size(array); /* 0 where there is no such key */
    int32_t *values = calloc(*n + 1, sizeof *values);
    ck_assert_ptr_nonnull(values);
    for (size_t i = 0; i < *n; i++)
        values[i] = (int32_t)json_integer_value(json_array_get(array, i));
    return values;
}

static float *read_floats(const char *path, size_t *n)
{
    FILE *file = fopen(path, "rb");
    ck_assert_msg(file != NULL, "%s: can't open", path);
    ck_assert_int_eq(fseek(file, 0, SEEK_END), 0);
    long size = ftell(file);
    ck_assert_int_gt(size, 0);
    rewind(file);
    *n = (size_t)size / sizeof(float);
    float *values = malloc((size_t)size);
    ck_assert_ptr_nonnull(values);
    ck_assert_uint_eq(fread(values, sizeof(float), *n, file), *n);
    fclose(file);
    return values;
}

void golden_load(struct golden *golden, const char *json_path, const char *f32_path)
{
    json_error_t error;
    json_t *root = json_load_file(json_path, 0, &error);
    ck_assert_msg(root != NULL, "%s: %s", json_path, error.text);
    golden->ids = read_array(root, "ids", &golden->n_ids);
    golden->greedy = read_array(root, "greedy", &golden->n_greedy);
    golden->rows = read_array(root, "rows", &golden->n_rows);
    json_decref(root);
    ck_assert_uint_gt(golden->n_ids, 0);
    ck_assert_uint_gt(golden->n_rows, 0);

    size_t n_floats;
    golden->logits = read_floats(f32_path, &n_floats);
    ck_assert_uint_eq(n_floats % golden->n_rows, 0);
    golden->n_vocab = n_floats / golden->n_rows;
}

void golden_free(struct golden *golden)
{
    free(golden->ids);
    free(golden->greedy);
    free(golden->rows);
    free(golden->logits);
}

size_t argmax(const float *logits, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++) {
        if (logits[i] > logits[best])
            best = i;
    }
    return best;
}

float margin(const float *logits, size_t n)
{
    size_t best = argmax(logits, n);
    float second = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        if (i != best && logits[i] > second)
            second = logits[i];
    }
    return logits[best] - second;
}

static double log_sum_exp(const float *logits, size_t n)
{
    double top = logits[argmax(logits, n)], sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += exp(logits[i] - top);
    return top + log(sum);
}

double divergence(const float *reference, const float *ours, size_t n)
{
    double reference_norm = log_sum_exp(reference, n), our_norm = log_sum_exp(ours, n), sum = 0;
    for (size_t i = 0; i < n; i++) {
        double log_p = reference[i] - reference_norm, log_q = ours[i] - our_norm;
        sum += exp(log_p) * (log_p - log_q);
    }
    return sum;
}
