/* SPDX-License-Identifier: MIT */
/* vocab_file.h: the vocabularies of tests/data/text (make-text-goldens.py writes them). */
#ifndef TESTS_VOCAB_FILE_H
#define TESTS_VOCAB_FILE_H

#include "checkpoint/vocab.h"

/* Ends the program with a message where the file is not as it has to be: the tests' own data. What
 * was loaded goes back by vocab_file_free. */
void vocab_file_load(struct vocab *vocab, const char *path);
void vocab_file_free(struct vocab *vocab);

#endif
