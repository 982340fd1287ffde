/* SPDX-License-Identifier: MIT */
/* packed.c: our own file as struct model. */
#include "checkpoint/packed.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/size.h"
#include "base/utf8.h"
#include "checkpoint/hf.h"
#include "checkpoint/pretokenizers.h"
#include "checkpoint/readers.h"
#include "checkpoint/safetensors.h"

struct packed_reader {
    struct model *model;
    const char *path; /* as errors name it */
    const json_t *metadata;
    struct tensor_table table;
    struct llama3_error *err;
};

/* ---- metadata -------------------------------------------------------------------------------- */

/* A required string; NULL and err filled if it is missing. */
static const char *text_of(const struct packed_reader *r, const char *key)
{
    const char *text = NULL;
    return json_get_string(r->metadata, key, true, &text, r->path, r->err) == 0 ? text : NULL;
}

/* JSON inside a required string: a new reference, or NULL. where: "path: key", for errors. */
static json_t *json_of(const struct packed_reader *r, const char *key, char where[512])
{
    const char *text = text_of(r, key);
    snprintf(where, 512, "%.400s: %s", r->path, key);
    return text == NULL ? NULL : json_parse(text, strlen(text), where, r->err);
}

static int read_version(const struct packed_reader *r)
{
    char expected[16];
    const char *format = text_of(r, "format");
    const char *version = format == NULL ? NULL : text_of(r, "version");
    if (version == NULL)
        return -1;
    if (strcmp(format, "llama3") != 0)
        return error_input(r->err, "%s: \"format\": expected llama3, found %.40s", r->path, format);
    snprintf(expected, sizeof expected, "%d", PACKED_VERSION);
    if (strcmp(version, expected) != 0)
        return error_input(r->err,
                           "%s: expected version %s of the format, found %.40s: make it again with "
                           "llama3-quantize",
                           r->path, expected, version);
    return 0;
}

/* Reads the JSON of a key. */
static int read_json(const struct packed_reader *r, const char *key, hf_reader *read)
{
    char where[512];
    json_t *root = json_of(r, key, where);
    int result = root == NULL ? -1 : read(root, r->model, where, r->err);
    json_decref(root);
    return result;
}

static int read_rope(const json_t *root, struct model *model, const char *where,
                     struct llama3_error *err)
{
    return json_get_number(root, "attention_factor", true, 1e-6, 1e6,
                           &model->config.rope.attention_factor, where, err);
}

static int read_config(const struct packed_reader *r)
{
    if (read_json(r, "config", hf_config_read) != 0)
        return -1;
    const char *interleaved = text_of(r, "rope_interleaved");
    if (interleaved == NULL)
        return -1;
    r->model->config.rope.interleaved = strcmp(interleaved, "true") == 0;
    if (!r->model->config.rope.interleaved && strcmp(interleaved, "false") != 0)
        return error_input(r->err, "%s: \"rope_interleaved\": expected true or false, found %.40s",
                           r->path, interleaved);
    return json_object_get(r->metadata, "rope") == NULL ? 0 : read_json(r, "rope", read_rope);
}

static int copy_template(struct model *model, const char *name, const json_t *text,
                         const char *where, struct llama3_error *err)
{
    return model_set_template(model, name, strlen(name), json_string_value(text),
                              json_string_length(text), where, err);
}

static int copy_special(struct model *model, const char *name, const json_t *text,
                        const char *where, struct llama3_error *err)
{
    return model_set_special(model, name, json_string_value(text), json_string_length(text), where,
                             err);
}

/* Reads the object of texts of a key that may be missing: older files have none. */
static int read_texts(const struct packed_reader *r, const char *key,
                      int (*copy)(struct model *model, const char *name, const json_t *text,
                                  const char *where, struct llama3_error *err))
{
    char where[512];
    const char *name;
    json_t *root = json_object_get(r->metadata, key) == NULL ? NULL : json_of(r, key, where), *text;
    int result = root == NULL && json_object_get(r->metadata, key) != NULL ? -1 : 0;
    json_object_foreach(root, name, text)
    {
        if (result == 0)
            result = json_is_string(text)
                         ? copy(r->model, name, text, where, r->err)
                         : error_input(r->err, "%s: %.40s: expected text, found %s", where, name,
                                       json_kind(text));
    }
    json_decref(root);
    return result;
}

/* ---- tokenizer ------------------------------------------------------------------------------- */

