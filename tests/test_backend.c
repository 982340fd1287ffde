/* SPDX-License-Identifier: MIT */
/*
 * test_backend: the conformance suite of the seam (src/backend/backend.h). Every operation against
 * plain loops in double precision, and contract 1: the same bits for any threads, any cut into
 * batches, shared or copied pages. It runs on each CPU table this machine has and on the deferred
 * test backend; built with TEST_CUDA on the CUDA backend, on a device or its emulator. A backend
 * that passes it can run a model.
 */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/pages.h"
#include "base/size.h"
#include "deferred.h"
#include "gguf_blocks.h"
#include "run.h"

static const struct {
    const char *name, *table; /* table: LLAMA3_CPU */
} subjects[] = {
#ifdef TEST_CUDA
    {"cuda", "none"},
#else
    {"cpu", "scalar"},     {"cpu", "avx2"}, {"cpu", "avxvnni"},     {"cpu", "avx512"},
    {"cpu", "avx512bf16"}, {"cpu", "neon"}, {"deferred", "scalar"},
#endif
};
enum { N_SUBJECTS = sizeof subjects / sizeof subjects[0] };

#ifdef TEST_CUDA
#include "backend/cuda/cuda.h"
#include "cuda_answers.h"
enum { MOST_THREADS = 1, TIMEOUT = 1200 }; /* of the host: a device doesn't know them */
#else
enum { MOST_THREADS = 4, TIMEOUT = 240 };
#endif
#if defined __SANITIZE_ADDRESS__ && !defined TEST_CUDA /* the same bits are nothing new */
enum { FEWEST_THREADS = MOST_THREADS, FIRST_CHUNK = 1 };
#else
enum { FEWEST_THREADS = 1, FIRST_CHUNK = 0 };
#endif

static const struct backend_ops *ops_of(int subject, struct llama3_error *err)
{
#ifdef TEST_CUDA
    (void)subject, (void)err;
    return &cuda_ops;
#else
    return strcmp(subjects[subject].name, "deferred") == 0
               ? &deferred_ops
               : backend_find(subjects[subject].name, err);
#endif
}

/* ---- random numbers, the same at every run ----------------------------------------------- */

static uint64_t state;

/* Of tests whose bounds hold for any: $SEED more than the usual one. */
static uint64_t seed(uint64_t usual)
{
    const char *more = getenv("SEED");
    return usual + (more != NULL ? strtoull(more, NULL, 10) : 0);
}

static uint32_t random_bits(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 32);
}

static float random_float(void)
{
    return (float)random_bits() / 2147483648.0f - 1;
}

static float *random_floats(size_t n)
{
    float *out = size_alloc(n, sizeof *out);
    for (size_t i = 0; i < n; i++)
        out[i] = random_float();
    return out;
}

/* ---- a backend under test ---------------------------------------------------------------- */

struct rig {
    const struct backend_ops *ops;
    struct backend *b;
    struct llama3_error err;
};

enum { MAX_ROWS = 200, MAX_LOGITS = 8, MAX_SEQS = 4, CONTEXT = 4096 };

/* False where the machine lacks the table. */
static bool rig_open(struct rig *rig, int subject, int threads, const struct backend_shape *shape)
{
    setenv("LLAMA3_CPU", subjects[subject].table, 1);
    rig->ops = ops_of(subject, &rig->err);
    ck_assert_ptr_nonnull(rig->ops);
    struct backend_options options = {.threads = threads, .no_blas = true, .numa = true};
    struct backend_shape full = *shape;
    static const float no_frequencies[MAX_HEAD_DIM / 2];
    full.max_rows = MAX_ROWS;
    full.max_logit_rows = MAX_LOGITS;
    full.max_seqs = MAX_SEQS;
    full.max_context = shape->max_context > 0 ? shape->max_context : CONTEXT;
    if (full.inv_freq == NULL)
        full.inv_freq = no_frequencies;
    rig->b = rig->ops->open(&options, &full, &rig->err);
    if (rig->b == NULL)
        ck_assert_msg(strstr(rig->err.message, "LLAMA3_CPU") != NULL &&
                          strcmp(subjects[subject].table, "scalar") != 0,
                      "%s", rig->err.message);
    return rig->b != NULL;
}

static const struct backend_shape plain = {
    .n_heads = 2, .n_kv_heads = 1, .head_dim = 8, .kv_type = LLAMA3_KV_F16, .rms_eps = 1e-5f};

/* A batch of n rows without positions of interest; `wanted` of them want logits. */
static void give_rows(struct rig *rig, size_t n, size_t wanted)
{
    struct batch_row rows[MAX_ROWS];
    struct kv *none[1] = {NULL};
    for (size_t r = 0; r < n; r++) {
        bool wants = r % 3 == 1 && wanted > 0;
        rows[r] = (struct batch_row){
            .token = (int32_t)(r % 7), .position = (int32_t)r, .wants_logits = wants};
        wanted -= wants;
    }
    struct batch batch = {.n_rows = n, .rows = rows, .n_seqs = 1, .seqs = none};
    ck_assert_msg(rig->ops->batch(rig->b, &batch, &rig->err) == 0, "%s", rig->err.message);
    memset(rows, 0xff, sizeof rows); /* it is the caller's again */
}

static struct buffer *filled(struct rig *rig, size_t cols, const float *data)
{
    struct buffer *buffer = rig->ops->buffer(rig->b, ROWS_ALL, cols, &rig->err);
    ck_assert_ptr_nonnull(buffer);
    if (data != NULL)
        rig->ops->write(rig->b, ROWS_ALL, buffer, data);
    return buffer;
}

static float *contents(struct rig *rig, enum rows rows, size_t n, size_t cols,
                       const struct buffer *buffer)
{
    float *out = size_alloc(n * cols, sizeof *out);
    ck_assert_int_eq(rig->ops->read(rig->b, rows, buffer, out, &rig->err), 0);
    ck_assert_uint_eq(deferred_pending(), 0);
    return out;
}

/* One operation on its way through `run`. */
struct call {
    struct rig *rig;
    enum { EMBED, ADD_NORM, LINEAR, ROPE_STORE, ATTEND, SWIGLU } op;
    enum rows rows;
    size_t n;
    struct buffer *a, *b, *c;
    const struct weight *w;
};

static void issue_one(void *arg)
{
    const struct call *c = arg;
    const struct backend_ops *ops = c->rig->ops;
    struct backend *b = c->rig->b;
    switch (c->op) {
    case EMBED:
        ops->embed(b, c->a, c->w);
        break;
    case ADD_NORM:
        ops->add_norm(b, c->rows, c->a, c->b, c->w, c->c);
        break;
    case LINEAR: /* the same weight three times, as q, k and v are three */
        ops->linear(b, c->rows, (struct buffer *const[]){c->b, c->c, c->b},
                    (const struct weight *const[]){c->w, c->w, c->w}, c->n, c->a);
        break;
    case ROPE_STORE:
        ops->rope_store(b, 1, c->a, c->b, c->c);
        break;
    case ATTEND:
        ops->attend(b, 1, c->a, c->b);
        break;
    case SWIGLU:
        ops->swiglu(b, c->a, c->b);
        break;
    }
}

static void issue(struct rig *rig, struct call call)
{
    call.rig = rig;
    rig->ops->run(rig->b, issue_one, &call);
}

/* ---- linear ------------------------------------------------------------------------------ */

/* Random blocks whose scales are modest numbers. */
static uint8_t *random_weights(enum dtype type, size_t n)
{
    const struct dtype_info *info = dtype_info(type);
    size_t blocks = n / info->block;
    uint8_t *out = size_alloc(blocks, info->block_bytes);
    for (size_t b = 0; b < blocks; b++) {
        uint8_t *block = out + b * info->block_bytes;
        for (size_t i = 0; i < info->block_bytes; i++)
            block[i] = (uint8_t)random_bits();
        uint16_t scales[2] = {f32_to_f16(random_float() / 16), f32_to_f16(random_float() / 16)};
        float value = random_float();
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        uint16_t half = type == DTYPE_BF16 ? (uint16_t)(bits >> 16) : f32_to_f16(value);
        if (type == DTYPE_F32)
            memcpy(block, &value, sizeof value);
        else if (type == DTYPE_F16 || type == DTYPE_BF16)
            memcpy(block, &half, sizeof half);
        else
            block_set_scales(type, block, scales[0], scales[1]);
    }
    return out;
}

static uint32_t kind; /* of the next strips */

enum { KINDS = 16, OTHER_KINDS = 4 * GROUP_SCALES * 2 };

/* Random strips of four formats in turn: int8 scales or f16, with offsets or without; of levels as
 * they are, and as a file may have them. From KINDS on, all formats. */
static uint8_t *random_strips(struct matrix *m)
{
    static const int8_t others[2][16] = {
        {-9, -8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6},
        {127, 3, -128, 0, 9, -1, 40, -2, 1, 5, -77, 8, 0, 2, 6, -5}};
    static const int8_t *const tables[] = {group_codebook, group_codebook_unsigned, others[0],
                                           others[1]};
    m->groups.scale = kind % 2 == 0 ? GROUP_SCALE_INT8 : GROUP_SCALE_F16;
    m->groups.offset = kind / 2 % 2 == 1;
    m->groups.cols = GROUP;
    if (kind >= KINDS) {
        uint32_t other = kind - KINDS;
        m->groups.cols = (size_t)GROUP_COLS_LEAST << other % 4;
        m->groups.scale = (enum group_scale)(other / 4 % GROUP_SCALES);
        m->groups.offset = other / (4 * GROUP_SCALES) % 2 == 1;
    }
    if (m->type == DTYPE_INT4)
        memcpy(m->groups.codebook, tables[kind / 4 % 4], sizeof group_codebook);
    kind++;
    struct strip_layout l = strip_layout(m->type, &m->groups, m->cols);
    size_t bytes = matrix_bytes(m);
    uint8_t *out = size_alloc_aligned(bytes, 1);
    for (size_t i = 0; i < bytes; i++)
        out[i] = (uint8_t)random_bits();
    for (uint8_t *strip = out; strip < out + bytes; strip += l.bytes) {
        for (size_t i = 0; i < STRIP; i++)
            memcpy(strip + i * sizeof(float), &(float){random_float()}, sizeof(float));
        for (size_t i = 0; i < l.numbers * STRIP; i++) {
            uint16_t scale = f32_to_f16(random_float()), offset = f32_to_f16(random_float() * 16);
            if (m->groups.scale == GROUP_SCALE_F16)
                memcpy(strip + l.scales + i * 2, &scale, 2);
            if (m->groups.offset && m->groups.scale != GROUP_SCALE_BLOCK)
                memcpy(strip + l.offsets + i * 2, &offset, 2);
        }
        for (size_t at = l.block_scales; at < l.bytes; at += sizeof(float))
            memcpy(strip + at, &(float){random_float()}, sizeof(float));
    }
    return out;
}

