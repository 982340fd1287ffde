/* SPDX-License-Identifier: MIT */
/* llama3: answers a prompt, or chats in the terminal. This file has the order of things. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/path.h"
#include "tool/args.h"
#include "tool/chat.h"
#include "tool/info.h"
#include "tool/interrupt.h"
#include "tool/opening.h"
#include "tool/prompt.h"
#include "tool/say.h"
#include "tool/sessions.h"

const char say_program[] = "llama3";

/* Reports what is wrong with the template or its options now, not after the first question. */
static int chat(struct conversation *c, struct args *args)
{
    const struct llama3_message hello = {.size = sizeof hello, .role = "user", .content = "Hello"};
    const struct llama3_template_options options = template_options(&c->args->template);
    struct llama3_error err = {.size = sizeof err};
    int32_t *tokens;
    size_t n;
    if (llama3_apply_template(c->model, &hello, 1, &options, &tokens, &n, &err) != 0)
        return say_failure(&err);
    llama3_free(tokens);
    template_note(&c->args->template, c->model, c->args->system != NULL);
    c->label = "Assistant: ";
    if (conversation_begin(c) != STATUS_OK)
        return STATUS_FAILED;
    if (c->file != NULL)
        sessions_say(c->args->session, c->file);
    if (!say_quiet)
        sessions_show(c->history, c->label, !c->args->plain);
    return chat_run(c, args);
}

static int answer(struct conversation *c, const char *text)
{
    const struct args *args = c->args;
    const struct llama3_info *info = llama3_model_info(c->model);
    c->label = "";
    c->raw = args->raw || info->template_name == NULL;
    if (c->raw && args_chat_option(args) != NULL)
        return say_error("%s has no chat template, so %s has no meaning; --template names one",
                         info->path, args_chat_option(args));
    if (!c->raw)
        template_note(&args->template, c->model, args->system != NULL);
    if (conversation_begin(c) != STATUS_OK)
        return STATUS_FAILED;
    if (conversation_asks(c))
        return say_error(
            "%s ends with a question: expected an answer to go on from; a chat (without "
            "--prompt and --file) gives one",
            args->session);
    if (c->file != NULL && session_file_is_new(c->file))
        sessions_say(args->session, c->file);
    if (c->raw && !args->raw)
        say_note("the model has no %schat template; it continues the text (--raw)%s",
                 info->n_template_names > 0 ? "default " : "",
                 info->n_template_names > 0 ? "; --info lists those that --template chooses" : "");
    enum turn turn = conversation_turn(c, text);
    return turn == TURN_ANSWERED      ? STATUS_OK
           : turn == TURN_INTERRUPTED ? STATUS_INTERRUPTED
                                      : STATUS_FAILED;
}

/* text: NULL for a chat. */
static int run_with(struct args *args, struct session_file *file, const struct buf *text)
{
    struct conversation c = {.args = args, .file = file, .open_seconds = clock_seconds()};
    struct llama3_error err = {.size = sizeof err};
    int status;
    struct llama3_model *model = opening_model(args, &status);
    if (model == NULL)
        return status;
    c.model = model;
    c.open_seconds = clock_seconds() - c.open_seconds;
    if (args->verbose)
        info_print_line(model, c.open_seconds);
    if (args->info) {
        info_print(model, stdout);
        status = finish_stdout();
    } else if ((c.session = llama3_session_open(model, &err)) == NULL) {
        status = say_failure(&err);
    } else {
        status = constraint_make(&args->constraint, model, &c.constraint);
        if (status == STATUS_OK)
            status = text != NULL ? answer(&c, text->data) : chat(&c, args);
        llama3_history_free(c.history);
        llama3_session_close(c.session);
        llama3_constraint_close(c.constraint);
    }
    llama3_model_close(c.model); /* a chat may have opened another one */
    return status;
}

/* Reads the session before a model is opened, so that what is wrong with it is reported at once. */
static int run(struct args *args, const struct buf *text)
{
    struct session_file *file = NULL;
    struct llama3_error err = {.size = sizeof err};
    int status;
    char *path = args->session != NULL ? sessions_path(args->session, &err) : NULL;
    if (args->session != NULL && (path == NULL || (file = session_file_open(path, &err)) == NULL ||
                                  session_file_settle(file, args, &err) != 0)) {
        status = say_failure(&err);
    } else {
        status = run_with(args, file, text);
    }
    session_file_close(file);
    free(path);
    return status;
}

static int start(struct args *args)
{
    struct buf text = {0};
    bool chatting = args->prompt == NULL && args->files.n == 0 && isatty(STDIN_FILENO);
    if (args->sessions)
        return sessions_list();
    if (args->info || (chatting && !args->raw))
        return run(args, NULL);
    if (chatting)
        return say_usage("--raw continues a text, which --prompt or --file gives");
    int status = prompt_read(args, &text);
    if (status == STATUS_OK)
        status = run(args, &text);
    buf_free(&text);
    return status;
}

int main(int argc, char **argv)
{
    struct args args;
    int status;
    interrupt_install();
    if (args_begin(&args, argc, argv, &status))
        status = start(&args);
    args_free(&args);
    return status;
}
