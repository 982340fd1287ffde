/* SPDX-License-Identifier: MIT */
/* gguf_values.c: values of keys; gguf_parse() has checked that they lie in the header. */
#include <inttypes.h>
#include <string.h>

#include "checkpoint/gguf.h"

static const struct gguf_kv *get(const struct gguf *gguf, const char *key, bool required,
                                 const char *expected, int *result, struct llama3_error *err)
{
    const struct gguf_kv *kv = gguf_find(gguf, key);
    *result = kv != NULL || !required ? 0
                                      : error_input(err, "%s: %s: expected %s, found nothing",
                                                    gguf->path, key, expected);
    return kv;
}

static int mismatch(const struct gguf *gguf, const char *key, const char *expected,
                    const struct gguf_kv *kv, struct llama3_error *err)
{
    bool array = kv->type == GGUF_ARRAY;
    const char *item = kv->item == GGUF_STRING ? "strings" : gguf_types[kv->item].name;
    return error_input(err, "%s: %s: expected %s, found %s%s", gguf->path, key, expected,
                       array ? "an array of " : gguf_types[kv->type].name, array ? item : "");
}

/* False if the value is no integer. Above INT64_MAX it becomes INT64_MAX, which no range has. */
static bool integer(const struct gguf_kv *kv, int64_t *out)
{
    uint64_t bits = 0;
    if (kv->type == GGUF_STRING || kv->type == GGUF_ARRAY)
        return false;
    memcpy(&bits, kv->data, gguf_types[kv->type].size);
    switch (kv->type) {
    case GGUF_U8:
    case GGUF_U16:
    case GGUF_U32:
    case GGUF_I64:
        *out = (int64_t)bits;
        return true;
    case GGUF_U64:
        *out = bits > INT64_MAX ? INT64_MAX : (int64_t)bits;
        return true;
    case GGUF_I8:
        *out = (int8_t)bits;
        return true;
    case GGUF_I16:
        *out = (int16_t)bits;
        return true;
    case GGUF_I32:
        *out = (int32_t)bits;
        return true;
    default:
        return false;
    }
}

int gguf_get_int(const struct gguf *gguf, const char *key, bool required, int64_t min, int64_t max,
                 int64_t *out, struct llama3_error *err)
{
    int result;
    int64_t value;
    const struct gguf_kv *kv = get(gguf, key, required, "an integer", &result, err);
    if (kv == NULL)
        return result;
    if (!integer(kv, &value))
        return mismatch(gguf, key, "an integer", kv, err);
    if (value < min || value > max)
        return error_input(err, "%s: %s: expected %" PRId64 "..%" PRId64 ", found %" PRId64,
                           gguf->path, key, min, max, value);
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
    int64_t whole;
    float single;
    double value;
    if (kv->type == GGUF_F32) {
        memcpy(&single, kv->data, sizeof single);
        value = (double)single;
    } else if (kv->type == GGUF_F64) {
        memcpy(&value, kv->data, sizeof value);
    } else if (integer(kv, &whole)) {
        value = (double)whole;
    } else {
        return mismatch(gguf, key, "a number", kv, err);
    }
    if (!(value >= min && value <= max))
        return error_input(err, "%s: %s: expected %g..%g, found %g", gguf->path, key, min, max,
                           value);
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
        return error_input(err, "%s: %s: expected 0 or 1, found %d", gguf->path, key, *kv->data);
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

int gguf_expect_string(const struct gguf *gguf, const char *key, bool required,
                       const char *expected, struct llama3_error *err)
{
    const char *text = expected;
    size_t length = strlen(expected);
    if (gguf_get_string(gguf, key, required, &text, &length, err) != 0)
        return -1;
    if (length == strlen(expected) && memcmp(text, expected, length) == 0)
        return 0;
    return error_input(err, "%s: %s: expected \"%s\", found \"%.*s\"", gguf->path, key, expected,
                       length < 80 ? (int)length : 80, text);
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
    uint64_t n;
    memcpy(&n, *at, sizeof n);
    *length = (size_t)n;
    *at += 8 + *length;
    return text;
}

int32_t gguf_int32(const uint8_t *data, size_t index)
{
    int32_t value;
    memcpy(&value, data + 4 * index, sizeof value);
    return value;
}
