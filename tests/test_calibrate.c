/* SPDX-License-Identifier: MIT */
/* Calibration: the factors of what inputs have in common, quantizing with them, and a text's way
 * through the layers one by one. */
#include "config.h"

#include <check.h>
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/hessian.h"
#include "base/size.h"
#include "engine/calibrate.h"
#include "engine/gain.h"
#include "run.h"

static struct llama3_error err;

static float random_float(void)
{
    static uint64_t state = 1;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (float)(uint32_t)(state >> 32) / 2147483648.0f - 1;
}

/* ---- the Hessian ------------------------------------------------------------------------- */

enum { COLS = 77, INPUTS = 400 }; /* a multiple of nothing */

/* Inputs that have much in common, some columns larger than others, one always zero. */
static void fill_inputs(float x[INPUTS][COLS])
{
    for (size_t i = 0; i < INPUTS; i++) {
        float common = 3 * random_float(), other = 3 * random_float();
        for (size_t col = 0; col < COLS; col++)
            x[i][col] = col == 9 ? 0
                                 : (random_float() + (col % 3 == 0 ? common : other)) *
                                       (col % 7 == 0 ? 4 : 1);
    }
}

/* (1 / INPUTS) x^T x, damped as hessian_solve does it. */
static void fill_products(float x[INPUTS][COLS], double h[COLS][COLS])
{
    double trace = 0;
    memset(h, 0, sizeof(double[COLS][COLS]));
    for (size_t i = 0; i < INPUTS; i++)
        for (size_t j = 0; j < COLS; j++)
            for (size_t k = 0; k < COLS; k++)
                h[j][k] += (double)x[i][j] * (double)x[i][k] / INPUTS;
    for (size_t j = 0; j < COLS; j++)
        trace += h[j][j];
    for (size_t j = 0; j < COLS; j++)
        h[j][j] += 0.01 * trace / COLS;
}

static struct hessian *solved(float x[INPUTS][COLS])
{
    struct hessian *m = hessian_open(COLS, 2, &err);
    ck_assert_ptr_nonnull(m);
    hessian_add(m, x[0], 150);
    hessian_add(m, x[150], INPUTS - 150);
    ck_assert_msg(hessian_solve(m, &err) == 0, "%s", err.message);
    return m;
}

START_TEST(factors_multiply_to_the_products)
{
    static float x[INPUTS][COLS];
    static double h[COLS][COLS];
    struct quantize_options options = {0};

    fill_inputs(x);
    fill_products(x, h);
    struct hessian *m = solved(x);
    hessian_apply(m, &options);
    const float *d = options.importance, *u = options.feedback;
    for (size_t i = 0; u == NULL && i < COLS; i++)
        ck_assert_double_le(fabs((double)d[i] - h[i][i]), 0.02 * h[i][i] + 0.2);
    for (size_t i = 0; u != NULL && i < COLS; i++)
        for (size_t j = 0; j < COLS; j++) {
            double sum = 0;
            for (size_t k = i > j ? i : j; k < COLS; k++)
                sum += (double)d[k] * (k == i ? 1 : (double)u[i * COLS + k]) *
                       (k == j ? 1 : (double)u[j * COLS + k]);
            ck_assert_double_eq_tol(sum, h[i][j], 1e-4 * sqrt(h[i][i] * h[j][j]) + 1e-4);
        }
    hessian_close(m);
}
END_TEST

START_TEST(no_inputs_are_refused)
{
    float x[3] = {0, 0, 0};
    struct hessian *m = hessian_open(3, 1, &err);
    hessian_add(m, x, 1);
    ck_assert_int_eq(hessian_solve(m, &err), -1);
    x[1] = INFINITY;
    hessian_add(m, x, 1);
    ck_assert_int_eq(hessian_solve(m, &err), -1);
    hessian_close(m);
}
END_TEST

