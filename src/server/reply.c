/* SPDX-License-Identifier: MIT */
#include "server/reply.h"

enum { PIECE = 64 << 10 };

void reply_more(struct reply *r)
{
    if (r->http == NULL || r->text.failed || r->text.size < PIECE)
        return;
    if (!r->begun)
        http_stream(r->http, 200, r->type, "");
    r->begun = true;
    r->gone = r->gone || http_write(r->http, r->text.data, r->text.size) < 0;
    buf_clear(&r->text);
}

void reply_end(struct reply *r, int status)
{
    if (r->begun) {
        if (r->text.size > 0)
            http_write(r->http, r->text.data, r->text.size);
        http_end(r->http);
    } else if (r->text.failed) {
        http_set_header(r->http, "Retry-After", "2");
        http_answer(r->http, 503, r->type, "", 0);
    } else {
        http_answer(r->http, status, r->type, r->text.data, r->text.size);
    }
    buf_free(&r->text);
}
