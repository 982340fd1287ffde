/* SPDX-License-Identifier: MIT */
/*
 * test_kv_store: pages in a directory. By themselves: what is put is found and nothing else is,
 * files damaged at every byte of their header and at random elsewhere, cut, foreign and under
 * another page's name, limits and who goes first, several stores on one directory, a disk that is
 * full, allocations that fail. And through llama3.h: prompts of a model that is opened again and
 * again, to the same bits as without a store; owners, adapters, models that changed, files that are
 * cut short while they are in use.
 */
#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/path.h"
#include "engine/kv_store.h"
#include "failing.h"
#include "llama3.h"
#include "run.h"
#include "session.h"
#include "tiny.h"

static struct llama3_error err;
static char *folder;        /* fresh for each test, */
static char directory[512]; /* and the store in it */
static uint32_t state;

static uint32_t below(uint32_t n)
{
    state = state * 1664525 + 1013904223;
    return (uint32_t)((uint64_t)(state >> 8) * n >> 24);
}

static void set_up(void)
{
    err = (struct llama3_error){.size = sizeof err};
    state = 1;
    folder = tiny_folder();
    snprintf(directory, sizeof directory, "%s/a/kv", folder);
}

/* Calls each(path) for the files of a store; how many there are. */
static size_t each_file(void (*each)(const char *path))
{
    size_t n = 0;
    DIR *d = opendir(directory);
    struct dirent *entry;
    while (d != NULL && (entry = readdir(d)) != NULL) {
        char path[1024];
        if (!path_ends_with(entry->d_name, ".kv"))
            continue;
        snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        if (each != NULL)
            each(path);
        n++;
    }
    if (d != NULL)
        closedir(d);
    return n;
}

static void remove_file(const char *path)
{
    ck_assert_int_eq(remove(path), 0);
}

static void tear_down(void)
{
    char path[1024];
    each_file(remove_file);
    snprintf(path, sizeof path, "%s/lock", directory);
    unlink(path);
    rmdir(directory);
    snprintf(path, sizeof path, "%s/a", folder);
    rmdir(path);
    tiny_remove(folder);
}

/* ---- pages by themselves ------------------------------------------------------------------- */

enum { PAGE = 5000, FILE_BYTES = 8192 /* that one counts for */, N_PAGES = 40 };

/* Pages of a chain: their tokens and places. */
struct chain {
    struct kv_root root;
    int32_t tokens[N_PAGES][KV_STORE_TOKENS];
    struct kv_place places[N_PAGES];
};

static void make_chain(struct chain *chain, uint32_t owner, uint32_t seed)
{
    struct kv_digest before;
    *chain = (struct chain){.root.owner = owner};
    memset(chain->root.digest.bytes, (int)(seed % 200 + 1), sizeof chain->root.digest.bytes);
    before = chain->root.digest;
    for (size_t i = 0; i < N_PAGES; i++) {
        for (size_t t = 0; t < KV_STORE_TOKENS; t++)
            chain->tokens[i][t] = (int32_t)(seed * 1000 + i * 100 + t);
        struct kv_place *place = &chain->places[i];
        *place = (struct kv_place){
            .root = &chain->root, .index = i, .before = before, .tokens = chain->tokens[i]};
        kv_digest_next(&before, chain->tokens[i], &place->own);
        before = place->own;
    }
}

static unsigned char page_of(const struct kv_place *place, size_t at)
{
    return (unsigned char)(place->tokens[0] * 7 + (int)at % 251);
}

static enum kv_put put(struct kv_store *store, const struct kv_place *place, uint64_t used)
{
    unsigned char page[PAGE];
    for (size_t i = 0; i < PAGE; i++)
        page[i] = page_of(place, i);
    return kv_store_put(store, place, page, used * 1000000000);
}

/* Whether a page is there, which then is right to the byte. */
static bool has(struct kv_store *store, const struct kv_place *place)
{
    struct map map;
    if (!kv_store_map(store, place, &map))
        return false;
    bool good = kv_store_check(store, &map);
    for (size_t i = 0; i < PAGE && good; i++)
        require(map.data[KV_STORE_HEADER + i] == page_of(place, i), "byte %zu", i);
    map_close(&map);
    return good;
}

static struct kv_store *open_store(uint64_t bytes)
{
    struct kv_store *store = kv_store_open(directory, bytes, PAGE, &err);
    ck_assert_msg(store != NULL, "%s", err.message);
    return store;
}

static void expect_note(struct kv_store *store, const char *text)
{
    struct llama3_error note;
    require(kv_store_note(store, &note), "expected a note with \"%s\", found none", text);
    require(strstr(note.message, text) != NULL, "expected a note with \"%s\", found %s", text,
            note.message);
    require(!kv_store_note(store, &note), "a second note");
}

static void expect_no_note(struct kv_store *store)
{
    struct llama3_error note;
    require(!kv_store_note(store, &note), "unexpected note: %s", note.message);
}

static char only_path[1024];

static void remember(const char *path)
{
    snprintf(only_path, sizeof only_path, "%s", path);
}

static unsigned mode_of(const char *path)
{
    struct stat st;
    ck_assert_int_eq(lstat(path, &st), 0);
    return st.st_mode & 07777;
}

