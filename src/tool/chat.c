/* SPDX-License-Identifier: MIT */
#include "tool/chat.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "tool/interrupt.h"
#include "tool/line.h"
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
static char *ask(struct line *line, struct buf *text, int *status)
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

int chat_run(const struct conversation *c)
{
    struct line_options options = {.keeps_history = !c->args->no_history};
    struct line *line = line_open(&options);
    struct buf text = {0};
    char *message;
    int status = STATUS_OK;
    enum turn turn = TURN_ANSWERED;
    if (line == NULL)
        return STATUS_FAILED;
    interrupt_only_answers();
    if (!say_quiet)
        say_error("\"exit\" or ^D leaves, ^C ends an answer");
    if (conversation_asks(c)) {
        say_error("%s ends with a question; its answer:", c->args->session);
        turn = conversation_turn(c, NULL);
    }
    while (turn != TURN_FAILED && (message = ask(line, &text, &status)) != NULL)
        turn = conversation_turn(c, message);
    line_close(line);
    buf_free(&text);
    return turn != TURN_FAILED ? status : STATUS_FAILED;
}
