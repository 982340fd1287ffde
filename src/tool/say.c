#include "tool/say.h"

#include <stdarg.h>
#include <stdio.h>

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
