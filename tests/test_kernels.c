/* SPDX-License-Identifier: MIT */
/*
 * test_kernels: every fast kernel against its scalar twin, and the promise that a result never
 * depends on what is computed beside it, bit by bit. Plain C without a test library, so that it
 * also runs for another architecture under an emulator: it exits with 1 and says what differs.
 */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cpu/kernels.h"
#include "base/size.h"

static const struct kernels *tables[10]; /* that this machine runs, then NULL */
static const struct kernels *fast;       /* the one that is tested */
static const struct kernels *const scalar = &kernels_scalar;
static int failures;

/* For loops over all tables within a case: its twin, which is slow, is computed once for all. */
static bool next_table(void)
{
    static size_t at;
    fast = tables[at];
    at = fast != NULL ? at + 1 : 0;
    return fast != NULL;
}

static float random_float(void)
{
    static uint64_t state = 1;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (float)(uint32_t)(state >> 32) / 2147483648.0f - 1;
}

static size_t pick(size_t n)
{
    return (size_t)((random_float() + 1) * 0.499f * (float)n);
}

static float *floats(size_t n)
{
    float *out = size_alloc_aligned(n, sizeof *out);
    if (out == NULL)
        exit(2);
    for (size_t i = 0; i < n; i++)
        out[i] = random_float();
    return out;
}

/* |a - b| within a tolerance relative to the size of what was summed up. */
static void near(const char *what, const float *a, const float *b, size_t n, double scale)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)a[i] - (double)b[i]) <= 2e-6 * scale * (1 + fabs((double)b[i])))) {
            printf("%s (%s): [%zu] is %.9g, scalar %.9g\n", what, fast->name, i, (double)a[i],
                   (double)b[i]);
            failures++;
            return;
        }
}

static void same(const char *what, const void *a, const void *b, size_t bytes)
{
    if (memcmp(a, b, bytes) != 0) {
        printf("%s (%s): not the same bits\n", what, fast->name);
        failures++;
    }
}

/* ---- linear ------------------------------------------------------------------------------ */

/* Weights of 16 or 32 bits at an address that is a multiple of nothing. */
static void *stored(enum dtype type, const float *values, size_t n, char **memory)
{
    size_t size = type == DTYPE_F32 ? 4 : 2;
    *memory = malloc(n * size + 2);
    if (*memory == NULL)
        exit(2);
    char *out = *memory + 2;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], 4);
        uint16_t half = type == DTYPE_F16 ? f32_to_f16(values[i]) : (uint16_t)(bits >> 16);
        memcpy(out + i * size, type == DTYPE_F32 ? (const void *)&values[i] : &half, size);
    }
    return out;
}

/* All of y by panels of the given numbers of rows, tokens and columns. */
static void product(const struct kernels *kernels, enum dtype type, struct linear_block whole,
                    size_t rows, size_t tokens, size_t cols)
{
    size_t size = type == DTYPE_F32 ? 4 : 2;
    for (size_t row = 0; row < whole.rows; row += rows)
        for (size_t token = 0; token < whole.tokens; token += tokens)
            for (size_t col = 0; col < whole.cols; col += cols) {
                struct linear_block b = whole;
                b.w = (const char *)whole.w + row * whole.w_stride + col * size;
                b.x = (const float *)whole.x + token * whole.x_stride + col;
                b.y = whole.y + token * whole.y_stride + row;
                b.rows = whole.rows - row < rows ? whole.rows - row : rows;
                b.tokens = whole.tokens - token < tokens ? whole.tokens - token : tokens;
                b.cols = whole.cols - col < cols ? whole.cols - col : cols;
                b.first = col == 0;
                b.last = col + b.cols == whole.cols;
                kernels->linear[type](&b);
            }
}

static void test_linear(enum dtype type, size_t rows, size_t tokens, size_t cols)
{
    char what[80], *memory;
    float *w = floats(rows * cols), *x = floats(tokens * cols);
    float *y = floats(rows * tokens), *twin = floats(rows * tokens), *cut = floats(rows * tokens);
    struct linear_block b = {
        .w = stored(type, w, rows * cols, &memory),
        .w_stride = cols * (type == DTYPE_F32 ? 4 : 2),
        .x = x,
        .x_stride = cols,
        .rows = rows,
        .tokens = tokens,
        .cols = cols,
        .partial = floats(round_up(rows, ROW_TILE) * tokens * LANES),
        .y = y,
        .y_stride = rows,
    };

    snprintf(what, sizeof what, "linear %s, %zu rows, %zu tokens, %zu columns",
             dtype_info(type)->name, rows, tokens, cols);
    b.y = twin;
    product(scalar, type, b, rows, tokens, cols);
    while (next_table()) {
        b.y = y;
        product(fast, type, b, rows, tokens, cols);
        near(what, y, twin, rows * tokens, sqrt((double)cols));
        b.y = cut;
        product(fast, type, b, 1, 1, cols);
        same(what, y, cut, rows * tokens * sizeof *y);
        product(fast, type, b, 1 + pick(rows), 1 + pick(tokens), LANES * (1 + pick(20)));
        same(what, y, cut, rows * tokens * sizeof *y);
    }
    free(w), free(x), free(y), free(twin), free(cut), free(memory), free(b.partial);
}

