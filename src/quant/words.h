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

#endif
