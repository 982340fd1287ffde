/* SPDX-License-Identifier: MIT */
#include "tool/progress.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "tool/say.h"
#include "tool/terminal.h"

enum {
    BAR_WIDTH = 24,
    BESIDE = BAR_WIDTH + 32 /* columns of all that a bar is shown with */
};

/* A thread draws, because what is waited for (a model being opened, a pass) calls nothing. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t stop;
    pthread_t thread;
    bool running, stopping, bar;
    const char *what;
    size_t first, done, total; /* first: done when the wait began */
    double start, last;        /* seconds: of the wait, of the last update */
} state = {.lock = PTHREAD_MUTEX_INITIALIZER};

static const double DELAY = 0.5, INTERVAL = 0.1;

/* What is waited for, in `room` columns. Of a path that is too long, the end says more. */
static void put_what(char *out, size_t size, size_t room)
{
    const char *what = state.what, *word = strchr(what, ' ');
    size_t length = strlen(what), first = word != NULL ? (size_t)(word - what) + 1 : 0;
    if (length <= room || room < first + 8) {
        snprintf(out, size, "%s", what);
        return;
    }
    const char *end = what + length - (room - first - 3);
    while (((unsigned char)*end & 0xc0) == 0x80) /* within a character */
        end++;
    snprintf(out, size, "%.*s...%s", (int)first, what, end);
}

/* Bytes show a bar, tokens their count. */
static size_t put_done(char *line, size_t size, const char *what)
{
    char bar[BAR_WIDTH + 1];
    size_t filled = (size_t)((double)BAR_WIDTH * (double)state.done / (double)state.total);
    if (!state.bar)
        return (size_t)snprintf(line, size, "%s: %zu of %zu tokens", what, state.done, state.total);
    for (size_t i = 0; i < BAR_WIDTH; i++)
        bar[i] = i < filled ? '#' : '.';
    bar[BAR_WIDTH] = '\0';
    return (size_t)snprintf(line, size, "%s [%s] %.0f %%", what, bar,
                            100 * (double)state.done / (double)state.total);
}

static void put_rate(char *line, size_t size, double rate)
{
    if (state.bar)
        snprintf(line, size, ", %.0f MB/s", rate / 1e6);
    else
        snprintf(line, size, ", %.*f tokens/s", rate < 10 ? 1 : 0, rate);
}

static void put_progress(char *line, size_t size, const char *what, double now)
{
    /* Updates are rare while passes take long. The rate is that of the last update, and the time
     * left counts down in between. */
    double rate = state.last > state.start
                      ? (double)(state.done - state.first) / (state.last - state.start)
                      : 0;
    size_t used = put_done(line, size, what);
    if (rate <= 0 || used >= size)
        return;
    char left[UNIT_SIZE], speed[64];
    double more = (double)(state.total - state.done) / rate - (now - state.last);
    put_rate(speed, sizeof speed, rate);
    snprintf(line + used, size - used, "%s, %s", speed, unit_left(left, more > 0 ? more : 0));
}

static void draw(double now)
{
    char line[512], what[256];
    const char *const lines[] = {line};
    size_t columns, rows, beside = state.total == 0 ? 10 : BESIDE;
    terminal_size(&columns, &rows);
    put_what(what, sizeof what, columns > beside ? columns - beside : 0);
    if (state.total == 0)
        snprintf(line, sizeof line, "%s, %.0f s", what, now - state.start);
    else
        put_progress(line, sizeof line, what, now);
    terminal_draw(lines, 1);
}

static void *draw_until_stopped(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&state.lock);
    for (double next = state.start + DELAY; !state.stopping;) {
        struct timespec until = clock_moment(next);
        pthread_cond_timedwait(&state.stop, &state.lock, &until);
        double now = clock_seconds();
        if (!state.stopping && now >= next) {
            draw(now);
            next = now + INTERVAL;
        }
    }
    pthread_mutex_unlock(&state.lock);
    terminal_erase();
    return NULL;
}

static void start(const char *what, size_t done, size_t total, bool bar)
{
    if (say_quiet || !terminal_can_draw())
        return;
    clock_condition(&state.stop);
    state.what = what;
    state.bar = bar;
    state.first = state.done = done;
    state.total = total;
    state.stopping = false;
    state.start = state.last = clock_seconds();
    state.running = pthread_create(&state.thread, NULL, draw_until_stopped, NULL) == 0;
    if (!state.running)
        pthread_cond_destroy(&state.stop);
}

void progress_start(const char *what, size_t done, size_t total)
{
    start(what, done, total, false);
}

void progress_start_bytes(const char *what, size_t total)
{
    start(what, 0, total, true);
}

void progress_update(size_t done, size_t total)
{
    if (!state.running)
        return;
    pthread_mutex_lock(&state.lock);
    state.last = clock_seconds();
    if (state.total == 0 &&
        total > 0) { /* what was done before the total was known says nothing about the rate */
        state.first = done;
        state.start = state.last;
    }
    state.done = done;
    state.total = total;
    pthread_mutex_unlock(&state.lock);
}

void progress_stop(void)
{
    if (!state.running)
        return;
    pthread_mutex_lock(&state.lock);
    state.stopping = true;
    pthread_cond_signal(&state.stop);
    pthread_mutex_unlock(&state.lock);
    pthread_join(state.thread, NULL);
    pthread_cond_destroy(&state.stop);
    state.running = false;
}
