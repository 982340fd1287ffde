/* SPDX-License-Identifier: MIT */
/* keys.h: API keys, from a file or the environment; never from arguments, which anybody can see. */
#ifndef SERVER_KEYS_H
#define SERVER_KEYS_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct keys;

/* The keys of a file (may be NULL), one a line, and one more (may be NULL). Empty lines and lines
 * that begin with # are skipped. A file without a key is an error. */
struct keys *keys_open(const char *path, const char *key, struct llama3_error *err);
void keys_close(struct keys *keys);
size_t keys_count(const struct keys *keys);

/* The index of the key in an Authorization header, "Bearer KEY"; NULL: there is no header. -1 if it
 * is none of the keys; 0 for every header if there are no keys. The time taken tells nothing about
 * the keys. A key that is too long is refused unread. */
int keys_find(const struct keys *keys, const char *authorization);

enum { KEYS_OWNER = 32 };

/* What a key's owner is known by, [KEYS_OWNER], whatever other keys there are and in every run. */
const uint8_t *keys_owner(const struct keys *keys, int index);

#endif
