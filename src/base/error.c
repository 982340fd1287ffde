/* SPDX-License-Identifier: MIT */
#include "base/error.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

/* Replaces what must not reach a terminal or a log line. A character cut off at the end of the
 * message goes too. */
static void make_printable(char *message)
{
    uint8_t *byte = (uint8_t *)message;
    size_t left = strlen(message);

    while (left > 0) {
        uint32_t scalar = 0;
        int length = utf8_decode(byte, left, &scalar);
        if (length <= 0 || scalar < 0x20 || (scalar >= 0x7f && scalar < 0xa0)) {
            length = length <= 0 ? 1 : length;
            memset(byte, '?', (size_t)length);
        }
        byte += length;
        left -= (size_t)length;
    }
}

static bool continues_character(char byte)
{
    return ((uint8_t)byte & 0xc0) == 0x80;
}

/* Copies a message. Of one that is too long the middle is left out: a path stands at the beginning,
 * and the reason at the end. */
static void copy_message(char *to, size_t size, const char *message)
{
    static const char gap[] = "...";
    size_t length = strlen(message), head = size / 3, tail = size - 1 - (sizeof gap - 1) - head;
    if (length < size) {
        memcpy(to, message, length + 1);
        return;
    }
    const char *end = message + length - tail;
    while (continues_character(message[head]))
        head--;
    while (continues_character(*end))
        end++;
    memcpy(to, message, head);
    memcpy(to + head, gap, sizeof gap - 1);
    memcpy(to + head + sizeof gap - 1, end, strlen(end) + 1);
}

__attribute__((format(printf, 3, 0))) static void fill(struct llama3_error *err,
                                                       enum llama3_code code, const char *format,
                                                       va_list args)
{
    char message[PATH_MAX + sizeof err->message];
    if (err == NULL)
        return;
    vsnprintf(message, sizeof message, format, args);
    err->code = code;
    make_printable(message);
    copy_message(err->message, sizeof err->message, message);
}

int error_set(struct llama3_error *err, enum llama3_code code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fill(err, code, format, args);
    va_end(args);
    return -1;
}

int error_input(struct llama3_error *err, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fill(err, LLAMA3_EINPUT, format, args);
    va_end(args);
    return -1;
}

int error_copy(struct llama3_error *err, const struct llama3_error *from)
{
    return error_set(err, from->code, "%s", from->message);
}

int error_system(struct llama3_error *err, const char *name)
{
    return error_set(err, LLAMA3_EIO, "%s: %s", name, strerror(errno));
}

int error_memory(struct llama3_error *err, const char *what, size_t bytes)
{
    return error_set(err, LLAMA3_ENOMEM, "not enough memory: %s needs %zu bytes", what, bytes);
}
