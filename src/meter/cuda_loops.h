/* SPDX-License-Identifier: MIT */
/* cuda_loops.h: the loops that cuda.c times. */
#ifndef METER_CUDA_LOOPS_H
#define METER_CUDA_LOOPS_H

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

enum mac_loop { LOOP_INT8, LOOP_BF16, LOOP_F32, MAC_LOOPS };

/* Multiply-adds on all processors: `rounds` of loop_macs() in each of `blocks` blocks. */
void loop_run(cudaStream_t stream, enum mac_loop loop, int blocks, int rounds, float *out);
double loop_macs(enum mac_loop loop); /* of a block's round */
/* A sum over n units of 16 bytes, by that many blocks. */
void loop_read(cudaStream_t stream, const void *units, size_t n, int blocks, float *out);

#ifdef __cplusplus
}
#endif

#endif
