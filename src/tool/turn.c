/* SPDX-License-Identifier: MIT */
#include "tool/turn.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/recollect.h"
#include "base/tokens.h"
#include "base/utf8.h"
#include "tool/info.h"
#include "tool/interrupt.h"
#include "tool/progress.h"
#include "tool/repeats.h"
#include "tool/say.h"
#include "tool/terminal.h"

/* ---- the answer ---------------------------------------------------------------------------- */

struct listener {
    struct recollection *said;
    enum think think;
    bool dims, spoke, unread;
    struct repeats *repeats; /* NULL: an answer may repeat itself */
    size_t passage;          /* bytes of what it repeats; 0: it doesn't */
};

/* Whether the answer, or its thoughts, goes in circles. */
static bool repeats(struct listener *listener, const char *text, size_t length)
{
    if (listener->repeats != NULL && listener->passage == 0)
        listener->passage = repeats_add(listener->repeats, text, length);
    return listener->passage > 0;
}

static int print(struct listener *listener, const char *text, size_t length)
{
    listener->spoke = true;
    listener->unread = listener->unread || terminal_answer(text, length) != 0;
    return listener->unread;
}

static int on_text(void *arg, const char *text, size_t length)
{
    struct listener *listener = arg;
    bool thought = listener->said->thinking && listener->think == THINK_SHOW;
    progress_stop();
    recollect_text(listener->said, text, length);
    if (thought && length > 0 && listener->dims)
        print(listener, "\n\n", 2);
    else if (thought && length > 0)
        print(listener, RECOLLECT_END, strlen(RECOLLECT_END));
    return print(listener, text, length) != 0 || repeats(listener, text, length);
}

/* What the terminal can't dim stands between the tags, so that it can be told from the answer. */
static int on_thought(void *arg, const char *text, size_t length)
{
    struct listener *listener = arg;
    bool begins = !listener->said->thinking;
    recollect_thought(listener->said, text, length);
    if (begins)
        progress_stop();
    if (begins && listener->think == THINK_HIDE)
        progress_start("thinking", 0, 0);
    if (listener->think == THINK_HIDE)
        return repeats(listener, text, length);
    if (!listener->dims)
        return (begins && print(listener, RECOLLECT_BEGIN, strlen(RECOLLECT_BEGIN)) != 0) ||
               print(listener, text, length) != 0 || repeats(listener, text, length);
    listener->spoke = true;
    listener->unread = terminal_thought(text, length) != 0;
    return listener->unread || repeats(listener, text, length);
}

static void on_prompt(void *arg, size_t done, size_t total)
{
    (void)arg;
    progress_update(done, total);
}

/* How many tokens the session shares with the prompt from the front. */
static size_t known(const struct llama3_session *session, const int32_t *prompt, size_t n)
{
    size_t have;
    const int32_t *tokens = llama3_session_tokens(session, &have);
    return tokens_common(tokens, prompt, have < n ? have : n);
}

/* Shows the prompt as the model reads it, control tokens by name. */
static int show_prompt(const struct conversation *c, const int32_t *prompt, size_t n,
                       struct llama3_error *err)
{
    char *text;
    size_t length;
    if (llama3_detokenize(c->model, prompt, n, true, &text, &length, err) != 0)
        return -1;
    terminal_text(stderr, text, length);
    if (length == 0 || text[length - 1] != '\n')
        fputc('\n', stderr);
    llama3_free(text);
    return 0;
}

/* Names the passage that an answer repeats: from where a line or a sentence begins, if it has one.
 */
static void note_repeats(const struct recollection *said, size_t passage)
{
    enum { SHOWN = 60 };
    const char *text = said->text.data;
    size_t n = said->text.size, first = 2 * passage < n ? n - 2 * passage : 0, begin = first;
    for (size_t i = first + 1; i + passage <= n; i++)
        if (text[i - 1] == '\n' || (i >= 2 && text[i - 1] == ' ' && strchr(".!?", text[i - 2])))
            begin = i;
    while (begin < n && (isspace((unsigned char)text[begin]) || (text[begin] & 0xc0) == 0x80))
        begin++;
    size_t length = n - begin < passage ? n - begin : passage;
    size_t shown = length < SHOWN ? length : SHOWN;
    shown = utf8_valid((const uint8_t *)text + begin, shown);
    while (shown > 0 && isspace((unsigned char)text[begin + shown - 1]))
        shown--;
    say_note("the answer was ended, as it says again and again \"%.*s%s\" (--repeat-stop)",
             (int)shown, text + begin, length > SHOWN ? "..." : "");
}