/* The sum over all rows of e H e^T. */
static double output_error(const struct matrix *a, const struct matrix *b, double h[COLS][COLS])
{
    double sum = 0;
    for (size_t row = 0; row < a->rows; row++) {
        float x[COLS], y[COLS];
        matrix_row(a, row, x);
        matrix_row(b, row, y);
        for (size_t j = 0; j < COLS; j++)
            for (size_t k = 0; k < COLS; k++)
                sum += ((double)x[j] - (double)y[j]) * h[j][k] * ((double)x[k] - (double)y[k]);
    }
    return sum;
}

/* Plain, with importance, with feedback: ever less of what comes out is lost. */
START_TEST(outputs_lose_less)
{
    enum { ROWS = 131 };
    static float x[INPUTS][COLS], w[ROWS][COLS];
    static double h[COLS][COLS];
    struct matrix in = {.type = DTYPE_F32, .rows = ROWS, .cols = COLS, .data = w};
    struct group_format format = quantize_format(DTYPE_INT4 + (enum dtype)_i);
    struct matrix out = {DTYPE_INT4 + (enum dtype)_i, ROWS, COLS, NULL, format, NULL};
    size_t bytes = group_bytes(out.type, &format, ROWS, COLS);
    void *strips[2] = {size_alloc_aligned(bytes, 1), size_alloc_aligned(bytes, 1)};
    double errors[2] = {0};

    ck_assert(strips[0] != NULL && strips[1] != NULL);
    fill_inputs(x);
    fill_products(x, h);
    for (size_t i = 0; i < ROWS * COLS; i++)
        w[i / COLS][i % COLS] = random_float() + random_float() + random_float();
    struct hessian *m = solved(x);
    for (size_t i = 0; i < 2; i++) {
        struct quantize_options options = {.type = out.type, .threads = 1};
        struct quantize_error error = {0};
        if (i > 0)
            hessian_apply(m, &options);
        ck_assert_int_eq(quantize_rows(&in, 0, ROWS, &options, strips[i], &error, &err), 0);
        out.data = strips[i];
        errors[i] = output_error(&in, &out, h);
        if (i == 0)
            continue;
        /* The same by more threads, and in two parts. */
        options.threads = 3;
        ck_assert_int_eq(quantize_rows(&in, 0, 64, &options, strips[0], NULL, &err), 0);
        ck_assert_int_eq(quantize_rows(&in, 64, ROWS - 64, &options,
                                       (char *)strips[0] + 4 * (bytes / ((ROWS + 15) / 16)), NULL,
                                       &err),
                         0);
        ck_assert_mem_eq(strips[0], strips[1], bytes);
        ck_assert_double_le(errors[1], (options.feedback != NULL ? 0.3 : 1.05) * errors[0]);
    }
    hessian_close(m);
    free(strips[0]), free(strips[1]);
}
END_TEST

/* ---- layers ------------------------------------------------------------------------------ */

enum { TOKENS = 70 };

static void open_model(struct model *model, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", TEST_DATA, name);
    ck_assert_msg(model_open(model, path, &err) == 0, "%s", err.message);
}

/* What a pass gives after the last of the tokens. */
static void run_pass(const struct model *model, const int32_t *tokens, float *logits,
                     bool *rounds_to_bf16)
{
    struct forward_options options = {
        .backend = {.threads = 2, .no_blas = true},
        .max_rows = TOKENS,
        .max_logit_rows = 1,
        .max_seqs = 1,
        .max_context = TOKENS,
        .kv_type = LLAMA3_KV_F16,
    };
    struct forward *forward = forward_open(model, NULL, &options, &err);
    ck_assert_msg(forward != NULL, "%s", err.message);
    struct sequence *sequence = sequence_open(forward, &err);
    struct batch_row rows[TOKENS];
    for (size_t i = 0; i < TOKENS; i++)
        rows[i] = (struct batch_row){
            .token = tokens[i], .position = (int32_t)i, .wants_logits = i + 1 == TOKENS};
    ck_assert_int_eq(sequence_reserve(forward, sequence, 0, TOKENS, &err), 0);
    ck_assert_int_eq(forward_run(forward, rows, TOKENS, &sequence, 1, logits, NULL, NULL, &err), 0);
    *rounds_to_bf16 = strstr(forward_describe_backend(forward, 0), "avx512bf16") != NULL;
    sequence_close(forward, sequence);
    forward_close(forward);
}

