/* SPDX-License-Identifier: MIT */
#include "config.h" /* openat, O_NOFOLLOW */

#include "engine/quantized.h"

#include <errno.h>
#include <fcntl.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/hex.h"
#include "base/path.h"
#include "engine/calibrate.h"
#include "engine/quantizer.h"

enum { KEY_DIGITS = 32 };

/* ---- the file in the cache ------------------------------------------------------------------- */

/* A digest of the checkpoint's files and of how they are converted. */
static int make_key(const char *path, bool calibrated, char key[KEY_DIGITS + 1],
                    struct llama3_error *err)
{
    struct sources sources;
    struct buf text = {0};
    char line[256], hex[2 * SHA256_DIGEST_SIZE + 1];
    if (sources_list(&sources, path, err) != 0)
        return -1;
    snprintf(line, sizeof line, "llama3 %d int4%s", PACKED_VERSION,
             calibrated ? " calibrated" : "");
    buf_add_str(&text, line);
    sources_describe(&sources, &text);
    sources_free(&sources);
    int result = text.failed ? error_memory(err, "a key", text.size) : 0;
    if (result == 0) {
        struct sha256_ctx context;
        uint8_t digest[SHA256_DIGEST_SIZE];
        sha256_init(&context);
        sha256_update(&context, text.size, (const uint8_t *)text.data);
        sha256_digest(&context, sizeof digest, digest);
        hex_text(digest, sizeof digest, hex);
        snprintf(key, KEY_DIGITS + 1, "%.*s", KEY_DIGITS, hex);
    }
    buf_free(&text);
    return result;
}

/* Where the int4 form of a checkpoint is kept, for free(). */
static char *cache_path(const char *cache, const char *path, bool calibrated,
                        struct llama3_error *err)
{
    char key[KEY_DIGITS + 1], name[KEY_DIGITS + 32];
    if (make_key(path, calibrated, key, err) != 0)
        return NULL;
    snprintf(name, sizeof name, "int4-%s.safetensors", key);
    return path_join(cache, name, err);
}

/* Anyone else who can write to the cache could make us run another model. */
static int check_owner(const struct stat *st, const char *path, const char *kind,
                       struct llama3_error *err)
{
    if ((st->st_uid == geteuid() || st->st_uid == 0) && (st->st_mode & (S_IWGRP | S_IWOTH)) == 0)
        return 0;
    return error_set(
        err, LLAMA3_EIO,
        "%.300s: expected a %s that is yours and that you alone can write to, found one "
        "of user %lu with mode %04o",
        path, kind, (unsigned long)st->st_uid, (unsigned)st->st_mode & 07777);
}