/* Products of bf16 pairs: as the scalar twin's of activations rounded to bf16, and for any cut. */
static void test_pairs(size_t rows, size_t tokens, size_t cols)
{
    char *memory;
    float *w = floats(rows * cols), *x = floats(tokens * cols);
    float *y = floats(rows * tokens), *twin = floats(rows * tokens);
    uint16_t *x16 = size_alloc_aligned(tokens * cols, sizeof *x16);
    if (x16 == NULL)
        exit(2);
    struct linear_block b = {.w = stored(DTYPE_BF16, w, rows * cols, &memory),
                             .w_stride = cols * 2,
                             .x = x16,
                             .x_stride = cols,
                             .rows = rows,
                             .tokens = tokens,
                             .cols = cols,
                             .partial = floats(round_up(rows, ROW_TILE) * tokens * LANES),
                             .first = true,
                             .last = true,
                             .y = y,
                             .y_stride = rows};

    fast->to_bf16(x, x16, tokens * cols);
    for (size_t i = 0; i < tokens * cols; i++) {
        float rounded = bf16_to_f32(x16[i]);
        near("to_bf16", &rounded, &x[i], 1, 2000);
        x[i] = rounded;
    }
    fast->linear_bf16_products(&b);
    b.x = x, b.y = twin;
    scalar->linear[DTYPE_BF16](&b);
    near("pairs", y, twin, rows * tokens, sqrt((double)cols));
    for (size_t token = 0; token < tokens; token++)
        for (size_t col = 0; col < cols; col += BF16_COLS * 3) {
            struct linear_block one = b;
            one.tokens = 1;
            one.w = (const char *)b.w + col * 2;
            one.x = x16 + token * cols + col;
            one.cols = cols - col < BF16_COLS * 3 ? cols - col : BF16_COLS * 3;
            one.first = col == 0, one.last = col + one.cols == cols;
            one.y = twin + token * rows;
            fast->linear_bf16_products(&one);
        }
    same("pairs", y, twin, rows * tokens * sizeof *y);
    free(w), free(x), free(y), free(twin), free(x16), free(memory), free(b.partial);
}

/* ---- attention --------------------------------------------------------------------------- */

/* Some positions of a page, all of it, where the maximum rises, and the first ones again. */
static void attend_thrice(const struct kernels *kernels, enum llama3_kv_type type,
                          struct attend_page a, const float *q, size_t queries, size_t count,
                          float *states)
{
    for (size_t i = 0; i < queries; i++) {
        memset(states + i * a.state_size, 0, a.state_size * sizeof *states);
        states[i * a.state_size + a.padded_dim] = -INFINITY;
    }
    a.q = q, a.n_queries = queries, a.states = states;
    for (int i = 0; i < 3; i++) {
        a.count = i == 1 ? KV_PAGE : count;
        kernels->kv[type].attend(&a);
    }
}

/* What heads hold. Codes are made of the first ones; the others have numbers that aren't finite:
 * one of K, one of V, one of each K. */
enum heads {
    RANDOM,
    ONE_HUGE,
    ALL_EQUAL,
    LONG_TAIL,
    DENORMAL,
    ZERO,
    CODED,
    K_INFINITE = CODED,
    K_NAN,
    V_INFINITE,
    ALL_INFINITE,
    N_HEADS
};

/* [2][KV_PAGE][padded]: K and V, zeros beyond head_dim; in the range of f16 if they are to be so
 * stored. */
static float *make_heads(enum heads kind, bool half, const float *q /* [head_dim] */,
                         size_t head_dim, size_t padded, size_t count)
{
    static const float sizes[CODED] = {1, 1, 0, 1, 1e-39f, 0};
    float *out = size_alloc_aligned(2 * KV_PAGE * padded, sizeof(float));
    if (out == NULL)
        exit(2);
    for (size_t i = 0; i < 2 * KV_PAGE; i++) {
        float size = kind == DENORMAL && half ? 4e-6f : kind < CODED ? sizes[kind] : 1;
        if (kind == LONG_TAIL) /* of scores, and heads of V of every size */
            size = ldexpf(1, i < KV_PAGE ? -(int)i / 4 : (int)i % (half ? 30 : 40) - 20);
        for (size_t d = 0; d < head_dim; d++)
            out[i * padded + d] = kind == ALL_EQUAL                    ? (float)(d % 7) - 3
                                  : kind == ONE_HUGE && i == count / 2 ? 40 * q[d]
                                                                       : size * random_float();
    }
    size_t odd = kind == V_INFINITE ? KV_PAGE + count / 2 : count / 2;
    if (kind == K_INFINITE || kind == K_NAN || kind == V_INFINITE)
        out[odd * padded + head_dim / 2] = kind == K_NAN ? NAN : INFINITY;
    for (size_t j = 0; kind == ALL_INFINITE && j < KV_PAGE; j++)
        out[j * padded] = INFINITY;
    return out;
}

/* K and V of a page as they are stored, and as numbers. */
struct floats {
    size_t head_dim, padded, count;
    float *k, *v; /* [head_dim][KV_PAGE], [KV_PAGE][padded] */
    uint16_t *k16, *v16;
};

static struct floats make_floats(const float *heads, bool half, size_t head_dim, size_t padded,
                                 size_t count)
{
    struct floats f = {.head_dim = head_dim, .padded = padded, .count = count};
    size_t n_k = head_dim * KV_PAGE, n_v = KV_PAGE * padded;
    f.k = size_alloc_aligned(n_k, sizeof(float));
    f.v = size_alloc_aligned(n_v, sizeof(float));
    f.k16 = size_alloc_aligned(n_k, sizeof(uint16_t));
    f.v16 = size_alloc_aligned(n_v, sizeof(uint16_t));
    if (f.k == NULL || f.v == NULL || f.k16 == NULL || f.v16 == NULL)
        exit(2);
    for (size_t i = 0; i < n_k; i++)
        f.k[i] = heads[i % KV_PAGE * padded + i / KV_PAGE];
    memcpy(f.v, heads + KV_PAGE * padded, n_v * sizeof(float));
    scalar->kv[LLAMA3_KV_F16].store_k(f.k, f.k16, n_k);
    scalar->kv[LLAMA3_KV_F16].store_k(f.v, f.v16, n_v);
    if (half) {
        dtype_expand(DTYPE_F16, f.k16, f.k, n_k);
        dtype_expand(DTYPE_F16, f.v16, f.v, n_v);
    }
    return f;
}

