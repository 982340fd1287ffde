/* SPDX-License-Identifier: MIT */
/*
 * test_threads: a team shares out every unit exactly once, whatever the number of threads and the
 * size of pieces; a slow thread does less than the others, which do its part too; and a helper that
 * is kept from its core loses its piece to the leader, so that results are neither lost nor written
 * twice.
 */
#include "config.h" /* sched_getaffinity */

#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/threads.h"
#include "nodes.h"
#include "run.h"

enum { MOST_THREADS = 9 };

static void pause_for(double milliseconds)
{
    struct timespec t = {.tv_nsec = (long)(milliseconds * 1e6)};
    nanosleep(&t, NULL);
}

/* ---- every unit once ------------------------------------------------------------------------- */

struct counts {
    atomic_uchar *times; /* [n] that a unit was done */
    size_t n, least, most;
    atomic_bool wrong;
};

static void count(void *arg, size_t first, size_t end)
{
    struct counts *c = arg;
    size_t units = end - first;
    if (end > c->n || first >= end || units > c->most || thread_index() >= MOST_THREADS)
        atomic_store(&c->wrong, true);
    for (size_t i = first; i < end && i < c->n; i++)
        atomic_fetch_add(&c->times[i], 1);
}

static bool each_once(struct team *team, size_t n, size_t least, size_t most)
{
    struct counts c = {calloc(n + 1, 1), n, least, most, false};
    bool good = c.times != NULL;
    team_share(team, n, least, most, false, count, &c);
    for (size_t i = 0; i < n; i++)
        good &= atomic_load(&c.times[i]) == 1;
    free(c.times);
    return good && !atomic_load(&c.wrong);
}

START_TEST(every_unit_is_done_once)
{
    static const size_t counts[] = {0, 1, 2, 3, 7, 64, 65, 1000, 65535, 65536, 200001};
    for (int threads = 1; threads <= MOST_THREADS; threads += 2) {
        struct llama3_error err;
        struct team *team = team_open(threads, NULL, &err);
        ck_assert_ptr_nonnull(team);
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
            for (size_t least = 1; least <= 16; least *= 4) {
                ck_assert(each_once(team, counts[i], least, counts[i] + 1));
                ck_assert(each_once(team, counts[i], least, least + 3));
            }
        for (int i = 0; i < 2000; i++)
            ck_assert(each_once(team, 40, 1, 40));
        team_close(team);
    }
}
END_TEST

static void share_again(void *arg, size_t first, size_t end)
{
    struct team *team = arg;
    for (size_t i = first; i < end; i++)
        if (!each_once(team, 100, 1, 100))
            abort();
}

static void nothing(void *arg, size_t first, size_t end)
{
    (void)arg;
    (void)first;
    (void)end;
}

/* Helpers that are between two jobs, wherever they are, notice that the team is closed. */
START_TEST(a_team_closes_at_any_moment)
{
    struct llama3_error err;
    for (int i = 0; i < 40000; i++) {
        struct team *team = team_open(2 + i % 2, NULL, &err);
        ck_assert_ptr_nonnull(team);
        for (int job = 0; job < i % 4; job++)
            team_share(team, 2, 1, 2, false, nothing, NULL);
        team_close(team);
    }
}
END_TEST

static void short_work(void *arg, size_t first, size_t end)
{
    (void)arg;
    pause_for(0.01 * (double)(end - first));
}

/* Helpers lend their cores to a leader that has none. However many do so at once, afterwards it may
 * run where it might before. */
START_TEST(the_leader_keeps_its_cores)
{
    struct llama3_error err;
    cpu_set_t before, after;
    ck_assert_int_eq(sched_getaffinity(0, sizeof before, &before), 0);
    for (int i = 0; i < 8; i++) {
        struct team *team = team_open(400, NULL, &err);
        ck_assert_ptr_nonnull(team);
        for (int job = 0; job < 60; job++) {
            team_share(team, 2000, 1, 3, false, short_work, NULL);
            pause_for(0.2);
        }
        team_close(team); /* nobody moves the leader any more */
    }
    ck_assert_int_eq(sched_getaffinity(0, sizeof after, &after), 0);
    ck_assert_int_eq(CPU_COUNT(&after), CPU_COUNT(&before));
}
END_TEST

START_TEST(a_piece_shares_with_nobody)
{
    struct llama3_error err;
    struct team *team = team_open(3, NULL, &err);
    team_share(team, 20, 1, 1, false, share_again, team);
    team_close(team);
}
END_TEST

START_TEST(a_team_for_once)
{
    struct counts c = {calloc(50, 1), 50, 1, 50, false};
    struct llama3_error err;
    ck_assert_int_eq(threads_share(4, 50, 1, 50, count, &c, &err), 0);
    for (size_t i = 0; i < 50; i++)
        ck_assert_uint_eq(atomic_load(&c.times[i]), 1);
    free(c.times);
}
END_TEST

/* ---- unequal threads ------------------------------------------------------------------------- */

enum { SHARED = 1200, PIECE = 50 };

/* One thread is slow, by counts: after a piece it waits until the others have done `times` as many
 * units as it has, or all. */
struct unequal {
    size_t slow, times;
    atomic_size_t its, others; /* units */
    atomic_bool gave_up;
};