START_TEST(what_is_put_is_found)
{
    static struct chain a, b;
    struct map map;
    make_chain(&a, 0, 1);
    make_chain(&b, 0, 2);
    umask(0);
    struct kv_store *store = open_store(1 << 30);
    ck_assert(!has(store, &a.places[0]));
    for (size_t i = 0; i < N_PAGES; i++)
        ck_assert_int_eq(put(store, &a.places[i], 100), KV_PUT_DONE);
    ck_assert_uint_eq(each_file(remember), N_PAGES);
    ck_assert_uint_eq(mode_of(only_path), 0600);
    ck_assert_uint_eq(mode_of(directory), 0700);
    for (size_t i = 0; i < N_PAGES; i++) {
        ck_assert(has(store, &a.places[i]));
        ck_assert(!has(store, &b.places[i]));
    }
    kv_store_close(store);

    /* Again, by a store that has seen nothing; and in a directory that others could read. */
    ck_assert_int_eq(chmod(directory, 0755), 0);
    store = open_store(1 << 30);
    ck_assert_uint_eq(mode_of(directory), 0700);
    ck_assert(has(store, &a.places[7]));
    each_file(remove_file);
    ck_assert(!has(store, &a.places[7])); /* gone: no error */
    expect_no_note(store);

    /* What was mapped stays. */
    put(store, &a.places[3], 100);
    ck_assert(kv_store_map(store, &a.places[3], &map));
    each_file(remove_file);
    ck_assert(kv_store_check(store, &map));
    map_close(&map);
    kv_store_close(store);

    /* Pages of another size are no pages. */
    store = open_store(1 << 30);
    put(store, &a.places[3], 100);
    kv_store_close(store);
    store = kv_store_open(directory, 1 << 30, PAGE + 1, &err);
    ck_assert(!has(store, &a.places[3]));
    expect_note(store, "the page is cut short, or too long; removed");
    kv_store_close(store);
}
END_TEST

START_TEST(the_nearest_is_found)
{
    static struct chain a, b;
    struct map map;
    int32_t tokens[KV_STORE_TOKENS];
    make_chain(&a, 0, 1);
    b = a;
    struct kv_store *store = open_store(1 << 30);
    for (int i = 0; i < 5; i++) { /* five that go on otherwise from token 10 i on */
        for (size_t t = 10 * (size_t)i; t < KV_STORE_TOKENS; t++)
            b.tokens[1][t] = 1000000 + i;
        b.places[1].root = &b.root;
        b.places[1].tokens = b.tokens[1];
        kv_digest_next(&b.places[1].before, b.tokens[1], &b.places[1].own);
        put(store, &b.places[1], 100);
        memcpy(b.tokens[1], a.tokens[1], sizeof b.tokens[1]);
    }
    memcpy(tokens, a.tokens[1], sizeof tokens);
    const struct kv_digest *before = &a.places[1].before;
    ck_assert_uint_eq(kv_store_near(store, &a.root, before, 1, tokens, 63, &map), 40);
    ck_assert(kv_store_check(store, &map));
    map_close(&map);
    ck_assert_uint_eq(kv_store_near(store, &a.root, before, 1, tokens, 25, &map), 25);
    map_close(&map);
    tokens[17]++;
    ck_assert_uint_eq(kv_store_near(store, &a.root, before, 1, tokens, 63, &map), 17);
    map_close(&map);
    tokens[0]++;
    ck_assert_uint_eq(kv_store_near(store, &a.root, before, 1, tokens, 63, &map), 0);
    ck_assert_uint_eq(kv_store_near(store, &a.root, &a.places[2].before, 2, a.tokens[2], 63, &map),
                      0);
    expect_no_note(store);
    kv_store_close(store);
}
END_TEST

/* Changes the only file of the store at a byte; size: or cuts or extends it. */
static void damage(size_t at, unsigned char by)
{
    ck_assert_uint_eq(each_file(remember), 1);
    FILE *file = fopen(only_path, "r+");
    ck_assert_ptr_nonnull(file);
    fseek(file, (long)at, SEEK_SET);
    int c = getc(file);
    fseek(file, (long)at, SEEK_SET);
    putc(c ^ by, file);
    fclose(file);
}

START_TEST(damage_is_found)
{
    static struct chain a;
    make_chain(&a, 0, 1);
    struct kv_store *store = open_store(1 << 30);
    for (size_t i = 0; i < 2000; i++) {
        size_t at = i < KV_STORE_HEADER ? i : KV_STORE_HEADER + below(PAGE);
        put(store, &a.places[2], 100);
        damage(at, (unsigned char)(1 + below(255)));
        require(!has(store, &a.places[2]), "byte %zu is not noticed", at);
        require(each_file(NULL) == 0, "byte %zu: the file is still there", at);
        expect_note(store, at < 16                ? "found another file; removed"
                           : at < KV_STORE_HEADER ? "the page's header is damaged; removed"
                                                  : "the page is damaged; removed");
    }
    for (size_t i = 0; i < 300; i++) {
        put(store, &a.places[2], 100);
        each_file(remember);
        ck_assert_int_eq(truncate(only_path, (off_t)(i == 0   ? 0
                                                     : i == 1 ? KV_STORE_HEADER + PAGE + 1
                                                              : below(KV_STORE_HEADER + PAGE))),
                         0);
        require(!has(store, &a.places[2]), "a file that was cut is not noticed");
        expect_note(store, "cut short");
    }
    /* Two in one: the second goes with the first. */
    put(store, &a.places[2], 100);
    damage(700, 1);
    struct map map, near;
    ck_assert(kv_store_map(store, &a.places[2], &map));
    ck_assert_uint_eq(kv_store_near(store, &a.root, &a.places[2].before, 2, a.tokens[2], 63, &near),
                      63);
    ck_assert(!kv_store_check(store, &map));
    ck_assert(!kv_store_check(store, &near));
    map_close(&map);
    map_close(&near);
    expect_note(store, "(and 1 more)");
    kv_store_close(store);
}
END_TEST