/* What attend_thrice computes, in double precision: scores become shares of 1. */
static void shares_of(const struct floats *f, const float *q, double shares[KV_PAGE],
                      double errors[KV_PAGE])
{
    double max = -INFINITY, sum = 0;
    for (size_t j = 0; j < KV_PAGE; j++) {
        double magnitudes = 0;
        shares[j] = 0;
        for (size_t d = 0; d < f->head_dim; d++) {
            double product = 4 * (double)q[d] * (double)f->k[d * KV_PAGE + j];
            shares[j] += product;
            magnitudes += fabs(product);
        }
        /* A sum in f32 is off by so much at most, and its exp in proportion. */
        errors[j] = expm1(2 * (double)f->head_dim * 0x1p-24 * magnitudes) + 2e-6;
        max = fmax(max, shares[j]);
    }
    for (size_t j = 0; j < KV_PAGE; j++)
        sum += shares[j] = exp(shares[j] - max) * (j < f->count ? 3 : 1);
    for (size_t j = 0; j < KV_PAGE; j++)
        shares[j] /= sum;
}

/* A state against double precision: every sum of V within what f32 may lose. What is no finite
 * number there is none here. */
static void exact(const char *what, const struct floats *f, const float *q, const float *state)
{
    double shares[KV_PAGE], errors[KV_PAGE];
    shares_of(f, q, shares, errors);
    for (size_t d = 0; d < f->head_dim; d++) {
        double found = (double)(state[d] / state[f->padded + 1]), out = 0, size = 0;
        for (size_t j = 0; j < KV_PAGE; j++) {
            out += shares[j] * (double)f->v[j * f->padded + d];
            size += shares[j] * fabs((double)f->v[j * f->padded + d]);
        }
        double allowed = 3 * KV_PAGE * (0x1p-24 * size + 2 * (double)FLT_TRUE_MIN);
        for (size_t j = 0; j < KV_PAGE; j++)
            if (shares[j] > 0)
                allowed += shares[j] * fabs((double)f->v[j * f->padded + d] - out) * errors[j];
        if (isfinite(out) ? !(fabs(found - out) <= allowed) : isfinite(found)) {
            printf("%s (%s): [%zu] is %.9g, expected %.9g within %.3g\n", what, fast->name, d,
                   found, out, allowed);
            failures++;
            return;
        }
    }
}

static void test_attend(enum llama3_kv_type type, enum heads kind, size_t queries, size_t head_dim,
                        size_t count)
{
    char what[80];
    size_t padded = round_up(head_dim, LANES), state = round_up(padded + 2, LANES);
    float *q = floats(queries * head_dim);
    /* A single score that is -infinity would leave nothing. */
    count = kind == K_INFINITE && count < 2 ? 2 : count;
    bool half = type == LLAMA3_KV_F16;
    float *heads = make_heads(kind, half, q, head_dim, padded, count);
    struct floats f = make_floats(heads, half, head_dim, padded, count);
    float *states[3] = {floats(queries * state), floats(queries * state), floats(queries * state)};

    struct attend_page a = {.head_dim = head_dim,
                            .padded_dim = padded,
                            .scale = 4,
                            .state_size = state,
                            .k = half ? (const void *)f.k16 : f.k,
                            .v = half ? (const void *)f.v16 : f.v,
                            .next = f.k};
    snprintf(what, sizeof what, "attend %s, heads %d, %zu queries of %zu, %zu positions",
             half ? "f16" : "f32", kind, queries, head_dim, count);
    attend_thrice(scalar, type, a, q, queries, count, states[0]);
    while (next_table()) {
        attend_thrice(fast, type, a, q, queries, count, states[1]);
        for (size_t i = 0; i < queries; i++) {
            exact(what, &f, q + i * head_dim, states[1] + i * state);
            if (kind < CODED && kind != LONG_TAIL) { /* whose sums of V have every size */
                near(what, states[1] + i * state, states[0] + i * state, head_dim, 16);
                near(what, states[1] + i * state + padded, states[0] + i * state + padded, 2, 16);
            }
            attend_thrice(fast, type, a, q + i * head_dim, 1, count, states[2] + i * state);
        }
        same(what, states[1], states[2], queries * state * sizeof(float));
    }
    free(q), free(heads), free(f.k), free(f.v), free(f.k16), free(f.v16);
    free(states[0]), free(states[1]), free(states[2]);
}

/* ---- attention to codes ------------------------------------------------------------------ */

struct codes {
    enum llama3_kv_type type;
    size_t head_dim, padded, queries, count;
    float *q;      /* [queries][head_dim] */
    float *heads;  /* as of make_heads */
    int8_t *k, *v; /* as attend_page says */
    float *scales[2];
    uint8_t (*nibbles)[KV_PAGE]; /* V in int4: [padded] codes, one by one, */
    int8_t (*steps)[KV_PAGE][2]; /* and [padded / 16] steps and bases */
};

static void make_codes(struct codes *c, enum heads kind)
{
    c->q = floats(c->queries * c->head_dim);
    c->heads = make_heads(kind, false, c->q, c->head_dim, c->padded, c->count);
    size_t v_bytes = kv_value_bytes(c->type, c->padded);
    c->k = size_alloc_aligned(c->head_dim + sizeof(float), KV_PAGE);
    c->v = size_alloc_aligned(v_bytes, KV_PAGE);
    c->nibbles = size_alloc(c->padded, sizeof *c->nibbles);
    c->steps = size_alloc(c->padded / 16, sizeof *c->steps);
    if (c->k == NULL || c->v == NULL || c->nibbles == NULL || c->steps == NULL)
        exit(2);
    c->scales[0] = (float *)(void *)(c->k + c->head_dim * KV_PAGE);
    c->scales[1] = (float *)(void *)(c->v + (v_bytes - sizeof(float)) * KV_PAGE);
}

