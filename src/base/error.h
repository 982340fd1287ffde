/* SPDX-License-Identifier: MIT */
/*
 * base: what all other folders use - errors, checked sizes, buffers, mapped files, JSON, UTF-8. It
 * knows nothing about models.
 *
 * error.h: filling struct llama3_error.
 */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#include "llama3.h"

/* Fills *err (which may be NULL) and returns -1, so that a failing function can end with
 * `return error_set(...)`. Control bytes and invalid UTF-8 that came in with a name or a text are
 * replaced by '?', so that a message is always one printable line. */
int error_set(struct llama3_error *err, enum llama3_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same with LLAMA3_EINPUT, the code of most errors. */
int error_input(struct llama3_error *err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Passes a failure on: code and message, whatever the size of *err. Returns -1. */
int error_copy(struct llama3_error *err, const struct llama3_error *from);

/* LLAMA3_EIO with a file's name and what errno says. */
int error_system(struct llama3_error *err, const char *name);

/* LLAMA3_ENOMEM with what was asked for. */
int error_memory(struct llama3_error *err, const char *what, size_t bytes);

#endif
