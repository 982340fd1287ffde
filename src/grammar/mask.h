/* SPDX-License-Identifier: MIT */
/* mask.h: which tokens may come next in a state of the parser. */
#ifndef GRAMMAR_MASK_H
#define GRAMMAR_MASK_H

#include "grammar/machine.h"
#include "grammar/vocabulary.h"

/* What computing masks needs, for one thread at a time. */
struct masker {
    const struct vocabulary *vocabulary;
    /* [longest + 1] by depth in a trie */
    struct level {
        state state;
        bool knows; /* first */
        struct byte_set first;
    } * levels;
    regex *regexes;     /* [longest + 1] */
    uint32_t *closing;  /* [n_words] tokens that may close a string ... */
    continuation after; /* ... before this, 0: not known */
};

int masker_open(struct masker *masker, const struct vocabulary *vocabulary,
                struct llama3_error *err);
void masker_close(struct masker *masker);

/* mask: [vocabulary->n_words], overwritten. What the machine could not compute is a failure of the
 * machine's. */
void masker_compute(struct masker *masker, struct machine *m, state s, uint32_t *mask);

#endif
