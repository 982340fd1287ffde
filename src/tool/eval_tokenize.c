/* SPDX-License-Identifier: MIT */
/*
 * eval_tokenize.c: texts to ids, or to the lengths of pre-tokens, across which BPE never merges.
 *
 * Only here can a text spell control tokens, if --special asks for it. The library can't do that,
 * so no program does it by accident.
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

struct control {
    const char *name; /* [n] */
    size_t n;
    int32_t id;
};

struct tokenizing {
    const struct eval_args *args;
    struct llama3_model *model;
    struct control *controls; /* [n_controls] by name; none without --special */
    size_t n_controls;
    bool begins_control[256];
    struct tokens out; /* of one text */
};

/* ---- control tokens ---------------------------------------------------------------------- */

/* A name sorts before the names that it begins, a lower id before a higher one. */
static int by_name(const void *a, const void *b)
{
    const struct control *x = a, *y = b;
    int order = memcmp(x->name, y->name, x->n < y->n ? x->n : y->n);
    if (order == 0)
        order = (x->n > y->n) - (x->n < y->n);
    return order != 0 ? order : (x->id > y->id) - (x->id < y->id);
}

static int list_controls(struct tokenizing *t, struct llama3_error *err)
{
    size_t n = llama3_model_info(t->model)->vocab_size;
    t->controls = size_alloc_for(n, sizeof *t->controls, "the control tokens", err);
    if (t->controls == NULL)
        return -1;
    for (int32_t id = 0; (size_t)id < n; id++) {
        struct control control = {.id = id};
        if (!llama3_token_is_control(t->model, id))
            continue;
        control.name = llama3_token_bytes(t->model, id, &control.n);
        if (control.n == 0)
            continue;
        t->controls[t->n_controls++] = control;
        t->begins_control[(uint8_t)control.name[0]] = true;
    }
    qsort(t->controls, t->n_controls, sizeof *t->controls, by_name);
    return 0;
}

/* controls[from..to) begin alike for `depth` bytes. The first of them whose next byte is at least
 * `byte`; one that ends at `depth` has no next byte. */
static size_t first_with(const struct tokenizing *t, size_t from, size_t to, size_t depth, int byte)
{
    while (from < to) {
        size_t middle = from + (to - from) / 2;
        const struct control *control = &t->controls[middle];
        int found = control->n > depth ? (uint8_t)control->name[depth] : -1;
        if (found < byte)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

/* The control token with the longest name at the start of text[0..n), or NULL. */
static const struct control *longest_control(const struct tokenizing *t, const uint8_t *text,
                                             size_t n)
{
    const struct control *longest = NULL;
    size_t from = 0, to = t->n_controls;
    for (size_t depth = 0; depth < n && from < to; depth++) {
        from = first_with(t, from, to, depth, text[depth]);
        to = first_with(t, from, to, depth, text[depth] + 1);
        if (from < to && t->controls[from].n == depth + 1)
            longest = &t->controls[from];
    }
    return longest;
}

/* ---- one text ---------------------------------------------------------------------------- */

/* Text without control tokens. */
static int add_text(struct tokenizing *t, const char *text, size_t n, struct llama3_error *err)
{
    if (!t->args->pretokens)
        return evaluate_tokenize(t->model, text, n, false, &t->out, err);
    for (size_t at = 0, length; at < n; at += length) {
        length = llama3_pretoken(t->model, text + at, n - at);
        tokens_add(&t->out, (int32_t)length);
    }
    return 0;
}

static int add_texts(struct tokenizing *t, const char *text, size_t n, struct llama3_error *err)
{
    size_t from = 0;
    t->out.n = 0;
    for (size_t at = 0; at < n && t->n_controls > 0;) {
        const uint8_t *here = (const uint8_t *)text + at;
        const struct control *control =
            t->begins_control[*here] ? longest_control(t, here, n - at) : NULL;
        if (control == NULL) {
            at++;
            continue;
        }
        if (add_text(t, text + from, at - from, err) != 0)
            return -1;
        tokens_add(&t->out, t->args->pretokens ? (int32_t)control->n : control->id);
        at += control->n;
        from = at;
    }
    if (from < n && add_text(t, text + from, n - from, err) != 0)
        return -1;
    return t->out.failed ? error_memory(err, "tokens", t->out.n * sizeof *t->out.ids) : 0;
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
    if (status == STATUS_OK && add_texts(t, text.data, text.size, err) != 0)
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
        status = text != NULL ? add_texts(t, json_string_value(text), json_string_length(text), err)
                              : -1;
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
    if (t.model == NULL)
        ;
    else if (args->special && list_controls(&t, &err) != 0)
        say_failure(&err);
    else
        status = args->json_lines ? tokenize_json(&t, &err) : tokenize_file(&t, &err);
    llama3_model_close(t.model);
    tokens_free(&t.out);
    free(t.controls);
    free(path);
    return status == STATUS_OK ? finish_stdout() : status;
}
