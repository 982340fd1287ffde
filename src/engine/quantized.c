#include "engine/quantized.h"

#include <errno.h>
#include <inttypes.h>
#include <sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "checkpoint/sources.h"
#include "engine/convert.h"

enum { KEY_DIGITS = 32 };

static void note(const struct quantized_options *o, const char *text)
{
    if (o->on_note != NULL)
        o->on_note(o->arg, text);
}

/* ---- the file in the cache ------------------------------------------------------------------- */

/* A digest of what the files are, and of how they are made into one. */
static int make_key(const char *path, char key[KEY_DIGITS + 1], struct llama3_error *err)
{
    struct sources sources;
    struct buf text = {0};
    char line[256], hex[SHA256_DIGEST_STRING_LENGTH];
    if (sources_list(&sources, path, err) != 0)
        return -1;
    snprintf(line, sizeof line, "llama3 %d int4", PACKED_VERSION);
    buf_add_str(&text, line);
    for (size_t i = 0; i < sources.n; i++) {
        const struct source *s = &sources.items[i];
        snprintf(line, sizeof line, "\n%ju %ju %" PRIu64 " %" PRId64 ".%09" PRId64 " ",
                 (uintmax_t)s->device, (uintmax_t)s->inode, s->size, s->seconds, s->nanoseconds);
        buf_add_str(&text, line);
        buf_add_str(&text, s->path);
    }
    sources_free(&sources);
    int result = text.failed ? error_memory(err, "a key", text.size) : 0;
    if (result == 0) {
        SHA256Data((const uint8_t *)text.data, text.size, hex);
        snprintf(key, KEY_DIGITS + 1, "%.*s", KEY_DIGITS, hex);
    }
    buf_free(&text);
    return result;
}

/* Where the int4 form of a checkpoint is kept, for free(). */
static char *cache_path(const char *cache, const char *path, struct llama3_error *err)
{
    char key[KEY_DIGITS + 1];
    struct buf name = {0};
    if (make_key(path, key, err) != 0)
        return NULL;
    buf_add_str(&name, cache);
    buf_add_str(&name, "/int4-");
    buf_add_str(&name, key);
    buf_add_str(&name, ".safetensors");
    if (!name.failed)
        return name.data;
    buf_free(&name);
    error_memory(err, "a path", strlen(cache) + 64);
    return NULL;
}

/* The directory with its parents, for this user alone, as the XDG specification has it. */
static int make_folder(const char *path)
{
    char *copy = strdup(path);
    int result = copy == NULL ? -1 : 0;
    for (char *slash = copy; slash != NULL && result == 0;) {
        slash = strchr(slash + 1, '/');
        if (slash != NULL)
            *slash = '\0';
        if (mkdir(copy, 0700) != 0 && errno != EEXIST)
            result = -1;
        if (slash != NULL)
            *slash = '/';
    }
    free(copy);
    return result;
}

/* 0 if a file of the cache was opened, -1 if there is none that can be. */
static int open_kept(struct model *model, const char *kept, const struct quantized_options *o)
{
    struct llama3_error err;
    char text[700];
    if (access(kept, F_OK) != 0)
        return -1;
    if (model_open(model, kept, &err) == 0)
        return 0;
    snprintf(text, sizeof text, "%.500s: making it again", err.message);
    note(o, text);
    return -1;
}

/* ---- making it ------------------------------------------------------------------------------- */

/* Into a file that was begun; path: what the model is called. The file is closed. */
static int make_into(struct new_file *file, struct model *model, const struct model *source,
                     const char *path, const struct quantized_options *o, struct llama3_error *err)
{
    struct convert_report report;
    const struct convert_options options = {
        .layers = DTYPE_INT4,
        .embed = convert_beside(source, DTYPE_INT4),
        .head = convert_beside(source, DTYPE_INT4),
        .threads = o->threads,
        .on_progress = o->on_progress,
        .arg = o->arg,
    };
    int result = convert(source, &options, file, &report, err);
    if (result == 0) /* before anybody could replace it */
        result = model_open_packed(model, file->fd, path, err);
    if (result == 0 && file->target != NULL && new_file_commit(file, err) != 0) {
        model_close(model);
        result = -1;
    }
    new_file_abandon(file);
    return result;
}

/* In the cache, or, where that can't be, in a file without a name. */
static int make(struct model *model, const struct model *source, const char *kept,
                const struct quantized_options *o, struct llama3_error *err)
{
    struct new_file file;
    struct llama3_error reason;
    char text[700];
    if (kept != NULL) {
        if (make_folder(o->cache) != 0)
            error_set(&reason, LLAMA3_EIO, "%s: %s", o->cache, strerror(errno));
        else if (new_file_open(&file, kept, &reason) == 0 &&
                 make_into(&file, model, source, kept, o, &reason) == 0)
            return 0;
        if (reason.code != LLAMA3_EIO) /* it is not for the file */
            return error_set(err, reason.code, "%s", reason.message);
        snprintf(text, sizeof text, "%.500s: the int4 weights are not kept", reason.message);
        note(o, text);
    }
    if (new_file_open_unnamed(&file, err) != 0)
        return -1;
    return make_into(&file, model, source, source->path, o, err);
}

static void note_as_it_is(const struct quantized_options *o, const struct model *model)
{
    char text[700];
    snprintf(text, sizeof text,
             "%.500s: the weights have 4 bits already (%s): they are used as they are", model->path,
             dtype_info(model->dtype)->name);
    note(o, text);
}

int quantized_open(struct model *model, const char *path, const struct quantized_options *options,
                   struct llama3_error *err)
{
    struct model source;
    char *kept = NULL;
    if (options->cache != NULL) {
        kept = cache_path(options->cache, path, err);
        if (kept == NULL)
            return -1;
        if (open_kept(model, kept, options) == 0) {
            free(kept);
            return 0;
        }
    }
    int result = model_open(&source, path, err);
    if (result == 0 && convert_carries(source.dtype, DTYPE_INT4)) {
        *model = source;
        note_as_it_is(options, model);
    } else if (result == 0) {
        result = make(model, &source, kept, options, err);
        model_close(&source);
    }
    free(kept);
    return result;
}
