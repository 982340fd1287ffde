/* SPDX-License-Identifier: MIT */
#include "hub/repo.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/size.h"

enum { MAX_FILES = 1 << 17, MAX_NAME = 1024, MAX_PART = 240 };

static const uint64_t MAX_SIZE = (uint64_t)1 << 44; /* 16 TiB */

/* ---- the hub's list -------------------------------------------------------------------------- */

/* What is wrong with a name, or NULL. It must be a relative path of plain names, on other systems
 * as well. */
static const char *name_fault(const char *name)
{
    if (strlen(name) > MAX_NAME)
        return "one of more than 1024 bytes";
    for (const char *c = name; *c != '\0'; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f || *c == '\\' || *c == ':')
            return "one with a control character, '\\' or ':'";
    for (const char *part = name;; part++) {
        size_t n = strcspn(part, "/");
        if (n == 0)
            return part == name && *part == '/' ? "an absolute path" : "one with an empty part";
        if (n > MAX_PART)
            return "one with a part of more than 240 bytes";
        if ((n == 1 && part[0] == '.') || (n == 2 && part[0] == '.' && part[1] == '.'))
            return "one with \".\" or \"..\"";
        part += n;
        if (*part == '\0')
            return NULL;
    }
}

/* Exactly n lower-case hexadecimal digits. */
static bool is_hex(const char *text, size_t n)
{
    return text != NULL && strlen(text) == n && strspn(text, "0123456789abcdef") == n;
}

static int take_file(struct hub_file *file, const json_t *item, const char *where,
                     struct llama3_error *err)
{
    const json_t *lfs = json_object_get(item, "lfs");
    const char *name = NULL, *id = NULL;
    int64_t size = 0;
    bool large = json_is_object(lfs);
    if (json_get_string(item, "rfilename", true, &name, where, err) != 0)
        return -1;
    const char *fault = name_fault(name);
    if (fault != NULL)
        return error_input(err,
                           "%s: expected file names that are plain relative paths, found %s: %.80s",
                           where, fault, name);
    if (json_get_int(large ? lfs : item, "size", true, 0, (int64_t)MAX_SIZE, &size, where, err) !=
            0 ||
        json_get_string(large ? lfs : item, large ? "sha256" : "blobId", true, &id, where, err) !=
            0)
        return -1;
    if (!is_hex(id, large ? HUB_ETAG : HUB_BLOB_ID))
        return error_input(err, "%s: %.80s: expected a hash of %d digits, found \"%.80s\"", where,
                           name, large ? HUB_ETAG : HUB_BLOB_ID, id);
    file->name = strdup(name);
    file->size = (uint64_t)size;
    strcpy(file->etag, id);
    return file->name != NULL ? 0 : error_memory(err, "a file's name", strlen(name));
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct hub_file *)a)->name, ((const struct hub_file *)b)->name);
}

static int take_files(struct hub_repo *repo, const json_t *list, const char *where,
                      struct llama3_error *err)
{
    size_t n = json_array_size(list);
    if (!json_is_array(list) || n > MAX_FILES)
        return error_input(err, "%s: \"siblings\": expected a list of at most %d files, found %s",
                           where, (int)MAX_FILES,
                           json_is_array(list) ? "a longer one" : json_kind(list));
    repo->files = size_alloc_for(n, sizeof *repo->files, "a list of files", err);
    if (repo->files == NULL)
        return -1;
    for (size_t i = 0; i < n; i++, repo->n++)
        if (take_file(&repo->files[i], json_array_get(list, i), where, err) != 0)
            return -1;
    if (n > 0)
        qsort(repo->files, n, sizeof *repo->files, by_name);
    for (size_t i = 1; i < n; i++)
        if (strcmp(repo->files[i - 1].name, repo->files[i].name) == 0)
            return error_input(err, "%s: expected each file once, found %.80s twice", where,
                               repo->files[i].name);
    return 0;
}

int repo_parse(struct hub_repo *repo, const char *json, size_t size, const char *where,
               struct llama3_error *err)
{
    const char *commit = NULL;
    *repo = (struct hub_repo){0};
    json_t *root = json_parse(json, size, where, err);
    if (root == NULL)
        return -1;
    int result = json_get_string(root, "sha", true, &commit, where, err);
    if (result == 0 && !is_hex(commit, HUB_COMMIT))
        result = error_input(err, "%s: \"sha\": expected a commit of %d digits, found \"%.80s\"",
                             where, HUB_COMMIT, commit);
    const json_t *gguf = json_object_get(root, "gguf");
    const char *architecture = json_string_value(json_object_get(gguf, "architecture"));
    if (result == 0) {
        strcpy(repo->commit, commit);
        if (architecture != NULL)
            snprintf(repo->architecture, sizeof repo->architecture, "%s", architecture);
        result = take_files(repo, json_object_get(root, "siblings"), where, err);
    }
    json_decref(root);
    if (result != 0)
        repo_free(repo);
    return result;
}

void repo_free(struct hub_repo *repo)
{
    for (size_t i = 0; i < repo->n; i++)
        free((void *)(uintptr_t)repo->files[i].name);
    free(repo->files);
    *repo = (struct hub_repo){0};
}