START_TEST(what_is_none_is_removed)
{
    static struct chain a, b;
    static const char *const others[] = {"of another model, build or prompt", "a symbolic link",
                                         "no regular file", "found another file"};
    char wanted[1024], bytes[KV_STORE_HEADER + PAGE] = {0};
    make_chain(&a, 0, 1);
    make_chain(&b, 0, 2);
    struct kv_store *store = open_store(1 << 30);
    put(store, &a.places[1], 100);
    each_file(remember);
    snprintf(wanted, sizeof wanted, "%s", only_path);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        unlink(wanted);
        if (i == 0) { /* another page under this one's name: of another chain, and of the same */
            put(store, &b.places[1], 100);
            each_file(remember);
            ck_assert_int_eq(rename(only_path, wanted), 0);
        } else if (i == 1) {
            ck_assert_int_eq(symlink("/etc/passwd", wanted), 0);
        } else if (i == 2) {
            ck_assert_int_eq(mkfifo(wanted, 0600), 0);
        } else {
            tiny_put_text(folder, "other", "");
            FILE *file = fopen(wanted, "w");
            ck_assert_uint_eq(fwrite(bytes, sizeof bytes, 1, file), 1);
            fclose(file);
        }
        ck_assert(!has(store, &a.places[1]));
        expect_note(store, others[i]);
        ck_assert(!path_exists(wanted));
    }
    put(store, &a.places[2], 100);
    each_file(remember);
    ck_assert_int_eq(rename(only_path, wanted), 0);
    ck_assert(!has(store, &a.places[1]));
    expect_note(store, "of another model, build or prompt; removed");
    ck_assert_int_eq(mkdir(wanted, 0700), 0); /* which can't be removed like a file */
    ck_assert(!has(store, &a.places[1]));
    expect_note(store, "no regular file; it can't be removed");
    ck_assert_int_eq(rmdir(wanted), 0);

    /* Files that are no pages stay, but for what a killed program left an hour ago. */
    char left[1100], fresh[1100], alien[1100];
    const char *name = strrchr(wanted, '/') + 1;
    snprintf(left, sizeof left, "%s/.%s.0123456789abcdef", directory, name);
    snprintf(fresh, sizeof fresh, "%s/.%s.0123456789abcde0", directory, name);
    snprintf(alien, sizeof alien, "%s/.notes", directory);
    const struct timespec old[2] = {{.tv_sec = 1000000}, {.tv_sec = 1000000}};
    const char *const files[] = {left, fresh, alien};
    for (size_t i = 0; i < 3; i++) {
        FILE *file = fopen(files[i], "w");
        fclose(file);
        if (i != 1)
            ck_assert_int_eq(utimensat(AT_FDCWD, files[i], old, 0), 0);
    }
    kv_store_close(store);
    store = open_store(1 << 30);
    put(store, &a.places[1], 100);
    ck_assert(!path_exists(left));
    ck_assert(path_exists(fresh));
    ck_assert(path_exists(alien));
    unlink(fresh);
    unlink(alien);
    kv_store_close(store);
}
END_TEST

static uint64_t all_bytes;

static void add_bytes(const char *path)
{
    struct stat st;
    if (stat(path, &st) == 0)
        all_bytes += ((uint64_t)st.st_size + 4095) / 4096 * 4096;
}

static uint64_t held(void)
{
    all_bytes = 0;
    each_file(add_bytes);
    return all_bytes;
}

START_TEST(what_was_used_least_recently_goes_first)
{
    static struct chain a, b, c;
    make_chain(&a, 0, 1);
    make_chain(&b, 0, 2);
    make_chain(&c, 0, 3);
    struct kv_store *store = open_store(10 * FILE_BYTES);
    for (size_t i = 0; i < 6; i++)
        ck_assert_int_eq(put(store, &a.places[i], 100), KV_PUT_DONE);
    for (size_t i = 0; i < 4; i++)
        ck_assert_int_eq(put(store, &b.places[i], 200), KV_PUT_DONE);
    ck_assert_uint_eq(each_file(NULL), 10);
    /* a's end goes before its beginning, */
    for (size_t i = 0; i < 3; i++)
        ck_assert_int_eq(put(store, &c.places[i], 300), KV_PUT_DONE);
    ck_assert_uint_eq(each_file(NULL), 10);
    for (size_t i = 0; i < 6; i++)
        ck_assert_int_eq(has(store, &a.places[i]), i < 3);
    /* and b's, once a's beginning has been used again. */
    for (size_t i = 0; i < 3; i++)
        ck_assert_int_eq(put(store, &a.places[i], 400), KV_PUT_DONE);
    for (size_t i = 3; i < 6; i++)
        ck_assert_int_eq(put(store, &c.places[i], 500), KV_PUT_DONE);
    ck_assert(has(store, &a.places[2]) && has(store, &b.places[0]) && !has(store, &b.places[1]));
    /* A chain never takes the place of its own beginning, nor of what was used later. */
    for (size_t i = 0; i < 12; i++)
        put(store, &c.places[i], 500);
    ck_assert_int_eq(put(store, &c.places[12], 500), KV_PUT_FULL);
    ck_assert_int_eq(put(store, &b.places[1], 100), KV_PUT_FULL);
    ck_assert_uint_eq(each_file(NULL), 10);
    ck_assert(has(store, &c.places[0]));
    kv_store_close(store);

    /* A smaller limit, and one that holds nothing. */
    store = open_store(3 * FILE_BYTES);
    ck_assert_int_eq(put(store, &b.places[7], 600), KV_PUT_DONE);
    ck_assert_uint_eq(each_file(NULL), 3);
    kv_store_close(store);
    store = open_store(2 * FILE_BYTES);
    kv_store_trim(store);
    ck_assert_uint_eq(each_file(NULL), 2);
    kv_store_close(store);
    store = open_store(FILE_BYTES - 1);
    ck_assert_int_eq(put(store, &b.places[8], 700), KV_PUT_FULL);
    expect_no_note(store);
    kv_store_close(store);
}
END_TEST

