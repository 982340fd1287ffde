/* SPDX-License-Identifier: MIT */
/*
 * kernels.c: how fast `linear` and `attend` are on this machine, next to what it can give: a plain
 * read of memory, and multiply-adds in registers. LLAMA3_CPU chooses the table.
 *
 *     make bench/kernels && bench/kernels [threads]
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backend/backend.h"

enum { MAX_ROWS = 512, CONTEXT = 8192 };

static const struct backend_ops *ops;
static struct backend *backend;
static struct kv *kv;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *need(void *pointer, const struct llama3_error *err)
{
    if (pointer == NULL) {
        fprintf(stderr, "kernels: %s\n", err->message);
        exit(1);
    }
    return pointer;
}

static void need_ok(int status, const struct llama3_error *err)
{
    need(status == 0 ? &ops : NULL, err);
}

/* Best of a few runs, in seconds. */
static double measure(void (*fn)(void *arg), void *arg, double enough)
{
    double best = HUGE_VAL, end = now() + enough;
    ops->run(backend, fn, arg);
    do {
        double start = now();
        ops->run(backend, fn, arg);
        double spent = now() - start;
        best = spent < best ? spent : best;
    } while (now() < end);
    return best;
}

static void set_batch(size_t n, size_t position)
{
    static struct batch_row rows[MAX_ROWS];
    struct llama3_error err;
    for (size_t i = 0; i < n; i++)
        rows[i] = (struct batch_row){.position = (int32_t)(position + i)};
    struct batch batch = {.n_rows = n, .rows = rows, .n_seqs = 1, .seqs = &kv};
    need_ok(ops->batch(backend, &batch, &err), &err);
}

struct product {
    struct buffer *x, *y;
    struct weight **w; /* [n] of the same shape, together larger than any cache */
    size_t n;
};

static void products(void *arg)
{
    const struct product *p = arg;
    for (size_t i = 0; i < p->n; i++)
        ops->linear(backend, ROWS_ALL, &p->y, (const struct weight *const *)&p->w[i], 1, p->x);
}

static size_t round_up_64(size_t n)
{
    return (n + 63) / 64 * 64;
}

/* Weights of all types that are laid out anew when they are taken: GB of the file a second, the
 * memory's pages included, which are new. */
static void bench_layout(enum dtype type, size_t rows, size_t cols)
{
    enum { N = 16 };
    struct llama3_error err;
    struct matrix m = {.type = type, .rows = rows, .cols = cols};
    struct weight *w[N];
    size_t bytes = matrix_bytes(&m);
    unsigned char *data = aligned_alloc(64, round_up_64(N * bytes));
    if (data == NULL)
        exit(1);
    for (size_t i = 0; i < N * bytes; i++)
        data[i] = (unsigned char)((i * 2654435761u >> 13 & 0x0f) | 0x20);
    double best = HUGE_VAL;
    for (int round = 0; round < 3; round++) {
        double start = now();
        for (size_t i = 0; i < N; i++) {
            m.data = data + i * bytes;
            w[i] = need(ops->weight(backend, &m, WEIGHT_MATRIX, &err), &err);
        }
        double spent = now() - start;
        best = spent < best ? spent : best;
        for (size_t i = 0; i < N; i++)
            ops->weight_free(backend, w[i]);
    }
    printf("laid out: %-6s %5.1f GB/s\n", dtype_info(type)->name, (double)(N * bytes) / best / 1e9);
    free(data);
}

