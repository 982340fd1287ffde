/* team.c: the threads of a span; the only file that knows OpenMP. */
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

void team_barrier(void)
{
#pragma omp barrier
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

void team_barrier(void)
{
}

#endif

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
        team_barrier();
    run_body(&each);
}
