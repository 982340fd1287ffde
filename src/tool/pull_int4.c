/* SPDX-License-Identifier: MIT */
#include "tool/pull_int4.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/path.h"
#include "base/size.h"
#include "hub/folder.h"

enum { MAX_HEADER = 100 << 20 };

struct pull_int4 {
    struct pull_int4_options options;
    struct fetch *fetch;
    struct fetch_span *order; /* [n_order]: what is read, in order */
    size_t n_order;
    bool no_memory;
    bool reads; /* what is read is planned, and its first bytes may be asked for */
    atomic_bool canceled, lost;
    pthread_t thread;
    pthread_mutex_t lock; /* of its state */
    struct pull_int4_state state;
    int result;
    struct llama3_error err;
};

/* ---- the folder of links --------------------------------------------------------------------- */

static const char *path_now(const struct blob *blob)
{
    return blob->state == BLOB_DONE ? blob->paths.final : blob->paths.incomplete;
}

static int make_link(const struct pull_int4 *p, const struct blob *blob, struct llama3_error *err)
{
    char *at = path_join(p->options.folder, blob->file->name, err);
    char *to = at == NULL ? NULL : realpath(path_now(blob), NULL);
    int result = at == NULL ? -1 : 0;
    if (at != NULL && to == NULL)
        result = error_set(err, LLAMA3_EIO, "%s: %s", path_now(blob), strerror(errno));
    if (result == 0 && ((unlink(at) != 0 && errno != ENOENT) || symlink(to, at) != 0))
        result = error_system(err, at);
    free(to);
    free(at);
    return result;
}

static int remove_link(void *arg, const char *folder, const char *name)
{
    char *path = path_join(folder, name, NULL);
    (void)arg;
    if (path != NULL)
        unlink(path);
    free(path);
    return 0;
}

/* Also those that an interrupted run left. */
static void remove_links(const struct pull_int4 *p)
{
    folder_each(p->options.folder, remove_link, NULL);
    rmdir(p->options.folder);
}

/* A checkpoint needs no file that is in a folder of the repository. */
static bool is_needed(const struct blob *blob)
{
    return strchr(blob->file->name, '/') == NULL;
}

static int make_links(const struct pull_int4 *p, struct llama3_error *err)
{
    int result = 0;
    remove_links(p);
    if (mkdir(p->options.folder, 0700) != 0 && errno != EEXIST)
        return error_system(err, p->options.folder);
    pthread_mutex_lock(&p->fetch->lock); /* none gets another name meanwhile */
    for (size_t i = 0; i < p->fetch->n && result == 0; i++)
        if (is_needed(&p->fetch->blobs[i]))
            result = make_link(p, &p->fetch->blobs[i], err);
    pthread_mutex_unlock(&p->fetch->lock);
    return result;
}

/* ---- bytes ----------------------------------------------------------------------------------- */

static int wait_span(struct pull_int4 *p, size_t blob, uint64_t begin, uint64_t end,
                     struct llama3_error *err)
{
    const struct fetch_span span = {blob, begin, end};
    if (fetch_wait(p->fetch, &span) == 0)
        return 0;
    p->lost = !p->fetch->ended;
    return error_set(err, LLAMA3_EIO, "%s: not all of it came", p->fetch->blobs[blob].file->name);
}

/* Whether a header has tensors of codes: beside those, opening a checkpoint reads zeros, the order
 * of columns and tables. */
static bool has_codes(const char *header, size_t size)
{
    static const char *const types[] = {"I32", "I8", "U8"};
    struct llama3_error err;
    json_t *tensors = json_parse(header, size, "", &err), *tensor;
    const char *name;
    bool found = false;
    json_object_foreach(tensors, name, tensor)
    {
        const char *type = json_string_value(json_object_get(tensor, "dtype"));
        for (size_t i = 0; i < sizeof types / sizeof *types && type != NULL; i++)
            found |= strcmp(type, types[i]) == 0;
    }
    json_decref(tensors);
    return found;
}

