/* SPDX-License-Identifier: MIT */
/* lora.c: the pairs of an adapter: found by name, checked against the base model, made f32. */
#include "checkpoint/lora.h"

#include <inttypes.h>
#include <math.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/path.h"
#include "base/size.h"
#include "checkpoint/gguf.h"
#include "checkpoint/hf.h"
#include "checkpoint/lora_read.h"
#include "checkpoint/safetensors.h"

enum { MAX_CONFIG = 1 << 22 };

/* What is known of a file while its pairs are taken. */
struct lora_reader {
    struct lora *lora;
    const struct model *base;
    struct tensor_table table;
    const char *where;       /* the file with the tensors */
    const json_t *config;    /* PEFT's; NULL: a GGUF file, whose */
    double alpha;            /* is this */
    const char *config_path; /* for errors */
    struct llama3_error *err;
};

struct lora_pair *lora_pair(const struct lora *lora, enum tensor_kind kind, size_t layer)
{
    bool head = kind == TENSOR_HEAD;
    if (!head && (!tensor_is_layers(kind) || tensor_is_norm(kind)))
        return NULL;
    return &lora->pairs[(head ? lora->n_layers : layer) * TENSOR_KINDS + kind];
}

void lora_pair_drop(struct lora_pair *pair)
{
    free(pair->memory);
    *pair = (struct lora_pair){0};
}

/* ---- names ----------------------------------------------------------------------------------- */

enum { NAME_SIZE = TENSOR_NAME_SIZE + 32 };

/* A module as PEFT calls it: "model.layers.0.mlp.up_proj". */
static void module_name(const struct tensor *t, char out[TENSOR_NAME_SIZE])
{
    tensor_name(t, &hf_names, out);
    out[strlen(out) - strlen(".weight")] = '\0';
}

static void factor_name(const struct lora_reader *r, const struct tensor *t, bool is_b,
                        char out[NAME_SIZE])
{
    char name[TENSOR_NAME_SIZE];
    if (r->config == NULL) {
        tensor_name(t, &gguf_tensor_names, name);
        snprintf(out, NAME_SIZE, "%s.lora_%c", name, is_b ? 'b' : 'a');
    } else {
        module_name(t, name);
        snprintf(out, NAME_SIZE, "base_model.model.%s.lora_%c.weight", name, is_b ? 'B' : 'A');
    }
}

/* ---- a pair ---------------------------------------------------------------------------------- */

static int check_shape(const struct lora_reader *r, const struct file_tensor *t, size_t rows,
                       size_t cols)
{
    char found[96] = "";
    if (t->type >= DTYPE_ROWS || (r->config != NULL && t->type > DTYPE_BF16))
        return error_input(r->err, "%s: tensor %.100s: expected F32, F16 or BF16, found %s",
                           r->where, t->name,
                           t->stored != NULL ? t->stored : dtype_info(t->type)->name);
    if (t->n_dims == 2 && t->dims[0] == rows && t->dims[1] == cols)
        return 0;
    for (size_t i = 0, at = 0; i < t->n_dims; i++)
        at += (size_t)snprintf(found + at, sizeof found - at, "%s%" PRIu64, i > 0 ? ", " : "",
                               t->dims[i]);
    return error_input(r->err, "%s: tensor %.100s: expected [%zu, %zu], found [%s]", r->where,
                       t->name, rows, cols, found);
}

/* Where row i of the adapter's q or k is in the base's: GGUF has RoPE's pairs side by side, others
 * in two halves of each head. */
static size_t row_in_base(const struct lora_reader *r, enum tensor_kind kind, size_t row)
{
    const struct config *c = &r->base->config;
    const bool interleaved = r->config == NULL;
    size_t half = c->head_dim / 2, head = row - row % c->head_dim, i = row % c->head_dim;
    if ((kind != TENSOR_Q && kind != TENSOR_K) || interleaved == c->rope.interleaved)
        return row;
    return head + (interleaved ? i % 2 * half + i / 2 : i % half * 2 + i / half);
}

