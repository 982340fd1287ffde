/* SPDX-License-Identifier: MIT */
#include "tool/fetch.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tool/interrupt.h"
#include "tool/offline.h"
#include "tool/say.h"
#include "tool/terminal.h"

#define PULL     "llama3-pull"
#define INT4     ":int4"
#define QUESTION "llama3: fetch it now with llama3-pull?"

extern char **environ;

/* Finds llama3-pull beside this program or in PATH. False if there is none. */
static bool find_pull(char *path, size_t size)
{
    ssize_t n = readlink("/proc/self/exe", path, size - sizeof PULL);
    while (n > 0 && path[n - 1] != '/')
        n--;
    if (n > 0) {
        strcpy(path + n, PULL);
        if (access(path, X_OK) == 0)
            return true;
    }
    const char *folders = getenv("PATH");
    for (; folders != NULL; folders = strchr(folders, ':')) {
        folders += *folders == ':';
        int length = (int)strcspn(folders, ":");
        int used = snprintf(path, size, "%.*s/" PULL, length, folders);
        if (length > 0 && used > 0 && (size_t)used < size && access(path, X_OK) == 0)
            return true;
    }
    return false;
}

/* Its standard output, a path that nobody asked for here, is discarded. */
static int run_pull(const char *path, char **argv)
{
    posix_spawn_file_actions_t actions;
    pid_t pid;
    int status = 0, failed = posix_spawn_file_actions_init(&actions);
    if (failed == 0) {
        failed =
            posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
        if (failed == 0)
            failed = posix_spawn(&pid, path, &actions, NULL, argv, environ);
        posix_spawn_file_actions_destroy(&actions);
    }
    if (failed != 0)
        return say_error("%s: %s", path, strerror(failed));
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return STATUS_FAILED;
    return WIFEXITED(status) ? WEXITSTATUS(status) : STATUS_INTERRUPTED;
}

int fetch_offer(const char *name)
{
    char path[4096], repository[512];
    char *argv[] = {(char *)PULL, NULL, NULL, NULL};
    size_t n = strlen(name), tail = strlen(INT4);
    bool int4 = n > tail && strcasecmp(name + n - tail, INT4) == 0;
    if (!terminal_can_ask() || offline_is_set() || n >= sizeof repository ||
        !find_pull(path, sizeof path) || !terminal_ask(QUESTION, true))
        return STATUS_FAILED;
    snprintf(repository, sizeof repository, "%.*s", (int)(int4 ? n - tail : n), name);
    argv[1] = int4 ? (char *)"--int4" : repository;
    argv[2] = int4 ? repository : NULL;
    interrupt_defer(); /* ^C is for llama3-pull, which then ends */
    int status = run_pull(path, argv);
    interrupt_end();
    return status == STATUS_OK || status == STATUS_INTERRUPTED ? status : STATUS_FAILED;
}
