#include "base/threads.h"

#include <sched.h>
#include <stdatomic.h>

#ifdef _OPENMP

#include <omp.h>

/* A few hundred waits a token: longer than a spin only if some other program has the processor,
 * and then the thread gives way to it. OpenMP's own barrier goes on spinning, against the very
 * thread it waits for: on a busy machine a token took forty times as long. */
enum { SPINS = 4000 };

struct team {
    void (*fn)(void *arg);
    void *arg;
    atomic_uint arrived, generation;
    /* Asked for so far. Nobody sets it back: each thread knows how many were asked for before. */
    _Alignas(64) atomic_size_t asked;
};

static _Thread_local struct team *team_here; /* of the region that this thread is in */
static _Thread_local size_t asked_before;

void threads_run(int n, void (*fn)(void *arg), void *arg)
{
    struct team team = {.fn = fn, .arg = arg};
#pragma omp parallel num_threads(n)
    {
        team_here = &team;
        asked_before = 0;
        team.fn(team.arg);
    }
}

size_t thread_index(void)
{
    return (size_t)omp_get_thread_num();
}

size_t thread_count(void)
{
    return (size_t)omp_get_num_threads();
}

void thread_barrier(void)
{
    struct team *t = team_here;
    unsigned generation = atomic_load_explicit(&t->generation, memory_order_acquire);
    if (atomic_fetch_add_explicit(&t->arrived, 1, memory_order_acq_rel) + 1 == thread_count()) {
        atomic_store_explicit(&t->arrived, 0, memory_order_relaxed);
        atomic_fetch_add_explicit(&t->generation, 1, memory_order_release);
        return;
    }
    for (int i = 0; atomic_load_explicit(&t->generation, memory_order_acquire) == generation; i++)
        if (i >= SPINS)
            sched_yield();
}

size_t thread_take(size_t n)
{
    size_t i = atomic_fetch_add_explicit(&team_here->asked, 1, memory_order_relaxed) - asked_before;
    if (i < n)
        return i;
    asked_before += n + thread_count(); /* each of whom asks in vain once */
    return n;
}

#else

static _Thread_local size_t asked;

void threads_run(int n, void (*fn)(void *arg), void *arg)
{
    (void)n;
    fn(arg);
}

size_t thread_index(void)
{
    return 0;
}

size_t thread_count(void)
{
    return 1;
}

void thread_barrier(void)
{
}

size_t thread_take(size_t n)
{
    if (asked < n)
        return asked++;
    asked = 0;
    return n;
}

#endif
