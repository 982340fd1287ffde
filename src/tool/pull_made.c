/* SPDX-License-Identifier: MIT */
#include "tool/pull_made.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

enum { MAX_TEXT = 1 << 22 };

static const char calibrated_line[] = "calibrated\n", plain_line[] = "uncalibrated\n",
                  begun_line[] = "not yet\n";

void pull_made_describe(const struct hub_file *const *files, size_t n, struct buf *out)
{
    for (size_t i = 0; i < n; i++) {
        buf_add_str(out, files[i]->name);
        buf_add_str(out, " ");
        buf_add_str(out, files[i]->etag);
        buf_add_str(out, "\n");
    }
}

static bool is_regular(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 && S_ISREG(st.st_mode);
}

static bool opens(const char *path)
{
    const struct llama3_model_options options = {.size = sizeof options, .vocab_only = true};
    struct llama3_model *model = llama3_model_open(path, &options, NULL);
    llama3_model_close(model);
    return model != NULL;
}

bool pull_made_is(const struct int4_paths *paths, const char *contents, bool calibrated)
{
    size_t size;
    bool same = false;
    char *text = file_read(paths->source, MAX_TEXT, &size, NULL, NULL);
    if (text == NULL)
        return false;
    /* A calibrated one is better than what was asked for. */
    if (strncmp(text, calibrated_line, strlen(calibrated_line)) == 0)
        same = strcmp(text + strlen(calibrated_line), contents) == 0;
    else if (!calibrated && strncmp(text, plain_line, strlen(plain_line)) == 0)
        same = strcmp(text + strlen(plain_line), contents) == 0;
    free(text);
    return same && is_regular(paths->out) && opens(paths->out);
}

int pull_made_begin(const struct int4_paths *paths, struct llama3_error *err)
{
    struct stat st;
    bool there = lstat(paths->out, &st) == 0;
    if (there && !is_regular(paths->source))
        return error_input(
            err,
            "%s: expected no such file, or one that llama3-pull made, found another: "
            "remove it, or move it away",
            paths->out);
    if (there && !S_ISREG(st.st_mode) && unlink(paths->out) != 0)
        return error_system(err, paths->out);
    return store_write(paths->source, begun_line, err);
}

int pull_made_end(const struct int4_paths *paths, const char *contents, bool calibrated,
                  struct llama3_error *err)
{
    struct buf text = {0};
    buf_add_str(&text, calibrated ? calibrated_line : plain_line);
    buf_add_str(&text, contents);
    int result = text.failed ? error_memory(err, "a text", text.size)
                             : store_write(paths->source, text.data, err);
    buf_free(&text);
    return result;
}
