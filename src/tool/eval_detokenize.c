/* SPDX-License-Identifier: MIT */
/* eval_detokenize.c: lists of ids to text. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "tool/eval.h"
#include "tool/say.h"
#include "tool/terminal.h"
#include "tool/text.h"

/* ---- ids --------------------------------------------------------------------------------- */

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static size_t skip_spaces(const char *text, size_t size, size_t at)
{
    while (at < size && is_space(text[at]))
        at++;
    return at;
}

/* The decimal number in text[0..n) if it is below limit; else -1. */
static int64_t parse_id(const char *text, size_t n, size_t limit)
{
    uint64_t id = 0;
    for (size_t i = 0; i < n; i++) {
        if (text[i] < '0' || text[i] > '9')
            return -1;
        id = 10 * id + (uint64_t)(text[i] - '0');
        if (id >= limit)
            return -1;
    }
    return n > 0 ? (int64_t)id : -1;
}

int eval_parse_ids(const char *text, size_t size, const char *name, size_t limit,
                   struct tokens *ids, struct llama3_error *err)
{
    bool comma = false; /* an id must follow */
    for (size_t at = skip_spaces(text, size, 0); at < size || comma;) {
        size_t end = at;
        while (end < size && !is_space(text[end]) && text[end] != ',')
            end++;
        int64_t id = parse_id(text + at, end - at, limit);
        if (id < 0)
            return error_input(err, "%s: number %zu: expected an id from 0 to %zu, found \"%.*s\"",
                               name, ids->n + 1, limit - 1, (int)(end - at < 40 ? end - at : 40),
                               text + at);
        tokens_add(ids, (int32_t)id);
        at = skip_spaces(text, size, end);
        comma = at < size && text[at] == ',';
        if (comma)
            at = skip_spaces(text, size, at + 1);
    }
    return ids->failed ? error_memory(err, "ids", ids->n * sizeof *ids->ids) : 0;
}

/* ---- text -------------------------------------------------------------------------------- */

static void print_bytes(const struct eval_args *args, const struct llama3_model *model,
                        const struct tokens *ids)
{
    for (size_t i = 0; i < ids->n && !ferror(stdout); i++) {
        size_t n;
        const char *bytes = llama3_token_bytes(model, ids->ids[i], &n);
        if (args->special || !llama3_token_is_control(model, ids->ids[i]))
            fwrite(bytes, 1, n, stdout);
    }
}

/* A terminal can't show half a character, and would obey control bytes. Any other reader gets every
 * byte. */
static int show(const struct eval_args *args, const struct llama3_model *model,
                const struct tokens *ids, struct llama3_error *err)
{
    struct llama3_detokenizer *detokenizer = llama3_detokenizer_open(model, args->special, err);
    const char *text = "";
    size_t n = 0;
    terminal_answer_begin(NULL, false);
    for (size_t i = 0; detokenizer != NULL && text != NULL && i <= ids->n && !ferror(stdout); i++) {
        text = i < ids->n ? llama3_detokenizer_next(detokenizer, ids->ids[i], &n, err)
                          : llama3_detokenizer_finish(detokenizer, &n, err);
        if (text != NULL)
            terminal_answer(text, n);
    }
    terminal_answer_end();
    llama3_detokenizer_close(detokenizer);
    return detokenizer != NULL && text != NULL ? 0 : -1;
}

/* ---- input ------------------------------------------------------------------------------- */

/* The embedding may have rows without a token. */
static int check_ids(const struct llama3_model *model, const struct tokens *ids, const char *name,
                     struct llama3_error *err)
{
    size_t n;
    for (size_t i = 0; i < ids->n; i++)
        if (llama3_token_bytes(model, ids->ids[i], &n) == NULL)
            return error_input(
                err, "%s: number %zu: expected the id of a token, found %d, which has none", name,
                i + 1, (int)ids->ids[i]);
    return 0;
}

static int detokenize(const struct eval_args *args, const struct llama3_model *model)
{
    const char *path = args->paths[EVAL_DETOKENIZE];
    bool is_stdin = path[0] == '\0' || strcmp(path, "-") == 0;
    const char *name = is_stdin ? "stdin" : path;
    struct llama3_error err = {.size = sizeof err};
    struct buf text = {0};
    struct tokens ids = {0};
    int result = 0, status = text_read(is_stdin ? "-" : path, &text);
    if (status == STATUS_OK) {
        result = eval_parse_ids(text.data, text.size, name, llama3_model_info(model)->vocab_size,
                                &ids, &err);
        if (result == 0)
            result = check_ids(model, &ids, name, &err);
        if (result == 0 && isatty(STDOUT_FILENO))
            result = show(args, model, &ids, &err);
        else if (result == 0)
            print_bytes(args, model, &ids);
    }
    if (result != 0)
        status = say_failure(&err);
    buf_free(&text);
    tokens_free(&ids);
    return status;
}

int eval_detokenize(const struct eval_args *args)
{
    char *path;
    struct llama3_model *model = eval_open_vocabulary(args, &path);
    int status = model != NULL ? detokenize(args, model) : STATUS_FAILED;
    llama3_model_close(model);
    free(path);
    return status == STATUS_OK ? finish_stdout() : status;
}
