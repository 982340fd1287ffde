/* SPDX-License-Identifier: MIT */
/* commands_talk.c: commands about what was said. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/recollect.h"
#include "tool/clipboard.h"
#include "tool/commands_parts.h"
#include "tool/editor.h"
#include "tool/revise.h"
#include "tool/say.h"
#include "tool/terminal.h"

enum { SHOWN_BYTES = 60 }; /* of a question that is named */

/* Names the last question in a line. */
static void say_question(const char *what, const char *question)
{
    size_t n = strcspn(question, "\n"), shown = say_fitting(question, SHOWN_BYTES);
    shown = shown < n ? shown : n;
    say_error("%s: \"%.*s%s\"", what, (int)shown, question, question[shown] != '\0' ? "..." : "");
}

static const char *last_question(const struct chat *chat)
{
    const char *question = revise_last(chat->conversation, "user");
    if (question == NULL)
        say_error("there is no question yet");
    return question;
}

enum turn command_undo(struct chat *chat, char *argument)
{
    (void)argument;
    const char *question = last_question(chat);
    if (question == NULL)
        return TURN_ANSWERED;
    say_question("taken away", question);
    return command_done(revise_undo(chat->conversation));
}

enum turn command_clear(struct chat *chat, char *argument)
{
    (void)argument;
    buf_free(&chat->before);
    int status = revise_clear(chat->conversation);
    if (status == STATUS_OK)
        say_error("the conversation begins anew");
    return command_done(status);
}

enum turn command_system(struct chat *chat, char *argument)
{
    int status = revise_system(chat->conversation, argument);
    if (status == STATUS_OK)
        say_error(argument[0] != '\0' ? "instructions set" : "no instructions any more");
    return command_done(status);
}

/* The same seed would give the same answer. */
static void draw_anew(struct chat *chat)
{
    uint32_t seed;
    if (chat->args->seed != NULL)
        say_note("the seed is set, so that the same question gets the same answer; \"/set seed\" "
                 "makes it random again");
    else if (getentropy(&seed, sizeof seed) == 0)
        snprintf(chat->args->random_seed, sizeof chat->args->random_seed, "%" PRIu32, seed);
}

enum turn command_retry(struct chat *chat, char *argument)
{
    (void)argument;
    if (chat->refused.size > 0) {
        struct buf question = chat->refused;
        chat->refused = (struct buf){0};
        enum turn turn = chat_ask(chat, question.data);
        buf_free(&question);
        return turn;
    }
    if (last_question(chat) == NULL)
        return TURN_ANSWERED;
    draw_anew(chat);
    return revise_ask(chat->conversation, NULL);
}

enum turn command_edit(struct chat *chat, char *argument)
{
    (void)argument;
    bool refused = chat->refused.size > 0;
    const char *question = refused ? chat->refused.data : last_question(chat);
    struct buf text = {0};
    enum turn turn = TURN_ANSWERED;
    if (question == NULL)
        return turn;
    buf_add_str(&text, question);
    if (text.failed)
        say_error("not enough memory for the question");
    else if (editor_run(&text) != STATUS_OK)
        ;
    else if (text.size == 0)
        say_error("the question is empty; all is as it was");
    else if (!refused && strcmp(text.data, question) == 0)
        say_error("the question is as it was; /retry asks it again");
    else if (refused)
        turn = chat_ask(chat, text.data);
    else
        turn = chat_asked(chat, text.data, revise_ask(chat->conversation, text.data));
    buf_free(&text);
    return turn;
}

enum turn command_show(struct chat *chat, char *argument)
{
    const struct llama3_history *history = chat->conversation->history;
    const struct llama3_message *message;
    (void)argument;
    for (size_t i = 0; (message = llama3_history_message(history, i)) != NULL; i++) {
        const char *label = strcmp(message->role, "system") == 0 ? "System"
                            : strcmp(message->role, "user") == 0 ? "User"
                                                                 : "Assistant";
        fprintf(stderr, "%s: ", label);
        terminal_text(stderr, message->content, strlen(message->content));
        fputc('\n', stderr);
    }
    if (llama3_history_length(history) == 0)
        say_error("nothing was said yet");
    return TURN_ANSWERED;
}

static void print_rate(const char *what, size_t tokens, size_t cached, double seconds)
{
    fprintf(stderr, "  %-9s%zu tokens", what, tokens);
    if (cached > 0)
        fprintf(stderr, ", of which %zu were known", cached);
    if (tokens > cached && seconds > 0)
        fprintf(stderr, ", %.1f tokens/s", (double)(tokens - cached) / seconds);
    fputc('\n', stderr);
}

enum turn command_stats(struct chat *chat, char *argument)
{
    const struct conversation *c = chat->conversation;
    const struct llama3_info *info = llama3_model_info(c->model);
    const struct llama3_result *last = &chat->last;
    size_t n;
    (void)argument;
    llama3_session_tokens(c->session, &n);
    fputs("  model    ", stderr);
    say_name(stderr, info->path);
    fprintf(stderr, "\n  context  %zu of %zu tokens (%zu %%)\n", n, info->context,
            n * 100 / info->context);
    if (last->prompt_tokens > 0) {
        print_rate("prompt", last->prompt_tokens, last->cached_tokens, last->prompt_seconds);
        print_rate("answer", last->answer_tokens, 0, last->answer_seconds);
    }
    return TURN_ANSWERED;
}

enum turn command_copy(struct chat *chat, char *argument)
{
    const char *answer = revise_last(chat->conversation, "assistant");
    (void)argument;
    if (answer == NULL) {
        say_error("there is no answer yet");
        return TURN_ANSWERED;
    }
    const char *thoughts = strstr(answer, RECOLLECT_END);
    if (strncmp(answer, RECOLLECT_BEGIN, strlen(RECOLLECT_BEGIN)) == 0 && thoughts != NULL)
        answer = thoughts + strlen(RECOLLECT_END);
    if (clipboard_set(answer, strlen(answer)) == STATUS_OK)
        say_error("%zu bytes sent to the terminal's clipboard", strlen(answer));
    return TURN_ANSWERED;
}