struct product {
    struct matrix matrix;
    float *x; /* [tokens][cols] */
    size_t tokens;
};

static struct product random_product(enum dtype type, size_t rows, size_t cols, size_t tokens)
{
    struct product p = {
        {.type = type, .rows = rows, .cols = cols}, random_floats(tokens * cols), tokens};
    p.matrix.data = is_grouped(type) ? random_strips(&p.matrix) : random_weights(type, rows * cols);
    return p;
}

static void free_product(struct product *p)
{
    free((void *)(uintptr_t)p->matrix.data);
    free(p->x);
}

/* Rigs by their threads, which the products of a test share. */
static struct rig shared[5];

/* NULL where the machine lacks the table. */
static struct rig *shared_rig(int subject, int threads)
{
    struct rig *rig = &shared[threads];
    return rig->b != NULL || rig_open(rig, subject, threads, &plain) ? rig : NULL;
}

static void close_shared(void)
{
    for (size_t i = 0; i < sizeof shared / sizeof *shared; i++)
        if (shared[i].b != NULL)
            shared[i].ops->close(shared[i].b);
}

/* y of the tokens [from, from + n), computed as one batch; NULL where the table is lacking. */
static float *linear_of(int subject, int threads, const struct product *p, size_t from, size_t n)
{
    struct rig *rig = shared_rig(subject, threads);
    size_t rows = p->matrix.rows, cols = p->matrix.cols;
    if (rig == NULL)
        return NULL;
    give_rows(rig, n, 0);
    struct weight *w = rig->ops->weight(rig->b, &p->matrix, WEIGHT_MATRIX, &rig->err);
    ck_assert_ptr_nonnull(w);
    struct buffer *x = filled(rig, cols, p->x + from * cols);
    struct buffer *y = filled(rig, rows, NULL), *twin = filled(rig, rows, NULL);
    issue(rig,
          (struct call){.op = LINEAR, .rows = ROWS_ALL, .n = 2, .a = x, .b = y, .c = twin, .w = w});
    float *out = contents(rig, ROWS_ALL, n, rows, y);
    float *again = contents(rig, ROWS_ALL, n, rows, twin);
    ck_assert_mem_eq(out, again, n * rows * sizeof *out);
    free(again);
    rig->ops->weight_free(rig->b, w);
    rig->ops->buffer_free(rig->b, x);
    rig->ops->buffer_free(rig->b, y);
    rig->ops->buffer_free(rig->b, twin);
    return out;
}

/* What a subject rounds before it multiplies in f32. */
struct rounding {
    bool int8, bf16; /* activations */
    bool weights;    /* of groups of 16 columns, to int8 in pairs of groups: a device */
};

static struct rounding rounding_of(int subject, const struct matrix *m)
{
    const char *table = subjects[subject].table;
    bool device = strcmp(table, "none") == 0, floats = m->type <= DTYPE_BF16;
    struct group_format format = m->groups;
    enum dtype grouped;
    if (!is_grouped(m->type) && !matrix_target(m, &grouped, &format))
        format.cols = GROUP;
    return (struct rounding){
        .int8 = !floats && strcmp(table, "scalar") != 0,
        .bf16 = m->type == DTYPE_BF16 && (device || strcmp(table, "avx512bf16") == 0),
        .weights = !floats && device && format.cols < GROUP,
    };
}

static double largest_of(const float *x, size_t n)
{
    double largest = 0;
    for (size_t i = 0; i < n; i++)
        largest = fmax(largest, fabs((double)x[i]));
    return largest;
}

/* The mean square of what rounding makes of n <= GROUP products. An error is uniform within a step:
 * its variance is step^2 / 12. row: the largest |x| of the row. */
static double expected_of(struct rounding rounding, const float *w, const float *x, size_t n,
                          double row)
{
    double most = largest_of(x, n), step = row / 127, sum = 0;
    double weight_step = rounding.weights ? largest_of(w, n) / 127 : 0;
    while (most > 0 && step / 2 * 127 >= most)
        step /= 2;
    for (size_t i = 0; i < n; i++) {
        int exponent;
        frexp((double)x[i], &exponent);
        double x_step = rounding.int8 ? step : rounding.bf16 ? ldexp(1, exponent - 8) : 0;
        sum += pow((double)w[i] * x_step, 2) / 12 + pow((double)x[i] * weight_step, 2) / 12;
    }
    return sum;
}

/* n sums of squares, each with a mean of 1, are not above this together but for a chance of e^-30:
 * Hsu, Kakade and Zhang 2012 (arXiv:1110.2842), theorem 2.1, for errors as correlated as can be.
 * Uniform errors are sub-Gaussian with their variance. */
static double most_of(double n)
{
    return n + 2 * sqrt(30 * n) + 2 * 30;
}

/* Squared errors of some tokens, each as a multiple of what is expected. */
static struct {
    double error, tokens;
} pooled;

/* Against dequantized weights in double precision. f32 alone: over the sum of the squared products,
 * which is what the squared sums are expected to be, without their chance cancellations. */
static void check_error(int subject, const struct product *p, const float *y)
{
    size_t rows = p->matrix.rows, cols = p->matrix.cols;
    struct rounding rounding = rounding_of(subject, &p->matrix);
    double f32 = 0, f32_norm = 0, error = 0;
    double *found = size_alloc(p->tokens, sizeof *found),
           *norm = size_alloc(p->tokens, sizeof *norm),
           *expected = size_alloc(p->tokens, sizeof *expected);
    float *w = size_alloc(cols, sizeof *w);
    for (size_t r = 0; r < rows; r++) {
        matrix_row(&p->matrix, r, w);
        for (size_t t = 0; t < p->tokens; t++) {
            const float *x = p->x + t * cols;
            double sum = 0, largest = largest_of(x, cols);
            for (size_t k = 0; k < cols; k++) {
                double product = (double)w[k] * (double)x[k];
                sum += product;
                norm[t] += product * product;
            }
            for (size_t k = 0; k < cols; k += GROUP)
                expected[t] += expected_of(rounding, w + k, x + k,
                                           cols - k < GROUP ? cols - k : GROUP, largest);
            found[t] += pow(sum - (double)y[t * rows + r], 2);
        }
    }
    for (size_t t = 0; t < p->tokens; t++) {
        f32 += found[t];
        f32_norm += norm[t];
        error += found[t] / (expected[t] + 1e-9 * norm[t]);
    }
    free(found);
    free(norm);
    free(expected);
    free(w);
    const char *type = dtype_info(p->matrix.type)->name;
    if (!rounding.int8 && !rounding.bf16) {
        ck_assert_msg(f32 <= 1e-9 * f32_norm, "%s, %zu x %zu, %zu tokens: error %g", type, rows,
                      cols, p->tokens, f32 / f32_norm);
        return;
    }
    ck_assert_msg(error <= most_of((double)p->tokens),
                  "%s, %zu x %zu, %zu tokens: error %g times what is expected", type, rows, cols,
                  p->tokens, error / (double)p->tokens);
    pooled.error += error;
    pooled.tokens += (double)p->tokens;
}

/* A bit that is lost of activations is 4 times what is expected. */
static void check_all_errors(void)
{
    ck_assert_msg(pooled.error <= most_of(pooled.tokens), "all: error %g times what is expected",
                  pooled.error / pooled.tokens);
}

static void check_linear(int subject, enum dtype type, size_t rows, size_t cols, size_t tokens)
{
    struct product p = random_product(type, rows, cols, tokens);
    float *y = linear_of(subject, 2, &p, 0, tokens);
    if (y != NULL) {
        check_error(subject, &p, y);
        for (int threads = FEWEST_THREADS; threads <= MOST_THREADS; threads++) {
            float *same = linear_of(subject, threads, &p, 0, tokens);
            ck_assert_mem_eq(same, y, tokens * rows * sizeof *y);
            free(same);
        }
        for (size_t t = 0; t < tokens; t += 1 + tokens / 5) {
            size_t n = 1 + t % 3 < tokens - t ? 1 + t % 3 : tokens - t;
            float *alone = linear_of(subject, 3, &p, t, n);
            ck_assert_mem_eq(alone, y + t * rows, n * rows * sizeof *y);
            free(alone);
        }
    }
    free(y);
    free_product(&p);
}

/* A type meets every third number of tokens, and each number every third type: what a type is
 * expanded or repacked to doesn't depend on how many there are. */
START_TEST(linear_is_a_product)
{
    static const size_t tokens[] = {1, 2, 3, 5, 7, 10, 14, 19, 26};
    state = seed(1);
    for (size_t type = 0; type < DTYPE_PARTS; type++) {
        size_t block = dtype_info((enum dtype)type)->block;
        for (size_t i = type % 3; i < sizeof tokens / sizeof tokens[0]; i += 3) {
            size_t rows = 1 + random_bits() % 70,
                   cols = block * (1 + random_bits() % (600 / block));
            check_linear(_i, (enum dtype)type, rows, cols, tokens[i]);
        }
    }
    check_linear(_i, DTYPE_F32, 5, 14336, 17);
    check_linear(_i, DTYPE_BF16, 19, 14336, 17);
    check_linear(_i, DTYPE_Q4_K, 17, 14336, 17);
    kind = 0;
    check_linear(_i, DTYPE_INT4, 37, 14336, 33);
    check_linear(_i, DTYPE_INT8, 16, 14336, 33);
    for (kind = 8; kind < 16; kind += 3) /* a file's levels */
        check_linear(_i, DTYPE_INT4, 37, 160, 9);
    check_all_errors();
}
END_TEST

START_TEST(linear_takes_all_formats)
{
    state = seed(4);
    for (uint32_t other = 0; other < OTHER_KINDS; other++)
        for (size_t i = 0; i < 2; i++) {
            kind = KINDS + other;
            check_linear(_i, i == other % 2 ? DTYPE_INT4 : DTYPE_INT8, 17 + random_bits() % 30,
                         1 + random_bits() % 600, i == 0 ? 1 + other % 9 : 50 + other);
        }
    check_all_errors();
}
END_TEST

/* ---- few rows: what a backend may do at once ---------------------------------------------- */

/* Rows of any batch have the bits of rows alone. They repeat, so that few are computed alone; after
 * so many that no two tiles of rows begin alike. Every second of the batches, from `first` on. */