START_TEST(the_owner_that_has_most_loses)
{
    static struct chain a, b;
    make_chain(&a, 7, 1);
    make_chain(&b, 9, 2);
    struct kv_store *store = open_store(10 * FILE_BYTES);
    for (size_t i = 0; i < 3; i++)
        put(store, &a.places[i], 100);
    for (size_t i = 0; i < N_PAGES; i++)
        put(store, &b.places[i], 200 + i);
    for (size_t i = 0; i < 3; i++) /* however long ago it was there */
        ck_assert(has(store, &a.places[i]));
    ck_assert_uint_eq(each_file(NULL), 10);
    for (size_t i = 3; i < 10; i++)
        put(store, &a.places[i], 150); /* it gets its half of what b had */
    size_t n = 0;
    for (size_t i = 0; i < 10; i++)
        n += has(store, &a.places[i]);
    ck_assert_uint_eq(n, 5);
    ck_assert_uint_eq(each_file(NULL), 10);
    kv_store_close(store);
}
END_TEST

/* ---- several at once ----------------------------------------------------------------------- */

struct worker {
    pthread_t thread;
    uint32_t seed;
    uint64_t bytes;
};

static void *work(void *arg)
{
    const struct worker *w = arg;
    static _Thread_local struct chain chain;
    struct kv_store *store = kv_store_open(directory, w->bytes, PAGE, NULL);
    for (uint32_t round = 0; round < 6; round++) {
        make_chain(&chain, 0, w->seed % 2 + 10 * round);
        for (size_t i = 0; i < N_PAGES; i++) {
            put(store, &chain.places[i], 100 + round);
            has(store, &chain.places[i / 2]); /* which may be gone; it is never wrong */
        }
    }
    expect_no_note(store);
    kv_store_close(store);
    return NULL;
}

START_TEST(several_share_a_directory)
{
    enum { WORKERS = 4, FILES = 64 };
    struct worker workers[WORKERS];
    uint64_t bytes = (uint64_t)FILES * FILE_BYTES, most = 0;
    for (uint32_t i = 0; i < WORKERS; i++) {
        workers[i] = (struct worker){.seed = i, .bytes = bytes};
        ck_assert_int_eq(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    for (size_t i = 0; i < 200; i++) {
        uint64_t now = held();
        most = now > most ? now : most;
        usleep(1000);
    }
    for (size_t i = 0; i < WORKERS; i++)
        pthread_join(workers[i].thread, NULL);
    /* Each writes a 32nd of the limit before it looks again: two files. */
    ck_assert_uint_le(held(), bytes + WORKERS * 2 * FILE_BYTES);
    ck_assert_uint_le(most, bytes + WORKERS * 2 * FILE_BYTES);
    ck_assert_uint_gt(held(), bytes / 2);
}
END_TEST

START_TEST(a_disk_that_is_full)
{
    static struct chain a;
    make_chain(&a, 0, 1);
    struct kv_store *store = open_store(1 << 30);
    put(store, &a.places[0], 100);
    signal(SIGXFSZ, SIG_IGN);
    const struct rlimit little = {PAGE / 2, PAGE / 2};
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &little), 0);
    ck_assert_int_eq(put(store, &a.places[1], 100), KV_PUT_FAILED);
    ck_assert_int_eq(put(store, &a.places[2], 100), KV_PUT_FAILED);
    expect_note(store, "no more prompts are kept: File too large");
    ck_assert_uint_eq(each_file(NULL), 1);
    ck_assert(has(store, &a.places[0]));
    ck_assert_int_eq(put(store, &a.places[0], 200), KV_PUT_DONE);
    kv_store_close(store);
}
END_TEST

START_TEST(directories_that_are_none)
{
    tiny_put_text(folder, "a", "");
    ck_assert_ptr_null(kv_store_open(directory, 1, PAGE, &err));
    ck_assert_int_eq(err.code, LLAMA3_EIO);
    char file[1024];
    snprintf(file, sizeof file, "%s/a", folder);
    ck_assert_ptr_null(kv_store_open(file, 1, PAGE, &err));
    ck_assert_int_eq(err.code, LLAMA3_EIO);
    unlink(file);
    if (geteuid() == 0) { /* which may have a directory of somebody else */
        ck_assert_int_eq(path_make_folders(directory, 0777, &err), 0);
        ck_assert_int_eq(chown(directory, 1234, 1234), 0);
        ck_assert_ptr_null(kv_store_open(directory, 1, PAGE, &err));
        ck_assert_int_eq(err.code, LLAMA3_EINPUT);
        ck_assert_ptr_nonnull(strstr(err.message, "found one of user 1234"));
    }
}
END_TEST

