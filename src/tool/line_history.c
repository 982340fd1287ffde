/* SPDX-License-Identifier: MIT */
#include "tool/line_history.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/new_file.h"
#include "base/path.h"
#include "base/utf8.h"

char *line_history_path(struct llama3_error *err)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    char *folder;
    if (state != NULL && state[0] == '/') /* a relative one counts as unset, as XDG says */
        folder = path_join(state, "llama3", err);
    else if (home != NULL && home[0] == '/')
        folder = path_join(home, ".local/state/llama3", err);
    else {
        error_set(err, LLAMA3_EIO, "neither XDG_STATE_HOME nor HOME names a folder");
        return NULL;
    }
    if (folder != NULL && path_make_folders(folder, 0700, err) != 0) {
        free(folder);
        return NULL;
    }
    return path_append(folder, "history", err);
}

/* ---- lines of the file ---------------------------------------------------------------------- */

static void escape(const char *text, size_t length, struct buf *line)
{
    for (size_t i = 0; i < length; i++) {
        if (text[i] == '\n' || text[i] == '\\')
            buf_add(line, text[i] == '\n' ? "\\n" : "\\\\", 2);
        else
            buf_add(line, text + i, 1);
    }
    buf_add(line, "\n", 1);
}

/* In place; returns the length. */
static size_t unescape(char *line, size_t length)
{
    size_t n = 0;
    for (size_t i = 0; i < length; i++) {
        bool escaped = line[i] == '\\' && i + 1 < length;
        i += escaped;
        line[n++] = escaped && line[i] == 'n' ? '\n' : line[i];
    }
    return n;
}

/* Where the newest lines of a file's text begin, that are no more than so many and so long. */
static size_t newest(const char *text, size_t size, size_t lines, size_t bytes)
{
    size_t begin = size;
    for (size_t i = size; i-- > 0;) {
        if (i > 0 && text[i - 1] != '\n')
            continue;
        if (lines-- == 0 || size - i > bytes)
            break;
        begin = i;
    }
    return begin;
}

int line_history_load(const char *path, struct line_words *messages, struct llama3_error *err)
{
    bool missing = false;
    size_t size;
    char *text = file_read(path, (size_t)2 * LINE_HISTORY_BYTES, &size, &missing, err);
    if (text == NULL)
        return missing ? 0 : -1;
    size_t i = newest(text, size, LINE_HISTORY_MESSAGES, LINE_HISTORY_BYTES);
    int rc = 0;
    while (i < size && rc == 0) {
        char *end = memchr(text + i, '\n', size - i);
        size_t length = end != NULL ? (size_t)(end - text) - i : size - i, n;
        n = unescape(text + i, length);
        bool is_text = n > 0 && memchr(text + i, '\0', n) == NULL &&
                       utf8_valid((const uint8_t *)text + i, n) == n;
        if (is_text && !line_words_add(messages, text + i, n))
            rc = error_memory(err, path, n);
        i += length + 1;
    }
    free(text);
    return rc;
}

/* ---- writing -------------------------------------------------------------------------------- */

/* The file, locked: others that add to it wait. It may have been replaced before it was locked. */
static int open_locked(const char *path, struct llama3_error *err)
{
    for (;;) {
        struct stat opened, named;
        int fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0600);
        if (fd < 0 || fstat(fd, &opened) != 0 || flock(fd, LOCK_EX) != 0) {
            error_system(err, path);
            if (fd >= 0)
                close(fd);
            return -1;
        }
        if (!S_ISREG(opened.st_mode)) {
            close(fd);
            return error_set(err, LLAMA3_EIO, "%s: expected a regular file", path);
        }
        if (stat(path, &named) == 0 && named.st_ino == opened.st_ino) {
            fchmod(fd, 0600);
            return fd;
        }
        close(fd);
    }
}

/* Leaves half of the bytes, so that this happens seldom. */
static int trim(const char *path, struct llama3_error *err)
{
    struct new_file made;
    size_t size;
    char *text = file_read(path, (size_t)3 * LINE_HISTORY_BYTES, &size, NULL, err);
    if (text == NULL)
        return -1;
    size_t begin = newest(text, size, LINE_HISTORY_MESSAGES, LINE_HISTORY_BYTES / 2);
    int rc = new_file_open(&made, path, NEW_FILE_PRIVATE, err);
    if (rc == 0 && new_file_write(&made, text + begin, size - begin, err) == 0)
        rc = new_file_commit(&made, err);
    else if (rc == 0) {
        new_file_abandon(&made);
        rc = -1;
    }
    free(text);
    return rc;
}

int line_history_add(const char *path, const char *text, size_t length, struct llama3_error *err)
{
    struct buf line = {0};
    struct stat now;
    int fd, rc = 0;
    escape(text, length, &line);
    if (line.failed) {
        buf_free(&line);
        return error_memory(err, path, length);
    }
    if (line.size > LINE_HISTORY_BYTES / 4 || (fd = open_locked(path, err)) < 0) {
        rc = line.size > LINE_HISTORY_BYTES / 4 ? 0 : -1;
        buf_free(&line);
        return rc;
    }
    ssize_t n = write(fd, line.data, line.size);
    if (n != (ssize_t)line.size)
        rc = error_set(err, LLAMA3_EIO, "%s: %s", path, n < 0 ? strerror(errno) : "no room");
    else if (fstat(fd, &now) == 0 && now.st_size > LINE_HISTORY_BYTES)
        rc = trim(path, err);
    close(fd);
    buf_free(&line);
    return rc;
}