static void check_few_rows(int subject, enum dtype type, size_t rows, size_t cols, size_t first)
{
    static const size_t batches[] = {2, 7, 8, 9, 16, 23, 32, 33, 48, 63, 64, 65};
    enum { MOST = 65, DISTINCT = 11 };
    struct product p = random_product(type, rows, cols, MOST);
    float *expected = size_alloc(MOST * rows, sizeof *expected);
    for (size_t t = 0; t < MOST; t++) {
        size_t same = t % DISTINCT;
        memcpy(p.x + t * cols, p.x + same * cols, cols * sizeof *p.x);
        float *alone = t < DISTINCT ? linear_of(subject, 1, &p, t, 1) : NULL;
        if (alone != NULL)
            memcpy(expected + t * rows, alone, rows * sizeof *alone);
        else
            memcpy(expected + t * rows, expected + same * rows, rows * sizeof *expected);
        free(alone);
    }
    for (size_t i = first; i < sizeof batches / sizeof batches[0]; i += 2) {
        size_t from = MOST - batches[i];
        float *y = linear_of(subject, 2, &p, from, batches[i]);
        if (y != NULL)
            ck_assert_msg(memcmp(y, expected + from * rows, batches[i] * rows * sizeof *y) == 0,
                          "%s, %zu x %zu: %zu rows", dtype_info(type)->name, rows, cols,
                          batches[i]);
        free(y);
    }
    free(expected);
    free_product(&p);
}

START_TEST(few_rows_are_rows)
{
    static const enum dtype types[] = {DTYPE_INT4, DTYPE_INT4, DTYPE_INT4, DTYPE_INT4, DTYPE_INT8,
                                       DTYPE_INT8, DTYPE_INT8, DTYPE_INT8, DTYPE_Q4_0, DTYPE_BF16};
    state = 8;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        kind = (uint32_t)i;
        check_few_rows(_i, types[i], 37 + 200 * (i % 2), 32 * (1 + random_bits() % 20), i / 4 % 2);
        kind = (uint32_t)i + 4;
        check_few_rows(_i, types[i], 40, 32 * (65 + i) + (types[i] == DTYPE_BF16 ? 3 : 0),
                       1 - i / 4 % 2);
    }
}
END_TEST

/* A gate, what it lets pass, and the product after them. */
struct gate {
    struct rig *rig;
    struct buffer *x, *gate, *up, *down;
    struct weight *w[3];
    int from, to; /* of these operations */
};

static void issue_gate(void *arg)
{
    const struct gate *g = arg;
    const struct backend_ops *ops = g->rig->ops;
    struct backend *b = g->rig->b;
    for (int i = g->from; i < g->to; i++)
        if (i == 0)
            ops->linear(b, ROWS_ALL, (struct buffer *const[]){g->gate, g->up},
                        (const struct weight *const[]){g->w[0], g->w[1]}, 2, g->x);
        else if (i == 1)
            ops->swiglu(b, g->gate, g->up);
        else
            ops->linear(b, ROWS_ALL, (struct buffer *const[]){g->down},
                        (const struct weight *const[]){g->w[2]}, 1, g->gate);
}

/* The operations in one run or each in its own: [n][hidden] of the gate, [n][cols] of the product.
 */
static float *gate_of(struct rig *rig, struct product *p, size_t n, bool at_once)
{
    size_t cols = p[0].matrix.cols, hidden = p[0].matrix.rows;
    struct gate g = {.rig = rig};
    give_rows(rig, n, 0);
    for (int i = 0; i < 3; i++)
        g.w[i] = rig->ops->weight(rig->b, &p[i].matrix, WEIGHT_MATRIX, &rig->err);
    g.x = filled(rig, cols, p[0].x);
    g.gate = filled(rig, hidden, NULL);
    g.up = filled(rig, hidden, NULL);
    g.down = filled(rig, cols, NULL);
    for (g.from = 0; g.from < 3; g.from = g.to) {
        g.to = at_once ? 3 : g.from + 1;
        rig->ops->run(rig->b, issue_gate, &g);
    }
    float *gated = contents(rig, ROWS_ALL, n, hidden, g.gate);
    float *down = contents(rig, ROWS_ALL, n, cols, g.down);
    float *out = size_alloc(n * (hidden + cols), sizeof *out);
    memcpy(out, gated, n * hidden * sizeof *out);
    memcpy(out + n * hidden, down, n * cols * sizeof *out);
    free(gated);
    free(down);
    for (int i = 0; i < 3; i++)
        rig->ops->weight_free(rig->b, g.w[i]);
    rig->ops->buffer_free(rig->b, g.x);
    rig->ops->buffer_free(rig->b, g.gate);
    rig->ops->buffer_free(rig->b, g.up);
    rig->ops->buffer_free(rig->b, g.down);
    return out;
}

static bool same_groups(const struct group_format *a, const struct group_format *b)
{
    return a->scale == b->scale && a->offset == b->offset;
}

static void check_gate(struct rig *rig, enum dtype type, size_t cols, size_t hidden,
                       const size_t *batches, size_t n_batches)
{
    size_t most = batches[n_batches - 1];
    struct product p[3];
    for (int k = 0; k < 3; k++) {
        p[k] = random_product(type, k < 2 ? hidden : cols, k < 2 ? cols : hidden, most);
        while (k == 1 && !same_groups(&p[0].matrix.groups, &p[1].matrix.groups)) {
            free_product(&p[1]);
            p[1] = random_product(type, hidden, cols, most);
        }
    }
    for (size_t k = 0; k < n_batches; k++) {
        size_t n = batches[k];
        float *expected = gate_of(rig, p, n, false), *y = gate_of(rig, p, n, true);
        ck_assert_msg(memcmp(y, expected, n * (hidden + cols) * sizeof *y) == 0,
                      "%s, %zu rows of %zu", dtype_info(type)->name, n, cols);
        free(expected);
        free(y);
    }
    for (int k = 0; k < 3; k++)
        free_product(&p[k]);
}

/* For one row, also with several slices of either sum, and with more tiles than run at once. */
START_TEST(a_gate_in_one_run_is_that_of_three)
{
    static const enum dtype types[] = {DTYPE_INT4, DTYPE_INT8, DTYPE_BF16, DTYPE_Q4_0, DTYPE_F32};
    static const size_t batches[] = {1, 2, 9, 31, 64, 65};
    struct rig rig;
    state = 9;
    if (!rig_open(&rig, _i, 2, &plain))
        return;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        bool whole = types[i] == DTYPE_Q4_0; /* blocks */
        check_gate(&rig, types[i], 160, whole ? 416 : 417, batches,
                   sizeof batches / sizeof batches[0]);
        check_gate(&rig, types[i], 1056, whole ? 1088 : 1057, batches, 1);
    }
    rig.ops->close(rig.b);
}
END_TEST

/* What a prompt is: rows and tokens that are not multiples of anything, and more than one slice of
 * every sum; of each kind of strips up to 128 tokens, and more. */
START_TEST(linear_takes_many_tokens)
{
    static const enum dtype types[] = {DTYPE_INT4, DTYPE_INT4, DTYPE_INT4, DTYPE_INT4, DTYPE_INT8,
                                       DTYPE_INT8, DTYPE_INT8, DTYPE_INT8, DTYPE_BF16};
    enum { N = sizeof types / sizeof types[0] };
    static const size_t tokens[2][3] = {{65, 97, 128}, {131, 199, 129}};
    state = 3;
    for (size_t more = 0; more < 2; more++) {
        for (size_t i = 0; i < N; i++) {
            size_t rows = (i % 4 == 3 ? 129 : 33) + random_bits() % 90,
                   cols = 32 * (9 + random_bits() % 10) + (i == N - 1 ? 5 : 0);
            kind = (uint32_t)(i + 4 * more);
            check_linear(_i, types[i], rows, cols, tokens[more][i % 3]);
        }
        check_linear(_i, more ? DTYPE_Q4_0 : DTYPE_Q4_K, 150, 512, tokens[more][0]);
    }
}
END_TEST

/* ---- rows as they stand ------------------------------------------------------------------ */

/* Rows of a table to the bits of their definition; of a matrix that `linear` reads as well, nearly,
 * since it may have been repacked. */
static void check_embed(int subject, enum dtype type, enum weight_use use)
{
    struct rig rig;
    enum { COLS = 512, N = 9 };
    if (!rig_open(&rig, subject, 2, &plain))
        return;
    struct product p = random_product(type, 7, COLS, 1);
    struct weight *w = rig.ops->weight(rig.b, &p.matrix, use, &rig.err);
    give_rows(&rig, N, 0);
    struct buffer *x = filled(&rig, COLS, NULL);
    issue(&rig, (struct call){.op = EMBED, .a = x, .w = w});
    float *out = contents(&rig, ROWS_ALL, N, COLS, x), expected[COLS];
    double error = 0, norm = 0;
    for (size_t r = 0; r < N; r++) {
        matrix_row(&p.matrix, r % 7, expected);
        if (use == WEIGHT_TABLE)
            ck_assert_mem_eq(out + r * COLS, expected, sizeof expected);
        for (size_t i = 0; i < COLS; i++) {
            double d = (double)out[r * COLS + i] - (double)expected[i];
            error += d * d;
            norm += (double)expected[i] * (double)expected[i];
        }
    }
    ck_assert_msg(error <= 5e-5 * norm, "%s: error %g", dtype_info(type)->name, error / norm);
    free(out);
    rig.ops->weight_free(rig.b, w);
    rig.ops->buffer_free(rig.b, x);
    rig.ops->close(rig.b);
    free_product(&p);
}

/* Also: each table expands every type to the bits of its definition. */
START_TEST(embed_takes_rows_of_the_table)
{
    state = 2;
    for (int type = 0; type < DTYPE_PARTS; type++) {
        check_embed(_i, (enum dtype)type, WEIGHT_TABLE);
        check_embed(_i, (enum dtype)type, WEIGHT_MATRIX);
    }
}
END_TEST

