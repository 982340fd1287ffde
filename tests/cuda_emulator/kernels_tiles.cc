/* kernels_tiles.cc: those of tensor cores, as kernels.cc. */
#include "backend/cuda/tiles.cu"
