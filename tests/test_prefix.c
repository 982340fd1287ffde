/* SPDX-License-Identifier: MIT */
/*
 * test_prefix: the prefix cache against a naive model of it, a list of sequences that are compared
 * token by token, over long random runs: lengths of prefixes, who loses what, pages to the byte,
 * and without memory. And through llama3.h: the same bits as without it, its limit, owners,
 * threads.
 */
#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "deferred.h"
#include "engine/prefix.h"
#include "failing.h"
#include "llama3.h"
#include "run.h"
#include "session.h"

static struct llama3_error err;

/* ---- the naive model --------------------------------------------------------------------- */

enum { MAX_TOKENS = 320 /* five pages */, MAX_ENTRIES = 64, N_OWNERS = 3, N_MIXES = 2 };

struct entry {
    int owner, mix; /* of adapters */
    size_t n;
    int32_t tokens[MAX_TOKENS];
    uint64_t used[MAX_TOKENS]; /* when each was used last */
};

/* No entry is the beginning of another. */
struct naive {
    struct entry entries[MAX_ENTRIES];
    size_t n;
    uint64_t clock;
    int owners[N_OWNERS]; /* that have entries; the one that came last is first */
    size_t n_owners;
};

static size_t alike(const int32_t *a, size_t n_a, const int32_t *b, size_t n_b)
{
    size_t i = 0;
    while (i < n_a && i < n_b && a[i] == b[i])
        i++;
    return i;
}

/* How much of some tokens an entry has. */
static size_t shares(const struct entry *e, int owner, int mix, const int32_t *tokens, size_t n)
{
    return e->owner == owner && e->mix == mix ? alike(e->tokens, e->n, tokens, n) : 0;
}

static size_t naive_find(const struct naive *m, int owner, int mix, const int32_t *tokens, size_t n)
{
    size_t most = 0;
    for (size_t i = 0; i < m->n; i++) {
        size_t same = shares(&m->entries[i], owner, mix, tokens, n);
        most = same > most ? same : most;
    }
    return most;
}

static void naive_touch(struct naive *m, int owner, int mix, const int32_t *tokens, size_t n)
{
    m->clock++;
    for (size_t i = 0; i < m->n; i++) {
        size_t same = shares(&m->entries[i], owner, mix, tokens, n);
        for (size_t p = 0; p < same; p++)
            m->entries[i].used[p] = m->clock;
    }
}

static void list_owners(struct naive *m)
{
    size_t n = 0;
    for (size_t o = 0; o < m->n_owners; o++) {
        bool there = false;
        for (size_t i = 0; i < m->n; i++)
            there = there || m->entries[i].owner == m->owners[o];
        if (there)
            m->owners[n++] = m->owners[o];
    }
    m->n_owners = n;
}

static void naive_remove(struct naive *m, size_t i)
{
    m->entries[i] = m->entries[--m->n];
    list_owners(m);
}

static void naive_give(struct naive *m, int owner, int mix, const int32_t *tokens, size_t n)
{
    bool known = false;
    for (size_t o = 0; o < m->n_owners; o++)
        known = known || m->owners[o] == owner;
    if (!known) {
        memmove(m->owners + 1, m->owners, m->n_owners++ * sizeof *m->owners);
        m->owners[0] = owner;
    }
    if (naive_find(m, owner, mix, tokens, n) < n) {
        struct entry *added = &m->entries[m->n];
        ck_assert_uint_lt(m->n, MAX_ENTRIES);
        *added = (struct entry){.owner = owner, .mix = mix, .n = n};
        memcpy(added->tokens, tokens, n * sizeof *tokens);
        for (size_t i = m->n++; i-- > 0;)
            if (shares(&m->entries[i], owner, mix, tokens, n) == m->entries[i].n)
                naive_remove(m, i);
    }
    naive_touch(m, owner, mix, tokens, n);
}

/* Distinct pages; owner -1: of all. */
static size_t naive_pages(const struct naive *m, int owner)
{
    size_t pages = 0;
    for (size_t i = 0; i < m->n; i++) {
        const struct entry *e = &m->entries[i];
        size_t whole = 0; /* pages that an entry before it has as well */
        for (size_t j = 0; j < i; j++) {
            size_t same = shares(&m->entries[j], e->owner, e->mix, e->tokens, e->n) / KV_PAGE;
            whole = same > whole ? same : whole;
        }
        pages += owner == -1 || owner == e->owner ? kv_pages(e->n) - whole : 0;
    }
    return pages;
}

