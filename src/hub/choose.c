/* SPDX-License-Identifier: MIT */
/* choose.c: which files of a repository to fetch (repo.h). */
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/path.h"
#include "base/size.h"
#include "checkpoint/gguf_names.h"
#include "hub/repo.h"

static bool ends_with_any_case(const char *text, const char *suffix)
{
    size_t n = strlen(text), m = strlen(suffix);
    return n >= m && strcasecmp(text + n - m, suffix) == 0;
}

/* ---- safetensors ----------------------------------------------------------------------------- */

static bool is_safetensors(const char *name)
{
    return fnmatch("model.safetensors", name, 0) == 0 ||
           fnmatch("model-[0-9][0-9][0-9][0-9][0-9]-of-[0-9][0-9][0-9][0-9][0-9].safetensors", name,
                   0) == 0;
}

bool repo_has_safetensors(const struct hub_repo *repo)
{
    for (size_t i = 0; i < repo->n; i++)
        if (is_safetensors(repo->files[i].name))
            return true;
    return false;
}

/* Files besides the weights that llama3 and transformers read. */
static bool is_beside(const char *name)
{
    static const char more[] = "additional_chat_templates/";
    const char *slash = strchr(name, '/');
    if (slash != NULL)
        return strncmp(name, more, sizeof more - 1) == 0 && strchr(slash + 1, '/') == NULL &&
               path_ends_with(name, ".jinja");
    return ends_with_any_case(name, ".json") || ends_with_any_case(name, ".jinja") ||
           strcmp(name, "tokenizer.model") == 0 || strcmp(name, "merges.txt") == 0;
}

/* ---- GGUF ------------------------------------------------------------------------------------ */

/* Whether llama3 reads this type. K-quants may have a suffix: Q4_K_M. */
static bool opens(const char *tag)
{
    static const char *const read[] = {"F32",  "FP32", "F16",  "FP16", "BF16",   "Q4_0",
                                       "Q4_1", "Q5_0", "Q5_1", "Q8_0", "IQ4_NL", NULL};
    for (size_t i = 0; read[i] != NULL; i++)
        if (strcasecmp(tag, read[i]) == 0)
            return true;
    return strncasecmp(tag, "Q4_K", 4) == 0 || strncasecmp(tag, "Q5_K", 4) == 0 ||
           strncasecmp(tag, "Q6_K", 4) == 0;
}

/* Whether a name is that of a GGUF file, at the top or one folder down. stem: how many bytes the
 * names of all its shards share. */
static bool is_gguf(const char *name, size_t *stem, unsigned *shard, unsigned *count)
{
    const char *slash = strchr(name, '/');
    return gguf_is_weights(name, shard, count, stem) &&
           (slash == NULL || strchr(slash + 1, '/') == NULL);
}

static int by_size(const void *a, const void *b)
{
    const struct repo_gguf *x = a, *y = b;
    return x->size != y->size ? (x->size > y->size) - (x->size < y->size)
                              : strcmp(x->first, y->first);
}

int repo_ggufs(const struct hub_repo *repo, struct repo_gguf **ggufs, size_t *n,
               struct llama3_error *err)
{
    struct repo_gguf *list = size_alloc(repo->n, sizeof *list);
    *n = 0;
    if (list == NULL)
        return error_memory(err, "a list of files", repo->n * sizeof *list);
    for (size_t i = 0, last = 0; i < repo->n;
         i++) { /* sorted by name: the first shard comes first */
        const char *name = repo->files[i].name;
        unsigned shard, count;
        size_t stem;
        if (!is_gguf(name, &stem, &shard, &count))
            continue;
        if (shard == 1 || *n == 0 || strncmp(list[last].first, name, stem) != 0) {
            last = (*n)++;
            list[last] = (struct repo_gguf){.first = name, .count = count};
            gguf_tag(name, list[last].tag);
            list[last].opens = opens(list[last].tag);
        }
        list[last].shards++;
        list[last].size += repo->files[i].size;
    }
    if (*n > 0)
        qsort(list, *n, sizeof *list, by_size);
    *ggufs = list;
    return 0;
}

/* Whether name is a shard of the GGUF whose first one is `first`. */
static bool is_shard_of(const char *name, const char *first)
{
    unsigned shard, count;
    size_t n, stem;
    return is_gguf(name, &n, &shard, &count) && is_gguf(first, &stem, &shard, &count) &&
           n == stem && strncmp(name, first, n) == 0;
}