/* A head of V in int4 to its slot, as it is stored and as attend_page lays it out. */
static void place_nibbles(struct codes *c, size_t slot, const uint8_t *row)
{
    static const size_t bytes[] = {0, 2, 1, 3}; /* of a word */
    size_t twos = (c->padded + 31) / 32;
    const uint8_t *steps = row + twos * 16;
    uint8_t *to = (uint8_t *)c->v + slot / 4 * twos * 64 + bytes[slot % 4];
    for (size_t i = 0; i < twos * 16; i++) {
        to[4 * i] = row[i];
        for (size_t half = 0; half < 2; half++)
            if (i / 16 * 32 + half * 16 + i % 16 < c->padded)
                c->nibbles[i / 16 * 32 + half * 16 + i % 16][slot] = row[i] >> 4 * half & 15;
    }
    to = (uint8_t *)c->v + KV_PAGE * twos * 16 + (slot / 2 * twos * 4 + slot % 2) * 2;
    for (size_t i = 0; i < 2 * twos; i++) {
        memcpy(to + 4 * i, steps + 2 * i, 2);
        if (i < c->padded / 16)
            memcpy(c->steps[i][slot], steps + 2 * i, 2);
    }
    memcpy(&c->scales[1][slot], steps + 4 * twos, sizeof(float));
}

/* V's number as an integer. */
static double value_code(const struct codes *c, size_t slot, size_t d)
{
    return c->type == LLAMA3_KV_INT4
               ? c->steps[d / 16][slot][0] * c->nibbles[d][slot] + 8 * c->steps[d / 16][slot][1]
               : c->v[(slot / 2 * c->padded + d) * 2 + slot % 2];
}

/* By the table's store, which is the scalar one's, bit by bit. */
static void store_heads(const struct kernels *kernels, struct codes *c, size_t slot)
{
    int8_t row[2][600];
    kernels->kv[c->type].store_k(c->heads + slot * c->padded, row[0], c->head_dim);
    kernels->kv[c->type].store_v(c->heads + (KV_PAGE + slot) * c->padded, row[1], c->head_dim);
    memcpy(&c->scales[0][slot], row[0] + c->head_dim, sizeof(float));
    for (size_t d = 0; d < c->head_dim; d++)
        c->k[(d / 2 * KV_PAGE + slot) * 2 + d % 2] = row[0][d];
    if (c->type == LLAMA3_KV_INT4) {
        place_nibbles(c, slot, (const uint8_t *)row[1]);
        return;
    }
    memcpy(&c->scales[1][slot], row[1] + c->head_dim, sizeof(float));
    for (size_t d = 0; d < c->head_dim; d++)
        c->v[(slot / 2 * c->padded + d) * 2 + slot % 2] = row[1][d];
}

/* In int4, a number is off by no more than half a step of its group, or where the range was cut, by
 * a sixteenth of it: no more than the largest of the head in all. */
static void check_values(const char *what, const struct codes *c)
{
    for (size_t j = 0; c->type == LLAMA3_KV_INT4 && j < KV_PAGE; j++) {
        const float *head = c->heads + (KV_PAGE + j) * c->padded;
        double scale = (double)c->scales[1][j];
        for (size_t first = 0; first < c->head_dim; first += 16) {
            double low = INFINITY, high = -INFINITY, squares = 0;
            for (size_t d = first; d < first + 16; d++) {
                double x = (double)head[d], off = fabs(value_code(c, j, d) * scale - x);
                low = fmin(low, x);
                high = fmax(high, x);
                squares += off * off;
            }
            /* Cutting nothing is one of the tries: half a step, and what its base, the step itself
             * and the integers are rounded by. */
            double most = (high - low + 8 * scale) / 30 + 9 * scale;
            if (!(squares <= 16 * most * most + 1e-30)) {
                printf("%s: a group of %g to %g is off by %g, expected %g\n", what, low, high,
                       sqrt(squares / 16), most);
                failures++;
                return;
            }
        }
    }
}

/* Some positions of the page, all, and some again, in double precision. */
static double codes_error(const struct codes *c, size_t query, const float *state)
{
    double scores[KV_PAGE], max = -INFINITY, sum = 0, worst = 0, largest = 0, step = 0;
    const float *q = c->q + query * c->head_dim;
    for (size_t d = 0; d < c->head_dim; d++)
        step = fmax(step, fabs((double)q[d]) / WIDE_CODE / 2);
    double off = 0;
    for (size_t j = 0; j < KV_PAGE; j++) {
        double magnitudes = 0;
        scores[j] = 0;
        for (size_t d = 0; d < c->head_dim; d++) {
            double k = c->k[(d / 2 * KV_PAGE + j) * 2 + d % 2] * (double)c->scales[0][j];
            scores[j] += 4 * k * (double)q[d];
            magnitudes += 4 * fabs(k) * step;
            largest =
                fmax(largest, (c->type == LLAMA3_KV_INT4 ? 952 : 127) * (double)c->scales[1][j]);
        }
        max = fmax(max, scores[j]);
        off = fmax(off, magnitudes);
    }
    for (size_t j = 0; j < KV_PAGE; j++)
        sum += scores[j] = exp(scores[j] - max) * (j < c->count ? 3 : 1);
    for (size_t d = 0; d < c->head_dim; d++) {
        double out = 0;
        for (size_t j = 0; j < KV_PAGE; j++)
            out += scores[j] / sum * value_code(c, j, d) * (double)c->scales[1][j];
        worst = fmax(worst, fabs(out - (double)(state[d] / state[c->padded + 1])));
    }
    /* Half a code of each weight, and of q; products smaller than a factor can be made of */
    return worst / (largest * (KV_PAGE * 0.5 / WIDE_CODE + 2 * off + 2e-5) + 1e-27);
}

