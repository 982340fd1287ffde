/* SPDX-License-Identifier: MIT */
#include "checkpoint/pretokenizers.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/utf8.h"
#include "checkpoint/hf.h"

const char *const pretokenizer_names[] = {
    [PRETOKENIZER_LLAMA3] = "llama3",
    [PRETOKENIZER_GPT2] = "gpt2",
    [PRETOKENIZER_SMOLLM] = "smollm",
    [PRETOKENIZER_QWEN2] = "qwen2",
    [PRETOKENIZER_SEED_CODER] = "seed-coder",
    [PRETOKENIZER_TEKKEN] = "tekken",
    [PRETOKENIZER_GPT4O] = "gpt-4o",
    [PRETOKENIZER_VIKING] = "viking",
    [PRETOKENIZER_DEEPSEEK_LLM] = "deepseek-llm",
    [PRETOKENIZER_DEEPSEEK_CODER] = "deepseek-coder",
    [PRETOKENIZER_SENTENCEPIECE] = "sentencepiece",
    [PRETOKENIZER_METASPACE] = "metaspace",
    NULL,
};

/* ---- tokenizer.json -------------------------------------------------------------------------- */

/* Steps of a sequence that are no regular expression to split by. The byte level is the last of
 * each: with its own expression, or without. */
#define DIGITS  "digits"
#define LETTERS "letters" /* of deepseek_letters */

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define SPACES       "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define BEFORE       "[^\\r\\n\\p{L}\\p{N}]?"
#define UPPER        "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER        "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define OTHERS       "| ?[^\\s\\p{L}\\p{N}]+"
#define CJK          "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"

enum { MAX_STEPS = 6 };

static const struct {
    const char *steps[MAX_STEPS];
    bool splits_bytes; /* the byte level has its own expression, GPT-2's */
} known[] = {
    [PRETOKENIZER_LLAMA3] = {{CONTRACTIONS "|" BEFORE "\\p{L}+|\\p{N}{1,3}" OTHERS
                                           "[\\r\\n]*|" SPACES},
                             false},
    [PRETOKENIZER_GPT2] = {{NULL}, true},
    [PRETOKENIZER_SMOLLM] = {{DIGITS}, true},
    [PRETOKENIZER_QWEN2] = {{CONTRACTIONS "|" BEFORE "\\p{L}+|\\p{N}" OTHERS "[\\r\\n]*|" SPACES},
                            false},
    [PRETOKENIZER_SEED_CODER] = {{CONTRACTIONS "|[^\r\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1}"
                                               "| ?[^\\s\\p{L}\\p{N}\r\n]+|\\s*[\r\n]+"
                                               "|\\s+(?!\\S)|\\s+"},
                                 false},
    [PRETOKENIZER_TEKKEN] = {{BEFORE UPPER "*" LOWER "+|" BEFORE UPPER "+" LOWER "*|\\p{N}" OTHERS
                                           "[\\r\\n/]*|" SPACES},
                             false},
    [PRETOKENIZER_GPT4O] = {{BEFORE UPPER "*" LOWER "+" CONTRACTIONS "?|" BEFORE UPPER "+" LOWER
                                          "*" CONTRACTIONS "?|\\p{N}{1,3}" OTHERS
                                          "[\\r\\n/]*|" SPACES},
                            false},
    [PRETOKENIZER_VIKING] = {{" ?[^(\\s|[.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c])]+",
                              DIGITS},
                             false},
    [PRETOKENIZER_DEEPSEEK_LLM] =
        {{"[\r\n]", LETTERS, "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+",
          "\\s+$", CJK, DIGITS},
         false},
    [PRETOKENIZER_DEEPSEEK_CODER] = {{"[\r\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", CJK, DIGITS}, false},
};

