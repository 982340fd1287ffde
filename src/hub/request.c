/* SPDX-License-Identifier: MIT */
#include "config.h" /* PACKAGE_VERSION, explicit_bzero */

#include "hub/request.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/file.h"
#include "checkpoint/hub_cache.h"

enum {
    MAX_REDIRECTS = 10,
    MAX_TOKEN = 4096,
    STALL = 30,
    CONNECT_TIMEOUT = 30,
    BUFFER = 1 << 18,
    MAX_HEAD = 1 << 18,
    MAX_PAGE = 1 << 16
};

/* ---- addresses ------------------------------------------------------------------------------- */

static char *url_part(const char *url, CURLUPart part, unsigned flags)
{
    CURLU *parsed = curl_url();
    char *text = NULL;
    if (parsed != NULL && curl_url_set(parsed, CURLUPART_URL, url, 0) == CURLUE_OK &&
        curl_url_get(parsed, part, &text, flags) != CURLUE_OK)
        text = NULL;
    curl_url_cleanup(parsed);
    return text;
}

static void read_host(const char *url, char *out, size_t size)
{
    char *host = url_part(url, CURLUPART_HOST, 0), *port = url_part(url, CURLUPART_PORT, 0);
    snprintf(out, size, "%s%s%s", host != NULL ? host : "?", port != NULL ? ":" : "",
             port != NULL ? port : "");
    curl_free(port);
    curl_free(host);
}

static bool same_part(const char *a, const char *b, CURLUPart part, unsigned flags)
{
    char *x = url_part(a, part, flags), *y = url_part(b, part, flags);
    bool same = x != NULL && y != NULL && strcasecmp(x, y) == 0;
    curl_free(x);
    curl_free(y);
    return same;
}

bool request_same_origin(const char *a, const char *b)
{
    return same_part(a, b, CURLUPART_SCHEME, 0) && same_part(a, b, CURLUPART_HOST, 0) &&
           same_part(a, b, CURLUPART_PORT, CURLU_DEFAULT_PORT);
}

void request_escape(struct buf *out, const char *text, bool keep_slash)
{
    for (const char *c = text; *c != '\0'; c++) {
        bool plain = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
                     (*c >= '0' && *c <= '9') || strchr("-._~", *c) != NULL;
        char escaped[4];
        snprintf(escaped, sizeof escaped, "%%%02X", (unsigned char)*c);
        if (plain || (keep_slash && *c == '/'))
            buf_add(out, c, 1);
        else
            buf_add(out, escaped, 3);
    }
}

/* ---- the hub --------------------------------------------------------------------------------- */

static const char *variable(const char *name)
{
    const char *value = getenv(name);
    return value != NULL && value[0] != '\0' ? value : NULL;
}

/* A token must fit an HTTP header. No message may show it. */
static int check_token(const struct hub *hub, struct llama3_error *err)
{
    for (const char *c = hub->token; *c != '\0'; c++)
        if (*c <= ' ' || *c > '~')
            return error_input(err,
                               "%s: expected a token without spaces and special characters, found "
                               "another",
                               hub->token_from);
    return 0;
}

static int set_token(struct hub *hub, const char *text, const char *from, struct llama3_error *err)
{
    const char *blank = " \t\r\n";
    text += strspn(text, blank);
    size_t n = strlen(text);
    while (n > 0 && strchr(blank, text[n - 1]) != NULL)
        n--;
    if (n == 0)
        return 0;
    hub->token = strndup(text, n);
    hub->token_from = strdup(from);
    if (hub->token == NULL || hub->token_from == NULL)
        return error_memory(err, "the token", n);
    return check_token(hub, err);
}

static int read_token_file(struct hub *hub, struct llama3_error *err)
{
    size_t size = 0;
    bool missing = false;
    char *path = hub_token_path(err), *text = NULL;
    int result = 0;
    if (path == NULL ||
        ((text = file_read(path, MAX_TOKEN, &size, &missing, err)) == NULL && !missing))
        result = -1;
    else if (text != NULL)
        result = set_token(hub, text, path, err);
    if (text != NULL)
        explicit_bzero(text, size);
    free(text);
    free(path);
    return result;
}

