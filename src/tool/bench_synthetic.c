/* SPDX-License-Identifier: MIT */
#include "config.h" /* MAP_ANONYMOUS */

#include "tool/bench_synthetic.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/machine.h"
#include "base/size.h"
#include "checkpoint/tensors.h"

enum { ALIGNMENT = 4096 };

struct shape {
    const char *name;
    struct config config;
};

#define SHAPE(layers, width, heads, kv_heads, ffn, vocab, is_tied)                         \
    {                                                                                      \
        .dim = width, .n_layers = layers, .n_heads = heads, .n_kv_heads = kv_heads,        \
        .head_dim = width / heads, .ffn_dim = ffn, .vocab_size = vocab, .context = 131072, \
        .rms_eps = 1e-5f, .rope = {.theta = 500000}, .tied = is_tied                       \
    }

static const struct shape shapes[] = {
    {"1b", SHAPE(16, 2048, 32, 8, 8192, 128256, true)},
    {"3b", SHAPE(28, 3072, 24, 8, 8192, 128256, true)},
    {"8b", SHAPE(32, 4096, 32, 8, 14336, 128256, false)},
    {"70b", SHAPE(80, 8192, 64, 8, 28672, 128256, false)},
    {"135m", SHAPE(30, 576, 9, 3, 1536, 49152, true)},
};

static int choose_shape(const char *text, struct config *config, struct llama3_error *err)
{
    size_t length = strcspn(text, ":");
    char *end = NULL;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        if (strlen(shapes[i].name) != length || strncmp(shapes[i].name, text, length) != 0)
            continue;
        *config = shapes[i].config;
        if (text[length] == '\0')
            return 0;
        unsigned long layers = strtoul(text + length + 1, &end, 10);
        if (text[length + 1] >= '0' && text[length + 1] <= '9' && *end == '\0' && layers > 0 &&
            layers <= MAX_LAYERS) {
            config->n_layers = layers;
            return 0;
        }
    }
    return error_input(
        err,
        "--synthetic: expected 1b, 3b, 8b, 70b or 135m, and perhaps :LAYERS (1 to %d) "
        "after it; found \"%s\"",
        MAX_LAYERS, text);
}

int synthetic_check(const char *shape, struct llama3_error *err)
{
    struct config config;
    return choose_shape(shape, &config, err);
}

/* ---- types ------------------------------------------------------------------------------- */

struct synthetic_type {
    enum dtype type;
    struct group_format groups;
};

/* What checkpoints of a family become, by the groups that most of them have; where a codebook isn't
 * the family's own, no kernel is faster or slower for it. */
static const struct family {
    const char *name;
    struct synthetic_type type;
} families[] = {
    {"int4", {DTYPE_INT4, {.scale = GROUP_SCALE_INT8, .cols = GROUP}}},
    {"int8", {DTYPE_INT8, {.scale = GROUP_SCALE_INT8, .cols = GROUP}}},
    {"bf16", {DTYPE_BF16, {.cols = 0}}},
    {"f32", {DTYPE_F32, {.cols = 0}}},
    {"gptq", {DTYPE_INT4, {.scale = GROUP_SCALE_F16, .cols = 128}}},
    {"awq", {DTYPE_INT4, {.scale = GROUP_SCALE_F16, .offset = true, .cols = 128}}},
    {"nf4", {DTYPE_INT4, {.scale = GROUP_SCALE_F16, .cols = 64}}},
    {"w8a8", {DTYPE_INT8, {.scale = GROUP_SCALE_INT8, .cols = 128}}},
    {"fp8", {DTYPE_INT8, {.scale = GROUP_SCALE_F16, .cols = GROUP}}},
};

static struct synthetic_type type_named(const char *name)
{
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        if (strcmp(families[i].name, name) == 0)
            return families[i].type;
    struct synthetic_type type = families[0].type;
    for (enum dtype t = 0; t < DTYPE_ROWS; t++)
        if (strcmp(dtype_info(t)->name, name) == 0)
            group_from_gguf(t, &type.type, &type.groups);
    return type;
}

/* ---- where everything lies --------------------------------------------------------------- */

static void set(struct matrix *matrix, const struct synthetic_type *type, size_t rows, size_t cols)
{
    *matrix =
        (struct matrix){.type = type->type, .rows = rows, .cols = cols, .groups = type->groups};
    if (type->type == DTYPE_INT4 && type->groups.codebook[0] == 0 && type->groups.codebook[15] == 0)
        memcpy(matrix->groups.codebook, group_codebook, sizeof matrix->groups.codebook);
}

