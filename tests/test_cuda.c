/* SPDX-License-Identifier: MIT */
/*
 * test_cuda: whole models on the CUDA backend, on a device, or built with CUDA_EMULATED on an
 * emulated one: the goldens of small checkpoints, contract 1, spans that alternate with the CPU,
 * recorded graphs. Emulated, also what fails: devices, memory, launches; and how matrices are laid
 * out. The seam's own suite is test_backend.c.
 */
#include <check.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backend/cuda/cuda.h"
#include "base/size.h"
#include "cuda_answers.h"
#include "engine/forward.h"
#include "golden.h"
#include "meter/meter.h"
#include "random_lora.h"
#include "run.h"
#ifdef CUDA_EMULATED
#include "backend/cuda/layout.h"
#include "cuda_emulator/racing.h"
#include "test_cuda.h"
#endif

static const double RELATIVE = 2e-3;        /* of logits, where weights and activations are f32 */
static const double DIVERGENCE_BF16 = 5e-4; /* of all positions in the mean, where they are bf16 */
static const double DIVERGENCE_INT8 = 1e-2;

static const struct {
    const char *name, *file; /* file: "" opens the directory */
    enum { FLOATS, PAIRS, INTEGERS } products;
} fixtures[] = {
    {"tiny-f32", "", FLOATS},
    {"tiny-tied", "", FLOATS},
    {"tiny-f16", "", FLOATS},
    {"tiny-bf16", "", PAIRS},
    {"tiny-sharded", "", PAIRS},
    {"tiny-rope", "", PAIRS},
    {"tiny-head-dim", "", PAIRS},
    {"tiny-gqa-6-2", "", FLOATS},
    {"tiny-gqa-3-1", "", FLOATS},
    {"tiny-long", "", PAIRS},
    {"tiny-gguf-f16", "/model.gguf", FLOATS},
    {"tiny-gguf-q8_0", "/model.gguf", INTEGERS},
    {"tiny-gguf-q4_0", "/model.gguf", INTEGERS},
    {"tiny-gguf-mixed", "/model.gguf", INTEGERS},
    {"tiny-gguf-k", "/model.gguf", INTEGERS},
    {"tiny-gguf-low", "/model.gguf", INTEGERS},
    {"tiny-gguf-iq", "/model.gguf", INTEGERS},
    {"tiny-gguf-rope", "/model.gguf", FLOATS},
    {"tiny-gptq-4-act", "", INTEGERS},
    {"tiny-gptq-4-act-each", "", INTEGERS},
};
enum { N_FIXTURES = sizeof fixtures / sizeof fixtures[0], MAX_ROWS = 160 };

static struct llama3_error err;
static bool bf16_prompt;
static const struct lora *adapter; /* of every forward that is opened, NULL: none */

static struct model open_model(int fixture)
{
    char path[4096];
    struct model model;
    snprintf(path, sizeof path, "%s/%s%s", TEST_DATA, fixtures[fixture].name,
             fixtures[fixture].file);
    ck_assert_msg(model_open(&model, path, &err) == 0, "%s", err.message);
    return model;
}

static struct forward *open_forward(const struct model *model, const struct plan *plan,
                                    enum llama3_kv_type kv)
{
    static const struct backend_ops *const cuda[] = {&cuda_ops};
    static const struct span everything = {0, 0};
    const struct plan simple = {cuda, 1, &everything, 1};
    struct forward_options options = {
        .backend = {.threads = 1, .no_blas = true, .bf16_prompt = bf16_prompt},
        .max_rows = MAX_ROWS,
        .max_logit_rows = MAX_ROWS,
        .max_seqs = 2,
        .max_context = 512,
        .kv_type = kv,
        .loras = adapter,
        .n_loras = adapter != NULL};
    struct forward *f = forward_open(model, plan != NULL ? plan : &simple, &options, &err);
    ck_assert_msg(f != NULL, "%s", err.message);
    return f;
}

/* Rows of a sequence into a batch; all want logits. */
static void put_rows(struct batch_row *rows, const int32_t *ids, size_t from, size_t n, int32_t seq)
{
    for (size_t i = 0; i < n; i++)
        rows[i] = (struct batch_row){.token = ids[from + i],
                                     .position = (int32_t)(from + i),
                                     .seq = seq,
                                     .wants_logits = true};
}

static void run_chunk(struct forward *f, struct sequence *sequence, const int32_t *ids, size_t from,
                      size_t n, float *logits)
{
    struct batch_row rows[MAX_ROWS];
    put_rows(rows, ids, from, n, 0);
    ck_assert_int_eq(sequence_reserve(f, sequence, from, from + n, &err), 0);
    ck_assert_msg(forward_run(f, rows, n, &sequence, 1, logits, NULL, NULL, &err) == 0, "%s",
                  err.message);
}

