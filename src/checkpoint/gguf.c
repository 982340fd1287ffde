/* SPDX-License-Identifier: MIT */
/* gguf.c: parses the header. Every count and length is checked against the bytes left. */
#include "checkpoint/gguf.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"

enum { MAX_KVS = 1 << 16, MAX_TENSORS = 1 << 16, MAX_TENSOR_NAME = 64 };

const struct gguf_type_info gguf_types[GGUF_TYPE_COUNT] = {
    [GGUF_U8] = {"u8", 1},           [GGUF_I8] = {"i8", 1},     [GGUF_U16] = {"u16", 2},
    [GGUF_I16] = {"i16", 2},         [GGUF_U32] = {"u32", 4},   [GGUF_I32] = {"i32", 4},
    [GGUF_F32] = {"f32", 4},         [GGUF_BOOL] = {"bool", 1}, [GGUF_STRING] = {"a string", 8},
    [GGUF_ARRAY] = {"an array", 12}, [GGUF_U64] = {"u64", 8},   [GGUF_I64] = {"i64", 8},
    [GGUF_F64] = {"f64", 8},
};

/* enum ggml_type of ggml.h: the types of weights, and names of the others, for errors: integers,
 * f64, types of activations, and those that ggml gave up. */
static const struct {
    const char *name; /* NULL: ours */
    enum dtype type;
} tensor_types[] = {
    [0] = {NULL, DTYPE_F32},
    [1] = {NULL, DTYPE_F16},
    [2] = {NULL, DTYPE_Q4_0},
    [3] = {NULL, DTYPE_Q4_1},
    [4] = {"q4_2", 0},
    [5] = {"q4_3", 0},
    [6] = {NULL, DTYPE_Q5_0},
    [7] = {NULL, DTYPE_Q5_1},
    [8] = {NULL, DTYPE_Q8_0},
    [9] = {"q8_1", 0},
    [10] = {NULL, DTYPE_Q2_K},
    [11] = {NULL, DTYPE_Q3_K},
    [12] = {NULL, DTYPE_Q4_K},
    [13] = {NULL, DTYPE_Q5_K},
    [14] = {NULL, DTYPE_Q6_K},
    [15] = {NULL, DTYPE_Q8_K},
    [16] = {NULL, DTYPE_IQ2_XXS},
    [17] = {NULL, DTYPE_IQ2_XS},
    [18] = {NULL, DTYPE_IQ3_XXS},
    [19] = {NULL, DTYPE_IQ1_S},
    [20] = {NULL, DTYPE_IQ4_NL},
    [21] = {NULL, DTYPE_IQ3_S},
    [22] = {NULL, DTYPE_IQ2_S},
    [23] = {NULL, DTYPE_IQ4_XS},
    [24] = {"i8", 0},
    [25] = {"i16", 0},
    [26] = {"i32", 0},
    [27] = {"i64", 0},
    [28] = {"f64", 0},
    [29] = {NULL, DTYPE_IQ1_M},
    [30] = {NULL, DTYPE_BF16},
    [31] = {"q4_0_4_4", 0},
    [32] = {"q4_0_4_8", 0},
    [33] = {"q4_0_8_8", 0},
    [34] = {NULL, DTYPE_TQ1_0},
    [35] = {NULL, DTYPE_TQ2_0},
    [36] = {"iq4_nl_4_4", 0},
    [37] = {"iq4_nl_4_8", 0},
    [38] = {"iq4_nl_8_8", 0},
    [39] = {NULL, DTYPE_GGUF_MXFP4},
    [40] = {NULL, DTYPE_GGUF_NVFP4},
    [41] = {"q1_0", 0},
};

uint32_t gguf_tensor_type(enum dtype type)
{
    uint32_t i = 0;
    while (tensor_types[i].name != NULL || tensor_types[i].type != type)
        i++;
    return i;
}

struct gguf_reader {
    const uint8_t *data; /* [size] the file, or a copy of its header */
    size_t size, at;
    const struct map *map;
    const char *path;
    struct llama3_error *err;
};

static int truncated(struct gguf_reader *reader, const char *what)
{
    return error_input(reader->err, "%s: expected %s at byte %zu, found %zu bytes left",
                       reader->path, what, reader->at, reader->size - reader->at);
}

/* The next n bytes; NULL if fewer are left. */
static const uint8_t *take(struct gguf_reader *reader, uint64_t n, const char *what)
{
    if (n > reader->size - reader->at) {
        truncated(reader, what);
        return NULL;
    }
    const uint8_t *bytes = reader->data + reader->at;
    reader->at += (size_t)n;
    return bytes;
}

