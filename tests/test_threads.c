/* SPDX-License-Identifier: MIT */
/*
 * test_threads: a team shares out every unit exactly once, whatever the number of threads and the
 * size of pieces; and a helper that is kept from its core loses its piece to the leader, so that
 * results are neither lost nor written twice.
 */
#include "config.h" /* sched_getaffinity */

#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "base/threads.h"
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
    TCase *tests = tcase_create("threads");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, every_unit_is_done_once);
    tcase_add_test(tests, a_team_closes_at_any_moment);
    tcase_add_test(tests, the_leader_keeps_its_cores);
    tcase_add_test(tests, a_piece_shares_with_nobody);
    tcase_add_test(tests, a_team_for_once);
    tcase_add_test(tests, pieces_are_done_over);
    return run_tests("threads", tests);
}
