/* SPDX-License-Identifier: MIT */
/* kernels.cc: the kernels' source, compiled for the host. */
#include "backend/cuda/attend.cu"
#include "backend/cuda/dot.cu"
#include "backend/cuda/elements.cu"
#include "meter/cuda_loops.cu"
