/* SPDX-License-Identifier: MIT */
#include "config.h" /* memmem */

#include <nettle/sha2.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "server/page.h"

enum { HASH_TEXT = 45 };

static void base64(const uint8_t *bytes, size_t n, char *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        uint32_t group = (uint32_t)bytes[i] << 16;
        group |= i + 1 < n ? (uint32_t)bytes[i + 1] << 8 : 0;
        group |= i + 2 < n ? bytes[i + 2] : 0;
        *out++ = digits[group >> 18];
        *out++ = digits[group >> 12 & 63];
        *out++ = i + 1 < n ? digits[group >> 6 & 63] : '=';
        *out++ = i + 2 < n ? digits[group & 63] : '=';
    }
    *out = '\0';
}

/* The SHA-256 of an element's text, as the policy writes it. */
static void hash_element(const char *open, const char *close, char out[HASH_TEXT])
{
    const char *text = (const char *)page_text, *end = text + page_size;
    uint8_t digest[SHA256_DIGEST_SIZE];
    struct sha256_ctx sha;
    const char *from = memmem(text, page_size, open, strlen(open));
    from = from != NULL ? from + strlen(open) : end;
    const char *to = memmem(from, (size_t)(end - from), close, strlen(close));
    to = to != NULL ? to : end;
    sha256_init(&sha);
    sha256_update(&sha, (size_t)(to - from), (const uint8_t *)from);
    sha256_digest(&sha, SHA256_DIGEST_SIZE, digest);
    base64(digest, sizeof digest, out);
}

void page_policy(char *out, size_t size)
{
    char script[HASH_TEXT], style[HASH_TEXT];
    hash_element("<script>", "</script>", script);
    hash_element("<style>", "</style>", style);
    snprintf(out, size,
             "default-src 'none'; script-src 'sha256-%s'; style-src 'sha256-%s'; "
             "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
             "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
             script, style);
}
