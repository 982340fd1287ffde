/* SPDX-License-Identifier: MIT */
/* ask.c: small answers of the hub, such as a model's list of files. */
#include <string.h>

#include "base/clock.h"
#include "hub/fetch_parts.h"

enum { MAX_TEXT = 64 << 20 }; /* bytes */

static bool add_text(void *arg, const char *bytes, size_t n)
{
    struct buf *text = arg;
    if (n > MAX_TEXT - text->size)
        return false;
    buf_add(text, bytes, n);
    return !text->failed;
}

/* A turn of libcurl's, and a tick. */
static int turn(struct fetch *f, struct llama3_error *err)
{
    if (fetch_turn(f, err) != 0)
        return -1;
    return f->on_tick != NULL && f->on_tick(f->arg) != 0
               ? error_set(err, LLAMA3_ECANCELED, "canceled")
               : 0;
}

/* Runs one request and its redirects. *code: libcurl's result. -1: an error, or canceled. */
static int wait_for(struct fetch *f, struct request *r, CURLcode *code, struct llama3_error *err)
{
    for (;;) {
        CURLMsg *message;
        int left;
        if (turn(f, err) != 0)
            return -1;
        while ((message = curl_multi_info_read(f->hub->multi, &left)) != NULL) {
            *code = request_end(r, message->data.result);
            if (*code != CURLE_OK || !request_is_redirect(r))
                return 0;
            if (request_follow(r, err) != 0)
                return -1;
        }
    }
}

static int sleep_until(struct fetch *f, double moment, struct llama3_error *err)
{
    while (clock_seconds() < moment)
        if (turn(f, err) != 0)
            return -1;
    return 0;
}

/* Whether to retry after libcurl's error; not if the user has to fix something first. */
static bool may_pass(const struct request *r, CURLcode code)
{
    long connect = 0;
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
    case CURLE_PROXY:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
        return false;
    default: /* not if a proxy refused */
        curl_easy_getinfo(r->easy, CURLINFO_HTTP_CONNECTCODE, &connect);
        return connect < 400 || connect >= 500;
    }
}

/* 1: try again. */
static int ask(struct fetch *f, const char *url, const char *what, struct fetch_source *source,
               struct buf *text, struct llama3_error *err)
{
    struct request r = {.on_body = add_text, .arg = text};
    struct llama3_error why;
    double begun = clock_seconds();
    CURLcode code;
    if (request_open(&r, f->hub, url, err) != 0)
        return -1;
    int result = request_start(&r, err) == 0 ? wait_for(f, &r, &code, err) : -1;
    if (result != 0) {
        request_close(&r);
        return -1;
    }
    if (code == CURLE_WRITE_ERROR)
        result =
            error_set(err, LLAMA3_EIO, "%s: expected an answer of at most %d bytes, found more",
                      f->hub->host, (int)MAX_TEXT);
    else if (code == CURLE_OK && r.status == 200 && r.encoded)
        result = error_set(err, LLAMA3_EIO, "%s: %s: expected an answer as it is, found it encoded",
                           f->hub->host, what);
    else if (code == CURLE_OK && r.status == 200)
        result = 0;
    else if (code == CURLE_OK && fetch_is_pause(&r))
        result = fetch_pause_all(f, &r, err) == 0 ? 1 : -1;
    else {
        bool again = code == CURLE_OK ? fetch_is_passing(&r) : may_pass(&r, code);
        if (code == CURLE_OK)
            fetch_refused(&r, f->repository, what, &why);
        else
            fetch_broken(&r, code, &why);
        result = again && fetch_try_again(source, begun, &why, err) == 0 ? 1 : -1;
        if (!again)
            error_copy(err, &why);
    }
    request_close(&r);
    return result;
}

int fetch_text(struct fetch *f, const char *path, const char *what, struct buf *text,
               struct llama3_error *err)
{
    struct fetch_source source = {0};
    struct buf url = {0};
    int result = 1;
    buf_add_str(&url, f->hub->endpoint);
    buf_add_str(&url, path);
    if (url.failed)
        result = error_memory(err, "an address", url.size);
    while (result == 1) {
        double moment = source.not_before > f->not_before ? source.not_before : f->not_before;
        buf_clear(text);
        result = sleep_until(f, moment, err);
        if (result == 0)
            result = ask(f, url.data, what, &source, text, err);
    }
    buf_free(&url);
    return result;
}
