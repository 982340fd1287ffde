/* SPDX-License-Identifier: MIT */
/*
 * threads.c: jobs, the pieces that threads take of them, and what becomes of a piece whose thread
 * lost its core. The leader publishes a job by its number. A helper that read an older number gets
 * no piece, because each slice of units carries the number too.
 */
#include "config.h"

#include "base/threads.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/numa.h"
#include "base/size.h"

/* Seconds. SPIN: how long a wait spins before it sleeps. PATIENCE: how late a helper may be with a
 * piece before the leader redoes it. */
static const double SPIN = 50e-6, PATIENCE = 20e-6;
/* A helper that was late counts as held up for HELD_UP_LEAST, and for twice as long each time it is
 * soon late again. Once means little: a page fault or an interrupt makes one late, too. */
static const double HELD_UP_LEAST = 0.01, HELD_UP_MOST = 0.5;
/* A helper that has kept its core for this long has one to itself. */
static const double ALONE = 6e-3, LOOK_AGAIN = 1e-3;
/* How long a thread's CPU clock is watched: it stands still while the thread has no core. */
static const double LOOK = 10e-6;

/* A number whose change threads wait for, on a cache line of its own. */
struct gate {
    _Alignas(64) atomic_uint number;
    atomic_bool sleeping; /* perhaps a thread sleeps */
};

/* The units of a job that a thread starts with. It takes them from the front, other threads from
 * the back. The upper half is the job's number, so that nobody takes units of a finished job. Then
 * follow the first grain left, and the end. */
struct slice {
    _Alignas(64) atomic_uint_fast64_t word;
};
enum { MOST_GRAINS = UINT16_MAX }; /* of a job */

/* Where a helper is: outside of pieces; in one; in one that the leader may take away from it; or in
 * one that the leader took away. */
enum phase { OUT, PLAIN, APART, ROBBED, PHASE_BITS = 2 };

/* How a thread watches its own core: how often other programs took it, when that was last seen, and
 * when to look again. */
struct core_watch {
    long n_taken;
    double taken, next;
};

struct helper {
    /* Units done of a job: the job's number in the upper half. */
    _Alignas(64) atomic_uint_fast64_t done;
    /* Phase, and the units of the piece: first and number, 31 bits each. */
    atomic_uint_fast64_t state;
    /* Written by the leader: other programs keep it off its core, it seems. */
    _Alignas(64) atomic_bool held_up;
    double held_up_for, held_up_until;
    struct core_watch watch;
    atomic_int number; /* of the thread, for Linux */
    cpu_set_t cpus;    /* where it may run */
    struct team *team;
    size_t index;
    pthread_t thread;
};

struct team {
    const struct numa *numa;
    size_t size;            /* threads, the leader included */
    struct helper *helpers; /* [size - 1] */
    struct slice *slices;   /* [size] */
    atomic_bool closing;
    size_t n_held_up; /* helpers that count as held up */
    size_t n_done_over;

    struct gate jobs; /* number of the job */
    struct gate done; /* opened by a helper that did a piece while the leader slept */

    /* The leader's, of the job: */
    double began;
    size_t units; /* that it did itself, */
    double spent; /* in so many seconds */
    struct core_watch watch;

    /* For helpers that have waited long: the leader's thread number, and whether it is computing.
     * On a cache line of its own: beside the job, which all helpers read, it cost 0.01. */
    _Alignas(64) atomic_int leader;
    atomic_bool computing;

    /* The job. Helpers that come late may read these of a later job, but then they get no piece. */
    _Alignas(64) _Atomic(piece_fn *) piece;
    _Atomic(void *) arg;
    atomic_int leader_cpu;  /* where it is led */
    atomic_size_t n, grain; /* units, and of a grain, */
    atomic_size_t grains;   /* of which there are so many */
    atomic_size_t least, most;
    atomic_bool may_be_apart;
};

