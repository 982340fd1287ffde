/* SPDX-License-Identifier: MIT */
/* test_cuda.h: what test_cuda.c asks of cublas_double.c. */
#ifndef TESTS_TEST_CUDA_H
#define TESTS_TEST_CUDA_H

#include <stdbool.h>

extern bool cublas_is_missing;
extern long cublas_products; /* so far */

#endif
