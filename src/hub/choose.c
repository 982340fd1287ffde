/* choose.c: which files of a repository are fetched. */
#include "config.h" /* strcasestr, FNM_CASEFOLD */

#include <ctype.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/size.h"
#include "hub/repo.h"

static bool ends_with(const char *text, const char *suffix)
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

/* What llama3 and transformers read besides the weights. */
static bool is_beside(const char *name)
{
    return strchr(name, '/') == NULL &&
           (ends_with(name, ".json") || ends_with(name, ".jinja") ||
            strcmp(name, "tokenizer.model") == 0 || strcmp(name, "merges.txt") == 0);
}

/* ---- GGUF ------------------------------------------------------------------------------------ */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* The length of NAME in NAME-00001-of-00003.gguf or NAME.gguf; *part is 1 of a whole file. */
static size_t stem_of(const char *name, unsigned *part)
{
    size_t n = strlen(name) - strlen(".gguf"), tail = strlen("-00001-of-00003");
    unsigned count;
    *part = 1;
    if (n > tail && is_digit(name[n - 1]) &&
        sscanf(name + n - tail, "-%5u-of-%5u", part, &count) == 2)
        return n - tail;
    return n;
}

/* A word that names a number format: Q4_K_M, IQ4_NL, BF16, UD-Q4_K_XL's Q4_K_XL. */
static bool is_type(const char *word, size_t n)
{
    static const char *const floats[] = {"F16", "F32", "BF16", "FP16", "FP32"};
    for (size_t i = 0; i < sizeof floats / sizeof *floats; i++)
        if (n == strlen(floats[i]) && strncasecmp(word, floats[i], n) == 0)
            return true;
    size_t at = n > 0 && (word[0] == 'I' || word[0] == 'i' || word[0] == 'T' || word[0] == 't');
    return n >= at + 2 && (word[at] == 'Q' || word[at] == 'q') && is_digit(word[at + 1]);
}

/* The last word of a stem that names a type. */
static void find_tag(const char *stem, size_t n, char tag[REPO_TAG])
{
    const char *slash = memrchr(stem, '/', n);
    const char *name = slash != NULL ? slash + 1 : stem;
    n -= (size_t)(name - stem);
    snprintf(tag, REPO_TAG, "%.*s", (int)(n < REPO_TAG - 1 ? n : REPO_TAG - 1), name);
    for (size_t at = 0; at < n;) {
        size_t length = 0;
        while (at + length < n && strchr("-.", name[at + length]) == NULL)
            length++;
        if (length < REPO_TAG && is_type(name + at, length))
            snprintf(tag, REPO_TAG, "%.*s", (int)length, name + at);
        at += length + 1;
    }
}

/* Types that this program reads; the rest have a letter that says what they are made of. */
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

static bool is_gguf(const char *name)
{
    const char *slash = strchr(name, '/');
    return ends_with(name, ".gguf") && strlen(name) > strlen(".gguf") &&
           strcasestr(name, "mmproj") == NULL && strcasestr(name, "imatrix") == NULL &&
           (slash == NULL || strchr(slash + 1, '/') == NULL);
}

bool repo_gguf_tag(const char *name, char tag[REPO_TAG])
{
    unsigned part;
    if (!is_gguf(name))
        return false;
    find_tag(name, stem_of(name, &part), tag);
    return true;
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
    for (size_t i = 0, last = 0; i < repo->n; i++) { /* by name: the first part comes first */
        const char *name = repo->files[i].name;
        unsigned part;
        if (!is_gguf(name))
            continue;
        size_t stem = stem_of(name, &part);
        if (part == 1 || *n == 0 || strncmp(list[last].first, name, stem) != 0) {
            last = (*n)++;
            list[last] = (struct repo_gguf){.first = name};
            find_tag(name, stem, list[last].tag);
            list[last].opens = opens(list[last].tag);
        }
        list[last].parts++;
        list[last].size += repo->files[i].size;
    }
    if (*n > 0)
        qsort(list, *n, sizeof *list, by_size);
    *ggufs = list;
    return 0;
}

