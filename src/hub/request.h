/* SPDX-License-Identifier: MIT */
/*
 * request.h: HTTP requests on libcurl. Redirects are followed here and not by libcurl: the token
 * goes only to the hub's own origin (scheme, host and port), https never becomes http, and a signed
 * address at the storage is used again for the next range.
 */
#ifndef HUB_REQUEST_H
#define HUB_REQUEST_H

#include <curl/curl.h>

#include "base/buf.h"
#include "hub/hub.h"

/* What all requests share. */
struct hub {
    char *endpoint;   /* "https://huggingface.co", without a slash at its end */
    char *page;       /* the same without user and password, for errors */
    char *host;       /* host, and port if there is one, for errors */
    char *token;      /* NULL: none */
    char *token_from; /* "HF_TOKEN", or the file that it was read from */
    long stall;       /* a request fails after so many seconds without a byte */
    CURLM *multi;
};

/* Reads HF_ENDPOINT, HF_TOKEN and related variables as huggingface_hub does. */
int hub_open(struct hub *hub, struct llama3_error *err);
void hub_close(struct hub *hub);

struct request {
    struct hub *hub;
    CURL *easy;
    struct curl_slist *headers;
    char *url;
    char host[300]; /* "host:port" of url, for errors: user, path and query may hold secrets */
    bool to_hub;    /* url has the hub's origin, so it gets the token */
    int redirects;  /* followed so far */
    bool ranged;    /* only bytes [begin, end) */
    uint64_t begin, end;
    /* Takes the body of a 2xx; false cancels. */
    bool (*on_body)(void *arg, const char *bytes, size_t n);
    void *arg;

    /* the answer */
    long status; /* 0: none */
    bool encoded;
    char *location;
    char code[64], message[256]; /* X-Error-Code, X-Error-Message */
    double retry_after;          /* seconds; < 0: not said */
    bool has_range;
    uint64_t first, total; /* Content-Range: the body's offset, and the file's size */
    uint64_t length;       /* Content-Length; UINT64_MAX: not said */
    size_t head;           /* bytes of header lines so far */
    size_t page;           /* bytes of an error's or a redirect's body */
    char why[CURL_ERROR_SIZE];
};

/* Prepares a GET. ranged, begin, end, on_body and arg are set, the rest of the request is zero. */
int request_open(struct request *request, struct hub *hub, const char *url,
                 struct llama3_error *err);
/* Adds the request to hub->multi. */
int request_start(struct request *request, struct llama3_error *err);
/* Call it with libcurl's result: it sets status and retry_after. Returns the result, but CURLE_OK
 * if only an error's body was cut short. */
CURLcode request_end(struct request *request, CURLcode code);
void request_close(struct request *request);

/* Follows the redirect that was the answer. -1 if its address can't be followed. */
int request_follow(struct request *request, struct llama3_error *err);

static inline bool request_is_redirect(const struct request *r)
{
    return r->status == 301 || r->status == 302 || r->status == 303 || r->status == 307 ||
           r->status == 308;
}

/* Whether two addresses have the same scheme, host and port. */
bool request_same_origin(const char *a, const char *b);

/* Appends text with all but letters, digits, "-._~" and, if keep_slash, '/' as %XX. */
void request_escape(struct buf *out, const char *text, bool keep_slash);

#endif