static int read_rules(const json_t *root, struct model *model, const char *where,
                      struct llama3_error *err)
{
    struct vocab *vocab = &model->vocab;
    const char *name = NULL;
    int64_t bos = -1, prefix = 0;
    if (json_get_string(root, "pretokenizer", true, &name, where, err) != 0 ||
        json_get_bool(root, "ignore_merges", true, &vocab->ignore_merges, where, err) != 0 ||
        json_get_bool(root, "add_bos", true, &vocab->add_bos, where, err) != 0 ||
        json_get_bool(root, "strips_blank", false, &vocab->strips_blank, where, err) != 0 ||
        json_get_int(root, "prefix", false, 0, BLANK_NEVER, &prefix, where, err) != 0 ||
        json_get_int(root, "bos", true, vocab->add_bos ? 0 : -1, (int64_t)vocab->n - 1, &bos, where,
                     err) != 0)
        return -1;
    vocab->bos = (int32_t)bos;
    vocab->prefix = (enum blank_prefix)prefix;
    for (size_t i = 0; pretokenizer_names[i] != NULL; i++)
        if (strcmp(name, pretokenizer_names[i]) == 0) {
            vocab->pretokenizer = (enum pretokenizer)i;
            return 0;
        }
    return error_input(
        err,
        "%s: \"pretokenizer\": expected llama3, gpt2, smollm or another that is known, found \"%.80s\"",
        where, name);
}

/* A copy, for free(), of a tensor of *n rows of `width` numbers of `size` bytes. wanted: the *n
 * that it must have, or SIZE_MAX. A copy, since a mapped file can change after it was checked. */
static void *copy_of(struct packed_reader *r, const char *name, size_t size, size_t width,
                     size_t wanted, size_t *n)
{
    struct file_tensor *tensor = tensor_table_find(&r->table, name);
    size_t dims = width > 1 ? 2 : 1;
    if (tensor == NULL || tensor->type != DTYPE_COUNT || tensor->n_dims != dims ||
        (dims == 2 && tensor->dims[1] != width) ||
        tensor->bytes / size / width != tensor->dims[0] ||
        (wanted != SIZE_MAX && tensor->dims[0] != wanted)) {
        error_input(r->err, "%s: expected a tensor %s of %zu-byte numbers, found %s", r->path, name,
                    size, tensor == NULL ? "none" : "another type or shape");
        return NULL;
    }
    void *copy = size_alloc_for(tensor->bytes, 1, name, r->err);
    if (copy == NULL)
        return NULL;
    memcpy(copy, tensor->data, tensor->bytes);
    tensor->used = true;
    *n = (size_t)tensor->dims[0];
    return copy;
}

/* Offsets must ascend, only unused tokens are empty, and names are UTF-8 and short. */
static int check_tokens(const struct packed_reader *r, size_t n_bytes)
{
    const struct vocab *v = &r->model->vocab;
    bool ok = v->offsets[0] == 0 && v->offsets[v->n] == n_bytes;
    size_t bad = 0;
    for (size_t i = 0; i < v->n && ok; i++) {
        uint32_t begin = v->offsets[i], end = v->offsets[i + 1];
        bool named = v->kinds[i] == TOKEN_CONTROL || v->kinds[i] == TOKEN_ADDED;
        ok = v->kinds[i] <= TOKEN_BYTE && (v->kinds[i] != TOKEN_BYTE || end - begin == 1) &&
             end >= begin && end <= n_bytes && (end == begin) == (v->kinds[i] == TOKEN_UNUSED) &&
             (v->flags == NULL || v->flags[i] <= ADDED_ALL) &&
             (!named || (end - begin <= MAX_ADDED_BYTES &&
                         utf8_valid(v->bytes + begin, end - begin) == end - begin));
        bad = i;
    }
    return ok ? 0
              : error_input(
                    r->err,
                    "%s: tokenizer: expected tokens in order, each with its text, found others "
                    "at token %zu",
                    r->path, bad);
}

/* The result of a merge must be the text of its two tokens joined. */
static int check_merges(const struct packed_reader *r)
{
    const struct vocab *v = &r->model->vocab;
    for (size_t i = 0; i < v->n_merges; i++) {
        const struct merge *m = &v->merges[i];
        const int32_t ids[] = {m->left, m->right, m->result};
        bool ok = true;
        for (int j = 0; j < 3; j++)
            ok = ok && (v->ranks == NULL || v->ranks[i] < v->n_merges) && ids[j] >= 0 &&
                 (size_t)ids[j] < v->n && vocab_is_merged(v, (size_t)ids[j]);
        if (ok) {
            const uint32_t *offsets = v->offsets;
            size_t left = offsets[m->left + 1] - offsets[m->left];
            size_t right = offsets[m->right + 1] - offsets[m->right];
            const uint8_t *made = v->bytes + offsets[m->result];
            ok = offsets[m->result + 1] - offsets[m->result] == left + right &&
                 memcmp(made, v->bytes + offsets[m->left], left) == 0 &&
                 memcmp(made + left, v->bytes + offsets[m->right], right) == 0;
        }
        if (!ok)
            return error_input(
                r->err,
                "%s: tokenizer: merge %zu: expected two texts and what they make, found others",
                r->path, i);
    }
    return 0;
}

