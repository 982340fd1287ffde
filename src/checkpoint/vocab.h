/* SPDX-License-Identifier: MIT */
/*
 * vocab.h: the vocabulary as the checkpoint states it, before a tokenizer is built on it.
 * tokenizer.json and GGUF fill the same struct; tokens are raw bytes (GPT-2's printable alphabet
 * and SentencePiece's U+2581 for a blank already undone), merges are ids.
 */
#ifndef CHECKPOINT_VOCAB_H
#define CHECKPOINT_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum pretokenizer {
    PRETOKENIZER_LLAMA3, /* GGUF "llama-bpe": the pattern of Llama 3's tokenizer.json */
    PRETOKENIZER_GPT2,   /* GGUF "gpt-2": ByteLevel with its own regex */
    PRETOKENIZER_SMOLLM, /* GGUF "smollm": digits one by one, then GPT-2's pattern */
    /* pretokenizer.c has the patterns. */
    PRETOKENIZER_QWEN2,
    PRETOKENIZER_SEED_CODER,
    PRETOKENIZER_TEKKEN,
    PRETOKENIZER_GPT4O,
    PRETOKENIZER_VIKING,
    PRETOKENIZER_DEEPSEEK_LLM,
    PRETOKENIZER_DEEPSEEK_CODER,
    /* SentencePiece: symbols are characters, and BPE joins words across blanks. */
    PRETOKENIZER_SENTENCEPIECE, /* the whole text is one pre-token */
    PRETOKENIZER_METASPACE      /* each blank begins one (Metaspace of `tokenizers` with split) */
};

/* SentencePiece: which piece of text between added tokens gets a blank before it. */
enum blank_prefix {
    BLANK_PREPEND, /* each, by a normalizer: names of normalized added tokens get one as well */
    BLANK_REPLACE, /* none, by a normalizer */
    BLANK_ALWAYS,  /* each that doesn't begin with a blank (Metaspace, as those that follow) */
    BLANK_FIRST,   /* such a one at the beginning of the text */
    BLANK_NEVER
};

/* The letters of PRETOKENIZER_DEEPSEEK_LLM's pattern: Latin, Greek, Cyrillic and others with case,
 * as ranges in ascending order. */
extern const struct scalar_range {
    uint32_t first, last;
} deepseek_letters[]; /* [n_deepseek_letters] */
extern const size_t n_deepseek_letters;

enum token_kind {
    TOKEN_UNUSED = 0, /* an id without a token (padding of the embedding) */
    TOKEN_TEXT,
    TOKEN_CONTROL, /* only a template may emit it; never found in text */
    TOKEN_ADDED,   /* a word that was added: found in text before anything else */
    TOKEN_BYTE     /* SentencePiece: a byte of a character that has no token */
};

/* How an added token, control or not, is found (AddedToken of `tokenizers`). */
enum {
    ADDED_LSTRIP = 1,      /* takes the white space before it */
    ADDED_RSTRIP = 2,      /* takes the white space after it */
    ADDED_SINGLE_WORD = 4, /* only where no letter, digit or '_' touches it */
    ADDED_NORMALIZED = 8,  /* looked for in what the others leave, after normalizing */
    ADDED_MERGED = 16,     /* the vocabulary has it too: BPE can make it */
    ADDED_ALL = 31
};

/* Bytes of an added token's name. */
enum { MAX_ADDED_BYTES = 512 };

/* Bytes of all tokens together: 256 for each of the most that there can be. */
enum { MAX_VOCAB_BYTES = 1 << 28 };

struct merge {
    int32_t left, right, result;
};

struct vocab {
    size_t n;          /* ids are 0..n-1; at most the model's vocab_size */
    uint8_t *bytes;    /* of all tokens, one after another; control and added ones by their name */
    uint32_t *offsets; /* [n + 1] into bytes */
    uint8_t *kinds;    /* [n] enum token_kind */
    uint8_t *flags;    /* [n] ADDED_*; NULL: none */
    struct merge *merges; /* [n_merges], best rank first */
    size_t n_merges;
    uint32_t *ranks; /* [n_merges], each < n_merges; NULL: a merge's rank is its place */
    enum pretokenizer pretokenizer;
    enum blank_prefix prefix; /* SentencePiece */
    bool strips_blank;        /* a decoded text that begins with a blank loses it */
    bool ignore_merges;       /* a pre-token that is itself a token is taken whole */
    bool add_bos;             /* raw text starts with bos */
    int32_t bos;              /* -1: none */
};

bool vocab_is_sentencepiece(const struct vocab *vocab);
/* Whether BPE can take or make a token. */
bool vocab_is_merged(const struct vocab *vocab, size_t id);

void vocab_free(struct vocab *vocab); /* frees all and zeroes */

#endif