/* Logits after each of n tokens, `chunk` rows at a time. */
static float *logits_of(const struct model *model, const struct plan *plan, enum llama3_kv_type kv,
                        const int32_t *ids, size_t n, size_t chunk)
{
    size_t vocab = model->config.vocab_size;
    float *logits = size_alloc(n, vocab * sizeof *logits);
    struct forward *f = open_forward(model, plan, kv);
    struct sequence *sequence = sequence_open(f, &err);
    ck_assert_ptr_nonnull(sequence);
    for (size_t from = 0, rows; from < n; from += rows) {
        /* One at a time is for the ends of pages: what lies between comes at once. */
        rows = chunk == 1 && from % KV_PAGE == 4 ? KV_PAGE - 8 : chunk;
        rows = n - from < rows ? n - from : rows;
        run_chunk(f, sequence, ids, from, rows, logits + from * vocab);
    }
    sequence_close(f, sequence);
    forward_close(f);
    return logits;
}

static void some_tokens(const struct model *model, int32_t *ids, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ids[i] = (int32_t)(i * 37 % model->config.vocab_size);
}

static double largest(const float *x, size_t n)
{
    double max = 0;
    for (size_t i = 0; i < n; i++)
        max = fabs((double)x[i]) <= max ? max : fabs((double)x[i]); /* a NaN is the largest */
    return max;
}

static double difference(const float *x, const float *y, size_t n)
{
    double max = 0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)x[i] - (double)y[i]);
        max = d <= max ? max : d;
    }
    return max;
}

/* ---- what others compute ----------------------------------------------------------------- */

static void check_golden(int fixture, const struct golden *g, const float *logits)
{
    double mean = 0;
    for (size_t i = 0; i < g->n_rows; i++) {
        const float *reference = g->logits + i * g->n_vocab;
        const float *ours = logits + (size_t)g->rows[i] * g->n_vocab;
        mean += divergence(reference, ours, g->n_vocab) / (double)g->n_rows;
        if (fixtures[fixture].products == FLOATS)
            ck_assert_double_le(difference(reference, ours, g->n_vocab),
                                RELATIVE * largest(reference, g->n_vocab));
    }
    ck_assert_double_le(mean,
                        fixtures[fixture].products == INTEGERS ? DIVERGENCE_INT8 : DIVERGENCE_BF16);
}

/* One token after another: by a recorded graph after the first. */
static void continue_greedily(const struct model *model, const struct golden *golden)
{
    size_t vocab = golden->n_vocab, n = golden->n_ids;
    struct forward *f = open_forward(model, NULL, LLAMA3_KV_F32);
    struct sequence *sequence = sequence_open(f, &err);
    float *logits = size_alloc(n, vocab * sizeof *logits), *last = logits + (n - 1) * vocab;
    run_chunk(f, sequence, golden->ids, 0, n, logits);
    for (size_t i = 0; i < golden->n_greedy; i++) {
        int32_t next = (int32_t)argmax(last, vocab), ids[MAX_ROWS];
        ck_assert_int_eq(next, golden->greedy[i]);
        ids[n + i] = next;
        run_chunk(f, sequence, ids, n + i, 1, last);
    }
    free(logits);
    sequence_close(f, sequence);
    forward_close(f);
}

START_TEST(logits_are_those_of_the_golden)
{
    char json[4096], f32[4096];
    struct golden golden;
    struct model model = open_model(_i);
    snprintf(json, sizeof json, "%s/%s/golden.json", TEST_DATA, fixtures[_i].name);
    snprintf(f32, sizeof f32, "%s/%s/golden.f32", TEST_DATA, fixtures[_i].name);
    golden_load(&golden, json, f32);
    float *logits = logits_of(&model, NULL, LLAMA3_KV_F32, golden.ids, golden.n_ids, MAX_ROWS);
    check_golden(_i, &golden, logits);
    free(logits);

    if (fixtures[_i].products == FLOATS)
        continue_greedily(&model, &golden);
    golden_free(&golden);
    model_close(&model);
}
END_TEST

/* ---- one answer -------------------------------------------------------------------------- */

/* Two sequences in one batch, a row of each in turn. */
static void check_company(const struct model *model, enum llama3_kv_type kv, const int32_t *ids,
                          size_t n, const float *expected)
{
    size_t vocab = model->config.vocab_size;
    struct forward *f = open_forward(model, NULL, kv);
    struct sequence *both[2] = {sequence_open(f, &err), sequence_open(f, &err)};
    float *logits = size_alloc(2 * n, vocab * sizeof *logits);
    for (size_t from = 0; from < n;) {
        struct batch_row rows[MAX_ROWS];
        size_t a = n - from < 34 ? n - from : 34, b = a < 29 ? a : 29;
        put_rows(rows, ids, from, a, 0);
        put_rows(rows + a, ids, from, b, 1);
        for (int i = 0; i < 2; i++)
            ck_assert_int_eq(sequence_reserve(f, both[i], from, from + a, &err), 0);
        ck_assert_msg(forward_run(f, rows, a + b, both, 2, logits, NULL, NULL, &err) == 0, "%s",
                      err.message);
        ck_assert_mem_eq(logits, expected + from * vocab, a * vocab * sizeof *logits);
        ck_assert_mem_eq(logits + a * vocab, expected + from * vocab, b * vocab * sizeof *logits);
        /* The second takes what it lacks alone. */
        for (size_t i = b; i < a; i++) {
            run_chunk(f, both[1], ids, from + i, 1, logits);
            ck_assert_mem_eq(logits, expected + (from + i) * vocab, vocab * sizeof *logits);
        }
        from += a;
    }
    free(logits);
    sequence_close(f, both[0]);
    sequence_close(f, both[1]);
    forward_close(f);
}