/* One row to f32, multiplied. */
static int expand_row(const struct lora_reader *r, const struct file_tensor *t, size_t row,
                      size_t cols, float scale, float *out)
{
    dtype_expand(t->type, (const char *)t->data + row * dtype_row_bytes(t->type, cols), out, cols);
    for (size_t i = 0; i < cols; i++) {
        out[i] *= scale;
        if (!isfinite(out[i]))
            return error_input(r->err, "%s: tensor %.100s: expected finite numbers, found %g",
                               r->where, t->name, (double)fabsf(out[i]));
    }
    return 0;
}

static int expand(const struct lora_reader *r, struct lora_pair *pair, enum tensor_kind kind,
                  const struct file_tensor *a, const struct file_tensor *b, float scale)
{
    size_t rank = pair->a.rows, cols = pair->a.cols, rows = pair->b.cols;
    pair->memory = size_alloc_for(rank, (rows + cols) * sizeof(float), r->where, r->err);
    if (pair->memory == NULL)
        return -1;
    float *to_b = pair->memory + rank * cols;
    pair->a.data = pair->memory;
    pair->b.data = to_b;
    for (size_t i = 0; i < rank; i++)
        if (expand_row(r, a, i, cols, 1, pair->memory + i * cols) != 0)
            return -1;
    float row[LORA_MAX_RANK];
    for (size_t i = 0; i < rows; i++) {
        if (expand_row(r, b, i, rank, scale, row) != 0)
            return -1;
        for (size_t k = 0, at = row_in_base(r, kind, i); k < rank; k++)
            to_b[k * rows + at] = row[k];
    }
    return 0;
}

/* The rank that the adapter's description says, and the scale. */
static int describe_pair(const struct lora_reader *r, const struct tensor *t,
                         const struct file_tensor *a, size_t *rank, double *scale)
{
    char module[TENSOR_NAME_SIZE];
    if (r->config != NULL) {
        module_name(t, module);
        return lora_config_module(r->config, module, rank, scale, r->config_path, r->err);
    }
    *rank =
        a->n_dims == 2 && a->dims[0] >= 1 && a->dims[0] <= LORA_MAX_RANK ? (size_t)a->dims[0] : 1;
    *scale = r->alpha > 0 ? r->alpha / (double)*rank : 1;
    return 0;
}

static int take_pair(struct lora_reader *r, const struct tensor *t)
{
    const struct matrix *base = t->matrix;
    char name_a[NAME_SIZE], name_b[NAME_SIZE];
    size_t rank = 0;
    double scale = 0;
    factor_name(r, t, false, name_a);
    factor_name(r, t, true, name_b);
    struct file_tensor *a = tensor_table_find(&r->table, name_a);
    struct file_tensor *b = tensor_table_find(&r->table, name_b);
    if (a == NULL && b == NULL)
        return 0;
    if (a == NULL || b == NULL)
        return error_input(r->err, "%s: expected tensor %s beside %s, found none", r->where,
                           a == NULL ? name_a : name_b, a == NULL ? name_b : name_a);
    if (describe_pair(r, t, a, &rank, &scale) != 0 || check_shape(r, a, rank, base->cols) != 0 ||
        check_shape(r, b, base->rows, rank) != 0)
        return -1;
    a->used = b->used = true;

    struct lora *lora = r->lora;
    struct lora_pair *pair = lora_pair(lora, t->kind, t->layer);
    pair->a = (struct matrix){.type = DTYPE_F32, .rows = rank, .cols = base->cols};
    pair->b = (struct matrix){.type = DTYPE_F32, .rows = rank, .cols = base->rows};
    lora->n_pairs++;
    lora->rank = rank > lora->rank ? rank : lora->rank;
    lora->parameters += (uint64_t)rank * (base->rows + base->cols);
    return expand(r, pair, t->kind, a, b, (float)scale);
}

/* PEFT puts copies of a head with LoRA, or of embeddings, beside the pairs. They have to be the
 * base model's, which may be rounded or quantized. */
