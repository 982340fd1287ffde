/* SPDX-License-Identifier: MIT */
#include "tool/interrupt.h"

#include <signal.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#include "tool/say.h"

static struct llama3_session *_Atomic answering;
static atomic_bool seen, deferred, only_answers;
static time_t seen_at;

enum { PATIENCE = 2 }; /* seconds */

/* Notes a ^C; true if the first one came some time ago. One right after the first is the same
 * request: `timeout` sends two. */
static bool later(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (!seen)
        seen_at = now.tv_sec;
    seen = true;
    return now.tv_sec - seen_at >= PATIENCE;
}

static void on_interrupt(int signal)
{
    (void)signal;
    struct llama3_session *session = answering;
    if (session != NULL) {
        seen = true;
        llama3_session_cancel(session);
        return;
    }
    if (only_answers)
        seen = true;
    if (only_answers || (deferred && !later()))
        return;
    /* The shell's prompt belongs on a line of its own. */
    ssize_t n = isatty(STDERR_FILENO) ? write(STDERR_FILENO, "\n", 1) : 0;
    (void)n;
    _exit(STATUS_INTERRUPTED);
}

void interrupt_install(void)
{
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = SA_RESTART}, old;
    sigemptyset(&action.sa_mask);
    /* If SIGINT was ignored at the start (nohup, a script's `&`), it stays ignored. */
    if (sigaction(SIGINT, NULL, &old) == 0 && old.sa_handler != SIG_IGN)
        sigaction(SIGINT, &action, NULL);
}

void interrupt_begin(struct llama3_session *session)
{
    seen = false;
    answering = session;
}

void interrupt_defer(void)
{
    seen = false;
    deferred = true;
}

void interrupt_only_answers(void)
{
    only_answers = true;
}

bool interrupt_seen(void)
{
    return seen;
}

void interrupt_end(void)
{
    answering = NULL;
    deferred = false;
}
