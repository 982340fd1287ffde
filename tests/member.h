/* SPDX-License-Identifier: MIT */
/*
 * member.h: whether a JSON value belongs to an expr of a schema, by what schema_value() says alone:
 * the reference for whoever follows the shapes.
 */
#ifndef TESTS_MEMBER_H
#define TESTS_MEMBER_H

#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "grammar/schema.h"

struct membership {
    struct regexes *regexes;
    struct schemas *schemas;
    struct llama3_error *err; /* of the first failure, in which case nothing is a member */
    bool failed;
    bool by_value; /* 7.0 is what 7 is, though only one of them is said */
};

static bool is_member(struct membership *m, expr e, const json_t *json);

static inline bool text_matches(struct membership *m, regex r, const char *text, size_t n)
{
    for (size_t i = 0; i < n && r != REGEX_NONE; i++)
        r = regex_step(m->regexes, r, (uint8_t)text[i]);
    return regex_nullable(m->regexes, r);
}

/* A number's decimals, without an exponent. */
static inline void decimal_text(const json_t *json, char out[512])
{
    char text[32], digits[32];
    int n = 0, point = 0, exponent = 0;
    bool fraction = false;
    json_number_text(json, text);
    const char *at = text + (text[0] == '-');
    for (; *at != '\0' && *at != 'e'; at++) {
        if (*at == '.') {
            fraction = true;
            continue;
        }
        digits[n++] = *at;
        point += !fraction;
    }
    if (*at == 'e')
        exponent = atoi(at + 1);
    if (exponent == 0) {
        strcpy(out, text);
        if (json_is_real(json) && !fraction) /* it was written as 7.0 */
            strcat(out, ".0");
        return;
    }
    point += exponent;
    char *to = out;
    if (text[0] == '-')
        *to++ = '-';
    if (point <= 0)
        *to++ = '0';
    for (int i = 0; i < point; i++)
        *to++ = i < n ? digits[i] : '0';
    if (point < n) {
        *to++ = '.';
        for (int i = point; i < 0; i++)
            *to++ = '0';
        for (int i = point > 0 ? point : 0; i < n; i++)
            *to++ = digits[i];
    }
    *to = '\0';
}

static inline bool same_value(const json_t *a, const json_t *b)
{
    if (json_is_number(a) && json_is_number(b))
        return json_number_value(a) == json_number_value(b);
    return json_equal(a, b) != 0;
}

static inline bool fits_array(struct membership *m, const struct array_shape *shape,
                              const json_t *json)
{
    size_t n = json_array_size(json);
    if (n < shape->min || (n > shape->max && shape->max != SCHEMA_NO_MAX))
        return false;
    for (size_t i = 0; i < n; i++) {
        expr e = i < shape->n_prefix ? shape->prefix[i] : shape->rest;
        if (!is_member(m, e, json_array_get(json, i)))
            return false;
        for (size_t k = 0; shape->unique && k < i; k++)
            if (same_value(json_array_get(json, i), json_array_get(json, k)))
                return false;
    }
    for (uint32_t c = 0; c < shape->n_contains; c++) {
        const struct contained *at = &shape->contains[c];
        size_t found = 0;
        for (size_t i = at->from; i < n; i++) {
            bool yes = is_member(m, at->yes, json_array_get(json, i));
            m->failed |= yes == is_member(m, at->no, json_array_get(json, i));
            found += yes;
        }
        if (found < at->min || (found > at->max && at->max != SCHEMA_NO_MAX))
            return false;
    }
    return true;
}

static inline uint32_t find_property(const struct object_shape *shape, const char *key)
{
    size_t n = strlen(key);
    for (uint32_t i = 0; i < shape->n_properties; i++)
        if (shape->properties[i].n == n && memcmp(shape->properties[i].key, key, n) == 0)
            return i;
    return UINT32_MAX;
}

static inline bool fits_object(struct membership *m, const struct object_shape *shape, json_t *json)
{
    size_t n = json_object_size(json);
    uint32_t witnessed = 0;
    const char *key;
    json_t *value;
    if (n < shape->min || (n > shape->max && shape->max != SCHEMA_NO_MAX))
        return false;
    for (uint32_t i = 0; i < shape->n_properties; i++)
        if (shape->properties[i].required &&
            json_object_getn(json, shape->properties[i].key, shape->properties[i].n) == NULL)
            return false;
    for (uint32_t i = 0; i < shape->n_dependencies; i++) {
        const struct property *a = &shape->properties[shape->dependencies[i].if_has];
        const struct property *b = &shape->properties[shape->dependencies[i].needs];
        if (json_object_getn(json, a->key, a->n) != NULL &&
            json_object_getn(json, b->key, b->n) == NULL)
            return false;
    }
    json_object_foreach(json, key, value)
    {
        uint32_t at = find_property(shape, key), class = 0;
        if (at != UINT32_MAX) {
            if (!is_member(m, shape->properties[at].value, value))
                return false;
            continue;
        }
        while (class < shape->n_classes &&
               !text_matches(m, shape->classes[class].keys, key, strlen(key)))
            class ++;
        if (class == shape->n_classes || !is_member(m, shape->classes[class].value, value))
            return false;
        for (uint32_t i = 0; i < shape->n_witnesses; i++)
            if (text_matches(m, shape->witnesses[i].keys, key, strlen(key)) &&
                is_member(m, shape->witnesses[i].value, value))
                witnessed |= 1u << i;
    }
    return witnessed == (1u << shape->n_witnesses) - 1;
}

static bool is_member(struct membership *m, expr e, const json_t *json)
{
    char number[512];
    const struct value *value = m->failed ? NULL : schema_value(m->schemas, e, m->err);
    if (value == NULL) {
        m->failed = true;
        return false;
    }
    switch (json_typeof(json)) {
    case JSON_NULL:
        return value->null;
    case JSON_FALSE:
        return value->no;
    case JSON_TRUE:
        return value->yes;
    case JSON_INTEGER:
    case JSON_REAL:
        decimal_text(json, number);
        if (text_matches(m, value->number, number, strlen(number)))
            return true;
        if (m->by_value && strlen(number) > 2 && strcmp(number + strlen(number) - 2, ".0") == 0)
            return text_matches(m, value->number, number, strlen(number) - 2);
        return false;
    case JSON_STRING:
        return text_matches(m, value->string, json_string_value(json), json_string_length(json));
    case JSON_ARRAY:
        for (uint32_t i = 0; i < value->n_arrays; i++)
            if (fits_array(m, value->arrays[i], json))
                return true;
        return false;
    case JSON_OBJECT:
        for (uint32_t i = 0; i < value->n_objects; i++)
            if (fits_object(m, value->objects[i], (json_t *)json))
                return true;
        return false;
    }
    return false;
}

#endif
