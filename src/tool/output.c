/* SPDX-License-Identifier: MIT */
#include "tool/output.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tool/say.h"

static struct {
    bool failed;
    char last; /* byte written, 0: none yet */
} state;

void output_begin(void)
{
    state.failed = false;
    state.last = 0;
}

static int flush(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return 0;
    if (errno != EPIPE)
        say_error("stdout: %s", strerror(errno));
    state.failed = true;
    return -1;
}

/* Length of the control character at text[0], 0 if it is none: C0 apart from tab and newline, DEL,
 * and C1 in its two bytes. */
static size_t control(const char *text, size_t length)
{
    unsigned char c = (unsigned char)text[0];
    if ((c < 0x20 && c != '\t' && c != '\n') || c == 0x7f)
        return 1;
    return c == 0xc2 && length > 1 && (unsigned char)text[1] < 0xa0 ? 2 : 0;
}

void output_shown(FILE *out, const char *text, size_t length)
{
    if (!isatty(fileno(out))) {
        fwrite(text, 1, length, out);
        return;
    }
    for (size_t i = 0; i < length;) {
        size_t skip = control(text + i, length - i);
        if (skip > 0)
            fputs("\xEF\xBF\xBD", out);
        else
            putc(text[i], out);
        i += skip > 0 ? skip : 1;
    }
}

int output_text(const char *text, size_t length)
{
    if (state.failed)
        return -1;
    if (length == 0)
        return 0;
    state.last = text[length - 1];
    output_shown(stdout, text, length);
    return flush();
}

int output_end(void)
{
    return state.last == '\n' ? 0 : output_text("\n", 1);
}
