/* SPDX-License-Identifier: MIT */
/*
 * cuda: the backend that computes on a GPU. The host's part is C, in files as the CPU's; kernels
 * are C++ in .cu files, behind the C functions of kernels.h. The driver is looked for at run time,
 * so a program that has this room runs on a machine without one.
 *
 * cuda.h: all that backend.c sees of it.
 */
#ifndef BACKEND_CUDA_CUDA_H
#define BACKEND_CUDA_CUDA_H

#include "backend/backend.h"

extern const struct backend_ops cuda_ops;

#endif
