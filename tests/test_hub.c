/* SPDX-License-Identifier: MIT */
/* test_hub: ranges, a hub's list of files, the choice among them, blobs, and hashes. tool-pull.sh
 * tests the network. */
#include "config.h" /* nftw */

#include <check.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "hub/blob.h"
#include "hub/repo.h"
#include "run.h"

/* ---- ranges ---------------------------------------------------------------------------------- */

enum { BYTES = 1000 };

static uint32_t seed = 1;

static uint32_t random_below(uint32_t n)
{
    seed = seed * 1664525 + 1013904223;
    return (uint32_t)(((uint64_t)seed * n) >> 32);
}

static void compare_ranges(const struct ranges *r, const bool *map)
{
    uint64_t bytes = 0;
    ck_assert(ranges_valid(r, BYTES));
    for (size_t i = 0; i < BYTES; i++)
        bytes += map[i];
    ck_assert_uint_eq(ranges_bytes(r), bytes);
    for (int i = 0; i < 20; i++) {
        uint64_t from = random_below(BYTES), end = from + random_below(BYTES - (uint32_t)from + 1);
        uint64_t gap = from, next, until;
        while (gap < end && map[gap])
            gap++;
        for (next = gap; next < end && !map[next];)
            next++;
        ck_assert_uint_eq(ranges_gap(r, from, end, &until), gap);
        ck_assert(gap == end || until == next);
        ck_assert_int_eq(ranges_have(r, from, end), gap == end);
    }
}

/* Compares ranges with a map of bytes; pieces have at most so many. */
static void churn(uint32_t longest)
{
    struct ranges r = {0}, before;
    bool map[BYTES] = {false}, refused = false;
    for (int i = 0; i < 4000; i++) {
        bool add = random_below(5) > 1;
        uint64_t begin = random_below(BYTES + 1);
        uint64_t end = begin + random_below(longest + 1);
        end = end < BYTES ? end : BYTES;
        before = r;
        if (add ? ranges_add(&r, begin, end) : ranges_remove(&r, begin, end)) {
            for (uint64_t at = begin; at < end; at++)
                map[at] = add;
        } else {
            refused = true;
            ck_assert_int_eq(memcmp(&before, &r, sizeof r), 0);
        }
        compare_ranges(&r, map);
    }
    ck_assert(refused == (longest == 1));
}

START_TEST(ranges_random)
{
    churn(1);
    churn(7);
    churn(300);
}
END_TEST

START_TEST(ranges_read_from_files)
{
    struct ranges r = {.n = 2, .list = {{0, 5}, {6, 10}}};
    ck_assert(ranges_valid(&r, 10));
    ck_assert(!ranges_valid(&r, 9));
    r.list[1].begin = 5; /* they touch */
    ck_assert(!ranges_valid(&r, 10));
    r.list[1] = (struct range){7, 7};
    ck_assert(!ranges_valid(&r, 10));
    r.list[1] = (struct range){8, 7};
    ck_assert(!ranges_valid(&r, 10));
    r.list[1] = (struct range){0, 3};
    ck_assert(!ranges_valid(&r, 10));
    r.list[1] = (struct range){6, UINT64_MAX};
    ck_assert(!ranges_valid(&r, 10));
    r.n = MAX_RANGES + 1;
    ck_assert(!ranges_valid(&r, UINT64_MAX));
    r.n = 0;
    ck_assert(ranges_valid(&r, 0));
}
END_TEST

/* ---- a hub's list ---------------------------------------------------------------------------- */

#define COMMIT "0123456789abcdef0123456789abcdef01234567"
#define SHA1   "1111111111111111111111111111111111111111"
#define SHA256 "2222222222222222222222222222222222222222222222222222222222222222"

static struct hub_repo repo;
static struct llama3_error err;

static int parse(const char *json)
{
    repo_free(&repo);
    err = (struct llama3_error){0};
    return repo_parse(&repo, json, strlen(json), "HUB", &err);
}