static void check_add_norm(int subject, size_t cols, bool with_d, enum rows rows)
{
    struct rig rig;
    enum { N = 11, WANTED = 3 };
    if (!rig_open(&rig, subject, 3, &plain))
        return;
    struct product norm = random_product(DTYPE_F32, 1, cols, N);
    float *d = random_floats(N * cols);
    give_rows(&rig, N, WANTED);
    struct weight *w = rig.ops->weight(rig.b, &norm.matrix, WEIGHT_VECTOR, &rig.err);
    struct buffer *x = filled(&rig, cols, norm.x), *db = filled(&rig, cols, d);
    struct buffer *y = rig.ops->buffer(rig.b, rows, cols, &rig.err);
    issue(&rig, (struct call){
                    .op = ADD_NORM, .rows = rows, .a = x, .b = with_d ? db : NULL, .c = y, .w = w});
    size_t n_out = rows == ROWS_ALL ? N : WANTED, at = 0;
    float *out = contents(&rig, rows, n_out, cols, y), *xs = contents(&rig, ROWS_ALL, N, cols, x);
    for (size_t r = 0; r < N; r++) {
        double square = 0;
        for (size_t i = 0; i < cols; i++) {
            float sum = norm.x[r * cols + i] + (with_d ? d[r * cols + i] : 0);
            require(xs[r * cols + i] == sum, "row %zu: expected %g, found %g", r, (double)sum,
                    (double)xs[r * cols + i]);
            square += (double)sum * (double)sum;
        }
        if (rows == ROWS_LOGITS && !(r % 3 == 1 && r / 3 < WANTED))
            continue;
        double scale = 1 / sqrt(square / (double)cols + 1e-5);
        for (size_t i = 0; i < cols; i++) {
            float weight;
            memcpy(&weight, (const uint8_t *)norm.matrix.data + 4 * i, 4);
            double expected = (double)xs[r * cols + i] * scale * (double)weight;
            require(fabs((double)out[at * cols + i] - expected) <= 2e-6 + 2e-6 * fabs(expected),
                    "row %zu: expected %g, found %g", r, expected, (double)out[at * cols + i]);
        }
        at++;
    }
    ck_assert_uint_eq(at, n_out);
    free(out);
    free(xs);
    free(d);
    rig.ops->weight_free(rig.b, w);
    rig.ops->buffer_free(rig.b, x);
    rig.ops->buffer_free(rig.b, db);
    rig.ops->buffer_free(rig.b, y);
    rig.ops->close(rig.b);
    free_product(&norm);
}

START_TEST(add_norm_adds_and_normalizes)
{
    static const size_t widths[] = {1, 7, 64, 576, 1003};
    state = 3;
    for (size_t i = 0; i < sizeof widths / sizeof widths[0]; i++) {
        check_add_norm(_i, widths[i], true, ROWS_ALL);
        check_add_norm(_i, widths[i], false, ROWS_ALL);
        check_add_norm(_i, widths[i], true, ROWS_LOGITS);
    }
}
END_TEST

/* More than a device moves at once; into memory that is pinned, another's, and beside it. */
START_TEST(rows_come_back_as_they_went)
{
    enum { COLS = 6007 };
    const size_t n = MAX_ROWS * COLS;
    struct rig rig;
    if (!rig_open(&rig, _i, 1, &plain))
        return;
    state = 8;
    float *in = random_floats(n), *out = size_alloc(2 * n, sizeof *out);
    give_rows(&rig, MAX_ROWS, 0);
    struct buffer *x = filled(&rig, COLS, in);
    for (size_t i = 0; i < 4; i++) {
        float *to = out + (i < 3 ? i * COLS : n);
        if (i > 0 && rig.ops->pin != NULL)
            rig.ops->pin(rig.b, out, (n + COLS) * sizeof *out);
        memset(out, 0xff, 2 * n * sizeof *out);
        ck_assert_int_eq(rig.ops->read(rig.b, ROWS_ALL, x, to, &rig.err), 0);
        ck_assert_mem_eq(to, in, n * sizeof *in);
    }
    rig.ops->buffer_free(rig.b, x);
    rig.ops->close(rig.b);
    free(in);
    free(out);
}
END_TEST

/* ---- columns in an order ----------------------------------------------------------------- */

/* A matrix of parts whose columns have an order, and the one that is stored in that order. */
struct ordered {
    struct parts parts, sorted_parts;
    struct matrix matrix, sorted;
    uint8_t *codes, *sorted_codes; /* [rows][cols / 2] */
    uint16_t *scales;              /* [rows][cols / GROUP] */
    uint32_t *order;               /* [cols] */
};

static struct numbers plain_numbers(enum number type, const void *data, size_t bytes, size_t cols,
                                    size_t row_step)
{
    return (struct numbers){.type = type,
                            .data = data,
                            .bytes = bytes,
                            .rows = 1,
                            .cols = cols,
                            .row_run = 1,
                            .row_step = row_step,
                            .col_run = 1,
                            .col_step = 1};
}

/* step: has no factor of cols. */
static void make_ordered(struct ordered *o, size_t rows, size_t cols, size_t step)
{
    size_t bytes = rows * cols / 2, groups = cols / GROUP;
    *o = (struct ordered){.codes = size_alloc(bytes, 1),
                          .sorted_codes = size_alloc(bytes, 1),
                          .scales = size_alloc(rows * groups, sizeof(uint16_t)),
                          .order = size_alloc(cols, sizeof(uint32_t))};
    for (size_t i = 0; i < cols; i++)
        o->order[i] = (uint32_t)(i * step % cols);
    for (size_t i = 0; i < rows * groups; i++)
        o->scales[i] = f32_to_f16(random_float());
    for (size_t i = 0; i < rows * cols; i++) {
        size_t at = i / cols * cols + o->order[i % cols];
        uint8_t code = random_bits() & 15;
        o->sorted_codes[i / 2] |= (uint8_t)(code << i % 2 * 4);
        o->codes[at / 2] |= (uint8_t)(code << at % 2 * 4);
    }
    o->parts = (struct parts){
        .codes = plain_numbers(NUMBER_U4, o->codes, bytes, 1, cols),
        .scales = plain_numbers(NUMBER_F16, o->scales, rows * groups * 2, GROUP, groups),
        .zero = 8,
        .order = o->order};
    o->sorted_parts = o->parts;
    o->sorted_parts.codes.data = o->sorted_codes;
    o->sorted_parts.order = NULL;
    o->matrix = (struct matrix){
        .type = DTYPE_W4, .rows = rows, .cols = cols, .data = o->codes, .parts = &o->parts};
    o->sorted = o->matrix;
    o->sorted.data = o->sorted_codes;
    o->sorted.parts = &o->sorted_parts;
}

static void free_ordered(struct ordered *o)
{
    free(o->codes);
    free(o->sorted_codes);
    free(o->scales);
    free(o->order);
}

/* The products have the bits of x in that order times the matrix that is stored so. */
START_TEST(columns_are_read_in_their_order)
{
    static const size_t batches[] = {1, 3, 5, 70}, steps[] = {5, 7};
    enum { ROWS = 77, MOST = 70 };
    for (size_t i = 0; i < 2 * sizeof batches / sizeof batches[0]; i++) {
        size_t n = batches[i / 2], cols = i % 2 ? 1056 : 96, step = steps[i % 2];
        struct ordered o;
        state = 9 + i;
        make_ordered(&o, ROWS, cols, step);
        struct product p = {o.matrix, random_floats(n * cols), n};
        struct product sorted = {o.sorted, random_floats(n * cols), n};
        for (size_t k = 0; k < n * cols; k++)
            sorted.x[k] = p.x[k / cols * cols + o.order[k % cols]];
        for (int threads = 1; threads <= MOST_THREADS; threads++) {
            float *y = linear_of(_i, threads, &p, 0, n);
            float *expected = linear_of(_i, threads, &sorted, 0, n);
            if (y != NULL)
                ck_assert_msg(memcmp(y, expected, n * ROWS * sizeof *y) == 0,
                              "%zu rows of %zu columns", n, cols);
            free(y);
            free(expected);
        }
        free(p.x);
        free(sorted.x);
        free_ordered(&o);
    }
}
END_TEST

/* What comes before such products, and what else reads its results. */
enum { C_X, C_H, C_Q, C_K, C_V, C_GATE, C_UP, C_D, C_AGAIN, C_BUFFERS };

struct ordered_chain {
    struct rig *rig;
    struct buffer *at[C_BUFFERS];
    struct weight *norm, *a, *b, *c, *plain;
    int from, to; /* of its operations */
};

static void issue_chain(void *arg)
{
    const struct ordered_chain *c = arg;
    const struct backend_ops *ops = c->rig->ops;
    struct backend *b = c->rig->b;
    struct buffer *const *at = c->at;
    const struct weight *const twice[] = {c->a, c->a};
    for (int i = c->from; i < c->to; i++)
        switch (i) {
        case 0:
        case 7:
            ops->add_norm(b, ROWS_ALL, at[C_X], i == 0 ? NULL : at[C_D], c->norm, at[C_H]);
            break;
        case 1:
        case 8:
            ops->linear(b, ROWS_ALL, &at[i == 1 ? C_Q : C_AGAIN], twice, 1, at[C_H]);
            break;
        case 2:
            ops->linear(b, ROWS_ALL, &at[C_K], (const struct weight *const[]){c->b}, 1, at[C_H]);
            break;
        case 3:
            ops->linear(b, ROWS_ALL, &at[C_V], (const struct weight *const[]){c->plain}, 1,
                        at[C_H]);
            break;
        case 4:
            ops->linear(b, ROWS_ALL, &at[C_GATE], twice, 2, at[C_H]);
            break;
        case 5:
            ops->swiglu(b, at[C_GATE], at[C_UP]);
            break;
        default:
            ops->linear(b, ROWS_ALL, &at[C_D], (const struct weight *const[]){c->c}, 1, at[C_GATE]);
            break;
        }
}

enum { CHAIN_COLS = 1056, CHAIN_ROWS = 416, CHAIN_OPS = 9 };

/* All that its operations leave, issued in one run or each in its own. */
static float *chain_of(struct ordered_chain *c, size_t n, const float *x, bool at_once)
{
    static const size_t cols[] = {CHAIN_COLS, CHAIN_COLS, CHAIN_ROWS, CHAIN_ROWS, CHAIN_ROWS,
                                  CHAIN_ROWS, CHAIN_ROWS, CHAIN_COLS, CHAIN_ROWS};
    float *out = size_alloc(n * C_BUFFERS * CHAIN_COLS, sizeof *out);
    for (size_t i = 0; i < C_BUFFERS; i++)
        c->at[i] = filled(c->rig, cols[i], i == C_X ? x : NULL);
    for (c->from = 0; c->from < CHAIN_OPS; c->from = c->to) {
        c->to = at_once ? CHAIN_OPS : c->from + 1;
        c->rig->ops->run(c->rig->b, issue_chain, c);
    }
    for (size_t i = 0; i < C_BUFFERS; i++) {
        float *some = contents(c->rig, ROWS_ALL, n, cols[i], c->at[i]);
        if (i != C_UP) /* which a gate may leave as it is */
            memcpy(out + i * n * CHAIN_COLS, some, n * cols[i] * sizeof *out);
        free(some);
        c->rig->ops->buffer_free(c->rig->b, c->at[i]);
    }
    return out;
}

/* Norms, gates and products have the same bits whether or not a backend makes its inputs in that
 * order as it goes. */