const struct scalar_range deepseek_letters[] = {
    {0x41, 0x5a},       {0x61, 0x7a},       {0xb5, 0xb5},       {0xc0, 0xd6},
    {0xd8, 0xf6},       {0xf8, 0x1ba},      {0x1bc, 0x1bf},     {0x1c4, 0x293},
    {0x295, 0x2af},     {0x370, 0x373},     {0x376, 0x376},     {0x377, 0x377},
    {0x37b, 0x37d},     {0x37f, 0x37f},     {0x386, 0x386},     {0x388, 0x38a},
    {0x38c, 0x38c},     {0x38e, 0x3a1},     {0x3a3, 0x3f5},     {0x3f7, 0x481},
    {0x48a, 0x52f},     {0x531, 0x556},     {0x10a0, 0x10c5},   {0x13a0, 0x13f5},
    {0x13f8, 0x13fd},   {0x1c90, 0x1cba},   {0x1cbd, 0x1cbf},   {0x1d00, 0x1d2b},
    {0x1d6b, 0x1d77},   {0x1d79, 0x1d9a},   {0x1e00, 0x1f15},   {0x1f18, 0x1f1d},
    {0x1f20, 0x1f45},   {0x1f48, 0x1f4d},   {0x1f50, 0x1f57},   {0x1f59, 0x1f59},
    {0x1f5b, 0x1f5b},   {0x1f5d, 0x1f5d},   {0x1f5f, 0x1f7d},   {0x1f80, 0x1fb4},
    {0x1fb6, 0x1fbc},   {0x1fbe, 0x1fbe},   {0x1fc2, 0x1fc4},   {0x1fc6, 0x1fcc},
    {0x1fd0, 0x1fd3},   {0x1fd6, 0x1fdb},   {0x1fe0, 0x1fec},   {0x1ff2, 0x1ff4},
    {0x1ff6, 0x1ffc},   {0x2102, 0x2102},   {0x2107, 0x2107},   {0x210a, 0x2113},
    {0x2115, 0x2115},   {0x2119, 0x211d},   {0x2124, 0x2124},   {0x2126, 0x2126},
    {0x2128, 0x2128},   {0x212a, 0x212d},   {0x212f, 0x2134},   {0x2139, 0x2139},
    {0x213c, 0x213f},   {0x2145, 0x2149},   {0x214e, 0x214e},   {0x2183, 0x2183},
    {0x2184, 0x2184},   {0x2c00, 0x2c7b},   {0x2c7e, 0x2ce4},   {0x2ceb, 0x2cee},
    {0x2cf2, 0x2cf2},   {0x2cf3, 0x2cf3},   {0xa640, 0xa66d},   {0xa680, 0xa69b},
    {0xa722, 0xa76f},   {0xa771, 0xa787},   {0xa78b, 0xa78e},   {0xab70, 0xabbf},
    {0xfb00, 0xfb06},   {0xfb13, 0xfb17},   {0xff21, 0xff3a},   {0xff41, 0xff5a},
    {0x10400, 0x1044f}, {0x104b0, 0x104d3}, {0x104d8, 0x104fb}, {0x10c80, 0x10cb2},
    {0x10cc0, 0x10cf2}, {0x118a0, 0x118df}, {0x1e900, 0x1e943},
};
const size_t n_deepseek_letters = sizeof deepseek_letters / sizeof *deepseek_letters;

static void add_scalar(struct buf *out, uint32_t scalar)
{
    uint8_t bytes[4];
    buf_add(out, bytes, (size_t)utf8_encode(scalar, bytes));
}

/* The expression for deepseek_letters. */
static json_t *letters(void)
{
    struct buf out = {0};
    buf_add_str(&out, "\\s?[");
    for (size_t i = 0; i < n_deepseek_letters; i++) {
        add_scalar(&out, deepseek_letters[i].first);
        if (deepseek_letters[i].last > deepseek_letters[i].first) {
            buf_add_str(&out, "-");
            add_scalar(&out, deepseek_letters[i].last);
        }
    }
    buf_add_str(&out, "]+");
    json_t *text = out.failed ? NULL : json_string(out.data);
    buf_free(&out);
    return text;
}

/* Whether an object equals another, which this frees; NULL, where memory ran out, equals nothing.
 */
static bool equals(const json_t *found, json_t *expected)
{
    bool equal = expected != NULL && json_equal(found, expected);
    json_decref(expected);
    return equal;
}

/* A Split whose pieces and what is between them are all kept; where an expression takes every
 * character, keeping its pieces alone is the same. */
static bool is_split(const json_t *step, const char *expression, bool takes_all)
{
    json_t *text = strcmp(expression, LETTERS) == 0 ? letters() : json_string(expression);
    bool equal =
        equals(step, json_pack("{s:s,s:{s:O},s:s,s:b}", "type", "Split", "pattern", "Regex", text,
                               "behavior", "Isolated", "invert", 0)) ||
        (takes_all && equals(step, json_pack("{s:s,s:{s:O},s:s,s:b}", "type", "Split", "pattern",
                                             "Regex", text, "behavior", "Removed", "invert", 1)));
    json_decref(text);
    return equal;
}

static bool is_step(const json_t *step, const char *expected, bool only)
{
    if (strcmp(expected, DIGITS) == 0)
        return equals(step, json_pack("{s:s,s:b}", "type", "Digits", "individual_digits", 1));
    return is_split(step, expected, only);
}

/* trim_offsets does not affect ids. use_regex is true by default. */
static bool is_byte_level(const json_t *step, bool use_regex)
{
    json_t *rest = json_copy((json_t *)(uintptr_t)step);
    json_object_del(rest, "trim_offsets");
    bool equal =
        (use_regex && json_object_get(rest, "use_regex") == NULL)
            ? equals(rest, json_pack("{s:s,s:b}", "type", "ByteLevel", "add_prefix_space", 0))
            : equals(rest, json_pack("{s:s,s:b,s:b}", "type", "ByteLevel", "add_prefix_space", 0,
                                     "use_regex", use_regex));
    json_decref(rest);
    return equal;
}