START_TEST(one_answer)
{
    static const int models[] = {9, 3, 12, 14, 8};
    static const size_t chunks[] = {1, 17, 64};
    enum { N = 150 };
    enum llama3_kv_type kv = _i % 2 == 0 ? LLAMA3_KV_F16 : LLAMA3_KV_F32;
#ifdef __SANITIZE_ADDRESS__ /* slow: each model with one of the two types */
    if (_i / 2 % 2 != _i % 2)
        return;
#endif
    struct model model = open_model(models[_i / 2]);
    int32_t ids[N];
    some_tokens(&model, ids, N);
    float *expected = logits_of(&model, NULL, kv, ids, N, MAX_ROWS);
    size_t bytes = N * model.config.vocab_size * sizeof *expected;
    for (size_t i = 0; i < sizeof chunks / sizeof chunks[0]; i++) {
#ifdef CUDA_EMULATED
        emulator_set_seed((unsigned)i); /* whatever the order of blocks and threads */
#endif
        float *same = logits_of(&model, NULL, kv, ids, N, chunks[i]);
        ck_assert_msg(memcmp(same, expected, bytes) == 0, "%s differs in chunks of %zu",
                      fixtures[models[_i / 2]].name, chunks[i]);
        free(same);
    }
    check_company(&model, kv, ids, N, expected);
    free(expected);
    model_close(&model);
}
END_TEST

/* ---- beside the CPU ---------------------------------------------------------------------- */

START_TEST(spans_alternate_with_the_cpu)
{
    enum { N = 40, MAX_SPANS = 64 };
    const struct backend_ops *const backends[] = {backend_find("cpu", &err), &cuda_ops};
    struct span spans[MAX_SPANS];
    setenv("LLAMA3_CPU", "scalar", 1);
    struct model model = open_model(_i == 0 ? 0 : 10);
    size_t n_stages = stage_count(model.config.n_layers), count = N * model.config.vocab_size;
    ck_assert_uint_le(n_stages, MAX_SPANS);
    int32_t ids[N];
    some_tokens(&model, ids, N);
    const struct plan cpu = {backends, 1, &(struct span){0, 0}, 1};
    float *expected = logits_of(&model, &cpu, LLAMA3_KV_F32, ids, N, N);
    for (size_t every = 1; every <= 4; every++)
        for (size_t first = 0; first < 2; first++) {
            struct plan plan = {.backends = backends, .n_backends = 2, .spans = spans};
            for (size_t stage = 0; stage < n_stages; stage += every)
                spans[plan.n_spans++] = (struct span){stage, (stage / every + first) % 2};
            float *logits = logits_of(&model, &plan, LLAMA3_KV_F32, ids, N, every == 2 ? 7 : N);
            ck_assert_double_le(difference(logits, expected, count),
                                RELATIVE * largest(expected, count));
            free(logits);
        }
    free(expected);
    model_close(&model);
}
END_TEST

/* An adapter gives the CPU's logits, and one answer. */
START_TEST(adapters_are_the_cpus)
{
    enum { N = 12 };
    static const int models[] = {0, 3, 12, 18};
    static const struct backend_ops *cpu;
    struct model model = open_model(models[_i]);
    struct lora lora = random_lora(&model, 5);
    const size_t vocab = model.config.vocab_size, count = N * vocab;
    int32_t ids[N];
    some_tokens(&model, ids, N);
    unsetenv("LLAMA3_CPU");
    cpu = backend_find("cpu", &err);
    const struct plan alone = {&cpu, 1, &(struct span){0, 0}, 1};
    float *none = logits_of(&model, NULL, LLAMA3_KV_F32, ids, N, MAX_ROWS);
    adapter = &lora;
    lora.scale = 4;
    float *expected = logits_of(&model, &alone, LLAMA3_KV_F32, ids, N, MAX_ROWS);
    float *found = logits_of(&model, NULL, LLAMA3_KV_F32, ids, N, MAX_ROWS);
    float *steps = logits_of(&model, NULL, LLAMA3_KV_F32, ids, N, 5);
    double mean = 0, change = 0;
    for (size_t i = 0; i < N; i++) {
        mean += divergence(expected + i * vocab, found + i * vocab, vocab) / N;
        change += divergence(expected + i * vocab, none + i * vocab, vocab) / N;
    }
    if (fixtures[models[_i]].products == FLOATS)
        ck_assert_double_le(difference(expected, found, count),
                            RELATIVE * largest(expected, count));
    ck_assert_double_le(mean, DIVERGENCE_INT8);
    ck_assert_double_ge(change, 10 * mean);
    ck_assert_mem_eq(found, steps, count * sizeof *found);
    lora.scale = 0;
    free(steps);
    steps = logits_of(&model, NULL, LLAMA3_KV_F32, ids, N, 5);
    ck_assert_mem_eq(none, steps, count * sizeof *found);
    adapter = NULL;
    lora_close(&lora);
    free(none);
    free(expected);
    free(found);
    free(steps);
    model_close(&model);
}
END_TEST