static int parse_files(const char *files)
{
    struct buf text = {0};
    buf_add_str(&text, "{\"sha\": \"" COMMIT "\", \"siblings\": [");
    buf_add_str(&text, files);
    buf_add_str(&text, "]}");
    ck_assert(!text.failed);
    int result = parse(text.data);
    buf_free(&text);
    return result;
}

/* Lists files of one byte by their names, up to NULL. */
static int list(const char *first, ...)
{
    struct buf text = {0};
    va_list names;
    va_start(names, first);
    for (const char *name = first; name != NULL; name = va_arg(names, const char *)) {
        buf_add_str(&text, name == first ? "{\"rfilename\": \"" : ", {\"rfilename\": \"");
        buf_add_str(&text, name);
        buf_add_str(&text, "\", \"size\": 1, \"blobId\": \"" SHA1 "\"}");
    }
    va_end(names);
    int result = parse_files(text.data != NULL ? text.data : "");
    buf_free(&text);
    return result;
}

static void refused(const char *json, const char *why)
{
    ck_assert_msg(parse(json) == -1, "%s", json);
    ck_assert_msg(strstr(err.message, why) != NULL, "%s: expected \"%s\", found \"%s\"", json, why,
                  err.message);
    ck_assert(repo.files == NULL && repo.n == 0);
}

START_TEST(lists)
{
    ck_assert_int_eq(parse_files("{\"rfilename\": \"b\", \"size\": 7, \"blobId\": \"" SHA1 "\"}, "
                                 "{\"rfilename\": \"a/c\", \"size\": 3, \"blobId\": \"" SHA1 "\", "
                                 "\"lfs\": {\"size\": 9, \"sha256\": \"" SHA256 "\"}}"),
                     0);
    ck_assert_str_eq(repo.commit, COMMIT);
    ck_assert_uint_eq(repo.n, 2);
    ck_assert_str_eq(repo.files[0].name, "a/c"); /* by name */
    ck_assert_uint_eq(repo.files[0].size, 9);
    ck_assert_str_eq(repo.files[0].etag, SHA256);
    ck_assert_str_eq(repo.files[1].name, "b");
    ck_assert_str_eq(repo.files[1].etag, SHA1);
    repo_free(&repo);
    ck_assert_int_eq(parse_files(""), 0);
    ck_assert_uint_eq(repo.n, 0);
    repo_free(&repo);
}
END_TEST

START_TEST(lists_refused)
{
    static const char *const names[] = {
        "",      ".",           "..",      "../x",      "a/../b",  "a/..",           "a/.", "./a",
        "/etc",  "//a",         "a//b",    "a/",        "a\\\\b",  "..\\\\x",        "C:x", "a\\nb",
        "a\\tb", "\\u001b[31m", "\\u007f", "a\\u0000b", "\\u0001", "a/b/../../../c",
    };
    refused("", "HUB: ");
    refused("[]", "HUB: ");
    refused("{}", "\"sha\"");
    refused("{\"sha\": 5}", "\"sha\"");
    refused("{\"sha\": \"../../../../../../../../../../etc/passwd\"}", "\"sha\"");
    refused("{\"sha\": \"" COMMIT "0\"}", "\"sha\"");
    refused("{\"sha\": \"0123456789ABCDEF0123456789abcdef01234567\"}", "\"sha\"");
    refused("{\"sha\": \"" COMMIT "\"}", "\"siblings\"");
    refused("{\"sha\": \"" COMMIT "\", \"siblings\": {}}", "\"siblings\"");
    refused("{\"sha\": \"" COMMIT "\", \"siblings\": [5]}", "HUB");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        ck_assert_msg(list("good", names[i], NULL) == -1, "%s", names[i]);
        ck_assert(repo.n == 0 && err.message[0] != '\0');
    }
    ck_assert_int_eq(list("a", "b", "a", NULL), -1); /* twice */
    char name[1100];
    memset(name, 'x', sizeof name);
    name[240] = '\0';
    ck_assert_int_eq(list(name, NULL), 0);
    name[240] = 'x';
    name[241] = '\0';
    ck_assert_int_eq(list(name, NULL), -1);
    for (size_t i = 0; i < sizeof name; i++)
        name[i] = i % 2 ? '/' : 'x';
    name[1025] = '\0';
    ck_assert_int_eq(list(name, NULL), -1);
    name[1023] = '\0';
    ck_assert_int_eq(list(name, NULL), 0);
    repo_free(&repo);
}
END_TEST

