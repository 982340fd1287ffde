#include "server/keys.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/file.h"
#include "base/size.h"

enum { MAX_FILE = 1 << 20, MAX_KEYS = 4096, MAX_KEY = 512 };

struct keys {
    char *text; /* [size] the file, cut at its line ends */
    size_t size;
    char *key;
    const char *list[MAX_KEYS];
    size_t n;
};

static int add(struct keys *keys, const char *key, const char *where, struct llama3_error *err)
{
    size_t n = strlen(key);
    for (size_t i = 0; i < n; i++)
        if (key[i] <= ' ' || key[i] > '~')
            return error_set(err, LLAMA3_EINPUT,
                             "%s: an API key of visible ASCII characters expected, another found",
                             where);
    if (n == 0 || n > MAX_KEY || keys->n == MAX_KEYS)
        return error_set(err, LLAMA3_EINPUT,
                         "%s: at most %d API keys of 1 to %d characters expected", where, MAX_KEYS,
                         MAX_KEY);
    keys->list[keys->n++] = key;
    return 0;
}

static int read_keys(struct keys *keys, const char *path, struct llama3_error *err)
{
    keys->text = file_read(path, MAX_FILE, &keys->size, NULL, err);
    if (keys->text == NULL)
        return -1;
    char *rest = keys->text, *line;
    while ((line = strsep(&rest, "\n")) != NULL) {
        size_t n = strlen(line);
        if (n > 0 && line[n - 1] == '\r')
            line[n - 1] = '\0';
        if (line[0] != '\0' && line[0] != '#' && add(keys, line, path, err) < 0)
            return -1;
    }
    return keys->n > 0 ? 0
                       : error_set(err, LLAMA3_EINPUT, "%s: API keys expected, none found", path);
}

struct keys *keys_open(const char *path, const char *key, struct llama3_error *err)
{
    struct keys *keys = size_alloc(1, sizeof *keys);
    if (keys == NULL) {
        error_memory(err, "API keys", sizeof *keys);
        return NULL;
    }
    int status = path != NULL ? read_keys(keys, path, err) : 0;
    if (status == 0 && key != NULL) {
        keys->key = strdup(key);
        status = keys->key != NULL ? add(keys, keys->key, "LLAMA3_API_KEY", err)
                                   : error_memory(err, "an API key", strlen(key));
    }
    if (status == 0)
        return keys;
    keys_close(keys);
    return NULL;
}

void keys_close(struct keys *keys)
{
    if (keys == NULL)
        return;
    if (keys->text != NULL)
        explicit_bzero(keys->text, keys->size);
    free(keys->text);
    free(keys->key);
    free(keys);
}

size_t keys_count(const struct keys *keys)
{
    return keys->n;
}

/* Looks at every byte that was given, whatever is found on the way. */
static unsigned differ(const char *given, size_t n, const char *key)
{
    size_t length = strlen(key);
    volatile unsigned found = n != length;
    for (size_t i = 0; i < n; i++)
        found |= (unsigned)(unsigned char)given[i] ^ (unsigned)(unsigned char)key[i % length];
    return found;
}

int keys_find(const struct keys *keys, const char *authorization)
{
    static const char scheme[] = "Bearer ";
    if (keys->n == 0)
        return 0;
    if (authorization == NULL || strncasecmp(authorization, scheme, sizeof scheme - 1) != 0)
        return -1;
    const char *given = authorization + sizeof scheme - 1;
    size_t n = strlen(given);
    int found = -1;
    for (size_t i = 0; i < keys->n; i++)
        found = differ(given, n, keys->list[i]) == 0 ? (int)i : found;
    return found;
}
