/* SPDX-License-Identifier: MIT */
/*
 * test_placement: what goes where, on models of published shapes (no weights, only their sizes) and
 * devices with any amount of memory: never more than there is, never less than would fit.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "deferred.h"
#include "engine/placement.h"
#include "run.h"

static struct llama3_error err;

/* ---- models ------------------------------------------------------------------------------ */

enum { N_LAYERS = 8, CONTEXT = 32768, HOST_CONTEXT = 20000 };

static struct matrix matrix(enum dtype type, size_t rows, size_t cols)
{
    return (struct matrix){.type = type, .rows = rows, .cols = cols, .groups = {.cols = GROUP}};
}

static void make_model(struct model *m, enum dtype type, bool tied)
{
    const struct config *c = &m->config;
    *m = (struct model){.config = {.dim = 2048,
                                   .n_layers = N_LAYERS,
                                   .n_heads = 32,
                                   .n_kv_heads = 8,
                                   .head_dim = 64,
                                   .ffn_dim = 8192,
                                   .vocab_size = 128256,
                                   .context = CONTEXT,
                                   .rms_eps = 1e-5f,
                                   .tied = tied}};
    m->embed = m->head = matrix(type, c->vocab_size, c->dim);
    m->norm = matrix(DTYPE_F32, 1, c->dim);
    m->layers = size_alloc(c->n_layers, sizeof *m->layers);
    for (size_t i = 0; i < c->n_layers; i++)
        m->layers[i] = (struct layer){
            .attn_norm = m->norm,
            .q = matrix(type, c->n_heads * c->head_dim, c->dim),
            .k = matrix(type, c->n_kv_heads * c->head_dim, c->dim),
            .v = matrix(type, c->n_kv_heads * c->head_dim, c->dim),
            .o = matrix(type, c->dim, c->n_heads * c->head_dim),
            .ffn_norm = m->norm,
            .gate = matrix(type, c->ffn_dim, c->dim),
            .up = matrix(type, c->ffn_dim, c->dim),
            .down = matrix(type, c->dim, c->ffn_dim),
        };
}

static const struct kind {
    enum dtype type;
    bool tied, kv_on_host;
    size_t context; /* 0: to be chosen */
} kinds[] = {
    {DTYPE_BF16, false, false, 8192}, {DTYPE_BF16, true, false, 512},
    {DTYPE_INT4, false, false, 0},    {DTYPE_INT4, true, true, CONTEXT},
    {DTYPE_F32, true, false, 0},      {DTYPE_INT8, false, true, 0},
};
enum { N_KINDS = sizeof kinds / sizeof kinds[0] };

/* ---- a request --------------------------------------------------------------------------- */

struct rig {
    struct model model;
    struct forward_options options;
    struct placement_request request;
    struct placement placement;
};

static uint64_t host_kv_bytes(const struct model *model, enum llama3_kv_type type)
{
    return HOST_CONTEXT * kv_position_bytes(&model->config, type) * N_LAYERS;
}

static void rig_open(struct rig *rig, const struct kind *kind)
{
    memset(rig, 0, sizeof *rig);
    deferred_device = (struct deferred_device){0};
    make_model(&rig->model, kind->type, kind->tied);
    rig->options = (struct forward_options){
        .backend = {.threads = 1}, .max_rows = 256, .max_logit_rows = 32, .max_seqs = 32};
    rig->request =
        (struct placement_request){.kv_on_host = kind->kv_on_host,
                                   .ops = &deferred_ops,
                                   .context = kind->context,
                                   .host_kv_bytes = host_kv_bytes(&rig->model, LLAMA3_KV_F16),
                                   .kv_type = LLAMA3_KV_F16};
}

static void rig_close(struct rig *rig)
{
    free(rig->model.layers);
}

static int choose(struct rig *rig, int gpu_layers, uint64_t free_bytes)
{
    deferred_device.free_bytes = deferred_device.total_bytes = free_bytes;
    rig->request.gpu_layers = gpu_layers;
    return placement_choose(&rig->placement, &rig->model, &rig->options, &rig->request, &err);
}

/* ---- what a plan takes, counted another way ------------------------------------------------ */

static const struct backend_ops *ops_at(const struct placement *p, size_t stage)
{
    size_t span = 0;
    while (span + 1 < p->plan.n_spans && p->spans[span + 1].first <= stage)
        span++;
    return p->backends[p->spans[span].backend];
}

static uint64_t weight(const struct matrix *m, enum weight_use use)
{
    return deferred_ops.weight_bytes(NULL, m, use);
}