static int read_token(struct hub *hub, struct llama3_error *err)
{
    static const char *const names[] = {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"};
    for (size_t i = 0; i < 2; i++)
        if (variable(names[i]) != NULL) {
            if (set_token(hub, variable(names[i]), names[i], err) != 0)
                return -1;
            if (hub->token != NULL)
                return 0;
        }
    return read_token_file(hub, err);
}

/* The address that a Location stands for, seen from another one, or that one itself if it is NULL;
 * without user and password. free() it. NULL if Location is malformed. */
static char *resolve(const char *from, const char *location)
{
    CURLU *url = curl_url();
    char *text = NULL, *copy = NULL;
    if (url != NULL && curl_url_set(url, CURLUPART_URL, from, 0) == CURLUE_OK &&
        (location == NULL ||
         curl_url_set(url, CURLUPART_URL, location, CURLU_URLENCODE) == CURLUE_OK) &&
        curl_url_set(url, CURLUPART_USER, NULL, 0) == CURLUE_OK &&
        curl_url_set(url, CURLUPART_PASSWORD, NULL, 0) == CURLUE_OK &&
        curl_url_get(url, CURLUPART_URL, &text, 0) == CURLUE_OK)
        copy = strdup(text);
    curl_free(text);
    curl_url_cleanup(url);
    return copy;
}

static int set_endpoint(struct hub *hub, struct llama3_error *err)
{
    const char *given = variable("HF_ENDPOINT");
    const char *endpoint = given != NULL ? given : "https://huggingface.co";
    size_t n = strlen(endpoint);
    while (n > 0 && endpoint[n - 1] == '/')
        n--;
    hub->endpoint = strndup(endpoint, n);
    char *scheme = hub->endpoint == NULL ? NULL : url_part(hub->endpoint, CURLUPART_SCHEME, 0);
    bool known = scheme != NULL && (strcmp(scheme, "https") == 0 || strcmp(scheme, "http") == 0);
    curl_free(scheme);
    if (!known)
        return error_input(
            err, "HF_ENDPOINT: expected an address like https://huggingface.co, found \"%s\"",
            strrchr(endpoint, '@') != NULL ? strrchr(endpoint, '@') + 1
                                           : endpoint); /* no password */
    char host[300];
    read_host(hub->endpoint, host, sizeof host);
    hub->host = strdup(host);
    hub->page = resolve(hub->endpoint, NULL);
    n = hub->page != NULL ? strlen(hub->page) : 0;
    if (n > 0 && hub->page[n - 1] == '/')
        hub->page[n - 1] = '\0';
    return hub->host != NULL && hub->page != NULL ? 0
                                                  : error_memory(err, "a host's name", sizeof host);
}

static long read_stall(void)
{
    const char *text = variable("HF_HUB_DOWNLOAD_TIMEOUT");
    long seconds = text != NULL ? strtol(text, NULL, 10) : 0;
    return seconds > 0 && seconds <= 86400 ? seconds : STALL;
}

int hub_open(struct hub *hub, struct llama3_error *err)
{
    *hub = (struct hub){.stall = read_stall()};
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK ||
        (hub->multi = curl_multi_init()) == NULL) {
        error_set(err, LLAMA3_ENOMEM, "could not start libcurl");
        return -1;
    }
    if (set_endpoint(hub, err) == 0 && read_token(hub, err) == 0)
        return 0;
    hub_close(hub);
    return -1;
}

void hub_close(struct hub *hub)
{
    curl_multi_cleanup(hub->multi);
    if (hub->token != NULL)
        explicit_bzero(hub->token, strlen(hub->token));
    free(hub->token);
    free(hub->token_from);
    free(hub->endpoint);
    free(hub->host);
    free(hub->page);
    *hub = (struct hub){0};
}

/* ---- the answer ------------------------------------------------------------------------------ */

static void forget_answer(struct request *r)
{
    free(r->location);
    r->location = NULL;
    r->status = 0;
    r->encoded = r->has_range = false;
    r->code[0] = r->message[0] = r->why[0] = '\0';
    r->retry_after = -1;
    r->length = UINT64_MAX;
    r->head = r->page = 0;
}

/* Whether a line is this header; value gets the value without blanks around it. */
static bool is_header(const char *line, size_t n, const char *name, char *value, size_t size)
{
    size_t m = strlen(name);
    if (n <= m || strncasecmp(line, name, m) != 0 || line[m] != ':')
        return false;
    line += m + 1;
    n -= m + 1;
    while (n > 0 && (*line == ' ' || *line == '\t'))
        line++, n--;
    while (n > 0 && strchr(" \t\r\n", line[n - 1]) != NULL)
        n--;
    snprintf(value, size, "%.*s", (int)(n < size ? n : size - 1), line);
    return true;
}