static bool after_two(void *arg)
{
    return --*(int *)arg == 0;
}

START_TEST(a_pass_can_be_canceled)
{
    enum { N = 40 };
    struct model model = open_model(0);
    int32_t ids[N];
    struct batch_row rows[N];
    some_tokens(&model, ids, N);
    put_rows(rows, ids, 0, N, 0);
    struct forward *f = open_forward(&model, NULL, LLAMA3_KV_F16);
    struct sequence *sequence = sequence_open(f, &err);
    float *logits = size_alloc(N, model.config.vocab_size * sizeof *logits);
    float *expected = logits_of(&model, NULL, LLAMA3_KV_F16, ids, N, N);
    int countdown = 2;
    ck_assert_int_eq(sequence_reserve(f, sequence, 0, N, &err), 0);
    ck_assert_int_eq(forward_run(f, rows, N, &sequence, 1, logits, after_two, &countdown, &err),
                     -1);
    ck_assert_int_eq(err.code, LLAMA3_ECANCELED);
    run_chunk(f, sequence, ids, 0, N, logits);
    ck_assert_mem_eq(logits, expected, N * model.config.vocab_size * sizeof *logits);
    free(logits);
    free(expected);
    sequence_close(f, sequence);
    forward_close(f);
    model_close(&model);
}
END_TEST

START_TEST(limits_are_measured)
{
    struct limits limits;
    struct meter *meter = cuda_meter.open(&(struct backend_options){.threads = 1}, &err);
    ck_assert_msg(meter != NULL, "%s", err.message);
    ck_assert_int_eq(cuda_meter.measure(meter, &limits, &err), 0);
    for (int i = 0; i < LIMITS; i++)
        ck_assert_double_gt(limits.rates[i], 0);
    cuda_meter.close(meter);
}
END_TEST

#ifdef CUDA_EMULATED
/* ---- graphs ------------------------------------------------------------------------------ */

START_TEST(passes_of_one_shape_are_launched_at_once)
{
    enum { N = 30 };
    struct model model = open_model(0);
    int32_t ids[N];
    some_tokens(&model, ids, N);
    float *logits = size_alloc(1, model.config.vocab_size * sizeof *logits);
    float *expected = logits_of(&model, NULL, LLAMA3_KV_F16, ids, N, N);
    struct forward *f = open_forward(&model, NULL, LLAMA3_KV_F16);
    struct sequence *sequence = sequence_open(f, &err);
    long launches = 0;
    for (size_t i = 0; i < N; i++) {
        run_chunk(f, sequence, ids, i, 1, logits);
        ck_assert_mem_eq(logits, expected + i * model.config.vocab_size,
                         model.config.vocab_size * sizeof *logits);
        if (i >= 2) /* the second time it was recorded; what is left prepares the batch */
            ck_assert_int_eq(emulator_launches() - launches, 1);
        launches = emulator_launches();
    }
    free(logits);
    free(expected);
    sequence_close(f, sequence);
    forward_close(f);
    model_close(&model);
}
END_TEST

/* ---- prompts by a library ---------------------------------------------------------------- */

START_TEST(prompts_in_bf16_are_close)
{
    static const int models[] = {0, 3, 12, 14};
    enum { N = MAX_ROWS };
    struct model model = open_model(models[_i]);
    size_t vocab = model.config.vocab_size;
    int32_t ids[N];
    double mean = 0;
    some_tokens(&model, ids, N);
    float *expected = logits_of(&model, NULL, LLAMA3_KV_F16, ids, N, N);
    long before = cublas_products;
    bf16_prompt = true;
    float *logits = logits_of(&model, NULL, LLAMA3_KV_F16, ids, N, N);
    ck_assert_int_gt(cublas_products, before);
    for (size_t i = 0; i < N; i++)
        mean += divergence(expected + i * vocab, logits + i * vocab, vocab) / N;
    ck_assert_double_le(mean, fixtures[models[_i]].products == INTEGERS ? DIVERGENCE_INT8
                                                                        : DIVERGENCE_BF16);
    /* A few rows don't go there. */
    before = cublas_products;
    float *few = logits_of(&model, NULL, LLAMA3_KV_F16, ids, 7, 7);
    ck_assert_int_eq(cublas_products, before);
    ck_assert_mem_eq(few, expected, 7 * vocab * sizeof *few);
    free(few);
    free(logits);
    free(expected);
    model_close(&model);
}
END_TEST

