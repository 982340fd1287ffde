/* SPDX-License-Identifier: MIT */
/*
 * sized.h: structs that callers of the library allocate. They begin with their size, so that a
 * program and a library of different versions agree on which fields there are (as openat2(2) does).
 */
#ifndef BASE_SIZED_H
#define BASE_SIZED_H

#include "base/error.h"

/* Copies a caller's struct of options, or NULL for all defaults, to the library's own of own_size
 * bytes. Fields that the caller's lacks become zero. Fields that the library's lacks must be zero:
 * LLAMA3_EINPUT. what: the name for errors. */
int sized_take(void *own, size_t own_size, const void *callers, const char *what,
               struct llama3_error *err);

/* The same of an array of n structs of one size, as a new array for free(); NULL on failure. item:
 * what errors call one of them. */
void *sized_take_all(size_t own_size, const void *callers, size_t n, const char *item,
                     const char *what, struct llama3_error *err);

/* Copies a result to a caller's struct, as far as that has room; its size stays. */
void sized_give(void *callers, const void *own, size_t own_size);

#endif