START_TEST(allocations_that_fail)
{
    static struct chain a;
    make_chain(&a, 0, 1);
    for (size_t n = 1; n < 40; n++) {
        fails_in = n;
        struct kv_store *store = kv_store_open(directory, 10 * FILE_BYTES, PAGE, &err);
        fails_in = 0;
        if (store == NULL) {
            ck_assert_int_eq(err.code, LLAMA3_ENOMEM);
            continue;
        }
        for (size_t i = 0; i < 12; i++) {
            fails_in = n;
            enum kv_put result = put(store, &a.places[i], 100 + n);
            fails_in = n;
            bool found = has(store, &a.places[i]);
            fails_in = 0;
            ck_assert_int_ne(result, KV_PUT_FAILED);
            ck_assert(result == KV_PUT_DONE || !found);
        }
        expect_no_note(store);
        kv_store_close(store);
        ck_assert_uint_le(held(), 10 * FILE_BYTES);
    }
    ck_assert_uint_gt(held(), 0);
}
END_TEST

/* ---- through llama3.h ---------------------------------------------------------------------- */

enum { N_TOKENS = 300, CONTEXT = 320 };

static char last_note[512];
static size_t n_notes;

static void on_note(void *arg, const char *note)
{
    (void)arg;
    n_notes++;
    snprintf(last_note, sizeof last_note, "%s", note);
}

static struct llama3_model *open_bare(const char *path, enum llama3_kv_type kv, size_t chunk)
{
    struct llama3_model_options options = {.size = sizeof options,
                                           .context = path == folder ? 0 : CONTEXT,
                                           .threads = 2,
                                           .kv_type = kv,
                                           .chunk = chunk,
                                           .no_blas = true};
    struct llama3_model *model = llama3_model_open(path, &options, &err);
    ck_assert_msg(model != NULL, "%s", err.message);
    return model;
}

static void keep(struct llama3_model *model, uint64_t bytes)
{
    const struct llama3_prefix_store store = {
        .size = sizeof store, .directory = directory, .bytes = bytes, .on_note = on_note};
    ck_assert_msg(llama3_model_keep_prefixes_in(model, &store, &err) == 0, "%s", err.message);
}

static struct llama3_model *open_keeping(const char *path, enum llama3_kv_type kv, size_t chunk)
{
    struct llama3_model *model = open_bare(path, kv, chunk);
    keep(model, 0);
    return model;
}

/* Sets a new session to some tokens, and closes it: how many it did not read. key: NULL, or of the
 * owner. */
static size_t use_as(struct llama3_model *model, int owner, const char *key, const int32_t *tokens,
                     size_t n, float *logits)
{
    struct llama3_session *session = open_session(model);
    size_t cached, has_n;
    require(llama3_session_owner(session, owner, &err) == 0, "%s", err.message);
    require(key == NULL || llama3_session_owner_key(session, key, strlen(key), &err) == 0, "%s",
            err.message);
    require(llama3_session_set(session, tokens, n, NULL, NULL, &cached, &err) == 0, "%s",
            err.message);
    const int32_t *have = llama3_session_tokens(session, &has_n);
    require(has_n == n && memcmp(have, tokens, n * sizeof *tokens) == 0, "other tokens");
    if (logits != NULL)
        memcpy(logits, llama3_session_logits(session),
               llama3_model_info(model)->vocab_size * sizeof *logits);
    llama3_session_close(session);
    return cached;
}

static size_t use(struct llama3_model *model, const int32_t *tokens, size_t n, float *logits)
{
    return use_as(model, 0, NULL, tokens, n, logits);
}

static const char *const models[] = {"tiny-long", "tiny-bf16", "tiny-gguf-q4_0/model.gguf",
                                     "tiny-gguf-k/model.gguf"};
enum { N_MODELS = sizeof models / sizeof models[0], N_KV = 4 };

/* Prompts that begin like others of earlier runs, in runs whose chunks differ: the same bits as
 * without a store. */
