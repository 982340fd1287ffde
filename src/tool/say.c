#include "tool/say.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void say_error(const char *format, ...)
{
    va_list args;
    fprintf(stderr, "%s: ", say_program);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

void say_failure(const struct llama3_error *err)
{
    static const struct {
        const char *begin, *option; /* of a message about a field of llama3.h's; what sets it */
    } fields[] = {
        {"context: expected ", "--ctx: expected "},
        {"gpu-layers: ", "--gpu-layers: "},
        {"device: expected ", "--device: expected "},
        {"device: this build ", "--device: this build "},
        {"date: one like ", "--date: one like "},
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        size_t n = strlen(fields[i].begin);
        if (err->code != LLAMA3_EIO && strncmp(err->message, fields[i].begin, n) == 0) {
            say_error("%s%s", fields[i].option, err->message + n);
            return;
        }
    }
    say_error("%s", err->message);
}

int check_stdout(void)
{
    int flags = fcntl(STDOUT_FILENO, F_GETFL);
    if (flags >= 0 && (flags & O_ACCMODE) != O_RDONLY)
        return STATUS_OK;
    say_error("stdout: %s", strerror(EBADF));
    return STATUS_FAILED;
}

int finish_stdout(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return STATUS_OK;
    if (errno != EPIPE)
        say_error("stdout: %s", strerror(errno));
    return STATUS_FAILED;
}