/* Forgets the last position of what was used least recently, of the owner that has most. True if
 * that may have freed a page. */
static bool naive_forget(struct naive *m)
{
    size_t most = 0, oldest = MAX_ENTRIES;
    int owner = -1;
    for (size_t o = 0; o < m->n_owners; o++) {
        size_t pages = naive_pages(m, m->owners[o]);
        if (owner == -1 || pages > most) {
            most = pages;
            owner = m->owners[o];
        }
    }
    for (size_t i = 0; i < m->n; i++) {
        const struct entry *e = &m->entries[i], *least = &m->entries[oldest];
        if (e->owner == owner &&
            (oldest == MAX_ENTRIES || e->used[e->n - 1] < least->used[least->n - 1]))
            oldest = i;
    }
    struct entry *e = &m->entries[oldest];
    bool frees = --e->n % KV_PAGE == 0;
    for (size_t i = 0; i < m->n; i++)
        if (i != oldest && shares(&m->entries[i], e->owner, e->mix, e->tokens, e->n) == e->n) {
            naive_remove(m, oldest);
            return true;
        }
    if (e->n == 0)
        naive_remove(m, oldest);
    return frees;
}

static void naive_drop(struct naive *m, size_t to)
{
    while (naive_pages(m, -1) > to)
        while (!naive_forget(m))
            ;
}

/* ---- both, side by side ------------------------------------------------------------------ */

static uint32_t state;

static size_t below(size_t n)
{
    state = state * 1664525 + 1013904223;
    return (size_t)(((uint64_t)(state >> 8) * n) >> 24);
}

struct pair {
    struct model model;
    struct forward *forward;
    struct prefix_index *index;
    uint64_t page_bytes;
    struct naive naive;
};

static const float mixes[N_MIXES][2] = {{0, 1}, {1, 1}};

/* Layers alternate between the CPU and a device, so that a sequence has pages in both. */
static void open_pair(struct pair *pair)
{
    struct span spans[64];
    const struct backend_ops *const backends[] = {backend_find("cpu", &err), &deferred_ops};
    struct plan plan = {.backends = backends, .n_backends = 2, .spans = spans};
    struct forward_options options = {.backend = {.threads = 1, .no_blas = true},
                                      .max_rows = 1,
                                      .max_logit_rows = 1,
                                      .max_seqs = 1,
                                      .max_context = MAX_TOKENS,
                                      .kv_type = LLAMA3_KV_F16};
    memset(&pair->naive, 0, sizeof pair->naive);
    ck_assert_msg(model_open(&pair->model, TEST_DATA "/tiny-f32", &err) == 0, "%s", err.message);
    ck_assert_uint_ge(pair->model.config.n_layers, 2);
    for (size_t layer = 0; layer < pair->model.config.n_layers; layer++)
        spans[plan.n_spans++] =
            (struct span){layer == 0 ? 0 : stage_of(layer, STAGE_QKV), layer % 2};
    pair->forward = forward_open(&pair->model, &plan, &options, &err);
    ck_assert_msg(pair->forward != NULL, "%s", err.message);
    pair->index = prefix_open(pair->forward, 2, &err);
    ck_assert_ptr_nonnull(pair->index);
    pair->page_bytes = sequence_missing(pair->forward, NULL, 0, 1);
    ck_assert_uint_gt(pair->page_bytes, 0);
}

static void close_pair(struct pair *pair)
{
    prefix_close(pair->index);
    ck_assert_uint_eq(forward_kv_bytes(pair->forward), 0);
    forward_close(pair->forward);
    model_close(&pair->model);
}

/* A live session, as far as this goes: its keys and values are not computed. */
struct live {
    struct sequence *sequence;
    int owner, mix;
    size_t n;
    int32_t tokens[MAX_TOKENS];
};

static void set_scales(struct live *live)
{
    memcpy(sequence_scales(live->sequence), mixes[live->mix], sizeof mixes[0]);
}