/* Reads the seconds of `RateLimit: "api";r=0;t=55`. */
static void read_limit(struct request *r, const char *value)
{
    const char *at = strstr(value, "t=");
    if (strstr(value, "r=0") != NULL && at != NULL && at[2] >= '0' && at[2] <= '9')
        r->retry_after = (double)strtoul(at + 2, NULL, 10);
}

/* A Location may be long, so it is allocated. */
static char *copy_value(const char *line, size_t n)
{
    const char *colon = memchr(line, ':', n);
    char *copy = colon == NULL ? NULL : malloc(n + 1);
    if (copy != NULL)
        is_header(line, n, "Location", copy, n + 1);
    return copy;
}

static size_t on_header(char *line, size_t one, size_t n, void *arg)
{
    struct request *r = arg;
    char value[512];
    (void)one;
    r->head += n;
    if (r->head > MAX_HEAD)
        return 0;
    if (strncmp(line, "HTTP/", 5) == 0) { /* the answer after a 100, or after a proxy's */
        forget_answer(r);
    } else if (is_header(line, n, "Location", value, sizeof value)) {
        free(r->location);
        r->location = copy_value(line, n);
    } else if (is_header(line, n, "Content-Encoding", value, sizeof value)) {
        r->encoded = strcasecmp(value, "identity") != 0;
    } else if (is_header(line, n, "Content-Range", value, sizeof value)) {
        r->has_range = sscanf(value, "bytes %" SCNu64 "-%*u/%" SCNu64, &r->first, &r->total) == 2;
    } else if (is_header(line, n, "Content-Length", value, sizeof value)) {
        if (sscanf(value, "%" SCNu64, &r->length) != 1)
            r->length = UINT64_MAX;
    } else if (is_header(line, n, "X-Error-Code", value, sizeof value)) {
        snprintf(r->code, sizeof r->code, "%.60s", value);
    } else if (is_header(line, n, "X-Error-Message", value, sizeof value)) {
        snprintf(r->message, sizeof r->message, "%.250s", value);
    } else if (is_header(line, n, "Retry-After", value, sizeof value)) {
        r->retry_after = 0; /* request_end() says how long */
    } else if (is_header(line, n, "RateLimit", value, sizeof value)) {
        read_limit(r, value);
    }
    return n;
}

static size_t on_body(char *bytes, size_t one, size_t n, void *arg)
{
    struct request *r = arg;
    (void)one;
    curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &r->status);
    if (r->status < 200 || r->status >= 300) { /* the headers say enough */
        r->page += n;
        return r->page <= MAX_PAGE ? n : 0;
    }
    return r->on_body(r->arg, bytes, n) ? n : 0;
}

/* ---- the request ----------------------------------------------------------------------------- */

/* libcurl's certificates, or those that the curl program would use. */
static void set_certificates(CURL *easy)
{
    const char *bundle = variable("CURL_CA_BUNDLE"), *file = variable("SSL_CERT_FILE"),
               *folder = variable("SSL_CERT_DIR");
    if (bundle != NULL)
        file = bundle;
    else if (folder != NULL)
        curl_easy_setopt(easy, CURLOPT_CAPATH, folder);
    if (file != NULL)
        curl_easy_setopt(easy, CURLOPT_CAINFO, file);
}

static int add_header(struct request *r, const char *line, struct llama3_error *err)
{
    struct curl_slist *more = curl_slist_append(r->headers, line);
    if (more == NULL)
        return error_memory(err, "a header", strlen(line));
    r->headers = more;
    return 0;
}

static int set_headers(struct request *r, struct llama3_error *err)
{
    curl_slist_free_all(r->headers);
    r->headers = NULL;
    if (add_header(r, "Accept-Encoding: identity", err) != 0)
        return -1;
    if (r->to_hub && r->hub->token != NULL) {
        struct buf line = {0};
        buf_add_str(&line, "Authorization: Bearer ");
        buf_add_str(&line, r->hub->token);
        int result =
            line.failed ? error_memory(err, "a header", line.size) : add_header(r, line.data, err);
        if (line.data != NULL)
            explicit_bzero(line.data, line.size);
        buf_free(&line);
        if (result != 0)
            return -1;
    }
    curl_easy_setopt(r->easy, CURLOPT_HTTPHEADER, r->headers);
    return 0;
}

