/* SPDX-License-Identifier: MIT */
#include "tool/chat.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "tool/commands.h"
#include "tool/interrupt.h"
#include "tool/say.h"

/* Drops white space around a message. */
static char *trim(struct buf *text)
{
    char *begin = text->data;
    while (text->size > 0 && isspace((unsigned char)text->data[text->size - 1]))
        text->data[--text->size] = '\0';
    while (isspace((unsigned char)*begin))
        begin++;
    return begin;
}

/* Reads the next message, in text's memory. NULL where the chat ends; *status then says how. */
static char *read_message(struct line *line, struct buf *text, int *status)
{
    for (;;) {
        enum line_end end = line_read(line, "User: ", text);
        *status = end == LINE_FAILED ? STATUS_FAILED : STATUS_OK;
        if (end == LINE_CLEARED || (end == LINE_READ && text->size == 0))
            continue;
        if (end != LINE_READ)
            return NULL;
        char *message = trim(text);
        if (strcasecmp(message, "exit") == 0 || strcasecmp(message, "quit") == 0)
            return NULL;
        if (message[0] != '\0')
            return message;
    }
}

/* Whether a text by itself has more tokens than the context. */
static bool is_too_long(const struct llama3_model *model, const char *text)
{
    int32_t *tokens;
    size_t n;
    if (llama3_tokenize(model, text, strlen(text), false, &tokens, &n, NULL) != 0)
        return false;
    llama3_free(tokens);
    return n >= llama3_model_info(model)->context;
}

/* Nothing is dropped from a conversation by itself: what makes room is the user's to choose. */
static void say_what_makes_room(const struct chat *chat, const char *question)
{
    const struct llama3_info *info = llama3_model_info(chat->conversation->model);
    bool larger = info->context < info->context_limit;
    const struct llama3_history *history = chat->conversation->history;
    size_t n = llama3_history_length(history);
    bool said =
        n > 1 || (n == 1 && strcmp(llama3_history_message(history, 0)->role, "system") != 0);
    if (said && !is_too_long(chat->conversation->model, question))
        say_error("the conversation no longer fits: /undo or /clear makes room, and /retry then "
                  "asks the question again%s",
                  larger ? "; a larger context is --ctx" : "");
    else
        say_error("the question alone does not fit%s", larger ? ": a larger context is --ctx" : "");
}

enum turn chat_asked(struct chat *chat, const char *question, enum turn turn)
{
    if (turn == TURN_NO_ROOM) {
        buf_clear(&chat->refused);
        buf_add_str(&chat->refused, question);
        say_what_makes_room(chat, question);
    } else {
        buf_free(&chat->refused);
    }
    return turn;
}

enum turn chat_ask(struct chat *chat, const char *question)
{
    return chat_asked(chat, question, conversation_turn(chat->conversation, question));
}

/* Texts of /read come first, then an empty line, then the message. */
static enum turn ask_message(struct chat *chat, const char *message)
{
    buf_add_str(&chat->before, message);
    if (chat->before.failed) {
        say_error("not enough memory for the question");
        return TURN_FAILED;
    }
    struct buf question = chat->before;
    chat->before = (struct buf){0};
    enum turn turn = chat_ask(chat, question.data);
    buf_free(&question);
    return turn;
}

static void say_hello(void)
{
    if (!say_quiet)
        say_error("\"exit\" or ^D leaves, ^C ends an answer, /help lists commands");
}

static enum turn converse(struct chat *chat, struct line *line, int *status)
{
    struct buf text = {0};
    char *message;
    enum turn turn = TURN_ANSWERED;
    if (conversation_asks(chat->conversation)) {
        say_error("%s ends with a question; its answer:", chat->args->session);
        turn = conversation_turn(chat->conversation, NULL);
    }
    while (turn != TURN_FAILED && !chat->leaves &&
           (message = read_message(line, &text, status)) != NULL) {
        bool is_command = message[0] == '/' && message[1] != '/';
        turn = is_command ? commands_run(chat, message)
                          : ask_message(chat, message + (message[0] == '/'));
        if (turn == TURN_UNSAVED)
            say_error("the chat goes on; /save FILE keeps it elsewhere");
    }
    buf_free(&text);
    return turn;
}

int chat_run(struct conversation *conversation, struct args *args)
{
    struct chat chat = {.conversation = conversation, .args = args};
    struct line_options options = {
        .keeps_history = !args->no_history, .complete = commands_complete, .arg = &chat};
    struct line *line = line_open(&options);
    int status = STATUS_OK;
    if (line == NULL)
        return STATUS_FAILED;
    interrupt_only_answers();
    say_hello();
    conversation->last = &chat.last;
    enum turn turn = converse(&chat, line, &status);
    conversation->last = NULL;
    line_close(line);
    buf_free(&chat.before);
    buf_free(&chat.refused);
    commands_free(&chat);
    return turn == TURN_FAILED || turn == TURN_UNSAVED ? STATUS_FAILED : status;
}