static void set_shapes(struct model *m, const struct synthetic_type *type)
{
    static const struct synthetic_type norm = {.type = DTYPE_F32};
    const struct config *c = &m->config;
    size_t q = c->n_heads * c->head_dim, kv = c->n_kv_heads * c->head_dim;
    set(&m->embed, type, c->vocab_size, c->dim);
    set(&m->head, type, c->vocab_size, c->dim);
    set(&m->norm, &norm, 1, c->dim);
    for (size_t i = 0; i < c->n_layers; i++) {
        struct layer *l = &m->layers[i];
        set(&l->attn_norm, &norm, 1, c->dim);
        set(&l->q, type, q, c->dim);
        set(&l->k, type, kv, c->dim);
        set(&l->v, type, kv, c->dim);
        set(&l->o, type, c->dim, q);
        set(&l->ffn_norm, &norm, 1, c->dim);
        set(&l->gate, type, c->ffn_dim, c->dim);
        set(&l->up, type, c->ffn_dim, c->dim);
        set(&l->down, type, c->dim, c->ffn_dim);
    }
}

/* One mapping for all matrices, each aligned to ALIGNMENT as in our own files. */
static int map_matrices(struct model *m, struct llama3_error *err)
{
    size_t size = 0;
    for (size_t i = 0; i < tensor_count(m); i++)
        if (!size_add(size, matrix_bytes(tensor_at(m, i).matrix) + ALIGNMENT, &size))
            return error_memory(err, "the weights", SIZE_MAX);
    uint64_t available;
    if (memory_available(&available) && size > available)
        return error_set(err, LLAMA3_ENOMEM, "%s: expected %.1f GB of memory, found %.1f", m->path,
                         (double)size / 1e9, (double)available / 1e9);
    uint8_t *data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED)
        return error_memory(err, "the weights", size);
#ifdef MADV_HUGEPAGE
    madvise(data, size, MADV_HUGEPAGE); /* filled faster */
#endif
    m->maps[0] = (struct map){.data = data, .size = size};
    m->n_maps = 1;
    size_t at = 0;
    for (size_t i = 0; i < tensor_count(m); i++) {
        struct matrix *matrix =
            (struct matrix *)(uintptr_t)tensor_at(m, i).matrix; /* of our model */
        matrix->data = data + at;
        at += (matrix_bytes(matrix) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
        m->parameters += (uint64_t)matrix->rows * matrix->cols;
        m->file_bytes += matrix_bytes(matrix);
    }
    return 0;
}

/* ---- what is in it ----------------------------------------------------------------------- */

struct filling {
    const struct model *model;
    size_t thread, threads;
};

/* Marsaglia's xorshift, which is as fast as memory. */
static uint64_t next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Fills words with random bits: those in `keep` stay random, those in `set` are set. */
static void fill_words(void *data, size_t bytes, uint64_t seed, uint64_t keep, uint64_t add)
{
    uint64_t state = seed * 0x9e3779b97f4a7c15 + 1;
    for (size_t at = 0; at < bytes; at += sizeof state) {
        uint64_t word = (next(&state) & keep) | add;
        memcpy((uint8_t *)data + at, &word, bytes - at < sizeof word ? bytes - at : sizeof word);
    }
}

/* Of two f32 of either sign, 2^-7 to 2^-5. */
static const uint64_t FLOATS_KEPT = 0x80ffffff80ffffff, FLOATS_SET = 0x3c0000003c000000;

/* Scales or offsets from 64 to 127. */
static void fill_numbers(uint8_t *numbers, size_t n, bool half, uint64_t seed)
{
    if (half)
        fill_words(numbers, 2 * n, seed, 0x03ff03ff03ff03ff, 0x5400540054005400);
    else
        fill_words(numbers, n, seed, 0x3f3f3f3f3f3f3f3f, 0x4040404040404040);
}

/* Weights of about 0.02. Any code is valid. */
static void fill_strip(const struct matrix *m, uint8_t *strip, uint64_t seed)
{
    const float row_scale = 0.02f / (64 * 96);
    struct strip_layout l = strip_layout(m->type, &m->groups, m->cols);
    for (size_t i = 0; i < STRIP; i++)
        memcpy(strip + i * sizeof row_scale, &row_scale, sizeof row_scale);
    fill_words(strip + l.codes, l.scales - l.codes, seed, UINT64_MAX, 0);
    fill_numbers(strip + l.scales, l.numbers * STRIP, m->groups.scale == GROUP_SCALE_F16, ~seed);
    if (m->groups.offset)
        fill_numbers(strip + l.offsets, l.numbers * STRIP, m->groups.scale != GROUP_SCALE_BLOCK,
                     ~seed);
    fill_words(strip + l.block_scales, l.bytes - l.block_scales, seed, 0, 0x3f8000003f800000);
}