START_TEST(hits_have_the_bits_of_misses)
{
    enum { N_PROMPTS = 40, N_KINDS = 3 };
    static const enum llama3_kv_type kvs[N_KV] = {LLAMA3_KV_F16, LLAMA3_KV_F32, LLAMA3_KV_INT8,
                                                  LLAMA3_KV_INT4};
    char path[4096];
    enum llama3_kv_type kv = kvs[_i % N_KV];
    snprintf(path, sizeof path, "%s/%s", TEST_DATA, models[_i / N_KV]);
    struct llama3_model *fresh = open_bare(path, kv, 64), *model = NULL;
    size_t vocab = llama3_model_info(fresh)->vocab_size, all_cached = 0, all = 0;
    float *logits = calloc(vocab, sizeof *logits), *expected = calloc(vocab, sizeof *logits);
    int32_t kinds[N_KINDS][N_TOKENS], tokens[N_TOKENS];
    for (uint32_t i = 0; i < N_KINDS; i++)
        some_tokens(fresh, kinds[i], N_TOKENS, i);
    for (size_t i = 0; i < N_PROMPTS; i++) {
        if (i % 4 == 0) {
            llama3_model_close(model);
            model = open_keeping(path, kv, 1 + below(100));
            if (i % 8 == 0)
                llama3_model_keep_prefixes(model, UINT64_MAX); /* both caches */
        }
        size_t part = below(N_TOKENS), n = 1 + below(N_TOKENS);
        memcpy(tokens, kinds[below(N_KINDS)], sizeof tokens);
        memcpy(tokens + part, kinds[below(N_KINDS)] + part, (N_TOKENS - part) * sizeof *tokens);
        all_cached += use(model, tokens, n, logits);
        all += n;
        ck_assert_uint_eq(use(fresh, tokens, n, expected), 0);
        ck_assert_mem_eq(logits, expected, vocab * sizeof *logits);
    }
    ck_assert_uint_gt(all_cached, all / 4);
    ck_assert_uint_eq(n_notes, 0);
    free(logits);
    free(expected);
    llama3_model_close(model);
    llama3_model_close(fresh);
}
END_TEST

#define F32 TEST_DATA "/tiny-f32"

/* The same, of a model that is opened for each. */
static size_t use_again(const char *path, const int32_t *tokens, size_t n)
{
    struct llama3_model *model = open_keeping(path, LLAMA3_KV_F16, 40);
    size_t cached = use(model, tokens, n, NULL);
    llama3_model_close(model);
    return cached;
}

START_TEST(a_later_run_reads_what_is_new)
{
    int32_t a[N_TOKENS], b[N_TOKENS];
    struct llama3_model *model = open_bare(F32, LLAMA3_KV_F16, 40);
    some_tokens(model, a, N_TOKENS, 1);
    llama3_model_close(model);
    memcpy(b, a, sizeof b);
    b[150] = (a[150] + 1) % 8;

    ck_assert_uint_eq(use_again(F32, a, 63), 0); /* no whole page */
    ck_assert_uint_eq(each_file(NULL), 0);
    ck_assert_uint_eq(use_again(F32, a, 200), 0);
    ck_assert_uint_eq(each_file(NULL), 3);
    ck_assert_uint_eq(use_again(F32, a, 200), 192);
    ck_assert_uint_eq(use_again(F32, a, 192), 191); /* the last one is read for its logits */
    ck_assert_uint_eq(use_again(F32, a, 130), 129);
    ck_assert_uint_eq(use_again(F32, a, 64), 63);
    ck_assert_uint_eq(use_again(F32, a, 1), 0);
    ck_assert_uint_eq(use_again(F32, b, 200), 150); /* within the third page */
    ck_assert_uint_eq(each_file(NULL), 4);
    ck_assert_uint_eq(use_again(F32, b, 200), 192);
    ck_assert_uint_eq(use_again(F32, a, 300), 192);
    ck_assert_uint_eq(each_file(NULL), 5);

    /* An answer is kept as well, and what a session holds that another goes on with. */
    model = open_keeping(F32, LLAMA3_KV_F16, 40);
    struct llama3_session *session = open_session(model);
    size_t cached;
    ck_assert_int_eq(llama3_session_set(session, b, 190, NULL, NULL, &cached, &err), 0);
    ck_assert_uint_eq(cached, 189);
    for (size_t i = 190; i < 260; i++)
        ck_assert_int_eq(llama3_session_eval(session, b + i, 1, 0, NULL, &err), 0);
    struct llama3_session *fork = llama3_session_fork(session, 256, &err);
    ck_assert_int_eq(llama3_session_eval(fork, a, 64, 0, NULL, &err), 0);
    llama3_session_truncate(session, 100);
    ck_assert_int_eq(llama3_session_eval(session, a, 40, 0, NULL, &err), 0);
    llama3_session_close(session);
    llama3_session_close(fork);
    llama3_model_close(model);
    ck_assert_uint_eq(use_again(F32, b, 300), 256);
    memcpy(b + 256, a, 40 * sizeof *a);
    ck_assert_uint_eq(use_again(F32, b, 296), 295);
    memcpy(b + 100, a, 40 * sizeof *a);
    ck_assert_uint_eq(use_again(F32, b, 141), 128);

    /* In other types, and of another model, nothing is found; nor of one that was changed. */
    model = open_keeping(F32, LLAMA3_KV_INT8, 40);
    ck_assert_uint_eq(use(model, a, 200, NULL), 0);
    llama3_model_close(model);
    ck_assert_uint_eq(use_again(TEST_DATA "/tiny-bf16", a, 200), 0);
    ck_assert_uint_eq(use_again(F32, a, 200), 199);
    ck_assert_uint_eq(n_notes, 0);
}
END_TEST

START_TEST(a_model_that_changed_finds_nothing)
{
    int32_t a[N_TOKENS];
    char path[1024];
    tiny_hf(folder);
    for (size_t i = 0; i < N_TOKENS; i++)
        a[i] = (int32_t)(i % 3);
    struct llama3_model *model = open_bare(folder, LLAMA3_KV_F16, 40);
    size_t n = llama3_model_info(model)->context;
    llama3_model_close(model);
    ck_assert_uint_eq(n, KV_STORE_TOKENS);
    ck_assert_uint_eq(use_again(folder, a, n), 0);
    ck_assert_uint_eq(use_again(folder, a, n), n - 1);
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    const struct timespec old[2] = {{.tv_sec = 1000000}, {.tv_sec = 1000000}};
    ck_assert_int_eq(utimensat(AT_FDCWD, path, old, 0), 0);
    ck_assert_uint_eq(use_again(folder, a, n), 0);
}
END_TEST

