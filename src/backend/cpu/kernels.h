/* SPDX-License-Identifier: MIT */
/*
 * kernels.h: the leaf kernels, a table for each instruction set, and what they share.
 *
 * A kernel runs on one thread, on memory that it is given; ops.c, linear.c and attend.c split the
 * work. The result of one element never depends on what is computed beside it, so any split gives
 * the same bits: sums run over at most LANES lanes in ascending order, and a fixed tree adds the
 * lanes. Tables differ in this order, and agree to rounding.
 *
 * Rows of f32 are 64-byte aligned and padded with zeros to a multiple of LANES, so there are no
 * tails. Weights and KV pages may have any alignment.
 */
#ifndef BACKEND_CPU_KERNELS_H
#define BACKEND_CPU_KERNELS_H

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "backend/backend.h"
#include "quant/activation.h"
#include "quant/block.h"
#include "quant/group.h"
#include "quant/search.h"

enum {
    LANES = 16,     /* floats in the widest vector of any table */
    ROW_TILE = 4,   /* rows of W in registers, at least */
    FEW_TOKENS = 3, /* up to so many, linear of any table reads each weight once */
    BF16_COLS = 32, /* numbers of 16 bits in the widest vector */
    TYPES_READ = 3  /* f32, f16 and bf16 weights are read as stored */
};

static inline size_t round_up(size_t n, size_t multiple)
{
    return (n + multiple - 1) / multiple * multiple;
}

/* A block of y = W x: some columns of some rows, for some tokens. */
struct linear_block {
    const void *w; /* [rows], w_stride bytes apart */
    size_t w_stride;
    const void *x; /* [tokens], x_stride elements apart: f32, or bf16 for linear_bf16_products */
    size_t x_stride;
    size_t rows, tokens;
    size_t cols; /* a multiple of LANES */
    /* Partial sums between the blocks of a row, in an order of the table's own. */
    float *partial; /* [round_up(rows, ROW_TILE)][tokens][LANES] */
    bool first;     /* start from zero, not from the partial sums */
    bool last;      /* add the lanes up into y */
    float *y;       /* y[token * y_stride + row] */
    size_t y_stride;
};

/*
 * Integer products. Activations are quantized to int8 (quant/activation.h). Products inside GROUP
 * columns, or 16 where the weights' groups have 16, are summed exactly in int32; then, in f32, in
 * ascending order of columns, from y = 0:
 *
 *     y = fma(sum * 2^k, weights' scale, y)
 *     y = fma(weights' offset, codes' sum * 2^k, y)  if there are offsets
 *
 * and at the end (y * row_scale) * x scale. A scale or offset of int8 with blocks is (float)int8 *
 * block, rounded, before it is used. Groups of 64 and 128 columns use theirs 2 and 4 times. The
 * order is the same for any number of tokens and in every table, so all tables give the same bits.
 *
 * A prompt is bound by multiplications, so there is only one for each 32 products: the int32
 * becomes f32 by one exact subtraction.
 */
enum {
    GROUP_COLS = 4096, /* columns at a time */
    GROUP_STRIPS = 2,  /* strips multiplied side by side */
    GROUP_TOKENS = 532 /* tokens of a call at most */
};

/* Quantized rows. Tokens that are multiplied together lie together: every array is
 * [tokens / tile][...][tile], where 4 codes are one element. */
struct quantized {
    int8_t *codes;  /* [tokens / tile][groups * GROUP / 4][tile][4] zero beyond cols */
    float *numbers; /* [tokens / tile][groups][ACT_NUMBERS][tile] */
    float *halves;  /* [tokens / tile][groups][2][HALF_NUMBERS][tile], NULL: nothing reads them */
    float *scales;  /* [tokens] */
    size_t tile;    /* tokens: quantized_tile() */
    size_t groups;
};

enum act_number {
    ACT_START, /* base - 128 * the codes' sum * 2^k: for weights that are larger by 128 */
    ACT_BASE,  /* activation_base(k) */
    ACT_TOTAL, /* the codes' sum * 2^k */
    ACT_NUMBERS
};

/* The same of each half of a group, for weights in groups of 16 columns. */
enum half_number { HALF_START, HALF_TOTAL, HALF_NUMBERS };

/* Where a token's elements begin; its next element is `tile` elements on. */
static inline struct quantized quantized_at(struct quantized q, size_t token, size_t group)
{
    size_t first = token / q.tile * q.tile * q.groups, i = token % q.tile;
    q.codes += (first + group * q.tile) * GROUP + i * 4;
    q.numbers += (first + group * q.tile) * ACT_NUMBERS + i;
    if (q.halves != NULL)
        q.halves += (first + group * q.tile) * 2 * HALF_NUMBERS + i;
    q.scales += token;
    return q;
}

