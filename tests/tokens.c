/*
 * tokens VOCAB [PRETOKENIZER]: what scripts/check-tokenizer talks to. Reads texts from stdin, each
 * after its length as a native uint32, and writes for each the number of its tokens as a uint32 and
 * the tokens as int32. With PRETOKENIZER (llama3, gpt2, smollm) in place of the vocabulary's own.
 *
 * tokens --cuts VOCAB [PRETOKENIZER]: the same with the lengths of the pre-tokens in bytes.
 * tokens --bytes VOCAB: writes for each id its length as a uint32 and its bytes.
 * tokens --time VOCAB: reads one text to the end and prints the seconds to open and to encode.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "text/pretokenizer.h"
#include "text/tokenizer.h"
#include "vocab_file.h"

static void fail(const char *what)
{
    fprintf(stderr, "tokens: %s\n", what);
    exit(1);
}

static void write_all(const void *bytes, size_t size)
{
    if (fwrite(bytes, 1, size, stdout) != size)
        fail("cannot write");
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* Either the tokens of a text or, without a tokenizer, the lengths of its pre-tokens. */
static void answer(const struct tokenizer *tokenizer, enum pretokenizer pretokenizer,
                   const struct buf *text, struct tokens *out)
{
    struct llama3_error err;

    out->n = 0;
    if (text->failed)
        fail("not enough memory");
    if (tokenizer != NULL) {
        if (tokenizer_encode(tokenizer, text->data, text->size, out, &err) != 0)
            fail(err.message);
        return;
    }
    for (size_t at = 0, end; at < text->size; at = end) {
        end = pretoken_end(pretokenizer, (const uint8_t *)text->data, text->size, at);
        tokens_add(out, (int32_t)(end - at));
    }
}

static void answer_texts(const struct tokenizer *tokenizer, enum pretokenizer pretokenizer)
{
    struct tokens tokens = {0};
    struct buf text = {0};
    static char chunk[1 << 16];
    uint32_t length;

    while (fread(&length, sizeof length, 1, stdin) == 1) {
        buf_clear(&text);
        for (size_t left = length; left > 0;) {
            size_t n = fread(chunk, 1, left < sizeof chunk ? left : sizeof chunk, stdin);
            if (n == 0)
                fail("a text is cut off");
            buf_add(&text, chunk, n);
            left -= n;
        }
        answer(tokenizer, pretokenizer, &text, &tokens);
        uint32_t n = (uint32_t)tokens.n;
        write_all(&n, sizeof n);
        write_all(tokens.ids, tokens.n * sizeof *tokens.ids);
    }
    buf_free(&text);
    tokens_free(&tokens);
}

static void write_bytes(const struct tokenizer *tokenizer, size_t n_ids)
{
    for (size_t id = 0; id < n_ids; id++) {
        size_t n;
        const uint8_t *bytes = tokenizer_bytes(tokenizer, (int32_t)id, &n);
        uint32_t length = (uint32_t)n;
        write_all(&length, sizeof length);
        write_all(bytes, n);
    }
}

static void time_text(const struct tokenizer *tokenizer, double opening)
{
    struct llama3_error err;
    struct tokens tokens = {0};
    struct buf text = {0};
    static char chunk[1 << 16];
    size_t n;

    while ((n = fread(chunk, 1, sizeof chunk, stdin)) > 0)
        buf_add(&text, chunk, n);
    double start = now();
    if (text.failed || tokenizer_encode(tokenizer, text.data, text.size, &tokens, &err) != 0)
        fail(text.failed ? "not enough memory" : err.message);
    double seconds = now() - start;
    printf("open %.3f s, encode %zu bytes to %zu tokens %.3f s, %.1f MB/s\n", opening, text.size,
           tokens.n, seconds, (double)text.size / seconds / 1e6);
    buf_free(&text);
    tokens_free(&tokens);
}

static enum pretokenizer pretokenizer_named(const char *name)
{
    if (strcmp(name, "llama3") == 0)
        return PRETOKENIZER_LLAMA3;
    if (strcmp(name, "gpt2") == 0)
        return PRETOKENIZER_GPT2;
    if (strcmp(name, "smollm") != 0)
        fail("llama3, gpt2 or smollm expected");
    return PRETOKENIZER_SMOLLM;
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 && strncmp(argv[1], "--", 2) == 0 ? argv[1] : "";
    int first = *mode != '\0' ? 2 : 1;
    struct vocab vocab;
    struct llama3_error err;

    if (argc <= first)
        fail("usage: tokens [--bytes|--cuts|--time] VOCAB [PRETOKENIZER]");
    vocab_file_load(&vocab, argv[first]);
    if (argc > first + 1)
        vocab.pretokenizer = pretokenizer_named(argv[first + 1]);
    double start = now();
    struct tokenizer *tokenizer = tokenizer_open(&vocab, &err);
    if (tokenizer == NULL)
        fail(err.message);
    double opening = now() - start;

    if (strcmp(mode, "--bytes") == 0)
        write_bytes(tokenizer, vocab.n);
    else if (strcmp(mode, "--time") == 0)
        time_text(tokenizer, opening);
    else
        answer_texts(strcmp(mode, "--cuts") == 0 ? NULL : tokenizer, vocab.pretokenizer);
    tokenizer_close(tokenizer);
    vocab_file_free(&vocab);
    return fflush(stdout) == 0 ? 0 : 1;
}
