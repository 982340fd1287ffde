/* SPDX-License-Identifier: MIT */
/* hasher.h: a thread hashes blobs while they are fetched, so that little is left at the end. */
#ifndef HUB_HASHER_H
#define HUB_HASHER_H

#include "hub/blob.h"

struct hasher;

/* Calls wake(arg) on its thread when a blob has a verdict. */
struct hasher *hasher_open(struct blob *blobs, size_t n, void (*wake)(void *arg), void *arg,
                           struct llama3_error *err);
/* More bytes can be hashed. */
void hasher_notice(struct hasher *hasher);
/* Between these two it touches no blob. */
void hasher_hold(struct hasher *hasher);
void hasher_release(struct hasher *hasher);
void hasher_close(struct hasher *hasher);

#endif
