/* SPDX-License-Identifier: MIT */
#include "config.h" /* MAP_ANONYMOUS */

#include "base/guard.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/size.h"

struct guard {
    uintptr_t begin, end; /* whole pages */
    size_t size;          /* of the file when it was opened */
    char *path;
    atomic_bool damaged;
    struct guard *next;
};

/* The handler takes the lock too. That is safe: it runs where a mapping is read, and nobody reads
 * one with the lock held. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct guard *guards;
static _Atomic uint64_t n_replaced;
static bool installed;
static struct sigaction before;

struct guard *guard_add(const void *data, size_t size, const char *path)
{
    struct guard *guard = size_alloc(1, sizeof *guard);
    char *copy = strdup(path);
    if (guard == NULL || copy == NULL) {
        free(guard);
        free(copy);
        return NULL;
    }
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    guard->begin = (uintptr_t)data;
    guard->end = guard->begin + (size + page - 1) / page * page;
    guard->size = size;
    guard->path = copy;
    pthread_mutex_lock(&lock);
    guard->next = guards;
    guards = guard;
    pthread_mutex_unlock(&lock);
    return guard;
}

void guard_remove(struct guard *guard)
{
    if (guard == NULL)
        return;
    pthread_mutex_lock(&lock);
    struct guard **at = &guards;
    while (*at != guard)
        at = &(*at)->next;
    *at = guard->next;
    pthread_mutex_unlock(&lock);
    free(guard->path);
    free(guard);
}

uint64_t guard_count(void)
{
    return atomic_load_explicit(&n_replaced, memory_order_relaxed);
}

const char *guard_path(const struct guard *guard)
{
    return guard->path;
}

int guard_check(const struct guard *guard, struct llama3_error *err)
{
    struct stat st;
    if (guard == NULL || !atomic_load_explicit(&guard->damaged, memory_order_relaxed))
        return 0;
    if (stat(guard->path, &st) == 0 && (uint64_t)st.st_size < guard->size)
        return error_set(err, LLAMA3_EIO,
                         "%s: expected %zu bytes, found %llu: it was cut short while it was open",
                         guard->path, guard->size, (unsigned long long)st.st_size);
    return error_set(err, LLAMA3_EIO,
                     "%s: expected %zu bytes, found some that can't be read any more: it was "
                     "changed while it was open, or its disk fails",
                     guard->path, guard->size);
}

/* ---- the handler ------------------------------------------------------------------------- */

/* Zeros from the page of an address to the end of its mapping: a file is cut at its end. */
static bool replace(uintptr_t address)
{
    bool done = false;
    uintptr_t page = address / (uintptr_t)sysconf(_SC_PAGESIZE) * (uintptr_t)sysconf(_SC_PAGESIZE);
    pthread_mutex_lock(&lock);
    struct guard *guard = guards;
    while (guard != NULL && (address < guard->begin || address >= guard->end))
        guard = guard->next;
    if (guard != NULL) {
        done = mmap((void *)page, guard->end - page, PROT_READ,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) != MAP_FAILED;
        atomic_store_explicit(&guard->damaged, true, memory_order_relaxed);
        atomic_fetch_add_explicit(&n_replaced, 1, memory_order_relaxed);
    }
    pthread_mutex_unlock(&lock);
    return done;
}

/* To the previous handler. By default the process ends; a fault does so by happening again. */
static void pass_on(int signal, siginfo_t *info, void *context)
{
    bool fault = info->si_code > 0;
    if (before.sa_flags & SA_SIGINFO) {
        before.sa_sigaction(signal, info, context);
    } else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
        before.sa_handler(signal);
    } else if (fault || before.sa_handler == SIG_DFL) {
        struct sigaction action = {.sa_handler = SIG_DFL};
        sigemptyset(&action.sa_mask);
        sigaction(signal, &action, NULL);
        if (!fault)
            raise(signal);
    }
}

static void on_sigbus(int signal, siginfo_t *info, void *context)
{
    int saved = errno;
    if (info->si_code != BUS_ADRERR || !replace((uintptr_t)info->si_addr))
        pass_on(signal, info, context);
    errno = saved;
}

int guard_install(struct llama3_error *err)
{
    struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigemptyset(&action.sa_mask);
    pthread_mutex_lock(&lock);
    int result = installed ? 0 : sigaction(SIGBUS, &action, &before);
    installed = installed || result == 0;
    pthread_mutex_unlock(&lock);
    return result == 0 ? 0 : error_set(err, LLAMA3_EIO, "SIGBUS: %s", strerror(errno));
}
