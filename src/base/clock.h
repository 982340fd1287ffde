/* SPDX-License-Identifier: MIT */
/*
 * clock.h: the monotonic clock. Deadlines and timed waits use no other: the time of day jumps when
 * it is set, and a wait would last as long as the jump.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <pthread.h>
#include <time.h>

/* Seconds since a fixed moment. */
static inline double clock_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* A moment of clock_seconds() for pthread_cond_timedwait(), on a condition from
 * clock_condition(). */
static inline struct timespec clock_moment(double seconds)
{
    time_t whole = (time_t)seconds;
    return (struct timespec){whole, (long)(1e9 * (seconds - (double)whole))};
}

/* Initialises a condition whose timed waits use this clock. */
static inline void clock_condition(pthread_cond_t *condition)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
}

#endif
