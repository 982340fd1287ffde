/* SPDX-License-Identifier: MIT */
/*
 * thoughts.h: the text of an answer, told apart: thoughts stand between <think> and </think> at its
 * beginning, and the rest is what is answered. White space at the ends of both belongs to neither.
 */
#ifndef ENGINE_THOUGHTS_H
#define ENGINE_THOUGHTS_H

#include "base/buf.h"
#include "llama3.h"

enum thinking { THINKING_PERHAPS, THINKING, THINKING_ENDED, THINKING_NEVER };

struct thoughts {
    enum thinking state;
    bool begun;      /* a thought has text already */
    struct buf held; /* what may begin a tag, or stand before one */
    size_t spaces;   /* most bytes of white space that are dropped after </think> */
    const struct llama3_generation *callbacks;
};

/* "<think>" or "</think>" if a token has this name; else NULL. */
const char *thoughts_tag(const char *name, size_t n);

/* Whether a prompt that ends with these bytes ends with thoughts that are over. */
bool thoughts_are_over(const char *prompt, size_t n);

/* The state for an answer to these tokens' bytes: a template may end with <think>. */
enum thinking thoughts_after(const char *prompt, size_t n);

/* Takes text of an answer, and hands out what can be handed out. Non-zero: a callback wants the
 * answer to end. held.failed: no memory. */
int thoughts_push(struct thoughts *thoughts, const char *text, size_t n);
/* Hands out what is left. */
int thoughts_finish(struct thoughts *thoughts);

#endif