/* The one GGUF that a tag stands for. */
static int find_gguf(const struct hub_repo *repo, const char *tag, const char *where,
                     const char **first, struct llama3_error *err)
{
    struct repo_gguf *ggufs = NULL;
    struct buf tags = {0};
    size_t n = 0, found = 0;
    int best = 0;
    bool opens = true;
    struct repo_gguf one = {0};
    if (repo_ggufs(repo, &ggufs, &n, err) != 0)
        return -1;
    for (size_t i = 0; i < n; i++) {
        int fit = tag[0] == '\0' ? 1 : gguf_tag_fits(ggufs[i].first, tag);
        if (fit > best)
            found = 0;
        if (fit > 0 && fit >= best && found++ == 0) {
            one = ggufs[i];
            opens = one.opens || tag[0] == '\0';
        }
        best = fit > best ? fit : best;
        buf_add_str(&tags, i > 0 ? ", " : "");
        buf_add_str(&tags, ggufs[i].tag);
    }
    free(ggufs);
    *first = one.first;
    int result = found == 1 && opens && one.shards == one.count ? 0 : -1;
    if (tags.failed)
        result = error_memory(err, "a list of files", tags.size);
    else if (n == 0)
        error_input(err, "%s: expected %s, found none", where,
                    tag[0] != '\0' ? "GGUF files, of which TYPE names one"
                                   : "safetensors or GGUF files");
    else if (found == 0)
        error_input(err, "%s: expected one of %.400s, found %s", where, tags.data, tag);
    else if (!opens)
        error_input(err,
                    "%s: expected a type that llama3 opens, found %s; --include fetches it anyway",
                    where, tag);
    else if (found > 1)
        error_input(err, "%s: expected one GGUF file, found %zu of %s: --include names one (%s)",
                    where, found, tag[0] != '\0' ? tag : "any type", *first);
    else if (result != 0)
        error_input(err, "%s: expected %zu shards of %.200s, found %zu", where, one.count,
                    one.first, one.shards);
    buf_free(&tags);
    return result;
}

/* ---- globs ----------------------------------------------------------------------------------- */

/* As in huggingface_hub: '*' matches slashes too, and "folder/" matches all below it. */
static bool matches(const char *name, const char *const *globs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t length = strlen(globs[i]);
        if (fnmatch(globs[i], name, FNM_NOESCAPE) == 0 ||
            (length > 0 && globs[i][length - 1] == '/' && strncmp(name, globs[i], length) == 0))
            return true;
    }
    return false;
}

/* ---- the choice ------------------------------------------------------------------------------ */

/* Weights last: the small files tell early whether llama3 can use the checkpoint. */
static int by_use(const void *a, const void *b)
{
    const struct hub_file *x = *(const struct hub_file *const *)a,
                          *y = *(const struct hub_file *const *)b;
    bool p = ends_with_any_case(x->name, ".safetensors") || ends_with_any_case(x->name, ".gguf");
    bool q = ends_with_any_case(y->name, ".safetensors") || ends_with_any_case(y->name, ".gguf");
    return p != q ? p - q : strcmp(x->name, y->name);
}

static int by_folded_name(const void *a, const void *b)
{
    return strcasecmp((*(const struct hub_file *const *)a)->name,
                      (*(const struct hub_file *const *)b)->name);
}

/* Refuses names that differ only by case, and a file where another needs a folder. */
static int check_pairs(const struct hub_file **files, size_t n, const char *where,
                       struct llama3_error *err)
{
    if (n > 0)
        qsort(files, n, sizeof *files, by_folded_name);
    for (size_t i = 1; i < n; i++)
        if (strcasecmp(files[i - 1]->name, files[i]->name) == 0)
            return error_input(
                err,
                "%s: expected names that differ, found %.80s and %.80s, which are one "
                "file on some systems",
                where, files[i - 1]->name, files[i]->name);
    for (size_t i = 0; i < n; i++)
        for (size_t j = i + 1; j < n; j++) {
            size_t length = strlen(files[i]->name);
            if (strncasecmp(files[j]->name, files[i]->name, length) != 0)
                break; /* sorted: no later name has this prefix */
            if (files[j]->name[length] == '/')
                return error_input(err, "%s: expected %.80s to be a file or a folder, found both",
                                   where, files[i]->name);
        }
    return 0;
}

int repo_choose(const struct hub_repo *repo, const struct repo_choice *choice, const char *where,
                const struct hub_file ***files, size_t *n, struct llama3_error *err)
{
    const struct hub_file **list = size_alloc(repo->n, sizeof *list);
    const char *gguf = NULL;
    bool safetensors = repo_has_safetensors(repo);
    *n = 0;
    if (list == NULL)
        return error_memory(err, "a list of files", repo->n * sizeof *list);
    bool by_type = choice->n_include == 0 && (choice->tag[0] != '\0' || !safetensors);
    if (by_type && find_gguf(repo, choice->tag, where, &gguf, err) != 0) {
        free(list);
        return -1;
    }
    for (size_t i = 0; i < repo->n; i++) {
        const char *name = repo->files[i].name;
        bool wanted = choice->n_include > 0 ? matches(name, choice->include, choice->n_include)
                      : gguf != NULL
                          ? is_shard_of(name, gguf) || strcmp(name, "generation_config.json") == 0
                          : is_safetensors(name) || is_beside(name);
        if (wanted && !matches(name, choice->exclude, choice->n_exclude))
            list[(*n)++] = &repo->files[i];
    }
    int result = check_pairs(list, *n, where, err);
    if (result == 0 && *n == 0)
        result =
            error_input(err, "%s: expected matching files, found none among %zu", where, repo->n);
    if (result != 0) {
        free(list);
        return -1;
    }
    qsort(list, *n, sizeof *list, by_use);
    *files = list;
    return 0;
}