START_TEST(orders_in_one_run_are_those_of_many)
{
    static const size_t batches[] = {1, 2, 9, 65}, steps[] = {5, 7, 3};
    struct rig rig;
    struct ordered o[3];
    if (!rig_open(&rig, _i, 2, &plain))
        return;
    state = 10;
    struct product norm = random_product(DTYPE_F32, 1, CHAIN_COLS, batches[3]);
    for (size_t i = 0; i < 3; i++)
        make_ordered(&o[i], i < 2 ? CHAIN_ROWS : CHAIN_COLS, i < 2 ? CHAIN_COLS : CHAIN_ROWS,
                     steps[i]);
    struct ordered_chain c = {.rig = &rig};
    struct weight **weights[] = {&c.a, &c.b, &c.c, &c.plain, &c.norm};
    const struct matrix *matrices[] = {&o[0].matrix, &o[1].matrix, &o[2].matrix, &o[0].sorted,
                                       &norm.matrix};
    for (size_t i = 0; i < 5; i++)
        *weights[i] =
            rig.ops->weight(rig.b, matrices[i], i < 4 ? WEIGHT_MATRIX : WEIGHT_VECTOR, &rig.err);
    for (size_t i = 0; i < sizeof batches / sizeof batches[0]; i++) {
        size_t n = batches[i];
        give_rows(&rig, n, 0);
        float *expected = chain_of(&c, n, norm.x, false), *y = chain_of(&c, n, norm.x, true);
        for (size_t k = 0; k < C_BUFFERS; k++)
            ck_assert_msg(memcmp(y + k * n * CHAIN_COLS, expected + k * n * CHAIN_COLS,
                                 n * CHAIN_COLS * sizeof *y) == 0,
                          "%zu rows: buffer %zu", n, k);
        free(expected);
        free(y);
    }
    for (size_t i = 0; i < 5; i++)
        rig.ops->weight_free(rig.b, *weights[i]);
    for (size_t i = 0; i < 3; i++)
        free_ordered(&o[i]);
    rig.ops->close(rig.b);
    free_product(&norm);
}
END_TEST

/* ---- gates ------------------------------------------------------------------------------- */

START_TEST(swiglu_gates)
{
    enum { N = 5, COLS = 107 };
    state = 4;
    for (int threads = 1; threads <= MOST_THREADS; threads++) {
        struct rig rig;
        if (!rig_open(&rig, _i, threads, &plain))
            return;
        float *gate = random_floats(N * COLS), *up = random_floats(N * COLS);
        for (size_t i = 0; i < N * COLS; i++)
            gate[i] *= i % 5 == 0 ? 200 : 8; /* far beyond where exp overflows, too */
        give_rows(&rig, N, 0);
        struct buffer *g = filled(&rig, COLS, gate), *u = filled(&rig, COLS, up);
        issue(&rig, (struct call){.op = SWIGLU, .a = g, .b = u});
        float *out = contents(&rig, ROWS_ALL, N, COLS, g);
        for (size_t i = 0; i < N * COLS; i++) {
            double expected = (double)gate[i] / (1 + exp(-(double)gate[i])) * (double)up[i];
            require(fabs((double)out[i] - expected) <= 1e-6 * fabs(expected) + 1e-30,
                    "expected %g, found %g", expected, (double)out[i]);
        }
        free(out);
        free(gate);
        free(up);
        rig.ops->buffer_free(rig.b, g);
        rig.ops->buffer_free(rig.b, u);
        rig.ops->close(rig.b);
    }
}
END_TEST

#ifdef TEST_CUDA
enum { N_KV_TYPES = LLAMA3_KV_INT8 }; /* which is refused, and what follows */
#else
enum { N_KV_TYPES = KV_TYPES };
#endif

/* ---- positions and attention ------------------------------------------------------------- */

struct scene {
    struct backend_shape shape;
    size_t n; /* positions 0..n-1 */
    float *q, *k, *v;
    float inv_freq[MAX_HEAD_DIM / 2];
};

static struct scene random_scene(size_t n_kv, size_t group, size_t head_dim, size_t n,
                                 enum llama3_kv_type type, bool interleaved)
{
    struct scene s = {.n = n};
    s.shape = (struct backend_shape){.n_heads = n_kv * group,
                                     .n_kv_heads = n_kv,
                                     .head_dim = head_dim,
                                     .n_layers = 2,
                                     .kv_type = type,
                                     .rope_interleaved = interleaved,
                                     .rope_scale = interleaved ? 1.0625f : 0,
                                     .rms_eps = 1e-5f};
    s.q = random_floats(n * n_kv * group * head_dim);
    s.k = random_floats(n * n_kv * head_dim);
    s.v = random_floats(n * n_kv * head_dim);
    for (size_t i = 0; i < head_dim / 2; i++)
        s.inv_freq[i] = (float)pow(10000, -2.0 * (double)i / (double)head_dim);
    return s;
}

static void free_scene(struct scene *s)
{
    free(s->q);
    free(s->k);
    free(s->v);
}

/* Rows of a scene as one batch on sequences; the attention of row r goes to row r of y. NULL: they
 * are stored, no more. The pages are reserved. */
static void attend_batch(struct rig *rig, const struct scene *s, const struct batch *batch,
                         float *y)
{
    size_t n_q = s->shape.n_heads * s->shape.head_dim,
           n_k = s->shape.n_kv_heads * s->shape.head_dim, n = batch->n_rows;
    float *in[3] = {size_alloc(n * n_q, sizeof(float)), size_alloc(n * n_k, sizeof(float)),
                    size_alloc(n * n_k, sizeof(float))};
    for (size_t r = 0; r < n; r++) {
        size_t at = (size_t)batch->rows[r].position;
        memcpy(in[0] + r * n_q, s->q + at * n_q, n_q * sizeof(float));
        memcpy(in[1] + r * n_k, s->k + at * n_k, n_k * sizeof(float));
        memcpy(in[2] + r * n_k, s->v + at * n_k, n_k * sizeof(float));
    }
    ck_assert_msg(rig->ops->batch(rig->b, batch, &rig->err) == 0, "%s", rig->err.message);
    struct buffer *q = filled(rig, n_q, in[0]), *k = filled(rig, n_k, in[1]);
    struct buffer *v = filled(rig, n_k, in[2]), *out = filled(rig, n_q, NULL);
    issue(rig, (struct call){.op = ROPE_STORE, .a = q, .b = k, .c = v});
    if (y != NULL)
        issue(rig, (struct call){.op = ATTEND, .a = q, .b = out});
    float *read = contents(rig, ROWS_ALL, n, n_q, y != NULL ? out : q);
    if (y != NULL)
        memcpy(y, read, n * n_q * sizeof *y);
    free(read);
    for (int i = 0; i < 3; i++)
        free(in[i]);
    rig->ops->buffer_free(rig->b, q);
    rig->ops->buffer_free(rig->b, k);
    rig->ops->buffer_free(rig->b, v);
    rig->ops->buffer_free(rig->b, out);
}

/* Rows [from, to) of a scene as one batch on one sequence; their attention goes to these rows of y.
 */
static void attend_rows(struct rig *rig, const struct scene *s, struct kv *kv, size_t from,
                        size_t to, float *y)
{
    struct batch_row rows[MAX_ROWS];
    for (size_t r = from; r < to; r++)
        rows[r - from] = (struct batch_row){.position = (int32_t)r};
    ck_assert_msg(rig->ops->kv_reserve(rig->b, kv, from, to, &rig->err) == 0, "%s",
                  rig->err.message);
    attend_batch(rig, s,
                 &(struct batch){.n_rows = to - from, .rows = rows, .n_seqs = 1, .seqs = &kv},
                 y != NULL ? y + from * s->shape.n_heads * s->shape.head_dim : NULL);
}

static void turn(const struct scene *s, size_t position, const float *in, double *out)
{
    double scale = (double)backend_rope_scale(&s->shape);
    size_t half = s->shape.head_dim / 2;
    for (size_t i = 0; i < half; i++) {
        size_t a = s->shape.rope_interleaved ? 2 * i : i;
        size_t b = s->shape.rope_interleaved ? 2 * i + 1 : i + half;
        double angle = (double)((float)position * s->inv_freq[i]);
        double cosine = scale * cos(angle), sine = scale * sin(angle);
        out[a] = (double)in[a] * cosine - (double)in[b] * sine;
        out[b] = (double)in[b] * cosine + (double)in[a] * sine;
    }
}

/* Integers of a group of V in int4, by steps of its range or of what is left where its ends are cut
 * off by 0 to 3 48ths: the first with the least error. */
static void round_group(float *y /* [16] */)
{
    float low = y[0], high = y[0], least = INFINITY, best[16] = {0};
    for (size_t i = 1; i < 16; i++) {
        low = fminf(low, y[i]);
        high = fmaxf(high, y[i]);
    }
    for (int cut = 0; cut < 16; cut++) {
        float part = (high - low) * (1.0f / 48), found[16], error = 0;
        float base = floorf((low + part * (float)(cut % 4)) / 8) * 8;
        float step = rintf((high - part * (float)(cut / 4) - base) * (1.0f / 15));
        step = fminf(fmaxf(step, 1), 127);
        for (size_t i = 0; i < 16; i++) {
            found[i] = fminf(fmaxf(rintf((y[i] - base) * (1 / step)), 0), 15) * step + base;
            error += (y[i] - found[i]) * (y[i] - found[i]);
        }
        if (error < least)
            memcpy(best, found, sizeof best);
        least = fminf(error, least);
    }
    memcpy(y, best, sizeof best);
}

/* A head in double precision as codes hold it: spread, rounded, and spread back. */
static void round_head(const struct scene *s, double *head, bool nibbles)
{
    size_t dim = s->shape.head_dim;
    float x[MAX_HEAD_DIM + 16] = {0}, largest = 0, most = nibbles ? 952 : 127;
    for (size_t i = 0; i < dim; i++)
        x[i] = (float)head[i];
    kv_spread(x, dim);
    for (size_t i = 0; i < dim; i++)
        largest = fmaxf(largest, fabsf(x[i]));
    for (size_t i = 0; i < dim; i++)
        x[i] = rintf(x[i] * (most / largest));
    for (size_t i = 0; nibbles && i < dim; i += 16)
        round_group(x + i);
    for (size_t i = 0; i < dim; i++)
        x[i] *= largest / most;
    kv_spread(x, dim);
    for (size_t i = 0; i < dim; i++)
        head[i] = (double)x[i];
}

/* A head of K, or of V, as it is stored. */
static void round_stored(const struct scene *s, double *head, bool is_v)
{
    if (kv_is_coded(s->shape.kv_type))
        round_head(s, head, is_v && s->shape.kv_type == LLAMA3_KV_INT4);
    for (size_t i = 0; i < s->shape.head_dim; i++) {
        float single = (float)head[i];
        head[i] =
            (double)(s->shape.kv_type == LLAMA3_KV_F16 ? f16_to_f32(f32_to_f16(single)) : single);
    }
}