START_TEST(hashes_and_sizes_refused)
{
    static const char *const files[] = {
        "{\"rfilename\": \"a\", \"blobId\": \"" SHA1 "\"}",
        "{\"rfilename\": \"a\", \"size\": -1, \"blobId\": \"" SHA1 "\"}",
        "{\"rfilename\": \"a\", \"size\": 1.5, \"blobId\": \"" SHA1 "\"}",
        "{\"rfilename\": \"a\", \"size\": 17592186044417, \"blobId\": \"" SHA1 "\"}",
        "{\"rfilename\": \"a\", \"size\": 1}",
        "{\"rfilename\": \"a\", \"size\": 1, \"blobId\": \"../x\"}",
        "{\"rfilename\": \"a\", \"size\": 1, \"blobId\": \"" SHA256 "\"}",
        "{\"rfilename\": \"a\", \"size\": 1, \"blobId\": \"" SHA1 "\", \"lfs\": {\"size\": 1}}",
        "{\"rfilename\": \"a\", \"size\": 1, \"lfs\": {\"size\": 1, \"sha256\": \"" SHA1 "\"}}",
        "{\"rfilename\": \"a\", \"size\": 1, \"lfs\": {\"sha256\": \"" SHA256 "\"}}",
        "{\"size\": 1, \"blobId\": \"" SHA1 "\"}",
        "{\"rfilename\": [], \"size\": 1, \"blobId\": \"" SHA1 "\"}",
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        ck_assert_msg(parse_files(files[i]) == -1, "%s", files[i]);
    repo_free(&repo);
}
END_TEST

/* ---- the choice ------------------------------------------------------------------------------ */

static char chosen[2000]; /* their names, with a blank after each */

static int choose(const struct repo_choice *choice)
{
    const struct hub_file **files = NULL;
    size_t n = 0, used = 0;
    err = (struct llama3_error){0};
    chosen[0] = '\0';
    if (repo_choose(&repo, choice, "HUB", &files, &n, &err) != 0)
        return -1;
    for (size_t i = 0; i < n; i++)
        used += (size_t)snprintf(chosen + used, sizeof chosen - used, "%s ", files[i]->name);
    free(files);
    return 0;
}

static void chooses(const struct repo_choice *choice, const char *names)
{
    ck_assert_msg(choose(choice) == 0, "%s", err.message);
    ck_assert_str_eq(chosen, names);
}

static void chooses_none(const struct repo_choice *choice, const char *why)
{
    ck_assert_msg(choose(choice) == -1, "chosen: %s", chosen);
    ck_assert_msg(strstr(err.message, why) != NULL, "expected \"%s\", found \"%s\"", why,
                  err.message);
}

START_TEST(checkpoints)
{
    const char *const json[] = {"*.json"}, *const folder[] = {"original/"}, *const any[] = {"*"},
                      *const one[] = {"model-0000[!2]-*"}, *const none[] = {"*.onnx"},
                      *const backslash[] = {"\\*"};
    const struct repo_choice by_default = {.tag = ""};
    ck_assert_int_eq(list(".gitattributes", "README.md", "config.json", "original/params.json",
                          "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
                          "model.safetensors.index.json", "pytorch_model.bin", "tokenizer.model",
                          "chat_template.jinja", "adapter.safetensors", "merges.txt",
                          "additional_chat_templates/rag.jinja", "additional_chat_templates/a.json",
                          "additional_chat_templates/b/c.jinja", "other/d.jinja", NULL),
                     0);
    chooses(
        &by_default,
        "additional_chat_templates/rag.jinja chat_template.jinja config.json merges.txt model.safetensors.index.json "
        "tokenizer.model model-00001-of-00002.safetensors model-00002-of-00002.safetensors ");
    chooses(&(struct repo_choice){json, NULL, 1, 0, ""},
            "additional_chat_templates/a.json config.json model.safetensors.index.json "
            "original/params.json ");
    chooses(&(struct repo_choice){json, folder, 1, 1, ""},
            "additional_chat_templates/a.json config.json model.safetensors.index.json ");
    chooses(&(struct repo_choice){folder, NULL, 1, 0, ""}, "original/params.json ");
    chooses(&(struct repo_choice){one, NULL, 1, 0, ""}, "model-00001-of-00002.safetensors ");
    chooses_none(&(struct repo_choice){none, NULL, 1, 0, ""}, "none among 16");
    chooses_none(&(struct repo_choice){backslash, NULL, 1, 0, ""}, "none among 16");
    chooses_none(&(struct repo_choice){any, any, 1, 1, ""}, "none among 16");
    chooses_none(&(struct repo_choice){.tag = "Q4_K_M"}, "expected GGUF files");
    repo_free(&repo);
}
END_TEST

START_TEST(names_that_clash)
{
    const char *const any[] = {"*"}, *const some[] = {"config.json"};
    const struct repo_choice all = {any, NULL, 1, 0, ""};
    ck_assert_int_eq(list("config.json", "Config.JSON", "x", NULL), 0);
    chooses_none(&all, "names that differ");
    chooses(&(struct repo_choice){some, NULL, 1, 0, ""}, "config.json ");
    ck_assert_int_eq(list("a", "a-b", "a/b", "b", NULL), 0);
    chooses_none(&all, "both");
    ck_assert_int_eq(list("A", "a.b", "a/b", NULL), 0);
    chooses_none(&all, "both");
    ck_assert_int_eq(list("ab", "a/b", "a-b/c", NULL), 0);
    chooses(&all, "a-b/c a/b ab ");
    repo_free(&repo);
}
END_TEST

START_TEST(gguf_types)
{
    struct repo_gguf *ggufs;
    size_t n;
    ck_assert_int_eq(list("README.md", "M-Q2_K.gguf", "M-Q4_K_M.gguf", "M-Q4_K_S.gguf",
                          "Q8_0/M-Q8_0-00001-of-00002.gguf", "Q8_0/M-Q8_0-00002-of-00002.gguf",
                          "config.json", "generation_config.json", "imatrix.gguf",
                          "mmproj-F16.gguf", "a/b/M-F16.gguf", NULL),
                     0);
    ck_assert(!repo_has_safetensors(&repo));
    ck_assert_int_eq(repo_ggufs(&repo, &ggufs, &n, &err), 0);
    ck_assert_uint_eq(n, 4);
    for (size_t i = 0; i < n; i++) {
        bool split = strcmp(ggufs[i].tag, "Q8_0") == 0;
        ck_assert_uint_eq(ggufs[i].shards, split ? 2 : 1);
        ck_assert_uint_eq(ggufs[i].size, split ? 2 : 1);
        ck_assert_int_eq(ggufs[i].opens, strcmp(ggufs[i].tag, "Q2_K") != 0);
    }
    ck_assert_str_eq(ggufs[3].first, "Q8_0/M-Q8_0-00001-of-00002.gguf"); /* the largest */
    free(ggufs);
    chooses(&(struct repo_choice){.tag = "q4_k_m"}, "generation_config.json M-Q4_K_M.gguf ");
    chooses(&(struct repo_choice){.tag = "Q8_0"},
            "generation_config.json Q8_0/M-Q8_0-00001-of-00002.gguf "
            "Q8_0/M-Q8_0-00002-of-00002.gguf ");
    chooses_none(&(struct repo_choice){.tag = "Q4_K"}, "2 of Q4_K");
    chooses_none(&(struct repo_choice){.tag = "Q5_0"}, "Q4_K_M");
    chooses_none(&(struct repo_choice){.tag = "M"}, "found");
    chooses_none(&(struct repo_choice){.tag = ""}, "any type");
    ck_assert_int_eq(list("M.gguf", NULL), 0);
    chooses(&(struct repo_choice){.tag = ""}, "M.gguf ");
    ck_assert_int_eq(
        list("M-Q8_0-00001-of-00002.gguf", "M-Q8_0-00002-of-00002.gguf", "M-Q8_0.gguf", NULL), 0);
    chooses_none(&(struct repo_choice){.tag = "Q8_0"}, "2 of Q8_0");
    ck_assert_int_eq(list("M-Q8_0-00001-of-00003.gguf", "M-Q8_0-00003-of-00003.gguf", NULL), 0);
    chooses_none(&(struct repo_choice){.tag = "Q8_0"}, "expected 3 shards");
    repo_free(&repo);
}
END_TEST

/* ---- hashes ---------------------------------------------------------------------------------- */

#define OF_NOTHING "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
#define OF_HELLO   "ce013625030ba8dba906f756967f9e9ca394464a"
#define OF_ABC     "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

static char folder[] = "/tmp/test_hub.XXXXXX";

static void write_file(const char *path, const void *bytes, size_t n)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    ck_assert(fd >= 0 && write(fd, bytes, n) == (ssize_t)n);
    close(fd);
}