START_TEST(a_library_that_lacks_is_named)
{
    struct backend_shape shape = {.n_heads = 1,
                                  .n_kv_heads = 1,
                                  .head_dim = 8,
                                  .max_rows = 1,
                                  .max_logit_rows = 1,
                                  .max_seqs = 1,
                                  .kv_type = LLAMA3_KV_F16,
                                  .inv_freq = (float[4]){0}};
    cublas_is_missing = true;
    ck_assert_ptr_null(
        cuda_ops.open(&(struct backend_options){.threads = 1, .bf16_prompt = true}, &shape, &err));
    ck_assert_str_eq(err.message, "cuBLAS, for prompts in bf16: expected libcublas.so.13 or .12, "
                                  "found neither");
    ck_assert_uint_eq(emulator_allocated(), 0);
}
END_TEST

/* ---- failures ---------------------------------------------------------------------------- */

static void expect_device(int devices, int number, const char *message)
{
    struct backend_device device;
    struct backend_options options = {.threads = 1, .device = number};
    emulator_set_devices(devices);
    ck_assert_int_eq(cuda_ops.device(&options, &device, &err), -1);
    ck_assert_str_eq(err.message, message);
}

START_TEST(devices_that_lack_are_named)
{
    struct backend_device device;
    expect_device(-1, 0, "no CUDA device: no driver was found");
    expect_device(0, 0, "no CUDA device: no CUDA-capable device is detected");
    expect_device(1, 1, "device 1: there is 1, numbered from 0");
    expect_device(2, 3, "device 3: there are 2, numbered from 0");
    expect_device(2, -1, "device -1: there are 2, numbered from 0");
    ck_assert_int_eq(
        cuda_ops.device(&(struct backend_options){.threads = 1, .device = 1}, &device, &err), 0);
    ck_assert_str_eq(device.name, "emulated");
    ck_assert_uint_eq(device.free_bytes, device.total_bytes);
}
END_TEST

START_TEST(a_failed_launch_ends_the_backend_alone)
{
    struct model model = open_model(0);
    struct forward *f = open_forward(&model, NULL, LLAMA3_KV_F16);
    struct sequence *sequence = sequence_open(f, &err);
    struct batch_row rows[1];
    float *logits = size_alloc(1, model.config.vocab_size * sizeof *logits);
    put_rows(rows, (int32_t[]){5}, 0, 1, 0);
    ck_assert_int_eq(sequence_reserve(f, sequence, 0, 1, &err), 0);
    emulator_fail_launch(_i);
    for (int again = 0; again < 3; again++) {
        ck_assert_int_eq(forward_run(f, rows, 1, &sequence, 1, logits, NULL, NULL, &err), -1);
        ck_assert_int_eq(err.code, LLAMA3_EDEVICE);
        ck_assert_str_eq(err.message, "CUDA: an operation from embed to linear: an illegal memory "
                                      "access was encountered");
    }
    sequence_close(f, sequence);
    forward_close(f);
    emulator_fail_launch(-1);
    free(logits);
    free(logits_of(&model, NULL, LLAMA3_KV_F16, (int32_t[]){5}, 1, 1));
    model_close(&model);
}
END_TEST

/* Whatever doesn't fit: an error with numbers, and nothing is kept. */
START_TEST(memory_that_lacks_is_an_error)
{
    struct model model = open_model(0);
    struct forward_options options = {.backend = {.threads = 1},
                                      .max_rows = 8,
                                      .max_logit_rows = 8,
                                      .max_seqs = 1,
                                      .max_context = 256,
                                      .kv_type = LLAMA3_KV_F16};
    static const struct backend_ops *const cuda[] = {&cuda_ops};
    const struct plan plan = {cuda, 1, &(struct span){0, 0}, 1};
    struct forward *f = NULL;
    for (size_t bytes = 1024; f == NULL; bytes += bytes / 4) {
        ck_assert_uint_lt(bytes, (size_t)1 << 28);
        emulator_set_memory(bytes);
        f = forward_open(&model, &plan, &options, &err);
        if (f != NULL)
            break;
        ck_assert_int_eq(err.code, LLAMA3_ENOMEM);
        ck_assert_ptr_nonnull(strstr(err.message, " bytes of the device's memory, found "));
        ck_assert_uint_eq(emulator_allocated(), 0);
    }
    struct sequence *sequence = sequence_open(f, &err);
    emulator_set_memory(emulator_allocated());
    ck_assert_int_eq(sequence_reserve(f, sequence, 0, 1, &err), -1);
    ck_assert_int_eq(err.code, LLAMA3_ENOMEM);
    emulator_set_memory((size_t)1 << 28);
    ck_assert_int_eq(sequence_reserve(f, sequence, 0, 256, &err), 0);
    sequence_close(f, sequence);
    forward_close(f);
    ck_assert_uint_eq(emulator_allocated(), 0);
    model_close(&model);
}
END_TEST

