/* SPDX-License-Identifier: MIT */
/* test_hub_cache: names of models, their folders in the cache as huggingface_hub has them, and
 * which file a name stands for. */
#include <check.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoint/gguf_names.h"
#include "checkpoint/hub_cache.h"
#include "checkpoint/readers.h"
#include "run.h"

static char long_name[300];

/* A name whose second part has n characters. */
static const char *of_length(size_t n)
{
    memset(long_name, 'a', sizeof long_name);
    memcpy(long_name, "me/", 3);
    long_name[3 + n] = '\0';
    return long_name;
}

START_TEST(names)
{
    static const char *const good[] = {"a/b", "meta-llama/Llama-3.2-1B-Instruct", "_a/b_",
                                       "0/1.2_3-4", "a/b.gi"};
    static const char *const bad[] = {
        "",           "a",    "/",    "a/",     "/b",      "a/b/c", "a//b",  "./b",
        "a/.b",       "a/..", "../b", "a/b--c", "a--b/c",  "-a/b",  "a/-b",  "a/b-",
        "a/b.",       "a./b", "a-/b", "a/b..c", "a/b.git", "a/b c", "a/b:c", "a/b\n",
        "a/\303\244", "~/b",  "a/b?", "a/b*",   "a\\b",
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        ck_assert_msg(hub_is_repository(good[i]), "%s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_msg(!hub_is_repository(bad[i]), "%s", bad[i]);
    ck_assert(hub_is_repository(of_length(96)));
    ck_assert(!hub_is_repository(of_length(97)));
    ck_assert(!hub_is_repository(of_length(290)));
}
END_TEST

START_TEST(tags)
{
    char repository[HUB_NAME_SIZE], tag[HUB_NAME_SIZE];
    ck_assert(hub_split("a/b", repository, tag));
    ck_assert_str_eq(repository, "a/b");
    ck_assert_str_eq(tag, "");
    ck_assert(hub_split("me/tiny-GGUF:Q4_K_M", repository, tag));
    ck_assert_str_eq(repository, "me/tiny-GGUF");
    ck_assert_str_eq(tag, "Q4_K_M");
    static const char *const bad[] = {"a:b", "a/b:", "a/b:c:d", "a/b:c/d", ":c", "a/b:.."};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_msg(!hub_split(bad[i], repository, tag), "%s", bad[i]);
    ck_assert(!hub_split(of_length(290), repository, tag));
}
END_TEST

static void clear(void)
{
    static const char *const variables[] = {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME",
                                            "XDG_CACHE_HOME"};
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
        unsetenv(variables[i]);
    setenv("HOME", "/home/me", 1);
}

static void expect(char *path, const char *expected)
{
    ck_assert_ptr_nonnull(path);
    ck_assert_str_eq(path, expected);
    free(path);
}

static void both(const char *home, const char *cache)
{
    struct llama3_error err;
    expect(hub_home_folder(&err), home);
    expect(hub_cache_folder(&err), cache);
}

/* Each variable takes precedence over those set before. */
START_TEST(folders)
{
    struct llama3_error err;
    clear();
    both("/home/me/.cache/huggingface", "/home/me/.cache/huggingface/hub");
    setenv("XDG_CACHE_HOME", "/x", 1);
    both("/x/huggingface", "/x/huggingface/hub");
    setenv("HF_HOME", "/h/", 1);
    both("/h/", "/h/hub");
    setenv("HUGGINGFACE_HUB_CACHE", "/old", 1);
    both("/h/", "/old");
    setenv("HF_HUB_CACHE", "/new", 1);
    both("/h/", "/new");
    expect(hub_repository_folder("me/tiny-1.0_b", &err), "/new/models--me--tiny-1.0_b");
    setenv("HF_HUB_CACHE", "", 1);
    both("/h/", "/old");
}
END_TEST

START_TEST(what_a_shell_would_replace)
{
    static const char *const cases[][2] = {
        {"~", "/home/me"},       {"~/c", "/home/me/c"},
        {"/a/~/c", "/a/~/c"},    {"$D/c", "/data/c"},
        {"/x${D}y", "/x/datay"}, {"/a$NONE/c", "/a$NONE/c"},
        {"/a${D", "/a${D"},      {"/a$", "/a$"},
        {"/a$/c", "/a$/c"},      {"~nobody-of-that-name/c", "~nobody-of-that-name/c"},
    };
    clear();
    setenv("D", "/data", 1);
    unsetenv("NONE");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        setenv("HF_HUB_CACHE", cases[i][0], 1);
        expect(hub_cache_folder(NULL), cases[i][1]);
    }
    struct passwd *root = getpwnam("root"), *me = getpwuid(getuid());
    char expected[600];
    if (root != NULL) {
        setenv("HF_HUB_CACHE", "~root/c", 1);
        snprintf(expected, sizeof expected, "%s/c", root->pw_dir);
        expect(hub_cache_folder(NULL), expected);
    }
    if (me != NULL) {
        clear();
        unsetenv("HOME");
        snprintf(expected, sizeof expected, "%s/.cache/huggingface", me->pw_dir);
        expect(hub_home_folder(NULL), expected);
    }
}
END_TEST

#define COMMIT "0123456789abcdef0123456789abcdef01234567"

static void put(const char *folder, const char *name, const char *text)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_ge(fputs(text, file), 0);
    fclose(file);
}

