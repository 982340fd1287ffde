/* SPDX-License-Identifier: MIT */
/*
 * quantize.c: matrices to group-quantized strips or rows of blocks. A thread takes the next strip,
 * transposes it, so that a vector holds a column of it, and calls the kernels of quant/search.h or
 * quant/block.h for scales and codes. With feedback a thread takes several strips: the errors of
 * earlier columns are then carried over by matrix products large enough for BLAS.
 */
#include "backend/quantize.h"

#include <float.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "base/size.h"
#include "base/threads.h"
#include "quant/block.h"

/* A column counts even if its inputs are almost zero in the calibration text. */
static const float LEAST_IMPORTANCE = 1e-4f; /* of the mean */

static const float F16_MAX = 65504;

enum { FEEDBACK_STRIPS = 16 }; /* taken at once */

/* Columns that are quantized before their errors are carried to all columns that follow; a multiple
 * of GROUP. */
enum { FEEDBACK_COLS = 128 };

struct strip_result {
    double error, norm;
    bool refused; /* a weight that isn't finite, or too large: */
    size_t row, col;
    float weight;
};

/* Memory of one thread; lanes are the rows of its strips. */
struct quantize_scratch {
    float *row;    /* [padded columns] */
    float *x;      /* [padded columns][lanes], rows scaled to a largest weight of 1/2 to 1 */
    float *scales; /* [lanes / STRIP][groups][STRIP]; of blocks [runs][2][STRIP], with offsets */
    /* For blocks: */
    float *units;            /* [lanes / STRIP][blocks][2][STRIP] */
    uint8_t (*codes)[STRIP]; /* [lanes / STRIP][BLOCK_COLS] of the block that is being made */
    /* For feedback: */
    float *lost;    /* [padded columns][lanes] errors of the columns done */
    float *targets; /* [FEEDBACK_COLS][lanes] */
};

struct quantize_job {
    const struct matrix *in;
    size_t first, n;
    enum dtype type;
    const struct block_type *block; /* NULL: strips */
    size_t interleave;
    struct strip_layout layout; /* of blocks, groups alone */
    struct codebook codebook;
    const struct kernels *kernels;
    float *importance;     /* [padded columns] 0 beyond the last */
    const float *feedback; /* as quantize_rows() is given it */
    size_t block_cols;
    size_t lanes; /* of a thread's strips */
    unsigned char *out;
    struct quantize_scratch *scratches; /* [threads] */
    struct strip_result *results;       /* [strips] */
    atomic_bool refused;
};

/* A strip that is being quantized. */
struct strip_task {
    struct quantize_job *job;
    const struct quantize_scratch *scratch;
    struct strip_result *result;
    unsigned char *out;
    size_t first, rows; /* of the matrix */
    size_t lane;        /* its first in the scratch */
    float *scales;      /* of the scratch, */
    float *units;       /* this strip's */
    uint8_t (*codes)[STRIP];
    int exponents[STRIP]; /* rows were divided by 2^exponent */
    float row_scales[STRIP];
    double errors[STRIP];
};

struct group_format quantize_format(enum dtype type)
{
    struct group_format format = {.scale = GROUP_SCALE_INT8, .cols = GROUP};
    if (type == DTYPE_INT4)
        memcpy(format.codebook, group_codebook, sizeof format.codebook);
    return format;
}

