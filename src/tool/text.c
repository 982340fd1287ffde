/* SPDX-License-Identifier: MIT */
#include "tool/text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/utf8.h"
#include "tool/say.h"

enum { MAX_TEXT = 64 << 20 };

static int read_stream(FILE *in, const char *name, struct buf *out)
{
    char block[1 << 16];
    size_t n;
    /* A terminal can be read again after its end: one ^D is enough. */
    while (!feof(in) && (n = fread(block, 1, sizeof block, in)) > 0) {
        buf_add(out, block, n);
        if (out->failed || out->size > MAX_TEXT) {
            if (out->failed)
                say_error("%s: not enough memory", name);
            else
                say_error("%s: expected at most %d MiB of text, found more", name, MAX_TEXT >> 20);
            return STATUS_FAILED;
        }
    }
    if (ferror(in))
        return say_error("%s: %s", name, strerror(errno));
    return STATUS_OK;
}

static int check_text(const struct buf *text, const char *name)
{
    const char *nul = text->size > 0 ? memchr(text->data, '\0', text->size) : NULL;
    size_t valid = utf8_valid((const uint8_t *)text->data, text->size);
    if (valid < text->size && (nul == NULL || valid < (size_t)(nul - text->data)))
        say_error("%s: expected UTF-8, found an invalid sequence at byte %zu", name, valid);
    else if (nul != NULL)
        say_error("%s: expected text, found a NUL byte at byte %zu", name,
                  (size_t)(nul - text->data));
    else
        return STATUS_OK;
    return STATUS_FAILED;
}

void text_drop_newline(struct buf *text)
{
    if (text->size > 0 && text->data[text->size - 1] == '\n')
        text->data[--text->size] = '\0';
    else
        return;
    if (text->size > 0 && text->data[text->size - 1] == '\r')
        text->data[--text->size] = '\0';
}

int text_read(const char *path, struct buf *out)
{
    struct stat found;
    bool is_stdin = strcmp(path, "-") == 0;
    if (!is_stdin && stat(path, &found) == 0 && S_ISDIR(found.st_mode))
        return say_error("%s: expected a file, found a directory; name the files in it, as the "
                         "shell does with %s%s*.txt",
                         path, path, path[strlen(path) - 1] == '/' ? "" : "/");
    const char *name = is_stdin ? "stdin" : path;
    FILE *in = is_stdin ? stdin : fopen(path, "r");
    if (in == NULL)
        return say_error("%s: %s", name, strerror(errno));
    int status = read_stream(in, name, out);
    if (!is_stdin)
        fclose(in);
    if (status == STATUS_OK)
        status = check_text(out, name);
    return status;
}