static void refused(const char *folder, const char *revision, const char *expected)
{
    struct llama3_error err = {0};
    ck_assert_ptr_null(hub_commit(folder, revision, &err));
    ck_assert_msg(strstr(err.message, expected) != NULL, "%s", err.message);
}

START_TEST(revisions)
{
    static const char *const below[] = {"refs", "refs/pr", "snapshots", ("snapshots/" COMMIT)};
    static const char *const refs[] = {"refs/main", "refs/pr/1", "refs/bad", "refs/gone"};
    char folder[] = "/tmp/llama3-test-XXXXXX", path[600], expected[600];
    struct llama3_error err = {0};
    ck_assert_ptr_nonnull(mkdtemp(folder));
    for (size_t i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, below[i]);
        ck_assert_int_eq(mkdir(path, 0700), 0);
    }
    put(folder, refs[0], COMMIT);
    put(folder, refs[1], COMMIT "\n");
    put(folder, refs[2], "../../x");
    put(folder, refs[3], "00");
    expect(hub_commit(folder, NULL, &err), COMMIT);
    expect(hub_commit(folder, "main", &err), COMMIT);
    expect(hub_commit(folder, "pr/1", &err), COMMIT);
    expect(hub_commit("/nowhere", COMMIT, &err), COMMIT);
    refused(folder, "bad", "expected a revision (hexadecimal digits), found \"../../x\"");
    refused(folder, "v2", "refs/v2: expected a revision, found no such file");
    static const char *const outside[] = {"",   "../main", "/etc/passwd", "a/../b", "a//b",
                                          "a/", "."};
    for (size_t i = 0; i < sizeof outside / sizeof *outside; i++)
        refused(folder, outside[i], "expected a branch, a tag or a commit");

    snprintf(expected, sizeof expected, "%s/snapshots/%s", folder, COMMIT);
    expect(hub_snapshot(folder, NULL, &err), expected);
    expect(hub_snapshot(folder, COMMIT, &err), expected);
    ck_assert_ptr_null(hub_snapshot(folder, "gone", &err));
    ck_assert_ptr_nonnull(strstr(
        err.message, "snapshots/00: expected the snapshot that refs/gone names, found none"));
    snprintf(expected, sizeof expected, "%s/llama3/%s-int4.safetensors", folder, COMMIT);
    expect(hub_int4_path(folder, COMMIT, &err), expected);

    for (size_t i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, refs[i]);
        unlink(path);
    }
    for (size_t i = 4; i-- > 0;) {
        snprintf(path, sizeof path, "%s/%s", folder, below[i]);
        rmdir(path);
    }
    ck_assert_int_eq(rmdir(folder), 0);
}
END_TEST

