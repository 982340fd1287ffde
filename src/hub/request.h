/* SPDX-License-Identifier: MIT */
/*
 * request.h: one HTTP request after another, on libcurl. Redirects are followed here and not by
 * libcurl: the token goes to the hub's own origin (scheme, host and port) and nowhere else, https
 * doesn't become http, and an address that storage signed is used again for the next range.
 */
#ifndef HUB_REQUEST_H
#define HUB_REQUEST_H

#include <curl/curl.h>

#include "base/buf.h"
#include "hub/hub.h"

/* What all requests share. */
struct hub {
    char *endpoint;   /* "https://huggingface.co", without a slash at its end */
    char *page;       /* the same as errors name it: without user and password */
    char *host;       /* as errors name it: host, and port if there is one */
    char *token;      /* NULL: none */
    char *token_from; /* "HF_TOKEN", or the file that it was read from */
    long stall;       /* seconds without a byte after which a request has failed */
    CURLM *multi;
};

/* HF_ENDPOINT, HF_TOKEN and their like, as huggingface_hub reads them. */
int hub_open(struct hub *hub, struct llama3_error *err);
void hub_close(struct hub *hub);

struct request {
    struct hub *hub;
    CURL *easy;
    struct curl_slist *headers;
    char *url;
    bool to_hub;   /* this address is of the hub's origin: it gets the token */
    int redirects; /* followed so far */
    bool ranged;   /* bytes [begin, end) are asked for; else all */
    uint64_t begin, end;
    /* Takes the body of a 2xx; false gives up. */
    bool (*on_body)(void *arg, const char *bytes, size_t n);
    void *arg;

    /* the answer */
    long status; /* 0: none */
    bool encoded;
    char *location;
    char code[64], message[256]; /* X-Error-Code, X-Error-Message */
    double retry_after;          /* seconds; < 0: not said */
    bool has_range;
    uint64_t first, total; /* of Content-Range: where the body begins, the file's size */
    uint64_t length;       /* Content-Length; UINT64_MAX: not said */
    size_t head;           /* bytes of header lines so far */
    size_t page;           /* bytes of the page that came with an error or a redirect */
    char why[CURL_ERROR_SIZE];
};

/* Prepares a GET; request is zeroed but for ranged, begin, end, on_body and arg. -1: no memory, or
 * an address that is none. */
int request_open(struct request *request, struct hub *hub, const char *url,
                 struct llama3_error *err);
/* Handed to libcurl: it runs within hub->multi. */
int request_start(struct request *request, struct llama3_error *err);
/* Once it has ended, with libcurl's code: its status, and how long the hub wants to be left alone.
 * Returns the code, CURLE_OK where just the page of an error was cut short. */
CURLcode request_end(struct request *request, CURLcode code);
void request_close(struct request *request);

/* Of a redirect that has been answered: the next request is prepared in the place of this one. -1
 * with a line where it leads nowhere. */
int request_follow(struct request *request, struct llama3_error *err);

static inline bool request_is_redirect(const struct request *r)
{
    return r->status == 301 || r->status == 302 || r->status == 303 || r->status == 307 ||
           r->status == 308;
}

/* "host:port" of an address, without user, path or query, which may hold secrets. */
void request_host(const char *url, char *out, size_t size);
/* Whether two addresses have the same scheme, host and port. */
bool request_same_origin(const char *a, const char *b);

/* Appends text with all but letters, digits and "-._~" (and '/', if keep_slash) as %XX. */
void request_escape(struct buf *out, const char *text, bool keep_slash);

#endif
