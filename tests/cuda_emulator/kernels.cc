/* SPDX-License-Identifier: MIT */
/* kernels.cc: the kernels' source, compiled for the host. */
#include "backend/cuda/adapt.cu"
#include "backend/cuda/attend_decode.cu"
#include "backend/cuda/attend_floats.cu"
#include "backend/cuda/attend_prefill.cu"
#include "backend/cuda/elements.cu"
#include "backend/cuda/gemv.cu"
#include "backend/cuda/rope.cu"
#include "meter/cuda_loops.cu"