static int count_reads(void *arg, size_t n)
{
    (void)n;
    return ++*(int *)arg > 1;
}

START_TEST(hashes)
{
    static char zeros[1 << 20];
    struct digest digest;
    char path[100];
    int reads = 0;
    digest_begin(&digest, OF_NOTHING, 0);
    ck_assert(digest_is(&digest, OF_NOTHING));
    digest_begin(&digest, OF_HELLO, 6);
    digest_add(&digest, "hel", 3);
    digest_add(&digest, "lo\n", 3);
    ck_assert(digest_is(&digest, OF_HELLO));
    digest_begin(&digest, OF_HELLO, 7); /* the hash includes the size */
    digest_add(&digest, "hello\n", 6);
    ck_assert(!digest_is(&digest, OF_HELLO));
    digest_begin(&digest, OF_ABC, 3);
    digest_add(&digest, "abc", 3);
    ck_assert(digest_is(&digest, OF_ABC));

    snprintf(path, sizeof path, "%s/abc", folder);
    ck_assert_int_eq(digest_check(path, OF_ABC, 3, NULL, NULL, &err), -1); /* not there */
    write_file(path, "abc", 3);
    ck_assert_int_eq(digest_check(path, OF_ABC, 3, NULL, NULL, &err), 1);
    ck_assert_int_eq(digest_check(path, OF_ABC, 4, NULL, NULL, &err), 0);
    ck_assert_int_eq(digest_check(path, SHA256, 3, NULL, NULL, &err), 0);
    ck_assert_int_eq(digest_check(folder, OF_ABC, 3, NULL, NULL, &err), 0);
    write_file(path, zeros, sizeof zeros);
    ck_assert_int_eq(digest_check(path, OF_ABC, sizeof zeros, count_reads, &reads, &err), -1);
    ck_assert_int_eq(err.code, LLAMA3_ECANCELED);
    ck_assert_int_eq(reads, 2);
}
END_TEST

