/* SPDX-License-Identifier: MIT */
/*
 * threads.h: a team of threads that share work.
 *
 * One thread leads: it offers a job of many small pieces, does pieces itself, and goes on when all
 * are done. The others help. Whoever has a core takes the next piece, so a thread that another
 * program keeps off its core holds up only the piece it is in. If that happens often, helpers do
 * their pieces apart (piece_apart()), and the leader redoes a piece whose helper lost its core.
 * Waits spin for tens of microseconds and then sleep, so nobody spins against another program.
 */
#ifndef BASE_THREADS_H
#define BASE_THREADS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

struct numa;
struct team;

/* Units [first, end) of a job. */
typedef void piece_fn(void *arg, size_t first, size_t end);

/* A team of n >= 1 threads: the one that calls team_share(), and n - 1 that are started here. NULL
 * and err if they can't be. On several memory nodes (base/numa.h, NULL: one), those that are
 * started stay on their nodes' CPUs, and take from threads of their own node first; the one that
 * calls is meant to be on node 0 then. The nodes must outlive the team. */
struct team *team_open(int n, const struct numa *numa, struct llama3_error *err);
void team_close(struct team *team);

/* Calls piece for pieces that together are units [0, n), in any order and on any threads of the
 * team; returns when all are done. A piece has at least `least` units, where there are so many, and
 * at most `most`. One thread at a time may call it. Inside a piece it does all of the job itself.
 */
void team_share(struct team *team, size_t n, size_t least, size_t most, bool may_be_apart,
                piece_fn *piece, void *arg);

/* team_done_over(): how many pieces were redone so far. team_settled(): whether no thread is still
 * in such a piece, where it reads what outlives the job. team_settle() waits for that. */
size_t team_done_over(const struct team *team);
bool team_settled(struct team *team);
void team_settle(struct team *team);

/* The same with a team that is opened for this job alone. 0, or -1 if it can't be started. */
int threads_share(int threads, size_t n, size_t least, size_t most, piece_fn *piece, void *arg,
                  struct llama3_error *err);

/* Inside a piece: which thread of the team this is, 0 the leader. */
size_t thread_index(void);

/* A piece may be done apart if its results depend on its units alone:
 *
 *     copy what the job may change after its end;
 *     bool apart = piece_apart();
 *     compute into memory of this thread's own if apart, else in place;
 *     if (apart && piece_commit())
 *         copy the results to their place;
 *
 * From piece_apart() to piece_commit() it reads only its copies and what outlives the job. The
 * leader may do the piece over meanwhile: then piece_commit() is false, and the results are
 * discarded. piece_apart() is false when the machine isn't busy, and on the leader. */
bool piece_apart(void);
bool piece_commit(void);

#endif