static uint64_t load(const uint8_t *bytes, size_t n)
{
    uint64_t value = 0;
    memcpy(&value, bytes, n); /* little-endian, as the machine (configure sees to it) */
    return value;
}

/* The next number of `size` bytes. */
static int read_number(struct gguf_reader *reader, size_t size, uint64_t *out, const char *what)
{
    const uint8_t *bytes = take(reader, size, what);
    if (bytes == NULL)
        return -1;
    *out = load(bytes, size);
    return 0;
}

static int read_string(struct gguf_reader *reader, uint64_t max, const char **out, size_t *length,
                       const char *what)
{
    uint64_t n;
    if (read_number(reader, 8, &n, what) != 0)
        return -1;
    if (n > max)
        return error_input(reader->err,
                           "%s: expected %s of at most %" PRIu64 " bytes, found %" PRIu64,
                           reader->path, what, max, n);
    *out = (const char *)take(reader, n, what);
    *length = (size_t)n;
    return *out == NULL ? -1 : 0;
}

/* A plain loop: there are hundreds of thousands of strings, of a few bytes each. */
static int skip_strings(struct gguf_reader *reader, size_t n)
{
    const uint8_t *data = reader->data;
    size_t at = reader->at, size = reader->size;
    for (size_t i = 0; i < n; i++) {
        uint64_t length = size - at < 8 ? UINT64_MAX : load(data + at, 8);
        if (size - at < 8 || length > size - at - 8) {
            reader->at = size - at < 8 ? at : at + 8;
            return truncated(reader, "a string");
        }
        at += 8 + (size_t)length;
    }
    reader->at = at;
    return 0;
}

static int read_type(struct gguf_reader *reader, enum gguf_type *out)
{
    uint64_t type;
    if (read_number(reader, 4, &type, "a value type") != 0)
        return -1;
    if (type >= GGUF_TYPE_COUNT)
        return error_input(reader->err, "%s: expected a value type 0..%d, found %" PRIu64,
                           reader->path, GGUF_TYPE_COUNT - 1, type);
    *out = (enum gguf_type)type;
    return 0;
}

static int read_array(struct gguf_reader *reader, struct gguf_kv *kv)
{
    uint64_t n;
    if (read_type(reader, &kv->item) != 0 || read_number(reader, 8, &n, "an array's length") != 0)
        return -1;
    if (kv->item == GGUF_ARRAY)
        return error_input(reader->err,
                           "%s: %.*s: expected an array of plain values, found one of arrays",
                           reader->path, (int)kv->key_length, kv->key);
    if (n > (reader->size - reader->at) / gguf_types[kv->item].size)
        return error_input(
            reader->err, "%s: %.*s: expected an array of %" PRIu64 " items, found %zu bytes left",
            reader->path, (int)kv->key_length, kv->key, n, reader->size - reader->at);
    kv->n = (size_t)n;
    kv->data = reader->data + reader->at;
    if (kv->item != GGUF_STRING) {
        reader->at += kv->n * gguf_types[kv->item].size;
        return 0;
    }
    return skip_strings(reader, kv->n);
}

static int read_kv(struct gguf_reader *reader, struct gguf_kv *kv)
{
    if (read_string(reader, GGUF_MAX_KEY, &kv->key, &kv->key_length, "a key") != 0 ||
        read_type(reader, &kv->type) != 0)
        return -1;
    if (kv->type == GGUF_ARRAY)
        return read_array(reader, kv);
    if (kv->type == GGUF_STRING) {
        const char *text;
        if (read_string(reader, UINT64_MAX, &text, &kv->n, "a string") != 0)
            return -1;
        kv->data = (const uint8_t *)text;
        return 0;
    }
    kv->n = 1;
    kv->data = take(reader, gguf_types[kv->type].size, "a value");
    return kv->data == NULL ? -1 : 0;
}

static int by_key(const void *a, const void *b)
{
    const struct gguf_kv *x = a, *y = b;
    size_t shorter = x->key_length < y->key_length ? x->key_length : y->key_length;
    int order = memcmp(x->key, y->key, shorter);
    return order != 0 ? order : (x->key_length > y->key_length) - (x->key_length < y->key_length);
}

