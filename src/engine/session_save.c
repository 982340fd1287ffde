/* SPDX-License-Identifier: MIT */
/*
 * session_save.c: a session in a file. All numbers are little-endian:
 *
 *     "llama3-kv 1\n"
 *     what the session's numbers depend on: a SHA-256 of each
 *     n_tokens, n_logits (0 or the vocabulary's size): 64 bits each
 *     the scales of the adapters: [n_adapters] f32
 *     tokens: [n_tokens] int32
 *     logits: [n_logits] f32
 *     for each layer and each BLOCK positions (the last fewer): K, then V, as stored,
 *         [positions][n_kv_heads] heads
 *     the SHA-256 of all of it
 */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/new_file.h"
#include "base/path.h"
#include "base/size.h"
#include "engine/identity.h"
#include "engine/session.h"

static const char magic[] = "llama3-kv 1\n";
enum { MAGIC = sizeof magic - 1, BLOCK = KV_PAGE };

struct session_header {
    struct identities identities;
    uint64_t n_tokens, n_logits;
};

/* ---- what both directions share -------------------------------------------------------------- */

/* A file that is hashed as it passes. */
struct hashed {
    struct sha256_ctx sha;
    const char *path;
    struct new_file out; /* when it is written */
    FILE *in;            /* when it is read, */
    size_t in_size;
};

static int put(struct hashed *h, const void *bytes, size_t n, struct llama3_error *err)
{
    sha256_update(&h->sha, n, bytes);
    return new_file_write(&h->out, bytes, n, err);
}

static int get(struct hashed *h, void *bytes, size_t n, struct llama3_error *err)
{
    if (fread(bytes, 1, n, h->in) != n)
        return error_set(err, ferror(h->in) ? LLAMA3_EIO : LLAMA3_EINPUT, "%s: %s", h->path,
                         ferror(h->in) ? strerror(errno) : "expected more bytes, found the end");
    sha256_update(&h->sha, n, bytes);
    return 0;
}

/* K and V of BLOCK positions of a layer. */
struct block {
    char *k, *v;
    size_t key_bytes, value_bytes; /* of a position */
};

static int open_block(struct block *block, const struct session_model *model,
                      struct llama3_error *err)
{
    const struct config *c = &model->checkpoint->config;
    block->key_bytes = c->n_kv_heads * kv_key_bytes(model->kv_type, c->head_dim);
    block->value_bytes = c->n_kv_heads * kv_value_bytes(model->kv_type, c->head_dim);
    block->k = size_alloc_for(BLOCK, block->key_bytes + block->value_bytes, "keys and values", err);
    if (block->k == NULL)
        return -1;
    block->v = block->k + BLOCK * block->key_bytes;
    return 0;
}

/* Calls each(s, h, block, layer, from, to) in the order of the file. */
static int each_block(struct llama3_session *s, struct hashed *h,
                      int (*each)(struct llama3_session *s, struct hashed *h, struct block *block,
                                  size_t layer, size_t from, size_t to, struct llama3_error *err),
                      struct llama3_error *err)
{
    struct block block;
    size_t n = s->tokens.n, layers = s->model->checkpoint->config.n_layers;
    int status = open_block(&block, s->model, err);
    for (size_t layer = 0; layer < layers && status == 0; layer++)
        for (size_t from = 0; from < n && status == 0; from += BLOCK)
            status = each(s, h, &block, layer, from, from + BLOCK < n ? from + BLOCK : n, err);
    free(block.k);
    return status;
}

/* ---- saving --------------------------------------------------------------------------------- */

static int put_block(struct llama3_session *s, struct hashed *h, struct block *block, size_t layer,
                     size_t from, size_t to, struct llama3_error *err)
{
    size_t n = to - from;
    if (engine_export(s->model->engine, s->sequence, layer, from, to, block->k, block->v, err) < 0)
        return -1;
    return put(h, block->k, n * block->key_bytes, err) < 0
               ? -1
               : put(h, block->v, n * block->value_bytes, err);
}

