/* SPDX-License-Identifier: MIT */
#include "tool/session_file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/conversation.h"
#include "base/error.h"
#include "base/json.h"
#include "base/new_file.h"
#include "base/size.h"

struct session_file {
    const char *path;
    struct stat found;              /* when it was read or written last; st_ino 0: there was none */
    json_t *title, *model, *system; /* strings; NULL: none */
    json_t *sampling;               /* an object, by the names of options with '_' for '-' */
    json_t *messages;               /* user, assistant, user ... */
    char texts[N_ANSWER_OPTIONS][32]; /* of numbers, for struct args */
};

/* ---- sampling: the options of an answer ------------------------------------------------------ */

static const struct option_spec *spec_of(const char *key)
{
    char name[32];
    for (size_t i = 0; i < N_ANSWER_OPTIONS; i++) {
        args_key(&answer_option_specs[i], name);
        if (strcmp(name, key) == 0)
            return &answer_option_specs[i];
    }
    return NULL;
}

static int check_stop(const json_t *value, const char *where, struct llama3_error *err)
{
    size_t i;
    json_t *stop;
    if (!json_is_array(value))
        return error_input(err, "%s: \"stop\": expected an array, found %s", where,
                           json_kind(value));
    json_array_foreach((json_t *)(uintptr_t)value, i, stop)
    {
        if (!json_is_string(stop) || json_string_length(stop) == 0)
            return error_input(err, "%s: \"stop\": expected some text, found %s", where,
                               json_is_string(stop) ? "none" : json_kind(stop));
    }
    return 0;
}

static int check_setting(const char *key, const json_t *value, const char *where,
                         struct llama3_error *err)
{
    const struct option_spec *spec = spec_of(key);
    struct llama3_error why = {.size = sizeof why};
    char text[32];
    if (spec == NULL)
        return error_input(err, "%s: \"%s\" is not known", where, key);
    if (spec->type == OPTION_TEXTS)
        return check_stop(value, where, err);
    if (!json_is_number(value))
        return error_input(err, "%s: \"%s\": expected a number, found %s", where, key,
                           json_kind(value));
    double found = json_number_value(value);
    bool limited = spec->type == OPTION_SIZE; /* by its row; a sampling knows its own limits */
    double max = limited ? spec->max : (double)SESSION_MAX_SEED;
    json_number_text(value, text);
    if ((limited || strcmp(key, "seed") == 0) &&
        (!(found >= spec->min && found <= max) || floor(found) != found))
        return error_input(err, "%s: \"%s\": expected an integer in [%.16g, %.16g], found \"%s\"",
                           where, key, spec->min, max, text);
    if (limited || args_check_setting(key, text, &why) == 0)
        return 0;
    return why.code != LLAMA3_EINPUT
               ? error_copy(err, &why)
               : error_input(err, "%s: \"%s\"%s", where, key, why.message + strlen(key));
}

/* What args says about an option; NULL if nothing. */
static json_t *setting_of(const struct option_spec *spec, const struct args *args)
{
    const void *at = (const char *)args + spec->offset;
    const char *text;
    const struct option_texts *texts;
    json_t *array;
    switch (spec->type) {
    case OPTION_TEXT:
        text = *(const char *const *)at;
        if (text == NULL)
            return NULL;
        return text[strspn(text, "0123456789")] == '\0' ? json_integer(strtoll(text, NULL, 10))
                                                        : json_real(strtod(text, NULL));
    case OPTION_SIZE:
        return *(const size_t *)at == 0 ? NULL : json_integer((json_int_t) * (const size_t *)at);
    default: /* OPTION_TEXTS */
        texts = at;
        if (texts->n == 0 || (array = json_array()) == NULL)
            return NULL;
        for (size_t i = 0; i < texts->n; i++)
            json_array_append_new(array, json_string(texts->items[i]));
        return array;
    }
}

/* Sets in args what the file says; text: where that of a number may stand. */
static int take_setting(const struct option_spec *spec, const json_t *value, char text[32],
                        struct args *args, struct llama3_error *err)
{
    void *at = (char *)args + spec->offset;
    struct option_texts *texts = at;
    size_t n = json_array_size(value);
    switch (spec->type) {
    case OPTION_TEXT:
        json_number_text(value, text);
        *(const char **)at = text;
        return 0;
    case OPTION_SIZE:
        *(size_t *)at = (size_t)json_number_value(value);
        return 0;
    default: /* OPTION_TEXTS */
        texts->items = size_alloc_for(n, sizeof *texts->items, "stop texts", err);
        if (texts->items == NULL)
            return -1;
        for (texts->n = 0; texts->n < n; texts->n++)
            texts->items[texts->n] = json_string_value(json_array_get(value, texts->n));
        return 0;
    }
}

/* ---- reading --------------------------------------------------------------------------------- */

/* A new reference to a string of the file, or NULL if it has none. */
static json_t *string_of(const json_t *root, const char *key)
{
    json_t *value = json_object_get(root, key);
    return json_string_length(value) > 0 ? json_incref(value) : NULL;
}

static int take_root(struct session_file *file, const json_t *root, struct llama3_error *err)
{
    const char *key;
    json_t *sampling = json_object_get(root, "sampling"), *value;
    file->title = string_of(root, "title");
    file->model = string_of(root, "model");
    file->system = string_of(root, "system");
    json_object_foreach(sampling, key, value)
    {
        if (check_setting(key, value, file->path, err) != 0)
            return -1;
    }
    if (sampling != NULL)
        json_object_update(file->sampling, sampling);
    return json_array_extend(file->messages, json_object_get(root, "messages")) == 0
               ? 0
               : error_memory(err, file->path, json_array_size(file->messages));
}

static struct stat look_at(const char *path)
{
    struct stat now;
    return stat(path, &now) == 0 ? now : (struct stat){0};
}