/* Begins like what is held already, more often than not, and goes on with few kinds of tokens. */
static size_t make_tokens(const struct naive *m, int32_t *tokens)
{
    size_t from = 0, n;
    const struct entry *e = m->n > 0 ? &m->entries[below(m->n)] : NULL;
    if (e != NULL && below(8) > 0) {
        from = below(3) == 0 ? e->n : below(e->n + 1);
        memcpy(tokens, e->tokens, from * sizeof *tokens);
    }
    n = from + (below(4) > 0 ? below(20) : below(200));
    n = n < 1 ? 1 : n > MAX_TOKENS ? MAX_TOKENS : n;
    for (size_t i = from < n ? from : n; i < n; i++)
        tokens[i] = (int32_t)below(3);
    return n;
}

/* Memory fails in some runs; what failed has changed nothing. */
static bool fails_now;

static bool begin_failing(void)
{
    fails_in = fails_now && below(3) == 0 ? 1 + below(6) : 0;
    return fails_in > 0;
}

/* Whether an allocation failed. */
static bool end_failing(bool began)
{
    bool failed = began && fails_in == 0;
    fails_in = 0;
    return failed;
}

static void begin_live(struct pair *pair, struct live *live)
{
    size_t length = 0;
    live->owner = (int)below(N_OWNERS);
    live->mix = (int)below(N_MIXES);
    live->n = make_tokens(&pair->naive, live->tokens);
    size_t expected = naive_find(&pair->naive, live->owner, live->mix, live->tokens, live->n);
    size_t more_than = below(4) == 0 ? below(MAX_TOKENS) : 0;
    bool failing = begin_failing();
    live->sequence = prefix_take(pair->index, live->owner, mixes[live->mix], live->tokens, live->n,
                                 more_than, &length);
    bool failed = end_failing(failing);
    if (live->sequence == NULL)
        require(expected <= more_than || failed, "%zu tokens were not found", expected);
    else {
        require(length == expected, "%zu tokens were found of %zu", length, expected);
        naive_touch(&pair->naive, live->owner, live->mix, live->tokens, length);
    }
    if (live->sequence == NULL)
        live->sequence = sequence_open(pair->forward, &err);
    set_scales(live); /* of adapters that this forward doesn't have */
    require(sequence_reserve(pair->forward, live->sequence, length, live->n, &err) == 0, "%s",
            err.message);
}

static void end_live(struct pair *pair, struct live *live)
{
    bool failing = begin_failing();
    prefix_give(pair->index, live->owner, live->sequence, live->tokens, live->n);
    if (!end_failing(failing))
        naive_give(&pair->naive, live->owner, live->mix, live->tokens, live->n);
    live->sequence = NULL;
}

/* Another session goes on from here. */
static void fork_live(struct pair *pair, const struct live *from, struct live *live)
{
    size_t shared = below(from->n + 1);
    *live = *from;
    live->sequence = sequence_fork(pair->forward, from->sequence, shared, &err);
    set_scales(live);
    live->n = shared + below(100);
    live->n = live->n < 1 ? 1 : live->n > MAX_TOKENS ? MAX_TOKENS : live->n;
    for (size_t i = shared; i < live->n; i++)
        live->tokens[i] = (int32_t)below(3);
    require(sequence_reserve(pair->forward, live->sequence, shared, live->n, &err) == 0, "%s",
            err.message);
}

static void check_pages(const struct pair *pair, bool alone, size_t step)
{
    size_t pages = naive_pages(&pair->naive, -1);
    require(prefix_pages(pair->index) == pages, "step %zu: %zu pages are held, not %zu", step,
            prefix_pages(pair->index), pages);
    require(!alone || forward_kv_bytes(pair->forward) == pages * pair->page_bytes,
            "step %zu: %zu pages take %llu bytes", step, pages,
            (unsigned long long)forward_kv_bytes(pair->forward));
}

static void drop_to(struct pair *pair, size_t pages)
{
    while (prefix_pages(pair->index) > pages)
        require(prefix_drop(pair->index), "nothing is left to drop");
    naive_drop(&pair->naive, pages);
}