static int save(struct llama3_session *s, struct hashed *h, struct llama3_error *err)
{
    size_t vocab_size = engine_vocab_size(s->model->engine);
    struct session_header header = {.n_tokens = s->tokens.n,
                                    .n_logits = s->has_logits ? vocab_size : 0};
    uint8_t digest[SHA256_DIGEST_SIZE];
    identities_make(s->model, &header.identities);
    if (put(h, magic, MAGIC, err) < 0 || put(h, &header, sizeof header, err) < 0 ||
        put(h, sequence_scales(s->sequence), s->model->n_loras * sizeof(float), err) < 0 ||
        put(h, s->tokens.ids, s->tokens.n * sizeof *s->tokens.ids, err) < 0 ||
        put(h, s->logits, (size_t)header.n_logits * sizeof *s->logits, err) < 0 ||
        each_block(s, h, put_block, err) < 0)
        return -1;
    sha256_digest(&h->sha, sizeof digest, digest);
    return new_file_write(&h->out, digest, sizeof digest, err);
}

int llama3_session_save(struct llama3_session *s, const char *path, struct llama3_error *err)
{
    struct hashed h = {.path = path};
    if (s->ended.code != LLAMA3_OK)
        return error_copy(err, &s->ended);
    if (path_check(path, "session", err) < 0)
        return -1;
    if (llama3_model_has_file(s->model->owner, path))
        return error_input(
            err, "%s: expected a path that is none of the model's files, found one of them", path);
    if (session_begin(s, err) < 0)
        return -1;
    session_leave(s);
    sha256_init(&h.sha);
    int status = new_file_open(&h.out, path, NEW_FILE_PRIVATE, err);
    if (status == 0 && save(s, &h, err) == 0) {
        status = new_file_commit(&h.out, err);
    } else if (status == 0) {
        new_file_abandon(&h.out);
        status = -1;
    }
    session_end(s);
    return status;
}

/* ---- loading -------------------------------------------------------------------------------- */

static int get_block(struct llama3_session *s, struct hashed *h, struct block *block, size_t layer,
                     size_t from, size_t to, struct llama3_error *err)
{
    size_t n = to - from;
    if (get(h, block->k, n * block->key_bytes, err) < 0 ||
        get(h, block->v, n * block->value_bytes, err) < 0)
        return -1;
    return engine_import(s->model->engine, s->sequence, layer, from, to, block->k, block->v, err);
}

/* Whether the file is one of this model's, and as long as it says it is. */
static int check_header(const struct session_model *model, const struct hashed *h,
                        const struct session_header *header, struct llama3_error *err)
{
    static const char *const names[N_IDENTITIES] = {
        [OF_MODEL] = "model",
        [OF_BUILD] = "build of the library",
        [OF_BACKENDS] = "instruction set and placement on devices",
        [OF_KV] = "KV type",
        [OF_ADAPTERS] = "model with these adapters",
    };
    struct identities own;
    size_t context = engine_context(model->engine), vocab_size = engine_vocab_size(model->engine);
    identities_make(model, &own);
    for (size_t i = 0; i < N_IDENTITIES; i++)
        if (memcmp(own.digests[i], header->identities.digests[i], SHA256_DIGEST_SIZE) != 0)
            return error_input(err, "%s: expected a session of this %s, found one of another",
                               h->path, names[i]);
    if (header->n_tokens > context)
        return error_set(err, LLAMA3_ECONTEXT,
                         "%s: expected at most the context's %zu tokens, found %" PRIu64, h->path,
                         context, header->n_tokens);
    if (header->n_logits != 0 && (header->n_logits != vocab_size || header->n_tokens == 0))
        return error_input(err, "%s: expected 0 or %zu logits, found %" PRIu64, h->path, vocab_size,
                           header->n_logits);
    uint64_t size = MAGIC + sizeof *header + model->n_loras * sizeof(float) +
                    header->n_tokens * sizeof(int32_t) + header->n_logits * sizeof(float) +
                    header->n_tokens * llama3_model_info(model->owner)->kv_bytes_per_token +
                    SHA256_DIGEST_SIZE;
    return h->in_size == size ? 0
                              : error_input(err, "%s: expected %" PRIu64 " bytes, found %zu",
                                            h->path, size, h->in_size);
}

