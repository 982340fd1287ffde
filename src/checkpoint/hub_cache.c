/* SPDX-License-Identifier: MIT */
#include "checkpoint/hub_cache.h"

#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/path.h"

#define ALNUM "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
#define HEX   "0123456789abcdefABCDEF"

/* ---- names ----------------------------------------------------------------------------------- */

/* An owner, name or tag. Its ends are word characters, as \b in huggingface_hub's pattern demands.
 */
static bool is_word(const char *word, size_t n)
{
    char copy[97];
    if (n == 0 || n >= sizeof copy)
        return false;
    snprintf(copy, sizeof copy, "%.*s", (int)n, word);
    return strspn(copy, ALNUM "-_.") == n && strchr("-.", copy[0]) == NULL &&
           strchr("-.", copy[n - 1]) == NULL;
}

bool hub_is_repository(const char *name)
{
    size_t owner = strcspn(name, "/"), n = strlen(name);
    return owner < n && is_word(name, owner) && is_word(name + owner + 1, n - owner - 1) &&
           strstr(name, "--") == NULL && strstr(name, "..") == NULL &&
           (n < 4 || strcmp(name + n - 4, ".git") != 0);
}

bool hub_split(const char *model, char repository[HUB_NAME_SIZE], char tag[HUB_NAME_SIZE])
{
    size_t n = strcspn(model, ":");
    const char *after = model[n] == ':' ? model + n + 1 : NULL;
    if (n >= HUB_NAME_SIZE)
        return false;
    memcpy(repository, model, n);
    repository[n] = tag[0] = '\0';
    if (!hub_is_repository(repository) || (after != NULL && !is_word(after, strlen(after))))
        return false;
    if (after != NULL)
        snprintf(tag, HUB_NAME_SIZE, "%s", after);
    return true;
}

/* ---- folders --------------------------------------------------------------------------------- */

/* Appends the home of a user, "" for the current one. False if it is unknown. */
static bool add_home(struct buf *path, const char *user, size_t n)
{
    const char *home = n == 0 ? getenv("HOME") : NULL;
    char name[64], strings[4096];
    struct passwd entry, *found = NULL;
    if (home == NULL || home[0] == '\0') {
        if (n >= sizeof name)
            return false;
        snprintf(name, sizeof name, "%.*s", (int)n, user);
        if (n == 0)
            getpwuid_r(getuid(), &entry, strings, sizeof strings, &found);
        else
            getpwnam_r(name, &entry, strings, sizeof strings, &found);
        if (found == NULL)
            return false;
        home = found->pw_dir;
    }
    n = strlen(home);
    while (n > 0 && home[n - 1] == '/')
        n--;
    buf_add(path, home, n);
    return true;
}

/* Appends the value of $NAME or ${NAME} at `text`. Returns the length of that, or 0 if the variable
 * is not set. */
static size_t add_variable(struct buf *path, const char *text)
{
    bool braces = text[1] == '{';
    const char *begin = text + 1 + braces;
    size_t n = braces ? strcspn(begin, "}") : strspn(begin, ALNUM "_");
    char name[128];
    if (n == 0 || n >= sizeof name || (braces && begin[n] != '}'))
        return 0;
    snprintf(name, sizeof name, "%.*s", (int)n, begin);
    const char *value = getenv(name);
    if (value == NULL)
        return 0;
    buf_add_str(path, value);
    return (size_t)(begin - text) + n + braces;
}

/* Expands "~", "~USER", "$NAME" and "${NAME}" as huggingface_hub does: no shell has done so where
 * the variable comes from a file. */
static char *expand(const char *path, struct llama3_error *err)
{
    struct buf out = {0};
    if (path[0] == '~') {
        size_t n = strcspn(path, "/");
        if (add_home(&out, path + 1, n - 1))
            path += n;
    }
    while (*path != '\0') {
        size_t n = *path == '$' ? add_variable(&out, path) : 0;
        if (n == 0)
            buf_add(&out, path, n = 1);
        path += n;
    }
    if (out.size == 0)
        buf_add_str(&out, "/");
    if (!out.failed)
        return out.data;
    buf_free(&out);
    error_memory(err, "a path", 1);
    return NULL;
}

