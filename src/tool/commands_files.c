/* SPDX-License-Identifier: MIT */
/* commands_files.c: commands that read and write files, and open models. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/path.h"
#include "tool/commands_parts.h"
#include "tool/interrupt.h"
#include "tool/opening.h"
#include "tool/revise.h"
#include "tool/say.h"
#include "tool/text.h"

enum turn command_read(struct chat *chat, char *argument)
{
    struct buf text = {0};
    char size[UNIT_SIZE], *path = command_path(argument);
    if (path == NULL || strcmp(path, "-") == 0) {
        if (path != NULL)
            say_error("/read: expected a file, found \"-\"");
    } else if (text_read(path, &text) == STATUS_OK) {
        say_error("%s: %s go before the next question", path, unit_bytes(size, text.size));
        text_drop_newline(&text); /* as --file does, so that both have the same tokens */
        buf_add(&chat->before, text.size > 0 ? text.data : "", text.size);
        buf_add_str(&chat->before, "\n\n");
    }
    buf_free(&text);
    free(path);
    return TURN_ANSWERED;
}

/* ---- conversations -------------------------------------------------------------------------- */

/* Writes the conversation and its settings. */
static int write_copy(const struct chat *chat, const char *path, struct llama3_error *err)
{
    const struct conversation *c = chat->conversation;
    struct session_file *file = session_file_open(path, err);
    int rc = file != NULL ? 0 : -1;
    for (size_t i = 0; rc == 0 && i < N_ANSWER_OPTIONS; i++)
        rc = session_file_keep(file, &answer_option_specs[i], chat->args, err);
    if (rc == 0)
        rc = session_file_write(file, llama3_model_info(c->model)->path, c->history, err);
    session_file_close(file);
    return rc;
}

/* What is there is left alone, unless this chat has written it. */
enum turn command_save(struct chat *chat, char *argument)
{
    struct llama3_error err = {.size = sizeof err};
    char *path = command_path(argument);
    if (path == NULL)
        return TURN_ANSWERED;
    bool ours = chat->saved != NULL && strcmp(chat->saved, path) == 0;
    if (!ours && path_exists(path)) {
        say_error("/save: expected the name of a new file, found that %s exists", path);
    } else if (write_copy(chat, path, &err) != 0) {
        say_failure(&err);
    } else {
        say_error("saved as %s", path);
        free(chat->saved);
        chat->saved = path;
        path = NULL;
    }
    free(path);
    return TURN_ANSWERED;
}

static struct llama3_history *read_history(const char *path, struct llama3_error *err)
{
    struct session_file *file = session_file_peek(path, err);
    struct llama3_history *history = file != NULL ? llama3_history_new() : NULL;
    const char *system = file != NULL ? session_file_system(file) : NULL;
    if (file != NULL && history == NULL)
        say_error("not enough memory");
    if (history != NULL &&
        ((system != NULL && llama3_history_add(history, "system", system, err) != 0) ||
         session_file_load(file, history, err) != 0)) {
        llama3_history_free(history);
        history = NULL;
    }
    session_file_close(file);
    return history;
}

enum turn command_load(struct chat *chat, char *argument)
{
    struct llama3_error err = {.size = sizeof err};
    char *path = command_path(argument);
    struct llama3_history *history = path != NULL ? read_history(path, &err) : NULL;
    int status = STATUS_OK;
    if (history != NULL) {
        status = revise_replace(chat->conversation, history);
        bool asks = conversation_asks(chat->conversation);
        say_error("%s: %zu messages%s", path, llama3_history_length(history),
                  asks ? "; /retry answers the last one" : "");
    } else if (err.code != LLAMA3_OK) {
        say_failure(&err);
    }
    free(path);
    return command_done(status);
}

/* ---- models --------------------------------------------------------------------------------- */

/* Whether the model can chat; what is wrong is said. */
static bool can_chat(const struct chat *chat, const struct llama3_model *model)
{
    const struct llama3_message hello = {.size = sizeof hello, .role = "user", .content = "Hello"};
    const struct llama3_template_options options = template_options(&chat->args->template);
    struct llama3_error err = {.size = sizeof err};
    int32_t *tokens;
    size_t n;
    if (llama3_apply_template(model, &hello, 1, &options, &tokens, &n, &err) != 0) {
        say_failure(&err);
        return false;
    }
    llama3_free(tokens);
    return true;
}

/* The old model stays until the new one can take its place. */
enum turn command_model(struct chat *chat, char *argument)
{
    struct conversation *c = chat->conversation;
    struct llama3_error err = {.size = sizeof err};
    const char *before = chat->args->model.path;
    char *path = command_path(argument);
    int status;
    if (path == NULL)
        return TURN_ANSWERED;
    chat->args->model.path = path;
    interrupt_defer(); /* forgets an earlier ^C; one from here on gives up */
    struct llama3_model *model = opening_model(chat->args, &status);
    interrupt_end();
    struct llama3_session *session = NULL;
    struct llama3_constraint *constraint = NULL;
    chat->args->model.path = before;
    free(path);
    if (model != NULL && can_chat(chat, model) &&
        constraint_make(&chat->args->constraint, model, &constraint) == STATUS_OK &&
        (session = llama3_session_open(model, &err)) == NULL)
        say_failure(&err);
    if (session == NULL) {
        llama3_constraint_close(constraint);
        llama3_model_close(model);
        say_error("the model is as it was: %s", llama3_model_info(c->model)->path);
        return TURN_ANSWERED;
    }
    const struct llama3_info *info = llama3_model_info(model);
    llama3_session_close(c->session);
    llama3_constraint_close(c->constraint);
    llama3_model_close(c->model);
    c->session = session;
    c->constraint = constraint;
    c->model = model;
    chat->last = (struct llama3_result){.size = sizeof chat->last};
    say_error("%s answers from here on, with a context of %zu tokens", info->path, info->context);
    return TURN_ANSWERED;
}