/* Those that the session had; where they are fixed, they are what it has. */
static int get_scales(struct llama3_session *s, struct hashed *h, struct llama3_error *err)
{
    float *scales = sequence_scales(s->sequence);
    for (size_t i = 0; i < s->model->n_loras; i++) {
        float scale;
        if (get(h, &scale, sizeof scale, err) < 0 || session_check_scale((double)scale, err) < 0)
            return -1;
        if (s->model->loras_vary)
            scales[i] = scale;
    }
    return 0;
}

static int get_tokens(struct llama3_session *s, struct hashed *h, size_t n,
                      struct llama3_error *err)
{
    size_t vocab_size = engine_vocab_size(s->model->engine);
    for (size_t i = 0; i < n; i++) {
        int32_t token;
        if (get(h, &token, sizeof token, err) < 0)
            return -1;
        if (token < 0 || (size_t)token >= vocab_size)
            return error_input(err, "%s: token %zu: expected an id from 0 to %zu, found %d",
                               h->path, i, vocab_size - 1, (int)token);
        tokens_add(&s->tokens, token);
    }
    return s->tokens.failed ? error_memory(err, "tokens", n * sizeof(int32_t)) : 0;
}

/* At the end of all that has a digest. */
static int check_digest(struct hashed *h, struct llama3_error *err)
{
    uint8_t digest[SHA256_DIGEST_SIZE], found[SHA256_DIGEST_SIZE];
    sha256_digest(&h->sha, sizeof digest, digest);
    if (get(h, found, sizeof found, err) < 0)
        return -1;
    return memcmp(digest, found, sizeof digest) == 0
               ? 0
               : error_input(err, "%s: the file is damaged: its digest is not that of its bytes",
                             h->path);
}

/* Reads on to the digest. -1, and err as it is unless the digest is wrong. */
static int check_bytes(struct hashed *h, struct llama3_error *err)
{
    char bytes[4096];
    long at = ftell(h->in);
    size_t left = h->in_size - (size_t)at;
    left = left > SHA256_DIGEST_SIZE ? left - SHA256_DIGEST_SIZE : 0;
    while (left > 0) {
        size_t n = left < sizeof bytes ? left : sizeof bytes;
        if (get(h, bytes, n, err) < 0)
            return -1;
        left -= n;
    }
    check_digest(h, err);
    return -1;
}

static int load(struct llama3_session *s, struct hashed *h, struct llama3_error *err)
{
    char found[MAGIC];
    struct session_header header;
    if (get(h, found, MAGIC, err) < 0)
        return -1;
    if (memcmp(found, magic, MAGIC) != 0)
        return error_input(err, "%s: expected a saved session, found another file", h->path);
    if (get(h, &header, sizeof header, err) < 0)
        return -1;
    if (check_header(s->model, h, &header, err) < 0)
        return check_bytes(h, err); /* or a damaged file would be said to be another model's */
    if (get_scales(s, h, err) < 0 || get_tokens(s, h, (size_t)header.n_tokens, err) < 0 ||
        get(h, s->logits, (size_t)header.n_logits * sizeof *s->logits, err) < 0 ||
        engine_reserve(s->model->engine, s->sequence, s->tokens.n, err) < 0 ||
        each_block(s, h, get_block, err) < 0)
        return -1;
    s->has_logits = header.n_logits > 0;
    return check_digest(h, err);
}

struct llama3_session *session_load(const struct session_model *model, const char *path,
                                    struct llama3_error *err)
{
    struct hashed h = {.path = path};
    struct llama3_session *s =
        path_check(path, "session", err) < 0 ? NULL : session_open(model, err);
    if (s == NULL)
        return NULL;
    sha256_init(&h.sha);
    h.in = file_open(path, &h.in_size, err);
    int status = h.in != NULL ? load(s, &h, err) : -1;
    if (h.in != NULL)
        fclose(h.in);
    if (status == 0)
        return s;
    session_discard(s);
    return NULL;
}