static void read_row(const struct quantize_job *job, size_t row, float *out)
{
    const struct matrix *m = job->in;
    row = quantize_source_row(job->interleave, row);
    if (m->type < DTYPE_ROWS && job->kernels->expand[m->type] != NULL)
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

static void refuse(struct strip_task *s, size_t row, const float *x, float most)
{
    s->result->refused = true;
    s->result->row = quantize_source_row(s->job->interleave, row);
    while (fabsf(x[s->result->col]) <= most)
        s->result->col++;
    s->result->weight = x[s->result->col];
    atomic_store(&s->job->refused, true);
}

/* A row becomes a lane of columns. */
static int load_row(struct strip_task *s, size_t lane)
{
    size_t cols = s->job->in->cols, lanes = s->job->lanes;
    float *row = s->scratch->row, *x = s->scratch->x + s->lane + lane;

    read_row(s->job, s->first + lane, row);
    float max = largest(row, cols), most = s->job->block != NULL ? F16_MAX : FLT_MAX;
    if (!(max <= most)) {
        refuse(s, s->first + lane, row, most);
        return -1;
    }
    int *exponent = &s->exponents[lane];
    (void)frexpf(max, exponent);
    if (*exponent < FLT_MIN_EXP - 1) /* subnormal: as far as a float can scale */
        *exponent = FLT_MIN_EXP - 1;
    float factor = ldexpf(1, -*exponent), sum = 0;
    for (size_t col = 0; col < cols; col++) {
        float scaled = row[col] * factor;
        x[col * lanes] = scaled;
        sum += scaled * scaled;
    }
    s->result->norm += ldexp((double)sum, 2 * *exponent);
    return 0;
}

static struct group_search group_of(const struct strip_task *s, const float *x, size_t group)
{
    return (struct group_search){
        .type = s->job->type,
        .codebook = &s->job->codebook,
        .x = x + s->lane,
        .x_stride = s->job->lanes,
        .importance = s->job->importance + group * GROUP,
    };
}

static const float *scratch_group(const struct strip_task *s, size_t group)
{
    return s->scratch->x + group * GROUP * s->job->lanes;
}

/* The scales of all groups, and of the rows. */
static void find_scales(struct strip_task *s)
{
    for (size_t lane = 0; lane < STRIP; lane++)
        s->row_scales[lane] = 0;
    for (size_t group = 0; group < s->job->layout.groups; group++) {
        struct group_search search = group_of(s, scratch_group(s, group), group);
        float *scales = s->scales + group * STRIP;
        s->job->kernels->search_scales(&search, scales);
        for (size_t lane = 0; lane < STRIP; lane++)
            s->row_scales[lane] = fmaxf(s->row_scales[lane], fabsf(scales[lane]));
    }
    for (size_t lane = 0; lane < STRIP; lane++)
        s->row_scales[lane] = s->row_scales[lane] > 0 ? s->row_scales[lane] / SCALE_MAX : 1;
}

/* Codes and scales of padding are zero. */
static void store_group(struct strip_task *s, size_t group, const float *scales,
                        struct group_codes *codes)
{
    const struct quantize_job *job = s->job;
    int8_t steps[STRIP] = {0};
    for (size_t lane = 0; lane < s->rows; lane++) {
        steps[lane] = (int8_t)scales[lane];
        s->errors[lane] += (double)codes->errors[lane];
    }
    for (size_t col = 0; col < GROUP; col++)
        for (size_t lane = 0; lane < STRIP; lane++)
            if (lane >= s->rows || group * GROUP + col >= job->in->cols)
                codes->codes[col][lane] = 0;
    group_store(job->type, &job->layout, s->out, group, codes->codes);
    memcpy(s->out + job->layout.scales + group * STRIP, steps, sizeof steps);
}

static void quantize_groups(struct strip_task *s)
{
    const struct kernels *kernels = s->job->kernels;
    for (size_t group = 0; group < s->job->layout.groups; group++) {
        struct group_search search = group_of(s, scratch_group(s, group), group);
        float *scales = s->scales + group * STRIP;
        struct group_codes codes;
        kernels->search_steps(&search, s->row_scales, scales);
        kernels->search_codes(&search, s->row_scales, scales, &codes);
        store_group(s, group, scales, &codes);
    }
}

/* ---- blocks ---------------------------------------------------------------------------------- */

static size_t block_cols(const struct quantize_job *job)
{
    return dtype_info(job->type)->block;
}

static struct block_search run_of(const struct strip_task *s, const float *x, size_t run)
{
    const struct block_type *block = s->job->block;
    return (struct block_search){
        .type = block,
        .x = x + s->lane,
        .x_stride = s->job->lanes,
        .importance = s->job->importance + run * block->run,
    };
}

static float *run_scales(const struct strip_task *s, size_t run)
{
    return s->scales + run * 2 * STRIP;
}

/* The largest power of two of which a scale is 64 to 128 multiples; but f16 has to hold it. */
static float power_unit(float scale, int row_exponent)
{
    int exponent = 0, least = -24 - row_exponent;
    if (scale > 0 || scale < 0)
        (void)frexpf(scale, &exponent);
    return ldexpf(1, exponent - 7 > least ? exponent - 7 : least);
}

/* What f16 has nearest; not 0, where every multiple would be. */
static float half_unit(float unit, int row_exponent)
{
    uint16_t half = f32_to_f16(ldexpf(unit, row_exponent));
    return ldexpf(f16_to_f32(half > 0 || !(unit > 0) ? half : 1), -row_exponent);
}

/* The units of a block, from the scales and offsets of its runs. */
static void find_units(const struct strip_task *s, size_t block)
{
    const struct block_type *t = s->job->block;
    size_t runs = block_cols(s->job) / t->run;
    float *units = s->units + block * 2 * STRIP;
    const int most[] = {t->scale_high, t->offset_high > 0 ? t->offset_high : 1};
    for (size_t i = 0; i < 2 * STRIP; i++) {
        int exponent = s->exponents[i % STRIP];
        float max = 0;
        for (size_t run = block * runs; run < (block + 1) * runs; run++)
            max = fmaxf(max, fabsf(run_scales(s, run)[i]));
        units[i] = runs == 1 ? power_unit(max, exponent)
                             : half_unit(max / (float)most[i / STRIP], exponent);
    }
}

static void fit_runs(const struct strip_task *s)
{
    const struct block_type *t = s->job->block;
    size_t cols = s->job->in->cols;
    for (size_t run = 0; run < cols / t->run; run++) {
        struct block_search search = run_of(s, s->scratch->x + run * t->run * s->job->lanes, run);
        float *scales = run_scales(s, run);
        s->job->kernels->block_fit(&search, scales, scales + STRIP);
    }
    for (size_t block = 0; block < cols / block_cols(s->job); block++)
        find_units(s, block);
}

/* A lane of the block, as it is stored. */
static void store_block(const struct strip_task *s, size_t block, size_t lane)
{
    const struct quantize_job *job = s->job;
    const struct dtype_info *info = dtype_info(job->type);
    size_t runs = info->block / job->block->run;
    const float *units = s->units + block * 2 * STRIP + lane;
    float d = units[0], dmin = units[STRIP];
    struct block_content b;
    for (size_t col = 0; col < info->block; col++)
        b.codes[col] = s->codes[col][lane];
    for (size_t i = 0; i < runs; i++) {
        const float *scales = run_scales(s, block * runs + i) + lane;
        if (runs == 1) {
            d *= scales[0];
            dmin *= -scales[STRIP];
            continue;
        }
        b.scales[i] = (int8_t)scales[0];
        if (job->block->offset_high > 0)
            b.offsets[i] = (uint8_t)scales[STRIP];
    }
    b.d = f32_to_f16(ldexpf(d, s->exponents[lane]));
    b.dmin = f32_to_f16(ldexpf(dmin, s->exponents[lane]));
    block_pack(job->type, &b,
               s->out + lane * dtype_row_bytes(job->type, job->in->cols) +
                   block * info->block_bytes);
}

/* x: the run's columns, with feedback their targets. */
static void quantize_run(struct strip_task *s, size_t run, const float *x,
                         const struct block_feedback *feedback)
{
    const struct quantize_job *job = s->job;
    const struct block_type *t = job->block;
    struct block_search search = run_of(s, x, run);
    size_t first = run * t->run, block = first / block_cols(job);
    float *scales = run_scales(s, run), *units = s->units + block * 2 * STRIP, errors[STRIP];
    if (feedback != NULL) {
        job->kernels->block_fit(&search, scales, scales + STRIP);
        if (t->run == block_cols(job))
            find_units(s, block);
    }
    job->kernels->block_choose(&search, feedback, units, units + STRIP, scales, scales + STRIP,
                               s->codes + first % block_cols(job), errors);
    for (size_t lane = 0; lane < s->rows; lane++)
        s->errors[lane] += (double)errors[lane];
    for (size_t lane = 0; (first + t->run) % block_cols(job) == 0 && lane < s->rows; lane++)
        store_block(s, block, lane);
}

static void quantize_runs(struct strip_task *s)
{
    size_t width = s->job->block->run;
    for (size_t run = 0; run < s->job->in->cols / width; run++)
        quantize_run(s, run, s->scratch->x + run * width * s->job->lanes, NULL);
}

/* ---- feedback -------------------------------------------------------------------------------- */

struct feedback_panel {
    size_t block, n;     /* the feedback's block: its first column, how many it has */
    size_t first, width; /* of the matrix's columns */
};

/* Moves the targets of a panel's columns [at, at + n) by the errors of the columns [from, at). */
static void make_up(const struct quantize_job *job, const struct quantize_scratch *scratch,
                    const struct feedback_panel *p, size_t from, size_t at, size_t n)
{
    const float *u = job->feedback + p->block * job->block_cols;
    size_t lanes = job->lanes;
    if (at > from)
        blas_transposed(u + (from - p->block) * p->n + (at - p->block), p->n,
                        scratch->lost + from * lanes, lanes,
                        scratch->targets + (at - p->first) * lanes, lanes, n, lanes, at - from);
}

static void quantize_panel_group(const struct quantize_job *job,
                                 const struct quantize_scratch *scratch, struct strip_task *strips,
                                 size_t n, const struct feedback_panel *p, size_t first)
{
    const float *u = job->feedback + p->block * job->block_cols;
    size_t width = p->first + p->width - first, group = first / GROUP;
    float factors[GROUP * GROUP] = {0};

    width = width < GROUP ? width : GROUP;
    for (size_t j = 0; j < width; j++)
        for (size_t k = j + 1; k < width; k++)
            factors[j * GROUP + k] = u[(first - p->block + j) * p->n + first - p->block + k];
    make_up(job, scratch, p, p->first, first, width);
    for (size_t i = 0; i < n; i++) {
        struct strip_task *s = &strips[i];
        const float *targets = scratch->targets + (first - p->first) * job->lanes;
        struct group_feedback feedback = {
            .weights = scratch_group(s, group) + s->lane,
            .errors = scratch->lost + first * job->lanes + s->lane,
            .factors = factors,
        };
        if (job->block != NULL) {
            struct block_feedback runs = {feedback, 0};
            for (; runs.first < GROUP; runs.first += job->block->run)
                quantize_run(s, (first + runs.first) / job->block->run,
                             targets + runs.first * job->lanes, &runs);
            continue;
        }
        struct group_search search = group_of(s, targets, group);
        float *scales = s->scales + group * STRIP;
        struct group_codes codes;
        job->kernels->search_scales(&search, scales);
        job->kernels->search_feedback(&search, &feedback, s->row_scales, scales, &codes);
        store_group(s, group, scales, &codes);
    }
}

static void quantize_with_feedback(const struct quantize_job *job,
                                   const struct quantize_scratch *scratch,
                                   struct strip_task *strips, size_t n)
{
    size_t cols = job->in->cols, lanes = job->lanes;
    struct feedback_panel p = {0};
    for (; p.block < cols; p.block += job->block_cols) {
        p.n = cols - p.block < job->block_cols ? cols - p.block : job->block_cols;
        for (p.first = p.block; p.first < p.block + p.n; p.first += FEEDBACK_COLS) {
            p.width = p.block + p.n - p.first;
            p.width = p.width < FEEDBACK_COLS ? p.width : FEEDBACK_COLS;
            size_t padded = (p.width + GROUP - 1) / GROUP * GROUP;
            memcpy(scratch->targets, scratch->x + p.first * lanes, padded * lanes * sizeof(float));
            make_up(job, scratch, &p, p.block, p.first, p.width);
            for (size_t first = p.first; first < p.first + p.width; first += GROUP)
                quantize_panel_group(job, scratch, strips, n, &p, first);
        }
    }
}

static int open_strip(struct strip_task *s, struct quantize_job *job,
                      const struct quantize_scratch *scratch, size_t strip, size_t lane)
{
    size_t left = job->n - strip * STRIP;
    *s = (struct strip_task){
        .job = job,
        .scratch = scratch,
        .result = &job->results[strip],
        .out = job->out + (job->block != NULL
                               ? strip * STRIP * dtype_row_bytes(job->type, job->in->cols)
                               : strip * job->layout.bytes),
        .first = job->first + strip * STRIP,
        .rows = left < STRIP ? left : STRIP,
        .lane = lane,
        .scales = scratch->scales + lane * job->layout.groups * (job->block != NULL ? 4 : 1),
        .units = scratch->units + lane * job->layout.groups * 2,
        .codes = scratch->codes + lane / STRIP * BLOCK_COLS,
    };
    if (job->block == NULL)
        memset(s->out, 0, job->layout.bytes);
    for (size_t i = 0; i < s->rows; i++)
        if (load_row(s, i) < 0)
            return -1;
    if (job->block != NULL)
        fit_runs(s);
    else
        find_scales(s);
    return 0;
}

static void close_strip(struct strip_task *s)
{
    float stored[STRIP] = {0};
    for (size_t lane = 0; lane < s->rows; lane++) {
        s->result->error += ldexp(s->errors[lane], 2 * s->exponents[lane]);
        if (s->job->block != NULL)
            continue;
        /* Even the largest scale and level must not overflow. */
        stored[lane] = fminf(ldexpf(s->row_scales[lane], s->exponents[lane]),
                             FLT_MAX / (SCALE_MAX * (SCALE_MAX + 1.0f)));
    }
    if (s->job->block == NULL)
        memcpy(s->out, stored, sizeof stored);
}

/* As many strips as the scratch holds, from `strip` on. */
static void quantize_strips(struct quantize_job *job, const struct quantize_scratch *scratch,
                            size_t strip)
{
    struct strip_task strips[FEEDBACK_STRIPS];
    size_t n = 0;

    memset(scratch->x, 0, job->layout.groups * GROUP * job->lanes * sizeof(float));
    for (; n * STRIP < job->lanes && (strip + n) * STRIP < job->n; n++)
        if (open_strip(&strips[n], job, scratch, strip + n, n * STRIP) < 0)
            return;
    if (job->feedback != NULL)
        quantize_with_feedback(job, scratch, strips, n);
    else if (job->block != NULL)
        quantize_runs(&strips[0]);
    else
        quantize_groups(&strips[0]);
    for (size_t i = 0; i < n; i++)
        close_strip(&strips[i]);
}

/* Pieces of as many strips as the scratch holds. */
static void quantize_piece(void *arg, size_t first, size_t end)
{
    struct quantize_job *job = arg;
    for (size_t i = first; i < end && !atomic_load(&job->refused); i++)
        quantize_strips(job, &job->scratches[thread_index()], i * (job->lanes / STRIP));
}

/* Importance with a mean of 1, or 1 where nothing is known. */
static void fill_importance(struct quantize_job *job, const float *importance)
{
    size_t cols = job->in->cols;
    double sum = 0;
    for (size_t col = 0; importance != NULL && col < cols; col++)
        sum += (double)importance[col];
    float factor = sum > 0 ? (float)((double)cols / sum) : 0;
    for (size_t col = 0; col < cols; col++)
        job->importance[col] = sum > 0 ? fmaxf(importance[col] * factor, LEAST_IMPORTANCE) : 1;
}

static int open_job(struct quantize_job *job, int threads, struct llama3_error *err)
{
    size_t groups = job->layout.groups, padded = groups * GROUP, lanes = job->lanes;
    size_t x = padded * lanes, lost = job->feedback != NULL ? x : 0;
    size_t scales = groups * lanes * (job->block != NULL ? 4 : 1);
    size_t units = job->block != NULL ? groups * lanes * 2 : 0;
    size_t bytes = (x + scales + padded + lost + FEEDBACK_COLS * lanes + units) * sizeof(float) +
                   lanes * BLOCK_COLS;

    job->kernels = kernels_choose(err);
    if (job->kernels == NULL)
        return -1;
    job->importance = size_alloc(padded, sizeof(float));
    job->results = size_alloc((job->n + STRIP - 1) / STRIP, sizeof *job->results);
    job->scratches = size_alloc((size_t)threads, sizeof *job->scratches);
    if (job->importance == NULL || job->results == NULL || job->scratches == NULL)
        return error_memory(err, "quantizing", padded * sizeof(float));
    for (int i = 0; i < threads; i++) {
        struct quantize_scratch *scratch = &job->scratches[i];
        scratch->x = size_alloc_aligned(bytes, 1);
        if (scratch->x == NULL)
            return error_memory(err, "quantizing", bytes);
        scratch->lost = scratch->x + x;
        scratch->targets = scratch->lost + lost;
        scratch->scales = scratch->targets + FEEDBACK_COLS * lanes;
        scratch->units = scratch->scales + scales;
        scratch->row = scratch->units + units;
        scratch->codes = (uint8_t(*)[STRIP])(void *)(scratch->row + padded);
    }
    return 0;
}

static void close_job(struct quantize_job *job, int threads)
{
    for (int i = 0; job->scratches != NULL && i < threads; i++)
        free(job->scratches[i].x);
    free(job->scratches);
    free(job->results);
    free(job->importance);
}

static int sum_up(const struct quantize_job *job, struct quantize_error *error,
                  struct llama3_error *err)
{
    for (size_t strip = 0; strip * STRIP < job->n; strip++) {
        const struct strip_result *r = &job->results[strip];
        if (r->refused && isfinite(r->weight))
            return error_input(err,
                               "row %zu, column %zu: expected a weight that %s can hold, found %g",
                               r->row, r->col, dtype_info(job->type)->name, (double)r->weight);
        if (r->refused)
            return error_input(
                err, "row %zu, column %zu: expected a finite weight, found NaN or infinity", r->row,
                r->col);
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
    const struct block_type *block = block_type(options->type);
    struct group_format format = quantize_format(options->type);
    struct strip_layout layout = {.groups = in->cols / GROUP}; /* all that blocks need of it */
    if (block == NULL)
        layout = strip_layout(options->type, &format, in->cols);
    struct quantize_job job = {
        .in = in,
        .first = first,
        .n = n,
        .type = options->type,
        .block = block,
        .interleave = options->interleave,
        .layout = layout,
        .feedback = options->feedback,
        .block_cols = options->block_cols,
        .lanes = options->feedback != NULL ? FEEDBACK_STRIPS * STRIP : STRIP,
        .out = out,
    };
    int status = open_job(&job, options->threads, err);
    if (status == 0) {
        codebook_fill(&job.codebook, format.codebook);
        fill_importance(&job, options->importance);
        if (job.feedback != NULL)
            blas_begin();
        status = threads_share(options->threads, (n + job.lanes - 1) / job.lanes, 1, 1,
                               quantize_piece, &job, err);
        if (job.feedback != NULL)
            blas_end();
        if (status == 0)
            status = sum_up(&job, error, err);
    }
    close_job(&job, options->threads);
    return status;
}