static void test_codes(enum llama3_kv_type type, enum heads kind, size_t queries, size_t head_dim,
                       size_t count)
{
    char what[80];
    size_t padded = round_up(head_dim, LANES), state = round_up(padded + 2, LANES);
    struct codes c = {
        .type = type, .head_dim = head_dim, .padded = padded, .queries = queries, .count = count};
    size_t n = queries * state, k_bytes = KV_PAGE * (head_dim + sizeof(float)),
           v_bytes = KV_PAGE * kv_value_bytes(type, padded);
    float *states[3] = {floats(n), floats(n), floats(n)}, *q[2] = {NULL, NULL};
    make_codes(&c, kind);
    char *k = size_alloc_aligned(1, k_bytes), *v = size_alloc_aligned(1, v_bytes);
    snprintf(what, sizeof what, "%s, heads %d, %zu queries of %zu, %zu positions",
             type == LLAMA3_KV_INT8 ? "int8" : "int4", kind, queries, head_dim, count);
    for (size_t j = 0; j < KV_PAGE; j++)
        store_heads(scalar, &c, j);
    memcpy(k, c.k, k_bytes);
    memcpy(v, c.v, v_bytes);
    check_values(what, &c);
    for (int i = 0; i < 2; i++)
        q[i] = floats(queries * head_dim);
    struct attend_page a = {.head_dim = head_dim,
                            .padded_dim = padded,
                            .scale = 4,
                            .state_size = state,
                            .k = c.k,
                            .v = c.v,
                            .next = c.k};
    memcpy(q[0], c.q, queries * head_dim * sizeof(float));
    for (size_t i = 0; i < queries; i++)
        scalar->kv[type].prepare(q[0] + i * head_dim, head_dim);
    attend_thrice(scalar, type, a, q[0], queries, count, states[0]);
    while (next_table()) {
        memcpy(q[1], c.q, queries * head_dim * sizeof(float));
        for (size_t j = 0; j < KV_PAGE; j++)
            store_heads(fast, &c, j);
        same(what, c.k, k, k_bytes);
        same(what, c.v, v, v_bytes);
        attend_thrice(fast, type, a, q[0], queries, count, states[1]);
        for (size_t i = 0; i < queries; i++) {
            fast->kv[type].prepare(q[1] + i * head_dim, head_dim);
            same(what, q[1] + i * head_dim, q[0] + i * head_dim, 2 * head_dim + sizeof(float));
            near(what, states[1] + i * state, states[0] + i * state, head_dim, 200);
            near(what, states[1] + i * state + padded, states[0] + i * state + padded, 2, 16);
            if (!(codes_error(&c, i, states[1] + i * state) <= 1)) {
                printf("%s (%s): %g of the error allowed\n", what, fast->name,
                       codes_error(&c, i, states[1] + i * state));
                failures++;
            }
            attend_thrice(fast, type, a, q[0] + i * head_dim, 1, count, states[2] + i * state);
        }
        same(what, states[1], states[2], n * sizeof(float));
    }
    /* A number of K that is none, or no finite one, is no number in the result. */
    for (int infinite = 0; infinite < 2; infinite++) {
        float *bad = &c.heads[count / 2 * padded + head_dim / 2], was = *bad;
        while (next_table()) {
            *bad = infinite ? INFINITY : NAN;
            store_heads(fast, &c, count / 2);
            attend_thrice(fast, type, a, q[0], queries, count, states[1]);
            for (size_t i = 0; i < queries; i++)
                if (isfinite(states[1][i * state] / states[1][i * state + padded + 1])) {
                    printf("%s (%s): infinity became a number\n", what, fast->name);
                    failures++;
                }
            *bad = was;
            store_heads(fast, &c, count / 2);
        }
    }
    free(states[0]), free(states[1]), free(states[2]), free(q[0]), free(q[1]), free(k), free(v);
    free(c.q), free(c.heads), free(c.k), free(c.v), free(c.nibbles), free(c.steps);
}

/* ---- element by element ------------------------------------------------------------------ */

static void test_elements(size_t n)
{
    size_t padded = round_up(n, LANES);
    float *x = floats(padded), *w = floats(padded), *a = floats(padded), *b = floats(padded);
    for (size_t i = n; i < padded; i++)
        x[i] = w[i] = 0;

    scalar->norm(x, w, 1e-5f, b, n);
    while (next_table()) {
        fast->norm(x, w, 1e-5f, a, n);
        near("norm", a, b, n, 4);
    }
    memcpy(b, x, padded * sizeof *x);
    scalar->add(b, w, padded);
    while (next_table()) {
        memcpy(a, x, padded * sizeof *x);
        fast->add(a, w, padded);
        same("add", a, b, padded * sizeof *a);
    }

    static const float extremes[] = {0, -0.0f, 88, -88, 87.3f, -87.3f, 1e30f, -1e30f, 1e-38f, 200};
    for (size_t i = 0; i < padded; i++)
        x[i] = i < 10 ? extremes[i] : x[i] * 8;
    memcpy(b, x, padded * sizeof *x);
    scalar->swiglu(b, w, padded);
    while (next_table()) {
        memcpy(a, x, padded * sizeof *x);
        fast->swiglu(a, w, padded);
        near("swiglu", a, b, padded, 0.3);
    }

    uint16_t *half = size_alloc_aligned(padded, 2), *twin = size_alloc_aligned(padded, 2);
    if (half == NULL || twin == NULL)
        exit(2);
    for (size_t i = 0; i < padded; i++)
        x[i] = ldexpf(random_float(), (int)(i % 48) - 30);
    scalar->kv[LLAMA3_KV_F16].store_k(x, twin, padded);
    while (next_table()) {
        fast->kv[LLAMA3_KV_F16].store_k(x, half, padded);
        same("store_f16", half, twin, padded * sizeof *half);
    }
    free(x), free(w), free(a), free(b), free(half), free(twin);
}