/* Says that an answer was cut, which looks like a whole one. One that had to have a form has none:
 * that is an error. */
static void say_length(const struct conversation *c, const struct llama3_result *result)
{
    size_t context = llama3_model_info(c->model)->context;
    const char *option = c->constraint != NULL ? c->args->constraint.option : NULL;
    char how[128];
    if (result->prompt_tokens + result->answer_tokens >= context)
        snprintf(how, sizeof how, "cut: the context of %zu tokens is full (--ctx)", context);
    else
        snprintf(how, sizeof how, "cut after %zu token%s (--max-tokens)", result->answer_tokens,
                 result->answer_tokens == 1 ? "" : "s");
    if (option != NULL)
        say_error("the answer is not what --%s asks for, as it was %s", option, how);
    else
        say_note("the answer was %s", how);
}

static enum turn failed(const struct llama3_error *err)
{
    say_failure(err);
    return err->code == LLAMA3_ECONTEXT ? TURN_NO_ROOM : TURN_FAILED;
}

/* Appends what is said; nothing if nobody reads it any more. */
static enum turn print_answer(const struct conversation *c, const int32_t *prompt, size_t n,
                              struct recollection *said)
{
    const struct args *args = c->args;
    const bool thinks = !c->raw && llama3_model_info(c->model)->thinks;
    struct repeats passages = {0};
    struct listener listener = {.said = said,
                                .think = (enum think)args->think,
                                .dims = terminal_has_color(stdout),
                                .repeats = args->no_repeat_stop ? NULL : &passages};
    struct llama3_error err = {.size = sizeof err};
    struct llama3_result result = {.size = sizeof result};
    struct llama3_generation generation = {
        .size = sizeof generation,
        .max_tokens = args->max_tokens,
        .stop = args->stop.items,
        .n_stop = args->stop.n,
        .on_text = on_text,
        .on_thought = thinks ? on_thought : NULL,
        .on_prompt = on_prompt,
        .arg = &listener,
        .constraint = c->constraint,
    };
    char seed[32] = "";
    int rc;
    if (args->show_prompt && show_prompt(c, prompt, n, &err) != 0)
        return failed(&err);
    generation.sampling = args_sampling(args, c->model, &err);
    if (generation.sampling == NULL)
        return failed(&err);
    terminal_answer_begin(c->label, !c->raw && !args->plain);
    do { /* again if a late ^C for the previous answer ended it */
        interrupt_begin(c->session);
        progress_start("reading the prompt", known(c->session, prompt, n), n);
        rc = llama3_session_generate(c->session, prompt, n, &generation, &result, &err);
        progress_stop();
        interrupt_end();
    } while (rc == 0 && result.finish == LLAMA3_FINISH_CANCELED && !interrupt_seen());
    llama3_sampling_get(generation.sampling, "seed", seed, sizeof seed, NULL);
    llama3_sampling_close(generation.sampling);
    bool hidden = said->thinking && args->think == THINK_HIDE;
    bool interrupted = rc == 0 && result.finish == LLAMA3_FINISH_CANCELED;
    if (rc == 0 && !interrupted && !listener.spoke)
        on_text(&listener, "", 0);
    recollect_text(said, "", 0);
    bool in_line = terminal_answer_in_line();
    /* A ^C before the first word leaves stdout empty. */
    if (listener.spoke && !listener.unread)
        listener.unread = terminal_answer_end() != 0;
    if (rc != 0)
        return failed(&err);
    if (c->last != NULL)
        *c->last = result;
    if (listener.unread) {
        buf_clear(&said->text);
        return TURN_FAILED;
    }
    bool cut = result.finish == LLAMA3_FINISH_LENGTH;
    if (cut)
        say_length(c, &result);
    if (listener.passage > 0)
        note_repeats(said, listener.passage);
    if (listener.passage > 0 && c->constraint != NULL)
        say_error("the answer is not what --%s asks for, as it was ended before (--repeat-stop)",
                  c->args->constraint.option);
    if (hidden && !interrupted)
        say_note("the answer ended within its thoughts, which --think hide leaves out");
    if (args->stats || (args->verbose && c->label[0] == '\0'))
        info_print_stats(c, prompt, &result, seed);
    else if (args->verbose) /* in a chat */
        info_print_fill(c, &result);
    /* "^C" stands in the terminal's line; terminal_answer_end() ended it only after other words. */
    if (interrupted && !in_line && isatty(STDERR_FILENO))
        fputc('\n', stderr);
    return interrupted                                              ? TURN_INTERRUPTED
           : c->constraint != NULL && (cut || listener.passage > 0) ? TURN_UNFINISHED
                                                                    : TURN_ANSWERED;
}

