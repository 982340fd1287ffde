/* SPDX-License-Identifier: MIT */
/* safetensors.c: the header, its ranges, and the index of a sharded checkpoint. */
#include "checkpoint/safetensors.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/path.h"
#include "base/size.h"
#include "checkpoint/readers.h"

enum { MAX_HEADER = 100000000, MAX_SHARDS = 1024 };

/* All types of the format with whole bytes (safetensors 0.6). Weights come in those that have a
 * dtype; which of the others a quantized one needs, its reader checks. */
static const struct type {
    const char *name;
    size_t size;
    enum dtype dtype; /* DTYPE_COUNT: not for weights */
} types[] = {
    {"F32", 4, DTYPE_F32},       {"F16", 2, DTYPE_F16},           {"BF16", 2, DTYPE_BF16},
    {"F64", 8, DTYPE_COUNT},     {"I64", 8, DTYPE_COUNT},         {"I32", 4, DTYPE_COUNT},
    {"I16", 2, DTYPE_COUNT},     {"I8", 1, DTYPE_COUNT},          {"U64", 8, DTYPE_COUNT},
    {"U32", 4, DTYPE_COUNT},     {"U16", 2, DTYPE_COUNT},         {"U8", 1, DTYPE_COUNT},
    {"BOOL", 1, DTYPE_COUNT},    {"F8_E4M3", 1, DTYPE_COUNT},     {"F8_E5M2", 1, DTYPE_COUNT},
    {"F8_E8M0", 1, DTYPE_COUNT}, {"F8_E4M3FNUZ", 1, DTYPE_COUNT}, {"F8_E5M2FNUZ", 1, DTYPE_COUNT},
    {"C64", 8, DTYPE_COUNT},
};

struct data_range {
    uint64_t begin, end;
    const char *name;
};

static const struct type *find_type(const char *name)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(types[i].name, name) == 0)
            return &types[i];
    return NULL;
}

/* The shape, and its size in bytes. */
static int read_shape(const json_t *shape, const struct type *type, struct file_tensor *tensor,
                      const char *where, struct llama3_error *err)
{
    size_t n = json_array_size(shape);
    if (!json_is_array(shape) || n > MAX_DIMS)
        return error_input(err, "%s: \"shape\": expected at most %d dimensions, found %s", where,
                           MAX_DIMS, json_is_array(shape) ? "more" : json_kind(shape));
    tensor->n_dims = n;
    tensor->bytes = type->size;
    for (size_t i = 0; i < n; i++) {
        const json_t *dim = json_array_get(shape, i);
        json_int_t value = json_integer_value(dim);
        if (!json_is_integer(dim) || value < 0)
            return error_input(err, "%s: \"shape\": expected dimensions from 0, found %s", where,
                               json_is_integer(dim) ? "a negative one" : json_kind(dim));
        tensor->dims[i] = (uint64_t)value;
        if (!size_mul(tensor->bytes, (size_t)value, &tensor->bytes))
            return error_input(err, "%s: \"shape\": expected a size that fits 64 bits, found more",
                               where);
    }
    return 0;
}

static int read_offsets(const json_t *offsets, struct data_range *range, const char *where,
                        struct llama3_error *err)
{
    const json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(begin) || !json_is_integer(end) ||
        json_integer_value(begin) < 0 || json_integer_value(end) < json_integer_value(begin))
        return error_input(err,
                           "%s: \"data_offsets\": expected two ascending integers from 0, found %s",
                           where, json_is_array(offsets) ? "others" : json_kind(offsets));
    range->begin = (uint64_t)json_integer_value(begin);
    range->end = (uint64_t)json_integer_value(end);
    return 0;
}