static double attention_limit(enum llama3_kv_type type)
{
    static const double limits[] = {[LLAMA3_KV_F16] = 1e-3,
                                    [LLAMA3_KV_F32] = 2e-6,
                                    [LLAMA3_KV_INT8] = 1e-3,
                                    [LLAMA3_KV_INT4] = 1e-3};
    return limits[type];
}

/* The greatest difference of a row's output from attention in double precision. */
static double attend_error(const struct scene *s, size_t row, const float *y)
{
    size_t hd = s->shape.head_dim, n_kv = s->shape.n_kv_heads, group = s->shape.n_heads / n_kv;
    double worst = 0, *weights = size_alloc(row + 1, sizeof *weights), q[MAX_HEAD_DIM],
           k[MAX_HEAD_DIM], *v = size_alloc((row + 1) * hd, sizeof *v);
    for (size_t h = 0; h < s->shape.n_heads; h++) {
        double max = -INFINITY, sum = 0;
        turn(s, row, s->q + (row * s->shape.n_heads + h) * hd, q);
        for (size_t p = 0; p <= row; p++) {
            weights[p] = 0;
            turn(s, p, s->k + (p * n_kv + h / group) * hd, k);
            round_stored(s, k, false);
            for (size_t d = 0; d < hd; d++) {
                weights[p] += q[d] * k[d] / sqrt((double)hd);
                v[p * hd + d] = (double)s->v[(p * n_kv + h / group) * hd + d];
            }
            round_stored(s, v + p * hd, true);
            max = weights[p] > max ? weights[p] : max;
        }
        for (size_t p = 0; p <= row; p++)
            sum += weights[p] = exp(weights[p] - max);
        for (size_t d = 0; d < hd; d++) {
            double out = 0;
            for (size_t p = 0; p <= row; p++)
                out += weights[p] / sum * v[p * hd + d];
            double off = fabs(out - (double)y[(row * s->shape.n_heads + h) * hd + d]);
            worst = off <= worst ? worst : off;
        }
    }
    free(weights);
    free(v);
    return worst;
}

/* How many rows from `from` on come next. One at a time is for the ends of pages: what lies between
 * comes at once. */
static size_t next_rows(const struct scene *s, size_t from, size_t chunk)
{
    if (chunk == 1 && from % KV_PAGE == 3)
        chunk = KV_PAGE - 6;
    return s->n - from < chunk ? s->n - from : chunk;
}

/* All rows of a scene, `chunk` at a time. */
static float *attention_of(int subject, int threads, const struct scene *s, size_t chunk)
{
    struct rig rig;
    struct backend_shape shape = s->shape;
    shape.inv_freq = s->inv_freq;
    if (!rig_open(&rig, subject, threads, &shape))
        return NULL;
    float *y = size_alloc(s->n * shape.n_heads * shape.head_dim, sizeof *y);
    struct kv *kv = rig.ops->kv_open(rig.b, &rig.err);
    for (size_t from = 0, n; from < s->n; from += n) {
        n = next_rows(s, from, chunk);
        attend_rows(&rig, s, kv, from, from + n, y);
    }
    rig.ops->kv_close(rig.b, kv);
    ck_assert_uint_eq(rig.ops->kv_bytes(rig.b), 0);
    rig.ops->close(rig.b);
    return y;
}

static void check_attention(int subject, struct scene s)
{
    size_t n_q = s.shape.n_heads * s.shape.head_dim;
    float *y = attention_of(subject, 2, &s, 97);
    if (y != NULL) {
        double limit = attention_limit(s.shape.kv_type);
        for (size_t row = 0; row < s.n; row += 1 + s.n / 9)
            ck_assert_double_le(attend_error(&s, row, y), limit);
        ck_assert_double_le(attend_error(&s, s.n - 1, y), limit);
        static const size_t chunks[] = {1, 17, 64};
        for (size_t i = FIRST_CHUNK; i < 3; i++) {
            float *same = attention_of(subject, (int)i + 1, &s, chunks[i]);
            ck_assert_mem_eq(same, y, s.n * n_q * sizeof *y);
            free(same);
        }
    }
    free(y);
    free_scene(&s);
}

START_TEST(attention_reads_all_positions)
{
    static const struct {
        size_t n_kv, group, head_dim;
    } shapes[] = {{1, 1, 8}, {3, 3, 64}, {2, 4, 128}, {1, 8, 80}, {2, 2, 20}, {1, 5, 96}};
    state = 5;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        for (int type = LLAMA3_KV_F16; type < N_KV_TYPES; type++)
            check_attention(_i, random_scene(shapes[i].n_kv, shapes[i].group, shapes[i].head_dim,
                                             2 * KV_PAGE + 20, (enum llama3_kv_type)type, i % 2));
}
END_TEST

/* Long enough for the work of one row to be shared, and merged, in chunks. */
static void check_long(int subject, enum llama3_kv_type type)
{
    enum { N = 2200, LOOKED_AT = 2000, ALONE = 2040, ALONE_END = 2060 };
    state = 6;
    struct scene s = random_scene(1, 3, 16, N, type, false);
    struct backend_shape shape = s.shape;
    shape.inv_freq = s.inv_freq;
    size_t n_q = shape.n_heads * shape.head_dim, from;
    float *y[2] = {size_alloc(N * n_q, sizeof *y[0]), size_alloc(N * n_q, sizeof *y[1])};
    for (int cut = 0; cut < 2; cut++) {
        struct rig rig;
        if (!rig_open(&rig, subject, cut == 0 ? 1 : 4, &shape))
            break;
        struct kv *kv = rig.ops->kv_open(rig.b, &rig.err);
        for (from = 0; from < LOOKED_AT; from += 200)
            attend_rows(&rig, &s, kv, from, from + 200, NULL);
        if (cut == 0) {
            attend_rows(&rig, &s, kv, from, N, y[0]);
            ck_assert_double_le(attend_error(&s, N - 1, y[0]), attention_limit(type));
        } else {
            attend_rows(&rig, &s, kv, from, ALONE, y[1]);
            for (from = ALONE; from < ALONE_END; from++)
                attend_rows(&rig, &s, kv, from, from + 1, y[1]);
            attend_rows(&rig, &s, kv, from, N - 3, y[1]);
            for (from = N - 3; from < N; from++)
                attend_rows(&rig, &s, kv, from, from + 1, y[1]);
            ck_assert_mem_eq(y[1] + LOOKED_AT * n_q, y[0] + LOOKED_AT * n_q,
                             (N - LOOKED_AT) * n_q * sizeof *y[0]);
        }
        rig.ops->kv_close(rig.b, kv);
        rig.ops->close(rig.b);
    }
    free(y[0]);
    free(y[1]);
    free_scene(&s);
}

START_TEST(long_attention_is_cut_alike)
{
    check_long(_i, LLAMA3_KV_F16);
    for (int type = LLAMA3_KV_INT8; type < (int)N_KV_TYPES; type++)
        check_long(_i, (enum llama3_kv_type)type);
}
END_TEST

/* Long sequences among short ones: their chunks are shared out, those of the others are not. */
START_TEST(sequences_of_any_length_are_attended_alike)
{
    static const size_t lengths[] = {70, 2050, 5, 1538};
    enum { N = 2050, SEQS = sizeof lengths / sizeof lengths[0], LAST = 3, ROWS = SEQS * LAST };
    state = 7;
    struct scene s = random_scene(2, 3, 16, N, LLAMA3_KV_F16, false);
    struct backend_shape shape = s.shape;
    shape.inv_freq = s.inv_freq;
    size_t n_q = shape.n_heads * shape.head_dim;
    float *alone = size_alloc(ROWS * n_q, sizeof *alone);
    float *together = size_alloc(ROWS * n_q, sizeof *together);
    for (int many = 0; many < 2; many++) {
        struct rig rig;
        struct kv *kv[SEQS];
        struct batch_row rows[ROWS];
        if (!rig_open(&rig, _i, many ? 4 : 1, &shape))
            break;
        for (size_t i = 0; i < ROWS; i++) {
            size_t seq = i / LAST, end = lengths[seq] - LAST;
            rows[i] = (struct batch_row){.position = (int32_t)(end + i % LAST)};
            if (i % LAST == 0) {
                kv[seq] = rig.ops->kv_open(rig.b, &rig.err);
                for (size_t from = 0; from < end; from += MAX_ROWS)
                    attend_rows(&rig, &s, kv[seq], from,
                                end - from < MAX_ROWS ? end : from + MAX_ROWS, NULL);
                ck_assert_int_eq(rig.ops->kv_reserve(rig.b, kv[seq], end, end + LAST, &rig.err), 0);
            }
            struct batch one = {.n_rows = 1, .rows = &rows[i], .n_seqs = 1, .seqs = &kv[seq]};
            if (!many)
                attend_batch(&rig, &s, &one, alone + i * n_q);
            rows[i].seq = (int32_t)seq;
        }
        struct batch all = {.n_rows = ROWS, .rows = rows, .n_seqs = SEQS, .seqs = kv};
        if (many) {
            attend_batch(&rig, &s, &all, together);
            ck_assert_mem_eq(together, alone, ROWS * n_q * sizeof *alone);
        }
        for (size_t i = 0; i < SEQS; i++)
            rig.ops->kv_close(rig.b, kv[i]);
        rig.ops->close(rig.b);
    }
    free(alone);
    free(together);
    free_scene(&s);
}
END_TEST

/* The last row of the longest context that Llama 3 has, where K and V are zero but at the end.
 * Angles are those of the position itself. */
