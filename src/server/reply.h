/* SPDX-License-Identifier: MIT */
/*
 * reply.h: an answer of any length. A short one is sent at once, with its length. A long one is
 * streamed while it is made, so that the server never holds all of it.
 */
#ifndef SERVER_REPLY_H
#define SERVER_REPLY_H

#include <stdbool.h>

#include "base/buf.h"
#include "server/http.h"

struct reply {
    struct http_request *http; /* NULL: nothing is sent */
    const char *type;
    struct buf text; /* not sent yet */
    bool begun;      /* the stream has begun, with status 200 */
    bool gone;       /* the client disconnected: nobody wants the rest */
};

/* Call it between additions to the text: it sends the text once that is long. */
void reply_more(struct reply *reply);

/* Sends the rest of a stream, or all with this status (503 if memory ran out), and ends the
 * request. */
void reply_end(struct reply *reply, int status);

#endif
