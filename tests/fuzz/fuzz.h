/* SPDX-License-Identifier: MIT */
/*
 * fuzz.h: what the fuzz targets share. A target is one file with LLVMFuzzerTestOneInput(), which
 * libFuzzer calls with one input after another (--enable-fuzzing), and replay.c, in every other
 * build, with the files that it is given.
 *
 * Inputs never touch a file system: map_open() and map_close() are wrapped at link time, so that
 * FUZZ_PATH is a block of memory that ends exactly where the input does. AddressSanitizer then sees
 * the first byte read beyond it, which a mapping, whole pages, would hide.
 */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/file.h"
#include "checkpoint/model.h"
#include "text/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Ends the program, as a crash does, unless what must be true is. */
#define FUZZ_EXPECT(condition) \
    ((condition) ? (void)0 : fuzz_fail(__FILE__, __LINE__, #condition, NULL))
#define FUZZ_EXPECT_MSG(condition, message) \
    ((condition) ? (void)0 : fuzz_fail(__FILE__, __LINE__, #condition, message))
_Noreturn void fuzz_fail(const char *file, int line, const char *what, const char *message);

/* One printable line and a code. Inputs are small: that memory ran out is a failure too. */
void fuzz_check_error(const struct llama3_error *err);

/* ---- inputs ------------------------------------------------------------------------------ */

/* A path that exists everywhere; what it opens is the input below. */
#define FUZZ_PATH "/dev/null"

/* The input that FUZZ_PATH stands for until the next call; data stays the caller's. */
void fuzz_file(const uint8_t *data, size_t size);

/* The file changes under its reader: at the n-th allocation from now on, one byte of every copy
 * that map_open() made becomes another. Which, where and when the input's last four bytes say. n 0:
 * it does not. */
void fuzz_file_changes(void);

/* A copy in memory of its own, NUL-terminated, for free(). */
char *fuzz_text(const uint8_t *data, size_t size);

/* Takes the bytes up to the next NUL, or the last, off the front of *data: for free(). Texts have
 * no NUL, so that it can separate the several texts of one input. */
char *fuzz_next_text(const uint8_t **data, size_t *size, size_t *length);

/* A folder that is deleted when the program ends as it should. */
const char *fuzz_folder(void);

/* ---- models ------------------------------------------------------------------------------ */

/* A model with nothing in it but a vocabulary: every byte, a few merges, and the control tokens of
 * all chat templates. For model_close(). */
void fuzz_small_model(struct model *model);

/* All that a model points to is inside its files, and all that it says is in range. */
void fuzz_check_model(const struct model *model);

/* Encodes a text, valid UTF-8 or not, and decodes the tokens again. */
void fuzz_check_tokenizer(const struct vocab *vocab, const char *text, size_t n);

#endif
