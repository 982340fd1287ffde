#include "tool/say.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

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
    say_error("%s", err->message);
}

int finish_stdout(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return STATUS_OK;
    if (errno != EPIPE)
        say_error("stdout: %s", strerror(errno));
    return STATUS_FAILED;
}