/* ---- blobs ----------------------------------------------------------------------------------- */

enum { SIZE = 5000 };

static const struct hub_file large = {"model.safetensors", SIZE, SHA256},
                             other = {"other.safetensors", SIZE,
                                      "3333333333333333333333333333333333333333333333333333333333"
                                      "333333"},
                             empty = {"sub/empty", 0, OF_NOTHING};
static struct store store;
static struct blob blob;

static void open_blob(const struct hub_file *file)
{
    ck_assert_msg(blob_init(&blob, &store, file, &err) == 0, "%s", err.message);
    ck_assert_msg(blob_open(&blob, &store, &err) == 0, "%s", err.message);
}

static void put(uint64_t begin, uint64_t end)
{
    char bytes[SIZE];
    for (uint64_t i = begin; i < end; i++)
        bytes[i - begin] = (char)(i * 7);
    ck_assert_int_eq(blob_write(&blob, begin, bytes, end - begin, &err), 0);
}

/* A part of a file comes, and the program ends. */
static void make_partial(const struct hub_file *file)
{
    open_blob(file);
    ck_assert_int_eq(blob.state, BLOB_OPEN);
    put(0, 1000);
    put(2000, 3000);
    blob_close(&blob);
}

static void open_store(const char *name)
{
    char path[100];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    setenv("HF_HUB_CACHE", path, 1);
    ck_assert_msg(store_open(&store, "org/name", NULL, COMMIT, &err) == 0, "%s", err.message);
}

