/* SPDX-License-Identifier: MIT */
#include "tool/prompt.h"

#include <string.h>
#include <unistd.h>

#include "tool/say.h"
#include "tool/text.h"

/* LF or CRLF. */
static void drop_newline(struct buf *text)
{
    if (text->size > 0 && text->data[text->size - 1] == '\n')
        text->data[--text->size] = '\0';
    else
        return;
    if (text->size > 0 && text->data[text->size - 1] == '\r')
        text->data[--text->size] = '\0';
}

int prompt_read(const struct args *args, struct buf *text)
{
    struct buf file = {0};
    const char *path = args->file != NULL ? args->file : args->prompt == NULL ? "-" : NULL;
    if (path != NULL && strcmp(path, "-") == 0 && isatty(STDIN_FILENO))
        say_note("reading the text from this terminal, up to Ctrl-D");
    int status = path != NULL ? text_read(path, &file) : STATUS_OK;
    if (status != STATUS_OK)
        goto out;
    drop_newline(&file);
    if (args->prompt != NULL)
        buf_add_str(text, args->prompt);
    if (args->prompt != NULL && file.size > 0)
        buf_add_str(text, "\n\n");
    if (file.size > 0)
        buf_add(text, file.data, file.size);
    if (text->failed) {
        status = say_error("not enough memory");
    } else if (text->size == 0) {
        status = say_usage("the prompt is empty: %s%s",
                           path == NULL                        ? "--prompt"
                           : path[0] == '-' && path[1] == '\0' ? "stdin"
                                                               : path,
                           path == NULL ? " says nothing" : " holds no text");
    }
out:
    buf_free(&file);
    return status;
}
