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

/* A terminal hands over lines of at most this size, and drops what is longer without a word. */
enum { TERMINAL_LINE = 4096 };

/* White space around a line says nothing. */
static char *trim(char *line, size_t n)
{
    while (n > 0 && isspace((unsigned char)line[n - 1]))
        line[--n] = '\0';
    while (isspace((unsigned char)*line))
        line++;
    return line;
}

/* The next query, in *line's memory: NULL at the end of input or at "exit". */
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

/* Answers the conversation as it stands. */
static enum answer answer_turn(const struct answerer *answerer,
                               const struct llama3_history *history, struct buf *said,
                               struct llama3_error *err)
{
    const struct llama3_template_options options = {.size = sizeof options,
                                                    .date = answerer->args->date};
    int32_t *tokens;
    size_t n;
    if (llama3_apply_template(answerer->model, llama3_history_message(history, 0),
                              llama3_history_length(history), &options, &tokens, &n, err) != 0)
        return ANSWER_FAILED;
    enum answer answer = answer_print(answerer, tokens, n, "Assistant: ", said, err);
    llama3_free(tokens);
    return answer;
}

struct llama3_history *chat_begin(const struct answerer *answerer)
{
    const char *system = answerer->args->system;
    struct llama3_error err;
    struct llama3_history *history = llama3_history_new();
    if (history == NULL) {
        say_error("not enough memory");
        return NULL;
    }
    if ((system == NULL || llama3_history_add(history, "system", system, &err) == 0) &&
        (answerer->file == NULL || session_file_load(answerer->file, history, &err) == 0))
        return history;
    say_failure(&err);
    llama3_history_free(history);
    return NULL;
}

int chat_keep(const struct answerer *answerer, const struct llama3_history *history)
{
    const char *model = llama3_model_info(answerer->model)->path;
    struct llama3_error err;
    if (answerer->file == NULL || session_file_write(answerer->file, model, history, &err) == 0)
        return STATUS_OK;
    say_failure(&err);
    return STATUS_FAILED;
}

/* One question (NULL: the history's last message) and its answer. A status: other than STATUS_OK
 * the conversation ends. */
static int turn(const struct answerer *answerer, struct llama3_history *history, const char *query,
                struct buf *said)
{
    struct llama3_error err;
    size_t before = llama3_history_length(history) - (query == NULL);
    buf_clear(said);
    buf_add(said, "", 0);
    if (query != NULL && llama3_history_add(history, "user", query, &err) != 0) {
        say_failure(&err);
        return STATUS_FAILED;
    }
    enum answer answer = answer_turn(answerer, history, said, &err);
    if (answer == ANSWER_UNREAD)
        return STATUS_FAILED;
    /* "^C" stands in the terminal's line; terminal_answer_end() ended it only after other words. */
    if (answer == ANSWER_INTERRUPTED && (said->size == 0 || said->data[said->size - 1] == '\n'))
        fputc('\n', stderr);
    if (answer == ANSWER_FAILED)
        say_failure(&err);
    if (said->size == 0 && answer != ANSWER_OK) { /* as if it had not been asked */
        llama3_history_truncate(history, before);
        return answer == ANSWER_FAILED && err.code != LLAMA3_ECONTEXT ? STATUS_FAILED : STATUS_OK;
    }
    if (said->failed || llama3_history_add(history, "assistant", said->data, &err) != 0) {
        say_error("not enough memory");
        return STATUS_FAILED;
    }
    int status = chat_keep(answerer, history);
    return answer == ANSWER_FAILED ? STATUS_FAILED : status;
}

/* The question that a session ended with; NULL if it is answered. */
static const char *open_question(const struct llama3_history *history)
{
    size_t n = llama3_history_length(history);
    const struct llama3_message *last = n > 0 ? llama3_history_message(history, n - 1) : NULL;
    return last != NULL && strcmp(last->role, "user") == 0 ? last->content : NULL;
}

int chat_run(const struct answerer *answerer)
{
    struct buf said = {0};
    char *line = NULL, *query;
    size_t capacity = 0;
    int status = STATUS_OK;
    struct llama3_history *history = chat_begin(answerer);
    if (history == NULL)
        return STATUS_FAILED;
    if (!answerer->args->quiet)
        say_error("\"exit\" or ^D leaves, ^C ends an answer");
    if (open_question(history) != NULL) {
        say_error("%s ends with a question; its answer:", answerer->args->session);
        status = turn(answerer, history, NULL, &said);
    }
    while (status == STATUS_OK && (query = ask(&line, &capacity)) != NULL)
        status = turn(answerer, history, query, &said);
    free(line);
    buf_free(&said);
    llama3_history_free(history);
    return status;
}