START_TEST(resumed)
{
    open_store("resumed");
    make_partial(&large);
    open_blob(&large);
    ck_assert_uint_eq(ranges_bytes(&blob.have), 2000);
    ck_assert_uint_eq(blob_missing(&blob), SIZE - 2000);
    ck_assert(ranges_have(&blob.have, 2000, 3000) && !ranges_have(&blob.have, 0, 1001));
    ck_assert_uint_eq(blob.ready, 1000); /* hashed from the front */
    /* another program waits meanwhile */
    struct blob second;
    ck_assert_int_eq(blob_init(&second, &store, &large, &err), 0);
    ck_assert_int_eq(blob_open(&second, &store, &err), 0);
    ck_assert_int_eq(second.state, BLOB_WAITING);
    put(3000, SIZE);
    put(1000, 2000);
    ck_assert_uint_eq(blob.ready, SIZE);
    ck_assert_int_eq(blob_finish(&blob, &store, &err), 0);
    ck_assert_int_eq(blob_open(&second, &store, &err), 0);
    ck_assert_int_eq(second.state, BLOB_DONE);
    blob_close(&second);
    /* the link leads to its bytes */
    size_t size;
    char *path = store_path(&store, large.name, &err), *bytes;
    ck_assert((bytes = file_read(path, SIZE, &size, NULL, &err)) != NULL);
    ck_assert_uint_eq(size, SIZE);
    for (size_t i = 0; i < SIZE; i++)
        ck_assert_int_eq(bytes[i], (char)(i * 7));
    ck_assert(access(blob.paths.incomplete, F_OK) != 0 && access(blob.paths.ranges, F_OK) != 0);
    free(bytes);
    free(path);
    /* what a run leaves that ended just after the file got its name */
    write_file(blob.paths.ranges, "x", 1);
    write_file(blob.paths.incomplete, "x", 1);
    blob_close(&blob);
    open_blob(&large);
    ck_assert_int_eq(blob.state, BLOB_DONE);
    ck_assert(access(blob.paths.incomplete, F_OK) != 0 && access(blob.paths.ranges, F_OK) != 0);
    blob_close(&blob);
    open_blob(&empty);
    ck_assert_int_eq(blob_finish(&blob, &store, &err), 0);
    blob_close(&blob);
    store_close(&store);
}
END_TEST

START_TEST(set_apart)
{
    struct stat st;
    open_store("apart");
    make_partial(&large);
    open_blob(&large);
    put(0, SIZE);
    ck_assert_int_eq(blob_set_apart(&blob, &err), 0);
    ck_assert_uint_eq(blob_missing(&blob), SIZE);
    ck_assert_uint_eq(blob.ready, 0);
    ck_assert(stat(blob.paths.mismatch, &st) == 0 && st.st_size == SIZE);
    put(0, SIZE);
    ck_assert_int_eq(blob_finish(&blob, &store, &err), 0);
    ck_assert(access(blob.paths.mismatch, F_OK) != 0);
    blob_close(&blob);
    store_close(&store);
}
END_TEST