static size_t device_layers(const struct placement *p)
{
    size_t n = 0;
    for (size_t i = 0; i < N_LAYERS; i++)
        n += ops_at(p, stage_of(i, STAGE_FFN)) == &deferred_ops;
    return n;
}

static uint64_t device_bytes(const struct rig *rig)
{
    const struct placement *p = &rig->placement;
    const struct model *m = &rig->model;
    const struct config *c = &m->config;
    size_t n = device_layers(p), head = stage_count(N_LAYERS) - 1;
    bool embeds = ops_at(p, 0) == &deferred_ops;
    if (n == 0)
        return 0;
    const struct layer *l = &m->layers[0];
    uint64_t bytes = 2 * weight(&m->norm, WEIGHT_VECTOR);
    const struct matrix *const all[] = {&l->q, &l->k, &l->v, &l->o, &l->gate, &l->up, &l->down};
    for (size_t i = 0; i < 7; i++)
        bytes += weight(all[i], WEIGHT_MATRIX);
    bytes *= n;
    ck_assert_ptr_eq(ops_at(p, head), &deferred_ops);
    bytes += weight(&m->norm, WEIGHT_VECTOR) + weight(&m->head, WEIGHT_MATRIX);
    if (embeds && !c->tied)
        bytes += weight(&m->embed, WEIGHT_TABLE);

    struct backend_shape shape = forward_shape(c, &rig->options, rig->request.kv_on_host ? 0 : n);
    const size_t cols[] = {c->dim, c->dim,     c->dim,     c->n_heads * c->head_dim, 512,
                           512,    c->ffn_dim, c->ffn_dim, c->n_heads * c->head_dim};
    for (size_t i = 0; i < sizeof cols / sizeof cols[0]; i++)
        bytes += deferred_ops.buffer_bytes(&shape, ROWS_ALL, cols[i]);
    bytes += deferred_ops.buffer_bytes(&shape, ROWS_LOGITS, c->dim);
    bytes += deferred_ops.buffer_bytes(&shape, ROWS_LOGITS, c->vocab_size);
    bytes += deferred_ops.own_bytes(&rig->options.backend, &shape);
    if (!rig->request.kv_on_host)
        bytes +=
            (rig->options.max_context + KV_PAGE - 1) / KV_PAGE * deferred_ops.kv_page_bytes(&shape);
    return bytes;
}

/* A 32nd of a device is left to others. */
static uint64_t room(uint64_t free_bytes)
{
    uint64_t reserve = free_bytes / 32;
    return free_bytes - (reserve < 1000000000 ? reserve : 1000000000);
}

/* ---- tests ------------------------------------------------------------------------------- */

/* The plan is what placement.h says, and the places add up to it. */
static void check_plan(const struct rig *rig)
{
    const struct placement *p = &rig->placement;
    size_t n = device_layers(p), layers = 0, kv_layers = 0, heads = 0, embeddings = 0;
    for (size_t i = 0; i < N_LAYERS; i++) {
        const struct backend_ops *own =
            i + n >= N_LAYERS ? &deferred_ops : backend_find(NULL, NULL);
        ck_assert_ptr_eq(ops_at(p, stage_of(i, STAGE_QKV)), own);
        ck_assert_ptr_eq(ops_at(p, stage_of(i, STAGE_OUT)), own);
        ck_assert_ptr_eq(ops_at(p, stage_of(i, STAGE_FFN)), own);
        ck_assert_ptr_eq(ops_at(p, stage_of(i, STAGE_ATTEND)),
                         rig->request.kv_on_host ? backend_find(NULL, NULL) : own);
    }
    if (n < N_LAYERS)
        ck_assert_ptr_eq(ops_at(p, 0), backend_find(NULL, NULL));
    for (size_t i = 0; i < p->plan.n_backends; i++) {
        const struct llama3_memory *place = &p->memories[i];
        layers += place->n_layers;
        kv_layers += place->n_kv_layers;
        heads += place->head;
        embeddings += place->embedding;
        if (p->backends[i] != &deferred_ops) {
            ck_assert_ptr_null(place->device);
            continue;
        }
        ck_assert_str_eq(place->device, "Deferred 1");
        ck_assert_uint_eq(place->n_layers, n);
        ck_assert_uint_eq(place->weight_bytes + place->kv_bytes + place->work_bytes,
                          device_bytes(rig));
    }
    ck_assert_uint_eq(layers, N_LAYERS);
    ck_assert_uint_eq(kv_layers, N_LAYERS);
    ck_assert_uint_eq(heads, 1);
    ck_assert_uint_eq(embeddings, 1);
}

