/* SPDX-License-Identifier: MIT */
/* eval_logits.c: raw logits in a file, row by row, for other programs to look at. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/new_file.h"
#include "tool/eval.h"
#include "tool/interrupt.h"
#include "tool/progress.h"
#include "tool/say.h"
#include "tool/text.h"

/* Where the rows go. */
struct sink {
    struct new_file file;
    bool is_stdout;
    size_t row_bytes, rows; /* rows: that are written */
    uint64_t size;          /* of all rows */
};

static int write_rows(void *arg, const float *logits, size_t n_rows, struct llama3_error *err)
{
    struct sink *sink = arg;
    progress_update(sink->rows += n_rows, sink->size / sink->row_bytes);
    if (sink->is_stdout)
        return fwrite(logits, sink->row_bytes, n_rows, stdout) == n_rows
                   ? 0
                   : error_set(err, LLAMA3_EIO, "stdout: %s", strerror(errno));
    if (sink->file.size == 0 && new_file_reserve(&sink->file, sink->size, err) != 0)
        return -1;
    return new_file_write(&sink->file, logits, n_rows * sink->row_bytes, err);
}

/* Ends in order at ^C, so that no hidden file is left where a file system has no unnamed ones. */
static int compute(struct llama3_model *model, const struct tokens *tokens, struct sink *sink,
                   struct llama3_error *err)
{
    struct llama3_session *session = llama3_session_open(model, err);
    if (session == NULL)
        return -1;
    interrupt_begin(session);
    progress_start("computing", 0, tokens->n);
    int status = evaluate_logits(model, session, tokens->ids, tokens->n, write_rows, sink, err);
    progress_stop();
    interrupt_end();
    llama3_session_close(session);
    if (status == 0)
        eval_note(model);
    return status;
}

static int write_logits(const struct eval_args *args, struct llama3_model *model,
                        const struct tokens *tokens)
{
    const char *out = args->paths[EVAL_LOGITS];
    size_t row_bytes = llama3_model_info(model)->vocab_size * sizeof(float);
    struct sink sink = {
        .is_stdout = strcmp(out, "-") == 0,
        .row_bytes = row_bytes,
        .size = (uint64_t)tokens->n * row_bytes,
    };
    struct llama3_error err = {.size = sizeof err};
    int status = sink.is_stdout ? 0 : new_file_open(&sink.file, out, NEW_FILE_MODE, &err);
    if (status == 0)
        status = compute(model, tokens, &sink, &err);
    if (status == 0 && !sink.is_stdout)
        status = new_file_commit(&sink.file, &err);
    new_file_abandon(&sink.file);
    if (status == 0)
        return finish_stdout();
    if (err.code == LLAMA3_ECANCELED)
        return STATUS_INTERRUPTED;
    return say_failure(&err);
}

/* A text is read as raw text: the token that begins a text comes first if the checkpoint says
 * so. */
static int make_tokens(const struct eval_args *args, const struct llama3_model *model,
                       const struct buf *text, struct tokens *tokens, struct llama3_error *err)
{
    if (args->ids != NULL) {
        size_t limit = llama3_model_info(model)->vocab_size;
        if (eval_parse_ids(args->ids, strlen(args->ids), "--tokens", limit, tokens, err) != 0)
            return -1;
        return tokens->n > 0 ? 0 : error_input(err, "--tokens: expected ids, found none");
    }
    if (text->size == 0)
        return error_input(err, "%s: expected a text, found none",
                           strcmp(args->file, "-") == 0 ? "stdin" : args->file);
    return evaluate_tokenize(model, text->data, text->size, true, tokens, err);
}

/* The tokens have to fit the context that was given, or the model's. */
static int check_context(const struct eval_args *args, const struct llama3_model *model, size_t n,
                         struct llama3_error *err)
{
    const struct llama3_info *info = llama3_model_info(model);
    size_t given = args->model.context, room = given > 0 ? given : info->context_limit;
    if (given > info->context_limit)
        return error_input(err,
                           "%s: expected a context of at most the model's %zu tokens, found %zu",
                           info->path, info->context_limit, given);
    if (n > room)
        return error_set(
            err, LLAMA3_ECONTEXT,
            "%s: expected a text of at most %zu tokens, which the context holds, found %zu",
            info->path, room, n);
    return 0;
}

/* The tokens, by a tokenizer that is opened before the weights. */
static int prepare(const struct eval_args *args, const struct buf *text, char **path,
                   struct tokens *tokens)
{
    const char *out = args->paths[EVAL_LOGITS];
    struct llama3_error err = {.size = sizeof err};
    struct llama3_model *model = eval_open_vocabulary(args, path);
    int status = model != NULL ? STATUS_OK : STATUS_FAILED;
    if (model != NULL && llama3_model_has_file(model, out))
        status = say_usage(
            "%s: expected a file that is not the checkpoint's, found one of %s's own", out, *path);
    else if (model != NULL && (make_tokens(args, model, text, tokens, &err) != 0 ||
                               check_context(args, model, tokens->n, &err) != 0))
        status = say_failure(&err);
    llama3_model_close(model);
    return status;
}

int eval_logits(const struct eval_args *args)
{
    struct llama3_model_options options = eval_options(args);
    struct llama3_model *model = NULL;
    struct buf text = {0};
    struct tokens tokens = {0};
    char *path = NULL;
    if (strcmp(args->paths[EVAL_LOGITS], "-") == 0 && isatty(STDOUT_FILENO))
        return say_usage("--logits -: expected a file or a pipe, found a terminal");
    int status = args->file != NULL ? text_read(args->file, &text) : STATUS_OK;
    if (status == STATUS_OK)
        status = prepare(args, &text, &path, &tokens);
    options.context = tokens.n;
    options.no_blas = true; /* no logit depends on where the pieces end */
    if (status == STATUS_OK && (model = eval_open(args, path, &options, true, &status)) != NULL)
        status = write_logits(args, model, &tokens);
    llama3_model_close(model);
    tokens_free(&tokens);
    buf_free(&text);
    free(path);
    return status;
}