static int check_copy(struct lora_reader *r, const char *name, const struct matrix *base)
{
    struct file_tensor *t = tensor_table_find(&r->table, name);
    const size_t cols = base->cols;
    const bool floats = base->type <= DTYPE_BF16;
    double error = 0, all = 0, most = floats ? 1e-4 : 1e-2; /* of the squares */
    if (t == NULL)
        return 0;
    if (check_shape(r, t, base->rows, cols) != 0)
        return -1;
    float *row = size_alloc_for(cols, 2 * sizeof *row, r->where, r->err);
    if (row == NULL)
        return -1;
    for (size_t i = 0; i < base->rows; i++) {
        matrix_row(base, i, row);
        dtype_expand(t->type, (const char *)t->data + i * dtype_row_bytes(t->type, cols),
                     row + cols, cols);
        for (size_t j = 0; j < cols; j++) {
            double difference = (double)row[cols + j] - (double)row[j];
            error += difference * difference;
            all += (double)row[j] * (double)row[j];
        }
    }
    free(row);
    t->used = true;
    return error <= most * all ? 0
                               : error_input(r->err,
                                             "%s: tensor %.100s: expected the base model's own "
                                             "weights, found others",
                                             r->where, name);
}

static int take_pairs(struct lora_reader *r)
{
    const struct model *base = r->base;
    size_t n_layers = base->config.n_layers;
    struct tensor head = {TENSOR_HEAD, 0, &base->head};
    r->lora->n_layers = n_layers;
    r->lora->pairs =
        size_alloc_for(n_layers + 1, TENSOR_KINDS * sizeof *r->lora->pairs, r->where, r->err);
    if (r->lora->pairs == NULL || tensor_table_sort(&r->table, r->where, r->err) != 0)
        return -1;
    for (size_t i = 0; i < tensor_count(base); i++) {
        struct tensor t = tensor_at(base, i);
        if (lora_pair(r->lora, t.kind, t.layer) != NULL && t.kind != TENSOR_HEAD &&
            take_pair(r, &t) != 0)
            return -1;
    }
    if (take_pair(r, &head) != 0 ||
        check_copy(r, "base_model.model.lm_head.base_layer.weight", &base->head) != 0 ||
        check_copy(r, "base_model.model.lm_head.weight", &base->head) != 0 ||
        check_copy(r, "base_model.model.model.embed_tokens.weight", &base->embed) != 0)
        return -1;
    for (size_t i = 0; i < r->table.n; i++)
        if (!r->table.tensors[i].used)
            return error_input(r->err,
                               "%s: tensor %.100s: expected LoRA of a linear layer of a Llama of "
                               "%zu layers, found something else",
                               r->where, r->table.tensors[i].name, n_layers);
    return r->lora->n_pairs > 0
               ? 0
               : error_input(r->err, "%s: expected tensors of LoRA, found none", r->where);
}

/* ---- files ----------------------------------------------------------------------------------- */

/* A key of the adapter's own that isn't known may change the result. */
static int check_keys(const struct gguf *gguf, struct llama3_error *err)
{
    static const char *const fine[] = {"adapter.type", "adapter.lora.alpha",
                                       "adapter.lora.task_name", "adapter.lora.prompt_prefix"};
    static const char prefix[] = "adapter.";
    const size_t n = sizeof prefix - 1;
    for (size_t i = 0; i < gguf->n_kvs; i++) {
        const struct gguf_kv *kv = &gguf->kvs[i];
        bool known = kv->key_length < n || memcmp(kv->key, prefix, n) != 0;
        for (size_t k = 0; k < sizeof fine / sizeof *fine; k++)
            known |=
                kv->key_length == strlen(fine[k]) && memcmp(kv->key, fine[k], kv->key_length) == 0;
        if (!known)
            return error_input(err, "%s: expected only keys whose effect is known, found %.*s",
                               gguf->path, (int)kv->key_length, kv->key);
    }
    return 0;
}

static int read_gguf(struct lora_reader *r, const struct map *map)
{
    struct gguf gguf = {0};
    int result = gguf_parse(&gguf, map, r->where, &r->table, r->err);
    if (result == 0 &&
        (gguf_expect_string(&gguf, "general.type", true, "adapter", r->err) != 0 ||
         gguf_expect_string(&gguf, "adapter.type", true, "lora", r->err) != 0 ||
         gguf_expect_string(&gguf, "general.architecture", true, "llama", r->err) != 0 ||
         check_keys(&gguf, r->err) != 0 ||
         gguf_get_number(&gguf, "adapter.lora.alpha", true, 0, 1e9, &r->alpha, r->err) != 0))
        result = -1;
    gguf_free(&gguf);
    return result == 0 ? take_pairs(r) : -1;
}