START_TEST(agrees_with_the_naive_model)
{
    enum { STEPS = 6000, N_LIVE = 3, MOST = 40 };
    static struct pair pair;
    struct live live[N_LIVE] = {0};
    state = 11 + (uint32_t)_i;
    fails_now = _i % 2 == 1;
    open_pair(&pair);
    for (size_t step = 0; step < STEPS; step++) {
        struct live *l = &live[below(N_LIVE)], *other = &live[below(N_LIVE)];
        if (l->sequence == NULL)
            begin_live(&pair, l);
        else if (other->sequence == NULL && below(2) == 0)
            fork_live(&pair, l, other);
        else
            end_live(&pair, l);
        size_t pages = prefix_pages(pair.index);
        if (pages > MOST)
            drop_to(&pair, MOST - below(8));
        else if (pages > 0 && below(30) == 0)
            drop_to(&pair, pages - 1 - below(pages));
        bool alone = true;
        for (size_t i = 0; i < N_LIVE; i++)
            alone = alone && live[i].sequence == NULL;
        check_pages(&pair, alone, step);
        if (step % 100 == 0)
            for (size_t i = 0; i < N_LIVE; i++)
                if (live[i].sequence != NULL)
                    end_live(&pair, &live[i]);
    }
    for (size_t i = 0; i < N_LIVE; i++)
        sequence_close(pair.forward, live[i].sequence);
    check_pages(&pair, true, STEPS);
    if (_i % 4 < 2)
        drop_to(&pair, 0);
    ck_assert(_i % 4 >= 2 || !prefix_drop(pair.index));
    close_pair(&pair);
}
END_TEST

/* ---- through llama3.h -------------------------------------------------------------------- */

enum { N_TOKENS = 200, CONTEXT = 256 };

static struct llama3_model *open_model(const char *name)
{
    char path[4096];
    struct llama3_model_options options = {
        .size = sizeof options, .context = CONTEXT, .threads = 2, .chunk = 40, .no_blas = true};
    snprintf(path, sizeof path, "%s/%s", TEST_DATA, name);
    struct llama3_model *model = llama3_model_open(path, &options, &err);
    ck_assert_msg(model != NULL, "%s", err.message);
    return model;
}

/* Sets a session to some tokens; returns how many of them it did not read. */
static size_t set(struct llama3_session *session, const int32_t *tokens, size_t n)
{
    size_t cached, has;
    require(llama3_session_set(session, tokens, n, NULL, NULL, &cached, &err) == 0, "%s",
            err.message);
    llama3_session_tokens(session, &has);
    require(has == n, "%zu tokens instead of %zu", has, n);
    return cached;
}

/* The same in a new session of an owner, which is closed. logits: [vocab_size], or NULL. */
static size_t use(struct llama3_model *model, int owner, const int32_t *tokens, size_t n,
                  float *logits)
{
    struct llama3_session *session = open_session(model);
    require(llama3_session_owner(session, owner, &err) == 0, "%s", err.message);
    size_t cached = set(session, tokens, n);
    if (logits != NULL)
        memcpy(logits, llama3_session_logits(session),
               llama3_model_info(model)->vocab_size * sizeof *logits);
    llama3_session_close(session);
    return cached;
}

static const char *const models[] = {"tiny-long", "tiny-bf16", "tiny-gguf-q4_0/model.gguf",
                                     "tiny-gguf-k/model.gguf"};
enum { N_MODELS = sizeof models / sizeof models[0] };

/* Prompts that begin like earlier ones: the same bits as without the cache, whatever is held. */
START_TEST(what_is_cached_gives_the_same_bits)
{
    enum { N_PROMPTS = 60, N_KINDS = 4 };
    struct llama3_model *model = open_model(models[_i]), *fresh = open_model(models[_i]);
    size_t vocab = llama3_model_info(model)->vocab_size, all_cached = 0, all = 0;
    float *logits = calloc(vocab, sizeof *logits), *expected = calloc(vocab, sizeof *logits);
    int32_t kinds[N_KINDS][N_TOKENS], tokens[N_TOKENS];
    state = 5;
    for (uint32_t i = 0; i < N_KINDS; i++)
        some_tokens(model, kinds[i], N_TOKENS, i);
    llama3_model_keep_prefixes(model, 12 * KV_PAGE * llama3_model_info(model)->kv_bytes_per_token);
    for (size_t i = 0; i < N_PROMPTS; i++) {
        size_t part = below(3) == 0 ? KV_PAGE * below(4) : below(N_TOKENS), n = 1 + below(N_TOKENS);
        memcpy(tokens, kinds[below(N_KINDS)], sizeof tokens);
        if (part < N_TOKENS)
            memcpy(tokens + part, kinds[below(N_KINDS)], (N_TOKENS - part) * sizeof *tokens);
        all_cached += use(model, 0, tokens, n, logits);
        all += n;
        ck_assert_uint_eq(use(fresh, 0, tokens, n, expected), 0);
        ck_assert_mem_eq(logits, expected, vocab * sizeof *logits);
    }
    ck_assert_uint_gt(all_cached, all / 4);
    ck_assert_uint_lt(all_cached, all);
    free(logits);
    free(expected);
    llama3_model_close(model);
    llama3_model_close(fresh);
}
END_TEST

