/* SPDX-License-Identifier: MIT */
#include "tool/ending.h"

#include <signal.h>
#include <stddef.h>
#include <time.h>

#include "tool/say.h"

enum { PATIENCE = 2 }; /* seconds */

static volatile sig_atomic_t caught;
static time_t caught_at;

static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
enum { N_SIGNALS = sizeof signals / sizeof *signals };

/* A second signal right after the first is the same request: `timeout` sends two. */
static void on_signal(int signal)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (caught == 0) {
        caught_at = now.tv_sec;
        caught = signal;
    } else if (now.tv_sec - caught_at >= PATIENCE) {
        sigaction(signal, &action, NULL);
        raise(signal);
    }
}

void ending_install(void)
{
    struct sigaction action = {.sa_handler = on_signal}, old;
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < N_SIGNALS; i++)
        if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
            sigaction(signals[i], &action, NULL);
}

void ending_restore(void)
{
    struct sigaction action = {.sa_handler = SIG_DFL}, old;
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < N_SIGNALS; i++)
        if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler == on_signal)
            sigaction(signals[i], &action, NULL);
}

int ending_signal(void)
{
    return caught;
}

int ending_status(void)
{
    return caught != 0 ? 128 + caught : STATUS_FAILED;
}