/* ---- the turn ------------------------------------------------------------------------------ */

int conversation_begin(struct conversation *c)
{
    const char *system = c->args->system;
    struct llama3_error err = {.size = sizeof err};
    c->history = llama3_history_new();
    if (c->history == NULL)
        return say_error("not enough memory");
    if ((system == NULL || llama3_history_add(c->history, "system", system, &err) == 0) &&
        (c->file == NULL || session_file_load(c->file, c->history, &err) == 0))
        return STATUS_OK;
    return say_failure(&err);
}

bool conversation_asks(const struct conversation *c)
{
    size_t n = llama3_history_length(c->history);
    return n > 0 && strcmp(llama3_history_message(c->history, n - 1)->role, "user") == 0;
}

static enum turn answer_history(const struct conversation *c, struct recollection *said)
{
    const struct llama3_template_options options = template_options(&c->args->template);
    struct llama3_error err = {.size = sizeof err};
    size_t n_messages = llama3_history_length(c->history), n;
    const char *last = llama3_history_message(c->history, n_messages - 1)->content;
    int32_t *tokens;
    int rc = c->raw ? llama3_tokenize(c->model, last, strlen(last), true, &tokens, &n, &err)
                    : llama3_apply_template(c->model, llama3_history_message(c->history, 0),
                                            n_messages, &options, &tokens, &n, &err);
    if (rc != 0)
        return failed(&err);
    enum turn turn = print_answer(c, tokens, n, said);
    llama3_free(tokens);
    return turn;
}

/* Adds an answer to the history and the file; turn: how it ended. */
static enum turn keep_answer(const struct conversation *c, const struct buf *said, enum turn turn)
{
    const char *model = llama3_model_info(c->model)->path;
    struct llama3_error err = {.size = sizeof err};
    if (said->failed)
        error_memory(&err, "an answer", said->size);
    if (said->failed || llama3_history_add(c->history, "assistant", said->data, &err) != 0) {
        say_failure(&err);
        return TURN_FAILED;
    }
    if (c->file == NULL || session_file_write(c->file, model, c->history, &err) == 0)
        return turn;
    say_failure(&err);
    return turn != TURN_FAILED ? TURN_UNSAVED : turn;
}

enum turn conversation_turn(const struct conversation *c, const char *question)
{
    struct llama3_error err = {.size = sizeof err};
    struct recollection said = {0};
    size_t before = llama3_history_length(c->history) - (question == NULL);
    if (question != NULL && llama3_history_add(c->history, "user", question, &err) != 0)
        return failed(&err);
    recollect_text(&said, "", 0);
    enum turn turn = answer_history(c, &said);
    if (said.text.size == 0 && turn != TURN_ANSWERED && turn != TURN_UNFINISHED)
        llama3_history_truncate(c->history, before);
    else
        turn = keep_answer(c, &said.text, turn);
    buf_free(&said.text);
    return turn;
}
