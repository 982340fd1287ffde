/* SPDX-License-Identifier: MIT */
#include "engine/load.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"

enum {
    READERS = 4,            /* so many requests at once are as fast as a disk is */
    READ_STRETCH = 8 << 20, /* bytes */
    READ_LEAST = 16 << 20   /* of smaller models it isn't worth a thread */
};

/* A weight that is read where it is mapped. */
struct part {
    const struct backend_ops *ops;
    struct backend *backend;
    struct weight *weight;
    const struct matrix *matrix;
    const struct map *map;
    size_t bytes;
};

/* A stretch of a map, which one thread reads. */
struct stretch {
    const struct map *map;
    size_t first, end; /* bytes */
};

struct load {
    const struct model *model;
    enum llama3_load how;
    uint64_t kv_bytes;
    struct part *parts; /* [n] in the order of a pass */
    size_t n, room;
    uint64_t bytes;  /* of all parts, */
    uint64_t mapped; /* and of those that are no copies */
    char note[160];
    bool copies; /* the last matrix became one */

    pthread_t readers[READERS];
    int n_readers;
    pthread_mutex_t lock; /* of the next four */
    size_t part, offset;  /* that is read next */
    struct stretch last;  /* that was handed out */
    bool stop;
    atomic_int reading; /* readers that are not done */

    bool too_large; /* for the memory: moving pages would read all of it for nothing */
    bool decided;   /* what becomes of mapped parts: */
    bool copying;   /* they are copied, or else moved to their memory nodes, never both */
    size_t next;    /* the first part that isn't yet */
    atomic_uint_least64_t copied;
};

/* ---- maps -------------------------------------------------------------------------------- */

static const struct map *map_of(const struct model *model, const uint8_t *data)
{
    for (size_t i = 0; i < model->n_maps; i++)
        if (data >= model->maps[i].data && data < model->maps[i].data + model->maps[i].size)
            return &model->maps[i];
    return NULL;
}

static void advise(const struct model *model, const struct matrix *matrix,
                   void (*hint)(const struct map *map, const uint8_t *begin, size_t n))
{
    struct span_of_bytes spans[MATRIX_SPANS];
    for (size_t n = matrix_spans(matrix, 0, matrix->rows, spans); n > 0; n--) {
        const struct map *map = map_of(model, spans[n - 1].data);
        if (map != NULL)
            hint(map, spans[n - 1].data, spans[n - 1].bytes);
    }
}

void load_want(const struct load *load, const struct matrix *matrix)
{
    advise(load->model, matrix, map_want);
}

bool load_copies(const struct load *load)
{
    return load->copies;
}

/* ---- copies ------------------------------------------------------------------------------ */

/* Whether so many bytes of copies fit three quarters of the memory that is available, with the KV.
 * *available may be NULL. */
static bool fits(const struct load *load, uint64_t bytes, uint64_t *available)
{
    uint64_t found = 0;
    if (!memory_available(&found))
        return true;
    if (available != NULL)
        *available = found;
    return bytes <= found / 4 * 3 && load->kv_bytes <= found / 4 * 3 - bytes;
}

/* Bytes of a part that are still to be copied. */
static ptrdiff_t copy(struct load *load, const struct part *part, size_t most)
{
    ptrdiff_t left = part->ops->weight_load(part->backend, part->weight, most);
    if (left == 0 && part->ops->weight_is_copy(part->backend, part->weight)) {
        advise(load->model, part->matrix, map_drop);
        atomic_fetch_add(&load->copied, part->bytes);
        load->mapped -= part->bytes;
    }
    return left;
}

static struct map_pages pages_of(const struct model *model)
{
    struct map_pages all = {0}, one;
    for (size_t i = 0; i < model->n_maps; i++)
        if (map_pages(&model->maps[i], &one)) {
            all.bytes += one.bytes;
            all.huge += one.huge;
            all.own += one.own;
        }
    return all;
}