/* At every size of memory: within it, with one more layer not; and more memory never takes less. */
START_TEST(auto_takes_what_fits_and_no_more)
{
    struct rig rig;
    size_t layers = 0, seen = 0;
    uint64_t taken = 0;
    char fit[32];
    rig_open(&rig, &kinds[_i]);
    for (uint64_t bytes = 1000000; bytes < 16000000000; bytes += bytes / 24 + 1000000) {
        ck_assert_msg(choose(&rig, LLAMA3_GPU_AUTO, bytes) == 0, "%s", err.message);
        check_plan(&rig);
        size_t n = device_layers(&rig.placement), context = rig.options.max_context;
        ck_assert_uint_le(device_bytes(&rig), room(bytes));
        ck_assert_uint_ge(n, layers);
        if (n == layers)
            ck_assert_uint_ge(device_bytes(&rig), taken);
        taken = device_bytes(&rig);
        seen |= (size_t)1 << n;
        layers = n;
        ck_assert_int_eq(rig.placement.note[0] != '\0', n == 0);
        if (n > 0) {
            ck_assert_int_eq(choose(&rig, (int)n, bytes), 0);
            ck_assert_uint_eq(device_layers(&rig.placement), n);
            ck_assert_uint_eq(rig.options.max_context, context);
        }
        if (n == N_LAYERS)
            continue;
        ck_assert_int_eq(choose(&rig, (int)n + 1, bytes), -1);
        ck_assert_int_eq(err.code, LLAMA3_ENOMEM);
        snprintf(fit, sizeof fit, n > 0 ? ": at most %zu fit;" : ": not one fits;", n);
        ck_assert_msg(strstr(err.message, fit) != NULL, "%s", err.message);
        ck_assert_int_eq(choose(&rig, LLAMA3_GPU_ALL, bytes), -1);
    }
    ck_assert_uint_eq(layers, N_LAYERS);
    ck_assert_uint_ge((size_t)__builtin_popcountll(seen), N_LAYERS); /* most splits came up */
    ck_assert_int_eq(choose(&rig, LLAMA3_GPU_ALL, 16000000000), 0);
    ck_assert_uint_eq(device_layers(&rig.placement), N_LAYERS);
    rig_close(&rig);
}
END_TEST

/* With room for it the embedding goes too; a tied one is there already. */
START_TEST(the_embedding_goes_last)
{
    for (int tied = 0; tied <= 1; tied++) {
        struct rig rig;
        const struct kind kind = {DTYPE_BF16, tied, false, 512};
        rig_open(&rig, &kind);
        ck_assert_int_eq(choose(&rig, LLAMA3_GPU_AUTO, 16000000000), 0);
        ck_assert_uint_eq(rig.placement.plan.n_backends, 1);
        ck_assert_uint_eq(rig.placement.plan.n_spans, 1);
        uint64_t all = device_bytes(&rig);
        uint64_t least = all / 31 * 32 + 64; /* so that the 32nd leaves that */
        ck_assert_int_eq(choose(&rig, LLAMA3_GPU_ALL, least), 0);
        ck_assert_uint_eq(rig.placement.plan.n_backends, 1);
        ck_assert_int_eq(choose(&rig, LLAMA3_GPU_ALL, least - 1000), tied ? -1 : 0);
        if (!tied) {
            ck_assert_uint_eq(rig.placement.plan.n_backends, 2);
            ck_assert_uint_eq(device_bytes(&rig), all - weight(&rig.model.embed, WEIGHT_TABLE));
            ck_assert_uint_eq(rig.placement.plan.n_spans, 2);
        }
        rig_close(&rig);
    }
}
END_TEST

/* A context that nobody named grows into what is left, by whole pages, up to the model's limit, or
 * the host's where KV lies there. */