static void test_wide(size_t rank, size_t tokens, size_t cols)
{
    size_t stride = cols + LANES, x_stride = rank + 3;
    float *w = floats(rank * stride), *x = floats(tokens * x_stride);
    size_t bytes = tokens * stride * sizeof *w;
    float *start = floats(tokens * stride), *y = floats(tokens * stride);
    float *twin = floats(tokens * stride);
    struct wide_block block = {w, stride, x, x_stride, twin, stride, rank, tokens, cols};
    memcpy(twin, start, bytes);
    scalar->add_wide(&block);
    block.y = y;
    while (next_table()) {
        memcpy(y, start, bytes);
        fast->add_wide(&block);
        same("add_wide", y, twin, bytes);
    }
    free(w), free(x), free(start), free(y), free(twin);
}

/* Any bytes are blocks of some weights; NaN for NaN is enough. */
static void test_expand(enum dtype type)
{
    const struct dtype_info *info = dtype_info(type);
    size_t n = 3 * 256 + (info->block == 1 ? 5 : 0), bytes = dtype_row_bytes(type, n);
    unsigned char *blocks = malloc(bytes + 1);
    float *a = floats(n), *b = floats(n);

    if (blocks == NULL)
        exit(2);
    for (int round = 0; round < 50; round++) {
        for (size_t i = 0; i <= bytes; i++)
            blocks[i] = (unsigned char)pick(256);
        dtype_expand(type, blocks + 1, b, n);
        while (next_table()) {
            if (fast->expand[type] == NULL)
                continue;
            fast->expand[type](blocks + 1, a, n);
            for (size_t i = 0; i < n; i++)
                if (isnan(a[i]) && isnan(b[i]))
                    a[i] = b[i];
            same(info->name, a, b, n * sizeof *a);
        }
    }
    free(blocks), free(a), free(b);
}

/* ---- integers ---------------------------------------------------------------------------- */

struct integers {
    enum dtype type;
    struct group_format format;
    size_t rows, tokens, cols;
};

/* Any bytes are codes; scales and offsets are numbers. */
static uint8_t *random_strips(const struct integers *t)
{
    struct strip_layout l = strip_layout(t->type, &t->format, t->cols);
    size_t strips = (t->rows + STRIP - 1) / STRIP;
    uint8_t *out = size_alloc_aligned(strips, l.bytes);
    if (out == NULL)
        exit(2);
    for (size_t i = 0; i < strips * l.bytes; i++)
        out[i] = (uint8_t)pick(256);
    for (size_t i = 0; i < strips; i++) {
        uint8_t *strip = out + i * l.bytes;
        for (size_t j = 0; j < STRIP; j++)
            memcpy(strip + j * 4, &(float){random_float()}, 4);
        for (size_t j = 0; j < l.numbers * STRIP; j++) {
            uint16_t half = f32_to_f16(random_float());
            if (t->format.scale == GROUP_SCALE_F16)
                memcpy(strip + l.scales + j * 2, &half, 2);
            half = f32_to_f16(random_float());
            if (t->format.offset && t->format.scale != GROUP_SCALE_BLOCK)
                memcpy(strip + l.offsets + j * 2, &half, 2);
        }
        for (size_t at = l.block_scales; at < l.bytes; at += sizeof(float))
            memcpy(strip + at, &(float){random_float()}, sizeof(float));
    }
    return out;
}

/* All of y by calls for the given numbers of strips and tokens. */
static void integer_product(const struct kernels *kernels, const struct integers *t,
                            const uint8_t *strips, const float *x, size_t rows, size_t tokens,
                            float *y)
{
    size_t stride = round_up(t->cols, LANES), groups = (t->cols + GROUP - 1) / GROUP;
    size_t room = round_up(t->tokens, 12) + 12;
    struct quantized q = {
        .codes = size_alloc_aligned(room * groups, GROUP),
        .numbers = size_alloc_aligned(room * groups * ACT_NUMBERS, sizeof(float)),
        .halves = t->format.cols >= GROUP
                      ? NULL
                      : size_alloc_aligned(room * groups * 2 * HALF_NUMBERS, sizeof(float)),
        .scales = size_alloc_aligned(room, sizeof(float)),
        .tile = quantized_tile(kernels, t->tokens),
        .groups = groups,
    };
    struct group_block b = {.type = t->type,
                            .format = &t->format,
                            .layout = strip_layout(t->type, &t->format, t->cols),
                            .x = q,
                            .y_stride = t->rows,
                            .scratch = size_alloc_aligned(1, sizeof *b.scratch)};

    if (q.codes == NULL || q.numbers == NULL || q.scales == NULL || b.scratch == NULL)
        exit(2);
    tokens = round_up(tokens, q.tile);
    for (size_t i = 0; i < t->tokens; i++) {
        struct quantized row = quantized_at(q, i, 0);
        kernels->quantize(x + i * stride, t->cols, &row);
    }
    for (size_t row = 0; row < t->rows; row += rows)
        for (b.token = 0; b.token < t->tokens; b.token += tokens) {
            b.strips = strips + row / STRIP * b.layout.bytes;
            b.rows = t->rows - row < rows ? t->rows - row : rows;
            b.tokens = t->tokens - b.token < tokens ? t->tokens - b.token : tokens;
            b.y = y + b.token * t->rows + row;
            kernels->linear_groups(&b);
        }
    free(q.codes), free(q.numbers), free(q.halves), free(q.scales), free(b.scratch);
}

