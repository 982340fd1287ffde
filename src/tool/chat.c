/* SPDX-License-Identifier: MIT */
#include "tool/chat.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/utf8.h"
#include "tool/say.h"

/* A terminal passes on lines of at most this size, and silently drops the rest. */
enum { TERMINAL_LINE = 4096 };

/* Drops white space around a line. */
static char *trim(char *line, size_t n)
{
    while (n > 0 && isspace((unsigned char)line[n - 1]))
        line[--n] = '\0';
    while (isspace((unsigned char)*line))
        line++;
    return line;
}

/* Reads the next query, in *line's memory. NULL at the end of input or at "exit". */
static char *ask(char **line, size_t *capacity)
{
    for (;;) {
        fputs("User: ", stderr);
        ssize_t n = getline(line, capacity, stdin);
        if (n < 0) {
            fputc('\n', stderr);
            return NULL;
        }
        size_t length = (size_t)n, valid = utf8_valid((const uint8_t *)*line, length);
        if (valid < length || memchr(*line, '\0', length) != NULL) {
            say_error("the line is not UTF-8 text; say it again");
            continue;
        }
        if (length >= TERMINAL_LINE) {
            say_error("the terminal cut this line at %d bytes; --file takes longer texts",
                      TERMINAL_LINE);
            continue;
        }
        char *query = trim(*line, length);
        if (strcasecmp(query, "exit") == 0 || strcasecmp(query, "quit") == 0)
            return NULL;
        if (query[0] != '\0')
            return query;
    }
}

int chat_run(const struct conversation *c)
{
    char *line = NULL, *query = NULL;
    size_t capacity = 0;
    enum turn turn = TURN_ANSWERED;
    if (!say_quiet)
        say_error("\"exit\" or ^D leaves, ^C ends an answer");
    if (conversation_asks(c)) {
        say_error("%s ends with a question; its answer:", c->args->session);
        turn = conversation_turn(c, NULL);
    }
    while (turn != TURN_FAILED && (query = ask(&line, &capacity)) != NULL)
        turn = conversation_turn(c, query);
    free(line);
    return turn != TURN_FAILED ? STATUS_OK : STATUS_FAILED;
}
