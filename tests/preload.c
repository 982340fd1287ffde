/* SPDX-License-Identifier: MIT */
/*
 * Preloaded into a program under test (LD_PRELOAD), makes the library slow, so that tests see what
 * happens while someone waits: SLOW_OPEN, SLOW_LOAD, SLOW_PROMPT and SLOW_TEXT are milliseconds for
 * opening a model, for each report on its weights, for each report on the prompt and for each piece
 * of text, SLOW_RESERVE those for asking for room on the disk. SAY is the answer instead of the
 * model's, word by word, THINK its thoughts. FULL is a directory with no room for files; from the
 * call FULL_SYNC of fdatasync() on there is none anywhere. SIGNAL_SYNC is a number of such a call,
 * a colon and the signal that comes there, SLOW_SIGNAL milliseconds later; with SYNC_OF only files
 * count whose paths have it. RESOLVE has the addresses of every name.
 */
#include "config.h" /* fallocate */

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "llama3.h"

static void sleep_for(const char *variable)
{
    const char *value = getenv(variable);
    long ms = value != NULL ? strtol(value, NULL, 10) : 0;
    struct timespec left = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&left, NULL); /* a signal ends it */
}

static const struct llama3_model_options *opening;

static int on_load(void *arg, uint64_t done, uint64_t total)
{
    sleep_for("SLOW_LOAD");
    return opening->on_load(arg, done, total);
}

struct llama3_model *llama3_model_open(const char *path, const struct llama3_model_options *options,
                                       struct llama3_error *err)
{
    struct llama3_model *(*next)(const char *, const struct llama3_model_options *,
                                 struct llama3_error *);
    *(void **)&next = dlsym(RTLD_NEXT, "llama3_model_open");
    struct llama3_model_options slow = *options;
    sleep_for("SLOW_OPEN");
    opening = options;
    slow.on_load = options->on_load != NULL ? on_load : NULL;
    return next(path, &slow, err);
}

static const struct llama3_generation *real;

static int on_text(void *arg, const char *text, size_t length)
{
    const char *say = getenv("SAY");
    sleep_for("SLOW_TEXT");
    if (say == NULL)
        return real->on_text(arg, text, length);
    do {
        size_t n = strcspn(say, " ") + 1, left = strlen(say);
        n = n < left ? n : left;
        if (real->on_text(arg, say, n) != 0)
            return 1;
        say += n;
        sleep_for(*say != '\0' ? "SLOW_TEXT" : "");
    } while (*say != '\0');
    return 1;
}

static int on_thought(void *arg, const char *text, size_t length)
{
    const char *think = getenv("THINK");
    if (think == NULL) {
        sleep_for("SLOW_TEXT");
        return real->on_thought(arg, text, length);
    }
    real->on_thought(arg, think, strlen(think));
    return on_text(arg, text, length);
}

static void on_prompt(void *arg, size_t done, size_t total)
{
    real->on_prompt(arg, done, total);
    sleep_for("SLOW_PROMPT");
}

int llama3_session_generate(struct llama3_session *session, const int32_t *prompt, size_t n,
                            const struct llama3_generation *generation,
                            struct llama3_result *result, struct llama3_error *err)
{
    int (*next)(struct llama3_session *, const int32_t *, size_t, const struct llama3_generation *,
                struct llama3_result *, struct llama3_error *);
    struct llama3_generation slow = *generation;
    *(void **)&next = dlsym(RTLD_NEXT, "llama3_session_generate");
    real = generation;
    slow.on_text = on_text;
    slow.on_thought = generation->on_thought != NULL ? on_thought : NULL;
    slow.on_prompt = on_prompt;
    return next(session, prompt, n, &slow, result, err);
}

static bool is_full(int fd)
{
    const char *folder = getenv("FULL");
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = folder != NULL ? readlink(link, path, sizeof path - 1) : -1;
    path[n < 0 ? 0 : n] = '\0';
    return n > 0 && strncmp(path, folder, strlen(folder)) == 0 && path[strlen(folder)] == '/';
}

__attribute__((visibility("default"))) int fallocate(int fd, int mode, off_t offset, off_t length)
{
    int (*next)(int, int, off_t, off_t);
    *(void **)&next = dlsym(RTLD_NEXT, "fallocate");
    sleep_for("SLOW_RESERVE");
    if (is_full(fd)) {
        errno = ENOSPC;
        return -1;
    }
    return next(fd, mode, offset, length);
}

__attribute__((visibility("default"))) int fdatasync(int fd)
{
    static long calls;
    int (*next)(int);
    const char *full = getenv("FULL_SYNC"), *ends = getenv("SIGNAL_SYNC"), *of = getenv("SYNC_OF");
    char *number = NULL, link[40], path[4096];
    *(void **)&next = dlsym(RTLD_NEXT, "fdatasync");
    if (of != NULL) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t length = readlink(link, path, sizeof path - 1);
        path[length > 0 ? length : 0] = '\0';
        if (strstr(path, of) == NULL)
            return next(fd);
    }
    calls++;
    if (full != NULL && calls >= strtol(full, NULL, 10)) {
        errno = ENOSPC;
        return -1;
    }
    if (ends != NULL && strtol(ends, &number, 10) == calls) {
        sleep_for("SLOW_SIGNAL");
        raise((int)strtol(number + 1, NULL, 10));
    }
    return next(fd);
}

__attribute__((visibility("default"))) int getaddrinfo(const char *host, const char *service,
                                                       const struct addrinfo *hints,
                                                       struct addrinfo **found)
{
    int (*next)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    const char *resolve = getenv("RESOLVE");
    char list[256], *rest = list, *one;
    *(void **)&next = dlsym(RTLD_NEXT, "getaddrinfo");
    if (resolve == NULL)
        return next(host, service, hints, found);
    snprintf(list, sizeof list, "%s", resolve);
    while ((one = strsep(&rest, " ")) != NULL) {
        if (next(one, service, hints, found) != 0)
            return EAI_NONAME;
        while (*found != NULL)
            found = &(*found)->ai_next;
    }
    return 0;
}