struct seen {
    size_t calls, rows;
};

static void see(void *arg, const float *in, size_t n_rows)
{
    struct seen *seen = arg;
    ck_assert(isfinite(in[0]));
    seen->calls++;
    seen->rows += n_rows;
}

/* Through all layers, input by input or a layer at once. */
static struct stream *run_stream(const struct model *model, const int32_t *tokens, bool stepwise)
{
    const struct stream_options options = {.threads = 2};
    size_t bos = model->vocab.add_bos; /* it adds that by itself */
    struct stream *stream = stream_open(model, tokens + bos, TOKENS - bos, &options, &err);
    ck_assert_msg(stream != NULL, "%s", err.message);
    ck_assert_uint_eq(stream_count(stream), TOKENS);
    for (size_t i = 0; i < model->config.n_layers; i++)
        for (int input = stepwise ? 0 : INPUT_COUNT; input <= INPUT_COUNT; input++) {
            struct seen seen = {0};
            ck_assert_int_eq(stream_advance(stream, &model->layers[i], (enum layer_input)input, see,
                                            &seen, &err),
                             0);
            ck_assert(seen.calls == 1 && seen.rows == TOKENS);
        }
    return stream;
}

/* The stream after the layers, normalized and multiplied by the head, is what a pass gives. */
/* GGUF's types by what their outputs lose, q6_k's runs of 16 columns included. */
START_TEST(blocks_lose_less)
{
    enum { WIDE = 512, MANY = 700, ROWS = 40 };
    static const enum dtype types[] = {DTYPE_Q4_0, DTYPE_Q4_1,   DTYPE_Q5_0, DTYPE_Q4_K,
                                       DTYPE_Q5_K, DTYPE_IQ4_NL, DTYPE_Q6_K};
    static float x[MANY][WIDE], w[ROWS][WIDE], q[WIDE];
    double errors[2] = {0, 0};
    struct matrix in = {.type = DTYPE_F32, .rows = ROWS, .cols = WIDE, .data = w};
    struct matrix out = {.type = types[_i], .rows = ROWS, .cols = WIDE};
    for (size_t i = 0; i < MANY; i++) {
        float common[4];
        for (size_t j = 0; j < 4; j++)
            common[j] = 3 * random_float();
        for (size_t col = 0; col < WIDE; col++)
            x[i][col] = random_float() + common[col % 4];
    }
    for (size_t i = 0; i < (size_t)ROWS * WIDE; i++)
        w[i / WIDE][i % WIDE] = random_float() * random_float();
    struct hessian *m = hessian_open(WIDE, 2, &err);
    hessian_add(m, x[0], MANY);
    ck_assert_int_eq(hessian_solve(m, &err), 0);
    void *data = size_alloc_aligned(1, matrix_bytes(&out));
    out.data = data;
    for (int way = 0; way < 2; way++) {
        struct quantize_options options = {.type = types[_i], .threads = 2};
        if (way == 1)
            hessian_apply(m, &options);
        ck_assert_int_eq(quantize_rows(&in, 0, ROWS, &options, data, NULL, &err), 0);
        for (size_t row = 0; row < ROWS; row++) {
            matrix_row(&out, row, q);
            for (size_t i = 0; i < MANY; i++) {
                double sum = 0;
                for (size_t col = 0; col < WIDE; col++)
                    sum += (double)(w[row][col] - q[col]) * (double)x[i][col];
                errors[way] += sum * sum;
            }
        }
    }
    double most = why_no_hessian(2) == NULL ? 0.6 : 1.05;
    ck_assert_msg(errors[1] <= most * errors[0], "%s: expected less than %g of %g, found %g",
                  dtype_info(types[_i])->name, most, errors[0], errors[1]);
    hessian_close(m);
    free(data);
}
END_TEST

