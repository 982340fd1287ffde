/* SPDX-License-Identifier: MIT */
#include "config.h" /* memmem */

#include <nettle/base64.h>
#include <nettle/sha2.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "server/page.h"

enum { HASH_TEXT = BASE64_ENCODE_RAW_LENGTH(SHA256_DIGEST_SIZE) };

/* The SHA-256 of an element's text, as the policy writes it. */
static void hash_element(const char *open, const char *close, char out[HASH_TEXT + 1])
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
    base64_encode_raw(out, sizeof digest, digest);
    out[HASH_TEXT] = '\0';
}

void page_policy(char *out, size_t size)
{
    char script[HASH_TEXT + 1], style[HASH_TEXT + 1];
    hash_element("<script>", "</script>", script);
    hash_element("<style>", "</style>", style);
    snprintf(out, size,
             "default-src 'none'; script-src 'sha256-%s'; style-src 'sha256-%s'; "
             "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
             "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
             script, style);
}
