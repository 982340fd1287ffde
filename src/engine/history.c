/* SPDX-License-Identifier: MIT */
/* history.c: the messages of a conversation, and answers that are added to it. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/recollect.h"
#include "base/size.h"
#include "base/sized.h"
#include "engine/session.h"
#include "text/chat.h"

struct llama3_history {
    struct llama3_message *messages; /* [n], each with its own copies */
    size_t n, capacity;
    bool in_use; /* by llama3_session_respond(), which may be in a callback */
};

struct llama3_history *llama3_history_new(void)
{
    return size_alloc(1, sizeof(struct llama3_history));
}

void llama3_history_free(struct llama3_history *history)
{
    if (history == NULL)
        return;
    llama3_history_truncate(history, 0);
    free(history->messages);
    free(history);
}

int llama3_history_add(struct llama3_history *history, const char *role, const char *content,
                       struct llama3_error *err)
{
    if (history->in_use)
        return error_input(err,
                           "history: expected a history that no call is using, found one in use");
    const struct llama3_message message = {
        .size = sizeof message, .role = role, .content = content};
    if (chat_message_check(&message, history->n + 1, err) < 0)
        return -1;
    if (history->n == history->capacity) {
        size_t capacity = history->capacity * 2 + 8, bytes;
        struct llama3_message *moved = NULL;
        if (size_mul(capacity, sizeof *moved, &bytes))
            moved = realloc(history->messages, bytes);
        if (moved == NULL)
            return error_memory(err, "a message", capacity * sizeof *moved);
        history->messages = moved;
        history->capacity = capacity;
    }
    struct llama3_message copy = {
        .size = sizeof copy, .role = strdup(role), .content = strdup(content)};
    if (copy.role == NULL || copy.content == NULL) {
        free((char *)copy.role);
        free((char *)copy.content);
        return error_memory(err, "a message", strlen(content));
    }
    history->messages[history->n++] = copy;
    return 0;
}

size_t llama3_history_length(const struct llama3_history *history)
{
    return history->n;
}

const struct llama3_message *llama3_history_message(const struct llama3_history *history, size_t i)
{
    return i < history->n ? &history->messages[i] : NULL;
}

void llama3_history_truncate(struct llama3_history *history, size_t n)
{
    while (history->n > n && !history->in_use) {
        struct llama3_message *last = &history->messages[--history->n];
        free((char *)last->role);
        free((char *)last->content);
    }
}

/* ---- answers -------------------------------------------------------------------------------- */

/* Gathers an answer's text, and passes it on. */
struct gathering {
    struct recollection answer;
    const struct llama3_generation *callers;
};

static int on_text(void *arg, const char *text, size_t length)
{
    struct gathering *g = arg;
    recollect_text(&g->answer, text, length);
    return g->callers->on_text != NULL ? g->callers->on_text(g->callers->arg, text, length) : 0;
}

static int on_thought(void *arg, const char *text, size_t length)
{
    struct gathering *g = arg;
    recollect_thought(&g->answer, text, length);
    return g->callers->on_thought(g->callers->arg, text, length);
}

static int on_token(void *arg, int32_t token, const float *logits)
{
    const struct llama3_generation *callers = ((const struct gathering *)arg)->callers;
    return callers->on_token(callers->arg, token, logits);
}

static void on_prompt(void *arg, size_t done, size_t total)
{
    const struct llama3_generation *callers = ((const struct gathering *)arg)->callers;
    callers->on_prompt(callers->arg, done, total);
}

/* Generates the answer to the history. */
static int answer(struct llama3_session *session, const struct llama3_history *history,
                  struct gathering *gathering, struct llama3_error *err)
{
    const struct llama3_generation *callers = gathering->callers;
    struct llama3_generation g = *callers;
    struct llama3_result result = {.size = sizeof result};
    int32_t *prompt;
    size_t n;

    g.on_text = on_text;
    g.on_token = callers->on_token != NULL ? on_token : NULL;
    g.on_thought = callers->on_thought != NULL ? on_thought : NULL;
    g.on_prompt = callers->on_prompt != NULL ? on_prompt : NULL;
    g.arg = gathering;
    if (llama3_apply_template(session->model->owner, history->messages, history->n, NULL, &prompt,
                              &n, err) < 0)
        return -1;
    int status = llama3_session_generate(session, prompt, n, &g, &result, err);
    llama3_free(prompt);
    if (status == 0 && result.finish == LLAMA3_FINISH_CANCELED)
        return error_set(err, LLAMA3_ECANCELED, "canceled");
    recollect_text(&gathering->answer, "", 0);
    if (status == 0 && gathering->answer.text.failed)
        return error_memory(err, "the answer", gathering->answer.text.size);
    return status;
}

const char *llama3_session_respond(struct llama3_session *session, struct llama3_history *history,
                                   const char *query, const struct llama3_generation *generation,
                                   struct llama3_error *err)
{
    struct llama3_generation callers;
    struct gathering gathering = {.callers = &callers};
    size_t before = history->n;

    if (sized_take(&callers, sizeof callers, generation, "llama3_generation", err) < 0)
        return NULL;
    if (llama3_history_add(history, "user", query, err) < 0)
        return NULL;
    history->in_use = true;
    int status = answer(session, history, &gathering, err);
    history->in_use = false;
    if (status < 0 || llama3_history_add(history, "assistant", gathering.answer.text.data, err) < 0)
        llama3_history_truncate(history, before);
    buf_free(&gathering.answer.text);
    return history->n > before ? history->messages[history->n - 1].content : NULL;
}