/* What is asked for beforehand is what is taken. */
START_TEST(bytes_are_told_beforehand)
{
    struct model model = open_model(_i);
    const struct backend_options options = {.threads = 1};
    const float inv_freq[MAX_HEAD_DIM / 2] = {0};
    const struct backend_shape shape = {.n_heads = 4,
                                        .n_kv_heads = 2,
                                        .head_dim = 20,
                                        .n_layers = 3,
                                        .max_rows = 37,
                                        .max_logit_rows = 5,
                                        .max_seqs = 2,
                                        .max_context = 512,
                                        .kv_type = LLAMA3_KV_F16,
                                        .inv_freq = inv_freq};
    struct backend *b = cuda_ops.open(&options, &shape, &err);
    ck_assert_uint_le(emulator_allocated(), cuda_ops.own_bytes(&options, &shape));
    const struct matrix *matrices[] = {&model.embed, &model.layers[0].q, &model.layers[0].down,
                                       &model.norm};
    const enum weight_use uses[] = {WEIGHT_TABLE, WEIGHT_MATRIX, WEIGHT_MATRIX, WEIGHT_VECTOR};
    for (size_t i = 0; i < 4; i++) {
        size_t before = emulator_allocated();
        struct weight *w = cuda_ops.weight(b, matrices[i], uses[i], &err);
        ck_assert_uint_eq(emulator_allocated() - before,
                          cuda_ops.weight_bytes(&options, matrices[i], uses[i]));
        cuda_ops.weight_free(b, w);
        ck_assert_uint_eq(emulator_allocated(), before);
    }
    for (int rows = ROWS_ALL; rows <= ROWS_LOGITS; rows++) {
        size_t before = emulator_allocated();
        struct buffer *buffer = cuda_ops.buffer(b, (enum rows)rows, 77, &err);
        ck_assert_uint_eq(emulator_allocated() - before,
                          cuda_ops.buffer_bytes(&shape, (enum rows)rows, 77));
        cuda_ops.buffer_free(b, buffer);
    }
    struct kv *kv = cuda_ops.kv_open(b, &err);
    ck_assert_int_eq(cuda_ops.kv_reserve(b, kv, 0, 3 * KV_PAGE, &err), 0);
    ck_assert_uint_eq(cuda_ops.kv_bytes(b), 3 * cuda_ops.kv_page_bytes(&shape));
    cuda_ops.kv_close(b, kv);
    cuda_ops.close(b);
    model_close(&model);
}
END_TEST

/* ---- the emulator ------------------------------------------------------------------------ */

START_TEST(what_is_in_order_passes)
{
    emulator_race(NO_RACE);
}
END_TEST

START_TEST(races_are_found)
{
    static const char *const expected[RACES] = {
        [NO_BARRIER] = "a race with a",
        [NO_WARP_BARRIER] = "a race with a",
        [NO_BARRIER_AFTER] = "a race with a",
        [BOTH_WRITE] = "a race with a write",
        [COPY_NOT_WAITED] = "an access to what is still being copied",
        [COPY_NOT_SHARED] = "a race with a",
        [COPY_TOO_EARLY] = "a race with a",
        [BLOCKS_WRITE] = "a race with a write",
        [COPY_CHANGED] = "a write to what is still being copied",
        [NO_FENCE] = "a race with a write",
        [FENCE_TOO_EARLY] = "a race with a write",
        [NO_FENCE_AFTER] = "a race with a write",
        [READ_NOT_WAITED] = "a read of a kernel's result before the wait for it",
        [WRITE_NOT_WAITED] = "a write before the wait for the kernels before",
    };
    char told[1024] = "";
    int fds[2], status;
    ck_assert_int_eq(pipe(fds), 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(fds[1], STDERR_FILENO);
        emulator_race((enum race)_i);
        _exit(0);
    }
    close(fds[1]);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_ge(read(fds[0], told, sizeof told - 1), 0);
    close(fds[0]);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    ck_assert_msg(strstr(told, expected[_i]) != NULL, "%s", told);
    ck_assert_ptr_nonnull(strstr(told, _i < BLOCKS_WRITE ? "shared memory" : "device's memory"));
}
END_TEST

/* ---- layout ------------------------------------------------------------------------------ */

static struct matrix random_matrix(enum dtype type, size_t rows, size_t cols, int kind)
{
    struct matrix m = {.type = type, .rows = rows, .cols = cols};
    m.groups.scale = kind % 2 == 0 ? GROUP_SCALE_INT8 : GROUP_SCALE_F16;
    m.groups.offset = kind / 2 == 1;
    m.groups.cols = GROUP;
    if (type == DTYPE_INT4)
        memcpy(m.groups.codebook, kind == 3 ? group_codebook_unsigned : group_codebook, 16);
    uint8_t *data = size_alloc_aligned(1, matrix_bytes(&m));
    uint32_t state = 1;
    for (size_t i = 0; i < matrix_bytes(&m); i++)
        data[i] = (uint8_t)((state = state * 1664525 + 1013904223) >> 24);
    m.data = data;
    return m;
}

