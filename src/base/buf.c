/* SPDX-License-Identifier: MIT */
#include "base/buf.h"

#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "base/tokens.h"

/* Makes room for `more` items after the n there are. Without memory: false, and nothing changes. */
static bool grow(void **memory, size_t n, size_t *capacity, size_t more, size_t item)
{
    size_t need, bytes;
    if (!size_add(n, more, &need))
        return false;
    if (need <= *capacity)
        return true;
    size_t next = *capacity < 32 ? 32 : *capacity;
    while (next < need)
        if (!size_mul(next, 2, &next))
            return false;
    if (!size_mul(next, item, &bytes))
        return false;
    void *moved = realloc(*memory, bytes);
    if (moved == NULL)
        return false;
    *memory = moved;
    *capacity = next;
    return true;
}

void buf_add(struct buf *buf, const void *bytes, size_t n)
{
    void *memory = buf->data;
    if (buf->failed || n == SIZE_MAX || !grow(&memory, buf->size, &buf->capacity, n + 1, 1)) {
        buf->failed = true;
        return;
    }
    buf->data = memory;
    if (n > 0)
        memcpy(buf->data + buf->size, bytes, n);
    buf->size += n;
    buf->data[buf->size] = '\0';
}

void buf_add_str(struct buf *buf, const char *string)
{
    buf_add(buf, string, strlen(string));
}

void buf_clear(struct buf *buf)
{
    buf->size = 0;
    buf->failed = false;
}

void buf_free(struct buf *buf)
{
    free(buf->data);
    *buf = (struct buf){0};
}

void tokens_add(struct tokens *tokens, int32_t id)
{
    void *memory = tokens->ids;
    if (tokens->failed || !grow(&memory, tokens->n, &tokens->capacity, 1, sizeof *tokens->ids)) {
        tokens->failed = true;
        return;
    }
    tokens->ids = memory;
    tokens->ids[tokens->n++] = id;
}

int tokens_check(const int32_t *ids, size_t n, size_t vocab_size, struct llama3_error *err)
{
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || (size_t)ids[i] >= vocab_size)
            return error_input(err, "token %zu: expected an id from 0 to %zu, found %d", i,
                               vocab_size - 1, (int)ids[i]);
    return 0;
}

void tokens_free(struct tokens *tokens)
{
    free(tokens->ids);
    *tokens = (struct tokens){0};
}