static int read_safetensors(struct lora_reader *r, const struct map *map)
{
    size_t start = 0;
    json_t *header = safetensors_header(map, r->where, &start, r->err);
    int result = header == NULL ? -1
                                : safetensors_tensors(header, map->data + start, map->size - start,
                                                      r->where, &hf_names, &r->table, r->err);
    json_decref(header);
    return result == 0 ? take_pairs(r) : -1;
}

/* The file with the tensors; the pairs are copies, so it need not stay mapped. */
static int read_tensors(struct lora_reader *r,
                        int (*read)(struct lora_reader *r, const struct map *map))
{
    struct map map;
    if (map_open(&map, r->where, r->err) != 0)
        return -1;
    int result = read(r, &map);
    if (map_check(&map, r->err) != 0)
        result = -1;
    map_close(&map);
    return result;
}

static int read_folder(struct lora_reader *r, const char *config_path)
{
    size_t size = 0;
    char *text = file_read(config_path, MAX_CONFIG, &size, NULL, r->err);
    json_t *config = text != NULL ? json_parse(text, size, config_path, r->err) : NULL;
    free(text);
    r->config = config;
    r->config_path = config_path;
    int result = config == NULL || lora_config_check(config, config_path, r->err) != 0
                     ? -1
                     : read_tensors(r, read_safetensors);
    json_decref(config);
    return result;
}

/* ---- an adapter ------------------------------------------------------------------------------ */

/* The path's last name, without the ending of a file. */
static char *last_name(const char *path, struct llama3_error *err)
{
    size_t n = strlen(path), from;
    while (n > 1 && path[n - 1] == '/')
        n--;
    for (from = n; from > 0 && path[from - 1] != '/';)
        from--;
    char *name = path_copy(path + from, n - from, err);
    if (name != NULL && path_ends_with(name, ".gguf") && strlen(name) > strlen(".gguf"))
        name[strlen(name) - strlen(".gguf")] = '\0';
    return name;
}

/* Numbers from all over a matrix: hashing all takes long, and no two adapters differ in a few. */
static void digest_matrix(struct sha256_ctx *sha, const struct matrix *m)
{
    enum { SAMPLES = 16, SAMPLE = 16 };
    const uint64_t shape[] = {m->rows, m->cols};
    size_t n = m->rows * m->cols;
    sha256_update(sha, sizeof shape, (const uint8_t *)shape);
    for (size_t i = 0; i < SAMPLES && n > 0; i++) {
        size_t at = n / SAMPLES * i, some = n - at < SAMPLE ? n - at : SAMPLE;
        sha256_update(sha, some * sizeof(float), (const uint8_t *)((const float *)m->data + at));
    }
}

static void digest_pairs(struct lora *lora)
{
    struct sha256_ctx sha;
    sha256_init(&sha);
    for (size_t i = 0; i < (lora->n_layers + 1) * TENSOR_KINDS; i++) {
        digest_matrix(&sha, &lora->pairs[i].a);
        digest_matrix(&sha, &lora->pairs[i].b);
    }
    sha256_digest(&sha, sizeof lora->digest, lora->digest);
}

int lora_open(struct lora *lora, const char *path, const char *name, float scale,
              const struct model *base, struct llama3_error *err)
{
    struct lora_reader r = {.lora = lora, .base = base, .err = err};
    char *config = path_join(path, "adapter_config.json", err);
    char *tensors = path_join(path, "adapter_model.safetensors", err);
    bool folder = config != NULL && path_exists_in(path, ".");
    lora->scale = scale;
    lora->path = path_copy(path, strlen(path), err);
    lora->name = name != NULL ? path_copy(name, strlen(name), err) : last_name(path, err);
    r.where = folder ? tensors : path;
    int result = config == NULL || tensors == NULL || lora->path == NULL || lora->name == NULL ? -1
                 : folder ? read_folder(&r, config)
                          : read_tensors(&r, read_gguf);
    if (result == 0)
        digest_pairs(lora);
    tensor_table_free(&r.table);
    free(config);
    free(tensors);
    return result;
}

void lora_close(struct lora *lora)
{
    for (size_t i = 0; lora->pairs != NULL && i < (lora->n_layers + 1) * TENSOR_KINDS; i++)
        lora_pair_drop(&lora->pairs[i]);
    free(lora->pairs);
    free(lora->path);
    free(lora->name);
    *lora = (struct lora){0};
}
