/* SPDX-License-Identifier: MIT */
/* kernels_tiles.cc: those of many rows, as kernels.cc. */
#include "backend/cuda/tiles.cu"
