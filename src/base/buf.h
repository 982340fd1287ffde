/* SPDX-License-Identifier: MIT */
/* buf.h: a growing byte buffer whose failure sticks, so that it is checked once, at the end. */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>

struct buf {
    char *data; /* [size], always followed by a NUL once something was added */
    size_t size, capacity;
    bool failed; /* an allocation failed; what came after it is lost */
};

void buf_add(struct buf *buf, const void *bytes, size_t n);
void buf_add_str(struct buf *buf, const char *string);
void buf_clear(struct buf *buf); /* keeps the memory */
void buf_free(struct buf *buf);  /* frees it and zeroes *buf */

#endif