START_TEST(owners_are_known_by_their_keys)
{
    int32_t a[N_TOKENS];
    for (int round = 0; round < 2; round++) { /* the second one finds what the first one left */
        struct llama3_model *model = open_keeping(F32, LLAMA3_KV_F16, 40);
        some_tokens(model, a, N_TOKENS, 1);
        ck_assert_uint_eq(use_as(model, 1, NULL, a, 200, NULL), 0);
        ck_assert_uint_eq(use_as(model, 1, "secret", a, 200, NULL), round == 0 ? 0 : 192);
        ck_assert_uint_eq(use_as(model, 2, "other", a, 100, NULL), round == 0 ? 0 : 64);
        ck_assert_uint_eq(use_as(model, 0, NULL, a, 130, NULL), round == 0 ? 0 : 128);
        llama3_model_close(model);
        ck_assert_uint_eq(each_file(NULL), 3 + 1 + 2);
    }
    /* The number is of this run alone. */
    struct llama3_model *model = open_keeping(F32, LLAMA3_KV_F16, 40);
    ck_assert_uint_eq(use_as(model, 5, "secret", a, 200, NULL), 192);
    struct llama3_session *session = open_session(model);
    ck_assert_int_eq(llama3_session_owner_key(session, "", 0, &err), -1);
    ck_assert_int_eq(llama3_session_eval(session, a, 5, 0, NULL, &err), 0);
    ck_assert_int_eq(llama3_session_owner_key(session, "x", 1, &err), -1);
    ck_assert_str_eq(err.message, "owner: expected a session without tokens, found 5");
    llama3_session_close(session);
    llama3_model_close(model);
}
END_TEST

static size_t use_scaled(double scale, const int32_t *tokens, size_t n)
{
    const struct llama3_adapter adapter = {.size = sizeof adapter, .path = TEST_DATA "/lora-all"};
    struct llama3_model_options options = {.size = sizeof options,
                                           .context = CONTEXT,
                                           .no_blas = true,
                                           .adapters = &adapter,
                                           .n_adapters = 1,
                                           .adapters_vary = true};
    struct llama3_model *model = llama3_model_open(F32, &options, &err);
    ck_assert_msg(model != NULL, "%s", err.message);
    keep(model, 0);
    struct llama3_session *session = open_session(model);
    size_t cached;
    ck_assert_int_eq(llama3_session_adapt(session, NULL, scale, &err), 0);
    ck_assert_int_eq(llama3_session_set(session, tokens, n, NULL, NULL, &cached, &err), 0);
    llama3_session_close(session);
    llama3_model_close(model);
    return cached;
}

START_TEST(adapters_share_nothing)
{
    int32_t a[N_TOKENS];
    for (size_t i = 0; i < N_TOKENS; i++)
        a[i] = (int32_t)(i % 7);
    ck_assert_uint_eq(use_scaled(1, a, 100), 0);
    ck_assert_uint_eq(use_scaled(0.5, a, 100), 0);
    ck_assert_uint_eq(use_scaled(0, a, 100), 0);
    ck_assert_uint_eq(use_scaled(0.5, a, 100), 64);
    ck_assert_uint_eq(use_scaled(1, a, 100), 64);
    ck_assert_uint_eq(use_again(F32, a, 100), 0);
}
END_TEST

static void spoil(const char *path)
{
    FILE *file = fopen(path, "r+");
    fseek(file, 0, SEEK_END);
    fseek(file, KV_STORE_HEADER + (long)below((uint32_t)ftell(file) - KV_STORE_HEADER), SEEK_SET);
    int c = getc(file);
    fseek(file, -1, SEEK_CUR);
    putc(c ^ 0x40, file);
    fclose(file);
}

static void cut(const char *path)
{
    ck_assert_int_eq(truncate(path, 100), 0);
}

START_TEST(damage_is_noted_and_read_again)
{
    int32_t a[N_TOKENS];
    float logits[8192], expected[8192];
    struct llama3_model *model = open_keeping(F32, LLAMA3_KV_F16, 40);
    ck_assert_uint_le(llama3_model_info(model)->vocab_size, 8192);
    size_t bytes = llama3_model_info(model)->vocab_size * sizeof *logits;
    some_tokens(model, a, N_TOKENS, 1);
    use(model, a, 300, expected);
    llama3_model_close(model);
    ck_assert_uint_eq(each_file(NULL), 4);
    for (int i = 0; i < 6; i++) {
        each_file(i % 2 == 0 ? spoil : cut);
        model = open_keeping(F32, LLAMA3_KV_F16, 40);
        n_notes = 0;
        ck_assert_uint_eq(use(model, a, 300, logits), 0);
        ck_assert_uint_eq(n_notes, 1);
        ck_assert_ptr_nonnull(strstr(last_note, i % 2 == 0 ? "is damaged; removed" : "cut short"));
        ck_assert_mem_eq(logits, expected, bytes);
        llama3_model_close(model);
        ck_assert_uint_eq(each_file(NULL), 4);
    }
    ck_assert_uint_eq(use_again(F32, a, 300), 256);
    each_file(remove_file);
    ck_assert_uint_eq(use_again(F32, a, 300), 0);
}
END_TEST