START_TEST(sessions_leave_what_others_begin_with)
{
    struct llama3_model *model = open_model("tiny-f32");
    int32_t a[N_TOKENS], b[N_TOKENS];
    size_t cached, n;
    some_tokens(model, a, N_TOKENS, 1);
    some_tokens(model, b, N_TOKENS, 2);
    memcpy(b, a, 100 * sizeof *a);
    b[100] = (a[100] + 1) % 8;

    /* Nothing is kept unless it is asked for. */
    use(model, 0, a, 150, NULL);
    ck_assert_uint_eq(use(model, 0, a, 150, NULL), 0);
    ck_assert_uint_eq(llama3_model_kv_bytes(model), 0);

    llama3_model_keep_prefixes(model, UINT64_MAX);
    ck_assert_uint_eq(use(model, 0, a, 100, NULL), 0);
    uint64_t two = llama3_model_kv_bytes(model), page = two / 2;
    ck_assert_uint_eq(llama3_model_prefix_bytes(model), two);
    ck_assert_uint_eq(use(model, 0, a, 150, NULL), 100); /* a continuation: one more page */
    ck_assert_uint_eq(llama3_model_kv_bytes(model), 3 * page);
    ck_assert_uint_eq(use(model, 0, b, 150, NULL), 100); /* a branch within the second page */
    ck_assert_uint_eq(llama3_model_kv_bytes(model), 5 * page);
    ck_assert_uint_eq(use(model, 0, a, 150, NULL), 149); /* the last one for its logits */
    ck_assert_uint_eq(use(model, 0, b, 90, NULL), 89);
    ck_assert_uint_eq(llama3_model_kv_bytes(model), 5 * page);
    ck_assert_uint_eq(llama3_model_prefix_bytes(model), 5 * page);

    /* Two that read the same at once: afterwards it is held once. */
    struct llama3_session *one = open_session(model), *other = open_session(model);
    int32_t c[N_TOKENS];
    some_tokens(model, c, N_TOKENS, 3);
    set(one, c, 140);
    set(other, c, 130);
    ck_assert_uint_eq(llama3_model_kv_bytes(model), 11 * page);
    llama3_session_close(one);
    llama3_session_close(other);
    ck_assert_uint_eq(llama3_model_kv_bytes(model), 8 * page);

    /* A session that goes back to another branch, and is asked before it reads. */
    struct llama3_session *session = open_session(model);
    ck_assert_int_eq(llama3_session_adopt(session, b, 150, &cached, &err), 0);
    ck_assert_uint_eq(cached, 149);
    ck_assert_ptr_null(llama3_session_logits(session));
    llama3_session_tokens(session, &n);
    ck_assert_uint_eq(n, 149);
    ck_assert_int_eq(llama3_session_adopt(session, a, 120, &cached, &err), 0);
    ck_assert_uint_eq(cached, 119);
    ck_assert_uint_eq(set(session, c, 200), 140);
    ck_assert_uint_eq(set(session, c, 200), 200);
    ck_assert_uint_eq(set(session, b, 170), 150); /* it left what it had read of c, */
    ck_assert_uint_eq(set(session, c, 200), 199);
    ck_assert_uint_eq(set(session, b, 160), 159); /* and what it had read of b */
    ck_assert_uint_eq(set(session, b, 50), 49);
    ck_assert_int_eq(llama3_session_adopt(session, b, 0, &cached, &err), -1);
    ck_assert_int_eq(llama3_session_adopt(session, b, 10000, &cached, &err), -1);
    ck_assert_int_eq(err.code, LLAMA3_ECONTEXT);
    const int32_t *own = llama3_session_tokens(session, &n); /* its own memory */
    ck_assert_int_eq(llama3_session_adopt(session, own + 3, 40, NULL, &err), 0);
    llama3_session_close(session);

    llama3_model_keep_prefixes(model, 0);
    ck_assert_uint_eq(llama3_model_kv_bytes(model), 0);
    ck_assert_uint_eq(llama3_model_prefix_bytes(model), 0);
    llama3_model_close(model);
}
END_TEST

