/* SPDX-License-Identifier: MIT */
/* assemble.c: the table of named tensors, and how struct model is filled from it. */
#include "checkpoint/assemble.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "base/utf8.h"
#include "checkpoint/stored.h"

enum { MAX_TENSORS = 1 << 16 };

int tensor_table_add(struct tensor_table *table, const struct file_tensor *tensor, const char *name,
                     size_t length, struct llama3_error *err)
{
    if (table->n == MAX_TENSORS)
        return error_input(err, "tensor %.*s: expected at most %d tensors, found more",
                           length < 100 ? (int)length : 100, name, MAX_TENSORS);
    if (table->n == table->capacity) {
        size_t capacity = table->capacity > 0 ? 2 * table->capacity : 64;
        void *moved = realloc(table->tensors, capacity * sizeof *table->tensors);
        if (moved == NULL)
            return error_memory(err, "tensors", capacity * sizeof *table->tensors);
        table->tensors = moved;
        table->capacity = capacity;
    }
    struct file_tensor *added = &table->tensors[table->n];
    *added = *tensor;
    added->name = strndup(name, length);
    if (added->name == NULL)
        return error_memory(err, "a tensor's name", length);
    table->n++;
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct file_tensor *)a)->name, ((const struct file_tensor *)b)->name);
}

int tensor_table_sort(struct tensor_table *table, const char *where, struct llama3_error *err)
{
    if (table->n > 0)
        qsort(table->tensors, table->n, sizeof *table->tensors, by_name);
    for (size_t i = 1; i < table->n; i++)
        if (by_name(&table->tensors[i - 1], &table->tensors[i]) == 0)
            return error_input(err, "%s: expected one tensor %.100s, found two", where,
                               table->tensors[i].name);
    return 0;
}

struct file_tensor *tensor_table_find(const struct tensor_table *table, const char *name)
{
    struct file_tensor key = {.name = (char *)(uintptr_t)name};
    if (table->n == 0)
        return NULL;
    return bsearch(&key, table->tensors, table->n, sizeof *table->tensors, by_name);
}

void tensor_table_free(struct tensor_table *table)
{
    for (size_t i = 0; i < table->n; i++)
        free(table->tensors[i].name);
    free(table->tensors);
    *table = (struct tensor_table){0};
}

bool tensor_ignored(const struct tensor_names *names, const char *name)
{
    size_t n = strlen(name);
    for (const char *const *end = names->ignored; end != NULL && *end != NULL; end++)
        if (n >= strlen(*end) && strcmp(name + n - strlen(*end), *end) == 0)
            return true;
    return false;
}

