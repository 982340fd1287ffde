/* SPDX-License-Identifier: MIT */
/* session_stored.c: sessions and the store of pages: the roots of their chains, and what a prompt
 * finds there. */
#include "config.h"

#include <nettle/hmac.h>
#include <nettle/sha2.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/path.h"
#include "base/size.h"
#include "base/sized.h"
#include "checkpoint/sources.h"
#include "engine/identity.h"
#include "engine/session.h"

enum {
    WINDOW = 64,              /* pages that are looked for before they are taken */
    CHECKERS = 4,             /* threads that read them at most, */
    WORTH_A_THREAD = 4 << 20, /* for bytes of at least so many */
};
static const uint64_t DEFAULT_BYTES = (uint64_t)2 << 30;

/* ---- roots --------------------------------------------------------------------------------- */

static void add_text(struct sha256_ctx *sha, const char *text)
{
    sha256_update(sha, strlen(text) + 1, (const uint8_t *)text);
}

/* The files, so that no page outlives a change of the weights, however small: OF_MODEL has samples
 * of them. */
static void add_files(struct sha256_ctx *sha, const char *path)
{
    struct sources sources;
    if (sources_list(&sources, path, NULL) == 0)
        for (size_t i = 0; i < sources.n; i++) {
            const struct stat *st = &sources.items[i].st;
            const uint64_t numbers[] = {(uint64_t)st->st_size, (uint64_t)st->st_mtim.tv_sec,
                                        (uint64_t)st->st_mtim.tv_nsec};
            sha256_update(sha, sizeof numbers, (const uint8_t *)numbers);
        }
    sources_free(&sources);
}

/* Besides the identities, pages depend on who multiplies (OpenBLAS rounds otherwise), and on how
 * they are laid out. */
static void make_identity(const struct session_model *model, struct kv_digest *out)
{
    struct identities identities;
    struct sha256_ctx sha;
    identities_make(model, &identities);
    sha256_init(&sha);
    sha256_update(&sha, sizeof identities, (const uint8_t *)&identities);
    add_text(&sha, llama3_model_info(model->owner)->exactness);
    add_text(&sha, engine_page_layout(model->engine));
    add_files(&sha, model->checkpoint->path);
    sha256_digest(&sha, sizeof out->bytes, out->bytes);
}

/* An owner without a key is one of this run alone: nothing of it is kept. */
void session_begin_chain(struct llama3_session *s)
{
    const struct session_model *model = s->model;
    struct sha256_ctx sha;
    if (model->store == NULL || s->chain.begun || (s->owner != 0 && !s->has_owner_key))
        return;
    sha256_init(&sha);
    sha256_update(&sha, sizeof model->identity.bytes, model->identity.bytes);
    sha256_update(&sha, model->n_loras * sizeof(float),
                  (const uint8_t *)sequence_scales(s->sequence));
    s->chain.root.owner = 0;
    if (s->has_owner_key) {
        sha256_update(&sha, sizeof s->owner_key.bytes, s->owner_key.bytes);
        memcpy(&s->chain.root.owner, s->owner_key.bytes, sizeof s->chain.root.owner);
        s->chain.root.owner |= 1; /* 0 is the user */
    }
    sha256_digest(&sha, sizeof s->chain.root.digest.bytes, s->chain.root.digest.bytes);
    s->chain.begun = true;
    kv_chain_use(&s->chain);
}

int llama3_session_owner_key(struct llama3_session *s, const void *key, size_t n,
                             struct llama3_error *err)
{
    static const char what[] = "llama3-kv owner 1";
    struct hmac_sha256_ctx hmac;
    if (s->tokens.n > 0)
        return error_input(err, "owner: expected a session without tokens, found %zu", s->tokens.n);
    if (key == NULL || n == 0)
        return error_input(err, "owner: expected a key of one byte or more, found none");
    hmac_sha256_set_key(&hmac, n, key);
    hmac_sha256_update(&hmac, sizeof what, (const uint8_t *)what);
    hmac_sha256_digest(&hmac, sizeof s->owner_key.bytes, s->owner_key.bytes);
    s->has_owner_key = true;
    s->chain.begun = false;
    return 0;
}

/* ---- opening ------------------------------------------------------------------------------- */

int session_keep_in(struct session_model *model, const struct llama3_prefix_store *callers,
                    struct llama3_error *err)
{
    struct llama3_prefix_store o;
    if (sized_take(&o, sizeof o, callers, "llama3_prefix_store", err) < 0 ||
        path_check(o.directory, "directory", err) < 0)
        return -1;
    if (model->engine == NULL || model->store != NULL)
        return error_input(err, "prefixes: expected a model %s",
                           model->engine == NULL ? "with weights, found one opened with vocab_only"
                                                 : "without a directory, found one that has one");
    struct kv_store *store = kv_store_open(o.directory, o.bytes > 0 ? o.bytes : DEFAULT_BYTES,
                                           engine_page_bytes(model->engine), err);
    if (store == NULL)
        return -1;
    make_identity(model, &model->identity);
    if (engine_keep_in(model->engine, store, err) < 0) {
        kv_store_close(store);
        return -1;
    }
    model->on_note = o.on_note;
    model->note_arg = o.arg;
    model->store = store;
    return 0;
}