/* Bytes of a unit as kernels find it. */
static const uint8_t *unit_at(const struct device_matrix *m, size_t row, size_t block, size_t unit)
{
    size_t units = (size_t)block_bytes(m->form) / UNIT_BYTES;
    size_t tile = row / TILE_ROWS * (size_t)m->padded_blocks + block;
    return m->units + ((tile * units + unit) * TILE_ROWS + row % TILE_ROWS) * UNIT_BYTES;
}

/* A NaN may be another one. */
static void check_half(const uint8_t *half, float expected)
{
    float found = load_f16(half);
    ck_assert((isnan(found) && isnan(expected)) || memcmp(&found, &expected, sizeof found) == 0);
}

static void check_group(const struct matrix *m, const struct device_matrix *d, size_t row,
                        size_t group)
{
    struct strip_layout s = strip_layout(m->type, &m->groups, m->cols);
    const uint8_t *strip = (const uint8_t *)m->data + row / STRIP * s.bytes;
    size_t quads = (size_t)d->padded_blocks / QUAD, i = group * STRIP + row % STRIP;
    size_t at = ((row / TILE_ROWS * quads + group / QUAD) * TILE_ROWS + row % TILE_ROWS) * QUAD +
                group % QUAD;
    for (size_t col = 0; col < GROUP; col++) {
        int code = group_code(m->type, &s, strip, row % STRIP, group * GROUP + col);
        if (d->form == MATRIX_INT4)
            require((unit_at(d, row, group, 0)[col / 2] >> (col % 2 * 4) & 15) == code,
                    "row %zu, group %zu, column %zu: another code", row, group, col);
        else
            require((int8_t)unit_at(d, row, group, col / 16)[col % 16] ==
                        (m->type == DTYPE_INT4 ? m->groups.codebook[code] : code),
                    "row %zu, group %zu, column %zu: another level", row, group, col);
    }
    if (m->groups.scale == GROUP_SCALE_F16)
        check_half(d->scales + at * 2, load_f16(strip + s.scales + i * 2));
    else if (m->groups.offset)
        check_half(d->scales + at * 2, (int8_t)strip[s.scales + i]);
    else
        ck_assert_int_eq(d->scales[at], strip[s.scales + i]);
    if (m->groups.offset)
        check_half(d->offsets + at * 2, load_f16(strip + s.offsets + i * 2));
    ck_assert_mem_eq(d->row_scales + row, strip + row % STRIP * sizeof(float), sizeof(float));
}

/* All tiles of a matrix as the device would have them. */
static uint8_t *laid_out(const struct matrix *m, struct device_matrix *d)
{
    struct layout l = layout_of(m);
    uint8_t *memory = size_alloc(1, l.bytes), *room = size_alloc_aligned(1, layout_scratch(&l) + 1);
    for (size_t tile = 0; tile < l.tiles; tile++)
        layout_tile(&l, m, tile, memory + tile * l.tile_units,
                    memory + l.scales + tile * l.tile_scales,
                    memory + l.offsets + tile * l.tile_offsets,
                    memory + l.row_scales + tile * l.tile_row_scales, room);
    free(room);
    *d = layout_view(&l, memory);
    return memory;
}

START_TEST(groups_lie_where_kernels_look)
{
    static const enum dtype types[] = {DTYPE_INT4, DTYPE_INT8};
    for (int kind = 0; kind < 6; kind++)
        for (int t = 0; t < 2; t++) {
            struct device_matrix d;
            struct matrix m = random_matrix(types[t], 53, 300, kind % 4);
            if (kind == 4) /* levels that there is no lookup for */
                m.groups.codebook[3] = 5;
            if (kind == 5)
                m.groups.codebook[8] = -1;
            uint8_t *memory = laid_out(&m, &d);
            ck_assert_int_eq(d.form, t == 0 && kind < 4 ? MATRIX_INT4 : MATRIX_INT8);
            for (size_t row = 0; row < m.rows; row++)
                for (size_t group = 0; group * GROUP < m.cols; group++)
                    check_group(&m, &d, row, group);
            free(memory);
            free((void *)(uintptr_t)m.data);
        }
}
END_TEST

static float rounded_to_bf16(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return isnan(x) ? x : bf16_to_f32((uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16));
}