/* The piece that this thread is in. */
static _Thread_local struct {
    bool inside;
    size_t index;
    struct helper *helper; /* NULL: the leader */
    size_t first, end;
    bool robbed;
} here;

/* ---- waiting --------------------------------------------------------------------------------- */

static void gate_open(struct gate *gate)
{
    atomic_fetch_add(&gate->number, 1);
    if (atomic_load(&gate->sleeping) && atomic_exchange(&gate->sleeping, false))
        syscall(SYS_futex, &gate->number, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static void gate_sleep(struct gate *gate, unsigned number)
{
    for (;;) {
        atomic_store(&gate->sleeping, true);
        if (atomic_load(&gate->number) != number)
            return;
        syscall(SYS_futex, &gate->number, FUTEX_WAIT_PRIVATE, number, NULL, NULL, 0);
    }
}

/* Spins for a while. True if the number has changed. */
static bool gate_spin(struct gate *gate, unsigned number)
{
    double end = 0;
    for (;;) {
        for (int i = 0; i < 16; i++) {
            if (atomic_load_explicit(&gate->number, memory_order_acquire) != number)
                return true;
            SPIN_HINT();
        }
        double now = clock_seconds();
        if (end == 0)
            end = now + SPIN;
        else if (now > end)
            return false;
    }
}

/* ---- pieces ---------------------------------------------------------------------------------- */

static uint64_t state_of(size_t first, size_t end, enum phase phase)
{
    return (uint64_t)first << 33 | (uint64_t)(end - first) << PHASE_BITS | phase;
}

static enum phase phase_of(uint64_t state)
{
    return state & ((1 << PHASE_BITS) - 1);
}

static uint64_t slice_word(unsigned job, uint64_t first, uint64_t end)
{
    return (uint64_t)job << 32 | first << 16 | end;
}

static size_t slice_start(size_t grains, size_t thread, size_t threads)
{
    return grains * thread / threads;
}

/* Takes grains of a slice that began at `start`. Its owner takes half of what is left from the
 * front, so that pieces get smaller. Others take from the back: as few as there may be, or half if
 * the owner hasn't begun. Such an owner perhaps has no core, and memory is read faster in long
 * pieces. */
static bool take(struct slice *slice, unsigned job, size_t start, size_t least, size_t most,
                 bool owner, size_t *first, size_t *end)
{
    uint64_t word = atomic_load_explicit(&slice->word, memory_order_acquire);
    for (;;) {
        size_t from = word >> 16 & UINT16_MAX, to = word & UINT16_MAX, left = to - from;
        if (word >> 32 != job || left == 0)
            return false;
        size_t count = owner || from == start ? (left + 1) / 2 : least;
        count = count < least ? least : count;
        count = count > most ? most : count;
        count = count > left ? left : count;
        *first = owner ? from : to - count;
        *end = *first + count;
        uint64_t rest = owner ? slice_word(job, *end, to) : slice_word(job, from, *first);
        if (atomic_compare_exchange_weak(&slice->word, &word, rest))
            return true;
    }
}

/* False if it is done over elsewhere. */
static bool do_piece(struct team *t, size_t first, size_t end)
{
    here.first = first;
    here.end = end;
    here.robbed = false;
    if (here.helper != NULL)
        atomic_store_explicit(&here.helper->state, state_of(first, end, PLAIN),
                              memory_order_relaxed);
    atomic_load_explicit(&t->piece, memory_order_relaxed)(
        atomic_load_explicit(&t->arg, memory_order_relaxed), first, end);
    return !here.robbed;
}

/* Whose slice a thread looks at next: those of its own node in turn, then those of all others. */
static size_t next_victim(const struct team *t, size_t index, size_t victim)
{
    size_t node = numa_node(t->numa, index), first = numa_start(t->numa, t->size, node);
    size_t end = numa_start(t->numa, t->size, node + 1);
    if (victim < first || victim >= end) { /* others */
        victim = victim + 1 < t->size ? victim + 1 : 0;
        return victim == first ? index : victim;
    }
    victim = victim + 1 < end ? victim + 1 : first;
    return victim != index ? victim : end < t->size ? end : first > 0 ? 0 : index;
}

/* Does pieces of a job until none are left to take; returns how many units. */
static size_t take_part(struct team *t, size_t index, unsigned job)
{
    size_t least = atomic_load_explicit(&t->least, memory_order_relaxed);
    size_t most = atomic_load_explicit(&t->most, memory_order_relaxed), first, end;
    size_t grains = atomic_load_explicit(&t->grains, memory_order_relaxed);
    size_t victim = index, units = 0;

    for (;;) {
        if (!take(&t->slices[victim], job, slice_start(grains, victim, t->size), least, most,
                  victim == index, &first, &end)) {
            victim = next_victim(t, index, victim);
            if (victim == index)
                return units;
            continue;
        }
        /* What was taken keeps the job from ending: all that follows is this job's. */
        size_t grain = atomic_load_explicit(&t->grain, memory_order_relaxed);
        size_t n = atomic_load_explicit(&t->n, memory_order_relaxed);
        first *= grain;
        end = end * grain < n ? end * grain : n;
        if (do_piece(t, first, end))
            units += end - first;
        if (here.helper != NULL) {
            atomic_store_explicit(&here.helper->state, OUT, memory_order_release);
            atomic_store(&here.helper->done, (uint64_t)job << 32 | units);
            if (atomic_load(&t->done.sleeping))
                gate_open(&t->done);
        }
    }
}

/* ---- inside a piece -------------------------------------------------------------------------- */

size_t thread_index(void)
{
    return here.index;
}

bool piece_apart(void)
{
    if (here.helper == NULL || !atomic_load_explicit(&here.helper->held_up, memory_order_relaxed))
        return false;
    atomic_store(&here.helper->state, state_of(here.first, here.end, APART));
    return true;
}

bool piece_commit(void)
{
    uint64_t state = state_of(here.first, here.end, APART);
    here.robbed = !atomic_compare_exchange_strong(&here.helper->state, &state,
                                                  state_of(here.first, here.end, PLAIN));
    return !here.robbed;
}

/* ---- cores ----------------------------------------------------------------------------------- */

static pid_t thread_number(void)
{
    static _Thread_local pid_t number;
    if (number == 0)
        number = (pid_t)syscall(SYS_gettid);
    return number;
}

/* To be called every millisecond or so while the machine is busy. */
static void watch_core(struct core_watch *watch, double now)
{
    struct rusage usage;
    if (now < watch->next || getrusage(RUSAGE_THREAD, &usage) != 0)
        return;
    if (usage.ru_nivcsw != watch->n_taken || now > watch->next + ALONE)
        watch->taken = now;
    watch->n_taken = usage.ru_nivcsw;
    watch->next = now + LOOK_AGAIN;
}

/* Whether a thread has no core: its clock stands. */
static bool has_no_core(pid_t thread)
{
    enum { PER_THREAD = 4, SCHED = 2 }; /* as Linux numbers the clocks of threads */
    clockid_t clock = (clockid_t)(~(unsigned)thread << 3 | PER_THREAD | SCHED);
    struct timespec before, now;
    if (clock_gettime(clock, &before) != 0)
        return false;
    double end = clock_seconds() + LOOK;
    while (clock_seconds() < end)
        SPIN_HINT();
    return clock_gettime(clock, &now) == 0 && now.tv_sec == before.tv_sec &&
           now.tv_nsec == before.tv_nsec;
}

/* This thread is about to sleep until another one has computed something. If another program has
 * that thread's core, and nobody else wants this core, the thread is moved here. `allowed`: where
 * it may run. Linux would move it too, but often only after tens of milliseconds. */
static void give_core(struct core_watch *mine, pid_t other, const cpu_set_t *allowed)
{
    cpu_set_t only;
    int cpu = sched_getcpu();
    if (cpu < 0 || !CPU_ISSET((size_t)cpu, allowed) || clock_seconds() < mine->taken + ALONE ||
        !has_no_core(other))
        return;
    CPU_ZERO(&only);
    CPU_SET((size_t)cpu, &only);
    sched_setaffinity(other, sizeof only, &only);
    sched_setaffinity(other, sizeof *allowed, allowed);
}

/* ---- the leader ------------------------------------------------------------------------------ */

static void note_held_up(struct team *t, struct helper *h, double now)
{
    bool soon = now < h->held_up_until + h->held_up_for;
    double longer = soon ? h->held_up_for * 2 : HELD_UP_LEAST;
    h->held_up_for = longer < HELD_UP_MOST ? longer : HELD_UP_MOST;
    h->held_up_until = now + h->held_up_for;
    if (!atomic_load_explicit(&h->held_up, memory_order_relaxed))
        t->n_held_up++;
    atomic_store_explicit(&h->held_up, true, memory_order_relaxed);
}

static void forget_held_up(struct team *t, double now)
{
    for (size_t i = 0; i + 1 < t->size; i++) {
        struct helper *h = &t->helpers[i];
        if (atomic_load_explicit(&h->held_up, memory_order_relaxed) && now > h->held_up_until) {
            atomic_store_explicit(&h->held_up, false, memory_order_relaxed);
            t->n_held_up--;
        }
    }
}

/* After `waited` seconds: redoes a late helper's piece if that is possible. Returns how many units
 * it did. */
static size_t do_over_late(struct team *t, struct helper *h, double now, double waited)
{
    uint64_t state = atomic_load(&h->state);
    enum phase phase = phase_of(state);
    size_t first = state >> 33, count = state >> PHASE_BITS & (UINT32_MAX >> 1);
    double expected = t->spent / (double)(t->units + 1) * (double)count;

    if ((phase != PLAIN && phase != APART) || waited < PATIENCE + 2 * expected)
        return 0;
    if (!(now < h->held_up_until - h->held_up_for / 2)) /* once for each time */
        note_held_up(t, h, now);
    if (phase == PLAIN ||
        !atomic_compare_exchange_strong(&h->state, &state, state_of(first, first + count, ROBBED)))
        return 0;
    t->n_done_over++;
    do_piece(t, first, first + count);
    return count;
}

static size_t helpers_done(struct team *t, unsigned job)
{
    size_t units = 0;
    for (size_t i = 0; i + 1 < t->size; i++) {
        uint64_t done = atomic_load(&t->helpers[i].done);
        if (done >> 32 == job)
            units += done & UINT32_MAX;
    }
    return units;
}

static bool await_spinning(struct team *t, unsigned job, size_t n)
{
    for (int i = 0; i < 16; i++) {
        if (helpers_done(t, job) == n)
            return true;
        SPIN_HINT();
    }
    return false;
}

static void await_sleeping(struct team *t, unsigned job, size_t n)
{
    static const struct timespec a_while = {.tv_nsec = 200000}; /* then those late are looked at */
    unsigned number = atomic_load(&t->done.number);
    atomic_store(&t->done.sleeping, true);
    if (helpers_done(t, job) != n)
        syscall(SYS_futex, &t->done.number, FUTEX_WAIT_PRIVATE, number, &a_while, NULL, 0);
    atomic_store(&t->done.sleeping, false);
}

/* Before the leader sleeps. */
static void help_late(struct team *t)
{
    for (size_t i = 0; i + 1 < t->size; i++) {
        struct helper *h = &t->helpers[i];
        if (phase_of(atomic_load(&h->state)) == PLAIN)
            give_core(&t->watch, atomic_load(&h->number), &h->cpus);
    }
}

/* Until helpers have done n units, or the leader has. */
static void await(struct team *t, unsigned job, size_t n)
{
    double began = 0;
    while (!await_spinning(t, job, n)) {
        double now = clock_seconds();
        if (began == 0) {
            began = now;
            t->spent = now - t->began;
        }
        for (size_t i = 0; i + 1 < t->size; i++)
            n -= do_over_late(t, &t->helpers[i], now, now - began);
        if (now - began > SPIN) {
            help_late(t);
            await_sleeping(t, job, n);
        }
    }
}

/* For the helpers to look at. */
static void show_computing(struct team *t, bool computing)
{
    atomic_store_explicit(&t->leader, thread_number(), memory_order_relaxed);
    atomic_store_explicit(&t->computing, computing, memory_order_release);
}

static void do_alone(size_t n, size_t most, piece_fn *piece, void *arg)
{
    for (size_t first = 0; first < n; first += most)
        piece(arg, first, n - first < most ? n : first + most);
}

void team_share(struct team *t, size_t n, size_t least, size_t most, bool may_be_apart,
                piece_fn *piece, void *arg)
{
    if (here.inside || t->size == 1 || n <= least) {
        do_alone(n, most, piece, arg);
        return;
    }
    t->began = clock_seconds();
    if (t->n_held_up > 0) {
        watch_core(&t->watch, t->began);
        forget_held_up(t, t->began);
    }
    show_computing(t, true);
    if (!may_be_apart && t->n_held_up + 1 == t->size) {
        do_alone(n, most, piece, arg);
        show_computing(t, false);
        return;
    }
    size_t grain = n / MOST_GRAINS + 1, grains = (n + grain - 1) / grain;
    unsigned job = atomic_load_explicit(&t->jobs.number, memory_order_relaxed) + 1;

    atomic_store_explicit(&t->piece, piece, memory_order_relaxed);
    atomic_store_explicit(&t->arg, arg, memory_order_relaxed);
    atomic_store_explicit(&t->n, n, memory_order_relaxed);
    atomic_store_explicit(&t->grain, grain, memory_order_relaxed);
    atomic_store_explicit(&t->grains, grains, memory_order_relaxed);
    atomic_store_explicit(&t->least, (least + grain - 1) / grain, memory_order_relaxed);
    atomic_store_explicit(&t->most, most < grain ? 1 : most / grain, memory_order_relaxed);
    for (size_t i = 0; i < t->size; i++)
        atomic_store_explicit(
            &t->slices[i].word,
            slice_word(job, slice_start(grains, i, t->size), slice_start(grains, i + 1, t->size)),
            memory_order_release);
    atomic_store_explicit(&t->may_be_apart, may_be_apart, memory_order_relaxed);
    atomic_store_explicit(&t->leader_cpu, sched_getcpu(), memory_order_relaxed);
    gate_open(&t->jobs);

    here.inside = true;
    t->units = take_part(t, 0, job);
    show_computing(t, false);
    if (t->units < n)
        await(t, job, n - t->units);
    here.inside = false;
}

bool team_settled(struct team *t)
{
    for (size_t i = 0; i + 1 < t->size; i++)
        if (phase_of(atomic_load(&t->helpers[i].state)) == ROBBED)
            return false;
    return true;
}

void team_settle(struct team *t)
{
    while (!team_settled(t))
        usleep(100);
}

size_t team_done_over(const struct team *t)
{
    return t->n_done_over;
}

/* ---- the helpers ----------------------------------------------------------------------------- */

/* Moves this thread off the leader's core: there it could only keep the leader waiting. */
static void make_way(struct helper *h)
{
    int cpu = atomic_load_explicit(&h->team->leader_cpu, memory_order_relaxed);
    if (cpu < 0 || sched_getcpu() != cpu)
        return;
    cpu_set_t cpus = h->cpus;
    if (CPU_COUNT(&cpus) < 2)
        return;
    CPU_CLR((size_t)cpu, &cpus);
    sched_setaffinity(0, sizeof cpus, &cpus);
}

static void await_job(struct helper *h, unsigned number)
{
    struct team *t = h->team;
    if (gate_spin(&t->jobs, number))
        return;
    /* One helper at a time: another would take the single core, where the leader is being moved to,
     * for all that it may run on, and leave it there. Nor on several nodes, where the leader may be
     * going back to the CPUs that its caller had. */
    static atomic_flag giving = ATOMIC_FLAG_INIT;
    pid_t leader = atomic_load_explicit(&t->leader, memory_order_relaxed);
    cpu_set_t allowed;
    if (t->numa == NULL && atomic_load(&t->computing) && !atomic_flag_test_and_set(&giving)) {
        if (sched_getaffinity(leader, sizeof allowed, &allowed) == 0)
            give_core(&h->watch, leader, &allowed);
        atomic_flag_clear(&giving);
    }
    gate_sleep(&t->jobs, number);
}

static void *help(void *arg)
{
    struct helper *h = arg;
    struct team *t = h->team;
    here.inside = true;
    here.index = h->index;
    here.helper = h;
    atomic_store(&h->number, thread_number());
    if (t->numa != NULL)
        sched_setaffinity(0, sizeof h->cpus, &h->cpus);
    for (unsigned job = 0;;) {
        if (atomic_load_explicit(&h->held_up, memory_order_relaxed))
            watch_core(&h->watch, clock_seconds());
        await_job(h, job);
        /* In this order: a number that the end of the team has counted shows `closing` as well. */
        job = atomic_load_explicit(&t->jobs.number, memory_order_acquire);
        if (atomic_load(&t->closing))
            return NULL;
        if (atomic_load_explicit(&t->may_be_apart, memory_order_relaxed) ||
            !atomic_load_explicit(&h->held_up, memory_order_relaxed))
            take_part(t, h->index, job);
        make_way(h);
    }
}

static int start(struct team *t, size_t n, struct llama3_error *err)
{
    cpu_set_t cpus;
    if (sched_getaffinity(0, sizeof cpus, &cpus) != 0)
        CPU_ZERO(&cpus);
    /* The application's signals are for the application's threads. */
    sigset_t all, before;
    int failed = 0;
    sigfillset(&all);
    sigdelset(&all, SIGBUS); /* a fault: blocked, it would end the process whatever its handler */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (t->size < n && failed == 0) {
        struct helper *h = &t->helpers[t->size - 1];
        h->team = t;
        h->index = t->size;
        h->cpus = t->numa != NULL ? *numa_cpus(t->numa, numa_node(t->numa, h->index)) : cpus;
        failed = pthread_create(&h->thread, NULL, help, h);
        t->size += failed == 0;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed != 0)
        return error_set(err, LLAMA3_ENOMEM,
                         "expected to start %zu threads that compute, found that %zu can be", n,
                         t->size);
    return 0;
}

struct team *team_open(int n, const struct numa *numa, struct llama3_error *err)
{
    size_t size = (size_t)n;
    struct team *t = size_alloc_aligned(1, sizeof *t);
    if (t != NULL) {
        t->size = 1;
        t->numa = numa;
        t->helpers = size_alloc_aligned(size, sizeof *t->helpers);
        t->slices = size_alloc_aligned(size, sizeof *t->slices);
    }
    if (t == NULL || t->helpers == NULL || t->slices == NULL)
        error_memory(err, "a team of threads", size * sizeof *t->helpers);
    else if (start(t, size, err) == 0)
        return t;
    team_close(t);
    return NULL;
}

void team_close(struct team *t)
{
    if (t == NULL)
        return;
    atomic_store(&t->closing, true);
    gate_open(&t->jobs);
    for (size_t i = 0; i + 1 < t->size; i++)
        pthread_join(t->helpers[i].thread, NULL);
    free(t->helpers);
    free(t->slices);
    free(t);
}

int threads_share(int threads, size_t n, size_t least, size_t most, piece_fn *piece, void *arg,
                  struct llama3_error *err)
{
    struct team *team = team_open(threads, NULL, err);
    if (team == NULL)
        return -1;
    team_share(team, n, least, most, false, piece, arg);
    team_close(team);
    return 0;
}