static void bench_linear(enum dtype type, size_t rows, size_t cols)
{
    static const size_t tokens[] = {1, 2, 4, 8, 32, 256, 512};
    struct llama3_error err;
    struct matrix m = {.type = type, .rows = rows, .cols = cols};
    for (int i = 0; i < 16; i++)
        m.groups.codebook[i] = (int8_t)(i * 16 - 127);
    size_t bytes = matrix_bytes(&m), n = (256u << 20) / bytes + 1;
    struct product p = {.n = n, .w = calloc(n, sizeof *p.w)};
    unsigned char *data = aligned_alloc(64, round_up_64(n * bytes));

    if (p.w == NULL || data == NULL)
        exit(1);
    /* Small numbers in every format, whatever their bytes mean, and none subnormal. */
    for (size_t i = 0; i < n * bytes; i++)
        data[i] = (unsigned char)((i * 2654435761u >> 13 & 0x0f) | 0x20);
    for (size_t i = 0; i < n; i++) {
        m.data = data + i * bytes;
        p.w[i] = need(ops->weight(backend, &m, WEIGHT_MATRIX, &err), &err);
    }
    p.x = need(ops->buffer(backend, ROWS_ALL, cols, &err), &err);
    p.y = need(ops->buffer(backend, ROWS_ALL, rows, &err), &err);
    float *ones = calloc(MAX_ROWS * cols, sizeof *ones);
    for (size_t i = 0; ones != NULL && i < MAX_ROWS * cols; i++)
        ones[i] = (float)(i % 7) - 3;
    printf("%-5s %5zu x %-5zu", dtype_info(type)->name, rows, cols);
    for (size_t i = 0; i < sizeof tokens / sizeof tokens[0]; i++) {
        struct product few = p;
        if (tokens[i] > 8)
            few.n = (n + 15) / 16;
        set_batch(tokens[i], 0);
        ops->write(backend, ROWS_ALL, p.x, ones);
        double each = measure(products, &few, 0.3) / (double)few.n;
        if (tokens[i] == 1)
            printf("  %5.1f GB/s", (double)bytes / each / 1e9);
        printf("  %5.1f", (double)rows * (double)cols * (double)tokens[i] / each / 1e9);
        fflush(stdout);
    }
    printf("\n");
    for (size_t i = 0; i < n; i++)
        ops->weight_free(backend, p.w[i]);
    ops->buffer_free(backend, p.x);
    ops->buffer_free(backend, p.y);
    free(p.w);
    free(data);
    free(ones);
}

struct attention {
    struct buffer *q, *y;
};

static void attentions(void *arg)
{
    const struct attention *a = arg;
    for (int i = 0; i < 4; i++)
        ops->attend(backend, (size_t)i, a->q, a->y);
}

static void bench_attend(const struct backend_shape *shape, size_t rows)
{
    struct llama3_error err;
    struct attention a;
    a.q = need(ops->buffer(backend, ROWS_ALL, shape->n_heads * shape->head_dim, &err), &err);
    a.y = need(ops->buffer(backend, ROWS_ALL, shape->n_heads * shape->head_dim, &err), &err);
    set_batch(rows, CONTEXT - rows);
    double each = measure(attentions, &a, 0.5) / 4;
    double bytes = 2.0 * CONTEXT * (double)(shape->n_kv_heads * shape->head_dim) * 2;
    double macs = 2.0 * CONTEXT * (double)(shape->n_heads * shape->head_dim * rows);
    printf("attend %zu heads of %zu, %zu rows at %d: %.1f GB/s, %.1f GMAC/s\n", shape->n_heads,
           shape->head_dim, rows, CONTEXT, bytes / each / 1e9, macs / each / 1e9);
    ops->buffer_free(backend, a.q);
    ops->buffer_free(backend, a.y);
}

int main(int argc, char **argv)
{
    static const float inv_freq[64];
    struct backend_shape shape = {
        .n_heads = 32,
        .n_kv_heads = 8,
        .head_dim = 128,
        .n_layers = 4,
        .max_rows = MAX_ROWS,
        .max_logit_rows = 1,
        .max_seqs = 1,
        .max_context = CONTEXT,
        .inv_freq = inv_freq,
        .rms_eps = 1e-5f,
    };
    struct backend_options options = {.threads = argc > 1 ? atoi(argv[1]) : 2, .no_blas = argc > 2};
    struct llama3_error err;

    ops = need((void *)backend_find(NULL, &err), &err);
    backend = need(ops->open(&options, &shape, &err), &err);
    kv = need(ops->kv_open(backend, &err), &err);
    need_ok(ops->kv_reserve(backend, kv, 0, CONTEXT, &err), &err);
    printf("%s, %d threads\n%-19s  %10s  %s\n", ops->describe(backend, &(const char *){NULL}),
           options.threads, "", "1 token", "GMAC/s of 1, 2, 4, 8, 32, 256, 512 tokens");
    static const enum dtype types[] = {DTYPE_INT4, DTYPE_INT8, DTYPE_Q4_0, DTYPE_Q4_1,
                                       DTYPE_Q8_0, DTYPE_BF16, DTYPE_F16,  DTYPE_F32};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        bench_linear(types[i], 4096, 4096);
    bench_linear(DTYPE_INT4, 4096, 14336);
    bench_linear(DTYPE_BF16, 4096, 14336);
    bench_linear(DTYPE_INT4, 1536, 576);
    bench_linear(DTYPE_INT4, 576, 1536);
    bench_linear(DTYPE_BF16, 1536, 576);
    for (enum dtype type = DTYPE_Q4_0; type < DTYPE_ROWS; type++)
        bench_layout(type, 4096, 4096);
    bench_attend(&shape, 1);
    bench_attend(&shape, 256);
    ops->kv_close(backend, kv);
    ops->close(backend);
    return 0;
}
