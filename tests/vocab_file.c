/* SPDX-License-Identifier: MIT */
#include "vocab_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void fail(const char *path, const char *what)
{
    fprintf(stderr, "%s: expected %s\n", path, what);
    exit(1);
}

static void *allocate(size_t n, size_t size)
{
    void *memory = calloc(n + 1, size);
    if (memory == NULL)
        abort();
    return memory;
}

static enum pretokenizer pretokenizer_named(const char *name, const char *path)
{
    static const char *const names[] = {[PRETOKENIZER_LLAMA3] = "llama3",
                                        [PRETOKENIZER_GPT2] = "gpt2",
                                        [PRETOKENIZER_SMOLLM] = "smollm"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i], name) == 0)
            return (enum pretokenizer)i;
    fail(path, "llama3, gpt2 or smollm");
    return PRETOKENIZER_GPT2;
}

/* Appends the bytes of a line of hex; at most 4,096 of them. */
static void add_token(struct vocab *vocab, size_t id, const char *hex, uint32_t *size)
{
    vocab->offsets[id] = *size;
    uint8_t *bytes = realloc(vocab->bytes, *size + strlen(hex) / 2 + 1);
    if (bytes == NULL)
        abort();
    vocab->bytes = bytes;
    for (; hex[0] != '\0' && hex[1] != '\0'; hex += 2) {
        const char pair[] = {hex[0], hex[1], '\0'};
        vocab->bytes[(*size)++] = (uint8_t)strtoul(pair, NULL, 16);
    }
    vocab->offsets[id + 1] = *size;
}

void vocab_file_load(struct vocab *vocab, const char *path)
{
    char name[16], kind, hex[8193];
    int ignore_merges;
    uint32_t size = 0;

    *vocab = (struct vocab){0};
    FILE *file = fopen(path, "r");
    if (file == NULL)
        fail(path, "a readable file");
    if (fscanf(file, "%zu %zu %d %d %15s\n", &vocab->n, &vocab->n_merges, &ignore_merges,
               &vocab->bos, name) != 5)
        fail(path, "a header");
    vocab->pretokenizer = pretokenizer_named(name, path);
    vocab->ignore_merges = ignore_merges != 0;
    vocab->offsets = allocate(vocab->n + 1, sizeof *vocab->offsets);
    vocab->kinds = allocate(vocab->n, 1);
    vocab->merges = allocate(vocab->n_merges, sizeof *vocab->merges);

    for (size_t i = 0; i < vocab->n; i++) {
        if (fscanf(file, "%c %8192s\n", &kind, hex) != 2)
            fail(path, "a token");
        add_token(vocab, i, hex, &size);
        vocab->kinds[i] = kind == 'c' ? TOKEN_CONTROL : TOKEN_TEXT;
    }
    for (size_t i = 0; i < vocab->n_merges; i++)
        if (fscanf(file, "%d %d %d\n", &vocab->merges[i].left, &vocab->merges[i].right,
                   &vocab->merges[i].result) != 3)
            fail(path, "a merge");
    fclose(file);
}

void vocab_file_free(struct vocab *vocab)
{
    free(vocab->bytes);
    free(vocab->offsets);
    free(vocab->kinds);
    free(vocab->merges);
    *vocab = (struct vocab){0};
}