/* A context is never short of memory for what is only kept. */
START_TEST(the_limit_counts_sessions_as_well)
{
    struct llama3_model *model = open_model("tiny-f32");
    int32_t tokens[6][N_TOKENS];
    for (uint32_t i = 0; i < 6; i++)
        some_tokens(model, tokens[i], N_TOKENS, 10 + i);
    llama3_model_keep_prefixes(model, UINT64_MAX);
    use(model, 0, tokens[0], 64, NULL);
    uint64_t page = llama3_model_kv_bytes(model);
    llama3_model_keep_prefixes(model, 8 * page);
    use(model, 0, tokens[0], 128, NULL);
    use(model, 0, tokens[1], 128, NULL);
    use(model, 0, tokens[2], 128, NULL);
    ck_assert_uint_eq(llama3_model_kv_bytes(model), 6 * page);
    ck_assert_uint_eq(use(model, 0, tokens[0], 64, NULL), 63); /* its first page, not its second */
    struct llama3_session *session = open_session(model);
    set(session, tokens[3], 64 * 3);
    ck_assert_uint_eq(llama3_model_kv_bytes(model), 8 * page);
    ck_assert_uint_eq(llama3_model_prefix_bytes(model), 5 * page);
    for (size_t i = 0; i < 5; i++) { /* one token more takes one page more, once */
        ck_assert_int_eq(llama3_session_eval(session, tokens[3] + 192 + i, 1, 0, NULL, &err), 0);
        ck_assert_uint_eq(llama3_model_kv_bytes(model), 8 * page);
        ck_assert_uint_eq(llama3_model_prefix_bytes(model), 4 * page);
    }
    llama3_session_close(session);
    ck_assert_uint_eq(llama3_model_prefix_bytes(model), 8 * page);
    ck_assert_uint_eq(use(model, 0, tokens[3], 197, NULL), 196);
    ck_assert_uint_eq(use(model, 0, tokens[0], 128, NULL), 64);

    /* Open sessions beyond the limit: nothing is kept. */
    struct llama3_session *many[3];
    for (size_t i = 0; i < 3; i++)
        set(many[i] = open_session(model), tokens[i], 192);
    ck_assert_uint_eq(llama3_model_kv_bytes(model), 9 * page);
    for (size_t i = 0; i < 3; i++)
        llama3_session_close(many[i]);
    ck_assert_uint_eq(llama3_model_kv_bytes(model), 8 * page);
    llama3_model_close(model);
}
END_TEST

START_TEST(owners_share_nothing)
{
    struct llama3_model *model = open_model("tiny-f32");
    int32_t a[N_TOKENS], others[5][N_TOKENS];
    some_tokens(model, a, N_TOKENS, 1);
    for (uint32_t i = 0; i < 5; i++)
        some_tokens(model, others[i], N_TOKENS, 2 + i);
    llama3_model_keep_prefixes(model, UINT64_MAX);
    use(model, 1, a, 64, NULL);
    uint64_t page = llama3_model_kv_bytes(model);
    ck_assert_uint_eq(use(model, 2, a, 64, NULL), 0);
    ck_assert_uint_eq(llama3_model_kv_bytes(model), 2 * page);
    ck_assert_uint_eq(use(model, 1, a, 128, NULL), 64);
    ck_assert_uint_eq(use(model, 2, a, 64, NULL), 63);

    /* With too little memory, the owner that has most loses, however recently it was there. */
    for (size_t i = 0; i < 5; i++)
        use(model, 2, others[i], 64, NULL);
    llama3_model_keep_prefixes(model, 5 * page); /* four, and a copy of one that is written */
    ck_assert_uint_eq(use(model, 1, a, 128, NULL), 127);
    ck_assert_uint_eq(use(model, 2, others[4], 64, NULL), 63);
    ck_assert_uint_eq(use(model, 2, others[3], 64, NULL), 63);
    ck_assert_uint_eq(use(model, 2, a, 64, NULL), 0);

    struct llama3_session *session = open_session(model);
    ck_assert_int_eq(llama3_session_owner(session, 1, &err), 0);
    set(session, a, 100);
    ck_assert_int_eq(llama3_session_owner(session, 2, &err), -1);
    ck_assert_str_eq(err.message, "owner: expected a session without tokens, found 100");
    struct llama3_session *fork = llama3_session_fork(session, 90, &err); /* of the same owner */
    set(fork, others[0], 100);
    llama3_session_close(fork);
    llama3_session_close(session);
    ck_assert_uint_eq(use(model, 1, others[0], 100, NULL), 99);
    llama3_model_close(model);
}
END_TEST

