/* SPDX-License-Identifier: MIT */
#include "config.h" /* pwrite, mprotect */

#include "arrival.h"

#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "engine/calibration_text.h"
#include "tiny.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(data, n)   ((void)(data), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(data, n) ((void)(data), (void)(n))
#endif

enum { PIECE = 3000, POISON = 0xff };

/* Which arrival sees what the program under test writes; the linker wraps these. */
static struct arrival *watched;
ssize_t __real_pwrite(int fd, const void *bytes, size_t n, off_t at);
ssize_t __wrap_pwrite(int fd, const void *bytes, size_t n, off_t at);
int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);

ssize_t __wrap_pwrite(int fd, const void *bytes, size_t n, off_t at)
{
    if (watched != NULL)
        watched->unsynced = true;
    return __real_pwrite(fd, bytes, n, at);
}

int __wrap_fdatasync(int fd)
{
    if (watched != NULL)
        watched->unsynced = false;
    return __real_fdatasync(fd);
}

uint8_t *arrival_read(const char *path, size_t *size)
{
    struct stat st;
    FILE *file = fopen(path, "rb");
    ck_assert_msg(file != NULL && fstat(fileno(file), &st) == 0, "%s", path);
    *size = (size_t)st.st_size;
    uint8_t *bytes = malloc(*size + 1);
    ck_assert_uint_eq(fread(bytes, 1, *size, file), *size);
    fclose(file);
    return bytes;
}

/* ---- the folder ------------------------------------------------------------------------------ */

static void put(const struct arrival_file *f, size_t at, size_t n, bool poison)
{
    uint8_t *bytes = malloc(n + 1);
    if (poison)
        memset(bytes, POISON, n);
    else
        memcpy(bytes, f->bytes + at, n);
    ck_assert_int_eq(__real_pwrite(f->fd, bytes, n, (off_t)at), (ssize_t)n);
    free(bytes);
}

/* What is away of a part. */
static void arrive(struct arrival_file *f, size_t at, size_t n)
{
    for (size_t i = at, end; i < at + n; i = end) {
        for (end = i + 1; end < at + n && f->state[end] == f->state[i];)
            end++;
        if (f->state[i] != ARRIVAL_AWAY)
            continue;
        put(f, i, end - i, false);
        memset(f->state + i, ARRIVAL_THERE, end - i);
    }
}

static void add_file(struct arrival *a, const char *source, const char *name,
                     const struct arrival_file *before)
{
    char path[600];
    uint64_t header;
    struct arrival_file *f = &a->files[a->n++];
    ck_assert_uint_le(a->n, sizeof a->files / sizeof *a->files);
    snprintf(f->name, sizeof f->name, "%s", name);
    snprintf(path, sizeof path, "%s/%s", source, name);
    f->bytes = arrival_read(path, &f->size);
    memcpy(&header, f->bytes, sizeof header);
    f->data = sizeof header + (size_t)header;
    f->state = calloc(f->size, 1);
    memset(f->state, ARRIVAL_THERE, f->data);
    snprintf(path, sizeof path, "%s/%s", a->folder, name);
    f->fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    ck_assert_int_ge(f->fd, 0);
    put(f, 0, f->data, false);
    put(f, f->data, f->size - f->data, true);
    if (before == NULL)
        return;
    for (size_t i = f->data, end; i < f->size; i = end) {
        for (end = i + 1; end < f->size && before->state[end] == before->state[i];)
            end++;
        if (before->state[i] == ARRIVAL_THERE)
            arrive(f, i, end - i);
    }
}

void arrival_begin(struct arrival *arrival, const char *source, const struct arrival *before)
{
    *arrival = (struct arrival){.folder = tiny_folder(), .random = 1};
    DIR *dir = opendir(source);
    ck_assert_ptr_nonnull(dir);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        char path[600];
        size_t n = strlen(entry->d_name), size;
        const struct arrival_file *other = NULL;
        if (n > 12 && strcmp(entry->d_name + n - 12, ".safetensors") == 0) {
            for (size_t i = 0; before != NULL && i < before->n; i++)
                if (strcmp(before->files[i].name, entry->d_name) == 0)
                    other = &before->files[i];
            add_file(arrival, source, entry->d_name, other);
        } else if (n > 5 && strcmp(entry->d_name + n - 5, ".json") == 0) {
            snprintf(path, sizeof path, "%s/%s", source, entry->d_name);
            uint8_t *bytes = arrival_read(path, &size);
            tiny_put(arrival->folder, entry->d_name, bytes, size);
            free(bytes);
        }
    }
    closedir(dir);
    ck_assert_uint_ge(arrival->n, 1);
    pthread_mutex_init(&arrival->lock, NULL);
    pthread_cond_init(&arrival->arrived, NULL);
}