static void check_expanded(const struct matrix *m, size_t first, size_t n)
{
    struct device_matrix d;
    struct layout l = layout_of(m);
    uint8_t *memory = laid_out(m, &d);
    size_t width = (size_t)d.padded_blocks * BLOCK_COLS, bytes = n * width * sizeof(uint16_t);
    void *on_device, *out_on_device;
    uint16_t *out = size_alloc(1, bytes);
    float *expected = size_alloc(m->cols, sizeof *expected);
    cudaStream_t stream;

    cudaStreamCreate(&stream);
    cudaMalloc(&on_device, l.bytes);
    cudaMalloc(&out_on_device, bytes);
    cudaMemcpyAsync(on_device, memory, l.bytes, cudaMemcpyHostToDevice, stream);
    d = layout_view(&l, on_device);
    device_expand(stream, &d, (int)first, (int)n, out_on_device);
    cudaMemcpyAsync(out, out_on_device, bytes, cudaMemcpyDeviceToHost, stream);
    ck_assert_int_eq(cudaStreamSynchronize(stream), cudaSuccess);
    for (size_t row = 0; row < n; row++) {
        matrix_row(m, first + row, expected);
        for (size_t col = 0; col < width; col++) {
            float ours = bf16_to_f32(out[row * width + col]);
            float theirs = col < m->cols ? rounded_to_bf16(expected[col]) : 0;
            require((isnan(ours) && isnan(theirs)) || memcmp(&ours, &theirs, 4) == 0,
                    "%s %zu, %zu: expected %g, found %g", dtype_info(m->type)->name, row, col,
                    (double)theirs, (double)ours);
        }
    }
    cudaFree(on_device);
    cudaFree(out_on_device);
    cudaStreamDestroy(stream);
    free(expected);
    free(out);
    free(memory);
}

START_TEST(weights_expand_to_their_definition)
{
    static const enum dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_INT4, DTYPE_INT8};
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++)
        for (int kind = 0; kind < (is_grouped(types[t]) ? 4 : 1); kind++) {
            struct matrix m = random_matrix(types[t], 101, 300, kind);
            check_expanded(&m, 0, 101);
            check_expanded(&m, 64, 9);
            free((void *)(uintptr_t)m.data);
        }
}
END_TEST

START_TEST(floats_lie_where_kernels_look)
{
    static const enum dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    for (int t = 0; t < 3; t++) {
        struct device_matrix d;
        struct matrix m = random_matrix(types[t], 37, 109, 0);
        size_t size = dtype_info(types[t])->block_bytes, each = UNIT_BYTES / size;
        uint8_t *memory = laid_out(&m, &d);
        for (size_t row = 0; row < m.rows; row++)
            for (size_t col = 0; col < (size_t)d.blocks * BLOCK_COLS; col++) {
                static const uint8_t zero[4];
                const uint8_t *at =
                    unit_at(&d, row, col / BLOCK_COLS, col % BLOCK_COLS / each) + col % each * size;
                ck_assert_mem_eq(
                    at, col < m.cols ? (const uint8_t *)m.data + (row * m.cols + col) * size : zero,
                    size);
            }
        free(memory);
        free((void *)(uintptr_t)m.data);
    }
}
END_TEST

START_TEST(slices_are_whole_quads_and_few)
{
    for (int blocks = 1; blocks <= MAX_FFN / BLOCK_COLS; blocks++) {
        int each = slice_blocks(blocks), n = slice_count(blocks);
        ck_assert_int_eq(each % QUAD, 0);
        ck_assert_int_ge(n, 1);
        ck_assert_int_le(n, MAX_SLICES);
        ck_assert_int_ge(n * each, blocks);
        ck_assert_int_lt((n - 1) * each, blocks);
    }
}
END_TEST
#endif

int main(void)
{
    if (!cuda_answers())
        return 77;
    TCase *tcase = tcase_create("models");
    tcase_set_timeout(tcase, 1200);
    tcase_add_loop_test(tcase, logits_are_those_of_the_golden, 0, N_FIXTURES);
    tcase_add_loop_test(tcase, one_answer, 0, 10);
    tcase_add_loop_test(tcase, spans_alternate_with_the_cpu, 0, 2);
    tcase_add_loop_test(tcase, adapters_are_the_cpus, 0, 4);
    tcase_add_test(tcase, a_pass_can_be_canceled);
    tcase_add_test(tcase, limits_are_measured);
#ifdef CUDA_EMULATED
    tcase_add_test(tcase, passes_of_one_shape_are_launched_at_once);
    tcase_add_loop_test(tcase, prompts_in_bf16_are_close, 0, 4);
    tcase_add_test(tcase, a_library_that_lacks_is_named);
    tcase_add_test(tcase, devices_that_lack_are_named);
    tcase_add_loop_test(tcase, a_failed_launch_ends_the_backend_alone, 1, 5);
    tcase_add_test(tcase, memory_that_lacks_is_an_error);
    /* The last has an order of columns, whose bytes are told rounded up. */
    tcase_add_loop_test(tcase, bytes_are_told_beforehand, 0, N_FIXTURES);
    tcase_add_test(tcase, what_is_in_order_passes);
    if (emulator_finds_races())
        tcase_add_loop_test(tcase, races_are_found, NO_RACE + 1, RACES);
    tcase_add_test(tcase, groups_lie_where_kernels_look);
    tcase_add_test(tcase, weights_expand_to_their_definition);
    tcase_add_test(tcase, floats_lie_where_kernels_look);
    tcase_add_test(tcase, slices_are_whole_quads_and_few);
#endif
    return run_tests("cuda", tcase);
}
