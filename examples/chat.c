/* SPDX-License-Identifier: MIT */
/*
 * chat.c: a chatbot that remembers the conversation. What it was told before stays in the session,
 * so that each turn evaluates the new words alone.
 *
 *     cc chat.c -o chat $(pkg-config --cflags --libs llama3)
 *     ./chat MODEL ["SYSTEM INSTRUCTIONS"]
 */
#include <llama3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A model and one conversation with it. */
struct chatbot {
    struct llama3_model *model;
    struct llama3_session *session;
    struct llama3_history *history;
    struct llama3_sampling *sampling;
};

static int chatbot_open(struct chatbot *bot, const char *path, const char *system,
                        struct llama3_error *err)
{
    bot->model = llama3_model_open(path, NULL, err);
    if (bot->model == NULL)
        return -1;
    bot->session = llama3_session_open(bot->model, err);
    bot->sampling = bot->session != NULL ? llama3_sampling_open(bot->model, err) : NULL;
    bot->history = llama3_history_new();
    if (bot->sampling == NULL || bot->history == NULL)
        return -1;
    return system != NULL ? llama3_history_add(bot->history, "system", system, err) : 0;
}

static void chatbot_close(struct chatbot *bot)
{
    llama3_sampling_close(bot->sampling);
    llama3_history_free(bot->history);
    llama3_session_close(bot->session);
    llama3_model_close(bot->model);
}

/* Text comes in whole characters, as it is generated; non-zero would end the answer. */
static int print(void *arg, const char *text, size_t length)
{
    (void)arg;
    return fwrite(text, 1, length, stdout) != length || fflush(stdout) != 0;
}

/* The answer, which is also printed as it comes; NULL on failure, with the history as it was. */
static const char *get_response(struct chatbot *bot, const char *query, size_t max_tokens,
                                const char *temperature, const char *top_p,
                                struct llama3_error *err)
{
    const struct llama3_generation generation = {
        .size = sizeof generation,
        .sampling = bot->sampling,
        .max_tokens = max_tokens,
        .on_text = print,
    };
    if (llama3_sampling_set(bot->sampling, "temperature", temperature, err) != 0 ||
        llama3_sampling_set(bot->sampling, "top_p", top_p, err) != 0)
        return NULL;
    return llama3_session_respond(bot->session, bot->history, query, &generation, err);
}

/* Asks and answers until "exit", "quit" or the end of the input; -1 where stdout fails. */
static int chatbot_run(struct chatbot *bot, struct llama3_error *err)
{
    char *query = NULL;
    size_t size = 0;
    int status = -1;
    while (fputs("User: ", stdout) >= 0 && fflush(stdout) == 0) {
        if (getline(&query, &size, stdin) < 0) {
            status = 0;
            break;
        }
        query[strcspn(query, "\n")] = '\0';
        if (strcmp(query, "exit") == 0 || strcmp(query, "quit") == 0) {
            status = 0;
            break;
        }
        if (query[0] == '\0')
            continue;
        fputs("Assistant: ", stdout);
        /* What can't be answered is no part of the conversation, which goes on. */
        if (get_response(bot, query, 4096, "0.6", "0.9", err) == NULL)
            fprintf(stderr, "chat: %s\n", err->message);
        putchar('\n');
    }
    free(query);
    if (status != 0)
        snprintf(err->message, sizeof err->message, "the answer could not be written");
    return status;
}

int main(int argc, char **argv)
{
    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: chat MODEL [SYSTEM]\n");
        return 2;
    }
    struct llama3_error err = {.size = sizeof err, .message = "not enough memory"};
    struct chatbot bot = {0};
    int status = chatbot_open(&bot, argv[1], argv[2], &err);
    if (status == 0)
        status = chatbot_run(&bot, &err);
    if (status != 0)
        fprintf(stderr, "chat: %s\n", err.message);
    chatbot_close(&bot);
    return status != 0;
}
