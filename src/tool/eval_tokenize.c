/* SPDX-License-Identifier: MIT */
/*
 * eval_tokenize.c: texts to ids, or to the lengths of pre-tokens, across which BPE never merges.
 *
 * Only here can a text spell control tokens, if --special asks for it: no other program calls
 * llama3_tokenize_trusted().
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/size.h"
#include "tool/eval.h"
#include "tool/say.h"
#include "tool/text.h"

enum { MAX_LINE = 64 << 20 };

struct tokenizing {
    const struct eval_args *args;
    struct llama3_model *model;
    struct tokens out; /* of one text */
};

/* ---- one text ---------------------------------------------------------------------------- */

static int add_pretokens(struct tokenizing *t, const char *text, size_t n)
{
    for (size_t at = 0, length; at < n; at += length) {
        length = llama3_pretoken(t->model, text + at, n - at);
        tokens_add(&t->out, (int32_t)length);
    }
    return 0;
}

static int add_ids(struct tokenizing *t, const char *text, size_t n, struct llama3_error *err)
{
    int32_t *ids;
    size_t n_ids;
    if (llama3_tokenize_trusted(t->model, text, n, &ids, &n_ids, err) != 0)
        return -1;
    for (size_t i = 0; i < n_ids; i++)
        tokens_add(&t->out, ids[i]);
    llama3_free(ids);
    return 0;
}

/* Fills t->out. */
static int tokenize(struct tokenizing *t, const char *text, size_t n, struct llama3_error *err)
{
    t->out.n = 0;
    int status = t->args->pretokens ? add_pretokens(t, text, n)
                 : t->args->special ? add_ids(t, text, n, err)
                                    : evaluate_tokenize(t->model, text, n, false, &t->out, err);
    return status == 0 && t->out.failed ? error_memory(err, "tokens", t->out.n * sizeof *t->out.ids)
                                        : status;
}

static void print_ids(const struct tokens *ids, bool json)
{
    if (json)
        putchar('[');
    for (size_t i = 0; i < ids->n; i++)
        printf("%s%d", i == 0 ? "" : json ? "," : " ", (int)ids->ids[i]);
    puts(json ? "]" : "");
}

/* ---- input ------------------------------------------------------------------------------- */

static int tokenize_file(struct tokenizing *t, struct llama3_error *err)
{
    struct buf text = {0};
    int status = text_read(t->args->paths[EVAL_TOKENIZE], &text);
    if (status == STATUS_OK && tokenize(t, text.data, text.size, err) != 0)
        status = say_failure(err);
    if (status == STATUS_OK)
        print_ids(&t->out, false);
    buf_free(&text);
    return status;
}

/* Reads the next line without its end: 1, 0 if there is none, -1 after an error. */
static int read_line(FILE *in, const char *name, size_t number, struct buf *line,
                     struct llama3_error *err)
{
    int c;
    bool any = false;
    buf_clear(line);
    while (line->size <= MAX_LINE && (c = getc_unlocked(in)) != EOF) {
        any = true;
        if (c == '\n')
            return line->failed ? error_memory(err, "a line", line->size) : 1;
        char byte = (char)c;
        buf_add(line, &byte, 1);
    }
    if (ferror(in))
        return error_system(err, name);
    if (line->size > MAX_LINE)
        return error_input(err, "%s: line %zu: expected at most %d MiB, found more", name, number,
                           MAX_LINE >> 20);
    return line->failed ? error_memory(err, "a line", line->size) : any;
}

/* Only a string is parsed at all, so that no line takes much memory. */
static json_t *parse_string(const struct buf *line, const char *name, size_t number,
                            struct llama3_error *err)
{
    json_error_t why;
    size_t at = 0;
    while (at < line->size && strchr(" \t\r", line->data[at]) != NULL && line->data[at] != '\0')
        at++;
    if (at == line->size || line->data[at] != '"') {
        error_input(err, "%s: line %zu: expected a JSON string, found \"%.*s\"", name, number,
                    (int)(line->size - at < 20 ? line->size - at : 20), line->data + at);
        return NULL;
    }
    json_t *string = json_loadb(line->data, line->size, JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);
    if (string == NULL)
        error_input(err, "%s: line %zu: expected a JSON string: %s", name, number, why.text);
    return string;
}

static int tokenize_lines(struct tokenizing *t, FILE *in, const char *name,
                          struct llama3_error *err)
{
    struct buf line = {0};
    int status = 0;
    for (size_t number = 1; status == 0 && !ferror(stdout); number++) {
        status = read_line(in, name, number, &line, err);
        if (status <= 0)
            break;
        json_t *text = parse_string(&line, name, number, err);
        status =
            text != NULL ? tokenize(t, json_string_value(text), json_string_length(text), err) : -1;
        json_decref(text);
        if (status == 0)
            print_ids(&t->out, true);
    }
    buf_free(&line);
    return status;
}

static int tokenize_json(struct tokenizing *t, struct llama3_error *err)
{
    const char *path = t->args->paths[EVAL_TOKENIZE];
    bool is_stdin = strcmp(path, "-") == 0;
    FILE *in = is_stdin ? stdin : fopen(path, "r");
    int status = in != NULL ? tokenize_lines(t, in, is_stdin ? "stdin" : path, err)
                            : error_system(err, path);
    if (in != NULL && !is_stdin)
        fclose(in);
    if (status == 0)
        return STATUS_OK;
    fflush(stdout); /* the output of the lines before the wrong one */
    return say_failure(err);
}

int eval_tokenize(const struct eval_args *args)
{
    struct tokenizing t = {.args = args};
    struct llama3_error err = {.size = sizeof err};
    char *path;
    int status = STATUS_FAILED;
    t.model = eval_open_vocabulary(args, &path);
    if (t.model != NULL)
        status = args->json_lines ? tokenize_json(&t, &err) : tokenize_file(&t, &err);
    llama3_model_close(t.model);
    tokens_free(&t.out);
    free(path);
    return status == STATUS_OK ? finish_stdout() : status;
}
