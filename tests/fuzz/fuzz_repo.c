/* SPDX-License-Identifier: MIT */
/* What a hub lists, a NUL, the type that is asked for, a NUL, a glob of files to include and
 * another one to exclude. */
#include "fuzz.h"

#include <string.h>
#include <strings.h>

#include "hub/repo.h"

/* A path below the folder that it is joined with, wherever that is. */
static void check_name(const char *name)
{
    FUZZ_EXPECT(name[0] != '\0' && name[0] != '/' && strlen(name) <= 1024);
    for (const char *part = name; part != NULL; part = strchr(part, '/')) {
        part += *part == '/';
        size_t n = strcspn(part, "/");
        FUZZ_EXPECT(n > 0 && n <= 255 && (n > 2 || strspn(part, ".") < n));
    }
    for (const char *c = name; *c != '\0'; c++)
        FUZZ_EXPECT((unsigned char)*c >= ' ' && *c != '\\' && *c != 0x7f);
}

static void check_file(const struct hub_file *file)
{
    size_t n = strlen(file->etag);
    check_name(file->name);
    FUZZ_EXPECT(n == HUB_ETAG || n == HUB_BLOB_ID);
    FUZZ_EXPECT(strspn(file->etag, "0123456789abcdef") == n);
    FUZZ_EXPECT(file->size <= (uint64_t)1 << 44);
}

/* What is chosen can lie in one folder, on any system. */
static void check_choice(const struct hub_repo *repo, const struct repo_choice *choice)
{
    const struct hub_file **files = NULL;
    struct llama3_error err = {0};
    size_t n = 0;
    if (repo_choose(repo, choice, "HUB", &files, &n, &err) != 0) {
        fuzz_check_error(&err);
        return;
    }
    FUZZ_EXPECT(n > 0 && n <= repo->n);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            size_t length = strlen(files[i]->name);
            FUZZ_EXPECT(i == j || strcasecmp(files[i]->name, files[j]->name) != 0);
            FUZZ_EXPECT(strncasecmp(files[j]->name, files[i]->name, length) != 0 ||
                        files[j]->name[length] != '/');
        }
    free(files);
}

static bool has_file(const struct hub_repo *repo, const char *name)
{
    for (size_t i = 0; i < repo->n; i++)
        if (strcmp(repo->files[i].name, name) == 0)
            return true;
    return false;
}

static void check_ggufs(const struct hub_repo *repo)
{
    struct repo_gguf *ggufs = NULL;
    struct llama3_error err = {0};
    size_t n = 0, shards = 0;
    FUZZ_EXPECT_MSG(repo_ggufs(repo, &ggufs, &n, &err) == 0, err.message);
    for (size_t i = 0; i < n; i++) {
        FUZZ_EXPECT(ggufs[i].shards > 0 && has_file(repo, ggufs[i].first));
        FUZZ_EXPECT(i == 0 || ggufs[i - 1].size <= ggufs[i].size);
        shards += ggufs[i].shards;
    }
    FUZZ_EXPECT(shards <= repo->n);
    free(ggufs);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hub_repo repo;
    struct llama3_error err = {0};
    size_t length;
    char *json = fuzz_next_text(&data, &size, &length);
    if (repo_parse(&repo, json, length, "HUB", &err) == 0) {
        char *tag = fuzz_next_text(&data, &size, &length);
        char *include = fuzz_next_text(&data, &size, &length);
        char *exclude = fuzz_next_text(&data, &size, &length);
        const char *const in[] = {include}, *const out[] = {exclude};
        FUZZ_EXPECT(strlen(repo.commit) == HUB_COMMIT);
        for (size_t i = 0; i < repo.n; i++) {
            check_file(&repo.files[i]);
            FUZZ_EXPECT(i == 0 || strcmp(repo.files[i - 1].name, repo.files[i].name) < 0);
        }
        check_ggufs(&repo);
        check_choice(&repo, &(struct repo_choice){.tag = tag});
        check_choice(&repo, &(struct repo_choice){in, out, 1, 1, tag});
        free(tag);
        free(include);
        free(exclude);
        repo_free(&repo);
    } else {
        fuzz_check_error(&err);
    }
    free(json);
    return 0;
}