START_TEST(the_longest_context_works)
{
    enum { N = 131072, ZEROS = N - 2 * MAX_ROWS, DIM = 8 };
    state = 8;
    struct scene s = random_scene(1, 2, DIM, N, LLAMA3_KV_F16, false);
    memset(s.k, 0, ZEROS * DIM * sizeof *s.k);
    memset(s.v, 0, ZEROS * DIM * sizeof *s.v);
    void *zeros = size_alloc(ZEROS, kv_key_bytes(LLAMA3_KV_F16, DIM));
    struct backend_shape shape = s.shape;
    shape.inv_freq = s.inv_freq;
    shape.max_context = N;
    size_t n_q = shape.n_heads * shape.head_dim;
    float *y[2] = {size_alloc(N * n_q, sizeof *y[0]), size_alloc(N * n_q, sizeof *y[1])};
    for (int i = 0; i < 2; i++) {
        struct rig rig;
        if (!rig_open(&rig, _i, 1 + 3 * i, &shape))
            break;
        struct kv *kv = rig.ops->kv_open(rig.b, &rig.err);
        ck_assert_int_eq(rig.ops->kv_reserve(rig.b, kv, 0, ZEROS, &rig.err), 0);
        for (size_t layer = 0; layer < shape.n_layers; layer++)
            ck_assert_int_eq(rig.ops->kv_import(rig.b, kv, layer, 0, ZEROS, zeros, zeros, &rig.err),
                             0);
        attend_rows(&rig, &s, kv, ZEROS, ZEROS + MAX_ROWS, NULL);
        attend_rows(&rig, &s, kv, ZEROS + MAX_ROWS, N - 1, NULL);
        attend_rows(&rig, &s, kv, N - 1, N, y[i]);
        ck_assert_int_eq(rig.ops->kv_reserve(rig.b, kv, N, N + 1, &rig.err), -1);
        ck_assert_int_eq(rig.err.code, LLAMA3_ECONTEXT);
        if (i == 0)
            ck_assert_double_le(attend_error(&s, N - 1, y[0]), 1e-5);
        else
            ck_assert_mem_eq(y[0] + (N - 1) * n_q, y[1] + (N - 1) * n_q, n_q * sizeof *y[0]);
        rig.ops->kv_close(rig.b, kv);
        rig.ops->close(rig.b);
    }
    free(zeros);
    free(y[0]);
    free(y[1]);
    free_scene(&s);
}
END_TEST

/* ---- pages ------------------------------------------------------------------------------- */

/* A head of V as it was exported. */
static void check_stored(const struct scene *s, const char *row, const float *v)
{
    double head[MAX_HEAD_DIM];
    float found[MAX_HEAD_DIM], scale;
    size_t dim = s->shape.head_dim;
    for (size_t i = 0; i < dim; i++)
        head[i] = (double)v[i];
    round_stored(s, head, true);
    memcpy(&scale, row + kv_value_bytes(s->shape.kv_type, dim) - sizeof scale, sizeof scale);
    for (size_t i = 0; i < dim; i++) {
        uint16_t half;
        memcpy(&half, row + 2 * i, sizeof half);
        const int8_t *step = (const int8_t *)row + kv_group_columns(dim) / 2 + i / 16 * 2;
        int nibble = row[i / 32 * 16 + i % 16] >> i / 16 % 2 * 4 & 15;
        found[i] = s->shape.kv_type == LLAMA3_KV_F16 ? f16_to_f32(half)
                   : s->shape.kv_type == LLAMA3_KV_INT8
                       ? (float)(int8_t)row[i] * scale
                       : (float)(step[0] * nibble + 8 * step[1]) * scale;
    }
    if (kv_is_coded(s->shape.kv_type))
        kv_spread(found, dim);
    for (size_t i = 0; i < dim; i++)
        require(fabs((double)found[i] - head[i]) <= 1e-6, "value %zu isn't what was stored", i);
}

static void check_pages(int subject, enum llama3_kv_type type)
{
    struct rig rig;
    enum { SHARED = KV_PAGE + 10 };
    state = 7;
    struct scene s = random_scene(2, 2, 16, 3 * KV_PAGE, type, false);
    struct scene other = random_scene(2, 2, 16, 3 * KV_PAGE, type, false);
    size_t n_k = 2 * 16, n_q = 4 * 16, k_bytes = 2 * kv_key_bytes(type, 16),
           v_bytes = 2 * kv_value_bytes(type, 16);
    s.shape.inv_freq = s.inv_freq;
    if (!rig_open(&rig, subject, 2, &s.shape)) {
        free_scene(&s);
        free_scene(&other);
        return;
    }
    memcpy(other.q, s.q, SHARED * n_q * sizeof *s.q);
    memcpy(other.k, s.k, SHARED * n_k * sizeof *s.k);
    memcpy(other.v, s.v, SHARED * n_k * sizeof *s.v);
    float *whole = size_alloc(s.n * n_q, sizeof *whole), *y = size_alloc(s.n * n_q, sizeof *y);

    struct kv *a = rig.ops->kv_open(rig.b, &rig.err);
    attend_rows(&rig, &other, a, 0, other.n < MAX_ROWS ? other.n : MAX_ROWS, whole);
    rig.ops->kv_close(rig.b, a);

    a = rig.ops->kv_open(rig.b, &rig.err);
    attend_rows(&rig, &s, a, 0, s.n, y);
    uint64_t three = rig.ops->kv_bytes(rig.b);
    struct kv *b = rig.ops->kv_fork(rig.b, a, SHARED, &rig.err);
    ck_assert_ptr_nonnull(b);
    ck_assert_uint_eq(rig.ops->kv_bytes(rig.b), three);

    char k[2][3 * KV_PAGE * 2 * 32], v[2][3 * KV_PAGE * 2 * 32];
    ck_assert_int_eq(rig.ops->kv_export(rig.b, a, 1, 0, s.n, k[0], v[0], &rig.err), 0);
    attend_rows(&rig, &other, b, SHARED, other.n, y);
    ck_assert_mem_eq(y + SHARED * n_q, whole + SHARED * n_q, (other.n - SHARED) * n_q * sizeof *y);
    ck_assert_uint_eq(rig.ops->kv_bytes(rig.b), three / 3 * 5);
    ck_assert_int_eq(rig.ops->kv_export(rig.b, a, 1, 0, s.n, k[1], v[1], &rig.err), 0);
    ck_assert_mem_eq(k[0], k[1], s.n * k_bytes);
    ck_assert_mem_eq(v[0], v[1], s.n * v_bytes);

    /* The export is what was stored, and an import brings it back elsewhere. */
    for (size_t head = 0; head < 2; head++)
        check_stored(&s, v[0] + head * v_bytes / 2, s.v + head * 16);
    struct kv *c = rig.ops->kv_open(rig.b, &rig.err);
    ck_assert_int_eq(rig.ops->kv_reserve(rig.b, c, 0, SHARED, &rig.err), 0);
    ck_assert_int_eq(rig.ops->kv_import(rig.b, c, 1, 0, SHARED, k[0], v[0], &rig.err), 0);
    memset(y, 0, s.n * n_q * sizeof *y);
    attend_rows(&rig, &other, c, SHARED, other.n, y);
    ck_assert_mem_eq(y + SHARED * n_q, whole + SHARED * n_q, (other.n - SHARED) * n_q * sizeof *y);
    ck_assert_int_eq(rig.ops->kv_export(rig.b, c, 2, 0, 1, k[1], v[1], &rig.err), -1);
    ck_assert_int_eq(rig.ops->kv_export(rig.b, c, 1, 0, CONTEXT, k[1], v[1], &rig.err), -1);

    /* What a reservation takes is known before; c's first page, the same, is held once with a's. */
    uint64_t held = rig.ops->kv_bytes(rig.b), page = three / 3;
    ck_assert_uint_eq(rig.ops->kv_missing(rig.b, NULL, 0, KV_PAGE + 1), 2 * page);
    ck_assert_uint_eq(rig.ops->kv_missing(rig.b, a, 0, 3 * KV_PAGE), page); /* shared with b */
    ck_assert_uint_eq(rig.ops->kv_missing(rig.b, a, KV_PAGE, 3 * KV_PAGE), 0);
    ck_assert_uint_eq(rig.ops->kv_missing(rig.b, a, 0, 0), 0);
    rig.ops->kv_share(rig.b, c, a, SHARED);
    ck_assert_uint_eq(rig.ops->kv_bytes(rig.b), held - page);
    rig.ops->kv_share(rig.b, c, a, SHARED); /* again changes nothing */
    ck_assert_uint_eq(rig.ops->kv_bytes(rig.b), held - page);
    memset(y, 0, s.n * n_q * sizeof *y);
    attend_rows(&rig, &other, c, SHARED, other.n, y);
    ck_assert_mem_eq(y + SHARED * n_q, whole + SHARED * n_q, (other.n - SHARED) * n_q * sizeof *y);

    rig.ops->kv_truncate(rig.b, c, KV_PAGE);
    rig.ops->kv_close(rig.b, a);
    ck_assert_uint_eq(rig.ops->kv_bytes(rig.b), three);
    rig.ops->kv_close(rig.b, b);
    rig.ops->kv_close(rig.b, c);
    ck_assert_uint_eq(rig.ops->kv_bytes(rig.b), 0);
    rig.ops->close(rig.b);
    free(whole);
    free(y);
    free_scene(&s);
    free_scene(&other);
}

START_TEST(pages_are_shared_until_written)
{
    check_pages(_i, LLAMA3_KV_F16);
    for (int type = LLAMA3_KV_INT8; type < (int)N_KV_TYPES; type++)
        check_pages(_i, (enum llama3_kv_type)type);
}
END_TEST

START_TEST(what_is_out_of_range_is_refused)
{
    struct rig rig;
    struct backend_shape shape = plain;
    shape.n_layers = 1;
    if (!rig_open(&rig, _i, 1, &shape))
        return;
    struct kv *kv = rig.ops->kv_open(rig.b, &rig.err);
    struct batch_row row = {0};
    struct batch batch = {.n_rows = 1, .rows = &row, .n_seqs = 1, .seqs = &kv};
    ck_assert_int_eq(rig.ops->batch(rig.b, &batch, &rig.err), -1); /* not reserved */
    ck_assert_int_eq(rig.ops->kv_reserve(rig.b, kv, 0, CONTEXT + 1, &rig.err), -1);
    ck_assert_int_eq(rig.err.code, LLAMA3_ECONTEXT);
    ck_assert_int_eq(rig.ops->kv_reserve(rig.b, kv, 0, KV_PAGE, &rig.err), 0);
    ck_assert_int_eq(rig.ops->batch(rig.b, &batch, &rig.err), 0);
    row.position = KV_PAGE;
    ck_assert_int_eq(rig.ops->batch(rig.b, &batch, &rig.err), -1);
    row.position = 0;
    row.seq = 1;
    ck_assert_int_eq(rig.ops->batch(rig.b, &batch, &rig.err), -1);
    row.seq = 0;
    row.token = -1;
    ck_assert_int_eq(rig.ops->batch(rig.b, &batch, &rig.err), -1);
    batch.n_rows = 0;
    ck_assert_int_eq(rig.ops->batch(rig.b, &batch, &rig.err), -1);
    rig.ops->kv_close(rig.b, kv);
    rig.ops->close(rig.b);
}
END_TEST

