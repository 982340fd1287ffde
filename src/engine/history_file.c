/* SPDX-License-Identifier: MIT */
/* history_file.c: a history in a file, as programs keep conversations (base/conversation.h). */
#include "base/conversation.h"
#include "base/path.h"
#include "llama3.h"

static int add_all(struct llama3_history *history, const json_t *root, struct llama3_error *err)
{
    const char *system = json_string_value(json_object_get(root, "system"));
    size_t i;
    json_t *message;
    if (system != NULL && system[0] != '\0' &&
        llama3_history_add(history, "system", system, err) < 0)
        return -1;
    json_array_foreach(json_object_get(root, "messages"), i, message)
    {
        const char *role = json_string_value(json_object_get(message, "role"));
        if (llama3_history_add(history, role,
                               json_string_value(json_object_get(message, "content")), err) < 0)
            return -1;
    }
    return 0;
}

struct llama3_history *llama3_history_load(const char *path, struct llama3_error *err)
{
    if (path_check(path, "history", err) < 0)
        return NULL;
    json_t *root = conversation_read(path, NULL, err);
    if (root == NULL)
        return NULL;
    struct llama3_history *history = llama3_history_new();
    int status =
        history != NULL ? add_all(history, root, err) : error_memory(err, path, sizeof *root);
    json_decref(root);
    if (status == 0)
        return history;
    llama3_history_free(history);
    return NULL;
}

int llama3_history_save(const struct llama3_history *history, const char *path,
                        struct llama3_error *err)
{
    bool missing;
    if (path_check(path, "history", err) < 0)
        return -1;
    json_t *rest = conversation_read(path, &missing, err);
    if (rest == NULL && !missing)
        return -1;
    int status = conversation_write(path, rest, llama3_history_message(history, 0),
                                    llama3_history_length(history), err);
    json_decref(rest);
    return status;
}
