/* threads.h: one parallel region for a whole span of operations. The only file that knows OpenMP;
 * without it everything runs on the calling thread. */
#ifndef BASE_THREADS_H
#define BASE_THREADS_H

#include <stddef.h>

/* Calls fn(arg) on up to n threads at once. */
void threads_run(int n, void (*fn)(void *arg), void *arg);

/* Inside fn: which of how many this thread is. */
size_t thread_index(void);
size_t thread_count(void);
/* Waits until all threads are here; what they wrote can be read afterwards. */
void thread_barrier(void);
/* Of n things that the threads share, the next that none has taken; n once there is none left.
 * Every thread asks until it hears so, and waits at a barrier before it asks about other things. */
size_t thread_take(size_t n);

#endif