/* A record is invalid, so all is fetched. */
static void begins_again(const char *what, size_t at)
{
    open_blob(&large);
    ck_assert_msg(ranges_bytes(&blob.have) == 0 && blob_missing(&blob) == SIZE && blob.ready == 0,
                  "%s %zu: %zu bytes are kept", what, at, (size_t)ranges_bytes(&blob.have));
    blob_close(&blob);
}

START_TEST(damaged_records)
{
    size_t size, n;
    struct stat st;
    open_store("damaged");
    make_partial(&other);
    ck_assert_int_eq(blob_init(&blob, &store, &other, &err), 0);
    char *of_other = strdup(blob.paths.ranges);
    blob_paths_free(&blob.paths);
    make_partial(&large);
    ck_assert_int_eq(blob_init(&blob, &store, &large, &err), 0);
    char *ranges = strdup(blob.paths.ranges), *incomplete = strdup(blob.paths.incomplete);
    blob_paths_free(&blob.paths);
    char *record = file_read(ranges, 1 << 20, &size, NULL, &err);
    char *foreign = file_read(of_other, 1 << 20, &n, NULL, &err);
    ck_assert(record != NULL && foreign != NULL && n == size);
    for (size_t at = 0; at < size; at += at < 200 || at + 200 > size ? 1 : 37) {
        make_partial(&large);
        record[at] = (char)(record[at] ^ 1 << at % 8);
        write_file(ranges, record, size);
        record[at] = (char)(record[at] ^ 1 << at % 8);
        begins_again("byte", at);
    }
    for (size_t at = 0; at < size; at += 61) {
        make_partial(&large);
        write_file(ranges, record, at);
        begins_again("cut at", at);
    }
    make_partial(&large);
    write_file(ranges, foreign, size);
    begins_again("another file's", 0);
    make_partial(&large);
    ck_assert_int_eq(truncate(incomplete, SIZE - 1), 0);
    begins_again("a file cut at", SIZE - 1);
    make_partial(&large);
    ck_assert_int_eq(unlink(incomplete), 0);
    begins_again("no file", 0);
    make_partial(&large);
    ck_assert_int_eq(unlink(ranges), 0);
    begins_again("no record", 0);
    /* a link is not followed */
    ck_assert_int_eq(symlink(of_other, incomplete), 0);
    ck_assert_int_eq(blob_init(&blob, &store, &large, &err), 0);
    ck_assert_int_eq(blob_open(&blob, &store, &err), -1);
    blob_close(&blob);
    ck_assert(stat(of_other, &st) == 0 && (size_t)st.st_size == size);
    free(record);
    free(foreign);
    free(of_other);
    free(ranges);
    free(incomplete);
    store_close(&store);
}
END_TEST

static void make_temporary(void)
{
    ck_assert(mkdtemp(folder) != NULL);
}

static int unlink_entry(const char *path, const struct stat *st, int type, struct FTW *walk)
{
    (void)st;
    (void)type;
    (void)walk;
    return remove(path);
}

static void remove_temporary(void)
{
    nftw(folder, unlink_entry, 16, FTW_DEPTH | FTW_PHYS);
}

int main(void)
{
    TCase *tests = tcase_create("hub");
    tcase_add_unchecked_fixture(tests, make_temporary, remove_temporary);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, ranges_random);
    tcase_add_test(tests, ranges_read_from_files);
    tcase_add_test(tests, lists);
    tcase_add_test(tests, lists_refused);
    tcase_add_test(tests, hashes_and_sizes_refused);
    tcase_add_test(tests, checkpoints);
    tcase_add_test(tests, names_that_clash);
    tcase_add_test(tests, gguf_types);
    tcase_add_test(tests, hashes);
    tcase_add_test(tests, resumed);
    tcase_add_test(tests, set_apart);
    tcase_add_test(tests, damaged_records);
    return run_tests("hub", tests);
}
