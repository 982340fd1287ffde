/* SPDX-License-Identifier: MIT */
#include "tool/say.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/utf8.h"
#include "tool/terminal.h"

/* Length of the character at text[0..n). 0 if it must not reach a terminal: a control character,
 * one that changes the direction of text, or invalid UTF-8. */
static size_t printable(const char *text, size_t n)
{
    uint32_t scalar;
    int length = utf8_decode((const uint8_t *)text, n, &scalar);
    bool control = length <= 0 || scalar < 0x20 || (scalar >= 0x7f && scalar < 0xa0);
    bool turns =
        !control &&
        ((scalar >= 0x202a && scalar <= 0x202e) ||
         (scalar >= 0x2066 && scalar <= 0x2069)); /* change the direction of what follows */
    return control || turns ? 0 : (size_t)length;
}

void say_text(FILE *out, const char *text, size_t n)
{
    while (n > 0) {
        size_t length = printable(text, n);
        if (length > 0)
            fwrite(text, 1, length, out);
        else
            fprintf(out, "\\x%02x", (unsigned char)text[0]);
        length = length > 0 ? length : 1;
        text += length;
        n -= length;
    }
}

void say_name(FILE *out, const char *name)
{
    say_text(out, name, strlen(name));
}

size_t say_fitting(const char *line, size_t columns)
{
    size_t n = strlen(line), used = 0, at = 0;
    while (at < n) {
        size_t length = printable(line + at, n - at); /* no fewer bytes than columns */
        used += length > 0 ? length : strlen("\\x00");
        if (used > columns)
            break;
        at += length > 0 ? length : 1;
    }
    return at;
}

bool say_quiet;

__attribute__((format(printf, 2, 0))) static void say_line(const char *before, const char *format,
                                                           va_list args)
{
    char line[9000]; /* two paths, and why */
    vsnprintf(line, sizeof line, format, args);
    flockfile(stderr);
    terminal_erase();
    fprintf(stderr, "%s: %s", say_program, before);
    say_name(stderr, line);
    fputc('\n', stderr);
    funlockfile(stderr);
}

int say_error(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say_line("", format, args);
    va_end(args);
    return STATUS_FAILED;
}

int say_usage(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say_line("", format, args);
    va_end(args);
    return STATUS_USAGE;
}

int say_try_help(void)
{
    fprintf(stderr, "Try '%s --help'.\n", say_program);
    return STATUS_USAGE;
}

void say_note(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (!say_quiet)
        say_line("note: ", format, args);
    va_end(args);
}

void say_on_note(void *arg, const char *note)
{
    (void)arg;
    say_note("%s", note);
}

int say_failure(const struct llama3_error *err)
{
    static const struct {
        const char *begin, *option; /* how a message about a field of llama3.h begins; how the
                                       user's option is named */
    } fields[] = {
        {"context: expected ", "--ctx: expected "}, {"gpu_layers: ", "--gpu-layers: "},
        {"template_name: ", "--template: "},        {"device: expected ", "--device: expected "},
        {"date: expected ", "--date: expected "},   {"arguments: ", "--template-arg: "},
        {"tools: ", "--template-arg: tools: "},     {"documents: ", "--template-arg: documents: "},
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        size_t n = strlen(fields[i].begin);
        if (err->code != LLAMA3_EIO && strncmp(err->message, fields[i].begin, n) == 0)
            return say_error("%s%s", fields[i].option, err->message + n);
    }
    return say_error("%s", err->message);
}

void say_instead_of_dying(void)
{
    signal(SIGXFSZ, SIG_IGN);
    llama3_handle_sigbus(NULL);
}

int check_stdout(void)
{
    int flags = fcntl(STDOUT_FILENO, F_GETFL);
    if (flags >= 0 && (flags & O_ACCMODE) != O_RDONLY)
        return STATUS_OK;
    return say_error("stdout: %s", strerror(EBADF));
}

int finish_stdout(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return STATUS_OK;
    if (errno != EPIPE)
        say_error("stdout: %s", strerror(errno));
    return STATUS_FAILED;
}

const char *unit_bytes(char out[UNIT_SIZE], uint64_t bytes)
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1000 && unit < 4) {
        value /= 1024;
        unit++;
    }
    snprintf(out, UNIT_SIZE, "%.*f %s",
             unit == 0 || value >= 100 ? 0
             : value >= 10             ? 1
                                       : 2,
             value, units[unit]);
    return out;
}

const char *unit_count(char out[UNIT_SIZE], uint64_t count)
{
    double value = (double)count;
    if (value >= 1e9)
        snprintf(out, UNIT_SIZE, "%.2f billion", value / 1e9);
    else if (value >= 1e6)
        snprintf(out, UNIT_SIZE, "%.1f million", value / 1e6);
    else
        snprintf(out, UNIT_SIZE, "%llu", (unsigned long long)count);
    return out;
}

const char *unit_left(char out[UNIT_SIZE], double seconds)
{
    if (seconds < 90)
        snprintf(out, UNIT_SIZE, "%.0f s left", seconds);
    else if (seconds < 5400)
        snprintf(out, UNIT_SIZE, "%.0f min left", seconds / 60);
    else
        snprintf(out, UNIT_SIZE, "%.1f h left", seconds / 3600);
    return out;
}