/* All tables, and all cuts, give the bits of the scalar twin. */
static void test_integers(struct integers t)
{
    char what[100];
    size_t stride = round_up(t.cols, LANES), n = t.rows * t.tokens;
    float *x = floats(t.tokens * stride), *y = floats(n), *twin = floats(n);
    uint8_t *strips = random_strips(&t);

    for (size_t i = 0; i < t.tokens * stride; i++)
        x[i] = i % stride < t.cols ? x[i] : 0;
    /* The largest codes, so that sums are the largest. */
    for (size_t i = 0; t.tokens > 1 && i < t.cols; i++)
        x[(t.tokens - 1) * stride + i] = 1;
    snprintf(what, sizeof what, "%s, %s scales%s of %zu columns, %zu rows, %zu tokens, %zu columns",
             dtype_info(t.type)->name, group_scale_names[t.format.scale],
             t.format.offset ? " and offsets" : "", t.format.cols, t.rows, t.tokens, t.cols);
    integer_product(&kernels_scalar_int8, &t, strips, x, t.rows, t.tokens, twin);
    while (next_table()) {
        /* The scalar twin computes each number by itself: it is cut where that is quick. */
        if (fast->linear_groups == NULL || (fast == &kernels_scalar_int8 && n * t.cols > 1 << 17))
            continue;
        integer_product(fast, &t, strips, x, t.rows, t.tokens, y);
        same(what, y, twin, n * sizeof *y);
        integer_product(fast, &t, strips, x, STRIP * (1 + pick(5)), 1 + pick(t.tokens), y);
        same(what, y, twin, n * sizeof *y);
        for (size_t i = 0; i < t.tokens; i += 1 + t.tokens / 3) {
            struct integers one = t;
            one.tokens = 1;
            integer_product(fast, &one, strips, x + i * stride, t.rows, 1, y);
            same(what, y, twin + i * t.rows, t.rows * sizeof *y);
        }
    }
    free(x), free(y), free(twin), free(strips);
}

/* Levels that are `span` apart at most; every other time nearly all of them are. */
static void pick_levels(struct group_format *format)
{
    static const size_t spans[] = {255, 15, 16, 17, 32, 33};
    size_t span = spans[pick(6)], extreme = pick(2);
    int least = (int)pick(256 - span) - 128;
    for (size_t i = 0; i < 16; i++)
        format->codebook[i] = (int8_t)(least + (int)(extreme ? span : pick(span + 1)));
    format->codebook[pick(16)] = (int8_t)least;
}

static void test_all_integers(void)
{
    struct integers t = {.type = DTYPE_INT4};
    for (int kind = 0; kind < 2 * GROUP_SCALES * 2 * 4; kind++) {
        t.type = kind % 2 == 0 ? DTYPE_INT4 : DTYPE_INT8;
        t.format =
            (struct group_format){.scale = (enum group_scale)(kind / 2 % GROUP_SCALES),
                                  .offset = kind / (2 * GROUP_SCALES) % 2 == 1,
                                  .cols = (size_t)GROUP_COLS_LEAST << kind / (4 * GROUP_SCALES)};
        for (t.tokens = 1; t.tokens <= 40; t.tokens += 1 + t.tokens / 20) {
            pick_levels(&t.format);
            t.rows = 1 + pick(60);
            t.cols = t.tokens % 3 == 0 ? 1 + pick(600) : 32 * (1 + pick(24));
            test_integers(t);
        }
        pick_levels(&t.format);
        t.rows = STRIP + 1, t.cols = 14336, t.tokens = 13;
        test_integers(t);
        pick_levels(&t.format);
        /* Enough to have weights expanded, of a strip more than go side by side; several pieces. */
        t.rows = 33 + pick(12), t.cols = 4096 + 1 + pick(600), t.tokens = 48 + pick(14);
        test_integers(t);
        /* A piece that ends early, so that the next one begins inside a group and a block. */
        t.rows = 33 + pick(12), t.cols = 4096 + 32 * (1 + pick(40)), t.tokens = 1;
        test_integers(t);
    }
}

/* Activations to codes: nothing, tiny, huge, not a number. */
static void test_quantize(void)
{
    enum { GROUPS = 9, N = GROUPS * GROUP - 16, TILE = 3 };
    static const float specials[] = {0, FLT_TRUE_MIN, 0x1p-100f, 0x1p100f, FLT_MAX, INFINITY, NAN};
    float *x = floats(N);
    for (int special = 0; special < 7; special++)
        for (size_t round = 0; round < 8; round++) {
            int8_t codes[2][GROUPS * GROUP * TILE] = {0};
            float numbers[2][GROUPS * ACT_NUMBERS * TILE] = {0}, scales[2][TILE] = {0};
            float halves[2][GROUPS * 2 * HALF_NUMBERS * TILE] = {0};
            const struct quantized q[2] = {
                {codes[0], numbers[0], halves[0], scales[0], TILE, GROUPS},
                {codes[1], numbers[1], halves[1], scales[1], TILE, GROUPS}};
            for (size_t i = 0; i < N; i++)
                x[i] = i < GROUP ? 0 : ldexpf(random_float(), (int)round * 4 - 16);
            x[3 + round] = specials[special];
            x[N - 1 - round] = -x[3 + round];
            kernels_scalar_int8.quantize(x, N, &q[1]);
            while (next_table()) {
                if (fast->linear_groups == NULL)
                    continue;
                fast->quantize(x, N, &q[0]);
                if (isnan(scales[0][0]) && isnan(scales[1][0]))
                    scales[0][0] = scales[1][0];
                same("quantize: codes", codes[0], codes[1], sizeof codes[0]);
                same("quantize: numbers", numbers[0], numbers[1], sizeof numbers[0]);
                same("quantize: halves", halves[0], halves[1], sizeof halves[0]);
                same("quantize: scales", scales[0], scales[1], sizeof scales[0]);
                memset(codes[0], 0, sizeof codes[0]);
                memset(numbers[0], 0, sizeof numbers[0]);
                memset(halves[0], 0, sizeof halves[0]);
                memset(scales[0], 0, sizeof scales[0]);
            }
        }
    free(x);
}