/* One entry of the header; *ignored: it is valid, but no weight. data: [size] after the header. */
static int read_tensor(const json_t *entry, const char *name, const struct tensor_names *names,
                       const uint8_t *data, size_t size, struct file_tensor *tensor,
                       struct data_range *range, bool *ignored, const char *path,
                       struct llama3_error *err)
{
    char where[256];
    const char *type_name = NULL;
    snprintf(where, sizeof where, "%s: tensor %.100s", path, name);
    if (!json_is_object(entry))
        return error_input(err, "%s: expected an object, found %s", where, json_kind(entry));
    if (json_get_string(entry, "dtype", true, &type_name, where, err) != 0)
        return -1;
    const struct type *type = find_type(type_name);
    *ignored = names != NULL && tensor_ignored(names, name);
    if (type == NULL)
        return error_input(err, "%s: expected F32, F16 or BF16, found %.40s", where, type_name);
    *tensor = (struct file_tensor){.type = type->dtype, .stored = type->name};
    if (read_shape(json_object_get(entry, "shape"), type, tensor, where, err) != 0 ||
        read_offsets(json_object_get(entry, "data_offsets"), range, where, err) != 0)
        return -1;
    if (range->end > size)
        return error_input(err, "%s: expected data within %zu bytes, found an end at %" PRIu64,
                           where, size, range->end);
    if (range->end - range->begin != tensor->bytes)
        return error_input(err, "%s: expected %zu bytes, found %" PRIu64, where, tensor->bytes,
                           range->end - range->begin);
    range->name = name;
    tensor->data = data + range->begin;
    return 0;
}