/* Small pages cost speed. If others have mapped most of them too, that memory is shared. */
static bool is_worth_copying(const struct load *load)
{
    struct map_pages all = pages_of(load->model);
    return all.bytes - all.huge > all.bytes / 8 && all.own > all.bytes / 4 * 3 &&
           fits(load, load->bytes, NULL);
}

/* The next part and those after it are used where they are mapped. */
static void stay_mapped(struct load *load)
{
    load->copying = false;
    if (load->too_large || load->parts[load->next].ops->weight_place == NULL)
        load->next = load->n;
}

enum load_state load_step(struct load *load, size_t most)
{
    if (atomic_load(&load->reading) > 0)
        return LOAD_WAIT;
    if (!load->decided && load->n > 0) {
        load->decided = true;
        load->copying = load->how == LLAMA3_LOAD_AUTO && load->bytes >= READ_LEAST;
        if (!load->copying || !is_worth_copying(load))
            stay_mapped(load);
    }
    if (load->next == load->n)
        return LOAD_DONE;
    const struct part *part = &load->parts[load->next];
    ptrdiff_t left = load->copying ? copy(load, part, most)
                                   : part->ops->weight_place(part->backend, part->weight, most);
    if (left == 0)
        load->next++;
    else if (left < 0)
        stay_mapped(load);
    return load->next < load->n ? LOAD_MORE : LOAD_DONE;
}

uint64_t load_copied(const struct load *load)
{
    return atomic_load(&load->copied);
}

void load_describe(const struct load *load, char *text, size_t size)
{
    double copied = (double)load_copied(load), mapped = (double)load->mapped;
    struct map_pages pages = pages_of(load->model);
    text[0] = '\0';
    if (copied > 0)
        snprintf(text, size, "%.2f GB read into memory%s", copied / 1e9, mapped > 0 ? ", " : "");
    size_t used = strlen(text);
    if (mapped > 0)
        snprintf(text + used, size - used, "%.2f GB mapped, %.2f of it in huge pages", mapped / 1e9,
                 pages.bytes > 0 ? (double)pages.huge / (double)pages.bytes : 0);
}

const char *load_note(const struct load *load)
{
    return load->note;
}

/* ---- reading ahead ----------------------------------------------------------------------- */

static struct stretch stretch_at(const struct map *map, size_t offset)
{
    size_t first = offset / READ_STRETCH * READ_STRETCH;
    return (struct stretch){map, first,
                            map->size - first < READ_STRETCH ? map->size : first + READ_STRETCH};
}

/* The stretch where the next part goes on, unless it was the last one; false if there is none. */
static bool take_stretch(struct load *load, struct stretch *stretch)
{
    bool any = false;
    pthread_mutex_lock(&load->lock);
    while (!any && load->part < load->n && !load->stop) {
        const struct part *part = &load->parts[load->part];
        size_t begin = (size_t)((const uint8_t *)part->matrix->data - part->map->data);
        *stretch = stretch_at(part->map, begin + load->offset);
        any = stretch->map != load->last.map || stretch->first != load->last.first;
        load->last = *stretch;
        load->offset = stretch->end - begin;
        if (load->offset >= part->bytes) {
            load->part++;
            load->offset = 0;
        }
    }
    pthread_mutex_unlock(&load->lock);
    return any;
}

static void *read_ahead(void *arg)
{
    struct load *load = arg;
    struct stretch stretch;
    while (take_stretch(load, &stretch))
        map_fill(stretch.map, stretch.map->data + stretch.first, stretch.end - stretch.first);
    atomic_fetch_sub(&load->reading, 1);
    return NULL;
}

/* A tied embedding is read as the head. */
static void move_head(struct load *load)
{
    struct part first = load->parts[0];
    if (first.matrix != &load->model->embed)
        return;
    memmove(load->parts, load->parts + 1, (load->n - 1) * sizeof first);
    load->parts[load->n - 1] = first;
}