START_TEST(a_stream_goes_where_a_pass_goes)
{
    struct model model = {0};
    open_model(&model, "tiny-long");
    size_t dim = model.config.dim, vocab = model.config.vocab_size;
    float *logits = size_alloc(vocab, sizeof *logits), *row = size_alloc(dim, sizeof *row);
    float *norm = size_alloc(dim, sizeof *norm);
    int32_t tokens[TOKENS];
    bool rounds;

    for (size_t i = 0; i < TOKENS; i++)
        tokens[i] = (int32_t)((i * i + 3) % vocab);
    if (model.vocab.add_bos)
        tokens[0] = model.vocab.bos;
    run_pass(&model, tokens, logits, &rounds);
    struct stream *stream = run_stream(&model, tokens, true);
    struct stream *at_once = run_stream(&model, tokens, false);
    for (size_t i = 0; i < TOKENS; i++)
        ck_assert_mem_eq(stream_row(stream, i), stream_row(at_once, i), dim * sizeof(float));

    const float *last = stream_row(stream, TOKENS - 1);
    double squares = 0;
    for (size_t i = 0; i < dim; i++)
        squares += (double)last[i] * (double)last[i];
    double scale = 1 / sqrt(squares / (double)dim + (double)model.config.rms_eps);
    matrix_row(&model.norm, 0, norm);
    for (size_t token = 0; token < vocab; token++) {
        double sum = 0, size = 0;
        matrix_row(&model.head, token, row);
        for (size_t i = 0; i < dim; i++) {
            double product = (double)last[i] * scale * (double)norm[i] * (double)row[i];
            sum += product;
            size += fabs(product);
        }
        /* Products of bf16 pairs round each activation to 8 bits. */
        ck_assert_double_eq_tol(sum, (double)logits[token], 2e-4 + (rounds ? size / 512 : 0));
    }
    free(logits), free(row), free(norm);
    stream_close(stream), stream_close(at_once);
    model_close(&model);
}
END_TEST

static bool never(void *arg)
{
    return arg != NULL;
}

START_TEST(a_stream_can_be_canceled)
{
    struct model model = {0};
    int32_t tokens[TOKENS] = {0};
    struct stream_options options = {.threads = 1, .canceled = never};
    open_model(&model, "tiny-f32");
    struct stream *stream = stream_open(&model, tokens, TOKENS, &options, &err);
    struct layer norms = {.attn_norm = model.layers[0].attn_norm,
                          .ffn_norm = model.layers[0].ffn_norm};
    ck_assert_int_eq(stream_advance(stream, &norms, INPUT_QKV, NULL, NULL, &err), 0);
    stream_close(stream);
    options.arg = &options;
    stream = stream_open(&model, tokens, TOKENS, &options, &err);
    ck_assert_int_eq(stream_advance(stream, &model.layers[0], INPUT_COUNT, NULL, NULL, &err), -1);
    ck_assert_int_eq(err.code, LLAMA3_ECANCELED);
    stream_close(stream);
    model_close(&model);
}
END_TEST

static struct matrix quantized(const struct matrix *in, const struct calibration *calibration)
{
    struct quantize_options options = {.type = DTYPE_INT4, .threads = 2};
    struct group_format format = quantize_format(DTYPE_INT4);
    void *out = size_alloc_aligned(group_bytes(DTYPE_INT4, &format, in->rows, in->cols), 1);
    calibration_options(calibration, &options);
    ck_assert_int_eq(quantize_rows(in, 0, in->rows, &options, out, NULL, &err), 0);
    return (struct matrix){DTYPE_INT4, in->rows, in->cols, out, format, NULL};
}

static void drop(struct matrix *m)
{
    free((void *)(uintptr_t)m->data);
}

