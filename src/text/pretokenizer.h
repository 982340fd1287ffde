/* SPDX-License-Identifier: MIT */
/*
 * pretokenizer.h: cuts text into pre-tokens for BPE. The patterns are scanned by hand: a regex
 * engine that backtracks would take quadratic time on text like a long run of spaces.
 */
#ifndef TEXT_PRETOKENIZER_H
#define TEXT_PRETOKENIZER_H

#include <stddef.h>
#include <stdint.h>

#include "checkpoint/vocab.h"

/* The end of the pre-token that begins at text[at], at < n. The text must be valid UTF-8. Every
 * character belongs to a pre-token; cutting a whole text takes time linear in n. */
size_t pretoken_end(enum pretokenizer pretokenizer, const uint8_t *text, size_t n, size_t at);

#endif