/* The directory of the cache; -1 with *missing if there is none, else with an error. */
static int open_folder(const char *cache, bool *missing, struct llama3_error *err)
{
    struct stat st;
    int fd = open(cache, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    *missing = fd < 0 && errno == ENOENT;
    if (fd < 0)
        return error_system(err, cache);
    if (fstat(fd, &st) == 0 && check_owner(&st, cache, "directory", err) == 0)
        return fd;
    close(fd);
    return -1;
}

/* The file of that name in the directory; -1 with *missing if there is none, else with an error.
 * path: its name for errors. One that others can write to is deleted, or its mode would be kept. */
static int open_file(int folder, const char *name, const char *path, bool *missing,
                     struct llama3_error *err)
{
    struct stat st;
    int fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    *missing = fd < 0 && errno == ENOENT;
    if (fd < 0 && errno != ELOOP)
        return error_system(err, path);
    if (fd < 0)
        error_set(err, LLAMA3_EIO, "%.400s: expected a file, found a symbolic link", path);
    else if (fstat(fd, &st) == 0 && check_owner(&st, path, "file", err) == 0)
        return fd;
    else
        close(fd);
    unlinkat(folder, name, 0);
    return -1;
}

/* Opens a file of the cache; -1 if there is none, or none that can be used. instead: what is done
 * about the latter, for a note. */
static int open_kept(struct model *model, int folder, const char *kept, const char *instead,
                     const struct quantized_options *o)
{
    struct llama3_error err;
    bool missing;
    int fd = open_file(folder, strrchr(kept, '/') + 1, kept, &missing, &err);
    if (missing)
        return -1;
    int result = fd < 0 ? -1 : model_open_packed(model, fd, kept, &err);
    if (fd >= 0)
        close(fd);
    if (result == 0)
        return 0;
    quantizer_note(o->on_note, o->arg, "%s: %s", err.message, instead);
    return -1;
}

/* ---- making it ------------------------------------------------------------------------------- */

/* kept: NULL for a file without a name. */
static int make_file(struct model *model, struct quantizer *q, const char *kept,
                     const struct quantized_options *o, struct llama3_error *err)
{
    const struct quantizer_options options = {
        .out = kept,
        .private = true,
        .layers = DTYPE_INT4,
        .embed = -1,
        .head = -1,
        .threads = o->threads,
        .on_progress = o->on_progress,
        .on_note = o->on_note,
        .arg = o->arg,
        .opened = model,
    };
    return quantizer_run(q, &options, err);
}

/* Makes it if it is missing. */
static int check_folder(const char *cache, struct llama3_error *err)
{
    bool missing;
    if (path_make_folders(cache, 0700, err) != 0) /* as the XDG specification says */
        return -1;
    int folder = open_folder(cache, &missing, err);
    if (folder < 0)
        return -1;
    close(folder);
    return 0;
}

/* In the cache, or, where that can't be, in a file without a name. */
static int make_somewhere(struct model *model, struct quantizer *q, const char *kept,
                          const struct quantized_options *o, struct llama3_error *err)
{
    struct llama3_error reason;
    if (kept != NULL) {
        if (check_folder(o->cache, &reason) == 0 && make_file(model, q, kept, o, &reason) == 0)
            return 0;
        if (reason.code != LLAMA3_EIO) /* the file is not the reason */
            return error_copy(err, &reason);
        quantizer_note(o->on_note, o->arg, "%s: the int4 weights are not kept", reason.message);
    }
    return make_file(model, q, NULL, o, err);
}

/* What the user gets, and what it costs. */
static void note_making(const struct quantized_options *o, const struct model *source)
{
    const char *lack = o->calibrated ? why_no_calibration(o->threads) : NULL;
    char without[300] = "";
    if (lack != NULL)
        snprintf(without, sizeof without, "; without OpenBLAS (%.200s) they gain less by it", lack);
    quantizer_note(o->on_note, o->arg, "%.400s: int4 weights are made %s%s", source->path,
                   o->calibrated ? "and calibrated, which takes some minutes"
                                 : "without calibration: calibrated ones take some minutes, "
                                   "once, and stay much closer to the checkpoint",
                   without);
}

/* 0 if it was found in the cache, 1 if it was not, -1 on failure. */
static int look_for(struct model *model, const char *path, bool calibrated, const char *instead,
                    const struct quantized_options *o, char **kept, struct llama3_error *err)
{
    bool missing;
    *kept = cache_path(o->cache, path, calibrated, err);
    if (*kept == NULL)
        return -1;
    int folder = open_folder(o->cache, &missing, NULL);
    if (folder < 0) /* make_somewhere() says why */
        return 1;
    int result = open_kept(model, folder, *kept, instead, o);
    close(folder);
    return result == 0 ? 0 : 1;
}

/* The same. *kept: where it belongs, for free(). */
static int look_in_cache(struct model *model, const char *path, char **kept,
                         const struct quantized_options *o, struct llama3_error *err)
{
    *kept = NULL;
    if (o->cache == NULL)
        return 1;
    if (!o->calibrated) { /* a calibrated one serves too */
        int result = look_for(model, path, true, "it is not used", o, kept, err);
        free(*kept);
        *kept = NULL;
        if (result <= 0)
            return result;
    }
    return look_for(model, path, o->calibrated, "making it again", o, kept, err);
}

int quantized_open(struct model *model, const char *path, const struct quantized_options *options,
                   struct llama3_error *err)
{
    struct quantizer q = {0};
    char *kept;
    int result = look_in_cache(model, path, &kept, options, err);
    if (result <= 0) {
        free(kept);
        return result;
    }
    result = quantizer_open(&q, path, err);
    if (result == 0 && quantizer_has_4_bits(&q.model)) {
        *model = q.model;
        q.model = (struct model){0};
        quantizer_note(options->on_note, options->arg,
                       "%.500s: the weights have 4 bits already (%s): they are used as they are",
                       model->path, dtype_info(model->dtype)->name);
    } else if (result == 0) {
        if (options->calibrated)
            result = quantizer_text(&q, err);
        if (result == 0) {
            note_making(options, &q.model);
            result = make_somewhere(model, &q, kept, options, err);
        }
    }
    quantizer_close(&q);
    free(kept);
    return result;
}
