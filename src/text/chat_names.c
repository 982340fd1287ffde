/* SPDX-License-Identifier: MIT */
#include "text/chat_names.h"

#include <string.h>

#include <nettle/sha2.h>

#include "base/hex.h"

/* "Escaped" are one-line texts of some files, with \n spelled out in a Jinja string. */
static const struct {
    const char *sha256, *name;
} texts[] = {
    /* Llama 3, as first published: always ends with the assistant's header */
    {"b48c47f6443892716176eb200bf4ef108f64e06ca26ed0fa8ebc0a4b3992fcb2", "llama3"},
    {"b75e17085cfc511ead6d4fab84b86ab3c168ec7a332568a91d0889cdcba94394", "llama3"}, /* escaped */
    /* Llama 3, later: only if add_generation_prompt is set */
    {"ba03a121d097859c7b5b9cd03af99aafe95275210d2876f642ad9929a150f122", "llama3"},
    {"4f46ecd43418f216df8c26936c60e5d04bcc81db47db5d86fbe889f64212dd4c", "llama3"}, /* escaped */
    /* Llama 3.1 and 3.3 */
    {"93c0e9aa3629bbd77e68dbc0f5621f6e6b23aa8d74b932595cdb8d64684526d7", "llama3.1"},
    /* Llama 3.2 */
    {"d82792f95932f1c9cef5c4bd992f171225e3bf8c7b609b4557c9e1ec96be819f", "llama3.2"},
    /* SmolLM2 */
    {"872be49dbb638044ad01b60388f48d469ff2980e5f0dccdc22ec907db54d0788", "smollm2"},
    {"de9cde7d1b0ca0cc87459a6673e0d12fb89c070bdb24e4a30b6e4d187b226221", "smollm2"}, /* escaped */
    /* ChatML without a default system message */
    {"153280e3ff55d19da1398bdb3914ee2a51b80429bfaedde11d7d216c39db80f3", "chatml"},
    {"fcf7a096fe99a48fd9ad2b250bf9237e96e8f48bffec1c7ea4d3f225176cd40e", "chatml"}, /* escaped */
};

/* The SHA-256 of a text with line ends normalized, in lower-case hex. */
static void hash_text(const char *text, char hex[2 * SHA256_DIGEST_SIZE + 1])
{
    struct sha256_ctx context;
    uint8_t digest[SHA256_DIGEST_SIZE];
    const char *at = text;

    sha256_init(&context);
    while (*at != '\0') {
        size_t plain = strcspn(at, "\r\n");
        sha256_update(&context, plain, (const uint8_t *)at);
        at += plain;
        if (*at == '\0')
            break;
        at += at[0] == '\r' && at[1] == '\n' ? 2 : 1;
        if (*at != '\0')
            sha256_update(&context, 1, (const uint8_t *)"\n");
    }
    sha256_digest(&context, sizeof digest, digest);
    hex_text(digest, sizeof digest, hex);
}

const char *chat_known_name(const char *text)
{
    char hex[2 * SHA256_DIGEST_SIZE + 1];
    hash_text(text, hex);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (strcmp(texts[i].sha256, hex) == 0)
            return texts[i].name;
    return "custom";
}

const char *const *chat_builtin_names(void)
{
    static const char *const names[] = {"llama3", "chatml", NULL};
    return names;
}

const char *chat_builtin(const char *name)
{
    static const char *const texts_of[] = {
        "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message.role }}"
        "<|end_header_id|>\n\n{{ message.content | trim }}<|eot_id|>{% endfor %}"
        "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{{ '' }}"
        "{% endif %}",
        "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}"
        "<|im_end|>\n{{ '' }}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{{ '' }}{% endif %}",
    };
    for (size_t i = 0; chat_builtin_names()[i] != NULL; i++)
        if (strcmp(chat_builtin_names()[i], name) == 0)
            return texts_of[i];
    return NULL;
}
