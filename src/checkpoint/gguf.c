/* gguf.c: parsing, with every count and length held against the bytes that are left. */
#include "checkpoint/gguf.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"

enum { MAX_KVS = 1 << 16, MAX_KEY = 256, MAX_TENSORS = 1 << 16, MAX_TENSOR_NAME = 64 };

static const struct {
    const char *name;
    size_t size; /* the least an item takes */
} types[GGUF_TYPE_COUNT] = {
    [GGUF_U8] = {"u8", 1},           [GGUF_I8] = {"i8", 1},     [GGUF_U16] = {"u16", 2},
    [GGUF_I16] = {"i16", 2},         [GGUF_U32] = {"u32", 4},   [GGUF_I32] = {"i32", 4},
    [GGUF_F32] = {"f32", 4},         [GGUF_BOOL] = {"bool", 1}, [GGUF_STRING] = {"a string", 8},
    [GGUF_ARRAY] = {"an array", 12}, [GGUF_U64] = {"u64", 8},   [GGUF_I64] = {"i64", 8},
    [GGUF_F64] = {"f64", 8},
};

/* enum ggml_type of ggml.h, where we have the same type. */
static const struct {
    uint32_t id;
    enum dtype type;
} tensor_types[] = {
    {0, DTYPE_F32},   {1, DTYPE_F16},   {2, DTYPE_Q4_0},    {3, DTYPE_Q4_1},
    {6, DTYPE_Q5_0},  {7, DTYPE_Q5_1},  {8, DTYPE_Q8_0},    {12, DTYPE_Q4_K},
    {13, DTYPE_Q5_K}, {14, DTYPE_Q6_K}, {20, DTYPE_IQ4_NL}, {30, DTYPE_BF16},
};

struct reader {
    const uint8_t *data;
    size_t size, at;
    const char *path;
    struct llama3_error *err;
};

static int truncated(struct reader *reader, const char *what)
{
    return error_set(reader->err, LLAMA3_EINPUT, "%s: %s expected at byte %zu, %zu bytes are left",
                     reader->path, what, reader->at, reader->size - reader->at);
}

/* n bytes at the reader's place, which moves on; NULL if fewer are left. */
static const uint8_t *take(struct reader *reader, uint64_t n, const char *what)
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
    memcpy(&value, bytes, n); /* little-endian, as the machine (quant/dtype.c sees to it) */
    return value;
}

static int read_u32(struct reader *reader, uint32_t *out, const char *what)
{
    const uint8_t *bytes = take(reader, 4, what);
    if (bytes == NULL)
        return -1;
    *out = (uint32_t)load(bytes, 4);
    return 0;
}

static int read_u64(struct reader *reader, uint64_t *out, const char *what)
{
    const uint8_t *bytes = take(reader, 8, what);
    if (bytes == NULL)
        return -1;
    *out = load(bytes, 8);
    return 0;
}

static int read_string(struct reader *reader, uint64_t max, const char **out, size_t *length,
                       const char *what)
{
    uint64_t n;
    if (read_u64(reader, &n, what) != 0)
        return -1;
    if (n > max)
        return error_set(reader->err, LLAMA3_EINPUT,
                         "%s: %s of at most %" PRIu64 " bytes expected, %" PRIu64 " found",
                         reader->path, what, max, n);
    *out = (const char *)take(reader, n, what);
    *length = (size_t)n;
    return *out == NULL ? -1 : 0;
}

static int read_type(struct reader *reader, enum gguf_type *out)
{
    uint32_t type;
    if (read_u32(reader, &type, "a value type") != 0)
        return -1;
    if (type >= GGUF_TYPE_COUNT)
        return error_set(reader->err, LLAMA3_EINPUT,
                         "%s: a value type 0..%d expected, %" PRIu32 " found", reader->path,
                         GGUF_TYPE_COUNT - 1, type);
    *out = (enum gguf_type)type;
    return 0;
}