/* Refuses to overwrite what another program has written since. */
static int check_unchanged(const struct session_file *file, struct llama3_error *err)
{
    struct stat now = look_at(file->path);
    const struct stat *then = &file->found;
    if (now.st_ino == 0 || (now.st_ino == then->st_ino && now.st_size == then->st_size &&
                            now.st_mtim.tv_sec == then->st_mtim.tv_sec &&
                            now.st_mtim.tv_nsec == then->st_mtim.tv_nsec))
        return 0;
    return error_input(err, "%s: another program has written it meanwhile; it is left as that did",
                       file->path);
}

static int read_session(struct session_file *file, bool writes, struct llama3_error *err)
{
    struct new_file made;
    bool missing = false;
    file->found = look_at(file->path);
    json_t *root = conversation_read(file->path, writes ? &missing : NULL, err);
    int status = root != NULL ? take_root(file, root, err) : missing ? 0 : -1;
    json_decref(root);
    /* Whether it can be written is better known before the first turn. */
    if (status != 0 || !writes)
        return status;
    if (!missing && access(file->path, W_OK) != 0)
        return error_system(err, file->path);
    if (new_file_open(&made, file->path, NEW_FILE_PRIVATE, err) != 0)
        return -1;
    new_file_abandon(&made);
    return 0;
}

static struct session_file *open_file(const char *path, bool writes, struct llama3_error *err)
{
    struct session_file *file = size_alloc_for(1, sizeof *file, path, err);
    if (file == NULL)
        return NULL;
    *file = (struct session_file){path, .sampling = json_object(), .messages = json_array()};
    int rc = file->sampling != NULL && file->messages != NULL ? read_session(file, writes, err)
                                                              : error_memory(err, path, 0);
    if (rc == 0)
        return file;
    session_file_close(file);
    return NULL;
}

struct session_file *session_file_open(const char *path, struct llama3_error *err)
{
    return open_file(path, true, err);
}

struct session_file *session_file_peek(const char *path, struct llama3_error *err)
{
    return open_file(path, false, err);
}

bool session_file_is_new(const struct session_file *file)
{
    return file->found.st_ino == 0;
}

size_t session_file_turns(const struct session_file *file)
{
    return (json_array_size(file->messages) + 1) / 2;
}

const char *session_file_model(const struct session_file *file)
{
    return json_string_value(file->model);
}

const char *session_file_title(const struct session_file *file)
{
    const json_t *first = json_array_get(file->messages, 0);
    return file->title != NULL ? json_string_value(file->title)
                               : json_string_value(json_object_get(first, "content"));
}

void session_file_close(struct session_file *file)
{
    if (file == NULL)
        return;
    json_decref(file->title);
    json_decref(file->model);
    json_decref(file->system);
    json_decref(file->sampling);
    json_decref(file->messages);
    free(file);
}

int session_file_settle(struct session_file *file, struct args *args, struct llama3_error *err)
{
    char key[32];
    for (size_t i = 0; i < N_ANSWER_OPTIONS; i++) {
        const struct option_spec *spec = &answer_option_specs[i];
        json_t *given = setting_of(spec, args);
        args_key(spec, key);
        const json_t *kept = json_object_get(file->sampling, key);
        if (given != NULL && json_object_set_new(file->sampling, key, given) != 0)
            return error_memory(err, file->path, strlen(key));
        if (given == NULL && kept != NULL &&
            take_setting(spec, kept, file->texts[i], args, err) != 0)
            return -1;
    }
    if (args->system == NULL)
        args->system = json_string_value(file->system);
    return 0;
}

int session_file_keep(struct session_file *file, const struct option_spec *spec,
                      const struct args *args, struct llama3_error *err)
{
    char key[32];
    json_t *given = setting_of(spec, args);
    args_key(spec, key);
    if (given == NULL)
        json_object_del(file->sampling, key);
    else if (json_object_set_new(file->sampling, key, given) != 0)
        return error_memory(err, file->path, strlen(key));
    return 0;
}

const char *session_file_system(const struct session_file *file)
{
    return json_string_value(file->system);
}

int session_file_load(const struct session_file *file, struct llama3_history *history,
                      struct llama3_error *err)
{
    size_t i;
    json_t *message;
    json_array_foreach(file->messages, i, message)
    {
        const char *content = json_string_value(json_object_get(message, "content"));
        if (llama3_history_add(history, i % 2 == 0 ? "user" : "assistant", content, err) != 0)
            return -1;
    }
    return 0;
}

/* ---- writing --------------------------------------------------------------------------------- */

/* The last component of a path, if it is text. */
static json_t *name_of(const char *path)
{
    size_t n = strlen(path);
    while (n > 0 && path[n - 1] == '/')
        n--;
    size_t begin = n;
    while (begin > 0 && path[begin - 1] != '/')
        begin--;
    return n > begin ? json_stringn(path + begin, n - begin) : NULL;
}

int session_file_write(struct session_file *file, const char *model,
                       const struct llama3_history *history, struct llama3_error *err)
{
    if (check_unchanged(file, err) != 0)
        return -1;
    json_t *name = model != NULL ? name_of(model) : NULL;
    bool sampled = json_object_size(file->sampling) > 0;
    json_t *rest =
        json_pack("{s:O*, s:O*, s:O*}", "title", file->title, "model",
                  name != NULL ? name : file->model, "sampling", sampled ? file->sampling : NULL);
    int status = rest != NULL
                     ? conversation_write(file->path, rest, llama3_history_message(history, 0),
                                          llama3_history_length(history), err)
                     : error_memory(err, file->path, sizeof *rest);
    if (status == 0)
        file->found = look_at(file->path);
    json_decref(rest);
    json_decref(name);
    return status;
}
