/* SPDX-License-Identifier: MIT */
/*
 * reply.h: an answer of any length. A short one is sent whole, with its length; of a long one each
 * piece is sent once it is made, so that the server never holds all of it.
 */
#ifndef SERVER_REPLY_H
#define SERVER_REPLY_H

#include <stdbool.h>

#include "base/buf.h"
#include "server/http.h"

struct reply {
    struct http_request *http; /* NULL: all of the text is kept */
    const char *type;
    struct buf text; /* what is not sent yet; its failure sticks */
    bool begun;      /* the head and a piece were sent, with status 200 */
    bool gone;       /* the client hung up: the rest needn't be made */
};

/* To be called between additions to the text: sends it if it has become long. */
void reply_more(struct reply *reply);

/* Sends what is left, or all with this status (503 without memory for the text), and ends the
 * request. */
void reply_end(struct reply *reply, int status);

#endif
