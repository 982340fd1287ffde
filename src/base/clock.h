/* SPDX-License-Identifier: MIT */
/*
 * clock.h: the monotonic clock. Deadlines and timed waits go by it alone: the time of day jumps
 * when someone sets it, and a wait for a moment in it would then last as long as the jump.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <pthread.h>
#include <time.h>

/* Seconds since some moment that stays the same. */
static inline double clock_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* That moment, in clock_seconds(), for pthread_cond_timedwait() on a condition that
 * clock_condition() initialized. */
static inline struct timespec clock_moment(double seconds)
{
    time_t whole = (time_t)seconds;
    return (struct timespec){whole, (long)(1e9 * (seconds - (double)whole))};
}

/* Initializes a condition whose timed waits go by this clock. */
static inline void clock_condition(pthread_cond_t *condition)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
}

#endif
