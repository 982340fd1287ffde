/* team.c: the threads of a span; the only file that knows OpenMP. */
#include <sched.h>

#include "backend/cpu/cpu.h"

#ifdef _OPENMP
#include <omp.h>

void team_run(size_t threads, void (*fn)(void *arg), void *arg)
{
#pragma omp parallel num_threads((int)threads)
    fn(arg);
}

struct team team_here(void)
{
    return (struct team){(size_t)omp_get_thread_num(), (size_t)omp_get_num_threads()};
}

#else

void team_run(size_t threads, void (*fn)(void *arg), void *arg)
{
    (void)threads;
    fn(arg);
}

struct team team_here(void)
{
    return (struct team){0, 1};
}

#endif

enum { SPINS = 4000 }; /* some 20 microseconds; a stage of a small model takes 10 to 100 */

void team_wait(struct team_barrier *b, size_t n_threads)
{
    unsigned generation = atomic_load_explicit(&b->generation, memory_order_acquire);
    if (atomic_fetch_add_explicit(&b->arrived, 1, memory_order_acq_rel) + 1 == n_threads) {
        atomic_store_explicit(&b->arrived, 0, memory_order_relaxed);
        atomic_fetch_add_explicit(&b->generation, 1, memory_order_release);
        return;
    }
    for (int i = 0; atomic_load_explicit(&b->generation, memory_order_acquire) == generation; i++)
        if (i >= SPINS)
            sched_yield();
}

struct each {
    struct cpu *cpu;
    team_body *body;
    const void *args;
};

static void run_body(void *arg)
{
    const struct each *each = arg;
    each->body(each->cpu, team_here(), each->args);
}

void cpu_each(struct cpu *cpu, bool wait, team_body *body, const void *args)
{
    struct each each = {cpu, body, args};
    if (cpu->alone) {
        team_run(cpu->threads, run_body, &each);
        return;
    }
    if (wait)
        team_wait(&cpu->barrier, team_here().size);
    run_body(&each);
}