/* Every layer in turn, over three windows of which the last isn't full. */
START_TEST(a_model_is_calibrated)
{
    static const char *const names[] = {"tiny-bf16", "tiny-gguf-mixed/model.gguf", "tiny-long"};
    const struct stream_options options = {.threads = 2};
    struct model model = {0};
    int32_t tokens[1100];

    open_model(&model, names[_i]);
    for (size_t i = 0; i < 1100; i++)
        tokens[i] = (int32_t)((i * i + i / 7) % model.config.vocab_size);
    struct calibration *c = calibration_open(&model, tokens, 1100, &options, &err);
    ck_assert_msg(c != NULL, "%s", err.message);
    for (size_t i = 0; i < model.config.n_layers; i++) {
        const struct layer *from = &model.layers[i];
        struct layer to = {.attn_norm = from->attn_norm, .ffn_norm = from->ffn_norm};
        ck_assert_msg(calibration_measure(c, &to, INPUT_QKV, &err) == 0, "%s", err.message);
        to.q = quantized(&from->q, c), to.k = quantized(&from->k, c), to.v = quantized(&from->v, c);
        ck_assert_msg(calibration_measure(c, &to, INPUT_OUT, &err) == 0, "%s", err.message);
        to.o = quantized(&from->o, c);
        ck_assert_msg(calibration_measure(c, &to, INPUT_GATE_UP, &err) == 0, "%s", err.message);
        to.gate = quantized(&from->gate, c), to.up = quantized(&from->up, c);
        ck_assert_msg(calibration_measure(c, &to, INPUT_DOWN, &err) == 0, "%s", err.message);
        to.down = quantized(&from->down, c);
        ck_assert_msg(calibration_advance(c, &to, &err) == 0, "%s", err.message);
        drop(&to.q), drop(&to.k), drop(&to.v), drop(&to.o);
        drop(&to.gate), drop(&to.up), drop(&to.down);
    }
    calibration_close(c);
    tokens[5] = (int32_t)model.config.vocab_size;
    ck_assert_ptr_null(calibration_open(&model, tokens, 1100, &options, &err));
    model_close(&model);
}
END_TEST

/* ---- what it gains ----------------------------------------------------------------------- */

static struct matrix plain(const struct matrix *in)
{
    struct quantize_options options = {.type = DTYPE_INT4, .threads = 2};
    struct group_format format = quantize_format(DTYPE_INT4);
    void *out = size_alloc_aligned(group_bytes(DTYPE_INT4, &format, in->rows, in->cols), 1);
    ck_assert_int_eq(quantize_rows(in, 0, in->rows, &options, out, NULL, &err), 0);
    return (struct matrix){DTYPE_INT4, in->rows, in->cols, out, format, NULL};
}

/* Of what was quantized without a text there is none. */
START_TEST(without_calibrating_nothing_is_gained)
{
    const struct stream_options options = {.threads = 2};
    struct model model = {0};
    struct layer layers[8];
    struct gain gain;
    int32_t tokens[150];
    open_model(&model, "tiny-f32");
    for (size_t i = 0; i < 150; i++)
        tokens[i] = (int32_t)((i * i + i / 7) % model.config.vocab_size);
    struct model made = model;
    made.layers = layers;
    for (size_t i = 0; i < model.config.n_layers; i++) {
        const struct layer *from = &model.layers[i];
        layers[i] = (struct layer){
            from->attn_norm,    plain(&from->q),  plain(&from->k),
            plain(&from->v),    plain(&from->o),  from->ffn_norm,
            plain(&from->gate), plain(&from->up), plain(&from->down),
        };
    }
    ck_assert_msg(gain_measure(&model, &made, tokens, 150, &options, &gain, &err) == 0, "%s",
                  err.message);
    ck_assert(gain.kl > 0 && gain.kl == gain.plain_kl);
    ck_assert_uint_eq(gain.predictions, model.vocab.add_bos ? 150 : 149);
    for (size_t i = 0; i < model.config.n_layers; i++) {
        struct layer *l = &layers[i];
        drop(&l->q), drop(&l->k), drop(&l->v), drop(&l->o);
        drop(&l->gate), drop(&l->up), drop(&l->down);
    }
    ck_assert_int_eq(gain_measure(&model, &model, tokens, 0, &options, &gain, &err), -1);
    model_close(&model);
}
END_TEST