/* Fills this thread's share of a matrix: strips, or runs of rows. */
static void fill_matrix(const struct filling *f, size_t index)
{
    const struct matrix *m = tensor_at(f->model, index).matrix;
    uint8_t *data = (uint8_t *)(uintptr_t)m->data; /* of the mapping that we made */
    bool grouped = is_grouped(m->type);
    size_t units = (m->rows + STRIP - 1) / STRIP;
    size_t row_bytes = grouped ? 0 : dtype_row_bytes(m->type, m->cols);
    size_t unit = grouped ? strip_layout(m->type, &m->groups, m->cols).bytes : STRIP * row_bytes;
    for (size_t i = f->thread; i < units; i += f->threads) {
        uint64_t seed = (uint64_t)index << 32 | i;
        size_t rows = m->rows - i * STRIP < STRIP ? m->rows - i * STRIP : STRIP;
        if (grouped)
            fill_strip(m, data + i * unit, seed);
        else if (m->type == DTYPE_BF16) /* either sign, 2^-7 to 2^-5 */
            fill_words(data + i * unit, rows * row_bytes, seed, 0x80ff80ff80ff80ff,
                       0x3c003c003c003c00);
        else if (m->rows > 1)
            fill_words(data + i * unit, rows * row_bytes, seed, FLOATS_KEPT, FLOATS_SET);
        else /* a norm: ones */
            fill_words(data, row_bytes, seed, 0, 0x3f8000003f800000);
    }
}

static void *fill(void *arg)
{
    const struct filling *f = arg;
    for (size_t i = 0; i < tensor_count(f->model); i++)
        fill_matrix(f, i);
    return NULL;
}

static void fill_all(const struct model *m, int threads)
{
    struct filling parts[MAX_THREADS];
    pthread_t ids[MAX_THREADS];
    bool started[MAX_THREADS] = {false};
    for (int i = 0; i < threads; i++) {
        parts[i] = (struct filling){m, (size_t)i, (size_t)threads};
        started[i] = i > 0 && pthread_create(&ids[i], NULL, fill, &parts[i]) == 0;
    }
    for (int i = 0; i < threads; i++)
        if (!started[i])
            fill(&parts[i]);
    for (int i = 0; i < threads; i++)
        if (started[i])
            pthread_join(ids[i], NULL);
}

/* ------------------------------------------------------------------------------------------ */

static int build(struct model *m, const struct synthetic_type *type, int threads,
                 struct llama3_error *err)
{
    m->layers = size_alloc(m->config.n_layers, sizeof *m->layers);
    m->maps = size_alloc(1, sizeof *m->maps);
    if (m->layers == NULL || m->maps == NULL)
        return error_memory(err, "layers", m->config.n_layers * sizeof *m->layers);
    set_shapes(m, type);
    if (map_matrices(m, err) != 0)
        return -1;
    fill_all(m, threads);
    if (m->config.tied)
        m->head = m->embed;
    return 0;
}

int synthetic_open(struct model *m, const char *shape, const char *type, int threads,
                   struct llama3_error *err)
{
    const struct synthetic_type of = type_named(type);
    *m = (struct model){.format = "synthetic", .dtype = of.type};
    if (choose_shape(shape, &m->config, err) != 0)
        return -1;
    m->path = strdup(shape);
    int status = m->path != NULL ? build(m, &of, threads, err) : error_memory(err, "a name", 8);
    if (status != 0)
        model_close(m);
    return status;
}

/* ---- an adapter -------------------------------------------------------------------------- */

int synthetic_lora(struct lora *lora, const struct model *model, size_t rank,
                   struct llama3_error *err)
{
    lora->n_layers = model->config.n_layers;
    lora->rank = rank;
    lora->pairs =
        size_alloc_for(lora->n_layers + 1, TENSOR_KINDS * sizeof *lora->pairs, "an adapter", err);
    for (size_t i = 0; lora->pairs != NULL && i < tensor_count(model); i++) {
        const struct tensor t = tensor_at(model, i);
        struct lora_pair *pair = tensor_is_layers(t.kind) ? lora_pair(lora, t.kind, t.layer) : NULL;
        if (pair == NULL)
            continue;
        size_t rows = t.matrix->rows, cols = t.matrix->cols;
        pair->memory = size_alloc_for(rank, (rows + cols) * sizeof(float), "an adapter", err);
        if (pair->memory == NULL)
            return -1;
        fill_words(pair->memory, rank * (rows + cols) * sizeof(float), i, FLOATS_KEPT, FLOATS_SET);
        pair->a =
            (struct matrix){.type = DTYPE_F32, .rows = rank, .cols = cols, .data = pair->memory};
        pair->b = (struct matrix){
            .type = DTYPE_F32, .rows = rank, .cols = rows, .data = pair->memory + rank * cols};
    }
    return lora->pairs != NULL ? 0 : -1;
}