static struct llama3_model *open_adapted(void)
{
    const struct llama3_adapter adapter = {.size = sizeof adapter, .path = TEST_DATA "/lora-all"};
    struct llama3_model_options options = {.size = sizeof options,
                                           .context = CONTEXT,
                                           .threads = 1,
                                           .no_blas = true,
                                           .adapters = &adapter,
                                           .n_adapters = 1,
                                           .adapters_vary = true};
    struct llama3_model *model = llama3_model_open(TEST_DATA "/tiny-f32", &options, &err);
    ck_assert_msg(model != NULL, "%s", err.message);
    return model;
}

static size_t use_scaled(struct llama3_model *model, double scale, const int32_t *tokens, size_t n)
{
    struct llama3_session *session = open_session(model);
    ck_assert_int_eq(llama3_session_adapt(session, NULL, scale, &err), 0);
    size_t cached = set(session, tokens, n);
    llama3_session_close(session);
    return cached;
}

START_TEST(adapters_share_nothing)
{
    struct llama3_model *model = open_adapted();
    int32_t a[N_TOKENS];
    some_tokens(model, a, N_TOKENS, 1);
    llama3_model_keep_prefixes(model, UINT64_MAX);
    ck_assert_uint_eq(use_scaled(model, 1, a, 100), 0);
    ck_assert_uint_eq(use_scaled(model, 0, a, 100), 0);
    ck_assert_uint_eq(use_scaled(model, 0.5, a, 100), 0);
    ck_assert_uint_eq(use_scaled(model, 1, a, 100), 99);
    ck_assert_uint_eq(use_scaled(model, 0, a, 120), 100);
    ck_assert_uint_eq(use(model, 0, a, 100, NULL), 99); /* 1 is what the model was opened with */
    llama3_model_close(model);
}
END_TEST

/* A saved session with a wrong byte is refused, and what was loaded of it is not kept. */
START_TEST(what_is_damaged_is_not_kept)
{
    char path[] = "/tmp/llama3-prefix-XXXXXX";
    struct llama3_model *model = open_model("tiny-f32");
    int32_t a[N_TOKENS];
    some_tokens(model, a, N_TOKENS, 1);
    llama3_model_keep_prefixes(model, UINT64_MAX);
    int file = mkstemp(path);
    ck_assert_int_ge(file, 0);
    struct llama3_session *session = open_session(model);
    set(session, a, 150);
    ck_assert_msg(llama3_session_save(session, path, &err) == 0, "%s", err.message);
    llama3_session_close(session);
    llama3_model_keep_prefixes(model, 0);
    llama3_model_keep_prefixes(model, UINT64_MAX);

    close(file);
    FILE *saved = fopen(path, "r+b");
    ck_assert_ptr_nonnull(saved);
    ck_assert_int_eq(fseek(saved, -1000, SEEK_END), 0);
    int byte = fgetc(saved);
    fseek(saved, -1000, SEEK_END);
    fputc(byte ^ 1, saved);
    fclose(saved);
    ck_assert_ptr_null(llama3_session_load(model, path, &err));
    ck_assert_uint_eq(llama3_model_kv_bytes(model), 0);
    ck_assert_uint_eq(use(model, 0, a, 150, NULL), 0);
    unlink(path);
    llama3_model_close(model);
}
END_TEST

/* ---- threads ----------------------------------------------------------------------------- */

enum { N_THREADS = 6, N_PROMPTS = 16, ROUNDS = 60 };

