/* SPDX-License-Identifier: MIT */
#include "tool/revise.h"

#include <stdlib.h>
#include <string.h>

#include "tool/say.h"

static bool is_role(const struct llama3_message *message, const char *role)
{
    return message != NULL && strcmp(message->role, role) == 0;
}

/* The index of the last message of a role, or the length. */
static size_t find_last(const struct conversation *c, const char *role)
{
    size_t n = llama3_history_length(c->history);
    for (size_t i = n; i-- > 0;)
        if (is_role(llama3_history_message(c->history, i), role))
            return i;
    return n;
}

const char *revise_last(const struct conversation *c, const char *role)
{
    const struct llama3_message *message = llama3_history_message(c->history, find_last(c, role));
    return message != NULL ? message->content : NULL;
}

int revise_write(const struct conversation *c)
{
    struct llama3_error err = {.size = sizeof err};
    const char *model = llama3_model_info(c->model)->path;
    if (c->file == NULL || session_file_write(c->file, model, c->history, &err) == 0)
        return STATUS_OK;
    return say_failure(&err);
}

int revise_undo(struct conversation *c)
{
    llama3_history_truncate(c->history, find_last(c, "user"));
    return revise_write(c);
}

int revise_clear(struct conversation *c)
{
    llama3_history_truncate(c->history, is_role(llama3_history_message(c->history, 0), "system"));
    return revise_write(c);
}

int revise_replace(struct conversation *c, struct llama3_history *history)
{
    llama3_history_free(c->history);
    c->history = history;
    return revise_write(c);
}

int revise_system(struct conversation *c, const char *text)
{
    struct llama3_error err = {.size = sizeof err};
    struct llama3_history *made = llama3_history_new();
    size_t n = llama3_history_length(c->history);
    int rc = 0;
    if (made == NULL)
        return say_error("not enough memory");
    if (text[0] != '\0')
        rc = llama3_history_add(made, "system", text, &err);
    for (size_t i = 0; i < n && rc == 0; i++) {
        const struct llama3_message *message = llama3_history_message(c->history, i);
        if (!is_role(message, "system"))
            rc = llama3_history_add(made, message->role, message->content, &err);
    }
    if (rc == 0)
        return revise_replace(c, made);
    llama3_history_free(made);
    return say_failure(&err);
}

enum turn revise_ask(struct conversation *c, const char *question)
{
    struct llama3_error err = {.size = sizeof err};
    size_t at = find_last(c, "user");
    const struct llama3_message *reply = llama3_history_message(c->history, at + 1);
    char *asked = strdup(llama3_history_message(c->history, at)->content);
    char *answered = reply != NULL ? strdup(reply->content) : NULL;
    enum turn turn = TURN_FAILED;
    if (asked == NULL || (reply != NULL && answered == NULL)) {
        say_error("not enough memory");
    } else {
        llama3_history_truncate(c->history, at);
        turn = conversation_turn(c, question != NULL ? question : asked);
        bool restores = llama3_history_length(c->history) == at;
        if (restores && (llama3_history_add(c->history, "user", asked, &err) != 0 ||
                         (answered != NULL &&
                          llama3_history_add(c->history, "assistant", answered, &err) != 0))) {
            say_failure(&err);
            turn = TURN_FAILED;
        }
    }
    free(asked);
    free(answered);
    return turn;
}
