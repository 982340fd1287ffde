/* SPDX-License-Identifier: MIT */
#include "base/conversation.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/new_file.h"

enum { MAX_BYTES = 16 << 20, VERSION = 1, FLOAT_DIGITS = 9 };
static const char format[] = "llama3-session";

static const char *role_of(size_t i)
{
    return i % 2 == 0 ? "user" : "assistant";
}

/* ---- reading --------------------------------------------------------------------------------- */

/* Refuses keys that are not in `known`, which is NULL-terminated. */
static int check_keys(const json_t *object, const char *const *known, const char *where,
                      struct llama3_error *err)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        size_t i = 0;
        while (known[i] != NULL && strcmp(known[i], key) != 0)
            i++;
        if (known[i] == NULL)
            return error_input(err, "%s: \"%s\" is not known", where, key);
    }
    return 0;
}

static int check_message(const json_t *message, size_t i, const char *path,
                         struct llama3_error *err)
{
    static const char *const keys[] = {"role", "content", NULL};
    const char *role, *content;
    char where[512];
    snprintf(where, sizeof where, "%s: message %zu", path, i + 1);
    if (!json_is_object(message))
        return error_input(err, "%s: expected an object, found %s", where, json_kind(message));
    if (check_keys(message, keys, where, err) != 0 ||
        json_get_string(message, "role", true, &role, where, err) != 0 ||
        json_get_string(message, "content", true, &content, where, err) != 0)
        return -1;
    if (strcmp(role, role_of(i)) != 0)
        return error_input(err, "%s: \"role\": expected \"%s\", found \"%s\"", where, role_of(i),
                           role);
    return 0;
}

static int check(const json_t *root, const char *path, struct llama3_error *err)
{
    static const char *const keys[] = {"format", "version",  "title",    "model",
                                       "system", "sampling", "messages", NULL};
    const char *found, *text;
    const json_t *sampling = json_object_get(root, "sampling");
    double version;
    size_t i;
    json_t *message, *messages = json_object_get(root, "messages");
    if (json_get_string(root, "format", true, &found, path, err) != 0)
        return -1;
    if (strcmp(found, format) != 0)
        return error_input(err, "%s: \"format\": expected \"%s\", found \"%s\"", path, format,
                           found);
    if (json_get_number(root, "version", true, 0, HUGE_VAL, &version, path, err) != 0)
        return -1;
    if (version < VERSION || version > VERSION)
        return error_input(err, "%s: \"version\": expected %d, found %g", path, VERSION, version);
    if (check_keys(root, keys, path, err) != 0)
        return -1;
    for (i = 2; i < 5; i++)
        if (json_get_string(root, keys[i], false, &text, path, err) != 0)
            return -1;
    if (sampling != NULL && !json_is_object(sampling))
        return error_input(err, "%s: \"sampling\": expected an object, found %s", path,
                           json_kind(sampling));
    if (!json_is_array(messages))
        return error_input(err, "%s: \"messages\": expected an array, found %s", path,
                           json_kind(messages));
    json_array_foreach(messages, i, message)
    {
        if (check_message(message, i, path, err) != 0)
            return -1;
    }
    return 0;
}

json_t *conversation_read(const char *path, bool *missing, struct llama3_error *err)
{
    struct map kv = {0};
    size_t size;
    bool is_kv =
        map_open(&kv, path, NULL) == 0 && kv.size > 10 && memcmp(kv.data, "llama3-kv ", 10) == 0;
    map_close(&kv);
    if (missing != NULL)
        *missing = false;
    if (is_kv) { /* which may be larger than what is read here */
        error_input(err, "%s: expected a conversation, found a llama3_session_save() file", path);
        return NULL;
    }
    char *text = file_read(path, MAX_BYTES, &size, missing, err);
    json_t *root = text != NULL ? json_parse(text, size, path, err) : NULL;
    free(text);
    if (root != NULL && check(root, path, err) == 0)
        return root;
    json_decref(root);
    return NULL;
}

/* ---- writing --------------------------------------------------------------------------------- */

/* Adds a value, whose reference it takes; NULL adds nothing. */
static bool put(json_t *object, const char *key, json_t *value)
{
    return value == NULL || json_object_set_new(object, key, value) == 0;
}

/* A new reference to what `rest` has by that name. */
static json_t *kept(const json_t *rest, const char *key)
{
    return json_incref(json_object_get(rest, key));
}

static void print(const json_t *rest, const struct llama3_message *messages, size_t n,
                  const char *system, struct buf *text)
{
    json_t *root = json_object(), *array = json_array();
    bool ok = root != NULL && array != NULL;
    for (size_t i = 0; ok && i < n; i++)
        ok = json_array_append_new(array, json_pack("{s:s, s:s}", "role", messages[i].role,
                                                    "content", messages[i].content)) == 0;
    ok = ok && put(root, "format", json_string(format)) &&
         put(root, "version", json_integer(VERSION)) && put(root, "title", kept(rest, "title")) &&
         put(root, "model", kept(rest, "model")) &&
         put(root, "system", system != NULL ? json_string(system) : NULL) &&
         put(root, "sampling", kept(rest, "sampling")) && put(root, "messages", json_incref(array));
    json_print(ok ? root : NULL, JSON_INDENT(2) | JSON_REAL_PRECISION(FLOAT_DIGITS), text);
    buf_add_str(text, "\n");
    json_decref(array);
    json_decref(root);
}

static int replace(const char *path, const struct buf *text, struct llama3_error *err)
{
    struct new_file made;
    if (new_file_open(&made, path, NEW_FILE_PRIVATE, err) != 0)
        return -1;
    if (new_file_write(&made, text->data, text->size, err) == 0)
        return new_file_commit(&made, err);
    new_file_abandon(&made);
    return -1;
}

int conversation_write(const char *path, const json_t *rest, const struct llama3_message *messages,
                       size_t n, struct llama3_error *err)
{
    struct buf text = {0};
    const char *system = NULL;
    if (n > 0 && strcmp(messages[0].role, "system") == 0) {
        system = messages[0].content;
        messages++;
        n--;
    }
    for (size_t i = 0; i < n; i++)
        if (strcmp(messages[i].role, role_of(i)) != 0)
            return error_input(err, "%s: message %zu: expected a role of \"%s\", found \"%.64s\"",
                               path, i + 1, role_of(i), messages[i].role);
    print(rest, messages, n, system, &text);
    int status = text.failed ? error_memory(err, path, MAX_BYTES) : replace(path, &text, err);
    buf_free(&text);
    return status;
}
