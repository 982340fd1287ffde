/* SPDX-License-Identifier: MIT */
#include "tool/answer.h"

#include <stdio.h>

#include "tool/info.h"
#include "tool/interrupt.h"
#include "tool/progress.h"
#include "tool/say.h"
#include "tool/terminal.h"

struct listener {
    struct buf *said;
    bool spoke, unread;
};

static int on_text(void *arg, const char *text, size_t length)
{
    struct listener *listener = arg;
    progress_stop();
    listener->spoke = true;
    if (listener->said != NULL)
        buf_add(listener->said, text, length);
    listener->unread = terminal_answer(text, length) != 0;
    return listener->unread;
}

static void on_prompt(void *arg, size_t done, size_t total)
{
    (void)arg;
    progress_update(done, total);
}

/* How many tokens the session shares with the prompt from the front. */
static size_t known(const struct llama3_session *session, const int32_t *prompt, size_t n)
{
    size_t have, i = 0;
    const int32_t *tokens = llama3_session_tokens(session, &have);
    while (i < n && i < have && tokens[i] == prompt[i])
        i++;
    return i;
}

/* The prompt as the model reads it, control tokens by name. */
static int show_prompt(const struct answerer *answerer, const int32_t *prompt, size_t n,
                       struct llama3_error *err)
{
    char *text;
    size_t length;
    if (llama3_detokenize(answerer->model, prompt, n, true, &text, &length, err) != 0)
        return -1;
    terminal_text(stderr, text, length);
    if (length == 0 || text[length - 1] != '\n')
        fputc('\n', stderr);
    llama3_free(text);
    return 0;
}

/* An answer that was cut looks like a whole one. */
static void note_length(const struct answerer *answerer, const struct llama3_result *result)
{
    const struct args *args = answerer->args;
    size_t context = llama3_model_info(answerer->model)->context;
    if (args->quiet || result->finish != LLAMA3_FINISH_LENGTH)
        return;
    if (result->prompt_tokens + result->answer_tokens >= context)
        say_error("note: the answer was cut: the context of %zu tokens is full (--ctx)", context);
    else
        say_error("note: the answer was cut after %zu token%s (--max-tokens)",
                  result->answer_tokens, result->answer_tokens == 1 ? "" : "s");
}

enum answer answer_print(const struct answerer *answerer, const int32_t *prompt, size_t n,
                         const char *label, struct buf *said, struct llama3_error *err)
{
    const struct args *args = answerer->args;
    struct listener listener = {.said = said};
    struct llama3_result result = {.size = sizeof result};
    struct llama3_generation generation = {
        .size = sizeof generation,
        .max_tokens = args->max_tokens,
        .stop = args->stop.items,
        .n_stop = args->stop.n,
        .on_text = on_text,
        .on_prompt = on_prompt,
        .arg = &listener,
    };
    if (args->show_prompt && show_prompt(answerer, prompt, n, err) != 0)
        return ANSWER_FAILED;
    generation.sampling = args_sampling(args, answerer->model, err);
    if (generation.sampling == NULL)
        return ANSWER_FAILED;
    terminal_answer_begin(label);
    int rc;
    do { /* again if it was ended by a ^C that came too late for the answer before */
        interrupt_begin(answerer->session);
        if (!args->quiet)
            progress_start("reading the prompt", known(answerer->session, prompt, n), n);
        rc = llama3_session_generate(answerer->session, prompt, n, &generation, &result, err);
        progress_stop();
        interrupt_end();
    } while (rc == 0 && result.finish == LLAMA3_FINISH_CANCELED && !interrupt_seen());
    llama3_sampling_close(generation.sampling);
    if (rc != 0) {
        if (listener.spoke)
            terminal_answer_end();
        return ANSWER_FAILED;
    }
    /* A ^C before the first word leaves stdout empty. */
    bool canceled = result.finish == LLAMA3_FINISH_CANCELED;
    if (!canceled && !listener.spoke)
        on_text(&listener, "", 0);
    if (!listener.unread && listener.spoke)
        listener.unread = terminal_answer_end() != 0;
    if (listener.unread)
        return ANSWER_UNREAD;
    note_length(answerer, &result);
    if (args->stats || args->verbose)
        info_print_stats(answerer, &result, args->seed.value);
    return canceled ? ANSWER_INTERRUPTED : ANSWER_OK;
}