struct crowd {
    struct llama3_model *model;
    int32_t prompts[N_PROMPTS][N_TOKENS];
    size_t lengths[N_PROMPTS];
    float *logits[N_PROMPTS]; /* [vocab_size] without the cache */
};

struct member {
    struct crowd *crowd;
    uint32_t seed;
    size_t cached;
    bool wrong;
};

static void *converse(void *arg)
{
    struct member *m = arg;
    struct crowd *c = m->crowd;
    size_t vocab = llama3_model_info(c->model)->vocab_size;
    struct llama3_error why = {.size = sizeof why};
    struct llama3_session *session = NULL;
    for (size_t round = 0; round < ROUNDS; round++) {
        m->seed = m->seed * 1664525 + 1013904223;
        size_t i = (m->seed >> 8) % N_PROMPTS, cached = 0;
        if (session == NULL)
            session = llama3_session_open(c->model, &why);
        if (session == NULL ||
            llama3_session_set(session, c->prompts[i], c->lengths[i], NULL, NULL, &cached, &why) !=
                0 ||
            memcmp(llama3_session_logits(session), c->logits[i], vocab * sizeof(float)) != 0)
            m->wrong = true;
        m->cached += cached;
        if ((m->seed >> 24) % 3 > 0) {
            llama3_session_close(session);
            session = NULL;
        }
        if ((m->seed >> 20) % 16 == 0) /* somebody changes the limit */
            llama3_model_keep_prefixes(
                c->model, 8 * KV_PAGE * llama3_model_info(c->model)->kv_bytes_per_token);
        llama3_model_prefix_bytes(c->model);
    }
    llama3_session_close(session);
    return NULL;
}

START_TEST(many_share_it)
{
    static struct crowd crowd;
    struct member members[N_THREADS];
    pthread_t threads[N_THREADS];
    size_t cached = 0;
    crowd.model = open_model("tiny-long");
    size_t vocab = llama3_model_info(crowd.model)->vocab_size;
    state = 3;
    for (uint32_t i = 0; i < N_PROMPTS; i++) {
        some_tokens(crowd.model, crowd.prompts[i], N_TOKENS, i);
        if (i > 0) /* begins like an earlier one */
            memcpy(crowd.prompts[i], crowd.prompts[below(i)],
                   below(N_TOKENS) * sizeof *crowd.prompts[i]);
        crowd.lengths[i] = N_TOKENS - below(60);
        crowd.logits[i] = calloc(vocab, sizeof(float));
        use(crowd.model, 0, crowd.prompts[i], crowd.lengths[i], crowd.logits[i]);
    }
    llama3_model_keep_prefixes(crowd.model,
                               20 * KV_PAGE * llama3_model_info(crowd.model)->kv_bytes_per_token);
    for (uint32_t i = 0; i < N_THREADS; i++) {
        members[i] = (struct member){.crowd = &crowd, .seed = i};
        ck_assert_int_eq(pthread_create(&threads[i], NULL, converse, &members[i]), 0);
    }
    for (size_t i = 0; i < N_THREADS; i++) {
        pthread_join(threads[i], NULL);
        ck_assert(!members[i].wrong);
        cached += members[i].cached;
    }
    ck_assert_uint_gt(cached, 0);
    ck_assert_uint_eq(llama3_model_kv_bytes(crowd.model), llama3_model_prefix_bytes(crowd.model));
    llama3_model_keep_prefixes(crowd.model, 0);
    ck_assert_uint_eq(llama3_model_kv_bytes(crowd.model), 0);
    for (size_t i = 0; i < N_PROMPTS; i++)
        free(crowd.logits[i]);
    llama3_model_close(crowd.model);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("prefix");
    tcase_set_timeout(tcase, 300);
    tcase_add_loop_test(tcase, agrees_with_the_naive_model, 0, 8);
    tcase_add_loop_test(tcase, what_is_cached_gives_the_same_bits, 0, N_MODELS);
    tcase_add_test(tcase, sessions_leave_what_others_begin_with);
    tcase_add_test(tcase, the_limit_counts_sessions_as_well);
    tcase_add_test(tcase, owners_share_nothing);
    tcase_add_test(tcase, adapters_share_nothing);
    tcase_add_test(tcase, what_is_damaged_is_not_kept);
    tcase_add_test(tcase, many_share_it);
    return run_tests("prefix", tcase);
}