/* A variable's path, and a name below it. */
static char *below(const char *value, const char *name, struct llama3_error *err)
{
    char *folder = expand(value, err);
    return name == NULL ? folder : path_append(folder, name, err);
}

static const char *variable(const char *name)
{
    const char *value = getenv(name);
    return value != NULL && value[0] != '\0' ? value : NULL;
}

char *hub_home_folder(struct llama3_error *err)
{
    const char *home = variable("HF_HOME"), *cache = variable("XDG_CACHE_HOME");
    return home != NULL    ? below(home, NULL, err)
           : cache != NULL ? below(cache, "huggingface", err)
                           : below("~", ".cache/huggingface", err);
}

char *hub_cache_folder(struct llama3_error *err)
{
    const char *cache = variable("HF_HUB_CACHE");
    if (cache == NULL)
        cache = variable("HUGGINGFACE_HUB_CACHE"); /* its old name */
    return cache != NULL ? below(cache, NULL, err) : path_append(hub_home_folder(err), "hub", err);
}

char *hub_token_path(struct llama3_error *err)
{
    const char *path = variable("HF_TOKEN_PATH");
    return path != NULL ? below(path, NULL, err) : path_append(hub_home_folder(err), "token", err);
}

char *hub_repository_folder(const char *repository, struct llama3_error *err)
{
    char name[HUB_NAME_SIZE + 16];
    int owner = (int)strcspn(repository, "/");
    snprintf(name, sizeof name, "models--%.*s--%s", owner, repository, repository + owner + 1);
    return path_append(hub_cache_folder(err), name, err);
}

/* ---- revisions ------------------------------------------------------------------------------- */

/* The name of a branch or tag is a path below refs/, and must not lead out of it. */
bool hub_is_revision(const char *name)
{
    if (name[0] == '\0' || strlen(name) > 255)
        return false;
    for (const char *at = name;; at++) {
        size_t n = strcspn(at, "/");
        if (n == 0 || at[0] == '.')
            return false;
        at += n;
        if (*at == '\0')
            return true;
    }
}

/* The commit that a file below refs/ names. */
static char *read_ref(const char *path, struct llama3_error *err)
{
    size_t size = 0;
    bool missing = false;
    char *text = file_read(path, 256, &size, &missing, err);
    if (missing)
        error_input(err, "%s: expected a revision, found no such file", path);
    if (text == NULL)
        return NULL;
    size = strcspn(text, "\r\n");
    text[size] = '\0';
    if (size > 0 && strspn(text, HEX) == size)
        return text;
    error_input(err, "%s: expected a revision (hexadecimal digits), found \"%s\"", path, text);
    free(text);
    return NULL;
}

char *hub_commit(const char *folder, const char *revision, struct llama3_error *err)
{
    revision = revision == NULL ? "main" : revision;
    if (strlen(revision) == 40 && strspn(revision, HEX) == 40)
        return path_copy(revision, 40, err);
    if (!hub_is_revision(revision)) {
        error_input(err, "expected a branch, a tag or a commit, found \"%s\"", revision);
        return NULL;
    }
    char *path = path_append(path_join(folder, "refs", err), revision, err);
    char *commit = path == NULL ? NULL : read_ref(path, err);
    free(path);
    return commit;
}

char *hub_snapshot(const char *folder, const char *revision, struct llama3_error *err)
{
    char *commit = hub_commit(folder, revision, err);
    char *path = commit == NULL ? NULL : hub_commit_folder(folder, commit, err);
    if (path != NULL && !path_exists(path)) {
        error_input(err, "%s: expected the snapshot that refs/%s names, found none", path,
                    revision == NULL ? "main" : revision);
        free(path);
        path = NULL;
    }
    free(commit);
    return path;
}

char *hub_commit_folder(const char *folder, const char *commit, struct llama3_error *err)
{
    char name[300];
    snprintf(name, sizeof name, "snapshots/%s", commit);
    return path_join(folder, name, err);
}

char *hub_int4_path(const char *folder, const char *commit, struct llama3_error *err)
{
    char name[128];
    snprintf(name, sizeof name, "llama3/%s-int4.safetensors", commit);
    return path_join(folder, name, err);
}
