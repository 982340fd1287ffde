/* SPDX-License-Identifier: MIT */
/* words.h: codes handled 4 or 8 at a time, as what turns stored blocks into strips does it. */
#ifndef QUANT_WORDS_H
#define QUANT_WORDS_H

#include <stdint.h>
#include <string.h>

/* At any alignment. */
static inline uint32_t load_32(const uint8_t *bytes)
{
    uint32_t word;
    memcpy(&word, bytes, sizeof word);
    return word;
}

static inline uint64_t load_64(const uint8_t *bytes)
{
    uint64_t words;
    memcpy(&words, bytes, sizeof words);
    return words;
}

/* Packs 8 codes of 4 bits, a byte each, into a word: the second four in the high nibbles. */
static inline uint32_t pair(uint64_t codes)
{
    return (uint32_t)(codes | codes >> 28);
}

typedef uint32_t four __attribute__((vector_size(16)));

static inline four load_four(const void *data)
{
    four words;
    memcpy(&words, data, sizeof words);
    return words;
}

/* Nibbles 0 1 2 3 4 5 6 7, from the low one, become 0 4 1 5 2 6 3 7: strips have the second four
 * columns in the high nibbles. */
static inline four interleave(four words)
{
    words = (words & 0xff0000ff) | (words & 0xff00) << 8 | (words >> 8 & 0xff00);
    return (words & 0xf00ff00f) | (words & 0xf000f0) << 4 | (words >> 4 & 0xf000f0);
}

#endif
