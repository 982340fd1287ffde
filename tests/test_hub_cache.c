/* Names of models on the hub, and where its local cache keeps them: as huggingface_hub has it. */
#include <check.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoint/hub_cache.h"
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

/* Each variable that is set here comes before those that are set already. */
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
    static const char *const below[] = {"refs", "refs/pr", "snapshots", "snapshots/" COMMIT};
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
    refused(folder, "bad", "a revision (hexadecimal digits) expected, \"../../x\" found");
    refused(folder, "v2", "refs/v2: a revision expected, no such file found");
    static const char *const outside[] = {"",   "../main", "/etc/passwd", "a/../b", "a//b",
                                          "a/", "."};
    for (size_t i = 0; i < sizeof outside / sizeof *outside; i++)
        refused(folder, outside[i], "a branch, a tag or a commit expected");

    snprintf(expected, sizeof expected, "%s/snapshots/%s", folder, COMMIT);
    expect(hub_snapshot(folder, NULL, &err), expected);
    expect(hub_snapshot(folder, COMMIT, &err), expected);
    ck_assert_ptr_null(hub_snapshot(folder, "gone", &err));
    ck_assert_ptr_nonnull(strstr(err.message, "snapshots: the snapshot 00 expected, as refs/gone "
                                              "names it, none found"));
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

int main(void)
{
    TCase *tcase = tcase_create("hub_cache");
    tcase_add_test(tcase, names);
    tcase_add_test(tcase, tags);
    tcase_add_test(tcase, folders);
    tcase_add_test(tcase, what_a_shell_would_replace);
    tcase_add_test(tcase, revisions);
    return run_tests("hub_cache", tcase);
}