START_TEST(a_file_cut_while_it_is_used)
{
    int32_t a[N_TOKENS];
    size_t cached;
    ck_assert_int_eq(llama3_handle_sigbus(&err), 0);
    struct llama3_model *model = open_bare(TEST_DATA "/tiny-long", LLAMA3_KV_F32, 64);
    some_tokens(model, a, N_TOKENS, 1);
    llama3_model_close(model);
    model = open_keeping(TEST_DATA "/tiny-long", LLAMA3_KV_F32, 64);
    use(model, a, 300, NULL);
    llama3_model_close(model);
    model = open_keeping(TEST_DATA "/tiny-long", LLAMA3_KV_F32, 64);
    struct llama3_session *session = open_session(model), *other = open_session(model);
    ck_assert_int_eq(llama3_session_set(session, a, 290, NULL, NULL, &cached, &err), 0);
    ck_assert_uint_eq(cached, 256);
    each_file(cut);
    ck_assert_int_eq(llama3_session_eval(session, a, 1, 0, NULL, &err), -1);
    ck_assert_int_eq(err.code, LLAMA3_EIO);
    /* The thread that saves may have written it anew meanwhile, as its size was wrong. */
    ck_assert_msg(strstr(err.message, "while it was open") != NULL &&
                      strstr(err.message, "/kv/") != NULL,
                  "%s", err.message);
    ck_assert_int_eq(llama3_session_eval(session, a, 1, 0, NULL, &err), -1);
    /* Others go on, and the prompt is read again. */
    ck_assert_int_eq(llama3_session_set(other, a, 290, NULL, NULL, &cached, &err), 0);
    ck_assert_uint_eq(cached % KV_STORE_TOKENS, 0);
    llama3_session_close(session);
    llama3_session_close(other);
    llama3_model_close(model);
}
END_TEST

START_TEST(options_that_are_refused)
{
    struct llama3_model *model = open_bare(F32, LLAMA3_KV_F16, 40);
    struct llama3_prefix_store store = {.size = sizeof store};
    ck_assert_int_eq(llama3_model_keep_prefixes_in(model, &store, &err), -1);
    ck_assert_int_eq(err.code, LLAMA3_EINPUT);
    keep(model, 0);
    store.directory = directory;
    ck_assert_int_eq(llama3_model_keep_prefixes_in(model, &store, &err), -1);
    ck_assert_str_eq(err.message,
                     "prefixes: expected a model without a directory, found one that has one");
    llama3_model_close(model);
    struct llama3_model_options options = {.size = sizeof options, .vocab_only = true};
    model = llama3_model_open(F32, &options, &err);
    ck_assert_int_eq(llama3_model_keep_prefixes_in(model, &store, &err), -1);
    llama3_model_close(model);
}
END_TEST

/* What can't be had is read; no call fails for it. */
START_TEST(sessions_without_memory)
{
    int32_t a[N_TOKENS];
    struct llama3_model *model = open_keeping(F32, LLAMA3_KV_F16, 40);
    some_tokens(model, a, N_TOKENS, 1);
    use(model, a, 300, NULL);
    llama3_model_close(model);
    for (size_t n = 1; n < 60; n++) {
        size_t cached = 0, has_n;
        model = open_keeping(F32, LLAMA3_KV_F16, 40);
        struct llama3_session *session = open_session(model);
        fails_in = n;
        int status = llama3_session_set(session, a, 290, NULL, NULL, &cached, &err);
        bool failed = fails_in == 0;
        fails_in = 0;
        if (status != 0)
            ck_assert_int_eq(err.code, LLAMA3_ENOMEM);
        else
            ck_assert(cached == 256 || (failed && cached < 256));
        ck_assert_int_eq(llama3_session_set(session, a, 290, NULL, NULL, &cached, &err), 0);
        llama3_session_tokens(session, &has_n);
        ck_assert_uint_eq(has_n, 290);
        llama3_session_close(session);
        llama3_model_close(model);
        if (!failed)
            break;
    }
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("kv_store");
    tcase_set_timeout(tcase, 300);
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, what_is_put_is_found);
    tcase_add_test(tcase, the_nearest_is_found);
    tcase_add_test(tcase, damage_is_found);
    tcase_add_test(tcase, what_is_none_is_removed);
    tcase_add_test(tcase, what_was_used_least_recently_goes_first);
    tcase_add_test(tcase, the_owner_that_has_most_loses);
    tcase_add_test(tcase, several_share_a_directory);
    tcase_add_test(tcase, a_disk_that_is_full);
    tcase_add_test(tcase, directories_that_are_none);
    tcase_add_test(tcase, allocations_that_fail);
    tcase_add_loop_test(tcase, hits_have_the_bits_of_misses, 0, N_MODELS * N_KV);
    tcase_add_test(tcase, a_later_run_reads_what_is_new);
    tcase_add_test(tcase, a_model_that_changed_finds_nothing);
    tcase_add_test(tcase, owners_are_known_by_their_keys);
    tcase_add_test(tcase, adapters_share_nothing);
    tcase_add_test(tcase, damage_is_noted_and_read_again);
    tcase_add_test(tcase, a_file_cut_while_it_is_used);
    tcase_add_test(tcase, options_that_are_refused);
    tcase_add_test(tcase, sessions_without_memory);
    return run_tests("kv_store", tcase);
}