static int by_begin(const void *a, const void *b)
{
    const struct data_range *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

/* The format allows neither holes nor overlaps. */
static int check_ranges(struct data_range *ranges, size_t n, size_t size, const char *path,
                        struct llama3_error *err)
{
    uint64_t at = 0;
    if (n > 0)
        qsort(ranges, n, sizeof *ranges, by_begin);
    for (size_t i = 0; i < n; i++) {
        if (ranges[i].begin != at)
            return error_input(
                err, "%s: tensor %.100s: expected data at offset %" PRIu64 ", found it at %" PRIu64,
                path, ranges[i].name, at, ranges[i].begin);
        at = ranges[i].end;
    }
    if (at != size)
        return error_input(err, "%s: expected %" PRIu64 " bytes of data, found %zu", path, at,
                           size);
    return 0;
}

int safetensors_tensors(const json_t *header, const uint8_t *data, size_t size, const char *path,
                        const struct tensor_names *names, struct tensor_table *table,
                        struct llama3_error *err)
{
    size_t n = 0;
    struct data_range *ranges = size_alloc_for(json_object_size(header), sizeof *ranges, path, err);
    if (ranges == NULL)
        return -1;
    const char *name;
    json_t *entry;
    int result = 0;
    json_object_foreach((json_t *)(uintptr_t)header, name, entry)
    {
        struct file_tensor tensor;
        bool ignored = false;
        if (strcmp(name, "__metadata__") == 0) /* no tensor */
            continue;
        result =
            read_tensor(entry, name, names, data, size, &tensor, &ranges[n++], &ignored, path, err);
        if (result == 0 && !ignored)
            result = tensor_table_add(table, &tensor, name, strlen(name), err);
        if (result != 0)
            break;
    }
    if (result == 0)
        result = check_ranges(ranges, n, size, path, err);
    free(ranges);
    return result;
}

json_t *safetensors_header(const struct map *map, const char *path, size_t *start,
                           struct llama3_error *err)
{
    uint64_t length;
    if (map->size < sizeof length) {
        error_input(err, "%s: expected a safetensors file, found %zu bytes", path, map->size);
        return NULL;
    }
    size_t left = map->size - sizeof length, most = left < MAX_HEADER ? left : MAX_HEADER;
    memcpy(&length, map->data, sizeof length);
    if (length > most) {
        error_input(err, "%s: expected a header of at most %zu bytes, found %" PRIu64, path, most,
                    length);
        return NULL;
    }
    *start = sizeof length + (size_t)length;
    /* A copy, since json_parse() reads it twice, and the file could change in between. */
    char *text = size_alloc_for((size_t)length, 1, path, err);
    if (text == NULL)
        return NULL;
    memcpy(text, map->data + sizeof length, (size_t)length);
    json_t *header = json_parse(text, (size_t)length, path, err);
    free(text);
    return header;
}

int safetensors_read(struct model *model, const char *path, const struct tensor_names *names,
                     struct tensor_table *table, struct llama3_error *err)
{
    struct map map;
    size_t start = 0;
    if (model_map(model, path, &map, err) != 0)
        return -1;
    json_t *header = safetensors_header(&map, path, &start, err);
    if (header == NULL)
        return -1;
    int result =
        safetensors_tensors(header, map.data + start, map.size - start, path, names, table, err);
    json_decref(header);
    return result;
}

/* ---- shards ---------------------------------------------------------------------------------- */

/* Reads the shard that holds an index entry, unless it was read before. *shards maps names of
 * files to true. */
static int read_shard(struct model *model, const char *folder, const json_t *file, json_t *shards,
                      const struct tensor_names *names, struct tensor_table *table,
                      const char *where, struct llama3_error *err)
{
    const char *name = json_string_value(file);
    if (name == NULL || !shard_name_is_plain(name))
        return error_input(err, "%s: expected names of files beside it, found %.100s", where,
                           name != NULL ? name : json_kind(file));
    if (json_object_get(shards, name) != NULL)
        return 0;
    if (json_object_size(shards) == MAX_SHARDS)
        return error_input(err, "%s: expected at most %d files, found more", where, MAX_SHARDS);
    if (json_object_set_new(shards, name, json_true()) != 0)
        return error_memory(err, where, strlen(name));
    char *path = path_join(folder, name, err);
    int result = path == NULL ? -1 : safetensors_read(model, path, names, table, err);
    free(path);
    return result;
}

/* Every tensor of the index must have been found, and no other. */
static int check_index(const json_t *weights, const struct tensor_names *names,
                       struct tensor_table *table, const char *where, struct llama3_error *err)
{
    const char *name;
    json_t *file;
    if (tensor_table_sort(table, where, err) != 0)
        return -1;
    json_object_foreach((json_t *)(uintptr_t)weights, name, file)
    {
        if (!tensor_ignored(names, name) && tensor_table_find(table, name) == NULL)
            return error_input(err, "%s: expected tensor %.100s in %.100s, found none", where, name,
                               json_string_value(file));
    }
    for (size_t i = 0; i < table->n; i++)
        if (json_object_get(weights, table->tensors[i].name) == NULL)
            return error_input(err, "%s: expected only tensors of the index, found %.100s", where,
                               table->tensors[i].name);
    return 0;
}

static int read_index(struct model *model, const char *folder, const struct tensor_names *names,
                      struct tensor_table *table, struct llama3_error *err)
{
    const char *name;
    char *path;
    json_t *file, *index = shards_index(folder, &path, err), *shards = json_object();
    json_t *weights = json_object_get(index, "weight_map");
    int result = index == NULL ? -1 : 0;
    if (index != NULL && !json_is_object(weights))
        result = error_input(err, "%s: \"weight_map\": expected an object, found %s", path,
                             json_kind(weights));
    json_object_foreach(weights, name, file)
    {
        result = read_shard(model, folder, file, shards, names, table, path, err);
        if (result != 0)
            break;
    }
    if (result == 0)
        result = check_index(weights, names, table, path, err);
    json_decref(shards);
    json_decref(index);
    free(path);
    return result;
}

int safetensors_read_folder(struct model *model, const char *folder,
                            const struct tensor_names *names, struct tensor_table *table,
                            struct llama3_error *err)
{
    char *single = path_join(folder, "model.safetensors", err);
    int result = single == NULL        ? -1
                 : path_exists(single) ? safetensors_read(model, single, names, table, err)
                                       : read_index(model, folder, names, table, err);
    if (result == 0)
        result = tensor_table_sort(table, folder, err);
    free(single);
    return result;
}