static int read_kvs(struct gguf_reader *reader, uint64_t n, struct gguf *gguf)
{
    if (n > MAX_KVS || n > (reader->size - reader->at) / 13)
        return error_input(reader->err,
                           "%s: expected at most %d keys that fit the file, found %" PRIu64,
                           reader->path, MAX_KVS, n);
    gguf->kvs = size_alloc_for((size_t)n, sizeof *gguf->kvs, reader->path, reader->err);
    if (gguf->kvs == NULL)
        return -1;
    for (; gguf->n_kvs < n; gguf->n_kvs++)
        if (read_kv(reader, &gguf->kvs[gguf->n_kvs]) != 0)
            return -1;
    qsort(gguf->kvs, gguf->n_kvs, sizeof *gguf->kvs, by_key);
    for (size_t i = 1; i < gguf->n_kvs; i++)
        if (by_key(&gguf->kvs[i - 1], &gguf->kvs[i]) == 0)
            return error_input(reader->err, "%s: expected one key %.*s, found two", reader->path,
                               (int)gguf->kvs[i].key_length, gguf->kvs[i].key);
    return 0;
}

static int read_tensor_type(struct gguf_reader *reader, struct file_tensor *tensor,
                            const char *name)
{
    uint64_t id;
    if (read_number(reader, 4, &id, "a tensor's type") != 0)
        return -1;
    bool known = id < sizeof tensor_types / sizeof *tensor_types;
    if (known && tensor_types[id].name == NULL) {
        tensor->type = tensor_types[id].type;
        return 0;
    }
    char number[32];
    snprintf(number, sizeof number, "ggml type %" PRIu64, id);
    return error_input(reader->err, "%s: tensor %s: expected a type that we read, found %s",
                       reader->path, name, known ? tensor_types[id].name : number);
}

/* *n: the number of weights. */
static int read_shape(struct gguf_reader *reader, struct file_tensor *tensor, const char *name,
                      size_t *n)
{
    uint64_t n_dims;
    if (read_number(reader, 4, &n_dims, "a tensor's dimensions") != 0)
        return -1;
    if (n_dims < 1 || n_dims > MAX_DIMS)
        return error_input(reader->err, "%s: tensor %s: expected 1..%d dimensions, found %" PRIu64,
                           reader->path, name, MAX_DIMS, n_dims);
    tensor->n_dims = (size_t)n_dims;
    *n = 1;
    for (size_t i = 0; i < n_dims; i++) { /* ggml counts from the innermost */
        uint64_t *dim = &tensor->dims[n_dims - 1 - i];
        if (read_number(reader, 8, dim, "a tensor's shape") != 0)
            return -1;
        if (*dim == 0 || *dim > SIZE_MAX || !size_mul(*n, (size_t)*dim, n))
            return error_input(
                reader->err,
                "%s: tensor %s: expected dimensions from 1 whose product fits 64 bits, found "
                "%" PRIu64,
                reader->path, name, *dim);
    }
    return 0;
}

/* Reads the next tensor into the table. Its data is set later, when the header's end is known.
 * Tensors follow one another, each at a multiple of the alignment; llama.cpp takes no other files.
 * *end: where the tensor before ends; on return, where this one does. */
static int read_tensor(struct gguf_reader *reader, struct tensor_table *table, size_t alignment,
                       size_t *end)
{
    struct file_tensor tensor = {0};
    const char *bytes;
    char name[MAX_TENSOR_NAME + 1];
    size_t length, n = 0;
    uint64_t offset;
    if (read_string(reader, MAX_TENSOR_NAME, &bytes, &length, "a tensor's name") != 0)
        return -1;
    snprintf(name, sizeof name, "%.*s", (int)length, bytes);
    if (length == 0 || strlen(name) != length)
        return error_input(reader->err, "%s: expected a tensor's name, found \"%s\"", reader->path,
                           name);
    if (read_shape(reader, &tensor, name, &n) != 0 ||
        read_tensor_type(reader, &tensor, name) != 0 ||
        read_number(reader, 8, &offset, "a tensor's offset") != 0)
        return -1;

    const struct dtype_info *info = dtype_info(tensor.type);
    uint64_t cols = tensor.dims[tensor.n_dims - 1];
    if (cols % info->block != 0)
        return error_input(
            reader->err,
            "%s: tensor %s: expected columns in multiples of %zu for %s, found %" PRIu64,
            reader->path, name, info->block, info->name, cols);
    size_t start = 0;
    if (!size_mul(n / info->block, info->block_bytes, &tensor.bytes) ||
        !size_add(*end, alignment - 1, &start) ||
        !size_add(start / alignment * alignment, tensor.bytes, end))
        return error_input(reader->err,
                           "%s: tensor %s: expected a size that fits 64 bits, found more",
                           reader->path, name);
    if (offset != start / alignment * alignment)
        return error_input(reader->err, "%s: tensor %s: expected offset %zu, found %" PRIu64,
                           reader->path, name, start / alignment * alignment, offset);
    return tensor_table_add(table, &tensor, name, length, reader->err);
}

