/* SPDX-License-Identifier: MIT */
#include "tool/ask.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "tool/say.h"

bool ask_possible(void)
{
    return isatty(STDIN_FILENO) && isatty(STDERR_FILENO);
}

bool ask_yes(const char *question, bool by_default)
{
    char answer[64];
    if (!ask_possible())
        return false;
    say_name(stderr, question);
    fputs(by_default ? " [Y/n] " : " [y/N] ", stderr);
    fflush(stderr);
    if (fgets(answer, sizeof answer, stdin) == NULL) {
        clearerr(stdin);
        fputc('\n', stderr);
        return false;
    }
    answer[strcspn(answer, "\n")] = '\0';
    return answer[0] == '\0' ? by_default
                             : strcasecmp(answer, "y") == 0 || strcasecmp(answer, "yes") == 0;
}
