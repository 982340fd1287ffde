/* SPDX-License-Identifier: MIT */
/* refuse.c: errors for refusals by the hub, which say what to do about them. */
#include <stdlib.h>
#include <string.h>

#include "hub/fetch_parts.h"

static int no_access(const struct request *r, const char *repository, struct llama3_error *err)
{
    const struct hub *hub = r->hub;
    if (hub->token == NULL)
        return error_input(
            err,
            "%s is gated: accept its terms on %s/%s, then set a token (HF_TOKEN, or hf auth login)",
            repository, hub->page, repository);
    return error_input(
        err,
        "%s is gated, and the token from %s has no access: accept the terms on %s/%s "
        "with its account, or wait until access is granted%s%.200s",
        repository, hub->token_from, hub->page, repository,
        r->message[0] != '\0' ? "; the hub says: " : "", r->message);
}

static int bad_token(const struct hub *hub, struct llama3_error *err)
{
    return error_input(err, "%s: the hub rejects this token: create one on %s/settings/tokens",
                       hub->token_from, hub->page);
}

static int not_there(const struct request *r, const char *repository, struct llama3_error *err)
{
    const struct hub *hub = r->hub;
    return error_input(err, "%s: no such model on %s, or a private one%s", repository, hub->host,
                       hub->token == NULL ? ", which needs a token (HF_TOKEN)"
                                          : " that the token has no access to");
}

/* For an answer of the hub itself, not of an address that it redirects to. */
static int hub_refused(const struct request *r, const char *repository, const char *what,
                       struct llama3_error *err)
{
    bool is_401 = r->status == 401;
    if (strcmp(r->code, "GatedRepo") == 0)
        return no_access(r, repository, err);
    if (strcmp(r->code, "RevisionNotFound") == 0)
        return error_input(err, "%s: no such revision: %s", repository, what);
    if (strcmp(r->code, "EntryNotFound") == 0)
        return error_input(err, "%s: no such file: %s", repository, what);
    if (is_401 && r->hub->token != NULL && strcmp(r->code, "RepoNotFound") != 0)
        return bad_token(r->hub, err);
    if (is_401 || r->status == 404 || strcmp(r->code, "RepoNotFound") == 0)
        return not_there(r, repository, err);
    return error_set(err, LLAMA3_EIO, "%s: %s: expected an answer, found HTTP status %ld%s%.200s",
                     r->hub->host, what, r->status, r->message[0] != '\0' ? ": " : "", r->message);
}

int fetch_refused(const struct request *r, const char *repository, const char *what,
                  struct llama3_error *err)
{
    if (r->to_hub)
        return hub_refused(r, repository, what, err);
    return error_set(err, LLAMA3_EIO, "%s: %s: expected an answer, found HTTP status %ld", r->host,
                     what, r->status);
}

/* If nothing answers, the proxy may be wrong. */
static const char *proxy_hint(void)
{
    static const char *const names[] = {"https_proxy", "HTTPS_PROXY", "http_proxy", "all_proxy",
                                        "ALL_PROXY"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (getenv(names[i]) != NULL && getenv(names[i])[0] != '\0')
            return " (is the proxy right? https_proxy, http_proxy, all_proxy)";
    return "";
}

int fetch_broken(const struct request *r, CURLcode code, struct llama3_error *err)
{
    long connect = 0;
    const char *why = r->why[0] != '\0' ? r->why : curl_easy_strerror(code);
    curl_easy_getinfo(r->easy, CURLINFO_HTTP_CONNECTCODE, &connect);
    if (code == CURLE_COULDNT_RESOLVE_PROXY || code == CURLE_PROXY || connect >= 300)
        return error_set(err, LLAMA3_EIO,
                         "%s: the proxy failed (https_proxy, http_proxy, all_proxy): %.200s",
                         r->host, why);
    if (code == CURLE_COULDNT_RESOLVE_HOST || code == CURLE_COULDNT_CONNECT)
        return error_set(err, LLAMA3_EIO,
                         "%s can't be reached: %.200s%s; --offline uses what is in the cache",
                         r->host, why, proxy_hint());
    if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE)
        return error_set(err, LLAMA3_EIO,
                         "%s: its certificate isn't trusted (CURL_CA_BUNDLE names others): %.200s",
                         r->host, why);
    return error_set(err, LLAMA3_EIO, "%s: %.200s", r->host, why);
}