static void do_unequally(void *arg, size_t first, size_t end)
{
    struct unequal *u = arg;
    if (thread_index() != u->slow) {
        pause_for(0.02); /* so that the slow thread gets a piece, too */
        atomic_fetch_add(&u->others, end - first);
        return;
    }
    double last = clock_seconds() + 20;
    size_t its = atomic_fetch_add(&u->its, end - first) + end - first, others;
    while (others = atomic_load(&u->others),
           others < u->times * its && others + its < SHARED && !atomic_load(&u->gave_up)) {
        pause_for(0.1);
        if (clock_seconds() > last)
            atomic_store(&u->gave_up, true);
    }
}

/* Whichever thread is slow: it does a part as its speed is, but for a piece; the others do the rest
 * without waiting for it. */
static void expect_parts(const struct numa *numa, int threads, size_t times)
{
    struct llama3_error err;
    struct team *team = team_open(threads, numa, &err);
    ck_assert_ptr_nonnull(team);
    for (size_t slow = 0; slow < (size_t)threads; slow++) {
        struct unequal u = {.slow = slow, .times = times};
        /* A helper may come too late for a job on a busy machine. */
        for (int job = 0; job < 1000 && atomic_load(&u.its) == 0; job++) {
            atomic_store(&u.others, 0);
            team_share(team, SHARED, 1, PIECE, false, do_unequally, &u);
        }
        size_t its = atomic_load(&u.its), others = atomic_load(&u.others);
        ck_assert_msg(!atomic_load(&u.gave_up), "%zu units were left to thread %zu of %d",
                      SHARED - others, slow, threads);
        ck_assert_uint_gt(its, 0);
        ck_assert_uint_eq(its + others, SHARED);
        ck_assert_uint_le(its, SHARED / (1 + times) + PIECE);
    }
    team_close(team);
}

START_TEST(slow_threads_do_less)
{
    static const struct machine two = {"0-1", {"0-1", "2-3"}};
    char note[NUMA_NOTE];
    for (int threads = 2; threads <= 5; threads++)
        for (size_t times = 2; times <= 2048; times *= 32) { /* 2, 64, or as good as stuck */
            struct numa *numa = numa_invented(&two, "0123", (size_t)threads, note);
            ck_assert_ptr_nonnull(numa);
            expect_parts(NULL, threads, times);
            expect_parts(numa, threads, times); /* parts of another node as well */
            numa_close(numa);
        }
}
END_TEST

/* ---- helpers that are held up ---------------------------------------------------------------- */

enum { UNITS = 64 };

struct results {
    int round;
    int y[UNITS]; /* written once a round, by the leader or by a helper that may commit */
    atomic_int apart, lost, twice;
};

/* Helpers sleep in a piece now and then, as if another program had their core. */
static void fill(void *arg, size_t first, size_t end)
{
    struct results *r = arg;
    int round = r->round, mine[UNITS];
    bool apart = piece_apart();

    for (size_t i = first; i < end; i++)
        mine[i] = round * UNITS + (int)i;
    if (thread_index() == 0)
        pause_for(0.05); /* so that helpers get pieces even where the machine is busy */
    else if (round % 3 == 0)
        pause_for(2);
    atomic_fetch_add(&r->apart, apart);
    if (apart && !piece_commit()) {
        atomic_fetch_add(&r->lost, 1);
        return;
    }
    for (size_t i = first; i < end; i++) {
        if (r->y[i] == mine[i])
            atomic_fetch_add(&r->twice, 1);
        r->y[i] = mine[i];
    }
}

START_TEST(pieces_are_done_over)
{
    struct results r = {0};
    struct llama3_error err;
    struct team *team = team_open(3, NULL, &err);

    /* A machine may be too busy for helpers to come at all: some rounds are enough elsewhere. */
    for (r.round = 1; r.round <= 20000 && atomic_load(&r.lost) < 5; r.round++) {
        team_share(team, UNITS, 1, 4, true, fill, &r);
        for (int i = 0; i < UNITS; i++)
            ck_assert_int_eq(r.y[i], r.round * UNITS + i);
        if (r.round % 5 == 0)
            team_settle(team);
    }
    team_settle(team);
    ck_assert(team_settled(team));
    ck_assert_int_gt(atomic_load(&r.apart), 0);
    ck_assert_int_gt(atomic_load(&r.lost), 0);
    ck_assert_int_eq((int)team_done_over(team), atomic_load(&r.lost));
    ck_assert_int_eq(atomic_load(&r.twice), 0);
    team_close(team);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("threads"), *storms = tcase_create("storms");
    tcase_set_timeout(tests, 120);
    tcase_set_timeout(storms, 120);
    tcase_add_test(tests, every_unit_is_done_once);
    tcase_add_test(storms, a_team_closes_at_any_moment);
    tcase_add_test(storms, the_leader_keeps_its_cores);
    tcase_add_test(tests, a_piece_shares_with_nobody);
    tcase_add_test(tests, a_team_for_once);
    tcase_add_test(tests, slow_threads_do_less);
    tcase_add_test(tests, pieces_are_done_over);
    return run_cases("threads", (TCase *const[]){tests, storms, NULL});
}