#ifdef OPENBLAS_LIBRARY
/* A function of the library; POSIX lets the address of one stand in a pointer to data. */
static void find(void *library, const char *name, void *function)
{
    void *address = dlsym(library, name);
    *(void **)function = address;
    ck_assert_ptr_nonnull(address);
}

/* Of the application that uses OpenBLAS beside us, in another number of threads than we do. */
START_TEST(the_number_of_blas_threads_is_the_applications)
{
    enum { THEIRS = 3 };
    int (*get)(void);
    void (*set)(int);
    void *library = dlopen(OPENBLAS_LIBRARY, RTLD_NOW);
    ck_assert_msg(library != NULL, "%s", dlerror());
    find(library, "openblas_get_num_threads", &get);
    find(library, "openblas_set_num_threads", &set);
    set(THEIRS);
    ck_assert_int_eq(get(), THEIRS);

    struct model model = {0};
    open_model(&model, "tiny-f32");
    struct forward_options options = {
        .backend = {.threads = 2},
        .max_rows = TOKENS,
        .max_logit_rows = 1,
        .max_seqs = 1,
        .max_context = TOKENS,
        .kv_type = LLAMA3_KV_F32,
    };
    struct forward *forward = forward_open(&model, NULL, &options, &err);
    ck_assert_msg(forward != NULL, "%s", err.message);
    ck_assert_int_eq(get(), THEIRS);
    const char *exactness;
    forward_describe(forward, &exactness);
    if (getenv("LLAMA3_CPU") == NULL)
        ck_assert_msg(strstr(exactness, "except where OpenBLAS") != NULL, "%s", exactness);

    struct sequence *sequence = sequence_open(forward, &err);
    struct batch_row rows[TOKENS];
    float *logits = size_alloc(model.config.vocab_size, sizeof *logits);
    for (size_t i = 0; i < TOKENS; i++)
        rows[i] = (struct batch_row){
            .token = (int32_t)i, .position = (int32_t)i, .wants_logits = i + 1 == TOKENS};
    ck_assert_int_eq(sequence_reserve(forward, sequence, 0, TOKENS, &err), 0);
    ck_assert_int_eq(forward_run(forward, rows, TOKENS, &sequence, 1, logits, NULL, NULL, &err), 0);
    ck_assert_int_eq(get(), THEIRS);
    free(logits);
    sequence_close(forward, sequence);
    forward_close(forward);
    ck_assert_int_eq(get(), THEIRS);

    /* Products, a factor of them, and what is lost made up for. */
    int32_t tokens[TOKENS] = {0};
    struct calibration *c =
        calibration_open(&model, tokens, TOKENS, &(struct stream_options){.threads = 2}, &err);
    ck_assert_msg(c != NULL, "%s", err.message);
    ck_assert_msg(calibration_measure(c, &model.layers[0], INPUT_QKV, &err) == 0, "%s",
                  err.message);
    ck_assert_int_eq(get(), THEIRS);
    struct matrix q = quantized(&model.layers[0].q, c);
    ck_assert_int_eq(get(), THEIRS);
    drop(&q);
    calibration_close(c);
    model_close(&model);
    ck_assert_int_eq(get(), THEIRS);
}
END_TEST
#endif

int main(void)
{
    TCase *tests = tcase_create("calibrate");
    tcase_add_test(tests, factors_multiply_to_the_products);
    tcase_add_test(tests, no_inputs_are_refused);
    tcase_add_loop_test(tests, outputs_lose_less, 0, 2);
    tcase_add_loop_test(tests, blocks_lose_less, 0, 7);
    tcase_add_test(tests, a_stream_goes_where_a_pass_goes);
    tcase_add_test(tests, a_stream_can_be_canceled);
    tcase_add_loop_test(tests, a_model_is_calibrated, 0, 3);
    tcase_add_test(tests, without_calibrating_nothing_is_gained);
#ifdef OPENBLAS_LIBRARY
    tcase_add_test(tests, the_number_of_blas_threads_is_the_applications);
#endif
    return run_tests("calibrate", tests);
}
