/* SPDX-License-Identifier: MIT */
/* A digit for a kind of constraint, its text, a NUL, and a byte for each choice on a walk over
 * masks. Whatever the constraint is, some token can always be said until the end, the walk's tokens
 * are taken one by one and their bytes in one go, and the mask says what can be taken. */
#include "fuzz.h"

#include <string.h>

#include "grammar/constraint.h"

enum { N_TOKENS = 320, STOP = N_TOKENS - 1, MAX_STEPS = 48 };

static const struct vocabulary *vocabulary(struct tokenizer **tokenizer)
{
    static const char *const words[] = {
        "\"",    "\":",      "\": ",     "\",",      "\", \"", "{\"",  "\"}",  "\\n",
        "\\u00", "ab",       "abc",      "true",     "null",   "12",   "0.5",  "e+",
        " [",    "],",       "}}",       "a\":",     "b\"}",   "name", "\n  ", "  ",
        "1,",    "\",\"a\"", "\xc3\xa9", "\xf0\x9f", "x\": {"};
    static struct vocabulary *made;
    static struct tokenizer *of;
    static struct vocab vocab;
    static uint8_t bytes[4096], kinds[N_TOKENS];
    static uint32_t offsets[N_TOKENS + 1];
    struct llama3_error err = {0};
    const int32_t stop = STOP;
    if (made == NULL) {
        uint32_t size = 0;
        for (size_t i = 0; i < N_TOKENS; i++) {
            const size_t word = i - 256;
            offsets[i] = size;
            kinds[i] = i == STOP ? TOKEN_CONTROL : TOKEN_TEXT;
            if (i < 256) {
                bytes[size++] = (uint8_t)i;
            } else if (i == STOP || word >= sizeof words / sizeof *words) {
                bytes[size++] = 'S';
                kinds[i] = TOKEN_CONTROL;
            } else {
                memcpy(bytes + size, words[word], strlen(words[word]));
                size += (uint32_t)strlen(words[word]);
            }
        }
        offsets[N_TOKENS] = size;
        vocab = (struct vocab){.n = N_TOKENS, .bytes = bytes, .offsets = offsets, .kinds = kinds};
        vocab.bos = -1;
        of = tokenizer_open(&vocab, &err);
        FUZZ_EXPECT_MSG(of != NULL, err.message);
        made = vocabulary_open(of, N_TOKENS, &stop, 1, &err);
        FUZZ_EXPECT_MSG(made != NULL, err.message);
    }
    *tokenizer = of;
    return made;
}

static bool has(const uint32_t *mask, int32_t token)
{
    return (mask[token / 32] >> token % 32 & 1) != 0;
}

/* One token by the mask's definition. */
static void check_one(const struct matcher *matcher, const uint32_t *mask, int32_t token)
{
    struct llama3_error err = {0};
    struct matcher *copy = matcher_copy(matcher, &err);
    FUZZ_EXPECT_MSG(copy != NULL, err.message);
    bool taken = matcher_accept(copy, token, &err) == 0;
    FUZZ_EXPECT(taken == has(mask, token) || strstr(err.message, "at most") != NULL);
    matcher_close(copy);
}

static void walk(struct constraint *constraint, struct tokenizer *tokenizer, const uint8_t *data,
                 size_t size)
{
    struct llama3_error err = {0};
    struct matcher *matcher = matcher_open(constraint, &err),
                   *again = matcher_open(constraint, &err);
    struct buf text = {0};
    size_t taken;
    FUZZ_EXPECT_MSG(matcher != NULL && again != NULL, err.message);
    for (size_t step = 0; step < MAX_STEPS && step < size && !matcher_ended(matcher); step++) {
        const uint32_t *mask = matcher_mask(matcher, &err);
        if (mask == NULL) { /* a limit */
            fuzz_check_error(&err);
            FUZZ_EXPECT(strstr(err.message, "found none") == NULL);
            break;
        }
        uint32_t copy[N_TOKENS / 32];
        memcpy(copy, mask, sizeof copy);
        check_one(matcher, copy, (int32_t)(data[step] * 7 % N_TOKENS));
        int32_t token = data[step] % N_TOKENS;
        while (!has(copy, token))
            token = (token + 1) % N_TOKENS;
        if (matcher_accept(matcher, token, &err) != 0) {
            FUZZ_EXPECT(strstr(err.message, "at most") != NULL);
            break;
        }
        size_t n;
        const uint8_t *bytes = tokenizer_bytes(tokenizer, token, &n);
        if (token != STOP)
            buf_add(&text, bytes, n);
    }
    if (matcher_accept_bytes(again, text.data, text.size, &taken, &err) == 0)
        FUZZ_EXPECT(taken == text.size);
    else
        fuzz_check_error(&err);
    matcher_close(matcher);
    matcher_close(again);
    buf_free(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct llama3_error err = {0};
    struct tokenizer *tokenizer;
    size_t length;
    if (size < 2)
        return 0;
    const struct vocabulary *v = vocabulary(&tokenizer);
    enum constraint_kind kind =
        (enum constraint_kind)((uint8_t)(data[0] - '0') % (CONSTRAINT_LARK + 1u));
    data++;
    size--;
    char *text = fuzz_next_text(&data, &size, &length);
    struct constraint *constraint = constraint_open(v, kind, text, length, "the text", &err);
    if (constraint == NULL)
        fuzz_check_error(&err);
    else
        walk(constraint, tokenizer, data, size);
    constraint_close(constraint);
    free(text);
    return 0;
}