void arrival_end(struct arrival *arrival)
{
    for (size_t i = 0; i < arrival->n; i++) {
        close(arrival->files[i].fd);
        free(arrival->files[i].bytes);
        free(arrival->files[i].state);
    }
    pthread_mutex_destroy(&arrival->lock);
    pthread_cond_destroy(&arrival->arrived);
    tiny_remove(arrival->folder);
}

static struct arrival_file *find(struct arrival *a, const char *name)
{
    for (size_t i = 0; i < a->n; i++)
        if (strcmp(a->files[i].name, name) == 0)
            return &a->files[i];
    ck_abort_msg("no file %s", name);
    return NULL;
}

/* ---- what can be read ------------------------------------------------------------------------ */

/* All pages that a part touches, or all that it covers. */
static void protect(const struct arrival_file *f, size_t at, size_t n, bool touched, int protection)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), end = at + n;
    at = (at + (touched ? 0 : page - 1)) / page * page;
    end = (end + (touched || end == f->size ? page - 1 : 0)) / page * page;
    if (at < end)
        ck_assert_int_eq(mprotect((void *)(uintptr_t)(f->shown + at), end - at, protection), 0);
}

static void show(const struct arrival *a, const struct arrival_file *f, size_t at, size_t n)
{
    if (a->guarded)
        protect(f, at, n, true, PROT_READ);
    ASAN_UNPOISON_MEMORY_REGION(f->shown + at, n);
}

static void hide(const struct arrival *a, const struct arrival_file *f, size_t at, size_t n)
{
    if (a->guarded)
        protect(f, at, n, false, PROT_NONE);
    ASAN_POISON_MEMORY_REGION(f->shown + at, n);
}

static void hide_all(struct arrival *a)
{
    for (size_t i = 0; i < a->work->model.n_maps; i++) {
        const struct map *map = &a->work->model.maps[i];
        struct arrival_file *f = find(a, strrchr(map_path(map), '/') + 1);
        ck_assert_uint_eq(map->size, f->size);
        f->shown = map->data;
        hide(a, f, f->data, f->size - f->data);
    }
}

/* ---- fetching -------------------------------------------------------------------------------- */

static uint64_t next_random(struct arrival *a)
{
    a->random = a->random * 6364136223846793005u + 1442695040888963407u;
    return a->random >> 33;
}

/* A piece of what somebody waits for, in one of three cases, or any. */
static void fetch_piece(struct arrival *a)
{
    struct arrival_file *f = &a->files[next_random(a) % a->n];
    size_t first = f->data, n = f->size - f->data;
    if (a->wanted != NULL && next_random(a) % 3 == 0) {
        f = a->wanted;
        first = a->wanted_at;
        n = a->wanted_bytes;
    }
    size_t at = next_random(a) % n, most = n - at < PIECE ? n - at : PIECE;
    arrive(f, first + at, 1 + next_random(a) % most);
    pthread_cond_broadcast(&a->arrived);
}

static void *fetch(void *arg)
{
    struct arrival *a = arg;
    pthread_mutex_lock(&a->lock);
    while (!a->stops) {
        struct timespec pause = {0, (long)(next_random(a) % 30000)};
        fetch_piece(a);
        pthread_mutex_unlock(&a->lock);
        nanosleep(&pause, NULL);
        pthread_mutex_lock(&a->lock);
    }
    pthread_mutex_unlock(&a->lock);
    return NULL;
}

void arrival_fetch(struct arrival *arrival)
{
    arrival->fetches = true;
}

static bool is_there(const struct arrival_file *f, size_t at, size_t n)
{
    return memchr(f->state + at, ARRIVAL_AWAY, n) == NULL;
}

/* In small parts, as the whole could take random pieces forever. */
static void wait_for(struct arrival *a, struct arrival_file *f, size_t at, size_t n)
{
    for (size_t part = 0; part < n; part += 50) {
        a->wanted_at = at + part;
        a->wanted_bytes = n - part < 50 ? n - part : 50;
        a->wanted = f;
        while (!is_there(f, a->wanted_at, a->wanted_bytes))
            pthread_cond_wait(&a->arrived, &a->lock);
    }
    a->wanted = NULL;
}

/* ---- callbacks ------------------------------------------------------------------------------- */

