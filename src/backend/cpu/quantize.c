/*
 * quantize.c: matrices to group-quantized strips. A thread takes the next strip, turns it on its
 * side, so that a vector holds a column of it, and lets the kernels of quant/search.h find scales
 * and codes.
 */
#include "backend/quantize.h"

#include <float.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cpu/kernels.h"
#include "backend/cpu/threads.h"
#include "base/size.h"
#include "quant/search.h"

/* A column whose inputs were all but zero in the calibration text isn't worthless. */
static const float LEAST_IMPORTANCE = 1e-4f; /* of the mean */

struct strip_result {
    double error, norm;
    bool refused; /* a weight that isn't finite: */
    size_t row, col;
};

/* Memory of one thread. */
struct bench {
    float *row;    /* [padded columns] */
    float *x;      /* [padded columns][STRIP], rows scaled to a largest weight of 1/2 to 1 */
    float *scales; /* [groups][STRIP] */
};

struct job {
    const struct matrix *in;
    size_t first, n;
    enum dtype type;
    struct strip_layout layout;
    struct level_table table;
    const struct kernels *kernels;
    float *importance; /* [padded columns] 0 beyond the last */
    unsigned char *out;
    struct bench *benches;        /* [threads] */
    struct strip_result *results; /* [strips] */
    atomic_size_t next;           /* strip */
    atomic_bool refused;
};

struct group_format quantize_format(enum dtype type)
{
    struct group_format format = {.scale = GROUP_SCALE_INT8};
    if (type == DTYPE_INT4)
        memcpy(format.levels, group_levels, sizeof format.levels);
    return format;
}

static void read_row(const struct job *job, size_t row, float *out)
{
    const struct matrix *m = job->in;
    if (!is_grouped(m->type) && job->kernels->expand[m->type] != NULL)
        job->kernels->expand[m->type](
            (const char *)m->data + row * dtype_row_bytes(m->type, m->cols), out, m->cols);
    else
        matrix_row(m, row, out);
}

/* The largest magnitude, infinite or NaN where that is found. */
static float largest(const float *x, size_t n)
{
    uint32_t max = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        bits &= 0x7fffffff;
        max = bits > max ? bits : max;
    }
    float value;
    memcpy(&value, &max, sizeof value);
    return value;
}

static void refuse(struct job *job, struct strip_result *result, size_t row, const float *x)
{
    result->refused = true;
    result->row = row;
    while (isfinite(x[result->col]))
        result->col++;
    atomic_store(&job->refused, true);
}

/* A strip on its side; exponents: rows were divided by 2^exponent. */
static void load_strip(struct job *job, const struct bench *bench, size_t strip,
                       int exponents[STRIP], struct strip_result *result)
{
    size_t cols = job->in->cols, rows = job->n - strip * STRIP;
    memset(bench->x, 0, job->layout.groups * GROUP * STRIP * sizeof(float));
    for (size_t lane = 0; lane < STRIP; lane++) {
        exponents[lane] = 0;
        if (lane >= rows)
            continue;
        size_t row = job->first + strip * STRIP + lane;
        read_row(job, row, bench->row);
        float max = largest(bench->row, cols);
        if (!isfinite(max)) {
            refuse(job, result, row, bench->row);
            return;
        }
        (void)frexpf(max, &exponents[lane]);
        if (exponents[lane] < FLT_MIN_EXP - 1) /* subnormal: as far as a float can scale */
            exponents[lane] = FLT_MIN_EXP - 1;
        float factor = ldexpf(1, -exponents[lane]), sum = 0;
        for (size_t col = 0; col < cols; col++) {
            float x = bench->row[col] * factor;
            bench->x[col * STRIP + lane] = x;
            sum += x * x;
        }
        result->norm += ldexp((double)sum, 2 * exponents[lane]);
    }
}

static struct group_search group_of(const struct job *job, const struct bench *bench, size_t group)
{
    return (struct group_search){
        .type = job->type,
        .table = &job->table,
        .x = bench->x + group * GROUP * STRIP,
        .x_stride = STRIP,
        .importance = job->importance + group * GROUP,
    };
}

/* Group scales as whole numbers of the row scales that this chooses. */
static void choose_scales(const struct job *job, const struct bench *bench, float row_scales[STRIP])
{
    for (size_t lane = 0; lane < STRIP; lane++)
        row_scales[lane] = 0;
    for (size_t group = 0; group < job->layout.groups; group++) {
        struct group_search search = group_of(job, bench, group);
        float *scales = bench->scales + group * STRIP;
        job->kernels->search_scales(&search, scales);
        for (size_t lane = 0; lane < STRIP; lane++)
            row_scales[lane] = fmaxf(row_scales[lane], fabsf(scales[lane]));
    }
    for (size_t lane = 0; lane < STRIP; lane++)
        row_scales[lane] = row_scales[lane] > 0 ? row_scales[lane] / SCALE_MAX : 1;
    for (size_t group = 0; group < job->layout.groups; group++) {
        struct group_search search = group_of(job, bench, group);
        job->kernels->search_steps(&search, row_scales, bench->scales + group * STRIP);
    }
}