/* What of a file can't be read, or is no header, is left to opening it, which says what is wrong.
 */
static bool file_has_codes(const struct blob *blob, uint64_t length)
{
    char *header = size_alloc((size_t)length, 1);
    FILE *file = fopen(path_now(blob), "re");
    bool has = file != NULL && header != NULL && fseek(file, 8, SEEK_SET) == 0 &&
               fread(header, 1, (size_t)length, file) == length &&
               has_codes(header, (size_t)length);
    if (file != NULL)
        fclose(file);
    free(header);
    return has;
}

/* A checkpoint can be opened once the headers of its files are there. A file without a header is
 * waited for whole. *codes: set if it has tensors of codes. */
static int wait_header(struct pull_int4 *p, size_t index, bool *codes, struct llama3_error *err)
{
    const struct blob *blob = &p->fetch->blobs[index];
    uint64_t size = blob->file->size, length = 0;
    if (!path_ends_with(blob->file->name, ".safetensors"))
        return wait_span(p, index, 0, size, err);
    if (wait_span(p, index, 0, size < 8 ? size : 8, err) != 0)
        return -1;
    FILE *file = fopen(path_now(blob), "re");
    bool read = file != NULL && fread(&length, sizeof length, 1, file) == 1;
    if (file != NULL)
        fclose(file);
    if (!read || length > MAX_HEADER || length > size - 8)
        return 0; /* opening it says what is wrong */
    if (wait_span(p, index, 0, 8 + length, err) != 0)
        return -1;
    *codes |= file_has_codes(blob, length);
    return 0;
}

/* Of a quantized checkpoint all is waited for. */
static int wait_headers(struct pull_int4 *p, struct llama3_error *err)
{
    bool codes = false;
    int result = 0;
    for (size_t i = 0; i < p->fetch->n && result == 0; i++)
        if (is_needed(&p->fetch->blobs[i]))
            result = wait_header(p, i, &codes, err);
    for (size_t i = 0; i < p->fetch->n && result == 0 && codes; i++)
        if (is_needed(&p->fetch->blobs[i]))
            result = wait_span(p, i, 0, p->fetch->blobs[i].file->size, err);
    return result;
}

static int find_blob(const struct pull_int4 *p, const char *file, size_t *index)
{
    for (size_t i = 0; i < p->fetch->n; i++)
        if (strcmp(p->fetch->blobs[i].file->name, file) == 0) {
            *index = i;
            return 0;
        }
    return -1;
}

/* The files are open, and what is read of them is known. */
static void begin_reading(struct pull_int4 *p)
{
    if (p->reads)
        return;
    p->reads = true;
    fetch_opened(p->fetch);
    fetch_order(p->fetch, p->order, p->n_order);
}

static int on_need(void *arg, const char *file, uint64_t offset, uint64_t bytes,
                   struct llama3_error *err)
{
    struct pull_int4 *p = arg;
    size_t index;
    begin_reading(p);
    if (p->no_memory)
        return error_memory(err, "a list of files", p->n_order * sizeof *p->order);
    if (find_blob(p, file, &index) != 0)
        return error_input(err, "%s: expected a file of the model, found none", file);
    return wait_span(p, index, offset, offset + bytes, err);
}

static void on_spent(void *arg, const char *file, uint64_t offset, uint64_t bytes)
{
    struct pull_int4 *p = arg;
    struct fetch_span span = {.begin = offset, .end = offset + bytes};
    if (p->options.args->drop_source && find_blob(p, file, &span.blob) == 0)
        fetch_drop(p->fetch, &span);
}

static void add_span(void *arg, const char *file, uint64_t offset, uint64_t bytes)
{
    struct pull_int4 *p = arg;
    struct fetch_span span = {.begin = offset, .end = offset + bytes};
    struct fetch_span *more = reallocarray(p->order, p->n_order + 1, sizeof *more);
    p->no_memory |= more == NULL;
    if (more == NULL)
        return;
    p->order = more;
    if (find_blob(p, file, &span.blob) == 0)
        more[p->n_order++] = span;
}