#ifndef TEST_CUDA
START_TEST(an_unknown_table_is_named)
{
    struct llama3_error err;
    struct backend_shape shape = plain;
    float inv_freq[4] = {0};
    shape.inv_freq = inv_freq;
    setenv("LLAMA3_CPU", "abacus", 1);
    struct backend_options options = {.threads = 1};
    const struct backend_ops *ops = backend_find("cpu", &err);
    ck_assert_ptr_null(ops->open(&options, &shape, &err));
    ck_assert_ptr_nonnull(strstr(err.message, "LLAMA3_CPU: expected one of:"));
    ck_assert_ptr_nonnull(strstr(err.message, "found \"abacus\""));
    ck_assert_ptr_null(backend_find("tpu", &err));
    ck_assert_ptr_nonnull(strstr(err.message, "backend: expected one of: cpu"));
    ck_assert_ptr_nonnull(strstr(err.message, "found \"tpu\""));
}
END_TEST
#endif

/* ---- adapt --------------------------------------------------------------------------------- */

enum { FACTORS = 3, ADAPT_ROWS = 130, ADAPT_COLS = 52, MAX_OUT = 70, SEQS = 3 };
static const size_t ranks[FACTORS] = {1, 20, 16}, outs[FACTORS] = {5, 70, 64};
static const float adapter_scales[SEQS][2] = {{0, 0.5F}, {-2, 0}, {1, 3}};

struct adapt_data {
    float *a[FACTORS], *b[FACTORS], *y[FACTORS], *x;
};

static struct matrix floats_matrix(const float *data, size_t rows, size_t cols)
{
    return (struct matrix){.type = DTYPE_F32, .rows = rows, .cols = cols, .data = data};
}

struct adapt_call {
    struct rig *rig;
    enum rows rows;
    size_t adapter;
    struct buffer *x, *y[FACTORS];
    struct weight *a[FACTORS], *b[FACTORS];
};

static void call_adapt(void *arg)
{
    const struct adapt_call *c = arg;
    c->rig->ops->adapt(c->rig->b, c->rows, c->y, (const struct weight *const *)c->a,
                       (const struct weight *const *)c->b, FACTORS, c->adapter, c->x);
}

/* Row r of the data is of sequence r * SEQS / ADAPT_ROWS. out: results of the rows [first, end),
 * for free(). */
static void adapt_rows(struct rig *rig, const struct adapt_data *d, size_t first, size_t end,
                       size_t adapter, enum rows rows, float *out[FACTORS])
{
    struct batch_row list[ADAPT_ROWS];
    struct kv *none[SEQS] = {NULL};
    struct adapt_call c = {.rig = rig, .rows = rows, .adapter = adapter};
    size_t n = end - first;
    for (size_t r = 0; r < n; r++)
        list[r] = (struct batch_row){.position = (int32_t)(first + r),
                                     .seq = (int32_t)((first + r) * SEQS / ADAPT_ROWS),
                                     .wants_logits = rows == ROWS_LOGITS};
    const struct batch batch = {
        .n_rows = n, .rows = list, .n_seqs = SEQS, .seqs = none, .scales = &adapter_scales[0][0]};
    ck_assert_msg(rig->ops->batch(rig->b, &batch, &rig->err) == 0, "%s", rig->err.message);
    c.x = rig->ops->buffer(rig->b, rows, ADAPT_COLS, &rig->err);
    rig->ops->write(rig->b, rows, c.x, d->x + first * ADAPT_COLS);
    for (size_t i = 0; i < FACTORS; i++) {
        const struct matrix ma = floats_matrix(d->a[i], ranks[i], ADAPT_COLS);
        const struct matrix mb = floats_matrix(d->b[i], ranks[i], outs[i]);
        c.a[i] = rig->ops->weight(rig->b, &ma, WEIGHT_FACTOR, &rig->err);
        c.b[i] = rig->ops->weight(rig->b, &mb, WEIGHT_FACTOR, &rig->err);
        c.y[i] = rig->ops->buffer(rig->b, rows, outs[i], &rig->err);
        rig->ops->write(rig->b, rows, c.y[i], d->y[i] + first * outs[i]);
    }
    rig->ops->run(rig->b, call_adapt, &c);
    for (size_t i = 0; i < FACTORS; i++)
        out[i] = contents(rig, rows, n, outs[i], c.y[i]);
    rig->ops->buffer_free(rig->b, c.x);
    for (size_t i = 0; i < FACTORS; i++) {
        rig->ops->buffer_free(rig->b, c.y[i]);
        rig->ops->weight_free(rig->b, c.a[i]);
        rig->ops->weight_free(rig->b, c.b[i]);
    }
}

static void free_all(float *arrays[FACTORS])
{
    for (size_t i = 0; i < FACTORS; i++) {
        free(arrays[i]);
        arrays[i] = NULL;
    }
}

static double adapted(const struct adapt_data *d, size_t i, size_t row, size_t col, double scale)
{
    double sum = 0;
    for (size_t k = 0; k < ranks[i]; k++) {
        double thin = 0;
        for (size_t c = 0; c < ADAPT_COLS; c++)
            thin += (double)d->a[i][k * ADAPT_COLS + c] * (double)d->x[row * ADAPT_COLS + c];
        sum += (double)d->b[i][k * outs[i] + col] * scale * thin;
    }
    return (double)d->y[i][row * outs[i] + col] + sum;
}

static void check_adapted(const struct adapt_data *d, size_t i, size_t adapter, const float *out)
{
    for (size_t r = 0; r < ADAPT_ROWS; r++)
        for (size_t c = 0; c < outs[i]; c++) {
            float scale = adapter_scales[r * SEQS / ADAPT_ROWS][adapter];
            double want = adapted(d, i, r, c, (double)scale), found = out[r * outs[i] + c];
            require(fabs(found - want) < 1e-4 * (1 + fabs(want)),
                    "%zu %zu %zu: expected %g, found %g", i, r, c, want, found);
            require(scale != 0 || memcmp(&out[r * outs[i] + c], &d->y[i][r * outs[i] + c],
                                         sizeof(float)) == 0,
                    "%zu %zu %zu: changed by a scale of 0", i, r, c);
        }
}

/* Of any rows, in any cut, by any threads. */
START_TEST(adapters_add_thin_products)
{
    static const size_t cuts[] = {0, 1, 4, 45, 50, 99, ADAPT_ROWS};
    const struct backend_shape shape = {.n_heads = 2,
                                        .n_kv_heads = 1,
                                        .head_dim = 8,
                                        .kv_type = LLAMA3_KV_F16,
                                        .n_adapters = 2,
                                        .max_rank = 20};
    struct adapt_data d;
    float *whole[2][FACTORS] = {0}, *some[FACTORS] = {0};
    state = 77;
    d.x = random_floats(ADAPT_ROWS * ADAPT_COLS);
    for (size_t i = 0; i < FACTORS; i++) {
        d.a[i] = random_floats(ranks[i] * ADAPT_COLS);
        d.b[i] = random_floats(outs[i] * ranks[i]);
        d.y[i] = random_floats(ADAPT_ROWS * outs[i]);
    }
    for (int threads = 1; threads <= MOST_THREADS; threads += 3) {
        struct rig rig;
        if (!rig_open(&rig, _i, threads, &shape))
            break;
        for (size_t adapter = 0; adapter < 2; adapter++) {
            float **all = whole[adapter];
            adapt_rows(&rig, &d, 0, ADAPT_ROWS, adapter, ROWS_ALL, threads == 1 ? all : some);
            for (size_t i = 0; i < FACTORS; i++) {
                check_adapted(&d, i, adapter, all[i]);
                if (threads > 1)
                    ck_assert_mem_eq(all[i], some[i], ADAPT_ROWS * outs[i] * sizeof(float));
            }
            free_all(some);
            for (size_t cut = 0; cut + 1 < sizeof cuts / sizeof *cuts; cut++) {
                size_t n = cuts[cut + 1] - cuts[cut];
                enum rows rows = n <= MAX_LOGITS ? ROWS_LOGITS : ROWS_ALL;
                adapt_rows(&rig, &d, cuts[cut], cuts[cut + 1], adapter, rows, some);
                for (size_t i = 0; i < FACTORS; i++)
                    ck_assert_mem_eq(some[i], all[i] + cuts[cut] * outs[i],
                                     n * outs[i] * sizeof(float));
                free_all(some);
            }
        }
        rig.ops->close(rig.b);
    }
    free_all(whole[0]);
    free_all(whole[1]);
    free_all(d.a);
    free_all(d.b);
    free_all(d.y);
    free(d.x);
}
END_TEST

int main(void)
{
#ifdef TEST_CUDA
    if (!cuda_answers())
        return 77;
#endif
    TCase *tcase = tcase_create("seam"), *seeded = tcase_create("seeds"); /* those with $SEED */
    tcase_set_timeout(tcase, TIMEOUT);
    tcase_set_timeout(seeded, TIMEOUT);
    tcase_add_checked_fixture(tcase, NULL, close_shared);
    tcase_add_checked_fixture(seeded, NULL, close_shared);
    tcase_add_loop_test(seeded, linear_is_a_product, 0, N_SUBJECTS);
    tcase_add_loop_test(seeded, linear_takes_all_formats, 0, N_SUBJECTS);
    tcase_add_loop_test(tcase, few_rows_are_rows, 0, N_SUBJECTS);
    tcase_add_loop_test(tcase, a_gate_in_one_run_is_that_of_three, 0, N_SUBJECTS);
    tcase_add_loop_test(tcase, linear_takes_many_tokens, 0, N_SUBJECTS);
    tcase_add_loop_test(tcase, embed_takes_rows_of_the_table, 0, N_SUBJECTS);
    tcase_add_loop_test(tcase, add_norm_adds_and_normalizes, 0, N_SUBJECTS);
    tcase_add_loop_test(tcase, rows_come_back_as_they_went, 0, N_SUBJECTS);
    tcase_add_loop_test(tcase, adapters_add_thin_products, 0, N_SUBJECTS);
    tcase_add_loop_test(tcase, columns_are_read_in_their_order, 0, N_SUBJECTS);
    tcase_add_loop_test(tcase, orders_in_one_run_are_those_of_many, 0, N_SUBJECTS);
    tcase_add_loop_test(tcase, swiglu_gates, 0, N_SUBJECTS);
    tcase_add_loop_test(tcase, attention_reads_all_positions, 0, N_SUBJECTS);
    tcase_add_loop_test(tcase, long_attention_is_cut_alike, 0, N_SUBJECTS);
    tcase_add_loop_test(tcase, sequences_of_any_length_are_attended_alike, 0, N_SUBJECTS);
    tcase_add_loop_test(tcase, the_longest_context_works, 0, N_SUBJECTS);
    tcase_add_loop_test(tcase, pages_are_shared_until_written, 0, N_SUBJECTS);
    tcase_add_loop_test(tcase, what_is_out_of_range_is_refused, 0, N_SUBJECTS);
#ifndef TEST_CUDA
    tcase_add_test(tcase, an_unknown_table_is_named);
#endif
    return run_cases("backend", (TCase *const[]){seeded, tcase, NULL});
}