START_TEST(the_context_grows_into_what_is_left)
{
    struct rig rig;
    const struct kind kind = {DTYPE_BF16, true, false, 0};
    rig_open(&rig, &kind);
    ck_assert_int_eq(choose(&rig, LLAMA3_GPU_AUTO, 16000000000), 0);
    ck_assert_uint_eq(rig.options.max_context, CONTEXT);
    uint64_t most = device_bytes(&rig);
    size_t before = 0, between = 0;
    for (uint64_t bytes = most / 2; bytes < most + most / 16; bytes += 2000000) {
        if (choose(&rig, LLAMA3_GPU_ALL, bytes) < 0)
            continue;
        size_t context = rig.options.max_context;
        ck_assert_uint_ge(context, before);
        ck_assert_uint_ge(context, 8192);
        ck_assert_uint_le(device_bytes(&rig), room(bytes));
        between += context > 8192 && context < CONTEXT;
        before = context;
        if (context == CONTEXT)
            continue;
        rig.options.max_context += KV_PAGE;
        ck_assert_uint_gt(device_bytes(&rig), room(bytes));
    }
    ck_assert_uint_eq(before, CONTEXT);
    ck_assert_uint_gt(between, 10);

    ck_assert_int_eq(choose(&rig, N_LAYERS - 1, 16000000000), 0);
    ck_assert_uint_eq(rig.options.max_context, HOST_CONTEXT);
    rig.request.kv_on_host = true;
    ck_assert_int_eq(choose(&rig, LLAMA3_GPU_ALL, 16000000000), 0);
    ck_assert_uint_eq(rig.options.max_context, HOST_CONTEXT);
    ck_assert_int_eq(choose(&rig, LLAMA3_GPU_NONE, 16000000000), 0);
    ck_assert_uint_eq(rig.options.max_context, HOST_CONTEXT);
    rig_close(&rig);
}
END_TEST

/* Left to itself, KV is of 8 bits where the host has it, and of 16 where a device has any. */
START_TEST(the_type_of_kv_follows_its_place)
{
    const struct kind kind = {DTYPE_BF16, true, false, 0};
    struct rig rig;
    rig_open(&rig, &kind);
    rig.request.kv_type = LLAMA3_KV_AUTO;
    rig.request.host_kv_bytes = host_kv_bytes(&rig.model, LLAMA3_KV_INT8);
    ck_assert_int_eq(choose(&rig, LLAMA3_GPU_NONE, 16000000000), 0);
    ck_assert_int_eq(rig.options.kv_type, LLAMA3_KV_INT8);
    ck_assert_uint_eq(rig.options.max_context, HOST_CONTEXT);
    ck_assert_int_eq(choose(&rig, LLAMA3_GPU_ALL, 16000000000), 0);
    ck_assert_int_eq(rig.options.kv_type, LLAMA3_KV_F16);
    ck_assert_int_eq(choose(&rig, 2, 16000000000), 0);
    ck_assert_int_eq(rig.options.kv_type, LLAMA3_KV_F16);
    ck_assert_uint_lt(rig.options.max_context, HOST_CONTEXT);
    ck_assert_int_eq(choose(&rig, LLAMA3_GPU_AUTO, 1000000), 0); /* not one layer fits */
    ck_assert_uint_eq(device_layers(&rig.placement), 0);
    ck_assert_int_eq(rig.options.kv_type, LLAMA3_KV_INT8);
    rig.request.kv_on_host = true;
    ck_assert_int_eq(choose(&rig, LLAMA3_GPU_ALL, 16000000000), 0);
    ck_assert_int_eq(rig.options.kv_type, LLAMA3_KV_INT8);
    ck_assert_uint_eq(rig.options.max_context, HOST_CONTEXT);
    /* A smaller type leaves room for more. */
    rig.request.kv_type = LLAMA3_KV_INT4;
    rig.request.host_kv_bytes = host_kv_bytes(&rig.model, LLAMA3_KV_INT8);
    ck_assert_int_eq(choose(&rig, LLAMA3_GPU_NONE, 16000000000), 0);
    ck_assert_int_eq(rig.options.kv_type, LLAMA3_KV_INT4);
    ck_assert_uint_gt(rig.options.max_context, HOST_CONTEXT);
    rig_close(&rig);
}
END_TEST

/* Pages that were asked for are counted instead of a context's, and a reserve is left. */
START_TEST(pages_and_reserves_count)
{
    struct rig rig;
    const struct kind kind = {DTYPE_INT4, true, false, 1024};
    rig_open(&rig, &kind);
    ck_assert_int_eq(choose(&rig, LLAMA3_GPU_ALL, 16000000000), 0);
    uint64_t one = device_bytes(&rig), page = rig.placement.memories[0].kv_bytes / (1024 / KV_PAGE);
    rig.request.kv_pages = 40;
    ck_assert_int_eq(choose(&rig, LLAMA3_GPU_ALL, 16000000000), 0);
    const struct llama3_memory *place = &rig.placement.memories[0];
    ck_assert_uint_eq(place->weight_bytes + place->kv_bytes + place->work_bytes,
                      one + page * (40 - 1024 / KV_PAGE));
    rig.request.kv_pages = 0;
    ck_assert_int_eq(choose(&rig, LLAMA3_GPU_ALL, one / 31 * 32 + 64), 0);
    rig.request.reserve_bytes = 1000;
    ck_assert_int_eq(choose(&rig, LLAMA3_GPU_ALL, one / 31 * 32 + 64), -1);
    rig_close(&rig);
}
END_TEST

