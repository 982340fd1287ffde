/* SPDX-License-Identifier: MIT */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
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

int error_set(struct llama3_error *err, enum llama3_code code, const char *format, ...)
{
    if (err == NULL)
        return -1;
    va_list args;
    va_start(args, format);
    vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    err->code = code;
    make_printable(err->message);
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