void session_note(const struct session_model *model)
{
    struct llama3_error note;
    if (model->store != NULL && kv_store_note(model->store, &note) && model->on_note != NULL)
        model->on_note(model->note_arg, note.message);
}

/* ---- taking pages -------------------------------------------------------------------------- */

/* A file that is lent to a sequence. */
struct lent_file {
    struct kv_lent base;
    struct map map;
};

static int check_file(const struct kv_lent *lent, struct llama3_error *err)
{
    return map_check(&((const struct lent_file *)lent)->map, err);
}

static void release_file(struct kv_lent *lent)
{
    struct lent_file *file = (struct lent_file *)lent;
    map_close(&file->map);
    free(file);
}

/* The session's page becomes that of a map, which it takes over. -1: the session has fewer pages.
 */
static int take_page(struct llama3_session *s, size_t page, struct map *map)
{
    struct lent_file *file = size_alloc(1, sizeof *file);
    if (file == NULL) {
        map_close(map);
        return -1;
    }
    *file = (struct lent_file){{map->data + KV_STORE_HEADER, check_file, release_file}, *map};
    return engine_put_page(s->model->engine, s->sequence, page, &file->base, NULL);
}

/* Maps whose pages are being checked. */
struct checking {
    struct kv_store *store;
    struct map *maps; /* [n] */
    size_t n;
    atomic_size_t next;
    atomic_bool good[WINDOW];
};

static void *check_some(void *arg)
{
    struct checking *c = arg;
    for (size_t i; (i = atomic_fetch_add(&c->next, 1)) < c->n;)
        c->good[i] = kv_store_check(c->store, &c->maps[i]);
    return NULL;
}

/* How many of the maps are good from the first on; the others are closed. */
static size_t check_maps(const struct session_model *model, struct map *maps, size_t n)
{
    struct checking c = {.store = model->store, .maps = maps, .n = n};
    pthread_t threads[CHECKERS];
    size_t most = (size_t)llama3_model_info(model->owner)->threads, started = 0, good = 0;
    sigset_t all, before;
    most = most < CHECKERS ? most : CHECKERS;
    most = most < n ? most : n;
    if (n * engine_page_bytes(model->engine) < WORTH_A_THREAD)
        most = 1;
    sigfillset(&all);
    sigdelset(&all, SIGBUS);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (started + 1 < most && pthread_create(&threads[started], NULL, check_some, &c) == 0)
        started++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    check_some(&c);
    while (started > 0)
        pthread_join(threads[--started], NULL);
    while (good < n && c.good[good])
        good++;
    for (size_t i = good; i < n; i++)
        map_close(&maps[i]);
    return good;
}

/* Takes whole pages from `first` on, of those before `end`; how many. *failed: the session has no
 * more pages than these. */
static size_t take_some(struct llama3_session *s, const int32_t *tokens, size_t first, size_t end,
                        bool *failed)
{
    struct map maps[WINDOW];
    struct kv_place place;
    size_t n = 0, taken = 0;
    while (n < WINDOW && first + n < end && kv_chain_place(&s->chain, tokens, first + n, &place) &&
           kv_store_map(s->model->store, &place, &maps[n])) {
        map_want(&maps[n], maps[n].data, maps[n].size);
        n++;
    }
    n = n > 0 ? check_maps(s->model, maps, n) : 0;
    while (taken < n && take_page(s, first + taken, &maps[taken]) == 0)
        taken++;
    *failed = taken < n;
    for (size_t i = taken + 1; i < n; i++)
        map_close(&maps[i]);
    return taken;
}

/* Takes the page that begins with most of the tokens that are left; how many. */
static size_t take_near(struct llama3_session *s, const int32_t *tokens, size_t page, size_t left)
{
    struct map map;
    const struct kv_digest *before = kv_chain_before(&s->chain, page);
    size_t n = left < KV_PAGE ? left : KV_PAGE - 1;
    n = kv_store_near(s->model->store, &s->chain.root, before, page, tokens + page * KV_PAGE, n,
                      &map);
    if (n == 0 || check_maps(s->model, &map, 1) == 0 || take_page(s, page, &map) < 0)
        return 0;
    return n;
}

size_t session_take_stored(struct llama3_session *s, const int32_t *tokens, size_t n, size_t held)
{
    size_t had = s->tokens.n, most = n - 1, page = held / KV_PAGE, end = most / KV_PAGE, taken;
    bool failed;
    session_begin_chain(s);
    if (!s->chain.begun)
        return held;
    kv_chain_use(&s->chain);
    if (held >= most)
        return held;
    do {
        taken = take_some(s, tokens, page, end, &failed);
        page += taken;
    } while (taken == WINDOW);
    held = failed || page * KV_PAGE > held ? page * KV_PAGE : held;
    if (held == page * KV_PAGE && held < most && !failed &&
        kv_chain_extend(&s->chain, tokens, page))
        held += take_near(s, tokens, page, most - held);
    s->tokens.n = held < had ? held : had;
    for (size_t i = had; i < held; i++)
        tokens_add(&s->tokens, tokens[i]);
    if (s->tokens.failed) {
        s->tokens.failed = false;
        s->tokens.n = held = had;
        engine_truncate(s->model->engine, s->sequence, had);
    }
    if (held != had)
        s->has_logits = false;
    kv_chain_cut(&s->chain, held);
    return held;
}