/* ---- the work -------------------------------------------------------------------------------- */

static int on_progress(void *arg, uint64_t done, uint64_t total)
{
    struct pull_int4 *p = arg;
    begin_reading(p);
    if (p->fetch->keep_free > PULL_SPARE) /* the file has its room now */
        p->fetch->keep_free = PULL_SPARE;
    pthread_mutex_lock(&p->lock);
    p->state.done = done;
    p->state.total = total;
    pthread_mutex_unlock(&p->lock);
    return p->canceled;
}

/* Notes from before the work. The caller of pull_int4_end() reports how it ended. */
static void on_note(void *arg, const char *note)
{
    struct pull_int4 *p = arg;
    if (p->reads)
        return;
    pthread_mutex_lock(&p->lock);
    snprintf(p->state.note, sizeof p->state.note, "%s", note);
    pthread_mutex_unlock(&p->lock);
}

/* The file gets its name once all that it was made of has turned out to be right. */
static int on_made(void *arg, struct llama3_error *err)
{
    struct pull_int4 *p = arg;
    p->fetch->keep_free = 0; /* nothing more is going to be dropped: what is left needs its room */
    if (fetch_wait_all(p->fetch) == 0)
        return 0;
    return error_set(err, p->canceled ? LLAMA3_ECANCELED : LLAMA3_EIO, "not all files came");
}

static int quantize(struct pull_int4 *p, struct llama3_error *err)
{
    const struct pull_args *args = p->options.args;
    const struct llama3_quantize_options options = {
        .size = sizeof options,
        .threads = args->threads,
        .no_calibrate = args->int4 != 1,
        .contents = p->options.contents,
        .on_progress = on_progress,
        .on_note = on_note,
        .on_plan = add_span,
        .on_need = on_need,
        .on_spent = on_spent,
        .on_made = on_made,
        .arg = p,
    };
    int result = wait_headers(p, err);
    if (result == 0)
        result = make_links(p, err);
    if (result == 0)
        result = llama3_quantize(p->options.folder, p->options.out, &options, NULL, err);
    begin_reading(p); /* if it came to nothing */
    fetch_order(p->fetch, NULL, 0);
    remove_links(p);
    return result;
}

static void *run(void *arg)
{
    struct pull_int4 *p = arg;
    p->result = quantize(p, &p->err);
    pthread_mutex_lock(&p->lock);
    p->state.failed = p->result != 0;
    pthread_mutex_unlock(&p->lock);
    fetch_release(p->fetch);
    return NULL;
}

struct pull_int4 *pull_int4_start(const struct pull_int4_options *options, struct llama3_error *err)
{
    struct pull_int4 *p = size_alloc_for(1, sizeof *p, "a thread", err);
    if (p == NULL)
        return NULL;
    p->options = *options;
    p->fetch = options->fetch;
    p->fetch->used = true;
    p->fetch->opens = true;
    p->fetch->drops = options->args->drop_source;
    if (options->args->drop_source)
        p->fetch->keep_free = PULL_SPARE + options->needed;
    pthread_mutex_init(&p->lock, NULL);
    if (pthread_create(&p->thread, NULL, run, p) == 0)
        return p;
    pthread_mutex_destroy(&p->lock);
    error_set(err, LLAMA3_ENOMEM, "a thread can't be started");
    free(p);
    return NULL;
}

void pull_int4_look(struct pull_int4 *p, struct pull_int4_state *state)
{
    pthread_mutex_lock(&p->lock);
    *state = p->state;
    p->state.note[0] = '\0';
    pthread_mutex_unlock(&p->lock);
}

void pull_int4_cancel(struct pull_int4 *p)
{
    p->canceled = true;
}

int pull_int4_end(struct pull_int4 *p, bool *lost, struct llama3_error *err)
{
    pthread_join(p->thread, NULL);
    int result = p->result;
    if (result != 0)
        *err = p->err;
    *lost = p->lost;
    pthread_mutex_destroy(&p->lock);
    free(p->order);
    free(p);
    return result;
}
