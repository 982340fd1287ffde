/* SPDX-License-Identifier: MIT */
/* eval_logits.c: raw logits in a file, row by row, for other programs to look at. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/new_file.h"
#include "checkpoint/sources.h"
#include "tool/eval.h"
#include "tool/interrupt.h"
#include "tool/progress.h"
#include "tool/say.h"
#include "tool/text.h"

/* Where the rows go. */
struct sink {
    struct new_file file;
    bool is_stdout;
    size_t row_bytes;
    uint64_t size; /* of all rows */
};

static int write_rows(void *arg, const float *logits, size_t n_rows, struct llama3_error *err)
{
    struct sink *sink = arg;
    if (sink->is_stdout)
        return fwrite(logits, sink->row_bytes, n_rows, stdout) == n_rows
                   ? 0
                   : error_set(err, LLAMA3_EIO, "stdout: %s", strerror(errno));
    if (sink->file.size == 0 && new_file_reserve(&sink->file, sink->size, err) != 0)
        return -1;
    return new_file_write(&sink->file, logits, n_rows * sink->row_bytes, err);
}

static bool canceled(void *arg)
{
    (void)arg;
    return interrupt_seen();
}

/* Ends in order at ^C, so that no hidden file is left where a file system has no unnamed ones. */
static int compute(const struct eval_args *args, const struct model *model,
                   const struct tokens *tokens, struct sink *sink, struct llama3_error *err)
{
    struct evaluate_options options = eval_options(args);
    struct evaluate_result result;
    options.canceled = canceled;
    interrupt_defer();
    if (!args->quiet)
        progress_start("computing", 0, tokens->n);
    int status =
        evaluate_logits(model, tokens->ids, tokens->n, &options, write_rows, sink, &result, err);
    progress_stop();
    interrupt_end();
    if (status == 0)
        eval_note(args, &result);
    return status;
}

static int write_logits(const struct eval_args *args, const struct model *model,
                        const struct tokens *tokens)
{
    const char *out = args->paths[EVAL_LOGITS];
    struct sink sink = {
        .is_stdout = strcmp(out, "-") == 0,
        .row_bytes = model->config.vocab_size * sizeof(float),
        .size = (uint64_t)tokens->n * model->config.vocab_size * sizeof(float),
    };
    struct llama3_error err;
    int status = sink.is_stdout ? 0 : new_file_open(&sink.file, out, &err);
    if (status == 0)
        status = compute(args, model, tokens, &sink, &err);
    if (status == 0 && !sink.is_stdout)
        status = new_file_commit(&sink.file, &err);
    new_file_abandon(&sink.file);
    if (status == 0)
        return finish_stdout();
    if (err.code == LLAMA3_ECANCELED)
        return STATUS_INTERRUPTED;
    say_failure(&err);
    return STATUS_FAILED;
}

/* A text is read as raw text: the token that begins a text comes first if the checkpoint says
 * so. */
static int make_tokens(const struct eval_args *args, const struct model *model,
                       const struct buf *text, struct tokens *tokens, struct llama3_error *err)
{
    if (args->ids != NULL) {
        size_t limit = model->config.vocab_size;
        if (eval_parse_ids(args->ids, strlen(args->ids), "--tokens", limit, tokens, err) != 0)
            return -1;
        return tokens->n > 0 ? 0
                             : error_set(err, LLAMA3_EINPUT, "--tokens: expected ids, found none");
    }
    if (text->size == 0)
        return error_set(err, LLAMA3_EINPUT, "%s: expected a text, found none",
                         strcmp(args->file, "-") == 0 ? "stdin" : args->file);
    if (model->vocab.add_bos && model->vocab.bos >= 0)
        tokens_add(tokens, model->vocab.bos);
    return evaluate_tokenize(model, text->data, text->size, tokens, err);
}

static bool replaces_model(const char *out, const char *path)
{
    struct sources sources = {0};
    bool replaces = sources_list(&sources, path, NULL) == 0 && sources_have(&sources, out);
    sources_free(&sources);
    if (replaces)
        say_error("%s: this is a file of %s, which it can't replace", out, path);
    return replaces;
}

int eval_logits(const struct eval_args *args)
{
    const char *out = args->paths[EVAL_LOGITS];
    struct model model = {0};
    struct buf text = {0};
    struct tokens tokens = {0};
    struct llama3_error err;
    char *path = NULL;
    if (strcmp(out, "-") == 0 && isatty(STDOUT_FILENO)) {
        say_error("--logits -: expected a file or a pipe, found a terminal");
        return STATUS_USAGE;
    }
    int status = args->file != NULL ? text_read(args->file, &text) : STATUS_OK;
    if (status == STATUS_OK)
        status = eval_open(args, true, &model, &path);
    if (status == STATUS_OK && replaces_model(out, path)) {
        status = STATUS_USAGE;
    } else if (status == STATUS_OK && make_tokens(args, &model, &text, &tokens, &err) != 0) {
        say_failure(&err);
        status = STATUS_FAILED;
    } else if (status == STATUS_OK) {
        status = write_logits(args, &model, &tokens);
    }
    model_close(&model);
    tokens_free(&tokens);
    buf_free(&text);
    free(path);
    return status;
}