static bool is_known(const json_t *pre, size_t i)
{
    const json_t *list = json_object_get(pre, "pretokenizers");
    const char *type = json_string_value(json_object_get(pre, "type"));
    size_t n = 0;
    while (n < MAX_STEPS && known[i].steps[n] != NULL)
        n++;
    if (n == 0)
        return is_byte_level(pre, known[i].splits_bytes);
    if (type == NULL || strcmp(type, "Sequence") != 0 || json_array_size(list) != n + 1)
        return false;
    for (size_t j = 0; j < n; j++)
        if (!is_step(json_array_get(list, j), known[i].steps[j], n == 1))
            return false;
    return is_byte_level(json_array_get(list, n), known[i].splits_bytes);
}

int pretokenizer_from_json(const json_t *pre, enum pretokenizer *out, const char *where,
                           struct llama3_error *err)
{
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (is_known(pre, i)) {
            *out = (enum pretokenizer)i;
            return 0;
        }
    return error_input(
        err,
        "%s: \"pre_tokenizer\": expected exactly that of Llama 3, GPT-2, SmolLM2 or another that "
        "is known, found another %.40s (%.40s)",
        where, hf_type_of(pre),
        hf_type_of(json_array_get(json_object_get(pre, "pretokenizers"), 0)));
}

/* ---- GGUF ------------------------------------------------------------------------------------ */

/* What llama.cpp's names stand for, and imply, in checkpoints of this architecture. */
static const struct {
    const char *name;
    enum pretokenizer pretokenizer;
    bool ignore_merges, add_bos;
} names[] = {
    {"llama-bpe", PRETOKENIZER_LLAMA3, true, true},
    {"llama3", PRETOKENIZER_LLAMA3, true, true},
    {"llama-v3", PRETOKENIZER_LLAMA3, true, true},
    {"falcon3", PRETOKENIZER_LLAMA3, true, true},
    {"midm-2.0", PRETOKENIZER_LLAMA3, true, true},
    {"smaug-bpe", PRETOKENIZER_LLAMA3, false, false},
    {"dbrx", PRETOKENIZER_LLAMA3, false, false},
    {"gpt-2", PRETOKENIZER_GPT2, false, false},
    {"mellum", PRETOKENIZER_GPT2, false, false},
    {"trillion", PRETOKENIZER_GPT2, false, false},
    {"smollm", PRETOKENIZER_SMOLLM, false, false},
    {"starcoder", PRETOKENIZER_SMOLLM, false, false},
    {"refact", PRETOKENIZER_SMOLLM, false, false},
    {"minerva-7b", PRETOKENIZER_SMOLLM, false, false},
    {"seed-coder", PRETOKENIZER_SEED_CODER, false, false},
    {"tekken", PRETOKENIZER_TEKKEN, true, true},
    {"gpt-4o", PRETOKENIZER_GPT4O, false, false},
    {"viking", PRETOKENIZER_VIKING, false, false},
    {"deepseek-llm", PRETOKENIZER_DEEPSEEK_LLM, false, false},
    {"deepseek-coder", PRETOKENIZER_DEEPSEEK_CODER, false, false},
};

/* The tokenizers of these compose characters first (NFC), which a file does not say. */
static const char *const normalizing[] = {"qwen2", "deepseek-r1-qwen", "command-r"};

int pretokenizer_from_gguf(const char *name, size_t n, struct vocab *vocab, const char *where,
                           struct llama3_error *err)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (n == strlen(names[i].name) && memcmp(name, names[i].name, n) == 0) {
            vocab->pretokenizer = names[i].pretokenizer;
            vocab->ignore_merges = names[i].ignore_merges;
            vocab->add_bos = names[i].add_bos;
            return 0;
        }
    for (size_t i = 0; i < sizeof normalizing / sizeof *normalizing; i++)
        if (n == strlen(normalizing[i]) && memcmp(name, normalizing[i], n) == 0)
            return error_input(
                err,
                "%s: tokenizer.ggml.pre: expected one that takes text as it is, found "
                "%s, which normalizes it (NFC)",
                where, normalizing[i]);
    return error_input(
        err,
        "%s: tokenizer.ggml.pre: expected llama-bpe, gpt-2, smollm or another that is "
        "known, found \"%.*s\"",
        where, n < 80 ? (int)n : 80, name);
}

const char *pretokenizer_gguf_name(const struct vocab *vocab, bool *exact)
{
    const char *found = NULL;
    *exact = false;
    for (size_t i = 0; i < sizeof names / sizeof *names && !*exact; i++)
        if (names[i].pretokenizer == vocab->pretokenizer) {
            *exact = names[i].ignore_merges == vocab->ignore_merges;
            found = found == NULL || *exact ? names[i].name : found;
        }
    return found;
}