static int read_tokenizer(struct packed_reader *r)
{
    struct vocab *v = &r->model->vocab;
    size_t n_offsets, n_bytes, n_flags, n_ranks;
    v->kinds = copy_of(r, "tokenizer.kinds", 1, 1, SIZE_MAX, &v->n);
    if (v->kinds == NULL)
        return -1;
    if (v->n < 1 || v->n > r->model->config.vocab_size)
        return error_input(r->err, "%s: tokenizer: expected 1..%zu tokens, found %zu", r->path,
                           r->model->config.vocab_size, v->n);
    const struct file_tensor *bytes = tensor_table_find(&r->table, "tokenizer.bytes");
    if (bytes != NULL && bytes->bytes > MAX_VOCAB_BYTES)
        return error_input(r->err, "%s: tokenizer.bytes: expected at most %d bytes, found %zu",
                           r->path, MAX_VOCAB_BYTES, bytes->bytes);
    v->offsets = copy_of(r, "tokenizer.offsets", sizeof *v->offsets, 1, v->n + 1, &n_offsets);
    v->bytes = v->offsets == NULL ? NULL : copy_of(r, "tokenizer.bytes", 1, 1, SIZE_MAX, &n_bytes);
    if (v->bytes == NULL)
        return -1;
    if (tensor_table_find(&r->table, "tokenizer.flags") != NULL) {
        v->flags = copy_of(r, "tokenizer.flags", 1, 1, v->n, &n_flags);
        if (v->flags == NULL)
            return -1;
    }
    v->merges = copy_of(r, "tokenizer.merges", sizeof(int32_t), 3, SIZE_MAX, &v->n_merges);
    if (v->merges == NULL)
        return -1;
    if (tensor_table_find(&r->table, "tokenizer.ranks") != NULL) {
        v->ranks = copy_of(r, "tokenizer.ranks", sizeof *v->ranks, 1, v->n_merges, &n_ranks);
        if (v->ranks == NULL)
            return -1;
    }
    if (check_tokens(r, n_bytes) != 0 || check_merges(r) != 0)
        return -1;
    return read_json(r, "tokenizer", read_rules);
}

/* ---- matrices -------------------------------------------------------------------------------- */

static int read_levels(const json_t *entry, int8_t levels[16], const char *where,
                       struct llama3_error *err)
{
    const json_t *list = json_object_get(entry, "levels");
    bool ok = json_array_size(list) == 16;
    for (size_t i = 0; i < 16 && ok; i++) {
        const json_t *level = json_array_get(list, i);
        json_int_t value = json_integer_value(level);
        ok = json_is_integer(level) && value >= INT8_MIN && value <= INT8_MAX;
        levels[i] = (int8_t)value;
    }
    return ok ? 0
              : error_input(err, "%s: \"levels\": expected 16 integers of -128..127, found others",
                            where);
}

/* Makes a U8 tensor a grouped one, as its entry in the metadata says. assemble_model() compares its
 * shape with the model's, and its bytes with the shape's. */
static int read_matrix(const struct packed_reader *r, const char *name, const json_t *entry)
{
    char where[256];
    const char *type = NULL, *scale = NULL;
    int64_t rows, cols, group = GROUP;
    struct group_format groups = {.scale = GROUP_SCALE_INT8};
    struct file_tensor *tensor = tensor_table_find(&r->table, name);
    snprintf(where, sizeof where, "%.120s: tensor %.100s", r->path, name);
    if (tensor == NULL || tensor->type != DTYPE_COUNT || tensor->n_dims != 1 ||
        tensor->dims[0] != tensor->bytes || tensor->used)
        return error_input(r->err, "%s: expected a vector of U8, found %s", where,
                           tensor == NULL ? "nothing" : "something else");
    if (!json_is_object(entry))
        return error_input(r->err, "%s: expected an object, found %s", where, json_kind(entry));
    if (json_get_string(entry, "type", true, &type, where, r->err) != 0 ||
        json_get_int(entry, "rows", true, 1, MAX_VOCAB, &rows, where, r->err) != 0 ||
        json_get_int(entry, "cols", true, 1, MAX_FFN, &cols, where, r->err) != 0 ||
        json_get_string(entry, "scale", true, &scale, where, r->err) != 0 ||
        json_get_bool(entry, "offset", true, &groups.offset, where, r->err) != 0 ||
        json_get_int(entry, "group", false, GROUP_COLS_LEAST, GROUP_COLS_MOST, &group, where,
                     r->err) != 0)
        return -1;
    bool int4 = strcmp(type, "int4") == 0;
    if (!int4 && strcmp(type, "int8") != 0)
        return error_input(r->err, "%s: \"type\": expected int4 or int8, found \"%.40s\"", where,
                           type);
    while (groups.scale < GROUP_SCALES && strcmp(scale, group_scale_names[groups.scale]) != 0)
        groups.scale++;
    if (groups.scale == GROUP_SCALES)
        return error_input(r->err, "%s: \"scale\": expected int8, f16 or block, found \"%.40s\"",
                           where, scale);
    if ((group & (group - 1)) != 0)
        return error_input(r->err, "%s: \"group\": expected 16, 32, 64 or 128, found %lld", where,
                           (long long)group);
    groups.cols = (size_t)group;
    if (int4 && read_levels(entry, groups.codebook, where, r->err) != 0)
        return -1;
    if ((uintptr_t)tensor->data % 64 != 0)
        return error_input(
            r->err, "%s: expected data at a multiple of 64 bytes, found it elsewhere", where);
    tensor->type = int4 ? DTYPE_INT4 : DTYPE_INT8;
    tensor->n_dims = 2;
    tensor->dims[0] = (uint64_t)rows;
    tensor->dims[1] = (uint64_t)cols;
    tensor->groups = groups;
    return 0;
}

