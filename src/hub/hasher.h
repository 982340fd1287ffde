/* SPDX-License-Identifier: MIT */
/* hasher.h: the thread that hashes blobs while they arrive, so that little is left to do when the
 * last byte is there. */
#ifndef HUB_HASHER_H
#define HUB_HASHER_H

#include "hub/blob.h"

struct hasher;

/* wake(arg) is called from its thread when a blob has a verdict. */
struct hasher *hasher_open(struct blob *blobs, size_t n, void (*wake)(void *arg), void *arg,
                           struct llama3_error *err);
/* Something is ready that was not. */
void hasher_notice(struct hasher *hasher);
/* Between these two it is in no blob. */
void hasher_hold(struct hasher *hasher);
void hasher_release(struct hasher *hasher);
void hasher_close(struct hasher *hasher);

#endif
