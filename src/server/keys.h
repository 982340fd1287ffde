/* SPDX-License-Identifier: MIT */
/* keys.h: the API keys of a server, from a file or the environment, never from its arguments. */
#ifndef SERVER_KEYS_H
#define SERVER_KEYS_H

#include <stddef.h>

#include "base/error.h"

struct keys;

/* The keys of a file, one a line (empty lines and such that begin with # are none), and one more;
 * either may be NULL. A file without any is an error: it would lock everybody out, or nobody. */
struct keys *keys_open(const char *path, const char *key, struct llama3_error *err);
void keys_close(struct keys *keys);
size_t keys_count(const struct keys *keys);

/* Which of them, from 0, a request's Authorization header (NULL: it has none) brings: "Bearer KEY".
 * -1: none, 0 where there are no keys. How long that takes tells nothing about the keys, and one
 * that is longer than any may be is refused unread. */
int keys_find(const struct keys *keys, const char *authorization);

#endif
