/* SPDX-License-Identifier: MIT */
#include "tool/prompt.h"

#include <string.h>
#include <unistd.h>

#include "tool/say.h"
#include "tool/text.h"

/* Adds a part of the prompt, after an empty line if it is not the first. */
static void add_part(struct buf *text, const char *part, size_t n)
{
    if (text->size > 0 && n > 0)
        buf_add_str(text, "\n\n");
    buf_add(text, part, n);
}

static int add_file(const char *path, struct buf *text)
{
    struct buf file = {0};
    if (strcmp(path, "-") == 0 && isatty(STDIN_FILENO))
        say_note("reading the text from this terminal, up to Ctrl-D");
    int status = text_read(path, &file);
    text_drop_newline(&file);
    if (status == STATUS_OK && file.size > 0)
        add_part(text, file.data, file.size);
    text->failed = text->failed || file.failed;
    buf_free(&file);
    return status;
}

int prompt_read(const struct args *args, struct buf *text)
{
    static const char *stdin_alone[] = {"-"};
    const bool piped = args->files.n == 0 && args->prompt == NULL;
    const struct option_texts files = piped ? (struct option_texts){stdin_alone, 1} : args->files;
    int status = STATUS_OK;
    for (size_t i = 0, stdins = 0; i < files.n && status == STATUS_OK; i++) {
        stdins += strcmp(files.items[i], "-") == 0;
        status = stdins > 1 ? say_usage("--file: expected - once, found it twice")
                            : add_file(files.items[i], text);
    }
    if (status != STATUS_OK)
        return status;
    if (args->prompt != NULL)
        add_part(text, args->prompt, strlen(args->prompt));
    if (text->failed)
        return say_error("not enough memory");
    if (text->size > 0)
        return STATUS_OK;
    if (files.n == 0)
        return say_usage("the prompt is empty: --prompt says nothing");
    return say_usage("the prompt is empty: %s holds no text",
                     strcmp(files.items[0], "-") == 0 ? "stdin" : files.items[0]);
}