static int read_matrices(const struct packed_reader *r)
{
    char where[512];
    const char *name;
    json_t *entry, *root = json_of(r, "matrices", where);
    int result = root == NULL ? -1 : 0;
    json_object_foreach(root, name, entry)
    {
        result = read_matrix(r, name, entry);
        if (result != 0)
            break;
    }
    json_decref(root);
    return result;
}

/* Removes used tensors and padding from the table. The rest must have types that weights can have.
 */
static int keep_weights(struct packed_reader *r)
{
    size_t n = 0;
    for (size_t i = 0; i < r->table.n; i++) {
        struct file_tensor *tensor = &r->table.tensors[i];
        if (tensor->used || strncmp(tensor->name, "pad.", 4) == 0) {
            free(tensor->name);
            continue;
        }
        r->table.tensors[n++] = *tensor;
    }
    r->table.n = n;
    for (size_t i = 0; i < n; i++)
        if (r->table.tensors[i].type == DTYPE_COUNT)
            return error_input(
                r->err,
                "%s: tensor %.100s: expected F32, F16, BF16 or an entry in \"matrices\", found "
                "neither",
                r->path, r->table.tensors[i].name);
    return 0;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static int fill(struct packed_reader *r, const struct map *map, const json_t *header, size_t start)
{
    r->metadata = json_object_get(header, "__metadata__");
    if (read_version(r) != 0 || read_config(r) != 0 ||
        read_json(r, "generation_config", hf_generation_read) != 0 ||
        hf_template_read(r->metadata, r->model, r->path, r->err) != 0 ||
        read_texts(r, "chat_templates", copy_template) != 0 ||
        read_texts(r, "special_tokens", copy_special) != 0 ||
        safetensors_tensors(header, map->data + start, map->size - start, r->path, NULL, &r->table,
                            r->err) != 0 ||
        tensor_table_sort(&r->table, r->path, r->err) != 0 || read_tokenizer(r) != 0 ||
        assemble_rope_factors(r->model, &r->table, r->path, r->err) != 0 || read_matrices(r) != 0 ||
        keep_weights(r) != 0)
        return -1;
    return assemble_model(r->model, &r->table, &hf_names, r->path, r->err);
}

int packed_model_read(struct model *model, const struct map *map, struct llama3_error *err)
{
    struct packed_reader reader = {.model = model, .path = model->path, .err = err};
    size_t start = 0;
    model->format = "llama3";
    json_t *header = safetensors_header(map, model->path, &start, err);
    int result = header == NULL ? -1 : fill(&reader, map, header, start);
    json_decref(header);
    tensor_table_free(&reader.table);
    return result;
}

/* By its metadata, or, if the header is truncated, by its first bytes as packed_write() makes them.
 */
static bool says_llama3(const struct map *map)
{
    static const char begin[] = "{\"__metadata__\":{\"format\":\"llama3\"";
    size_t n = sizeof begin - 1, start = 0;
    if (map->size < 9 || map->data[8] != '{')
        return false;
    if (map->size >= 8 + n && memcmp(map->data + 8, begin, n) == 0)
        return true;
    json_t *header = safetensors_header(map, "", &start, NULL);
    const json_t *metadata = json_object_get(header, "__metadata__");
    const char *format = json_string_value(json_object_get(metadata, "format"));
    bool ours = format != NULL && strcmp(format, "llama3") == 0;
    json_decref(header);
    return ours;
}

bool packed_recognise(const char *path)
{
    struct map map;
    if (map_open(&map, path, NULL) != 0)
        return false;
    bool ours = says_llama3(&map);
    map_close(&map);
    return ours;
}