/* Stores the numbers of q's first group. sums: of the codes of each half. */
static inline void activation_numbers(const struct quantized *q, int k, const float sums[2])
{
    float power = power_of_two(k), base = activation_base(k), sum = sums[0] + sums[1];
    q->numbers[ACT_START * q->tile] = base - 128 * sum * power;
    q->numbers[ACT_BASE * q->tile] = base;
    q->numbers[ACT_TOTAL * q->tile] = sum * power;
    for (size_t i = 0; q->halves != NULL && i < 2; i++) {
        float *half = q->halves + i * HALF_NUMBERS * q->tile;
        half[HALF_START * q->tile] = base - 128 * sums[i] * power;
        half[HALF_TOTAL * q->tile] = sums[i] * power;
    }
}

/* What a thread needs beside its operands. */
struct group_scratch {
    float sums[GROUP_STRIPS][GROUP_TOKENS * STRIP];
    /* A piece of the strips, expanded: codes laid out as int8, and numbers [groups][STRIP] or, of
     * 16 columns, [groups][2][STRIP]. */
    uint8_t codes[GROUP_STRIPS][GROUP_COLS * STRIP];
    float scales[GROUP_STRIPS][GROUP_COLS / GROUP_COLS_LEAST * STRIP];
    float offsets[GROUP_STRIPS][GROUP_COLS / GROUP_COLS_LEAST * STRIP];
} __attribute__((aligned(64)));

/* Rows of a grouped matrix times tokens. */
struct group_block {
    enum dtype type;
    const struct group_format *format;
    struct strip_layout layout;
    const uint8_t *strips; /* 64-byte aligned */
    size_t rows;           /* in these strips; the last may be shorter */
    const uint8_t *next;   /* the strip that is read after them, to be prefetched */
    struct quantized x;    /* the tokens [token, token + tokens) of it */
    size_t token, tokens;  /* token: a multiple of x.tile; tokens: at most GROUP_TOKENS */
    float *y;              /* y[token * y_stride + row] */
    size_t y_stride;
    struct group_scratch *scratch;
};

/* What the second factor of an adapter adds to some columns: y[token] += the sum of x[token][k] *
 * w[k] over k, ascending from 0, each product rounded before it is added. */
struct wide_block {
    const float *w; /* [rank], w_stride elements apart */
    size_t w_stride;
    const float *x; /* [tokens][rank], x_stride elements apart */
    size_t x_stride;
    float *y; /* [tokens], y_stride elements apart */
    size_t y_stride;
    size_t rank, tokens, cols; /* cols: a multiple of LANES */
};

/* A step of online softmax (Milakov and Gimelshein 2018, arXiv:1805.02867): queries that share a KV
 * head attend to the first `count` positions of a page. */
struct attend_page {
    const void *k; /* [head_dim][KV_PAGE]; codes: [head_dim / 2][KV_PAGE][2], scales [KV_PAGE] */
    /* [KV_PAGE][padded_dim]; int8: [KV_PAGE / 2][padded_dim][2], scales [KV_PAGE]; int4: as
     * struct nibble_page says */
    const void *v;
    const void *next; /* K that is attended next, to be prefetched; of any page at the end */
    size_t head_dim, padded_dim;
    size_t count; /* 1..KV_PAGE */
    size_t n_queries;
    const float *q; /* [n_queries][head_dim], as `prepare` leaves it */
    float scale;    /* of the scores */
    /* [n_queries][state_size]: padded_dim sums of exp(score - max) * V, then the largest score max
     * so far (-infinity at first), then the sum of exp(score - max). */
    float *states;
    size_t state_size;
};

/* The largest codes of K and V, and of what they are multiplied by: MAX_HEAD_DIM products, or those
 * of a page, have a sum of 32 bits. */
enum { KV_CODE = 127, WIDE_CODE = 32767 };

/* V of a page in int4. Words of 32 bits hold the codes of a column and of the one KV_GROUP columns
 * on, at four positions: 0 in the lowest byte, then 2, 1, 3; the first column's in the low bits.
 * So pairs of positions are 16 bits apart, and a byte is of one position. */
struct nibble_page {
    const char *codes;   /* [KV_PAGE / 4][columns / 32][16] words */
    const int8_t *steps; /* [KV_PAGE / 2][columns / 16][2] of (step, base) */
    const float *scales; /* [KV_PAGE] */
    size_t columns;      /* kv_group_columns() */
};

static inline struct nibble_page nibble_page(const void *v, size_t padded_dim)
{
    struct nibble_page page = {.codes = v, .columns = kv_group_columns(padded_dim)};
    page.steps = (const int8_t *)v + KV_PAGE / 2 * page.columns;
    page.scales = (const float *)(const void *)(page.steps + KV_PAGE * 2 * page.columns / KV_GROUP);
    return page;
}

/* Where a position's byte lies in its words. */
static inline size_t nibble_byte(size_t position)
{
    return position % 2 * 2 + position / 2 % 2;
}

