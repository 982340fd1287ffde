/* SPDX-License-Identifier: MIT */
/*
 * chat_templates.c: the templates by name, and the SHA-256 of each one's published texts. Only the
 * hash tells: two templates that look alike can render differently.
 */
#include "text/chat_templates.h"

#include <stdlib.h>
#include <string.h>

#include <nettle/sha2.h>

#include "base/hex.h"

static const char *const llama3_controls[] = {"<|start_header_id|>", "<|end_header_id|>",
                                              "<|eot_id|>", NULL};
static const char *const chatml_controls[] = {"<|im_start|>", "<|im_end|>", NULL};

enum { LLAMA3, LLAMA31, LLAMA32, LLAMA33, SMOLLM2, CHATML, N_TEMPLATES };

/* name, form, has_bos, wants_today, default_system, end_of_turn, controls */
static const struct chat_template templates[N_TEMPLATES] = {
    [LLAMA3] = {"llama3", CHAT_LLAMA3, true, false, NULL, "<|eot_id|>", llama3_controls},
    [LLAMA31] = {"llama3.1", CHAT_LLAMA31, true, false, NULL, "<|eot_id|>", llama3_controls},
    [LLAMA32] = {"llama3.2", CHAT_LLAMA31, true, true, NULL, "<|eot_id|>", llama3_controls},
    /* Its text is 3.1's, so it is found only by name. */
    [LLAMA33] = {"llama3.3", CHAT_LLAMA31, true, false, NULL, "<|eot_id|>", llama3_controls},
    [SMOLLM2] = {"smollm2", CHAT_CHATML, false, false,
                 "You are a helpful AI assistant named SmolLM, trained by Hugging Face",
                 "<|im_end|>", chatml_controls},
    [CHATML] = {"chatml", CHAT_CHATML, false, false, NULL, "<|im_end|>", chatml_controls},
};

static const char *const names[] = {"llama3",  "llama3.1", "llama3.2", "llama3.3",
                                    "smollm2", "chatml",   NULL};

/* See chat.h. "Escaped" are one-line texts of some files, with \n spelled out in a Jinja string. */
static const struct {
    const char *sha256;
    int template;
} texts[] = {
    /* Llama 3, as first published: always ends with the assistant's header */
    {"b48c47f6443892716176eb200bf4ef108f64e06ca26ed0fa8ebc0a4b3992fcb2", LLAMA3},
    {"b75e17085cfc511ead6d4fab84b86ab3c168ec7a332568a91d0889cdcba94394", LLAMA3}, /* escaped */
    /* Llama 3, later: only if add_generation_prompt is set */
    {"ba03a121d097859c7b5b9cd03af99aafe95275210d2876f642ad9929a150f122", LLAMA3},
    {"4f46ecd43418f216df8c26936c60e5d04bcc81db47db5d86fbe889f64212dd4c", LLAMA3}, /* escaped */
    /* Llama 3.1 and 3.3 */
    {"93c0e9aa3629bbd77e68dbc0f5621f6e6b23aa8d74b932595cdb8d64684526d7", LLAMA31},
    /* Llama 3.2 */
    {"d82792f95932f1c9cef5c4bd992f171225e3bf8c7b609b4557c9e1ec96be819f", LLAMA32},
    /* SmolLM2 */
    {"872be49dbb638044ad01b60388f48d469ff2980e5f0dccdc22ec907db54d0788", SMOLLM2},
    {"de9cde7d1b0ca0cc87459a6673e0d12fb89c070bdb24e4a30b6e4d187b226221", SMOLLM2}, /* escaped */
    /* ChatML without a default system message */
    {"153280e3ff55d19da1398bdb3914ee2a51b80429bfaedde11d7d216c39db80f3", CHATML},
    {"fcf7a096fe99a48fd9ad2b250bf9237e96e8f48bffec1c7ea4d3f225176cd40e", CHATML}, /* escaped */
};

const char *const *chat_template_names(void)
{
    return names;
}

/* The names of all templates, for an error. */
static void list_names(char *list, size_t size)
{
    list[0] = '\0';
    for (size_t i = 0; names[i] != NULL; i++) {
        strncat(list, i > 0 ? ", " : "", size - strlen(list) - 1);
        strncat(list, names[i], size - strlen(list) - 1);
    }
}

const struct chat_template *chat_template_by_name(const char *name, struct llama3_error *err)
{
    char list[128];

    for (size_t i = 0; i < N_TEMPLATES; i++)
        if (strcmp(templates[i].name, name) == 0)
            return &templates[i];
    list_names(list, sizeof list);
    error_input(err, "template: expected one of %s, found \"%.60s\"", list, name);
    return NULL;
}

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

const struct chat_template *chat_template_recognise(const char *text, struct llama3_error *err)
{
    char hex[2 * SHA256_DIGEST_SIZE + 1], list[128];

    hash_text(text, hex);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (strcmp(texts[i].sha256, hex) == 0)
            return &templates[texts[i].template];
    list_names(list, sizeof list);
    error_input(
        err,
        "chat template: expected a known one, or the name of one to use (%s), found one with "
        "SHA-256 %.16s...",
        list, hex);
    return NULL;
}

/* Whether this is a date as templates write it: "26 Jul 2024". */
static bool is_date(const char *date)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

    if (strlen(date) != 11 || date[2] != ' ' || date[6] != ' ')
        return false;
    for (int i = 0; i < 11; i++)
        if ((i < 2 || i > 6) && (date[i] < '0' || date[i] > '9'))
            return false;
    int day = (date[0] - '0') * 10 + date[1] - '0';
    int year =
        (date[7] - '0') * 1000 + (date[8] - '0') * 100 + (date[9] - '0') * 10 + date[10] - '0';

    int month = 0;
    while (month < 12 && strncmp(months + 3 * month, date + 3, 3) != 0)
        month++;
    if (month == 12 || day == 0 || year == 0)
        return false;
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return day <= days[month] + (month == 1 && leap);
}

int chat_date_check(const char *date, struct llama3_error *err)
{
    if (is_date(date))
        return 0;
    return error_input(err, "date: expected one like \"26 Jul 2024\", found \"%.40s\"", date);
}