static int read_tensors(struct gguf_reader *reader, uint64_t n, size_t alignment,
                        struct tensor_table *table)
{
    if (n > MAX_TENSORS || n > (reader->size - reader->at) / 32)
        return error_input(reader->err,
                           "%s: expected at most %d tensors that fit the file, found %" PRIu64,
                           reader->path, MAX_TENSORS, n);
    size_t first = table->n, end = 0;
    for (uint64_t i = 0; i < n; i++)
        if (read_tensor(reader, table, alignment, &end) != 0)
            return -1;
    if (n == 0)
        return 0;

    size_t start = (reader->at + alignment - 1) / alignment * alignment;
    if (!size_inside(start, end, reader->map->size))
        return error_input(
            reader->err,
            "%s: expected %zu bytes of tensors at byte %zu, found the file's end at %zu",
            reader->path, end, start, reader->map->size);
    for (size_t i = first; i < table->n; i++) {
        struct file_tensor *tensor = &table->tensors[i];
        tensor->data = reader->map->data + start;
        start += (tensor->bytes + alignment - 1) / alignment * alignment;
    }
    return 0;
}

static int read_start(struct gguf_reader *reader)
{
    uint64_t version;
    const uint8_t *magic = take(reader, 4, "\"GGUF\"");
    if (magic == NULL)
        return -1;
    if (memcmp(magic, "GGUF", 4) != 0)
        return error_input(reader->err, "%s: expected \"GGUF\" at byte 0, found \"%.4s\"",
                           reader->path, (const char *)magic);
    if (read_number(reader, 4, &version, "a version") != 0)
        return -1;
    if (version == 0x02000000 || version == 0x03000000)
        return error_input(reader->err,
                           "%s: expected a little-endian GGUF file, found a big-endian one",
                           reader->path);
    if (version != 2 && version != 3)
        return error_input(reader->err, "%s: expected GGUF version 2 or 3, found %" PRIu64,
                           reader->path, version);
    return 0;
}

/* Reads the whole header, and leaves reader->at at its end. */
static int read_header(struct gguf_reader *reader, struct gguf *gguf, struct tensor_table *table)
{
    uint64_t n_tensors, n_kvs;
    int64_t alignment = 32;
    if (read_start(reader) != 0 ||
        read_number(reader, 8, &n_tensors, "the number of tensors") != 0 ||
        read_number(reader, 8, &n_kvs, "the number of keys") != 0 ||
        read_kvs(reader, n_kvs, gguf) != 0 ||
        gguf_get_int(gguf, "general.alignment", false, 1, 65536, &alignment, reader->err) != 0)
        return -1;
    if ((alignment & (alignment - 1)) != 0)
        return error_input(reader->err,
                           "%s: general.alignment: expected a power of two, found %lld",
                           reader->path, (long long)alignment);
    return read_tensors(reader, n_tensors, (size_t)alignment, table);
}

/* Reads the header twice: in the file, to learn its length, and then in a copy, which alone is
 * used. A mapped file can change after it was checked, lengths of strings above all. */
int gguf_parse(struct gguf *gguf, const struct map *map, const char *path,
               struct tensor_table *table, struct llama3_error *err)
{
    struct gguf_reader reader = {map->data, map->size, 0, map, path, err};
    struct gguf seen = {.path = path};
    struct tensor_table tensors = {0};
    *gguf = (struct gguf){.path = path};
    int result = read_header(&reader, &seen, &tensors);
    gguf_free(&seen);
    tensor_table_free(&tensors);
    if (result != 0)
        return -1;
    size_t size = reader.at;
    gguf->header = size_alloc_for(size, 1, path, err);
    if (gguf->header == NULL)
        return -1;
    memcpy(gguf->header, map->data, size);
    reader = (struct gguf_reader){gguf->header, size, 0, map, path, err};
    result = read_header(&reader, gguf, table);
    if (result != 0)
        gguf_free(gguf);
    return result;
}

void gguf_free(struct gguf *gguf)
{
    free(gguf->kvs);
    free(gguf->header);
    *gguf = (struct gguf){0};
}

const struct gguf_kv *gguf_find(const struct gguf *gguf, const char *key)
{
    struct gguf_kv wanted = {.key = key, .key_length = strlen(key)};
    if (gguf->n_kvs == 0)
        return NULL;
    return bsearch(&wanted, gguf->kvs, gguf->n_kvs, sizeof *gguf->kvs, by_key);
}