void load_begin(struct load *load)
{
    sigset_t all, before;
    uint64_t available;
    /* What is read ahead would push out what was read before. */
    load->too_large = memory_available(&available) && load->bytes > available;
    if (load->bytes < READ_LEAST || load->too_large)
        return;
    move_head(load);
    struct stretch stretch;
    while (take_stretch(load, &stretch))
        map_ask_huge(stretch.map, stretch.map->data + stretch.first, stretch.end - stretch.first);
    load->part = 0;
    load->last.map = NULL;
    sigfillset(&all);
    sigdelset(&all, SIGBUS);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (int i = 0; i < READERS; i++) {
        atomic_fetch_add(&load->reading, 1);
        if (pthread_create(&load->readers[load->n_readers], NULL, read_ahead, load) == 0)
            load->n_readers++;
        else
            atomic_fetch_sub(&load->reading, 1);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* ---- opening ----------------------------------------------------------------------------- */

struct load *load_open(const struct model *model, enum llama3_load how, uint64_t kv_bytes,
                       struct llama3_error *err)
{
    uint64_t available = 0;
    struct load *load = size_alloc_for(1, sizeof *load, "the weights", err);
    if (load == NULL)
        return NULL;
    pthread_mutex_init(&load->lock, NULL);
    load->model = model;
    load->how = how;
    load->kv_bytes = kv_bytes;
    if (how == LLAMA3_LOAD_READ && !fits(load, model->file_bytes, &available)) {
        load->how = LLAMA3_LOAD_MAP;
        snprintf(
            load->note, sizeof load->note,
            "the weights stay mapped: expected %.1f GB of memory to read them into, found %.1f",
            (double)(model->file_bytes + kv_bytes) / 1e9, (double)available / 4e9 * 3);
    }
    return load;
}

static int append(struct load *load, const struct part *part, struct llama3_error *err)
{
    if (load->n == load->room) {
        size_t room = load->room > 0 ? 2 * load->room : 64;
        struct part *parts = realloc(load->parts, room * sizeof *parts);
        if (parts == NULL)
            return error_memory(err, "the weights", room * sizeof *parts);
        load->parts = parts;
        load->room = room;
    }
    load->parts[load->n++] = *part;
    load->bytes += part->bytes;
    return 0;
}

int load_add(struct load *load, const struct backend_ops *ops, struct backend *backend,
             struct weight *weight, const struct matrix *matrix, enum weight_use use,
             struct llama3_error *err)
{
    struct part part = {ops, backend, weight, matrix, NULL, matrix_bytes(matrix)};
    bool is_copy = ops->weight_is_copy(backend, weight);
    if (is_copy)
        advise(load->model, matrix, map_drop);
    if (use == WEIGHT_MATRIX)
        load->copies = is_copy || load->how == LLAMA3_LOAD_READ;
    if (is_copy || use != WEIGHT_MATRIX || matrix->parts != NULL || ops->weight_load == NULL)
        return 0; /* of a WEIGHT_TABLE a pass reads a few rows */
    part.map = map_of(load->model, matrix->data);
    if (part.map == NULL || !part.map->of_file) {
        if (ops->weight_place != NULL)
            ops->weight_place(backend, weight, part.bytes);
        return 0;
    }
    load->mapped += part.bytes;
    if (load->how == LLAMA3_LOAD_READ && copy(load, &part, part.bytes) < 0) {
        load->how = LLAMA3_LOAD_MAP;
        snprintf(load->note, sizeof load->note,
                 "weights from %.1f GB on stay mapped: there is no more memory to read them into",
                 (double)load_copied(load) / 1e9);
    }
    return ops->weight_is_copy(backend, weight) ? 0 : append(load, &part, err);
}

void load_close(struct load *load)
{
    if (load == NULL)
        return;
    pthread_mutex_lock(&load->lock);
    load->stop = true;
    pthread_mutex_unlock(&load->lock);
    for (int i = 0; i < load->n_readers; i++)
        pthread_join(load->readers[i], NULL);
    pthread_mutex_destroy(&load->lock);
    free(load->parts);
    free(load);
}