/* int4's search: numbers become integers of at most VALUE_CODE, so that sums of squares are exact
 * and every table finds the same. A group's range is cut at either end by up to VALUE_CUTS - 1 of
 * VALUE_PARTS of it, and the first of the ranges with the least error is taken. */
enum {
    VALUE_CODE = 952,
    VALUE_STEP = 127,
    VALUE_CUTS = 4,
    VALUE_TRIES = VALUE_CUTS * VALUE_CUTS,
    VALUE_PARTS = 48
};

struct value_range {
    float step, base;
};

static inline struct value_range value_range(float low, float high, int k)
{
    struct value_range r;
    float part = (high - low) * (1.0f / VALUE_PARTS);
    float first = low + part * (float)(k % VALUE_CUTS);
    float last = high - part * (float)(k / VALUE_CUTS);
    r.base = floorf(first * (1.0f / KV_BASE));
    r.step = rintf((last - KV_BASE * r.base) * (1.0f / 15));
    r.step = r.step < 1 ? 1 : r.step > VALUE_STEP ? VALUE_STEP : r.step;
    return r;
}

/* For codes up to `most`: the scale, and what numbers are multiplied by to become codes. Numbers
 * too small for a factor are zero; those that aren't finite make a scale that isn't, and no codes.
 */
static inline float code_scale(float max, float most, float *factor)
{
    bool coded = max >= 1e-30f && max <= FLT_MAX;
    *factor = coded ? most / max : 0;
    return coded ? max * (1 / most) : max - max;
}

struct kernels {
    const char *name;
    const char *description; /* "cpu (avx2)" */

    /* W as stored. */
    void (*linear[TYPES_READ])(const struct linear_block *block);
    /* bf16 weights times bf16 activations, which to_bf16 makes; cols: a multiple of BF16_COLS.
     * NULL: linear[DTYPE_BF16] is used, with f32 activations. */
    void (*linear_bf16_products)(const struct linear_block *block);
    void (*to_bf16)(const float *in, uint16_t *out, size_t n); /* n: a multiple of BF16_COLS */
    /* Weights to f32, the bits of dtype_expand, which is used where this is NULL. n: a multiple of
     * the type's block. */
    void (*expand[DTYPE_ROWS])(const void *blocks, float *out /* [n] */, size_t n);
    /* NULL: this table has no integer kernels. */
    void (*linear_groups)(const struct group_block *block);
    size_t group_tile; /* tokens of a tile, */
    size_t group_most; /* but up to so many tokens are one tile */
    /* One row of n numbers, padded with zeros to a multiple of LANES, to token 0 of q. */
    void (*quantize)(const float *x, size_t n, const struct quantized *q);
    /* The same bits on every table. */
    void (*add_wide)(const struct wide_block *block);
    /* x += d */
    void (*add)(float *x, const float *d, size_t n);
    /* y = x * w / sqrt(mean(x^2) + eps), the mean over n; padded as n is. */
    void (*norm)(const float *x, const float *w, float eps, float *y, size_t n);
    /* gate = gate / (1 + exp(-gate)) * up; n: a multiple of LANES. */
    void (*swiglu)(float *gate, const float *up, size_t n);
    /* By enum llama3_kv_type. */
    struct {
        void (*attend)(const struct attend_page *page);
        /* A head of K, and of V, zeros up to a multiple of LANES, to what is stored, which ends
         * with its scale if it has one; NULL: f32 as it is. */
        void (*store_k)(const float *in, void *out, size_t n);
        void (*store_v)(const float *in, void *out, size_t n);
        /* A query in place; NULL: f32 as it is. Codes: [n] of 16 bits, and their scale. */
        void (*prepare)(float *q, size_t n);
    } kv[KV_TYPES];
    /* The bits of quant/search.h. */
    void (*search_scales)(const struct group_search *search, float *scales);
    void (*search_steps)(const struct group_search *search, const float *row_scales, float *scales);
    void (*search_codes)(const struct group_search *search, const float *row_scales,
                         const float *scales, struct group_codes *out);
    void (*search_feedback)(const struct group_search *search,
                            const struct group_feedback *feedback, const float *row_scales,
                            float *scales, struct group_codes *out);
    /* Of quant/block.h; the same bits on every table. */
    block_fit *block_fit;
    block_choose *block_choose;
};

/* Tokens of a tile: tiles are about equal, and no larger than the table wants. */
static inline size_t quantized_tile(const struct kernels *kernels, size_t tokens)
{
    size_t tiles = (tokens + kernels->group_tile - 1) / kernels->group_tile;
    return tokens <= kernels->group_most ? tokens : (tokens + tiles - 1) / tiles;
}

/* The table that $LLAMA3_CPU names, else the best that this CPU and operating system can run. */
const struct kernels *kernels_choose(struct llama3_error *err);

extern const struct kernels kernels_scalar, kernels_scalar_int8, kernels_avx2, kernels_avxvnni,
    kernels_avx512vl, kernels_avx512, kernels_avx512bf16, kernels_neon, kernels_dotprod;

#endif
