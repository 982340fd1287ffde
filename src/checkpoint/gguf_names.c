/* SPDX-License-Identifier: MIT */
#include "config.h" /* strcasestr */

#include "checkpoint/gguf_names.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/path.h"

#define SUFFIX ".gguf"
#define TAIL   "-00001-of-00002" SUFFIX

bool gguf_is_shard(const char *path, unsigned *shard, unsigned *count, size_t *stem)
{
    size_t n = strlen(path), tail = strlen(TAIL);
    unsigned i, of;
    int end = 0;
    if (n <= tail || strcasecmp(path + n - strlen(SUFFIX), SUFFIX) != 0 ||
        sscanf(path + n - tail, "-%5u-of-%5u%n", &i, &of, &end) != 2 ||
        (size_t)end != tail - strlen(SUFFIX) || i < 1 || i > of)
        return false;
    *shard = i;
    *count = of;
    *stem = n - tail;
    return true;
}

char *gguf_shard_path(const char *path, unsigned shard, struct llama3_error *err)
{
    size_t n = strlen(path);
    char *copy = path_copy(path, n, err), number[8];
    snprintf(number, sizeof number, "-%05u", shard % 100000);
    if (copy != NULL)
        memcpy(copy + n - strlen(TAIL), number, strlen(number));
    return copy;
}

bool gguf_is_weights(const char *name, unsigned *shard, unsigned *count, size_t *stem)
{
    size_t n = strlen(name);
    if (n <= strlen(SUFFIX) || strcasecmp(name + n - strlen(SUFFIX), SUFFIX) != 0 ||
        strcasestr(name, "mmproj") != NULL || strcasestr(name, "imatrix") != NULL)
        return false;
    if (!gguf_is_shard(name, shard, count, stem)) {
        *shard = *count = 1;
        *stem = n - strlen(SUFFIX);
    }
    return true;
}

static bool is_end(char c)
{
    return c == '\0' || strchr("-./", c) != NULL;
}

int gguf_tag_fits(const char *name, const char *tag)
{
    unsigned shard, count;
    size_t n = strlen(tag), stem;
    int best = 0;
    if (n == 0 || !gguf_is_weights(name, &shard, &count, &stem))
        return 0;
    for (size_t i = 0; i + n <= stem; i++) {
        char before = i == 0 ? '\0' : name[i - 1], after = name[i + n];
        if (strncasecmp(name + i, tag, n) != 0)
            continue;
        if (is_end(before) && is_end(after))
            return 2;
        if ((is_end(before) || before == '_') && (is_end(after) || after == '_'))
            best = 1;
    }
    return best;
}

/* "Q4_K_M", "IQ4_NL", "TQ1_0", "F16", "fp16", "bf16", "MXFP4" and whatever else is of that form. */
static bool is_type(const char *word, size_t n)
{
    static const char *const prefixes[] = {"IQ", "TQ", "Q", "BF", "FP", "F", "MXFP", "NVFP"};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        size_t m = strlen(prefixes[i]);
        if (n > m && n < HUB_NAME_SIZE && strncasecmp(word, prefixes[i], m) == 0 &&
            isdigit((unsigned char)word[m]))
            return true;
    }
    return false;
}

void gguf_tag(const char *name, char tag[HUB_NAME_SIZE])
{
    unsigned shard, count;
    size_t stem, last = 0, begin = 0, n = 0;
    tag[0] = '\0';
    if (!gguf_is_weights(name, &shard, &count, &stem))
        return;
    for (size_t at = 0; at < stem; at += strcspn(name + at, "-./") + 1) {
        size_t length = strcspn(name + at, "-./");
        length = at + length > stem ? stem - at : length;
        last = at;
        if (is_type(name + at, length)) {
            begin = at;
            n = length;
        }
    }
    if (n == 0) {
        begin = last;
        n = stem - last;
    }
    if (n < HUB_NAME_SIZE)
        snprintf(tag, HUB_NAME_SIZE, "%.*s", (int)n, name + begin);
}