/* ---- what a name means ----------------------------------------------------------------------- */

START_TEST(names_of_gguf_files)
{
    static const struct {
        const char *name;
        unsigned shard, count;
        size_t stem;
        const char *tag;
    } cases[] = {
        {"a.gguf", 1, 1, 1, "a"},
        {"Tiny-1B.Q4_K_M.gguf", 1, 1, 14, "Q4_K_M"},
        {"Tiny-1B-Instruct-IQ4_NL.GGUF", 1, 1, 23, "IQ4_NL"},
        {"ggml-model-f16.gguf", 1, 1, 14, "f16"},
        {"Tiny-BF16-00002-of-00003.gguf", 2, 3, 9, "BF16"},
        {"Q8_0/Tiny-00001-of-00002.gguf", 1, 2, 9, "Q8_0"},
        {"Tiny-UD-Q4_K_XL.gguf", 1, 1, 15, "Q4_K_XL"},
        {"Tiny-Q4_0-new.gguf", 1, 1, 13, "Q4_0"},
        {"Tiny-00004-of-00003.gguf", 1, 1, 19, "00003"},
        {"Tiny-00000-of-00003.gguf", 1, 1, 19, "00003"},
        {"Tiny-0x001-of-00003.gguf", 1, 1, 19, "00003"},
    };
    static const char *const none[] = {"",
                                       ".gguf",
                                       "gguf",
                                       "a.gguf.txt",
                                       "a.bin",
                                       "a-gguf",
                                       "mmproj-model-f16.gguf",
                                       "x-IMatrix.gguf"};
    unsigned shard, count;
    size_t stem;
    char tag[HUB_NAME_SIZE];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ck_assert_msg(gguf_is_weights(cases[i].name, &shard, &count, &stem), "%s", cases[i].name);
        ck_assert_msg(shard == cases[i].shard && count == cases[i].count && stem == cases[i].stem,
                      "%s: %u of %u, %zu", cases[i].name, shard, count, stem);
        gguf_tag(cases[i].name, tag);
        ck_assert_str_eq(tag, cases[i].tag);
    }
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        ck_assert_msg(!gguf_is_weights(none[i], &shard, &count, &stem), "%s", none[i]);
        ck_assert_int_eq(gguf_tag_fits(none[i], "gguf"), 0);
    }
}
END_TEST

