/* SPDX-License-Identifier: MIT */
/* eval_detokenize.c: lists of ids to text. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "text/tokenizer.h"
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
            return error_set(
                err, LLAMA3_EINPUT, "%s: number %zu: expected an id from 0 to %zu, found '%.*s'",
                name, ids->n + 1, limit - 1, (int)(end - at < 40 ? end - at : 40), text + at);
        tokens_add(ids, (int32_t)id);
        at = skip_spaces(text, size, end);
        comma = at < size && text[at] == ',';
        if (comma)
            at = skip_spaces(text, size, at + 1);
    }
    return ids->failed ? error_memory(err, "ids", ids->n * sizeof *ids->ids) : 0;
}

/* ---- text -------------------------------------------------------------------------------- */

/* A terminal can't show half a character, and would obey control bytes. Any other reader gets every
 * byte. */
static void print_bytes(const uint8_t *bytes, size_t n, struct decoder *decoder, struct buf *shown)
{
    if (decoder == NULL) {
        fwrite(bytes, 1, n, stdout);
        return;
    }
    buf_clear(shown);
    decoder_push(decoder, bytes, n, shown);
    terminal_answer(shown->data, shown->size);
}

static void print_end(struct decoder *decoder, struct buf *shown)
{
    if (decoder == NULL)
        return;
    buf_clear(shown);
    decoder_finish(decoder, shown);
    terminal_answer(shown->data, shown->size);
    terminal_answer_end();
}

static void print_ids(const struct eval_args *args, const struct tokenizer *tokenizer,
                      const struct tokens *ids)
{
    struct decoder decoder = {0};
    struct decoder *shows = isatty(STDOUT_FILENO) ? &decoder : NULL;
    struct buf shown = {0};
    terminal_answer_begin(NULL);
    for (size_t i = 0; i < ids->n && !ferror(stdout); i++) {
        size_t n;
        const uint8_t *bytes = tokenizer_bytes(tokenizer, ids->ids[i], &n);
        if (args->special || tokenizer_kind(tokenizer, ids->ids[i]) == TOKEN_TEXT)
            print_bytes(bytes, n, shows, &shown);
    }
    print_end(shows, &shown);
    buf_free(&shown);
}

/* ---- input ------------------------------------------------------------------------------- */

/* The embedding may have rows without a token. */
static int check_ids(const struct tokenizer *tokenizer, const struct tokens *ids, const char *name,
                     struct llama3_error *err)
{
    for (size_t i = 0; i < ids->n; i++)
        if (tokenizer_kind(tokenizer, ids->ids[i]) == TOKEN_UNUSED)
            return error_set(err, LLAMA3_EINPUT,
                             "%s: number %zu: expected the id of a token, found %d, which has none",
                             name, i + 1, (int)ids->ids[i]);
    return 0;
}

static int detokenize(const struct eval_args *args, const struct model *model,
                      const struct tokenizer *tokenizer)
{
    const char *path = args->paths[EVAL_DETOKENIZE];
    bool is_stdin = path[0] == '\0' || strcmp(path, "-") == 0;
    const char *name = is_stdin ? "stdin" : path;
    struct llama3_error err;
    struct buf text = {0};
    struct tokens ids = {0};
    int status = text_read(is_stdin ? "-" : path, &text);
    if (status == STATUS_OK &&
        (eval_parse_ids(text.data, text.size, name, model->vocab.n, &ids, &err) != 0 ||
         check_ids(tokenizer, &ids, name, &err) != 0)) {
        say_failure(&err);
        status = STATUS_FAILED;
    }
    if (status == STATUS_OK)
        print_ids(args, tokenizer, &ids);
    buf_free(&text);
    tokens_free(&ids);
    return status;
}

int eval_detokenize(const struct eval_args *args)
{
    struct model model = {0};
    struct llama3_error err;
    struct tokenizer *tokenizer = NULL;
    char *path = NULL;
    int status = eval_open(args, false, &model, &path);
    if (status == STATUS_OK && (tokenizer = tokenizer_open(&model.vocab, &err)) == NULL) {
        say_failure(&err);
        status = STATUS_FAILED;
    }
    if (status == STATUS_OK)
        status = detokenize(args, &model, tokenizer);
    tokenizer_close(tokenizer);
    model_close(&model);
    free(path);
    return status == STATUS_OK ? finish_stdout() : status;
}