/* ---- quantizing -------------------------------------------------------------------------- */

struct search_results {
    float found[STRIP], steps[STRIP], chosen[STRIP];
    struct group_codes codes, fed_back;
    float *errors; /* [GROUP][stride of the search] */
};

static void search_all(const struct kernels *kernels, const struct group_search *search,
                       const float *weights, const float *factors, struct search_results *out)
{
    struct group_feedback feedback = {weights, out->errors, factors};
    float row_scales[STRIP];
    kernels->search_scales(search, out->found);
    for (size_t lane = 0; lane < STRIP; lane++)
        row_scales[lane] = lane < 5 || out->found[lane] == 0 ? 1 : out->found[lane] / 77.7f;
    memcpy(out->steps, out->found, sizeof out->found);
    kernels->search_steps(search, row_scales, out->steps);
    kernels->search_codes(search, row_scales, out->steps, &out->codes);
    memcpy(out->chosen, out->found, sizeof out->found);
    kernels->search_feedback(search, &feedback, row_scales, out->chosen, &out->fed_back);
}

/* Groups of any size, with zeros, outliers, and columns that don't matter. */
static void test_search(enum dtype type)
{
    struct codebook table;
    size_t stride = STRIP + 3;
    float *x = floats(GROUP * stride), *importance = floats(GROUP);
    float *weights = floats(GROUP * stride), *factors = floats(GROUP * GROUP);
    float *errors = floats(GROUP * stride);
    struct search_results twin = {.errors = floats(GROUP * stride)};

    codebook_fill(&table, group_codebook);
    for (size_t i = 0; i < GROUP * stride; i++)
        x[i] = pick(5) == 0 ? 0 : ldexpf(x[i], (int)(i % stride) * -5) * (pick(40) == 0 ? 9 : 1);
    for (size_t i = 0; i < GROUP; i++)
        importance[i] = pick(9) == 0 ? 0 : importance[i] * importance[i];
    for (size_t lane = 0; lane < 2; lane++)
        for (size_t col = 0; col < GROUP; col++)
            x[col * stride + lane] = lane == 0 ? 0 : -0.0f;
    struct group_search search = {type, &table, x, stride, importance};
    search_all(scalar, &search, weights, factors, &twin);
    while (next_table()) {
        struct search_results r = {.errors = errors};
        if (fast->search_feedback == scalar->search_feedback)
            continue;
        search_all(fast, &search, weights, factors, &r);
        same("search_scales", r.found, twin.found, sizeof r.found);
        same("search_steps", r.steps, twin.steps, sizeof r.steps);
        same("search_codes", &r.codes, &twin.codes, sizeof r.codes);
        same("search_feedback: scales", r.chosen, twin.chosen, sizeof r.chosen);
        same("search_feedback", &r.fed_back, &twin.fed_back, sizeof r.fed_back);
        for (size_t col = 0; col < GROUP; col++)
            same("search_feedback: errors", r.errors + col * stride, twin.errors + col * stride,
                 STRIP * sizeof(float));
    }
    free(x), free(importance), free(weights), free(factors), free(errors), free(twin.errors);
}

static void test_all(void)
{
    static const size_t dims[] = {64, 80, 128, 2, 20}, groups[] = {1, 3, 4, 8, 11, 13};

    for (size_t tokens = 1; tokens <= 33; tokens++)
        for (int type = 0; type < TYPES_READ; type++)
            test_linear((enum dtype)type, 1 + pick(41), tokens, LANES * (1 + pick(40)));
    for (int type = 0; type < TYPES_READ; type++)
        test_linear((enum dtype)type, 9, 7, 14336);
    while (next_table())
        for (size_t tokens = 1; fast->linear_bf16_products != NULL && tokens < 20; tokens++)
            test_pairs(1 + pick(41), tokens, BF16_COLS * (1 + pick(40)));
    for (size_t dim = 0; dim < 5; dim++)
        for (size_t group = 0; group < 6; group++)
            for (int kind = 0; kind < 2 * N_HEADS; kind++)
                test_attend(kind % 2 == 0 ? LLAMA3_KV_F16 : LLAMA3_KV_F32, (enum heads)(kind / 2),
                            groups[group], dims[dim], 1 + pick(KV_PAGE));
    for (size_t dim = 0; dim < 5; dim++)
        for (size_t group = 0; group < 6; group++)
            for (int kind = 0; kind < CODED; kind++)
                for (int type = LLAMA3_KV_INT8; type <= LLAMA3_KV_INT4; type++)
                    test_codes((enum llama3_kv_type)type, (enum heads)kind, groups[group],
                               dims[dim], 1 + pick(KV_PAGE));
    for (size_t n = 1; n < 200; n += 1 + n / 3)
        test_elements(n);
    for (size_t tokens = 1; tokens < 12; tokens++)
        test_wide(1 + pick(40), tokens, LANES * (1 + pick(9)));
    for (int type = 0; type < DTYPE_ROWS; type++)
        test_expand((enum dtype)type);
    test_all_integers();
    test_quantize();
    for (int round = 0; round < 50; round++)
        for (int type = DTYPE_INT4; type <= DTYPE_INT8; type++)
            test_search((enum dtype)type);
}

int main(void)
{
    static const char *const names[] = {"scalar", "scalar-int8", "avx2", "avxvnni", "avx512vl",
                                        "avx512", "avx512bf16",  "neon", "dotprod"};

    for (size_t i = 0, n = 0; i < sizeof names / sizeof names[0]; i++) {
        struct llama3_error err;
        setenv("LLAMA3_CPU", names[i], 1);
        tables[n] = kernels_choose(&err);
        if (tables[n] == NULL)
            continue;
        printf("%s\n", names[i]);
        n++;
    }
    test_all();
    printf("%d failures\n", failures);
    return failures > 0;
}