/* Whether name is a part of the GGUF that begins with `first`. */
static bool is_part_of(const char *name, const char *first)
{
    unsigned part;
    if (!is_gguf(name))
        return false;
    size_t n = stem_of(first, &part);
    return stem_of(name, &part) == n && strncmp(name, first, n) == 0;
}

/* The one GGUF that a tag stands for. */
static int find_gguf(const struct hub_repo *repo, const char *tag, const char *where,
                     const char **first, struct llama3_error *err)
{
    struct repo_gguf *ggufs = NULL;
    struct buf tags = {0};
    size_t n = 0, found = 0;
    if (repo_ggufs(repo, &ggufs, &n, err) != 0)
        return -1;
    for (size_t i = 0; i < n; i++) {
        bool fits = tag[0] == '\0' || strcasecmp(ggufs[i].tag, tag) == 0;
        if (fits && found++ == 0)
            *first = ggufs[i].first;
        buf_add_str(&tags, i > 0 ? ", " : "");
        buf_add_str(&tags, ggufs[i].tag);
    }
    free(ggufs);
    int result = found == 1 ? 0 : -1;
    if (tags.failed)
        result = error_memory(err, "a list of files", tags.size);
    else if (found == 0)
        error_set(err, LLAMA3_EINPUT, "%s: expected one of %.400s, found %s", where,
                  tags.size > 0 ? tags.data : "its GGUF files (there are none)", tag);
    else if (found > 1)
        error_set(err, LLAMA3_EINPUT,
                  "%s: expected one GGUF file, found %zu of %s: --include names one (%s)", where,
                  found, tag[0] != '\0' ? tag : "any type", *first);
    buf_free(&tags);
    return result;
}

/* ---- globs ----------------------------------------------------------------------------------- */

/* As in huggingface_hub: '*' stands for slashes too, and "folder/" for all below it. */
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

/* Weights last: what is wrong with a checkpoint is in the small files. */
static int by_use(const void *a, const void *b)
{
    const struct hub_file *x = *(const struct hub_file *const *)a,
                          *y = *(const struct hub_file *const *)b;
    bool p = ends_with(x->name, ".safetensors") || ends_with(x->name, ".gguf");
    bool q = ends_with(y->name, ".safetensors") || ends_with(y->name, ".gguf");
    return p != q ? p - q : strcmp(x->name, y->name);
}

static int by_folded_name(const void *a, const void *b)
{
    return strcasecmp((*(const struct hub_file *const *)a)->name,
                      (*(const struct hub_file *const *)b)->name);
}

/* Two names that some file systems take for one; or a file where another's folder has to be. */
static int check_pairs(const struct hub_file **files, size_t n, const char *where,
                       struct llama3_error *err)
{
    if (n > 0)
        qsort(files, n, sizeof *files, by_folded_name);
    for (size_t i = 1; i < n; i++)
        if (strcasecmp(files[i - 1]->name, files[i]->name) == 0)
            return error_set(err, LLAMA3_EINPUT,
                             "%s: expected names that differ, found %.80s and %.80s, which are one "
                             "file on some systems",
                             where, files[i - 1]->name, files[i]->name);
    for (size_t i = 0; i < n; i++)
        for (size_t j = i + 1; j < n; j++) {
            size_t length = strlen(files[i]->name);
            if (strncasecmp(files[j]->name, files[i]->name, length) != 0)
                break; /* sorted: no more begin with it */
            if (files[j]->name[length] == '/')
                return error_set(err, LLAMA3_EINPUT,
                                 "%s: expected %.80s to be a file or a folder, found both", where,
                                 files[i]->name);
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
                          ? is_part_of(name, gguf) || strcmp(name, "generation_config.json") == 0
                          : is_safetensors(name) || is_beside(name);
        if (wanted && !matches(name, choice->exclude, choice->n_exclude))
            list[(*n)++] = &repo->files[i];
    }
    int result = check_pairs(list, *n, where, err);
    if (result == 0 && *n == 0)
        result =
            error_set(err, LLAMA3_EINPUT,
                      "%s: expected files that match, found none of %zu that do", where, repo->n);
    if (result != 0) {
        free(list);
        return -1;
    }
    qsort(list, *n, sizeof *list, by_use);
    *files = list;
    return 0;
}
