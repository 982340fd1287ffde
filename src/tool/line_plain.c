/* SPDX-License-Identifier: MIT */
#include "tool/line_plain.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "tool/say.h"

/* A terminal passes on lines of at most this size, and silently drops the rest. */
enum { TERMINAL_LINE = 4096 };

void line_plain_free(struct line_plain *plain)
{
    free(plain->text);
    *plain = (struct line_plain){0};
}

static void on_interrupt(int signal)
{
    (void)signal; /* it ends read() */
}

/* Reads a line while ^C ends the wait for it. The newline is left out. */
static enum line_end read_line(struct line_plain *plain, const char *prompt, size_t *length)
{
    struct sigaction action = {.sa_handler = on_interrupt}, before;
    sigemptyset(&action.sa_mask);
    fputs(prompt, stderr);
    fflush(stderr);
    bool ignored = sigaction(SIGINT, NULL, &before) != 0 || before.sa_handler == SIG_IGN;
    if (!ignored)
        sigaction(SIGINT, &action, NULL);
    errno = 0;
    ssize_t n = getline(&plain->text, &plain->capacity, stdin);
    bool interrupted = n < 0 && errno == EINTR;
    if (!ignored)
        sigaction(SIGINT, &before, NULL);
    if (n < 0) {
        clearerr(stdin);
        fputc('\n', stderr);
        return interrupted ? LINE_CLEARED : LINE_LEFT;
    }
    *length = (size_t)n;
    return LINE_READ;
}

static bool is_text(const char *text, size_t length)
{
    if (length >= TERMINAL_LINE)
        say_error("the terminal cut this line at %d bytes: end lines with \\ to go on in the next "
                  "one, or use /read FILE",
                  TERMINAL_LINE);
    else if (utf8_valid((const uint8_t *)text, length) < length ||
             memchr(text, '\0', length) != NULL)
        say_error("the line is not UTF-8 text; say it again");
    else
        return true;
    return false;
}

enum line_end line_plain_read(struct line_plain *plain, const char *prompt, struct buf *text)
{
    size_t length = 0;
    for (;;) {
        enum line_end end = read_line(plain, text->size == 0 ? prompt : "... ", &length);
        if (end == LINE_LEFT && text->size > 0)
            return LINE_READ; /* ^D ends a message of several lines */
        if (end != LINE_READ)
            return end;
        if (!is_text(plain->text, length))
            continue;
        if (length > 0 && plain->text[length - 1] == '\n')
            length--;
        buf_add(text, plain->text, length);
        if (text->failed)
            return LINE_FAILED;
        enum line_rest rest = text->size > 0 ? line_rest(text->data, text->size) : LINE_WHOLE;
        if (rest == LINE_WHOLE)
            return LINE_READ;
        if (rest == LINE_BROKEN)
            text->size--;
        buf_add(text, "\n", 1);
    }
}