START_TEST(tags_of_gguf_files)
{
    static const struct {
        const char *name, *tag;
        int fits;
    } cases[] = {
        {"Tiny-1B.Q4_K_M.gguf", "Q4_K_M", 2}, {"Tiny-1B.Q4_K_M.gguf", "q4_k_m", 2},
        {"Tiny-1B.Q4_K_M.gguf", "Q4_K", 1},   {"Tiny-1B.Q4_K_M.gguf", "Q4", 1},
        {"Tiny-1B.Q4_K_M.gguf", "K_M", 1},    {"Tiny-1B.Q4_K_M.gguf", "Q4_K_S", 0},
        {"Tiny-1B.IQ4_NL.gguf", "Q4_NL", 0},  {"Tiny-1B.Q4_K_M.gguf", "4_K_M", 0},
        {"Tiny-1B.Q4_K_M.gguf", "gguf", 0},   {"Q8_0.gguf", "Q8_0", 2},
        {"Q8_0/a.gguf", "Q8_0", 2},           {"a-Q8_0-00001-of-00002.gguf", "Q8_0", 2},
        {"a_Q4-b-Q4.gguf", "Q4", 2},          {"a.gguf", "", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ck_assert_msg(gguf_tag_fits(cases[i].name, cases[i].tag) == cases[i].fits, "%s %s",
                      cases[i].name, cases[i].tag);
}
END_TEST

/* A cache with a repository "me/tiny" whose main is COMMIT. */
#define MAIN "snapshots/" COMMIT
static char cache[32], snapshot[200];

static void in_cache(const char *command)
{
    char line[2000];
    snprintf(line, sizeof line, "cd '%s/models--me--tiny/" MAIN "' && %s", cache, command);
    ck_assert_int_eq(system(line), 0);
}

static void setup(void)
{
    char line[400];
    clear();
    strcpy(cache, "/tmp/llama3-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(cache));
    setenv("HF_HUB_CACHE", cache, 1);
    snprintf(snapshot, sizeof snapshot, "%s/models--me--tiny/" MAIN, cache);
    snprintf(line, sizeof line, "mkdir -p '%s' '%s/models--me--tiny/refs'", snapshot, cache);
    ck_assert_int_eq(system(line), 0);
    snprintf(line, sizeof line, "%s/models--me--tiny", cache);
    put(line, "refs/main", COMMIT);
}

static void teardown(void)
{
    char line[64];
    snprintf(line, sizeof line, "rm -r '%s'", cache);
    ck_assert_int_eq(system(line), 0);
}

/* Checks that a name stands for this path in the repository's folder. */
static void means(const char *name, const char *below, enum checkpoint_kind expected_kind)
{
    enum checkpoint_kind kind;
    struct llama3_error err = {0};
    char expected[600];
    snprintf(expected, sizeof expected, "%s/models--me--tiny/%s", cache, below);
    char *path = resolve_path(name, &kind, &err);
    ck_assert_msg(path != NULL, "%s: %s", name, err.message);
    ck_assert_str_eq(path, expected);
    ck_assert_int_eq(kind, expected_kind);
    free(path);
}

static void fails(const char *name, enum llama3_code code, const char *expected)
{
    enum checkpoint_kind kind;
    struct llama3_error err = {0};
    char *path = resolve_path(name, &kind, &err);
    ck_assert_msg(path == NULL, "%s", path);
    ck_assert_msg(strncmp(err.message, expected, strlen(expected)) == 0, "%s", err.message);
    ck_assert_int_eq(err.code, code);
}

START_TEST(a_checkpoint)
{
    fails("me/other", LLAMA3_EABSENT,
          "me/other: not on this machine; get it: llama3-pull me/other (no such path, and not in "
          "/tmp/");
    fails("me/other:int4", LLAMA3_EABSENT,
          "me/other:int4: not on this machine; get it: llama3-pull --int4 me/other (");
    fails("me/other:Q4_0", LLAMA3_EABSENT,
          "me/other:Q4_0: not on this machine; get it: llama3-pull me/other:Q4_0 (");
    fails("me/other.gguf", LLAMA3_EIO, "me/other.gguf: No such file");
    fails("me/other.safetensors", LLAMA3_EIO, "me/other.safetensors: No such file");
    fails("me/other:", LLAMA3_EIO, "me/other:: No such file");
    fails("me/tiny", LLAMA3_EINPUT, snapshot); /* empty */

    in_cache("touch config.json");
    fails(
        "me/tiny", LLAMA3_EABSENT,
        "me/tiny: incomplete, without model.safetensors; get the rest: llama3-pull me/tiny (in /");
    in_cache("echo '{\"weight_map\": {\"a\": \"m-1.safetensors\", \"b\": \"m-2.safetensors\"}}' "
             ">model.safetensors.index.json; touch m-1.safetensors; "
             "ln -s ../../blobs/none m-2.safetensors");
    fails("me/tiny", LLAMA3_EABSENT,
          "me/tiny: incomplete, without m-2.safetensors; get the rest: llama3-pull me/tiny (in /");
    in_cache("rm config.json m-2.safetensors; touch m-2.safetensors");
    fails("me/tiny", LLAMA3_EABSENT, "me/tiny: incomplete, without config.json; get the rest: ");
    in_cache("touch config.json");
    means("me/tiny", MAIN, CHECKPOINT_FOLDER);
    fails("me/tiny:int4", LLAMA3_EABSENT,
          "me/tiny:int4: not on this machine; get it: llama3-pull --int4 me/tiny (");

    /* Beside the original weights the int4 file needs its tag; without them it doesn't. */
    in_cache("mkdir ../../llama3; touch ../../llama3/" COMMIT "-int4.safetensors");
    means("me/tiny", MAIN, CHECKPOINT_FOLDER);
    means("me/tiny:int4", "llama3/" COMMIT "-int4.safetensors", CHECKPOINT_PACKED);
    in_cache("rm m-1.safetensors");
    means("me/tiny", "llama3/" COMMIT "-int4.safetensors", CHECKPOINT_PACKED);
}
END_TEST

START_TEST(gguf_files)
{
    in_cache("touch tiny-Q4_K_M.gguf config.json");
    means("me/tiny", MAIN "/tiny-Q4_K_M.gguf", CHECKPOINT_GGUF);
    means("me/tiny:q4_k_m", MAIN "/tiny-Q4_K_M.gguf", CHECKPOINT_GGUF);
    means("me/tiny:Q4_K", MAIN "/tiny-Q4_K_M.gguf", CHECKPOINT_GGUF);
    fails("me/tiny:Q8_0", LLAMA3_EABSENT,
          "me/tiny:Q8_0: not on this machine; get it: llama3-pull me/tiny:Q8_0 (");
    in_cache("mkdir Q8_0 Q8_0/deep; touch Q8_0/tiny-00002-of-00002.gguf Q8_0/deep/x-F16.gguf");
    fails("me/tiny", LLAMA3_EINPUT,
          "me/tiny: expected one GGUF file, found 2; name one: me/tiny:Q8_0, me/tiny:Q4_K_M (in /");
    fails("me/tiny:Q8_0", LLAMA3_EABSENT,
          "me/tiny:Q8_0: incomplete, without 1 of 2 shards of Q8_0/tiny.gguf; get the rest: "
          "llama3-pull me/tiny:Q8_0 (in /");
    in_cache("touch Q8_0/tiny-00001-of-00002.gguf");
    means("me/tiny:Q8_0", MAIN "/Q8_0/tiny-00001-of-00002.gguf", CHECKPOINT_GGUF);
    fails("me/tiny:F16", LLAMA3_EABSENT, "me/tiny:F16: not on this machine");
    in_cache("touch tiny-Q4_K_S.gguf");
    fails(
        "me/tiny:Q4_K", LLAMA3_EINPUT,
        "me/tiny:Q4_K: expected one GGUF file, found 2; name one: me/tiny:Q4_K_M, me/tiny:Q4_K_S");
    in_cache("touch tiny-Q4_K.gguf");
    means("me/tiny:Q4_K", MAIN "/tiny-Q4_K.gguf", CHECKPOINT_GGUF);

    /* Safetensors are preferred; a tag finds the others. */
    in_cache("touch model.safetensors");
    means("me/tiny", MAIN, CHECKPOINT_FOLDER);
    means("me/tiny:Q4_K_S", MAIN "/tiny-Q4_K_S.gguf", CHECKPOINT_GGUF);
}
END_TEST

/* With a hundred files, the list is cut to fit the message. */
START_TEST(many_gguf_files)
{
    enum checkpoint_kind kind;
    struct llama3_error err = {0};
    in_cache("i=100; while [ $i -lt 200 ]; do touch tiny-Q$i.gguf; i=$((i + 1)); done");
    ck_assert_ptr_null(resolve_path("me/tiny", &kind, &err));
    ck_assert_ptr_nonnull(strstr(err.message, "me/tiny:Q100, me/tiny:Q101, "));
    ck_assert_ptr_nonnull(strstr(err.message, ", ... (in /"));
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("hub_cache");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, names);
    tcase_add_test(tcase, tags);
    tcase_add_test(tcase, folders);
    tcase_add_test(tcase, what_a_shell_would_replace);
    tcase_add_test(tcase, revisions);
    tcase_add_test(tcase, names_of_gguf_files);
    tcase_add_test(tcase, tags_of_gguf_files);
    tcase_add_test(tcase, a_checkpoint);
    tcase_add_test(tcase, gguf_files);
    tcase_add_test(tcase, many_gguf_files);
    return run_tests("hub_cache", tcase);
}