int config_finish(struct config *config, const char *where, struct llama3_error *err)
{
    if (config->n_kv_heads == 0)
        config->n_kv_heads = config->n_heads;
    if (config->head_dim == 0 && config->n_heads > 0) {
        if (config->dim % config->n_heads != 0)
            return error_input(err,
                               "%s: expected head_dim, as dim %zu is no multiple of n_heads %zu, "
                               "found nothing",
                               where, config->dim, config->n_heads);
        config->head_dim = config->dim / config->n_heads;
    }
    const struct {
        const char *name;
        size_t value, max;
    } sizes[] = {
        {"dim", config->dim, MAX_DIM},
        {"n_layers", config->n_layers, MAX_LAYERS},
        {"n_heads", config->n_heads, MAX_HEADS},
        {"n_kv_heads", config->n_kv_heads, MAX_HEADS},
        {"head_dim", config->head_dim, MAX_HEAD_DIM},
        {"ffn_dim", config->ffn_dim, MAX_FFN},
        {"vocab_size", config->vocab_size, MAX_VOCAB},
        {"context", config->context, MAX_CONTEXT},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (sizes[i].value < 1 || sizes[i].value > sizes[i].max)
            return error_input(err, "%s: %s: expected 1..%zu, found %zu", where, sizes[i].name,
                               sizes[i].max, sizes[i].value);
    if (config->head_dim % 2 != 0)
        return error_input(err, "%s: head_dim: expected an even number, found %zu", where,
                           config->head_dim);
    if (config->n_heads % config->n_kv_heads != 0)
        return error_input(err, "%s: n_heads: expected a multiple of %zu KV heads, found %zu",
                           where, config->n_kv_heads, config->n_heads);
    if (!(config->rms_eps >= 0 && config->rms_eps <= 0.1f))
        return error_input(err, "%s: rms_eps: expected 0..0.1, found %g", where,
                           (double)config->rms_eps);

    const struct rope *rope = &config->rope;
    if (!(rope->theta >= 1 && rope->theta <= 1e15))
        return error_input(err, "%s: rope theta: expected 1..1e+15, found %g", where, rope->theta);
    if (rope->type == ROPE_LINEAR && !(rope->factor >= 1 && rope->factor <= 1e6))
        return error_input(err, "%s: rope scaling linear: expected factor 1..1e+06, found %g",
                           where, rope->factor);
    if (rope->type == ROPE_YARN &&
        !(rope->factor >= 1 && rope->factor <= 1e6 && rope->theta > 1 && rope->beta_slow > 0 &&
          rope->beta_fast >= rope->beta_slow && rope->beta_fast <= 1e6 &&
          rope->attention_factor > 0 && rope->attention_factor <= 1e6 &&
          rope->original_context >= 1 && rope->original_context <= MAX_CONTEXT))
        return error_input(
            err,
            "%s: rope scaling yarn: expected theta > 1, factor >= 1, attention_factor "
            "> 0 and 0 < beta_slow <= beta_fast, found theta %g, factor %g, "
            "attention_factor %g, beta_slow %g, beta_fast %g",
            where, rope->theta, rope->factor, rope->attention_factor, rope->beta_slow,
            rope->beta_fast);
    if (rope->type == ROPE_LLAMA3 &&
        !(rope->factor >= 1 && rope->factor <= 1e6 && rope->low_freq_factor > 0 &&
          rope->high_freq_factor > rope->low_freq_factor && rope->high_freq_factor <= 1e6 &&
          rope->original_context >= 1 && rope->original_context <= MAX_CONTEXT))
        return error_input(
            err,
            "%s: rope scaling llama3: expected factor >= 1 and 0 < low_freq_factor < "
            "high_freq_factor, found factor %g, low %g, high %g",
            where, rope->factor, rope->low_freq_factor, rope->high_freq_factor);
    return 0;
}

/* ---- into the model -------------------------------------------------------------------------- */

void tensor_shape_text(const uint64_t *dims, size_t n_dims, char *out, size_t size)
{
    size_t at = (size_t)snprintf(out, size, "[");
    for (size_t i = 0; i < n_dims && at < size; i++)
        at += (size_t)snprintf(out + at, size - at, "%s%" PRIu64, i > 0 ? ", " : "", dims[i]);
    if (at < size)
        snprintf(out + at, size - at, "]");
}

static int wrong_shape(const struct file_tensor *tensor, size_t rows, size_t cols,
                       const char *where, struct llama3_error *err)
{
    uint64_t dims[2] = {rows, cols};
    size_t first = rows == 1; /* vectors have one dimension */
    char expected[128], found[128];
    tensor_shape_text(dims + first, 2 - first, expected, sizeof expected);
    tensor_shape_text(tensor->dims, tensor->n_dims, found, sizeof found);
    return error_input(err, "%s: tensor %.100s: expected shape %s, found %s", where, tensor->name,
                       expected, found);
}

/* A matrix that is stored as several tensors. */
static int take_stored(struct model *model, const struct tensor_table *table, const char *name,
                       size_t rows, size_t cols, struct matrix *out, bool *taken, const char *where,
                       struct llama3_error *err)
{
    char stem[TENSOR_NAME_SIZE];
    snprintf(stem, sizeof stem, "%.*s", (int)(strlen(name) - strlen(".weight")), name);
    return stored_take(&(struct stored){model, table, stem, rows, cols, where}, out, taken, err);
}

/* A tensor as the matrix [rows][cols], a vector if rows is 1. *out stays zero if an optional one is
 * absent. */
static int take(const struct tensor_table *table, const char *name, bool optional, size_t rows,
                size_t cols, struct matrix *out, const char *where, struct llama3_error *err)
{
    struct file_tensor *tensor = tensor_table_find(table, name);
    if (tensor == NULL)
        return optional ? 0 : error_input(err, "%s: expected tensor %s, found none", where, name);

    size_t n = tensor->n_dims;
    bool vector = rows == 1;
    if (tensor->type == DTYPE_COUNT)
        return error_input(err, "%s: tensor %.100s: expected F32, F16 or BF16, found %s", where,
                           tensor->name, tensor->stored);
    if (n < (vector ? 1 : 2) || n > 2 || tensor->dims[n - 1] != cols ||
        (n == 2 && tensor->dims[0] != rows))
        return wrong_shape(tensor, rows, cols, where, err);
    const struct dtype_info *info = dtype_info(tensor->type);
    if (vector && (info->block != 1 || is_grouped(tensor->type)))
        return error_input(err, "%s: tensor %.100s: expected f32, f16 or bf16, found %s", where,
                           tensor->name, info->name);
    if (cols % info->block != 0)
        return error_input(
            err, "%s: tensor %.100s: expected columns in multiples of %zu for %s, found %zu", where,
            tensor->name, info->block, info->name, cols);

    /* This keeps every later read inside the file, whatever the container checked. */
    size_t bytes;
    *out = (struct matrix){tensor->type, rows, cols, tensor->data, tensor->groups, .parts = NULL};
    if (!size_mul(is_grouped(out->type) ? strip_layout(out->type, &out->groups, cols).bytes
                                        : dtype_row_bytes(out->type, cols),
                  is_grouped(out->type) ? (rows + STRIP - 1) / STRIP : rows, &bytes) ||
        bytes != tensor->bytes)
        return error_input(err, "%s: tensor %.100s: expected %zu x %zu of %s, found %zu bytes",
                           where, tensor->name, rows, cols, info->name, tensor->bytes);
    tensor->used = true;
    return 0;
}

static int take_all(const struct tensor_table *table, const struct tensor_names *names,
                    struct model *model, bool head_optional, const char *where,
                    struct llama3_error *err)
{
    const struct config *c = &model->config;
    size_t q_dim = c->n_heads * c->head_dim, kv_dim = c->n_kv_heads * c->head_dim;
    const struct {
        size_t rows, cols;
    } shapes[TENSOR_KINDS] = {
        [TENSOR_EMBED] = {c->vocab_size, c->dim},
        [TENSOR_ATTN_NORM] = {1, c->dim},
        [TENSOR_Q] = {q_dim, c->dim},
        [TENSOR_K] = {kv_dim, c->dim},
        [TENSOR_V] = {kv_dim, c->dim},
        [TENSOR_O] = {c->dim, q_dim},
        [TENSOR_FFN_NORM] = {1, c->dim},
        [TENSOR_GATE] = {c->ffn_dim, c->dim},
        [TENSOR_UP] = {c->ffn_dim, c->dim},
        [TENSOR_DOWN] = {c->dim, c->ffn_dim},
        [TENSOR_NORM] = {1, c->dim},
        [TENSOR_HEAD] = {c->vocab_size, c->dim},
    };
    for (size_t i = 0; i < tensor_count(model); i++) {
        struct tensor tensor = tensor_at(model, i);
        char name[TENSOR_NAME_SIZE];
        tensor_name(&tensor, names, name);
        bool taken = false;
        if (names->several && shapes[tensor.kind].rows > 1 &&
            take_stored(model, table, name, shapes[tensor.kind].rows, shapes[tensor.kind].cols,
                        (struct matrix *)(uintptr_t)tensor.matrix, &taken, where, err) != 0)
            return -1;
        if (!taken && take(table, name, tensor.kind == TENSOR_HEAD && head_optional,
                           shapes[tensor.kind].rows, shapes[tensor.kind].cols,
                           (struct matrix *)(uintptr_t)tensor.matrix, where, err) != 0)
            return -1;
    }
    return 0;
}

/* Counts the weights, and refuses tensors that nothing uses. */
static int sum_up(const struct tensor_table *table, const struct tensor_names *names,
                  struct model *model, const char *where, struct llama3_error *err)
{
    uint64_t counts[DTYPE_COUNT] = {0};
    for (size_t i = 0; i < table->n; i++) {
        const struct file_tensor *tensor = &table->tensors[i];
        if (tensor->used && !tensor->part)
            counts[tensor->type] += tensor->dims[0] * (tensor->n_dims == 2 ? tensor->dims[1] : 1);
        else if (!tensor->used && !tensor_ignored(names, tensor->name))
            return error_input(err,
                               "%s: expected only the Llama architecture's tensors, found %.200s",
                               where, tensor->name);
    }
    for (size_t i = 0; i < tensor_count(model); i++) {
        const struct matrix *matrix = tensor_at(model, i).matrix;
        if (matrix->parts != NULL)
            counts[matrix->type] += matrix->rows * matrix->cols;
    }
    for (int type = 0; type < DTYPE_COUNT; type++) {
        model->parameters += counts[type];
        if (counts[type] > counts[model->dtype])
            model->dtype = (enum dtype)type;
    }
    return 0;
}

int assemble_model(struct model *model, struct tensor_table *table,
                   const struct tensor_names *names, const char *where, struct llama3_error *err)
{
    struct config *c = &model->config;
    bool head_optional = c->tied || names->absent_head_is_tied;
    model->layers = size_alloc_for(c->n_layers, sizeof *model->layers, "layers", err);
    if (model->layers == NULL)
        return -1;
    c->tied = false; /* look for a head in any case */
    if (names->several && stored_ignore(model, table, where, err) != 0)
        return -1;
    if (take_all(table, names, model, head_optional, where, err) != 0)
        return -1;

    /* As in transformers 5, a head tensor is used even where the configuration ties it: it is a
     * copy of the embedding or was trained by itself. */
    c->tied = model->head.data == NULL;
    if (c->tied)
        model->head = model->embed;
    return sum_up(table, names, model, where, err);
}

/* rope_freqs.weight divides the rotation's frequencies (Llama 3.1's scaling, as llama.cpp's
 * converter stores it). It is copied, as floats must be aligned. */
int assemble_rope_factors(struct model *model, struct tensor_table *table, const char *where,
                          struct llama3_error *err)
{
    struct file_tensor *tensor = tensor_table_find(table, "rope_freqs.weight");
    size_t n = model->config.head_dim / 2;
    if (tensor == NULL)
        return 0;
    if (model->config.rope.type != ROPE_PLAIN)
        return error_input(err, "%s: tensor %s: expected none with rope scaling, found both", where,
                           tensor->name);
    if (tensor->type != DTYPE_F32 || tensor->n_dims != 1 || tensor->dims[0] != n)
        return error_input(
            err, "%s: tensor %s: expected f32 [%zu], found %s [%" PRIu64 "%s]", where, tensor->name,
            n, tensor->type == DTYPE_COUNT ? "another type" : dtype_info(tensor->type)->name,
            tensor->n_dims > 0 ? tensor->dims[0] : 0, tensor->n_dims > 1 ? ", ..." : "");
    model->rope_factors = size_alloc_for(n, sizeof *model->rope_factors, tensor->name, err);
    if (model->rope_factors == NULL)
        return -1;
    memcpy(model->rope_factors, tensor->data, tensor->bytes);
    for (size_t i = 0; i < n; i++)
        if (!(model->rope_factors[i] >= 1e-6f && model->rope_factors[i] <= 1e6f))
            return error_input(err, "%s: tensor %s: expected factors of 1e-06..1e+06, found %g",
                               where, tensor->name, (double)model->rope_factors[i]);
    model->config.rope.factors = model->rope_factors;
    tensor->used = true;
    return 0;
}

int model_add_map(struct model *model, struct map *map, const char *path, struct llama3_error *err)
{
    size_t size = (model->n_maps + 1) * sizeof *model->maps;
    struct map *moved = realloc(model->maps, size);
    if (moved == NULL) {
        map_close(map);
        return error_memory(err, path, size);
    }
    model->maps = moved;
    model->maps[model->n_maps++] = *map;
    model->file_bytes += map->size;
    return 0;
}

int model_map(struct model *model, const char *path, struct map *map, struct llama3_error *err)
{
    static const char lfs[] = "version https://git-lfs";
    if (map_open(map, path, err) != 0 || model_add_map(model, map, path, err) != 0)
        return -1;
    if (map->size > sizeof lfs && memcmp(map->data, lfs, sizeof lfs - 1) == 0)
        return error_input(
            err,
            "%s: expected weights, found a Git LFS pointer: fetch the file itself (git lfs pull)",
            path);
    return 0;
}

/* Sets a text in an object, which is made if there is none. */
static int set_text(json_t **object, const char *key, const char *what, const char *text,
                    size_t length, const char *where, struct llama3_error *err)
{
    if (memchr(text, '\0', length) != NULL)
        return error_input(err, "%s: %s: expected text, found a NUL byte", where, what);
    if (utf8_valid((const uint8_t *)text, length) != length)
        return error_input(err, "%s: %s: expected UTF-8, found other bytes", where, what);
    if (*object == NULL)
        *object = json_object();
    return json_object_set_new(*object, key, json_stringn(text, length)) == 0
               ? 0
               : error_memory(err, what, length);
}

enum { MAX_TEMPLATE_NAME = 64 };

/* One that can be given to --template, listed in an error, and not taken for a path. */
static bool is_template_name(const char *name, size_t length)
{
    bool good = length > 0 && length <= MAX_TEMPLATE_NAME &&
                utf8_valid((const uint8_t *)name, length) == length;
    for (size_t i = 0; i < length && good; i++)
        good = (uint8_t)name[i] >= ' ' && name[i] != '/' && name[i] != 0x7f;
    return good;
}

int model_set_template(struct model *model, const char *name, size_t name_length, const char *text,
                       size_t length, const char *where, struct llama3_error *err)
{
    char key[MAX_TEMPLATE_NAME + 1] = "";
    if (!is_template_name(name, name_length)) {
        error_set(
            &model->note, LLAMA3_OK,
            "%s: a chat template is left out: expected a name of 1 to %d bytes without \"/\", "
            "found \"%.*s\"",
            where, MAX_TEMPLATE_NAME, (int)(name_length < 80 ? name_length : 80), name);
        return 0;
    }
    memcpy(key, name, name_length);
    if (model->template_files == NULL)
        model->template_files = json_object();
    return set_text(&model->templates, key, "chat template", text, length, where, err) != 0 ? -1
           : json_object_set_new(model->template_files, key, json_string(where)) == 0
               ? 0
               : error_memory(err, "chat template", strlen(where));
}

int model_set_special(struct model *model, const char *key, const char *text, size_t length,
                      const char *where, struct llama3_error *err)
{
    return set_text(&model->special_tokens, key, "special token", text, length, where, err);
}

int model_note(struct model *model, const char *where, struct llama3_error *err, const char *format,
               ...)
{
    char text[256], note[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    snprintf(note, sizeof note, "%.200s: %s", where, text);
    if (model->notes == NULL)
        model->notes = json_array();
    return json_array_append_new(model->notes, json_string(note)) == 0
               ? 0
               : error_memory(err, where, sizeof note);
}

int model_add_eos(struct model *model, int64_t id, const char *where, struct llama3_error *err)
{
    if (id < 0 || (uint64_t)id >= model->config.vocab_size)
        return error_input(err, "%s: expected an eos id 0..%zu, found %" PRId64, where,
                           model->config.vocab_size - 1, id);
    size_t at = 0;
    while (at < model->n_eos && model->eos_ids[at] < id)
        at++;
    if (at < model->n_eos && model->eos_ids[at] == id)
        return 0;
    if (model->n_eos == MAX_STOP_IDS)
        return error_input(err, "%s: expected at most %d eos ids, found more", where, MAX_STOP_IDS);
    memmove(&model->eos_ids[at + 1], &model->eos_ids[at],
            (model->n_eos - at) * sizeof *model->eos_ids);
    model->eos_ids[at] = (int32_t)id;
    model->n_eos++;
    return 0;
}