static void set_options(struct request *r)
{
    CURL *easy = r->easy;
    char range[64];
    curl_easy_setopt(easy, CURLOPT_URL, r->url);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, r);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "llama3/" PACKAGE_VERSION);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, (long)BUFFER);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT,
                     r->hub->stall < CONNECT_TIMEOUT ? r->hub->stall : (long)CONNECT_TIMEOUT);
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, r->hub->stall);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, r->why);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, r);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, r);
    /* HTTP/2 would use one connection for all ranges, and its window would limit the rate. */
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    set_certificates(easy);
    if (r->ranged) {
        snprintf(range, sizeof range, "%" PRIu64 "-%" PRIu64, r->begin, r->end - 1);
        curl_easy_setopt(easy, CURLOPT_RANGE, range);
    }
}

int request_open(struct request *r, struct hub *hub, const char *url, struct llama3_error *err)
{
    r->hub = hub;
    r->url = strdup(url);
    r->easy = curl_easy_init();
    if (r->url == NULL || r->easy == NULL) {
        request_close(r);
        return error_memory(err, "a request", strlen(url));
    }
    r->to_hub = request_same_origin(url, hub->endpoint);
    read_host(url, r->host, sizeof r->host);
    forget_answer(r);
    set_options(r);
    return set_headers(r, err);
}

int request_start(struct request *r, struct llama3_error *err)
{
    CURLMcode code = curl_multi_add_handle(r->hub->multi, r->easy);
    return code == CURLM_OK ? 0
                            : error_set(err, LLAMA3_EIO, "libcurl: %s", curl_multi_strerror(code));
}

CURLcode request_end(struct request *r, CURLcode code)
{
    curl_off_t wait = 0;
    curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &r->status);
    if (curl_easy_getinfo(r->easy, CURLINFO_RETRY_AFTER, &wait) == CURLE_OK && wait > 0)
        r->retry_after = (double)wait;
    return r->page > MAX_PAGE ? CURLE_OK : code;
}

void request_close(struct request *r)
{
    if (r->easy != NULL) {
        curl_multi_remove_handle(r->hub->multi, r->easy);
        curl_easy_cleanup(r->easy);
    }
    curl_slist_free_all(r->headers);
    free(r->location);
    free(r->url);
    *r = (struct request){0};
}

/* ---- redirects ------------------------------------------------------------------------------- */

/* Whether to follow a redirect. */
static int check_redirect(const struct request *r, const char *next, struct llama3_error *err)
{
    char *scheme = url_part(next, CURLUPART_SCHEME, 0);
    bool https = scheme != NULL && strcmp(scheme, "https") == 0;
    bool http = scheme != NULL && strcmp(scheme, "http") == 0;
    int result = 0;
    if (!https && !http)
        result = error_set(err, LLAMA3_EIO, "%s: expected a redirect to https, found one to %.40s",
                           r->host, scheme != NULL ? scheme : "nothing");
    else if (http && strncasecmp(r->url, "https:", 6) == 0)
        result = error_set(
            err, LLAMA3_EIO,
            "%s: expected a redirect to https, found one to http, which isn't secure", r->host);
    curl_free(scheme);
    return result;
}

int request_follow(struct request *r, struct llama3_error *err)
{
    if (r->location == NULL)
        return error_set(err, LLAMA3_EIO, "%s: expected a redirect with an address, found none",
                         r->host);
    if (++r->redirects > MAX_REDIRECTS)
        return error_set(err, LLAMA3_EIO, "%s: expected at most %d redirects, found more: a loop",
                         r->host, MAX_REDIRECTS);
    char *next = resolve(r->url, r->location);
    if (next == NULL)
        return error_set(err, LLAMA3_EIO, "%s: expected a redirect to an address, found none",
                         r->host);
    if (check_redirect(r, next, err) != 0) {
        free(next);
        return -1;
    }
    curl_multi_remove_handle(r->hub->multi, r->easy);
    free(r->url);
    r->url = next;
    r->to_hub = request_same_origin(next, r->hub->endpoint);
    read_host(next, r->host, sizeof r->host);
    forget_answer(r);
    curl_easy_setopt(r->easy, CURLOPT_URL, r->url);
    return set_headers(r, err) == 0 ? request_start(r, err) : -1;
}