static int read_array(struct reader *reader, struct gguf_kv *kv)
{
    uint64_t n;
    if (read_type(reader, &kv->item) != 0 || read_u64(reader, &n, "an array's length") != 0)
        return -1;
    if (kv->item == GGUF_ARRAY)
        return error_set(reader->err, LLAMA3_EINPUT,
                         "%s: %.*s: an array of plain values expected, one of arrays found",
                         reader->path, (int)kv->key_length, kv->key);
    if (n > (reader->size - reader->at) / types[kv->item].size)
        return error_set(reader->err, LLAMA3_EINPUT,
                         "%s: %.*s: an array of %" PRIu64 " items expected, %zu bytes are left",
                         reader->path, (int)kv->key_length, kv->key, n, reader->size - reader->at);
    kv->n = (size_t)n;
    kv->data = reader->data + reader->at;
    if (kv->item != GGUF_STRING) {
        reader->at += kv->n * types[kv->item].size;
        return 0;
    }
    for (size_t i = 0; i < kv->n; i++) {
        const char *text;
        size_t length;
        if (read_string(reader, UINT64_MAX, &text, &length, "a string") != 0)
            return -1;
    }
    return 0;
}

static int read_kv(struct reader *reader, struct gguf_kv *kv)
{
    if (read_string(reader, MAX_KEY, &kv->key, &kv->key_length, "a key") != 0 ||
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
    kv->data = take(reader, types[kv->type].size, "a value");
    return kv->data == NULL ? -1 : 0;
}

static int compare_keys(const char *a, size_t a_length, const char *b, size_t b_length)
{
    int order = memcmp(a, b, a_length < b_length ? a_length : b_length);
    return order != 0 ? order : (a_length > b_length) - (a_length < b_length);
}

static int by_key(const void *a, const void *b)
{
    const struct gguf_kv *x = a, *y = b;
    return compare_keys(x->key, x->key_length, y->key, y->key_length);
}

static int read_kvs(struct reader *reader, uint64_t n, struct gguf *gguf)
{
    if (n > MAX_KVS || n > (reader->size - reader->at) / 13)
        return error_set(reader->err, LLAMA3_EINPUT,
                         "%s: at most %d keys that fit the file expected, %" PRIu64 " found",
                         reader->path, MAX_KVS, n);
    gguf->kvs = size_alloc((size_t)n, sizeof *gguf->kvs);
    if (gguf->kvs == NULL)
        return error_memory(reader->err, reader->path, (size_t)n * sizeof *gguf->kvs);
    for (; gguf->n_kvs < n; gguf->n_kvs++)
        if (read_kv(reader, &gguf->kvs[gguf->n_kvs]) != 0)
            return -1;
    qsort(gguf->kvs, gguf->n_kvs, sizeof *gguf->kvs, by_key);
    for (size_t i = 1; i < gguf->n_kvs; i++)
        if (by_key(&gguf->kvs[i - 1], &gguf->kvs[i]) == 0)
            return error_set(reader->err, LLAMA3_EINPUT, "%s: one key %.*s expected, two found",
                             reader->path, (int)gguf->kvs[i].key_length, gguf->kvs[i].key);
    return 0;
}

static int read_tensor_type(struct reader *reader, struct tensor *tensor, const char *name)
{
    uint32_t id;
    if (read_u32(reader, &id, "a tensor's type") != 0)
        return -1;
    for (size_t i = 0; i < sizeof tensor_types / sizeof *tensor_types; i++)
        if (tensor_types[i].id == id) {
            tensor->type = tensor_types[i].type;
            return 0;
        }
    return error_set(reader->err, LLAMA3_EINPUT,
                     "%s: tensor %s: f32, f16, bf16, q4_0, q4_1, q5_0, q5_1, q8_0, q4_k, q5_k, "
                     "q6_k or iq4_nl expected, ggml type %" PRIu32 " found",
                     reader->path, name, id);
}

/* The number of weights, which fits a size_t, as its product with anything read later must. */
static int read_shape(struct reader *reader, struct tensor *tensor, const char *name, size_t *n)
{
    uint32_t n_dims;
    if (read_u32(reader, &n_dims, "a tensor's dimensions") != 0)
        return -1;
    if (n_dims < 1 || n_dims > MAX_DIMS)
        return error_set(reader->err, LLAMA3_EINPUT,
                         "%s: tensor %s: 1..%d dimensions expected, %" PRIu32 " found",
                         reader->path, name, MAX_DIMS, n_dims);
    tensor->n_dims = n_dims;
    *n = 1;
    for (uint32_t i = 0; i < n_dims; i++) { /* ggml counts from the innermost */
        uint64_t *dim = &tensor->dims[n_dims - 1 - i];
        if (read_u64(reader, dim, "a tensor's shape") != 0)
            return -1;
        if (*dim == 0 || *dim > SIZE_MAX || !size_mul(*n, (size_t)*dim, n))
            return error_set(
                reader->err, LLAMA3_EINPUT,
                "%s: tensor %s: dimensions from 1 whose product fits 64 bits expected, "
                "%" PRIu64 " found",
                reader->path, name, *dim);
    }
    return 0;
}

/* Reads the next tensor into the table; its data comes later, when the header's end is known.
 * Tensors stand one after another, each at a multiple of the alignment (llama.cpp takes no other
 * files): *end is where the one before ended, and moves. */
static int read_tensor(struct reader *reader, struct tensor_table *table, size_t alignment,
                       size_t *end)
{
    struct tensor tensor = {0};
    const char *bytes;
    char name[MAX_TENSOR_NAME + 1];
    size_t length, n = 0;
    uint64_t offset;
    if (read_string(reader, MAX_TENSOR_NAME, &bytes, &length, "a tensor's name") != 0)
        return -1;
    snprintf(name, sizeof name, "%.*s", (int)length, bytes);
    if (length == 0 || strlen(name) != length)
        return error_set(reader->err, LLAMA3_EINPUT, "%s: a tensor's name expected, \"%s\" found",
                         reader->path, name);
    if (read_shape(reader, &tensor, name, &n) != 0 ||
        read_tensor_type(reader, &tensor, name) != 0 ||
        read_u64(reader, &offset, "a tensor's offset") != 0)
        return -1;

    const struct dtype_info *info = dtype_info(tensor.type);
    uint64_t cols = tensor.dims[tensor.n_dims - 1];
    if (cols % info->block != 0)
        return error_set(reader->err, LLAMA3_EINPUT,
                         "%s: tensor %s: columns in multiples of %zu expected for %s, %" PRIu64
                         " found",
                         reader->path, name, info->block, info->name, cols);
    size_t start = 0;
    if (!size_mul(n / info->block, info->block_bytes, &tensor.bytes) ||
        !size_add(*end, alignment - 1, &start) ||
        !size_add(start / alignment * alignment, tensor.bytes, end))
        return error_set(reader->err, LLAMA3_EINPUT,
                         "%s: tensor %s: a size that fits 64 bits expected, more found",
                         reader->path, name);
    if (offset != start / alignment * alignment)
        return error_set(reader->err, LLAMA3_EINPUT,
                         "%s: tensor %s: offset %zu expected, %" PRIu64 " found", reader->path,
                         name, start / alignment * alignment, offset);
    return tensor_table_add(table, &tensor, name, length, reader->err);
}

static int read_tensors(struct reader *reader, uint64_t n, size_t alignment,
                        struct tensor_table *table)
{
    if (n > MAX_TENSORS || n > (reader->size - reader->at) / 32)
        return error_set(reader->err, LLAMA3_EINPUT,
                         "%s: at most %d tensors that fit the file expected, %" PRIu64 " found",
                         reader->path, MAX_TENSORS, n);
    size_t first = table->n, end = 0;
    for (uint64_t i = 0; i < n; i++)
        if (read_tensor(reader, table, alignment, &end) != 0)
            return -1;
    if (n == 0)
        return 0;

    size_t start = (reader->at + alignment - 1) / alignment * alignment;
    if (!size_inside(start, end, reader->size))
        return error_set(reader->err, LLAMA3_EINPUT,
                         "%s: %zu bytes of tensors at byte %zu expected, the file ends at %zu",
                         reader->path, end, start, reader->size);
    const uint8_t *data = reader->data + start;
    for (size_t i = first; i < table->n; i++) {
        struct tensor *tensor = &table->tensors[i];
        tensor->data = data;
        data += (tensor->bytes + alignment - 1) / alignment * alignment;
    }
    return 0;
}

int gguf_parse(struct gguf *gguf, const struct map *map, const char *path,
               struct tensor_table *table, struct llama3_error *err)
{
    struct reader reader = {map->data, map->size, 0, path, err};
    uint32_t version;
    uint64_t n_tensors, n_kvs;
    *gguf = (struct gguf){.path = path};

    const uint8_t *magic = take(&reader, 4, "\"GGUF\"");
    if (magic == NULL)
        return -1;
    if (memcmp(magic, "GGUF", 4) != 0)
        return error_set(err, LLAMA3_EINPUT, "%s: \"GGUF\" expected at byte 0, \"%.4s\" found",
                         path, (const char *)magic);
    if (read_u32(&reader, &version, "a version") != 0)
        return -1;
    if (version == 0x02000000 || version == 0x03000000)
        return error_set(err, LLAMA3_EINPUT,
                         "%s: a little-endian GGUF file expected, a big-endian "
                         "one found",
                         path);
    if (version != 2 && version != 3)
        return error_set(err, LLAMA3_EINPUT, "%s: GGUF version 2 or 3 expected, %" PRIu32 " found",
                         path, version);

    int64_t alignment = 32;
    if (read_u64(&reader, &n_tensors, "the number of tensors") != 0 ||
        read_u64(&reader, &n_kvs, "the number of keys") != 0 ||
        read_kvs(&reader, n_kvs, gguf) != 0 ||
        gguf_get_int(gguf, "general.alignment", false, 1, 65536, &alignment, err) != 0)
        goto failed;
    if ((alignment & (alignment - 1)) != 0) {
        error_set(err, LLAMA3_EINPUT, "%s: general.alignment: a power of two expected, %lld found",
                  path, (long long)alignment);
        goto failed;
    }
    if (read_tensors(&reader, n_tensors, (size_t)alignment, table) == 0)
        return 0;
failed:
    gguf_free(gguf);
    return -1;
}

void gguf_free(struct gguf *gguf)
{
    free(gguf->kvs);
    *gguf = (struct gguf){0};
}

/* ---- values -------------------------------------------------------------------------------- */

const struct gguf_kv *gguf_find(const struct gguf *gguf, const char *key)
{
    struct gguf_kv wanted = {.key = key, .key_length = strlen(key)};
    if (gguf->n_kvs == 0)
        return NULL;
    return bsearch(&wanted, gguf->kvs, gguf->n_kvs, sizeof *gguf->kvs, by_key);
}

static const struct gguf_kv *get(const struct gguf *gguf, const char *key, bool required,
                                 const char *expected, int *result, struct llama3_error *err)
{
    const struct gguf_kv *kv = gguf_find(gguf, key);
    *result = kv != NULL || !required
                  ? 0
                  : error_set(err, LLAMA3_EINPUT, "%s: %s: %s expected, nothing found", gguf->path,
                              key, expected);
    return kv;
}

static int mismatch(const struct gguf *gguf, const char *key, const char *expected,
                    const struct gguf_kv *kv, struct llama3_error *err)
{
    return error_set(err, LLAMA3_EINPUT, "%s: %s: %s expected, %s%s found", gguf->path, key,
                     expected, types[kv->type].name,
                     kv->type == GGUF_ARRAY ? " of other items" : "");
}

int gguf_get_int(const struct gguf *gguf, const char *key, bool required, int64_t min, int64_t max,
                 int64_t *out, struct llama3_error *err)
{
    int result;
    const struct gguf_kv *kv = get(gguf, key, required, "an integer", &result, err);
    if (kv == NULL)
        return result;
    uint64_t bits = kv->type == GGUF_STRING || kv->type == GGUF_ARRAY
                        ? 0
                        : load(kv->data, types[kv->type].size);
    int64_t value;
    switch (kv->type) {
    case GGUF_U8:
    case GGUF_U16:
    case GGUF_U32:
        value = (int64_t)bits;
        break;
    case GGUF_U64:
        value = bits > INT64_MAX ? INT64_MAX : (int64_t)bits;
        break;
    case GGUF_I8:
        value = (int8_t)bits;
        break;
    case GGUF_I16:
        value = (int16_t)bits;
        break;
    case GGUF_I32:
        value = (int32_t)bits;
        break;
    case GGUF_I64:
        value = (int64_t)bits;
        break;
    default:
        return mismatch(gguf, key, "an integer", kv, err);
    }
    if (value < min || value > max)
        return error_set(err, LLAMA3_EINPUT,
                         "%s: %s: %" PRId64 "..%" PRId64 " expected, %" PRId64 " found", gguf->path,
                         key, min, max, value);
    *out = value;
    return 0;
}

int gguf_get_number(const struct gguf *gguf, const char *key, bool required, double min, double max,
                    double *out, struct llama3_error *err)
{
    int result;
    const struct gguf_kv *kv = get(gguf, key, required, "a number", &result, err);
    if (kv == NULL)
        return result;
    double value;
    if (kv->type == GGUF_F32) {
        float single;
        memcpy(&single, kv->data, sizeof single);
        value = (double)single;
    } else if (kv->type == GGUF_F64) {
        memcpy(&value, kv->data, sizeof value);
    } else {
        return mismatch(gguf, key, "a number", kv, err);
    }
    if (!(value >= min && value <= max))
        return error_set(err, LLAMA3_EINPUT, "%s: %s: %g..%g expected, %g found", gguf->path, key,
                         min, max, value);
    *out = value;
    return 0;
}

int gguf_get_bool(const struct gguf *gguf, const char *key, bool required, bool *out,
                  struct llama3_error *err)
{
    int result;
    const struct gguf_kv *kv = get(gguf, key, required, "true or false", &result, err);
    if (kv == NULL)
        return result;
    if (kv->type != GGUF_BOOL)
        return mismatch(gguf, key, "true or false", kv, err);
    if (*kv->data > 1)
        return error_set(err, LLAMA3_EINPUT, "%s: %s: 0 or 1 expected, %d found", gguf->path, key,
                         *kv->data);
    *out = *kv->data == 1;
    return 0;
}

int gguf_get_string(const struct gguf *gguf, const char *key, bool required, const char **out,
                    size_t *length, struct llama3_error *err)
{
    int result;
    const struct gguf_kv *kv = get(gguf, key, required, "a string", &result, err);
    if (kv == NULL)
        return result;
    if (kv->type != GGUF_STRING)
        return mismatch(gguf, key, "a string", kv, err);
    *out = (const char *)kv->data;
    *length = kv->n;
    return 0;
}

const struct gguf_kv *gguf_get_array(const struct gguf *gguf, const char *key, enum gguf_type item,
                                     struct llama3_error *err)
{
    int result;
    const char *expected = item == GGUF_STRING ? "an array of strings" : "an array of numbers";
    const struct gguf_kv *kv = get(gguf, key, true, expected, &result, err);
    if (kv == NULL)
        return NULL;
    if (kv->type != GGUF_ARRAY || kv->item != item) {
        mismatch(gguf, key, expected, kv, err);
        return NULL;
    }
    return kv;
}

const char *gguf_next_string(const uint8_t **at, size_t *length)
{
    const char *text = (const char *)*at + 8;
    *length = (size_t)load(*at, 8);
    *at += 8 + *length;
    return text;
}

int32_t gguf_int32(const uint8_t *data, size_t index)
{
    int32_t value;
    memcpy(&value, data + 4 * index, sizeof value);
    return value;
}