/* No byte of a part is in this state. Check's macros write to a file each time. */
static void none_is(const struct arrival_file *f, size_t at, size_t n, enum arrival_state state,
                    const char *what)
{
    const uint8_t *found = memchr(f->state + at, (int)state, n);
    if (found != NULL)
        ck_abort_msg("%s: %zu is %s", f->name, (size_t)(found - f->state), what);
}

static int on_need(void *arg, const char *file, uint64_t offset, uint64_t bytes,
                   struct llama3_error *err)
{
    struct arrival *a = arg;
    struct arrival_file *f = find(a, file);
    if (++a->needs == a->fails_at)
        return error_set(err, a->failure, "the line is dead");
    ck_assert_uint_ge(offset, f->data);
    ck_assert_uint_gt(bytes, 0);
    ck_assert_uint_le(offset + bytes, f->size);
    pthread_mutex_lock(&a->lock);
    none_is(f, offset, bytes, ARRIVAL_SPENT, "asked for, but spent");
    if (a->fetches)
        wait_for(a, f, offset, bytes);
    else
        arrive(f, offset, bytes);
    pthread_mutex_unlock(&a->lock);
    show(a, f, offset, bytes);
    a->needed += bytes;
    return 0;
}

static void on_spent(void *arg, const char *file, uint64_t offset, uint64_t bytes)
{
    struct arrival *a = arg;
    struct arrival_file *f = find(a, file);
    ck_assert_uint_ge(offset, f->data);
    ck_assert_uint_gt(bytes, 0);
    ck_assert_uint_le(offset + bytes, f->size);
    ck_assert_msg(!a->unsynced, "what was made of it isn't on disk");
    pthread_mutex_lock(&a->lock);
    none_is(f, offset, bytes, ARRIVAL_SPENT, "spent twice");
    if (a->resumed == SIZE_MAX)
        none_is(f, offset, bytes, ARRIVAL_AWAY, "spent, but was never asked for");
    memset(f->state + offset, ARRIVAL_SPENT, bytes);
    put(f, offset, bytes, true);
    hide(a, f, offset, bytes);
    pthread_mutex_unlock(&a->lock);
    a->spent += bytes;
    a->spent_first = a->spent_first || a->needs == 0;
}

static int on_progress(void *arg, uint64_t done, uint64_t total)
{
    struct arrival *a = arg;
    ck_assert(total == 0 || done <= total);
    return ++a->progress == a->cancels_at;
}

static void on_note(void *arg, const char *note)
{
    struct arrival *a = arg;
    char path[600];
    if (strncmp(note, "going on", 8) != 0)
        return;
    ck_assert_msg(sscanf(note, "going on with %599s %zu of ", path, &a->resumed) == 2, "%s", note);
    path[strlen(path) - 1] = '\0'; /* ':' */
    ck_assert_int_eq(access(path, F_OK), 0);
}

static int on_made(void *arg, struct llama3_error *err)
{
    struct arrival *a = arg;
    a->asked_for_name = true;
    return a->made == NULL || a->made(a, err) ? 0 : -1;
}

int arrival_run(struct arrival *arrival, const struct quantizer_options *options, size_t tokens,
                struct llama3_error *err)
{
    struct quantizer work;
    struct quantizer_options o = *options;
    o.on_progress = on_progress;
    o.on_note = on_note;
    o.on_need = on_need;
    o.on_spent = on_spent;
    o.on_made = on_made;
    o.arg = arrival;
    arrival->work = &work;
    arrival->needs = arrival->progress = 0;
    arrival->needed = arrival->spent = 0;
    arrival->resumed = SIZE_MAX;
    arrival->spent_first = arrival->asked_for_name = arrival->unsynced = arrival->stops = false;
    if (quantizer_open(&work, arrival->folder, err) != 0)
        return -1;
    if (tokens > 0)
        ck_assert_int_eq(calibration_text(&work.model, tokens, &work.text, err), 0);
    hide_all(arrival);
    if (arrival->fetches)
        ck_assert_int_eq(pthread_create(&arrival->thread, NULL, fetch, arrival), 0);
    watched = arrival;
    int result = quantizer_run(&work, &o, err);
    watched = NULL;
    pthread_mutex_lock(&arrival->lock);
    arrival->stops = true;
    pthread_mutex_unlock(&arrival->lock);
    if (arrival->fetches)
        pthread_join(arrival->thread, NULL);
    for (size_t i = 0; i < arrival->n; i++)
        ASAN_UNPOISON_MEMORY_REGION(arrival->files[i].shown, arrival->files[i].size);
    quantizer_close(&work);
    return result;
}