START_TEST(what_cannot_be_had_is_refused)
{
    struct rig rig;
    rig_open(&rig, &kinds[0]);
    ck_assert_int_eq(choose(&rig, N_LAYERS + 1, 16000000000), -1);
    ck_assert_str_eq(err.message,
                     "gpu_layers: expected auto, all, none or 1 to the model's 8 layers, found 9");
    ck_assert_int_eq(choose(&rig, -3, 16000000000), -1);
    ck_assert_int_eq(err.code, LLAMA3_EINPUT);

    ck_assert_int_eq(choose(&rig, 5, 1200000000), -1);
    ck_assert_str_eq(err.message,
                     "gpu_layers: 5 of 8 layers need 1.3 GB of device memory with a context of "
                     "8192 tokens, and 1.2 GB can be used on Deferred 1: at most 4 fit; try auto, "
                     "fewer, or a smaller context");
    ck_assert_int_eq(choose(&rig, 1, 10000000), -1);
    ck_assert_msg(strstr(err.message, "not one fits; try auto, or a smaller context") != NULL, "%s",
                  err.message);
    ck_assert_int_eq(choose(&rig, LLAMA3_GPU_AUTO, 10000000), 0);
    ck_assert_msg(strncmp(rig.placement.note, "a layer and the head need ", 26) == 0, "%s",
                  rig.placement.note);

    deferred_device.absent = "deferred: no driver answers";
    for (int layers = 1; layers >= LLAMA3_GPU_ALL; layers -= 2) {
        ck_assert_int_eq(choose(&rig, layers, 16000000000), -1);
        ck_assert_int_eq(err.code, LLAMA3_EDEVICE);
        ck_assert_str_eq(err.message, "deferred: no driver answers");
    }
    ck_assert_int_eq(choose(&rig, LLAMA3_GPU_AUTO, 16000000000), 0);
    ck_assert_str_eq(rig.placement.note, "deferred: no driver answers");
    ck_assert_uint_eq(device_layers(&rig.placement), 0);
    ck_assert_int_eq(choose(&rig, LLAMA3_GPU_NONE, 16000000000), 0);
    ck_assert_str_eq(rig.placement.note, "");
    deferred_device.absent = NULL;
    rig.request.device = 1;
    ck_assert_int_eq(choose(&rig, LLAMA3_GPU_ALL, 16000000000), -1);
    ck_assert_str_eq(err.message, "deferred: expected device 0, found 1");
    ck_assert_int_eq(choose(&rig, LLAMA3_GPU_AUTO, 16000000000), -1);
    ck_assert_str_eq(err.message, "deferred: expected device 0, found 1");

    rig.request.device = -1;
    ck_assert_int_eq(choose(&rig, LLAMA3_GPU_NONE, 16000000000), -1);
    ck_assert_str_eq(err.message, "device: expected 0 or more, found -1");
    rig.request.device = 1;

    rig.request.ops = NULL; /* built without */
    ck_assert_int_eq(choose(&rig, LLAMA3_GPU_AUTO, 0), -1);
    ck_assert_msg(strstr(err.message, "device: expected a build with a GPU backend") != NULL, "%s",
                  err.message);
    rig.request.device = 0;
    ck_assert_int_eq(choose(&rig, 3, 0), -1);
    ck_assert_msg(strstr(err.message, "gpu_layers: expected a build with a GPU backend") != NULL,
                  "%s", err.message);
    ck_assert_int_eq(choose(&rig, LLAMA3_GPU_ALL, 0), -1);
    ck_assert_int_eq(choose(&rig, LLAMA3_GPU_NONE, 0), 0);
    ck_assert_int_eq(choose(&rig, LLAMA3_GPU_AUTO, 0), 0);
    ck_assert_str_eq(rig.placement.note, "");
    rig_close(&rig);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("placement");
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, auto_takes_what_fits_and_no_more, 0, N_KINDS);
    tcase_add_test(tcase, the_embedding_goes_last);
    tcase_add_test(tcase, the_context_grows_into_what_is_left);
    tcase_add_test(tcase, the_type_of_kv_follows_its_place);
    tcase_add_test(tcase, pages_and_reserves_count);
    tcase_add_test(tcase, what_cannot_be_had_is_refused);
    return run_tests("placement", tcase);
}