/* Codes and scales of padding are zero. */
static void store_group(const struct job *job, size_t group, size_t rows, const float *scales,
                        struct group_codes *codes, unsigned char *strip)
{
    int8_t steps[STRIP] = {0};
    for (size_t lane = 0; lane < STRIP; lane++)
        if (lane < rows)
            steps[lane] = (int8_t)scales[lane];
    for (size_t col = 0; col < GROUP; col++)
        for (size_t lane = 0; lane < STRIP; lane++)
            if (lane >= rows || group * GROUP + col >= job->in->cols)
                codes->codes[col][lane] = 0;
    group_store(job->type, &job->layout, strip, group, codes->codes);
    memcpy(strip + job->layout.scales + group * STRIP, steps, sizeof steps);
}

static void quantize_strip(struct job *job, const struct bench *bench, size_t strip)
{
    struct strip_result *result = &job->results[strip];
    unsigned char *out = job->out + strip * job->layout.bytes;
    size_t rows = job->n - strip * STRIP < STRIP ? job->n - strip * STRIP : STRIP;
    float row_scales[STRIP], stored[STRIP] = {0};
    double errors[STRIP] = {0};
    int exponents[STRIP];

    load_strip(job, bench, strip, exponents, result);
    if (result->refused)
        return;
    choose_scales(job, bench, row_scales);
    memset(out, 0, job->layout.bytes);
    for (size_t group = 0; group < job->layout.groups; group++) {
        struct group_search search = group_of(job, bench, group);
        struct group_codes codes;
        const float *scales = bench->scales + group * STRIP;
        job->kernels->search_codes(&search, row_scales, scales, &codes);
        for (size_t lane = 0; lane < rows; lane++)
            errors[lane] += (double)codes.errors[lane];
        store_group(job, group, rows, scales, &codes, out);
    }
    for (size_t lane = 0; lane < rows; lane++) {
        /* Even the largest scale and level must not overflow. */
        stored[lane] = fminf(ldexpf(row_scales[lane], exponents[lane]),
                             FLT_MAX / (SCALE_MAX * (SCALE_MAX + 1.0f)));
        result->error += ldexp(errors[lane], 2 * exponents[lane]);
    }
    memcpy(out, stored, sizeof stored);
}

static void quantize_strips(void *arg)
{
    struct job *job = arg;
    size_t strips = (job->n + STRIP - 1) / STRIP;
    for (;;) {
        size_t strip = atomic_fetch_add(&job->next, 1);
        if (strip >= strips || atomic_load(&job->refused))
            return;
        quantize_strip(job, &job->benches[thread_index()], strip);
    }
}

/* Importance with a mean of 1, or 1 where nothing is known. */
static void fill_importance(struct job *job, const float *importance)
{
    size_t cols = job->in->cols;
    double sum = 0;
    for (size_t col = 0; importance != NULL && col < cols; col++)
        sum += (double)importance[col];
    float factor = sum > 0 ? (float)((double)cols / sum) : 0;
    for (size_t col = 0; col < cols; col++)
        job->importance[col] = sum > 0 ? fmaxf(importance[col] * factor, LEAST_IMPORTANCE) : 1;
}

static int open_job(struct job *job, int threads, struct llama3_error *err)
{
    size_t padded = job->layout.groups * GROUP;
    size_t bytes = (padded * (STRIP + 1) + job->layout.groups * STRIP) * sizeof(float);

    job->kernels = kernels_choose(err);
    if (job->kernels == NULL)
        return -1;
    job->importance = size_alloc(padded, sizeof(float));
    job->results = size_alloc((job->n + STRIP - 1) / STRIP, sizeof *job->results);
    job->benches = size_alloc((size_t)threads, sizeof *job->benches);
    if (job->importance == NULL || job->results == NULL || job->benches == NULL)
        return error_memory(err, "quantizing", padded * sizeof(float));
    for (int i = 0; i < threads; i++) {
        struct bench *bench = &job->benches[i];
        bench->x = size_alloc_aligned(bytes, 1);
        if (bench->x == NULL)
            return error_memory(err, "quantizing", bytes);
        bench->scales = bench->x + padded * STRIP;
        bench->row = bench->scales + job->layout.groups * STRIP;
    }
    return 0;
}

static void close_job(struct job *job, int threads)
{
    for (int i = 0; job->benches != NULL && i < threads; i++)
        free(job->benches[i].x);
    free(job->benches);
    free(job->results);
    free(job->importance);
}

static int sum_up(const struct job *job, struct quantize_error *error, struct llama3_error *err)
{
    for (size_t strip = 0; strip * STRIP < job->n; strip++) {
        const struct strip_result *r = &job->results[strip];
        if (r->refused)
            return error_set(err, LLAMA3_EINPUT,
                             "row %zu, column %zu: expected a finite weight, found NaN or infinity",
                             r->row, r->col);
        if (error != NULL) {
            error->error += r->error;
            error->norm += r->norm;
        }
    }
    return 0;
}

int quantize_rows(const struct matrix *in, size_t first, size_t n,
                  const struct quantize_options *options, void *out, struct quantize_error *error,
                  struct llama3_error *err)
{
    struct group_format format = quantize_format(options->type);
    struct job job = {
        .in = in,
        .first = first,
        .n = n,
        .type = options->type,
        .layout = strip_layout(options->type, &format, in->cols),
        .out = out,
    };
    int status = open_job(&job, options->threads, err);
    if (status == 0) {
        level_table_fill(&job.table, format.levels);
        fill_importance(&job, options->importance);
        threads_run(options->threads, quantize_strips, &job);
        status = sum_up(&job, error, err);
    }
    close_job(&job, options->threads);
    return status;
}
