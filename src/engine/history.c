/* SPDX-License-Identifier: MIT */
/* history.c: the messages of a conversation, as llama3_get_response keeps them. */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/size.h"

struct llama3_history {
    struct llama3_message *messages; /* [n], each with its own copies */
    size_t n, capacity;
};

struct llama3_history *llama3_history_new(void)
{
    return size_alloc(1, sizeof(struct llama3_history));
}

void llama3_history_free(struct llama3_history *history)
{
    if (history == NULL)
        return;
    llama3_history_truncate(history, 0);
    free(history->messages);
    free(history);
}

int llama3_history_add(struct llama3_history *history, const char *role, const char *content,
                       struct llama3_error *err)
{
    if (history->n == history->capacity) {
        size_t capacity = history->capacity * 2 + 8, bytes;
        struct llama3_message *moved = NULL;
        if (size_mul(capacity, sizeof *moved, &bytes))
            moved = realloc(history->messages, bytes);
        if (moved == NULL)
            return error_memory(err, "a message", capacity * sizeof *moved);
        history->messages = moved;
        history->capacity = capacity;
    }
    struct llama3_message copy = {strdup(role), strdup(content)};
    if (copy.role == NULL || copy.content == NULL) {
        free((char *)copy.role);
        free((char *)copy.content);
        return error_memory(err, "a message", strlen(content));
    }
    history->messages[history->n++] = copy;
    return 0;
}

const struct llama3_message *llama3_history_messages(const struct llama3_history *history,
                                                     size_t *n)
{
    *n = history->n;
    return history->messages;
}

void llama3_history_truncate(struct llama3_history *history, size_t n)
{
    while (history->n > n) {
        struct llama3_message *last = &history->messages[--history->n];
        free((char *)last->role);
        free((char *)last->content);
    }
}
